//! The engine with small plans written by hand.

use std::collections::BTreeMap;

use super::run;
use crate::claims;
use crate::engine::{Run, Watch};
use crate::history::What;
use crate::plan::{
    Action, ClientKind, ClientPlan, FORMAT, Fault, FaultKind, NetworkPlan, NodePlan, Operation, Plan, TopicPlan,
};

/// One topic, an idempotent producer that sends every 10 ms, a consumer that polls every 20 ms, for three seconds.
fn plan(faults: Vec<Fault>) -> Plan {
    let topic = TopicPlan { name: "orders".into(), partitions: 2, configs: BTreeMap::new() };
    let produce = |number: u64| Operation {
        at_ms: number * 10,
        what: Action::Produce { topic: 0, partition: (number % 2) as i32, records: 3, value_bytes: 100, codec: 0 },
    };
    let poll = |number: u64| Operation { at_ms: number * 20, what: Action::Poll { topics: vec![0] } };
    let producer = ClientKind::Producer {
        is_idempotent: true,
        acks: -1,
        in_flight_max: 5,
        request_timeout_ms: 2_000,
        delivery_timeout_ms: 60_000,
        version: 13,
    };
    let consumer = ClientKind::Consumer {
        request_timeout_ms: 2_000,
        max_wait_ms: 50,
        min_bytes: 1,
        max_bytes: 1 << 20,
        partition_max_bytes: 1 << 18,
        uses_session: true,
        is_read_committed: false,
        version: 17,
    };
    Plan {
        format: FORMAT,
        seed: 7,
        duration_ms: 3_000,
        is_beyond_promises: false,
        node: NodePlan {
            trusts_os: false,
            commits_on_thread: false,
            direct_from: 256 << 10,
            journal_file_bytes: 64 << 10,
            journal_files: 6,
            tail_cache_bytes: 1 << 20,
            broker: BTreeMap::new(),
            clock_skew_ms: 0,
            clock_drift_ppm: 100,
            sync_us_min: 50,
            sync_us_max: 500,
        },
        network: NetworkPlan { latency_us_min: 50, latency_us_max: 500, piece_bytes_max: 0, window_bytes: 256 << 10 },
        topics: vec![topic],
        clients: vec![
            ClientPlan { kind: producer, operations: (0..300).map(produce).collect() },
            ClientPlan { kind: consumer, operations: (0..150).map(poll).collect() },
        ],
        faults,
    }
}

fn acknowledged(run: &Run) -> usize {
    run.history.events.iter().filter(|event| matches!(event.what, What::Produced { .. })).count()
}

fn check(faults: Vec<Fault>) -> Run {
    let plan = plan(faults);
    let run = run(&plan, &Watch::default());
    assert_eq!(claims::judge(&plan, &run.history), []);
    assert_eq!(acknowledged(&run), 300, "all is acknowledged in the end");
    let again = super::run(&plan, &Watch { trace: true, ..Watch::default() });
    assert_eq!((again.digest, again.events), (run.digest, run.events), "one plan, one run, whoever watches");
    run
}

fn at(at_ms: u64, what: FaultKind) -> Fault {
    Fault { at_ms, what }
}

#[test]
fn without_faults_everything_is_acknowledged_and_read() {
    check(Vec::new());
}

#[test]
fn a_process_that_is_killed_goes_on_where_it_was() {
    let run = check(vec![at(500, FaultKind::Kill { down_ms: 100 }), at(1_500, FaultKind::Kill { down_ms: 1 })]);
    assert_eq!(run.counters["crash"], 2);
}

#[test]
fn a_machine_that_loses_its_power_loses_nothing_that_was_acknowledged() {
    let what = |sector_bytes| FaultKind::PowerLoss { down_ms: 100, keep_permille: 500, sector_bytes };
    let run = check(vec![at(500, what(512)), at(1_500, what(4096))]);
    assert_eq!(run.counters["power_loss"], 2);
}

#[test]
fn a_network_that_breaks_cuts_and_stalls_costs_only_time() {
    let faults = vec![
        at(200, FaultKind::Fragment { client: 0, for_ms: 300 }),
        at(600, FaultKind::Reset { client: 0 }),
        at(800, FaultKind::MuteToClient { client: 0, for_ms: 500 }),
        at(1_400, FaultKind::HalfOpen { client: 1 }),
        at(1_500, FaultKind::SlowReader { client: 1, for_ms: 500 }),
        at(1_600, FaultKind::MuteToServer { client: 0, for_ms: 300 }),
        at(2_000, FaultKind::Delay { client: 0, for_ms: 300, up_to_ms: 50 }),
    ];
    check(faults);
}

#[test]
fn a_failing_sync_ends_the_process_and_costs_nothing() {
    let run = check(vec![at(500, FaultKind::SyncFails { of: crate::plan::FileKind::Journal })]);
    assert_eq!(run.counters["fatal"], 1);
}
