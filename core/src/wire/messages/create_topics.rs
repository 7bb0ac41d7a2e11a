//! CreateTopics (key 19). KIP-4, KIP-525 (configs in the answer).

use super::super::table::prelude::*;

messages! {
    /// Creates topics.
    pub struct CreateTopicsRequest {
        /// The topics.
        topics: Vec<CreatableTopic>, 0..;
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32 = 60000, 0..;
        /// Whether to say only what would happen.
        validate_only: bool, 1..;
    }

    /// A topic to create.
    pub struct CreatableTopic {
        /// The topic's name.
        name: Str, 0..;
        /// How many partitions, -1 for the broker's default or as many as are assigned.
        num_partitions: i32, 0..;
        /// How many replicas, -1 for the broker's default or as many as are assigned.
        replication_factor: i16, 0..;
        /// Which brokers hold which partition; empty to let the controller choose.
        assignments: Vec<CreatableReplicaAssignment>, 0..;
        /// The configs.
        configs: Vec<CreatableTopicConfig>, 0..;
    }

    /// The brokers of a partition.
    pub struct CreatableReplicaAssignment {
        /// The partition's index.
        partition_index: i32, 0..;
        /// The brokers to hold replicas, the preferred leader first.
        broker_ids: Vec<i32>, 0..;
    }

    /// A config of a topic to create.
    pub struct CreatableTopicConfig {
        /// The config's key.
        name: Str, 0..;
        /// Its value.
        value: Option<Str>, 0.., null 0..;
    }

    /// What became of the topics.
    pub struct CreateTopicsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 2..;
        /// The topics.
        topics: Vec<CreatableTopicResult>, 0..;
    }

    /// What became of a topic.
    pub struct CreatableTopicResult {
        /// The topic's name.
        name: Str, 0..;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 7..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 1.., null 0..;
        /// Why `configs` is missing, if it is: an [`ErrorCode`](crate::wire::ErrorCode).
        topic_config_error_code: i16, 5.., tag 0;
        /// How many partitions it has, -1 if unknown.
        num_partitions: i32 = -1, 5..;
        /// How many replicas, -1 if unknown.
        replication_factor: i16 = -1, 5..;
        /// The configs in force; null if they may not be shown.
        configs: Option<Vec<CreatableTopicConfigs>>, 5.., null 5..;
    }

    /// A config of a topic that was created.
    pub struct CreatableTopicConfigs {
        /// The config's key.
        name: Str, 5..;
        /// Its value; null if it has none or must not be shown.
        value: Option<Str>, 5.., null 5..;
        /// Whether it cannot be changed.
        read_only: bool, 5..;
        /// Where the value comes from: 1 topic, 2 broker, 3 default of all brokers, 4 the broker's file, 5 built-in
        /// default.
        config_source: i8 = -1, 5..;
        /// Whether the value is a secret, and therefore null.
        is_sensitive: bool, 5..;
    }
}
