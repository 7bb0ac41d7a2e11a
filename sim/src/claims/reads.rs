//! Whatever is read is what somebody sent, in one order that never changes, and nothing is left out.
//!
//! Jepsen's names: duplicate, inconsistent offsets, internal poll skip, internal nonmonotonic poll, unseen.

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::wire::ErrorCode;

use super::facts::{BatchRun, Facts, Origin, Partition, attempt, record};
use super::topics::TOPICS_NEVER_MIX;
use super::{Claim, Found};
use crate::history::{Event, Read, What};

pub(super) const ONLY_SENT: Claim = Claim {
    name: "only-sent",
    meaning: "Every record that is read was sent to that partition by somebody, with that place in its batch and that \
              timestamp.",
};

pub(super) const WHOLE_BATCHES: Claim = Claim {
    name: "whole-batches",
    meaning: "Of a batch all records are in the log, in a row and in their order, or none.",
};

pub(super) const NO_DUPLICATES: Claim = Claim {
    name: "no-duplicates",
    meaning: "No request is appended twice, and nothing that an idempotent producer sends again is.",
};

pub(super) const ONE_RECORD_PER_OFFSET: Claim = Claim {
    name: "one-record-per-offset",
    meaning: "Whoever reads an offset, whenever, reads the same record: what was read once is there after every crash.",
};

pub(super) const READS_WITHOUT_GAP: Claim = Claim {
    name: "reads-without-gap",
    meaning: "An answer to a fetch begins with the offset that was asked for, and offsets in it rise by one, but for \
              what is superseded in a topic that compacts.",
};

pub(super) const NEVER_ABOVE_HIGH_WATERMARK: Claim = Claim {
    name: "never-above-high-watermark",
    meaning: "Log start offset <= records and last stable offset <= high watermark, in every answer to a fetch.",
};

pub(super) const APPEND_TIME_IS_ONE: Claim = Claim {
    name: "append-time-is-one",
    meaning: "Where the broker sets timestamps, the records of a batch have one: that of its append.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for partition in &facts.partitions {
        contradictions(facts, partition, found);
        sent(facts, partition, found);
        whole(facts, partition, found);
        if facts.has_append_time(partition.id) {
            append_time(facts, partition, found);
        }
    }
    for (event, happened) in facts.events.iter().enumerate() {
        if matches!(happened.what, What::Fetched { code: ErrorCode::None, .. }) {
            fetched(facts, event, found);
        }
    }
}

fn contradictions(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let contradictions = partition.contradictions.iter().filter(|_| !facts.is_loss_reported(partition));
    for (event, read, was) in contradictions {
        found.add(ONE_RECORD_PER_OFFSET, *event, || {
            format!(
                "{} offset {}: {} read {} (timestamp {}, leader epoch {}) at {}, and {} read {} (timestamp {}, leader \
                 epoch {}) there at {}",
                facts.name(partition.id),
                read.offset,
                facts.who(was.event as usize),
                record(&was.read(read.offset)),
                was.timestamp,
                was.leader_epoch,
                facts.when(was.event as usize),
                facts.who(*event),
                record(read),
                read.timestamp,
                read.leader_epoch,
                facts.when(*event),
            )
        });
    }
    if let Some((event, read)) = &partition.beyond {
        found.add(ONLY_SENT, *event, || {
            format!(
                "{}: {} reads offset {}, which all {} records ever sent cannot reach",
                facts.name(partition.id),
                facts.who(*event),
                read.offset,
                facts.sends.records,
            )
        });
    }
}

fn sent(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    for (offset, seen) in partition.records(facts.faults.last_era()) {
        is_sent(facts, partition.id, seen.event as usize, &seen.read(offset), seen.origin, found);
    }
}

fn is_sent(facts: &Facts<'_>, id: TopicPartition, event: usize, read: &Read, origin: Origin, found: &mut Found) {
    let tell = |why: &dyn std::fmt::Display| {
        format!(
            "{} offset {}: {} read {} at {}, {why}",
            facts.name(id),
            read.offset,
            facts.who(event),
            record(read),
            facts.when(event)
        )
    };
    match origin {
        Origin::Nobody => found.add(ONLY_SENT, event, || tell(&"which nobody sent")),
        Origin::Elsewhere(index) => {
            let to = facts.sends.at(index).to;
            let claim = if to.topic == id.topic { ONLY_SENT } else { TOPICS_NEVER_MIX };
            found.add(claim, event, || tell(&format_args!("which was sent to {}", facts.name(to))));
        }
        Origin::Here(index) => {
            let sent = facts.sends.at(index);
            if sent.first > event {
                found.add(ONLY_SENT, event, || tell(&"before it was sent"));
            } else if read.index >= sent.records {
                found.add(ONLY_SENT, event, || tell(&format_args!("whose batch has {} records", sent.records)));
            } else if read.timestamp > sent.timestamps.1 && !facts.has_append_time(id) {
                let greatest = sent.timestamps.1;
                found.add(ONLY_SENT, event, || {
                    tell(&format_args!("with timestamp {}, where its batch has none above {greatest}", read.timestamp))
                });
            }
        }
    }
}

fn whole(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let era = facts.faults.last_era();
    let mut runs: Vec<BatchRun<'_>> = Vec::new();
    for run in partition.runs(era) {
        let Some(index) = facts.index_of(run.first.origin) else { continue };
        let sent = facts.sends.at(index);
        // A reader may have begun or ended in the middle of a batch; what lies between two records that were read was
        // read as well, unless the log start went past it.
        let has_before = run.base.0 > 0 && partition.at(Offset(run.base.0 - 1)).is_some_and(|seen| seen.era == era);
        let has_after = partition.at(run.end()).is_some_and(|seen| seen.era == era);
        let lacks_first = run.first.index > 0 && has_before;
        let lacks_last = run.first.index + run.records < sent.records && has_after;
        if lacks_first || lacks_last {
            found.add(WHOLE_BATCHES, run.event, || {
                format!(
                    "{}: of the {} records of {} those from {} on are at offset {}, {} of them, among records of others",
                    facts.name(partition.id),
                    sent.records,
                    attempt(sent.attempt),
                    run.first.index,
                    run.base,
                    run.records,
                )
            });
        } else {
            runs.push(run);
        }
    }
    if facts.may_forget_producers() {
        runs.retain(|run| {
            let sent = facts.index_of(run.first.origin).map(|index| facts.sends.at(index));
            sent.is_some_and(|sent| sent.sequence.is_none())
        });
    }
    // A run that continues another one after records that nobody read is not a second one.
    runs.sort_by_key(|run| (run.first.attempt, run.base));
    for pair in runs.windows(2) {
        let [one, other] = pair else { unreachable!("windows of two") };
        let continues = other.base.0 - one.base.0 == i64::from(other.first.index) - i64::from(one.first.index);
        if one.first.attempt == other.first.attempt && !continues && !has_begun_behind(facts, partition.id, one, other)
        {
            found.add(NO_DUPLICATES, one.event.max(other.event), || {
                format!(
                    "{}: {} is in the log twice: record {} at offset {} and record {} at offset {}",
                    facts.name(partition.id),
                    attempt(one.first.attempt),
                    one.first.index,
                    one.base,
                    other.first.index,
                    other.base,
                )
            });
        }
    }
}

/// Whether a replica began behind the first of these two, which the others had let go of, before the second was read: it
/// has never heard of the first, as a new replica of Kafka's has not, and takes it again when it leads.
fn has_begun_behind(facts: &Facts<'_>, id: TopicPartition, one: &BatchRun<'_>, other: &BatchRun<'_>) -> bool {
    let is_idempotent = facts.index_of(one.first.origin).is_some_and(|index| facts.sends.at(index).sequence.is_some());
    let begins_behind = |happened: &Event| match &happened.what {
        What::Stands(standing) => {
            standing.partition == id && standing.start == standing.end && standing.start >= one.end()
        }
        _ => false,
    };
    is_idempotent && facts.has_several() && facts.events[..other.event].iter().any(begins_behind)
}

/// Clients give each record of a batch a timestamp of its own.
fn append_time(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    for run in partition.runs(facts.faults.last_era()).filter(|run| run.timestamp > run.first.timestamp) {
        found.add(APPEND_TIME_IS_ONE, run.event, || {
            format!(
                "{} offset {}: {} has timestamps from {} to {}, though its topic has the time of the append",
                facts.name(partition.id),
                run.base,
                attempt(run.first.attempt),
                run.first.timestamp,
                run.timestamp,
            )
        });
    }
}

fn fetched(facts: &Facts<'_>, event: usize, found: &mut Found) {
    let What::Fetched {
        partition: id,
        from,
        asked_at,
        high_watermark,
        last_stable,
        log_start,
        ref records,
        next: end,
        ..
    } = facts.events[event].what
    else {
        return;
    };
    let tell = |what: &dyn std::fmt::Display| {
        format!("{}: {} fetched from offset {from} and {what}", facts.name(id), facts.who(event))
    };
    // Whether all from one offset up to another may be missing.
    let may_be_gone = |next: Offset, offset: Offset| {
        let partition = facts.partition_of(event).filter(|_| facts.is_certain(event, id));
        let Some(partition) = partition.filter(|partition| partition.keyed.is_some()) else {
            // Which topic of that name it was is not known: another one may be missing other offsets.
            return facts.compacts_shared_keys(id) && !facts.is_certain(event, id);
        };
        (next.0..offset.0).all(|gone| facts.may_be_gone(partition, Offset(gone), event, asked_at))
    };
    let ends = std::iter::once((end, true)).filter(|&(end, _)| end > from);
    let mut next = from;
    for (offset, is_end) in records.iter().map(|read| (read.offset, false)).chain(ends) {
        if offset != next {
            // The log start may have passed what was asked for while the answer was on its way.
            let is_deleted = next == from && offset > from && (offset <= log_start || facts.may_expire(id));
            if !is_deleted && (offset < next || !may_be_gone(next, offset)) {
                let missing = next;
                found.add(READS_WITHOUT_GAP, event, || match is_end {
                    true => tell(&format_args!("got no record at {missing}, though batches up to {offset}")),
                    false => tell(&format_args!("got offset {offset} where {missing} comes next")),
                });
                break;
            }
        }
        next = Offset(offset.0.saturating_add(1));
    }
    if high_watermark.0 >= 0 {
        let above = records.iter().find(|read| read.offset >= high_watermark);
        if let Some(read) = above {
            found.add(NEVER_ABOVE_HIGH_WATERMARK, event, || {
                tell(&format_args!("got offset {}, with high watermark {high_watermark}", read.offset))
            });
        } else if last_stable > high_watermark || log_start > high_watermark {
            found.add(NEVER_ABOVE_HIGH_WATERMARK, event, || {
                tell(&format_args!(
                    "was told log start {log_start}, last stable offset {last_stable}, high watermark {high_watermark}"
                ))
            });
        }
    }
    if !facts.is_certain(event, id) {
        // Which topic of that name it was is not known: that somebody sent it to one of them is all there is to say.
        let mut newest = None;
        for read in records.iter().filter(|read| read.offset.0 >= 0) {
            if newest != Some(read.attempt) {
                newest = Some(read.attempt);
                if facts.sends.origin(read.attempt, id, &facts.topics) == Origin::Nobody {
                    is_sent(facts, id, event, read, Origin::Nobody, found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, READER_BY_NAME, records, standing, told};
    use crate::history::ClientId;
    use crate::testing::cluster_plan;

    const CONSUMER: ClientId = ClientId(READER);

    #[test]
    fn only_what_was_sent_is_read() {
        let one = || told().sends(0, 0, 2);
        one().reads(READER, 0, &[(0, 0, 2)]).holds();
        told().sends(0, 1, 2).reads(READER, 0, &[(0, 0, 2)]).breaks(ONLY_SENT, "which nobody sent");
        one().reads(READER, 0, &[(0, 0, 3)]).breaks(ONLY_SENT, "which all 2 records ever sent cannot reach");
        one().sends(0, 1, 2).reads(READER, 0, &[(0, 0, 3)]).breaks(ONLY_SENT, "whose batch has 2 records");
        let mut late = records(0, &[(0, 0, 2)]);
        late[1].timestamp += 5;
        one().fetches(CONSUMER, 0, late, (0, 2)).breaks(ONLY_SENT, "where its batch has none above");
        // Even where its topic may be another one of that name.
        let mixed = told().sends(0, 1, 2).asks_to_delete(0);
        mixed.reads(READER_BY_NAME, 0, &[(0, 0, 2)]).breaks(ONLY_SENT, "which nobody sent");
    }

    #[test]
    fn batches_are_whole() {
        let two = || told().sends(0, 0, 3).sends(1, 0, 1);
        two().reads(READER, 0, &[(0, 0, 3), (1, 0, 1)]).holds();
        // Whoever stopped in the middle may go on later.
        two().reads(READER, 0, &[(0, 0, 2)]).holds();
        two().reads(READER, 0, &[(0, 0, 2), (1, 0, 1)]).breaks(WHOLE_BATCHES, "those from 0 on are at offset 0, 2");
        let mut torn = records(0, &[(1, 0, 1), (0, 0, 3)]);
        torn.remove(1);
        torn[1].offset.0 -= 1;
        torn[2].offset.0 -= 1;
        two().fetches(CONSUMER, 0, torn, (0, 3)).breaks(WHOLE_BATCHES, "those from 1 on");
    }

    #[test]
    fn nothing_is_there_twice() {
        let twice = || told().sends(0, 0, 2).sends(0, 1, 2);
        twice().reads(READER, 0, &[(0, 0, 2), (0, 1, 2)]).holds();
        twice().reads(READER, 0, &[(0, 0, 2), (0, 0, 2)]).breaks(NO_DUPLICATES, "record 0 at offset 2");
    }

    #[test]
    fn who_began_behind_a_batch_has_never_heard_of_it() {
        let twice = |is_idempotent: bool, nodes: u32, start: i64| {
            let sequence = is_idempotent.then_some((0, 0, 0));
            let told = told().under(|plan| plan.cluster = cluster_plan(nodes).cluster);
            let told = told.sends_in_sequence(0, 0, 2, sequence).sends(1, 0, 2).sends(1, 1, 2);
            let told = told.reads(READER, 0, &[(0, 0, 2)]);
            let standing = standing(&told, start);
            told.of_node(1, What::Stands(Box::new(standing))).reads(READER, 2, &[(1, 0, 2), (0, 0, 2)])
        };
        twice(true, 3, 2).holds();
        twice(true, 3, 1).breaks(NO_DUPLICATES, "record 0 at offset 4");
        twice(false, 3, 2).breaks(NO_DUPLICATES, "record 0 at offset 4");
    }

    #[test]
    fn everybody_reads_the_same_whenever() {
        let two = || told().sends(0, 0, 1).sends(1, 0, 1).reads(READER, 0, &[(0, 0, 1)]).loses_power();
        two().audits(&[(0, 0, 1), (1, 0, 1)]).holds();
        two().audits(&[(1, 0, 1)]).breaks(ONE_RECORD_PER_OFFSET, "client 2 read record 0 of client 0");
        // Where the system is trusted, power may take what was read.
        two().under(|plan| plan.node.trusts_os = true).audits(&[(1, 0, 1)]).holds();
        let mut other_time = records(0, &[(0, 0, 1)]);
        other_time[0].timestamp -= 1;
        two().fetches(CONSUMER, 0, other_time, (0, 1)).breaks(ONE_RECORD_PER_OFFSET, "timestamp 999");
    }

    #[test]
    fn an_answer_begins_where_it_was_asked_for_and_leaves_nothing_out() {
        let sent = || told().sends(0, 0, 3).sends(0, 1, 1);
        sent().fetches(CONSUMER, 1, records(0, &[(0, 0, 3)])[1..].to_vec(), (0, 3)).holds();
        let late = records(0, &[(0, 0, 3)])[1..].to_vec();
        sent().fetches(CONSUMER, 0, late.clone(), (0, 3)).breaks(READS_WITHOUT_GAP, "got offset 1 where 0 comes next");
        let asked = sent();
        let asked_at = asked.now;
        asked.deletes_records(1, 1).fetches_as_of(asked_at, CONSUMER, 0, late, (1, 3)).holds();
        let mut gap = records(0, &[(0, 0, 3)]);
        gap.remove(1);
        sent().fetches(CONSUMER, 0, gap, (0, 3)).breaks(READS_WITHOUT_GAP, "got offset 2 where 1 comes next");
        let mut back = records(0, &[(0, 0, 3)]);
        back.swap(1, 2);
        sent().fetches(CONSUMER, 0, back, (0, 3)).breaks(READS_WITHOUT_GAP, "got offset 2 where 1 comes next");
    }

    #[test]
    fn a_batch_has_one_append_time() {
        let stamped = || {
            told().sends(0, 0, 2).under(|plan| {
                let configs = [("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())].into();
                plan.topics = vec![crate::plan::TopicPlan {
                    name: "orders".into(),
                    partitions: 1,
                    replication: 1,
                    configs,
                    shared_keys: None,
                }];
            })
        };
        stamped().reads(READER, 0, &[(0, 0, 2)]).breaks(APPEND_TIME_IS_ONE, "has timestamps from 1000 to 1001");
        let mut one = records(0, &[(0, 0, 2)]);
        one[0].timestamp = one[1].timestamp;
        stamped().fetches(CONSUMER, 0, one, (0, 2)).holds();
    }

    #[test]
    fn nothing_is_read_above_the_high_watermark() {
        let sent = || told().sends(0, 0, 2);
        sent()
            .fetches(CONSUMER, 0, records(0, &[(0, 0, 2)]), (0, 1))
            .breaks(NEVER_ABOVE_HIGH_WATERMARK, "got offset 1");
        let start = sent().deletes_records(2, 2).fetches(CONSUMER, 2, Vec::new(), (2, 1));
        start.breaks(NEVER_ABOVE_HIGH_WATERMARK, "log start 2");
    }
}
