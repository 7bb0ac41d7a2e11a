//! A small plan for the engines' tests.

use std::collections::BTreeMap;

use super::Run;
use crate::history::What;
use crate::plan::{
    Action, ClientKind, ClientPlan, FORMAT, Fault, FaultKind, NetworkPlan, NodePlan, Operation, Plan, TopicPlan,
};
use crate::value::SharedKeys;

/// One topic, an idempotent producer that sends every 10 ms, a consumer that polls every 20 ms, for three seconds.
pub(super) fn plan(faults: Vec<Fault>) -> Plan {
    let topic =
        TopicPlan { name: "orders".into(), partitions: 2, replication: 1, configs: BTreeMap::new(), shared_keys: None };
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
        first_sequence: 0,
        late_ms_max: 0,
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
            commits_mixed: false,
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
        cluster: None,
        network: NetworkPlan { latency_us_min: 50, latency_us_max: 500, piece_bytes_max: 0, window_bytes: 256 << 10 },
        topics: vec![topic],
        clients: vec![
            ClientPlan { kind: producer, operations: (0..300).map(produce).collect() },
            ClientPlan { kind: consumer, operations: (0..150).map(poll).collect() },
        ],
        faults,
    }
}

/// The same, with a topic that compacts a few keys, again and again while it is written to.
pub(super) fn compacting_plan(faults: Vec<Fault>) -> Plan {
    let mut plan = plan(faults);
    let configs = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "2000"),
        ("min.cleanable.dirty.ratio", "0"),
        ("max.compaction.lag.ms", "500"),
        ("delete.retention.ms", "300"),
        ("file.delete.delay.ms", "0"),
    ];
    plan.topics[0].configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    plan.topics[0].shared_keys = Some(SharedKeys { count: 8, tombstones_permille: 200 });
    plan.node.broker.insert("log.cleaner.backoff.ms".to_owned(), "100".to_owned());
    plan
}

/// How many produces were acknowledged.
pub(super) fn acknowledged(run: &Run) -> usize {
    run.history.events.iter().filter(|event| matches!(event.what, What::Produced { .. })).count()
}

pub(super) fn at(at_ms: u64, what: FaultKind) -> Fault {
    Fault::new(at_ms, what)
}
