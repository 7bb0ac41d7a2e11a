//! Creating topics, and partitions of topics.
//!
//! CreateTopics 2-7 (KIP-4, KIP-464, KIP-525), CreatePartitions 0-3 (KIP-195), and the topics that a client's interest
//! creates. Every topic of a request succeeds or fails by itself; those that succeed are created together.

use std::collections::{BTreeMap, BTreeSet};

use super::image::Topic;
use super::records::{MetadataRecord, PartitionState, Resource};
use super::{Controller, Decision, Draft, GROUP_OFFSETS, Refused, is_internal, name};
use crate::config::{Layer, TOPIC_KEYS, excerpt};
use crate::ids::{TopicId, TopicPartition, Uuid};
use crate::rng::Rng;
use crate::wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use crate::wire::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use crate::wire::{ErrorCode, Str};

/// The name of the metadata log in Kafka, which is no topic here, and must not look like one.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// The smallest segment that a topic may be set to, in bytes (KIP-1030).
const SEGMENT_BYTES_MIN: u32 = 1 << 20;

impl Controller {
    /// Creates topics.
    pub fn create_topics(&self, rng: &mut Rng, request: &CreateTopicsRequest) -> Decision<CreateTopicsResponse> {
        let mut draft = Draft::new(self);
        let mut taken = BTreeSet::new();
        let topics = by_name(&request.topics, |topic| &topic.name)
            .map(|(topic, is_duplicate)| {
                let created = match is_duplicate {
                    true => Err(duplicate()),
                    false => self.create_topic(rng, &mut draft, &mut taken, topic),
                };
                match created {
                    Ok(mut result) => {
                        // What was only checked has no identity.
                        result.topic_id = if request.validate_only { Uuid::ZERO } else { result.topic_id };
                        result
                    }
                    Err(refused) => CreatableTopicResult {
                        name: topic.name.clone(),
                        error_code: refused.error.code(),
                        error_message: Some(refused.message.into()),
                        configs: Some(Vec::new()),
                        ..CreatableTopicResult::default()
                    },
                }
            })
            .collect();
        draft.decide(request.validate_only, CreateTopicsResponse { throttle_time_ms: 0, topics })
    }

    /// Creates the topics of these names, with the broker's defaults: those that clients asked for and that
    /// [`metadata`](Controller::metadata) found missing. Returns what was not created, and why.
    pub fn auto_create(&self, rng: &mut Rng, names: &[Str]) -> Decision<Vec<(Str, Refused)>> {
        let mut draft = Draft::new(self);
        let mut taken = BTreeSet::new();
        let mut refusals = Vec::new();
        for name in names {
            let created = match **name == *GROUP_OFFSETS {
                true => self.create_group_offsets(rng, &mut draft, &mut taken),
                false => {
                    let topic = CreatableTopic {
                        name: name.clone(),
                        num_partitions: -1,
                        replication_factor: -1,
                        ..CreatableTopic::default()
                    };
                    self.create_topic(rng, &mut draft, &mut taken, &topic).map(drop)
                }
            };
            if let Err(refused) = created {
                refusals.push((name.clone(), refused));
            }
        }
        draft.decide(false, refusals)
    }

    /// Adds the topic that keeps what groups must not lose, with settings that only the broker knows.
    fn create_group_offsets(
        &self,
        rng: &mut Rng,
        draft: &mut Draft<'_>,
        taken: &mut BTreeSet<String>,
    ) -> Result<(), Refused> {
        let groups = &self.config.groups;
        let brokers = i16::try_from(self.brokers_to_be()).unwrap_or(i16::MAX);
        let topic = CreatableTopic {
            name: Str::from_static(GROUP_OFFSETS),
            num_partitions: groups.offsets_topic_num_partitions,
            replication_factor: groups.offsets_topic_replication_factor.min(brokers.max(1)),
            ..CreatableTopic::default()
        };
        let segment_bytes = groups.offsets_topic_segment_bytes.max(SEGMENT_BYTES_MIN).to_string();
        let settings =
            [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", &segment_bytes)];
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.check_name(&topic.name, taken)?;
        self.add_topic(rng, draft, taken, &topic, &settings).map(drop)
    }

    /// Adds one topic to `draft`. `taken` holds the names, in their unified form, that the request has used so far.
    fn create_topic(
        &self,
        rng: &mut Rng,
        draft: &mut Draft<'_>,
        taken: &mut BTreeSet<String>,
        topic: &CreatableTopic,
    ) -> Result<CreatableTopicResult, Refused> {
        self.check_name(&topic.name, taken)?;
        let settings = self.creation_settings(topic)?;
        self.add_topic(rng, draft, taken, topic, &settings)
    }

    /// The same for a topic whose name and settings have been checked.
    fn add_topic(
        &self,
        rng: &mut Rng,
        draft: &mut Draft<'_>,
        taken: &mut BTreeSet<String>,
        topic: &CreatableTopic,
        settings: &Layer,
    ) -> Result<CreatableTopicResult, Refused> {
        let partitions = match topic.assignments.is_empty() {
            true => self.placed(draft, topic)?,
            false => self.assigned(draft, topic)?,
        };
        let id = rng.uuid();
        let result = CreatableTopicResult {
            name: topic.name.clone(),
            topic_id: id,
            num_partitions: i32::try_from(partitions.len()).expect("they were admitted"),
            replication_factor: i16::try_from(partitions[0].replicas.len()).expect("brokers are few"),
            configs: Some(self.created_configs(settings, partitions[0].replication_factor())),
            ..CreatableTopicResult::default()
        };
        // The name outlives the request, and must not keep its buffer in memory.
        let named = MetadataRecord::Topic { id, name: topic.name.detached() };
        let configs = settings.iter().map(|(name, value)| MetadataRecord::Config {
            of: Resource::Topic(id),
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
        });
        draft.add([named].into_iter().chain(configs).chain(partition_records(id, 0, partitions)).collect())?;
        taken.insert(topic.name.replace('.', "_"));
        Ok(result)
    }

    fn check_name(&self, name: &str, taken: &BTreeSet<String>) -> Result<(), Refused> {
        if name == CLUSTER_METADATA {
            let message = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
        if self.image.topic_named(name).is_some() {
            return Err(Refused::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        name::check(name)?;
        let collides = |with: &str| {
            let message = format!("Topic '{name}' collides with {with}: they differ in '.' and '_' alone.");
            Err(Refused::new(ErrorCode::InvalidTopicException, message))
        };
        if let Some(other) = self.image.topic_like(name) {
            return collides(&format!("existing topic '{}'", other.name));
        }
        if taken.contains(&name.replace('.', "_")) {
            return collides("another topic of this request");
        }
        Ok(())
    }

    /// The settings that a topic is to be created with. Where one is given twice the last counts, as in Kafka.
    fn creation_settings(&self, topic: &CreatableTopic) -> Result<Layer, Refused> {
        if let Some(null) = topic.configs.iter().find(|config| config.value.is_none()) {
            let message = format!("Null value not supported for {}.", excerpt(&null.name));
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        }
        let settings: Layer = topic
            .configs
            .iter()
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.trim().to_owned())))
            .collect();
        self.config
            .check_topic(&settings)
            .map_err(|error| Refused::new(ErrorCode::InvalidConfig, error.to_string()))?;
        Ok(settings)
    }

    /// The partitions of a topic whose creator says how many there shall be.
    fn placed(&self, draft: &Draft<'_>, topic: &CreatableTopic) -> Result<Vec<PartitionState>, Refused> {
        let replication_factor = match topic.replication_factor {
            -1 => self.default_replication_factor(),
            given => given,
        };
        let replication_factor = usize::try_from(replication_factor).ok().filter(|factor| *factor > 0);
        let replication_factor = replication_factor.ok_or_else(|| {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            Refused::new(ErrorCode::InvalidReplicationFactor, message)
        })?;
        let count = match topic.num_partitions {
            -1 => self.config.num_partitions,
            given => given,
        };
        let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
            let message = "Number of partitions must be larger than 0, or -1 to use the default value.";
            Refused::new(ErrorCode::InvalidPartitions, message)
        })?;
        draft.admit(count)?;
        self.place(count, replication_factor, draft.partitions)
    }

    /// The partitions of a topic whose creator says where they shall be.
    fn assigned(&self, draft: &Draft<'_>, topic: &CreatableTopic) -> Result<Vec<PartitionState>, Refused> {
        let given = |what| {
            let message = format!("With assignments, {what} must be -1.");
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        };
        if topic.replication_factor != -1 {
            return given("the replication factor");
        }
        if topic.num_partitions != -1 {
            return given("the number of partitions");
        }
        draft.admit(topic.assignments.len())?;
        let mut partitions = BTreeMap::new();
        let mut replication_factor = None;
        for CreatableReplicaAssignment { partition_index, broker_ids } in &topic.assignments {
            let state = self.assign(broker_ids, replication_factor)?;
            replication_factor = Some(state.replicas.len());
            if partitions.insert(*partition_index, state).is_some() {
                let message = format!("Partition {partition_index} is assigned more than once.");
                return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
            }
        }
        if !partitions.keys().copied().eq((0..).take(partitions.len())) {
            let message = "The assigned partitions must be numbered from 0 without a gap.";
            return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Ok(partitions.into_values().collect())
    }

    /// The settings of a topic that was created, as its creator is told them (KIP-525).
    fn created_configs(&self, settings: &Layer, replication_factor: usize) -> Vec<CreatableTopicConfigs> {
        TOPIC_KEYS
            .iter()
            .filter(|known| !known.internal)
            .map(|known| self.topic_setting(known, settings, replication_factor))
            .map(|setting| CreatableTopicConfigs {
                name: Str::from_static(setting.key.name),
                value: setting.value.map(Str::from),
                read_only: setting.is_read_only,
                config_source: setting.source.id(),
                is_sensitive: setting.key.is_sensitive(),
            })
            .collect()
    }

    /// Adds partitions to topics.
    pub fn create_partitions(&self, request: &CreatePartitionsRequest) -> Decision<CreatePartitionsResponse> {
        let mut draft = Draft::new(self);
        let results = by_name(&request.topics, |topic| &topic.name)
            .map(|(topic, is_duplicate)| {
                let grown = match is_duplicate {
                    true => Err(duplicate()),
                    false => self.grow(&mut draft, topic),
                };
                let (error_code, error_message) = Refused::fields(grown);
                CreatePartitionsTopicResult { name: topic.name.clone(), error_code, error_message }
            })
            .collect();
        draft.decide(request.validate_only, CreatePartitionsResponse { throttle_time_ms: 0, results })
    }

    fn grow(&self, draft: &mut Draft<'_>, asked: &CreatePartitionsTopic) -> Result<(), Refused> {
        let topic = self.existing(&asked.name)?;
        if *topic.name == *GROUP_OFFSETS {
            let message = "Groups are found by the number of partitions that __consumer_offsets has; it cannot change.";
            return Err(Refused::new(ErrorCode::InvalidPartitions, message));
        }
        let exist = topic.partitions.len();
        let count = usize::try_from(asked.count).ok().filter(|count| *count > exist).ok_or_else(|| {
            let message = match i32::try_from(exist) == Ok(asked.count) {
                true => format!("Topic already has {exist} partition(s)."),
                false => format!(
                    "The topic {} has {exist} partition(s), so {} would not be an increase.",
                    asked.name, asked.count
                ),
            };
            Refused::new(ErrorCode::InvalidPartitions, message)
        })?;
        let more = count - exist;
        draft.admit(more)?;
        let replication_factor = topic.partitions[0].replication_factor();
        let partitions = match &asked.assignments {
            None => self.place(more, replication_factor, draft.partitions)?,
            Some(assignments) if assignments.len() != more => {
                let message = format!("{more} partition(s) are to be added, but {} are assigned.", assignments.len());
                return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            Some(assignments) => assignments
                .iter()
                .map(|assignment| self.assign(&assignment.broker_ids, Some(replication_factor)))
                .collect::<Result<_, _>>()?,
        };
        draft.add(partition_records(topic.id, exist, partitions).collect())
    }

    /// The topic called `name`, or why there is none.
    pub(super) fn existing(&self, name: &str) -> Result<&Topic, Refused> {
        self.image.topic_named(name).ok_or_else(|| match name::check(name) {
            Err(refused) => refused,
            Ok(()) => Refused::new(ErrorCode::UnknownTopicOrPartition, format!("Topic '{name}' does not exist.")),
        })
    }

    /// Whether a topic of this name would be created for a client that asks for it.
    pub(super) fn may_auto_create(&self, name: &str) -> bool {
        self.config.auto_create_topics_enable
            && name::check(name).is_ok()
            && name != CLUSTER_METADATA
            // The broker's own topics need settings that only the broker knows.
            && (!is_internal(name) || *name == *GROUP_OFFSETS)
    }
}

fn partition_records(
    topic: TopicId,
    first: usize,
    partitions: Vec<PartitionState>,
) -> impl Iterator<Item = MetadataRecord> {
    let first = i32::try_from(first).expect("partitions are numbered by an i32");
    (first..).zip(partitions).map(move |(index, state)| MetadataRecord::Partition {
        partition: TopicPartition { topic, partition: index },
        state,
    })
}

/// Each item once, in order, and whether its name occurs more than once.
fn by_name<T>(items: &[T], name: impl Fn(&T) -> &Str) -> impl Iterator<Item = (&T, bool)> {
    let mut counts: BTreeMap<Str, usize> = BTreeMap::new();
    for item in items {
        *counts.entry(name(item).clone()).or_default() += 1;
    }
    items.iter().filter_map(move |item| counts.remove(name(item)).map(|count| (item, count > 1)))
}

fn duplicate() -> Refused {
    Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name.")
}
