//! What an operator is told of changes in the cluster: lines of the log, and counts.
//!
//! The end of a broker moves thousands of partitions at once. So changes of partitions are gathered, and one line of each
//! kind tells of a second: the first few by name, and how many more. What was so before this process was registered is no
//! news.

use std::time::Duration;

use super::super::{Node, logs};
use crate::boundary::{Level, Outbox};
use crate::controller::records::{MetadataRecord, PartitionState};
use crate::ids::{NodeId, TopicPartition};
use crate::time::{Instant, Now};

/// How often changes of partitions are told of.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// How many partitions a line names.
const NAMED_MAX: usize = 3;

/// Changes of partitions that were not told of.
#[derive(Debug, Default)]
pub(super) struct News {
    led: Several,
    followed: Several,
    shrunk: Several,
    grown: Several,
    unclean: Several,
    leaderless: Several,
    /// Nothing is told before.
    next_at: Instant,
}

/// Changes of one kind.
#[derive(Debug, Default)]
struct Several {
    named: Vec<String>,
    count: usize,
}

impl Several {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(what());
        }
    }

    fn tell(&mut self, level: Level, head: &str, out: &mut Outbox) {
        let Several { named, count } = std::mem::take(self);
        let named_count = named.len();
        let named = named.join(", ");
        match count - named_count {
            _ if count == 0 => {}
            0 => out.log(level, format!("{head}: {named}")),
            more => out.log(level, format!("{head}: {named}, and {more} more")),
        }
    }
}

impl Node {
    /// Takes note of a record that is about to be applied.
    pub(super) fn note_news(&mut self, record: &MetadataRecord, out: &mut Outbox) {
        if !self.metadata.is_clustered() || self.broker_epoch().is_none() {
            return;
        }
        let mut tell = |node: &NodeId, what: &str| out.log(Level::Info, format!("node {node} {what}"));
        match record {
            MetadataRecord::Partition { partition, state } => self.note_partition(*partition, state),
            MetadataRecord::RegisterBroker(process) => tell(&process.node_id, "has registered, fenced as yet"),
            MetadataRecord::FenceBroker { node_id, .. } => {
                tell(node_id, "is fenced: it leads nothing, and joins no in-sync set");
            }
            MetadataRecord::UnfenceBroker { node_id, .. } => tell(node_id, "is unfenced: it may lead, and be in sync"),
            MetadataRecord::BeginShutdown { node_id, .. } => tell(node_id, "is about to stop"),
            MetadataRecord::RemoveBroker { node_id } => tell(node_id, "is registered no more"),
            _ => {}
        }
    }

    fn note_partition(&mut self, partition: TopicPartition, after: &PartitionState) {
        let (me, decides) = (self.node_id(), self.metadata.leading.is_some());
        let image = self.controller.image();
        // One that is new is told of with its topic.
        let (Some(topic), Some(before)) = (image.topic(partition.topic), image.partition(partition)) else { return };
        let name = || logs::display(&topic.name, partition);
        let news = &mut self.metadata.news;
        if let Some(leader) = after.leader.filter(|_| after.leader != before.leader) {
            let is_unclean = after.unclean_epoch == Some(after.leader_epoch);
            if decides {
                self.counters.leader_elections += 1;
                self.counters.unclean_leader_elections += u64::from(is_unclean);
            }
            if is_unclean && (decides || leader == me) {
                news.unclean.add(|| format!("{} by node {leader}", name()));
            }
            if leader == me {
                news.led.add(|| format!("{} epoch={}", name(), after.leader_epoch));
            } else if after.replicas.contains(&me) {
                news.followed.add(|| format!("{} leader={leader} epoch={}", name(), after.leader_epoch));
            }
        }
        if after.leader.is_none() && before.leader.is_some() && (decides || before.leader == Some(me)) {
            news.leaderless.add(name);
        }
        // Who leads is whom it concerns; each change is so counted once in the cluster.
        if after.leader == Some(me) {
            let told = || format!("{} from {} to {}", name(), list(&before.isr), list(&after.isr));
            if before.isr.iter().any(|member| !after.isr.contains(member)) {
                self.counters.in_sync_shrinks += 1;
                news.shrunk.add(told);
            }
            if after.isr.iter().any(|member| !before.isr.contains(member)) {
                self.counters.in_sync_expands += 1;
                news.grown.add(told);
            }
        }
    }

    /// Tells of what has changed, where that is due.
    pub(super) fn tell_news(&mut self, now: Now, out: &mut Outbox) {
        let News { led, followed, shrunk, grown, unclean, leaderless, next_at } = &mut self.metadata.news;
        let all = [&*led, followed, shrunk, grown, unclean, leaderless];
        if now.instant < *next_at || all.iter().all(|several| several.count == 0) {
            return;
        }
        *next_at = now.instant + TOLD_EVERY;
        unclean.tell(Level::Warn, "led by an unclean election, records may be lost", out);
        leaderless.tell(Level::Warn, "led by nobody", out);
        led.tell(Level::Info, "led by this node from now on", out);
        followed.tell(Level::Info, "followed by this node from now on", out);
        shrunk.tell(Level::Info, "in-sync set is smaller", out);
        grown.tell(Level::Info, "in-sync set is larger", out);
    }
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
