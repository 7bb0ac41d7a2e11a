//! AlterPartitionReassignments (key 45): moves partitions to other brokers. KIP-455, KIP-860 (the number of replicas).

use super::super::table::prelude::*;

messages! {
    /// Moves partitions, or stops that.
    pub struct AlterPartitionReassignmentsRequest {
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32 = 60_000, 0..;
        /// Whether a partition may have more or fewer replicas afterwards.
        allow_replication_factor_change: bool = true, 1..;
        /// The topics.
        topics: Vec<ReassignableTopic>, 0..;
    }

    /// A topic of which partitions are to move.
    pub struct ReassignableTopic {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<ReassignablePartition>, 0..;
    }

    /// A partition that is to move.
    pub struct ReassignablePartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// The brokers that are to hold it, the preferred leader first; null to stop a move that is under way.
        replicas: Option<Vec<i32>>, 0.., null 0..;
    }

    /// What became of that.
    pub struct AlterPartitionReassignmentsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// Whether the number of replicas was allowed to change.
        allow_replication_factor_change: bool = true, 1..;
        /// An [`ErrorCode`](crate::wire::ErrorCode) for the whole request, 0 if it was looked at.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// The topics.
        responses: Vec<ReassignableTopicResponse>, 0..;
    }

    /// What became of a topic's moves.
    pub struct ReassignableTopicResponse {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<ReassignablePartitionResponse>, 0..;
    }

    /// What became of a partition's move.
    pub struct ReassignablePartitionResponse {
        /// The partition's index.
        partition_index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if it is under way, or has been stopped.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
    }
}
