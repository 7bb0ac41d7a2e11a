//! Reading and writing of what peers send and the journal keeps: integers are big-endian, a list is its length (u32)
//! and its elements, what may be missing is preceded by a byte, 1 if it is there.

use std::fmt;

use bytes::Bytes;

use crate::ids::{NodeId, Uuid};

/// Why bytes are no message of a peer and no record of the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end too early.
    Cut,
    /// They go on after their end.
    TooLong,
    /// A layout that this version does not know: a later one wrote it, or nobody did.
    UnknownVersion(u8),
    /// A kind that this version does not know.
    UnknownKind(u8),
    /// A flag that is neither 0 nor 1.
    NeitherThereNorNot(u8),
    /// A node id below 0.
    NegativeNode(i32),
    /// Term 0, which nobody leads, or one past [`MAX_TERM`](super::MAX_TERM).
    TermOutOfRange(u64),
    /// A position before the first of a log, or past [`MAX_INDEX`](super::MAX_INDEX).
    IndexOutOfRange(u64),
    /// An entry is of a term before that of the entry before it, or after its sender's.
    TermsOutOfOrder,
    /// A membership without voters, with somebody twice, or too large.
    NoMembership,
    /// A payload of no bytes, which stands for an entry without one.
    EmptyPayload,
    /// A piece that lies outside of its snapshot.
    PieceOutOfSnapshot,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Cut => f.write_str("the bytes end too early"),
            Malformed::TooLong => f.write_str("the bytes go on after their end"),
            Malformed::UnknownVersion(version) => write!(f, "version {version} of the layout is not known here"),
            Malformed::UnknownKind(kind) => write!(f, "kind {kind} is not known here"),
            Malformed::NeitherThereNorNot(flag) => write!(f, "a flag is {flag}, neither 0 nor 1"),
            Malformed::NegativeNode(node) => write!(f, "{node} is no node id"),
            Malformed::TermOutOfRange(term) => write!(f, "{term} is no term"),
            Malformed::IndexOutOfRange(index) => write!(f, "{index} is no position in a log"),
            Malformed::TermsOutOfOrder => f.write_str("the terms of the entries are out of order"),
            Malformed::NoMembership => f.write_str("the membership is not one"),
            Malformed::EmptyPayload => f.write_str("the payload of an entry has no bytes"),
            Malformed::PieceOutOfSnapshot => f.write_str("a piece of a snapshot lies outside of it"),
        }
    }
}

impl std::error::Error for Malformed {}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend(bytes);
}

pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend(u32::try_from(length).expect("what is written is far smaller than 4 GiB").to_be_bytes());
}

pub(super) fn put_optional(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    number.into_iter().for_each(|number| out.extend(number.to_be_bytes()));
}

/// What is left to read.
pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    /// What has been read is all there was.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed::TooLong) }
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = *self.bytes.first_chunk().ok_or(Malformed::Cut)?;
        self.bytes = self.bytes.slice(N..);
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            flag => Err(Malformed::NeitherThereNorNot(flag)),
        }
    }

    pub(super) fn optional(&mut self) -> Result<Option<u64>, Malformed> {
        if self.flag()? { self.u64().map(Some) } else { Ok(None) }
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        self.take().map(Uuid)
    }

    pub(super) fn node(&mut self) -> Result<NodeId, Malformed> {
        match i32::from_be_bytes(self.take()?) {
            node if node < 0 => Err(Malformed::NegativeNode(node)),
            node => Ok(NodeId(node)),
        }
    }

    /// A term that somebody led or stands for.
    pub(super) fn term(&mut self) -> Result<u64, Malformed> {
        match self.u64()? {
            term @ 1..=super::MAX_TERM => Ok(term),
            term => Err(Malformed::TermOutOfRange(term)),
        }
    }

    /// A position in a log, 0 for that before its first entry.
    pub(super) fn index(&mut self) -> Result<u64, Malformed> {
        match self.u64()? {
            index @ 0..=super::MAX_INDEX => Ok(index),
            index => Err(Malformed::IndexOutOfRange(index)),
        }
    }

    /// A byte string, shared with what it is read from.
    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed::Cut)?;
        if length > self.bytes.len() {
            return Err(Malformed::Cut);
        }
        Ok(self.bytes.split_to(length))
    }

    /// A list. Memory is set aside only for as many elements as can be in what is left.
    pub(super) fn list<T>(
        &mut self,
        min_bytes: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed::Cut)?;
        if length > self.remaining() / min_bytes {
            return Err(Malformed::Cut);
        }
        (0..length).map(|_| element(self)).collect()
    }
}
