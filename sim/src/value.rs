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
    let mut value = Vec::with_capacity(bytes as usize);
    for number in [attempt.client, attempt.operation, attempt.number, index, bytes] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    fill(&mut value, bytes as usize);
    value.into()
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
    let mut expect = value[..VALUE_BYTES_MIN as usize].to_vec();
    fill(&mut expect, value.len());
    if number(4) as usize != value.len() || expect != value {
        return Err(format!("the value of record {} of {attempt:?} is not what was sent", number(3)));
    }
    Ok((attempt, number(3)))
}

/// Goes on with bytes that depend on the ones before, so that no piece of one value passes for a piece of another.
fn fill(value: &mut Vec<u8>, bytes: usize) {
    let mut state = u64::from(crc32c::crc32c(value)) | 1 << 32;
    while value.len() < bytes {
        // xorshift64: any fixed mixing would do, this one is short.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let left = (bytes - value.len()).min(8);
        value.extend_from_slice(&state.to_le_bytes()[..left]);
    }
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
