//! Whose turn it is to be answered with much, what is read at once, and what answers hold until they are sent.

use super::*;
use crate::boundary::{ReadId, TOLD_FROM_BYTES};
use crate::limits::BATCH_BYTES_MAX;
use crate::log::ReadPlan;
use crate::node::fetch::Turns;

/// A read that the disk has not done.
type Begun = (ReadId, ReadPlan);

/// Room for two fetches of the topic's start at once.
const ROOM: usize = 640 << 10;

/// A topic whose first batches are on disk only, in a segment of some 300 KiB.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let value = "v".repeat(3_000);
    for _ in 0..100 {
        rig.produce("t", &[&value]);
    }
    rig.node.limits.fetch_bytes_in_flight_max = ROOM;
    rig
}

/// Asks for the topic from `offset` on, and leaves whatever comes of it to [`effects`].
fn ask_from(rig: &mut Rig, conn: u64, sequence: u64, offset: i64) {
    let to = ReplyTo { conn: ConnId(conn), sequence, version: 12, listener: ListenerId(0) };
    let request = Request::Other(Rig::fetch_request("t", offset, 0, 0).into());
    rig.step(Input::Request { to, request });
}

fn ask(rig: &mut Rig, conn: u64, sequence: u64) {
    ask_from(rig, conn, sequence, 0);
}

fn send(rig: &mut Rig, (conn, sequence): (u64, u64)) {
    rig.step(Input::Sent { conn: ConnId(conn), sequence });
}

fn close(rig: &mut Rig, conn: u64) {
    rig.step(Input::Closed { conn: ConnId(conn) });
}

/// What the node wants done.
#[derive(Default)]
struct Wanted {
    reads: VecDeque<Begun>,
    /// Who was answered, and with how many bytes of records.
    answers: Vec<((u64, u64), usize)>,
    cut: Vec<u64>,
}

fn wanted(rig: &mut Rig) -> Wanted {
    let mut wanted = Wanted::default();
    for effect in std::mem::take(&mut rig.out.0) {
        match effect {
            Effect::Disk(DiskOp::Read(id, plan)) => wanted.reads.push_back((id, plan)),
            Effect::Reply { to, response: Some(Response::Fetch(response)) } => {
                let data = &response.responses[0].partitions[0];
                assert_eq!(data.error_code, 0);
                let bytes = data.records.as_ref().map_or(0, |records| records.len());
                assert!(bytes > 0, "it was read");
                wanted.answers.push(((to.conn.0, to.sequence), bytes));
            }
            Effect::Cut { conn, .. } => wanted.cut.push(conn.0),
            other => rig.carry_out(other),
        }
    }
    wanted
}

/// The reads that were begun, and who was answered and takes it at once.
fn effects(rig: &mut Rig) -> (VecDeque<Begun>, Vec<(u64, u64)>) {
    let (mut reads, mut answered) = (VecDeque::new(), Vec::new());
    loop {
        let wanted = wanted(rig);
        reads.extend(wanted.reads);
        if wanted.answers.is_empty() {
            return (reads, answered);
        }
        for (who, _) in wanted.answers {
            answered.push(who);
            send(rig, who);
        }
    }
}

/// Has the disk do all, and returns who was answered, with how many bytes, and does not take it.
fn unsent(rig: &mut Rig) -> Vec<((u64, u64), usize)> {
    let mut answers = Vec::new();
    loop {
        let wanted = wanted(rig);
        answers.extend(wanted.answers);
        assert_eq!(wanted.cut, [], "nobody has waited for long");
        if wanted.reads.is_empty() {
            return answers;
        }
        wanted.reads.into_iter().for_each(|begun| read(rig, begun));
    }
}

fn bytes(answers: &[((u64, u64), usize)]) -> usize {
    answers.iter().map(|(_, bytes)| bytes).sum()
}

fn read(rig: &mut Rig, (id, plan): Begun) {
    let result = plan.run(&rig.files);
    rig.step(Input::Disk(Done::Read(id, result)));
}

/// Lets so many milliseconds pass, and returns who is cut meanwhile.
fn cut_within(rig: &mut Rig, ms: u64) -> Vec<u64> {
    let until = Instant(rig.now.instant.0 + ms * 1_000_000);
    let mut cut = Vec::new();
    while let Some((at, _)) = rig.node.deadline().filter(|&(at, _)| at <= until) {
        rig.advance_to(at.max(rig.now.instant));
        rig.step(Input::Deadline);
        let wanted = wanted(rig);
        assert!(wanted.answers.is_empty() && wanted.reads.is_empty());
        cut.extend(wanted.cut);
        rig.node.turn(rig.now, &mut rig.out);
    }
    rig.advance_to(until);
    cut
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
    rig.node.limits.fetch_bytes_in_flight_max = 1;
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
    assert_eq!(format!("{:?}", rig.node.turns), format!("{:?}", Turns::default()));
}

#[test]
fn answers_that_nobody_takes_hold_no_more_than_is_allowed() {
    const CLIENTS: usize = 1_000;
    for offset in [0, 90] {
        let mut rig = rig();
        for conn in 1..=CLIENTS as u64 {
            ask_from(&mut rig, conn, 0, offset);
        }
        let mut answers = unsent(&mut rig);
        let held = bytes(&answers);
        assert!((ROOM / 2..=ROOM).contains(&held), "{held} bytes from {offset} on");
        // With each that leaves there is room for another, until all are served.
        let mut left = CLIENTS - answers.len();
        while let Some((who, _)) = answers.pop() {
            send(&mut rig, who);
            let more = unsent(&mut rig);
            left -= more.len();
            answers.extend(more);
            assert!(bytes(&answers) <= ROOM);
        }
        assert_eq!((left, rig.node.turns.bytes()), (0, 0));
    }
}

#[test]
fn a_connection_that_is_gone_holds_nothing() {
    let mut rig = rig();
    ask(&mut rig, 1, 0);
    ask(&mut rig, 1, 1);
    assert_eq!(unsent(&mut rig).len(), 1);
    assert!(rig.node.turns.bytes() > 0);
    close(&mut rig, 1);
    assert_eq!(rig.node.turns.bytes(), 0);
    assert!(unsent(&mut rig).is_empty());
}

#[test]
fn the_less_is_free_the_less_one_answer_has_and_small_ones_wait_for_nobody() {
    let mut rig = rig();
    rig.node.limits.fetch_bytes_in_flight_max = BATCH_BYTES_MAX as usize + (2 << 20);
    let mut sizes = Vec::new();
    for conn in 1..=30 {
        ask(&mut rig, conn, 0);
        sizes.extend(unsent(&mut rig).into_iter().map(|(_, bytes)| bytes));
    }
    assert_eq!(sizes.len(), 30, "everybody has something");
    assert!(sizes.is_sorted_by(|before, after| before >= after) && sizes[0] > 3 * sizes[29], "{sizes:?}");

    rig.node.limits.fetch_bytes_in_flight_max = 1;
    ask(&mut rig, 31, 0);
    assert!(unsent(&mut rig).is_empty(), "there is no room");
    let small = i64::try_from(100 - TOLD_FROM_BYTES / 3_000 + 1).expect("few");
    ask_from(&mut rig, 32, 0, small);
    assert_eq!(unsent(&mut rig).len(), 1);
}

#[test]
fn who_leaves_an_answer_unread_is_cut_when_others_wait_and_not_before() {
    let mut rig = rig();
    for conn in 1..=10 {
        ask(&mut rig, conn, 0);
    }
    let served = unsent(&mut rig).len() as u64;
    assert!((2..10).contains(&served));
    for conn in served + 1..=10 {
        close(&mut rig, conn);
    }
    assert_eq!(cut_within(&mut rig, 60_000), [], "nobody waits");

    // All are overdue by now: as many go as make room, no more.
    ask(&mut rig, 11, 0);
    assert_eq!(unsent(&mut rig), []);
    let cut = cut_within(&mut rig, 60_000);
    assert!(!cut.is_empty() && (cut.len() as u64) < served, "{cut:?} of {served}");
    for conn in cut {
        assert_eq!(unsent(&mut rig), []);
        close(&mut rig, conn);
    }
    assert_eq!(unsent(&mut rig)[0].0, (11, 0));
}

#[test]
fn an_answer_may_lie_for_seconds_before_its_connection_is_cut() {
    let mut rig = rig();
    for conn in 1..=10 {
        ask(&mut rig, conn, 0);
    }
    let served = unsent(&mut rig);
    assert_eq!(cut_within(&mut rig, 4_900), []);
    // Whoever takes it now is spared.
    send(&mut rig, served[0].0);
    assert_eq!(unsent(&mut rig).len(), 1, "there is room for one more");
    let cut = cut_within(&mut rig, 1_000);
    assert!(!cut.is_empty() && !cut.contains(&1), "{cut:?}");
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
