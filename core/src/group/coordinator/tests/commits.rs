//! OffsetCommit, OffsetFetch and OffsetDelete: who may, and what is answered.

use std::time::Duration;

use super::bench::{Bench, NOBODY, Seat, beat, code, commit, fetch};
use crate::group::coordinator::upkeep::OFFSETS_PER_CALL;
use crate::group::record::{Key, Record, Value};
use crate::group::testing::topic_id;
use crate::ids::{TopicId, Uuid};
use crate::wire::offset_fetch::OffsetFetchRequestTopics;
use crate::wire::{ErrorCode, Str};

const NONE: ErrorCode = ErrorCode::None;

#[test]
fn what_was_committed_last_is_what_is_fetched() {
    let mut bench = Bench::new();
    assert_eq!(bench.fetch("readers", ("orders", 0)), -1);
    for offset in [5, 9, 7] {
        assert_eq!(bench.commit("readers", &NOBODY, ("orders", 0), offset), NONE);
        assert_eq!(bench.fetch("readers", ("orders", 0)), offset);
    }
    assert_eq!(bench.fetch("readers", ("orders", 1)), -1);
    assert_eq!(bench.fetch("others", ("orders", 0)), -1);
}

#[test]
fn a_fetch_of_everything_tells_every_offset_by_topic_and_partition() {
    let mut bench = Bench::new();
    for (topic, partition) in [("orders", 3), ("bills", 1), ("orders", 0)] {
        bench.commit("readers", &NOBODY, (topic, partition), i64::from(partition));
    }
    let all = [("bills", 1, 1), ("orders", 0, 0), ("orders", 3, 3)];
    assert_eq!(bench.all_offsets("readers"), all.map(|(topic, at, offset)| (topic.to_owned(), at, offset)));
    assert_eq!(bench.all_offsets("others"), []);
}

#[test]
fn leader_epoch_and_metadata_are_kept_with_the_offset_and_null_metadata_is_none() {
    let mut bench = Bench::new();
    let mut request = commit("readers", &NOBODY, ("orders", 0), 5);
    request.topics[0].partitions[0].committed_leader_epoch = 3;
    request.topics[0].partitions[0].committed_metadata = Some(Str::from("so far"));
    assert_eq!(bench.commit_in(9, request), NONE);
    bench.commit("readers", &NOBODY, ("orders", 1), 6);
    let partitions = bench.fetch_in(9, fetch("readers", None)).topics.remove(0).partitions;
    let kept = partitions.iter().map(|at| (at.committed_leader_epoch, at.metadata.as_deref()));
    assert_eq!(kept.collect::<Vec<_>>(), [(3, Some("so far")), (-1, Some(""))]);
}

#[test]
fn the_record_says_what_was_committed_and_when_and_the_topics_id() {
    let mut bench = Bench::new();
    let request = commit("readers", &NOBODY, ("orders", 2), 5);
    let to = bench.rig.ask(9);
    bench.coordinator.commit(&mut bench.rig.surroundings(), to, &request);
    let [Record { key, value: Some(Value::OffsetCommit(value)) }] = &bench.rig.records()[..] else {
        panic!("one offset, one record");
    };
    let [group, topic] = ["readers", "orders"].map(Str::from);
    assert_eq!(*key, Key::OffsetCommit { group, topic, partition: 2 });
    assert_eq!((value.offset, value.leader_epoch, &*value.metadata), (5, -1, ""));
    assert_eq!((value.commit_timestamp, value.expire_timestamp), (bench.rig.now.wall.0, -1));
    assert_eq!(value.topic_id, topic_id("orders"));
}

#[test]
fn partitions_that_do_not_exist_are_refused_one_by_one() {
    let mut bench = Bench::new();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    for at in [("nothing", 0), ("orders", 4), ("orders", -1)] {
        assert_eq!(bench.commit("readers", &NOBODY, at, 5), unknown, "{at:?}");
    }
    // Nobody asks the group about them, as in Kafka: a generation that is not there is no matter.
    let seat = Seat { member: Str::from("m"), generation: 7 };
    assert_eq!(bench.commit("readers", &seat, ("orders", 4), 5), unknown);
    assert_eq!(bench.groups(), [""; 0]);
    assert!(bench.log.is_empty());
}

#[test]
fn from_version_10_topics_go_by_their_ids() {
    let mut bench = Bench::new();
    let mut request = commit("readers", &NOBODY, ("", 0), 5);
    request.topics[0].topic_id = topic_id("orders");
    assert_eq!(bench.commit_in(10, request.clone()), NONE);
    request.topics[0].topic_id = topic_id("nothing");
    assert_eq!(bench.commit_in(10, request), ErrorCode::UnknownTopicId);
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);

    let asked = ["orders", "nothing"].map(|name| OffsetFetchRequestTopics {
        topic_id: topic_id(name),
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    });
    let topics = bench.fetch_in(10, fetch("readers", Some(asked.to_vec()))).topics;
    let told = topics.iter().map(|topic| {
        let partition = &topic.partitions[0];
        (topic.topic_id, partition.committed_offset, code(partition.error_code))
    });
    let expected = [(topic_id("orders"), 5, NONE), (topic_id("nothing"), -1, ErrorCode::UnknownTopicId)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    // Of everything, what is of a topic that is no more has no id to be told by.
    assert_eq!(bench.fetch_in(10, fetch("readers", None)).topics[0].topic_id, topic_id("orders"));
    bench.rig.topics.remove("orders");
    assert_eq!(bench.fetch_in(10, fetch("readers", None)).topics, []);
    assert_eq!(bench.all_offsets("readers").len(), 1);
}

#[test]
fn an_offset_in_a_topic_that_is_no_more_is_none_in_another_of_its_name() {
    let mut bench = Bench::new();
    bench.commit("readers", &NOBODY, ("orders", 0), 5);
    bench.rig.topics.set("orders", Uuid([7; 16]), 4);
    assert_eq!(bench.fetch("readers", ("orders", 0)), -1);
    assert_eq!(bench.all_offsets("readers"), []);
    bench.commit("readers", &NOBODY, ("orders", 0), 1);
    assert_eq!(bench.fetch("readers", ("orders", 0)), 1);
}

#[test]
fn a_group_that_is_not_there_takes_offsets_from_nobody_but_not_from_a_member() {
    let mut bench = Bench::new();
    let seat = Seat { member: Str::from("m"), generation: 0 };
    for (version, expect) in [(2, ErrorCode::IllegalGeneration), (8, ErrorCode::IllegalGeneration)] {
        assert_eq!(bench.commit_in(version, commit("readers", &seat, ("orders", 0), 5)), expect);
    }
    assert_eq!(bench.commit_in(9, commit("readers", &seat, ("orders", 0), 5)), ErrorCode::GroupIdNotFound);
    assert_eq!(bench.groups(), [""; 0]);
    assert_eq!(bench.commit_in(9, commit("readers", &NOBODY, ("orders", 0), 5)), NONE);
    assert_eq!(bench.groups(), ["readers Empty classic"]);
    // A group without a name is one, for tools and for those who only keep offsets.
    assert_eq!(bench.commit("", &NOBODY, ("orders", 0), 5), NONE);
}

#[test]
fn metadata_beyond_the_limit_is_refused_by_its_utf16_length_and_for_its_partition_alone() {
    let mut bench = Bench::new();
    bench.rig.settings.offset_metadata_max_bytes = 4;
    for (metadata, expect) in
        [("four", NONE), ("fives", ErrorCode::OffsetMetadataTooLarge), ("äöüß", NONE), ("😀😀", NONE)]
    {
        let mut request = commit("readers", &NOBODY, ("orders", 0), 5);
        request.topics[0].partitions[0].committed_metadata = Some(Str::from(metadata));
        assert_eq!(bench.commit_in(9, request), expect, "{metadata:?}");
    }
    let mut request = commit("readers", &NOBODY, ("orders", 0), 5);
    let mut other = request.topics[0].partitions[0].clone();
    other.partition_index = 1;
    request.topics[0].partitions[0].committed_metadata = Some(Str::from("fives"));
    request.topics[0].partitions.push(other);
    assert_eq!(bench.commit_in(9, request), ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(bench.fetch("readers", ("orders", 1)), 5);
}

#[test]
fn an_offset_whose_record_would_be_too_large_is_refused() {
    let mut bench = Bench::new();
    let group = "g".repeat(1_000);
    let mut request = commit(&group, &NOBODY, ("orders", 0), 5);
    request.topics[0].partitions[0].committed_metadata = Some(Str::from("m".repeat(4_000)));
    bench.rig.settings.record_bytes_max = 5_000;
    assert_eq!(bench.commit_in(9, request.clone()), ErrorCode::InvalidCommitOffsetSize);
    assert_eq!(bench.groups(), [""; 0]);
    bench.rig.settings.record_bytes_max = 5_060;
    assert_eq!(bench.commit_in(9, request), NONE);
    let (key, value, _) = &bench.log[0];
    let bytes = key.len() + value.as_ref().map_or(0, |value| value.len());
    assert!(bytes <= 5_060, "a record of {bytes} bytes was written where 5,060 are allowed");
}

#[test]
fn what_is_committed_keeps_no_request_alive() {
    let mut bench = Bench::new();
    let frame = bytes::Bytes::from(b"readersorderskept".to_vec());
    let text = |from, to| Str::from_utf8(frame.slice(from..to)).expect("ASCII");
    let mut request = commit("", &NOBODY, ("", 0), 5);
    request.group_id = text(0, 7);
    request.topics[0].name = text(7, 13);
    request.topics[0].partitions[0].committed_metadata = Some(text(13, 17));
    assert_eq!(bench.commit_in(9, request), NONE);
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
    assert!(frame.is_unique(), "something still holds a slice of the request");
}

#[test]
fn a_group_of_consumers_takes_commits_of_its_members_in_their_generation() {
    let mut bench = Bench::new();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    assert_eq!(bench.commit("readers", &seat, ("orders", 0), 5), NONE);
    let stranger = Seat { member: Str::from("x"), ..seat.clone() };
    assert_eq!(bench.commit("readers", &stranger, ("orders", 0), 6), ErrorCode::UnknownMemberId);
    let latecomer = Seat { generation: seat.generation - 1, ..seat.clone() };
    assert_eq!(bench.commit("readers", &latecomer, ("orders", 0), 6), ErrorCode::IllegalGeneration);
    assert_eq!(bench.commit("readers", &NOBODY, ("orders", 0), 6), ErrorCode::UnknownMemberId);
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
    // Once nobody is left, anybody may.
    bench.stand_up("readers", &seat);
    assert_eq!(bench.commit("readers", &NOBODY, ("orders", 0), 7), NONE);
    assert_eq!(bench.commit("readers", &seat, ("orders", 0), 8), ErrorCode::UnknownMemberId);
    assert_eq!(bench.fetch("readers", ("orders", 0)), 7);
}

#[test]
fn an_offset_is_deleted_unless_members_read_its_topic() {
    let mut bench = Bench::new();
    assert_eq!(bench.delete_offset("readers", ("orders", 0)).0, ErrorCode::GroupIdNotFound);
    assert_eq!(bench.delete_offset("", ("orders", 0)).0, ErrorCode::InvalidGroupId);
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 0), 5);
    bench.commit("readers", &seat, ("bills", 0), 5);
    assert_eq!(bench.delete_offset("readers", ("orders", 0)), (NONE, ErrorCode::GroupSubscribedToTopic));
    assert_eq!(bench.delete_offset("readers", ("orders", 9)), (NONE, ErrorCode::UnknownTopicOrPartition));
    assert_eq!(bench.delete_offset("readers", ("bills", 0)), (NONE, NONE));
    assert_eq!(bench.delete_offset("readers", ("bills", 1)), (NONE, NONE));
    assert_eq!(bench.all_offsets("readers"), [("orders".to_owned(), 0, 5)]);
    bench.stand_up("readers", &seat);
    assert_eq!(bench.delete_offset("readers", ("orders", 0)), (NONE, NONE));
    assert_eq!(bench.all_offsets("readers"), []);
}

#[test]
fn nobody_deletes_offsets_of_members_that_are_no_consumers() {
    let mut bench = Bench::new();
    let seat = bench.sit_down("workers", "connect", &[]);
    assert_eq!(bench.delete_offset("workers", ("orders", 0)).0, ErrorCode::NonEmptyGroup);
    bench.stand_up("workers", &seat);
    assert_eq!(bench.delete_offset("workers", ("orders", 0)), (NONE, NONE));
}

#[test]
fn a_deleted_topics_offsets_go_and_those_of_its_successor_stay() {
    let mut bench = Bench::new();
    for group in 0..200 {
        let group = format!("group-{group}");
        bench.commit(&group, &NOBODY, ("orders", 0), 5);
        bench.commit(&group, &NOBODY, ("orders", 1), 6);
        if group.ends_with('7') {
            bench.commit(&group, &NOBODY, ("bills", 0), 7);
        }
    }
    let gone = topic_id("orders");
    bench.rig.topics.set("orders", Uuid([7; 16]), 4);
    bench.commit("group-1", &NOBODY, ("orders", 1), 1);
    // The walk comes after the successor's first commit.
    let mut calls = 0;
    let mut after = None;
    loop {
        after = bench.call(|coordinator, with| coordinator.forget_topic(with, &Str::from("orders"), gone, after));
        calls += 1;
        if after.is_none() {
            break;
        }
    }
    assert!(calls >= 200 / 64, "{calls} calls looked at 200 groups");
    assert_eq!(bench.all_offsets("group-1"), [("orders".to_owned(), 1, 1)]);
    assert_eq!(bench.all_offsets("group-7"), [("bills".to_owned(), 0, 7)]);
    // Groups that had nothing else are no more.
    assert_eq!(bench.groups().len(), 21);
}

#[test]
fn a_group_with_many_offsets_in_a_deleted_topic_is_looked_at_again_until_none_is_left() {
    let mut bench = Bench::new();
    let id = bench.rig.topic("wide", 1_000);
    for partition in 0..1_000 {
        bench.commit("readers", &NOBODY, ("wide", partition), 5);
    }
    bench.commit("writers", &NOBODY, ("wide", 0), 5);
    let before = bench.log.len();
    let first = bench.call(|coordinator, with| coordinator.forget_topic(with, &Str::from("wide"), id, None));
    assert_eq!(first.as_deref(), Some("readers"));
    assert_eq!(bench.log.len() - before, OFFSETS_PER_CALL);
    bench.delete_topic("wide", id);
    assert_eq!(bench.groups(), [""; 0]);
    assert_eq!(bench.log.len() - before, 1_001);
}

#[test]
fn a_commit_by_an_old_client_ends_when_it_asked_for() {
    let mut bench = Bench::new();
    let mut request = commit("readers", &NOBODY, ("orders", 0), 5);
    request.retention_time_ms = 60_000;
    assert_eq!(bench.commit_in(4, request), NONE);
    bench.commit("readers", &NOBODY, ("orders", 1), 6);
    bench.pass(Duration::from_millis(59_999));
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
    bench.pass(Duration::from_millis(1));
    bench.expire();
    assert_eq!(bench.all_offsets("readers"), [("orders".to_owned(), 1, 6)]);
}

#[test]
fn a_time_of_its_own_that_overflows_never_comes() {
    let mut bench = Bench::new();
    for (retention, expires) in [(i64::MAX, i64::MAX), (i64::MIN, 0)] {
        let mut request = commit("readers", &NOBODY, ("orders", 0), 5);
        request.retention_time_ms = retention;
        let to = bench.rig.ask(2);
        bench.coordinator.commit(&mut bench.rig.surroundings(), to, &request);
        let [Record { value: Some(Value::OffsetCommit(value)), .. }] = &bench.rig.records()[..] else {
            panic!("one offset, one record");
        };
        assert_eq!((value.expire_timestamp, value.topic_id), (expires, TopicId::ZERO));
    }
}

#[test]
fn a_commit_of_an_earlier_epoch_is_taken_for_what_the_member_has_had_since_then() {
    let mut bench = Bench::new();
    let joined = bench.beat(beat("tailers", 0));
    let seat = Seat { member: Str::from("m"), generation: joined.member_epoch };
    let mut wider = beat("tailers", joined.member_epoch);
    wider.subscribed_topic_names = Some(vec![Str::from("orders"), Str::from("bills")]);
    let epoch = bench.beat(wider).member_epoch;
    assert!(epoch > joined.member_epoch);
    assert_eq!(bench.commit("tailers", &seat, ("orders", 0), 5), NONE);
    assert_eq!(bench.commit("tailers", &seat, ("bills", 0), 6), ErrorCode::StaleMemberEpoch);
    // As in Kafka, one partition that may not be committed spoils the whole request.
    let mut both = commit("tailers", &seat, ("orders", 0), 7);
    both.topics.extend(commit("tailers", &seat, ("bills", 0), 7).topics);
    assert_eq!(bench.commit_in(9, both), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.all_offsets("tailers"), [("orders".to_owned(), 0, 5)]);
}
