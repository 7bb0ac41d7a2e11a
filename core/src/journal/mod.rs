//! The journal: the only file that an acknowledgement waits for.
//!
//! One per node and for everything that must outlive it: batches of all partitions, truncations, raft's log and votes,
//! small state. Upper layers append opaque records and learn how far the journal is durable; that one number, the
//! *durable LSN*, is what they wait for. A record's LSN is its place in the endless stream of records, known when it is
//! appended, whichever commit it will travel in.
//!
//! ```text
//! append ─► pending commit ─► take_commit ─► (driver writes and syncs) ─► committed ─► durable LSN
//!                                                  one at a time
//! ```
//!
//! The stream lies in commits, the commits in a ring of equally long files, which are zero-filled once and recycled when
//! a checkpoint holds what they hold, so that a commit changes no file's metadata. [`Writer`] decides what goes where,
//! [`recover`] finds where it ends after a crash and says why that is right, [`checkpoint`] is the container of what
//! replaces the recycled part, [`inspect`] shows a file to people.
//!
//! What it does not do: read or write a file, draw the incarnation's random number, know what a record means, decide
//! when to take a checkpoint.
//!
//! # What the driver owes
//!
//! - Before recovery: files that were not finished are removed, and every journal and checkpoint file is synced, since a
//!   process that was killed may have left its last bytes in the page cache only.
//! - A commit is written and synced before it is `committed`; one that fails is final, and never tried again.
//! - Nothing leaves the node until the writer [`is_settled`](Writer::is_settled).
//! - An idle journal is [sealed](Writer::seal) within 100 ms, and takes a file when it [wants](Writer::wants_slot) one.
//!
//! # What it costs
//!
//! A 400-byte payload takes 456 bytes: a header of 56, one copy, one CRC-32 over it while it is in the cache; memory is
//! allocated once a commit, and reused when the driver has dropped the last one. A commit costs its header of 96 bytes
//! and on average half a block of padding. Commits end at 4 MiB, of which four fill a file of 16 MiB exactly.
//! Recovery reads forward once, at the disk's speed, and beyond the end at most the rest of one file and whatever files
//! have never been used.

mod buffer;
pub mod checkpoint;
mod findings;
mod format;
mod hostile;
mod inspect;
mod malformed;
mod position;
mod recovery;
mod ring;
mod slots;
mod writer;

pub use findings::{Cut, Damage, FileInUse, LastCommit, Record, Recovered, RecoveryError, Start, Visitor};
pub use format::{BLOCK_BYTES, CommitHeader, RECORD_HEADER_BYTES, RecordHeader, RecordKind};
pub use hostile::recover_bytes;
pub use inspect::{Inspect, Seen, inspect};
pub use malformed::Malformed;
pub use position::Position;
pub use recovery::recover;
pub use slots::{MemorySlots, Place, ReadError, Slots, Unreadable};
pub use writer::{Class, Commit, Geometry, Writer};
