//! The settings of a topic, obeyed and not.

use super::topic::{Stand, TopicKey};
use super::value::{Allowed, Effect, Key, Kind};
use crate::limits::BATCH_BYTES_MAX;

const fn is(name: &'static str) -> Stand {
    Stand { name, factor: 1 }
}

const fn minutes(name: &'static str) -> Stand {
    Stand { name, factor: 60_000 }
}

const fn hours(name: &'static str) -> Stand {
    Stand { name, factor: 3_600_000 }
}

pub(super) const CODECS: Allowed = Allowed::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
pub(super) const GZIP_LEVELS: Allowed = Allowed::OneOrBetween(-1, 1, 9);
pub(super) const LZ4_LEVELS: Allowed = Allowed::Between(1, 17);
pub(super) const ZSTD_LEVELS: Allowed = Allowed::Between(-131_072, 22);
pub(super) const TIMESTAMP_TYPES: Allowed = Allowed::OneOf(&["CreateTime", "LogAppendTime"]);
pub(super) const POLICIES: Allowed = Allowed::SomeOf(&["compact", "delete"]);
/// How large a batch a user may allow, in bytes.
pub(super) const MESSAGE_BYTES: Allowed = Allowed::Between(0, BATCH_BYTES_MAX as i64);
/// The smallest segment that a user may ask for (KIP-1030): 1 MiB.
pub(super) const LEAST_SEGMENT: Allowed = Allowed::AtLeast(1_048_576);

const TIERED: Effect = Effect::Without("tiered storage is not served");
const NO_TIERS: Allowed = Allowed::Only("false", "tiered storage is not served");
const JOURNAL: Effect =
    Effect::Without("a record is durable when it is acknowledged, so there is nothing to flush later");

const NUMBER_MAX: &str = "9223372036854775807";

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    allowed: Allowed,
    effect: Effect,
    broker: &'static [Stand],
    doc: &'static str,
) -> TopicKey {
    TopicKey { key: Key { name, kind, default: Some(default), allowed, effect, doc }, broker, internal: false }
}

/// Every topic setting of Kafka 4.3, by name.
pub static TOPIC_KEYS: &[TopicKey] = &[
    key(
        "cleanup.policy",
        Kind::List,
        "delete",
        POLICIES,
        Effect::Obeyed,
        &[is("log.cleanup.policy")],
        "What becomes of old records: \"delete\" removes whole segments that are past the topic's retention by time or \
         size; \"compact\" keeps of each key the newest record, and refuses records without a key; both may stand \
         together; an empty value keeps everything.",
    ),
    key(
        "compression.gzip.level",
        Kind::Int,
        "-1",
        GZIP_LEVELS,
        Effect::Obeyed,
        &[is("compression.gzip.level")],
        "The level at which gzip compresses where compression.type is gzip; -1 is its own default.",
    ),
    key(
        "compression.lz4.level",
        Kind::Int,
        "9",
        LZ4_LEVELS,
        Effect::Without("lz4 compresses at one level only"),
        &[is("compression.lz4.level")],
        "The level at which lz4 compresses where compression.type is lz4.",
    ),
    key(
        "compression.type",
        Kind::String,
        "producer",
        CODECS,
        Effect::Obeyed,
        &[is("compression.type")],
        "The codec that stored batches have; \"producer\" keeps each batch as it was sent.",
    ),
    key(
        "compression.zstd.level",
        Kind::Int,
        "3",
        ZSTD_LEVELS,
        Effect::Obeyed,
        &[is("compression.zstd.level")],
        "The level at which zstd compresses where compression.type is zstd.",
    ),
    key(
        "delete.retention.ms",
        Kind::Long,
        "86400000",
        Allowed::AtLeast(0),
        Effect::Obeyed,
        &[is("log.cleaner.delete.retention.ms")],
        "How long a compacted topic keeps the mark of a deleted key, a record without a value, once it is compacted, in \
         milliseconds: within that time a consumer that begins at the start must come to it.",
    ),
    key(
        "file.delete.delay.ms",
        Kind::Long,
        "60000",
        Allowed::AtLeast(0),
        Effect::Obeyed,
        &[is("log.segment.delete.delay.ms")],
        "How long the files of deleted segments and topics stay before they are removed, in milliseconds. What is left when \
         the broker ends is removed after its next start.",
    ),
    key(
        "flush.messages",
        Kind::Long,
        NUMBER_MAX,
        Allowed::AtLeast(1),
        JOURNAL,
        &[is("log.flush.interval.messages")],
        "After how many records Kafka forces a partition to disk.",
    ),
    key(
        "flush.ms",
        Kind::Long,
        NUMBER_MAX,
        Allowed::AtLeast(0),
        JOURNAL,
        &[is("log.flush.interval.ms"), is("log.flush.scheduler.interval.ms")],
        "After how many milliseconds Kafka forces a partition to disk.",
    ),
    key(
        "follower.replication.throttled.replicas",
        Kind::List,
        "",
        Allowed::Replicas,
        Effect::Obeyed,
        &[],
        "The replicas that take no more than follower.replication.throttled.rate while they are not in sync: pairs of \
         partition and broker, or * for all.",
    ),
    key(
        "index.interval.bytes",
        Kind::Int,
        "4096",
        Allowed::AtLeast(0),
        Effect::Without("the distance of index entries is fixed"),
        &[is("log.index.interval.bytes")],
        "How many bytes lie between two entries of a segment's index.",
    ),
    TopicKey {
        key: Key {
            name: "internal.segment.bytes",
            kind: Kind::Int,
            default: None,
            allowed: Allowed::AtLeast(1),
            effect: Effect::Obeyed,
            doc: "A segment size below what segment.bytes allows, for tests.",
        },
        broker: &[],
        internal: true,
    },
    key(
        "leader.replication.throttled.replicas",
        Kind::List,
        "",
        Allowed::Replicas,
        Effect::Obeyed,
        &[],
        "The replicas that, where they lead, send no more than leader.replication.throttled.rate to those that are not in \
         sync: pairs of partition and broker, or * for all.",
    ),
    key(
        "local.retention.bytes",
        Kind::Long,
        "-2",
        Allowed::AtLeast(-2),
        TIERED,
        &[is("log.local.retention.bytes")],
        "How many bytes of a tiered partition stay on local disk; -2 follows retention.bytes.",
    ),
    key(
        "local.retention.ms",
        Kind::Long,
        "-2",
        Allowed::AtLeast(-2),
        TIERED,
        &[is("log.local.retention.ms")],
        "How long records of a tiered topic stay on local disk, in milliseconds; -2 follows retention.ms.",
    ),
    key(
        "max.compaction.lag.ms",
        Kind::Long,
        NUMBER_MAX,
        Allowed::AtLeast(1),
        Effect::Obeyed,
        &[is("log.cleaner.max.compaction.lag.ms")],
        "The longest time that a record waits until it may be compacted, in milliseconds, whatever the dirty ratio is. \
         A segment that compaction waits for is closed at this age.",
    ),
    key(
        "max.message.bytes",
        Kind::Int,
        "1048588",
        MESSAGE_BYTES,
        Effect::Obeyed,
        &[is("message.max.bytes")],
        "The largest batch of records that is taken, in bytes, after compression. A larger one is refused with \
         MESSAGE_TOO_LARGE. A file of the journal, which holds a batch whole, sets the upper bound.",
    ),
    key(
        "message.timestamp.after.max.ms",
        Kind::Long,
        "3600000",
        Allowed::AtLeast(0),
        Effect::Obeyed,
        &[is("log.message.timestamp.after.max.ms")],
        "How far a record's timestamp may lie in the future, in milliseconds, where its producer stamps it. A later \
         one is refused with INVALID_TIMESTAMP.",
    ),
    key(
        "message.timestamp.before.max.ms",
        Kind::Long,
        NUMBER_MAX,
        Allowed::AtLeast(0),
        Effect::Obeyed,
        &[is("log.message.timestamp.before.max.ms")],
        "How far a record's timestamp may lie in the past, in milliseconds, where its producer stamps it. An earlier \
         one is refused with INVALID_TIMESTAMP.",
    ),
    key(
        "message.timestamp.type",
        Kind::String,
        "CreateTime",
        TIMESTAMP_TYPES,
        Effect::Obeyed,
        &[is("log.message.timestamp.type")],
        "Whose time a record carries: the producer's (CreateTime) or the broker's at append (LogAppendTime).",
    ),
    key(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        "0.5",
        Allowed::Fraction(0.0, 1.0),
        Effect::Obeyed,
        &[is("log.cleaner.min.cleanable.ratio")],
        "The part of a log's closed segments, by bytes, that must be uncompacted before they are compacted.",
    ),
    key(
        "min.compaction.lag.ms",
        Kind::Long,
        "0",
        Allowed::AtLeast(0),
        Effect::Obeyed,
        &[is("log.cleaner.min.compaction.lag.ms")],
        "The shortest time that a record stays uncompacted, in milliseconds.",
    ),
    key(
        "min.insync.replicas",
        Kind::Int,
        "1",
        Allowed::AtLeast(1),
        Effect::Obeyed,
        &[is("min.insync.replicas")],
        "How many replicas must be in sync for a produce request with acks=all to be taken, where there are as many, and \
         else all. Where it is not set, 2 for topics created with 3 replicas or more (Kafka: 1).",
    ),
    key(
        "preallocate",
        Kind::Boolean,
        "false",
        Allowed::Any,
        Effect::Without("space for segments is allocated in extents, ahead of the data"),
        &[is("log.preallocate")],
        "Whether a segment's file is created at its full size.",
    ),
    key(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        Allowed::Any,
        TIERED,
        &[],
        "Whether a tiered topic stops copying to remote storage.",
    ),
    key(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        Allowed::Any,
        TIERED,
        &[],
        "Whether remote data is deleted when tiering is switched off.",
    ),
    key(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        NO_TIERS,
        TIERED,
        &[],
        "Whether old segments move to remote storage.",
    ),
    key(
        "retention.bytes",
        Kind::Long,
        "-1",
        Allowed::Any,
        Effect::Obeyed,
        &[is("log.retention.bytes")],
        "How many bytes of each partition are kept before its oldest segments are deleted; -1 is no limit.",
    ),
    key(
        "retention.ms",
        Kind::Long,
        "604800000",
        Allowed::AtLeast(-1),
        Effect::Obeyed,
        &[is("log.retention.ms"), minutes("log.retention.minutes"), hours("log.retention.hours")],
        "How long records are kept before their segment is deleted, in milliseconds; -1 is for ever.",
    ),
    key(
        "segment.bytes",
        Kind::Int,
        "1073741824",
        LEAST_SEGMENT,
        Effect::Obeyed,
        &[is("log.segment.bytes")],
        "The size at which a segment is full and the next one begins, in bytes. Retention deletes whole segments.",
    ),
    key(
        "segment.index.bytes",
        Kind::Int,
        "10485760",
        Allowed::AtLeast(4),
        Effect::Without("an index grows with its segment"),
        &[is("log.index.size.max.bytes")],
        "The largest size of a segment's index, in bytes.",
    ),
    key(
        "segment.jitter.ms",
        Kind::Long,
        "0",
        Allowed::AtLeast(0),
        Effect::Without("starting a segment is cheap, so many at once do no harm"),
        &[is("log.roll.jitter.ms"), hours("log.roll.jitter.hours")],
        "The most that is subtracted at random from segment.ms, in milliseconds.",
    ),
    key(
        "segment.ms",
        Kind::Long,
        "604800000",
        Allowed::AtLeast(1),
        Effect::Obeyed,
        &[is("log.roll.ms"), hours("log.roll.hours")],
        "The age at which a segment is closed even if it is not full, so that retention can delete it, in milliseconds.",
    ),
    key(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        Allowed::Any,
        Effect::Obeyed,
        &[is("unclean.leader.election.enable")],
        "Whether a replica may lead that is neither in sync nor known to have all that was acknowledged, where no other \
         is left: what it lacks is lost.",
    ),
];
