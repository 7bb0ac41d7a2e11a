//! Fetch: batches out, from memory where the tail has them, from segments where not, or later when there are any.
//!
//! A request is `Waiting` for bytes (parked with a deadline, credited as high watermarks advance), `Queued` for its turn
//! to read from disk, `Reading`, or answered. Waiting → Queued, Reading or answered: enough bytes, an error, or the
//! deadline. Queued → Reading or answered: an earlier one has read. Reading → answered: all reads are done. Its connection
//! closing ends it in any state; what it reads then still counts until the disk is done with it.
//!
//! What is read for a request lies in memory until all of it is there. So a connection reads for one request at a time,
//! and all connections together read no more than [`Limits`](crate::limits::Limits) allow; whoever asks first is first
//! served.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use super::session::{Asked, SessionRef, Watch};
use super::{Node, Reason};
use crate::boundary::{DiskError, DiskOp, Effect, Level, Outbox, Refused, ReplyTo};
use crate::ids::{ConnId, Offset, TopicId, TopicPartition};
use crate::log::{Read, ReadOutcome, Sought};
use crate::time::{Instant, Now};
use crate::wait::FetchId;
use crate::wire::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::wire::{ErrorCode, Records, Response, Str};

/// One request has so many partitions read from disk; the others get their turn with the next one. Without it a client
/// that asks for a byte of each of a million would have a chunk of each read.
const READS_MAX: usize = 256;

/// Places of sessions that have ended are taken apart so many in a step, at about 0.1 µs each.
const UNWATCHED_AT_ONCE: usize = 500;

/// So many fetches are answered in the step that brings what they wait for; were it thousands, all others would wait.
const SERVED_AT_ONCE: usize = 32;

/// A topic as a produce or fetch request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Below version 13.
    Name(Str),
    /// From version 13 on (KIP-516), where there are no names: a zero id names no topic.
    Id(TopicId),
}

impl Topic {
    /// From this version on produce and fetch requests name topics by id.
    const IDS_FROM: i16 = 13;

    /// Takes of the two what counts in `version`.
    pub(super) fn named(version: i16, name: &Str, id: TopicId) -> Topic {
        if version < Topic::IDS_FROM { Topic::Name(name.clone()) } else { Topic::Id(id) }
    }

    pub(super) fn is_by_id(&self) -> bool {
        matches!(self, Topic::Id(_))
    }

    /// The name and the id as an answer repeats them, empty or zero where the request has none.
    fn into_answer(self) -> (Str, TopicId) {
        match self {
            Topic::Name(name) => (name, TopicId::ZERO),
            Topic::Id(id) => (Str::default(), id),
        }
    }
}

/// One partition of a fetch request.
#[derive(Clone, Debug)]
pub(super) struct FetchPart {
    pub(super) topic: Topic,
    pub(super) index: i32,
    offset: Offset,
    max_bytes: usize,
    epoch: i32,
}

impl FetchPart {
    /// The same, with nothing of the request that it came in: a session outlives it, and must not keep its memory.
    pub(super) fn detached(&self) -> FetchPart {
        self.under(match &self.topic {
            Topic::Name(name) => Topic::Name(name.detached()),
            Topic::Id(id) => Topic::Id(*id),
        })
    }

    /// The same, which holds its topic's name or id in this form.
    pub(super) fn under(&self, topic: Topic) -> FetchPart {
        FetchPart { topic, ..*self }
    }

    pub(super) fn is_same(&self, other: &FetchPart) -> bool {
        self.index == other.index && self.topic == other.topic
    }
}

/// A fetch request that is not answered yet.
#[derive(Debug)]
pub(super) struct ParkedFetch {
    to: ReplyTo,
    wanted: Wanted,
    max_bytes: usize,
    state: State,
}

/// What a fetch reads.
#[derive(Clone, Debug)]
enum Wanted {
    /// These, outside of any session.
    Parts(Vec<FetchPart>),
    /// What is dirty in a session.
    Session {
        of: SessionRef,
        /// Whether it is the session's first, whose answer tells of all partitions.
        is_full: bool,
    },
}

impl Wanted {
    fn session(&self) -> Option<SessionRef> {
        match self {
            Wanted::Parts(_) => None,
            Wanted::Session { of, .. } => Some(*of),
        }
    }
}

/// What is found of one partition.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its place in the fetch's session, if there is one.
    pub(super) place: Option<u32>,
    pub(super) part: FetchPart,
    pub(super) data: PartitionData,
}

#[derive(Debug)]
enum State {
    Waiting {
        min_bytes: usize,
        credited: usize,
        deadline: Instant,
        /// The partitions waited for, where there is no session that watches them.
        slots: SmallVec<[u32; 4]>,
    },
    /// Would read so many bytes.
    Queued(usize),
    Reading {
        answers: Vec<Answer>,
        left: usize,
        bytes: usize,
        is_closed: bool,
    },
}

/// Whose turn it is to read.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The fetches of each connection that read or want to, oldest first; only the first of them reads or is in `queue`.
    by_conn: BTreeMap<ConnId, VecDeque<FetchId>>,
    queue: VecDeque<FetchId>,
    /// What is being read, in bytes.
    bytes: usize,
}

impl Turns {
    /// Whether a fetch of `conn` that reads `bytes` may begin, where no more than `max` are to be read at once.
    fn is_free(&self, conn: ConnId, bytes: usize, max: usize) -> bool {
        self.queue.is_empty() && !self.by_conn.contains_key(&conn) && self.has_room(bytes, max)
    }

    fn has_room(&self, bytes: usize, max: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= max
    }

    fn begin(&mut self, conn: ConnId, id: FetchId, bytes: usize) {
        self.by_conn.entry(conn).or_insert_with(|| VecDeque::from([id]));
        self.bytes += bytes;
    }

    fn enqueue(&mut self, conn: ConnId, id: FetchId) {
        let own = self.by_conn.entry(conn).or_default();
        own.push_back(id);
        if own.len() == 1 {
            self.queue.push_back(id);
        }
    }

    /// A fetch that read `bytes`, or 0 where it waited still, is over: the next of its connection queues.
    fn end(&mut self, conn: ConnId, id: FetchId, bytes: usize) {
        self.bytes -= bytes;
        let Some(own) = self.by_conn.get_mut(&conn) else { return };
        if own.front() != Some(&id) {
            return own.retain(|&known| known != id);
        }
        if bytes == 0 {
            self.queue.retain(|&known| known != id);
        }
        own.pop_front();
        match own.front() {
            Some(&next) => self.queue.push_back(next),
            None => _ = self.by_conn.remove(&conn),
        }
    }
}

/// What one look at all partitions found.
#[derive(Default)]
struct Look {
    answers: Vec<Answer>,
    /// The partitions that exist.
    slots: SmallVec<[u32; 4]>,
    /// Bytes found, on disk estimated.
    bytes: usize,
    /// Something must be told at once.
    urgent: bool,
    /// Reads to make: for which answer.
    reads: Vec<(usize, crate::log::ReadPlan)>,
    /// What they bring at most, in bytes.
    read_bytes: usize,
}

impl Node {
    pub(super) fn fetch(&mut self, now: Now, to: ReplyTo, request: &FetchRequest, out: &mut Outbox) {
        let wanted = match self.wanted(now, to, request, out) {
            Ok(wanted) => wanted,
            Err(code) => {
                let response = FetchResponse { error_code: code.into(), ..FetchResponse::default() };
                return out.push(Effect::Reply { to, response: Some(Response::Fetch(response)) });
            }
        };
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(self.fetch_bytes_max);
        let look = self.look(&wanted, max_bytes);
        let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let is_empty = match &wanted {
            Wanted::Parts(parts) => parts.is_empty(),
            Wanted::Session { of, .. } => self.sessions.is_empty(*of),
        };
        let enough = look.urgent || look.bytes >= min_bytes || wait.is_zero() || is_empty;
        if enough || self.fetches.len() >= self.limits.parked_requests_max {
            return self.answer(to, wanted, max_bytes, look, out);
        }
        let mut slots = look.slots;
        // Whoever names a partition twice waits for it once, or would be served twice.
        slots.sort_unstable();
        slots.dedup();
        let deadline = now.instant + wait;
        let state = State::Waiting { min_bytes, credited: look.bytes, deadline, slots: slots.clone() };
        let session = wanted.session();
        let id = FetchId(self.fetches.insert(ParkedFetch { to, wanted, max_bytes, state }));
        for slot in slots {
            self.host(slot).fetchers.join(id);
        }
        if let Some(of) = session {
            self.sessions.set_waiting(of, Some(id));
        }
        self.fetches_by_conn.entry(to.conn).or_default().push(id);
        self.deadlines.insert((deadline, Reason::Fetch(id)));
    }

    /// Finds out what a request reads, and has its session know what it names.
    fn wanted(&mut self, now: Now, to: ReplyTo, request: &FetchRequest, out: &mut Outbox) -> Result<Wanted, ErrorCode> {
        let is_by_id = to.version >= Topic::IDS_FROM;
        let asked = self.sessions.judge(request, is_by_id)?;
        // Answers leave in the order of their requests: whoever asks again in a session waits no longer.
        let before = self.sessions.named(request.session_id);
        if let Some(id) = before.and_then(|of| self.sessions.waiting(of)) {
            self.serve_fetch(id, out);
        }
        let parts = parts(request, to.version);
        let (of, is_full) = match asked {
            Asked::Incremental(of) => (of, false),
            Asked::Full { wants_session } => {
                if let Some(before) = before {
                    self.end_session(before);
                }
                let begun = wants_session.then(|| self.sessions.begin(now.instant, to.conn, parts.len())).flatten();
                self.unwatch_some();
                let Some(of) = begun else { return Ok(Wanted::Parts(parts)) };
                (of, true)
            }
        };
        if !is_full {
            self.sessions.use_up(of, now.instant, to.conn);
        }
        for part in &parts {
            if !self.sessions.name(of, part) {
                self.end_session(of);
                return Err(ErrorCode::FetchSessionIdNotFound);
            }
        }
        for gone in &request.forgotten_topics_data {
            let topic = Topic::named(to.version, &gone.topic, gone.topic_id);
            for &index in &gone.partitions {
                if let Some((slot, watch)) = self.sessions.forget(of, &topic, index) {
                    self.host(slot).watchers.leave(watch);
                }
            }
        }
        Ok(Wanted::Session { of, is_full })
    }

    /// Looks at all partitions once.
    fn look(&mut self, wanted: &Wanted, max_bytes: usize) -> Look {
        let mut look = Look::default();
        match wanted {
            Wanted::Parts(parts) => self.look_at_parts(parts, max_bytes, &mut look),
            Wanted::Session { of, is_full } => self.look_at_dirty(*of, *is_full, max_bytes, &mut look),
        }
        look
    }

    fn look_at_parts(&mut self, parts: &[FetchPart], max_bytes: usize, look: &mut Look) {
        let mut resolved: Option<(&Topic, Result<TopicId, Refused>)> = None;
        for part in parts {
            // Partitions of one topic mostly stand together, and finding it costs more than all the rest.
            let topic = match &resolved {
                Some((topic, id)) if **topic == part.topic => id.clone(),
                _ => resolved.insert((&part.topic, self.resolve_topic(&part.topic))).1.clone(),
            };
            let slot = topic.and_then(|topic| self.hosted(TopicPartition { topic, partition: part.index }));
            look.slots.extend(slot.as_ref().ok().copied());
            let (data, _) = self.look_at(slot, part, max_bytes, look);
            look.answers.push(Answer { place: None, part: part.clone(), data });
        }
    }

    /// Looks at what is dirty in a session, and finds clean what its consumer knows all of.
    fn look_at_dirty(&mut self, of: SessionRef, is_full: bool, max_bytes: usize, look: &mut Look) {
        let mut from = 0;
        while let Some((turn, watch, part, watched)) = self.sessions.next_dirty(of, from) {
            // What does not fit keeps its turn. The first answer tells of all partitions nevertheless.
            if !is_full && look.bytes >= max_bytes && look.bytes > 0 {
                break;
            }
            from = turn + 1;
            let part = part.clone();
            let slot = match watched {
                Some(slot) => Ok(slot),
                None => self.watch(watch, &part),
            };
            let (data, is_at_end) = self.look_at(slot, &part, max_bytes, look);
            if !is_at_end || !self.sessions.settle(watch, &data) {
                look.answers.push(Answer { place: Some(watch.place), part, data });
            }
        }
    }

    /// Has a place of a session watch its partition.
    fn watch(&mut self, watch: Watch, part: &FetchPart) -> Result<u32, Refused> {
        let topic = self.resolve_topic(&part.topic)?;
        let slot = self.hosted(TopicPartition { topic, partition: part.index })?;
        self.sessions.watch(watch, slot);
        self.host(slot).watchers.join(watch);
        Ok(slot)
    }

    /// Looks at one partition: what to tell of it, and whether there is nothing to read and nothing wrong.
    fn look_at(
        &mut self,
        slot: Result<u32, Refused>,
        part: &FetchPart,
        max_bytes: usize,
        look: &mut Look,
    ) -> (PartitionData, bool) {
        let mut data = PartitionData { partition_index: part.index, ..PartitionData::default() };
        data.records = Some(Records::default());
        match slot.and_then(|slot| self.read_from(slot, part, &mut data, max_bytes, look)) {
            Ok(()) => {
                let is_at_end = part.offset.0 >= data.high_watermark;
                (data, is_at_end)
            }
            Err(refused) => {
                look.urgent = true;
                data.error_code = refused.code.into();
                if refused.code != ErrorCode::OffsetOutOfRange {
                    data.high_watermark = -1;
                    data.last_stable_offset = -1;
                    data.log_start_offset = -1;
                }
                (data, false)
            }
        }
    }

    fn read_from(
        &mut self,
        slot: u32,
        part: &FetchPart,
        data: &mut PartitionData,
        max_bytes: usize,
        look: &mut Look,
    ) -> Result<(), Refused> {
        let hosted = self.hosts[slot as usize].as_mut().expect("a slot that was looked up");
        hosted.partition.check_epoch(part.epoch)?;
        let advanced = hosted.partition.advanced();
        data.high_watermark = advanced.high_watermark.0;
        data.last_stable_offset = advanced.last_stable.0;
        data.log_start_offset = hosted.partition.log().start().0;
        let left = max_bytes.saturating_sub(look.bytes);
        // The first partition that has anything gives at least one batch, whatever the limits (KIP-74).
        if left == 0 && look.bytes > 0 {
            hosted.partition.read(part.offset, 0).map(drop)?;
            return Ok(());
        }
        let limit = part.max_bytes.min(left);
        match hosted.partition.read(part.offset, limit)? {
            Read::Nothing => {}
            Read::Memory(slices, bytes) => {
                if bytes > limit && look.bytes > 0 {
                    return Ok(());
                }
                look.bytes += bytes;
                data.records = Some(Records(slices));
            }
            Read::Disk(..) if look.reads.len() == READS_MAX => {}
            Read::Disk(mut plan, bytes_max) => {
                if let Sought::Batches { at_least_one, .. } = &mut plan.sought {
                    *at_least_one = look.bytes == 0;
                }
                // As it may bring at most, not as it may ask for: a limit that is larger than what is left of a segment
                // would keep partitions further on in the request from being read at all.
                look.bytes += bytes_max.max(1);
                look.read_bytes += bytes_max.max(1);
                look.reads.push((look.answers.len(), plan));
            }
        }
        Ok(())
    }

    fn answer(&mut self, to: ReplyTo, wanted: Wanted, max_bytes: usize, look: Look, out: &mut Outbox) {
        if look.reads.is_empty() {
            return self.reply_fetch(to, &wanted, look.answers, out);
        }
        let state = State::Queued(look.read_bytes);
        let id = FetchId(self.fetches.insert(ParkedFetch { to, wanted, max_bytes, state }));
        self.fetches_by_conn.entry(to.conn).or_default().push(id);
        if self.turns.is_free(to.conn, look.read_bytes, self.limits.read_bytes_in_flight_max) {
            self.begin_reads(id, look, out);
        } else {
            self.turns.enqueue(to.conn, id);
        }
    }

    fn begin_reads(&mut self, id: FetchId, look: Look, out: &mut Outbox) {
        let fetch = &mut self.fetches[id.0];
        let (left, bytes) = (look.reads.len(), look.read_bytes);
        fetch.state = State::Reading { answers: look.answers, left, bytes, is_closed: false };
        self.turns.begin(fetch.to.conn, id, bytes);
        for (index, plan) in look.reads {
            let read = self.next_read();
            self.reads.insert(read, (super::Reader::Fetch(id, index), super::segment_of(&plan)));
            out.push(Effect::Disk(DiskOp::Read(read, plan)));
        }
    }

    /// Lets those read whose turn it is.
    fn next_turns(&mut self, out: &mut Outbox) {
        while let Some(&id) = self.turns.queue.front() {
            let State::Queued(bytes) = self.fetches[id.0].state else { unreachable!("it is in the queue") };
            if !self.turns.has_room(bytes, self.limits.read_bytes_in_flight_max) {
                return;
            }
            self.turns.queue.pop_front();
            // What it found may have moved meanwhile.
            let ParkedFetch { wanted, max_bytes, .. } = &self.fetches[id.0];
            let (wanted, max_bytes) = (wanted.clone(), *max_bytes);
            let look = self.look(&wanted, max_bytes);
            if look.reads.is_empty() {
                let fetch = self.unpark_fetch(id).expect("it was in the queue");
                self.reply_fetch(fetch.to, &fetch.wanted, look.answers, out);
            } else {
                self.begin_reads(id, look, out);
            }
        }
    }

    fn reply_fetch(&mut self, to: ReplyTo, wanted: &Wanted, answers: Vec<Answer>, out: &mut Outbox) {
        let (session_id, news) = match wanted {
            Wanted::Parts(_) => (0, None),
            Wanted::Session { of, is_full } => {
                let news = self.sessions.told(*of, &answers);
                (of.id, (!is_full).then_some(news))
            }
        };
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        for (at, Answer { part, data, .. }) in answers.into_iter().enumerate() {
            if news.as_ref().is_some_and(|news| !news[at]) {
                continue;
            }
            self.counters.bytes_out += data.records.as_ref().map_or(0, Records::len) as u64;
            let (topic, topic_id) = part.topic.into_answer();
            match responses.last_mut().filter(|last| last.topic == topic && last.topic_id == topic_id) {
                Some(last) => last.partitions.push(data),
                None => responses.push(FetchableTopicResponse { topic, topic_id, partitions: vec![data] }),
            }
        }
        let response = FetchResponse { session_id, responses, ..FetchResponse::default() };
        out.push(Effect::Reply { to, response: Some(Response::Fetch(response)) });
    }

    /// A high watermark advanced by `bytes`: credits who waits, and serves who has enough.
    pub(super) fn credit(&mut self, slot: u32, bytes: usize, out: &mut Outbox) {
        let mut ready: SmallVec<[FetchId; 4]> = SmallVec::new();
        let hosted = self.hosts[slot as usize].as_ref().expect("a hosted partition");
        let sessions = &mut self.sessions;
        let watching = hosted.watchers.iter().filter_map(|watch| sessions.mark(watch));
        for id in hosted.fetchers.iter().chain(watching) {
            if let State::Waiting { min_bytes, credited, .. } = &mut self.fetches[id.0].state {
                let had_enough = *credited >= *min_bytes;
                *credited += bytes;
                if *credited >= *min_bytes && !had_enough {
                    ready.push(id);
                }
            }
        }
        for (at, id) in ready.into_iter().enumerate() {
            match at < SERVED_AT_ONCE {
                true => self.serve_fetch(id, out),
                false => self.slices.serve(id),
            }
        }
    }

    /// What is told of a partition has changed, though there is nothing new to read: sessions look at it again.
    pub(super) fn touch(&mut self, slot: u32) {
        let hosted = self.hosts[slot as usize].as_ref().expect("a hosted partition");
        for watch in hosted.watchers.iter() {
            self.sessions.mark(watch);
        }
    }

    /// A partition is no more: those who wait for it, of whom its sessions let go of it.
    pub(super) fn leave_all(&mut self, hosted: &super::Hosted) -> Vec<FetchId> {
        let sessions = &mut self.sessions;
        let watching = hosted.watchers.iter().filter_map(|watch| sessions.lose(watch));
        hosted.fetchers.iter().chain(watching).collect()
    }

    fn end_session(&mut self, of: SessionRef) {
        self.sessions.end(of);
        self.unwatch_some();
    }

    /// Takes sessions apart that have ended, as far as a step has time for.
    pub(super) fn unwatch_some(&mut self) {
        for _ in 0..UNWATCHED_AT_ONCE {
            if let Some((slot, watch)) = self.sessions.take_apart() {
                self.host(slot).watchers.leave(watch);
            } else if !self.sessions.has_ended() {
                break;
            }
        }
    }

    /// Answers a fetch that had enough when it was put aside.
    pub(super) fn serve_ready(&mut self, id: FetchId, out: &mut Outbox) {
        // It may have been answered since, and another may have its number.
        if let Some(State::Waiting { min_bytes, credited, .. }) = self.fetches.get(id.0).map(|fetch| &fetch.state)
            && credited >= min_bytes
        {
            self.serve_fetch(id, out);
        }
    }

    /// Answers a waiting fetch with what there is.
    pub(super) fn serve_fetch(&mut self, id: FetchId, out: &mut Outbox) {
        let Some(ParkedFetch { to, wanted, max_bytes, .. }) = self.unpark_fetch(id) else { return };
        let look = self.look(&wanted, max_bytes);
        self.answer(to, wanted, max_bytes, look, out);
    }

    /// Takes a fetch out of every place that knows it.
    fn unpark_fetch(&mut self, id: FetchId) -> Option<ParkedFetch> {
        let fetch = self.fetches.try_remove(id.0)?;
        match &fetch.state {
            State::Waiting { deadline, slots, .. } => {
                self.deadlines.remove(&(*deadline, Reason::Fetch(id)));
                for &slot in slots {
                    if let Some(hosted) = &mut self.hosts[slot as usize] {
                        hosted.fetchers.leave(id);
                    }
                }
                if let Some(of) = fetch.wanted.session() {
                    self.sessions.set_waiting(of, None);
                }
            }
            State::Queued(_) => self.turns.end(fetch.to.conn, id, 0),
            State::Reading { bytes, .. } => self.turns.end(fetch.to.conn, id, *bytes),
        }
        if let Some(ids) = self.fetches_by_conn.get_mut(&fetch.to.conn) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.fetches_by_conn.remove(&fetch.to.conn);
            }
        }
        Some(fetch)
    }

    /// A connection is gone, and its fetches with it. The newest goes first, so that none gets the turn of another.
    pub(super) fn close_fetches(&mut self, conn: ConnId, out: &mut Outbox) {
        for id in self.fetches_by_conn.remove(&conn).unwrap_or_default().into_iter().rev() {
            match self.fetches.get_mut(id.0).map(|fetch| &mut fetch.state) {
                Some(State::Reading { is_closed, .. }) => *is_closed = true,
                _ => _ = self.unpark_fetch(id),
            }
        }
        self.sessions.closed(conn);
        self.unwatch_some();
        self.next_turns(out);
    }

    /// A read for a fetch is done.
    pub(super) fn fetch_read(&mut self, id: FetchId, index: usize, result: super::ReadResult, out: &mut Outbox) {
        let Some(fetch) = self.fetches.get_mut(id.0) else { return };
        let State::Reading { answers, left, .. } = &mut fetch.state else { return };
        *left -= 1;
        let done = *left == 0;
        let Answer { part, data, .. } = &mut answers[index];
        match result {
            Ok(ReadOutcome::Batches(bytes)) => data.records = Some(Records::from(bytes)),
            Ok(_) => {}
            Err(error) => {
                let part = part.clone();
                // Looked at as it is by now: without its segment, the offset lies before the log or the topic is gone.
                let mut now = PartitionData {
                    partition_index: part.index,
                    high_watermark: -1,
                    last_stable_offset: -1,
                    log_start_offset: -1,
                    records: Some(Records::default()),
                    ..PartitionData::default()
                };
                let slot = self.find(&part.topic, part.index);
                now.error_code = match (error, slot) {
                    (Some(error), Some(slot)) => {
                        self.read_failed(slot, &error, out);
                        ErrorCode::KafkaStorageError.into()
                    }
                    (None, Some(slot)) if part.offset < self.host(slot).partition.log().start() => {
                        let log = self.host(slot).partition.log();
                        (now.high_watermark, now.log_start_offset) = (log.durable_end().0, log.start().0);
                        now.last_stable_offset = now.high_watermark;
                        ErrorCode::OffsetOutOfRange.into()
                    }
                    // Another topic has its name.
                    (_, Some(_)) => ErrorCode::UnknownTopicOrPartition.into(),
                    (_, None) => self
                        .resolve_topic(&part.topic)
                        .err()
                        .map_or(ErrorCode::UnknownTopicOrPartition, |refused| refused.code)
                        .into(),
                };
                let State::Reading { answers, .. } = &mut self.fetches[id.0].state else { unreachable!("it reads") };
                answers[index].data = now;
            }
        }
        if done {
            let fetch = self.unpark_fetch(id).expect("it was just there");
            let State::Reading { answers, is_closed, .. } = fetch.state else { unreachable!("it was reading") };
            if !is_closed {
                self.reply_fetch(fetch.to, &fetch.wanted, answers, out);
            }
            self.next_turns(out);
        }
    }

    /// A segment could not be read: its index is made again, damage of itself stops the partition, an error of the system
    /// is told and may pass.
    pub(super) fn read_failed(&mut self, slot: u32, error: &DiskError, out: &mut Outbox) {
        self.counters.read_errors += 1;
        if !self.mend(slot, error, out) {
            self.refuse_unreadable(slot, error, out);
        }
    }

    /// A segment cannot be read, and nothing can be done about it.
    pub(super) fn refuse_unreadable(&mut self, slot: u32, error: &DiskError, out: &mut Outbox) {
        let hosted = self.host(slot);
        let name = format!("{}-{}", hosted.name, hosted.partition.id().partition);
        if let DiskError::Corrupt(..) = error {
            hosted.partition.mark_damaged(error.to_string());
            let id = hosted.partition.id();
            self.damaged.insert(id);
            self.touch(slot);
            self.resign_damaged(slot, out);
        }
        out.log(Level::Error, format!("partition {name} cannot be read: {error}"));
    }
}

/// The partitions that a request names.
fn parts(request: &FetchRequest, version: i16) -> Vec<FetchPart> {
    let mut parts = Vec::new();
    for fetched in &request.topics {
        let topic = Topic::named(version, &fetched.topic, fetched.topic_id);
        for partition in &fetched.partitions {
            parts.push(FetchPart {
                topic: topic.clone(),
                index: partition.partition,
                offset: Offset(partition.fetch_offset),
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                epoch: partition.current_leader_epoch,
            });
        }
    }
    parts
}
