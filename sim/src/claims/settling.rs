//! When all has healed, every group comes to rest: each member knows what it has, and all is read by somebody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chronik_core::time::Instant;

use super::facts::{Facts, Group, session};
use super::{Claim, Found};
use crate::history::{ClientId, InGroup, Place, Stands, What};
use crate::plan::{Action, ClientKind, GroupProtocol, Plan};

pub(super) const GROUPS_SETTLE: Claim = Claim {
    name: "groups-settle",
    meaning: "20 s after everything has healed each live member of a group has an assignment, of one generation or \
              epoch, and every partition of the topics that they subscribe to is read by one of them. Where a group \
              takes fewer members than there are, those outside come in whenever a place is free, up to the end: then \
              no place stays free, and the same is so of those inside when for a session and a rebalance nobody has \
              come or gone.",
};

/// Heartbeats, retries and the first rebalance's delay, beside the timeouts of sessions and rebalances.
const STEPS: Duration = Duration::from_secs(4);

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    let Some(healed) = facts.healed else { return };
    if facts.faults.is_down_by_damage() || facts.plan.is_beyond_promises {
        return;
    }
    for (number, group) in facts.groups.all() {
        settled(facts, number, group, healed, found);
    }
}

/// What the plan says of a group.
#[derive(Debug)]
struct Room {
    /// How many members it takes at least.
    places: usize,
    /// Whether it may have more than that.
    is_crowded: bool,
    /// Whether all of its members go together: they are of one protocol, and one way to assign.
    is_uniform: bool,
    /// Static members that several are.
    shared: BTreeSet<u32>,
    /// Within this after anybody has come or gone it is settled again.
    patience: Duration,
}

impl Room {
    fn of(plan: &Plan, group_number: u32) -> Room {
        let (mut members, mut instances, mut shared) = (0, BTreeSet::new(), BTreeSet::new());
        let mut protocols: Vec<GroupProtocol> = Vec::new();
        let (mut longest_session, mut longest_rebalance) = (Duration::ZERO, 0);
        for (client, of) in (0..).map(ClientId).zip(&plan.clients) {
            let ClientKind::Member { group, protocol, instance, rebalance_timeout_ms, .. } = of.kind else { continue };
            if group != group_number {
                continue;
            }
            members += 1;
            shared.extend(instance.filter(|instance| !instances.insert(*instance)));
            protocols.push(protocol);
            longest_session = longest_session.max(session(plan, client));
            longest_rebalance = longest_rebalance.max(rebalance_timeout_ms);
        }
        let limit = |name: &str| plan.node.broker.get(name).and_then(|limit| limit.parse::<usize>().ok());
        let limit_of = |protocol: &GroupProtocol| match protocol.is_next() {
            true => limit("group.consumer.max.size"),
            false => limit("group.max.size"),
        };
        let places = protocols.iter().filter_map(limit_of).min().unwrap_or(usize::MAX);
        let go_together = |pair: &[GroupProtocol]| pair[0] == pair[1] || pair[0].is_next() && pair[1].is_next();
        Room {
            places,
            is_crowded: places < members,
            is_uniform: protocols.windows(2).all(go_together),
            shared,
            patience: longest_session + Duration::from_millis(longest_rebalance) + STEPS,
        }
    }
}

/// When somebody came or went last before a group's members end, as far as anybody knows, or everything healed. Of a
/// group that has room for all, only what its members do of themselves counts: that they are let go is no excuse.
fn calm_since(
    facts: &Facts<'_>,
    group_number: u32,
    is_crowded: bool,
    healed: Instant,
    end: Instant,
) -> Option<Instant> {
    let mut last = is_crowded.then_some(healed);
    // Members have ids of their own: who is told of another one was let in.
    let mut members: BTreeMap<ClientId, &str> = BTreeMap::new();
    for event in facts.events.iter().take_while(|event| event.at < end) {
        let plan = facts.plan.clients.get(event.client.0 as usize);
        let moves = match &event.what {
            What::Group { group, what } if is_crowded && *group == group_number => match what {
                InGroup::Joined { member, .. } | InGroup::Assigned { member, .. } | InGroup::Alive { member, .. } => {
                    members.insert(event.client, member) != Some(member)
                }
                InGroup::Leaves { .. } | InGroup::Fenced { .. } | InGroup::Deleted { .. } => true,
                _ => false,
            },
            // What its members do of themselves: whose they are matters little.
            What::Finished { .. } => {
                let operation = event.operation.and_then(|number| plan?.operations.get(number as usize));
                operation.is_some_and(|operation| {
                    matches!(
                        operation.what,
                        Action::Join | Action::Leave | Action::Vanish | Action::Subscribe { .. } | Action::Stall { .. }
                    )
                })
            }
            _ => false,
        };
        if moves {
            last = last.max(Some(event.at));
        }
    }
    last
}

fn settled(facts: &Facts<'_>, group_number: u32, group: &Group, healed: Instant, found: &mut Found) {
    let room = Room::of(facts.plan, group_number);
    let is_end =
        |index: &&usize| matches!(facts.events[**index].what, What::Group { what: InGroup::Settled { .. }, .. });
    let Some(&first) = group.events.iter().find(is_end) else { return };
    let end = facts.events[first].at;
    let moved = calm_since(facts, group_number, room.is_crowded, healed, end);
    let is_calm = moved.is_none_or(|at| at + room.patience <= end);

    let back = back_in_place(facts, group);
    let (mut inside, mut barred) = (0, None);
    let mut numbers: BTreeMap<i32, usize> = BTreeMap::new();
    let mut readers: BTreeMap<Place, usize> = BTreeMap::new();
    let mut partitions: BTreeMap<u32, i32> = BTreeMap::new();
    let mut last = None;
    for &index in &group.events {
        let What::Group { what: InGroup::Settled { stands, number, subscribed, places }, .. } =
            &facts.events[index].what
        else {
            continue;
        };
        match stands {
            Stands::Outside => continue,
            Stands::Barred => {
                let is_free = !shares_name(facts.plan, facts.events[index].client, &room.shared);
                barred = barred.or(is_free.then_some(index));
                continue;
            }
            // It asks to be let in.
            Stands::Moving if !is_calm || room.is_crowded && *number < 0 => {
                inside += usize::from(*number > 0);
                continue;
            }
            Stands::Moving => {
                return found.add(GROUPS_SETTLE, index, || {
                    let (who, when) = (facts.who(index), facts.when(index));
                    format!("group {group_number}: {who} has no settled assignment at {when}")
                });
            }
            Stands::Settled => inside += 1,
        }
        last = Some(index);
        numbers.insert(*number, index);
        for &place in places.iter().filter(|place| !facts.may_be_another(**place)) {
            if let Some(other) = readers.insert(place, index) {
                return found.add(GROUPS_SETTLE, index, || {
                    let (name, who, other) = (facts.place_name(place), facts.who(index), facts.who(other));
                    format!("group {group_number}: {name} is read by {other} and by {who} at the end")
                });
            }
        }
        let subscribed = subscribed.iter().filter(|_| !back.contains(&facts.events[index].client));
        for &(topic, count) in subscribed {
            let known = partitions.entry(topic).or_default();
            *known = (*known).max(count);
        }
    }
    if !is_calm {
        return;
    }
    if let Some(index) = barred.filter(|_| room.is_uniform && inside < room.places) {
        return found.add(GROUPS_SETTLE, index, || {
            let (who, when) = (facts.who(index), facts.when(index));
            format!("group {group_number}: {who} is not let in at {when}, and {inside} members are inside")
        });
    }
    let Some(last) = last else { return };
    if group.is_pure && numbers.len() > 1 {
        return found.add(GROUPS_SETTLE, last, || {
            let numbers: Vec<String> =
                numbers.iter().map(|(number, &index)| format!("{} in {number}", facts.who(index))).collect();
            format!("group {group_number}: its members end in different generations or epochs: {}", numbers.join(", "))
        });
    }
    let returns: Vec<_> = numbers.keys().filter_map(|&number| told_around_a_return(facts, group, number)).collect();
    let is_withheld = |place: &Place| returns.iter().any(|told| !told.contains(place));
    for (topic, mut count) in partitions {
        // A static leader that came back, and cannot be told that it leads, does not look at topics (KIP-814).
        if group.has_static {
            let planned = facts.plan.topics.get(topic as usize).map_or(0, |topic| topic.partitions);
            count = count.min(planned);
        }
        for partition in 0..count {
            let place = Place { topic, partition };
            if !readers.contains_key(&place) && !facts.may_be_another(place) && !is_withheld(&place) {
                return found.add(GROUPS_SETTLE, last, || {
                    format!("group {group_number}: nobody reads {} at the end", facts.place_name(place))
                });
            }
        }
    }
}

/// Static members that came back to the generation that they were in: they are told what they had, whatever they subscribe
/// to by now, and no rebalance follows (KIP-345).
fn back_in_place(facts: &Facts<'_>, group: &Group) -> BTreeSet<ClientId> {
    let mut generations: BTreeMap<u32, i32> = BTreeMap::new();
    let mut back = BTreeSet::new();
    for &index in &group.events {
        let event = &facts.events[index];
        let What::Group { what: InGroup::Joined { generation, .. }, .. } = &event.what else { continue };
        let Some((_, instance)) = facts.static_member(event.client) else { continue };
        if generations.insert(instance, *generation) == Some(*generation) {
            back.insert(event.client);
        } else {
            back.remove(&event.client);
        }
    }
    back
}

/// Whether a static member came back to a generation that was assigned already, and if so what anybody was told to have in
/// it. Its predecessor may have been told there to give partitions up, which others get once it joins again (KIP-429). Who
/// takes its place is told the rest, without a rebalance (KIP-345), has nothing to give up and does not join again: what
/// nobody was told to have waits for whatever rebalance is next.
fn told_around_a_return(facts: &Facts<'_>, group: &Group, number: i32) -> Option<BTreeSet<Place>> {
    let mut told = BTreeSet::new();
    let mut assigned_at = None;
    let mut has_returned = false;
    // As whom a static member was told to be in a generation last.
    let mut known: BTreeMap<u32, &str> = BTreeMap::new();
    for &index in &group.events {
        let event = &facts.events[index];
        match &event.what {
            What::Group { what: InGroup::Assigned { number: of, is_next: false, places, .. }, .. } if *of == number => {
                assigned_at.get_or_insert(event.at);
                told.extend(places.iter().copied());
            }
            What::Group { what: InGroup::Joined { asked_at, member, generation, .. }, .. } => {
                if *generation < number {
                    // A group that was made anew counts from the start.
                    (assigned_at, has_returned) = (None, false);
                    told.clear();
                }
                let kind = facts.plan.clients.get(event.client.0 as usize).map(|plan| &plan.kind);
                let Some(ClientKind::Member { protocol, instance: Some(instance), .. }) = kind else { continue };
                let is_another = known.insert(*instance, member).is_some_and(|before| before != member);
                let is_late = assigned_at.is_some_and(|assigned| is_another || assigned < *asked_at);
                let is_cooperative = *protocol == GroupProtocol::CooperativeSticky;
                has_returned |= *generation == number && is_cooperative && is_late;
            }
            _ => {}
        }
    }
    has_returned.then_some(told)
}

/// Whether a client is a static member that others are, too: it waits until they are gone.
fn shares_name(plan: &Plan, client: ClientId, shared: &BTreeSet<u32>) -> bool {
    let kind = plan.clients.get(client.0 as usize).map(|plan| &plan.kind);
    matches!(kind, Some(ClientKind::Member { instance: Some(instance), .. }) if shared.contains(instance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{MEMBERS, Told, told};
    use crate::plan::Operation;

    fn ends(told: Told, member: u32, number: i32, places: &[i32]) -> Told {
        let places = places.iter().map(|&partition| Place { topic: 0, partition }).collect();
        let subscribed = vec![(0, 2)];
        let stands = if number > 0 { Stands::Settled } else { Stands::Moving };
        let settled = InGroup::Settled { stands, number, subscribed, places };
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
    }

    #[test]
    fn what_a_static_member_did_not_give_up_waits_for_the_next_rebalance() {
        let is = |told: Told, cooperative: bool, of: Option<u32>| {
            told.under(|plan| {
                let ClientKind::Member { protocol, instance, .. } = &mut plan.clients[MEMBERS as usize + 1].kind else {
                    panic!("it is a member")
                };
                *instance = of;
                if cooperative {
                    *protocol = GroupProtocol::CooperativeSticky;
                }
            })
        };
        let unread = |told: Told| over(ends(ends(told, 0, 3, &[0]), 1, 3, &[]));
        let back = || healed().joined(0, 3, "m0").assigned(0, 3, &[0]).joined(1, 3, "m0").assigned(1, 3, &[]);
        unread(is(back(), true, Some(0))).holds();
        unread(is(back(), false, Some(0))).breaks(GROUPS_SETTLE, "nobody reads orders-1");
        unread(is(back(), true, None)).breaks(GROUPS_SETTLE, "nobody reads orders-1");
        // What somebody was told to have in it is theirs: its predecessor, which was known before.
        let lost = healed().joined(0, 3, "m0").assigned(0, 3, &[0]).joined(1, 3, "m0").assigned(1, 3, &[1]);
        unread(is(lost.joined(1, 3, "m0").assigned(1, 3, &[]), true, Some(0)))
            .breaks(GROUPS_SETTLE, "nobody reads orders-1");
        // It was there when the generation was made, be it told so late, or is in another one since.
        let there = healed().joined(0, 3, "m0").joined(1, 3, "m0").assigned(0, 3, &[0]).assigned(1, 3, &[]);
        unread(is(there, true, Some(0))).breaks(GROUPS_SETTLE, "nobody reads orders-1");
        let late = healed();
        let asked_at = late.just_now();
        let late = late.joined(0, 3, "m0").assigned(0, 3, &[0]);
        let told_late = InGroup::Joined { asked_at, member: "m1".into(), generation: 3, leader: "m0".into() };
        let late = late.in_group(MEMBERS + 1, told_late).assigned(1, 3, &[]);
        unread(is(late, true, Some(0))).breaks(GROUPS_SETTLE, "nobody reads orders-1");
    }

    #[test]
    fn who_came_a_moment_ago_may_still_wait_for_who_vanished() {
        let operation = Operation { at_ms: 0, what: Action::Vanish };
        let vanished =
            || healed().under(|plan| plan.clients[MEMBERS as usize + 1].operations = vec![operation.clone()]);
        let vanished = || vanished().client(MEMBERS + 1, 0, What::Finished { is_ok: true, code: None });
        over(ends(vanished(), 0, -1, &[])).holds();
        over(ends(vanished().wait(11_000), 0, -1, &[])).breaks(GROUPS_SETTLE, "no settled assignment");
    }

    fn barred(told: Told, member: u32) -> Told {
        let settled = InGroup::Settled { stands: Stands::Barred, number: -1, subscribed: vec![(0, 2)], places: vec![] };
        told.in_group(MEMBERS + member, settled)
    }

    #[test]
    fn where_a_place_is_free_somebody_comes_in() {
        over(barred(ends(healed(), 0, 3, &[0, 1]), 1)).breaks(GROUPS_SETTLE, "client 6 is not let in");
        let one = || healed().under(|plan| _ = plan.node.broker.insert("group.max.size".into(), "1".into()));
        over(barred(ends(one(), 0, 3, &[0, 1]), 1)).holds();
        over(barred(ends(one(), 0, -1, &[]), 1)).holds();
        over(barred(ends(one().wait(11_000), 0, -1, &[]), 1)).breaks(GROUPS_SETTLE, "and 0 members are inside");
    }

    #[test]
    fn those_inside_come_to_rest_when_nobody_comes_or_goes() {
        let crowded = || healed().under(|plan| _ = plan.node.broker.insert("group.max.size".into(), "1".into()));
        let ends_without = |told: Told| over(barred(ends(told, 0, 3, &[0]), 1));
        ends_without(crowded().wait(11_000)).breaks(GROUPS_SETTLE, "nobody reads orders-1");
        ends_without(crowded().wait(5_000)).holds();
        ends_without(crowded().wait(11_000).joined(0, 3, "m0").wait(5_000)).holds();
        // Who is let in again in the next generation was there all the time.
        let stays = crowded().joined(0, 3, "m0").wait(11_000).joined(0, 4, "m0");
        ends_without(stays).breaks(GROUPS_SETTLE, "nobody reads orders-1");
    }
}
