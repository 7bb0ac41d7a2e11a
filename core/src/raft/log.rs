//! The metadata log since its last snapshot, in memory, as the library reads it.
//!
//! It holds what has been handed out for the journal, whether the disk has it yet or not: how far that is, the library
//! keeps count of itself. Some entries before the snapshot may stay, for members who are only a little behind.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{self, EntryType, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::convert;
use super::record::{LogId, Restored, SnapshotHead, Vote};

pub(super) struct Log {
    head: SnapshotHead,
    /// The entry before the first one kept.
    base: LogId,
    entries: VecDeque<eraftpb::Entry>,
    bytes: usize,
    /// What the library begins with; it keeps its own from then on.
    vote: Vote,
    /// Whether somebody needs a snapshot that is later than `head`. The library asks through a shared reference.
    is_later_head_needed: Cell<bool>,
}

impl Log {
    pub(super) fn new(restored: Restored) -> Log {
        let Restored { vote, head, entries } = restored;
        let base = head.last;
        let mut log =
            Log { head, base, entries: VecDeque::new(), bytes: 0, vote, is_later_head_needed: Cell::new(false) };
        log.append(entries.into_iter().map(convert::to_library).collect());
        log
    }

    /// The snapshot that stands for what is no longer there.
    pub(super) fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Whether somebody needed a later snapshot since this was last asked.
    pub(super) fn take_need(&self) -> bool {
        self.is_later_head_needed.take()
    }

    pub(super) fn last(&self) -> LogId {
        self.entries.back().map_or(self.base, |entry| LogId { index: entry.index, term: entry.term })
    }

    /// Memory that the entries take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Cuts the log where `entries` begin, then appends them.
    pub(super) fn append(&mut self, entries: Vec<eraftpb::Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.base.index, "what a snapshot covers is committed, and is never cut");
        assert!(first.index <= self.last().index + 1, "entries follow each other");
        while self.entries.back().is_some_and(|last| last.index >= first.index) {
            let cut = self.entries.pop_back().expect("there is a last one");
            self.bytes -= size(&cut);
        }
        for entry in entries {
            self.bytes += size(&entry);
            self.entries.push_back(entry);
        }
    }

    /// A leader's snapshot takes the place of everything.
    pub(super) fn install(&mut self, head: SnapshotHead) {
        self.entries.clear();
        self.bytes = 0;
        self.base = head.last;
        self.head = head;
    }

    /// Our own snapshot takes the place of the entries that it covers, but for the last `keep` of them.
    pub(super) fn compact(&mut self, head: SnapshotHead, keep: u64) {
        let end = head.last.index.saturating_sub(keep);
        while let Some(first) = self.entries.front().filter(|first| first.index <= end) {
            self.base = LogId { index: first.index, term: first.term };
            self.bytes -= size(first);
            self.entries.pop_front();
        }
        self.head = head;
    }

    /// The entries from `low` to before `high`, of which there are so many, as they stand.
    pub(super) fn range(&self, low: u64, high: u64) -> impl Iterator<Item = &eraftpb::Entry> {
        let skip = usize::try_from(low.saturating_sub(self.base.index + 1)).unwrap_or(usize::MAX);
        let take = usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).take(take)
    }

    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        let at = index.checked_sub(self.base.index)?;
        match at.checked_sub(1) {
            None => Some(self.base.term),
            Some(at) => Some(self.entries.get(usize::try_from(at).ok()?)?.term),
        }
    }
}

/// What an entry takes in memory: its payload, itself, and what an allocation costs.
pub(super) fn size(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + entry.context.len() + size_of::<eraftpb::Entry>() + 32
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        let Vote { term, voted_for, committed: commit } = self.vote;
        let vote = HardState { term, vote: voted_for.map_or(0, |key| key.0), commit, ..Default::default() };
        Ok(RaftState::new(vote, convert::conf_state(&self.head.membership)))
    }

    /// At least one entry where there is any, then as many as `max_size` bytes hold.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        if low <= self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last().index + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut total = 0u64;
        let fits = |entry: &&eraftpb::Entry| {
            let first = total == 0;
            total = total.saturating_add((entry.data.len() + entry.context.len()) as u64 + ENTRY_HEAD);
            first || total <= max_size
        };
        Ok(self.range(low, high).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        let missing = if index < self.base.index { StorageError::Compacted } else { StorageError::Unavailable };
        self.term_at(index).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last().index)
    }

    /// A member takes only a snapshot whose membership it belongs to. One that was made before it was added does not
    /// serve it, nor does none at all.
    fn snapshot(&self, _: u64, to: u64) -> Result<Snapshot> {
        let members = self.head.membership.members();
        if !members.iter().any(|member| member.key().0 == to) {
            self.is_later_head_needed.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(convert::snapshot(&self.head))
    }
}

/// What an entry takes in a message beside its payload, in bytes.
const ENTRY_HEAD: u64 = 13;

/// Whether `entry` changes who belongs to the quorum.
pub(super) fn is_change(entry: &eraftpb::Entry) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal
}
