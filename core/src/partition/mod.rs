//! A partition as its leader serves it: who may append, what is acknowledged, who may read what.
//!
//! States: `Serving` from birth on; `Damaged` once its journal or segments are found to differ from what was written
//! (recovery, a cold read, the scrub). A damaged partition answers KAFKA_STORAGE_ERROR and stays so, after a restart
//! too; it never leads others astray with half a log. The in-sync set of a standalone node is the node itself, so the
//! high watermark is the durable end.

use crate::batch::VerifiedBatch;
use crate::boundary::{DirectWrite, Refused, SegmentName};
use crate::config::{TimestampType, TopicConfig};
use crate::ids::{LeaderEpoch, Lsn, Offset, TopicPartition};
use crate::journal;
use crate::log::{Appended, Log, Read, Sequence, Way};
use crate::time::Timestamp;
use crate::wire::ErrorCode;

/// A partition that this node leads.
#[derive(Debug)]
pub struct Partition {
    id: TopicPartition,
    epoch: LeaderEpoch,
    in_sync: usize,
    log: Log,
    damage: Option<String>,
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
    /// Everything below is durable on the whole in-sync set; consumers read below it.
    pub high_watermark: Offset,
    /// Where read_committed readers stop.
    pub last_stable: Offset,
}

impl Partition {
    /// Leads a log in an epoch.
    pub fn lead(id: TopicPartition, epoch: LeaderEpoch, mut log: Log) -> Partition {
        log.advance_high_watermark(log.durable_end());
        Partition { id, epoch, in_sync: 1, log, damage: None }
    }

    /// Goes on leading in a later epoch.
    pub fn lead_in(&mut self, epoch: LeaderEpoch) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Its identity.
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// The epoch that it is led in.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Whether too few replicas are in sync for what is written to be safe, by its topic's settings.
    pub fn is_below_minimum(&self, config: &TopicConfig) -> bool {
        config.min_insync_replicas as usize > self.in_sync
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its log, for what storage does with it.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Why it does not serve, if it does not.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Stops serving: what is on disk is not what was written.
    pub fn mark_damaged(&mut self, why: String) {
        self.damage.get_or_insert(why);
    }

    /// How far it has come.
    pub fn advanced(&self) -> Advanced {
        let durable = self.log.durable_end();
        Advanced { durable, high_watermark: durable, last_stable: durable }
    }

    /// Takes note that the journal is durable up to `lsn`. Returns the segments that the log lets go of by that.
    pub fn confirm(&mut self, lsn: Lsn) -> Vec<SegmentName> {
        let gone = self.log.confirm(lsn);
        self.log.advance_high_watermark(self.log.durable_end());
        gone
    }

    fn serve(&self) -> Result<(), Refused> {
        match &self.damage {
            None => Ok(()),
            Some(why) => Err(Refused { code: ErrorCode::KafkaStorageError, message: Some(why.clone().into()) }),
        }
    }

    /// Checks a leader epoch that a client believes in (KIP-320); -1 is "none".
    ///
    /// # Errors
    /// FENCED_LEADER_EPOCH for an older one, UNKNOWN_LEADER_EPOCH for a newer one, KAFKA_STORAGE_ERROR for damage.
    pub fn check_epoch(&self, believed: i32) -> Result<(), Refused> {
        self.serve()?;
        match believed {
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
        if acks == -1 && self.is_below_minimum(config) {
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
        if self.log.wants_roll(bytes, now, u64::from(config.segment_bytes), config.segment_age_max_ms()) {
            self.log.roll(journal);
        }
        let way = if bytes >= direct_from && self.log.is_allocated(bytes) { Way::Direct } else { Way::Journal };
        let (appended, write) = self.log.append(batch, self.epoch, now, way, journal);
        Ok(Taken { base: appended.base, end: appended.end, append_time, appended: Some(appended), write })
    }

    /// Finds what a consumer may read from `offset` on.
    ///
    /// # Errors
    /// OFFSET_OUT_OF_RANGE below the log start or above the high watermark, KAFKA_STORAGE_ERROR for damage.
    pub fn read(&self, offset: Offset, max_bytes: usize) -> Result<Read, Refused> {
        self.serve()?;
        let limit = self.advanced().high_watermark;
        if offset < self.log.start() || offset > self.log.end() {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        Ok(self.log.read(offset, limit, max_bytes))
    }
}
