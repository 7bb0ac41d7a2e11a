//! What the threads of a run tell each other: how far they are, and that one of them has failed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by all threads of a run. It is written once per turn of a thread's loop, not per record.
#[derive(Default)]
pub(crate) struct Board {
    records: AtomicU64,
    failed: AtomicBool,
    /// What an end-to-end run's reader has still to expect, once the writers are done; `u64::MAX` until then.
    pub(crate) expected: AtomicU64,
}

impl Board {
    pub(crate) fn new() -> Board {
        Board { expected: AtomicU64::new(u64::MAX), ..Board::default() }
    }

    pub(crate) fn add_records(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Records acknowledged, or read, so far.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Tells the other threads to stop.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}
