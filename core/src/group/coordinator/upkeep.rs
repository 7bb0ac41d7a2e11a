//! The coordinator's walks over all of its groups, in bounded parts: a load is complete, topics have changed, a topic is
//! deleted, offsets expire, somebody wants to know of all groups. What a call looks at is a constant, so that it takes
//! some ten microseconds however many groups there are; only a group is looked at with all of its members at once.

use std::ops::Bound;

use super::group::Members;
use super::{Coordinator, Surroundings, lend};
use crate::group::offsets::Place;
use crate::ids::TopicId;
use crate::wire::Str;
use crate::wire::list_groups::{ListGroupsRequest, ListedGroup};

/// How many groups one call of a walk over all groups looks at, at most: a fraction of a microsecond each.
pub(super) const GROUPS_PER_CALL: usize = 64;

/// How many offsets one call of such a walk looks at, or removes, at most: a tombstone takes a fraction of a microsecond.
pub(super) const OFFSETS_PER_CALL: usize = 256;

/// How many members the groups have together that one call looks at, but for the last of them.
const MEMBERS_PER_CALL: usize = 128;

/// So many members are looked at in the time that an offset takes.
const MEMBERS_PER_OFFSET: usize = 8;

/// So many members are looked at, to find a group's state, in the time that another group takes.
const MEMBERS_PER_STATE: usize = 32;

/// What a survey of all groups comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A group.
    Group {
        /// The name of its state.
        state: &'static str,
        /// How many members it has.
        members: usize,
    },
    /// An offset that a group has committed.
    Offset {
        /// Whose.
        group: &'a Str,
        /// Of which topic.
        topic: &'a Str,
        /// Of which of its partitions.
        partition: i32,
        /// The offset that is read next.
        offset: i64,
    },
}

/// Where a survey goes on: behind a group, or an offset of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    group: Str,
    offset: Option<Place>,
}

/// How far the walk has come that tells groups that topics have changed.
#[derive(Debug)]
pub(super) struct Telling {
    /// The groups that are still to be told.
    behind: Bound<Str>,
    /// Whether topics have changed again since it began, so that it is to begin anew.
    is_late: bool,
}

impl Default for Telling {
    /// At its beginning.
    fn default() -> Telling {
        Telling { behind: Bound::Unbounded, is_late: false }
    }
}

impl Coordinator {
    /// The load is complete: sessions begin, and what stood in the middle goes on. Begins some of the groups behind
    /// `after`, a bounded number; returns the last of them, or none at the end. Nobody may ask for a group before all
    /// have begun.
    pub fn begin(&mut self, with: &mut Surroundings<'_>, after: Option<Str>) -> Option<Str> {
        let names = self.walk(after.as_ref(), false);
        let mut members = 0;
        let mut last = None;
        for name in &names {
            if members >= MEMBERS_PER_CALL {
                return last;
            }
            let group = self.groups.get_mut(name).expect("its name was just taken from there");
            members += group.size();
            let ctx = &mut lend(&mut self.timers, with);
            match &mut group.members {
                Members::Classic(group) => group.begin(ctx),
                Members::Consumer(group) => group.begin(ctx),
            }
            self.settle(with, name);
            last = Some(name.clone());
        }
        more_to_walk(names)
    }

    /// The groups that ListGroups asks for, some of those behind `after`: about `budget` are looked at. Case does not
    /// matter in the names of states and types; a name that is none asks for nothing. Returns the last one looked at
    /// where there may be more.
    pub fn list(
        &self,
        request: &ListGroupsRequest,
        after: Option<&Str>,
        budget: &mut usize,
        listed: &mut Vec<ListedGroup>,
    ) -> Option<Str> {
        let asks = |filter: &[Str], name: &str| {
            filter.is_empty() || filter.iter().any(|asked| asked.trim().eq_ignore_ascii_case(name))
        };
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, group) in self.groups.range::<Str, _>((behind, Bound::Unbounded)) {
            let told = group.listed(name);
            if asks(&request.states_filter, &told.group_state) && asks(&request.types_filter, &told.group_type) {
                listed.push(told);
            }
            *budget = budget.saturating_sub(1 + group.size() / MEMBERS_PER_STATE);
            if *budget == 0 {
                return Some(name.clone());
            }
        }
        None
    }

    /// Tells of all groups and their offsets, from `from` on, about `budget` of them; returns where to go on.
    pub fn survey(&self, from: Option<Stop>, budget: &mut usize, see: &mut dyn FnMut(Seen<'_>)) -> Option<Stop> {
        let (behind, mut offset) = match from {
            None => (Bound::Unbounded, None),
            Some(Stop { group, offset: None }) => (Bound::Excluded(group), None),
            Some(Stop { group, offset }) => (Bound::Included(group), offset),
        };
        for (name, group) in self.groups.range((behind, Bound::Unbounded)) {
            let place = offset.take();
            if place.is_none() {
                see(Seen::Group { state: group.members.state(), members: group.size() });
                *budget = budget.saturating_sub(1 + group.size() / MEMBERS_PER_STATE);
            }
            for (topic, partition, offset) in group.offsets.after(place.as_ref()) {
                see(Seen::Offset { group: name, topic, partition, offset });
                *budget = budget.saturating_sub(1);
                if *budget == 0 {
                    return Some(Stop { group: name.clone(), offset: Some((topic.clone(), partition)) });
                }
            }
            if *budget == 0 {
                return Some(Stop { group: name.clone(), offset: None });
            }
        }
        None
    }

    /// Topics have come, gone or grown. Groups are told one bounded part after another, by [`Coordinator::reach`].
    pub fn topics_changed(&mut self, with: &mut Surroundings<'_>) {
        match &mut self.telling {
            // It goes on to its end first: if topics changed all the time, the last groups would never be told else.
            Some(telling) => telling.is_late = true,
            None => self.tell(with, Telling::default()),
        }
    }

    /// Tells the next groups of a walk that topics have changed.
    pub(super) fn tell(&mut self, with: &mut Surroundings<'_>, telling: Telling) {
        let mut groups = self.groups.range_mut((telling.behind, Bound::Unbounded));
        let mut last = None;
        for (name, group) in groups.by_ref().take(GROUPS_PER_CALL) {
            if let Members::Consumer(group) = &mut group.members {
                group.topics_changed(&mut lend(&mut self.timers, with));
            }
            last = Some(name.clone());
        }
        let is_over = groups.next().is_none();
        self.telling = match last {
            Some(last) if !is_over => Some(Telling { behind: Bound::Excluded(last), ..telling }),
            _ => telling.is_late.then(Telling::default),
        };
    }

    /// A topic is deleted, and with it the offsets in it. Looks at some of the groups behind `after`, a bounded number,
    /// and removes a bounded number of offsets; returns the last one looked at, or none at the end. A group with too
    /// many for one call is looked at again by the next, which is told its name.
    pub fn forget_topic(
        &mut self,
        with: &mut Surroundings<'_>,
        name: &Str,
        id: TopicId,
        after: Option<Str>,
    ) -> Option<Str> {
        let unfinished = self.forgetting.remove(&id).is_some_and(|group| after.as_ref() == Some(&group));
        let names = self.walk(after.as_ref(), unfinished);
        let mut budget = OFFSETS_PER_CALL;
        for group in &names {
            let found = self.groups.get_mut(group).expect("its name was just taken from there");
            let ctx = &mut lend(&mut self.timers, with);
            if !found.offsets.forget_topic(ctx, group, (name, id), &mut budget) {
                self.forgetting.insert(id, group.clone());
                return Some(group.clone());
            }
            self.forget_if_gone(group);
            if budget == 0 {
                return Some(group.clone());
            }
        }
        more_to_walk(names)
    }

    /// Lets offsets and groups expire (KIP-211). Looks at some of the groups behind `after`, and at some of their
    /// offsets, a bounded number of each; returns the last group looked at, or none at the end. A group with too many
    /// offsets for one call goes on in the next, which is told its name.
    pub fn expire(&mut self, with: &mut Surroundings<'_>, after: Option<Str>) -> Option<Str> {
        let mut from = self.expiring.take().filter(|(group, _)| after.as_ref() == Some(group)).map(|(_, place)| place);
        let names = self.walk(after.as_ref(), from.is_some());
        let mut budget = OFFSETS_PER_CALL;
        for name in &names {
            let found = self.groups.get_mut(name).expect("its name was just taken from there");
            let from = from.take();
            // Members are looked at to know what they read, and whether all is settled.
            budget = budget.saturating_sub(found.size() / MEMBERS_PER_OFFSET).max(1);
            let has_anything = !found.offsets.is_empty() || found.members.is_deserted();
            let Some(expiry) = has_anything.then(|| found.members.expiry()).flatten() else { continue };
            let ctx = &mut lend(&mut self.timers, with);
            let is_subscribed = |topic: &str| expiry.subscribed.may_be_to(topic);
            if let Some(place) = found.offsets.expire(ctx, name, expiry.empty_since, is_subscribed, from, &mut budget) {
                self.expiring = Some((name.clone(), place));
                return Some(name.clone());
            }
            if found.offsets.is_empty() && found.members.is_deserted() {
                found.members.delete(ctx);
                self.remove(name);
            }
            if budget == 0 {
                return Some(name.clone());
            }
        }
        more_to_walk(names)
    }

    /// The groups that a call of a walk looks at that has come to `after`, from there on where that is `unfinished`.
    fn walk(&self, after: Option<&Str>, unfinished: bool) -> Vec<Str> {
        let from = match after {
            None => Bound::Unbounded,
            Some(after) if unfinished => Bound::Included(after),
            Some(after) => Bound::Excluded(after),
        };
        let names = self.groups.range::<Str, _>((from, Bound::Unbounded)).map(|(name, _)| name.clone());
        names.take(GROUPS_PER_CALL).collect()
    }
}

/// How far a call has come in its walk over all groups, if there may be more of them.
fn more_to_walk(looked_at: Vec<Str>) -> Option<Str> {
    if looked_at.len() == GROUPS_PER_CALL { looked_at.into_iter().last() } else { None }
}
