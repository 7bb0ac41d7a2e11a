//! ListOffsets (key 2): offsets by time. KIP-79, KIP-734 (largest timestamp), KIP-405 and KIP-1005 (tiered storage).

use super::super::table::prelude::*;

messages! {
    /// Asks for offsets by time, or for the ends of logs.
    pub struct ListOffsetsRequest {
        /// The follower that asks, -1 for a client, -2 for who asks about the very replica of the broker, led or not.
        replica_id: i32, 0..;
        /// 0 to read everything, 1 to read committed transactions only.
        isolation_level: i8, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopic>, 0..;
        /// How long the client will wait where remote storage must be read, in milliseconds.
        timeout_ms: i32, 10..;
    }

    /// A topic to look into.
    pub struct ListOffsetsTopic {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<ListOffsetsPartition>, 0..;
    }

    /// A partition to look into.
    pub struct ListOffsetsPartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// The leader epoch that the client believes in, -1 if it does not say; fences it against an older or newer
        /// leader (KIP-320).
        current_leader_epoch: i32 = -1, 4..;
        /// The time to look for in milliseconds since 1970, or: -1 the end, -2 the start, -3 the largest timestamp, -4
        /// the local start, -5 the end of what is tiered, -6 the start of what is not yet.
        timestamp: i64, 0..;
    }

    /// Offsets by time.
    pub struct ListOffsetsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse>, 0..;
    }

    /// A topic that was looked into.
    pub struct ListOffsetsTopicResponse {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<ListOffsetsPartitionResponse>, 0..;
    }

    /// What was found in a partition.
    pub struct ListOffsetsPartitionResponse {
        /// The partition's index.
        partition_index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The timestamp of the record found, -1 if none was.
        timestamp: i64 = -1, 1..;
        /// The offset found, -1 if none was.
        offset: i64 = -1, 1..;
        /// The leader epoch, -1 if unknown.
        leader_epoch: i32 = -1, 4..;
    }
}
