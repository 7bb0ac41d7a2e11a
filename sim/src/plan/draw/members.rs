//! Brokers that come and go while clients work, drawn: for every eighth plan for a cluster, as an addition to it.
//!
//! One broker more comes some time after the beginning, votes, and is given replicas; one of the first is drained and
//! removed, and perhaps comes back, as another member or the one that it was. What befalls brokers just then is drawn
//! besides. The rest of the plan stays as it is, but for who moves partitions: nothing is moved to a broker that goes.

use super::{Dice, Key, Root};
use crate::plan::{Action, ClientKind, ClientPlan, Fault, FaultKind, Operation, Plan, Way};

/// The first change comes when there are topics, and something is written, in milliseconds.
const START_MS: u64 = 2_000;
/// A change takes so long where nothing is wrong, and faults strike within, in milliseconds.
const CHANGE_MS: u64 = 3_000;
/// Nothing begins so shortly before the end, in milliseconds.
const CALM_MS: u64 = 1_000;

/// What is drawn of it: part of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    Machine,
    Fill,
    Fault,
}

impl Root {
    fn members(&self, part: Part, number: u64) -> Dice {
        self.numbered(Key::Members, (part as u64) << 32 | number)
    }
}

/// Whether brokers come and go in a seed's plan for a cluster.
pub(super) fn are_changed(root: &Root) -> bool {
    root.of(Key::Members).one_in(8)
}

/// The same plan with brokers that come and go.
pub(super) fn change(root: &Root, mut plan: Plan) -> Plan {
    let mut dice = root.members(Part::All, 0);
    let founders = plan.nodes();
    let newcomer = founders + 1;
    let old = dice.number(1, founders);
    let changes = changes(&mut dice, newcomer, old);
    let goes = changes.iter().find_map(|change| match *change {
        Action::RemoveNode { node } => Some(node),
        _ => None,
    });
    let machine = super::cluster::machine(&mut root.members(Part::Machine, 0), &plan.node);
    let Some(cluster) = &mut plan.cluster else { return plan };
    cluster.others.push(machine);
    cluster.founders = Some(founders);
    let until_ms = plan.duration_ms - CALM_MS;
    let apart_ms = (until_ms - START_MS) / changes.len() as u64;
    let mut operations = Vec::new();
    for (number, what) in changes.iter().enumerate() {
        let number = number as u64;
        let at_ms = START_MS + number * apart_ms + dice.below(apart_ms / 3);
        operations.push(Operation { at_ms, what: what.clone() });
        if let Action::AddNode { node, .. } = *what {
            operations.extend(fill(&mut root.members(Part::Fill, number), &plan, (node, old), at_ms));
        }
        plan.faults.extend(faults(&mut root.members(Part::Fault, number), (founders, node_of(what)), at_ms));
    }
    if let Some(goes) = goes.filter(|goes| *goes != newcomer) {
        redirect(&mut plan, goes, newcomer);
    }
    let kind = ClientKind::ClusterAdmin { request_timeout_ms: dice.scale(500, 3_000) };
    plan.clients.push(ClientPlan { kind, operations });
    plan.faults.retain(|fault| fault.at_ms < plan.duration_ms);
    plan.faults.sort_by_key(|fault| fault.at_ms);
    plan
}

/// Who comes and who goes, in order.
fn changes(dice: &mut Dice, newcomer: u32, old: u32) -> Vec<Action> {
    let adds = |node, keeps_disk| Action::AddNode { node, keeps_disk };
    let removes = |node| Action::RemoveNode { node };
    let keeps_disk = dice.one_in(3);
    match dice.below(6) {
        0 => vec![adds(newcomer, false)],
        1 | 2 => vec![adds(newcomer, false), removes(old)],
        3 | 4 => vec![adds(newcomer, false), removes(old), adds(old, keeps_disk)],
        // Who came goes again.
        _ => vec![adds(newcomer, false), removes(newcomer), adds(newcomer, keeps_disk)],
    }
}

fn node_of(change: &Action) -> u32 {
    match *change {
        Action::AddNode { node, .. } | Action::RemoveNode { node } => node,
        _ => unreachable!("a change is one of these"),
    }
}

/// Gives a broker that has come about every other partition, in the place of an old one that may be to go, or of any other.
fn fill(dice: &mut Dice, plan: &Plan, (node, old): (u32, u32), at_ms: u64) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (topic, planned) in plan.topics.iter().enumerate() {
        for partition in 0..planned.partitions {
            let mut to: Vec<u32> = (1..=plan.nodes()).filter(|&other| other != node && other != old).collect();
            let first = usize::try_from(dice.below(to.len() as u64)).expect("it is an index");
            to.rotate_left(first);
            to.truncate(planned.replication as usize - 1);
            to.insert(usize::try_from(dice.below(to.len() as u64 + 1)).expect("it is an index"), node);
            if dice.one_in(2) {
                operations.push(Operation { at_ms: at_ms + 1, what: Action::MoveReplicas { topic, partition, to } });
            }
        }
    }
    operations
}

/// Nobody moves anything to a broker that goes: the newcomer gets it.
fn redirect(plan: &mut Plan, goes: u32, newcomer: u32) {
    let operations = plan.clients.iter_mut().flat_map(|client| &mut client.operations);
    for operation in operations {
        if let Action::MoveReplicas { to, .. } = &mut operation.what
            && !to.contains(&newcomer)
        {
            to.iter_mut().filter(|node| **node == goes).for_each(|node| *node = newcomer);
        }
    }
}

/// What goes wrong while a broker comes or goes: with itself, or with one of the others.
fn faults(dice: &mut Dice, (founders, node): (u32, u32), at_ms: u64) -> Vec<Fault> {
    let count = dice.below(3);
    let mut faults = Vec::new();
    for _ in 0..count {
        let at_ms = at_ms + dice.between(50, CHANGE_MS);
        let strikes = if dice.one_in(2) { node } else { dice.number(1, founders) };
        let other = if strikes == node { dice.number(1, founders) } else { node };
        let for_ms = dice.scale(200, 6_000);
        let down_ms = dice.scale(50, 3_000);
        let what = match dice.below(8) {
            0 | 1 => FaultKind::PowerLoss { down_ms, keep_permille: dice.pick(&[0, 500]), sector_bytes: 512 },
            2 => FaultKind::Kill { down_ms },
            3 => FaultKind::KillInRecovery { changes: dice.number(1, 12), loses_power: dice.one_in(2) },
            4 | 5 => FaultKind::Isolated { for_ms, way: dice.pick(&[Way::Both, Way::Both, Way::In, Way::Out]) },
            6 if other != strikes => FaultKind::LinkMuted { to: other, for_ms },
            _ => FaultKind::Pause { for_ms: for_ms / 2 },
        };
        faults.push(Fault::new(at_ms, what).of(strikes));
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chronik_core::rng::Rng;

    use super::*;
    use crate::plan::draw;

    fn changed() -> impl Iterator<Item = Plan> {
        let has = |seed: &u64| are_changed(&Root(Rng::from_number(*seed)));
        (0..160).filter(has).map(|seed| draw::draw_for(seed, Some(3)))
    }

    #[test]
    fn every_eighth_plan_has_a_broker_more_than_those_that_found_the_cluster() {
        let plans: Vec<Plan> = changed().collect();
        assert!((10..32).contains(&plans.len()), "{}", plans.len());
        for plan in &plans {
            let seed = plan.seed;
            assert_eq!((plan.nodes(), plan.founders()), (4, 3), "seed {seed}");
            assert_eq!(Plan::from_json(&plan.to_json()).as_ref(), Ok(plan), "seed {seed}");
            assert!(plan.faults.is_sorted_by_key(|fault| fault.at_ms), "seed {seed}");
            for client in &plan.clients {
                assert!(client.operations.is_sorted_by_key(|operation| operation.at_ms), "seed {seed}");
            }
        }
        let actions = plans.iter().flat_map(|plan| &plan.clients).flat_map(|client| &client.operations);
        let removed: BTreeSet<u32> = actions
            .filter_map(|operation| match operation.what {
                Action::RemoveNode { node } => Some(node),
                _ => None,
            })
            .collect();
        assert_eq!(removed, BTreeSet::from([1, 2, 3, 4]), "each of them goes in some plan");
    }

    #[test]
    fn nothing_is_moved_to_a_broker_that_goes_before_it_has_come_back() {
        for plan in changed() {
            let operations = || plan.clients.iter().flat_map(|client| &client.operations);
            let goes = operations().find_map(|operation| match operation.what {
                Action::RemoveNode { node } if node <= plan.founders() => Some(node),
                _ => None,
            });
            let back = operations().find_map(|operation| match operation.what {
                Action::AddNode { node, .. } if Some(node) == goes => Some(operation.at_ms),
                _ => None,
            });
            for operation in operations() {
                let Action::MoveReplicas { to, .. } = &operation.what else { continue };
                let is_to_it = goes.is_some_and(|goes| to.contains(&goes));
                assert!(!is_to_it || back.is_some_and(|back| operation.at_ms > back), "seed {}: {to:?}", plan.seed);
                assert_eq!(to.iter().collect::<BTreeSet<_>>().len(), to.len(), "seed {}: {to:?}", plan.seed);
            }
        }
    }
}
