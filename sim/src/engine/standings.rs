//! What brokers of a cluster believe, noted where it has changed: who leads, who is in sync, and whatever went back.
//!
//! How far a log and its high watermark have come changes all the time; that is noted with what else changes, and when the
//! engine looks around now and then ([`LOOK_MS`]).

use std::collections::BTreeMap;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::node::{self, Node, Votes};

use crate::history::{Role, Standing, What};

/// All that every broker believes is noted so often, in milliseconds, whether it is news or not.
pub(super) const LOOK_MS: u64 = 5_000;

/// What was seen of a process last.
#[derive(Debug, Default)]
pub(super) struct Noted {
    votes: Votes,
    partitions: BTreeMap<TopicPartition, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    role: Role,
    leader_epoch: i32,
    partition_epoch: i32,
    high_watermark: Offset,
    start: Offset,
}

impl Seen {
    fn of(standing: &node::Standing<'_>) -> Seen {
        Seen {
            role: match (standing.leads, standing.follows) {
                (true, _) => Role::Leads,
                (false, true) => Role::Follows,
                (false, false) => Role::Rests,
            },
            leader_epoch: standing.leader_epoch.0,
            partition_epoch: standing.state.partition_epoch,
            high_watermark: standing.high_watermark,
            start: standing.start,
        }
    }

    /// Whether it is worth a note beside what was seen before.
    fn is_news(&self, before: &Seen) -> bool {
        (self.role, self.leader_epoch, self.partition_epoch)
            != (before.role, before.leader_epoch, before.partition_epoch)
            || self.high_watermark < before.high_watermark
            || self.start < before.start
    }
}

impl Noted {
    /// What a node believes by now, after a step: what is news, or all of it.
    pub(super) fn news(&mut self, node: &Node, all: bool) -> Vec<What> {
        let mut news = Vec::new();
        let votes = node.votes();
        let is_news = (votes.term, votes.leads) != (self.votes.term, self.votes.leads);
        if all || is_news || votes.committed < self.votes.committed {
            news.push(What::Votes { term: votes.term, leads: votes.leads, committed: votes.committed });
        }
        self.votes = votes;
        for standing in node.standings() {
            let seen = Seen::of(&standing);
            let before = self.partitions.insert(standing.partition, seen);
            if all || before.is_none_or(|before| seen.is_news(&before)) {
                news.push(What::Stands(Box::new(told(&standing, seen.role))));
            }
        }
        news
    }
}

fn told(standing: &node::Standing<'_>, role: Role) -> Standing {
    let in_sync = standing.state.isr.iter().map(|node| u32::try_from(node.0).expect("a plan's brokers"));
    Standing {
        partition: standing.partition,
        role,
        leader_epoch: standing.leader_epoch.0,
        partition_epoch: standing.state.partition_epoch,
        in_sync: in_sync.collect(),
        in_sync_min: standing.min_in_sync,
        high_watermark: standing.high_watermark,
        start: standing.start,
        end: standing.end,
    }
}
