//! Reads of segments: whatever the disk did to them, the answer is right or an error.

use std::cmp::Reverse;

use bytes::Bytes;
use chronik_core::batch::{HEAD_BYTES, Scan};
use chronik_core::boundary::{DiskError, FileName, SegmentName};
use chronik_core::ids::Offset;
use chronik_core::log::{Place, Read, ReadOutcome, ReadPlan, Sought, Wanted};
use chronik_core::time::Timestamp;

use crate::batch::sealed;
use crate::files::MemoryFiles;
use crate::grown::{Grown, PARTITION, Stored};
use crate::wire_bodies::entropy::Entropy;

/// The first byte chooses: even, and the rest grows a log, which is read from its files before and after these are
/// damaged; odd, and the rest is files.
pub fn body(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 { damaged(&mut Entropy::new(rest)) } else { made(rest) }
}

/// A read of a log, and what it found while the disk was sound.
struct Attempt {
    plans: Vec<ReadPlan>,
    right: Vec<ReadOutcome>,
}

fn damaged(entropy: &mut Entropy<'_>) {
    let mut grown = Grown::new(entropy);
    grown.flush();
    grown.sync();
    while grown.log.evict_one().is_some() {}
    let mut attempts = Vec::new();
    for _ in 0..4 {
        attempts.push(fetch(&grown, entropy));
        let wanted = match entropy.below(52) {
            51 => Wanted::Largest,
            time => Wanted::AtOrAfter(Timestamp(time as i64 - 1)),
        };
        attempts.push(search(&grown, wanted));
    }
    grown.files.damage(entropy);
    for Attempt { plans, right } in attempts {
        for (plan, right) in plans.iter().zip(right) {
            match plan.run(&grown.files) {
                Ok(outcome) => assert!(outcome == right, "{plan:?} finds something else in damaged files"),
                Err(DiskError::Corrupt(..)) => {}
                Err(error) => panic!("{plan:?}: damage is called {error:?}"),
            }
        }
    }
}

/// Reads from some offset, which must find the batches that were appended there.
fn fetch(grown: &Grown, entropy: &mut Entropy<'_>) -> Attempt {
    let (start, end) = (grown.log.start(), grown.log.end());
    let from = Offset(start.0 + entropy.below(1 + (end.0 - start.0) as usize) as i64);
    let max_bytes = [1, 100, 1000, 20_000, 1 << 20][entropy.below(5)];
    // A limit is an end of a batch, as the high watermark is.
    let limit = match entropy.below(grown.batches.len() + 1) {
        0 => end,
        at => Offset(grown.batches[at - 1].last.0 + 1),
    };
    let plan = match grown.log.read(from, limit, max_bytes) {
        Read::Disk(plan, _) => plan,
        Read::Nothing => {
            let is_there = |batch: &&Stored| from <= batch.last && batch.base < limit;
            assert_eq!(grown.batches.iter().find(is_there).map(|batch| batch.base), None, "from {from} to {limit}");
            return Attempt { plans: Vec::new(), right: Vec::new() };
        }
        Read::Memory(..) => {
            assert!(from >= limit || grown.log.tail_bytes() > 0, "nothing is in memory any more");
            return Attempt { plans: Vec::new(), right: Vec::new() };
        }
    };
    let found = plan.run(&grown.files).expect("a sound disk is read");
    let mut holding =
        grown.batches.iter().skip_while(|batch| batch.last < from).take_while(|batch| batch.base < limit).peekable();
    let ReadOutcome::Batches(bytes) = &found else {
        assert_eq!(holding.peek().map(|batch| batch.base), None, "there are batches from {from} to {limit}");
        return Attempt { plans: vec![plan], right: vec![found] };
    };
    let mut rest = bytes.clone();
    for Stored { bytes: expected, base, .. } in holding {
        if rest.is_empty() {
            break;
        }
        assert!(rest.starts_with(expected), "the batch at {base} was appended otherwise");
        rest = rest.slice(expected.len()..);
    }
    assert!(rest.is_empty() && !bytes.is_empty(), "whole batches below {limit}, at least one");
    let first = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize + 12;
    assert!(bytes.len() <= max_bytes || bytes.len() == first, "no more than {max_bytes} bytes but for one batch");
    Attempt { plans: vec![plan], right: vec![found] }
}

/// Searches for a record by its timestamp.
fn search(grown: &Grown, wanted: Wanted) -> Attempt {
    let mut search = grown.log.search(wanted, grown.log.durable_end());
    let (mut plans, mut right) = (Vec::new(), Vec::new());
    while let Some(plan) = search.next_plan() {
        let found = plan.run(&grown.files).expect("a sound disk is read");
        search.take(&found);
        plans.push(plan);
        right.push(found);
    }
    let records = grown.batches.iter().flat_map(|batch| {
        let offsets = (batch.base.0..).map(Offset);
        offsets.zip(batch.timestamps.iter().map(|timestamp| Timestamp(*timestamp)))
    });
    let mut records = records.filter(|(offset, _)| *offset >= grown.log.start());
    let expected = match wanted {
        Wanted::AtOrAfter(target) => records.find(|(_, timestamp)| *timestamp >= target),
        Wanted::Largest => {
            let told = records.filter(|(_, timestamp)| *timestamp >= Timestamp(0));
            told.max_by_key(|(offset, timestamp)| (*timestamp, Reverse(*offset)))
        }
    };
    assert_eq!(search.found(), expected, "{wanted:?}");
    Attempt { plans, right }
}

/// Bytes that were never written by us: their first two say how many entries the index has, these follow, 32 bytes
/// each, and then the segment. Checksums are mended, lengths are kept below what a segment can hold.
fn made(data: &[u8]) {
    let mut entropy = Entropy::new(data);
    let entries = entropy.below(20);
    let (from, below) = (Offset(entropy.below(50) as i64), Offset(entropy.below(100) as i64));
    let (max_bytes, target) = (entropy.below(2000), Timestamp(entropy.below(1000) as i64));
    let rest = data.get(10..).unwrap_or_default();
    let (index, segment) = rest.split_at((32 * entries).min(rest.len()));
    let segment = sealed(segment);
    let index: Vec<u8> = index.chunks_exact(32).flat_map(|entry| mended(entry, &segment)).collect();

    let name = SegmentName::appended(PARTITION, Offset(0));
    let files = MemoryFiles::default();
    let entries = (index.len() / 40) as u64;
    files.put(FileName::Segment(name), segment);
    files.put(FileName::Index(name), index);
    let place = Place::Segment { segment: name, entries };
    let batches =
        ReadPlan { place: place.clone(), sought: Sought::Batches { from, below, max_bytes, at_least_one: true } };
    if let Ok(ReadOutcome::Batches(bytes)) = batches.run(&files) {
        for found in Scan::checked(&bytes) {
            let head = found.expect("what is read from a segment has been checked").head;
            assert!(head.last_offset() >= from && head.base_offset < below);
        }
    }
    for wanted in [Wanted::AtOrAfter(target), Wanted::Largest] {
        let plan = ReadPlan { place: place.clone(), sought: Sought::Record { wanted, from, below } };
        if let Ok(ReadOutcome::Record(offset, found)) = plan.run(&files) {
            assert!((from..below).contains(&offset));
            assert!(found >= target || wanted == Wanted::Largest);
        }
    }
}

/// An index entry whose checksums, its own and that of the heads, are right for `segment`.
fn mended(entry: &[u8], segment: &[u8]) -> Vec<u8> {
    let mut entry = entry.to_vec();
    // The checksum of the heads comes last, so that an entry without it is cut from the bytes in one piece.
    entry[26..28].fill(0);
    let word: [u8; 8] = entry[16..24].try_into().expect("eight bytes");
    let start = usize::try_from(u64::from_le_bytes(word)).unwrap_or(usize::MAX).min(segment.len());
    let bytes = usize::from(u16::from_le_bytes([entry[24], entry[25]]));
    let chunk = &segment[start..segment.len().min(start + bytes)];
    let mut heads = crc32fast::Hasher::new();
    for found in Scan::heads(chunk).map_while(Result::ok) {
        heads.update(&chunk[found.range.start..found.range.start + HEAD_BYTES]);
    }
    entry[28..32].copy_from_slice(&heads.finalize().to_le_bytes());
    entry.extend([0; 4]);
    let crc = crc32fast::hash(&entry);
    entry.extend(crc.to_le_bytes());
    entry
}

/// The input that is read as these entries of an index, 32 bytes each, and this segment.
pub fn input(entries: &[[u8; 32]], segment: &Bytes) -> Vec<u8> {
    let entry_count = u16::try_from((entries.len() << 16).div_ceil(20)).expect("at most 19");
    let mut data = vec![1];
    data.extend(entry_count.to_be_bytes());
    // From offset 0 to 99, 1999 bytes, from timestamp 0 on.
    data.extend([0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    data.extend(entries.concat());
    data.extend_from_slice(segment);
    data
}
