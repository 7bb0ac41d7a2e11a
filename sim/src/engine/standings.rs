//! What brokers of a cluster believe, noted where it has changed: who leads, who is in sync, and whatever went back.
//!
//! How far a log and its high watermark have come changes all the time; that is noted with what else changes, and when the
//! engine looks around now and then ([`LOOK_MS`]). Where a log starts changes seldom and is noted each time: who is told
//! that an offset is gone is right from that moment on, and not before. All the time, too, a high watermark is held
//! against the disks of those who count for it: what is missing there shows to clients only if the right brokers die
//! before it has come.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::controller::records::PartitionState;
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::node::{self, Node, Votes};

use super::members;
use crate::history::{Role, Standing, What};

/// All that every broker believes is noted so often, in milliseconds, whether it is news or not.
pub(super) const LOOK_MS: u64 = 5_000;

/// What was seen of a process last.
#[derive(Debug, Default)]
pub(super) struct Noted {
    votes: Votes,
    members: members::Seen,
    partitions: BTreeMap<TopicPartition, Seen>,
}

/// What was seen of every partition in the whole cluster, and of the metadata log, whose processes may have ended since.
#[derive(Debug, Default)]
pub(super) struct Held {
    partitions: BTreeMap<TopicPartition, Copies>,
    logs: members::Logs,
}

/// One partition's copies, and what they are to hold.
#[derive(Debug, Default)]
struct Copies {
    /// The newest state that anybody has applied: its number, and who is in sync.
    state: (i32, Vec<u32>),
    /// An election outside the in-sync set has made void what was known of high watermarks.
    is_unclean: bool,
    /// The greatest high watermark of whoever has led.
    high_watermark: Offset,
    /// How far each broker's log is on its disk.
    durable: BTreeMap<u32, Offset>,
    /// The lack was noted; what follows from it is of no interest.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    stay: u64,
    role: Role,
    leader_epoch: i32,
    partition_epoch: i32,
    in_sync_min: usize,
    high_watermark: Offset,
    durable: Offset,
    start: Offset,
    end: Offset,
}

impl Seen {
    fn of(standing: &node::Standing<'_>) -> Seen {
        Seen {
            stay: standing.stay,
            role: match (standing.leads, standing.follows) {
                (true, _) => Role::Leads,
                (false, true) => Role::Follows,
                (false, false) => Role::Rests,
            },
            leader_epoch: standing.leader_epoch.0,
            partition_epoch: standing.state.partition_epoch,
            in_sync_min: standing.min_in_sync,
            high_watermark: standing.high_watermark,
            durable: standing.durable,
            start: standing.start,
            end: standing.end,
        }
    }

    /// Whether it is worth a note beside what was seen before.
    fn is_news(&self, before: &Seen) -> bool {
        (self.role, self.leader_epoch, self.partition_epoch, self.in_sync_min, self.start)
            != (before.role, before.leader_epoch, before.partition_epoch, before.in_sync_min, before.start)
            || self.high_watermark < before.high_watermark
            || self.is_ahead_of_its_log() && !before.is_ahead_of_its_log()
    }

    fn is_ahead_of_its_log(&self) -> bool {
        self.high_watermark > self.end
    }

    /// Whether it says anything of what disks hold, or are to hold, that was not known before.
    fn concerns_disks(&self, before: &Seen) -> bool {
        (self.role, self.partition_epoch, self.high_watermark, self.durable)
            != (before.role, before.partition_epoch, before.high_watermark, before.durable)
    }
}

impl Held {
    /// A broker stands so. What a disk lacks since then, if one does.
    fn take(&mut self, broker: u32, standing: &node::Standing<'_>) -> Option<What> {
        let copies = self.partitions.entry(standing.partition).or_default();
        copies.durable.insert(broker, standing.durable);
        let state = standing.state;
        if state.partition_epoch > copies.state.0 || copies.state.1.is_empty() {
            copies.state = (state.partition_epoch, members(state).collect());
            copies.is_unclean |= state.unclean_epoch.is_some();
        }
        if standing.leads {
            copies.high_watermark = copies.high_watermark.max(standing.high_watermark);
        }
        if copies.is_unclean || copies.is_told {
            return None;
        }
        let on_disk = |member: &u32| copies.durable.get(member).copied().unwrap_or_default();
        let member = copies.state.1.iter().copied().find(|member| on_disk(member) < copies.high_watermark)?;
        copies.is_told = true;
        let (durable, high_watermark) = (on_disk(&member), copies.high_watermark);
        Some(What::Lacks { partition: standing.partition, member, durable, high_watermark })
    }

    /// A broker holds a partition no longer, as the metadata says that it has. What it had on its disk by then nobody saw, if
    /// it came there in the same step, and it may have told the leader.
    fn left(&mut self, broker: u32, partition: TopicPartition) {
        if let Some(copies) = self.partitions.get_mut(&partition) {
            copies.durable.insert(broker, Offset(i64::MAX));
        }
    }
}

impl Noted {
    /// What the node of a broker believes by now, after a step: what is news, or all of it.
    pub(super) fn news(&mut self, broker: u32, node: &Node, held: &mut Held, all: bool) -> Vec<What> {
        let mut news = Vec::new();
        let votes = node.votes();
        let is_news = (votes.term, votes.leads) != (self.votes.term, self.votes.leads);
        if all || is_news || votes.committed < self.votes.committed {
            news.push(What::Votes { term: votes.term, leads: votes.leads, committed: votes.committed });
        }
        self.votes = votes;
        news.extend(self.members.news(node, &mut held.logs, all));
        let mut count = 0;
        for standing in node.standings() {
            count += 1;
            let seen = Seen::of(&standing);
            let mut before = self.partitions.insert(standing.partition, seen);
            // Whoever learns of many changes at once may leave and come back in one step.
            if before.take_if(|before| before.stay != seen.stay).is_some() {
                news.push(What::Left { partition: standing.partition });
            }
            if before.is_none_or(|before| seen.concerns_disks(&before)) {
                news.extend(held.take(broker, &standing));
            }
            if all || before.is_none_or(|before| seen.is_news(&before)) {
                news.push(What::Stands(Box::new(told(&standing, seen.role))));
            }
        }
        if count < self.partitions.len() {
            let holds: BTreeSet<TopicPartition> = node.standings().map(|standing| standing.partition).collect();
            self.partitions.retain(|&partition, _| {
                let stays = holds.contains(&partition);
                if !stays {
                    held.left(broker, partition);
                    news.push(What::Left { partition });
                }
                stays
            });
        }
        news
    }
}

/// Who is in sync.
fn members(state: &PartitionState) -> impl Iterator<Item = u32> {
    state.isr.iter().map(|node| u32::try_from(node.0).expect("a plan's brokers"))
}

fn told(standing: &node::Standing<'_>, role: Role) -> Standing {
    Standing {
        partition: standing.partition,
        role,
        leader_epoch: standing.leader_epoch.0,
        partition_epoch: standing.state.partition_epoch,
        replicas: standing.state.replicas.len(),
        is_moving: standing.state.is_reassigning(),
        in_sync: members(standing.state).collect(),
        in_sync_min: standing.min_in_sync,
        high_watermark: standing.high_watermark,
        start: standing.start,
        end: standing.end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_log_starts_is_noted_each_time_and_how_far_it_has_come_is_not() {
        let before = Seen {
            stay: 1,
            role: Role::Follows,
            leader_epoch: 1,
            partition_epoch: 2,
            in_sync_min: 1,
            high_watermark: Offset(5),
            start: Offset(3),
            end: Offset(9),
            durable: Offset(9),
        };
        assert!(!Seen { high_watermark: Offset(6), ..before }.is_news(&before));
        assert!(Seen { high_watermark: Offset(4), ..before }.is_news(&before));
        assert!(Seen { start: Offset(4), ..before }.is_news(&before));
        assert!(Seen { start: Offset(2), ..before }.is_news(&before));
        assert!(Seen { partition_epoch: 3, ..before }.is_news(&before));
        assert!(Seen { in_sync_min: 2, ..before }.is_news(&before));
    }
}
