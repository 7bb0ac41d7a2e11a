//! Writes a checkpoint piece by piece, so that a large one is never in memory at once.

use bytes::{Bytes, BytesMut};
use crc32fast::Hasher;

use super::super::format::BLOCK_BYTES;
use super::{END, ENTRY_BYTES_MAX, EntryHeader, Header};
use crate::ids::TopicPartition;

/// The length of a chunk, in bytes: what a background write may take of the disk at a time.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// A checkpoint in the making. Chunks follow each other in the file from byte 0; the file is synced after the last.
#[derive(Debug)]
pub struct Encoder {
    header: Header,
    ready: BytesMut,
    sum: Hasher,
    bytes: u64,
    entries: u64,
}

impl Encoder {
    /// Begins the checkpoint `header`, which goes to file [`Header::slot`].
    pub fn new(header: Header) -> Encoder {
        let mut encoder = Encoder { header, ready: BytesMut::new(), sum: Hasher::new(), bytes: 0, entries: 0 };
        encoder.push(&header.encode());
        encoder
    }

    /// Adds an entry whose payload is `payload`'s pieces joined. `kind` is the caller's, and not 0.
    ///
    /// # Panics
    /// If the payload is longer than [`ENTRY_BYTES_MAX`].
    pub fn entry(&mut self, kind: u8, partition: TopicPartition, payload: &[&[u8]]) {
        let payload_bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        assert_ne!(kind, END, "kind 0 is the end marker");
        assert!(payload_bytes as u64 <= ENTRY_BYTES_MAX, "an entry of {payload_bytes} bytes is too long");
        let mut sum = Hasher::new();
        for piece in payload {
            sum.update(piece);
        }
        let sequence = self.header.sequence;
        let header =
            EntryHeader { kind, payload_bytes: payload_bytes as u32, crc: sum.finalize(), partition, sequence };
        self.push(&header.encode());
        for piece in payload {
            self.push(piece);
        }
        self.push(&[0; 8][..payload_bytes.next_multiple_of(8) - payload_bytes]);
        self.entries += 1;
    }

    /// The next chunk, of [`CHUNK_BYTES`], if it is full. Take them all after every entry.
    pub fn take_chunk(&mut self) -> Option<Bytes> {
        self.is_full().then(|| self.ready.split_to(CHUNK_BYTES).freeze())
    }

    /// Whether a chunk is full.
    pub fn is_full(&self) -> bool {
        self.ready.len() >= CHUNK_BYTES
    }

    /// The length so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the checkpoint. Returns what has not been taken, up to a whole block.
    pub fn finish(mut self) -> Bytes {
        let end = EntryHeader::end(self.header.sequence, self.entries, self.bytes, self.sum.clone().finalize());
        self.push(&end.encode());
        let padding = self.bytes.next_multiple_of(BLOCK_BYTES) - self.bytes;
        self.ready.resize(self.ready.len() + padding as usize, 0);
        self.ready.freeze()
    }

    fn push(&mut self, bytes: &[u8]) {
        // A chunk at a time: what grows by little is copied again and again.
        if self.ready.capacity() - self.ready.len() < bytes.len() {
            self.ready.reserve(bytes.len().max(CHUNK_BYTES));
        }
        self.ready.extend_from_slice(bytes);
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}
