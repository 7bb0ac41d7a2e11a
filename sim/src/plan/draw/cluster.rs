//! A plan's broker becomes several.
//!
//! Everything that the plan draws for one broker stays as it is: its clients, what they do, and what goes wrong when. What
//! is drawn besides are the other machines, the network between them, on how many of them each topic lies, which of the
//! brokers a fault strikes, faults that only several can have, and in every third plan somebody who moves partitions.
//!
//! **What is promised.** Commits are synced, so no broker forgets what it said was durable, whoever loses power and how
//! many at once. What a leader alone has acknowledged (acks 1) may go with its leadership; what a whole in-sync set has
//! must not.

use std::collections::BTreeMap;

use chronik_core::rng::Rng;

use super::{DURATION_MS, Dice, Key, Root, moves};
use crate::plan::{ClusterPlan, Fault, FaultKind, MachinePlan, NetworkPlan, NodePlan, Plan, Way};

/// Faults begin when clients are at work, and end before they stop, in milliseconds from either end.
const CALM_MS: u64 = 1_000;

/// What a controller decides about many partitions at once must fit into a file of the journal, in bytes.
const JOURNAL_FILE_BYTES_MIN: u64 = 256 << 10;

/// The same plan for so many brokers.
pub(super) fn spread(mut plan: Plan, nodes: u32) -> Plan {
    if nodes <= 1 {
        return plan;
    }
    let root = Root(Rng::from_number(plan.seed));
    let mut dice = root.of(Key::Cluster);
    let latency_us_min = dice.scale(20, 1_000);
    let network = NetworkPlan {
        latency_us_min,
        latency_us_max: latency_us_min + dice.scale(50, 5_000),
        piece_bytes_max: if dice.one_in(4) { dice.number(64, 8_192) } else { 0 },
        window_bytes: dice.pick(&[64, 256, 1_024]) << 10,
    };
    settings(&mut dice, nodes, &mut plan.node.broker);
    plan.node.journal_file_bytes = plan.node.journal_file_bytes.max(JOURNAL_FILE_BYTES_MIN);
    plan.node.trusts_os = false;
    let others = (2..=nodes).map(|node| machine(&mut root.numbered(Key::Cluster, node.into()), &plan.node)).collect();
    plan.cluster = Some(ClusterPlan { others, network, founders: None });
    for (index, topic) in plan.topics.iter_mut().enumerate() {
        let mut dice = root.numbered(Key::Cluster, 1 << 20 | index as u64);
        topic.replication = if dice.one_in(5) { dice.number(1, nodes.min(2)) } else { nodes.min(3) };
        if topic.replication >= 3 && !dice.one_in(4) {
            topic.configs.insert("min.insync.replicas".to_owned(), "2".to_owned());
        }
    }
    for (index, fault) in plan.faults.iter_mut().enumerate() {
        fault.node = root.numbered(Key::Cluster, 1 << 21 | index as u64).number(1, nodes);
    }
    plan.faults.extend(faults(&root, nodes));
    let mut dice = root.numbered(Key::Cluster, 1 << 22);
    if dice.one_in(3) {
        let of_operation = |number| root.numbered(Key::Cluster, 1 << 23 | number);
        let admin = moves::admin(&mut dice, of_operation, (&plan.topics, nodes), DURATION_MS, 2_500);
        plan.clients.push(admin);
    }
    plan.faults.sort_by_key(|fault| fault.at_ms);
    plan
}

/// The settings of every broker of a cluster.
pub(super) fn settings(dice: &mut Dice, nodes: u32, broker: &mut BTreeMap<String, String>) {
    let mut set = |name: &str, value: u64| drop(broker.insert(name.to_owned(), value.to_string()));
    let copies = u64::from(nodes.min(3));
    set("default.replication.factor", copies);
    set("offsets.topic.replication.factor", copies);
    let session_ms = dice.pick(&[2_000, 4_000, 9_000]);
    set("broker.session.timeout.ms", session_ms);
    set("broker.heartbeat.interval.ms", session_ms / 5);
    set("replica.lag.time.max.ms", dice.pick(&[1_500, 4_000, 10_000]));
}

/// A machine beside the first one, with as fast a disk or a slower or faster one.
pub(super) fn machine(dice: &mut Dice, first: &NodePlan) -> MachinePlan {
    let sync_us_min = dice.between(20, 200);
    MachinePlan {
        commits_on_thread: first.commits_on_thread,
        clock_skew_ms: if dice.one_in(3) { dice.signed(5_000) } else { 0 },
        clock_drift_ppm: if dice.one_in(3) { dice.signed(500) } else { 0 },
        sync_us_min,
        sync_us_max: sync_us_min + dice.scale(50, 5_000),
    }
}

/// What goes wrong between brokers, and pairs of faults that only a cluster survives.
fn faults(root: &Root, nodes: u32) -> Vec<Fault> {
    let count = root.of(Key::Parting).between(2, 12);
    let mut faults = Vec::new();
    for number in 0..count {
        let mut dice = root.numbered(Key::Parting, number);
        let at_ms = dice.between(CALM_MS, DURATION_MS - CALM_MS);
        let for_ms = dice.scale(200, 12_000);
        let node = dice.number(1, nodes);
        let other = 1 + (node + dice.number(0, nodes - 2)) % nodes;
        let mut push = |at_ms, what| faults.push(Fault::new(at_ms, what).of(node));
        match dice.below(6) {
            0 => push(at_ms, FaultKind::LinkMuted { to: other, for_ms }),
            1 => push(at_ms, FaultKind::LinkSlow { to: other, for_ms, up_to_ms: dice.scale(5, 1_000) }),
            2 => push(at_ms, FaultKind::LinkReset { with: other }),
            3 => push(at_ms, FaultKind::Isolated { for_ms, way: dice.pick(&[Way::Both, Way::In, Way::Out]) }),
            // Parted, and then dead: what it alone has is gone for as long.
            4 => {
                push(at_ms, FaultKind::Isolated { for_ms, way: Way::Both });
                let down_ms = dice.scale(200, 8_000);
                push(at_ms + dice.between(1, for_ms), FaultKind::Kill { down_ms });
            }
            // Two die, one soon after the other.
            _ => {
                let down_ms = dice.scale(50, 3_000);
                let dies = |_| FaultKind::PowerLoss { down_ms, keep_permille: 0, sector_bytes: 512 };
                push(at_ms, dies(node));
                faults.push(Fault::new(at_ms + dice.scale(1, 2_000), dies(other)).of(other));
            }
        }
    }
    faults.retain(|fault| fault.at_ms <= DURATION_MS - CALM_MS);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::draw;

    #[test]
    fn a_cluster_does_what_its_broker_alone_would_and_each_of_them_is_struck() {
        let (mut struck, mut moved) = ([0; 3], 0);
        for seed in 0..20 {
            let (alone, plan) = (draw::draw(seed), spread(draw::draw(seed), 3));
            assert_eq!((plan.nodes(), &plan.clients[..alone.clients.len()]), (3, &alone.clients[..]));
            moved += usize::from(plan.clients.len() > alone.clients.len());
            assert!(plan.faults.len() > alone.faults.len() && plan.faults.is_sorted_by_key(|fault| fault.at_ms));
            assert!(plan.topics.iter().all(|topic| (1..=3).contains(&topic.replication)));
            for fault in &plan.faults {
                struck[fault.node as usize - 1] += 1;
                if let FaultKind::LinkMuted { to, .. } | FaultKind::LinkSlow { to, .. } = fault.what {
                    assert!((1..=3).contains(&to) && to != fault.node);
                }
            }
            assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan));
            assert_eq!(spread(alone.clone(), 1), alone);
        }
        assert!((2..15).contains(&moved), "{moved}");
        assert!(struck.iter().all(|&times| times > 50), "{struck:?}");
    }
}
