//! The sparse index of a segment: one entry for each chunk of whole batches.
//!
//! A chunk is what cold reads read and check at once. Base offset, length and leader epoch of a batch lie outside its
//! own checksum, so each entry carries a checksum of its chunk's heads; entry and chunk together vouch for every byte
//! (the bodies by the batches' CRC-32C). Entries that are damaged are made again from the segment ([`super::mend`]).

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::HEAD_BYTES;

/// A chunk is closed when it holds at least this many bytes: few enough that a cold read wastes little, many enough
/// that the index of a gigabyte stays under a megabyte.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// The size of an entry on disk.
pub(super) const ENTRY_BYTES: usize = 40;

/// One chunk of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The base offset of its first batch.
    pub(super) offset: i64,
    /// The largest timestamp in it, in milliseconds.
    pub(super) max_timestamp: i64,
    /// Where it begins in the segment.
    pub(super) position: u64,
    /// Its length in bytes.
    pub(super) bytes: u32,
    /// CRC-32 of the heads of its batches, one after another.
    pub(super) heads: u32,
}

impl Entry {
    /// The entry as it lies on disk, ending in its own CRC-32.
    pub(super) fn encode(&self, into: &mut BytesMut) {
        let start = into.len();
        into.put_i64_le(self.offset);
        into.put_i64_le(self.max_timestamp);
        into.put_u64_le(self.position);
        into.put_u32_le(self.bytes);
        into.put_u32_le(self.heads);
        into.put_u32_le(0);
        let crc = crc32fast::hash(&into[start..]);
        into.put_u32_le(crc);
    }

    /// Reads an entry; `None` where its checksum does not match.
    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Entry> {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        (crc32fast::hash(&bytes[..36]) == half(36)).then(|| Entry {
            offset: word(0).cast_signed(),
            max_timestamp: word(8).cast_signed(),
            position: word(16),
            bytes: half(24),
            heads: half(28),
        })
    }
}

/// Makes the entries of consecutive batches.
#[derive(Debug)]
pub(crate) struct Indexer {
    position: u64,
    open: Option<Open>,
    entries: BytesMut,
    count: u64,
}

#[derive(Debug)]
struct Open {
    offset: i64,
    max_timestamp: i64,
    position: u64,
    heads: crc32fast::Hasher,
}

impl Indexer {
    /// Begins at `position` of a segment, on a chunk's edge.
    pub(crate) fn at(position: u64) -> Indexer {
        Indexer { position, open: None, entries: BytesMut::new(), count: 0 }
    }

    /// Takes the next batch: its offset, its largest timestamp, its first [`HEAD_BYTES`] and its whole length.
    pub(crate) fn push(&mut self, offset: i64, max_timestamp: i64, head: &[u8], bytes: u64) {
        let position = self.position;
        let open =
            self.open.get_or_insert_with(|| Open { offset, max_timestamp, position, heads: crc32fast::Hasher::new() });
        open.max_timestamp = open.max_timestamp.max(max_timestamp);
        open.heads.update(&head[..HEAD_BYTES]);
        self.position += bytes;
        if self.position - open.position >= CHUNK_BYTES as u64 {
            self.close();
        }
    }

    /// Whether the last chunk is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let entry = Entry {
            offset: open.offset,
            max_timestamp: open.max_timestamp,
            position: open.position,
            bytes: u32::try_from(self.position - open.position).expect("a segment is smaller than 4 GiB"),
            heads: open.heads.finalize(),
        };
        entry.encode(&mut self.entries);
        self.count += 1;
    }

    /// Closes the last chunk and gives all entries and how many they are.
    pub(crate) fn finish(mut self) -> (Bytes, u64) {
        self.close();
        (self.entries.freeze(), self.count)
    }
}
