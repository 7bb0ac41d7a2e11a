//! A group of the classic protocol: its members agree on a generation by joining and syncing, and one of them assigns.

use std::collections::BTreeSet;

use super::record::Value;
use super::{Context, TimerKind};
use crate::boundary::{Client, ReplyTo};
use crate::time::Timestamp;
use crate::wire::describe_groups::DescribedGroup;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::JoinGroupRequest;
use crate::wire::leave_group::LeaveGroupRequest;
use crate::wire::sync_group::SyncGroupRequest;
use crate::wire::{ErrorCode, Response, Str};
use bytes::Bytes;

/// Where a group is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State { Empty, PreparingRebalance, CompletingRebalance, Stable, Dead }

/// A member of a classic group, as a conversion between the protocols hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: Str,
    pub instance_id: Option<Str>,
    pub client: Client,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Name and metadata of each protocol that it supports, the one that it prefers first.
    pub protocols: Vec<(Str, Bytes)>,
    pub assignment: Bytes,
}

/// A group of the classic protocol.
#[derive(Debug)]
pub struct Group { name: Str }

impl Group {
    /// A group without members.
    pub fn new(name: Str) -> Group { todo!() }
    /// A group with members in a generation, which a downgrade makes of a group of the next protocol. It is Stable.
    pub fn restore(name: Str, generation: i32, protocol_type: Str, protocol: Str, leader: Option<Str>, members: Vec<Member>) -> Group { todo!() }
    /// Takes the group's record of the log. `None`, the tombstone, leaves it empty without a generation.
    pub fn replay(&mut self, value: Option<&Value>, written: Timestamp) { todo!() }
    /// The load is complete: sessions of its members begin.
    pub fn begin(&mut self, ctx: &mut Context<'_>) { todo!() }
    /// Refuses every request that waits.
    pub fn resign(&mut self, code: ErrorCode) -> Vec<(ReplyTo, Response)> { todo!() }
    pub fn timer(&mut self, ctx: &mut Context<'_>, kind: TimerKind) { todo!() }
    pub fn join(&mut self, ctx: &mut Context<'_>, to: ReplyTo, client: &Client, request: JoinGroupRequest) { todo!() }
    pub fn sync(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: SyncGroupRequest) { todo!() }
    pub fn heartbeat(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: HeartbeatRequest) { todo!() }
    pub fn leave(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: LeaveGroupRequest) { todo!() }
    /// Whether an OffsetCommit may be taken; and the session of the member that sends it goes on.
    pub fn admit_commit(&mut self, ctx: &mut Context<'_>, member: &Str, instance: Option<&Str>, generation: i32) -> Result<(), ErrorCode> { todo!() }
    pub fn describe(&self, version: i16) -> DescribedGroup { todo!() }
    pub fn state(&self) -> State { todo!() }
    pub fn generation(&self) -> i32 { todo!() }
    pub fn protocol_type(&self) -> Option<&Str> { todo!() }
    /// The protocol that the members have agreed on.
    pub fn protocol(&self) -> Option<&Str> { todo!() }
    pub fn leader(&self) -> Option<&Str> { todo!() }
    pub fn members(&self) -> impl Iterator<Item = Member> { std::iter::empty() }
    /// How many members it has, those that are on their way to join included.
    pub fn size(&self) -> usize { todo!() }
    /// The topics that its members subscribe to; `None` where that cannot be known: it is not a group of consumers.
    pub fn subscribed(&self) -> Option<BTreeSet<Str>> { todo!() }
    /// When it became Empty, for the expiry of its offsets; `None` where it has members or never had any.
    pub fn empty_since(&self) -> Option<Timestamp> { todo!() }
    /// Whether nothing is lost if it is forgotten: no member, no record of it in the log.
    pub fn is_forgettable(&self) -> bool { todo!() }
    /// Removes an empty group: writes its tombstone.
    pub fn delete(&mut self, ctx: &mut Context<'_>) { todo!() }
}
