//! A little world: brokers that crash and restart, connections that end, metadata that are heard of late, clients that
//! produce. Every step is judged by `claims`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use smallvec::smallvec;

use super::authority::Authority;
use super::claims::Claims;
use super::store::{Change, Record, Store};
use super::{PARTITION, member};
use crate::ids::{LeaderEpoch, NodeId, Offset, Session};
use crate::peer::{Answer, Append, Batches, Message, Proposal, Replica};
use crate::replication::{CutDecision, Facts, Follower, Lane, Leader, Next, Peers, Said, Settings, Taken};
use crate::rng::Rng;
use crate::time::Instant;

/// Bytes of a record in a message: its offset, its epoch, its id.
const RECORD_BYTES: usize = 20;

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) brokers: Vec<Broker>,
    pub(super) authority: Authority,
    pub(super) min_in_sync: usize,
    connections: BTreeMap<(NodeId, NodeId), Connection>,
    requests: BTreeMap<NodeId, VecDeque<(Replica, u64, Proposal)>>,
    answers: BTreeMap<NodeId, VecDeque<Answer>>,
    next_id: u64,
    claims: Claims,
}

#[derive(Default)]
struct Connection {
    queue: VecDeque<Sent>,
    /// Nothing arrives any more, which its dialler may not have noticed.
    is_broken: bool,
}

enum Sent {
    Hello,
    Message(Message),
}

pub(super) struct Broker {
    pub(super) node: NodeId,
    pub(super) store: Store,
    /// What the journal has of the high watermark.
    kept: (Offset, LeaderEpoch),
    pub(super) process: Option<Process>,
}

pub(super) struct Process {
    pub(super) replica: Replica,
    /// The entry of the metadata that registered it, before which it does nothing.
    registered: usize,
    applied: usize,
    /// The term of the controller that it knows.
    term: u64,
    pub(super) role: Role,
    pub(super) peers: Peers,
    /// What was known when it had no role.
    known: (Offset, LeaderEpoch),
    reads: Vec<(NodeId, Session, Offset, usize)>,
    waiting: VecDeque<(Offset, Record)>,
    is_full: bool,
}

pub(super) enum Role {
    None,
    Leader(Box<Leader>),
    Follower(Box<Follower>),
}

pub(super) fn settings() -> Settings {
    Settings {
        lag_time_max: Duration::from_millis(80),
        lag_entries_max: Some(20),
        partition_credit: 6 * RECORD_BYTES,
        read_bytes_max: 3 * RECORD_BYTES,
        news_within: Duration::from_millis(20),
        backoff: Duration::from_millis(30),
        proposal_timeout: Duration::from_millis(150),
    }
}

fn process(replica: Replica, registered: usize, known: (Offset, LeaderEpoch)) -> Process {
    Process {
        replica,
        registered,
        applied: 0,
        term: 1,
        role: Role::None,
        peers: Peers::new(8 * RECORD_BYTES, 4 * RECORD_BYTES),
        known,
        reads: Vec::new(),
        waiting: VecDeque::new(),
        is_full: false,
    }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = Rng::from_number(seed);
        let brokers = 3 + 2 * (rng.below(4) == 0) as i32;
        let min_in_sync = 1 + rng.below(3) as usize;
        let broker = |node| {
            let replica = member(node, 1 + i64::from(node)).replica;
            let kept = (Offset(0), LeaderEpoch(-1));
            Broker { node: NodeId(node), store: Store::default(), kept, process: Some(process(replica, 0, kept)) }
        };
        let mut world = World {
            seed,
            rng,
            now: Instant(1_000_000_000),
            brokers: (0..brokers).map(broker).collect(),
            authority: Authority::new(brokers, min_in_sync),
            min_in_sync,
            connections: BTreeMap::new(),
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_id: 0,
            claims: Claims::new(seed),
        };
        for node in 0..brokers {
            world.play(NodeId(node));
            for other in 0..brokers {
                world.connect(NodeId(node), NodeId(other));
            }
        }
        world
    }

    pub(super) fn nodes(&self) -> usize {
        self.brokers.len()
    }

    fn broker(&mut self, node: NodeId) -> &mut Broker {
        &mut self.brokers[node.0 as usize]
    }

    fn image_of(&self, node: NodeId) -> Option<&super::authority::Image> {
        let process = self.brokers[node.0 as usize].process.as_ref()?;
        (process.applied >= process.registered).then(|| &self.authority.log[process.applied])
    }

    // Metadata.

    /// A broker hears of the next entry, and of who decides.
    pub(super) fn apply_metadata(&mut self, node: NodeId) {
        let (newest, term, now) = (self.authority.log.len() - 1, self.authority.term, self.now);
        let Some(process) = &mut self.broker(node).process else { return };
        if process.term < term {
            process.term = term;
            if let Role::Leader(leader) = &mut process.role {
                leader.on_controller(now);
            }
        }
        if process.applied < newest {
            process.applied += 1;
            self.play(node);
        }
    }

    /// Takes the role that the metadata give.
    fn play(&mut self, node: NodeId) {
        let Some(image) = self.image_of(node).cloned() else { return };
        let (now, min_in_sync) = (self.now, self.min_in_sync);
        let broker = &mut self.brokers[node.0 as usize];
        let log = broker.store.ends();
        let process = broker.process.as_mut().expect("it has an image");
        let peers = &mut process.peers;
        let leads = image.leader == Some(node);
        if let Role::Leader(leader) = &mut process.role
            && leads
            && leader.leader_epoch() == image.leader_epoch
        {
            let mut facts = leader.on_view(&image.view(), now, peers);
            for node in image.brokers.keys() {
                let more = leader.on_member(&image.member(*node), now, peers);
                facts.high_watermark = facts.high_watermark.max(more.high_watermark);
                facts.start = facts.start.max(more.start);
            }
            return self.heed(node, facts);
        }
        let known = match &mut process.role {
            Role::Follower(follower) if !leads => {
                if let Some(asks) = follower.follow(image.leadership(), log)
                    && let Some(leader) = image.leader
                {
                    self.send(node, leader, Message::Mismatch(vec![asks]));
                }
                return;
            }
            Role::Follower(follower) => follower.high_watermark(),
            Role::Leader(leader) => (leader.high_watermark(), leader.leader_epoch()),
            Role::None => process.known,
        };
        if let Role::Leader(leader) = std::mem::replace(&mut process.role, Role::None) {
            leader.resign(now, peers);
            process.waiting.clear();
        }
        process.reads.clear();
        if leads {
            let replica = process.replica.clone();
            let view = image.view();
            let leader = Leader::new(PARTITION, replica, &view, min_in_sync, log, known.0, settings(), now, peers);
            let epoch = leader.leader_epoch();
            process.role = Role::Leader(Box::new(leader));
            self.claims.leads(epoch, &broker.store);
        } else {
            let replica = process.replica.clone();
            let leadership = image.leadership();
            let (follower, asks) = Follower::new(PARTITION, replica.broker_epoch, leadership, log, known.0, known.1);
            process.role = Role::Follower(Box::new(follower));
            if let Some(leader) = image.leader {
                self.send(node, leader, Message::Mismatch(vec![asks]));
            }
        }
    }

    /// The authority takes the oldest request of a broker, or a broker the oldest answer.
    pub(super) fn decide(&mut self, node: NodeId) {
        if let Some((from, term, proposal)) = self.requests.entry(node).or_default().pop_front() {
            let before = self.authority.log.len();
            let answer = self.authority.decide(from, term, &proposal);
            if self.authority.log.len() > before {
                for member in &proposal.members {
                    self.claims.joined(&self.brokers[member.node.0 as usize].store);
                }
            }
            self.answers.entry(node).or_default().extend(answer);
        }
    }

    pub(super) fn hear_answer(&mut self, node: NodeId) {
        let now = self.now;
        let Some(answer) = self.answers.entry(node).or_default().pop_front() else { return };
        let Some(process) = &mut self.broker(node).process else { return };
        let Role::Leader(leader) = &mut process.role else { return };
        let facts = leader.on_answer(&answer, now, &mut process.peers);
        self.heed(node, facts);
    }

    /// What is on its way between a broker and the controller is lost, one way or both.
    pub(super) fn lose_requests(&mut self, node: NodeId) {
        if self.rng.below(2) == 0 {
            self.requests.remove(&node);
        }
        self.answers.remove(&node);
    }

    // Connections.

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if let Some(connection) = self.connections.get_mut(&(from, to))
            && !connection.is_broken
        {
            connection.queue.push_back(Sent::Message(message));
        }
    }

    /// Takes the place of whatever connection there was.
    pub(super) fn connect(&mut self, from: NodeId, to: NodeId) {
        let is_up = self.connections.get(&(from, to)).is_some_and(|connection| !connection.is_broken);
        let now = self.now;
        if from == to || is_up || self.broker(to).process.is_none() {
            return;
        }
        let Some(process) = &mut self.broker(from).process else { return };
        process.peers.disconnected(to);
        if let Role::Leader(leader) = &mut process.role {
            leader.disconnected(to, now, &mut process.peers);
        }
        process.peers.connected(to);
        if let Role::Leader(leader) = &mut process.role {
            leader.connected(to, now, &mut process.peers);
        }
        let connection = Connection { queue: VecDeque::from([Sent::Hello]), is_broken: false };
        self.connections.insert((from, to), connection);
    }

    pub(super) fn reset(&mut self, from: NodeId, to: NodeId) {
        if let Some(connection) = self.connections.get_mut(&(from, to)) {
            connection.queue.clear();
            connection.is_broken = true;
        }
    }

    /// One message arrives.
    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(connection) = self.connections.get_mut(&(from, to)) else { return false };
        let Some(sent) = connection.queue.pop_front() else { return false };
        let now = self.now;
        let Some(process) = &mut self.broker(to).process else { return true };
        match sent {
            Sent::Hello => {
                if let Role::Leader(leader) = &mut process.role {
                    leader.connected(from, now, &mut process.peers);
                }
            }
            Sent::Message(message) => self.receive(from, to, message),
        }
        true
    }

    /// One message arrives somewhere.
    pub(super) fn deliver_any(&mut self) {
        let filled: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| !connection.queue.is_empty())
            .map(|(pair, _)| *pair)
            .collect();
        if let Some((from, to)) = self.one_of(&filled) {
            self.deliver(from, to);
        }
    }

    fn one_of<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        (!things.is_empty()).then(|| things[self.rng.below(things.len() as u64) as usize])
    }

    fn receive(&mut self, from: NodeId, to: NodeId, message: Message) {
        let now = self.now;
        let broker = self.broker(to);
        let store = &mut broker.store;
        let log = store.ends();
        let process = broker.process.as_mut().expect("it receives");
        let peers = &mut process.peers;
        let answer = match (&mut process.role, message) {
            (Role::Leader(leader), Message::Epochs(told)) => {
                leader.on_epochs(from, &told[0], &store.memory.epochs(), now, peers);
                None
            }
            (Role::Leader(leader), Message::CutDone(done)) => {
                let facts = leader.on_cut_done(from, &done[0], now, peers);
                return self.heed(to, facts);
            }
            (Role::Leader(leader), Message::Acked(acked)) => {
                let facts = leader.on_acked(from, &acked[0], now, peers);
                return self.heed(to, facts);
            }
            (Role::Leader(leader), Message::Mismatch(acked)) => {
                leader.on_mismatch(from, &acked[0], now, peers);
                None
            }
            (Role::Follower(_), _) if process.is_full => None,
            (Role::Follower(follower), Message::Greet(greet)) => {
                let epochs = follower.on_greet(from, &greet[0], &store.memory.epochs(), log);
                epochs.map(|epochs| Message::Epochs(vec![epochs]))
            }
            (Role::Follower(follower), Message::Cut(cut)) => match follower.on_cut(from, &cut[0], log) {
                CutDecision::Ignore => None,
                CutDecision::Done(done) => Some(Message::CutDone(vec![done])),
                CutDecision::Cut(to) => {
                    store.apply(Change::Cut(to));
                    None
                }
                CutDecision::StartAnew(at) => {
                    store.apply(Change::StartAnew(at));
                    None
                }
                refused @ CutDecision::BelowHighWatermark { .. } => panic!("{refused:?}"),
            },
            (Role::Follower(follower), Message::Append(append)) => take(follower, from, &append[0], store),
            _ => None,
        };
        if let Some(answer) = answer {
            self.send(to, from, answer);
        }
        self.follower_heard(to);
    }

    // Turns.

    /// A broker says what it has to say to one peer, at most so many parts.
    pub(super) fn turn(&mut self, node: NodeId, to: NodeId, parts: usize) {
        for _ in 0..parts {
            let (now, is_cold) = (self.now, self.rng.below(4) == 0);
            let broker = self.broker(node);
            let Some(process) = &mut broker.process else { return };
            let Some((lane, _)) = process.peers.next(to, now) else { return };
            let Role::Leader(leader) = &mut process.role else { continue };
            let message = match leader.next(to, lane, now, &mut process.peers) {
                Next::Nothing => continue,
                Next::Greet(greet) => Message::Greet(vec![greet]),
                Next::Cut(cut) => Message::Cut(vec![cut]),
                Next::News(append) => Message::Append(vec![append]),
                Next::Batches { from, bytes_max, session } => match lane {
                    Lane::CatchUp => {
                        process.reads.push((to, session, from, bytes_max));
                        continue;
                    }
                    _ if is_cold => {
                        leader.wait_for_catch_up(to, now, &mut process.peers);
                        continue;
                    }
                    _ => {
                        let (batches, up_to) = read(&broker.store, from, bytes_max);
                        Message::Append(vec![leader.send(to, batches, up_to, now, &mut process.peers)])
                    }
                },
            };
            self.send(node, to, message);
        }
    }

    /// Some broker says something to a peer.
    pub(super) fn turn_any(&mut self) {
        let ready: Vec<_> = self
            .brokers
            .iter()
            .filter_map(|broker| Some((broker.node, &broker.process.as_ref()?.peers)))
            .flat_map(|(node, peers)| peers.ready(self.now).map(move |peer| (node, peer)))
            .collect();
        if let Some((from, to)) = self.one_of(&ready) {
            let parts = 1 + self.rng.below(3) as usize;
            self.turn(from, to, parts);
        }
    }

    /// A read from a segment is done.
    pub(super) fn finish_read(&mut self, node: NodeId) {
        let now = self.now;
        let broker = self.broker(node);
        let Some(process) = &mut broker.process else { return };
        let Some((to, session, from, bytes_max)) = process.reads.pop() else { return };
        let Role::Leader(leader) = &mut process.role else { return };
        // What has been deleted meanwhile is not sent, whatever the read brings.
        let from = from.max(broker.store.memory.start);
        let (batches, up_to) = read(&broker.store, from, bytes_max);
        if let Some(append) = leader.send_read(to, session, batches, up_to, now, &mut process.peers) {
            self.send(node, to, Message::Append(vec![append]));
        }
    }

    /// A disk makes changes durable.
    pub(super) fn sync(&mut self, node: NodeId, changes: usize) {
        let (now, keeps) = (self.now, self.rng.below(4) == 0);
        let broker = self.broker(node);
        broker.store.sync(changes);
        let log = broker.store.ends();
        let Some(process) = &mut broker.process else { return };
        match &mut process.role {
            Role::None => {}
            Role::Leader(leader) => {
                if keeps {
                    broker.kept = (leader.high_watermark(), leader.leader_epoch());
                }
                let facts = leader.confirmed(log.durable, log.start, now, &mut process.peers);
                self.heed(node, facts);
            }
            Role::Follower(follower) => {
                if keeps {
                    broker.kept = follower.high_watermark();
                }
                let leader = follower.leadership().leader;
                let answer = match follower.confirmed(log) {
                    None => return,
                    Some(Said::CutDone(done)) => Message::CutDone(vec![done]),
                    Some(Said::Acked(acked)) => Message::Acked(vec![acked]),
                };
                self.send(node, leader.expect("it was greeted by one"), answer);
            }
        }
    }

    /// Time passes; whoever waited for it acts.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let now = self.now;
        for node in 0..self.nodes() as i32 {
            let node = NodeId(node);
            let Some(process) = &mut self.broker(node).process else { continue };
            let Role::Leader(leader) = &mut process.role else { continue };
            if leader.deadline(now).is_some_and(|moment| moment <= now) {
                let facts = leader.on_deadline(now, &mut process.peers);
                self.heed(node, facts);
            }
        }
    }

    // Clients and operators.

    /// A client produces to whoever believes that it leads.
    pub(super) fn produce(&mut self, node: NodeId, all: bool) {
        self.next_id += 1;
        let (now, id) = (self.now, self.next_id);
        let broker = self.broker(node);
        let Some(process) = &mut broker.process else { return };
        let Role::Leader(leader) = &mut process.role else { return };
        if all && leader.is_below_minimum() {
            return;
        }
        let record = Record { epoch: leader.leader_epoch(), id };
        let offset = broker.store.memory.end();
        broker.store.apply(Change::Append(record));
        leader.appended(broker.store.memory.end(), now, &mut process.peers);
        if all {
            process.waiting.push_back((offset, record));
        }
    }

    pub(super) fn delete_records(&mut self, node: NodeId) {
        let broker = self.broker(node);
        let Some(Process { role: Role::Leader(leader), .. }) = &broker.process else { return };
        let to = leader.high_watermark();
        if to > broker.store.memory.start {
            broker.store.apply(Change::Start(to));
        }
    }

    pub(super) fn crash(&mut self, node: NodeId) {
        let survives = {
            let pending = self.broker(node).store.pending() as u64;
            self.rng.below(pending + 1) as usize
        };
        let broker = self.broker(node);
        if broker.process.take().is_some() {
            broker.store.crash(survives);
            // What it had sent may arrive yet; what was on its way to it will not.
            for other in 0..self.nodes() as i32 {
                self.reset(NodeId(other), node);
            }
        }
    }

    pub(super) fn restart(&mut self, node: NodeId) {
        if self.broker(node).process.is_none() {
            let (broker_epoch, index) = self.authority.register(node);
            let broker = self.broker(node);
            broker.process = Some(process(Replica { node, broker_epoch }, index, broker.kept));
            for other in 0..self.nodes() as i32 {
                if let Some(connection) = self.connections.get_mut(&(node, NodeId(other))) {
                    connection.is_broken = true;
                }
            }
        }
    }

    pub(super) fn unfence(&mut self, node: NodeId) {
        let Some(process) = &self.broker(node).process else { return };
        if process.applied >= process.registered {
            let epoch = process.replica.broker_epoch;
            self.authority.unfence(node, epoch);
        }
    }

    /// The disk of a follower has no room for a while.
    pub(super) fn set_full(&mut self, node: NodeId, is_full: bool) {
        let broker = self.broker(node);
        let log = broker.store.ends();
        let Some(process) = &mut broker.process else { return };
        let was_full = std::mem::replace(&mut process.is_full, is_full);
        let Role::Follower(follower) = &mut process.role else { return };
        match (was_full, is_full) {
            (false, true) => follower.interrupt(),
            (true, false) => {
                let asks = follower.resume(log);
                if let Some(leader) = follower.leadership().leader {
                    self.send(node, leader, Message::Mismatch(vec![asks]));
                }
            }
            _ => {}
        }
    }

    // What comes of it.

    /// A leader has come further, or has something to propose.
    fn heed(&mut self, node: NodeId, facts: Facts) {
        let now = self.now;
        let broker = &mut self.brokers[node.0 as usize];
        let process = broker.process.as_mut().expect("it leads");
        let Role::Leader(leader) = &mut process.role else { panic!("it leads") };
        leader.invariants();
        if let Some(proposal) = leader.propose(now) {
            let request = (process.replica.clone(), process.term, proposal);
            self.requests.entry(node).or_default().push_back(request);
        }
        let high_watermark = leader.high_watermark();
        let epoch = leader.leader_epoch();
        let end = leader.has_reached_epoch().then_some(high_watermark);
        let start = leader.start();
        let below = process.waiting.partition_point(|(offset, _)| *offset < high_watermark);
        let acked: Vec<_> = process.waiting.drain(..below).collect();
        if facts.high_watermark.is_some() {
            let in_sync = self.authority.now().in_sync.iter().map(|member| &self.brokers[member.0 as usize].store);
            self.claims.advanced(epoch, high_watermark, in_sync);
            self.claims.settled(&self.brokers[node.0 as usize].store, high_watermark, epoch);
        }
        self.claims.showed(epoch, end, start);
        self.claims.acked(epoch, acked);
    }

    fn follower_heard(&mut self, node: NodeId) {
        let broker = &self.brokers[node.0 as usize];
        let Some(Process { role: Role::Follower(follower), .. }) = &broker.process else { return };
        let (high_watermark, heard_in) = follower.high_watermark();
        self.claims.settled(&broker.store, high_watermark, heard_in);
    }

    /// Whether all brokers have the same, all are in sync, and nothing is on its way.
    pub(super) fn is_healed(&self) -> Result<(), String> {
        let image = self.authority.now();
        let leader = image.leader.ok_or("nobody leads")?;
        let Some(Process { role: Role::Leader(leading), peers, .. }) = &self.brokers[leader.0 as usize].process else {
            return Err(format!("{leader} does not lead yet"));
        };
        if image.in_sync.len() < self.nodes() {
            return Err(format!("in sync are {:?}", image.in_sync));
        }
        let end = self.brokers[leader.0 as usize].store.memory.end();
        for broker in &self.brokers {
            let known = match &broker.process.as_ref().ok_or("all run")?.role {
                Role::Follower(follower) => follower.high_watermark().0,
                Role::Leader(leader) => leader.high_watermark(),
                Role::None => return Err(format!("{} has no role", broker.node)),
            };
            let ends = broker.store.ends();
            if (ends.durable, ends.end, known) != (end, end, end) || Some(ends.start) < leading.start() {
                return Err(format!("{} has {ends:?}, {known} of {end}", broker.node));
            }
            if peers.in_flight(broker.node, Lane::Tail) + peers.in_flight(broker.node, Lane::CatchUp) > 0 {
                return Err(format!("credit for {} is in use", broker.node));
            }
        }
        Ok(())
    }
}

/// A follower takes what a leader appends.
fn take(follower: &mut Follower, from: NodeId, append: &Append, store: &mut Store) -> Option<Message> {
    let bytes = append.batches.to_bytes();
    let records: Vec<_> = bytes.chunks(RECORD_BYTES).map(decoded).collect();
    let batches = records.first().zip(records.last()).map(|(first, last)| (first.0, Offset(last.0.0 + 1)));
    match follower.on_append(from, append, batches, store.ends()) {
        Taken::Ignored => None,
        Taken::Mismatch(acked) => Some(Message::Mismatch(vec![acked])),
        Taken::Append { start, .. } => {
            for (offset, record) in records {
                assert_eq!(offset, store.memory.end(), "what is taken follows");
                store.apply(Change::Append(record));
            }
            if start > store.memory.start {
                store.apply(Change::Start(start));
            }
            None
        }
    }
}

fn read(store: &Store, from: Offset, bytes_max: usize) -> (Batches, Offset) {
    let up_to = store.memory.end().min(Offset(from.0 + (bytes_max / RECORD_BYTES).max(1) as i64));
    let mut bytes = Vec::new();
    for offset in (from.0..up_to.0).map(Offset) {
        let record = store.memory.at(offset).expect("it is in the log");
        bytes.put_i64(offset.0);
        bytes.put_i32(record.epoch.0);
        bytes.put_u64(record.id);
    }
    (Batches::new(smallvec![Bytes::from(bytes)]), up_to)
}

fn decoded(bytes: &[u8]) -> (Offset, Record) {
    let (offset, rest) = bytes.split_first_chunk().expect("a record");
    let (epoch, id) = rest.split_first_chunk().expect("a record");
    let id = u64::from_be_bytes(id.try_into().expect("a record"));
    (Offset(i64::from_be_bytes(*offset)), Record { epoch: LeaderEpoch(i32::from_be_bytes(*epoch)), id })
}
