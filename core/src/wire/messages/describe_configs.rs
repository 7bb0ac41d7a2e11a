//! DescribeConfigs (key 32). KIP-133, KIP-226 (synonyms), KIP-569 (documentation).

use super::super::table::prelude::*;

messages! {
    /// Asks for configs.
    pub struct DescribeConfigsRequest {
        /// What it is about.
        resources: Vec<DescribeConfigsResource>, 0..;
        /// Whether to list the values behind the one in force.
        include_synonyms: bool, 1..;
        /// Whether to explain each config.
        include_documentation: bool, 3..;
    }

    /// A resource to describe.
    pub struct DescribeConfigsResource {
        /// What it is: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8, 0..;
        /// The topic's name or the broker's number; empty for all brokers.
        resource_name: Str, 0..;
        /// The keys asked for; null for all.
        configuration_keys: Option<Vec<Str>>, 0.., null 0..;
    }

    /// Configs.
    pub struct DescribeConfigsResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// The results.
        results: Vec<DescribeConfigsResult>, 0..;
    }

    /// A resource's configs.
    pub struct DescribeConfigsResult {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// What it is: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8, 0..;
        /// The topic's name or the broker's number; empty for all brokers.
        resource_name: Str, 0..;
        /// The configs.
        configs: Vec<DescribeConfigsResourceResult>, 0..;
    }

    /// A config.
    pub struct DescribeConfigsResourceResult {
        /// The config's key.
        name: Str, 0..;
        /// Its value; null if it has none or must not be shown.
        value: Option<Str>, 0.., null 0..;
        /// Whether it cannot be changed.
        read_only: bool, 0..;
        /// Where the value comes from: 1 topic, 2 broker, 3 default of all brokers, 4 the broker's file, 5 built-in
        /// default.
        config_source: i8 = -1, 1..;
        /// Whether the value is a secret, and therefore null.
        is_sensitive: bool, 0..;
        /// The values behind the one in force, that first.
        synonyms: Vec<DescribeConfigsSynonym>, 1..;
        /// Its type: 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password; 0 unknown.
        config_type: i8, 3..;
        /// What the config means; null if that was not asked for.
        documentation: Option<Str>, 3.., null 0..;
    }

    /// A value behind the one in force.
    pub struct DescribeConfigsSynonym {
        /// The key under which this value was set.
        name: Str, 1..;
        /// Its value; null if it has none or must not be shown.
        value: Option<Str>, 1.., null 0..;
        /// Where the value comes from, as in `config_source`.
        source: i8, 1..;
    }
}
