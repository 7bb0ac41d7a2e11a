//! The writing side: connections that keep a number of Produce requests in flight, several to a thread.
//!
//! On a machine where the broker shares the processors every microsecond spent here is taken from it. So a request is
//! a patched head and a shared tail, all that is due on a connection leaves in one write, and all answers that have
//! arrived are taken by one read. Answers come in the order of requests, so what is in flight is a queue.
//!
//! Deliberately absent: retries, leader changes, batching by time. A refused request is counted, and its place in
//! flight is taken by the next.

use crate::board::Board;
use crate::clock::{Clock, Pace, Window};
use crate::cluster::ANSWER_WITHIN;
use crate::failure::Failure;
use crate::measured::{Acked, Measured};
use crate::socket::{Inbox, Poll};
use crate::wire::{Acknowledged, Api, CommitTemplate, Malformed, ProduceTemplate, read_commit};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Room for answers, of about 60 bytes each.
const INBOX_BYTES: usize = 64 << 10;
/// Large requests that leave in one system call at most, of two slices each: far more than a socket takes.
const WRITE_REQUESTS_MAX: usize = 8;
/// How often a thread looks up from waiting.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);

/// What all writing threads of a run have in common.
pub(crate) struct WritePlan<'a> {
    pub(crate) clock: Clock,
    pub(crate) window: Window,
    /// With acks=0 nothing is answered: a request is over when the socket has taken it.
    pub(crate) is_answered: bool,
    /// Put the send time into each batch.
    pub(crate) is_stamped: bool,
    /// Bytes of values in a batch.
    pub(crate) batch_value_bytes: u64,
    pub(crate) partitions: usize,
    pub(crate) topic: &'a str,
    pub(crate) board: &'a Board,
}

/// What one thread, or all of them, wrote.
pub(crate) struct Written {
    pub(crate) measured: Measured,
    /// By partition, or by the account of a lane.
    pub(crate) acked: Vec<Acked>,
    /// Records sent in the whole run.
    pub(crate) sent: u64,
    /// Records that were due before the end and never sent, since earlier ones were unanswered.
    pub(crate) overdue: u64,
}

impl Written {
    pub(crate) fn nothing(window: Window, partitions: usize) -> Written {
        Written { measured: Measured::new(window), acked: vec![Acked::NOTHING; partitions], sent: 0, overdue: 0 }
    }

    pub(crate) fn merge(&mut self, other: Written) {
        self.measured.merge(other.measured);
        for (ours, theirs) in self.acked.iter_mut().zip(other.acked) {
            ours.merge(theirs);
        }
        self.sent += other.sent;
        self.overdue += other.overdue;
    }
}

/// What a connection sends, again and again.
#[derive(Clone)]
pub(crate) enum Template {
    Produce(Arc<ProduceTemplate>),
    /// A commit counts as a record, and its offset is its correlation id.
    Commit(Arc<CommitTemplate>),
}

impl Template {
    fn api(&self) -> Api {
        match self {
            Template::Produce(_) => Api::Produce,
            Template::Commit(_) => Api::OffsetCommit,
        }
    }

    fn records(&self) -> u32 {
        match self {
            Template::Produce(template) => template.records,
            Template::Commit(_) => 1,
        }
    }

    fn head_length(&self) -> usize {
        match self {
            Template::Produce(template) => template.head_length(),
            Template::Commit(template) => template.head_length(),
        }
    }

    fn tail(&self) -> &[u8] {
        match self {
            Template::Produce(template) => template.tail(),
            Template::Commit(_) => &[],
        }
    }

    fn push_head(&self, heads: &mut Vec<u8>, correlation: i32, partition: i32, stamp: Option<u64>) {
        match self {
            Template::Produce(template) => template.push_head(heads, correlation, partition, stamp),
            Template::Commit(template) => template.push_head(heads, correlation, partition),
        }
    }

    fn read(&self, frame: &[u8]) -> Result<Acknowledged, Malformed> {
        match self {
            Template::Produce(template) => Acknowledged::read(template.version, frame),
            Template::Commit(template) => {
                let (correlation, partition, code) = read_commit(template.version, frame)?;
                Ok(Acknowledged { correlation, partition, code, base_offset: i64::from(correlation) })
            }
        }
    }
}

/// One connection.
pub(crate) struct Lane {
    stream: TcpStream,
    address: String,
    template: Template,
    partitions: Vec<i32>,
    /// Where its acknowledgements are counted, if not with those of their partitions.
    account: Option<usize>,
    /// Which of `partitions` is next.
    turn: usize,
    /// Requests that may be in flight.
    slots: usize,
    correlation: i32,
    /// Heads of requests that have not left entirely, one after another, from `heads_from` on.
    heads: Vec<u8>,
    heads_from: usize,
    /// Bytes of the first of them that have left.
    written: usize,
    in_flight: VecDeque<InFlight>,
    inbox: Inbox,
}

struct InFlight {
    due: u64,
    partition: i32,
}

impl Lane {
    /// `slots` is the number of requests that may be in flight, at least 1. Acknowledgements are counted by partition, or
    /// with an `account` under that number.
    pub(crate) fn new(
        stream: TcpStream,
        address: String,
        template: Template,
        partitions: Vec<i32>,
        account: Option<usize>,
        slots: usize,
    ) -> Result<Lane, Failure> {
        assert!(slots > 0 && !partitions.is_empty(), "a lane has something to do");
        stream
            .set_nonblocking(true)
            .map_err(|why| Failure::Local { what: format!("cannot use the socket to {address}"), why })?;
        Ok(Lane {
            stream,
            address,
            template,
            partitions,
            account,
            turn: 0,
            slots,
            correlation: 0,
            heads: Vec::new(),
            heads_from: 0,
            written: 0,
            in_flight: VecDeque::with_capacity(slots),
            inbox: Inbox::new(INBOX_BYTES),
        })
    }

    /// Makes a request that was due at `due`; it leaves with the next `flush`.
    fn begin(&mut self, due: u64, is_stamped: bool) {
        let partition = self.partitions[self.turn];
        self.turn = (self.turn + 1) % self.partitions.len();
        self.correlation = self.correlation.wrapping_add(1);
        self.template.push_head(&mut self.heads, self.correlation, partition, is_stamped.then_some(due));
        self.in_flight.push_back(InFlight { due, partition });
    }

    /// Writes as much as the socket takes. Gives the number of requests that have left entirely.
    fn flush(&mut self) -> Result<usize, Failure> {
        let head_length = self.template.head_length();
        let tail = self.template.tail();
        let request_length = head_length + tail.len();
        let mut left = 0;
        while self.heads_from < self.heads.len() {
            let outcome = if tail.is_empty() {
                self.stream.write(&self.heads[self.heads_from + self.written..])
            } else {
                let mut slices = [IoSlice::new(&[]); 2 * WRITE_REQUESTS_MAX];
                let mut used = 0;
                for head in self.heads[self.heads_from..].chunks_exact(head_length).take(WRITE_REQUESTS_MAX) {
                    // Only the first can be partly gone.
                    let gone = if used == 0 { self.written } else { 0 };
                    slices[used] = IoSlice::new(&head[gone.min(head_length)..]);
                    slices[used + 1] = IoSlice::new(&tail[gone.saturating_sub(head_length)..]);
                    used += 2;
                }
                self.stream.write_vectored(&slices[..used])
            };
            match outcome {
                Ok(written) => {
                    self.written += written;
                    let whole = self.written / request_length;
                    self.written %= request_length;
                    self.heads_from += whole * head_length;
                    left += whole;
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(self.closed(Some(why))),
            }
        }
        if self.heads_from == self.heads.len() {
            self.heads.clear();
            self.heads_from = 0;
        } else if self.heads_from > self.heads.len() / 2 {
            self.heads.drain(..self.heads_from);
            self.heads_from = 0;
        }
        Ok(left)
    }

    fn closed(&self, why: Option<io::Error>) -> Failure {
        Failure::Closed { address: self.address.clone(), unanswered: self.in_flight.len(), why }
    }
}

/// Loads `lanes` from one thread until the window ends, then waits for what is in flight.
pub(crate) fn write(lanes: Vec<Lane>, pace: Pace, plan: &WritePlan<'_>) -> Result<Written, Failure> {
    let mut writer = Writer::new(lanes, pace, plan)?;
    let outcome = writer.run();
    if outcome.is_err() {
        plan.board.fail();
    }
    outcome.map(|()| writer.written)
}

struct Writer<'a> {
    plan: &'a WritePlan<'a>,
    pace: Pace,
    lanes: Vec<Lane>,
    /// One entry per request that may be begun, naming its lane; in turn, so that an open schedule spreads.
    free: VecDeque<usize>,
    /// Lanes with requests begun and not yet flushed.
    begun: Vec<usize>,
    in_flight: usize,
    /// Requests begun so far, and those that are over.
    requests: u64,
    finished: u64,
    written: Written,
}

impl<'a> Writer<'a> {
    fn new(lanes: Vec<Lane>, pace: Pace, plan: &'a WritePlan<'a>) -> Result<Writer<'a>, Failure> {
        let most = lanes.iter().map(|lane| lane.slots).max().unwrap_or(0);
        let free = (0..most)
            .flat_map(|slot| lanes.iter().enumerate().filter(move |(_, lane)| lane.slots > slot))
            .map(|(index, _)| index)
            .collect();
        let written = Written::nothing(plan.window, plan.partitions);
        Ok(Writer { plan, pace, lanes, free, begun: Vec::new(), in_flight: 0, requests: 0, finished: 0, written })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut poll = Poll::new()?;
        for (index, lane) in self.lanes.iter().enumerate() {
            poll.add(&lane.stream, index)?;
        }
        let until = self.plan.window.until;
        let mut heard = (self.finished, self.plan.clock.now());
        loop {
            let now = self.plan.clock.now();
            self.begin_due(now)?;
            if self.finished != heard.0 || self.in_flight == 0 {
                self.plan.board.add_records((self.finished - heard.0) * u64::from(self.batch_records()));
                heard = (self.finished, now);
            } else if now - heard.1 > ANSWER_WITHIN.as_nanos() as u64 {
                let lane = self.lanes.iter().find(|lane| !lane.in_flight.is_empty()).expect("some are in flight");
                let (address, unanswered) = (lane.address.clone(), self.in_flight);
                return Err(Failure::Silent { address, unanswered, waited: ANSWER_WITHIN });
            }
            if (now >= until && self.in_flight == 0) || self.plan.board.has_failed() {
                break;
            }
            poll.wait(self.until_next(now))?;
            let mut index = 0;
            while let Some(ready) = poll.ready(index) {
                index += 1;
                if ready.writable {
                    self.flush(ready.token)?;
                }
                if ready.readable {
                    self.take_answers(ready.token)?;
                }
            }
        }
        if let Pace::Open { start, interval_ns } = self.pace {
            let due = (until.saturating_sub(start) as f64 / interval_ns) as u64;
            self.written.overdue = due.saturating_sub(self.requests) * u64::from(self.batch_records());
        }
        self.written.sent = self.requests * u64::from(self.batch_records());
        Ok(())
    }

    fn batch_records(&self) -> u32 {
        self.lanes.first().map_or(0, |lane| lane.template.records())
    }

    /// How long nothing is to be done unless a socket reports itself.
    fn until_next(&self, now: u64) -> Duration {
        if now >= self.plan.window.until {
            return LOOK_UP_EVERY;
        }
        let mut next = self.plan.window.until;
        if !self.free.is_empty() {
            next = next.min(self.pace.due(self.requests, now));
        }
        Duration::from_nanos(next.saturating_sub(now)).min(LOOK_UP_EVERY)
    }

    /// Begins every request that is due and has a place in flight, and sends them off.
    fn begin_due(&mut self, now: u64) -> Result<(), Failure> {
        if now >= self.plan.window.until {
            return Ok(());
        }
        while let Some(&index) = self.free.front() {
            let due = self.pace.due(self.requests, now);
            if due > now {
                break;
            }
            self.free.pop_front();
            if self.begun.last() != Some(&index) {
                self.begun.push(index);
            }
            self.lanes[index].begin(due, self.plan.is_stamped);
            self.requests += 1;
            self.in_flight += 1;
        }
        let mut begun = std::mem::take(&mut self.begun);
        for index in begun.drain(..) {
            self.flush(index)?;
        }
        self.begun = begun;
        Ok(())
    }

    fn flush(&mut self, index: usize) -> Result<(), Failure> {
        let left = self.lanes[index].flush()?;
        if left > 0 && !self.plan.is_answered {
            let now = self.plan.clock.now();
            for _ in 0..left {
                let sent = self.lanes[index].in_flight.pop_front().expect("what left was in flight");
                self.finish(index, &sent, now);
            }
        }
        Ok(())
    }

    /// Takes all answers that have arrived on a lane; requests that follow from them leave at once.
    fn take_answers(&mut self, index: usize) -> Result<(), Failure> {
        loop {
            let lane = &mut self.lanes[index];
            let may_have_more = match lane.inbox.fill(&mut lane.stream) {
                Ok(Some(more)) => more,
                Ok(None) => return Err(lane.closed(None)),
                Err(why) => return Err(lane.closed(Some(why))),
            };
            let now = self.plan.clock.now();
            while let Some(answer) = self.next_answer(index)? {
                let lane = &mut self.lanes[index];
                // With acks=0 a broker must not answer; one that does is not what it says.
                let Some(sent) = lane.in_flight.pop_front() else {
                    return Err(
                        self.unreadable(index, Malformed::OutOfOrder { expected: 0, found: answer.correlation })
                    );
                };
                if answer.partition != sent.partition {
                    let why = Malformed::WrongPartition { expected: sent.partition, found: answer.partition };
                    return Err(self.unreadable(index, why));
                }
                if !answer.code.is_error() {
                    let records = lane.template.records();
                    let account = lane.account.unwrap_or(sent.partition as usize);
                    self.written.acked[account].add(answer.base_offset, records);
                    self.finish(index, &sent, now);
                } else if answer.code.is_passing() {
                    self.written.measured.declined(answer.code);
                    self.release(index);
                } else {
                    let subject = format!("{}-{}", self.plan.topic, sent.partition);
                    let api = lane.template.api();
                    return Err(Failure::Refused { api, subject, code: answer.code, message: None });
                }
            }
            self.begin_due(now)?;
            if !may_have_more {
                return Ok(());
            }
        }
    }

    fn next_answer(&mut self, index: usize) -> Result<Option<Acknowledged>, Failure> {
        let lane = &mut self.lanes[index];
        let mut read = || {
            let Some(frame) = lane.inbox.next_frame()? else { return Ok(None) };
            let answer = lane.template.read(lane.inbox.frame(frame))?;
            let expected = lane.correlation.wrapping_sub(lane.in_flight.len() as i32).wrapping_add(1);
            if answer.correlation != expected {
                return Err(Malformed::OutOfOrder { expected, found: answer.correlation });
            }
            Ok(Some(answer))
        };
        read().map_err(|why| self.unreadable(index, why))
    }

    fn unreadable(&self, index: usize, why: Malformed) -> Failure {
        Failure::Unreadable { address: self.lanes[index].address.clone(), why }
    }

    fn finish(&mut self, index: usize, sent: &InFlight, now: u64) {
        let records = u64::from(self.lanes[index].template.records());
        self.written.measured.answered(sent.due, now, records, self.plan.batch_value_bytes);
        self.release(index);
    }

    fn release(&mut self, index: usize) {
        self.in_flight -= 1;
        self.finished += 1;
        self.free.push_back(index);
    }
}
