//! How the partitions are, in numbers: for metrics. Kept with every record, so that a scrape looks at none of them.

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
    /// Partitions on their way to other brokers.
    pub reassigning: usize,
    /// Partitions that their first replica does not lead.
    pub preferred_leader_imbalance: usize,
    /// Brokers that may lead.
    pub active_brokers: usize,
    /// Brokers that are known, and may not.
    pub fenced_brokers: usize,
}

/// The partitions with fewer in-sync replicas than `min.insync.replicas`: a matter of settings, which the image leaves
/// to whoever reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderMin(Partitions);

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
            under_min_isr: self.under_min.0.len(),
            reassigning: index.reassigning.len(),
            preferred_leader_imbalance: index.unpreferred.len(),
            active_brokers: active,
            fenced_brokers: self.image.brokers().len() - active,
        }
    }

    fn is_under_min(&self, partition: TopicPartition, state: &PartitionState) -> bool {
        // No more are asked for than there are replicas, so that most partitions need no look at settings.
        state.is_under_replicated()
            && state.isr.len() < self.election_rules(partition.topic).min_in_sync(state.replication_factor())
    }

    /// Takes note that `record` is about to be replayed.
    pub(super) fn count_before(&mut self, record: &MetadataRecord) {
        if let MetadataRecord::RemoveTopic { id } = record {
            let gone: Vec<TopicPartition> = Index::of_topic(&self.under_min.0, *id).collect();
            gone.iter().for_each(|partition| _ = self.under_min.0.remove(partition));
        }
    }

    /// Takes note that `record` has been replayed.
    pub(super) fn count_after(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Partition { partition, state } => {
                if self.is_under_min(*partition, state) {
                    self.under_min.0.insert(*partition);
                } else {
                    self.under_min.0.remove(partition);
                }
            }
            MetadataRecord::Config { of, name, .. } if *name == *MIN_INSYNC_REPLICAS => match of {
                Resource::Topic(id) => self.count_again(Some(*id)),
                Resource::Cluster | Resource::Broker(_) => self.count_again(None),
            },
            _ => {}
        }
    }

    /// Counts the partitions of a topic, or all, by the settings that are in force now.
    pub(super) fn count_again(&mut self, topic: Option<TopicId>) {
        let under_replicated = &self.image.partition_index().under_replicated;
        let of = |set: &Partitions| -> Vec<TopicPartition> {
            topic.map_or_else(|| set.iter().copied().collect(), |topic| Index::of_topic(set, topic).collect())
        };
        let (before, candidates) = (of(&self.under_min.0), of(under_replicated));
        before.iter().for_each(|partition| _ = self.under_min.0.remove(partition));
        for partition in candidates {
            let state = self.image.partition(partition).expect("the index knows partitions that exist");
            if self.is_under_min(partition, state) {
                self.under_min.0.insert(partition);
            }
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
