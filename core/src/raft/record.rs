//! What a node's journal keeps of the metadata log, and what that comes back as.
//!
//! | kind | record | on recovery |
//! |---|---|---|
//! | 1 | `Append` | cuts the log at its first entry, then appends |
//! | 2 | `Vote` | takes the place of the one before |
//! | 3 | `Install` | the log is empty behind this snapshot, which a leader sent |
//! | 4 | `Compact` | the log begins behind this snapshot, which was made of it |
//!
//! A record is a version (u8, 0), its kind (u8), and its body. Checksums are the journal's business.

use std::fmt;

use bytes::Bytes;

use super::codec::{Malformed, Reader, put_bytes, put_length};
use super::membership::{Change, MemberKey, Membership};

const VERSION: u8 = 0;

/// The name of an entry: no two entries that were ever committed share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// Its position, from 1.
    pub index: u64,
    /// The term of the leader that appended it, from 1.
    pub term: u64,
}

/// One entry of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: LogId,
    /// What it says.
    pub content: Content,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: a leader's first entry, by which those of the leaders before commit.
    Blank,
    /// What the owner proposed, at least one byte.
    Payload(Bytes),
    /// Who belongs to the quorum changes.
    Membership(Change),
}

impl Entry {
    /// The fewest bytes that an entry takes.
    pub(super) const MIN_BYTES: usize = 13;

    /// Writes it without its index, which follows from where it stands.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.id.term.to_be_bytes());
        match &self.content {
            Content::Blank => {
                out.push(0);
                put_length(out, 0);
            }
            Content::Payload(payload) => {
                out.push(1);
                put_bytes(out, payload);
            }
            Content::Membership(change) => {
                out.push(2);
                let mut bytes = Vec::new();
                change.encode(&mut bytes);
                put_bytes(out, &bytes);
            }
        }
    }

    fn read(reader: &mut Reader, index: u64) -> Result<Entry, Malformed> {
        let term = reader.term()?;
        let (kind, body) = (reader.u8()?, reader.bytes()?);
        let content = match kind {
            0 if body.is_empty() => Content::Blank,
            0 => return Err(Malformed::TooLong),
            1 if body.is_empty() => return Err(Malformed::EmptyPayload),
            1 => Content::Payload(body),
            2 => {
                let mut body = Reader::new(body);
                let change = Change::read(&mut body)?;
                body.finish()?;
                Content::Membership(change)
            }
            kind => return Err(Malformed::UnknownKind(kind)),
        };
        Ok(Entry { id: LogId { index, term }, content })
    }

    /// Reads entries that follow `after`, none of them newer than `term`.
    pub(super) fn read_run(reader: &mut Reader, after: LogId, term: u64) -> Result<Vec<Entry>, Malformed> {
        let mut last = after;
        let entries = reader.list(Entry::MIN_BYTES, |reader| {
            let entry = Entry::read(reader, last.index + 1)?;
            if entry.id.term < last.term || entry.id.term > term {
                return Err(Malformed::TermsOutOfOrder);
            }
            last = entry.id;
            Ok(entry)
        })?;
        if last.index > super::MAX_INDEX { Err(Malformed::IndexOutOfRange(last.index)) } else { Ok(entries) }
    }

    pub(super) fn put_run(out: &mut Vec<u8>, entries: &[Entry]) {
        put_length(out, entries.len());
        entries.iter().for_each(|entry| entry.encode(out));
    }
}

/// What a node may never forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term that it has seen, 0 if none yet.
    pub term: u64,
    /// Whom it voted for in this term.
    pub voted_for: Option<MemberKey>,
    /// An end up to which it knew the log to be committed when this was written; it may have known more since.
    pub committed: u64,
}

/// What a snapshot stands for: the log up to its last entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The last entry that it covers; index 0 if there is no snapshot.
    pub last: LogId,
    /// The membership as of there.
    pub membership: Membership,
}

impl SnapshotHead {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.last.index.to_be_bytes());
        out.extend(self.last.term.to_be_bytes());
        self.membership.encode(out);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<SnapshotHead, Malformed> {
        let last = LogId { index: reader.index()?, term: reader.term()? };
        let membership = Membership::read(reader)?;
        if last.index == 0 || membership.since > last.index {
            return Err(Malformed::IndexOutOfRange(last.index));
        }
        Ok(SnapshotHead { last, membership })
    }
}

/// One record for the journal. They are to become durable in the order in which they are handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Entries, at least one, that follow each other. What stands in the log from the first of them on is cut before.
    Append(Vec<Entry>),
    /// The vote.
    Vote(Vote),
    /// A snapshot from the leader takes the place of the whole log. Its image must be durable before this record is.
    Install(SnapshotHead),
    /// The owner's own snapshot takes the place of the entries that it covers; later ones stay.
    Compact(SnapshotHead),
}

impl Record {
    /// Appends the record's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Record::Append(entries) => {
                out.push(1);
                out.extend(entries.first().map_or(0, |entry| entry.id.index).to_be_bytes());
                Entry::put_run(out, entries);
            }
            Record::Vote(vote) => {
                out.push(2);
                out.extend(vote.term.to_be_bytes());
                out.extend(vote.voted_for.map_or(0, |key| key.0).to_be_bytes());
                out.extend(vote.committed.to_be_bytes());
            }
            Record::Install(head) => {
                out.push(3);
                head.encode(out);
            }
            Record::Compact(head) => {
                out.push(4);
                head.encode(out);
            }
        }
    }

    /// Reads the record that takes all of `bytes`; payloads share them.
    ///
    /// # Errors
    /// Where they are not a record that this version knows. Never panics.
    pub fn decode(bytes: Bytes) -> Result<Record, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            version => return Err(Malformed::UnknownVersion(version)),
        }
        let record = match reader.u8()? {
            1 => {
                let first = reader.index()?;
                let before = first.checked_sub(1).ok_or(Malformed::IndexOutOfRange(first))?;
                let run = Entry::read_run(&mut reader, LogId { index: before, term: 0 }, super::MAX_TERM)?;
                if run.is_empty() {
                    return Err(Malformed::Cut);
                }
                Record::Append(run)
            }
            2 => {
                let term = reader.u64()?;
                if term > super::MAX_TERM {
                    return Err(Malformed::TermOutOfRange(term));
                }
                let voted_for = Some(MemberKey(reader.u64()?)).filter(|key| key.0 != 0);
                Record::Vote(Vote { term, voted_for, committed: reader.index()? })
            }
            3 => Record::Install(SnapshotHead::read(&mut reader)?),
            4 => Record::Compact(SnapshotHead::read(&mut reader)?),
            kind => return Err(Malformed::UnknownKind(kind)),
        };
        reader.finish()?;
        Ok(record)
    }
}

/// What a node's disk gave back, from which it takes up its part again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub(super) vote: Vote,
    pub(super) head: SnapshotHead,
    pub(super) entries: Vec<Entry>,
}

/// Why a node's records are not those of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconsistent {
    /// Entries begin behind the end of the log, or before its snapshot's.
    Gap {
        /// Where they begin.
        index: u64,
        /// The end of the log, or of its snapshot.
        end: u64,
    },
    /// An entry is of an earlier term than the one before it.
    TermsOutOfOrder {
        /// Which entry.
        index: u64,
    },
    /// More is known to be committed than there is, or a term was forgotten.
    Forgotten {
        /// What was known.
        known: LogId,
        /// What is there.
        last: LogId,
    },
}

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inconsistent::Gap { index, end } => {
                write!(f, "entries of the metadata log begin at {index}, but it ends at {end}")
            }
            Inconsistent::TermsOutOfOrder { index } => {
                write!(f, "entry {index} of the metadata log is of an earlier term than the one before it")
            }
            Inconsistent::Forgotten { known, last } => write!(
                f,
                "the metadata log was committed up to {} in term {}, but ends at {} in term {}",
                known.index, known.term, last.index, last.term
            ),
        }
    }
}

impl std::error::Error for Inconsistent {}

impl Restored {
    /// No log, of a node that may have promised something already.
    pub fn promised(vote: Vote) -> Restored {
        Restored { vote, ..Restored::default() }
    }

    /// What each voter of a new cluster begins with: the same first position, which stands for an empty image. Whoever
    /// is added later begins with `Restored::default()` and is sent a snapshot.
    pub fn bootstrap(membership: Membership) -> Restored {
        let last = LogId { index: 1, term: 1 };
        Restored {
            vote: Vote { term: 1, voted_for: None, committed: 1 },
            head: SnapshotHead { last, membership },
            entries: Vec::new(),
        }
    }

    /// Takes in the next record, in the order in which they were written.
    ///
    /// # Errors
    /// Where it cannot follow those before: one of them is missing.
    pub fn replay(&mut self, record: Record) -> Result<(), Inconsistent> {
        match record {
            Record::Append(entries) => self.append(entries)?,
            Record::Vote(vote) => self.vote = vote,
            Record::Install(head) => {
                self.entries.clear();
                self.head = head;
            }
            Record::Compact(head) => {
                let last = self.last();
                if head.last.index > last.index {
                    return Err(Inconsistent::Gap { index: head.last.index, end: last.index });
                }
                self.entries.retain(|entry| entry.id.index > head.last.index);
                self.head = head;
            }
        }
        Ok(())
    }

    fn append(&mut self, entries: Vec<Entry>) -> Result<(), Inconsistent> {
        let Some(first) = entries.first() else { return Ok(()) };
        let (index, covered) = (first.id.index, self.head.last.index);
        if index <= covered || index > self.last().index + 1 {
            return Err(Inconsistent::Gap { index, end: if index <= covered { covered } else { self.last().index } });
        }
        self.entries.truncate((index - covered - 1) as usize);
        for entry in entries {
            let last = self.last();
            if entry.id.index != last.index + 1 {
                return Err(Inconsistent::Gap { index: entry.id.index, end: last.index });
            }
            if entry.id.term < last.term {
                return Err(Inconsistent::TermsOutOfOrder { index: entry.id.index });
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    /// The last entry, or that of the snapshot.
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.head.last, |entry| entry.id)
    }

    /// The entries behind the snapshot.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The snapshot behind which the entries begin.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// What was voted.
    pub fn vote(&self) -> Vote {
        self.vote
    }

    /// Brings what the vote knows up to what the log itself proves.
    ///
    /// A snapshot is committed, and the term of an entry was seen. And whoever changes the membership has applied the
    /// change before that: of all changes but the last, the log proves that they are committed. A voter that forgot so
    /// could win an election under a membership that others have left, and split the log in two.
    pub(super) fn checked(mut self) -> Result<Restored, Inconsistent> {
        let last = self.last();
        let is_change = |entry: &&Entry| matches!(entry.content, Content::Membership(_));
        let proved = self.entries.iter().rev().filter(is_change).nth(1).map_or(self.head.last, |entry| entry.id);
        self.vote.committed = self.vote.committed.max(proved.index);
        if self.vote.term < last.term {
            self.vote = Vote { term: last.term, voted_for: None, ..self.vote };
        }
        if self.vote.committed > last.index {
            let known = LogId { index: self.vote.committed, term: self.vote.term };
            return Err(Inconsistent::Forgotten { known, last });
        }
        Ok(self)
    }
}
