//! The checkpoint's container: two files of which one always holds a complete checkpoint.
//!
//! A checkpoint is a header, a run of entries whose meaning belongs to the layers above, and an end marker. It is
//! complete only if the end marker is there and agrees with all before it, so the order in which its blocks reach the
//! disk does not matter. Checkpoint number n goes into file n mod 2, over the one before the last; its bytes may be
//! mixed with that one's if the power fails, which is why every entry carries its checkpoint's number. What lies behind
//! the end marker counts for nothing: a file stays as long as the longest checkpoint made it, so that the next one needs
//! neither space nor a change of the file's length.
//!
//! Every integer is little-endian; entries start on multiples of 8 bytes, zeros fill the gaps and the last block.
//!
//! ```text
//! header, 96 bytes                     entry, 48 bytes and payload          end marker, 48 bytes
//!  0  magic "chronikC"                  0  kind u8, 1 to 255                 0  0 u8
//!  8  version u16                       1  zero                              1  zero
//! 10  zero                              4  payload length u32                8  CRC-32 of all bytes before
//! 16  journal uuid                      8  payload CRC-32                   12  zero
//! 32  sequence u64                     12  partition index i32              16  number of entries u64
//! 40  position of the replay           16  topic uuid                       24  bytes before u64
//! 88  zero                             32  sequence u64                     32  sequence u64
//! 92  CRC-32 of the bytes before       40  zero                             40  zero
//!                                      44  CRC-32 of the bytes before       44  CRC-32 of the bytes before
//! ```

mod encoder;
mod reader;

use std::fmt;

pub use encoder::{CHUNK_BYTES, Encoder};
pub use reader::{Entries, Entry, survey};

use super::format::{u16_at, u32_at, u64_at, uuid_at};
use super::position::Position;
use super::slots::{Place, ReadError};
use crate::ids::{TopicPartition, Uuid};

/// The longest payload of one entry, in bytes. Whoever has more to say splits it.
pub const ENTRY_BYTES_MAX: u64 = 16 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"chronikC";
const VERSION: u16 = 1;
const HEADER: usize = 96;
const ENTRY_HEADER: usize = 48;
const END: u8 = 0;

/// What a checkpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of which journal.
    pub journal: Uuid,
    /// Its number; the first is 1.
    pub sequence: u64,
    /// Where the replay of the journal starts that completes it.
    pub replay: Position,
}

impl Header {
    /// Which of the two files it goes to.
    pub fn slot(&self) -> u32 {
        (self.sequence % 2) as u32
    }

    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.journal.0);
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..40 + Position::BYTES].copy_from_slice(&self.replay.encode());
        let crc = crc32fast::hash(&out[..92]);
        out[92..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEADER]) -> Result<Header, Flaw> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(Flaw::NeverWritten);
        }
        if bytes[0..8] != MAGIC || crc32fast::hash(&bytes[..92]) != u32_at(bytes, 92) {
            return Err(Flaw::HeaderDamaged);
        }
        let version = u16_at(bytes, 8);
        if version != VERSION {
            return Err(Flaw::Newer(version));
        }
        let position = bytes[40..].first_chunk().expect("a position fits into the header");
        Ok(Header { journal: uuid_at(bytes, 16), sequence: u64_at(bytes, 32), replay: Position::decode(position) })
    }
}

/// An entry's header, or with kind [`END`] the end marker, whose fields have other meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EntryHeader {
    kind: u8,
    payload_bytes: u32,
    crc: u32,
    partition: TopicPartition,
    sequence: u64,
}

impl EntryHeader {
    fn encode(&self) -> [u8; ENTRY_HEADER] {
        let mut out = [0; ENTRY_HEADER];
        out[0] = self.kind;
        out[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.crc.to_le_bytes());
        out[12..16].copy_from_slice(&self.partition.partition.to_le_bytes());
        out[16..32].copy_from_slice(&self.partition.topic.0);
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32fast::hash(&out[..44]);
        out[44..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; ENTRY_HEADER]) -> Option<EntryHeader> {
        if crc32fast::hash(&bytes[..44]) != u32_at(bytes, 44) {
            return None;
        }
        Some(EntryHeader {
            kind: bytes[0],
            payload_bytes: u32_at(bytes, 4),
            crc: u32_at(bytes, 8),
            partition: TopicPartition { topic: uuid_at(bytes, 16), partition: u32_at(bytes, 12) as i32 },
            sequence: u64_at(bytes, 32),
        })
    }

    /// The end marker of checkpoint `sequence` after `entries` entries and `bytes` bytes with checksum `crc`.
    fn end(sequence: u64, entries: u64, bytes: u64, crc: u32) -> EntryHeader {
        let mut counts = [0; 16];
        counts[..8].copy_from_slice(&entries.to_le_bytes());
        counts[8..].copy_from_slice(&bytes.to_le_bytes());
        let partition = TopicPartition { topic: Uuid(counts), partition: 0 };
        EntryHeader { kind: END, payload_bytes: 0, crc, partition, sequence }
    }
}

/// A complete checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it says of itself.
    pub header: Header,
    /// How many entries it has.
    pub entries: u64,
    /// Its length up to the end marker, in bytes.
    pub bytes: u64,
}

impl Checkpoint {
    /// What it takes of its file, the end marker included, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.bytes + ENTRY_HEADER as u64
    }
}

/// What the two files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The newest complete checkpoint; None in a young journal, which is then replayed from its start.
    pub newest: Option<Checkpoint>,
    /// The header of the other one if it is older. The journal that it needs is to be kept.
    pub older: Option<Header>,
    /// What is wrong with a file that was passed over: most often a checkpoint that a crash interrupted.
    pub passed_over: Option<(u32, Flaw)>,
}

/// Why a file holds no complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is empty or zero.
    NeverWritten,
    /// The header's checksum or its magic is wrong.
    HeaderDamaged,
    /// A newer format.
    Newer(u16),
    /// It belongs to another journal.
    Foreign(Uuid),
    /// It lies in the file of the other.
    Misplaced,
    /// The entry's header or payload at this byte is damaged, or is another checkpoint's, or the file ends before it does.
    EntryDamaged(u64),
    /// The end marker at this byte does not agree with what is before it.
    Incomplete(u64),
    /// The device could not read at this byte.
    Unreadable(u64, ReadError),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NeverWritten => f.write_str("never written"),
            Flaw::HeaderDamaged => f.write_str("the header is damaged"),
            Flaw::Newer(version) => write!(f, "format version {version} is newer than this program's {VERSION}"),
            Flaw::Foreign(journal) => write!(f, "it belongs to another journal, {journal}"),
            Flaw::Misplaced => f.write_str("it is in the other one's file"),
            Flaw::EntryDamaged(at) => write!(f, "the entry at byte {at} is damaged or was never finished"),
            Flaw::Incomplete(at) => write!(f, "the end marker at byte {at} does not match"),
            Flaw::Unreadable(at, error) => write!(f, "byte {at} cannot be read: {error}"),
        }
    }
}

/// Why no checkpoint can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// Neither file holds a complete checkpoint, though both were written.
    BothDamaged {
        /// What is wrong with file 0.
        first: Flaw,
        /// What is wrong with file 1.
        second: Flaw,
    },
    /// A file is another version's or another journal's: whatever the other one holds, this is not ours to overwrite.
    NotOurs {
        /// Which file.
        slot: u32,
        /// What it is.
        flaw: Flaw,
    },
    /// A checkpoint that had been complete is not so any more.
    Changed {
        /// Where.
        place: Place,
        /// What is wrong.
        flaw: Flaw,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::BothDamaged { first, second } => {
                write!(f, "both checkpoints are damaged: journal/0.checkpoint: {first}; journal/1.checkpoint: {second}")
            }
            CheckpointError::NotOurs { slot, flaw } => write!(f, "journal/{slot}.checkpoint: {flaw}"),
            CheckpointError::Changed { place, flaw } => write!(f, "{}: {flaw}", place.in_checkpoint()),
        }
    }
}

impl std::error::Error for CheckpointError {}
