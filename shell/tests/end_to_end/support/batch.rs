//! Record batches, made and read by the second codec.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

/// Where a batch says its length: bytes 8 to 12, counted from their own end.
const LENGTH_END: usize = 12;

/// A batch in the making.
pub(crate) struct Batch {
    records: Vec<Record>,
}

impl Batch {
    /// One record for each value, with the timestamps 1000, 1001 ...
    pub(crate) fn of<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Self {
        let records = values.into_iter().enumerate().map(|(index, value)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            // The encoder starts a new batch where sequences do not follow one another; only the first is stored.
            sequence: NO_SEQUENCE + index as i32,
            timestamp: 1000 + index as i64,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_ref())),
            headers: Default::default(),
        });
        Self { records: records.collect() }
    }

    /// `count` records that name their number.
    pub(crate) fn numbered(count: usize) -> Self {
        Self::of((0..count).map(|number| format!("record {number}")))
    }

    /// The first record has this timestamp in ms, each further one a millisecond more.
    pub(crate) fn at(mut self, timestamp: i64) -> Self {
        for (record, timestamp) in self.records.iter_mut().zip(timestamp..) {
            record.timestamp = timestamp;
        }
        self
    }

    /// Written by an idempotent producer, `sequence` being that of the first record.
    pub(crate) fn by(mut self, producer_id: i64, producer_epoch: i16, sequence: i32) -> Self {
        for (record, sequence) in self.records.iter_mut().zip(sequence..) {
            record.producer_id = producer_id;
            record.producer_epoch = producer_epoch;
            record.sequence = sequence;
        }
        self
    }

    /// Each record has for its key what its value has before `=`.
    pub(crate) fn with_keys(mut self) -> Self {
        for record in &mut self.records {
            let value = record.value.as_ref().expect("a value");
            let length = value.iter().position(|&byte| byte == b'=').expect("a value of the form key=value");
            record.key = Some(value.slice(..length));
        }
        self
    }

    /// Part of a transaction.
    pub(crate) fn transactional(mut self) -> Self {
        for record in &mut self.records {
            record.transactional = true;
        }
        self
    }

    pub(crate) fn encode(&self) -> Bytes {
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        let mut buffer = BytesMut::new();
        RecordBatchEncoder::encode(&mut buffer, &self.records, &options).expect("records can be encoded");
        buffer.freeze()
    }
}

/// The records of a fetched partition; the batch at its end may be cut short, as Kafka's may.
pub(crate) fn records(mut fetched: Bytes) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(length) = fetched.get(8..LENGTH_END) {
        let length = i32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if fetched.len() < LENGTH_END + length {
            break;
        }
        let mut batch = fetched.split_to(LENGTH_END + length);
        records.extend(RecordBatchDecoder::decode(&mut batch).expect("a batch that its CRC proves").records);
    }
    records
}

/// The records' values as text.
pub(crate) fn values(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
    records.iter().map(text).collect()
}
