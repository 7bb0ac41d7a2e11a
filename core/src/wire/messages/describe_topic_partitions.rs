//! DescribeTopicPartitions (key 75): topics in pages. KIP-966.

use super::super::table::prelude::*;

messages! {
    /// Describes topics in pages (KIP-966).
    pub struct DescribeTopicPartitionsRequest {
        /// The topics asked for; empty for all.
        topics: Vec<TopicRequest>, 0..;
        /// How many partitions to answer with at most.
        response_partition_limit: i32 = 2000, 0..;
        /// Where to go on; null to begin.
        cursor: Option<Cursor>, 0.., null 0..;
    }

    /// A topic asked about.
    pub struct TopicRequest {
        /// The topic's name.
        name: Str, 0..;
    }

    /// Where a page begins.
    pub struct Cursor {
        /// The first topic to describe.
        topic_name: Str, 0..;
        /// The first partition to describe.
        partition_index: i32, 0..;
    }

    /// A page of topics.
    pub struct DescribeTopicPartitionsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic>, 0..;
        /// Where to go on; null at the end.
        next_cursor: Option<Cursor>, 0.., null 0..;
    }

    /// A topic.
    pub struct DescribeTopicPartitionsResponseTopic {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// Its name; null if unknown.
        name: Option<Str>, 0.., null 0..;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 0..;
        /// Whether it is one of the broker's own.
        is_internal: bool, 0..;
        /// The partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition>, 0..;
        /// What the client may do to the topic, a bit per operation; `i32::MIN` if that was not asked for.
        topic_authorized_operations: i32 = i32::MIN, 0..;
    }

    /// A partition.
    pub struct DescribeTopicPartitionsResponsePartition {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The partition's index.
        partition_index: i32, 0..;
        /// The broker that leads, -1 if none or unknown.
        leader_id: i32, 0..;
        /// The leader epoch, -1 if unknown.
        leader_epoch: i32 = -1, 0..;
        /// All replicas, the preferred leader first.
        replica_nodes: Vec<i32>, 0..;
        /// The in-sync replicas.
        isr_nodes: Vec<i32>, 0..;
        /// Replicas outside the in-sync set that may still lead safely (KIP-966); null if not kept.
        eligible_leader_replicas: Option<Vec<i32>>, 0.., null 0..;
        /// The last replicas that were eligible to lead (KIP-966); null if not kept.
        last_known_elr: Option<Vec<i32>>, 0.., null 0..;
        /// The replicas that are down.
        offline_replicas: Vec<i32>, 0..;
    }
}
