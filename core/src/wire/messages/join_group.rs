//! JoinGroup (key 11): a member enters a classic group, or its next generation. KIP-62 (rebalance timeout), KIP-345
//! (static members), KIP-394 (member id required), KIP-559 (protocol type), KIP-800 (reasons), KIP-814 (skipping the
//! assignment).

use super::super::table::prelude::*;

messages! {
    /// Joins a group.
    pub struct JoinGroupRequest {
        /// The group.
        group_id: Str, 0..;
        /// After how long without a heartbeat the member is taken for dead, in milliseconds.
        session_timeout_ms: i32, 0..;
        /// How long the coordinator waits for the member to join a rebalance, in milliseconds; -1 for as long as the
        /// session timeout.
        rebalance_timeout_ms: i32 = -1, 1..;
        /// The member, empty if it has no id yet.
        member_id: Str, 0..;
        /// The name of a static member; null for a dynamic one (KIP-345).
        group_instance_id: Option<Str>, 5.., null 5..;
        /// What the group's protocols are about: `consumer`, `connect`.
        protocol_type: Str, 0..;
        /// The protocols that the member can take part in, the one it likes best first.
        protocols: Vec<JoinGroupRequestProtocol>, 0..;
        /// Why the member joins, for people; null if it does not say.
        reason: Option<Str>, 8.., null 8..;
    }

    /// A protocol that the member can take part in.
    pub struct JoinGroupRequestProtocol {
        /// The protocol: for consumers, an assignor.
        name: Str, 0..;
        /// What the member says to whoever assigns, opaque to the coordinator.
        metadata: Bytes, 0..;
    }

    /// A generation, and the member's place in it.
    pub struct JoinGroupResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 2..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The generation, -1 where there is an error.
        generation_id: i32 = -1, 0..;
        /// What the group's protocols are about; null where there is an error.
        protocol_type: Option<Str>, 7.., null 7..;
        /// The protocol chosen; null or empty where there is an error.
        protocol_name: Option<Str>, 0.., null 7..;
        /// The member that leads: it assigns for all.
        leader: Str, 0..;
        /// Whether the leader must not assign, as the assignment in force stays.
        skip_assignment: bool, 9..;
        /// The member, which has an id now.
        member_id: Str, 0..;
        /// All members, for the leader; empty for the others.
        members: Vec<JoinGroupResponseMember>, 0..;
    }

    /// A member, as the leader sees it.
    pub struct JoinGroupResponseMember {
        /// The member.
        member_id: Str, 0..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 5.., null 5..;
        /// What it said with the protocol chosen.
        metadata: Bytes, 0..;
    }
}
