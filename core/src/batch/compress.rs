//! The codecs of record batches, read always through a limit.
//!
//! A compressed batch is bytes of a stranger's making: a kilobyte may claim to be gigabytes. [`Decompressor`] hands the
//! records out piece by piece, so that they can be walked without ever being in memory at once, and fails as soon as
//! more than the limit has come out. What it holds beside that is bounded by the codec: a window of 32 KiB for gzip,
//! three blocks of at most 4 MiB for lz4, and for zstd a window of at most twice the limit or 8 MiB; the last two are
//! reserved, and touched only as far as output is written. A snappy block is decompressed whole, after its announced length was held against the
//! limit and against what its bytes could possibly expand to.
//!
//! gzip is one member; lz4 and zstd are their frame formats. Snappy is met in two shapes and both are read: plain
//! blocks inside the framing of xerial's snappy-java, which Java clients write and which is written here, and one bare
//! block, which librdkafka writes.

use super::error::BatchError;
use std::fmt;
use std::io::{self, Read, Write};

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks, framed or bare.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

impl Codec {
    /// Every codec, in the order of their codes.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    pub(super) fn from_code(code: i16) -> Result<Codec, BatchError> {
        let known = usize::try_from(code).ok().and_then(|index| Codec::ALL.get(index).copied());
        known.ok_or(BatchError::CodecUnknown { code })
    }

    pub(super) fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for Codec {
    /// The name that `compression.type` uses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::None => "uncompressed",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        })
    }
}

/// Reads what is compressed, up to a limit.
pub struct Decompressor<'a> {
    codec: Codec,
    stream: Stream<'a>,
    bytes_left: usize,
    limit: usize,
    ended: bool,
}

/// One of them lives per batch being read; boxed where its state is hundreds of bytes.
enum Stream<'a> {
    Plain(&'a [u8]),
    Gzip(Box<flate2::bufread::GzDecoder<&'a [u8]>>),
    Snappy(Snappy<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<Input<'a>>>),
    Zstd(zstd::stream::read::Decoder<'static, &'a [u8]>),
}

impl<'a> Decompressor<'a> {
    /// Reads `compressed`, the bytes behind a batch's head, of which at most `limit` bytes may come out.
    pub fn new(codec: Codec, compressed: &'a [u8], limit: usize) -> Result<Decompressor<'a>, BatchError> {
        let stream = match codec {
            Codec::None => Stream::Plain(compressed),
            Codec::Gzip => Stream::Gzip(Box::new(flate2::bufread::GzDecoder::new(compressed))),
            Codec::Snappy => Stream::Snappy(Snappy::new(compressed)),
            Codec::Lz4 => Stream::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(Input::new(compressed)))),
            Codec::Zstd => zstd_decoder(compressed, limit)
                .map(Stream::Zstd)
                .map_err(|_| BatchError::CompressedBytesUnreadable { codec })?,
        };
        Ok(Decompressor { codec, stream, bytes_left: limit, limit, ended: false })
    }

    /// Fills the front of `into` and tells how much of it; 0 only at the end, where nothing may be left over.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, BatchError> {
        // A decoder that is asked again behind its end may take that for the start of another stream.
        if self.ended || into.is_empty() {
            return Ok(0);
        }
        let unreadable = BatchError::CompressedBytesUnreadable { codec: self.codec };
        let too_large = BatchError::DecompressedTooLarge { limit: self.limit };
        let result = match &mut self.stream {
            Stream::Plain(bytes) => bytes.read(into),
            Stream::Gzip(decoder) => decoder.read(into),
            Stream::Snappy(snappy) => match snappy.fill(self.bytes_left)? {
                Filled::Some => Ok(snappy.drain(into)),
                Filled::End => Ok(0),
                Filled::TooLarge => return Err(too_large),
            },
            Stream::Lz4(decoder) => decoder.read(into),
            Stream::Zstd(decoder) => decoder.read(into),
        };
        let read = result.map_err(|_| unreadable)?;
        let Some(bytes_left) = self.bytes_left.checked_sub(read) else {
            self.bytes_left = 0;
            return Err(too_large);
        };
        self.bytes_left = bytes_left;
        self.ended = read == 0;
        if self.ended && !self.is_exhausted() {
            return Err(unreadable);
        }
        Ok(read)
    }

    /// How many bytes may still come out.
    pub(super) fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// Everything, in one piece.
    pub fn read_all(mut self) -> Result<Vec<u8>, BatchError> {
        let mut all = Vec::new();
        loop {
            let end = all.len();
            // The room asked for follows what really came out, never what a header claims; one byte beyond the limit
            // is where too much is noticed.
            all.resize(end + end.clamp(READ_BYTES_MIN, READ_BYTES_MAX).min(self.bytes_left + 1), 0);
            let read = self.read(&mut all[end..])?;
            all.truncate(end + read);
            if read == 0 {
                return Ok(all);
            }
        }
    }

    /// Whether the compressed bytes ended where their format says, with none left over.
    fn is_exhausted(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) | Stream::Snappy(_) | Stream::Zstd(_) => true,
            Stream::Gzip(decoder) => decoder.get_ref().is_empty(),
            Stream::Lz4(decoder) => decoder.get_ref().was_read_exactly(),
        }
    }
}

/// The most that a decoder makes before it hands some of it out, in bytes: a block of lz4, the largest of all codecs'. A
/// block of snappy may be larger, but is no more than 22 times the bytes that it is made of.
pub(super) const AHEAD_BYTES_MAX: usize = 4 << 20;

const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_MAX: usize = 1 << 20;

/// A decoder whose window follows `limit`, not what the frame asks for.
fn zstd_decoder(compressed: &[u8], limit: usize) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    // Levels up to 19 use windows up to 2^23, and those up to 22 up to 2^27, whatever the size of the data.
    const WINDOW_LOG_MIN: u32 = 23;
    const WINDOW_LOG_MAX: u32 = 27;
    let window_log = limit.max(1).ilog2() + 1;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
    decoder.window_log_max(window_log.clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX))?;
    Ok(decoder)
}

/// A reader that remembers whether more was asked of it than it had: lz4_flex takes bytes that end between two blocks
/// for the end of the frame, where Java's reader fails, so a batch cut there must not be let in.
struct Input<'a> {
    left: &'a [u8],
    overrun: bool,
}

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { left: bytes, overrun: false }
    }

    fn was_read_exactly(&self) -> bool {
        self.left.is_empty() && !self.overrun
    }
}

impl Read for Input<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.overrun |= into.len() > self.left.len();
        self.left.read(into)
    }
}

/// What opens xerial's framing.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The version that wrote it and the oldest that can read it, both 1.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// The block size of snappy-java; smaller windows cost ratio, larger ones memory in every reader.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// A copy of 64 bytes takes three: what `n` bytes of snappy decompress to is below `22 n`.
const SNAPPY_RATIO_MAX: usize = 22;

/// Snappy blocks, one decompressed at a time.
struct Snappy<'a> {
    left: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    read: usize,
}

enum Filled {
    Some,
    End,
    TooLarge,
}

impl<'a> Snappy<'a> {
    fn new(bytes: &'a [u8]) -> Snappy<'a> {
        let framed = bytes.strip_prefix(&XERIAL_MAGIC).and_then(|rest| rest.split_at_checked(XERIAL_VERSIONS.len()));
        match framed {
            // The versions are not looked at: there has only ever been one.
            Some((_, blocks)) => Snappy { left: blocks, framed: true, block: Vec::new(), read: 0 },
            None => Snappy { left: bytes, framed: false, block: Vec::new(), read: 0 },
        }
    }

    /// Decompresses the next block where the one before is used up.
    fn fill(&mut self, bytes_max: usize) -> Result<Filled, BatchError> {
        const UNREADABLE: BatchError = BatchError::CompressedBytesUnreadable { codec: Codec::Snappy };
        while self.read == self.block.len() {
            if self.left.is_empty() {
                return Ok(Filled::End);
            }
            let block = if self.framed {
                let (length, rest) = self.left.split_first_chunk().ok_or(UNREADABLE)?;
                let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| UNREADABLE)?;
                let (block, rest) = rest.split_at_checked(length).ok_or(UNREADABLE)?;
                self.left = rest;
                block
            } else {
                std::mem::take(&mut self.left)
            };
            let bytes = snap::raw::decompress_len(block).map_err(|_| UNREADABLE)?;
            if bytes > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
                return Err(UNREADABLE);
            }
            if bytes > bytes_max {
                return Ok(Filled::TooLarge);
            }
            self.block.resize(bytes, 0);
            self.read = 0;
            snap::raw::Decoder::new().decompress(block, &mut self.block).map_err(|_| UNREADABLE)?;
        }
        Ok(Filled::Some)
    }

    fn drain(&mut self, into: &mut [u8]) -> usize {
        let bytes = into.len().min(self.block.len() - self.read);
        into[..bytes].copy_from_slice(&self.block[self.read..self.read + bytes]);
        self.read += bytes;
        bytes
    }
}

/// Compresses records as the codec's own default level does; the same bytes always give the same bytes.
pub fn compress(codec: Codec, records: &[u8]) -> Vec<u8> {
    compress_at(codec, None, records)
}

/// Compresses records at a level: gzip has 1 to 9, zstd -131072 to 22, and the others have none. `None`, and whatever
/// gzip does not have, is the codec's own default.
pub(super) fn compress_at(codec: Codec, level: Option<i32>, records: &[u8]) -> Vec<u8> {
    const IN_MEMORY: &str = "compressing from memory to memory has nothing to fail at";
    match codec {
        Codec::None => records.to_vec(),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), gzip_level(level));
            encoder.write_all(records).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        Codec::Snappy => {
            let mut out = [XERIAL_MAGIC, XERIAL_VERSIONS].concat();
            let mut encoder = snap::raw::Encoder::new();
            for block in records.chunks(XERIAL_BLOCK_BYTES) {
                let block = encoder.compress_vec(block).expect(IN_MEMORY);
                out.extend_from_slice(&(block.len() as i32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        Codec::Lz4 => {
            // What Java's consumer reads: independent blocks, of the size that it writes itself.
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(records).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        Codec::Zstd => {
            zstd::bulk::compress(records, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)).expect(IN_MEMORY)
        }
    }
}

fn gzip_level(level: Option<i32>) -> flate2::Compression {
    match level {
        Some(level @ 1..=9) => flate2::Compression::new(level.unsigned_abs()),
        _ => flate2::Compression::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn decompress(codec: Codec, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        Decompressor::new(codec, bytes, limit)?.read_all()
    }

    fn text(bytes: usize) -> Vec<u8> {
        // Compressible, but not a single run.
        (0..bytes).map(|index| (index / 7 % 251) as u8 ^ (index % 3) as u8).collect()
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for codec in Codec::ALL {
            for bytes in [0, 1, 100, 32 << 10, (32 << 10) + 1, 300_000] {
                let plain = text(bytes);
                assert_eq!(decompress(codec, &compress(codec, &plain), bytes), Ok(plain), "{codec} {bytes}");
            }
        }
    }

    #[test]
    fn every_level_comes_back_and_a_higher_one_is_no_larger() {
        let plain = text(100_000);
        for (codec, levels) in [(Codec::Gzip, [1, 6, 9]), (Codec::Zstd, [-7, 3, 22])] {
            let sizes = levels.map(|level| {
                let compressed = compress_at(codec, Some(level), &plain);
                assert_eq!(decompress(codec, &compressed, plain.len()).as_ref(), Ok(&plain), "{codec} {level}");
                compressed.len()
            });
            assert!(sizes.is_sorted_by(|low, high| low >= high), "{codec} {sizes:?}");
            assert!(sizes[0] > sizes[2], "{codec}: the level is obeyed");
        }
        assert_eq!(compress_at(Codec::Gzip, Some(-1), &plain), compress(Codec::Gzip, &plain));
    }

    #[test]
    fn one_byte_above_the_limit_is_refused() {
        for codec in Codec::ALL {
            let compressed = compress(codec, &text(100_000));
            let result = decompress(codec, &compressed, 99_999);
            assert_eq!(result, Err(BatchError::DecompressedTooLarge { limit: 99_999 }), "{codec}");
        }
    }

    #[test]
    fn compressed_bytes_that_are_cut_never_give_the_whole() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let plain = text(70_000);
            let compressed = compress(codec, &plain);
            for cut in (1..compressed.len()).step_by(97).chain(compressed.len() - 16..compressed.len()) {
                assert_ne!(decompress(codec, &compressed[..cut], LIMIT), Ok(plain.clone()), "{codec} cut at {cut}");
            }
        }
    }

    #[test]
    fn bytes_behind_the_compressed_ones_are_refused() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut compressed = compress(codec, &text(1000));
            compressed.extend_from_slice(b"more");
            let result = decompress(codec, &compressed, LIMIT);
            assert_eq!(result, Err(BatchError::CompressedBytesUnreadable { codec }), "{codec}");
        }
    }

    #[test]
    fn a_bare_snappy_block_is_read() {
        let plain = text(100_000);
        let bare = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert_eq!(decompress(Codec::Snappy, &bare, LIMIT), Ok(plain));
    }

    #[test]
    fn a_snappy_length_that_cannot_be_true_or_is_too_large_allocates_nothing() {
        // A varint of 4 GiB less one, and one byte of data.
        let mut lie = Snappy::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]);
        assert!(lie.fill(usize::MAX).is_err());
        assert_eq!(lie.block.capacity(), 0);
        let honest = snap::raw::Encoder::new().compress_vec(&text(100_000)).unwrap();
        let mut honest = Snappy::new(&honest);
        assert!(matches!(honest.fill(99_999), Ok(Filled::TooLarge)));
        assert_eq!(honest.block.capacity(), 0);
    }

    #[test]
    fn the_densest_snappy_is_read() {
        let plain = vec![0; 1 << 20];
        let bare = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert!(bare.len() * (SNAPPY_RATIO_MAX - 1) < plain.len(), "the bound is nearly met");
        assert_eq!(decompress(Codec::Snappy, &bare, LIMIT), Ok(plain));
    }

    #[test]
    fn lz4_linked_blocks_and_checksums_are_read() {
        let plain = text(300_000);
        let frame = lz4_flex::frame::FrameInfo::new()
            .block_mode(lz4_flex::frame::BlockMode::Linked)
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(plain.len() as u64));
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
        encoder.write_all(&plain).unwrap();
        assert_eq!(decompress(Codec::Lz4, &encoder.finish().unwrap(), LIMIT), Ok(plain));
    }

    #[test]
    fn zstd_with_the_largest_standard_window_is_read_where_the_limit_allows_it() {
        let plain = text(10_000);
        // What level 22 announces, without its cost.
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(27)).unwrap();
        encoder.write_all(&plain).unwrap();
        let compressed = encoder.finish().unwrap();
        assert_eq!(decompress(Codec::Zstd, &compressed, 100 << 20), Ok(plain));
        assert_eq!(
            decompress(Codec::Zstd, &compressed, 1 << 20),
            Err(BatchError::CompressedBytesUnreadable { codec: Codec::Zstd })
        );
    }
}
