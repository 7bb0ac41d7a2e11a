//! The coordinator of the groups of one partition of `__consumer_offsets`: finds the group that a request is about, and
//! turns a group of one protocol into one of the other.
//!
//! | a group | becomes | when |
//! |---|---|---|
//! | that is not there, or classic and empty | of the next protocol | a ConsumerGroupHeartbeat joins it |
//! | classic, with members | of the next protocol | likewise, if the policy and the members allow it (upgrade) |
//! | that is not there, or of the next protocol and empty | classic | a JoinGroup without a member id joins it |
//! | of the next protocol, with members | classic | its last member of that protocol is gone (downgrade) |
//! | without offsets, members, or records in the log | none | at once |
//!
//! Offsets stay through all but the last. A group that was only looked at, or that nobody could join, is not made.
//!
//! Who does what: [`group`] what groups of both protocols have in common, [`protocols`] the way from one to the other,
//! [`upkeep`] the walks over all groups, [`due`] what is called by time, [`expressions`] heartbeats that must wait.
//! What is not here: rules of members (`classic`, `consumer`) and of offsets (`offsets`).

mod due;
mod expressions;
mod group;
mod protocols;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};

pub use self::due::Reached;
use self::expressions::Held;
use self::group::{CONSUMER, Group, Members};
use self::protocols::{downgrade_if_due, replace, upgrade};
use self::upkeep::Telling;
pub use self::upkeep::{Seen, Stop};
use super::offsets::{FetchStop, Offsets, Place, targets};
use super::question::Finding;
use super::record::{Key, Record, Value};
use super::{Context, Outcome, Settings, Timers, Topics, Written, classic, consumer};
use crate::boundary::{Client, ReplyTo};
use crate::ids::TopicId;
use crate::rng::Rng;
use crate::time::{Now, Timestamp};
use crate::wire::consumer_group_describe as consumer_describe;
use crate::wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::describe_groups::DescribedGroup;
use crate::wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use crate::wire::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use crate::wire::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::wire::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::{ErrorCode, Response, Str};

/// The partition of `__consumer_offsets` whose leader coordinates a group: Kafka's rule, the absolute value of Java's
/// hash of the group's id, modulo the number of partitions. Old and new brokers and tools rely on it.
///
/// # Panics
/// If `partitions` is 0: there is no such topic.
pub fn partition_of(group: &str, partitions: u32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The one number without an absolute value counts as 0.
    let hash = hash.checked_abs().unwrap_or(0).unsigned_abs();
    i32::try_from(hash % partitions).expect("it is at most the hash, which is no negative number")
}

/// How many members may be on their way to join at once, each with an id that it was given and some 700 bytes of memory
/// for as long as a session: a client comes back within milliseconds, and whoever never does must not take it all.
const PENDING_MAX: usize = 10_000;

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
    /// How far the log of decisions is.
    pub log: Written,
}

/// What a group is lent for one call: what the node lends, and the coordinator's timers.
fn lend<'a>(timers: &'a mut Timers, with: &'a mut Surroundings<'_>) -> Context<'a> {
    let Surroundings { now, settings, topics, rng, out, log } = with;
    Context { now: *now, settings, topics: *topics, rng, out, log: *log, timers }
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub struct Coordinator {
    groups: BTreeMap<Str, Group>,
    timers: Timers,
    /// The walk that tells groups that topics have changed, while it is not at its end.
    telling: Option<Telling>,
    /// How far [`Coordinator::expire`] has come in the group that it returned last, if that has too many offsets for one
    /// call.
    expiring: Option<(Str, Place)>,
    /// What has been worked out and not been looked at.
    findings: VecDeque<Finding>,
    /// Heartbeats whose expressions are being looked at, by group and member.
    held: BTreeMap<(Str, Str), Held>,
    /// The same of [`Coordinator::forget_topic`], for each topic: the group that has more to forget.
    forgetting: BTreeMap<TopicId, Str>,
}

/// One call for each thing that a client may ask. Those that push a reply into the outcome do so exactly once for each
/// request, now or later (a member waits for the others to join); the others return their part of the answer, which the
/// node gathers from several coordinators and sends when each has committed what it has appended so far.
impl Coordinator {
    /// Takes a record of the log, in the order of the log, while the coordinator is being loaded.
    ///
    /// Tombstones of what is not there, and records of what a later record removes, are nothing special: compaction may
    /// have taken anything away that is overwritten later. So a value makes the group one of its protocol, and a
    /// tombstone takes something from a group only if it is of that protocol (KAFKA-17306, KAFKA-19862).
    pub fn replay(&mut self, record: Record, appended: Timestamp) {
        let Some(name) = record.key.group() else { return };
        if record.value.is_some() && !self.groups.contains_key(name) {
            let name = name.detached();
            self.groups.insert(name.clone(), Group::new(name));
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        match (&record.key, &mut group.members) {
            (Key::OffsetCommit { topic, partition, .. }, _) => {
                let value = record.value.as_ref().and_then(|value| match value {
                    Value::OffsetCommit(value) => Some(value),
                    _ => None,
                });
                group.offsets.replay(topic, *partition, value);
            }
            (Key::Group { .. }, Members::Classic(group)) => group.replay(record.value.as_ref(), appended),
            (Key::Group { .. }, members @ Members::Consumer(_)) => {
                if record.value.is_some() {
                    let mut group = classic::Group::new(name.detached());
                    group.replay(record.value.as_ref(), appended);
                    *members = Members::Classic(group);
                }
            }
            (_, Members::Consumer(group)) => group.replay(&record, appended),
            (_, members @ Members::Classic(_)) => {
                if record.value.is_some() {
                    let mut group = consumer::Group::new(name.detached());
                    group.replay(&record, appended);
                    *members = Members::Consumer(group);
                }
            }
        }
        if record.value.is_none() {
            self.forget_if_gone(name);
        }
    }

    /// Another node leads, or the log cannot be written: every request that waits here, with its refusal.
    pub fn resign(self, code: ErrorCode) -> Vec<(ReplyTo, Response)> {
        let held = self.held.into_values().flat_map(|held| held.refuse(code));
        let waiting = self.groups.into_values().flat_map(|group| match group.members {
            Members::Classic(mut group) => group.resign(code),
            Members::Consumer(mut group) => group.resign(code),
        });
        held.chain(waiting).collect()
    }

    /// JoinGroup.
    pub fn join(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, client: &Client, request: JoinGroupRequest) {
        let name = request.group_id.clone();
        let ctx = &mut lend(&mut self.timers, with);
        if let Err(code) = may_join(ctx.settings, &request) {
            return refuse_join(ctx, to, code, request.member_id);
        }
        let wants_id = request.member_id.is_empty() && request.group_instance_id.is_none();
        if wants_id && ctx.timers.pending() >= PENDING_MAX {
            // Clients ask again after a while, and of the same coordinator.
            return refuse_join(ctx, to, ErrorCode::CoordinatorLoadInProgress, Str::EMPTY);
        }
        match self.groups.get_mut(&name) {
            Some(Group { members: Members::Classic(group), .. }) => group.join(ctx, to, client, request),
            Some(Group { members: Members::Consumer(group), .. }) if group.size() > 0 => {
                group.join_classic(ctx, to, client, request);
            }
            // Whoever says that it is a member is none: nobody is.
            _ if !request.member_id.is_empty() => {
                refuse_join(ctx, to, ErrorCode::UnknownMemberId, request.member_id);
            }
            found => {
                let name = name.detached();
                let mut group = classic::Group::new(name.clone());
                let written = ctx.out.records.len();
                group.join(ctx, to, client, request);
                let members = Members::Classic(group);
                match found {
                    // It was refused, and nothing has happened.
                    _ if members.is_forgettable() => {}
                    Some(found) => replace(ctx, found, members, written),
                    None => {
                        self.groups.insert(name.clone(), Group { members, ..Group::new(name) });
                    }
                }
            }
        }
        self.settle(with, &name);
    }

    /// SyncGroup.
    pub fn sync(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: SyncGroupRequest) {
        let ctx = &mut lend(&mut self.timers, with);
        let name = request.group_id.clone();
        let code = match self.groups.get_mut(&name).map(|group| &mut group.members) {
            _ if name.is_empty() => ErrorCode::InvalidGroupId,
            Some(members) if members.is_empty() => ErrorCode::UnknownMemberId,
            None => ErrorCode::UnknownMemberId,
            Some(Members::Classic(group)) => return group.sync(ctx, to, request),
            Some(Members::Consumer(group)) => {
                group.sync_classic(ctx, to, request);
                return self.settle(with, &name);
            }
        };
        ctx.reply(to, SyncGroupResponse { error_code: code as i16, ..SyncGroupResponse::default() });
    }

    /// Heartbeat.
    pub fn heartbeat(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: HeartbeatRequest) {
        let ctx = &mut lend(&mut self.timers, with);
        let code = match self.groups.get_mut(&request.group_id).map(|group| &mut group.members) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            None => ErrorCode::UnknownMemberId,
            Some(Members::Classic(group)) => return group.heartbeat(ctx, to, request),
            Some(Members::Consumer(group)) => return group.heartbeat_classic(ctx, to, request),
        };
        ctx.reply(to, HeartbeatResponse { throttle_time_ms: 0, error_code: code as i16 });
    }

    /// LeaveGroup.
    pub fn leave(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: LeaveGroupRequest) {
        let ctx = &mut lend(&mut self.timers, with);
        let name = request.group_id.clone();
        match self.groups.get_mut(&name).map(|group| &mut group.members) {
            _ if name.is_empty() => {
                let error_code = ErrorCode::InvalidGroupId as i16;
                ctx.reply(to, LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() });
            }
            None => ctx.reply(to, nobody_leaves(to.version, request)),
            Some(Members::Classic(group)) => group.leave(ctx, to, request),
            Some(Members::Consumer(group)) => group.leave_classic(ctx, to, request),
        }
        self.settle(with, &name);
    }

    /// ConsumerGroupHeartbeat. It waits where its expression must be looked at first.
    pub fn consumer_heartbeat(
        &mut self,
        with: &mut Surroundings<'_>,
        to: ReplyTo,
        client: &Client,
        request: ConsumerGroupHeartbeatRequest,
    ) {
        if let Some(request) = self.unless_held(with, to, client, request) {
            self.take_heartbeat(with, to, client, request);
        }
    }

    /// A heartbeat whose expression is a valid one, if it has any.
    fn take_heartbeat(
        &mut self,
        with: &mut Surroundings<'_>,
        to: ReplyTo,
        client: &Client,
        request: ConsumerGroupHeartbeatRequest,
    ) {
        let name = request.group_id.clone();
        let joins = request.member_epoch == 0;
        let ctx = &mut lend(&mut self.timers, with);
        match self.groups.get_mut(&name) {
            _ if name.is_empty() => ctx.reply(to, refusal(ErrorCode::InvalidRequest, "GroupId can't be empty.")),
            Some(Group { members: Members::Consumer(group), .. }) => group.heartbeat(ctx, to, client, request),
            Some(Group { members: members @ Members::Classic(_), .. }) if joins && !members.is_empty() => {
                match upgrade(ctx, to.version, client, &request, members) {
                    Ok(group) => group.heartbeat(ctx, to, client, request),
                    Err(refusal) => ctx.reply(to, refusal),
                }
            }
            found if joins => {
                let name = name.detached();
                let mut group = consumer::Group::new(name.clone());
                let written = ctx.out.records.len();
                group.heartbeat(ctx, to, client, request);
                let members = Members::Consumer(group);
                match found {
                    // It was refused, and nothing has happened.
                    _ if members.is_forgettable() => {}
                    Some(found) => replace(ctx, found, members, written),
                    None => {
                        self.groups.insert(name.clone(), Group { members, ..Group::new(name) });
                    }
                }
            }
            Some(_) => ctx.reply(to, refusal(ErrorCode::GroupIdNotFound, &is_no(CONSUMER, &name))),
            None => ctx.reply(to, refusal(ErrorCode::GroupIdNotFound, &is_not_there(&name))),
        }
        self.settle(with, &name);
    }

    /// OffsetCommit.
    pub fn commit(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: &OffsetCommitRequest) {
        let response = self.commit_part(with, to.version, request);
        with.out.replies.push((to, response.into()));
    }

    /// A part of an OffsetCommit in `version`.
    pub fn commit_part(
        &mut self,
        with: &mut Surroundings<'_>,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> OffsetCommitResponse {
        let ctx = &mut lend(&mut self.timers, with);
        let name = &request.group_id;
        let (member, epoch) = (&request.member_id, request.generation_id_or_member_epoch);
        let instance = request.group_instance_id.as_ref();
        let mut targets = targets(ctx.topics, version, request).peekable();
        let admitted = match self.groups.get_mut(name).map(|group| &mut group.members) {
            // Nothing is committed, and the group is not asked.
            _ if targets.peek().is_none() => Ok(()),
            Some(Members::Classic(group)) => group.admit_commit(ctx, member, instance, epoch),
            Some(Members::Consumer(group)) => match group.admit_commit(ctx, version, member, instance, epoch) {
                Err(ErrorCode::StaleMemberEpoch | ErrorCode::IllegalGeneration) => {
                    targets.try_for_each(|(topic, at)| group.admit_earlier_commit(member, epoch, topic, at))
                }
                admitted => admitted,
            },
            // Somebody who uses groups only to keep offsets, or a tool.
            None if epoch < 0 => Ok(()),
            None if version >= 9 => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        };
        match self.groups.get_mut(name) {
            Some(group) => group.offsets.commit(ctx, request, version, admitted),
            None => {
                let mut offsets = Offsets::default();
                let response = offsets.commit(ctx, request, version, admitted);
                if !offsets.is_empty() {
                    let name = name.detached();
                    self.groups.insert(name.clone(), Group { offsets, ..Group::new(name) });
                }
                response
            }
        }
    }

    /// OffsetDelete.
    pub fn delete_offsets(&mut self, with: &mut Surroundings<'_>, to: ReplyTo, request: &OffsetDeleteRequest) {
        let response = self.delete_offsets_part(with, request);
        with.out.replies.push((to, response.into()));
    }

    /// A part of an OffsetDelete. An error of the whole answer is that of all parts.
    pub fn delete_offsets_part(
        &mut self,
        with: &mut Surroundings<'_>,
        request: &OffsetDeleteRequest,
    ) -> OffsetDeleteResponse {
        let ctx = &mut lend(&mut self.timers, with);
        let name = &request.group_id;
        let found = self.groups.get_mut(name).filter(|_| !name.is_empty());
        let found =
            found.map(|Group { offsets, members }| members.subscribed().map(|subscribed| (offsets, subscribed)));
        let response = match found {
            Some(Ok((offsets, subscribed))) => offsets.delete(ctx, request, |topic| subscribed.may_be_to(topic)),
            Some(Err(code)) => OffsetDeleteResponse { error_code: code as i16, ..OffsetDeleteResponse::default() },
            None => {
                let code = if name.is_empty() { ErrorCode::InvalidGroupId } else { ErrorCode::GroupIdNotFound };
                OffsetDeleteResponse { error_code: code as i16, ..OffsetDeleteResponse::default() }
            }
        };
        self.forget_if_gone(&request.group_id);
        response
    }

    /// A part of what OffsetFetch asks of one group, from where the part before ended: about `budget` offsets are looked
    /// at. Adds it to the answer; where the group declines, that is the whole answer. Returns where the next part begins.
    pub fn fetch_offsets(
        &self,
        with: &Surroundings<'_>,
        version: i16,
        request: &OffsetFetchRequestGroup,
        from: Option<FetchStop>,
        budget: &mut usize,
        answer: &mut OffsetFetchResponseGroup,
    ) -> Option<FetchStop> {
        let nothing = Offsets::default();
        let group = self.groups.get(&request.group_id);
        let admitted = match group.map(|group| &group.members) {
            Some(Members::Consumer(group)) => group.admit_fetch(request.member_id.as_ref(), request.member_epoch),
            // Members of a classic group do not say who they are.
            Some(Members::Classic(_)) | None => Ok(()),
        };
        if let Err(code) = admitted {
            (answer.error_code, answer.topics) = (code as i16, Vec::new());
            return None;
        }
        // A group that is not there is one without offsets.
        let offsets = group.map_or(&nothing, |group| &group.offsets);
        offsets.fetch(with.topics, version, request, from, budget, &mut answer.topics)
    }

    /// One group of DescribeGroups, in `version`.
    pub fn describe(&self, version: i16, group: &Str) -> DescribedGroup {
        match self.groups.get(group).map(|group| &group.members) {
            Some(Members::Classic(group)) => group.describe(version),
            Some(Members::Consumer(group)) => group.describe_classic(version),
            // Before KIP-1043, a group that is not there was no error.
            None => DescribedGroup {
                error_code: if version >= 6 { ErrorCode::GroupIdNotFound as i16 } else { 0 },
                error_message: (version >= 6).then(|| Str::from(is_not_there(group))),
                group_id: group.clone(),
                group_state: Str::from_static("Dead"),
                ..DescribedGroup::default()
            },
        }
    }

    /// One group of ConsumerGroupDescribe.
    pub fn describe_consumer(&self, with: &Surroundings<'_>, group: &Str) -> consumer_describe::DescribedGroup {
        let (code, message) = match self.groups.get(group).map(|group| &group.members) {
            _ if group.is_empty() => (ErrorCode::InvalidGroupId, None),
            Some(Members::Consumer(group)) => return group.describe(with.settings, with.topics),
            Some(Members::Classic(_)) => (ErrorCode::GroupIdNotFound, Some(is_no(CONSUMER, group))),
            None => (ErrorCode::GroupIdNotFound, Some(is_not_there(group))),
        };
        consumer_describe::DescribedGroup {
            error_code: code as i16,
            error_message: message.map(Str::from),
            group_id: group.clone(),
            ..consumer_describe::DescribedGroup::default()
        }
    }

    /// One group of DeleteGroups, `budget` of its offsets at most. Where it has more, there is no answer yet, and the
    /// caller is to go on before anybody else asks for the group.
    pub fn delete(&mut self, with: &mut Surroundings<'_>, group: &Str, budget: usize) -> Option<ErrorCode> {
        let Some(found) = self.groups.get_mut(group) else { return Some(ErrorCode::GroupIdNotFound) };
        if !found.members.is_empty() {
            return Some(ErrorCode::NonEmptyGroup);
        }
        let ctx = &mut lend(&mut self.timers, with);
        if !found.offsets.clear(ctx, group, budget) {
            return None;
        }
        found.members.delete(ctx);
        self.remove(group);
        Some(ErrorCode::None)
    }

    /// After members may have come or gone: the group becomes a classic one, or none, where that is due.
    fn settle(&mut self, with: &mut Surroundings<'_>, name: &Str) {
        let ctx = &mut lend(&mut self.timers, with);
        if let Some(group) = self.groups.get_mut(name) {
            downgrade_if_due(ctx, name, &mut group.members);
        }
        self.forget_if_gone(name);
    }

    /// Forgets a group of which nothing is left.
    fn forget_if_gone(&mut self, name: &Str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if !group.members.is_forgettable() {
            return;
        }
        if group.offsets.is_empty() {
            self.remove(name);
        } else if let Members::Consumer(_) = group.members {
            // What only has offsets is a classic group, as a load would make it.
            self.timers.cancel_all(name, |_| false);
            group.members = Members::Classic(classic::Group::new(name.detached()));
        }
    }

    fn remove(&mut self, name: &Str) {
        self.groups.remove(name);
        self.timers.cancel_all(name, |_| false);
    }
}

/// What is asked of a JoinGroup before anybody looks for the group.
fn may_join(settings: &Settings, request: &JoinGroupRequest) -> Result<(), ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let sessions = settings.group_min_session_timeout.as_millis()..=settings.group_max_session_timeout.as_millis();
    match u128::try_from(request.session_timeout_ms) {
        Ok(session) if sessions.contains(&session) => Ok(()),
        _ => Err(ErrorCode::InvalidSessionTimeout),
    }
}

fn refuse_join(ctx: &mut Context<'_>, to: ReplyTo, code: ErrorCode, member_id: Str) {
    ctx.reply(to, JoinGroupResponse { error_code: code as i16, member_id, ..JoinGroupResponse::default() });
}

fn refusal(code: ErrorCode, message: &str) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: code as i16,
        error_message: Some(Str::from(message)),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

/// LeaveGroup to a group that is not there: it is each member's error, not the group's.
fn nobody_leaves(version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let error_code = ErrorCode::UnknownMemberId as i16;
    if version < 3 {
        return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
    }
    let nobody = |member: crate::wire::leave_group::MemberIdentity| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code,
    };
    LeaveGroupResponse { members: request.members.into_iter().map(nobody).collect(), ..LeaveGroupResponse::default() }
}

fn is_not_there(group: &Str) -> String {
    format!("Group {group} not found.")
}

fn is_no(kind: &str, group: &Str) -> String {
    format!("Group {group} is not a {kind} group.")
}
