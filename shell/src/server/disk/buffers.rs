//! Memory that segments are read into, used again and again: to be given fresh pages, and to clear them, costs as much as
//! to copy a file out of the page cache.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Reads of so many bytes are lent memory. Smaller ones gain nothing, and larger ones are rare.
const LENT: RangeInclusive<usize> = (64 << 10)..=(2 << 20);

/// How much memory is kept for the next reads, in bytes.
const KEPT_MAX: usize = 4 << 20;

/// Memory that nobody uses at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// Room for a read of so many bytes. What is in it is left of an earlier one.
    pub(super) fn take(&self, bytes: usize) -> Buffer {
        // All of it is held for as long as what is read: no more than twice of that.
        let fits = |memory: &Vec<u8>| (bytes..=2 * bytes).contains(&memory.len());
        let kept = match LENT.contains(&bytes) {
            true => self.with(|kept| kept.iter().rposition(fits).map(|at| kept.remove(at))),
            false => None,
        };
        Buffer { memory: kept.unwrap_or_else(|| vec![0; bytes]), bytes, home: self.clone() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Room for a read.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    bytes: usize,
    home: Buffers,
}

impl Buffer {
    /// The first `bytes` bytes, which a read has filled. The memory goes back when nobody holds them any more.
    pub(super) fn into_bytes(mut self, bytes: usize) -> Bytes {
        self.bytes = bytes.min(self.bytes);
        Bytes::from_owner(self)
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.bytes]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if LENT.contains(&memory.len()) {
            self.home.with(|kept| {
                kept.push(memory);
                // The oldest go: what nobody has asked for may be of a size that nobody asks for any more.
                while kept.iter().map(Vec::len).sum::<usize>() > KEPT_MAX {
                    kept.remove(0);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nobody_holds_it() {
        let buffers = Buffers::default();
        let read = |bytes: usize, fill: u8| {
            let mut buffer = buffers.take(bytes);
            assert_eq!(buffer.as_mut().len(), bytes);
            buffer.as_mut().fill(fill);
            buffer.into_bytes(bytes)
        };
        let (first, second) = (read(1 << 20, 1), read(1 << 20, 2));
        let (at, part) = (first.as_ptr(), first.slice(5..9));
        drop(first);
        let third = read(100_000, 3);
        assert_ne!(third.as_ptr(), at, "a part of it is held");
        assert_eq!((&part[..], second[0]), (&[1, 1, 1, 1][..], 2));
        drop(part);
        let again = read(1 << 19, 4);
        assert_eq!((again.as_ptr(), again.len()), (at, 1 << 19));
        assert!(again.iter().all(|&byte| byte == 4));
    }

    #[test]
    fn a_small_read_holds_no_large_memory() {
        let buffers = Buffers::default();
        drop(buffers.take(2 << 20));
        let small = buffers.take(64 << 10);
        assert!(small.memory.capacity() <= 128 << 10, "{} bytes are held", small.memory.capacity());
        assert_eq!(buffers.take(1 << 20).memory.len(), 2 << 20);
    }

    #[test]
    fn a_read_at_the_end_of_a_file_has_what_was_read() {
        let mut buffer = Buffers::default().take(70_000);
        buffer.as_mut().fill(7);
        assert_eq!(buffer.into_bytes(3), &[7, 7, 7][..]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = Buffers::default();
        let lent: Vec<Bytes> = [10, 1 << 20, 1 << 20, 3 << 20, 2 << 20, 1 << 20, 1 << 20]
            .map(|bytes: usize| buffers.take(bytes).into_bytes(bytes))
            .into();
        drop(lent);
        let kept = buffers.with(|kept| kept.iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(kept, [2 << 20, 1 << 20, 1 << 20]);
    }
}
