//! Several nodes: what is written at a leader is on its followers, whoever crashes, parts or leads next.
//!
//! The metadata are given by hand, the same entries to every node in one order; messages between nodes arrive at once and
//! in order, as long as their connection stands.

mod clients;
mod compaction;
mod failover;
mod hostile;
mod many;
mod streaming;

use super::*;
use crate::boundary::PeerInput;
use crate::controller::records::{Listener, MetadataRecord, PartitionState, Registration, Standing};
use crate::ids::{LeaderEpoch, NodeId};
use crate::peer::{self, Answer, Hello, Message, ProposalOutcome};

/// Who decides about in-sync sets: none of the nodes.
const CONTROLLER: NodeId = NodeId(99);
const TERM: u64 = 7;
/// The topic that most scenarios write to.
const TOPIC: &str = "t";
/// Epochs rise by so much with each entry, so that what a node's own start changes never meets them.
const STEP: i32 = 10;

struct Cluster {
    rigs: BTreeMap<i32, Rig>,
    /// The disks of nodes that are down, how many entries they had, and how often they had started.
    down: BTreeMap<i32, (MemoryFiles, usize, u8)>,
    applied: BTreeMap<i32, usize>,
    entries: Vec<Vec<MetadataRecord>>,
    /// The newest states of all partitions.
    states: BTreeMap<TopicPartition, PartitionState>,
    /// The newest registration.
    broker_epochs: i64,
    topics: BTreeMap<&'static str, TopicId>,
    /// Nodes that nobody hears, and that hear nobody.
    isolated: BTreeSet<i32>,
    now: Now,
    /// Whether proposals are decided; else they are lost.
    decides: bool,
    settings: Vec<(&'static str, &'static str)>,
    /// The racks of the nodes.
    racks: BTreeMap<i32, &'static str>,
}

impl Cluster {
    fn new(nodes: i32) -> Cluster {
        Cluster::with(nodes, &[])
    }

    fn with(nodes: i32, settings: &[(&'static str, &'static str)]) -> Cluster {
        Cluster::in_racks(nodes, settings, &[])
    }

    fn in_racks(nodes: i32, settings: &[(&'static str, &'static str)], racks: &[(i32, &'static str)]) -> Cluster {
        let now = Now { instant: Instant(0), wall: Timestamp(1_700_000_000_000) };
        let mut cluster = Cluster {
            rigs: BTreeMap::new(),
            down: BTreeMap::new(),
            applied: BTreeMap::new(),
            entries: Vec::new(),
            states: BTreeMap::new(),
            broker_epochs: 0,
            topics: BTreeMap::new(),
            isolated: BTreeSet::new(),
            now,
            decides: true,
            settings: settings.to_vec(),
            racks: racks.iter().copied().collect(),
        };
        for number in 1..=nodes {
            cluster.boot(number, MemoryFiles::default(), 0, 1);
        }
        for number in 1..=nodes {
            cluster.register(number);
        }
        for one in 1..=nodes {
            for other in 1..one {
                cluster.connect(one, other);
                cluster.connect(other, one);
            }
        }
        cluster.run();
        cluster
    }

    fn rig(&mut self, node: i32) -> &mut Rig {
        self.rigs.get_mut(&node).expect("it is up")
    }

    fn boot(&mut self, number: i32, files: MemoryFiles, applied: usize, starts: u8) {
        let mut rig = Rig::numbered(number, files, &self.settings, starts);
        rig.said = Some(VecDeque::new());
        rig.now = self.now;
        rig.node.follow_controller(Some((CONTROLLER, TERM)));
        self.rigs.insert(number, rig);
        self.applied.insert(number, applied);
        self.catch_up_with_metadata(number);
    }

    // Metadata.

    /// A process begins: it has a new broker epoch, and what it leads a new leader epoch.
    fn register(&mut self, number: i32) {
        self.broker_epochs += 1000;
        let listener =
            Listener { name: "PLAINTEXT".into(), host: format!("node-{number}").into(), port: 9092 + number as u16 };
        let mut records = vec![MetadataRecord::RegisterBroker(Registration {
            node_id: NodeId(number),
            directory_id: Uuid([3; 16]),
            broker_epoch: self.broker_epochs,
            listeners: vec![listener],
            rack: self.racks.get(&number).map(|&rack| rack.into()),
            process: 1,
            peer_address: None,
            standing: Standing::Active,
        })];
        for (&partition, state) in &mut self.states {
            if state.leader == Some(NodeId(number)) {
                state.leader_epoch.0 += STEP;
                state.partition_epoch += STEP;
                records.push(MetadataRecord::Partition { partition, state: state.clone() });
            }
        }
        self.entry(records);
    }

    fn entry(&mut self, records: Vec<MetadataRecord>) {
        self.entries.push(records);
        let up: Vec<i32> = self.rigs.keys().copied().filter(|node| !self.isolated.contains(node)).collect();
        for node in up {
            self.catch_up_with_metadata(node);
        }
        self.run();
    }

    fn catch_up_with_metadata(&mut self, node: i32) {
        let rig = self.rigs.get_mut(&node).expect("it is up");
        let applied = self.applied.get_mut(&node).expect("it is up");
        for records in &self.entries[*applied..] {
            // Each node agrees with itself alone about what all are told.
            rig.node.propose(records, &mut rig.out).expect("it decides alone");
            rig.run();
        }
        *applied = self.entries.len();
    }

    /// Creates a topic whose partitions have these replicas, the first of which leads.
    fn create(&mut self, name: &'static str, replicas: &[&[i32]], settings: &[(&'static str, &'static str)]) {
        let id = Uuid([self.topics.len() as u8 + 100; 16]);
        self.topics.insert(name, id);
        let mut records = vec![MetadataRecord::Topic { id, name: name.into() }];
        for (partition, replicas) in (0..).zip(replicas) {
            let replicas: Vec<NodeId> = replicas.iter().copied().map(NodeId).collect();
            let (partition, state) = (TopicPartition { topic: id, partition }, PartitionState::new(replicas));
            self.states.insert(partition, state.clone());
            records.push(MetadataRecord::Partition { partition, state });
        }
        records.extend(settings.iter().map(|&(name, value)| MetadataRecord::Config {
            of: crate::controller::records::Resource::Topic(id),
            name: name.into(),
            value: Some(value.into()),
        }));
        self.entry(records);
        self.run();
    }

    fn partition(&self, name: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topics[name], partition }
    }

    /// The newest state of a partition.
    fn state(&self, id: TopicPartition) -> PartitionState {
        self.states[&id].clone()
    }

    /// Another leader, or none, and another in-sync set.
    fn elect(&mut self, leader: Option<i32>, isr: &[i32]) {
        self.elect_of(TOPIC, leader, isr);
    }

    fn elect_of(&mut self, topic: &str, leader: Option<i32>, isr: &[i32]) {
        let id = self.partition(topic, 0);
        let before = self.state(id);
        let state = PartitionState {
            leader: leader.map(NodeId),
            isr: isr.iter().copied().map(NodeId).collect(),
            leader_epoch: LeaderEpoch(before.leader_epoch.0 + STEP),
            partition_epoch: before.partition_epoch + STEP,
            ..before
        };
        self.states.insert(id, state.clone());
        self.entry(vec![MetadataRecord::Partition { partition: id, state }]);
    }

    /// Decides a proposal as a controller does.
    fn decide(&mut self, from: i32, asked: peer::AlterInSync) {
        assert_eq!(asked.term, TERM, "proposals name the controller's term");
        let mut answers = Vec::new();
        for proposal in asked.partitions {
            let before = self.state(proposal.partition);
            let is_stale = before.partition_epoch != proposal.partition_epoch.0;
            if !is_stale {
                let isr: Vec<NodeId> = proposal.members.iter().map(|member| member.node).collect();
                let state = PartitionState { isr, partition_epoch: before.partition_epoch + STEP, ..before };
                self.states.insert(proposal.partition, state.clone());
                self.entries.push(vec![MetadataRecord::Partition { partition: proposal.partition, state }]);
            }
            answers.push(Answer {
                partition: proposal.partition,
                leader_epoch: proposal.leader_epoch,
                partition_epoch: proposal.partition_epoch,
                attempt: proposal.attempt,
                outcome: if is_stale { ProposalOutcome::Stale } else { ProposalOutcome::Committed },
            });
        }
        for node in self.rigs.keys().copied().collect::<Vec<_>>() {
            if !self.isolated.contains(&node) {
                self.catch_up_with_metadata(node);
            }
        }
        let answer = peer::AlterInSyncAnswer { term: TERM, partitions: answers };
        self.hear(CONTROLLER.0, from, Message::AlterInSyncAnswer(answer));
    }

    // Connections.

    fn hello(node: i32) -> Hello {
        Hello {
            cluster_id: "test-cluster".into(),
            node_id: NodeId(node),
            directory_id: Uuid([3; 16]),
            process: 1,
            format_first: 1,
            format_last: 1,
        }
    }

    fn connect(&mut self, from: i32, to: i32) {
        self.rig(from).step(Input::Peer(Box::new(PeerInput::Connected(Cluster::hello(to)))));
        self.rig(to).step(Input::Peer(Box::new(PeerInput::Arrived(Cluster::hello(from)))));
    }

    fn part(&mut self, from: i32, to: i32) {
        if let Some(rig) = self.rigs.get_mut(&from) {
            rig.said.as_mut().expect("it is in a cluster").retain(|(peer, _)| peer.0 != to);
            rig.step(Input::Peer(Box::new(PeerInput::Disconnected(NodeId(to)))));
        }
    }

    fn others(&self, node: i32) -> Vec<i32> {
        self.rigs.keys().copied().filter(|&other| other != node && !self.isolated.contains(&other)).collect()
    }

    /// Cuts a node off from all others, the controller included.
    fn isolate(&mut self, node: i32) {
        for other in self.others(node) {
            self.part(node, other);
            self.part(other, node);
        }
        self.isolated.insert(node);
        self.run();
    }

    fn heal(&mut self, node: i32) {
        self.isolated.remove(&node);
        self.catch_up_with_metadata(node);
        for other in self.others(node) {
            self.connect(node, other);
            self.connect(other, node);
        }
        self.run();
    }

    fn hear(&mut self, from: i32, to: i32, message: Message) {
        let Some(rig) = self.rigs.get_mut(&to) else { return };
        for heard in by_connection(from, 1, message) {
            rig.step(Input::Peer(Box::new(heard)));
        }
    }

    // Crashes.

    /// A process ends, and what its disk was not done with is lost.
    fn crash(&mut self, node: i32) {
        let rig = self.rigs.remove(&node).expect("it was up");
        let applied = self.applied[&node];
        self.down.insert(node, (rig.files, applied, rig.starts));
        for other in self.others(node) {
            self.part(other, node);
        }
        self.run();
    }

    fn restart(&mut self, node: i32) {
        let (files, applied, starts) = self.down.remove(&node).expect("it was down");
        self.boot(node, files, applied, starts + 1);
        self.register(node);
        for other in self.others(node) {
            self.connect(node, other);
            self.connect(other, node);
        }
        self.run();
    }

    // Time.

    /// Everything that can happen now happens.
    fn run(&mut self) {
        loop {
            let mut is_quiet = true;
            for node in self.rigs.keys().copied().collect::<Vec<_>>() {
                let rig = self.rig(node);
                rig.run();
                while rig.node.deadline().is_some_and(|(at, _)| at <= rig.now.instant) {
                    rig.step(Input::Deadline);
                    rig.run();
                }
                let said = std::mem::take(rig.said.as_mut().expect("it is in a cluster"));
                for (to, message) in said {
                    is_quiet = false;
                    match message {
                        _ if self.isolated.contains(&node) || self.isolated.contains(&to.0) => {}
                        Message::AlterInSync(_) if !self.decides => {}
                        Message::AlterInSync(asked) => self.decide(node, asked),
                        message => self.hear(node, to.0, message),
                    }
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = Instant(self.now.instant.0 + ms * 1_000_000);
        loop {
            self.run();
            let next = self.rigs.values().filter_map(|rig| rig.node.deadline()).map(|(at, _)| at).min();
            let at = next.filter(|at| *at <= until).unwrap_or(until);
            for rig in self.rigs.values_mut() {
                rig.advance_to(at);
                self.now = rig.now;
            }
            if at == until {
                return self.run();
            }
        }
    }

    // Clients.

    /// Sends a batch of values to a node; the answer comes when it comes.
    fn send(&mut self, node: i32, acks: i16, values: &[&str]) -> u64 {
        let batch = records(self.now.wall, values);
        let sequence = self.rig(node).send(TOPIC, 0, acks, batch);
        self.run();
        sequence
    }

    fn produced(&mut self, node: i32, sequence: u64) -> Option<PartitionProduceResponse> {
        self.rig(node).produced(sequence)
    }

    /// Writes values that all replicas in sync acknowledge.
    fn produce(&mut self, node: i32, values: &[&str]) {
        let sequence = self.send(node, -1, values);
        let answer = self.produced(node, sequence).expect("an acknowledgement");
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }

    /// Whether the client has been answered, and with which error.
    fn code(&mut self, node: i32, sequence: u64) -> Option<i16> {
        self.produced(node, sequence).map(|answer| answer.error_code)
    }

    fn consume(&mut self, node: i32) -> Vec<String> {
        let start = self.host(node).partition.log().start().0;
        self.rig(node).consume(TOPIC, start)
    }

    fn host_of(&mut self, node: i32, id: TopicPartition) -> &mut Hosted {
        let rig = self.rig(node);
        let slot = rig.node.by_id[&id];
        rig.node.host(slot)
    }

    fn host(&mut self, node: i32) -> &mut Hosted {
        let id = self.partition(TOPIC, 0);
        self.host_of(node, id)
    }

    /// The log's end and the high watermark on a node.
    fn ends(&mut self, node: i32) -> (i64, i64) {
        let partition = &self.host(node).partition;
        (partition.log().end().0, partition.advanced().high_watermark.0)
    }

    fn in_sync(&self) -> Vec<i32> {
        self.state(self.partition(TOPIC, 0)).isr.iter().map(|node| node.0).collect()
    }

    /// All bytes of a log, from memory or segments, whether committed or not.
    fn bytes(&mut self, node: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let id = self.partition(TOPIC, 0);
        let (mut at, end) = {
            let log = self.host(node).partition.log();
            (log.start(), log.end())
        };
        while at < end {
            let rig = self.rigs.get_mut(&node).expect("it is up");
            let slot = rig.node.by_id[&id];
            let log = rig.node.host(slot).partition.log();
            let found: Vec<u8> = match log.read(at, end, 1 << 20) {
                crate::log::Read::Memory(slices, _) => slices.concat(),
                crate::log::Read::Disk(plan, _) => match plan.run(&rig.files).expect("it can be read") {
                    ReadOutcome::Batches(batches) => batches.to_vec(),
                    _ => Vec::new(),
                },
                crate::log::Read::Nothing => Vec::new(),
            };
            match Scan::checked(&found).last() {
                Some(last) => at = crate::ids::Offset(last.expect("whole batches").head.last_offset().0 + 1),
                None => at = log.after_gap(at),
            }
            bytes.extend(found);
        }
        bytes
    }

    /// All that are up and hear each other have the same log, to the last byte.
    fn expect_same(&mut self) {
        let nodes: Vec<i32> = self.rigs.keys().copied().filter(|node| !self.isolated.contains(node)).collect();
        let first = self.bytes(nodes[0]);
        for &node in &nodes[1..] {
            assert!(self.bytes(node) == first, "the log of {node} is that of {}", nodes[0]);
            assert_eq!(self.ends(node), self.ends(nodes[0]), "node {node} has come as far as {}", nodes[0]);
        }
    }
}
