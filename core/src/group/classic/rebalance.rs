//! From one generation to the next: who is waited for, how long, and what they are told.

use std::time::Duration;

use super::{Group, State};
use crate::group::{Context, TimerKind};
use crate::wire::{ErrorCode, Str};

/// How soon it is looked again whether a generation can begin, where all members have names and none has joined: not at
/// once, whatever they said they may take. Their sessions end it.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The rebalance of a group that was empty: it waits for as long as members keep coming, but no longer than they may
/// take to join.
#[derive(Debug)]
pub(super) struct FirstRebalance {
    /// How long it waits now.
    delay: Duration,
    /// How long it may still wait after that.
    remaining: Duration,
    /// Whether a member has come since it waits.
    pub(super) has_grown: bool,
}

impl Group {
    /// Goes on with a rebalance, or begins one.
    pub(super) fn rebalance_or_complete(&mut self, ctx: &mut Context<'_>) {
        match self.state {
            State::PreparingRebalance => self.complete_join_if_all_have(ctx),
            State::Empty | State::CompletingRebalance | State::Stable => self.rebalance(ctx),
            State::Dead => {}
        }
    }

    /// Begins a rebalance: whoever waits for an assignment joins again, as do the others when they next heartbeat.
    ///
    /// # Panics
    /// If there is one already.
    pub fn rebalance(&mut self, ctx: &mut Context<'_>) {
        if self.state == State::CompletingRebalance {
            self.refuse_syncing(ctx, ErrorCode::RebalanceInProgress);
        }
        self.unsynced.clear();
        self.is_unassigned = false;
        self.cancel(ctx, TimerKind::Sync);
        let is_first = self.state == State::Empty;
        self.become_state(ctx, State::PreparingRebalance);
        let timeout = self.roster.rebalance_timeout();
        if is_first {
            let delay = ctx.settings.group_initial_rebalance_delay;
            self.first = Some(FirstRebalance { delay, remaining: timeout.saturating_sub(delay), has_grown: false });
            ctx.call_after(&self.name, TimerKind::Join, delay);
        } else if self.have_all_joined() {
            self.complete_join(ctx);
        } else {
            ctx.call_after(&self.name, TimerKind::Join, timeout);
        }
    }

    /// Whether nobody is missing, of those with a new id neither.
    fn have_all_joined(&self) -> bool {
        self.roster.are_all_joining() && self.pending.is_empty()
    }

    /// Begins the generation if nobody is missing. The first one waits its time, for members that nobody knows of.
    pub(super) fn complete_join_if_all_have(&mut self, ctx: &mut Context<'_>) {
        if self.first.is_none() {
            self.complete_join_after_loss(ctx);
        }
    }

    /// As [`Group::complete_join_if_all_have`], after somebody who was waited for is taken for dead. This ends the wait
    /// of the first rebalance too, as with Kafka: everybody has waited for a whole session by then.
    pub(super) fn complete_join_after_loss(&mut self, ctx: &mut Context<'_>) {
        if self.state == State::PreparingRebalance && self.have_all_joined() {
            self.complete_join(ctx);
        }
    }

    /// The time to join is over.
    pub(super) fn on_join_due(&mut self, ctx: &mut Context<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if let Some(first) = &mut self.first
            && first.has_grown
            && !first.remaining.is_zero()
        {
            let delay = ctx.settings.group_initial_rebalance_delay.min(first.remaining);
            let remaining = first.remaining.saturating_sub(first.delay);
            *first = FirstRebalance { delay, remaining, has_grown: false };
            return ctx.call_after(&self.name, TimerKind::Join, delay);
        }
        self.complete_join(ctx);
    }

    /// Begins the next generation with those that have joined. A static member that has not keeps its place until its
    /// session ends.
    fn complete_join(&mut self, ctx: &mut Context<'_>) {
        self.cancel(ctx, TimerKind::Join);
        for id in self.roster.absent_dynamic() {
            self.remove(ctx, &id);
        }
        self.first = None;
        if !self.roster.is_empty() && !self.roster.elect_leader() {
            let again = self.roster.rebalance_timeout().max(RETRY_MIN);
            return ctx.call_after(&self.name, TimerKind::Join, again);
        }
        // No group comes to the last number, unless a record says so that no broker of ours wrote.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.unsynced.clear();
        if self.roster.is_empty() {
            self.protocol = None;
            self.become_state(ctx, State::Empty);
            self.subscribed = self.find_subscribed();
            // If it is too large to be written, which a few names cannot make it, the log still has the generation
            // before, whose members have nothing to say any more.
            self.write(ctx);
            return;
        }
        self.protocol = self.roster.elect_protocol().or(self.protocol.take());
        self.become_state(ctx, State::CompletingRebalance);
        self.subscribed = self.find_subscribed();
        for id in self.roster.ids() {
            if let Some(to) = self.roster.take_joining(&id) {
                ctx.reply(to, self.generation_for(&id));
            }
            if let Some(seat) = self.roster.seat_mut(&id) {
                seat.is_new = false;
            }
            self.extend_session_of(ctx, &id);
            self.unsynced.insert(id);
        }
        ctx.call_after(&self.name, TimerKind::Sync, self.roster.rebalance_timeout());
    }

    /// The time to sync is over: who has not is let go, since whoever waits for a dead member's partitions waits for
    /// ever (KIP-62's rebalance timeout counts for both halves of a rebalance).
    pub(super) fn on_sync_due(&mut self, ctx: &mut Context<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.unsynced.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.remove(ctx, &id);
        }
        self.rebalance(ctx);
    }

    /// An id that was given out is not come back with.
    pub(super) fn on_pending_due(&mut self, ctx: &mut Context<'_>, id: &Str) {
        if self.pending.remove(id) {
            self.complete_join_after_loss(ctx);
        }
    }
}
