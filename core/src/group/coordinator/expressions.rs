//! Heartbeats that wait until it is known whether the regular expression in them is one.
//!
//! That is worked out beside the sequencer, since a few kilobytes from a client can make it take milliseconds. What else
//! the same member sends meanwhile waits behind, so that a join does not pass the leaving that came after it by.

use std::collections::VecDeque;

use super::group::{Group, Members};
use super::{Coordinator, Surroundings, lend, refusal};
use crate::boundary::{Client, ReplyTo};
use crate::group::consumer::refusal::Refusal;
use crate::group::question::Asked;
use crate::wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::{ErrorCode, Response, Str};

/// Heartbeats of one member, of which the first one's expression is being looked at.
#[derive(Debug)]
pub(super) struct Held {
    number: u64,
    heartbeats: VecDeque<(ReplyTo, Client, ConsumerGroupHeartbeatRequest)>,
}

impl Held {
    /// Refuses them all.
    pub(super) fn refuse(self, code: ErrorCode) -> impl Iterator<Item = (ReplyTo, Response)> {
        self.heartbeats.into_iter().map(move |(to, ..)| (to, refusal(code, code.name()).into()))
    }
}

impl Coordinator {
    /// Gives a heartbeat back unless it has to wait.
    pub(super) fn unless_held(
        &mut self,
        with: &mut Surroundings<'_>,
        to: ReplyTo,
        client: &Client,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Option<ConsumerGroupHeartbeatRequest> {
        let expression = self.unknown_expression(&request);
        if expression.is_none() && self.held.is_empty() {
            return Some(request);
        }
        let key = (request.group_id.detached(), request.member_id.detached());
        if let Some(held) = self.held.get_mut(&key) {
            held.heartbeats.push_back((to, client.clone(), request));
            return None;
        }
        let Some(expression) = expression else { return Some(request) };
        let what = Asked::Expression { member: key.1.clone(), expression };
        let number = lend(&mut self.timers, with).ask(&key.0, what);
        let heartbeats = VecDeque::from([(to, client.clone(), request)]);
        self.held.insert(key, Held { number, heartbeats });
        None
    }

    /// The expression in a heartbeat, if nobody in its group has it: what somebody has is one.
    fn unknown_expression(&self, request: &ConsumerGroupHeartbeatRequest) -> Option<Str> {
        let expression = request.subscribed_topic_regex.as_ref().filter(|expression| !expression.is_empty())?;
        let is_known = match self.groups.get(&request.group_id) {
            Some(Group { members: Members::Consumer(group), .. }) => group.has_expression(expression),
            _ => false,
        };
        (request.member_epoch >= 0 && !is_known).then(|| expression.detached())
    }

    /// It is known whether the expression in a heartbeat is one.
    pub(super) fn judged(
        &mut self,
        with: &mut Surroundings<'_>,
        key: (Str, Str),
        asked: u64,
        verdict: Result<(), Refusal>,
    ) {
        if self.held.get(&key).is_none_or(|held| held.number != asked) {
            return;
        }
        let Some(Held { mut heartbeats, .. }) = self.held.remove(&key) else { return };
        if let Some((to, client, request)) = heartbeats.pop_front() {
            match verdict {
                Ok(()) => self.take_heartbeat(with, to, &client, request),
                Err(refusal) => with.out.replies.push((to, ConsumerGroupHeartbeatResponse::from(refusal).into())),
            }
        }
        for (to, client, request) in heartbeats {
            self.consumer_heartbeat(with, to, &client, request);
        }
    }
}
