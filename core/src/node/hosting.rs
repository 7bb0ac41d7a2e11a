//! Partitions that come with a topic and go with it, a slice at a time.
//!
//! A topic is made or deleted as one entry of the journal, which the image takes over (`metadata::applying`). What a
//! partition needs to serve, and what it leaves behind, is more work, of which no request needs more than that of its own
//! partition: some partitions are taken in or let go of in the step of the change, and the others in those that
//! [`Reason::Slice`](super::Reason::Slice) asks for, in the order of the changes.
//!
//! Nobody finds a partition that is only half here. The change is answered, and metadata is told, when all of them are
//! where they belong; a request that comes before that finds no such partition, as one that came before the change. A
//! topic's name belongs to its image, so what waits to be let go of is found by nobody, whatever has its name by then.
//! The topic that keeps what groups must not lose does not wait: coordinators are where the image says.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::Node;
use crate::boundary::Outbox;
use crate::ids::{TopicId, TopicPartition};
use crate::time::Now;

/// Partitions that are taken in or let go of in one step, at about 0.3 µs each.
const MOVED_AT_ONCE: usize = 200;

/// Partitions of one topic that come or go.
#[derive(Debug)]
struct Move {
    topic: TopicId,
    partitions: Range<i32>,
    is_leaving: bool,
}

/// Partitions that are on their way, in the order of the changes that moved them.
#[derive(Debug, Default)]
pub(super) struct Moves {
    queue: VecDeque<Move>,
    /// Replicas that have left while their topic stays, and the number of the newest files that each had. One that comes
    /// back has other files: the journal, which a start reads from where the one before was here, knows the old ones.
    left: BTreeMap<TopicPartition, u32>,
    /// How many partitions have been taken in since the start.
    stays: u64,
}

impl Moves {
    /// Whether all partitions are where they belong.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A topic has got one partition more.
    pub(super) fn come(&mut self, TopicPartition { topic, partition }: TopicPartition) {
        match self.queue.back_mut() {
            Some(last) if last.topic == topic && !last.is_leaving && last.partitions.end == partition => {
                last.partitions.end += 1;
            }
            _ => self.queue.push_back(Move { topic, partitions: partition..partition + 1, is_leaving: false }),
        }
    }

    /// Whether a partition is on its way here.
    pub(super) fn is_coming(&self, TopicPartition { topic, partition }: TopicPartition) -> bool {
        let holds =
            |coming: &Move| coming.topic == topic && !coming.is_leaving && coming.partitions.contains(&partition);
        self.queue.iter().any(holds)
    }

    /// A partition is taken in: the number of its stay, which no other has.
    pub(super) fn begin_stay(&mut self) -> u64 {
        self.stays += 1;
        self.stays
    }

    /// A replica has left, whose newest files have the number `lineage`.
    pub(super) fn left(&mut self, id: TopicPartition, lineage: u32) {
        let known = self.left.entry(id).or_default();
        *known = lineage.max(*known);
    }

    /// The number of the newest files that a replica had when it was here before, 0 where it was not.
    pub(super) fn lineage_of(&self, id: TopicPartition) -> u32 {
        self.left.get(&id).copied().unwrap_or(0)
    }

    /// Replicas of a topic come back no more.
    pub(super) fn forget(&mut self, topic: TopicId) {
        let first = TopicPartition { topic, partition: 0 };
        let last = TopicPartition { topic, partition: i32::MAX };
        let gone: Vec<_> = self.left.range(first..=last).map(|(&id, _)| id).collect();
        gone.iter().for_each(|id| _ = self.left.remove(id));
    }

    /// A topic is gone, and had so many partitions.
    pub(super) fn leave(&mut self, topic: TopicId, partitions: i32) {
        self.queue.push_back(Move { topic, partitions: 0..partitions, is_leaving: true });
    }
}

impl Node {
    /// Moves the next partitions.
    pub(super) fn move_some(&mut self, now: Now, out: &mut Outbox) {
        for _ in 0..MOVED_AT_ONCE {
            let Some(next) = self.moves.queue.front_mut() else { return };
            let (topic, is_leaving) = (next.topic, next.is_leaving);
            match next.partitions.next() {
                None => drop(self.moves.queue.pop_front()),
                Some(partition) if is_leaving => self.drop_partition(now, TopicPartition { topic, partition }, out),
                Some(partition) => self.take_in(now, TopicPartition { topic, partition }, out),
            }
        }
        while self.moves.queue.front().is_some_and(|done| done.partitions.is_empty()) {
            self.moves.queue.pop_front();
        }
    }
}
