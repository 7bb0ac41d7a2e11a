//! The connections that peers dial to this broker.
//!
//! The node is told of a newer connection of a peer before anything that came by it, and nothing more of an older one
//! after: which of a peer's connections is the one that counts is kept by the node's task ([`Peers`](super::Peers)), and
//! is the one that was accepted last. A peer is not read while the node has not taken what was read of it before.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chronik_core::boundary::{Neighbours, PeerInput};
use chronik_core::peer::{Acceptor, Ended, Hello};
use chronik_core::wire::Writer;
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::{Door, GREETING_TIME_MAX, PeerArrival};
use crate::server::admission::{Admission, Place};
use crate::server::connection::{Output, READ_BYTES, Shared};
use crate::server::listener::{ACCEPT_RETRY, Complaint, Refusals};
use crate::server::mailbox::Arrival;
use crate::server::stream::ByteStream;
use crate::server::timer::Timer;

/// How many connections may be open where descriptors are plenty: far more than a cluster has nodes, each of which has one
/// and may be about to have another.
const CONNECTIONS_MAX: usize = 500;

/// How many may be open in any case: enough for a cluster of five.
const CONNECTIONS_MIN: usize = 16;

/// How many connections may be open beside at most so many of clients. Where descriptors are few, both get less.
pub(in crate::server) fn connections_max(of_clients: usize) -> usize {
    (of_clients / 3).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// How much of a peer may wait for the node, in bytes. It is read on when the node has taken it; one frame may exceed
/// that.
const UNTAKEN_BYTES_MAX: usize = 8 << 20;

/// How much is read in one go, in bytes: about a millisecond of checking sums, after which others have their turn.
const TURN_BYTES_MAX: usize = 1 << 20;

/// How long a peer may take to send the rest of a frame, counted from its last byte.
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// One connection, as the node's task knows it.
#[derive(Debug, Default)]
pub(in crate::server) struct Incoming {
    /// Its place in the order in which connections were accepted.
    pub(super) number: u64,
    /// Bytes that were read and that the node has not taken.
    untaken: AtomicUsize,
    /// As whom this broker has introduced itself by it.
    answered_as: OnceLock<Hello>,
    /// Why it is to end.
    over: OnceLock<Over>,
    connection: Mutex<Option<Waker>>,
}

/// Why the node's task ends a connection.
#[derive(Clone, Copy, Debug)]
enum Over {
    Replaced,
    Outdated,
}

impl Incoming {
    /// The peer has another connection that counts.
    pub(super) fn replace(&self) {
        self.end(Over::Replaced);
    }

    /// This broker introduces itself as somebody else by now.
    pub(super) fn outdate(&self) {
        self.end(Over::Outdated);
    }

    /// Whether the peer was told of this broker as it introduces itself now.
    pub(super) fn is_answered_as(&self, me: &Hello) -> bool {
        self.answered_as.get() == Some(me)
    }

    fn end(&self, over: Over) {
        // What it ends for first is said of it.
        self.over.set(over).ok();
        self.wake();
    }

    /// The node has taken so many bytes.
    pub(super) fn took(&self, bytes: usize) {
        if self.untaken.fetch_sub(bytes, Ordering::AcqRel) >= UNTAKEN_BYTES_MAX {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(connection) = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take() {
            connection.wake();
        }
    }

    /// Whether the connection may be read, or why it is over. It is woken when that changes.
    fn may_read(&self, cx: &Context<'_>) -> Result<bool, End> {
        // Registered before looking, so that a change in between is not missed.
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        if let Some(over) = self.over.get() {
            return Err(End::Over(*over));
        }
        Ok(self.untaken.load(Ordering::Acquire) < UNTAKEN_BYTES_MAX)
    }
}

impl<S: ByteStream> Door<S> {
    /// Accepts peers until the task is dropped.
    pub(in crate::server) async fn accept(mut self) {
        // Before the node has said who it is, nobody can be answered.
        if self.neighbours.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let max = connections_max(self.shared.limits.connections_max);
        let admission = Arc::new(Admission::new(max));
        admission.allow(u32::MAX, u32::MAX);
        let mut complaint = Complaint::default();
        let mut refusals = Refusals::default();
        for number in 0.. {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                // The peer gave up while it waited: its own affair.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    complaint.make(&error);
                    sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            complaint.over();
            let Ok(place) = admission.admit(address.ip()) else {
                if let Some(refused) = refusals.due(Instant::now()) {
                    info!(%address, refused, "peers' connections refused: {max} are open");
                }
                continue;
            };
            let stream = match self.road.begin(stream, address) {
                Ok(stream) => stream,
                Err(error) => {
                    debug!(%address, %error, "a peer's connection was lost before it began");
                    continue;
                }
            };
            let incoming = Arc::new(Incoming { number, ..Incoming::default() });
            let (neighbours, shared) = (self.neighbours.clone(), self.shared.clone());
            tokio::spawn(Hearing::new(stream, address, incoming, neighbours, shared, place));
        }
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    Closed,
    Failed(io::Error),
    Ended(Ended),
    Over(Over),
    NotGreeted,
    Stalled,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("the peer closed it"),
            End::Failed(error) => error.fmt(f),
            End::Ended(ended) => ended.fmt(f),
            End::Over(Over::Replaced) => f.write_str("the peer has made a newer one"),
            End::Over(Over::Outdated) => {
                f.write_str("this broker has learned of which cluster it is, and says so anew")
            }
            End::NotGreeted => {
                let seconds = GREETING_TIME_MAX.as_secs();
                write!(f, "whoever connected did not introduce itself for {seconds} s; clients connect to --kafka-port")
            }
            End::Stalled => write!(f, "a frame stopped in its middle for {} s", FRAME_TIME_MAX.as_secs()),
        }
    }
}

/// One connection, to be spawned as a task. It ends with the connection.
struct Hearing<S> {
    stream: S,
    address: SocketAddr,
    acceptor: Acceptor,
    incoming: Arc<Incoming>,
    neighbours: watch::Receiver<Option<Arc<Neighbours>>>,
    shared: Arc<Shared>,
    /// The answer to the greeting, until it is sent.
    output: Output,
    /// Why it ends when the answer has been sent.
    end: Option<End>,
    /// Bytes that were read since the node was told of something last.
    untold: usize,
    /// When a byte was last read, or when the connection began.
    last_read: Instant,
    timer: Timer,
    _place: Place,
}

/// Buffers that a connection needs while it is polled, one set for each thread.
struct Scratch {
    read: Vec<u8>,
    writer: Writer,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch { read: vec![0; READ_BYTES], writer: Writer::new() });
}

impl<S: ByteStream> Hearing<S> {
    fn new(
        stream: S,
        address: SocketAddr,
        incoming: Arc<Incoming>,
        neighbours: watch::Receiver<Option<Arc<Neighbours>>>,
        shared: Arc<Shared>,
        place: Place,
    ) -> Hearing<S> {
        Hearing {
            stream,
            address,
            acceptor: Acceptor::new(),
            incoming,
            neighbours,
            shared,
            output: Output::default(),
            end: None,
            untold: 0,
            last_read: Instant::now(),
            timer: Timer::default(),
            _place: place,
        }
    }

    /// Does all that can be done now. Fails when the connection is over.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        let now = Instant::now();
        let mut read = 0;
        loop {
            self.output.poll_send(&mut self.stream, cx).map_err(End::Failed)?;
            if self.end.is_some() {
                if self.output.is_sent() {
                    return Err(self.end.take().expect("it is there"));
                }
                break;
            }
            if !self.incoming.may_read(cx)? {
                break;
            }
            if read >= TURN_BYTES_MAX {
                cx.waker().wake_by_ref();
                break;
            }
            let Poll::Ready(bytes) = self.poll_read(cx, scratch)? else { break };
            if bytes == 0 {
                return Err(End::Closed);
            }
            self.last_read = now;
            read += bytes;
        }
        self.watch(cx, now)
    }

    /// One read. What it tells is in the mailbox when this returns.
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<Poll<usize>, End> {
        if let Some(mut frame) = self.acceptor.large_frame() {
            let read = pin!(self.stream.read_buf(&mut frame)).poll(cx).map_err(End::Failed)?;
            let Poll::Ready(bytes) = read else { return Ok(Poll::Pending) };
            self.untold += bytes;
            self.receive(&[], &mut scratch.writer);
            return Ok(Poll::Ready(bytes));
        }
        let mut buffer = ReadBuf::new(&mut scratch.read);
        if Pin::new(&mut self.stream).poll_read(cx, &mut buffer).map_err(End::Failed)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let bytes = buffer.filled().len();
        self.untold += bytes;
        self.receive(buffer.filled(), &mut scratch.writer);
        Ok(Poll::Ready(bytes))
    }

    fn receive(&mut self, bytes: &[u8], writer: &mut Writer) {
        let neighbours = self.neighbours.borrow().clone().expect("nobody is accepted before");
        let mut heard = Vec::new();
        let ended = self.acceptor.receive(bytes, &neighbours, &mut heard).err();
        if let Some(answer) = self.acceptor.answer(writer) {
            self.output.extend(answer);
            self.incoming.answered_as.get_or_init(|| neighbours.me.clone());
        }
        self.end = ended.map(End::Ended);
        if let [PeerInput::Arrived(peer), ..] = &heard[..] {
            info!(node = peer.node_id.0, address = %self.address, "a peer has connected");
        }
        // What came before a failure was said in good faith.
        if !heard.is_empty() {
            let bytes = std::mem::take(&mut self.untold);
            self.incoming.untaken.fetch_add(bytes, Ordering::AcqRel);
            self.shared.mailbox.put(PeerArrival::Heard(self.incoming.clone(), heard, bytes).into());
        }
    }

    /// When the connection must end if nothing moves, and how it would.
    fn deadline(&self) -> Option<(Instant, End)> {
        if self.acceptor.peer().is_none() || !self.output.is_sent() {
            return Some((self.last_read + GREETING_TIME_MAX, End::NotGreeted));
        }
        self.acceptor.is_mid_frame().then(|| (self.last_read + FRAME_TIME_MAX, End::Stalled))
    }

    /// Ends the connection if its deadline has come, and else sees to it that it will be woken then.
    fn watch(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        let Some((deadline, end)) = self.deadline() else { return Ok(()) };
        if self.timer.is_over(deadline, now, cx) { Err(end) } else { Ok(()) }
    }

    fn log(&self, end: &End) {
        let address = self.address;
        match self.acceptor.peer() {
            Some(peer) => info!(node = peer.node_id.0, %address, "a peer's connection ended: {end}"),
            None => info!(%address, "a connection to --raft-addr refused: {end}"),
        }
    }
}

impl<S: ByteStream> Future for Hearing<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let hearing = self.get_mut();
        SCRATCH.with_borrow_mut(|scratch| match hearing.turn(cx, scratch) {
            Ok(()) => Poll::Pending,
            Err(end) => {
                hearing.log(&end);
                Poll::Ready(())
            }
        })
    }
}

impl<S> Drop for Hearing<S> {
    fn drop(&mut self) {
        self.shared.mailbox.put(Arrival::from(PeerArrival::Left(self.incoming.clone())));
    }
}
