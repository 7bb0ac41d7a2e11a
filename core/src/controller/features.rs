//! Levels of features: UpdateFeatures 0-2 (KIP-584, KIP-1022). There is one feature, in force at its only level, so that
//! nothing can change: what is asked for is either so already, or refused.

use super::Refused;
use super::api_versions::{GROUP_VERSION, GROUP_VERSION_LEVEL};
use crate::wire::ErrorCode;
use crate::wire::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

/// Answers a request to change the levels of features.
pub fn update_features(version: i16, request: &UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let mut refusals = request.feature_updates.iter().filter_map(|update| check(update).err().map(|why| (update, why)));
    if version >= 2 {
        // From here on it is all or nothing.
        let refused = refusals.next().map_or(Ok(()), |(update, why)| {
            let message = format!(
                "The update failed for all features since the following feature had an error: {}: {}",
                update.feature, why.message
            );
            Err(Refused::new(why.error, message))
        });
        let (error_code, error_message) = Refused::fields(refused);
        return UpdateFeaturesResponse { error_code, error_message, ..UpdateFeaturesResponse::default() };
    }
    let results = request.feature_updates.iter().map(|update| {
        let (error_code, error_message) = Refused::fields(check(update));
        UpdatableFeatureResult { feature: update.feature.clone(), error_code, error_message }
    });
    UpdateFeaturesResponse { results: results.collect(), ..UpdateFeaturesResponse::default() }
}

fn check(update: &FeatureUpdateKey) -> Result<(), Refused> {
    match update.max_version_level {
        GROUP_VERSION_LEVEL if update.feature == GROUP_VERSION => Ok(()),
        level => {
            let message = if update.feature == GROUP_VERSION {
                format!(
                    "Invalid update version {level} for feature {GROUP_VERSION}: only {GROUP_VERSION_LEVEL} is supported."
                )
            } else {
                format!("Invalid update version {level} for feature {}: it is not supported.", update.feature)
            };
            Err(Refused::new(ErrorCode::InvalidUpdateVersion, message))
        }
    }
}
