//! The beginning of a frame whose rest has not arrived: of a client's request, or of a peer's message.

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};

/// From this many missing bytes on, a frame is read straight into its own memory. Below, one more read into a shared
/// buffer is likely to bring the rest together with the frames after it.
pub(crate) const LARGE_BYTES: usize = 16 * 1024;

/// How many times what has arrived may be set aside for the rest of it. A frame of a megabyte, whose first read brings
/// 64 KiB, is so never moved; whoever announces much and sends little costs little.
pub(crate) const GROWTH: usize = 16;

/// What has arrived of one frame, from its first byte on.
#[derive(Debug, Default)]
pub(crate) struct Partial(BytesMut);

impl Partial {
    /// What is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether nothing of a frame is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves bytes here, until there are `until` of them.
    pub(crate) fn take(&mut self, bytes: &mut &[u8], until: usize) {
        let (taken, rest) = bytes.split_at(until.saturating_sub(self.0.len()).min(bytes.len()));
        self.0.extend_from_slice(taken);
        *bytes = rest;
    }

    /// As [`Partial::take`], for a frame whose length is known, `whole`: returns it once all of it is there.
    pub(crate) fn complete(&mut self, bytes: &mut &[u8], whole: usize) -> Option<Bytes> {
        self.make_room(whole, bytes.len());
        self.take(bytes, whole);
        (self.0.len() >= whole).then(|| std::mem::take(&mut self.0).freeze())
    }

    /// Where the rest of a large frame of `whole` bytes is to be read to.
    pub(crate) fn large(&mut self, whole: usize) -> Option<Limit<&mut BytesMut>> {
        let arrived = self.0.len();
        if whole - arrived < LARGE_BYTES {
            return None;
        }
        self.make_room(whole, 0);
        let room = (self.0.capacity() - arrived).min(whole - arrived);
        Some((&mut self.0).limit(room))
    }

    /// Sets memory aside for a frame of `whole` bytes, of which `more` are about to be added.
    fn make_room(&mut self, whole: usize, more: usize) {
        let arrived = (self.0.len() + more).min(whole);
        if self.0.capacity() < whole && self.0.capacity() <= arrived {
            // Not `reserve`, which may set twice as much aside.
            let mut larger = BytesMut::with_capacity(whole.min(arrived * GROWTH));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
    }

    /// How many bytes of memory are set aside.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}
