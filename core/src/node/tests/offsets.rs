//! ListOffsets, and the log start that others tell too: where records are deleted and others not durable yet.

use super::*;

/// The timestamp that asks for the record with the largest one (KIP-734).
const LARGEST: i64 = -3;

/// The timestamp that asks for the log start.
const EARLIEST: i64 = -2;

/// A topic with batches whose records have these timestamps.
fn rig(batches: &[&[i64]]) -> Rig {
    let mut rig = Rig::new();
    rig.create("t", 1);
    for times in batches {
        let sequence = send(&mut rig, times);
        assert_eq!(rig.produced(sequence).expect("an acknowledgement").error_code, 0);
    }
    rig
}

fn send(rig: &mut Rig, times: &[i64]) -> u64 {
    let batch = times.iter().fold(BatchBuilder::new(), |batch, &time| batch.record(Timestamp(time), None, Some(b"v")));
    rig.send("t", 0, -1, batch)
}

#[test]
fn nobody_is_told_of_a_log_start_before_the_disk_has_it() {
    let mut rig = rig(&[&[1, 2], &[3]]);
    rig.hold = true;
    let partition = DeleteRecordsPartition { partition_index: 0, offset: 2 };
    let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
    let deleting = rig.ask(2, Request::Other(request.clone().into()));
    let fetched = |rig: &mut Rig, offset: i64| {
        let sequence = rig.ask(12, Request::Other(Rig::fetch_request("t", offset, 0, 0).into()));
        let response = rig.fetched(sequence).expect("an answer");
        let data = &response.responses[0].partitions[0];
        (data.error_code, data.log_start_offset)
    };
    assert_eq!(rig.list_offset("t", EARLIEST), (0, -1));
    assert_eq!(fetched(&mut rig, 2), (0, 0));
    assert_eq!(fetched(&mut rig, 0), (0, 0), "what may come back after a crash is served until then");
    assert_eq!(rig.list_offset("t", LARGEST), (2, 3));
    // Deleting less is answered with what is deleted already, once it is.
    let mut less = request;
    less.topics[0].partitions[0].offset = 1;
    let deleting_less = rig.ask(2, Request::Other(less.into()));
    assert!(rig.reply(deleting).is_none() && rig.reply(deleting_less).is_none());
    rig.release();
    for sequence in [deleting, deleting_less] {
        let Some(Some(Response::DeleteRecords(response))) = rig.reply(sequence) else { panic!("another answer") };
        assert_eq!(response.topics[0].partitions[0].low_watermark, 2);
    }
    assert_eq!(rig.list_offset("t", EARLIEST), (2, -1));
    assert_eq!(fetched(&mut rig, 0), (ErrorCode::OffsetOutOfRange.code(), 2));
}

#[test]
fn nothing_is_deleted_where_a_request_names_too_many_partitions() {
    let mut rig = rig(&[&[1, 2], &[3]]);
    let partition = |offset| DeleteRecordsPartition { partition_index: 0, offset };
    let named = |name: &str, partitions| DeleteRecordsTopic { name: name.into(), partitions };
    let (empty, many) = (vec![named("t", Vec::new()); 5_000], vec![partition(1); 5_000]);
    let topics = [empty, vec![named("t", many), named("t", vec![partition(2)])]].concat();
    let request = DeleteRecordsRequest { topics, timeout_ms: 1000 };
    let Response::DeleteRecords(response) = rig.answer(2, request.into()) else { panic!("another answer") };
    let told = |topic: usize, partition: usize| {
        let answer = &response.topics[topic].partitions[partition];
        (answer.error_code, answer.low_watermark)
    };
    assert_eq!((told(5_000, 0), told(5_000, 4_999)), ((0, 1), (0, 1)));
    assert_eq!(told(5_001, 0), (ErrorCode::PolicyViolation.code(), -1));
    assert_eq!(rig.list_offset("t", EARLIEST), (1, -1));
}

#[test]
fn a_log_start_that_was_told_never_goes_back() {
    for is_retention in [false, true] {
        let settings = [("log.retention.ms", "60000"), ("log.retention.check.interval.ms", "1000")];
        let mut rig = Rig::with(if is_retention { &settings } else { &[] });
        rig.create("t", 1);
        rig.produce("t", &["a", "b"]);
        rig.hold = true;
        if is_retention {
            rig.pass(61_001);
        } else {
            let partition = DeleteRecordsPartition { partition_index: 0, offset: 2 };
            let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
            rig.ask(2, Request::Other(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 }.into()));
        }
        let told = rig.list_offset("t", EARLIEST);
        // The power fails before the commit is on disk.
        let mut rig = rig.crash();
        assert_eq!(rig.list_offset("t", EARLIEST), told);
        assert_eq!(rig.consume("t", told.0), ["a", "b"]);
    }
}

#[test]
fn the_largest_timestamp_is_sought_among_what_is_durable() {
    let mut rig = rig(&[&[10, 30, 20], &[30, 5]]);
    rig.hold = true;
    send(&mut rig, &[99]);
    assert_eq!(rig.list_offset("t", LARGEST), (1, 30));
    assert_eq!(rig.list_offset("t", 31), (-1, -1));
    rig.release();
    assert_eq!(rig.list_offset("t", LARGEST), (5, 99));
}

#[test]
fn the_largest_timestamp_is_sought_among_what_is_not_deleted() {
    let mut rig = rig(&[&[99], &[98, 10, 30], &[30, 20]]);
    assert_eq!(rig.list_offset("t", LARGEST), (0, 99));
    rig.delete_records("t", 1);
    assert_eq!(rig.list_offset("t", LARGEST), (1, 98));
    rig.delete_records("t", 2);
    assert_eq!(rig.list_offset("t", LARGEST), (3, 30));
    rig.delete_records("t", 4);
    assert_eq!(rig.list_offset("t", LARGEST), (4, 30));
    rig.delete_records("t", 6);
    assert_eq!(rig.list_offset("t", LARGEST), (-1, -1));
}

#[test]
fn records_without_a_timestamp_have_no_largest() {
    let mut rig = rig(&[&[-1, -1]]);
    assert_eq!(rig.list_offset("t", LARGEST), (-1, -1));
}

#[test]
fn a_time_is_sought_behind_the_log_start_though_a_deleted_record_has_a_later_one() {
    let mut rig = rig(&[&[99], &[98, 10], &[50]]);
    rig.delete_records("t", 1);
    assert_eq!(rig.list_offset("t", 40), (1, 98));
    rig.delete_records("t", 2);
    assert_eq!(rig.list_offset("t", 40), (3, 50));
}

fn asked(name: &str, partitions: &[i32], timestamp: i64) -> ListOffsetsTopic {
    let partition = |&partition_index| ListOffsetsPartition { partition_index, timestamp, current_leader_epoch: -1 };
    ListOffsetsTopic { name: name.into(), partitions: partitions.iter().map(partition).collect() }
}

/// Asks for offsets without carrying anything out.
fn ask(rig: &mut Rig, sequence: u64, topics: Vec<ListOffsetsTopic>) {
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    let to = ReplyTo { conn: ConnId(1), sequence, version: 7, listener: ListenerId(0) };
    rig.step(Input::Request { to, request: Request::Other(request.into()) });
}

#[test]
fn a_partition_that_is_named_twice_is_answered_as_a_mistake() {
    let mut rig = Rig::new();
    rig.create("t", 3);
    for partition in 0..3 {
        rig.send("t", partition, -1, records(Timestamp(7), &["v"]));
    }
    let topics = vec![asked("t", &[0, 1, 0], 5), asked("t", &[1, 2], -1), asked("none", &[0, 0], 5)];
    ask(&mut rig, 1_000, topics);
    rig.run();
    let Some(Some(Response::ListOffsets(response))) = rig.reply(1_000) else { panic!("no answer") };
    let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
    let answers: Vec<_> = answers.map(|answer| (answer.partition_index, answer.error_code, answer.offset)).collect();
    let (twice, unknown) = (ErrorCode::InvalidRequest.code(), ErrorCode::UnknownTopicOrPartition.code());
    let expect = [(0, twice, -1), (1, twice, -1), (0, twice, -1), (1, twice, -1), (2, 0, 1), (0, unknown, -1)];
    assert_eq!(answers[..6], expect);
}

#[test]
fn a_request_searches_few_partitions_at_once_and_all_in_the_end() {
    const PARTITIONS: i32 = 600;
    let mut rig = Rig::new();
    rig.create("t", PARTITIONS);
    let all: Vec<i32> = (0..PARTITIONS).collect();
    for &partition in &all {
        rig.send("t", partition, -1, records(Timestamp(7), &["v"]));
    }
    rig.hold_reads = true;
    ask(&mut rig, 1_000, vec![asked("t", &all, 5)]);
    let mut searched = 0;
    loop {
        rig.pass(0);
        assert!(rig.held_reads.len() <= 256, "{} at once", rig.held_reads.len());
        let Some(read) = rig.held_reads.pop_front() else { break };
        searched += 1;
        rig.step(Input::Disk(read));
        rig.run();
    }
    assert_eq!(searched, PARTITIONS);
    let Some(Some(Response::ListOffsets(response))) = rig.reply(1_000) else { panic!("no answer") };
    let found =
        response.topics[0].partitions.iter().map(|answer| (answer.partition_index, answer.error_code, answer.offset));
    assert!(found.eq((0..PARTITIONS).map(|partition| (partition, 0, 0))));
}

#[test]
fn who_leaves_while_searches_are_under_way_has_no_more_begun() {
    let mut rig = Rig::new();
    rig.create("t", 600);
    let all: Vec<i32> = (0..600).collect();
    for &partition in &all {
        rig.send("t", partition, -1, records(Timestamp(7), &["v"]));
    }
    rig.hold_reads = true;
    ask(&mut rig, 1_000, vec![asked("t", &all, 5)]);
    rig.pass(0);
    rig.step(Input::Closed { conn: ConnId(1) });
    let mut searched = 0;
    while let Some(read) = rig.held_reads.pop_front() {
        searched += 1;
        rig.step(Input::Disk(read));
        rig.pass(0);
    }
    assert_eq!(searched, 256);
    assert!(rig.node.offset_queries.is_empty());
}

#[test]
fn a_search_whose_segment_goes_meanwhile_finds_what_is_left() {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("internal.segment.bytes", "10000"), ("file.delete.delay.ms", "0")]);
    let value = "v".repeat(3_000);
    // The oldest record is the latest.
    for index in 0..100 {
        let sequence = rig.send("t", 0, -1, records(Timestamp(1_000 - index), &[&value]));
        rig.produced(sequence).expect("an acknowledgement");
    }
    for (sequence, asked, found) in [(1_000, LARGEST, (50, 950)), (1_001, 900, (61, 939))] {
        let partition =
            ListOffsetsPartition { timestamp: asked, current_leader_epoch: -1, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let to = ReplyTo { conn: ConnId(1), sequence, version: 7, listener: ListenerId(0) };
        rig.step(Input::Request { to, request: Request::Other(request.into()) });
        let reads: Vec<Effect> = std::mem::take(&mut rig.out.0);
        let [Effect::Disk(DiskOp::Read(id, _))] = reads[..] else { panic!("it is on disk") };
        rig.delete_records("t", found.0);
        let gone = FileName::Journal(99);
        rig.step(Input::Disk(Done::Read(id, Err(DiskError::Io(gone, "no such file".into())))));
        rig.run();
        let Some(Some(Response::ListOffsets(response))) = rig.reply(sequence) else { panic!("another answer") };
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, (answer.offset, answer.timestamp)), (0, found));
    }
}
