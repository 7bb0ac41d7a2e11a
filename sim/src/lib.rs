//! Whole brokers through crashes, partitions and failing disks, from one seed.
//!
//! ```text
//!   seed ──► plan ──► engine (clients, network, broker, disk) ──► history ──► claims ──► violations
//!             ▲                                                                 │
//!             └──────────────────────────── shrink ◄────────────────────────────┘
//! ```
//!
//! Two engines carry the same plan out: `core` drives the broker's state machine in an event loop of its own, `madsim`
//! (only under `--cfg madsim`) runs the production shell on simulated sockets and time. Clients, plans and claims know
//! nothing of engines.

pub mod canary;
pub mod claims;
pub mod cli;
pub mod client;
pub mod disk;
pub mod engine;
pub mod history;
pub mod html;
pub mod hunt;
pub mod plan;
pub mod report;
pub mod scenario;
pub mod shrink;
#[cfg(test)]
mod testing;
pub mod trial;
pub mod value;
