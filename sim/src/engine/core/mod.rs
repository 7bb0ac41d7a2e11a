//! The event loop around the broker's state machine: fast, and in charge of every event.
//!
//! One queue of events in order of time, ties in the order in which they were planned. Clients, network, disk and
//! process are values in one `World`; nothing happens but by an event, and each event is counted, goes into the
//! digest, and is told to the timeline if somebody watches.
//!
//! ```text
//!  client ──Send──► pipe ──► connection ──requests──► node ──effects──► disk
//!    ▲                          (pass)                 │                  │
//!    └────────── pipe ◄── answers ─────────────────────┘◄──── done ───────┘
//! ```
//!
//! Of several brokers each has a machine of its own, with disk, clocks and process. What they say to each other travels by
//! the routes between them (`routes`).
//!
//! What the shell does in production besides (timeouts of silent connections, budgets, admission) is not here: engine
//! `madsim` runs the shell itself.

mod faults;
mod machine;
mod network;
mod pass;
mod process;
mod routes;
mod world;

#[cfg(test)]
mod tests;

use super::{Run, Watch};
use crate::plan::Plan;

/// Carries a plan out.
///
/// # Panics
/// Where an assertion of the broker does not hold; whoever hunts catches it and reports the claim `no-panic`.
pub fn run(plan: &Plan, watch: &Watch) -> Run {
    world::World::new(plan, watch).run()
}
