//! Which files the journal uses, in which order, and how much room they leave.
//!
//! A file is *free*, *used* (it holds records that a restart may need) or *current* (used, and the next commit goes
//! there). free → current when a commit does not fit into the current file any more; current → used at the same
//! moment; used → free when [`Ring::recycle`] passes its last commit.

use std::collections::VecDeque;

use super::findings::FileInUse;
use super::slots::Place;
use crate::ids::Lsn;

/// The files and the place of the next commit.
#[derive(Debug)]
pub(super) struct Ring {
    file_bytes: u64,
    /// Oldest first; the last is current, so there is always one.
    used: VecDeque<FileInUse>,
    /// In the order in which they will be used.
    free: VecDeque<u32>,
    /// Where in the current file the next commit starts if it fits.
    position: u64,
}

impl Ring {
    /// A ring of `slots` files, of which `used` hold records; the last of these is written next, from `position` on.
    pub(super) fn new(file_bytes: u64, slots: u32, used: Vec<FileInUse>, position: u64) -> Ring {
        let free = (0..slots).filter(|slot| used.iter().all(|file| file.slot != *slot)).collect();
        let ring = Ring { file_bytes, used: used.into(), free, position };
        ring.invariants(slots);
        ring
    }

    fn current(&self) -> &FileInUse {
        self.used.back().expect("one file is always current")
    }

    /// Where the next commit starts if it fits, and the sequence of that file.
    pub(super) fn next(&self) -> (Place, u64) {
        let current = self.current();
        (Place { slot: current.slot, position: self.position }, current.file_sequence)
    }

    /// Takes room for a commit of `size` bytes whose records end at `end`. None if it has to wait for a free file.
    pub(super) fn place(&mut self, size: u64, end: Lsn) -> Option<(Place, u64)> {
        assert!(size <= self.file_bytes, "a commit of {size} bytes never spans files of {}", self.file_bytes);
        if self.position + size > self.file_bytes {
            let slot = self.free.pop_front()?;
            let current = self.current();
            let (file_sequence, end) = (current.file_sequence + 1, current.end);
            self.used.push_back(FileInUse { slot, file_sequence, end });
            self.position = 0;
        }
        let at = self.next();
        self.position += size;
        let current = self.used.back_mut().expect("one file is always current");
        assert!(current.end <= end, "a commit's records follow those before it");
        current.end = end;
        Some(at)
    }

    /// Frees the files whose commits all end below `below`. Never the current one, into which a commit may just be on
    /// its way.
    ///
    /// A file that ends at `below` itself stays: it may hold empty commits there, and a replay that starts at `below`
    /// follows the chain through them.
    pub(super) fn recycle(&mut self, below: Lsn) {
        while self.used.len() > 1 && self.used[0].end < below {
            self.free.extend(self.used.pop_front().map(|file| file.slot));
        }
    }

    pub(super) fn add(&mut self) {
        self.free.push_back(self.slots());
    }

    pub(super) fn slots(&self) -> u32 {
        (self.used.len() + self.free.len()) as u32
    }

    /// Files not in use.
    pub(super) fn spare(&self) -> u32 {
        self.free.len() as u32
    }

    pub(super) fn tail(&self) -> Tail {
        Tail { file_bytes: self.file_bytes, room: self.file_bytes - self.position, files: self.free.len() as u64 }
    }

    fn invariants(&self, slots: u32) {
        assert!(!self.used.is_empty(), "one file is always current");
        assert_eq!(self.slots(), slots, "a file is used or free, and not both");
        assert!(self.position <= self.file_bytes, "the next commit starts in the current file");
        assert!(
            self.used.iter().zip(self.used.iter().skip(1)).all(|(a, b)| a.file_sequence < b.file_sequence),
            "files follow each other"
        );
    }
}

/// The room that is left, as a value on which commits to come can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    file_bytes: u64,
    room: u64,
    files: u64,
}

impl Tail {
    /// Takes `size` bytes as [`Ring::place`] would. Returns whether there was room.
    pub(super) fn take(&mut self, size: u64) -> bool {
        if size > self.room {
            if self.files == 0 || size > self.file_bytes {
                return false;
            }
            self.files -= 1;
            self.room = self.file_bytes;
        }
        self.room -= size;
        true
    }

    /// Whether a commit of `less` bytes still goes into the file at hand, and one of `more` only into the next.
    pub(super) fn parts(&self, less: u64, more: u64) -> bool {
        less <= self.room && self.room < more
    }

    /// What is left, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.room + self.files * self.file_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(slots: u32) -> Ring {
        let first = FileInUse { slot: 0, file_sequence: 1, end: Lsn(0) };
        Ring::new(8192, slots, vec![first], 0)
    }

    fn place(slot: u32, position: u64, file_sequence: u64) -> Option<(Place, u64)> {
        Some((Place { slot, position }, file_sequence))
    }

    #[test]
    fn commits_move_on_to_a_free_file_when_they_do_not_fit() {
        let mut ring = ring(2);
        assert_eq!(ring.place(4096, Lsn(10)), place(0, 0, 1));
        assert_eq!(ring.place(8192, Lsn(20)), place(1, 0, 2));
        assert_eq!(ring.place(4096, Lsn(30)), None, "file 0 still holds what lies below 10");
    }

    #[test]
    fn a_file_is_reused_only_when_all_its_commits_lie_below() {
        let mut ring = ring(2);
        ring.place(8192, Lsn(10));
        ring.place(8192, Lsn(20));
        ring.recycle(Lsn(10));
        assert_eq!(ring.place(4096, Lsn(30)), None, "an empty commit may lie at 10");
        ring.recycle(Lsn(11));
        assert_eq!(ring.place(4096, Lsn(30)), place(0, 0, 3));
    }

    #[test]
    fn the_current_file_is_never_recycled() {
        let mut ring = ring(1);
        ring.place(4096, Lsn(10));
        ring.recycle(Lsn(11));
        assert_eq!(ring.place(4096, Lsn(20)), place(0, 4096, 1));
        assert_eq!(ring.place(4096, Lsn(30)), None);
    }

    #[test]
    fn trying_on_the_tail_says_what_placing_would() {
        let mut ring = ring(3);
        for size in [4096, 8192, 4096, 4096, 4096] {
            let mut tail = ring.tail();
            assert_eq!(tail.take(size), ring.place(size, Lsn(0)).is_some());
            assert_eq!(tail.take(0).then_some(tail), Some(ring.tail()));
        }
    }
}
