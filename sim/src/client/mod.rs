//! Clients as state machines: no socket, no clock, so that both engines and a real network can drive the same ones.
//!
//! A client speaks wire bytes of the project's own codec. It behaves as the clients in the field do: it connects,
//! says ApiVersions, learns topic ids from Metadata, keeps several requests in flight, gives up what takes too long,
//! backs off and tries again. What it is told it checks for form and records in the history.

use bytes::Bytes;
use chronik_core::time::{Instant, Timestamp};

use crate::history::What;

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
    /// Make a connection.
    Connect(Link),
    /// Send bytes.
    Send(Link, Bytes),
    /// End a connection.
    Close(Link),
    /// Step with [`Happened::Timer`] at this instant. Several may be wanted; the engine forgets none.
    WakeAt(Instant),
    /// Record this; the number is that of the operation it belongs to.
    Record(Option<u32>, What),
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
