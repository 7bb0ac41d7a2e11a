//! An index made again from its segment, where entries of it are damaged.
//!
//! What is sound of an index stays, since its checksums vouch for the heads of batches better than the batches do. A run
//! of damaged entries is made again from the batches between the sound ones around it: each batch's own checksum, the
//! order of offsets and the sum of lengths must agree, otherwise it is the segment that is damaged.
//!
//! A log counts the entries of each index, and checkpoints do, so the run gets as many entries as it had. Chunks end as
//! early as they may; one that a flush ended earlier shows in the batches no more, so the new chunks are never more
//! than the old ones, and entries without a byte make up the difference.
//!
//! [`Mend`] says how far this has come. It goes on by bounded steps, each of them a read, and carries no bytes along.

use bytes::{Bytes, BytesMut};

use super::Mark;
use super::index::{ENTRY_BYTES, Entry, Indexer};
use super::read::{Edge, Segment};
use crate::batch::{BatchError, HEAD_BYTES, Scan, ScanError};
use crate::boundary::{DiskError, FileName};
use crate::ids::Offset;

/// How many entries one step looks at: about a mebibyte.
const LOOKED_AT_ONCE: u64 = 1 << 15;
/// How many bytes of a segment one step reads, unless one chunk has more.
const READ_AT_ONCE: u64 = 1 << 20;
/// How many entries without a byte one step makes: as many as come from so many bytes.
const EMPTY_AT_ONCE: u64 = READ_AT_ONCE / ENTRY_BYTES as u64;

/// How far an index has been looked through and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mend {
    /// The entries before are sound, or sound again.
    at: Edge,
    /// Batches from there on begin at this offset or above it.
    from: Offset,
    stage: Stage,
    /// What of the segment is written.
    whole: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For the next damaged entry.
    Looking,
    /// Entries before this one are damaged: how far does that go?
    Damaged(u64),
    /// The damage ends here, where batches have reached this offset.
    Making(Edge, Offset),
}

/// What a step has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// Where in the index file the new entries belong, in bytes.
    pub position: u64,
    /// The new entries; empty where the step has only looked.
    pub entries: Bytes,
    /// How it goes on; `None` at the end.
    pub next: Option<Mend>,
}

impl Mended {
    /// How many entries these are.
    pub fn count(&self) -> u64 {
        (self.entries.len() / ENTRY_BYTES) as u64
    }
}

impl Mend {
    /// Begins with a segment from `base` on, of which so much is written.
    pub(super) fn new(base: Offset, whole: Mark) -> Mend {
        Mend { at: Edge::default(), from: base, stage: Stage::Looking, whole }
    }

    /// The next place of a chunk that lies where the one before ends, and within what is written.
    fn continues(&self, entry: &Entry, at: Edge, from: Offset) -> bool {
        let end = entry.position.checked_add(u64::from(entry.bytes));
        entry.position >= at.position
            && end.is_some_and(|end| end <= self.whole.bytes)
            && (from..=self.whole.to).contains(&Offset(entry.offset))
    }
}

impl Segment<'_> {
    /// One step of making the index whole.
    ///
    /// # Errors
    /// [`DiskError::Io`] where reading fails, [`DiskError::Corrupt`] where the segment itself is damaged.
    pub(super) fn mend(&self, mut mend: Mend) -> Result<Mended, DiskError> {
        let first = mend.at.entries;
        let (entries, has_more) = match mend.stage {
            Stage::Looking => (Bytes::new(), self.look(&mut mend)?),
            Stage::Damaged(before) => {
                self.look_behind(&mut mend, before)?;
                (Bytes::new(), true)
            }
            Stage::Making(end, to) => (self.make(&mut mend, end, to)?, true),
        };
        Ok(Mended { position: first * ENTRY_BYTES as u64, entries, next: has_more.then_some(mend) })
    }

    /// Passes over sound entries. Returns whether there is more to do.
    fn look(&self, mend: &mut Mend) -> Result<bool, DiskError> {
        let stop = mend.at.entries.saturating_add(LOOKED_AT_ONCE).min(self.entries);
        while mend.at.entries < stop {
            for entry in self.sound_entries(mend.at.entries)? {
                match entry.filter(|entry| entry.position == mend.at.position) {
                    Some(entry) if mend.continues(&entry, mend.at, mend.from) => {
                        let position = entry.position + u64::from(entry.bytes);
                        mend.at = Edge { entries: mend.at.entries + 1, position };
                        mend.from = Offset(entry.offset);
                    }
                    _ => {
                        mend.stage = Stage::Damaged(mend.at.entries + 1);
                        return Ok(true);
                    }
                }
            }
        }
        Ok(mend.at.entries < self.entries)
    }

    /// Looks for the next sound entry behind damage.
    fn look_behind(&self, mend: &mut Mend, before: u64) -> Result<(), DiskError> {
        let stop = before.saturating_add(LOOKED_AT_ONCE).min(self.entries);
        let mut next = before;
        while next < stop {
            for entry in self.sound_entries(next)? {
                if let Some(entry) = entry.filter(|entry| mend.continues(entry, mend.at, mend.from)) {
                    let end = Edge { entries: next, position: entry.position };
                    mend.stage = Stage::Making(end, Offset(entry.offset));
                    return Ok(());
                }
                next += 1;
            }
        }
        mend.stage = match next < self.entries {
            true => Stage::Damaged(next),
            false => Stage::Making(Edge { entries: self.entries, position: mend.whole.bytes }, mend.whole.to),
        };
        Ok(())
    }

    /// Makes the next entries of those up to `end`, where batches have reached the offset `to`.
    fn make(&self, mend: &mut Mend, end: Edge, to: Offset) -> Result<Bytes, DiskError> {
        let left = end.entries - mend.at.entries;
        if mend.at.position == end.position {
            let count = left.min(EMPTY_AT_ONCE);
            let mut entries = BytesMut::new();
            let position = end.position;
            let empty = Entry { offset: to.0, max_timestamp: -1, position, bytes: 0, heads: 0 };
            (0..count).for_each(|_| empty.encode(&mut entries));
            mend.at.entries += count;
            if count == left {
                (mend.from, mend.stage) = (to, Stage::Looking);
            }
            return Ok(entries.freeze());
        }
        let bytes = end.position - mend.at.position;
        let mut wanted = READ_AT_ONCE.min(bytes);
        loop {
            let (chunks, missing) = self.chunks_from(mend, wanted, wanted == bytes, to)?;
            let (entries, next, from) = chunks;
            let count = next.entries - mend.at.entries;
            if count == 0 {
                // The first chunk is longer than that.
                wanted = wanted.saturating_add(missing).min(bytes);
                continue;
            }
            if count > left {
                let text = format!("what lay in {left} chunks does not fit into them any more");
                return Err(DiskError::Corrupt(FileName::Segment(self.name), mend.at.position, text));
            }
            (mend.at, mend.from) = (next, from);
            return Ok(entries);
        }
    }

    /// The entries of the chunks in the next `bytes` of the segment, where they end, and the offset that follows; and
    /// how many bytes more would bring at least one batch more. The last chunk may be short where that `is_end`.
    fn chunks_from(
        &self,
        mend: &Mend,
        bytes: u64,
        is_end: bool,
        to: Offset,
    ) -> Result<((Bytes, Edge, Offset), u64), DiskError> {
        let file = FileName::Segment(self.name);
        let start = mend.at.position;
        let corrupt = |at: usize, text: String| DiskError::Corrupt(file, start + at as u64, text);
        let run = self.read(file, start, usize::try_from(bytes).expect("a segment is smaller than 4 GiB"))?;
        let mut indexer = Indexer::at(start);
        let mut ends = vec![(mend.at, mend.from)];
        let mut from = mend.from;
        let mut missing = READ_AT_ONCE;
        for found in Scan::checked(&run) {
            let found = match found {
                Ok(found) => found,
                Err(ScanError { error: BatchError::BytesEndInsideBatch { bytes, batch_bytes }, .. }) if !is_end => {
                    missing = (batch_bytes - bytes) as u64;
                    break;
                }
                Err(error) if error.is_cut() && !is_end => break,
                Err(ScanError { position, error }) => return Err(corrupt(position, error.to_string())),
            };
            let (at, head) = (found.range.start, found.head);
            if head.base_offset < from || head.next_offset() > to {
                let text = format!("a batch at offset {} where {from} to {to} belong", head.base_offset);
                return Err(corrupt(at, text));
            }
            let length = found.range.len() as u64;
            indexer.push(head.base_offset.0, head.max_timestamp_inside(), &run[at..at + HEAD_BYTES], length);
            from = head.next_offset();
            if indexer.is_closed() {
                let (edge, _) = ends[ends.len() - 1];
                ends.push((Edge { entries: edge.entries + 1, position: start + found.range.end as u64 }, from));
            }
        }
        if is_end && !indexer.is_closed() {
            let (edge, _) = ends[ends.len() - 1];
            ends.push((Edge { entries: edge.entries + 1, position: start + bytes }, from));
        }
        let (edge, from) = ends[ends.len() - 1];
        let count = usize::try_from(edge.entries - mend.at.entries).expect("they came from memory");
        let (entries, _) = indexer.finish();
        Ok(((entries.slice(..count * ENTRY_BYTES), edge, from), missing))
    }

    /// Entries `first..` of the index as far as they are sound and can be read, at most as many as are read at once.
    fn sound_entries(&self, first: u64) -> Result<Vec<Option<Entry>>, DiskError> {
        let file = FileName::Index(self.name);
        // What the file lacks stays zero here, and no entry is zeros: their checksum is not 0.
        let mut buffer = vec![0; self.count_from(first) * ENTRY_BYTES];
        if self.files.len(file)?.is_some() {
            // What cannot be read is made again as well.
            let read = self.files.read_at(file, first * ENTRY_BYTES as u64, &mut buffer);
            read.map_or_else(|_| buffer.fill(0), |_| ());
        }
        Ok(buffer.chunks_exact(ENTRY_BYTES).map(|bytes| Entry::decode(bytes.try_into().expect("whole"))).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::boundary::{Files, SegmentName};
    use crate::ids::{LeaderEpoch, TopicPartition, Uuid};
    use crate::log::{Place, ReadOutcome, ReadPlan, Sought};
    use crate::testing::MemoryFiles;
    use crate::time::Timestamp;

    const NAME: SegmentName = SegmentName {
        partition: TopicPartition { topic: Uuid([1; 16]), partition: 0 },
        base: Offset(5),
        generation: 0,
    };

    /// A segment that was written by several flushes of batches of these sizes, with gaps between their offsets.
    fn written(files: &MemoryFiles, flushes: &[Vec<usize>]) -> Mark {
        let mut mark = Mark { bytes: 0, entries: 0, to: NAME.base };
        for sizes in flushes {
            let mut indexer = Indexer::at(mark.bytes);
            for &size in sizes {
                let base = Offset(mark.to.0 + 3);
                let value = vec![b'x'; size];
                let batch = BatchBuilder::new()
                    .place(base, LeaderEpoch(1))
                    .record(Timestamp(base.0 * 10), None, Some(&value))
                    .build();
                indexer.push(base.0, base.0 * 10, &batch, batch.len() as u64);
                let at = mark.bytes;
                mark = Mark { bytes: at + batch.len() as u64, to: Offset(base.0 + 1), ..mark };
                files.write_at(FileName::Segment(NAME), at, &[batch]).expect("memory has room");
            }
            let (entries, count) = indexer.finish();
            let at = mark.entries * ENTRY_BYTES as u64;
            files.write_at(FileName::Index(NAME), at, &[entries]).expect("memory has room");
            mark.entries += count;
        }
        mark
    }

    fn plan(mark: Mark, sought: Sought) -> ReadPlan {
        ReadPlan { place: Place::Segment { segment: NAME, entries: mark.entries }, sought }
    }

    /// Mends to the end, and returns how many entries were made in how many steps.
    fn mend(files: &MemoryFiles, mark: Mark) -> Result<(u64, usize), DiskError> {
        let mut next = Some(Mend::new(NAME.base, mark));
        let (mut made, mut steps) = (0, 0);
        while let Some(mend) = next {
            let ReadOutcome::Mended(mended) = plan(mark, Sought::Index(mend)).run(files)? else { panic!("mended") };
            made += mended.count();
            steps += 1;
            if !mended.entries.is_empty() {
                files.write_at(FileName::Index(NAME), mended.position, &[mended.entries]).expect("memory has room");
            }
            next = mended.next;
        }
        Ok((made, steps))
    }

    /// Everything is found that there is, by offset and by the scrub.
    fn check(files: &MemoryFiles, mark: Mark, batches: usize) {
        let mut found = 0;
        let mut from = NAME.base;
        loop {
            let sought = Sought::Batches { from, below: mark.to, max_bytes: 1, at_least_one: true };
            match plan(mark, sought).run(files).expect("a sound segment") {
                ReadOutcome::Batches(bytes) => {
                    let heads: Vec<_> = Scan::heads(&bytes).map(|found| found.expect("a batch").head).collect();
                    found += heads.len();
                    from = heads.last().expect("at least one").next_offset();
                }
                _ => break,
            }
        }
        assert_eq!(found, batches);
        let mut edge = Edge::default();
        while edge.entries < mark.entries {
            let ReadOutcome::Sound(next) = plan(mark, Sought::Damage(edge)).run(files).expect("sound") else {
                panic!("it is checked")
            };
            edge = next;
        }
        assert_eq!(edge, Edge { entries: mark.entries, position: mark.bytes });
    }

    fn flip(files: &MemoryFiles, entry: u64) {
        files.flip(FileName::Index(NAME), usize::try_from(entry).expect("few") * ENTRY_BYTES + 7);
    }

    #[test]
    fn a_sound_index_stays_as_it_is() {
        let files = MemoryFiles::default();
        let mark = written(&files, &[vec![1_000; 300], vec![10; 3]]);
        assert_eq!(mend(&files, mark), Ok((0, 1)));
        check(&files, mark, 303);
    }

    #[test]
    fn a_lost_index_is_made_again_in_bounded_steps() {
        let files = MemoryFiles::default();
        let mark = written(&files, &[vec![3_000; 900], vec![10; 3], vec![2_500_000], vec![10; 500]]);
        files.remove(FileName::Index(NAME)).expect("it is there");
        let (made, steps) = mend(&files, mark).expect("the segment is sound");
        assert_eq!(made, mark.entries);
        assert!(steps >= 6, "{steps} steps");
        assert!(files.largest_read() < 3 << 20, "no read is much larger than its batch");
        check(&files, mark, 900 + 3 + 1 + 500);
    }

    #[test]
    fn damage_in_the_segment_is_not_taken_for_damage_of_its_index() {
        let files = MemoryFiles::default();
        let mark = written(&files, &[vec![3_000; 100]]);
        flip(&files, 1);
        files.flip(FileName::Segment(NAME), 100_000);
        assert!(matches!(mend(&files, mark), Err(DiskError::Corrupt(FileName::Segment(NAME), ..))));
    }

    #[test]
    fn a_segment_that_is_shorter_than_it_was_is_damaged() {
        let files = MemoryFiles::default();
        let mark = written(&files, &[vec![3_000; 100]]);
        files.remove(FileName::Index(NAME)).expect("it is there");
        files.truncate(FileName::Segment(NAME), mark.bytes - 1).expect("it is there");
        assert!(matches!(mend(&files, mark), Err(DiskError::Corrupt(FileName::Segment(NAME), ..))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn whatever_entries_are_damaged_all_is_found_again(
            flushes in prop::collection::vec(prop::collection::vec(0_usize..90_000, 1..8), 1..12),
            damaged in prop::collection::vec(0_u64..60, 0..20),
            cut in prop::option::of(0_u64..100),
        ) {
            let files = MemoryFiles::default();
            let mark = written(&files, &flushes);
            damaged.iter().filter(|&&entry| entry < mark.entries).for_each(|&entry| flip(&files, entry));
            if let Some(cut) = cut {
                let bytes = mark.entries * ENTRY_BYTES as u64 * cut / 100;
                files.truncate(FileName::Index(NAME), bytes).expect("it is there");
            }
            mend(&files, mark).expect("the segment is sound");
            check(&files, mark, flushes.iter().map(Vec::len).sum());
            // Nor does it matter if it happens to the new entries.
            damaged.iter().filter(|&&entry| entry < mark.entries).for_each(|&entry| flip(&files, entry));
            mend(&files, mark).expect("the segment is sound");
            check(&files, mark, flushes.iter().map(Vec::len).sum());
        }
    }
}
