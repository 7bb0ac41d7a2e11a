//! The settings of a topic, and the values that its partitions use.

use super::topic_keys::TOPIC_KEYS;
use super::value::{Key, parts};
use crate::ids::NodeId;

/// One setting that a topic may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicKey {
    /// The setting.
    pub key: Key,
    /// The broker settings that stand in where the topic has none of its own; the first that is set counts.
    pub broker: &'static [Stand],
    /// Whether it is hidden from clients: it exists for tests.
    pub internal: bool,
}

/// A broker setting that stands in for a topic's, with the factor that makes the one's unit the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The broker setting.
    pub name: &'static str,
    /// What its value is multiplied by.
    pub factor: i64,
}

/// The topic setting called `name`.
pub fn topic_key(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.binary_search_by(|known| known.key.name.cmp(name)).ok().map(|at| &TOPIC_KEYS[at])
}

/// What a partition needs to know of its topic's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// What becomes of old records.
    pub cleanup_policy: Cleanup,
    /// How batches are stored.
    pub compression: Compression,
    /// How long compaction keeps tombstones, in milliseconds.
    pub delete_retention_ms: u64,
    /// How long the file of a deleted segment stays, in milliseconds.
    pub file_delete_delay_ms: u64,
    /// The replicas that are slowed down as followers.
    pub follower_throttled: Throttled,
    /// The replicas that are slowed down as leaders.
    pub leader_throttled: Throttled,
    /// How long a record waits for compaction at most, in milliseconds.
    pub max_compaction_lag_ms: u64,
    /// The largest batch, in bytes, its head included.
    pub max_message_bytes: u32,
    /// Whose clock stamps the records.
    pub message_timestamp_type: TimestampType,
    /// How far a record's timestamp may lie before the broker's clock, in milliseconds.
    pub message_timestamp_before_max_ms: i64,
    /// How far a record's timestamp may lie after the broker's clock, in milliseconds.
    pub message_timestamp_after_max_ms: i64,
    /// The part of closed segments that must be dirty before they are compacted, in millionths.
    pub min_cleanable_dirty_ratio: u32,
    /// How long a record stays uncompacted at least, in milliseconds.
    pub min_compaction_lag_ms: u64,
    /// How many replicas must be in sync for an acks=all append, at least 1.
    pub min_insync_replicas: u32,
    /// How many bytes of a partition are kept, at least; `None` for all.
    pub retention_bytes: Option<u64>,
    /// How long records are kept, at least, in milliseconds; `None` for ever.
    pub retention_ms: Option<u64>,
    /// The size at which a segment is full, in bytes.
    pub segment_bytes: u32,
    /// The age at which a segment is full, in milliseconds, at least 1.
    pub segment_ms: u64,
}

/// Which replicas of a topic are slowed down while they are not in sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Throttled {
    /// None of them.
    #[default]
    Nobody,
    /// All of them.
    Everybody,
    /// Those of these partitions on these brokers, in order.
    These(Vec<(i32, i32)>),
}

impl Throttled {
    /// What a checked value says: `*`, or pairs of partition and broker.
    fn parse(text: &str) -> Throttled {
        let pair = |part: &str| {
            let (partition, broker) = part.split_once(':')?;
            Some((partition.parse().ok()?, broker.parse().ok()?))
        };
        let mut pairs: Vec<(i32, i32)> = parts(text).filter_map(pair).collect();
        pairs.sort_unstable();
        match text.trim() {
            "*" => Throttled::Everybody,
            _ if pairs.is_empty() => Throttled::Nobody,
            _ => Throttled::These(pairs),
        }
    }

    /// Whether it names the replica of a partition on a broker.
    pub fn names(&self, partition: i32, broker: NodeId) -> bool {
        match self {
            Throttled::Nobody => false,
            Throttled::Everybody => true,
            Throttled::These(pairs) => pairs.binary_search(&(partition, broker.0)).is_ok(),
        }
    }
}

/// What becomes of old records. With neither they are kept for ever (KIP-1161).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// They are deleted by age and size.
    pub deletes: bool,
    /// Of each key only the newest is kept.
    pub compacts: bool,
}

/// Whose clock stamps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at append.
    LogAppendTime,
}

/// How batches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    /// Without compression.
    Uncompressed,
    /// By gzip at this level: -1 for its default, or from 1 to 9.
    Gzip(i32),
    /// By snappy.
    Snappy,
    /// By lz4.
    Lz4,
    /// By zstd at this level, from -131072 to 22.
    Zstd(i32),
}

impl TopicConfig {
    /// The values that `value_of` has for the settings; it is asked by name, and answers what was checked before.
    pub(super) fn read(value_of: impl Fn(&str) -> String) -> TopicConfig {
        let number = |name: &str| -> i64 { value_of(name).trim().parse().expect("a checked value is a number") };
        let level = |name: &str| i32::try_from(number(name)).expect("a level has 32 bits");
        // In these two, every negative number stands for "without limit".
        let limit = |name: &str| u64::try_from(number(name)).ok();
        let unsigned = |name: &str| u32::try_from(number(name)).expect("its range begins at 0 or above");
        // Only tests set the internal name: Kafka's lower bound of a segment is too large for them (KIP-1030).
        let segment_bytes = value_of("internal.segment.bytes").parse().unwrap_or_else(|_| unsigned("segment.bytes"));
        TopicConfig {
            cleanup_policy: {
                let policy = value_of("cleanup.policy");
                Cleanup { deletes: policy.contains("delete"), compacts: policy.contains("compact") }
            },
            compression: match value_of("compression.type").as_str() {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip(level("compression.gzip.level")),
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd(level("compression.zstd.level")),
                _ => Compression::Producer,
            },
            delete_retention_ms: limit("delete.retention.ms").expect("its range begins at 0"),
            file_delete_delay_ms: limit("file.delete.delay.ms").expect("its range begins at 0"),
            follower_throttled: Throttled::parse(&value_of("follower.replication.throttled.replicas")),
            leader_throttled: Throttled::parse(&value_of("leader.replication.throttled.replicas")),
            max_compaction_lag_ms: limit("max.compaction.lag.ms").expect("its range begins at 1"),
            max_message_bytes: unsigned("max.message.bytes"),
            message_timestamp_type: match value_of("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            min_cleanable_dirty_ratio: millionths(&value_of("min.cleanable.dirty.ratio")),
            min_compaction_lag_ms: limit("min.compaction.lag.ms").expect("its range begins at 0"),
            min_insync_replicas: unsigned("min.insync.replicas"),
            retention_bytes: limit("retention.bytes"),
            retention_ms: limit("retention.ms"),
            segment_bytes,
            segment_ms: limit("segment.ms").expect("its range begins at 1"),
        }
    }

    /// The age at which a segment is full, in milliseconds: a record in it cannot be compacted sooner.
    pub fn segment_age_max_ms(&self) -> u64 {
        if self.cleanup_policy.compacts { self.segment_ms.min(self.max_compaction_lag_ms) } else { self.segment_ms }
    }
}

/// A fraction that was checked to be one, in millionths.
fn millionths(text: &str) -> u32 {
    let fraction: f64 = text.trim().parse().expect("a checked value is a number");
    // Within the range, so the cast cannot lose anything but what lies behind the sixth digit.
    (fraction * 1e6).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker_key;

    #[test]
    fn the_table_is_sorted_and_every_default_is_allowed() {
        assert!(TOPIC_KEYS.is_sorted_by(|a, b| a.key.name < b.key.name));
        for known in TOPIC_KEYS {
            if let Some(default) = known.key.default {
                assert_eq!(known.key.check(default), Ok(()));
            }
            assert!(known.key.doc.ends_with('.'), "{} is documented", known.key.name);
        }
    }

    #[test]
    fn every_stand_in_is_a_broker_setting_with_the_same_default() {
        for known in TOPIC_KEYS {
            for stand in known.broker {
                assert!(broker_key(stand.name).is_some(), "{} is a broker setting", stand.name);
            }
            let default = known.broker.iter().find_map(|stand| {
                let default = broker_key(stand.name)?.key.default?;
                Some(default.parse::<i64>().map_or(default.to_owned(), |n| (n * stand.factor).to_string()))
            });
            if default.is_some() {
                assert_eq!(default.as_deref(), known.key.default, "{}", known.key.name);
            }
        }
    }

    #[test]
    fn a_policy_is_any_of_both_or_none() {
        let policy = topic_key("cleanup.policy").expect("a topic setting");
        for (value, deletes, compacts) in
            [("delete", true, false), ("compact", false, true), ("delete, compact", true, true), ("", false, false)]
        {
            assert_eq!(policy.key.check(value), Ok(()));
            let value_of = |name: &str| match name {
                "cleanup.policy" => value.to_owned(),
                name => topic_key(name).and_then(|known| known.key.default).unwrap_or_default().to_owned(),
            };
            let config = TopicConfig::read(value_of);
            assert_eq!(config.cleanup_policy, Cleanup { deletes, compacts });
            assert_eq!(config.min_cleanable_dirty_ratio, 500_000);
        }
    }
}
