//! What a leader's log sends to followers: all of it, whether it is committed or not.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Log, Read, TailBatch};
use crate::ids::Offset;

/// Batches in memory, one after another.
#[derive(Debug)]
pub struct Run {
    /// Their bytes.
    pub slices: SmallVec<[Bytes; 2]>,
    /// How many bytes.
    pub bytes: usize,
    /// Where the last of them ends.
    pub end: Offset,
}

impl Log {
    /// The batches from `offset` on that are in memory, at most so many and so many bytes, but always one; `None` where the
    /// next one is not in memory.
    pub fn run_from(&self, offset: Offset, max_bytes: usize, max_batches: usize) -> Option<Run> {
        if !self.is_next_in_memory(offset) {
            return None;
        }
        let mut run = Run { slices: SmallVec::new(), bytes: 0, end: offset };
        for batch in self.tail.from(offset).take(max_batches) {
            if run.bytes > 0 && run.bytes + batch.bytes() > max_bytes {
                break;
            }
            run.bytes += batch.bytes();
            run.end = Offset(batch.last.0 + 1);
            run.slices.extend(TailBatch::slices(batch));
        }
        (run.bytes > 0).then_some(run)
    }

    /// How to find the batches from `offset` on that are not in memory.
    pub fn read_to_end(&self, offset: Offset, max_bytes: usize) -> Read {
        self.read(offset, self.end, max_bytes)
    }
}
