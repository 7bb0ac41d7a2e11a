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
    /// A partition, and which of its drops it was.
    Partition(TopicPartition, u64),
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
    /// The newest drop of each partition that has not come back since. No other is carried out: thousands come back
    /// together, and nobody looks for each among all.
    gone: BTreeMap<TopicPartition, u64>,
    /// How many partitions have been dropped since the start.
    drops: u64,
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
        self.drops += 1;
        self.gone.insert(partition, self.drops);
        self.fresh.push((Duration::from_millis(delay_ms), Files::Partition(partition, self.drops)));
    }

    /// A partition that was dropped is here again: its folder stays.
    pub(super) fn keep_partition(&mut self, partition: TopicPartition) {
        self.gone.remove(&partition);
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
        loop {
            let mut due = self.unnamed.first_entry().filter(|due| *due.key() <= now)?;
            let files = due.get_mut().pop_front();
            if due.get().is_empty() {
                due.remove();
            }
            match files {
                Some(Files::Segments(segments)) => return Some(Task::RemoveSegments(segments)),
                Some(Files::Partition(partition, drop)) if self.gone.get(&partition) == Some(&drop) => {
                    self.gone.remove(&partition);
                    return Some(Task::RemovePartition(partition));
                }
                // It has come back.
                Some(Files::Partition(..)) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Uuid;

    const DELAY_MS: u64 = 5;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: Uuid([1; 16]), partition }
    }

    /// The partitions that are removed after this, a checkpoint later.
    fn removed(removals: &mut Removals) -> Vec<i32> {
        removals.begin_delays(Instant(0), |_| {});
        removals.condemn();
        removals.unname();
        let mut removed = Vec::new();
        while let Some(task) = removals.take_due(Instant(DELAY_MS * 1_000_000)) {
            let Task::RemovePartition(id) = task else { panic!("another task: {task:?}") };
            removed.push(id.partition);
        }
        removed
    }

    #[test]
    fn a_partition_that_has_come_back_is_not_removed_unless_it_goes_again() {
        let mut removals = Removals::default();
        (0..4).for_each(|index| removals.drop_partition(partition(index), DELAY_MS));
        removals.keep_partition(partition(0));
        removals.begin_delays(Instant(0), |_| {});
        removals.keep_partition(partition(1));
        removals.condemn();
        removals.keep_partition(partition(2));
        removals.drop_partition(partition(1), DELAY_MS);
        assert_eq!(removed(&mut removals), [3, 1]);
        assert!(removals.gone.is_empty(), "nothing is remembered of what is removed");
        removals.drop_partition(partition(2), DELAY_MS);
        assert_eq!(removed(&mut removals), [2]);
    }
}
