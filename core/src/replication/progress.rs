//! A follower, as its leader knows it. States and their order: see the module's head.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Behind, Ends, Lane, Member, Peers, Settings};
use crate::ids::{Offset, Session, TopicPartition};
use crate::time::Instant;

/// One follower of one partition.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) member: Member,
    pub(super) session: Session,
    pub(super) state: State,
    /// What it has said in this session to be durable.
    pub(super) durable: Option<Offset>,
    /// Where it has said in this session that its log starts.
    pub(super) start: Offset,
    /// The most that this process has ever said to be durable in this leader epoch.
    most: Offset,
    /// It has said less than it had said before: its disk does not keep what it confirmed.
    pub(super) broke_word: bool,
    /// Whether something that was sent in this session has been acknowledged.
    has_got_on: bool,
    lag: Lag,
    /// A setting has it take only so many bytes a second while it is not in sync.
    pub(super) is_slowed: bool,
    /// The lane that its batches go in.
    pub(super) lane: Lane,
    /// The lanes that it is queued in, a bit each.
    queued: u8,
    /// What it was told last.
    told: (Offset, Offset),
}

#[derive(Debug)]
pub(super) enum State {
    /// There is no session: no connection, or nothing is tried before a moment.
    Apart { until: Option<Instant> },
    /// It is asked for its epochs.
    Greeting { below: Offset, is_said: bool },
    /// It is told where to cut.
    Cutting { to: Offset, starts_anew: bool, is_said: bool },
    /// It is sent batches.
    Streaming(Stream),
}

#[derive(Debug)]
pub(super) struct Stream {
    /// What was sent ends here.
    pub(super) sent: Offset,
    /// What was sent and is not acknowledged: the end of each message, its bytes, and whose credit it has.
    unacked: VecDeque<(Offset, usize, Lane)>,
    pub(super) unacked_bytes: usize,
    /// A segment is being read for it, in this lane.
    pub(super) reads_in: Option<Lane>,
    /// What was spent at the gate for that, in bytes.
    pub(super) spent: usize,
}

/// How long it has been behind.
#[derive(Debug)]
struct Lag {
    /// It had all that its leader had at this moment, or is given until it has been behind since then.
    caught_up: Instant,
    /// What is to be reached: the leader's end, and when it was that. `None` where it has all.
    target: Option<(Instant, Offset)>,
    /// Since when it has lacked more entries than it may.
    many_since: Option<Instant>,
}

impl Progress {
    /// A follower that nothing is known of, behind from now on. `end` is the leader's.
    pub(super) fn new(member: Member, end: Offset, now: Instant) -> Progress {
        Progress {
            member,
            session: Session(0),
            state: State::Apart { until: None },
            durable: None,
            start: Offset(0),
            most: Offset(0),
            broke_word: false,
            has_got_on: false,
            lag: Lag { caught_up: now, target: Some((now, end)), many_since: None },
            is_slowed: false,
            lane: Lane::Tail,
            queued: 0,
            told: (Offset(0), Offset(0)),
        }
    }

    /// Another process of the broker has registered: what the one before said is void.
    pub(super) fn restarted(&mut self, member: Member) {
        self.member = member;
        self.most = Offset(0);
        self.broke_word = false;
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.state {
            State::Streaming(stream) => Some(stream),
            _ => None,
        }
    }

    /// Ends the session. Nothing that belongs to it counts any more, except for what was promised.
    pub(super) fn part(&mut self, until: Option<Instant>, end: Offset, now: Instant, peers: &mut Peers) {
        if let State::Streaming(stream) = &mut self.state {
            for (_, bytes, lane) in stream.unacked.drain(..) {
                peers.give_back(self.member.replica.node, lane, bytes);
            }
        }
        self.state = State::Apart { until };
        self.durable = None;
        self.has_got_on = false;
        self.queued = 0;
        self.told = (Offset(0), Offset(0));
        self.lag.lost_sight(end, now);
    }

    /// Begins a session, after [`Progress::part`].
    pub(super) fn greet(&mut self, session: Session, partition: TopicPartition, now: Instant, peers: &mut Peers) {
        self.session = session;
        self.state = State::Greeting { below: Offset(i64::MAX), is_said: false };
        self.queue(Lane::Control, partition, now, peers);
    }

    /// Queues it at its peer, unless it is queued there.
    pub(super) fn queue(&mut self, lane: Lane, partition: TopicPartition, due: Instant, peers: &mut Peers) {
        let bit = 1 << lane as u8;
        if self.queued & bit == 0 {
            self.queued |= bit;
            peers.queue(self.member.replica.node, lane, partition, due);
        }
    }

    /// Its turn in a lane has come.
    pub(super) fn dequeued(&mut self, lane: Lane) {
        self.queued &= !(1 << lane as u8);
    }

    /// Queues it for batches where there are some that may be sent.
    pub(super) fn queue_batches(
        &mut self,
        end: Offset,
        credit: usize,
        partition: TopicPartition,
        now: Instant,
        peers: &mut Peers,
    ) {
        if self.stream().is_some_and(|stream| stream.has_more(end, credit)) {
            self.queue(self.lane, partition, now, peers);
        }
    }

    /// Whether it has heard this high watermark and log start.
    pub(super) fn knows(&self, news: (Offset, Offset)) -> bool {
        self.told == news
    }

    /// It is told.
    pub(super) fn tell(&mut self, news: (Offset, Offset)) {
        self.told = news;
    }

    /// It streams from `from` on, as both logs agree.
    pub(super) fn agreed(&mut self, from: Offset) {
        let stream = Stream { sent: from, unacked: VecDeque::new(), unacked_bytes: 0, reads_in: None, spent: 0 };
        self.state = State::Streaming(stream);
    }

    /// It has said how far it is durable, in its session. `end` is the leader's.
    pub(super) fn acknowledge(
        &mut self,
        durable: Offset,
        start: Offset,
        end: Offset,
        settings: &Settings,
        now: Instant,
        peers: &mut Peers,
    ) {
        let node = self.member.replica.node;
        let Some(stream) = self.stream() else { return };
        while let Some(&(up_to, bytes, lane)) = stream.unacked.front()
            && up_to <= durable
        {
            stream.unacked.pop_front();
            stream.unacked_bytes -= bytes;
            peers.give_back(node, lane, bytes);
        }
        self.has_got_on |= self.durable.is_some_and(|before| before < durable);
        self.broke_word |= durable < self.most;
        self.most = self.most.max(durable);
        self.durable = Some(durable);
        self.start = start;
        self.lag.reached(durable, end, settings.lag_entries_max, now);
    }

    /// The leader's log ends at `end` now, and ended at `before`.
    pub(super) fn appended(&mut self, before: Offset, end: Offset, settings: &Settings, now: Instant) {
        self.lag.appended(end, now);
        // What it has is not known while it is greeted: then the time alone counts.
        if let (Some(durable), Some(most)) = (self.durable, settings.lag_entries_max)
            && lacks(durable, end) > most
            && lacks(durable, before) <= most
        {
            self.lag.many_since.get_or_insert(now);
        }
    }

    /// How far it is behind its leader's log.
    pub(super) fn behind(&self, log: Ends, now: Instant) -> Behind {
        let has = self.durable.unwrap_or(self.most).max(log.start);
        Behind {
            records: lacks(has, log.end),
            time: self.lag.target.map_or(Duration::ZERO, |_| now - self.lag.caught_up),
        }
    }

    /// Whether it has been behind for too long.
    pub(super) fn has_fallen_behind(&self, settings: &Settings, now: Instant) -> bool {
        self.falls_behind(settings).is_some_and(|moment| moment <= now)
    }

    /// When it will have been behind for too long, unless it catches up before.
    pub(super) fn falls_behind(&self, settings: &Settings) -> Option<Instant> {
        let by_time = self.lag.target.map(|_| self.lag.caught_up + settings.lag_time_max);
        let by_entries = self.lag.many_since.map(|since| since + settings.lag_time_max);
        [by_time, by_entries].into_iter().flatten().min()
    }

    /// Whether the session has come to anything. One that has not is not tried again at once.
    pub(super) fn has_got_on(&self) -> bool {
        self.has_got_on
    }

    /// Its word is believed again, now that it counts for nothing.
    pub(super) fn forgive(&mut self) {
        self.broke_word = false;
        self.most = self.durable.unwrap_or(Offset(0));
    }
}

impl Stream {
    pub(super) fn has_more(&self, end: Offset, credit: usize) -> bool {
        self.reads_in.is_none() && self.sent < end && self.unacked_bytes < credit
    }

    /// Batches up to `up_to` leave.
    pub(super) fn send(&mut self, up_to: Offset, bytes: usize, lane: Lane) {
        self.sent = up_to;
        self.unacked.push_back((up_to, bytes, lane));
        self.unacked_bytes += bytes;
    }
}

impl Lag {
    fn appended(&mut self, end: Offset, now: Instant) {
        if self.target.is_none() {
            self.caught_up = now;
            self.target = Some((now, end));
        }
    }

    fn reached(&mut self, durable: Offset, end: Offset, entries_max: Option<u64>, now: Instant) {
        match self.target {
            _ if durable >= end => (self.caught_up, self.target) = (now, None),
            // It has what the leader had then; what the leader has now is next. With messages in flight no
            // acknowledgement ever covers the end at the one before it, so the target stays until it is reached.
            Some((since, target)) if durable >= target => (self.caught_up, self.target) = (since, Some((now, end))),
            _ => {}
        }
        if entries_max.is_none_or(|most| lacks(durable, end) <= most) {
            self.many_since = None;
        }
    }

    /// What it has is not known any more.
    fn lost_sight(&mut self, end: Offset, now: Instant) {
        self.appended(end, now);
    }
}

fn lacks(durable: Offset, end: Offset) -> u64 {
    u64::try_from(end.0 - durable.0).unwrap_or(0)
}
