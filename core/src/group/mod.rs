//! Consumer groups: who reads which partition, and how far each group has come.
//!
//! A [`Coordinator`] answers for the groups of one partition of `__consumer_offsets` while this node leads that
//! partition. What must survive it is written there, in Kafka's record format ([`record`]): committed offsets, the
//! outcome of each rebalance of a classic group, the whole state of a group of the next protocol (KIP-848). What need not
//! survive it is in memory only: members of a classic group that are on their way into a generation, sessions, timers.
//!
//! # Decide, replay, park
//! A request, or a timer, is handed in with a [`Context`]. What it decides comes out as an [`Outcome`]: records, which
//! the node appends as they stand, and replies, which leave when everything that the coordinator has appended so far is
//! committed. So a reply never tells of something that a failover takes back, neither a member's assignment nor somebody
//! else's offset. If an append fails, or another node leads, the coordinator is dropped with all that it holds and built
//! anew from the log: nothing is ever undone.
//!
//! Offsets and groups of the next protocol change by their records alone: whoever decides a record replays it at once, by
//! the same function as a load. A classic group's memory is more than its record says, so it changes as it decides, and
//! only a load replays its record.
//!
//! ```text
//!  request, timer ──► Coordinator ──► Group ──► Offsets
//!                        ▲              ├─────► classic::Group    JoinGroup, SyncGroup, Heartbeat, LeaveGroup
//!  record of the log ────┘              └─────► consumer::Group   ConsumerGroupHeartbeat, and those four for members
//!                                                                 of a group that is being upgraded or downgraded
//! ```
//!
//! What is not here: which partition a group belongs to, appends, loads, parking (the node).

pub mod classic;
pub mod consumer;
mod context;
mod coordinator;
mod offsets;
pub mod protocol;
mod question;
pub mod record;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod timers;

pub use context::{Context, Outcome, Topics, Written};
pub use coordinator::{Coordinator, Reached, Seen, Stop, Surroundings, partition_of};
pub use offsets::FetchStop;
pub use question::{Finding, Question};
pub use settings::{Migration, Settings};
pub use timers::{Timer, TimerKind, Timers};
