//! ElectLeaders (key 43): has partitions led by their first replica, or by any. KIP-183, KIP-460 (unclean elections).

use super::super::table::prelude::*;

messages! {
    /// Asks for elections.
    pub struct ElectLeadersRequest {
        /// Who is to be elected: 0 the first replica, 1 any replica that lives where nobody leads.
        election_type: i8, 1..;
        /// The partitions; null for all.
        topic_partitions: Option<Vec<TopicPartitions>>, 0.., null 0..;
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32 = 60_000, 0..;
    }

    /// Partitions of a topic.
    pub struct TopicPartitions {
        /// The topic's name.
        topic: Str, 0..;
        /// The partitions' indexes.
        partitions: Vec<i32>, 0..;
    }

    /// What became of the elections.
    pub struct ElectLeadersResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode) for the whole request, 0 if it was looked at.
        error_code: i16, 1..;
        /// The results.
        replica_election_results: Vec<ReplicaElectionResult>, 0..;
    }

    /// What became of a topic's elections.
    pub struct ReplicaElectionResult {
        /// The topic's name.
        topic: Str, 0..;
        /// The results.
        partition_result: Vec<PartitionResult>, 0..;
    }

    /// What became of a partition's election.
    pub struct PartitionResult {
        /// The partition's index.
        partition_id: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
    }
}
