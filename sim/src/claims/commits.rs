//! What a group has committed is a register for each partition: whoever asks is told the newest commit, or one that is
//! not known to be over.
//!
//! Every commit has a tag of its own, which comes back with its offsets. A commit is *over* when it was acknowledged, or
//! somebody was told of it; one whose fate is open may take effect at any later time. So an answer is wrong where it
//! tells of a commit that was over before another one began that is over, too; and likewise of deletions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chronik_core::ids::Offset;
use chronik_core::time::Instant;

use super::facts::{Facts, Group, client, time};
use super::{Claim, Found};
use crate::history::{ClientId, Committed, InGroup, Place, Tag, What};

pub(super) const COMMITTED_IS_TOLD: Claim = Claim {
    name: "committed-is-told",
    meaning: "What OffsetFetch tells is the newest acknowledged commit, or a newer one whose fate is open; nothing only \
              where offsets were deleted, or expired by the rule.",
};

pub(super) const COMMITS_AS_SENT: Claim = Claim {
    name: "commits-as-sent",
    meaning: "An offset that is told was committed, for that partition, as it is told, and was not declined.",
};

pub(super) const DELETED_OFFSETS_STAY_DELETED: Claim = Claim {
    name: "deleted-offsets-stay-deleted",
    meaning: "Once a deletion of offsets, or of a group, was answered, no commit from before it is told.",
};

/// Clocks that drift make the shortest time that offsets are kept shorter by at most this.
const DRIFT: Duration = Duration::from_millis(500);

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if facts.may_lose() {
        return;
    }
    for (number, group) in facts.groups.all() {
        Register::of(facts, group).judge(facts, number, group, found);
    }
}

/// A commit of one partition's offset.
#[derive(Debug)]
struct Write {
    offset: Offset,
    sent: Instant,
    /// When it was over.
    over: Option<Instant>,
    is_declined: bool,
}

/// A deletion of a topic's offsets, or of all.
#[derive(Debug)]
struct Deletion {
    topic: Option<u32>,
    sent: Instant,
    over: Option<Instant>,
    event: usize,
}

/// All that was done to a group's offsets.
#[derive(Debug, Default)]
struct Register {
    writes: BTreeMap<Place, BTreeMap<Tag, Write>>,
    deletions: Vec<Deletion>,
    /// By place: commits that are over, each with when it was sent, the latest so far.
    over: BTreeMap<Place, Vec<(Instant, Instant, Tag)>>,
}

impl Register {
    fn of(facts: &Facts<'_>, group: &Group) -> Register {
        let mut register = Register::default();
        for &index in &group.events {
            let event = &facts.events[index];
            let What::Group { what, .. } = &event.what else { continue };
            match what {
                InGroup::Commit { tag, offsets, .. } => {
                    for &(place, offset) in offsets {
                        let write = Write { offset, sent: event.at, over: None, is_declined: false };
                        register.writes.entry(place).or_default().insert(*tag, write);
                    }
                }
                InGroup::Taken { tag, places } => {
                    places.iter().for_each(|&place| register.is_over(place, *tag, event.at));
                }
                InGroup::Declined { tag, places, .. } => {
                    for place in places {
                        if let Some(write) = register.write(*place, *tag) {
                            write.is_declined = true;
                        }
                    }
                }
                InGroup::Offsets { committed, .. } => {
                    for told in committed {
                        if let Some(tag) = told.tag {
                            register.is_over(told.place, tag, event.at);
                        }
                    }
                }
                InGroup::Delete { topic } => {
                    let deletion = Deletion { topic: *topic, sent: event.at, over: None, event: index };
                    register.deletions.push(deletion);
                }
                InGroup::Deleted { topic, .. } => {
                    // Of one client at a time: its last one.
                    let asked = register
                        .deletions
                        .iter_mut()
                        .rev()
                        .find(|asked| asked.topic == *topic && facts.events[asked.event].client == event.client);
                    if let Some(asked) = asked {
                        asked.over = Some(event.at);
                    }
                }
                _ => {}
            }
        }
        for (index, event) in facts.events.iter().enumerate() {
            if let What::DeleteTopic { name, .. } = &event.what {
                let topic = facts.plan.topics.iter().position(|topic| topic.name == *name);
                let topic = topic.map(|topic| u32::try_from(topic).expect("few topics"));
                register.deletions.push(Deletion { topic, sent: event.at, over: None, event: index });
            }
        }
        register
    }

    fn write(&mut self, place: Place, tag: Tag) -> Option<&mut Write> {
        self.writes.get_mut(&place)?.get_mut(&tag)
    }

    fn is_over(&mut self, place: Place, tag: Tag, at: Instant) {
        let Some(write) = self.write(place, tag) else { return };
        if write.over.is_some() {
            return;
        }
        write.over = Some(at);
        let sent = write.sent;
        let over = self.over.entry(place).or_default();
        if over.last().is_none_or(|&(_, latest, _)| latest < sent) {
            over.push((at, sent, tag));
        }
    }

    /// The commit that began last of those that were over by then.
    fn latest(&self, place: Place, by: Instant) -> Option<(Instant, Tag)> {
        let over = self.over.get(&place)?;
        let before = over.partition_point(|&(at, ..)| at < by);
        before.checked_sub(1).map(|index| (over[index].1, over[index].2))
    }

    fn judge(&self, facts: &Facts<'_>, number: u32, group: &Group, found: &mut Found) {
        for &index in &group.events {
            let event = &facts.events[index];
            let What::Group { what: InGroup::Offsets { asked_at, committed, is_all }, .. } = &event.what else {
                continue;
            };
            let about = About { facts, number, group, index, asked_at: *asked_at };
            for told in committed {
                match told.tag {
                    Some(tag) => self.told(&about, told, tag, found),
                    None => self.nothing(&about, told.place, found),
                }
            }
            if *is_all {
                let told: BTreeSet<Place> = committed.iter().map(|told| told.place).collect();
                for &place in self.over.keys().filter(|place| !told.contains(place)) {
                    self.nothing(&about, place, found);
                }
            }
        }
        if facts.is_audited && !facts.faults.is_down_by_damage() {
            self.audited(facts, number, group, found);
        }
    }

    fn told(&self, about: &About<'_, '_>, told: &Committed, tag: Tag, found: &mut Found) {
        let write = self.writes.get(&told.place).and_then(|writes| writes.get(&tag));
        let Some(write) = write.filter(|write| write.offset == told.offset && !write.is_declined) else {
            return found.add(COMMITS_AS_SENT, about.index, || {
                let how = match write {
                    None => "which is no commit of that partition".into(),
                    Some(write) if write.is_declined => "which was declined".into(),
                    Some(write) => format!("which was of {}", write.offset),
                };
                format!("{} {} by {tag}, {how}", about.intro(told.place), told.offset)
            });
        };
        if let Some((sent, newer)) = self.latest(told.place, about.asked_at)
            && write.over.is_some_and(|over| over < sent)
        {
            return found.add(COMMITTED_IS_TOLD, about.index, || {
                let writer = client(ClientId(newer.client));
                format!(
                    "{} {} by {tag}, which was over before {newer} was sent by {writer} at {}, and that was acknowledged, \
                     or told of, before",
                    about.intro(told.place),
                    told.offset,
                    time(sent),
                )
            });
        }
        let strikes = |deletion: &&Deletion| {
            deletion.topic.is_none_or(|topic| topic == told.place.topic)
                && deletion.over.is_some_and(|over| over < about.asked_at)
                && write.over.is_some_and(|over| over < deletion.sent)
        };
        if let Some(deletion) = self.deletions.iter().find(strikes) {
            found.add(DELETED_OFFSETS_STAY_DELETED, about.index, || {
                let deleted = time(deletion.sent);
                format!("{} {} by {tag}, deleted since at {deleted}", about.intro(told.place), told.offset)
            });
        }
    }

    /// Nothing is told to be committed.
    fn nothing(&self, about: &About<'_, '_>, place: Place, found: &mut Found) {
        let Some((sent, tag)) = self.latest(place, about.asked_at) else { return };
        let at = about.facts.events[about.index].at;
        let may_strike = |deletion: &Deletion| {
            deletion.topic.is_none_or(|topic| topic == place.topic)
                && deletion.sent <= at
                && deletion.over.is_none_or(|over| over >= sent)
        };
        if self.deletions.iter().any(may_strike) || about.may_expire(place, sent) {
            return;
        }
        found.add(COMMITTED_IS_TOLD, about.index, || {
            let sent = time(sent);
            format!(
                "{} nothing, though {tag}, sent at {sent}, was acknowledged, or told of, before",
                about.intro(place)
            )
        });
    }

    /// The auditor is told something of every group that committed.
    fn audited(&self, facts: &Facts<'_>, number: u32, group: &Group, found: &mut Found) {
        let is_told = |index: &usize| {
            let event = &facts.events[*index];
            event.client == ClientId::AUDITOR && matches!(event.what, What::Group { what: InGroup::Offsets { .. }, .. })
        };
        if !self.over.is_empty() && !group.events.iter().any(is_told) {
            found.add(COMMITTED_IS_TOLD, facts.events.len() - 1, || {
                format!("group {number}: nobody tells the auditor what is committed")
            });
        }
    }
}

/// An answer.
struct About<'a, 'b> {
    facts: &'a Facts<'b>,
    number: u32,
    group: &'a Group,
    index: usize,
    asked_at: Instant,
}

impl About<'_, '_> {
    fn intro(&self, place: Place) -> String {
        let facts = self.facts;
        let (who, when) = (facts.who(self.index), facts.when(self.index));
        format!("group {}: {who} is told at {when} that {} is committed at", self.number, facts.place_name(place))
    }

    /// Whether an offset that was committed then may have expired (KIP-211): not while a member reads its topic, and not
    /// before it has been kept for as long as the broker keeps it: since it was committed where the group goes on without
    /// readers of the topic, and since it had its last member where it does not.
    fn may_expire(&self, place: Place, sent: Instant) -> bool {
        let Some(kept) = self.facts.offsets_are_kept() else { return false };
        if self.group.is_live(sent, self.asked_at, Some(place.topic)) {
            return false;
        }
        let at = self.facts.events[self.index].at;
        let last_reader = self.group.last_live(Some(place.topic), self.asked_at);
        let goes_on = self.group.last_live(None, self.asked_at) > last_reader;
        let since = last_reader.filter(|_| !goes_on).map_or(sent, |last| last.max(sent));
        // One coordinator dates a commit, another may find it old.
        let apart = DRIFT + self.facts.clocks_apart();
        self.facts.has_clock_steps() || at - since + apart >= kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{Told, told};

    /// Two commits, the first over before the second is sent.
    fn two() -> Told {
        told().members().commits(0, 0, 5).taken(0, 0).wait(5).commits(0, 1, 8).taken(0, 1).wait(5)
    }

    #[test]
    fn the_newest_commit_is_told() {
        two().committed(1, Some((0, 1, 8))).holds();
        two().committed(1, Some((0, 0, 5))).breaks(COMMITTED_IS_TOLD, "at 5 by commit 5.0, which was over before");
        two().committed(1, None).breaks(COMMITTED_IS_TOLD, "nothing, though commit 5.1");
        two().all_committed(1).breaks(COMMITTED_IS_TOLD, "nothing, though commit 5.1");
    }

    #[test]
    fn what_is_open_may_be_told_or_not() {
        let open = || two().commits(1, 0, 3).wait(5);
        open().committed(0, Some((1, 0, 3))).holds();
        open().committed(0, Some((0, 1, 8))).holds();
        // Once it was told it stays.
        let told = open().committed(0, Some((1, 0, 3))).wait(5);
        told.committed(0, Some((0, 1, 8))).breaks(COMMITTED_IS_TOLD, "by commit 5.1, which was over before");
    }

    #[test]
    fn commits_are_told_as_they_were_sent() {
        two().committed(1, Some((0, 1, 9))).breaks(COMMITS_AS_SENT, "which was of 8");
        two().committed(1, Some((0, 7, 9))).breaks(COMMITS_AS_SENT, "no commit of that partition");
        let declined = two().commits(1, 0, 3).declined(1, 0);
        declined.committed(0, Some((1, 0, 3))).breaks(COMMITS_AS_SENT, "which was declined");
    }

    #[test]
    fn what_is_deleted_stays_so() {
        two().deletes().committed(1, None).holds();
        two().deletes().wait(5).committed(1, Some((0, 1, 8))).breaks(DELETED_OFFSETS_STAY_DELETED, "deleted since");
        two()
            .deletes()
            .wait(5)
            .commits(0, 2, 9)
            .taken(0, 2)
            .wait(5)
            .committed(1, None)
            .breaks(COMMITTED_IS_TOLD, "nothing, though commit 5.2");
    }

    #[test]
    fn offsets_expire_by_the_rule() {
        let kept = || {
            two().under(|plan| {
                plan.node.broker.insert("offsets.retention.minutes".into(), "1".into());
            })
        };
        kept().wait(70_000).committed(1, None).holds();
        kept().wait(50_000).committed(1, None).breaks(COMMITTED_IS_TOLD, "nothing");
        // As long as somebody reads the topic they stay.
        let read = (0..80).fold(kept().assigned(0, 1, &[0]), |told, _| told.wait(900).alive(0, 1));
        read.committed(1, None).breaks(COMMITTED_IS_TOLD, "nothing");
        // A group that goes on without readers of the topic keeps them no longer for those that there were.
        let beats = |told: Told, count| (0..count).fold(told, |told, _| told.wait(900).alive(0, 1));
        let left = |count| beats(beats(kept().assigned(0, 1, &[0]), 22).assigned(0, 1, &[]), count).committed(1, None);
        left(50).holds();
        left(20).breaks(COMMITTED_IS_TOLD, "nothing");
    }
}
