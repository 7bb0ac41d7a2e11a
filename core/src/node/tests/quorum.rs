//! Several nodes, their files and the connections between them in memory: who leads the metadata log, what all of them
//! know, and who is let in.

mod damage;
mod deciding;
mod founding;
mod images;
mod many;
mod members;
mod watching;

use std::fmt::Write;

use super::rig::GEOMETRY;
use super::*;
use crate::boundary::{Neighbours, PeerInput};
use crate::controller::records::Standing;
use crate::ids::NodeId;
use crate::peer::{self, RefusedBecause};
use crate::wire::add_raft_voter::AddRaftVoterRequest;
use crate::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::wire::create_topics::{CreatableReplicaAssignment, CreateTopicsResponse};
use crate::wire::describe_quorum::{DescribeQuorumPartition, DescribeQuorumRequest, DescribeQuorumTopic};
use crate::wire::elect_leaders::ElectLeadersRequest;
use crate::wire::remove_raft_voter::RemoveRaftVoterRequest;
use crate::wire::unregister_broker::UnregisterBrokerRequest;

/// A node of the cluster, whose files outlive its process.
struct Broker {
    /// `None` while it does not run.
    node: Option<Node>,
    files: MemoryFiles,
    directory: Uuid,
    starts: u8,
    out: Outbox,
    neighbours: Option<Arc<Neighbours>>,
    replies: BTreeMap<u64, Response>,
    fatal: Option<String>,
    stopped: bool,
}

/// All of them. What is said arrives at once, in order.
struct Cluster {
    brokers: BTreeMap<i32, Broker>,
    now: Now,
    /// From whom to whom a connection stands.
    links: BTreeSet<(i32, i32)>,
    said: VecDeque<(i32, i32, peer::Message)>,
    /// Who has asked to be registered, and as what it had been before.
    registers: Vec<(i32, BrokerEpoch)>,
    /// Who is cut off from the others.
    apart: BTreeSet<i32>,
    bootstrap: BTreeSet<i32>,
    /// Nodes whose command line names other peers than those that bootstrap.
    told_of: BTreeMap<i32, BTreeSet<i32>>,
    /// Nodes that an operator has moved to another host, by what all are told from now on.
    moved: BTreeMap<i32, &'static str>,
    /// Whose disk takes its time, and what it was given to write.
    slow: Option<i32>,
    unwritten: VecDeque<Effect>,
    asked: u64,
    /// How many requests a node has forwarded in one step, at most.
    forwarded_at_once: usize,
    /// All log lines, for whoever wants to know what happened.
    lines: String,
}

/// Requests that are sent on to whoever decides.
fn forwards(out: &Outbox) -> usize {
    let is_forward = |effect: &&Effect| matches!(effect, Effect::Say { message, .. } if matches!(**message, peer::Message::Forward(_)));
    out.0.iter().filter(is_forward).count()
}

impl Cluster {
    /// Nodes 1 to `nodes`, none of them running, which all found one cluster.
    fn of(nodes: i32) -> Cluster {
        let mut cluster = Cluster {
            brokers: BTreeMap::new(),
            now: Now { instant: Instant(0), wall: Timestamp(1_700_000_000_000) },
            links: BTreeSet::new(),
            said: VecDeque::new(),
            registers: Vec::new(),
            apart: BTreeSet::new(),
            bootstrap: (1..=nodes).collect(),
            told_of: BTreeMap::new(),
            moved: BTreeMap::new(),
            slow: None,
            unwritten: VecDeque::new(),
            asked: 0,
            forwarded_at_once: 0,
            lines: String::new(),
        };
        (1..=nodes).for_each(|node| cluster.add(node));
        cluster
    }

    /// As many nodes, running, with a leader, all of them registered and active.
    fn running(nodes: i32) -> Cluster {
        let mut cluster = Cluster::of(nodes);
        (1..=nodes).for_each(|node| cluster.start(node));
        cluster.pass(15_000);
        assert!(cluster.is_settled(), "{}", cluster.lines);
        cluster
    }

    fn add(&mut self, node: i32) {
        let directory = Uuid([u8::try_from(node).expect("few nodes"); 16]);
        let broker = Broker {
            node: None,
            files: MemoryFiles::default(),
            directory,
            starts: 0,
            out: Outbox::default(),
            neighbours: None,
            replies: BTreeMap::new(),
            fatal: None,
            stopped: false,
        };
        self.brokers.insert(node, broker);
    }

    /// Adds a node and starts it.
    fn begin(&mut self, node: i32) {
        self.add(node);
        self.start(node);
    }

    /// The same, where the metadata log no longer holds what the node must know.
    fn add_after_the_log_was_cut(&mut self, node: i32) {
        self.cut_the_log();
        self.begin(node);
    }

    /// Whoever decides keeps no more of the metadata log than it must.
    fn cut_the_log(&mut self) {
        let decides = self.controller().expect("somebody decides");
        let head = self.node(decides).snapshot_head();
        self.broker(decides).node.as_mut().expect("it runs").compact_metadata_log_but(0, head);
    }

    /// Where a node listens for others.
    fn address(&self, node: i32) -> (Str, u16) {
        let host = self.moved.get(&node).map_or_else(|| format!("node{node}").into(), |&host| host.into());
        (host, 9093)
    }

    fn options(&self, node: i32) -> NodeOptions {
        let all = self.told_of.get(&node).unwrap_or(&self.bootstrap);
        let peers = all.iter().filter(|peer| **peer != node);
        NodeOptions {
            node_id: NodeId(node),
            directory_id: self.brokers[&node].directory,
            cluster_id: Str::EMPTY,
            listeners: vec![("PLAINTEXT".into(), format!("node{node}").into(), 9092)],
            cluster: Some(ClusterOptions {
                raft_address: self.address(node),
                peers: peers.map(|peer| (NodeId(*peer), self.address(*peer))).collect(),
                bootstrap: self.bootstrap.contains(&node),
            }),
            // As on disks, the ring may become far larger than it is.
            journal: Geometry { max_files: 32, ..GEOMETRY },
            ..options(&[("leader.imbalance.check.interval.seconds", "5")])
        }
    }

    fn start(&mut self, node: i32) {
        let options = self.options(node);
        let now = self.now;
        let broker = self.broker(node);
        broker.starts += 1;
        let seed = [broker.starts * 16 + u8::try_from(node).expect("few nodes"); 32];
        let (recovered, _) = Node::recover(options, &broker.files, seed, now).expect("sound files");
        broker.node = Some(recovered);
        (broker.fatal, broker.stopped) = (None, false);
        self.carry_out(node);
        self.settle();
    }

    /// The process dies.
    fn kill(&mut self, node: i32) {
        let broker = self.broker(node);
        (broker.node, broker.neighbours) = (None, None);
        broker.out = Outbox::default();
        broker.replies.clear();
        self.unlink(node);
    }

    /// All others are told that nobody listens where the node did.
    fn miss(&mut self, node: i32) {
        for other in self.running_nodes().into_iter().filter(|other| *other != node) {
            self.step(other, Input::Peer(Box::new(PeerInput::Gone(NodeId(node)))));
        }
    }

    /// Its data folder is lost with it.
    fn wipe(&mut self, node: i32) {
        self.kill(node);
        let broker = self.broker(node);
        broker.files = MemoryFiles::default();
        broker.directory.0[15] ^= 0xff;
    }

    fn broker(&mut self, node: i32) -> &mut Broker {
        self.brokers.get_mut(&node).expect("a node of the cluster")
    }

    fn node(&self, node: i32) -> &Node {
        self.brokers[&node].node.as_ref().expect("it runs")
    }

    fn running_nodes(&self) -> Vec<i32> {
        self.brokers.iter().filter(|(_, broker)| broker.node.is_some()).map(|(node, _)| *node).collect()
    }

    fn step(&mut self, node: i32, input: Input) {
        let now = self.now;
        let broker = self.broker(node);
        let Some(process) = &mut broker.node else { return };
        process.step(now, input, &mut broker.out);
        process.invariants();
        let forwarded = forwards(&broker.out);
        self.forwarded_at_once = self.forwarded_at_once.max(forwarded);
        self.carry_out(node);
    }

    /// Requests that are on their way to whoever decides.
    fn forwards(&self) -> usize {
        self.said.iter().filter(|(_, _, message)| matches!(message, peer::Message::Forward(_))).count()
    }

    fn carry_out(&mut self, id: i32) {
        loop {
            let now = self.now;
            let broker = self.broker(id);
            let Some(node) = &mut broker.node else { return };
            node.turn(now, &mut broker.out);
            if broker.out.0.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut broker.out.0) {
                self.effect(id, effect);
            }
        }
    }

    fn effect(&mut self, id: i32, effect: Effect) {
        let now = self.now;
        if self.slow == Some(id) && matches!(effect, Effect::Disk(DiskOp::Commit(..))) {
            return self.unwritten.push_back(effect);
        }
        let broker = self.brokers.get_mut(&id).expect("a node of the cluster");
        let Some(node) = &mut broker.node else { return };
        let done = match effect {
            Effect::Reply { to, response } => {
                broker.replies.insert(to.sequence, response.expect("an answer"));
                return;
            }
            Effect::Disk(DiskOp::Commit(commit, direct)) => {
                crate::boundary::write_direct(&broker.files, &direct).expect("memory has room");
                let data = std::slice::from_ref(&commit.data);
                broker.files.write_at(FileName::Journal(commit.slot), commit.position, data).expect("memory has room");
                Done::Commit(commit.number, Ok(()))
            }
            Effect::Disk(DiskOp::Read(read, plan)) => Done::Read(read, plan.run(&broker.files)),
            Effect::Disk(DiskOp::Task(task, work)) => Done::Task(task, work.run(&broker.files)),
            Effect::Disk(DiskOp::Question(question, what)) => Done::Finding(question, Box::new(what.answer())),
            Effect::Disk(DiskOp::Compact(mut pass)) => {
                let result = pass.step(&broker.files);
                Done::Compacted(pass, result)
            }
            Effect::Neighbours(neighbours) => {
                let is_renamed = broker.neighbours.as_ref().is_some_and(|before| before.me != neighbours.me);
                broker.neighbours = Some(neighbours);
                if is_renamed {
                    self.unlink(id);
                }
                return;
            }
            Effect::Say { to, message } => {
                if matches!(*message, peer::Message::Forward(_) | peer::Message::Forwarded(_)) {
                    peer::encode(&message, &mut wire::Writer::new());
                }
                if let peer::Message::Register(register) = &*message {
                    self.registers.push((id, register.broker_epoch));
                }
                return self.said.push_back((id, to.0, *message));
            }
            Effect::Log(line) => {
                writeln!(self.lines, "{:>6} node {id}: {}", now.instant.0 / 1_000_000, line.text).expect("memory");
                return;
            }
            Effect::Fatal(why) => {
                broker.fatal = Some(why);
                return self.kill(id);
            }
            Effect::Stopped => {
                broker.stopped = true;
                return self.kill(id);
            }
            _ => return,
        };
        let before = forwards(&broker.out);
        node.step(now, Input::Disk(done), &mut broker.out);
        let forwarded = forwards(&broker.out) - before;
        self.forwarded_at_once = self.forwarded_at_once.max(forwarded);
    }

    fn is_open(&self, from: i32, to: i32) -> bool {
        self.apart.contains(&from) == self.apart.contains(&to)
    }

    /// Has connections made that are wanted, and delivers what was said.
    fn settle(&mut self) {
        loop {
            self.link();
            let Some((from, to, message)) = self.said.pop_front() else { return };
            if self.links.contains(&(from, to)) && self.is_open(from, to) {
                let process = self.node(from).metadata_process();
                for heard in by_connection(from, process, message) {
                    self.step(to, Input::Peer(Box::new(heard)));
                }
            }
        }
    }

    fn link(&mut self) {
        for from in self.running_nodes() {
            let Some(mine) = self.brokers[&from].neighbours.clone() else { continue };
            for (&NodeId(to), neighbour) in &mine.peers {
                let theirs = self.brokers.get(&to).filter(|broker| broker.node.is_some());
                let Some(theirs) = theirs.and_then(|broker| broker.neighbours.clone()) else { continue };
                if self.links.contains(&(from, to)) || !self.is_open(from, to) {
                    continue;
                }
                let known = theirs.peers.get(&NodeId(from)).and_then(|known| known.directory_id);
                let (mine_id, their_id) = (&mine.me.cluster_id, &theirs.me.cluster_id);
                let reason = if known.is_some_and(|known| known != mine.me.directory_id)
                    || neighbour.directory_id.is_some_and(|known| known != theirs.me.directory_id)
                {
                    Some(RefusedBecause::AnotherFolder)
                } else if !mine_id.is_empty() && !their_id.is_empty() && mine_id != their_id {
                    Some(RefusedBecause::AnotherCluster)
                } else {
                    None
                };
                if let Some(reason) = reason {
                    let refused = peer::Refused { reason, message: "it is not".into() };
                    self.step(from, Input::Peer(Box::new(PeerInput::Refused(NodeId(to), refused))));
                    // It dials again later; here, when something has changed.
                    continue;
                }
                self.links.insert((from, to));
                self.step(from, Input::Peer(Box::new(PeerInput::Connected(theirs.me.clone()))));
                self.step(to, Input::Peer(Box::new(PeerInput::Arrived(mine.me.clone()))));
            }
        }
    }

    /// All connections of a node are lost.
    fn unlink(&mut self, node: i32) {
        let (gone, kept) = self.links.iter().partition(|(from, to)| *from == node || *to == node);
        self.links = kept;
        let gone: BTreeSet<(i32, i32)> = gone;
        for (from, to) in gone {
            self.step(from, Input::Peer(Box::new(PeerInput::Disconnected(NodeId(to)))));
        }
    }

    fn cut_off(&mut self, node: i32) {
        self.apart = BTreeSet::from([node]);
        self.unlink(node);
    }

    /// The slow disk has written all that it was given, and goes on being slow.
    fn write_some(&mut self) {
        let Some(node) = self.slow.take() else { return };
        for effect in std::mem::take(&mut self.unwritten) {
            self.effect(node, effect);
        }
        self.slow = Some(node);
        self.carry_out(node);
        self.settle();
    }

    /// The slow disk has written all that it was given, and is slow no more.
    fn catch_up(&mut self) {
        self.write_some();
        if let Some(node) = self.slow.take() {
            for effect in std::mem::take(&mut self.unwritten) {
                self.effect(node, effect);
            }
            self.carry_out(node);
            self.settle();
        }
    }

    fn heal(&mut self) {
        self.apart.clear();
    }

    fn pass(&mut self, ms: u64) {
        let until = Instant(self.now.instant.0 + ms * 1_000_000);
        loop {
            self.settle();
            let due = |node: &i32| Some((self.node(*node).deadline()?.0, *node));
            let next = self.running_nodes().iter().filter_map(due).min();
            let Some((at, node)) = next.filter(|(at, _)| *at <= until) else { break };
            self.advance_to(at.max(self.now.instant));
            self.step(node, Input::Deadline);
        }
        self.advance_to(until);
    }

    fn advance_to(&mut self, at: Instant) {
        let ms = (at - self.now.instant).as_millis();
        self.now = Now { instant: at, wall: Timestamp(self.now.wall.0 + i64::try_from(ms).expect("short")) };
    }

    /// The node that decides, if there is one.
    fn controller(&self) -> Option<i32> {
        self.running_nodes().into_iter().find(|node| !self.apart.contains(node) && self.node(*node).leading().is_some())
    }

    /// Whether somebody decides, and all that run are active by what each of them knows.
    fn is_settled(&self) -> bool {
        let nodes = self.running_nodes();
        self.controller().is_some()
            && nodes.iter().all(|node| {
                let image = self.node(*node).controller.image();
                nodes.iter().all(|other| image.is_active(NodeId(*other)))
            })
    }

    fn ask(&mut self, node: i32, version: i16, request: wire::Request) -> u64 {
        let sequence = self.ask_only(node, version, request);
        self.settle();
        sequence
    }

    /// The same, where nothing that is said of it has arrived yet.
    fn ask_only(&mut self, node: i32, version: i16, request: wire::Request) -> u64 {
        let sequence = self.asked;
        self.asked += 1;
        let to = ReplyTo { conn: ConnId(1), sequence, version, listener: ListenerId(0) };
        self.step(node, Input::Request { to, request: Request::Other(Box::new(request)) });
        sequence
    }

    /// Asks a node, and gives the answer that must come within a second.
    fn answer(&mut self, node: i32, version: i16, request: wire::Request) -> Response {
        let sequence = self.ask(node, version, request);
        self.pass(1_000);
        self.broker(node).replies.remove(&sequence).unwrap_or_else(|| panic!("no answer: {}", self.lines))
    }

    /// The voters of the metadata quorum, by whom a node asks.
    fn voters(&mut self, node: i32) -> Vec<i32> {
        let partitions = vec![DescribeQuorumPartition { partition_index: 0 }];
        let topics = vec![DescribeQuorumTopic { topic_name: "__cluster_metadata".into(), partitions }];
        let Response::DescribeQuorum(answer) = self.answer(node, 2, DescribeQuorumRequest { topics }.into()) else {
            panic!("another answer")
        };
        answer.topics[0].partitions[0].current_voters.iter().map(|voter| voter.replica_id).collect()
    }

    fn ask_to_create(&mut self, node: i32, name: &str, timeout_ms: i32) -> u64 {
        let topic =
            CreatableTopic { name: name.into(), num_partitions: 3, replication_factor: 1, ..CreatableTopic::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms, ..CreateTopicsRequest::default() };
        self.ask(node, 7, request.into())
    }

    fn created(&mut self, node: i32, sequence: u64) -> Option<i16> {
        match self.broker(node).replies.remove(&sequence)? {
            Response::CreateTopics(CreateTopicsResponse { topics, .. }) => Some(topics[0].error_code),
            other => panic!("another answer: {other:?}"),
        }
    }

    fn create(&mut self, node: i32, name: &str) {
        let sequence = self.ask_to_create(node, name, 30_000);
        self.pass(50);
        assert_eq!(self.created(node, sequence), Some(0), "{}", self.lines);
    }

    /// Writes a record to partition 0 of a topic, at its leader.
    fn produce(&mut self, node: i32, topic: &'static str) {
        let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
        let batch = verify(records(self.now.wall, &["v"]).build(), &limits).expect("a sound batch");
        let partitions = [ProducePartition { index: 0, batch: Ok(batch) }].into_iter().collect();
        let topics = [ProduceTopic { name: topic.into(), id: TopicId::ZERO, partitions }].into_iter().collect();
        let produce = Produce { acks: 1, timeout_ms: 1000, transactional_id: None, may_write_internal: false, topics };
        let to = ReplyTo { conn: ConnId(1), sequence: self.asked, version: 9, listener: ListenerId(0) };
        self.asked += 1;
        self.step(node, Input::Request { to, request: Request::Produce(Box::new(produce)) });
        self.settle();
        let answer = self.broker(node).replies.remove(&to.sequence);
        let Some(Response::Produce(answer)) = answer else { panic!("another answer: {answer:?}") };
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }

    /// The topics that a node knows.
    fn topics(&self, node: i32) -> Vec<String> {
        self.node(node).controller.image().topics_from("").map(|topic| topic.name.to_string()).collect()
    }

    /// What all nodes that run know is the same.
    fn agree(&self) {
        let mut images = self.running_nodes().into_iter().map(|node| self.node(node).controller.image().clone());
        let first = images.next().expect("a node runs");
        assert!(images.all(|image| image == first), "{}", self.lines);
    }
}
