//! A partition has one reader in a group at a time.
//!
//! Seen from the members: from when one is told that it has a partition until it has given it up, nobody else is told the
//! same, unless its session may be over by the broker's rule, or somebody took its place.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::time::Instant;

use super::facts::{Facts, Group, client, patience, rebalance_patience, time};
use super::{Claim, Found};
use crate::history::{ClientId, InGroup, Place, What};

pub(super) const OWNED_ONCE: Claim = Claim {
    name: "owned-once",
    meaning: "A partition is owned by at most one member of a group in a generation or epoch, from when it is told so \
              until it has given the partition up or its session is over.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if facts.may_lose() {
        return;
    }
    for (number, group) in facts.groups.all() {
        owned(facts, number, group, found);
        generations(facts, number, group, found);
    }
}

/// What one client has.
#[derive(Debug, Default)]
struct Owner {
    places: BTreeSet<Place>,
    /// When it asked for what was answered well last.
    asked_at: Instant,
    /// When it asked for what was answered well before that: since then it may owe partitions without having been told. Who
    /// has just come, or is told of a generation, owes nothing.
    asked_before: Instant,
}

impl Owner {
    /// It has been answered again.
    fn heard(&mut self, asked_at: Instant) {
        self.asked_before = std::mem::replace(&mut self.asked_at, asked_at);
    }
}

fn owned(facts: &Facts<'_>, number: u32, group: &Group, found: &mut Found) {
    let mut owners: BTreeMap<ClientId, Owner> = BTreeMap::new();
    for &index in &group.events {
        let event = &facts.events[index];
        let What::Group { what, .. } = &event.what else { continue };
        match what {
            InGroup::Assigned { asked_at, places, is_first, is_next, .. } => {
                let before = owners.remove(&event.client).filter(|_| *is_next && !is_first);
                let new = Owner { asked_at: *asked_at, asked_before: *asked_at, ..Owner::default() };
                let mut told = before.map_or(new, |mut before| {
                    before.heard(*asked_at);
                    before
                });
                // An answer that was long on its way may be about a membership that is over.
                if is_certain(facts, group, event.client, &told, event.at) {
                    let others = owners.iter().filter(|(id, _)| **id != event.client);
                    for (&other, owner) in others {
                        let both = places.iter().find(|place| owner.places.contains(place));
                        let Some(place) = both.filter(|place| !facts.may_be_another(**place)) else { continue };
                        if is_certain(facts, group, other, owner, event.at) {
                            return found.add(OWNED_ONCE, index, || {
                                format!(
                                    "group {number}: {} is told at {} that it has {}, which {} has: it was told so, \
                                     has not given it up, and was in the group when it asked at {}",
                                    facts.who(index),
                                    facts.when(index),
                                    facts.place_name(*place),
                                    client(other),
                                    time(owner.asked_at),
                                )
                            });
                        }
                    }
                }
                told.places = places.iter().copied().collect();
                owners.insert(event.client, told);
            }
            InGroup::Alive { asked_at, .. } => {
                if let Some(owner) = owners.get_mut(&event.client) {
                    owner.heard(*asked_at);
                }
            }
            InGroup::Released { places } => {
                if let Some(owner) = owners.get_mut(&event.client) {
                    places.iter().for_each(|place| _ = owner.places.remove(place));
                }
            }
            InGroup::Described { places, .. } => {
                let mut seen = BTreeSet::new();
                if let Some(twice) = places.iter().find(|place| !seen.insert(**place)) {
                    found.add(OWNED_ONCE, index, || {
                        let name = facts.place_name(*twice);
                        format!("group {number} is described at {} with {name} twice", facts.when(index))
                    });
                }
            }
            _ => {}
        }
    }
}

/// Whether a client surely is a member now: its session is not over, nor its time to give up what it was to give up.
fn is_certain(facts: &Facts<'_>, group: &Group, id: ClientId, owner: &Owner, now: Instant) -> bool {
    now < owner.asked_at + patience(facts.plan, id)
        && now < owner.asked_before + rebalance_patience(facts.plan, id)
        && !group.may_be_taken(facts.plan, id, owner.asked_at, now)
}

/// In one generation of a classic group nobody else is ever told the same.
fn generations(facts: &Facts<'_>, number: u32, group: &Group, found: &mut Found) {
    let mut owners: BTreeMap<(i32, Place), (ClientId, &str, Instant)> = BTreeMap::new();
    for &index in &group.events {
        let What::Group { what: InGroup::Assigned { member, number: generation, is_next: false, places, .. }, .. } =
            &facts.events[index].what
        else {
            continue;
        };
        for &place in places.iter().filter(|place| !facts.may_be_another(**place)) {
            let (client, at) = (facts.events[index].client, facts.events[index].at);
            let owner = *owners.entry((*generation, place)).or_insert((client, member, at));
            // A static member that comes back goes on where it was, under another id (KIP-345).
            let is_back = facts.static_member(client).is_some_and(|own| facts.static_member(owner.0) == Some(own));
            if owner.1 != member && !is_back && group.is_same(owner.2, at) {
                return found.add(OWNED_ONCE, index, || {
                    let owner = owner.1;
                    format!(
                        "group {number}: in generation {generation} {} is given to {owner} and at {} to {member}",
                        facts.place_name(place),
                        facts.when(index),
                    )
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{MEMBERS, Told, told};
    use crate::plan::ClientKind;

    fn both() -> Told {
        told().members().assigned(0, 1, &[0, 1]).wait(10)
    }

    #[test]
    fn a_partition_has_one_reader() {
        both().assigned(1, 2, &[1]).breaks(OWNED_ONCE, "which client 5 has");
        both().released(0, &[1]).assigned(1, 2, &[1]).holds();
        both().assigned(0, 2, &[0]).assigned(1, 2, &[1]).holds();
    }

    #[test]
    fn who_may_be_out_has_nothing() {
        both().wait(2_000).assigned(1, 2, &[1]).holds();
        both().wait(900).alive(0, 1).wait(900).assigned(1, 2, &[1]).breaks(OWNED_ONCE, "orders-1");
        // An answer that was on its way for longer than a session.
        let asked_at = both().now;
        let late = InGroup::Assigned {
            asked_at,
            member: "late".into(),
            number: 1,
            is_next: false,
            is_first: false,
            places: vec![Place { topic: 0, partition: 7 }],
        };
        let other = both().wait(2_000).assigned(1, 2, &[7]);
        other.in_group(MEMBERS, late).holds();
    }

    #[test]
    fn who_may_owe_partitions_for_too_long_has_nothing() {
        let asked = || {
            both().under(|plan| {
                for client in &mut plan.clients {
                    if let ClientKind::Member { session_timeout_ms, rebalance_timeout_ms, .. } = &mut client.kind {
                        (*session_timeout_ms, *rebalance_timeout_ms) = (10_000, 2_000);
                    }
                }
            })
        };
        // Between its two requests it may have been asked to give something up, and not have been told.
        asked().wait(1_500).alive(0, 1).wait(100).assigned(1, 2, &[1]).breaks(OWNED_ONCE, "orders-1");
        asked().wait(1_500).alive(0, 1).wait(600).assigned(1, 2, &[1]).holds();
        asked().wait(1_500).alive(0, 1).alive(0, 1).wait(600).assigned(1, 2, &[1]).breaks(OWNED_ONCE, "orders-1");
    }

    #[test]
    fn a_generation_is_told_once() {
        let one = both().released(0, &[0, 1]);
        one.assigned(1, 1, &[0]).breaks(OWNED_ONCE, "in generation 1 orders-0 is given to m0");
    }
}
