//! Members that use the classic protocol in a group of the next one, while it is upgraded or downgraded.
//!
//! Such a member's epoch is its generation. When it is to take a step its heartbeat is answered REBALANCE_IN_PROGRESS;
//! it joins again with what it owns, which is a heartbeat in other words, and fetches what it may own with SyncGroup.
//! It never leads: the coordinator assigns. It has its rebalance timeout to join again, and once more to fetch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::boundary::{Client, ReplyTo};
use crate::group::classic::{PROTOCOLS_MAX, names_protocol};
use crate::group::protocol::{
    self, ConsumerProtocolAssignment, ConsumerProtocolSubscription, PROTOCOL_TYPE, TopicPartition,
};
use crate::group::{Context, Timer, TimerKind};
use crate::ids::TopicId;
use crate::time::Instant;
use crate::wire::consumer_group_heartbeat::TopicPartitions;
use crate::wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::{ErrorCode, Str};

use super::Group;
use super::assigning::{Asks, Made, Waiting};
use super::departure::milliseconds;
use super::heartbeat::{Change, Sender, bytes_of};
use super::member::{About, Classic, Member, Owned, State, protocols_of, topics_of};
use super::refusal::Refusal;

/// The first version of JoinGroup whose members must come back with the id that they are given (KIP-394).
const ID_REQUIRED_VERSION: i16 = 4;
/// The first version of JoinGroup in which the name of a protocol may be null.
const NULL_PROTOCOL_VERSION: i16 = 7;
/// The first version of LeaveGroup that removes several members.
const SEVERAL_LEAVE_VERSION: i16 = 3;

impl Group {
    /// JoinGroup of a member that uses the classic protocol. The next three likewise.
    pub fn join_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, client: &Client, request: JoinGroupRequest) {
        let asked_as = request.member_id.clone();
        match self.joined(ctx, to, client, request) {
            Ok(Some(answer)) => ctx.reply(to, answer),
            Ok(None) => {}
            Err((code, id)) => ctx.reply(to, join_refused(to.version, code, id.unwrap_or(asked_as))),
        }
    }

    /// The answer to a JoinGroup, unless it waits for an assignment that is being made; an error comes with the id that the
    /// member is given, if it is given one.
    fn joined(
        &mut self,
        ctx: &mut Context<'_>,
        to: ReplyTo,
        client: &Client,
        request: JoinGroupRequest,
    ) -> Result<Option<JoinGroupResponse>, (ErrorCode, Option<Str>)> {
        let refused = |refusal: Refusal| (refusal.code, None);
        let session = milliseconds(request.session_timeout_ms);
        if session < ctx.settings.group_min_session_timeout || session > ctx.settings.group_max_session_timeout {
            return Err((ErrorCode::InvalidSessionTimeout, None));
        }
        if request.protocols.len() > PROTOCOLS_MAX {
            return Err((ErrorCode::InvalidRequest, None));
        }
        let has_no_id = request.member_id.is_empty();
        let id = if has_no_id { Str::from(ctx.rng.uuid().to_string()) } else { request.member_id.detached() };
        self.check_room(ctx.settings, &id).map_err(refused)?;
        if !self.supports(&request) {
            return Err((ErrorCode::InconsistentGroupProtocol, None));
        }
        if has_no_id && request.group_instance_id.is_none() && to.version >= ID_REQUIRED_VERSION {
            return Err((ErrorCode::MemberIdRequired, Some(id)));
        }
        let sender = self.classic_sender(&id, request.group_instance_id.as_ref(), has_no_id).map_err(refused)?;
        // All protocols of a member subscribe to the same.
        let metadata = request.protocols.first().map(|protocol| &protocol.metadata).cloned().unwrap_or_default();
        let subscription =
            ConsumerProtocolSubscription::from_bytes(&metadata).map_err(|_| (ErrorCode::UnknownServerError, None))?;
        let before = self.origin(&id, &sender).map(|origin| &origin.about);
        let about = classic_about(before, client, &request, &subscription);
        if bytes_of(&about) > ctx.settings.record_bytes_max {
            return Err((ErrorCode::UnknownServerError, None));
        }

        let change = Change::of(before, &about);
        let wait = milliseconds(about.rebalance_timeout_ms);
        if let Sender::InPlaceOf(other) = &sender {
            self.replace(ctx, other, &id);
        }
        let claimed = self.claimed(ctx, &subscription);
        self.settle_subscription(ctx, &id, about, change);
        self.renew_session(ctx, &id);
        let protocol = request.protocols.first().map(|protocol| protocol.name.detached());
        if self.assign(ctx).map_err(refused)? == Made::Soon {
            ctx.timers.cancel(&self.timer_of(TimerKind::Revocation(id.clone())));
            let (claimed, asks) = (Some(claimed), Asks::Join { protocol, wait });
            self.wait_for_assignment(Waiting { to, member: id, claimed, subscription_changed: change.any(), asks });
            return Ok(None);
        }
        self.rejoined(ctx, &id, Some(&claimed), change.any(), protocol, wait).map(Some).map_err(refused)
    }

    /// The answer to a JoinGroup of a member, as the assignment in force has it; it is to sync within `wait`.
    pub(super) fn rejoined(
        &mut self,
        ctx: &mut Context<'_>,
        id: &Str,
        claimed: Option<&[TopicPartitions]>,
        subscription_changed: bool,
        protocol_name: Option<Str>,
        wait: Duration,
    ) -> Result<JoinGroupResponse, Refusal> {
        self.reconcile(ctx, id, claimed, subscription_changed)?;
        ctx.timers.cancel(&self.timer_of(TimerKind::Revocation(id.clone())));
        ctx.call_after(&self.name, TimerKind::Pending(id.clone()), wait);
        Ok(JoinGroupResponse {
            generation_id: self.members[id].current.epoch,
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name,
            member_id: id.clone(),
            ..JoinGroupResponse::default()
        })
    }

    /// SyncGroup.
    pub fn sync_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: SyncGroupRequest) {
        let answer = self
            .synced(ctx, to.version, request)
            .unwrap_or_else(|code| SyncGroupResponse { error_code: code as i16, ..SyncGroupResponse::default() });
        ctx.reply(to, answer);
    }

    fn synced(
        &mut self,
        ctx: &mut Context<'_>,
        version: i16,
        request: SyncGroupRequest,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        if !names_protocol(version, &request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let id = &request.member_id;
        let (member, classic) = self.classic_member(id, request.group_instance_id.as_ref())?;
        if member.current.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = classic.protocols.first();
        if request.protocol_type.as_ref().is_some_and(|name| *name != PROTOCOL_TYPE)
            || request.protocol_name.as_ref().is_some_and(|name| protocol.is_none_or(|(chosen, _)| name != chosen))
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that is giving something up has joined since the epoch began: it is asked again when it is done.
        if self.epoch > member.current.epoch && member.current.state != State::Unrevoked {
            self.await_join(ctx, id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let version = protocol.and_then(|(_, metadata)| protocol::version(metadata).ok()).unwrap_or(0);
        let assignment = assignment_of(ctx, &member.current.assigned, version);
        ctx.timers.cancel(&self.timer_of(TimerKind::Pending(id.clone())));
        self.renew_session(ctx, id);
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type,
            protocol_name: request.protocol_name,
            assignment,
            ..SyncGroupResponse::default()
        })
    }

    /// Heartbeat.
    pub fn heartbeat_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: HeartbeatRequest) {
        let code = self.beat(ctx, &request).err().unwrap_or(ErrorCode::None);
        ctx.reply(to, HeartbeatResponse { error_code: code as i16, ..HeartbeatResponse::default() });
    }

    fn beat(&mut self, ctx: &mut Context<'_>, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        let id = &request.member_id;
        let (member, _) = self.classic_member(id, request.group_instance_id.as_ref())?;
        if member.current.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let is_behind = self.epoch > member.current.epoch;
        let must_join = is_behind
            || match member.current.state {
                State::Unrevoked => true,
                State::Unreleased => !self.waits_for_others(id, member),
                State::Stable | State::Unknown => false,
            };
        self.renew_session(ctx, id);
        if must_join {
            self.await_join(ctx, id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// LeaveGroup. Operators remove members by it, whichever protocol those use.
    pub fn leave_classic(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: LeaveGroupRequest) {
        let mut gone = BTreeSet::new();
        let identities = if to.version < SEVERAL_LEAVE_VERSION {
            vec![MemberIdentity { member_id: request.member_id, ..MemberIdentity::default() }]
        } else {
            request.members
        };
        let mut members = Vec::with_capacity(identities.len());
        for MemberIdentity { member_id, group_instance_id, .. } in identities {
            let error = match self.leaver(&member_id, group_instance_id.as_ref()) {
                Ok(leaver) => {
                    gone.insert(leaver);
                    ErrorCode::None
                }
                Err(code) => code,
            };
            // As it was asked: Java's admin client looks its answers up by both.
            members.push(MemberResponse { member_id, group_instance_id, error_code: error as i16 });
        }
        self.depart(ctx, &gone);
        let answer = if to.version < SEVERAL_LEAVE_VERSION {
            let error_code = members.first().map_or(0, |member| member.error_code);
            LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
        } else {
            LeaveGroupResponse { members, ..LeaveGroupResponse::default() }
        };
        ctx.reply(to, answer);
    }

    /// The member that is to leave: static ones may be removed by their names alone.
    fn leaver(&self, id: &Str, instance: Option<&Str>) -> Result<Str, ErrorCode> {
        let id = match instance {
            Some(instance) if id.is_empty() => self.instances.get(instance).ok_or(ErrorCode::UnknownMemberId)?,
            Some(instance) => self.check_instance(instance, id).map(|()| id).map_err(|refusal| refusal.code)?,
            None => id,
        };
        self.members.get_key_value(id).map(|(own, _)| own.clone()).ok_or(ErrorCode::UnknownMemberId)
    }

    /// A member of the classic protocol that has not fetched what it was given.
    pub(super) fn sync_due(&mut self, ctx: &mut Context<'_>, id: &Str) {
        if self.members.get(id).is_some_and(Member::is_classic) {
            self.depart(ctx, &BTreeSet::from([id.clone()]));
        }
    }

    /// Whether a member can take part: by the consumers' protocol, in a way that all classic members know.
    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if request.protocol_type != PROTOCOL_TYPE || request.protocols.is_empty() {
            return false;
        }
        request.protocols.iter().any(|protocol| self.is_supported_by_all(&protocol.name))
    }

    /// Whether all members of the classic protocol support a protocol of their clients.
    pub(super) fn is_supported_by_all(&self, protocol: &Str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.classic_members
    }

    fn classic_sender(&self, id: &Str, instance: Option<&Str>, has_no_id: bool) -> Result<Sender, Refusal> {
        let known = || if self.members.contains_key(id) { Sender::Known } else { Sender::New };
        match instance {
            None => Ok(known()),
            Some(instance) if has_no_id => match self.instances.get(instance) {
                Some(other) => Ok(Sender::InPlaceOf(other.clone())),
                None => Ok(Sender::New),
            },
            Some(instance) => self.check_instance(instance, id).map(|()| Sender::Known),
        }
    }

    fn classic_member(&self, id: &Str, instance: Option<&Str>) -> Result<(&Member, &Classic), ErrorCode> {
        if let Some(instance) = instance {
            self.check_instance(instance, id).map_err(|refusal| refusal.code)?;
        }
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        let classic = member.about.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        Ok((member, classic))
    }

    /// A member is told to join again, and has its rebalance timeout for it from when it is told first.
    fn await_join(&self, ctx: &mut Context<'_>, id: &Str) {
        let Some((id, member)) = self.members.get_key_value(id) else { return };
        let timer = self.timer_of(TimerKind::Revocation(id.clone()));
        if ctx.timers.is_set(&timer).is_none() {
            let at: Instant = ctx.now.instant + milliseconds(member.about.rebalance_timeout_ms);
            ctx.timers.set(timer, at);
        }
    }

    /// Whether something that a member is to own is still another's.
    fn waits_for_others(&self, id: &Str, member: &Member) -> bool {
        self.targets.get(id).into_iter().flat_map(|target| target.iter()).any(|(topic, partitions)| {
            let assigned = member.current.assigned.get(topic);
            let has = |partition| assigned.is_some_and(|assigned| assigned.contains_key(partition));
            partitions.iter().any(|partition| !has(partition) && self.is_taken(*topic, *partition, id))
        })
    }

    /// What a member says that it owns, by the topics' ids.
    fn claimed(&self, ctx: &Context<'_>, subscription: &ConsumerProtocolSubscription) -> Vec<TopicPartitions> {
        let topic = |owned: &TopicPartition| {
            let (topic_id, _) = ctx.topics.by_name(&owned.topic)?;
            Some(TopicPartitions { topic_id, partitions: owned.partitions.clone() })
        };
        subscription.owned_partitions.iter().filter_map(topic).collect()
    }

    fn timer_of(&self, kind: TimerKind) -> Timer {
        Timer { group: self.name.clone(), kind }
    }
}

/// A JoinGroup of `version` that is declined.
pub(super) fn join_refused(version: i16, code: ErrorCode, member_id: Str) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code as i16,
        member_id,
        protocol_name: (version < NULL_PROTOCOL_VERSION).then_some(Str::EMPTY),
        ..JoinGroupResponse::default()
    }
}

/// What a member of the classic protocol is after a JoinGroup.
fn classic_about(
    before: Option<&About>,
    client: &Client,
    request: &JoinGroupRequest,
    subscription: &ConsumerProtocolSubscription,
) -> About {
    let rack = subscription.rack_id.as_ref().filter(|rack| !rack.is_empty());
    About {
        instance_id: request
            .group_instance_id
            .as_ref()
            .map(Str::detached)
            .or(before.and_then(|before| before.instance_id.clone())),
        rack_id: rack.map(Str::detached).or(before.and_then(|before| before.rack_id.clone())),
        client: Client { id: client.id.detached(), host: client.host.detached() },
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => request.session_timeout_ms,
            said => said,
        },
        topics: topics_of(&subscription.topics),
        regex: None,
        assignor: before.and_then(|before| before.assignor.clone()),
        classic: Some(Classic {
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols_of(request.protocols.iter().map(|protocol| (&protocol.name, &protocol.metadata))),
        }),
    }
}

/// What a member may own, in the words of the consumers' protocol.
pub(super) fn assignment_of(ctx: &Context<'_>, owned: &Owned, version: i16) -> Bytes {
    let topic = |(id, partitions): (&TopicId, &BTreeMap<i32, i32>)| {
        let (name, _) = ctx.topics.by_id(*id)?;
        Some(TopicPartition { topic: name.clone(), partitions: partitions.keys().copied().collect() })
    };
    let assigned_partitions = owned.iter().filter_map(topic).collect();
    ConsumerProtocolAssignment { assigned_partitions, user_data: None }.to_bytes(version)
}
