//! When a coordinator wants to be called, in one ordered set for all of its groups; and the numbers of what it has asked,
//! for which it is called as well.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;
use crate::wire::Str;

/// What a group wants to be called for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// The time to join is over, or to wait for the first members.
    Join,
    /// The time to fetch the assignments is over.
    Sync,
    /// A member has been silent for too long. Heartbeats only move the member's own deadline: when this comes before it,
    /// it is set anew.
    Session(Str),
    /// A member was given an id and has not come back with it; in a group of the next protocol, has joined and not synced.
    Pending(Str),
    /// A member has not given up what it was asked to in time.
    Revocation(Str),
    /// What a regular expression matches is looked up anew, or further.
    Regex,
    /// The assignment is looked at anew, since topics have changed.
    Assignment,
    /// An assignment that is being made goes on.
    Assigning,
}

/// One of a group's timers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// Whose.
    pub group: Str,
    /// What for.
    pub kind: TimerKind,
}

/// The timers of one coordinator.
#[derive(Debug, Default)]
pub struct Timers {
    due: BTreeSet<(Instant, Timer)>,
    at: BTreeMap<Timer, Instant>,
    /// How many are of the kind [`TimerKind::Pending`].
    pending: usize,
    /// How many questions have been asked.
    asked: u64,
}

impl Timers {
    /// Sets a timer; instead of its earlier setting.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.at.insert(timer.clone(), at) {
            self.due.remove(&(before, timer.clone()));
        } else {
            self.pending += usize::from(timer.is_pending());
        }
        self.due.insert((at, timer));
    }

    /// The number of the next question.
    pub(super) fn next_number(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Whether a timer is set, and for when.
    pub fn is_set(&self, timer: &Timer) -> Option<Instant> {
        self.at.get(timer).copied()
    }

    /// Forgets a timer; one that is not set is no error.
    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.at.remove_entry(timer) {
            self.pending -= usize::from(timer.is_pending());
            self.due.remove(&(at, timer));
        }
    }

    /// How many [`TimerKind::Pending`] are set.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Forgets a group's timers but those of which `keep` says otherwise.
    pub fn cancel_all(&mut self, group: &Str, keep: impl Fn(&TimerKind) -> bool) {
        // The kind without a member that orders first.
        let first = Timer { group: group.clone(), kind: TimerKind::Join };
        let of_group = self.at.range(first..).take_while(|(timer, _)| timer.group == *group);
        let cancelled: Vec<Timer> =
            of_group.filter(|(timer, _)| !keep(&timer.kind)).map(|(timer, _)| timer.clone()).collect();
        for timer in &cancelled {
            self.cancel(timer);
        }
    }

    /// The first time that one is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the first that is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.due.pop_first()?;
        self.at.remove(&timer);
        self.pending -= usize::from(timer.is_pending());
        Some(timer)
    }
}

impl Timer {
    fn is_pending(&self) -> bool {
        matches!(self.kind, TimerKind::Pending(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn timer(group: &str, kind: TimerKind) -> Timer {
        Timer { group: Str::from(group), kind }
    }

    #[test]
    fn a_timer_is_due_once_and_when_it_was_set_last() {
        let mut timers = Timers::default();
        let [start, one, two] = [0, 1, 2].map(|seconds| Instant(0) + Duration::from_secs(seconds));
        timers.set(timer("readers", TimerKind::Join), one);
        timers.set(timer("readers", TimerKind::Join), two);
        timers.set(timer("readers", TimerKind::Session(Str::from("m"))), two);
        assert_eq!(timers.next(), Some(two));
        assert_eq!(timers.is_set(&timer("readers", TimerKind::Join)), Some(two));
        timers.cancel(&timer("readers", TimerKind::Session(Str::from("m"))));
        assert_eq!(timers.take_due(start), None);
        assert_eq!(timers.take_due(two), Some(timer("readers", TimerKind::Join)));
        assert_eq!((timers.take_due(two), timers.next()), (None, None));
    }

    #[test]
    fn those_who_are_waited_for_are_counted() {
        let mut timers = Timers::default();
        let pending = |id| timer("readers", TimerKind::Pending(Str::from(id)));
        for (id, at) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            timers.set(pending(id), Instant(at));
        }
        timers.set(timer("readers", TimerKind::Join), Instant(1));
        assert_eq!(timers.pending(), 3);
        timers.cancel(&pending("b"));
        timers.cancel(&pending("b"));
        assert_eq!(timers.pending(), 2);
        assert_eq!((timers.take_due(Instant(1)), timers.pending()), (Some(timer("readers", TimerKind::Join)), 2));
        assert_eq!((timers.take_due(Instant(3)), timers.pending()), (Some(pending("a")), 1));
        timers.cancel_all(&Str::from("readers"), |_| false);
        assert_eq!(timers.pending(), 0);
    }

    #[test]
    fn cancelling_a_groups_timers_touches_no_other_group() {
        let mut timers = Timers::default();
        for group in ["reader", "readers", "readers2"] {
            for kind in [TimerKind::Join, TimerKind::Pending(Str::from("m")), TimerKind::Assignment] {
                timers.set(timer(group, kind), Instant(5));
            }
        }
        timers.cancel_all(&Str::from("readers"), |kind| *kind == TimerKind::Assignment);
        let mut left = Vec::new();
        while let Some(timer) = timers.take_due(Instant(5)) {
            left.push((timer.group.to_string(), timer.kind));
        }
        let kinds = [TimerKind::Join, TimerKind::Pending(Str::from("m")), TimerKind::Assignment];
        let all = |group: &str| kinds.clone().map(|kind| (group.to_owned(), kind)).to_vec();
        let kept = vec![("readers".to_owned(), TimerKind::Assignment)];
        assert_eq!(left, [all("reader"), kept, all("readers2")].concat());
    }
}
