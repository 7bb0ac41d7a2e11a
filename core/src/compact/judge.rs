//! What of a batch stays.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Pass;
use super::transactions::Marker;
use crate::batch::{BatchHead, Record, Records, emptied, keep_records};
use crate::ids::{Offset, ProducerId};
use crate::log::DECOMPRESSED_BYTES_MAX;
use crate::time::Timestamp;

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// Some of its records stay, or all with a delete horizon that they did not have.
    Changes(Option<Timestamp>),
    /// It stays without its records.
    Empties,
    Goes,
}

/// A batch's fate, and what it costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) fate: Fate,
    pub(super) removed: u64,
    pub(super) without_key: u64,
}

impl From<Fate> for Verdict {
    fn from(fate: Fate) -> Verdict {
        Verdict { fate, removed: 0, without_key: 0 }
    }
}

impl Verdict {
    /// What stays of the batch that it was passed on.
    pub(super) fn batch_of(&self, batch: &Bytes, head: &BatchHead, pass: &Pass) -> Option<Bytes> {
        match self.fate {
            Fate::Stays => Some(batch.clone()),
            Fate::Changes(horizon) => {
                let keeps = |record: &Record<'_>| pass.keeps(head, record);
                // All of it was read when it was judged.
                Some(keep_records(batch, horizon, DECOMPRESSED_BYTES_MAX, keeps).unwrap_or_else(|_| batch.clone()))
            }
            Fate::Empties => Some(emptied(head)),
            Fate::Goes => None,
        }
    }
}

/// What judging remembers from batch to batch: the transactions of which something was found since the last marker.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    found: BTreeSet<ProducerId>,
}

impl Pass {
    /// Judges the next batch of a run that ends at `run_end`. Batches are judged in the order of their offsets.
    pub(super) fn judge(&mut self, batch: &[u8], head: &BatchHead, run_end: Offset) -> Verdict {
        let is_open = self.note_transaction(batch, head);
        if head.base_offset >= self.end {
            return Fate::Stays.into();
        }
        let must_stay = self.is_newest_of_producer(head) || head.next_offset() >= run_end;
        let none = match (must_stay, head.count) {
            (true, 0) => Fate::Stays,
            (true, _) => Fate::Empties,
            (false, _) => Fate::Goes,
        };
        let attributes = head.attributes;
        if attributes.is_control() {
            return match (is_open, attributes.has_delete_horizon()) {
                (true, _) => Fate::Stays.into(),
                (false, true) if head.base_timestamp <= self.scope.now && self.scope.is_everywhere => none.into(),
                (false, true) => Fate::Stays.into(),
                // Emptied by a pass before: no reader needs it for what it said.
                (false, false) if head.count == 0 => none.into(),
                (false, false) => Fate::Changes(Some(self.horizon())).into(),
            };
        }
        if attributes.is_transactional() && self.outcomes.is_aborted(head.producer_id, head.base_offset) {
            return Verdict { removed: u64::try_from(head.count).unwrap_or(0), ..none.into() };
        }
        self.judge_records(batch, head, none)
    }

    fn judge_records(&self, batch: &[u8], head: &BatchHead, none: Fate) -> Verdict {
        let horizon = self.horizon();
        let (mut kept, mut removed, mut without_key) = (0, 0, 0);
        let (mut has_tombstone, mut fits_horizon) = (false, true);
        let Ok(mut records) = Records::open(batch, DECOMPRESSED_BYTES_MAX) else { return Fate::Stays.into() };
        loop {
            match records.next_record() {
                Ok(Some(record)) if self.keeps(head, &record) => {
                    kept += 1;
                    has_tombstone |= record.value.is_none();
                    fits_horizon &= record.timestamp.0.checked_sub(horizon.0).is_some();
                }
                Ok(Some(record)) => {
                    removed += 1;
                    without_key += u64::from(record.key.is_none());
                }
                Ok(None) => break,
                // It was read when it came: better kept than lost.
                Err(_) => return Fate::Stays.into(),
            }
        }
        // Where a batch lies across the pass's end, what its later tombstones delete is still there: their time begins with
        // the pass that takes that away.
        let is_below = head.last_offset() < self.end;
        let needs_horizon = has_tombstone && is_below && fits_horizon && !head.attributes.has_delete_horizon();
        let fate = match (kept, removed) {
            (0, _) => none,
            (_, 0) if !needs_horizon => Fate::Stays,
            _ => Fate::Changes(needs_horizon.then_some(horizon)),
        };
        Verdict { fate, removed, without_key }
    }

    /// Whether a record stays of a batch that is not gone as a whole.
    fn keeps(&self, head: &BatchHead, record: &Record<'_>) -> bool {
        if head.attributes.is_control() || record.offset >= self.end {
            return true;
        }
        let Some(key) = record.key.filter(|_| record.offset >= self.scope.start) else { return false };
        let is_expired = head.attributes.has_delete_horizon() && head.base_timestamp <= self.scope.now;
        let is_over = is_expired && self.scope.is_everywhere;
        let is_newest = self.map.newest(self.fingerprints.of(key)).is_none_or(|newest| record.offset >= newest);
        is_newest && (record.value.is_some() || !is_over)
    }

    /// Until when tombstones and markers stay that this pass finds.
    fn horizon(&self) -> Timestamp {
        let ms = i64::try_from(self.scope.delete_retention_ms).unwrap_or(i64::MAX);
        Timestamp(self.scope.now.0.saturating_add(ms))
    }

    /// Takes note of what a batch is to its producer's transaction. Returns, of a control batch, whether it closes one of
    /// which something was found, or is none that can ever go.
    fn note_transaction(&mut self, batch: &[u8], head: &BatchHead) -> bool {
        if head.attributes.is_control() {
            return match Marker::of(batch, head) {
                Some(_) => self.judge.found.remove(&head.producer_id),
                None => head.count > 0,
            };
        }
        if head.attributes.is_transactional() {
            self.judge.found.insert(head.producer_id);
        }
        false
    }

    /// Whether it is the newest batch of a producer that is remembered.
    fn is_newest_of_producer(&self, head: &BatchHead) -> bool {
        let producers = &self.scope.producers;
        let found = producers.binary_search_by_key(&head.producer_id, |&(id, _)| id);
        let newest = found.ok().filter(|_| head.has_producer_id()).map(|at| producers[at].1);
        newest.is_some_and(|(last, epoch)| match last {
            Some(last) => head.last_offset() == last,
            None => head.attributes.is_control() && head.producer_epoch == epoch,
        })
    }
}
