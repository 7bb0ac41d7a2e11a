//! Chance as a value: one generator, seeded by the driver, and independent ones derived from it by key.
//!
//! ChaCha8, because its output is specified bit by bit: a seed found today replays on every machine and version.
//! It draws identifiers and jitter. Nothing secret is drawn here: whoever knows the seed knows every number.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

use crate::ids::Uuid;

/// A deterministic source of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    inner: ChaCha8Rng,
}

impl Rng {
    /// The generator that `seed` names, as the operating system or a simulation hands it in.
    pub fn from_seed(seed: [u8; 32]) -> Rng {
        Rng { inner: ChaCha8Rng::from_seed(seed) }
    }

    /// The generator of a short seed, one that a person can type to replay a simulation.
    pub fn from_number(seed: u64) -> Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Rng::from_seed(key)
    }

    /// The generator of the `ordinal`-th thing of `stream` under this generator's seed.
    ///
    /// It depends on these three alone, not on what was drawn before: taking one fault out of a simulated plan does
    /// not reshuffle the others.
    pub fn keyed(&self, stream: u64, ordinal: u64) -> Rng {
        let mut source = ChaCha8Rng::from_seed(self.inner.get_seed());
        // A block of ChaCha is a pure function of key, nonce and counter. Streams are the nonce, shifted by one so that
        // no derived key repeats what this generator itself draws from stream 0; ordinals are the counter.
        source.set_stream(stream.wrapping_add(1));
        source.set_word_pos(u128::from(ordinal) * WORDS_PER_BLOCK);
        let mut key = [0; 32];
        source.fill_bytes(&mut key);
        Rng::from_seed(key)
    }

    /// A number of 64 random bits.
    pub fn u64(&mut self) -> u64 {
        self.inner.next_u64()
    }

    /// A number from 0 to below `end`, each as likely as another.
    ///
    /// # Panics
    /// If `end` is 0: there is no such number.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "a range must hold a number");
        // Numbers past the last whole multiple of `end` would favour the small results: draw again.
        let unbiased = u64::MAX - u64::MAX % end;
        loop {
            let drawn = self.u64();
            if drawn < unbiased {
                return drawn % end;
            }
        }
    }

    /// An identifier (version 4) that Kafka's clients and tools take: none of the hundred lowest, which Kafka
    /// reserves (KIP-858), and none whose text begins with `-`, which command lines would take for a flag.
    pub fn uuid(&mut self) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            self.inner.fill_bytes(&mut bytes);
            // Version and variant as RFC 9562 places them; a set version also keeps clear of the reserved hundred.
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            // The first character of the text is the first six bits; `-` is the 62nd of the alphabet.
            if bytes[0] >> 2 != 62 {
                return Uuid(bytes);
            }
        }
    }
}

/// A block of ChaCha has sixteen words of 32 bits.
const WORDS_PER_BLOCK: u128 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_one_sequence_for_ever() {
        let mut rng = Rng::from_number(7);
        assert_eq!([rng.u64(), rng.u64()], GOLDEN_SEQUENCE);
        assert_eq!(Rng::from_number(7).uuid().to_string(), GOLDEN_UUID);
    }
    const GOLDEN_SEQUENCE: [u64; 2] = [14_095_323_943_061_994_099, 8_595_031_940_432_502_117];
    const GOLDEN_UUID: &str = "c7pELHKmTMOlnZ3qArBHdw";

    #[test]
    fn a_key_draws_the_same_whatever_was_drawn_before() {
        let root = Rng::from_number(1);
        let mut used = root.clone();
        used.u64();
        assert_eq!(used.keyed(3, 4).u64(), root.keyed(3, 4).u64());
    }

    #[test]
    fn every_key_draws_something_else() {
        let mut root = Rng::from_number(1);
        let mut seen = std::collections::BTreeSet::from([root.clone().u64(), root.u64()]);
        for stream in [0, 1, 2, u64::MAX] {
            for ordinal in [0, 1, 2, u64::MAX] {
                assert!(seen.insert(root.keyed(stream, ordinal).u64()), "stream {stream}, ordinal {ordinal}");
            }
        }
    }

    #[test]
    fn a_range_yields_all_its_numbers_and_no_other() {
        let mut rng = Rng::from_number(2);
        let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| rng.below(5)).collect();
        assert_eq!(drawn, (0..5).collect());
    }

    #[test]
    fn no_identifier_begins_with_a_dash_or_is_reserved() {
        let mut rng = Rng::from_number(3);
        for _ in 0..2_000 {
            let id = rng.uuid();
            assert!(!id.to_string().starts_with('-'));
            assert!(u128::from_be_bytes(id.0) >= 100);
        }
    }
}
