//! The bytes between clients and brokers, under the plan's faults.
//!
//! Each connection is a pair of pipes beside the simulated socket that made it. One task carries: it wakes when bytes
//! arrive somewhere or something has changed, and tells whoever waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chronik_core::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::arriving::Arriving;
use super::stream::End;
use super::world::{World, lock};
use crate::client::{Happened, Link};
use crate::engine::chance::{Chance, NETWORK, mix};
use crate::engine::net::{Pipe, Weather};
use crate::plan::Plan;

/// How a process ends, as its clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// In order: its last answers still arrive.
    Stopped,
    /// At once: what is on its way may arrive or not.
    Killed,
    /// With its machine: nobody is told.
    PowerLost,
}

/// All connections.
pub(super) struct Wires {
    pub(super) conns: Vec<Conn>,
    /// Those that something may still happen to.
    live: BTreeSet<usize>,
    pub(super) arriving: Arriving<usize>,
    /// By seat.
    pub(super) weather: Vec<Weather>,
    inboxes: Vec<UnboundedSender<Happened>>,
    /// What clients learn later, in order.
    later: BTreeMap<(Instant, u64), (usize, Happened)>,
    told: u64,
    /// By machine.
    pub(super) doors: Vec<Door>,
}

/// What clients find where they connect to a machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Door {
    pub(super) refuses: bool,
    pub(super) blackholes: bool,
    /// The machine is down: nobody is told that connections are gone.
    pub(super) is_down: bool,
}

/// One connection, from the attempt on.
pub(super) struct Conn {
    pub(super) seat: usize,
    /// To which machine it goes.
    pub(super) machine: usize,
    pub(super) link: Link,
    /// The client's end of the socket, which names the connection.
    socket: Option<TcpStream>,
    pub(super) to_server: Pipe,
    pub(super) to_client: Pipe,
    pub(super) server: Option<End>,
    pub(super) has_client: bool,
    /// When the client's end of what it sent arrives, where it has closed in order.
    end_due: Option<Instant>,
    /// The broker has closed: the client is told after the last byte.
    is_closing: bool,
}

impl Wires {
    pub(super) fn new(plan: &Plan) -> Wires {
        let seats = plan.clients.len() + 2;
        Wires {
            conns: Vec::new(),
            live: BTreeSet::new(),
            arriving: Arriving::new(),
            weather: vec![Weather::default(); seats],
            inboxes: Vec::new(),
            later: BTreeMap::new(),
            told: 0,
            doors: vec![Door::default(); plan.nodes() as usize],
        }
    }

    /// Gives the next seat its inbox.
    pub(super) fn seat(&mut self) -> UnboundedReceiver<Happened> {
        let (inbox, happened) = unbounded_channel();
        self.inboxes.push(inbox);
        happened
    }

    pub(super) fn tell(&self, seat: usize, happened: Happened) {
        // A client's task ends with the run.
        self.inboxes[seat].send(happened).ok();
    }

    fn tell_at(&mut self, at: Instant, seat: usize, happened: Happened) {
        self.told += 1;
        self.later.insert((at, self.told), (seat, happened));
    }

    /// Whether nothing passes between the two ends of this connection, one way or the other.
    pub(super) fn is_unanswered(&self, conn: usize) -> bool {
        let Conn { seat, machine, .. } = self.conns[conn];
        let (weather, door) = (&self.weather[seat], &self.doors[machine]);
        door.blackholes || door.is_down || weather.mute_to_server || weather.mute_to_client
    }

    pub(super) fn attempt(&mut self, seat: usize, link: Link, machine: usize) -> usize {
        self.conns.push(Conn {
            seat,
            machine,
            link,
            socket: None,
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            server: None,
            has_client: true,
            end_due: None,
            is_closing: false,
        });
        self.conns.len() - 1
    }

    fn client_gone(&mut self, conn: usize) {
        let conn = &mut self.conns[conn];
        conn.has_client = false;
        conn.socket = None;
    }

    /// The connections of a seat whose client is there.
    fn of(&self, seat: usize) -> Vec<usize> {
        let mine = |&conn: &usize| self.conns[conn].seat == seat && self.conns[conn].has_client;
        self.live.iter().copied().filter(mine).collect()
    }
}

impl World {
    pub(super) fn conn_chance(&self, seat: usize, link: Link, stream: u64) -> Chance {
        self.chance.keyed(NETWORK).keyed(seat as u64).keyed(u64::from(link.0)).keyed(stream)
    }

    pub(super) fn latency(&self, seat: usize, link: Link, stream: u64) -> u64 {
        let network = &self.plan.network;
        self.conn_chance(seat, link, stream).between(network.latency_us_min * 1000, network.latency_us_max * 1000)
    }

    fn after(&self, nanos: u64) -> Instant {
        Instant(self.now().0 + nanos)
    }

    /// A connection is made: the socket knows of it, and so does the client after a while.
    pub(super) fn connected(&self, conn: usize, socket: TcpStream) {
        let wires = &mut *lock(&self.wires);
        let entry = &mut wires.conns[conn];
        let (seat, link, machine) = (entry.seat, entry.link, entry.machine);
        let from = socket.local_addr().expect("a connected socket has an address");
        // Where the client has left meanwhile, the broker accepts a connection that says nothing and ends.
        if entry.has_client {
            entry.socket = Some(socket);
        } else {
            entry.end_due = Some(Instant::default());
        }
        entry.server = Some(End::default());
        wires.live.insert(conn);
        wires.arriving.made(machine, from, conn);
        if wires.conns[conn].has_client {
            let at = self.after(self.latency(seat, link, 101));
            wires.tell_at(at, seat, Happened::Connected(link));
        }
        self.wires_changed.notify_one();
    }

    pub(super) fn refused(&self, conn: usize) {
        let wires = &mut *lock(&self.wires);
        let Conn { seat, link, has_client, .. } = wires.conns[conn];
        if has_client {
            self.count("connect_refused");
            wires.client_gone(conn);
            let at = self.after(self.latency(seat, link, 101));
            wires.tell_at(at, seat, Happened::Refused(link));
            self.wires_changed.notify_one();
        }
    }

    /// The client sends.
    pub(super) fn send(&self, conn: usize, bytes: Bytes) {
        let wires = &mut *lock(&self.wires);
        wires.conns[conn].to_server.push(bytes);
        self.wires_changed.notify_one();
    }

    /// The client ends a connection: what it sent still arrives, then its end.
    pub(super) fn close(&self, conn: usize) {
        let wires = &mut *lock(&self.wires);
        let Conn { seat, link, .. } = wires.conns[conn];
        wires.conns[conn].end_due = Some(self.after(self.latency(seat, link, 105)));
        wires.client_gone(conn);
        self.wires_changed.notify_one();
    }

    /// The broker ends a connection.
    pub(super) fn server_gone(&self, conn: usize) {
        let wires = &mut *lock(&self.wires);
        if wires.conns[conn].server.take().is_some() {
            wires.conns[conn].is_closing = true;
            self.wires_changed.notify_one();
        }
    }

    /// The process on a machine is gone, and with it its ends of the connections.
    pub(super) fn end_connections(&self, machine: usize, ending: Ending) {
        let wires = &mut *lock(&self.wires);
        wires.doors[machine].is_down = ending == Ending::PowerLost;
        wires.arriving.forget(machine);
        for conn in wires.live.iter().copied().collect::<Vec<_>>() {
            let entry = &mut wires.conns[conn];
            if entry.machine != machine || entry.server.take().is_none() {
                continue;
            }
            let delivers = self.conn_chance(entry.seat, entry.link, 104).below(2) == 0;
            match ending {
                Ending::PowerLost => entry.to_client.forget(),
                Ending::Killed if !delivers => self.reset_client(wires, conn),
                Ending::Killed | Ending::Stopped => {
                    if ending == Ending::Killed {
                        entry.to_client.forget_unsent();
                    }
                    entry.is_closing = true;
                }
            }
        }
        self.wires_changed.notify_one();
    }

    /// The client is told that its connection is gone, as the answer to something that it sent.
    fn reset_client(&self, wires: &mut Wires, conn: usize) {
        let Conn { seat, link, has_client, .. } = wires.conns[conn];
        wires.conns[conn].to_server.forget();
        wires.conns[conn].to_client.forget();
        if has_client && !wires.weather[seat].mute_to_client {
            wires.client_gone(conn);
            let at = self.after(self.latency(seat, link, 102));
            wires.tell_at(at, seat, Happened::Lost(link));
        }
    }

    /// The network breaks a client's connections, wherever in a frame they are.
    pub(super) fn break_connections(&self, seat: usize, bits: u64) {
        let wires = &mut *lock(&self.wires);
        for conn in wires.of(seat) {
            self.count("reset");
            let entry = &mut wires.conns[conn];
            let arrived = entry.to_server.break_off(self.conn_chance(seat, entry.link, bits));
            entry.to_client.forget();
            if let Some(server) = &mut entry.server {
                if !arrived.is_empty() {
                    server.inbox.push_back(arrived);
                }
                (server.is_ended, server.is_reset) = (true, true);
                server.wake();
            }
            let link = entry.link;
            wires.client_gone(conn);
            wires.tell(seat, Happened::Lost(link));
        }
        self.wires_changed.notify_one();
    }

    /// The client's side of its connections is gone, and the broker is not told.
    pub(super) fn half_open(&self, seat: usize) {
        let wires = &mut *lock(&self.wires);
        for conn in wires.of(seat) {
            self.count("half_open");
            wires.conns[conn].to_server.forget();
            let link = wires.conns[conn].link;
            wires.client_gone(conn);
            wires.tell(seat, Happened::Lost(link));
        }
        self.wires_changed.notify_one();
    }

    /// Carries bytes for as long as the run goes.
    pub(super) async fn carry(self: Arc<World>) {
        loop {
            let next = [self.deliver(), self.deliver_calls()].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.wires_changed.notified() => {}
                () = self.until(next) => {}
            }
        }
    }

    /// Delivers what has arrived, and says when to look again.
    fn deliver(&self) -> Option<Instant> {
        let now = self.now();
        let wires = &mut *lock(&self.wires);
        let mut next: Option<Instant> = None;
        for conn in wires.live.iter().copied().collect::<Vec<_>>() {
            for due in [self.to_server(wires, conn, now), self.to_client(wires, conn, now)].into_iter().flatten() {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
            let Conn { seat, link, has_client, is_closing, ref to_client, ref server, .. } = wires.conns[conn];
            if is_closing && has_client && to_client.is_empty() && !wires.weather[seat].mute_to_client {
                wires.client_gone(conn);
                let at = self.after(self.latency(seat, link, 103));
                wires.tell_at(at, seat, Happened::Lost(link));
            } else if !has_client && server.is_none() {
                wires.live.remove(&conn);
            }
        }
        while let Some(entry) = wires.later.first_entry() {
            let &(at, _) = entry.key();
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
                break;
            }
            let (seat, happened) = entry.remove();
            wires.tell(seat, happened);
        }
        next
    }

    /// Returns when the next bytes or their end arrive, unless something must change before.
    fn to_server(&self, wires: &mut Wires, conn: usize, now: Instant) -> Option<Instant> {
        let Conn { seat, machine, .. } = wires.conns[conn];
        let weather = wires.weather[seat];
        if weather.mute_to_server || wires.doors[machine].is_down {
            return None;
        }
        let entry = &mut wires.conns[conn];
        let chance = self.conn_chance(seat, entry.link, 1);
        entry.to_server.pump(now, &self.plan.network, &weather, chance);
        let mut has_come = false;
        while let Some(flight) = entry.to_server.arrived(now) {
            has_come = true;
            self.event(of_bytes(&flight.bytes) ^ conn as u64, self.machines[machine].lane(), || {
                format!("{} bytes arrive by connection {conn}", flight.bytes.len())
            });
            match &mut entry.server {
                Some(server) => {
                    server.inbox.push_back(flight.bytes);
                    server.wake();
                }
                None => entry.to_server.read(flight.bytes.len()),
            }
            entry.to_server.pump(now, &self.plan.network, &weather, chance);
        }
        if has_come && entry.server.is_none() {
            self.reset_client(wires, conn);
            return None;
        }
        let entry = &mut wires.conns[conn];
        if entry.to_server.is_empty()
            && let Some(end_due) = entry.end_due
        {
            if end_due > now {
                return Some(end_due);
            }
            entry.end_due = None;
            if let Some(server) = &mut entry.server {
                server.is_ended = true;
                server.wake();
            }
        }
        entry.to_server.due()
    }

    fn to_client(&self, wires: &mut Wires, conn: usize, now: Instant) -> Option<Instant> {
        let Conn { seat, link, has_client, .. } = wires.conns[conn];
        let weather = wires.weather[seat];
        if has_client && (weather.mute_to_client || weather.reads_nothing) {
            return None;
        }
        let chance = self.conn_chance(seat, link, 2);
        let entry = &mut wires.conns[conn];
        entry.to_client.pump(now, &self.plan.network, &weather, chance);
        let mut arrived = Vec::new();
        while let Some(flight) = entry.to_client.arrived(now) {
            entry.to_client.read(flight.bytes.len());
            entry.to_client.pump(now, &self.plan.network, &weather, chance);
            arrived.push(flight.bytes);
        }
        if !arrived.is_empty()
            && let Some(server) = &mut entry.server
        {
            // It may write again what the window did not take.
            server.wake();
        }
        let due = entry.to_client.due();
        for bytes in arrived.into_iter().filter(|_| has_client) {
            self.event(of_bytes(&bytes) ^ conn as u64, self.lane(seat), || {
                format!("{} bytes arrive by connection {conn}", bytes.len())
            });
            wires.tell(seat, Happened::Received(link, bytes));
        }
        due
    }
}

/// A number for some bytes.
pub(super) fn of_bytes(bytes: &Bytes) -> u64 {
    mix((bytes.len() as u64) << 32 ^ u64::from(crc32c::crc32c(bytes)))
}
