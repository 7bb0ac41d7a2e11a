//! LeaveGroup: members go, or an operator removes static ones by their names.

use super::{Group, State};
use crate::boundary::ReplyTo;
use crate::group::Context;
use crate::wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use crate::wire::{ErrorCode, Str};

impl Group {
    /// LeaveGroup.
    pub fn leave(&mut self, ctx: &mut Context<'_>, to: ReplyTo, request: LeaveGroupRequest) {
        let members = match to.version {
            ..3 => vec![MemberIdentity { member_id: request.member_id, ..MemberIdentity::default() }],
            _ => request.members,
        };
        let mut left = false;
        let mut told = Vec::with_capacity(members.len());
        for MemberIdentity { member_id, group_instance_id, .. } in members {
            let leaver = self.leaver(&member_id, group_instance_id.as_ref());
            if let Ok(id) = &leaver {
                self.remove(ctx, id);
                left = true;
            }
            let error_code = leaver.err().unwrap_or_default().code();
            told.push(MemberResponse { member_id, group_instance_id, error_code });
        }
        if left {
            match self.state {
                State::Stable | State::CompletingRebalance => self.rebalance(ctx),
                State::PreparingRebalance => self.complete_join_if_all_have(ctx),
                State::Empty | State::Dead => {}
            }
        }
        let response = match to.version {
            // One member, whose error is the answer's.
            ..3 => LeaveGroupResponse {
                error_code: told.first().map_or(0, |member| member.error_code),
                ..LeaveGroupResponse::default()
            },
            _ => LeaveGroupResponse { members: told, ..LeaveGroupResponse::default() },
        };
        ctx.reply(to, response);
    }

    /// Who is meant to leave.
    fn leaver(&self, id: &Str, instance: Option<&Str>) -> Result<Str, ErrorCode> {
        if id.is_empty() {
            // Operators know a static member by its name alone.
            return instance.and_then(|name| self.roster.named(name)).cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.pending.contains(id) {
            self.roster.recognise(id, instance)?;
        }
        Ok(id.detached())
    }
}
