//! Which brokers hold a new partition.

use super::records::PartitionState;
use super::{Controller, Refused};
use crate::ids::NodeId;
use crate::wire::ErrorCode;

impl Controller {
    /// Where `count` new partitions go, each on `replication_factor` brokers.
    pub(super) fn place(&self, count: usize, replication_factor: usize) -> Result<Vec<PartitionState>, Refused> {
        let brokers: Vec<NodeId> = self.image.brokers().map(|broker| broker.node_id).collect();
        if replication_factor > brokers.len() {
            return Err(Refused::new(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {replication_factor} time(s): only {} broker(s) are registered.",
                    brokers.len()
                ),
            ));
        }
        // Each partition begins with the next broker, counted over all topics: topics of one partition spread as well.
        let first = self.image.partition_count();
        let replicas = |index: usize| {
            let from = (first + index) % brokers.len();
            brokers.iter().cycle().skip(from).take(replication_factor).copied().collect()
        };
        Ok((0..count).map(|index| PartitionState::new(replicas(index))).collect())
    }

    /// The partition that a client wants on these brokers.
    pub(super) fn assign(
        &self,
        broker_ids: &[i32],
        replication_factor: Option<usize>,
    ) -> Result<PartitionState, Refused> {
        let refuse = |message| Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        if broker_ids.is_empty() {
            return refuse("The assignment of a partition names no broker.".to_owned());
        }
        if let Some(before) = replication_factor.filter(|before| *before != broker_ids.len()) {
            return refuse(format!(
                "The assignment of a partition has {} replica(s), where the topic's other partitions have {before}.",
                broker_ids.len()
            ));
        }
        // Brokers are looked for among those that exist, so a list of any length costs little.
        let mut replicas = Vec::new();
        for id in broker_ids {
            let node_id = NodeId(*id);
            if self.image.broker(node_id).is_none() {
                return refuse(format!("The assignment of a partition names broker {id}, which is not registered."));
            }
            if replicas.contains(&node_id) {
                return refuse(format!("The assignment of a partition names broker {id} more than once."));
            }
            replicas.push(node_id);
        }
        Ok(PartitionState::new(replicas))
    }
}
