//! RemoveRaftVoter (key 81): one who no longer counts for the majority that agrees on the metadata. KIP-853.

use super::super::table::prelude::*;

messages! {
    /// Removes a voter.
    pub struct RemoveRaftVoterRequest {
        /// The cluster that is meant; null for any.
        cluster_id: Option<Str>, 0.., null 0..;
        /// The node.
        voter_id: i32, 0..;
        /// Its data folder.
        voter_directory_id: Uuid, 0..;
    }

    /// What became of that.
    pub struct RemoveRaftVoterResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
    }
}
