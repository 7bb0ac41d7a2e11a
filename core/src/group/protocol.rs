//! What consumers say to each other through the coordinator of a classic group: the metadata that they join with, and
//! the assignments that their leader makes. The coordinator reads them only where a group changes its protocol
//! (KIP-848); else they are opaque to it.
//!
//! A version precedes each. A later version keeps the fields of the earlier ones in their order, so that a version
//! newer than ours is read as our last, and bytes behind what we know are not looked at.

use std::error::Error;
use std::fmt;

use crate::wire::prelude::*;

/// The protocol type of groups of consumers.
pub const PROTOCOL_TYPE: Str = Str::from_static("consumer");

/// The last version that we read and write.
pub const VERSION_LAST: i16 = 3;

messages! {
    /// What a consumer subscribes to and owns: its metadata in JoinGroup. KIP-429 (owned partitions), KIP-792
    /// (generation), KIP-881 (rack).
    pub struct ConsumerProtocolSubscription {
        /// The topics' names.
        topics: Vec<Str>, 0..;
        /// What the assignor adds; null if nothing.
        user_data: Option<Bytes>, 0.., null 0..;
        /// What it owns.
        owned_partitions: Vec<TopicPartition>, 1..;
        /// The generation that it owns them from, -1 if unknown.
        generation_id: i32 = -1, 2..;
        /// Its rack; null if it has none.
        rack_id: Option<Str>, 3.., null 3..;
    }

    /// What a consumer is assigned: its part in SyncGroup.
    pub struct ConsumerProtocolAssignment {
        /// The partitions.
        assigned_partitions: Vec<TopicPartition>, 0..;
        /// What the assignor adds; null if nothing.
        user_data: Option<Bytes>, 0.., null 0..;
    }

    /// Partitions of a topic.
    pub struct TopicPartition {
        /// The topic's name.
        topic: Str, 0..;
        /// The partitions' indexes.
        partitions: Vec<i32>, 0..;
    }
}

/// Why bytes are none of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// Their version is below 0.
    NegativeVersion(i16),
    /// They are not what their version says.
    Malformed(Malformed),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::NegativeVersion(version) => write!(f, "the version {version} is negative"),
            ProtocolError::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

impl Error for ProtocolError {}

impl From<Malformed> for ProtocolError {
    fn from(malformed: Malformed) -> ProtocolError {
        ProtocolError::Malformed(malformed)
    }
}

impl ConsumerProtocolSubscription {
    /// Reads it behind its version; text in it shares `bytes`.
    ///
    /// # Errors
    /// Where the bytes are none. Clients make them, and the coordinator has taken them unread.
    pub fn from_bytes(bytes: &Bytes) -> Result<ConsumerProtocolSubscription, ProtocolError> {
        read(bytes)
    }

    /// Writes it in `version`, 0 to [`VERSION_LAST`]; fields that the version lacks are left out.
    pub fn to_bytes(&self, version: i16) -> Bytes {
        write(self, version)
    }
}

impl ConsumerProtocolAssignment {
    /// Reads it behind its version; text in it shares `bytes`.
    ///
    /// # Errors
    /// As [`ConsumerProtocolSubscription::from_bytes`].
    pub fn from_bytes(bytes: &Bytes) -> Result<ConsumerProtocolAssignment, ProtocolError> {
        read(bytes)
    }

    /// Writes it in `version`, 0 to [`VERSION_LAST`], which is to be that of the member's subscription.
    pub fn to_bytes(&self, version: i16) -> Bytes {
        write(self, version)
    }
}

/// The version in front of either, at most [`VERSION_LAST`]: the one to answer its sender in.
///
/// # Errors
/// Where there is no version, or a negative one.
pub fn version(bytes: &Bytes) -> Result<i16, ProtocolError> {
    version_of(&mut Reader::new(bytes.clone()))
}

fn version_of(reader: &mut Reader) -> Result<i16, ProtocolError> {
    match reader.i16()? {
        version @ ..0 => Err(ProtocolError::NegativeVersion(version)),
        version => Ok(version.min(VERSION_LAST)),
    }
}

fn shape(version: i16) -> Shape {
    Shape::message(version, false)
}

fn read<T: Message>(bytes: &Bytes) -> Result<T, ProtocolError> {
    let mut reader = Reader::new(bytes.clone());
    let version = version_of(&mut reader)?;
    Ok(T::decode(&mut reader, shape(version))?)
}

fn write<T: Message>(message: &T, version: i16) -> Bytes {
    assert!((0..=VERSION_LAST).contains(&version), "version {version} is one that we speak");
    let mut writer = Writer::new();
    writer.i16(version);
    message.encode(&mut writer, shape(version));
    writer.finish().to_bytes()
}
