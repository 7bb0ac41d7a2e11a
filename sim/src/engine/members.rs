//! Who belongs to a cluster, as its brokers know it, and whether what its metadata quorum takes for committed is on the
//! disks of a majority.
//!
//! A vote that counts wrongly shows to clients only if the right brokers die before the others have caught up, so the
//! engine holds each commit of a leader against the disks of those whom it counts.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::ids::NodeId;
use chronik_core::node::Node;
use chronik_core::raft::{Member, Membership};

use crate::history::{Members, What};

/// How much of the metadata log is on whose disk. A broker with another disk is another member.
#[derive(Debug, Default)]
pub(super) struct Logs {
    durable: BTreeMap<Member, u64>,
    /// A lack was noted; what follows from it is of no interest.
    is_told: bool,
}

/// What was seen of a process last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    quorum: Membership,
    brokers: Vec<u32>,
    committed: u64,
}

impl Seen {
    /// What the node of a broker knows by now, after a step: what is news, or all of it.
    pub(super) fn news(&mut self, node: &Node, logs: &mut Logs, all: bool) -> Vec<What> {
        let mut news = Vec::new();
        let members = node.members();
        logs.durable.insert(members.me, members.durable);
        let votes = node.votes();
        if votes.leads && votes.committed > self.committed {
            news.extend(logs.lack(votes.committed, [&self.quorum, members.quorum]));
        }
        self.committed = votes.committed;
        let is_news = members.quorum.since() != self.quorum.since();
        if is_news {
            self.quorum = members.quorum.clone();
        }
        if all || is_news || !node.known_brokers().map(number).eq(self.brokers.iter().copied()) {
            self.brokers = node.known_brokers().map(number).collect();
            news.push(What::Members(Box::new(Members {
                voters: numbers(self.quorum.voters()),
                is_changing: self.quorum.is_joint(),
                brokers: self.brokers.clone(),
            })));
        }
        news
    }
}

impl Logs {
    /// Tells if a leader takes something for committed that a majority lacks: by the membership that it knew before the
    /// step, and by the one that it knows since, of which either may be the one that decided.
    fn lack(&mut self, committed: u64, memberships: [&Membership; 2]) -> Option<What> {
        let durable = |voter: &Member| self.durable.get(voter).copied().unwrap_or_default();
        let agree = |voters: &BTreeSet<Member>| {
            voters.is_empty() || 2 * voters.iter().filter(|voter| durable(voter) >= committed).count() > voters.len()
        };
        let is_held = |membership: &&Membership| agree(membership.voters()) && agree(membership.outgoing());
        if self.is_told || memberships.iter().any(is_held) {
            return None;
        }
        let voters: BTreeSet<Member> = memberships.iter().flat_map(|known| known.voters() | known.outgoing()).collect();
        let voters = voters.iter().map(|voter| (number(voter.node), durable(voter))).collect();
        self.is_told = true;
        Some(What::CommitsAlone { committed, voters })
    }
}

fn numbers(members: &BTreeSet<Member>) -> Vec<u32> {
    members.iter().map(|member| number(member.node)).collect()
}

/// A broker's number in the plan.
fn number(node: NodeId) -> u32 {
    u32::try_from(node.0).expect("a plan's brokers")
}

#[cfg(test)]
mod tests {
    use chronik_core::ids::Uuid;

    use super::*;

    fn one(node: u8) -> Member {
        Member { node: NodeId(node.into()), directory: Uuid([node; 16]) }
    }

    fn of(nodes: impl IntoIterator<Item = u8>) -> Membership {
        Membership::of(nodes.into_iter().map(one)).expect("a membership")
    }

    fn logs(durable: [(u8, u64); 3]) -> Logs {
        Logs { durable: durable.map(|(node, index)| (one(node), index)).into(), is_told: false }
    }

    #[test]
    fn what_a_majority_has_is_committed_and_nothing_else() {
        let three = of(1..=3);
        assert_eq!(logs([(1, 7), (2, 7), (3, 2)]).lack(7, [&three, &three]), None);
        let lack = logs([(1, 7), (2, 6), (3, 2)]).lack(7, [&three, &three]);
        assert_eq!(lack, Some(What::CommitsAlone { committed: 7, voters: vec![(1, 7), (2, 6), (3, 2)] }));
    }

    #[test]
    fn the_membership_of_before_or_after_the_step_may_have_decided() {
        let (three, four) = (of(1..=3), of(1..=4));
        assert_eq!(logs([(1, 7), (2, 7), (3, 2)]).lack(7, [&three, &four]), None);
        assert!(logs([(1, 7), (2, 7), (3, 2)]).lack(7, [&four, &four]).is_some(), "two of four are no majority");
    }

    #[test]
    fn another_disk_is_another_member() {
        let mut logs = logs([(1, 7), (2, 1), (3, 7)]);
        let anew = Member { directory: Uuid([9; 16]), ..one(3) };
        let quorum = Membership::of([one(1), one(2), anew]).expect("a membership");
        assert!(logs.lack(7, [&quorum, &quorum]).is_some());
        assert_eq!(logs.lack(7, [&quorum, &quorum]), None, "once is enough");
    }
}
