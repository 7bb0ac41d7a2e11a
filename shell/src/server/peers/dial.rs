//! The connections that this broker dials, one to each peer: dialled again for as long as the peer is one.
//!
//! An attempt that fails is followed by a pause that doubles from [`PAUSE_MIN`] to [`PAUSE_MAX`], of which a random half
//! is left out, so that nodes that lost each other do not meet in step. A peer that connects to this broker is there: the
//! pause ends. It begins anew with a connection that stood for longer than the longest of them, not with a shorter one:
//! a peer that greets and hangs up, as one of another mind may do for ever, would be dialled ten times a second. What that
//! costs one that is back after a long time and soon lost again is one long pause. How long the pause is belongs to the
//! peer, not to the address where it is looked for: one that may be at two of them is looked for at each in turn.
//!
//! A name may have several addresses, of which some answer nothing. Each gets a part of an attempt's time, and the next
//! attempt begins with the next of them.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use chronik_core::boundary::{Neighbour, Neighbours, PeerInput};
use chronik_core::ids::NodeId;
use chronik_core::peer::{Dialler, Ended, HELLO_BYTES_MAX, Message};
use chronik_core::rng::Rng;
use chronik_core::wire::Writer;
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::{debug, info, warn};

use super::outgoing::{Closing, Outgoing};
use super::{GREETING_TIME_MAX, PeerArrival, Road};
use crate::server::connection::{Output, Shared};
use crate::server::mailbox::Arrival;
use crate::server::stream::ByteStream;

/// The first pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest. Short against the time after which a broker that is not heard of is fenced (9 s by default).
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How long a peer's name may take to be resolved.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// How long one address may take to answer: the core may have the peer looked for elsewhere after 3 s.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// How many of the addresses of a peer's name one attempt tries.
const ADDRESSES_AT_ONCE: usize = 3;

/// How long a peer may leave what is said unread, counted from the last byte that it took. Heartbeats are said every two
/// seconds, so that this notices one that has vanished.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// One peer, dialled for ever: to be spawned as a task, and to be aborted.
pub(super) struct Dialling<S> {
    pub(super) to: NodeId,
    pub(super) neighbour: Neighbour,
    pub(super) neighbours: watch::Receiver<Option<Arc<Neighbours>>>,
    pub(super) shared: Arc<Shared>,
    pub(super) road: Road<S>,
    pub(super) random: Rng,
    pub(super) attempts: Arc<Attempts>,
}

/// What attempts to reach a peer have in common, wherever it is looked for.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The peer has shown that it is there.
    pub(super) is_there: Notify,
    course: Mutex<Course>,
}

#[derive(Debug)]
struct Course {
    /// The next pause.
    pause: Duration,
    /// Whether it was said that the peer cannot be reached: once, until it has been.
    is_warned: bool,
    /// How many attempts were made.
    made: usize,
}

impl Default for Course {
    fn default() -> Course {
        Course { pause: PAUSE_MIN, is_warned: false, made: 0 }
    }
}

impl Attempts {
    /// The number of the attempt that begins.
    fn begin(&self) -> usize {
        let mut course = self.lock();
        course.made += 1;
        course.made - 1
    }

    /// The pause after an attempt. The next one is longer.
    fn pause(&self) -> Duration {
        let mut course = self.lock();
        let pause = course.pause;
        course.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }

    /// The next pause is the shortest.
    pub(super) fn renew(&self) {
        self.lock().pause = PAUSE_MIN;
    }

    /// The peer is warned of from now on. Returns whether it was.
    fn warn(&self) -> bool {
        std::mem::replace(&mut self.lock().is_warned, true)
    }

    fn reached(&self) {
        self.lock().is_warned = false;
    }

    /// Nobody panics with it.
    fn lock(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to the first of these addresses that takes it, each within `patience`. Where none does: that it did not answer,
/// if one did not, or that nobody listens, if that is said of one.
async fn connect_first<T, F: Future<Output = io::Result<T>>>(
    addresses: impl Iterator<Item = SocketAddr>,
    patience: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, End> {
    let mut failed = End::NotConnected(io::Error::new(io::ErrorKind::NotFound, "its name has no address"));
    for address in addresses {
        match timeout(patience, connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) if matches!(failed, End::Slow) || failed.is_refused() => {}
            Ok(Err(error)) => failed = End::NotConnected(error),
            Err(_) => failed = End::Slow,
        }
    }
    Err(failed)
}

/// Lets a pause pass, or less where it is ended.
async fn rest(pause: Duration, ends: &Notify) {
    tokio::select! { biased;
        () = ends.notified() => {}
        () = sleep(pause) => {}
    }
}

/// Why a connection is none, or none any more.
#[derive(Debug)]
enum End {
    /// Nobody said in time where the peer's name is.
    NotResolved,
    /// It could not be made.
    NotConnected(io::Error),
    /// It took too long to make it.
    Slow,
    /// The peer did not introduce itself in time.
    NotGreeted,
    /// The peer closed it.
    Closed,
    /// Whoever listens there closed it, and did not introduce itself.
    ClosedUngreeted,
    /// The network failed.
    Failed(io::Error),
    /// One of the two will not talk, or does not talk as it should.
    Ended(Ended),
    /// What was said was not read.
    Unread,
    /// More was waiting than may.
    Flooded,
    /// Its process is no more.
    Orphaned,
    /// All has been said.
    Finished,
}

impl End {
    /// Whether nobody listens there.
    fn is_refused(&self) -> bool {
        matches!(self, End::NotConnected(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::NotResolved => write!(f, "its name was not resolved within {} s", LOOKUP_TIME_MAX.as_secs()),
            End::NotConnected(error) | End::Failed(error) => error.fmt(f),
            End::Slow => write!(f, "it did not answer for {} s", CONNECT_TIME_MAX.as_secs()),
            End::NotGreeted => write!(f, "it did not introduce itself for {} s", GREETING_TIME_MAX.as_secs()),
            End::Closed => f.write_str("it closed the connection"),
            End::ClosedUngreeted => f.write_str(
                "it closed the connection without a word; is that where the node listens for others (--raft-addr)?",
            ),
            End::Ended(ended) => ended.fmt(f),
            End::Unread => write!(f, "it read nothing for {} s", WRITE_TIME_MAX.as_secs()),
            End::Flooded => f.write_str("it left more unread than may wait"),
            End::Orphaned => f.write_str("another process of it has connected"),
            End::Finished => f.write_str("the broker stops"),
        }
    }
}

impl<S: ByteStream> Dialling<S> {
    /// Dials until all has been said.
    pub(super) async fn run(mut self) {
        let address = format!("{}:{}", self.neighbour.host, self.neighbour.port);
        let node = self.to.0;
        loop {
            let mut stood_since = None;
            let end = self.attempt(&mut stood_since).await;
            match stood_since {
                Some(_) if matches!(end, End::Finished) => {
                    debug!(node, address, "connection to a peer ended: {end}");
                    return;
                }
                Some(since) => {
                    info!(node, address, "connection to a peer lost: {end}");
                    if Instant::now() - since > PAUSE_MAX {
                        self.attempts.renew();
                    }
                }
                None if self.attempts.warn() => debug!(node, address, "a peer cannot be reached: {end}"),
                None => {
                    // Once, until it has been reached: nodes of a cluster are started one after another.
                    warn!(node, address, "a peer cannot be reached, trying on: {end}");
                }
            }
            let pause = self.attempts.pause();
            rest(self.jittered(pause), &self.attempts.is_there).await;
        }
    }

    /// Half of a pause, and a random part of the other half.
    fn jittered(&mut self, pause: Duration) -> Duration {
        let half = u64::try_from(pause.as_micros() / 2).expect("pauses are short");
        Duration::from_micros(half + self.random.below(half))
    }

    /// One connection, from its start to its end; `stood_since` is set once the peer has introduced itself.
    async fn attempt(&self, stood_since: &mut Option<Instant>) -> End {
        let (stream, is_all) = self.connect().await;
        let stream = match stream {
            Ok(stream) => stream,
            Err(end) => {
                // Where an address has not been tried, it may be listening there.
                if end.is_refused() && is_all {
                    self.shared.mailbox.put(PeerArrival::Absent(self.to).into());
                }
                return end;
            }
        };
        let begun = stream.peer_addr().and_then(|address| Ok((self.road.begin(stream, address)?, address)));
        let (mut stream, address) = match begun {
            Ok(begun) => begun,
            Err(error) => return End::NotConnected(error),
        };
        let (dialler, outgoing) = match timeout(GREETING_TIME_MAX, self.greet(&mut stream)).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(end)) => {
                if let End::Ended(ended) = &end
                    && let Some(refused) = ended.refused()
                {
                    self.shared.mailbox.put(PeerArrival::Refused(self.to, refused.clone()).into());
                }
                return end;
            }
            Err(_) => return End::NotGreeted,
        };
        info!(node = self.to.0, %address, "connected to a peer");
        *stood_since = Some(Instant::now());
        self.attempts.reached();
        self.shared.mailbox.put(PeerArrival::Connected(outgoing.clone()).into());
        let now = Instant::now();
        let shared = self.shared.clone();
        let mut output = Output::default();
        output.extend(dialler.begun(&mut Writer::new()));
        Speaking { stream, dialler, outgoing, shared, output, last_write: now, timer: None }.await
    }

    /// Connects to one of the addresses that the peer's name has now, and tells whether all of them were tried.
    async fn connect(&self) -> (Result<TcpStream, End>, bool) {
        let Neighbour { host, port, .. } = &self.neighbour;
        let found: Vec<SocketAddr> = match timeout(LOOKUP_TIME_MAX, lookup_host((&**host, *port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return (Err(End::NotConnected(error)), true),
            Err(_) => return (Err(End::NotResolved), true),
        };
        let first = self.attempts.begin() % found.len().max(1);
        let tried = found.len().min(ADDRESSES_AT_ONCE);
        let addresses = found.iter().copied().cycle().skip(first).take(tried);
        (connect_first(addresses, CONNECT_TIME_MAX, TcpStream::connect).await, tried == found.len())
    }

    /// Introduces this broker, and hears whom it has reached.
    async fn greet(&self, stream: &mut S) -> Result<(Dialler, Arc<Outgoing>), End> {
        let known = self.neighbours.borrow().clone().expect("nobody is dialled before it is said who is a neighbour");
        let directory_id = known.peers.get(&self.to).and_then(|neighbour| neighbour.directory_id);
        let mut dialler = Dialler::new(known.me.clone(), self.to, directory_id);
        let mut output = Output::default();
        output.extend(dialler.hello(&mut Writer::new()));
        output.send(stream).await.map_err(End::Failed)?;
        let mut buffer = [0; HELLO_BYTES_MAX];
        loop {
            let count = stream.read(&mut buffer).await.map_err(End::Failed)?;
            if count == 0 {
                return Err(End::ClosedUngreeted);
            }
            if let Some(PeerInput::Connected(peer)) = dialler.receive(&buffer[..count]).map_err(End::Ended)? {
                return Ok((dialler, Arc::new(Outgoing::new(peer))));
            }
        }
    }
}

/// A connection that stands. Resolves with its end.
///
/// As a client's, it is one future polled by hand: whoever wakes it, the socket or the node, it writes all that the node
/// has said since with as few calls as that takes.
struct Speaking<S> {
    stream: S,
    dialler: Dialler,
    outgoing: Arc<Outgoing>,
    shared: Arc<Shared>,
    output: Output,
    /// When a byte was last written, or began to wait.
    last_write: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Buffers that a connection needs while it is polled, one set for each thread.
#[derive(Default)]
struct Scratch {
    writer: Writer,
    messages: Vec<Message>,
    pieces: Vec<Bytes>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<S: ByteStream> Speaking<S> {
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<End> {
        let now = Instant::now();
        let closing = self.outgoing.take(cx, &mut scratch.messages);
        match closing {
            Some(Closing::Flooded) => return Poll::Ready(End::Flooded),
            Some(Closing::Orphaned) => return Poll::Ready(End::Orphaned),
            Some(Closing::AfterAll) | None => {}
        }
        if self.output.is_empty() {
            self.last_write = now;
        }
        for message in scratch.messages.drain(..) {
            self.dialler.say(message, &mut scratch.writer, &mut scratch.pieces);
        }
        self.output.extend(scratch.pieces.drain(..));
        match self.output.poll_send(&mut self.stream, cx) {
            Ok(0) => {}
            Ok(_) => self.last_write = now,
            Err(error) => return Poll::Ready(End::Failed(error)),
        }
        self.outgoing.settle(self.output.len());
        if self.output.is_sent() && closing.is_some() {
            return Poll::Ready(End::Finished);
        }
        if let Poll::Ready(end) = self.poll_listen(cx) {
            return Poll::Ready(end);
        }
        self.watch(cx, now)
    }

    /// Nothing ever comes back; that the peer has left does.
    fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut bytes = [0; 16];
        let mut buffer = ReadBuf::new(&mut bytes);
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
            Err(error) => End::Failed(error),
            Ok(()) => match self.dialler.receive(buffer.filled()) {
                Ok(_) => End::Closed,
                Err(ended) => End::Ended(ended),
            },
        })
    }

    /// Ends the connection where the peer reads nothing for too long, and else sees to it that it will be woken then.
    fn watch(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<End> {
        if self.output.is_empty() {
            return Poll::Pending;
        }
        let deadline = self.last_write + WRITE_TIME_MAX;
        if deadline <= now {
            return Poll::Ready(End::Unread);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().reset(deadline);
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(End::Unread)
    }
}

impl<S: ByteStream> Future for Speaking<S> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let speaking = self.get_mut();
        SCRATCH.with_borrow_mut(|scratch| speaking.turn(cx, scratch))
    }
}

impl<S> Drop for Speaking<S> {
    fn drop(&mut self) {
        self.shared.mailbox.put(Arrival::from(PeerArrival::Disconnected(self.outgoing.clone())));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn an_address_that_answers_nothing_does_not_keep_from_the_next() {
        async fn check(reach: &[Option<Result<u8, io::ErrorKind>>], expect: Result<u8, &str>) {
            let addresses = (0..reach.len()).map(|at| SocketAddr::from(([127, 0, 0, 1], at as u16)));
            let connect = async |address: SocketAddr| match reach[usize::from(address.port())] {
                None => std::future::pending().await,
                Some(reached) => reached.map_err(io::Error::from),
            };
            let reached = connect_first(addresses, Duration::from_millis(1), connect).await;
            let told = reached.map_err(|end| end.to_string());
            assert_eq!(told.as_ref().map(|at| *at).map_err(String::as_str), expect, "{reach:?}");
        }
        const REFUSED: Option<Result<u8, io::ErrorKind>> = Some(Err(io::ErrorKind::ConnectionRefused));
        const NO_WAY: Option<Result<u8, io::ErrorKind>> = Some(Err(io::ErrorKind::NetworkUnreachable));
        check(&[None, Some(Ok(2)), Some(Ok(3))], Ok(2)).await;
        check(&[REFUSED, None, NO_WAY, Some(Ok(4))], Ok(4)).await;
        // It may be there, where one of its addresses answers nothing.
        check(&[REFUSED, None, REFUSED], Err("it did not answer for 2 s")).await;
        check(&[NO_WAY, REFUSED, NO_WAY], Err("connection refused")).await;
        check(&[], Err("its name has no address")).await;
    }

    #[test]
    fn pauses_grow_and_a_peer_is_warned_of_once_until_it_is_reached() {
        let attempts = Attempts::default();
        let pauses: Vec<u128> = (0..7).map(|_| attempts.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3000, 3000]);
        attempts.renew();
        assert_eq!(attempts.pause(), PAUSE_MIN);
        assert_eq!([attempts.warn(), attempts.warn()], [false, true]);
        attempts.reached();
        assert!(!attempts.warn());
    }

    #[tokio::test]
    async fn a_pause_ends_when_the_peer_shows_that_it_is_there() {
        let is_there = Notify::new();
        // Before there is a pause, it says nothing of what comes then.
        is_there.notify_waiters();
        let mut pause = pin!(rest(Duration::from_secs(3600), &is_there));
        assert!(pause.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        is_there.notify_waiters();
        pause.await;
    }
}
