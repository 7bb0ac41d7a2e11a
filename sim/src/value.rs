//! Records that say whose they are, so that every byte that comes back can be judged.

use std::fmt;

use bytes::Bytes;
use chronik_core::batch::Record;
use serde::{Deserialize, Serialize};

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

/// What keys the records of a topic have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// None at all.
    None,
    /// Each record has one of its own: a topic that compacts then owes all that another one owes, whatever it copies,
    /// replaces and removes, since there is nothing that it may drop.
    Own,
    /// Some records have the same.
    Shared(SharedKeys),
}

/// Keys that records have in common. Which one a record has follows from whose it is, so that whoever reads it can tell,
/// and whoever sends it again gives it the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedKeys {
    /// So many there are in each partition, at least 1.
    pub count: u32,
    /// So many in a thousand records are tombstones.
    pub tombstones_permille: u32,
}

/// A record as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; a tombstone has none.
    pub value: Option<Bytes>,
    /// The header that says whose a tombstone is, under [`OF`].
    pub header: Option<Bytes>,
}

/// The name of the header that says of a tombstone what values say of other records.
pub const OF: &[u8] = b"of";

/// The length of a key that records have in common: how many there are, and which one it is.
const SHARED_KEY_BYTES: usize = 8;
/// The length of a key that one record has: the first bytes of its value, which no other's begins with.
const OWN_KEY_BYTES: usize = 16;

impl SharedKeys {
    /// Which key the `index`-th record of an attempt has, from 0. Those with small numbers are written often, those with
    /// large ones seldom, so that some records stay for long.
    pub fn number(&self, of: Attempt, index: u32) -> u32 {
        let dice = dice(of, index);
        // Below a number that is drawn itself.
        let below = dice as u32 % self.count.max(1);
        (dice >> 32) as u32 % (below + 1)
    }

    /// Whether it is a tombstone.
    pub fn is_tombstone(&self, of: Attempt, index: u32) -> bool {
        dice(of, index) % 1_009 % 1_000 < u64::from(self.tombstones_permille)
    }
}

/// A number that depends on whose a record is, but not on the how manieth attempt it is.
fn dice(of: Attempt, index: u32) -> u64 {
    let numbers = [of.client, of.operation, index].map(u32::to_le_bytes).concat();
    let mut mixed = noise_after(&numbers);
    u64::from_le_bytes(mixed.nth(3).expect("it is endless"))
}

/// The `index`-th record of an attempt, whose value is `bytes` long or [`VALUE_BYTES_MIN`] where that is more.
pub fn record(keys: Keys, of: Attempt, index: u32, bytes: u32) -> Sent {
    let is_tombstone = matches!(keys, Keys::Shared(shared) if shared.is_tombstone(of, index));
    let value = write(of, index, if is_tombstone { VALUE_BYTES_MIN } else { bytes });
    let key = match keys {
        Keys::None => None,
        Keys::Own => Some(value.slice(..OWN_KEY_BYTES)),
        Keys::Shared(shared) => {
            let key = [shared.count, shared.number(of, index)].map(u32::to_le_bytes).concat();
            Some(Bytes::from(key))
        }
    };
    match is_tombstone {
        true => Sent { key, value: None, header: Some(value) },
        false => Sent { key, value: Some(value), header: None },
    }
}

/// Whose a record is, and its index.
///
/// # Errors
/// Where it is not what [`record()`] made: another value, another key, a value that is gone.
pub fn recognise(record: &Record<'_>) -> Result<(Attempt, u32), String> {
    let of = record.headers.clone().find(|(name, _)| *name == OF).and_then(|(_, value)| value);
    let value = match (record.value, of) {
        (Some(value), None) | (None, Some(value)) => value,
        (Some(_), Some(_)) => return Err("a tombstone with a value, which no client sends".to_owned()),
        (None, None) => return Err("it has no value".to_owned()),
    };
    let (attempt, index) = read(value)?;
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let is_sound = match record.key {
        None => of.is_none(),
        Some(key) if key.len() == SHARED_KEY_BYTES => {
            let shared = SharedKeys { count: number(&key[..4]), tombstones_permille: 0 };
            number(&key[4..]) == shared.number(attempt, index)
        }
        Some(key) => of.is_none() && key == &value[..OWN_KEY_BYTES],
    };
    match is_sound {
        true => Ok((attempt, index)),
        false => Err(format!("the key of record {index} of {attempt:?} is not what was sent")),
    }
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
    use chronik_core::batch::{BatchBuilder, Records};
    use chronik_core::time::Timestamp;

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

    /// Sends a record and reads it.
    fn sent_and_read(
        keys: Keys,
        of: Attempt,
        index: u32,
        change: impl FnOnce(&mut Sent),
    ) -> Result<(Attempt, u32), String> {
        let mut sent = record(keys, of, index, 60);
        change(&mut sent);
        let header = sent.header.as_ref().map(|header| (OF, Some(header.as_ref())));
        let (key, value) = (sent.key.as_deref(), sent.value.as_deref());
        let batch = BatchBuilder::new().record_with_headers(Timestamp(1), key, value, header.as_slice()).build();
        let mut records = Records::open(&batch, 1 << 20).expect("a batch");
        recognise(&records.next_record().expect("a record").expect("one"))
    }

    #[test]
    fn a_record_is_known_by_whatever_keys_it_has_and_as_a_tombstone() {
        let of = |operation| Attempt { client: 1, operation, number: 4 };
        let shared = SharedKeys { count: 5, tombstones_permille: 300 };
        for keys in [Keys::None, Keys::Own, Keys::Shared(shared)] {
            for operation in 0..20 {
                assert_eq!(sent_and_read(keys, of(operation), 2, |_| {}), Ok((of(operation), 2)));
            }
        }
        let is_tombstone = |&operation: &u32| shared.is_tombstone(of(operation), 0);
        let (tombstone, value) = ((0..).find(is_tombstone), (0..).find(|operation| !is_tombstone(operation)));
        let change = |operation: Option<u32>, change: fn(&mut Sent)| {
            sent_and_read(Keys::Shared(shared), of(operation.expect("one")), 0, change)
        };
        assert!(change(value, |sent| sent.value = None).is_err(), "a value that is gone shows");
        assert!(change(tombstone, |sent| sent.header = None).is_err());
        assert!(change(tombstone, |sent| sent.value = sent.header.clone()).is_err());
        assert!(change(value, |sent| sent.key = Some(vec![5, 0, 0, 0, 9, 0, 0, 0].into())).is_err());
        assert!(change(value, |sent| sent.key = Some(Bytes::from_static(b"another"))).is_err());
    }

    #[test]
    fn keys_and_tombstones_are_as_frequent_as_they_are_said_to_be() {
        let shared = SharedKeys { count: 10, tombstones_permille: 100 };
        let mut times = [0; 10];
        let mut tombstones = 0;
        for operation in 0..1_000 {
            for index in 0..5 {
                let of = Attempt { client: 0, operation, number: 0 };
                times[shared.number(of, index) as usize] += 1;
                tombstones += u32::from(shared.is_tombstone(of, index));
                assert_eq!(shared.number(of, index), shared.number(Attempt { number: 1, ..of }, index));
            }
        }
        assert!(times.iter().all(|&times| times > 10), "{times:?}");
        assert!((400..600).contains(&tombstones), "{tombstones}");
    }
}
