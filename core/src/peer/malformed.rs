//! Why bytes are no frame of a peer's.

use std::error::Error;
use std::fmt;

use crate::wire;

/// What is wrong with a frame. Its connection is closed: nothing after the fault can be trusted to begin where it seems
/// to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The frame announces more bytes than may come here.
    FrameTooLarge {
        /// Bytes of its body.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The bytes handed in are not as many as the header announces.
    BodyLength,
    /// Kind, version, reserved bytes and body do not have the checksum of the header.
    Checksum,
    /// Reserved bytes are not zero.
    Reserved,
    /// A kind of message that this program does not know.
    UnknownKind(u8),
    /// A version of the message that this program does not know.
    UnknownVersion {
        /// The message's kind.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// A number that stands for one of several cases stands for none of them.
    UnknownCase(u8),
    /// A field is not as its table says.
    Field(wire::Malformed),
}

impl From<wire::Malformed> for Malformed {
    fn from(malformed: wire::Malformed) -> Malformed {
        Malformed::Field(malformed)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::FrameTooLarge { bytes, limit } => {
                write!(f, "a frame of {bytes} bytes is larger than the {limit} that may come here")
            }
            Malformed::BodyLength => f.write_str("the frame is not as long as its header says"),
            Malformed::Checksum => f.write_str("the frame does not have the checksum of its header"),
            Malformed::Reserved => f.write_str("reserved bytes of the frame are not zero"),
            Malformed::UnknownKind(kind) => write!(f, "a message of the unknown kind {kind}"),
            Malformed::UnknownVersion { kind, version } => {
                write!(f, "a message of kind {kind} in the unknown version {version}")
            }
            Malformed::UnknownCase(case) => write!(f, "{case} stands for no case of its field"),
            Malformed::Field(malformed) => malformed.fmt(f),
        }
    }
}

impl Error for Malformed {}
