//! Kafka's configuration names: which are obeyed, their types, ranges and defaults.
//!
//! Two tables say everything: [`TOPIC_KEYS`] and [`broker_keys`]. What a client may set, what it is
//! told about a setting, what the configuration file may hold and `docs/configuration.md` all follow from them. A name
//! of Kafka's that Chronik has no use for is known all the same, is stored and described, and says why it changes
//! nothing; a name that Kafka does not know is an error with the nearest known one.
//!
//! A topic's setting comes from the first of these that has it: the topic itself, this node's dynamic setting, the
//! cluster's dynamic default, the configuration file, the built-in default. [`BrokerConfig`] holds all but the first.
//!
//! Not here: the command line and the file's syntax (the shell's), and who may change what (the controller's).

mod broker;
mod groups;
mod known;
mod obeyed;
mod topic;
mod topic_keys;
mod value;

pub use broker::{BrokerConfig, BrokerKey, ElectionRules, Layer, Setting, Source, Update, broker_key, broker_keys};
pub use groups::GroupsConfig;
pub use obeyed::BROKER_KEYS;
pub use topic::{Cleanup, Compression, Stand, Throttled, TimestampType, TopicConfig, TopicKey, topic_key};
pub use topic_keys::TOPIC_KEYS;
pub use value::{Allowed, ConfigError, Effect, Key, Kind, excerpt, parts};
