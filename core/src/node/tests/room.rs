//! Nothing is appended that the journal has no room for, whatever is asked: else no checkpoint could ever make some.
//! That it does not happen is checked after every step, by the node's invariants.

use super::*;

/// A node on a full disk whose journal can neither grow nor be used again, and of which only the reserve is left; and
/// the change of a setting that waits for room. Topic "t" has a segment for each record.
fn full() -> (Rig, u64) {
    full_with(&[("internal.segment.bytes", "3000")])
}

/// The same where topic "t" has these settings.
fn full_with(settings: &[(&'static str, &'static str)]) -> (Rig, u64) {
    let mut rig = Rig::new();
    rig.create_with("t", 1, settings);
    rig.files.set_full(true);
    let value = "v".repeat(3_000);
    while rig.node.no_space.is_none() {
        rig.send("t", 0, -1, records(Timestamp(5), &[&value]));
    }
    for round in 0..1_000 {
        let waiting = alter(&mut rig, 1_000_000_000 + round);
        if rig.reply(waiting).is_none() {
            return (rig, waiting);
        }
    }
    panic!("the journal ends somewhere");
}

fn alter(rig: &mut Rig, retention_ms: u64) -> u64 {
    let value = Some(retention_ms.to_string().into());
    let config = AlterableConfig { name: "retention.ms".into(), config_operation: 0, value };
    let resource = AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    rig.ask(1, Request::Other(request.into()))
}

/// Deletes the next record of topic "t". Returns the error code.
fn delete_one(rig: &mut Rig) -> i16 {
    let offset = rig.list_offset("t", -2).0 + 1;
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
    let Response::DeleteRecords(response) = rig.answer(2, request.into()) else { panic!("another answer") };
    response.topics[0].partitions[0].error_code
}

#[test]
fn what_adds_waits_where_only_the_reserve_is_left_and_what_deletes_goes_on() {
    let (mut rig, waiting) = full();
    assert_eq!(delete_one(&mut rig), 0, "the reserve is for this");
    assert!(rig.reply(waiting).is_none());
    rig.files.set_full(false);
    rig.pass(2_000);
    assert!(rig.reply(waiting).is_some(), "there is room again");
}

#[test]
fn what_deletes_records_and_no_segment_leaves_the_reserve_alone() {
    let (mut rig, _) = full_with(&[]);
    let refused = (0..1_000).map(|_| delete_one(&mut rig)).find(|&code| code != 0);
    assert_eq!(refused, Some(ErrorCode::KafkaStorageError.code()));
    assert!(rig.node.has_room_to_advance(), "retention finds what is kept for it");
    // What is deleted already needs no room.
    let (start, _) = rig.list_offset("t", -2);
    rig.delete_records("t", start);
    rig.files.set_full(false);
    rig.pass(2_000);
    assert_eq!(delete_one(&mut rig), 0);
}

#[test]
fn the_last_block_is_never_passed_and_all_goes_on_when_there_is_space() {
    let (mut rig, waiting) = full();
    let mut deleted = 0;
    let refused = loop {
        match delete_one(&mut rig) {
            0 => deleted += 1,
            code => break code,
        }
    };
    assert_eq!(refused, ErrorCode::KafkaStorageError.code());
    assert!(deleted > 0);
    let topic = DeleteTopicState { name: Some("t".into()), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
    let deleting = rig.ask(6, Request::Other(request.into()));
    assert!(rig.reply(deleting).is_none(), "not one block is left");
    // Whoever only asks is answered.
    assert_eq!(rig.list_offset("t", -2), (deleted, -1));
    let topic = MetadataRequestTopic { name: Some("auto".into()), ..MetadataRequestTopic::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..MetadataRequest::default() };
    let Response::Metadata(response) = rig.answer(9, request.into()) else { panic!("another answer") };
    assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    rig.files.set_full(false);
    rig.pass(2_000);
    assert!(rig.reply(waiting).is_some() && rig.reply(deleting).is_some());
    rig.create("u", 1);
    assert_eq!(rig.produce("u", &["a"]), 0);
    let mut rig = rig.crash();
    assert_eq!(rig.consume("u", 0), ["a"]);
}

#[test]
fn who_has_hung_up_is_not_waited_for() {
    let (mut rig, _) = full();
    assert_eq!(rig.node.delayed.len(), 1);
    rig.step(Input::Closed { conn: ConnId(1) });
    assert_eq!(rig.node.delayed.len(), 0);
}

#[test]
fn an_orderly_stop_answers_what_waited_for_room() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    // The last checkpoint begins, and makes room for what comes while it is written.
    rig.step(Input::Stop);
    let mut waiting = Vec::new();
    while rig.node.delayed.len() < 5 {
        let retention_ms = 1_000_000_000 + waiting.len() as u64;
        let value = Some(retention_ms.to_string().into());
        let config = AlterableConfig { name: "retention.ms".into(), config_operation: 0, value };
        let resource = AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let sequence = rig.asked;
        rig.asked += 1;
        let to = ReplyTo { conn: ConnId(1), sequence, version: 1, listener: ListenerId(0) };
        // Nothing is carried out meanwhile: the disk is slow.
        rig.step(Input::Request { to, request: Request::Other(request.into()) });
        waiting.push(sequence);
    }
    // As a driver does, which hears of nothing after the node has stopped.
    while !rig.stopped {
        rig.node.turn(rig.now, &mut rig.out);
        let effects = std::mem::take(&mut rig.out.0);
        if effects.is_empty() {
            rig.step(Input::Deadline);
        }
        for effect in effects {
            rig.carry_out(effect);
        }
    }
    let unanswered = waiting.iter().filter(|&&sequence| !rig.replies.contains_key(&sequence)).count();
    assert_eq!(unanswered, 0, "of {}", waiting.len());
}

#[test]
fn requests_that_waited_for_room_are_taken_up_a_few_at_a_time_in_their_order() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    (rig.hold, rig.hold_tasks) = (true, true);
    let value = "v".repeat(3_000);
    while rig.node.stalled.is_empty() {
        rig.send("t", 0, 1, records(Timestamp(5), &[&value]));
    }
    let waiting: Vec<u64> = (0..1_000).map(|_| rig.send("t", 0, 1, records(Timestamp(5), &["x"]))).collect();
    assert_eq!(rig.node.stalled.len(), 1_001);
    let mut most = 0;
    while !rig.replies.contains_key(&waiting[999]) {
        let before = rig.node.stalled.len();
        if let Some(commit) = rig.held.pop_front() {
            rig.commit(commit);
        } else if let Some(done) = rig.held_tasks.pop_front() {
            rig.step(Input::Disk(done));
        } else {
            let (at, _) = rig.node.deadline().expect("something is to come");
            rig.advance_to(at.max(rig.now.instant));
            rig.step(Input::Deadline);
        }
        most = most.max(before - rig.node.stalled.len());
        rig.node.turn(rig.now, &mut rig.out);
        for effect in std::mem::take(&mut rig.out.0) {
            rig.carry_out(effect);
        }
    }
    assert!((100..=250).contains(&most), "{most} in one step");
    let offsets = waiting.iter().map(|&sequence| rig.produced(sequence).expect("an answer").base_offset);
    assert!(offsets.collect::<Vec<_>>().is_sorted());
}

#[test]
fn a_node_that_stops_takes_up_all_requests_that_there_is_room_for() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.hold = true;
    let value = "v".repeat(3_000);
    while rig.node.stalled.is_empty() {
        rig.send("t", 0, 1, records(Timestamp(5), &[&value]));
    }
    let waiting: Vec<u64> = (0..1_000).map(|_| rig.send("t", 0, 1, records(Timestamp(5), &["x"]))).collect();
    rig.step(Input::Stop);
    rig.release();
    rig.pass(1);
    assert!(rig.stopped && waiting.iter().all(|&sequence| rig.replies.contains_key(&sequence)));
}
