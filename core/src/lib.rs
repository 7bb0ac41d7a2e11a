//! The Chronik broker as a deterministic state machine.
//!
//! Nothing here opens a socket or a file, reads a clock, draws a random number or starts a thread: time, chance and
//! completed disk work come in as values, and what must be done goes out as effects. That is what lets one seed
//! replay a whole cluster.

pub mod batch;
pub mod boundary;
pub mod compact;
pub mod config;
pub mod connection;
pub mod controller;
pub mod group;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod log;
pub mod node;
mod partial;
pub mod partition;
pub mod peer;
pub mod raft;
pub mod replication;
pub mod rng;
#[cfg(test)]
mod testing;
pub mod time;
pub mod topic_codecs;
pub mod wait;
pub mod wire;
