//! Several nodes, their files and the connections between them in memory: who leads the metadata log, what all of them
//! know, and who is let in.

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
    /// Who is cut off from the others.
    apart: BTreeSet<i32>,
    bootstrap: BTreeSet<i32>,
    /// Whose disk takes its time, and what it was given to write.
    slow: Option<i32>,
    unwritten: VecDeque<Effect>,
    asked: u64,
    /// All log lines, for whoever wants to know what happened.
    lines: String,
}

fn address(node: i32) -> (Str, u16) {
    (format!("node{node}").into(), 9093)
}

impl Cluster {
    /// Nodes 1 to `nodes`, none of them running, which all found one cluster.
    fn of(nodes: i32) -> Cluster {
        let mut cluster = Cluster {
            brokers: BTreeMap::new(),
            now: Now { instant: Instant(0), wall: Timestamp(1_700_000_000_000) },
            links: BTreeSet::new(),
            said: VecDeque::new(),
            apart: BTreeSet::new(),
            bootstrap: (1..=nodes).collect(),
            slow: None,
            unwritten: VecDeque::new(),
            asked: 0,
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

    fn options(&self, node: i32) -> NodeOptions {
        let founders = self.bootstrap.iter().filter(|peer| **peer != node);
        NodeOptions {
            node_id: NodeId(node),
            directory_id: self.brokers[&node].directory,
            cluster_id: Str::EMPTY,
            listeners: vec![("PLAINTEXT".into(), format!("node{node}").into(), 9092)],
            cluster: Some(ClusterOptions {
                raft_address: address(node),
                peers: founders.map(|peer| (NodeId(*peer), address(*peer))).collect(),
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
        self.carry_out(node);
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
        node.step(now, Input::Disk(done), &mut broker.out);
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
                let heard = PeerInput::Heard { from: NodeId(from), process, message };
                self.step(to, Input::Peer(Box::new(heard)));
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
                    Some(RefusedBecause::AnotherNode)
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
        let sequence = self.asked;
        self.asked += 1;
        let to = ReplyTo { conn: ConnId(1), sequence, version, listener: ListenerId(0) };
        self.step(node, Input::Request { to, request: Request::Other(Box::new(request)) });
        self.settle();
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

#[test]
fn three_nodes_found_a_cluster_elect_one_and_are_registered() {
    let cluster = Cluster::running(3);
    cluster.agree();
    let image = cluster.node(1).controller.image();
    assert!(image.cluster_id().is_some(), "the log says what the cluster is called");
    assert_eq!(image.brokers().len(), 3);
    assert!(image.brokers().all(|broker| broker.standing == Standing::Active && broker.process != 0));
}

#[test]
fn a_cluster_is_not_founded_before_all_folders_are_known() {
    let mut cluster = Cluster::of(3);
    cluster.start(1);
    cluster.start(2);
    cluster.pass(15_000);
    assert_eq!(cluster.controller(), None);
    assert!(cluster.lines.contains("waiting for node 3"), "{}", cluster.lines);
    cluster.start(3);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn whoever_is_asked_has_it_decided_and_knows_when_it_answers() {
    let mut cluster = Cluster::running(3);
    for node in 1..=3 {
        let name = format!("by{node}");
        cluster.create(node, &name);
        assert!(cluster.topics(node).contains(&name), "whom the client asked finds what it made");
    }
    cluster.pass(1_000);
    cluster.agree();
    let one = cluster.ask_to_create(1, "same", 30_000);
    let two = cluster.ask_to_create(2, "same", 30_000);
    cluster.pass(50);
    let codes = BTreeSet::from([cluster.created(1, one), cluster.created(2, two)]);
    assert_eq!(codes, BTreeSet::from([Some(0), Some(ErrorCode::TopicAlreadyExists.code())]));
}

#[test]
fn the_death_of_who_decides_is_survived_and_what_was_told_stays_true() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "before");
    let first = cluster.controller().expect("somebody decides");
    cluster.kill(first);
    let other = cluster.running_nodes()[0];
    let waiting = cluster.ask_to_create(other, "meanwhile", 30_000);
    assert_eq!(cluster.created(other, waiting), None, "nobody decides: it waits as long as its client");
    cluster.pass(15_000);
    assert_eq!(cluster.created(other, waiting), Some(0), "{}", cluster.lines);
    let image = cluster.node(other).controller.image();
    assert_eq!(image.broker(NodeId(first)).map(|broker| broker.standing), Some(Standing::Fenced));
    let leads =
        |topic: &str| image.topic_named::<str>(topic).into_iter().flat_map(|topic| topic.partitions.iter().cloned());
    assert!(leads("before").all(|state| state.leader != Some(NodeId(first))), "the dead lead nothing");
    cluster.start(first);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
    assert_eq!(cluster.topics(first), ["before", "meanwhile"]);
}

#[test]
fn whoever_is_cut_off_answers_in_time_that_nobody_decides() {
    let mut cluster = Cluster::running(3);
    let alone = (1..=3).find(|node| Some(*node) != cluster.controller()).expect("two follow");
    cluster.cut_off(alone);
    let sequence = cluster.ask_to_create(alone, "never", 5_000);
    cluster.pass(4_900);
    assert_eq!(cluster.created(alone, sequence), None);
    cluster.pass(300);
    assert_eq!(cluster.created(alone, sequence), Some(ErrorCode::RequestTimedOut.code()));
    cluster.heal();
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn a_leader_that_is_cut_off_decides_nothing_that_stays() {
    let mut cluster = Cluster::running(3);
    let old = cluster.controller().expect("somebody decides");
    cluster.cut_off(old);
    let lost = cluster.ask_to_create(old, "t", 60_000);
    cluster.pass(15_000);
    let new = cluster.controller().expect("two of three elect another");
    let kept = cluster.ask_to_create(new, "t", 60_000);
    cluster.pass(50);
    assert_eq!(cluster.created(new, kept), Some(0));
    assert_eq!(cluster.created(old, lost), None);
    cluster.heal();
    cluster.pass(15_000);
    assert_eq!(cluster.created(old, lost), Some(ErrorCode::TopicAlreadyExists.code()), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn a_node_that_was_wiped_is_refused_and_told_what_to_do() {
    let mut cluster = Cluster::running(3);
    cluster.wipe(3);
    cluster.start(3);
    cluster.pass(3_000);
    let why = cluster.brokers[&3].fatal.clone().expect("it must not vote again");
    assert!(why.contains("remove-node") && why.contains("add-node"), "{why}");
}

#[test]
fn a_new_node_becomes_a_learner_and_is_sent_what_the_log_no_longer_holds() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "early");
    let leader = cluster.controller().expect("somebody decides");
    let head = cluster.node(leader).snapshot_head();
    cluster.broker(leader).node.as_mut().expect("it runs").compact_metadata_log(head);
    cluster.add(4);
    cluster.start(4);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(cluster.topics(4), ["early"]);
    cluster.create(4, "late");
    cluster.kill(4);
    cluster.start(4);
    assert_eq!(cluster.topics(4), ["early", "late"], "what it was sent is in its journal");
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn members_come_and_go_and_a_folder_that_was_lost_is_replaced() {
    let mut cluster = Cluster::running(3);
    cluster.add(4);
    cluster.start(4);
    cluster.pass(15_000);
    let voter_directory_id = cluster.brokers[&4].directory;
    let request = AddRaftVoterRequest { voter_id: 4, voter_directory_id, timeout_ms: 5_000, ..Default::default() };
    let Response::AddRaftVoter(answer) = cluster.answer(1, 1, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    assert_eq!(cluster.voters(2), [1, 2, 3, 4]);
    // Node 3 has lost its folder: it is taken out before it comes back with another.
    let voter_directory_id = cluster.brokers[&3].directory;
    cluster.wipe(3);
    cluster.pass(15_000);
    let request = RemoveRaftVoterRequest { voter_id: 3, voter_directory_id, ..Default::default() };
    let Response::RemoveRaftVoter(answer) = cluster.answer(4, 0, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let request = UnregisterBrokerRequest { broker_id: 3 };
    let Response::UnregisterBroker(answer) = cluster.answer(1, 0, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    cluster.pass(1_000);
    assert_eq!(cluster.voters(4), [1, 2, 4]);
    cluster.start(3);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn first_replicas_get_back_what_they_could_lead() {
    let mut cluster = Cluster::running(3);
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 3, replication_factor: 3, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..CreateTopicsRequest::default() };
    let Response::CreateTopics(_) = cluster.answer(1, 7, request.into()) else { panic!("another answer") };
    let leaders = |cluster: &Cluster, node: i32| {
        let topic = cluster.node(node).controller.image().topic_named::<str>("t").expect("it is there");
        let led = topic.partitions.iter().map(|state| (state.replicas[0], state.leader.expect("all are led")));
        led.collect::<Vec<_>>()
    };
    cluster.kill(2);
    cluster.pass(15_000);
    assert!(leaders(&cluster, 1).iter().all(|(_, leader)| *leader != NodeId(2)), "others lead what it led");
    cluster.start(2);
    cluster.pass(30_000);
    assert!(leaders(&cluster, 1).iter().all(|(first, leader)| first == leader), "{}", cluster.lines);
}

#[test]
fn a_broker_that_stops_in_order_leads_nothing_any_more() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "t");
    cluster.step(2, Input::Stop);
    cluster.pass(12_000);
    assert!(cluster.brokers[&2].stopped, "{}", cluster.lines);
    let standing = cluster.node(1).controller.image().broker(NodeId(2)).map(|broker| broker.standing);
    assert_ne!(standing, Some(Standing::Active));
    cluster.start(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn a_whole_cluster_comes_back_with_all_that_it_was_told() {
    let mut cluster = Cluster::running(3);
    cluster.create(2, "t");
    (1..=3).for_each(|node| cluster.kill(node));
    (1..=3).for_each(|node| cluster.start(node));
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(cluster.topics(3), ["t"]);
    cluster.agree();
}

#[test]
fn what_happens_is_the_same_each_time() {
    let run = || {
        let mut cluster = Cluster::running(3);
        cluster.create(1, "t");
        let leader = cluster.controller().expect("somebody decides");
        cluster.kill(leader);
        cluster.pass(20_000);
        cluster.lines
    };
    assert_eq!(run(), run());
}

#[test]
fn an_image_that_is_not_durable_yet_is_in_no_checkpoint() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "early");
    let leader = cluster.controller().expect("somebody decides");
    let head = cluster.node(leader).snapshot_head();
    cluster.broker(leader).node.as_mut().expect("it runs").compact_metadata_log(head);
    cluster.add(4);
    cluster.start(4);
    cluster.slow = Some(4);
    while !cluster.node(4).is_installing() {
        cluster.write_some();
        cluster.pass(10);
    }
    cluster.broker(4).node.as_mut().expect("it runs").checkpoint_soon();
    cluster.pass(200);
    cluster.catch_up();
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.kill(4);
    cluster.start(4);
    assert_eq!(cluster.topics(4), ["early"]);
}

#[test]
fn who_knows_of_a_cluster_founds_no_other() {
    let mut cluster = Cluster::of(3);
    // Node 3 was there before: alone, it is a cluster.
    cluster.bootstrap = BTreeSet::from([3]);
    cluster.start(3);
    cluster.pass(1_000);
    cluster.create(3, "old");
    cluster.bootstrap = BTreeSet::from([1, 2, 3]);
    // Node 1 hears of it before it hears of node 2, which knows nothing.
    cluster.start(1);
    cluster.pass(1_000);
    cluster.start(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!([cluster.topics(1), cluster.topics(2)], [["old"], ["old"]], "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn a_replica_that_comes_with_the_entry_after_its_topic_survives_a_restart() {
    let mut cluster = Cluster::running(3);
    let leader = cluster.controller().expect("somebody decides");
    let away = (1..=3).find(|node| *node != leader).expect("two follow");
    cluster.kill(away);
    let stay: Vec<i32> = (1..=3).filter(|node| *node != away).collect();
    let assigned = CreatableReplicaAssignment { partition_index: 0, broker_ids: stay.clone() };
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assigned],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    let Response::CreateTopics(answer) = cluster.answer(leader, 7, request.into()) else { panic!("another answer") };
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    let replicas = Some(vec![stay[0], stay[1], away]);
    let partitions = vec![ReassignablePartition { partition_index: 0, replicas }];
    let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
    let request = AlterPartitionReassignmentsRequest { topics, timeout_ms: 30_000, ..Default::default() };
    let answer = cluster.answer(leader, 0, request.into());
    let Response::AlterPartitionReassignments(answer) = answer else { panic!("another answer") };
    assert_eq!(answer.responses[0].partitions[0].error_code, 0, "{answer:?}");
    cluster.start(away);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.produce(stay[0], "t");
    cluster.pass(1_000);
    cluster.kill(away);
    cluster.start(away);
    assert_eq!(cluster.node(away).damaged, BTreeSet::new());
}

#[test]
fn who_decides_and_slept_itself_fences_nobody_for_that() {
    let mut cluster = Cluster::running(3);
    let awake = Instant(cluster.now.instant.0 + 60_000_000_000);
    cluster.advance_to(awake);
    cluster.pass(5_000);
    assert!(!cluster.lines.contains("is fenced"), "{}", cluster.lines);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn a_voter_that_is_taken_out_may_go_when_that_is_told() {
    let mut cluster = Cluster::running(2);
    let leader = cluster.controller().expect("somebody decides");
    let other = 3 - leader;
    cluster.slow = Some(other);
    let voter_directory_id = cluster.brokers[&other].directory;
    let request = RemoveRaftVoterRequest { voter_id: other, voter_directory_id, ..Default::default() };
    let sequence = cluster.ask(leader, 0, request.into());
    while !cluster.broker(leader).replies.contains_key(&sequence) {
        cluster.write_some();
        cluster.pass(10);
    }
    cluster.slow = None;
    cluster.unwritten.clear();
    cluster.kill(other);
    cluster.pass(15_000);
    assert_eq!(cluster.controller(), Some(leader), "{}", cluster.lines);
}

#[test]
fn a_cluster_of_one_grows() {
    let mut cluster = Cluster::of(1);
    cluster.start(1);
    cluster.pass(1_000);
    cluster.create(1, "t");
    cluster.add(2);
    cluster.start(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(cluster.topics(2), ["t"]);
}

#[test]
fn the_first_node_begins_again_that_has_just_taken_in_another() {
    let mut cluster = Cluster::of(1);
    cluster.start(1);
    cluster.pass(1_000);
    let register = peer::Register {
        node_id: NodeId(2),
        directory_id: Uuid([2; 16]),
        process: 1,
        has_lost: false,
        listeners: vec![peer::Address { name: "PLAINTEXT".into(), host: "node2".into(), port: 9092 }],
        rack: None,
        peer_host: "node2".into(),
        peer_port: 9093,
    };
    let message = peer::Message::Register(register);
    cluster.step(1, Input::Peer(Box::new(PeerInput::Heard { from: NodeId(2), process: 1, message })));
    cluster.kill(1);
    cluster.start(1);
    cluster.pass(15_000);
    assert_eq!(cluster.controller(), Some(1), "{}", cluster.lines);
    let alone = NodeOptions { cluster: None, ..cluster.options(1) };
    let found = Node::recover(alone, &cluster.brokers[&1].files, [9; 32], cluster.now);
    assert!(found.is_err(), "it is nothing without the others");
}
