//! AddRaftVoter (key 80): one more who counts for the majority that agrees on the metadata. KIP-853, KIP-1186 (an answer
//! before that has committed).

use super::super::table::prelude::*;

messages! {
    /// Adds a voter.
    pub struct AddRaftVoterRequest {
        /// The cluster that is meant; null for any.
        cluster_id: Option<Str>, 0.., null 0..;
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32, 0..;
        /// The node.
        voter_id: i32, 0..;
        /// Its data folder.
        voter_directory_id: Uuid, 0..;
        /// Where it is reached.
        listeners: Vec<Listener>, 0..;
        /// Whether to answer when the new voters have been agreed on; else when the leader has begun that.
        ack_when_committed: bool = true, 1..;
    }

    /// An address.
    pub struct Listener {
        /// The listener's name.
        name: Str, 0..;
        /// The host.
        host: Str, 0..;
        /// The port.
        port: u16, 0..;
    }

    /// What became of that.
    pub struct AddRaftVoterResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
    }
}
