//! ListPartitionReassignments (key 46): which partitions are on their way to other brokers. KIP-455.

use super::super::table::prelude::*;

messages! {
    /// Asks which partitions are on their way.
    pub struct ListPartitionReassignmentsRequest {
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32 = 60_000, 0..;
        /// The topics; null for all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>, 0.., null 0..;
    }

    /// A topic asked about.
    pub struct ListPartitionReassignmentsTopics {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions' indexes.
        partition_indexes: Vec<i32>, 0..;
    }

    /// The partitions on their way.
    pub struct ListPartitionReassignmentsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// Their topics.
        topics: Vec<OngoingTopicReassignment>, 0..;
    }

    /// A topic of which partitions are on their way.
    pub struct OngoingTopicReassignment {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<OngoingPartitionReassignment>, 0..;
    }

    /// A partition on its way.
    pub struct OngoingPartitionReassignment {
        /// The partition's index.
        partition_index: i32, 0..;
        /// All its replicas, those that come and those that go included.
        replicas: Vec<i32>, 0..;
        /// Those that come.
        adding_replicas: Vec<i32>, 0..;
        /// Those that go.
        removing_replicas: Vec<i32>, 0..;
    }
}
