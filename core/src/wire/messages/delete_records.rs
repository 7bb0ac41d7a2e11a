//! DeleteRecords (key 21). KIP-107.

use super::super::table::prelude::*;

messages! {
    /// Deletes the oldest records of partitions.
    pub struct DeleteRecordsRequest {
        /// The topics.
        topics: Vec<DeleteRecordsTopic>, 0..;
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32, 0..;
    }

    /// A topic to delete from.
    pub struct DeleteRecordsTopic {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition>, 0..;
    }

    /// A partition to delete from.
    pub struct DeleteRecordsPartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// The first offset to keep, -1 for the high watermark.
        offset: i64, 0..;
    }

    /// Where the partitions now start.
    pub struct DeleteRecordsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The topics.
        topics: Vec<DeleteRecordsTopicResult>, 0..;
    }

    /// A topic that was deleted from.
    pub struct DeleteRecordsTopicResult {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartitionResult>, 0..;
    }

    /// A partition that was deleted from.
    pub struct DeleteRecordsPartitionResult {
        /// The partition's index.
        partition_index: i32, 0..;
        /// The first offset now kept.
        low_watermark: i64, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
    }
}
