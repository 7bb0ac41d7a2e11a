//! Compaction: which partition is compacted when, and what becomes of the files ([`crate::compact`] says what goes).
//!
//! `Asleep` → `Surveying` (there may be partitions whose topic asks for it; looks at some of them in a step, and closes
//! segments that are old enough) → `Gathering` (of the dirtiest one's producers, some in a step, what must stay of theirs)
//! → `Stepping` (its pass is with the disk) → `Paused` (so that it takes no
//! more than its share of the disk) → `Stepping` → … → `Surveying`. `Stepping` → `Holding` where a new segment is complete
//! and the journal has no room for the record that says so. `Surveying` → `Resting` where no partition is dirty enough,
//! and → `Asleep` where no topic asks for compaction, so that an idle broker without one is never woken.
//!
//! A partition is dirty enough when its dirty part exceeds `min.cleanable.dirty.ratio`, or has waited for
//! `max.compaction.lag.ms`; the latter come first, and of the others the dirtiest. But who had a pass comes after all
//! that are dirty enough and had none: else partitions that fill up faster than they are compacted, or whose passes are
//! given up again and again, would keep all others from being compacted. What a pass needs on disk is written and synced
//! here, since a checkpoint would leave small segments in memory.
//!
//! A pass goes on behind segments that retention or DeleteRecords let go of. It is given up, and its unfinished file
//! removed, where that takes what it is just reading, the topic is deleted or changes its policy, damage is found, or
//! there is no space. What it had replaced until then stays: each new segment stands for itself. Where a pass cannot get
//! on, its partition is left alone for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Node, Reason, logs};
use crate::boundary::{DiskError, DiskOp, Effect, FileName, Level, Outbox, SegmentName};
use crate::compact::{Pass, Progress, Scope, Work};
use crate::config::TopicConfig;
use crate::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::journal::Class;
use crate::log::Replacement;
use crate::time::{Instant, Now, Timestamp};

/// Between two slices of work that moves no bytes, so that requests come in between.
const SLICE_PAUSE: Duration = Duration::from_millis(1);
/// How soon partitions are looked at again that wait for the disk or for room in the journal, and how long it rests at
/// least.
const SOON: Duration = Duration::from_millis(100);
/// How long a partition is left alone that could not be compacted.
const ASIDE: Duration = Duration::from_secs(60);
/// How many batches in memory one step lets go of, so that it stays under about 100 µs.
const BATCHES_AT_ONCE: usize = 1_000;
/// How many producers one step looks at, at about 0.05 µs each.
const PRODUCERS_AT_ONCE: usize = 1_000;
/// How many segments one record of the journal says to be on disk: few in tests, which so take several.
const SEALED_AT_ONCE: usize = if cfg!(test) { 3 } else { 1_000 };
/// How long a pass may take, and with it keep its map of keys in memory, where `log.cleaner.io.max.bytes.per.second` allows
/// next to nothing. At a mebibyte a second that is enough for 20 GiB of a log.
const PASS_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The map of keys has room for a few thousand, whatever is set.
const MAP_BYTES_MIN: u64 = 64 << 10;
/// Nobody reads a file that never counted.
const NO_DELAY: u64 = 0;

/// A partition that is dirty enough. Of two, the greater is compacted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Whether it had no pass while others had theirs.
    is_next: bool,
    is_overdue: bool,
    /// In millionths.
    ratio: u64,
    slot: u32,
    /// Who had that slot: a look at all partitions takes several steps, and a topic may be deleted between them.
    partition: TopicPartition,
    end: Offset,
}

/// A look at all partitions.
#[derive(Debug, Default)]
struct Survey {
    after: Option<TopicPartition>,
    best: Option<Candidate>,
    /// Whether some topic asks for compaction.
    is_needed: bool,
    /// Whether some partition waits for the disk.
    is_near: bool,
    ratio_max: u64,
}

/// A pass under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    slot: u32,
    partition: TopicPartition,
    dirty_from: Offset,
    begun: Instant,
    /// What it had done before its last step.
    work: Work,
    /// How many records it has removed from segments that were replaced.
    removed: u64,
}

/// A pass before it begins.
#[derive(Debug)]
struct Gathering {
    candidate: Candidate,
    after: Option<ProducerId>,
    /// As [`Scope::producers`].
    producers: Vec<(ProducerId, (Option<Offset>, ProducerEpoch))>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Asleep,
    Resting,
    Surveying(Survey),
    Gathering(Gathering),
    Stepping(Running),
    Paused(Running, Box<Pass>),
    Holding(Running, Box<Pass>, Replacement, Vec<SegmentName>),
}

/// What the node knows of its compaction.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    state: State,
    /// A topic may ask for it that did not before.
    is_wanted: bool,
    /// The newest number that a segment's files have, of any partition.
    generation: u32,
    /// The partition whose memory still holds, below an offset, what compaction has removed on disk.
    forgets: Option<(u32, TopicPartition, Offset)>,
    /// Partitions that had a pass since all that were dirty enough had one.
    served: BTreeSet<TopicPartition>,
    /// Partitions that are left alone, and until when.
    aside: BTreeMap<TopicPartition, Instant>,
    /// Partitions of which nothing can be gained before more of their segments are closed than up to an offset: what those
    /// hold begins with a transaction whose marker lies behind.
    undecided: BTreeMap<TopicPartition, Offset>,
    /// How dirty the dirtiest partition was when they were last looked at, in millionths.
    dirty_ratio_max: u64,
}

impl Compaction {
    /// There is a file of this name: no new one gets its number, even if it is about to be removed.
    pub(super) fn saw(&mut self, name: SegmentName) {
        if name.generation <= SegmentName::AFTER_CUT {
            self.generation = self.generation.max(name.generation);
        }
    }

    /// These settings are a topic's from now on.
    pub(super) fn obey(&mut self, config: &TopicConfig) {
        self.is_wanted |= config.cleanup_policy.compacts;
    }

    /// This partition is gone.
    pub(super) fn forget(&mut self, partition: TopicPartition) {
        self.served.remove(&partition);
        self.undecided.remove(&partition);
    }

    /// How dirty the dirtiest partition was when they were last looked at, in percent.
    pub(super) fn dirty_percent_max(&self) -> u64 {
        self.dirty_ratio_max / 10_000
    }

    /// Whether producers are being looked at.
    #[cfg(test)]
    pub(super) fn is_gathering(&self) -> bool {
        matches!(self.state, State::Gathering(_))
    }

    /// How many partitions could not be compacted and are left alone.
    pub(super) fn aside(&self) -> u64 {
        self.aside.len() as u64
    }
}

impl Node {
    /// Begins to look for dirty partitions, where there may be some for the first time.
    pub(super) fn wake_compaction(&mut self, now: Now) {
        // A look under way may have passed by the topic already: what it says is taken up when there is none.
        if matches!(self.compaction.state, State::Asleep)
            && std::mem::take(&mut self.compaction.is_wanted)
            && self.broker_config().log_cleaner_enable
            && !self.stopping
        {
            self.survey_after(now, SLICE_PAUSE);
        }
    }

    fn survey_after(&mut self, now: Now, pause: Duration) {
        self.compaction.state = State::Resting;
        self.deadlines.insert((now.instant + pause, Reason::Compaction));
    }

    /// Goes on, at its deadline.
    pub(super) fn compaction(&mut self, now: Now, out: &mut Outbox) {
        let state = std::mem::take(&mut self.compaction.state);
        if self.stopping {
            // What is unfinished is found by the next start.
            return;
        }
        if self.forget_some() {
            self.compaction.state = state;
            self.deadlines.insert((now.instant + SLICE_PAUSE, Reason::Compaction));
            return;
        }
        match state {
            State::Asleep | State::Stepping(_) => unreachable!("no deadline is set then"),
            State::Resting => self.survey(now, Survey::default(), out),
            State::Surveying(survey) => self.survey(now, survey, out),
            State::Gathering(gathering) => self.gather_producers(now, gathering, out),
            State::Paused(running, pass) => self.take_step(now, running, pass, out),
            State::Holding(running, pass, replacement, replaced) => {
                self.put_in_place(now, running, pass, replacement, replaced, out);
            }
        }
    }

    /// Lets go of some of the batches in memory that have been compacted on disk: readers are to find what is there.
    /// Returns whether there are more.
    fn forget_some(&mut self) -> bool {
        let Some((slot, partition, to)) = self.compaction.forgets else { return false };
        let has_more = self.is_hosted(slot, partition) && {
            let has_more = self.host(slot).partition.log_mut().forget_below(to, BATCHES_AT_ONCE);
            self.account_tail(slot);
            has_more
        };
        if !has_more {
            self.compaction.forgets = None;
        }
        has_more
    }

    // Which partition is next.

    fn survey(&mut self, now: Now, mut survey: Survey, out: &mut Outbox) {
        self.compaction.aside.retain(|_, until| *until > now.instant);
        let slots = self.partitions_after(survey.after, self.limits.partitions_at_once);
        for &(id, slot) in &slots {
            self.weigh(now, id, slot, &mut survey, out);
        }
        if slots.len() == self.limits.partitions_at_once {
            survey.after = slots.last().map(|&(id, _)| id);
            self.compaction.state = State::Surveying(survey);
            self.deadlines.insert((now.instant + SLICE_PAUSE, Reason::Compaction));
            return;
        }
        self.compaction.dirty_ratio_max = survey.ratio_max;
        if survey.best.is_none() && !survey.is_near {
            self.compaction.served.clear();
        }
        match survey.best {
            Some(candidate) if self.no_space.is_none() => self.begin_pass(now, candidate, out),
            _ if survey.is_needed => {
                let backoff = Duration::from_millis(self.broker_config().log_cleaner_backoff_ms);
                self.survey_after(now, if survey.is_near { SOON } else { backoff.max(SOON) });
            }
            _ => {}
        }
    }

    /// Looks whether a partition is dirty enough, and has on disk what it needs for a pass.
    fn weigh(&mut self, now: Now, id: TopicPartition, slot: u32, survey: &mut Survey, out: &mut Outbox) {
        let has_room = self.has_room_to_advance();
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let config = hosted.config.clone();
        if !config.cleanup_policy.compacts {
            return;
        }
        survey.is_needed = true;
        if hosted.partition.damage().is_some() || self.compaction.aside.contains_key(&id) {
            return;
        }
        let below = hosted.partition.advanced().last_stable;
        let log = hosted.partition.log_mut();
        let before = |ms: u64| Timestamp(now.wall.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
        // Kafka closes segments by age only when something is appended. A partition that grows quiet would never be
        // compacted to its end.
        let active = log.segments().next_back().expect("a log always has a segment");
        if active.bytes > 0 && active.since <= before(config.segment_age_max_ms()) && has_room {
            log.roll(&mut self.journal);
        }
        let newest = (config.min_compaction_lag_ms > 0).then(|| before(config.min_compaction_lag_ms));
        let dirt = log.dirt(below, newest);
        if dirt.dirty_bytes == 0 {
            return;
        }
        let total = u128::from(dirt.clean_bytes) + u128::from(dirt.dirty_bytes);
        let ratio = u64::try_from(u128::from(dirt.dirty_bytes) * 1_000_000 / total).expect("at most a million");
        survey.ratio_max = survey.ratio_max.max(ratio);
        let is_overdue = dirt.since.is_some_and(|since| since <= before(config.max_compaction_lag_ms));
        if !(is_overdue || ratio > u64::from(config.min_cleanable_dirty_ratio)) {
            return;
        }
        if self.compaction.undecided.get(&id).is_some_and(|&end| dirt.end <= end) {
            return;
        }
        if !dirt.is_synced {
            survey.is_near = true;
            return self.bring_to_disk(slot, out);
        }
        let is_next = !self.compaction.served.contains(&id);
        let candidate = Candidate { is_next, is_overdue, ratio, slot, partition: id, end: dirt.end };
        survey.best = survey.best.max(Some(candidate));
    }

    /// Has the next of a partition's closed segments written, or what is written synced.
    fn bring_to_disk(&mut self, slot: u32, out: &mut Outbox) {
        if self.no_space.is_some() || self.storage.is_syncing(slot) || self.host(slot).partition.log().is_flushing() {
            return;
        }
        if self.flush(slot, 1, out).is_none() && self.host(slot).partition.log().is_dirty() {
            self.sync(&[slot], &[], out);
        }
    }

    fn begin_pass(&mut self, now: Now, candidate: Candidate, out: &mut Outbox) {
        let Candidate { is_next, slot, partition, .. } = candidate;
        if !self.is_hosted(slot, partition) {
            return self.survey_after(now, SLICE_PAUSE);
        }
        if !is_next {
            self.compaction.served.clear();
        }
        self.compaction.served.insert(partition);
        // Pages that are never used take no memory.
        let count = self.host(slot).partition.log().producers().count();
        let gathering = Gathering { candidate, after: None, producers: Vec::with_capacity(count) };
        self.gather_producers(now, gathering, out);
    }

    /// Looks at the next producers. What one of them writes meanwhile lies behind the pass, or keeps a batch more than it
    /// must.
    fn gather_producers(&mut self, now: Now, mut gathering: Gathering, out: &mut Outbox) {
        let Candidate { slot, partition, end, .. } = gathering.candidate;
        if !self.is_hosted(slot, partition) {
            return self.survey_after(now, SLICE_PAUSE);
        }
        let log = self.host(slot).partition.log();
        let mut seen = 0;
        for (id, producer) in log.producers().behind(gathering.after).take(PRODUCERS_AT_ONCE) {
            let last = producer.batches.last().map(|batch| batch.last);
            if last.is_none_or(|last| last < end) {
                gathering.producers.push((id, (last, producer.epoch)));
            }
            gathering.after = Some(id);
            seen += 1;
        }
        if seen == PRODUCERS_AT_ONCE {
            self.compaction.state = State::Gathering(gathering);
            self.deadlines.insert((now.instant + SLICE_PAUSE, Reason::Compaction));
            return;
        }
        self.make_pass(now, gathering, out);
    }

    fn make_pass(&mut self, now: Now, Gathering { candidate, producers, .. }: Gathering, out: &mut Outbox) {
        let Candidate { slot, partition, end, .. } = candidate;
        let Some(generation) = self.compaction.generation.checked_add(1).filter(|&next| next <= SegmentName::AFTER_CUT)
        else {
            let name = self.name_of(slot);
            out.log(Level::Warn, format!("{name} cannot be compacted: there are no more numbers for new segments"));
            self.compaction.aside.insert(partition, now.instant + ASIDE);
            return self.survey_after(now, SLICE_PAUSE);
        };
        let secret = self.rng.u64();
        let map_bytes = self.broker_config().log_cleaner_dedupe_buffer_size.max(MAP_BYTES_MIN);
        let hosted = self.hosts[slot as usize].as_ref().expect("it is hosted");
        let (log, config) = (hosted.partition.log(), &hosted.config);
        let sources = log.sources(end);
        let Some(last) = sources.last() else {
            // Another look finds out why.
            return self.survey_after(now, SOON);
        };
        let end = last.end;
        let scope = Scope {
            partition,
            start: log.start(),
            dirty_from: log.clean_to(),
            now: now.wall,
            delete_retention_ms: config.delete_retention_ms,
            is_everywhere: self.is_everywhere(partition),
            segment_bytes: u64::from(config.segment_bytes),
            map_bytes_max: usize::try_from(map_bytes).unwrap_or(usize::MAX),
            secret,
            generation,
            producers,
            sources,
        };
        let text = format!(
            "compacts {} from {} to {end}, {} segments in all",
            logs::display(&hosted.name, partition),
            scope.dirty_from,
            scope.sources.len()
        );
        out.log(Level::Debug, text);
        let (dirty_from, begun) = (scope.dirty_from, now.instant);
        let running = Running { slot, partition, dirty_from, begun, work: Work::default(), removed: 0 };
        self.take_step(now, running, Box::new(Pass::new(scope)), out);
    }

    // A pass under way.

    /// Whether a pass is still wanted.
    fn is_wanted(&self, running: Running) -> bool {
        let Running { slot, partition, .. } = running;
        if !self.is_hosted(slot, partition) || self.stopping {
            return false;
        }
        let hosted = self.hosts[slot as usize].as_ref().expect("it is hosted");
        hosted.config.cleanup_policy.compacts
            && hosted.partition.damage().is_none()
            && self.broker_config().log_cleaner_enable
    }

    /// Whether the log still has the segment that a pass goes on with.
    fn has_source(&self, pass: &Pass) -> bool {
        pass.current_source().is_none_or(|source| self.is_live(source))
    }

    fn take_step(&mut self, now: Now, running: Running, mut pass: Box<Pass>, out: &mut Outbox) {
        if self.is_wanted(running) {
            let base = self.host(running.slot).partition.log().coming_first_base();
            let unfinished = pass.let_go(base);
            self.discard(running.partition, unfinished);
        }
        if !self.is_wanted(running) || !self.has_source(&pass) {
            return self.give_up(now, running, &pass);
        }
        self.compaction.state = State::Stepping(running);
        out.push(Effect::Disk(DiskOp::Compact(pass)));
    }

    /// A step is done.
    pub(super) fn compacted(
        &mut self,
        now: Now,
        pass: Box<Pass>,
        result: Result<Progress, DiskError>,
        out: &mut Outbox,
    ) {
        let State::Stepping(mut running) = std::mem::take(&mut self.compaction.state) else {
            unreachable!("a step was with the disk")
        };
        let work = pass.work();
        self.counters.compaction_bytes_read += work.bytes_read - running.work.bytes_read;
        self.counters.compaction_bytes_written += work.bytes_written - running.work.bytes_written;
        let moved = work.bytes_read + work.bytes_written - running.work.bytes_read - running.work.bytes_written;
        running.work = work;
        pass.unfinished().into_iter().for_each(|name| self.compaction.saw(name));
        match result {
            Ok(Progress::Replaced(replacement, replaced)) => {
                self.put_in_place(now, running, pass, replacement, replaced, out);
            }
            _ if !self.is_wanted(running) => self.give_up(now, running, &pass),
            Ok(Progress::Ahead) => self.pause(now, running, pass, moved, out),
            Ok(Progress::Done(end)) => self.end_pass(now, running, &pass, end, out),
            Ok(Progress::Stuck(why)) => {
                let name = self.name_of(running.slot);
                out.log(Level::Warn, format!("{name} cannot be compacted, and is left alone for a while: {why}"));
                self.leave_alone(now, running, &pass);
            }
            Err(_) if !self.has_source(&pass) => self.give_up(now, running, &pass),
            Err(error) => self.pass_failed(now, running, &pass, &error, out),
        }
    }

    fn name_of(&mut self, slot: u32) -> String {
        let hosted = self.host(slot);
        logs::display(&hosted.name, hosted.partition.id())
    }

    fn pause(&mut self, now: Now, running: Running, pass: Box<Pass>, moved: u64, out: &mut Outbox) {
        let asked = self.broker_config().log_cleaner_io_max_bytes_per_second.max(1);
        let rate = u128::from(asked.min(self.limits.compaction_bytes_per_second_max));
        let nanos = u128::from(moved) * 1_000_000_000 / rate;
        let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(SLICE_PAUSE);
        let elapsed = now.instant - running.begun;
        if elapsed.saturating_add(pause) > PASS_TIME_MAX {
            let name = self.name_of(running.slot);
            let text = format!(
                "compaction of {name} would take more than a day at log.cleaner.io.max.bytes.per.second={asked}: it is \
                 given up, and begins again later"
            );
            out.log(Level::Warn, text);
            // As long as it would have waited, so that the rate is kept, and no memory for longer than without it.
            let pause = pause.max(elapsed).max(ASIDE);
            self.compaction.aside.insert(running.partition, now.instant + pause);
            return self.give_up(now, running, &pass);
        }
        self.compaction.state = State::Paused(running, pass);
        self.deadlines.insert((now.instant + pause, Reason::Compaction));
    }

    /// Has a new segment stand for the ones that it was made of.
    fn put_in_place(
        &mut self,
        now: Now,
        mut running: Running,
        mut pass: Box<Pass>,
        replacement: Replacement,
        replaced: Vec<SegmentName>,
        out: &mut Outbox,
    ) {
        let Running { slot, partition, .. } = running;
        let Replacement { base, generation, .. } = replacement;
        let new = SegmentName { partition, base, generation };
        self.compaction.saw(new);
        let is_welcome = self.is_hosted(slot, partition) && {
            let hosted = self.host(slot);
            hosted.partition.damage().is_none() && hosted.config.cleanup_policy.compacts
        };
        if !is_welcome || self.stopping {
            self.discard(partition, Some(new));
            return self.give_up(now, running, &pass);
        }
        let log = self.host(slot).partition.log();
        let sealing = log.sealing_bytes(base, SEALED_AT_ONCE);
        let bytes = sealing.unwrap_or_else(|| log.replacement_bytes(base));
        if !self.journal.has_room_for([bytes].into_iter(), Class::Ordinary) {
            self.checkpoint_soon();
            self.compaction.state = State::Holding(running, pass, replacement, replaced);
            self.deadlines.insert((now.instant + SOON, Reason::Compaction));
            return;
        }
        if sealing.is_some() {
            let hosted = self.hosts[slot as usize].as_mut().expect("it is hosted");
            hosted.partition.log_mut().seal(base, SEALED_AT_ONCE, &mut self.journal);
            self.compaction.state = State::Holding(running, pass, replacement, replaced);
            self.deadlines.insert((now.instant + SLICE_PAUSE, Reason::Compaction));
            return;
        }
        let hosted = self.hosts[slot as usize].as_mut().expect("it is hosted");
        if !hosted.partition.log_mut().replace(&replaced, replacement, &mut self.journal) {
            let kept_from = hosted.partition.log().coming_first_base();
            self.discard(partition, Some(new));
            if kept_from <= base {
                return self.give_up(now, running, &pass);
            }
            pass.begin_again(kept_from);
            return self.pause(now, running, pass, 0, out);
        }
        let name = logs::display(&hosted.name, partition);
        let text = format!("{} segments of {name} are compacted into one at {base}", replaced.len());
        out.log(Level::Debug, text);
        self.storage.removals.drop_segments(replaced, hosted.config.file_delete_delay_ms);
        self.compaction.forgets = Some((slot, partition, replacement.end));
        self.counters.compaction_records_removed += running.work.records_removed - running.removed;
        running.removed = running.work.records_removed;
        self.pause(now, running, pass, 0, out);
    }

    fn end_pass(&mut self, now: Now, running: Running, pass: &Pass, end: Offset, out: &mut Outbox) {
        let Running { slot, partition, dirty_from, work, .. } = running;
        self.counters.compactions += 1;
        if self.has_room_to_advance() {
            let hosted = self.hosts[slot as usize].as_mut().expect("it is hosted");
            hosted.partition.log_mut().cleaned(end, &mut self.journal);
        } else {
            self.checkpoint_soon();
        }
        if end <= dirty_from {
            // Another pass over the same segments would read all of them for nothing.
            self.compaction.undecided.insert(partition, pass.sources_end());
        } else {
            self.compaction.undecided.remove(&partition);
        }
        let name = self.name_of(slot);
        let Work { bytes_read, bytes_written, records_removed, records_without_key } = work;
        out.log(
            Level::Info,
            format!(
                "compacted {name} up to {end}: {records_removed} records removed, {bytes_read} bytes read, \
                 {bytes_written} written"
            ),
        );
        if records_without_key > 0 {
            let text = format!("{name} held {records_without_key} records without a key, which compaction removed");
            out.log(Level::Warn, text);
        }
        self.survey_after(now, SLICE_PAUSE);
    }

    fn pass_failed(&mut self, now: Now, running: Running, pass: &Pass, error: &DiskError, out: &mut Outbox) {
        let (DiskError::NoSpace(file) | DiskError::Io(file, _) | DiskError::Corrupt(file, ..)) = error;
        let (FileName::Segment(of) | FileName::Index(of)) = *file else {
            unreachable!("compaction deals with segments only")
        };
        if self.is_live(of) {
            self.read_failed(running.slot, error, out);
        } else if let DiskError::NoSpace(_) = error {
            let name = self.name_of(running.slot);
            out.log(Level::Warn, format!("{name} is not compacted for a while: {error}"));
        } else if pass.unfinished() == Some(of) {
            // A failed write or sync leaves unknown what the disk holds, of other files too.
            return out.push(Effect::Fatal(format!("compaction failed: {error}")));
        }
        self.leave_alone(now, running, pass);
    }

    fn leave_alone(&mut self, now: Now, running: Running, pass: &Pass) {
        self.compaction.aside.insert(running.partition, now.instant + ASIDE);
        self.give_up(now, running, pass);
    }

    /// Ends a pass where it stands.
    fn give_up(&mut self, now: Now, running: Running, pass: &Pass) {
        self.counters.compactions_given_up += 1;
        self.discard(running.partition, pass.unfinished());
        self.survey_after(now, SLICE_PAUSE);
    }

    /// Has a file removed that never counted.
    fn discard(&mut self, partition: TopicPartition, unfinished: Option<SegmentName>) {
        let Some(name) = unfinished else { return };
        if self.by_id.contains_key(&partition) {
            self.storage.removals.drop_segments(vec![name], NO_DELAY);
        } else {
            // The partition's folder may have been removed and made again by what the pass wrote since.
            self.storage.removals.drop_partition(partition, NO_DELAY);
        }
    }
}
