//! The coordinator's walks over all of its groups, in bounded parts: topics have changed, a topic is deleted, offsets
//! expire. What a call looks at is a constant, so that it takes some ten microseconds however many groups there are.

use std::ops::Bound;

use super::group::Members;
use super::{Coordinator, Surroundings, lend};
use crate::ids::TopicId;
use crate::wire::Str;

/// How many groups one call of a walk over all groups looks at, at most: a fraction of a microsecond each.
pub(super) const GROUPS_PER_CALL: usize = 64;

/// How many offsets one call of such a walk looks at, or removes, at most: a tombstone takes a fraction of a microsecond.
pub(super) const OFFSETS_PER_CALL: usize = 256;

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
            let Some(expiry) = found.expiry() else { continue };
            let ctx = &mut lend(&mut self.timers, with);
            if let Some(place) = found.offsets.expire(ctx, name, &expiry, from, &mut budget) {
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
