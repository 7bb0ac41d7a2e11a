//! The checksum of a batch whose head alone changed.
//!
//! CRC-32C is linear over bits: where the front of some bytes changes and keeps its length, their checksum changes by
//! the change of the front's own checksum, carried over the bytes behind it. Carrying over `n` bytes is a product with
//! x^(8n) modulo the polynomial, a few hundred nanoseconds whatever `n` is. `crc32c_combine` of the crate does the same
//! with matrices that it squares anew in every call, which takes as long as summing a quarter of a megabyte.

/// The Castagnoli polynomial without its highest power. As in every checksum here the lowest power is the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^8, by which a checksum is carried over one byte.
const ONE_BYTE: u32 = 1 << (31 - 8);
/// Carries over 1, 2, 4, 8 ... bytes; a batch's length has 31 bits.
const DOUBLINGS: [u32; 31] = {
    let mut powers = [ONE_BYTE; 31];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = product(powers[index - 1], powers[index - 1]);
        index += 1;
    }
    powers
};

/// The checksum of front and rest after the front's own checksum went from `front` to `new_front`, when it was `whole`
/// before. The front's length stays; `rest_bytes`, below 2 GiB, follow it.
pub(super) fn with_new_front(whole: u32, front: u32, new_front: u32, rest_bytes: usize) -> u32 {
    assert!(rest_bytes < 1 << DOUBLINGS.len(), "a batch is smaller than 2 GiB");
    let mut change = front ^ new_front;
    for (index, doubling) in DOUBLINGS.iter().enumerate() {
        if rest_bytes >> index & 1 == 1 {
            change = product(change, *doubling);
        }
    }
    whole ^ change
}

/// The product of two polynomials over bits, modulo [`POLYNOMIAL`].
const fn product(left: u32, mut right: u32) -> u32 {
    let mut sum = 0;
    let mut power = 0;
    while power < 32 {
        // Masks instead of branches: the bits of a checksum are as good as random.
        sum ^= right & 0u32.wrapping_sub(left >> (31 - power) & 1);
        right = right >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(right & 1);
        power += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_front_gives_the_checksum_of_all_the_bytes() {
        for rest_bytes in [0, 1, 2, 3, 255, 256, 1000, 65_537, 1_000_000] {
            let rest: Vec<u8> = (0..rest_bytes).map(|index: usize| (index / 3) as u8).collect();
            let (front, new_front) = (b"the front", b"a new one");
            let whole = crc32c::crc32c(&[&front[..], &rest].concat());
            let expected = crc32c::crc32c(&[&new_front[..], &rest].concat());
            let actual = with_new_front(whole, crc32c::crc32c(front), crc32c::crc32c(new_front), rest_bytes);
            assert_eq!(actual, expected, "{rest_bytes}");
        }
    }

    #[test]
    fn lengths_too_large_to_sum_agree_with_the_crate() {
        for rest_bytes in [(1 << 31) - 1, 1 << 30, 123_456_789] {
            let expected = crc32c::crc32c_combine(0x1234_5678 ^ 0x9abc_def0, 0x0fed_cba9, rest_bytes);
            assert_eq!(with_new_front(0x0fed_cba9, 0x1234_5678, 0x9abc_def0, rest_bytes), expected);
        }
    }
}
