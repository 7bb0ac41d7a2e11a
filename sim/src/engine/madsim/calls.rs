//! The bytes between brokers, under the plan's faults.
//!
//! A *call* is one connection from one broker to another, a pair of pipes beside the simulated socket that made it, as
//! those of clients are. Both of its ends belong to production shells: who dials when, what is said, and when either of
//! them gives up is theirs. What is theirs to set up and the system's to do is done here: an end is told that the other
//! one is gone where something can still come from there, and where nothing gets through for long.
//!
//! madsim makes a connection or refuses it at once. So a call that would not be answered, because nothing gets through,
//! stands and says nothing: the shell gives it up after the time that it allows for a greeting. Where a machine has no
//! power, it is refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chronik_core::time::Instant;

use super::arriving::Arriving;
use super::stream::End;
use super::wire::{Ending, of_bytes};
use super::world::{World, lock};
use crate::engine::MS;
use crate::engine::chance::{Chance, LINKS};
use crate::engine::net::{Pipe, Weather};
use crate::plan::{NetworkPlan, Plan, Way};

/// A connection on which nothing gets through for so long is given up by both of its ends, in nanoseconds: as long as
/// the shell has the system wait.
const PATIENCE_NANOS: u64 = 8_000 * MS;

/// The system looks so often whether something gets through, in nanoseconds; each time it looks for the
/// [`PROBES_EVERY`]th time it asks whether the other end is there.
const LOOK_NANOS: u64 = 1_000 * MS;
const PROBES_EVERY: u64 = 5;

/// All calls.
pub(super) struct Calls {
    pub(super) network: NetworkPlan,
    machines: usize,
    calls: BTreeMap<CallId, Call>,
    /// How many were made on each route, those from one machine in a row.
    made: Vec<u64>,
    pub(super) arriving: Arriving<CallId>,
    /// What is wrong on each way, those from one machine in a row.
    lines: Vec<Line>,
    /// By machine: whether it has no power, so that nobody is told that connections are gone.
    is_down: Vec<bool>,
    looks_at: Instant,
    looks: u64,
}

/// A call: from which machine, to which one, and its number among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId {
    from: usize,
    to: usize,
    number: u64,
}

/// Which end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialler,
    Acceptor,
}

/// What is wrong with one way between two machines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    /// Nothing arrives.
    pub(super) is_muted: bool,
    /// It takes up to so many nanoseconds longer.
    pub(super) late: u64,
}

#[derive(Debug, Default)]
struct Call {
    dialler: Half,
    acceptor: Half,
    /// Since when nothing can get through and come back.
    blocked_since: Option<Instant>,
}

/// One end of a call, and what is on its way to it.
#[derive(Debug, Default)]
struct Half {
    /// `None` where it is gone.
    end: Option<End>,
    arriving: Pipe,
    /// When it is told that the other end is gone, and whether in order: after all that was sent, or at once.
    told: Option<(Instant, Told)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Ended,
    Reset,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Acceptor,
            Side::Acceptor => Side::Dialler,
        }
    }
}

impl CallId {
    fn machine(self, side: Side) -> usize {
        match side {
            Side::Dialler => self.from,
            Side::Acceptor => self.to,
        }
    }

    /// For the digest.
    fn key(self) -> u64 {
        ((self.from as u64) << 56) | ((self.to as u64) << 48) | self.number
    }
}

impl Call {
    /// The half of this side, and the other one.
    fn halves(&mut self, side: Side) -> (&mut Half, &mut Half) {
        match side {
            Side::Dialler => (&mut self.dialler, &mut self.acceptor),
            Side::Acceptor => (&mut self.acceptor, &mut self.dialler),
        }
    }
}

impl Half {
    /// Its task learns that nothing more comes.
    fn end(&mut self, is_reset: bool) {
        if let Some(end) = &mut self.end {
            end.is_ended = true;
            end.is_reset |= is_reset;
            end.wake();
        }
    }
}

impl Calls {
    pub(super) fn new(plan: &Plan) -> Calls {
        let machines = plan.nodes() as usize;
        Calls {
            network: plan.cluster.as_ref().map_or(&plan.network, |cluster| &cluster.network).clone(),
            machines,
            calls: BTreeMap::new(),
            made: vec![0; machines * machines],
            arriving: Arriving::new(),
            lines: vec![Line::default(); machines * machines],
            is_down: vec![false; machines],
            looks_at: Instant::default(),
            looks: 0,
        }
    }

    /// An end that is there, what arrives at it, and what it sends.
    pub(super) fn end(&mut self, call: CallId, side: Side) -> Option<(&mut End, &mut Pipe, &mut Pipe)> {
        let (here, there) = self.calls.get_mut(&call)?.halves(side);
        Some((here.end.as_mut()?, &mut here.arriving, &mut there.arriving))
    }

    fn place(&self, from: usize, to: usize) -> usize {
        from * self.machines + to
    }

    /// Whether what one of these machines sends can get to the other.
    fn is_open(&self, from: usize, to: usize) -> bool {
        !self.lines[self.place(from, to)].is_muted && !self.is_down[from] && !self.is_down[to]
    }

    fn ids(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }
}

impl World {
    fn call_chance(&self, call: CallId, stream: u64) -> Chance {
        let route = self.chance.keyed(LINKS).keyed((call.from * self.machines.len() + call.to) as u64);
        route.keyed(call.number).keyed(stream)
    }

    /// When something that leaves now arrives.
    fn arrival(&self, calls: &Calls, call: CallId, stream: u64) -> Instant {
        let NetworkPlan { latency_us_min, latency_us_max, .. } = calls.network;
        let nanos = self.call_chance(call, stream).between(latency_us_min * 1000, latency_us_max * 1000);
        Instant(self.now().0 + nanos)
    }

    /// The broker on a machine has dialled another one.
    pub(super) fn dialled(&self, from: usize, local: SocketAddr, peer: SocketAddr) -> CallId {
        let to = self.machines.iter().position(|machine| machine.ip() == peer.ip());
        let to = to.expect("brokers are told of brokers only");
        let calls = &mut *lock(&self.calls);
        let place = calls.place(from, to);
        calls.made[place] += 1;
        let call = CallId { from, to, number: calls.made[place] };
        if !calls.is_open(from, to) || !calls.is_open(to, from) {
            self.count("link_unanswered");
        }
        let mut made = Call::default();
        (made.dialler.end, made.acceptor.end) = (Some(End::default()), Some(End::default()));
        calls.calls.insert(call, made);
        calls.arriving.made(to, local, call);
        call
    }

    /// A broker ends its side of a call: what it sent still arrives, then its end.
    pub(super) fn left(&self, call: CallId, side: Side) {
        let calls = &mut *lock(&self.calls);
        let at = self.arrival(calls, call, 5);
        let Some(entry) = calls.calls.get_mut(&call) else { return };
        let (here, there) = entry.halves(side);
        if here.end.take().is_none() {
            return;
        }
        if side == Side::Acceptor && there.end.is_some() {
            self.count("link_ended");
        }
        here.arriving.forget();
        there.told = Some((at, Told::Ended));
        self.wires_changed.notify_one();
    }

    /// The process on a machine is gone, and with it its ends of all calls.
    pub(super) fn end_calls(&self, machine: usize, ending: Ending) {
        let calls = &mut *lock(&self.calls);
        calls.is_down[machine] = ending == Ending::PowerLost;
        calls.arriving.forget(machine);
        for call in calls.ids() {
            let at = self.arrival(calls, call, 6);
            for side in [Side::Dialler, Side::Acceptor] {
                let (here, there) = calls.calls.get_mut(&call).expect("it was just there").halves(side);
                if call.machine(side) != machine || here.end.take().is_none() {
                    continue;
                }
                here.arriving.forget();
                match ending {
                    // The other side is never told.
                    Ending::PowerLost => there.arriving.forget(),
                    Ending::Killed => {
                        there.arriving.forget_unsent();
                        there.told = Some((at, Told::Ended));
                    }
                    Ending::Stopped => there.told = Some((at, Told::Ended)),
                }
            }
        }
        self.wires_changed.notify_one();
    }

    /// A machine has its power again.
    pub(super) fn power_calls(&self, machine: usize) {
        lock(&self.calls).is_down[machine] = false;
        self.wires_changed.notify_one();
    }

    /// Changes what is wrong with the way from a machine to that of a broker. Returns whether there is one.
    pub(super) fn change_line(&self, machine: usize, to: u32, change: impl FnOnce(&mut Line)) -> bool {
        let to = (to as usize).wrapping_sub(1);
        if to >= self.machines.len() || to == machine {
            return false;
        }
        let mut calls = lock(&self.calls);
        let place = calls.place(machine, to);
        change(&mut calls.lines[place]);
        self.wires_changed.notify_one();
        true
    }

    /// Parts a machine from all others, or joins it to them again.
    pub(super) fn part(&self, machine: usize, way: Way, is_muted: bool) {
        for other in 0..self.machines.len() {
            let (from, to) = (self.machines[machine].number, self.machines[other].number);
            if way != Way::In {
                self.change_line(machine, to, |line| line.is_muted = is_muted);
            }
            if way != Way::Out {
                self.change_line(other, from, |line| line.is_muted = is_muted);
            }
        }
    }

    /// Nothing is wrong between machines any more.
    pub(super) fn heal_lines(&self) {
        lock(&self.calls).lines.fill(Line::default());
        self.wires_changed.notify_one();
    }

    /// The calls between two machines break, wherever in a frame they are.
    pub(super) fn break_calls(&self, machine: usize, with: u32, bits: u64) {
        let calls = &mut *lock(&self.calls);
        let pair = [machine, (with as usize).wrapping_sub(1)];
        for call in calls.ids() {
            if call.from == call.to || !pair.contains(&call.from) || !pair.contains(&call.to) {
                continue;
            }
            self.count("link_reset");
            let entry = calls.calls.get_mut(&call).expect("it was just there");
            for side in [Side::Dialler, Side::Acceptor] {
                let (here, _) = entry.halves(side);
                let arrived = here.arriving.break_off(self.call_chance(call, bits).keyed(side as u64));
                if let Some(end) = &mut here.end
                    && !arrived.is_empty()
                {
                    end.inbox.push_back(arrived);
                }
                here.end(true);
            }
        }
        self.wires_changed.notify_one();
    }

    /// Delivers what has arrived by calls, and says when to look again.
    pub(super) fn deliver_calls(&self) -> Option<Instant> {
        let now = self.now();
        let calls = &mut *lock(&self.calls);
        if calls.looks_at <= now {
            self.look_at_calls(calls, now);
            calls.looks_at = Instant(now.0 + LOOK_NANOS);
        }
        let mut next = None;
        for call in calls.ids() {
            for side in [Side::Dialler, Side::Acceptor] {
                let due = self.carry_call(calls, call, side, now);
                next = [next, due].into_iter().flatten().min();
            }
        }
        calls.calls.retain(|_, call| call.dialler.end.is_some() || call.acceptor.end.is_some());
        let looks_at = (!calls.calls.is_empty()).then_some(calls.looks_at);
        [next, looks_at].into_iter().flatten().min()
    }

    /// Delivers what has arrived at one side of a call. Returns when the next bytes or their end arrive, unless something
    /// must change before.
    fn carry_call(&self, calls: &mut Calls, call: CallId, side: Side, now: Instant) -> Option<Instant> {
        let (from, to) = (call.machine(side.other()), call.machine(side));
        let line = calls.lines[calls.place(from, to)];
        if line.is_muted || calls.is_down[to] {
            return None;
        }
        let weather = Weather { delay: line.late, ..Weather::default() };
        let chance = self.call_chance(call, 3).keyed(side as u64);
        let reset_at = self.arrival(calls, call, 7);
        let Calls { network, calls, .. } = calls;
        let (here, there) = calls.get_mut(&call)?.halves(side);
        let unsent = here.arriving.unsent();
        here.arriving.pump(now, network, &weather, chance);
        while let Some(flight) = here.arriving.arrived(now) {
            let bytes = flight.bytes.len();
            self.event(of_bytes(&flight.bytes) ^ call.key(), self.machines[to].lane(), || {
                format!("{bytes} bytes of broker {} arrive", from + 1)
            });
            match &mut here.end {
                Some(end) => {
                    end.inbox.push_back(flight.bytes);
                    end.wake();
                }
                // Nobody is there any more: whoever sends is told.
                None => {
                    here.arriving.read(bytes);
                    there.told = there.told.filter(|(_, told)| *told == Told::Reset).or(Some((reset_at, Told::Reset)));
                }
            }
            here.arriving.pump(now, network, &weather, chance);
        }
        if here.arriving.unsent() < unsent
            && let Some(end) = &mut there.end
        {
            // It may write again what the window did not take.
            end.wake();
        }
        let mut told_at = None;
        if let Some((at, told)) = here.told
            && (told == Told::Reset || here.arriving.is_empty())
        {
            if at > now {
                told_at = Some(at);
            } else {
                here.told = None;
                here.end(told == Told::Reset);
            }
        }
        [here.arriving.due(), told_at].into_iter().flatten().min()
    }

    /// What the system does by itself for connections on which the shell has it notice silence.
    fn look_at_calls(&self, calls: &mut Calls, now: Instant) {
        calls.looks += 1;
        let probes = calls.looks.is_multiple_of(PROBES_EVERY);
        for call in calls.ids() {
            let is_open = calls.is_open(call.from, call.to) && calls.is_open(call.to, call.from);
            let at = self.arrival(calls, call, 8);
            let entry = calls.calls.get_mut(&call).expect("it was just there");
            if is_open {
                entry.blocked_since = None;
                for side in [Side::Dialler, Side::Acceptor] {
                    let (here, there) = entry.halves(side);
                    if probes && there.end.is_none() && here.told.is_none() {
                        here.told = Some((at, Told::Reset));
                    }
                }
            } else if now.0 >= entry.blocked_since.get_or_insert(now).0 + PATIENCE_NANOS {
                self.count("link_given_up");
                entry.dialler.end(true);
                entry.acceptor.end(true);
            }
        }
    }
}
