//! Who is no member, or no longer, changes nothing: neither what is committed nor the group itself.

use std::collections::BTreeMap;

use chronik_core::time::Instant;

use super::facts::{Facts, Group, time};
use super::{Claim, Found};
use crate::history::{ClientId, InGroup, Place, Tag, What};

pub(super) const COMMITS_ARE_FENCED: Claim = Claim {
    name: "commits-are-fenced",
    meaning: "No commit is taken under a generation that its client knows to be over, nor under an epoch in which it \
              knows that it had not got the partition yet, nor one without membership while the group has members.",
};

pub(super) const LIVE_GROUPS_STAY: Claim = Claim {
    name: "live-groups-stay",
    meaning: "No group is deleted while it has members, and no offsets of a topic that they read.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if facts.may_lose() {
        return;
    }
    for (number, group) in facts.groups.all() {
        fenced(facts, number, group, found);
    }
}

/// What a client knows, as long as it is one member.
///
/// A classic group takes commits under its generation alone, one of the next protocol also under earlier epochs since
/// the member has had the partition (KIP-1251). A classic member is told which of both its group is: only a generation
/// has a leader. An upgrade has members begin to have what is theirs in the generation of that moment, whether they
/// heard of it or not; so no generation that was over before is taken after it either.
#[derive(Debug, Default)]
struct Knows {
    /// Who it is.
    member: String,
    /// The last generation of a classic group that it joined: no earlier one is taken any more.
    generation: i32,
    /// The epochs that it was told of, with when.
    told: Vec<(Instant, i32)>,
    /// Of each partition that it has the epoch that it was in when it had not got it yet.
    before: BTreeMap<Place, i32>,
}

impl Knows {
    /// What it knows as this member: nothing from before it was.
    fn of<'a>(clients: &'a mut BTreeMap<ClientId, Knows>, client: ClientId, member: &str) -> &'a mut Knows {
        let knows = clients.entry(client).or_default();
        if knows.member != member {
            *knows = Knows { member: member.to_owned(), ..Knows::default() };
        }
        knows
    }

    /// It is told all that it has.
    fn has(&mut self, asked_at: Instant, places: &[Place]) {
        // One that learns late what a topic's name is is told of the same answer again.
        let earlier = self.told[..self.told.partition_point(|(at, _)| *at <= asked_at)].last();
        let before = earlier.map_or(0, |(_, number)| *number);
        let known = std::mem::take(&mut self.before);
        self.before = places.iter().map(|place| (*place, known.get(place).copied().unwrap_or(before))).collect();
    }

    /// The first generation or epoch under which it may commit for a partition, as far as it knows.
    fn since(&self, place: Place) -> i32 {
        self.before.get(&place).copied().unwrap_or(0).max(self.generation)
    }
}

fn fenced(facts: &Facts<'_>, number: u32, group: &Group, found: &mut Found) {
    let mut clients: BTreeMap<ClientId, Knows> = BTreeMap::new();
    // The commits that must be declined, with why.
    let mut stale: BTreeMap<(Tag, Place), i32> = BTreeMap::new();
    let mut alone: BTreeMap<Tag, Instant> = BTreeMap::new();
    for &index in &group.events {
        let event = &facts.events[index];
        let What::Group { what, .. } = &event.what else { continue };
        match what {
            InGroup::Joined { member, generation, leader, .. } if !leader.is_empty() => {
                Knows::of(&mut clients, event.client, member).generation = *generation;
            }
            // An empty group of one protocol that becomes one of the other begins to count anew.
            InGroup::Joined { member, generation, .. } => {
                let knows = Knows::of(&mut clients, event.client, member);
                let newest = knows.told.last().copied();
                let is_new = |(at, number)| number > *generation && !group.is_live(at, event.at, None);
                if newest.is_some_and(is_new) {
                    *knows = Knows { member: member.clone(), ..Knows::default() };
                }
            }
            InGroup::Alive { member, number, .. } => {
                Knows::of(&mut clients, event.client, member).told.push((event.at, *number));
            }
            InGroup::Assigned { asked_at, member, number, is_first, places, .. } => {
                let knows = Knows::of(&mut clients, event.client, member);
                if *is_first {
                    *knows = Knows { member: member.clone(), ..Knows::default() };
                }
                knows.has(*asked_at, places);
                knows.told.push((event.at, *number));
            }
            InGroup::Fenced { .. } => _ = clients.remove(&event.client),
            InGroup::Commit { tag, number: -1, .. } => _ = alone.insert(*tag, event.at),
            InGroup::Commit { tag, number: under, offsets } => {
                let Some(knows) = clients.get(&event.client) else { continue };
                for (place, _) in offsets {
                    let since = knows.since(*place);
                    if *under < since {
                        stale.insert((*tag, *place), since);
                    }
                }
            }
            InGroup::Taken { tag, places } => {
                if let Some(newer) = places.iter().find_map(|place| stale.get(&(*tag, *place))) {
                    found.add(COMMITS_ARE_FENCED, index, || {
                        let (who, when) = (facts.who(index), facts.when(index));
                        format!("group {number}: {tag} of {who} is taken at {when}, though none before {newer} may be")
                    });
                }
                if let Some(&sent) = alone.get(tag).filter(|sent| group.is_live(**sent, event.at, None)) {
                    found.add(COMMITS_ARE_FENCED, index, || {
                        let when = facts.when(index);
                        let sent = time(sent);
                        format!(
                            "group {number}: {tag} of nobody, sent at {sent}, is taken at {when}, and it has members"
                        )
                    });
                }
            }
            InGroup::Deleted { topic, asked_at } if group.is_live(*asked_at, event.at, *topic) => {
                found.add(LIVE_GROUPS_STAY, index, || {
                    let what = topic.map_or("it is".into(), |topic| format!("offsets of topic {topic} are"));
                    let (asked, when) = (time(*asked_at), facts.when(index));
                    format!("group {number}: {what} deleted between {asked} and {when}, with members all that time")
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{MEMBERS, Told, told};

    #[test]
    fn a_generation_that_is_over_commits_nothing() {
        let two = || told().members().joined(0, 2, "m1").assigned(0, 2, &[0]);
        two().commits_under(0, 0, 2, 5).taken(0, 0).holds();
        two().commits_under(0, 0, 1, 5).taken(0, 0).breaks(COMMITS_ARE_FENCED, "though none before 2 may be");
        two().commits_under(0, 0, 1, 5).declined(0, 0).holds();
        // The next one is there, whoever has what in it.
        let three = two().joined(0, 3, "m1").commits_under(0, 0, 2, 5).taken(0, 0);
        three.breaks(COMMITS_ARE_FENCED, "though none before 3 may be");
    }

    #[test]
    fn an_epoch_that_is_over_commits_what_its_member_had_in_it() {
        // Where nobody leads the coordinator assigns.
        let upgraded =
            || told().members().joined(0, 2, "m1").assigned(0, 2, &[0]).joined(0, 3, "").assigned(0, 3, &[0]);
        upgraded().commits_under(0, 0, 2, 5).taken(0, 0).holds();
        upgraded().commits_under(0, 0, 1, 5).taken(0, 0).breaks(COMMITS_ARE_FENCED, "though none before 2 may be");
        let had_not = || told().members().assigned(0, 2, &[1]).alive(0, 4).joined(0, 5, "").assigned(0, 5, &[0, 1]);
        had_not().commits_under(0, 0, 4, 5).taken(0, 0).holds();
        had_not().commits_under(0, 0, 3, 5).taken(0, 0).breaks(COMMITS_ARE_FENCED, "though none before 4 may be");
    }

    #[test]
    fn a_group_that_was_empty_between_two_protocols_counts_anew() {
        let old = told().members().joined(0, 9, "m1").assigned(0, 9, &[0]).wait(1_500);
        old.joined(0, 2, "").assigned(0, 2, &[0]).commits_under(0, 0, 2, 5).taken(0, 0).holds();
    }

    #[test]
    fn another_member_of_the_same_client_knows_nothing_yet() {
        let member = |told: Told, name: &str, number, partitions: &[i32]| {
            let what = InGroup::Assigned {
                asked_at: told.now,
                member: name.into(),
                number,
                is_next: true,
                is_first: false,
                places: partitions.iter().map(|&partition| Place { topic: 0, partition }).collect(),
            };
            told.in_group(MEMBERS, what)
        };
        let again = |name: &str| member(member(told().members(), "m0", 7, &[]), name, 9, &[0]);
        again("m0").commits_under(0, 0, 5, 5).taken(0, 0).breaks(COMMITS_ARE_FENCED, "though none before 7 may be");
        again("m9").commits_under(0, 0, 5, 5).taken(0, 0).holds();
    }

    #[test]
    fn nobody_commits_for_members() {
        let live = || told().members().assigned(0, 2, &[0]);
        live().commits_under(1, 0, -1, 5).taken(1, 0).breaks(COMMITS_ARE_FENCED, "and it has members");
        live().wait(1_500).commits_under(1, 0, -1, 5).taken(1, 0).holds();
    }

    #[test]
    fn a_group_with_members_is_not_deleted() {
        told().members().assigned(0, 2, &[0]).deletes().breaks(LIVE_GROUPS_STAY, "it is deleted");
        told().members().assigned(0, 2, &[0]).wait(1_500).deletes().holds();
    }
}
