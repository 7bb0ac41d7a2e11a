//! What any record of the journal says, for people: not for a start, which asks besides whether it follows from those
//! before it.

use bytes::Bytes;

use super::metadata;
use crate::journal::RecordKind;
use crate::log;

/// What one record of the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Of one partition's log.
    Log(log::Told),
    /// Of the node itself: lines, or what is wrong with what should be one. None where only a checkpoint's form of the
    /// state is in it, which is not for people.
    Node(Vec<Result<String, String>>),
}

/// What a record of `kind` with this payload says. Whether the batch in it is sound is not asked.
///
/// # Errors
/// What is wrong with a payload that cannot be understood. Never panics.
pub fn told(kind: RecordKind, payload: Bytes) -> Result<Told, String> {
    match log::told(kind, payload.clone()) {
        Ok(Some(told)) => Ok(Told::Log(told)),
        Ok(None) => metadata::told(kind, payload).map(Told::Node),
        Err(error) => Err(error.to_string()),
    }
}
