//! What a partition's journal records hold.

use std::fmt;

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};

use super::cut::{CUT_BYTES, Truncation};
use super::{Replacement, Seal, TailBatch};
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

/// Of a Roll, LogStart or Cleaned record.
pub(super) fn offset(offset: Offset) -> [u8; 8] {
    offset.0.to_le_bytes()
}

/// Reads what [`offset`] wrote.
pub(super) fn read_offset(mut payload: Bytes) -> Result<Offset, PayloadError> {
    Ok(Offset(payload.try_get_i64_le()?))
}

/// Of a Truncate record.
pub(super) fn truncate(truncation: &Truncation) -> [u8; CUT_BYTES as usize] {
    let Truncation { end, base, generation, undo_from } = truncation;
    let mut payload = [0; CUT_BYTES as usize];
    payload[..8].copy_from_slice(&end.0.to_le_bytes());
    payload[8..16].copy_from_slice(&base.0.to_le_bytes());
    payload[16..20].copy_from_slice(&generation.to_le_bytes());
    payload[20..].copy_from_slice(&undo_from.0.to_le_bytes());
    payload
}

/// Reads what [`truncate`] wrote.
pub(super) fn read_truncate(mut payload: Bytes) -> Result<Truncation, PayloadError> {
    Ok(Truncation {
        end: Offset(payload.try_get_i64_le()?),
        base: Offset(payload.try_get_i64_le()?),
        generation: payload.try_get_u32_le()?,
        undo_from: Offset(payload.try_get_i64_le()?),
    })
}

/// Of a StartAnew record: where the log begins, and the number of its segments' files.
pub(super) fn start_anew(at: Offset, generation: u32) -> [u8; 12] {
    let mut payload = [0; 12];
    payload[..8].copy_from_slice(&at.0.to_le_bytes());
    payload[8..].copy_from_slice(&generation.to_le_bytes());
    payload
}

/// Reads what [`start_anew`] wrote.
pub(super) fn read_start_anew(mut payload: Bytes) -> Result<(Offset, u32), PayloadError> {
    Ok((Offset(payload.try_get_i64_le()?), payload.try_get_u32_le()?))
}

/// What stands before the batch in an Append record, in bytes.
pub(super) const TAKEN_BYTES: usize = 8;

/// Of an Append record, before the batch: when the broker took it.
pub(super) fn taken(at: Timestamp) -> [u8; TAKEN_BYTES] {
    at.0.to_le_bytes()
}

/// Of an AppendDirect record: when the broker took the batch, its head, where in the segment it lies, which of its bytes
/// are there, and the others.
pub(super) fn direct(taken: Timestamp, head: &BatchHead, batch: &TailBatch) -> Vec<u8> {
    let blocks = batch.direct.as_deref().expect("a batch that is written directly");
    let mut payload = Vec::with_capacity(8 + HEAD_BYTES + 16 + 2 * 4096);
    payload.extend_from_slice(&taken.0.to_le_bytes());
    payload.extend_from_slice(&head.to_bytes());
    payload.extend_from_slice(&batch.position.to_le_bytes());
    for edge in [blocks.start, blocks.end] {
        payload.extend_from_slice(&u32::try_from(edge).expect("a batch is smaller than 4 GiB").to_le_bytes());
    }
    for slice in batch.range(0..blocks.start).chain(batch.range(blocks.end..batch.bytes())) {
        payload.extend_from_slice(&slice);
    }
    payload
}

/// What an AppendDirect record says.
pub(super) struct Direct {
    pub(super) taken: Timestamp,
    pub(super) head: BatchHead,
    pub(super) position: u64,
    pub(super) blocks: Range<usize>,
    /// The bytes before the blocks and those behind them.
    pub(super) others: Bytes,
}

/// Reads what [`direct`] wrote.
pub(super) fn read_direct(mut payload: Bytes) -> Result<Direct, PayloadError> {
    let (taken, head, body) = read_append(payload.split_to((8 + HEAD_BYTES).min(payload.len())))?;
    debug_assert!(body.is_empty());
    let position = payload.try_get_u64_le()?;
    let start = payload.try_get_u32_le()? as usize;
    let end = payload.try_get_u32_le()? as usize;
    let whole = head.batch_bytes();
    if start > end || end > whole || payload.len() != whole - (end - start) {
        return Err(PayloadError::Contradiction("the bytes of a batch do not add up".into()));
    }
    Ok(Direct { taken, head, position, blocks: start..end, others: payload })
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

/// What a Replace record says before its seals, in bytes.
const REPLACEMENT_BYTES: usize = 60;
/// What it or a Sealed record says of one segment that is sealed, in bytes.
const SEAL_BYTES: usize = 16;

/// How long the payload of a Replace record with so many seals is, in bytes.
pub(super) fn replacement_bytes(seals: usize) -> u64 {
    (REPLACEMENT_BYTES + seals * SEAL_BYTES) as u64
}

/// Of a Replace record.
pub(super) fn replace(replacement: &Replacement, seals: &[Seal]) -> Vec<u8> {
    let Replacement { base, end, generation, bytes, entries, max_timestamp, since } = *replacement;
    let mut payload = Vec::with_capacity(REPLACEMENT_BYTES + seals.len() * SEAL_BYTES);
    payload.put_i64_le(base.0);
    payload.put_i64_le(end.0);
    payload.put_u32_le(generation);
    payload.put_u64_le(bytes);
    payload.put_u64_le(entries);
    payload.put_i64_le(max_timestamp);
    payload.put_i64_le(since.0);
    payload.put_u64_le(seals.len() as u64);
    put_seals(&mut payload, seals);
    payload
}

/// How long the payload of a Sealed record about so many segments is, in bytes.
pub(super) fn sealed_bytes(seals: usize) -> u64 {
    (seals * SEAL_BYTES) as u64
}

/// Of a Sealed record.
pub(super) fn sealed(seals: &[Seal]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(seals.len() * SEAL_BYTES);
    put_seals(&mut payload, seals);
    payload
}

/// Reads what [`sealed`] wrote.
pub(super) fn read_sealed(payload: Bytes) -> Result<Vec<Seal>, PayloadError> {
    read_seals(payload)
}

fn put_seals(payload: &mut Vec<u8>, seals: &[Seal]) {
    for seal in seals {
        payload.put_i64_le(seal.base.0);
        payload.put_u64_le(seal.entries);
    }
}

fn read_seals(mut payload: Bytes) -> Result<Vec<Seal>, PayloadError> {
    let mut seals = Vec::with_capacity(payload.len() / SEAL_BYTES);
    while !payload.is_empty() {
        seals.push(Seal { base: Offset(payload.try_get_i64_le()?), entries: payload.try_get_u64_le()? });
    }
    Ok(seals)
}

/// Reads what [`replace`] wrote.
pub(super) fn read_replace(mut payload: Bytes) -> Result<(Replacement, Vec<Seal>), PayloadError> {
    let replacement = Replacement {
        base: Offset(payload.try_get_i64_le()?),
        end: Offset(payload.try_get_i64_le()?),
        generation: payload.try_get_u32_le()?,
        bytes: payload.try_get_u64_le()?,
        entries: payload.try_get_u64_le()?,
        max_timestamp: payload.try_get_i64_le()?,
        since: Timestamp(payload.try_get_i64_le()?),
    };
    let count = payload.try_get_u64_le()?;
    if payload.len() as u64 != count.saturating_mul(SEAL_BYTES as u64) {
        return Err(PayloadError::Short);
    }
    Ok((replacement, read_seals(payload)?))
}
