//! What carries a plan out.

mod abilities;
mod chance;
pub mod core;
#[cfg(madsim)]
pub mod madsim;
mod members;
mod net;
mod node;
pub mod real;
mod standings;
#[cfg(test)]
mod testing;
mod work;

use std::collections::BTreeMap;

use chronik_core::time::Instant;

use crate::history::{COUNTED, History};
use crate::plan::Plan;

pub use abilities::EngineName;

/// A process that ended by itself is started again after this, in milliseconds, as a supervisor would.
const RESTART_MS: u64 = 200;

/// How long the auditor may take at the end, in milliseconds, for each broker: it reads what every one of them holds.
const AUDIT_MS: u64 = 60_000;

/// How long the auditor of this plan may take, in milliseconds.
fn audit_ms(plan: &Plan) -> u64 {
    AUDIT_MS * u64::from(plan.nodes())
}

/// A millisecond, in nanoseconds.
const MS: u64 = 1_000_000;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What happened.
    pub history: History,
    /// A number that two runs of one plan share, and two different runs do not.
    pub digest: u64,
    /// How many events the engine went through.
    pub events: u64,
    /// How much time passed in the simulation.
    pub simulated: Instant,
    /// How often each kind of fault took effect, and other rare things happened, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// The timeline, where it was asked for.
    pub trace: Vec<Traced>,
    /// Everybody's state after [`Watch::print_at`], where it was asked for: a text of one or more lines each.
    pub state: Vec<(Lane, String)>,
}

/// What [`Run::counters`] may count. Each of them should happen in a long hunt: what never took effect was not tested.
pub const COUNTERS: [&str; FAULTS.len() + COUNTED.len()] = {
    let mut all = [""; FAULTS.len() + COUNTED.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < FAULTS.len() { FAULTS[at] } else { COUNTED[at - FAULTS.len()] };
        at += 1;
    }
    all
};

/// What is counted of faults.
const FAULTS: [&str; 48] = [
    "clock_step",
    "compacted_reads",
    "connect_refused",
    "connect_unanswered",
    "crash",
    "crash_in_compaction",
    "crash_in_disk_work",
    "crash_in_recovery",
    "delay",
    "disk_bit_flipped",
    "disk_create_lost",
    "disk_index_truncated",
    "disk_no_space",
    "disk_power_losses",
    "disk_read_failed",
    "disk_remove_lost",
    "disk_reordered",
    "disk_reordered_across_files",
    "disk_sector_lost",
    "disk_slow",
    "disk_stalled",
    "disk_sync_failed",
    "disk_sync_lied",
    "disk_tail_lost",
    "disk_torn_4096",
    "disk_torn_512",
    "disk_truncate_lost",
    "disk_write_failed",
    "disk_write_misdirected",
    "fatal",
    "fragment",
    "half_open",
    "isolated",
    "link_ended",
    "link_given_up",
    "link_muted",
    "link_refused",
    "link_reset",
    "link_slow",
    "link_unanswered",
    "mute_to_client",
    "mute_to_server",
    "pause",
    "power_loss",
    "power_loss_in_recovery",
    "reset",
    "restart",
    "slow_reader",
];

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The event's number.
    pub event: u64,
    /// When.
    pub at: Instant,
    /// Where it happened.
    pub lane: Lane,
    /// Where a message came from, if it was one.
    pub from: Option<Lane>,
    /// When that was sent.
    pub sent_at: Option<Instant>,
    /// What, in one line.
    pub text: String,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A broker, by its number.
    Node(u32),
    /// A broker's disk.
    Disk(u32),
    /// A client, by its index.
    Client(u32),
    /// What goes wrong.
    Fault,
}

/// What to watch for during a run.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Keep the timeline.
    pub trace: bool,
    /// Stop before this event.
    pub until: Option<u64>,
    /// Describe everybody's state when this event has happened.
    pub print_at: Option<u64>,
}
