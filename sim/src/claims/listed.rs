//! ListOffsets tells the offsets of timestamps as they are in the log.
//!
//! Judged against what was read of the partition at any time. Latest and earliest are told of in
//! [`offsets`](super::offsets).

use std::collections::BTreeMap;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use super::facts::{Facts, MAX_TIMESTAMP, Partition};
use super::{Claim, Found};
use crate::history::{ClientId, What};

pub(super) const LISTED_IS_TRUE: Claim = Claim {
    name: "listed-is-true",
    meaning: "ListOffsets by timestamp finds the first record that is not older, and by max timestamp the newest.",
};

/// The greatest timestamp of a partition's records up to each offset, from where it lacks none.
struct Ascent {
    /// The first offset from which on everything below the end was read.
    start: i64,
    /// By offset from `start`.
    greatest: Vec<i64>,
}

impl Ascent {
    /// Of the records that were read without a gap up to the last one.
    fn of(partition: &Partition) -> Ascent {
        let start = partition.log.iter().rposition(|seen| !seen.is_here()).map_or(0, |gap| gap + 1);
        let mut highest = i64::MIN;
        let greatest = partition.log[start..]
            .iter()
            .map(|seen| {
                highest = highest.max(seen.timestamp);
                highest
            })
            .collect();
        Ascent { start: start as i64, greatest }
    }
}

struct Answer<'a> {
    event: usize,
    id: TopicPartition,
    asked_at: Instant,
    partition: &'a Partition,
    offset: Offset,
    timestamp: i64,
    /// What was surely visible when it was asked: offsets below this.
    visible: Offset,
}

impl Answer<'_> {
    /// Whether what lies at an offset may be superseded and gone.
    fn may_be_gone(&self, facts: &Facts<'_>, offset: i64) -> bool {
        facts.may_be_gone(self.partition, Offset(offset), self.event, self.asked_at)
    }
}

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    // What a loss that is excused took may have been the first or the newest.
    if facts.faults.last_era() > 0 {
        return;
    }
    let mut ascents: Vec<Option<Ascent>> = facts.partitions.iter().map(|_| None).collect();
    // The high watermarks that were told, by time. A leader that is cut off from the others tells what it last knew; but who
    // has heard from the next one does not ask it again.
    let whose = |client| if facts.has_several() { client } else { ClientId::ENGINE };
    let mut told: BTreeMap<(usize, ClientId), Vec<(Instant, Offset)>> = BTreeMap::new();
    for (event, happened) in facts.events.iter().enumerate() {
        match happened.what {
            What::Fetched { partition, high_watermark, code: ErrorCode::None, .. }
                if facts.is_certain(event, partition) =>
            {
                let told = told.entry((facts.place_of(event), whose(happened.client))).or_default();
                if told.last().is_none_or(|&(_, known)| known < high_watermark) {
                    told.push((happened.at, high_watermark));
                }
            }
            What::Listed { partition: id, asked, asked_at, code: ErrorCode::None, offset, timestamp }
                if (asked >= 0 || asked == MAX_TIMESTAMP) && facts.is_certain_by_name(event, id) =>
            {
                let Some(partition) = facts.partition_of(event) else { continue };
                let told = told.get(&(facts.place_of(event), whose(happened.client))).map_or(&[][..], Vec::as_slice);
                let until = told.partition_point(|&(at, _)| at < asked_at);
                let visible = told[..until].last().map_or(Offset(0), |&(_, offset)| offset);
                let answer = Answer { event, id, asked_at, partition, offset, timestamp, visible };
                if is_of_its_record(facts, &answer, found) {
                    let ascent = ascents[facts.place_of(event)].get_or_insert_with(|| Ascent::of(partition));
                    match asked {
                        MAX_TIMESTAMP => is_newest(facts, &answer, ascent, found),
                        _ => is_first(facts, &answer, asked, ascent, found),
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether the timestamp that is told is that of the record at the offset that is told, as far as it was read.
fn is_of_its_record(facts: &Facts<'_>, answer: &Answer<'_>, found: &mut Found) -> bool {
    let Some(seen) = answer.partition.at(answer.offset) else { return true };
    let is_so = seen.timestamp == answer.timestamp;
    if !is_so {
        found.add(LISTED_IS_TRUE, answer.event, || {
            format!(
                "{}: {} is told offset {} with timestamp {}, where the record has {}",
                facts.name(answer.id),
                facts.who(answer.event),
                answer.offset,
                answer.timestamp,
                seen.timestamp,
            )
        });
    }
    is_so
}

/// Whether an ascent tells what was there when the answer came: nothing of it may have been deleted by then.
fn is_whole(facts: &Facts<'_>, answer: &Answer<'_>, ascent: &Ascent) -> bool {
    answer.partition.start_asked(answer.event).0 <= ascent.start && !facts.may_expire(answer.id)
}

fn is_first(facts: &Facts<'_>, answer: &Answer<'_>, asked: i64, ascent: &Ascent, found: &mut Found) {
    let tell = |what: &dyn std::fmt::Display| {
        format!(
            "{}: {} asked for the offset of timestamp {asked} and {what}",
            facts.name(answer.id),
            facts.who(answer.event)
        )
    };
    let is_found = answer.offset.0 >= 0;
    if is_found && answer.timestamp >= 0 && answer.timestamp < asked {
        return found.add(LISTED_IS_TRUE, answer.event, || {
            tell(&format_args!("was told offset {} of timestamp {}", answer.offset, answer.timestamp))
        });
    }
    if !is_whole(facts, answer, ascent) {
        return;
    }
    let first = ascent.start + ascent.greatest.partition_point(|&greatest| greatest < asked) as i64;
    let until = if is_found { answer.offset.0 } else { answer.visible.0 };
    let end = until.min(ascent.start + ascent.greatest.len() as i64);
    let is_it = |offset: &i64| {
        let seen = answer.partition.at(Offset(*offset));
        seen.is_some_and(|seen| seen.timestamp >= asked) && !answer.may_be_gone(facts, *offset)
    };
    if let Some(first) = (first..end).find(is_it) {
        found.add(LISTED_IS_TRUE, answer.event, || {
            tell(&format_args!("was told offset {}, though the record at {first} is the first", answer.offset))
        });
    }
}

fn is_newest(facts: &Facts<'_>, answer: &Answer<'_>, ascent: &Ascent, found: &mut Found) {
    if !is_whole(facts, answer, ascent) {
        return;
    }
    let visible = usize::try_from(answer.visible.0 - ascent.start).unwrap_or(0).min(ascent.greatest.len());
    let greatest = match answer.partition.keyed {
        None => ascent.greatest[..visible].last().copied(),
        Some(_) => {
            let there =
                (ascent.start..ascent.start + visible as i64).filter(|&offset| !answer.may_be_gone(facts, offset));
            there.filter_map(|offset| answer.partition.at(Offset(offset))).map(|seen| seen.timestamp).max()
        }
    };
    let Some(greatest) = greatest else { return };
    if answer.timestamp < greatest {
        found.add(LISTED_IS_TRUE, answer.event, || {
            format!(
                "{}: {} asked for the max timestamp and was told {} at offset {}, though a record with {greatest} was \
                 there before",
                facts.name(answer.id),
                facts.who(answer.event),
                answer.timestamp,
                answer.offset,
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, Told, told};
    use crate::testing::cluster_plan;

    /// Records at 0, 1 and 2 with timestamps 1010, 1011 and 1000.
    fn sent() -> Told {
        told().sends(0, 1, 2).sends(0, 0, 1).reads(READER, 0, &[(0, 1, 2), (0, 0, 1)])
    }

    #[test]
    fn the_first_record_that_is_not_older_is_found() {
        sent().lists(0, 0, 1010).lists(1011, 1, 1011).lists(1012, -1, -1).holds();
        sent().lists(1005, 1, 1011).breaks(LISTED_IS_TRUE, "though the record at 0 is the first");
        sent().lists(1011, -1, -1).breaks(LISTED_IS_TRUE, "though the record at 1 is the first");
        sent().lists(1005, 2, 1000).breaks(LISTED_IS_TRUE, "was told offset 2 of timestamp 1000");
        sent().lists(1005, 0, 1011).breaks(LISTED_IS_TRUE, "where the record has 1010");
        // What was deleted is not found.
        sent().deletes_records(1, 1).lists(1000, 1, 1011).holds();
    }

    #[test]
    fn the_newest_record_is_found() {
        sent().lists(-3, 1, 1011).holds();
        sent().lists(-3, 0, 1010).breaks(LISTED_IS_TRUE, "though a record with 1011 was there before");
        // Of several brokers the one that is asked may have been cut off before that.
        sent().under(|plan| plan.cluster = cluster_plan(3).cluster).lists(-3, 0, 1010).holds();
    }
}
