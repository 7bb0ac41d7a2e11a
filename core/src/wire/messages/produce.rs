//! Produce (key 0): records come in. KIP-98, KIP-467 (record errors), KIP-951 (leader hints), KIP-516 (topic ids).

use super::super::table::prelude::*;

messages! {
    /// Appends records to partitions.
    pub struct ProduceRequest {
        /// Who writes transactionally; null outside of transactions.
        transactional_id: Option<Str>, 3.., null 3..;
        /// Who must hold the records before the answer: 0 nobody and no answer at all, 1 the leader, -1 the in-sync
        /// replicas.
        acks: i16, 0..;
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32, 0..;
        /// The topics.
        topic_data: Vec<TopicProduceData>, 0..;
    }

    /// A topic to append to: by name up to version 12, by id from version 13.
    pub struct TopicProduceData {
        /// The topic's name.
        name: Str, 0..=12;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 13..;
        /// The partitions.
        partition_data: Vec<PartitionProduceData>, 0..;
    }

    /// A partition to append to.
    pub struct PartitionProduceData {
        /// The partition's index.
        index: i32, 0..;
        /// The batches, a slice of the request.
        records: Option<Bytes>, 0.., null 0..;
    }

    /// What became of the records. Never sent for acks=0.
    pub struct ProduceResponse {
        /// The topics.
        responses: Vec<TopicProduceResponse>, 0..;
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// Where to reach the brokers named as current leaders.
        node_endpoints: Vec<NodeEndpoint>, 10.., tag 0;
    }

    /// A topic that was appended to.
    pub struct TopicProduceResponse {
        /// The topic's name.
        name: Str, 0..=12;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 13..;
        /// The partitions.
        partition_responses: Vec<PartitionProduceResponse>, 0..;
    }

    /// A partition that was appended to.
    pub struct PartitionProduceResponse {
        /// The partition's index.
        index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The offset given to the first record.
        base_offset: i64, 0..;
        /// When the broker appended the records, if the topic keeps that time instead of the producer's; else -1.
        log_append_time_ms: i64 = -1, 2..;
        /// The first offset still kept, -1 if unknown.
        log_start_offset: i64 = -1, 5..;
        /// The records for which the batch was refused.
        record_errors: Vec<BatchIndexAndErrorMessage>, 8..;
        /// What the record errors have in common, or why the batch was refused; null if there is no more to say.
        error_message: Option<Str>, 8.., null 8..;
        /// Who leads now, where the request went to the wrong broker (KIP-951).
        current_leader: LeaderIdAndEpoch, 10.., tag 0;
    }

    /// A record that was refused, and its batch for it.
    pub struct BatchIndexAndErrorMessage {
        /// The record's index in its batch, from 0.
        batch_index: i32, 8..;
        /// What is wrong with the record; null if there is no more to say.
        batch_index_error_message: Option<Str>, 8.., null 8..;
    }

    /// The leader of a partition.
    pub struct LeaderIdAndEpoch {
        /// The broker that leads, -1 if none or unknown.
        leader_id: i32 = -1, 10..;
        /// The leader epoch, -1 if unknown.
        leader_epoch: i32 = -1, 10..;
    }

    /// Where to reach a broker.
    pub struct NodeEndpoint {
        /// The broker.
        node_id: i32, 10..;
        /// Its address for clients.
        host: Str, 10..;
        /// Its port for clients.
        port: i32, 10..;
        /// Its rack; null if it has none.
        rack: Option<Str>, 10.., null 10..;
    }
}
