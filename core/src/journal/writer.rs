//! The journal's end: takes records, hands out commits, learns which of them are durable.
//!
//! A commit is *pending* while records are added to it, *in flight* from [`Writer::take_commit`] on, and *durable* when
//! [`Writer::committed`] says so. One is in flight at a time; what arrives meanwhile makes the next. With acks that do
//! not wait for the disk there is a step between: *written*, by [`Writer::written`], and durable with the next sync.
//!
//! After a start the first commits are the journal's own: the last commit that recovery found, once more, and an empty
//! one that opens the incarnation. Nothing may leave the node until [`Writer::is_settled`].

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::buffer::CommitBuffer;
use super::findings::{LastCommit, Recovered};
use super::format::{
    BLOCK_BYTES, COMMIT_HEADER_BYTES, CommitHeader, RECORD_HEADER_BYTES, RecordKind, commit_size, record_size,
};
use super::position::Position;
use super::ring::{Ring, Tail};
use super::slots::Place;
use crate::ids::{Lsn, TopicPartition, Uuid};

/// How much a commit takes of its file at most, in bytes, unless a single record needs more: so that no commit keeps
/// the next one waiting for long, and so that a whole number of them fills a file.
const COMMIT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How much memory of a past commit is kept for the next one, in bytes.
const SPARE_BYTES_MAX: usize = 2 * COMMIT_BYTES_MAX as usize;
/// How many unused files the journal likes to have, so that a burst does not have to wait for one to be zero-filled.
const SPARE_FILES: u32 = 4;

/// The journal's measures. `file_bytes` is fixed when the journal is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The length of each file, in bytes: a multiple of [`BLOCK_BYTES`], at least two of them and below 4 GiB.
    pub file_bytes: u64,
    /// How many files the journal grows to.
    pub max_files: u32,
    /// How much room only [`Class::Critical`] records may use, in bytes.
    pub reserve_bytes: u64,
}

impl Default for Geometry {
    fn default() -> Geometry {
        Geometry { file_bytes: 16 * 1024 * 1024, max_files: 32, reserve_bytes: 4 * 1024 * 1024 }
    }
}

impl Geometry {
    /// The longest payload that a file of these measures can hold, in bytes.
    pub fn max_record_bytes(&self) -> u64 {
        self.file_bytes - COMMIT_HEADER_BYTES - RECORD_HEADER_BYTES
    }

    /// How large the ring may become, in bytes.
    pub fn ring_bytes_max(&self) -> u64 {
        u64::from(self.max_files) * self.file_bytes
    }

    fn assert_sound(&self) {
        assert!(self.file_bytes.is_multiple_of(BLOCK_BYTES), "a file is a whole number of blocks");
        assert!(self.file_bytes >= 2 * BLOCK_BYTES, "a file has room for more than the commit that opens it");
        assert!(self.file_bytes <= u64::from(u32::MAX), "a commit's length is a 32-bit number");
    }
}

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Produced data, which can be refused and comes again.
    Ordinary,
    /// What the node needs in order to make room or to stay a member: raft, truncation, deletion, offset commits,
    /// checkpoints.
    Critical,
}

/// What the driver writes in one piece and then syncs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Into which file.
    pub slot: u32,
    /// How many bytes from its start; a multiple of [`BLOCK_BYTES`].
    pub position: u64,
    /// What to write: whole blocks, in memory aligned to [`BLOCK_BYTES`], so that direct I/O can take it.
    pub data: Bytes,
    /// The commit's number, for [`Writer::committed`].
    pub number: u64,
    /// The LSN after its last record.
    pub end: Lsn,
    /// Whether it must be synced, with every commit before it, also where appends are acknowledged without.
    pub must_sync: bool,
}

#[derive(Debug)]
struct InFlight {
    data: Bytes,
    /// Where the journal stands once this commit is durable.
    after: Position,
}

/// What an incarnation must write before anything else.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    /// The last commit that recovery found may be in the page cache only (rule 2): write it again.
    Rewrite(LastCommit),
    /// The empty first commit of this incarnation takes the number and the block of any torn commit.
    Open,
    /// That commit is in flight.
    Opened,
    /// It is durable.
    Settled,
}

/// Writes the journal of one incarnation.
#[derive(Debug)]
pub struct Writer {
    journal: Uuid,
    incarnation: u64,
    geometry: Geometry,
    ring: Ring,
    opening: Opening,
    /// The LSN of the next record to be appended.
    end: Lsn,
    /// Commits that are full, oldest first.
    full: VecDeque<CommitBuffer>,
    /// The commit that records are added to.
    open: CommitBuffer,
    /// The room behind `full`; None if the ring cannot take them all yet.
    behind_full: Option<Tail>,
    /// The incarnation has opened, and there is no room yet for what the start appended.
    opened_short: bool,
    /// Where the journal stands after the last commit that was issued.
    issued: Position,
    /// Where it stands after the last durable commit.
    durable: Position,
    in_flight: Option<InFlight>,
    /// Written but not known to be durable, oldest first: the position after each.
    written: VecDeque<Position>,
    /// Memory of a commit that is done.
    spare: Option<BytesMut>,
    /// Whether the last commit issued holds no records.
    is_sealed: bool,
    seal_requested: bool,
    /// The next commit, though it be empty, must be synced.
    sync_requested: bool,
}

impl Writer {
    /// Goes on where recovery ended. `incarnation` is a random number drawn for this start.
    ///
    /// Before the first commit is written the driver syncs every file once: a process that was killed may have left
    /// commits in the page cache only.
    ///
    /// # Panics
    /// If the geometry is unsound, or the incarnation is that of the last commit, which is 0 in a fresh journal.
    pub fn resume(recovered: Recovered, incarnation: u64, geometry: Geometry) -> Writer {
        geometry.assert_sound();
        let Recovered { journal, position, files, slots, last, .. } = recovered;
        assert_ne!(incarnation, position.incarnation, "every start draws an incarnation of its own");
        let ring = Ring::new(geometry.file_bytes, slots, files, position.position);
        let mut writer = Writer {
            journal,
            incarnation,
            geometry,
            behind_full: None,
            opened_short: false,
            ring,
            opening: last.map_or(Opening::Open, Opening::Rewrite),
            end: position.lsn,
            full: VecDeque::new(),
            open: CommitBuffer::default(),
            issued: position,
            durable: position,
            in_flight: None,
            written: VecDeque::new(),
            spare: None,
            is_sealed: false,
            seal_requested: false,
            sync_requested: false,
        };
        if let Opening::Rewrite(last) = &writer.opening {
            writer.durable = last.before;
        }
        writer.measure();
        writer
    }

    /// Appends a record whose payload is `payload`'s pieces joined. `previous` is the last record of the same
    /// partition. Returns the record's LSN, which is final.
    ///
    /// Appending never fails: ask [`Writer::has_room`] first. Without room the record waits in memory.
    ///
    /// # Panics
    /// If the payload is longer than [`Writer::max_record_bytes`].
    pub fn append(
        &mut self,
        kind: RecordKind,
        partition: TopicPartition,
        previous: Option<Lsn>,
        payload: &[&[u8]],
    ) -> Lsn {
        let payload_bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        assert!(payload_bytes as u64 <= self.max_record_bytes(), "a record of {payload_bytes} bytes fits no file");
        assert!(previous.is_none_or(|previous| previous < self.end), "a record follows the one that it names");
        let size = record_size(payload_bytes as u64);
        if !self.open.is_empty() && !self.fits_open_commit(size) {
            let full = std::mem::take(&mut self.open);
            self.full.push_back(full);
            self.measure();
        }
        if self.open.is_empty()
            && let Some(spare) = self.spare.take()
        {
            self.open = CommitBuffer::reusing(spare);
        }
        let lsn = self.end;
        self.open.push(kind, partition, lsn, previous, payload, size);
        self.end = Lsn(lsn.0 + size);
        lsn
    }

    /// The LSN that the next record will get.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Whether the record that ends at `end` lies in the commit that the newest record is in: both become durable at once.
    pub fn is_in_open_commit(&self, end: Lsn) -> bool {
        end.0 > self.end.0 - self.open.length()
    }

    /// The end of the last durable commit: what the node may speak of.
    pub fn durable(&self) -> Lsn {
        self.durable.lsn
    }

    /// Where a replay would start that needs nothing below [`Writer::durable`]: what a checkpoint names.
    pub fn durable_position(&self) -> Position {
        self.durable
    }

    /// Whether this incarnation's first commit is durable. Until then nothing may leave the node: what recovery cut
    /// could still come back.
    pub fn is_settled(&self) -> bool {
        self.opening == Opening::Settled
    }

    /// Whether a commit has been taken and is neither written nor durable.
    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The next commit to write. None while one is in flight, when there is nothing to write, and when the ring has no
    /// room for it.
    pub fn take_commit(&mut self) -> Option<Commit> {
        if self.in_flight.is_some() {
            return None;
        }
        match &self.opening {
            Opening::Rewrite(_) => return Some(self.rewrite()),
            Opening::Open => {
                let commit = self.issue(CommitBuffer::default())?;
                self.opening = Opening::Opened;
                return Some(commit);
            }
            Opening::Opened | Opening::Settled => {}
        }
        let next = self.full.front().unwrap_or(&self.open);
        if next.is_empty() && !self.seal_requested && !self.sync_requested {
            return None;
        }
        if !self.has_place(next.length()) {
            return None;
        }
        let buffer = self.full.pop_front().unwrap_or_else(|| std::mem::take(&mut self.open));
        self.issue(buffer)
    }

    /// Commit `number` and all before it are durable. Returns the durable LSN.
    ///
    /// # Panics
    /// If no such commit is in flight or written.
    pub fn committed(&mut self, number: u64) -> Lsn {
        if self.in_flight.as_ref().is_some_and(|commit| commit.after.commit_number == number + 1) {
            self.written(number);
        }
        while self.written.front().is_some_and(|after| after.commit_number <= number + 1) {
            self.durable = self.written.pop_front().expect("it was just looked at");
        }
        assert_eq!(self.durable.commit_number, number + 1, "commit {number} had been handed out");
        if self.opening == Opening::Opened && self.durable.incarnation == self.incarnation {
            self.opened_short = self.cannot_open();
            self.opening = Opening::Settled;
        }
        self.durable.lsn
    }

    /// Commit `number` is with the operating system but not known to be durable: the next one may follow.
    ///
    /// # Panics
    /// If no such commit is in flight.
    pub fn written(&mut self, number: u64) {
        let InFlight { data, after } = self.in_flight.take().expect("a commit is in flight");
        assert_eq!(after.commit_number, number + 1, "the commit in flight is the one that was written");
        self.written.push_back(after);
        // The driver may still hold the bytes; then the next commit allocates. What one long record needed is given back.
        let spare = data.try_into_mut().ok().filter(|bytes| bytes.capacity() <= SPARE_BYTES_MAX);
        self.spare = spare.or(self.spare.take());
    }

    /// The journal is idle: issue an empty commit that carries the durable LSN, so that damage to the last records is
    /// not mistaken for a torn write. Does nothing if the last commit was such a one or if records are pending.
    pub fn seal(&mut self) {
        self.spare = None;
        self.seal_requested = !self.is_sealed && self.open.is_empty() && self.full.is_empty();
        self.sync_requested |= self.seal_requested;
    }

    /// The next commit must be synced, though it be empty: for who acknowledges without syncs and now needs to know
    /// that all before it is durable.
    pub fn sync_next(&mut self) {
        self.sync_requested = true;
    }

    /// Whether the newest commit is an empty one, which proves that the one before it was durable.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Nothing below `below` is needed any more, since a checkpoint holds it: files wholly below may be reused. With two
    /// checkpoints kept that is the older one's [`Position::lsn`].
    ///
    /// # Panics
    /// If `below` is not durable.
    pub fn recycle(&mut self, below: Lsn) {
        assert!(below <= self.durable.lsn, "only what is durable can be in a checkpoint");
        self.ring.recycle(below);
        self.measure();
    }

    /// The driver has made one more file: zero-filled, synced, `file_bytes` long, numbered next after the others.
    pub fn add_slot(&mut self) {
        self.ring.add();
        self.measure();
    }

    /// Whether the driver should make one more file. More than `max_files` are asked for only if the incarnation
    /// cannot open otherwise.
    pub fn wants_slot(&self) -> bool {
        self.cannot_open() || (self.ring.slots() < self.geometry.max_files && self.ring.spare() < SPARE_FILES)
    }

    /// The longest payload that one record can have, in bytes.
    pub fn max_record_bytes(&self) -> u64 {
        self.geometry.max_record_bytes()
    }

    /// How much of the ring could still be written, pending commits not counted, in bytes.
    pub fn free_bytes(&self) -> u64 {
        self.ring.tail().bytes()
    }

    /// How much of the ring holds what a restart needs, in bytes, with what stays unused at the end of files.
    pub fn used_bytes(&self) -> u64 {
        u64::from(self.ring.slots()) * self.geometry.file_bytes - self.free_bytes()
    }

    /// How many files there are.
    pub fn slots(&self) -> u32 {
        self.ring.slots()
    }

    /// How many bytes of records wait for their commit.
    pub fn pending_bytes(&self) -> u64 {
        self.end.0 - self.issued.lsn.0
    }

    /// Whether the incarnation has no room to open in, or none for what a start appends: that has no say in how full the ring
    /// is.
    fn cannot_open(&self) -> bool {
        let is_opening = self.opening != Opening::Settled || self.opened_short;
        is_opening && self.lacks_room()
    }

    /// Whether more is pending than the ring has room for.
    fn lacks_room(&self) -> bool {
        let fits = |mut tail: Tail| self.open.is_empty() || tail.take(commit_size(self.open.length()));
        !self.behind_full.is_some_and(fits)
    }

    /// Whether more was appended than the ring has room for. It would wait for a checkpoint, which waits for it. A start does
    /// not: it waits for one more file.
    pub fn is_overrun(&self) -> bool {
        self.lacks_room() && !self.cannot_open()
    }

    /// Whether a record with a payload of `bytes` could be committed at once behind all that is pending, and, for an
    /// ordinary one, without touching the reserve.
    pub fn has_room(&self, bytes: u64, class: Class) -> bool {
        bytes <= self.max_record_bytes() && self.has_room_for(std::iter::once(bytes), class)
    }

    /// Whether records with payloads of these lengths, in bytes, could be committed at once behind all that is pending,
    /// and, for ordinary ones, without touching the reserve. Those that fit no file count for nothing: they cannot be
    /// appended.
    pub fn has_room_for(&self, payloads: impl Iterator<Item = u64>, class: Class) -> bool {
        let Some(mut tail) = self.behind_full else { return false };
        let mut open = self.open.length();
        for bytes in payloads.filter(|&bytes| bytes <= self.max_record_bytes()) {
            let size = record_size(bytes);
            if open > 0 && !self.fits_one_commit(Some(tail), open, size) {
                if !tail.take(commit_size(open)) {
                    return false;
                }
                open = 0;
            }
            open += size;
        }
        let reserve = match class {
            Class::Ordinary => self.geometry.reserve_bytes,
            Class::Critical => 0,
        };
        tail.take(commit_size(open)) && tail.bytes() >= reserve
    }

    fn fits_open_commit(&self, size: u64) -> bool {
        self.fits_one_commit(self.behind_full, self.open.length(), size)
    }

    /// Whether a record of `size` bytes joins a commit that has `open` by now and goes to the `tail`. A commit ends with the
    /// file that it fits into: one that grew past that would leave the rest of the file behind, and records that turn
    /// out shorter than what [`Writer::has_room_for`] was asked about could so need more files than they were given.
    fn fits_one_commit(&self, tail: Option<Tail>, open: u64, size: u64) -> bool {
        let grown = commit_size(open + size);
        grown <= COMMIT_BYTES_MAX.min(self.geometry.file_bytes)
            && !tail.is_some_and(|tail| tail.parts(commit_size(open), grown))
    }

    fn has_place(&self, length: u64) -> bool {
        self.ring.tail().take(commit_size(length))
    }

    /// Finds out what is left behind the full commits. Called when one of them or the ring changes, which is once a
    /// commit and not once a record.
    fn measure(&mut self) {
        let mut tail = self.ring.tail();
        let opens = self.opening != Opening::Settled && self.opening != Opening::Opened;
        let fits = (!opens || tail.take(BLOCK_BYTES))
            && self.full.iter().all(|commit| tail.take(commit_size(commit.length())));
        self.behind_full = fits.then_some(tail);
        self.opened_short = self.cannot_open();
    }

    fn rewrite(&mut self) -> Commit {
        let Opening::Rewrite(last) = std::mem::replace(&mut self.opening, Opening::Open) else {
            unreachable!("only called with a commit to write again")
        };
        let LastCommit { place, data, .. } = last;
        self.in_flight = Some(InFlight { data: data.clone(), after: self.issued });
        let number = self.issued.commit_number - 1;
        Commit { slot: place.slot, position: place.position, data, number, end: self.issued.lsn, must_sync: true }
    }

    /// Makes `buffer` the commit in flight. None if it has no room.
    fn issue(&mut self, buffer: CommitBuffer) -> Option<Commit> {
        let before = self.issued;
        let opens_incarnation = before.incarnation != self.incarnation;
        let sync_requested = std::mem::take(&mut self.sync_requested);
        let (length, must_sync) = (buffer.length(), opens_incarnation || sync_requested || buffer.must_sync());
        let end = Lsn(before.lsn.0 + length);
        let (place, file_sequence) = self.ring.place(commit_size(length), end)?;
        self.is_sealed = buffer.is_empty();
        self.seal_requested = false;
        let (data, crc) = buffer.seal(CommitHeader {
            journal: self.journal,
            incarnation: self.incarnation,
            opens_incarnation,
            number: before.commit_number,
            file_sequence,
            block: (place.position / BLOCK_BYTES) as u32,
            first: before.lsn,
            durable: self.durable.lsn,
            durable_number: self.durable.commit_number - 1,
            length: 0,
            records: 0,
            previous_crc: before.previous_header_crc,
        });
        self.issued = Position {
            slot: place.slot,
            position: place.position + data.len() as u64,
            file_sequence,
            commit_number: before.commit_number + 1,
            previous_header_crc: crc,
            lsn: end,
            incarnation: self.incarnation,
        };
        assert!(self.durable.lsn <= before.lsn && end <= self.end, "durable, then in flight, then pending");
        self.in_flight = Some(InFlight { data: data.clone(), after: self.issued });
        self.measure();
        let Place { slot, position } = place;
        Some(Commit { slot, position, data, number: before.commit_number, end, must_sync })
    }
}
