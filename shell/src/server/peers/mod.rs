//! The other brokers of a cluster: connections to them and from them, around the core's machines.
//!
//! ```text
//!  node loop ──says──► Outgoing ──► dial (one task a peer) ──► its --raft-addr
//!      ▲──────────────────────── mailbox ◄── accept (one task a connection) ◄── peers that dial us
//! ```
//!
//! [`Peers`] is the part of the node's task: it hands what is said to the connection that stands, tells the node what
//! happened in an order that never contradicts itself, and sees to it that there is a task for each neighbour. A
//! standalone broker has none of this.
//!
//! What the operating system is asked for beside TCP, keepalive above all, is on the near side of the seam
//! ([`Clustered::prepare`]).

mod accept;
mod dial;
mod outgoing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chronik_core::boundary::{Neighbour, Neighbours, PeerInput};
use chronik_core::ids::NodeId;
use chronik_core::peer::{self, Hello, Message};
use chronik_core::rng::Rng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Wrap;
use super::connection::Shared;
use super::mailbox::Arrival;
use super::stream::ByteStream;
use dial::{Attempts, Dialling};

pub(super) use accept::{Incoming, connections_max};
pub(super) use outgoing::Outgoing;

/// How long a peer may take to introduce itself.
const GREETING_TIME_MAX: Duration = Duration::from_secs(5);

/// What a broker of a cluster is put together from besides.
pub struct Clustered {
    /// Where its peers connect to.
    pub listener: TcpListener,
    /// Seeds the random part of the pauses between attempts to connect.
    pub jitter: u64,
    /// Sets what is wanted of the socket of each connection between brokers.
    pub prepare: fn(&TcpStream) -> io::Result<()>,
    /// Called when the cluster's id is known.
    pub on_cluster_known: OnClusterKnown,
}

/// Called with the id of the cluster as soon as it is known, and before anybody is told anything that builds on it. What
/// it fails with is fatal.
pub type OnClusterKnown = Box<dyn FnMut(&str) -> Result<(), String> + Send>;

impl fmt::Debug for Clustered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clustered").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// Has the system notice a peer whose machine has vanished, within the time after which a broker that is not heard of is
/// fenced (9 s by default): on a connection where nothing is said, and where what is said is not confirmed.
#[cfg(not(madsim))]
pub(super) fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;

    const PROBE_AFTER: Duration = Duration::from_secs(5);
    const PROBE_EVERY: Duration = Duration::from_secs(1);
    const PROBES: u32 = 3;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, 8_000)?;
    Ok(())
}

/// Simulated sockets have no such settings.
#[cfg(madsim)]
pub(super) fn notice_silence(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// How a connection between brokers comes to be, whoever dials.
pub(super) struct Road<S> {
    pub(super) wrap: Wrap<S>,
    pub(super) prepare: fn(&TcpStream) -> io::Result<()>,
}

impl<S> Clone for Road<S> {
    fn clone(&self) -> Road<S> {
        Road { wrap: self.wrap.clone(), prepare: self.prepare }
    }
}

impl<S> Road<S> {
    /// Prepares and wraps a new connection.
    fn begin(&self, stream: TcpStream, address: SocketAddr) -> io::Result<S> {
        // A message is written whole: waiting for more to send along would only delay it.
        stream.set_nodelay(true)?;
        (self.prepare)(&stream)?;
        Ok((self.wrap)(stream, address))
    }
}

/// Where peers come in, once the node has said who may.
pub(super) struct Door<S> {
    listener: TcpListener,
    neighbours: watch::Receiver<Option<Arc<Neighbours>>>,
    shared: Arc<Shared>,
    road: Road<S>,
}

/// Something for the node's task.
#[derive(Debug)]
pub(super) enum PeerArrival {
    /// A connection that was dialled stands; this is where what is said goes.
    Connected(Arc<Outgoing>),
    /// It has ended.
    Disconnected(Arc<Outgoing>),
    /// Whoever listens at a peer's address will not talk, or is not whom was meant.
    Refused(NodeId, peer::Refused),
    /// Nobody listens at a peer's address.
    Absent(NodeId),
    /// What came by a connection that was accepted, from so many bytes.
    Heard(Arc<Incoming>, Vec<PeerInput>, usize),
    /// That has ended.
    Left(Arc<Incoming>),
}

impl From<PeerArrival> for Arrival {
    fn from(arrival: PeerArrival) -> Arrival {
        Arrival::Peer(Box::new(arrival))
    }
}

/// The peers as the node's task sees them.
pub(super) struct Peers {
    neighbours: watch::Sender<Option<Arc<Neighbours>>>,
    /// Starts a task that dials a neighbour.
    dial: Dial,
    dialling: BTreeMap<NodeId, Dialled>,
    /// The connections that stand, and what was said in this pass.
    outgoing: BTreeMap<NodeId, (Arc<Outgoing>, Vec<Message>)>,
    /// Of each peer the connection that it made last.
    incoming: BTreeMap<NodeId, Arc<Incoming>>,
    on_cluster_known: OnClusterKnown,
    /// How many connections that were dialled have stood.
    connections: u64,
    is_stopped: bool,
}

type Dial = Box<dyn Fn(NodeId, Neighbour, Arc<Attempts>) -> JoinHandle<()> + Send>;

struct Dialled {
    host_and_port: (String, u16),
    task: JoinHandle<()>,
    attempts: Arc<Attempts>,
}

impl Peers {
    /// Nobody is dialled, and nobody comes in, before [`Peers::use_neighbours`] says who they are.
    pub(super) fn new<S: ByteStream>(cluster: Clustered, wrap: Wrap<S>, shared: &Arc<Shared>) -> (Peers, Door<S>) {
        let Clustered { listener, jitter, prepare, on_cluster_known } = cluster;
        let (neighbours, watched) = watch::channel(None);
        let door = Door { listener, neighbours: watched, shared: shared.clone(), road: Road { wrap, prepare } };
        let (known, shared, road) = (door.neighbours.clone(), shared.clone(), door.road.clone());
        let dial = move |to: NodeId, neighbour, attempts| {
            let random = Rng::from_number(jitter).keyed(u64::from(to.0.unsigned_abs()), 0);
            let (neighbours, shared, road) = (known.clone(), shared.clone(), road.clone());
            tokio::spawn(Dialling { to, neighbour, neighbours, shared, road, random, attempts }.run())
        };
        let peers = Peers {
            neighbours,
            dial: Box::new(dial),
            dialling: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            on_cluster_known,
            connections: 0,
            is_stopped: false,
        };
        (peers, door)
    }

    /// Keeps connections to these from now on, and to no others. Who this broker is, a peer hears once by each connection:
    /// where it has learned of which cluster it is, once in its life, all of them are made anew.
    ///
    /// # Errors
    /// Where the cluster's id cannot be kept, or is not the one that was known.
    pub(super) fn use_neighbours(&mut self, neighbours: Arc<Neighbours>) -> Result<(), String> {
        let cluster_id = &neighbours.me.cluster_id;
        if !cluster_id.is_empty()
            && self.neighbours.borrow().as_ref().is_none_or(|was| was.me.cluster_id != *cluster_id)
        {
            (self.on_cluster_known)(cluster_id)?;
        }
        let was = self.neighbours.send_replace(Some(neighbours.clone()));
        let is_renamed = was.is_some_and(|was| was.me != neighbours.me);
        if is_renamed {
            self.incoming.values().for_each(|incoming| incoming.outdate());
        }
        // A connection ends with its task, and the node is told of that in its turn.
        self.dialling.retain(|node, dialled| {
            let is_there = neighbours.peers.contains_key(node);
            if !is_there {
                dialled.task.abort();
            }
            is_there
        });
        for (node, neighbour) in &neighbours.peers {
            let (before, stands) = (self.dialling.get(node), self.outgoing.get(node));
            let is_meant = stands.is_none_or(|(outgoing, _)| peer::may_answer(&outgoing.peer, &neighbours));
            let attempts = match before {
                Some(dialled) if is_meant && !is_renamed && dialled.host_and_port == host_and_port(neighbour) => {
                    continue;
                }
                Some(dialled) => {
                    dialled.task.abort();
                    if stands.is_some() {
                        dialled.attempts.renew();
                    }
                    dialled.attempts.clone()
                }
                None => Arc::default(),
            };
            let task = (self.dial)(*node, neighbour.clone(), attempts.clone());
            self.dialling.insert(*node, Dialled { host_and_port: host_and_port(neighbour), task, attempts });
        }
        Ok(())
    }

    /// Tells the node by `step` what has arrived.
    pub(super) fn take(&mut self, arrival: PeerArrival, mut step: impl FnMut(PeerInput)) {
        match arrival {
            PeerArrival::Connected(outgoing) => {
                self.connections += 1;
                let peer = outgoing.peer.clone();
                let before = self.outgoing.insert(peer.node_id, (outgoing, Vec::new()));
                // Where its address has changed, the task of the old one may not have ended yet.
                if before.is_some() {
                    step(PeerInput::Disconnected(peer.node_id));
                }
                step(PeerInput::Connected(peer));
            }
            PeerArrival::Disconnected(outgoing) => {
                let node = outgoing.to();
                if self.outgoing.get(&node).is_some_and(|(current, _)| Arc::ptr_eq(current, &outgoing)) {
                    self.outgoing.remove(&node);
                    step(PeerInput::Disconnected(node));
                }
            }
            PeerArrival::Refused(node, refused) => step(PeerInput::Refused(node, refused)),
            // Where one connection still stands, it is the way to the peer that is broken.
            PeerArrival::Absent(node) => {
                if !self.outgoing.contains_key(&node) && !self.incoming.contains_key(&node) {
                    step(PeerInput::Gone(node));
                }
            }
            PeerArrival::Heard(incoming, heard, bytes) => {
                for input in heard {
                    if self.is_current(&incoming, &input) {
                        step(input);
                    }
                }
                incoming.took(bytes);
            }
            PeerArrival::Left(incoming) => self.incoming.retain(|_, current| !Arc::ptr_eq(current, &incoming)),
        }
    }

    /// Whether what came by a connection counts: not where its peer has made a newer one.
    fn is_current(&mut self, incoming: &Arc<Incoming>, input: &PeerInput) -> bool {
        match input {
            PeerInput::Arrived(_) if !self.is_up_to_date(incoming) => {
                incoming.outdate();
                false
            }
            PeerInput::Arrived(peer) => match self.incoming.get(&peer.node_id) {
                Some(current) if current.number > incoming.number => {
                    incoming.replace();
                    false
                }
                current => {
                    if let Some(older) = current {
                        older.replace();
                    }
                    self.incoming.insert(peer.node_id, incoming.clone());
                    self.greet_back(peer);
                    true
                }
            },
            PeerInput::Heard { from, .. } => {
                self.incoming.get(from).is_some_and(|current| Arc::ptr_eq(current, incoming))
            }
            PeerInput::Connected(_) | PeerInput::Disconnected(_) | PeerInput::Refused(..) | PeerInput::Gone(_) => {
                unreachable!("nobody hears this from a peer")
            }
        }
    }

    /// Whether a connection's peer was told who this broker is now: it may have been answered just before that was known.
    fn is_up_to_date(&self, incoming: &Incoming) -> bool {
        self.neighbours.borrow().as_ref().is_some_and(|now| incoming.is_answered_as(&now.me))
    }

    /// Sees to it that there is a connection to the very process that has connected.
    fn greet_back(&self, peer: &Hello) {
        if let Some(dialled) = self.dialling.get(&peer.node_id) {
            dialled.attempts.is_there.notify_waiters();
        }
        if let Some((outgoing, _)) = self.outgoing.get(&peer.node_id)
            && outgoing.peer.process != peer.process
        {
            outgoing.orphan();
        }
    }

    /// Says something where a connection stands.
    pub(super) fn say(&mut self, to: NodeId, message: Message) {
        if let Some((_, messages)) = self.outgoing.get_mut(&to) {
            messages.push(message);
        }
    }

    /// Gives each connection what was said and wakes it; the last time, `is_stopped`, to end when it has been sent.
    pub(super) fn hand_over(&mut self, is_stopped: bool) {
        for (outgoing, messages) in self.outgoing.values_mut() {
            if !messages.is_empty() {
                outgoing.put(messages);
            }
            if is_stopped {
                outgoing.close();
            }
        }
        self.is_stopped = is_stopped;
    }

    /// The gauges, each as its kind, name, help and value.
    pub(super) fn count(&self, mut line: impl FnMut(&str, &str, &str, u64)) {
        // Who was removed is looked for as long as the command line names it, and is missed by nobody.
        let neighbours = self.neighbours.borrow();
        let peers = neighbours.iter().flat_map(|known| &known.peers);
        let members: BTreeSet<NodeId> =
            peers.filter(|(_, known)| known.directory_id.is_some()).map(|(node, _)| *node).collect();
        let is_counted = |node: &&NodeId| members.is_empty() || members.contains(node);
        let gauges = [
            ("chronik_peers", "Other brokers of the cluster.", self.dialling.keys().filter(is_counted).count()),
            (
                "chronik_peers_connected",
                "Those of them that this one is connected to.",
                self.outgoing.keys().filter(is_counted).count(),
            ),
            (
                "chronik_peers_heard",
                "Those of them that are connected to this one.",
                self.incoming.keys().filter(is_counted).count(),
            ),
        ];
        for (name, help, value) in gauges {
            line("gauge", name, help, value as u64);
        }
        let help = "Connections to other brokers that were made.";
        line("counter", "chronik_peer_connections_total", help, self.connections);
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for (node, dialled) in &self.dialling {
            // After an orderly stop those that stand end by themselves, when all has been sent.
            if !self.is_stopped || !self.outgoing.contains_key(node) {
                dialled.task.abort();
            }
        }
    }
}

fn host_and_port(neighbour: &Neighbour) -> (String, u16) {
    (neighbour.host.to_string(), neighbour.port)
}

#[cfg(all(test, not(madsim)))]
mod tests;
