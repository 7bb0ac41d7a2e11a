//! A broker's connections and node on a disk that takes no time and never fails, with a network of a fixed latency: the least
//! engine that clients can be driven by. Whatever is asked of it goes wrong at fixed times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_core::boundary::{DiskOp, Done, Effect, FileName, Files, Input, Outbox, write_direct};
use chronik_core::config::BrokerConfig;
use chronik_core::connection::Connection;
use chronik_core::ids::{ConnId, ListenerId, NodeId, Uuid};
use chronik_core::journal::Geometry;
use chronik_core::limits::Limits;
use chronik_core::node::{Node, NodeOptions};
use chronik_core::time::{Instant, Now, Timestamp};
use chronik_core::topic_codecs::TopicCodecs;
use chronik_core::wire::{Str, Writer};

use crate::client::{Client, ClientNow, Happened, Link, Wanted, auditor, machine, setup};
use crate::disk::SimDisk;
use crate::history::{ClientId, Event, History, What};
use crate::plan::Plan;

const WALL: i64 = 1_700_000_000_000;
const LATENCY: Duration = Duration::from_micros(100);
const LISTENER: ListenerId = ListenerId(0);
const HOST: Str = Str::from_static("/10.0.0.1");

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// All connections break.
    Reset,
    /// The process dies and is started again at once.
    Kill,
    /// What the broker sends is lost from here on, until connections are made anew.
    Mute,
}

/// A connection as the broker has it.
struct Served {
    connection: Connection,
    is_mute: bool,
}

pub(super) struct World {
    files: SimDisk,
    node: Node,
    starts: u8,
    codecs: Arc<TopicCodecs>,
    now: Instant,
    out: Outbox,
    writer: Writer,
    clients: Vec<(ClientId, Box<dyn Client>)>,
    served: BTreeMap<ConnId, Served>,
    queue: BTreeMap<(Instant, u64), (usize, Happened)>,
    queued: u64,
    pub(super) history: History,
}

fn recover(plan: &Plan, files: &SimDisk, starts: u8, now: Instant) -> Node {
    let settings = plan.node.broker.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = NodeOptions {
        node_id: NodeId(1),
        directory_id: Uuid([3; 16]),
        cluster_id: "test-cluster".into(),
        data_dir: "/data".into(),
        listeners: vec![("PLAINTEXT".into(), "localhost".into(), 9092)],
        broker: BrokerConfig::parse(settings).expect("settings that a plan may use"),
        limits: Limits {
            tail_cache_bytes: usize::try_from(plan.node.tail_cache_bytes).expect("a sane plan"),
            ..Limits::default()
        },
        journal: Geometry {
            file_bytes: plan.node.journal_file_bytes,
            max_files: plan.node.journal_files,
            reserve_bytes: plan.node.journal_file_bytes / 4,
        },
        direct_from: plan.node.direct_from,
        cluster: None,
    };
    Node::recover(options, files, [starts; 32], broker_now(now)).expect("sound files").0
}

fn wall(now: Instant) -> Timestamp {
    Timestamp(WALL + i64::try_from(now.0 / 1_000_000).expect("short"))
}

fn broker_now(now: Instant) -> Now {
    Now { instant: now, wall: wall(now) }
}

impl World {
    /// Carries a plan out, with these troubles at these milliseconds, and returns what happened.
    pub(super) fn run(plan: &Plan, troubles: &[(u64, Trouble)]) -> History {
        let files = SimDisk::default();
        let node = recover(plan, &files, 1, Instant(0));
        let mut world = World {
            codecs: Arc::new(node.topic_codecs().clone()),
            files,
            node,
            starts: 1,
            now: Instant(0),
            out: Outbox::default(),
            writer: Writer::new(),
            clients: vec![(ClientId::SETUP, setup(plan))],
            served: BTreeMap::new(),
            queue: BTreeMap::new(),
            queued: 0,
            history: History::default(),
        };
        world.step_client(0, Happened::Started);
        world.pass(Duration::from_secs(5), true);
        for index in 0..plan.clients.len() {
            let id = ClientId(u32::try_from(index).expect("few"));
            world.clients.push((id, machine(plan, id)));
            world.step_client(index + 1, Happened::Started);
        }
        for &(at_ms, trouble) in troubles {
            let at = Instant(at_ms * 1_000_000);
            world.pass(at - world.now, false);
            world.go_wrong(plan, trouble);
        }
        world.pass(Instant(plan.duration_ms * 1_000_000) - world.now, false);
        for client in 0..world.clients.len() {
            world.step_client(client, Happened::Healed);
        }
        world.pass(Duration::from_secs(30), true);
        world.clients.push((ClientId::AUDITOR, auditor(plan)));
        let auditor = world.clients.len() - 1;
        world.step_client(auditor, Happened::Started);
        world.step_client(auditor, Happened::Healed);
        world.pass(Duration::from_secs(30), true);
        for (id, client) in &world.clients {
            assert!(client.is_done(), "{id:?}: {}", client.describe());
        }
        world.history
    }

    /// Goes on for so long, or until all clients are done where `until_done`.
    fn pass(&mut self, time: Duration, until_done: bool) {
        let until = self.now + time;
        loop {
            if until_done && self.clients.iter().all(|(_, client)| client.is_done()) {
                return;
            }
            let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let deadline = self.node.deadline().map(|(at, _)| at.max(self.now));
            let next = [queued, deadline].into_iter().flatten().min().filter(|at| *at <= until);
            let Some(next) = next else {
                self.now = until;
                return;
            };
            self.now = next;
            if queued == Some(next) {
                let (_, (client, happened)) = self.queue.pop_first().expect("one is queued");
                self.step_client(client, happened);
            } else {
                self.step_node(Input::Deadline);
                self.turn();
            }
        }
    }

    fn go_wrong(&mut self, plan: &Plan, trouble: Trouble) {
        if let Trouble::Mute = trouble {
            self.served.values_mut().for_each(|served| served.is_mute = true);
            return;
        }
        if let Trouble::Kill = trouble {
            self.starts += 1;
            self.node = recover(plan, &self.files, self.starts, self.now);
            self.out.0.clear();
        }
        for (conn, _) in std::mem::take(&mut self.served) {
            let (client, link) = names(conn);
            self.enqueue(client, Happened::Lost(link));
            if let Trouble::Reset = trouble {
                self.step_node(Input::Closed { conn });
            }
        }
        self.turn();
    }

    fn enqueue(&mut self, client: usize, happened: Happened) {
        self.enqueue_at(self.now + LATENCY, client, happened);
    }

    fn enqueue_at(&mut self, at: Instant, client: usize, happened: Happened) {
        self.queued += 1;
        self.queue.insert((at, self.queued), (client, happened));
    }

    fn step_client(&mut self, client: usize, happened: Happened) {
        let now = ClientNow { instant: self.now, wall: wall(self.now) };
        let mut wanted = Vec::new();
        let (id, machine) = &mut self.clients[client];
        let id = *id;
        machine.step(now, happened, &mut wanted);
        for wanted in wanted {
            match wanted {
                Wanted::Connect(link, _) => {
                    let conn = conn(client, link);
                    let connection = Connection::new(conn, LISTENER, HOST, &Limits::default());
                    self.served.insert(conn, Served { connection, is_mute: false });
                    self.enqueue(client, Happened::Connected(link));
                }
                Wanted::Send(link, bytes) => self.receive(conn(client, link), &bytes),
                Wanted::Close(link) => {
                    if self.served.remove(&conn(client, link)).is_some() {
                        self.step_node(Input::Closed { conn: conn(client, link) });
                    }
                }
                Wanted::WakeAt(at) => self.enqueue_at(at, client, Happened::Timer),
                Wanted::Order(..) => unreachable!("the only broker stays"),
                Wanted::Record(operation, what) => {
                    self.history.events.push(Event { at: self.now, client: id, node: 1, operation, what });
                }
            }
        }
        self.turn();
    }

    /// Hands bytes to the broker at once; the latency is on the way back.
    fn receive(&mut self, conn: ConnId, bytes: &Bytes) {
        let Some(served) = self.served.get_mut(&conn) else { return };
        let mut accepted = Vec::new();
        let result = served.connection.receive(bytes, 0, &self.codecs, &mut accepted);
        for (to, request) in accepted {
            self.step_node(Input::Request { to, request });
        }
        self.flush(conn);
        let is_over = self.served.get(&conn).is_some_and(|served| served.connection.is_over().is_some());
        if result.is_err() || is_over {
            self.close(conn);
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(served) = self.served.get_mut(&conn) else { return };
        served.connection.encode(&mut self.writer).expect("answers are short");
        let bytes = self.writer.finish().to_bytes();
        let sent: Vec<u64> = std::iter::from_fn(|| served.connection.next_sent(0)).collect();
        if !bytes.is_empty() && !served.is_mute {
            let (client, link) = names(conn);
            // In pieces, as a network delivers.
            let middle = bytes.len() / 3;
            self.enqueue(client, Happened::Received(link, bytes.slice(..middle)));
            self.enqueue(client, Happened::Received(link, bytes.slice(middle..)));
        }
        for sequence in sent {
            self.step_node(Input::Sent { conn, sequence });
        }
        if self.served.get(&conn).is_some_and(|served| served.connection.may_go_on(0)) {
            self.receive(conn, &Bytes::new());
        }
    }

    fn close(&mut self, conn: ConnId) {
        if self.served.remove(&conn).is_some() {
            let (client, link) = names(conn);
            self.enqueue(client, Happened::Lost(link));
            self.step_node(Input::Closed { conn });
        }
    }

    fn turn(&mut self) {
        self.node.turn(broker_now(self.now), &mut self.out);
        self.take_effects();
    }

    fn step_node(&mut self, input: Input) {
        self.node.step(broker_now(self.now), input, &mut self.out);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        for effect in std::mem::take(&mut self.out.0) {
            match effect {
                Effect::Reply { to, response } => {
                    if let Some(served) = self.served.get_mut(&to.conn) {
                        served.connection.respond(to, response);
                        self.flush(to.conn);
                    }
                }
                Effect::Close { conn, .. } | Effect::Cut { conn, .. } => self.close(conn),
                Effect::Disk(op) => self.work(op),
                Effect::TopicCodecs(codecs) => self.codecs = codecs,
                Effect::Fatal(why) => panic!("the disk never failed: {why}"),
                Effect::AllowConnections { .. } | Effect::Log(_) | Effect::Stopped => {}
                Effect::Neighbours(_) | Effect::Say { .. } => {}
            }
        }
    }

    fn work(&mut self, op: DiskOp) {
        let done = match op {
            DiskOp::Commit(commit, direct) => {
                write_direct(&self.files, &direct).expect("memory has room");
                let data = std::slice::from_ref(&commit.data);
                let file = FileName::Journal(commit.slot);
                self.files.write_at(file, commit.position, data).expect("memory has room");
                Done::Commit(commit.number, Ok(()))
            }
            DiskOp::Read(id, plan) => Done::Read(id, plan.run(&self.files)),
            DiskOp::Task(id, task) => Done::Task(id, task.run(&self.files)),
            DiskOp::Question(id, question) => Done::Finding(id, Box::new(question.answer())),
            DiskOp::Compact(mut pass) => {
                let result = pass.step(&self.files);
                Done::Compacted(pass, result)
            }
        };
        self.step_node(Input::Disk(done));
        self.turn();
    }
}

fn conn(client: usize, link: Link) -> ConnId {
    ConnId((client as u64) << 32 | u64::from(link.0))
}

fn names(ConnId(conn): ConnId) -> (usize, Link) {
    (usize::try_from(conn >> 32).expect("few"), Link(u32::try_from(conn & 0xffff_ffff).expect("it was one")))
}

/// Panics at the first event that says that the broker broke the protocol.
pub(super) fn assert_sound(history: &History) {
    for event in &history.events {
        assert!(!matches!(event.what, What::Broken { .. } | What::OutOfSequence { .. }), "{event:?}");
    }
}
