//! A partition as this broker holds it: who may append, what is acknowledged, who may read what.
//!
//! The part that a replica plays follows from the metadata alone:
//!
//! ```text
//!             the metadata name this broker the leader
//!         ┌─────────────────────────────────────────────► Leading ──┐ in a newer epoch: another Leading
//!  Idle ──┤                                                 ▲ │     │
//!    ▲    │                                                 │ ▼     │
//!    │    └─────────────────────────────────────────────► Following │
//!    │        a replica, and somebody else or nobody leads          │
//!    └── damaged, or not registered yet ◄───────────────────────────┘
//! ```
//!
//! What leading and following mean is [`replication`](crate::replication)'s business, which knows no log; here the two
//! meet. A partition with one replica is led like any other, with no follower: its high watermark is its durable end.
//!
//! Damage, once the journal or segments are found to differ from what was written (recovery, a cold read, the scrub),
//! stays, after a restart too: a damaged partition answers KAFKA_STORAGE_ERROR and neither leads nor follows, so that it
//! leads nobody astray with half a log. Once the metadata count on it no more, the node throws it away and takes another
//! one in, which is made anew from its leader's.

mod follow;
mod lead;

use crate::batch::VerifiedBatch;
use crate::boundary::{DirectWrite, Refused, SegmentName};
use crate::config::{TimestampType, TopicConfig};
use crate::ids::{LeaderEpoch, Lsn, NodeId, Offset, TopicPartition};
use crate::journal;
use crate::log::{Appended, Log, Read, Sequence, Way};
use crate::peer::{Acked, Replica};
use crate::replication::{Ends, Follower, Leader, Leadership, Peers, Said, Settings, View};
use crate::time::{Instant, Timestamp};
use crate::wire::ErrorCode;

pub use follow::{Cutting, Followed};

/// A partition of which this broker holds a replica.
#[derive(Debug)]
pub struct Partition {
    id: TopicPartition,
    /// The newest leader epoch that the metadata have told of.
    epoch: LeaderEpoch,
    role: Role,
    log: Log,
    /// The epoch in which the log learnt of its high watermark; after a start, of one that is not newer.
    learnt_in: LeaderEpoch,
    damage: Option<Damage>,
}

/// What is on disk is not what was written.
#[derive(Debug)]
struct Damage {
    why: String,
    /// The newest leader epoch in which others may have relied on the log; `None` where this process never played a part.
    relied_on_in: Option<LeaderEpoch>,
}

#[derive(Debug)]
enum Role {
    Idle,
    Leading(Box<Leader>),
    Following(Box<Follower>),
}

/// The part that the metadata give to a replica.
#[derive(Clone, Debug)]
pub enum Part {
    /// None that it could play.
    Idle,
    /// It leads, and needs so many replicas in sync: `min.insync.replicas`, or all that there are.
    Lead(View, usize),
    /// It follows.
    Follow(Leadership),
}

/// By what a part is played.
#[derive(Debug)]
pub struct Stage<'a> {
    /// This broker's process.
    pub me: &'a Replica,
    /// What replication obeys.
    pub settings: &'a Settings,
    /// When.
    pub now: Instant,
    /// Whom something may be said to.
    pub peers: &'a mut Peers,
}

/// What has come of a new state in the metadata.
#[derive(Debug, Default)]
#[must_use = "whoever waits for a leader that is none any more is told so"]
pub struct Played {
    /// It leads from now on, in an epoch that it did not lead in before.
    pub begins_to_lead: bool,
    /// It led before, and does not any more in that epoch.
    pub ceases_to_lead: bool,
    /// Somebody may have to be proposed for the in-sync set, or be put out of it.
    pub proposes: bool,
    /// The leader is asked to greet.
    pub asks: Option<(NodeId, Acked)>,
}

/// What a commit of the journal has brought.
#[derive(Debug, Default)]
pub struct Confirmed {
    /// The segments that the log lets go of.
    pub gone: Vec<SegmentName>,
    /// As in [`Played`].
    pub proposes: bool,
    /// What the leader is told.
    pub said: Option<(NodeId, Said)>,
}

/// Whose batch is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client's, with the `acks` that it asked for. It obeys the topic's settings.
    Client {
        /// 0, 1, or -1 for the whole in-sync set.
        acks: i16,
    },
    /// What a coordinator of this broker has decided. Its memory is ahead of the log already, so no setting of the
    /// topic refuses it: sizes are the broker's own, and who waits for it waits for the high watermark.
    Coordinator,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Taken {
    /// The offset of its first record.
    pub base: Offset,
    /// It is acknowledged once the high watermark reaches this.
    pub end: Offset,
    /// The broker's time that its records got, -1 where they keep their own.
    pub append_time: i64,
    /// Whether it was new; a duplicate is answered like the batch that it repeats (KIP-98).
    pub appended: Option<Appended>,
    /// What goes straight to its segment.
    pub write: Option<DirectWrite>,
}

/// How far a partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// Everything below is durable here.
    pub durable: Offset,
    /// Everything below is durable on the whole in-sync set, as far as is known here; consumers read below it.
    pub high_watermark: Offset,
    /// Where read_committed readers stop.
    pub last_stable: Offset,
    /// The log start that consumers are told; `None` while it is not known.
    pub start: Option<Offset>,
}

impl Partition {
    /// Holds a replica, and plays no part yet.
    pub fn new(id: TopicPartition, log: Log) -> Partition {
        let learnt_in = log.epochs().latest().unwrap_or_default();
        Partition { id, epoch: LeaderEpoch::default(), role: Role::Idle, log, learnt_in, damage: None }
    }

    /// Takes the part that the metadata give in the leader epoch `epoch`.
    pub fn play(&mut self, epoch: LeaderEpoch, part: Part, stage: &mut Stage<'_>) -> Played {
        self.epoch = self.epoch.max(epoch);
        match part {
            _ if self.damage.is_some() => self.rest(stage.now, stage.peers),
            Part::Idle => self.rest(stage.now, stage.peers),
            Part::Lead(view, min_in_sync) => self.lead(&view, min_in_sync, stage),
            Part::Follow(leadership) => self.follow(leadership, stage),
        }
    }

    /// Whether it plays a part as this broker, registered as it is here.
    pub fn plays_as(&self, me: &Replica) -> bool {
        match &self.role {
            Role::Idle => false,
            Role::Leading(leader) => leader.node() == me,
            Role::Following(follower) => follower.broker_epoch() == me.broker_epoch,
        }
    }

    /// Plays no part any more.
    fn rest(&mut self, now: Instant, peers: &mut Peers) -> Played {
        Played { ceases_to_lead: self.leave_role(now, peers), ..Played::default() }
    }

    /// Ends the role before, and keeps what it knew of the high watermark. Returns whether it led.
    fn leave_role(&mut self, now: Instant, peers: &mut Peers) -> bool {
        let (high_watermark, learnt_in) = self.known();
        self.log.advance_high_watermark(high_watermark);
        self.learnt_in = learnt_in;
        match std::mem::replace(&mut self.role, Role::Idle) {
            Role::Leading(leader) => {
                leader.resign(now, peers);
                true
            }
            Role::Idle | Role::Following(_) => false,
        }
    }

    /// What is known of the high watermark, and the epoch in which that was learnt.
    fn known(&self) -> (Offset, LeaderEpoch) {
        match &self.role {
            Role::Idle => (self.log.high_watermark(), self.learnt_in),
            Role::Leading(leader) => (leader.high_watermark(), leader.leader_epoch()),
            Role::Following(follower) => follower.high_watermark(),
        }
    }

    /// Its identity.
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// The newest leader epoch that is known.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Whether this broker leads it.
    pub fn is_led(&self) -> bool {
        matches!(self.role, Role::Leading(_))
    }

    /// Whether this broker follows its leader.
    pub fn is_followed(&self) -> bool {
        matches!(self.role, Role::Following(_))
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its log, which is all that is left of it.
    pub fn into_log(self) -> Log {
        self.log
    }

    /// Its log, for what storage does with it.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// How far its log has come, as replication sees it.
    fn ends(&self) -> Ends {
        Ends {
            start: self.log.start(),
            durable: self.log.durable_end(),
            end: self.log.end(),
            is_cutting: self.log.is_cutting(),
        }
    }

    /// Has the log know the high watermark, which checkpoints keep, and below which nothing is ever cut.
    pub fn settle_high_watermark(&mut self) {
        self.log.advance_high_watermark(self.known().0);
    }

    /// Why it does not serve, if it does not.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_ref().map(|damage| damage.why.as_str())
    }

    /// Stops serving: what is on disk is not what was written. It plays its part until [`Partition::play`] is called.
    pub fn mark_damaged(&mut self, why: String) {
        let relied_on_in = Some(self.epoch);
        self.damage.get_or_insert(Damage { why, relied_on_in });
    }

    /// As [`Partition::mark_damaged`], by a start, before it has played any part.
    pub fn begin_damaged(&mut self, why: String) {
        self.damage.get_or_insert(Damage { why, relied_on_in: None });
    }

    /// The newest leader epoch in which others may rely on what is damaged by now. Whoever leads in a later one has never
    /// heard of it.
    pub fn relied_on_in(&self) -> Option<LeaderEpoch> {
        self.damage.as_ref()?.relied_on_in
    }

    /// How far it has come.
    pub fn advanced(&self) -> Advanced {
        let (high_watermark, start) = match &self.role {
            Role::Leading(leader) => (leader.high_watermark(), leader.start()),
            Role::Following(follower) => (follower.high_watermark().0, Some(self.log.start())),
            Role::Idle => (self.log.high_watermark(), Some(self.log.start())),
        };
        Advanced { durable: self.log.durable_end(), high_watermark, last_stable: high_watermark, start }
    }

    /// Takes note that the journal is durable up to `lsn`.
    pub fn confirm(&mut self, lsn: Lsn, now: Instant, peers: &mut Peers) -> Confirmed {
        let gone = self.log.confirm(lsn);
        let ends = self.ends();
        match &mut self.role {
            Role::Idle => Confirmed { gone, ..Confirmed::default() },
            Role::Leading(leader) => {
                let facts = leader.confirmed(ends.durable, ends.start, now, peers);
                Confirmed { gone, proposes: facts.proposes, said: None }
            }
            Role::Following(follower) => {
                let leader = follower.leadership().leader;
                Confirmed { gone, proposes: false, said: leader.zip(follower.confirmed(ends)) }
            }
        }
    }

    /// Whether it serves those who need its leader.
    fn serve(&self) -> Result<(), Refused> {
        match (&self.damage, &self.role) {
            (Some(damage), _) => {
                Err(Refused { code: ErrorCode::KafkaStorageError, message: Some(damage.why.clone().into()) })
            }
            (None, Role::Leading(_)) => Ok(()),
            (None, Role::Idle | Role::Following(_)) => Err(ErrorCode::NotLeaderOrFollower.into()),
        }
    }

    /// Whether it serves those who may read from a follower.
    fn serve_reader(&self) -> Result<(), Refused> {
        match self.role {
            Role::Following(_) if self.damage.is_none() => Ok(()),
            _ => self.serve(),
        }
    }

    /// Checks that it is led here, in the leader epoch that a client believes in (KIP-320); -1 is "none".
    ///
    /// # Errors
    /// FENCED_LEADER_EPOCH for an older one, UNKNOWN_LEADER_EPOCH for a newer one, KAFKA_STORAGE_ERROR for damage,
    /// NOT_LEADER_OR_FOLLOWER.
    pub fn check_epoch(&self, believed: i32) -> Result<(), Refused> {
        self.check_belief(believed)?;
        self.serve()
    }

    /// As [`Partition::check_epoch`] for who may read from a follower, too.
    ///
    /// # Errors
    /// As [`Partition::check_epoch`].
    pub fn check_reader(&self, believed: i32) -> Result<(), Refused> {
        self.check_belief(believed)?;
        self.serve_reader()
    }

    /// As [`Partition::check_epoch`] for who asks about this very replica, whatever its part.
    ///
    /// # Errors
    /// As [`Partition::check_epoch`], except that a replica that does not lead answers, too.
    pub fn check_replica(&self, believed: i32) -> Result<(), Refused> {
        self.check_belief(believed)
    }

    /// Who believes in another epoch is told so first: it knows less, or more, of the leader than this broker.
    fn check_belief(&self, believed: i32) -> Result<(), Refused> {
        match believed {
            _ if self.damage.is_some() => self.serve(),
            -1 => Ok(()),
            older if older < self.epoch.0 => Err(ErrorCode::FencedLeaderEpoch.into()),
            newer if newer > self.epoch.0 => Err(ErrorCode::UnknownLeaderEpoch.into()),
            _ => Ok(()),
        }
    }

    /// Whether a batch may be appended now, and as what; changes nothing.
    fn admit(
        &self,
        batch: &VerifiedBatch,
        origin: Origin,
        config: &TopicConfig,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.serve()?;
        let Origin::Client { acks } = origin else { return Ok(()) };
        let bytes = batch.batch_bytes();
        if bytes > config.max_message_bytes as usize {
            let limit = config.max_message_bytes;
            let message = format!("a batch of {bytes} bytes is larger than max.message.bytes = {limit}");
            return Err(Refused { code: ErrorCode::MessageTooLarge, message: Some(message.into()) });
        }
        if config.cleanup_policy.compacts && batch.has_null_key() {
            let message = "a record without a key cannot be stored in a compacted topic";
            return Err(Refused { code: ErrorCode::InvalidRecord, message: Some(message.to_owned().into()) });
        }
        if acks == -1 && self.is_below_minimum() {
            return Err(ErrorCode::NotEnoughReplicas.into());
        }
        if batch.head().attributes.is_transactional() {
            // Fatal to every client: nobody retries it, and no transaction is half begun.
            let message = "transactions are not served by this broker";
            return Err(Refused {
                code: ErrorCode::TransactionalIdAuthorizationFailed,
                message: Some(message.to_owned().into()),
            });
        }
        if config.message_timestamp_type == TimestampType::CreateTime {
            let oldest = now.0.saturating_sub(config.message_timestamp_before_max_ms);
            let newest = now.0.saturating_add(config.message_timestamp_after_max_ms);
            // Records without a timestamp are none of the bounds' business.
            let max = batch.max_timestamp().0;
            if batch.min_timestamp().is_some_and(|min| min.0 < oldest || max > newest) {
                let message = format!("a record's timestamp is not within {oldest}..={newest}, as the topic asks");
                return Err(Refused { code: ErrorCode::InvalidTimestamp, message: Some(message.into()) });
            }
        }
        Ok(())
    }

    /// Appends a batch, or recognises it as a duplicate. From `direct_from` bytes on it goes straight to its segment,
    /// where blocks are reserved for it.
    ///
    /// # Errors
    /// [`Refused`] with the code that Kafka gives; then nothing has changed.
    pub fn append(
        &mut self,
        batch: &VerifiedBatch,
        origin: Origin,
        config: &TopicConfig,
        now: Timestamp,
        direct_from: u64,
        journal: &mut journal::Writer,
    ) -> Result<Taken, Refused> {
        self.admit(batch, origin, config, now)?;
        let stamped;
        let (batch, append_time) = match config.message_timestamp_type {
            TimestampType::CreateTime => (batch, -1),
            TimestampType::LogAppendTime => {
                stamped = batch.clone().with_log_append_time(now);
                (&stamped, now.0)
            }
        };
        if let Sequence::Duplicate(known) = self.log.judge(batch.head())? {
            let time = if append_time == -1 { -1 } else { known.timestamp.0 };
            let end = Offset(known.last.0 + 1);
            return Ok(Taken { base: known.base, end, append_time: time, appended: None, write: None });
        }
        self.log.begin_epoch(self.epoch, journal);
        let bytes = batch.batch_bytes() as u64;
        self.roll_for(bytes, config, now, journal);
        let way = self.way(bytes, direct_from);
        let (appended, write) = self.log.append(batch, self.epoch, now, way, journal);
        Ok(Taken { base: appended.base, end: appended.end, append_time, appended: Some(appended), write })
    }

    /// Begins a new segment where a batch of `bytes` would fill the active one too much, or that one is too old.
    fn roll_for(&mut self, bytes: u64, config: &TopicConfig, now: Timestamp, journal: &mut journal::Writer) {
        if self.log.wants_roll(bytes, now, u64::from(config.segment_bytes), config.segment_age_max_ms()) {
            self.log.roll(journal);
        }
    }

    fn way(&self, bytes: u64, direct_from: u64) -> Way {
        if bytes >= direct_from && self.log.is_allocated(bytes) { Way::Direct } else { Way::Journal }
    }

    /// Finds what a consumer may read from `offset` on, here, where it is led or followed.
    ///
    /// # Errors
    /// OFFSET_OUT_OF_RANGE below the log start or above the log's end, KAFKA_STORAGE_ERROR for damage,
    /// NOT_LEADER_OR_FOLLOWER.
    pub fn read(&self, offset: Offset, max_bytes: usize) -> Result<Read, Refused> {
        self.serve_reader()?;
        let limit = self.advanced().high_watermark;
        if offset < self.log.start() || offset > self.log.end() {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        Ok(self.log.read(offset, limit, max_bytes))
    }
}
