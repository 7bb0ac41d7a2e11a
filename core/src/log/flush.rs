//! Write-behind: what memory holds goes into segments, is synced there, and may then be forgotten.

use bytes::Bytes;

use super::segment::{Mark, Segment};
use super::{Log, index};
use crate::boundary::{SegmentName, Task};
use crate::ids::{Lsn, Offset};

/// One write-behind takes at most so many bytes, so that syncs stay short.
const FLUSH_BYTES_MAX: usize = 8 << 20;

/// A flush that the disk has not finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushing {
    base: Offset,
    up_to: Offset,
    bytes: u64,
    entries: u64,
    /// Whether it gives back what its segment has reserved beyond its end.
    trims: bool,
    /// Whether it counts for nothing, since the log was cut meanwhile. It still has to end: tasks are carried out one after
    /// another, so what is written anew lies over what it wrote.
    pub(super) is_void: bool,
}

/// Runs of bytes with their places in a segment.
#[derive(Debug, Default)]
struct Runs {
    runs: Vec<(u64, Vec<Bytes>)>,
    /// Where the last one ends.
    end: u64,
}

impl Runs {
    /// Adds bytes at a position, joining them to the last run where they follow it.
    fn extend(&mut self, position: u64, pieces: impl Iterator<Item = Bytes>) {
        let mut at = position;
        for piece in pieces {
            let next = at + piece.len() as u64;
            match self.runs.last_mut() {
                Some((_, run)) if self.end == at => run.push(piece),
                _ => self.runs.push((at, vec![piece])),
            }
            (at, self.end) = (next, next);
        }
    }
}

impl Log {
    /// Bytes that are in memory only and that no flush in flight carries.
    pub fn unwritten_bytes(&self) -> u64 {
        let newest =
            self.segments.iter().rev().take_while(|segment| segment.bytes == 0 || segment.written < segment.bytes);
        let unwritten: u64 = newest.map(|segment| segment.bytes - segment.written).sum();
        let in_flight = self.flushing.filter(|flushing| !flushing.is_void).map_or(0, |flushing| flushing.bytes);
        unwritten - in_flight.min(unwritten)
    }

    /// Where write-behind goes on: the segment's index, and the offset. `None` where nothing is left to write.
    fn unwritten(&self) -> Option<(usize, Offset)> {
        let full = |segment: &Segment| segment.bytes > 0 && segment.written == segment.bytes;
        let index = self.segments.iter().rposition(full).map_or(0, |index| index + 1);
        let segment = self.segments.get(index)?;
        Some((index, if segment.written > 0 { segment.written_to } else { segment.base }))
    }

    /// Whether at least `bytes` bytes of batches from before `lsn` are not written yet. Not where so little is unwritten
    /// beside what a flush in flight carries.
    pub fn has_unwritten_before(&self, lsn: Lsn, bytes: usize) -> bool {
        let Some((_, from)) = self.unwritten() else { return false };
        // Most have less in all, and it is not worth a look at each batch.
        if self.unwritten_bytes() < bytes as u64 {
            return false;
        }
        let before = self.tail.from(from).take_while(|batch| batch.lsn < lsn);
        let sums = before.scan(0, |sum, batch| {
            *sum += batch.bytes();
            Some(*sum)
        });
        sums.into_iter().any(|sum| sum >= bytes)
    }

    /// Writes behind what memory holds, of one segment, where that is at least `at_least` bytes or its segment is
    /// closed; `None` where there is nothing to do or a flush is in flight. Only what the journal has made durable is
    /// written, so a segment never holds what a restart would take back.
    pub fn flush(&mut self, at_least: u64) -> Option<Task> {
        if self.flushing.is_some() {
            return None;
        }
        let (index, from) = self.unwritten()?;
        let segment = &self.segments[index];
        let closed = index + 1 < self.segments.len();
        let segment_end = self.segments.get(index + 1).map_or(self.end, |next| next.base);
        let mut runs = Runs::default();
        let mut indexer = index::Indexer::at(segment.written);
        let mut bytes = 0;
        let mut up_to = from;
        for batch in self.tail.from(from) {
            if batch.last >= segment_end || batch.last >= self.durable || bytes >= FLUSH_BYTES_MAX {
                break;
            }
            assert_eq!(batch.position, segment.written + bytes as u64, "write-behind goes on where it stopped");
            indexer.push(batch.base.0, batch.max_timestamp, batch.head(), batch.bytes() as u64);
            match &batch.direct {
                None => runs.extend(batch.position, batch.slices()),
                Some(blocks) => {
                    runs.extend(batch.position, batch.range(0..blocks.start));
                    runs.extend(batch.position + blocks.end as u64, batch.range(blocks.end..batch.bytes()));
                }
            }
            bytes += batch.bytes();
            up_to = Offset(batch.last.0 + 1);
        }
        if bytes == 0 || ((bytes as u64) < at_least && !closed) {
            return None;
        }
        let (entries, count) = indexer.finish();
        let trims = closed && segment.written + bytes as u64 == segment.bytes && !self.is_cutting();
        let base = segment.base;
        self.flushing = Some(Flushing { base, up_to, bytes: bytes as u64, entries: count, trims, is_void: false });
        Some(Task::Flush {
            segment: self.name_of(&self.segments[index]),
            runs: runs.runs,
            index_position: segment.entries * index::ENTRY_BYTES as u64,
            index: entries,
            trim: trims.then_some(segment.file_bytes()),
        })
    }

    /// Whether a flush is in flight.
    pub fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// The flush in flight is done, or failed and may be tried again.
    pub fn flushed(&mut self, done: bool) {
        let flushing = self.flushing.take().expect("a flush was in flight");
        if !done || flushing.is_void {
            return;
        }
        // The segment may have been dropped meanwhile; then its file goes too.
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.base == flushing.base) {
            segment.written += flushing.bytes;
            segment.entries += flushing.entries;
            segment.written_to = flushing.up_to;
            segment.holds_reserve &= !flushing.trims;
        }
    }

    /// Whether bytes are written that are not synced.
    pub fn is_dirty(&self) -> bool {
        self.segments.iter().any(|segment| segment.written > segment.synced.bytes)
    }

    /// The segments that hold written bytes that are not synced, and the mark to confirm with.
    pub fn unsynced_segments(&self) -> Vec<(SegmentName, Mark)> {
        let dirty = self.segments.iter().filter(|segment| segment.written > segment.synced.bytes);
        dirty.map(|segment| (self.name_of(segment), segment.mark())).collect()
    }

    /// A sync that was asked for at `mark` is done.
    pub fn synced_to(&mut self, name: SegmentName, mark: Mark) {
        let is_it = |segment: &&mut Segment| (segment.base, segment.generation) == (name.base, name.generation);
        if let Some(segment) = self.segments.iter_mut().rev().find(is_it) {
            // What was written may have been forgotten meanwhile, since it was cut.
            if mark.bytes <= segment.written {
                segment.synced = Mark { to: mark.to.min(segment.written_to), ..mark };
            }
        }
    }

    /// Lets go of the oldest batch in memory if its segment holds it safely. Returns the bytes freed.
    pub fn evict_one(&mut self) -> Option<usize> {
        let synced = self.synced();
        if self.tail.front()?.last >= synced {
            return None;
        }
        self.tail.pop_front().map(|batch| batch.bytes())
    }

    /// Whether the oldest batch in memory is written to its segment, be it synced there or not.
    pub fn is_oldest_written(&self) -> bool {
        let unwritten = self.unwritten();
        self.tail.front().is_some_and(|oldest| unwritten.is_none_or(|(_, from)| oldest.last < from))
    }

    /// The LSN of the oldest batch in memory.
    pub fn oldest_in_memory(&self) -> Option<Lsn> {
        self.tail.front().map(|batch| batch.lsn)
    }
}
