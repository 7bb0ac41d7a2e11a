//! The newest batches of all partitions in memory: how much they take, and which of them goes first.

use std::collections::BTreeMap;

use super::{Node, Reason};
use crate::boundary::Outbox;
use crate::ids::Lsn;
use crate::log::Released;
use crate::time::Now;

/// Batches that one step lets go of, at up to 0.1 µs each.
const EVICTED_AT_ONCE: usize = 1_000;

/// How far in the journal, in bytes, batches lie that one partition may let go of together, ahead of older ones of others:
/// a small part of what memory holds, and of a thousand partitions some batches each, which cost little more than one.
const EVICTED_TOGETHER: u64 = 2 << 20;

/// What a partition's tail counts for in the node's accounts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accounted {
    oldest: Option<Lsn>,
    bytes: u64,
}

/// The accounts of all partitions' tails.
#[derive(Debug, Default)]
pub(super) struct Tails {
    bytes: u64,
    /// For each partition with batches in memory: its oldest one, in the order of the journal.
    order: BTreeMap<Lsn, u32>,
    /// Batches that logs have let go of, all of their memory at once.
    released: Released,
}

impl Tails {
    /// How many bytes of batches are in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes batches that a log has let go of.
    pub(super) fn release(&mut self, released: Released) {
        self.released.join(released);
    }

    /// How many batches logs have let go of that are still in memory.
    #[cfg(test)]
    pub(super) fn released(&self) -> usize {
        self.released.count()
    }
}

impl Node {
    /// Keeps account of a partition's batches in memory after they changed.
    pub(super) fn account_tail(&mut self, slot: u32) {
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let log = hosted.partition.log_mut();
        if log.has_released() {
            self.tails.released.join(log.take_released());
        }
        let (oldest, bytes) = (log.oldest_in_memory(), log.tail_bytes() as u64);
        self.tails.bytes = self.tails.bytes + bytes - hosted.accounted.bytes;
        if oldest != hosted.accounted.oldest {
            if let Some(before) = hosted.accounted.oldest {
                self.tails.order.remove(&before);
            }
            if let Some(oldest) = oldest {
                self.tails.order.insert(oldest, slot);
            }
        }
        hosted.accounted = Accounted { oldest, bytes };
    }

    /// Forgets the account of a partition that goes away.
    pub(super) fn close_account(&mut self, accounted: Accounted) {
        self.tails.bytes -= accounted.bytes;
        if let Some(oldest) = accounted.oldest {
            self.tails.order.remove(&oldest);
        }
    }

    /// Whether memory holds more batches than it should.
    pub(super) fn is_over_budget(&self) -> bool {
        self.tails.bytes > self.limits.tail_cache_bytes as u64
    }

    /// Lets go of some of the batches that logs have released.
    pub(super) fn let_go(&mut self, now: Now) {
        self.tails.released.let_go(EVICTED_AT_ONCE);
        if !self.tails.released.is_empty() {
            self.deadlines.insert((now.instant, Reason::Continue));
        }
    }

    /// Lets go of the oldest batches in memory beyond the budget, about in the order of the journal.
    pub(super) fn evict(&mut self, now: Now, out: &mut Outbox) {
        let mut evicted = 0;
        while self.is_over_budget() {
            let Some((&oldest, &slot)) = self.tails.order.first_key_value() else { return };
            if evicted == EVICTED_AT_ONCE {
                self.deadlines.insert((now.instant, Reason::Continue));
                return;
            }
            let mut over = self.tails.bytes - self.limits.tail_cache_bytes as u64;
            let log = self.host(slot).partition.log_mut();
            let before = evicted;
            let is_near = |lsn: Lsn| lsn.0 <= oldest.0 + EVICTED_TOGETHER;
            while over > 0 && evicted < EVICTED_AT_ONCE && log.oldest_in_memory().is_some_and(is_near) {
                let Some(bytes) = log.evict_one() else { break };
                evicted += 1;
                over = over.saturating_sub(bytes as u64);
            }
            if evicted == before {
                self.secure_tail(slot, out);
                return;
            }
            self.account_tail(slot);
        }
    }

    /// Has the oldest batch in memory, which is of the partition in `slot`, made safe in its segment.
    fn secure_tail(&mut self, slot: u32, out: &mut Outbox) {
        if self.checkpoints.is_running() {
            // It will.
        } else if !self.host(slot).partition.log().is_oldest_written() {
            // Only a checkpoint flushes small tails.
            self.checkpoint_soon();
        } else if self.no_space.is_none() && !self.storage.is_syncing(slot) {
            // A checkpoint comes with so many bytes of journal that memory would hold more than it should until then.
            self.sync(&[slot], &[], out);
        }
    }
}
