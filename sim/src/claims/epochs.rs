//! Leader epochs tell one leadership from the next: they rise with every start of the broker (KIP-101, KIP-320).

use chronik_core::ids::{Offset, TopicPartition};

use super::facts::{Facts, Partition, attempt};
use super::{Claim, Found};
use crate::history::{ClientId, What};

pub(super) const LEADER_EPOCHS_RISE: Claim = Claim {
    name: "leader-epochs-rise",
    meaning: "Leader epochs never fall along a log, and what was sent after a restart has a greater one than what was \
              read before it.",
};

pub(super) const EPOCHS_END_AT_THE_NEXT: Claim = Claim {
    name: "epochs-end-at-the-next",
    meaning: "OffsetForLeaderEpoch says that an epoch ends where the next one's first record is, or was; a leader that \
              is deposed later may have had more of it.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    let is_start = |&(_, event): &(usize, &crate::history::Event)| matches!(event.what, What::Started { .. });
    // Of several brokers one that starts anew need not be the leader.
    let is_start = |start: &(usize, &crate::history::Event)| !facts.has_several() && is_start(start);
    let starts: Vec<usize> = facts.events.iter().enumerate().filter(is_start).map(|(index, _)| index).collect();
    for partition in facts.partitions.iter().filter(|partition| !facts.is_loss_reported(partition)) {
        rise(facts, partition, &starts, found);
    }
    for (event, happened) in facts.events.iter().enumerate() {
        if let What::EpochEnds { partition, asked, leader_epoch, end } = happened.what {
            ends(facts, event, partition, (asked, leader_epoch, end), found);
        }
    }
}

fn rise(facts: &Facts<'_>, partition: &Partition, starts: &[usize], found: &mut Found) {
    // The greatest epoch so far, and how many starts there were when a record of it had been read.
    let (mut greatest, mut read_after) = (-1, 0);
    for run in partition.runs(facts.faults.last_era()) {
        let epoch = run.first.leader_epoch;
        let Some(sent) = facts.index_of(run.first.origin).map(|index| facts.sends.at(index)) else { continue };
        let sent_after = starts.partition_point(|&start| start < sent.first);
        if epoch < greatest.max(0) || epoch == greatest && sent_after > read_after {
            return found.add(LEADER_EPOCHS_RISE, run.event, || {
                format!(
                    "{} offset {}: {}, sent at {} after {sent_after} starts of the broker, has leader epoch {epoch}, and \
                     before it is leader epoch {greatest}, read after {read_after} starts",
                    facts.name(partition.id),
                    run.base,
                    attempt(sent.attempt),
                    facts.when(sent.first),
                )
            });
        }
        let seen_after = starts.partition_point(|&start| start < run.event);
        read_after = if epoch == greatest { read_after.min(seen_after) } else { seen_after };
        greatest = epoch;
    }
}

fn ends(
    facts: &Facts<'_>,
    event: usize,
    id: TopicPartition,
    (asked, leader_epoch, end): (i32, i32, Offset),
    found: &mut Found,
) {
    let Ok(place) = facts.partitions.binary_search_by_key(&id, |partition| partition.id) else { return };
    let partition = &facts.partitions[place];
    // What is taken away meanwhile takes its epochs with it.
    if facts.may_expire(id) || facts.is_loss_reported(partition) {
        return;
    }
    let audited = || partition.records(facts.faults.last_era()).filter(|(_, seen)| seen.is_audited);
    if !audited().any(|(_, seen)| seen.leader_epoch == asked) {
        return;
    }
    let Some((next, _)) = audited().find(|(_, seen)| seen.leader_epoch > asked) else { return };
    // The next one's first records may be superseded where a topic compacts, but what is left of both stays.
    let last = audited().take_while(|(_, seen)| seen.leader_epoch <= asked).last();
    let may_be = partition.keyed.is_some() && last.is_some_and(|(last, _)| last < end) && end < next;
    // While it is the newest, an epoch ends where the log does, or as much of it as is known to be safe.
    let is_early = facts.events[event].client != ClientId::AUDITOR;
    let is_newest = is_early && end <= next;
    // A leader tells the end of its own log, as Kafka's does, and what of it the in-sync set never had is cut when
    // another one leads (KIP-101). Consumers have read less than that, and so are not misled.
    let may_be_cut = is_early && facts.has_several() && end > next;
    if (leader_epoch, end) != (asked, next) && !(leader_epoch == asked && (may_be || is_newest || may_be_cut)) {
        found.add(EPOCHS_END_AT_THE_NEXT, event, || {
            format!(
                "{}: {} asked where leader epoch {asked} ends and was told that {leader_epoch} ends at {end}, where the \
                 next epoch's first record is at {next}",
                facts.name(id),
                facts.who(event),
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, Told, records, told};
    use crate::history::ClientId;
    use crate::testing::cluster_plan;

    /// Two batches of one record, with these epochs; the broker was started anew between them.
    fn restarted(epochs: [i32; 2]) -> Told {
        let read = |told: Told, offset: i64, epoch: i32| {
            let mut record = records(offset, &[(0, u32::try_from(offset).expect("small"), 1)]);
            record[0].leader_epoch = epoch;
            told.fetches(ClientId(READER), offset, record, (0, offset + 1))
        };
        let first = read(told().sends(0, 0, 1), 0, epochs[0]).loses_power();
        read(first.sends(0, 1, 1), 1, epochs[1])
    }

    #[test]
    fn epochs_rise_with_every_start() {
        restarted([0, 1]).holds();
        restarted([0, 0]).breaks(LEADER_EPOCHS_RISE, "has leader epoch 0");
        restarted([2, 1]).breaks(LEADER_EPOCHS_RISE, "before it is leader epoch 2");
        restarted([-1, 0]).breaks(LEADER_EPOCHS_RISE, "has leader epoch -1");
        // Sent before the restart: it may have been appended before, too.
        told().sends(0, 0, 1).sends(0, 1, 1).loses_power().reads(READER, 0, &[(0, 0, 1), (0, 1, 1)]).holds();
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let asked = |leader_epoch, end| {
            let mut all = records(0, &[(0, 0, 1), (0, 1, 1)]);
            all[1].leader_epoch = 1;
            let told = restarted([0, 1]).fetches(ClientId::AUDITOR, 0, all, (0, 2));
            let (partition, end) = (told.on, Offset(end));
            told.says(ClientId::AUDITOR, None, What::EpochEnds { partition, asked: 0, leader_epoch, end })
        };
        asked(0, 1).holds();
        asked(0, 2).breaks(EPOCHS_END_AT_THE_NEXT, "was told that 0 ends at 2");
        asked(-1, -1).breaks(EPOCHS_END_AT_THE_NEXT, "was told that -1 ends at -1");
        // A consumer asks while nobody knows of a next one.
        let early = |end| {
            let told = asked(0, 1);
            let (partition, end) = (told.on, Offset(end));
            told.says(ClientId(READER), None, What::EpochEnds { partition, asked: 0, leader_epoch: 0, end })
        };
        early(0).holds();
        early(2).breaks(EPOCHS_END_AT_THE_NEXT, "was told that 0 ends at 2");
    }

    #[test]
    fn a_leader_that_is_deposed_may_have_had_more_of_its_epoch_than_the_next_one_has() {
        let told = |client, leader_epoch, end| {
            let mut all = records(0, &[(0, 0, 1), (0, 1, 1)]);
            all[1].leader_epoch = 1;
            let told = restarted([0, 1]).under(|plan| plan.cluster = cluster_plan(3).cluster);
            let told = told.fetches(ClientId::AUDITOR, 0, all, (0, 2));
            let (partition, end) = (told.on, Offset(end));
            told.says(client, None, What::EpochEnds { partition, asked: 0, leader_epoch, end })
        };
        told(ClientId(READER), 0, 9).holds();
        told(ClientId(READER), 1, 9).breaks(EPOCHS_END_AT_THE_NEXT, "was told that 1 ends at 9");
        told(ClientId::AUDITOR, 0, 9).breaks(EPOCHS_END_AT_THE_NEXT, "was told that 0 ends at 9");
    }
}
