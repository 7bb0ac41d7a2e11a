//! How the partitions are, in numbers: for metrics. Kept with every record, so that a scrape looks at none of them.

use std::cmp::Ordering;

use super::Controller;
use super::image::{Index, Partitions};
use super::records::{MetadataRecord, PartitionState, Resource, Standing};
use crate::config::Layer;
use crate::ids::{TopicId, TopicPartition};

/// How the partitions and brokers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Partitions that nobody leads.
    pub offline: usize,
    /// Partitions with fewer in-sync replicas than they are to have replicas.
    pub under_replicated: usize,
    /// Partitions with fewer in-sync replicas than `min.insync.replicas`, so that acks=all is refused.
    pub under_min_isr: usize,
    /// Under-replicated partitions with just as many as that: the next loss has acks=all refused.
    pub at_min_isr: usize,
    /// Partitions on their way to other brokers.
    pub reassigning: usize,
    /// Partitions that their first replica does not lead.
    pub preferred_leader_imbalance: usize,
    /// Brokers that may lead.
    pub active_brokers: usize,
    /// Brokers that are known, and may not.
    pub fenced_brokers: usize,
}

/// The under-replicated partitions by how many in-sync replicas they have beside `min.insync.replicas`: a matter of
/// settings, which the image leaves to whoever reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct BesideMin {
    /// Those with fewer.
    under: Partitions,
    /// Those with as many.
    at: Partitions,
}

impl BesideMin {
    fn forget(&mut self, partition: &TopicPartition) {
        self.under.remove(partition);
        self.at.remove(partition);
    }

    fn of(&self, topic: Option<TopicId>) -> Vec<TopicPartition> {
        [&self.under, &self.at].into_iter().flat_map(|set| those(set, topic)).collect()
    }
}

/// The partitions of a topic in `set`, or all of them.
fn those(set: &Partitions, topic: Option<TopicId>) -> Vec<TopicPartition> {
    topic.map_or_else(|| set.iter().copied().collect(), |topic| Index::of_topic(set, topic).collect())
}

impl Controller {
    /// How the partitions and brokers are.
    pub fn figures(&self) -> Figures {
        let index = self.image.partition_index();
        let active = self.image.brokers().filter(|broker| broker.standing == Standing::Active).count();
        Figures {
            topics: self.image.topic_count(),
            partitions: self.image.partition_count(),
            offline: index.leaderless.len(),
            under_replicated: index.under_replicated.len(),
            under_min_isr: self.beside_min.under.len(),
            at_min_isr: self.beside_min.at.len(),
            reassigning: index.reassigning.len(),
            preferred_leader_imbalance: index.unpreferred.len(),
            active_brokers: active,
            fenced_brokers: self.image.brokers().len() - active,
        }
    }

    fn note_minimum(&mut self, partition: TopicPartition, state: &PartitionState) {
        self.beside_min.forget(&partition);
        // No more are asked for than there are replicas, so that most partitions need no look at settings.
        if !state.is_under_replicated() {
            return;
        }
        let least = self.election_rules(partition.topic).min_in_sync(state.replication_factor());
        match state.isr.len().cmp(&least) {
            Ordering::Less => _ = self.beside_min.under.insert(partition),
            Ordering::Equal => _ = self.beside_min.at.insert(partition),
            Ordering::Greater => {}
        }
    }

    /// Takes note that `record` is about to be replayed.
    pub(super) fn count_before(&mut self, record: &MetadataRecord) {
        if let MetadataRecord::RemoveTopic { id } = record {
            let gone = self.beside_min.of(Some(*id));
            gone.iter().for_each(|partition| self.beside_min.forget(partition));
        }
    }

    /// Takes note that `record` has been replayed.
    pub(super) fn count_after(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Partition { partition, state } => self.note_minimum(*partition, state),
            MetadataRecord::Config { of, name, .. } if *name == *MIN_INSYNC_REPLICAS => match of {
                Resource::Topic(id) => self.count_again(Some(*id)),
                Resource::Cluster | Resource::Broker(_) => self.count_again(None),
            },
            _ => {}
        }
    }

    /// Counts the partitions of a topic, or all, by the settings that are in force now.
    pub(super) fn count_again(&mut self, topic: Option<TopicId>) {
        let before = self.beside_min.of(topic);
        before.iter().for_each(|partition| self.beside_min.forget(partition));
        for partition in those(&self.image.partition_index().under_replicated, topic) {
            let state = self.image.partition(partition).expect("the index knows partitions that exist");
            self.note_minimum(partition, &state.clone());
        }
    }
}

/// The setting that decides how many replicas must be in sync.
pub(super) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// The record that forgets who was eligible by a former value of [`MIN_INSYNC_REPLICAS`], where `before` and `after`
/// differ in it: with a smaller one the high watermark may move on without them.
pub(super) fn forget_eligible(of: &Resource, before: &Layer, after: &Layer) -> Option<MetadataRecord> {
    (before.get(MIN_INSYNC_REPLICAS) != after.get(MIN_INSYNC_REPLICAS)).then_some(MetadataRecord::ForgetEligible {
        topic: match of {
            Resource::Topic(id) => Some(*id),
            Resource::Cluster | Resource::Broker(_) => None,
        },
    })
}
