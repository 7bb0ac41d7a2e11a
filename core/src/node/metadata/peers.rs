//! What other brokers say about metadata, and to whom this one keeps connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::Node;
use super::Metadata;
use crate::boundary::{Effect, Level, Neighbour, Neighbours, Outbox, PeerInput};
use crate::ids::NodeId;
use crate::journal::Class;
use crate::peer::{self, Hello, RefusedBecause};
use crate::raft::{self, Role};
use crate::time::{Instant, Now};
use crate::wire::Str;

/// How long a peer is looked for at one of two addresses: some attempts to connect.
const LOOK_ELSEWHERE: Duration = Duration::from_secs(3);

/// Where a peer is looked for that may be known under two addresses.
#[derive(Debug)]
pub(super) struct Look {
    /// The address that it has registered.
    registered: (Str, u16),
    /// Whether it is looked for there, and not where the command line says.
    is_as_registered: bool,
    /// Since when, or when it was last seen there.
    since: Instant,
}

/// What a tick may add to the journal at most, in bytes, or a message beside the entries that it brings: a vote, and a
/// leader's first entry.
const TICK_BYTES: u64 = 4 << 10;

impl Node {
    /// Something happened between this broker and another one.
    pub(in crate::node) fn peer_input(&mut self, now: Now, input: PeerInput, out: &mut Outbox) {
        match input {
            PeerInput::Connected(hello) => {
                self.peer_connected(hello.node_id);
                self.metadata.connected.insert(hello.node_id);
                self.metadata.life.reached(hello.node_id);
                self.greeted(&hello, out);
                self.introduce_itself(hello.node_id, out);
                // What was said before that may be lost.
                self.ask_again(hello.node_id);
                self.live_soon(now);
            }
            PeerInput::Arrived(hello) => {
                self.peer_arrived(hello.node_id);
                if self.metadata.twins.arrived(hello.node_id, hello.process) {
                    out.log(Level::Warn, twins(hello.node_id));
                }
                self.metadata.life.reached(hello.node_id);
                self.greeted(&hello, out);
            }
            PeerInput::Disconnected(node) => {
                self.peer_disconnected(node);
                self.metadata.connected.remove(&node);
                self.metadata.quorum.report_unreachable(node);
                self.hand_over(out);
                self.ask_again(node);
            }
            PeerInput::Heard { from, message, .. } => {
                let Some(message) = self.hear(now, from, message, out) else { return };
                self.heard(now, from, message, out);
            }
            PeerInput::Refused(node, refused) => self.refused_by(node, &refused, out),
            PeerInput::Gone(node) => {
                self.metadata.life.lost(node);
                // One that was taken out may have said where it is. Who comes says it again.
                if !self.metadata.quorum.membership().members().iter().any(|member| member.node == node) {
                    self.metadata.introduced.remove(&node);
                }
            }
        }
        self.metadata.is_due |= self.metadata.is_clustered();
    }

    /// Says something to a broker, perhaps to this one.
    pub(in crate::node) fn say(&mut self, to: NodeId, message: peer::Message, out: &mut Outbox) {
        if to == self.metadata.quorum.me().node {
            self.metadata.said_here.push_back(message);
            self.metadata.is_due = true;
        } else {
            out.push(Effect::Say { to, message: Box::new(message) });
        }
    }

    /// What this broker has said to itself.
    pub(super) fn hear_here(&mut self, now: Now, me: NodeId, message: peer::Message, out: &mut Outbox) {
        if let Some(message) = self.hear(now, me, message, out) {
            self.heard(now, me, message, out);
        }
    }

    /// What a broker says of metadata, this one included.
    fn heard(&mut self, now: Now, from: NodeId, message: peer::Message, out: &mut Outbox) {
        match message {
            peer::Message::Metadata(bytes) => self.quorum_message(from, bytes, out),
            peer::Message::Register(register) => self.register_peer(now, from, register, out),
            peer::Message::Registered(registered) => self.registration_answered(now, &registered, out),
            peer::Message::Referral(referral) => self.referred(from, referral),
            peer::Message::Heartbeat(heartbeat) => self.heartbeat_of(now, from, &heartbeat, out),
            peer::Message::HeartbeatAnswer(answer) => self.heartbeat_answered(&answer, out),
            peer::Message::Forward(forward) => self.forwarded_here(now, from, forward, out),
            peer::Message::Forwarded(forwarded) => self.forward_answered(now, from, forwarded, out),
            peer::Message::AlterInSync(alter) => self.alter_in_sync(now, from, alter, out),
            // What concerns partitions is not metadata.
            _ => {}
        }
    }

    /// A message of the quorum's. Without room for what it may bring it is as if it had been lost: it will come again.
    fn quorum_message(&mut self, from: NodeId, bytes: Bytes, out: &mut Outbox) {
        let length = bytes.len() as u64;
        let message = match raft::Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                return out.log(Level::Warn, format!("node {from} says what is no message of the quorum: {error}"));
            }
        };
        // The last piece brings the whole image. What is announced larger than may be is refused below.
        let image_bytes = message.image_bytes().map_or(0, |bytes| bytes.min(self.metadata.image_bytes_max));
        if !self.has_room_for_quorum(length.max(image_bytes) + TICK_BYTES) {
            return self.checkpoint_soon();
        }
        if let Err(refused) = self.metadata.quorum.step(from, message) {
            out.log(Level::Debug, format!("what node {from} says to the quorum is not taken: {refused}"));
        }
        self.hand_over(out);
    }

    /// Whether the journal has room for so many bytes in records of half its files' length.
    fn has_room_for_quorum(&self, bytes: u64) -> bool {
        let each = (self.journal.max_record_bytes() / 2).min(bytes.max(1));
        let records = std::iter::repeat_n(each, usize::try_from(bytes.div_ceil(each)).unwrap_or(usize::MAX));
        self.journal.has_room_for(records, Class::Critical)
    }

    /// Whether time may pass for the quorum.
    pub(super) fn has_room_to_tick(&self) -> bool {
        self.has_room_for_quorum(TICK_BYTES)
    }

    /// Whoever listens at a node's address will not talk.
    fn refused_by(&mut self, node: NodeId, refused: &peer::Refused, out: &mut Outbox) {
        let is_nobody = self.metadata.quorum.membership().voters().is_empty();
        match refused.reason {
            RefusedBecause::AnotherFolder if is_nobody => {
                let me = self.metadata.quorum.me().node;
                out.push(Effect::Fatal(forgotten(me, &refused.message)));
            }
            RefusedBecause::AnotherNode if is_nobody => {
                let remedy = "correct --peers, or --node-id where two nodes have one number";
                out.push(Effect::Fatal(format!("{}: {remedy}", refused.message)));
            }
            RefusedBecause::AnotherCluster if is_nobody => {
                out.push(Effect::Fatal(format!("node {node} belongs to another cluster: {}", refused.message)));
            }
            // Whoever dials has said so, once for all attempts.
            _ => out.log(Level::Debug, format!("node {node} will not talk: {}", refused.message)),
        }
    }

    /// Has connections kept to whom they are needed, where that has changed.
    pub(super) fn tell_neighbours(&mut self, now: Now, out: &mut Outbox) {
        self.look_for_peers(now);
        let Some(cluster) = &self.metadata.cluster else { return };
        let member = self.metadata.quorum.me();
        let me = Hello {
            cluster_id: self.metadata.cluster_id.clone(),
            node_id: member.node,
            directory_id: member.directory,
            process: self.metadata.process,
            format_first: peer::FORMAT_FIRST,
            format_last: peer::FORMAT_LAST,
        };
        let mut addresses: BTreeMap<NodeId, (Str, u16)> = cluster.peers.clone();
        let image = self.controller.image();
        let members = self.metadata.quorum.membership().members();
        let nodes: BTreeSet<NodeId> = members.iter().map(|member| member.node).collect();
        for broker in image.brokers() {
            let is_known = nodes.contains(&broker.node_id) || addresses.contains_key(&broker.node_id);
            let looks_elsewhere = self.metadata.looks.get(&broker.node_id).is_some_and(|look| !look.is_as_registered);
            if let Some(address) = broker.peer_address.as_ref().filter(|_| is_known && !looks_elsewhere) {
                addresses.insert(broker.node_id, (address.host.clone(), address.port));
            }
        }
        let is_told = |node: &NodeId| {
            nodes.contains(node) && image.broker(*node).is_some_and(|known| known.peer_address.is_some())
        };
        self.metadata.introduced.retain(|node, _| !is_told(node));
        for (node, address) in &self.metadata.introduced {
            addresses.entry(*node).or_insert_with(|| address.clone());
        }
        addresses.remove(&member.node);
        let directory_of = |node: NodeId| {
            let mut named = members.iter().filter(|member| member.node == node);
            let first = named.next()?;
            named.next().is_none().then_some(first.directory)
        };
        let peers = addresses
            .into_iter()
            .map(|(node, (host, port))| (node, Neighbour { host, port, directory_id: directory_of(node) }));
        let neighbours = Neighbours { me, peers: peers.collect() };
        if self.metadata.neighbours.as_deref() != Some(&neighbours) {
            let neighbours = Arc::new(neighbours);
            self.metadata.neighbours = Some(neighbours.clone());
            out.push(Effect::Neighbours(neighbours));
        }
    }

    /// Decides where to look for each peer whose registration names another address than the command line. Nobody can tell
    /// which is newer: an operator has moved the node and says so, or it has said so itself, long since. So both are tried
    /// in turn until it is found; whoever else listens there says that it is not whom was meant.
    fn look_for_peers(&mut self, now: Now) {
        let Metadata { cluster, looks, connected, .. } = &mut self.metadata;
        let Some(cluster) = cluster else { return };
        for (node, told) in &cluster.peers {
            let known = self.controller.image().broker(*node).and_then(|known| known.peer_address.as_ref());
            let Some(registered) = known.map(|known| (known.host.clone(), known.port)) else {
                looks.remove(node);
                continue;
            };
            let is_the_same = registered == *told;
            let first = || Look { registered: registered.clone(), is_as_registered: false, since: now.instant };
            let look = looks.entry(*node).or_insert_with(first);
            if look.registered != registered {
                // It has just said so.
                *look = Look { registered, is_as_registered: true, since: now.instant };
            } else if is_the_same || connected.contains(node) {
                look.since = now.instant;
            } else if now.instant >= look.since + LOOK_ELSEWHERE {
                look.is_as_registered = !look.is_as_registered;
                look.since = now.instant;
            }
        }
    }

    /// Who leads the quorum, as far as this node knows, and in which term.
    pub(in crate::node) fn quorum_leader(&self) -> Option<(NodeId, u64)> {
        let quorum = &self.metadata.quorum;
        let leader = match quorum.role() {
            Role::Leader => Some(quorum.me().node),
            Role::Follower { leader } => leader,
            Role::Candidate => None,
        };
        leader.map(|leader| (leader, quorum.term()))
    }
}

/// What an operator is told of whose node two processes run.
fn twins(node: NodeId) -> String {
    format!(
        "two processes run as node {node}, on copies of one data folder: neither can be relied on any more; stop both, take \
         the node out of the cluster (remove-node), and in again with an empty data folder (add-node)"
    )
}

/// What an operator is told whose node has lost its folder.
pub(super) fn forgotten(node: NodeId, why: &str) -> String {
    format!(
        "the cluster knows node {node} with another data folder, whose votes this one has forgotten ({why}): put that \
         folder back, or take the node out of the cluster by remove-node, and then add it by add-node"
    )
}
