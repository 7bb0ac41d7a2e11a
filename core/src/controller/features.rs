//! Levels of features: UpdateFeatures 0-2 (KIP-584, KIP-1022). There is one feature, in force at its only level, so that
//! nothing can change: what is asked for is either so already, or refused.

use std::ops::RangeInclusive;

use super::Refused;
use super::api_versions::{GROUP_VERSION, GROUP_VERSION_LEVEL};
use crate::wire::ErrorCode;
use crate::wire::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

/// The types of updates that there are: a rise, a fall that loses nothing, any fall.
const UPGRADE_TYPES: RangeInclusive<i8> = 1..=3;

/// Answers a request to change the levels of features. It is all or nothing, and told of as a whole, in every version:
/// as Kafka 4 does it.
pub fn update_features(version: i16, request: &UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    if let Some(why) = request.feature_updates.iter().find_map(|update| check(update).err()) {
        let message =
            format!("The update failed for all features since the following feature had an error: {}", why.message);
        let (error_code, error_message) = Refused::fields(Err(Refused::new(why.error, message)));
        return UpdateFeaturesResponse { error_code, error_message, ..UpdateFeaturesResponse::default() };
    }
    let told = if version < 2 { &request.feature_updates[..] } else { &[] };
    let results = told
        .iter()
        .map(|update| UpdatableFeatureResult { feature: update.feature.clone(), ..UpdatableFeatureResult::default() });
    UpdateFeaturesResponse { results: results.collect(), ..UpdateFeaturesResponse::default() }
}

fn check(update: &FeatureUpdateKey) -> Result<(), Refused> {
    let FeatureUpdateKey { feature, max_version_level: level, .. } = update;
    let why = if !UPGRADE_TYPES.contains(&update.upgrade_type) {
        "The controller does not support the given upgrade type.".to_owned()
    } else if *feature != GROUP_VERSION {
        "The feature is not supported.".to_owned()
    } else if *level != GROUP_VERSION_LEVEL {
        format!("Only {GROUP_VERSION_LEVEL} is supported.")
    } else {
        return Ok(());
    };
    let message = format!("Invalid update version {level} for feature {feature}. {why}");
    Err(Refused::new(ErrorCode::InvalidUpdateVersion, message))
}
