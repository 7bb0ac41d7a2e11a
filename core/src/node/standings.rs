//! What a broker believes of what it holds and of the quorum, for whoever holds several brokers against each other: tests
//! and simulation.

use super::Node;
use crate::controller::records::PartitionState;
use crate::ids::{LeaderEpoch, NodeId, Offset, TopicPartition};
use crate::raft::{Member, Membership, Role};
use crate::replication::Leader;

/// What a broker believes of a partition that it holds.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Which.
    pub partition: TopicPartition,
    /// The number of its stay here: one that has left may come back, and begins anew.
    pub stay: u64,
    /// Whether it leads it.
    pub leads: bool,
    /// Whether it follows its leader.
    pub follows: bool,
    /// The newest leader epoch that it knows of.
    pub leader_epoch: LeaderEpoch,
    /// What the metadata say, as far as they are applied here.
    pub state: &'a PartitionState,
    /// How many replicas must be in sync for acks=all: at most all that there are. Of a partition that is led here, what
    /// its leader goes by, which learns of another value a moment after the metadata have it.
    pub min_in_sync: usize,
    /// Everything below is durable on the whole in-sync set, as far as is known here.
    pub high_watermark: Offset,
    /// Everything below is on this broker's disk.
    pub durable: Offset,
    /// Where the log starts here ...
    pub start: Offset,
    /// ... and ends.
    pub end: Offset,
}

/// What a broker believes of the metadata quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    /// The term.
    pub term: u64,
    /// Whether it leads in it.
    pub leads: bool,
    /// How much of the metadata log has committed, as it knows.
    pub committed: u64,
}

/// What a broker believes of who belongs to the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    /// The broker itself.
    pub me: Member,
    /// Who belongs to the metadata quorum.
    pub quorum: &'a Membership,
    /// The last entry of the metadata log that is on its disk, 0 if none.
    pub durable: u64,
}

impl Node {
    /// What it believes of each partition that it holds; of one that the metadata do not know any more nothing.
    pub fn standings(&self) -> impl Iterator<Item = Standing<'_>> {
        self.hosts.iter().flatten().filter_map(|hosted| {
            let partition = &hosted.partition;
            let id = partition.id();
            let state = self.controller.image().partition(id)?;
            let set = (hosted.config.min_insync_replicas as usize).min(state.replication_factor());
            Some(Standing {
                partition: id,
                stay: hosted.stay,
                leads: partition.is_led(),
                follows: partition.is_followed(),
                leader_epoch: partition.epoch(),
                state,
                min_in_sync: partition.leader().map_or(set, Leader::min_in_sync),
                high_watermark: partition.advanced().high_watermark,
                durable: partition.log().durable_end(),
                start: partition.log().start(),
                end: partition.log().end(),
            })
        })
    }

    /// What it believes of the metadata quorum.
    pub fn votes(&self) -> Votes {
        self.metadata.votes()
    }

    /// What it believes of who belongs to the metadata quorum.
    pub fn members(&self) -> Members<'_> {
        let quorum = self.metadata.quorum();
        Members { me: quorum.me(), quorum: quorum.membership(), durable: quorum.durable() }
    }

    /// Who is registered, as far as the metadata are applied here.
    pub fn known_brokers(&self) -> impl Iterator<Item = NodeId> {
        self.controller.image().brokers().map(|broker| broker.node_id)
    }
}

impl super::metadata::Metadata {
    fn votes(&self) -> Votes {
        let quorum = self.quorum();
        Votes { term: quorum.term(), leads: quorum.role() == Role::Leader, committed: quorum.committed() }
    }
}
