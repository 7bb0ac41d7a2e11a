//! The broker of a plan, as its process is configured.

use chronik_core::config::BrokerConfig;
use chronik_core::ids::{NodeId, Uuid};
use chronik_core::journal::Geometry;
use chronik_core::limits::Limits;
use chronik_core::node::{ClusterOptions, NodeOptions};

use crate::plan::{CLIENT_PORT, Plan};

/// The bounds that the broker keeps.
pub(super) fn limits(plan: &Plan) -> Limits {
    Limits {
        tail_cache_bytes: usize::try_from(plan.node.tail_cache_bytes).expect("a sane plan"),
        request_bytes_max: 4 << 20,
        // A few of a client's partitions are many, so that fetches take one step as well as several.
        fetch_partitions_at_once: 2,
        // A broker has few, which a checkpoint is to take in several groups.
        partitions_at_once: 3,
        ..Limits::default()
    }
}

/// All that the broker of this number is configured with, whose disk was replaced so many times.
pub(super) fn options(plan: &Plan, node: u32, replaced: u8) -> NodeOptions {
    let mut id = [7; 16];
    id[14] += replaced;
    id[15] = u8::try_from(6 + node).expect("few brokers");
    id[..8].copy_from_slice(&plan.seed.to_be_bytes());
    let (limits, host, cluster) = (limits(plan), plan.host(node), cluster(plan, node, replaced > 0));
    let plan = &plan.node;
    let settings = plan.broker.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    NodeOptions {
        node_id: NodeId(i32::try_from(node).expect("few brokers")),
        directory_id: Uuid(id),
        // Several brokers give themselves one.
        cluster_id: if cluster.is_some() { "".into() } else { "simulated".into() },
        data_dir: "/simulated".into(),
        listeners: vec![("PLAINTEXT".into(), host.into(), CLIENT_PORT)],
        broker: BrokerConfig::parse(settings).expect("plans have sound settings"),
        limits,
        journal: Geometry {
            file_bytes: plan.journal_file_bytes,
            max_files: plan.journal_files,
            reserve_bytes: plan.journal_file_bytes / 4,
        },
        direct_from: if plan.trusts_os { u64::MAX } else { plan.direct_from },
        cluster,
    }
}

/// The port by which brokers reach each other.
pub(super) const PEER_PORT: u16 = 9093;

/// The host by which other brokers reach the one of this number.
pub(super) fn peer_host(node: u32) -> String {
    format!("peer-{node}")
}

/// As what the broker of this number is part of a cluster, where there are several. Whoever comes later, or anew, founds
/// none, and is told of the founders only.
fn cluster(plan: &Plan, node: u32, is_anew: bool) -> Option<ClusterOptions> {
    let address = |node: u32| (peer_host(node).into(), PEER_PORT);
    let others = (1..=plan.founders()).filter(|&other| other != node);
    let peers = others.map(|other| (NodeId(i32::try_from(other).expect("few brokers")), address(other))).collect();
    let bootstrap = node <= plan.founders() && !is_anew;
    (plan.nodes() > 1).then(|| ClusterOptions { raft_address: address(node), peers, bootstrap })
}
