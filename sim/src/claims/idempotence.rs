//! What an idempotent producer sends is in the log in its order, without gap.
//!
//! That it is there once at most is told of in [`reads`](super::reads).

use std::collections::BTreeMap;

use super::facts::{Facts, Partition, Sent, attempt};
use super::{Claim, Found};

pub(super) const SEQUENCES_WITHOUT_GAP: Claim = Claim {
    name: "sequences-without-gap",
    meaning: "In each partition a producer's epochs never go back, and within one its sequences follow each other.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    // A broker that no longer knows a producer takes whatever it goes on with (KIP-360).
    if facts.may_forget_producers() {
        return;
    }
    for partition in &facts.partitions {
        sequences(facts, partition, found);
    }
}

fn sequences(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    // The newest batch of each producer id.
    let mut newest: BTreeMap<i64, &Sent> = BTreeMap::new();
    let mut end = None;
    for run in partition.runs(facts.faults.last_era()) {
        // Nobody read what lies between: it may have been any of theirs.
        if end.is_some_and(|end| end != run.base) {
            newest.clear();
        }
        end = Some(run.end());
        let Some(index) = facts.index_of(run.first.origin) else { continue };
        let sent = facts.sends.at(index);
        let Some((producer, epoch, first)) = sent.sequence else { continue };
        // Under which of its sequences it was appended is not known.
        if sent.has_other_sequence {
            newest.remove(&producer);
            continue;
        }
        let Some(before) = newest.insert(producer, sent) else { continue };
        let Some((_, epoch_before, first_before)) = before.sequence else { continue };
        let expect = match epoch == epoch_before {
            true => after(first_before, before.records),
            false => 0,
        };
        // Told of as a duplicate.
        let is_same = before.attempt == sent.attempt;
        if !is_same && (epoch < epoch_before || first != expect) {
            found.add(SEQUENCES_WITHOUT_GAP, run.event, || {
                format!(
                    "{} offset {}: {} of producer {producer}, epoch {epoch}, has sequence {first}, and the producer's \
                     last batch before it, {}, has epoch {epoch_before}, sequence {first_before} and {} records",
                    facts.name(partition.id),
                    run.base,
                    attempt(sent.attempt),
                    attempt(before.attempt),
                    before.records,
                )
            });
        }
    }
}

/// The sequence after a batch; they run from 0 to `i32::MAX` and begin again.
fn after(first: i32, records: u32) -> i32 {
    ((i64::from(first) + i64::from(records)) % (1 << 31)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, Told, told};

    /// Three batches of two, two and one record.
    fn sent(sequences: [(i16, i32); 3]) -> Told {
        (0..3).zip(sequences).zip([2, 2, 1]).fold(told(), |told, ((operation, (epoch, first)), records)| {
            told.sends_in_sequence(0, operation, records, Some((7, epoch, first)))
        })
    }

    #[test]
    fn sequences_follow_each_other() {
        let all = &[(0, 0, 2), (0, 1, 2), (0, 2, 1)];
        sent([(0, 0), (0, 2), (0, 4)]).reads(READER, 0, all).holds();
        sent([(0, i32::MAX - 1), (0, 0), (0, 2)]).reads(READER, 0, all).holds();
        // A producer that begins again does so under a new epoch, from 0.
        sent([(0, 0), (1, 0), (1, 2)]).reads(READER, 0, all).holds();
        sent([(0, 0), (1, 2), (1, 4)]).reads(READER, 0, all).breaks(SEQUENCES_WITHOUT_GAP, "epoch 1, has sequence 2");
        sent([(1, 0), (0, 0), (0, 2)]).reads(READER, 0, all).breaks(SEQUENCES_WITHOUT_GAP, "epoch 0, has sequence 0");
        let gap = &[(0, 0, 2), (0, 2, 1)];
        sent([(0, 0), (0, 2), (0, 4)]).reads(READER, 0, gap).breaks(SEQUENCES_WITHOUT_GAP, "offset 2");
    }
}
