//! JoinGroup: a member enters a group, or its next generation.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use super::roster::{Terms, Waiting, milliseconds};
use super::{Group, Member, Seat, State, join_refused, sync_refused};
use crate::boundary::{Client, ReplyTo};
use crate::group::{Context, TimerKind};
use crate::ids::Uuid;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember};
use crate::wire::{ErrorCode, Str};

/// How long the JoinGroup of a new member waits. It knows no id and cannot heartbeat, and a client that gives up and
/// asks anew leaves one more dead member behind each time (KAFKA-7610). The figure is Kafka's.
const NEW_MEMBER_WAIT: Duration = Duration::from_secs(5 * 60);

/// How many protocols a member may name: clients have a handful, and each is counted and voted on.
pub(in crate::group) const PROTOCOLS_MAX: usize = 1_000;

/// The bytes of a member's id at most: what the older forms of strings carry.
const MEMBER_ID_BYTES_MAX: usize = i16::MAX as usize;

/// Who asks to join, on which terms.
struct Application {
    to: ReplyTo,
    client: Client,
    member_id: Str,
    instance_id: Option<Str>,
    protocol_type: Str,
    terms: Terms,
}

impl Application {
    fn new(to: ReplyTo, client: &Client, request: JoinGroupRequest) -> Application {
        // Version 0 knows one timeout for both.
        let rebalance_timeout_ms =
            if to.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        let mut names = BTreeSet::new();
        // Support is counted by name, so a name counts once.
        let protocols = request.protocols.iter().filter(|protocol| names.insert(&protocol.name));
        let own = |protocol: &JoinGroupRequestProtocol| {
            (protocol.name.detached(), Bytes::copy_from_slice(&protocol.metadata))
        };
        Application {
            to,
            client: Client { id: client.id.detached(), host: client.host.detached() },
            member_id: request.member_id.detached(),
            instance_id: request.group_instance_id.map(|instance| instance.detached()),
            protocol_type: request.protocol_type.detached(),
            terms: Terms {
                protocols: protocols.map(own).collect(),
                rebalance_timeout_ms,
                session_timeout_ms: request.session_timeout_ms,
            },
        }
    }

    fn refuse(&self, ctx: &mut Context<'_>, code: ErrorCode) {
        ctx.reply(self.to, join_refused(self.member_id.clone(), code));
    }

    fn into_member(self, id: Str) -> Member {
        Member {
            id,
            instance_id: self.instance_id,
            client: self.client,
            rebalance_timeout_ms: self.terms.rebalance_timeout_ms,
            session_timeout_ms: self.terms.session_timeout_ms,
            protocols: self.terms.protocols,
            assignment: Bytes::new(),
        }
    }
}

impl Group {
    /// JoinGroup. The answer comes when all members have joined, or those that have not are out of time; at once where
    /// the member is in the generation already.
    pub fn join(&mut self, ctx: &mut Context<'_>, to: ReplyTo, client: &Client, request: JoinGroupRequest) {
        if request.protocols.len() > PROTOCOLS_MAX {
            return ctx.reply(to, join_refused(request.member_id, ErrorCode::InvalidRequest));
        }
        if bytes_of(&request.protocols) > ctx.settings.record_bytes_max {
            // No record would hold what is kept of it, and whoever shares its generation would be told so again and again.
            return ctx.reply(to, join_refused(request.member_id, ErrorCode::UnknownServerError));
        }
        let application = Application::new(to, client, request);
        let session = milliseconds(application.terms.session_timeout_ms);
        if session < ctx.settings.group_min_session_timeout || session > ctx.settings.group_max_session_timeout {
            return application.refuse(ctx, ErrorCode::InvalidSessionTimeout);
        }
        if !self.has_room(ctx, &application.member_id) {
            self.remove(ctx, &application.member_id);
            ctx.reply(to, join_refused(Str::EMPTY, ErrorCode::GroupMaxSizeReached));
            // Nobody waits for the one who was turned away.
            return self.complete_join_if_all_have(ctx);
        }
        if !self.supports(&application) {
            return application.refuse(ctx, ErrorCode::InconsistentGroupProtocol);
        }
        if application.member_id.is_empty() { self.join_new(ctx, application) } else { self.rejoin(ctx, application) }
    }

    /// Whether one more may join. In a rebalance those count that have joined it, not the members of before: so a group
    /// shrinks to a size that was lowered, and the last to come back are turned away.
    fn has_room(&self, ctx: &Context<'_>, id: &Str) -> bool {
        let seat = self.roster.seat(id);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                seat.is_some_and(Seat::is_joining) || self.roster.joining() < ctx.settings.group_max_size
            }
            State::CompletingRebalance | State::Stable => {
                seat.is_some() || self.roster.len() < ctx.settings.group_max_size
            }
        }
    }

    fn supports(&self, application: &Application) -> bool {
        let Application { protocol_type, terms, .. } = application;
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !terms.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(protocol_type) && self.roster.all_support_one_of(&terms.protocols)
    }

    /// Somebody without an id: gets one.
    fn join_new(&mut self, ctx: &mut Context<'_>, application: Application) {
        let id = member_id(application.instance_id.as_ref().unwrap_or(&application.client.id), ctx.rng.uuid());
        if id.len() > MEMBER_ID_BYTES_MAX {
            return application.refuse(ctx, ErrorCode::InvalidRequest);
        }
        if let Some(instance) = &application.instance_id {
            match self.roster.named(instance).cloned() {
                Some(old) => self.replace(ctx, application, &old, id),
                None => self.admit(ctx, application, id),
            }
        } else if application.to.version >= 4 {
            // The client is to learn its id before it waits: one that then gives up does not leave a member behind
            // (KIP-394).
            let session = milliseconds(application.terms.session_timeout_ms);
            ctx.call_after(&self.name, TimerKind::Pending(id.clone()), session);
            self.pending.insert(id.clone());
            ctx.reply(application.to, join_refused(id, ErrorCode::MemberIdRequired));
        } else {
            self.admit(ctx, application, id);
        }
    }

    /// Somebody with an id: a member, or on the way to become one.
    fn rejoin(&mut self, ctx: &mut Context<'_>, application: Application) {
        let id = application.member_id.clone();
        if self.pending.contains(&id) {
            if application.instance_id.is_some() {
                // Only dynamic members are given an id in advance. Kafka trips over this, and says so.
                return application.refuse(ctx, ErrorCode::UnknownServerError);
            }
            return self.admit(ctx, application, id);
        }
        if let Err(code) = self.roster.recognise(&id, application.instance_id.as_ref()) {
            return application.refuse(ctx, code);
        }
        let has_news = self.roster.seat(&id).is_some_and(|seat| seat.member.protocols != application.terms.protocols);
        let is_in_generation = match self.state {
            // The answer may have been lost.
            State::CompletingRebalance => !has_news,
            // The leader joins again when the assignment is to be made anew, for topics that have changed.
            State::Stable => !has_news && !self.roster.is_leader(&id),
            State::PreparingRebalance => false,
            State::Empty | State::Dead => return application.refuse(ctx, ErrorCode::UnknownMemberId),
        };
        if is_in_generation {
            let response = self.generation_for(&id);
            return ctx.reply(application.to, response);
        }
        self.roster.renew(&id, application.terms);
        self.wait_to_join(ctx, &id, application.to);
        self.rebalance_or_complete(ctx);
    }

    /// A new member.
    fn admit(&mut self, ctx: &mut Context<'_>, application: Application, id: Str) {
        if self.pending.remove(&id) {
            self.cancel(ctx, TimerKind::Pending(id.clone()));
        }
        if let Some(first) = &mut self.first {
            first.has_grown = true;
        }
        if self.roster.is_empty() {
            self.protocol_type = Some(application.protocol_type.clone());
        }
        let to = application.to;
        let mut seat = Seat::new(application.into_member(id.clone()));
        seat.is_new = true;
        self.roster.insert(seat);
        self.wait_to_join(ctx, &id, to);
        self.extend_session(ctx, &id, NEW_MEMBER_WAIT);
        self.rebalance_or_complete(ctx);
    }

    /// A static member comes back without its id: it takes over from itself.
    fn replace(&mut self, ctx: &mut Context<'_>, application: Application, old: &Str, new: Str) {
        let Application { to, terms, .. } = application;
        let led_by = self.roster.leader().cloned();
        let waiting = self.rename(ctx, old, &new);
        if let Some(to) = waiting.joining {
            ctx.reply(to, join_refused(old.clone(), ErrorCode::FencedInstanceId));
        }
        if let Some(to) = waiting.syncing {
            ctx.reply(to, sync_refused(ErrorCode::FencedInstanceId));
        }
        let before = self.roster.renew(&new, terms);
        if self.state == State::Stable && self.roster.elect_protocol() == self.protocol {
            if self.write(ctx) {
                self.extend_session_of(ctx, &new);
                self.subscribed = self.find_subscribed();
                let response = match self.generation_for(&new) {
                    // Its leadership goes on, but there is nothing to assign (KIP-814).
                    response if to.version >= 9 => {
                        JoinGroupResponse { skip_assignment: self.roster.is_leader(&new), ..response }
                    }
                    // A client that cannot be told so must not take itself for the leader.
                    response => {
                        JoinGroupResponse { leader: led_by.unwrap_or_default(), members: Vec::new(), ..response }
                    }
                };
                return ctx.reply(to, response);
            }
            let refused = JoinGroupResponse {
                error_code: ErrorCode::UnknownServerError.code(),
                member_id: Str::EMPTY,
                leader: led_by.unwrap_or_default(),
                members: Vec::new(),
                ..self.generation_for(&new)
            };
            if let Some(before) = before {
                self.roster.renew(&new, before);
            }
            self.rename(ctx, &new, old);
            self.extend_session_of(ctx, old);
            return ctx.reply(to, refused);
        }
        self.extend_session_of(ctx, &new);
        self.wait_to_join(ctx, &new, to);
        // Once the leader has been told the members, an assignment would be for the old id.
        self.rebalance_or_complete(ctx);
    }

    /// Gives a static member another id. Whether it owes a SyncGroup stays with it.
    fn rename(&mut self, ctx: &mut Context<'_>, old: &Str, new: &Str) -> Waiting {
        self.cancel(ctx, TimerKind::Session(old.clone()));
        if self.unsynced.remove(old) {
            self.unsynced.insert(new.clone());
        }
        self.roster.rename(old, new)
    }

    /// The member's JoinGroup waits from now on. If one waits already, its client no longer listens.
    fn wait_to_join(&mut self, ctx: &mut Context<'_>, id: &Str, to: ReplyTo) {
        if let Some(older) = self.roster.wait_to_join(id, to) {
            ctx.reply(older, join_refused(id.clone(), ErrorCode::RebalanceInProgress));
        }
    }

    /// What a member is told of its generation; the leader, who is in it.
    pub(super) fn generation_for(&self, id: &Str) -> JoinGroupResponse {
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.roster.leader().cloned().unwrap_or_default(),
            member_id: id.clone(),
            members: if self.roster.is_leader(id) { self.told_to_leader() } else { Vec::new() },
            ..JoinGroupResponse::default()
        }
    }

    fn told_to_leader(&self) -> Vec<JoinGroupResponseMember> {
        let Some(protocol) = &self.protocol else { return Vec::new() };
        let told = |seat: &Seat| JoinGroupResponseMember {
            member_id: seat.member.id.clone(),
            group_instance_id: seat.member.instance_id.clone(),
            metadata: seat.metadata(protocol),
        };
        self.roster.seats().map(told).collect()
    }
}

/// What a member says with all of its protocols.
fn bytes_of(protocols: &[JoinGroupRequestProtocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

/// The id of a new member: what it is called, and what nobody else is.
fn member_id(called: &Str, uuid: Uuid) -> Str {
    let mut id = String::with_capacity(called.len() + 37);
    id.push_str(called);
    // Kafka's form of an identifier in this place is that of RFC 9562.
    for (at, byte) in uuid.0.iter().enumerate() {
        if matches!(at, 0 | 4 | 6 | 8 | 10) {
            id.push('-');
        }
        write!(id, "{byte:02x}").expect("a String takes what is written");
    }
    Str::from(id)
}
