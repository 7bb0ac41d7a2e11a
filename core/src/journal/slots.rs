//! How recovery and the tools read the journal's files, whatever these are.

use std::fmt;

use super::format::BLOCK_BYTES;

/// The journal's files, numbered from 0.
///
/// Recovery runs before anything else does, so reading waits: it is a plain call and no effect.
pub trait Slots {
    /// How many files there are.
    fn slots(&self) -> u32;
    /// The length of file `slot`, in bytes.
    fn len(&self, slot: u32) -> u64;
    /// Fills `into` from file `slot`, starting `position` bytes in. The range lies within the file's length.
    ///
    /// # Errors
    /// The device cannot read there. Recovery never takes that for a torn write.
    fn read_at(&self, slot: u32, position: u64, into: &mut [u8]) -> Result<(), ReadError>;
}

/// The device could not read; the text is its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError(pub String);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReadError {}

/// A place in one of the journal's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's number.
    pub slot: u32,
    /// Bytes from the file's start.
    pub position: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {} at byte {}", self.slot, self.position)
    }
}

impl Place {
    /// This place with the file as the data folder has it, for people who are to look after it.
    pub fn in_journal(self) -> String {
        format!("journal/{:04}.journal at byte {}", self.slot, self.position)
    }

    /// The same, where the slots are those of checkpoints.
    pub fn in_checkpoint(self) -> String {
        format!("journal/{}.checkpoint at byte {}", self.slot, self.position)
    }
}

/// A part of a file that the device could not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where.
    pub place: Place,
    /// What the device said.
    pub error: ReadError,
}

/// Files in memory, for tests and the fuzzer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemorySlots(pub Vec<Vec<u8>>);

impl MemorySlots {
    /// `slots` zero-filled files of `file_bytes` each.
    pub fn zeroed(slots: u32, file_bytes: u64) -> MemorySlots {
        MemorySlots(vec![vec![0; file_bytes as usize]; slots as usize])
    }

    /// Puts `data` into file `slot`, starting `position` bytes in.
    pub fn write_at(&mut self, slot: u32, position: u64, data: &[u8]) {
        let position = position as usize;
        self.0[slot as usize][position..position + data.len()].copy_from_slice(data);
    }
}

impl Slots for MemorySlots {
    fn slots(&self) -> u32 {
        self.0.len() as u32
    }

    fn len(&self, slot: u32) -> u64 {
        self.0[slot as usize].len() as u64
    }

    fn read_at(&self, slot: u32, position: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let position = position as usize;
        into.copy_from_slice(&self.0[slot as usize][position..position + into.len()]);
        Ok(())
    }
}

/// How much is read at a time, in bytes: enough that a disk streams, little enough to stay in the cache.
const READ_AHEAD_BYTES: u64 = 256 * 1024;

/// Reads forward through the files in large pieces.
pub(super) struct Reader<'a, S: ?Sized> {
    slots: &'a S,
    slot: u32,
    start: u64,
    ahead: Vec<u8>,
}

impl<'a, S: Slots + ?Sized> Reader<'a, S> {
    pub(super) fn new(slots: &'a S) -> Reader<'a, S> {
        Reader { slots, slot: 0, start: 0, ahead: Vec::new() }
    }

    pub(super) fn slots(&self) -> &'a S {
        self.slots
    }

    /// Replaces what is in `into` by the `length` bytes at `place`. Returns whether the file is that long.
    ///
    /// # Errors
    /// [`Unreadable`] with the block that the device could not read.
    pub(super) fn read(&mut self, place: Place, length: u64, into: &mut Vec<u8>) -> Result<bool, Unreadable> {
        into.clear();
        let Place { slot, position } = place;
        let file_bytes = self.slots.len(slot);
        if position.checked_add(length).is_none_or(|end| end > file_bytes) {
            return Ok(false);
        }
        if length > READ_AHEAD_BYTES {
            into.resize(length as usize, 0);
            if self.slots.read_at(slot, position, into).is_err() {
                self.read_by_block(place, into)?;
            }
            return Ok(true);
        }
        let is_ahead =
            self.slot == slot && self.start <= position && position + length <= self.start + self.ahead.len() as u64;
        if !is_ahead {
            self.ahead.resize(READ_AHEAD_BYTES.min(file_bytes - position) as usize, 0);
            (self.slot, self.start) = (slot, position);
            if self.slots.read_at(slot, position, &mut self.ahead).is_err() {
                // What cannot be read may lie beyond what was asked for: nobody needs it yet.
                self.ahead.clear();
                into.resize(length as usize, 0);
                self.read_by_block(place, into)?;
                return Ok(true);
            }
        }
        let from = (position - self.start) as usize;
        into.extend_from_slice(&self.ahead[from..from + length as usize]);
        Ok(true)
    }

    fn read_by_block(&self, place: Place, into: &mut [u8]) -> Result<(), Unreadable> {
        for (index, block) in into.chunks_mut(BLOCK_BYTES as usize).enumerate() {
            let position = place.position + index as u64 * BLOCK_BYTES;
            self.slots
                .read_at(place.slot, position, block)
                .map_err(|error| Unreadable { place: Place { slot: place.slot, position }, error })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One file whose block `bad` cannot be read.
    struct Spoiled {
        file: Vec<u8>,
        bad: u64,
    }

    impl Slots for Spoiled {
        fn slots(&self) -> u32 {
            1
        }
        fn len(&self, _slot: u32) -> u64 {
            self.file.len() as u64
        }
        fn read_at(&self, _slot: u32, position: u64, into: &mut [u8]) -> Result<(), ReadError> {
            let bad = self.bad * BLOCK_BYTES;
            if position < bad + BLOCK_BYTES && position + into.len() as u64 > bad {
                return Err(ReadError("medium error".into()));
            }
            into.copy_from_slice(&self.file[position as usize..position as usize + into.len()]);
            Ok(())
        }
    }

    #[test]
    fn an_unreadable_block_is_named_and_spares_its_neighbours() {
        let file: Vec<u8> = (0..8 * BLOCK_BYTES).map(|byte| byte as u8).collect();
        let slots = Spoiled { file: file.clone(), bad: 3 };
        let mut reader = Reader::new(&slots);
        let mut into = Vec::new();
        let place = Place { slot: 0, position: 0 };
        assert_eq!(reader.read(place, 3 * BLOCK_BYTES, &mut into), Ok(true));
        assert_eq!(into, file[..3 * BLOCK_BYTES as usize]);
        let error = reader.read(place, 4 * BLOCK_BYTES, &mut into).unwrap_err();
        assert_eq!(error.place, Place { slot: 0, position: 3 * BLOCK_BYTES });
    }

    #[test]
    fn reading_past_the_end_says_so() {
        let slots = MemorySlots::zeroed(1, BLOCK_BYTES);
        let mut into = Vec::new();
        let read =
            |position, length, into: &mut Vec<u8>| Reader::new(&slots).read(Place { slot: 0, position }, length, into);
        assert_eq!(read(0, BLOCK_BYTES, &mut into), Ok(true));
        assert_eq!(read(1, BLOCK_BYTES, &mut into), Ok(false));
        assert_eq!(read(u64::MAX, BLOCK_BYTES, &mut into), Ok(false));
    }
}
