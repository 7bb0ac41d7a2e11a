//! The metadata as one authority that decides at once and is heard of late: who lives, who leads, who is in sync.

use std::collections::BTreeMap;

use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch};
use crate::peer::{Answer, Proposal, ProposalOutcome, Replica};
use crate::replication::{Leadership, Member, View};

/// All that the metadata say at some index.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) brokers: BTreeMap<NodeId, Broker>,
    pub(super) in_sync: Vec<NodeId>,
    /// Those that left an in-sync set that was smaller than the minimum afterwards: they hold all that was promised.
    eligible: Vec<NodeId>,
    pub(super) leader: Option<NodeId>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Broker {
    pub(super) epoch: BrokerEpoch,
    pub(super) is_fenced: bool,
}

impl Image {
    pub(super) fn view(&self) -> View {
        View {
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            replicas: self.brokers.keys().map(|node| self.member(*node)).collect(),
            in_sync: self.in_sync.clone(),
        }
    }

    pub(super) fn member(&self, node: NodeId) -> Member {
        let broker = self.brokers[&node];
        Member { replica: Replica { node, broker_epoch: broker.epoch }, may_join: !broker.is_fenced }
    }

    pub(super) fn leadership(&self) -> Leadership {
        Leadership { leader: self.leader, leader_epoch: self.leader_epoch, unclean_epoch: None }
    }

    fn is_live(&self, node: NodeId) -> bool {
        !self.brokers[&node].is_fenced
    }

    /// The in-sync set is another one. Who is missing from one that is too small goes on being eligible (KIP-966).
    fn set_in_sync(&mut self, in_sync: Vec<NodeId>, min_in_sync: usize) {
        let held = std::mem::replace(&mut self.in_sync, in_sync).into_iter().chain(std::mem::take(&mut self.eligible));
        if self.in_sync.len() < min_in_sync {
            self.eligible = held.filter(|node| !self.in_sync.contains(node)).collect();
        }
        self.partition_epoch.0 += 1;
    }

    /// A broker leaves the set, unless it is the last one there, and leads no longer.
    fn withdraw(&mut self, node: NodeId, min_in_sync: usize) {
        if self.in_sync.contains(&node) && self.in_sync != [node] {
            let rest = self.in_sync.iter().copied().filter(|member| *member != node).collect();
            self.set_in_sync(rest, min_in_sync);
        }
        if self.leader == Some(node) {
            self.leader = None;
            self.elect_any(node, min_in_sync);
        }
    }

    /// Where nobody leads any more, whoever may does, but for `not`: one in sync, or else an eligible one by itself.
    fn elect_any(&mut self, not: NodeId, min_in_sync: usize) {
        let may = |node: &NodeId| *node != not && self.is_live(*node);
        let next = self.in_sync.iter().copied().find(may);
        let eligible = self.eligible.iter().copied().find(may);
        if let (None, Some(node)) = (next, eligible) {
            self.set_in_sync(vec![node], min_in_sync);
        }
        self.elect(next.or(eligible));
    }

    fn elect(&mut self, leader: Option<NodeId>) {
        self.leader = leader;
        self.leader_epoch.0 += 1;
        self.partition_epoch.0 += 1;
    }
}

pub(super) struct Authority {
    /// The metadata after each entry.
    pub(super) log: Vec<Image>,
    pub(super) term: u64,
    min_in_sync: usize,
    next_broker_epoch: i64,
}

impl Authority {
    /// All brokers live, all are in sync, the first leads.
    pub(super) fn new(brokers: i32, min_in_sync: usize) -> Authority {
        let nodes = (0..brokers).map(NodeId);
        let live = |node: NodeId| (node, Broker { epoch: BrokerEpoch(1 + i64::from(node.0)), is_fenced: false });
        let first = Image {
            brokers: nodes.clone().map(live).collect(),
            in_sync: nodes.collect(),
            eligible: Vec::new(),
            leader: Some(NodeId(0)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        };
        Authority { log: vec![first], term: 1, min_in_sync, next_broker_epoch: 100 }
    }

    pub(super) fn now(&self) -> &Image {
        self.log.last().expect("there is a first image")
    }

    fn commit(&mut self, change: impl FnOnce(&mut Image)) {
        let mut image = self.now().clone();
        change(&mut image);
        assert!(!image.in_sync.is_empty(), "an in-sync set is never empty");
        self.log.push(image);
    }

    /// A process of a broker begins: fenced, out of the set unless it is the last one, its leadership over.
    pub(super) fn register(&mut self, node: NodeId) -> (BrokerEpoch, usize) {
        self.next_broker_epoch += 1;
        let epoch = BrokerEpoch(self.next_broker_epoch);
        let min_in_sync = self.min_in_sync;
        self.commit(|image| {
            image.brokers.insert(node, Broker { epoch, is_fenced: true });
            image.withdraw(node, min_in_sync);
        });
        (epoch, self.log.len() - 1)
    }

    /// In two entries, as it is decided: first nobody may elect it, then its partition changes.
    pub(super) fn fence(&mut self, node: NodeId) {
        if self.now().is_live(node) {
            self.commit(|image| image.brokers.get_mut(&node).expect("a broker").is_fenced = true);
            let min_in_sync = self.min_in_sync;
            self.commit(|image| image.withdraw(node, min_in_sync));
        }
    }

    pub(super) fn unfence(&mut self, node: NodeId, epoch: BrokerEpoch) {
        if self.now().brokers[&node].epoch == epoch && !self.now().is_live(node) {
            let min_in_sync = self.min_in_sync;
            self.commit(|image| {
                image.brokers.get_mut(&node).expect("a broker").is_fenced = false;
                if image.leader.is_none() && image.in_sync.contains(&node) {
                    image.elect(Some(node));
                } else if image.leader.is_none() && image.eligible.contains(&node) {
                    image.set_in_sync(vec![node], min_in_sync);
                    image.elect(Some(node));
                }
            });
        }
    }

    /// Leadership goes to another that is in sync.
    pub(super) fn move_leader(&mut self, to: NodeId) {
        let image = self.now();
        if image.leader.is_some_and(|leader| leader != to) && image.in_sync.contains(&to) && image.is_live(to) {
            self.commit(|image| image.elect(Some(to)));
        }
    }

    /// Judges a proposal as a controller does; `None` where it is meant for another one.
    pub(super) fn decide(&mut self, from: Replica, term: u64, proposal: &Proposal) -> Option<Answer> {
        if term != self.term {
            return None;
        }
        let image = self.now();
        let is_eligible = |member: &Replica| {
            image
                .brokers
                .get(&member.node)
                .is_some_and(|broker| broker.epoch == member.broker_epoch && !broker.is_fenced)
        };
        let outcome = if image.leader != Some(from.node)
            || image.brokers[&from.node].epoch != from.broker_epoch
            || image.leader_epoch != proposal.leader_epoch
            || image.partition_epoch != proposal.partition_epoch
        {
            ProposalOutcome::Stale
        } else if !proposal.members.iter().all(is_eligible) {
            ProposalOutcome::Ineligible
        } else {
            let min_in_sync = self.min_in_sync;
            let members = proposal.members.iter().map(|member| member.node).collect();
            self.commit(|image| image.set_in_sync(members, min_in_sync));
            ProposalOutcome::Committed
        };
        let &Proposal { partition, leader_epoch, partition_epoch, attempt, .. } = proposal;
        Some(Answer { partition, leader_epoch, partition_epoch, attempt, outcome })
    }
}
