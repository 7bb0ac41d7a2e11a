//! UnregisterBroker (key 64): a broker does not come back. KIP-631.

use super::super::table::prelude::*;

messages! {
    /// Forgets a broker.
    pub struct UnregisterBrokerRequest {
        /// The broker.
        broker_id: i32, 0..;
    }

    /// What became of that.
    pub struct UnregisterBrokerResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
    }
}
