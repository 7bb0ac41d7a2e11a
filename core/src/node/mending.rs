//! Indexes that are made again: damage in one costs neither records nor their partition, since its segment has all that
//! an index says. So does one that the disk cannot read, which is tried a few times.
//!
//! `Idle` → `Reading` (a read, whoever asked for it, has met damage in an index; the next step of looking for what is
//! damaged, or of making it again, is with the disk) → `Writing` (the new entries are on their way into the index) →
//! `Reading` → … → `Writing` (the index is synced) → `Idle`, or on to the next index that waits. A start reads no index,
//! and so need not wait for any to be made again. One that cannot be made again has a damaged segment: that is told, and
//! refused, as if a consumer had read there.
//!
//! Until it is whole, readers that need the damaged part are told to come back (`KAFKA_STORAGE_ERROR`, which clients try
//! again). A step reads about a mebibyte and waits for its write, so that a gigabyte takes some seconds of a disk that
//! goes on serving others.

use std::collections::{BTreeMap, VecDeque};

use super::storage::Job;
use super::{Node, ReadResult, Reader, logs, segment_of};
use crate::boundary::{DiskError, DiskOp, Effect, FileName, Level, Outbox, SegmentName, Task};
use crate::log::{Mend, Mended, Place, ReadOutcome, ReadPlan, Sought};

/// How often an index is made again that the disk cannot read.
const TRIES: u8 = 3;

/// Of how many such indexes it is remembered. Where there are more, the disk is beyond help.
const TRIED_MAX: usize = 1_000;

/// An index that is being made again.
#[derive(Clone, Copy, Debug)]
struct Running {
    segment: SegmentName,
    /// How many entries the index has.
    entries: u64,
    /// How many were made so far.
    made: u64,
    /// How it goes on after what is with the disk; `None` where that is the end.
    next: Option<Mend>,
}

/// Indexes that are to be made again.
#[derive(Debug, Default)]
pub(super) struct Mending {
    running: Option<Running>,
    waiting: VecDeque<SegmentName>,
    /// How often each index was made again that the disk could not read.
    tried: BTreeMap<SegmentName, u8>,
}

impl Node {
    /// Has an index made again where a read has failed because of it. Returns whether that is why it has failed.
    pub(super) fn mend(&mut self, slot: u32, error: &DiskError, out: &mut Outbox) -> bool {
        let &(DiskError::Corrupt(FileName::Index(segment), ..) | DiskError::Io(FileName::Index(segment), _)) = error
        else {
            return false;
        };
        if self.host(slot).partition.damage().is_some() {
            return false;
        }
        if self.stopping {
            // The next start meets it again, when somebody reads there.
            return true;
        }
        let is_running = self.mending.running.is_some_and(|running| running.segment == segment);
        if is_running || self.mending.waiting.contains(&segment) {
            return true;
        }
        if matches!(error, DiskError::Io(..)) && !self.may_try(segment) {
            return false;
        }
        let hosted = self.host(slot);
        let name = logs::display(&hosted.name, hosted.partition.id());
        out.log(Level::Warn, format!("{name}: {error}; the index is made again from its segment"));
        self.mending.waiting.push_back(segment);
        if self.mending.running.is_none() {
            self.mend_next(out);
        }
        true
    }

    /// Whether an index that the disk cannot read is to be made again once more. A sector that cannot be read can often be
    /// written over; on a disk that is failing altogether that would go on for ever.
    fn may_try(&mut self, segment: SegmentName) -> bool {
        let mut tried = std::mem::take(&mut self.mending.tried);
        if tried.len() >= TRIED_MAX {
            tried.retain(|&name, _| self.is_live(name));
        }
        let has_room = tried.len() < TRIED_MAX || tried.contains_key(&segment);
        let may_try = has_room && {
            let tries = tried.entry(segment).or_default();
            *tries = tries.saturating_add(1);
            *tries <= TRIES
        };
        self.mending.tried = tried;
        may_try
    }

    /// Begins with the next index that waits.
    fn mend_next(&mut self, out: &mut Outbox) {
        self.mending.running = None;
        if self.stopping {
            self.mending.waiting.clear();
        }
        while let Some(segment) = self.mending.waiting.pop_front() {
            let plan = self.log_of(segment).and_then(|log| log.plan_to_mend(segment));
            if let Some(ReadPlan { place: Place::Segment { segment, entries }, sought: Sought::Index(next) }) = plan {
                self.mending.running = Some(Running { segment, entries, made: 0, next: Some(next) });
                return self.mend_on(out);
            }
        }
    }

    /// Goes on where the log still has the segment.
    fn mend_on(&mut self, out: &mut Outbox) {
        let Some(Running { segment, entries, next: Some(mend), .. }) = self.mending.running else { return };
        // Files of a segment that is gone are removed, and must not be made anew.
        if self.stopping || !self.is_live(segment) {
            return self.mend_next(out);
        }
        let plan = ReadPlan { place: Place::Segment { segment, entries }, sought: Sought::Index(mend) };
        let read = self.next_read();
        self.reads.insert(read, (Reader::Mending, segment_of(&plan)));
        out.push(Effect::Disk(DiskOp::Read(read, plan)));
    }

    /// A step has been read.
    pub(super) fn mended(&mut self, result: ReadResult, out: &mut Outbox) {
        let running = self.mending.running.as_mut().expect("an index is being made again");
        let segment = running.segment;
        match result {
            Ok(ReadOutcome::Mended(mended)) => {
                running.made += mended.count();
                running.next = mended.next;
                let Mended { position, entries, next } = mended;
                let task = match (entries.is_empty(), next) {
                    (true, Some(_)) => return self.mend_on(out),
                    (true, None) => Task::Sync { segments: vec![segment], ahead: Vec::new() },
                    (false, _) => {
                        Task::Flush { segment, runs: Vec::new(), index_position: position, index: entries, trim: None }
                    }
                };
                if !self.is_live(segment) {
                    return self.mend_next(out);
                }
                self.storage.push(Job::Mend, task, out);
            }
            Ok(other) => unreachable!("{other:?} is not what was sought"),
            Err(None) => self.mend_next(out),
            Err(Some(error)) => {
                if let Ok(slot) = self.hosted(segment.partition) {
                    self.refuse_unreadable(slot, &error, out);
                }
                self.mend_next(out);
            }
        }
    }

    /// New entries are in the index, or the last of them are durable; or there was no space for them.
    pub(super) fn mend_written(&mut self, done: bool, out: &mut Outbox) {
        let Some(Running { segment, made, next, .. }) = self.mending.running else { return };
        match next {
            _ if !done => self.mend_next(out),
            Some(_) => self.mend_on(out),
            None => {
                self.counters.indexes_mended += 1;
                self.counters.index_entries_mended += made;
                let file = FileName::Index(segment);
                out.log(Level::Info, format!("{file} is whole again: entries={made}"));
                self.mend_next(out);
            }
        }
    }
}
