//! What a golden folder holds, as a text that later versions of these tests read too: fields may be added, with what
//! their absence means; none may change.

use std::collections::BTreeMap;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use serde::{Deserialize, Serialize};

use crate::support::topic::{Topic, text};

/// All that is claimed of a folder.
#[derive(Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) cluster_id: String,
    /// The text of `meta.toml`, which no version may change.
    pub(super) identity: String,
    /// Settings of all brokers, made while it ran.
    pub(super) settings: BTreeMap<String, String>,
    pub(super) producer: LastBatch,
    pub(super) topics: Vec<TopicClaim>,
}

/// The last batch of an idempotent producer.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct LastBatch {
    /// In partition 0 of this topic.
    pub(super) topic: String,
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
    pub(super) count: i32,
    /// Where its first record is.
    pub(super) offset: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TopicClaim {
    pub(super) name: String,
    pub(super) id: String,
    /// Its own settings.
    pub(super) settings: BTreeMap<String, String>,
    pub(super) partitions: Vec<PartitionClaim>,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct PartitionClaim {
    /// The log start offset.
    pub(super) start: i64,
    /// Each a [`RecordClaim`].
    pub(super) records: Vec<String>,
}

/// A record: its offset, its timestamp in ms, its key or `-`, its value as a count and what is repeated so often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecordClaim {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<String>,
    pub(super) value: Repeated,
}

/// A value, written short however long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) times: usize,
    pub(super) of: String,
}

impl Repeated {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.of.repeat(self.times).into_bytes()
    }
}

impl RecordClaim {
    pub(super) fn to_text(&self) -> String {
        let Self { offset, timestamp, key, value } = self;
        format!("{offset} {timestamp} {} {} {}", key.as_deref().unwrap_or("-"), value.times, value.of)
    }

    pub(super) fn from_text(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let [offset, timestamp, key, times, of] = words[..] else { panic!("not a record: {text}") };
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{word:?} in {text}"));
        Self {
            offset: number(offset),
            timestamp: number(timestamp),
            key: (key != "-").then(|| key.to_owned()),
            value: Repeated { times: number(times) as usize, of: of.to_owned() },
        }
    }
}

impl TopicClaim {
    /// The topic, to be asked about.
    pub(super) fn topic(&self) -> Topic {
        let id = self.id.parse().expect("an id as `Contents` writes it");
        Topic { name: TopicName(text(&self.name)), created: CreatableTopicResult::default().with_topic_id(id) }
    }

    /// Whether its records must have keys.
    pub(super) fn compacts(&self) -> bool {
        self.settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
    }
}

impl Contents {
    pub(super) fn to_text(&self) -> String {
        toml::to_string_pretty(self).expect("all keys are text")
    }

    pub(super) fn from_text(text: &str) -> Self {
        toml::from_str(text).expect("contents as they were written")
    }

    pub(super) fn topic(&mut self, name: &str) -> &mut TopicClaim {
        self.topics.iter_mut().find(|topic| topic.name == name).expect("a topic of the story")
    }
}
