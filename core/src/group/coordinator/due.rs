//! What a coordinator does without being asked: what is due by now, and what was worked out for it.

use super::group::{Group, Members};
use super::{Coordinator, Surroundings, lend};
use crate::group::TimerKind;
use crate::group::question::{Finding, Found};
use crate::time::Instant;

/// What [`Coordinator::reach`] has come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Nothing was due.
    Nothing,
    /// Something of a few microseconds.
    Little,
    /// Something that may fill a step.
    Much,
}

impl Coordinator {
    /// When [`Coordinator::reach`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let is_now = self.telling.is_some() || !self.findings.is_empty();
        if is_now { Some(Instant(0)) } else { self.timers.next() }
    }

    /// One of its questions has been answered. Nothing is decided before [`Coordinator::reach`].
    pub fn found(&mut self, finding: Finding) {
        self.findings.push_back(finding);
    }

    /// Does one thing that is due.
    pub fn reach(&mut self, with: &mut Surroundings<'_>) -> Reached {
        if let Some(telling) = self.telling.take() {
            self.tell(with, telling);
            return Reached::Much;
        }
        if let Some(finding) = self.findings.pop_front() {
            self.take(with, finding);
            return Reached::Much;
        }
        let Some(timer) = self.timers.take_due(with.now.instant) else { return Reached::Nothing };
        let reached = match timer.kind {
            TimerKind::Session(_) | TimerKind::Pending(_) | TimerKind::Revocation(_) => Reached::Little,
            _ => Reached::Much,
        };
        if let Some(group) = self.groups.get_mut(&timer.group) {
            let ctx = &mut lend(&mut self.timers, with);
            match &mut group.members {
                Members::Classic(group) => group.timer(ctx, timer.kind),
                Members::Consumer(group) => group.timer(ctx, timer.kind),
            }
            self.settle(with, &timer.group);
        }
        reached
    }

    /// Takes what has been worked out. Who asked may be gone.
    fn take(&mut self, with: &mut Surroundings<'_>, finding: Finding) {
        let Finding { group: name, number, what } = finding;
        if let Found::Expression { member, verdict } = what {
            return self.judged(with, (name, member), number, verdict);
        }
        if let Some(Group { members: Members::Consumer(group), .. }) = self.groups.get_mut(&name) {
            group.found(&mut lend(&mut self.timers, with), number, what);
            self.settle(with, &name);
        }
    }
}
