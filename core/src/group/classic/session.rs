//! Heartbeats, and members that fall silent.

use std::time::Duration;

use super::{Group, State};
use crate::boundary::ReplyTo;
use crate::group::{Context, TimerKind};
use crate::wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::{ErrorCode, Str};

impl Group {
    /// Heartbeat: whether the member may go on, or is to join again.
    pub fn heartbeat(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: HeartbeatRequest) {
        let code = self.beat(ctx, &request).err().unwrap_or_default();
        ctx.reply(to, HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() });
    }

    fn beat(&mut self, ctx: &mut Context<'_>, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        self.is_in_generation(&request.member_id, request.group_instance_id.as_ref(), request.generation_id)?;
        self.extend_session_of(ctx, &request.member_id);
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
            State::Empty | State::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }

    fn is_in_generation(&self, id: &Str, instance: Option<&Str>, generation: i32) -> Result<(), ErrorCode> {
        self.roster.recognise(id, instance)?;
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// Whether an OffsetCommit may be taken; and the session of the member that sends it goes on.
    ///
    /// # Errors
    /// The code that every partition of the commit is answered with.
    pub fn admit_commit(
        &mut self,
        ctx: &mut Context<'_>,
        member: &Str,
        instance: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Empty && generation < 0 {
            // A tool, or a consumer that assigns to itself.
            return Ok(());
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.is_in_generation(member, instance, generation)?;
        match self.state {
            // The member knows of the generation already and is about to sync: it joins again.
            State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            // What it consumed before it joins again counts.
            State::PreparingRebalance | State::Stable => {
                self.extend_session_of(ctx, member);
                Ok(())
            }
            State::Empty | State::Dead => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// A sign of life, which is answered.
    pub(super) fn extend_session_of(&mut self, ctx: &mut Context<'_>, id: &Str) {
        let Some(seat) = self.roster.seat_mut(id) else { return };
        (seat.answered_at, seat.is_owed) = (ctx.answers_at(), false);
        let session = seat.session_timeout();
        self.extend_session(ctx, id, session);
    }

    /// A member is not taken for dead for a while. Its timer stays unless it would come too late.
    pub(super) fn extend_session(&mut self, ctx: &mut Context<'_>, id: &Str, by: Duration) {
        let ends = ctx.now.instant + by;
        let Some(seat) = self.roster.seat_mut(id) else { return };
        seat.session_ends = ends;
        if seat.alarm.is_none_or(|at| at > ends) {
            seat.alarm = Some(ends);
            // The seat's own id: the request's would keep the request's buffer alive.
            let timer = TimerKind::Session(seat.member.id.clone());
            ctx.call_after(&self.name, timer, by);
        }
    }

    /// A member may be dead.
    pub(super) fn on_session_due(&mut self, ctx: &mut Context<'_>, id: &Str) {
        let Some(seat) = self.roster.seat_mut(id) else { return };
        seat.alarm = None;
        if seat.session_ends > ctx.now.instant {
            let left = seat.session_ends - ctx.now.instant;
            return self.extend_session(ctx, id, left);
        }
        if seat.is_kept_waiting() {
            // Its session begins when it is answered.
            return;
        }
        let is_owed = seat.answered_at > ctx.log.committed;
        if is_owed || seat.is_owed {
            // Likewise where the answer has been given and is not committed: slow followers are no fault of the member's.
            // When it left is not known, so the session begins where it is seen that it has.
            seat.is_owed = is_owed;
            let session = seat.session_timeout();
            return self.extend_session(ctx, id, session);
        }
        self.remove(ctx, id);
        match self.state {
            State::PreparingRebalance => self.complete_join_after_loss(ctx),
            State::CompletingRebalance | State::Stable => self.rebalance(ctx),
            State::Empty | State::Dead => {}
        }
    }
}
