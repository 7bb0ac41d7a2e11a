//! Whose turn it is to be sent to which peer, and how many bytes may be on their way there.
//!
//! What goes to a peer goes in lanes, each in the order in which partitions asked, an earlier lane before a later one: so
//! a follower that is far behind takes nothing from those that are at the end (rule 13). The lanes of batches have a
//! credit each; those that are slowed down by a setting have a lane of their own, behind the others, so that what waits
//! there holds up nobody who is not. Credit is charged when batches are sent and given back when they are acknowledged or their session ends, so
//! that what a peer that does not read can pile up is bounded.

use std::collections::{BTreeMap, VecDeque};

use super::Throttle;
use crate::ids::{NodeId, TopicPartition};
use crate::time::Instant;

/// What is sent before what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Greetings and cuts.
    Control,
    /// A high watermark or a log start alone.
    News,
    /// Batches that are in memory.
    Tail,
    /// Batches that must be read from segments.
    CatchUp,
    /// Batches for a replica that takes only so many bytes a second, be they in memory or not.
    Slow,
    /// The same for one that is sent only so many.
    Gated,
}

/// Bytes on their way to one peer for replicas that are slowed down: what a commit or two of the peer take, so that a
/// peer that counts what it takes gets little more than it wants.
const SLOW_CREDIT: usize = 1 << 20;

/// The peers that partitions led here have followers on. A peer is known from the first thing that it is to be sent.
#[derive(Debug)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    tail_credit: usize,
    catch_up_credit: usize,
    /// What is sent to all peers together in the lane [`Lane::Gated`].
    gate: Throttle,
}

#[derive(Debug, Default)]
struct Peer {
    is_connected: bool,
    control: VecDeque<TopicPartition>,
    /// With the moments at which they are due, which rise.
    news: VecDeque<(Instant, TopicPartition)>,
    tail: Batches,
    catch_up: Batches,
    /// Of both lanes of those that are slowed down; the queue is that of [`Lane::Slow`].
    slow: Batches,
    gated: VecDeque<TopicPartition>,
}

#[derive(Debug, Default)]
struct Batches {
    queue: VecDeque<TopicPartition>,
    in_flight: usize,
}

impl Peers {
    /// With so many bytes on their way to each peer at most, in either lane of batches. One message may exceed them.
    pub fn new(tail_credit: usize, catch_up_credit: usize) -> Peers {
        Peers { peers: BTreeMap::new(), tail_credit, catch_up_credit, gate: Throttle::default() }
    }

    /// Something can be sent to the peer from now on. Tell [`Leader::connected`](super::Leader::connected) of every
    /// partition that it follows.
    pub fn connected(&mut self, node: NodeId) {
        self.peers.entry(node).or_default().is_connected = true;
    }

    /// Nothing can be sent any more. What was queued is dropped; each partition's leader begins anew with the next
    /// connection.
    pub fn disconnected(&mut self, node: NodeId) {
        let peer = self.peers.entry(node).or_default();
        peer.is_connected = false;
        peer.control.clear();
        peer.news.clear();
        peer.tail.queue.clear();
        peer.catch_up.queue.clear();
        peer.slow.queue.clear();
        peer.gated.clear();
    }

    /// A broker is no part of the cluster any more. No partition has a follower there.
    pub fn forget(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// Whether something can be sent to the peer.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_connected)
    }

    /// Whose turn it is, and in which lane: ask its leader what to send ([`Leader::next`](super::Leader::next)).
    /// `None` where nobody has anything to say, or all credit is used up.
    pub fn next(&mut self, node: NodeId, now: Instant) -> Option<(Lane, TopicPartition)> {
        let peer = self.peers.get_mut(&node).filter(|peer| peer.is_connected)?;
        if let Some(partition) = peer.control.pop_front() {
            return Some((Lane::Control, partition));
        }
        if let Some(&(due, partition)) = peer.news.front()
            && due <= now
        {
            peer.news.pop_front();
            return Some((Lane::News, partition));
        }
        let tail = peer.tail.next(self.tail_credit).map(|partition| (Lane::Tail, partition));
        let catch_up =
            |peer: &mut Peer| peer.catch_up.next(self.catch_up_credit).map(|partition| (Lane::CatchUp, partition));
        let gated = |peer: &mut Peer| {
            let is_open = peer.waits_at_gate() && self.gate.is_open(now);
            if is_open { peer.gated.pop_front().map(|partition| (Lane::Gated, partition)) } else { None }
        };
        let slow = |peer: &mut Peer| peer.slow.next(SLOW_CREDIT).map(|partition| (Lane::Slow, partition));
        tail.or_else(|| catch_up(peer)).or_else(|| gated(peer)).or_else(|| slow(peer))
    }

    /// What is sent in the lane [`Lane::Gated`] to all peers together, in bytes a second.
    pub fn slow_down_to(&mut self, rate: u64) {
        self.gate.obey(rate);
    }

    pub(super) fn gate(&mut self) -> &mut Throttle {
        &mut self.gate
    }

    /// The peers that there is something to say to now.
    pub fn ready(&self, now: Instant) -> impl Iterator<Item = NodeId> {
        let ready = self.peers.iter().filter(move |(_, peer)| {
            peer.is_connected
                && (!peer.control.is_empty()
                    || peer.news.front().is_some_and(|(due, _)| *due <= now)
                    || peer.tail.is_ready(self.tail_credit)
                    || peer.catch_up.is_ready(self.catch_up_credit)
                    || peer.slow.is_ready(SLOW_CREDIT)
                    || (peer.waits_at_gate() && self.gate.is_open(now)))
        });
        ready.map(|(node, _)| *node)
    }

    /// When the oldest news is due, or what is sent only now and then.
    pub fn deadline(&self) -> Option<Instant> {
        let connected = || self.peers.values().filter(|peer| peer.is_connected);
        let news = connected().filter_map(|peer| peer.news.front().map(|(due, _)| *due)).min();
        let gate = self.gate.opens_at().filter(|_| connected().any(Peer::waits_at_gate));
        news.into_iter().chain(gate).min()
    }

    /// Bytes on their way to a peer, in a lane of batches.
    pub fn in_flight(&self, node: NodeId, lane: Lane) -> usize {
        let Some(peer) = self.peers.get(&node) else { return 0 };
        match lane {
            Lane::Tail => peer.tail.in_flight,
            Lane::CatchUp => peer.catch_up.in_flight,
            Lane::Slow | Lane::Gated => peer.slow.in_flight,
            Lane::Control | Lane::News => 0,
        }
    }

    /// Queues a partition, whose leader knows that it is not queued there. `due` is for news.
    pub(super) fn queue(&mut self, node: NodeId, lane: Lane, partition: TopicPartition, due: Instant) {
        let peer = self.peers.entry(node).or_default();
        match lane {
            Lane::Control => peer.control.push_back(partition),
            Lane::News => peer.news.push_back((due, partition)),
            Lane::Tail => peer.tail.queue.push_back(partition),
            Lane::CatchUp => peer.catch_up.queue.push_back(partition),
            Lane::Slow => peer.slow.queue.push_back(partition),
            Lane::Gated => peer.gated.push_back(partition),
        }
    }

    pub(super) fn charge(&mut self, node: NodeId, lane: Lane, bytes: usize) {
        self.batches(node, lane).in_flight += bytes;
    }

    pub(super) fn give_back(&mut self, node: NodeId, lane: Lane, bytes: usize) {
        let batches = self.batches(node, lane);
        assert!(batches.in_flight >= bytes, "what is given back was charged");
        batches.in_flight -= bytes;
    }

    fn batches(&mut self, node: NodeId, lane: Lane) -> &mut Batches {
        let peer = self.peers.entry(node).or_default();
        match lane {
            Lane::Tail => &mut peer.tail,
            Lane::CatchUp => &mut peer.catch_up,
            Lane::Slow | Lane::Gated => &mut peer.slow,
            Lane::Control | Lane::News => panic!("batches have lanes of their own"),
        }
    }
}

impl Peer {
    /// Whether something may be sent as soon as the gate is open.
    fn waits_at_gate(&self) -> bool {
        !self.gated.is_empty() && self.slow.in_flight < SLOW_CREDIT
    }
}

impl Batches {
    fn is_ready(&self, credit: usize) -> bool {
        !self.queue.is_empty() && self.in_flight < credit
    }

    fn next(&mut self, credit: usize) -> Option<TopicPartition> {
        if self.is_ready(credit) { self.queue.pop_front() } else { None }
    }
}
