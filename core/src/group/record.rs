//! The records of `__consumer_offsets`, in Kafka's format: what a coordinator must remember of offsets and groups, so
//! that whoever leads the partition next knows the same.
//!
//! Keys and values begin with two bytes. Those of a key say what the record is about, those of a value are its version.
//! A record without a value, a tombstone, takes back what the key stood for.
//!
//! | key | about | versions of the value read | written |
//! |---|---|---|---|
//! | 0, 1 | a committed offset | 0-4 | 4, or 1 where the offset has an end of its own |
//! | 2 | a classic group | 0-4 | 3 |
//! | 3 | a consumer group | 0 | 0 |
//! | 4 | its topics, as brokers before Kafka 4.1 kept them | 0 | 0 |
//! | 5 | a member | 0 | 0 |
//! | 6 | the assignment as a whole | 0 | 0 |
//! | 7 | what a member is to own | 0 | 0 |
//! | 8 | what a member owns | 0 | 0 |
//! | 16 | what a regular expression means | 0 | 0 |
//!
//! Other keys belong to kinds of groups that are not served. They are read as [`Key::Unknown`], for a load to skip.
//! Reading is total: clients can produce to this topic.

mod values;

use std::error::Error;
use std::fmt;

use bytes::Bytes;

pub use self::values::*;
use crate::wire::{Field, Malformed, Message, Reader, Shape, Str, Writer};

/// What a record is about. Later records of one key take the place of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(
    missing_docs,
    reason = "the fields are the group, the member, the topic, the partition's index and the pattern"
)]
pub enum Key {
    /// The offset that a group committed for a partition.
    OffsetCommit { group: Str, topic: Str, partition: i32 },
    /// A classic group.
    Group { group: Str },
    /// A consumer group.
    ConsumerGroup { group: Str },
    /// The topics of a consumer group, as brokers before Kafka 4.1 kept them.
    PartitionMetadata { group: Str },
    /// A member of a consumer group.
    Member { group: Str, member: Str },
    /// The assignment of a consumer group as a whole.
    TargetAssignment { group: Str },
    /// What a member of a consumer group is to own.
    TargetAssignmentMember { group: Str, member: Str },
    /// What a member of a consumer group owns.
    CurrentAssignment { group: Str, member: Str },
    /// The topics that a regular expression was found to mean for a consumer group.
    Regex { group: Str, regex: Str },
    /// Something that we do not know, with the two bytes that its key begins with.
    Unknown(i16),
}

/// What a record says of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Key::OffsetCommit`].
    OffsetCommit(OffsetCommitValue),
    /// Of [`Key::Group`].
    Group(GroupMetadataValue),
    /// Of [`Key::ConsumerGroup`].
    ConsumerGroup(ConsumerGroupMetadataValue),
    /// Of [`Key::PartitionMetadata`].
    PartitionMetadata(ConsumerGroupPartitionMetadataValue),
    /// Of [`Key::Member`].
    Member(ConsumerGroupMemberMetadataValue),
    /// Of [`Key::TargetAssignment`].
    TargetAssignment(ConsumerGroupTargetAssignmentMetadataValue),
    /// Of [`Key::TargetAssignmentMember`].
    TargetAssignmentMember(ConsumerGroupTargetAssignmentMemberValue),
    /// Of [`Key::CurrentAssignment`].
    CurrentAssignment(ConsumerGroupCurrentMemberAssignmentValue),
    /// Of [`Key::Regex`].
    Regex(ConsumerGroupRegularExpressionValue),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: Key,
    /// What it says; `None` for a tombstone, and for whatever value an unknown key has.
    pub value: Option<Value>,
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The key is not what its first bytes say.
    Key(Malformed),
    /// The value is not what the key and its version say.
    Value(Malformed),
    /// The value's version is one that we do not know.
    UnknownValueVersion {
        /// The first two bytes of the key.
        key: i16,
        /// The first two bytes of the value.
        version: i16,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Key(malformed) => write!(f, "the key cannot be read: {malformed}"),
            RecordError::Value(malformed) => write!(f, "the value cannot be read: {malformed}"),
            RecordError::UnknownValueVersion { key, version } => {
                write!(f, "the value of a key {key} has the unknown version {version}")
            }
        }
    }
}

impl Error for RecordError {}

impl Record {
    /// Its key and its value; no value for a tombstone.
    ///
    /// # Panics
    /// Where the value is none of the key's, or the key is [`Key::Unknown`]: nobody makes such a record.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        if let Some(value) = &self.value {
            assert_eq!(value.key_code(), self.key.code(), "a value belongs to its key");
        }
        (self.key.encode(), self.value.as_ref().map(Value::encode))
    }

    /// Reads it; text and bytes in it share `key` and `value`, and keep alive what those are slices of.
    ///
    /// # Errors
    /// Where the bytes are no record that we know how to read.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Record, RecordError> {
        let key = Key::decode(key).map_err(RecordError::Key)?;
        let value = match (&key, value) {
            (Key::Unknown(_), _) | (_, None) => None,
            (key, Some(value)) => Some(Value::decode(key, value)?),
        };
        Ok(Record { key, value })
    }
}

/// The form of keys.
const PLAIN: Shape = Shape::message(0, false);

impl Key {
    /// The group that it belongs to, unless that is unknown.
    pub fn group(&self) -> Option<&Str> {
        match self {
            Key::OffsetCommit { group, .. }
            | Key::Group { group }
            | Key::ConsumerGroup { group }
            | Key::PartitionMetadata { group }
            | Key::Member { group, .. }
            | Key::TargetAssignment { group }
            | Key::TargetAssignmentMember { group, .. }
            | Key::CurrentAssignment { group, .. }
            | Key::Regex { group, .. } => Some(group),
            Key::Unknown(_) => None,
        }
    }

    /// The two bytes that it begins with.
    fn code(&self) -> i16 {
        match self {
            Key::OffsetCommit { .. } => 1,
            Key::Group { .. } => 2,
            Key::ConsumerGroup { .. } => 3,
            Key::PartitionMetadata { .. } => 4,
            Key::Member { .. } => 5,
            Key::TargetAssignment { .. } => 6,
            Key::TargetAssignmentMember { .. } => 7,
            Key::CurrentAssignment { .. } => 8,
            Key::Regex { .. } => 16,
            Key::Unknown(code) => *code,
        }
    }

    fn encode(&self) -> Bytes {
        let group = self.group().expect("only records of known kinds are made");
        let mut writer = Writer::new();
        writer.i16(self.code());
        group.encode(&mut writer, PLAIN);
        match self {
            Key::OffsetCommit { topic, partition, .. } => {
                topic.encode(&mut writer, PLAIN);
                partition.encode(&mut writer, PLAIN);
            }
            Key::Member { member: name, .. }
            | Key::TargetAssignmentMember { member: name, .. }
            | Key::CurrentAssignment { member: name, .. }
            | Key::Regex { regex: name, .. } => name.encode(&mut writer, PLAIN),
            _ => {}
        }
        writer.finish().to_bytes()
    }

    fn decode(bytes: &Bytes) -> Result<Key, Malformed> {
        let reader = &mut Reader::new(bytes.clone());
        let code = reader.i16()?;
        let text = |reader: &mut Reader| Str::decode(reader, PLAIN);
        let key = match code {
            0 | 1 => Key::OffsetCommit { group: text(reader)?, topic: text(reader)?, partition: reader.i32()? },
            2 => Key::Group { group: text(reader)? },
            3 => Key::ConsumerGroup { group: text(reader)? },
            4 => Key::PartitionMetadata { group: text(reader)? },
            5 => Key::Member { group: text(reader)?, member: text(reader)? },
            6 => Key::TargetAssignment { group: text(reader)? },
            7 => Key::TargetAssignmentMember { group: text(reader)?, member: text(reader)? },
            8 => Key::CurrentAssignment { group: text(reader)?, member: text(reader)? },
            16 => Key::Regex { group: text(reader)?, regex: text(reader)? },
            code => return Ok(Key::Unknown(code)),
        };
        ended(reader).map(|()| key)
    }
}

impl Value {
    /// The first two bytes of its key.
    fn key_code(&self) -> i16 {
        match self {
            Value::OffsetCommit(_) => 1,
            Value::Group(_) => 2,
            Value::ConsumerGroup(_) => 3,
            Value::PartitionMetadata(_) => 4,
            Value::Member(_) => 5,
            Value::TargetAssignment(_) => 6,
            Value::TargetAssignmentMember(_) => 7,
            Value::CurrentAssignment(_) => 8,
            Value::Regex(_) => 16,
        }
    }

    /// The version to write: the one that Kafka 4.3 writes.
    fn version(&self) -> i16 {
        match self {
            // Only version 1 has room for an end of the offset's own.
            Value::OffsetCommit(value) if value.expire_timestamp != -1 => 1,
            Value::OffsetCommit(_) => 4,
            Value::Group(_) => 3,
            _ => 0,
        }
    }

    fn encode(&self) -> Bytes {
        let version = self.version();
        let shape = shape(self.key_code(), version);
        let mut writer = Writer::new();
        writer.i16(version);
        match self {
            Value::OffsetCommit(value) => value.encode(&mut writer, shape),
            Value::Group(value) => value.encode(&mut writer, shape),
            Value::ConsumerGroup(value) => value.encode(&mut writer, shape),
            Value::PartitionMetadata(value) => value.encode(&mut writer, shape),
            Value::Member(value) => value.encode(&mut writer, shape),
            Value::TargetAssignment(value) => value.encode(&mut writer, shape),
            Value::TargetAssignmentMember(value) => value.encode(&mut writer, shape),
            Value::CurrentAssignment(value) => value.encode(&mut writer, shape),
            Value::Regex(value) => value.encode(&mut writer, shape),
        }
        writer.finish().to_bytes()
    }

    fn decode(key: &Key, bytes: &Bytes) -> Result<Value, RecordError> {
        let mut reader = Reader::new(bytes.clone());
        let version = reader.i16().map_err(RecordError::Value)?;
        let last = if matches!(key, Key::OffsetCommit { .. } | Key::Group { .. }) { 4 } else { 0 };
        if !(0..=last).contains(&version) {
            return Err(RecordError::UnknownValueVersion { key: key.code(), version });
        }
        Value::body(key, &mut reader, version).map_err(RecordError::Value)
    }

    fn body(key: &Key, reader: &mut Reader, version: i16) -> Result<Value, Malformed> {
        let shape = shape(key.code(), version);
        let value = match key {
            Key::OffsetCommit { .. } => Value::OffsetCommit(read(reader, shape)?),
            Key::Group { .. } => Value::Group(read(reader, shape)?),
            Key::ConsumerGroup { .. } => Value::ConsumerGroup(read(reader, shape)?),
            Key::PartitionMetadata { .. } => Value::PartitionMetadata(read(reader, shape)?),
            Key::Member { .. } => Value::Member(read(reader, shape)?),
            Key::TargetAssignment { .. } => Value::TargetAssignment(read(reader, shape)?),
            Key::TargetAssignmentMember { .. } => Value::TargetAssignmentMember(read(reader, shape)?),
            Key::CurrentAssignment { .. } => Value::CurrentAssignment(read(reader, shape)?),
            Key::Regex { .. } => Value::Regex(read(reader, shape)?),
            Key::Unknown(_) => unreachable!("the value of an unknown key is not read"),
        };
        ended(reader).map(|()| value)
    }
}

/// The form of a value: those of offsets and of classic groups have compact lengths and tagged fields from version 4,
/// all others always.
fn shape(key: i16, version: i16) -> Shape {
    Shape::message(version, key > 2 || version >= 4)
}

fn read<T: Message>(reader: &mut Reader, shape: Shape) -> Result<T, Malformed> {
    T::decode(reader, shape)
}

fn ended(reader: &Reader) -> Result<(), Malformed> {
    if reader.remaining() == 0 { Ok(()) } else { Err(Malformed::TrailingBytes) }
}
