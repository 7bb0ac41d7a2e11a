//! SyncGroup (key 14): the leader of a classic group assigns, every member learns what it was assigned. KIP-345 (static
//! members), KIP-559 (protocol type and name).

use super::super::table::prelude::*;

messages! {
    /// Asks for a member's assignment; from the leader, brings everyone's.
    pub struct SyncGroupRequest {
        /// The group.
        group_id: Str, 0..;
        /// The generation.
        generation_id: i32, 0..;
        /// The member.
        member_id: Str, 0..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 3.., null 3..;
        /// What the member believes the group's protocols to be about; null if it does not say.
        protocol_type: Option<Str>, 5.., null 5..;
        /// The protocol that the member believes to be chosen; null if it does not say.
        protocol_name: Option<Str>, 5.., null 5..;
        /// The assignments, from the leader; empty from the others.
        assignments: Vec<SyncGroupRequestAssignment>, 0..;
    }

    /// What a member is assigned.
    pub struct SyncGroupRequestAssignment {
        /// The member.
        member_id: Str, 0..;
        /// The assignment, opaque to the coordinator.
        assignment: Bytes, 0..;
    }

    /// A member's assignment.
    pub struct SyncGroupResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// What the group's protocols are about; null where there is an error.
        protocol_type: Option<Str>, 5.., null 5..;
        /// The protocol chosen; null where there is an error.
        protocol_name: Option<Str>, 5.., null 5..;
        /// The assignment, opaque to the coordinator.
        assignment: Bytes, 0..;
    }
}
