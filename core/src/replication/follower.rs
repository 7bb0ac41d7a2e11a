//! A partition that is followed here: whom to believe, what to take, and what to say.
//!
//! A follower believes only the leader that the metadata name, in the epoch that they name, in the newest session that
//! this leader has begun. It says what is durable, and nothing before its log agrees with the leader's: so neither an
//! acknowledgement nor a high watermark is ever about a history that is to be cut (KAFKA-14704).

use super::{Ends, newest_epochs};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, Session, TopicPartition};
use crate::peer::{Acked, Append, Cut, Epochs, Greet};

/// Who leads, by the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader; none where nobody can lead.
    pub leader: Option<NodeId>,
    /// The number of its leadership.
    pub leader_epoch: LeaderEpoch,
    /// The last leadership that began with an election outside the in-sync set, if there was one. What was known before
    /// of a high watermark may be void since.
    pub unclean_epoch: Option<LeaderEpoch>,
}

/// What to do about a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutDecision {
    /// Nothing: it belongs to another session.
    Ignore,
    /// The log ends there as it is; say so.
    Done(Acked),
    /// Cut the log. That it is done will be said when it is durable.
    Cut(Offset),
    /// Empty the log, which starts there from now on; then as with a cut.
    StartAnew(Offset),
    /// It would cut what the in-sync set is known to hold, and no unclean election was declared. The replica takes no
    /// further part; somebody has to look at it.
    BelowHighWatermark {
        /// Where it was to be cut.
        to: Offset,
        /// What is known to be held.
        high_watermark: Offset,
    },
}

/// What to say to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The log ends where it was to be cut.
    CutDone(Acked),
    /// So far it has come.
    Acked(Acked),
}

/// What to do about batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing: they belong to another session.
    Ignored,
    /// They do not follow the log; say so.
    Mismatch(Acked),
    /// Append them, if there are any; then the high watermark and the log start are these at least.
    Append {
        /// The high watermark, within the log.
        high_watermark: Offset,
        /// The log start, within the log.
        start: Offset,
    },
}

/// A partition that this node follows.
#[derive(Debug)]
pub struct Follower {
    partition: TopicPartition,
    broker_epoch: BrokerEpoch,
    leadership: Leadership,
    state: State,
    /// The newest session of the leadership.
    session: Session,
    high_watermark: Offset,
    /// The leadership in which that was heard of.
    heard_in: LeaderEpoch,
    /// What was acknowledged last in this session: the durable end and the start.
    acked: Option<(Offset, Offset)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has greeted it, or what was said did not fit.
    Waiting,
    /// It has told its epochs.
    Agreeing,
    /// Its cut is not durable yet.
    Cutting,
    /// It takes batches.
    Following,
}

impl Follower {
    /// As which process it follows: what its broker was registered under.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        self.broker_epoch
    }

    /// Follows from now on. `high_watermark` is what this node knew of it before, heard in the leadership `heard_in`.
    /// Send what is returned to the leader: it may have greeted before this node knew that it leads.
    pub fn new(
        partition: TopicPartition,
        broker_epoch: BrokerEpoch,
        leadership: Leadership,
        log: Ends,
        high_watermark: Offset,
        heard_in: LeaderEpoch,
    ) -> (Follower, Acked) {
        let follower = Follower {
            partition,
            broker_epoch,
            leadership,
            state: State::Waiting,
            session: Session(0),
            high_watermark: high_watermark.max(log.start).min(log.end),
            heard_in,
            acked: None,
        };
        let asks = follower.ask(log);
        (follower, asks)
    }

    /// Another leadership has begun. As with [`Follower::new`], the leader is to be sent what is returned. An older one
    /// than is known changes nothing.
    pub fn follow(&mut self, leadership: Leadership, log: Ends) -> Option<Acked> {
        if leadership.leader_epoch <= self.leadership.leader_epoch {
            return None;
        }
        self.leadership = leadership;
        self.session = Session(0);
        Some(self.resume(log))
    }

    /// Takes nothing more for a while, since the disk has no room: not a word, so that nobody sends it again and again.
    pub fn interrupt(&mut self) {
        self.state = State::Waiting;
    }

    /// Can take batches again. Send what is returned to the leader.
    pub fn resume(&mut self, log: Ends) -> Acked {
        self.state = State::Waiting;
        self.ask(log)
    }

    /// Who leads.
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// Up to where the in-sync set is known to hold everything, and the leadership in which that was heard.
    pub fn high_watermark(&self) -> (Offset, LeaderEpoch) {
        (self.high_watermark, self.heard_in)
    }

    fn is_from_leader(&self, from: NodeId, epoch: LeaderEpoch) -> bool {
        self.leadership.leader == Some(from) && self.leadership.leader_epoch == epoch
    }

    /// A leader begins a session; `epochs` are those of this log, oldest first. Returns what to answer.
    pub fn on_greet(
        &mut self,
        from: NodeId,
        greet: &Greet,
        epochs: &[(LeaderEpoch, Offset)],
        log: Ends,
    ) -> Option<Epochs> {
        let asks_on = self.state == State::Agreeing && greet.session == self.session;
        if !self.is_from_leader(from, greet.leader_epoch) || !(greet.session > self.session || asks_on) {
            return None;
        }
        self.session = greet.session;
        self.state = State::Agreeing;
        Some(Epochs {
            partition: self.partition,
            leader_epoch: greet.leader_epoch,
            session: greet.session,
            broker_epoch: self.broker_epoch,
            start: log.start,
            end: log.end,
            high_watermark: if self.has_void_high_watermark() { Offset(0) } else { self.high_watermark },
            epochs: newest_epochs(epochs, greet.below).to_vec(),
        })
    }

    /// Whether an election outside the in-sync set came after what was heard of the high watermark.
    fn has_void_high_watermark(&self) -> bool {
        self.leadership.unclean_epoch.is_some_and(|epoch| epoch > self.heard_in)
    }

    /// The leader says where its log and this one part.
    pub fn on_cut(&mut self, from: NodeId, cut: &Cut, log: Ends) -> CutDecision {
        if !self.is_from_leader(from, cut.leader_epoch)
            || cut.session != self.session
            || self.state != State::Agreeing
            || cut.to < Offset(0)
        {
            return CutDecision::Ignore;
        }
        let to = cut.to;
        let is_void = self.has_void_high_watermark();
        if to < self.high_watermark && !is_void {
            self.state = State::Waiting;
            return CutDecision::BelowHighWatermark { to, high_watermark: self.high_watermark };
        }
        let starts_anew = cut.starts_anew || to < log.start;
        if to > log.end && !starts_anew {
            // No leader says so: it has just been told where this log ends.
            self.state = State::Waiting;
            return CutDecision::Ignore;
        }
        // A log that starts anew starts at what its leader keeps, so everything below was held by the in-sync set once
        // (KAFKA-9491). One that is cut has lost what it knew only where that was void.
        self.high_watermark = if starts_anew { to } else { self.high_watermark.min(to) };
        self.state = State::Cutting;
        if to == log.end && (!starts_anew || log.start == to) {
            // A cut of an earlier session may be on its way to the disk still.
            return self.cut_done(log).map_or(CutDecision::Ignore, CutDecision::Done);
        }
        if starts_anew { CutDecision::StartAnew(to) } else { CutDecision::Cut(to) }
    }

    fn cut_done(&mut self, log: Ends) -> Option<Acked> {
        if self.state != State::Cutting || log.is_cutting {
            return None;
        }
        self.state = State::Following;
        self.acked = Some((log.durable, log.start));
        Some(self.acked_now(self.session, log))
    }

    /// Whether what a leader sends belongs to the session that is under way.
    pub fn takes(&self, from: NodeId, append: &Append) -> bool {
        self.is_from_leader(from, append.leader_epoch)
            && append.session == self.session
            && self.state == State::Following
    }

    /// The leader sends batches: the first begins at `batches.0`, the last ends at `batches.1`; none for news alone.
    pub fn on_append(&mut self, from: NodeId, append: &Append, batches: Option<(Offset, Offset)>, log: Ends) -> Taken {
        if !self.takes(from, append) {
            return Taken::Ignored;
        }
        let follows = |(base, end): (Offset, Offset)| {
            // The batch that holds the leader's log start may begin below it (KAFKA-6975). Compaction leaves gaps.
            (base >= log.end || log.start == log.end) && log.end < end
        };
        if append.previous_end != log.end || !batches.is_none_or(follows) {
            self.state = State::Waiting;
            return Taken::Mismatch(self.acked_now(self.session, log));
        }
        let end = batches.map_or(log.end, |(_, end)| end);
        self.high_watermark = self.high_watermark.max(append.high_watermark.min(end));
        self.heard_in = self.leadership.leader_epoch;
        // What is said to be gone is held by the in-sync set, as the high watermark is.
        let start = append.start.min(self.high_watermark).max(log.start);
        Taken::Append { high_watermark: self.high_watermark, start }
    }

    /// What to say after a commit of the journal that concerns this log.
    pub fn confirmed(&mut self, log: Ends) -> Option<Said> {
        match self.state {
            State::Waiting | State::Agreeing => None,
            State::Cutting => self.cut_done(log).map(Said::CutDone),
            State::Following if self.acked == Some((log.durable, log.start)) => None,
            State::Following => {
                self.acked = Some((log.durable, log.start));
                Some(Said::Acked(self.acked_now(self.session, log)))
            }
        }
    }

    fn ask(&self, log: Ends) -> Acked {
        self.acked_now(Session(0), log)
    }

    fn acked_now(&self, session: Session, log: Ends) -> Acked {
        Acked {
            partition: self.partition,
            leader_epoch: self.leadership.leader_epoch,
            session,
            broker_epoch: self.broker_epoch,
            durable_end: log.durable,
            end: log.end,
            start: log.start,
        }
    }
}
