//! InitProducerId (key 22): who writes. KIP-98, KIP-360 (keeping an id).

use super::super::table::prelude::*;

messages! {
    /// Asks for a producer id, or for the next epoch of one.
    pub struct InitProducerIdRequest {
        /// Who writes transactionally; null outside of transactions.
        transactional_id: Option<Str>, 0.., null 0..;
        /// After how long the coordinator aborts an idle transaction, in milliseconds.
        transaction_timeout_ms: i32, 0..;
        /// The producer id that the client has, -1 if none.
        producer_id: i64 = -1, 3..;
        /// The producer epoch that the client has, -1 if none.
        producer_epoch: i16 = -1, 3..;
    }

    /// A producer id and epoch.
    pub struct InitProducerIdResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The producer, -1 if none.
        producer_id: i64 = -1, 0..;
        /// Which incarnation of the producer, -1 if none.
        producer_epoch: i16, 0..;
    }
}
