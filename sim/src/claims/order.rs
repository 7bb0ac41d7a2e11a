//! Appends happen in the order in which clients can tell.
//!
//! Jepsen's names: nonmonotonic send, send skip.

use chronik_core::ids::Offset;

use super::facts::{Facts, Partition, Sent, attempt};
use super::{Claim, Found};

pub(super) const APPENDS_IN_ORDER: Claim = Claim {
    name: "appends-in-order",
    meaning: "A batch that was sent after another one of its partition was acknowledged, or after it on one connection, \
              lies behind it in the log.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for partition in &facts.partitions {
        behind_acked(facts, partition, found);
        along_connections(facts, partition, found);
    }
}

/// The batches of a partition of which it is known when they were sent: those whose log place is that of one request.
fn batches<'a>(facts: &'a Facts<'_>, partition: &'a Partition) -> impl Iterator<Item = (Offset, usize, &'a Sent)> {
    partition.runs(facts.faults.last_era()).filter_map(|run| {
        let sent = facts.sends.at(facts.index_of(run.first.origin)?);
        Some((run.base, run.event, sent))
    })
}

fn behind_acked(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let era = facts.faults.last_era();
    // The highest acknowledged end over time: (event of the ack, end, what was acknowledged).
    let mut ends: Vec<(usize, Offset, u32)> = Vec::new();
    for ack in &partition.acks {
        let is_certain = facts.sends.at(ack.sent).is_by_id || facts.is_certain_by_name(ack.event, partition.id);
        if ack.era != era || ack.base.0 < 0 || !is_certain {
            continue;
        }
        let end = Offset(ack.base.0 + i64::from(ack.records));
        if ends.last().is_none_or(|&(_, known, _)| known < end) {
            ends.push((ack.event, end, ack.sent));
        }
    }
    for (base, event, sent) in batches(facts, partition) {
        // The first time that it was sent: it was not appended before, whichever time it was.
        let until = ends.partition_point(|&(acked, _, _)| acked < sent.first);
        let Some(&(acked, end, before)) = ends[..until].last() else { continue };
        if base < end {
            found.add(APPENDS_IN_ORDER, event, || {
                format!(
                    "{}: {} was sent at {} and is at offset {base}, though {} had been acknowledged up to {end} at {}",
                    facts.name(partition.id),
                    attempt(sent.attempt),
                    facts.when(sent.first),
                    attempt(facts.sends.at(before).attempt),
                    facts.when(acked),
                )
            });
        }
    }
}

fn along_connections(facts: &Facts<'_>, partition: &Partition, found: &mut Found) {
    let mut newest: Vec<Option<&Sent>> = vec![None; facts.plan.clients.len()];
    for (base, event, sent) in batches(facts, partition).filter(|(_, _, sent)| sent.times == 1) {
        let Some(newest) = newest.get_mut(sent.attempt.client as usize) else { continue };
        if let Some(before) = newest.filter(|before| before.link == sent.link && before.first > sent.first) {
            found.add(APPENDS_IN_ORDER, event, || {
                format!(
                    "{}: {} is at offset {base}, behind {}, which was sent after it on the same connection",
                    facts.name(partition.id),
                    attempt(sent.attempt),
                    attempt(before.attempt),
                )
            });
        }
        *newest = Some(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, told};
    use crate::history::{ClientId, What};

    #[test]
    fn what_was_sent_after_an_ack_lies_behind_it() {
        let acked = || told().sends(0, 0, 1).sends(1, 0, 1).acked(0, 0, 1, 0);
        acked().reads(READER, 0, &[(0, 0, 1), (1, 0, 1)]).holds();
        let behind = told().sends(0, 0, 1).acked(0, 0, 1, 1).sends(1, 0, 1);
        behind.reads(READER, 0, &[(1, 0, 1), (0, 0, 1)]).breaks(APPENDS_IN_ORDER, "had been acknowledged up to 2");
        // Sent before the ack came: either order will do.
        let both = told().sends(0, 0, 1).sends(1, 0, 1).acked(0, 0, 1, 1);
        both.reads(READER, 0, &[(1, 0, 1), (0, 0, 1)]).holds();
    }

    #[test]
    fn along_one_connection_order_is_kept() {
        let connected = || told().says(ClientId(0), None, What::Connected).sends(0, 0, 1);
        connected().sends(0, 1, 1).reads(READER, 0, &[(0, 0, 1), (0, 1, 1)]).holds();
        let swapped = connected().sends(0, 1, 1).reads(READER, 0, &[(0, 1, 1), (0, 0, 1)]);
        swapped.breaks(APPENDS_IN_ORDER, "sent after it on the same connection");
        let again = connected().says(ClientId(0), None, What::Disconnected { unanswered: 1 }).sends(0, 1, 1);
        again.reads(READER, 0, &[(0, 1, 1), (0, 0, 1)]).holds();
    }
}
