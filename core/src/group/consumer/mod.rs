//! A group of the next protocol (KIP-848): the coordinator assigns, and members come to their targets one by one.

use std::collections::BTreeSet;

use super::record::Record;
use super::{Context, TimerKind, classic};
use crate::boundary::{Client, ReplyTo};
use crate::time::Timestamp;
use crate::wire::consumer_group_describe::DescribedGroup;
use crate::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::wire::describe_groups;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::JoinGroupRequest;
use crate::wire::leave_group::LeaveGroupRequest;
use crate::wire::sync_group::SyncGroupRequest;
use crate::wire::{ErrorCode, Response, Str};

/// A group of the next protocol.
#[derive(Debug)]
pub struct Group { name: Str }

impl Group {
    /// A group without members.
    pub fn new(name: Str) -> Group { todo!() }
    /// Whether a classic group with members may be upgraded (protocol type, decodable subscriptions, policy, room).
    pub fn may_upgrade(ctx: &Context<'_>, group: &classic::Group) -> bool { todo!() }
    /// Decides the upgrade of a classic group with members: writes the tombstone of the classic record and the records of
    /// the new group, which stands as they describe it, with the members as members that use the classic protocol.
    pub fn upgrade(ctx: &mut Context<'_>, group: &classic::Group) -> Group { todo!() }
    /// Whether its last member of the next protocol is gone while members that use the classic protocol are left.
    pub fn may_downgrade(&self, ctx: &Context<'_>) -> bool { todo!() }
    /// Decides the downgrade: writes the tombstones of this group's records and the classic group's record.
    pub fn downgrade(&mut self, ctx: &mut Context<'_>) -> classic::Group { todo!() }
    /// Takes a record of this group: of a load, or one that was just decided.
    pub fn replay(&mut self, record: &Record, written: Timestamp) { todo!() }
    /// The load is complete: sessions of its members begin.
    pub fn begin(&mut self, ctx: &mut Context<'_>) { todo!() }
    /// Refuses every request that waits.
    pub fn resign(&mut self, code: ErrorCode) -> Vec<(ReplyTo, Response)> { todo!() }
    pub fn timer(&mut self, ctx: &mut Context<'_>, kind: TimerKind) { todo!() }
    /// Topics have come, gone or grown: asks to be called where that concerns it.
    pub fn topics_changed(&mut self, ctx: &mut Context<'_>) { todo!() }
    pub fn heartbeat(&mut self, ctx: &mut Context<'_>, to: ReplyTo, client: &Client, request: ConsumerGroupHeartbeatRequest) { todo!() }
    /// JoinGroup of a member that uses the classic protocol. The next three likewise.
    pub fn join_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, client: &Client, request: JoinGroupRequest) { todo!() }
    pub fn sync_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: SyncGroupRequest) { todo!() }
    pub fn heartbeat_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: HeartbeatRequest) { todo!() }
    pub fn leave_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: LeaveGroupRequest) { todo!() }
    /// Whether an OffsetCommit may be taken, by member id and epoch; KIP-848's rule for stale epochs.
    pub fn admit_commit(&mut self, ctx: &mut Context<'_>, version: i16, member: &Str, instance: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> { todo!() }
    /// Whether an OffsetFetch that names a member may be answered.
    pub fn admit_fetch(&self, member: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> { todo!() }
    pub fn describe(&self, ctx_topics: &dyn super::Topics) -> DescribedGroup { todo!() }
    /// As DescribeGroups tells of it (Kafka answers GROUP_ID_NOT_FOUND or a Dead group there for this kind).
    pub fn describe_classic(&self, version: i16) -> describe_groups::DescribedGroup { todo!() }
    /// Its state's name: Empty, Assigning, Reconciling, Stable, Dead.
    pub fn state(&self) -> &'static str { todo!() }
    pub fn epoch(&self) -> i32 { todo!() }
    pub fn size(&self) -> usize { todo!() }
    /// The topics that its members subscribe to, by name or by what their expressions match.
    pub fn subscribed(&self) -> BTreeSet<Str> { todo!() }
    /// When it became empty.
    pub fn empty_since(&self) -> Option<Timestamp> { todo!() }
    /// Whether nothing is lost if it is forgotten: no member, no record of it in the log.
    pub fn is_forgettable(&self) -> bool { todo!() }
    /// Removes an empty group: writes the tombstones of all its records.
    pub fn delete(&mut self, ctx: &mut Context<'_>) { todo!() }
}
