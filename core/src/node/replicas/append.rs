//! Batches of leaders, on their way into logs that are followed here: some a step, and only when the journal has room.

use std::collections::VecDeque;
use std::vec;

use bytes::Bytes;

use super::{CATCH_UP_CREDIT, TAIL_CREDIT};
use crate::batch::{PlacedBatch, Scan};
use crate::boundary::{Level, Outbox};
use crate::ids::{NodeId, Offset};
use crate::journal::Class;
use crate::node::produce::RECORD_OVERHEAD;
use crate::node::{Node, Woken, logs};
use crate::partition::Followed;
use crate::peer::Append;
use crate::time::Now;

/// Batches that are appended in one step, at about 1 µs each, and their bytes, which are copied into the commit.
const APPENDED_AT_ONCE: usize = 64;
const APPENDED_BYTES: usize = 512 << 10;
/// Parts without batches, which tell of a high watermark, count for so much of a batch.
const NEWS_PER_BATCH: usize = 4;

/// What a part takes of memory beside its batches, about, in bytes.
const PART_BYTES: usize = 256;
/// Below so many bytes nothing is looked for that is of no use: as much as one leader may send.
const SWEPT_BYTES_MIN: usize = TAIL_CREDIT + CATCH_UP_CREDIT;

/// A part of a leader's message that is not taken up, or not all of it.
#[derive(Debug)]
pub(super) struct Incoming {
    from: NodeId,
    /// Without its batches.
    append: Append,
    /// What is left of these, which the connection that they came by has verified.
    left: vec::IntoIter<PlacedBatch>,
}

impl Incoming {
    pub(super) fn new(from: NodeId, mut append: Append) -> Incoming {
        let left = std::mem::take(&mut append.batches).into_placed().into_iter();
        Incoming { from, append, left }
    }

    /// The next batches, at most so many, and not many more bytes than [`APPENDED_BYTES`], but always one.
    fn next(&self, batches: usize) -> &[PlacedBatch] {
        let next = self.left.as_slice();
        let next = &next[..next.len().min(batches)];
        let ends = next.iter().scan(0, |end, batch| {
            *end += batch.bytes().len();
            Some(*end)
        });
        let fitting = ends.take_while(|end| *end <= APPENDED_BYTES).count();
        &next[..next.len().min(fitting.max(1))]
    }

    /// What it takes of memory, about.
    fn bytes(&self) -> usize {
        bytes_of(self.left.as_slice()) + PART_BYTES
    }
}

/// Parts that wait, in the order in which they came.
///
/// A leader sends so many bytes that are not acknowledged, and as many again in each new session. What is of sessions that
/// are over is of no use: it goes with the connection by which it came, at the front, and wherever it lies once there is
/// twice as much as was of use before. So at most about twice as much waits as all leaders together may send.
#[derive(Debug)]
pub(super) struct Queue {
    parts: VecDeque<Incoming>,
    bytes: usize,
    /// When so many bytes wait, those that are of no use are looked for.
    swept_at: usize,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue { parts: VecDeque::new(), bytes: 0, swept_at: SWEPT_BYTES_MIN }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn front(&self) -> Option<&Incoming> {
        self.parts.front()
    }

    pub(super) fn push_back(&mut self, incoming: Incoming) {
        self.bytes += incoming.bytes();
        self.parts.push_back(incoming);
    }

    fn push_front(&mut self, incoming: Incoming) {
        self.bytes += incoming.bytes();
        self.parts.push_front(incoming);
    }

    fn pop_front(&mut self) -> Option<Incoming> {
        let incoming = self.parts.pop_front()?;
        self.bytes -= incoming.bytes();
        Some(incoming)
    }

    fn retain(&mut self, mut is_kept: impl FnMut(&Incoming) -> bool) {
        let bytes = &mut self.bytes;
        self.parts.retain(|incoming| {
            let is_kept = is_kept(incoming);
            *bytes -= if is_kept { 0 } else { incoming.bytes() };
            is_kept
        });
    }

    /// Forgets what came from a node.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.retain(|incoming| incoming.from != node);
    }
}

impl Node {
    /// Appends what leaders sent, as much as a step has time and the journal room for.
    pub(in crate::node) fn append_on(&mut self, now: Now, out: &mut Outbox) {
        let (mut left, mut bytes) = (APPENDED_AT_ONCE * NEWS_PER_BATCH, 0);
        while left > 0
            && bytes < APPENDED_BYTES
            && let Some(incoming) = self.replicas.incoming.front()
        {
            if !self.is_of_use(incoming) {
                self.replicas.incoming.pop_front();
                left -= 1;
                continue;
            }
            let next = incoming.next((left / NEWS_PER_BATCH).max(1));
            if !self.has_room_to_follow(next) {
                if self.no_space.is_none() && self.direct_pending.is_empty() {
                    self.checkpoint_soon();
                }
                return self.sweep_incoming();
            }
            let count = next.len();
            left = left.saturating_sub((count * NEWS_PER_BATCH).max(1));
            bytes += bytes_of(next);
            let mut incoming = self.replicas.incoming.pop_front().expect("it is at the front");
            let end = self.append_some(now, &incoming, count, out);
            incoming.left.by_ref().take(count).for_each(drop);
            if let Some(end) = end
                && !incoming.left.as_slice().is_empty()
            {
                incoming.append.previous_end = end;
                self.replicas.incoming.push_front(incoming);
            }
        }
    }

    /// Whether leaders' batches wait for room that there is not.
    pub(in crate::node) fn followers_wait_for_room(&self) -> bool {
        let first = self.replicas.incoming.front().filter(|incoming| self.is_of_use(incoming));
        first.is_some_and(|incoming| !self.has_room_to_follow(incoming.next(APPENDED_AT_ONCE)))
    }

    /// Whether a part belongs to a session that is under way.
    fn is_of_use(&self, incoming: &Incoming) -> bool {
        let slot = self.slot_of(incoming.append.partition);
        let hosted = slot.and_then(|slot| self.hosts[slot as usize].as_ref());
        hosted.is_some_and(|hosted| hosted.partition.takes(incoming.from, &incoming.append))
    }

    /// Lets go of what is of no use, where much waits.
    fn sweep_incoming(&mut self) {
        if self.replicas.incoming.bytes < self.replicas.incoming.swept_at {
            return;
        }
        let mut incoming = std::mem::replace(&mut self.replicas.incoming, Queue::new());
        incoming.retain(|part| self.is_of_use(part));
        incoming.swept_at = (2 * incoming.bytes).max(SWEPT_BYTES_MIN);
        self.replicas.incoming = incoming;
    }

    /// The bytes of leaders' batches that wait.
    #[cfg(test)]
    pub(in crate::node) fn incoming_bytes(&self) -> usize {
        self.replicas.incoming.bytes
    }

    /// Whether batches of leaders are waiting to be appended.
    pub(in crate::node) fn has_incoming(&self) -> bool {
        !self.replicas.incoming.is_empty()
    }

    fn has_room_to_follow(&self, next: &[PlacedBatch]) -> bool {
        if next.is_empty() {
            // News may tell of a new log start.
            return self.has_room_to_advance();
        }
        let longest = self.journal.max_record_bytes();
        let payloads = next.iter().map(|batch| ((batch.bytes().len() + RECORD_OVERHEAD) as u64).min(longest));
        self.no_space.is_none()
            && self.has_room_for_bodies()
            && self.journal.has_room_for(payloads, Class::Ordinary)
            && self.tails.bytes() < 2 * self.limits.tail_cache_bytes as u64
    }

    /// Appends the next `count` batches. Returns where they end, unless there is no use for those behind them.
    fn append_some(&mut self, now: Now, incoming: &Incoming, count: usize, out: &mut Outbox) -> Option<Offset> {
        let next = &incoming.left.as_slice()[..count];
        let slot = self.slot_of(incoming.append.partition)?;
        let longest = self.journal.max_record_bytes();
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        if next.iter().any(|batch| (batch.bytes().len() + RECORD_OVERHEAD) as u64 > longest) {
            let name = logs::display(&hosted.name, incoming.append.partition);
            out.log(
                Level::Error,
                format!("{name}: a batch of its leader's does not fit a file of this node's journal"),
            );
            return None;
        }
        let before = hosted.partition.advanced();
        let with = (&*hosted.config, now.wall, self.direct_from);
        let followed = hosted.partition.on_append(incoming.from, &incoming.append, next, with, &mut self.journal);
        let Followed { mismatch, lsn, appended, misfit, writes } = followed;
        if let Some(acked) = mismatch {
            self.replicas.said.entry(incoming.from).or_default().mismatch.push(acked);
            return None;
        }
        for write in writes {
            self.direct_bytes += write.pieces.iter().map(Bytes::len).sum::<usize>() as u64;
            self.direct_pending.push(write);
        }
        if next.iter().any(|batch| batch.bytes().len() as u64 >= self.direct_from) {
            self.allocate_ahead(slot);
        }
        if appended > 0 {
            let bytes = bytes_of(next);
            self.counters.batches_replicated += appended as u64;
            self.counters.bytes_replicated += bytes as u64;
            self.take_slowly(now, slot, bytes);
            self.account_tail(slot);
        }
        self.woken.extend(lsn.map(|lsn| (lsn, Woken::Partition(slot))));
        self.rouse(slot, before, out);
        if let Some(misfit) = misfit {
            let name = logs::display(&self.host(slot).name, incoming.append.partition);
            out.log(Level::Warn, format!("node {} sent what does not fit {name}: {misfit}", incoming.from));
            return None;
        }
        (appended > 0).then(|| self.host(slot).partition.log().end())
    }
}

fn bytes_of(batches: &[PlacedBatch]) -> usize {
    batches.iter().map(|batch| batch.bytes().len()).sum()
}

/// Where a run of stored batches ends.
pub(super) fn end_of_run(run: &[u8]) -> Option<Offset> {
    let last = Scan::heads(run).map_while(Result::ok).last();
    last.map(|found| Offset(found.head.last_offset().0 + 1))
}
