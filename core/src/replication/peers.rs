//! Whose turn it is to be sent to which peer, and how many bytes may be on their way there.
//!
//! What goes to a peer goes in lanes, each in the order in which partitions asked, an earlier lane before a later one: so
//! a follower that is far behind takes nothing from those that are at the end (rule 13). The lanes of batches have a
//! credit each. It is charged when batches are sent and given back when they are acknowledged or their session ends, so
//! that what a peer that does not read can pile up is bounded.

use std::collections::{BTreeMap, VecDeque};

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
}

/// The peers that partitions led here have followers on. A peer is known from the first thing that it is to be sent.
#[derive(Debug)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    tail_credit: usize,
    catch_up_credit: usize,
}

#[derive(Debug, Default)]
struct Peer {
    is_connected: bool,
    control: VecDeque<TopicPartition>,
    /// With the moments at which they are due, which rise.
    news: VecDeque<(Instant, TopicPartition)>,
    tail: Batches,
    catch_up: Batches,
}

#[derive(Debug, Default)]
struct Batches {
    queue: VecDeque<TopicPartition>,
    in_flight: usize,
}

impl Peers {
    /// With so many bytes on their way to each peer at most, in either lane of batches. One message may exceed them.
    pub fn new(tail_credit: usize, catch_up_credit: usize) -> Peers {
        Peers { peers: BTreeMap::new(), tail_credit, catch_up_credit }
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
        tail.or_else(|| peer.catch_up.next(self.catch_up_credit).map(|partition| (Lane::CatchUp, partition)))
    }

    /// The peers that there is something to say to now.
    pub fn ready(&self, now: Instant) -> impl Iterator<Item = NodeId> {
        let ready = self.peers.iter().filter(move |(_, peer)| {
            peer.is_connected
                && (!peer.control.is_empty()
                    || peer.news.front().is_some_and(|(due, _)| *due <= now)
                    || peer.tail.is_ready(self.tail_credit)
                    || peer.catch_up.is_ready(self.catch_up_credit))
        });
        ready.map(|(node, _)| *node)
    }

    /// When the oldest news is due.
    pub fn deadline(&self) -> Option<Instant> {
        let connected = self.peers.values().filter(|peer| peer.is_connected);
        connected.filter_map(|peer| peer.news.front().map(|(due, _)| *due)).min()
    }

    /// Bytes on their way to a peer, in a lane of batches.
    pub fn in_flight(&self, node: NodeId, lane: Lane) -> usize {
        let Some(peer) = self.peers.get(&node) else { return 0 };
        match lane {
            Lane::Tail => peer.tail.in_flight,
            Lane::CatchUp => peer.catch_up.in_flight,
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
            Lane::Control | Lane::News => panic!("batches have lanes of their own"),
        }
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
