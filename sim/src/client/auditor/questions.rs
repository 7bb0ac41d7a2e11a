//! What is asked when all is read, and follows from it.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use chronik_core::wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use chronik_core::wire::{ErrorCode, Request, Response, Str};

use super::{Auditor, OFFSETS_VERSION, Part};
use crate::client::group::offsets::{self, Credentials};
use crate::client::group::{find_coordinator, group_name};
use crate::client::reading::{Sought, known_code, list_offsets, listed};
use crate::client::wires::Node;
use crate::client::{ClientNow, Wanted, stream};
use crate::history::{ClientId, What};
use crate::plan::TopicPlan;

const CONFIGS_VERSION: i16 = 4;
const EPOCHS_VERSION: i16 = 4;
/// The version of OffsetFetch that it asks in: topics go by name.
pub(super) const COMMITTED_VERSION: i16 = 9;
/// The version of FindCoordinator that it asks in.
const COORDINATOR_VERSION: i16 = 6;
/// So many answers that offsets cannot be told yet, and the group is left.
const LOADS_MAX: u32 = 12;
/// The number that Kafka's config requests give to topics.
const TOPIC_RESOURCE: i8 = 2;
/// How many offsets of timestamps are asked for.
const TIMES: u64 = 8;

/// What is asked when all is read.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Where the leader epochs end that were read, of the partitions that a broker leads.
    Epochs(Node),
    /// Who coordinates a group.
    Coordinator(u32),
    /// The offset of a timestamp, of the partition at this place.
    Time(usize, i64),
    /// The topics' settings.
    Settings,
    /// What is committed for a group, after so many answers that say to ask again.
    Group(u32, u32),
}

impl Auditor {
    /// What to ask about what was read.
    pub(super) fn questions(&self) -> Vec<Question> {
        let mut questions: Vec<Question> = self.groups.iter().map(|&group| Question::Group(group, 0)).collect();
        questions.push(Question::Settings);
        let leaders: BTreeSet<Node> = self.places_read().filter_map(|place| self.leader(place)).collect();
        questions.extend(leaders.into_iter().map(Question::Epochs));
        let known: Vec<usize> = self.places_read().filter(|&place| !self.parts[place].timestamps.is_empty()).collect();
        for number in 0..TIMES.min(known.len() as u64 * 2) {
            let mut dice = self.jitter.keyed(stream(ClientId::AUDITOR.0) + 1, number);
            let mut pick = |count: usize| usize::try_from(dice.below(count as u64)).expect("it is an index");
            let place = known[pick(known.len())];
            let timestamps = &self.parts[place].timestamps;
            questions.push(Question::Time(place, timestamps[pick(timestamps.len())]));
        }
        questions
    }

    pub(super) fn request(&self, question: &Question) -> (Request, i16) {
        match *question {
            Question::Coordinator(group) => {
                (find_coordinator(&group_name(group), COORDINATOR_VERSION), COORDINATOR_VERSION)
            }
            Question::Group(group, _) => {
                let (name, nobody) = (group_name(group), Credentials::none());
                (offsets::fetch(COMMITTED_VERSION, &name, &nobody, None, &self.topics), COMMITTED_VERSION)
            }
            Question::Time(place, timestamp) => (list_offsets([&self.parts[place].sought], timestamp), OFFSETS_VERSION),
            Question::Settings => {
                let is_there = |name: &Str| self.parts.iter().any(|part| part.sought.name == *name);
                let there = self.configs.iter().filter(|(name, keys)| !keys.is_empty() && is_there(name));
                let resource = |(name, keys): &(Str, Vec<Str>)| DescribeConfigsResource {
                    resource_type: TOPIC_RESOURCE,
                    resource_name: name.clone(),
                    configuration_keys: Some(keys.clone()),
                };
                let resources = there.map(resource).collect();
                (DescribeConfigsRequest { resources, ..Default::default() }.into(), CONFIGS_VERSION)
            }
            Question::Epochs(node) => {
                let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
                let led = self.places_read().filter(|&place| self.leader(place) == Some(node));
                for part in led.map(|place| &self.parts[place]) {
                    let Sought { name, partition } = &part.sought;
                    if topics.last().is_none_or(|topic| topic.topic != *name) {
                        topics.push(OffsetForLeaderTopic { topic: name.clone(), partitions: Vec::new() });
                    }
                    // Of the newest the end is that of the log, which was told.
                    let (_, ended) = part.epochs.split_last().unwrap_or((&0, &[]));
                    let asked = ended.iter().map(|&leader_epoch| OffsetForLeaderPartition {
                        partition: partition.partition,
                        leader_epoch,
                        ..Default::default()
                    });
                    topics.last_mut().expect("one was pushed").partitions.extend(asked);
                }
                (OffsetForLeaderEpochRequest { topics, ..Default::default() }.into(), EPOCHS_VERSION)
            }
        }
    }

    pub(super) fn answered(
        &self,
        question: &Question,
        at: Instant,
        response: &Response,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), String> {
        match (question, response) {
            (&Question::Time(place, timestamp), Response::ListOffsets(response)) => {
                let sought = std::slice::from_ref(&self.parts[place].sought);
                listed(sought, timestamp, at, response, None, wanted).map(drop)
            }
            (Question::Settings, Response::DescribeConfigs(response)) => {
                for result in &response.results {
                    for config in &result.configs {
                        let (topic, name) = (result.resource_name.to_string(), config.name.to_string());
                        let value = config.value.as_ref().map(ToString::to_string);
                        wanted.push(Wanted::Record(None, What::Described { topic, name, value }));
                    }
                }
                Ok(())
            }
            (Question::Epochs(_), Response::OffsetForLeaderEpoch(response)) => {
                for topic in &response.topics {
                    let of_it = |part: &&Part| part.sought.name == topic.topic;
                    let Some(id) = self.parts.iter().find(of_it).map(|part| part.sought.partition.topic) else {
                        return Err(format!("epochs of {} are told, but nobody asked for them", topic.topic));
                    };
                    let mut asked = BTreeMap::new();
                    for answer in &topic.partitions {
                        let partition = TopicPartition { topic: id, partition: answer.partition };
                        let part = self.parts.iter().find(|part| part.sought.partition == partition);
                        // Answers about one partition come in the order of the questions.
                        let turn: &mut usize = asked.entry(partition).or_default();
                        let Some(&asked) = part.and_then(|part| part.epochs.get(*turn)) else {
                            return Err(format!("an epoch of {partition} is told, but nobody asked for it"));
                        };
                        *turn += 1;
                        if known_code(answer.error_code)? == ErrorCode::None {
                            let (leader_epoch, end) = (answer.leader_epoch, Offset(answer.end_offset));
                            wanted.push(Wanted::Record(None, What::EpochEnds { partition, asked, leader_epoch, end }));
                        }
                    }
                }
                Ok(())
            }
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    /// A group's coordinator is loaded, or not known, or there never was a group: it is asked for again a while later, and
    /// left where it has been so for long.
    pub(super) fn left(&mut self, now: ClientNow, group: u32) {
        match self.questions.last_mut() {
            Some(Question::Group(last, tries)) if *last == group && *tries < LOADS_MAX => {
                *tries += 1;
                self.caller.back_off(now);
            }
            _ => {
                self.questions.pop();
                self.caller.go_on();
            }
        }
    }
}

/// The names of a topic and of the configs that the plan gives it.
pub(super) fn configs(topic: &TopicPlan) -> (Str, Vec<Str>) {
    (topic.name.as_str().into(), topic.configs.keys().map(|name| name.as_str().into()).collect())
}
