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

/// How much memory is set aside at once for small batches that come one after another, in bytes: a few hundred of a
/// record each.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// How many batches lie in one piece of memory. As many as are looked through in no time, since what they lie in grows
/// up to that by copying them; never all of them, which may be half a million: that would keep everybody waiting.
const CHUNK_BATCHES: usize = 256;

/// A batch in memory.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Its base offset.
    pub base: Offset,
    /// The offset of its last record.
    pub last: Offset,
    /// Its records' largest timestamp, in milliseconds, -1 for none: a record with it is there.
    pub max_timestamp: i64,
    /// Where it begins in its segment.
    pub position: u64,
    /// The LSN of its journal record.
    pub lsn: Lsn,
    /// The range of its bytes that lies in its segment already, whole blocks of it.
    pub direct: Option<Box<Range<usize>>>,
    first: Bytes,
    /// Boxed as `direct` is, since there are many batches where they are small, and none of those has any.
    rest: Option<Box<Bytes>>,
}

/// Stands for the rest that a batch does not have.
static NOTHING: Bytes = Bytes::new();

impl TailBatch {
    /// A batch as it is stored: a head that carries its offset and epoch, and its body.
    pub fn new(head: &BatchHead, body: &Bytes) -> TailBatch {
        TailBatch::in_block(head, &head.to_bytes(), body, &mut BytesMut::new())
    }

    /// The same; a small batch is taken from the front of `block` where that has room for it.
    fn in_block(head: &BatchHead, bytes: &[u8; HEAD_BYTES], body: &Bytes, block: &mut BytesMut) -> TailBatch {
        let (first, rest) = if body.len() < COPIED_BELOW {
            let whole = HEAD_BYTES + body.len();
            if block.capacity() < whole {
                *block = BytesMut::with_capacity(whole);
            }
            block.extend_from_slice(bytes);
            block.extend_from_slice(body);
            (block.split().freeze(), None)
        } else {
            (Bytes::copy_from_slice(bytes), Some(Box::new(body.clone())))
        };
        TailBatch {
            base: head.base_offset,
            last: head.last_offset(),
            max_timestamp: head.max_timestamp_inside(),
            position: 0,
            lsn: Lsn::default(),
            direct: None,
            first,
            rest,
        }
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.first.len() + self.rest().len()
    }

    fn rest(&self) -> &Bytes {
        self.rest.as_deref().unwrap_or(&NOTHING)
    }

    /// Its first bytes, at least the whole head.
    pub fn head(&self) -> &[u8] {
        &self.first
    }

    /// Its bytes as one or two slices; the second may be empty.
    pub fn pieces(&self) -> [&Bytes; 2] {
        [&self.first, self.rest()]
    }

    /// The bytes of a range, as slices.
    pub fn range(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        let cut = self.first.len();
        let first = range.start.min(cut)..range.end.min(cut);
        let rest = range.start.max(cut) - cut..range.end.max(cut) - cut;
        [self.first.slice(first), self.rest().slice(rest)].into_iter().filter(|slice| !slice.is_empty())
    }

    /// The whole blocks of its range in the segment, where they are worth writing straight to their place.
    pub fn blocks(&self) -> Option<Range<usize>> {
        let end = self.position + self.bytes() as u64;
        let from = self.position.next_multiple_of(DIRECT_BLOCK);
        let to = end - end % DIRECT_BLOCK;
        let within = |position: u64| usize::try_from(position - self.position).expect("a batch fits in memory");
        (from < to).then(|| within(from)..within(to))
    }

    /// Its bytes as one or two slices.
    pub fn slices(&self) -> impl Iterator<Item = Bytes> {
        std::iter::once(self.first.clone()).chain(self.rest.as_deref().cloned())
    }

    /// Its bytes as one slice; copies a large batch.
    pub fn whole(&self) -> Bytes {
        match &self.rest {
            None => self.first.clone(),
            Some(rest) => [&self.first[..], &rest[..]].concat().into(),
        }
    }
}

/// Batches in one piece of memory.
#[derive(Debug, Default)]
struct Chunk {
    batches: VecDeque<TailBatch>,
    bytes: usize,
}

impl Chunk {
    /// Whether its batches all begin below `offset`.
    fn is_below(&self, offset: Offset) -> bool {
        self.batches.back().is_some_and(|batch| batch.base < offset)
    }
}

/// Batches that a log has let go of, and that are still to be: half a million at once would keep everybody waiting.
#[derive(Debug, Default)]
pub struct Released(VecDeque<VecDeque<TailBatch>>);

impl Released {
    /// Takes others in, which go after these.
    pub fn join(&mut self, mut others: Released) {
        self.0.append(&mut others.0);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets go of about `count` batches.
    pub fn let_go(&mut self, count: usize) {
        let mut gone = 0;
        while gone < count {
            let Some(chunk) = self.0.pop_front() else { return };
            gone += chunk.len();
        }
    }

    /// How many they are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(VecDeque::len).sum()
    }
}

/// The newest batches, without a gap, up to the end of the log.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// None is empty, and all but the first and the last are full.
    chunks: VecDeque<Chunk>,
    bytes: usize,
    released: Released,
    /// What is left of the memory that small batches are copied to.
    block: BytesMut,
    /// How large that memory was.
    block_bytes: usize,
}

impl Tail {
    /// A batch as it is stored, to be pushed next; `bytes` are those of its head.
    ///
    /// Small ones share memory, which saves most of what an allocation for each would cost. A block stays until the
    /// last of its batches has gone, and is at most half as large as all batches here: so a tail takes no more than
    /// half as much again as it holds, however few batches it comes to.
    pub(super) fn batch(&mut self, head: &BatchHead, bytes: &[u8; HEAD_BYTES], body: &Bytes) -> TailBatch {
        let whole = HEAD_BYTES + body.len();
        if body.len() < COPIED_BELOW && self.block.capacity() < whole {
            self.block_bytes = (self.bytes / 2).clamp(whole, BLOCK_BYTES_MAX);
            self.block = BytesMut::with_capacity(self.block_bytes);
        }
        TailBatch::in_block(head, bytes, body, &mut self.block)
    }

    /// Takes the next batch.
    pub(super) fn push(&mut self, batch: TailBatch) {
        assert!(self.newest().is_none_or(|newest| newest.last < batch.base), "batches come in offset order");
        self.bytes += batch.bytes();
        match self.chunks.back_mut() {
            Some(chunk) if chunk.batches.len() < CHUNK_BATCHES => {
                chunk.bytes += batch.bytes();
                chunk.batches.push_back(batch);
            }
            Some(full) => {
                // A log that has filled one will fill another.
                let mut chunk =
                    Chunk { batches: VecDeque::with_capacity(full.batches.capacity()), bytes: batch.bytes() };
                chunk.batches.push_back(batch);
                self.chunks.push_back(chunk);
            }
            None => self.chunks.push_back(Chunk { bytes: batch.bytes(), batches: VecDeque::from([batch]) }),
        }
    }

    /// Releases the batches that begin below `offset`.
    pub(super) fn release_below(&mut self, offset: Offset) {
        while self.chunks.front().is_some_and(|chunk| chunk.is_below(offset)) {
            self.release_chunk();
        }
        // At most those of one chunk.
        while self.front().is_some_and(|batch| batch.base < offset) {
            self.pop_front();
        }
    }

    /// Releases all batches.
    pub(super) fn release_all(&mut self) {
        while !self.chunks.is_empty() {
            self.release_chunk();
        }
    }

    fn release_chunk(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.released.0.push_back(chunk.batches);
            self.shrink(chunk.bytes);
        }
    }

    /// Whether something has been released since [`Tail::take_released`].
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// What has been released since this was asked last.
    pub(super) fn take_released(&mut self) -> Released {
        std::mem::take(&mut self.released)
    }

    /// How many bytes of batches it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest offset that it holds.
    pub(super) fn start(&self) -> Option<Offset> {
        self.front().map(|batch| batch.base)
    }

    /// The oldest batch.
    pub(super) fn front(&self) -> Option<&TailBatch> {
        self.chunks.front().and_then(|chunk| chunk.batches.front())
    }

    /// The newest batch.
    pub(super) fn newest(&self) -> Option<&TailBatch> {
        self.chunks.back().and_then(|chunk| chunk.batches.back())
    }

    /// Lets go of the oldest batch.
    pub(super) fn pop_front(&mut self) -> Option<TailBatch> {
        let chunk = self.chunks.front_mut()?;
        let batch = chunk.batches.pop_front().expect("no chunk is empty");
        chunk.bytes -= batch.bytes();
        if chunk.batches.is_empty() {
            self.chunks.pop_front();
        }
        self.shrink(batch.bytes());
        Some(batch)
    }

    /// Lets go of the newest batch, where that is so.
    pub(super) fn pop_back_if(&mut self, is_so: impl FnOnce(&TailBatch) -> bool) -> Option<TailBatch> {
        let chunk = self.chunks.back_mut()?;
        if !chunk.batches.back().is_some_and(is_so) {
            return None;
        }
        let batch = chunk.batches.pop_back()?;
        chunk.bytes -= batch.bytes();
        if chunk.batches.is_empty() {
            self.chunks.pop_back();
        }
        self.shrink(batch.bytes());
        Some(batch)
    }

    /// A batch of so many bytes is gone.
    fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if self.bytes < self.block_bytes {
            // Further batches would keep it from being let go.
            (self.block, self.block_bytes) = (BytesMut::new(), 0);
        }
    }

    /// The newest batch that lies wholly below `offset`.
    pub(super) fn ending_below(&self, offset: Offset) -> Option<&TailBatch> {
        let is_below = |batch: &TailBatch| batch.last < offset;
        let chunk = self.chunks.partition_point(|chunk| chunk.batches.front().is_some_and(is_below)).checked_sub(1)?;
        let chunk = &self.chunks[chunk].batches;
        chunk.get(chunk.partition_point(is_below).checked_sub(1)?)
    }

    /// The batches from the one that holds `offset` on, or that follows it.
    pub(super) fn from(&self, offset: Offset) -> impl Iterator<Item = &TailBatch> {
        let is_before = |batch: &TailBatch| batch.last < offset;
        let chunk = self.chunks.partition_point(|chunk| chunk.batches.back().is_some_and(is_before));
        let mut chunks = self.chunks.range(chunk..).map(|chunk| &chunk.batches);
        let first = chunks.next().map(|chunk| chunk.range(chunk.partition_point(is_before)..));
        first.into_iter().flatten().chain(chunks.flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::ids::LeaderEpoch;
    use crate::time::Timestamp;

    /// Pushes small batches, each of one record, and checks that each is what it was made of.
    fn push(tail: &mut Tail, offsets: Range<i64>) {
        for base in offsets {
            let batch = BatchBuilder::new().record(Timestamp(1), None, Some(&base.to_be_bytes())).build();
            let head = BatchHead::parse(&batch).expect("a sound batch").assigned(Offset(base), LeaderEpoch(3));
            let body = batch.slice(HEAD_BYTES..);
            let taken = tail.batch(&head, &head.to_bytes(), &body);
            assert_eq!(taken.whole(), [&head.to_bytes()[..], &body].concat());
            tail.push(taken);
        }
    }

    #[test]
    fn a_lonely_batch_takes_its_own_size_and_many_share_what_is_half_as_large_as_all() {
        let mut tail = Tail::default();
        push(&mut tail, 0..1);
        assert_eq!((tail.block_bytes, tail.block.capacity()), (tail.bytes, 0));
        for base in 1..5000 {
            let before = tail.bytes;
            push(&mut tail, base..base + 1);
            assert!(tail.block_bytes <= BLOCK_BYTES_MAX.min(before.max(tail.bytes - before)), "{}", tail.block_bytes);
        }
        assert_eq!(tail.block_bytes, BLOCK_BYTES_MAX);
    }

    #[test]
    fn every_batch_is_found_from_its_offset_on_however_many_have_gone() {
        let mut tail = Tail::default();
        push(&mut tail, 0..2000);
        for gone in [0, 1, 100, 154, 1, 500, 1242] {
            (0..gone).for_each(|_| _ = tail.pop_front());
            let start = tail.start().expect("some are left").0;
            for offset in [0, start, start + 1, 1999, 2000] {
                let found: Vec<i64> = tail.from(Offset(offset)).map(|batch| batch.base.0).collect();
                assert_eq!(found, (offset.max(start)..2000).collect::<Vec<_>>(), "after {gone} more");
            }
            assert_eq!(tail.newest().map(|batch| batch.last), Some(Offset(1999)));
        }
        while tail.pop_front().is_some() {}
        assert!(tail.chunks.is_empty() && tail.start().is_none() && tail.newest().is_none());
    }

    #[test]
    fn what_is_released_is_counted_out_at_once_and_let_go_of_bit_by_bit() {
        let mut tail = Tail::default();
        push(&mut tail, 0..2000);
        let bytes = |tail: &Tail| tail.from(Offset(0)).map(TailBatch::bytes).sum::<usize>();
        for (below, start) in [(0, 0), (1, 1), (256, 256), (300, 300), (1_999, 1_999)] {
            tail.release_below(Offset(below));
            assert_eq!(tail.start(), Some(Offset(start)));
            assert_eq!(tail.bytes(), bytes(&tail));
        }
        push(&mut tail, 2000..2300);
        tail.release_all();
        assert_eq!((tail.bytes(), tail.start(), tail.block_bytes), (0, None, 0));
        let mut released = Released::default();
        released.join(tail.take_released());
        let mut count = released.count();
        assert!(count > 1_900, "{count} of 2300");
        while !released.is_empty() {
            released.let_go(300);
            assert!(count - released.count() < 300 + CHUNK_BATCHES);
            count = released.count();
        }
        assert_eq!(count, 0);
    }

    #[test]
    fn a_tail_that_shrinks_below_its_block_takes_no_more_from_it() {
        let mut tail = Tail::default();
        push(&mut tail, 0..5000);
        while tail.bytes >= BLOCK_BYTES_MAX {
            assert_eq!(tail.block_bytes, BLOCK_BYTES_MAX);
            tail.pop_front();
        }
        assert_eq!((tail.block_bytes, tail.block.capacity()), (0, 0));
        push(&mut tail, 5000..5001);
        assert!(tail.block_bytes <= tail.bytes / 2);
        while tail.pop_front().is_some() {}
        assert_eq!((tail.bytes, tail.block_bytes), (0, 0));
    }
}
