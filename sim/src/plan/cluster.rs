//! What a plan has besides where several brokers are a cluster.

use serde::{Deserialize, Serialize};

use super::{NetworkPlan, NodePlan, Plan};

/// The further brokers of a cluster, and what lies between them. Settings and measures that are not here are those of
/// [`Plan::node`], which is the first broker's whole machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPlan {
    /// The machines of the second broker and those after it.
    pub others: Vec<MachinePlan>,
    /// What the network between brokers does when nothing is wrong with it.
    pub network: NetworkPlan,
    /// How many brokers found the cluster, the first ones; those after them run from when an operation adds them. All
    /// found it where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founders: Option<u32>,
}

/// What may differ between the machines of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachinePlan {
    /// As [`NodePlan::commits_on_thread`].
    pub commits_on_thread: bool,
    /// As [`NodePlan::clock_skew_ms`].
    pub clock_skew_ms: i64,
    /// As [`NodePlan::clock_drift_ppm`].
    pub clock_drift_ppm: i64,
    /// As [`NodePlan::sync_us_min`].
    pub sync_us_min: u64,
    /// As [`NodePlan::sync_us_max`].
    pub sync_us_max: u64,
}

impl Plan {
    /// How many brokers there are; they are numbered from 1.
    pub fn nodes(&self) -> u32 {
        1 + u32::try_from(self.others().len()).expect("few brokers")
    }

    /// How many of them found the cluster, the first ones.
    pub fn founders(&self) -> u32 {
        let said = self.cluster.as_ref().and_then(|cluster| cluster.founders);
        said.map_or(self.nodes(), |founders| founders.clamp(1, self.nodes()))
    }

    /// What there is of the broker of this number, from 1 on.
    ///
    /// # Panics
    /// Where the plan has no such broker.
    pub fn machine(&self, node: u32) -> NodePlan {
        let mut plan = self.node.clone();
        if node > 1 {
            let machine = &self.others()[node as usize - 2];
            plan.commits_on_thread = machine.commits_on_thread;
            plan.clock_skew_ms = machine.clock_skew_ms;
            plan.clock_drift_ppm = machine.clock_drift_ppm;
            plan.sync_us_min = machine.sync_us_min;
            plan.sync_us_max = machine.sync_us_max;
        }
        plan
    }

    /// The host by which clients reach the broker of this number, at [`CLIENT_PORT`].
    pub fn host(&self, node: u32) -> String {
        match self.nodes() {
            1 => "broker".to_owned(),
            _ => format!("broker-{node}"),
        }
    }

    fn others(&self) -> &[MachinePlan] {
        self.cluster.as_ref().map_or(&[], |cluster| &cluster.others)
    }
}

/// The port by which clients reach every broker.
pub const CLIENT_PORT: u16 = 9092;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_machine_of_a_cluster_is_the_first_one_but_for_what_is_its_own() {
        let plan = testing::cluster_plan(3);
        assert_eq!(plan.nodes(), 3);
        assert_eq!(plan.machine(1), plan.node);
        let third = plan.machine(3);
        assert_eq!(third.broker, plan.node.broker);
        assert_ne!(third.clock_skew_ms, plan.node.clock_skew_ms);
        assert_eq!((plan.host(2), testing::plan().host(1)), ("broker-2".to_owned(), "broker".to_owned()));
    }

    #[test]
    fn json_keeps_a_cluster_and_a_single_broker_has_none_of_it() {
        let plan = testing::cluster_plan(5);
        assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan));
        let alone = testing::plan().to_json();
        assert!(!alone.contains("cluster") && !alone.contains("\"replication\"") && !alone.contains("\"node\": 1"));
    }
}
