//! Record batches that are not what they should be: cut, flipped, lying, exploding. Each is refused with its reason and
//! its error code, and none makes the reader panic.

use bytes::Bytes;
use chronik_core::batch::{
    BatchBuilder, BatchError, BatchLimits, Codec, HEAD_BYTES, RecordPart, Records, Scan, compress, find_timestamp,
    verify,
};
use chronik_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use chronik_core::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

const LIMITS: BatchLimits = BatchLimits { batch_bytes_max: 1 << 20, decompressed_bytes_max: 1 << 20 };
const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

fn two_records(codec: Codec) -> Vec<u8> {
    BatchBuilder::new()
        .codec(codec)
        .producer(ProducerId(7), ProducerEpoch(0), 0)
        .record(Timestamp(1000), Some(b"key"), Some(b"value"))
        .record_with_headers(Timestamp(1001), None, Some(b"another value"), &[(b"name", Some(b"x")), (b"null", None)])
        .build()
        .to_vec()
}

/// Gives the bytes the length and the checksum that they should have.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A batch of one record, which is `fields` behind its length.
fn with_fields(fields: &[u8]) -> Vec<u8> {
    let mut bytes = BatchBuilder::new().record(Timestamp(0), None, None).build()[..HEAD_BYTES].to_vec();
    assert!(fields.len() < 64, "one byte of length is enough for tests");
    bytes.push(fields.len() as u8 * 2);
    bytes.extend_from_slice(fields);
    sealed(bytes)
}

#[track_caller]
fn check(bytes: Vec<u8>, expect: BatchError, code: i16) {
    let error = verify(Bytes::from(bytes), &LIMITS).expect_err("it must be refused");
    assert_eq!(error, expect);
    assert_eq!(error.error_code(), code);
    assert!(!error.to_string().is_empty());
}

/// The same batch with other bytes at `at`, under a checksum that fits.
#[track_caller]
fn check_patched(at: usize, patch: &[u8], expect: BatchError, code: i16) {
    let mut bytes = two_records(Codec::None);
    bytes[at..at + patch.len()].copy_from_slice(patch);
    check(sealed(bytes), expect, code);
}

#[test]
fn exactly_one_batch_is_taken() {
    let good = two_records(Codec::None);
    check(Vec::new(), BatchError::NoBatch, INVALID_RECORD);
    let two = [good.clone(), good.clone()].concat();
    check(two, BatchError::BytesFollowBatch { bytes: good.len() }, INVALID_RECORD);
    let trailing = [&good[..], b"x"].concat();
    check(trailing, BatchError::BytesFollowBatch { bytes: 1 }, INVALID_RECORD);
    for cut in 1..HEAD_BYTES {
        check(good[..cut].to_vec(), BatchError::BytesEndInsideHead { bytes: cut }, INVALID_RECORD);
    }
    for cut in HEAD_BYTES..good.len() {
        let expect = BatchError::BytesEndInsideBatch { bytes: cut, batch_bytes: good.len() };
        check(good[..cut].to_vec(), expect, INVALID_RECORD);
    }
}

#[test]
fn older_formats_and_unknown_ones_are_refused() {
    for (magic, code) in [(0, INVALID_RECORD), (1, INVALID_RECORD), (3, CORRUPT_MESSAGE), (-1, CORRUPT_MESSAGE)] {
        let mut bytes = two_records(Codec::None);
        bytes[16] = magic as u8;
        check(bytes.clone(), BatchError::MagicNotTwo { magic }, code);
        // A message of the older formats may be shorter than a head.
        check(bytes[..34].to_vec(), BatchError::MagicNotTwo { magic }, code);
    }
}

#[test]
fn a_length_below_the_head_is_damage() {
    for length in [48, 0, -1, i32::MIN] {
        let mut bytes = two_records(Codec::None);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        check(bytes, BatchError::LengthBelowHead { length }, CORRUPT_MESSAGE);
    }
}

#[test]
fn a_batch_above_the_limit_is_too_large() {
    let bytes = two_records(Codec::None);
    let limits = BatchLimits { batch_bytes_max: bytes.len() - 1, ..LIMITS };
    let error = verify(bytes.clone().into(), &limits).expect_err("it is one byte too large");
    assert_eq!(error, BatchError::BatchTooLarge { bytes: bytes.len(), limit: bytes.len() - 1 });
    assert_eq!(error.error_code(), MESSAGE_TOO_LARGE);
    assert!(verify(bytes.clone().into(), &BatchLimits { batch_bytes_max: bytes.len(), ..LIMITS }).is_ok());
}

#[test]
fn every_flipped_bit_is_noticed_but_those_of_the_leader_epoch() {
    for codec in Codec::ALL {
        let good = two_records(codec);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = verify(bytes.into(), &LIMITS);
            // The leader overwrites the epoch, whatever a client put there.
            assert_eq!(result.is_ok(), (12..16).contains(&(bit / 8)), "{codec}, bit {bit}");
            if bit / 8 >= 17 {
                assert!(matches!(result, Err(BatchError::CrcDiffers { .. })), "{codec}, bit {bit}");
            }
        }
    }
}

#[test]
fn what_a_client_may_not_say_in_a_head_is_refused() {
    let offset = BatchError::BaseOffsetNotZero { base_offset: 1 };
    check_patched(0, &1i64.to_be_bytes(), offset, INVALID_RECORD);
    check_patched(57, &0i32.to_be_bytes(), BatchError::CountBelowOne { count: 0 }, INVALID_RECORD);
    check_patched(57, &(-1i32).to_be_bytes(), BatchError::CountBelowOne { count: -1 }, INVALID_RECORD);
    let differs = BatchError::CountDiffersFromOffsets { count: 3, last_offset_delta: 1 };
    check_patched(57, &3i32.to_be_bytes(), differs, INVALID_RECORD);
    let differs = BatchError::CountDiffersFromOffsets { count: 2, last_offset_delta: -1 };
    check_patched(23, &(-1i32).to_be_bytes(), differs, INVALID_RECORD);
    for code in 5..8i16 {
        let unknown = BatchError::CodecUnknown { code };
        check_patched(21, &code.to_be_bytes(), unknown, UNSUPPORTED_COMPRESSION_TYPE);
    }
    check_patched(21, &[0, 1 << 3], BatchError::LogAppendTimeFromClient, INVALID_TIMESTAMP);
    check_patched(21, &[0, 1 << 5], BatchError::ControlBatchFromClient, INVALID_RECORD);
    check_patched(21, &[0, 1 << 6], BatchError::DeleteHorizonFromClient, INVALID_RECORD);
}

#[test]
fn producer_fields_go_together_or_not_at_all() {
    let with = |producer_id, producer_epoch, base_sequence| {
        let mut bytes = two_records(Codec::None);
        bytes[43..51].copy_from_slice(&i64::to_be_bytes(producer_id));
        bytes[51..53].copy_from_slice(&i16::to_be_bytes(producer_epoch));
        bytes[53..57].copy_from_slice(&i32::to_be_bytes(base_sequence));
        sealed(bytes)
    };
    for (producer_id, producer_epoch, base_sequence) in [(7, -1, 0), (7, 0, -1), (7, 0, -5), (-2, 0, 0)] {
        let expect = BatchError::ProducerFieldsDisagree { producer_id, producer_epoch, base_sequence };
        check(with(producer_id, producer_epoch, base_sequence), expect, INVALID_RECORD);
    }
    for (producer_id, producer_epoch, base_sequence) in [(7, 0, 0), (0, 0, i32::MAX), (-1, -1, -1), (-1, -1, 0)] {
        assert!(verify(with(producer_id, producer_epoch, base_sequence).into(), &LIMITS).is_ok());
    }
    let mut transactional = with(-1, -1, -1);
    transactional[22] |= 1 << 4;
    check(sealed(transactional), BatchError::TransactionWithoutProducer, INVALID_RECORD);
}

#[test]
fn every_part_of_a_record_is_held_against_its_bounds() {
    let check = |fields: &[u8], part| {
        check(with_fields(fields), BatchError::RecordUnreadable { record: 0, part }, INVALID_RECORD);
    };
    // In zigzag 1 is -1, 2 is 1, 3 is -2. A whole record: attributes, timestamp, offset, no key, no value, no headers.
    let good = [0, 0, 0, 1, 1, 0];
    assert!(verify(with_fields(&good).into(), &LIMITS).is_ok());
    let parts = [
        RecordPart::Attributes,
        RecordPart::TimestampDelta,
        RecordPart::OffsetDelta,
        RecordPart::Key,
        RecordPart::Value,
        RecordPart::HeaderCount,
    ];
    for (cut, part) in parts.into_iter().enumerate() {
        check(&good[..cut], part);
    }
    check(&[0, 0, 0, 3, 1, 0], RecordPart::Key);
    check(&[0, 0, 0, 8, 1, 0], RecordPart::Key);
    check(&[0, 0, 0, 1, 3, 0], RecordPart::Value);
    check(&[0, 0, 0, 1, 4, 0], RecordPart::Value);
    check(&[0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0], RecordPart::Value);
    check(&[0, 0, 0, 1, 1, 1], RecordPart::HeaderCount);
    check(&[0, 0, 0, 1, 1, 2], RecordPart::HeaderKey);
    check(&[0, 0, 0, 1, 1, 2, 1, 1], RecordPart::HeaderKey);
    check(&[0, 0, 0, 1, 1, 2, 2, b'k'], RecordPart::HeaderValue);
    check(&[0, 0, 0, 1, 1, 2, 2, b'k', 4, b'v'], RecordPart::HeaderValue);
    check(&[0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], RecordPart::HeaderKey);
    check(&[0, 0, 0, 1, 1, 0, 0], RecordPart::End);
}

#[test]
fn the_records_fill_their_batch_exactly() {
    let good = two_records(Codec::None);
    check(sealed([&good[..], b"x"].concat()), BatchError::BytesFollowRecords, INVALID_RECORD);
    for cut in HEAD_BYTES..good.len() {
        let error = verify(sealed(good[..cut].to_vec()).into(), &LIMITS).expect_err("a record is missing or cut");
        assert!(matches!(error, BatchError::RecordsEndEarly { .. }), "{error}");
        assert_eq!(error.error_code(), INVALID_RECORD);
    }
    let negative_length = [&good[..HEAD_BYTES], &[1, 0, 0]].concat();
    let expect = BatchError::RecordUnreadable { record: 0, part: RecordPart::Length };
    check(sealed(negative_length), expect, INVALID_RECORD);
}

#[test]
fn offsets_count_up_from_zero() {
    let record = |offset_delta| [12, 0, 0, offset_delta, 1, 1, 0];
    let good = BatchBuilder::new().record(Timestamp(0), None, None).record(Timestamp(0), None, None).build();
    let with = |first, second| sealed([&good[..HEAD_BYTES], &record(first), &record(second)].concat());
    assert!(verify(with(0, 2).into(), &LIMITS).is_ok());
    for (first, second, record, offset_delta) in [(2, 2, 0, 1), (0, 0, 1, 0), (0, 4, 1, 2), (0, 1, 1, -1)] {
        let expect = BatchError::RecordOffsetOutOfOrder { record, offset_delta };
        check(with(first, second), expect, INVALID_RECORD);
    }
}

#[test]
fn a_stored_record_outside_its_batch_is_refused() {
    for (zigzag, offset_delta) in [(2, 1), (1, -1)] {
        let bytes = with_fields(&[0, 0, zigzag, 1, 1, 0]);
        let mut records = Records::open(&bytes, LIMITS.decompressed_bytes_max).expect("the head is good");
        assert_eq!(records.next_record(), Err(BatchError::RecordOffsetOutOfOrder { record: 0, offset_delta }));
    }
}

#[test]
fn a_timestamp_that_overflows_is_refused() {
    // 2, in zigzag, above one below the largest there is.
    let mut bytes = with_fields(&[0, 4, 0, 1, 1, 0]);
    bytes[27..35].copy_from_slice(&(i64::MAX - 1).to_be_bytes());
    check(sealed(bytes), BatchError::RecordTimestampOverflows { record: 0 }, INVALID_RECORD);
}

/// A batch of one record whose value is `value_bytes` zeros.
fn bomb(codec: Codec, value_bytes: usize) -> Vec<u8> {
    BatchBuilder::new().codec(codec).record(Timestamp(0), None, Some(&vec![0; value_bytes])).build().to_vec()
}

#[test]
fn what_explodes_is_stopped_at_the_limit() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bytes = bomb(codec, 8 << 20);
        let limits = BatchLimits { batch_bytes_max: bytes.len(), ..LIMITS };
        let error = verify(bytes.clone().into(), &limits).expect_err("it must be stopped");
        assert_eq!(error, BatchError::DecompressedTooLarge { limit: limits.decompressed_bytes_max }, "{codec}");
        assert_eq!(error.error_code(), MESSAGE_TOO_LARGE);
        let found = find_timestamp(&bytes, &(Offset(0)..Offset(i64::MAX)), Timestamp(0), limits.decompressed_bytes_max);
        assert_eq!(found, Err(error), "{codec}");
    }
}

#[test]
fn a_conversion_to_a_larger_batch_is_stopped_at_the_limit() {
    let batch = verify(bomb(Codec::Zstd, 100_000).into(), &LIMITS).expect("it fits");
    let limits = BatchLimits { batch_bytes_max: 50_000, ..LIMITS };
    let error = batch.recompress(Codec::None, None, &limits).expect_err("it does not fit any more");
    assert!(matches!(error, BatchError::BatchTooLarge { limit: 50_000, .. }), "{error}");
}

#[test]
fn compressed_bytes_are_whole_and_nothing_follows_them() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let good = two_records(codec);
        let trailing = sealed([&good[..], b"more"].concat());
        check(trailing, BatchError::CompressedBytesUnreadable { codec }, INVALID_RECORD);
        for cut in HEAD_BYTES..good.len() {
            let error = verify(sealed(good[..cut].to_vec()).into(), &LIMITS).expect_err("it is cut");
            let expected =
                matches!(error, BatchError::CompressedBytesUnreadable { .. } | BatchError::RecordsEndEarly { .. });
            assert!(expected, "{codec} cut at {cut}: {error}");
            assert_eq!(error.error_code(), INVALID_RECORD);
        }
        let records = &two_records(Codec::None)[HEAD_BYTES..];
        let longer = [&good[..HEAD_BYTES], &compress(codec, &[records, b"x"].concat())].concat();
        check(sealed(longer), BatchError::BytesFollowRecords, INVALID_RECORD);
        let shorter = [&good[..HEAD_BYTES], &compress(codec, &records[..records.len() - 1])].concat();
        check(sealed(shorter), BatchError::RecordsEndEarly { record: 1 }, INVALID_RECORD);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_behind_a_checksum_that_fits_never_panic(
        code in 0..5u8, count in 1..4i32, body in vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = two_records(Codec::None)[..HEAD_BYTES].to_vec();
        bytes[22] = code;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&body);
        let _ = verify(sealed(bytes).into(), &LIMITS);
    }

    #[test]
    fn damaged_compressed_bytes_behind_a_checksum_that_fits_never_panic(
        codec in proptest::sample::select(Codec::ALL.to_vec()), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = two_records(codec);
        let at = HEAD_BYTES + at.index(bytes.len() - HEAD_BYTES);
        bytes[at] = byte;
        let _ = verify(sealed(bytes).into(), &LIMITS);
    }

    #[test]
    fn random_bytes_never_panic_a_reader(mut bytes in vec(any::<u8>(), 0..140)) {
        if let Some(magic) = bytes.get_mut(16) {
            *magic = 2;
        }
        let _ = verify(Bytes::from(bytes.clone()), &LIMITS);
        for found in Scan::heads(&bytes) {
            let _ = found.map(|found| found.head.next_offset());
        }
        if let Ok(mut records) = Records::open(&bytes, LIMITS.decompressed_bytes_max) {
            while let Ok(Some(record)) = records.next_record() {
                let _ = record.headers.count();
            }
        }
    }
}

#[test]
fn offsets_that_do_not_exist_end_a_scan() {
    for base_offset in [i64::MAX, -1] {
        let builder = BatchBuilder::new().place(Offset(base_offset), LeaderEpoch(0));
        let bytes = builder.record(Timestamp(0), None, None).build();
        let error = Scan::checked(&bytes).find_map(Result::err).expect("it is refused");
        assert_eq!(error.error, BatchError::OffsetRangeImpossible { base_offset, last_offset_delta: 0 });
    }
}
