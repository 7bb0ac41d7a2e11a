//! One node's part in the quorum that replicates the metadata log.
//!
//! [`Quorum`] is a value that is told what happened (a tick, a peer's message, a proposal, a record that reached the
//! disk) and hands out, as [`Ready`], what follows: records for the journal, messages for peers, entries that are
//! committed. It is the one place that knows tikv's `raft` crate, which does the consensus; what it adds is determinism,
//! identity, an encoding of its own, snapshots in pieces, and a door that peers cannot break in (`guard`). It does not
//! know what a payload means, does no I/O, and has no clock: a tick is as long as its owner makes it.
//!
//! ```text
//!             tick, step, propose ──► Quorum ──► take_ready ──► records ──► journal ──┐
//!                                       ▲             ├──► sends ──► peers            │
//!                                       │             └──► committed ──► image        │
//!                                       └────────────────── persisted ◄───────────────┘
//! ```
//!
//! After each call the owner takes every [`Ready`] there is. Records become durable in order, and [`Quorum::persisted`]
//! says how far that is; several may be under way. Messages that promise what a disk must hold are kept back until then.
//!
//! # Roles
//!
//! | from | to | when |
//! |---|---|---|
//! | follower | candidate | it is a voter, no leader was heard of for its election timeout, and its disk has all it was given; or the leader says so |
//! | candidate | leader | a majority, in a joint membership each of the two, grants first a pre-vote and then a vote |
//! | candidate | follower | a leader is heard of, a majority refuses, or a later term is seen |
//! | leader | follower | a later term is seen; no majority was heard of for an election timeout; a membership without its vote is committed |
//!
//! # What the library leaves open, and is closed here
//!
//! - Its election timeouts come from the thread's generator. They are set anew after every call, from seed, member, term
//!   and restart alone.
//! - A sole voter leads before its term is durable, and its messages might leave: a crash would let it lead the same
//!   term again with other entries (KAFKA-10527). They wait for the disk, and so does its taking office.
//! - A leader that was voted out goes on leading, and panics at its next commit. It steps down, and names a successor.
//! - An election that comes due while a snapshot is being written, or entries of a sole voter are, panics. It waits.
//! - Only a leader that was voted out may know that it was, and then nobody is elected any more, since its refusal of a
//!   pre-vote is not heard in a later term. What it says of what is committed is.
//! - Changes of membership count from when they are known to be committed, which a restart may forget. What the log
//!   proves of that is taken from it ([`Restored`]).
//! - Nobody leaves a joint membership if leaders change at the wrong time. Whoever leads and can, does.

pub mod admin;

mod codec;
mod convert;
mod guard;
mod log;
mod membership;
mod message;
mod quorum;
mod ready;
mod record;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;

pub use codec::Malformed;
pub use guard::Refused;
pub use membership::{Change, MAX_MEMBERS, Member, MemberKey, Membership};
pub use message::Message;
pub use quorum::{Declined, Limits, Options, Quorum, ReadId, Role};
pub use ready::Ready;
pub use record::{Content, Entry, Inconsistent, LogId, Record, Restored, SnapshotHead, Vote};
pub use snapshot::SnapshotRead;
pub use status::{PeerStatus, Status};

/// The last term. Kafka's epochs of the metadata log have 31 bits; an election every second fills them in 68 years.
pub const MAX_TERM: u64 = i32::MAX as u64;

/// The last position of a log. Far enough from the end of 64 bits that no sum of two overflows.
pub const MAX_INDEX: u64 = i64::MAX as u64 / 2;
