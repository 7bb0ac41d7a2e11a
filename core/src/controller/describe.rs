//! Who serves what: Metadata 0-13 (KIP-516), DescribeTopicPartitions 0 (KIP-966).
//!
//! An answer about one topic costs that topic's partitions, whatever else there is. One to Metadata may be as large as
//! the cluster is, since the protocol has no pages there: it is put together in slices.

use std::collections::BTreeSet;

use super::brokers::CLUSTER_OPERATIONS;
use super::image::Topic;
use super::records::{Listener, PartitionState, Standing};
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

/// A Metadata request on its way to its answer, which comes a slice at a time: it may be about all partitions that there
/// are. Each topic is described as it is when its slice comes.
#[derive(Debug)]
pub struct Describing {
    request: MetadataRequest,
    version: i16,
    /// How many of the topics asked for are done.
    asked: usize,
    answered: BTreeSet<(Option<Str>, TopicId)>,
    topics: Vec<MetadataResponseTopic>,
    /// The last of `topics`, while there are partitions to come.
    unfinished: Option<TopicId>,
    missing: Vec<Str>,
}

impl Describing {
    /// A request in `version`, of which nothing is answered.
    pub fn new(version: i16, request: MetadataRequest) -> Describing {
        Describing {
            request,
            version,
            asked: 0,
            answered: BTreeSet::new(),
            topics: Vec::new(),
            unfinished: None,
            missing: Vec::new(),
        }
    }

    /// The topics that do not exist, of those that were looked for, and that the client's interest creates.
    pub fn missing(&self) -> &[Str] {
        &self.missing
    }

    /// The request, of which nothing is answered.
    #[must_use]
    pub fn anew(self) -> Describing {
        Describing::new(self.version, self.request)
    }

    /// The same, to be answered by what exists: no topic is missing any more.
    #[must_use]
    pub fn again(self) -> Describing {
        let request = MetadataRequest { allow_auto_topic_creation: false, ..self.request };
        Describing::new(self.version, request)
    }

    /// The last topic was deleted between two slices: it is left out, or asked for anew.
    fn forget_last(&mut self) {
        self.topics.pop();
        if !self.asks_for_all() {
            self.asked -= 1;
            let asked = self.request.topics.as_ref().map(|topics| &topics[self.asked]);
            self.answered.remove(&asked.map(|asked| (asked.name.clone(), asked.topic_id)).unwrap_or_default());
        }
    }

    fn asks_for_all(&self) -> bool {
        // Version 0 knows no null.
        self.request.topics.as_ref().is_none_or(|topics| topics.is_empty() && self.version == 0)
    }
}

impl Controller {
    /// Describes brokers and topics to a client that came in by `listener`.
    pub fn metadata(&self, listener: &str, version: i16, request: &MetadataRequest) -> Described {
        let mut describing = Describing::new(version, request.clone());
        while !self.describe(listener, &mut describing, usize::MAX) {}
        self.described(listener, describing)
    }

    /// Describes the next of what `describing` asks for, about `room` topics and partitions together. Whether that was
    /// the last, so that [`described`](Self::described) has the answer.
    pub fn describe(&self, listener: &str, describing: &mut Describing, mut room: usize) -> bool {
        loop {
            if let Some(id) = describing.unfinished {
                let last = describing.topics.last_mut().expect("what is unfinished was begun");
                let partitions = self.image.topic(id).map_or(&[][..], |topic| &topic.partitions[..]);
                let first = last.partitions.len().min(partitions.len());
                let next = (first..).zip(&partitions[first..]).take(room);
                last.partitions.extend(next.map(|(at, state)| self.partition(listener, describing.version, at, state)));
                room = room.saturating_sub(last.partitions.len() - first);
                if last.partitions.len() < partitions.len() {
                    return false;
                }
                if partitions.is_empty() {
                    describing.forget_last();
                }
                describing.unfinished = None;
            }
            if room == 0 {
                return false;
            }
            room -= 1;
            if !self.describe_next(describing) {
                return true;
            }
        }
    }

    /// Begins with the next topic, if there is one.
    fn describe_next(&self, describing: &mut Describing) -> bool {
        let next = match &describing.request.topics {
            Some(topics) if !describing.asks_for_all() => {
                let Some(asked) = topics.get(describing.asked) else { return false };
                describing.asked += 1;
                if !describing.answered.insert((asked.name.clone(), asked.topic_id)) {
                    return true;
                }
                self.asked_topic(describing.version, asked).unwrap_or_else(|name| {
                    if describing.request.allow_auto_topic_creation && self.may_auto_create(&name) {
                        describing.missing.push(name.clone());
                    }
                    let error = match name::check(&name) {
                        Err(refused) => refused.error,
                        Ok(()) => ErrorCode::UnknownTopicOrPartition,
                    };
                    failed_topic(error, Some(name), Uuid::ZERO)
                })
            }
            _ => {
                let before = describing.topics.last().and_then(|topic| topic.name.clone()).unwrap_or_default();
                let mut topics = self.image.topics_from(&before);
                let Some(topic) = topics.find(|topic| topic.name != before) else { return false };
                described_topic(topic)
            }
        };
        describing.unfinished = (next.error_code == ErrorCode::None.code()).then_some(next.topic_id);
        describing.topics.push(next);
        if describing.request.include_topic_authorized_operations {
            describing.topics.last_mut().expect("one was pushed").topic_authorized_operations = TOPIC_OPERATIONS;
        }
        true
    }

    /// The answer, once all is described.
    pub fn described(&self, listener: &str, describing: Describing) -> Described {
        let response = MetadataResponse {
            brokers: self.alive(listener),
            cluster_id: Some(self.cluster_id.clone()),
            controller_id: self.controller_id(),
            topics: describing.topics,
            cluster_authorized_operations: match describing.request.include_cluster_authorized_operations {
                true => CLUSTER_OPERATIONS,
                false => i32::MIN,
            },
            ..MetadataResponse::default()
        };
        Described { response, missing: describing.missing }
    }

    fn alive(&self, listener: &str) -> Vec<MetadataResponseBroker> {
        let brokers = self.image.brokers().filter_map(|broker| {
            let address = self.reachable(listener, broker.node_id)?;
            Some(MetadataResponseBroker {
                node_id: broker.node_id.0,
                host: address.host.clone(),
                port: i32::from(address.port),
                rack: broker.rack.clone(),
            })
        });
        brokers.collect()
    }

    /// The topic that was asked for, its partitions still to come; where none has that name, the name.
    fn asked_topic(&self, version: i16, asked: &MetadataRequestTopic) -> Result<MetadataResponseTopic, Str> {
        // Versions 10 and 11 have the fields, but their clients cannot use them (KAFKA-10774).
        if version < 12 && (asked.name.is_none() || asked.topic_id != Uuid::ZERO) {
            let name = asked.name.clone().unwrap_or_default();
            return Ok(failed_topic(ErrorCode::InvalidRequest, Some(name), asked.topic_id));
        }
        if asked.topic_id != Uuid::ZERO {
            return Ok(match self.image.topic(asked.topic_id) {
                Some(topic) => described_topic(topic),
                None => failed_topic(ErrorCode::UnknownTopicId, None, asked.topic_id),
            });
        }
        let name = asked.name.clone().unwrap_or_default();
        self.image.topic_named(&name).map(described_topic).ok_or(name)
    }

    fn partition(&self, listener: &str, version: i16, at: usize, state: &PartitionState) -> MetadataResponsePartition {
        let leader = state.leader.filter(|leader| self.is_alive(*leader));
        let reachable = leader.filter(|leader| self.reachable(listener, *leader).is_some());
        MetadataResponsePartition {
            error_code: match (leader, reachable) {
                (_, Some(_)) => ErrorCode::None,
                // Clients before version 6 do not know that a listener can be missing on a broker.
                (Some(_), None) if version >= 6 => ErrorCode::ListenerNotFound,
                _ => ErrorCode::LeaderNotAvailable,
            }
            .code(),
            partition_index: i32::try_from(at).expect("partitions are numbered by an i32"),
            leader_id: reachable.map_or(-1, |leader| leader.0),
            leader_epoch: state.leader_epoch.0,
            replica_nodes: numbers(&state.replicas),
            isr_nodes: numbers(&state.isr),
            offline_replicas: self.offline(listener, state),
        }
    }

    /// Whether a broker is there for clients: also one that is about to stop.
    fn is_alive(&self, node_id: NodeId) -> bool {
        self.image.broker(node_id).is_some_and(|broker| broker.standing != Standing::Fenced)
    }

    /// Where a client that came in by `listener` reaches a broker.
    fn reachable(&self, listener: &str, node_id: NodeId) -> Option<&Listener> {
        self.image.broker(node_id).filter(|broker| broker.standing != Standing::Fenced)?.address(listener)
    }

    /// The replicas that a client which came in by `listener` cannot reach.
    fn offline(&self, listener: &str, state: &PartitionState) -> Vec<i32> {
        let is_reachable = |node_id: &NodeId| self.reachable(listener, *node_id).is_some();
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
            .zip(topic.partitions.iter())
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
            eligible_leader_replicas: Some(numbers(&state.eligible)),
            last_known_elr: Some(Vec::new()),
            offline_replicas: offline,
        }
    }
}

/// A topic, its partitions still to come.
fn described_topic(topic: &Topic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        ..MetadataResponseTopic::default()
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
