//! ConsumerGroupDescribe (key 69): the state and the members of consumer groups. KIP-848, KIP-1099 (member types).

use super::super::table::prelude::*;

messages! {
    /// Asks for the state of groups.
    pub struct ConsumerGroupDescribeRequest {
        /// The groups.
        group_ids: Vec<Str>, 0..;
        /// Whether to say what the client may do to the groups.
        include_authorized_operations: bool, 0..;
    }

    /// The state of groups.
    pub struct ConsumerGroupDescribeResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The groups.
        groups: Vec<DescribedGroup>, 0..;
    }

    /// A group.
    pub struct DescribedGroup {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// The group.
        group_id: Str, 0..;
        /// Its state by name, empty where there is an error.
        group_state: Str, 0..;
        /// The group's epoch: rises with every change of its members or topics.
        group_epoch: i32, 0..;
        /// The epoch of the assignment in force; reaches the group's once it is made.
        assignment_epoch: i32, 0..;
        /// The assignor chosen.
        assignor_name: Str, 0..;
        /// The members.
        members: Vec<Member>, 0..;
        /// What the client may do to the group, a bit per operation; `i32::MIN` if that was not asked for.
        authorized_operations: i32 = i32::MIN, 0..;
    }

    /// A member.
    pub struct Member {
        /// The member.
        member_id: Str, 0..;
        /// The name of a static member; null for a dynamic one.
        instance_id: Option<Str>, 0.., null 0..;
        /// Its rack; null if it has none.
        rack_id: Option<Str>, 0.., null 0..;
        /// Its epoch.
        member_epoch: i32, 0..;
        /// What its client calls itself.
        client_id: Str, 0..;
        /// The address that it joined from.
        client_host: Str, 0..;
        /// The topics subscribed to by name.
        subscribed_topic_names: Vec<Str>, 0..;
        /// The topics subscribed to by regular expression; null if none are.
        subscribed_topic_regex: Option<Str>, 0.., null 0..;
        /// What it owns.
        assignment: Assignment, 0..;
        /// What it is to own.
        target_assignment: Assignment, 0..;
        /// By which protocol it takes part: 0 the classic one, 1 the consumer one, -1 unknown (KIP-1099).
        member_type: i8 = -1, 1..;
    }

    /// Partitions of a topic.
    pub struct TopicPartitions {
        /// The topic's id.
        topic_id: Uuid, 0..;
        /// The topic's name.
        topic_name: Str, 0..;
        /// The partitions' indexes.
        partitions: Vec<i32>, 0..;
    }

    /// What a member owns or is to own.
    pub struct Assignment {
        /// The partitions.
        topic_partitions: Vec<TopicPartitions>, 0..;
    }
}
