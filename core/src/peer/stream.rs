//! Cutting a peer's stream into frames.

use bytes::buf::Limit;
use bytes::{Buf, Bytes, BytesMut};

use super::{HEADER_BYTES, Header, Malformed, header};
use crate::partial::Partial;

/// The bytes of one stream that have arrived and do not make a frame yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Empty, or the beginning of a frame with its header in front.
    partial: Partial,
}

impl Frames {
    /// The next whole frame, taken from what was there before and from `bytes`, which move on. Its body is at most
    /// `limit` bytes long.
    pub(super) fn next(&mut self, bytes: &mut &[u8], limit: usize) -> Result<Option<(Header, Bytes)>, Malformed> {
        // The usual case: the frame lies in `bytes` as a whole, and is copied once.
        if self.partial.is_empty()
            && let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>()
        {
            let head = header(*head, limit)?;
            if let Some((body, rest)) = rest.split_at_checked(head.body_bytes) {
                *bytes = rest;
                return Ok(Some((head, Bytes::copy_from_slice(body))));
            }
        }
        self.partial.take(bytes, HEADER_BYTES);
        let Some(head) = self.header(limit)? else { return Ok(None) };
        let Some(mut body) = self.partial.complete(bytes, HEADER_BYTES + head.body_bytes) else { return Ok(None) };
        body.advance(HEADER_BYTES);
        Ok(Some((head, body)))
    }

    /// Where the rest of a large frame is to be read to.
    pub(super) fn large(&mut self) -> Option<Limit<&mut BytesMut>> {
        let (whole, _) = self.under_way()?;
        self.partial.large(whole)
    }

    /// How long the frame under way will be, header included, and how much of it is there.
    pub(super) fn under_way(&self) -> Option<(usize, usize)> {
        if self.partial.is_empty() {
            return None;
        }
        // Whatever its limit is, it has been found to be within it.
        let body_bytes = self.header(usize::MAX).ok().flatten().map_or(0, |head| head.body_bytes);
        Some((HEADER_BYTES + body_bytes, self.partial.bytes().len()))
    }

    fn header(&self, limit: usize) -> Result<Option<Header>, Malformed> {
        self.partial.bytes().first_chunk::<HEADER_BYTES>().map(|head| header(*head, limit)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::super::{FRAME_BYTES_MAX, Message, encode};
    use super::*;
    use crate::partial::{GROWTH, LARGE_BYTES};
    use crate::wire::Writer;

    fn frame(bytes: usize) -> Vec<u8> {
        encode(&Message::Metadata(Bytes::from(vec![7; bytes])), &mut Writer::new()).concat()
    }

    #[test]
    fn a_frame_is_the_same_wherever_the_stream_is_cut() {
        let stream = [frame(0), frame(100), frame(3)].concat();
        for cut in 0..=stream.len() {
            let mut frames = Frames::default();
            let mut bodies = Vec::new();
            for mut piece in [&stream[..cut], &stream[cut..]] {
                while let Some((_, body)) = frames.next(&mut piece, FRAME_BYTES_MAX).expect("sound frames") {
                    bodies.push(body.len());
                }
                assert!(piece.is_empty());
            }
            assert_eq!(bodies, [4, 104, 7], "cut at {cut}");
            assert_eq!(frames.under_way(), None);
        }
    }

    #[test]
    fn a_half_sent_frame_takes_memory_for_what_was_sent() {
        let mut frames = Frames::default();
        let stream = frame(20 << 20);
        let mut sent = 0;
        for bytes in [HEADER_BYTES, 1, 1000, 50_000] {
            let mut piece = &stream[sent..sent + bytes];
            sent += bytes;
            assert_eq!(frames.next(&mut piece, FRAME_BYTES_MAX), Ok(None));
            assert!(frames.partial.capacity() <= GROWTH * sent.max(LARGE_BYTES), "after {sent} bytes");
        }
        assert_eq!(frames.under_way(), Some((stream.len(), sent)));
        while let Some(mut room) = frames.large() {
            let bytes = room.remaining_mut();
            assert!(bytes <= GROWTH * sent);
            room.put_slice(&stream[sent..sent + bytes]);
            sent += bytes;
        }
        let (_, body) = frames.next(&mut &[][..], FRAME_BYTES_MAX).expect("a sound frame").expect("all of it");
        assert_eq!((sent, body.len() + HEADER_BYTES), (stream.len(), stream.len()));
    }
}
