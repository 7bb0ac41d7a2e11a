//! Who serves what: Metadata 0-13 (KIP-516), DescribeTopicPartitions 0 (KIP-966).
//!
//! An answer about one topic costs that topic's partitions, whatever else there is.

use std::collections::BTreeSet;

use super::brokers::CLUSTER_OPERATIONS;
use super::image::Topic;
use super::records::PartitionState;
use super::{Controller, is_internal, name};
use crate::ids::{NodeId, TopicId, Uuid};
use crate::wire::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use crate::wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use crate::wire::{ErrorCode, Str};

/// What a client may do to a topic, as bits by the numbers of Kafka's operations: read (3), write (4), create (5),
/// delete (6), alter (7), describe (8), describe configs (10), alter configs (11).
const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// An answer to Metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The answer as things stand.
    pub response: MetadataResponse,
    /// The topics that do not exist, and that the client's interest creates. Where there are any, they are for
    /// [`auto_create`](Controller::auto_create), and what is answered is a second call's response.
    pub missing: Vec<Str>,
}

impl Controller {
    /// Describes brokers and topics to a client that came in by `listener`.
    pub fn metadata(&self, listener: &str, version: i16, request: &MetadataRequest) -> Described {
        let mut missing = Vec::new();
        let mut topics = match &request.topics {
            None => self.all_topics(listener, version),
            // Version 0 knows no null.
            Some(topics) if topics.is_empty() && version == 0 => self.all_topics(listener, version),
            Some(topics) => {
                let mut answered = BTreeSet::new();
                let once = topics.iter().filter(|topic| answered.insert((&topic.name, topic.topic_id)));
                once.map(|topic| {
                    self.asked_topic(listener, version, topic).unwrap_or_else(|name| {
                        if request.allow_auto_topic_creation && self.may_auto_create(&name) {
                            missing.push(name.clone());
                        }
                        let error = match name::check(&name) {
                            Err(refused) => refused.error,
                            Ok(()) => ErrorCode::UnknownTopicOrPartition,
                        };
                        failed_topic(error, Some(name), Uuid::ZERO)
                    })
                })
                .collect()
            }
        };
        if request.include_topic_authorized_operations {
            topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
        }
        let response = MetadataResponse {
            brokers: self.alive(listener),
            cluster_id: Some(self.cluster_id.clone()),
            controller_id: self.node_id.0,
            topics,
            cluster_authorized_operations: match request.include_cluster_authorized_operations {
                true => CLUSTER_OPERATIONS,
                false => i32::MIN,
            },
            ..MetadataResponse::default()
        };
        Described { response, missing }
    }

    fn alive(&self, listener: &str) -> Vec<MetadataResponseBroker> {
        let brokers = self.image.brokers().filter_map(|broker| {
            let address = broker.address(listener)?;
            Some(MetadataResponseBroker {
                node_id: broker.node_id.0,
                host: address.host.clone(),
                port: i32::from(address.port),
                rack: broker.rack.clone(),
            })
        });
        brokers.collect()
    }

    fn all_topics(&self, listener: &str, version: i16) -> Vec<MetadataResponseTopic> {
        self.image.topics_from("").map(|topic| self.described_topic(listener, version, topic)).collect()
    }

    /// The topic that was asked for; where none has that name, the name.
    fn asked_topic(
        &self,
        listener: &str,
        version: i16,
        asked: &MetadataRequestTopic,
    ) -> Result<MetadataResponseTopic, Str> {
        // Versions 10 and 11 have the fields, but their clients cannot use them (KAFKA-10774).
        if version < 12 && (asked.name.is_none() || asked.topic_id != Uuid::ZERO) {
            let name = asked.name.clone().unwrap_or_default();
            return Ok(failed_topic(ErrorCode::InvalidRequest, Some(name), asked.topic_id));
        }
        if asked.topic_id != Uuid::ZERO {
            return Ok(match self.image.topic(asked.topic_id) {
                Some(topic) => self.described_topic(listener, version, topic),
                None => failed_topic(ErrorCode::UnknownTopicId, None, asked.topic_id),
            });
        }
        let name = asked.name.clone().unwrap_or_default();
        match self.image.topic_named(&name) {
            Some(topic) => Ok(self.described_topic(listener, version, topic)),
            None => Err(name),
        }
    }

    fn described_topic(&self, listener: &str, version: i16, topic: &Topic) -> MetadataResponseTopic {
        let partitions = (0..).zip(&topic.partitions).map(|(partition_index, state)| {
            let leader = state.leader.and_then(|leader| self.image.broker(leader));
            let reachable = leader.filter(|leader| leader.address(listener).is_some());
            MetadataResponsePartition {
                error_code: match (leader, reachable) {
                    (_, Some(_)) => ErrorCode::None,
                    // Clients before version 6 do not know that a listener can be missing on a broker.
                    (Some(_), None) if version >= 6 => ErrorCode::ListenerNotFound,
                    _ => ErrorCode::LeaderNotAvailable,
                }
                .code(),
                partition_index,
                leader_id: reachable.map_or(-1, |leader| leader.node_id.0),
                leader_epoch: state.leader_epoch.0,
                replica_nodes: numbers(&state.replicas),
                isr_nodes: numbers(&state.isr),
                offline_replicas: self.offline(listener, state),
            }
        });
        MetadataResponseTopic {
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: is_internal(&topic.name),
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        }
    }

    /// The replicas that a client which came in by `listener` cannot reach.
    fn offline(&self, listener: &str, state: &PartitionState) -> Vec<i32> {
        let is_reachable =
            |node_id: &NodeId| self.image.broker(*node_id).is_some_and(|broker| broker.address(listener).is_some());
        state.replicas.iter().filter(|node_id| !is_reachable(node_id)).map(|node_id| node_id.0).collect()
    }

    /// Describes topics by name, a page of partitions at a time.
    pub fn describe_topic_partitions(
        &self,
        listener: &str,
        request: &DescribeTopicPartitionsRequest,
    ) -> DescribeTopicPartitionsResponse {
        let (from, first) = match &request.cursor {
            Some(cursor) => (cursor.topic_name.as_str(), usize::try_from(cursor.partition_index).ok()),
            None => ("", Some(0)),
        };
        let asked: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
        // A cursor points to a topic of the list that it was given for, and to a partition.
        let is_sound = request.cursor.is_none() || asked.is_empty() || asked.contains(from);
        let Some(first) = first.filter(|_| is_sound) else {
            let topics = request.topics.iter().map(|topic| failed_description(ErrorCode::InvalidRequest, &topic.name));
            return DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() };
        };
        let limit = self.config.max_request_partition_size_limit;
        let limit = u32::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, limit);
        let mut page = Page {
            first,
            from: from.to_owned(),
            room: usize::try_from(limit).expect("a usize has 32 bits at least"),
            response: DescribeTopicPartitionsResponse::default(),
        };
        if asked.is_empty() {
            let _ =
                self.image.topics_from(from).try_for_each(|topic| page.add(self, listener, &topic.name, Some(topic)));
        } else {
            let names = asked.range(from..);
            let _ = names.copied().try_for_each(|name| page.add(self, listener, name, self.image.topic_named(name)));
        }
        page.response
    }
}

/// A page of DescribeTopicPartitions as it fills.
struct Page {
    /// The topic that the page begins with, and the partition in it.
    from: String,
    first: usize,
    /// How many partitions still fit.
    room: usize,
    response: DescribeTopicPartitionsResponse,
}

/// That a page is full.
struct Full;

impl Page {
    fn add(&mut self, controller: &Controller, listener: &str, name: &str, topic: Option<&Topic>) -> Result<(), Full> {
        if self.room == 0 {
            self.response.next_cursor = Some(Cursor { topic_name: name.into(), partition_index: 0 });
            return Err(Full);
        }
        let Some(topic) = topic else {
            let error = name::check(name).err().map_or(ErrorCode::UnknownTopicOrPartition, |refused| refused.error);
            self.response.topics.push(failed_description(error, name));
            return Ok(());
        };
        let first = if self.from == name { self.first } else { 0 };
        let partitions: Vec<_> = (0..)
            .zip(&topic.partitions)
            .skip(first)
            .take(self.room)
            .map(|(partition_index, state)| controller.described_partition(listener, partition_index, state))
            .collect();
        let next = first.saturating_add(partitions.len());
        self.room -= partitions.len();
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: is_internal(&topic.name),
            partitions,
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).expect("partitions are numbered by an i32");
            self.response.next_cursor = Some(Cursor { topic_name: topic.name.clone(), partition_index });
            return Err(Full);
        }
        Ok(())
    }
}

impl Controller {
    fn described_partition(
        &self,
        listener: &str,
        partition_index: i32,
        state: &PartitionState,
    ) -> DescribeTopicPartitionsResponsePartition {
        let offline = self.offline(listener, state);
        let leader = state.leader.map(|leader| leader.0).filter(|leader| !offline.contains(leader));
        DescribeTopicPartitionsResponsePartition {
            error_code: ErrorCode::None.code(),
            partition_index,
            leader_id: leader.unwrap_or(-1),
            leader_epoch: state.leader_epoch.0,
            replica_nodes: numbers(&state.replicas),
            isr_nodes: numbers(&state.isr),
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: offline,
        }
    }
}

fn failed_topic(error: ErrorCode, name: Option<Str>, topic_id: TopicId) -> MetadataResponseTopic {
    let is_internal = name.as_deref().is_some_and(is_internal);
    MetadataResponseTopic { error_code: error.code(), name, topic_id, is_internal, ..Default::default() }
}

fn failed_description(error: ErrorCode, name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name.into()),
        is_internal: is_internal(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}
