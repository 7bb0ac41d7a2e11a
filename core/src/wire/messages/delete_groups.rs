//! DeleteGroups (key 42): groups without members go, and their offsets. KIP-229.

use super::super::table::prelude::*;

messages! {
    /// Deletes groups.
    pub struct DeleteGroupsRequest {
        /// The groups.
        groups_names: Vec<Str>, 0..;
    }

    /// What became of the groups.
    pub struct DeleteGroupsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The groups.
        results: Vec<DeletableGroupResult>, 0..;
    }

    /// What became of a group.
    pub struct DeletableGroupResult {
        /// The group.
        group_id: Str, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
    }
}
