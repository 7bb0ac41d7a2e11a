//! ListGroups (key 16): the groups that a broker coordinates. KIP-518 (states), KIP-848 (types).

use super::super::table::prelude::*;

messages! {
    /// Asks for the groups of a broker.
    pub struct ListGroupsRequest {
        /// The states of interest by name; empty for all.
        states_filter: Vec<Str>, 4..;
        /// The types of interest by name; empty for all.
        types_filter: Vec<Str>, 5..;
    }

    /// The groups of a broker.
    pub struct ListGroupsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The groups.
        groups: Vec<ListedGroup>, 0..;
    }

    /// A group.
    pub struct ListedGroup {
        /// The group.
        group_id: Str, 0..;
        /// What its protocols are about, empty if it has none.
        protocol_type: Str, 0..;
        /// Its state by name.
        group_state: Str, 4..;
        /// Its type by name: `classic`, `consumer`.
        group_type: Str, 5..;
    }
}
