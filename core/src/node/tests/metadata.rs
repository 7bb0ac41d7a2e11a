//! The metadata log with one voter: what is decided, committed, applied and answered, and in which order.

use super::*;
use crate::controller::records::{MetadataRecord, encode_entry};
use crate::ids::NodeId;
use crate::journal::RecordKind;
use crate::node::metadata::Recalled;
use crate::raft::{Member, Membership};
use crate::wire::create_topics::CreateTopicsResponse;

fn ask_to_create(rig: &mut Rig, name: &'static str) -> u64 {
    let topic =
        CreatableTopic { name: name.into(), num_partitions: 1, replication_factor: 1, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    rig.ask(7, Request::Other(Box::new(request.into())))
}

fn created(rig: &mut Rig, sequence: u64) -> Option<i16> {
    match rig.reply(sequence)? {
        Some(Response::CreateTopics(CreateTopicsResponse { topics, .. })) => Some(topics[0].error_code),
        other => panic!("another answer: {other:?}"),
    }
}

/// The names of the topics that there are.
fn topics(rig: &mut Rig) -> Vec<String> {
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let Response::Metadata(response) = rig.answer(12, request.into()) else { panic!("another answer") };
    response.topics.iter().map(|topic| topic.name.as_ref().expect("a name").to_string()).collect()
}

fn checkpoint(rig: &mut Rig) {
    let before = rig.node.counters().checkpoints;
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    rig.run();
    rig.pass(1);
    assert_eq!(rig.node.counters().checkpoints, before + 1);
}

#[test]
fn of_two_requests_for_one_name_the_second_is_refused_before_the_first_has_committed() {
    let mut rig = Rig::new();
    rig.hold = true;
    let first = ask_to_create(&mut rig, "t");
    let second = ask_to_create(&mut rig, "t");
    assert_eq!(created(&mut rig, first), None, "nobody is told before it has committed");
    assert_eq!(created(&mut rig, second), None, "nor that another was faster: a crash would make that untrue");
    rig.release();
    assert_eq!(created(&mut rig, first), Some(0));
    assert_eq!(created(&mut rig, second), Some(ErrorCode::TopicAlreadyExists.code()));
}

#[test]
fn nobody_sees_or_uses_what_has_not_committed() {
    let mut rig = Rig::new();
    rig.hold = true;
    ask_to_create(&mut rig, "t");
    assert_eq!(topics(&mut rig), Vec::<String>::new());
    let sequence = rig.send("t", 0, -1, records(Timestamp(5), &["early"]));
    let refused = rig.produced(sequence).expect("an answer");
    assert_eq!(refused.error_code, ErrorCode::UnknownTopicOrPartition.code());
    rig.release();
    assert_eq!(topics(&mut rig), ["t"]);
    assert_eq!(rig.produce("t", &["a"]), 0);
}

#[test]
fn a_crash_before_the_commit_undoes_what_was_decided() {
    let mut rig = Rig::new();
    rig.hold = true;
    ask_to_create(&mut rig, "t");
    let mut rig = rig.crash();
    assert_eq!(topics(&mut rig), Vec::<String>::new());
    rig.create("t", 1);
    assert_eq!(rig.crash().produce("t", &["a"]), 0);
}

#[test]
fn what_the_journal_has_is_committed_though_nobody_was_told() {
    let mut rig = Rig::new();
    rig.hold = true;
    ask_to_create(&mut rig, "t");
    let commit = rig.held.pop_front().expect("it is on its way");
    let data = std::slice::from_ref(&commit.data);
    rig.files.write_at(FileName::Journal(commit.slot), commit.position, data).expect("memory has room");
    let mut rig = rig.crash();
    assert_eq!(topics(&mut rig), ["t"]);
    assert_eq!(rig.produce("t", &["a"]), 0);
}

#[test]
fn a_start_leads_under_a_new_term_and_a_new_broker_epoch() {
    let mut rig = Rig::new();
    for epoch in 1..4 {
        let broker = rig.node.controller.image().broker(NodeId(1)).expect("it has registered");
        assert_eq!(broker.broker_epoch, epoch);
        assert!(rig.node.leading().is_some(), "it serves when it leads");
        assert!(rig.node.deadline().is_none_or(|(_, reason)| reason != Reason::Metadata), "alone nothing ticks");
        rig = rig.crash();
    }
}

#[test]
fn the_log_is_forgotten_behind_a_checkpoint_and_nothing_with_it() {
    let mut rig = Rig::new();
    rig.create("before", 2);
    rig.delete("before");
    rig.create("kept", 2);
    checkpoint(&mut rig);
    let index = rig.node.controller.image().index();
    assert_eq!(rig.node.snapshot_head().last.index, index);
    assert_eq!(rig.node.metadata_log_bytes(), 0, "the checkpoint stands for it");
    rig.create("after", 1);
    rig.produce("after", &["a"]);
    let mut rig = rig.crash();
    assert_eq!(topics(&mut rig), ["after", "kept"]);
    assert_eq!(rig.consume("after", 0), ["a"]);
    assert!(rig.node.controller.image().index() > index, "positions go on where they were");
}

#[test]
fn the_older_checkpoint_and_the_journal_know_what_the_newer_one_did() {
    let mut rig = Rig::new();
    rig.create("first", 1);
    checkpoint(&mut rig);
    rig.create("second", 1);
    rig.produce("second", &["a"]);
    checkpoint(&mut rig);
    rig.create("third", 1);
    rig.delete("first");
    // The newest checkpoint, number 2, is in slot 0. Its log was forgotten in its favour.
    rig.files.write_at(FileName::Checkpoint(0), 100, &[Bytes::from_static(&[0xff; 64])]).expect("memory has room");
    let mut rig = rig.crash();
    assert_eq!(topics(&mut rig), ["second", "third"]);
    assert_eq!(rig.consume("second", 0), ["a"]);
}

#[test]
fn a_long_log_is_taken_over_by_a_checkpoint_before_it_fills_memory() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let long: &'static str = Box::leak("1:1,".repeat(7_500).trim_end_matches(',').to_owned().into_boxed_str());
    for _ in 0..400 {
        let throttled = "follower.replication.throttled.replicas";
        assert_eq!(rig.alter((2, "t"), throttled, long), 0);
        assert!(rig.node.metadata_log_bytes() < 6 << 20, "{} bytes", rig.node.metadata_log_bytes());
    }
}

/// What a journal says from before the log was replicated is the snapshot that the log of a quorum of one begins after.
#[test]
fn a_journal_from_before_is_where_the_log_begins() {
    let me = Member { node: NodeId(1), directory: Uuid([3; 16]) };
    let mut recalled = Recalled::new(me);
    for index in 1..=3u8 {
        let topic = MetadataRecord::Topic { id: Uuid([index; 16]), name: format!("t{index}").into() };
        let mut payload = u64::from(index).to_le_bytes().to_vec();
        payload.extend(0u64.to_le_bytes());
        payload.extend(encode_entry([topic]));
        assert_eq!(recalled.record(RecordKind::Metadata, Lsn(u64::from(index) * 100), &payload), Ok(vec![]));
    }
    let founding = recalled.found(Membership::of([me]).expect("one voter"));
    assert_eq!(founding.len(), 2, "the journal is told where the log begins, and under which term");
    assert_eq!(recalled.image.topic_count(), 3);
    assert_eq!((recalled.image.index(), recalled.quorum.last().index), (3, 3));
    assert_eq!(recalled.found(Membership::of([me]).expect("one voter")), [], "it begins once");
}
