//! What the fields of messages are made of. Integers are big-endian; a text, a byte string or a list is preceded by its
//! length in four bytes; what may be missing by a byte that is 1 if it is there.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Malformed;
use crate::batch::PlacedBatch;
use crate::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, ProducerEpoch, Session, TopicPartition, Uuid,
};
use crate::wire::{self, Reader, Str, Writer};

/// How many elements memory is set aside for before the first has been read: what a sender announces beyond it, it must
/// also send.
const INITIAL_ELEMENTS: usize = 1_000;

/// Something that a message is made of.
pub(super) trait Field: Sized {
    /// The least number of bytes that it takes, at least 1, which bounds how many a list can hold.
    const MIN_BYTES: usize;

    fn write(&self, writer: &mut Writer);

    fn read(reader: &mut Reader) -> Result<Self, Malformed>;
}

macro_rules! integers {
    ($($name:ty, $inner:ident as $method:ident, $bytes:literal;)*) => {$(
        impl Field for $name {
            const MIN_BYTES: usize = $bytes;

            fn write(&self, writer: &mut Writer) {
                writer.$method(self.0 as $inner);
            }

            fn read(reader: &mut Reader) -> Result<$name, Malformed> {
                Ok(Self(reader.$method()? as _))
            }
        }
    )*};
}

integers! {
    NodeId, i32 as i32, 4;
    Offset, i64 as i64, 8;
    LeaderEpoch, i32 as i32, 4;
    PartitionEpoch, i32 as i32, 4;
    BrokerEpoch, i64 as i64, 8;
    Session, i64 as i64, 8;
    ProducerEpoch, i16 as i16, 2;
}

macro_rules! plain_integers {
    ($($name:ident as $method:ident, $bytes:literal;)*) => {$(
        impl Field for $name {
            const MIN_BYTES: usize = $bytes;

            fn write(&self, writer: &mut Writer) {
                writer.$method(*self as _);
            }

            fn read(reader: &mut Reader) -> Result<$name, Malformed> {
                Ok(reader.$method()? as _)
            }
        }
    )*};
}

plain_integers! {
    u8 as i8, 1;
    i16 as i16, 2;
    u16 as i16, 2;
    i32 as i32, 4;
    u32 as i32, 4;
    u64 as i64, 8;
}

impl Field for bool {
    const MIN_BYTES: usize = 1;

    fn write(&self, writer: &mut Writer) {
        writer.bool(*self);
    }

    fn read(reader: &mut Reader) -> Result<bool, Malformed> {
        match u8::read(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::UnknownCase(other)),
        }
    }
}

impl Field for Uuid {
    const MIN_BYTES: usize = 16;

    fn write(&self, writer: &mut Writer) {
        writer.uuid(*self);
    }

    fn read(reader: &mut Reader) -> Result<Uuid, Malformed> {
        Ok(reader.uuid()?)
    }
}

impl Field for TopicPartition {
    const MIN_BYTES: usize = 20;

    fn write(&self, writer: &mut Writer) {
        self.topic.write(writer);
        self.partition.write(writer);
    }

    fn read(reader: &mut Reader) -> Result<TopicPartition, Malformed> {
        Ok(TopicPartition { topic: Uuid::read(reader)?, partition: i32::read(reader)? })
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    const MIN_BYTES: usize = A::MIN_BYTES + B::MIN_BYTES;

    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
        self.1.write(writer);
    }

    fn read(reader: &mut Reader) -> Result<(A, B), Malformed> {
        Ok((A::read(reader)?, B::read(reader)?))
    }
}

impl<T: Field> Field for Option<T> {
    const MIN_BYTES: usize = 1;

    fn write(&self, writer: &mut Writer) {
        self.is_some().write(writer);
        if let Some(value) = self {
            value.write(writer);
        }
    }

    fn read(reader: &mut Reader) -> Result<Option<T>, Malformed> {
        Ok(if bool::read(reader)? { Some(T::read(reader)?) } else { None })
    }
}

fn write_length(length: usize, writer: &mut Writer) {
    u32::try_from(length).expect("no message holds so much").write(writer);
}

/// A number of things of `min_bytes` each, all of which can be in what is left.
fn read_length(reader: &mut Reader, min_bytes: usize) -> Result<usize, Malformed> {
    let length = u32::read(reader)? as usize;
    if length > reader.remaining() / min_bytes {
        return Err(wire::Malformed::LengthPastEnd.into());
    }
    Ok(length)
}

impl Field for Bytes {
    const MIN_BYTES: usize = 4;

    fn write(&self, writer: &mut Writer) {
        write_length(self.len(), writer);
        writer.bytes(self);
    }

    fn read(reader: &mut Reader) -> Result<Bytes, Malformed> {
        let length = read_length(reader, 1)?;
        Ok(reader.slice(length)?)
    }
}

impl Field for Str {
    const MIN_BYTES: usize = 4;

    fn write(&self, writer: &mut Writer) {
        write_length(self.len(), writer);
        writer.slice(self.as_bytes());
    }

    fn read(reader: &mut Reader) -> Result<Str, Malformed> {
        Str::from_utf8(Bytes::read(reader)?).map_err(|_| wire::Malformed::StringNotUtf8.into())
    }
}

impl<T: Field> Field for Vec<T> {
    const MIN_BYTES: usize = 4;

    fn write(&self, writer: &mut Writer) {
        write_length(self.len(), writer);
        for element in self {
            element.write(writer);
        }
    }

    fn read(reader: &mut Reader) -> Result<Vec<T>, Malformed> {
        let length = read_length(reader, T::MIN_BYTES)?;
        let mut list = Vec::with_capacity(length.min(INITIAL_ELEMENTS));
        for _ in 0..length {
            list.push(T::read(reader)?);
        }
        Ok(list)
    }
}

/// Batches one after another, as slices: of memory where they are sent, of the frame where they are received.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    slices: SmallVec<[Bytes; 2]>,
    /// The same, one by one, once somebody has looked at every byte of them.
    placed: Vec<PlacedBatch>,
}

impl Batches {
    /// Those that lie in `slices`, one after another.
    pub fn new(slices: SmallVec<[Bytes; 2]>) -> Batches {
        Batches { slices, placed: Vec::new() }
    }

    /// These, which were verified.
    pub(super) fn of(run: Bytes, placed: Vec<PlacedBatch>) -> Batches {
        Batches { slices: if run.is_empty() { SmallVec::new() } else { SmallVec::from_iter([run]) }, placed }
    }

    /// The batches one by one, each known to be whole and to make sense where it stands.
    ///
    /// # Panics
    /// Where nobody has verified them: only those that an [`Acceptor`](super::Acceptor) hands over are.
    pub fn placed(&self) -> &[PlacedBatch] {
        assert!(self.is_empty() || !self.placed.is_empty(), "batches are verified by the connection that they came by");
        &self.placed
    }

    /// Likewise, for whoever needs nothing else of them.
    ///
    /// # Panics
    /// As [`Batches::placed`].
    pub fn into_placed(self) -> Vec<PlacedBatch> {
        self.placed();
        self.placed
    }

    /// Those that somebody has verified, if somebody has.
    pub(super) fn known(&self) -> &[PlacedBatch] {
        &self.placed
    }

    /// The slices.
    pub fn slices(&self) -> &[Bytes] {
        &self.slices
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slices.iter().all(Bytes::is_empty)
    }

    /// All of them in one piece: without a copy where they came in a frame.
    pub fn to_bytes(&self) -> Bytes {
        match &self.slices[..] {
            [] => Bytes::new(),
            [only] => only.clone(),
            slices => slices.concat().into(),
        }
    }
}

impl PartialEq for Batches {
    /// The same bytes, however they are cut.
    fn eq(&self, other: &Batches) -> bool {
        self.slices.iter().flatten().eq(other.slices.iter().flatten())
    }
}

impl Eq for Batches {}

impl Field for Batches {
    const MIN_BYTES: usize = 4;

    fn write(&self, writer: &mut Writer) {
        write_length(self.bytes(), writer);
        for slice in &self.slices {
            writer.bytes(slice);
        }
    }

    fn read(reader: &mut Reader) -> Result<Batches, Malformed> {
        Ok(Batches::of(Bytes::read(reader)?, Vec::new()))
    }
}
