//! Batches of leaders, on their way into logs that are followed here: some a step, and only when the journal has room.

use std::vec;

use bytes::Bytes;

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
}

impl Node {
    /// Appends what leaders sent, as much as a step has time and the journal room for.
    pub(in crate::node) fn append_on(&mut self, now: Now, out: &mut Outbox) {
        let (mut left, mut bytes) = (APPENDED_AT_ONCE * NEWS_PER_BATCH, 0);
        while left > 0
            && bytes < APPENDED_BYTES
            && let Some(incoming) = self.replicas.incoming.front()
        {
            let next = incoming.next((left / NEWS_PER_BATCH).max(1));
            if !self.has_room_to_follow(next) {
                if self.no_space.is_none() && self.direct_pending.is_empty() {
                    self.checkpoint_soon();
                }
                return;
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
        let next = self.replicas.incoming.front().map(|incoming| incoming.next(APPENDED_AT_ONCE));
        next.is_some_and(|next| !self.has_room_to_follow(next))
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
