//! Many batches in a row, as a segment file stores them.

use super::error::BatchError;
use super::head::{BatchHead, check};
use crate::ids::Offset;
use std::fmt;
use std::ops::Range;

/// One batch found in a run of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its bytes lie in the run.
    pub range: Range<usize>,
    /// Its head.
    pub head: BatchHead,
}

/// Why a run of batches cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanError {
    /// Where in the run the batch at fault starts.
    pub position: usize,
    /// What is wrong with it.
    pub error: BatchError,
}

impl ScanError {
    /// Whether the run ends inside its last batch, as a file does that was being written: more bytes might complete it.
    pub fn is_cut(&self) -> bool {
        matches!(self.error, BatchError::BytesEndInsideHead { .. } | BatchError::BytesEndInsideBatch { .. })
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.position, self.error)
    }
}

impl std::error::Error for ScanError {}

/// Walks a run of stored batches from its front. Ends with the run, or with one error that names the place.
///
/// Offsets must rise from batch to batch; compaction may leave gaps between them. Records are not looked at.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    position: usize,
    previous: Option<Offset>,
    sums: bool,
    failed: bool,
}

impl<'a> Scan<'a> {
    /// Walks by the heads alone.
    pub fn heads(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, position: 0, previous: None, sums: false, failed: false }
    }

    /// Walks and checks every batch's checksum.
    pub fn checked(bytes: &'a [u8]) -> Scan<'a> {
        Scan { sums: true, ..Scan::heads(bytes) }
    }

    /// Where the next batch starts: the end of the run, or the batch at fault, once there are no more.
    pub fn position(&self) -> usize {
        self.position
    }

    fn found(&self) -> Result<Found, BatchError> {
        let rest = &self.bytes[self.position..];
        let head = BatchHead::parse(rest)?;
        let batch_bytes = head.batch_bytes();
        let Some(batch) = rest.get(..batch_bytes) else {
            return Err(BatchError::BytesEndInsideBatch { bytes: rest.len(), batch_bytes });
        };
        if self.sums {
            check(batch)?;
        }
        let BatchHead { base_offset: Offset(base_offset), last_offset_delta, .. } = head;
        if base_offset < 0 || last_offset_delta < 0 || base_offset > i64::MAX - i64::from(i32::MAX) {
            return Err(BatchError::OffsetRangeImpossible { base_offset, last_offset_delta });
        }
        if let Some(Offset(previous)) = self.previous
            && base_offset <= previous
        {
            return Err(BatchError::OffsetsDescend { previous, base_offset });
        }
        Ok(Found { range: self.position..self.position + batch_bytes, head })
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Found, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.position == self.bytes.len() {
            return None;
        }
        match self.found() {
            Ok(found) => {
                self.position = found.range.end;
                self.previous = Some(found.head.last_offset());
                Some(Ok(found))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(ScanError { position: self.position, error }))
            }
        }
    }
}

/// The batches of a run that a fetch from `from` is answered with: whole ones, from the one that holds `from` or, where
/// compaction left a gap, the next; none that starts at or above `below`; at most `bytes_max` bytes, except that the
/// first is given whatever its size, so that a consumer gets on (KIP-74). `None` where there is no such batch.
///
/// Damage behind the first batch ends the range without an error: whoever fetches from there is told.
pub fn slice(bytes: &[u8], from: Offset, below: Offset, bytes_max: usize) -> Result<Option<Range<usize>>, ScanError> {
    let mut range: Option<Range<usize>> = None;
    for found in Scan::heads(bytes) {
        let found = match (found, &range) {
            (Ok(found), _) => found,
            (Err(_), Some(_)) => break,
            (Err(error), None) => return Err(error),
        };
        if found.head.base_offset >= below {
            break;
        }
        if found.head.last_offset() < from {
            continue;
        }
        let start = range.as_ref().map_or(found.range.start, |range| range.start);
        if range.is_some() && found.range.end - start > bytes_max {
            break;
        }
        range = Some(start..found.range.end);
    }
    Ok(range)
}
