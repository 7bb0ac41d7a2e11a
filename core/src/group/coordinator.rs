//! The coordinator of the groups of one partition of `__consumer_offsets`: finds the group that a request is about, and
//! turns a group of one protocol into one of the other.

use std::collections::BTreeMap;

use super::offsets::Offsets;
use super::record::Record;
use super::{Context, Outcome, Settings, Timers, Topics, classic, consumer};
use crate::boundary::{Client, ReplyTo};
use crate::ids::TopicId;
use crate::rng::Rng;
use crate::time::{Instant, Now, Timestamp};
use crate::wire::consumer_group_describe as consumer_describe;
use crate::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::wire::describe_groups::DescribedGroup;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::JoinGroupRequest;
use crate::wire::leave_group::LeaveGroupRequest;
use crate::wire::list_groups::{ListGroupsRequest, ListedGroup};
use crate::wire::offset_commit::OffsetCommitRequest;
use crate::wire::offset_delete::OffsetDeleteRequest;
use crate::wire::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use crate::wire::sync_group::SyncGroupRequest;
use crate::wire::{ErrorCode, Response, Str};

/// The partition of `__consumer_offsets` that a group's coordinator leads: Kafka's rule, Java's hash of the group's id.
pub fn partition_of(group: &str, partitions: u32) -> i32 {
    todo!()
}

/// What the node lends for one call.
pub struct Surroundings<'a> {
    /// What time it is.
    pub now: Now,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The topics that there are.
    pub topics: &'a dyn Topics,
    /// For the ids of members.
    pub rng: &'a mut Rng,
    /// Where decisions are put: to be appended and answered when the call returns, before the next one.
    pub out: &'a mut Outcome,
}

/// A group.
#[derive(Debug)]
struct Group {
    offsets: Offsets,
    members: Members,
}

/// Who is in a group, by its protocol. A group that only has offsets is a classic one.
#[derive(Debug)]
enum Members {
    Classic(classic::Group),
    Consumer(consumer::Group),
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub struct Coordinator {
    groups: BTreeMap<Str, Group>,
    timers: Timers,
}

/// One call for each thing that a client may ask. Those that push a reply into the outcome do so exactly once for each
/// request, now or later (a member waits for the others to join); the others return their part of the answer, which the
/// node gathers from several coordinators and sends when each has committed what it has appended so far.
impl Coordinator {
    /// Takes a record of the log, in the order of the log, while the coordinator is being loaded.
    /// Tombstones of what is not there, and records of what a later record removes, are nothing special: compaction may
    /// have taken anything away that is overwritten later.
    pub fn replay(&mut self, record: Record, appended: Timestamp) { todo!() }
    /// The load is complete: sessions begin, and what stood in the middle goes on.
    pub fn begin(&mut self, with: &mut Surroundings<'_>) { todo!() }
    /// Another node leads, or the log cannot be written: every request that waits here, with its refusal.
    pub fn resign(self, code: ErrorCode) -> Vec<(ReplyTo, Response)> { todo!() }

    /// When [`Coordinator::reach`] is to be called.
    pub fn deadline(&self) -> Option<Instant> { self.timers.next() }
    /// Calls at most one timer that is due. Returns whether there was one.
    pub fn reach(&mut self, with: &mut Surroundings<'_>) -> bool { todo!() }
    /// Topics have come, gone or grown.
    pub fn topics_changed(&mut self, with: &mut Surroundings<'_>) { todo!() }
    /// A topic is deleted, and with it the offsets in it. Looks at some of the groups behind `after`, a bounded number;
    /// returns the last one looked at, or none at the end.
    pub fn forget_topic(&mut self, with: &mut Surroundings<'_>, name: &Str, id: TopicId, after: Option<Str>) -> Option<Str> { todo!() }
    /// Lets offsets and groups expire (KIP-211). Looks at some of the groups behind `after`, a bounded number; returns
    /// the last one looked at, or none at the end.
    pub fn expire(&mut self, with: &mut Surroundings<'_>, after: Option<Str>) -> Option<Str> { todo!() }

    /// JoinGroup.
    pub fn join(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, client: &Client, request: JoinGroupRequest) { todo!() }
    /// SyncGroup.
    pub fn sync(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: SyncGroupRequest) { todo!() }
    /// Heartbeat.
    pub fn heartbeat(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: HeartbeatRequest) { todo!() }
    /// LeaveGroup.
    pub fn leave(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: LeaveGroupRequest) { todo!() }
    /// ConsumerGroupHeartbeat.
    pub fn consumer_heartbeat(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, client: &Client, request: ConsumerGroupHeartbeatRequest) { todo!() }
    /// OffsetCommit.
    pub fn commit(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: OffsetCommitRequest) { todo!() }
    /// OffsetDelete.
    pub fn delete_offsets(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: OffsetDeleteRequest) { todo!() }

    /// One group of OffsetFetch.
    pub fn fetch_offsets(&self, with: &Surroundings<'_>, version: i16, request: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup { todo!() }
    /// One group of DescribeGroups, in `version`.
    pub fn describe(&self, version: i16, group: &Str) -> DescribedGroup { todo!() }
    /// One group of ConsumerGroupDescribe.
    pub fn describe_consumer(&self, with: &Surroundings<'_>, group: &Str) -> consumer_describe::DescribedGroup { todo!() }
    /// The groups that ListGroups asks for.
    pub fn list(&self, request: &ListGroupsRequest) -> Vec<ListedGroup> { todo!() }
    /// One group of DeleteGroups.
    pub fn delete(&mut self, with: &mut Surroundings<'_>, group: &Str) -> ErrorCode { todo!() }

    /// The offsets of all groups, for metrics: group, topic, partition, offset.
    pub fn committed(&self) -> impl Iterator<Item = (&Str, &Str, i32, i64)> { std::iter::empty() }
}
