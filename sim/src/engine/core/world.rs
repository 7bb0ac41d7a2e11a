//! Everything that takes part in a run, and the queue of what happens next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use bytes::Bytes;
use chronik_core::boundary::{Committer, Level};
use chronik_core::connection::Connection;
use chronik_core::ids::{ConnId, ListenerId};
use chronik_core::node::Node;
use chronik_core::time::{Instant, Now, Timestamp};
use chronik_core::wire::Str;

use super::process::{Arrival, Process, ServerEnd};
use crate::client::{self, Client, ClientNow, Happened, Link, Wanted};
use crate::disk::SimDisk;
use crate::engine::chance::{Chance, NETWORK, RECOVERY, mix};
use crate::engine::net::{Pipe, Weather};
use crate::engine::{AUDIT_MS, Lane, MS, RESTART_MS, Run, Traced, Watch, node};
use crate::history::{ClientId, Event as Noted, What, counted};
use crate::plan::{FaultKind, HEAL_MS, Plan};

/// The true time at which runs begin, in milliseconds since 1970.
pub(super) const EPOCH_MS: i64 = 1_700_000_000_000;

/// Where all clients connect from: machines have no addresses here.
const CLIENT_HOST: Str = Str::from_static("/10.0.0.1");

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
    /// The node's thread has its turn; of this incarnation.
    Pass(u64),
    /// The node wants to be woken; of this incarnation.
    Deadline(u64),
    /// Disk work is done; of this incarnation.
    Worked(u64, u64),
    /// The broker is started.
    Start(u64),
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
    links: Vec<Option<usize>>,
    pub(super) weather: Weather,
}

/// One connection, from the attempt on.
pub(super) struct Conn {
    pub(super) seat: usize,
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
    conn_ids: BTreeMap<ConnId, usize>,
    pub(super) disk: Arc<SimDisk>,
    pub(super) process: Option<Process>,
    /// How often the broker was started or ended: what belongs to an earlier incarnation is void.
    pub(super) incarnation: u64,
    pub(super) next_work: u64,
    pub(super) run: Run,
    wanted: Vec<Wanted>,
    // What is wrong now.
    pub(super) committer: Committer,
    pub(super) paused_until: Instant,
    pub(super) clock_step_ms: i64,
    pub(super) is_disk_full: bool,
    pub(super) disk_factor: u64,
    pub(super) disk_stalled_until: Instant,
    pub(super) refuses: bool,
    pub(super) blackholes: bool,
    /// The next recovery dies after so many changes, and whether the power fails with it.
    pub(super) dies_in_recovery: Option<(u32, bool)>,
    pub(super) cuts_index: bool,
    /// The machine is down: nobody is told that connections are gone.
    pub(super) is_machine_down: bool,
    pub(super) restart_ms: Option<u64>,
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
            conn_ids: BTreeMap::new(),
            disk: Arc::new(SimDisk::default()),
            process: None,
            incarnation: 0,
            next_work: 0,
            run: Run::default(),
            wanted: Vec::new(),
            committer: Committer::new(plan.node.trusts_os),
            paused_until: Instant::default(),
            clock_step_ms: 0,
            is_disk_full: false,
            disk_factor: 1,
            disk_stalled_until: Instant::default(),
            refuses: false,
            blackholes: false,
            dies_in_recovery: None,
            cuts_index: false,
            is_machine_down: false,
            restart_ms: None,
            is_healed: false,
            is_auditing: false,
            is_over: false,
        }
    }

    /// Runs the plan to its end.
    pub(super) fn run(mut self) -> Run {
        self.plan_at(Instant::default(), Event::Start(0));
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
        self.run.digest = mix(self.run.digest ^ self.disk.digest());
        for (name, times) in self.disk.counters() {
            *self.run.counters.entry(name).or_default() += times;
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

    /// Records what the engine did or the broker told its operator.
    pub(super) fn record(&mut self, what: What) {
        self.run.history.events.push(Noted { at: self.now, client: ClientId::ENGINE, operation: None, what });
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
            Event::Pass(_) => (6, 0),
            Event::Deadline(_) => (7, 0),
            Event::Worked(_, work) => (8, *work),
            Event::Start(_) => (9, 0),
            Event::Fault(index) => (10, *index as u64),
            Event::Heal(index) => (11, *index as u64),
            Event::HealAll => (12, 0),
            Event::Look => (13, 0),
            Event::End => (14, 0),
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
            Event::Pass(incarnation) if incarnation == self.incarnation => self.pass(),
            Event::Deadline(incarnation) if incarnation == self.incarnation => self.deadline(),
            Event::Worked(incarnation, work) if incarnation == self.incarnation => self.worked(work),
            Event::Start(incarnation) if incarnation == self.incarnation => self.start(),
            Event::Pass(_) | Event::Deadline(_) | Event::Worked(..) | Event::Start(_) => {}
            Event::Fault(index) => self.begin_fault(index),
            Event::Heal(index) => self.end_fault(index),
            Event::HealAll => self.heal_all(),
            Event::Look => self.look(),
            Event::End => self.is_over = true,
        }
    }

    // Clients.

    pub(super) fn lane(&self, seat: usize) -> Lane {
        Lane::Client(self.seats[seat].id.0)
    }

    fn step_client(&mut self, seat: usize, happened: Happened) {
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
            Wanted::Connect(link) => self.connect(seat, link),
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
            Wanted::Record(operation, what) => {
                self.trace(self.lane(seat), None, |_| what.to_string());
                let client = self.seats[seat].id;
                self.run.history.events.push(Noted { at: self.now, client, operation, what });
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

    /// When all has healed and everybody has finished, the machine loses its power once more, so that the auditor
    /// reads what is on disk and nothing else.
    fn audit_if_due(&mut self) {
        if !self.is_healed || self.is_auditing || self.seats[OTHERS..].iter().any(|seat| !seat.machine.is_done()) {
            return;
        }
        self.audit();
    }

    fn audit(&mut self) {
        self.is_auditing = true;
        let fault = match self.plan.node.trusts_os {
            true => FaultKind::Kill { down_ms: 1 },
            false => FaultKind::PowerLoss { down_ms: 1, keep_permille: 500, sector_bytes: 512 },
        };
        self.record(What::Fault(fault.clone()));
        match fault {
            FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                self.lose_power(down_ms, keep_permille, sector_bytes);
            }
            _ => self.kill(1),
        }
        self.plan_at(self.now, Event::Client(AUDITOR, Happened::Healed));
        self.plan_at(self.now, Event::Client(AUDITOR, Happened::Started));
        self.plan_after(AUDIT_MS * MS, Event::End);
    }

    // Connections.

    fn conn_of(&self, seat: usize, link: Link) -> Option<usize> {
        self.seats[seat].links.get(link.0 as usize).copied().flatten()
    }

    pub(super) fn conn_chance(&self, conn: usize, stream: u64) -> Chance {
        let Conn { seat, link, .. } = &self.conns[conn];
        self.chance.keyed(NETWORK).keyed(*seat as u64).keyed(u64::from(link.0)).keyed(stream)
    }

    pub(super) fn latency(&self, conn: usize, stream: u64) -> u64 {
        let network = &self.plan.network;
        self.conn_chance(conn, stream).between(network.latency_us_min * 1000, network.latency_us_max * 1000)
    }

    fn connect(&mut self, seat: usize, link: Link) {
        let links = &mut self.seats[seat].links;
        links.resize(links.len().max(link.0 as usize + 1), None);
        links[link.0 as usize] = Some(self.conns.len());
        let conn = self.conns.len();
        self.conns.push(Conn {
            seat,
            link,
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            server: None,
            has_client: true,
            is_closing: false,
        });
        self.plan_after(self.latency(conn, 100), Event::Arrive(conn));
    }

    fn arrive(&mut self, conn: usize) {
        let Conn { seat, link, has_client, .. } = self.conns[conn];
        if !has_client {
            return;
        }
        let weather = self.seats[seat].weather;
        // Nobody answers: the client gives up by itself.
        if self.blackholes || self.is_machine_down || weather.mute_to_server || weather.mute_to_client {
            self.count("connect_unanswered");
            return;
        }
        let after = self.latency(conn, 101);
        if self.refuses || self.process.as_ref().is_none_or(|process| process.is_stopped) {
            self.conns[conn].has_client = false;
            self.count("connect_refused");
            self.plan_after(after, Event::Client(seat, Happened::Refused(link)));
            return;
        }
        let id = ConnId(conn as u64);
        let connection = Connection::new(id, ListenerId(0), CLIENT_HOST, &node::limits(self.plan));
        self.conns[conn].server = Some(ServerEnd::new(id, connection));
        self.conn_ids.insert(id, conn);
        self.plan_after(after, Event::Client(seat, Happened::Connected(link)));
    }

    pub(super) fn conn_by_id(&self, id: ConnId) -> Option<usize> {
        self.conn_ids.get(&id).copied()
    }

    pub(super) fn pump_to_server(&mut self, conn: usize) {
        let chance = self.conn_chance(conn, 1);
        let weather = self.seats[self.conns[conn].seat].weather;
        if let Some(due) = self.conns[conn].to_server.pump(self.now, &self.plan.network, &weather, chance) {
            self.plan_at(due, Event::ToServer(conn));
        }
    }

    pub(super) fn pump_to_client(&mut self, conn: usize) {
        let chance = self.conn_chance(conn, 2);
        let weather = self.seats[self.conns[conn].seat].weather;
        if let Some(due) = self.conns[conn].to_client.pump(self.now, &self.plan.network, &weather, chance) {
            self.plan_at(due, Event::ToClient(conn));
        }
    }

    fn carry_to_server(&mut self, conn: usize) {
        let seat = self.conns[conn].seat;
        // When it can be heard again, the pipe is looked at again.
        if self.seats[seat].weather.mute_to_server || self.is_machine_down {
            return;
        }
        while let Some(flight) = self.conns[conn].to_server.arrived(self.now) {
            self.trace(Lane::Node(1), Some((self.lane(seat), flight.sent_at)), |_| {
                format!("{} bytes arrive by connection {conn}", flight.bytes.len())
            });
            match &mut self.conns[conn].server {
                Some(server) => {
                    server.inbox.push_back(flight.bytes);
                    self.ready(conn);
                }
                None => self.conns[conn].to_server.read(flight.bytes.len()),
            }
        }
        match self.conns[conn].to_server.due() {
            Some(due) => self.plan_at(due, Event::ToServer(conn)),
            None => self.pump_to_server(conn),
        }
        if self.conns[conn].server.is_none() {
            self.reset_client(conn);
        }
    }

    /// The client is told that its connection is gone, as the answer to something that it sent.
    pub(super) fn reset_client(&mut self, conn: usize) {
        let Conn { seat, link, has_client, .. } = self.conns[conn];
        self.conns[conn].to_server.forget();
        self.conns[conn].to_client.forget();
        if has_client && !self.seats[seat].weather.mute_to_client {
            self.conns[conn].has_client = false;
            self.plan_after(self.latency(conn, 102), Event::Client(seat, Happened::Lost(link)));
        }
    }

    fn carry_to_client(&mut self, conn: usize) {
        let Conn { seat, link, has_client, .. } = self.conns[conn];
        let weather = self.seats[seat].weather;
        if has_client && (weather.mute_to_client || weather.reads_nothing) {
            return;
        }
        while let Some(flight) = self.conns[conn].to_client.arrived(self.now) {
            self.conns[conn].to_client.read(flight.bytes.len());
            if self.conns[conn].has_client {
                self.digest(of_bytes(&flight.bytes));
                self.trace(self.lane(seat), Some((Lane::Node(1), flight.sent_at)), |_| {
                    format!("{} bytes arrive by connection {conn}", flight.bytes.len())
                });
                self.step_client(seat, Happened::Received(link, flight.bytes));
            }
        }
        match self.conns[conn].to_client.due() {
            Some(due) => self.plan_at(due, Event::ToClient(conn)),
            None => self.pump_to_client(conn),
        }
        // The broker may write again what the window did not take.
        if self.conns[conn].server.is_some() {
            self.ready(conn);
        }
        self.finish_closing(conn);
    }

    /// Tells the client that the broker has closed, once it has everything that was sent before.
    pub(super) fn finish_closing(&mut self, conn: usize) {
        let Conn { seat, link, is_closing, has_client, .. } = self.conns[conn];
        if is_closing && has_client && self.conns[conn].to_client.is_empty() {
            self.conns[conn].has_client = false;
            self.plan_after(self.latency(conn, 103), Event::Client(seat, Happened::Lost(link)));
        }
    }

    fn eof(&mut self, conn: usize) {
        if self.seats[self.conns[conn].seat].weather.mute_to_server || self.is_machine_down {
            // The broker is never told: the connection stays half-open.
            return;
        }
        if self.conns[conn].server.is_none() {
            return;
        }
        if let Some(due) = self.conns[conn].to_server.due() {
            // What was sent before comes first; where that stands still, so does the end.
            self.plan_at(due.max(Instant(self.now.0 + MS)), Event::Eof(conn));
            return;
        }
        if let Some(server) = &mut self.conns[conn].server {
            server.is_ended = true;
            self.ready(conn);
        }
    }

    /// Has the next pass look at a connection.
    pub(super) fn ready(&mut self, conn: usize) {
        let (Some(process), Some(server)) = (&mut self.process, &mut self.conns[conn].server) else { return };
        if !server.is_ready {
            server.is_ready = true;
            process.ready.push_back(conn);
        }
        self.plan_pass();
    }

    // The broker.

    /// The clocks of the broker's machine.
    pub(super) fn local(&self) -> Now {
        let now = i128::from(self.now.0);
        let local = now + now * i128::from(self.plan.node.clock_drift_ppm) / 1_000_000;
        let local = u64::try_from(local).expect("clocks run forth");
        let wall = i64::try_from(local / MS).expect("a run of hours");
        Now {
            instant: Instant(local),
            wall: Timestamp(EPOCH_MS + wall + self.plan.node.clock_skew_ms + self.clock_step_ms),
        }
    }

    /// When the broker's clock will show `local`.
    pub(super) fn true_time(&self, local: Instant) -> Instant {
        let scale = 1_000_000 + i128::from(self.plan.node.clock_drift_ppm);
        let at = (i128::from(local.0) * 1_000_000 + scale - 1) / scale;
        Instant(u64::try_from(at).unwrap_or(u64::MAX) + 1)
    }

    fn start(&mut self) {
        self.is_machine_down = false;
        if std::mem::take(&mut self.cuts_index) {
            self.disk.truncate_index(self.chance.keyed(RECOVERY).rng());
        }
        let dying = self.dies_in_recovery.take();
        if let Some((changes, _)) = dying {
            self.disk.die_after(u64::from(changes));
        }
        let entropy = self.chance.entropy(self.incarnation);
        let recovered = Node::recover(node::options(self.plan), &*self.disk, entropy, self.local());
        if let Some((_, loses_power)) = dying {
            drop(recovered);
            self.count(if loses_power { "power_loss_in_recovery" } else { "crash_in_recovery" });
            self.trace(Lane::Node(1), None, |_| "dies in its recovery".into());
            self.disk.revive();
            if loses_power {
                self.cut_power(500, 512);
            }
            self.incarnation += 1;
            self.plan_after(MS, Event::Start(self.incarnation));
            return;
        }
        match recovered {
            Ok((node, report)) => {
                node.invariants();
                self.trace(Lane::Node(1), None, |_| format!("serves after recovery: {report:?}"));
                self.record(What::Started { notes: report.notes });
                self.process = Some(Process::new(node));
                self.plan_pass();
            }
            Err(why) => {
                self.trace(Lane::Node(1), None, |_| format!("cannot start: {why}"));
                self.record(What::StartFailed { why: why.to_string() });
                self.incarnation += 1;
                self.plan_after(RESTART_MS * 5 * MS, Event::Start(self.incarnation));
            }
        }
    }

    /// The process is gone, and with it its ends of the connections. Clients are told unless the machine went too.
    pub(super) fn end_process(&mut self, why: Option<String>, down_ms: u64, ending: Ending) {
        self.record(What::Ended { why });
        self.process = None;
        self.committer = Committer::new(self.plan.node.trusts_os);
        self.is_machine_down = ending == Ending::PowerLost;
        self.incarnation += 1;
        self.conn_ids.clear();
        for conn in 0..self.conns.len() {
            if self.conns[conn].server.take().is_none() {
                continue;
            }
            let delivers = self.conn_chance(conn, 104).below(2) == 0;
            match ending {
                Ending::PowerLost => self.conns[conn].to_client.forget(),
                Ending::Killed if !delivers => self.reset_client(conn),
                Ending::Killed | Ending::Stopped => {
                    if ending == Ending::Killed {
                        self.conns[conn].to_client.forget_unsent();
                    }
                    self.conns[conn].is_closing = true;
                    self.finish_closing(conn);
                }
            }
        }
        let recovery = self.chance.keyed(RECOVERY).keyed(self.incarnation).between(MS, 20 * MS);
        self.plan_after(down_ms * MS + recovery, Event::Start(self.incarnation));
    }

    /// The process ended by itself.
    pub(super) fn ended(&mut self) {
        let Some(process) = &self.process else { return };
        if let Some(why) = process.fatal.clone() {
            self.trace(Lane::Node(1), None, |_| format!("ends: {why}"));
            self.count("fatal");
            self.interrupt_works();
            self.end_process(Some(why), RESTART_MS, Ending::Killed);
        } else if process.is_stopped {
            self.trace(Lane::Node(1), None, |_| "has stopped in order".into());
            // A seal may be under way still. It ends with its process, as in a crash.
            self.interrupt_works();
            let down_ms = self.restart_ms.take().unwrap_or(RESTART_MS);
            self.end_process(Some("stopped".into()), down_ms, Ending::Stopped);
        }
    }

    fn heal_all(&mut self) {
        for index in 0..self.plan.faults.len() {
            self.end_fault(index);
        }
        self.heal_disk();
        self.trace(Lane::Fault, None, |_| "everything heals".into());
        self.is_healed = true;
        self.record(What::Healed);
        for seat in OTHERS..self.seats.len() {
            self.plan_at(self.now, Event::Client(seat, Happened::Healed));
        }
        self.plan_after(HEAL_MS * MS + AUDIT_MS * MS, Event::End);
        self.audit_if_due();
    }

    /// Looks at what the broker holds, now and then.
    fn look(&mut self) {
        if let Some(process) = &self.process {
            let metrics = process.node.metrics();
            let tail = gauge(&metrics, "chronik_tail_bytes");
            // Beyond its budget the tail may hold what is on its way to a segment: what the journal bounds.
            let bound = self.plan.node.tail_cache_bytes
                + self.plan.node.journal_file_bytes * u64::from(self.plan.node.journal_files)
                + (8 << 20);
            if tail > bound {
                self.record(What::MemoryAbove { used: tail, bound });
            }
        }
        // Nobody waits for ever: what did not finish in time is for the claims to say.
        if self.is_healed && !self.is_auditing && self.now.0 > (self.plan.duration_ms + HEAL_MS) * MS {
            self.audit();
        }
        self.plan_after(5000 * MS, Event::Look);
    }

    /// A line about everybody's state.
    fn describe(&mut self) {
        let mut lines = Vec::new();
        match &self.process {
            Some(process) => {
                let metrics = process.node.metrics();
                let values = metrics.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(", ");
                let deadline = process.node.deadline();
                lines.push((Lane::Node(1), format!("{values}; next deadline {deadline:?}")));
                lines.push((
                    Lane::Node(1),
                    format!(
                        "mailbox {}, ready {}, disk work {:?}, tasks waiting {}, committing inline {}",
                        process.mailbox.len(),
                        process.ready.len(),
                        process.works.keys().collect::<Vec<_>>(),
                        process.tasks.len(),
                        process.is_committing
                    ),
                ));
            }
            None => lines.push((Lane::Node(1), "is down".into())),
        }
        lines.push((Lane::Disk(1), format!("{} files, {} bytes", self.disk.names().len(), self.disk.used_bytes())));
        for seat in 0..self.seats.len() {
            lines.push((self.lane(seat), self.seats[seat].machine.describe()));
        }
        for (lane, text) in lines {
            self.run.state.push((lane, text));
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.mailbox.push_back(Arrival::Stop);
            self.plan_pass();
        }
    }

    /// A line of the broker's log.
    pub(super) fn logged(&mut self, level: Level, text: String) {
        self.trace(Lane::Node(1), None, |_| format!("{level:?}: {text}"));
        if level != Level::Debug {
            self.record(What::Logged { level, text });
        }
    }
}

/// A number for some bytes: their length and checksums of their first and last ones, which hold what differs between
/// two runs that have parted (correlation ids, offsets, timestamps).
fn of_bytes(bytes: &Bytes) -> u64 {
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
