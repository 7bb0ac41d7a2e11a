//! A small deterministic world: members with disks and images, and a network between them. Everything that goes wrong
//! in it is drawn from a seed, and what must never happen is checked at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::ids::{NodeId, Uuid};
use crate::raft::{
    Change, Content, Declined, Entry, Limits, LogId, Member, Membership, Message, Options, Quorum, ReadId, Record,
    Refused, Restored, Role, SnapshotRead, Vote,
};
use crate::rng::Rng;

pub(super) const CLUSTER: Uuid = Uuid(*b"the test cluster");
pub(super) const ELECTION_TICKS: usize = 10;

/// The member that a node is with its `folder`-th data folder.
pub(super) fn member(node: i32, folder: u8) -> Member {
    let mut directory = [folder; 16];
    directory[0] = node as u8;
    Member { node: NodeId(node), directory: Uuid(directory) }
}

pub(super) fn members(nodes: impl IntoIterator<Item = i32>) -> BTreeSet<Member> {
    nodes.into_iter().map(|node| member(node, 1)).collect()
}

pub(super) fn options(me: Member, seed: u64, restart: u64) -> Options {
    let limits = Limits {
        max_inflight: 4,
        max_append_bytes: 200,
        max_payload_bytes: 1000,
        max_uncommitted_bytes: 4000,
        max_committed_bytes: 300,
        max_record_bytes: 150,
        snapshot_piece_bytes: 7,
        max_snapshot_bytes: 1000,
        max_unconfirmed: 64,
    };
    Options { cluster: CLUSTER, me, seed, restart, election_ticks: ELECTION_TICKS, heartbeat_ticks: 2, limits }
}

/// What goes wrong, and how often: chances in a thousand, per message or per node and tick.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) repeated: u64,
    /// Ticks that a message takes at most, beyond one.
    pub(super) delay: u64,
    /// Ticks that a write takes at most.
    pub(super) disk: u64,
    pub(super) crash: u64,
    pub(super) restart: u64,
    pub(super) partition: u64,
    pub(super) skipped_tick: u64,
}

/// What the log has been applied to: where, and a number that depends on every entry up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) index: u64,
    pub(super) digest: u64,
}

impl Image {
    /// That of the first position of every cluster.
    const FIRST: Image = Image { index: 1, digest: 0 };

    fn bytes(self) -> Bytes {
        [self.index.to_be_bytes(), self.digest.to_be_bytes()].concat().into()
    }

    fn from_bytes(bytes: &[u8]) -> Image {
        let number = |from: usize| u64::from_be_bytes(bytes[from..from + 8].try_into().unwrap());
        Image { index: number(0), digest: number(8) }
    }

    fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.id.index, self.index + 1, "committed entries come in order and without a gap");
        self.index += 1;
        self.digest = digest(self.digest, format!("{entry:?}").as_bytes());
    }
}

/// FNV-1a: as good as needed to tell histories apart.
pub(super) fn digest(before: u64, bytes: &[u8]) -> u64 {
    let start = before ^ 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(start, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A write under way: of which Ready, if of one, what, and until when.
struct Write {
    number: Option<u64>,
    records: Vec<Bytes>,
    image: Option<Image>,
    done_at: u64,
}

/// One node: its disk stays when its process dies.
pub(super) struct Node {
    pub(super) me: Member,
    pub(super) process: Option<Quorum>,
    restarts: u64,
    disk: Vec<Bytes>,
    images: BTreeMap<u64, Image>,
    writes: VecDeque<Write>,
    pub(super) image: Image,
    committed: u64,
    term: u64,
    reads: BTreeMap<ReadId, u64>,
    /// The disk does nothing until told otherwise.
    pub(super) stalled: bool,
}

impl Node {
    fn described(&self) -> String {
        let Some(process) = &self.process else { return format!("\n{} does not run", self.me) };
        format!(
            "\n{}: {:?}, term {}, log to {:?}, committed {}, applied {}, {} writes, {} transfers, {:?}",
            self.me,
            process.role(),
            process.term(),
            process.last(),
            process.committed(),
            self.image.index,
            self.writes.len(),
            process.transfers.len(),
            process.membership(),
        )
    }
}

/// A message on its way.
struct Transit {
    at: u64,
    number: u64,
    from: NodeId,
    to: NodeId,
    bytes: Bytes,
}

pub(super) struct World {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) faults: Faults,
    pub(super) now: u64,
    rng: Rng,
    seed: u64,
    transit: Vec<Transit>,
    sent: u64,
    /// Who is cut off from the others.
    pub(super) apart: BTreeSet<NodeId>,
    /// What was ever committed anywhere, by its position: its term and a digest of all up to it.
    pub(super) committed: BTreeMap<u64, (LogId, u64)>,
    leaders: BTreeMap<u64, (Member, u64)>,
    /// Depends on everything that was ever sent.
    pub(super) history: u64,
    /// How often what happened.
    pub(super) seen: BTreeMap<&'static str, u64>,
    pub(super) proposals: u64,
}

impl World {
    /// `voters` nodes that found a cluster, and `others` that wait to be added.
    pub(super) fn new(seed: u64, voters: i32, others: i32, faults: Faults) -> World {
        let membership = Membership::of(members(1..=voters)).unwrap();
        let mut world = World {
            nodes: BTreeMap::new(),
            faults,
            now: 0,
            rng: Rng::from_number(seed),
            seed,
            transit: Vec::new(),
            sent: 0,
            apart: BTreeSet::new(),
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            history: 0,
            seen: BTreeMap::new(),
            proposals: 0,
        };
        for node in 1..=voters + others {
            let restored = if node <= voters { Restored::bootstrap(membership.clone()) } else { Restored::default() };
            world.add(member(node, 1), restored);
        }
        world
    }

    /// A node with a disk that holds `restored`.
    pub(super) fn add(&mut self, me: Member, restored: Restored) {
        let first = Quorum::new(options(me, self.seed, 0), restored).unwrap();
        let disk = first.checkpoint().iter().map(encoded).collect();
        let node = Node {
            me,
            process: None,
            restarts: 0,
            disk,
            images: BTreeMap::from([(1, Image::FIRST)]),
            writes: VecDeque::new(),
            image: Image::FIRST,
            committed: 0,
            term: 0,
            reads: BTreeMap::new(),
            stalled: false,
        };
        self.nodes.insert(me.node, node);
        self.start(me.node);
    }

    pub(super) fn chance(&mut self, of_thousand: u64) -> bool {
        of_thousand > 0 && self.rng.below(1000) < of_thousand
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.rng.below(end)
    }

    pub(super) fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(super) fn node(&self, node: i32) -> &Node {
        &self.nodes[&NodeId(node)]
    }

    pub(super) fn node_mut(&mut self, node: i32) -> &mut Node {
        self.nodes.get_mut(&NodeId(node)).unwrap()
    }

    pub(super) fn quorum(&mut self, node: i32) -> &mut Quorum {
        self.node_mut(node).process.as_mut().expect("the node runs")
    }

    /// The node that leads the latest term of all that lead.
    pub(super) fn leader(&self) -> Option<i32> {
        let leading = self.nodes.values().filter_map(|node| {
            let process = node.process.as_ref().filter(|process| process.role() == Role::Leader)?;
            Some((process.term(), node.me.node.0))
        });
        leading.max().map(|(_, node)| node)
    }

    /// The process dies; of what was being written, the disk keeps some of the records, from the first on.
    pub(super) fn crash(&mut self, node: NodeId) {
        let kept = self.rng.below(4);
        let node = self.nodes.get_mut(&node).unwrap();
        node.process = None;
        let writes = node.writes.drain(..).flat_map(|write| {
            let image = write.image;
            write.records.into_iter().map(move |record| (record, image))
        });
        for (record, image) in writes.take(kept as usize) {
            node.disk.push(record);
            node.images.extend(image.map(|image| (image.index, image)));
        }
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let seed = self.seed;
        let node = self.nodes.get_mut(&id).unwrap();
        let mut restored = Restored::default();
        for record in &node.disk {
            restored.replay(Record::decode(record.clone()).unwrap()).unwrap();
        }
        node.restarts += 1;
        node.image = node.images.get(&restored.head().last.index).copied().unwrap_or(Image::FIRST);
        node.reads.clear();
        node.committed = 0;
        let process = Quorum::new(options(node.me, seed, node.restarts), restored).unwrap();
        assert!(process.term() >= node.term || node.stalled, "a term that was told to others is never forgotten");
        process.invariants();
        node.process = Some(process);
        self.drain(id);
    }

    /// One tick of everybody's time.
    pub(super) fn tick(&mut self) {
        self.now += 1;
        self.happen();
        self.deliver();
        for id in self.ids() {
            self.write(id);
            if self.nodes[&id].process.is_some() && !self.chance(self.faults.skipped_tick) {
                self.nodes.get_mut(&id).unwrap().process.as_mut().unwrap().tick();
                self.drain(id);
            }
        }
    }

    pub(super) fn run(&mut self, ticks: u64) {
        (0..ticks).for_each(|_| self.tick());
    }

    /// Runs until `condition` holds.
    pub(super) fn run_until(&mut self, within: u64, what: &str, condition: impl Fn(&World) -> bool) {
        for _ in 0..within {
            if condition(self) {
                return;
            }
            self.tick();
        }
        assert!(
            condition(self),
            "seed {}: {what} did not come about within {within} ticks{}",
            self.seed,
            self.nodes.values().map(Node::described).collect::<String>()
        );
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    fn happen(&mut self) {
        let Faults { crash, restart, partition, .. } = self.faults.clone();
        for id in self.ids() {
            if self.nodes[&id].process.is_some() {
                if self.chance(crash) {
                    self.see("crash");
                    self.crash(id);
                }
            } else if self.chance(restart) {
                self.start(id);
            }
        }
        if self.chance(partition) {
            self.see("partition");
            let all = self.ids();
            self.apart = all.into_iter().filter(|_| self.rng.below(2) == 0).collect();
        } else if self.chance(partition) {
            self.apart.clear();
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (mut due, later) = std::mem::take(&mut self.transit).into_iter().partition::<Vec<_>, _>(|t| t.at <= now);
        self.transit = later;
        due.sort_by_key(|transit| (transit.at, transit.number));
        for transit in due {
            let is_cut = self.apart.contains(&transit.from) != self.apart.contains(&transit.to);
            let Some(process) = self.nodes.get_mut(&transit.to).and_then(|node| node.process.as_mut()) else {
                continue;
            };
            if is_cut {
                continue;
            }
            let message = Message::decode(transit.bytes).unwrap();
            let kind = message.kind();
            let taken = process.step(transit.from, message);
            match taken {
                Ok(()) => self.see(kind),
                Err(Refused::NotMember { .. }) => self.see("refused: no member"),
                Err(Refused::NotForMe { .. }) => self.see("refused: not for me"),
                Err(Refused::Overloaded) => self.see("refused: overloaded"),
                Err(refused) => panic!("seed {}: an honest {kind} is refused: {refused}", self.seed),
            }
            self.drain(transit.to);
        }
    }

    fn write(&mut self, id: NodeId) {
        loop {
            let now = self.now;
            let node = self.nodes.get_mut(&id).unwrap();
            if node.stalled {
                return;
            }
            let Some(write) = node.writes.pop_front_if(|write| write.done_at <= now) else { return };
            node.disk.extend(write.records);
            node.images.extend(write.image.map(|image| (image.index, image)));
            if let (Some(number), Some(process)) = (write.number, &mut node.process) {
                process.persisted(number);
                self.drain(id);
            }
        }
    }

    /// Does all that a process wants done.
    pub(super) fn drain(&mut self, id: NodeId) {
        loop {
            let latency = self.rng.below(self.faults.disk + 1);
            let now = self.now;
            let Some(node) = self.nodes.get_mut(&id) else { return };
            let Some(process) = node.process.as_mut() else { return };
            process.invariants();
            let Some(ready) = process.take_ready() else { break };
            process.invariants();
            let committed = process.committed();
            assert!(committed >= node.committed, "what is known to be committed stays so");
            node.committed = committed;
            let image = ready.image.map(|image| Image::from_bytes(&image));
            if !ready.records.is_empty() {
                let last = node.writes.back().map_or(0, |write| write.done_at);
                let records = ready.records.iter().map(encoded).collect();
                let done_at = last.max(now + latency);
                node.writes.push_back(Write { number: Some(ready.number), records, image, done_at });
            }
            node.image = image.unwrap_or(node.image);
            for (to, message) in ready.sends {
                self.send(id, to, message);
            }
            self.check_applied(id, image);
            for entry in ready.committed {
                self.check_committed(id, &entry);
            }
            if ready.role == Some(Role::Leader) {
                self.check_leader(id);
            }
            self.check_reads(id, &ready.reads, ready.role);
            for read in ready.snapshot_reads {
                self.supply(id, &read);
            }
            if let Some(index) = ready.snapshot_wanted {
                self.see("snapshot wanted");
                self.compact(id.0, 2);
                assert!(self.nodes[&id].image.index >= index);
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        self.history = digest(self.history, &bytes);
        let node = self.nodes.get_mut(&from).unwrap();
        // What is stood for in a pre-vote is nobody's term yet.
        if !message.is_about_pre_vote() {
            node.term = node.term.max(message.term);
        }
        for repeat in [1000, self.faults.repeated] {
            if !self.chance(repeat) || self.chance(self.faults.lost) {
                continue;
            }
            self.sent += 1;
            let at = self.now + 1 + self.rng.below(self.faults.delay + 1);
            self.transit.push(Transit { at, number: self.sent, from, to, bytes: bytes.clone() });
        }
    }

    fn supply(&mut self, id: NodeId, read: &SnapshotRead) {
        let node = self.nodes.get_mut(&id).unwrap();
        let process = node.process.as_mut().unwrap();
        match node.images.get(&read.snapshot.index) {
            Some(image) => {
                let bytes = image.bytes();
                let (from, total) = (read.offset as usize, bytes.len());
                let piece = bytes.slice(from..total.min(from + read.max_bytes));
                process.supply_snapshot(read, total as u64, piece);
            }
            None => process.snapshot_unavailable(read),
        }
    }

    /// Nobody else leads a term, not even the same member after a crash.
    fn check_leader(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let process = node.process.as_ref().unwrap();
        let who = (node.me, node.restarts);
        let first = *self.leaders.entry(process.term()).or_insert(who);
        assert_eq!(first, who, "seed {}: two lead term {}", self.seed, process.term());
        let log = process.raw.store();
        for (index, (entry, _)) in &self.committed {
            if *index > log.head().last.index {
                assert_eq!(log.term_at(*index), Some(entry.term), "seed {}: a leader lacks entry {index}", self.seed);
            }
        }
        self.see("leader");
    }

    fn check_committed(&mut self, id: NodeId, entry: &Entry) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.image.apply(entry);
        let now = (entry.id, node.image.digest);
        let first = *self.committed.entry(entry.id.index).or_insert(now);
        assert_eq!(first, now, "seed {}: entry {} was committed otherwise", self.seed, entry.id.index);
        match entry.content {
            Content::Membership(Change::Enter { .. }) => self.see("joint membership entered"),
            Content::Membership(Change::Leave) => self.see("joint membership left"),
            _ => {}
        }
    }

    /// An image that came from a leader is that of all that was committed up to there.
    fn check_applied(&mut self, id: NodeId, image: Option<Image>) {
        let Some(image) = image else { return };
        self.see("snapshot installed");
        assert_eq!(self.nodes[&id].process.as_ref().unwrap().applied(), image.index);
        if let Some((_, digest)) = self.committed.get(&image.index) {
            assert_eq!(*digest, image.digest, "seed {}: a snapshot differs at {}", self.seed, image.index);
        }
    }

    /// A read sees all that anybody knew to be committed when it was asked.
    fn check_reads(&mut self, id: NodeId, reads: &[(ReadId, u64)], role: Option<Role>) {
        let node = self.nodes.get_mut(&id).unwrap();
        for (read, index) in reads {
            let expect = node.reads.remove(read).expect("only what was asked is answered, once");
            assert!(*index >= expect, "seed {}: a read at {index} misses entry {expect}", self.seed);
        }
        if role.is_some_and(|role| role != Role::Leader) {
            node.reads.clear();
        }
        (0..reads.len()).for_each(|_| self.see("read"));
    }

    pub(super) fn propose(&mut self, node: i32) -> Result<LogId, Declined> {
        self.proposals += 1;
        let payload = Bytes::from(format!("proposal {}", self.proposals));
        let proposed = self.quorum(node).propose(payload);
        self.drain(NodeId(node));
        proposed
    }

    pub(super) fn read(&mut self, node: i32) {
        let last = self.committed.last_key_value().map_or(0, |(index, _)| *index);
        if let Ok(read) = self.quorum(node).read_index() {
            self.node_mut(node).reads.insert(read, last);
            self.drain(NodeId(node));
        }
    }

    pub(super) fn change(&mut self, node: i32, voters: BTreeSet<Member>, learners: BTreeSet<Member>) {
        let changed = self.quorum(node).propose_membership(voters, learners);
        if changed.is_ok() {
            self.see("membership proposed");
        }
        self.drain(NodeId(node));
    }

    pub(super) fn compact(&mut self, node: i32, keep: u64) {
        let now = self.now;
        let node = self.node_mut(node);
        let process = node.process.as_mut().unwrap();
        // What is applied may be ahead of what is loaded only while a snapshot is being written.
        let Some(head) = process.snapshot_head(node.image.index) else { return };
        let Some(record) = process.compact(head, keep) else { return };
        node.images.insert(node.image.index, node.image);
        while node.images.len() > 3 {
            node.images.pop_first();
        }
        let last = node.writes.back().map_or(now, |write| write.done_at);
        node.writes.push_back(Write { number: None, records: vec![encoded(&record)], image: None, done_at: last });
        self.see("compacted");
    }

    /// All faults end, and everybody runs.
    pub(super) fn heal(&mut self) {
        self.faults = Faults { disk: 1, delay: 1, ..Faults::default() };
        self.apart.clear();
        for id in self.ids() {
            self.nodes.get_mut(&id).unwrap().stalled = false;
            if self.nodes[&id].process.is_none() {
                self.start(id);
            }
        }
    }

    /// Whether the leader's members, and it, have applied all of its log.
    pub(super) fn agrees(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let leader = self.node(leader);
        let process = leader.process.as_ref().unwrap();
        let members = process.membership().members();
        let mut processes = self.nodes.values().filter(|node| members.contains(&node.me));
        process.last().index == leader.image.index
            && !process.membership().is_joint()
            && processes.all(|node| node.image == leader.image)
    }
}

impl Message {
    fn is_about_pre_vote(&self) -> bool {
        use crate::raft::message::Body;
        matches!(self.body, Body::Stand { pre: true, .. } | Body::Voted { pre: true, .. })
    }
}

pub(super) fn encoded(record: &Record) -> Bytes {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.into()
}

/// The vote of a node that has seen `term`.
pub(super) fn vote(term: u64, committed: u64) -> Record {
    Record::Vote(Vote { term, voted_for: None, committed })
}
