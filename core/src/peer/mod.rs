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
//! Metadata, Register, Heartbeat, ... ──────►      the answers to these come by the connection the other way
//! Greet, Cut, Append ──────────────────────►      by a partition's leader
//! Epochs, CutDone, Acked, Mismatch ────────►      by its follower
//! ```
//!
//! Decoding is total: no bytes make it panic, and a list is believed only as far as the bytes that are there could hold
//! it. What it takes has one encoding, so that what was read and is written again is the same bytes. Batches are slices
//! of the frame, and a frame to be sent is a list of slices in which they are not copied.
//!
//! Not here: what a message means (`replication`, `raft`, `controller`), and whether batches are what they say they are,
//! which the connection that received them checks by their own checksums.

mod field;
mod frame;
mod malformed;
mod messages;
#[cfg(test)]
mod tests;

pub use field::Batches;
pub use frame::{FRAME_BYTES_MAX, HEADER_BYTES, HELLO_BYTES_MAX, Header, decode, encode, header};
pub use malformed::Malformed;
pub use messages::*;
