//! Why bytes are not a record.

use std::fmt;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are fewer than a header.
    NoHeader,
    /// An entry ends within a record.
    EntryCut,
    /// This version knows no such kind: a later one wrote it, or nobody did.
    UnknownKind {
        /// The kind's number.
        kind: u8,
        /// The version.
        version: u8,
    },
    /// This version knows the kind, but no such version of it.
    NewerVersion {
        /// The kind.
        kind: &'static str,
        /// The version found.
        version: u8,
        /// The newest version known.
        newest: u8,
    },
    /// The bytes after the header are not as they should be.
    Body {
        /// The kind.
        kind: &'static str,
        /// The version.
        version: u8,
        /// What is wrong.
        what: What,
    },
}

/// What is wrong with the body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It ends too early.
    Cut,
    /// It goes on after its end.
    MoreThanARecord,
    /// A text is not UTF-8.
    NotText,
    /// A byte that says whether something is there is neither 0 nor 1.
    NeitherThereNorNot,
    /// A setting belongs to something unknown.
    UnknownResource,
    /// A broker may do something unknown.
    UnknownStanding,
    /// An older version says all that this one does: there is one way to write each thing.
    NothingNew,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoHeader => f.write_str("a metadata record without kind and version"),
            Malformed::EntryCut => f.write_str("an entry of metadata records that ends within one"),
            Malformed::UnknownKind { kind, version } => {
                write!(f, "a metadata record of kind {kind}, version {version}, which this program does not know")
            }
            Malformed::NewerVersion { kind, version, newest } => write!(
                f,
                "a metadata record {kind} of version {version}, where this program knows versions up to {newest}"
            ),
            Malformed::Body { kind, version, what } => {
                let what = match what {
                    What::Cut => "ends too early",
                    What::MoreThanARecord => "goes on after its end",
                    What::NotText => "holds a text that is not UTF-8",
                    What::NeitherThereNorNot => "has a flag that is neither 0 nor 1",
                    What::UnknownResource => "is a setting of something unknown",
                    What::UnknownStanding => "says of a broker something unknown",
                    What::NothingNew => "says nothing that an older version could not",
                };
                write!(f, "a metadata record {kind} of version {version} that {what}")
            }
        }
    }
}

impl std::error::Error for Malformed {}
