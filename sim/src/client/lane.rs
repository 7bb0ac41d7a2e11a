//! What a producer has to send to one partition, in order, until each batch's fate is known or given up.
//!
//! | batch | becomes | when |
//! | --- | --- | --- |
//! | waiting | in flight | it is sent: the first that waits, and of an idempotent producer only behind batches in flight |
//! | in flight | gone | it was taken, or refused for good |
//! | in flight | waiting | its connection was lost, or an error says to try again |
//! | waiting | gone | its delivery timeout has passed, or a renewal finds its fate open |
//!
//! **Identities.** An idempotent producer sends each batch under a producer id, an epoch and a sequence, and sends the
//! same bytes again until it hears of them. One batch alone is in flight until the broker has acknowledged the first
//! of an identity, since a broker that does not know a producer takes whatever sequence comes first (KIP-360).
//! Where a batch is given up or refused for good, the sequences behind it have a gap; where the topic was another for
//! a while, the two sides may differ. Then the lane *renews*: it waits until nothing is in flight, gives up what may
//! have been appended, and sends the rest under a new id from its first sequence, as further attempts.
//!
//! **What errors leave open.** The broker checks before it appends, and says KAFKA_STORAGE_ERROR, MESSAGE_TOO_LARGE and
//! their like only then: such a batch was not appended. UNKNOWN_TOPIC_OR_PARTITION is also the answer to a batch that
//! was appended and waited for its commit when its topic was deleted; if the machine then dies before the deletion is
//! durable, the batch may be back. So it leaves the fate open, as a timeout and a lost connection do. Of several brokers
//! one that stops leading says NOT_LEADER_OR_FOLLOWER of what it has appended and its followers may have.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use chronik_core::batch::{BatchBuilder, Codec};
use chronik_core::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use chronik_core::time::{Instant, Timestamp};
use chronik_core::wire::ErrorCode;

use super::{ClientNow, Wanted};
use crate::history::What;
use crate::value::{self, Attempt, Keys, VALUE_BYTES_MIN};

/// The wait before a batch is sent again after its first error ...
const BACKOFF_MS_MIN: u64 = 100;
/// ... and after many.
const BACKOFF_MS_MAX: u64 = 1_000;

/// How many batches of a producer a broker remembers, so that they may be sent again (KIP-98). While some are under way to a
/// leader that was deposed, the new one must not be sent so many behind them that it forgets those.
const REMEMBERED: u64 = 5;

/// The queue of one partition.
#[derive(Debug)]
pub(super) struct Lane {
    /// The topic's index in the plan.
    pub(super) topic: usize,
    pub(super) partition: i32,
    keys: Keys,
    common: Common,
    queue: VecDeque<Batch>,
    in_flight: usize,
    /// How many batches were made.
    made: u64,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Something was acknowledged under this identity.
    is_known: bool,
    /// There is a gap in the sequences, or the topic is another.
    must_renew: bool,
    /// An error came: what is in flight is waited for, then all is sent again.
    rewinds: bool,
    not_before: Instant,
    failures: u32,
}

/// What all lanes of a producer have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    /// The client's index in the plan.
    pub(super) client: u32,
    pub(super) is_idempotent: bool,
    pub(super) acks: i16,
    pub(super) is_by_id: bool,
    /// The broker may have lost what it acknowledged, as a plan beyond its promises lets it.
    pub(super) may_forget: bool,
    /// There are several brokers: a leader may append, and then be told that it leads no more.
    pub(super) has_leaders: bool,
    /// The sequence that every identity begins with.
    pub(super) first_sequence: i32,
}

/// Under what an idempotent producer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// One operation's batch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) operation: u32,
    pub(super) deadline: Instant,
    pub(super) records: u32,
    pub(super) value_bytes: u32,
    pub(super) codec: u8,
    /// How long before it is made what it tells of happened, in milliseconds.
    late_ms: i64,
    number: u32,
    made: Option<Made>,
    is_in_flight: bool,
    /// A sending of this attempt may have been appended.
    is_open: bool,
    last: Option<ErrorCode>,
}

/// What a batch is once it was sent: sent again, it is the same.
#[derive(Clone, Debug)]
struct Made {
    bytes: Bytes,
    sequence: Option<(i64, i16, i32)>,
    timestamp: i64,
    to: TopicPartition,
    /// Which one of its lane's it is.
    ordinal: u64,
}

/// How a sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Taken, at this offset.
    Taken { base: Offset, log_start: Offset },
    /// An answer with an error.
    Failed(ErrorCode),
    /// No answer.
    Lost,
}

/// What an error of Produce means to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Not appended; try again.
    Later,
    /// Perhaps appended; try again.
    Open,
    /// Not appended, and never will be.
    Never,
    /// Not appended: the broker misses what came before it.
    Sequence,
    /// No sound broker says this to a sound client.
    Absurd,
}

fn meaning(code: ErrorCode) -> Meaning {
    use ErrorCode as E;
    match code {
        E::KafkaStorageError
        | E::NotLeaderOrFollower
        | E::LeaderNotAvailable
        | E::NotEnoughReplicas
        | E::FencedLeaderEpoch
        | E::UnknownLeaderEpoch
        | E::ThrottlingQuotaExceeded
        | E::UnknownTopicId => Meaning::Later,
        E::UnknownTopicOrPartition | E::RequestTimedOut | E::NotEnoughReplicasAfterAppend | E::NetworkException => {
            Meaning::Open
        }
        E::MessageTooLarge | E::RecordListTooLarge | E::InvalidTimestamp | E::PolicyViolation => Meaning::Never,
        E::OutOfOrderSequenceNumber | E::UnknownProducerId | E::InvalidProducerEpoch => Meaning::Sequence,
        _ => Meaning::Absurd,
    }
}

/// Whether an error says that the client's picture of the topic is old.
pub(super) fn is_about_topic(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::UnknownTopicOrPartition
            | E::UnknownTopicId
            | E::NotLeaderOrFollower
            | E::LeaderNotAvailable
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::ReplicaNotAvailable
    )
}

impl Batch {
    pub(super) fn new(operation: u32, deadline: Instant, records: u32, value_bytes: u32, codec: u8) -> Batch {
        Batch {
            operation,
            deadline,
            records: records.max(1),
            value_bytes: value_bytes.max(VALUE_BYTES_MIN),
            codec,
            late_ms: 0,
            number: 0,
            made: None,
            is_in_flight: false,
            is_open: false,
            last: None,
        }
    }

    /// What it tells of happened so long before it is made, in milliseconds.
    pub(super) fn late_by(mut self, ms: u64) -> Batch {
        self.late_ms = i64::try_from(ms).expect("a run of hours");
        self
    }

    fn make(
        &mut self,
        client: u32,
        now: ClientNow,
        to: TopicPartition,
        identity: Option<(Identity, i32)>,
        keys: Keys,
        ordinal: u64,
    ) -> Made {
        let attempt = self.attempt(client);
        let codec = Codec::ALL[usize::from(self.codec) % Codec::ALL.len()];
        let mut batch = BatchBuilder::new().codec(codec);
        if let Some((Identity { id, epoch }, sequence)) = identity {
            batch = batch.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        }
        // Timestamps rise to the present, or to a while before it, a millisecond apart.
        let newest = now.wall.0 - self.late_ms;
        for index in 0..self.records {
            let timestamp = Timestamp(newest - i64::from(self.records - 1 - index));
            let sent = value::record(keys, attempt, index, self.value_bytes);
            let header = sent.header.as_ref().map(|header| (value::OF, Some(header.as_ref())));
            let (key, value) = (sent.key.as_deref(), sent.value.as_deref());
            batch = batch.record_with_headers(timestamp, key, value, header.as_slice());
        }
        let sequence = identity.map(|(Identity { id, epoch }, sequence)| (id, epoch, sequence));
        Made { bytes: batch.build(), sequence, timestamp: newest, to, ordinal }
    }

    fn attempt(&self, client: u32) -> Attempt {
        Attempt { client, operation: self.operation, number: self.number }
    }

    /// Ends the attempt without an acknowledgement.
    fn record_failure(&self, client: u32, wanted: &mut Vec<Wanted>) {
        let Some(made) = &self.made else { return };
        let (to, attempt) = (made.to, self.attempt(client));
        let what = match self.last {
            Some(code) if !self.is_open => What::ProduceRefused { to, attempt, code },
            _ => What::ProduceUnknown { to, attempt },
        };
        wanted.push(Wanted::Record(Some(self.operation), what));
    }

    /// Ends the operation without success.
    fn give_up(&self, client: u32, wanted: &mut Vec<Wanted>) {
        self.record_failure(client, wanted);
        wanted.push(Wanted::Record(Some(self.operation), What::Finished { is_ok: false, code: self.last }));
    }

    /// Makes of it the next attempt.
    fn renew(&mut self, client: u32, wanted: &mut Vec<Wanted>) {
        if self.made.is_some() {
            self.record_failure(client, wanted);
            self.number += 1;
        }
        (self.made, self.is_open) = (None, false);
    }
}

impl Lane {
    pub(super) fn new(topic: usize, partition: i32, keys: Keys, common: Common) -> Lane {
        Lane {
            topic,
            partition,
            keys,
            common,
            queue: VecDeque::new(),
            in_flight: 0,
            made: 0,
            identity: None,
            next_sequence: common.first_sequence,
            is_known: false,
            must_renew: false,
            rewinds: false,
            not_before: Instant(0),
            failures: 0,
        }
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.queue.push_back(batch);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether it waits for an identity.
    pub(super) fn wants_identity(&self) -> bool {
        self.common.is_idempotent && self.identity.is_none() && !self.queue.is_empty()
    }

    /// The identity that it writes under.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(super) fn identify(&mut self, identity: Identity) {
        (self.identity, self.next_sequence, self.is_known) = (Some(identity), self.common.first_sequence, false);
    }

    /// The topic is another now, or gone.
    pub(super) fn topic_changed(&mut self) {
        self.must_renew |= self.identity.is_some();
    }

    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        let client = self.common.client;
        while let Some(batch) = self.queue.front().filter(|batch| !batch.is_in_flight && batch.deadline <= now.instant)
        {
            batch.give_up(client, wanted);
            self.must_renew |= self.common.is_idempotent && batch.made.is_some();
            self.queue.pop_front();
        }
    }

    /// When something changes by time alone.
    pub(super) fn wake(&self, now: ClientNow) -> Option<Instant> {
        let front = self.queue.front().filter(|batch| !batch.is_in_flight)?;
        let retry = (self.not_before > now.instant).then_some(self.not_before);
        Some(retry.map_or(front.deadline, |retry| retry.min(front.deadline)))
    }

    /// Drops the identity where it is spoilt and nothing is under way.
    pub(super) fn renew(&mut self, wanted: &mut Vec<Wanted>) {
        let client = self.common.client;
        if self.in_flight > 0 {
            return;
        }
        self.rewinds = false;
        if !std::mem::take(&mut self.must_renew) {
            return;
        }
        self.identity = None;
        self.queue.retain_mut(|batch| {
            if batch.is_open {
                batch.give_up(client, wanted);
                return false;
            }
            batch.renew(client, wanted);
            true
        });
    }

    /// The place of the batch that may be sent now.
    pub(super) fn next(&self, now: ClientNow) -> Option<usize> {
        if self.queue.len() == self.in_flight || now.instant < self.not_before {
            return None;
        }
        if self.common.is_idempotent {
            let is_held = self.must_renew || self.rewinds || self.identity.is_none();
            if is_held || !self.is_known && self.in_flight > 0 {
                return None;
            }
        }
        let place = self.queue.iter().position(|batch| !batch.is_in_flight)?;
        let oldest = self.queue.front().and_then(|batch| batch.made.as_ref());
        let would_forget = oldest.is_some_and(|oldest| self.made - oldest.ordinal >= REMEMBERED);
        let is_new = self.queue[place].made.is_none();
        (!self.common.is_idempotent || !is_new || !would_forget).then_some(place)
    }

    /// Sends the batch at `place`: records it and returns its operation and bytes.
    pub(super) fn send(
        &mut self,
        place: usize,
        now: ClientNow,
        to: TopicPartition,
        wanted: &mut Vec<Wanted>,
    ) -> (u32, Bytes) {
        let Common { client, acks, is_by_id, .. } = self.common;
        let batch = &mut self.queue[place];
        if batch.made.is_none() {
            let identity = self.identity.map(|identity| (identity, self.next_sequence));
            if let (Some((_, sequence)), Ok(records)) = (identity, i32::try_from(batch.records)) {
                // Sequences go round from the largest to 0.
                self.next_sequence = sequence.wrapping_add(records) & i32::MAX;
            }
            batch.made = Some(batch.make(client, now, to, identity, self.keys, self.made));
            self.made += 1;
        }
        let (operation, attempt) = (batch.operation, batch.attempt(client));
        let (records, value_bytes) = (batch.records, batch.value_bytes);
        let made = batch.made.as_mut().expect("it was just made");
        made.to = to;
        let (sequence, timestamp) = (made.sequence, made.timestamp);
        let bytes = made.bytes.clone();
        let what = What::Produce { to, attempt, records, value_bytes, acks, sequence, timestamp, is_by_id };
        wanted.push(Wanted::Record(Some(operation), what));
        if acks == 0 {
            // Nobody will tell what became of it.
            wanted.push(Wanted::Record(Some(operation), What::ProduceUnknown { to, attempt }));
            wanted.push(Wanted::Record(Some(operation), What::Finished { is_ok: true, code: None }));
            self.queue.remove(place);
        } else {
            batch.is_in_flight = true;
            self.in_flight += 1;
        }
        (operation, bytes)
    }

    /// A sending of an operation's batch has ended. Returns a sentence where the broker broke the protocol.
    pub(super) fn settle(
        &mut self,
        operation: u32,
        fate: Fate,
        now: ClientNow,
        jitter: impl FnOnce(u64) -> u64,
        wanted: &mut Vec<Wanted>,
    ) -> Option<String> {
        let Common { client, acks, may_forget, has_leaders, is_by_id, .. } = self.common;
        let place = self.queue.iter().position(|batch| batch.operation == operation);
        let place = place.expect("a batch in flight stays in its queue");
        let batch = &mut self.queue[place];
        assert!(std::mem::replace(&mut batch.is_in_flight, false), "a sending ends once");
        self.in_flight -= 1;
        let code = match fate {
            Fate::Taken { base, log_start } => {
                let (to, attempt) = (batch.made.as_ref().expect("it was sent").to, batch.attempt(client));
                let records = batch.records;
                let what = What::Produced { to, attempt, base, log_start, records, acks };
                wanted.push(Wanted::Record(Some(operation), what));
                wanted.push(Wanted::Record(Some(operation), What::Finished { is_ok: true, code: None }));
                self.queue.remove(place);
                (self.is_known, self.failures) = (true, 0);
                let mut before = self.queue.iter().take(place);
                // A leader that was deposed may have taken what it has yet to answer.
                let may_be_there = |batch: &Batch| batch.is_open || has_leaders && batch.is_in_flight;
                let has_gap = self.common.is_idempotent && !self.must_renew && before.any(|batch| !may_be_there(batch));
                if has_gap {
                    self.must_renew = true;
                    let what = "a batch is taken although the one before it in sequence was not".to_owned();
                    let what = What::OutOfSequence { to, is_by_id, is_again: false, what };
                    wanted.push(Wanted::Record(Some(operation), what));
                }
                return None;
            }
            Fate::Failed(code) => {
                let to = batch.made.as_ref().expect("it was sent").to;
                wanted.push(Wanted::Record(Some(operation), What::ProduceFailed { to, code }));
                Some(code)
            }
            Fate::Lost => None,
        };
        batch.last = code.or(batch.last);
        let meaning = match code {
            None => Meaning::Open,
            Some(ErrorCode::NotLeaderOrFollower) if has_leaders => Meaning::Open,
            Some(code) => meaning(code),
        };
        batch.is_open |= matches!(meaning, Meaning::Open | Meaning::Absurd);
        let mut broken = None;
        match meaning {
            Meaning::Absurd => broken = Some(format!("a sound batch is refused with {}", shown(code))),
            Meaning::Sequence => {
                // Behind a batch that is not there the broker must refuse; nothing is before the front.
                let is_expected = place > 0 || self.must_renew;
                if !is_expected && !may_forget {
                    let to = batch.made.as_ref().expect("it was sent").to;
                    let what = format!("the next batch in sequence is refused with {}", shown(code));
                    let what = What::OutOfSequence { to, is_by_id, is_again: batch.is_open, what };
                    wanted.push(Wanted::Record(Some(operation), what));
                }
                self.must_renew |= !is_expected;
            }
            Meaning::Later | Meaning::Open | Meaning::Never => {}
        }
        if matches!(meaning, Meaning::Never | Meaning::Absurd) {
            batch.give_up(client, wanted);
            self.queue.remove(place);
            self.must_renew |= self.common.is_idempotent;
            return broken;
        }
        if self.common.is_idempotent {
            self.rewinds = true;
            self.must_renew |= matches!(code, Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId));
        } else {
            batch.renew(client, wanted);
        }
        if code.is_some() {
            let wait = (BACKOFF_MS_MIN << self.failures.min(4)).min(BACKOFF_MS_MAX);
            self.failures += 1;
            self.not_before = now.instant + Duration::from_millis(wait + jitter(wait / 2 + 1));
        }
        broken
    }
}

fn shown(code: Option<ErrorCode>) -> &'static str {
    code.map_or("nothing", ErrorCode::name)
}
