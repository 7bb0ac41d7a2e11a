//! The port to the disk: takes the node's disk work, and says what became of it.
//!
//! | work | on which thread |
//! |---|---|
//! | commits of the journal | the node's own, which then waits for the disk, or one of their own ([`commits`]) |
//! | background tasks | one thread, in the order in which they were asked for |
//! | steps of compaction | one thread, since a checkpoint must not wait for one |
//! | reads | a few threads, in any order |
//!
//! What happens to bytes below is the matter of [`Files`](chronik_core::boundary::Files), which a simulator has one of
//! its own for.

mod buffers;
mod commits;
mod files;
mod names;
mod threads;
mod writeback;

use std::sync::Arc;

use chronik_core::boundary::{DiskOp, Done, Volume};

pub(crate) use files::{DataFolder, JournalWrites};
pub use threads::Threads;

/// Whoever is told what became of work that took its time. Any thread may call it.
pub type Reporter = Arc<dyn Fn(Done) + Send + Sync>;

/// Carries out the node's disk work.
pub trait Disk: Send {
    /// Takes on one piece of work. Returns what became of it if that is known at once; otherwise it is reported later,
    /// to whom the disk was told when it was made.
    fn begin(&mut self, op: DiskOp) -> Option<Done>;

    /// How large the data folder's volume is, which file systems know without asking the disk; `None` where it cannot
    /// be told.
    fn volume(&self) -> Option<Volume>;
}

#[cfg(test)]
mod tests;
