//! The engine with small plans written by hand.

use std::process::Command;

use super::run;
use crate::claims;
use crate::engine::testing::{acknowledged, at, compacting_plan, plan};
use crate::engine::{Run, Watch};
use crate::plan::{ClusterPlan, Fault, FaultKind, FileKind, MachinePlan, NetworkPlan, Plan, Way};

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

/// The same clients and three brokers, with the topic on all of them.
fn cluster(faults: Vec<Fault>) -> Plan {
    let mut plan = plan(faults);
    let machine = |commits_on_thread| MachinePlan {
        commits_on_thread,
        clock_skew_ms: 0,
        clock_drift_ppm: 0,
        sync_us_min: 100,
        sync_us_max: 2_000,
    };
    let network =
        NetworkPlan { latency_us_min: 50, latency_us_max: 1_000, piece_bytes_max: 0, window_bytes: 256 << 10 };
    plan.cluster = Some(ClusterPlan { others: vec![machine(false), machine(true)], network, founders: None });
    plan.node.journal_file_bytes = 256 << 10;
    plan.topics[0].replication = 3;
    plan.topics[0].configs.insert("min.insync.replicas".to_owned(), "2".to_owned());
    let settings = [("broker.session.timeout.ms", "2000"), ("broker.heartbeat.interval.ms", "400")];
    plan.node.broker.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    plan
}

fn check_cluster(faults: Vec<Fault>) -> Run {
    check_plan(&cluster(faults))
}

#[test]
fn three_brokers_form_a_cluster_and_serve() {
    use crate::history::{Role, What};
    let run = check_cluster(Vec::new());
    let leads = |event: &crate::history::Event| matches!(&event.what, What::Stands(standing) if standing.role == Role::Leads && standing.in_sync.len() == 3);
    assert!(run.history.events.iter().any(leads), "a leader has all of its followers in sync");
}

#[test]
fn any_broker_may_die_and_lose_its_power_and_come_back() {
    let power_loss = FaultKind::PowerLoss { down_ms: 1_000, keep_permille: 500, sector_bytes: 512 };
    let run = check_cluster(vec![
        at(500, FaultKind::Kill { down_ms: 100 }),
        at(1_000, power_loss).of(2),
        at(2_500, FaultKind::Restart { down_ms: 100 }).of(3),
    ]);
    assert_eq!((run.counters["crash"], run.counters["power_loss"], run.counters["restart"]), (1, 1, 1));
}

#[test]
fn brokers_that_are_parted_one_way_or_both_find_each_other_again() {
    let run = check_cluster(vec![
        at(300, FaultKind::LinkSlow { to: 2, for_ms: 500, up_to_ms: 50 }),
        at(500, FaultKind::Isolated { for_ms: 1_000, way: Way::Both }),
        at(800, FaultKind::LinkReset { with: 3 }).of(2),
        at(1_000, FaultKind::LinkRefused { with: 3, for_ms: 600 }).of(2),
        at(1_700, FaultKind::LinkMuted { to: 1, for_ms: 1_000 }).of(2),
        at(1_800, FaultKind::Isolated { for_ms: 1_000, way: Way::In }).of(3),
    ]);
    for name in ["isolated", "link_muted", "link_refused", "link_reset", "link_slow"] {
        assert!(run.counters[name] > 0, "{name}");
    }
}

#[test]
fn a_machine_that_is_silent_for_long_is_given_up() {
    let mut plan = cluster(vec![at(500, FaultKind::Isolated { for_ms: 12_000, way: Way::Out })]);
    plan.duration_ms = 14_000;
    let run = check_plan(&plan);
    assert!(run.counters["link_given_up"] > 0);
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
