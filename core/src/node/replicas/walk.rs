//! What concerns many partitions at once, some of them a step.

use crate::boundary::Outbox;
use crate::ids::{NodeId, TopicPartition};
use crate::node::Node;
use crate::replication::Facts;
use crate::time::Now;

/// Partitions that one step passes by, at about 0.3 µs each where there is something to do.
const WALKED_AT_ONCE: usize = 200;
/// Leaders that are woken in one step.
const WOKEN_AT_ONCE: usize = 100;

/// What all partitions are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A connection with a peer is new, in either direction.
    Connected(NodeId),
    /// Nothing can be said to a peer any more.
    Disconnected(NodeId),
    /// A broker has registered, or may or may not join in-sync sets any more.
    Member(NodeId),
    /// This process has been registered.
    Roles,
    /// Another controller decides.
    Controller,
    /// Settings may be others.
    Settings,
}

/// A walk through all partitions.
#[derive(Debug)]
pub(super) struct Walk {
    what: What,
    after: Option<TopicPartition>,
}

impl Walk {
    pub(super) fn new(what: What) -> Walk {
        Walk { what, after: None }
    }
}

impl Node {
    /// Tells all partitions of something.
    pub(super) fn tell_all(&mut self, what: What) {
        // One that has not begun tells as much. Others must keep their order.
        let is_waiting = self.replicas.walks.back().is_some_and(|last| last.what == what && last.after.is_none());
        if !is_waiting {
            self.replicas.walks.push_back(Walk::new(what));
        }
    }

    /// Goes on with the first walk.
    pub(super) fn walk_on(&mut self, now: Now, out: &mut Outbox) {
        let Some(Walk { what, after }) = self.replicas.walks.pop_front() else { return };
        let next = self.partitions_after(after, WALKED_AT_ONCE);
        for &(_, slot) in &next {
            self.pass_by(now, slot, what, out);
        }
        if next.len() == WALKED_AT_ONCE {
            let after = next.last().map(|&(id, _)| id);
            self.replicas.walks.push_front(Walk { what, after });
        }
    }

    /// Ends all walks; for a start, which nobody waits behind.
    pub(in crate::node) fn end_walks(&mut self, now: Now, out: &mut Outbox) {
        while !self.replicas.walks.is_empty() {
            self.walk_on(now, out);
        }
    }

    fn pass_by(&mut self, now: Now, slot: u32, what: What, out: &mut Outbox) {
        let now_at = now.instant;
        let partition = &self.hosts[slot as usize].as_ref().expect("a hosted partition").partition;
        let follows = |node| partition.leader().is_some_and(|leader| leader.is_followed_by(node));
        match what {
            What::Connected(node) if follows(node) => self.stir(slot, out, |partition, peers| {
                partition.connected(node, now_at, peers);
                Facts::default()
            }),
            What::Disconnected(node) if follows(node) => self.stir(slot, out, |partition, peers| {
                partition.disconnected(node, now_at, peers);
                Facts::default()
            }),
            What::Member(node) if follows(node) => {
                let Some(member) = self.member(node) else { return };
                self.stir(slot, out, |partition, peers| partition.on_member(&member, now_at, peers));
            }
            What::Member(node) if partition.is_led() && self.is_replica_of(node, partition.id()) => {
                let Some(member) = self.member(node) else { return };
                self.stir(slot, out, |partition, peers| partition.on_newcomer(&member, now_at, peers));
            }
            What::Connected(_) | What::Disconnected(_) | What::Member(_) => {}
            What::Roles => self.play_anew(now, slot, out),
            What::Controller => {
                if partition.leader().is_some_and(|leader| leader.is_proposing()) {
                    self.host(slot).partition.on_controller(now_at);
                    self.replicas.proposing.insert(slot);
                }
            }
            What::Settings => {
                if partition.is_led() {
                    let min_in_sync = self.min_in_sync(partition.id());
                    self.stir(slot, out, |partition, peers| partition.need(min_in_sync, now_at, peers));
                    self.refuse_below_minimum(slot, out);
                }
                self.slow_down(now, slot);
            }
        }
    }

    /// Leaders whose time has come act.
    pub(super) fn reach_leaders(&mut self, now: Now, out: &mut Outbox) {
        for _ in 0..WOKEN_AT_ONCE {
            let Some(&(at, slot)) = self.replicas.due.first() else { return };
            if at > now.instant {
                return;
            }
            self.replicas.due.pop_first();
            let Some(hosted) = &mut self.hosts[slot as usize] else { continue };
            hosted.wakes_at = None;
            self.stir(slot, out, |partition, peers| partition.on_deadline(now.instant, peers));
        }
    }
}
