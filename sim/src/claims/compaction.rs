//! Compaction keeps the latest value of every key and every offset above the dirty point.
//!
//! Judged by what the auditor finds, against whatever was acknowledged or ever read. That nothing else is missing in
//! what anybody reads while compaction is at work is told of in [`reads`](super::reads), what offsets tell in their
//! claims.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::Offset;

use super::facts::{Facts, Keyed, Partition, Written, attempt};
use super::{Claim, Found};
use crate::history::{ClientId, What};

pub(super) const COMPACTION_KEEPS_THE_NEWEST: Claim = Claim {
    name: "compaction-keeps-the-newest",
    meaning: "Of each key the newest record is there at the end, unless it is a tombstone older than \
              delete.retention.ms, and so is every record that no later one of its key supersedes.",
};

pub(super) const DELETED_KEYS_STAY_DELETED: Claim = Claim {
    name: "deleted-keys-stay-deleted",
    meaning: "Whoever reads a log from its start within delete.retention.ms finds, of a key whose newest record is a \
              tombstone, that tombstone or nothing.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if !facts.is_audited {
        return;
    }
    for partition in facts.partitions.iter().filter(|partition| !facts.is_loss_reported(partition)) {
        let Some(keyed) = &partition.keyed else { continue };
        let Some(served) = partition.audit.served.filter(|_| partition.audit.refused.is_none()) else { continue };
        keeps_the_newest(facts, partition, keyed, served, found);
        stay_deleted(facts, partition, keyed, served, found);
    }
}

/// Whether the auditor found anything at an offset.
fn is_there(partition: &Partition, offset: Offset) -> bool {
    partition.at(offset).is_some_and(|seen| seen.is_audited)
}

fn keeps_the_newest(facts: &Facts<'_>, partition: &Partition, keyed: &Keyed, served: usize, found: &mut Found) {
    let start = partition.audit.start;
    for (offset, written) in keyed.records().filter(|&(offset, _)| offset >= start) {
        // That another record is there is told of as such.
        if is_there(partition, offset) || keyed.may_be_gone_at_last(offset, served, facts.events) {
            continue;
        }
        found.add(COMPACTION_KEEPS_THE_NEWEST, served, || {
            let what = if written.is_tombstone { "a tombstone" } else { "a record" };
            format!(
                "{} offset {offset}: {what} of key {}, {} of {}, is gone at the end, and nothing that was written later \
                 supersedes it: the log goes from {start} to {}",
                facts.name(partition.id),
                written.key,
                written.index,
                attempt(written.attempt),
                partition.audit.end,
            )
        });
    }
}

fn stay_deleted(facts: &Facts<'_>, partition: &Partition, keyed: &Keyed, served: usize, found: &mut Found) {
    if !keyed.keeps_tombstones_for(reading(facts, partition)) {
        return;
    }
    let mut newest: BTreeMap<u32, (Offset, &Written)> = BTreeMap::new();
    let mut there: BTreeMap<u32, Offset> = BTreeMap::new();
    for (offset, written) in keyed.records().filter(|&(offset, _)| offset >= partition.audit.start) {
        newest.insert(written.key, (offset, written));
        if is_there(partition, offset) {
            there.insert(written.key, offset);
        }
    }
    for (key, (offset, written)) in newest {
        let Some(&left) = there.get(&key).filter(|&&left| written.is_tombstone && left < offset) else { continue };
        found.add(DELETED_KEYS_STAY_DELETED, served, || {
            format!(
                "{}: key {key} was deleted by {} at offset {offset}, which is gone, and the record at offset {left} is \
                 back",
                facts.name(partition.id),
                attempt(written.attempt),
            )
        });
    }
}

/// How long it took the auditor to read a partition.
fn reading(facts: &Facts<'_>, partition: &Partition) -> Duration {
    let is_its = |event: &&crate::history::Event| {
        let is_of_it = matches!(event.what, What::Fetched { partition: id, .. } if id == partition.id);
        event.client == ClientId::AUDITOR && is_of_it
    };
    let mut reads = facts.events.iter().filter(is_its).map(|event| match event.what {
        What::Fetched { asked_at, .. } => (asked_at, event.at),
        _ => unreachable!("only fetches are left"),
    });
    let Some((from, to)) = reads.next() else { return Duration::ZERO };
    reads.next_back().map_or(to, |(_, to)| to) - from
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::reads::READS_WITHOUT_GAP;
    use crate::claims::told::{READER, Told, records, told};
    use crate::plan::TopicPlan;
    use crate::value::SharedKeys;

    const KEYS: SharedKeys = SharedKeys { count: 1, tombstones_permille: 500 };

    /// A topic that compacts, with one key.
    fn compacted(configs: &[(&str, &str)]) -> Told {
        let all = configs.iter().chain(&[("cleanup.policy", "compact,delete")]);
        let configs = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let topic =
            TopicPlan { name: "orders".into(), partitions: 1, replication: 1, configs, shared_keys: Some(KEYS) };
        told().under(|plan| plan.topics = vec![topic])
    }

    /// The first operations of client 0 whose record is a tombstone, or is not, from an operation on.
    fn operation(is_tombstone: bool, from: u32) -> u32 {
        let is_it = |&operation: &u32| KEYS.is_tombstone(crate::claims::told::attempt(0, operation), 0) == is_tombstone;
        (from..).find(is_it).expect("one of the first few")
    }

    /// A value, then what is written after it.
    fn two(is_tombstone: bool, configs: &[(&str, &str)]) -> (Told, [u32; 2]) {
        let first = operation(false, 0);
        let second = operation(is_tombstone, first + 1);
        (compacted(configs).appends(0, first, 1, 0).appends(0, second, 1, 1), [first, second])
    }

    /// The auditor reads these of offsets 0 and 1.
    fn audits(told: Told, operations: [u32; 2], offsets: &[i64]) -> Told {
        let all = records(0, &[(0, operations[0], 1), (0, operations[1], 1)]);
        let read = all.into_iter().filter(|read| offsets.contains(&read.offset.0)).collect();
        let asked_at = told.now;
        told.fetches_up_to(asked_at, ClientId::AUDITOR, 0, read, Offset(2), (0, 2)).audit_is_over()
    }

    /// Whether exactly these claims are broken.
    fn broken(told: &Told) -> Vec<&'static str> {
        let mut names: Vec<_> =
            super::super::judge(&told.plan, &told.history).into_iter().map(|violation| violation.claim).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn what_a_later_record_supersedes_may_be_gone_and_nothing_else() {
        let read = |offsets: &[i64]| {
            let (told, operations) = two(false, &[]);
            broken(&audits(told, operations, offsets))
        };
        assert_eq!(read(&[0, 1]), [""; 0]);
        assert_eq!(read(&[1]), [""; 0]);
        let both = [COMPACTION_KEEPS_THE_NEWEST.name, READS_WITHOUT_GAP.name];
        assert_eq!(read(&[0]), both);
        assert_eq!(read(&[]), both);
    }

    #[test]
    fn what_was_only_read_is_kept_too() {
        let first = operation(false, 0);
        let sent = compacted(&[]).sends(0, first, 1).reads(READER, 0, &[(0, first, 1)]);
        let asked_at = sent.now;
        let read = sent.fetches_up_to(asked_at, ClientId::AUDITOR, 0, Vec::new(), Offset(1), (0, 1)).audit_is_over();
        assert!(broken(&read).contains(&COMPACTION_KEEPS_THE_NEWEST.name));
    }

    #[test]
    fn a_tombstone_stays_for_its_time() {
        let read = |wait_ms: u64, offsets: &[i64]| {
            let (told, operations) = two(true, &[("delete.retention.ms", "5000")]);
            broken(&audits(told.wait(wait_ms), operations, offsets))
        };
        assert_eq!(read(0, &[1]), [""; 0]);
        assert_eq!(read(6_000, &[]), [""; 0]);
        assert_eq!(read(1_000, &[]), [COMPACTION_KEEPS_THE_NEWEST.name, READS_WITHOUT_GAP.name]);
    }

    #[test]
    fn what_a_tombstone_deleted_does_not_come_back() {
        let (told, operations) = two(true, &[("delete.retention.ms", "5000")]);
        audits(told.wait(6_000), operations, &[0]).breaks(DELETED_KEYS_STAY_DELETED, "is back");
    }

    #[test]
    fn what_is_too_young_supersedes_nothing_yet() {
        let read = |wait_ms: u64| {
            let (told, operations) = two(false, &[("min.compaction.lag.ms", "5000")]);
            broken(&audits(told.wait(wait_ms), operations, &[1]))
        };
        assert_eq!(read(6_000), [""; 0]);
        assert_eq!(read(1_000), [COMPACTION_KEEPS_THE_NEWEST.name, READS_WITHOUT_GAP.name]);
    }

    #[test]
    fn a_sending_of_unknown_fate_may_supersede_until_the_end_is_read() {
        let (first, open) = (operation(false, 0), operation(false, operation(false, 0) + 1));
        let sent = compacted(&[]).appends(0, first, 1, 0).sends(0, open, 1);
        let asked_at = sent.now;
        let read = sent.fetches_up_to(asked_at, ClientId(READER), 0, Vec::new(), Offset(1), (0, 2));
        read.holds();
        assert!(broken(&audits(read, [first, open], &[])).contains(&COMPACTION_KEEPS_THE_NEWEST.name));
    }
}
