//! How a driver carries out [`DiskOp::Commit`](super::DiskOp::Commit).

use bytes::Bytes;

use super::{DirectWrite, DiskError, Done, FileName, Files, write_direct};
use crate::journal::Commit;

/// Writes the journal's commits, one at a time.
#[derive(Debug)]
pub struct Committer {
    trusts_os: bool,
    /// Slots that were written and not synced since, oldest first; without duplicates, and with the slots of commits
    /// that need no sync only.
    unsynced: Vec<FileName>,
}

impl Committer {
    /// A committer that syncs every commit or, where it trusts the operating system, those alone that must be synced.
    pub fn new(trusts_os: bool) -> Committer {
        Committer { trusts_os, unsynced: Vec::new() }
    }

    /// Writes a commit, and makes it durable together with all before it, unless the operator chose to be acknowledged
    /// by the operating system and the commit holds nothing that goes beyond that choice. The commit's memory is given
    /// up, so that the journal can use it again.
    pub fn carry_out(&mut self, files: &dyn Files, commit: Commit, direct: &[DirectWrite]) -> Done {
        let Commit { slot, position, data, number, must_sync, .. } = commit;
        let is_synced = must_sync || !self.trusts_os;
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
        data: Bytes,
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
mod tests {
    use super::*;
    use crate::ids::Lsn;
    use crate::testing::LossyFiles;

    const BLOCK: usize = 4096;

    fn commit(number: u64, slot: u32, must_sync: bool) -> Commit {
        let data = Bytes::from(vec![number as u8; BLOCK]);
        Commit { slot, position: number * BLOCK as u64, data, number, end: Lsn(0), must_sync }
    }

    /// Whether the commit is where it was written.
    fn has(files: &LossyFiles, number: u64, slot: u32) -> bool {
        let mut block = [0; BLOCK];
        let found = files.read_at(FileName::Journal(slot), number * BLOCK as u64, &mut block);
        found == Ok(BLOCK) && block == [number as u8; BLOCK]
    }

    #[test]
    fn a_commit_is_synced_before_it_is_done() {
        let files = LossyFiles::default();
        let mut committer = Committer::new(false);
        assert!(matches!(committer.carry_out(&files, commit(1, 0, false), &[]), Done::Commit(1, Ok(()))));
        files.lose_power(|| false);
        assert!(has(&files, 1, 0));
    }

    #[test]
    fn without_syncs_a_commit_that_must_be_durable_brings_all_before_it_to_the_disk() {
        let files = LossyFiles::default();
        let mut committer = Committer::new(true);
        for (number, slot) in [(1, 0), (2, 0), (3, 1)] {
            let done = committer.carry_out(&files, commit(number, slot, false), &[]);
            assert!(matches!(done, Done::Written(written) if written == number));
        }
        assert!(matches!(committer.carry_out(&files, commit(4, 1, true), &[]), Done::Commit(4, Ok(()))));
        assert!(committer.unsynced.is_empty(), "what was synced is not synced again");
        committer.carry_out(&files, commit(5, 1, false), &[]);
        files.lose_power(|| false);
        for (number, slot) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
            assert!(has(&files, number, slot), "commit {number}");
        }
        assert!(!has(&files, 5, 1), "nothing asked for its sync");
    }

    #[test]
    fn the_memory_of_a_commit_is_free_when_it_is_done() {
        let commit = commit(1, 0, false);
        let kept_by_the_journal = commit.data.clone();
        Committer::new(false).carry_out(&LossyFiles::default(), commit, &[]);
        assert!(kept_by_the_journal.try_into_mut().is_ok());
    }
}
