//! Kafka's primitive types, to and from bytes, in both encodings: the old one with fixed lengths and the flexible one
//! of KIP-482. A `Writer` or `Reader` knows which of the two it is in, so a message is written down once.

use super::Api;
use std::fmt;

/// The name under which this client introduces itself.
const CLIENT_ID: &str = "chronik-bench";

/// Why bytes from the broker could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    EndsEarly,
    LengthBelowNull,
    VarintTooLong,
    StringNotUtf8,
    FrameLengthOutOfRange(i32),
    OutOfOrder { expected: i32, found: i32 },
    WrongPartition { expected: i32, found: i32 },
    BatchLengthBelowHeader,
    BatchMagic(u8),
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::EndsEarly => out.write_str("a response ends before its last field"),
            Malformed::LengthBelowNull => out.write_str("a length below -1"),
            Malformed::VarintTooLong => out.write_str("a varint of more than ten bytes"),
            Malformed::StringNotUtf8 => out.write_str("a string that is not UTF-8"),
            Malformed::FrameLengthOutOfRange(length) => write!(out, "a frame of {length} bytes"),
            Malformed::OutOfOrder { expected, found } => {
                write!(out, "a response to request {found} where {expected} was due")
            }
            Malformed::WrongPartition { expected, found } => {
                write!(out, "a response about partition {found} where {expected} was asked for")
            }
            Malformed::BatchLengthBelowHeader => out.write_str("a record batch shorter than its header"),
            Malformed::BatchMagic(magic) => write!(out, "a record batch of format {magic} where 2 was expected"),
        }
    }
}

/// A request being written.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Writer {
    /// Starts a request with room for its length and the header for `version` (request header 1 or, flexible, 2).
    pub(crate) fn request(api: Api, version: i16, correlation: i32) -> Writer {
        let mut writer = Writer { bytes: Vec::with_capacity(256), flexible: false };
        writer.i32(0);
        writer.i16(api as i16);
        writer.i16(version);
        writer.i32(correlation);
        // The client id keeps its two-byte length in both header versions.
        writer.string(CLIENT_ID);
        writer.flexible = api.is_flexible(version);
        writer.tags();
        writer
    }

    /// The finished frame, `beyond` bytes short of what its length says: the caller sends those itself.
    pub(crate) fn finish(mut self, beyond: usize) -> Vec<u8> {
        let length = i32::try_from(self.bytes.len() - 4 + beyond).expect("requests are bounded by the batch size");
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn string(&mut self, value: &str) {
        if self.flexible {
            self.uvarint(value.len() as u64 + 1);
        } else {
            self.i16(i16::try_from(value.len()).expect("names are checked to be short"));
        }
        self.raw(value.as_bytes());
    }

    pub(crate) fn null_string(&mut self) {
        if self.flexible { self.uvarint(0) } else { self.i16(-1) }
    }

    /// The length of an array, or of a bytes field: both have four bytes, or a varint of one more.
    pub(crate) fn length(&mut self, length: usize) {
        if self.flexible {
            self.uvarint(length as u64 + 1);
        } else {
            self.i32(i32::try_from(length).expect("requests are bounded by the batch size"));
        }
    }

    /// No tagged fields, where the encoding has a place for them.
    pub(crate) fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }

    fn uvarint(&mut self, value: u64) {
        push_uvarint(&mut self.bytes, value);
    }
}

/// Appends `value` in groups of seven bits, lowest first.
fn push_uvarint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Appends `value` as records do: zigzag, then seven bits at a time.
pub(super) fn push_varint(bytes: &mut Vec<u8>, value: i64) {
    push_uvarint(bytes, ((value << 1) ^ (value >> 63)) as u64);
}

/// A response being read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Reads bytes that are not inside a response, such as a record's.
    pub(crate) fn plain(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, flexible: false }
    }

    /// Reads a response's header and gives its correlation id. ApiVersions keeps header 0 in every version (KIP-511).
    pub(crate) fn response(api: Api, version: i16, frame: &'a [u8]) -> Result<(i32, Reader<'a>), Malformed> {
        let mut reader = Reader { rest: frame, flexible: api.is_flexible(version) };
        let correlation = reader.i32()?;
        if api != Api::ApiVersions {
            reader.tags()?;
        }
        Ok((correlation, reader))
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::EndsEarly)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::EndsEarly)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::VarintTooLong)
    }

    /// A zigzag varint, as in records.
    pub(crate) fn varint(&mut self) -> Result<i64, Malformed> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A length as `Writer::length` writes it; `None` is null.
    pub(crate) fn length(&mut self) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize));
        }
        nullable(i64::from(self.i32()?))
    }

    /// The number of elements of an array; a null array counts as empty.
    pub(crate) fn elements(&mut self) -> Result<usize, Malformed> {
        Ok(self.length()?.unwrap_or(0))
    }

    pub(crate) fn string(&mut self) -> Result<Option<&'a str>, Malformed> {
        let length = if self.flexible { self.length()? } else { nullable(i64::from(self.i16()?))? };
        let Some(length) = length else { return Ok(None) };
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| Malformed::StringNotUtf8)
    }

    /// Passes over a string without looking at it.
    pub(crate) fn skip_string(&mut self) -> Result<(), Malformed> {
        let length = if self.flexible { self.length()? } else { nullable(i64::from(self.i16()?))? };
        self.take(length.unwrap_or(0)).map(drop)
    }

    /// Skips the tagged fields, where the encoding has a place for them.
    pub(crate) fn tags(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()?;
            self.take(usize::try_from(length).map_err(|_| Malformed::EndsEarly)?)?;
        }
        Ok(())
    }
}

fn nullable(length: i64) -> Result<Option<usize>, Malformed> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Malformed::LengthBelowNull),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_as_they_were() {
        for value in [0, -1, 1, 63, 64, -64, -65, 300, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            let mut reader = Reader::plain(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.rest.is_empty());
        }
    }

    #[test]
    fn a_varint_without_end_is_malformed() {
        assert_eq!(Reader::plain(&[0xff; 11]).varint(), Err(Malformed::VarintTooLong));
        assert_eq!(Reader::plain(&[0xff; 3]).varint(), Err(Malformed::EndsEarly));
    }

    #[test]
    fn lengths_are_checked_against_what_is_there() {
        assert_eq!(Reader::plain(&[0, 5, b'a']).string(), Err(Malformed::EndsEarly));
        assert_eq!(Reader::plain(&[0xff, 0xfe]).string(), Err(Malformed::LengthBelowNull));
        assert_eq!(Reader::plain(&[0xff, 0xff]).string(), Ok(None));
        assert_eq!(Reader::plain(&[0, 1, 0xff]).string(), Err(Malformed::StringNotUtf8));
    }
}
