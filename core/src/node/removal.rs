//! Files that nothing needs any more, until they are removed.
//!
//! What a log or the metadata lets go of is
//! - `dropped`: a checkpoint may still name it, and a crash would bring it back;
//! - `condemned` when a checkpoint begins, which does not name it;
//! - `unnamed` when that checkpoint is durable;
//! - removed, once `file.delete.delay.ms` have passed since it was dropped: who reads it by then may finish.
//!
//! On a full disk, where no checkpoint may find room, the journal's word is enough.
//! A checkpoint that is abandoned leaves what it condemned to the next one. What is left when the process ends is found
//! at the next start and removed without delay.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::time::Duration;

use crate::boundary::{SegmentName, Task};
use crate::ids::TopicPartition;
use crate::time::Instant;

/// What is removed together.
#[derive(Debug)]
enum Files {
    Segments(Vec<SegmentName>),
    Partition(TopicPartition),
}

/// Files by when they may be removed. Thousands that are dropped together are due together, and move from state to state
/// as one.
type Due = BTreeMap<Instant, VecDeque<Files>>;

fn join(to: &mut Due, from: &mut Due) {
    while let Some((due, mut files)) = from.pop_first() {
        match to.entry(due) {
            Entry::Vacant(free) => _ = free.insert(files),
            Entry::Occupied(mut there) => there.get_mut().append(&mut files),
        }
    }
}

/// All files that are to be removed.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// Dropped in this step, with how long they stay.
    fresh: Vec<(Duration, Files)>,
    dropped: Due,
    condemned: Due,
    unnamed: Due,
}

impl Removals {
    /// Segments were dropped from a log; their files stay for `delay_ms`.
    pub(super) fn drop_segments(&mut self, gone: Vec<SegmentName>, delay_ms: u64) {
        if !gone.is_empty() {
            self.fresh.push((Duration::from_millis(delay_ms), Files::Segments(gone)));
        }
    }

    /// A partition was dropped; its files stay for `delay_ms`.
    pub(super) fn drop_partition(&mut self, partition: TopicPartition, delay_ms: u64) {
        self.fresh.push((Duration::from_millis(delay_ms), Files::Partition(partition)));
    }

    /// A partition that was dropped is here again: its folder stays.
    pub(super) fn keep_partition(&mut self, partition: TopicPartition) {
        let is_other = |files: &Files| !matches!(files, Files::Partition(dropped) if *dropped == partition);
        self.fresh.retain(|(_, files)| is_other(files));
        for due in [&mut self.dropped, &mut self.condemned, &mut self.unnamed] {
            due.values_mut().for_each(|files| files.retain(is_other));
        }
    }

    /// Ends a step: the delay of what was dropped in it begins now. Calls `wake_at` for when to look again.
    pub(super) fn begin_delays(&mut self, now: Instant, mut wake_at: impl FnMut(Instant)) {
        for (delay, files) in self.fresh.drain(..) {
            let due = now + delay;
            wake_at(due);
            self.dropped.entry(due).or_default().push_back(files);
        }
    }

    /// Whether something would be removed now if a checkpoint had begun since it was dropped.
    pub(super) fn wants_checkpoint(&self, now: Instant) -> bool {
        self.dropped.first_key_value().is_some_and(|(due, _)| *due <= now)
    }

    /// A checkpoint begins.
    pub(super) fn condemn(&mut self) {
        join(&mut self.condemned, &mut self.dropped);
    }

    /// The checkpoint that has begun is durable.
    pub(super) fn unname(&mut self) {
        join(&mut self.unnamed, &mut self.condemned);
    }

    /// Lets go of what checkpoints may still name, once its removal is durable in the journal: a start does without
    /// files that it goes on to find removed. The way out of a disk that is too full for a checkpoint.
    pub(super) fn unname_all(&mut self) {
        self.condemn();
        self.unname();
    }

    /// The next task that removes what is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Task> {
        let mut due = self.unnamed.first_entry().filter(|due| *due.key() <= now)?;
        let files = due.get_mut().pop_front();
        if due.get().is_empty() {
            due.remove();
        }
        Some(match files? {
            Files::Segments(segments) => Task::RemoveSegments(segments),
            Files::Partition(partition) => Task::RemovePartition(partition),
        })
    }
}
