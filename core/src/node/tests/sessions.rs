//! Fetch sessions: what changes is told, whatever changes it, and what does not costs nothing.

use std::collections::BTreeMap;

use super::*;
use crate::rng::Rng;
use crate::wire::fetch::ForgottenTopic;

/// A request of a session that names nothing new.
fn next(session_id: i32, session_epoch: i32, max_wait_ms: i32) -> FetchRequest {
    let min_bytes = i32::from(max_wait_ms > 0);
    let topics = Vec::new();
    FetchRequest { session_id, session_epoch, topics, ..Rig::fetch_request("t", 0, min_bytes, max_wait_ms) }
}

/// The partitions that an answer tells something of.
fn partitions(response: &FetchResponse) -> Vec<i32> {
    assert_eq!(response.error_code, 0);
    let topics = response.responses.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|partition| partition.partition_index)).collect()
}

/// A partition as a request names it.
fn wanted(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, ..Rig::fetch_request("t", 0, 0, 0).topics[0].partitions[0].clone() }
}

/// A request that begins a session of the first partitions of "t".
fn first(partitions: i32) -> FetchRequest {
    let mut first = Rig::fetch_request("t", 0, 0, 0);
    first.session_epoch = 0;
    first.topics[0].partitions = (0..partitions).map(|partition| wanted(partition, 0)).collect();
    first
}

fn begin(rig: &mut Rig, partitions: i32) -> i32 {
    let sequence = rig.ask(12, Request::Other(first(partitions).into()));
    rig.pass(0);
    rig.fetched(sequence).expect("an answer").session_id
}

#[test]
fn a_session_is_told_only_what_is_new() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let mut request = Rig::fetch_request("t", 0, 0, 0);
    request.session_epoch = 0;
    let sequence = rig.ask(12, Request::Other(request.clone().into()));
    let first = rig.fetched(sequence).expect("an answer");
    assert_ne!(first.session_id, 0);
    assert_eq!(first.responses.len(), 1, "a full answer names every partition");
    request.session_id = first.session_id;
    request.session_epoch = 1;
    request.topics.clear();
    let sequence = rig.ask(12, Request::Other(request.clone().into()));
    assert_eq!(rig.fetched(sequence).expect("an answer").responses.len(), 0, "nothing is new");
    rig.produce("t", &["a"]);
    request.session_epoch = 2;
    let sequence = rig.ask(12, Request::Other(request.clone().into()));
    assert_eq!(rig.fetched(sequence).expect("an answer").responses.len(), 1);
    request.session_epoch = 2;
    let sequence = rig.ask(12, Request::Other(request.into()));
    let wrong = rig.fetched(sequence).expect("an answer");
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}

#[test]
fn a_session_of_before_a_restart_is_nobodys() {
    let mut rig = Rig::new();
    rig.create("mine", 1);
    rig.create("yours", 1);
    let begin = |rig: &mut Rig, topic| {
        let request = FetchRequest { session_epoch: 0, ..Rig::fetch_request(topic, 0, 0, 0) };
        let sequence = rig.ask(12, Request::Other(request.into()));
        rig.fetched(sequence).expect("an answer").session_id
    };
    let mine = begin(&mut rig, "mine");
    let mut rig = rig.crash();
    begin(&mut rig, "yours");
    let request = FetchRequest { session_id: mine, session_epoch: 1, ..FetchRequest::default() };
    let sequence = rig.ask(12, Request::Other(request.into()));
    let answer = rig.fetched(sequence).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[test]
fn names_and_ids_do_not_mix_in_one_session() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let request = FetchRequest { session_epoch: 0, ..Rig::fetch_request("t", 0, 0, 0) };
    let sequence = rig.ask(12, Request::Other(request.into()));
    let session_id = rig.fetched(sequence).expect("an answer").session_id;
    let request = FetchRequest { session_id, session_epoch: 1, ..FetchRequest::default() };
    let sequence = rig.ask(13, Request::Other(request.into()));
    let answer = rig.fetched(sequence).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::FetchSessionTopicIdError.code());
}

#[test]
fn who_asks_again_in_a_session_waits_no_longer() {
    let mut rig = Rig::new();
    rig.create("t", 4);
    let session = begin(&mut rig, 4);
    let waiting = rig.ask(12, Request::Other(next(session, 1, 500).into()));
    assert_eq!(rig.fetched(waiting), None);
    let gone = ForgottenTopic { topic: "t".into(), partitions: vec![0], ..ForgottenTopic::default() };
    let forgets = FetchRequest { forgotten_topics_data: vec![gone], ..next(session, 2, 0) };
    let sequence = rig.ask(12, Request::Other(forgets.into()));
    assert_eq!(partitions(&rig.fetched(waiting).expect("an answer")), []);
    assert_eq!(partitions(&rig.fetched(sequence).expect("an answer")), []);

    for partition in [0, 1] {
        let batch = records(rig.now.wall, &["x"]);
        rig.send("t", partition, -1, batch);
    }
    let sequence = rig.ask(12, Request::Other(next(session, 3, 0).into()));
    assert_eq!(partitions(&rig.fetched(sequence).expect("an answer")), [1], "0 is forgotten");
    let batch = records(rig.now.wall, &["y"]);
    rig.send("t", 3, -1, batch);
    let sequence = rig.ask(12, Request::Other(next(session, 4, 0).into()));
    // The one that got data before comes after the one that did not.
    assert_eq!(partitions(&rig.fetched(sequence).expect("an answer")), [3, 1]);
}

#[test]
fn a_waiting_session_is_answered_when_any_of_its_partitions_has_enough() {
    let mut rig = Rig::new();
    rig.create("t", 50);
    let session = begin(&mut rig, 50);
    for (epoch, partition) in (1..).zip([7, 0, 49]) {
        let consumed = wanted(partition, 0);
        let waiting = rig.ask(12, Request::Other(next(session, 2 * epoch - 1, 500).into()));
        assert_eq!(rig.fetched(waiting), None);
        let batch = records(rig.now.wall, &["x"]);
        rig.send("t", partition, -1, batch);
        assert_eq!(partitions(&rig.fetched(waiting).expect("an answer")), [partition]);
        let mut moves_on = next(session, 2 * epoch, 0);
        let topic = FetchTopic { topic: "t".into(), ..FetchTopic::default() };
        moves_on.topics =
            vec![FetchTopic { partitions: vec![FetchPartition { fetch_offset: 1, ..consumed }], ..topic }];
        let sequence = rig.ask(12, Request::Other(moves_on.into()));
        assert_eq!(partitions(&rig.fetched(sequence).expect("an answer")), []);
    }
}

#[test]
fn an_idle_session_looks_at_none_of_its_partitions() {
    let mut rig = Rig::new();
    rig.create("t", 100);
    let session = begin(&mut rig, 100);
    for epoch in 1..4 {
        let sequence = rig.ask(12, Request::Other(next(session, epoch, 0).into()));
        assert_eq!(partitions(&rig.fetched(sequence).expect("an answer")), []);
    }
    assert_eq!(rig.node.sessions.dirty(session), Some(0));
    let batch = records(rig.now.wall, &["x"]);
    rig.send("t", 42, -1, batch);
    assert_eq!(rig.node.sessions.dirty(session), Some(1));
}

#[test]
fn who_leaves_is_watching_no_more() {
    let mut rig = Rig::new();
    rig.create("t", 1_200);
    begin(&mut rig, 1_200);
    let waiting = Rig::fetch_request("t", 0, 1, 500);
    rig.ask(12, Request::Other(FetchRequest { session_epoch: 0, ..waiting }.into()));
    rig.step(Input::Closed { conn: ConnId(1) });
    assert_eq!(rig.node.sessions.count(), 0);
    rig.out.0.clear();
    // What is left of it hears of its partitions until it is taken apart.
    let batch = records(rig.now.wall, &["x"]);
    rig.send("t", 1_199, -1, batch);
    rig.pass(0);
    assert!(!rig.node.sessions.has_ended());
    assert!(rig.node.hosts.iter().flatten().all(|hosted| hosted.watchers.is_empty()));
}

/// What a client knows of a partition: error, high watermark, log start.
type Known = (i16, i64, i64);

/// A client with a session, and what it has been told.
struct Client {
    session: i32,
    epoch: i32,
    offsets: BTreeMap<(&'static str, i32), i64>,
    known: BTreeMap<(String, i32), Known>,
}

impl Client {
    fn request(&self, named: &[(&'static str, i32)], session_epoch: i32) -> FetchRequest {
        let topic = |&(name, partition): &(&'static str, i32)| FetchTopic {
            topic: name.into(),
            partitions: vec![wanted(partition, self.offsets[&(name, partition)])],
            ..FetchTopic::default()
        };
        let topics = named.iter().map(topic).collect();
        FetchRequest { topics, session_epoch, ..next(self.session, 0, 0) }
    }

    /// Takes an answer. Returns the partitions with records, and how many.
    fn take(&mut self, response: &FetchResponse) -> BTreeMap<(String, i32), usize> {
        assert_eq!(response.error_code, 0);
        let mut brought = BTreeMap::new();
        for topic in &response.responses {
            for data in &topic.partitions {
                let of = (topic.topic.to_string(), data.partition_index);
                self.known.insert(of.clone(), (data.error_code, data.high_watermark, data.log_start_offset));
                let bytes = data.records.as_ref().map_or(0, |records| records.len());
                if bytes > 0 {
                    brought.insert(of, bytes);
                }
            }
        }
        brought
    }
}

#[test]
fn a_client_with_a_session_knows_what_one_without_is_told() {
    const NAMES: [&str; 3] = ["t", "u", "v"];
    for seed in 0..60 {
        let mut rng = Rng::from_number(seed);
        let mut draw = |below: usize| rng.below(below as u64) as usize;
        let mut rig = Rig::new();
        if seed % 2 == 1 {
            rig.node.limits.fetch_partitions_at_once = 1 + draw(4);
        }
        let mut exists = [true, true, false];
        rig.create("t", 3);
        rig.create("u", 2);
        let all: Vec<(&'static str, i32)> =
            NAMES.iter().flat_map(|&name| (0..3).map(move |index| (name, index))).collect();
        let offsets = all.iter().map(|&of| (of, 0)).collect();
        let mut client = Client { session: 0, epoch: 0, offsets, known: BTreeMap::new() };
        let mut named: Vec<(&'static str, i32)> = all[..4].to_vec();
        let mut fresh = named.clone();
        let mut forgotten = Vec::new();
        for _ in 0..60 {
            match draw(10) {
                0..=3 => {
                    let (name, partition) = all[draw(all.len())];
                    let batch = records(rig.now.wall, &["value"; 3][..=draw(3)]);
                    rig.send(name, partition, -1, batch);
                }
                4 => {
                    let at = draw(3);
                    match exists[at] {
                        true => rig.delete(NAMES[at]),
                        false => rig.create(NAMES[at], 1 + draw(3) as i32),
                    }
                    exists[at] = !exists[at];
                }
                5 if exists[0] => {
                    let slot = rig.node.find(&super::super::fetch::Topic::Name("t".into()), 0).expect("it exists");
                    let end = rig.node.host(slot).partition.advanced().high_watermark.0;
                    rig.delete_records("t", end);
                }
                6 => {
                    let of = all[draw(all.len())];
                    if named.contains(&of) {
                        named.retain(|known| *known != of);
                        fresh.retain(|known| *known != of);
                        client.known.remove(&(of.0.to_owned(), of.1));
                        forgotten.push(of);
                    } else if !forgotten.contains(&of) {
                        named.push(of);
                        fresh.push(of);
                    }
                }
                _ => {
                    if client.epoch == 0 && named.is_empty() {
                        continue;
                    }
                    let mut request = client.request(&fresh, client.epoch);
                    request.forgotten_topics_data = forgotten
                        .drain(..)
                        .map(|(name, partition): (&'static str, i32)| ForgottenTopic {
                            topic: name.into(),
                            partitions: vec![partition],
                            ..ForgottenTopic::default()
                        })
                        .collect();
                    let sequence = rig.ask(12, Request::Other(request.into()));
                    rig.pass(0);
                    let response = rig.fetched(sequence).expect("an answer");
                    client.session = response.session_id;
                    client.epoch += 1;
                    let brought = client.take(&response);

                    let mut witness =
                        Client { session: 0, epoch: 0, offsets: client.offsets.clone(), known: BTreeMap::new() };
                    let sequence = rig.ask(12, Request::Other(witness.request(&named, -1).into()));
                    rig.pass(0);
                    let expect = witness.take(&rig.fetched(sequence).expect("an answer"));
                    assert_eq!(brought, expect, "seed {seed}");
                    assert_eq!(client.known, witness.known, "seed {seed}");

                    // It reads on where there was something, or begins anew.
                    fresh.clear();
                    for &of in &named {
                        let (error, high_watermark, log_start) = client.known[&(of.0.to_owned(), of.1)];
                        let at = client.offsets.get_mut(&of).expect("all are there");
                        let before = *at;
                        if error != 0 {
                            *at = log_start.max(0);
                        } else if draw(3) > 0 {
                            *at = high_watermark;
                        }
                        if *at != before {
                            fresh.push(of);
                        }
                    }
                }
            }
        }
    }
}
