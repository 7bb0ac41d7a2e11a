//! Replicas whose log is damaged, as their broker tells (KIP-112): the others do without them.
//!
//! Such a replica leaves the in-sync set, is not eligible any more, and leads no longer. Its broker makes it anew from the
//! next leader's log when it sees that in the metadata, and not before (rule 11 of the storage's rules). What it had
//! acknowledged by then must not bring it back: a leader may just be proposing it. So a leader epoch begins, as with the
//! end of any replica, in which nobody has heard of it.
//!
//! Where it is the only one that holds what was acknowledged nothing changes: nobody else could lead, unless the topic
//! allows unclean elections, and a replica that is made anew would lose what could still be saved of it.

use super::elections::{Batch, Elected, Election, PARTITIONS_PER_ENTRY_MAX};
use super::records::PartitionState;
use super::{Controller, Decision};
use crate::ids::{LeaderEpoch, NodeId};
use crate::peer::Damaged;

impl Controller {
    /// Decides what becomes of replicas of the broker `node_id`. To be asked again as long as the broker tells of them: who
    /// could lead instead may come back.
    ///
    /// # Panics
    /// Where there are more than [`PARTITIONS_PER_ENTRY_MAX`]: a heartbeat tells of no more.
    pub fn damaged(&self, node_id: NodeId, damaged: &[Damaged]) -> Decision<Vec<Elected>> {
        assert!(damaged.len() <= PARTITIONS_PER_ENTRY_MAX, "a heartbeat is bounded");
        let mut batch = Batch::default();
        let mut seen = std::collections::BTreeSet::new();
        for &Damaged { partition, leader_epoch } in damaged {
            let Some(before) = self.image.partition(partition).filter(|_| seen.insert(partition)) else { continue };
            let counts = before.isr.contains(&node_id) || before.eligible.contains(&node_id);
            let election = Election { gone: Some(node_id), has_lost: true, ..self.election(partition.topic) };
            let settled = match counts {
                true => election.leave(before).filter(|(next, _)| !next.isr.contains(&node_id)),
                // It may have caught up in this epoch.
                false if before.replicas.contains(&node_id) && before.leader_epoch <= leader_epoch => {
                    Some((PartitionState { partition_epoch: before.partition_epoch + 1, ..before.clone() }, None))
                }
                false => None,
            };
            let settled = settled.map(|(mut next, right)| {
                next.leader_epoch = next.leader_epoch.max(LeaderEpoch(before.leader_epoch.0 + 1));
                (next, right)
            });
            batch.add(partition, before, settled);
        }
        batch.decide()
    }
}
