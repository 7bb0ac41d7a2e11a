//! The one door for a producer's bytes.
//!
//! Everything that can be told from the bytes alone is checked here, on the connection; what needs the topic's
//! configuration (size, bounds on timestamps, keys of a compacted topic, whether transactions are served) or the
//! producer's history is exposed as a fact, for the partition to judge in constant time.

use super::compress::{AHEAD_BYTES_MAX, Codec, Decompressor, compress_at};
use super::crc;
use super::error::BatchError;
use super::head::{BatchHead, HEAD_BYTES, NO_SEQUENCE, NO_TIMESTAMP, check};
use super::records::Records;
use crate::ids::{LeaderEpoch, Offset};
use crate::time::Timestamp;
use bytes::{Buf, Bytes};

/// How much is taken from a client at once, whatever a topic allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest batch, head included, in bytes as sent.
    pub batch_bytes_max: usize,
    /// The most that the records of a compressed batch may come to, in bytes.
    pub decompressed_bytes_max: usize,
}

/// A batch of a client's that was checked down to its last byte, and has no offsets yet.
///
/// Only the head is ever rewritten, so it is held apart: a batch is sent and stored as [`VerifiedBatch::head_at`] and,
/// behind it, [`VerifiedBatch::body`], a slice of the frame that the client sent. What the head says is true of the
/// records.
#[derive(Clone, Debug)]
pub struct VerifiedBatch {
    head: BatchHead,
    body: Bytes,
    codec: Codec,
    min_timestamp: Option<Timestamp>,
    max_timestamp_offset_delta: i32,
    has_null_key: bool,
}

/// Takes `records`, which a client sent for one partition, as the one batch that they must be.
///
/// The head's max timestamp is set to the largest of the records' where it is not, as Kafka does. Checks are made in the
/// order in which Kafka makes them: what is damaged is told as damaged before what is in it is judged.
pub fn verify(records: Bytes, limits: &BatchLimits) -> Result<VerifiedBatch, BatchError> {
    verify_next(records, &mut { *limits })
}

/// Like [`verify`], for one of many batches whose records may come to `limits.decompressed_bytes_max` together: that is
/// what is left for the next one afterwards.
///
/// A batch that is refused counts for what came out of it, and for what its decoder may have been ahead by.
pub fn verify_next(records: Bytes, limits: &mut BatchLimits) -> Result<VerifiedBatch, BatchError> {
    if records.is_empty() {
        return Err(BatchError::NoBatch);
    }
    if records.len() > limits.batch_bytes_max {
        return Err(BatchError::BatchTooLarge { bytes: records.len(), limit: limits.batch_bytes_max });
    }
    let head = check(&records)?;
    let codec = head.attributes.codec()?;
    allowed_from_client(&head)?;
    let facts = walk(&head, &records[HEAD_BYTES..], &mut limits.decompressed_bytes_max)?;
    let mut body = records;
    body.advance(HEAD_BYTES);
    let batch = VerifiedBatch {
        head,
        body,
        codec,
        min_timestamp: facts.min_timestamp,
        max_timestamp_offset_delta: facts.max_timestamp_offset_delta,
        has_null_key: facts.has_null_key,
    };
    Ok(if head.max_timestamp == facts.max_timestamp { batch } else { batch.with_max_timestamp(facts.max_timestamp) })
}

fn allowed_from_client(head: &BatchHead) -> Result<(), BatchError> {
    let attributes = head.attributes;
    if head.base_offset != Offset(0) {
        return Err(BatchError::BaseOffsetNotZero { base_offset: head.base_offset.0 });
    }
    if head.count < 1 {
        return Err(BatchError::CountBelowOne { count: head.count });
    }
    if head.last_offset_delta != head.count - 1 {
        let BatchHead { count, last_offset_delta, .. } = *head;
        return Err(BatchError::CountDiffersFromOffsets { count, last_offset_delta });
    }
    if attributes.is_control() {
        return Err(BatchError::ControlBatchFromClient);
    }
    if attributes.has_delete_horizon() {
        return Err(BatchError::DeleteHorizonFromClient);
    }
    if attributes.is_log_append_time() {
        return Err(BatchError::LogAppendTimeFromClient);
    }
    // Without a producer id the other two are not looked at: there are clients that leave a sequence of 0 there.
    let fields_agree = match head.producer_id.0 {
        ..-1 => false,
        -1 => true,
        0.. => head.producer_epoch.0 >= 0 && head.base_sequence > NO_SEQUENCE,
    };
    if !fields_agree {
        return Err(BatchError::ProducerFieldsDisagree {
            producer_id: head.producer_id.0,
            producer_epoch: head.producer_epoch.0,
            base_sequence: head.base_sequence,
        });
    }
    if attributes.is_transactional() && !head.has_producer_id() {
        return Err(BatchError::TransactionWithoutProducer);
    }
    Ok(())
}

/// What the records of a batch come to.
struct Facts {
    min_timestamp: Option<Timestamp>,
    max_timestamp: Timestamp,
    max_timestamp_offset_delta: i32,
    has_null_key: bool,
}

/// Reads the records, and draws what they decompress to from `allowance`.
fn walk(head: &BatchHead, body: &[u8], allowance: &mut usize) -> Result<Facts, BatchError> {
    let mut records = Records::of(*head, body, *allowance)?;
    let facts = facts(&mut records);
    if let Some(left) = records.bytes_left() {
        *allowance = if facts.is_ok() { left } else { left.saturating_sub(AHEAD_BYTES_MAX) };
    }
    facts
}

fn facts(records: &mut Records<'_>) -> Result<Facts, BatchError> {
    let mut facts =
        Facts { min_timestamp: None, max_timestamp: NO_TIMESTAMP, max_timestamp_offset_delta: 0, has_null_key: false };
    let mut expected = 0;
    while let Some(record) = records.next_record()? {
        // The base offset is 0, so an offset is a delta, and lies within the last one.
        let offset_delta = record.offset.0 as i32;
        if offset_delta != expected {
            return Err(BatchError::RecordOffsetOutOfOrder { record: expected, offset_delta });
        }
        if record.timestamp != NO_TIMESTAMP {
            let least = facts.min_timestamp.map_or(record.timestamp, |least| least.min(record.timestamp));
            facts.min_timestamp = Some(least);
        }
        if record.timestamp > facts.max_timestamp {
            facts.max_timestamp = record.timestamp;
            facts.max_timestamp_offset_delta = offset_delta;
        }
        facts.has_null_key |= record.key.is_none();
        expected += 1;
    }
    Ok(facts)
}

impl VerifiedBatch {
    /// A batch of the broker's own, uncompressed, all of whose records have keys and the one timestamp of its head.
    pub(super) fn of_one_time(head: BatchHead, body: Bytes) -> VerifiedBatch {
        assert_eq!(head.base_timestamp, head.max_timestamp, "its records have one timestamp");
        VerifiedBatch {
            head,
            body,
            codec: Codec::None,
            min_timestamp: Some(head.max_timestamp),
            max_timestamp_offset_delta: 0,
            has_null_key: false,
        }
    }

    /// The head, with base offset 0 and the leader epoch that the client sent.
    pub fn head(&self) -> &BatchHead {
        &self.head
    }

    /// The head as it is stored and sent once the leader gave the batch its place.
    pub fn head_at(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> [u8; HEAD_BYTES] {
        self.head.assigned(base_offset, leader_epoch).to_bytes()
    }

    /// Everything behind the head: the records, as the client compressed them.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The whole batch in one piece, copied. For tests and tools: a broker sends head and body one behind the other.
    pub fn to_bytes(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Bytes {
        [&self.head_at(base_offset, leader_epoch)[..], &self.body].concat().into()
    }

    /// The size of the whole batch, head included.
    pub fn batch_bytes(&self) -> usize {
        self.head.batch_bytes()
    }

    /// Records inside, 1 or more. They take as many offsets.
    pub fn count(&self) -> i32 {
        self.head.count
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The least timestamp of those records that have one, `None` where none has: bounds on timestamps do not apply to
    /// a record without.
    pub fn min_timestamp(&self) -> Option<Timestamp> {
        self.min_timestamp
    }

    /// The largest of the records' timestamps, [`NO_TIMESTAMP`] where none has one.
    pub fn max_timestamp(&self) -> Timestamp {
        self.head.max_timestamp
    }

    /// How far above the base offset the first record stands that has the largest timestamp.
    pub fn max_timestamp_offset_delta(&self) -> i32 {
        self.max_timestamp_offset_delta
    }

    /// Whether some record has no key, which a compacted topic refuses.
    pub fn has_null_key(&self) -> bool {
        self.has_null_key
    }

    /// The batch in a topic that stamps records when they are appended: `now` is every record's timestamp.
    #[must_use]
    pub fn with_log_append_time(mut self, now: Timestamp) -> VerifiedBatch {
        let attributes = self.head.attributes.with_log_append_time();
        self.rewrite(BatchHead { attributes, max_timestamp: now, ..self.head });
        self.min_timestamp = Some(now);
        self.max_timestamp_offset_delta = 0;
        self
    }

    fn with_max_timestamp(mut self, max_timestamp: Timestamp) -> VerifiedBatch {
        self.rewrite(BatchHead { max_timestamp, ..self.head });
        self
    }

    /// Replaces the head, and its checksum with it, without reading a record again.
    fn rewrite(&mut self, head: BatchHead) {
        let front = crc32c::crc32c(&self.head.summed_bytes());
        let new_front = crc32c::crc32c(&head.summed_bytes());
        let crc = crc::with_new_front(self.head.crc, front, new_front, self.body.len());
        self.head = BatchHead { crc, ..head };
    }

    /// The same records under another codec, at its `level` (see `compress_at`), for a topic whose
    /// `compression.type` is not the producer's. A batch that has this codec already stays as it is, whatever its level.
    /// Reads every byte: not for the node's own task.
    ///
    /// # Errors
    /// Where the result, or what the records decompress to, is larger than `limits` allow.
    pub fn recompress(
        &self,
        codec: Codec,
        level: Option<i32>,
        limits: &BatchLimits,
    ) -> Result<VerifiedBatch, BatchError> {
        if codec == self.codec {
            return Ok(self.clone());
        }
        let records = Decompressor::new(self.codec, &self.body, limits.decompressed_bytes_max)?.read_all()?;
        let body = match codec {
            Codec::None => records,
            codec => compress_at(codec, level, &records),
        };
        // Without the room that the codec had reserved: the batch may stay in memory for long.
        let body = Bytes::from(body.into_boxed_slice());
        let batch_bytes = HEAD_BYTES + body.len();
        if batch_bytes > limits.batch_bytes_max {
            return Err(BatchError::BatchTooLarge { bytes: batch_bytes, limit: limits.batch_bytes_max });
        }
        let attributes = self.head.attributes.with_codec(codec);
        let head = BatchHead { attributes, ..self.head }.sealing(&body);
        Ok(VerifiedBatch { head, body, codec, ..self.clone() })
    }
}
