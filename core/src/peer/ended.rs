//! Why a connection between brokers is over.

use std::error::Error;
use std::fmt;

use super::{Malformed, Refused};
use crate::batch::ScanError;
use crate::ids::TopicPartition;

/// Why a connection between brokers must be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What came is no frame, or no message.
    Malformed(Malformed),
    /// The first message is no greeting, or no answer to one.
    NotGreeted,
    /// Something came that has no place there: a second greeting, or anything on a connection on which we speak.
    OutOfTurn,
    /// This broker will not talk to the other.
    RefusedHere(Refused),
    /// The other broker will not talk to this one.
    RefusedThere(Refused),
    /// Batches for a partition are not what they say.
    Batches {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong, and where.
        why: ScanError,
    },
    /// A list within a message is longer than any that a broker sends.
    ListTooLong,
}

impl Ended {
    /// The refusal, whoever of the two refused. What the node is told ([`PeerInput::Refused`]) where it has dialled.
    ///
    /// [`PeerInput::Refused`]: crate::boundary::PeerInput::Refused
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Ended::RefusedHere(refused) | Ended::RefusedThere(refused) => Some(refused),
            _ => None,
        }
    }
}

impl From<Malformed> for Ended {
    fn from(malformed: Malformed) -> Ended {
        Ended::Malformed(malformed)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Malformed(malformed) => malformed.fmt(f),
            Ended::NotGreeted => f.write_str("the first message is no greeting"),
            Ended::OutOfTurn => f.write_str("a message that has no place there"),
            // What others say is shown with its control characters escaped.
            Ended::RefusedHere(refused) => write!(f, "refused: {}", refused.message.escape_debug()),
            Ended::RefusedThere(refused) => write!(f, "refused by the other side: {}", refused.message.escape_debug()),
            Ended::Batches { partition, why } => write!(f, "batches for {partition}: {why}"),
            Ended::ListTooLong => f.write_str("a list is longer than any that a broker sends"),
        }
    }
}

impl Error for Ended {}
