//! The journal's bytes: commit headers, record headers, and how each is recognised.
//!
//! Every integer is little-endian. A commit starts on a block of [`BLOCK_BYTES`]:
//!
//! ```text
//! commit header, 96 bytes                      record header, 56 bytes
//!  0  magic "chronikJ"                          0  kind u8
//!  8  version u16                               1  flags u8, zero
//! 10  flags u16: 1 = opens an incarnation       2  zero u16
//! 12  block u32: its place in the file          4  payload length u32
//! 16  journal uuid                              8  payload CRC-32
//! 32  incarnation u64                          12  partition index i32
//! 40  commit number u64                        16  topic uuid, zero for the node's own records
//! 48  file sequence u64                        32  LSN u64
//! 56  first LSN u64                            40  LSN of the partition's record before, u64::MAX for none
//! 64  durable LSN u64                          48  zero u32
//! 72  durable commit number u64                52  CRC-32 of the 52 bytes before
//! 80  length of the records u32
//! 84  number of records u32
//! 88  CRC-32 of the header before
//! 92  CRC-32 of the 92 bytes before
//! ```
//!
//! The records follow the commit header at once, each with its payload padded by zeros to 8 bytes; zeros fill the last
//! block. Both paddings are checked, so that no bit of a commit can change unseen.

use super::malformed::Malformed;
use crate::ids::{Lsn, TopicPartition, Uuid};

/// What the journal writes in one piece, in bytes: every commit starts on a multiple of it and fills whole ones.
pub const BLOCK_BYTES: u64 = 4096;
/// The length of a record's header, in bytes.
pub const RECORD_HEADER_BYTES: u64 = 56;
pub(super) const COMMIT_HEADER_BYTES: u64 = 96;

const MAGIC: [u8; 8] = *b"chronikJ";
pub(super) const VERSION: u16 = 1;
const OPENS_INCARNATION: u16 = 1;
const NO_LSN: u64 = u64::MAX;

pub(super) const COMMIT_HEADER: usize = COMMIT_HEADER_BYTES as usize;
pub(super) const RECORD_HEADER: usize = RECORD_HEADER_BYTES as usize;

/// What a record says. The payload's meaning belongs to the layer that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordKind {
    /// A partition's batch, whole.
    Append = 1,
    /// The descriptor of a batch whose body lies in a segment file.
    AppendDirect = 2,
    /// A leader epoch begins in a partition.
    EpochStart = 3,
    /// A partition's log start offset moves.
    LogStart = 4,
    /// A partition's newest segment is closed, and another begins.
    Roll = 5,
    /// The end of a partition's log is cut.
    Truncate = 6,
    /// An entry of the metadata log as a standalone broker wrote it before that log was replicated; read, and never written.
    Metadata = 7,
    /// Small state of a partition that is not in its log, such as its high watermark.
    PartitionState = 8,
    /// State of the node itself: the metadata image.
    NodeState = 9,
    /// A segment takes the place of some that were compacted into it.
    Replace = 10,
    /// A partition is compacted up to an offset.
    Cleaned = 11,
    /// Segments of a partition are wholly on disk.
    Sealed = 12,
    /// What the node's part in the metadata quorum must not forget: entries, votes, where its log begins.
    Quorum = 13,
    /// Up to which entry the metadata log has been applied: what follows in the journal may rest on that.
    Applied = 14,
    /// A piece of a metadata image that another node sent.
    Image = 15,
    /// A partition's log is emptied, and begins at another offset.
    StartAnew = 16,
}

impl RecordKind {
    /// The kind numbered `number`.
    ///
    /// # Errors
    /// [`Malformed::UnknownKind`]: a newer version wrote it.
    pub fn from_number(number: u8) -> Result<RecordKind, Malformed> {
        Ok(match number {
            1 => RecordKind::Append,
            2 => RecordKind::AppendDirect,
            3 => RecordKind::EpochStart,
            4 => RecordKind::LogStart,
            5 => RecordKind::Roll,
            6 => RecordKind::Truncate,
            7 => RecordKind::Metadata,
            8 => RecordKind::PartitionState,
            9 => RecordKind::NodeState,
            10 => RecordKind::Replace,
            11 => RecordKind::Cleaned,
            12 => RecordKind::Sealed,
            13 => RecordKind::Quorum,
            14 => RecordKind::Applied,
            15 => RecordKind::Image,
            16 => RecordKind::StartAnew,
            number => return Err(Malformed::UnknownKind(number)),
        })
    }

    /// Whether damage to such a record concerns the whole node, so that no single partition can be refused for it.
    pub fn is_node_wide(self) -> bool {
        use RecordKind::{Applied, Image, Metadata, NodeState, Quorum};
        matches!(self, Metadata | NodeState | Quorum | Applied | Image)
    }

    /// Whether such a record must be synced before anyone hears of it even where appends need not be: what was cut,
    /// voted or decided may never be unsaid.
    pub fn is_always_synced(self) -> bool {
        use RecordKind::{Applied, Cleaned, PartitionState, Sealed};
        // What the log says is in the log: that it was applied is only for what follows.
        let may_be_unsaid = matches!(self, PartitionState | Cleaned | Sealed | Applied);
        !(may_be_unsaid || matches!(self, RecordKind::Append | RecordKind::AppendDirect))
    }
}

/// A commit's header: what one sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitHeader {
    /// Which journal.
    pub journal: Uuid,
    /// Which start of the node wrote it: a random number drawn at each start.
    pub incarnation: u64,
    /// Whether it is the first commit of its incarnation.
    pub opens_incarnation: bool,
    /// Its number, one more than that of the commit before.
    pub number: u64,
    /// Which use of a file it lies in; rises by one with every file that the journal moves on to.
    pub file_sequence: u64,
    /// Its place in the file, in blocks of [`BLOCK_BYTES`].
    pub block: u32,
    /// The LSN of its first record, or of the next one if it holds none.
    pub first: Lsn,
    /// The end of the last commit known to be durable when this one was issued.
    pub durable: Lsn,
    /// The number of that commit, 0 for none.
    pub durable_number: u64,
    /// The length of its records with their headers and padding, in bytes.
    pub length: u32,
    /// How many records it holds.
    pub records: u32,
    /// The checksum of the header of the commit before, 0 for none.
    pub previous_crc: u32,
}

impl CommitHeader {
    /// The LSN after its last record.
    pub fn end(&self) -> Lsn {
        Lsn(self.first.0.saturating_add(u64::from(self.length)))
    }

    /// How much of its file it takes, in bytes: whole blocks.
    pub fn size(&self) -> u64 {
        commit_size(u64::from(self.length))
    }

    /// The header's bytes, and the checksum by which the next commit names it.
    pub(super) fn encode(&self) -> ([u8; COMMIT_HEADER], u32) {
        let mut out = [0; COMMIT_HEADER];
        let flags = if self.opens_incarnation { OPENS_INCARNATION } else { 0 };
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&flags.to_le_bytes());
        out[12..16].copy_from_slice(&self.block.to_le_bytes());
        out[16..32].copy_from_slice(&self.journal.0);
        out[32..40].copy_from_slice(&self.incarnation.to_le_bytes());
        out[40..48].copy_from_slice(&self.number.to_le_bytes());
        out[48..56].copy_from_slice(&self.file_sequence.to_le_bytes());
        out[56..64].copy_from_slice(&self.first.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.durable.0.to_le_bytes());
        out[72..80].copy_from_slice(&self.durable_number.to_le_bytes());
        out[80..84].copy_from_slice(&self.length.to_le_bytes());
        out[84..88].copy_from_slice(&self.records.to_le_bytes());
        out[88..92].copy_from_slice(&self.previous_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..92]);
        out[92..96].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// The commit header at the start of `block`, and its checksum. Magic, version, journal and the checksum's place
    /// stay where they are in every later format, so that a newer one is recognised.
    ///
    /// # Errors
    /// [`Malformed::NoCommit`], [`Malformed::CommitHeaderChecksum`], [`Malformed::CommitVersion`].
    pub(super) fn decode(block: &[u8]) -> Result<(CommitHeader, u32), Malformed> {
        let Some(bytes) = block.first_chunk::<COMMIT_HEADER>() else { return Err(Malformed::NoCommit) };
        if bytes[0..8] != MAGIC {
            return Err(Malformed::NoCommit);
        }
        let crc = u32_at(bytes, 92);
        if crc32fast::hash(&bytes[..92]) != crc {
            return Err(Malformed::CommitHeaderChecksum);
        }
        let version = u16_at(bytes, 8);
        if version != VERSION {
            return Err(Malformed::CommitVersion(version));
        }
        let header = CommitHeader {
            journal: uuid_at(bytes, 16),
            incarnation: u64_at(bytes, 32),
            opens_incarnation: u16_at(bytes, 10) & OPENS_INCARNATION != 0,
            number: u64_at(bytes, 40),
            file_sequence: u64_at(bytes, 48),
            block: u32_at(bytes, 12),
            first: Lsn(u64_at(bytes, 56)),
            durable: Lsn(u64_at(bytes, 64)),
            durable_number: u64_at(bytes, 72),
            length: u32_at(bytes, 80),
            records: u32_at(bytes, 84),
            previous_crc: u32_at(bytes, 88),
        };
        Ok((header, crc))
    }
}

/// Takes one checksum after another. It asks the processor once what it can, which `crc32fast::hash` does every time, and
/// which costs a third of summing a small record.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum(crc32fast::Hasher);

impl Sum {
    /// The CRC-32 of `bytes`.
    pub(super) fn of(&mut self, bytes: &[u8]) -> u32 {
        self.0.reset();
        self.0.update(bytes);
        self.0.clone().finalize()
    }
}

/// A record's header. Its kind is kept as the number on disk, so that a tool can show what it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The number of its [`RecordKind`].
    pub kind: u8,
    /// The payload's length without padding, in bytes.
    pub payload_bytes: u32,
    /// The payload's checksum.
    pub payload_crc: u32,
    /// Which partition it is about; a zero topic for the node's own.
    pub partition: TopicPartition,
    /// Where it stands in the stream of records.
    pub lsn: Lsn,
    /// The same partition's record before, as far as its writer said.
    pub previous: Option<Lsn>,
}

impl RecordHeader {
    /// How much of the stream it takes with its payload and padding, in bytes.
    pub fn size(&self) -> u64 {
        record_size(u64::from(self.payload_bytes))
    }

    pub(super) fn encode(&self, sum: &mut Sum) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        out[0] = self.kind;
        out[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[12..16].copy_from_slice(&self.partition.partition.to_le_bytes());
        out[16..32].copy_from_slice(&self.partition.topic.0);
        out[32..40].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.previous.map_or(NO_LSN, |lsn| lsn.0).to_le_bytes());
        let crc = sum.of(&out[..52]);
        out[52..56].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The record header at the start of `bytes`.
    ///
    /// # Errors
    /// [`Malformed::RecordLength`] if the bytes end first, [`Malformed::RecordHeaderChecksum`].
    pub(super) fn decode(bytes: &[u8]) -> Result<RecordHeader, Malformed> {
        let Some(bytes) = bytes.first_chunk::<RECORD_HEADER>() else { return Err(Malformed::RecordLength) };
        if crc32fast::hash(&bytes[..52]) != u32_at(bytes, 52) {
            return Err(Malformed::RecordHeaderChecksum);
        }
        let previous = u64_at(bytes, 40);
        Ok(RecordHeader {
            kind: bytes[0],
            payload_bytes: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 8),
            partition: TopicPartition { topic: uuid_at(bytes, 16), partition: u32_at(bytes, 12) as i32 },
            lsn: Lsn(u64_at(bytes, 32)),
            previous: (previous != NO_LSN).then_some(Lsn(previous)),
        })
    }
}

/// How much of the stream a record with a payload of `payload_bytes` takes, in bytes.
pub(super) fn record_size(payload_bytes: u64) -> u64 {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// How much of a file a commit with `length` bytes of records takes: whole blocks.
pub(super) fn commit_size(length: u64) -> u64 {
    (COMMIT_HEADER_BYTES + length).next_multiple_of(BLOCK_BYTES)
}

/// One record in a commit's bytes, its header sound, its payload not yet checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) header: RecordHeader,
    pub(super) payload: &'a [u8],
    padding: &'a [u8],
}

impl Found<'_> {
    /// Whether the payload is what was written.
    ///
    /// # Errors
    /// [`Malformed::PayloadChecksum`], [`Malformed::PayloadPadding`].
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if crc32fast::hash(self.payload) != self.header.payload_crc {
            return Err(Malformed::PayloadChecksum);
        }
        if self.padding.iter().any(|&byte| byte != 0) {
            return Err(Malformed::PayloadPadding);
        }
        Ok(())
    }
}

/// The records of one commit, in order. Stops for good at the first record header that cannot be believed, since
/// nothing then tells where the next one starts.
pub(super) struct Records<'a> {
    commit: &'a [u8],
    header: CommitHeader,
    at: usize,
    found: u32,
    ended: bool,
}

impl<'a> Records<'a> {
    /// The records of the commit `header`, whose whole blocks are `commit`.
    pub(super) fn new(header: &CommitHeader, commit: &'a [u8]) -> Records<'a> {
        Records { commit, header: *header, at: COMMIT_HEADER, found: 0, ended: false }
    }

    fn end(&self) -> usize {
        COMMIT_HEADER + self.header.length as usize
    }

    fn read(&mut self) -> Result<Option<Found<'a>>, Malformed> {
        if self.at == self.end() {
            return if self.found == self.header.records { Ok(None) } else { Err(Malformed::RecordCount) };
        }
        let rest = self.commit.get(self.at..self.end()).ok_or(Malformed::FileTooShort)?;
        let header = RecordHeader::decode(rest)?;
        if header.lsn.0 != self.header.first.0.saturating_add((self.at - COMMIT_HEADER) as u64) {
            return Err(Malformed::RecordLsn);
        }
        if header.size() > rest.len() as u64 {
            return Err(Malformed::RecordLength);
        }
        let (payload, padding) = rest[RECORD_HEADER..header.size() as usize].split_at(header.payload_bytes as usize);
        let found = Found { header, payload, padding };
        self.at += header.size() as usize;
        self.found = self.found.saturating_add(1);
        Ok(Some(found))
    }

    /// Whether the rest of the last block is zero, as it was written.
    pub(super) fn is_padding_zero(&self) -> bool {
        self.commit.get(self.end()..).is_some_and(|padding| padding.iter().all(|&byte| byte == 0))
    }

    /// Where the next record starts, counted from the commit's first byte.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Found<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

/// Whether `commit`, the whole blocks of a commit with the sound header `header`, is what was written, to the last bit.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn check_commit(header: &CommitHeader, commit: &[u8]) -> Result<(), Malformed> {
    let mut records = Records::new(header, commit);
    for item in &mut records {
        item?.check()?;
    }
    if records.is_padding_zero() { Ok(()) } else { Err(Malformed::CommitPadding) }
}

/// The journal that a block with a commit's magic names, whatever its version.
pub(super) fn journal_of(block: &[u8]) -> Option<Uuid> {
    block.first_chunk::<COMMIT_HEADER>().map(|bytes| uuid_at(bytes, 16))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("the range is two bytes long"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the range is four bytes long"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the range is eight bytes long"))
}

pub(super) fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid(bytes[at..at + 16].try_into().expect("the range is sixteen bytes long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit_header() -> CommitHeader {
        CommitHeader {
            journal: Uuid([7; 16]),
            incarnation: 0x1122_3344_5566_7788,
            opens_incarnation: true,
            number: 42,
            file_sequence: 9,
            block: 3,
            first: Lsn(4096),
            durable: Lsn(4000),
            durable_number: 41,
            length: 112,
            records: 2,
            previous_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_commit_header_comes_back_as_it_was_written() {
        let (bytes, crc) = commit_header().encode();
        assert_eq!(CommitHeader::decode(&bytes), Ok((commit_header(), crc)));
    }

    #[test]
    fn a_record_header_comes_back_as_it_was_written() {
        for previous in [None, Some(Lsn(0)), Some(Lsn(77))] {
            let header = RecordHeader {
                kind: 200,
                payload_bytes: 399,
                payload_crc: 5,
                partition: TopicPartition { topic: Uuid([1; 16]), partition: -1 },
                lsn: Lsn(1 << 40),
                previous,
            };
            assert_eq!(RecordHeader::decode(&header.encode(&mut Sum::default())), Ok(header));
        }
    }

    #[test]
    fn every_bit_of_a_header_is_under_its_checksum() {
        let (bytes, _) = commit_header().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(CommitHeader::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        let (mut bytes, _) = commit_header().encode();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..92]);
        bytes[92..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(CommitHeader::decode(&bytes), Err(Malformed::CommitVersion(2)));
    }

    #[test]
    fn kinds_keep_their_numbers() {
        for number in 1..=16 {
            assert_eq!(RecordKind::from_number(number).map(|kind| kind as u8), Ok(number));
        }
        for number in [0, 17, 255] {
            assert_eq!(RecordKind::from_number(number), Err(Malformed::UnknownKind(number)));
        }
    }
}
