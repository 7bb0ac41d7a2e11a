//! What brokers of one cluster say to each other, and its bytes.
//!
//! One connection for each pair and direction; who dials, sends. A message is one frame (`frame`), declared once as a
//! table (`messages`) from which struct, encoder and decoder follow. What concerns partitions is a list in one message:
//! all that a turn of the node has for one peer leaves together.
//!
//! ```text
//! dialler                                listener
//! Hello ───────────────────────────────────►      first, and nothing before its answer
//!      ◄─────────────────────── Welcome, Refused  the only frames that ever come back on this connection
//! Begun ───────────────────────────────────►      from now on the dialler can be answered
//! Metadata, Register, Heartbeat, ... ──────►      the answers to these come by the connection the other way
//! Greet, Cut, Append ──────────────────────►      by a partition's leader
//! Epochs, CutDone, Acked, Mismatch ────────►      by its follower
//! ```
//!
//! Decoding is total: no bytes make it panic, and a list is believed only as far as the bytes that are there could hold
//! it. What it takes has one encoding, so that what was read and is written again is the same bytes. Batches are slices
//! of the frame, and a frame to be sent is a list of slices in which they are not copied.
//!
//! A connection is a machine without a socket or a clock: [`Dialler`] on the side that dials, [`Acceptor`] on the other.
//! They check that each is whom the other means (`greeting`), and the accepting side that batches are what they say they
//! are. A driver moves their bytes, keeps time, and dials again.
//!
//! Not here: what a message means (`replication`, `raft`, `controller`).

mod acceptor;
mod dialler;
mod ended;
mod field;
mod frame;
mod greeting;
mod malformed;
mod messages;
mod pieces;
mod stream;
#[cfg(test)]
mod tests;

pub use acceptor::Acceptor;
#[cfg(test)]
pub(crate) use acceptor::listen;
pub use dialler::Dialler;
pub use ended::Ended;
pub use field::Batches;
pub use frame::{FRAME_BYTES_MAX, HEADER_BYTES, HELLO_BYTES_MAX, Header, decode, encode, header};
pub use greeting::{FORMAT_FIRST, FORMAT_LAST, may_answer};
pub use malformed::Malformed;
pub use messages::*;
