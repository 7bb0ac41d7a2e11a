//! A log that is cut where another replica's history parts from it, or begun anew.
//!
//! In memory a cut is made at once. A crash may still undo it until its journal record is durable, so nothing that is on
//! disk is touched before, or ever: the segment that holds the cut is closed and keeps what was cut behind its end, out of
//! every reader's sight, until it is compacted or deleted; what comes next goes into a new segment whose files no other
//! segment ever had. So it does not matter what was on its way into the old files, or how far a checkpoint says that they
//! are written: from any checkpoint, with this record or without it, replay finds the bytes that it names.
//!
//! [`Undo`] puts producers back as they were, as far as it remembers. Below that, which only an unclean election asks for,
//! each producer is left with what it wrote below the cut.

use super::payload::{self, PayloadError};
use super::undo::Undo;
use super::{Epochs, Log, Producers, Segment};
use crate::boundary::SegmentName;
use crate::ids::{Lsn, Offset};
use crate::journal::{self, RecordKind};

/// The longest payload of a cut's record, in bytes.
pub const CUT_BYTES: u64 = 28;

/// What a Truncate record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncation {
    /// Where the log ends from then on.
    pub(super) end: Offset,
    /// Where the last batch that stays ends, and the new segment begins: below the end where compaction left a gap.
    pub(super) base: Offset,
    /// The number of the new segment's files.
    pub(super) generation: u32,
    /// What was remembered of what batches replaced: those that reach beyond this offset.
    pub(super) undo_from: Offset,
}

impl Log {
    /// Whether it was cut or begun anew, and the journal is not durable up to there.
    pub fn is_cutting(&self) -> bool {
        !self.cutting.is_empty()
    }

    /// Has the log end at `to`. Where that is inside a batch, it ends before the batch, but never before the log start;
    /// whoever asked sees it by [`Log::end`]. Below the log start nothing is left, and the log begins anew there.
    ///
    /// It is cut at once, and for good when the journal is durable up to the LSN returned, which [`Log::is_cutting`] tells
    /// too; `None` where the log ends there or below. Whether the cut is right is not asked here: one below the high
    /// watermark takes that along.
    pub fn cut(&mut self, to: Offset, journal: &mut journal::Writer) -> Option<Lsn> {
        if to >= self.end {
            return None;
        }
        if to < self.coming_start() {
            return Some(self.start_anew(to, journal));
        }
        let (base, end) = self.edge_at(to);
        let generation = self.next_lineage();
        let truncation = Truncation { end, base, generation, undo_from: self.undo.from() };
        self.record(journal, RecordKind::Truncate, &[&payload::truncate(&truncation)]);
        let gone = self.truncate(truncation);
        Some(self.cut_by(journal.end(), gone))
    }

    /// Has the log be empty, and begin at `at`; the high watermark with it (KAFKA-9491). Its epochs and producers are
    /// forgotten. As with [`Log::cut`], at once in memory, even where the log start goes back by it, and for good when the
    /// journal is durable up to the LSN returned.
    pub fn start_anew(&mut self, at: Offset, journal: &mut journal::Writer) -> Lsn {
        let generation = self.next_lineage();
        self.record(journal, RecordKind::StartAnew, &[&payload::start_anew(at, generation)]);
        let gone = self.begin_anew(at, generation);
        self.cut_by(journal.end(), gone)
    }

    /// Notes that the newest record is a cut, which is durable once the journal is up to `lsn`.
    fn cut_by(&mut self, lsn: Lsn, gone: Vec<SegmentName>) -> Lsn {
        self.newest_cut = self.newest;
        self.cutting.push_back((lsn, gone));
        lsn
    }

    /// The number of the files of segments from the next cut on.
    fn next_lineage(&self) -> u32 {
        self.lineage.max(SegmentName::AFTER_CUT).saturating_add(1)
    }

    /// Where the last batch below `to` ends, and where a log ends that is cut there.
    fn edge_at(&self, to: Offset) -> (Offset, Offset) {
        // The start may lie inside the batch: it goes all the same, and the leader sends it whole (KAFKA-6975).
        let before = |base: Offset| if base < to { base.max(self.coming_start()) } else { to };
        if let Some(entry) = self.undo.first_beyond(to) {
            return (entry.before, before(entry.base));
        }
        if self.filled() <= to {
            return (self.filled(), to);
        }
        let below = self.tail.ending_below(to).map(|batch| Offset(batch.last.0 + 1));
        match self.tail.from(to).next() {
            Some(batch) => (below.unwrap_or(to).min(batch.base), before(batch.base)),
            // Histories part at the edges of batches.
            None => (to, to),
        }
    }

    /// Makes a cut. Returns the segments that are gone.
    fn truncate(&mut self, truncation: Truncation) -> Vec<SegmentName> {
        let Truncation { end, base, generation, undo_from } = truncation;
        let kept = self.segments.partition_point(|segment| segment.base < base);
        let gone = self.segments.range(kept..).map(|segment| self.name_of(segment)).collect();
        // What belongs to the segment that holds the cut, and where the first of it lies.
        let next = self.segments.get(kept).map_or(Offset(i64::MAX), |next| next.base);
        let mut first_cut = None;
        while let Some(batch) = self.tail.pop_back_if(|batch| batch.last >= base) {
            if batch.base < next {
                first_cut = Some(batch.position);
            }
        }
        self.segments.truncate(kept);
        self.undo.forget_below(undo_from);
        let mut max_timestamp = None;
        while let Some(entry) = self.undo.pop_beyond(base) {
            if entry.base < next {
                max_timestamp = Some(entry.max_timestamp);
            }
            if let Some(change) = entry.change {
                self.producers.undo(change);
            }
        }
        if undo_from > base {
            self.producers.forget_beyond(base);
        }
        if let Some(holder) = self.segments.back_mut() {
            holder.end_at(base, first_cut);
            holder.max_timestamp = max_timestamp.unwrap_or(holder.max_timestamp);
        }
        self.begin_lineage(base, generation);
        for (_, cut) in &mut self.cuts {
            cut.base = cut.base.min(base);
        }
        self.end = end;
        self.durable = self.durable.min(end);
        self.ends.iter_mut().for_each(|(_, reached)| *reached = (*reached).min(end));
        self.high_watermark = self.high_watermark.min(end);
        // As replay does, which takes a new log start at once.
        self.epochs.cut_start(self.coming_start());
        self.epochs.truncate(end);
        self.clean_to = self.clean_to.min(end);
        self.sealed_to = self.sealed_to.min(base);
        self.awaited.take_if(|awaited| *awaited >= base);
        self.lost.split_off(&base);
        gone
    }

    /// Empties the log. Returns the segments that are gone.
    fn begin_anew(&mut self, at: Offset, generation: u32) -> Vec<SegmentName> {
        let gone = self.segments.drain(..).collect::<Vec<_>>();
        let gone = gone.iter().map(|segment| self.name_of(segment)).collect();
        self.begin_lineage(at, generation);
        self.tail.release_all();
        (self.start, self.end, self.durable, self.high_watermark) = (at, at, at, at);
        self.cuts.clear();
        self.ends.clear();
        self.epochs = Epochs::default();
        self.producers = Producers::default();
        self.undo = Undo::starting(at);
        (self.clean_to, self.sealed_to) = (Offset(0), Offset(0));
        self.awaited = None;
        self.lost.clear();
        gone
    }

    /// Begins a segment behind a cut, and lets the flush in flight count for nothing: it may carry what is cut.
    fn begin_lineage(&mut self, base: Offset, generation: u32) {
        self.lineage = generation;
        self.segments.push_back(Segment { generation, ..Segment::new(base) });
        if let Some(flushing) = &mut self.flushing {
            flushing.is_void = true;
        }
    }

    /// Takes a Truncate record again. Returns the segments whose files it lets go of.
    pub(super) fn replay_truncate(
        &mut self,
        lsn: Lsn,
        payload: bytes::Bytes,
    ) -> Result<Vec<SegmentName>, PayloadError> {
        let truncation = payload::read_truncate(payload)?;
        let Truncation { end, base, generation, undo_from } = truncation;
        let is_within = Offset(0) <= base && base <= end && self.coming_start() <= end && end < self.end;
        let is_new = generation > SegmentName::AFTER_CUT && generation > self.lineage;
        if !is_within || !is_new || undo_from < self.undo.from() {
            let text = format!("it is said to be cut at {end}, behind {base}, where it ends at {}", self.end);
            return Err(PayloadError::Contradiction(text));
        }
        let gone = self.truncate(truncation);
        self.newest_cut = Some(lsn);
        self.refuse_broken()?;
        Ok(gone)
    }

    /// Takes a StartAnew record again. Returns the segments whose files it lets go of.
    pub(super) fn replay_start_anew(
        &mut self,
        lsn: Lsn,
        payload: bytes::Bytes,
    ) -> Result<Vec<SegmentName>, PayloadError> {
        let (at, generation) = payload::read_start_anew(payload)?;
        if at < Offset(0)
            || at == Offset(i64::MAX)
            || generation <= SegmentName::AFTER_CUT
            || generation <= self.lineage
        {
            return Err(PayloadError::Contradiction(format!("it is said to begin anew at {at}")));
        }
        let gone = self.begin_anew(at, generation);
        self.newest_cut = Some(lsn);
        Ok(gone)
    }
}

impl Segment {
    /// Closes the segment, whose last batch that counts ends at `to`. `first_cut` is where the first batch in memory lies
    /// that does not count.
    fn end_at(&mut self, to: Offset, first_cut: Option<u64>) {
        self.holds_reserve = true;
        match self.synced() {
            // All that counts is on disk, and what lies behind it there stays: the last chunk may hold both.
            Some(synced) if synced >= to => {
                self.is_cut |= synced > to;
                self.bytes = self.synced.bytes;
                self.synced.to = to;
                self.unwrite();
            }
            // The rest of what counts is in memory, and is written again where chunks may hold more than that.
            _ => {
                self.bytes = first_cut.unwrap_or(self.bytes);
                if self.written > 0 && self.written_to > to {
                    self.unwrite();
                }
            }
        }
    }

    /// Forgets what was written and not synced.
    fn unwrite(&mut self) {
        // Plans that were made before find what they name.
        self.reach = self.reach.max(self.written);
        self.written = self.synced.bytes;
        self.entries = self.synced.entries;
        self.written_to = if self.written > 0 { self.synced.to } else { self.base };
    }
}
