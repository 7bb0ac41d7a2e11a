//! LeaveGroup (key 13): members leave a group. KIP-345 (several at once, static ones by name), KIP-800 (reasons).

use super::super::table::prelude::*;

messages! {
    /// Removes members from a group: one up to version 2, several from version 3.
    pub struct LeaveGroupRequest {
        /// The group.
        group_id: Str, 0..;
        /// The member.
        member_id: Str, 0..=2;
        /// The members.
        members: Vec<MemberIdentity>, 3..;
    }

    /// A member to remove.
    pub struct MemberIdentity {
        /// The member, empty where only its name is known.
        member_id: Str, 3..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 3.., null 3..;
        /// Why it leaves, for people; null if it does not say.
        reason: Option<Str>, 5.., null 5..;
    }

    /// What became of the members. Up to version 2 the one member's error is the one at the top.
    pub struct LeaveGroupResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The members.
        members: Vec<MemberResponse>, 3..;
    }

    /// What became of a member.
    pub struct MemberResponse {
        /// The member.
        member_id: Str, 3..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 3.., null 3..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 3..;
    }
}
