//! What was acknowledged is there, once, where it was said to be.
//!
//! Where a topic compacts, that nothing is gone but what is superseded is a claim of its own
//! ([`compaction`](super::compaction)).
//!
//! Jepsen's names: lost write, unseen, inconsistent offsets.

use chronik_core::ids::Offset;

use super::facts::{Ack, Facts, Partition, attempt, record};
use super::{Claim, Found};
use crate::history::What;

pub(super) const ACKED_IS_THERE: Claim = Claim {
    name: "acked-is-there",
    meaning: "Whatever was acknowledged with acks=1 or acks=all is in its partition at the end, whole, at the offset \
              that was told, whatever went wrong meanwhile.",
};

pub(super) const LOSES_ONLY_ITS_END: Claim = Claim {
    name: "loses-only-its-end",
    meaning: "Where a power cut may take what was acknowledged, it takes the newest of each partition: nothing stays \
              behind a batch that is gone.",
};

pub(super) const ACKED_ONCE: Claim =
    Claim { name: "acked-once", meaning: "No two batches are acknowledged at one offset, and none at two." };

pub(super) const REFUSED_IS_NOT_THERE: Claim = Claim {
    name: "refused-is-not-there",
    meaning: "A batch that was declined by an error that says so is never read.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for partition in &facts.partitions {
        once(facts, partition, found);
        refused(facts, partition, found);
        if facts.is_audited {
            there(facts, partition, found);
            end_is_lost(facts, partition, found);
        }
        read_as_acked(facts, partition, found);
    }
}

/// Whether it is known by its own ack which topic a batch went to.
fn is_certain(facts: &Facts<'_>, partition: &Partition, ack: &Ack) -> bool {
    facts.sends.at(ack.sent).is_by_id || facts.topics.name_is_certain(partition.id.topic, ack.event)
}

fn there(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let audit = &partition.audit;
    let Some(served) = audit.served.filter(|_| audit.refused.is_none()) else {
        return absent(facts, partition, found);
    };
    let era = facts.faults.last_era();
    // An ack that names no offset: the batch is to be found by what it is.
    let mut places: Option<Vec<(u32, Offset)>> = None;
    for ack in partition.acks.iter().filter(|ack| ack.era == era && is_certain(facts, partition, ack)) {
        let sent = facts.sends.at(ack.sent);
        let base = match ack.base.0 {
            0.. => ack.base,
            _ => {
                let places = places.get_or_insert_with(|| places_of(partition, era, facts));
                let place = places.binary_search_by_key(&ack.sent, |&(sent, _)| sent);
                match place {
                    Ok(place) => places[place].1,
                    // Deleted meanwhile, for all that is known.
                    Err(_) if audit.start > Offset(0) || partition.keyed.is_some() => continue,
                    Err(_) => Offset(-1),
                }
            }
        };
        // What lies below the log start was deleted: that this had a cause is a claim of its own.
        let wrong =
            (0..ack.records).map(|index| (Offset(base.0 + i64::from(index)), index)).find(|&(offset, index)| {
                let is_there = partition
                    .at(offset)
                    .is_some_and(|seen| seen.is_audited && (seen.attempt, seen.index) == (sent.attempt, index));
                let is_gone = partition.keyed.is_some() && !partition.at(offset).is_some_and(|seen| seen.is_audited);
                !is_there && !is_gone && (offset >= audit.start || offset.0 < 0)
            });
        let Some((offset, index)) = wrong else { continue };
        if facts.is_loss_reported(partition) {
            continue;
        }
        found.add(ACKED_IS_THERE, served, || {
            let instead = match partition.at(offset).filter(|seen| seen.is_audited) {
                Some(seen) => format!("there is {}", record(&seen.read(offset))),
                None => format!("nothing is there: the log goes from {} to {}", audit.start, audit.end),
            };
            format!(
                "{}: record {index} of {} was acknowledged (acks={}) at {} for offset {offset}, and at the end {instead}",
                facts.name(partition.id),
                attempt(sent.attempt),
                acks(facts, ack),
                facts.when(ack.event),
            )
        });
    }
}

/// Of what an era's end may take, no more than the end of the log is gone.
fn end_is_lost(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let audit = &partition.audit;
    // Of what was acknowledged in an earlier era it is not known whether it was lost or is superseded.
    let is_judged = audit.refused.is_none() && !facts.is_loss_reported(partition) && partition.keyed.is_none();
    let Some(served) = audit.served.filter(|_| is_judged) else { return };
    for era in 0..facts.faults.last_era() {
        let is_judged = |ack: &&Ack| ack.era == era && ack.base >= audit.start && is_certain(facts, partition, ack);
        let mut acks: Vec<&Ack> = partition.acks.iter().filter(is_judged).collect();
        acks.sort_by_key(|ack| ack.base);
        let is_there = |ack: &Ack| {
            let attempt = facts.sends.at(ack.sent).attempt;
            (0..ack.records).all(|index| {
                let seen = partition.at(Offset(ack.base.0 + i64::from(index)));
                seen.is_some_and(|seen| seen.is_audited && (seen.attempt, seen.index) == (attempt, index))
            })
        };
        let Some(gone) = acks.iter().position(|ack| !is_there(ack)) else { continue };
        let Some(kept) = acks[gone..].iter().find(|ack| is_there(ack)) else { continue };
        let gone = acks[gone];
        found.add(LOSES_ONLY_ITS_END, served, || {
            format!(
                "{}: {}, acknowledged at {} for offset {}, is gone, though {}, for offset {}, is still there",
                facts.name(partition.id),
                attempt(facts.sends.at(gone.sent).attempt),
                facts.when(gone.event),
                gone.base,
                attempt(facts.sends.at(kept.sent).attempt),
                kept.base,
            )
        });
    }
}

/// Where each batch was read, by the index of what was sent.
fn places_of(partition: &Partition, era: u32, facts: &Facts<'_>) -> Vec<(u32, Offset)> {
    let mut places: Vec<(u32, Offset)> = partition
        .runs(era)
        .filter(|run| run.first.is_audited)
        .filter_map(|run| {
            let base = Offset(run.base.0 - i64::from(run.first.index));
            Some((facts.index_of(run.first.origin)?, base))
        })
        .collect();
    places.sort_unstable();
    places
}

/// The auditor found no such partition.
fn absent(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let certain = |ack: &&Ack| is_certain(facts, partition, ack);
    let Some(ack) = partition.acks.iter().find(certain) else { return };
    let is_excused = facts.topics.may_be_deleted(partition.id.topic)
        || facts.may_refuse(partition)
        || facts.is_loss_reported(partition);
    if is_excused {
        return;
    }
    let event = partition.audit.refused.unwrap_or(facts.events.len() - 1);
    found.add(ACKED_IS_THERE, event, || {
        let answer = match partition.audit.refused {
            Some(_) => format!("answers {}", partition.audit.code.name()),
            None => "is not there".into(),
        };
        let sent = facts.sends.at(ack.sent);
        format!(
            "{} {answer} at the end, though {} was acknowledged there at {} and no fault excuses it",
            facts.name(partition.id),
            attempt(sent.attempt),
            facts.when(ack.event),
        )
    });
}

/// What anybody reads at an acknowledged offset is what was acknowledged there.
fn read_as_acked(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    for ack in partition.acks.iter().filter(|ack| ack.base.0 >= 0 && is_certain(facts, partition, ack)) {
        let sent = facts.sends.at(ack.sent);
        for index in 0..ack.records {
            let offset = Offset(ack.base.0 + i64::from(index));
            let Some(seen) = partition.at(offset).filter(|seen| seen.era == ack.era) else { continue };
            // What the auditor finds is told of as a loss.
            let is_told = seen.is_audited && facts.is_audited;
            if is_told || (seen.attempt, seen.index) == (sent.attempt, index) {
                continue;
            }
            found.add(ACKED_IS_THERE, (seen.event as usize).max(ack.event), || {
                format!(
                    "{}: record {index} of {} was acknowledged at {} for offset {offset}, where {} read {} at {}",
                    facts.name(partition.id),
                    attempt(sent.attempt),
                    facts.when(ack.event),
                    facts.who(seen.event as usize),
                    record(&seen.read(offset)),
                    facts.when(seen.event as usize),
                )
            });
            break;
        }
    }
}

fn once(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let certain = |ack: &&Ack| ack.base.0 >= 0 && is_certain(facts, partition, ack);
    let mut acks: Vec<&Ack> = partition.acks.iter().filter(certain).collect();
    acks.sort_by_key(|ack| (ack.era, ack.base, ack.event));
    for pair in acks.windows(2) {
        let [one, other] = pair else { unreachable!("windows of two") };
        let is_overlap = one.era == other.era && other.base.0 < one.base.0 + i64::from(one.records);
        // A batch that its producer sent again may be acknowledged again, at the same offsets.
        if is_overlap && (one.sent, one.base, one.records) != (other.sent, other.base, other.records) {
            tell_both(facts, partition, one, other, found);
        }
    }
    acks.sort_by_key(|ack| (ack.era, ack.sent, ack.event));
    for pair in acks.windows(2) {
        let [one, other] = pair else { unreachable!("windows of two") };
        if (one.era, one.sent) == (other.era, other.sent) && one.base != other.base && !facts.may_forget_producers() {
            tell_both(facts, partition, one, other, found);
        }
    }
}

fn tell_both(facts: &Facts<'_>, partition: &Partition, one: &Ack, other: &Ack, found: &mut Found) {
    found.add(ACKED_ONCE, one.event.max(other.event), || {
        let tell = |ack: &Ack| {
            let sent = facts.sends.at(ack.sent);
            format!(
                "{}, {} records, was acknowledged at {} for offset {}",
                attempt(sent.attempt),
                ack.records,
                facts.when(ack.event),
                ack.base
            )
        };
        format!("{}: {}; {}", facts.name(partition.id), tell(one), tell(other))
    });
}

fn refused(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    for run in partition.runs(facts.faults.last_era()) {
        let Some(sent) = facts.index_of(run.first.origin).map(|index| facts.sends.at(index)) else { continue };
        if sent.is_refused {
            found.add(REFUSED_IS_NOT_THERE, run.event, || {
                format!(
                    "{}: {} was declined, and {} reads it at offset {}",
                    facts.name(partition.id),
                    attempt(sent.attempt),
                    facts.who(run.event),
                    run.base,
                )
            });
        }
    }
}

/// The acks that a batch was sent with.
fn acks(facts: &Facts<'_>, ack: &Ack) -> &'static str {
    match &facts.events[ack.event].what {
        What::Produced { acks: -1, .. } => "all",
        _ => "1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, records, told};
    use crate::history::ClientId;
    use crate::plan::{FaultKind, FileKind};
    use chronik_core::wire::ErrorCode;

    #[test]
    fn what_was_acknowledged_is_there_after_a_crash() {
        told().appends(0, 0, 2, 0).appends(1, 0, 1, 2).loses_power().audits(&[(0, 0, 2), (1, 0, 1)]).holds();
        // An empty log is not fetched from.
        told().audits_empty(0).holds();
        told().appends(0, 0, 1, 0).deletes_records(1, 1).audits_empty(1).holds();
        told().appends(0, 0, 1, 0).audits_empty(0).breaks(ACKED_IS_THERE, "the log goes from 0 to 0");
        // An attempt of which nobody knows may be there or not.
        told().appends(0, 0, 2, 0).sends(0, 1, 1).audits(&[(0, 0, 2)]).holds();
    }

    #[test]
    fn a_lost_end_a_lost_middle_and_another_offset_are_losses() {
        let two = || told().appends(0, 0, 2, 0).appends(1, 0, 1, 2).loses_power();
        two()
            .audits(&[(0, 0, 2)])
            .breaks(ACKED_IS_THERE, "client 1's operation 0 (attempt 0) was acknowledged (acks=all)");
        two().audits(&[]).breaks(ACKED_IS_THERE, "the log goes from 0 to 0");
        let moved = two().sends(0, 7, 1).audits(&[(0, 7, 1), (0, 0, 2), (1, 0, 1)]);
        assert!(super::super::judge(&moved.plan, &moved.history).iter().any(|told| told.claim == ACKED_IS_THERE.name));
    }

    #[test]
    fn an_ack_without_an_offset_is_looked_for_by_what_it_acknowledges() {
        told().appends(0, 0, 1, 0).appends(1, 0, 1, -1).audits(&[(0, 0, 1), (1, 0, 1)]).holds();
        told().appends(0, 0, 1, 0).appends(1, 0, 1, -1).audits(&[(0, 0, 1)]).breaks(ACKED_IS_THERE, "client 1");
    }

    #[test]
    fn below_what_was_deleted_nothing_needs_to_be() {
        let batches = || told().appends(0, 0, 2, 0).appends(1, 0, 1, 2).deletes_records(2, 2);
        batches().audits_from(2, &[(1, 0, 1)]).audit_is_over().holds();
        batches().audits_from(2, &[]).audit_is_over().breaks(ACKED_IS_THERE, "offset 2");
    }

    #[test]
    fn a_partition_that_is_gone_is_a_loss_unless_its_topic_may_be_deleted() {
        let batch = || told().appends(0, 0, 2, 0);
        batch().audit_is_over().breaks(ACKED_IS_THERE, "is not there");
        batch().asks_to_delete(0).audit_is_over().holds();
    }

    #[test]
    fn where_the_system_is_trusted_a_power_cut_may_take_what_was_acknowledged_before_it() {
        let lost = || told().under(|plan| plan.node.trusts_os = true).appends(0, 0, 2, 0).loses_power();
        lost().audits(&[]).holds();
        lost().appends(0, 1, 1, 0).audits(&[(0, 1, 1)]).holds();
        lost().appends(0, 1, 1, 0).audits(&[]).breaks(ACKED_IS_THERE, "operation 1");
        let killed = told().under(|plan| plan.node.trusts_os = true).appends(0, 0, 2, 0);
        killed.fault(FaultKind::Kill { down_ms: 1 }).audits(&[]).breaks(ACKED_IS_THERE, "operation 0");
    }

    #[test]
    fn a_power_cut_takes_no_more_than_the_end() {
        let trusting = || told().under(|plan| plan.node.trusts_os = true);
        let sent = || trusting().appends(0, 0, 1, 0).appends(0, 1, 1, 1).sends(1, 0, 1);
        sent().loses_power().audits(&[(0, 0, 1)]).holds();
        let hole = sent().loses_power().audits(&[(1, 0, 1), (0, 1, 1)]);
        hole.breaks(LOSES_ONLY_ITS_END, "operation 0 (attempt 0), acknowledged at");
    }

    #[test]
    fn damage_excuses_a_loss_that_is_reported_and_no_other() {
        let damaged = || {
            let told = told().under(|plan| plan.is_beyond_promises = true).appends(0, 0, 2, 0);
            told.fault(FaultKind::BitFlip { of: FileKind::Journal })
        };
        let refused = damaged().fails_to_fetch(ClientId::AUDITOR, 0, ErrorCode::KafkaStorageError);
        refused.audit_is_over().holds();
        let note = "partition orders-0 does not serve: it lacks what the journal had".to_owned();
        let noted = damaged().engine(What::Started { notes: vec![note] });
        noted.audits(&[]).holds();
        damaged().audits(&[]).breaks(ACKED_IS_THERE, "offset 0");
        let sound = told().appends(0, 0, 2, 0).fails_to_fetch(ClientId::AUDITOR, 0, ErrorCode::KafkaStorageError);
        sound.audit_is_over().breaks(ACKED_IS_THERE, "answers KAFKA_STORAGE_ERROR");
    }

    #[test]
    fn a_consumer_reads_what_was_acknowledged_even_where_nobody_audits() {
        let batch = || told().sends(1, 0, 1).appends(0, 0, 1, 0);
        batch().reads(READER, 0, &[(0, 0, 1)]).holds();
        batch().reads(READER, 0, &[(1, 0, 1)]).breaks(ACKED_IS_THERE, "client 2 read record 0 of client 1");
    }

    #[test]
    fn no_offset_is_acknowledged_twice_and_no_batch_at_two() {
        told().appends(0, 0, 2, 0).acked(0, 0, 2, 0).holds();
        told().appends(0, 0, 2, 0).appends(1, 0, 2, 1).breaks(ACKED_ONCE, "client 1's operation 0");
        told().appends(0, 0, 2, 0).acked(0, 0, 2, 2).breaks(ACKED_ONCE, "for offset 2");
    }

    #[test]
    fn what_was_declined_is_not_read() {
        told().sends(0, 0, 1).refused(0, 0).appends(0, 1, 1, 0).audits(&[(0, 1, 1)]).holds();
        let read = || records(0, &[(0, 0, 1)]);
        let declined = told().sends(0, 0, 1).refused(0, 0);
        declined.fetches(ClientId(READER), 0, read(), (0, 1)).breaks(REFUSED_IS_NOT_THERE, "was declined");
    }
}
