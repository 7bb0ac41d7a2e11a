//! OffsetDelete (key 47): offsets of a group go. KIP-496.

use super::super::table::prelude::*;

messages! {
    /// Deletes offsets of a group.
    pub struct OffsetDeleteRequest {
        /// The group.
        group_id: Str, 0..;
        /// The topics.
        topics: Vec<OffsetDeleteRequestTopic>, 0..;
    }

    /// A topic to delete offsets of.
    pub struct OffsetDeleteRequestTopic {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<OffsetDeleteRequestPartition>, 0..;
    }

    /// A partition to delete the offset of.
    pub struct OffsetDeleteRequestPartition {
        /// The partition's index.
        partition_index: i32, 0..;
    }

    /// What became of the offsets.
    pub struct OffsetDeleteResponse {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The topics.
        topics: Vec<OffsetDeleteResponseTopic>, 0..;
    }

    /// What became of a topic's offsets.
    pub struct OffsetDeleteResponseTopic {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<OffsetDeleteResponsePartition>, 0..;
    }

    /// What became of a partition's offset.
    pub struct OffsetDeleteResponsePartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
    }
}
