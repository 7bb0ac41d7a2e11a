//! ConsumerGroupHeartbeat: a member joins, stays, tells what it owns, is told what it may own, leaves.
//!
//! Everything that may refuse a heartbeat is looked at before anything is decided. Whether an expression in it is a valid
//! one is known before it comes here.

use std::collections::BTreeSet;

use crate::boundary::{Client, ReplyTo};
use crate::group::record::{Key, Value};
use crate::group::{Context, Settings};
use crate::wire::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::wire::{ErrorCode, Str};

use super::Group;
use super::assigning::{Asks, Made, Waiting};
use super::member::{
    About, Current, JOIN_EPOCH, LEAVE_EPOCH, Member, Owned, Partitions, STATIC_LEAVE_EPOCH, regex_of, target_value,
    topics_of,
};
use super::reconcile::Reconciliation;
use super::refusal::Refusal;
use super::regex::RECORD_OVERHEAD_BYTES;

/// From this version on clients make their members' ids (KIP-1082).
const CLIENT_MADE_ID_VERSION: i16 = 1;

/// Which member a heartbeat, or a request of the classic protocol, is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// One that is there.
    Known,
    /// One that joins.
    New,
    /// One that takes the place of the static member with this id.
    InPlaceOf(Str),
}

impl Group {
    /// ConsumerGroupHeartbeat.
    pub fn heartbeat(
        &mut self,
        ctx: &mut Context<'_>,
        to: ReplyTo,
        client: &Client,
        request: ConsumerGroupHeartbeatRequest,
    ) {
        let answer = check(ctx.settings, to.version, &request).and_then(|()| match request.member_epoch {
            LEAVE_EPOCH | STATIC_LEAVE_EPOCH => self.leave(ctx, &request).map(Some),
            _ => self.stay(ctx, to, client, request),
        });
        if let Some(answer) = answer.unwrap_or_else(|refusal| Some(refusal.into())) {
            ctx.reply(to, answer);
        }
    }

    fn leave(
        &mut self,
        ctx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let id = &request.member_id;
        match &request.instance_id {
            None => {
                self.member(id)?;
            }
            Some(instance) => self.check_instance(instance, id)?,
        }
        if request.member_epoch == STATIC_LEAVE_EPOCH {
            self.leave_for_a_while(ctx, id);
        } else {
            self.depart(ctx, &BTreeSet::from([id.detached()]));
        }
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(id.clone()),
            member_epoch: request.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    /// A static member stops, and is expected back before its session ends: what it is to own stays its own.
    fn leave_for_a_while(&mut self, ctx: &mut Context<'_>, id: &Str) {
        let Some((id, member)) = self.members.get_key_value(id) else { return };
        let id = id.clone();
        let current = Current { epoch: STATIC_LEAVE_EPOCH, revoking: Owned::new(), ..member.current.clone() };
        self.decide_current(ctx, &id, &current);
        self.time_revocation(ctx, &id);
        // What it asked before would bring it to the next epoch, and nobody could come back under its name.
        self.refuse_waiting(ctx, &id);
    }

    /// The answer, unless it waits for an assignment that is being made.
    fn stay(
        &mut self,
        ctx: &mut Context<'_>,
        to: ReplyTo,
        client: &Client,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Result<Option<ConsumerGroupHeartbeatResponse>, Refusal> {
        let id = if request.member_id.is_empty() {
            Str::from(ctx.rng.uuid().to_string())
        } else {
            request.member_id.detached()
        };
        let sender = self.sender(ctx.settings, &id, &request)?;
        let is_as_before = sender == Sender::Known && says_nothing_new(&self.members[&id].about, client, &request);
        let subscription_changed = !is_as_before && self.take_news(ctx, &id, sender, client, &request)?;
        self.renew_session(ctx, &id);
        self.check_expression(&id)?;
        // A full request has all that only a first request must have; it is also sent after an answer was lost.
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let tells = request.member_epoch == JOIN_EPOCH || is_full;
        if self.assign(ctx)? == Made::Soon {
            let (claimed, asks) = (request.topic_partitions, Asks::Heartbeat { tells });
            self.wait_for_assignment(Waiting { to, member: id, claimed, subscription_changed, asks });
            return Ok(None);
        }
        self.beaten(ctx, &id, request.topic_partitions.as_deref(), subscription_changed, tells).map(Some)
    }

    /// The answer to a heartbeat of a member, as the assignment in force has it; it says what the member may own where
    /// that changes, or where it `tells` in any case.
    pub(super) fn beaten(
        &mut self,
        ctx: &mut Context<'_>,
        id: &Str,
        claimed: Option<&[TopicPartitions]>,
        subscription_changed: bool,
        tells: bool,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let is_given_or_taken = self.reconcile(ctx, id, claimed, subscription_changed)?;
        let current = &self.members[id].current;
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(id.clone()),
            member_epoch: current.epoch,
            heartbeat_interval_ms: i32::try_from(ctx.settings.consumer_heartbeat_interval.as_millis())
                .unwrap_or(i32::MAX),
            assignment: (tells || is_given_or_taken).then(|| Assignment { topic_partitions: told(&current.assigned) }),
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    /// Takes what a member newly says about itself, one that joins too. Returns whether its subscription changes.
    fn take_news(
        &mut self,
        ctx: &mut Context<'_>,
        id: &Str,
        sender: Sender,
        client: &Client,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<bool, Refusal> {
        let before = self.origin(id, &sender).map(|origin| &origin.about);
        let about = about(before, client, request);
        let change = Change::of(before, &about);
        if bytes_of(&about) > ctx.settings.record_bytes_max {
            // What Kafka answers when a record does not fit.
            return Err(Refusal::new(ErrorCode::UnknownServerError, "The member's subscription is too large."));
        }
        if let Sender::InPlaceOf(other) = &sender {
            self.replace(ctx, other, id);
        }
        self.settle_subscription(ctx, id, about, change);
        Ok(change.any())
    }

    /// Who a sender is so far: itself, or the one whose place it takes.
    pub(super) fn origin(&self, id: &Str, sender: &Sender) -> Option<&Member> {
        match sender {
            Sender::Known => self.members.get(id),
            Sender::New => None,
            Sender::InPlaceOf(other) => self.members.get(other),
        }
    }

    /// Who sends a heartbeat that does not leave.
    fn sender(
        &self,
        settings: &Settings,
        id: &Str,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Sender, Refusal> {
        self.check_room(settings, id)?;
        let joins = request.member_epoch == JOIN_EPOCH;
        let Some(instance) = &request.instance_id else {
            return match self.members.get(id) {
                Some(member) => check_epoch(member, request).map(|()| Sender::Known),
                None if joins => Ok(Sender::New),
                None => Err(self.unknown(id)),
            };
        };
        if !joins {
            self.check_instance(instance, id)?;
            return check_epoch(&self.members[id], request).map(|()| Sender::Known);
        }
        match self.instances.get(instance).map(|other| (other, &self.members[other])) {
            None if self.members.contains_key(id) => Ok(Sender::Known),
            None => Ok(Sender::New),
            // A member of the classic protocol says nothing when it stops: whoever comes with its name takes its place.
            Some((other, member)) if !member.is_classic() && member.current.epoch != STATIC_LEAVE_EPOCH => {
                Err(Refusal::new(
                    ErrorCode::UnreleasedInstanceId,
                    format!(
                        "Static member {id} with instance id {instance} cannot join the group because the instance id \
                         is owned by {other} member."
                    ),
                ))
            }
            Some((other, _)) => Ok(Sender::InPlaceOf(other.clone())),
        }
    }

    /// Whether there is room for a member.
    pub(super) fn check_room(&self, settings: &Settings, id: &Str) -> Result<(), Refusal> {
        let most = settings.consumer_max_size;
        if self.members.len() >= most && !self.members.contains_key(id) {
            let message = format!("The consumer group has reached its maximum capacity of {most} members.");
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        Ok(())
    }

    /// Whether a member is the one behind a static name.
    pub(super) fn check_instance(&self, instance: &Str, id: &Str) -> Result<(), Refusal> {
        match self.instances.get(instance) {
            None => Err(Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))),
            Some(other) if other != id => Err(Refusal::new(
                ErrorCode::FencedInstanceId,
                format!("Static member {id} with instance id {instance} was fenced by member {other}."),
            )),
            Some(_) => Ok(()),
        }
    }

    /// A member that must be there.
    pub(super) fn member(&self, id: &Str) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| self.unknown(id))
    }

    fn unknown(&self, id: &Str) -> Refusal {
        let message = format!("Member {id} is not a member of group {}.", self.name);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    /// A static member is back under another id: it is all that the one before was, and to own the same.
    pub(super) fn replace(&mut self, ctx: &mut Context<'_>, other: &Str, id: &Str) {
        let Some(Member { about, current, .. }) = self.members.get(other).cloned() else { return };
        let target = self.targets.get(other).cloned().unwrap_or_default();
        self.remove(ctx, other);
        self.forget_timers(ctx, other);
        let (group, member) = (self.name.clone(), id.clone());
        let key = Key::Member { group: group.clone(), member: member.clone() };
        self.decide(ctx, key, Some(Value::Member(about.to_value())));
        let key = Key::TargetAssignmentMember { group, member };
        self.decide(ctx, key, Some(Value::TargetAssignmentMember(target_value(&target))));
        self.decide_current(ctx, id, &Current { epoch: 0, previous_epoch: 0, ..current });
    }

    /// What a member says about itself is so from now on; the next epoch begins if that changes who may own what.
    pub(super) fn settle_subscription(&mut self, ctx: &mut Context<'_>, id: &Str, about: About, change: Change) {
        let regex = about.regex.clone();
        if self.members.get(id).is_none_or(|member| member.about != about) {
            let key = Key::Member { group: self.name.clone(), member: id.clone() };
            self.decide(ctx, key, Some(Value::Member(about.to_value())));
        }
        let mut affects = change.topics || self.epoch == 0;
        if change.regex {
            self.forget_expressions(ctx);
            // Until it is known what a new expression means it changes nothing: the end of the lookup begins the epoch.
            affects |= regex.as_ref().is_none_or(|regex| self.resolved.contains_key(regex));
            if regex.is_some_and(|regex| !self.resolved.contains_key(&regex)) {
                self.ask_for_lookup(ctx);
            }
        }
        if affects {
            self.bump(ctx);
        }
    }

    /// Brings a member nearer to its target. Returns whether what it may own changes.
    ///
    /// # Errors
    /// Where it must begin anew.
    pub(super) fn reconcile(
        &mut self,
        ctx: &mut Context<'_>,
        id: &Str,
        claimed: Option<&[TopicPartitions]>,
        subscription_changed: bool,
    ) -> Result<bool, Refusal> {
        let member = &self.members[id];
        if !subscription_changed && member.is_reconciled_to(self.assignment_epoch) {
            return Ok(false);
        }
        let nothing = Partitions::new();
        let reconciliation = Reconciliation {
            current: &member.current,
            target: self.targets.get(id).map_or(&nothing, |target| &**target),
            target_epoch: self.assignment_epoch,
            claimed,
            subscription_changed,
        };
        let next = reconciliation.next(
            |topic| self.subscribes(ctx, &member.about, topic),
            |topic, partition| self.is_taken(topic, partition, id),
        )?;
        let is_given_or_taken = next.assigned != member.current.assigned;
        if next != member.current {
            self.decide_current(ctx, id, &next);
            self.time_revocation(ctx, id);
        }
        Ok(is_given_or_taken)
    }

    pub(super) fn decide_current(&mut self, ctx: &mut Context<'_>, id: &Str, current: &Current) {
        let key = Key::CurrentAssignment { group: self.name.clone(), member: id.clone() };
        self.decide(ctx, key, Some(Value::CurrentAssignment(current.to_value())));
    }
}

/// What of a member's subscription changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    topics: bool,
    regex: bool,
}

impl Change {
    /// From what it said before to what it says now.
    pub(super) fn of(before: Option<&About>, now: &About) -> Change {
        let nothing = About::default();
        let before_topics = before.map_or(&nothing.topics, |before| &before.topics);
        let before_regex = before.and_then(|before| before.regex.as_ref());
        Change { topics: *before_topics != now.topics, regex: before_regex != now.regex.as_ref() }
    }

    /// Whether anything does.
    pub(super) fn any(self) -> bool {
        self.topics || self.regex
    }
}

/// Whether a heartbeat leaves a member as it is. Most do, and need not look at what it subscribes to.
fn says_nothing_new(before: &About, client: &Client, request: &ConsumerGroupHeartbeatRequest) -> bool {
    let says = |said: &Option<Str>, before: &Option<Str>| said.is_some() && said != before;
    before.classic.is_none()
        && before.client == *client
        && request.subscribed_topic_names.is_none()
        && request.subscribed_topic_regex.is_none()
        && [-1, before.rebalance_timeout_ms].contains(&request.rebalance_timeout_ms)
        && !says(&request.instance_id, &before.instance_id)
        && !says(&request.rack_id, &before.rack_id)
        && !says(&request.server_assignor, &before.assignor)
}

/// What a member is after a heartbeat: what is left out is as before.
fn about(before: Option<&About>, client: &Client, request: &ConsumerGroupHeartbeatRequest) -> About {
    let before = before.cloned().unwrap_or_else(|| About { rebalance_timeout_ms: -1, ..About::default() });
    let or_before = |said: &Option<Str>, before: Option<Str>| said.as_ref().map(Str::detached).or(before);
    About {
        instance_id: or_before(&request.instance_id, before.instance_id),
        rack_id: or_before(&request.rack_id, before.rack_id),
        client: Client { id: client.id.detached(), host: client.host.detached() },
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            said => said,
        },
        topics: request.subscribed_topic_names.as_deref().map_or(before.topics, topics_of),
        regex: match &request.subscribed_topic_regex {
            None => before.regex,
            said => regex_of(said.as_ref()),
        },
        assignor: or_before(&request.server_assignor, before.assignor),
        classic: None,
    }
}

/// What a member is told to own.
fn told(owned: &Owned) -> Vec<TopicPartitions> {
    owned
        .iter()
        .map(|(topic, partitions)| TopicPartitions {
            topic_id: *topic,
            partitions: partitions.keys().copied().collect(),
        })
        .collect()
}

/// What the record of a member takes, at most.
pub(super) fn bytes_of(about: &About) -> usize {
    let text = |text: &Option<Str>| text.as_ref().map_or(0, |text| text.len());
    let protocols = about.classic.iter().flat_map(|classic| &classic.protocols);
    RECORD_OVERHEAD_BYTES
        + [&about.instance_id, &about.rack_id, &about.regex, &about.assignor].into_iter().map(text).sum::<usize>()
        + about.client.id.len()
        + about.client.host.len()
        + about.topics.iter().map(|topic| topic.len() + 5).sum::<usize>()
        + protocols.map(|(name, metadata)| name.len() + metadata.len() + 10).sum::<usize>()
}

/// Whether a request is one that a member may send, whoever it is.
fn check(settings: &Settings, version: i16, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let must_have_id =
        version >= CLIENT_MADE_ID_VERSION || request.member_epoch > 0 || request.member_epoch == LEAVE_EPOCH;
    if must_have_id && request.member_id.is_empty() {
        return Err(Refusal::invalid("MemberId can't be empty."));
    }
    if request.group_id.is_empty() {
        return Err(Refusal::invalid("GroupId can't be empty."));
    }
    if request.instance_id.as_ref().is_some_and(|id| id.is_empty()) {
        return Err(Refusal::invalid("InstanceId can't be empty."));
    }
    if request.rack_id.as_ref().is_some_and(|id| id.is_empty()) {
        return Err(Refusal::invalid("RackId can't be empty."));
    }
    match request.member_epoch {
        JOIN_EPOCH => {
            if request.rebalance_timeout_ms == -1 {
                return Err(Refusal::invalid("RebalanceTimeoutMs must be provided in first request."));
            }
            if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return Err(Refusal::invalid("TopicPartitions must be empty when (re-)joining."));
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return Err(Refusal::invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                ));
            }
        }
        STATIC_LEAVE_EPOCH if request.instance_id.is_none() => {
            return Err(Refusal::invalid("InstanceId can't be null."));
        }
        ..STATIC_LEAVE_EPOCH => return Err(Refusal::invalid("MemberEpoch is invalid.")),
        _ => {}
    }
    match &request.server_assignor {
        Some(name) if !settings.consumer_assignors.contains(&name.as_str()) => Err(Refusal::new(
            ErrorCode::UnsupportedAssignor,
            format!(
                "ServerAssignor {name} is not supported. Supported assignors: {}.",
                settings.consumer_assignors.join(", ")
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether a member says the epoch that it has. The epoch before is as good where the answer with the new one may have
/// been lost: where it owns nothing but what it has been given.
fn check_epoch(member: &Member, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let (said, current) = (request.member_epoch, &member.current);
    if said == JOIN_EPOCH || said == current.epoch {
        return Ok(());
    }
    let owns_no_more = || {
        request.topic_partitions.as_ref().is_some_and(|owned| {
            owned.iter().all(|topic| match current.assigned.get(&topic.topic_id) {
                Some(partitions) => topic.partitions.iter().all(|partition| partitions.contains_key(partition)),
                None => false,
            })
        })
    };
    if said < current.epoch && said == current.previous_epoch && owns_no_more() {
        return Ok(());
    }
    let which = if said > current.epoch { "greater" } else { "smaller" };
    Err(Refusal::new(
        ErrorCode::FencedMemberEpoch,
        format!(
            "The consumer group member has a {which} member epoch ({said}) than the one known by the group coordinator \
             ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        ),
    ))
}
