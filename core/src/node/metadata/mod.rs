//! The cluster's metadata: this node's part in the quorum that agrees on its log, and what becomes of decisions.
//!
//! There are two views. [`Node::controller`](super::Node) is what has committed and was applied, in the order of the log:
//! requests are answered from it, and partitions come, change and go by its changes alone. The node that leads the quorum
//! has besides a view that all it has proposed is in: there it decides, and replays at once what it has decided, so that
//! two requests for one name cannot both succeed.
//!
//! ```text
//! request ──► decided on the leading view ──► proposed ──► journal ──► committed ──► applied ──► answered
//!                        └─ replayed there at once                                     └─ partitions change
//! ```
//!
//! | the leading view | when |
//! |---|---|
//! | begins | the node leads the quorum, and has applied the first entry of its own term: all that leaders before it committed is known, and nothing of its own is under way. It is copied some records a step; nothing is applied meanwhile |
//! | ends | the node leads no more; there is nothing to undo, since nobody has acted on it |
//!
//! The journal keeps what the quorum must not forget (`RecordKind::Quorum`), and how far the log was applied
//! (`RecordKind::Applied`), before any record that rests on that. A journal has room for each of them when it is written:
//! what a client asks for waits for room, and what a peer says, a tick above all, is as if it had not come.
//!
//! Not here: what is decided (`controller`), and what a change means for partitions (`topics`).

mod admin;
mod applying;
mod asked;
mod drive;
mod founding;
mod gradual;
mod life;
mod metrics;
mod news;
mod office;
mod peers;
mod proposals;
mod recall;
mod refusals;
mod snapshots;
mod sweeps;
mod takeover;
mod told;
mod twins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{ClusterOptions, NodeOptions, StartError};
use crate::boundary::Neighbours;
use crate::controller::Controller;
use crate::controller::image::MetadataImage;
use crate::ids::{Lsn, NodeId, Uuid};
use crate::peer;
use crate::raft::{self, Entry, LogId, Member, Quorum, Restored, SnapshotRead};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::Str;

pub(super) use proposals::Then;
pub(super) use recall::{Recalled, encode_state_head};
pub(super) use told::told;

/// An election begins when nobody was heard to lead for this many ticks, or up to twice as many.
const ELECTION_TICKS: usize = 10;
/// Whoever leads says so every so many ticks.
const HEARTBEAT_TICKS: usize = 2;

/// The streams of chance that election timeouts and the number of the process are drawn from.
const ELECTIONS: u64 = 3;
const PROCESS: u64 = 4;

/// The largest image that is taken from a leader, in bytes: a hundred thousand partitions take some ten MiB.
const IMAGE_BYTES_MAX: u64 = 64 << 20;

/// A node's part in the metadata quorum.
pub(super) struct Metadata {
    quorum: Quorum,
    raft_options: raft::Options,
    /// As what the node is part of a cluster; none where it stands alone.
    cluster: Option<ClusterOptions>,
    /// Empty where it is not known yet.
    cluster_id: Str,
    /// A random number that tells this process from others of its node; 0 where it has no peers.
    process: u64,
    /// Its addresses for clients: name, host, port.
    advertised: Vec<(Str, Str, u16)>,
    /// The largest image that may come, in bytes.
    image_bytes_max: u64,
    /// While the node leads the quorum and knows what there is: the metadata as it will be when all that was proposed has
    /// committed.
    leading: Option<Controller>,
    /// The one that is being made.
    office: Option<office::Office>,
    /// What the last one knew, while it is let go of.
    former: Option<MetadataImage>,
    /// What is being decided an entry at a time, the oldest first.
    gradual: VecDeque<(proposals::Asker, gradual::Gradual)>,
    /// What the leading view has not learnt yet of what was proposed last.
    unlearnt: Option<proposals::Unlearnt>,
    /// What was proposed last, under this leadership.
    proposed: Option<LogId>,
    /// Bytes of what was proposed under this leadership and is not applied.
    under_way: usize,
    /// Entries that have committed and are not applied.
    committed: VecDeque<Entry>,
    /// The first of them, once it is being read.
    applying: Option<applying::Applying>,
    /// What waits for an entry to be applied: by its index and the order in which they came.
    parked: BTreeMap<(u64, u64), proposals::Parked>,
    next_parked: u64,
    /// The newest record of metadata in the journal.
    newest: Option<Lsn>,
    /// The last portion of the quorum's whose records the journal has.
    durable: u64,
    /// Whether there is something to do for the quorum, or an entry to apply.
    is_due: bool,
    /// Whether the last look at partitions that wait for who leads found some: there may be more.
    settling: bool,
    /// When the next tick is planned.
    ticks_at: Option<Instant>,
    /// What this node has said to itself.
    said_here: VecDeque<peer::Message>,
    /// Requests for whoever leads.
    waiting: asked::Waiting,
    /// Who leads and in which term, as far as everybody here was told.
    led_by: Option<(NodeId, u64)>,
    life: life::Life,
    sweeps: sweeps::Sweeps,
    news: news::News,
    /// Nodes that this one can say something to.
    connected: BTreeSet<NodeId>,
    /// The data folders of those that have introduced themselves, and of which cluster they were then, if of any.
    folders: BTreeMap<NodeId, (Uuid, Str)>,
    /// Where those listen that asked to be registered, and whom a referral named, until the metadata say it.
    pub(in crate::node) introduced: BTreeMap<NodeId, (Str, u16)>,
    /// The processes of other nodes.
    twins: twins::Twins,
    /// Where peers are looked for that may be known under two addresses.
    looks: BTreeMap<NodeId, peers::Look>,
    /// To whom connections are kept.
    neighbours: Option<Arc<Neighbours>>,
    snapshot_reads: Vec<SnapshotRead>,
    snapshot_wanted: Option<u64>,
    making: Option<snapshots::Making>,
    kept: Option<snapshots::Kept>,
    takeover: takeover::Takeover,
}

impl Metadata {
    /// Takes up the part that a start has found.
    ///
    /// # Errors
    /// Where what was found is not one log.
    pub(super) fn new(
        options: &NodeOptions,
        rng: &Rng,
        image: &MetadataImage,
        restored: Restored,
        newest: Option<Lsn>,
    ) -> Result<Metadata, StartError> {
        let room = usize::try_from(options.journal.max_record_bytes()).unwrap_or(usize::MAX);
        let limits = raft::Limits::default();
        let image_bytes_max = IMAGE_BYTES_MAX.min(options.journal.ring_bytes_max() / 4);
        let limits = raft::Limits {
            max_record_bytes: limits.max_record_bytes.min(room / 2),
            max_snapshot_bytes: image_bytes_max,
            ..limits
        };
        let me = Member { node: options.node_id, directory: options.directory_id };
        let cluster_id = founding::known_cluster(image, &restored.head().membership, me, &options.cluster_id);
        let raft_options = raft::Options {
            cluster: cluster_id.parse().unwrap_or(Uuid::ZERO),
            me,
            seed: rng.keyed(ELECTIONS, 0).u64(),
            restart: 0,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: HEARTBEAT_TICKS,
            limits,
        };
        let is_cluster = options.cluster.is_some();
        let process = if is_cluster { rng.keyed(PROCESS, 0).u64().max(1) } else { 0 };
        let quorum = Quorum::new(raft_options.clone(), restored);
        let quorum = quorum.map_err(|error| StartError::Content(error.to_string()))?;
        Ok(Metadata {
            quorum,
            raft_options,
            cluster: options.cluster.clone(),
            cluster_id,
            process,
            advertised: options.listeners.clone(),
            image_bytes_max,
            leading: None,
            office: None,
            former: None,
            gradual: VecDeque::new(),
            unlearnt: None,
            proposed: None,
            under_way: 0,
            committed: VecDeque::new(),
            applying: None,
            parked: BTreeMap::new(),
            next_parked: 0,
            newest,
            durable: 0,
            is_due: false,
            settling: false,
            ticks_at: None,
            said_here: VecDeque::new(),
            waiting: asked::Waiting::of(process),
            led_by: None,
            life: life::Life::default(),
            sweeps: sweeps::Sweeps::default(),
            news: news::News::default(),
            connected: BTreeSet::new(),
            folders: BTreeMap::new(),
            twins: twins::Twins::default(),
            introduced: BTreeMap::new(),
            looks: BTreeMap::new(),
            neighbours: None,
            snapshot_reads: Vec::new(),
            snapshot_wanted: None,
            making: None,
            kept: None,
            takeover: takeover::Takeover::default(),
        })
    }

    /// Whether there is something to do at the end of a step.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// The part in the quorum itself.
    pub(super) fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// The newest record of metadata in the journal.
    pub(super) fn newest(&self) -> Option<Lsn> {
        self.newest
    }

    /// Asserts what always holds.
    pub(super) fn invariants(&self) {
        self.quorum.invariants();
        assert!(self.leading.is_some() || self.proposed.is_none(), "only who decides proposes");
        assert!(self.leading.is_some() || self.unlearnt.is_none(), "and learns");
        assert!(self.ticks_at.is_some() || self.cluster.is_none() || self.is_due || self.is_alone());
    }

    /// Whether nobody else belongs to the quorum.
    pub(super) fn is_alone(&self) -> bool {
        self.quorum.membership().is_alone(self.quorum.me())
    }

    /// The cluster that the node is of; empty where it is not known yet.
    pub(super) fn cluster_id(&self) -> &Str {
        &self.cluster_id
    }

    /// Whether the node is part of a cluster, or is to be.
    pub(super) fn is_clustered(&self) -> bool {
        self.cluster.is_some()
    }
}
