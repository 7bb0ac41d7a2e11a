//! Damage in an index: what it costs those who read, and what becomes of it.

use super::*;
use crate::boundary::SegmentName;

/// A broker with segments of 60 kB that no memory holds.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("internal.segment.bytes", "60000")]);
    for number in 0..200 {
        rig.produce("t", &[format!("{number}{}", "v".repeat(3_000)).as_str()]);
    }
    rig.stop();
    rig.crash()
}

fn indexes(rig: &Rig) -> Vec<SegmentName> {
    let index = |name| if let FileName::Index(segment) = name { Some(segment) } else { None };
    rig.files.names().into_iter().filter_map(index).collect()
}

fn error_at(rig: &mut Rig, offset: i64) -> i16 {
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request("t", offset, 0, 0).into()));
    rig.fetched(sequence).expect("an answer").responses[0].partitions[0].error_code
}

/// The error of asking for the largest timestamp.
fn error_of_search(rig: &mut Rig) -> i16 {
    let partition = ListOffsetsPartition { timestamp: -3, current_leader_epoch: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
    let Response::ListOffsets(response) = rig.answer(8, request.into()) else { panic!("another answer") };
    response.topics[0].partitions[0].error_code
}

fn lines_with(rig: &Rig, text: &str) -> usize {
    rig.lines.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_damaged_index_is_made_again_and_its_partition_serves() {
    let mut rig = rig();
    let segment = indexes(&rig)[0];
    rig.files.flip(FileName::Index(segment), 3);
    assert_eq!(error_at(&mut rig, 0), ErrorCode::KafkaStorageError.code(), "clients ask again after this");
    assert_eq!(error_at(&mut rig, 0), 0);
    assert_eq!(rig.consume("t", 0).len(), 200);
    let counters = rig.node.counters();
    assert_eq!((counters.indexes_mended, counters.index_entries_mended, counters.read_errors), (1, 1, 1));
    assert!(rig.node.metrics().contains("chronik_partitions_damaged 0\n"));
    let told = format!("t-0: {} is damaged at byte 0", FileName::Index(segment));
    assert_eq!(lines_with(&rig, &told), 1);
    assert_eq!(lines_with(&rig, "is whole again"), 1);
}

#[test]
fn indexes_that_are_gone_come_back_one_after_another() {
    let mut rig = rig();
    let before = indexes(&rig);
    assert!(before.len() > 5);
    for &segment in &before {
        rig.files.remove(FileName::Index(segment)).expect("it is there");
    }
    rig = rig.crash();
    // Several are met before the first is whole.
    for offset in (0..200).step_by(30) {
        rig.asked += 1;
        let to = ReplyTo { conn: ConnId(7), sequence: rig.asked - 1, version: 12, listener: ListenerId(0) };
        let request = Request::Other(Rig::fetch_request("t", offset, 0, 0).into());
        rig.step(Input::Request { to, request });
    }
    rig.run();
    let mut offset = 0;
    while offset < 200 {
        match error_at(&mut rig, offset) {
            0 => offset += 1,
            error => assert_eq!(error, ErrorCode::KafkaStorageError.code()),
        }
    }
    assert_eq!(rig.consume("t", 0).len(), 200);
    let mended = usize::try_from(rig.node.counters().indexes_mended).expect("few");
    assert_eq!(mended, before.len(), "each of them once");
    assert_eq!(lines_with(&rig, "made again"), mended, "each is told of once");
}

#[test]
fn a_search_by_time_finds_the_same_after_an_index_was_made_again() {
    let mut rig = rig();
    let expected = rig.list_offset("t", -3);
    for segment in indexes(&rig) {
        rig.files.flip(FileName::Index(segment), 11);
    }
    // Each attempt meets another one.
    let failed = (0..100).take_while(|_| error_of_search(&mut rig) != 0).count();
    assert!((1..100).contains(&failed));
    assert_eq!(rig.list_offset("t", -3), expected);
}

#[test]
fn damage_of_the_segment_under_a_damaged_index_stops_the_partition() {
    let mut rig = rig();
    let segment = indexes(&rig)[0];
    rig.files.flip(FileName::Index(segment), 3);
    rig.files.flip(FileName::Segment(segment), 5_000);
    assert_eq!(error_at(&mut rig, 0), ErrorCode::KafkaStorageError.code());
    assert_eq!(error_at(&mut rig, 100), ErrorCode::KafkaStorageError.code());
    assert!(rig.node.metrics().contains("chronik_partitions_damaged 1\n"));
    assert_eq!(rig.node.counters().indexes_mended, 0);
    assert_eq!(lines_with(&rig, "cannot be read"), 1);
}

#[test]
fn an_index_whose_topic_is_deleted_meanwhile_is_not_made_anew() {
    let mut rig = rig();
    let segment = indexes(&rig)[0];
    rig.files.remove(FileName::Index(segment)).expect("it is there");
    // The step that looks is with the disk, and is not done before the topic is gone.
    let to = ReplyTo { conn: ConnId(7), sequence: 1_000, version: 12, listener: ListenerId(0) };
    rig.step(Input::Request { to, request: Request::Other(Rig::fetch_request("t", 0, 0, 0).into()) });
    let mut held = Vec::new();
    while let Some(effect) = (!rig.out.0.is_empty()).then(|| rig.out.0.remove(0)) {
        let looks = |plan: &crate::log::ReadPlan| matches!(plan.sought, crate::log::Sought::Index(_));
        match effect {
            Effect::Disk(DiskOp::Read(id, plan)) if looks(&plan) => held.push((id, plan)),
            other => rig.carry_out(other),
        }
    }
    let (id, plan) = held.pop().expect("the index is looked at");
    let result = plan.run(&rig.files);
    rig.delete("t");
    rig.step(Input::Disk(Done::Read(id, result)));
    rig.run();
    assert!(!rig.files.names().contains(&FileName::Index(segment)));
    assert_eq!((rig.node.counters().indexes_mended, rig.fatal.as_deref()), (0, None));
}

#[test]
fn an_index_that_the_disk_cannot_read_is_written_anew() {
    let mut rig = rig();
    let segment = indexes(&rig)[0];
    rig.files.make_unreadable(FileName::Index(segment), true);
    assert_eq!(error_at(&mut rig, 0), ErrorCode::KafkaStorageError.code(), "clients ask again after this");
    assert_eq!(rig.consume("t", 0).len(), 200);
    assert_eq!(rig.node.counters().indexes_mended, 1);
    assert!(rig.node.metrics().contains("chronik_partitions_damaged 0\n"));
}

#[test]
fn an_index_that_stays_unreadable_is_given_up_after_a_few_tries() {
    let mut rig = rig();
    let segment = indexes(&rig)[0];
    rig.files.make_unreadable(FileName::Index(segment), false);
    for _ in 0..20 {
        assert_eq!(error_at(&mut rig, 0), ErrorCode::KafkaStorageError.code());
    }
    assert_eq!(lines_with(&rig, "the index is made again"), 3);
    assert_eq!((lines_with(&rig, "cannot be made again"), rig.fatal.as_deref()), (3, None));
    assert!(rig.node.metrics().contains("chronik_partitions_damaged 0\n"), "the records are there");
    assert_eq!(rig.consume("t", 100).len(), 100);
}

#[test]
fn no_space_for_a_segment_that_is_synced_is_the_end_whoever_syncs_it() {
    let of = |file: fn(SegmentName) -> FileName| {
        let mut rig = Rig::new();
        rig.create("t", 1);
        let id = *rig.node.by_id.keys().next().expect("a partition");
        let segment = SegmentName::appended(id, crate::ids::Offset(0));
        let task = Task::Sync { segments: vec![segment], ahead: Vec::new() };
        let job = rig.node.storage.push(crate::node::storage::Job::Mend, task, &mut rig.out);
        rig.out.0.clear();
        rig.step(Input::Disk(Done::Task(job, Err(DiskError::NoSpace(file(segment))))));
        rig.run();
        rig.fatal
    };
    assert!(of(FileName::Segment).is_some_and(|why| why.contains("no space")), "pages may be lost by now");
    assert_eq!(of(FileName::Index), None, "the segment has all that it says");
}
