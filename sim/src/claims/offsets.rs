//! High watermark, last stable offset and log start offset never go back for anybody.
//!
//! Judged in real time: an answer that was asked for after another one had been received must not be below it, across
//! all clients, requests and crashes of the broker. What makes them stand still is a matter of progress.
//!
//! Of several brokers one that was the leader may not know yet that another one is, and tells what it knows; so may a
//! leader that has not learnt how far its followers are. A client goes on from one leader to the next and never back
//! (KIP-320), and where it asks for an end or a start it is told of none that is older than its leader (KIP-207). So
//! there only that is judged, and only against what the same client was told.

use std::collections::BTreeMap;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use super::facts::{EARLIEST, Facts, LATEST, Partition, attempt};
use super::{Claim, Found};
use crate::history::{ClientId, What};

pub(super) const WATERMARKS_NEVER_GO_BACK: Claim = Claim {
    name: "watermarks-never-go-back",
    meaning: "High watermark, last stable offset and log start offset, as any client is told them, never go back.",
};

pub(super) const ACKED_IS_VISIBLE: Claim = Claim {
    name: "acked-is-visible",
    meaning: "Whoever asks after a batch was acknowledged with acks=all is told a high watermark behind it.",
};

pub(super) const LOG_START_HAS_A_CAUSE: Claim = Claim {
    name: "log-start-has-a-cause",
    meaning: "The log start offset is never above what somebody asked to delete, unless retention is set.",
};

pub(super) const DELETED_RECORDS_STAY_DELETED: Claim = Claim {
    name: "deleted-records-stay-deleted",
    meaning: "After DeleteRecords was answered nothing below the offset that was asked for is read again.",
};

pub(super) const IN_RANGE_IS_SERVED: Claim = Claim {
    name: "in-range-is-served",
    meaning: "OFFSET_OUT_OF_RANGE is not told between what was asked to be deleted and a high watermark known before.",
};

pub(super) const WATERMARK_COVERS_THE_PAST: Claim = Claim {
    name: "watermark-covers-the-past",
    meaning: "Below a high watermark that was told lies only what had been sent by then: it is not taken back and given \
              out again.",
};

/// What was told of one partition.
#[derive(Debug, Default)]
struct Told {
    era: u32,
    high_watermark: Highest,
    last_stable: Highest,
    log_start: Highest,
    /// Ends of what was acknowledged with acks=all.
    acked: Highest,
    /// Whether it may go back, because the operator was told of a loss.
    is_excused: bool,
}

/// The highest value of one kind over time, by rising value.
#[derive(Debug, Default)]
struct Highest {
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    at: Instant,
    client: ClientId,
    value: Offset,
    event: usize,
}

impl Highest {
    fn hear(&mut self, step: Step) {
        if self.steps.last().is_none_or(|last| last.value < step.value) {
            self.steps.push(step);
        }
    }

    /// The highest that was known to anybody when `client` asked at `asked_at`. At the same instant only its own
    /// knowledge counts: which of two clients was first is not known.
    fn before(&self, asked_at: Instant, client: ClientId) -> Option<Step> {
        let until = self.steps.partition_point(|step| step.at <= asked_at);
        self.steps[..until].iter().rev().find(|step| step.at < asked_at || step.client == client).copied()
    }
}

/// One answer about a partition.
struct Answer {
    event: usize,
    id: TopicPartition,
    asked_at: Instant,
}

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    // Of each partition, by client where each knows for itself.
    let mut told: Vec<BTreeMap<ClientId, Told>> = facts.partitions.iter().map(|_| BTreeMap::new()).collect();
    let excused: Vec<bool> = facts.partitions.iter().map(|partition| facts.is_loss_reported(partition)).collect();
    for (event, happened) in facts.events.iter().enumerate() {
        let (id, asked_at, is_certain) = match happened.what {
            What::Fetched { partition, asked_at, code: ErrorCode::None | ErrorCode::OffsetOutOfRange, .. } => {
                (partition, asked_at, facts.is_certain(event, partition))
            }
            What::Listed { partition, asked_at, code: ErrorCode::None, .. } => {
                (partition, asked_at, facts.is_certain_by_name(event, partition))
            }
            What::Produced { to, attempt, .. } => {
                let Some(sent) = facts.sends.find(attempt, to) else { continue };
                let asked_at = facts.events[sent.first].at;
                (to, asked_at, sent.is_by_id || facts.is_certain_by_name(event, to))
            }
            What::RecordsDeleted { partition, .. } => {
                (partition, happened.at, facts.is_certain_by_name(event, partition))
            }
            _ => continue,
        };
        if !is_certain {
            continue;
        }
        let place = facts.place_of(event);
        let whose = if facts.has_several() { happened.client } else { ClientId::ENGINE };
        let told = told[place].entry(whose).or_default();
        told.is_excused = excused[place];
        let era = facts.faults.era_at(asked_at);
        if told.era < era {
            *told = Told { era, is_excused: told.is_excused, ..Told::default() };
        }
        // It was on its way while the broker lost what it may lose.
        if told.era > era || told.is_excused {
            continue;
        }
        answered(facts, &Answer { event, id, asked_at }, told, found);
    }
    for (partition, told) in facts.partitions.iter().zip(&told) {
        told.values().for_each(|told| covers_the_past(facts, partition, told, found));
    }
}

fn covers_the_past(facts: &Facts<'_>, partition: &Partition, told: &Told, found: &mut Found) {
    if told.is_excused || told.era != facts.faults.last_era() {
        return;
    }
    let mut from = 0;
    for step in &told.high_watermark.steps {
        let until = usize::try_from(step.value.0).unwrap_or(0).min(partition.log.len());
        for (seen, offset) in partition.log[from.min(until)..until].iter().zip(from..) {
            let sent = facts.index_of(seen.origin).filter(|_| seen.is_here()).map(|index| facts.sends.at(index));
            if let Some(sent) = sent.filter(|sent| sent.first > step.event) {
                found.add(WATERMARK_COVERS_THE_PAST, step.event, || {
                    format!(
                        "{}: {} is told high watermark {} at {}, and what lies at offset {offset}, {}, was sent first \
                         at {}",
                        facts.name(partition.id),
                        facts.who(step.event),
                        step.value,
                        facts.when(step.event),
                        attempt(sent.attempt),
                        facts.when(sent.first),
                    )
                });
                break;
            }
        }
        from = from.max(until);
    }
}

fn answered(facts: &Facts<'_>, answer: &Answer, told: &mut Told, found: &mut Found) {
    match facts.events[answer.event].what {
        What::Fetched { from, code: ErrorCode::OffsetOutOfRange, .. } => out_of_range(facts, answer, from, told, found),
        What::Fetched { from, high_watermark, last_stable, log_start, ref records, .. } => {
            let gone = told.log_start.before(answer.asked_at, facts.events[answer.event].client);
            if let Some(gone) = gone.filter(|gone| from < gone.value && !records.is_empty()) {
                found.add(DELETED_RECORDS_STAY_DELETED, answer.event, || {
                    format!(
                        "{}: {} reads offset {}, though the log start was told as {} at {}",
                        facts.name(answer.id),
                        facts.who(answer.event),
                        records[0].offset,
                        gone.value,
                        facts.when(gone.event),
                    )
                });
            }
            if facts.has_several() {
                told.high_watermark.hear(step(facts, answer, high_watermark));
                return;
            }
            rises(facts, answer, "high watermark", high_watermark, &mut told.high_watermark, found);
            covers_acked(facts, answer, high_watermark, told, found);
            rises(facts, answer, "last stable offset", last_stable, &mut told.last_stable, found);
            starts(facts, answer, log_start, told, found);
        }
        What::Listed { asked: LATEST, offset, .. } => {
            rises(facts, answer, "latest offset", offset, &mut told.high_watermark, found);
            covers_acked(facts, answer, offset, told, found);
        }
        What::Listed { asked: EARLIEST, offset, .. } => starts(facts, answer, offset, told, found),
        What::Produced { base, log_start, records, acks, .. } => {
            if acks == -1 && base.0 >= 0 {
                told.acked.hear(step(facts, answer, Offset(base.0 + i64::from(records))));
            }
            starts(facts, answer, log_start, told, found);
        }
        What::RecordsDeleted { low_watermark, .. } => {
            starts(facts, answer, low_watermark, told, found);
            deleted(facts, answer, low_watermark, found);
        }
        _ => {}
    }
}

fn out_of_range(facts: &Facts<'_>, answer: &Answer, from: Offset, told: &Told, found: &mut Found) {
    let client = facts.events[answer.event].client;
    let known = [&told.high_watermark, &told.acked].map(|highest| highest.before(answer.asked_at, client));
    let Some(known) = known.into_iter().flatten().find(|known| from <= known.value) else { return };
    let asked = facts.partition_of(answer.event).map_or(Offset(0), |partition| partition.start_asked(answer.event));
    if from >= asked && from.0 >= 0 && !facts.may_expire(answer.id) {
        found.add(IN_RANGE_IS_SERVED, answer.event, || {
            format!(
                "{}: {} is told OFFSET_OUT_OF_RANGE for offset {from} at {}, though {} knew of records up to {} at {} \
                 and nobody asked to delete records at or above {asked}",
                facts.name(answer.id),
                facts.who(answer.event),
                facts.when(answer.event),
                facts.who(known.event),
                known.value,
                facts.when(known.event),
            )
        });
    }
}

fn deleted(facts: &Facts<'_>, answer: &Answer, low_watermark: Offset, found: &mut Found) {
    let event = &facts.events[answer.event];
    let request = facts.events[..answer.event].iter().rev().find_map(|asked| match asked.what {
        What::DeleteRecords { before, .. } if (asked.client, asked.operation) == (event.client, event.operation) => {
            Some(before)
        }
        _ => None,
    });
    if let Some(before) = request.filter(|&before| low_watermark < before) {
        found.add(DELETED_RECORDS_STAY_DELETED, answer.event, || {
            format!(
                "{}: {} asked to delete the records below {before} and was told low watermark {low_watermark}",
                facts.name(answer.id),
                facts.who(answer.event),
            )
        });
    }
}

fn step(facts: &Facts<'_>, answer: &Answer, value: Offset) -> Step {
    let event = &facts.events[answer.event];
    Step { at: event.at, client: event.client, value, event: answer.event }
}

fn rises(facts: &Facts<'_>, answer: &Answer, kind: &str, value: Offset, highest: &mut Highest, found: &mut Found) {
    if value.0 < 0 {
        return;
    }
    let client = facts.events[answer.event].client;
    if let Some(before) = highest.before(answer.asked_at, client).filter(|before| value < before.value) {
        found.add(WATERMARKS_NEVER_GO_BACK, answer.event, || {
            format!(
                "{}: {} is told {kind} {value} at {}, though {} knew of {} at {}",
                facts.name(answer.id),
                facts.who(answer.event),
                facts.when(answer.event),
                facts.who(before.event),
                before.value,
                facts.when(before.event),
            )
        });
    }
    highest.hear(step(facts, answer, value));
}

fn covers_acked(facts: &Facts<'_>, answer: &Answer, high_watermark: Offset, told: &Told, found: &mut Found) {
    let client = facts.events[answer.event].client;
    // What the auditor does not find is told of as a loss.
    if client == ClientId::AUDITOR || high_watermark.0 < 0 {
        return;
    }
    let Some(acked) = told.acked.before(answer.asked_at, client).filter(|acked| high_watermark < acked.value) else {
        return;
    };
    found.add(ACKED_IS_VISIBLE, answer.event, || {
        format!(
            "{}: {} is told high watermark {high_watermark} at {}, though a batch of {} that ends at {} was \
             acknowledged with acks=all at {}",
            facts.name(answer.id),
            facts.who(answer.event),
            facts.when(answer.event),
            facts.who(acked.event),
            acked.value,
            facts.when(acked.event),
        )
    });
}

fn starts(facts: &Facts<'_>, answer: &Answer, value: Offset, told: &mut Told, found: &mut Found) {
    rises(facts, answer, "log start offset", value, &mut told.log_start, found);
    let Some(partition) = facts.partition_of(answer.event) else { return };
    let asked = partition.start_asked(answer.event);
    if value > asked && !facts.may_expire(answer.id) {
        found.add(LOG_START_HAS_A_CAUSE, answer.event, || {
            format!(
                "{}: {} is told log start offset {value} at {}, where nobody asked to delete records at or above {asked}",
                facts.name(answer.id),
                facts.who(answer.event),
                facts.when(answer.event),
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, Told, records, told};
    use crate::testing::cluster_plan;

    const CONSUMER: ClientId = ClientId(READER);
    const OTHER: ClientId = ClientId(0);

    #[test]
    fn an_answer_is_not_below_one_that_was_there_when_it_was_asked_for() {
        let sent = || told().sends(0, 0, 3).fetches(OTHER, 0, records(0, &[(0, 0, 3)]), (0, 3));
        sent().fetches(CONSUMER, 3, Vec::new(), (0, 3)).lists(-1, 3, -1).holds();
        let back = || sent().fetches(CONSUMER, 2, Vec::new(), (0, 2));
        back().breaks(WATERMARKS_NEVER_GO_BACK, "is told high watermark 2");
        sent().loses_power().lists(-1, 2, -1).breaks(WATERMARKS_NEVER_GO_BACK, "is told latest offset 2");
        // It was asked for before.
        let early = told();
        let asked_at = early.now;
        let late = early.sends(0, 0, 3).fetches(OTHER, 0, records(0, &[(0, 0, 3)]), (0, 3));
        late.fetches_as_of(asked_at, CONSUMER, 0, Vec::new(), (0, 0)).holds();
    }

    #[test]
    fn what_lies_below_a_told_watermark_was_there() {
        let lost = told().sends(0, 0, 1).lists(-1, 1, -1).loses_power();
        lost.sends(1, 0, 1).audits(&[(1, 0, 1)]).breaks(WATERMARK_COVERS_THE_PAST, "was sent first");
        told().sends(0, 0, 1).lists(-1, 1, -1).loses_power().sends(1, 0, 1).audits(&[(0, 0, 1), (1, 0, 1)]).holds();
    }

    #[test]
    fn what_was_acknowledged_to_all_is_below_the_high_watermark() {
        told().appends(0, 0, 3, 0).lists(-1, 3, -1).holds();
        told().appends(0, 0, 3, 0).lists(-1, 2, -1).breaks(ACKED_IS_VISIBLE, "that ends at 3 was acknowledged");
    }

    #[test]
    fn where_the_system_is_trusted_power_may_take_the_end() {
        let sent = told().under(|plan| plan.node.trusts_os = true).appends(0, 0, 3, 0);
        sent.loses_power().lists(-1, 1, -1).holds();
    }

    #[test]
    fn the_log_start_rises_where_somebody_asked_for_it_and_never_goes_back() {
        let sent = || told().appends(0, 0, 3, 0);
        sent().deletes_records(2, 2).lists(-2, 2, -1).holds();
        sent()
            .deletes_records(2, 2)
            .loses_power()
            .lists(-2, 0, -1)
            .breaks(WATERMARKS_NEVER_GO_BACK, "log start offset 0");
        sent().lists(-2, 1, -1).breaks(LOG_START_HAS_A_CAUSE, "log start offset 1");
        sent().deletes_records(2, 3).breaks(LOG_START_HAS_A_CAUSE, "at or above 2");
        let retention =
            |plan: &mut crate::plan::Plan| _ = plan.node.broker.insert("log.retention.ms".into(), "1".into());
        sent().under(retention).lists(-2, 1, -1).holds();
    }

    #[test]
    fn deleted_records_are_not_read_again() {
        let sent = || told().appends(0, 0, 3, 0).deletes_records(2, 2);
        sent().fetches(CONSUMER, 2, records(0, &[(0, 0, 3)])[2..].to_vec(), (2, 3)).holds();
        let again = sent().fetches(CONSUMER, 1, records(0, &[(0, 0, 3)])[1..].to_vec(), (2, 3));
        again.breaks(DELETED_RECORDS_STAY_DELETED, "reads offset 1, though the log start was told as 2");
        told().appends(0, 0, 3, 0).deletes_records(2, 1).breaks(DELETED_RECORDS_STAY_DELETED, "told low watermark 1");
    }

    #[test]
    fn a_name_may_mean_a_topic_of_which_only_its_broker_does_not_know_that_it_is_gone() {
        let again = || told().says(ClientId::SETUP, None, What::Done).asks_to_delete(0).deleted(0).created(2);
        // The topic with id 2 is empty, and the end is asked for by name.
        let ends = |told: Told| told.lists(-1, 3, -1).heals().wait(31_000).audits_empty(0);
        ends(again()).breaks(WATERMARKS_NEVER_GO_BACK, "latest offset 0");
        let in_a_cluster = |told: Told| told.under(|plan| plan.cluster = cluster_plan(3).cluster);
        ends(in_a_cluster(again())).holds();
        // When all has healed, everybody knows.
        let late = in_a_cluster(again()).heals().wait(31_000).lists(-1, 3, -1).lists(-1, 0, -1).audits_empty(0);
        late.breaks(WATERMARKS_NEVER_GO_BACK, "latest offset 0");
    }

    #[test]
    fn what_is_in_range_is_served() {
        let sent = || told().appends(0, 0, 3, 0);
        let code = ErrorCode::OffsetOutOfRange;
        sent().fails_to_fetch(CONSUMER, 4, code).deletes_records(2, 2).fails_to_fetch(CONSUMER, 1, code).holds();
        sent().fails_to_fetch(CONSUMER, 3, code).breaks(IN_RANGE_IS_SERVED, "OFFSET_OUT_OF_RANGE for offset 3");
        let deleted = sent().deletes_records(2, 2);
        deleted.fails_to_fetch(CONSUMER, 2, code).breaks(IN_RANGE_IS_SERVED, "at or above 2");
    }
}
