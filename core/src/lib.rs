//! The Chronik broker as a deterministic state machine.
//!
//! Nothing here opens a socket or a file, reads a clock, draws a random number or starts a thread: time, chance and
//! completed disk work come in as values, and what must be done goes out as effects. That is what lets one seed
//! replay a whole cluster.

pub mod batch;
pub mod config;
pub mod controller;
pub mod ids;
pub mod journal;
pub mod rng;
pub mod time;
pub mod wire;
