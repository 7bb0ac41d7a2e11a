//! The engine with small plans written by hand.

use std::process::Command;

use super::run;
use crate::claims;
use crate::engine::testing::{acknowledged, at, compacting_plan, plan};
use crate::engine::{Run, Watch};
use crate::plan::{Fault, FaultKind, FileKind, Plan};

fn check_plan(plan: &Plan) -> Run {
    let run = run(plan, &Watch::default());
    assert_eq!(claims::judge(plan, &run.history), []);
    assert_eq!(acknowledged(&run), 300, "all is acknowledged in the end");
    run
}

fn check(faults: Vec<Fault>) -> Run {
    check_plan(&plan(faults))
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
fn commits_on_a_thread_are_interrupted_by_a_crash() {
    let mut plan = plan(vec![at(503, FaultKind::Kill { down_ms: 1 }), at(1_501, FaultKind::Kill { down_ms: 1 })]);
    plan.node.commits_on_thread = true;
    (plan.node.sync_us_min, plan.node.sync_us_max) = (5_000, 9_000);
    let run = check_plan(&plan);
    assert!(run.counters["crash_in_disk_work"] > 0);
}

#[test]
fn a_process_that_is_asked_to_stop_does_so_and_comes_back() {
    let run = check(vec![at(700, FaultKind::Restart { down_ms: 50 })]);
    assert_eq!(run.counters["restart"], 1);
}

#[test]
fn a_recovery_that_dies_is_begun_again() {
    let what = |loses_power| FaultKind::KillInRecovery { changes: 1, loses_power };
    let run = check(vec![at(500, what(false)), at(1_500, what(true))]);
    assert_eq!((run.counters["crash_in_recovery"], run.counters["power_loss_in_recovery"]), (1, 1));
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
        at(2_400, FaultKind::Reset { client: 0 }),
        at(2_400, FaultKind::Refuse { for_ms: 100 }),
        at(2_600, FaultKind::Reset { client: 1 }),
        at(2_600, FaultKind::Blackhole { for_ms: 200 }),
    ];
    let run = check(faults);
    for name in ["reset", "half_open", "connect_refused", "connect_unanswered"] {
        assert!(run.counters[name] > 0, "{name}");
    }
}

#[test]
fn a_process_that_stands_still_and_a_disk_that_stalls_cost_only_time() {
    let faults = vec![
        at(300, FaultKind::Pause { for_ms: 400 }),
        at(1_000, FaultKind::DiskStall { for_ms: 300 }),
        at(1_500, FaultKind::DiskSlow { for_ms: 500, factor: 20 }),
    ];
    check(faults);
}

#[test]
fn a_failing_sync_ends_the_process_and_costs_nothing() {
    let run = check(vec![at(500, FaultKind::SyncFails { of: FileKind::Journal })]);
    assert_eq!(run.counters["fatal"], 1);
}

#[test]
fn what_the_broker_tells_its_operator_is_in_the_history() {
    use crate::history::What;
    let run = check(vec![at(500, FaultKind::Restart { down_ms: 50 })]);
    assert!(run.history.events.iter().any(|event| matches!(event.what, What::Logged { .. })));
}

/// One run of a plan with faults; says its digest to whoever started this process.
#[test]
fn a_run_has_a_digest() {
    let run = check(vec![at(500, FaultKind::Kill { down_ms: 100 }), at(900, FaultKind::Reset { client: 0 })]);
    println!("the digest is {:016x} after {} events", run.digest, run.events);
}

#[test]
fn two_processes_agree_on_a_run() {
    let digest = || {
        let mut command = Command::new(std::env::current_exe().expect("a test runs from a file"));
        command.args(["engine::madsim::tests::a_run_has_a_digest", "--exact", "--nocapture", "--test-threads=1"]);
        let output = command.output().expect("it can be started again");
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_once("the digest is ").expect("the run says its digest").1[..16].to_owned()
    };
    assert_eq!(digest(), digest());
}
