//! CreatePartitions (key 37). KIP-195.

use super::super::table::prelude::*;

messages! {
    /// Adds partitions to topics.
    pub struct CreatePartitionsRequest {
        /// The topics.
        topics: Vec<CreatePartitionsTopic>, 0..;
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32, 0..;
        /// Whether to say only what would happen.
        validate_only: bool, 0..;
    }

    /// A topic to add to.
    pub struct CreatePartitionsTopic {
        /// The topic's name.
        name: Str, 0..;
        /// How many partitions the topic shall have in all.
        count: i32, 0..;
        /// Which brokers hold each new partition; null to let the controller choose.
        assignments: Option<Vec<CreatePartitionsAssignment>>, 0.., null 0..;
    }

    /// The brokers of a new partition.
    pub struct CreatePartitionsAssignment {
        /// The brokers to hold replicas, the preferred leader first.
        broker_ids: Vec<i32>, 0..;
    }

    /// What became of the topics.
    pub struct CreatePartitionsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The results.
        results: Vec<CreatePartitionsTopicResult>, 0..;
    }

    /// What became of a topic.
    pub struct CreatePartitionsTopicResult {
        /// The topic's name.
        name: Str, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
    }
}
