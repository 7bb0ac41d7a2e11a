//! DescribeLogDirs (key 35): what is on disk. KIP-113, KIP-827 (volume sizes), KIP-1066 (cordoned folders).

use super::super::table::prelude::*;

messages! {
    /// Asks how large partitions are on disk.
    pub struct DescribeLogDirsRequest {
        /// The topics asked for; null for all.
        topics: Option<Vec<DescribableLogDirTopic>>, 0.., null 0..;
    }

    /// A topic asked about.
    pub struct DescribableLogDirTopic {
        /// The topic's name.
        topic: Str, 0..;
        /// The partitions.
        partitions: Vec<i32>, 0..;
    }

    /// Data folders and what they hold.
    pub struct DescribeLogDirsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 3..;
        /// The data folders.
        results: Vec<DescribeLogDirsResult>, 0..;
    }

    /// A data folder.
    pub struct DescribeLogDirsResult {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The folder's absolute path.
        log_dir: Str, 0..;
        /// The topics.
        topics: Vec<DescribeLogDirsTopic>, 0..;
        /// The size of the volume that the folder is on, -1 if unknown.
        total_bytes: i64 = -1, 4..;
        /// How much of the volume can still be used, -1 if unknown.
        usable_bytes: i64 = -1, 4..;
        /// Whether no new partitions go to this folder (KIP-1066).
        is_cordoned: bool, 5..;
    }

    /// A topic in it.
    pub struct DescribeLogDirsTopic {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<DescribeLogDirsPartition>, 0..;
    }

    /// A partition in it.
    pub struct DescribeLogDirsPartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// The size of the partition's log here, in bytes.
        partition_size: i64, 0..;
        /// How far the replica is behind, in records.
        offset_lag: i64, 0..;
        /// Whether this is a copy being moved here, to replace the replica elsewhere.
        is_future_key: bool, 0..;
    }
}
