//! Connections, from the attempt on: what travels by them and when, and how either end learns of the other's.

use chronik_core::connection::Connection;
use chronik_core::ids::{ConnId, ListenerId};
use chronik_core::time::Instant;
use chronik_core::wire::Str;

use super::process::{Arrival, ServerEnd};
use super::world::{Conn, Event, World, of_bytes};
use crate::client::{Happened, Link};
use crate::engine::chance::{Chance, NETWORK};
use crate::engine::net::Pipe;
use crate::engine::{MS, node};

/// Where all clients connect from: machines have no addresses here.
const CLIENT_HOST: Str = Str::from_static("/10.0.0.1");

impl World<'_> {
    pub(super) fn conn_of(&self, seat: usize, link: Link) -> Option<usize> {
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

    pub(super) fn connect(&mut self, seat: usize, link: Link, node: u32) {
        let links = &mut self.seats[seat].links;
        links.resize(links.len().max(link.0 as usize + 1), None);
        links[link.0 as usize] = Some(self.conns.len());
        let conn = self.conns.len();
        self.conns.push(Conn {
            seat,
            machine: node as usize - 1,
            link,
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            server: None,
            has_client: true,
            is_closing: false,
        });
        self.plan_after(self.latency(conn, 100), Event::Arrive(conn));
    }

    pub(super) fn arrive(&mut self, conn: usize) {
        let Conn { seat, machine, link, has_client, .. } = self.conns[conn];
        if !has_client {
            return;
        }
        let weather = self.seats[seat].weather;
        let at = &self.machines[machine];
        // Nobody answers: the client gives up by itself.
        if at.blackholes || at.is_down || weather.mute_to_server || weather.mute_to_client {
            self.count("connect_unanswered");
            return;
        }
        let is_refused = at.refuses || at.process.as_ref().is_none_or(|process| process.is_stopped);
        let after = self.latency(conn, 101);
        if is_refused {
            self.conns[conn].has_client = false;
            self.count("connect_refused");
            self.plan_after(after, Event::Client(seat, Happened::Refused(link)));
            return;
        }
        let id = ConnId(conn as u64);
        let connection = Connection::new(id, ListenerId(0), CLIENT_HOST, &node::limits(self.plan));
        self.conns[conn].server = Some(ServerEnd::new(id, connection));
        self.machines[machine].conn_ids.insert(id, conn);
        self.plan_after(after, Event::Client(seat, Happened::Connected(link)));
    }

    pub(super) fn conn_by_id(&self, machine: usize, id: ConnId) -> Option<usize> {
        self.machines[machine].conn_ids.get(&id).copied()
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
        self.tell_sent(conn);
    }

    /// Tells the node of the answers that have left since.
    fn tell_sent(&mut self, conn: usize) {
        let Conn { server: Some(server), to_client, machine, .. } = &mut self.conns[conn] else { return };
        let machine = *machine;
        let Some(process) = &mut self.machines[machine].process else { return };
        let mut has_sent = false;
        while let Some(sequence) = server.connection.next_sent(to_client.unsent()) {
            process.mailbox.push_back(Arrival::Sent(server.conn, sequence));
            has_sent = true;
        }
        if has_sent {
            self.plan_pass(machine);
        }
    }

    pub(super) fn carry_to_server(&mut self, conn: usize) {
        let Conn { seat, machine, .. } = self.conns[conn];
        // When it can be heard again, the pipe is looked at again.
        if self.seats[seat].weather.mute_to_server || self.machines[machine].is_down {
            return;
        }
        while let Some(flight) = self.conns[conn].to_server.arrived(self.now) {
            self.trace(self.machines[machine].lane(), Some((self.lane(seat), flight.sent_at)), |_| {
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

    pub(super) fn carry_to_client(&mut self, conn: usize) {
        let Conn { seat, machine, link, has_client, .. } = self.conns[conn];
        let weather = self.seats[seat].weather;
        if has_client && (weather.mute_to_client || weather.reads_nothing) {
            return;
        }
        while let Some(flight) = self.conns[conn].to_client.arrived(self.now) {
            self.conns[conn].to_client.read(flight.bytes.len());
            if self.conns[conn].has_client {
                self.digest(of_bytes(&flight.bytes));
                self.trace(self.lane(seat), Some((self.machines[machine].lane(), flight.sent_at)), |_| {
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

    pub(super) fn eof(&mut self, conn: usize) {
        let Conn { seat, machine, .. } = self.conns[conn];
        if self.seats[seat].weather.mute_to_server || self.machines[machine].is_down {
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
        let Conn { server: Some(server), machine, .. } = &mut self.conns[conn] else { return };
        let machine = *machine;
        let Some(process) = &mut self.machines[machine].process else { return };
        if !server.is_ready {
            server.is_ready = true;
            process.ready.push_back(conn);
        }
        self.plan_pass(machine);
    }
}
