//! Record batches that are what they should be: built, verified, read, placed, scanned, searched, and read the same by
//! an independent decoder.

use bytes::{Bytes, BytesMut};
use chronik_core::batch::{
    BatchBuilder, BatchError, BatchHead, BatchLimits, Codec, Decompressor, HEAD_BYTES, NO_TIMESTAMP, PATCH_BYTES,
    Records, Scan, VerifiedBatch, check, find_max_timestamp, find_timestamp, patched_prefix, slice, verify,
};
use chronik_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use chronik_core::time::Timestamp;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::collection::vec;
use proptest::prelude::*;

const LIMITS: BatchLimits = BatchLimits { batch_bytes_max: 8 << 20, decompressed_bytes_max: 8 << 20 };
const LIMIT: usize = LIMITS.decompressed_bytes_max;

/// A record on its own feet.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn owned(timestamp: i64, key: Option<&str>, value: &str) -> Owned {
    Owned { timestamp, key: key.map(Into::into), value: Some(value.into()), headers: Vec::new() }
}

fn add(builder: BatchBuilder, records: &[Owned]) -> BatchBuilder {
    records.iter().fold(builder, |builder, record| {
        let headers: Vec<_> = record.headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
        let timestamp = Timestamp(record.timestamp);
        builder.record_with_headers(timestamp, record.key.as_deref(), record.value.as_deref(), &headers)
    })
}

fn built(codec: Codec, records: &[Owned]) -> Bytes {
    add(BatchBuilder::new().codec(codec), records).build()
}

fn verified(codec: Codec, records: &[Owned]) -> VerifiedBatch {
    verify(built(codec, records), &LIMITS).expect("a built batch is good")
}

/// The offsets and records of a batch.
fn read(batch: &[u8]) -> Vec<(i64, Owned)> {
    let mut records = Records::open(batch, LIMIT).expect("the batch opens");
    let mut all = Vec::new();
    while let Some(record) = records.next_record().expect("the record is good") {
        let headers = record.headers.map(|(key, value)| {
            (String::from_utf8(key.to_vec()).expect("tests write text"), value.map(<[u8]>::to_vec))
        });
        let owned = Owned {
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        };
        all.push((record.offset.0, owned));
    }
    assert!(records.next_record().expect("the end stays the end").is_none());
    all
}

fn any_record() -> impl Strategy<Value = Owned> {
    let timestamp = prop_oneof![8 => 1_700_000_000_000..1_700_000_100_000i64, 1 => Just(-1), 1 => 0..i64::MAX / 2];
    let bytes = || proptest::option::of(vec(any::<u8>(), 0..300));
    // The oracle keeps headers in a map, so keys are unique.
    let headers = proptest::collection::btree_map("[a-z]{0,6}", bytes(), 0..4);
    (timestamp, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Owned {
        timestamp,
        key,
        value,
        headers: headers.into_iter().collect(),
    })
}

fn any_codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(Codec::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_built_is_verified_and_read_back(codec in any_codec(), records in vec(any_record(), 1..40)) {
        let bytes = built(codec, &records);
        let batch = verify(bytes.clone(), &LIMITS).expect("a built batch is good");
        prop_assert_eq!(batch.codec(), codec);
        prop_assert_eq!(batch.count() as usize, records.len());
        prop_assert_eq!(batch.batch_bytes(), bytes.len());
        prop_assert_eq!(batch.has_null_key(), records.iter().any(|record| record.key.is_none()));

        let stamps = || records.iter().map(|record| record.timestamp);
        let max = stamps().max().expect("there are records");
        prop_assert_eq!(batch.max_timestamp(), Timestamp(max));
        prop_assert_eq!(batch.min_timestamp(), stamps().filter(|stamp| *stamp != -1).min().map(Timestamp));
        let first_with_max = stamps().position(|stamp| stamp == max).expect("there is one");
        prop_assert_eq!(batch.max_timestamp_offset_delta() as usize, first_with_max);

        prop_assert_eq!(batch.to_bytes(Offset(0), LeaderEpoch(-1)), bytes);
        let stored = batch.to_bytes(Offset(1000), LeaderEpoch(7));
        let head = check(&stored).expect("placing a batch leaves its checksum");
        prop_assert_eq!(head.last_offset(), Offset(1000 + records.len() as i64 - 1));
        prop_assert_eq!(head.leader_epoch, LeaderEpoch(7));
        let expected: Vec<_> = (1000..).zip(records).collect();
        prop_assert_eq!(read(&stored), expected);
    }

    #[test]
    fn another_codec_holds_the_same_records(
        from in any_codec(), to in any_codec(), records in vec(any_record(), 1..40),
    ) {
        let before = verified(from, &records);
        let after = before.recompress(to, None, &LIMITS).expect("the limits are wide");
        let bytes = after.to_bytes(Offset(0), LeaderEpoch(-1));
        let again = verify(bytes.clone(), &LIMITS).expect("a recompressed batch is good");
        prop_assert_eq!(again.codec(), to);
        prop_assert_eq!(after.codec(), to);
        prop_assert_eq!(again.head(), after.head());
        prop_assert_eq!(again.max_timestamp_offset_delta(), before.max_timestamp_offset_delta());
        prop_assert_eq!(read(&bytes), read(&before.to_bytes(Offset(0), LeaderEpoch(-1))));
    }

    #[test]
    fn the_oracle_reads_what_is_built(codec in any_codec(), records in vec(any_record(), 1..20)) {
        let builder = BatchBuilder::new()
            .codec(codec)
            .producer(ProducerId(9), ProducerEpoch(2), 5)
            .transactional()
            .place(Offset(77), LeaderEpoch(3));
        let mut bytes = add(builder, &records).build();
        let decompress = |bytes: &mut Bytes, compression: oracle::Compression| {
            assert_eq!(compression as usize, codec as usize);
            let all = Decompressor::new(codec, bytes, LIMIT)?.read_all()?;
            *bytes = Bytes::new();
            Ok(Bytes::from(all))
        };
        let read = oracle::RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(decompress))
            .expect("the oracle reads it")
            .records;
        prop_assert_eq!(read.len(), records.len());
        for (index, (theirs, ours)) in read.iter().zip(&records).enumerate() {
            prop_assert_eq!(theirs, &as_oracle(index, ours));
        }
    }

    #[test]
    fn what_the_oracle_writes_is_verified_and_read_back(records in vec(any_record(), 1..20)) {
        let theirs: Vec<_> = records.iter().enumerate()
            .map(|(index, record)| oracle::Record { offset: index as i64, ..as_oracle(index, record) })
            .collect();
        let mut bytes = BytesMut::new();
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
        oracle::RecordBatchEncoder::encode(&mut bytes, &theirs, &options).expect("the oracle writes it");
        let batch = verify(bytes.freeze(), &LIMITS).expect("the oracle's batch is good");
        prop_assert!(batch.head().attributes.is_transactional());
        prop_assert_eq!(batch.head().producer_id, ProducerId(9));
        prop_assert_eq!(batch.head().base_sequence, 5);
        let expected: Vec<_> = (0..).zip(records).collect();
        prop_assert_eq!(read(&batch.to_bytes(Offset(0), LeaderEpoch(3))), expected);
    }

    #[test]
    fn a_search_by_time_finds_what_a_linear_one_does(
        codec in any_codec(),
        records in vec(any_record(), 1..20),
        from in 100..125i64,
        target in 1_700_000_000_000..1_700_000_100_000i64,
    ) {
        let batch = add(BatchBuilder::new().codec(codec).place(Offset(100), LeaderEpoch(0)), &records).build();
        let expected = (100..).zip(&records)
            .find(|(offset, record)| *offset >= from && record.timestamp >= target)
            .map(|(offset, record)| (Offset(offset), Timestamp(record.timestamp)));
        prop_assert_eq!(find_timestamp(&batch, &(Offset(from)..Offset(i64::MAX)), Timestamp(target), LIMIT), Ok(expected));
    }
}

fn as_oracle(index: usize, record: &Owned) -> oracle::Record {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
    let headers = record.headers.iter().map(|(key, value)| (StrBytes::from_string(key.clone()), bytes(value)));
    oracle::Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 3,
        producer_id: 9,
        producer_epoch: 2,
        timestamp_type: oracle::TimestampType::Creation,
        offset: 77 + index as i64,
        sequence: 5 + index as i32,
        timestamp: record.timestamp,
        key: bytes(&record.key),
        value: bytes(&record.value),
        headers: headers.collect::<IndexMap<_, _>>(),
    }
}

#[test]
fn verified_bytes_are_a_slice_of_what_came_in() {
    let bytes = built(Codec::None, &[owned(1, None, "value")]);
    let batch = verify(bytes.clone(), &LIMITS).expect("a built batch is good");
    assert_eq!(batch.body().as_ptr(), bytes[HEAD_BYTES..].as_ptr());
}

#[test]
fn placing_a_batch_changes_its_first_sixteen_bytes_alone() {
    let batch = verified(Codec::None, &[owned(1, None, "value")]);
    let unplaced = batch.to_bytes(Offset(0), LeaderEpoch(-1));
    let placed = batch.to_bytes(Offset(1 << 40), LeaderEpoch(12));
    assert_eq!(placed[..PATCH_BYTES], patched_prefix(Offset(1 << 40), batch.head().length, LeaderEpoch(12)));
    assert_eq!(placed[PATCH_BYTES..], unplaced[PATCH_BYTES..]);
}

#[test]
fn a_head_comes_back_from_its_bytes() {
    let bytes = BatchBuilder::new()
        .producer(ProducerId(1 << 40), ProducerEpoch(i16::MAX), i32::MAX)
        .record(Timestamp(5), None, None)
        .record(Timestamp(3), None, None)
        .build();
    let head = BatchHead::parse(&bytes).expect("the head is good");
    assert_eq!(head.to_bytes(), bytes[..HEAD_BYTES]);
    assert_eq!(head.base_timestamp, Timestamp(5));
    // Sequences go round.
    assert_eq!(head.last_sequence(), 0);
}

#[test]
fn append_time_is_every_records_timestamp_and_leaves_the_records_unread() {
    for value_bytes in [10, 200_000u32] {
        for codec in Codec::ALL {
            let noise = |index: u32| char::from(b' ' + (index.wrapping_mul(2_654_435_761) >> 26) as u8);
            let value: String = (0..value_bytes).map(noise).collect();
            let before = verified(codec, &[owned(5, None, "first"), owned(9, None, &value)]);
            let after = before.clone().with_log_append_time(Timestamp(1234));
            assert_eq!(after.body(), before.body());
            assert_eq!(after.max_timestamp(), Timestamp(1234));
            assert_eq!(after.min_timestamp(), Some(Timestamp(1234)));
            assert_eq!(before.max_timestamp_offset_delta(), 1);
            assert_eq!(after.max_timestamp_offset_delta(), 0);
            let stored = after.to_bytes(Offset(50), LeaderEpoch(1));
            let head = check(&stored).expect("the checksum was rewritten");
            assert!(head.attributes.is_log_append_time());
            let stamps: Vec<_> = read(&stored).into_iter().map(|(_, record)| record.timestamp).collect();
            assert_eq!(stamps, [1234, 1234]);
            let found = find_timestamp(&stored, &(Offset(0)..Offset(i64::MAX)), Timestamp(1000), LIMIT);
            assert_eq!(found, Ok(Some((Offset(50), Timestamp(1234)))));
        }
    }
}

#[test]
fn a_max_timestamp_that_the_records_do_not_have_is_put_right() {
    for value_bytes in [10, 200_000] {
        let records = [owned(5, None, "a"), owned(9, None, &"b".repeat(value_bytes)), owned(9, None, "c")];
        let good = built(Codec::None, &records);
        for wrong in [8, 10, i64::MAX, -1] {
            let mut bytes = good.to_vec();
            bytes[35..43].copy_from_slice(&i64::to_be_bytes(wrong));
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let batch = verify(bytes.into(), &LIMITS).expect("the rest is good");
            assert_eq!(batch.max_timestamp_offset_delta(), 1);
            assert_eq!(batch.to_bytes(Offset(0), LeaderEpoch(-1)), good);
        }
    }
}

#[test]
fn records_without_a_timestamp_have_no_least_one() {
    let batch = verified(Codec::None, &[owned(-1, None, "a"), owned(-1, None, "b")]);
    assert_eq!(batch.min_timestamp(), None);
    assert_eq!(batch.max_timestamp(), NO_TIMESTAMP);
    assert_eq!(batch.max_timestamp_offset_delta(), 0);
}

#[test]
fn the_first_record_with_the_largest_timestamp_is_found() {
    for codec in Codec::ALL {
        let times = [3, 8, 2, 8, -1];
        let records: Vec<_> = times.into_iter().map(|time| owned(time, None, "a")).collect();
        let stored = verified(codec, &records).to_bytes(Offset(10), LeaderEpoch(0));
        let check = |within: std::ops::Range<i64>, expected: Option<(i64, i64)>| {
            let found = find_max_timestamp(&stored, &(Offset(within.start)..Offset(within.end)), LIMIT);
            let found = found.expect("a sound batch").map(|(offset, timestamp)| (offset.0, timestamp.0));
            assert_eq!(found, expected, "within {within:?}");
        };
        check(0..99, Some((11, 8)));
        check(12..99, Some((13, 8)));
        check(0..11, Some((10, 3)));
        check(12..13, Some((12, 2)));
        check(14..99, None);
        check(15..99, None);
        check(0..10, None);
    }
}

/// Three batches: offsets 10 to 12, 13 to 14, and, behind a gap that compaction left, 20. With them where each starts
/// and the last ends.
fn run() -> (Vec<u8>, [usize; 4]) {
    let batch = |base_offset, count| {
        let records: Vec<_> = (0..count).map(|index| owned(index, Some("key"), "value")).collect();
        add(BatchBuilder::new().place(Offset(base_offset), LeaderEpoch(1)), &records).build()
    };
    let batches = [batch(10, 3), batch(13, 2), batch(20, 1)];
    let mut ends = [0; 4];
    for (index, batch) in batches.iter().enumerate() {
        ends[index + 1] = ends[index] + batch.len();
    }
    (batches.concat(), ends)
}

#[test]
fn a_scan_finds_every_batch_and_its_place() {
    let (bytes, ends) = run();
    let mut scan = Scan::checked(&bytes);
    for (index, offset) in [10, 13, 20].into_iter().enumerate() {
        let found = scan.next().expect("there is one").expect("it is good");
        assert_eq!(found.range, ends[index]..ends[index + 1]);
        assert_eq!(found.head.base_offset, Offset(offset));
    }
    assert_eq!(scan.next(), None);
    assert_eq!(scan.position(), bytes.len());
}

#[test]
fn a_scan_names_the_place_of_what_it_cannot_read() {
    let (good, ends) = run();
    let check = |bytes: &[u8], position: usize, expect: fn(&BatchError) -> bool| {
        let mut scan = Scan::checked(bytes);
        let error = scan.find_map(Result::err).expect("something is wrong");
        assert_eq!(error.position, position);
        assert!(expect(&error.error), "{error}");
        assert_eq!(scan.next(), None);
        assert_eq!(scan.position(), position);
    };
    let mut flipped = good.clone();
    flipped[ends[2] - 1] ^= 1;
    check(&flipped, ends[1], |error| matches!(error, BatchError::CrcDiffers { .. }));
    let repeated = [&good[..ends[2]], &good[ends[1]..]].concat();
    check(&repeated, ends[2], |error| *error == BatchError::OffsetsDescend { previous: 14, base_offset: 13 });
    let twice = [&good[..], &good[ends[2]..]].concat();
    check(&twice, ends[3], |error| *error == BatchError::OffsetsDescend { previous: 20, base_offset: 20 });
    let zeros = [&good[..], &[0; 100]].concat();
    check(&zeros, ends[3], |error| *error == BatchError::MagicNotTwo { magic: 0 });
    for cut in ends[2] + 1..ends[3] {
        let error = Scan::heads(&good[..cut]).find_map(Result::err).expect("it is cut");
        assert_eq!(error.position, ends[2]);
        assert!(error.is_cut());
    }
}

#[test]
fn a_slice_is_whole_batches_from_the_one_asked_for() {
    let (bytes, ends) = run();
    let check = |from, below, bytes_max, expect: Option<(usize, usize)>| {
        let range = slice(&bytes, Offset(from), Offset(below), bytes_max).expect("the run is good");
        assert_eq!(range, expect.map(|(first, last)| ends[first]..ends[last]), "{from} {below} {bytes_max}");
    };
    let all = bytes.len();
    check(10, 100, all, Some((0, 3)));
    check(0, 100, all, Some((0, 3)));
    // In the middle of a batch: the whole of it.
    check(12, 100, all, Some((0, 3)));
    check(13, 100, all, Some((1, 3)));
    // In a gap: the batch behind it.
    check(15, 100, all, Some((2, 3)));
    check(20, 100, all, Some((2, 3)));
    check(21, 100, all, None);
    // The first is given whole, whatever its size.
    check(11, 100, 0, Some((0, 1)));
    check(11, 100, ends[2] - 1, Some((0, 1)));
    check(11, 100, ends[2], Some((0, 2)));
    check(13, 100, ends[3] - ends[1], Some((1, 3)));
    // Nothing at or above the bound.
    check(10, 13, all, Some((0, 1)));
    check(10, 20, all, Some((0, 2)));
    check(10, 10, all, None);
}

#[test]
fn a_slice_ends_before_a_cut_batch_and_fails_only_where_that_is_the_first() {
    let (bytes, ends) = run();
    for cut in ends[1] + 1..ends[2] {
        let range = slice(&bytes[..cut], Offset(10), Offset(i64::MAX), bytes.len());
        assert_eq!(range, Ok(Some(0..ends[1])));
        let error = slice(&bytes[..cut], Offset(13), Offset(i64::MAX), bytes.len()).expect_err("it is cut");
        assert!(error.is_cut());
        assert_eq!(error.position, ends[1]);
    }
}
