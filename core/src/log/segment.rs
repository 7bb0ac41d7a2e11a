//! What the sequencer knows of one segment; its bytes and index lie on disk.

use super::TailBatch;
use crate::ids::Offset;
use crate::time::Timestamp;

/// How much of a segment is known to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Bytes of the segment file.
    pub bytes: u64,
    /// Entries of the index file.
    pub entries: u64,
    /// The offset that the bytes reach up to; meaningless where they are 0.
    pub to: Offset,
}

/// A run of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first offset that it may hold.
    pub base: Offset,
    /// 0 as it was appended; the number of its files where compaction wrote it anew.
    pub generation: u32,
    /// The bytes of its batches, wherever they are.
    pub bytes: u64,
    /// Bytes handed to the file, and so readable from it.
    pub written: u64,
    /// Entries handed to the index file.
    pub entries: u64,
    /// The offset that `written` reaches up to; meaningless where nothing is written.
    pub written_to: Offset,
    /// Blocks are reserved up to here for bodies that go straight to the file.
    pub allocated: u64,
    /// It was cut: behind its last batch that counts, which ends where the next segment begins, lie others that do not.
    pub is_cut: bool,
    /// Bytes of the file that who reads it still may want: more than `bytes` where it was cut since the start.
    pub(super) reach: u64,
    /// It is closed, and blocks reserved beyond its end have not been given back.
    pub holds_reserve: bool,
    /// What of the bytes written is durable.
    pub synced: Mark,
    /// The largest timestamp of its records, -1 where it has none.
    pub max_timestamp: i64,
    /// When its first batch came, by the broker's clock.
    pub since: Timestamp,
}

impl Segment {
    /// An empty segment.
    pub fn new(base: Offset) -> Segment {
        Segment {
            base,
            generation: 0,
            bytes: 0,
            written: 0,
            entries: 0,
            written_to: base,
            allocated: 0,
            is_cut: false,
            reach: 0,
            holds_reserve: false,
            synced: Mark::default(),
            max_timestamp: -1,
            since: Timestamp(0),
        }
    }

    pub(super) fn take(&mut self, batch: &TailBatch, now: Timestamp) {
        if self.bytes == 0 {
            self.since = now;
        }
        self.bytes += batch.bytes() as u64;
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
    }

    /// Whether all of it is on disk, durably.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.bytes == self.bytes
    }

    /// How long its file may be at least when what is reserved behind is given back.
    pub(super) fn file_bytes(&self) -> u64 {
        self.bytes.max(self.reach)
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { bytes: self.written, entries: self.entries, to: self.written_to }
    }

    /// The offset up to which it is synced, `None` where nothing of it is.
    pub(super) fn synced(&self) -> Option<Offset> {
        (self.synced.bytes > 0).then_some(self.synced.to)
    }
}
