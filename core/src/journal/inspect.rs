//! Shows what one journal file holds, whatever state it is in: for people, not for recovery.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use super::format::{BLOCK_BYTES, CommitHeader, RecordHeader, RecordKind, Records};
use super::malformed::Malformed;
use super::slots::{Place, ReadError, Reader, Slots};

/// One thing that lies in a journal file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A commit's header. Its records follow, as far as they can be made out.
    Commit {
        /// Where it starts.
        place: Place,
        /// What it says.
        header: CommitHeader,
        /// Whether it is left over from an earlier use of the file.
        is_old: bool,
    },
    /// A record.
    Record {
        /// Where it starts.
        place: Place,
        /// What its header says.
        header: RecordHeader,
        /// Its payload, a part of the commit's memory; or what is wrong with it.
        payload: Result<Bytes, Malformed>,
    },
    /// Something that should be a record or the end of a commit and is not.
    Damaged {
        /// Where.
        place: Place,
        /// What is wrong.
        what: Malformed,
    },
    /// Blocks in which no commit starts: never used, or the rest of an old commit.
    NoCommits {
        /// Where they start.
        place: Place,
        /// How long they are.
        bytes: u64,
        /// Whether all of it is zero.
        is_zero: bool,
    },
    /// A block that the device could not read.
    Unreadable {
        /// Where.
        place: Place,
        /// What it said.
        error: ReadError,
    },
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Commit { place, header, is_old } => {
                write!(
                    f,
                    "{:>10} commit {} of file {} incarnation {:016x}: {} records, {} bytes, LSN {} to {}, durable to {}",
                    place.position,
                    header.number,
                    header.file_sequence,
                    header.incarnation,
                    header.records,
                    header.length,
                    header.first,
                    header.end(),
                    header.durable,
                )?;
                if header.opens_incarnation {
                    f.write_str(", first of its incarnation")?;
                }
                if *is_old { f.write_str(", left over from an earlier lap") } else { Ok(()) }
            }
            Seen::Record { place, header, payload } => {
                write!(f, "{:>10}   LSN {} ", place.position, header.lsn)?;
                match RecordKind::from_number(header.kind) {
                    Ok(kind) => write!(f, "{kind:?}")?,
                    Err(_) => write!(f, "kind {}", header.kind)?,
                }
                write!(f, " of {}, {} bytes", header.partition, header.payload_bytes)?;
                if let Some(previous) = header.previous {
                    write!(f, ", after LSN {previous}")?;
                }
                if let Err(what) = payload { write!(f, ", DAMAGED: {what}") } else { Ok(()) }
            }
            Seen::Damaged { place, what } => write!(f, "{:>10}   DAMAGED: {what}", place.position),
            Seen::NoCommits { place, bytes, is_zero } => {
                let what = if *is_zero { "zeros" } else { "left over bytes" };
                write!(f, "{:>10} {bytes} {what}", place.position)
            }
            Seen::Unreadable { place, error } => write!(f, "{:>10} UNREADABLE: {error}", place.position),
        }
    }
}

/// Everything in file `slot` of `slots`, in the order in which it lies there.
pub fn inspect<S: Slots + ?Sized>(slots: &S, slot: u32) -> Inspect<'_, S> {
    Inspect { reader: Reader::new(slots), at: Place { slot, position: 0 }, newest: 0, ready: VecDeque::new() }
}

/// The iterator that [`inspect`] makes. Holds one commit in memory.
pub struct Inspect<'a, S: ?Sized> {
    reader: Reader<'a, S>,
    at: Place,
    /// The highest file sequence so far: a commit with a lower one is an old lap's.
    newest: u64,
    ready: VecDeque<Seen>,
}

impl<S: Slots + ?Sized> Iterator for Inspect<'_, S> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        let mut gap: Option<(Place, bool)> = None;
        let mut block = Vec::new();
        while self.ready.is_empty() {
            let place = self.at;
            match self.reader.read(place, BLOCK_BYTES, &mut block) {
                Ok(false) => break,
                Ok(true) => {
                    self.at.position += BLOCK_BYTES;
                    match CommitHeader::decode(&block) {
                        Ok((header, _)) if u64::from(header.block) * BLOCK_BYTES == place.position => {
                            self.commit(place, header);
                        }
                        Ok(_) | Err(Malformed::NoCommit) => {
                            let is_zero = block.iter().all(|&byte| byte == 0);
                            let (_, all_zero) = gap.get_or_insert((place, true));
                            *all_zero &= is_zero;
                        }
                        Err(what) => self.ready.push_back(Seen::Damaged { place, what }),
                    }
                }
                Err(unreadable) => {
                    self.at.position += BLOCK_BYTES;
                    self.ready.push_back(Seen::Unreadable { place, error: unreadable.error });
                }
            }
        }
        if let Some((place, is_zero)) = gap {
            let end = self.ready.front().map_or(self.at, Seen::place);
            return Some(Seen::NoCommits { place, bytes: end.position - place.position, is_zero });
        }
        self.ready.pop_front()
    }
}

impl Seen {
    /// Where it starts.
    pub fn place(&self) -> Place {
        match self {
            Seen::Commit { place, .. }
            | Seen::Record { place, .. }
            | Seen::Damaged { place, .. }
            | Seen::NoCommits { place, .. }
            | Seen::Unreadable { place, .. } => *place,
        }
    }
}

impl<S: Slots + ?Sized> Inspect<'_, S> {
    /// Takes a commit apart, and goes on behind it.
    fn commit(&mut self, place: Place, header: CommitHeader) {
        let is_old = header.file_sequence < self.newest;
        self.newest = self.newest.max(header.file_sequence);
        self.ready.push_back(Seen::Commit { place, header, is_old });
        let mut commit = Vec::new();
        match self.reader.read(place, header.size(), &mut commit) {
            Ok(true) => {}
            Ok(false) => {
                self.ready.push_back(Seen::Damaged { place, what: Malformed::FileTooShort });
                return;
            }
            Err(unreadable) => {
                self.ready.push_back(Seen::Unreadable { place: unreadable.place, error: unreadable.error });
                return;
            }
        }
        let commit = Bytes::from(commit);
        let mut records = Records::new(&header, &commit);
        let mut is_whole = true;
        loop {
            let start = Place { slot: place.slot, position: place.position + records.at() };
            let Some(item) = records.next() else { break };
            self.ready.push_back(match item {
                Ok(found) => {
                    let payload = found.check().map(|()| commit.slice_ref(found.payload));
                    Seen::Record { place: start, header: found.header, payload }
                }
                Err(what) => {
                    is_whole = false;
                    Seen::Damaged { place: start, what }
                }
            });
        }
        if is_whole && !records.is_padding_zero() {
            self.ready.push_back(Seen::Damaged { place, what: Malformed::CommitPadding });
        }
        // Behind a commit whose tail was overwritten by a later one there may be commits that are worth a look.
        if is_whole {
            self.at.position = place.position + header.size();
        }
    }
}
