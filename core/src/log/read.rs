//! Reading what lies on disk: plans made by the sequencer, carried out by any thread that may block.
//!
//! A plan names one segment and how much of it may be trusted. Whoever carries it out looks the place up in the
//! segment's index, reads whole chunks, checks them, and cuts out the batches that were asked for.

use std::cmp::Reverse;
use std::ops::Range;

use bytes::Bytes;

use super::index::{CHUNK_BYTES, ENTRY_BYTES, Entry};
use super::mend::{Mend, Mended};
use super::search::{Rank, Wanted};
use crate::batch::{self, HEAD_BYTES, Scan};
use crate::boundary::{DiskError, FileName, Files, SegmentName};
use crate::ids::Offset;
use crate::time::Timestamp;

/// A read of one segment, or of a batch in memory that must be opened.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    /// Where to look.
    pub place: Place,
    /// What for.
    pub sought: Sought,
}

/// Where to look.
#[derive(Clone, Debug)]
pub enum Place {
    /// The first `entries` entries of a segment's index and the chunks that they name.
    Segment {
        /// Which segment.
        segment: SegmentName,
        /// How many entries of its index are written.
        entries: u64,
    },
    /// A batch in memory.
    Memory(Bytes),
}

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The whole batches from the one that holds an offset on.
    Batches {
        /// The offset.
        from: Offset,
        /// Batches from this offset on are not wanted.
        below: Offset,
        /// At most so many bytes.
        max_bytes: usize,
        /// Whether the first batch is given even if it is longer than that (KIP-74).
        at_least_one: bool,
    },
    /// One record by its timestamp.
    Record {
        /// Which.
        wanted: Wanted,
        /// Records before this offset do not count.
        from: Offset,
        /// Records from this offset on do not count.
        below: Offset,
    },
    /// Records, opened: those that the next batches hold.
    Records {
        /// Records before this offset are not wanted.
        from: Offset,
        /// Records from this offset on are not wanted.
        below: Offset,
        /// Of at most so many bytes of batches, but always of one whole batch.
        max_bytes: usize,
    },
    /// Damage, in the chunks from this place on: about a mebibyte of them, at least one.
    Damage(Edge),
    /// Damaged entries of the index, to make them again: the next step of that.
    Index(Mend),
}

/// A record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where it stands.
    pub offset: Offset,
    /// When it was made, or appended where its batch says so.
    pub timestamp: Timestamp,
    /// What it is about.
    pub key: Option<Bytes>,
    /// What it says; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// A place in a segment between two of its chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// How many entries of the index, and so chunks, lie before it.
    pub entries: u64,
    /// How many bytes of the segment lie before it.
    pub position: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Whole batches, one after another.
    Batches(Bytes),
    /// A record.
    Record(Offset, Timestamp),
    /// Records in their order, and the offset to go on from. There may be none of them before that offset.
    Records(Vec<Opened>, Offset),
    /// There is no such record here.
    Nothing,
    /// What lies before this place, from where the search began, is what was written.
    Sound(Edge),
    /// Entries of the index that were damaged, made again.
    Mended(Mended),
}

/// How many records are opened at once, and how many bytes they come to, unless one alone has more: what is compressed
/// may hold far more than its bytes.
const OPENED_AT_ONCE: usize = 4096;
const OPENED_BYTES_MAX: usize = 1 << 20;

/// How many index entries are read at once.
const ENTRIES_AT_ONCE: u64 = 256;

/// A chunk of more bytes is mostly its last batch: where not all of the chunk fits, hardly anything of it does.
const LONG_CHUNK: usize = 2 * CHUNK_BYTES;

/// How many bytes are checked for damage at once, unless one chunk has more: what a disk reads in a few milliseconds.
const CHECKED_AT_ONCE: u64 = 1 << 20;

impl ReadPlan {
    /// Carries the plan out.
    ///
    /// # Errors
    /// [`DiskError::Io`] where reading fails, [`DiskError::Corrupt`] where what is read is not what was written.
    pub fn run(&self, files: &dyn Files) -> Result<ReadOutcome, DiskError> {
        match &self.place {
            Place::Memory(batch) => Ok(match self.sought {
                Sought::Batches { .. } => ReadOutcome::Batches(batch.clone()),
                Sought::Record { wanted, from, below } => record(find(batch, wanted, &(from..below))),
                Sought::Records { from, below, .. } => open(batch, &(from..below)),
                Sought::Damage(_) | Sought::Index(_) => ReadOutcome::Nothing,
            }),
            Place::Segment { segment, entries } => {
                let segment = Segment { files, name: *segment, entries: *entries };
                match self.sought {
                    Sought::Batches { from, below, max_bytes, at_least_one } => {
                        let found = segment.batches(from, below, max_bytes)?;
                        let is_too_long = matches!(&found, ReadOutcome::Batches(bytes) if bytes.len() > max_bytes);
                        Ok(if is_too_long && !at_least_one { ReadOutcome::Nothing } else { found })
                    }
                    Sought::Record { wanted: Wanted::AtOrAfter(target), from, below } => {
                        segment.at_or_after(target, &(from..below)).map(record)
                    }
                    Sought::Record { wanted: Wanted::Largest, from, below } => {
                        segment.largest(&(from..below)).map(record)
                    }
                    Sought::Records { from, below, max_bytes } => {
                        Ok(match segment.batches(from, below, max_bytes)? {
                            ReadOutcome::Batches(batches) => open(&batches, &(from..below)),
                            other => other,
                        })
                    }
                    Sought::Damage(from) => segment.check(from).map(ReadOutcome::Sound),
                    Sought::Index(mend) => segment.mend(mend).map(ReadOutcome::Mended),
                }
            }
        }
    }
}

/// The chunks of a segment with so many index entries from a place on, about a mebibyte of them and at least one, checked;
/// and where they end. Nothing where the place is the segment's end.
///
/// # Errors
/// As [`ReadPlan::run`].
pub(crate) fn read_chunks(
    files: &dyn Files,
    name: SegmentName,
    entries: u64,
    from: Edge,
) -> Result<(Bytes, Edge), DiskError> {
    Segment { files, name, entries }.next_chunks(from)
}

/// What a compressed batch may come to when it is opened, in bytes. Batches were within such a bound when they came.
pub(crate) const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

/// The record that is wanted of a batch. Its bytes have been verified when they came and again when they were read, so
/// one that cannot be opened holds no such record.
fn find(batch: &[u8], wanted: Wanted, within: &Range<Offset>) -> Option<(Offset, Timestamp)> {
    let found = match wanted {
        Wanted::AtOrAfter(target) => batch::find_timestamp(batch, within, target, DECOMPRESSED_BYTES_MAX),
        Wanted::Largest => batch::find_max_timestamp(batch, within, DECOMPRESSED_BYTES_MAX),
    };
    found.ok().flatten()
}

/// Opens batches up to a bound. One that cannot be opened holds no records, as in [`find`]; markers are none.
fn open(batches: &[u8], within: &Range<Offset>) -> ReadOutcome {
    let mut opened = Vec::new();
    let mut bytes = 0;
    let mut next = within.start;
    for found in Scan::heads(batches).filter_map(Result::ok) {
        let after = Offset(found.head.last_offset().0 + 1);
        if after <= next {
            continue;
        }
        if found.head.attributes.is_control() {
            next = after;
            continue;
        }
        let mut records = batch::Records::open(&batches[found.range], DECOMPRESSED_BYTES_MAX).ok();
        while let Some(record) = records.as_mut().and_then(|records| records.next_record().ok().flatten()) {
            if record.offset < next || record.offset >= within.end {
                continue;
            }
            let copy = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice);
            let one = Opened {
                offset: record.offset,
                timestamp: record.timestamp,
                key: copy(record.key),
                value: copy(record.value),
            };
            let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
            bytes += length(&one.key) + length(&one.value);
            next = Offset(record.offset.0 + 1);
            opened.push(one);
            if opened.len() >= OPENED_AT_ONCE || bytes >= OPENED_BYTES_MAX {
                return ReadOutcome::Records(opened, next);
            }
        }
        next = after;
    }
    if next == within.start { ReadOutcome::Nothing } else { ReadOutcome::Records(opened, next.min(within.end)) }
}

fn record(found: Option<(Offset, Timestamp)>) -> ReadOutcome {
    found.map_or(ReadOutcome::Nothing, |(offset, timestamp)| ReadOutcome::Record(offset, timestamp))
}

/// A segment being read.
pub(super) struct Segment<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) name: SegmentName,
    pub(super) entries: u64,
}

impl Segment<'_> {
    /// Reads what is said to be there. How much that is may come from a damaged index, so no memory is reserved for it
    /// before the file is known to be long enough.
    pub(super) fn read(&self, file: FileName, position: u64, bytes: usize) -> Result<Bytes, DiskError> {
        let corrupt = |left: u64| {
            let text = format!("{bytes} bytes were written here, {left} are left");
            Err(DiskError::Corrupt(file, position, text))
        };
        let length = match (self.files.len(file)?, file) {
            (Some(length), _) => length,
            // It can be made again.
            (None, FileName::Index(_)) => 0,
            (None, _) => return Err(DiskError::Io(file, "there is no such file".into())),
        };
        let left = length.saturating_sub(position);
        if left < bytes as u64 {
            return corrupt(left);
        }
        let read = self.files.read(file, position, bytes)?;
        if read.len() < bytes { corrupt(read.len() as u64) } else { Ok(read) }
    }

    /// How many entries are read at once from one on.
    pub(super) fn count_from(&self, first: u64) -> usize {
        usize::try_from((self.entries - first).min(ENTRIES_AT_ONCE)).expect("small")
    }

    /// Entries `first..` of the index, at most [`ENTRIES_AT_ONCE`].
    fn entries_from(&self, first: u64) -> Result<Vec<Entry>, DiskError> {
        let file = FileName::Index(self.name);
        let position = first * ENTRY_BYTES as u64;
        let bytes = self.read(file, position, self.count_from(first) * ENTRY_BYTES)?;
        bytes
            .chunks_exact(ENTRY_BYTES)
            .enumerate()
            .map(|(index, bytes)| {
                Entry::decode(bytes.try_into().expect("a whole entry")).ok_or_else(|| {
                    let at = position + (index * ENTRY_BYTES) as u64;
                    DiskError::Corrupt(file, at, "the checksum of an index entry does not match".into())
                })
            })
            .collect()
    }

    fn entry(&self, index: u64) -> Result<Entry, DiskError> {
        let one = Segment { files: self.files, name: self.name, entries: index + 1 };
        Ok(one.entries_from(index)?[0])
    }

    /// The index of the last entry that begins at or below `offset`, or 0.
    fn find(&self, offset: Offset) -> Result<u64, DiskError> {
        let (mut low, mut high) = (0, self.entries);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.offset <= offset.0 { low = middle } else { high = middle }
        }
        Ok(low)
    }

    /// Checks that the entries from `first` on follow one another, the first of them at `position` of the segment.
    fn check_order(&self, first: u64, mut position: u64, entries: &[Entry]) -> Result<(), DiskError> {
        for (at, entry) in (first..).zip(entries) {
            if entry.position != position {
                let text = format!("byte {position} of the segment belongs to no chunk");
                return Err(DiskError::Corrupt(FileName::Index(self.name), at * ENTRY_BYTES as u64, text));
            }
            position = position.saturating_add(entry.bytes.into());
        }
        Ok(())
    }

    /// The bytes of consecutive chunks, checked.
    fn chunks(&self, entries: &[Entry]) -> Result<Bytes, DiskError> {
        let file = FileName::Segment(self.name);
        let start = entries[0].position;
        let total: usize = entries.iter().map(|entry| entry.bytes as usize).sum();
        let bytes = self.read(file, start, total)?;
        let mut at = 0;
        for entry in entries {
            let corrupt = |text: String| DiskError::Corrupt(file, start + at as u64, text);
            let chunk = bytes.slice(at..at + entry.bytes as usize);
            let mut heads = crc32fast::Hasher::new();
            for found in Scan::checked(&chunk) {
                let found = found.map_err(|error| {
                    let position = start + (at + error.position) as u64;
                    DiskError::Corrupt(file, position, error.error.to_string())
                })?;
                heads.update(&chunk[found.range.start..found.range.start + HEAD_BYTES]);
            }
            if heads.finalize() != entry.heads {
                return Err(corrupt("the heads of its batches are not those that were written".into()));
            }
            at += entry.bytes as usize;
        }
        Ok(bytes)
    }

    fn batches(&self, from: Offset, below: Offset, max_bytes: usize) -> Result<ReadOutcome, DiskError> {
        if self.entries == 0 {
            return Ok(ReadOutcome::Nothing);
        }
        let first = self.find(from)?;
        let mut wanted = Vec::new();
        let mut total = 0;
        let mut next = first;
        'reading: while next < self.entries {
            for entry in self.entries_from(next)? {
                if entry.offset >= below.0 {
                    break 'reading;
                }
                // A chunk in whose middle it begins may hold little from there on, so one more is read.
                let has_some = wanted.len() > 1 || wanted.first().is_some_and(|first: &Entry| first.offset >= from.0);
                let is_too_long = entry.bytes as usize > LONG_CHUNK && total + entry.bytes as usize > max_bytes;
                if has_some && (total >= max_bytes || is_too_long) {
                    break 'reading;
                }
                next += 1;
                // Where an index was made again, some chunks hold nothing.
                if entry.bytes > 0 {
                    total += entry.bytes as usize;
                    wanted.push(entry);
                }
            }
        }
        if wanted.is_empty() {
            return Ok(ReadOutcome::Nothing);
        }
        self.check_order(first, wanted[0].position, &wanted)?;
        let bytes = self.chunks(&wanted)?;
        let range = batch::slice(&bytes, from, below, max_bytes).map_err(|error| {
            let position = wanted[0].position + error.position as u64;
            DiskError::Corrupt(FileName::Segment(self.name), position, error.error.to_string())
        })?;
        Ok(range.map_or(ReadOutcome::Nothing, |range| {
            // A slice keeps alive all that was read.
            let is_little = range.len() < bytes.len() / 2;
            let batches = bytes.slice(range);
            ReadOutcome::Batches(if is_little { Bytes::copy_from_slice(&batches) } else { batches })
        }))
    }

    /// Checks the next chunks. Returns where they end.
    fn check(&self, from: Edge) -> Result<Edge, DiskError> {
        self.next_chunks(from).map(|(_, next)| next)
    }

    /// The next chunks, checked, and where they end.
    fn next_chunks(&self, from: Edge) -> Result<(Bytes, Edge), DiskError> {
        let mut next = from;
        let mut wanted = Vec::new();
        for entry in self.entries_from(from.entries)? {
            let end = next.position + u64::from(entry.bytes);
            if !wanted.is_empty() && end - from.position > CHECKED_AT_ONCE {
                break;
            }
            next = Edge { entries: next.entries + 1, position: end };
            wanted.push(entry);
        }
        if wanted.is_empty() {
            return Ok((Bytes::new(), next));
        }
        self.check_order(from.entries, from.position, &wanted)?;
        Ok((self.chunks(&wanted)?, next))
    }

    /// Calls `visit` for each entry whose chunk may hold a record within some offsets, until it answers something.
    fn find_entry<T>(
        &self,
        within: &Range<Offset>,
        mut visit: impl FnMut(&Entry) -> Result<Option<T>, DiskError>,
    ) -> Result<Option<T>, DiskError> {
        let mut next = if self.entries == 0 { 0 } else { self.find(within.start)? };
        while next < self.entries {
            for entry in self.entries_from(next)? {
                if entry.offset >= within.end.0 {
                    return Ok(None);
                }
                if let Some(found) = visit(&entry)? {
                    return Ok(Some(found));
                }
                next += 1;
            }
        }
        Ok(None)
    }

    fn at_or_after(&self, target: Timestamp, within: &Range<Offset>) -> Result<Option<(Offset, Timestamp)>, DiskError> {
        self.find_entry(within, |entry| {
            if entry.max_timestamp < target.0 {
                return Ok(None);
            }
            let bytes = self.chunks(std::slice::from_ref(entry))?;
            Ok(Scan::heads(&bytes)
                .filter_map(Result::ok)
                .filter(|found| found.head.max_timestamp >= target)
                .find_map(|found| find(&bytes[found.range], Wanted::AtOrAfter(target), within)))
        })
    }

    /// The first record with the largest timestamp. Looks into the chunks that may have it, the most promising first:
    /// that is one, and one more for each edge of `within` in the middle of a chunk. Finding the next takes another walk
    /// through the index instead of memory that would grow with it.
    fn largest(&self, within: &Range<Offset>) -> Result<Option<(Offset, Timestamp)>, DiskError> {
        let mut best: Option<Rank> = None;
        let mut last: Option<Rank> = None;
        loop {
            let mut next: Option<(Rank, Entry)> = None;
            self.find_entry(within, |entry| {
                let bound = (Timestamp(entry.max_timestamp), Reverse(Offset(entry.offset)));
                let is_new = last.is_none_or(|last| bound < last);
                if is_new && Some(bound) > best && next.is_none_or(|(known, _)| bound > known) {
                    next = Some((bound, *entry));
                }
                Ok(None::<()>)
            })?;
            let Some((bound, entry)) = next else { break };
            last = Some(bound);
            let bytes = self.chunks(std::slice::from_ref(&entry))?;
            best = best.max(largest_in(&bytes, within, best));
        }
        Ok(best.map(|(timestamp, Reverse(offset))| (offset, timestamp)))
    }
}

/// The first record of a chunk with the largest timestamp, where it comes before `best`.
fn largest_in(chunk: &[u8], within: &Range<Offset>, mut best: Option<Rank>) -> Option<Rank> {
    let heads = Scan::heads(chunk).filter_map(Result::ok);
    let mut batches: Vec<_> =
        heads.map(|found| ((found.head.max_timestamp, Reverse(found.head.base_offset)), found.range)).collect();
    // The most promising first, so that few are opened.
    batches.sort_unstable_by_key(|(bound, _)| Reverse(*bound));
    for (bound, range) in batches {
        if Some(bound) <= best {
            break;
        }
        let found = find(&chunk[range], Wanted::Largest, within);
        best = best.max(found.map(|(offset, timestamp)| (timestamp, Reverse(offset))));
    }
    best
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::batch::{BatchBuilder, Codec};
    use crate::ids::{LeaderEpoch, TopicPartition, Uuid};
    use crate::testing::MemoryFiles;

    #[test]
    fn an_index_that_claims_more_than_its_segment_has_is_damage_and_reserves_no_memory() {
        let partition = TopicPartition { topic: Uuid([1; 16]), partition: 0 };
        let segment = SegmentName::appended(partition, Offset(0));
        for position in [0, 500, u64::MAX - u64::from(u32::MAX)] {
            let files = MemoryFiles::default();
            let mut index = BytesMut::new();
            // Its own checksum is right.
            Entry { offset: 0, max_timestamp: 0, position, bytes: u32::MAX, heads: 0 }.encode(&mut index);
            files.write_at(FileName::Index(segment), 0, &[index.freeze()]).expect("memory has room");
            files.write_at(FileName::Segment(segment), 0, &[Bytes::from_static(&[0; 1000])]).expect("memory has room");
            let batches = Sought::Batches { from: Offset(0), below: Offset(9), max_bytes: 1, at_least_one: true };
            let record = |wanted| Sought::Record { wanted, from: Offset(0), below: Offset(9) };
            let [first, largest] = [Wanted::AtOrAfter(Timestamp(0)), Wanted::Largest].map(record);
            for sought in [batches, first, largest, Sought::Damage(Edge::default())] {
                let plan = ReadPlan { place: Place::Segment { segment, entries: 1 }, sought };
                let found = plan.run(&files);
                assert!(matches!(found, Err(DiskError::Corrupt(..))), "{found:?}");
            }
            assert!(files.largest_read() <= 1000);
        }
    }

    #[test]
    fn records_are_opened_from_the_middle_of_a_batch_on_and_past_gaps_and_markers() {
        let batch = |base: i64, keys: &[&str]| {
            let builder = BatchBuilder::new().place(Offset(base), LeaderEpoch(1));
            keys.iter().fold(builder, |builder, key| builder.record(Timestamp(7), Some(key.as_bytes()), None))
        };
        let marker = batch(20, &["marker"]).control();
        let batches: Bytes =
            [batch(0, &["a", "b", "c"]).build(), batch(10, &["d", "e"]).codec(Codec::Lz4).build(), marker.build()]
                .concat()
                .into();
        let opened = |from, below| {
            let sought = Sought::Records { from: Offset(from), below: Offset(below), max_bytes: 1 << 20 };
            let plan = ReadPlan { place: Place::Memory(batches.clone()), sought };
            match plan.run(&MemoryFiles::default()).expect("memory does not fail") {
                ReadOutcome::Records(records, next) => {
                    assert!(records.iter().all(|record| record.timestamp == Timestamp(7) && record.value.is_none()));
                    let keys = records.into_iter().map(|record| record.key.expect("all have keys"));
                    Some((keys.map(|key| String::from_utf8_lossy(&key).into_owned()).collect::<String>(), next.0))
                }
                ReadOutcome::Nothing => None,
                other => panic!("another outcome: {other:?}"),
            }
        };
        assert_eq!(opened(0, 100), Some(("abcde".to_owned(), 21)));
        assert_eq!(opened(1, 11), Some(("bcd".to_owned(), 11)));
        assert_eq!(opened(5, 100), Some(("de".to_owned(), 21)), "the gap is passed over");
        assert_eq!(opened(20, 100), Some((String::new(), 21)), "a marker is no record");
        assert_eq!(opened(21, 100), None);
    }

    #[test]
    fn many_records_are_opened_some_at_a_time_and_each_of_them_once() {
        let records = 3 * OPENED_AT_ONCE;
        let builder =
            (0..records).fold(BatchBuilder::new(), |builder, _| builder.record(Timestamp(7), Some(b"k"), None));
        let place = Place::Memory(builder.build());
        let below = Offset(i64::try_from(records).expect("few"));
        let mut from = Offset(0);
        let mut parts = 0;
        while from < below {
            let plan = ReadPlan { place: place.clone(), sought: Sought::Records { from, below, max_bytes: 1 } };
            let Ok(ReadOutcome::Records(opened, next)) = plan.run(&MemoryFiles::default()) else { panic!("records") };
            let offsets = opened.iter().map(|record| record.offset.0);
            assert!(offsets.eq(from.0..next.0));
            (from, parts) = (next, parts + 1);
        }
        assert_eq!(parts, 3);
    }
}
