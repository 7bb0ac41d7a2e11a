//! Groups on a node: who coordinates them, what is on disk when they are told of it, and what a restart brings back.

mod asking;
mod loading;
mod migration;
mod trouble;

use super::*;
use crate::group::partition_of;
use crate::wire::delete_groups::DeleteGroupsRequest;
use crate::wire::describe_groups::DescribeGroupsRequest;
use crate::wire::find_coordinator::FindCoordinatorRequest;

const OFFSETS: &str = "__consumer_offsets";
/// The answers before version 8 are another story; this one has several groups.
const FETCH_VERSION: i16 = 8;

/// Two groups that belong to different partitions of so many.
fn of_two_partitions(count: u32) -> (&'static str, &'static str) {
    let names = ["g", "h", "i", "j", "k"];
    let other = names[1..].iter().find(|&&name| partition_of(name, count) != partition_of(names[0], count));
    (names[0], other.expect("not all of them share one partition"))
}

fn code(code: ErrorCode) -> i16 {
    code.into()
}

#[test]
fn the_first_question_about_a_group_creates_the_topic_and_is_answered() {
    let mut rig = Rig::with(&[("offsets.topic.segment.bytes", "2000000")]);
    assert_eq!(rig.find("g"), 0);
    let topics = Some(vec![MetadataRequestTopic { name: Some(OFFSETS.into()), ..Default::default() }]);
    let Response::Metadata(response) = rig.answer(12, MetadataRequest { topics, ..Default::default() }.into()) else {
        panic!("another answer")
    };
    let topic = &response.topics[0];
    assert_eq!((topic.error_code, topic.is_internal, topic.partitions.len()), (0, true, 50));
    assert_eq!(topic.partitions[0].replica_nodes, [1], "as many replicas as there are nodes");
    let id = topic.topic_id;
    let image = rig.node.controller.image();
    let settings = &image.topic(id).expect("it was described").settings;
    let setting = |name: &str| settings.get(name).map(String::as_str);
    assert_eq!(setting("cleanup.policy"), Some("compact"));
    assert_eq!(setting("compression.type"), Some("producer"));
    assert_eq!(setting("segment.bytes"), Some("2000000"));
    assert_eq!(rig.find("another"), 0);
}

#[test]
fn the_topic_is_durable_before_a_coordinator_is_named() {
    let mut rig = Rig::new();
    rig.hold = true;
    let request = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    let sequence = rig.ask(0, Request::Other(request.into()));
    assert!(rig.reply(sequence).is_none());
    rig.release();
    let Some(Some(Response::FindCoordinator(response))) = rig.reply(sequence) else { panic!("no answer") };
    assert_eq!((response.error_code, response.node_id, &*response.host, response.port), (0, 1, "localhost", 9092));
}

#[test]
fn coordinators_of_transactions_are_refused_for_good_and_others_are_not_known() {
    let mut rig = Rig::new();
    let mut find = |version, key_type| {
        let keys = vec!["x".into()];
        let request = FindCoordinatorRequest { key: "x".into(), key_type, coordinator_keys: keys };
        match rig.answer(version, request.into()) {
            Response::FindCoordinator(response) if version < 4 => response.error_code,
            Response::FindCoordinator(response) => response.coordinators[0].error_code,
            other => panic!("another answer: {other:?}"),
        }
    };
    for version in [1, 3, 4, 6] {
        assert_eq!(find(version, 1), code(ErrorCode::TransactionalIdAuthorizationFailed));
    }
    assert_eq!(find(6, 2), code(ErrorCode::InvalidRequest));
    assert_eq!(find(6, 9), code(ErrorCode::InvalidRequest));
}

#[test]
fn before_anybody_asked_for_its_coordinator_a_group_has_none() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    assert_eq!(rig.commit_offset("g", 0, 5), code(ErrorCode::NotCoordinator));
    assert_eq!(rig.offset_of("g"), Err(code(ErrorCode::NotCoordinator)));
    assert_eq!(rig.list_groups(), Ok(Vec::new()));
}

#[test]
fn a_commit_is_told_when_the_disk_has_it_and_a_fetch_behind_it_waits_too() {
    let mut rig = Rig::with_groups(&[]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    rig.hold = true;
    let committing = rig.ask(8, Request::Other(Rig::commit_request("g", &[(0, 6)])));
    let fetching = rig.ask(FETCH_VERSION, Request::Other(Rig::fetch_offsets_request(&["g"])));
    assert!(rig.committed(committing).is_none());
    assert!(rig.fetched_offsets(fetching).is_none(), "what it would tell a crash could take back");
    rig.release();
    assert_eq!(rig.committed(committing), Some(0));
    let groups = rig.fetched_offsets(fetching).expect("an answer");
    assert_eq!(groups[0].topics[0].partitions[0].committed_offset, 6);
}

#[test]
fn a_crash_forgets_the_commit_that_nobody_was_told_of() {
    let mut rig = Rig::with_groups(&[]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    rig.hold = true;
    rig.ask(8, Request::Other(Rig::commit_request("g", &[(0, 6)])));
    let mut rig = rig.crash_and_load();
    assert_eq!(rig.offset_of("g"), Ok(5));
    assert_eq!(rig.commit_offset("g", 0, 7), 0);
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(7));
}

#[test]
fn an_answer_about_several_groups_waits_for_all_of_their_coordinators() {
    let mut rig = Rig::with_groups(&[]);
    let (one, other) = of_two_partitions(50);
    assert_eq!(rig.commit_offset(one, 0, 1), 0);
    rig.hold = true;
    rig.ask(8, Request::Other(Rig::commit_request(other, &[(0, 2)])));
    let only_one = rig.ask(FETCH_VERSION, Request::Other(Rig::fetch_offsets_request(&[one])));
    let both = rig.ask(FETCH_VERSION, Request::Other(Rig::fetch_offsets_request(&[one, other])));
    let describing = DescribeGroupsRequest { groups: vec![one.into(), other.into()], ..Default::default() };
    let describing = rig.ask(5, Request::Other(describing.into()));
    assert!(rig.fetched_offsets(only_one).is_some(), "nothing is on its way there");
    assert!(rig.fetched_offsets(both).is_none());
    assert!(rig.reply(describing).is_none());
    rig.release();
    let offsets: Vec<i64> = rig
        .fetched_offsets(both)
        .expect("an answer")
        .iter()
        .map(|group| group.topics[0].partitions[0].committed_offset)
        .collect();
    assert_eq!(offsets, [1, 2]);
    assert!(rig.reply(describing).is_some());
}

#[test]
fn members_join_and_sync_and_a_restart_keeps_their_generation() {
    let mut rig = Rig::with_groups(&[]);
    let joined = rig.stable("g");
    assert_eq!(joined.generation_id, 1);
    assert_eq!(rig.beat("g", &joined), 0);
    let mut rig = rig.crash_and_load();
    assert_eq!(rig.beat("g", &joined), 0, "it knows its members");
    assert_eq!(rig.list_groups(), Ok(vec!["g Stable".to_owned()]));
    rig.pass(11_000);
    assert_eq!(rig.beat("g", &joined), code(ErrorCode::UnknownMemberId), "sessions began with the load");
    assert_eq!(rig.list_groups(), Ok(vec!["g Empty".to_owned()]));
}

#[test]
fn an_assignment_is_told_when_the_disk_has_it() {
    let mut rig = Rig::with_groups(&[]);
    let joining = rig.join("g", "");
    rig.pass(3_000);
    let joined = rig.joined(joining).expect("the delay is over");
    rig.hold = true;
    let member = joined.member_id.clone();
    let syncing = rig.sync("g", &joined, &[(&member, "all of it")]);
    assert!(rig.synced(syncing).is_none());
    rig.release();
    assert_eq!(rig.synced(syncing).expect("an answer").error_code, 0);
}

#[test]
fn a_stop_answers_whoever_waits_in_a_group() {
    let mut rig = Rig::with_groups(&[]);
    let joining = rig.join("g", "");
    assert!(rig.joined(joining).is_none(), "it waits for more members");
    rig.step(Input::Stop);
    rig.run();
    assert_eq!(rig.joined(joining).expect("an answer").error_code, code(ErrorCode::NotCoordinator));
    assert_eq!(rig.commit_offset("g", 0, 1), code(ErrorCode::CoordinatorNotAvailable));
    assert!(rig.stopped);
}

#[test]
fn the_end_of_the_topic_is_the_end_of_its_groups() {
    let mut rig = Rig::with_groups(&[]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    let joining = rig.join("h", "");
    rig.hold = true;
    let committing = rig.ask(8, Request::Other(Rig::commit_request("g", &[(0, 6)])));
    let topic = DeleteTopicState { name: Some(OFFSETS.into()), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
    rig.ask(6, Request::Other(request.into()));
    assert!(rig.joined(joining).is_none(), "the topic is there until its end has committed");
    assert!(rig.committed(committing).is_none());
    rig.release();
    assert_eq!(rig.joined(joining).expect("an answer").error_code, code(ErrorCode::NotCoordinator));
    assert_eq!(rig.committed(committing), Some(0));
    assert_eq!(rig.offset_of("g"), Err(code(ErrorCode::NotCoordinator)));
    assert_eq!(rig.find("g"), 0, "it is made anew");
    assert_eq!(rig.offset_of("g"), Ok(-1));
}

#[test]
fn deleting_a_topic_takes_the_offsets_in_it() {
    let mut rig = Rig::with_groups(&[]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    rig.delete("t");
    rig.create("t", 1);
    rig.pass(10);
    assert_eq!(rig.offset_of("g"), Ok(-1));
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(-1));
}

#[test]
fn offsets_expire_when_nobody_uses_them() {
    let settings = &[("offsets.retention.minutes", "10"), ("offsets.retention.check.interval.ms", "60000")];
    let mut rig = Rig::with_groups(settings);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    rig.pass(9 * 60_000);
    assert_eq!(rig.offset_of("g"), Ok(5));
    rig.pass(3 * 60_000);
    assert_eq!(rig.offset_of("g"), Ok(-1));
    assert_eq!(rig.list_groups(), Ok(Vec::new()));
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(-1));
}

#[test]
fn groups_of_several_coordinators_are_deleted_by_one_request() {
    let mut rig = Rig::with_groups(&[]);
    let (one, other) = of_two_partitions(50);
    assert_eq!((rig.commit_offset(one, 0, 1), rig.commit_offset(other, 0, 2)), (0, 0));
    rig.hold = true;
    let request = DeleteGroupsRequest { groups_names: vec![one.into(), other.into(), "none".into()] };
    let deleting = rig.ask(2, Request::Other(request.into()));
    assert!(rig.reply(deleting).is_none());
    rig.release();
    let Some(Some(Response::DeleteGroups(response))) = rig.reply(deleting) else { panic!("no answer") };
    let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, 0, code(ErrorCode::GroupIdNotFound)]);
    let mut rig = rig.crash_and_load();
    assert_eq!(rig.list_groups(), Ok(Vec::new()));
}

#[test]
fn a_request_about_very_many_groups_takes_many_steps() {
    let mut rig = Rig::with_groups(&[]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    let groups = vec!["g"; 100];
    let sequence = rig.ask(FETCH_VERSION, Request::Other(Rig::fetch_offsets_request(&groups)));
    assert!(rig.fetched_offsets(sequence).is_none());
    rig.pass(1);
    let answered = rig.fetched_offsets(sequence).expect("an answer");
    assert_eq!(answered.len(), 100);
    assert!(answered.iter().all(|group| group.topics[0].partitions[0].committed_offset == 5));
}

#[test]
fn clients_cannot_write_to_the_topic_or_cut_it_or_let_it_grow_but_their_tools_may_write() {
    let mut rig = Rig::with_groups(&[]);
    let sequence = rig.send(OFFSETS, 0, -1, records(Timestamp(5), &["mine"]));
    let refused = rig.produced(sequence).expect("an answer");
    assert_eq!(refused.error_code, code(ErrorCode::InvalidTopicException));
    let partition = DeleteRecordsPartition { partition_index: 0, offset: 0 };
    let topic = DeleteRecordsTopic { name: OFFSETS.into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
    let Response::DeleteRecords(response) = rig.answer(2, request.into()) else { panic!("another answer") };
    assert_eq!(response.topics[0].partitions[0].error_code, code(ErrorCode::InvalidTopicException));
    let topic =
        crate::wire::create_partitions::CreatePartitionsTopic { name: OFFSETS.into(), count: 60, assignments: None };
    let request = crate::wire::create_partitions::CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    let Response::CreatePartitions(response) = rig.answer(3, request.into()) else { panic!("another answer") };
    assert_eq!(response.results[0].error_code, code(ErrorCode::InvalidPartitions));

    let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
    let index = partition_of("g", 50);
    let nonsense = BatchBuilder::new().record(Timestamp(5), Some(b"nonsense"), Some(b"of a tool"));
    let batch = verify(nonsense.build(), &limits);
    let partitions = [ProducePartition { index, batch: Ok(batch.expect("a sound batch")) }].into_iter().collect();
    let topic = ProduceTopic { name: OFFSETS.into(), id: TopicId::ZERO, partitions };
    let topics = [topic].into_iter().collect();
    let produce = Produce { acks: -1, timeout_ms: 1, transactional_id: None, may_write_internal: true, topics };
    let sequence = rig.ask(9, Request::Produce(produce.into()));
    assert_eq!(rig.produced(sequence).expect("an answer").error_code, 0);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(5), "what makes no sense is passed over");
}

#[test]
fn commits_wait_for_room_in_the_journal_and_none_is_lost() {
    let mut rig = Rig::with_groups(&[]);
    let mut asked = Vec::new();
    let offsets: Vec<(i32, i64)> = (0..60).map(|n| (n % 4, i64::from(n))).collect();
    // Far more than the journal holds, while the disk is slow.
    rig.hold = true;
    for _ in 0..400 {
        asked.push(rig.ask(8, Request::Other(Rig::commit_request("g", &offsets))));
    }
    assert!(rig.node.groups.has_waiting());
    rig.release();
    rig.pass(1000);
    for sequence in asked {
        assert_eq!(rig.committed(sequence), Some(0));
    }
    assert!(!rig.node.groups.has_waiting());
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(56));
}

#[test]
fn a_checkpoint_that_has_made_room_for_commits_refuses_no_appends() {
    let mut rig = Rig::with_groups(&[]);
    let offsets: Vec<(i32, i64)> = (0..60).map(|n| (n % 4, i64::from(n))).collect();
    // The journal is as large as it may be, and full of commits again and again.
    for round in 0..20 {
        rig.hold = true;
        for _ in 0..400 {
            rig.ask(8, Request::Other(Rig::commit_request("g", &offsets)));
        }
        assert!(rig.node.groups.has_waiting());
        rig.release();
        assert!(rig.node.no_space.is_none(), "round {round}");
        rig.pass(1000);
    }
}

#[test]
fn retention_leaves_what_groups_must_not_lose() {
    let mut rig = Rig::with_groups(&[("log.retention.ms", "1000"), ("log.retention.check.interval.ms", "1000")]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    rig.pass(60_000);
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(5));
}

#[test]
fn metrics_tell_of_groups_and_how_far_behind_they_are() {
    let mut rig = Rig::with_groups(&[]);
    rig.produce("t", &["a", "b", "c"]);
    rig.produce("t", &["d"]);
    assert_eq!(rig.commit_offset("g", 0, 1), 0);
    rig.stable("h");
    let text = rig.node.metrics();
    for line in [
        "chronik_groups{state=\"Empty\"} 1",
        "chronik_groups{state=\"Stable\"} 1",
        "chronik_group_members 1",
        "chronik_group_rebalances_total 1",
        "chronik_group_lag{group=\"g\",topic=\"t\",partition=\"0\"} 3",
        "chronik_group_lags_untold 0",
        "chronik_offsets_committed_total 1",
        "chronik_coordinators_loading 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is missing from\n{text}");
    }
}
