//! A client's connections, at most one to each broker.
//!
//! Those that a client is told of by Metadata are the plan's, by number; it needs no address but that. Whom it asks when it
//! does not matter (for topics, for a coordinator) is its *home*: the next broker when that one cannot be reached.

use std::time::Duration;

use chronik_core::rng::Rng;
use chronik_core::time::Instant;
use chronik_core::wire::{Request, Str};

use super::wire::{Got, Wire};
use super::{ClientNow, Happened, Wanted};
use crate::plan::Plan;

/// A broker's number, from 1 on.
pub(super) type Node = u32;

/// One connection to each broker. `T` is what the client remembers of a request.
pub(super) struct Wires<T> {
    /// By number.
    wires: Vec<Wire<T>>,
    home: usize,
    /// A connection was lost, or could not be made, since somebody last asked.
    has_lost: bool,
    got: Vec<Got<T>>,
}

impl<T> Wires<T> {
    /// A client of the plan that gives up what is not answered within `timeout`; it draws under `stream`.
    pub(super) fn new(plan: &Plan, client_id: &str, timeout: Duration, stream: u64) -> Wires<T> {
        let nodes = plan.nodes();
        let jitter = || Rng::from_number(plan.seed);
        let wire = |node| Wire::new(Str::from(client_id), timeout, jitter(), stream).to(node, nodes);
        let home = usize::try_from(stream / 2 % u64::from(nodes)).expect("few brokers");
        Wires { wires: (1..=nodes).map(wire).collect(), home, has_lost: false, got: Vec::new() }
    }

    /// Whether there are several brokers.
    pub(super) fn are_many(&self) -> bool {
        self.wires.len() > 1
    }

    /// All brokers.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> + use<T> {
        1..=Node::try_from(self.wires.len()).expect("few brokers")
    }

    /// Whom it asks when it does not matter.
    pub(super) fn home(&self) -> Node {
        Node::try_from(self.home + 1).expect("few brokers")
    }

    fn wire(&self, node: Node) -> &Wire<T> {
        &self.wires[node as usize - 1]
    }

    fn wire_mut(&mut self, node: Node) -> &mut Wire<T> {
        &mut self.wires[node as usize - 1]
    }

    pub(super) fn is_open(&self, node: Node) -> bool {
        self.wire(node).is_open()
    }

    /// How many requests have no answer, from one broker.
    pub(super) fn in_flight_to(&self, node: Node) -> usize {
        self.wire(node).in_flight()
    }

    /// How many requests have no answer in all.
    pub(super) fn in_flight(&self) -> usize {
        self.wires.iter().map(Wire::in_flight).sum()
    }

    /// Has a connection made where there is none, and tells whether requests may be sent by it.
    pub(super) fn open(&mut self, now: ClientNow, node: Node, wanted: &mut Vec<Wanted>) -> bool {
        self.wire_mut(node).open(now, wanted)
    }

    /// When to step next for the connections' sake; `wants` says which of them the client wants open.
    pub(super) fn wake(&self, wants: impl Fn(Node) -> bool) -> Option<Instant> {
        self.nodes().filter_map(|node| self.wire(node).wake(wants(node))).min()
    }

    pub(super) fn send(
        &mut self,
        now: ClientNow,
        node: Node,
        request: &Request,
        version: i16,
        asked: Option<T>,
        wanted: &mut Vec<Wanted>,
    ) {
        self.wire_mut(node).send(now, request, version, asked, wanted);
    }

    /// The newest request to a broker is waited for so long.
    pub(super) fn wait_for(&mut self, node: Node, timeout: Duration) {
        self.wire_mut(node).wait_for(timeout);
    }

    /// Takes what happened, and says from whom what came.
    pub(super) fn take(
        &mut self,
        now: ClientNow,
        happened: &Happened,
        wanted: &mut Vec<Wanted>,
        got: &mut Vec<(Node, Got<T>)>,
    ) {
        for node in self.nodes() {
            let mut of_it = std::mem::take(&mut self.got);
            self.wire_mut(node).take(now, happened.clone(), wanted, &mut of_it);
            for came in of_it.drain(..) {
                self.note(node, &came);
                got.push((node, came));
            }
            self.got = of_it;
        }
    }

    fn note(&mut self, node: Node, got: &Got<T>) {
        if matches!(got, Got::Lost(_)) {
            self.has_lost = true;
            if node == self.home() {
                self.home = (self.home + 1) % self.wires.len();
            }
        }
    }

    /// Whether one of several brokers could not be reached, or was lost, since this was last asked: what is believed of
    /// them may be old.
    pub(super) fn has_lost(&mut self) -> bool {
        std::mem::take(&mut self.has_lost) && self.are_many()
    }

    /// Records that a broker broke the protocol and ends the connection to it; returns the requests without an answer.
    pub(super) fn broken(
        &mut self,
        now: ClientNow,
        node: Node,
        operation: Option<u32>,
        what: String,
        wanted: &mut Vec<Wanted>,
    ) -> Vec<Got<T>> {
        let mut got = Vec::new();
        self.wire_mut(node).broken(now, operation, what, wanted, &mut got);
        got.iter().for_each(|got| self.note(node, got));
        got
    }

    /// Ends all connections in order; nothing may be unanswered.
    pub(super) fn close(&mut self, wanted: &mut Vec<Wanted>) {
        self.wires.iter_mut().for_each(|wire| wire.close(wanted));
    }

    /// To whom it is connected, for people.
    pub(super) fn describe(&self) -> String {
        let open: Vec<String> = self.nodes().filter(|&node| self.is_open(node)).map(|node| node.to_string()).collect();
        match open.as_slice() {
            [] => "not connected".to_owned(),
            _ if !self.are_many() => "connected".to_owned(),
            open => format!("connected to {}", open.join(", ")),
        }
    }
}
