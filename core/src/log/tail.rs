//! The newest batches of a log, in memory: what is not yet safe in a segment, and what readers at the end want.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::batch::{BatchHead, HEAD_BYTES};
use crate::boundary::DIRECT_BLOCK;
use crate::ids::{Lsn, Offset};

/// A batch larger than this is kept as it came, behind a head of its own; a smaller one is copied into one allocation,
/// which costs less than a second slice and lets go of the frame that it came in.
const COPIED_BELOW: usize = 16 << 10;

/// A batch in memory.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Its base offset.
    pub base: Offset,
    /// The offset of its last record.
    pub last: Offset,
    /// Its largest timestamp, in milliseconds.
    pub max_timestamp: i64,
    /// Where it begins in its segment.
    pub position: u64,
    /// The LSN of its journal record.
    pub lsn: Lsn,
    /// The range of its bytes that lies in its segment already, whole blocks of it.
    pub direct: Option<Range<usize>>,
    first: Bytes,
    rest: Bytes,
}

impl TailBatch {
    /// A batch as it is stored: a head that carries its offset and epoch, and its body.
    pub fn new(head: &BatchHead, body: &Bytes) -> TailBatch {
        let bytes = head.to_bytes();
        let (first, rest) = if body.len() < COPIED_BELOW {
            let mut copy = BytesMut::with_capacity(HEAD_BYTES + body.len());
            copy.extend_from_slice(&bytes);
            copy.extend_from_slice(body);
            (copy.freeze(), Bytes::new())
        } else {
            (Bytes::copy_from_slice(&bytes), body.clone())
        };
        TailBatch {
            base: head.base_offset,
            last: head.last_offset(),
            max_timestamp: head.max_timestamp.0,
            position: 0,
            lsn: Lsn::default(),
            direct: None,
            first,
            rest,
        }
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Its first bytes, at least the whole head.
    pub fn head(&self) -> &[u8] {
        &self.first
    }

    /// Its bytes as one or two slices; the second may be empty.
    pub fn pieces(&self) -> [&Bytes; 2] {
        [&self.first, &self.rest]
    }

    /// The bytes of a range, as slices.
    pub fn range(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        let cut = self.first.len();
        let first = range.start.min(cut)..range.end.min(cut);
        let rest = range.start.max(cut) - cut..range.end.max(cut) - cut;
        [self.first.slice(first), self.rest.slice(rest)].into_iter().filter(|slice| !slice.is_empty())
    }

    /// The whole blocks of its range in the segment, where they are worth writing straight to their place.
    pub fn blocks(&self) -> Option<Range<usize>> {
        let end = self.position + self.bytes() as u64;
        let from = self.position.next_multiple_of(DIRECT_BLOCK);
        let to = end - end % DIRECT_BLOCK;
        let within = |position: u64| usize::try_from(position - self.position).expect("a batch fits in memory");
        (from < to).then(|| within(from)..within(to))
    }

    /// Pushes its slices.
    pub fn push_to<C: Extend<Bytes>>(&self, slices: &mut C) {
        slices.extend(Some(self.first.clone()));
        if !self.rest.is_empty() {
            slices.extend(Some(self.rest.clone()));
        }
    }

    /// Its bytes as one slice; copies a large batch.
    pub fn whole(&self) -> Bytes {
        if self.rest.is_empty() { self.first.clone() } else { [&self.first[..], &self.rest[..]].concat().into() }
    }
}

/// The newest batches, without a gap, up to the end of the log.
#[derive(Debug, Default)]
pub(super) struct Tail {
    batches: VecDeque<TailBatch>,
    bytes: usize,
}

impl Tail {
    /// Takes the next batch.
    pub(super) fn push(&mut self, batch: TailBatch) {
        assert!(self.batches.back().is_none_or(|last| last.last < batch.base), "batches come in offset order");
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }

    /// How many bytes of batches it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest offset that it holds.
    pub(super) fn start(&self) -> Option<Offset> {
        self.batches.front().map(|batch| batch.base)
    }

    /// The oldest batch.
    pub(super) fn front(&self) -> Option<&TailBatch> {
        self.batches.front()
    }

    /// Lets go of the oldest batch.
    pub(super) fn pop_front(&mut self) -> Option<TailBatch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.bytes();
        Some(batch)
    }

    /// The batches from the one that holds `offset` on, or that follows it.
    pub(super) fn from(&self, offset: Offset) -> impl Iterator<Item = &TailBatch> {
        let first = self.batches.partition_point(|batch| batch.last < offset);
        self.batches.range(first..)
    }

    /// All batches, oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &TailBatch> {
        self.batches.iter()
    }
}
