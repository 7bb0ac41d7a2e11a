//! A broker without its shell.

use std::time::Duration;

use chronik_core::boundary::{
    Committer, DiskOp, Done, Effect, Files, Input, Outbox, ReplyTo, Request, is_told_when_sent,
};
use chronik_core::config::BrokerConfig;
use chronik_core::connection::Connection;
use chronik_core::ids::{ConnId, ListenerId, NodeId, Uuid};
use chronik_core::journal::Geometry;
use chronik_core::limits::Limits;
use chronik_core::node::{DIRECT_FROM, Node, NodeOptions};
use chronik_core::time::{self, Now, Timestamp};
use chronik_core::topic_codecs::TopicCodecs;
use chronik_core::wire::{Response, Writer};

use super::files::Memory;
use super::requests;
use super::sink::Sink;

/// What keeps the broker's files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Medium {
    /// Their lengths alone are kept: for paths that write.
    Sink,
    /// Their bytes are: for paths that read.
    Memory,
}

pub(crate) struct Broker {
    node: Node,
    files: Box<dyn Files>,
    committer: Committer,
    now: Now,
    connections: Vec<Connection>,
    codecs: TopicCodecs,
    accepted: Vec<(ReplyTo, Request)>,
    out: Outbox,
    writer: Writer,
    /// Reads of files so far.
    pub(crate) reads: u64,
    replied: usize,
    /// Whether the next answer is waited for, and that answer.
    is_asking: bool,
    told: Option<Response>,
}

impl Broker {
    /// One that has the topic of the requests.
    pub(crate) fn new(connections: usize, medium: Medium) -> Broker {
        let files: Box<dyn Files> = match medium {
            Medium::Sink => Box::new(Sink::default()),
            Medium::Memory => Box::new(Memory::default()),
        };
        let now = Now { instant: time::Instant::default(), wall: Timestamp(1_700_000_000_000) };
        let limits = Limits { tail_cache_bytes: requests::TAIL_CACHE_BYTES, ..Limits::default() };
        let options = NodeOptions {
            node_id: NodeId(1),
            directory_id: Uuid([3; 16]),
            cluster_id: "measured".into(),
            data_dir: "/data".into(),
            listeners: vec![("PLAINTEXT".into(), "localhost".into(), 9092)],
            broker: BrokerConfig::default(),
            limits,
            journal: Geometry::default(),
            direct_from: DIRECT_FROM,
            cluster: None,
        };
        let (node, _) = Node::recover(options, &*files, [7; 32], now).expect("sound files, or none");
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
            reads: 0,
            replied: 0,
            is_asking: false,
            told: None,
        };
        broker.turn();
        broker.ask(&requests::create());
        broker
    }

    /// One request of the first connection, which is answered at once.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Response {
        self.is_asking = true;
        self.receive(0, request);
        self.turn();
        for _ in 0..1_000 {
            if self.told.is_some() {
                break;
            }
            self.pass(Duration::from_millis(10));
        }
        self.answer();
        self.is_asking = false;
        self.told.take().expect("an answer within 10 s")
    }

    /// Everybody sends as much as may be outstanding, and is answered, so often in all.
    pub(crate) fn round(&mut self, requests: &[u8], answers: usize) {
        self.replied = 0;
        for connection in 0..self.connections.len() {
            self.receive(connection, requests);
        }
        self.pass(Duration::from_micros(200));
        self.answer();
        assert_eq!(self.replied, answers, "every request is answered");
    }

    /// Time goes by.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.instant = self.now.instant + time;
        self.turn();
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
                    Effect::Reply { to, response } => self.reply(to, response),
                    Effect::Disk(op) => {
                        let done = self.carry_out(op);
                        self.node.step(self.now, Input::Disk(done), &mut self.out);
                    }
                    Effect::Fatal(why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
    }

    fn reply(&mut self, to: ReplyTo, response: Option<Response>) {
        self.replied += 1;
        let is_told = response.as_ref().is_some_and(is_told_when_sent);
        if self.is_asking {
            self.told.clone_from(&response);
        }
        let connection = usize::try_from(to.conn.0).expect("there are few");
        self.connections[connection].respond(to, response);
        if is_told {
            let sent = Input::Sent { conn: to.conn, sequence: to.sequence };
            self.node.step(self.now, sent, &mut self.out);
        }
    }

    fn carry_out(&mut self, op: DiskOp) -> Done {
        match op {
            DiskOp::Commit(commit, direct) => self.committer.carry_out(&*self.files, commit, &direct),
            DiskOp::Read(id, plan) => {
                self.reads += 1;
                Done::Read(id, plan.run(&*self.files))
            }
            DiskOp::Task(id, task) => Done::Task(id, task.run(&*self.files)),
            DiskOp::Question(id, question) => Done::Finding(id, Box::new(question.answer())),
            DiskOp::Compact(mut pass) => {
                let result = pass.step(&*self.files);
                Done::Compacted(pass, result)
            }
        }
    }

    /// Encodes the answers.
    fn answer(&mut self) {
        for connection in &mut self.connections {
            connection.encode(&mut self.writer).expect("answers are short");
            if !self.writer.is_empty() {
                drop(self.writer.finish());
            }
        }
    }
}
