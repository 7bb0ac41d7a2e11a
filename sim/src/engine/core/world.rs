//! Everything that takes part in a run, and the queue of what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use chronik_core::time::{Instant, Timestamp};

use super::machine::Machine;
use super::process::ServerEnd;
use super::routes::{self, Line, Route, Step};
use crate::client::{self, Client, ClientNow, Happened, Link, Wanted};
use crate::engine::chance::{Chance, mix};
use crate::engine::net::{Pipe, Weather};
use crate::engine::standings::{Held, LOOK_MS};
use crate::engine::{Lane, MS, Run, Traced, Watch, audit_ms};
use crate::history::{ClientId, Event as Noted, What, counted};
use crate::plan::{FaultKind, HEAL_MS, Plan};

/// The true time at which runs begin, in milliseconds since 1970.
pub(super) const EPOCH_MS: i64 = 1_700_000_000_000;

/// A run is over after so many events, whatever its time: something goes in circles.
const EVENTS_MAX: u64 = 30_000_000;

/// One thing that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A client is told something.
    Client(usize, Happened),
    /// A connection attempt arrives.
    Arrive(usize),
    /// The oldest bytes on their way to the broker arrive.
    ToServer(usize),
    /// The oldest bytes on their way to the client arrive.
    ToClient(usize),
    /// The client's end of the connection has been closed.
    Eof(usize),
    /// The node's thread on a machine has its turn; of this incarnation.
    Pass(usize, u64),
    /// The node on a machine wants to be woken; of this incarnation.
    Deadline(usize, u64),
    /// A machine's disk work is done; of this incarnation.
    Worked(usize, u64, u64),
    /// The broker on a machine is started.
    Start(usize, u64),
    /// Something happens between two machines.
    Route(usize, Step),
    /// A fault of the plan begins.
    Fault(usize),
    /// A fault of the plan ends.
    Heal(usize),
    /// The faults are over.
    HealAll,
    /// The memory is looked at.
    Look,
    /// Enough.
    End,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// In order: its last answers still arrive.
    Stopped,
    /// At once: what is on its way may arrive or not.
    Killed,
    /// With its machine: nobody is told.
    PowerLost,
}

struct Planned {
    at: Instant,
    order: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A client with its place in the world.
pub(super) struct Seat {
    pub(super) id: ClientId,
    machine: Box<dyn Client>,
    /// Its connections by their number.
    pub(super) links: Vec<Option<usize>>,
    pub(super) weather: Weather,
}

/// One connection, from the attempt on.
pub(super) struct Conn {
    pub(super) seat: usize,
    /// To which machine it goes.
    pub(super) machine: usize,
    pub(super) link: Link,
    pub(super) to_server: Pipe,
    pub(super) to_client: Pipe,
    pub(super) server: Option<ServerEnd>,
    pub(super) has_client: bool,
    /// The broker has closed: the client is told after the last byte.
    pub(super) is_closing: bool,
}

/// A run in progress.
pub(super) struct World<'a> {
    pub(super) plan: &'a Plan,
    watch: &'a Watch,
    pub(super) now: Instant,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(super) chance: Chance,
    pub(super) seats: Vec<Seat>,
    pub(super) conns: Vec<Conn>,
    /// The brokers' machines; that of broker `n` is at `n - 1`.
    pub(super) machines: Vec<Machine>,
    /// From each machine to each, those of one in a row; and what is wrong there now.
    pub(super) routes: Vec<Route>,
    pub(super) lines: Vec<Line>,
    pub(super) held: Held,
    pub(super) run: Run,
    wanted: Vec<Wanted>,
    is_healed: bool,
    pub(super) is_auditing: bool,
    is_over: bool,
}

/// The setup client's seat, and the auditor's.
const SETUP: usize = 0;
const AUDITOR: usize = 1;
const OTHERS: usize = 2;

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, watch: &'a Watch) -> World<'a> {
        let seat = |id, machine| Seat { id, machine, links: Vec::new(), weather: Weather::default() };
        let mut seats =
            vec![seat(ClientId::SETUP, client::setup(plan)), seat(ClientId::AUDITOR, client::auditor(plan))];
        for index in 0..plan.clients.len() {
            let id = ClientId(u32::try_from(index).expect("few clients"));
            seats.push(seat(id, client::machine(plan, id)));
        }
        World {
            plan,
            watch,
            now: Instant::default(),
            queue: BinaryHeap::new(),
            planned: 0,
            chance: Chance::from_seed(plan.seed),
            seats,
            conns: Vec::new(),
            machines: (1..=plan.nodes()).map(|number| Machine::new(plan, number)).collect(),
            routes: routes::routes(plan.nodes() as usize),
            lines: vec![Line::default(); (plan.nodes() * plan.nodes()) as usize],
            held: Held::default(),
            run: Run::default(),
            wanted: Vec::new(),
            is_healed: false,
            is_auditing: false,
            is_over: false,
        }
    }

    /// Runs the plan to its end.
    pub(super) fn run(mut self) -> Run {
        for machine in 0..self.machines.len() {
            self.plan_at(Instant::default(), Event::Start(machine, 0));
        }
        self.plan_at(Instant::default(), Event::Client(SETUP, Happened::Started));
        for (index, fault) in self.plan.faults.iter().enumerate() {
            self.plan_at(Instant(fault.at_ms * MS), Event::Fault(index));
        }
        self.plan_at(Instant(self.plan.duration_ms * MS), Event::HealAll);
        self.plan_at(Instant(1000 * MS), Event::Look);
        while !self.is_over
            && let Some(Reverse(Planned { at, event, .. })) = self.queue.pop()
        {
            self.now = at;
            if self.watch.until.is_some_and(|until| self.run.events >= until) || self.run.events >= EVENTS_MAX {
                break;
            }
            self.note(&event);
            self.happen(event);
            if self.watch.print_at == Some(self.run.events) {
                self.describe();
            }
            self.run.events += 1;
        }
        self.run.simulated = self.now;
        for machine in &self.machines {
            self.run.digest = mix(self.run.digest ^ machine.disk.digest());
            for (name, times) in machine.disk.counters() {
                *self.run.counters.entry(name).or_default() += times;
            }
        }
        self.run.counters.extend(counted(&self.run.history));
        self.run.counters.insert("compacted_reads", self.run.history.passed_over());
        self.run
    }

    pub(super) fn plan_at(&mut self, at: Instant, event: Event) {
        self.planned += 1;
        self.queue.push(Reverse(Planned { at: at.max(self.now), order: self.planned, event }));
    }

    pub(super) fn plan_after(&mut self, nanos: u64, event: Event) {
        self.plan_at(Instant(self.now.0 + nanos), event);
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.run.counters.entry(name).or_default() += 1;
    }

    /// Records what the engine did.
    pub(super) fn record(&mut self, what: What) {
        self.record_of(0, what);
    }

    /// Records what the engine did to a broker, or the broker told its operator.
    pub(super) fn record_of(&mut self, machine: usize, what: What) {
        let node = self.machines[machine].number;
        self.run.history.events.push(Noted { at: self.now, client: ClientId::ENGINE, node, operation: None, what });
    }

    /// Takes an event into the digest.
    fn note(&mut self, event: &Event) {
        let (kind, key) = match event {
            Event::Client(seat, happened) => {
                let key = match happened {
                    Happened::Started | Happened::Timer | Happened::Healed => 0,
                    Happened::Connected(link) | Happened::Refused(link) | Happened::Lost(link) => u64::from(link.0),
                    Happened::Received(link, bytes) => u64::from(link.0) ^ of_bytes(bytes),
                };
                (1, key ^ (*seat as u64) << 48)
            }
            Event::Arrive(conn) => (2, *conn as u64),
            Event::ToServer(conn) => (3, *conn as u64),
            Event::ToClient(conn) => (4, *conn as u64),
            Event::Eof(conn) => (5, *conn as u64),
            Event::Pass(machine, _) => (6, *machine as u64),
            Event::Deadline(machine, _) => (7, *machine as u64),
            Event::Worked(machine, _, work) => (8, *work ^ (*machine as u64) << 48),
            Event::Start(machine, _) => (9, *machine as u64),
            Event::Fault(index) => (10, *index as u64),
            Event::Heal(index) => (11, *index as u64),
            Event::HealAll => (12, 0),
            Event::Look => (13, 0),
            Event::End => (14, 0),
            Event::Route(route, step) => (15, (*route as u64) << 40 ^ step.key()),
        };
        self.digest(self.now.0);
        self.digest(key ^ kind << 56);
    }

    pub(super) fn digest(&mut self, number: u64) {
        self.run.digest = mix(self.run.digest ^ number);
    }

    /// Adds a line to the timeline if somebody watches.
    pub(super) fn trace(&mut self, lane: Lane, from: Option<(Lane, Instant)>, text: impl FnOnce(&World<'_>) -> String) {
        if !self.watch.trace {
            return;
        }
        let text = text(self);
        self.run.trace.push(Traced {
            event: self.run.events,
            at: self.now,
            lane,
            from: from.map(|(lane, _)| lane),
            sent_at: from.map(|(_, at)| at),
            text,
        });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client(seat, happened) => self.step_client(seat, happened),
            Event::Arrive(conn) => self.arrive(conn),
            Event::ToServer(conn) => self.carry_to_server(conn),
            Event::ToClient(conn) => self.carry_to_client(conn),
            Event::Eof(conn) => self.eof(conn),
            Event::Pass(machine, incarnation) if self.is_its_turn(machine, incarnation) => self.pass(machine),
            Event::Deadline(machine, incarnation) if self.is_its_turn(machine, incarnation) => self.deadline(machine),
            Event::Worked(machine, incarnation, work) if self.is_its_turn(machine, incarnation) => {
                self.worked(machine, work);
            }
            Event::Start(machine, incarnation) if self.is_its_turn(machine, incarnation) => self.start(machine),
            Event::Pass(..) | Event::Deadline(..) | Event::Worked(..) | Event::Start(..) => {}
            Event::Route(route, step) => self.step_route(route, step),
            Event::Fault(index) => self.begin_fault(index),
            Event::Heal(index) => self.end_fault(index),
            Event::HealAll => self.heal_all(),
            Event::Look => self.look(),
            Event::End => self.is_over = true,
        }
    }

    /// Lets happen what is planned between machines up to `until`, and nothing else.
    #[cfg(test)]
    pub(super) fn run_routes(&mut self, until: Instant) {
        while self.queue.peek().is_some_and(|next| next.0.at <= until)
            && let Some(Reverse(Planned { at, event, .. })) = self.queue.pop()
        {
            self.now = at;
            if let Event::Route(route, step) = event {
                self.step_route(route, step);
            }
        }
        self.now = until;
    }

    fn is_its_turn(&self, machine: usize, incarnation: u64) -> bool {
        self.machines[machine].incarnation == incarnation
    }

    // Clients.

    pub(super) fn lane(&self, seat: usize) -> Lane {
        Lane::Client(self.seats[seat].id.0)
    }

    pub(super) fn step_client(&mut self, seat: usize, happened: Happened) {
        if let Happened::Lost(link) | Happened::Refused(link) = happened {
            // Its number is never used again.
            self.seats[seat].links[link.0 as usize] = None;
        }
        let now = ClientNow {
            instant: self.now,
            wall: Timestamp(EPOCH_MS + i64::try_from(self.now.0 / MS).expect("a run of hours")),
        };
        let mut wanted = std::mem::take(&mut self.wanted);
        let was_done = self.seats[seat].machine.is_done();
        self.seats[seat].machine.step(now, happened, &mut wanted);
        for wanted in wanted.drain(..) {
            self.want(seat, wanted);
        }
        self.wanted = wanted;
        if !was_done && self.seats[seat].machine.is_done() {
            self.client_done(seat);
        }
    }

    fn want(&mut self, seat: usize, wanted: Wanted) {
        match wanted {
            Wanted::Connect(link, node) => self.connect(seat, link, node),
            Wanted::Send(link, bytes) => {
                if let Some(conn) = self.conn_of(seat, link) {
                    self.conns[conn].to_server.push(bytes);
                    self.pump_to_server(conn);
                }
            }
            Wanted::Close(link) => {
                if let Some(conn) = self.conn_of(seat, link) {
                    self.seats[seat].links[link.0 as usize] = None;
                    self.conns[conn].has_client = false;
                    // What the client sent still arrives, then its end; unless nothing does.
                    let after = self.conns[conn].to_server.due().unwrap_or(self.now);
                    self.plan_at(after, Event::Eof(conn));
                }
            }
            Wanted::WakeAt(at) => self.plan_at(at, Event::Client(seat, Happened::Timer)),
            Wanted::Order(node, order) => {
                if let Some(machine) = self.machine_of(node) {
                    self.ordered(machine, order);
                }
            }
            Wanted::Record(operation, what) => {
                self.trace(self.lane(seat), None, |_| what.to_string());
                let client = self.seats[seat].id;
                self.run.history.events.push(Noted { at: self.now, client, node: 1, operation, what });
            }
        }
    }

    fn client_done(&mut self, seat: usize) {
        match seat {
            SETUP => {
                for seat in OTHERS..self.seats.len() {
                    self.plan_at(self.now, Event::Client(seat, Happened::Started));
                }
                self.audit_if_due();
            }
            AUDITOR => self.is_over = true,
            _ => self.audit_if_due(),
        }
    }

    /// When all has healed and everybody has finished, every machine loses its power once more, so that the auditor
    /// reads what is on disk and nothing else.
    fn audit_if_due(&mut self) {
        // Of several brokers followers catch up meanwhile.
        let is_due = self.machines.len() == 1 || self.now.0 >= (self.plan.duration_ms + HEAL_MS) * MS;
        let is_idle = self.seats[OTHERS..].iter().all(|seat| seat.machine.is_done());
        if self.is_healed && !self.is_auditing && is_due && is_idle {
            self.audit();
        }
    }

    fn audit(&mut self) {
        self.is_auditing = true;
        let fault = match self.plan.node.trusts_os {
            true => FaultKind::Kill { down_ms: 1 },
            false => FaultKind::PowerLoss { down_ms: 1, keep_permille: 500, sector_bytes: 512 },
        };
        for machine in 0..self.machines.len() {
            if self.machines[machine].is_idle() {
                continue;
            }
            self.record_of(machine, What::Fault(fault.clone()));
            match fault {
                FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                    self.lose_power(machine, down_ms, keep_permille, sector_bytes);
                }
                _ => self.kill(machine, 1),
            }
        }
        self.plan_at(self.now, Event::Client(AUDITOR, Happened::Healed));
        self.plan_at(self.now, Event::Client(AUDITOR, Happened::Started));
        self.plan_after(audit_ms(self.plan) * MS, Event::End);
    }

    fn heal_all(&mut self) {
        for index in 0..self.plan.faults.len() {
            self.end_fault(index);
        }
        for machine in &mut self.machines {
            machine.heal(self.now);
        }
        self.heal_routes();
        self.trace(Lane::Fault, None, |_| "everything heals".into());
        self.is_healed = true;
        self.record(What::Healed);
        for seat in OTHERS..self.seats.len() {
            self.plan_at(self.now, Event::Client(seat, Happened::Healed));
        }
        self.plan_after((HEAL_MS + audit_ms(self.plan)) * MS, Event::End);
        self.audit_if_due();
    }

    /// Looks at what the brokers hold, now and then.
    fn look(&mut self) {
        for machine in 0..self.machines.len() {
            self.note_standings(machine, true);
            let Some(process) = &self.machines[machine].process else { continue };
            let metrics = process.node.metrics();
            let tail = gauge(&metrics, "chronik_tail_bytes");
            // Beyond its budget the tail may hold what is on its way to a segment: what the journal bounds.
            let bound = self.plan.node.tail_cache_bytes
                + self.plan.node.journal_file_bytes * u64::from(self.plan.node.journal_files)
                + (8 << 20);
            if tail > bound {
                self.record_of(machine, What::MemoryAbove { used: tail, bound });
            }
        }
        // Nobody waits for ever: what did not finish in time is for the claims to say.
        if self.is_healed && !self.is_auditing && self.now.0 > (self.plan.duration_ms + HEAL_MS) * MS {
            self.audit();
        }
        self.plan_after(LOOK_MS * MS, Event::Look);
    }

    /// A line about everybody's state.
    fn describe(&mut self) {
        let mut lines = Vec::new();
        for (index, machine) in self.machines.iter().enumerate() {
            let lane = machine.lane();
            match &machine.process {
                Some(process) => {
                    lines.extend(self.describe_routes(index).map(|text| (lane, text)));
                    let metrics = process.node.metrics();
                    let values = metrics.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(", ");
                    let deadline = process.node.deadline();
                    lines.push((lane, format!("{values}; next deadline {deadline:?}")));
                    lines.push((lane, process.describe()));
                }
                None => lines.push((lane, "is down".into())),
            }
            let disk = format!("{} files, {} bytes", machine.disk.names().len(), machine.disk.used_bytes());
            lines.push((machine.disk_lane(), disk));
        }
        for seat in 0..self.seats.len() {
            lines.push((self.lane(seat), self.seats[seat].machine.describe()));
        }
        for (lane, text) in lines {
            self.run.state.push((lane, text));
        }
    }
}

/// A number for some bytes: their length and checksums of their first and last ones, which hold what differs between
/// two runs that have parted (correlation ids, offsets, timestamps).
pub(super) fn of_bytes(bytes: &Bytes) -> u64 {
    let ends = bytes.len().min(96);
    let first = crc32c::crc32c(&bytes[..ends]);
    let last = crc32c::crc32c(&bytes[bytes.len() - ends..]);
    (bytes.len() as u64) << 40 ^ u64::from(first) << 16 ^ u64::from(last)
}

/// A number of the metrics page.
fn gauge(metrics: &str, name: &str) -> u64 {
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    values.next().unwrap_or_default()
}
