//! The scrub: reads the closed segments that nobody reads, so that damage is found while there is time to mend it.
//!
//! A cold read checks every chunk that it serves and says nothing of the others. This walks over all closed segments, in
//! the order of their partitions, one bounded read at a time and evenly spread over [`Limits::scrub_period`]; what it
//! finds is told, and refused, as if a consumer had read there.
//!
//! `Asleep` → `Counting` (at a start, and when a checkpoint has closed: there may be closed segments) → `Walking` (there
//! are some) → `Reading` (the next chunks are on their way) → `Walking` (after a pause). `Walking` → `Counting` when the
//! count is a seventh of a period old. `Counting` or `Walking` → `Asleep` where there is nothing to check, so that an
//! idle and empty broker is never woken.
//!
//! Cost: a mebibyte read and summed, about a millisecond of another thread, at most once a second; with a gigabyte of
//! segments once in ten minutes. It remembers nothing over a restart. Each start begins at a byte drawn by chance
//! instead, so that a broker that is restarted every day comes to check all the same, and not the same seventh each time.
//!
//! [`Limits::scrub_period`]: crate::limits::Limits::scrub_period

use std::time::Duration;

use super::{Node, ReadResult, Reader, Reason};
use crate::boundary::{DiskOp, Effect, Outbox};
use crate::ids::{Offset, TopicPartition, Uuid};
use crate::log::{Edge, ReadOutcome, ReadPlan};
use crate::time::{Instant, Now};

/// Between two slices of work that reads nothing, so that requests come in between.
const SLICE_PAUSE: Duration = Duration::from_millis(1);
/// How often in a period the segments are counted anew: with the count the pace follows what is there.
const COUNTS: u32 = 7;

/// Where the walk is: everything before has been checked.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    partition: TopicPartition,
    segment: Offset,
    /// With the segment's place goes its file: compaction may put another there.
    generation: u32,
    edge: Edge,
}

impl Cursor {
    const START: Cursor = Cursor::before(TopicPartition { topic: Uuid::ZERO, partition: i32::MIN });

    const fn before(partition: TopicPartition) -> Cursor {
        Cursor { partition, segment: Offset(0), generation: 0, edge: Edge { entries: 0, position: 0 } }
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Asleep,
    /// Partitions up to this one hold so many bytes of closed segments.
    Counting(Option<TopicPartition>, u64),
    Walking,
    /// A segment of so many bytes.
    Reading(u64),
}

/// The walk over all closed segments.
#[derive(Debug)]
pub(super) struct Scrub {
    state: State,
    at: Cursor,
    /// Bytes of closed segments, and when they were counted.
    counted: (Instant, u64),
    /// Bytes to pass over before the first read of this process; `None` until they are drawn.
    skipped: Option<u64>,
    /// Whether this round has found something to check, as far as is known.
    is_worthwhile: bool,
}

impl Default for Scrub {
    fn default() -> Scrub {
        let counted = (Instant::default(), 0);
        Scrub { state: State::Asleep, at: Cursor::START, counted, skipped: None, is_worthwhile: true }
    }
}

/// What the walk comes to next.
enum Next {
    Check(Cursor, u64, ReadPlan),
    /// Nothing before this place.
    Further(Cursor),
    End,
}

impl Node {
    /// There may be segments to check.
    pub(super) fn wake_scrub(&mut self, now: Now) {
        if matches!(self.scrub.state, State::Asleep) && !self.by_id.is_empty() && !self.stopping {
            self.scrub.state = State::Counting(None, 0);
            self.deadlines.insert((now.instant + SLICE_PAUSE, Reason::Scrub));
        }
    }

    /// Goes on, at its deadline.
    pub(super) fn scrub(&mut self, now: Now, out: &mut Outbox) {
        if self.stopping {
            self.scrub.state = State::Asleep;
            return;
        }
        match self.scrub.state {
            State::Asleep | State::Reading(_) => unreachable!("no deadline is set then"),
            State::Counting(after, bytes) => self.count_closed(now, after, bytes),
            State::Walking if now.instant - self.scrub.counted.0 >= self.limits.scrub_period / COUNTS => {
                self.count_closed(now, None, 0);
            }
            State::Walking => self.walk(now, out),
        }
    }

    /// Counts the closed segments of the next partitions.
    fn count_closed(&mut self, now: Now, after: Option<TopicPartition>, mut bytes: u64) {
        let next = self.partitions_after(after, self.limits.partitions_at_once);
        for &(_, slot) in &next {
            let partition = &self.host(slot).partition;
            if partition.damage().is_none() {
                bytes += partition.log().closed_segments(Offset(0)).map(|segment| segment.bytes).sum::<u64>();
            }
        }
        if let Some(&(last, _)) = next.last() {
            self.scrub.state = State::Counting(Some(last), bytes);
        } else if bytes == 0 {
            self.scrub.state = State::Asleep;
            return;
        } else {
            self.scrub.state = State::Walking;
            self.scrub.counted = (now.instant, bytes);
            self.scrub.skipped.get_or_insert_with(|| self.rng.below(bytes));
        }
        self.deadlines.insert((now.instant + SLICE_PAUSE, Reason::Scrub));
    }

    fn walk(&mut self, now: Now, out: &mut Outbox) {
        match self.next_to_check() {
            Next::Check(cursor, bytes, plan) => {
                self.scrub.is_worthwhile = true;
                self.scrub.at = cursor;
                self.scrub.state = State::Reading(bytes);
                let read = self.next_read();
                self.reads.insert(read, (Reader::Scrub, super::segment_of(&plan)));
                out.push(Effect::Disk(DiskOp::Read(read, plan)));
                return;
            }
            Next::Further(cursor) => self.scrub.at = cursor,
            Next::End => {
                self.scrub.at = Cursor::START;
                if !std::mem::replace(&mut self.scrub.is_worthwhile, false) {
                    self.scrub.state = State::Asleep;
                    return;
                }
            }
        }
        self.deadlines.insert((now.instant + SLICE_PAUSE, Reason::Scrub));
    }

    /// Looks for the next chunks to check in the next partitions.
    fn next_to_check(&mut self) -> Next {
        let at = self.scrub.at;
        let skipped = self.scrub.skipped.get_or_insert(0);
        let mut last = None;
        for (&id, &slot) in self.by_id.range(at.partition..).take(self.limits.partitions_at_once) {
            last = Some(id);
            let partition = &self.hosts[slot as usize].as_ref().expect("a hosted partition").partition;
            if partition.damage().is_some() {
                continue;
            }
            let is_begun = id == at.partition;
            for segment in partition.log().closed_segments(if is_begun { at.segment } else { Offset(0) }) {
                if *skipped >= segment.bytes {
                    *skipped -= segment.bytes;
                    continue;
                }
                *skipped = 0;
                let is_begun = is_begun && (segment.base, segment.generation) == (at.segment, at.generation);
                let edge = if is_begun { at.edge } else { Edge::default() };
                if edge.entries < segment.entries {
                    let generation = segment.generation;
                    let cursor = Cursor { partition: id, segment: segment.base, generation, edge };
                    return Next::Check(cursor, segment.bytes, partition.log().plan_for_damage(segment, edge));
                }
            }
        }
        let beyond = |last: TopicPartition| self.partitions_after(Some(last), 1).first().map(|&(id, _)| id);
        last.and_then(beyond).map_or(Next::End, |next| Next::Further(Cursor::before(next)))
    }

    /// Chunks have been read.
    pub(super) fn scrubbed(&mut self, now: Now, result: ReadResult, out: &mut Outbox) {
        let State::Reading(segment_bytes) = self.scrub.state else { unreachable!("a read was on its way") };
        self.scrub.state = State::Walking;
        let Cursor { partition, edge, .. } = self.scrub.at;
        let reached = match result {
            Ok(ReadOutcome::Sound(reached)) => {
                self.counters.scrubbed_bytes += reached.position - edge.position;
                reached
            }
            Ok(other) => unreachable!("{other:?} is not what was sought"),
            Err(error) => {
                // What retention or a client let go of meanwhile may be gone, and is nobody's loss.
                if let (Some(&slot), Some(error)) = (self.by_id.get(&partition), error) {
                    self.counters.scrub_errors += 1;
                    self.read_failed(slot, &error, out);
                }
                // The rest of the segment is left for the next round.
                Edge { entries: u64::MAX, position: segment_bytes }
            }
        };
        self.scrub.at.edge = reached;
        let pause = self.pause_after(reached.position - edge.position);
        self.deadlines.insert((now.instant + pause, Reason::Scrub));
    }

    /// How long to wait after so many bytes: so that a round takes its period, is never faster than its rate, and sees
    /// in time when there is suddenly more to check.
    fn pause_after(&self, bytes: u64) -> Duration {
        let share = |whole: Duration, of: u64| {
            let nanos = whole.as_nanos() * u128::from(bytes) / u128::from(of.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let period = self.limits.scrub_period;
        let even = share(period, self.scrub.counted.1).min(period / COUNTS);
        even.max(share(Duration::from_secs(1), self.limits.scrub_bytes_per_second_max))
    }
}
