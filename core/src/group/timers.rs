//! When a coordinator wants to be called, in one ordered set for all of its groups.

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
    /// A member was given an id and has not come back with it.
    Pending(Str),
    /// A member has not given up what it was asked to in time.
    Revocation(Str),
    /// What a regular expression matches is looked up anew, or further.
    Regex,
    /// The assignment is looked at anew, since topics have changed.
    Assignment,
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
}

impl Timers {
    /// Sets a timer; instead of its earlier setting.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.at.insert(timer.clone(), at) {
            self.due.remove(&(before, timer.clone()));
        }
        self.due.insert((at, timer));
    }

    /// Whether a timer is set, and for when.
    pub fn is_set(&self, timer: &Timer) -> Option<Instant> {
        self.at.get(timer).copied()
    }

    /// Forgets a timer; one that is not set is no error.
    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.at.remove_entry(timer) {
            self.due.remove(&(at, timer));
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
        Some(timer)
    }
}
