//! What a client believes of the plan's topics, as Metadata told it.

use chronik_core::ids::{TopicId, TopicPartition, Uuid};
use chronik_core::wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponsePartition,
};
use chronik_core::wire::{ErrorCode, Request, Str};

use super::Wanted;
use super::wires::Node;
use crate::history::What;
use crate::plan::Plan;

/// The version of Metadata that clients ask in: it has topic ids.
pub(super) const METADATA_VERSION: i16 = 12;

/// One topic.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: Str,
    /// `None` where it is not known to exist.
    pub(super) id: Option<TopicId>,
    pub(super) partitions: i32,
    leaders: Leaders,
    /// The newest id that it was known by.
    seen: Option<TopicId>,
}

/// Who leads the partitions of a topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaders(Vec<Led>);

/// A partition's leader, where there is one, in its epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Led {
    pub(super) by: Option<Node>,
    pub(super) epoch: i32,
}

impl Leaders {
    /// Takes what Metadata tells of a topic. What a broker that lags behind believes of an earlier epoch counts for
    /// nothing (KIP-320).
    pub(super) fn learn(&mut self, partitions: &[MetadataResponsePartition]) {
        for partition in partitions {
            let Ok(index) = usize::try_from(partition.partition_index) else { continue };
            if index >= self.0.len() && index < partitions.len() {
                self.0.resize(partitions.len(), Led { by: None, epoch: -1 });
            }
            if let Some(known) = self.0.get_mut(index).filter(|known| known.epoch <= partition.leader_epoch) {
                let by = Node::try_from(partition.leader_id).ok().filter(|&node| node > 0);
                *known = Led { by, epoch: partition.leader_epoch };
            }
        }
    }

    /// What is known of a partition.
    pub(super) fn of(&self, partition: i32) -> Option<Led> {
        self.0.get(usize::try_from(partition).ok()?).copied()
    }
}

/// The topics of the plan, by their index there.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    topics: Vec<Topic>,
    /// How many brokers there are.
    nodes: Node,
}

impl Topics {
    pub(super) fn new(plan: &Plan) -> Topics {
        let topic = |name: &String| Topic {
            name: name.as_str().into(),
            id: None,
            partitions: 0,
            leaders: Leaders::default(),
            seen: None,
        };
        let topics = plan.topics.iter().map(|topic_plan| topic(&topic_plan.name)).collect();
        Topics { topics, nodes: plan.nodes() }
    }

    /// How many there are in the plan.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn get(&self, topic: usize) -> &Topic {
        &self.topics[topic]
    }

    /// The index of the topic that has this id now.
    pub(super) fn with_id(&self, id: TopicId) -> Option<usize> {
        self.topics.iter().position(|topic| topic.id == Some(id))
    }

    /// The index of the topic of this name.
    pub(super) fn with_name(&self, name: &Str) -> Option<usize> {
        self.topics.iter().position(|topic| topic.name == *name)
    }

    /// The partition's identity, where its topic is known to exist.
    pub(super) fn partition(&self, topic: usize, partition: i32) -> Option<TopicPartition> {
        self.topics[topic].id.map(|topic| TopicPartition { topic, partition })
    }

    /// Who leads a partition, as far as it is known. A single broker is asked in any case.
    pub(super) fn leader(&self, topic: usize, partition: i32) -> Option<Node> {
        match self.nodes {
            1 => Some(1),
            _ => self.led(topic, partition)?.by,
        }
    }

    /// In which epoch the leader of a partition leads; -1 where that is not known, or there is a single broker.
    pub(super) fn leader_epoch(&self, topic: usize, partition: i32) -> i32 {
        self.led(topic, partition).filter(|_| self.nodes > 1).map_or(-1, |led| led.epoch)
    }

    fn led(&self, topic: usize, partition: i32) -> Option<Led> {
        self.topics[topic].id.and(self.topics[topic].leaders.of(partition))
    }

    /// Asks for these topics, and creates none.
    pub(super) fn request(&self, topics: impl Iterator<Item = usize>) -> Request {
        let topic =
            |index: usize| MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(self.topics[index].name.clone()) };
        let topics = Some(topics.map(topic).collect());
        MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() }.into()
    }

    /// Takes an answer, records ids that are new, and returns the topics whose identity is not what it was.
    ///
    /// # Errors
    /// Where the answer names a topic twice, or gives one an error that an answer to this question cannot have.
    pub(super) fn learn(
        &mut self,
        response: &MetadataResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<Vec<usize>, String> {
        let mut changed = Vec::new();
        let mut told = vec![false; self.topics.len()];
        for answer in &response.topics {
            let Some(index) = answer.name.as_ref().and_then(|name| self.with_name(name)) else { continue };
            if std::mem::replace(&mut told[index], true) {
                return Err(format!("Metadata names topic {} twice", self.topics[index].name));
            }
            let topic = &mut self.topics[index];
            let id = match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) if answer.topic_id == Uuid::ZERO => {
                    return Err(format!("Metadata gives topic {} no id", topic.name));
                }
                Some(ErrorCode::None) => Some(answer.topic_id),
                Some(ErrorCode::UnknownTopicOrPartition) => None,
                _ => return Err(format!("Metadata answers error {} for topic {}", answer.error_code, topic.name)),
            };
            if topic.id != id {
                changed.push(index);
            }
            // A broker that lags behind may not know the topic: what is known of its epochs outlasts that, as in Kafka's clients.
            if id.is_some() && topic.seen != id {
                topic.leaders = Leaders::default();
            }
            topic.leaders.learn(&answer.partitions);
            topic.id = id;
            if let Some(id) = id {
                topic.partitions = i32::try_from(answer.partitions.len()).unwrap_or(i32::MAX);
                topic.found(id, topic.partitions, wanted);
            }
        }
        Ok(changed)
    }

    /// The topic was created by this client.
    pub(super) fn created(&mut self, topic: usize, id: TopicId, partitions: i32, wanted: &mut Vec<Wanted>) {
        let topic = &mut self.topics[topic];
        if topic.seen != Some(id) {
            topic.leaders = Leaders::default();
        }
        (topic.id, topic.partitions) = (Some(id), partitions);
        topic.found(id, partitions, wanted);
    }

    /// The topic was deleted by this client.
    pub(super) fn deleted(&mut self, topic: usize) {
        self.topics[topic].id = None;
    }
}

impl Topic {
    fn found(&mut self, id: TopicId, partitions: i32, wanted: &mut Vec<Wanted>) {
        if self.seen.replace(id) != Some(id) {
            let name = self.name.to_string();
            wanted.push(Wanted::Record(None, What::TopicCreated { name, id, partitions }));
        }
    }
}
