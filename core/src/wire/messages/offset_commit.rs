//! OffsetCommit (key 8): how far a group has come. KIP-211 (retention), KIP-320 (leader epochs), KIP-345 (static
//! members), KIP-848 (member epochs, topic ids).

use super::super::table::prelude::*;

messages! {
    /// Stores offsets of a group.
    pub struct OffsetCommitRequest {
        /// The group.
        group_id: Str, 0..;
        /// The generation of a classic group's member or the epoch of a consumer group's; -1 if nobody is a member.
        generation_id_or_member_epoch: i32 = -1, 1..;
        /// The member, empty if nobody is.
        member_id: Str, 1..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 7.., null 7..;
        /// How long to keep the offsets, in milliseconds; -1 for as long as the broker's config says (KIP-211).
        retention_time_ms: i64 = -1, 2..=4;
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic>, 0..;
    }

    /// A topic to store offsets of: by name up to version 9, by id from version 10.
    pub struct OffsetCommitRequestTopic {
        /// The topic's name.
        name: Str, 0..=9;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 10..;
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition>, 0..;
    }

    /// A partition to store the offset of.
    pub struct OffsetCommitRequestPartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// The next offset to read.
        committed_offset: i64, 0..;
        /// The leader epoch of the last record read, -1 if unknown (KIP-320).
        committed_leader_epoch: i32 = -1, 6..;
        /// What the client wants to keep beside the offset; null is kept as empty.
        committed_metadata: Option<Str>, 0.., null 0..;
    }

    /// What became of the offsets.
    pub struct OffsetCommitResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 3..;
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic>, 0..;
    }

    /// What became of a topic's offsets.
    pub struct OffsetCommitResponseTopic {
        /// The topic's name.
        name: Str, 0..=9;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 10..;
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition>, 0..;
    }

    /// What became of a partition's offset.
    pub struct OffsetCommitResponsePartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
    }
}
