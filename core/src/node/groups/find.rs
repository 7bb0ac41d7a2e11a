//! FindCoordinator 0-6 (KIP-98, KIP-699, KIP-932): who coordinates a group. The first question about a group creates
//! `__consumer_offsets`.

use super::Node;
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::controller::GROUP_OFFSETS;
use crate::ids::TopicPartition;
use crate::node::metadata::Then;
use crate::time::Now;
use crate::wire::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::{ErrorCode, Response, Str};

/// What a coordinator may be of.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// From this version on a request names several keys.
const SEVERAL_FROM: i16 = 4;

impl Node {
    pub(in crate::node) fn find_coordinator(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: FindCoordinatorRequest,
        out: &mut Outbox,
    ) {
        let is_missing = request.key_type == GROUP && self.groups.topic.is_none();
        if is_missing && !self.stopping {
            let names = [Str::from_static(GROUP_OFFSETS)];
            return self.create_missing(now, to, &names, Then::Coordinator(request), out);
        }
        self.tell_coordinator(to, request, out);
    }

    /// Answers with the coordinators that there are.
    pub(in crate::node) fn tell_coordinator(&mut self, to: ReplyTo, request: FindCoordinatorRequest, out: &mut Outbox) {
        let response = if to.version < SEVERAL_FROM {
            let Coordinator { node_id, host, port, error_code, error_message, .. } =
                self.coordinator_of(to, request.key_type, request.key);
            // In these versions Kafka always has one.
            let error_message = error_message.or(Some(Str::from_static(match error_code {
                0 => "NONE",
                _ => "The coordinator is not available.",
            })));
            FindCoordinatorResponse {
                node_id,
                host,
                port,
                error_code,
                error_message,
                ..FindCoordinatorResponse::default()
            }
        } else {
            let keys = request.coordinator_keys.into_iter();
            let coordinators = keys.map(|key| self.coordinator_of(to, request.key_type, key)).collect();
            FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() }
        };
        out.push(Effect::Reply { to, response: Some(Response::FindCoordinator(response)) });
    }

    fn coordinator_of(&self, to: ReplyTo, key_type: i8, key: Str) -> Coordinator {
        let found = match key_type {
            GROUP => self.group_coordinator_of(to, &key),
            // To librdkafka only this error and that of the cluster's authorization are fatal here, and it asks anew twice
            // a second after any other, for as long as its application waits; it shows our message. To the Java client
            // this one is fatal by name, as is every error that is not retriable, but it shows its own message.
            TRANSACTION => Err((
                ErrorCode::TransactionalIdAuthorizationFailed,
                Some(Str::from_static("transactions are not served by this broker")),
            )),
            _ => Err((ErrorCode::InvalidRequest, None)),
        };
        match found {
            Ok((node_id, host, port)) => Coordinator { key, node_id, host, port, ..Coordinator::default() },
            Err((code, error_message)) => {
                Coordinator { key, node_id: -1, host: Str::EMPTY, port: -1, error_code: code.into(), error_message }
            }
        }
    }

    fn group_coordinator_of(&self, to: ReplyTo, group: &Str) -> Result<(i32, Str, i32), (ErrorCode, Option<Str>)> {
        let unavailable = (ErrorCode::CoordinatorNotAvailable, None);
        let partition = self.partition_of(group).ok_or_else(|| unavailable.clone())?;
        let id = TopicPartition { topic: self.groups.topic.ok_or_else(|| unavailable.clone())?, partition };
        let image = self.controller.image();
        let leader = image.partition(id).and_then(|state| image.broker(state.leader?));
        let broker = leader.filter(|_| !self.damaged.contains(&id)).ok_or_else(|| unavailable.clone())?;
        let address = broker.address(self.listener(to)).ok_or(unavailable)?;
        Ok((broker.node_id.0, address.host.clone(), i32::from(address.port)))
    }
}
