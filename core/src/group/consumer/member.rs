//! A member of a group of the next protocol: what it said about itself, and what it owns.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::boundary::Client;
use crate::group::record::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue, ConsumerGroupTargetAssignmentMemberValue, TopicPartition, TopicPartitions,
};
use crate::ids::TopicId;
use crate::time::Instant;
use crate::wire::Str;

use super::regex::RECORD_OVERHEAD_BYTES;

/// The epoch in a heartbeat of a member that joins.
pub(super) const JOIN_EPOCH: i32 = 0;
/// The epoch in a heartbeat of a member that leaves.
pub(super) const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that has left and is expected back within its session.
pub(super) const STATIC_LEAVE_EPOCH: i32 = -2;

/// Partitions by topic; indexes rise, and no topic is without any.
pub(super) type Partitions = BTreeMap<TopicId, Vec<i32>>;

/// Partitions by topic, each with the epoch at which its owner was given it (KIP-1251). No topic is without any.
pub(super) type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// What a member said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) instance_id: Option<Str>,
    pub(super) rack_id: Option<Str>,
    pub(super) client: Client,
    /// How long it may take to give up partitions, in milliseconds; -1 if it never said.
    pub(super) rebalance_timeout_ms: i32,
    /// The topics subscribed to by name, in their order, each once.
    pub(super) topics: Vec<Str>,
    /// The expression subscribed to, never an empty one.
    pub(super) regex: Option<Str>,
    pub(super) assignor: Option<Str>,
    /// What it has as a member that uses the classic protocol.
    pub(super) classic: Option<Classic>,
}

/// What only a member that uses the classic protocol has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Classic {
    pub(super) session_timeout_ms: i32,
    /// Name and metadata of each protocol that it supports, the one that it prefers first.
    pub(super) protocols: Vec<(Str, Bytes)>,
}

/// How far a member has come with the assignment.
///
/// ```text
///  Stable ──(a new assignment takes something away)──► Unrevoked ──(given up)──┐
///    ▲ └───(it adds what somebody else still has)──► Unreleased ◄──────────────┤
///    └──────────────(all that it is to own is free)──────┴─────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// It owns what it is to own by the assignment of its epoch.
    #[default]
    Stable,
    /// It must give up partitions before it may take its next epoch.
    Unrevoked,
    /// It has its epoch, and waits for partitions that others have not given up.
    Unreleased,
    /// A state that a later version of the record has. The member is made to begin anew.
    Unknown,
}

/// What a member owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) epoch: i32,
    /// The epoch before, which the member may still say if the answer with the new one was lost.
    pub(super) previous_epoch: i32,
    pub(super) state: State,
    pub(super) assigned: Owned,
    /// What it must give up.
    pub(super) revoking: Owned,
}

/// A member.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub(super) about: About,
    pub(super) current: Current,
    /// When its session ends. In memory only.
    pub(super) session_ends: Instant,
}

impl Member {
    /// Whether it is all that the assignment of `epoch` wants it to be.
    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == State::Stable && self.current.epoch == epoch
    }

    /// Whether it uses the classic protocol.
    pub(super) fn is_classic(&self) -> bool {
        self.about.classic.is_some()
    }
}

impl About {
    /// From its record.
    pub(super) fn from_value(value: &ConsumerGroupMemberMetadataValue) -> About {
        let detached = |text: &Option<Str>| text.as_ref().map(Str::detached);
        About {
            instance_id: detached(&value.instance_id),
            rack_id: detached(&value.rack_id),
            client: Client { id: value.client_id.detached(), host: value.client_host.detached() },
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            topics: topics_of(&value.subscribed_topic_names),
            regex: regex_of(value.subscribed_topic_regex.as_ref()),
            assignor: detached(&value.server_assignor),
            classic: value.classic_member_metadata.as_ref().map(|classic| Classic {
                session_timeout_ms: classic.session_timeout_ms,
                protocols: protocols_of(classic.supported_protocols.iter().map(|at| (&at.name, &at.metadata))),
            }),
        }
    }

    /// As its record has it.
    pub(super) fn to_value(&self) -> ConsumerGroupMemberMetadataValue {
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client.id.clone(),
            client_host: self.client.host.clone(),
            subscribed_topic_names: self.topics.clone(),
            subscribed_topic_regex: self.regex.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: self.classic.as_ref().map(|classic| ClassicMemberMetadata {
                session_timeout_ms: classic.session_timeout_ms,
                supported_protocols: classic
                    .protocols
                    .iter()
                    .map(|(name, metadata)| ClassicProtocol { name: name.clone(), metadata: metadata.clone() })
                    .collect(),
            }),
        }
    }
}

/// Names as a subscription keeps them: in their order, each once, without the frame that they came in.
pub(super) fn topics_of(names: &[Str]) -> Vec<Str> {
    let mut topics: Vec<Str> = names.iter().map(Str::detached).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// An expression as a subscription keeps it: an empty one says that there is none.
pub(super) fn regex_of(regex: Option<&Str>) -> Option<Str> {
    regex.filter(|regex| !regex.is_empty()).map(Str::detached)
}

/// The protocols of a classic member, without the frame that they came in.
pub(super) fn protocols_of<'a>(protocols: impl Iterator<Item = (&'a Str, &'a Bytes)>) -> Vec<(Str, Bytes)> {
    protocols.map(|(name, metadata)| (name.detached(), Bytes::copy_from_slice(metadata))).collect()
}

impl State {
    fn from_code(code: i8) -> State {
        match code {
            0 => State::Stable,
            1 => State::Unrevoked,
            2 => State::Unreleased,
            _ => State::Unknown,
        }
    }

    fn code(self) -> i8 {
        match self {
            State::Stable => 0,
            State::Unrevoked => 1,
            State::Unreleased => 2,
            State::Unknown => 127,
        }
    }
}

impl Current {
    /// From its record.
    pub(super) fn from_value(value: &ConsumerGroupCurrentMemberAssignmentValue) -> Current {
        let owned = |topics: &[TopicPartitions]| {
            let mut owned = Owned::new();
            for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
                let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
                let of_topic = owned.entry(topic.topic_id).or_default();
                for (at, partition) in topic.partitions.iter().enumerate() {
                    // Records of brokers before Kafka 4.3 do not say: as if it was given just now.
                    of_topic.insert(*partition, epochs.get(at).copied().unwrap_or(value.member_epoch));
                }
            }
            owned
        };
        Current {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: State::from_code(value.state),
            assigned: owned(&value.assigned_partitions),
            revoking: owned(&value.partitions_pending_revocation),
        }
    }

    /// As its record has it.
    pub(super) fn to_value(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        let topics = |owned: &Owned| {
            let topic = |(id, partitions): (&TopicId, &BTreeMap<i32, i32>)| TopicPartitions {
                topic_id: *id,
                partitions: partitions.keys().copied().collect(),
                assignment_epochs: Some(partitions.values().copied().collect()),
            };
            owned.iter().map(topic).collect()
        };
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.code(),
            assigned_partitions: topics(&self.assigned),
            partitions_pending_revocation: topics(&self.revoking),
        }
    }

    /// Whether the member is waited for to give something up. One that has left for a while has.
    pub(super) fn owes(&self) -> bool {
        self.state == State::Unrevoked && self.epoch != STATIC_LEAVE_EPOCH
    }

    /// What its record takes, at most.
    pub(super) fn bytes_max(&self) -> usize {
        // A topic takes its id, two lengths and a tag; a partition its index and its epoch.
        let topics = 32 * (self.assigned.len() + self.revoking.len());
        RECORD_OVERHEAD_BYTES + topics + 8 * self.held().count()
    }

    /// All that nobody else may own: what it owns and what it has not given up.
    pub(super) fn held(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.assigned
            .iter()
            .chain(&self.revoking)
            .flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
    }

    /// The epoch at which it was given a partition that it holds.
    pub(super) fn since(&self, topic: TopicId, partition: i32) -> Option<i32> {
        let in_owned = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        in_owned(&self.assigned).or_else(|| in_owned(&self.revoking))
    }
}

/// From the record of what a member is to own.
pub(super) fn target_of(value: &ConsumerGroupTargetAssignmentMemberValue) -> Partitions {
    let mut target = Partitions::new();
    for topic in value.topic_partitions.iter().filter(|topic| !topic.partitions.is_empty()) {
        let of_topic = target.entry(topic.topic_id).or_default();
        of_topic.extend(&topic.partitions);
        of_topic.sort_unstable();
        of_topic.dedup();
    }
    target
}

/// As the record of what a member is to own has it.
pub(super) fn target_value(target: &Partitions) -> ConsumerGroupTargetAssignmentMemberValue {
    let topic =
        |(id, partitions): (&TopicId, &Vec<i32>)| TopicPartition { topic_id: *id, partitions: partitions.clone() };
    ConsumerGroupTargetAssignmentMemberValue { topic_partitions: target.iter().map(topic).collect() }
}
