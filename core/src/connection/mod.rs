//! One client connection: bytes in, requests out; responses in, bytes out. No socket, no clock.
//!
//! ```text
//!             receive                        respond                  encode
//!  bytes ───► frames ───► Request ──► node ──► Response, any order ──► bytes, in the order of the requests
//! ```
//!
//! A connection does the work per byte: it cuts frames, decodes them, verifies the batches of produce requests and
//! compresses them as their topics want, so that the node has none of it to do. Connections share nothing and may be driven in parallel.
//!
//! It is open until a request comes that cannot be served. What cannot be answered ends it at once
//! ([`Connection::receive`] fails); after an answered refusal it takes no more and is over when that answer has been
//! encoded ([`Connection::is_over`]).
//!
//! | state | receive | respond, encode |
//! |---|---|---|
//! | open | requests | answers |
//! | refusing: a version that we do not speak, or a refused request that wants no answer | drops all bytes | answers up to the refusal |
//! | over: the refusal is encoded, or `receive` failed | the driver closes the stream | |
//!
//! # Answers that outgrow their requests
//! Sixty bytes may ask for 55 MiB of records, and a thousand such requests come with one read. So of the requests whose
//! answers may be many times as large as they, one at a time is handed over: when the answer to the one before has been
//! encoded, and less than `connection_bytes_in_flight_max` is unsent. What one connection holds in answers is so that
//! much, one answer, and small ones in proportion to their requests, however its client sends. Whatever comes behind a
//! request that is held back waits with it, in at most two reads of the driver, and goes on when the driver finds that it
//! may ([`Connection::may_go_on`]). Clients have one fetch in flight, and Kafka's brokers answer one request of a
//! connection after another: nobody relies on more.
//!
//! # Memory
//! What is in flight counts as it lies in memory: a request as its frame and the arrays that it was decoded to, which
//! are bounded by its length ([`wire::MEMORY_PER_BYTE`]).
//!
//! A request is copied out of the driver's read buffer into memory of its own size; small produce requests that arrive
//! together share theirs, up to 16 KiB. A large one is read straight into its own memory
//! ([`Connection::large_frame`]), which grows with what has arrived and not with what was announced. Batches are slices of their request; where one is less than half of it, it is copied once more, so that
//! no batch keeps more than its own size again alive when it waits in a cache.

mod frame;
mod held_back;
mod request;

use std::collections::VecDeque;
use std::fmt;

use bytes::buf::Limit;
use bytes::{Bytes, BytesMut};

use crate::batch::BatchLimits;
use crate::boundary::{self, ReplyTo, Request};
use crate::ids::{ConnId, ListenerId};
use crate::limits::Limits;
use crate::topic_codecs::TopicCodecs;
use crate::wire::{self, Response, Str, TooLong, Undecodable, Writer};

use frame::Frames;
use held_back::HeldBack;
use request::Outcome;

/// How many requests may wait for their answers. Clients have at most a handful in flight, load generators some
/// hundreds; each costs about half a kilobyte here and in the node.
const REQUESTS_IN_FLIGHT_MAX: usize = 1000;

/// Room for so many requests is kept when none is in flight, so that thousands of connections that were busy once do
/// not keep what they needed then.
const PENDING_KEPT: usize = 256;

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    conn: ConnId,
    listener: ListenerId,
    /// Where the client connects from.
    host: Str,
    frames: Frames,
    /// Requests without an encoded answer, oldest first; the first has the sequence number `oldest`.
    pending: VecDeque<Pending>,
    oldest: u64,
    /// Whether one of `pending` has an answer that may outgrow it.
    awaits_outgrowing: bool,
    held_back: Option<HeldBack>,
    /// The bytes of `pending`, with what it was decoded to.
    bytes_in_flight: usize,
    bytes_in_flight_max: usize,
    batch_limits: BatchLimits,
    refused: Option<CloseReason>,
    /// The bytes encoded so far, in all.
    encoded: u64,
    /// The answers that the node is to be told of when they have been sent: their requests' sequence numbers, and after
    /// how many bytes they end.
    told_when_sent: VecDeque<(u64, u64)>,
}

/// A request that waits for its answer, or for that of an earlier one.
#[derive(Debug)]
struct Pending {
    correlation_id: i32,
    version: i16,
    bytes: usize,
    is_outgrowing: bool,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Awaited,
    Ready(Response),
    /// The client wants none, as with acks=0.
    Omitted,
}

/// Why a connection must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A request's announced size is below zero or above the limit in bytes.
    RequestSize {
        /// The announced size, in bytes.
        bytes: i32,
        /// The largest that is taken now, in bytes.
        max: usize,
    },
    /// A request cannot be read.
    Undecodable(Undecodable),
    /// A request is in a version that is not spoken; it has been answered with an error.
    UnsupportedVersion {
        /// The API.
        api_key: wire::ApiKey,
        /// The version asked for.
        api_version: i16,
    },
    /// A produce request without an answer names too many partitions.
    PartitionsOfProduce {
        /// How many.
        partitions: usize,
    },
    /// An answer has 2 GiB or more, which no frame may have.
    AnswerTooLong {
        /// The API.
        api_key: wire::ApiKey,
        /// The answer's length, in bytes.
        bytes: usize,
    },
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What a browser or a TLS client sends first reads as a size: say so, it is the usual mistake.
            CloseReason::RequestSize { bytes, .. } if frame::is_http(*bytes) => {
                f.write_str("this looks like HTTP, not like the Kafka protocol")
            }
            CloseReason::RequestSize { bytes, .. } if frame::is_tls(*bytes) => {
                f.write_str("this looks like TLS, but the listener is plaintext")
            }
            CloseReason::RequestSize { bytes, max } => {
                write!(f, "a request of {bytes} bytes was announced, at most {max} are taken")
            }
            CloseReason::Undecodable(why) => why.fmt(f),
            CloseReason::UnsupportedVersion { api_key, api_version } => {
                write!(f, "version {api_version} of {api_key} is not supported")
            }
            CloseReason::PartitionsOfProduce { partitions } => {
                let max = request::PRODUCED_PARTITIONS_MAX;
                write!(f, "a produce request with acks=0 names {partitions} partitions, at most {max} are taken")
            }
            CloseReason::AnswerTooLong { api_key, bytes } => {
                write!(f, "an answer to {api_key} would have {bytes} bytes; ask for less at once")
            }
        }
    }
}

impl std::error::Error for CloseReason {}

impl Connection {
    /// A connection that came in by `listener` from `host`, an address as Kafka tells it: with a slash before it.
    pub fn new(conn: ConnId, listener: ListenerId, host: Str, limits: &Limits) -> Connection {
        Connection {
            conn,
            listener,
            host,
            frames: Frames::new(limits.request_bytes_max, limits.request_bytes_max_before_handshake),
            pending: VecDeque::new(),
            oldest: 0,
            awaits_outgrowing: false,
            held_back: None,
            bytes_in_flight: 0,
            bytes_in_flight_max: limits.connection_bytes_in_flight_max,
            batch_limits: BatchLimits {
                batch_bytes_max: limits.request_bytes_max,
                // What could be sent plainly may be sent compressed, and nothing larger.
                decompressed_bytes_max: limits.request_bytes_max,
            },
            refused: None,
            encoded: 0,
            told_when_sent: VecDeque::new(),
        }
    }

    /// Takes bytes as the stream delivered them, and pushes the requests that they complete and that are not held back.
    /// `bytes` are empty where they went to [`Connection::large_frame`], or where there are none and it
    /// [may go on](Connection::may_go_on). `unsent` are the bytes of encoded answers that the stream has not taken.
    /// Batches are compressed as `codecs` say, which are to be those in force when the bytes were read.
    ///
    /// # Errors
    /// Where the connection must be closed at once. What was pushed before counts.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        unsent: usize,
        codecs: &TopicCodecs,
        accepted: &mut Vec<(ReplyTo, Request)>,
    ) -> Result<(), CloseReason> {
        let Some(mut held_back) = self.held_back.take() else {
            let mut rest = bytes;
            let next = self.take_frames(&mut rest, unsent, codecs, accepted)?;
            self.held_back = next.map(|frame| HeldBack::new(frame, rest));
            return Ok(());
        };
        held_back.add(bytes);
        if !self.has_room_to_outgrow(unsent) {
            self.held_back = Some(held_back);
            return Ok(());
        }
        self.take(std::mem::take(&mut held_back.frame), codecs, accepted)?;
        let mut rest = held_back.behind();
        if let Some(frame) = self.take_frames(&mut rest, unsent, codecs, accepted)? {
            let left = rest.len();
            held_back.advance(frame, left);
            self.held_back = Some(held_back);
        }
        Ok(())
    }

    /// Takes whole frames off `bytes` up to one that must wait, which is returned.
    fn take_frames(
        &mut self,
        bytes: &mut &[u8],
        unsent: usize,
        codecs: &TopicCodecs,
        accepted: &mut Vec<(ReplyTo, Request)>,
    ) -> Result<Option<Bytes>, CloseReason> {
        while self.refused.is_none() {
            let Some(frame) = self.frames.next(bytes)? else { break };
            if request::may_be_outgrown(&frame) && !self.has_room_to_outgrow(unsent) {
                return Ok(Some(frame));
            }
            self.take(frame, codecs, accepted)?;
        }
        Ok(None)
    }

    fn take(
        &mut self,
        frame: Bytes,
        codecs: &TopicCodecs,
        accepted: &mut Vec<(ReplyTo, Request)>,
    ) -> Result<(), CloseReason> {
        let mut bytes = frame.len();
        let is_outgrowing = request::may_be_outgrown(&frame);
        match request::read(frame, &self.host, codecs, &self.batch_limits)? {
            Outcome::Asked { correlation_id, version, request, memory } => {
                bytes += memory;
                let sequence = self.requests_taken();
                accepted.push((ReplyTo { conn: self.conn, sequence, version, listener: self.listener }, request));
                let answer = Answer::Awaited;
                self.pending.push_back(Pending { correlation_id, version, bytes, is_outgrowing, answer });
            }
            Outcome::Answered { correlation_id, version, response, close } => {
                self.refused = close;
                let answer = response.map_or(Answer::Omitted, |response| Answer::Ready(*response));
                self.pending.push_back(Pending { correlation_id, version, bytes, is_outgrowing, answer });
            }
        }
        self.frames.greeted();
        self.bytes_in_flight += bytes;
        self.awaits_outgrowing |= is_outgrowing;
        Ok(())
    }

    /// Where to read the rest of a large request to, followed by [`Connection::receive`] without bytes. `None` where
    /// no request is under way, or one that is cheaper to copy together.
    pub fn large_frame(&mut self) -> Option<Limit<&mut BytesMut>> {
        self.frames.large()
    }

    /// The size of the request of which a part has arrived, and that part, both in bytes with the four of the size
    /// itself. The size counts as 8 until enough has arrived to know it.
    pub fn under_way(&self) -> Option<(usize, usize)> {
        self.frames.under_way()
    }

    /// Takes the answer to a request, in any order; `None` where the client wants none.
    ///
    /// # Panics
    /// Where that request was answered before.
    #[inline]
    pub fn respond(&mut self, to: ReplyTo, response: Option<Response>) {
        assert_eq!(to.conn, self.conn, "the answer belongs to this connection");
        let at = to.sequence.checked_sub(self.oldest).and_then(|at| usize::try_from(at).ok());
        let pending = at.and_then(|at| self.pending.get_mut(at)).expect("the request waits for its answer");
        assert!(matches!(pending.answer, Answer::Awaited), "a request is answered once");
        pending.answer = match response {
            Some(response) => Answer::Ready(response),
            None => Answer::Omitted,
        };
    }

    /// Appends the answers that are due: those of the oldest requests, up to the first that is awaited.
    ///
    /// # Errors
    /// Where an answer is too long to be sent. The connection must be closed at once: nothing is left in `writer`.
    pub fn encode(&mut self, writer: &mut Writer) -> Result<(), CloseReason> {
        let mut encoded = 0;
        for (sequence, pending) in (self.oldest..).zip(&self.pending) {
            match &pending.answer {
                Answer::Awaited => break,
                Answer::Ready(response) => {
                    let before = writer.len();
                    let encoded = wire::encode_response(response, pending.version, pending.correlation_id, writer);
                    if let Err(TooLong { bytes }) = encoded {
                        writer.finish();
                        return Err(CloseReason::AnswerTooLong { api_key: response.api_key(), bytes });
                    }
                    self.encoded += (writer.len() - before) as u64;
                    if boundary::is_told_when_sent(response) {
                        self.told_when_sent.push_back((sequence, self.encoded));
                    }
                }
                Answer::Omitted => {}
            }
            self.bytes_in_flight -= pending.bytes;
            // There is at most one.
            self.awaits_outgrowing &= !pending.is_outgrowing;
            encoded += 1;
        }
        self.oldest += encoded as u64;
        self.pending.drain(..encoded);
        if self.pending.is_empty() && self.pending.capacity() > PENDING_KEPT {
            self.pending.shrink_to(PENDING_KEPT);
        }
        Ok(())
    }

    /// Whether [`Connection::encode`] would append anything.
    pub fn has_answers(&self) -> bool {
        self.pending.front().is_some_and(|oldest| !matches!(oldest.answer, Answer::Awaited))
    }

    /// The next answer that the stream has taken since, with `unsent` bytes of encoded answers, and that
    /// [`Input::Sent`](boundary::Input::Sent) is to tell of: the place of its request.
    pub fn next_sent(&mut self, unsent: usize) -> Option<u64> {
        let sent = self.encoded - unsent as u64;
        let &(sequence, end) = self.told_when_sent.front()?;
        if end > sent {
            return None;
        }
        self.told_when_sent.pop_front();
        Some(sequence)
    }

    /// Whether further requests may be read now. Not while as much is in flight as one connection may have, counting
    /// `unsent` bytes of encoded answers; a single request may exceed that.
    pub fn wants_read(&self, unsent: usize) -> bool {
        self.refused.is_none()
            && self.pending.len() < REQUESTS_IN_FLIGHT_MAX
            && self.bytes_in_flight() + unsent < self.bytes_in_flight_max
            && self.held_back.as_ref().is_none_or(HeldBack::wants_read)
    }

    /// Whether a request that was held back need not be any more, with `unsent` bytes of encoded answers:
    /// [`Connection::receive`] without bytes hands it over. Worth asking after answers have been encoded or sent.
    pub fn may_go_on(&self, unsent: usize) -> bool {
        self.held_back.is_some() && self.has_room_to_outgrow(unsent)
    }

    /// Whether a request may be handed over whose answer may outgrow it.
    fn has_room_to_outgrow(&self, unsent: usize) -> bool {
        !self.awaits_outgrowing
            && self.pending.len() < REQUESTS_IN_FLIGHT_MAX
            // Not what is held back: it would wait for itself.
            && self.bytes_in_flight + unsent < self.bytes_in_flight_max
    }

    /// The bytes of all requests that have no encoded answer, with what they were decoded to, and of what is held back
    /// with them.
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight + self.held_back.as_ref().map_or(0, HeldBack::bytes)
    }

    /// How many requests have been taken, answered or not. What is held back is not among them.
    pub fn requests_taken(&self) -> u64 {
        self.oldest + self.pending.len() as u64
    }

    /// How many requests have no encoded answer. What is held back counts as one.
    pub fn requests_in_flight(&self) -> usize {
        self.pending.len() + usize::from(self.held_back.is_some())
    }

    /// Why to close once everything encoded has been sent, if that is so.
    pub fn is_over(&self) -> Option<&CloseReason> {
        self.refused.as_ref().filter(|_| self.pending.is_empty())
    }
}

#[cfg(test)]
mod tests;
