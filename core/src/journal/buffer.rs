//! One commit in the making: records are written where they will lie on disk, behind room for the header.

use bytes::{Buf, Bytes, BytesMut};

use super::format::{
    BLOCK_BYTES, COMMIT_HEADER, COMMIT_HEADER_BYTES, CommitHeader, RECORD_HEADER, RecordHeader, RecordKind, Sum,
};
use crate::ids::{Lsn, TopicPartition};

/// Where memory for a commit starts: direct I/O wants it aligned as the device's blocks are.
const ALIGNMENT: usize = BLOCK_BYTES as usize;
/// What the first record of a commit allocates, in bytes. It doubles from there.
const CAPACITY_MIN: usize = 64 * 1024;

/// Records that will be one commit.
#[derive(Debug, Default)]
pub(super) struct CommitBuffer {
    /// Empty, or room for the header followed by the records.
    bytes: BytesMut,
    records: u32,
    must_sync: bool,
    sum: Sum,
}

impl CommitBuffer {
    /// An empty commit in the memory of an earlier one.
    pub(super) fn reusing(mut bytes: BytesMut) -> CommitBuffer {
        bytes.clear();
        CommitBuffer { bytes, ..CommitBuffer::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The length of the records, in bytes.
    pub(super) fn length(&self) -> u64 {
        (self.bytes.len() as u64).saturating_sub(COMMIT_HEADER_BYTES)
    }

    /// Whether a record in it is of a kind that is always synced.
    pub(super) fn must_sync(&self) -> bool {
        self.must_sync
    }

    /// Appends one record of `size` bytes, the pieces of `payload` joined.
    pub(super) fn push(
        &mut self,
        kind: RecordKind,
        partition: TopicPartition,
        lsn: Lsn,
        previous: Option<Lsn>,
        payload: &[&[u8]],
        size: u64,
    ) {
        self.make_room(size as usize);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEADER]);
        for piece in payload {
            self.bytes.extend_from_slice(piece);
        }
        // The sum is taken over the copy, which is in the cache by now, and in one call however many pieces there are.
        let copied = &self.bytes[start + RECORD_HEADER..];
        let header = RecordHeader {
            kind: kind as u8,
            payload_bytes: copied.len() as u32,
            payload_crc: self.sum.of(copied),
            partition,
            lsn,
            previous,
        };
        self.bytes[start..start + RECORD_HEADER].copy_from_slice(&header.encode(&mut self.sum));
        self.bytes.resize(start + size as usize, 0);
        self.records += 1;
        self.must_sync |= kind.is_always_synced();
    }

    /// The commit's bytes and the checksum of its header, which gets the records' length and number from here.
    pub(super) fn seal(mut self, mut header: CommitHeader) -> (Bytes, u32) {
        self.make_room(0);
        header.length = self.length() as u32;
        header.records = self.records;
        let (encoded, crc) = header.encode();
        self.bytes[..COMMIT_HEADER].copy_from_slice(&encoded);
        self.bytes.resize(header.size() as usize, 0);
        (self.bytes.freeze(), crc)
    }

    /// Makes room for the commit's header, `more` bytes and the padding of the last block.
    fn make_room(&mut self, more: usize) {
        let length = self.bytes.len().max(COMMIT_HEADER);
        let needed = (length + more).next_multiple_of(ALIGNMENT);
        if self.bytes.capacity() < needed {
            let mut larger = aligned(needed.max(2 * self.bytes.capacity()).max(CAPACITY_MIN));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(COMMIT_HEADER, 0);
        }
    }
}

/// Memory for at least `capacity` bytes whose first byte is aligned.
fn aligned(capacity: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(capacity + ALIGNMENT);
    let skip = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    bytes.resize(skip, 0);
    bytes.advance(skip);
    bytes
}

/// A copy of `bytes` whose first byte is aligned.
pub(super) fn aligned_copy(bytes: &[u8]) -> Bytes {
    let mut copy = aligned(bytes.len());
    copy.extend_from_slice(bytes);
    copy.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Uuid;

    const NOWHERE: TopicPartition = TopicPartition { topic: Uuid::ZERO, partition: 0 };

    #[test]
    fn a_commit_is_aligned_however_it_grew() {
        let mut buffer = CommitBuffer::default();
        for length in [1, 400, 70_000, 3] {
            let payload = vec![5; length];
            let size = super::super::format::record_size(length as u64);
            buffer.push(RecordKind::Append, NOWHERE, Lsn(0), None, &[&payload], size);
            assert_eq!(buffer.bytes.as_ptr().align_offset(ALIGNMENT), 0);
        }
        let before = buffer.bytes.as_ptr();
        let header = CommitHeader {
            journal: Uuid::ZERO,
            incarnation: 0,
            opens_incarnation: false,
            number: 1,
            file_sequence: 1,
            block: 0,
            first: Lsn(0),
            durable: Lsn(0),
            durable_number: 0,
            length: 0,
            records: 0,
            previous_crc: 0,
        };
        let (data, _) = buffer.seal(header);
        assert_eq!(data.as_ptr(), before, "sealing moves nothing");
        assert_eq!(data.len() % ALIGNMENT, 0);

        let again = CommitBuffer::reusing(data.try_into_mut().expect("nobody else holds it"));
        assert_eq!(again.bytes.as_ptr(), before, "the next commit uses the same memory");
        assert!(again.bytes.capacity() >= 70_000);
    }
}
