//! Fetch: batches out, from memory where the tail has them, from segments where not, or later when there are any.
//!
//! | a fetch is | becomes | when |
//! |---|---|---|
//! | asked | waiting | there is less than it wants at least, and it lets us wait |
//! | asked, waiting | queued | its answer takes much memory, and its [turn](turns) has not come |
//! | asked, waiting, queued | reading | its turn has come, and segments have something for it |
//! | reading | answered | all reads are done |
//! | asked, waiting, queued | answered | there is enough in memory, or something must be told, or its time is up |
//! | any | over | its connection is gone; what it reads then still counts until the disk is done with it |
//!
//! Waiting it is credited with what comes, as high watermarks advance. Where it is about more partitions than one step
//! has time for, it is [in slices](long) in between: before it waits, and from when it has its turn until it is answered.

mod answer;
mod long;
mod look;
mod part;
mod turns;

use std::collections::BTreeSet;
use std::time::Duration;

use smallvec::SmallVec;

use super::session::{Asked, SessionRef};
use super::{Node, Reason};
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::ids::ConnId;
use crate::time::{Instant, Now};
use crate::wait::FetchId;
use crate::wire::fetch::{FetchRequest, FetchResponse};
use crate::wire::{ErrorCode, Response};

pub(super) use long::Remains;
pub(super) use look::Answer;
use part::Reader;
pub(super) use part::{FetchPart, Topic};
pub(super) use turns::Turns;

use look::Look;
use turns::Need;

/// Places of sessions that have ended are taken apart so many in a step, at about 0.2 µs each.
const UNWATCHED_AT_ONCE: usize = 250;

/// What the fetches may weigh that one step serves; were it thousands of them, all others would wait. A partition weighs
/// 1, at about 0.2 µs.
const SERVED_WEIGHT: usize = 400;
/// What a fetch weighs beside its partitions.
const FETCH_WEIGHT: usize = 12;

/// A fetch request that is not answered yet.
#[derive(Debug)]
pub(super) struct ParkedFetch {
    to: ReplyTo,
    wanted: Wanted,
    max_bytes: usize,
    state: State,
    /// Whether one step has no time for all of it.
    is_long: bool,
    /// The partitions that credit it, where it is long and has no session.
    joined: BTreeSet<u32>,
}

impl ParkedFetch {
    fn new(to: ReplyTo, wanted: Wanted, max_bytes: usize, state: State) -> ParkedFetch {
        ParkedFetch { to, wanted, max_bytes, state, is_long: false, joined: BTreeSet::new() }
    }
}

/// What a request says of how much it wants, and when.
#[derive(Clone, Copy, Debug)]
struct Terms {
    min_bytes: usize,
    max_bytes: usize,
    /// Until when it may wait; `None` where it may not.
    deadline: Option<Instant>,
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

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted::Parts(Vec::new())
    }
}

impl Wanted {
    fn session(&self) -> Option<SessionRef> {
        match self {
            Wanted::Parts(_) => None,
            Wanted::Session { of, .. } => Some(*of),
        }
    }
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
    /// What it needed when it was looked at last, and what an answer might come to then.
    Queued {
        need: Need,
        share: usize,
    },
    Reading {
        answers: Vec<Answer>,
        left: usize,
        is_closed: bool,
    },
    /// `None` while a slice is made.
    Sliced(Option<Box<long::Phase>>),
    /// Only partitions know of it still.
    Over,
}

impl Node {
    pub(super) fn fetch(&mut self, now: Now, to: ReplyTo, request: FetchRequest, out: &mut Outbox) {
        if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
            return refuse_follower(to, out);
        }
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(self.fetch_bytes_max);
        let terms = Terms {
            // As in Kafka: nobody waits for more than there is room for in the answer.
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
            deadline: (!wait.is_zero()).then(|| now.instant + wait),
        };
        if long::is_long(&request, self.limits.fetch_partitions_at_once) || self.comes_behind_long(&request) {
            return self.fetch_in_slices(to, terms, request);
        }
        let wanted = match self.take_up(now, to, &request, out) {
            Ok(wanted) => wanted,
            Err(code) => return refuse(to, code, out),
        };
        let mut look = Look::default();
        if !self.look_on(&wanted, terms.max_bytes, self.limits.fetch_partitions_at_once, &mut look) {
            return self.look_in_slices(to, terms, wanted);
        }
        let Some(deadline) = terms
            .deadline
            .filter(|_| !look.is_urgent && look.bytes < terms.min_bytes && self.may_wait(&wanted, &terms))
        else {
            return self.answer(to, wanted, terms.max_bytes, look, out);
        };
        let mut slots = look.slots;
        // Whoever names a partition twice waits for it once, or would be served twice.
        slots.sort_unstable();
        slots.dedup();
        let state = State::Waiting { min_bytes: terms.min_bytes, credited: look.bytes, deadline, slots: slots.clone() };
        let session = wanted.session();
        let id = self.park_fetch(ParkedFetch::new(to, wanted, terms.max_bytes, state));
        for slot in slots {
            self.host(slot).fetchers.join(id);
        }
        if let Some(of) = session {
            self.sessions.set_waiting(of, Some(id));
        }
        self.deadlines.insert((deadline, Reason::Fetch(id)));
    }

    /// Who reads, by its request.
    fn reader(&self, to: ReplyTo, request: &FetchRequest) -> Reader {
        let knows_followers = to.version >= part::FOLLOWERS_FROM;
        Reader { knows_followers, rack: self.rack_of(&request.rack_id) }
    }

    /// Whether a request must be taken up behind another one of its session.
    fn comes_behind_long(&mut self, request: &FetchRequest) -> bool {
        let before = self.sessions.named(request.session_id);
        before.is_some_and(|of| self.sessions.has_long(of))
    }

    /// Finds out what a request reads, and has its session know what it names.
    fn take_up(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: &FetchRequest,
        out: &mut Outbox,
    ) -> Result<Wanted, ErrorCode> {
        let parts = part::parts(request, to.version, self.reader(to, request));
        let Some((of, is_full)) = self.asked(now, to, request, parts.len(), out)? else {
            return Ok(Wanted::Parts(parts));
        };
        for part in &parts {
            if !self.sessions.name(of, part) {
                self.end_session(of);
                return Err(ErrorCode::FetchSessionIdNotFound);
            }
        }
        for gone in &request.forgotten_topics_data {
            let topic = Topic::named(to.version, &gone.topic, gone.topic_id);
            for &index in &gone.partitions {
                self.forget_part(of, &topic, index);
            }
        }
        Ok(Wanted::Session { of, is_full })
    }

    /// Finds out in which session a request of so many partitions is, if in any, and whether it is the first there.
    fn asked(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: &FetchRequest,
        parts: usize,
        out: &mut Outbox,
    ) -> Result<Option<(SessionRef, bool)>, ErrorCode> {
        let asked = self.sessions.judge(request, to.version >= Topic::IDS_FROM)?;
        // Answers leave in the order of their requests: whoever asks again in a session waits no longer.
        let before = self.sessions.named(request.session_id);
        if let Some(id) = before.and_then(|of| self.sessions.waiting(of)) {
            self.serve_fetch(id, out);
        }
        match asked {
            Asked::Incremental(of) => {
                self.sessions.use_up(of, now.instant, to.conn);
                Ok(Some((of, false)))
            }
            Asked::Full { wants_session } => {
                if let Some(before) = before {
                    self.end_session(before);
                }
                let begun = wants_session.then(|| self.sessions.begin(now.instant, to.conn, parts)).flatten();
                self.unwatch_some();
                Ok(begun.map(|of| (of, true)))
            }
        }
    }

    /// Has a session let go of a partition.
    fn forget_part(&mut self, of: SessionRef, topic: &Topic, index: i32) {
        if let Some((slot, watch)) = self.sessions.forget(of, topic, index) {
            self.host(slot).watchers.leave(watch);
        }
    }

    /// Whether there is something to wait for, and room for one more who does.
    fn may_wait(&self, wanted: &Wanted, terms: &Terms) -> bool {
        let is_empty = match wanted {
            Wanted::Parts(parts) => parts.is_empty(),
            Wanted::Session { of, .. } => self.sessions.is_empty(*of),
        };
        let has_room = self.fetches.len() < self.limits.parked_requests_max;
        terms.deadline.is_some() && terms.min_bytes > 0 && !is_empty && has_room
    }

    /// How many partitions a look would look at.
    fn places(&self, wanted: &Wanted) -> usize {
        match wanted {
            Wanted::Parts(parts) => parts.len(),
            Wanted::Session { of, .. } => self.sessions.dirty_places(*of),
        }
    }

    /// What a fetch weighs that is served, among those of one step.
    fn weight(&self, id: FetchId) -> usize {
        let places = self.fetches.get(id.0).map_or(0, |fetch| match fetch.is_long {
            true => 0,
            false => self.places(&fetch.wanted),
        });
        FETCH_WEIGHT + places.min(self.limits.fetch_partitions_at_once)
    }

    fn park_fetch(&mut self, fetch: ParkedFetch) -> FetchId {
        let conn = fetch.to.conn;
        let id = FetchId(self.fetches.insert(fetch));
        self.fetches_by_conn.entry(conn).or_default().push(id);
        id
    }

    fn leave_conn(&mut self, conn: ConnId, id: FetchId) {
        if let Some(ids) = self.fetches_by_conn.get_mut(&conn) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.fetches_by_conn.remove(&conn);
            }
        }
    }

    /// A partition forgets a fetch that waits for it.
    fn leave_partition(&mut self, slot: u32, id: FetchId) {
        if let Some(hosted) = &mut self.hosts[slot as usize] {
            hosted.fetchers.leave(id);
        }
    }

    /// A high watermark advanced by `bytes`: credits who waits, and serves who has enough.
    pub(super) fn credit(&mut self, slot: u32, bytes: usize, out: &mut Outbox) {
        let mut ready: SmallVec<[FetchId; 4]> = SmallVec::new();
        let hosted = self.hosts[slot as usize].as_ref().expect("a hosted partition");
        let sessions = &mut self.sessions;
        let watching = hosted.watchers.iter().filter_map(|watch| sessions.mark(watch));
        for id in hosted.fetchers.iter().chain(watching) {
            match &mut self.fetches[id.0].state {
                State::Waiting { min_bytes, credited, .. } => {
                    let had_enough = *credited >= *min_bytes;
                    *credited += bytes;
                    if *credited >= *min_bytes && !had_enough {
                        ready.push(id);
                    }
                }
                State::Sliced(Some(phase)) => phase.credit(bytes),
                _ => {}
            }
        }
        let mut weight = 0;
        for id in ready {
            match weight < SERVED_WEIGHT {
                true => {
                    weight += self.weight(id);
                    self.serve_fetch(id, out);
                }
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

    /// A partition is no more: its sessions let go of it, and whoever waits for it is told in the slices to come. Many
    /// may wait, and many partitions may go in one step.
    pub(super) fn leave_all(&mut self, hosted: &super::Hosted, out: &mut Outbox) {
        let sessions = &mut self.sessions;
        let watching = hosted.watchers.iter().filter_map(|watch| sessions.lose(watch));
        let waiting: Vec<FetchId> = hosted.fetchers.iter().chain(watching).collect();
        for id in waiting {
            match &mut self.fetches[id.0].state {
                State::Waiting { min_bytes, credited, .. } if *credited < *min_bytes => {
                    *credited = *min_bytes;
                    self.slices.serve(id);
                }
                // Its slice is to come already.
                State::Waiting { .. } => {}
                _ => self.serve_fetch(id, out),
            }
        }
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

    /// Answers fetches that had enough when they were put aside, as many as one step has time for.
    pub(super) fn serve_ready(&mut self, out: &mut Outbox) {
        let mut weight = 0;
        while weight < SERVED_WEIGHT
            && let Some(id) = self.slices.next_ready()
        {
            weight += self.weight(id);
            // It may have been answered since, and another may have its number.
            if let Some(State::Waiting { min_bytes, credited, .. }) = self.fetches.get(id.0).map(|fetch| &fetch.state)
                && credited >= min_bytes
            {
                self.serve_fetch(id, out);
            }
        }
    }

    /// Answers those whose time is up, as many as one step has time for.
    pub(super) fn serve_late(&mut self, now: Now, first: FetchId, out: &mut Outbox) {
        let mut weight = self.weight(first);
        self.serve_fetch(first, out);
        while weight < SERVED_WEIGHT
            && let Some(&(at, Reason::Fetch(id))) = self.deadlines.first()
            && at <= now.instant
        {
            self.deadlines.pop_first();
            weight += self.weight(id);
            self.serve_fetch(id, out);
        }
    }

    /// Has a fetch wait no longer: it is answered with what there is.
    pub(super) fn serve_fetch(&mut self, id: FetchId, out: &mut Outbox) {
        let Some(fetch) = self.fetches.get_mut(id.0) else { return };
        match &mut fetch.state {
            State::Waiting { .. } if fetch.is_long => self.end_waiting(id),
            State::Waiting { .. } => {
                let Some(ParkedFetch { to, wanted, max_bytes, .. }) = self.unpark_fetch(id) else { return };
                let mut look = Look::default();
                match self.look_on(&wanted, max_bytes, self.limits.fetch_partitions_at_once, &mut look) {
                    true => self.answer(to, wanted, max_bytes, look, out),
                    false => self.look_in_slices(to, Terms { min_bytes: 0, max_bytes, deadline: None }, wanted),
                }
            }
            State::Sliced(Some(phase)) => phase.hurry(),
            State::Queued { .. } | State::Reading { .. } | State::Sliced(None) | State::Over => {}
        }
    }

    /// Takes a fetch that is not long out of every place that knows it, but for the turns.
    fn unpark_fetch(&mut self, id: FetchId) -> Option<ParkedFetch> {
        let fetch = self.fetches.try_remove(id.0)?;
        if let State::Waiting { deadline, slots, .. } = &fetch.state {
            self.deadlines.remove(&(*deadline, Reason::Fetch(id)));
            for &slot in slots {
                self.leave_partition(slot, id);
            }
            if let Some(of) = fetch.wanted.session() {
                self.sessions.set_waiting(of, None);
            }
        }
        self.leave_conn(fetch.to.conn, id);
        Some(fetch)
    }

    /// A connection is gone, and its fetches with it.
    pub(super) fn close_fetches(&mut self, conn: ConnId, out: &mut Outbox) {
        self.turns.closed(conn);
        let mut weight = 0;
        for id in self.fetches_by_conn.remove(&conn).unwrap_or_default() {
            let Some(fetch) = self.fetches.get_mut(id.0) else { continue };
            match &mut fetch.state {
                State::Reading { is_closed, .. } => *is_closed = true,
                _ if fetch.is_long || weight >= SERVED_WEIGHT => self.abandon(id),
                _ => {
                    weight += self.weight(id);
                    self.unpark_fetch(id);
                }
            }
        }
        self.sessions.closed(conn);
        self.unwatch_some();
        self.next_turns(out);
    }

    /// Asserts what always holds.
    pub(super) fn fetch_invariants(&self) {
        self.turns.invariants();
        let sliced = self.fetches.iter().filter(|(_, fetch)| match &fetch.state {
            State::Sliced(phase) => {
                assert!(fetch.is_long && phase.is_some(), "slices are made of long fetches, one at a time");
                true
            }
            _ => false,
        });
        assert_eq!(sliced.count(), self.slices.fetches(), "who is in slices goes on");
        for hosted in self.hosts.iter().flatten() {
            assert!(hosted.fetchers.iter().all(|id| self.fetches.contains(id.0)), "a partition knows fetches that are");
        }
        assert!(self.sessions.all_waiting().all(|id| self.fetches.contains(id.0)), "a session knows fetches that are");
    }
}

/// From this version on an answer has an error of its own.
const ERRORS_FROM: i16 = 7;

/// Followers of Chronik's do not fetch, so who says that it is one belongs to another cluster.
fn refuse_follower(to: ReplyTo, out: &mut Outbox) {
    if to.version >= ERRORS_FROM {
        return refuse(to, ErrorCode::ClusterAuthorizationFailed, out);
    }
    out.push(Effect::Reply { to, response: None });
    out.push(Effect::Close { conn: to.conn, why: "a fetch by a follower, of which this cluster has none that fetch" });
}

/// Answers a request that cannot be served at all.
fn refuse(to: ReplyTo, code: ErrorCode, out: &mut Outbox) {
    let response = FetchResponse { error_code: code.into(), ..FetchResponse::default() };
    out.push(Effect::Reply { to, response: Some(Response::Fetch(response)) });
}
