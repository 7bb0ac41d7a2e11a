//! One client's connection to a broker: requests become bytes, bytes become the answers to them, in order.
//!
//! ```text
//! closed ──open──► connecting ──Connected──► greeting ──ApiVersions answered──► open
//!    ▲                 │ Refused, timeout        │ Lost, timeout                  │ Lost, timeout, a broken answer
//!    └─────────────────┴─────────────────────────┴────────────────────────────────┘
//! ```
//!
//! Answers come in the order of the requests, each with the correlation id of its request; whatever else comes, or
//! cannot be read to its last byte, is recorded as [`What::Broken`] and ends the connection. How a client goes on when a
//! connection is gone is its own affair; when it dials again is decided here, later with every failure in a row.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use chronik_core::rng::Rng;
use chronik_core::time::Instant;
use chronik_core::wire::api_versions::ApiVersionsRequest;
use chronik_core::wire::{
    ApiKey, ErrorCode, Request, RequestHeader, Response, Str, Writer, decode_response, encode_request,
};

use super::{ClientNow, Happened, Link, Wanted};
use crate::history::What;

/// A larger answer than this is none: no request of these clients asks for so much, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// From this length on a request leaves in the pieces that it is made of, so that its batches are not copied, in bytes.
const PIECES_FROM: usize = 32 << 10;

/// The wait before a connection is tried again, after the first failure ...
const REDIAL_MS_MIN: u64 = 50;
/// ... and after many.
const REDIAL_MS_MAX: u64 = 1_000;

/// One connection at a time, with what was asked on it. `T` is what the client remembers of a request.
pub(super) struct Wire<T> {
    client_id: Str,
    node: u32,
    timeout: Duration,
    greeting_version: i16,
    jitter: Rng,
    stream: u64,
    state: State,
    /// The connection there is, or the last one.
    link: Link,
    /// The number of the next connection, and by how much they rise: each of a client's wires has numbers of its own.
    links: u32,
    stride: u32,
    failures: u32,
    redial_at: Instant,
    pending: VecDeque<Pending<T>>,
    correlation_id: i32,
    arrived: BytesMut,
    writer: Writer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Connecting(Instant),
    Greeting,
    Open,
}

/// A request without an answer.
struct Pending<T> {
    /// `None` for the greeting.
    asked: Option<T>,
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    at: Instant,
    /// How long it is waited for.
    timeout: Duration,
}

/// What came of a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Got<T> {
    /// Requests may be sent.
    Opened,
    /// An answer.
    Answer {
        /// What was asked.
        asked: T,
        /// When.
        at: Instant,
        /// The answer.
        response: Response,
    },
    /// The connection is gone, and these were not answered.
    Lost(Vec<T>),
}

impl<T> Wire<T> {
    /// A client that gives up what is not answered within `timeout`. Its jitter is drawn from `jitter` under `stream`.
    pub(super) fn new(client_id: Str, timeout: Duration, jitter: Rng, stream: u64) -> Wire<T> {
        Wire {
            client_id,
            node: 1,
            timeout,
            greeting_version: i16::try_from(stream % 5).expect("below five"),
            jitter,
            stream,
            state: State::Closed,
            link: Link(0),
            links: 0,
            stride: 1,
            failures: 0,
            redial_at: Instant(0),
            pending: VecDeque::new(),
            correlation_id: 0,
            arrived: BytesMut::new(),
            writer: Writer::new(),
        }
    }

    /// One of a client's wires, to the broker `node` of so many.
    pub(super) fn to(self, node: u32, nodes: u32) -> Wire<T> {
        Wire { node, link: Link(node - 1), links: node - 1, stride: nodes, ..self }
    }

    /// Whether requests may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// How many requests have no answer.
    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Has a connection made if there is none and it is time to, and tells whether requests may be sent.
    pub(super) fn open(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        if self.state == State::Closed && self.redial_at <= now.instant {
            self.link = Link(self.links);
            self.links += self.stride;
            self.state = State::Connecting(now.instant);
            wanted.push(Wanted::Connect(self.link, self.node));
        }
        self.is_open()
    }

    /// When to step next for the connection's sake: it is to be dialled, or what is under way takes too long.
    /// `wants_open` says whether the client wants one at all.
    pub(super) fn wake(&self, wants_open: bool) -> Option<Instant> {
        match self.state {
            State::Closed => wants_open.then_some(self.redial_at),
            State::Connecting(since) => Some(since + self.timeout),
            State::Greeting | State::Open => self.pending.front().map(|oldest| oldest.at + oldest.timeout),
        }
    }

    /// Sends a request. One that is not to be answered is forgotten at once.
    pub(super) fn send(
        &mut self,
        now: ClientNow,
        request: &Request,
        version: i16,
        asked: Option<T>,
        wanted: &mut Vec<Wanted>,
    ) {
        assert!(self.state == State::Open, "requests are sent on an open connection");
        self.put(now, request, version, asked.map(Some), wanted);
    }

    /// The newest request is waited for so long, and not as long as others.
    pub(super) fn wait_for(&mut self, timeout: Duration) {
        if let Some(newest) = self.pending.back_mut() {
            newest.timeout = timeout;
        }
    }

    fn put(
        &mut self,
        now: ClientNow,
        request: &Request,
        version: i16,
        asked: Option<Option<T>>,
        wanted: &mut Vec<Wanted>,
    ) {
        let api_key = request.api_key();
        let correlation_id = self.correlation_id;
        self.correlation_id = correlation_id.wrapping_add(1);
        let client_id = Some(self.client_id.clone());
        let header = RequestHeader { api_key: api_key.code(), api_version: version, correlation_id, client_id };
        encode_request(&header, request, &mut self.writer);
        let frame = self.writer.finish();
        if frame.len() < PIECES_FROM {
            wanted.push(Wanted::Send(self.link, frame.to_bytes()));
        } else {
            wanted.extend(frame.into_chunks().into_iter().map(|piece| Wanted::Send(self.link, piece)));
        }
        if let Some(asked) = asked {
            let timeout = self.timeout;
            self.pending.push_back(Pending { asked, api_key, version, correlation_id, at: now.instant, timeout });
        }
    }

    /// Takes what happened, where it concerns the connection, and gives up what takes too long.
    pub(super) fn take(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>, got: &mut Vec<Got<T>>) {
        match happened {
            Happened::Connected(link) if link == self.link && matches!(self.state, State::Connecting(_)) => {
                wanted.push(Wanted::Record(None, What::Connected));
                self.state = State::Greeting;
                let request = ApiVersionsRequest {
                    client_software_name: "chronik-sim".into(),
                    client_software_version: "1".into(),
                };
                self.put(now, &request.into(), self.greeting_version, Some(None), wanted);
            }
            Happened::Refused(link) if link == self.link && matches!(self.state, State::Connecting(_)) => {
                self.fail(now);
                got.push(Got::Lost(Vec::new()));
            }
            Happened::Received(link, bytes) if link == self.link && self.is_connected() => {
                if let Err(what) = self.receive(bytes, got) {
                    wanted.push(Wanted::Record(None, What::Broken { what }));
                    self.end(now, true, wanted, got);
                }
            }
            Happened::Lost(link) if link == self.link && self.state != State::Closed => {
                self.end(now, false, wanted, got);
            }
            _ => {}
        }
        if self.state != State::Closed && self.wake(false).is_some_and(|at| at <= now.instant) {
            if let Some(oldest) = self.pending.front() {
                wanted.push(Wanted::Record(None, What::GaveUp { since: oldest.at }));
            }
            self.end(now, true, wanted, got);
        }
    }

    /// Records that the broker broke the protocol and ends the connection.
    pub(super) fn broken(
        &mut self,
        now: ClientNow,
        operation: Option<u32>,
        what: String,
        wanted: &mut Vec<Wanted>,
        got: &mut Vec<Got<T>>,
    ) {
        wanted.push(Wanted::Record(operation, What::Broken { what }));
        if self.state != State::Closed {
            self.end(now, true, wanted, got);
        }
    }

    /// Ends the connection in order; nothing may be unanswered.
    pub(super) fn close(&mut self, wanted: &mut Vec<Wanted>) {
        if self.state == State::Closed {
            return;
        }
        if self.is_connected() {
            let unanswered = u32::try_from(self.pending.len()).expect("few");
            wanted.push(Wanted::Record(None, What::Disconnected { unanswered }));
        }
        wanted.push(Wanted::Close(self.link));
        self.state = State::Closed;
        self.arrived.clear();
        self.pending.clear();
    }

    fn is_connected(&self) -> bool {
        matches!(self.state, State::Greeting | State::Open)
    }

    fn end(&mut self, now: ClientNow, closes: bool, wanted: &mut Vec<Wanted>, got: &mut Vec<Got<T>>) {
        if closes {
            wanted.push(Wanted::Close(self.link));
        }
        if self.is_connected() {
            let unanswered = u32::try_from(self.pending.len()).expect("few");
            wanted.push(Wanted::Record(None, What::Disconnected { unanswered }));
        }
        let unanswered = self.pending.drain(..).filter_map(|pending| pending.asked).collect();
        self.arrived.clear();
        self.fail(now);
        got.push(Got::Lost(unanswered));
    }

    fn fail(&mut self, now: ClientNow) {
        self.state = State::Closed;
        let wait = (REDIAL_MS_MIN << self.failures.min(5)).min(REDIAL_MS_MAX);
        self.failures += 1;
        // A jitter of half, drawn by connection: clients that lost the broker together do not come back together.
        let jitter = self.jitter.keyed(self.stream, u64::from(self.link.0)).below(wait / 2 + 1);
        self.redial_at = now.instant + Duration::from_millis(wait + jitter);
    }

    fn receive(&mut self, bytes: Bytes, got: &mut Vec<Got<T>>) -> Result<(), String> {
        if !self.arrived.is_empty() {
            self.arrived.extend_from_slice(&bytes);
            while let Some(size) = frame_size(&self.arrived)? {
                if self.arrived.len() < 4 + size {
                    return Ok(());
                }
                self.arrived.advance(4);
                let frame = self.arrived.split_to(size).freeze();
                self.answer(frame, got)?;
            }
            return Ok(());
        }
        let mut rest = bytes;
        while let Some(size) = frame_size(&rest)? {
            if rest.len() < 4 + size {
                break;
            }
            rest.advance(4);
            let frame = rest.split_to(size);
            self.answer(frame, got)?;
        }
        self.arrived.extend_from_slice(&rest);
        Ok(())
    }

    fn answer(&mut self, frame: Bytes, got: &mut Vec<Got<T>>) -> Result<(), String> {
        let Some(pending) = self.pending.pop_front() else {
            return Err(format!("an answer of {} bytes that nobody asked for", frame.len()));
        };
        let Pending { asked, api_key, version, correlation_id, at, timeout } = pending;
        let decoded = decode_response(api_key, version, frame);
        let (id, response) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                // What is cut off with the connection had no answer either.
                self.pending.push_front(Pending { asked, api_key, version, correlation_id, at, timeout });
                return Err(format!("the answer to {api_key}, version {version}, cannot be read: {error}"));
            }
        };
        if id != correlation_id {
            self.pending.push_front(Pending { asked, api_key, version, correlation_id, at, timeout });
            return Err(format!("the answer to request {correlation_id} ({api_key}) says that it is the one to {id}"));
        }
        match (asked, response) {
            (Some(asked), response) => got.push(Got::Answer { asked, at, response }),
            (None, Response::ApiVersions(versions)) => {
                if versions.error_code != ErrorCode::None.code() {
                    return Err(format!("ApiVersions is answered with error {}", versions.error_code));
                }
                let served = |&api: &ApiKey| {
                    versions.api_keys.iter().any(|known| {
                        known.api_key == api.code()
                            && (known.min_version..=known.max_version).contains(api.versions().end())
                    })
                };
                if let Some(api) = ApiKey::ALL.iter().find(|api| !served(api)) {
                    return Err(format!("ApiVersions does not name {api}, version {}", api.versions().end()));
                }
                self.state = State::Open;
                self.failures = 0;
                got.push(Got::Opened);
            }
            (None, other) => unreachable!("the greeting is decoded as such, not as {}", other.api_key()),
        }
        Ok(())
    }
}

/// The size that a frame begins with, once it is there.
fn frame_size(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(size) = bytes.first_chunk::<4>() else { return Ok(None) };
    let size = i32::from_be_bytes(*size);
    match usize::try_from(size) {
        Ok(bytes) if bytes <= ANSWER_BYTES_MAX => Ok(Some(bytes)),
        _ => Err(format!("an answer announces {size} bytes")),
    }
}

/// The one timer that a client keeps: the engine forgets none that was asked for, so the same is not asked for twice.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    set_for: Option<Instant>,
    /// When it was last set for the very moment, and how often at that moment.
    at_once: (Instant, u32),
}

/// Who is stepped so often at one moment waits for something that a step does not bring, and time does not pass meanwhile.
const AT_ONCE_MAX: u32 = 10_000;

impl Alarm {
    /// A step has begun: a timer that is due has gone off.
    pub(super) fn pass(&mut self, now: ClientNow) {
        if self.set_for.is_some_and(|at| at <= now.instant) {
            self.set_for = None;
        }
    }

    /// Wants to be stepped at `at`, or before.
    pub(super) fn set(&mut self, now: ClientNow, at: Option<Instant>, wanted: &mut Vec<Wanted>) {
        let Some(at) = at.map(|at| at.max(now.instant)) else { return };
        if self.set_for.is_none_or(|set_for| at < set_for) {
            self.set_for = Some(at);
            if at == now.instant {
                self.at_once = (at, if self.at_once.0 == at { self.at_once.1 + 1 } else { 0 });
                assert!(self.at_once.1 < AT_ONCE_MAX, "a client wants to be stepped at {at:?} again and again");
            }
            wanted.push(Wanted::WakeAt(at));
        }
    }
}

/// So many milliseconds from the start of the run.
pub(super) fn at_ms(ms: u64) -> Instant {
    Instant(0) + Duration::from_millis(ms)
}
