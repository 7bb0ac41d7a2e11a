//! What one small produce request costs the core, from its bytes to those of its answer: `Connection` and `Node`, with
//! files that take everything and keep nothing. No socket, no thread, no disk.
//!
//! `cargo bench --package chronik-bench --bench produce` prints, for each shape of work, the processor time for each
//! request, the median of several runs. Given a shape's number and how many rounds, it runs that shape alone: under
//! `valgrind --tool=callgrind`, two runs of different length tell the instructions for each request, which no other work
//! on the machine changes.

mod sink;

use std::time::Duration;

use chronik_core::batch::BatchBuilder;
use chronik_core::boundary::{Committer, DiskOp, Done, Effect, Input, Outbox, ReplyTo, Request};
use chronik_core::config::BrokerConfig;
use chronik_core::connection::Connection;
use chronik_core::ids::{ConnId, ListenerId, NodeId, Uuid};
use chronik_core::journal::Geometry;
use chronik_core::limits::Limits;
use chronik_core::node::{Node, NodeOptions};
use chronik_core::time::{self, Now, Timestamp};
use chronik_core::topic_codecs::TopicCodecs;
use chronik_core::wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use chronik_core::wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use chronik_core::wire::{self, ApiKey, RequestHeader, Response, Writer};

use sink::Sink;

/// The version that the bench's clients ask in.
const VERSION: i16 = 9;
const TOPIC: &str = "measured";
/// How often each shape is measured; the median counts.
const RUNS: usize = 9;
/// How many commits one run takes.
const ROUNDS: usize = 200;

/// A broker without its shell.
struct Broker {
    node: Node,
    files: Sink,
    committer: Committer,
    now: Now,
    connections: Vec<Connection>,
    codecs: TopicCodecs,
    accepted: Vec<(ReplyTo, Request)>,
    out: Outbox,
    writer: Writer,
    /// Bytes of answers since the start.
    answered: usize,
}

impl Broker {
    fn new(connections: usize) -> Broker {
        let now = Now { instant: time::Instant::default(), wall: Timestamp(1_700_000_000_000) };
        let limits = Limits::default();
        let options = NodeOptions {
            node_id: NodeId(1),
            directory_id: Uuid([3; 16]),
            cluster_id: "measured".into(),
            data_dir: "/data".into(),
            listeners: vec![("PLAINTEXT".into(), "localhost".into(), 9092)],
            broker: BrokerConfig::default(),
            limits,
            journal: Geometry::default(),
            direct_from: u64::MAX,
            cluster: None,
        };
        let files = Sink::default();
        let (node, _) = Node::recover(options, &files, [7; 32], now).expect("sound files, or none");
        let connection = |conn| Connection::new(ConnId(conn as u64), ListenerId(0), "/127.0.0.1".into(), &limits);
        let mut broker = Broker {
            codecs: node.topic_codecs().clone(),
            node,
            files,
            committer: Committer::new(false),
            now,
            connections: (0..connections).map(connection).collect(),
            accepted: Vec::new(),
            out: Outbox::default(),
            writer: Writer::new(),
            answered: 0,
        };
        broker.turn();
        let topics = vec![CreatableTopic {
            name: TOPIC.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }];
        let create = CreateTopicsRequest { topics, timeout_ms: 1000, ..CreateTopicsRequest::default() };
        broker.receive(0, &framed(ApiKey::CreateTopics, 5, create));
        broker.turn();
        broker.answer();
        broker
    }

    /// One read of a connection.
    fn receive(&mut self, connection: usize, bytes: &[u8]) {
        let connection = &mut self.connections[connection];
        connection.receive(bytes, 0, &self.codecs, &mut self.accepted).expect("sound requests");
        for (to, request) in self.accepted.drain(..) {
            self.node.step(self.now, Input::Request { to, request }, &mut self.out);
        }
    }

    /// Carries out what the node wants until that is nothing more.
    fn turn(&mut self) {
        loop {
            if self.node.deadline().is_some_and(|(at, _)| at <= self.now.instant) {
                self.node.step(self.now, Input::Deadline, &mut self.out);
            }
            self.node.turn(self.now, &mut self.out);
            if self.out.0.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut self.out.0) {
                match effect {
                    Effect::Reply { to, response } => {
                        let connection = usize::try_from(to.conn.0).expect("there are few");
                        if let Some(Response::Produce(response)) = &response {
                            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
                        }
                        self.connections[connection].respond(to, response);
                    }
                    Effect::Disk(op) => {
                        let done = match op {
                            DiskOp::Commit(commit, direct) => self.committer.carry_out(&self.files, commit, &direct),
                            DiskOp::Read(id, plan) => Done::Read(id, plan.run(&self.files)),
                            DiskOp::Task(id, task) => Done::Task(id, task.run(&self.files)),
                            DiskOp::Question(id, question) => Done::Finding(id, Box::new(question.answer())),
                            DiskOp::Compact(mut pass) => {
                                let result = pass.step(&self.files);
                                Done::Compacted(pass, result)
                            }
                        };
                        self.node.step(self.now, Input::Disk(done), &mut self.out);
                    }
                    Effect::Fatal(why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
    }

    /// Encodes the answers.
    fn answer(&mut self) {
        for connection in &mut self.connections {
            connection.encode(&mut self.writer);
            if !self.writer.is_empty() {
                self.answered += self.writer.finish().len();
            }
        }
    }

    /// Everybody sends as much as may be outstanding, and is answered.
    fn round(&mut self, requests: &[u8]) {
        for connection in 0..self.connections.len() {
            self.receive(connection, requests);
        }
        self.now.instant = self.now.instant + Duration::from_micros(200);
        self.turn();
        self.answer();
    }
}

fn framed(api_key: ApiKey, api_version: i16, request: impl Into<wire::Request>) -> Vec<u8> {
    let mut writer = Writer::new();
    let client_id = Some("bench".into());
    let header = RequestHeader { api_key: api_key.code(), api_version, correlation_id: 7, client_id };
    wire::encode_request(&header, &request.into(), &mut writer);
    writer.finish().to_bytes().to_vec()
}

/// One request with a batch of `records`, each with a value of 256 bytes.
fn produce(records: usize) -> Vec<u8> {
    let value = [b'v'; 256];
    let batch = (0..records)
        .fold(BatchBuilder::new(), |batch, _| batch.record(Timestamp(1_700_000_000_000), None, Some(&value)));
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(batch.build()) }];
    let topic = TopicProduceData { name: TOPIC.into(), partition_data, ..TopicProduceData::default() };
    let request = ProduceRequest { acks: 1, timeout_ms: 1000, topic_data: vec![topic], ..ProduceRequest::default() };
    framed(ApiKey::Produce, VERSION, request)
}

/// A shape of work.
struct Shape {
    name: &'static str,
    connections: usize,
    /// How many requests of each connection are outstanding.
    requests: usize,
    /// How many records each of them holds.
    records: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "1 connection, 128 requests of a record outstanding", connections: 1, requests: 128, records: 1 },
    Shape { name: "128 connections, a request of a record outstanding", connections: 128, requests: 1, records: 1 },
    Shape { name: "1 connection, 5 requests of 64 records outstanding", connections: 1, requests: 5, records: 64 },
];

impl Shape {
    /// The processor time of each run, of so many rounds.
    fn run(&self, runs: usize, rounds: usize) -> Vec<Duration> {
        let sent = produce(self.records).repeat(self.requests);
        let mut broker = Broker::new(self.connections);
        let run = |_| {
            let begun = cpu_time();
            (0..rounds).for_each(|_| broker.round(&sent));
            cpu_time() - begun
        };
        let times = (0..runs).map(run).collect();
        let requests = runs * rounds * self.connections * self.requests;
        assert!(broker.answered > requests * 32, "every request is answered");
        times
    }

    fn measure(&self) {
        let mut times = self.run(RUNS, ROUNDS);
        times.sort_unstable();
        let requests = (ROUNDS * self.connections * self.requests) as u128;
        println!("{:<64} {:>10}", self.name, times[RUNS / 2].as_nanos() / requests);
    }
}

/// What this thread has used of a processor: what others do on the machine counts for little.
fn cpu_time() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    Duration::from_nanos(spent.split(' ').next().and_then(|time| time.parse().ok()).expect("nanoseconds come first"))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // As cargo asks of a test's binary, which this is as well: nothing is to be listed or tested.
    if args.iter().any(|arg| arg == "--list" || arg == "--test") {
        return;
    }
    let numbers: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    match numbers[..] {
        [shape, rounds] => drop(SHAPES[shape].run(1, rounds)),
        _ => {
            println!("{:<64} {:>10}", "", "ns/request");
            SHAPES.iter().for_each(Shape::measure);
        }
    }
}
