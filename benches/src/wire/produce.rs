//! Produce 3-9 as a template. All requests of a run hold the same batch and differ in four numbers: the correlation
//! id, the partition, and for end-to-end runs the send time in the first record with the checksum that follows from
//! it. So a request is a head, copied and patched, and behind a large batch's first record a tail that is never copied.

use super::batch::{CRC, STAMP_LENGTH};
use super::{Api, Batch, ErrorCode, Malformed, Reader, Writer};

/// A Produce request of one batch to one partition, short of what differs between two of them.
pub(crate) struct ProduceTemplate {
    head: Vec<u8>,
    tail: Vec<u8>,
    pub(crate) version: i16,
    pub(crate) records: u32,
    partition_at: usize,
    batch_at: usize,
    /// Where in the head the batch ends, or is cut.
    covered_to: usize,
    /// Where the send time goes, if the batch has room for one.
    stamp_at: Option<usize>,
    /// The checksum of the batch's part in the tail, and its length: with that of the head they give the whole.
    tail_crc: u32,
    tail_covered: usize,
}

const CORRELATION_AT: usize = 8;
/// Batches up to this many bytes are all head: copying them costs less than a second slice does in the system call.
const COPIED_BYTES_MAX: usize = 4096;

impl ProduceTemplate {
    /// `acks` is 0, 1 or -1 (the whole in-sync set); `timeout_ms` is what the broker may wait for that set.
    pub(crate) fn new(version: i16, topic: &str, acks: i16, timeout_ms: i32, batch: &Batch) -> ProduceTemplate {
        let mut out = Writer::request(Api::Produce, version, 0);
        out.null_string(); // not transactional
        out.i16(acks);
        out.i32(timeout_ms);
        out.length(1);
        out.string(topic);
        out.length(1);
        let partition_at = out.len();
        out.i32(0);
        out.length(batch.bytes.len());

        let batch_at = out.len();
        let is_copied = batch.bytes.len() <= COPIED_BYTES_MAX;
        let stamp_length = if batch.is_stampable() { STAMP_LENGTH } else { 0 };
        let split = if is_copied { batch.bytes.len() } else { batch.first_value_at + stamp_length };
        let (front, back) = batch.bytes.split_at(split);
        out.raw(front);
        let covered_to = out.len();
        let stamp_at = batch.is_stampable().then(|| batch_at + batch.first_value_at);

        // No tagged fields of the partition, the topic, the request.
        let ending: &[u8] = if Api::Produce.is_flexible(version) { &[0; 3] } else { &[] };
        let mut tail = back.to_vec();
        if is_copied {
            out.raw(ending)
        } else {
            tail.extend_from_slice(ending)
        }
        ProduceTemplate {
            head: out.finish(tail.len()),
            version,
            records: batch.records,
            partition_at,
            batch_at,
            covered_to,
            stamp_at,
            tail_crc: crc32c::crc32c(back),
            tail_covered: back.len(),
            tail,
        }
    }

    pub(crate) fn head_length(&self) -> usize {
        self.head.len()
    }

    /// What follows every head on the wire; nothing, where the batch is small.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Appends the head of a request. `stamp` is the send time to put into the first record; without it the batch
    /// goes out as it was built.
    pub(crate) fn push_head(&self, heads: &mut Vec<u8>, correlation: i32, partition: i32, stamp: Option<u64>) {
        let start = heads.len();
        heads.extend_from_slice(&self.head);
        let head = &mut heads[start..];
        head[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
        head[self.partition_at..self.partition_at + 4].copy_from_slice(&partition.to_be_bytes());
        if let (Some(at), Some(stamp)) = (self.stamp_at, stamp) {
            head[at..at + STAMP_LENGTH].copy_from_slice(&stamp.to_be_bytes());
            let (crc_at, covered_from) = (self.batch_at + CRC.0, self.batch_at + CRC.1);
            let crc = crc32c::crc32c_combine(
                crc32c::crc32c(&head[covered_from..self.covered_to]),
                self.tail_crc,
                self.tail_covered,
            );
            head[crc_at..crc_at + 4].copy_from_slice(&crc.to_be_bytes());
        }
    }
}

/// What a broker answers to one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) correlation: i32,
    pub(crate) partition: i32,
    pub(crate) code: ErrorCode,
    /// The offset of the batch's first record.
    pub(crate) base_offset: i64,
}

impl Acknowledged {
    /// Reads the answer to a request made from a template of `version`. What lies behind the base offset is of no
    /// interest here and left unread.
    pub(crate) fn read(version: i16, frame: &[u8]) -> Result<Acknowledged, Malformed> {
        let (correlation, mut body) = Reader::response(Api::Produce, version, frame)?;
        if body.elements()? == 0 {
            return Err(Malformed::EndsEarly);
        }
        body.skip_string()?;
        if body.elements()? == 0 {
            return Err(Malformed::EndsEarly);
        }
        let partition = body.i32()?;
        let code = ErrorCode(body.i16()?);
        Ok(Acknowledged { correlation, partition, code, base_offset: body.i64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batches;
    use crate::wire::tests::{parse_request, response_frame};
    use kafka_protocol::messages as oracle;
    use kafka_protocol::protocol::StrBytes;

    fn request(version: i16, batch: &Batch, partition: i32, stamp: Option<u64>) -> oracle::ProduceRequest {
        let template = ProduceTemplate::new(version, "load", -1, 30_000, batch);
        let mut frame = Vec::new();
        template.push_head(&mut frame, 41, partition, stamp);
        assert_eq!(frame.len(), template.head_length());
        frame.extend_from_slice(template.tail());
        parse_request(Api::Produce, version, 41, &frame)
    }

    #[test]
    fn requests_are_understood_in_every_version() {
        for version in Api::Produce.spoken() {
            for (records, length) in [(1, 256), (64, 100), (1, 0), (2, 7), (1, 8)] {
                let batch = Batch::new(records, length, 5);
                let read = request(version, &batch, 513, None);
                assert_eq!((read.acks, read.timeout_ms), (-1, 30_000));
                let topic = &read.topic_data[0];
                assert_eq!(topic.name.as_str(), "load");
                assert_eq!(topic.partition_data[0].index, 513);
                assert_eq!(topic.partition_data[0].records.as_deref(), Some(&batch.bytes[..]));
            }
        }
    }

    #[test]
    fn a_stamp_keeps_the_checksum_right() {
        for (records, length) in [(1, 8), (1, 256), (1000, 1024)] {
            let batch = Batch::new(records, length, 5);
            let read = request(9, &batch, 0, Some(0x0123_4567_89ab_cdef));
            let bytes = read.topic_data[0].partition_data[0].records.clone().expect("a batch");
            let view = batches(&bytes).next().expect("one batch").expect("readable");
            assert!(view.is_intact());
            assert_eq!(view.stamp(), Ok(0x0123_4567_89ab_cdef));
        }
    }

    #[test]
    fn answers_are_read_in_every_version() {
        for version in Api::Produce.spoken() {
            let answer = oracle::ProduceResponse::default().with_responses(vec![
                oracle::produce_response::TopicProduceResponse::default()
                    .with_name(oracle::TopicName(StrBytes::from_static_str("load")))
                    .with_partition_responses(vec![
                        oracle::produce_response::PartitionProduceResponse::default()
                            .with_index(7)
                            .with_error_code(19)
                            .with_base_offset(1 << 40),
                    ]),
            ]);
            let frame = response_frame(version, 12, &answer);
            let read = Acknowledged { correlation: 12, partition: 7, code: ErrorCode(19), base_offset: 1 << 40 };
            assert_eq!(Acknowledged::read(version, &frame), Ok(read));
            // The shortest form reaches its base offset after 26 bytes.
            for cut in 0..26 {
                assert_eq!(Acknowledged::read(version, &frame[..cut]), Err(Malformed::EndsEarly));
            }
        }
    }
}
