//! Record batches: of a producer's making, and as a segment stores them.

use std::ops::Range;

use bytes::Bytes;
use chronik_core::batch::{
    BatchLimits, Codec, Decompressor, HEAD_BYTES, NO_TIMESTAMP, Records, Scan, VerifiedBatch, check,
    find_max_timestamp, find_timestamp, slice, verify,
};
use chronik_core::ids::{LeaderEpoch, Offset};
use chronik_core::time::Timestamp;

use crate::wire_bodies::entropy::Entropy;

/// What comes out of a batch of a few bytes need not be much to find out whether limits are obeyed.
const LIMITS: BatchLimits = BatchLimits { batch_bytes_max: 128 << 10, decompressed_bytes_max: 128 << 10 };

/// All offsets.
const EVERYWHERE: Range<Offset> = Offset(0)..Offset(i64::MAX);

/// Takes `data` for a batch, as it is and again with length and checksum mended; for a run of batches; and for
/// something compressed.
pub fn body(data: &[u8]) {
    let sealed = sealed(data);
    for bytes in [data, &sealed] {
        producer(bytes);
        stored(bytes);
        run(bytes);
    }
    if let Some((&choice, rest)) = data.split_first() {
        compressed(Codec::ALL[usize::from(choice) % Codec::ALL.len()], rest);
    }
}

/// The same bytes with the length, magic and checksum that they should have, batch for batch.
pub(crate) fn sealed(data: &[u8]) -> Vec<u8> {
    let mut all = data.to_vec();
    let mut rest = &mut all[..];
    while rest.len() >= HEAD_BYTES {
        // A length that is too large or too small is that of the last batch.
        let said = i32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]);
        let said = usize::try_from(said).unwrap_or(usize::MAX).saturating_add(12);
        let batch_bytes = if (HEAD_BYTES..rest.len()).contains(&said) { said } else { rest.len() };
        let (batch, behind) = rest.split_at_mut(batch_bytes);
        let length = i32::try_from(batch_bytes - 12).expect("inputs are small");
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        rest = behind;
    }
    all
}

/// A record, copied out of its batch.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    offset: Offset,
    timestamp: Timestamp,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The records of a sound batch.
fn records(batch: &[u8]) -> Vec<Owned> {
    let mut records = Records::open(batch, LIMITS.decompressed_bytes_max).expect("its records were read before");
    let mut all = Vec::new();
    while let Some(record) = records.next_record().expect("its records were read before") {
        all.push(Owned {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        });
    }
    all
}

/// What a producer sent is refused, or all that is said of it is true.
fn producer(bytes: &[u8]) {
    let batch = match verify(Bytes::copy_from_slice(bytes), &LIMITS) {
        Ok(batch) => batch,
        Err(error) => {
            assert!(error.error_code() > 0 && !error.to_string().is_empty());
            return;
        }
    };
    let all = claims(&batch);
    assert!(batch.body()[..] == bytes[HEAD_BYTES..], "records are not touched");

    let now = Timestamp(1_700_000_000_000);
    let stamped = claims(&batch.clone().with_log_append_time(now));
    assert!(stamped.iter().all(|record| record.timestamp == now));
    let unstamped = |records: &[Owned]| -> Vec<Owned> {
        records.iter().map(|record| Owned { timestamp: now, ..record.clone() }).collect()
    };
    assert_eq!(unstamped(&stamped), unstamped(&all));

    for codec in Codec::ALL {
        if let Ok(other) = batch.recompress(codec, None, &LIMITS) {
            assert_eq!(other.codec(), codec);
            assert_eq!(claims(&other), all, "the same records in {codec}");
        }
    }
}

/// Holds every fact about `batch` against its records, which are returned.
fn claims(batch: &VerifiedBatch) -> Vec<Owned> {
    let (base, epoch) = (Offset(1_000_000), LeaderEpoch(7));
    let stored = batch.to_bytes(base, epoch);
    let head = check(&stored).expect("length and checksum are right wherever it is placed");
    assert_eq!((head.base_offset, head.leader_epoch, head.batch_bytes()), (base, epoch, stored.len()));
    assert_eq!(batch.batch_bytes(), stored.len());

    let all = records(&stored);
    let offsets: Vec<i64> = all.iter().map(|record| record.offset.0 - base.0).collect();
    assert_eq!(offsets, (0..i64::from(batch.count())).collect::<Vec<_>>());
    assert_eq!(batch.has_null_key(), all.iter().any(|record| record.key.is_none()));
    let told = all.iter().map(|record| record.timestamp).filter(|timestamp| *timestamp != NO_TIMESTAMP);
    assert_eq!(batch.min_timestamp(), told.min());
    let largest = all.iter().map(|record| record.timestamp).max().expect("a batch holds a record").max(NO_TIMESTAMP);
    assert_eq!(batch.max_timestamp(), largest);
    let first_largest = all.iter().find(|record| record.timestamp == largest && largest != NO_TIMESTAMP);
    let expected = first_largest.map(|record| (record.offset, record.timestamp));
    assert_eq!(find_max_timestamp(&stored, &EVERYWHERE, LIMITS.decompressed_bytes_max), Ok(expected));
    let delta = expected.map_or(0, |(offset, _)| offset.0 - base.0);
    assert_eq!(i64::from(batch.max_timestamp_offset_delta()), delta);

    for sought in &all {
        for target in [sought.timestamp.0.saturating_sub(1), sought.timestamp.0, sought.timestamp.0.saturating_add(1)] {
            let late = |record: &&Owned| record.offset >= sought.offset && record.timestamp.0 >= target;
            // The head alone answers where no record of the batch can be late enough.
            let expected = all.iter().filter(|_| largest.0 >= target).find(late);
            let found = find_timestamp(
                &stored,
                &(sought.offset..Offset(i64::MAX)),
                Timestamp(target),
                LIMITS.decompressed_bytes_max,
            );
            assert_eq!(found, Ok(expected.map(|record| (record.offset, record.timestamp))));
        }
        // A batch of thousands of empty records would be searched thousands of times.
        if sought.offset.0 - base.0 >= 8 {
            break;
        }
    }
    all
}

/// A stored batch that nobody has vouched for is walked to its end or to an error.
fn stored(bytes: &[u8]) {
    let Ok(mut records) = Records::open(bytes, LIMITS.decompressed_bytes_max) else { return };
    let mut count = 0;
    while let Ok(Some(record)) = records.next_record() {
        let _ = record.headers.count();
        count += 1;
    }
    assert!(count <= records.head().count.max(0));
    let _ = find_timestamp(bytes, &(Offset(3)..Offset(9)), Timestamp(7), LIMITS.decompressed_bytes_max);
    let _ = find_max_timestamp(bytes, &EVERYWHERE, LIMITS.decompressed_bytes_max);
}

/// A run of batches is walked to its end or to an error, and what is cut out of it are whole batches.
fn run(bytes: &[u8]) {
    let mut position = 0;
    let mut edges = vec![0];
    for found in Scan::heads(bytes) {
        match found {
            Ok(found) => {
                assert_eq!(found.range.start, position);
                position = found.range.end;
                edges.push(position);
            }
            Err(error) => assert_eq!(error.position, position),
        }
    }
    let checked = Scan::checked(bytes).take_while(Result::is_ok).count();
    assert!(checked < edges.len(), "no batch passes for its checksum");

    let mut entropy = Entropy::new(bytes.get(3..).unwrap_or_default());
    for _ in 0..4 {
        let (from, below) = (Offset(entropy.below(100) as i64), Offset(entropy.below(200) as i64));
        let bytes_max = entropy.below(1000);
        if let Ok(Some(range)) = slice(bytes, from, below, bytes_max) {
            assert!(edges.contains(&range.start) && edges.contains(&range.end));
            let batches: Vec<_> = Scan::heads(&bytes[range.clone()]).map(|found| found.expect("whole").head).collect();
            assert!(batches.iter().all(|head| head.last_offset() >= from && head.base_offset < below));
            assert!(range.len() <= bytes_max || batches.len() == 1);
        }
    }
}

/// No more comes out than is allowed, and what is compressed comes out as it was.
fn compressed(codec: Codec, bytes: &[u8]) {
    const LIMIT: usize = 32 << 10;
    if let Ok(all) = Decompressor::new(codec, bytes, LIMIT).and_then(Decompressor::read_all) {
        assert!(all.len() <= LIMIT);
    }
    if codec != Codec::None && bytes.len() <= LIMIT {
        let packed = chronik_core::batch::compress(codec, bytes);
        let unpacked = Decompressor::new(codec, &packed, LIMIT).and_then(Decompressor::read_all);
        assert!(unpacked.as_deref() == Ok(bytes), "{codec}");
    }
}
