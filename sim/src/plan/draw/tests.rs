use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::*;
use crate::plan::{Action, ClientKind, Fault, FaultKind, Operation};

/// Seeds whose whole plans are looked at: they take a while to draw without optimisation.
const SEEDS: u64 = 60;
/// Seeds whose faults alone are looked at.
const FAULT_SEEDS: u64 = 300;

fn name_of(kind: &FaultKind) -> String {
    let text = format!("{kind:?}");
    text.split(' ').next().expect("a kind has a name").to_owned()
}

fn plans() -> &'static [Plan] {
    static PLANS: OnceLock<Vec<Plan>> = OnceLock::new();
    PLANS.get_or_init(|| (0..SEEDS).map(draw).collect())
}

/// Whether commits are synced, and the faults, of a seed's plan.
fn faults_of(seed: u64, atlas: Atlas) -> (bool, Vec<Fault>) {
    let root = Root(Rng::from_number(seed));
    let node = node(&mut root.of(Key::Node));
    (!node.trusts_os, faults::faults(&root, atlas, node.trusts_os, 3))
}

#[test]
fn a_seed_names_one_plan_and_json_keeps_it() {
    for seed in 0..5 {
        for draw in [draw, draw_beyond] {
            let plan = draw(seed);
            assert!(plan == draw(seed));
            assert!(Plan::from_json(&plan.to_json()) == Ok(plan));
        }
        assert!(draw(seed) != draw(seed + 1));
    }
}

#[test]
fn a_plan_has_work_for_every_client_and_enough_of_it() {
    for plan in plans() {
        let seed = plan.seed;
        assert!(plan.faults.len() >= 5, "seed {seed}");
        assert!((2..=15).contains(&plan.clients.len()), "seed {seed}");
        assert!((1..=4).contains(&plan.topics.len()), "seed {seed}");
        assert!(plan.operations() as u64 >= 100 * plan.duration_ms / 1_000, "seed {seed}");
        let has = |is_it: fn(&ClientKind) -> bool| plan.clients.iter().any(|client| is_it(&client.kind));
        assert!(has(|kind| matches!(kind, ClientKind::Producer { .. })), "seed {seed}");
        assert!(has(|kind| matches!(kind, ClientKind::Consumer { .. })), "seed {seed}");
        for client in &plan.clients {
            assert!(!client.operations.is_empty(), "seed {seed}");
            assert!(client.operations.is_sorted_by_key(|operation| operation.at_ms), "seed {seed}");
        }
        assert!(plan.faults.is_sorted_by_key(|fault| fault.at_ms), "seed {seed}");
        assert!(plan.faults.iter().all(|fault| fault.at_ms <= plan.duration_ms), "seed {seed}");
    }
}

#[test]
fn whoever_gives_up_does_so_before_the_run_ends() {
    for plan in plans() {
        for client in &plan.clients {
            if let ClientKind::Producer { request_timeout_ms, delivery_timeout_ms, .. } = client.kind {
                assert!(request_timeout_ms < delivery_timeout_ms);
                assert!(delivery_timeout_ms + request_timeout_ms < crate::plan::HEAL_MS);
            }
        }
    }
}

#[test]
fn every_kind_of_fault_and_of_operation_is_drawn() {
    let all = (0..FAULT_SEEDS).flat_map(|seed| [faults_of(seed, Atlas::Promised), faults_of(seed, Atlas::Beyond)]);
    let faults: BTreeSet<String> = all.flat_map(|(_, faults)| faults).map(|fault| name_of(&fault.what)).collect();
    assert_eq!(faults.len(), 25, "{faults:?}");
    let operations = plans().iter().flat_map(|plan| &plan.clients).flat_map(|client| &client.operations);
    let name = |Operation { what, .. }: &Operation| {
        format!("{what:?}").split(' ').next().expect("an action has a name").to_owned()
    };
    let actions: BTreeSet<String> = operations.map(name).collect();
    assert_eq!(actions.len(), 23, "{actions:?}");
}

fn is_beyond(what: &FaultKind) -> bool {
    matches!(
        what,
        FaultKind::ReadFails { .. }
            | FaultKind::BitFlip { .. }
            | FaultKind::MisdirectedWrite { .. }
            | FaultKind::LyingSync { .. }
            | FaultKind::TruncatedIndex
    )
}

#[test]
fn nothing_that_is_promised_loses_what_was_acknowledged() {
    for seed in 0..FAULT_SEEDS {
        let (is_synced, faults) = faults_of(seed, Atlas::Promised);
        assert!(faults.len() >= 5, "seed {seed}");
        for Fault { what, .. } in faults {
            let needs_sync = matches!(
                what,
                FaultKind::PowerLoss { .. }
                    | FaultKind::SyncFails { .. }
                    | FaultKind::KillInRecovery { loses_power: true, .. }
            );
            assert!(!is_beyond(&what) && (is_synced || !needs_sync), "seed {seed}: {what:?}");
        }
        let (_, faults) = faults_of(seed, Atlas::Beyond);
        assert!(faults.iter().any(|fault| is_beyond(&fault.what)), "seed {seed}");
    }
}

#[test]
fn one_admin_at_most_changes_topics() {
    for plan in plans() {
        let is_changing =
            |operation: &Operation| matches!(operation.what, Action::CreateTopic { .. } | Action::DeleteTopic { .. });
        let changing = plan.clients.iter().filter(|client| client.operations.iter().any(is_changing)).count();
        assert!(changing <= 1, "seed {}", plan.seed);
    }
}

#[test]
fn a_fault_more_changes_nothing_about_the_others() {
    let root = Root(Rng::from_number(9));
    let draw = |number| root.numbered(Key::Faults, number).below(1 << 40);
    let (third, _) = (draw(3), draw(4));
    assert_eq!(third, draw(3));
    assert_ne!(draw(3), root.numbered(Key::Topics, 3).below(1 << 40));
}

#[test]
fn stories_are_promised_and_most_plans_have_one() {
    let mut told = 0;
    for plan in plans() {
        let root = Root(Rng::from_number(plan.seed));
        for loses_power in [false, true] {
            let stories = stories::stories(&root, loses_power, &plan.clients);
            assert!(stories.iter().all(|fault| !is_beyond(&fault.what)), "seed {}", plan.seed);
            let is_power = |fault: &Fault| matches!(fault.what, FaultKind::PowerLoss { .. });
            assert!(loses_power || !stories.iter().any(is_power), "seed {}", plan.seed);
            told += usize::from(!stories.is_empty());
        }
    }
    assert!(told > plans().len(), "{told}");
}

#[test]
fn what_strikes_compaction_is_promised_and_enough_topics_are_compacted() {
    let (mut shared, mut own, mut struck) = (0, 0, 0);
    for plan in plans() {
        let root = Root(Rng::from_number(plan.seed));
        for loses_power in [false, true] {
            let faults = compaction::faults(&root, loses_power);
            let needs_power =
                |fault: &Fault| matches!(fault.what, FaultKind::PowerLoss { .. } | FaultKind::SyncFails { .. });
            assert!(faults.iter().all(|fault| !is_beyond(&fault.what)), "seed {}", plan.seed);
            assert!(loses_power || !faults.iter().any(needs_power), "seed {}", plan.seed);
            struck += usize::from(!faults.is_empty());
        }
        let has = |is_it: fn(Keys) -> bool| usize::from(plan.topics.iter().any(|topic| is_it(topic.keys())));
        shared += has(|keys| matches!(keys, Keys::Shared(_)));
        own += has(|keys| keys == Keys::Own);
    }
    assert!(struck > plans().len() && shared > plans().len() / 4 && own > 2, "{struck} {shared} {own}");
}

#[test]
fn a_plan_from_before_keys_were_drawn_reads_as_it_was() {
    let mut plan = draw(3);
    plan.topics.iter_mut().for_each(|topic| topic.shared_keys = None);
    let old = plan.to_json().lines().filter(|line| !line.contains("shared_keys")).collect::<Vec<_>>().join("\n");
    // The comma of the line before the one that is gone.
    let old = old.replace("},\n    }", "}\n    }");
    assert!(Plan::from_json(&old) == Ok(plan));
}

#[test]
fn mixed_commits_come_in_runs_and_by_turns() {
    let on_thread = |commits_on_thread, commits_mixed| {
        let node = NodePlan { commits_on_thread, commits_mixed, ..crate::testing::plan().node };
        (0..8).map(|commit| u8::from(node.is_on_thread(commit)).to_string()).collect::<String>()
    };
    assert_eq!(on_thread(false, true), "00000000");
    assert_eq!(on_thread(true, false), "11111111");
    assert_eq!(on_thread(true, true), "10100101");
}
