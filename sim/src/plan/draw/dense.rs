//! Short plans for clusters in which something goes wrong about every second.
//!
//! What a cluster does wrong in a failover shows when the next failover comes before it has been made good: an
//! acknowledgement that counted too few replicas is lost only if those die that had the record, and a log that was cut
//! in the wrong place only if its broker leads before it has caught up. In a minute with a dozen faults of all kinds such
//! pairs are rare. Here the minute is a quarter of one, few partitions get all the writes, nearly all of them to be
//! acknowledged by the whole in-sync set, and brokers come and go (`faults`) while a member of a group of each protocol
//! reads on (`clients`).
//!
//! It is a swarm as well: how fast things follow each other, which of them, how slow the disks are and from what size on
//! batches take the direct path are the seed's own. What is promised is what is promised of every cluster.

mod clients;
mod faults;

use std::collections::BTreeMap;

use super::{Dice, Key, Root, cluster, compaction, groups};
use crate::plan::{ClusterPlan, FORMAT, NetworkPlan, NodePlan, Plan, TopicPlan};
use crate::value::Keys;

/// What is drawn of a dense plan: part of each key, as is its number below 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Measures,
    Machine,
    Topic,
    Faults,
    Fault,
    Client,
    /// Of a client, what it does.
    Operation = 16,
}

impl Root {
    fn dense(&self, part: Part, number: u64) -> Dice {
        self.numbered(Key::Dense, (part as u64) << 32 | number)
    }

    fn dense_operation(&self, client: u64, number: u64) -> Dice {
        self.numbered(Key::Dense, (Part::Operation as u64 + client) << 32 | number)
    }
}

/// Whether a seed's plan for a cluster is a dense one: every third.
pub(super) fn is_dense(root: &Root) -> bool {
    root.of(Key::Dense).one_in(3)
}

/// The dense plan that a seed names, for so many brokers.
pub(super) fn plan(root: &Root, seed: u64, nodes: u32) -> Plan {
    let mut dice = root.dense(Part::Measures, 0);
    let duration_ms = dice.between(12_000, 20_000);
    let mut node = node(&mut dice, nodes);
    node.commits_mixed = root.of(Key::Commits).one_in(2);
    let topics = topics(root, nodes);
    groups::settings(root, &mut node.broker);
    if topics.iter().any(|topic| topic.keys() != Keys::None) {
        compaction::settings(root, &mut node.broker);
    }
    let clients = clients::clients(root, &topics, nodes, duration_ms);
    let between = network(&mut dice, 3_000);
    let machine = |number: u32| cluster::machine(&mut root.dense(Part::Machine, number.into()), &node);
    let others = (2..=nodes).map(machine).collect();
    let faults = faults::faults(root, nodes, duration_ms, &clients);
    Plan {
        format: FORMAT,
        seed,
        duration_ms,
        is_beyond_promises: false,
        node,
        cluster: Some(ClusterPlan { others, network: between, founders: None }),
        network: network(&mut dice, 5_000),
        topics,
        clients,
        faults,
    }
}

fn node(dice: &mut Dice, nodes: u32) -> NodePlan {
    let mut broker = BTreeMap::from([("auto.create.topics.enable".to_owned(), "false".to_owned())]);
    cluster::settings(dice, nodes, &mut broker);
    let mut set = |name: &str, value: u64| drop(broker.insert(name.to_owned(), value.to_string()));
    // Who is late is out of the set before the next broker dies.
    set("replica.lag.time.max.ms", dice.pick(&[500, 1_500, 1_500, 4_000]));
    set("log.retention.check.interval.ms", dice.pick(&[500, 2_000]));
    let sync_us_min = dice.between(20, 200);
    NodePlan {
        trusts_os: false,
        commits_on_thread: dice.one_in(2),
        commits_mixed: false,
        // What is large is written past the journal: values of some thousand bytes are.
        direct_from: dice.pick(&[1 << 10, 4 << 10, 4 << 10, 256 << 10]),
        journal_file_bytes: dice.pick(&[256, 256, 512]) << 10,
        journal_files: dice.number(4, 16),
        tail_cache_bytes: if dice.one_in(3) { dice.scale(16 << 10, 256 << 10) } else { 8 << 20 },
        broker,
        clock_skew_ms: if dice.one_in(3) { dice.signed(5_000) } else { 0 },
        clock_drift_ppm: if dice.one_in(3) { dice.signed(500) } else { 0 },
        sync_us_min,
        // A slow disk makes long what is between an append and its acknowledgement.
        sync_us_max: sync_us_min + dice.pick(&[300, 3_000, 3_000, 12_000]),
    }
}

fn network(dice: &mut Dice, spread_us_max: u64) -> NetworkPlan {
    let latency_us_min = dice.scale(20, 500);
    NetworkPlan {
        latency_us_min,
        latency_us_max: latency_us_min + dice.scale(50, spread_us_max),
        piece_bytes_max: if dice.one_in(4) { dice.number(64, 8_192) } else { 0 },
        window_bytes: dice.pick(&[64, 256, 1_024]) << 10,
    }
}

fn topics(root: &Root, nodes: u32) -> Vec<TopicPlan> {
    const NAMES: [(&str, i32); 3] = [("orders", 2), ("clicks", 1), ("audit", 1)];
    let count = if root.dense(Part::Topic, 0).one_in(2) { 2 } else { 3 };
    let topic = |(index, &(name, partitions)): (usize, &(&str, i32))| {
        let mut dice = root.dense(Part::Topic, 1 + index as u64);
        let mut configs = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(configs.insert(name.to_owned(), value));
        if index == 0 || dice.one_in(2) {
            set("min.insync.replicas", "2".to_owned());
        }
        if dice.one_in(3) {
            set("internal.segment.bytes", dice.scale(8 << 10, 128 << 10).to_string());
        }
        if dice.one_in(6) {
            set("retention.bytes", dice.scale(30 << 10, 200 << 10).to_string());
        }
        // Of three brokers one must be free for a partition to go to.
        let replication = if index > 0 && clients::moves(root) && dice.one_in(2) { 2 } else { nodes.min(3) };
        let mut topic = TopicPlan { name: name.to_owned(), partitions, replication, configs, shared_keys: None };
        if index > 0 {
            compaction::topic(&mut dice, &mut topic);
        }
        topic
    };
    NAMES.iter().take(count).enumerate().map(topic).collect()
}

#[cfg(test)]
mod tests {
    use chronik_core::rng::Rng;

    use super::*;
    use crate::plan::{ClientKind, FaultKind};

    fn drawn(nodes: u32) -> impl Iterator<Item = Plan> {
        (0..40).map(move |seed| plan(&Root(Rng::from_number(seed)), seed, nodes))
    }

    #[test]
    fn a_dense_plan_is_short_and_something_goes_wrong_about_every_second() {
        for (plan, again) in drawn(3).zip(drawn(3)) {
            let seed = plan.seed;
            assert_eq!(plan, again);
            assert_eq!(Plan::from_json(&plan.to_json()).as_ref(), Ok(&plan));
            assert!((12_000..=20_000).contains(&plan.duration_ms), "seed {seed}");
            let seconds = plan.duration_ms / 1_000;
            assert!(plan.faults.len() as u64 >= seconds / 2, "seed {seed}: {} in {seconds} s", plan.faults.len());
            assert!(plan.faults.iter().all(|fault| fault.at_ms < plan.duration_ms), "seed {seed}");
            assert!(plan.faults.is_sorted_by_key(|fault| fault.at_ms), "seed {seed}");
            assert!(plan.operations() as u64 >= 100 * seconds, "seed {seed}");
            for client in &plan.clients {
                assert!(client.operations.is_sorted_by_key(|operation| operation.at_ms), "seed {seed}");
                assert!(client.operations.iter().all(|operation| operation.at_ms < plan.duration_ms), "seed {seed}");
            }
        }
    }

    #[test]
    fn whole_sets_acknowledge_most_of_it_and_both_protocols_have_a_member() {
        for plan in drawn(5) {
            let seed = plan.seed;
            assert_eq!(plan.nodes(), 5);
            assert!(plan.topics.len() >= 2 && plan.topics[0].replication == 3, "seed {seed}");
            let count = |is_it: fn(&ClientKind) -> bool| plan.clients.iter().filter(|one| is_it(&one.kind)).count();
            assert!(count(|kind| matches!(kind, ClientKind::Producer { acks: -1, is_idempotent: true, .. })) >= 1);
            assert!(count(|kind| matches!(kind, ClientKind::Producer { acks: -1, is_idempotent: false, .. })) >= 1);
            assert!(count(|kind| matches!(kind, ClientKind::Consumer { .. })) >= 1);
            for is_next in [false, true] {
                let is_member = |kind: &ClientKind| match kind {
                    ClientKind::Member { protocol, .. } => protocol.is_next() == is_next,
                    _ => false,
                };
                assert_eq!(plan.clients.iter().filter(|client| is_member(&client.kind)).count(), 1, "seed {seed}");
            }
        }
    }

    #[test]
    fn every_broker_dies_and_is_cut_off_in_some_plan() {
        let (mut dead, mut parted) = ([0; 3], [0; 3]);
        for fault in drawn(3).flat_map(|plan| plan.faults) {
            let node = fault.node as usize - 1;
            match fault.what {
                FaultKind::Kill { .. } | FaultKind::PowerLoss { .. } => dead[node] += 1,
                FaultKind::Isolated { .. } => parted[node] += 1,
                FaultKind::LinkMuted { to, .. }
                | FaultKind::LinkSlow { to, .. }
                | FaultKind::LinkReset { with: to }
                | FaultKind::LinkRefused { with: to, .. } => {
                    assert!((1..=3).contains(&to) && to != fault.node);
                }
                _ => {}
            }
        }
        assert!(dead.iter().all(|&times| times > 40) && parted.iter().all(|&times| times > 20), "{dead:?} {parted:?}");
    }
}
