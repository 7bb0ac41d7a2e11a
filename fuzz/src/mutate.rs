//! Inputs out of inputs, the same ones every time: what `cargo test` tries beside the corpus.

use chronik_core::rng::Rng;
use std::ops::Range;

/// No input gets longer than this, in bytes.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// `input` with one to eight changes, some of which bring in a part of `other`.
pub fn mutated(input: &[u8], other: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 << below(random, 4) {
        mutate(&mut bytes, other, random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    let at = below(random, bytes.len());
    match below(random, 8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << below(random, 8),
        1 if !bytes.is_empty() => bytes[at] = random.u64() as u8,
        2 => border(&mut bytes[at..], random),
        3 => {
            let dropped = range(random, bytes.len());
            bytes.drain(dropped);
        }
        4 => {
            let filling = [0, 0xff, random.u64() as u8][below(random, 3)];
            let length = below(random, 32);
            bytes.splice(at..at, std::iter::repeat_n(filling, length));
        }
        5 => {
            let copy = bytes[range(random, bytes.len())].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => {
            let replaced = range(random, bytes.len());
            bytes.splice(replaced, other[range(random, other.len())].iter().copied());
        }
        _ => {
            let length = below(random, 8);
            bytes.splice(at..at, (0..length).map(|_| random.u64() as u8));
        }
    }
}

/// Overwrites the front with an integer at or beside the border of some type, either end first.
fn border(bytes: &mut [u8], random: &mut Rng) {
    let width = 1 << below(random, 4);
    let Some(into) = bytes.get_mut(..width) else { return };
    let border = [0, 0x7f, 0x7fff, 0x7fff_ffff, i64::MAX as u64, 0xff, 0xffff, u64::from(u32::MAX), u64::MAX];
    let value = border[below(random, border.len())].wrapping_add(below(random, 3) as u64).wrapping_sub(1);
    into.copy_from_slice(&value.to_le_bytes()[..width]);
    if below(random, 2) == 0 {
        into.reverse();
    }
}

/// A number below `end`; 0 where that is 0.
fn below(random: &mut Rng, end: usize) -> usize {
    random.below((end as u64).max(1)) as usize
}

/// A part of something so long.
fn range(random: &mut Rng, length: usize) -> Range<usize> {
    let start = below(random, length + 1);
    // Short ranges are the likelier ones to hit one field.
    let longest = [4, 16, 64, length][below(random, 4)];
    start..length.min(start + below(random, longest + 1))
}
