//! Numbers by key, for the many small things that a run leaves to chance.
//!
//! A number depends on the plan's seed and on what it is for, never on what was drawn before: taking an operation or a
//! fault out of a plan changes nothing about the others. Mixing is that of SplitMix64 (Steele et al. 2014), which is
//! enough for latencies and costs a few instructions; whatever becomes part of a broker's state is drawn by the core's
//! own generator.

use chronik_core::rng::Rng;

// Streams of chance.
pub(super) const NETWORK: u64 = 1;
pub(super) const DISK: u64 = 2;
pub(super) const CRASH: u64 = 3;
pub(super) const RECOVERY: u64 = 4;
const ENTROPY: u64 = 5;
pub(super) const MACHINES: u64 = 6;
pub(super) const LINKS: u64 = 7;

/// A key, and the number that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn from_seed(seed: u64) -> Chance {
        Chance(mix(seed))
    }

    /// Another key for each number.
    pub(super) fn keyed(self, key: u64) -> Chance {
        Chance(mix(self.0 ^ mix(key.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    /// A number from 0 to below `end`; 0 where `end` is.
    pub(super) fn below(self, end: u64) -> u64 {
        // The bias of a modulus shows only where `end` is near 2^64.
        if end == 0 { 0 } else { mix(self.0) % end }
    }

    /// A number from `from` to `to`, both included.
    pub(super) fn between(self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// A generator of its own, for whoever draws many numbers.
    pub(super) fn rng(self) -> Rng {
        Rng::from_number(self.bits())
    }

    pub(super) fn bits(self) -> u64 {
        mix(self.0)
    }

    /// What the process of this number is handed as its random seed.
    pub(super) fn entropy(self, incarnation: u64) -> [u8; 32] {
        let mut entropy = [0; 32];
        for (at, chunk) in entropy.chunks_mut(8).enumerate() {
            let drawn = self.keyed(ENTROPY).keyed(incarnation).keyed(at as u64).bits();
            chunk.copy_from_slice(&drawn.to_le_bytes());
        }
        entropy
    }
}

/// Mixes 64 bits so that each depends on all.
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
