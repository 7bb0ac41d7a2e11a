//! Where each key is newest: a hash table of fixed size from 128-bit fingerprints of keys to offsets.
//!
//! A key is known by its fingerprint alone, so two keys with one fingerprint would be one, and a record would be lost.
//! By chance that happens to n keys with a probability of n² / 2^129: for a billion of them less than 2^-69. On purpose it
//! cannot be done either, since what fingerprints are made with is drawn anew for every pass and told to nobody.

use std::hash::{DefaultHasher, Hasher};

use crate::ids::Offset;

/// What stands for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64, u64);

/// Makes fingerprints: two of the standard library's keyed hashes (SipHash), each behind a prefix of its own that depends
/// on a secret.
#[derive(Debug)]
pub(super) struct Fingerprints {
    first: DefaultHasher,
    second: DefaultHasher,
}

impl Fingerprints {
    pub(super) fn new(secret: u64) -> Fingerprints {
        let prefixed = |number: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(secret);
            hasher.write_u64(number);
            hasher
        };
        Fingerprints { first: prefixed(1), second: prefixed(2) }
    }

    pub(super) fn of(&self, key: &[u8]) -> Fingerprint {
        let hash = |hasher: &DefaultHasher| {
            let mut hasher = hasher.clone();
            hasher.write(key);
            hasher.finish()
        };
        Fingerprint(hash(&self.first), hash(&self.second))
    }
}

/// A fingerprint, and the offset after the newest record; all zeros where nothing is.
type Slot = [u64; 3];

/// What a slot takes, in bytes.
const SLOT_BYTES: usize = size_of::<Slot>();

/// From keys to the offset of their newest record. Open addressing with linear probing, filled to nine tenths at most,
/// as Kafka's is by default.
#[derive(Debug)]
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
}

impl OffsetMap {
    /// A map for at most `keys_max` keys, in at most `bytes_max` bytes. It has room for one key at least.
    pub(super) fn new(bytes_max: usize, keys_max: usize) -> OffsetMap {
        let enough = keys_max.saturating_add(keys_max / 9).saturating_add(2);
        let slots = (bytes_max / SLOT_BYTES).min(enough).max(2);
        // Zeros come from the system untouched, so what is never used takes no memory.
        OffsetMap { slots: vec![[0; 3]; slots], used: 0, used_max: (slots - slots / 10).min(slots - 1) }
    }

    /// How many further keys it takes.
    pub(super) fn room(&self) -> usize {
        self.used_max - self.used
    }

    fn slot_of(&self, key: Fingerprint) -> usize {
        let slots = self.slots.len() as u64;
        let mut at = usize::try_from(key.0 % slots).expect("below the number of slots");
        while self.slots[at][2] != 0 && (self.slots[at][0], self.slots[at][1]) != (key.0, key.1) {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }

    /// Remembers a record. Whoever calls has looked for [`OffsetMap::room`].
    pub(super) fn put(&mut self, key: Fingerprint, offset: Offset) {
        let at = self.slot_of(key);
        let next = offset.0.cast_unsigned() + 1;
        if self.slots[at][2] == 0 {
            assert!(self.used < self.used_max, "a map is asked for room before it is filled");
            self.used += 1;
        }
        self.slots[at] = [key.0, key.1, next.max(self.slots[at][2])];
    }

    /// The offset of the newest record of a key, `None` for a key that it has not seen.
    pub(super) fn newest(&self, key: Fingerprint) -> Option<Offset> {
        let next = self.slots[self.slot_of(key)][2];
        (next > 0).then(|| Offset((next - 1).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_offset_of_each_key_is_remembered_whatever_the_order() {
        let fingerprints = Fingerprints::new(7);
        let mut map = OffsetMap::new(1 << 20, 1_000);
        let key = |number: i64| fingerprints.of(&number.to_be_bytes());
        for offset in (0..1_000).rev().chain(0..900) {
            map.put(key(offset % 333), Offset(offset));
        }
        for number in 0..333 {
            let newest = if number == 0 { 999 } else { 666 + number };
            assert_eq!(map.newest(key(number)), Some(Offset(newest)));
        }
        assert_eq!(map.newest(key(333)), None);
    }

    #[test]
    fn it_takes_as_many_keys_as_it_says_and_no_more_memory_than_it_may() {
        for (bytes, keys) in [(0, 0), (1_000, usize::MAX), (1_000, 10), (100_000, 3_000)] {
            let mut map = OffsetMap::new(bytes, keys);
            assert!(map.slots.len() * SLOT_BYTES <= bytes.max(2 * SLOT_BYTES));
            let room = map.room();
            assert!(room >= 1 && (room >= keys || map.slots.len() >= bytes / SLOT_BYTES));
            let fingerprints = Fingerprints::new(1);
            for key in 0..room as u64 {
                map.put(fingerprints.of(&key.to_be_bytes()), Offset(3));
            }
            assert_eq!(map.room(), 0);
            assert_eq!(map.newest(fingerprints.of(b"another")), None, "a search ends although it is full");
        }
    }

    #[test]
    fn fingerprints_depend_on_the_secret_and_on_every_byte() {
        let (one, other) = (Fingerprints::new(1), Fingerprints::new(2));
        assert_ne!(one.of(b"key"), other.of(b"key"));
        assert_ne!(one.of(b"key"), one.of(b"kez"));
        assert_ne!(one.of(b""), one.of(b"\0"));
        assert_eq!(one.of(b"key"), Fingerprints::new(1).of(b"key"));
    }
}
