//! What members say to each other.
//!
//! A message is a version (u8, 0), its kind (u8), the cluster, sender and addressee (node id and data folder each), the
//! position since which the sender's membership holds, the sender's term, and a body. Framing and checksums are the
//! connection's business. Decoding refuses what no member says, whatever its state; what contradicts the *receiver's*
//! state is refused by [`Quorum::step`](super::Quorum::step).

use bytes::Bytes;

use super::codec::{Malformed, Reader, put_bytes, put_optional};
use super::membership::Member;
use super::record::{Entry, LogId, SnapshotHead};
use crate::ids::Uuid;

const VERSION: u8 = 0;

/// One message from one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub(super) cluster: Uuid,
    pub(super) from: Member,
    pub(super) to: Member,
    /// Since which position the sender's membership holds.
    pub(super) since: u64,
    /// The sender's term; in requests for a pre-vote and grants of one, the term that is stood for.
    pub(super) term: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The leader's entries behind `previous`, and how far it knows the log to be committed.
    Append { previous: LogId, committed: u64, entries: Vec<Entry> },
    /// The log agrees with the leader's up to `index`, and the sender's disk has it.
    Appended { index: u64, committed: u64 },
    /// The log has no entry `index` of the leader's term; it may agree up to `hint`.
    Diverged { index: u64, committed: u64, hint: LogId },
    /// The sender stands for election: with a pre-vote it asks whether it would win. `forced` overrides the leader that
    /// the addressee may have: it is that leader who wants it.
    Stand { pre: bool, forced: bool, last: LogId, committed: LogId },
    /// The answer.
    Voted { pre: bool, granted: bool, committed: LogId },
    /// The leader lives.
    Heartbeat { committed: u64, read: Option<u64> },
    /// So does the sender.
    Alive { committed: u64, read: Option<u64> },
    /// Stand for election now.
    TakeOver,
    /// A piece of the image of a snapshot, from `offset` on, of `total` bytes.
    Piece { head: SnapshotHead, offset: u64, total: u64, bytes: Bytes },
    /// How much of the image of the snapshot at `index` the sender has.
    Received { index: u64, length: u64 },
}

impl Message {
    /// Who sent it.
    pub fn from(&self) -> Member {
        self.from
    }

    /// Whom it is for.
    pub fn to(&self) -> Member {
        self.to
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> Uuid {
        self.cluster
    }

    /// What kind of message it is, for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self.body {
            Body::Append { .. } => "append",
            Body::Appended { .. } => "appended",
            Body::Diverged { .. } => "diverged",
            Body::Stand { .. } => "stand",
            Body::Voted { .. } => "voted",
            Body::Heartbeat { .. } => "heartbeat",
            Body::Alive { .. } => "alive",
            Body::TakeOver => "take over",
            Body::Piece { .. } => "snapshot piece",
            Body::Received { .. } => "snapshot received",
        }
    }

    /// The length of the image that it brings a piece of, in bytes, as its sender says.
    pub fn image_bytes(&self) -> Option<u64> {
        match self.body {
            Body::Piece { total, .. } => Some(total),
            _ => None,
        }
    }

    /// Whether it brings entries or pieces of a snapshot, and so may wait behind those that keep a leader in office.
    pub fn is_bulk(&self) -> bool {
        match &self.body {
            Body::Append { entries, .. } => !entries.is_empty(),
            Body::Piece { .. } => true,
            _ => false,
        }
    }

    /// Appends the message's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.body {
            Body::Append { .. } => 1,
            Body::Appended { .. } => 2,
            Body::Diverged { .. } => 3,
            Body::Stand { .. } => 4,
            Body::Voted { .. } => 5,
            Body::Heartbeat { .. } => 6,
            Body::Alive { .. } => 7,
            Body::TakeOver => 8,
            Body::Piece { .. } => 9,
            Body::Received { .. } => 10,
        };
        out.extend([VERSION, kind]);
        out.extend(self.cluster.0);
        self.from.encode(out);
        self.to.encode(out);
        put(out, [self.since, self.term]);
        match &self.body {
            Body::Append { previous, committed, entries } => {
                put(out, [previous.index, previous.term, *committed]);
                Entry::put_run(out, entries);
            }
            Body::Appended { index, committed } => put(out, [*index, *committed]),
            Body::Diverged { index, committed, hint } => put(out, [*index, *committed, hint.index, hint.term]),
            Body::Stand { pre, forced, last, committed } => {
                out.extend([u8::from(*pre), u8::from(*forced)]);
                put(out, [last.index, last.term, committed.index, committed.term]);
            }
            Body::Voted { pre, granted, committed } => {
                out.extend([u8::from(*pre), u8::from(*granted)]);
                put(out, [committed.index, committed.term]);
            }
            Body::Heartbeat { committed, read } | Body::Alive { committed, read } => {
                put(out, [*committed]);
                put_optional(out, *read);
            }
            Body::TakeOver => {}
            Body::Piece { head, offset, total, bytes } => {
                head.encode(out);
                put(out, [*offset, *total]);
                put_bytes(out, bytes);
            }
            Body::Received { index, length } => put(out, [*index, *length]),
        }
    }

    /// Reads the message that takes all of `bytes`; payloads share them.
    ///
    /// # Errors
    /// Where they are not a message that this version knows, or one that no member sends. Never panics, and sets aside
    /// no more memory than a small multiple of their length.
    pub fn decode(bytes: Bytes) -> Result<Message, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            version => return Err(Malformed::UnknownVersion(version)),
        }
        let kind = reader.u8()?;
        let cluster = reader.uuid()?;
        let (from, to) = (Member::read(&mut reader)?, Member::read(&mut reader)?);
        let (since, term) = (reader.index()?, reader.term()?);
        let body = read(kind, &mut reader, term)?;
        reader.finish()?;
        Ok(Message { cluster, from, to, since, term, body })
    }
}

fn put<const N: usize>(out: &mut Vec<u8>, numbers: [u64; N]) {
    numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
}

fn read(kind: u8, reader: &mut Reader, term: u64) -> Result<Body, Malformed> {
    Ok(match kind {
        1 => {
            // The first position is the snapshot that a cluster begins with, so that no leader sends what follows none.
            let previous = read_entry(reader, term)?;
            let committed = reader.index()?;
            Body::Append { previous, committed, entries: Entry::read_run(reader, previous, term)? }
        }
        2 => Body::Appended { index: reader.index()?, committed: reader.index()? },
        3 => {
            let (index, committed) = (reader.index()?, reader.index()?);
            let hint = read_position(reader, term)?;
            if hint.index > index {
                return Err(Malformed::IndexOutOfRange(hint.index));
            }
            Body::Diverged { index, committed, hint }
        }
        4 => Body::Stand {
            pre: reader.flag()?,
            forced: reader.flag()?,
            last: read_position(reader, term)?,
            committed: read_position(reader, term)?,
        },
        5 => Body::Voted { pre: reader.flag()?, granted: reader.flag()?, committed: read_position(reader, term)? },
        6 => Body::Heartbeat { committed: reader.index()?, read: reader.optional()? },
        7 => Body::Alive { committed: reader.index()?, read: reader.optional()? },
        8 => Body::TakeOver,
        9 => {
            let head = SnapshotHead::read(reader)?;
            if head.last.term > term {
                return Err(Malformed::TermsOutOfOrder);
            }
            let (offset, total) = (reader.u64()?, reader.u64()?);
            let bytes = reader.bytes()?;
            match offset.checked_add(bytes.len() as u64) {
                Some(end) if end <= total => Body::Piece { head, offset, total, bytes },
                _ => return Err(Malformed::PieceOutOfSnapshot),
            }
        }
        10 => Body::Received { index: reader.index()?, length: reader.u64()? },
        kind => return Err(Malformed::UnknownKind(kind)),
    })
}

/// The name of an entry that is there.
fn read_entry(reader: &mut Reader, sender_term: u64) -> Result<LogId, Malformed> {
    let id = LogId { index: reader.index()?, term: reader.term()? };
    match id.index {
        0 => Err(Malformed::IndexOutOfRange(0)),
        _ if id.term > sender_term => Err(Malformed::TermsOutOfOrder),
        _ => Ok(id),
    }
}

/// The name of an entry, or of the position before the first, or of one that a snapshot has swallowed.
fn read_position(reader: &mut Reader, sender_term: u64) -> Result<LogId, Malformed> {
    let id = LogId { index: reader.index()?, term: reader.u64()? };
    if id.term > sender_term { Err(Malformed::TermsOutOfOrder) } else { Ok(id) }
}
