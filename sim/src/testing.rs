//! An engine and a judge that need no broker, for the tests of the tools.

use std::collections::BTreeMap;

use chronik_core::time::Instant;

use crate::claims::{Claim, Violation};
use crate::engine::{Lane, Run, Traced, Watch};
use crate::history::{ClientId, Event, What};
use crate::plan::{
    Action, ClientKind, ClientPlan, ClusterPlan, FORMAT, Fault, FaultKind, MachinePlan, NetworkPlan, NodePlan,
    Operation, Plan, TopicPlan,
};
use crate::trial::{Canaries, Engine, Parts};

/// How many events the engine of this file goes through.
pub(crate) const EVENTS: u64 = 100;

/// An engine whose run fails one claim, `acked-is-there`, where the seed is odd.
pub(crate) fn parts() -> Parts {
    Parts {
        draw: |seed, _| Plan { seed, ..plan() },
        draw_beyond: |seed, _| Plan { seed, is_beyond_promises: true, ..plan() },
        core: |plan, watch| run(plan, watch, u64::MAX),
        madsim: None,
        judge: |plan, history| match plan.seed % 2 {
            0 => Vec::new(),
            _ => vec![Violation {
                claim: "acked-is-there",
                event: history.events.len() / 2,
                text: "offset 7 of t0-0 was acknowledged and is not there".to_string(),
            }],
        },
        claims: || &[Claim { name: "acked-is-there", meaning: "What was acknowledged is there." }],
        counters: &["kill", "power_loss"],
        canaries: Canaries {
            names: || Ok(vec![("ack-before-sync".to_string(), "An acknowledgement before the sync.".to_string())]),
            become_planted: |name, _| format!("`{name}` is not built in a test"),
            planted: || None,
            score: || Err("nothing is scored in a test".to_string()),
        },
    }
}

/// An engine that panics at the event whose number is the plan's seed.
pub(crate) const PANICS: Engine = |plan, watch| run(plan, watch, plan.seed);

fn run(plan: &Plan, watch: &Watch, panics_at: u64) -> Run {
    let mut run = Run { digest: plan.seed, counters: BTreeMap::from([("kill", 1)]), ..Run::default() };
    for event in 0..EVENTS.min(watch.until.unwrap_or(u64::MAX)) {
        assert!(event != panics_at, "an event too many");
        let at = Instant(event * 1_000_000);
        run.events += 1;
        run.simulated = at;
        run.history.events.push(Event {
            at,
            node: 1,
            client: ClientId(0),
            operation: Some(0),
            what: What::Finished { is_ok: true, code: None },
        });
        if watch.trace {
            let is_answer = event % 2 == 1;
            run.trace.push(Traced {
                event,
                at,
                lane: if is_answer { Lane::Client(0) } else { Lane::Node(0) },
                from: Some(if is_answer { Lane::Node(0) } else { Lane::Client(0) }),
                sent_at: Some(Instant(at.0.saturating_sub(500_000))),
                text: if is_answer { "Produced" } else { "Produce <t0>" }.to_string(),
            });
        }
        if watch.print_at == Some(event) {
            run.state.push((Lane::Node(0), "log end 7".to_string()));
        }
    }
    run
}

/// A plan with two topics, three clients of 40 operations each and 24 faults.
pub(crate) fn plan() -> Plan {
    let produce = |index: u64| Operation {
        at_ms: index * 100,
        what: Action::Produce { topic: (index % 2) as usize, partition: 0, records: 8, value_bytes: 200, codec: 0 },
    };
    let producer = ClientKind::Producer {
        is_idempotent: true,
        acks: -1,
        in_flight_max: 5,
        request_timeout_ms: 1_000,
        delivery_timeout_ms: 10_000,
        version: 9,
        first_sequence: 0,
        late_ms_max: 0,
    };
    let client = ClientPlan { kind: producer, operations: (0..40).map(produce).collect() };
    let fault = |index: u64| {
        let what = match index % 3 {
            0 => FaultKind::Kill { down_ms: 100 },
            1 => FaultKind::DiskSlow { for_ms: 64, factor: 10 },
            _ => FaultKind::Reset { client: (index % 2) as usize },
        };
        Fault::new(index * 200, what)
    };
    Plan {
        format: FORMAT,
        seed: 1,
        duration_ms: 5_000,
        is_beyond_promises: false,
        node: NodePlan {
            trusts_os: false,
            commits_on_thread: false,
            commits_mixed: false,
            direct_from: 1 << 20,
            journal_file_bytes: 1 << 20,
            journal_files: 4,
            tail_cache_bytes: 1 << 20,
            broker: BTreeMap::from([("log.segment.bytes".to_string(), "65536".to_string())]),
            clock_skew_ms: 7,
            clock_drift_ppm: 20,
            sync_us_min: 50,
            sync_us_max: 400,
        },
        cluster: None,
        network: NetworkPlan { latency_us_min: 20, latency_us_max: 300, piece_bytes_max: 1_460, window_bytes: 65_536 },
        topics: ["t0", "t1"]
            .map(|name| TopicPlan {
                name: name.to_string(),
                partitions: 2,
                replication: 1,
                configs: BTreeMap::from([("cleanup.policy".to_string(), "delete".to_string())]),
                shared_keys: None,
            })
            .to_vec(),
        clients: vec![client; 3],
        faults: (0..24).map(fault).collect(),
    }
}

/// The same for a cluster of so many brokers, with a fault of each of them and one between them.
pub(crate) fn cluster_plan(nodes: u32) -> Plan {
    let mut plan = plan();
    let machine = |node: u32| MachinePlan {
        commits_on_thread: true,
        clock_skew_ms: 100 * i64::from(node),
        clock_drift_ppm: 0,
        sync_us_min: 60,
        sync_us_max: 500,
    };
    let others = (2..=nodes).map(machine).collect();
    plan.cluster = Some(ClusterPlan { others, network: plan.network.clone(), founders: None });
    plan.topics.iter_mut().for_each(|topic| topic.replication = nodes.min(3));
    plan.faults.extend((1..=nodes).map(|node| Fault::new(2_500, FaultKind::Kill { down_ms: 100 }).of(node)));
    plan.faults.push(Fault::new(3_000, FaultKind::LinkMuted { to: nodes, for_ms: 500 }));
    plan
}
