//! OffsetForLeaderEpoch (key 23): where logs part. KIP-101, KIP-279, KIP-320.

use super::super::table::prelude::*;

messages! {
    /// Asks where leader epochs end, to find out where a log was cut.
    pub struct OffsetForLeaderEpochRequest {
        /// The follower that asks, -1 for a client.
        replica_id: i32 = -2, 3..;
        /// The topics.
        topics: Vec<OffsetForLeaderTopic>, 0..;
    }

    /// A topic asked about.
    pub struct OffsetForLeaderTopic {
        /// The topic's name.
        topic: Str, 0..;
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition>, 0..;
    }

    /// A partition asked about.
    pub struct OffsetForLeaderPartition {
        /// The partition's index.
        partition: i32, 0..;
        /// The leader epoch that the client believes in, -1 if it does not say; fences it against an older or newer
        /// leader (KIP-320).
        current_leader_epoch: i32 = -1, 2..;
        /// The leader epoch whose end is asked for.
        leader_epoch: i32, 0..;
    }

    /// Where leader epochs end.
    pub struct OffsetForLeaderEpochResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 2..;
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult>, 0..;
    }

    /// A topic answered about.
    pub struct OffsetForLeaderTopicResult {
        /// The topic's name.
        topic: Str, 0..;
        /// The partitions.
        partitions: Vec<EpochEndOffset>, 0..;
    }

    /// Where a leader epoch ends in a partition.
    pub struct EpochEndOffset {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The partition's index.
        partition: i32, 0..;
        /// The largest leader epoch known that is not beyond the one asked for, -1 if unknown.
        leader_epoch: i32 = -1, 1..;
        /// The offset after the last of that epoch, -1 if unknown.
        end_offset: i64 = -1, 0..;
    }
}
