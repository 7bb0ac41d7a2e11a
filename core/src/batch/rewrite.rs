//! A stored batch without some of its records, as compaction writes it: offsets, sequences and codec stay what they were.

use super::compress::{Codec, compress};
use super::error::BatchError;
use super::head::{BatchHead, HEAD_BYTES, NO_TIMESTAMP};
use super::records::{Record, Records};
use super::{build, varint};
use crate::time::Timestamp;
use bytes::Bytes;

/// Writes `batch`, exactly one stored batch, again with those of its records that `keeps` chooses. From `delete_horizon`
/// on, where there is one, compaction may drop the batch's tombstones (KIP-534); no record's timestamp may lie 2^63 ms or
/// more from it. The largest timestamp is that of the records that stay. Holds the records in memory as decompressed.
///
/// # Errors
/// Where a record cannot be read, or more than `decompressed_bytes_max` bytes come out.
pub fn keep_records(
    batch: &[u8],
    delete_horizon: Option<Timestamp>,
    decompressed_bytes_max: usize,
    mut keeps: impl FnMut(&Record<'_>) -> bool,
) -> Result<Bytes, BatchError> {
    let mut records = Records::open(batch, decompressed_bytes_max)?;
    let head = *records.head();
    let codec = head.attributes.codec()?;
    let attributes = match delete_horizon {
        Some(_) => head.attributes.with_delete_horizon(),
        None => head.attributes,
    };
    let base_timestamp = delete_horizon.unwrap_or(head.base_timestamp);
    let (mut count, mut largest, mut body) = (0, NO_TIMESTAMP, Vec::new());
    let mut fields = Vec::new();
    while let Some(record) = records.next_record()? {
        if keeps(&record) {
            count += 1;
            largest = largest.max(record.timestamp);
            fields.clear();
            build::put_record(&mut fields, &head, base_timestamp, &record);
            varint::put_i32(&mut body, build::length(fields.len()));
            body.extend_from_slice(&fields);
        }
    }
    let body = if codec == Codec::None { body } else { compress(codec, &body) };
    let max_timestamp = if head.attributes.is_log_append_time() { head.max_timestamp } else { largest };
    let head = BatchHead { attributes, base_timestamp, max_timestamp, count, ..head }.sealing(&body);
    Ok([&head.to_bytes()[..], &body].concat().into())
}

/// `head`'s batch without any record: what is left where only its place or its producer's sequence still counts. As Kafka
/// does, it keeps the largest timestamp.
pub fn emptied(head: &BatchHead) -> Bytes {
    let attributes = head.attributes.with_codec(Codec::None).without_delete_horizon();
    let head = BatchHead { attributes, base_timestamp: NO_TIMESTAMP, count: 0, ..*head }.sealing(&[]);
    Bytes::copy_from_slice(&head.to_bytes()[..HEAD_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, check};
    use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

    const LIMIT: usize = 1 << 20;

    fn batch(codec: Codec) -> Bytes {
        BatchBuilder::new()
            .codec(codec)
            .place(Offset(100), LeaderEpoch(3))
            .producer(ProducerId(7), ProducerEpoch(2), 40)
            .record(Timestamp(50), Some(b"a"), Some(b"1"))
            .record_with_headers(Timestamp(70), Some(b"b"), None, &[(b"h", Some(b"v")), (b"h", None)])
            .record(NO_TIMESTAMP, Some(b"c"), Some(b"3"))
            .build()
    }

    /// What a reader makes of a batch, a line for each record.
    fn read(batch: &[u8]) -> Vec<String> {
        check(batch).expect("its checksum fits");
        let mut records = Records::open(batch, LIMIT).expect("it can be opened");
        let mut lines = Vec::new();
        while let Some(record) = records.next_record().expect("its records can be read") {
            let Record { offset, timestamp, key, value, headers } = record;
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let headers: Vec<_> = headers.map(|(key, value)| (text(Some(key)), text(value))).collect();
            lines.push(format!("{offset} {timestamp:?} {:?} {:?} {headers:?}", text(key), text(value)));
        }
        lines
    }

    #[test]
    fn records_that_stay_keep_offset_time_and_headers_under_every_codec() {
        for codec in Codec::ALL {
            let batch = batch(codec);
            let all = read(&batch);
            for horizon in [None, Some(Timestamp(9_000))] {
                let kept = keep_records(&batch, horizon, LIMIT, |record| record.key != Some(b"a")).expect("sound");
                assert_eq!(read(&kept), all[1..], "{codec}");
                let (before, after) = (BatchHead::parse(&batch).unwrap(), BatchHead::parse(&kept).unwrap());
                assert_eq!(after.attributes.codec(), Ok(codec));
                assert_eq!((after.base_offset, after.last_offset()), (before.base_offset, before.last_offset()));
                assert_eq!((after.base_sequence, after.last_sequence()), (40, 42));
                assert_eq!((after.leader_epoch, after.producer_id), (before.leader_epoch, before.producer_id));
                assert_eq!((after.count, after.max_timestamp), (2, Timestamp(70)));
                assert_eq!(after.attributes.has_delete_horizon(), horizon.is_some());
                assert_eq!(after.base_timestamp, horizon.unwrap_or(before.base_timestamp));
            }
        }
    }

    #[test]
    fn an_emptied_batch_keeps_its_place_and_its_sequence() {
        let head = BatchHead::parse(&batch(Codec::Zstd)).expect("a sound batch");
        let empty = emptied(&head);
        assert!(read(&empty).is_empty());
        let after = BatchHead::parse(&empty).expect("a sound batch");
        assert_eq!((after.base_offset, after.last_offset(), after.last_sequence()), (Offset(100), Offset(102), 42));
        assert_eq!((after.count, after.batch_bytes(), after.max_timestamp), (0, HEAD_BYTES, Timestamp(70)));
    }
}
