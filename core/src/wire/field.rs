//! The types that fields have, and how each is read and written.

use bytes::Bytes;
use smallvec::SmallVec;

use super::reader::MAX_STRING;
use super::{Malformed, Reader, Schema, Str, Writer};
use crate::ids::Uuid;

/// A range of versions of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first.
    pub from: i16,
    /// The last; `i16::MAX` where it is open.
    pub to: i16,
}

impl Versions {
    /// No version.
    pub const NONE: Versions = Versions { from: 0, to: -1 };
    /// Every version.
    pub const ALL: Versions = Versions { from: 0, to: i16::MAX };

    /// Whether `version` is among them.
    #[inline]
    pub const fn holds(self, version: i16) -> bool {
        self.from <= version && version <= self.to
    }
}

/// In which form a field is to be read or written.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The version of the API.
    pub version: i16,
    /// Whether the version is a flexible one: compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether this field may be null in this version.
    pub nullable: bool,
    /// Whether this is a tagged field: Kafka writes a struct that is not there in another way in one.
    pub tagged: bool,
}

impl Shape {
    /// The form of a message, in its version.
    #[inline]
    pub const fn message(version: i16, flexible: bool) -> Shape {
        Shape { version, flexible, nullable: false, tagged: false }
    }

    /// The form of a field in a struct of this form.
    #[inline]
    pub fn with_nullable(self, nullable: bool) -> Shape {
        Shape { nullable, tagged: false, ..self }
    }

    /// The form of a tagged field in a struct of this form.
    #[inline]
    pub fn with_tagged(self, nullable: bool) -> Shape {
        Shape { nullable, tagged: true, ..self }
    }
}

/// What type a field has, as data: for whoever makes or prints messages without knowing them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `bool`.
    Bool,
    /// `i8`.
    Int8,
    /// `i16`.
    Int16,
    /// `u16`.
    Uint16,
    /// `i32`.
    Int32,
    /// `i64`.
    Int64,
    /// [`Uuid`].
    Uuid,
    /// [`Str`].
    String,
    /// [`Bytes`] or [`Records`].
    Bytes,
    /// A vector of these.
    Array(&'static Kind),
    /// A struct with fields of its own.
    Struct(&'static Schema),
}

/// A type that a field can have.
pub trait Field: Sized {
    /// The type as data. `Option` does not show: a field's nullable versions say it.
    const KIND: Kind;
    /// The least number of bytes that it takes in any version.
    const MIN_BYTES: usize;

    /// Reads it.
    ///
    /// # Errors
    /// Where the bytes are not such a value; the reader is then of no more use.
    fn decode(reader: &mut Reader, shape: Shape) -> Result<Self, Malformed>;

    /// Writes it.
    fn encode(&self, writer: &mut Writer, shape: Shape);
}

/// A type whose absence can be written.
pub trait Nullable: Field + Default {
    /// Reads it, or that it is not there.
    ///
    /// # Errors
    /// As [`Field::decode`].
    fn decode_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Self>, Malformed>;

    /// Writes that it is not there.
    fn encode_null(writer: &mut Writer, shape: Shape);

    /// Writes that it is there, and itself.
    #[inline]
    fn encode_present(&self, writer: &mut Writer, shape: Shape) {
        self.encode(writer, shape);
    }
}

/// In a version that knows no null, `None` is written as the empty value: that is how Kafka answers old clients, for
/// instance with the empty name of a topic that was asked for by an unknown id.
impl<T: Nullable> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const MIN_BYTES: usize = 1;

    #[inline]
    fn decode(reader: &mut Reader, shape: Shape) -> Result<Option<T>, Malformed> {
        if shape.nullable { T::decode_nullable(reader, shape) } else { T::decode(reader, shape).map(Some) }
    }

    #[inline]
    fn encode(&self, writer: &mut Writer, shape: Shape) {
        match self {
            Some(value) if shape.nullable => value.encode_present(writer, shape),
            Some(value) => value.encode(writer, shape),
            None if shape.nullable => T::encode_null(writer, shape),
            None => T::default().encode(writer, shape),
        }
    }
}

macro_rules! fixed {
    ($($type:ty, $kind:ident, $method:ident, $bytes:literal;)*) => {$(
        impl Field for $type {
            const KIND: Kind = Kind::$kind;
            const MIN_BYTES: usize = $bytes;

            #[inline]
            fn decode(reader: &mut Reader, _: Shape) -> Result<$type, Malformed> {
                reader.$method()
            }

            #[inline]
            fn encode(&self, writer: &mut Writer, _: Shape) {
                writer.$method(*self);
            }
        }
    )*};
}

fixed! {
    bool, Bool, bool, 1;
    i8, Int8, i8, 1;
    i16, Int16, i16, 2;
    u16, Uint16, u16, 2;
    i32, Int32, i32, 4;
    i64, Int64, i64, 8;
    Uuid, Uuid, uuid, 16;
}

impl Field for Str {
    const KIND: Kind = Kind::String;
    const MIN_BYTES: usize = 1;

    #[inline]
    fn decode(reader: &mut Reader, shape: Shape) -> Result<Str, Malformed> {
        Str::decode_nullable(reader, shape)?.ok_or(Malformed::UnexpectedNull)
    }

    /// A string of more than 32,767 bytes is cut to what the format can carry, at the border of a character: it can
    /// only be a message to people that quotes what a client sent.
    #[inline]
    fn encode(&self, writer: &mut Writer, shape: Shape) {
        let bytes = self.as_bytes();
        if bytes.len() <= MAX_STRING {
            writer.string_length(Some(bytes.len()), shape.flexible);
            writer.slice(bytes);
        } else {
            let text = self.as_str();
            let cut = (0..=MAX_STRING).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            writer.string_length(Some(cut), shape.flexible);
            writer.slice(&bytes[..cut]);
        }
    }
}

impl Nullable for Str {
    #[inline]
    fn decode_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Str>, Malformed> {
        match reader.string_length(shape.flexible)? {
            Some(length) => reader.text(length).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn encode_null(writer: &mut Writer, shape: Shape) {
        writer.string_length(None, shape.flexible);
    }
}

impl Field for Bytes {
    const KIND: Kind = Kind::Bytes;
    const MIN_BYTES: usize = 1;

    #[inline]
    fn decode(reader: &mut Reader, shape: Shape) -> Result<Bytes, Malformed> {
        Bytes::decode_nullable(reader, shape)?.ok_or(Malformed::UnexpectedNull)
    }

    #[inline]
    fn encode(&self, writer: &mut Writer, shape: Shape) {
        writer.bytes_length(Some(self.len()), shape.flexible);
        writer.bytes(self);
    }
}

impl Nullable for Bytes {
    #[inline]
    fn decode_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Bytes>, Malformed> {
        match reader.bytes_length(shape.flexible)? {
            Some(length) if length > reader.remaining() => Err(Malformed::LengthPastEnd),
            Some(length) => reader.slice(length).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn encode_null(writer: &mut Writer, shape: Shape) {
        writer.bytes_length(None, shape.flexible);
    }
}

/// Record batches, one after another: what a fetch found, in as many pieces as it was found in. On the wire they are
/// one byte string, so equality is that of the pieces put together.
#[derive(Clone, Debug, Default)]
pub struct Records(pub SmallVec<[Bytes; 2]>);

impl Records {
    /// The length of all pieces together, in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte in them.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        self.len() == other.len() && self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}

impl Eq for Records {}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        if bytes.is_empty() { Records::default() } else { Records(SmallVec::from_iter([bytes])) }
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Records {
        Records(pieces.into_iter().collect())
    }
}

impl Field for Records {
    const KIND: Kind = Kind::Bytes;
    const MIN_BYTES: usize = 1;

    #[inline]
    fn decode(reader: &mut Reader, shape: Shape) -> Result<Records, Malformed> {
        Bytes::decode(reader, shape).map(Records::from)
    }

    #[inline]
    fn encode(&self, writer: &mut Writer, shape: Shape) {
        writer.bytes_length(Some(self.len()), shape.flexible);
        for piece in &self.0 {
            writer.bytes(piece);
        }
    }
}

impl Nullable for Records {
    #[inline]
    fn decode_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Records>, Malformed> {
        Ok(Bytes::decode_nullable(reader, shape)?.map(Records::from))
    }

    #[inline]
    fn encode_null(writer: &mut Writer, shape: Shape) {
        writer.bytes_length(None, shape.flexible);
    }
}

impl<T: Field> Field for Vec<T> {
    const KIND: Kind = Kind::Array(&T::KIND);
    const MIN_BYTES: usize = 1;

    #[inline]
    fn decode(reader: &mut Reader, shape: Shape) -> Result<Vec<T>, Malformed> {
        Vec::decode_nullable(reader, shape)?.ok_or(Malformed::UnexpectedNull)
    }

    #[inline]
    fn encode(&self, writer: &mut Writer, shape: Shape) {
        writer.bytes_length(Some(self.len()), shape.flexible);
        for element in self {
            element.encode(writer, shape.with_nullable(false));
        }
    }
}

impl<T: Field> Nullable for Vec<T> {
    #[inline]
    fn decode_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = reader.count(shape.flexible, T::MIN_BYTES)? else { return Ok(None) };
        let mut elements = reader.room_for(count)?;
        for _ in 0..count {
            elements.push(T::decode(reader, shape.with_nullable(false))?);
        }
        Ok(Some(elements))
    }

    #[inline]
    fn encode_null(writer: &mut Writer, shape: Shape) {
        writer.bytes_length(None, shape.flexible);
    }
}
