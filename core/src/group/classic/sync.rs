//! SyncGroup: the leader assigns, and every member learns what it was assigned.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Group, State, sync_refused};
use crate::boundary::ReplyTo;
use crate::group::{Context, TimerKind};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use crate::wire::{ErrorCode, Str};

/// Whether a SyncGroup says of which protocol it is, as it has to from version 5 on (KIP-559).
pub(in crate::group) fn names_protocol(version: i16, request: &SyncGroupRequest) -> bool {
    version < 5 || (request.protocol_type.is_some() && request.protocol_name.is_some())
}

impl Group {
    /// SyncGroup. The answer waits for the leader's, and with it for the group's record.
    pub fn sync(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: SyncGroupRequest) {
        if let Err(code) = self.may_sync(to.version, &request) {
            return ctx.reply(to, sync_refused(code));
        }
        let id = &request.member_id;
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.cancel(ctx, TimerKind::Sync);
        }
        if self.state == State::Stable {
            ctx.reply(to, self.assignment_of(id));
            return self.extend_session_of(ctx, id);
        }
        if let Some(older) = self.roster.wait_to_sync(id, to) {
            ctx.reply(older, sync_refused(ErrorCode::RebalanceInProgress));
        }
        if self.roster.is_leader(id) {
            self.assign(ctx, request.assignments);
        }
    }

    fn may_sync(&self, version: i16, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        if !names_protocol(version, request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        self.roster.recognise(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |(said, is): (&Option<Str>, &Option<Str>)| said.is_some() && is.is_some() && said != is;
        let says = [&request.protocol_type, &request.protocol_name];
        if says.into_iter().zip([&self.protocol_type, &self.protocol]).any(differs) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::CompletingRebalance | State::Stable => Ok(()),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// The leader's word. Who is not in it is assigned nothing, and who is not in the generation does not matter.
    fn assign(&mut self, ctx: &mut Context<'_>, assignments: Vec<SyncGroupRequestAssignment>) {
        let mut assigned: BTreeMap<Str, Bytes> =
            assignments.into_iter().map(|one| (one.member_id, one.assignment)).collect();
        for seat in self.roster.seats_mut() {
            let assignment = assigned.remove(&seat.member.id).unwrap_or_default();
            let before = std::mem::replace(&mut seat.member.assignment, assignment);
            assigned.insert(seat.member.id.clone(), before);
        }
        if !self.write(ctx) {
            for seat in self.roster.seats_mut() {
                seat.member.assignment = assigned.remove(&seat.member.id).unwrap_or_default();
            }
            self.refuse_syncing(ctx, ErrorCode::UnknownServerError);
            return self.rebalance(ctx);
        }
        for seat in self.roster.seats_mut() {
            // Its own copy, or the leader's whole request would stay in memory.
            seat.member.assignment = Bytes::copy_from_slice(&seat.member.assignment);
        }
        self.become_state(ctx, State::Stable);
        for id in self.roster.ids() {
            if let Some(to) = self.roster.take_syncing(&id) {
                ctx.reply(to, self.assignment_of(&id));
                self.extend_session_of(ctx, &id);
            }
        }
    }

    fn assignment_of(&self, id: &Str) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self.roster.seat(id).map(|seat| seat.member.assignment.clone()).unwrap_or_default(),
            ..SyncGroupResponse::default()
        }
    }

    /// Whoever waits for an assignment is told why there is none. What the last one said stays: a cooperative member
    /// goes on reading that until it has another, so an upgrade must know of it.
    pub(super) fn refuse_syncing(&mut self, ctx: &mut Context<'_>, code: ErrorCode) {
        for id in self.roster.ids() {
            if let Some(to) = self.roster.take_syncing(&id) {
                ctx.reply(to, sync_refused(code));
                self.extend_session_of(ctx, &id);
            }
        }
    }
}
