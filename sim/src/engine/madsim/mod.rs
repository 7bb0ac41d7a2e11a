//! The production shell, whole, on simulated sockets and time.
//!
//! What engine `core` does itself (framing, backpressure, the node's loop, disk work off the loop, admission, timeouts of
//! silent connections, an orderly stop) is here the shell's own code, put together by
//! [`Server::assemble`](chronik_server::server::Server::assemble). madsim runs its tasks in an order drawn from the seed,
//! so that this engine finds what depends on who is first.
//!
//! ```text
//!  client node ──► wire ──► ServerStream ──► production shell ──► Disk ──► SimDisk
//!  (one machine)   (pipes)  (byte stream)     (broker node)      (latency)
//!                               ▲ call (pipes)
//!                               └──► ServerStream ──► production shell ──► Disk ──► SimDisk
//!                                                        (another broker's)
//!        supervisor: faults, kill, restart, everything heals, audit
//! ```
//!
//! madsim's TCP is a reliable channel of messages without windows, resets or partial writes. So it only makes
//! connections; bytes go by [`Pipe`](super::net::Pipe)s that obey the plan's faults, as in engine `core`: those of clients
//! in `wire`, those between brokers in `calls`. Its files are not used at all.
//!
//! Deliberately absent: clocks that differ from node to node, of which madsim has one for all
//! ([`Engine::adapt`](super::EngineName::adapt) takes them out of a plan); attempts of a broker to connect to another one
//! that nobody answers, which stand and are not greeted, or are refused (`calls` says when); a broker's memory, which
//! engine `core` looks at.

mod arriving;
mod calls;
mod clients;
mod disk;
mod faults;
mod log;
mod machine;
mod process;
mod stream;
mod supervisor;
mod wire;
mod world;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use madsim::Config;
use madsim::runtime::Runtime;
use tokio::sync::mpsc;

use super::{EngineName, Run, Watch};
use crate::plan::Plan;
use world::World;

/// Carries a plan out. To be called once in a process: the order of hash maps, task numbers and what madsim leaks carry
/// over from one run to the next, so only the first one of a process is the same in every process.
///
/// What the engine is not able to do is taken out of the plan ([`EngineName::adapt`]).
///
/// # Panics
/// Where an assertion of the broker does not hold; whoever hunts catches it and reports the claim `no-panic`.
pub fn run(plan: &Plan, watch: &Watch) -> Run {
    let (plan, watch) = (EngineName::Madsim.adapt(plan), watch.clone());
    let runtime = Runtime::with_seed_and_config(plan.seed, Config::default());
    runtime.block_on(async move {
        let (says, said) = mpsc::unbounded_channel();
        let world = Arc::new(World::new(plan, watch, says));
        let _lines = tracing::subscriber::set_default(log::Lines::new(world.clone()));
        supervisor::supervise(world.clone(), said).await;
        world.finish()
    })
}
