//! The in-sync set: as committed, and as proposed.
//!
//! A proposal is carried out only on the very state that it was made for, so a newer state, whoever made it, settles a
//! proposal: it was this one or is void. Until then its members count, whatever answers say (KIP-497); only where the
//! controller says that it has not carried it out, and will not, are they forgotten.
//!
//! That it will not is known by the last attempt's answer alone. A proposal may have been sent twice; the first copy may
//! be refused while a member is fenced, and the second one carried out when it no longer is. Copies arrive in the order
//! in which they were sent, so the answer to the last one is about all of them.

use smallvec::SmallVec;

use crate::ids::{NodeId, PartitionEpoch};
use crate::peer::{Answer, ProposalOutcome, Replica};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct InSync {
    partition_epoch: PartitionEpoch,
    /// Never empty.
    committed: SmallVec<[NodeId; 4]>,
    proposed: Option<Proposed>,
    /// The number of the last attempt, counted over all proposals.
    attempts: u64,
    /// Nothing is proposed before, since the last proposal was refused.
    held_until: Instant,
}

#[derive(Debug)]
struct Proposed {
    members: Vec<Replica>,
    /// When to send it, again or for the first time.
    send_at: Instant,
}

impl InSync {
    pub(super) fn new(partition_epoch: PartitionEpoch, committed: &[NodeId]) -> InSync {
        assert!(!committed.is_empty(), "an in-sync set has its leader in it");
        InSync { partition_epoch, committed: committed.into(), proposed: None, attempts: 0, held_until: Instant(0) }
    }

    pub(super) fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    pub(super) fn committed(&self) -> &[NodeId] {
        &self.committed
    }

    pub(super) fn is_proposing(&self) -> bool {
        self.proposed.is_some()
    }

    /// The members that count for the high watermark.
    pub(super) fn counted(&self) -> impl Iterator<Item = NodeId> {
        let proposed = self.proposed.iter().flat_map(|proposed| &proposed.members).map(|member| member.node);
        self.committed.iter().copied().chain(proposed.filter(|node| !self.committed.contains(node)))
    }

    /// Takes a newer state. Returns whether it is newer: an older one says nothing, though it come later (KAFKA-13790).
    pub(super) fn replace(&mut self, partition_epoch: PartitionEpoch, committed: &[NodeId]) -> bool {
        if partition_epoch <= self.partition_epoch {
            return false;
        }
        *self = InSync { attempts: self.attempts, ..InSync::new(partition_epoch, committed) };
        true
    }

    /// Whether a proposal may be made now.
    pub(super) fn may_propose(&self, now: Instant) -> bool {
        self.proposed.is_none() && self.held_until <= now
    }

    pub(super) fn propose(&mut self, members: Vec<Replica>, now: Instant) {
        assert!(self.may_propose(now), "one proposal at a time");
        assert!(!members.is_empty(), "an in-sync set is never empty (KAFKA-15353)");
        self.proposed = Some(Proposed { members, send_at: now });
    }

    /// What is to be sent now, the same each time it is sent (KAFKA-15353), and which attempt it is; next at `again_at`.
    pub(super) fn due(&mut self, now: Instant, again_at: Instant) -> Option<(u64, Vec<Replica>)> {
        let proposed = self.proposed.as_mut().filter(|proposed| proposed.send_at <= now)?;
        proposed.send_at = again_at;
        self.attempts += 1;
        Some((self.attempts, proposed.members.clone()))
    }

    /// Has the proposal sent again at once, since who decides it has changed.
    pub(super) fn send_again(&mut self, now: Instant) {
        if let Some(proposed) = &mut self.proposed {
            proposed.send_at = now;
        }
    }

    /// Takes an answer. Returns whether the members that count are fewer now.
    pub(super) fn answered(&mut self, answer: &Answer, again_at: Instant) -> bool {
        if answer.partition_epoch != self.partition_epoch || answer.attempt != self.attempts || self.proposed.is_none()
        {
            return false;
        }
        match answer.outcome {
            // The metadata say what has become of it. They might not, if the controller falls whose word this is: then
            // it is sent again.
            ProposalOutcome::Committed | ProposalOutcome::Stale => false,
            ProposalOutcome::Ineligible => {
                self.proposed = None;
                self.held_until = again_at;
                true
            }
        }
    }

    /// When something is to be sent or may be proposed again.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.proposed {
            Some(proposed) => Some(proposed.send_at),
            None => Some(self.held_until).filter(|until| *until > now),
        }
    }
}
