//! What happens behind the acknowledgements: write-behind, checkpoints, eviction, retention, removal, a full disk.
//!
//! A checkpoint goes through these states, a slice at a time, so that no step grows with the number of partitions:
//! `Idle` → `Partitions` (each partition is flushed where it has much, synced where it is dirty, and encoded with what
//! remains) → `Durable` (the journal catches up with what the encoded states contain) → `Closing` (its last part is
//! synced) → `Idle`. No space sends it from any state back to `Idle`, to begin anew. Each state is as new as its
//! encoding; replay skips the records that a state already contains, by their LSN.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::removal::Removals;
use super::{Node, Reason, logs, task_id, topics};
use crate::boundary::{DiskError, DiskOp, Effect, FileName, Level, Outbox, SegmentName, Task, TaskId};
use crate::config::Cleanup;
use crate::ids::{Lsn, Offset, TopicPartition};
use crate::journal::checkpoint::{self, Encoder};
use crate::journal::{Position, RecordKind};
use crate::log::Mark;
use crate::time::{Instant, Now, Timestamp};

/// Write-behind waits for so many bytes of a partition: enough for a large sequential write, few enough that what many
/// small partitions hold fits into a checkpoint.
const FLUSH_AT: u64 = 256 << 10;
/// A checkpoint begins when the journal has grown by so much: two of them and what comes meanwhile fit into the ring.
const CHECKPOINT_EVERY: u64 = 96 << 20;
/// How far ahead blocks are reserved for bodies that go straight to a segment.
const ALLOCATE_AHEAD: u64 = 64 << 20;
/// How many partitions one step looks at for a checkpoint or retention, so that it stays under about 100 µs.
const PARTITIONS_AT_ONCE: usize = 64;
/// How long the journal's ring stays as it is after there was no space to extend it.
const EXTEND_RETRY: Duration = Duration::from_secs(10);
/// How long to wait before trying a full disk again.
const SPACE_RETRY: Duration = Duration::from_secs(1);

/// A task that the disk has not finished.
#[derive(Debug)]
enum Job {
    Extend,
    /// Of which partition, which segment, up to where.
    Allocate(u32, TopicPartition, Offset, u64),
    Flush(u32, TopicPartition),
    Sync(u32, TopicPartition, Vec<(Offset, Mark)>),
    Checkpoint,
    Close(Closing),
    Remove,
}

/// A checkpoint whose last part is on its way to disk.
#[derive(Clone, Copy, Debug)]
struct Closing {
    start: Position,
    is_last: bool,
}

/// A checkpoint in the making.
struct Run {
    encoder: Encoder,
    /// Where replay will start.
    start: Position,
    slot: u32,
    position: u64,
    /// Partitions up to here are encoded.
    after: Option<TopicPartition>,
    /// The partition that was synced last.
    synced: Option<TopicPartition>,
    /// What must end before the run goes on.
    awaits: Option<Awaited>,
    /// What the encoded states contain.
    contains: Lsn,
    encoded: bool,
    /// Whether small tails are flushed too, since memory is short of what may be let go.
    thorough: bool,
    /// Whether it was begun after the node was asked to stop, and so contains all that came before.
    is_last: bool,
}

/// What a run of a checkpoint waits for. Any other task that ends is none of its business: were it to go on while one of
/// its parts is on its way, it could be closed without that part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The partition's flush that is in flight, whoever asked for it.
    Flush(TopicPartition),
    Task(TaskId),
}

/// What a partition's tail counts for in the node's accounts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accounted {
    oldest: Option<Lsn>,
    bytes: u64,
}

/// What the node knows of its background work.
pub(super) struct Storage {
    next_task: u64,
    jobs: BTreeMap<TaskId, Job>,
    due: BTreeSet<u32>,
    /// Partitions that want blocks reserved, and those that wait for them.
    wanting: BTreeSet<u32>,
    allocating: BTreeSet<u32>,
    extending: bool,
    /// The operator has been told that there is no space.
    told_no_space: bool,
    /// When the journal's ring may be extended again.
    extend_from: Instant,
    /// Whether there was no space when the ring was to be extended last.
    is_ring_bound: bool,
    run: Option<Run>,
    /// The last part of a checkpoint is on its way to disk.
    closing: bool,
    wanted: bool,
    sequence: u64,
    /// Where replay starts in the newest two checkpoints, the older one first.
    kept: VecDeque<Lsn>,
    begun_at: Lsn,
    /// What the node had written directly when the last checkpoint began.
    direct_at: u64,
    /// The next checkpoint begins when the journal is durable up to here.
    near: Option<Lsn>,
    /// Files that nothing needs any more.
    pub(super) removals: Removals,
    /// For each partition with batches in memory: its oldest one, in the order of the journal.
    order: BTreeMap<Lsn, u32>,
    retention_after: Option<TopicPartition>,
}

impl Storage {
    pub(super) fn new(sequence: u64, kept: VecDeque<Lsn>) -> Storage {
        let begun_at = kept.back().copied().unwrap_or_default();
        Storage {
            next_task: 0,
            jobs: BTreeMap::new(),
            due: BTreeSet::new(),
            wanting: BTreeSet::new(),
            allocating: BTreeSet::new(),
            extending: false,
            told_no_space: false,
            extend_from: Instant::default(),
            is_ring_bound: false,
            run: None,
            closing: false,
            wanted: false,
            sequence,
            kept,
            begun_at,
            direct_at: 0,
            near: None,
            removals: Removals::default(),
            order: BTreeMap::new(),
            retention_after: None,
        }
    }

    fn push(&mut self, job: Job, task: Task, out: &mut Outbox) -> TaskId {
        let id = task_id(&mut self.next_task);
        self.jobs.insert(id, job);
        out.push(Effect::Disk(DiskOp::Task(id, task)));
        id
    }
}

/// Set in the kind of a checkpoint's entry where the next entry goes on with it.
pub(super) const GOES_ON: u8 = 0x80;

/// How much of a state one entry of a checkpoint holds, in bytes.
const STATE_PART_BYTES: usize = 8 << 20;
const _: () = assert!(STATE_PART_BYTES as u64 <= checkpoint::ENTRY_BYTES_MAX);

/// Adds a state to a checkpoint, in as many entries as it takes: what a partition has in memory or remembers of
/// producers knows no bound that an entry could have.
fn encode_entry(encoder: &mut Encoder, kind: RecordKind, partition: TopicPartition, state: &[Bytes]) {
    let mut part: Vec<&[u8]> = Vec::with_capacity(state.len());
    let mut room = STATE_PART_BYTES;
    for piece in state {
        let mut piece = &piece[..];
        while piece.len() > room {
            let (now, later) = piece.split_at(room);
            part.push(now);
            encoder.entry(kind as u8 | GOES_ON, partition, &part);
            part.clear();
            (piece, room) = (later, STATE_PART_BYTES);
        }
        room -= piece.len();
        part.push(piece);
    }
    encoder.entry(kind as u8, partition, &part);
}

impl Node {
    /// Wants a checkpoint as soon as one can begin.
    pub(super) fn checkpoint_soon(&mut self) {
        self.storage.wanted = true;
    }

    /// Marks a partition whose tail has grown enough to be written behind.
    pub(super) fn flush_if_due(&mut self, slot: u32) {
        if self.host(slot).partition.log().unwritten_bytes() >= FLUSH_AT {
            self.storage.due.insert(slot);
        }
    }

    /// Has blocks reserved for a partition that gets large batches, well before they run out.
    pub(super) fn allocate_ahead(&mut self, slot: u32) {
        if !self.host(slot).partition.log().is_allocated(ALLOCATE_AHEAD / 2) {
            self.storage.wanting.insert(slot);
        }
    }

    /// How large the journal can become as things are, in bytes.
    pub(super) fn ring_bytes(&self) -> u64 {
        let files = if self.storage.is_ring_bound { self.journal.slots() } else { self.geometry.max_files };
        u64::from(files) * self.geometry.file_bytes
    }

    /// Goes on with whatever background work can go on.
    pub(super) fn advance_storage(&mut self, now: Now, out: &mut Outbox) {
        self.evict();
        self.remove_files(now, out);
        if self.no_space.is_some() {
            // A last checkpoint would only make the next start shorter: the journal has everything.
            if self.stopping && self.woken.is_empty() {
                out.push(Effect::Stopped);
            }
            return;
        }
        // Requests that wait for room may need more than the files that the journal likes to have at hand.
        let is_starved = !self.stalled.is_empty() && self.journal.slots() < self.geometry.max_files;
        let may_extend = !self.storage.extending && now.instant >= self.storage.extend_from;
        if may_extend && (is_starved || self.journal.wants_slot()) {
            self.storage.extending = true;
            let task = Task::ExtendJournal { slot: self.journal.slots(), bytes: self.geometry.file_bytes };
            self.storage.push(Job::Extend, task, out);
        }
        while let Some(slot) = self.storage.wanting.pop_first() {
            if let Some(hosted) = &self.hosts[slot as usize]
                && self.storage.allocating.insert(slot)
            {
                let (id, task) = (hosted.partition.id(), hosted.partition.log().allocate(ALLOCATE_AHEAD));
                let Task::Allocate { segment, position, bytes } = task else { unreachable!("it allocates") };
                self.storage.push(Job::Allocate(slot, id, segment.base, position + bytes), task, out);
            }
        }
        while let Some(slot) = self.storage.due.pop_first() {
            if self.hosts[slot as usize].is_some() {
                self.flush(slot, FLUSH_AT, out);
            }
        }
        self.advance_checkpoint(now, out);
    }

    /// Removes files that are due. On a full disk too: it is one way to make room.
    fn remove_files(&mut self, now: Now, out: &mut Outbox) {
        let deadlines = &mut self.deadlines;
        self.storage.removals.begin_delays(now.instant, |due| _ = deadlines.insert((due, Reason::Removal)));
        if self.no_space.is_some() && self.journal.durable() == self.journal.end() {
            self.storage.removals.unname_all();
        }
        while let Some(mut task) = self.storage.removals.take_due(now.instant) {
            if let Task::RemoveSegments(segments) = &mut task {
                // Where the system lost acknowledged records, a start may find a segment beyond the log's end, and the
                // log may begin one of the same name since.
                segments.retain(|&name| !self.is_live(name));
            }
            self.storage.push(Job::Remove, task, out);
        }
    }

    fn is_live(&self, name: SegmentName) -> bool {
        let slot = self.by_id.get(&name.partition);
        let hosted = slot.and_then(|&slot| self.hosts[slot as usize].as_ref());
        hosted.is_some_and(|hosted| hosted.partition.log().segments().any(|segment| segment.base == name.base))
    }

    fn flush(&mut self, slot: u32, at_least: u64, out: &mut Outbox) -> bool {
        let partition = &mut self.host(slot).partition;
        let id = partition.id();
        let Some(task) = partition.log_mut().flush(at_least) else { return false };
        self.storage.push(Job::Flush(slot, id), task, out);
        true
    }

    /// Keeps account of a partition's batches in memory after they changed.
    pub(super) fn account_tail(&mut self, slot: u32) {
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let log = hosted.partition.log();
        let (oldest, bytes) = (log.oldest_in_memory(), log.tail_bytes() as u64);
        self.tail_bytes = self.tail_bytes + bytes - hosted.accounted.bytes;
        if oldest != hosted.accounted.oldest {
            if let Some(before) = hosted.accounted.oldest {
                self.storage.order.remove(&before);
            }
            if let Some(oldest) = oldest {
                self.storage.order.insert(oldest, slot);
            }
        }
        hosted.accounted = Accounted { oldest, bytes };
    }

    /// Forgets the account of a partition that goes away.
    pub(super) fn close_account(&mut self, accounted: Accounted) {
        self.tail_bytes -= accounted.bytes;
        if let Some(oldest) = accounted.oldest {
            self.storage.order.remove(&oldest);
        }
    }

    /// Lets go of the oldest batches in memory beyond the budget, in the order of the journal.
    fn evict(&mut self) {
        while self.tail_bytes > self.limits.tail_cache_bytes as u64 {
            let Some((_, &slot)) = self.storage.order.first_key_value() else { return };
            if self.host(slot).partition.log_mut().evict_one().is_none() {
                // It is not safe in its segment yet: a checkpoint makes it so.
                if self.storage.run.is_none() {
                    self.storage.wanted = true;
                }
                return;
            }
            self.account_tail(slot);
        }
    }

    fn advance_checkpoint(&mut self, now: Now, out: &mut Outbox) {
        if self.storage.closing {
            return;
        }
        if self.storage.run.is_none() {
            let journalled = self.durable.0.saturating_sub(self.storage.begun_at.0);
            let grown = journalled + (self.direct_bytes - self.storage.direct_at) >= CHECKPOINT_EVERY;
            if !(grown || self.storage.wanted) {
                return;
            }
            // Replay will start at what is durable: as near as possible.
            let near = self.storage.near.get_or_insert(self.durable);
            if self.trusts_os && self.journal.durable() < *near {
                if !self.journal.is_in_flight() {
                    self.journal.sync_next();
                }
                return;
            }
            self.storage.near = None;
            self.begin_checkpoint();
        }
        let Some(run) = &self.storage.run else { return };
        if run.awaits.is_some() {
            return;
        }
        if !run.encoded {
            self.encode_partitions(now, out);
        }
        self.close_checkpoint(out);
    }

    fn begin_checkpoint(&mut self) {
        self.storage.wanted = false;
        let start = self.journal.durable_position();
        self.storage.begun_at = start.lsn;
        self.storage.direct_at = self.direct_bytes;
        let header =
            checkpoint::Header { journal: self.directory_id, sequence: self.storage.sequence + 1, replay: start };
        let mut encoder = Encoder::new(header);
        let state = topics::encode_state(self.controller.image(), self.newest_metadata);
        encode_entry(&mut encoder, RecordKind::NodeState, TopicPartition::NODE, &[Bytes::from(state)]);
        self.storage.removals.condemn();
        let thorough = self.tail_bytes > self.limits.tail_cache_bytes as u64 / 2;
        self.storage.run = Some(Run {
            encoder,
            start,
            slot: header.slot(),
            position: 0,
            after: None,
            synced: None,
            awaits: None,
            contains: self.journal.end(),
            encoded: false,
            thorough,
            is_last: self.stopping,
        });
    }

    /// Encodes the next partitions, or first has the next one flushed and synced.
    fn encode_partitions(&mut self, now: Now, out: &mut Outbox) {
        let mut run = self.storage.run.take().expect("a run");
        // What is full goes out first, so that the encoder never holds much more than one look's worth.
        let chunks: Vec<Bytes> = std::iter::from_fn(|| run.encoder.take_chunk()).collect();
        if !chunks.is_empty() {
            let bytes: usize = chunks.iter().map(Bytes::len).sum();
            let task = Task::Checkpoint { slot: run.slot, position: run.position, chunks, last: false };
            run.position += bytes as u64;
            run.awaits = Some(Awaited::Task(self.storage.push(Job::Checkpoint, task, out)));
            self.storage.run = Some(run);
            return;
        }
        let next: Vec<(TopicPartition, u32)> = match run.after {
            None => self.by_id.iter().take(PARTITIONS_AT_ONCE).map(|(&id, &slot)| (id, slot)).collect(),
            Some(after) => {
                let beyond = self.by_id.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
                beyond.take(PARTITIONS_AT_ONCE).map(|(&id, &slot)| (id, slot)).collect()
            }
        };
        run.encoded = next.is_empty();
        for (id, slot) in next {
            // Only what came before the checkpoint began: under load there is always more, which the journal holds.
            let at_least = if run.thorough { 1 } else { FLUSH_AT };
            let much = usize::try_from(at_least).expect("a few hundred KiB");
            let behind = self.host(slot).partition.log().has_unwritten_before(run.start.lsn, much);
            if behind && self.flush(slot, at_least, out) {
                run.awaits = Some(Awaited::Flush(id));
                break;
            }
            let log = self.host(slot).partition.log();
            if run.synced != Some(id) && log.is_flushing() {
                // Its end reaches the run by way of the task's completion.
                run.awaits = Some(Awaited::Flush(id));
                break;
            }
            let dirty = log.unsynced_segments();
            if run.synced != Some(id) && !dirty.is_empty() {
                run.synced = Some(id);
                let segments = dirty.iter().map(|(segment, _)| *segment).collect();
                let marks = dirty.into_iter().map(|(segment, mark)| (segment.base, mark)).collect();
                let sync = self.storage.push(Job::Sync(slot, id, marks), Task::Sync { segments }, out);
                run.awaits = Some(Awaited::Task(sync));
                break;
            }
            let hosted = self.host(slot);
            let state = match hosted.partition.damage() {
                None => hosted.partition.log().encode(run.start.lsn),
                // A later start refuses it as this one does.
                Some(why) => vec![crate::log::damaged_state(why)],
            };
            encode_entry(&mut run.encoder, RecordKind::PartitionState, id, &state);
            run.after = Some(id);
        }
        run.contains = self.journal.end();
        if run.awaits.is_none() && !run.encoded {
            self.deadlines.insert((now.instant, Reason::Continue));
        }
        self.storage.run = Some(run);
    }

    /// Ends a checkpoint whose states the journal has caught up with.
    fn close_checkpoint(&mut self, out: &mut Outbox) {
        let durable = self.journal.durable();
        let ready = |run: &mut Run| run.encoded && run.awaits.is_none() && durable >= run.contains;
        let Some(run) = self.storage.run.take_if(ready) else {
            let waits = self.storage.run.as_ref().is_some_and(|run| run.encoded && run.awaits.is_none());
            if waits && self.trusts_os && !self.journal.is_in_flight() {
                self.journal.sync_next();
            }
            return;
        };
        let task =
            Task::Checkpoint { slot: run.slot, position: run.position, chunks: vec![run.encoder.finish()], last: true };
        self.storage.closing = true;
        self.storage.push(Job::Close(Closing { start: run.start, is_last: run.is_last }), task, out);
    }

    /// A checkpoint is complete and durable: the journal below the older one is free, and so are files that neither
    /// names.
    fn closed_checkpoint(&mut self, now: Now, Closing { start, is_last }: Closing, out: &mut Outbox) {
        self.storage.sequence += 1;
        self.counters.checkpoints += 1;
        self.storage.kept.push_back(start.lsn);
        while self.storage.kept.len() > 2 {
            self.storage.kept.pop_front();
        }
        // With one checkpoint only, the other slot may hold nothing to fall back to but the journal from its start.
        if self.storage.kept.len() == 2 {
            let older = self.storage.kept[0];
            self.journal.recycle(older);
        }
        self.storage.removals.unname();
        self.evict();
        if self.is_exhausted() {
            // Another checkpoint would free no more.
            self.out_of_space(now, FileName::Journal(self.journal.slots()), out);
        }
        if is_last {
            out.push(Effect::Stopped);
        }
    }

    /// Whether requests wait for room that checkpoints cannot make: the journal cannot grow, and the newest two of them
    /// need none of it.
    fn is_exhausted(&self) -> bool {
        let is_largest = self.storage.is_ring_bound || self.journal.slots() >= self.geometry.max_files;
        let is_unneeded =
            self.storage.kept.len() == 2 && self.storage.kept.iter().all(|&kept| kept == self.journal.end());
        let waits = self.stalled.front().is_some_and(|(_, produce)| !self.has_room(produce));
        is_largest && is_unneeded && waits
    }

    /// Refuses appends for a while.
    fn out_of_space(&mut self, now: Now, file: FileName, out: &mut Outbox) {
        if self.no_space.is_none() {
            self.deadlines.insert((now.instant + SPACE_RETRY, Reason::Space));
        }
        if !std::mem::replace(&mut self.storage.told_no_space, true) {
            out.log(Level::Error, format!("no space left for {file}: appends are refused until there is room"));
        }
        self.no_space = Some(file);
    }

    pub(super) fn task_done(&mut self, now: Now, task: TaskId, result: Result<(), DiskError>, out: &mut Outbox) {
        let job = self.storage.jobs.remove(&task).expect("a task that was pushed");
        let done = match result {
            Ok(()) => {
                let has_room = self.no_space.is_none() && !self.storage.is_ring_bound;
                if has_room && std::mem::take(&mut self.storage.told_no_space) {
                    out.log(Level::Info, "there is room again: appends are taken");
                }
                true
            }
            // Nothing is lost but the short way: the journal takes what comes, as long as it has room.
            Err(DiskError::NoSpace(_)) if matches!(job, Job::Allocate(..)) => false,
            // The ring stays as large as it is for a while.
            Err(DiskError::NoSpace(_)) if matches!(job, Job::Extend) => {
                self.storage.extend_from = now.instant + EXTEND_RETRY;
                self.storage.is_ring_bound = true;
                false
            }
            // Nobody needs these files any more: what stays is space, and the next start tries again.
            Err(error) if matches!(job, Job::Remove) => {
                return out.log(Level::Warn, format!("files that nothing needs stay: {error}"));
            }
            // Unlike an allocation, a sync that finds no space may have let go of pages already; one more would succeed
            // and mean nothing.
            Err(DiskError::NoSpace(file)) if !matches!(job, Job::Sync(..)) => {
                self.out_of_space(now, file, out);
                false
            }
            Err(error) => {
                // A failed write or sync leaves unknown what the disk holds; the journal still has all of it.
                return out.push(Effect::Fatal(format!("background work failed: {error}")));
            }
        };
        match job {
            Job::Extend => {
                self.storage.extending = false;
                if done {
                    self.storage.is_ring_bound = false;
                    self.journal.add_slot();
                }
            }
            Job::Allocate(slot, id, base, up_to) => {
                self.storage.allocating.remove(&slot);
                if done && self.is_hosted(slot, id) {
                    self.host(slot).partition.log_mut().allocated(base, up_to);
                }
            }
            Job::Flush(slot, id) => {
                if self.is_hosted(slot, id) {
                    self.host(slot).partition.log_mut().flushed(done);
                    if done {
                        self.flush_if_due(slot);
                    } else {
                        self.storage.due.insert(slot);
                    }
                }
                self.run_goes_on(Awaited::Flush(id));
            }
            Job::Sync(slot, id, marks) => {
                if done && self.is_hosted(slot, id) {
                    for (base, mark) in marks {
                        self.host(slot).partition.log_mut().synced_to(base, mark);
                    }
                }
                self.run_goes_on(Awaited::Task(task));
            }
            Job::Checkpoint if done => self.run_goes_on(Awaited::Task(task)),
            Job::Checkpoint => self.abandon_checkpoint(),
            Job::Close(closing) => {
                self.storage.closing = false;
                if done {
                    self.closed_checkpoint(now, closing, out);
                } else {
                    self.abandon_checkpoint();
                }
            }
            Job::Remove => {}
        }
    }

    fn is_hosted(&self, slot: u32, id: TopicPartition) -> bool {
        self.hosts[slot as usize].as_ref().is_some_and(|hosted| hosted.partition.id() == id)
    }

    fn abandon_checkpoint(&mut self) {
        self.storage.run = None;
        self.storage.wanted = true;
    }

    fn run_goes_on(&mut self, done: Awaited) {
        if let Some(run) = &mut self.storage.run
            && run.awaits == Some(done)
        {
            run.awaits = None;
        }
    }

    /// Tries again what found no space; the next failure sets the mark anew.
    pub(super) fn retry_space(&mut self) {
        self.no_space = None;
    }

    /// Deletes what retention lets go of in the next partitions, and comes back for the others.
    pub(super) fn retention(&mut self, now: Now, out: &mut Outbox) {
        let after = self.storage.retention_after;
        let slots: Vec<(TopicPartition, u32)> = self
            .by_id
            .range((after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded), std::ops::Bound::Unbounded))
            .take(PARTITIONS_AT_ONCE)
            .map(|(&id, &slot)| (id, slot))
            .collect();
        for &(_, slot) in &slots {
            self.retain(now.wall, slot, out);
        }
        let more = slots.len() == PARTITIONS_AT_ONCE;
        self.storage.retention_after = if more { slots.last().map(|&(id, _)| id) } else { None };
        let pause = if more { Duration::from_millis(1) } else { self.retention_interval };
        self.deadlines.insert((now.instant + pause, Reason::Retention));
    }

    fn retain(&mut self, now: Timestamp, slot: u32, out: &mut Outbox) {
        let expiry = i64::try_from(self.producer_expiration_ms).unwrap_or(i64::MAX);
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let name = logs::display(&hosted.name, hosted.partition.id());
        hosted.partition.log_mut().expire_producers(Timestamp(now.0.saturating_sub(expiry)));
        if hosted.config.cleanup_policy != Cleanup::Delete || hosted.partition.damage().is_some() {
            return;
        }
        let config = hosted.config.clone();
        let high_watermark = hosted.partition.advanced().high_watermark;
        let log = hosted.partition.log_mut();
        let oldest = config.retention_ms.map(|ms| now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
        let expired = |segment: &crate::log::Segment| {
            let newest = if segment.max_timestamp >= 0 { segment.max_timestamp } else { segment.since.0 };
            oldest.is_some_and(|oldest| newest < oldest)
        };
        // The active segment goes too once all that it holds is old, by way of being closed.
        if log.segments().next_back().is_some_and(|active| active.bytes > 0 && expired(active)) {
            log.roll(&mut self.journal);
        }
        let mut bytes = log.bytes();
        let mut to = log.start();
        let segments: Vec<_> = log.segments().cloned().collect();
        for pair in segments.windows(2) {
            let over = config.retention_bytes.is_some_and(|limit| bytes - pair[0].bytes >= limit);
            if !(over || expired(&pair[0])) || pair[1].base > high_watermark {
                break;
            }
            bytes -= pair[0].bytes;
            to = pair[1].base;
        }
        if to > log.start() {
            out.log(Level::Info, format!("retention moves the log start of {name} to {to}"));
            self.advance_start(slot, to);
        }
    }
}
