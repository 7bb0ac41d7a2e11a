//! Fetch (key 1): records go out. KIP-74 (limits), KIP-227 (sessions), KIP-320 (leader epochs), KIP-392 (follower
//! reads), KIP-516.

use super::super::table::prelude::*;

messages! {
    /// Reads records from partitions, within a session or not (KIP-227).
    pub struct FetchRequest {
        /// The cluster that the follower believes to be in; null if it does not say.
        cluster_id: Option<Str>, 12.., null 12.., tag 0;
        /// The follower that asks, -1 for a client.
        replica_id: i32 = -1, 0..=14;
        /// The follower that asks.
        replica_state: ReplicaState, 15.., tag 1;
        /// How long to wait for `min_bytes` at most.
        max_wait_ms: i32, 0..;
        /// How much to wait for, in bytes.
        min_bytes: i32, 0..;
        /// How much to answer with at most, in bytes; the first batch is answered with even if it is larger (KIP-74).
        max_bytes: i32 = i32::MAX, 3..;
        /// 0 to read everything, 1 to read committed transactions only.
        isolation_level: i8, 4..;
        /// The fetch session, 0 for none.
        session_id: i32, 7..;
        /// The request's number in its fetch session: 0 opens one, -1 is outside of any or closes one (KIP-227).
        session_epoch: i32 = -1, 7..;
        /// The topics.
        topics: Vec<FetchTopic>, 0..;
        /// What to drop from the fetch session (KIP-227).
        forgotten_topics_data: Vec<ForgottenTopic>, 7..;
        /// The reader's rack, empty if it has none.
        rack_id: Str, 11..;
    }

    /// A follower, from version 15 on.
    pub struct ReplicaState {
        /// The follower that asks, -1 for a client.
        replica_id: i32 = -1, 15..;
        /// The follower's broker epoch, -1 if it does not say.
        replica_epoch: i64 = -1, 15..;
    }

    /// A topic to read: by name up to version 12, by id from version 13.
    pub struct FetchTopic {
        /// The topic's name.
        topic: Str, 0..=12;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 13..;
        /// The partitions.
        partitions: Vec<FetchPartition>, 0..;
    }

    /// A partition to read.
    pub struct FetchPartition {
        /// The partition's index.
        partition: i32, 0..;
        /// The leader epoch that the client believes in, -1 if it does not say; fences it against an older or newer
        /// leader (KIP-320).
        current_leader_epoch: i32 = -1, 9..;
        /// The first offset wanted.
        fetch_offset: i64, 0..;
        /// The leader epoch of the last record that the reader has, -1 if it has none or does not say.
        last_fetched_epoch: i32 = -1, 12..;
        /// The first offset that the follower keeps, -1 for a client.
        log_start_offset: i64 = -1, 5..;
        /// How much to answer with from this partition at most, in bytes; with the same exception (KIP-74).
        partition_max_bytes: i32, 0..;
        /// The follower's data folder.
        replica_directory_id: Uuid, 17.., tag 0;
        /// The high watermark that the follower knows of, `i64::MAX` if it does not say (KIP-1166).
        high_watermark: i64 = i64::MAX, 18.., tag 1;
    }

    /// Partitions of a topic to drop from the session.
    pub struct ForgottenTopic {
        /// The topic's name.
        topic: Str, 7..=12;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 13..;
        /// The partitions.
        partitions: Vec<i32>, 7..;
    }

    /// Records, and how far the partitions have come.
    pub struct FetchResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// What is wrong with the request as a whole, usually with its session: an
        /// [`ErrorCode`](crate::wire::ErrorCode).
        error_code: i16, 7..;
        /// The fetch session, 0 for none.
        session_id: i32, 7..;
        /// The topics.
        responses: Vec<FetchableTopicResponse>, 0..;
        /// Where to reach the brokers named as current leaders.
        node_endpoints: Vec<NodeEndpoint>, 16.., tag 0;
    }

    /// A topic that was read.
    pub struct FetchableTopicResponse {
        /// The topic's name.
        topic: Str, 0..=12;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 13..;
        /// The partitions.
        partitions: Vec<PartitionData>, 0..;
    }

    /// A partition that was read.
    pub struct PartitionData {
        /// The partition's index.
        partition_index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// Everything below is held by the in-sync replicas.
        high_watermark: i64, 0..;
        /// Below it no transaction is undecided; -1 if unknown.
        last_stable_offset: i64 = -1, 4..;
        /// The first offset still kept, -1 if unknown.
        log_start_offset: i64 = -1, 5..;
        /// Where the reader's log parts from the leader's, if it does (KIP-595).
        diverging_epoch: EpochEndOffset, 12.., tag 0;
        /// Who leads now, where the request went to the wrong broker (KIP-951).
        current_leader: LeaderIdAndEpoch, 12.., tag 1;
        /// The snapshot to fetch instead, where the offset is below the log's start (KIP-630).
        snapshot_id: SnapshotId, 12.., tag 2;
        /// Transactions among the records that were aborted, for read_committed readers to skip; null if that was not
        /// asked for.
        aborted_transactions: Option<Vec<AbortedTransaction>>, 4.., null 4..;
        /// The broker to read from instead, -1 for this one (KIP-392).
        preferred_read_replica: i32 = -1, 11..;
        /// The batches. Clients expect an empty value rather than null where there is nothing.
        records: Option<Records>, 0.., null 0..;
    }

    /// A leader epoch and where it ends.
    pub struct EpochEndOffset {
        /// The largest leader epoch known to agree, -1 if the logs do not part.
        epoch: i32 = -1, 12..;
        /// The offset after its last, -1 if the logs do not part.
        end_offset: i64 = -1, 12..;
    }

    /// The leader of a partition.
    pub struct LeaderIdAndEpoch {
        /// The broker that leads, -1 if none or unknown.
        leader_id: i32 = -1, 12..;
        /// The leader epoch, -1 if unknown.
        leader_epoch: i32 = -1, 12..;
    }

    /// A snapshot of a metadata log.
    pub struct SnapshotId {
        /// The offset after the last that it covers, -1 for no snapshot.
        end_offset: i64 = -1, 0..;
        /// The leader epoch of the last that it covers, -1 for no snapshot.
        epoch: i32 = -1, 0..;
    }

    /// A transaction that was aborted.
    pub struct AbortedTransaction {
        /// The producer, -1 if none.
        producer_id: i64, 4..;
        /// The transaction's first offset.
        first_offset: i64, 4..;
    }

    /// Where to reach a broker.
    pub struct NodeEndpoint {
        /// The broker.
        node_id: i32, 16..;
        /// Its address for clients.
        host: Str, 16..;
        /// Its port for clients.
        port: i32, 16..;
        /// Its rack; null if it has none.
        rack: Option<Str>, 16.., null 16..;
    }
}
