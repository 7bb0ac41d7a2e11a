//! What of a log may be compacted, and what compacted segments do to it.
//!
//! Compaction takes closed segments that are all on disk, and replaces runs of them by files of its own. That one counts
//! and the others do not is a record in the journal, appended when the new file is complete and durable: before it the
//! old files are the log, after it the new one is. In memory the change is made at once. Until it is durable a reader may
//! see records gone that a crash brings back, which costs it nothing: what compaction takes out is superseded.
//!
//! Two claims that all of reading rests on hold for replaced segments too: the last batch of a segment ends where the
//! next segment begins, even if it is kept as an empty shell for that, so that from every offset of a segment on there is
//! something to read in it; and offsets never change.

use crate::boundary::SegmentName;
use crate::ids::Offset;
use crate::journal::{self, RecordKind};
use crate::time::Timestamp;

use super::payload::{self, PayloadError};
use super::{Log, Mark, SEGMENT_BYTES_MAX, Segment};

/// How much of a log compaction has not seen, of what it may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirt {
    /// Bytes that are compacted.
    pub clean_bytes: u64,
    /// Bytes that may be, and are not.
    pub dirty_bytes: u64,
    /// When the first of these came, by the broker's clock.
    pub since: Option<Timestamp>,
    /// Where they end.
    pub end: Offset,
    /// Whether all of them are on disk, as they must be first.
    pub is_synced: bool,
}

/// A closed segment that compaction is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its files.
    pub name: SegmentName,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// How many entries its index has.
    pub entries: u64,
    /// Where the next segment begins.
    pub end: Offset,
    /// Whether batches lie behind that end that do not count, since the log was cut.
    pub is_cut: bool,
    /// When its first batch came, by the broker's clock.
    pub since: Timestamp,
}

/// A segment that takes the place of others; its files are complete and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Where the first of the replaced segments begins, and where this one does.
    pub base: Offset,
    /// Where the segment after the last of them begins.
    pub end: Offset,
    /// The number of its files.
    pub generation: u32,
    /// How long it is, in bytes; never 0.
    pub bytes: u64,
    /// How many entries its index has.
    pub entries: u64,
    /// The largest timestamp of its records, -1 where it has none.
    pub max_timestamp: i64,
    /// When the first batch of the newest replaced segment came, by the broker's clock.
    pub since: Timestamp,
}

/// A segment that is all on disk, as a record of the journal says it.
///
/// How far segments are on disk is otherwise told by checkpoints only, and a replay may begin at one that is older than
/// a replacement. What memory then still holds of the segments before would part it from what is on disk behind; so the
/// record says of each of them what the node knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Which segment.
    pub base: Offset,
    /// How many entries its index has.
    pub entries: u64,
}

impl Seal {
    fn of(segment: &Segment) -> Seal {
        Seal { base: segment.base, entries: segment.entries }
    }
}

impl Log {
    /// Where its oldest segment begins, once the log start is where it is to be.
    pub fn coming_first_base(&self) -> Offset {
        self.coming_cut().base
    }

    /// Everything below is compacted.
    pub fn clean_to(&self) -> Offset {
        self.clean_to.max(self.coming_start())
    }

    /// From here on nothing was taken out. It lies above [`Log::clean_to`] where a pass has not come to its end.
    pub fn whole_from(&self) -> Offset {
        self.clean_to().max(self.sealed_to)
    }

    /// What there is to compact in the segments that end at or below `below` and hold no record newer than `newest`.
    pub fn dirt(&self, below: Offset, newest: Option<Timestamp>) -> Dirt {
        let (clean_to, from) = (self.clean_to(), self.coming_cut().base);
        let mut dirt = Dirt { end: from, is_synced: true, ..Dirt::default() };
        for (segment, next) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            if segment.base < from {
                continue;
            }
            let is_dirty = next.base > clean_to;
            let last = if segment.max_timestamp >= 0 { segment.max_timestamp } else { segment.since.0 };
            if next.base > below || (is_dirty && newest.is_some_and(|newest| last > newest.0)) {
                break;
            }
            dirt.end = next.base;
            dirt.is_synced &= segment.is_synced();
            if is_dirty {
                dirt.dirty_bytes += segment.bytes;
                dirt.since.get_or_insert(segment.since);
            } else {
                dirt.clean_bytes += segment.bytes;
            }
        }
        dirt
    }

    /// The segments that end at or below `end`, oldest first, up to the first that is not all on disk.
    pub fn sources(&self, end: Offset) -> Vec<Source> {
        let from = self.coming_cut().base;
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        pairs
            .skip_while(|(segment, _)| segment.base < from)
            .take_while(|(segment, next)| next.base <= end && segment.is_synced())
            .map(|(segment, next)| Source {
                name: self.name_of(segment),
                bytes: segment.bytes,
                entries: segment.entries,
                end: next.base,
                is_cut: segment.is_cut,
                since: segment.since,
            })
            .collect()
    }

    /// The segments before `base` of which the journal does not know yet that they are on disk. Those that the log lets go
    /// of are gone for a replay.
    fn unsealed(&self, base: Offset) -> impl Iterator<Item = &Segment> {
        let from = self.sealed_to.max(self.coming_cut().base);
        let first = self.segments.partition_point(|segment| segment.base < from);
        self.segments.range(first..).take_while(move |segment| segment.base < base)
    }

    /// Whether the segments before `base` are on disk, and a seal would say to every replay what it says here. Of one that
    /// was cut it would not: where a replay begins with less of it on disk than when it was cut, it ends elsewhere.
    fn is_sealable(&self, base: Offset) -> bool {
        let next = self.segments.partition_point(|segment| segment.base < base);
        self.segments.range(..next).all(Segment::is_synced) && !self.unsealed(base).any(|segment| segment.is_cut)
    }

    /// How long the record of a replacement at `base` would be, in bytes.
    pub fn replacement_bytes(&self, base: Offset) -> u64 {
        payload::replacement_bytes(self.unsealed(base).count())
    }

    /// How long a record is that says of the first `count` segments before `base` that they are on disk, in bytes; `None`
    /// where the journal does not know it of fewer than that, so that the record of a replacement may say it.
    pub fn sealing_bytes(&self, base: Offset, count: usize) -> Option<u64> {
        (self.is_sealable(base) && self.unsealed(base).nth(count).is_some()).then(|| payload::sealed_bytes(count))
    }

    /// Has the journal know of the first `count` segments before `base`, which are all on disk, that they are. So a replacement behind
    /// thousands of segments that never needed one takes many small records, and no large one.
    pub fn seal(&mut self, base: Offset, count: usize, journal: &mut journal::Writer) {
        let seals: Vec<Seal> = self.unsealed(base).take(count).map(Seal::of).collect();
        let Some(last) = seals.last() else { return };
        let next = self.segments.partition_point(|segment| segment.base <= last.base);
        let to = self.segments[next].base;
        assert!(self.segments.range(..next).all(Segment::is_synced), "what is sealed is on disk");
        let payload = payload::sealed(&seals);
        self.record(journal, RecordKind::Sealed, &[&payload]);
        self.sealed_to = self.sealed_to.max(to);
    }

    /// Has a new segment take the place of the segments `replaced`, which then need no files. Returns whether it does:
    /// not where the log has let go of one of them meanwhile, or is about to, nor behind a segment that was cut and has
    /// itself not been replaced. No segment is replaced by an empty one, which a replay would refuse.
    pub fn replace(
        &mut self,
        replaced: &[SegmentName],
        replacement: Replacement,
        journal: &mut journal::Writer,
    ) -> bool {
        let Some((first, count)) = self.range_of(replacement.base, replacement.end) else { return false };
        let names = self.segments.range(first..first + count).map(|segment| self.name_of(segment));
        let is_known = names.eq(replaced.iter().copied());
        // A cut that waits for the disk counts as made: replay finds it in the journal before this record.
        let is_kept = self.coming_cut().base <= replacement.base;
        let is_synced = self.segments.range(..first + count).all(Segment::is_synced);
        let has_batches = replacement.bytes > 0;
        if !(has_batches && is_known && is_kept && is_synced && self.is_sealable(replacement.base)) {
            return false;
        }
        let seals: Vec<Seal> = self.unsealed(replacement.base).map(Seal::of).collect();
        let payload = payload::replace(&replacement, &seals);
        self.record(journal, RecordKind::Replace, &[&payload]);
        self.put_in_place(first, count, replacement);
        true
    }

    /// The segments from the one that begins at `base` up to the one that begins at `end`, as an index and how many.
    fn range_of(&self, base: Offset, end: Offset) -> Option<(usize, usize)> {
        let find = |base| self.segments.binary_search_by_key(&base, |segment| segment.base).ok();
        let (first, after) = (find(base)?, find(end)?);
        (first < after).then(|| (first, after - first))
    }

    fn put_in_place(&mut self, first: usize, count: usize, replacement: Replacement) {
        let Replacement { base, end, generation, bytes, entries, max_timestamp, since } = replacement;
        let new = Segment {
            generation,
            bytes,
            written: bytes,
            entries,
            written_to: end,
            synced: Mark { bytes, entries, to: end },
            max_timestamp,
            since,
            ..Segment::new(base)
        };
        self.segments.drain(first + 1..first + count);
        self.segments[first] = new;
        self.sealed_to = self.sealed_to.max(end);
    }

    /// Lets go of at most `count` batches in memory below `to`, where everything below is on disk: readers find there what
    /// compaction has left, and memory still has all. Returns whether there are more.
    pub fn forget_below(&mut self, to: Offset, count: usize) -> bool {
        let to = to.min(self.sealed_to);
        for _ in 0..count {
            if self.tail.front().is_none_or(|batch| batch.base >= to) {
                return false;
            }
            self.tail.pop_front();
        }
        true
    }

    /// Everything below `to` is compacted.
    pub fn cleaned(&mut self, to: Offset, journal: &mut journal::Writer) {
        let to = to.min(self.end);
        if to > self.clean_to() {
            let payload = payload::offset(to);
            self.record(journal, RecordKind::Cleaned, &[&payload]);
            self.clean_to = to;
        }
    }

    /// Takes the record of a replacement again. Returns the segments whose files it lets go of.
    pub(super) fn replay_replace(&mut self, payload: bytes::Bytes) -> Result<Vec<SegmentName>, PayloadError> {
        let (replacement, seals) = payload::read_replace(payload)?;
        let contradiction = |text: String| Err(PayloadError::Contradiction(text));
        let Replacement { base, end, bytes, .. } = replacement;
        let is_segment = (1..=SEGMENT_BYTES_MAX).contains(&bytes);
        let Some((first, count)) = self.range_of(base, end).filter(|_| is_segment) else {
            return contradiction(format!("no segments run from {base} to {end}, which are said to be replaced"));
        };
        self.replay_seals(seals)?;
        if !self.segments.range(..first).all(Segment::is_synced) {
            return contradiction(format!("a segment before {base}, which is replaced, is not on disk"));
        }
        let gone = self.segments.range(first..first + count).map(|segment| self.name_of(segment)).collect();
        self.put_in_place(first, count, replacement);
        self.forget_replayed(end);
        self.refuse_broken()?;
        Ok(gone)
    }

    /// Lets go of what memory holds below `end`, where all is on disk: of replaced segments it may lack bodies that lay in
    /// files that are gone, or stand before a gap.
    fn forget_replayed(&mut self, end: Offset) {
        while self.tail.front().is_some_and(|batch| batch.base < end) {
            self.tail.pop_front();
        }
        self.lost = self.lost.split_off(&end);
    }

    /// Takes over what is said of segments that are on disk.
    fn replay_seals(&mut self, seals: Vec<Seal>) -> Result<(), PayloadError> {
        for Seal { base, entries } in seals {
            // What the log start has passed meanwhile is not here any more.
            let Ok(at) = self.segments.binary_search_by_key(&base, |segment| segment.base) else { continue };
            let Some(next) = self.segments.get(at + 1).map(|next| next.base) else {
                return Err(PayloadError::Contradiction(format!("the segment at {base} is said to be closed")));
            };
            let segment = &mut self.segments[at];
            (segment.written, segment.written_to, segment.entries) = (segment.bytes, next, entries);
            segment.synced = segment.mark();
        }
        Ok(())
    }

    /// Takes a record of segments that are on disk again.
    pub(super) fn replay_sealed(&mut self, payload: bytes::Bytes) -> Result<(), PayloadError> {
        let seals = payload::read_sealed(payload)?;
        let Some(&Seal { base, .. }) = seals.last() else { return Ok(()) };
        self.replay_seals(seals)?;
        let next = self.segments.partition_point(|segment| segment.base <= base);
        if !self.segments.range(..next).all(Segment::is_synced) {
            return Err(PayloadError::Contradiction(format!("a segment before the one at {base} is not on disk")));
        }
        if let Some(to) = self.segments.get(next).map(|next| next.base) {
            self.sealed_to = self.sealed_to.max(to);
            self.forget_replayed(to);
        }
        self.refuse_broken()
    }

    /// Takes the record of a pass that ended again.
    pub(super) fn replay_cleaned(&mut self, payload: bytes::Bytes) -> Result<(), PayloadError> {
        let to = payload::read_offset(payload)?;
        if to < Offset(0) || to > self.end {
            let text = format!("it is said to be compacted up to {to} where it ends at {}", self.end);
            return Err(PayloadError::Contradiction(text));
        }
        self.clean_to = to;
        Ok(())
    }
}
