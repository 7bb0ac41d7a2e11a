//! What of a partition whose records have keys in common may be gone: what a later record of its key supersedes.
//!
//! Which key a record has, and whether it is a tombstone, follows from whose it is. Records are known by their acks and
//! from whoever read them, in the run's last era. Of other sendings it is not known where they lie, if anywhere: before
//! the end of the run they may have superseded anything that was written before; at its end each lies where it was read.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::Offset;
use chronik_core::time::Instant;

use super::{Facts, Partition};
use crate::history::Event;
use crate::plan::ClientKind;
use crate::value::{Attempt, Keys, SharedKeys};

/// What a message's way, a drifting clock and a batch's timestamps, which lie a millisecond apart, may amount to.
const SLACK: Duration = Duration::from_millis(200);
/// Kafka keeps tombstones for a day where nothing else is said.
const DELETE_RETENTION_MS: u64 = 24 * 3_600_000;

/// The keys of one partition.
#[derive(Debug)]
pub(in crate::claims) struct Keyed {
    keys: SharedKeys,
    /// What lies, or lay, at each offset that anybody knows of.
    records: BTreeMap<i64, Written>,
    /// By key.
    writes: BTreeMap<u32, Writes>,
    /// Records stay at least so long beside what supersedes them.
    lag: Duration,
    delete_retention: Duration,
    /// How wrong clocks may be.
    slack: Duration,
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub(in crate::claims) struct Written {
    pub attempt: Attempt,
    pub index: u32,
    /// Its key's number.
    pub key: u32,
    pub is_tombstone: bool,
    /// The event of its first sending.
    sent: usize,
}

/// What was written under a key.
#[derive(Debug, Default)]
struct Writes {
    /// By the event of their first sending: the largest offset so far.
    known: Vec<(usize, i64)>,
    /// The first sending of which nobody knows where it lies.
    open: Option<usize>,
    /// The first such of a tombstone.
    open_tombstone: Option<usize>,
}

impl Keyed {
    /// Of a partition, if its records have keys in common.
    pub(super) fn of(facts: &Facts<'_>, partition: &Partition) -> Option<Keyed> {
        let name = facts.topics.name(partition.id.topic)?;
        let plan = facts.plan.topics.iter().find(|topic| topic.name == name)?;
        let Keys::Shared(keys) = plan.keys() else { return None };
        let setting = |name: &str| {
            let broker = facts.plan.node.broker.get(&format!("log.cleaner.{name}"));
            plan.configs.get(name).or(broker).and_then(|text| text.parse().ok())
        };
        let late = facts.plan.clients.iter().map(|client| match client.kind {
            ClientKind::Producer { late_ms_max, .. } => late_ms_max,
            _ => 0,
        });
        let lag_ms = setting("min.compaction.lag.ms").unwrap_or(0);
        // By the timestamps of records, which may tell of earlier.
        let lag_ms = u64::saturating_sub(lag_ms, late.max().unwrap_or(0));
        let mut keyed = Keyed {
            keys,
            records: BTreeMap::new(),
            writes: BTreeMap::new(),
            lag: Duration::from_millis(lag_ms),
            delete_retention: Duration::from_millis(setting("delete.retention.ms").unwrap_or(DELETE_RETENTION_MS)),
            slack: SLACK + Duration::from_millis(facts.moved_ms),
        };
        keyed.learn(facts, partition);
        Some(keyed)
    }

    fn learn(&mut self, facts: &Facts<'_>, partition: &Partition) {
        let era = facts.faults.last_era();
        // Where what was sent begins, by its index.
        let mut bases: BTreeMap<u32, i64> = BTreeMap::new();
        for ack in partition.acks.iter().filter(|ack| ack.era == era && ack.base.0 >= 0) {
            if facts.sends.at(ack.sent).is_by_id || facts.topics.name_is_certain(partition.id.topic, ack.event) {
                bases.insert(ack.sent, ack.base.0);
            }
        }
        for (offset, seen) in partition.records(era) {
            if let Some(sent) = facts.index_of(seen.origin) {
                bases.entry(sent).or_insert(offset.0 - i64::from(seen.index));
            }
        }
        let mut known: BTreeMap<u32, Vec<(usize, i64)>> = BTreeMap::new();
        for (number, sent) in (0..).zip(facts.sends.all()) {
            let may_be_here = sent.to == partition.id
                || !sent.is_by_id
                    && sent.to.partition == partition.id.partition
                    && facts.topics.may_share_name(sent.to.topic, partition.id.topic);
            let base = bases.get(&number).copied();
            if base.is_none() && (sent.is_refused || !may_be_here) {
                continue;
            }
            for index in 0..sent.records {
                let (key, is_tombstone) =
                    (self.keys.number(sent.attempt, index), self.keys.is_tombstone(sent.attempt, index));
                let Some(base) = base else {
                    let writes = self.writes.entry(key).or_default();
                    let earlier = |open: Option<usize>| Some(open.map_or(sent.first, |open| open.min(sent.first)));
                    writes.open = earlier(writes.open);
                    if is_tombstone {
                        writes.open_tombstone = earlier(writes.open_tombstone);
                    }
                    continue;
                };
                let offset = base + i64::from(index);
                let written = Written { attempt: sent.attempt, index, key, is_tombstone, sent: sent.first };
                self.records.insert(offset, written);
                known.entry(key).or_default().push((sent.first, offset));
            }
        }
        for (key, mut all) in known {
            all.sort_unstable();
            let mut highest = -1;
            for (_, offset) in &mut all {
                highest = highest.max(*offset);
                *offset = highest;
            }
            self.writes.entry(key).or_default().known = all;
        }
    }

    /// Every record that anybody knows of, by rising offset, whether it is still there or not.
    pub(in crate::claims) fn records(&self) -> impl Iterator<Item = (Offset, &Written)> {
        self.records.iter().map(|(&offset, written)| (Offset(offset), written))
    }

    /// Whether the record at an offset may be gone when an event happens. What was never known to be there may be.
    pub(in crate::claims) fn may_be_gone(&self, offset: Offset, event: usize, events: &[Event]) -> bool {
        self.is_excused(offset, event, events, |writes| writes.open)
    }

    /// Whether the record at an offset may be gone at the run's end, which an event shows: whatever else could have
    /// superseded it would have been read, or be a tombstone whose time is over.
    pub(in crate::claims) fn may_be_gone_at_last(&self, offset: Offset, event: usize, events: &[Event]) -> bool {
        let old = |sent: &usize| self.is_expired(*sent, event, events);
        self.is_excused(offset, event, events, |writes| writes.open_tombstone.filter(old))
    }

    fn is_excused(
        &self,
        offset: Offset,
        event: usize,
        events: &[Event],
        open: impl Fn(&Writes) -> Option<usize>,
    ) -> bool {
        let Some(written) = self.records.get(&offset.0) else { return true };
        let until = self.old_enough(event, events);
        let writes = &self.writes[&written.key];
        let known = writes.known[..writes.known.partition_point(|&(sent, _)| sent < until)].last();
        known.is_some_and(|&(_, highest)| highest > offset.0)
            || open(writes).is_some_and(|sent| sent < until)
            || written.is_tombstone && self.is_expired(written.sent, event, events)
    }

    /// What was sent before the event that is returned may supersede others when an event happens.
    fn old_enough(&self, event: usize, events: &[Event]) -> usize {
        if self.lag.is_zero() {
            return event;
        }
        let at = self.latest(event, events);
        events[..event].partition_point(|sent| sent.at + self.lag <= at)
    }

    /// Whether a tombstone may be gone when an event happens, for its time is over.
    fn is_expired(&self, sent: usize, event: usize, events: &[Event]) -> bool {
        events[sent].at + self.delete_retention <= self.latest(event, events)
    }

    /// What time the broker may take it for.
    fn latest(&self, event: usize, events: &[Event]) -> Instant {
        events[event].at + self.slack
    }

    /// Whether a tombstone stays for whoever reads for so long.
    pub(in crate::claims) fn keeps_tombstones_for(&self, reading: Duration) -> bool {
        reading + self.slack < self.delete_retention
    }
}
