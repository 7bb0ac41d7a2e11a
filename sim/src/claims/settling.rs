//! When all has healed, every group comes to rest: each member knows what it has, and all is read by somebody.

use std::collections::BTreeMap;

use super::facts::{Facts, Group};
use super::{Claim, Found};
use crate::history::{InGroup, Place, What};
use crate::plan::{ClientKind, ClientPlan, Plan};

pub(super) const GROUPS_SETTLE: Claim = Claim {
    name: "groups-settle",
    meaning: "20 s after everything has healed each live member of a group has an assignment, of one generation or \
              epoch, and every partition of the topics that they subscribe to is read by one of them. Where a group \
              takes fewer members than there are, those outside come in whenever a place is free, up to the end: then \
              no partition is read by two of them.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if facts.healed.is_none() || facts.faults.is_down_by_damage() || facts.plan.is_beyond_promises {
        return;
    }
    for (number, group) in facts.groups.all() {
        settled(facts, number, group, found);
    }
}

/// Whether a group may have more members than it takes.
fn is_crowded(plan: &Plan, group_number: u32) -> bool {
    let is_member =
        |client: &&ClientPlan| matches!(client.kind, ClientKind::Member { group, .. } if group == group_number);
    let members = plan.clients.iter().filter(is_member).count();
    let limits = ["group.max.size", "group.consumer.max.size"].map(|name| plan.node.broker.get(name));
    limits.into_iter().flatten().filter_map(|limit| limit.parse::<usize>().ok()).any(|limit| limit < members)
}

fn settled(facts: &Facts<'_>, group_number: u32, group: &Group, found: &mut Found) {
    let is_crowded = is_crowded(facts.plan, group_number);
    let mut numbers: BTreeMap<i32, usize> = BTreeMap::new();
    let mut readers: BTreeMap<Place, usize> = BTreeMap::new();
    let mut partitions: BTreeMap<u32, i32> = BTreeMap::new();
    let mut last = None;
    for &index in &group.events {
        let What::Group { what: InGroup::Settled { is_in: true, is_stable, number, subscribed, places }, .. } =
            &facts.events[index].what
        else {
            continue;
        };
        last = Some(index);
        if !is_stable {
            if is_crowded {
                continue;
            }
            return found.add(GROUPS_SETTLE, index, || {
                format!("group {group_number}: {} has no settled assignment at {}", facts.who(index), facts.when(index))
            });
        }
        numbers.insert(*number, index);
        for &place in places.iter().filter(|place| !facts.may_be_another(**place)) {
            if let Some(other) = readers.insert(place, index) {
                return found.add(GROUPS_SETTLE, index, || {
                    let (name, who, other) = (facts.place_name(place), facts.who(index), facts.who(other));
                    format!("group {group_number}: {name} is read by {other} and by {who} at the end")
                });
            }
        }
        for &(topic, count) in subscribed {
            let known = partitions.entry(topic).or_default();
            *known = (*known).max(count);
        }
    }
    let Some(last) = last.filter(|_| !is_crowded) else { return };
    if group.is_pure && numbers.len() > 1 {
        return found.add(GROUPS_SETTLE, last, || {
            let numbers: Vec<String> =
                numbers.iter().map(|(number, &index)| format!("{} in {number}", facts.who(index))).collect();
            format!("group {group_number}: its members end in different generations or epochs: {}", numbers.join(", "))
        });
    }
    for (topic, mut count) in partitions {
        // A static leader that came back, and cannot be told that it leads, does not look at topics (KIP-814).
        if group.has_static {
            let planned = facts.plan.topics.get(topic as usize).map_or(0, |topic| topic.partitions);
            count = count.min(planned);
        }
        for partition in 0..count {
            let place = Place { topic, partition };
            if !readers.contains_key(&place) && !facts.may_be_another(place) {
                return found.add(GROUPS_SETTLE, last, || {
                    format!("group {group_number}: nobody reads {} at the end", facts.place_name(place))
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{MEMBERS, Told, told};

    fn ends(told: Told, member: u32, number: i32, places: &[i32]) -> Told {
        let places = places.iter().map(|&partition| Place { topic: 0, partition }).collect();
        let subscribed = vec![(0, 2)];
        let settled = InGroup::Settled { is_in: true, is_stable: number > 0, number, subscribed, places };
        told.in_group(MEMBERS + member, settled)
    }

    fn healed() -> Told {
        told().members().engine(What::Healed)
    }

    fn over(told: Told) -> Told {
        let clients = told.plan.clients.len();
        let done = (0..clients).fold(told, |told, client| told.done(client));
        done.audits(&[])
    }

    #[test]
    fn a_group_comes_to_rest() {
        over(ends(ends(healed(), 0, 3, &[0]), 1, 3, &[1])).holds();
        over(ends(ends(healed(), 0, 3, &[0]), 1, 4, &[1])).breaks(GROUPS_SETTLE, "client 5 in 3, client 6 in 4");
        over(ends(ends(healed(), 0, 3, &[0]), 1, 3, &[])).breaks(GROUPS_SETTLE, "nobody reads orders-1");
        over(ends(ends(healed(), 0, 3, &[0, 1]), 1, 3, &[1])).breaks(GROUPS_SETTLE, "orders-1 is read by");
        over(ends(healed(), 0, -1, &[])).breaks(GROUPS_SETTLE, "no settled assignment");
        let mut crowded = healed();
        crowded.plan.node.broker.insert("group.max.size".into(), "1".into());
        over(ends(crowded, 0, -1, &[])).holds();
    }
}
