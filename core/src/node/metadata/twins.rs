//! Two processes that run as one node, each on a copy of its data folder.
//!
//! What one of them acknowledges the other one does not have, so that neither can be relied on afterwards. Nobody sees that
//! in a single message: each is a voter, and a broker, as the metadata have it. But every process has a number drawn at its
//! start, which never comes back once another process of its node has come; here it does, again and again, as the two take
//! the node's connections from each other.

use std::collections::BTreeMap;

use crate::ids::NodeId;

/// How often a number must have come back. Once may be a greeting that was on its way when its process ended.
const RETURNS: u32 = 3;

/// The processes that have connected.
#[derive(Debug, Default)]
pub(super) struct Twins(BTreeMap<NodeId, Latest>);

/// Those of one node.
#[derive(Debug, Default)]
struct Latest {
    process: u64,
    /// The one before.
    before: u64,
    /// How often one of the two took the place of the other since both are known.
    returns: u32,
}

impl Twins {
    /// A process of a node has connected. Whether that makes it plain, for the first time of these two, that it is not the
    /// only one.
    pub(super) fn arrived(&mut self, node: NodeId, process: u64) -> bool {
        let latest = self.0.entry(node).or_default();
        if latest.process == process {
            return false;
        }
        let is_back = latest.before == process;
        let returns = if is_back { latest.returns.saturating_add(1) } else { 0 };
        *latest = Latest { process, before: latest.process, returns };
        returns == RETURNS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_comes_back_again_and_again_is_not_alone() {
        let mut twins = Twins::default();
        let mut arrived = |process| twins.arrived(NodeId(3), process);
        assert!(![1, 1, 2, 2, 3, 3, 3].map(&mut arrived).contains(&true), "one process after another");
        // A greeting of the one before comes late.
        assert!(![4, 3, 4, 4].map(&mut arrived).contains(&true));
        assert_eq!([5, 6, 5, 6, 5, 6, 5].map(&mut arrived), [false, false, false, false, true, false, false]);
        assert!(!twins.arrived(NodeId(4), 6));
    }
}
