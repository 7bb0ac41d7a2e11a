//! ApiVersions (key 18): which versions are served. KIP-35, KIP-511, KIP-584 (features).

use super::super::table::prelude::*;

messages! {
    /// Asks which versions of which APIs are served: the first request of a connection.
    pub struct ApiVersionsRequest {
        /// The client library.
        client_software_name: Str, 3..;
        /// Its version.
        client_software_version: Str, 3..;
    }

    /// The versions served. Versions 0 to 3 leave out supported features whose first level is 0, which old clients
    /// cannot take.
    pub struct ApiVersionsResponse {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The APIs served and their versions.
        api_keys: Vec<ApiVersion>, 0..;
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 1..;
        /// The feature levels that the broker can work at.
        supported_features: Vec<SupportedFeatureKey>, 3.., tag 0;
        /// Rises with every change of the finalized features; -1 if unknown.
        finalized_features_epoch: i64 = -1, 3.., tag 1;
        /// The feature levels in force in the cluster; valid if their epoch is not -1.
        finalized_features: Vec<FinalizedFeatureKey>, 3.., tag 2;
        /// Whether a controller could take over from ZooKeeper; of no use here.
        zk_migration_ready: bool, 3.., tag 3;
    }

    /// An API.
    pub struct ApiVersion {
        /// The API's number.
        api_key: i16, 0..;
        /// The first version.
        min_version: i16, 0..;
        /// The last version.
        max_version: i16, 0..;
    }

    /// A feature that the broker knows.
    pub struct SupportedFeatureKey {
        /// The feature.
        name: Str, 3..;
        /// The first version.
        min_version: i16, 3..;
        /// The last version.
        max_version: i16, 3..;
    }

    /// A feature in force.
    pub struct FinalizedFeatureKey {
        /// The feature.
        name: Str, 3..;
        /// The highest level in force.
        max_version_level: i16, 3..;
        /// The lowest level in force.
        min_version_level: i16, 3..;
    }
}
