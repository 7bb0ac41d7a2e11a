//! The metadata image: what the records of the metadata log add up to.
//!
//! It is built by [`MetadataImage::replay`] alone, record by record in the log's order, so that every node that has
//! replayed the same records holds the same image. Replaying decides nothing: whether a change is right was decided
//! when its record was written. It returns what the change means for those who act on it.
//!
//! Lookups cost the logarithm of what there is, and nothing walks all partitions but the invariants and the snapshot:
//! an [`Index`] knows which partitions a broker has a part in, and which are not as they should be.

mod differences;
mod index;
mod snapshot;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::records::{MetadataRecord, PartitionState, Registration, Resource, Standing};
use crate::config::Layer;
use crate::ids::{LeaderEpoch, NodeId, ProducerId, TopicId, TopicPartition};
use crate::wire::Str;

pub use differences::Differences;
pub use index::{Duties, Index, Partitions};
pub use snapshot::Snapshot;

/// The level of the records' format that a broker without peers writes.
pub const FIRST_FORMAT_LEVEL: u16 = 1;

/// The newest level of the records' format, which a cluster of several brokers needs.
pub const FORMAT_LEVEL: u16 = 2;

/// What the cluster knows about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataImage {
    /// The index of the last entry replayed, 0 before the first.
    index: u64,
    /// The level of the format, 0 before the first record says it.
    format_level: u16,
    cluster_id: Option<Str>,
    /// The broker epoch of the last registration, 0 before the first.
    last_broker_epoch: i64,
    brokers: BTreeMap<NodeId, Registration>,
    topics: BTreeMap<TopicId, Topic>,
    by_name: BTreeMap<Str, TopicId>,
    /// The names with every `.` as `_`: two that are equal here would share a metric's name, which Kafka forbids.
    by_unified_name: BTreeMap<String, TopicId>,
    partitions: usize,
    partition_index: Index,
    cluster_settings: Layer,
    broker_settings: BTreeMap<NodeId, Layer>,
    next_producer_id: ProducerId,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: Str,
    /// How many replicas its partitions had when it was created, 0 before it has one. What its settings are where nobody
    /// says goes by that, so that it does not change in the middle of a move to more replicas or fewer.
    pub replication_factor: usize,
    /// Its partitions, by index: shared with a snapshot in the making, and copied where they change meanwhile.
    pub partitions: Arc<Vec<PartitionState>>,
    /// The settings that it has of its own.
    pub settings: Layer,
}

/// What a replayed record changed, for those who act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A topic exists, as yet without partitions.
    TopicCreated(TopicId),
    /// A partition exists.
    PartitionCreated(TopicPartition),
    /// A partition's replicas, in-sync set, leader or epochs changed.
    PartitionChanged(TopicPartition),
    /// A topic is no more, and with it this many partitions.
    TopicRemoved {
        /// The topic.
        id: TopicId,
        /// The name it had, which another topic may have next.
        name: Str,
        /// How many partitions it had.
        partitions: i32,
    },
    /// A topic's settings changed.
    TopicSettings(TopicId),
    /// The settings of one broker or of all changed.
    BrokerSettings,
    /// A broker's process began.
    BrokerRegistered {
        /// The broker.
        node_id: NodeId,
        /// The process.
        broker_epoch: i64,
    },
    /// What a broker may do changed, or it is no more.
    BrokerStanding {
        /// The broker.
        node_id: NodeId,
        /// What it may do; `None` if it was removed.
        standing: Option<Standing>,
    },
}

/// What one record changed: mostly one thing.
pub type Changes = SmallVec<[Change; 1]>;

impl MetadataImage {
    /// Takes the next record, which is part of the log's entry `index`.
    ///
    /// # Panics
    /// Where the record contradicts the image, such as a second topic of one name: then the log was not written by
    /// this code's decisions, and every answer from it would be wrong.
    pub fn replay(&mut self, index: u64, record: &MetadataRecord) -> Changes {
        assert!(index >= self.index, "entry {index} comes after entry {}", self.index);
        self.index = index;
        match record {
            MetadataRecord::FormatLevel { level } => {
                assert!(*level <= FORMAT_LEVEL, "format level {level} is newer than this program's {FORMAT_LEVEL}");
                self.format_level = *level;
                smallvec![]
            }
            MetadataRecord::RegisterBroker(registration) => self.register(registration),
            MetadataRecord::Topic { id, name } => self.create(*id, name),
            MetadataRecord::Partition { partition, state } => self.place(*partition, state),
            MetadataRecord::RemoveTopic { id } => self.remove(*id),
            MetadataRecord::Config { of, name, value } => self.configure(of, name, value.as_ref()),
            MetadataRecord::ProducerIds { next, .. } => {
                assert!(*next > self.next_producer_id, "producer ids are granted once");
                self.next_producer_id = *next;
                smallvec![]
            }
            MetadataRecord::ClusterId { id } => {
                let known = self.cluster_id.replace(id.clone());
                assert!(known.is_none_or(|known| known == *id), "a cluster keeps its identity");
                smallvec![]
            }
            MetadataRecord::FenceBroker { node_id, broker_epoch } => {
                self.stand(*node_id, *broker_epoch, Standing::Fenced)
            }
            MetadataRecord::UnfenceBroker { node_id, broker_epoch } => {
                self.stand(*node_id, *broker_epoch, Standing::Active)
            }
            MetadataRecord::BeginShutdown { node_id, broker_epoch } => {
                self.stand(*node_id, *broker_epoch, Standing::ShuttingDown)
            }
            MetadataRecord::RemoveBroker { node_id } => {
                assert!(self.brokers.remove(node_id).is_some(), "a broker that is removed exists");
                smallvec![Change::BrokerStanding { node_id: *node_id, standing: None }]
            }
            MetadataRecord::BrokerEpochs { last } => {
                assert!(*last >= self.last_broker_epoch, "broker epochs rise");
                self.last_broker_epoch = *last;
                smallvec![]
            }
            MetadataRecord::CreatedWith { topic, replication_factor } => {
                let topic = self.topics.get_mut(topic).expect("it follows its topic");
                assert!(topic.partitions.is_empty(), "and no partition of {} is there yet", topic.name);
                topic.replication_factor = usize::try_from(*replication_factor).expect("a usize has 32 bits at least");
                smallvec![]
            }
            MetadataRecord::ForgetEligible { topic } => self.forget_eligible(*topic),
        }
    }

    fn stand(&mut self, node_id: NodeId, broker_epoch: i64, standing: Standing) -> Changes {
        let broker = self.brokers.get_mut(&node_id).expect("a broker whose standing changes exists");
        assert_eq!(broker.broker_epoch, broker_epoch, "the process of broker {node_id} is its last");
        broker.standing = standing;
        smallvec![Change::BrokerStanding { node_id, standing: Some(standing) }]
    }

    /// The log's entries up to `index` hold no more records: leaders have entries of their own.
    pub fn pass(&mut self, index: u64) {
        assert!(index >= self.index, "entry {index} comes after entry {}", self.index);
        self.index = index;
    }

    fn register(&mut self, registration: &Registration) -> Changes {
        let &Registration { node_id, broker_epoch, .. } = registration;
        let before = self.brokers.insert(node_id, registration.clone()).map(|before| before.broker_epoch);
        let mut changes: Changes = smallvec![Change::BrokerRegistered { node_id, broker_epoch }];
        if before == Some(broker_epoch) {
            return changes;
        }
        assert!(broker_epoch > self.last_broker_epoch || before.is_none(), "broker epochs rise");
        self.last_broker_epoch = self.last_broker_epoch.max(broker_epoch);
        // Neither epoch is anything that the index goes by.
        for &partition in &self.partition_index.duties(node_id).leads {
            let state = state_mut(&mut self.topics, partition);
            state.leader_epoch = LeaderEpoch(state.leader_epoch.0 + 1);
            state.partition_epoch += 1;
            changes.push(Change::PartitionChanged(partition));
        }
        changes
    }

    fn forget_eligible(&mut self, topic: Option<TopicId>) -> Changes {
        let set = &self.partition_index.with_eligible;
        let forgotten: Vec<TopicPartition> = match topic {
            Some(topic) => Index::of_topic(set, topic).collect(),
            None => set.iter().copied().collect(),
        };
        for &partition in &forgotten {
            let state = state_mut(&mut self.topics, partition);
            let before = state.clone();
            state.eligible.clear();
            state.partition_epoch += 1;
            self.partition_index.note(partition, Some(&before), Some(state));
        }
        forgotten.into_iter().map(Change::PartitionChanged).collect()
    }

    fn create(&mut self, id: TopicId, name: &Str) -> Changes {
        let (partitions, settings) = (Arc::default(), Layer::new());
        let topic = Topic { id, name: name.clone(), replication_factor: 0, partitions, settings };
        assert!(self.topics.insert(id, topic).is_none(), "topic id {id} is new");
        assert!(self.by_name.insert(name.clone(), id).is_none(), "topic name {name} is new");
        let unified = self.by_unified_name.insert(unified(name), id);
        assert!(unified.is_none(), "topic name {name} collides with no other");
        smallvec![Change::TopicCreated(id)]
    }

    fn place(&mut self, partition: TopicPartition, state: &PartitionState) -> Changes {
        let topic = self.topics.get_mut(&partition.topic).expect("a partition follows its topic");
        let index = usize::try_from(partition.partition).expect("partitions count from 0");
        let partitions = Arc::make_mut(&mut topic.partitions);
        match partitions.get_mut(index) {
            Some(before) => {
                assert!(state.leader_epoch >= before.leader_epoch, "the leader epoch of {partition} never falls");
                assert!(state.partition_epoch > before.partition_epoch, "the epoch of {partition} rises");
                self.partition_index.note(partition, Some(before), Some(state));
                *before = state.clone();
                smallvec![Change::PartitionChanged(partition)]
            }
            None => {
                assert_eq!(index, partitions.len(), "partition {partition} follows its topic's last");
                if topic.replication_factor == 0 {
                    topic.replication_factor = state.replicas.len();
                }
                partitions.push(state.clone());
                self.partitions += 1;
                self.partition_index.note(partition, None, Some(state));
                smallvec![Change::PartitionCreated(partition)]
            }
        }
    }

    fn remove(&mut self, id: TopicId) -> Changes {
        let topic = self.topics.remove(&id).expect("a topic that is removed exists");
        self.by_name.remove(topic.name.as_str());
        self.by_unified_name.remove(&unified(&topic.name));
        self.partitions -= topic.partitions.len();
        self.partition_index.forget(id, &topic.partitions);
        let partitions = i32::try_from(topic.partitions.len()).expect("partitions are numbered by an i32");
        smallvec![Change::TopicRemoved { id, name: topic.name, partitions }]
    }

    fn configure(&mut self, of: &Resource, name: &Str, value: Option<&Str>) -> Changes {
        let (settings, change) = match of {
            Resource::Cluster => (&mut self.cluster_settings, Change::BrokerSettings),
            Resource::Broker(node_id) => (self.broker_settings.entry(*node_id).or_default(), Change::BrokerSettings),
            Resource::Topic(id) => {
                let topic = self.topics.get_mut(id).expect("a setting follows its topic");
                (&mut topic.settings, Change::TopicSettings(*id))
            }
        };
        match value {
            Some(value) => settings.insert(name.as_str().to_owned(), value.as_str().to_owned()),
            None => settings.remove(name.as_str()),
        };
        // A broker that has no setting left is as one that never had any: the image depends on what is, not on how
        // it came about, or a snapshot would rebuild another one.
        self.broker_settings.retain(|_, settings| !settings.is_empty());
        smallvec![change]
    }
}

/// What the image knows.
impl MetadataImage {
    /// The index of the last entry replayed or passed, 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The level of the format that the log is at, 0 before its first record.
    pub fn format_level(&self) -> u16 {
        self.format_level
    }

    /// The identity of the cluster, once an entry has said it.
    pub fn cluster_id(&self) -> Option<&Str> {
        self.cluster_id.as_ref()
    }

    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// The topic of this name, which is text or, cheaper to compare, a [`Str`].
    pub fn topic_named<N: Ord + ?Sized>(&self, name: &N) -> Option<&Topic>
    where
        Str: Borrow<N>,
    {
        self.by_name.get(name).map(|id| &self.topics[id])
    }

    /// The topic whose name differs from `name` in nothing but `.` and `_`, if at all.
    pub fn topic_like(&self, name: &str) -> Option<&Topic> {
        self.by_unified_name.get(&unified(name)).map(|id| &self.topics[id])
    }

    /// The topics, by name, from the first whose name is not below `from`.
    pub fn topics_from<'a>(&'a self, from: &str) -> impl Iterator<Item = &'a Topic> {
        use std::ops::Bound::{Included, Unbounded};
        self.by_name.range::<str, _>((Included(from), Unbounded)).map(|(_, id)| &self.topics[id])
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions there are, in all topics.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// The state of a partition.
    pub fn partition(&self, partition: TopicPartition) -> Option<&PartitionState> {
        self.topics.get(&partition.topic)?.partitions.get(usize::try_from(partition.partition).ok()?)
    }

    /// The broker of this number.
    pub fn broker(&self, node_id: NodeId) -> Option<&Registration> {
        self.brokers.get(&node_id)
    }

    /// Whether a broker may lead and be in in-sync sets: it is there, not fenced, and not about to stop.
    pub fn is_active(&self, node_id: NodeId) -> bool {
        self.broker(node_id).is_some_and(|broker| broker.standing == Standing::Active)
    }

    /// Which partitions a broker has a part in, and which are not as they should be.
    pub fn partition_index(&self) -> &Index {
        &self.partition_index
    }

    /// The brokers, by number.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Registration> {
        self.brokers.values()
    }

    /// What clients have set for all brokers.
    pub fn cluster_settings(&self) -> &Layer {
        &self.cluster_settings
    }

    /// What clients have set for this broker.
    pub fn broker_settings(&self, node_id: NodeId) -> &Layer {
        static NONE: Layer = Layer::new();
        self.broker_settings.get(&node_id).unwrap_or(&NONE)
    }

    /// The broker epoch of the next registration: above every one before.
    pub fn next_broker_epoch(&self) -> i64 {
        self.last_broker_epoch + 1
    }

    /// The first producer id that no broker may hand out yet.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }
}

fn state_mut(topics: &mut BTreeMap<TopicId, Topic>, partition: TopicPartition) -> &mut PartitionState {
    let topic = topics.get_mut(&partition.topic).expect("the index knows topics that exist");
    let at = usize::try_from(partition.partition).expect("partitions count from 0");
    &mut Arc::make_mut(&mut topic.partitions)[at]
}

/// `name` as it stands in the name of a metric.
fn unified(name: &str) -> String {
    name.replace('.', "_")
}

/// What holds of every image after a whole entry.
impl MetadataImage {
    /// Checks it.
    ///
    /// # Panics
    /// At the first claim that does not hold.
    pub fn invariants(&self) {
        assert_eq!(self.by_name.len(), self.topics.len(), "every topic has one name");
        assert_eq!(self.by_unified_name.len(), self.topics.len(), "no two names collide");
        let partitions: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        assert_eq!(self.partitions, partitions, "the partitions are counted");
        assert!(self.next_producer_id >= ProducerId(0));
        let mut index = Index::default();
        for (id, topic) in &self.topics {
            for (partition, state) in (0..).zip(topic.partitions.iter()) {
                index.note(TopicPartition { topic: *id, partition }, None, Some(state));
            }
        }
        assert!(self.partition_index == index, "the index is what a walk over all partitions finds");
        for (id, topic) in &self.topics {
            assert_eq!(*id, topic.id);
            assert_eq!(self.by_name.get(topic.name.as_str()), Some(id), "{} is found by its name", topic.name);
            assert_eq!(self.by_unified_name.get(&unified(&topic.name)), Some(id));
            assert!(!topic.partitions.is_empty(), "{} has a partition", topic.name);
            assert!(topic.replication_factor > 0, "{} was created with replicas", topic.name);
            for (index, state) in topic.partitions.iter().enumerate() {
                self.partition_invariants(&format!("{}-{index}", topic.name), state);
            }
        }
        for (node_id, broker) in &self.brokers {
            assert_eq!(*node_id, broker.node_id);
            assert!(broker.broker_epoch > 0, "epochs of brokers count from 1");
            assert!(broker.broker_epoch <= self.last_broker_epoch, "the last epoch is the highest");
            assert!(!broker.listeners.is_empty(), "broker {node_id} can be reached");
        }
        let epochs: BTreeSet<i64> = self.brokers.values().map(|broker| broker.broker_epoch).collect();
        assert_eq!(epochs.len(), self.brokers.len(), "no two processes have one epoch");
        assert!(self.broker_settings.values().all(|settings| !settings.is_empty()));
    }

    fn partition_invariants(&self, name: &str, state: &PartitionState) {
        let replicas: BTreeSet<NodeId> = state.replicas.iter().copied().collect();
        let isr: BTreeSet<NodeId> = state.isr.iter().copied().collect();
        assert_eq!(replicas.len(), state.replicas.len(), "{name}: each replica is there once");
        assert_eq!(isr.len(), state.isr.len(), "{name}: each in-sync replica is there once");
        assert!(!isr.is_empty(), "{name}: the in-sync set is never empty");
        assert!(isr.is_subset(&replicas), "{name}: only replicas are in sync");
        for of in [&state.adding, &state.removing, &state.eligible] {
            assert!(of.iter().all(|node_id| replicas.contains(node_id)), "{name}: only replicas are more than that");
            assert_eq!(of.iter().collect::<BTreeSet<_>>().len(), of.len(), "{name}: each once");
        }
        assert!(state.adding.iter().all(|node_id| !state.removing.contains(node_id)), "{name}: nobody comes and goes");
        assert!(state.replication_factor() > 0, "{name}: it had replicas before a reassignment");
        assert!(state.removing.len() < replicas.len(), "{name}: it has replicas after a reassignment");
        assert!(
            state.eligible.iter().all(|node_id| !isr.contains(node_id)),
            "{name}: who is in sync is no more than that"
        );
        assert!(state.unclean_epoch.is_none_or(|epoch| epoch <= state.leader_epoch), "{name}: it has been");
        assert!(state.leader.is_none_or(|leader| isr.contains(&leader)), "{name}: the leader is in sync");
        assert!(state.leader_epoch >= LeaderEpoch(0), "{name}: leader epochs count from 0");
        assert!(state.partition_epoch >= 0, "{name}: partition epochs count from 0");
    }
}
