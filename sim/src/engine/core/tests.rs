//! The engine with small plans written by hand.

use super::run;
use crate::claims;
use crate::engine::testing::{acknowledged, at, compacting_plan, plan};
use crate::engine::{Run, Watch};
use crate::plan::{Fault, FaultKind, Plan};

fn check(faults: Vec<Fault>) -> Run {
    check_plan(&plan(faults))
}

fn check_plan(plan: &Plan) -> Run {
    let run = run(plan, &Watch::default());
    assert_eq!(claims::judge(plan, &run.history), []);
    assert_eq!(acknowledged(&run), 300, "all is acknowledged in the end");
    let again = super::run(plan, &Watch { trace: true, ..Watch::default() });
    assert_eq!((again.digest, again.events), (run.digest, run.events), "one plan, one run, whoever watches");
    run
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
fn compaction_removes_what_is_superseded_and_dies_without_loss() {
    let faults = vec![
        at(1_000, FaultKind::DiskSlow { for_ms: 500, factor: 50 }),
        at(1_300, FaultKind::PowerLoss { down_ms: 50, keep_permille: 500, sector_bytes: 512 }),
        at(2_000, FaultKind::Kill { down_ms: 50 }),
    ];
    let run = check_plan(&compacting_plan(faults));
    assert!(run.counters["compacted_reads"] > 0, "readers pass over what is gone");
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
