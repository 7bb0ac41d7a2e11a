//! The segment that a run is copied to.

use bytes::{Bytes, BytesMut};

use crate::batch::BatchHead;
use crate::boundary::{DiskError, FileName, Files, SegmentName};
use crate::log::Indexer;

/// Batches are gathered up to so many bytes for one write.
const WRITE_BYTES: usize = 1 << 20;
/// What was written is synced when it comes to so many bytes: one sync of a whole segment would hold up the journal's for
/// as long as that takes.
const SYNC_BYTES: u64 = 8 << 20;
/// What an index entry counts in 32 bits.
const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;

/// A segment in the making.
#[derive(Debug)]
pub(super) struct Output {
    name: SegmentName,
    is_begun: bool,
    /// What is in the file.
    written: u64,
    unsynced: u64,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    indexer: Indexer,
    max_timestamp: i64,
    /// The newest batch that it was to be given, where that one goes.
    passed: Option<BatchHead>,
}

impl Output {
    pub(super) fn new(name: SegmentName) -> Output {
        Output {
            name,
            is_begun: false,
            written: 0,
            unsynced: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            indexer: Indexer::at(0),
            max_timestamp: -1,
            passed: None,
        }
    }

    pub(super) fn name(&self) -> SegmentName {
        self.name
    }

    /// The largest timestamp of its records, -1 where it has none.
    pub(super) fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.written + (self.gathered_bytes + bytes) as u64 <= SEGMENT_BYTES_MAX
    }

    /// How much is gathered and not written.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        self.gathered_bytes as u64
    }

    /// The next batch goes.
    pub(super) fn pass_over(&mut self, head: BatchHead) {
        self.passed = Some(head);
    }

    /// The last batch that it was to be given, where that one was to go.
    pub(super) fn take_passed(&mut self) -> Option<BatchHead> {
        self.passed.take()
    }

    /// Whether it has no batch.
    pub(super) fn is_empty(&self) -> bool {
        self.written + self.gathered_bytes as u64 == 0
    }

    /// Takes the next batch, whole.
    pub(super) fn push(&mut self, batch: Bytes) {
        self.passed = None;
        let head = BatchHead::parse(&batch).expect("a batch that was read or made");
        let max_timestamp = head.max_timestamp_inside();
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.indexer.push(head.base_offset.0, max_timestamp, &batch, batch.len() as u64);
        self.gathered_bytes += batch.len();
        self.gathered.push(batch);
    }

    /// Writes what is gathered where it has become enough. Returns how many bytes that were.
    pub(super) fn write(&mut self, files: &dyn Files) -> Result<u64, DiskError> {
        if self.gathered_bytes < WRITE_BYTES {
            return Ok(0);
        }
        self.write_out(files)
    }

    fn write_out(&mut self, files: &dyn Files) -> Result<u64, DiskError> {
        let file = FileName::Segment(self.name);
        if !self.is_begun {
            // A process that died may have left something under this name.
            files.truncate(file, 0)?;
            files.truncate(FileName::Index(self.name), 0)?;
            self.is_begun = true;
        }
        let gathered = std::mem::take(&mut self.gathered);
        let bytes = std::mem::take(&mut self.gathered_bytes) as u64;
        // Small slices, each of which would keep the chunk that it is of, and cost a part of a system call.
        let mut whole = BytesMut::with_capacity(usize::try_from(bytes).expect("it was in memory"));
        gathered.iter().for_each(|batch| whole.extend_from_slice(batch));
        // As with write-behind: a full disk is to be noticed before pages are out of our hands.
        files.allocate(file, self.written, bytes)?;
        files.write_at(file, self.written, &[whole.freeze()])?;
        self.written += bytes;
        self.unsynced += bytes;
        if self.unsynced >= SYNC_BYTES {
            files.sync(file)?;
            self.unsynced = 0;
        }
        Ok(bytes)
    }

    /// Makes the segment complete and durable. Returns its length in bytes and the number of its index entries.
    pub(super) fn finish(&mut self, files: &dyn Files) -> Result<(u64, u64), DiskError> {
        self.write_out(files)?;
        let (index, entries) = std::mem::replace(&mut self.indexer, Indexer::at(0)).finish();
        let file = FileName::Index(self.name);
        files.allocate(file, 0, index.len() as u64)?;
        files.write_at(file, 0, &[index])?;
        files.sync(FileName::Segment(self.name))?;
        files.sync(file)?;
        Ok((self.written, entries))
    }
}
