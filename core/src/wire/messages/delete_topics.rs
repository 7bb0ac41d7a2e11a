//! DeleteTopics (key 20). KIP-4, KIP-516 (by topic id).

use super::super::table::prelude::*;

messages! {
    /// Deletes topics.
    pub struct DeleteTopicsRequest {
        /// The topics, by name or id.
        topics: Vec<DeleteTopicState>, 6..;
        /// The names of the topics.
        topic_names: Vec<Str>, 0..=5;
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32, 0..;
    }

    /// A topic to delete, by name or id.
    pub struct DeleteTopicState {
        /// Its name; null if it goes by its id.
        name: Option<Str>, 6.., null 6..;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 6..;
    }

    /// What became of the topics.
    pub struct DeleteTopicsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// The topics.
        responses: Vec<DeletableTopicResult>, 0..;
    }

    /// What became of a topic.
    pub struct DeletableTopicResult {
        /// Its name; null where an id was asked for that is unknown.
        name: Option<Str>, 0.., null 6..;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 6..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 5.., null 5..;
    }
}
