//! FindCoordinator (key 10): who coordinates a group or a transaction. KIP-98 (transactions), KIP-699 (several at once),
//! KIP-932 (share groups).

use super::super::table::prelude::*;

messages! {
    /// Asks for coordinators: of one key up to version 3, of several from version 4.
    pub struct FindCoordinatorRequest {
        /// A group's or a transaction's id.
        key: Str, 0..=3;
        /// What the keys are: 0 groups, 1 transactions, 2 partitions of share groups.
        key_type: i8, 1..;
        /// The keys, all of one type.
        coordinator_keys: Vec<Str>, 4..;
    }

    /// Coordinators: one at the top up to version 3, a list from version 4.
    pub struct FindCoordinatorResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..=3;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 1..=3, null 1..;
        /// The broker, -1 where there is an error.
        node_id: i32, 0..=3;
        /// Its address for clients.
        host: Str, 0..=3;
        /// Its port for clients, -1 where there is an error.
        port: i32, 0..=3;
        /// The coordinators, one for each key.
        coordinators: Vec<Coordinator>, 4..;
    }

    /// The coordinator of a key.
    pub struct Coordinator {
        /// The key asked about.
        key: Str, 4..;
        /// The broker, -1 where there is an error.
        node_id: i32, 4..;
        /// Its address for clients.
        host: Str, 4..;
        /// Its port for clients, -1 where there is an error.
        port: i32, 4..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 4..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 4.., null 4..;
    }
}
