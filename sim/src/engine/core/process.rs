//! One broker's process: the node, the connections' ends on its side, and the disk work that it has begun.
//!
//! It carries effects out as the production shell does: everything that has arrived is one pass and shares one commit;
//! a commit runs inline, and then nothing else happens meanwhile, or on a thread of its own; background tasks run one
//! after another; reads in any order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use chronik_core::boundary::{Done, Input, Neighbours, Outbox, PeerInput, ReplyTo, Request, Task, TaskId};
use chronik_core::connection::Connection;
use chronik_core::ids::ConnId;
use chronik_core::node::Node;
use chronik_core::time::Instant;
use chronik_core::topic_codecs::TopicCodecs;
use chronik_core::wire::Response;

use crate::engine::standings::Noted;
use crate::engine::work::Work;

/// Something for the node, in the order in which it came.
#[derive(Debug)]
pub(super) enum Arrival {
    Request(ReplyTo, Request),
    Closed(ConnId),
    Sent(ConnId, u64),
    Done(Done),
    Peer(Box<PeerInput>),
    Stop,
}

/// The broker's end of a connection.
#[derive(Debug)]
pub(super) struct ServerEnd {
    pub(super) conn: ConnId,
    pub(super) connection: Connection,
    /// Bytes that have arrived and are not read.
    pub(super) inbox: VecDeque<Bytes>,
    /// The client has closed, or the network broke; told to the connection after what arrived before.
    pub(super) is_ended: bool,
    pub(super) closing: Option<&'static str>,
    /// Already among those that the next pass looks at.
    pub(super) is_ready: bool,
    pub(super) answers: Vec<(ReplyTo, Option<Response>)>,
}

impl ServerEnd {
    pub(super) fn new(conn: ConnId, connection: Connection) -> ServerEnd {
        ServerEnd {
            conn,
            connection,
            inbox: VecDeque::new(),
            is_ended: false,
            closing: None,
            is_ready: false,
            answers: Vec::new(),
        }
    }
}

/// A process that serves.
pub(super) struct Process {
    pub(super) node: Node,
    pub(super) out: Outbox,
    pub(super) mailbox: VecDeque<Arrival>,
    /// Connections, by their place in the world, that have something to be read or sent.
    pub(super) ready: VecDeque<usize>,
    pub(super) codecs: Arc<TopicCodecs>,
    /// What it was seen to believe.
    pub(super) noted: Noted,
    /// How often it was looked at whether its invariants hold.
    pub(super) looks: usize,
    /// Whom it keeps connections to, once it has said so.
    pub(super) neighbours: Option<Arc<Neighbours>>,
    /// When the pass that is planned comes, if one is.
    pub(super) pass_at: Option<Instant>,
    /// The node's thread does nothing before this.
    pub(super) busy_until: Instant,
    /// The inline commit under way: until it is done, nothing else happens on the node's thread.
    pub(super) is_committing: bool,
    /// Work under way by its number, for a crash to interrupt.
    pub(super) works: BTreeMap<u64, Work>,
    pub(super) tasks: VecDeque<(TaskId, Task)>,
    pub(super) is_task_running: bool,
    /// The deadline that an event is planned for.
    pub(super) deadline_at: Option<Instant>,
    pub(super) volume_at: Instant,
    pub(super) is_stopped: bool,
    pub(super) fatal: Option<String>,
}

impl Process {
    pub(super) fn new(node: Node) -> Process {
        let codecs = Arc::new(node.topic_codecs().clone());
        Process {
            node,
            out: Outbox::default(),
            mailbox: VecDeque::new(),
            ready: VecDeque::new(),
            codecs,
            noted: Noted::default(),
            looks: 0,
            neighbours: None,
            pass_at: None,
            busy_until: Instant::default(),
            is_committing: false,
            works: BTreeMap::new(),
            tasks: VecDeque::new(),
            is_task_running: false,
            deadline_at: None,
            volume_at: Instant::default(),
            is_stopped: false,
            fatal: None,
        }
    }

    /// What it has to do, in a line.
    pub(super) fn describe(&self) -> String {
        format!(
            "mailbox {}, ready {}, disk work {:?}, tasks waiting {}, committing inline {}",
            self.mailbox.len(),
            self.ready.len(),
            self.works.keys().collect::<Vec<_>>(),
            self.tasks.len(),
            self.is_committing
        )
    }
}

impl Arrival {
    pub(super) fn into_input(self) -> Input {
        match self {
            Arrival::Request(to, request) => Input::Request { to, request },
            Arrival::Closed(conn) => Input::Closed { conn },
            Arrival::Sent(conn, sequence) => Input::Sent { conn, sequence },
            Arrival::Done(done) => Input::Disk(done),
            Arrival::Peer(input) => Input::Peer(input),
            Arrival::Stop => Input::Stop,
        }
    }
}
