//! The settings of groups, under Kafka's names.

use std::time::Duration;

/// Between which protocols a group may move while it has members (`group.consumer.migration.policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// Not at all.
    Disabled,
    /// From the classic protocol to the next.
    Upgrade,
    /// From the next protocol to the classic.
    Downgrade,
    /// Both ways.
    Bidirectional,
}

impl Migration {
    /// The policy with this name, as Kafka spells it.
    pub fn by_name(name: &str) -> Option<Migration> {
        match name {
            "disabled" => Some(Migration::Disabled),
            "upgrade" => Some(Migration::Upgrade),
            "downgrade" => Some(Migration::Downgrade),
            "bidirectional" => Some(Migration::Bidirectional),
            _ => None,
        }
    }
}

/// The settings of groups that are in force. Fields have Kafka's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The shortest session that a classic member may ask for.
    pub group_min_session_timeout: Duration,
    /// The longest session that a classic member may ask for.
    pub group_max_session_timeout: Duration,
    /// How many members a classic group has at most.
    pub group_max_size: usize,
    /// How long the first rebalance of an empty group waits for more members.
    pub group_initial_rebalance_delay: Duration,
    /// How long the metadata of a committed offset is at most: in UTF-16 units, as Kafka counts in spite of the name.
    pub offset_metadata_max_bytes: usize,
    /// How long offsets of a group without members, or of a topic that nobody subscribes to, are kept (KIP-211).
    pub offsets_retention: Duration,
    /// The session of a member of the next protocol.
    pub consumer_session_timeout: Duration,
    /// How often a member of the next protocol is asked to heartbeat.
    pub consumer_heartbeat_interval: Duration,
    /// How many members a group of the next protocol has at most.
    pub consumer_max_size: usize,
    /// The assignors that there are, the default first: `uniform`, `range`.
    pub consumer_assignors: Vec<&'static str>,
    /// Between which protocols a group may move while it has members.
    pub consumer_migration_policy: Migration,
    /// How often it is looked up anew what a regular expression matches.
    pub consumer_regex_refresh_interval: Duration,
    /// How many bytes one record may have, key and value together.
    pub record_bytes_max: usize,
}

impl Default for Settings {
    /// Kafka's defaults.
    fn default() -> Settings {
        Settings {
            group_min_session_timeout: Duration::from_secs(6),
            group_max_session_timeout: Duration::from_secs(30 * 60),
            group_max_size: i32::MAX as usize,
            group_initial_rebalance_delay: Duration::from_secs(3),
            offset_metadata_max_bytes: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_max_size: i32::MAX as usize,
            consumer_assignors: vec!["uniform", "range"],
            consumer_migration_policy: Migration::Bidirectional,
            consumer_regex_refresh_interval: Duration::from_secs(10 * 60),
            record_bytes_max: 1 << 20,
        }
    }
}
