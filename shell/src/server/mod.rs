//! The server: sockets and files around the core's node.
//!
//! ```text
//!  listener ──► connection ──requests──► mailbox ──► node loop ──► disk
//!   (accept)     (one task each)                        │            │
//!                     ▲──────────answers──letterbox─────┘◄───done────┘
//! ```
//!
//! No rule of the protocol is here: what bytes mean is for `chronik_core::connection`, what is answered for
//! `chronik_core::node`. All network goes through [`ByteStream`], all disk through [`Disk`], and nothing of tokio is
//! used that madsim's simulated tokio lacks.
//!
//! [`Server::assemble`] is the seam: [`Server::start`] calls it with real files and sockets, a simulator with its own.
//! Recovery off the runtime's thread, the disk's threads and what asks the operating system stay on the near side of
//! it.

mod admission;
mod budget;
mod connection;
mod disk;
mod listener;
mod mailbox;
mod node_loop;
mod peers;
mod stream;
mod timer;

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronik_core::boundary::{DiskError, Done, FileName, Files};
use chronik_core::config::BrokerConfig;
use chronik_core::ids::{ListenerId, NodeId};
use chronik_core::journal::checkpoint::{CheckpointError, Flaw};
use chronik_core::journal::{BLOCK_BYTES, Geometry, RecoveryError};
use chronik_core::limits::Limits;
use chronik_core::node::{self, Node, NodeOptions, Report};
use chronik_core::rng::Rng;
use chronik_core::wire::Str;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::cli::options::{Address, ClusterOptions, Durability, Options};
use crate::data_dir::{DataDir, Identity, IdentityFile};
use admission::Admission;
use connection::Shared;
use disk::{DataFolder, JournalWrites};
use listener::Doors;
use mailbox::Arrival;
use node_loop::NodeLoop;
use peers::{Door, Peers};

pub use disk::{Disk, Reporter, Threads};
pub use node_loop::{Clock, Fatal, OnPass};
pub use peers::{Clustered, OnClusterKnown};
pub use stream::ByteStream;

/// How long connections may take to send their last answers once the node has stopped.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Descriptors that are neither connections nor of segments: listeners, the journal's slots (two for each), connections to
/// peers, the runtime's own, the metrics page's connections.
const OTHER_DESCRIPTORS: usize = 128;

/// Descriptors that an open file may have: one more for what goes past the page cache.
const DESCRIPTORS_PER_FILE: usize = 2;

/// The stream of chance that pauses between attempts to connect to a peer are drawn from; the node has lower ones.
const JITTER: u64 = u64::MAX;

/// A broker that has recovered its data, has bound its addresses, and has not yet accepted a connection.
pub struct Server<D = Threads, S = TcpStream> {
    node: NodeLoop<D>,
    shared: Arc<Shared>,
    doors: Arc<Doors>,
    listeners: Vec<TcpListener>,
    /// Where peers come in.
    door: Option<Door<S>>,
    wrap: Wrap<S>,
}

/// Makes the stream that a connection uses of one that was accepted, and whose it is.
type Wrap<S> = Arc<dyn Fn(TcpStream, SocketAddr) -> S + Send + Sync>;

/// What a server is put together from, besides its disk and its streams.
pub struct Parts {
    /// The broker, recovered.
    pub node: Node,
    /// The clock by which it recovered.
    pub clock: Clock,
    /// The bounds that connections obey.
    pub limits: Limits,
    /// How long a connection with nothing in flight stays (`connections.max.idle.ms`); `None` for ever.
    pub idle_time_max: Option<Duration>,
    /// Where clients connect to, in the order of the addresses that the node advertises.
    pub listeners: Vec<TcpListener>,
    /// What a broker of a cluster has besides; none where it stands alone.
    pub cluster: Option<Clustered>,
    /// Who looks at the node after each pass: nobody but a simulator.
    pub on_pass: Option<OnPass>,
}

/// Why a broker cannot start. Each is one line that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Bind(Address, io::Error),
    /// The data folder at this path cannot be used.
    Folder(PathBuf, io::Error),
    /// The data folder at this path had a journal, and has none.
    NoJournal(PathBuf),
    /// What the data folder at this path holds cannot be recovered.
    Recovery(PathBuf, node::StartError),
    /// A thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "port {} is in use ({address}): stop what uses it, or give another port", address.port)
            }
            StartError::Bind(address, error) => {
                write!(f, "cannot listen on {address}: {error}: give an address of this machine")
            }
            StartError::Folder(path, error) => {
                write!(f, "cannot use the data folder {}: {error}: {DISK_REMEDY}", path.display())
            }
            StartError::NoJournal(path) => write!(
                f,
                "cannot recover the data folder {}: it had a journal, and {} is missing or empty: {RESTORE_REMEDY}",
                path.display(),
                FileName::Journal(0)
            ),
            StartError::Recovery(path, error) => {
                write!(f, "cannot recover the data folder {}: {error}", path.display())?;
                remedy(error).map_or(Ok(()), |remedy| write!(f, ": {remedy}"))
            }
            StartError::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What to do where the system refuses a file, be it for its owner's or for its disk's sake.
const DISK_REMEDY: &str = "let the user that runs the broker own the folder and all that is in it, and see that its disk is \
                           sound and has room";

const RESTORE_REMEDY: &str = "restore the whole folder from a copy; in a cluster, start the node with an empty one and \
                              take its number out and in again (`chronik-server cluster remove-node`, then `add-node`): \
                              the others then copy to it what it held";

const NEWER_REMEDY: &str = "run the version that wrote it, or a later one";

/// What to do about a data folder that cannot be recovered; none where the error says it.
fn remedy(error: &node::StartError) -> Option<Cow<'static, str>> {
    let remedy = match error {
        node::StartError::Unfit(_) => return None,
        node::StartError::Disk(DiskError::NoSpace(_) | DiskError::Io(..))
        | node::StartError::Journal(RecoveryError::Unreadable { .. }) => DISK_REMEDY,
        node::StartError::Journal(RecoveryError::Newer { .. })
        | node::StartError::Checkpoint(CheckpointError::NotOurs { flaw: Flaw::Newer(_), .. }) => NEWER_REMEDY,
        // What makes no sense to this version may to a later one.
        node::StartError::Content(_) | node::StartError::Journal(RecoveryError::Refused { .. }) => {
            return Some(
                format!("where a later version has written there, {NEWER_REMEDY}; else {RESTORE_REMEDY}").into(),
            );
        }
        _ => RESTORE_REMEDY,
    };
    Some(remedy.into())
}

impl Server {
    /// Binds the addresses, recovers the data folder, and says in one line what came of it. `entropy` seeds everything
    /// that the node draws.
    ///
    /// # Errors
    /// See [`StartError`].
    // madsim's tokio has this name to say that nothing may block in it; a simulator does not call this.
    #[cfg_attr(madsim, allow(deprecated))]
    pub async fn start(options: &Options, folder: &DataDir, entropy: [u8; 32]) -> Result<Server, StartError> {
        let started = Instant::now();
        let broker = &options.kafka;
        let limits = limits(broker, getrlimit(Resource::Nofile).current, options.cluster.is_some());
        // Bound before the data is recovered, which may take a while: a port in use is told at once.
        let mut listeners = Vec::new();
        let mut advertised = Vec::new();
        for listener in &options.listeners {
            let bound = bind(&listener.bind).await?;
            let port = bound.local_addr().map_err(|error| StartError::Bind(listener.bind.clone(), error))?.port();
            let Address { host, port } = listener.advertised(port);
            advertised.push((Str::from(listener.name.as_str()), Str::from(host), port));
            listeners.push(bound);
        }

        let mut node_options = node_options(folder, options, advertised.clone(), limits);
        let cluster = match &options.cluster {
            Some(cluster) => {
                let listener = bind(&cluster.raft_addr).await?;
                node_options.cluster = Some(cluster_options(cluster, &listener)?);
                Some(clustered(listener, folder, entropy))
            }
            None => None,
        };

        let clock = Clock::start();
        let (path, mut identity, durability) = (folder.path().to_owned(), folder.identity_file(), options.durability);
        // Off the runtime's thread, which so can tell that the broker is alive and not ready.
        let recovering = tokio::task::spawn_blocking(move || {
            check_journal(&path, &identity)?;
            let recovered = recover(&path, durability, node_options, entropy, clock)?;
            if let Err(unusable) = identity.journal_is_made() {
                // A full disk must not keep what is there from being read.
                warn!(
                    "not written down that the data folder has a journal, for which the next start would miss it: {unusable}"
                );
            }
            Ok(recovered)
        });
        let (files, node, report) = recovering.await.map_err(|error| StartError::Thread(error.into()))??;

        let idle_time_max = broker.connections_max_idle_ms.map(Duration::from_millis);
        let parts = Parts { node, clock, limits, idle_time_max, listeners, cluster, on_pass: None };
        let disk = |report| Threads::start(files, folder.path().to_owned(), options.commit, options.durability, report);
        let server = Server::assemble(parts, disk, |stream, _| stream).map_err(StartError::Thread)?;
        tell(options, folder, &server.listeners, &advertised, &report, started.elapsed());
        Ok(server)
    }
}

impl<D: Disk + 'static, S: ByteStream> Server<D, S> {
    /// Puts a server together. `disk` makes its disk, and is told to whom the disk reports what it has finished; `wrap`
    /// makes the stream that a connection uses.
    ///
    /// # Errors
    /// That of `disk`.
    pub fn assemble<E>(
        parts: Parts,
        disk: impl FnOnce(Reporter) -> Result<D, E>,
        wrap: impl Fn(TcpStream, SocketAddr) -> S + Send + Sync + 'static,
    ) -> Result<Server<D, S>, E> {
        let Parts { node, clock, limits, idle_time_max, listeners, cluster, on_pass } = parts;
        let shared = Arc::new(Shared::new(limits, idle_time_max));
        shared.use_codecs(Arc::new(node.topic_codecs().clone()));
        let told = shared.clone();
        let disk = disk(Arc::new(move |done: Done| told.mailbox.put(Arrival::Disk(done))))?;
        let admission = Arc::new(Admission::new(limits.connections_max));
        // Not the file's: what clients have set counts before it.
        let broker = node.broker_config();
        admission.allow(broker.max_connections, broker.max_connections_per_ip);
        let doors = Arc::new(Doors::new(shared.clone(), admission.clone()));
        let wrap: Wrap<S> = Arc::new(wrap);
        let (peers, door) = cluster.map(|cluster| Peers::new(cluster, wrap.clone(), &shared)).unzip();
        let node = NodeLoop::new(node, clock, disk, shared.clone(), admission, peers, on_pass);
        Ok(Server { node, shared, doors, listeners, door, wrap })
    }

    /// Where to ask for the counters while the server runs.
    pub fn metrics(&self) -> Metrics {
        Metrics { shared: self.shared.clone() }
    }

    /// Serves until `stop` resolves, and then stops in order: accepts nobody any more, lets the node finish and the
    /// answers leave.
    ///
    /// # Errors
    /// Where the node cannot go on without risking data.
    pub async fn run(self, stop: impl Future) -> Result<(), Fatal> {
        let Server { node, shared, doors, listeners, door, wrap } = self;
        let accepting: Vec<JoinHandle<()>> = (0..)
            .map(ListenerId)
            .zip(listeners)
            .map(|(id, listener)| {
                let wrap = wrap.clone();
                tokio::spawn(doors.clone().accept(listener, id, move |stream, peer| wrap(stream, peer)))
            })
            .collect();
        let peers = door.map(|door| tokio::spawn(door.accept()));
        // Its own task, so that its turn comes after that of the connections that woke it.
        let mut node = tokio::spawn(node.run());
        let mut stop = pin!(stop);
        let ended = tokio::select! {
            biased;
            ended = &mut node => Some(ended),
            _ = &mut stop => None,
        };
        for listener in accepting {
            listener.abort();
        }
        let ended = match ended {
            Some(ended) => ended,
            None => {
                shared.mailbox.put(Arrival::Stop);
                node.await
            }
        };
        // Until here peers are heard: without them a broker could not stop in order.
        if let Some(peers) = peers {
            peers.abort();
        }
        match ended {
            Ok(Ok(())) => {
                let drained = tokio::time::timeout(DRAIN_TIME_MAX, doors.admission.is_empty()).await;
                if drained.is_err() {
                    info!(connections = doors.admission.count(), "stopped before these had taken their last answers");
                }
                Ok(())
            }
            Ok(Err(fatal)) => Err(fatal),
            Err(error) => Err(Fatal(format!("the node's task ended by itself: {error}"))),
        }
    }
}

fn node_options(folder: &DataDir, options: &Options, listeners: Vec<(Str, Str, u16)>, limits: Limits) -> NodeOptions {
    let Identity { cluster_id, node_id, directory_id, .. } = folder.identity();
    let path = folder.path().canonicalize().unwrap_or_else(|_| folder.path().to_owned());
    NodeOptions {
        node_id,
        directory_id,
        cluster_id: cluster_id.map_or(Str::EMPTY, |id| Str::from(id.to_string())),
        data_dir: Str::from(path.display().to_string()),
        listeners,
        broker: options.kafka.clone(),
        limits,
        journal: Geometry::default(),
        direct_from: match options.durability {
            Durability::Sync => node::DIRECT_FROM,
            Durability::Os => u64::MAX,
        },
        cluster: None,
    }
}

/// What the node is told of its cluster, with the port that was bound.
fn cluster_options(cluster: &ClusterOptions, listener: &TcpListener) -> Result<node::ClusterOptions, StartError> {
    let ClusterOptions { raft_addr, raft_advertised: Address { host, port }, peers, bootstrap } = cluster;
    let bound = listener.local_addr().map_err(|error| StartError::Bind(raft_addr.clone(), error))?.port();
    let port = if *port == 0 { bound } else { *port };
    let peer = |(node, Address { host, port }): (&NodeId, &Address)| (*node, (Str::from(host.as_str()), *port));
    let (raft_address, peers) = ((Str::from(host.as_str()), port), peers.iter().map(peer).collect());
    Ok(node::ClusterOptions { raft_address, peers, bootstrap: *bootstrap })
}

fn clustered(listener: TcpListener, folder: &DataDir, entropy: [u8; 32]) -> Clustered {
    let mut file = folder.identity_file();
    Clustered {
        listener,
        jitter: Rng::from_seed(entropy).keyed(JITTER, 0).u64(),
        prepare: peers::notice_silence,
        on_cluster_known: Box::new(move |id| file.learn_cluster(id).map_err(|unusable| unusable.to_string())),
    }
}

/// Refuses a folder whose journal is gone, or empty. The core would take it for that of a first start, which was
/// interrupted: it cannot know of another one where nothing else is there yet.
fn check_journal(path: &Path, identity: &IdentityFile) -> Result<(), StartError> {
    if !identity.has_journal() {
        return Ok(());
    }
    let mut first = Vec::new();
    match File::open(path.join(FileName::Journal(0).to_string())) {
        Ok(file) => file.take(BLOCK_BYTES).read_to_end(&mut first).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| StartError::Folder(path.to_owned(), error))?;
    // It begins with the first commit of the node, or with one of a later lap.
    if first.iter().all(|&byte| byte == 0) {
        return Err(StartError::NoJournal(path.to_owned()));
    }
    Ok(())
}

/// Makes a node of what the folder holds. Blocks.
fn recover(
    path: &Path,
    durability: Durability,
    options: NodeOptions,
    entropy: [u8; 32],
    clock: Clock,
) -> Result<(Arc<dyn Files>, Node, Report), StartError> {
    let journal = match durability {
        Durability::Sync => JournalWrites::Direct,
        Durability::Os => JournalWrites::Buffered,
    };
    let files = DataFolder::open(path, options.limits.open_files, journal)
        .map_err(|error| StartError::Folder(path.to_owned(), error))?;
    let (node, report) = Node::recover(options, &files, entropy, clock.now())
        .map_err(|error| StartError::Recovery(path.to_owned(), error))?;
    Ok((Arc::new(files), node, report))
}

/// Asks a running server for its counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
}

impl Metrics {
    /// The counters as Prometheus text; empty once the server has stopped.
    pub async fn scrape(&self) -> String {
        let (reply, text) = oneshot::channel();
        self.shared.mailbox.put(Arrival::Scrape(reply));
        text.await.unwrap_or_default()
    }

    /// Whether clients may rely on this broker, which one of a cluster is only while it is registered and not fenced;
    /// `false` once the server has stopped. That there is an answer proves that the node's loop turns.
    pub async fn is_ready(&self) -> bool {
        let (reply, is_ready) = oneshot::channel();
        self.shared.mailbox.put(Arrival::AskReady(reply));
        is_ready.await.unwrap_or_default()
    }
}

/// The limits, with what the operator has a say in, and as many descriptors as the process may open. The broker of a cluster
/// leaves some for its peers.
fn limits(broker: &BrokerConfig, descriptors: Option<u64>, is_clustered: bool) -> Limits {
    let limits = Limits::default();
    let descriptors = descriptors.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let open_files = limits.open_files.min(descriptors / 4 / DESCRIPTORS_PER_FILE);
    let left = descriptors.saturating_sub(open_files * DESCRIPTORS_PER_FILE + OTHER_DESCRIPTORS);
    let connections = left.saturating_sub(if is_clustered { peers::connections_max(left) } else { 0 }).max(1);
    Limits {
        connections_max: limits.connections_max.min(connections),
        request_bytes_max: broker.socket_request_max_bytes as usize,
        open_files,
        ..limits
    }
}

async fn bind(address: &Address) -> Result<TcpListener, StartError> {
    TcpListener::bind((address.host.as_str(), address.port))
        .await
        .map_err(|error| StartError::Bind(address.clone(), error))
}

/// The one line of a start.
fn tell(
    options: &Options,
    folder: &DataDir,
    listeners: &[TcpListener],
    advertised: &[(Str, Str, u16)],
    report: &Report,
    took: Duration,
) {
    for note in &report.notes {
        warn!("{note}");
    }
    let addresses: Vec<String> = listeners
        .iter()
        .zip(advertised)
        .zip(&options.listeners)
        .map(|((bound, (name, host, port)), listener)| {
            let bound = bound.local_addr().map_or_else(|_| listener.bind.to_string(), |bound| bound.to_string());
            format!("{name} {bound} advertised as {}", Address { host: host.to_string(), port: *port })
        })
        .collect();
    if let Some(cluster) = &options.cluster {
        let ClusterOptions { raft_addr, raft_advertised, peers, .. } = cluster;
        let peers: Vec<String> = peers.iter().map(|(node, address)| format!("{node}@{address}")).collect();
        info!(%raft_addr, advertised = %raft_advertised, peers = peers.join(","), "listening for other nodes");
    }
    info!(
        listening = addresses.join(", "),
        data_dir = %folder.path().display(),
        node = options.node_id.0,
        topics = report.topics,
        partitions = report.partitions,
        records_replayed = report.records,
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "serving"
    );
}

#[cfg(test)]
mod tests;
