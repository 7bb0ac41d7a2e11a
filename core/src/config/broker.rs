//! The settings of a broker: the ones it obeys, the layers they come from, and the values in force.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::GroupsConfig;
use super::known::KNOWN_KEYS;
use super::obeyed::{BROKER_KEYS, RACK_AWARE_SELECTOR};
use super::topic::{TopicConfig, TopicKey, topic_key};
use super::topic_keys::TOPIC_KEYS;
use super::value::{ConfigError, Effect, Key, boolean};

/// One setting that a broker may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BrokerKey {
    /// The setting.
    pub key: Key,
    /// Who may change it while the broker runs.
    pub update: Update,
}

/// Who may change a broker setting while the broker runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nobody: it comes from the configuration file.
    ReadOnly,
    /// A client may set it for one broker, not for all.
    PerBroker,
    /// A client may set it for one broker, or for all as the cluster's default.
    Anywhere,
    /// A client may set it for all brokers, which must go by the same value: of several the file says nothing either.
    ForAll,
}

/// Settings by name, as one place has them.
pub type Layer = BTreeMap<String, String>;

/// The place that a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The topic.
    Topic,
    /// A client, for this broker.
    Broker,
    /// A client, for all brokers.
    Cluster,
    /// The configuration file.
    File,
    /// Chronik.
    Default,
}

impl Source {
    /// The number that stands for this place in DescribeConfigs and CreateTopics.
    pub fn id(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::Broker => 2,
            Source::Cluster => 3,
            Source::File => 4,
            Source::Default => 5,
        }
    }
}

/// A setting as it stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Which setting.
    pub key: &'static Key,
    /// The value in force; `None` where there is none, or where it is a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// Whether no client can change it.
    pub is_read_only: bool,
    /// Every place that has a value, the one in force first: the name it has there, the value, the place.
    pub synonyms: Vec<(&'static str, Option<String>, Source)>,
}

/// The broker setting called `name`.
pub fn broker_key(name: &str) -> Option<&'static BrokerKey> {
    let find = |table: &'static [BrokerKey]| {
        table.binary_search_by(|known| known.key.name.cmp(name)).ok().map(|at| &table[at])
    };
    find(BROKER_KEYS).or_else(|| find(KNOWN_KEYS))
}

/// Every broker setting of Kafka 4.3, the obeyed ones first.
pub fn broker_keys() -> impl Iterator<Item = &'static BrokerKey> {
    BROKER_KEYS.iter().chain(KNOWN_KEYS)
}

impl Setting {
    /// The same where nobody has set it, with a default that depends on what there is.
    #[must_use]
    pub fn with_default(mut self, value: String) -> Setting {
        if self.source == Source::Default {
            self.value = Some(value.clone());
        }
        for (_, default, _) in self.synonyms.iter_mut().filter(|(.., source)| *source == Source::Default) {
            *default = Some(value.clone());
        }
        self
    }
}

/// What elections of a topic's partitions go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ElectionRules {
    /// `min.insync.replicas`, where somebody has set it.
    pub min_insync_replicas: Option<u32>,
    /// Whether a replica may lead that is neither in sync nor eligible.
    pub unclean: bool,
}

impl ElectionRules {
    /// How many replicas must be in sync for the partitions of a topic to take acks=all, where it was created with
    /// `replication_factor` of them. Where nobody says it is 2 of 3 or more, so that what is acknowledged outlives a
    /// broker: Kafka's default is 1.
    pub fn least(&self, replication_factor: usize) -> u32 {
        self.min_insync_replicas.unwrap_or(if replication_factor >= 3 { 2 } else { 1 })
    }

    /// The same for a partition that has `replication_factor` replicas now. As in Kafka, more than there can be is all.
    pub fn min_in_sync(&self, replication_factor: usize) -> usize {
        let least = usize::try_from(self.least(replication_factor)).unwrap_or(usize::MAX);
        least.clamp(1, replication_factor.max(1))
    }
}

/// The settings of this broker that are in force, and where each comes from. Fields have Kafka's names.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    file: Layer,
    cluster: Layer,
    broker: Layer,
    /// Whether a client's interest in a topic creates it.
    pub auto_create_topics_enable: bool,
    /// Whether first replicas get back what they could lead.
    pub auto_leader_rebalance_enable: bool,
    /// How often a broker of a cluster tells the controller that it lives, in milliseconds, at least 1.
    pub broker_heartbeat_interval_ms: u64,
    /// How long a broker may be silent before others lead what it leads, in milliseconds, at least 1.
    pub broker_session_timeout_ms: u64,
    /// Where this broker stands, for clients that prefer near replicas.
    pub broker_rack: Option<String>,
    /// How long a silent connection stays, in milliseconds; `None` for ever.
    pub connections_max_idle_ms: Option<u64>,
    /// How many replicas a topic gets where nobody says, at least 1.
    pub default_replication_factor: i16,
    /// Whether clients may delete topics.
    pub delete_topic_enable: bool,
    /// The most bytes in a fetch response, at least 1024.
    pub fetch_max_bytes: u32,
    /// The settings of consumer groups.
    pub groups: GroupsConfig,
    /// How often first replicas get back what they could lead, in seconds, at least 1.
    pub leader_imbalance_check_interval_seconds: u64,
    /// How long compaction rests where nothing is dirty enough, in milliseconds.
    pub log_cleaner_backoff_ms: u64,
    /// What the map of keys may take in a compaction, in bytes.
    pub log_cleaner_dedupe_buffer_size: u64,
    /// Whether partitions are compacted.
    pub log_cleaner_enable: bool,
    /// How many bytes compaction may read and write in a second.
    pub log_cleaner_io_max_bytes_per_second: u64,
    /// How often retention looks for segments to delete, in milliseconds, at least 1.
    pub log_retention_check_interval_ms: u64,
    /// How many connections are open at most.
    pub max_connections: u32,
    /// How many connections are open at most from one address.
    pub max_connections_per_ip: u32,
    /// How many fetch sessions are remembered at most (KIP-227).
    pub max_incremental_fetch_session_cache_slots: u32,
    /// The most partitions in a response of DescribeTopicPartitions, at least 1 (KIP-966).
    pub max_request_partition_size_limit: u32,
    /// How many partitions a topic gets where nobody says, at least 1.
    pub num_partitions: i32,
    /// How long an idle producer is remembered, in milliseconds, at least 1.
    pub producer_id_expiration_ms: u64,
    /// What throttled replicas take here that are not in sync, in bytes a second.
    pub follower_replication_throttled_rate: u64,
    /// What throttled replicas send from here to those that are not in sync, in bytes a second.
    pub leader_replication_throttled_rate: u64,
    /// A follower that was not caught up for so long leaves the in-sync set, in milliseconds, at least 1.
    pub replica_lag_time_max_ms: u64,
    /// Whether consumers are told to read from a replica in their rack (KIP-392): `replica.selector.class`.
    pub replica_selector_is_rack_aware: bool,
    /// The largest request that is read, in bytes, at least 1.
    pub socket_request_max_bytes: u32,
    /// What topics use that do not say otherwise.
    pub topic_defaults: TopicConfig,
}

impl Default for BrokerConfig {
    /// What is in force where nothing is set.
    fn default() -> BrokerConfig {
        BrokerConfig::read(Layer::new(), Layer::new(), Layer::new())
    }
}

impl BrokerConfig {
    /// The settings of a configuration file, as pairs of name and text.
    ///
    /// # Errors
    /// At the first name that is unknown or given twice, the first value that its setting may not have, and a
    /// contradiction.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<BrokerConfig, ConfigError> {
        let config = BrokerConfig::read(BrokerConfig::layer(pairs)?, Layer::new(), Layer::new());
        let groups = &config.groups;
        if groups.group_consumer_heartbeat_interval_ms >= groups.group_consumer_session_timeout_ms {
            let (lower, upper) = ("group.consumer.heartbeat.interval.ms", "group.consumer.session.timeout.ms");
            return Err(ConfigError::Conflict { lower, upper });
        }
        // A broker that is heard of more rarely is fenced for one heartbeat that comes late, or for none.
        if config.broker_heartbeat_interval_ms * 2 > config.broker_session_timeout_ms {
            let (lower, upper) = ("broker.heartbeat.interval.ms", "half of broker.session.timeout.ms");
            return Err(ConfigError::Conflict { lower, upper });
        }
        Ok(config)
    }

    /// The same of a part of the settings, whose others are elsewhere: whether some contradict each other cannot be said.
    ///
    /// # Errors
    /// At the first name that is unknown or given twice, and the first value that its setting may not have.
    pub fn check_part<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), ConfigError> {
        BrokerConfig::layer(pairs).map(drop)
    }

    fn layer<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Layer, ConfigError> {
        let mut layer = Layer::new();
        for (name, text) in pairs {
            known(name)?.key.check(text)?;
            if layer.insert(name.to_owned(), text.trim().to_owned()).is_some() {
                return Err(ConfigError::Twice { name: name.to_owned() });
            }
        }
        Ok(layer)
    }

    /// These settings under what clients have set: `cluster` for all brokers, `broker` for this one.
    ///
    /// What these layers hold was checked when it was set, but perhaps by another version: a value that this version
    /// would refuse counts as not set, so that no setting can keep a broker from starting.
    #[must_use]
    pub fn with_dynamic(&self, cluster: &Layer, broker: &Layer) -> BrokerConfig {
        let of_one = |name: &String| broker_key(name).is_none_or(|known| known.update != Update::ForAll);
        let valid = |layer: &Layer| -> Layer {
            layer
                .iter()
                .filter(|(name, text)| broker_key(name).is_some_and(|known| known.key.check(text).is_ok()))
                .map(|(name, text)| (name.clone(), text.trim().to_owned()))
                .collect()
        };
        let mut broker = valid(broker);
        broker.retain(|name, _| of_one(name));
        BrokerConfig::read(self.file.clone(), valid(cluster), broker)
    }

    /// What the file says to a broker that is one of several.
    #[must_use]
    pub fn among_others(&self) -> BrokerConfig {
        let mut file = self.file.clone();
        file.retain(|name, _| broker_key(name).is_none_or(|known| known.update != Update::ForAll));
        BrokerConfig::read(file, Layer::new(), Layer::new())
    }

    /// What the file says of settings that all brokers must share: name and value.
    pub fn to_be_shared(&self) -> impl Iterator<Item = (&str, &str)> {
        let shared = |name: &str| broker_key(name).is_some_and(|known| known.update == Update::ForAll);
        self.file.iter().filter(move |(name, _)| shared(name)).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Checks what a client wants to set for one broker, or, if `for_all`, as the cluster's default.
    ///
    /// # Errors
    /// At the first name that is unknown, and the first value that its setting may not have. Whether a client may
    /// change a setting at all is [`BrokerKey::update`].
    pub fn check_dynamic<'a>(mut settings: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), ConfigError> {
        settings.try_for_each(|(name, text)| known(name)?.key.check(text))
    }

    /// The settings of the configuration file that change nothing here, worth a warning at start.
    pub fn without_effect(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.file.keys().filter_map(|name| match broker_key(name)?.key {
            Key { name, effect: Effect::Without(why), .. } => Some((name, why)),
            _ => None,
        })
    }

    /// Whether somebody has set a broker setting, under this name.
    pub fn is_set(&self, name: &str) -> bool {
        self.layers().any(|(layer, _)| layer.contains_key(name))
    }

    /// One setting as it stands on this broker.
    pub fn setting(&self, known: &'static BrokerKey) -> Setting {
        let name = known.key.name;
        let mut synonyms = Vec::new();
        // A setting in several units is one setting under several names, each of which may override the others.
        for stand in alternatives(name) {
            synonyms.extend(
                self.layers().filter_map(|(layer, source)| {
                    layer.get(stand).map(|text| (stand, shown(&known.key, text), source))
                }),
            );
        }
        synonyms.sort_by_key(|(stand, _, source)| (*stand != name, source.id()));
        if let Some(default) = known.key.default {
            synonyms.push((name, shown(&known.key, default), Source::Default));
        }
        let own = synonyms.iter().find(|(stand, ..)| *stand == name);
        Setting {
            key: &known.key,
            value: own.and_then(|(_, value, _)| value.clone()),
            source: own.map_or(Source::Default, |(_, _, source)| *source),
            is_read_only: known.update == Update::ReadOnly,
            synonyms,
        }
    }

    /// The settings that clients gave to all brokers.
    pub fn cluster_settings(&self) -> impl Iterator<Item = Setting> {
        self.cluster.iter().filter_map(|(name, text)| {
            let known = broker_key(name)?;
            let value = shown(&known.key, text);
            Some(Setting {
                key: &known.key,
                value: value.clone(),
                source: Source::Cluster,
                is_read_only: known.update == Update::ReadOnly,
                synonyms: vec![(known.key.name, value, Source::Cluster)],
            })
        })
    }

    /// What a topic's partitions use, where the topic's own settings are `own`.
    pub fn topic(&self, own: &Layer) -> TopicConfig {
        // Most topics have none, and a change of a broker's settings asks for all topics at once.
        if own.is_empty() { self.topic_defaults.clone() } else { self.resolve(own) }
    }

    fn resolve(&self, own: &Layer) -> TopicConfig {
        TopicConfig::read(|name| {
            let known = topic_key(name).expect("it is asked for known settings");
            self.topic_value(known, own).map(|(value, _)| value).unwrap_or_default()
        })
    }

    /// What elections of a topic's partitions go by, where the topic's own settings are `own`.
    pub fn election_rules(&self, own: &Layer) -> ElectionRules {
        let set = |name| {
            let known = topic_key(name).expect("a topic setting");
            self.topic_places(known, own)
                .find(|(_, _, source)| *source != Source::Default)
                .map(|(_, text, _)| text.trim())
        };
        ElectionRules {
            min_insync_replicas: set("min.insync.replicas").and_then(|text| text.parse().ok()),
            unclean: set("unclean.leader.election.enable").and_then(boolean).unwrap_or(false),
        }
    }

    /// One setting of a topic as it stands, where the topic's own settings are `own`.
    pub fn topic_setting(&self, known: &'static TopicKey, own: &Layer) -> Setting {
        let (value, source) = match self.topic_value(known, own) {
            Some((value, source)) => (Some(value), source),
            None => (None, Source::Default),
        };
        let synonyms = self.topic_places(known, own);
        let synonyms = synonyms.map(|(name, text, source)| (name, Some(text.to_owned()), source)).collect();
        Setting { key: &known.key, value, source, is_read_only: false, synonyms }
    }

    /// A topic setting's value in force, in the topic's unit, and where it comes from.
    fn topic_value(&self, known: &'static TopicKey, own: &Layer) -> Option<(String, Source)> {
        let Some((name, text, source)) = self.topic_places(known, own).next() else {
            return known.key.default.map(|default| (default.to_owned(), Source::Default));
        };
        let factor = known.broker.iter().find(|stand| stand.name == name).map_or(1, |stand| stand.factor);
        Some((scaled(text, factor), source))
    }

    /// The places that have a value for a topic setting, the one in force first: name, value, place.
    fn topic_places<'a>(
        &'a self,
        known: &'static TopicKey,
        own: &'a Layer,
    ) -> impl Iterator<Item = (&'static str, &'a str, Source)> {
        // As in `with_dynamic`, what this version would refuse counts as not set.
        let own = own.get(known.key.name).filter(|text| known.key.check(text).is_ok());
        let own = own.map(|text| (known.key.name, text.as_str(), Source::Topic));
        // Among the broker's layers the place counts before the unit: a dynamic value in hours is younger than a
        // file's in milliseconds.
        let set = self.layers().flat_map(|(layer, source)| {
            known.broker.iter().filter_map(move |stand| Some((stand.name, layer.get(stand.name)?.as_str(), source)))
        });
        let defaults = known
            .broker
            .iter()
            .filter_map(|stand| Some((stand.name, broker_key(stand.name)?.key.default?, Source::Default)));
        own.into_iter().chain(set).chain(defaults)
    }

    /// Checks the settings that a topic is to have.
    ///
    /// # Errors
    /// At the first name that is unknown, the first value that its setting may not have, or a contradiction.
    pub fn check_topic(&self, own: &Layer) -> Result<(), ConfigError> {
        for (name, text) in own {
            let names = || TOPIC_KEYS.iter().filter(|known| !known.internal).map(|known| known.key.name);
            topic_key(name).ok_or_else(|| ConfigError::unknown("topic", name, names()))?.key.check(text)?;
        }
        let lag = |name| {
            let known = topic_key(name).expect("a topic setting");
            self.topic_value(known, own).and_then(|(text, _)| text.trim().parse::<i64>().ok())
        };
        let (lower, upper) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
        if lag(lower) > lag(upper) {
            return Err(ConfigError::Conflict { lower, upper });
        }
        Ok(())
    }

    /// The layers, the strongest first.
    fn layers(&self) -> impl Iterator<Item = (&Layer, Source)> {
        [(&self.broker, Source::Broker), (&self.cluster, Source::Cluster), (&self.file, Source::File)].into_iter()
    }

    fn read(file: Layer, cluster: Layer, broker: Layer) -> BrokerConfig {
        let text = |name: &str| -> Option<String> {
            let known = broker_key(name).expect("it is asked for known settings");
            let set = [&broker, &cluster, &file].into_iter().find_map(|layer| layer.get(name).cloned());
            set.or_else(|| known.key.default.map(str::to_owned))
        };
        let number = |name: &str| -> i64 {
            text(name).and_then(|text| text.parse().ok()).expect("a checked value or a default is a number")
        };
        let unsigned = |name: &str| u32::try_from(number(name)).expect("its range is that of a positive Int");
        let positive = |name: &str| u64::try_from(number(name)).expect("its range begins at 0 or 1");
        // A float that is cast ends at the bounds of its type.
        let rate = |name: &str| text(name).and_then(|text| text.parse().ok()).map_or(u64::MAX, |rate: f64| rate as u64);
        let truth = |name: &str| text(name).and_then(|text| boolean(&text)).expect("a checked value or a default");
        let config = BrokerConfig {
            auto_create_topics_enable: truth("auto.create.topics.enable"),
            auto_leader_rebalance_enable: truth("auto.leader.rebalance.enable"),
            broker_heartbeat_interval_ms: u64::from(unsigned("broker.heartbeat.interval.ms")),
            broker_session_timeout_ms: u64::from(unsigned("broker.session.timeout.ms")),
            broker_rack: text("broker.rack").filter(|rack| !rack.is_empty()),
            connections_max_idle_ms: u64::try_from(number("connections.max.idle.ms")).ok(),
            default_replication_factor: i16::try_from(number("default.replication.factor")).expect("a Short's range"),
            delete_topic_enable: truth("delete.topic.enable"),
            fetch_max_bytes: unsigned("fetch.max.bytes"),
            groups: GroupsConfig::read(number, text),
            leader_imbalance_check_interval_seconds: positive("leader.imbalance.check.interval.seconds"),
            log_cleaner_backoff_ms: positive("log.cleaner.backoff.ms"),
            log_cleaner_dedupe_buffer_size: positive("log.cleaner.dedupe.buffer.size"),
            log_cleaner_enable: truth("log.cleaner.enable"),
            log_cleaner_io_max_bytes_per_second: rate("log.cleaner.io.max.bytes.per.second"),
            log_retention_check_interval_ms: positive("log.retention.check.interval.ms"),
            max_connections: unsigned("max.connections"),
            max_connections_per_ip: unsigned("max.connections.per.ip"),
            max_incremental_fetch_session_cache_slots: unsigned("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: unsigned("max.request.partition.size.limit"),
            num_partitions: i32::try_from(number("num.partitions")).expect("an Int's range"),
            producer_id_expiration_ms: positive("producer.id.expiration.ms"),
            follower_replication_throttled_rate: positive("follower.replication.throttled.rate"),
            leader_replication_throttled_rate: positive("leader.replication.throttled.rate"),
            replica_lag_time_max_ms: positive("replica.lag.time.max.ms"),
            replica_selector_is_rack_aware: text("replica.selector.class")
                .is_some_and(|name| name == RACK_AWARE_SELECTOR),
            socket_request_max_bytes: unsigned("socket.request.max.bytes"),
            // Replaced below: it is read through the layers that this value is about to hold.
            topic_defaults: TopicConfig::read(|name| {
                topic_key(name).and_then(|known| known.key.default).unwrap_or_default().to_owned()
            }),
            file,
            cluster,
            broker,
        };
        BrokerConfig { topic_defaults: config.resolve(&Layer::new()), ..config }
    }
}

/// The broker setting called `name`, or an error that names the nearest one.
fn known(name: &str) -> Result<&'static BrokerKey, ConfigError> {
    broker_key(name).ok_or_else(|| {
        let names: BTreeSet<&'static str> = broker_keys().map(|known| known.key.name).collect();
        ConfigError::unknown("broker", name, names.into_iter())
    })
}

/// The names under which the broker setting `name` can be given, in other units.
fn alternatives(name: &'static str) -> impl Iterator<Item = &'static str> {
    let family = TOPIC_KEYS.iter().find(|known| known.broker.iter().any(|stand| stand.name == name));
    let names = family.map_or(&[][..], |known| known.broker).iter().map(|stand| stand.name);
    names.filter(move |other| *other != name).chain([name])
}

/// `text`, unless it is a secret.
fn shown(key: &Key, text: &str) -> Option<String> {
    (!key.is_sensitive()).then(|| text.to_owned())
}

/// `text` in a unit that is `factor` times finer. Negative times mean "for ever" in every unit.
fn scaled(text: &str, factor: i64) -> String {
    match text.parse::<i64>() {
        Ok(number) if factor != 1 => if number < 0 { -1 } else { number.saturating_mul(factor) }.to_string(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(pairs: &[(&str, &str)]) -> Layer {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[track_caller]
    fn refused(name: &str, text: &str, expect: &str) {
        let error = BrokerConfig::parse([(name, text)]).expect_err("it is refused");
        assert_eq!(error.to_string(), expect);
    }

    #[test]
    fn the_tables_are_sorted_and_share_no_name_and_every_default_is_allowed() {
        for table in [BROKER_KEYS, KNOWN_KEYS] {
            assert!(table.is_sorted_by(|a, b| a.key.name < b.key.name));
        }
        let mut names = BTreeSet::new();
        for known in broker_keys() {
            assert!(names.insert(known.key.name), "{} is there once", known.key.name);
            if let Some(default) = known.key.default {
                assert_eq!(known.key.check(default), Ok(()));
            }
        }
        assert!(BROKER_KEYS.iter().all(|known| known.key.effect == Effect::Obeyed));
        assert!(KNOWN_KEYS.iter().all(|known| known.key.effect != Effect::Obeyed));
    }

    #[test]
    fn nothing_set_gives_kafkas_defaults() {
        let config = BrokerConfig::default();
        assert!(config.auto_create_topics_enable && config.delete_topic_enable);
        assert_eq!((config.num_partitions, config.default_replication_factor), (1, 1));
        assert_eq!(config.connections_max_idle_ms, Some(600_000));
        assert_eq!(config.topic_defaults.retention_ms, Some(604_800_000));
        assert_eq!(config.topic_defaults.retention_bytes, None);
        assert_eq!(config.topic_defaults.segment_bytes, 1 << 30);
        assert_eq!(config.topic_defaults.max_message_bytes, 1_048_588);
        assert_eq!(config.topic_defaults.message_timestamp_after_max_ms, 3_600_000);
    }

    #[test]
    fn a_file_is_refused_with_the_name_the_value_and_the_remedy() {
        refused("num.partition", "3", "Unknown broker config name: num.partition. Did you mean num.partitions?");
        refused("num.partitions", "0", "Invalid value \"0\" for num.partitions: allowed is at least 1.");
        refused(
            "log.cleanup.policy",
            "compress",
            "Invalid value \"compress\" for log.cleanup.policy: allowed is empty, or a list of compact, delete.",
        );
        refused("log.dirs", "/data", "Invalid value \"/data\" for log.dirs: the data folder is set by --data-dir.");
        refused(
            "authorizer.class.name",
            "org.example.Authorizer",
            "Invalid value \"org.example.Authorizer\" for authorizer.class.name: access control is not served yet.",
        );
        refused(
            "sasl.enabled.mechanisms",
            "PLAIN",
            "Invalid value \"PLAIN\" for sasl.enabled.mechanisms: authentication is not served yet.",
        );
        refused(
            "ssl.keystore.location",
            "/k",
            "Invalid value \"/k\" for ssl.keystore.location: TLS is not served yet.",
        );
        let twice = BrokerConfig::parse([("num.partitions", "1"), ("num.partitions", "2")]);
        assert_eq!(twice.expect_err("refused").to_string(), "The config num.partitions is given twice.");
    }

    #[test]
    fn what_would_secure_the_broker_is_refused() {
        let of_security = |known: &&BrokerKey| {
            let name = known.key.name;
            let is_secured = ["ssl.", "sasl.", "authorizer.", "security."].iter().any(|area| name.starts_with(area));
            let is_promise = [".location", ".key", "certificate.chain", ".certificates", ".mechanisms", ".protocol"]
                .iter()
                .any(|end| name.ends_with(end));
            is_secured && is_promise
        };
        let promises: Vec<_> = broker_keys().filter(of_security).collect();
        assert!(promises.len() > 8, "{promises:?}");
        for known in promises {
            let told = known.key.check("something else");
            assert!(matches!(told, Err(ConfigError::NotServed { .. })), "{}: {told:?}", known.key.name);
            assert_eq!(known.key.check(known.key.default.unwrap_or_default()), Ok(()));
        }
    }

    #[test]
    fn a_setting_without_effect_is_taken_and_named() {
        let config = BrokerConfig::parse([("num.io.threads", "16"), ("num.partitions", "2")]).expect("both are known");
        let named: Vec<_> = config.without_effect().map(|(name, _)| name).collect();
        assert_eq!(named, ["num.io.threads"]);
    }

    #[test]
    fn milliseconds_count_before_minutes_before_hours() {
        let retention = |pairs: &[(&str, &str)]| {
            BrokerConfig::parse(pairs.iter().copied()).expect("valid").topic_defaults.retention_ms
        };
        assert_eq!(retention(&[("log.retention.hours", "2")]), Some(7_200_000));
        assert_eq!(retention(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]), Some(180_000));
        assert_eq!(retention(&[("log.retention.minutes", "3"), ("log.retention.ms", "4")]), Some(4));
        assert_eq!(retention(&[("log.retention.hours", "-1")]), None);
        assert_eq!(retention(&[("log.retention.ms", "-1")]), None);
    }

    #[test]
    fn topic_counts_before_broker_before_cluster_before_file() {
        let file = BrokerConfig::parse([("log.segment.bytes", "1000001048576")]);
        assert!(file.is_err(), "a segment's size has 32 bits");
        let file = BrokerConfig::parse([("log.segment.bytes", "2000000")]).expect("valid");
        let cluster = layer(&[("log.segment.bytes", "3000000")]);
        let broker = layer(&[("log.segment.bytes", "4000000")]);
        let topic = layer(&[("segment.bytes", "5000000")]);
        let bytes = |config: &BrokerConfig, own: &Layer| config.topic(own).segment_bytes;
        let none = Layer::new();
        assert_eq!(bytes(&file, &none), 2_000_000);
        assert_eq!(bytes(&file.with_dynamic(&cluster, &none), &none), 3_000_000);
        let all = file.with_dynamic(&cluster, &broker);
        assert_eq!(bytes(&all, &none), 4_000_000);
        assert_eq!(bytes(&all, &topic), 5_000_000);

        let described = all.topic_setting(topic_key("segment.bytes").expect("known"), &topic);
        assert_eq!(described.source, Source::Topic);
        let places: Vec<_> = described.synonyms.iter().map(|(name, _, source)| (*name, *source)).collect();
        assert_eq!(
            places,
            [
                ("segment.bytes", Source::Topic),
                ("log.segment.bytes", Source::Broker),
                ("log.segment.bytes", Source::Cluster),
                ("log.segment.bytes", Source::File),
                ("log.segment.bytes", Source::Default),
            ]
        );
    }

    #[test]
    fn a_dynamic_value_that_this_version_refuses_counts_as_not_set() {
        let config = BrokerConfig::default();
        let layered = config.with_dynamic(&layer(&[("log.segment.bytes", "1"), ("no.such.key", "1")]), &Layer::new());
        assert_eq!(layered, config);
        assert_eq!(config.topic(&layer(&[("segment.bytes", "1")])), config.topic_defaults);
    }

    #[test]
    fn a_segment_below_the_users_limit_is_possible_under_the_internal_name() {
        let own = layer(&[("internal.segment.bytes", "100")]);
        let config = BrokerConfig::default();
        assert_eq!(config.check_topic(&own), Ok(()));
        assert_eq!(config.topic(&own).segment_bytes, 100);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let own = layer(&[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")]);
        let told = BrokerConfig::default().check_topic(&own).expect_err("refused").to_string();
        assert_eq!(told, "Invalid values: min.compaction.lag.ms must not exceed max.compaction.lag.ms.");
    }
}
