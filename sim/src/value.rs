//! Records that say whose they are, so that every byte that comes back can be judged.

use std::fmt;

use bytes::Bytes;

/// A batch that some client sent: all that tells its records from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The client's index in the plan.
    pub client: u32,
    /// The index of its operation.
    pub operation: u32,
    /// The how manieth attempt, from 0. An idempotent producer's batch is the same one however often it is sent.
    pub number: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {}.{}", self.client, self.operation)?;
        if self.number > 0 { write!(f, " attempt {}", self.number) } else { Ok(()) }
    }
}

/// The least length of a value, in bytes: attempt, index, length.
pub const VALUE_BYTES_MIN: u32 = 20;

/// The value of the `index`-th record of an attempt, `bytes` long or [`VALUE_BYTES_MIN`] where that is more.
pub fn write(attempt: Attempt, index: u32, bytes: u32) -> Bytes {
    let bytes = bytes.max(VALUE_BYTES_MIN);
    let mut value = vec![0; bytes as usize];
    let (head, body) = value.split_at_mut(VALUE_BYTES_MIN as usize);
    let numbers = [attempt.client, attempt.operation, attempt.number, index, bytes];
    for (place, number) in head.as_chunks_mut().0.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
    let mut noise = noise_after(head);
    let (whole, rest) = body.as_chunks_mut();
    whole.iter_mut().zip(&mut noise).for_each(|(place, noise)| *place = noise);
    rest.iter_mut().zip(noise.next().into_iter().flatten()).for_each(|(place, noise)| *place = noise);
    value.into()
}

/// The key of the record whose value this is, where it has one: no other record's is the same.
///
/// A topic that compacts then owes all that another one owes, whatever it copies, replaces and removes: there is nothing
/// that it may drop.
pub fn key_of(value: &[u8]) -> &[u8] {
    &value[..16]
}

/// Whose record a value is, and its index.
///
/// # Errors
/// Where the bytes are not what [`write()`] wrote.
pub fn read(value: &[u8]) -> Result<(Attempt, u32), String> {
    if value.len() < VALUE_BYTES_MIN as usize {
        return Err(format!("a value of {} bytes, which no client sends", value.len()));
    }
    let number = |at: usize| u32::from_le_bytes(value[at * 4..at * 4 + 4].try_into().expect("four bytes"));
    let attempt = Attempt { client: number(0), operation: number(1), number: number(2) };
    let (head, body) = value.split_at(VALUE_BYTES_MIN as usize);
    let mut noise = noise_after(head);
    let (whole, rest) = body.as_chunks();
    let is_whole_noise = whole.iter().zip(&mut noise).all(|(place, noise)| *place == noise);
    let is_noise = is_whole_noise && noise.next().is_some_and(|noise| noise.starts_with(rest));
    if number(4) as usize != value.len() || !is_noise {
        return Err(format!("the value of record {} of {attempt:?} is not what was sent", number(3)));
    }
    Ok((attempt, number(3)))
}

/// Endless bytes that depend on the ones before, so that no piece of one value passes for a piece of another.
fn noise_after(head: &[u8]) -> impl Iterator<Item = [u8; 8]> + use<> {
    let mut state = u64::from(crc32c::crc32c(head)) | 1 << 32;
    std::iter::repeat_with(move || {
        // xorshift64: any fixed mixing would do, this one is short.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_whose_it_is_and_any_other_byte_shows() {
        let attempt = Attempt { client: 3, operation: 70_000, number: 2 };
        let value = write(attempt, 9, 101);
        assert_eq!(value.len(), 101);
        assert_eq!(read(&value), Ok((attempt, 9)));
        for at in 0..value.len() {
            let mut other = value.to_vec();
            other[at] ^= 4;
            assert!(read(&other).is_err(), "byte {at}");
        }
        assert!(read(&value[..100]).is_err());
    }
}
