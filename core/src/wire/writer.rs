//! Writing messages into a rope: small fields together in one buffer, large byte strings spliced in without a copy.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::ids::Uuid;

/// From this length on a byte string is spliced instead of copied. Below it the copy costs less than one more piece
/// for the kernel to gather.
const SPLICE_BYTES: usize = 1024;

/// Room for a usual message: with less than this left in the buffer, a new one starts in a new buffer.
const MESSAGE_BYTES: usize = 256;

/// The size of a buffer, if no single message needs more. One allocation serves a run of small responses.
const BUFFER_BYTES: usize = 4096;

/// Encoded messages, one after another, ready to be written to a connection.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    chunks: SmallVec<[Bytes; 4]>,
    length: usize,
}

impl Frame {
    /// The pieces, none of them empty, in the order to write them.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The pieces, given away.
    pub fn into_chunks(self) -> SmallVec<[Bytes; 4]> {
        self.chunks
    }

    /// The length of all pieces together, in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All pieces in one, copied unless there is only one.
    pub fn to_bytes(&self) -> Bytes {
        match &self.chunks[..] {
            [only] => only.clone(),
            chunks => chunks.concat().into(),
        }
    }
}

/// Where a size prefix is to be filled in. From [`Writer::begin_sized`].
#[derive(Debug)]
#[must_use = "the size prefix stays zero until end_sized"]
pub struct OpenFrame {
    prefix_at: usize,
    started_at: usize,
}

/// A message has become too long for its size prefix: from [`Writer::end_sized`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Its length, in bytes.
    pub bytes: usize,
}

/// Where the length of a tagged field is to be filled in. From [`Writer::begin_tagged`].
#[derive(Debug)]
#[must_use = "the length stays zero until end_tagged"]
pub struct OpenTag {
    length_at: usize,
}

/// Collects any number of messages. Reuse it: [`Writer::finish`] leaves it empty, and its buffer is used again once the
/// frame has been written and dropped.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
    /// Byte strings that belong between `buffer[..at]` and `buffer[at..]`. The buffer itself stays in one piece until
    /// the end, so that a size prefix can be filled in wherever it is.
    splices: SmallVec<[(usize, Bytes); 4]>,
    spliced: usize,
    /// How many tagged fields are open. Their length precedes them in one to five bytes, so that closing one may move
    /// it: what is in it stays in one piece.
    tagged: u32,
}

impl Writer {
    /// An empty writer that allocates with its first byte.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// How many bytes have been written since the start or the last [`Writer::finish`].
    pub fn len(&self) -> usize {
        self.buffer.len() + self.spliced
    }

    /// Whether nothing has been written since the start or the last [`Writer::finish`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives away what was written.
    ///
    /// # Panics
    /// Where a tagged field is still open.
    pub fn finish(&mut self) -> Frame {
        assert_eq!(self.tagged, 0, "a tagged field is still open");
        let length = self.len();
        let buffer = self.buffer.split().freeze();
        let mut chunks = SmallVec::new();
        let mut from = 0;
        for (at, splice) in self.splices.drain(..) {
            if at > from {
                chunks.push(buffer.slice(from..at));
            }
            chunks.push(splice);
            from = at;
        }
        if from == 0 && !buffer.is_empty() {
            chunks.push(buffer);
        } else if from < buffer.len() {
            chunks.push(buffer.slice(from..));
        }
        self.spliced = 0;
        Frame { chunks, length }
    }

    /// Opens something preceded by its size in four bytes.
    pub fn begin_sized(&mut self) -> OpenFrame {
        if self.buffer.capacity() - self.buffer.len() < MESSAGE_BYTES {
            self.buffer.reserve(BUFFER_BYTES);
        }
        let prefix_at = self.buffer.len();
        self.buffer.put_i32(0);
        OpenFrame { prefix_at, started_at: self.len() }
    }

    /// Fills in the size of all that was written since `start`.
    ///
    /// # Errors
    /// Where that is 2 GiB or more, which no size can say: what was written is of no use then.
    pub fn end_sized(&mut self, start: OpenFrame) -> Result<(), TooLong> {
        let bytes = self.len() - start.started_at;
        let size = i32::try_from(bytes).map_err(|_| TooLong { bytes })?;
        self.buffer[start.prefix_at..start.prefix_at + 4].copy_from_slice(&size.to_be_bytes());
        Ok(())
    }

    /// Opens the value of a tagged field, after its tag.
    pub fn begin_tagged(&mut self) -> OpenTag {
        let length_at = self.buffer.len();
        self.buffer.put_u8(0);
        self.tagged += 1;
        OpenTag { length_at }
    }

    /// Fills in the length of all that was written since `start`.
    pub fn end_tagged(&mut self, start: OpenTag) {
        let from = start.length_at + 1;
        let to = self.buffer.len();
        self.tagged -= 1;
        let length = u32::try_from(to - from).expect("a tagged field stays below 4 GiB");
        let (bytes, used) = unsigned_varint(length);
        let more = used - 1;
        if more > 0 {
            self.buffer.put_bytes(0, more);
            self.buffer.copy_within(from..to, from + more);
        }
        self.buffer[start.length_at..start.length_at + used].copy_from_slice(&bytes[..used]);
    }

    /// One byte, 1 or 0.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(value.into());
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// Two bytes, big end first.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// Two bytes of a number that is not negative, big end first.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// Four bytes, big end first.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// Eight bytes, big end first.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Sixteen bytes as they stand.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(&value.0);
    }

    /// An unsigned integer in one to five bytes, seven bits each, the lowest first.
    #[inline]
    pub fn unsigned_varint(&mut self, value: u32) {
        if value < 0x80 {
            self.buffer.put_u8(value as u8);
        } else {
            let (bytes, used) = unsigned_varint(value);
            self.buffer.put_slice(&bytes[..used]);
        }
    }

    /// Bytes as they stand, copied.
    #[inline]
    pub fn slice(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Bytes as they stand, spliced in where they are long.
    #[inline]
    pub fn bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_BYTES || self.tagged > 0 {
            self.buffer.put_slice(bytes);
        } else {
            self.spliced += bytes.len();
            self.splices.push((self.buffer.len(), bytes.clone()));
        }
    }

    /// A length that [`Reader::string_length`](super::Reader) reads. `None` stands for null.
    #[inline]
    pub(super) fn string_length(&mut self, length: Option<usize>, flexible: bool) {
        match length {
            _ if flexible => self.compact_length(length),
            Some(length) => self.i16(i16::try_from(length).expect("strings are cut to 32,767 bytes")),
            None => self.i16(-1),
        }
    }

    /// A length of a byte string, or a number of elements. `None` stands for null.
    #[inline]
    pub(super) fn bytes_length(&mut self, length: Option<usize>, flexible: bool) {
        match length {
            _ if flexible => self.compact_length(length),
            Some(length) => self.i32(i32::try_from(length).expect("a field stays below 2 GiB")),
            None => self.i32(-1),
        }
    }

    #[inline]
    fn compact_length(&mut self, length: Option<usize>) {
        let one_more = length.map_or(0, |length| length + 1);
        self.unsigned_varint(u32::try_from(one_more).expect("a field stays below 2 GiB"));
    }
}

/// The bytes of an unsigned varint, and how many of them count.
fn unsigned_varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut used = 0;
    while value >= 0x80 {
        bytes[used] = value as u8 | 0x80;
        value >>= 7;
        used += 1;
    }
    bytes[used] = value as u8;
    (bytes, used + 1)
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    #[test]
    fn long_byte_strings_are_spliced_and_short_ones_copied() {
        let long = Bytes::from(vec![7; SPLICE_BYTES]);
        let mut writer = Writer::new();
        let start = writer.begin_sized();
        writer.bytes(&Bytes::from_static(b"short"));
        writer.bytes(&long);
        writer.bytes(&long);
        writer.i16(9);
        writer.end_sized(start).expect("it is short");
        let frame = writer.finish();
        assert_eq!(frame.chunks().iter().map(Bytes::len).collect::<Vec<_>>(), [9, SPLICE_BYTES, SPLICE_BYTES, 2]);
        assert_eq!(frame.chunks()[1].as_ptr(), long.as_ptr());
        assert_eq!(frame.chunks()[0][..4], (frame.len() as i32 - 4).to_be_bytes());
        assert_eq!(frame.to_bytes().len(), frame.len());
    }

    #[test]
    fn several_messages_share_one_frame_and_one_buffer() {
        let mut writer = Writer::new();
        for value in [1, 2] {
            let start = writer.begin_sized();
            writer.i32(value);
            writer.end_sized(start).expect("it is short");
        }
        let frame = writer.finish();
        assert_eq!(frame.chunks().len(), 1);
        assert_eq!(&frame.to_bytes()[..], [0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 2]);
        assert!(writer.is_empty() && writer.finish().is_empty());
    }

    #[test]
    fn a_message_of_2_gib_has_no_size() {
        let piece = Bytes::from(vec![0; 1 << 20]);
        let mut writer = Writer::new();
        let start = writer.begin_sized();
        for _ in 0..2048 {
            writer.bytes(&piece);
        }
        assert_eq!(writer.end_sized(start), Err(TooLong { bytes: 1 << 31 }));
    }

    #[test]
    fn a_tagged_field_of_any_length_is_preceded_by_it() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let mut writer = Writer::new();
            writer.unsigned_varint(1);
            writer.unsigned_varint(5);
            let start = writer.begin_tagged();
            writer.bytes(&Bytes::from(vec![3; length]));
            writer.end_tagged(start);
            writer.i8(9);
            let mut reader = Reader::new(writer.finish().to_bytes());
            let mut seen = None;
            reader
                .tagged_fields(|tag, inner| {
                    seen = Some((tag, inner.slice(inner.remaining())?));
                    Ok(true)
                })
                .unwrap();
            assert_eq!(seen, Some((5, Bytes::from(vec![3; length]))));
            assert_eq!(reader.i8(), Ok(9));
        }
    }

    #[test]
    fn varints_read_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut writer = Writer::new();
            writer.unsigned_varint(value);
            assert_eq!(Reader::new(writer.finish().to_bytes()).unsigned_varint(), Ok(value));
        }
    }
}
