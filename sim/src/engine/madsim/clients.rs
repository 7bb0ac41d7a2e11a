//! Clients on nodes of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use chronik_core::time::Instant;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::world::{Said, World, lock};
use crate::client::{self, Client, Happened, Link, Wanted};
use crate::engine::Lane;
use crate::engine::chance::mix;
use crate::history::ClientId;
use crate::plan::CLIENT_PORT;

/// The setup client's seat, the auditor's, and the first of the plan's clients.
pub(super) const SETUP: usize = 0;
pub(super) const AUDITOR: usize = 1;
pub(super) const OTHERS: usize = 2;

/// Who sits in a seat.
pub(super) fn id(seat: usize) -> ClientId {
    match seat {
        SETUP => ClientId::SETUP,
        AUDITOR => ClientId::AUDITOR,
        _ => ClientId(u32::try_from(seat - OTHERS).expect("few clients")),
    }
}

impl World {
    pub(super) fn lane(&self, seat: usize) -> Lane {
        Lane::Client(id(seat).0)
    }

    fn machine(&self, seat: usize) -> Box<dyn Client> {
        match seat {
            SETUP => client::setup(&self.plan),
            AUDITOR => client::auditor(&self.plan),
            _ => client::machine(&self.plan, id(seat)),
        }
    }
}

/// Drives the client in a seat for as long as the run goes.
pub(super) async fn drive(world: Arc<World>, seat: usize, mut inbox: UnboundedReceiver<Happened>) {
    let mut machine = world.machine(seat);
    let mut links = BTreeMap::new();
    let mut timers = BTreeSet::new();
    let mut wanted = Vec::new();
    loop {
        let happened = next(&world, &mut inbox, &mut timers).await;
        if let Happened::Lost(link) | Happened::Refused(link) = happened {
            // Its number is never used again.
            links.remove(&link);
        }
        let was_done = machine.is_done();
        if matches!(happened, Happened::Timer) {
            world.event(mix(seat as u64), world.lane(seat), || "its timer is due".into());
        }
        machine.step(world.client_now(), happened, &mut wanted);
        for wanted in wanted.drain(..) {
            carry_out(&world, seat, wanted, &mut links, &mut timers);
        }
        world.describe(world.lane(seat), || machine.describe());
        if !was_done && machine.is_done() {
            world.say(Said::Done(seat));
        }
    }
}

async fn next(world: &World, inbox: &mut UnboundedReceiver<Happened>, timers: &mut BTreeSet<Instant>) -> Happened {
    tokio::select! {
        biased;
        Some(happened) = inbox.recv() => happened,
        () = world.until(timers.first().copied()) => {
            timers.pop_first();
            Happened::Timer
        }
    }
}

fn carry_out(
    world: &Arc<World>,
    seat: usize,
    wanted: Wanted,
    links: &mut BTreeMap<Link, usize>,
    timers: &mut BTreeSet<Instant>,
) {
    match wanted {
        Wanted::Connect(link, node) => {
            let conn = lock(&world.wires).attempt(seat, link, node as usize - 1);
            links.insert(link, conn);
            tokio::spawn(connect(world.clone(), seat, link, conn));
        }
        Wanted::Send(link, bytes) => {
            if let Some(&conn) = links.get(&link) {
                world.send(conn, bytes);
            }
        }
        Wanted::Close(link) => {
            if let Some(conn) = links.remove(&link) {
                world.close(conn);
            }
        }
        Wanted::WakeAt(at) => drop(timers.insert(at)),
        Wanted::Order(node, order) => world.say(Said::Ordered(node, order)),
        Wanted::Record(operation, what) => {
            world.trace(world.lane(seat), || what.to_string());
            world.record_by(id(seat), operation, what);
        }
    }
}

/// Attempts to connect. What nobody answers is the client's to give up.
async fn connect(world: Arc<World>, seat: usize, link: Link, conn: usize) {
    let arrives = Instant(world.now().0 + world.latency(seat, link, 100));
    world.until(Some(arrives)).await;
    let (machine, refuses) = {
        let wires = lock(&world.wires);
        if !wires.conns[conn].has_client {
            return;
        }
        if wires.is_unanswered(conn) {
            drop(wires);
            world.count("connect_unanswered");
            return;
        }
        let machine = wires.conns[conn].machine;
        (machine, wires.doors[machine].refuses)
    };
    let made = TcpStream::connect((world.machines[machine].ip(), CLIENT_PORT)).await;
    match made.ok().filter(|_| !refuses).and_then(listened_to) {
        Some(socket) => world.connected(conn, socket),
        None => world.refused(conn),
    }
}

/// The socket, unless nobody can accept it. A broker that stops accepts nobody any more and goes on with those whom it
/// has; as long as it has any, madsim makes connections to it all the same, and ends them at once.
fn listened_to(mut socket: TcpStream) -> Option<TcpStream> {
    // No broker ever writes to the socket itself: all that it can say is that it has ended.
    let mut nothing = [0];
    let mut cx = Context::from_waker(Waker::noop());
    let read = Pin::new(&mut socket).poll_read(&mut cx, &mut ReadBuf::new(&mut nothing));
    read.is_pending().then_some(socket)
}

#[cfg(test)]
mod tests {
    use madsim::runtime::Runtime;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn who_connects_where_nobody_listens_any_more_is_refused() {
        Runtime::new().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("the port is free");
            let address = listener.local_addr().expect("it is bound");
            let socket = TcpStream::connect(address).await.expect("it is listened to");
            assert!(listened_to(socket).is_some());
            let _open = listener.accept().await.expect("somebody has connected");
            drop(listener);
            let socket = TcpStream::connect(address).await.expect("madsim connects as long as a connection is open");
            assert!(listened_to(socket).is_none());
        });
    }
}
