//! A group of the classic protocol: its members agree on a generation by joining and syncing, and one of them assigns.
//!
//! | from | to | when |
//! |---|---|---|
//! | Empty | PreparingRebalance | the first member joins; others may come within `group.initial.rebalance.delay.ms` |
//! | Stable, CompletingRebalance | PreparingRebalance | a member joins with something new, leaves, falls silent or does not sync in time; the leader joins again |
//! | PreparingRebalance | CompletingRebalance | all members have joined, or those that have not are out of time and removed: a new generation |
//! | PreparingRebalance | Empty | the same, and nobody is left |
//! | CompletingRebalance | Stable | the leader has synced: the assignment is written |
//!
//! Dead is the state of a group that is not there; no group of ours comes to it.
//!
//! A static member (KIP-345) keeps its place when it comes back under another id: in a stable group nobody else notices,
//! and one record says so.
//!
//! # What is remembered, and what is not
//! The group's one record is written with each assignment, with the return of a static member, and when the last member
//! has gone. What happens between two generations is in memory alone: after a load the last generation is stable, and
//! whoever was on its way joins again. Apache Kafka writes a record when somebody first asks to join as well; here a
//! group without members, and that never had any, is not worth one.
//!
//! A record that is too large is not written. As with Kafka, those who wait for the assignment get
//! `UNKNOWN_SERVER_ERROR` and the group rebalances; a static member's return fails, and its old id stays.
//!
//! # Every request is answered once
//! Kafka forgets a waiting JoinGroup or SyncGroup when the same member sends another one. Here the older is told
//! `REBALANCE_IN_PROGRESS`, which clients answer by joining again; its connection is nearly always gone.
//!
//! # Work
//! The end of a rebalance, its beginning, and the return of a static member, whose record names all, look at every
//! member. All else is a few look-ups, whatever the size of the group.

mod describe;
mod join;
mod leave;
mod memory;
mod rebalance;
mod roster;
mod session;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use bytes::Bytes;

pub(super) use self::join::PROTOCOLS_MAX;
use self::rebalance::FirstRebalance;
use self::roster::{Roster, Seat};
pub(super) use self::sync::names_protocol;
use super::{Context, Timer, TimerKind};
use crate::boundary::{Client, ReplyTo};
use crate::time::Timestamp;
use crate::wire::join_group::JoinGroupResponse;
use crate::wire::sync_group::SyncGroupResponse;
use crate::wire::{ErrorCode, Response, Str};

/// Where a group is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members. There may be offsets.
    Empty,
    /// Members are asked to join.
    PreparingRebalance,
    /// All have joined; the leader assigns.
    CompletingRebalance,
    /// Everybody's assignment is known.
    Stable,
    /// There is no such group.
    Dead,
}

impl State {
    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A member of a classic group, as a conversion between the protocols hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: Str,
    /// Its name if it is a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// Who joined, and from where.
    pub client: Client,
    /// How long it may take to join a rebalance, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// After how long without a heartbeat it is taken for dead, in milliseconds.
    pub session_timeout_ms: i32,
    /// Name and metadata of each protocol that it supports, the one that it prefers first.
    pub protocols: Vec<(Str, Bytes)>,
    /// What it was assigned, empty if nothing.
    pub assignment: Bytes,
}

/// A group of the classic protocol.
#[derive(Debug)]
pub struct Group {
    name: Str,
    state: State,
    /// When it came to its state; `None` if that is not known.
    since: Option<Timestamp>,
    /// The number of the last rebalance, 0 before the first.
    generation: i32,
    /// What its protocols are about; `None` if it never had a member.
    protocol_type: Option<Str>,
    /// The protocol that the members of the generation have agreed on.
    protocol: Option<Str>,
    roster: Roster,
    /// The ids that were given out and not yet joined with (KIP-394).
    pending: BTreeSet<Str>,
    /// The members of the generation that have not synced.
    unsynced: BTreeSet<Str>,
    /// Set in PreparingRebalance where the group was empty before.
    first: Option<FirstRebalance>,
    /// The topics that the members of the generation subscribe to; `None` where that cannot be known.
    subscribed: Option<BTreeSet<Str>>,
    /// Whether the log has a record of it.
    is_recorded: bool,
    /// Whether the generation has come from a downgrade, whose members nobody has assigned anything together.
    is_unassigned: bool,
    /// The member that was last in the way of an upgrade.
    obstacle: Option<Str>,
}

impl Group {
    /// A group without members.
    pub fn new(name: Str) -> Group {
        Group {
            name,
            state: State::Empty,
            since: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            roster: Roster::default(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            first: None,
            subscribed: None,
            is_recorded: false,
            is_unassigned: false,
            obstacle: None,
        }
    }

    /// Does what it asked to be called for.
    pub fn timer(&mut self, ctx: &mut Context<'_>, kind: TimerKind) {
        match kind {
            TimerKind::Join => self.on_join_due(ctx),
            TimerKind::Sync => self.on_sync_due(ctx),
            TimerKind::Session(member) => self.on_session_due(ctx, &member),
            TimerKind::Pending(member) => self.on_pending_due(ctx, &member),
            // Those of a group of the next protocol that this one was made of.
            TimerKind::Revocation(_) | TimerKind::Regex | TimerKind::Assignment | TimerKind::Assigning => {}
        }
    }

    /// Refuses every request that waits.
    pub fn resign(&mut self, code: ErrorCode) -> Vec<(ReplyTo, Response)> {
        let mut refused = Vec::new();
        for id in self.roster.ids() {
            if let Some(to) = self.roster.take_joining(&id) {
                refused.push((to, join_refused(id.clone(), code).into()));
            }
            if let Some(to) = self.roster.take_syncing(&id) {
                refused.push((to, sync_refused(code).into()));
            }
        }
        refused
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// The number of its last rebalance, 0 before the first.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What its protocols are about; `None` if it never had a member.
    pub fn protocol_type(&self) -> Option<&Str> {
        self.protocol_type.as_ref()
    }

    /// The protocol that the members have agreed on.
    pub fn protocol(&self) -> Option<&Str> {
        self.protocol.as_ref()
    }

    /// The member that assigns.
    pub fn leader(&self) -> Option<&Str> {
        self.roster.leader()
    }

    /// Its members, by their ids.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.roster.seats().map(|seat| seat.member.clone())
    }

    /// One of its members.
    pub fn member(&self, id: &Str) -> Option<&Member> {
        self.roster.seat(id).map(|seat| &seat.member)
    }

    /// The member that was last in the way of an upgrade, so that whoever asks again looks at it first, and not at all.
    pub fn obstacle(&self) -> Option<&Str> {
        self.obstacle.as_ref()
    }

    /// A member is in the way of an upgrade.
    pub fn note_obstacle(&mut self, member: Str) {
        self.obstacle = Some(member);
    }

    /// How many members it has, those that are on their way to join included.
    pub fn size(&self) -> usize {
        self.roster.len() + self.pending.len()
    }

    /// The topics that its members subscribe to; `None` where that cannot be known: it is not a group of consumers, or
    /// one of them says what nobody understands.
    pub fn subscribed(&self) -> Option<&BTreeSet<Str>> {
        self.subscribed.as_ref()
    }

    /// When it became Empty, for the expiry of its offsets; `None` where it has members or never had any, or where that
    /// time is not known.
    pub fn empty_since(&self) -> Option<Timestamp> {
        self.since.filter(|_| self.state == State::Empty && self.protocol_type.is_some())
    }

    /// Whether nothing is lost if it is forgotten: no member, no record of it in the log.
    pub fn is_forgettable(&self) -> bool {
        self.state == State::Empty && self.size() == 0 && !self.is_recorded
    }

    /// Comes to another state.
    fn become_state(&mut self, ctx: &Context<'_>, next: State) {
        let before: &[State] = match next {
            State::PreparingRebalance => &[State::Empty, State::CompletingRebalance, State::Stable],
            State::CompletingRebalance | State::Empty => &[State::PreparingRebalance],
            State::Stable => &[State::CompletingRebalance],
            State::Dead => &[],
        };
        assert!(before.contains(&self.state), "{:?} does not lead to {next:?}", self.state);
        self.state = next;
        self.since = Some(ctx.now.wall);
    }

    /// Lets a member go, or an id that was given out, and answers what it had waiting: a client that is still there
    /// joins again as somebody new.
    fn remove(&mut self, ctx: &mut Context<'_>, id: &Str) {
        if self.pending.remove(id) {
            self.cancel(ctx, TimerKind::Pending(id.clone()));
        }
        self.unsynced.remove(id);
        let Some(seat) = self.roster.remove(id) else { return };
        self.cancel(ctx, TimerKind::Session(id.clone()));
        let waiting = seat.into_waiting();
        if let Some(to) = waiting.joining {
            ctx.reply(to, join_refused(Str::EMPTY, ErrorCode::UnknownMemberId));
        }
        if let Some(to) = waiting.syncing {
            ctx.reply(to, sync_refused(ErrorCode::UnknownMemberId));
        }
    }

    /// What must hold between calls.
    #[cfg(test)]
    fn invariants(&self, timers: &super::Timers) {
        let is_set = |kind: TimerKind| timers.is_set(&Timer { group: self.name.clone(), kind }).is_some();
        self.roster.invariants();
        assert!(self.unsynced.iter().all(|id| self.roster.seat(id).is_some()), "only members sync");
        assert!(self.pending.iter().all(|id| self.roster.seat(id).is_none()), "a member is not on its way");
        assert!(self.pending.iter().all(|id| is_set(TimerKind::Pending(id.clone()))), "nobody is waited for for ever");
        assert_eq!(is_set(TimerKind::Join), self.state == State::PreparingRebalance, "every rebalance ends");
        assert!(self.unsynced.is_empty() || is_set(TimerKind::Sync), "every assignment ends");
        assert_eq!(self.roster.is_empty() && self.state != State::PreparingRebalance, self.state == State::Empty);
        assert!(self.first.is_none() || self.state == State::PreparingRebalance);
        for seat in self.roster.seats() {
            let id = &seat.member.id;
            match self.state {
                State::PreparingRebalance => assert!(!seat.is_syncing(), "{id} waits for an assignment that is void"),
                State::CompletingRebalance => assert!(!seat.is_joining(), "{id} waits for a rebalance that is over"),
                State::Stable => assert!(!seat.is_joining() && !seat.is_syncing(), "{id} waits for what is there"),
                State::Empty | State::Dead => panic!("{id} is in no group"),
            }
            assert_eq!(seat.alarm.is_some(), is_set(TimerKind::Session(id.clone())), "{id}'s session");
            assert!(seat.alarm.is_some() || seat.is_kept_waiting(), "{id} lives for ever");
            assert!(seat.alarm.is_none_or(|at| at <= seat.session_ends), "{id} lives too long");
            let supports = |protocol| seat.member.protocols.iter().any(|(name, _)| name == protocol);
            if matches!(self.state, State::CompletingRebalance | State::Stable) {
                assert!(self.protocol.as_ref().is_some_and(supports), "{id} does not know what was agreed");
            }
        }
    }

    fn cancel(&self, ctx: &mut Context<'_>, kind: TimerKind) {
        ctx.timers.cancel(&Timer { group: self.name.clone(), kind });
    }
}

/// A JoinGroup that is declined.
fn join_refused(member_id: Str, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { error_code: code.code(), member_id, ..JoinGroupResponse::default() }
}

/// A SyncGroup that is declined.
fn sync_refused(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() }
}
