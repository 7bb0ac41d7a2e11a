//! Finds the newest complete checkpoint and reads its entries, one at a time.

use crc32fast::Hasher;

use super::super::slots::{Place, Reader, Slots};
use super::{
    Checkpoint, CheckpointError, END, ENTRY_BYTES_MAX, ENTRY_HEADER, EntryHeader, Flaw, HEADER, Header, Survey,
};
use crate::ids::{TopicPartition, Uuid};

/// One entry of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its writer's number for what it says, 1 to 255.
    pub kind: u8,
    /// Which partition it is about, if any.
    pub partition: TopicPartition,
    /// The payload, sound.
    pub payload: &'a [u8],
}

/// What the two checkpoint files in `slots` hold. Reads the newest one to its end to know that it is complete.
///
/// The driver syncs both files before it relies on the answer: a process that was killed may have left a checkpoint in
/// the page cache only.
///
/// # Errors
/// [`CheckpointError`]: the node must not start on these files.
pub fn survey<S: Slots + ?Sized>(slots: &S, journal: Uuid) -> Result<Survey, CheckpointError> {
    let headers = [read_header(slots, journal, 0), read_header(slots, journal, 1)];
    for (slot, header) in headers.iter().enumerate() {
        if let Err(flaw @ (Flaw::Newer(_) | Flaw::Foreign(_))) = header {
            return Err(CheckpointError::NotOurs { slot: slot as u32, flaw: flaw.clone() });
        }
    }
    let mut candidates: Vec<Header> = headers.iter().filter_map(|header| header.as_ref().ok().copied()).collect();
    candidates.sort_by_key(|header| std::cmp::Reverse(header.sequence));
    let mut flaws = headers.map(Result::err);
    for (index, header) in candidates.iter().enumerate() {
        match check(slots, header) {
            Ok((entries, bytes)) => {
                let passed_over = (0..2)
                    .filter_map(|slot| Some((slot as u32, flaws[slot].clone()?)))
                    .find(|(_, flaw)| *flaw != Flaw::NeverWritten);
                let newest = Some(Checkpoint { header: *header, entries, bytes });
                return Ok(Survey { newest, older: candidates.get(index + 1).copied(), passed_over });
            }
            Err(flaw) => flaws[header.slot() as usize] = Some(flaw),
        }
    }
    let [first, second] = flaws.map(|flaw| flaw.expect("a file without a flaw has been returned"));
    match (first, second) {
        // The first checkpoint was interrupted. No file of the journal has been recycled before there were two; had
        // it been, the replay from the journal's start would find commits missing.
        (Flaw::NeverWritten, Flaw::NeverWritten) => Ok(Survey { newest: None, older: None, passed_over: None }),
        (Flaw::NeverWritten, flaw) => Ok(Survey { newest: None, older: None, passed_over: Some((1, flaw)) }),
        (flaw, Flaw::NeverWritten) => Ok(Survey { newest: None, older: None, passed_over: Some((0, flaw)) }),
        (first, second) => Err(CheckpointError::BothDamaged { first, second }),
    }
}

fn read_header<S: Slots + ?Sized>(slots: &S, journal: Uuid, slot: u32) -> Result<Header, Flaw> {
    let mut bytes = [0; HEADER];
    if slot >= slots.slots() || slots.len(slot) < HEADER as u64 {
        return Err(Flaw::NeverWritten);
    }
    slots.read_at(slot, 0, &mut bytes).map_err(|error| Flaw::Unreadable(0, error))?;
    let header = Header::decode(&bytes)?;
    if header.journal != journal {
        return Err(Flaw::Foreign(header.journal));
    }
    if header.slot() != slot {
        return Err(Flaw::Misplaced);
    }
    Ok(header)
}

/// Reads a checkpoint to its end. Returns how many entries it has, and how many bytes before the end marker.
fn check<S: Slots + ?Sized>(slots: &S, header: &Header) -> Result<(u64, u64), Flaw> {
    let mut entries = Entries::new(slots, header);
    while entries.advance()?.is_some() {}
    Ok((entries.found, entries.at))
}

/// The entries of one checkpoint, in order. Holds one entry and a piece of the file in memory.
pub struct Entries<'a, S: ?Sized> {
    reader: Reader<'a, S>,
    header: Header,
    at: u64,
    found: u64,
    sum: Hasher,
    bytes: Vec<u8>,
}

impl<'a, S: Slots + ?Sized> Entries<'a, S> {
    /// The entries of `checkpoint`, as [`survey`] found it in `slots`.
    pub fn of(slots: &'a S, checkpoint: &Checkpoint) -> Entries<'a, S> {
        Entries::new(slots, &checkpoint.header)
    }

    fn new(slots: &'a S, header: &Header) -> Entries<'a, S> {
        let mut sum = Hasher::new();
        sum.update(&header.encode());
        Entries { reader: Reader::new(slots), header: *header, at: HEADER as u64, found: 0, sum, bytes: Vec::new() }
    }

    /// The next entry; None after the last.
    ///
    /// # Errors
    /// [`CheckpointError::Changed`]: the file is not what [`survey`] saw.
    pub fn read(&mut self) -> Result<Option<Entry<'_>>, CheckpointError> {
        let place = Place { slot: self.header.slot(), position: self.at };
        match self.advance() {
            Ok(None) => Ok(None),
            Ok(Some(EntryHeader { kind, partition, payload_bytes, .. })) => {
                Ok(Some(Entry { kind, partition, payload: &self.bytes[..payload_bytes as usize] }))
            }
            Err(flaw) => Err(CheckpointError::Changed { place, flaw }),
        }
    }

    /// Reads the next entry's payload and padding into `bytes`. None at a sound end marker, where it stays.
    fn advance(&mut self) -> Result<Option<EntryHeader>, Flaw> {
        self.fetch(self.at, ENTRY_HEADER as u64)?;
        let encoded: [u8; ENTRY_HEADER] = *self.bytes.first_chunk().expect("that much was read");
        let header = EntryHeader::decode(&encoded)
            .filter(|header| header.sequence == self.header.sequence)
            .ok_or(Flaw::EntryDamaged(self.at))?;
        if header.kind == END {
            let end = EntryHeader::end(header.sequence, self.found, self.at, self.sum.clone().finalize());
            return if header == end { Ok(None) } else { Err(Flaw::Incomplete(self.at)) };
        }
        let payload_bytes = u64::from(header.payload_bytes);
        if payload_bytes > ENTRY_BYTES_MAX {
            return Err(Flaw::EntryDamaged(self.at));
        }
        self.fetch(self.at + ENTRY_HEADER as u64, payload_bytes.next_multiple_of(8))?;
        if crc32fast::hash(&self.bytes[..header.payload_bytes as usize]) != header.crc {
            return Err(Flaw::EntryDamaged(self.at));
        }
        self.sum.update(&encoded);
        self.sum.update(&self.bytes);
        self.at += ENTRY_HEADER as u64 + self.bytes.len() as u64;
        self.found += 1;
        Ok(Some(header))
    }

    fn fetch(&mut self, position: u64, length: u64) -> Result<(), Flaw> {
        let place = Place { slot: self.header.slot(), position };
        match self.reader.read(place, length, &mut self.bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Flaw::EntryDamaged(self.at)),
            Err(unreadable) => Err(Flaw::Unreadable(unreadable.place.position, unreadable.error)),
        }
    }
}
