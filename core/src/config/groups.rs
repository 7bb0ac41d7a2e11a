//! The settings of consumer groups that are in force.

/// The assignors of the next protocol that there are, in Kafka's order: the first is the default.
const ASSIGNORS: [&str; 2] = ["uniform", "range"];

/// Between which protocols a group may move while it has members: both ways, to the next protocol, to the classic one, or
/// not at all. The first is the default.
pub(super) const MIGRATION_POLICIES: [&str; 4] = ["bidirectional", "upgrade", "downgrade", "disabled"];

/// The settings of consumer groups that are in force. Fields have Kafka's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsConfig {
    /// How often members of the next protocol are asked to heartbeat, in milliseconds, at least 1.
    pub group_consumer_heartbeat_interval_ms: u64,
    /// How long a member of the next protocol may be silent, in milliseconds, at least 1.
    pub group_consumer_session_timeout_ms: u64,
    /// How many members a group of the next protocol has at most, at least 1.
    pub group_consumer_max_size: u32,
    /// The assignors of the next protocol, the default first.
    pub group_consumer_assignors: Vec<&'static str>,
    /// Between which protocols a group may move while it has members: `bidirectional`, `upgrade`, `downgrade` or
    /// `disabled`.
    pub group_consumer_migration_policy: &'static str,
    /// How often it is looked up anew what a regular expression matches, in milliseconds, at least 10000.
    pub group_consumer_regex_refresh_interval_ms: u64,
    /// How long the first rebalance of an empty group waits for more members, in milliseconds.
    pub group_initial_rebalance_delay_ms: u64,
    /// The shortest session that a classic member may ask for, in milliseconds.
    pub group_min_session_timeout_ms: u64,
    /// The longest session that a classic member may ask for, in milliseconds.
    pub group_max_session_timeout_ms: u64,
    /// How many members a classic group has at most, at least 1.
    pub group_max_size: u32,
    /// How many bytes the metadata of a committed offset has at most.
    pub offset_metadata_max_bytes: u32,
    /// How often expired offsets are looked for, in milliseconds, at least 1.
    pub offsets_retention_check_interval_ms: u64,
    /// How long offsets of a group without members are kept, in minutes, at least 1.
    pub offsets_retention_minutes: u64,
    /// How many partitions `__consumer_offsets` is created with, at least 1.
    pub offsets_topic_num_partitions: i32,
    /// How many replicas `__consumer_offsets` is created with, at least 1, where there are as many brokers.
    pub offsets_topic_replication_factor: i16,
    /// The size of a segment of `__consumer_offsets`, in bytes, at least 1.
    pub offsets_topic_segment_bytes: u32,
}

impl GroupsConfig {
    /// Reads the settings: whole numbers by `number`, others by `text`; both are asked for checked values by name.
    pub(super) fn read(number: impl Fn(&str) -> i64, text: impl Fn(&str) -> Option<String>) -> GroupsConfig {
        // Kafka lets some of these be negative, and means nothing by it.
        let unsigned = |name: &str| u64::try_from(number(name)).unwrap_or(0);
        let short = |name: &str| u32::try_from(number(name)).unwrap_or(0);
        let listed = text("group.consumer.assignors").unwrap_or_default();
        let listed = listed.split(',').filter_map(|name| ASSIGNORS.into_iter().find(|known| *known == name.trim()));
        let mut assignors: Vec<&'static str> = listed.collect();
        if assignors.is_empty() {
            assignors.extend(ASSIGNORS);
        }
        let policy = text("group.consumer.migration.policy").unwrap_or_default();
        let policy = MIGRATION_POLICIES.into_iter().find(|known| known.eq_ignore_ascii_case(policy.trim()));
        GroupsConfig {
            group_consumer_heartbeat_interval_ms: unsigned("group.consumer.heartbeat.interval.ms"),
            group_consumer_session_timeout_ms: unsigned("group.consumer.session.timeout.ms"),
            group_consumer_max_size: short("group.consumer.max.size"),
            group_consumer_assignors: assignors,
            group_consumer_migration_policy: policy.expect("a checked value or a default"),
            group_consumer_regex_refresh_interval_ms: unsigned("group.consumer.regex.refresh.interval.ms"),
            group_initial_rebalance_delay_ms: unsigned("group.initial.rebalance.delay.ms"),
            group_min_session_timeout_ms: unsigned("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: unsigned("group.max.session.timeout.ms"),
            group_max_size: short("group.max.size"),
            offset_metadata_max_bytes: short("offset.metadata.max.bytes"),
            offsets_retention_check_interval_ms: unsigned("offsets.retention.check.interval.ms"),
            offsets_retention_minutes: unsigned("offsets.retention.minutes"),
            offsets_topic_num_partitions: i32::try_from(number("offsets.topic.num.partitions"))
                .expect("an Int's range"),
            offsets_topic_replication_factor: i16::try_from(number("offsets.topic.replication.factor"))
                .expect("a Short's range"),
            offsets_topic_segment_bytes: short("offsets.topic.segment.bytes"),
        }
    }
}
