//! Heartbeat (key 12): a member of a classic group is alive. KIP-345 (static members).

use super::super::table::prelude::*;

messages! {
    /// Says that a member is alive.
    pub struct HeartbeatRequest {
        /// The group.
        group_id: Str, 0..;
        /// The generation.
        generation_id: i32, 0..;
        /// The member.
        member_id: Str, 0..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 3.., null 3..;
    }

    /// Whether the member may go on.
    pub struct HeartbeatResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
    }
}
