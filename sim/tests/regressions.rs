//! What plain `cargo test` runs of the simulator: every named scenario, and a few seeds, on engine `core`, each twice.
//!
//! It is short by choice, since it runs in a debug build: hunts are for finding, this is for not losing again.

use chronik_sim::engine::{self, COUNTERS, Run, Watch};
use chronik_sim::plan::{Plan, draw};
use chronik_sim::scenario;
use chronik_sim::trial::EngineName;
use chronik_sim::{claims, report};

/// So much of a drawn plan is run, in simulated milliseconds.
const SEED_MS: u64 = 5_000;

/// These seeds. Which ones does not matter, only that they stay.
const SEEDS: std::ops::Range<u64> = 1..9;

/// Every claim holds, and a second run is the same one.
fn check(name: &str, plan: &Plan) {
    let run = carry_out(plan);
    let violations = claims::judge(plan, &run.history);
    let told: Vec<String> = violations.iter().map(|one| format!("{}: {}", one.claim, one.text)).collect();
    assert!(told.is_empty(), "{name}:\n  {}\n{}", told.join("\n  "), report::draw_plan(plan));
    assert_eq!(carry_out(plan).digest, run.digest, "{name}: a second run of the same plan differs");
    for counted in run.counters.keys() {
        assert!(COUNTERS.contains(counted), "{name}: `{counted}` is counted, but no hunt would miss it");
    }
}

fn carry_out(plan: &Plan) -> Run {
    engine::core::run(plan, &Watch::default())
}

#[test]
fn every_scenario_holds_and_runs_the_same_twice() {
    let folder = scenario::folder();
    for name in scenario::names(&folder).expect("the scenarios are part of the sources") {
        let scenario = scenario::read(&folder, &name).expect("a scenario");
        if scenario.engines.contains(&EngineName::Core) {
            check(&format!("cargo sim --scenario {name} --engine core"), &scenario.plan);
        }
    }
}

#[test]
fn a_few_seeds_hold_and_run_the_same_twice() {
    for seed in SEEDS {
        let mut plan = draw::draw(seed);
        plan.duration_ms = plan.duration_ms.min(SEED_MS);
        plan.faults.retain(|fault| fault.at_ms < SEED_MS);
        for client in &mut plan.clients {
            client.operations.retain(|operation| operation.at_ms < SEED_MS);
        }
        check(&format!("the first {SEED_MS} ms of seed {seed}"), &plan);
    }
}
