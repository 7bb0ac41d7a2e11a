//! UpdateFeatures (key 57): raises or lowers the level of a feature. KIP-584, KIP-778.

use super::super::table::prelude::*;

messages! {
    /// Changes the levels of features.
    pub struct UpdateFeaturesRequest {
        /// How long the client will wait, in milliseconds.
        timeout_ms: i32 = 60_000, 0..;
        /// The changes.
        feature_updates: Vec<FeatureUpdateKey>, 0..;
        /// Whether to say only what would happen.
        validate_only: bool, 1..;
    }

    /// A change of one feature's level.
    pub struct FeatureUpdateKey {
        /// The feature's name.
        feature: Str, 0..;
        /// The level; below 1 for none.
        max_version_level: i16, 0..;
        /// Whether the level may fall.
        allow_downgrade: bool, 0..=0;
        /// What may happen: 1 a rise, 2 a fall that loses nothing, 3 any fall.
        upgrade_type: i8 = 1, 1..;
    }

    /// What became of that.
    pub struct UpdateFeaturesResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode) for the whole request, 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// What became of each change.
        results: Vec<UpdatableFeatureResult>, 0..=1;
    }

    /// What became of one change.
    pub struct UpdatableFeatureResult {
        /// The feature's name.
        feature: Str, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
    }
}
