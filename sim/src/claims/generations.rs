//! Generations and epochs are the order in which a group's members see its changes, so they rise, also through restarts.
//!
//! A generation that nobody was told an assignment of is not kept: the next one may have its number, and after a start of
//! the broker, or with another broker as coordinator, the one before it may go on. Of static members the leader may be another within a generation: one that comes back has another id (KIP-345).

use std::collections::BTreeMap;

use chronik_core::time::Instant;

use super::facts::{Facts, Group};
use super::{Claim, Found};
use crate::history::{Event, InGroup, What};

pub(super) const GENERATIONS_RISE: Claim = Claim {
    name: "generations-rise",
    meaning: "Who joins a group is told no smaller generation or epoch than anybody was told an assignment in before \
              (of several brokers, no smaller epoch), and no member's goes back; a generation has one leader.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if facts.may_lose() {
        return;
    }
    for (number, group) in facts.groups.all() {
        rise(facts, number, group, found);
    }
}

/// A number that was told, and when.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    number: i32,
}

fn rise(facts: &Facts<'_>, group_number: u32, group: &Group, found: &mut Found) {
    // The greatest so far: later ones only where they are greater.
    let mut told: Vec<Told> = Vec::new();
    // With when it asked, where what it was told need not be kept.
    let mut of_member: BTreeMap<&str, (Told, Option<Instant>)> = BTreeMap::new();
    let mut leaders: BTreeMap<i32, (&str, Instant)> = BTreeMap::new();
    let mut last_joined: BTreeMap<&str, (i32, &str)> = BTreeMap::new();
    // Whether the group was there all the time: if not, it may have begun again.
    let is_same = |from: Instant, to: Instant| group.is_same(from, to);
    for &index in &group.events {
        let event = &facts.events[index];
        let What::Group { what, .. } = &event.what else { continue };
        let (asked_at, member, number, is_entry) = match what {
            InGroup::Joined { asked_at, member, generation, leader } => {
                last_joined.insert(member, (*generation, leader));
                // A coordinator that has yet to hear that it is none any more lets members in by what it knows.
                (*asked_at, member.as_str(), *generation, group.is_pure && !facts.has_several())
            }
            InGroup::Assigned { asked_at, member, number, is_first, .. } => {
                (*asked_at, member.as_str(), *number, *is_first && group.is_pure)
            }
            InGroup::Alive { asked_at, member, number } => (*asked_at, member.as_str(), *number, false),
            InGroup::Described { asked_at, epoch: Some(epoch), .. } => (*asked_at, "", *epoch, true),
            _ => continue,
        };
        let greatest = told[..told.partition_point(|told| told.at < asked_at)].last();
        if let Some(before) =
            greatest.filter(|before| is_entry && before.number > number && is_same(before.at, event.at))
        {
            return found.add(GENERATIONS_RISE, index, || {
                format!(
                    "group {group_number}: {} is told of generation or epoch {number} at {}, and {} was told before it \
                     asked, at {}",
                    facts.who(index),
                    facts.when(index),
                    before.number,
                    super::facts::time(before.at),
                )
            });
        }
        if let Some(&(before, open_since)) = of_member.get(member).filter(|(before, _)| before.at < asked_at)
            && !member.is_empty()
            && before.number > number
            && is_same(before.at, event.at)
            && !open_since.is_some_and(|since| may_have_moved(facts, since, event.at))
        {
            return found.add(GENERATIONS_RISE, index, || {
                let before = before.number;
                format!("group {group_number}: {member} is told of {number} at {}, after {before}", facts.when(index))
            });
        }
        let open_since = matches!(what, InGroup::Joined { .. }).then_some(asked_at);
        of_member.insert(member, (Told { at: event.at, number }, open_since));
        if let InGroup::Assigned { is_next: false, .. } = what
            && let Some(&(_, leader)) = last_joined.get(member).filter(|(generation, _)| *generation == number)
            && group.is_pure
            && !group.has_static
        {
            let known = *leaders.entry(number).or_insert((leader, event.at));
            if known.0 != leader && is_same(known.1, event.at) {
                return found.add(GENERATIONS_RISE, index, || {
                    format!("group {group_number}: generation {number} is led by {} and by {leader}", known.0)
                });
            }
        }
        let is_kept = matches!(what, InGroup::Assigned { .. } | InGroup::Alive { .. } | InGroup::Described { .. });
        // A group that may have begun again counts from there.
        while told.last().is_some_and(|last| !is_same(last.at, event.at)) {
            told.pop();
        }
        if is_kept && told.last().is_none_or(|last| last.number < number) {
            told.push(Told { at: event.at, number });
        }
    }
}

/// Whether another process may have become the coordinator between two times: the broker was started, or there are several.
fn may_have_moved(facts: &Facts<'_>, from: Instant, to: Instant) -> bool {
    let is_start = |event: &Event| matches!(event.what, What::Started { .. }) && from < event.at && event.at < to;
    facts.has_several() || facts.events.iter().any(is_start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::told;
    use crate::testing::cluster_plan;

    #[test]
    fn numbers_rise() {
        told().members().joined(0, 1, "m0").assigned(0, 1, &[0]).wait(5).joined(1, 2, "m1").holds();
        let back = told().members().joined(0, 3, "m0").assigned(0, 3, &[0]).wait(5).joined(1, 2, "m1");
        back.breaks(GENERATIONS_RISE, "is told of generation or epoch 2");
        let last = told().members().joined(0, 3, "m0").assigned(0, 3, &[0]).wait(5);
        last.under(|plan| plan.cluster = cluster_plan(3).cluster).joined(1, 2, "m1").holds();
        // Nobody was told an assignment.
        told().members().joined(0, 3, "m0").wait(5).joined(1, 2, "m1").holds();
        let member = told().members().assigned(0, 3, &[]).wait(5).assigned(0, 2, &[]);
        member.breaks(GENERATIONS_RISE, "m0 is told of 2");
        // The next one is not kept before somebody is assigned something in it.
        let three = || told().members().joined(0, 2, "m0").assigned(0, 2, &[0]).joined(0, 3, "m0");
        three().wait(5).joined(0, 2, "m0").breaks(GENERATIONS_RISE, "m0 is told of 2");
        three().engine(What::Started { notes: Vec::new() }).wait(5).joined(0, 2, "m0").holds();
        let kept = three().assigned(0, 3, &[0]).engine(What::Started { notes: Vec::new() }).wait(5);
        kept.joined(0, 2, "m0").breaks(GENERATIONS_RISE, "is told of generation or epoch 2");
        // Another broker coordinates, which the leader's assignment never reached.
        let several = || three().under(|plan| plan.cluster = cluster_plan(3).cluster);
        several().wait(5).joined(0, 2, "m0").holds();
        several().assigned(0, 3, &[0]).wait(5).joined(0, 2, "m0").breaks(GENERATIONS_RISE, "m0 is told of 2");
    }

    #[test]
    fn a_generation_has_one_leader() {
        let first = told().members().joined(0, 2, "m0").assigned(0, 2, &[0]);
        first.wait(5).joined(1, 2, "m1").assigned(1, 2, &[1]).breaks(GENERATIONS_RISE, "is led by m0 and by m1");
    }

    #[test]
    fn a_group_that_is_forgotten_begins_again() {
        let left = told().members().assigned(0, 7, &[0]).released(0, &[0]).wait(5_000);
        left.joined(1, 1, "m1").assigned(1, 1, &[0]).holds();
        // One that has offsets is not forgotten.
        let kept = told().members().commits(0, 0, 5).taken(0, 0).assigned(0, 7, &[0]).wait(5_000);
        kept.joined(1, 1, "m1").breaks(GENERATIONS_RISE, "is told of generation or epoch 1");
    }
}
