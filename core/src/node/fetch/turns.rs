//! Whose turn it is to have a fetch answered that takes much memory, and what answers hold until they have been sent.
//!
//! What is read for a fetch lies in memory until all of it is there, and an answer keeps its records there, read or out of
//! the tail, until its client has taken it. So a fetch that reads from segments, or that memory answers with much, needs
//! a turn: a connection has one at a time, and all connections together hold no more than
//! [`Limits::fetch_bytes_in_flight_max`](crate::limits::Limits). Whoever asks first is first served.
//!
//! What is to be told of a partition counts as well, so that a [long](super::long) fetch needs a turn even where there is
//! nothing to read. It has its turn before it is looked at, for the most that its answer may come to, and needs less then.
//!
//! | a connection's turn | becomes | when |
//! |---|---|---|
//! | none | queued | a fetch needs it, and there is no room or somebody waits already |
//! | none, queued | reading | there is room, and nobody waits longer |
//! | reading | unsent | the fetch is answered with much |
//! | reading | over | it is answered with little, or the connection closed while it read |
//! | unsent | over | the answer has been sent |
//! | queued, unsent | over | the connection closed |
//!
//! Over, the next fetch of the connection queues.
//!
//! # Those who do not read
//! An answer may come to an eighth of what is free. So few clients leave much for many: a hundred who read at once get
//! almost 2 MiB each, and those who do not read get less and less, which soon fits into what the network buffers and so
//! holds nothing here. Where the bound is reached all the same, an answer may lie unsent for
//! [`Limits::fetch_unsent_time_max`](crate::limits::Limits) and a time in proportion to its size; then, while somebody
//! waits for a turn, its connection is cut. Without anybody who waits, a slow client is left alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::time::Duration;

use super::{Node, Reason};
use crate::boundary::{Effect, Outbox, TOLD_FROM_BYTES};
use crate::ids::ConnId;
use crate::limits::BATCH_BYTES_MAX;
use crate::time::{Instant, Now};
use crate::wait::FetchId;

/// One answer may come to so much of what is free.
const SHARE: usize = 8;
/// But always to so many bytes: one chunk of a segment, which is read in any case.
const SHARE_MIN: usize = 64 << 10;

/// Bytes that a client must take each second, once others have waited for
/// [`Limits::fetch_unsent_time_max`](crate::limits::Limits).
const BYTES_PER_SECOND_MIN: u64 = 2 << 20;

/// What a fetch may come to, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// What its answer is expected to come to.
    pub(super) answer: usize,
    /// How much more it may be, since a first batch is given whatever its length.
    pub(super) slack: usize,
}

impl Need {
    fn bytes(self) -> usize {
        self.answer + self.slack
    }
}

/// The turns of all connections.
#[derive(Debug, Default)]
pub(in crate::node) struct Turns {
    by_conn: BTreeMap<ConnId, Own>,
    /// Those that wait for room, oldest first.
    queue: VecDeque<FetchId>,
    /// What is held, or may come to be by what is being read.
    held: Need,
    /// What comes free when connections are gone that have been cut, in bytes.
    leaving: usize,
    /// Who was answered in this step.
    answered: Vec<ConnId>,
    /// Until when unsent answers may hold up others.
    due: BTreeSet<(Instant, ConnId)>,
    /// When a step is planned.
    wakes_at: Option<Instant>,
}

/// The turn of one connection, and those of its fetches that wait for the next, oldest first.
#[derive(Debug)]
struct Own {
    turn: Turn,
    waiting: VecDeque<FetchId>,
}

#[derive(Debug)]
enum Turn {
    /// It is in the queue.
    Queued(FetchId),
    Reading(Need),
    Unsent {
        sequence: u64,
        bytes: usize,
        /// `None` within the step that answers.
        due: Option<Instant>,
        is_cut: bool,
    },
}

impl Turns {
    /// What one more answer may come to where `limit` may be held in all, in bytes. Room for one batch of any length is
    /// left out, so that those who are short of it can still be served one by one.
    pub(super) fn share(&self, limit: usize) -> usize {
        (limit.saturating_sub(BATCH_BYTES_MAX as usize).saturating_sub(self.held.answer) / SHARE).max(SHARE_MIN)
    }

    /// Whether a fetch of `conn` may have its turn at once.
    pub(super) fn is_free(&self, conn: ConnId, need: Need, limit: usize) -> bool {
        self.queue.is_empty() && !self.by_conn.contains_key(&conn) && self.has_room(need, limit)
    }

    pub(super) fn has_room(&self, need: Need, limit: usize) -> bool {
        self.would_fit(need, limit, self.held.bytes())
    }

    fn would_fit(&self, need: Need, limit: usize, held: usize) -> bool {
        held == 0 || held.saturating_add(need.bytes()) <= limit
    }

    /// Who has waited longest for room.
    pub(super) fn first(&self) -> Option<FetchId> {
        self.queue.front().copied()
    }

    pub(super) fn enqueue(&mut self, conn: ConnId, id: FetchId) {
        match self.by_conn.get_mut(&conn) {
            Some(own) => own.waiting.push_back(id),
            None => {
                self.by_conn.insert(conn, Own { turn: Turn::Queued(id), waiting: VecDeque::new() });
                self.queue.push_back(id);
            }
        }
    }

    /// The first of the queue has its turn, or a fetch for which it [is free](Turns::is_free).
    pub(super) fn begin(&mut self, conn: ConnId, need: Need) {
        let own = self.by_conn.entry(conn).or_insert(Own { turn: Turn::Reading(need), waiting: VecDeque::new() });
        if let Turn::Queued(id) = own.turn {
            assert_eq!(self.queue.pop_front(), Some(id), "whoever waits longest is first");
        }
        own.turn = Turn::Reading(need);
        self.held.answer += need.answer;
        self.held.slack += need.slack;
    }

    /// The fetch that has its connection's turn needs no more than this.
    pub(super) fn narrow(&mut self, conn: ConnId, need: Need) {
        let own = self.by_conn.get_mut(&conn).expect("it had its turn");
        let Turn::Reading(before) = mem::replace(&mut own.turn, Turn::Reading(need)) else {
            unreachable!("it was looked at for")
        };
        self.held.answer = self.held.answer - before.answer + need.answer;
        self.held.slack = self.held.slack - before.slack + need.slack;
    }

    /// The fetch that has its connection's turn is answered with what counts for so many bytes.
    pub(super) fn answered(&mut self, conn: ConnId, sequence: u64, bytes: usize) {
        let own = self.by_conn.get_mut(&conn).expect("it had its turn");
        let Turn::Reading(need) = own.turn else { unreachable!("it was read for") };
        self.held.answer -= need.answer;
        self.held.slack -= need.slack;
        if bytes < TOLD_FROM_BYTES {
            return self.pass_on(conn);
        }
        own.turn = Turn::Unsent { sequence, bytes, due: None, is_cut: false };
        self.held.answer += bytes;
        self.answered.push(conn);
    }

    /// An answer has been sent.
    pub(in crate::node) fn sent(&mut self, conn: ConnId, sequence: u64) {
        let Some(Own { turn: Turn::Unsent { sequence: known, .. }, .. }) = self.by_conn.get(&conn) else { return };
        if *known == sequence {
            self.release(conn);
            self.pass_on(conn);
        }
    }

    /// A connection is gone. What is read for it counts until the disk is done with that.
    pub(in crate::node) fn closed(&mut self, conn: ConnId) {
        self.release(conn);
        let Some(own) = self.by_conn.get_mut(&conn) else { return };
        own.waiting.clear();
        match own.turn {
            Turn::Reading(_) => return,
            Turn::Queued(id) => self.queue.retain(|&known| known != id),
            Turn::Unsent { .. } => {}
        }
        self.by_conn.remove(&conn);
    }

    /// What an unsent answer holds is free.
    fn release(&mut self, conn: ConnId) {
        let Some(own) = self.by_conn.get(&conn) else { return };
        let Turn::Unsent { bytes, due, is_cut, .. } = own.turn else { return };
        self.held.answer -= bytes;
        if is_cut {
            self.leaving -= bytes;
        }
        if let Some(due) = due {
            self.due.remove(&(due, conn));
        }
    }

    /// A connection's turn is over: the next of its fetches queues.
    fn pass_on(&mut self, conn: ConnId) {
        let own = self.by_conn.get_mut(&conn).expect("its turn is over");
        match own.waiting.pop_front() {
            Some(next) => {
                own.turn = Turn::Queued(next);
                self.queue.push_back(next);
            }
            None => _ = self.by_conn.remove(&conn),
        }
    }

    /// Sets until when the answers of this step may lie unsent.
    fn date(&mut self, now: Instant, unsent_time_max: Duration) {
        for conn in self.answered.drain(..) {
            // It may be sent, or gone, already.
            let Some(Own { turn: Turn::Unsent { bytes, due: due @ None, .. }, .. }) = self.by_conn.get_mut(&conn)
            else {
                continue;
            };
            let at = now + unsent_time_max + Duration::from_millis(*bytes as u64 * 1000 / BYTES_PER_SECOND_MIN);
            *due = Some(at);
            self.due.insert((at, conn));
        }
    }

    /// Gives up the connection whose answer is the longest overdue, if there is one.
    fn cut(&mut self, now: Instant) -> Option<ConnId> {
        let &(at, conn) = self.due.first().filter(|&&(at, _)| at <= now)?;
        self.due.remove(&(at, conn));
        let own = self.by_conn.get_mut(&conn).expect("its answer is unsent");
        let Turn::Unsent { bytes, due, is_cut, .. } = &mut own.turn else { unreachable!("its answer is unsent") };
        (*due, *is_cut) = (None, true);
        self.leaving += *bytes;
        Some(conn)
    }

    /// The bytes held, or kept free for what is being read.
    pub(in crate::node) fn bytes(&self) -> u64 {
        self.held.bytes() as u64
    }

    /// How many fetches wait for room.
    pub(in crate::node) fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Asserts what always holds.
    pub(in crate::node) fn invariants(&self) {
        let (mut held, mut leaving, mut queued, mut due) = (Need::default(), 0, 0, 0);
        for own in self.by_conn.values() {
            match own.turn {
                Turn::Queued(_) => queued += 1,
                Turn::Reading(need) => {
                    held.answer += need.answer;
                    held.slack += need.slack;
                }
                Turn::Unsent { bytes, due: at, is_cut, .. } => {
                    held.answer += bytes;
                    leaving += if is_cut { bytes } else { 0 };
                    due += usize::from(at.is_some());
                }
            }
        }
        assert_eq!(self.held, held, "what is held is what turns hold");
        assert_eq!(self.leaving, leaving, "what is leaving is what was cut");
        assert_eq!(self.queue.len(), queued, "who is queued is in the queue");
        assert_eq!(self.due.len(), due, "an unsent answer may be overdue until it is cut");
    }
}

impl Node {
    /// Has a step made when the first of the queue may have its turn, or has waited too long for those who do not read.
    pub(in crate::node) fn plan_turns(&mut self, now: Now) {
        self.turns.date(now.instant, self.limits.fetch_unsent_time_max);
        let wanted = match self.turns.first() {
            None => None,
            Some(_) if self.has_next_turn() => Some(now.instant),
            Some(_) if self.has_turn_leaving() => None,
            Some(_) => self.turns.due.first().map(|&(at, _)| at.max(now.instant)),
        };
        if wanted != self.turns.wakes_at {
            if let Some(at) = self.turns.wakes_at {
                self.deadlines.remove(&(at, Reason::Turns));
            }
            self.deadlines.extend(wanted.map(|at| (at, Reason::Turns)));
            self.turns.wakes_at = wanted;
        }
    }

    /// The time has come that was planned.
    pub(in crate::node) fn reach_turns(&mut self, now: Now, out: &mut Outbox) {
        self.turns.wakes_at = None;
        self.next_turns(out);
        while self.turns.first().is_some() && !self.has_next_turn() && !self.has_turn_leaving() {
            let Some(conn) = self.turns.cut(now.instant) else { return };
            self.counters.connections_cut += 1;
            out.push(Effect::Cut { conn, why: "it leaves a fetch unread while others wait for the memory" });
        }
    }

    /// Whether there will be room for the first of the queue when those are gone that have been cut.
    fn has_turn_leaving(&self) -> bool {
        let held = self.turns.held.bytes() - self.turns.leaving;
        let limit = self.limits.fetch_bytes_in_flight_max;
        self.next_need().is_some_and(|(need, _)| self.turns.would_fit(need, limit, held))
    }
}
