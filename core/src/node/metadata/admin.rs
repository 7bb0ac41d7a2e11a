//! What administrators ask about the quorum, and have changed of it.

use super::super::Node;
use super::ELECTION_TICKS;
use super::life::TICK;
use crate::boundary::Outbox;
use crate::ids::{NodeId, Uuid};
use crate::raft::{Declined, Member, admin};
use crate::time::Now;
use crate::wire::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use crate::wire::describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use crate::wire::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use crate::wire::{ErrorCode, Str};

use std::collections::BTreeSet;

type Members = (BTreeSet<Member>, BTreeSet<Member>);

impl Node {
    /// The quorum, as this node knows it, which leads it.
    pub(super) fn describe_quorum(&self, now: Now, request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
        let me = self.metadata.quorum.me().node;
        let clock = admin::Clock { now_ms: now.wall.0, tick_ms: TICK.subsec_millis() };
        let image = self.controller.image();
        let address_of = |node| match &self.metadata.cluster {
            Some(cluster) if node == me => Some(cluster.raft_address.clone()),
            _ => {
                let address = image.broker(node)?.peer_address.as_ref()?;
                Some((address.host.clone(), address.port))
            }
        };
        admin::describe_quorum(request, me, &self.metadata.quorum.status(), clock, address_of)
    }

    /// Has a node count for majorities that follows the log.
    pub(super) fn add_voter(&mut self, request: &AddRaftVoterRequest, out: &mut Outbox) -> AddRaftVoterResponse {
        let quorum = &self.metadata.quorum;
        // Who has heard of the leader lately would vote for nobody else.
        let recent = ELECTION_TICKS as u64;
        let cluster_id = &self.metadata.cluster_id;
        let asked = admin::with_voter(request, cluster_id, quorum.membership(), &quorum.status(), recent);
        let is_gone = !self.is_registered(NodeId(request.voter_id), request.voter_directory_id);
        let asked = asked.and_then(|members| match is_gone {
            // Its folder follows until it is dismissed, and may not be there any more.
            true => Err((ErrorCode::RequestTimedOut, format!("Node {} is registered no more.", request.voter_id))),
            false => Ok(members),
        });
        let (error_code, error_message) = self.change_members(asked, out);
        AddRaftVoterResponse { error_code, error_message, ..AddRaftVoterResponse::default() }
    }

    /// Has a node count no longer.
    pub(super) fn remove_voter(
        &mut self,
        request: &RemoveRaftVoterRequest,
        out: &mut Outbox,
    ) -> RemoveRaftVoterResponse {
        let asked = admin::without_voter(request, &self.metadata.cluster_id, self.metadata.quorum.membership());
        let (error_code, error_message) = self.change_members(asked, out);
        RemoveRaftVoterResponse { error_code, error_message, ..RemoveRaftVoterResponse::default() }
    }

    fn change_members(&mut self, asked: Result<Members, admin::Refusal>, out: &mut Outbox) -> (i16, Option<Str>) {
        let changed = asked.and_then(|members| self.propose_members(members, out).map_err(admin::refusal));
        match changed {
            Ok(()) => (ErrorCode::None.code(), None),
            Err((error, message)) => (error.code(), Some(message.into())),
        }
    }

    /// Proposes who belongs to the quorum: who counts, and who follows only. What waits for all that was proposed waits
    /// for that too.
    pub(super) fn propose_members(&mut self, (voters, learners): Members, out: &mut Outbox) -> Result<(), Declined> {
        // The cluster's id follows from its first members, until the log says it.
        if self.leading().is_none_or(|leading| leading.image().cluster_id().is_none()) {
            return Err(Declined::NotYetKnown);
        }
        let id = self.metadata.quorum.propose_membership(voters, learners)?;
        self.metadata.proposed = Some(id);
        self.hand_over(out);
        Ok(())
    }

    /// Whether the log, as far as it is decided, knows a broker with this data folder.
    fn is_registered(&self, node: NodeId, directory: Uuid) -> bool {
        let known = self.metadata.leading.as_ref().and_then(|leading| leading.image().broker(node));
        known.is_some_and(|known| known.directory_id == directory)
    }

    /// Has those follow the log no longer whose brokers were unregistered.
    pub(super) fn dismiss_learners(&mut self, out: &mut Outbox) {
        if self.metadata.leading.is_none() {
            return;
        }
        let membership = self.metadata.quorum.membership();
        let is_known = |learner: &&Member| self.is_registered(learner.node, learner.directory);
        let stay: BTreeSet<Member> = membership.learners().iter().filter(is_known).copied().collect();
        if stay.len() < membership.learners().len() {
            let voters = membership.voters().clone();
            // Where it is not taken, the next tick finds the same.
            let _ = self.propose_members((voters, stay), out);
        }
    }
}
