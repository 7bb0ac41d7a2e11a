//! What a broker of a cluster is told at its birth, beside what every broker is.

use std::collections::BTreeMap;

use crate::ids::NodeId;
use crate::wire::Str;

/// As what a broker is part of a cluster. What the metadata log says counts before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Where other brokers reach this one: host and port.
    pub raft_address: (Str, u16),
    /// The others that it knows from the start, with theirs; this broker is not among them.
    pub peers: BTreeMap<NodeId, (Str, u16)>,
    /// Where none of them knows of a cluster, they make one: all of `peers` and this broker vote in it. Without effect
    /// on a broker that is part of a cluster already.
    pub bootstrap: bool,
}
