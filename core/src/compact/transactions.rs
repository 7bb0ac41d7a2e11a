//! Which transactions of the part that a pass reads were committed, which aborted, and which are still open.

use std::collections::BTreeMap;

use super::offsets::Fingerprint;
use crate::batch::{BatchHead, Records};
use crate::ids::{Offset, ProducerId};
use crate::log::DECOMPRESSED_BYTES_MAX;

/// What closes a transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Abort,
    Commit,
}

impl Marker {
    /// The marker that a control batch holds; `None` where it holds something else, or nothing any more.
    pub(super) fn of(batch: &[u8], head: &BatchHead) -> Option<Marker> {
        if head.count == 0 {
            return None;
        }
        let mut records = Records::open(batch, DECOMPRESSED_BYTES_MAX).ok()?;
        // The key of a control record: its version and its type.
        match *records.next_record().ok()??.key? {
            [_, _, 0, 0, ..] => Some(Marker::Abort),
            [_, _, 0, 1, ..] => Some(Marker::Commit),
            _ => None,
        }
    }
}

/// A transaction whose marker has not come.
#[derive(Debug)]
struct Open {
    first: Offset,
    /// What it wrote: it counts when it is committed.
    keys: Vec<(Fingerprint, Offset)>,
}

/// What became of transactions.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    open: BTreeMap<ProducerId, Open>,
    /// By producer and the offset of the marker: where an aborted transaction begins.
    aborted: BTreeMap<(ProducerId, Offset), Offset>,
    pending: usize,
}

impl Outcomes {
    /// How many slots of a map it needs room for: the keys of open transactions, and one for what each aborted one takes
    /// here.
    pub(super) fn pending(&self) -> usize {
        self.pending + self.aborted.len()
    }

    /// A producer wrote a batch of a transaction at `offset`.
    pub(super) fn begun(&mut self, producer: ProducerId, offset: Offset) {
        self.open.entry(producer).or_insert_with(|| Open { first: offset, keys: Vec::new() });
    }

    /// A key in the transaction that a producer has begun.
    pub(super) fn wrote(&mut self, producer: ProducerId, key: Fingerprint, offset: Offset) {
        let open = self.open.get_mut(&producer).expect("its batch has begun a transaction");
        open.keys.push((key, offset));
        self.pending += 1;
    }

    /// A producer's transaction ends at `offset`. Returns what it wrote, where that counts.
    pub(super) fn decided(
        &mut self,
        producer: ProducerId,
        offset: Offset,
        marker: Marker,
    ) -> Vec<(Fingerprint, Offset)> {
        let Some(open) = self.open.remove(&producer) else { return Vec::new() };
        self.pending -= open.keys.len();
        match marker {
            Marker::Commit => open.keys,
            Marker::Abort => {
                self.aborted.insert((producer, offset), open.first);
                Vec::new()
            }
        }
    }

    /// Where the first transaction begins that is open.
    pub(super) fn undecided(&self) -> Option<Offset> {
        self.open.values().map(|open| open.first).min()
    }

    /// Whether what a producer wrote at `offset` in a transaction was aborted.
    pub(super) fn is_aborted(&self, producer: ProducerId, offset: Offset) -> bool {
        let next = self.aborted.range((producer, offset)..=(producer, Offset(i64::MAX))).next();
        next.is_some_and(|(_, &first)| first <= offset)
    }
}
