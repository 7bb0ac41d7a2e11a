//! A group of the next protocol (KIP-848): the coordinator assigns, and members come to their targets one by one.
//!
//! Three epochs tell how far a group is. The group's own rises whenever its members, their subscriptions or their topics
//! change. The assignment's is the group's that it was made for: the next heartbeat after a change makes it. A member's
//! is the assignment's that it has come to (`reconcile`). In a stable group all are equal.
//!
//! ```text
//!  Empty ──(a member joins)──► Assigning ──(an assignment is made)──► Reconciling ──(members have come to it)──► Stable
//!    ▲                             ▲                                       │                                       │
//!    └──(the last one leaves)──────┴───────────(members or topics change)──┴───────────────────────────────────────┘
//! ```
//!
//! All that matters is in records. A decision makes one, replays it as a load does, and writes it. Only sessions and
//! lookups of regular expressions are in memory alone; they begin anew with a load.
//!
//! A steady heartbeat costs what the member sends and owns. Only a change of epoch looks at all members and partitions.
//!
//! Who does what: `heartbeat` the conversation, `epoch` changes of the group, `assigning` the way to the next assignment,
//! `assign` who is to own what, `reconcile` who owns what meanwhile, `regex` subscriptions by expression, `departure` members
//! that leave or fall silent, `classic_members` those that still use the classic protocol, `migrate` the ways
//! between the protocols.

pub(crate) mod assign;
mod assigning;
mod classic_members;
mod departure;
mod describe;
mod epoch;
mod heartbeat;
mod member;
mod migrate;
mod reconcile;
pub(in crate::group) mod refusal;
pub(in crate::group) mod regex;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::question::Found;
use super::record::{Key, Record, Value};
use super::{Context, TimerKind};
use crate::boundary::ReplyTo;
use crate::ids::TopicId;
use crate::time::{Instant, Timestamp};
use crate::wire::{ErrorCode, Response, Str};

use assigning::Making;
use member::{Member, Partitions};
use regex::{Lookups, Resolved};

/// A group of the next protocol.
#[derive(Debug)]
pub struct Group {
    name: Str,
    epoch: i32,
    /// What the topics subscribed to were like when the epoch was decided (KIP-1101).
    metadata_hash: i64,
    /// The epoch that the targets were made for.
    assignment_epoch: i32,
    members: BTreeMap<Str, Member>,
    /// What each member is to own.
    targets: BTreeMap<Str, Arc<Partitions>>,
    /// What the expressions subscribed to were found to mean.
    resolved: BTreeMap<Str, Resolved>,
    /// Which records the log has of the group as a whole.
    written: Written,
    /// When it became empty; of no meaning while it has members.
    empty_since: Option<Timestamp>,

    // What follows from the above.
    /// How many members subscribe to each topic by name, and how many of the expressions subscribed to match it.
    topics: BTreeMap<Str, usize>,
    /// How many members subscribe to each expression.
    expressions: BTreeMap<Str, usize>,
    /// The member that is behind each static name.
    instances: BTreeMap<Str, Str>,
    /// The member that has each partition, until it has given it up.
    owners: BTreeMap<TopicId, BTreeMap<i32, Str>>,
    /// How many members use the classic protocol.
    classic_members: usize,
    /// How many of them support each of the protocols that their clients choose from.
    supported: BTreeMap<Str, usize>,

    // In memory only.
    making: Making,
    lookups: Lookups,
    /// Before when a large group is not assigned anew.
    next_assignment: Option<Instant>,
}

/// Which records the log has of a group as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    group: bool,
    assignment: bool,
    /// The record of its topics that brokers before Kafka 4.1 wrote.
    topics: bool,
}

impl Group {
    /// A group without members.
    pub fn new(name: Str) -> Group {
        Group {
            name,
            epoch: 0,
            metadata_hash: 0,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            resolved: BTreeMap::new(),
            written: Written::default(),
            empty_since: None,
            topics: BTreeMap::new(),
            expressions: BTreeMap::new(),
            instances: BTreeMap::new(),
            owners: BTreeMap::new(),
            classic_members: 0,
            supported: BTreeMap::new(),
            making: Making::default(),
            lookups: Lookups::default(),
            next_assignment: None,
        }
    }

    /// The load is complete: sessions of its members begin.
    pub fn begin(&mut self, ctx: &mut Context<'_>) {
        let members: Vec<Str> = self.members.keys().cloned().collect();
        for id in &members {
            self.renew_session(ctx, id);
            self.time_revocation(ctx, id);
        }
        self.topics_changed(ctx);
    }

    /// Refuses every request that waits.
    pub fn resign(&mut self, code: ErrorCode) -> Vec<(ReplyTo, Response)> {
        self.stop_assigning(code)
    }

    /// Something that it asked to be called for is due.
    pub fn timer(&mut self, ctx: &mut Context<'_>, kind: TimerKind) {
        match kind {
            TimerKind::Session(member) => self.session_due(ctx, &member),
            TimerKind::Revocation(member) => self.revocation_due(ctx, &member),
            TimerKind::Pending(member) => self.sync_due(ctx, &member),
            TimerKind::Regex => self.lookup_due(ctx),
            TimerKind::Assignment => self.refresh_metadata(ctx),
            TimerKind::Assigning => self.assigning_due(ctx),
            // A classic group's, which this one was until just now.
            TimerKind::Join | TimerKind::Sync => {}
        }
    }

    /// What it had asked has been worked out.
    pub(super) fn found(&mut self, ctx: &mut Context<'_>, number: u64, found: Found) {
        match found {
            Found::Assignment(assigned) => self.take_assignment(ctx, number, assigned),
            Found::Matches(matched) => self.take_matches(ctx, number, matched),
            // It is the coordinator that asks this.
            Found::Expression { .. } => {}
        }
    }

    /// Whether a member subscribes to an expression, which is a valid one then.
    pub(super) fn has_expression(&self, expression: &Str) -> bool {
        self.expressions.contains_key(expression)
    }

    /// Topics have come, gone or grown: asks to be called where that concerns it.
    pub fn topics_changed(&mut self, ctx: &mut Context<'_>) {
        if !self.members.is_empty() {
            ctx.call_after(&self.name, TimerKind::Assignment, Duration::ZERO);
            self.ask_for_lookup(ctx);
        }
    }

    /// Whether an OffsetCommit may be taken, by member id and epoch; KIP-848's rule for stale epochs.
    ///
    /// # Errors
    /// Where the member is unknown, must use a later version, or says another epoch than its own. One that says an
    /// earlier epoch may still commit for what it had then: see [`Group::admit_earlier_commit`].
    pub fn admit_commit(
        &mut self,
        _ctx: &mut Context<'_>,
        version: i16,
        member: &Str,
        _instance: Option<&Str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        // Tools and consumers that assign themselves commit so, while nobody else does.
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let found = self.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        if !found.is_classic() && version < COMMIT_VERSION_MIN {
            return Err(ErrorCode::UnsupportedVersion);
        }
        found.admit_epoch(epoch)
    }

    /// Whether a commit for one partition may be taken from a member that says an earlier epoch than its own: if it has
    /// had the partition since then (KIP-1251). So a commit is not refused for a rebalance that left the partition.
    ///
    /// # Errors
    /// Where it may not.
    pub fn admit_earlier_commit(
        &self,
        member: &Str,
        epoch: i32,
        topic: TopicId,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let member = self.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        let since = member.current.since(topic, partition);
        if epoch <= member.current.epoch && since.is_some_and(|since| since <= epoch) {
            return Ok(());
        }
        Err(member.stale())
    }

    /// Whether an OffsetFetch that names a member may be answered.
    ///
    /// # Errors
    /// Where the member is unknown or says another epoch than its own.
    pub fn admit_fetch(&self, member: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> {
        match member {
            None if epoch < 0 => Ok(()),
            None => Err(ErrorCode::UnknownMemberId),
            Some(id) => self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?.admit_epoch(epoch),
        }
    }

    /// Its state's name: Empty, Assigning, Reconciling, Stable.
    pub fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The group's epoch, 0 before its first member.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// How many members it has, static ones that are expected back included.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Whether it is known what all expressions match that its members subscribe to: one that is new to the group is looked
    /// up after a while.
    pub fn knows_its_topics(&self) -> bool {
        self.expressions.keys().all(|expression| self.resolved.contains_key(expression))
    }

    /// The topics that its members subscribe to, by name or by what their expressions match, as far as that is known.
    pub fn subscribed(&self) -> impl Iterator<Item = &Str> {
        self.topics.keys()
    }

    /// Whether a member subscribes to a topic, as far as that is known.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// When it became empty.
    pub fn empty_since(&self) -> Option<Timestamp> {
        self.empty_since.filter(|_| self.members.is_empty())
    }

    /// Whether nothing is lost if it is forgotten: no member, no record of it in the log.
    pub fn is_forgettable(&self) -> bool {
        self.members.is_empty()
            && self.targets.is_empty()
            && self.resolved.is_empty()
            && self.written == Written::default()
    }

    /// Removes an empty group: writes the tombstones of all its records.
    pub fn delete(&mut self, ctx: &mut Context<'_>) {
        assert!(self.members.is_empty(), "only an empty group is removed");
        self.bury(ctx);
    }

    /// Decides a record: what it says is so from now on, and it is written.
    fn decide(&mut self, ctx: &mut Context<'_>, key: Key, value: Option<Value>) {
        let record = Record { key, value };
        self.replay(&record, ctx.now.wall);
        ctx.write(record);
    }
}

/// The first version of OffsetCommit that says member epochs.
const COMMIT_VERSION_MIN: i16 = 9;

impl Member {
    fn admit_epoch(&self, epoch: i32) -> Result<(), ErrorCode> {
        if epoch == self.current.epoch { Ok(()) } else { Err(self.stale()) }
    }

    fn stale(&self) -> ErrorCode {
        if self.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
    }
}
