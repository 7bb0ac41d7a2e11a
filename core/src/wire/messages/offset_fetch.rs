//! OffsetFetch (key 9): how far groups have come. KIP-320 (leader epochs), KIP-447 (stable offsets), KIP-709 (several
//! groups at once), KIP-848 (member epochs, topic ids).

use super::super::table::prelude::*;

messages! {
    /// Asks for offsets: of one group up to version 7, of several from version 8.
    pub struct OffsetFetchRequest {
        /// The group.
        group_id: Str, 0..=7;
        /// The topics; null for all.
        topics: Option<Vec<OffsetFetchRequestTopic>>, 0..=7, null 2..;
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup>, 8..;
        /// Whether offsets of open transactions are an error that asks the client to try again (KIP-447).
        require_stable: bool, 7..;
    }

    /// A topic asked about, up to version 7.
    pub struct OffsetFetchRequestTopic {
        /// The topic's name.
        name: Str, 0..=7;
        /// The partitions' indexes.
        partition_indexes: Vec<i32>, 0..=7;
    }

    /// A group asked about, from version 8 on.
    pub struct OffsetFetchRequestGroup {
        /// The group.
        group_id: Str, 8..;
        /// The member that asks; null if nobody does as a member.
        member_id: Option<Str>, 9.., null 9..;
        /// The epoch of the member that asks, -1 if nobody does as a member.
        member_epoch: i32 = -1, 9..;
        /// The topics; null for all.
        topics: Option<Vec<OffsetFetchRequestTopics>>, 8.., null 8..;
    }

    /// A topic asked about, from version 8 on: by name up to version 9, by id from version 10.
    pub struct OffsetFetchRequestTopics {
        /// The topic's name.
        name: Str, 8..=9;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 10..;
        /// The partitions' indexes.
        partition_indexes: Vec<i32>, 8..;
    }

    /// Offsets of groups: of one at the top up to version 7, of several from version 8.
    pub struct OffsetFetchResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 3..;
        /// The topics.
        topics: Vec<OffsetFetchResponseTopic>, 0..=7;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well. Version 1 has it only in each partition.
        error_code: i16, 2..=7;
        /// The groups.
        groups: Vec<OffsetFetchResponseGroup>, 8..;
    }

    /// A topic's offsets, up to version 7.
    pub struct OffsetFetchResponseTopic {
        /// The topic's name.
        name: Str, 0..=7;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition>, 0..=7;
    }

    /// A partition's offset, up to version 7.
    pub struct OffsetFetchResponsePartition {
        /// The partition's index.
        partition_index: i32, 0..=7;
        /// The next offset to read, -1 if there is none.
        committed_offset: i64, 0..=7;
        /// The leader epoch of the last record read, -1 if unknown.
        committed_leader_epoch: i32 = -1, 5..=7;
        /// What the client keeps beside the offset, empty if there is nothing.
        metadata: Option<Str>, 0..=7, null 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..=7;
    }

    /// A group's offsets, from version 8 on.
    pub struct OffsetFetchResponseGroup {
        /// The group.
        group_id: Str, 8..;
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics>, 8..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 8..;
    }

    /// A topic's offsets, from version 8 on.
    pub struct OffsetFetchResponseTopics {
        /// The topic's name.
        name: Str, 8..=9;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 10..;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions>, 8..;
    }

    /// A partition's offset, from version 8 on.
    pub struct OffsetFetchResponsePartitions {
        /// The partition's index.
        partition_index: i32, 8..;
        /// The next offset to read, -1 if there is none.
        committed_offset: i64, 8..;
        /// The leader epoch of the last record read, -1 if unknown.
        committed_leader_epoch: i32 = -1, 8..;
        /// What the client keeps beside the offset, empty if there is nothing.
        metadata: Option<Str>, 8.., null 8..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 8..;
    }
}
