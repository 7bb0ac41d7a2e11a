//! Why a member is refused.

use crate::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
use crate::wire::{ErrorCode, Str};

/// Why a member is refused, with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    /// The request is none that a member may send.
    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(ErrorCode::InvalidRequest, message)
    }
}

impl From<Refusal> for ConsumerGroupHeartbeatResponse {
    fn from(refusal: Refusal) -> ConsumerGroupHeartbeatResponse {
        ConsumerGroupHeartbeatResponse {
            error_code: refusal.code as i16,
            error_message: Some(Str::from(refusal.message)),
            ..ConsumerGroupHeartbeatResponse::default()
        }
    }
}
