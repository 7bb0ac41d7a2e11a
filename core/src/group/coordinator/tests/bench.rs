//! A coordinator, all that it is lent, and the log of what it has decided.

use std::time::Duration;

use bytes::Bytes;

use crate::boundary::ReplyTo;
use crate::group::coordinator::group::Members;
use crate::group::protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition};
use crate::group::record::Record;
use crate::group::testing::{Answer, Names, Rig, client};
use crate::group::{Coordinator, Reached, Seen, Settings, Surroundings};
use crate::ids::TopicId;
use crate::time::Timestamp;
use crate::wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::list_groups::{ListGroupsRequest, ListedGroup};
use crate::wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};
use crate::wire::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use crate::wire::{ErrorCode, Str};

/// A coordinator on its bench.
pub(super) struct Bench {
    pub(super) rig: Rig,
    pub(super) coordinator: Coordinator,
    /// Every record that was decided, as its bytes, and when.
    pub(super) log: Vec<(Bytes, Option<Bytes>, Timestamp)>,
}

/// The groups that a request asks for, found a few at a time.
pub(super) fn listed(coordinator: &Coordinator, request: &ListGroupsRequest) -> Vec<ListedGroup> {
    let (mut groups, mut after) = (Vec::new(), None);
    loop {
        after = coordinator.list(request, after.as_ref(), &mut 2, &mut groups);
        if after.is_none() {
            return groups;
        }
    }
}

/// What a member of a classic group knows of itself.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) member: Str,
    pub(super) generation: i32,
}

/// Whoever commits without being a member.
pub(super) const NOBODY: Seat = Seat { member: Str::EMPTY, generation: -1 };

impl Bench {
    /// The topics `orders` and `bills` with four partitions each, and groups that do not wait for more members.
    pub(super) fn new() -> Bench {
        let mut rig = Rig::new();
        rig.settings.group_initial_rebalance_delay = Duration::ZERO;
        rig.topic("orders", 4);
        rig.topic("bills", 4);
        Bench { rig, coordinator: Coordinator::default(), log: Vec::new() }
    }

    /// Calls the coordinator, and then every timer that is due; what it decides goes to the log.
    pub(super) fn call<T>(&mut self, call: impl FnOnce(&mut Coordinator, &mut Surroundings<'_>) -> T) -> T {
        let result = call(&mut self.coordinator, &mut self.rig.surroundings());
        loop {
            while let Some(found) = self.rig.answer_one() {
                self.coordinator.found(found);
            }
            if self.coordinator.deadline().is_none_or(|deadline| deadline > self.rig.now.instant) {
                break;
            }
            let reached = self.coordinator.reach(&mut self.rig.surroundings());
            assert_ne!(reached, Reached::Nothing, "a deadline names something to do");
        }
        self.write_down();
        result
    }

    /// Calls the coordinator, and nothing else.
    pub(super) fn call_only<T>(&mut self, call: impl FnOnce(&mut Coordinator, &mut Surroundings<'_>) -> T) -> T {
        let result = call(&mut self.coordinator, &mut self.rig.surroundings());
        self.write_down();
        result
    }

    /// Has all groups begin, as after a load.
    pub(super) fn begin(&mut self) {
        let mut after = None;
        loop {
            after = self.call(|coordinator, with| coordinator.begin(with, after.take()));
            if after.is_none() {
                return;
            }
        }
    }

    /// What a survey finds, whose calls have this budget: groups with their states, and offsets.
    pub(super) fn surveyed(&self, budget: usize) -> (Vec<String>, Vec<String>) {
        let (mut groups, mut offsets) = (Vec::new(), Vec::new());
        let mut from = None;
        loop {
            let mut left = budget;
            from = self.coordinator.survey(from, &mut left, &mut |seen| match seen {
                Seen::Group { state, members } => groups.push(format!("{state} {members}")),
                Seen::Offset { group, topic, partition, .. } => offsets.push(format!("{group} {topic} {partition}")),
            });
            if from.is_none() {
                return (groups, offsets);
            }
        }
    }

    fn write_down(&mut self) {
        for record in self.rig.records() {
            let (key, value) = record.encode();
            self.log.push((key, value, self.rig.now.wall));
        }
    }

    /// Asks, and takes the answer, which must be there at once.
    pub(super) fn ask<T: Answer>(
        &mut self,
        version: i16,
        call: impl FnOnce(&mut Coordinator, &mut Surroundings<'_>, ReplyTo),
    ) -> T {
        let to = self.rig.ask(version);
        self.call(|coordinator, with| call(coordinator, with, to));
        self.rig.reply(to)
    }

    /// Time passes, and timers are called.
    pub(super) fn pass(&mut self, time: Duration) {
        self.rig.pass(time);
        self.call(|_, _| ());
    }

    /// Commits an offset, in the version of OffsetCommit that goes by names and knows most.
    pub(super) fn commit(&mut self, group: &str, by: &Seat, at: (&str, i32), offset: i64) -> ErrorCode {
        self.commit_in(9, commit(group, by, at, offset))
    }

    /// Sends an OffsetCommit, and takes what it says of the first partition.
    pub(super) fn commit_in(&mut self, version: i16, request: OffsetCommitRequest) -> ErrorCode {
        let response: OffsetCommitResponse = self.ask(version, |coordinator, with, to| {
            coordinator.commit(with, to, &request);
        });
        code(response.topics[0].partitions[0].error_code)
    }

    /// The offset that somebody who is no member is told; -1 if there is none.
    pub(super) fn fetch(&mut self, group: &str, (topic, partition): (&str, i32)) -> i64 {
        let topics = vec![OffsetFetchRequestTopics {
            name: Str::from(topic),
            partition_indexes: vec![partition],
            ..OffsetFetchRequestTopics::default()
        }];
        let response = self.fetch_in(9, fetch(group, Some(topics)));
        assert_eq!(response.error_code, 0);
        response.topics[0].partitions[0].committed_offset
    }

    /// Sends an OffsetFetch.
    pub(super) fn fetch_in(&mut self, version: i16, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
        let mut answer = OffsetFetchResponseGroup { group_id: request.group_id.clone(), ..Default::default() };
        let mut from = None;
        loop {
            from =
                self.coordinator.fetch_offsets(&self.rig.surroundings(), version, &request, from, &mut 2, &mut answer);
            if from.is_none() {
                return answer;
            }
        }
    }

    /// Topic, partition and offset of all that a group has committed.
    pub(super) fn all_offsets(&mut self, group: &str) -> Vec<(String, i32, i64)> {
        let response = self.fetch_in(9, fetch(group, None));
        assert_eq!(response.error_code, 0);
        let topics = response.topics.iter();
        topics
            .flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|at| (topic.name.to_string(), at.partition_index, at.committed_offset))
            })
            .collect()
    }

    /// Sends an OffsetDelete of one partition. Returns the group's error, and the partition's.
    pub(super) fn delete_offset(&mut self, group: &str, (topic, partition): (&str, i32)) -> (ErrorCode, ErrorCode) {
        let request = OffsetDeleteRequest {
            group_id: Str::from(group),
            topics: vec![OffsetDeleteRequestTopic {
                name: Str::from(topic),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: partition }],
            }],
        };
        let response: OffsetDeleteResponse = self.ask(0, |coordinator, with, to| {
            coordinator.delete_offsets(with, to, &request);
        });
        let partition = response.topics.first().map_or(0, |topic| topic.partitions[0].error_code);
        (code(response.error_code), code(partition))
    }

    /// Deletes a group.
    pub(super) fn delete(&mut self, group: &str) -> ErrorCode {
        loop {
            if let Some(code) = self.call(|coordinator, with| coordinator.delete(with, &Str::from(group), 1)) {
                return code;
            }
        }
    }

    /// One member joins an empty classic group that reads `topics`, and is assigned the first partition of each.
    pub(super) fn sit_down(&mut self, group: &str, protocol_type: &str, topics: &[&str]) -> Seat {
        let joined: JoinGroupResponse = self.ask(3, |coordinator, with, to| {
            coordinator.join(with, to, &client("one"), join(group, protocol_type, topics));
        });
        assert_eq!(joined.error_code, 0);
        let seat = Seat { member: joined.member_id, generation: joined.generation_id };
        let request = SyncGroupRequest {
            group_id: Str::from(group),
            generation_id: seat.generation,
            member_id: seat.member.clone(),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: seat.member.clone(),
                assignment: assignment(topics),
            }],
            ..SyncGroupRequest::default()
        };
        let synced: SyncGroupResponse = self.ask(3, |coordinator, with, to| coordinator.sync(with, to, request));
        assert_eq!(synced.error_code, 0);
        seat
    }

    /// A member of a classic group leaves.
    pub(super) fn stand_up(&mut self, group: &str, seat: &Seat) {
        let request = LeaveGroupRequest {
            group_id: Str::from(group),
            member_id: seat.member.clone(),
            ..LeaveGroupRequest::default()
        };
        let left: LeaveGroupResponse = self.ask(2, |coordinator, with, to| coordinator.leave(with, to, request));
        assert_eq!(left.error_code, 0);
    }

    /// Sends a ConsumerGroupHeartbeat.
    pub(super) fn beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        self.ask(1, |coordinator, with, to| coordinator.consumer_heartbeat(with, to, &client("two"), request))
    }

    /// What a whole walk of expiry does.
    pub(super) fn expire(&mut self) {
        let mut after = None;
        loop {
            after = self.call(|coordinator, with| coordinator.expire(with, after));
            if after.is_none() {
                return;
            }
        }
    }

    /// What a whole walk over the groups does when a topic is deleted.
    pub(super) fn delete_topic(&mut self, topic: &str, id: TopicId) {
        self.rig.topics.remove(topic);
        let mut after = None;
        loop {
            after = self.call(|coordinator, with| coordinator.forget_topic(with, &Str::from(topic), id, after));
            if after.is_none() {
                return;
            }
        }
    }

    /// The groups' names, states and types.
    pub(super) fn groups(&self) -> Vec<String> {
        let groups = listed(&self.coordinator, &ListGroupsRequest::default()).into_iter();
        groups.map(|group| format!("{} {} {}", group.group_id, group.group_state, group.group_type)).collect()
    }

    /// A coordinator that has loaded the log.
    pub(super) fn reloaded(&self) -> Coordinator {
        load(&self.log)
    }
}

/// A coordinator that has loaded these records, and has not begun.
pub(super) fn load<'a>(log: impl IntoIterator<Item = &'a (Bytes, Option<Bytes>, Timestamp)>) -> Coordinator {
    let mut coordinator = Coordinator::default();
    for (key, value, at) in log {
        let record = Record::decode(key, value.as_ref()).expect("what was encoded can be decoded");
        coordinator.replay(record, *at);
    }
    coordinator
}

/// All of a coordinator that must survive it.
pub(super) fn image(coordinator: &Coordinator) -> Vec<String> {
    let groups = coordinator.groups.iter();
    groups
        .map(|(name, group)| {
            let members = match &group.members {
                Members::Classic(group) => {
                    format!("{:?} {} {:?}", group.describe(6), group.generation(), group.empty_since())
                }
                Members::Consumer(group) => {
                    let described = group.describe(&Settings::default(), &Names::default());
                    format!("{described:?} {:?} {:?}", group.subscribed().collect::<Vec<_>>(), group.empty_since())
                }
            };
            format!("{:?} {:?} {members}", group.listed(name), group.offsets)
        })
        .collect()
}

pub(super) fn commit(group: &str, by: &Seat, (topic, partition): (&str, i32), offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: Str::from(group),
        generation_id_or_member_epoch: by.generation,
        member_id: by.member.clone(),
        topics: vec![OffsetCommitRequestTopic {
            name: Str::from(topic),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

pub(super) fn fetch(group: &str, topics: Option<Vec<OffsetFetchRequestTopics>>) -> OffsetFetchRequestGroup {
    OffsetFetchRequestGroup { group_id: Str::from(group), topics, ..OffsetFetchRequestGroup::default() }
}

pub(super) fn join(group: &str, protocol_type: &str, topics: &[&str]) -> JoinGroupRequest {
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| Str::from(*topic)).collect(),
        ..ConsumerProtocolSubscription::default()
    };
    JoinGroupRequest {
        group_id: Str::from(group),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: Str::from(protocol_type),
        protocols: vec![JoinGroupRequestProtocol { name: Str::from("range"), metadata: subscription.to_bytes(0) }],
        ..JoinGroupRequest::default()
    }
}

/// The first partition of each topic.
fn assignment(topics: &[&str]) -> Bytes {
    let first = |topic: &&str| TopicPartition { topic: Str::from(*topic), partitions: vec![0] };
    let assigned_partitions = topics.iter().map(first).collect();
    ConsumerProtocolAssignment { assigned_partitions, user_data: None }.to_bytes(0)
}

/// A member of the next protocol, `m`, that joins and reads `orders`; or leaves where `epoch` is -1.
pub(super) fn beat(group: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let joins = epoch == 0;
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from(group),
        member_id: Str::from("m"),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 10_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec![Str::from("orders")]),
        topic_partitions: joins.then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// The error of a number on the wire.
pub(super) fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("only known errors are answered")
}
