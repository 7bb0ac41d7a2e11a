//! Clients as state machines: no socket, no clock, so that both engines and a real network can drive the same ones.
//!
//! A client speaks wire bytes of the project's own codec. It behaves as the clients in the field do: it connects,
//! says ApiVersions, learns topic ids from Metadata, keeps several requests in flight, gives up what takes too long,
//! backs off and tries again. What it is told it checks for form and records in the history.

mod admin;
mod asking;
mod auditor;
mod caller;
mod cluster_admin;
mod consumer;
mod garbage;
mod group;
mod hostile;
mod lane;
mod producer;
mod reading;
mod schedule;
#[cfg(test)]
mod tests;
mod topics;
mod wire;
mod wires;

use std::time::Duration;

use bytes::Bytes;
use chronik_core::time::{Instant, Timestamp};

use crate::history::{ClientId, Order, What};
use crate::plan::{ClientKind, Plan};

pub use garbage::MISDEEDS;

/// Names one of a client's connections; a client counts up and never uses a number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub u32);

/// What happens to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The run begins.
    Started,
    /// A connection is there.
    Connected(Link),
    /// A connection could not be made.
    Refused(Link),
    /// Bytes came, as many as happened to.
    Received(Link, Bytes),
    /// The other side, or the network, ended a connection. A connection that never says so is the client's to give up.
    Lost(Link),
    /// A timer is due. One that the client no longer wants it ignores.
    Timer,
    /// All faults are over: whatever was not sent yet is sent now, and nothing new is begun that the plan does not ask
    /// for.
    Healed,
}

/// What a client wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Make a connection to the broker of this number.
    Connect(Link, u32),
    /// Send bytes.
    Send(Link, Bytes),
    /// End a connection.
    Close(Link),
    /// Step with [`Happened::Timer`] at this instant. Several may be wanted; the engine forgets none.
    WakeAt(Instant),
    /// Record this; the number is that of the operation it belongs to.
    Record(Option<u32>, What),
    /// Do this to the broker of this number, as whoever runs its machine would.
    Order(u32, Order),
}

/// The time as a client sees it.
#[derive(Clone, Copy, Debug)]
pub struct ClientNow {
    /// True simulated time.
    pub instant: Instant,
    /// The client's wall clock.
    pub wall: Timestamp,
}

/// A client.
pub trait Client {
    /// Takes one thing that happened and pushes what is wanted.
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>);

    /// Whether it has nothing more to do.
    fn is_done(&self) -> bool;

    /// One line about its state, for a person who looks at one moment of a run.
    fn describe(&self) -> String;
}

/// The client of this number in the plan.
///
/// # Panics
/// Where the plan has no such client.
pub fn machine(plan: &Plan, client: ClientId) -> Box<dyn Client> {
    let planned = &plan.clients[client.0 as usize];
    let operations = &planned.operations;
    let milliseconds = Duration::from_millis;
    match planned.kind {
        ClientKind::Producer {
            is_idempotent,
            acks,
            in_flight_max,
            request_timeout_ms,
            delivery_timeout_ms,
            version,
            first_sequence,
            late_ms_max,
        } => {
            let settings = producer::Settings {
                is_idempotent,
                acks: if is_idempotent { -1 } else { acks },
                in_flight_max: if is_idempotent { in_flight_max.clamp(1, 5) } else { in_flight_max.max(1) },
                request_timeout: milliseconds(request_timeout_ms),
                delivery_timeout: milliseconds(delivery_timeout_ms),
                version,
                first_sequence: first_sequence.max(0),
                late_ms_max,
            };
            Box::new(producer::Producer::new(plan, client.0, settings, operations))
        }
        ClientKind::Consumer {
            request_timeout_ms,
            max_wait_ms,
            min_bytes,
            max_bytes,
            partition_max_bytes,
            uses_session,
            is_read_committed,
            version,
        } => {
            let settings = consumer::Settings {
                request_timeout: milliseconds(request_timeout_ms),
                max_wait_ms,
                min_bytes,
                max_bytes,
                partition_max_bytes,
                uses_session,
                is_read_committed,
                version,
            };
            Box::new(consumer::Consumer::new(plan, client.0, settings, operations))
        }
        ClientKind::Admin { request_timeout_ms } => {
            Box::new(admin::Admin::new(plan, client.0, milliseconds(request_timeout_ms), operations))
        }
        ClientKind::Hostile => Box::new(hostile::Hostile::new(plan, client.0, operations)),
        ClientKind::Member {
            group,
            protocol,
            instance,
            session_timeout_ms,
            rebalance_timeout_ms,
            heartbeat_ms,
            request_timeout_ms,
            ref topics,
            uses_regex,
            age,
        } => {
            let settings = group::Settings {
                group,
                protocol,
                instance,
                session_timeout: milliseconds(session_timeout_ms),
                rebalance_timeout: milliseconds(rebalance_timeout_ms),
                heartbeat: milliseconds(heartbeat_ms.max(1)),
                request_timeout: milliseconds(request_timeout_ms),
                uses_regex,
                age,
            };
            Box::new(group::Member::new(plan, client.0, settings, topics, operations))
        }
        ClientKind::GroupAdmin { request_timeout_ms } => {
            Box::new(group::GroupAdmin::new(plan, client.0, milliseconds(request_timeout_ms), operations))
        }
        ClientKind::ClusterAdmin { request_timeout_ms } => {
            Box::new(cluster_admin::ClusterAdmin::new(plan, client.0, milliseconds(request_timeout_ms), operations))
        }
    }
}

/// Who creates the plan's topics before all else; it goes on until it has succeeded. It starts with
/// [`Happened::Started`].
pub fn setup(plan: &Plan) -> Box<dyn Client> {
    Box::new(admin::Admin::setup(plan))
}

/// Who reads every partition when all has healed. It begins with [`Happened::Healed`].
pub fn auditor(plan: &Plan) -> Box<dyn Client> {
    Box::new(auditor::Auditor::new(plan))
}

/// The stream of random numbers that belongs to a client, and the one after it.
fn stream(index: u32) -> u64 {
    const CLIENTS: u64 = 1 << 40;
    CLIENTS + 2 * u64::from(index)
}
