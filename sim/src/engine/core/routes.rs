//! What brokers say to each other: who dials whom, what travels and when, and how either end learns of the other's.
//!
//! A route goes from one machine to another, and there are two for each pair: who dials, speaks. On a route there is one
//! *call* at a time, a connection from the attempt on; older ones of it may linger at the end that was dialled, which is
//! not told when the other machine is gone or nothing gets through.
//!
//! ```text
//!  none ──dial──► ringing ──latency──► greeting ──Welcome──► speaking
//!   ▲                │ refused            │ refused             │ reset, nothing acknowledged for long, another process
//!   └── a while ─────┴────────────────────┴─────────────────────┘
//! ```
//!
//! What the two ends do with bytes is the core's own ([`Dialler`], [`Acceptor`]); when to dial again and how long to wait
//! is the driver's, here as in the shell.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_core::boundary::{Neighbours, PeerInput};
use chronik_core::ids::NodeId;
use chronik_core::peer::{Acceptor, Dialler, Message};
use chronik_core::time::Instant;
use chronik_core::wire::Writer;

use super::process::Arrival;
use super::world::{Ending, Event, World};
use crate::engine::MS;
use crate::engine::chance::{Chance, LINKS};
use crate::engine::net::{Flight, Pipe, Weather};
pub(super) use lines::Line;

/// A call that was refused or lost is made again after this, and up to as long again, in nanoseconds.
const REDIAL_NANOS: u64 = 50 * MS;
/// A call that nobody answers, or on which nothing gets through, is given up after this, in nanoseconds.
const PATIENCE_NANOS: u64 = 3_000 * MS;

/// From one machine to another.
pub(super) struct Route {
    from: usize,
    to: usize,
    /// Calls by their number, of which the newest is the one that is spoken on.
    calls: BTreeMap<u64, Call>,
    made: u64,
    /// A call has stood since it was last told that nobody listens.
    has_stood: bool,
    /// When the next one is made, if that is planned.
    dials_at: Option<Instant>,
}

/// A connection between two brokers.
struct Call {
    /// The end that speaks.
    dialler: Option<Dialler>,
    /// The end that listens.
    acceptor: Option<Acceptor>,
    /// Which process has answered, as far as the dialler knows.
    answered_by: Option<u64>,
    there: Pipe,
    back: Pipe,
    /// How many bytes have arrived at the acceptor.
    heard_bytes: u64,
    /// The dialler has ended in order: the acceptor is told after the last byte.
    is_closing: bool,
}

/// What happens on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is time to make a call.
    Dial,
    /// The attempt arrives.
    Rings(u64),
    /// It was taken.
    Taken(u64),
    /// The oldest bytes on their way to the acceptor arrive.
    There(u64),
    /// The oldest bytes on their way to the dialler arrive.
    Back(u64),
    /// The dialler learns that the connection is gone.
    Lost(u64),
    /// The dialler learns that nobody listens.
    Refused(u64),
    /// The dialler looks whether anything has got through; so much had when it looked last.
    Checks(u64, u64),
}

impl Step {
    /// For the digest.
    pub(super) fn key(self) -> u64 {
        match self {
            Step::Dial => 1,
            Step::Rings(call) => call << 4 | 2,
            Step::Taken(call) => call << 4 | 3,
            Step::There(call) => call << 4 | 4,
            Step::Back(call) => call << 4 | 5,
            Step::Lost(call) => call << 4 | 6,
            Step::Checks(call, _) => call << 4 | 7,
            Step::Refused(call) => call << 4 | 8,
        }
    }
}

/// All routes between so many machines, those of each in a row.
pub(super) fn routes(machines: usize) -> Vec<Route> {
    let pair = |from| (0..machines).map(move |to| (from, to));
    let route = |(from, to)| Route { from, to, calls: BTreeMap::new(), made: 0, has_stood: false, dials_at: None };
    (0..machines).flat_map(pair).map(route).collect()
}

impl World<'_> {
    fn place(&self, from: usize, to: usize) -> usize {
        from * self.machines.len() + to
    }

    fn route_chance(&self, route: usize, call: u64, stream: u64) -> Chance {
        self.chance.keyed(LINKS).keyed(route as u64).keyed(call).keyed(stream)
    }

    /// How long one way takes.
    fn way(&self, route: usize, call: u64, stream: u64) -> u64 {
        let cluster = self.plan.cluster.as_ref().expect("there are several machines");
        let network = &cluster.network;
        self.route_chance(route, call, stream).between(network.latency_us_min * 1000, network.latency_us_max * 1000)
    }

    fn line(&self, from: usize, to: usize) -> Line {
        self.lines[self.place(from, to)]
    }

    fn step_after(&mut self, nanos: u64, route: usize, step: Step) {
        self.plan_after(nanos, Event::Route(route, step));
    }

    /// The node says whom it talks to from now on. Once it knows of which cluster it is, it introduces itself to all anew.
    pub(super) fn keep_routes(&mut self, machine: usize, neighbours: Arc<Neighbours>) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let me = neighbours.me.clone();
        if process.neighbours.replace(neighbours).is_some_and(|was| was.me != me) {
            self.end_standing_calls(machine);
        }
        for to in 0..self.machines.len() {
            let route = self.place(machine, to);
            if !self.is_kept(route) {
                self.hang_up(route);
            } else if self.routes[route].newest().is_none() {
                self.dial_after(route, 0);
            }
        }
    }

    /// All calls of a machine end in order, made by it and to it.
    fn end_standing_calls(&mut self, machine: usize) {
        for other in 0..self.machines.len() {
            let (there, back) = (self.place(machine, other), self.place(other, machine));
            let is_speaking = |(_, at): (u64, &mut Call)| at.dialler.as_ref().is_some_and(Dialler::is_speaking);
            if self.routes[there].newest().is_some_and(is_speaking) {
                self.tell(machine, PeerInput::Disconnected(self.node_id(other)));
            }
            self.hang_up(there);
            let answered = self.routes[back].calls.iter().filter(|(_, at)| at.acceptor.is_some());
            let answered: Vec<u64> = answered.map(|(&call, _)| call).collect();
            answered.into_iter().for_each(|call| self.end_acceptor(back, call));
        }
    }

    /// Whether the node at its beginning wants this route.
    fn is_kept(&self, route: usize) -> bool {
        let Route { from, to, .. } = self.routes[route];
        let process = self.machines[from].process.as_ref();
        let neighbours = process.and_then(|process| process.neighbours.as_ref());
        from != to && neighbours.is_some_and(|neighbours| neighbours.peers.contains_key(&self.node_id(to)))
    }

    fn node_id(&self, machine: usize) -> NodeId {
        NodeId(i32::try_from(self.machines[machine].number).expect("few brokers"))
    }

    fn dial_after(&mut self, route: usize, nanos: u64) {
        let at = Instant(self.now.0 + nanos);
        if self.routes[route].dials_at.is_none_or(|planned| at < planned) {
            self.routes[route].dials_at = Some(at);
            self.plan_at(at, Event::Route(route, Step::Dial));
        }
    }

    fn redial(&mut self, route: usize) {
        let made = self.routes[route].made;
        let jitter = self.route_chance(route, made, 10).below(REDIAL_NANOS);
        self.dial_after(route, REDIAL_NANOS + jitter);
    }

    pub(super) fn step_route(&mut self, route: usize, step: Step) {
        match step {
            Step::Dial => self.dial(route),
            Step::Rings(call) => self.rings(route, call),
            Step::Taken(call) => self.taken(route, call),
            Step::There(call) => self.carry_there(route, call),
            Step::Back(call) => self.carry_back(route, call),
            Step::Lost(call) => self.lost(route, call),
            Step::Refused(call) => self.refused(route, call),
            Step::Checks(call, got) => self.checks(route, call, got),
        }
    }

    fn dial(&mut self, route: usize) {
        self.routes[route].dials_at = None;
        let Route { from, to, .. } = self.routes[route];
        if !self.is_kept(route) || self.routes[route].newest().is_some() {
            return;
        }
        let process = self.machines[from].process.as_ref().expect("its route is kept");
        let neighbours = process.neighbours.as_ref().expect("its route is kept");
        let id = self.node_id(to);
        let dialler = Dialler::new(neighbours.me.clone(), id, neighbours.peers[&id].directory_id);
        let at = &mut self.routes[route];
        at.made += 1;
        let call = at.made;
        let made = Call {
            dialler: Some(dialler),
            acceptor: None,
            answered_by: None,
            there: Pipe::default(),
            back: Pipe::default(),
            heard_bytes: 0,
            is_closing: false,
        };
        at.calls.insert(call, made);
        self.step_after(self.way(route, call, 1), route, Step::Rings(call));
        self.step_after(PATIENCE_NANOS, route, Step::Checks(call, 0));
    }

    fn rings(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        if !self.routes[route].calls.contains_key(&call) {
            return;
        }
        let (there, back) = (self.line(from, to), self.line(to, from));
        if there.is_muted || back.is_muted || self.machines[to].is_down {
            self.count("link_unanswered");
            return;
        }
        let after = self.way(route, call, 2);
        // A process that has not said yet whom it talks to does not listen.
        let process = self.machines[to].process.as_ref().filter(|_| !there.refuses);
        let listens = process.is_some_and(|process| process.neighbours.is_some());
        let call_there = self.routes[route].calls.get_mut(&call).expect("it was just there");
        if listens {
            call_there.acceptor = Some(Acceptor::new());
            self.step_after(after, route, Step::Taken(call));
        } else {
            self.step_after(after, route, Step::Refused(call));
        }
    }

    /// Nobody listens at the other end. Where that one's own call stands here, it is there all the same.
    fn refused(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        let back = self.place(to, from);
        let is_called = self.routes[back].calls.values().any(|call| call.acceptor.is_some());
        if !is_called && self.routes[route].has_stood && self.routes[route].calls.contains_key(&call) {
            self.routes[route].has_stood = false;
            self.count("link_refused");
            self.tell(from, PeerInput::Gone(self.node_id(to)));
        }
        self.lost(route, call);
    }

    fn taken(&mut self, route: usize, call: u64) {
        let Some(at) = self.routes[route].calls.get_mut(&call) else { return };
        let Some(dialler) = &at.dialler else { return };
        for piece in dialler.hello(&mut Writer::new()) {
            at.there.push(piece);
        }
        self.pump_there(route, call);
    }

    /// Says something where a call stands; else it is lost.
    pub(super) fn say(&mut self, machine: usize, to: NodeId, message: Message) {
        let Some(to) = (0..self.machines.len()).find(|&other| self.node_id(other) == to) else { return };
        let route = self.place(machine, to);
        self.trace(self.machines[machine].lane(), None, |world| {
            format!("says to node {}: {}", world.node_id(to), brief(&message))
        });
        let Some((call, at)) = self.routes[route].newest() else { return };
        let Some(dialler) = at.dialler.as_ref().filter(|dialler| dialler.is_speaking()) else { return };
        let mut pieces = Vec::new();
        dialler.say(message, &mut Writer::new(), &mut pieces);
        for piece in pieces {
            at.there.push(piece);
        }
        self.pump_there(route, call);
    }

    fn pump_there(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        if let Some(due) = self.pump(route, call, (from, to), 3, |call| &mut call.there) {
            self.plan_at(due, Event::Route(route, Step::There(call)));
        }
    }

    fn pump_back(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        if let Some(due) = self.pump(route, call, (to, from), 4, |call| &mut call.back) {
            self.plan_at(due, Event::Route(route, Step::Back(call)));
        }
    }

    fn pump(
        &mut self,
        route: usize,
        call: u64,
        (from, to): (usize, usize),
        stream: u64,
        pipe: impl FnOnce(&mut Call) -> &mut Pipe,
    ) -> Option<Instant> {
        let weather = Weather { delay: self.line(from, to).late, ..Weather::default() };
        let chance = self.route_chance(route, call, stream);
        let network = &self.plan.cluster.as_ref().expect("there are several machines").network;
        pipe(self.routes[route].calls.get_mut(&call)?).pump(self.now, network, &weather, chance)
    }

    fn carry_there(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        // When it can be heard again, or its machine goes on, the pipe is looked at again.
        if self.line(from, to).is_muted || self.machines[to].is_down {
            return;
        }
        if self.machines[to].paused_until > self.now {
            self.plan_at(self.machines[to].paused_until, Event::Route(route, Step::There(call)));
            return;
        }
        while let Some(flight) = self.routes[route].arrived_there(call, self.now) {
            let bytes = flight.bytes.len();
            self.digest(bytes as u64);
            let lanes = (self.machines[from].lane(), self.machines[to].lane());
            self.trace(lanes.1, Some((lanes.0, flight.sent_at)), |_| format!("{bytes} bytes of a broker arrive"));
            if !self.listen(route, call, &flight.bytes) {
                return;
            }
        }
        let Some(at) = self.routes[route].calls.get_mut(&call) else { return };
        match at.there.due() {
            Some(due) => self.plan_at(due, Event::Route(route, Step::There(call))),
            None if at.is_closing && at.there.is_empty() => self.end_acceptor(route, call),
            None => self.pump_there(route, call),
        }
    }

    /// The acceptor takes bytes. Returns whether the call goes on.
    fn listen(&mut self, route: usize, call: u64, bytes: &[u8]) -> bool {
        let to = self.routes[route].to;
        let at = self.routes[route].calls.get_mut(&call).expect("bytes have arrived on it");
        at.heard_bytes += bytes.len() as u64;
        let process = self.machines[to].process.as_mut();
        let heard = match (&mut at.acceptor, process) {
            (Some(acceptor), Some(process)) if process.neighbours.is_some() => {
                let neighbours = process.neighbours.as_ref().expect("it was just looked at");
                let mut heard = Vec::new();
                let result = acceptor.receive(bytes, neighbours, &mut heard);
                for piece in acceptor.answer(&mut Writer::new()).into_iter().flatten() {
                    at.back.push(piece);
                }
                let arrived = heard.iter().find_map(|input| match input {
                    PeerInput::Arrived(peer) => Some(peer.process),
                    _ => None,
                });
                process.mailbox.extend(heard.into_iter().map(|input| Arrival::Peer(Box::new(input))));
                result.map(|()| arrived)
            }
            // Nobody is there any more: whoever sends is told.
            _ => {
                self.reset_dialler(route, call);
                return false;
            }
        };
        self.pump_back(route, call);
        self.plan_pass(to);
        match heard {
            Ok(Some(process)) => {
                // Nothing more is heard from older calls.
                let older: Vec<u64> = self.routes[route].calls.range(..call).map(|(&call, _)| call).collect();
                older.into_iter().for_each(|call| self.end_acceptor(route, call));
                self.greet_back(route, process);
                true
            }
            Ok(None) => true,
            Err(why) => {
                self.count("link_ended");
                self.trace(self.machines[to].lane(), None, |_| format!("a broker's connection ends: {why}"));
                // Its refusal, if it has one, arrives before its end.
                if let Some(at) = self.routes[route].calls.get_mut(&call) {
                    at.acceptor = None;
                    if at.back.is_empty() {
                        self.reset_dialler(route, call);
                    }
                }
                false
            }
        }
    }

    /// Whoever was called sees to it that it speaks to the very process that has called: one before it that lost its power
    /// never said that its end is gone.
    fn greet_back(&mut self, route: usize, process: u64) {
        let Route { from, to, .. } = self.routes[route];
        let back = self.place(to, from);
        let Some((call, at)) = self.routes[back].newest() else {
            if self.is_kept(back) {
                self.dial_after(back, 0);
            }
            return;
        };
        if at.answered_by.is_some_and(|answered_by| answered_by != process) {
            self.lost(back, call);
        }
    }

    /// The acceptor's end goes; whoever is at the other one is told, unless nothing gets there.
    fn end_acceptor(&mut self, route: usize, call: u64) {
        let Some(at) = self.routes[route].calls.get_mut(&call) else { return };
        at.acceptor = None;
        if at.dialler.is_some() {
            self.reset_dialler(route, call)
        } else {
            drop(self.routes[route].calls.remove(&call))
        }
    }

    fn reset_dialler(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        let Some(at) = self.routes[route].calls.get_mut(&call) else { return };
        at.there.forget();
        if at.dialler.is_none() {
            self.routes[route].calls.remove(&call);
        } else if !self.line(to, from).is_muted {
            self.step_after(self.way(route, call, 5), route, Step::Lost(call));
        }
    }

    fn carry_back(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        if self.line(to, from).is_muted || self.machines[from].is_down {
            return;
        }
        while let Some(flight) = self.routes[route].arrived_back(call, self.now) {
            let at = self.routes[route].calls.get_mut(&call).expect("bytes have arrived on it");
            let Some(dialler) = &mut at.dialler else { continue };
            match dialler.receive(&flight.bytes) {
                Ok(told) => {
                    if let Some(told) = told {
                        if let PeerInput::Connected(peer) = &told {
                            at.answered_by = Some(peer.process);
                        }
                        for piece in dialler.begun(&mut Writer::new()) {
                            at.there.push(piece);
                        }
                        self.routes[route].has_stood = true;
                        self.tell(from, told);
                        self.pump_there(route, call);
                    }
                }
                Err(why) => {
                    self.trace(self.machines[from].lane(), None, |_| format!("a broker will not talk: {why}"));
                    if let Some(refused) = why.refused() {
                        self.tell(from, PeerInput::Refused(self.node_id(to), refused.clone()));
                    }
                    self.lost(route, call);
                    return;
                }
            }
        }
        let Some(at) = self.routes[route].calls.get_mut(&call) else { return };
        match at.back.due() {
            Some(due) => self.plan_at(due, Event::Route(route, Step::Back(call))),
            None if at.acceptor.is_none() => self.lost(route, call),
            None => self.pump_back(route, call),
        }
    }

    fn tell(&mut self, machine: usize, input: PeerInput) {
        if let Some(process) = &mut self.machines[machine].process {
            process.mailbox.push_back(Arrival::Peer(Box::new(input)));
            self.plan_pass(machine);
        }
    }

    /// The dialler's end learns that the connection is gone, and dials again.
    fn lost(&mut self, route: usize, call: u64) {
        let Route { from, to, .. } = self.routes[route];
        let Some(at) = self.routes[route].calls.get_mut(&call) else { return };
        let Some(dialler) = at.dialler.take() else { return };
        at.there.forget();
        at.back.forget();
        if at.acceptor.is_none() {
            self.routes[route].calls.remove(&call);
        }
        if dialler.is_speaking() {
            self.tell(from, PeerInput::Disconnected(self.node_id(to)));
        }
        self.redial(route);
    }

    /// Whether what was said is acknowledged; where nothing is for long, the system gives a connection up.
    fn checks(&mut self, route: usize, call: u64, got: u64) {
        let Some(at) = self.routes[route].calls.get_mut(&call) else { return };
        let Some(dialler) = &at.dialler else { return };
        let waits = !dialler.is_speaking() || !at.there.is_empty();
        let gets = at.heard_bytes;
        if waits && gets == got {
            self.count("link_given_up");
            self.lost(route, call);
        } else {
            self.step_after(PATIENCE_NANOS, route, Step::Checks(call, gets));
        }
    }

    /// The dialler wants the route no more.
    fn hang_up(&mut self, route: usize) {
        let Some((call, at)) = self.routes[route].newest() else { return };
        at.dialler = None;
        at.is_closing = true;
        if at.there.is_empty() {
            self.end_acceptor(route, call);
        }
    }

    /// A process is gone, and with it its ends of all calls.
    pub(super) fn end_calls(&mut self, machine: usize, ending: Ending) {
        for route in 0..self.routes.len() {
            let Route { from, to, .. } = self.routes[route];
            let calls: Vec<u64> = self.routes[route].calls.keys().copied().collect();
            for call in calls {
                let at = self.routes[route].calls.get_mut(&call).expect("it was just there");
                if from == machine && at.dialler.take().is_some() {
                    match ending {
                        // The other side is never told.
                        Ending::PowerLost => at.there.forget(),
                        Ending::Killed | Ending::Stopped => {
                            at.there.forget_unsent();
                            at.is_closing = true;
                        }
                    }
                    if at.acceptor.is_none() || at.is_closing && at.there.is_empty() {
                        self.routes[route].calls.remove(&call);
                    }
                } else if to == machine && at.acceptor.take().is_some() {
                    at.back.forget();
                    if ending != Ending::PowerLost || at.dialler.is_none() {
                        self.reset_dialler(route, call);
                    }
                }
            }
        }
    }

    /// A line about the calls that begin at a machine; `None` where it has no peers.
    pub(super) fn describe_routes(&self, machine: usize) -> Option<String> {
        let of_it = self.routes.iter().filter(|route| route.from == machine && route.to != machine);
        let speaks = |route: &Route| {
            let newest = route.calls.last_key_value().and_then(|(_, call)| call.dialler.as_ref());
            let state = match newest {
                None => "no call",
                Some(dialler) if dialler.is_speaking() => "speaks",
                Some(_) => "dials",
            };
            format!("to n{}: {state}", self.machines[route.to].number)
        };
        let lines: Vec<String> = of_it.map(speaks).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

impl Route {
    /// The call that is spoken on, if there is one.
    fn newest(&mut self) -> Option<(u64, &mut Call)> {
        let (&call, at) = self.calls.iter_mut().next_back()?;
        at.dialler.is_some().then_some((call, at))
    }

    fn arrived_there(&mut self, call: u64, now: Instant) -> Option<Flight> {
        arrived(&mut self.calls.get_mut(&call)?.there, now)
    }

    fn arrived_back(&mut self, call: u64, now: Instant) -> Option<Flight> {
        arrived(&mut self.calls.get_mut(&call)?.back, now)
    }
}

/// The oldest bytes, if they have arrived: they are read at once.
fn arrived(pipe: &mut Pipe, now: Instant) -> Option<Flight> {
    let flight = pipe.arrived(now)?;
    pipe.read(flight.bytes.len());
    Some(flight)
}

/// What is said, for a reader of the timeline.
fn brief(message: &Message) -> String {
    const SHOWN: usize = 400;
    let mut text = match message {
        Message::Metadata(bytes) => format!("{} bytes of the quorum's", bytes.len()),
        other => format!("{other:?}"),
    };
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}
