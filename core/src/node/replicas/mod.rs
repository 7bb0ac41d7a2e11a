//! Replicas: how what peers say reaches the partitions that it is about, and what partitions have to say reaches peers.
//!
//! What is said and believed is decided by [`replication`](crate::replication), partition by partition. Here many of them
//! share one connection to each peer: all that is due for a peer at the end of a turn leaves as one message of each kind,
//! before the commit of the same turn, and all that a commit has made durable is acknowledged by one message.
//!
//! A message may be about thousands of partitions, and a peer that comes or goes concerns all that it leads or follows:
//!
//! | what is long | goes on |
//! |---|---|
//! | what a peer said (`hear`) | in the order in which it came, some partitions a step |
//! | batches for logs that are followed (`append`) | some batches a step, and when the journal has room |
//! | a peer or a controller that comes or goes, roles to be taken (`walk`) | some partitions a step |
//! | what is due for a peer (`speak`) | some partitions a turn, within the peer's credit |
//! | leaders whose time has come (`walk`) | some of them a step |
//! | acknowledgements of replicas that are slowed down (`slow`) | some of them a turn |
//!
//! An acknowledgement that waits behind batches would hold up credit, so batches wait in a queue of their own and all else
//! passes by. That is safe: what belongs to a session that has ended meanwhile is ignored.
//!
//! What waits here is bounded by what peers may send without an acknowledgement.

mod append;
mod hear;
mod lags;
mod propose;
mod roles;
mod slow;
mod speak;
mod walk;

pub(super) use speak::CatchUp;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Node, Reason};
use crate::boundary::{Effect, Outbox};
use crate::ids::{NodeId, TopicPartition};
use crate::partition::Partition;
use crate::peer::{Acked, Epochs, Message, Replica};
use crate::replication::{Facts, Peers, Said, Settings};
use crate::time::{Instant, Now};

use hear::Heard;
use walk::Walk;

/// Bytes on their way to one peer at most: of batches that are in memory anyway.
const TAIL_CREDIT: usize = 32 << 20;
/// And of batches that were read for it.
const CATCH_UP_CREDIT: usize = 8 << 20;

/// How long what a peer said, or a damaged log, waits for room in the journal until it is tried again.
const ROOM_RETRY: Duration = Duration::from_millis(10);

/// How long a leader sleeps at least.
const AGAIN: Duration = Duration::from_millis(10);

/// What the node knows of its part in replication.
pub(super) struct Replicas {
    node_id: NodeId,
    /// This process, once the metadata have registered it. Until then it neither leads nor follows.
    me: Option<Replica>,
    settings: Settings,
    peers: Peers,
    /// Who decides about in-sync sets, and in which term.
    controller: Option<(NodeId, u64)>,
    /// What was heard and is not taken up.
    heard: VecDeque<Heard>,
    /// Batches of leaders that are not appended.
    incoming: append::Queue,
    /// What is to be told to leaders.
    said: BTreeMap<NodeId, Answers>,
    walks: VecDeque<Walk>,
    /// The partitions with something to propose.
    proposing: BTreeSet<u32>,
    /// Leaders that want to be woken, and when.
    due: BTreeSet<(Instant, u32)>,
    /// Leaders that may want to be woken earlier than is known.
    stirred: Vec<u32>,
    /// Partitions whose damage was found and that have a part yet, or wait for room to be made anew.
    damaged: BTreeSet<u32>,
    intake: slow::Intake,
    lags: lags::Lags,
    /// When a step is planned.
    wakes_at: Option<Instant>,
}

/// What a leader is told of the partitions that it leads.
#[derive(Debug, Default)]
struct Answers {
    epochs: Vec<Epochs>,
    cut_done: Vec<Acked>,
    acked: Vec<Acked>,
    mismatch: Vec<Acked>,
}

impl Replicas {
    pub(super) fn new(node_id: NodeId) -> Replicas {
        Replicas {
            node_id,
            me: None,
            settings: Settings::default(),
            peers: Peers::new(TAIL_CREDIT, CATCH_UP_CREDIT),
            controller: None,
            heard: VecDeque::new(),
            incoming: append::Queue::new(),
            said: BTreeMap::new(),
            walks: VecDeque::new(),
            proposing: BTreeSet::new(),
            due: BTreeSet::new(),
            stirred: Vec::new(),
            damaged: BTreeSet::new(),
            intake: slow::Intake::default(),
            lags: lags::Lags::default(),
            wakes_at: None,
        }
    }

    pub(super) fn peers(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// Has what a follower says leave at the end of the turn.
    fn say(&mut self, (leader, said): (NodeId, Said)) {
        let answers = self.said.entry(leader).or_default();
        match said {
            Said::CutDone(acked) => answers.cut_done.push(acked),
            Said::Acked(acked) => answers.acked.push(acked),
        }
    }

    /// Something has happened to a partition that is led here, after which its leader may want to be woken earlier.
    pub(super) fn stir(&mut self, slot: u32) {
        if self.stirred.last() != Some(&slot) {
            self.stirred.push(slot);
        }
    }

    /// A partition is no more here, or nobody waits for its leader any more.
    pub(super) fn forget(&mut self, slot: u32, wakes_at: Option<Instant>) {
        self.proposing.remove(&slot);
        self.damaged.remove(&slot);
        if let Some(at) = wakes_at {
            self.due.remove(&(at, slot));
        }
    }

    /// Something has happened to a partition, by which it may have something to propose.
    pub(super) fn heed(&mut self, slot: u32, proposes: bool) {
        self.stir(slot);
        if proposes {
            self.proposing.insert(slot);
        }
    }

    /// Whether there is something to do as soon as there is time.
    fn is_busy(&self) -> bool {
        !self.heard.is_empty() || !self.walks.is_empty()
    }
}

impl Node {
    /// Has something happen to a partition, and sees to what comes of it.
    pub(super) fn stir(&mut self, slot: u32, out: &mut Outbox, act: impl FnOnce(&mut Partition, &mut Peers) -> Facts) {
        let Some(hosted) = &mut self.hosts[slot as usize] else { return };
        let before = hosted.partition.advanced();
        let facts = act(&mut hosted.partition, &mut self.replicas.peers);
        self.replicas.heed(slot, facts.proposes);
        self.rouse(slot, before, out);
    }

    /// Goes on with what is long, for one step.
    pub(super) fn replicate(&mut self, now: Now, out: &mut Outbox) {
        self.replicas.wakes_at = None;
        self.hear_on(now, out);
        self.walk_on(now, out);
        self.reach_leaders(now, out);
    }

    /// Ends a turn: everything that partitions have to say leaves.
    pub(super) fn speak(&mut self, now: Now, out: &mut Outbox) {
        self.rest_damaged(now, out);
        self.release_acks(now);
        self.answer_leaders(out);
        self.propose_in_sync(now, out);
        let has_more = self.lead_followers(now, out);
        self.plan_replicas(now, has_more);
    }

    /// Tells leaders what followers have to say.
    fn answer_leaders(&mut self, out: &mut Outbox) {
        fn say<T>(to: NodeId, parts: Vec<T>, kind: fn(Vec<T>) -> Message, out: &mut Outbox) {
            if !parts.is_empty() {
                out.push(Effect::Say { to, message: Box::new(kind(parts)) });
            }
        }
        while let Some((to, answers)) = self.replicas.said.pop_first() {
            say(to, answers.epochs, Message::Epochs, out);
            say(to, answers.cut_done, Message::CutDone, out);
            say(to, answers.acked, Message::Acked, out);
            say(to, answers.mismatch, Message::Mismatch, out);
        }
    }

    /// Has a step made when there is something to do next.
    fn plan_replicas(&mut self, now: Now, has_more: bool) {
        while let Some(slot) = self.replicas.stirred.pop() {
            let Some(hosted) = &mut self.hosts[slot as usize] else { continue };
            // What is proposed waits for a controller, and is looked at when one is known.
            let at = match self.replicas.controller.is_none() && self.replicas.proposing.contains(&slot) {
                true => hosted.partition.greets_at(),
                false => hosted.partition.deadline(now.instant),
            };
            let Some(at) = at else { continue };
            // Whoever has just been woken, and waits for somebody to decide, is not to be woken again and again.
            let at = if at > now.instant { at } else { now.instant + AGAIN };
            // One that comes too early finds nothing to do, which is cheaper than to move it each time.
            if hosted.wakes_at.is_none_or(|planned| at < planned) {
                if let Some(planned) = hosted.wakes_at.replace(at) {
                    self.replicas.due.remove(&(planned, slot));
                }
                self.replicas.due.insert((at, slot));
            }
        }
        let is_appending = self.has_incoming() && !self.followers_wait_for_room();
        let may_ask = !self.replicas.proposing.is_empty() && self.replicas.controller.is_some();
        let is_due = has_more || may_ask || is_appending || self.replicas.is_busy();
        let news = self.replicas.peers.deadline();
        let leaders = self.replicas.due.first().map(|&(at, _)| at);
        let acks = self.replicas.intake.deadline();
        // What waits for room in the journal is tried again, not tried on and on.
        let next = now.instant + if self.next_waits_for_room() { ROOM_RETRY } else { Duration::ZERO };
        let damaged = (!self.replicas.damaged.is_empty()).then_some(now.instant + ROOM_RETRY);
        let at = is_due.then_some(next).into_iter().chain(damaged).chain(news).chain(leaders).chain(acks).min();
        let at = at.map(|at| at.max(now.instant));
        if let Some(at) = at
            && self.replicas.wakes_at.is_none_or(|planned| at < planned)
        {
            if let Some(planned) = self.replicas.wakes_at.replace(at) {
                self.deadlines.remove(&(planned, Reason::Replicas));
            }
            self.deadlines.insert((at, Reason::Replicas));
        }
    }

    /// Where a partition is hosted, for what a peer says of it.
    fn slot_of(&self, partition: TopicPartition) -> Option<u32> {
        self.by_id.get(&partition).copied()
    }
}
