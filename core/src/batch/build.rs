//! New batches, for whatever is written by the broker itself, for clients in simulation and for tests.

use super::compress::{Codec, compress};
use super::head::{Attributes, BatchHead, NO_SEQUENCE, NO_TIMESTAMP};
use super::records::Record;
use super::varint;
use super::verify::VerifiedBatch;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::time::Timestamp;
use bytes::Bytes;

/// A record has attributes, of which none is in use.
const NO_ATTRIBUTES: u8 = 0;

/// A header to be written: its key, and its value or null.
pub type NewHeader<'a> = (&'a [u8], Option<&'a [u8]>);

/// Gathers records and writes them as one batch. Without further ado: uncompressed, no producer, base offset 0, leader
/// epoch -1, as a client's batch is that is not idempotent.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    head: BatchHead,
    records: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        let head = BatchHead {
            base_offset: Offset(0),
            length: 0,
            leader_epoch: LeaderEpoch(-1),
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: ProducerId(-1),
            producer_epoch: ProducerEpoch(-1),
            base_sequence: NO_SEQUENCE,
            count: 0,
        };
        BatchBuilder { codec: Codec::None, head, records: Vec::new() }
    }
}

impl BatchBuilder {
    /// A batch without records so far.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// Compresses the records.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> BatchBuilder {
        self.codec = codec;
        self
    }

    /// Gives the batch its place in a log.
    #[must_use]
    pub fn place(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> BatchBuilder {
        self.head = self.head.assigned(base_offset, leader_epoch);
        self
    }

    /// Writes as an idempotent producer whose next record has the sequence `base_sequence`.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> BatchBuilder {
        self.head = BatchHead { producer_id: id, producer_epoch: epoch, base_sequence, ..self.head };
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> BatchBuilder {
        self.head.attributes = self.head.attributes.with_transactional();
        self
    }

    /// Makes the batch one of the broker's own markers.
    #[must_use]
    pub fn control(mut self) -> BatchBuilder {
        self.head.attributes = self.head.attributes.with_control();
        self
    }

    /// Appends a record without headers.
    #[must_use]
    pub fn record(self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) -> BatchBuilder {
        self.record_with_headers(timestamp, key, value, &[])
    }

    /// Appends a record. Timestamps of one batch lie less than `i64::MAX` apart.
    #[must_use]
    pub fn record_with_headers(
        mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[NewHeader<'_>],
    ) -> BatchBuilder {
        let head = &mut self.head;
        if head.count == 0 {
            head.base_timestamp = timestamp;
        }
        head.max_timestamp = head.max_timestamp.max(timestamp);
        head.last_offset_delta = head.count;
        head.count += 1;

        let mut fields = vec![NO_ATTRIBUTES];
        varint::put_i64(&mut fields, timestamp.0 - head.base_timestamp.0);
        varint::put_i32(&mut fields, head.last_offset_delta);
        put_bytes(&mut fields, key);
        put_bytes(&mut fields, value);
        varint::put_i32(&mut fields, length(headers.len()));
        for (key, value) in headers {
            put_bytes(&mut fields, Some(key));
            put_bytes(&mut fields, *value);
        }
        varint::put_i32(&mut self.records, length(fields.len()));
        self.records.extend_from_slice(&fields);
        self
    }

    /// The batch as a partition takes it, for what the broker itself writes: nobody needs to check what was just made.
    /// It is not compressed.
    ///
    /// # Panics
    /// Where it has no records.
    pub fn verified(self) -> VerifiedBatch {
        assert!(self.head.count > 0, "a batch holds a record");
        let body = Bytes::from(self.records);
        let head = BatchHead { attributes: self.head.attributes.with_codec(Codec::None), ..self.head }.sealing(&body);
        VerifiedBatch::of_one_time(head, body)
    }

    /// How many bytes its records come to.
    pub fn records_bytes(&self) -> usize {
        self.records.len()
    }

    /// The batch.
    pub fn build(self) -> Bytes {
        let body = match self.codec {
            Codec::None => self.records,
            codec => compress(codec, &self.records),
        };
        let attributes = self.head.attributes.with_codec(self.codec);
        let head = BatchHead { attributes, ..self.head }.sealing(&body);
        [&head.to_bytes()[..], &body].concat().into()
    }
}

/// Appends a record's fields, all but their length, as they stand in a batch whose head is `head` but for its base
/// timestamp.
pub(super) fn put_record(out: &mut Vec<u8>, head: &BatchHead, base_timestamp: Timestamp, record: &Record<'_>) {
    out.push(NO_ATTRIBUTES);
    // Whoever reads a batch of append time passes the difference over, however it came out.
    varint::put_i64(out, record.timestamp.0.wrapping_sub(base_timestamp.0));
    let offset_delta = record.offset.0 - head.base_offset.0;
    varint::put_i32(out, i32::try_from(offset_delta).expect("an offset lies within its batch"));
    put_bytes(out, record.key);
    put_bytes(out, record.value);
    let (count, headers) = record.headers.as_written();
    varint::put_i32(out, count);
    out.extend_from_slice(headers);
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put_i32(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
        None => varint::put_i32(out, -1),
    }
}

pub(super) fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a record is smaller than 2 GiB")
}
