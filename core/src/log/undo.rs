//! What the batches above the high watermark replaced, so that a cut puts it back without reading.
//!
//! An entry for each batch, the newest last. Those wholly below the high watermark go as it advances, and the oldest where
//! there are too many: a cut below what is remembered ([`Undo::from`]) leaves producers with what they wrote below it.

use std::collections::VecDeque;

use super::producers::Change;
use crate::ids::Offset;

/// How many batches are remembered at most: more than replicas in good order ever leave above the high watermark, few
/// enough that a partition whose high watermark stands still takes no more than 2 MiB for them, and a checkpoint of it
/// some hundred microseconds.
pub(super) const REMEMBERED_MAX: usize = 1 << 14;

/// Room for so many entries is kept when there are none.
const SPARE_ENTRIES: usize = 64;

/// What one batch replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The offset of its first record.
    pub(super) base: Offset,
    /// The offset after its last record.
    pub(super) end: Offset,
    /// Where the batch before it ends, or the segment begins that it is the first of.
    pub(super) before: Offset,
    /// The largest timestamp in its segment before it.
    pub(super) max_timestamp: i64,
    /// What it changed of its producer.
    pub(super) change: Option<Change>,
}

/// What the newest batches replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Undo {
    /// Every batch that reaches beyond is remembered.
    from: Offset,
    entries: VecDeque<Entry>,
}

impl Undo {
    /// Nothing is remembered of what lies below `from`.
    pub(super) fn starting(from: Offset) -> Undo {
        Undo { from, entries: VecDeque::new() }
    }

    /// Every batch that reaches beyond is remembered.
    pub(super) fn from(&self) -> Offset {
        self.from
    }

    /// The entries, oldest first.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Whether the entries are those of batches one after another, in a log that ends at `end`.
    pub(super) fn is_sound(&self, end: Offset) -> bool {
        let pairs = self.entries.iter().zip(self.entries.iter().skip(1));
        let newest = self.entries.back().map_or(self.from, |entry| entry.end);
        self.entries.iter().all(|entry| entry.before <= entry.base && entry.base < entry.end)
            && self.entries.front().is_none_or(|oldest| Offset(0) <= oldest.before && self.from < oldest.end)
            && pairs.into_iter().all(|(one, next)| one.end <= next.base)
            && Offset(0) <= self.from
            && self.from <= end
            && newest <= end
    }

    /// Remembers what the newest batch replaced.
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        if self.entries.len() > REMEMBERED_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            self.from = self.from.max(oldest.end);
        }
    }

    /// Forgets the batches that lie wholly below `to`.
    pub(super) fn forget_below(&mut self, to: Offset) {
        self.from = self.from.max(to);
        while self.entries.front().is_some_and(|entry| entry.end <= to) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > SPARE_ENTRIES {
            self.entries = VecDeque::new();
        }
    }

    /// The first batch that reaches beyond `to`, if it is remembered.
    pub(super) fn first_beyond(&self, to: Offset) -> Option<&Entry> {
        let at = self.entries.partition_point(|entry| entry.end <= to);
        self.entries.get(at).filter(|_| to >= self.from)
    }

    /// Takes the newest batch back, where it reaches beyond `to`.
    pub(super) fn pop_beyond(&mut self, to: Offset) -> Option<Entry> {
        if self.entries.back().is_some_and(|newest| newest.end > to) {
            return self.entries.pop_back();
        }
        self.from = self.from.min(to);
        None
    }
}
