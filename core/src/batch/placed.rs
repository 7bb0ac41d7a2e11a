//! The one door for a leader's bytes: batches that have their places in a log already.
//!
//! A follower stores them as they are. So what they hold is not looked at again, which their checksums make needless;
//! but nothing is taken that could not be a part of a log, since what is appended is relied on for ever.

use bytes::Bytes;

use super::error::BatchError;
use super::head::BatchHead;
use super::scan::{Scan, ScanError};
use crate::ids::LeaderEpoch;

/// A batch in its place in a log: its bytes have the checksum that its head says, and its head makes sense.
///
/// Can only be made by [`verify_placed`].
#[derive(Clone, Debug)]
pub struct PlacedBatch {
    head: BatchHead,
    bytes: Bytes,
}

impl PlacedBatch {
    /// The head.
    pub fn head(&self) -> &BatchHead {
        &self.head
    }

    /// The whole batch, head included, as it is stored and sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Takes `run` as batches one after another that a leader in `leader_epoch` sends, each at most `batch_bytes_max` long.
///
/// Offsets rise from batch to batch, with gaps where compaction has been; leader epochs never fall, and none is newer
/// than the leader's.
///
/// # Errors
/// At the first batch that cannot be a part of such a leader's log, or that is not whole.
pub fn verify_placed(
    run: &Bytes,
    leader_epoch: LeaderEpoch,
    batch_bytes_max: usize,
) -> Result<Vec<PlacedBatch>, ScanError> {
    let mut batches = Vec::new();
    let mut oldest = LeaderEpoch(0);
    for found in Scan::checked(run) {
        let found = found?;
        check_place(&found.head, oldest, leader_epoch, batch_bytes_max)
            .map_err(|error| ScanError { position: found.range.start, error })?;
        oldest = found.head.leader_epoch;
        batches.push(PlacedBatch { head: found.head, bytes: run.slice(found.range) });
    }
    Ok(batches)
}

fn check_place(
    head: &BatchHead,
    oldest: LeaderEpoch,
    newest: LeaderEpoch,
    batch_bytes_max: usize,
) -> Result<(), BatchError> {
    head.attributes.codec()?;
    if head.batch_bytes() > batch_bytes_max {
        return Err(BatchError::BatchTooLarge { bytes: head.batch_bytes(), limit: batch_bytes_max });
    }
    let BatchHead { count, last_offset_delta, leader_epoch, .. } = *head;
    // Compaction takes records away, and may leave none.
    if count < 0 || i64::from(count) > i64::from(last_offset_delta) + 1 {
        return Err(BatchError::CountDiffersFromOffsets { count, last_offset_delta });
    }
    if leader_epoch < oldest || leader_epoch > newest {
        return Err(BatchError::LeaderEpochImpossible {
            leader_epoch: leader_epoch.0,
            oldest: oldest.0,
            newest: newest.0,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::ids::Offset;
    use crate::time::Timestamp;

    fn batch(base: i64, epoch: i32, records: usize) -> Vec<u8> {
        (0..records)
            .fold(BatchBuilder::new().place(Offset(base), LeaderEpoch(epoch)), |batch, _| {
                batch.record(Timestamp(5), None, Some(b"value"))
            })
            .build()
            .to_vec()
    }

    fn check(batches: &[Vec<u8>], expect: Result<&[i64], BatchError>) {
        let run = Bytes::from(batches.concat());
        let seen = verify_placed(&run, LeaderEpoch(7), 500).map_err(|error| error.error);
        let bases = seen.map(|batches| batches.iter().map(|batch| batch.head().base_offset.0).collect::<Vec<_>>());
        assert_eq!(bases.as_ref().map(Vec::as_slice).map_err(|&error| error), expect);
    }

    #[test]
    fn a_run_of_a_log_is_taken_with_the_gaps_that_compaction_left() {
        check(&[], Ok(&[]));
        check(&[batch(0, 0, 1), batch(1, 3, 3), batch(10, 7, 1)], Ok(&[0, 1, 10]));
    }

    #[test]
    fn what_no_log_holds_is_refused() {
        check(&[batch(5, 1, 2), batch(6, 1, 1)], Err(BatchError::OffsetsDescend { previous: 6, base_offset: 6 }));
        let epochs = |leader_epoch, oldest| BatchError::LeaderEpochImpossible { leader_epoch, oldest, newest: 7 };
        check(&[batch(0, 3, 1), batch(1, 2, 1)], Err(epochs(2, 3)));
        check(&[batch(0, 8, 1)], Err(epochs(8, 0)));
        check(&[batch(0, -1, 1)], Err(epochs(-1, 0)));
        check(&[batch(0, 1, 50)], Err(BatchError::BatchTooLarge { bytes: batch(0, 1, 50).len(), limit: 500 }));
        let mut damaged = batch(0, 1, 1);
        *damaged.last_mut().expect("not empty") ^= 1;
        let crc = u32::from_be_bytes(damaged[17..21].try_into().expect("four bytes"));
        let computed = crc32c::crc32c(&damaged[21..]);
        check(&[damaged], Err(BatchError::CrcDiffers { stored: crc, computed }));
        let cut = batch(0, 1, 1)[..70].to_vec();
        check(&[cut], Err(BatchError::BytesEndInsideBatch { bytes: 70, batch_bytes: batch(0, 1, 1).len() }));
    }

    #[test]
    fn batches_are_slices_of_what_came() {
        let run = Bytes::from([batch(0, 1, 1), batch(1, 1, 1)].concat());
        let batches = verify_placed(&run, LeaderEpoch(7), 500).expect("sound batches");
        assert!(batches.iter().all(|batch| run.as_ptr_range().contains(&batch.bytes().as_ptr())));
        assert_eq!(batches.iter().flat_map(|batch| batch.bytes().to_vec()).collect::<Vec<_>>(), run);
    }
}
