//! Groups where something is in their way: settings that a user changed, loads that fail, very many of them.

use super::*;
use crate::controller::records::{MetadataRecord, PartitionState};
use crate::ids::NodeId;
use crate::wire::consumer_group_describe::ConsumerGroupDescribeRequest;
use crate::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::JoinGroupResponse;
use crate::wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::list_groups::ListGroupsRequest;
use crate::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use crate::wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

/// A topic, as a resource with settings.
const TOPIC: i8 = 2;

impl Rig {
    /// A heartbeat of the next protocol; gives error code and member epoch.
    fn beat_next(&mut self, member: &'static str, epoch: i32) -> (i16, i32) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "next".into(),
            member_id: member.into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if epoch == 0 { 60_000 } else { -1 },
            subscribed_topic_names: (epoch == 0).then(|| vec!["t".into()]),
            topic_partitions: (epoch == 0).then(Vec::new),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        match self.answer(1, request.into()) {
            Response::ConsumerGroupHeartbeat(response) => (response.error_code, response.member_epoch),
            other => panic!("another answer: {other:?}"),
        }
    }

    fn leave(&mut self, group: &'static str, joined: &JoinGroupResponse) -> i16 {
        let member = MemberIdentity { member_id: joined.member_id.clone(), ..MemberIdentity::default() };
        let request = LeaveGroupRequest { group_id: group.into(), members: vec![member], ..Default::default() };
        match self.answer(4, request.into()) {
            Response::LeaveGroup(response) => response.error_code,
            other => panic!("another answer: {other:?}"),
        }
    }

    /// The partitions of a topic have these replicas, of which this broker alone is in sync.
    fn replicate(&mut self, topic: &'static str, nodes: &[i32]) {
        let topic = self.node.controller.image().topic_named::<str>(topic).expect("it exists");
        let records: Vec<MetadataRecord> = (0..)
            .zip(topic.partitions.iter())
            .map(|(index, before)| MetadataRecord::Partition {
                partition: TopicPartition { topic: topic.id, partition: index },
                state: PartitionState {
                    replicas: nodes.iter().copied().map(NodeId).collect(),
                    partition_epoch: before.partition_epoch + 1,
                    ..before.clone()
                },
            })
            .collect();
        self.node.propose(&records, &mut self.out).expect("it decides alone");
        self.run();
    }

    /// Whether a coordinator has been given up, and loaded again.
    fn has_reloaded(&self) -> bool {
        self.node.counters().coordinator_loads > 0
    }
}

/// Groups with these names, each with an offset.
fn commit_for_all(rig: &mut Rig, names: impl Iterator<Item = String>) -> usize {
    let mut count = 0;
    for name in names {
        let sequence = rig.ask(8, Request::Other(Rig::commit_request(name.leak(), &[(0, 5)])));
        // The journal may have no room at once.
        rig.pass(1);
        assert_eq!(rig.committed(sequence), Some(0));
        count += 1;
    }
    count
}

#[test]
fn a_small_limit_for_clients_messages_is_none_for_groups() {
    let mut rig = Rig::with_groups(&[]);
    let joined = rig.stable("g");
    assert_eq!(rig.alter((TOPIC, OFFSETS), "max.message.bytes", "1"), 0);
    assert_eq!(rig.commit_offset("h", 0, 7), 0);
    rig.stable("i");
    assert_eq!(rig.beat_next("m", 0), (0, 1));
    rig.pass(6_000);
    assert_eq!(rig.beat("g", &joined), 0);
    assert!(!rig.has_reloaded());
    assert_eq!(rig.crash_and_load().offset_of("h"), Ok(7));
}

#[test]
fn with_too_few_replicas_nothing_new_begins_and_what_there_is_goes_on() {
    let mut rig = Rig::with_groups(&[]);
    let joined = rig.stable("g");
    assert_eq!(rig.commit_offset("g", 0, 5), code(ErrorCode::UnknownMemberId), "it has a member");
    assert_eq!(rig.commit_offset("h", 0, 5), 0);
    assert_eq!(rig.beat_next("m", 0), (0, 1));
    let silent = rig.stable("silent");
    assert_eq!(rig.alter((TOPIC, OFFSETS), "min.insync.replicas", "2"), 0);
    rig.replicate(OFFSETS, &[1, 2]);
    let unavailable = code(ErrorCode::CoordinatorNotAvailable);

    assert_eq!(rig.commit_offset("h", 0, 6), unavailable);
    let joining = rig.join("i", "");
    assert_eq!(rig.joined(joining).expect("an answer").error_code, unavailable);
    assert_eq!(rig.beat_next("another", 0).0, unavailable);
    assert_eq!(rig.beat_next("m", -1).0, unavailable, "nobody can leave either");
    assert_eq!(rig.leave("g", &joined), unavailable);
    assert_eq!(rig.offset_of("h"), Ok(5), "what is known is told, and no refused commit is in it");
    for _ in 0..10 {
        rig.pass(5_000);
        assert_eq!(rig.beat("g", &joined), 0, "a session goes on");
        assert_eq!(rig.beat_next("m", 1), (0, 1));
    }
    assert!(!rig.has_reloaded());

    rig.replicate(OFFSETS, &[1]);
    assert_eq!(rig.beat("silent", &silent), code(ErrorCode::UnknownMemberId), "and another ended, which was written");
    assert_eq!((rig.commit_offset("h", 0, 6), rig.beat("g", &joined)), (0, 0));
    assert_eq!(rig.leave("g", &joined), 0);
    assert!(!rig.has_reloaded());
    let mut rig = rig.crash_and_load();
    assert_eq!(rig.offset_of("h"), Ok(6));
    assert_eq!(rig.beat("silent", &silent), code(ErrorCode::UnknownMemberId));
}

#[test]
fn a_topic_that_deletes_loses_old_offsets_and_its_groups_go_on() {
    let mut rig = Rig::with_groups(&[("log.retention.check.interval.ms", "1000")]);
    let joined = rig.stable("g");
    assert_eq!(rig.commit_offset("h", 0, 5), 0);
    for (name, value) in [("cleanup.policy", "delete"), ("retention.ms", "1000"), ("segment.ms", "1000")] {
        assert_eq!(rig.alter((TOPIC, OFFSETS), name, value), 0);
    }
    for _ in 0..10 {
        rig.pass(5_000);
        assert_eq!(rig.beat("g", &joined), 0);
    }
    assert_eq!(rig.offset_of("h"), Ok(5), "it is still in memory");
    assert!(!rig.has_reloaded());
    assert_eq!(rig.commit_offset("h", 1, 6), 0);
    let mut rig = rig.crash_and_load();
    assert_eq!(rig.list_groups().map(|groups| groups.len()), Ok(1), "what the user had deleted is gone: {:?}", rig.now);
}

#[test]
fn groups_whose_log_fills_the_memory_of_newest_batches_wait_for_it_and_no_disk_is_full() {
    let mut rig = Rig::with_groups(&[("offsets.topic.num.partitions", "2")]);
    commit_for_all(&mut rig, (0..500).map(|n| format!("group-{n}")));
    assert!(rig.node.no_space.is_none());
}

#[test]
fn loads_that_fail_do_not_keep_the_others_waiting() {
    let mut rig = Rig::with_groups(&[("offsets.topic.num.partitions", "8")]);
    commit_for_all(&mut rig, (0..40).map(|n| format!("group-{n}")));
    let mut rig = rig.crash();
    // The first loads begin, and what they read never arrives.
    rig.step(Input::Deadline);
    rig.out.0.clear();
    let loading: Vec<(i32, u32)> = rig.node.groups.loading().collect();
    assert!(!loading.is_empty() && loading.len() < 8, "{loading:?}");
    for &(_, slot) in &loading {
        rig.node.host(slot).partition.mark_damaged("the scrub says so".into());
        rig.node.resign_damaged(slot, &mut rig.out);
    }
    rig.pass(100);
    let served: Vec<bool> = (0..40).map(|n| rig.offset_of(format!("group-{n}").leak()) == Ok(5)).collect();
    for (n, served) in served.into_iter().enumerate() {
        let partition = partition_of(&format!("group-{n}"), 8);
        assert_eq!(served, loading.iter().all(|&(damaged, _)| damaged != partition), "group-{n}");
    }
}

#[test]
fn very_many_groups_begin_are_listed_and_counted_in_many_steps() {
    let mut rig = Rig::with_groups(&[("offsets.topic.num.partitions", "2")]);
    let count = commit_for_all(&mut rig, (0..700).map(|n| format!("group-{n:03}")));
    let mut rig = rig.crash_and_load();
    let sequence = rig.ask(4, Request::Other(ListGroupsRequest::default().into()));
    assert!(rig.reply(sequence).is_none(), "it takes more than a step");
    rig.pass(1);
    let Some(Some(Response::ListGroups(mut response))) = rig.reply(sequence) else { panic!("no answer") };
    response.groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
    let names: Vec<String> = response.groups.iter().map(|group| group.group_id.to_string()).collect();
    assert_eq!(names, (0..count).map(|n| format!("group-{n:03}")).collect::<Vec<_>>());

    rig.node.survey_groups(rig.now);
    rig.pass(1);
    let text = rig.node.metrics();
    assert!(text.contains(&format!("chronik_groups{{state=\"Empty\"}} {count}\n")), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("chronik_group_lag{")).count(), count);
}

#[test]
fn a_commit_of_very_many_offsets_takes_many_steps_and_what_comes_later_stays_behind_it() {
    let mut rig = Rig::with_groups(&[]);
    let offsets: Vec<(i32, i64)> = (0..1000).map(|n| (n % 5, i64::from(n))).collect();
    let long = rig.ask(8, Request::Other(Rig::commit_request("g", &offsets)));
    let later = rig.ask(8, Request::Other(Rig::commit_request("g", &[(0, 7)])));
    let fetching = rig.ask(FETCH_VERSION, Request::Other(Rig::fetch_offsets_request(&["g"])));
    assert!(rig.committed(later).is_none() && rig.reply(long).is_none(), "it goes on");
    rig.pass(1000);
    let Some(Some(Response::OffsetCommit(response))) = rig.reply(long) else { panic!("no answer") };
    assert_eq!(response.topics.len(), 1, "the parts are one answer again");
    let told: Vec<(i32, i16)> =
        response.topics[0].partitions.iter().map(|told| (told.partition_index, told.error_code)).collect();
    let no_such = code(ErrorCode::UnknownTopicOrPartition);
    let expect = offsets.iter().map(|&(at, _)| (at, if at < 4 { 0 } else { no_such }));
    assert_eq!(told, expect.collect::<Vec<_>>());
    assert_eq!(rig.committed(later), Some(0));
    assert_eq!(rig.fetched_offsets(fetching).expect("an answer")[0].topics[0].partitions[0].committed_offset, 7);
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(7));
}

#[test]
fn a_long_commit_ends_with_its_connection_its_topic_and_the_node() {
    let offsets: Vec<(i32, i64)> = (0..1000).map(|n| (n % 4, i64::from(n))).collect();
    let begin = |rig: &mut Rig| rig.ask(8, Request::Other(Rig::commit_request("g", &offsets)));

    let mut rig = Rig::with_groups(&[]);
    begin(&mut rig);
    rig.step(Input::Closed { conn: ConnId(1) });
    assert_eq!(rig.commit_offset("g", 0, 7), 0, "others do not wait for it");
    assert_eq!(rig.offset_of("g"), Ok(7));

    let mut rig = Rig::with_groups(&[]);
    let long = begin(&mut rig);
    rig.delete(OFFSETS);
    assert_eq!(rig.committed(long), Some(code(ErrorCode::NotCoordinator)));

    let mut rig = Rig::with_groups(&[]);
    let long = begin(&mut rig);
    rig.step(Input::Stop);
    rig.run();
    assert_eq!(rig.committed(long), Some(code(ErrorCode::NotCoordinator)));
    rig.pass(100);
    assert!(rig.stopped);
}

#[test]
fn very_many_offsets_are_told_a_part_at_a_time_and_none_is_left_out() {
    let mut rig = Rig::with_groups(&[]);
    rig.create("wide", 1_200);
    let partitions = |count: i32| {
        (0..count).map(|partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: i64::from(partition_index),
            ..OffsetCommitRequestPartition::default()
        })
    };
    let topic = |count| OffsetCommitRequestTopic {
        name: "wide".into(),
        partitions: partitions(count).collect(),
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest { group_id: "g".into(), topics: vec![topic(1_000)], ..Default::default() };
    let sequence = rig.ask(8, Request::Other(request.into()));
    rig.pass(10);
    assert_eq!(rig.committed(sequence), Some(0));
    let fetch = |topics| {
        let group = OffsetFetchRequestGroup { group_id: "g".into(), topics, ..OffsetFetchRequestGroup::default() };
        let other = OffsetFetchRequestGroup { group_id: "h".into(), ..group.clone() };
        let request = OffsetFetchRequest { groups: vec![group, other], ..OffsetFetchRequest::default() };
        Request::Other(request.into())
    };
    let some = OffsetFetchRequestTopics {
        name: "wide".into(),
        partition_indexes: (0..1_200).collect(),
        ..OffsetFetchRequestTopics::default()
    };
    let unknown = OffsetFetchRequestTopics { name: "unknown".into(), ..some.clone() };
    let all = rig.ask(FETCH_VERSION, fetch(None));
    let named = rig.ask(FETCH_VERSION, fetch(Some(vec![unknown, some])));
    assert!(rig.reply(all).is_none() && rig.reply(named).is_none(), "that takes several steps");
    rig.pass(10);

    let groups = rig.fetched_offsets(all).expect("an answer");
    let [topic] = groups[0].topics.as_slice() else { panic!("one topic") };
    assert!(topic.partitions.iter().map(|at| at.committed_offset).eq(0..1_000));
    assert!(groups[1].topics.is_empty());
    let groups = rig.fetched_offsets(named).expect("an answer");
    for (group, committed) in groups.iter().zip([1_000, 0]) {
        let [unknown, topic] = group.topics.as_slice() else { panic!("two topics") };
        assert!(unknown.partitions.len() == 1_200 && unknown.partitions.iter().all(|at| at.committed_offset == -1));
        let told = (0..1_200).map(|at| if at < committed { at } else { -1 });
        assert!(topic.partitions.iter().map(|at| at.committed_offset).eq(told));
    }
}

#[test]
fn nobody_finds_a_group_of_which_half_is_deleted() {
    let mut rig = Rig::with_groups(&[]);
    rig.create("wide", 1_200);
    let commit = |rig: &mut Rig| {
        let partitions = (0..1_000).map(|partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 7,
            ..OffsetCommitRequestPartition::default()
        });
        let topic = OffsetCommitRequestTopic {
            name: "wide".into(),
            partitions: partitions.collect(),
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() };
        let sequence = rig.ask(8, Request::Other(request.into()));
        rig.pass(10);
        assert_eq!(rig.committed(sequence), Some(0));
    };
    let delete = || Request::Other(DeleteGroupsRequest { groups_names: vec!["g".into(), "h".into()] }.into());
    let deleted = |rig: &mut Rig, sequence| match rig.reply(sequence) {
        Some(Some(Response::DeleteGroups(response))) => {
            Some(response.results.iter().map(|result| result.error_code).collect::<Vec<_>>())
        }
        None => None,
        other => panic!("another answer: {other:?}"),
    };
    commit(&mut rig);
    let deleting = rig.ask(2, delete());
    let joining = rig.join("g", "");
    let committing = rig.ask(8, Request::Other(Rig::commit_request("g", &[(0, 5)])));
    assert!(rig.committed(committing).is_none(), "it waits for the group to be gone");
    rig.pass(10);
    assert_eq!(deleted(&mut rig, deleting), Some(vec![0, code(ErrorCode::GroupIdNotFound)]));
    assert!(rig.committed(committing).is_some());
    rig.pass(3_000);
    assert_eq!(rig.joined(joining).expect("the delay is over").generation_id, 1);
    assert_eq!(
        rig.crash_and_load().list_groups(),
        Ok(Vec::new()),
        "all that it had is gone, and nobody has assigned yet"
    );

    // The connection that asked goes away in the middle: what it has removed stays so, and others go on.
    let mut rig = Rig::with_groups(&[]);
    rig.create("wide", 1_200);
    commit(&mut rig);
    rig.ask(2, delete());
    rig.step(Input::Closed { conn: ConnId(1) });
    let committing = rig.ask(8, Request::Other(Rig::commit_request("g", &[(0, 5)])));
    rig.pass(10);
    assert_eq!(rig.committed(committing), Some(0));
}

#[test]
fn very_many_offsets_are_deleted_a_part_at_a_time() {
    let mut rig = Rig::with_groups(&[]);
    rig.create("wide", 1_200);
    assert_eq!(rig.commit_offset("g", 0, 7), 0);
    let delete = |group: &'static str| {
        let partitions = (0..1_201).map(|partition_index| OffsetDeleteRequestPartition { partition_index });
        let wide = OffsetDeleteRequestTopic { name: "wide".into(), partitions: partitions.collect() };
        let t = OffsetDeleteRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        };
        Request::Other(OffsetDeleteRequest { group_id: group.into(), topics: vec![wide, t] }.into())
    };
    let deleted = |rig: &mut Rig, sequence| match rig.reply(sequence) {
        Some(Some(Response::OffsetDelete(response))) => Some(response),
        None => None,
        other => panic!("another answer: {other:?}"),
    };
    let deleting = rig.ask(0, delete("g"));
    assert!(deleted(&mut rig, deleting).is_none(), "that takes several steps");
    let fetching = rig.ask(FETCH_VERSION, Request::Other(Rig::fetch_offsets_request(&["g"])));
    rig.pass(10);
    let told = deleted(&mut rig, deleting).expect("an answer");
    let [wide, t] = told.topics.as_slice() else { panic!("two topics, not {}", told.topics.len()) };
    assert!(wide.partitions.iter().map(|at| at.partition_index).eq(0..1_201));
    let codes: Vec<i16> = wide.partitions.iter().map(|at| at.error_code).collect();
    assert_eq!(codes[..1_200].iter().find(|code| **code != 0), None);
    assert_eq!((codes[1_200], t.partitions[0].error_code), (code(ErrorCode::UnknownTopicOrPartition), 0));
    let groups = rig.fetched_offsets(fetching).expect("an answer");
    assert_eq!(groups[0].topics[0].partitions[0].committed_offset, -1, "who asks behind it finds nothing");

    let deleting = rig.ask(0, delete("nobody's"));
    rig.pass(10);
    let told = deleted(&mut rig, deleting).expect("an answer");
    assert_eq!((told.error_code, told.topics.len()), (code(ErrorCode::GroupIdNotFound), 0));
}

#[test]
fn sessions_do_not_end_while_heartbeats_wait_for_room_behind_others() {
    let mut rig = Rig::with_groups(&[]);
    let joined = rig.stable("g");
    // The journal alone is short of room, for a large record and not yet for a small one.
    rig.node.limits.tail_cache_bytes = 1 << 30;
    // It would write as much as a record of the journal holds, and is refused, since nobody is in that group.
    let large = || {
        let assignment = SyncGroupRequestAssignment { assignment: vec![7; 1 << 20].into(), ..Default::default() };
        let request = SyncGroupRequest { group_id: "h".into(), assignments: vec![assignment], ..Default::default() };
        Request::Other(request.into())
    };
    let offsets: Vec<(i32, i64)> = (0..60).map(|n| (n % 4, i64::from(n))).collect();
    rig.hold = true;
    let mut syncing = rig.ask(2, large());
    while !rig.node.groups.has_waiting() {
        rig.ask(8, Request::Other(Rig::commit_request("i", &offsets)));
        syncing = rig.ask(2, large());
    }
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    let beating = rig.ask(2, Request::Other(request.into()));
    rig.pass(11_000);
    assert!(rig.reply(beating).is_none() && rig.reply(syncing).is_none(), "they wait");
    rig.release();
    rig.pass(1000);
    assert_eq!(rig.synced(syncing).expect("an answer").error_code, code(ErrorCode::UnknownMemberId));
    match rig.reply(beating) {
        Some(Some(Response::Heartbeat(response))) => assert_eq!(response.error_code, 0),
        other => panic!("another answer: {other:?}"),
    }
    rig.pass(11_000);
    assert_eq!(rig.beat("g", &joined), code(ErrorCode::UnknownMemberId), "nobody waits any more");
}

#[test]
fn a_group_that_is_named_again_is_answered_once() {
    let mut rig = Rig::with_groups(&[]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    let names = || vec!["g".into(), "h".into(), "g".into(), "h".into(), "g".into()];
    let Response::DescribeGroups(response) =
        rig.answer(5, DescribeGroupsRequest { groups: names(), ..Default::default() }.into())
    else {
        panic!("another answer")
    };
    assert_eq!(response.groups.iter().map(|group| &*group.group_id).collect::<Vec<_>>(), ["g", "h"]);
    let Response::ConsumerGroupDescribe(response) =
        rig.answer(1, ConsumerGroupDescribeRequest { group_ids: names(), ..Default::default() }.into())
    else {
        panic!("another answer")
    };
    assert_eq!(response.groups.iter().map(|group| &*group.group_id).collect::<Vec<_>>(), ["g", "h"]);
    let Response::DeleteGroups(response) = rig.answer(2, DeleteGroupsRequest { groups_names: names() }.into()) else {
        panic!("another answer")
    };
    let told: Vec<_> = response.results.iter().map(|result| (&*result.group_id, result.error_code)).collect();
    assert_eq!(told, [("g", 0), ("h", code(ErrorCode::GroupIdNotFound))]);
}

#[test]
fn an_answer_about_groups_does_not_grow_without_end() {
    let mut rig = Rig::with_groups(&[]);
    let partition = OffsetCommitRequestPartition {
        committed_offset: 5,
        committed_metadata: Some("x".repeat(4096).into()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() };
    let sequence = rig.ask(8, Request::Other(request.into()));
    assert_eq!(rig.committed(sequence), Some(0));
    // A partition takes four bytes of the request, and a thousand times as many of the answer.
    let mut fetch = |times| {
        let group = |group_id: &'static str| OffsetFetchRequestGroup {
            group_id: group_id.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0; times],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        };
        let request = OffsetFetchRequest { groups: vec![group("g"), group("g"), group("h")], ..Default::default() };
        let sequence = rig.ask(FETCH_VERSION, Request::Other(request.into()));
        rig.pass(10);
        let groups = rig.fetched_offsets(sequence).expect("an answer");
        let told = |group: &OffsetFetchResponseGroup| (group.error_code, group.topics.len());
        groups.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(fetch(12_000), [(0, 1); 3]);
    let refused = (code(ErrorCode::PolicyViolation), 0);
    assert_eq!(fetch(20_000), [(0, 1), refused, refused]);
    assert_eq!(fetch(40_000), [refused; 3]);
}
