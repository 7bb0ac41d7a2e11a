//! Who is no member, or no longer, changes nothing: neither what is committed nor the group itself.

use std::collections::BTreeMap;

use chronik_core::time::Instant;

use super::facts::{Facts, Group, time};
use super::{Claim, Found};
use crate::history::{ClientId, InGroup, Place, Tag, What};

pub(super) const COMMITS_ARE_FENCED: Claim = Claim {
    name: "commits-are-fenced",
    meaning: "No commit is taken under a generation or epoch that its client knows to be over, in a group of one \
              protocol, nor one without membership while the group has members.",
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

/// What a client knows.
#[derive(Debug, Default)]
struct Knows {
    /// The generation or epoch that it was told of last.
    number: i32,
    /// Of each partition of a member of the next protocol the epoch that it was in when it had not got it yet: earlier
    /// ones may not commit for it (KIP-1251).
    before: BTreeMap<Place, i32>,
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
            InGroup::Joined { generation: told, .. } | InGroup::Alive { number: told, .. } => {
                clients.entry(event.client).or_default().number = *told;
            }
            InGroup::Assigned { number: told, is_first, places, .. } => {
                let knows = clients.entry(event.client).or_default();
                // Who joins has had nothing, as far as is known.
                let (before, known) = match is_first {
                    true => (0, BTreeMap::new()),
                    false => (knows.number, std::mem::take(&mut knows.before)),
                };
                // A group that was deleted begins its epochs again: what was known of later ones is void.
                let since = |place: &Place| (*place, known.get(place).copied().unwrap_or(before).min(*told));
                *knows = Knows { number: *told, before: places.iter().map(since).collect() };
            }
            InGroup::Fenced { .. } => _ = clients.remove(&event.client),
            InGroup::Commit { tag, number: -1, .. } => _ = alone.insert(*tag, event.at),
            InGroup::Commit { tag, number: under, offsets } => {
                // An upgrade in the middle of a rebalance gives members what is theirs since the generation before,
                // which they do not hear: in groups of both protocols it is not known which commits are late.
                let Some(knows) = clients.get(&event.client).filter(|_| group.is_pure) else { continue };
                for (place, _) in offsets {
                    let newest = if group.is_classic { Some(knows.number) } else { knows.before.get(place).copied() };
                    if let Some(newest) = newest.filter(|newest| newest > under) {
                        stale.insert((*tag, *place), newest);
                    }
                }
            }
            InGroup::Taken { tag, places } => {
                if let Some(newer) = places.iter().find_map(|place| stale.get(&(*tag, *place))) {
                    found.add(COMMITS_ARE_FENCED, index, || {
                        let (who, when) = (facts.who(index), facts.when(index));
                        format!(
                            "group {number}: {tag} of {who} is taken at {when}, though it was told of {newer} before"
                        )
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
    use crate::claims::told::told;

    #[test]
    fn a_generation_that_is_over_commits_nothing() {
        let two = || told().members().assigned(0, 2, &[0]);
        two().commits_under(0, 0, 2, 5).taken(0, 0).holds();
        two().commits_under(0, 0, 1, 5).taken(0, 0).breaks(COMMITS_ARE_FENCED, "it was told of 2 before");
        two().commits_under(0, 0, 1, 5).declined(0, 0).holds();
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
