//! DescribeGroups (key 15): the state and the members of classic groups. KIP-345 (static members), KIP-430 (authorized
//! operations), KIP-1043 (groups that are not there).

use super::super::table::prelude::*;

messages! {
    /// Asks for the state of groups.
    pub struct DescribeGroupsRequest {
        /// The groups.
        groups: Vec<Str>, 0..;
        /// Whether to say what the client may do to the groups.
        include_authorized_operations: bool, 3..;
    }

    /// The state of groups.
    pub struct DescribeGroupsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// The groups.
        groups: Vec<DescribedGroup>, 0..;
    }

    /// A group. One that is not there is `Dead`, and from version 6 an error besides (KIP-1043).
    pub struct DescribedGroup {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 6.., null 6..;
        /// The group.
        group_id: Str, 0..;
        /// Its state by name, empty where there is an error.
        group_state: Str, 0..;
        /// What its protocols are about, empty if it has none.
        protocol_type: Str, 0..;
        /// The protocol chosen, empty unless the group is stable.
        protocol_data: Str, 0..;
        /// The members.
        members: Vec<DescribedGroupMember>, 0..;
        /// What the client may do to the group, a bit per operation; `i32::MIN` if that was not asked for.
        authorized_operations: i32 = i32::MIN, 3..;
    }

    /// A member.
    pub struct DescribedGroupMember {
        /// The member.
        member_id: Str, 0..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 4.., null 4..;
        /// What its client calls itself.
        client_id: Str, 0..;
        /// The address that it joined from.
        client_host: Str, 0..;
        /// What it said with the protocol chosen, empty unless the group is stable.
        member_metadata: Bytes, 0..;
        /// What it was assigned, empty unless the group is stable.
        member_assignment: Bytes, 0..;
    }
}
