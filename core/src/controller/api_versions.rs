//! Which versions are served: ApiVersions 0-4 (KIP-35, KIP-511), and which features are in force (KIP-584).
//!
//! Transactions and the rest are announced only once they are served: clients choose their protocols by that.

use crate::wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey};
use crate::wire::{ApiKey, ErrorCode, Str};

/// The feature whose level 1 stands for the consumer groups of KIP-848.
pub(super) const GROUP_VERSION: Str = Str::from_static("group.version");

/// The level of [`GROUP_VERSION`] that is in force everywhere, always.
pub(super) const GROUP_VERSION_LEVEL: i16 = 1;

/// What clients order finalized features by. Ours never change.
const FINALIZED_FEATURES_EPOCH: i64 = 0;

/// The APIs and versions that are served. `version` is the request's; from 3 it names the client's software, and is
/// told of features.
pub fn api_versions(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let is_named = |name: &Str| is_software_name(name.as_bytes());
    if version >= 3 && !(is_named(&request.client_software_name) && is_named(&request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    ApiVersionsResponse {
        api_keys: ApiKey::advertised_apis(),
        supported_features: supported_features(version),
        finalized_features_epoch: FINALIZED_FEATURES_EPOCH,
        finalized_features: vec![FinalizedFeatureKey {
            name: GROUP_VERSION,
            max_version_level: GROUP_VERSION_LEVEL,
            min_version_level: GROUP_VERSION_LEVEL,
        }],
        ..ApiVersionsResponse::default()
    }
}

/// The levels that we could work at, from version 4 on: before it a client may choke on a range that begins with 0
/// (KAFKA-17492).
fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    let group_version = SupportedFeatureKey { name: GROUP_VERSION, min_version: 0, max_version: GROUP_VERSION_LEVEL };
    if version >= 4 { vec![group_version] } else { Vec::new() }
}

/// Whether this can be the name or version of a client's software, which ends up in metrics: letters, digits, `.` and
/// `-`, the last two not at an end (KIP-511).
fn is_software_name(name: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.iter().all(inner) && is_end(name.first()) && is_end(name.last())
}
