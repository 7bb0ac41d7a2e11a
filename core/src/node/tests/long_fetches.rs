//! Fetches of more partitions than one step serves: they take several, and bring what one step would.

use super::*;
use crate::wire::fetch::{ForgottenTopic, PartitionData};

const PARTITIONS: i32 = 23;

/// A topic, and steps that serve so few partitions of a fetch that all of it takes many.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create("t", PARTITIONS);
    rig.node.limits.fetch_partitions_at_once = 4;
    rig
}

/// A request for partitions of "t" from their starts.
fn wanted(partitions: impl IntoIterator<Item = i32>, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    let mut request = Rig::fetch_request("t", 0, min_bytes, max_wait_ms);
    let asked = request.topics[0].partitions[0].clone();
    let of = |partition| FetchPartition { partition, ..asked.clone() };
    request.topics[0].partitions = partitions.into_iter().map(of).collect();
    request
}

fn all(min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    wanted(0..PARTITIONS, min_bytes, max_wait_ms)
}

/// The same as the first of a session, or as another one that names nothing new.
fn of_session(request: FetchRequest, session_id: i32, session_epoch: i32) -> FetchRequest {
    let topics = if session_epoch == 0 { request.topics.clone() } else { Vec::new() };
    FetchRequest { session_id, session_epoch, topics, ..request }
}

fn ask(rig: &mut Rig, conn: u64, request: FetchRequest) -> u64 {
    let sequence = rig.asked;
    rig.asked += 1;
    let to = ReplyTo { conn: ConnId(conn), sequence, version: 12, listener: ListenerId(0) };
    rig.step(Input::Request { to, request: Request::Other(request.into()) });
    rig.run();
    sequence
}

/// Lets as many slices be made as are asked for at once, at most so many. Returns how many.
fn slices(rig: &mut Rig, most: usize) -> usize {
    let is_due = |rig: &Rig| rig.node.deadline().is_some_and(|(at, _)| at <= rig.now.instant);
    for made in 0..most {
        if !is_due(rig) {
            return made;
        }
        rig.step(Input::Deadline);
        rig.run();
    }
    most
}

const ALL: usize = usize::MAX;

fn write(rig: &mut Rig, partition: i32) {
    let batch = records(rig.now.wall, &["value"]);
    rig.send("t", partition, -1, batch);
}

/// The partitions that an answer tells of, and those that it has records of.
fn told(response: &FetchResponse) -> (Vec<i32>, Vec<i32>) {
    assert_eq!(response.error_code, 0);
    let data = || response.responses.iter().flat_map(|topic| &topic.partitions);
    let has_records = |data: &&PartitionData| data.records.as_ref().is_some_and(|records| !records.is_empty());
    (
        data().map(|data| data.partition_index).collect(),
        data().filter(has_records).map(|data| data.partition_index).collect(),
    )
}

fn every_partition() -> Vec<i32> {
    (0..PARTITIONS).collect()
}

/// Nothing is left of any fetch.
fn assert_over(rig: &mut Rig) {
    slices(rig, ALL);
    assert!(rig.node.fetches.is_empty() && rig.node.fetches_by_conn.is_empty());
    assert!(rig.node.slices.is_empty());
    assert_eq!(rig.node.turns.bytes(), 0);
    assert!(rig.node.hosts.iter().flatten().all(|hosted| hosted.fetchers.is_empty()));
}

#[test]
fn it_takes_many_steps_and_small_ones_pass_it_by() {
    let mut rig = rig();
    write(&mut rig, 3);
    write(&mut rig, 21);
    let large = ask(&mut rig, 1, all(0, 0));
    let small = ask(&mut rig, 2, wanted([21], 0, 0));
    assert_eq!(told(&rig.fetched(small).expect("an answer")), (vec![21], vec![21]));
    assert_eq!(rig.fetched(large), None);
    assert!(slices(&mut rig, ALL) > 10);
    assert_eq!(told(&rig.fetched(large).expect("an answer")), (every_partition(), vec![3, 21]));
    assert_over(&mut rig);
}

#[test]
fn who_asks_first_is_served_first() {
    let mut rig = rig();
    let asked: Vec<u64> = (1..5).map(|conn| ask(&mut rig, conn, all(0, 0))).collect();
    let mut order = Vec::new();
    while slices(&mut rig, 1) == 1 {
        order.extend(asked.iter().copied().filter(|&sequence| rig.fetched(sequence).is_some()));
    }
    assert_eq!(order, asked);
}

#[test]
fn it_waits_until_there_is_enough_whenever_that_comes() {
    // However far it is when the record is written, it is answered with it, and not before.
    for session_epoch in [-1, 0] {
        for before in 0..25 {
            let mut rig = rig();
            let waiting = ask(&mut rig, 1, FetchRequest { session_epoch, ..all(1, 500) });
            slices(&mut rig, before);
            assert_eq!(rig.fetched(waiting), None, "after {before} slices");
            write(&mut rig, 7);
            slices(&mut rig, ALL);
            let response = rig.fetched(waiting).expect("an answer");
            assert_eq!(told(&response), (every_partition(), vec![7]), "after {before} slices");
            if session_epoch == -1 {
                assert_over(&mut rig);
            }
        }
    }
}

#[test]
fn it_is_credited_with_what_is_written_and_no_more() {
    let mut rig = rig();
    write(&mut rig, 0);
    let response = ask(&mut rig, 1, wanted([0], 0, 0));
    let bytes = rig.fetched(response).and_then(|response| response.responses[0].partitions[0].records.clone());
    let bytes = i32::try_from(bytes.map_or(0, |records| records.len())).expect("a small batch");
    // Every partition is named twice.
    let twice = wanted((0..PARTITIONS).chain(0..PARTITIONS), 3 * bytes + 1, 500);
    let waiting = ask(&mut rig, 1, twice);
    // What is there is found twice, as it would be answered twice.
    slices(&mut rig, 15);
    write(&mut rig, 1);
    slices(&mut rig, ALL);
    assert_eq!(rig.fetched(waiting), None);
    write(&mut rig, 2);
    slices(&mut rig, ALL);
    assert!(rig.fetched(waiting).is_some());
    assert_over(&mut rig);
}

#[test]
fn its_time_is_up_when_it_said() {
    for session_epoch in [-1, 0] {
        let mut rig = rig();
        let waiting = ask(&mut rig, 1, FetchRequest { session_epoch, ..all(1, 500) });
        rig.pass(499);
        assert_eq!(rig.fetched(waiting), None);
        rig.pass(1);
        assert_eq!(told(&rig.fetched(waiting).expect("an answer")), (every_partition(), vec![]));
    }
}

#[test]
fn who_leaves_leaves_nothing_however_far_it_is() {
    for session_epoch in [-1, 0] {
        for after in 0..60 {
            let mut rig = rig();
            write(&mut rig, 20);
            // One waits; one is answered, with what must be read; one comes behind them.
            let enough = if after % 2 == 0 { 1 } else { 1 << 20 };
            ask(&mut rig, 1, FetchRequest { session_epoch, ..all(enough, 500) });
            ask(&mut rig, 1, FetchRequest { session_epoch, ..all(0, 0) });
            let other = ask(&mut rig, 2, all(0, 0));
            slices(&mut rig, after);
            rig.step(Input::Closed { conn: ConnId(1) });
            rig.run();
            slices(&mut rig, ALL);
            assert_eq!(told(&rig.fetched(other).expect("an answer")), (every_partition(), vec![20]));
            assert_eq!(rig.node.sessions.count(), 0);
            assert_over(&mut rig);
        }
    }
}

#[test]
fn a_session_takes_up_its_requests_in_their_order() {
    let mut rig = rig();
    let first = ask(&mut rig, 1, of_session(all(0, 0), 0, 0));
    slices(&mut rig, ALL);
    let session = rig.fetched(first).expect("an answer").session_id;
    assert!(session > 0);
    for partition in 0..PARTITIONS {
        write(&mut rig, partition);
    }
    // The second names all partitions behind what there is; the third one of them from its start again, in one step.
    let mut moves_on = FetchRequest { session_id: session, session_epoch: 1, ..all(0, 0) };
    moves_on.topics[0].partitions.iter_mut().for_each(|asked| asked.fetch_offset = 1);
    let second = ask(&mut rig, 1, moves_on);
    let third = ask(&mut rig, 1, FetchRequest { session_id: session, session_epoch: 2, ..wanted([5], 0, 0) });
    let gone = ForgottenTopic { topic: "t".into(), partitions: every_partition(), ..ForgottenTopic::default() };
    let forgets = FetchRequest { forgotten_topics_data: vec![gone], ..of_session(all(0, 0), session, 3) };
    let fourth = ask(&mut rig, 1, forgets);
    let wrong = ask(&mut rig, 1, of_session(all(0, 0), session, 7));
    assert_eq!(rig.fetched(third), None, "it comes behind");
    slices(&mut rig, ALL);
    // They come sooner than the second is answered, and what it looks at last is as they leave it.
    assert!(told(&rig.fetched(second).expect("an answer")).1.is_empty());
    assert_eq!(told(&rig.fetched(third).expect("an answer")).1, [5]);
    assert_eq!(told(&rig.fetched(fourth).expect("an answer")), (vec![], vec![]));
    assert_eq!(rig.fetched(wrong).expect("an answer").error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    assert_over(&mut rig);
}

#[test]
fn who_asks_again_in_a_session_waits_no_longer() {
    let mut rig = rig();
    let first = ask(&mut rig, 1, of_session(all(0, 0), 0, 0));
    slices(&mut rig, ALL);
    let session = rig.fetched(first).expect("an answer").session_id;
    let waiting = ask(&mut rig, 1, of_session(all(1, 500), session, 1));
    slices(&mut rig, ALL);
    let next = ask(&mut rig, 1, of_session(all(0, 0), session, 2));
    slices(&mut rig, ALL);
    assert!(rig.fetched(waiting).is_some() && rig.fetched(next).is_some());
    assert_over(&mut rig);
}

#[test]
fn a_session_that_goes_with_another_connection_leaves_nobody_waiting() {
    for after in 0..12 {
        let mut rig = rig();
        let first = ask(&mut rig, 1, of_session(all(0, 0), 0, 0));
        slices(&mut rig, ALL);
        let session = rig.fetched(first).expect("an answer").session_id;
        let waiting = ask(&mut rig, 1, FetchRequest { session_id: session, session_epoch: 1, ..all(1, 500) });
        slices(&mut rig, after);
        let other = ask(&mut rig, 2, of_session(all(0, 0), session, 2));
        rig.step(Input::Closed { conn: ConnId(2) });
        rig.run();
        // What is left of the session hears of this, and of all that comes while it is taken apart.
        for partition in (0..PARTITIONS).rev() {
            write(&mut rig, partition);
            slices(&mut rig, 1);
        }
        rig.pass(500);
        assert!(rig.fetched(waiting).is_some(), "after {after} slices");
        // It was answered before its connection was gone, or is not.
        rig.fetched(other);
        assert_over(&mut rig);
    }
}

#[test]
fn what_has_no_room_in_an_answer_has_its_turn_in_the_next() {
    let mut rig = rig();
    for partition in 0..PARTITIONS {
        write(&mut rig, partition);
    }
    // Of one partition each, whatever its limit (KIP-74).
    let little = |request: FetchRequest| FetchRequest { max_bytes: 1, ..request };
    let first = ask(&mut rig, 1, little(of_session(all(0, 0), 0, 0)));
    slices(&mut rig, ALL);
    let response = rig.fetched(first).expect("an answer");
    assert_eq!(told(&response), (every_partition(), vec![0]), "the first answer tells of all");
    let mut served = vec![0];
    for epoch in 1..PARTITIONS {
        let next = ask(&mut rig, 1, little(of_session(all(0, 0), response.session_id, epoch)));
        slices(&mut rig, ALL);
        served.extend(told(&rig.fetched(next).expect("an answer")).1);
    }
    assert_eq!(served, every_partition());
}

#[test]
fn a_partition_that_goes_in_between_is_told_as_what_it_is_by_then() {
    for session_epoch in [-1, 0] {
        for after in 0..30 {
            let mut rig = rig();
            let asked = ask(&mut rig, 1, FetchRequest { session_epoch, ..all(1, 500) });
            slices(&mut rig, after);
            rig.delete("t");
            slices(&mut rig, ALL);
            let response = rig.fetched(asked).expect("it has something to tell");
            let data = response.responses.iter().flat_map(|topic| &topic.partitions);
            let codes: Vec<i16> = data.map(|data| data.error_code).collect();
            assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition.code(); PARTITIONS as usize]);
        }
    }
}

#[test]
fn those_that_nobody_reads_hold_no_more_than_is_allowed() {
    let mut rig = rig();
    let value = "v".repeat(3_000);
    for partition in (0..PARTITIONS).cycle().take(100) {
        let batch = records(rig.now.wall, &[&value]);
        rig.send("t", partition, -1, batch);
    }
    const ROOM: usize = (16 << 20) + (1 << 20);
    rig.node.limits.fetch_bytes_in_flight_max = ROOM;
    let mut unsent = Vec::new();
    for conn in 1..=40 {
        let to = ReplyTo { conn: ConnId(conn), sequence: conn, version: 12, listener: ListenerId(0) };
        rig.step(Input::Request { to, request: Request::Other(all(0, 0).into()) });
    }
    let mut answered = 0;
    loop {
        assert!(rig.node.turns.bytes() <= ROOM as u64);
        let effects = std::mem::take(&mut rig.out.0);
        let is_idle = effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Reply { to, response: Some(response) } if is_told_when_sent(&response) => {
                    answered += 1;
                    unsent.push(to);
                }
                other => rig.carry_out(other),
            }
        }
        if rig.node.deadline().is_some_and(|(at, _)| at <= rig.now.instant) {
            rig.step(Input::Deadline);
        } else if is_idle {
            // All that has room is answered: with one that leaves there is room for more.
            let Some(ReplyTo { conn, sequence, .. }) = unsent.pop() else { break };
            rig.step(Input::Sent { conn, sequence });
        }
    }
    assert_eq!(answered, 40);
    assert_over(&mut rig);
}

#[test]
fn more_partitions_than_there_can_be_are_refused() {
    let mut rig = rig();
    let many = i32::try_from(crate::controller::PARTITIONS_MAX).expect("not that many") + 10_000;
    rig.node.limits.fetch_partitions_at_once = 10_000;
    let asked = ask(&mut rig, 1, wanted(0..many, 0, 0));
    slices(&mut rig, ALL);
    assert_eq!(rig.fetched(asked).expect("an answer").error_code, ErrorCode::InvalidRequest.code());
    assert_over(&mut rig);
}
