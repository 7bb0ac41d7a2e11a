//! The port to the disk: takes the node's disk work, and says what became of it.
//!
//! | work | on which thread |
//! |---|---|
//! | commits of the journal | inline: the node's own, which then waits for the disk; or one of their own |
//! | background tasks | one thread, in the order in which they were asked for |
//! | reads | a few threads, in any order |
//!
//! Inline, everything that arrived while a commit ran shares the next one, no thread is woken for it, and on a machine
//! of few cores it is the fastest by far. With a thread of its own a slow sync holds up nobody who only reads.
//!
//! What happens to bytes below is [`Files`]'s matter, which a simulator has one of its own for.

mod files;
mod names;
mod threads;

use chronik_core::boundary::{DirectWrite, DiskError, DiskOp, Done, FileName, Files, Volume, write_direct};
use chronik_core::journal::Commit;

pub(crate) use files::{DataFolder, JournalWrites};
pub(crate) use threads::Threads;

use crate::cli::options::Durability;

/// Carries out the node's disk work.
pub(crate) trait Disk: Send {
    /// Takes on one piece of work. Returns what became of it if that is known at once; otherwise it is reported later,
    /// to whom the disk was told when it was made.
    fn begin(&mut self, op: DiskOp) -> Option<Done>;

    /// How large the data folder's volume is, which file systems know without asking the disk; `None` where it cannot
    /// be told.
    fn volume(&self) -> Option<Volume>;
}

/// Writes the journal's commits, one at a time.
#[derive(Debug)]
struct Committer {
    durability: Durability,
    /// Slots that were written and not synced since, oldest first; without duplicates, and with the slots of commits
    /// that need no sync only.
    unsynced: Vec<FileName>,
}

impl Committer {
    fn new(durability: Durability) -> Committer {
        Committer { durability, unsynced: Vec::new() }
    }

    /// Writes a commit, and makes it durable together with all before it, unless the operator chose to be acknowledged
    /// by the operating system and the commit holds nothing that goes beyond that choice. The commit's memory is given
    /// up, so that the journal can use it again.
    fn carry_out(&mut self, files: &dyn Files, commit: Commit, direct: &[DirectWrite]) -> Done {
        let Commit { slot, position, data, number, must_sync, .. } = commit;
        let is_synced = must_sync || self.durability == Durability::Sync;
        // Bodies first: a record in the journal says that its body is durable.
        let result = write_direct(files, direct);
        let result = result.and_then(|()| self.write(files, FileName::Journal(slot), position, data, is_synced));
        match result {
            Ok(()) if !is_synced => Done::Written(number),
            result => Done::Commit(number, result),
        }
    }

    fn write(
        &mut self,
        files: &dyn Files,
        file: FileName,
        position: u64,
        data: bytes::Bytes,
        is_synced: bool,
    ) -> Result<(), DiskError> {
        files.write_at(file, position, &[data])?;
        if !self.unsynced.contains(&file) {
            self.unsynced.push(file);
        }
        if is_synced {
            for &file in &self.unsynced {
                files.sync(file)?;
            }
            self.unsynced.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
