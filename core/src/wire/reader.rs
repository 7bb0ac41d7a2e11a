//! Reading primitives from a frame: total, and bounded in what it allocates.

use bytes::Bytes;

use super::Malformed;
use super::str::Str;

/// How many elements the arrays of one message may hold together. Kafka 4.4 allows as many to each array. No real message
/// comes near either.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// How many bytes of memory the arrays of a message may take for each byte of it. Without a bound one byte, an empty
/// string or an empty array, would become a hundred. What clients ask for at its largest takes up to four: a partition of
/// Fetch 4 takes 16 bytes of a frame and 56 of memory, one of OffsetCommit 18 and 56.
pub const MEMORY_PER_BYTE: usize = 4;

/// How many bytes of memory the arrays of any message may take, however short it is: topics with names of one or two
/// letters by the ten thousand are unusual, and nothing to fear.
pub const MEMORY_ALWAYS: usize = 1 << 20;

/// What an allocation takes beside what is asked for, in bytes.
const ALLOCATION_BYTES: usize = 16;

/// How many tagged fields one section may name, as in Kafka 4.4.
pub const MAX_TAGGED_FIELDS: usize = 10_000;

/// Kafka's longest string, in bytes of UTF-8, in either form of its length.
pub(super) const MAX_STRING: usize = i16::MAX as usize;

/// A position in a frame. Byte strings and text that it reads are slices of the frame's own buffer.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    /// Where to stop: the frame's end, or inside a tagged field that field's end.
    end: usize,
    elements_left: usize,
    /// Bytes of memory that arrays take, and how many more they may.
    memory: usize,
    memory_left: usize,
}

impl Reader {
    /// Reads from the first of `bytes`.
    pub fn new(bytes: Bytes) -> Reader {
        let end = bytes.len();
        let memory_left = end.saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_ALWAYS);
        Reader { bytes, at: 0, end, elements_left: MAX_ELEMENTS, memory: 0, memory_left }
    }

    /// The same of bytes that a broker answers with, who may be trusted to hold no more than it says: large answers
    /// take more memory for each byte than large requests.
    pub fn of_answer(bytes: Bytes) -> Reader {
        Reader { memory_left: usize::MAX, ..Reader::new(bytes) }
    }

    /// How many bytes of memory the arrays take that have been read. Strings and byte strings take none of their own.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    #[inline]
    fn skip(&mut self, length: usize) -> Result<usize, Malformed> {
        if length > self.remaining() {
            return Err(Malformed::EndsInsideField);
        }
        let from = self.at;
        self.at += length;
        Ok(from)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let from = self.skip(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[from..from + N]);
        Ok(array)
    }

    /// One byte that is false where it is 0.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    /// Two bytes, big end first.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    /// Two bytes of a number that is not negative, big end first.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big end first.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes, big end first.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// Sixteen bytes as they stand.
    #[inline]
    pub fn uuid(&mut self) -> Result<crate::ids::Uuid, Malformed> {
        self.array().map(crate::ids::Uuid)
    }

    /// An unsigned integer of one to five bytes, seven bits each, the lowest first.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let first = self.i8()?;
        // Nearly all lengths and counts are below 128.
        if first >= 0 { Ok(first as u32) } else { self.unsigned_varint_after((first & 0x7f) as u32) }
    }

    fn unsigned_varint_after(&mut self, first: u32) -> Result<u32, Malformed> {
        let mut value = first;
        for shift in [7, 14, 21] {
            let byte = self.i8()?;
            value |= ((byte & 0x7f) as u32) << shift;
            if byte >= 0 {
                return Ok(value);
            }
        }
        // Four groups of seven bits are read: the fifth has room for four more.
        let last = self.i8()?;
        if !(0..=0x0f).contains(&last) {
            return Err(Malformed::VarintTooLong);
        }
        Ok(value | (last as u32) << 28)
    }

    /// The next `length` bytes, shared with the frame.
    #[inline]
    pub fn slice(&mut self, length: usize) -> Result<Bytes, Malformed> {
        let from = self.skip(length)?;
        Ok(self.bytes.slice(from..from + length))
    }

    /// The length of a string: 16 bits, or in flexible versions a varint that is one more. `None` stands for null.
    #[inline]
    pub(super) fn string_length(&mut self, flexible: bool) -> Result<Option<usize>, Malformed> {
        let length = if flexible { self.compact_length()? } else { plain_length(self.i16()?.into())? };
        match length {
            Some(length) if length > MAX_STRING => Err(Malformed::StringTooLong),
            length => Ok(length),
        }
    }

    /// The length of a byte string: 32 bits, or in flexible versions a varint that is one more. `None` stands for null.
    #[inline]
    pub(super) fn bytes_length(&mut self, flexible: bool) -> Result<Option<usize>, Malformed> {
        if flexible { self.compact_length() } else { plain_length(self.i32()?) }
    }

    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, Malformed> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    /// The number of elements of an array whose elements take `min_bytes` each at least. `None` stands for null.
    ///
    /// # Errors
    /// Where the elements cannot all be in what is left of the frame, or exceed [`MAX_ELEMENTS`].
    #[inline]
    pub(super) fn count(&mut self, flexible: bool, min_bytes: usize) -> Result<Option<usize>, Malformed> {
        let Some(count) = self.bytes_length(flexible)? else { return Ok(None) };
        self.elements_left = self.elements_left.checked_sub(count).ok_or(Malformed::TooManyElements)?;
        if count > self.remaining() / min_bytes.max(1) {
            return Err(Malformed::LengthPastEnd);
        }
        Ok(Some(count))
    }

    /// An empty vector with room for `count` elements, which [`Reader::count`] has checked.
    ///
    /// # Errors
    /// Where the arrays of the message would take more memory than [`MEMORY_PER_BYTE`] and [`MEMORY_ALWAYS`] let them.
    #[inline]
    pub(super) fn room_for<T>(&mut self, count: usize) -> Result<Vec<T>, Malformed> {
        let allocation = if count > 0 { ALLOCATION_BYTES } else { 0 };
        let bytes = count.saturating_mul(size_of::<T>()).saturating_add(allocation);
        self.memory_left = self.memory_left.checked_sub(bytes).ok_or(Malformed::TooMuchMemory)?;
        self.memory += bytes;
        Ok(Vec::with_capacity(count))
    }

    /// A string's text, shared with the frame.
    #[inline]
    pub(super) fn text(&mut self, length: usize) -> Result<Str, Malformed> {
        if length > self.remaining() {
            return Err(Malformed::LengthPastEnd);
        }
        Str::from_utf8(self.slice(length)?).map_err(|_| Malformed::StringNotUtf8)
    }

    /// Reads a section of tagged fields. `known` is called with each tag and reads the field or says that it does not
    /// know it; then it is skipped, as a newer sender may have more to say than we understand.
    ///
    /// # Errors
    /// Where the section is not well formed, or a known field does not fill exactly the length announced for it.
    #[inline]
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        let count = self.unsigned_varint()?;
        if count == 0 {
            return Ok(());
        }
        if count as usize > MAX_TAGGED_FIELDS {
            return Err(Malformed::TooManyTaggedFields);
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let length = self.unsigned_varint()? as usize;
            if length > self.remaining() {
                return Err(Malformed::LengthPastEnd);
            }
            let outer_end = self.end;
            self.end = self.at + length;
            if !known(tag, self)? {
                self.at = self.end;
            }
            if self.at != self.end {
                return Err(Malformed::TaggedFieldLength);
            }
            self.end = outer_end;
        }
        Ok(())
    }
}

#[inline]
fn plain_length(length: i32) -> Result<Option<usize>, Malformed> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(Malformed::NegativeLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn varints_take_32_bits_and_no_more() {
        fn check(bytes: &'static [u8], expect: Result<u32, Malformed>) {
            assert_eq!(reader(bytes).unsigned_varint(), expect, "{bytes:02x?}");
        }
        check(&[0], Ok(0));
        check(&[0x7f], Ok(127));
        check(&[0x80, 1], Ok(128));
        check(&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX));
        check(&[0xff, 0xff, 0xff, 0xff, 0x10], Err(Malformed::VarintTooLong));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0], Err(Malformed::VarintTooLong));
        check(&[0x80], Err(Malformed::EndsInsideField));
    }

    #[test]
    fn a_count_is_checked_before_anything_is_allocated() {
        // Announces 1,000,001 elements, then 1,000,000, then 2 of 4 bytes with 7 there, then exactly what is there.
        assert_eq!(reader(&[0, 0x0f, 0x42, 0x41]).count(false, 0), Err(Malformed::TooManyElements));
        assert_eq!(reader(&[0, 0x0f, 0x42, 0x40]).count(false, 1), Err(Malformed::LengthPastEnd));
        assert_eq!(reader(&[0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7]).count(false, 4), Err(Malformed::LengthPastEnd));
        assert_eq!(reader(&[0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]).count(false, 4), Ok(Some(2)));
    }

    #[test]
    fn null_is_minus_one_or_a_compact_zero_and_nothing_else() {
        assert_eq!(reader(&[0xff, 0xff]).string_length(false), Ok(None));
        assert_eq!(reader(&[0]).string_length(true), Ok(None));
        assert_eq!(reader(&[0xff, 0xfe]).string_length(false), Err(Malformed::NegativeLength));
        assert_eq!(reader(&[0x80, 0, 0, 0]).bytes_length(false), Err(Malformed::NegativeLength));
    }

    #[test]
    fn an_unknown_tagged_field_is_skipped() {
        let mut reader = reader(&[1, 9, 2, 0xaa, 0xbb, 7]);
        reader.tagged_fields(|_, _| Ok(false)).unwrap();
        assert_eq!(reader.i8(), Ok(7));
    }

    #[test]
    fn a_tagged_field_neither_reads_past_its_length_nor_falls_short_of_it() {
        let field = |_: u32, inner: &mut Reader| inner.i16().map(|_| true);
        assert_eq!(reader(&[1, 0, 1, 0xaa, 0xbb]).tagged_fields(field), Err(Malformed::EndsInsideField));
        assert_eq!(reader(&[1, 0, 3, 0xaa, 0xbb, 0xcc]).tagged_fields(field), Err(Malformed::TaggedFieldLength));
    }
}
