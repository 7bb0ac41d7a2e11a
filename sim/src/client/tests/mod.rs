//! Clients against a whole broker in memory: what they record of it, with and without trouble.

mod caller;
mod consumer;
mod group;
mod lane;
mod wire;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::wire::{ApiKey, ErrorCode};

use self::world::{Trouble, World, assert_sound};
use crate::history::{ClientId, History, What};
use crate::plan::draw::draw;
use crate::plan::{Action, ClientKind, ClientPlan, FORMAT, NetworkPlan, NodePlan, Operation, Plan, TopicPlan};
use crate::value::Attempt;

fn plan(clients: Vec<ClientPlan>) -> Plan {
    let topic = |name: &str, partitions| TopicPlan {
        name: name.to_owned(),
        partitions,
        replication: 1,
        configs: BTreeMap::from([("internal.segment.bytes".to_owned(), "20000".to_owned())]),
        shared_keys: None,
    };
    Plan {
        format: FORMAT,
        seed: 1,
        duration_ms: 4_000,
        is_beyond_promises: false,
        node: NodePlan {
            trusts_os: false,
            commits_on_thread: false,
            commits_mixed: false,
            direct_from: 50_000,
            journal_file_bytes: 256 << 10,
            journal_files: 8,
            tail_cache_bytes: 32 << 10,
            broker: BTreeMap::new(),
            clock_skew_ms: 0,
            clock_drift_ppm: 0,
            sync_us_min: 50,
            sync_us_max: 100,
        },
        cluster: None,
        network: NetworkPlan { latency_us_min: 50, latency_us_max: 100, piece_bytes_max: 0, window_bytes: 1 << 20 },
        topics: vec![topic("orders", 2), topic("payments", 1)],
        clients,
        faults: Vec::new(),
    }
}

fn producer(version: i16, is_idempotent: bool, acks: i16) -> ClientPlan {
    let kind = ClientKind::Producer {
        is_idempotent,
        acks,
        in_flight_max: 5,
        request_timeout_ms: 300,
        delivery_timeout_ms: 3_000,
        version,
        first_sequence: 0,
        late_ms_max: 0,
    };
    let produce = |n: u64| Action::Produce {
        topic: usize::from(n.is_multiple_of(3)),
        partition: i32::from(n % 3 == 1),
        records: 1 + u32::try_from(n % 4).expect("small"),
        value_bytes: if n % 40 == 7 { 60_000 } else { 100 },
        codec: u8::try_from(n % 5).expect("small"),
    };
    let operations = (0..200).map(|n| Operation { at_ms: 100 + 10 * n, what: produce(n) }).collect();
    ClientPlan { kind, operations }
}

fn consumer(version: i16, uses_session: bool) -> ClientPlan {
    let kind = ClientKind::Consumer {
        request_timeout_ms: 1_000,
        max_wait_ms: 50,
        min_bytes: 1,
        max_bytes: 1 << 20,
        partition_max_bytes: 8_000,
        uses_session,
        is_read_committed: version % 2 == 0,
        version,
    };
    let what = |n: u64| match n {
        50 => Action::Rewind,
        20 | 60 => Action::ListOffsets { topic: 0, partition: 0, timestamp: -3 },
        30 => Action::ListOffsets { topic: 0, partition: 1, timestamp: 300 },
        n if n % 10 == 3 => Action::Poll { topics: vec![0] },
        _ => Action::Poll { topics: vec![0, 1] },
    };
    let operations = (0..100).map(|n| Operation { at_ms: 100 + 30 * n, what: what(n) }).collect();
    ClientPlan { kind, operations }
}

fn admin(actions: Vec<Action>) -> ClientPlan {
    let at = |(n, what): (usize, Action)| Operation { at_ms: 200 + 100 * n as u64, what };
    let operations = actions.into_iter().enumerate().map(at).collect();
    ClientPlan { kind: ClientKind::Admin { request_timeout_ms: 500 }, operations }
}

/// What the auditor read, by partition and offset.
fn audited(history: &History) -> BTreeMap<TopicPartition, BTreeMap<Offset, (Attempt, u32)>> {
    let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for event in history.events.iter().filter(|event| event.client == ClientId::AUDITOR) {
        if let What::Fetched { partition, records, .. } = &event.what {
            for read in records {
                let known = all.entry(*partition).or_default().insert(read.offset, (read.attempt, read.index));
                assert_eq!(known, None, "{partition} at {}", read.offset);
            }
        }
    }
    all
}

/// Everything that was acknowledged was audited, where it was acknowledged to be.
fn assert_kept(history: &History) -> usize {
    let audited = audited(history);
    let mut acknowledged = 0;
    for event in &history.events {
        if let What::Produced { to, attempt, base, records, .. } = event.what {
            acknowledged += 1;
            for index in 0..records {
                let at = Offset(base.0 + i64::from(index));
                assert_eq!(audited[&to].get(&at), Some(&(attempt, index)), "{to} at {at}");
            }
        }
    }
    acknowledged
}

fn count(history: &History, client: u32, is_it: impl Fn(&What) -> bool) -> usize {
    history.events.iter().filter(|event| event.client == ClientId(client) && is_it(&event.what)).count()
}

fn is_finished_well(what: &What) -> bool {
    matches!(what, What::Finished { is_ok: true, .. })
}

#[test]
fn every_version_of_produce_and_every_codec_reaches_the_log() {
    let versions = ApiKey::Produce.versions();
    let clients = versions.clone().map(|version| producer(version, version % 2 == 0, -1)).collect();
    let history = World::run(&plan(clients), &[]);
    assert_sound(&history);
    assert_eq!(assert_kept(&history), versions.count() * 200);
}

#[test]
fn acks_of_one_are_answered_and_acks_of_none_are_not() {
    let history = World::run(&plan(vec![producer(9, false, 1), producer(11, false, 0)]), &[]);
    assert_sound(&history);
    assert_eq!(assert_kept(&history), 200);
    assert_eq!(count(&history, 1, |what| matches!(what, What::ProduceUnknown { .. })), 200);
    let all: usize = audited(&history).values().map(BTreeMap::len).sum();
    assert_eq!(all, 2 * 200 * 5 / 2, "nothing is lost where nothing goes wrong");
}

#[test]
fn every_version_of_fetch_reads_all_there_is_in_order() {
    let mut clients = vec![producer(13, true, -1)];
    clients.extend(ApiKey::Fetch.versions().flat_map(|version| [consumer(version, false), consumer(version, true)]));
    let history = World::run(&plan(clients.clone()), &[]);
    assert_sound(&history);
    assert_kept(&history);
    let all = audited(&history);
    for client in 1..u32::try_from(clients.len()).expect("few") {
        let mut seen: BTreeMap<TopicPartition, BTreeSet<Offset>> = BTreeMap::new();
        for event in history.events.iter().filter(|event| event.client == ClientId(client)) {
            if let What::Fetched { partition, from, records, code, .. } = &event.what {
                assert_eq!(*code, ErrorCode::None);
                for (n, read) in records.iter().enumerate() {
                    assert_eq!(read.offset.0, from.0 + n as i64, "no gap");
                    assert_eq!(all[partition][&read.offset], (read.attempt, read.index));
                }
                seen.entry(*partition).or_default().extend(records.iter().map(|read| read.offset));
            }
        }
        let told: usize = seen.values().map(BTreeSet::len).sum();
        let there: usize = all.values().map(BTreeMap::len).sum();
        assert!(told * 2 > there, "client {client} read {told} of {there}");
    }
}

#[test]
fn a_session_leaves_out_what_has_no_news() {
    let told = |uses_session| {
        let history = World::run(&plan(vec![producer(9, false, 1), consumer(12, uses_session)]), &[]);
        assert_sound(&history);
        count(&history, 1, |what| matches!(what, What::Fetched { .. }))
    };
    let (with, without) = (told(true), told(false));
    assert!(with < without, "{with} and {without}");
}

#[test]
fn broken_connections_a_mute_broker_and_a_crash_lose_nothing_and_double_nothing_of_an_idempotent_producer() {
    let clients = vec![producer(13, true, -1), producer(7, true, -1), producer(8, false, 1), consumer(13, true)];
    let troubles = [
        (300, Trouble::Reset),
        (500, Trouble::Mute),
        (1_100, Trouble::Kill),
        (1_500, Trouble::Reset),
        (1_900, Trouble::Mute),
    ];
    let history = World::run(&plan(clients), &troubles);
    assert_sound(&history);
    assert_kept(&history);
    for client in [0, 1] {
        assert_eq!(count(&history, client, |what| matches!(what, What::Produced { .. })), 200);
        assert!(count(&history, client, |what| matches!(what, What::Produce { .. })) > 200, "some were sent again");
    }
    let mut seen = BTreeSet::new();
    for (attempt, index) in audited(&history).values().flat_map(BTreeMap::values) {
        assert!(seen.insert((*attempt, *index)) || attempt.client == 2, "{attempt:?} is there twice");
    }
}

#[test]
fn an_admin_changes_what_it_is_asked_to() {
    let actions = vec![
        Action::CreatePartitions { topic: 1, more: 2 },
        Action::AlterConfig { topic: 0, name: "retention.ms".to_owned(), value: Some("100000".to_owned()) },
        Action::AlterConfig { topic: 0, name: "retention.ms".to_owned(), value: None },
        Action::ListOffsets { topic: 0, partition: 0, timestamp: -1 },
        Action::DeleteRecords { topic: 0, partition: 0, permille: 500 },
        Action::CreateTopic { topic: 0 },
        Action::DeleteTopic { topic: 1 },
        Action::DeleteTopic { topic: 1 },
        Action::CreateTopic { topic: 1 },
    ];
    let history = World::run(&plan(vec![admin(actions), producer(9, true, -1), consumer(13, false)]), &[]);
    assert_sound(&history);
    assert_eq!(
        count(&history, 0, |what| matches!(what, What::RecordsDeleted { low_watermark, .. } if low_watermark.0 > 0)),
        1
    );
    assert_eq!(count(&history, 0, |what| matches!(what, What::TopicDeleted { .. })), 1);
    // What exists cannot be created, and what is gone cannot be deleted.
    assert_eq!(count(&history, 0, is_finished_well), 7);
    let out_of_range = |what: &What| matches!(what, What::Fetched { code: ErrorCode::OffsetOutOfRange, .. });
    assert_eq!(count(&history, 2, out_of_range), 0, "the consumer was past what was deleted");
    let refused = |what: &What| matches!(what, What::Finished { is_ok: false, .. });
    assert_eq!(
        count(&history, 1, refused),
        count(&history, 1, |what| matches!(what, What::ProduceUnknown { .. } | What::ProduceRefused { .. }))
    );
}

#[test]
fn every_question_is_answered_well_in_every_version() {
    let actions = (0..70).map(|n| Action::Ask { which: n }).collect();
    let mut plan = plan(vec![admin(actions)]);
    plan.duration_ms = 8_000;
    let history = World::run(&plan, &[]);
    assert_sound(&history);
    assert_eq!(count(&history, 0, is_finished_well), 70);
}

#[test]
fn a_cluster_admin_says_what_shall_be_and_asks_how_it_is() {
    let actions = [
        Action::MoveReplicas { topic: 0, partition: 1, to: vec![1] },
        Action::MoveReplicas { topic: 0, partition: 1, to: vec![2] },
        Action::CancelMove { topic: 0, partition: 0 },
        Action::ElectLeader { topic: 1, partition: 0 },
        Action::AskCluster { which: 0 },
        Action::AskCluster { which: 1 },
    ];
    let at = |(n, what): (usize, Action)| Operation { at_ms: 200 + 100 * n as u64, what };
    let operations = actions.into_iter().enumerate().map(at).collect();
    let admin = ClientPlan { kind: ClientKind::ClusterAdmin { request_timeout_ms: 500 }, operations };
    let history = World::run(&plan(vec![admin, producer(9, true, -1)]), &[(450, Trouble::Reset)]);
    assert_sound(&history);
    let code = |what: &What| if let What::Finished { code, .. } = what { Some(*code) } else { None };
    let events = history.events.iter().filter(|event| event.client == ClientId(0));
    let codes: Vec<_> = events.filter_map(|event| code(&event.what)).collect();
    // There is no second broker, nothing is moved, and the only broker leads already.
    let expect = [
        None,
        Some(ErrorCode::InvalidReplicaAssignment),
        Some(ErrorCode::NoReassignmentInProgress),
        Some(ErrorCode::ElectionNotNeeded),
        None,
        None,
    ];
    assert_eq!(codes, expect);
}

#[test]
fn an_admin_whose_connection_breaks_does_each_thing_once() {
    let actions = vec![Action::DeleteTopic { topic: 1 }, Action::CreateTopic { topic: 1 }];
    let troubles: Vec<_> =
        (0..6).map(|n| (200 + 30 * n, if n % 2 == 0 { Trouble::Mute } else { Trouble::Reset })).collect();
    let history = World::run(&plan(vec![admin(actions)]), &troubles);
    assert_sound(&history);
    assert_eq!(count(&history, 0, is_finished_well), 2);
    assert_eq!(count(&history, 0, |what| matches!(what, What::TopicDeleted { .. })), 1);
    // The two of the plan when it began, and the new one.
    assert_eq!(count(&history, 0, |what| matches!(what, What::TopicCreated { .. })), 3);
}

#[test]
fn no_misdeed_is_taken_and_none_outlasts_its_patience() {
    let misbehave = |which: u8| Operation { at_ms: 100 + 50 * u64::from(which), what: Action::Misbehave { which } };
    let hostile =
        ClientPlan { kind: ClientKind::Hostile, operations: (0..super::garbage::MISDEEDS).map(misbehave).collect() };
    let history = World::run(&plan(vec![hostile, producer(9, true, -1)]), &[]);
    assert_sound(&history);
    assert_eq!(count(&history, 0, is_finished_well), usize::from(super::garbage::MISDEEDS));
    // The batch that is only cut off by its connection, and nothing else of this client's, may be there.
    assert!(audited(&history).values().flat_map(BTreeMap::values).all(|(attempt, _)| attempt.client == 1));
}

#[test]
fn what_the_broker_cannot_take_is_refused_for_good_and_the_rest_goes_on() {
    let mut plan = plan(vec![producer(9, true, -1), producer(3, false, 1)]);
    for topic in &mut plan.topics {
        topic.configs.insert("max.message.bytes".to_owned(), "20000".to_owned());
    }
    let history = World::run(&plan, &[]);
    assert_sound(&history);
    assert_kept(&history);
    for client in [0, 1] {
        let is_refused = |what: &What| matches!(what, What::ProduceRefused { code: ErrorCode::MessageTooLarge, .. });
        assert_eq!(count(&history, client, is_refused), 5);
        assert_eq!(count(&history, client, |what| matches!(what, What::Produced { .. })), 195);
    }
}

#[test]
fn a_plan_that_runs_twice_leaves_the_same_history() {
    let clients = vec![producer(13, true, -1), producer(4, false, 1), consumer(9, true)];
    let troubles = [(300, Trouble::Mute), (700, Trouble::Kill)];
    assert!(World::run(&plan(clients.clone()), &troubles) == World::run(&plan(clients), &troubles));
}

#[test]
fn clients_of_drawn_plans_come_to_an_end_and_keep_what_was_acknowledged() {
    const DURATION_MS: u64 = 4_000;
    for seed in 0..6 {
        let mut plan = draw(seed);
        plan.duration_ms = DURATION_MS;
        for client in &mut plan.clients {
            client.operations.retain(|operation| operation.at_ms < DURATION_MS);
        }
        // Then nothing is superseded where a topic compacts.
        plan.topics.iter_mut().for_each(|topic| topic.shared_keys = None);
        let troubles = [Trouble::Reset, Trouble::Mute, Trouble::Kill, Trouble::Reset, Trouble::Kill, Trouble::Mute];
        let troubles: Vec<_> = troubles.into_iter().enumerate().map(|(n, what)| (600 + 500 * n as u64, what)).collect();
        let history = World::run(&plan, &troubles);
        assert_sound(&history);
        let audited = audited(&history);
        for event in &history.events {
            let What::Produced { to, attempt, base, .. } = event.what else { continue };
            // A topic may have been deleted, and the start of a log.
            let Some(log) = audited.get(&to) else { continue };
            if log.keys().next().is_some_and(|start| *start <= base) {
                assert_eq!(log.get(&base), Some(&(attempt, 0)), "seed {seed}: {to} at {base}");
            }
        }
    }
}
