//! ConsumerGroupHeartbeat (key 68): a member of a consumer group joins, stays, says what it owns, leaves. KIP-848,
//! KIP-1082 (member ids made by clients).

use super::super::table::prelude::*;

messages! {
    /// What a member wants and owns. All but the first three fields say "as before" by their defaults.
    pub struct ConsumerGroupHeartbeatRequest {
        /// The group.
        group_id: Str, 0..;
        /// The member, made by the client and kept for its life; in version 0 it may be empty in the first request.
        member_id: Str, 0..;
        /// The member's epoch: 0 to join, -1 to leave, -2 to leave for a while as a static member.
        member_epoch: i32, 0..;
        /// The name of a static member; null for a dynamic one, or as before.
        instance_id: Option<Str>, 0.., null 0..;
        /// The member's rack; null if it has none, or as before.
        rack_id: Option<Str>, 0.., null 0..;
        /// How long the coordinator waits for the member to give up partitions, in milliseconds; -1 for as before.
        rebalance_timeout_ms: i32 = -1, 0..;
        /// The topics subscribed to by name; null for as before.
        subscribed_topic_names: Option<Vec<Str>>, 0.., null 0..;
        /// The topics subscribed to by regular expression; null for as before.
        subscribed_topic_regex: Option<Str>, 1.., null 1..;
        /// The assignor to use; null for the group's, or as before.
        server_assignor: Option<Str>, 0.., null 0..;
        /// What the member owns; null for as before.
        topic_partitions: Option<Vec<TopicPartitions>>, 0.., null 0..;
    }

    /// Partitions of a topic.
    pub struct TopicPartitions {
        /// The topic's id.
        topic_id: Uuid, 0..;
        /// The partitions' indexes.
        partitions: Vec<i32>, 0..;
    }

    /// What the member is and may own.
    pub struct ConsumerGroupHeartbeatResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// The member; null where there is an error.
        member_id: Option<Str>, 0.., null 0..;
        /// The member's epoch.
        member_epoch: i32, 0..;
        /// How long the member should wait for its next heartbeat, in milliseconds.
        heartbeat_interval_ms: i32, 0..;
        /// All that the member may own now; null for as before.
        assignment: Option<Assignment>, 0.., null 0..;
    }

    /// What a member may own.
    pub struct Assignment {
        /// The partitions.
        topic_partitions: Vec<TopicPartitions>, 0..;
    }
}
