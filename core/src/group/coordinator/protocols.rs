//! How a group of one protocol becomes one of the other.

use super::group::{CONSUMER, Group, Members};
use super::{is_no, refusal};
use crate::boundary::{Client, ReplyTo};
use crate::group::{Context, Outcome, Timers, classic, consumer};
use crate::ids::{ConnId, ListenerId};
use crate::wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::{ErrorCode, Response, Str};

/// Puts `members` of one protocol, who have just come in, in the place of an empty group of the other. The tombstones of
/// that belong before what has been `written` about the new ones.
pub(super) fn replace(ctx: &mut Context<'_>, group: &mut Group, members: Members, written: usize) {
    let later = ctx.out.records.split_off(written);
    group.members.delete(ctx);
    ctx.out.records.extend(later);
    group.members = members;
}

/// Turns a classic group with members into one of the next protocol, for whoever sends this heartbeat to join it. Members
/// that wait for a generation are told to join again: the group has none of that kind any more.
///
/// # Errors
/// Where the group may not be upgraded, or would not take the member: nothing has happened then.
pub(super) fn upgrade<'a>(
    ctx: &mut Context<'_>,
    version: i16,
    client: &Client,
    request: &ConsumerGroupHeartbeatRequest,
    members: &'a mut Members,
) -> Result<&'a mut consumer::Group, ConsumerGroupHeartbeatResponse> {
    let name = &request.group_id;
    let group = match members {
        Members::Classic(group) => group,
        Members::Consumer(_) => return Err(refusal(ErrorCode::GroupIdNotFound, &is_no(CONSUMER, name))),
    };
    if !consumer::Group::may_upgrade(ctx, group) {
        return Err(refusal(ErrorCode::GroupIdNotFound, &is_no(CONSUMER, name)));
    }
    if group.size() >= ctx.settings.consumer_max_size {
        let message = format!("The consumer group has reached its maximum capacity of {} members.", group.size());
        return Err(refusal(ErrorCode::GroupMaxSizeReached, &message));
    }
    if let Some(refusal) = rehearse(ctx, version, client, request) {
        return Err(refusal);
    }
    let name = name.detached();
    ctx.timers.cancel_all(&name, |_| false);
    ctx.out.replies.extend(group.resign(ErrorCode::RebalanceInProgress));
    *members = Members::Consumer(consumer::Group::upgrade(ctx, group, name));
    match members {
        Members::Consumer(group) => Ok(group),
        Members::Classic(_) => unreachable!("it has just been upgraded"),
    }
}

/// How a group of its own would refuse a member's first heartbeat, if it would. What a heartbeat is refused for is in the
/// heartbeat, so that a client that will never be let in does not rebalance a group each time that it tries.
fn rehearse(
    ctx: &Context<'_>,
    version: i16,
    client: &Client,
    request: &ConsumerGroupHeartbeatRequest,
) -> Option<ConsumerGroupHeartbeatResponse> {
    let mut out = Outcome::default();
    let mut stage = Context {
        rng: &mut ctx.rng.clone(),
        out: &mut out,
        timers: &mut Timers::default(),
        now: ctx.now,
        settings: ctx.settings,
        topics: ctx.topics,
        log: ctx.log,
    };
    let to = ReplyTo { conn: ConnId(0), sequence: 0, version, listener: ListenerId(0) };
    consumer::Group::new(request.group_id.clone()).heartbeat(&mut stage, to, client, request.clone());
    match out.replies.pop() {
        Some((_, Response::ConsumerGroupHeartbeat(response))) if response.error_code != 0 => Some(response),
        _ => None,
    }
}

/// Turns a group of the next protocol into a classic one, where its last member of that protocol is gone and others are
/// left. They come together in a new generation: what the ones had that are gone is nobody's.
pub(super) fn downgrade_if_due(ctx: &mut Context<'_>, name: &Str, members: &mut Members) {
    let Members::Consumer(group) = members else { return };
    if !group.may_downgrade(ctx) {
        return;
    }
    // Before they are moved: whoever is not a member any more by then is told that it is unknown.
    ctx.out.replies.extend(group.resign(ErrorCode::RebalanceInProgress));
    let mut classic = group.downgrade(ctx);
    ctx.timers.cancel_all(name, |_| false);
    classic.begin(ctx);
    if classic.state() == classic::State::Stable {
        classic.rebalance(ctx);
    }
    *members = Members::Classic(classic);
}
