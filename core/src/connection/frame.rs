//! Cutting a stream into frames: four bytes of size, then as many bytes.

use bytes::buf::Limit;
use bytes::{Buf, Bytes, BytesMut};

use super::CloseReason;
use crate::partial::Partial;
use crate::wire::ApiKey;

/// The length of the size in front of a frame.
const SIZE: usize = 4;

/// The length of what every request begins with: its API's number and version.
const KEY_AND_VERSION: usize = 4;

/// Produce requests of at most so many bytes that arrive together are copied together, which costs one allocation and
/// not one for each. Not larger ones: a batch of theirs may stay in memory for long, and would keep its neighbours.
const SMALL_BYTES: usize = 4 * 1024;

/// How many bytes of requests are copied together at most: the last of them that waits keeps so much in memory.
const RUN_BYTES: usize = 16 * 1024;

/// The bytes of one stream that have arrived and do not make a frame yet.
#[derive(Debug)]
pub(super) struct Frames {
    /// Empty, or the beginning of a frame with its size in front.
    partial: Partial,
    /// Small frames that were copied together and are taken next, with their sizes.
    run: Bytes,
    bytes_max: usize,
    bytes_max_before_greeting: usize,
    is_greeted: bool,
}

impl Frames {
    pub(super) fn new(bytes_max: usize, bytes_max_before_greeting: usize) -> Frames {
        Frames {
            partial: Partial::default(),
            run: Bytes::new(),
            bytes_max,
            bytes_max_before_greeting,
            is_greeted: false,
        }
    }

    /// The client has sent a request that was understood.
    pub(super) fn greeted(&mut self) {
        self.is_greeted = true;
    }

    /// The next whole frame without its size, taken from what was there before and from `bytes`, which move on.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Bytes>, CloseReason> {
        // The usual case: the frame lies in `bytes` as a whole, and is copied once.
        if self.partial.is_empty()
            && let Some(size) = self.size(bytes)?
            && let Some(frame) = bytes.get(SIZE..SIZE + size)
        {
            if self.run.is_empty() {
                self.run = Bytes::copy_from_slice(&bytes[..run_bytes(bytes)]);
            }
            *bytes = &bytes[SIZE + size..];
            if self.run.is_empty() {
                return Ok(Some(Bytes::copy_from_slice(frame)));
            }
            let mut frame = self.run.split_to(SIZE + size);
            frame.advance(SIZE);
            return Ok(Some(frame));
        }
        self.partial.take(bytes, SIZE);
        if self.size(self.partial.bytes())?.is_none() {
            // Only a large frame is not known by its size alone, so these bytes are part of it.
            self.partial.take(bytes, SIZE + KEY_AND_VERSION);
        }
        let Some(size) = self.size(self.partial.bytes())? else { return Ok(None) };
        let Some(mut frame) = self.partial.complete(bytes, SIZE + size) else { return Ok(None) };
        frame.advance(SIZE);
        Ok(Some(frame))
    }

    /// Where the rest of a large frame is to be read to.
    pub(super) fn large(&mut self) -> Option<Limit<&mut BytesMut>> {
        let (whole, _) = self.under_way()?;
        self.partial.large(whole)
    }

    /// How long the frame under way will be, and how much of it is there.
    pub(super) fn under_way(&self) -> Option<(usize, usize)> {
        if self.partial.is_empty() {
            return None;
        }
        let size = self.size(self.partial.bytes()).ok().flatten().unwrap_or(KEY_AND_VERSION);
        Some((SIZE + size, self.partial.bytes().len()))
    }

    /// The size that stands at the start of `bytes`, once enough is there to trust it.
    ///
    /// From a client that has sent no request yet a large one is taken only if it begins as a request does, so that
    /// whoever speaks another protocol holds next to nothing. It need not be ApiVersions: clients may be told not to
    /// begin with it (librdkafka's `api.version.request=false`), and may produce with the first request of a
    /// connection.
    fn size(&self, bytes: &[u8]) -> Result<Option<usize>, CloseReason> {
        let Some((size, rest)) = bytes.split_first_chunk::<SIZE>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*size);
        let refused = |max| Err(CloseReason::RequestSize { bytes: announced, max });
        let Some(size) = usize::try_from(announced).ok().filter(|&size| size <= self.bytes_max) else {
            return refused(self.bytes_max);
        };
        if self.is_greeted || size <= self.bytes_max_before_greeting {
            return Ok(Some(size));
        }
        match rest.first_chunk::<KEY_AND_VERSION>() {
            None => Ok(None),
            Some(&[k0, k1, v0, v1])
                if ApiKey::from_code(i16::from_be_bytes([k0, k1]))
                    .is_some_and(|api_key| api_key.speaks(i16::from_be_bytes([v0, v1]))) =>
            {
                Ok(Some(size))
            }
            Some(_) => refused(self.bytes_max_before_greeting),
        }
    }
}

/// How many bytes the small produce requests make that `bytes` begin with, 0 if fewer than two.
fn run_bytes(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut frames = 0;
    while let Some((size, frame)) = rest.split_first_chunk::<SIZE>()
        && let Ok(size) = usize::try_from(i32::from_be_bytes(*size))
        && size <= SMALL_BYTES
        && frame.len() >= size
        && frame[..size].starts_with(&ApiKey::Produce.code().to_be_bytes())
        && bytes.len() - rest.len() + SIZE + size <= RUN_BYTES
    {
        rest = &frame[size..];
        frames += 1;
    }
    if frames < 2 { 0 } else { bytes.len() - rest.len() }
}

/// Whether a size is the first four letters of an HTTP request.
pub(super) fn is_http(size: i32) -> bool {
    [b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"CONN", b"PATC", b"PRI "].contains(&&size.to_be_bytes())
}

/// Whether a size is the start of a TLS handshake record: type 22, version 3.x.
pub(super) fn is_tls(size: i32) -> bool {
    size.to_be_bytes().starts_with(&[22, 3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partial::GROWTH;

    #[test]
    fn a_half_sent_frame_takes_the_memory_that_it_sent() {
        let mut frames = Frames::new(100 << 20, 64 << 10);
        frames.greeted();
        for mut bytes in [&(100_i32 << 20).to_be_bytes()[..], &[7; 1], &[7; 1000], &[7; 50_000]] {
            assert_eq!(frames.next(&mut bytes), Ok(None));
            let arrived = frames.partial.bytes().len();
            assert!(frames.partial.capacity() <= GROWTH * arrived, "after {arrived} bytes");
        }
    }

    #[test]
    fn small_produce_requests_of_one_read_share_memory_and_others_do_not() {
        let frame = |api_key: ApiKey, size: usize| {
            let key = api_key.code().to_be_bytes();
            [&(size as i32).to_be_bytes()[..], &key, &vec![7; size - key.len()]].concat()
        };
        let sizes = [
            (ApiKey::Fetch, 300),
            (ApiKey::Produce, 300),
            (ApiKey::Produce, 10),
            (ApiKey::Produce, SMALL_BYTES),
            (ApiKey::Produce, SMALL_BYTES + 1),
            (ApiKey::Produce, 300),
            (ApiKey::Fetch, 300),
        ];
        let stream: Vec<u8> = sizes.iter().flat_map(|&(api_key, size)| frame(api_key, size)).collect();
        let mut frames = Frames::new(100 << 20, 64 << 10);
        let mut rest = &stream[..];
        let mut taken = Vec::new();
        while let Some(frame) = frames.next(&mut rest).expect("all are small enough") {
            taken.push(frame);
        }
        let expect: Vec<Vec<u8>> = sizes.iter().map(|&(api_key, size)| frame(api_key, size)[SIZE..].to_vec()).collect();
        assert_eq!(taken, expect);
        assert!(frames.run.is_empty() && frames.under_way().is_none());
        let is_alone: Vec<bool> = taken.iter().map(Bytes::is_unique).collect();
        assert_eq!(is_alone, [true, false, false, false, true, true, true]);
    }

    #[test]
    fn a_run_of_small_requests_stays_small() {
        let request = [&300_i32.to_be_bytes()[..], &[0; 300]].concat();
        let stream = request.repeat(1000);
        assert_eq!(run_bytes(&stream), RUN_BYTES / request.len() * request.len());
        assert_eq!(run_bytes(&stream[..2 * request.len() - 1]), 0, "one alone needs no company");
        assert_eq!(run_bytes(&[]), 0);
    }

    #[test]
    fn a_whole_frame_takes_exactly_its_size() {
        let mut frames = Frames::new(100 << 20, 64 << 10);
        frames.greeted();
        let size = 3_000_001;
        let stream = [&(size as i32).to_be_bytes()[..], &vec![7; size]].concat();
        for piece in stream.chunks(64 << 10) {
            let mut rest = piece;
            if let Some(frame) = frames.next(&mut rest).expect("small enough") {
                assert_eq!(frame.len(), size);
                let frame = frame.try_into_mut().expect("nobody else has it");
                assert_eq!(frame.capacity(), size);
            }
        }
        assert_eq!(frames.under_way(), None);
    }
}
