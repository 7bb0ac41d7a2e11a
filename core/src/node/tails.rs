//! The newest batches of all partitions in memory: how much they take, and which of them goes first.

use std::collections::BTreeMap;

use super::{Node, Reason};
use crate::boundary::Outbox;
use crate::ids::Lsn;
use crate::log::Released;
use crate::time::Now;

/// Batches that one step lets go of, at up to 0.1 µs each.
const EVICTED_AT_ONCE: usize = 1_000;

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
        self.tails.released.join(hosted.partition.log_mut().take_released());
        let log = hosted.partition.log();
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

    /// Lets go of the oldest batches in memory beyond the budget, in the order of the journal.
    pub(super) fn evict(&mut self, now: Now, out: &mut Outbox) {
        for evicted in 0.. {
            if !self.is_over_budget() {
                return;
            }
            let Some((_, &slot)) = self.tails.order.first_key_value() else { return };
            if evicted == EVICTED_AT_ONCE {
                self.deadlines.insert((now.instant, Reason::Continue));
                return;
            }
            if self.host(slot).partition.log_mut().evict_one().is_none() {
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
            self.sync(&[slot], out);
        }
    }
}
