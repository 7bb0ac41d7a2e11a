//! One client connection: moves bytes between a stream and the core's connection, and requests and answers between
//! that and the node.
//!
//! It is one future polled by hand, not two tasks around a split stream: whoever wakes it, the socket or the node, it
//! takes the answers that are there, writes, and reads until the socket has nothing more. So a request costs one system
//! call to read and one to write, shared with all requests that came or went together, and nobody else is woken but the
//! node, once.
//!
//! What protects the others from this client:
//! - it is not read while too much of it is in flight, or too much of all ([`budget`](super::budget));
//! - it is not read while it does not read its answers, nor is more prepared for it then, whatever it has asked for
//!   already, and it is closed when it has not for [`WRITE_TIME_MAX`];
//! - it is cut when the node wants the memory of its answers for others;
//! - it is closed when it stops in the middle of a request for [`FRAME_TIME_MAX`], when it sends a large one more slowly
//!   than [`BYTES_PER_SECOND_MIN`], or is idle for `connections.max.idle.ms`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use chronik_core::boundary::{ReplyTo, Request};
use chronik_core::connection::{CloseReason, Connection};
use chronik_core::ids::{ConnId, ListenerId};
use chronik_core::limits::Limits;
use chronik_core::topic_codecs::TopicCodecs;
use chronik_core::wire::{Frame, Str, Writer};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::time::Instant;
use tracing::{debug, info};

use super::budget::{Account, Budget};
use super::mailbox::{Answer, Arrival, Closing, Letterbox, Mailbox};
use super::stream::ByteStream;
use super::timer::Timer;

/// How much is read at once. Holds some two hundred small requests; larger ones are read into memory of their own.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// How many pieces are written with one call. The kernel takes 1024; a fetch response has two for each partition.
const WRITE_PIECES: usize = 64;

/// How long a client may take to send the rest of a request, counted from its last byte.
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// How fast a large request must come at least, beside [`FRAME_TIME_MAX`] for all of it: its place in the budget is one that
/// others wait for. As fast as unread answers must leave that the node wants the memory of.
const BYTES_PER_SECOND_MIN: u64 = 2 << 20;

/// How long a client may leave its answers unread, counted from the last byte that it took.
const WRITE_TIME_MAX: Duration = Duration::from_secs(60);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) mailbox: Mailbox,
    pub(super) budget: Budget,
    pub(super) limits: Limits,
    /// How long a connection with nothing in flight stays.
    pub(super) idle_time_max: Option<Duration>,
    codecs: Mutex<Arc<TopicCodecs>>,
}

impl Shared {
    pub(super) fn new(limits: Limits, idle_time_max: Option<Duration>) -> Shared {
        let budget = Budget::new(limits.bytes_in_flight_max, limits.request_bytes_max);
        Shared { mailbox: Mailbox::default(), budget, limits, idle_time_max, codecs: Mutex::default() }
    }

    /// What is read from now on is compressed as `codecs` say.
    pub(super) fn use_codecs(&self, codecs: Arc<TopicCodecs>) {
        *self.codecs.lock().unwrap_or_else(PoisonError::into_inner) = codecs;
    }

    /// The codecs in force. To be asked after the bytes have been read, and not kept: a connection that idles would
    /// keep an old table alive.
    fn codecs(&self) -> Arc<TopicCodecs> {
        self.codecs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One connection, to be spawned as a task. It ends with the connection.
pub(super) struct Client<S> {
    stream: S,
    peer: SocketAddr,
    connection: Connection,
    letterbox: Arc<Letterbox>,
    shared: Arc<Shared>,
    account: Account,
    /// The number of the large request that the account has room for.
    admitted: Option<u64>,
    /// When it got that room.
    admitted_at: Instant,
    output: Output,
    /// Set when the node asked to close.
    closing: Option<Closing>,
    /// When a byte was last read, or last written, or, without any, when the connection began.
    last_read: Instant,
    last_write: Instant,
    timer: Timer,
}

/// Buffers that a connection needs while it is polled, one set for each thread.
struct Scratch {
    read: Vec<u8>,
    writer: Writer,
    accepted: Vec<(ReplyTo, Request)>,
    answers: Vec<Answer>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; READ_BYTES],
        writer: Writer::new(),
        accepted: Vec::new(),
        answers: Vec::new(),
    });
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The client closed it.
    Closed,
    /// The client closed it in the middle of a request.
    ClosedInRequest,
    /// The network failed.
    Failed(io::Error),
    /// The client sent something that cannot be served.
    Refused(CloseReason),
    /// The node asked for it.
    Asked(&'static str),
    /// Nothing was in flight for too long.
    Idle,
    /// A request stopped in its middle.
    RequestStalled,
    /// A large request of so many bytes came too slowly.
    RequestSlow(usize),
    /// Answers were not read.
    AnswersUnread,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("the client closed it"),
            End::ClosedInRequest => f.write_str("the client closed it in the middle of a request"),
            End::Failed(error) => error.fmt(f),
            End::Refused(reason) => reason.fmt(f),
            End::Asked(why) => f.write_str(why),
            End::Idle => f.write_str("it was idle for connections.max.idle.ms"),
            End::RequestStalled => {
                write!(f, "a request stopped in its middle for {} s", FRAME_TIME_MAX.as_secs())
            }
            End::RequestSlow(bytes) => {
                let seconds = large_frame_time_max(*bytes).as_secs();
                write!(f, "a request of {bytes} bytes was not complete after {seconds} s")
            }
            End::AnswersUnread => write!(f, "the client read no answers for {} s", WRITE_TIME_MAX.as_secs()),
        }
    }
}

/// Encoded answers that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Whether something was written since the last flush.
    is_unflushed: bool,
}

/// How long a client may take to send a large request of so many bytes.
fn large_frame_time_max(bytes: usize) -> Duration {
    FRAME_TIME_MAX + Duration::from_millis(bytes as u64 * 1000 / BYTES_PER_SECOND_MIN)
}

/// An address as Kafka tells it of a group's member: with a slash before it, and without the short forms of IPv6.
fn host(address: IpAddr) -> Str {
    Str::from(match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let groups: Vec<String> = address.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/{}", groups.join(":"))
        }
    })
}

impl<S: ByteStream> Client<S> {
    pub(super) fn new(
        stream: S,
        peer: SocketAddr,
        conn: ConnId,
        listener: ListenerId,
        shared: Arc<Shared>,
    ) -> Client<S> {
        let letterbox = Arc::new(Letterbox::new(conn));
        shared.mailbox.put(Arrival::Opened(letterbox.clone()));
        let now = Instant::now();
        Client {
            stream,
            peer,
            connection: Connection::new(conn, listener, host(peer.ip()), &shared.limits),
            letterbox,
            shared,
            account: Account::default(),
            admitted: None,
            admitted_at: now,
            output: Output::default(),
            closing: None,
            last_read: now,
            last_write: now,
            timer: Timer::default(),
        }
    }

    /// Does all that can be done now. Fails when the connection is over.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        let now = Instant::now();
        self.take_answers(cx, scratch);
        if let Some(Closing { why, is_at_once: true }) = self.closing {
            return Err(End::Asked(why));
        }
        loop {
            // Answers first: they make room for further requests.
            self.write(cx, scratch, now)?;
            if self.output.bytes > 0 || self.account.is_overdrawn() {
                // Answers that were added may leave no room for further requests; those that were written may have been
                // all that stood in their way, and then nothing else comes that would have them taken.
                self.settle();
            }
            let read = self.read(cx, scratch, now);
            // What came before a failure was asked in good faith.
            self.shared.mailbox.put_requests(&mut scratch.accepted);
            read?;
            // Some requests need no node: their answers are there at once.
            if !self.connection.has_answers() {
                break;
            }
        }
        self.settle();
        if self.output.is_sent() {
            if let Some(reason) = self.connection.is_over() {
                return Err(End::Refused(reason.clone()));
            }
            if let Some(Closing { why, .. }) = self.closing {
                return Err(End::Asked(why));
            }
        }
        self.watch(cx, now)
    }

    fn take_answers(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) {
        self.closing = self.letterbox.take(cx, &mut scratch.answers);
        for (to, response) in scratch.answers.drain(..) {
            self.connection.respond(to, response);
        }
    }

    /// Encodes what is due and writes until the socket takes no more.
    fn write(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, now: Instant) -> Result<(), End> {
        self.connection.encode(&mut scratch.writer).map_err(End::Refused)?;
        if !scratch.writer.is_empty() {
            if self.output.bytes == 0 {
                self.last_write = now;
            }
            self.output.push(scratch.writer.finish());
        }
        match self.output.poll_send(&mut self.stream, cx) {
            Ok(0) => {}
            Ok(_) => self.last_write = now,
            Err(error) => return Err(End::Failed(error)),
        }
        while let Some(sequence) = self.connection.next_sent(self.output.bytes) {
            self.shared.mailbox.put(Arrival::Sent(self.letterbox.conn, sequence));
        }
        Ok(())
    }

    /// Takes what was held back, and reads until the socket has nothing more, or the connection may not be read.
    fn read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, now: Instant) -> Result<(), End> {
        let mut has_room = false;
        while self.closing.is_none() {
            let may_go_on = self.connection.may_go_on(self.output.bytes);
            if !may_go_on && !self.connection.wants_read(self.output.bytes) {
                return Ok(());
            }
            if self.poll_room(cx, &mut has_room, now).is_pending() {
                return Ok(());
            }
            if may_go_on {
                self.receive(&[], &mut scratch.accepted)?;
                continue;
            }
            let Poll::Ready(bytes) = self.poll_read(cx, scratch)? else { return Ok(()) };
            if bytes == 0 {
                return Err(if self.connection.under_way().is_some() { End::ClosedInRequest } else { End::Closed });
            }
            self.last_read = now;
            has_room &= bytes < READ_BYTES;
        }
        Ok(())
    }

    /// Ready once the budget has room for what may be read next. Between small requests it has if `has_room`.
    fn poll_room(&mut self, cx: &mut Context<'_>, has_room: &mut bool, now: Instant) -> Poll<()> {
        match self.connection.under_way() {
            Some((whole, _)) if whole > READ_BYTES && !self.is_admitted() => {
                ready!(self.account.poll_large(&self.shared.budget, whole, cx));
                self.admitted = Some(self.connection.requests_taken());
                self.admitted_at = now;
            }
            Some(_) => {}
            None if *has_room => {}
            None => {
                ready!(self.account.poll_read(&self.shared.budget, cx));
                *has_room = true;
            }
        }
        Poll::Ready(())
    }

    fn is_admitted(&self) -> bool {
        self.admitted == Some(self.connection.requests_taken())
    }

    /// One read. The bytes are with the connection when this returns.
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<Poll<usize>, End> {
        if let Some(mut frame) = self.connection.large_frame() {
            let read = pin!(self.stream.read_buf(&mut frame)).poll(cx).map_err(End::Failed)?;
            let Poll::Ready(bytes) = read else { return Ok(Poll::Pending) };
            self.receive(&[], &mut scratch.accepted)?;
            return Ok(Poll::Ready(bytes));
        }
        let mut buffer = ReadBuf::new(&mut scratch.read);
        if Pin::new(&mut self.stream).poll_read(cx, &mut buffer).map_err(End::Failed)?.is_pending() {
            return Ok(Poll::Pending);
        }
        self.receive(buffer.filled(), &mut scratch.accepted)?;
        Ok(Poll::Ready(buffer.filled().len()))
    }

    fn receive(&mut self, bytes: &[u8], accepted: &mut Vec<(ReplyTo, Request)>) -> Result<(), End> {
        let codecs = self.shared.codecs();
        self.connection.receive(bytes, self.output.bytes, &codecs, accepted).map_err(End::Refused)
    }

    /// Charges the budget with what is held now.
    fn settle(&mut self) {
        let partly = match self.connection.under_way() {
            Some((whole, _)) if whole <= READ_BYTES || self.is_admitted() => whole,
            Some((_, arrived)) => arrived,
            None => 0,
        };
        self.account.settle(&self.shared.budget, self.connection.bytes_in_flight() + partly, self.output.bytes);
    }

    /// When the connection must end if nothing moves, and how it would.
    fn deadline(&self) -> Option<(Instant, End)> {
        let ends = [self.deadline_of_bytes(), self.deadline_of_large_frame()];
        ends.into_iter().flatten().min_by_key(|&(at, _)| at)
    }

    /// When a large request must be complete that has its place in the budget. From there on nothing but unread answers
    /// keeps it from being read, and those are the client's to read: were they to lengthen the time, it could keep that
    /// place by reading a little of them now and then.
    fn deadline_of_large_frame(&self) -> Option<(Instant, End)> {
        let (whole, _) = self.connection.under_way().filter(|_| self.is_admitted())?;
        Some((self.admitted_at + large_frame_time_max(whole), End::RequestSlow(whole)))
    }

    /// When the connection must end if no byte moves, and how it would.
    fn deadline_of_bytes(&self) -> Option<(Instant, End)> {
        if self.output.bytes > 0 {
            return Some((self.last_write + WRITE_TIME_MAX, End::AnswersUnread));
        }
        if !self.connection.wants_read(0) {
            return None;
        }
        match self.connection.under_way() {
            // It is we who keep it waiting while its size is not admitted.
            Some((whole, _)) if whole > READ_BYTES && !self.is_admitted() => None,
            Some(_) => Some((self.last_read + FRAME_TIME_MAX, End::RequestStalled)),
            None if self.connection.requests_in_flight() > 0 => None,
            None => {
                let last = self.last_read.max(self.last_write);
                self.shared.idle_time_max.map(|time| (last + time, End::Idle))
            }
        }
    }

    /// Ends the connection if its deadline has come, and else sees to it that it will be woken then.
    fn watch(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        let Some((deadline, end)) = self.deadline() else { return Ok(()) };
        if self.timer.is_over(deadline, now, cx) { Err(end) } else { Ok(()) }
    }

    fn log(&self, end: &End) {
        let (conn, peer) = (self.letterbox.conn.0, self.peer);
        match end {
            End::Closed | End::Idle => debug!(conn, %peer, "connection ended: {end}"),
            End::ClosedInRequest | End::Failed(_) => debug!(conn, %peer, "connection lost: {end}"),
            _ => info!(conn, %peer, "connection closed: {end}"),
        }
    }
}

impl<S: ByteStream> Future for Client<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let client = self.get_mut();
        SCRATCH.with_borrow_mut(|scratch| match client.turn(cx, scratch) {
            Ok(()) => Poll::Pending,
            Err(end) => {
                client.log(&end);
                Poll::Ready(())
            }
        })
    }
}

impl<S> Drop for Client<S> {
    fn drop(&mut self) {
        self.shared.mailbox.put(Arrival::Closed(self.letterbox.conn));
    }
}

impl Output {
    pub(super) fn is_sent(&self) -> bool {
        self.bytes == 0 && !self.is_unflushed
    }

    /// Bytes that are not written.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Whether all is written.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.pieces.extend(frame.into_chunks());
    }

    /// Resolves when all is sent.
    pub(super) async fn send(&mut self, stream: &mut impl ByteStream) -> io::Result<()> {
        poll_fn(|cx| match self.poll_send(stream, cx) {
            Ok(_) if self.is_sent() => Poll::Ready(Ok(())),
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }

    /// Writes until nothing is left or the stream takes no more, and returns how many bytes it took.
    pub(super) fn poll_send(&mut self, stream: &mut impl ByteStream, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut sent = 0;
        while self.bytes > 0 {
            let poll = if let [only] = self.pieces.as_slices().0
                && self.pieces.len() == 1
            {
                Pin::new(&mut *stream).poll_write(cx, only)
            } else {
                let mut slices = [IoSlice::new(&[]); WRITE_PIECES];
                let count =
                    slices.iter_mut().zip(&self.pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
                Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count])
            };
            match poll {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    self.advance(bytes);
                    sent += bytes;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        self.is_unflushed |= sent > 0;
        if self.is_unflushed {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(flushed) => {
                    flushed?;
                    self.is_unflushed = false;
                }
            }
        }
        Ok(sent)
    }

    fn advance(&mut self, mut bytes: usize) {
        self.bytes -= bytes;
        while let Some(piece) = self.pieces.front_mut() {
            if bytes < piece.len() {
                piece.advance(bytes);
                return;
            }
            bytes -= piece.len();
            self.pieces.pop_front();
        }
    }
}

impl Extend<Bytes> for Output {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, pieces: T) {
        self.pieces.extend(pieces.into_iter().inspect(|piece| self.bytes += piece.len()));
    }
}

#[cfg(test)]
mod tests;
