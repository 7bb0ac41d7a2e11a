//! What always holds of a log, of one that was read as of one that grew.

use super::{Log, SEGMENT_BYTES_MAX, Segment};
use crate::ids::Offset;

impl Log {
    /// Asserts what always holds.
    pub fn invariants(&self) {
        if let Some(broken) = self.broken() {
            panic!("{}: not so: {broken}", self.partition);
        }
    }

    /// What should always hold and does not.
    pub(super) fn broken(&self) -> Option<&'static str> {
        let segments = || self.segments.iter();
        let next_bases = segments().skip(1).map(|next| next.base).chain([self.end]);
        let claims = [
            (Offset(0) <= self.start && self.start <= self.end, "the log starts before it ends"),
            (self.durable <= self.end, "what is durable is in the log"),
            (
                self.start <= self.coming_start() && self.coming_start() <= self.end,
                "the log start moves on, within the log",
            ),
            (Offset(0) <= self.segments[0].base && self.segments[0].base <= self.start, "a segment holds the start"),
            (segments().zip(segments().skip(1)).all(|(one, next)| one.base < next.base), "segments follow one another"),
            (segments().all(|segment| segment.base <= self.end), "segments begin within the log"),
            (
                segments().all(|segment| segment.synced.bytes <= segment.written && segment.written <= segment.bytes),
                "what is synced is written, and what is written was appended",
            ),
            (segments().all(|segment| segment.bytes <= SEGMENT_BYTES_MAX), "a segment is smaller than 4 GiB"),
            (
                segments()
                    .zip(next_bases)
                    .filter_map(|(segment, next)| Some((segment.base, segment.synced()?, next)))
                    .all(|(base, synced, next)| base < synced && synced <= next),
                "a segment is synced up to an offset of its own",
            ),
            (
                self.segments.iter().take_while(|segment| segment.base < self.sealed_to).all(Segment::is_synced),
                "what is sealed is on disk",
            ),
            (self.clean_to <= self.end && self.sealed_to <= self.end, "what is compacted or sealed is in the log"),
            (
                self.awaited.is_some() || self.holds_unsynced(),
                "what is not synced is in memory, or to come from the journal",
            ),
            (
                Offset(0) <= self.high_watermark && self.high_watermark <= self.end,
                "the high watermark is within the log",
            ),
            (self.filled() <= self.end, "batches end where the log ends, or below"),
            (self.undo.is_sound(self.end), "what batches replaced is remembered in their order"),
            (self.tail.newest().is_none_or(|newest| newest.last < self.end), "what is in memory is in the log"),
        ];
        claims.iter().find(|(holds, _)| !holds).map(|(_, claim)| *claim)
    }

    /// Whether the batches in memory begin where the segments on disk end.
    fn holds_unsynced(&self) -> bool {
        let Some(oldest) = self.tail.front() else { return self.segments.iter().all(Segment::is_synced) };
        let index = self.segments.partition_point(|segment| segment.base <= oldest.base).max(1) - 1;
        let holder = &self.segments[index];
        // Where compaction has written a segment anew, memory may still have all that was in it.
        let is_begun = holder.is_synced() || oldest.position <= holder.synced.bytes;
        is_begun && self.segments.range(..index).all(Segment::is_synced)
    }
}
