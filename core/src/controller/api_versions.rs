//! Which versions are served: ApiVersions 0-4 (KIP-35, KIP-511).
//!
//! No feature is finalized: transactions, the new groups and the rest are announced only once they are served, and
//! clients choose their protocols by that.

use crate::wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{ApiKey, ErrorCode, Str};

/// The APIs and versions that are served. `version` is the request's; from 3 it names the client's software.
pub fn api_versions(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let is_named = |name: &Str| is_software_name(name.as_bytes());
    if version >= 3 && !(is_named(&request.client_software_name) && is_named(&request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    ApiVersionsResponse { api_keys: ApiKey::advertised_apis(), ..ApiVersionsResponse::default() }
}

/// Whether this can be the name or version of a client's software, which ends up in metrics: letters, digits, `.` and
/// `-`, the last two not at an end (KIP-511).
fn is_software_name(name: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.iter().all(inner) && is_end(name.first()) && is_end(name.last())
}
