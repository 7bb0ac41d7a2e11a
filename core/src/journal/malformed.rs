//! Why bytes of the journal cannot be read.

use std::fmt;

use super::format::VERSION;

/// Why bytes are not the commit or record that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The block does not start with a commit's magic.
    NoCommit,
    /// The commit header's checksum is wrong.
    CommitHeaderChecksum,
    /// The commit was written by a format newer than this program's.
    CommitVersion(u16),
    /// The commit's header is sound but does not continue the chain.
    CommitOutOfChain,
    /// The file ends before the commit does.
    FileTooShort,
    /// The records end before the commit's length, or run past it.
    RecordLength,
    /// The commit holds another number of records than its header says.
    RecordCount,
    /// A record header's checksum is wrong.
    RecordHeaderChecksum,
    /// A record's LSN is not its place in the stream.
    RecordLsn,
    /// A record of a kind that this version does not know.
    UnknownKind(u8),
    /// A payload's checksum is wrong.
    PayloadChecksum,
    /// The bytes that fill up a payload are not zero.
    PayloadPadding,
    /// The bytes that fill up a commit's last block are not zero.
    CommitPadding,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoCommit => f.write_str("no commit starts here"),
            Malformed::CommitHeaderChecksum => f.write_str("the commit header's checksum is wrong"),
            Malformed::CommitVersion(version) => {
                write!(f, "the commit has format version {version}, newer than this program's {VERSION}")
            }
            Malformed::CommitOutOfChain => f.write_str("the commit does not continue the chain"),
            Malformed::FileTooShort => f.write_str("the file ends before the commit does"),
            Malformed::RecordLength => f.write_str("a record's length does not fit its commit"),
            Malformed::RecordCount => f.write_str("the commit's number of records is not what its header says"),
            Malformed::RecordHeaderChecksum => f.write_str("a record header's checksum is wrong"),
            Malformed::RecordLsn => f.write_str("a record's LSN is not its place"),
            Malformed::UnknownKind(kind) => {
                write!(f, "a record has kind {kind}, which only a newer version of this program knows")
            }
            Malformed::PayloadChecksum => f.write_str("a payload's checksum is wrong"),
            Malformed::PayloadPadding => f.write_str("the padding after a payload is not zero"),
            Malformed::CommitPadding => f.write_str("the padding after the last record is not zero"),
        }
    }
}

impl std::error::Error for Malformed {}
