//! The head of a record batch, and the checksum over everything behind it (KIP-98).
//!
//! ```text
//!  0  base offset           i64 ┐
//!  8  length                i32 │ outside the checksum: rewritten where offsets are assigned
//! 12  partition leader epoch i32│
//! 16  magic                 i8  │
//! 17  crc                   u32 ┘ CRC-32C of bytes 21 to the end
//! 21  attributes            i16   bits 0-2 codec, 3 append time, 4 transactional, 5 control, 6 delete horizon
//! 23  last offset delta     i32
//! 27  base timestamp        i64
//! 35  max timestamp         i64
//! 43  producer id           i64
//! 51  producer epoch        i16
//! 53  base sequence         i32
//! 57  count                 i32
//! 61  records
//! ```
//! All numbers are big-endian. The length counts the bytes behind itself.

use super::compress::Codec;
use super::error::BatchError;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::time::Timestamp;

/// Bytes in front of the records.
pub const HEAD_BYTES: usize = 61;
/// Bytes at the very front that lie outside the checksum and change when a batch is given its place in a log.
pub const PATCH_BYTES: usize = 16;
/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: Timestamp = Timestamp(-1);
/// The base sequence of a batch that has none.
pub const NO_SEQUENCE: i32 = -1;

/// The only format there is.
const MAGIC: i8 = 2;
/// Bytes up to and with the length field, which it does not count.
const LENGTH_END: usize = 12;
const MAGIC_AT: usize = 16;
/// Where the part under the checksum starts.
const CRC_FROM: usize = 21;

/// What a batch says of itself, without its records. Parsed from bytes that nobody has vouched for: only
/// [`check`] and [`super::verify`] say that it is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// The offset of the first record; 0 until the leader assigns one.
    pub base_offset: Offset,
    /// Bytes behind the length field, at least those of the rest of the head.
    pub length: i32,
    /// The leader epoch in which it was appended; -1 until the leader assigns one.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// The last record's offset above the first's. Compaction keeps it, so `count` may be smaller.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas add to; the delete horizon where that is set.
    pub base_timestamp: Timestamp,
    /// The largest of the records' timestamps, or every record's where append time is used.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, -1 for none.
    pub producer_id: ProducerId,
    /// Its epoch, -1 for none.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence, [`NO_SEQUENCE`] for none.
    pub base_sequence: i32,
    /// Records inside; 0 in a batch that compaction emptied but kept for its producer's sequence.
    pub count: i32,
}

impl BatchHead {
    /// Reads the head at the front of `bytes`. A batch shorter than its own head and a magic other than 2 are refused;
    /// whether the batch is all there is not looked at.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<BatchHead, BatchError> {
        // In the older formats the magic stands in the same place, and a message can be shorter than our head.
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::MagicNotTwo { magic: magic as i8 });
        }
        let Some((bytes, _)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(BatchError::BytesEndInsideHead { bytes: bytes.len() });
        };
        let length = i32::from_be_bytes(field(bytes, 8));
        if length < (HEAD_BYTES - LENGTH_END) as i32 {
            return Err(BatchError::LengthBelowHead { length });
        }
        Ok(BatchHead {
            base_offset: Offset(i64::from_be_bytes(field(bytes, 0))),
            length,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, 12))),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, 21))),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: Timestamp(i64::from_be_bytes(field(bytes, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(bytes, 35))),
            producer_id: ProducerId(i64::from_be_bytes(field(bytes, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(bytes, 51))),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            count: i32::from_be_bytes(field(bytes, 57)),
        })
    }

    /// The head as it is stored and sent.
    pub fn to_bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..PATCH_BYTES].copy_from_slice(&patched_prefix(self.base_offset, self.length, self.leader_epoch));
        bytes[MAGIC_AT] = MAGIC as u8;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    /// The same batch in its place in a log.
    #[must_use]
    pub fn assigned(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> BatchHead {
        BatchHead { base_offset, leader_epoch, ..self }
    }

    /// The size of the whole batch in bytes, head included.
    pub fn batch_bytes(&self) -> usize {
        // A head that was parsed or built has a length of at least 49.
        LENGTH_END + self.length as usize
    }

    /// The largest timestamp of the records inside, in milliseconds; -1 where there is none. An emptied batch still names
    /// that of the records which it had.
    pub fn max_timestamp_inside(&self) -> i64 {
        if self.count > 0 { self.max_timestamp.0 } else { NO_TIMESTAMP.0 }
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The offset behind the last record: where the next batch starts.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Whether an idempotent producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// The last record's sequence, [`NO_SEQUENCE`] where there is none. Sequences go round from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => ((i64::from(base) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32,
        }
    }

    /// This head in front of `body`, with length and checksum set.
    pub(super) fn sealing(self, body: &[u8]) -> BatchHead {
        let length = i32::try_from(HEAD_BYTES - LENGTH_END + body.len()).expect("a batch is smaller than 2 GiB");
        let head = BatchHead { length, ..self };
        BatchHead { crc: crc32c::crc32c_append(crc32c::crc32c(&head.summed_bytes()), body), ..head }
    }

    /// The part of the head that lies under the checksum.
    pub(super) fn summed_bytes(&self) -> [u8; HEAD_BYTES - CRC_FROM] {
        self.to_bytes()[CRC_FROM..].try_into().expect("the rest of the head has that length")
    }
}

/// The first [`PATCH_BYTES`] of a batch, the only ones that change when a leader gives it its place.
pub fn patched_prefix(base_offset: Offset, length: i32, leader_epoch: LeaderEpoch) -> [u8; PATCH_BYTES] {
    let mut prefix = [0; PATCH_BYTES];
    prefix[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    prefix[8..12].copy_from_slice(&length.to_be_bytes());
    prefix[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
    prefix
}

/// Checks that `bytes` are exactly one batch whose checksum fits, stored or produced, and says nothing of its records.
#[inline]
pub fn check(bytes: &[u8]) -> Result<BatchHead, BatchError> {
    let head = BatchHead::parse(bytes)?;
    let batch_bytes = head.batch_bytes();
    if bytes.len() < batch_bytes {
        return Err(BatchError::BytesEndInsideBatch { bytes: bytes.len(), batch_bytes });
    }
    if bytes.len() > batch_bytes {
        return Err(BatchError::BytesFollowBatch { bytes: bytes.len() - batch_bytes });
    }
    let computed = crc32c::crc32c(&bytes[CRC_FROM..]);
    if computed != head.crc {
        return Err(BatchError::CrcDiffers { stored: head.crc, computed });
    }
    Ok(head)
}

/// A batch's codec and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// How the records are compressed.
    pub fn codec(self) -> Result<Codec, BatchError> {
        Codec::from_code(self.0 & Self::CODEC)
    }

    /// Whether every record's timestamp is the batch's largest, which the broker set when it appended.
    pub fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a marker of the broker's instead of records.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which compaction may drop the batch's tombstones (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    pub(super) fn with_codec(self, codec: Codec) -> Attributes {
        Attributes(self.0 & !Self::CODEC | codec.code())
    }

    pub(super) fn with_log_append_time(self) -> Attributes {
        Attributes(self.0 | Self::LOG_APPEND_TIME)
    }

    pub(super) fn with_transactional(self) -> Attributes {
        Attributes(self.0 | Self::TRANSACTIONAL)
    }

    pub(super) fn with_delete_horizon(self) -> Attributes {
        Attributes(self.0 | Self::DELETE_HORIZON)
    }

    pub(super) fn without_delete_horizon(self) -> Attributes {
        Attributes(self.0 & !Self::DELETE_HORIZON)
    }

    pub(super) fn with_control(self) -> Attributes {
        Attributes(self.0 | Self::CONTROL)
    }
}

fn field<const N: usize>(bytes: &[u8; HEAD_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has the array's length")
}
