//! What a connection has read and does not hand over yet.

use bytes::{Buf, Bytes, BytesMut};

/// From so many bytes behind the first request that is held back on, nothing more is read. Until then it is, since a
/// stream that nobody reads does not tell that the client has left.
const BYTES_MAX: usize = 64 * 1024;

/// A request that waits until earlier answers have left, and what the stream brought after it.
#[derive(Debug)]
pub(super) struct HeldBack {
    /// Its frame, without its size.
    pub(super) frame: Bytes,
    behind: BytesMut,
}

impl HeldBack {
    pub(super) fn new(frame: Bytes, behind: &[u8]) -> HeldBack {
        HeldBack { frame, behind: BytesMut::from(behind) }
    }

    /// What the stream brought after all that is here.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.behind.extend_from_slice(bytes);
    }

    /// What the stream brought after the frame.
    pub(super) fn behind(&self) -> &[u8] {
        &self.behind
    }

    /// Another frame is held back instead, behind which only the last `left` bytes of the others come.
    pub(super) fn advance(&mut self, frame: Bytes, left: usize) {
        self.frame = frame;
        self.behind.advance(self.behind.len() - left);
    }

    pub(super) fn bytes(&self) -> usize {
        self.frame.len() + self.behind.len()
    }

    /// Whether there is room for another read.
    pub(super) fn wants_read(&self) -> bool {
        self.behind.len() < BYTES_MAX
    }
}
