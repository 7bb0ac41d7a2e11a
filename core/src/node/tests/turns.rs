//! Whose turn it is to read from disk, and what is read at once.

use super::*;
use crate::boundary::ReadId;
use crate::log::ReadPlan;

/// A read that the disk has not done.
type Begun = (ReadId, ReadPlan);

/// A topic whose first batches are on disk only, in a segment of some 300 KiB, and room for two fetches of it at once.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let value = "v".repeat(3_000);
    for _ in 0..100 {
        rig.produce("t", &[&value]);
    }
    rig.node.limits.read_bytes_in_flight_max = 640 << 10;
    rig
}

/// Asks for the start of the topic, and leaves whatever comes of it to [`effects`].
fn ask(rig: &mut Rig, conn: u64, sequence: u64) {
    let to = ReplyTo { conn: ConnId(conn), sequence, version: 12, listener: ListenerId(0) };
    let request = Request::Other(Rig::fetch_request("t", 0, 0, 0).into());
    rig.step(Input::Request { to, request });
}

/// The reads that were begun, and who was answered.
fn effects(rig: &mut Rig) -> (VecDeque<Begun>, Vec<(u64, u64)>) {
    let (mut reads, mut answered) = (VecDeque::new(), Vec::new());
    for effect in std::mem::take(&mut rig.out.0) {
        match effect {
            Effect::Disk(DiskOp::Read(id, plan)) => reads.push_back((id, plan)),
            Effect::Reply { to, response: Some(Response::Fetch(response)) } => {
                let data = &response.responses[0].partitions[0];
                assert_eq!(data.error_code, 0);
                assert!(data.records.as_ref().is_some_and(|records| !records.is_empty()), "it was read");
                answered.push((to.conn.0, to.sequence));
            }
            other => rig.carry_out(other),
        }
    }
    (reads, answered)
}

fn read(rig: &mut Rig, (id, plan): Begun) {
    let result = plan.run(&rig.files);
    rig.step(Input::Disk(Done::Read(id, result)));
}

#[test]
fn a_connection_reads_for_one_fetch_at_a_time_in_order() {
    let mut rig = rig();
    for sequence in 0..5 {
        ask(&mut rig, 1, sequence);
    }
    for sequence in 0..5 {
        let (mut reads, answered) = effects(&mut rig);
        assert_eq!(reads.len(), 1);
        assert_eq!(answered, Vec::from_iter((sequence > 0).then(|| (1, sequence - 1))));
        read(&mut rig, reads.pop_front().expect("one was counted"));
    }
    let (reads, answered) = effects(&mut rig);
    assert_eq!((reads.len(), answered), (0, vec![(1, 4)]));
}

#[test]
fn all_connections_together_read_no_more_than_is_allowed_and_take_turns() {
    let mut rig = rig();
    for conn in 1..=4 {
        ask(&mut rig, conn, 0);
    }
    ask(&mut rig, 1, 1);
    let (mut reading, mut order) = (VecDeque::new(), Vec::new());
    loop {
        let (reads, answered) = effects(&mut rig);
        reading.extend(reads);
        order.extend(answered);
        let Some(next) = reading.pop_front() else { break };
        assert!(reading.len() < 2);
        read(&mut rig, next);
    }
    assert_eq!(order, [(1, 0), (2, 0), (3, 0), (4, 0), (1, 1)]);
}

#[test]
fn a_fetch_larger_than_all_that_is_allowed_reads_alone() {
    let mut rig = rig();
    rig.node.limits.read_bytes_in_flight_max = 1;
    for conn in 1..=2 {
        ask(&mut rig, conn, 0);
    }
    let (mut reads, _) = effects(&mut rig);
    assert_eq!(reads.len(), 1);
    read(&mut rig, reads.pop_front().expect("one was counted"));
    assert_eq!(effects(&mut rig).0.len(), 1);
}

#[test]
fn who_leaves_gives_up_its_turns_but_what_is_read_for_it_counts_until_it_is_there() {
    let mut rig = rig();
    for conn in 1..=4 {
        ask(&mut rig, conn, 0);
        ask(&mut rig, conn, 1);
    }
    let (mut reads, _) = effects(&mut rig);
    assert_eq!(reads.len(), 2);
    for conn in [1, 3] {
        rig.step(Input::Closed { conn: ConnId(conn) });
    }
    assert_eq!(effects(&mut rig).0.len(), 0, "the disk is at it still");
    let mut order = Vec::new();
    while let Some(next) = reads.pop_front() {
        read(&mut rig, next);
        let (more, answered) = effects(&mut rig);
        reads.extend(more);
        order.extend(answered);
    }
    assert_eq!(order, [(2, 0), (4, 0), (2, 1), (4, 1)]);
    assert_eq!(format!("{:?}", rig.node.turns), format!("{:?}", crate::node::fetch::Turns::default()));
}

/// What a fetch of the topic's start is answered whose segment `remove` lets go of while it is read, and the log start
/// that it is told.
fn removed_while_read(remove: impl FnOnce(&mut Rig)) -> (i16, i64) {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("internal.segment.bytes", "10000"), ("file.delete.delay.ms", "0")]);
    let value = "v".repeat(3_000);
    for _ in 0..100 {
        rig.produce("t", &[&value]);
    }
    ask(&mut rig, 1, 1_000);
    let (mut reads, _) = effects(&mut rig);
    let (id, _) = reads.pop_front().expect("it is on disk");
    remove(&mut rig);
    rig.run();
    let gone = FileName::Journal(99);
    rig.step(Input::Disk(Done::Read(id, Err(DiskError::Io(gone, "no such file".into())))));
    rig.run();
    let response = rig.fetched(1_000).expect("an answer");
    let data = &response.responses[0].partitions[0];
    (data.error_code, data.log_start_offset)
}

#[test]
fn a_fetch_whose_segment_goes_while_it_is_read_is_told_what_a_later_one_would_be() {
    let deleted = removed_while_read(|rig| rig.delete_records("t", 50));
    assert_eq!(deleted, (ErrorCode::OffsetOutOfRange.code(), 50));
    let gone = removed_while_read(|rig| rig.delete("t"));
    assert_eq!(gone.0, ErrorCode::UnknownTopicOrPartition.code());
    let another = removed_while_read(|rig| {
        rig.delete("t");
        rig.create("t", 1);
    });
    assert_eq!(another.0, ErrorCode::UnknownTopicOrPartition.code());
    let (failed, _) = removed_while_read(|_| {});
    assert_eq!(failed, ErrorCode::KafkaStorageError.code());
}

#[test]
fn a_fetch_reads_from_as_many_small_segments_as_its_limit_holds() {
    let mut rig = Rig::with(&[]);
    rig.create_with("orders", 8, &[("internal.segment.bytes", "9000")]);
    for partition in 0..8 {
        for _ in 0..40 {
            let batch = records(rig.now.wall, &[&"x".repeat(2_000)]);
            rig.send("orders", partition, -1, batch);
        }
    }
    let wanted = (0..8).map(|partition| FetchPartition {
        partition,
        fetch_offset: 0,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    });
    let topic = FetchTopic { topic: "orders".into(), partitions: wanted.collect(), ..FetchTopic::default() };
    let request = FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..FetchRequest::default() };
    let sequence = rig.ask(12, Request::Other(request.into()));
    let response = rig.fetched(sequence).expect("an answer");
    for data in &response.responses[0].partitions {
        let bytes = data.records.as_ref().map_or(0, |records| records.len());
        assert!(bytes > 0, "partition {} is served though its segment is small", data.partition_index);
    }
}
