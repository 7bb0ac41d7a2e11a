//! Batches of leaders, on their way into logs that are followed here: some a step, and only when the journal has room.

use bytes::Bytes;

use crate::batch::{BatchHead, HEAD_BYTES, Scan};
use crate::boundary::{Level, Outbox};
use crate::ids::{LeaderEpoch, NodeId, Offset};
use crate::journal::Class;
use crate::node::produce::RECORD_OVERHEAD;
use crate::node::{Node, Woken, logs};
use crate::partition::{Followed, Placed};
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
    /// What is left of these.
    run: Bytes,
}

/// The next batches of a run, and what they take.
struct Slice {
    placed: Vec<Placed>,
    bytes: usize,
}

impl Incoming {
    pub(super) fn new(from: NodeId, mut append: Append) -> Incoming {
        let run = std::mem::take(&mut append.batches).to_bytes();
        Incoming { from, append, run }
    }

    /// The next batches, at most so many and so many bytes, but always one.
    ///
    /// # Errors
    /// Where they are not what a leader's log may hold.
    fn next(&self, batches: usize) -> Result<Slice, String> {
        let mut slice = Slice { placed: Vec::new(), bytes: 0 };
        let (mut expected, mut epoch) = (Offset(0), LeaderEpoch(0));
        while slice.bytes < self.run.len() && slice.placed.len() < batches {
            let rest = self.run.slice(slice.bytes..);
            let head = BatchHead::parse(&rest).map_err(|error| error.to_string())?;
            let length = head.batch_bytes();
            if slice.bytes > 0 && slice.bytes + length > APPENDED_BYTES {
                break;
            }
            let is_sound = length <= rest.len()
                && head.base_offset >= expected
                && head.base_offset.0 < i64::MAX - i64::from(i32::MAX)
                && head.last_offset_delta >= 0
                && (epoch..=self.append.leader_epoch).contains(&head.leader_epoch);
            if !is_sound {
                return Err(format!("a batch at offset {} does not fit there", head.base_offset));
            }
            (expected, epoch) = (Offset(head.last_offset().0 + 1), head.leader_epoch);
            slice.placed.push(Placed { head, body: rest.slice(HEAD_BYTES..length) });
            slice.bytes += length;
        }
        Ok(slice)
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
            let slice = match incoming.next((left / NEWS_PER_BATCH).max(1)) {
                Ok(slice) => slice,
                Err(why) => {
                    let Incoming { from, append, .. } = self.replicas.incoming.pop_front().expect("it is at the front");
                    let text = format!("node {from} sent what is no part of partition {}: {why}", append.partition);
                    out.log(Level::Warn, text);
                    continue;
                }
            };
            if !self.has_room_to_follow(&slice) {
                if self.no_space.is_none() && self.direct_pending.is_empty() {
                    self.checkpoint_soon();
                }
                return;
            }
            left = left.saturating_sub((slice.placed.len() * NEWS_PER_BATCH).max(1));
            bytes += slice.bytes;
            let mut incoming = self.replicas.incoming.pop_front().expect("it is at the front");
            let end = self.append_slice(now, &incoming, &slice, out);
            incoming.run = incoming.run.slice(slice.bytes..);
            if let Some(end) = end
                && !incoming.run.is_empty()
            {
                incoming.append.previous_end = end;
                self.replicas.incoming.push_front(incoming);
            }
        }
    }

    /// Whether leaders' batches wait for room that there is not.
    pub(in crate::node) fn followers_wait_for_room(&self) -> bool {
        let next = self.replicas.incoming.front().and_then(|incoming| incoming.next(APPENDED_AT_ONCE).ok());
        next.is_some_and(|slice| !self.has_room_to_follow(&slice))
    }

    /// Whether batches of leaders are waiting to be appended.
    pub(in crate::node) fn has_incoming(&self) -> bool {
        !self.replicas.incoming.is_empty()
    }

    fn has_room_to_follow(&self, slice: &Slice) -> bool {
        if slice.placed.is_empty() {
            // News may tell of a new log start.
            return self.has_room_to_advance();
        }
        let longest = self.journal.max_record_bytes();
        let payloads =
            slice.placed.iter().map(|placed| ((placed.head.batch_bytes() + RECORD_OVERHEAD) as u64).min(longest));
        self.no_space.is_none()
            && self.has_room_for_bodies()
            && self.journal.has_room_for(payloads, Class::Ordinary)
            && self.tails.bytes() < 2 * self.limits.tail_cache_bytes as u64
    }

    /// Appends some batches. Returns where they end, unless there is no use for those behind them.
    fn append_slice(&mut self, now: Now, incoming: &Incoming, slice: &Slice, out: &mut Outbox) -> Option<Offset> {
        let slot = self.slot_of(incoming.append.partition)?;
        let longest = self.journal.max_record_bytes();
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        if slice.placed.iter().any(|placed| (placed.head.batch_bytes() + RECORD_OVERHEAD) as u64 > longest) {
            let name = logs::display(&hosted.name, incoming.append.partition);
            out.log(
                Level::Error,
                format!("{name}: a batch of its leader's does not fit a file of this node's journal"),
            );
            return None;
        }
        let before = hosted.partition.advanced();
        let with = (&*hosted.config, now.wall, self.direct_from);
        let followed =
            hosted.partition.on_append(incoming.from, &incoming.append, &slice.placed, with, &mut self.journal);
        let Followed { mismatch, lsn, appended, misfit, writes } = followed;
        if let Some(acked) = mismatch {
            self.replicas.said.entry(incoming.from).or_default().mismatch.push(acked);
            return None;
        }
        for write in writes {
            self.direct_bytes += write.pieces.iter().map(Bytes::len).sum::<usize>() as u64;
            self.direct_pending.push(write);
        }
        if slice.placed.iter().any(|placed| placed.head.batch_bytes() as u64 >= self.direct_from) {
            self.allocate_ahead(slot);
        }
        if appended > 0 {
            self.counters.batches_replicated += appended as u64;
            self.counters.bytes_replicated += slice.bytes as u64;
            self.take_slowly(now, slot, slice.bytes);
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

/// Where a run of stored batches ends.
pub(super) fn end_of_run(run: &[u8]) -> Option<Offset> {
    let last = Scan::heads(run).map_while(Result::ok).last();
    last.map(|found| Offset(found.head.last_offset().0 + 1))
}
