//! What a partition's journal records hold.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::batch::{BatchHead, HEAD_BYTES};
use crate::ids::{LeaderEpoch, Offset};
use crate::time::Timestamp;

/// Why a payload cannot be understood, although its checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// It ends before its last field.
    Short,
    /// It is of a version that this program does not know.
    Version(u8),
    /// What it says contradicts what came before.
    Contradiction(String),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadError::Short => f.write_str("it ends before its last field"),
            PayloadError::Version(version) => {
                write!(f, "its version {version} is unknown; was it written by a newer program?")
            }
            PayloadError::Contradiction(text) => f.write_str(text),
        }
    }
}

impl From<bytes::TryGetError> for PayloadError {
    fn from(_: bytes::TryGetError) -> PayloadError {
        PayloadError::Short
    }
}

/// Of an EpochStart record.
pub(super) fn epoch_start(epoch: LeaderEpoch, start: Offset) -> [u8; 12] {
    let mut payload = [0; 12];
    payload[..4].copy_from_slice(&epoch.0.to_le_bytes());
    payload[4..].copy_from_slice(&start.0.to_le_bytes());
    payload
}

/// Reads what [`epoch_start`] wrote.
pub(super) fn read_epoch_start(mut payload: Bytes) -> Result<(LeaderEpoch, Offset), PayloadError> {
    Ok((LeaderEpoch(payload.try_get_i32_le()?), Offset(payload.try_get_i64_le()?)))
}

/// Of a Roll or LogStart record.
pub(super) fn offset(offset: Offset) -> [u8; 8] {
    offset.0.to_le_bytes()
}

/// Reads what [`offset`] wrote.
pub(super) fn read_offset(mut payload: Bytes) -> Result<Offset, PayloadError> {
    Ok(Offset(payload.try_get_i64_le()?))
}

/// Of an Append record, before the batch: when the broker took it.
pub(super) fn taken(at: Timestamp) -> [u8; 8] {
    at.0.to_le_bytes()
}

/// Reads an Append record: when the broker took the batch, its head, and its body.
pub(super) fn read_append(mut payload: Bytes) -> Result<(Timestamp, BatchHead, Bytes), PayloadError> {
    let at = Timestamp(payload.try_get_i64_le()?);
    if payload.len() < HEAD_BYTES {
        return Err(PayloadError::Short);
    }
    let head = BatchHead::parse(&payload).map_err(|error| PayloadError::Contradiction(error.to_string()))?;
    Ok((at, head, payload.slice(HEAD_BYTES..)))
}
