//! What recovery is given, whom it tells, and what it returns.

use std::fmt;

use bytes::Bytes;

use super::format::RecordKind;
use super::malformed::Malformed;
use super::position::Position;
use super::slots::{Place, ReadError, Unreadable};
use crate::ids::{Lsn, TopicPartition, Uuid};

/// Where to start, and what must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which journal; commits of another one are refused.
    pub journal: Uuid,
    /// Replay what comes after.
    pub replay: Position,
    /// Keep the files with records from here on, since an older checkpoint needs them. At most `replay.lsn`.
    pub keep: Lsn,
}

impl Start {
    /// A journal without a checkpoint.
    pub fn fresh(journal: Uuid) -> Start {
        Start { journal, replay: Position::START, keep: Lsn(0) }
    }
}

/// One sound record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it says.
    pub kind: RecordKind,
    /// Of which partition; a zero topic for the node's own.
    pub partition: TopicPartition,
    /// Its place in the stream.
    pub lsn: Lsn,
    /// The partition's record before, as its writer gave it.
    pub previous: Option<Lsn>,
    /// The payload. Copy what is to be kept.
    pub payload: &'a [u8],
    /// Where its header starts.
    pub place: Place,
}

/// Something that was durable and is not what was written, of which one partition at most is the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the damaged record starts, or the commit whose padding it is.
    pub place: Place,
    /// What is wrong.
    pub what: Malformed,
    /// The lost record: its partition, kind and LSN. None if only padding at a commit's end is damaged: nothing is lost.
    pub record: Option<(TopicPartition, RecordKind, Lsn)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place.in_journal(), self.what)?;
        match self.record {
            Some((partition, kind, lsn)) => write!(f, " ({kind:?} of partition {partition}, LSN {lsn})"),
            None => f.write_str(" (nothing is lost)"),
        }
    }
}

/// Who is told what the journal holds, in order. An `Err` ends recovery with [`RecoveryError::Refused`].
pub trait Visitor {
    /// A sound record.
    ///
    /// # Errors
    /// Its payload makes no sense to the layer that wrote it.
    fn record(&mut self, record: &Record<'_>) -> Result<(), String>;
    /// A record was durable and is damaged.
    ///
    /// # Errors
    /// The node must not start without it.
    fn damaged(&mut self, damage: &Damage) -> Result<(), String>;
}

/// A file that holds records which a restart may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInUse {
    /// Its number.
    pub slot: u32,
    /// Which use of a file.
    pub file_sequence: u64,
    /// The LSN after its last record.
    pub end: Lsn,
}

/// A torn commit that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where it starts.
    pub place: Place,
    /// Its number.
    pub number: u64,
    /// What is wrong with it.
    pub why: Malformed,
    /// How many records it was to hold, if its header tells.
    pub records: u32,
    /// How many commits behind it went with it: more than none only where commits are not synced one by one.
    pub later: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cut the unconfirmed commit {} of {} records in {}: {}",
            self.number, self.records, self.place, self.why
        )?;
        if self.later > 0 { write!(f, "; {} unconfirmed commits after it", self.later) } else { Ok(()) }
    }
}

/// The last commit, to be written once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCommit {
    /// Where it lies.
    pub place: Place,
    /// All its blocks.
    pub data: Bytes,
    /// The gap before it.
    pub before: Position,
}

/// What was found, and all that [`Writer::resume`](super::Writer::resume) needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which journal.
    pub journal: Uuid,
    /// Where the next commit goes.
    pub position: Position,
    /// The files in use, oldest first; the last one is written next.
    pub files: Vec<FileInUse>,
    /// How many files there are.
    pub slots: u32,
    /// The last commit; None if there was none after the start.
    pub last: Option<LastCommit>,
    /// The torn tail, if there was one to be seen.
    pub cut: Option<Cut>,
    /// How many commits were replayed.
    pub commits: u64,
    /// How many sound records were.
    pub records: u64,
    /// How often the visitor was told of damage.
    pub damages: u64,
}

/// Why the journal cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryError {
    /// The device could not read a part of a file.
    Unreadable {
        /// Where.
        place: Place,
        /// What it said.
        error: ReadError,
    },
    /// A commit that had been durable is missing or its header is damaged.
    CommitLost {
        /// Where it should be.
        place: Place,
        /// Its number.
        number: u64,
        /// What is there instead.
        what: Malformed,
        /// The commit that knows that it was durable.
        proof: Place,
    },
    /// A record that had been durable is damaged such that no single partition can be held to account for it.
    RecordLost {
        /// Where it starts.
        place: Place,
        /// What is wrong.
        what: Malformed,
    },
    /// A newer version of this program wrote the journal.
    Newer {
        /// Where.
        place: Place,
        /// What this version does not know.
        what: Malformed,
    },
    /// A file belongs to another journal.
    Foreign {
        /// Where.
        place: Place,
        /// That journal.
        journal: Uuid,
    },
    /// The visitor declined.
    Refused {
        /// The record.
        place: Place,
        /// The visitor's words.
        reason: String,
    },
    /// The position to start from lies in no file.
    NoSuchPlace {
        /// That position.
        place: Place,
    },
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Unreadable { place, error } => write!(f, "{} cannot be read: {error}", place.in_journal()),
            RecoveryError::CommitLost { place, number, what, proof } => write!(
                f,
                "{} is damaged: commit {number} should be there: {what}; that it was durable says the commit in {}",
                place.in_journal(),
                proof.in_journal()
            ),
            RecoveryError::RecordLost { place, what } => write!(f, "{} is damaged: {what}", place.in_journal()),
            RecoveryError::Newer { place, what } => {
                write!(f, "{} was written by a newer version: {what}", place.in_journal())
            }
            RecoveryError::Foreign { place, journal } => {
                write!(f, "{} belongs to another journal, {journal}", place.in_journal())
            }
            RecoveryError::Refused { place, reason } => write!(f, "{}: {reason}", place.in_journal()),
            RecoveryError::NoSuchPlace { place } => {
                write!(f, "the checkpoint names {}, which does not exist", place.in_journal())
            }
        }
    }
}

impl std::error::Error for RecoveryError {}

impl From<Unreadable> for RecoveryError {
    fn from(Unreadable { place, error }: Unreadable) -> RecoveryError {
        RecoveryError::Unreadable { place, error }
    }
}
