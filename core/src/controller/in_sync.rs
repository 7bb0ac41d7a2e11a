//! What leaders propose as in-sync sets (KIP-497), and what is carried out of it.
//!
//! A proposal is carried out only on the state that it was made for, by its leader, and only with members that are
//! active in the very process that the leader has seen in sync: a broker that has been fenced or has begun anew may lack
//! what the leader believes it to have (KIP-841, KIP-903).

use std::collections::BTreeSet;

use super::elections::{Batch, PARTITIONS_PER_ENTRY_MAX};
use super::records::PartitionState;
use super::{Controller, Decision};
use crate::ids::{BrokerEpoch, NodeId};
use crate::peer::{Answer, Proposal, ProposalOutcome};

impl Controller {
    /// Decides what the process `broker_epoch` of the broker `from` proposes, which asks the controller of this term.
    /// Each proposal is carried out or not by itself, and answered in the same order.
    ///
    /// # Panics
    /// Where there are more than [`PARTITIONS_PER_ENTRY_MAX`] proposals: the caller takes a message in parts.
    pub fn alter_in_sync(
        &self,
        from: NodeId,
        broker_epoch: BrokerEpoch,
        proposals: &[Proposal],
    ) -> Decision<Vec<Answer>> {
        assert!(proposals.len() <= PARTITIONS_PER_ENTRY_MAX, "a message is taken in parts");
        let is_last = self.image.broker(from).is_some_and(|broker| broker.broker_epoch == broker_epoch.0);
        let mut batch = Batch::default();
        let mut seen = BTreeSet::new();
        let answers = proposals.iter().map(|proposal| {
            // Of two for one partition the second is made for a state that the first one ends.
            let outcome = match is_last && seen.insert(proposal.partition) {
                true => self.alter_one(from, proposal, &mut batch),
                false => ProposalOutcome::Stale,
            };
            let &Proposal { partition, leader_epoch, partition_epoch, attempt, .. } = proposal;
            Answer { partition, leader_epoch, partition_epoch, attempt, outcome }
        });
        let answers = answers.collect();
        Decision { records: batch.records, response: answers }
    }

    fn alter_one(&self, from: NodeId, proposal: &Proposal, batch: &mut Batch) -> ProposalOutcome {
        let Some(before) = self.image.partition(proposal.partition) else { return ProposalOutcome::Stale };
        if before.leader != Some(from)
            || before.leader_epoch != proposal.leader_epoch
            || before.partition_epoch != proposal.partition_epoch.0
        {
            return ProposalOutcome::Stale;
        }
        let members: BTreeSet<NodeId> = proposal.members.iter().map(|member| member.node).collect();
        let is_sound = members.len() == proposal.members.len()
            && members.contains(&from)
            && members.iter().all(|node_id| before.replicas.contains(node_id));
        let is_eligible = proposal.members.iter().all(|member| {
            self.image.is_active(member.node)
                && self.image.broker(member.node).is_some_and(|broker| broker.broker_epoch == member.broker_epoch.0)
        });
        if !is_sound || !is_eligible {
            return ProposalOutcome::Ineligible;
        }
        let isr = before.replicas.iter().copied().filter(|node_id| members.contains(node_id)).collect();
        let next = PartitionState { isr, ..before.clone() };
        let settled = self.election(proposal.partition.topic).settle(before, next);
        // The set that there is: the leader waits for a newer state all the same.
        let again = || (PartitionState { partition_epoch: before.partition_epoch + 1, ..before.clone() }, None);
        batch.add(proposal.partition, before, Some(settled.unwrap_or_else(again)));
        ProposalOutcome::Committed
    }
}
