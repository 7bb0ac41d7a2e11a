//! What a journal holds: follows the chain of commits from a checkpoint and hands every record to a visitor.
//!
//! # Where the journal ends
//!
//! Commit n+1 starts where commit n ends, or at the start of the file with the next sequence. It is *linked* if its
//! header is sound and names this journal, that file sequence and block, number n+1, the checksum of commit n's
//! header, the LSN where n ends, and either n's incarnation or that it opens a new one. Files are recycled, so what
//! lies behind the last commit are commits of the last lap, valid in themselves; they are not linked.
//!
//! If no commit is linked, or the linked one is bad anywhere, that is the torn tail, and it is cut as a whole, unless
//! some commit's header says that n+1 was durable when it was issued. Then the disk has lost what it had confirmed:
//! damage, which is told and never cut. (Damage to the very last commit is therefore taken for a tear. An idle journal
//! is sealed by an empty commit, so that the last commit is one without records.)
//!
//! # Why a cut commit never comes back
//!
//! Let X, number n+1, be cut. The next incarnation's first commit D is empty, one block long, has number n+1 too and
//! goes where X's header was found: behind n, or to the start of the next file if X had moved on. If no header was
//! found there is none to come back, and D goes behind n if it fits. D is never X's header over again, for its
//! incarnation was drawn for this start.
//!
//! 1. *Once D is durable* X's header is gone, and without it its other blocks are only bytes. Without syncs there may be
//!    further commits of X's incarnation behind it. Those are linked only to a commit of their own incarnation, which
//!    ended with X, or, if one of them opens an incarnation, by the checksum of a header that D replaced.
//! 2. *Until D is durable* nothing has left the node, so a recovery after one more crash decides afresh. It finds D, or
//!    what this one found. D overwrites nothing but the block of X's header, so the blocks that were missing stay so;
//!    should that block alone have been torn, and D's write have mended it, then X is whole, was never answered to
//!    anybody, and may as well be kept.
//! 3. *X proves nothing.* A header says "commit k was durable" only of a k that was; X's says it of n at most, as do
//!    those behind it, because n+1 was never durable.
//!
//! A payload can imitate a commit at a block boundary. It would have to know the journal's uuid and the sequence and
//! block at which it would come to lie; a copy of a real commit lies elsewhere than it says.

use super::buffer::aligned_copy;
use super::findings::{Cut, Damage, FileInUse, LastCommit, Record, Recovered, RecoveryError, Start, Visitor};
use super::format::{BLOCK_BYTES, CommitHeader, RecordHeader, RecordKind, Records, check_commit, journal_of};
use super::malformed::Malformed;
use super::position::Position;
use super::slots::{Place, Reader, Slots};
use crate::ids::{Lsn, Uuid};

/// Replays the journal in `slots` from `start` on, telling `visitor` every record.
///
/// # Errors
/// [`RecoveryError`]: the node must not start on what is there. A torn tail is no error.
pub fn recover<S: Slots + ?Sized>(
    slots: &S,
    start: &Start,
    visitor: &mut dyn Visitor,
) -> Result<Recovered, RecoveryError> {
    let Position { slot, position, .. } = start.replay;
    if slot >= slots.slots() || position > slots.len(slot) || !position.is_multiple_of(BLOCK_BYTES) {
        return Err(RecoveryError::NoSuchPlace { place: start.replay.place() });
    }
    let mut replay = Replay {
        heads: read_heads(slots, start.journal)?,
        reader: Reader::new(slots),
        journal: start.journal,
        at: start.replay,
        files: Vec::new(),
        proven: None,
        later: 0,
    };
    replay.files = replay.older_files(start.keep);
    replay.run(visitor)
}

/// The commit headers at the start of each file, where there is a sound one.
fn read_heads<S: Slots + ?Sized>(slots: &S, journal: Uuid) -> Result<Vec<Option<(CommitHeader, u32)>>, RecoveryError> {
    let mut heads = Vec::new();
    let mut block = [0; BLOCK_BYTES as usize];
    for slot in 0..slots.slots() {
        let place = Place { slot, position: 0 };
        if slots.len(slot) < BLOCK_BYTES {
            heads.push(None);
            continue;
        }
        slots.read_at(slot, 0, &mut block).map_err(|error| RecoveryError::Unreadable { place, error })?;
        let head = CommitHeader::decode(&block);
        // The first bytes of a file are always a header: no payload can pretend anything here.
        if let Ok((header, _)) = head
            && header.journal != journal
        {
            return Err(RecoveryError::Foreign { place, journal: header.journal });
        }
        if let Err(what @ Malformed::CommitVersion(_)) = head {
            return Err(RecoveryError::Newer { place, what });
        }
        heads.push(head.ok().filter(|(header, _)| header.block == 0));
    }
    Ok(heads)
}

struct Replay<'a, S: ?Sized> {
    reader: Reader<'a, S>,
    journal: Uuid,
    heads: Vec<Option<(CommitHeader, u32)>>,
    at: Position,
    files: Vec<FileInUse>,
    /// The highest commit number that a commit found so far says was durable, and where that one lies.
    proven: Option<(u64, Place)>,
    /// Commits of the last incarnation behind a place where the chain ends.
    later: u64,
}

impl<S: Slots + ?Sized> Replay<'_, S> {
    fn run(mut self, visitor: &mut dyn Visitor) -> Result<Recovered, RecoveryError> {
        let mut out = Recovered {
            journal: self.journal,
            position: self.at,
            files: Vec::new(),
            slots: self.reader.slots().slots(),
            last: None,
            cut: None,
            commits: 0,
            records: 0,
            damages: 0,
        };
        let mut last = None;
        let mut commit = Vec::new();
        loop {
            let number = self.at.commit_number;
            let Some((place, header, crc)) = self.linked()? else {
                if let Some(proof) = self.proof(self.at.place(), number)? {
                    let place = self.missing_place(proof);
                    let what = self.what_is_at(place, &mut commit)?;
                    return Err(RecoveryError::CommitLost { place, number, what, proof });
                }
                if self.later > 0 {
                    let (place, why) = (self.at.place(), self.what_is_at(self.at.place(), &mut commit)?);
                    out.cut = Some(Cut { place, number, why, records: 0, later: self.later });
                }
                break;
            };
            let is_long_enough = self.reader.read(place, header.size(), &mut commit)?;
            let checked = if is_long_enough { check_commit(&header, &commit) } else { Err(Malformed::FileTooShort) };
            if let Err(why) = checked {
                match self.proof(place, number)? {
                    Some(proof) if !is_long_enough => {
                        return Err(RecoveryError::CommitLost { place, number, what: why, proof });
                    }
                    Some(_) => {}
                    None => {
                        out.cut = Some(Cut { place, number, why, records: header.records, later: self.later });
                        self.bury(place);
                        break;
                    }
                }
            }
            deliver(place, &header, &commit, checked.is_ok(), visitor, &mut out)?;
            last = Some((place, header.size(), self.at));
            out.commits += 1;
            self.advance(place, &header, crc);
        }
        out.position = self.at;
        if let Some((place, size, before)) = last {
            let mut data = Vec::new();
            self.reader.read(place, size, &mut data)?;
            out.last = Some(LastCommit { place, data: aligned_copy(&data), before });
        }
        out.files = self.files;
        Ok(out)
    }

    /// The files before the start that reach `keep`, and the start's own.
    fn older_files(&self, keep: Lsn) -> Vec<FileInUse> {
        let mut files = vec![FileInUse { slot: self.at.slot, file_sequence: self.at.file_sequence, end: self.at.lsn }];
        let mut next = self.heads[self.at.slot as usize];
        // A commit that was cut may have left a head with the same sequence as the file that was used in its stead;
        // the number of the latter is higher.
        while let Some((later, _)) = next.filter(|(later, _)| later.file_sequence == files[0].file_sequence) {
            if later.first < keep {
                break;
            }
            let before = (0..self.heads.len())
                .filter_map(|slot| Some((slot, self.heads[slot]?)))
                .filter(|(_, (head, _))| {
                    head.file_sequence.checked_add(1) == Some(later.file_sequence) && head.number < later.number
                })
                .max_by_key(|(_, (head, _))| head.number);
            let Some((slot, head)) = before else { break };
            let file = FileInUse { slot: slot as u32, file_sequence: head.0.file_sequence, end: later.first };
            files.insert(0, file);
            next = Some(head);
        }
        files
    }

    /// The commit that continues the chain, with the checksum of its header.
    fn linked(&mut self) -> Result<Option<(Place, CommitHeader, u32)>, RecoveryError> {
        let here = self.at.place();
        let mut block = Vec::new();
        if self.reader.read(here, BLOCK_BYTES, &mut block)?
            && let Some((header, crc)) = self.sound(&block, here)?
            && self.is_linked(&header, here, self.at.file_sequence)
        {
            return Ok(Some((here, header, crc)));
        }
        let Some(sequence) = self.at.file_sequence.checked_add(1) else { return Ok(None) };
        for (slot, head) in self.heads.iter().enumerate() {
            let place = Place { slot: slot as u32, position: 0 };
            if let Some((header, crc)) = head
                && self.is_linked(header, place, sequence)
            {
                return Ok(Some((place, *header, *crc)));
            }
        }
        Ok(None)
    }

    /// The header of a commit of this journal in `block`, if a sound one is there.
    fn sound(&self, block: &[u8], place: Place) -> Result<Option<(CommitHeader, u32)>, RecoveryError> {
        match CommitHeader::decode(block) {
            Ok((header, crc)) => Ok((header.journal == self.journal).then_some((header, crc))),
            Err(what @ Malformed::CommitVersion(_)) if journal_of(block) == Some(self.journal) => {
                Err(RecoveryError::Newer { place, what })
            }
            Err(_) => Ok(None),
        }
    }

    fn is_linked(&self, header: &CommitHeader, place: Place, file_sequence: u64) -> bool {
        header.file_sequence == file_sequence
            && u64::from(header.block) * BLOCK_BYTES == place.position
            && header.number == self.at.commit_number
            && header.previous_crc == self.at.previous_header_crc
            && header.first == self.at.lsn
            && (header.opens_incarnation || header.incarnation == self.at.incarnation)
    }

    /// A commit whose header says that commit `number`, which is bad or missing at `place`, was durable.
    ///
    /// Such a commit lies behind `place` in the same file, or in a later file. Every later file has a sound head, which
    /// alone is looked at, or it is the one whose head was lost, which is searched.
    fn proof(&mut self, place: Place, number: u64) -> Result<Option<Place>, RecoveryError> {
        if let Some((proven, by)) = self.proven
            && proven >= number
        {
            return Ok(Some(by));
        }
        self.later = 0;
        if self.search(place, number)?.is_none() {
            for slot in 0..self.heads.len() {
                let start = Place { slot: slot as u32, position: 0 };
                match self.heads[slot] {
                    Some((header, _)) => self.consider(&header, start, number),
                    None => {
                        self.search(start, number)?;
                    }
                }
                if self.proven.is_some_and(|(proven, _)| proven >= number) {
                    break;
                }
            }
        }
        Ok(self.proven.filter(|(proven, _)| *proven >= number).map(|(_, by)| by))
    }

    /// Looks for a proof at every block of one file from `from` on: at block boundaries only, where commits start.
    fn search(&mut self, from: Place, number: u64) -> Result<Option<Place>, RecoveryError> {
        let mut block = Vec::new();
        let mut place = from;
        while self.reader.read(place, BLOCK_BYTES, &mut block)? {
            if let Some((header, _)) = self.sound(&block, place)? {
                self.consider(&header, place, number);
                if let Some((proven, by)) = self.proven
                    && proven >= number
                {
                    return Ok(Some(by));
                }
            }
            place.position += BLOCK_BYTES;
        }
        Ok(None)
    }

    fn consider(&mut self, header: &CommitHeader, place: Place, number: u64) {
        // All commits of one use of a file bear its sequence; those with a lower one are left over from before.
        let is_in_use = match self.heads[place.slot as usize] {
            Some((head, _)) => header.file_sequence == head.file_sequence,
            None if place.slot == self.at.slot => header.file_sequence == self.at.file_sequence,
            None => header.file_sequence > self.at.file_sequence,
        };
        let is_later = is_in_use
            && header.number > number
            && header.durable_number < header.number
            && u64::from(header.block) * BLOCK_BYTES == place.position;
        if !is_later {
            return;
        }
        if header.durable_number >= number {
            self.proven = Some((header.durable_number, place));
        } else if header.incarnation == self.at.incarnation {
            self.later += 1;
        }
    }

    /// Where the commit must have been that `proof` says was durable: at the start of the file that `proof` is in if
    /// that start is damaged, else at the end of the chain.
    fn missing_place(&self, proof: Place) -> Place {
        let is_head_lost = proof.slot != self.at.slot && self.heads[proof.slot as usize].is_none();
        if is_head_lost { Place { slot: proof.slot, position: 0 } } else { self.at.place() }
    }

    fn what_is_at(&mut self, place: Place, block: &mut Vec<u8>) -> Result<Malformed, RecoveryError> {
        if !self.reader.read(place, BLOCK_BYTES, block)? {
            return Ok(Malformed::FileTooShort);
        }
        Ok(CommitHeader::decode(block).err().unwrap_or(Malformed::CommitOutOfChain))
    }

    fn advance(&mut self, place: Place, header: &CommitHeader, crc: u32) {
        self.move_to(place);
        self.at = Position {
            slot: place.slot,
            position: place.position + header.size(),
            file_sequence: header.file_sequence,
            commit_number: header.number.saturating_add(1),
            previous_header_crc: crc,
            lsn: header.end(),
            incarnation: header.incarnation,
        };
        let current = self.files.last_mut().expect("the file moved to is in use");
        current.end = header.end();
    }

    /// Makes the next commit go to `place`, over the header of the one that was cut there.
    fn bury(&mut self, place: Place) {
        self.move_to(place);
        (self.at.slot, self.at.position) = (place.slot, place.position);
    }

    fn move_to(&mut self, place: Place) {
        if place.slot == self.at.slot {
            return;
        }
        // Only with a position older than its file's last use, or with hostile bytes, is a file met twice.
        self.files.retain(|file| file.slot != place.slot);
        self.at.file_sequence = self.at.file_sequence.saturating_add(1);
        let file_sequence = self.at.file_sequence;
        self.files.push(FileInUse { slot: place.slot, file_sequence, end: self.at.lsn });
    }
}

/// Tells `visitor` the records of one commit, which is kept. Without `is_sound` each is checked again on its own.
fn deliver(
    place: Place,
    header: &CommitHeader,
    commit: &[u8],
    is_sound: bool,
    visitor: &mut dyn Visitor,
    out: &mut Recovered,
) -> Result<(), RecoveryError> {
    let at = |offset: u64| Place { slot: place.slot, position: place.position + offset };
    let mut records = Records::new(header, commit);
    loop {
        let start = at(records.at());
        let Some(item) = records.next() else { break };
        let found = item.map_err(|what| RecoveryError::RecordLost { place: start, what })?;
        let kind =
            RecordKind::from_number(found.header.kind).map_err(|what| RecoveryError::Newer { place: start, what })?;
        let RecordHeader { partition, lsn, previous, .. } = found.header;
        let told = match if is_sound { Ok(()) } else { found.check() } {
            Ok(()) => {
                out.records += 1;
                visitor.record(&Record { kind, partition, lsn, previous, payload: found.payload, place: start })
            }
            Err(what) if kind.is_node_wide() || partition.topic == Uuid::ZERO => {
                return Err(RecoveryError::RecordLost { place: start, what });
            }
            Err(what) => {
                out.damages += 1;
                visitor.damaged(&Damage { place: start, what, record: Some((partition, kind, lsn)) })
            }
        };
        told.map_err(|reason| RecoveryError::Refused { place: start, reason })?;
    }
    if !is_sound && !records.is_padding_zero() {
        out.damages += 1;
        visitor
            .damaged(&Damage { place, what: Malformed::CommitPadding, record: None })
            .map_err(|reason| RecoveryError::Refused { place, reason })?;
    }
    Ok(())
}
