//! What a follower does to its log: it appends what the leader has placed, and learns how far the in-sync set is.
//!
//! Offsets, epochs, timestamps and sequences are the leader's. They are not judged again: only what could not be a log
//! is refused, since a peer's word is input.

use std::fmt;

use bytes::Bytes;

use super::{Appended, Log, SEGMENT_BYTES_MAX, Way};
use crate::batch::{BatchHead, HEAD_BYTES};
use crate::boundary::DirectWrite;
use crate::ids::{LeaderEpoch, Offset};
use crate::journal;
use crate::time::Timestamp;

/// Why a batch that has its place cannot be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Its head and body are not one batch, or its offsets or its epoch are no numbers of any log.
    Nonsense(Offset),
    /// It begins before the log ends.
    Overlaps {
        /// Where it begins.
        base: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// It was written in an older epoch than what lies below it.
    EpochGoesBack {
        /// Its epoch.
        epoch: LeaderEpoch,
        /// The epoch of the batch before it.
        before: LeaderEpoch,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Nonsense(base) => write!(f, "what is said to be a batch at offset {base} is none"),
            Misfit::Overlaps { base, end } => write!(f, "a batch at offset {base} where the log ends at {end}"),
            Misfit::EpochGoesBack { epoch, before } => write!(f, "a batch of epoch {epoch} behind one of {before}"),
        }
    }
}

impl std::error::Error for Misfit {}

impl Log {
    /// Up to where the in-sync set is known to hold everything, within the log; never goes back but with a cut. Journalled
    /// with checkpoints only, so a start may know an older one.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The high watermark is known to be at `to`, or at the end where that is below. An older one changes nothing.
    pub fn advance_high_watermark(&mut self, to: Offset) {
        self.high_watermark = self.high_watermark.max(to.min(self.end));
        self.undo.forget_below(self.high_watermark);
    }

    /// Where the newest batch ends, or its segment begins where there is none in it. Below the end only where the log was
    /// cut in a gap that compaction had left.
    pub(super) fn filled(&self) -> Offset {
        match self.segments.back().expect("a log always has a segment") {
            empty if empty.bytes == 0 => empty.base,
            _ => self.end,
        }
    }

    /// Whether there is no batch, neither below the log start nor above.
    pub(super) fn has_no_batch(&self) -> bool {
        self.segments.len() == 1 && self.segments[0].bytes == 0
    }

    /// Whether a batch may come next as its head has it, with so many bytes behind the head.
    ///
    /// Compaction leaves gaps, so it may begin above the end. The one that holds the start of a log without records may
    /// begin below it (KAFKA-6975).
    ///
    /// # Errors
    /// [`Misfit`].
    pub(super) fn fits(&self, head: &BatchHead, body_bytes: usize) -> Result<(), Misfit> {
        let (base, last) = (head.base_offset, head.last_offset());
        let is_batch = Offset(0) <= base
            && base <= last
            && last < Offset(i64::MAX)
            && head.batch_bytes() == HEAD_BYTES + body_bytes
            && head.leader_epoch >= LeaderEpoch(0);
        if !is_batch {
            return Err(Misfit::Nonsense(base));
        }
        let is_behind = base >= self.filled() || self.has_no_batch();
        let may_begin = base >= self.end || self.coming_start() == self.end;
        if !is_behind || !may_begin || last < self.end {
            return Err(Misfit::Overlaps { base, end: self.end });
        }
        match self.epochs.at(Offset(base.0 - 1)) {
            Some(before) if before > head.leader_epoch => {
                Err(Misfit::EpochGoesBack { epoch: head.leader_epoch, before })
            }
            _ => Ok(()),
        }
    }

    /// Appends a batch as its leader has placed it. `head` and `body` are one batch whose checksum is right; `now` is by
    /// this broker's clock. Segments are rolled as the caller likes ([`Log::wants_roll`]), beside where one would become
    /// too large for any.
    ///
    /// # Errors
    /// [`Misfit`] where it cannot be what comes next in this log; then nothing has changed.
    pub fn append_placed(
        &mut self,
        head: &BatchHead,
        body: &Bytes,
        now: Timestamp,
        way: Way,
        journal: &mut journal::Writer,
    ) -> Result<(Appended, Option<DirectWrite>), Misfit> {
        self.fits(head, body.len())?;
        let active = self.segments.back().expect("a log always has a segment");
        if active.bytes + head.batch_bytes() as u64 > SEGMENT_BYTES_MAX {
            self.roll(journal);
        }
        Ok(self.put(head, body, now, way, journal))
    }

    /// Makes room for a batch at `base` in a log without any, which is to begin there and not where the log starts.
    pub(super) fn make_way(&mut self, base: Offset) {
        if self.has_no_batch() && base < self.segments[0].base {
            self.segments[0].base = base;
            self.segments[0].written_to = base;
            self.cuts.iter_mut().for_each(|(_, cut)| cut.base = cut.base.min(base));
        }
    }

    /// Whether a new segment should begin before a batch of so many bytes is appended: the active one would be larger than
    /// `segment_bytes`, or has been there for `age_ms`.
    pub fn wants_roll(&self, batch_bytes: u64, now: Timestamp, segment_bytes: u64, age_ms: u64) -> bool {
        let active = self.segments.back().expect("a log always has a segment");
        let is_full = active.bytes + batch_bytes > segment_bytes;
        let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
        is_full || (active.bytes > 0 && now.0.saturating_sub(active.since.0) >= age_ms)
    }
}
