//! AlterConfigs (key 33): the older way, replacing all configs of a resource. KIP-133.

use super::super::table::prelude::*;

messages! {
    /// Replaces all configs of resources: what is not named falls back to its default.
    pub struct AlterConfigsRequest {
        /// What it is about.
        resources: Vec<AlterConfigsResource>, 0..;
        /// Whether to say only what would happen.
        validate_only: bool, 0..;
    }

    /// A resource to change.
    pub struct AlterConfigsResource {
        /// What it is: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8, 0..;
        /// The topic's name or the broker's number; empty for all brokers.
        resource_name: Str, 0..;
        /// The configs.
        configs: Vec<AlterableConfig>, 0..;
    }

    /// A config to change.
    pub struct AlterableConfig {
        /// The config's key.
        name: Str, 0..;
        /// The value; null where there is nothing to set.
        value: Option<Str>, 0.., null 0..;
    }

    /// What became of the configs.
    pub struct AlterConfigsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// What became of each resource.
        responses: Vec<AlterConfigsResourceResponse>, 0..;
    }

    /// What became of a resource's configs.
    pub struct AlterConfigsResourceResponse {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// What it is: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8, 0..;
        /// The topic's name or the broker's number; empty for all brokers.
        resource_name: Str, 0..;
    }
}
