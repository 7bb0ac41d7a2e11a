//! DescribeQuorum (key 55): who agrees on the metadata, and how far each is. KIP-595, KIP-836 (times), KIP-853
//! (directories and addresses).

use super::super::table::prelude::*;

messages! {
    /// Asks for the quorum.
    pub struct DescribeQuorumRequest {
        /// The topics: the one of the metadata log.
        topics: Vec<DescribeQuorumTopic>, 0..;
    }

    /// A topic asked about.
    pub struct DescribeQuorumTopic {
        /// The topic's name.
        topic_name: Str, 0..;
        /// The partitions.
        partitions: Vec<DescribeQuorumPartition>, 0..;
    }

    /// A partition asked about.
    pub struct DescribeQuorumPartition {
        /// The partition's index.
        partition_index: i32, 0..;
    }

    /// The quorum.
    pub struct DescribeQuorumResponse {
        /// An [`ErrorCode`](crate::wire::ErrorCode) for the whole request, 0 if it was looked at.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 2.., null 2..;
        /// The topics.
        topics: Vec<DescribedQuorumTopic>, 0..;
        /// Where its members are reached.
        nodes: Vec<Node>, 2..;
    }

    /// A topic answered about.
    pub struct DescribedQuorumTopic {
        /// The topic's name.
        topic_name: Str, 0..;
        /// The partitions.
        partitions: Vec<DescribedQuorumPartition>, 0..;
    }

    /// A partition answered about.
    pub struct DescribedQuorumPartition {
        /// The partition's index.
        partition_index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 2.., null 2..;
        /// Who leads; -1 if unknown.
        leader_id: i32, 0..;
        /// The number of its leadership.
        leader_epoch: i32, 0..;
        /// Everything below is committed.
        high_watermark: i64, 0..;
        /// Who counts for majorities.
        current_voters: Vec<ReplicaState>, 0..;
        /// Who only follows.
        observers: Vec<ReplicaState>, 0..;
    }

    /// How far a member is.
    pub struct ReplicaState {
        /// The member.
        replica_id: i32, 0..;
        /// Its data folder.
        replica_directory_id: Uuid, 2..;
        /// Where its log ends; -1 if unknown.
        log_end_offset: i64, 0..;
        /// When the leader last heard of it, in milliseconds since 1970; -1 if unknown.
        last_fetch_timestamp: i64 = -1, 1..;
        /// The last time at which it had all that the leader had, in milliseconds since 1970; -1 if unknown.
        last_caught_up_timestamp: i64 = -1, 1..;
    }

    /// Where a member is reached.
    pub struct Node {
        /// The member.
        node_id: i32, 2..;
        /// Its addresses.
        listeners: Vec<Listener>, 2..;
    }

    /// An address.
    pub struct Listener {
        /// The listener's name.
        name: Str, 2..;
        /// The host.
        host: Str, 2..;
        /// The port.
        port: u16, 2..;
    }
}
