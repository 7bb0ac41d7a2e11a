//! What happens behind the acknowledgements: write-behind, room for the journal and for bodies, removal, a full disk.
//!
//! Everything here is a task that the disk is given and that it reports as done. What owns a part of the work lies beside
//! it: the checkpoints, the tails in memory, files to be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checkpoints::{Awaited, Closing};
use super::removal::Removals;
use super::{Node, Reason, task_id};
use crate::boundary::{DiskError, DiskOp, Effect, FileName, Level, Outbox, SegmentName, Task, TaskId};
use crate::ids::TopicPartition;
use crate::log::{Log, Mark};
use crate::time::{Instant, Now};

/// Write-behind waits for so many bytes of a partition: enough for a large sequential write, few enough that what many
/// small partitions hold fits into a checkpoint.
pub(super) const FLUSH_AT: u64 = 256 << 10;
/// How far ahead blocks are reserved for bodies that go straight to a segment.
const ALLOCATE_AHEAD: u64 = 64 << 20;
/// Removals that one step asks for, at about 0.3 µs each.
const REMOVED_AT_ONCE: usize = 200;
/// How long the journal's ring stays as it is after there was no space to extend it.
const EXTEND_RETRY: Duration = Duration::from_secs(10);
/// How long to wait before trying a full disk again.
const SPACE_RETRY: Duration = Duration::from_secs(1);

/// A task that the disk has not finished.
#[derive(Debug)]
pub(super) enum Job {
    Extend,
    /// Of which partition, which segment, up to where.
    Allocate(u32, TopicPartition, SegmentName, u64),
    /// Of which partition, and which of its stays here.
    Flush(u32, TopicPartition, u64),
    Sync(Vec<Syncing>),
    Trim,
    Checkpoint,
    Close(Closing),
    Remove,
    /// Entries of an index that are made again.
    Mend,
}

/// What is synced of one partition.
#[derive(Debug)]
pub(super) struct Syncing {
    slot: u32,
    id: TopicPartition,
    stay: u64,
    marks: Vec<(SegmentName, Mark)>,
}

/// What the node knows of its background work.
#[derive(Default)]
pub(super) struct Storage {
    next_task: u64,
    jobs: BTreeMap<TaskId, Job>,
    due: BTreeSet<u32>,
    /// Partitions that want blocks reserved, and those that wait for them.
    wanting: BTreeSet<u32>,
    allocating: BTreeSet<u32>,
    extending: bool,
    /// The operator has been told that there is no space.
    pub(super) told_no_space: bool,
    /// When the journal's ring may be extended again.
    extend_from: Instant,
    /// Whether there was no space when the ring was to be extended last.
    is_ring_bound: bool,
    /// Files that nothing needs any more.
    pub(super) removals: Removals,
}

impl Storage {
    /// Whether segments of the partition in a slot are being synced.
    pub(super) fn is_syncing(&self, slot: u32) -> bool {
        self.jobs.values().any(|job| matches!(job, Job::Sync(parts) if parts.iter().any(|part| part.slot == slot)))
    }

    pub(super) fn push(&mut self, job: Job, task: Task, out: &mut Outbox) -> TaskId {
        let id = task_id(&mut self.next_task);
        self.jobs.insert(id, job);
        out.push(Effect::Disk(DiskOp::Task(id, task)));
        id
    }
}

impl Node {
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

    /// Whether there is background work whose length goes with what was appended.
    pub(super) fn is_behind(&self) -> bool {
        !self.storage.due.is_empty() || self.is_over_budget()
    }

    /// Goes on with whatever background work can go on.
    pub(super) fn advance_storage(&mut self, now: Now, out: &mut Outbox) {
        self.let_go(now);
        self.evict(now, out);
        self.remove_files(now, out);
        self.wake_compaction(now);
        if self.no_space.is_some() {
            // A last checkpoint would only make the next start shorter: the journal has everything.
            if self.stopping && self.woken.is_empty() && !self.has_resumable() {
                out.push(Effect::Stopped);
            }
            return;
        }
        // Requests that wait for room may need more than the files that the journal likes to have at hand.
        let is_waited_for =
            !self.stalled.is_empty() || !self.delayed.is_empty() || self.groups.has_waiting() || self.has_incoming();
        let is_starved = is_waited_for && self.journal.slots() < self.geometry.max_files;
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
                self.storage.push(Job::Allocate(slot, id, segment, position + bytes), task, out);
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
        for removed in 0.. {
            if removed == REMOVED_AT_ONCE {
                self.deadlines.insert((now.instant, Reason::Removal));
                break;
            }
            let Some(mut task) = self.storage.removals.take_due(now.instant) else { break };
            if let Task::RemoveSegments(segments) = &mut task {
                // Where the system lost acknowledged records, a start may find a segment beyond the log's end, and the
                // log may begin one of the same name since.
                segments.retain(|&name| !self.is_live(name));
            }
            self.storage.push(Job::Remove, task, out);
        }
    }

    pub(super) fn log_of(&self, name: SegmentName) -> Option<&Log> {
        let slot = *self.by_id.get(&name.partition)?;
        self.hosts[slot as usize].as_ref().map(|hosted| hosted.partition.log())
    }

    /// Whether a log still has this segment.
    pub(super) fn is_live(&self, name: SegmentName) -> bool {
        self.log_of(name).is_some_and(|log| log.has_segment(name))
    }

    /// Whether a log still has what was in this segment, or what compaction left of it, in another one.
    pub(super) fn is_replaced(&self, name: SegmentName) -> bool {
        self.log_of(name).is_some_and(|log| !log.has_segment(name) && name.base >= log.first_base())
    }

    /// Has a partition written behind where it has so many bytes for that, and says of how many pieces; `None` where it has
    /// not, or that is under way.
    pub(super) fn flush(&mut self, slot: u32, at_least: u64, out: &mut Outbox) -> Option<usize> {
        let hosted = self.host(slot);
        let (id, stay) = (hosted.partition.id(), hosted.stay);
        let task = hosted.partition.log_mut().flush(at_least)?;
        let Task::Flush { runs, .. } = &task else { unreachable!("it flushes") };
        let pieces = runs.iter().map(|(_, pieces)| pieces.len()).sum();
        self.storage.push(Job::Flush(slot, id, stay), task, out);
        Some(pieces)
    }

    /// Has what is written of partitions synced. Those `ahead` are synced next.
    pub(super) fn sync(&mut self, slots: &[u32], ahead: &[u32], out: &mut Outbox) -> TaskId {
        let mut dirty = |slot: u32| {
            let hosted = self.host(slot);
            let (id, stay) = (hosted.partition.id(), hosted.stay);
            Syncing { slot, id, stay, marks: hosted.partition.log().unsynced_segments() }
        };
        let names = |part: &Syncing| part.marks.iter().map(|&(segment, _)| segment).collect::<Vec<_>>();
        let parts: Vec<Syncing> = slots.iter().map(|&slot| dirty(slot)).collect();
        let ahead = ahead.iter().flat_map(|&slot| names(&dirty(slot))).collect();
        let segments = parts.iter().flat_map(names).collect();
        self.storage.push(Job::Sync(parts), Task::Sync { segments, ahead }, out)
    }

    /// Whether requests wait for room that checkpoints cannot make: the journal cannot grow, and the newest two of them
    /// need none of it.
    pub(super) fn is_exhausted(&self) -> bool {
        let is_largest = self.storage.is_ring_bound || self.journal.slots() >= self.geometry.max_files;
        let newest = self.checkpoints.newest_two();
        let is_unneeded = newest.is_some_and(|newest| newest.iter().all(|&kept| kept == self.journal.end()));
        is_largest && is_unneeded && self.waits_for_room()
    }

    /// Refuses appends for a while.
    pub(super) fn out_of_space(&mut self, now: Now, file: FileName, out: &mut Outbox) {
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
            // Its segment has all that an index says: what is in the file by now, the next reader finds out.
            Err(error @ DiskError::Io(FileName::Index(_), _)) if matches!(job, Job::Mend) => {
                out.log(Level::Warn, format!("an index cannot be made again: {error}"));
                false
            }
            // Unlike an allocation, a sync that finds no space may have let go of pages already; one more would succeed
            // and mean nothing. Of segments, mending an index only syncs.
            Err(DiskError::NoSpace(file))
                if !matches!(job, Job::Sync(..)) && !matches!((&job, file), (Job::Mend, FileName::Segment(_))) =>
            {
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
            Job::Allocate(slot, id, segment, up_to) => {
                self.storage.allocating.remove(&slot);
                if done && self.is_hosted(slot, id) {
                    self.host(slot).partition.log_mut().allocated(segment, up_to);
                }
            }
            Job::Flush(slot, id, stay) => {
                // One that has left and come back meanwhile has flushes of its own.
                if self.is_hosted(slot, id) && self.host(slot).stay == stay {
                    self.host(slot).partition.log_mut().flushed(done);
                    if done {
                        self.flush_if_due(slot);
                    } else {
                        self.storage.due.insert(slot);
                    }
                }
                self.checkpoints.go_on(Awaited::Flush(id));
            }
            Job::Sync(parts) => {
                for Syncing { slot, id, stay, marks } in parts {
                    if done && self.is_hosted(slot, id) && self.host(slot).stay == stay {
                        let log = self.host(slot).partition.log_mut();
                        marks.into_iter().for_each(|(name, mark)| log.synced_to(name, mark));
                    }
                }
                self.checkpoints.go_on(Awaited::Task(task));
            }
            Job::Checkpoint if done => self.checkpoints.go_on(Awaited::Task(task)),
            Job::Checkpoint => self.checkpoints.abandon(),
            Job::Close(closing) => {
                if done {
                    self.closed_checkpoint(now, closing, out);
                } else {
                    self.checkpoints.abandon();
                }
            }
            Job::Mend => self.mend_written(done, out),
            Job::Trim | Job::Remove => {}
        }
    }

    /// Whether a slot still is this partition's.
    pub(super) fn is_hosted(&self, slot: u32, id: TopicPartition) -> bool {
        self.hosts[slot as usize].as_ref().is_some_and(|hosted| hosted.partition.id() == id)
    }

    /// Tries again what found no space; the next failure sets the mark anew.
    pub(super) fn retry_space(&mut self) {
        self.no_space = None;
    }
}
