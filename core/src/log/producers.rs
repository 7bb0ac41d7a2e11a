//! What a partition remembers of its idempotent producers, so that a batch sent twice is stored once (KIP-98).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use smallvec::SmallVec;

use crate::batch::BatchHead;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::time::Timestamp;
use crate::wire::ErrorCode;

/// How many batches are remembered for each producer: as many as a client may have in flight.
pub(super) const BATCHES_REMEMBERED: usize = 5;

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The sequence of its first record.
    pub first_sequence: i32,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The offset of its first record.
    pub base: Offset,
    /// The offset of its last record.
    pub last: Offset,
    /// Its max timestamp.
    pub timestamp: Timestamp,
}

/// One producer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The newest epoch seen.
    pub epoch: ProducerEpoch,
    /// The newest batches of that epoch, oldest first.
    pub batches: SmallVec<[Remembered; BATCHES_REMEMBERED]>,
    /// When it last wrote, by the broker's clock.
    pub seen: Timestamp,
}

/// What a batch is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// To be appended.
    Next,
    /// Appended before.
    Duplicate(Remembered),
}

/// What a batch changed of its producer, to take it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There was none before.
    New(ProducerId),
    /// One more batch of the same epoch.
    Next {
        /// Which producer.
        id: ProducerId,
        /// When it had written before.
        seen: Timestamp,
        /// The oldest batch that was remembered, where the new one took its place.
        dropped: Option<Remembered>,
    },
    /// The first batch of another epoch; boxed, since it is rare and large.
    Epoch(ProducerId, Box<Producer>),
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
}

/// The sequence after `sequence`; they run from 0 to `i32::MAX` and begin again (KAFKA-5283).
fn after(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

impl Producers {
    /// Judges a batch's producer id, epoch and sequence.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidProducerEpoch`] for an epoch that was superseded,
    /// [`ErrorCode::OutOfOrderSequenceNumber`] where batches are missing before this one.
    pub fn judge(&self, head: &BatchHead) -> Result<Sequence, ErrorCode> {
        if !head.has_producer_id() {
            return Ok(Sequence::Next);
        }
        let Some(producer) = self.by_id.get(&head.producer_id) else {
            // State that expired or was cut by retention cannot tell a gap from a restart: the batch is taken, as
            // Kafka does since KIP-360.
            return Ok(Sequence::Next);
        };
        if head.producer_epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if head.producer_epoch > producer.epoch {
            return if head.base_sequence == 0 { Ok(Sequence::Next) } else { Err(ErrorCode::OutOfOrderSequenceNumber) };
        }
        let last_sequence = head.last_sequence();
        let known = producer
            .batches
            .iter()
            .find(|batch| batch.first_sequence == head.base_sequence && batch.last_sequence == last_sequence);
        if let Some(&known) = known {
            return Ok(Sequence::Duplicate(known));
        }
        match producer.batches.last() {
            Some(newest) if after(newest.last_sequence) != head.base_sequence => {
                Err(ErrorCode::OutOfOrderSequenceNumber)
            }
            _ => Ok(Sequence::Next),
        }
    }

    /// Remembers a batch that is in the log at `base`, without judging it. Returns what that changed.
    pub(super) fn appended(&mut self, head: &BatchHead, base: Offset, seen: Timestamp) -> Option<Change> {
        if !head.has_producer_id() {
            return None;
        }
        let id = head.producer_id;
        let remembered = Remembered {
            first_sequence: head.base_sequence,
            last_sequence: head.last_sequence(),
            base,
            last: Offset(base.0 + i64::from(head.last_offset_delta)),
            timestamp: head.max_timestamp,
        };
        let fresh = || Producer { epoch: head.producer_epoch, batches: SmallVec::from_iter([remembered]), seen };
        let producer = match self.by_id.entry(id) {
            Entry::Vacant(free) => {
                free.insert(fresh());
                return Some(Change::New(id));
            }
            Entry::Occupied(there) => there.into_mut(),
        };
        if producer.epoch != head.producer_epoch {
            return Some(Change::Epoch(id, Box::new(std::mem::replace(producer, fresh()))));
        }
        let dropped = (producer.batches.len() == BATCHES_REMEMBERED).then(|| producer.batches.remove(0));
        producer.batches.push(remembered);
        Some(Change::Next { id, seen: std::mem::replace(&mut producer.seen, seen), dropped })
    }

    /// Takes the newest change back. A producer that has expired since stays forgotten.
    pub(super) fn undo(&mut self, change: Change) {
        match change {
            Change::New(id) => _ = self.by_id.remove(&id),
            Change::Next { id, seen, dropped } => {
                let Some(producer) = self.by_id.get_mut(&id) else { return };
                producer.batches.pop();
                producer.seen = seen;
                if let Some(dropped) = dropped {
                    producer.batches.insert(0, dropped);
                }
            }
            Change::Epoch(id, before) => {
                if let Some(producer) = self.by_id.get_mut(&id) {
                    *producer = *before;
                }
            }
        }
    }

    /// Forgets every batch that reaches beyond `to`, and producers of which nothing is left then: what is known of them
    /// where what those batches replaced is not.
    pub(super) fn forget_beyond(&mut self, to: Offset) {
        self.by_id.retain(|_, producer| {
            producer.batches.retain(|batch| batch.last < to);
            !producer.batches.is_empty()
        });
    }

    /// Forgets producers that wrote nothing since `before` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, before: Timestamp) {
        self.by_id.retain(|_, producer| producer.seen >= before);
    }

    /// The producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.by_id.iter().map(|(&id, producer)| (id, producer))
    }

    /// The producers that follow `after`, by id.
    pub fn behind(&self, after: Option<ProducerId>) -> impl Iterator<Item = (ProducerId, &Producer)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).map(|(&id, producer)| (id, producer))
    }

    /// How many producers are remembered.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Puts back a producer as a checkpoint kept it.
    pub fn restore(&mut self, id: ProducerId, producer: Producer) {
        self.by_id.insert(id, producer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::HEAD_BYTES;

    fn head(epoch: i16, sequence: i32, count: i32) -> BatchHead {
        let mut bytes = [0; HEAD_BYTES];
        bytes[11] = u8::try_from(HEAD_BYTES - 12).expect("a head is short");
        bytes[16] = 2;
        let mut head = BatchHead::parse(&bytes).expect("a head without records");
        head.producer_id = ProducerId(7);
        head.producer_epoch = ProducerEpoch(epoch);
        head.base_sequence = sequence;
        head.last_offset_delta = count - 1;
        head
    }

    fn remembering(batches: &[(i16, i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        let mut end = 0;
        for &(epoch, sequence, count) in batches {
            producers.appended(&head(epoch, sequence, count), Offset(end), Timestamp(0));
            end += i64::from(count);
        }
        producers
    }

    #[test]
    fn a_batch_sent_twice_is_known_while_it_is_among_the_newest_five() {
        let producers = remembering(&[(0, 0, 2), (0, 2, 2), (0, 4, 2), (0, 6, 2), (0, 8, 2), (0, 10, 2)]);
        assert!(matches!(producers.judge(&head(0, 2, 2)), Ok(Sequence::Duplicate(known)) if known.base == Offset(2)));
        assert_eq!(producers.judge(&head(0, 0, 2)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(producers.judge(&head(0, 12, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn a_gap_is_refused_and_so_is_a_superseded_epoch() {
        let producers = remembering(&[(3, 0, 1)]);
        assert_eq!(producers.judge(&head(3, 2, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(producers.judge(&head(2, 1, 1)), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(producers.judge(&head(4, 1, 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(producers.judge(&head(4, 0, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn sequences_begin_again_after_the_largest() {
        let producers = remembering(&[(0, i32::MAX - 1, 2)]);
        assert_eq!(producers.judge(&head(0, 0, 1)), Ok(Sequence::Next));
        let wrapped = remembering(&[(0, i32::MAX, 2)]);
        assert_eq!(wrapped.judge(&head(0, 1, 1)), Ok(Sequence::Next));
        assert!(matches!(wrapped.judge(&head(0, i32::MAX, 2)), Ok(Sequence::Duplicate(_))));
    }
}
