//! What one image differs in from another that takes its place, a part at a time: as if records had led from one to the
//! other.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::{Change, MetadataImage};
use crate::ids::{TopicId, TopicPartition};

/// The way from one image to another. What is gone comes first, since what takes its place may have its name.
#[derive(Debug)]
pub struct Differences {
    before: MetadataImage,
    stage: Stage,
}

/// What is looked at next.
#[derive(Debug)]
enum Stage {
    /// Topics of the image before, behind this one.
    Gone(Option<TopicId>),
    Brokers,
    /// The topics of the image after, behind this one, and the partitions of the first of them from this one on.
    Topics(Option<TopicId>, usize),
    /// Nothing: the image before is let go of.
    Over,
}

impl Differences {
    /// The way that begins at `before`.
    pub fn from(before: MetadataImage) -> Differences {
        Differences { before, stage: Stage::Gone(None) }
    }

    /// The next changes on the way to `after`, which is the same each time, in the order in which they could have come:
    /// what about `looks_max` topics and partitions differ in, perhaps in nothing. `None` at the end of the way.
    pub fn next(&mut self, after: &MetadataImage, looks_max: usize) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        let mut left = looks_max;
        loop {
            match self.stage {
                Stage::Gone(last) => self.stage = self.next_gone(after, last, &mut left, &mut changes),
                Stage::Brokers => self.stage = self.brokers(after, &mut changes),
                Stage::Topics(last, from) => {
                    self.stage = self.next_topics(after, (last, from), &mut left, &mut changes);
                    return Some(changes);
                }
                Stage::Over => return self.before.let_go(looks_max).then_some(changes),
            }
            if left == 0 {
                return Some(changes);
            }
        }
    }

    fn next_gone(
        &self,
        after: &MetadataImage,
        last: Option<TopicId>,
        left: &mut usize,
        changes: &mut Vec<Change>,
    ) -> Stage {
        let behind = (last.map_or(Unbounded, Excluded), Unbounded);
        let mut last = None;
        for (&id, topic) in self.before.topics.range(behind).take(*left) {
            last = Some(id);
            *left -= 1;
            if !after.topics.contains_key(&id) {
                let partitions = i32::try_from(topic.partitions.len()).expect("partitions are numbered by an i32");
                changes.push(Change::TopicRemoved { id, name: topic.name.clone(), partitions });
            }
        }
        // Those are all where there were fewer than asked for.
        if *left == 0 { Stage::Gone(last) } else { Stage::Brokers }
    }

    /// Brokers and their settings are few.
    fn brokers(&self, after: &MetadataImage, changes: &mut Vec<Change>) -> Stage {
        changes.push(Change::BrokerSettings);
        for broker in after.brokers() {
            let (node_id, broker_epoch) = (broker.node_id, broker.broker_epoch);
            match self.before.broker(node_id) {
                Some(known) if known.broker_epoch == broker_epoch && known.standing == broker.standing => {}
                Some(known) if known.broker_epoch == broker_epoch => {
                    changes.push(Change::BrokerStanding { node_id, standing: Some(broker.standing) });
                }
                _ => changes.push(Change::BrokerRegistered { node_id, broker_epoch }),
            }
        }
        Stage::Topics(None, 0)
    }

    fn next_topics(
        &self,
        after: &MetadataImage,
        (mut last, mut from): (Option<TopicId>, usize),
        left: &mut usize,
        changes: &mut Vec<Change>,
    ) -> Stage {
        let behind = (last.map_or(Unbounded, Excluded), Unbounded);
        for (&id, topic) in after.topics.range(behind) {
            let known = self.before.topics.get(&id);
            if from == 0 {
                if *left == 0 {
                    return Stage::Topics(last, 0);
                }
                *left -= 1;
                if known.is_none() {
                    changes.push(Change::TopicCreated(id));
                }
                if known.is_none_or(|known| known.settings != topic.settings) {
                    changes.push(Change::TopicSettings(id));
                }
            }
            // At least one, so that a topic that is begun is not begun again.
            let to = topic.partitions.len().min(from.saturating_add((*left).max(1)));
            let are_shared = known.is_some_and(|known| Arc::ptr_eq(&known.partitions, &topic.partitions));
            let known = |index: usize| known.and_then(|known| known.partitions.get(index));
            for (index, state) in topic.partitions.iter().enumerate().take(to).skip(from).filter(|_| !are_shared) {
                let number = i32::try_from(index).expect("partitions are numbered by an i32");
                let partition = TopicPartition { topic: id, partition: number };
                match known(index) {
                    None => changes.push(Change::PartitionCreated(partition)),
                    Some(known) if known != state => changes.push(Change::PartitionChanged(partition)),
                    Some(_) => {}
                }
            }
            *left = left.saturating_sub(to - from);
            if to < topic.partitions.len() {
                return Stage::Topics(last, to);
            }
            (last, from) = (Some(id), 0);
        }
        Stage::Over
    }
}

impl MetadataImage {
    /// Lets go of about `count` more topics and partitions of an image that nobody reads any more: an image of thousands
    /// takes long to drop. Whether something is left.
    pub fn let_go(&mut self, count: usize) -> bool {
        let mut left = count;
        while left > 0
            && let Some(mut topic) = self.topics.first_entry()
        {
            left -= 1;
            if let Some(partitions) = Arc::get_mut(&mut topic.get_mut().partitions) {
                let kept = partitions.len().saturating_sub(left);
                left -= partitions.len() - kept;
                partitions.truncate(kept);
                if kept > 0 {
                    return true;
                }
            }
            let topic = topic.remove();
            self.by_name.remove(topic.name.as_str());
            self.by_unified_name.pop_first();
        }
        !self.topics.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::records::{Listener, MetadataRecord, PartitionState, Registration, Resource, Standing};
    use crate::ids::{LeaderEpoch, NodeId, Uuid};

    fn topic(number: u8, name: &str, partitions: usize) -> Vec<MetadataRecord> {
        let id = Uuid([number; 16]);
        let state = || PartitionState::new(vec![NodeId(1), NodeId(2)]);
        let placed = (0..i32::try_from(partitions).expect("few")).map(|partition| MetadataRecord::Partition {
            partition: TopicPartition { topic: id, partition },
            state: state(),
        });
        [MetadataRecord::Topic { id, name: name.into() }].into_iter().chain(placed).collect()
    }

    fn broker(node: i32, broker_epoch: i64) -> MetadataRecord {
        MetadataRecord::RegisterBroker(Registration {
            node_id: NodeId(node),
            directory_id: Uuid([u8::try_from(node).expect("few"); 16]),
            broker_epoch,
            listeners: vec![Listener { name: "PLAINTEXT".into(), host: "localhost".into(), port: 9092 }],
            rack: None,
            process: 7,
            peer_address: None,
            standing: Standing::Active,
        })
    }

    fn image(records: impl IntoIterator<Item = Vec<MetadataRecord>>) -> MetadataImage {
        let mut image = MetadataImage::default();
        records.into_iter().flatten().for_each(|record| _ = image.replay(1, &record));
        image
    }

    /// All changes, found with so many looks at a time.
    fn differences(before: &MetadataImage, after: &MetadataImage, looks_max: usize) -> Vec<Change> {
        let mut way = Differences::from(before.clone());
        std::iter::from_fn(|| way.next(after, looks_max)).flatten().collect()
    }

    #[test]
    fn an_image_differs_in_what_led_from_the_one_before_to_it() {
        let before = image([vec![broker(1, 1)], topic(1, "gone", 3), topic(2, "same", 2), topic(4, "grown", 1)]);
        let mut after = image([vec![broker(1, 1)], topic(2, "same", 2), topic(4, "grown", 3), topic(3, "gone", 1)]);
        after.replay(2, &broker(2, 2));
        let id = |number| Uuid([number; 16]);
        let at = |number, partition| TopicPartition { topic: id(number), partition };
        let mut state = after.partition(at(4, 0)).expect("it is there").clone();
        (state.leader, state.leader_epoch, state.partition_epoch) = (Some(NodeId(2)), LeaderEpoch(1), 1);
        after.replay(2, &MetadataRecord::Partition { partition: at(4, 0), state });
        let of = Resource::Topic(id(2));
        after.replay(2, &MetadataRecord::Config { of, name: "retention.ms".into(), value: Some("5".into()) });
        let expect = [
            Change::TopicRemoved { id: id(1), name: "gone".into(), partitions: 3 },
            Change::BrokerSettings,
            Change::BrokerRegistered { node_id: NodeId(2), broker_epoch: 2 },
            Change::TopicSettings(id(2)),
            Change::TopicCreated(id(3)),
            Change::TopicSettings(id(3)),
            Change::PartitionCreated(at(3, 0)),
            Change::PartitionChanged(at(4, 0)),
            Change::PartitionCreated(at(4, 1)),
            Change::PartitionCreated(at(4, 2)),
        ];
        for looks_max in [1, 2, 3, 100] {
            assert_eq!(differences(&before, &after, looks_max), expect, "{looks_max} at a time");
        }
    }

    #[test]
    fn nothing_is_new_in_the_same_image() {
        let same = image([vec![broker(1, 1)], topic(1, "a", 3), topic(2, "b", 2)]);
        assert_eq!(differences(&same, &same.clone(), 2), [Change::BrokerSettings]);
    }

    #[test]
    fn no_part_of_the_way_is_long() {
        let (before, after) = (image([]), image([topic(1, "a", 1_000), topic(2, "b", 1_000)]));
        let mut way = Differences::from(before);
        while let Some(changes) = way.next(&after, 100) {
            assert!(changes.len() <= 102, "{} changes", changes.len());
        }
        let mut way = Differences::from(after);
        let parts = std::iter::from_fn(|| way.next(&image([]), 100)).count();
        assert!(parts > 20, "what there was is let go of in {parts} parts");
    }
}
