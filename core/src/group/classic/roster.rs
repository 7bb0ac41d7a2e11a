//! Who is in a classic group: its members, the names of the static ones, what all of them support, and who leads.
//!
//! It counts as it changes, so that nothing but the end of a rebalance walks over all members. It answers nobody: a
//! request that no longer waits is handed back to whoever made it so.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Member;
use crate::boundary::ReplyTo;
use crate::ids::Offset;
use crate::time::Instant;
use crate::wire::{ErrorCode, Str};

/// A member, what it waits for, and when it is taken for dead.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) member: Member,
    /// Set until its first generation: it may not know its id yet, so it cannot heartbeat.
    pub(super) is_new: bool,
    /// When its session ends. A heartbeat moves this alone; the timer that comes too early is set anew.
    pub(super) session_ends: Instant,
    /// When its session's timer is due, if that is set.
    pub(super) alarm: Option<Instant>,
    /// Up to where the log must be committed before it has the last answer that its session began with.
    pub(super) answered_at: Offset,
    /// Whether that was not so yet when its session was over.
    pub(super) is_owed: bool,
    /// The JoinGroup that waits for the others.
    joining: Option<ReplyTo>,
    /// The SyncGroup that waits for the leader's.
    syncing: Option<ReplyTo>,
}

impl Seat {
    /// A member that waits for nothing, and whose session has not begun.
    pub(super) fn new(member: Member) -> Seat {
        Seat {
            member,
            is_new: false,
            session_ends: Instant(0),
            alarm: None,
            answered_at: Offset(0),
            is_owed: false,
            joining: None,
            syncing: None,
        }
    }

    /// Whether its silence is our doing: a member does not heartbeat while it waits. One that is new does not count, or
    /// a client that gave up long ago would wait for ever (KAFKA-9752).
    pub(super) fn is_kept_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(super) fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    #[cfg(test)]
    pub(super) fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// What waits, for one that leaves.
    pub(super) fn into_waiting(self) -> Waiting {
        Waiting { joining: self.joining, syncing: self.syncing }
    }

    /// What it said with a protocol; nothing where it does not support that.
    pub(super) fn metadata(&self, protocol: &Str) -> Bytes {
        self.member
            .protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default()
    }

    pub(super) fn session_timeout(&self) -> Duration {
        milliseconds(self.member.session_timeout_ms)
    }
}

/// Requests that wait no longer, for whoever has to answer them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) joining: Option<ReplyTo>,
    pub(super) syncing: Option<ReplyTo>,
}

/// What a member may change when it joins again.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) protocols: Vec<(Str, Bytes)>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
}

/// The members of a group.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: BTreeMap<Str, Seat>,
    /// The members that have names, by them.
    statics: BTreeMap<Str, Str>,
    /// How many members support a protocol.
    supported: BTreeMap<Str, usize>,
    /// How many have a JoinGroup waiting.
    joining: usize,
    leader: Option<Str>,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn seat(&self, id: &str) -> Option<&Seat> {
        self.seats.get(id)
    }

    pub(super) fn seat_mut(&mut self, id: &str) -> Option<&mut Seat> {
        self.seats.get_mut(id)
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.seats.values()
    }

    pub(super) fn seats_mut(&mut self) -> impl Iterator<Item = &mut Seat> {
        self.seats.values_mut()
    }

    /// The members' ids, as they are now.
    pub(super) fn ids(&self) -> Vec<Str> {
        self.seats.keys().cloned().collect()
    }

    pub(super) fn leader(&self) -> Option<&Str> {
        self.leader.as_ref()
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// Makes a member lead; what is no member cannot.
    pub(super) fn appoint(&mut self, id: &Str) {
        if self.seats.contains_key(id) {
            self.leader = Some(id.clone());
        }
    }

    /// The member of a name.
    pub(super) fn named(&self, instance: &str) -> Option<&Str> {
        self.statics.get(instance)
    }

    /// Whether it is a member who asks, and the one who has the name that it gives (KIP-345).
    pub(super) fn recognise(&self, id: &str, instance: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.named(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.seats.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether all members support one of these protocols.
    pub(super) fn all_support_one_of(&self, protocols: &[(Str, Bytes)]) -> bool {
        protocols.iter().any(|(name, _)| self.support(name) == self.len())
    }

    fn support(&self, protocol: &str) -> usize {
        self.supported.get(protocol).copied().unwrap_or(0)
    }

    /// The protocol that most members like best of those that all support; the first by name of several. `None` where
    /// there is none, which no group comes to by joining.
    pub(super) fn elect_protocol(&self) -> Option<Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for seat in self.seats.values() {
            if let Some((name, _)) = seat.member.protocols.iter().find(|(name, _)| self.support(name) == self.len()) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// The longest time that one of them may take to join.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.seats.values().map(|seat| milliseconds(seat.member.rebalance_timeout_ms)).max().unwrap_or_default()
    }

    pub(super) fn joining(&self) -> usize {
        self.joining
    }

    /// Whether every member's JoinGroup is here.
    pub(super) fn are_all_joining(&self) -> bool {
        self.joining == self.len()
    }

    /// The members without a name whose JoinGroup has not come.
    pub(super) fn absent_dynamic(&self) -> Vec<Str> {
        let absent = |seat: &&Seat| seat.joining.is_none() && seat.member.instance_id.is_none();
        self.seats.values().filter(absent).map(|seat| seat.member.id.clone()).collect()
    }

    /// Sees to it that whoever leads has joined. Returns whether anybody has.
    pub(super) fn elect_leader(&mut self) -> bool {
        if self.leader.as_ref().and_then(|id| self.seats.get(id)).is_some_and(Seat::is_joining) {
            return true;
        }
        let Some(seat) = self.seats.values().find(|seat| seat.is_joining()) else { return false };
        self.leader = Some(seat.member.id.clone());
        true
    }

    /// Takes a member in. The first one leads.
    ///
    /// # Panics
    /// If it is a member already, or its name is taken: the caller has looked.
    pub(super) fn insert(&mut self, seat: Seat) {
        let id = seat.member.id.clone();
        if let Some(instance) = &seat.member.instance_id {
            assert!(self.statics.insert(instance.clone(), id.clone()).is_none(), "a name has one member");
        }
        self.count(&seat.member.protocols, true);
        self.joining += usize::from(seat.joining.is_some());
        self.leader.get_or_insert_with(|| id.clone());
        assert!(self.seats.insert(id, seat).is_none(), "a member is taken in once");
    }

    /// Lets a member go. If it led, another does.
    pub(super) fn remove(&mut self, id: &str) -> Option<Seat> {
        let seat = self.seats.remove(id)?;
        self.count(&seat.member.protocols, false);
        self.joining -= usize::from(seat.joining.is_some());
        if let Some(instance) = &seat.member.instance_id {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.seats.keys().next().cloned();
        }
        Some(seat)
    }

    /// Gives a static member another id, under which it waits for nothing, and its place with it: its assignment, and
    /// the lead.
    pub(super) fn rename(&mut self, old: &str, new: &Str) -> Waiting {
        let led = self.is_leader(old);
        let Some(mut seat) = self.remove(old) else { return Waiting::default() };
        let waiting = Waiting { joining: seat.joining.take(), syncing: seat.syncing.take() };
        let member = Member { id: new.clone(), ..seat.member };
        self.insert(Seat { member, is_new: false, alarm: None, ..seat });
        if led {
            self.leader = Some(new.clone());
        }
        waiting
    }

    /// Changes what a member supports and how long it may take. Returns what held before.
    pub(super) fn renew(&mut self, id: &str, terms: Terms) -> Option<Terms> {
        let member = &mut self.seats.get_mut(id)?.member;
        let before = Terms {
            protocols: std::mem::replace(&mut member.protocols, terms.protocols.clone()),
            rebalance_timeout_ms: std::mem::replace(&mut member.rebalance_timeout_ms, terms.rebalance_timeout_ms),
            session_timeout_ms: std::mem::replace(&mut member.session_timeout_ms, terms.session_timeout_ms),
        };
        self.count(&before.protocols, false);
        self.count(&terms.protocols, true);
        Some(before)
    }

    /// A member's JoinGroup waits from now on. Returns the one that waited in its place.
    pub(super) fn wait_to_join(&mut self, id: &str, to: ReplyTo) -> Option<ReplyTo> {
        let before = self.seats.get_mut(id)?.joining.replace(to);
        self.joining += usize::from(before.is_none());
        before
    }

    /// A member's JoinGroup waits no longer.
    pub(super) fn take_joining(&mut self, id: &str) -> Option<ReplyTo> {
        let to = self.seats.get_mut(id)?.joining.take();
        self.joining -= usize::from(to.is_some());
        to
    }

    /// A member's SyncGroup waits from now on. Returns the one that waited in its place.
    pub(super) fn wait_to_sync(&mut self, id: &str, to: ReplyTo) -> Option<ReplyTo> {
        self.seats.get_mut(id)?.syncing.replace(to)
    }

    /// A member's SyncGroup waits no longer.
    pub(super) fn take_syncing(&mut self, id: &str) -> Option<ReplyTo> {
        self.seats.get_mut(id)?.syncing.take()
    }

    fn count(&mut self, protocols: &[(Str, Bytes)], joins: bool) {
        for (name, _) in protocols {
            let count = self.supported.entry(name.clone()).or_default();
            *count = if joins { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.supported.remove(name);
            }
        }
    }

    /// What must hold between calls.
    #[cfg(test)]
    pub(super) fn invariants(&self) {
        assert_eq!(self.joining, self.seats.values().filter(|seat| seat.is_joining()).count());
        let named = self.seats.values().filter_map(|seat| Some((seat.member.instance_id.as_ref()?, &seat.member.id)));
        assert_eq!(self.statics.iter().collect::<BTreeMap<_, _>>(), named.collect(), "names");
        assert!(self.seats.iter().all(|(id, seat)| *id == seat.member.id), "a seat is found by its member's id");
        match &self.leader {
            Some(leader) => assert!(self.seats.contains_key(leader), "the leader is a member"),
            None => assert!(self.is_empty(), "somebody leads"),
        }
        let mut supported: BTreeMap<Str, usize> = BTreeMap::new();
        for (name, _) in self.seats.values().flat_map(|seat| &seat.member.protocols) {
            *supported.entry(name.clone()).or_default() += 1;
        }
        assert_eq!(self.supported, supported, "support");
    }
}

/// A client's time in milliseconds, which may be negative: then it is none at all.
pub(super) fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
