//! Members that leave, or are taken for dead.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::group::record::Key;
use crate::group::{Context, Timer, TimerKind};
use crate::wire::Str;

use super::Group;
use super::member::Member;

impl Group {
    /// A member has been heard of: its session begins anew.
    pub(super) fn renew_session(&mut self, ctx: &mut Context<'_>, id: &Str) {
        let Some((id, member)) = self.members.get_key_value(id).map(|(id, member)| (id.clone(), member)) else {
            return;
        };
        let session = match &member.about.classic {
            Some(classic) => milliseconds(classic.session_timeout_ms),
            None => ctx.settings.consumer_session_timeout,
        };
        let ends = ctx.now.instant + session;
        // A timer that comes too early is set anew when it comes; one that would come too late is set anew now.
        let timer = Timer { group: self.name.clone(), kind: TimerKind::Session(id.clone()) };
        if ctx.timers.is_set(&timer).is_none_or(|at| at > ends) {
            ctx.timers.set(timer, ends);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.session_ends = ends;
        }
    }

    /// A member's session may have ended.
    pub(super) fn session_due(&mut self, ctx: &mut Context<'_>, id: &Str) {
        let Some(member) = self.members.get(id) else { return };
        if member.session_ends > ctx.now.instant {
            let after = member.session_ends - ctx.now.instant;
            ctx.call_after(&self.name, TimerKind::Session(id.clone()), after);
        } else {
            self.depart(ctx, &BTreeSet::from([id.clone()]));
        }
    }

    /// Gives a member that must give up partitions its time for it.
    pub(super) fn time_revocation(&self, ctx: &mut Context<'_>, id: &Str) {
        let Some((id, member)) = self.members.get_key_value(id) else { return };
        // A member of the classic protocol is given its time when it is told to join again.
        if member.is_classic() {
            return;
        }
        let kind = TimerKind::Revocation(id.clone());
        if member.current.owes() {
            ctx.call_after(&self.name, kind, milliseconds(member.about.rebalance_timeout_ms));
        } else {
            ctx.timers.cancel(&Timer { group: self.name.clone(), kind });
        }
    }

    /// A member has not given up what it must, or one of the classic protocol has not joined again.
    pub(super) fn revocation_due(&mut self, ctx: &mut Context<'_>, id: &Str) {
        let is_asked = |member: &Member| member.is_classic() || member.current.owes();
        if self.members.get(id).is_some_and(is_asked) {
            self.depart(ctx, &BTreeSet::from([id.clone()]));
        }
    }

    /// Members are gone: what they had is free, and the next epoch begins.
    pub(super) fn depart(&mut self, ctx: &mut Context<'_>, members: &BTreeSet<Str>) {
        if members.is_empty() {
            return;
        }
        for member in members {
            self.remove(ctx, member);
            self.forget_timers(ctx, member);
        }
        self.forget_expressions(ctx);
        self.bump(ctx);
    }

    /// Writes the tombstones of a member.
    pub(super) fn remove(&mut self, ctx: &mut Context<'_>, id: &Str) {
        let (group, member) = (self.name.clone(), id.clone());
        self.decide(ctx, Key::CurrentAssignment { group: group.clone(), member: member.clone() }, None);
        self.decide(ctx, Key::TargetAssignmentMember { group: group.clone(), member: member.clone() }, None);
        self.decide(ctx, Key::Member { group, member }, None);
    }

    /// Forgets what expressions mean that nobody subscribes to any more.
    pub(super) fn forget_expressions(&mut self, ctx: &mut Context<'_>) {
        let unused: Vec<Str> =
            self.resolved.keys().filter(|regex| !self.expressions.contains_key(*regex)).cloned().collect();
        for regex in unused {
            self.decide(ctx, Key::Regex { group: self.name.clone(), regex }, None);
        }
    }

    /// A member is not waited for any more, and waits for nothing.
    pub(super) fn forget_timers(&mut self, ctx: &mut Context<'_>, id: &Str) {
        for kind in [TimerKind::Session(id.clone()), TimerKind::Revocation(id.clone()), TimerKind::Pending(id.clone())]
        {
            ctx.timers.cancel(&Timer { group: self.name.clone(), kind });
        }
        self.refuse_waiting(ctx, id);
    }
}

/// A time as members tell it; a negative one is none.
pub(super) fn milliseconds(count: i32) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}
