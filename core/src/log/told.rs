//! What a partition's journal records say, for people: not for recovery, which asks besides whether one follows from those
//! before it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::payload::{self, PayloadError};
use super::{Replacement, Seal};
use crate::batch::BatchHead;
use crate::ids::{LeaderEpoch, Offset};
use crate::journal::RecordKind;
use crate::time::Timestamp;

/// Of how many segments a line names where they begin.
const NAMED_MAX: usize = 16;

/// What one record says of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A batch was appended.
    Append {
        /// When the broker took it.
        taken: Timestamp,
        /// The batch with its head, not checked.
        batch: Bytes,
    },
    /// A batch was appended of which a part lies in its segment only.
    AppendDirect {
        /// When the broker took it.
        taken: Timestamp,
        /// Its head.
        head: BatchHead,
        /// Where in the segment it begins.
        position: u64,
        /// Which of its bytes are not in the journal.
        blocks: Range<usize>,
    },
    /// A leader epoch began.
    EpochStart {
        /// Which.
        epoch: LeaderEpoch,
        /// The log's end at that time.
        start: Offset,
    },
    /// The log start offset moved.
    LogStart(Offset),
    /// A segment began.
    Roll(Offset),
    /// The log's end was cut.
    Truncate {
        /// Where the log ends from then on.
        end: Offset,
        /// Where the new segment begins.
        base: Offset,
        /// The number of its files.
        generation: u32,
    },
    /// The log was emptied.
    StartAnew {
        /// Where it begins.
        start: Offset,
        /// The number of its segments' files.
        generation: u32,
    },
    /// A segment took the place of others.
    Replace(Replacement),
    /// What is below was compacted.
    Cleaned(Offset),
    /// Segments are wholly on disk.
    Sealed(Vec<Seal>),
}

/// What a record of `kind` with this payload says; `None` where its kind is not one of a log.
///
/// # Errors
/// Where its payload cannot be understood. Never panics.
pub fn told(kind: RecordKind, payload: Bytes) -> Result<Option<Told>, PayloadError> {
    Ok(Some(match kind {
        RecordKind::Append => {
            let batch = payload.clone();
            let (taken, _, _) = payload::read_append(payload)?;
            Told::Append { taken, batch: batch.slice(payload::TAKEN_BYTES..) }
        }
        RecordKind::AppendDirect => {
            let direct = payload::read_direct(payload)?;
            let payload::Direct { taken, head, position, blocks, .. } = direct;
            Told::AppendDirect { taken, head, position, blocks }
        }
        RecordKind::EpochStart => {
            let (epoch, start) = payload::read_epoch_start(payload)?;
            Told::EpochStart { epoch, start }
        }
        RecordKind::LogStart => Told::LogStart(payload::read_offset(payload)?),
        RecordKind::Roll => Told::Roll(payload::read_offset(payload)?),
        RecordKind::Truncate => {
            let cut = payload::read_truncate(payload)?;
            Told::Truncate { end: cut.end, base: cut.base, generation: cut.generation }
        }
        RecordKind::StartAnew => {
            let (start, generation) = payload::read_start_anew(payload)?;
            Told::StartAnew { start, generation }
        }
        RecordKind::Replace => Told::Replace(payload::read_replace(payload)?.0),
        RecordKind::Cleaned => Told::Cleaned(payload::read_offset(payload)?),
        RecordKind::Sealed => Told::Sealed(payload::read_sealed(payload)?),
        RecordKind::Metadata
        | RecordKind::PartitionState
        | RecordKind::NodeState
        | RecordKind::Quorum
        | RecordKind::Applied
        | RecordKind::Image => return Ok(None),
    }))
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Append { taken, batch } => write!(f, "a batch of {} bytes, taken at {}", batch.len(), taken.0),
            Told::AppendDirect { taken, head, position, blocks } => write!(
                f,
                "a batch at byte {position} of its segment, taken at {}; {} of its {} bytes, from byte {} of it on, are \
                 in the segment only",
                taken.0,
                blocks.len(),
                head.batch_bytes(),
                blocks.start
            ),
            Told::EpochStart { epoch, start } => write!(f, "leader epoch {epoch} begins at offset {start}"),
            Told::LogStart(start) => write!(f, "the log start offset is {start}"),
            Told::Roll(base) => write!(f, "a segment begins at offset {base}"),
            Told::Truncate { end, base, generation } => write!(
                f,
                "the log is cut to end at offset {end}, and a segment of generation {generation} begins at {base}"
            ),
            Told::StartAnew { start, generation } => {
                write!(f, "the log is emptied and begins at offset {start}, in segments of generation {generation}")
            }
            Told::Replace(Replacement { base, end, generation, bytes, .. }) => write!(
                f,
                "the segments of offsets {base} to below {end} are compacted into one of generation {generation} with \
                 {bytes} bytes"
            ),
            Told::Cleaned(to) => write!(f, "what is below offset {to} is compacted"),
            Told::Sealed(seals) => {
                write!(f, "{} segments are wholly on disk, which begin at", seals.len())?;
                seals.iter().take(NAMED_MAX).try_for_each(|seal| write!(f, " {}", seal.base))?;
                if seals.len() > NAMED_MAX { f.write_str(" ...") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: RecordKind, payload: &[u8]) -> Result<String, PayloadError> {
        let told = told(kind, Bytes::copy_from_slice(payload))?;
        Ok(told.map_or_else(|| "of no log".to_owned(), |told| told.to_string()))
    }

    #[test]
    fn small_records_are_one_line_each() {
        let check = |kind, payload: &[u8], expect: &str| assert_eq!(line(kind, payload).as_deref(), Ok(expect));
        let epoch = payload::epoch_start(LeaderEpoch(3), Offset(7));
        check(RecordKind::EpochStart, &epoch, "leader epoch 3 begins at offset 7");
        check(RecordKind::LogStart, &payload::offset(Offset(5)), "the log start offset is 5");
        check(RecordKind::Roll, &payload::offset(Offset(5)), "a segment begins at offset 5");
        check(RecordKind::Cleaned, &payload::offset(Offset(5)), "what is below offset 5 is compacted");
        let cut =
            super::super::cut::Truncation { end: Offset(9), base: Offset(8), generation: 2, undo_from: Offset(0) };
        let expect = "the log is cut to end at offset 9, and a segment of generation 2 begins at 8";
        check(RecordKind::Truncate, &payload::truncate(&cut), expect);
        let expect = "the log is emptied and begins at offset 4, in segments of generation 1";
        check(RecordKind::StartAnew, &payload::start_anew(Offset(4), 1), expect);
        let seals: Vec<_> = (0..17).map(|base| Seal { base: Offset(base), entries: 1 }).collect();
        check(RecordKind::Sealed, &payload::sealed(&seals[..2]), "2 segments are wholly on disk, which begin at 0 1");
        let many = line(RecordKind::Sealed, &payload::sealed(&seals)).expect("they are well formed");
        assert!(many.starts_with("17 segments") && many.ends_with(" 15 ..."), "{many}");
        check(RecordKind::Quorum, b"", "of no log");
    }

    #[test]
    fn a_payload_that_is_cut_short_is_an_error() {
        for number in 1..=16 {
            let kind = RecordKind::from_number(number).expect("a known kind");
            for length in 0..8 {
                let found = line(kind, &[0xff; 8][..length]);
                let of_log = !matches!(kind, RecordKind::PartitionState) && !kind.is_node_wide();
                let is_empty_list = kind == RecordKind::Sealed && length == 0;
                assert_eq!(found.is_err(), of_log && !is_empty_list, "{kind:?} of {length} bytes: {found:?}");
            }
        }
    }
}
