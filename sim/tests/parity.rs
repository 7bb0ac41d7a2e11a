//! What the engines must agree on: the same small plans leave the same records behind in the event loop, and in the
//! production binary with real files and sockets.
//!
//! `CHRONIK_PARITY_PLANS` says how many plans; ten where it does not. The production shell on simulated sockets takes
//! part where it was built (`--cfg madsim`).

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use chronik_core::rng::Rng;
use chronik_sim::claims;
use chronik_sim::engine::real::{self, Place, final_log};
use chronik_sim::engine::{Watch, core};
use chronik_sim::plan::{
    Action, ClientKind, ClientPlan, FORMAT, Fault, FaultKind, NetworkPlan, NodePlan, Operation, Plan, TopicPlan,
};

/// So many plans at once: each spends most of its time waiting.
const AT_ONCE: u64 = 5;

/// One producer with one batch outstanding at a time, so that its order does not depend on timing, through one or two
/// ends of the broker.
fn plan(seed: u64) -> Plan {
    let mut rng = Rng::from_number(seed);
    let partitions = 1 + rng.below(3) as i32;
    let mut operation = |number: u64| Operation {
        at_ms: number * 20,
        what: Action::Produce {
            topic: 0,
            partition: rng.below(partitions as u64) as i32,
            records: 1 + rng.below(5) as u32,
            value_bytes: 20 + rng.below(3_000) as u32,
            codec: rng.below(5) as u8,
        },
    };
    let operations = (0..40).map(&mut operation).collect();
    let end = |at_ms, is_kill| match is_kill {
        true => Fault::new(at_ms, FaultKind::Kill { down_ms: 10 }),
        false => Fault::new(at_ms, FaultKind::Restart { down_ms: 10 }),
    };
    let faults =
        (0..1 + rng.below(2)).map(|number| end(250 + number * 350 + rng.below(100), rng.below(2) == 0)).collect();
    Plan {
        format: FORMAT,
        seed,
        duration_ms: 1_200,
        is_beyond_promises: false,
        node: NodePlan {
            trusts_os: rng.below(2) == 0,
            commits_on_thread: rng.below(2) == 0,
            commits_mixed: false,
            direct_from: 256 << 10,
            journal_file_bytes: 256 << 10,
            journal_files: 6,
            tail_cache_bytes: 1 << 20,
            broker: BTreeMap::new(),
            clock_skew_ms: 0,
            clock_drift_ppm: 0,
            sync_us_min: 50,
            sync_us_max: 500,
        },
        cluster: None,
        network: NetworkPlan { latency_us_min: 50, latency_us_max: 500, piece_bytes_max: 0, window_bytes: 256 << 10 },
        topics: vec![TopicPlan {
            name: "orders".into(),
            partitions,
            replication: 1,
            configs: BTreeMap::new(),
            shared_keys: None,
        }],
        clients: vec![ClientPlan {
            kind: ClientKind::Producer {
                is_idempotent: true,
                acks: -1,
                in_flight_max: 1,
                request_timeout_ms: 2_000,
                delivery_timeout_ms: 30_000,
                version: 13,
                first_sequence: 0,
                late_ms_max: 0,
            },
            operations,
        }],
        faults,
    }
}

/// The binary that `CHRONIK_SERVER` names, or else the one that was built last in the workspace, after seeing to it that
/// there is one. For simulated sockets there is no binary, so it is never the one beside this test.
fn binary() -> PathBuf {
    if let Some(binary) = env::var_os("CHRONIK_SERVER") {
        return binary.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in a workspace");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let binary = target.join("debug/chronik-server");
    if !binary.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "chronik-server"]).current_dir(workspace).env_remove("RUSTFLAGS");
        assert!(build.status().expect("cargo can be run").success(), "chronik-server cannot be built");
    }
    binary
}

/// Below the ports for outgoing connections, where one of those could take it while the broker is down. Tried by
/// connecting: a listener lives on in a process that is started at that moment, until it executes its own program.
fn free_port(seed: u64) -> u16 {
    let first = 12_000 + (u64::from(std::process::id()) * 17 + seed * 7) % 3_000;
    let ports =
        (0..1_000).map(|number| u16::try_from(12_000 + (first - 12_000 + number) % 3_000).expect("below 15,000"));
    let mut free = ports.filter(|&port| TcpStream::connect(("127.0.0.1", port)).is_err());
    free.next().expect("there is a free port")
}

fn check(seed: u64, binary: &Path) {
    let plan = plan(seed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("parity-{}-{seed}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder can be made");
    let place = Place { binary: binary.to_owned(), folder: folder.clone(), port: free_port(seed) };
    let found = real::run(&plan, &place);
    let found = found.unwrap_or_else(|why| panic!("plan {seed} cannot be carried out for real: {why}"));
    assert_eq!(claims::judge(&plan, &found), [], "plan {seed} for real");
    let simulated = core::run(&plan, &Watch::default());
    assert_eq!(claims::judge(&plan, &simulated.history), [], "plan {seed} in the event loop");
    let expected = final_log(&simulated.history);
    assert!(expected.values().map(BTreeMap::len).sum::<usize>() >= 40, "plan {seed} leaves records behind");
    assert_eq!(final_log(&found), expected, "plan {seed}");
    #[cfg(madsim)]
    {
        let shell = chronik_sim::engine::madsim::run(&plan, &Watch::default());
        assert_eq!(final_log(&shell.history), expected, "plan {seed} on simulated sockets");
    }
    fs::remove_dir_all(&folder).expect("the folder is our own");
}

#[test]
fn the_same_plans_leave_the_same_records_behind_simulated_and_real() {
    let binary = binary();
    let plans = env::var("CHRONIK_PARITY_PLANS").map_or(10, |plans| plans.parse().expect("a number of plans"));
    for first in (0..plans).step_by(AT_ONCE as usize) {
        thread::scope(|scope| {
            for seed in first..plans.min(first + AT_ONCE) {
                let binary = &binary;
                scope.spawn(move || check(seed, binary));
            }
        });
    }
}
