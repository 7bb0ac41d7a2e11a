//! DescribeProducers (key 61): who writes to a partition. KIP-664.

use super::super::table::prelude::*;

messages! {
    /// Asks which producers write to partitions.
    pub struct DescribeProducersRequest {
        /// The topics.
        topics: Vec<TopicRequest>, 0..;
    }

    /// A topic asked about.
    pub struct TopicRequest {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions' indexes.
        partition_indexes: Vec<i32>, 0..;
    }

    /// The producers that write to partitions.
    pub struct DescribeProducersResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The topics.
        topics: Vec<TopicResponse>, 0..;
    }

    /// A topic answered about.
    pub struct TopicResponse {
        /// The topic's name.
        name: Str, 0..;
        /// The partitions.
        partitions: Vec<PartitionResponse>, 0..;
    }

    /// A partition answered about.
    pub struct PartitionResponse {
        /// The partition's index.
        partition_index: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// The producers known to the partition.
        active_producers: Vec<ProducerState>, 0..;
    }

    /// What a partition remembers of a producer.
    pub struct ProducerState {
        /// The producer, -1 if none.
        producer_id: i64, 0..;
        /// Which incarnation of the producer, in 32 bits here alone.
        producer_epoch: i32, 0..;
        /// The sequence number of its last record, -1 if unknown.
        last_sequence: i32 = -1, 0..;
        /// The timestamp of its last batch, -1 if unknown.
        last_timestamp: i64 = -1, 0..;
        /// The epoch of the transaction coordinator that last wrote a marker, -1 if none did.
        coordinator_epoch: i32, 0..;
        /// The first offset of its open transaction, -1 if there is none.
        current_txn_start_offset: i64 = -1, 0..;
    }
}
