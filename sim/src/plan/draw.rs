//! Plans from seeds.
//!
//! **A swarm.** No plan has everything: each seed draws its own subset of settings, clients and kinds of faults, and
//! its own rates, since a plan that does a little of everything seldom gets far into anything. Each thing is drawn by a
//! key of its own (what it is, and its number), so that one more or less of it does not change another.
//!
//! **The atlas.** [`draw`] stays within what a broker of one disk promises, so that every loss is a bug;
//! [`draw_beyond`] does not, and then a loss may be, but never in silence.
//!
//! | kind | promised | because |
//! | --- | --- | --- |
//! | kill, restart, kill in recovery, pause | yes | what is acknowledged is with the operating system at least |
//! | power loss, also in recovery | where commits are synced | `--durability os` says openly that it may lose its tail then |
//! | failing sync | where commits are synced | nothing that was acknowledged is among the pages that are dropped; the node stops |
//! | failing write | yes | what it was to write is not acknowledged, or is still in the journal; the node stops |
//! | full, slow and stalled disk | yes | they lose nothing |
//! | clock steps, skew and drift | yes | no promise rests on the wall clock but retention by time |
//! | everything of the network | yes | clients send again |
//! | latent read error | no | the sector's bytes are nowhere else: a partition, or the start, refuses |
//! | bit flip, misdirected write | no | the same; damage to the very last commit cannot even be told from a tear |
//! | truncated index | no | below the checkpoint an index stands for itself, and is not rebuilt while serving |
//! | lying sync | no | what was acknowledged was never durable |
//!
//! **Stories.** Some faults tell only together: power that fails while a commit is under way and a client waits. Left to
//! chance they seldom meet, so plans draw such pairs as well (`stories`), of the kinds that are promised.
//!
//! **Groups.** Every other plan has consumer groups beside all that, with settings, clients and stories of their own
//! (`groups`).
//!
//! **Compaction.** Some topics compact, most of them records that have keys in common; what they are cleaned by, and the
//! faults that strike while they are, are drawn apart (`compaction`).
//!
//! **Clusters.** How many brokers there are is drawn as well, apart from all else ([`nodes`]). A plan for several of them
//! is that for a single broker, spread over them (`cluster`), or in one of three cases a short one that was drawn for a
//! cluster (`dense`). In every eighth of either brokers come and go (`members`).
//!
//! A plan beyond the promises has the kinds of a promised one and at least one of the others. The second checkpoint
//! would carry a start over one that is damaged, but not where a crash has torn that second one: no fault of a file is
//! promised beside crashes.

mod clients;
mod cluster;
mod compaction;
mod dense;
mod faults;
mod groups;
mod members;
mod moves;
mod stories;

use std::collections::BTreeMap;

use chronik_core::rng::Rng;

use super::{FORMAT, NetworkPlan, NodePlan, Plan, TopicPlan};
use crate::value::Keys;

/// How long clients work, in simulated milliseconds.
const DURATION_MS: u64 = 60_000;

/// The plan that a seed names, within what is promised.
pub fn draw(seed: u64) -> Plan {
    draw_from(seed, Atlas::Promised)
}

/// The plan that a seed names, beyond what is promised.
pub fn draw_beyond(seed: u64) -> Plan {
    draw_from(seed, Atlas::Beyond)
}

/// The plan that a seed names for so many brokers, or for as many as it draws, within what is promised.
pub fn draw_for(seed: u64, nodes: Option<u32>) -> Plan {
    let nodes = nodes.unwrap_or_else(|| self::nodes(seed));
    let root = Root(Rng::from_number(seed));
    let is_dense = nodes > 1 && dense::is_dense(&root);
    let plan = if is_dense { dense::plan(&root, seed, nodes) } else { cluster::spread(draw(seed), nodes) };
    if nodes > 1 && members::are_changed(&root) { members::change(&root, plan) } else { plan }
}

/// The plan that a seed names for so many brokers, beyond what is promised; for one of them, where nothing is said: what
/// goes beyond the promises is what a disk does to the only broker that there is.
pub fn draw_beyond_for(seed: u64, nodes: Option<u32>) -> Plan {
    cluster::spread(draw_beyond(seed), nodes.unwrap_or(1))
}

/// For how many brokers a seed's plan is: of a hundred seeds 60 have one, 32 three and 8 five.
pub fn nodes(seed: u64) -> u32 {
    match Root(Rng::from_number(seed)).of(Key::Nodes).below(100) {
        0..60 => 1,
        60..92 => 3,
        _ => 5,
    }
}

/// What faults a plan may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Atlas {
    Promised,
    Beyond,
}

fn draw_from(seed: u64, atlas: Atlas) -> Plan {
    let root = Root(Rng::from_number(seed));
    let mut node = node(&mut root.of(Key::Node));
    node.commits_mixed = root.of(Key::Commits).one_in(2);
    let topics = topics(&root, &node);
    let mut clients = clients::clients(&root, &topics, &node);
    let mut faults = faults::faults(&root, atlas, node.trusts_os, clients.len());
    let loses_power = !node.trusts_os || atlas == Atlas::Beyond;
    faults.extend(stories::stories(&root, loses_power, &clients));
    if groups::has_groups(&root) {
        let first = clients.len();
        groups::settings(&root, &mut node.broker);
        clients.extend(groups::clients(&root, &topics, first));
        faults.extend(groups::faults(&root, loses_power, &clients, first));
    }
    if topics.iter().any(|topic| topic.keys() != Keys::None) {
        compaction::settings(&root, &mut node.broker);
        faults.extend(compaction::faults(&root, loses_power));
    }
    faults.sort_by_key(|fault| fault.at_ms);
    Plan {
        format: FORMAT,
        seed,
        duration_ms: DURATION_MS,
        is_beyond_promises: atlas == Atlas::Beyond,
        node,
        cluster: None,
        network: network(&mut root.of(Key::Network)),
        topics,
        clients,
        faults,
    }
}

fn node(dice: &mut Dice) -> NodePlan {
    let trusts_os = dice.one_in(5);
    // Small enough for the ring to wrap and for checkpoints to be frequent.
    let journal_file_bytes = dice.pick(&[64_u64, 64, 128, 256, 512]) << 10;
    let small_cache = dice.one_in(3);
    let mut broker = BTreeMap::from([("auto.create.topics.enable".to_owned(), "false".to_owned())]);
    let mut set = |name: &str, value: u64| drop(broker.insert(name.to_owned(), value.to_string()));
    set("log.retention.check.interval.ms", dice.pick(&[500, 1_000, 5_000]));
    set("log.cleaner.backoff.ms", 500);
    if dice.one_in(6) {
        set("max.incremental.fetch.session.cache.slots", dice.between(0, 2));
    }
    let sync_us_min = dice.between(20, 200);
    NodePlan {
        trusts_os,
        commits_on_thread: dice.one_in(2),
        commits_mixed: false,
        direct_from: if dice.one_in(2) { dice.pick(&[1 << 10, 4 << 10, 16 << 10]) } else { 256 << 10 },
        journal_file_bytes,
        journal_files: dice.number(4, 16),
        tail_cache_bytes: if small_cache { dice.scale(16 << 10, 256 << 10) } else { 8 << 20 },
        broker,
        clock_skew_ms: if dice.one_in(3) { dice.signed(5_000) } else { 0 },
        clock_drift_ppm: if dice.one_in(3) { dice.signed(500) } else { 0 },
        sync_us_min,
        sync_us_max: sync_us_min + dice.scale(50, 5_000),
    }
}

fn network(dice: &mut Dice) -> NetworkPlan {
    let latency_us_min = dice.scale(20, 500);
    NetworkPlan {
        latency_us_min,
        latency_us_max: latency_us_min + dice.scale(50, 10_000),
        piece_bytes_max: if dice.one_in(4) { dice.number(64, 8_192) } else { 0 },
        window_bytes: dice.pick(&[64, 256, 1_024]) << 10,
    }
}

fn topics(root: &Root, node: &NodePlan) -> Vec<TopicPlan> {
    const NAMES: [&str; 4] = ["orders", "payments", "clicks", "audit"];
    let mut dice = root.of(Key::Topics);
    let has_retention = dice.one_in(3);
    let has_small_segments = !dice.one_in(4);
    let count = dice.number(1, 4) as usize;
    let topic = |(index, name): (usize, &&str)| {
        let mut dice = root.numbered(Key::Topics, index as u64);
        let mut configs = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(configs.insert(name.to_owned(), value));
        if has_small_segments {
            set("internal.segment.bytes", dice.scale(8 << 10, 256 << 10).to_string());
        }
        if dice.one_in(8) {
            set("segment.ms", dice.between(2_000, 20_000).to_string());
        }
        if has_retention {
            match dice.below(3) {
                0 => set("retention.ms", dice.between(5_000, 20_000).to_string()),
                1 => set("retention.bytes", dice.scale(30 << 10, 500 << 10).to_string()),
                _ => {}
            }
        }
        if !dice.one_in(4) {
            set("file.delete.delay.ms", dice.pick(&[0, 0, 200, 2_000]).to_string());
        }
        if dice.one_in(10) {
            // A batch must lie in one file of the journal as a whole.
            set("max.message.bytes", dice.scale(2 << 10, node.journal_file_bytes).to_string());
        }
        if dice.one_in(12) {
            set("compression.type", dice.pick(&["lz4", "snappy", "uncompressed"]).to_owned());
        }
        if dice.one_in(8) {
            set("message.timestamp.type", "LogAppendTime".to_owned());
        }
        let partitions = dice.signed_number(1, 4);
        let mut topic = TopicPlan { name: (*name).to_owned(), partitions, replication: 1, configs, shared_keys: None };
        compaction::topic(&mut root.numbered(Key::Compaction, index as u64), &mut topic);
        topic
    };
    NAMES.iter().take(count).enumerate().map(topic).collect()
}

/// What is drawn. Its number is part of each key, so the order of these is part of what a seed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Node,
    Network,
    Topics,
    Clients,
    Faults,
    Swarm,
    /// Of a client, what it does.
    Operations,
    /// Above all clients' operations.
    Stories = 1 << 30,
    Compaction = 3 << 29,
    Groups,
    Cluster,
    Parting,
    Nodes,
    Dense,
    Members,
    Commits,
}

/// The generator of a plan.
struct Root(Rng);

impl Root {
    /// For what there is one of.
    fn of(&self, key: Key) -> Dice {
        Dice(self.0.keyed(key as u64, u64::MAX))
    }

    /// For the `number`-th of its kind.
    fn numbered(&self, key: Key, number: u64) -> Dice {
        Dice(self.0.keyed(key as u64, number))
    }

    /// For the `number`-th operation of a client.
    fn operation(&self, client: u64, number: u64) -> Dice {
        Dice(self.0.keyed(Key::Operations as u64 + client, number))
    }
}

/// Draws.
struct Dice(Rng);

impl Dice {
    /// From 0 to below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn number(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(self.between(low.into(), high.into())).expect("it lies between two such numbers")
    }

    fn signed_number(&mut self, low: u16, high: u16) -> i32 {
        i32::try_from(self.between(low.into(), high.into())).expect("it lies between two small numbers")
    }

    /// From `-most` to `most`.
    fn signed(&mut self, most: u32) -> i64 {
        i64::try_from(self.below(2 * u64::from(most) + 1)).expect("small") - i64::from(most)
    }

    /// From `low` to `high`; each doubling between them is as likely as any other.
    fn scale(&mut self, low: u64, high: u64) -> u64 {
        let magnitudes = (high / low.max(1)).max(1).ilog2() + 1;
        let from = low << self.below(magnitudes.into());
        self.between(from, (2 * from).min(high))
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("it is an index")]
    }
}

#[cfg(test)]
mod tests;
