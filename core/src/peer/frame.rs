//! Frames: a header of [`HEADER_BYTES`], then the body.
//!
//! ```text
//! 0  length of the body u32
//! 4  CRC-32C of all that follows, the body included u32
//! 8  kind u8
//! 9  version u8
//! 10 reserved, zero u16
//! ```
//!
//! A wrong length is noticed by the checksum, which is then taken of other bytes. Summing costs a tenth of what the
//! kernel's copy of the same bytes does; it is the connection's work, not the node's.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Malformed, Message};
use crate::wire::{self, Reader, Writer};

/// The length of a frame's header.
pub const HEADER_BYTES: usize = 12;

/// The longest body, in bytes: the largest batch (16 MiB) beside whatever else a turn has to say.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// The longest body before the other side is known to be a broker of this cluster, in bytes.
pub const HELLO_BYTES_MAX: usize = 4 << 10;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body that follows.
    pub body_bytes: usize,
    checksum: u32,
    /// Kind, version and the reserved bytes, which the checksum covers.
    summed: [u8; 4],
}

/// Reads a header, behind which at most `limit` bytes may come.
///
/// # Errors
/// [`Malformed::FrameTooLarge`] where it announces more.
pub fn header(bytes: [u8; HEADER_BYTES], limit: usize) -> Result<Header, Malformed> {
    let [l0, l1, l2, l3, c0, c1, c2, c3, kind, version, r0, r1] = bytes;
    let body_bytes = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if body_bytes > limit {
        return Err(Malformed::FrameTooLarge { bytes: body_bytes, limit });
    }
    Ok(Header { body_bytes, checksum: u32::from_be_bytes([c0, c1, c2, c3]), summed: [kind, version, r0, r1] })
}

/// Reads the message of a header and its body.
///
/// # Errors
/// [`Malformed`] where it is none. Then the connection is of no use any more.
pub fn decode(header: &Header, body: Bytes) -> Result<Message, Malformed> {
    if body.len() != header.body_bytes {
        return Err(Malformed::BodyLength);
    }
    if crc32c::crc32c_append(crc32c::crc32c(&header.summed), &body) != header.checksum {
        return Err(Malformed::Checksum);
    }
    let [kind, version, reserved @ ..] = header.summed;
    if reserved != [0, 0] {
        return Err(Malformed::Reserved);
    }
    let mut reader = Reader::new(body);
    let message = Message::read(kind, version, &mut reader)?;
    match reader.remaining() {
        0 => Ok(message),
        _ => Err(wire::Malformed::TrailingBytes.into()),
    }
}

/// The frame of a message, as slices one after another. Batches, raft's payloads and whatever is forwarded are slices of
/// the message's own, from 1 KiB on.
///
/// # Panics
/// Where the body is longer than [`FRAME_BYTES_MAX`]: whoever gathers a message ends it before.
pub fn encode(message: &Message, writer: &mut Writer) -> SmallVec<[Bytes; 4]> {
    assert!(writer.is_empty(), "a frame is written alone");
    message.write(writer);
    let body = writer.finish();
    assert!(body.len() <= FRAME_BYTES_MAX, "a message of {} bytes", body.len());
    let summed = [message.kind(), message.version(), 0, 0];
    let checksum = body.chunks().iter().fold(crc32c::crc32c(&summed), |sum, chunk| crc32c::crc32c_append(sum, chunk));
    let mut head = [0; HEADER_BYTES];
    head[..4].copy_from_slice(&(body.len() as u32).to_be_bytes());
    head[4..8].copy_from_slice(&checksum.to_be_bytes());
    head[8..].copy_from_slice(&summed);
    let mut slices = SmallVec::from_iter([Bytes::copy_from_slice(&head)]);
    slices.extend(body.into_chunks());
    slices
}
