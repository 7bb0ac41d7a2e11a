//! An admin: creates, deletes and changes, one operation at a time, and the client that creates the plan's topics.
//!
//! An operation is a short script: learn the topics, perhaps ask for the partition's ends, then act. What is not
//! answered is asked again, from the script's start. An error that may be the echo of an earlier try without an answer
//! counts as success: TOPIC_ALREADY_EXISTS after a creation, an unknown topic after a deletion. Which id a topic has
//! that was created so, Metadata tells.

use std::time::Duration;

use chronik_core::ids::{Offset, TopicId, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use chronik_core::wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use chronik_core::wire::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use chronik_core::wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use chronik_core::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_core::wire::{ErrorCode, Request, Response};

use super::caller::{Caller, Outcome};
use super::reading::{EARLIEST, LATEST, Sought, known_code, list_offsets, listed};
use super::schedule::Schedule;
use super::topics::{METADATA_VERSION, Topics};
use super::wires::Node;
use super::{Client, ClientNow, Happened, Wanted, asking};
use crate::history::{ClientId, What};
use crate::plan::{Action, Operation, Plan, TopicPlan};

/// An operation is given up when it has not succeeded for so long ...
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);
/// ... or was answered with so many errors that might pass.
const ERRORS_MAX: u32 = 5;
/// The number that Kafka's config requests give to topics.
const TOPIC_RESOURCE: i8 = 2;
/// What an incremental change does: set, or put the default back.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// The version of ListOffsets that is asked in.
const OFFSETS_VERSION: i16 = 10;

/// An admin.
pub(super) struct Admin {
    name: String,
    caller: Caller,
    topics: Topics,
    plans: Vec<TopicPlan>,
    nodes: Node,
    schedule: Schedule,
    doing: Option<Doing>,
    asked: Option<Asked>,
    gives_up: bool,
    is_done: bool,
}

/// An operation under way.
#[derive(Debug)]
struct Doing {
    operation: u32,
    what: Action,
    since: Instant,
    /// The topics were learned since it began, or since its last try.
    has_topics: bool,
    /// A try that changes something may have been carried out.
    is_open: bool,
    /// The topic to be deleted, chosen once.
    id: Option<TopicId>,
    /// The partition's start and end.
    ends: (Option<Offset>, Option<Offset>),
    /// How many partitions a topic shall have, chosen once.
    count: Option<i32>,
    last: Option<ErrorCode>,
    errors: u32,
}

/// A request under way.
#[derive(Debug)]
enum Asked {
    Metadata,
    /// Of one partition, an offset that the operation needs or is about.
    Offset(Vec<Sought>, i64),
    /// What the operation is about.
    Act(Acting),
}

/// A request that carries the operation out, and what must be known of it when it is answered.
#[derive(Clone, Copy, Debug)]
enum Acting {
    Create,
    Delete(TopicId),
    Grow,
    Alter,
    DeleteRecords(TopicPartition),
    Ask,
}

/// What is next: a request, its version and what it asks; none where there is nothing to do it to.
type Step = Option<(Request, i16, Asked)>;

impl Admin {
    pub(super) fn new(plan: &Plan, index: u32, request_timeout: Duration, operations: &[Operation]) -> Admin {
        Admin::named(plan, format!("admin-{index}"), index, request_timeout, operations, true)
    }

    /// Who creates the plan's topics, and does not give up.
    pub(super) fn setup(plan: &Plan) -> Admin {
        let create = |topic| Operation { at_ms: 0, what: Action::CreateTopic { topic } };
        let operations: Vec<Operation> = (0..plan.topics.len()).map(create).collect();
        Admin::named(plan, "setup".to_owned(), ClientId::SETUP.0, Duration::from_secs(5), &operations, false)
    }

    fn named(
        plan: &Plan,
        name: String,
        index: u32,
        timeout: Duration,
        operations: &[Operation],
        gives_up: bool,
    ) -> Admin {
        Admin {
            caller: Caller::new(plan, &name, timeout, super::stream(index)),
            nodes: plan.nodes(),
            name,
            topics: Topics::new(plan),
            plans: plan.topics.clone(),
            schedule: Schedule::new(operations),
            doing: None,
            asked: None,
            gives_up,
            is_done: false,
        }
    }

    fn begin(&mut self, now: ClientNow) {
        if self.doing.is_some() {
            return;
        }
        let Some((operation, due)) = self.schedule.due(now) else { return };
        self.doing = Some(Doing {
            operation,
            what: due.what.clone(),
            since: now.instant,
            has_topics: false,
            is_open: false,
            id: None,
            ends: (None, None),
            count: None,
            last: None,
            errors: 0,
        });
        self.schedule.go_on();
    }

    fn finish(&mut self, is_ok: bool, code: Option<ErrorCode>, wanted: &mut Vec<Wanted>) {
        if let Some(doing) = self.doing.take() {
            wanted.push(Wanted::Record(Some(doing.operation), What::Finished { is_ok, code }));
        }
        self.caller.go_on();
    }

    fn operation(&self) -> Option<u32> {
        self.doing.as_ref().map(|doing| doing.operation)
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        loop {
            self.begin(now);
            let Some(doing) = &self.doing else { break };
            if self.asked.is_some() {
                break;
            }
            if self.gives_up && doing.since + GIVE_UP_AFTER <= now.instant {
                let last = doing.last;
                self.finish(false, last, wanted);
                continue;
            }
            let to = self.whom(now.instant);
            if !self.caller.is_free(now, to, wanted) {
                break;
            }
            match self.next_step(now, wanted) {
                Some((request, version, asked)) => {
                    self.caller.ask(now, &request, version, wanted);
                    self.asked = Some(asked);
                    break;
                }
                None => self.finish(false, Some(ErrorCode::UnknownTopicOrPartition), wanted),
            }
        }
        if !self.is_done && self.doing.is_none() && self.schedule.is_over() {
            self.is_done = true;
            self.caller.close(wanted);
            wanted.push(Wanted::Record(None, What::Done));
        }
    }

    /// Whom the next request goes to: a partition's leader, or whoever's turn it is; `None` where it does not matter.
    fn whom(&self, now: Instant) -> Option<Node> {
        let doing = self.doing.as_ref().filter(|doing| doing.has_topics && self.nodes > 1)?;
        match doing.what {
            Action::ListOffsets { topic, partition, .. } | Action::DeleteRecords { topic, partition, .. } => {
                self.topics.leader(topic, partition)
            }
            // What one of them cannot do, or does not answer, the next one may.
            _ => Some(self.caller.turn(now, doing.operation + doing.errors, self.nodes)),
        }
    }

    fn next_step(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> Step {
        let doing = self.doing.as_mut().expect("an operation is under way");
        if !doing.has_topics {
            let request = self.topics.request(0..self.plans.len());
            return Some((request, METADATA_VERSION, Asked::Metadata));
        }
        let record = |what| Wanted::Record(Some(doing.operation), what);
        match &doing.what {
            Action::CreateTopic { topic } => {
                let name = self.plans[*topic].name.clone();
                wanted.push(record(What::CreateTopic { name }));
                Some((create(&self.plans[*topic]), 7, Asked::Act(Acting::Create)))
            }
            Action::DeleteTopic { topic } => {
                let topic = self.topics.get(*topic);
                let id = doing.id.or(topic.id)?;
                wanted.push(record(What::DeleteTopic { name: topic.name.to_string(), id }));
                doing.id = Some(id);
                let topic = DeleteTopicState { name: None, topic_id: id };
                let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..Default::default() };
                Some((request.into(), 6, Asked::Act(Acting::Delete(id))))
            }
            Action::CreatePartitions { topic, more } => {
                let topic = self.topics.get(*topic);
                topic.id?;
                let count = *doing.count.get_or_insert(topic.partitions + more.max(&1));
                let name = topic.name.clone();
                let topic = CreatePartitionsTopic { name, count, ..Default::default() };
                let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false };
                Some((request.into(), 3, Asked::Act(Acting::Grow)))
            }
            Action::AlterConfig { topic, name, value } => {
                let topic = self.topics.get(*topic);
                let (topic_name, name, value) = (topic.name.to_string(), name.clone(), value.clone());
                let config_operation = if value.is_some() { SET } else { DELETE };
                let config = AlterableConfig {
                    name: name.as_str().into(),
                    config_operation,
                    value: value.as_deref().map(Into::into),
                };
                wanted.push(record(What::AlterConfig { topic: topic_name, name, value }));
                let resource_name = topic.name.clone();
                let resource =
                    AlterConfigsResource { resource_type: TOPIC_RESOURCE, resource_name, configs: vec![config] };
                let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
                Some((request.into(), 1, Asked::Act(Acting::Alter)))
            }
            &Action::ListOffsets { topic, partition, timestamp } => {
                let asked = match timestamp {
                    0.. => now.wall.0 - i64::try_from(now.instant.0 / 1_000_000).unwrap_or(0) + timestamp,
                    special => special,
                };
                self.ask_offset(topic, partition, asked)
            }
            &Action::DeleteRecords { topic, partition, permille } => {
                let (start, end) = match doing.ends {
                    (None, _) => return self.ask_offset(topic, partition, EARLIEST),
                    (Some(_), None) => return self.ask_offset(topic, partition, LATEST),
                    (Some(start), Some(end)) => (start, end),
                };
                let id = self.topics.partition(topic, partition)?;
                let span = u64::try_from(end.0 - start.0).unwrap_or(0);
                let above = i64::try_from(span * u64::from(permille.min(1_000)) / 1_000).expect("within the span");
                let before = Offset(start.0 + above);
                wanted.push(record(What::DeleteRecords { partition: id, before }));
                let partition = DeleteRecordsPartition { partition_index: partition, offset: before.0 };
                let name = self.topics.get(topic).name.clone();
                let topic = DeleteRecordsTopic { name, partitions: vec![partition] };
                let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5_000 };
                Some((request.into(), 2, Asked::Act(Acting::DeleteRecords(id))))
            }
            &Action::Ask { which } => {
                let (request, version) = asking::question(which, doing.operation, &self.topics, self.plans.len());
                Some((request, version, Asked::Act(Acting::Ask)))
            }
            _ => None,
        }
    }

    fn ask_offset(&self, topic: usize, partition: i32, asked: i64) -> Step {
        let id = self.topics.partition(topic, partition)?;
        let sought = vec![Sought { name: self.topics.get(topic).name.clone(), partition: id }];
        let request = list_offsets(&sought, asked);
        Some((request, OFFSETS_VERSION, Asked::Offset(sought, asked)))
    }

    fn take(&mut self, now: ClientNow, outcome: Outcome, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        let (Some(asked), Some(doing)) = (self.asked.take(), &mut self.doing) else { return Ok(()) };
        let (at, response) = match outcome {
            Outcome::Answered(at, response) => (at, response),
            Outcome::Lost => {
                doing.is_open |= matches!(asked, Asked::Act(_));
                doing.errors += u32::from(self.nodes > 1);
                (doing.has_topics, doing.ends) = (false, (None, None));
                return Ok(());
            }
        };
        match (asked, response) {
            (Asked::Metadata, Response::Metadata(response)) => {
                doing.has_topics = true;
                self.topics.learn(&response, wanted).map(drop)
            }
            (Asked::Offset(sought, asked), Response::ListOffsets(response)) => {
                let operation = Some(doing.operation);
                let offset = listed(&sought, asked, at, &response, operation, wanted)?[0];
                match (offset, &doing.what) {
                    (Ok(offset), Action::DeleteRecords { .. }) if asked == EARLIEST => doing.ends.0 = Some(offset),
                    (Ok(offset), Action::DeleteRecords { .. }) => doing.ends.1 = Some(offset),
                    (Ok(_), _) => self.finish(true, None, wanted),
                    (Err(code), _) => self.failed(now, code, wanted),
                }
                Ok(())
            }
            (Asked::Act(acting), response) => self.acted(now, acting, &response, wanted),
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    fn acted(
        &mut self,
        now: ClientNow,
        acting: Acting,
        response: &Response,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), String> {
        let doing = self.doing.as_mut().expect("an operation is under way");
        let (operation, was_open) = (doing.operation, doing.is_open);
        let only = |results: usize| match results {
            1 => Ok(()),
            told => Err(format!("one thing was asked for, {told} are answered")),
        };
        let code = match (acting, response) {
            (Acting::Create, Response::CreateTopics(response)) => {
                only(response.topics.len())?;
                let created = &response.topics[0];
                let code = known_code(created.error_code)?;
                if code == ErrorCode::None {
                    let index = self.topics.with_name(&created.name).ok_or("another topic was created")?;
                    self.topics.created(index, created.topic_id, created.num_partitions, wanted);
                }
                if code == ErrorCode::TopicAlreadyExists && was_open {
                    // Its id is learned with the topics.
                    return self.learn_created();
                }
                code
            }
            (Acting::Delete(id), Response::DeleteTopics(response)) => {
                only(response.responses.len())?;
                let mut code = known_code(response.responses[0].error_code)?;
                let is_gone = matches!(code, ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition);
                if is_gone && was_open {
                    code = ErrorCode::None;
                }
                if code == ErrorCode::None {
                    let Action::DeleteTopic { topic } = doing.what else { unreachable!("it was to be deleted") };
                    let name = self.topics.get(topic).name.to_string();
                    wanted.push(Wanted::Record(Some(operation), What::TopicDeleted { name, id }));
                    if self.topics.with_id(id) == Some(topic) {
                        self.topics.deleted(topic);
                    }
                }
                code
            }
            (Acting::Grow, Response::CreatePartitions(response)) => {
                only(response.results.len())?;
                match known_code(response.results[0].error_code)? {
                    // It has as many as it was to have, or more.
                    ErrorCode::InvalidPartitions if was_open => ErrorCode::None,
                    code => code,
                }
            }
            (Acting::Alter, Response::IncrementalAlterConfigs(response)) => {
                only(response.responses.len())?;
                known_code(response.responses[0].error_code)?
            }
            (Acting::DeleteRecords(partition), Response::DeleteRecords(response)) => {
                only(response.topics.iter().map(|topic| topic.partitions.len()).sum())?;
                let topic = response.topics.iter().find(|topic| !topic.partitions.is_empty());
                let answer = &topic.expect("one partition is answered").partitions[0];
                let code = known_code(answer.error_code)?;
                if code == ErrorCode::None {
                    let low_watermark = Offset(answer.low_watermark);
                    wanted.push(Wanted::Record(Some(operation), What::RecordsDeleted { partition, low_watermark }));
                }
                code
            }
            // Of some things only leaders know.
            (Acting::Ask, response) => match asking::verdict(response)? {
                ErrorCode::NotLeaderOrFollower if self.nodes > 1 => ErrorCode::None,
                code => code,
            },
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        };
        match code {
            ErrorCode::None => self.finish(true, None, wanted),
            code => self.failed(now, code, wanted),
        }
        Ok(())
    }

    /// Turns a creation, which an earlier try has carried out, into the question for the topic's id.
    fn learn_created(&mut self) -> Result<(), String> {
        if let Some(doing) = &mut self.doing {
            doing.what = Action::Ask { which: asking::METADATA };
            doing.has_topics = false;
        }
        Ok(())
    }

    fn failed(&mut self, now: ClientNow, code: ErrorCode, wanted: &mut Vec<Wanted>) {
        use ErrorCode as E;
        let may_pass = matches!(
            code,
            E::KafkaStorageError
                | E::RequestTimedOut
                | E::NotController
                | E::LeaderNotAvailable
                | E::NotLeaderOrFollower
                | E::OffsetNotAvailable
                | E::FencedLeaderEpoch
                | E::UnknownLeaderEpoch
                | E::BrokerNotAvailable
        );
        // Until enough brokers have registered.
        let may_pass = may_pass || self.nodes > 1 && code == E::InvalidReplicationFactor;
        // An offset that was in range is not any more where records were deleted meanwhile: ask for the ends again.
        let is_outrun = code == E::OffsetOutOfRange;
        let gives_up = self.gives_up;
        match &mut self.doing {
            Some(doing) if (may_pass || is_outrun) && !(gives_up && doing.errors >= ERRORS_MAX) => {
                doing.errors += 1;
                doing.last = Some(code);
                doing.is_open |= code == E::RequestTimedOut;
                (doing.has_topics, doing.ends) = (false, (None, None));
                self.caller.back_off(now);
            }
            _ => self.finish(false, Some(code), wanted),
        }
    }
}

/// Asks for a topic as the plan has it.
fn create(plan: &TopicPlan) -> Request {
    let config = |(name, value): (&String, &String)| CreatableTopicConfig {
        name: name.as_str().into(),
        value: Some(value.as_str().into()),
    };
    let topic = CreatableTopic {
        name: plan.name.as_str().into(),
        num_partitions: plan.partitions,
        replication_factor: i16::try_from(plan.replication).expect("few brokers"),
        configs: plan.configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false }.into()
}

impl Client for Admin {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        self.schedule.take(&happened);
        if let Some(outcome) = self.caller.take(now, happened, wanted)
            && let Err(what) = self.take(now, outcome, wanted)
        {
            let operation = self.operation();
            self.caller.broken(now, operation, what, wanted);
            self.finish(false, None, wanted);
        }
        self.advance(now, wanted);
        let gives_up_at = self.doing.as_ref().filter(|_| self.gives_up).map(|doing| doing.since + GIVE_UP_AFTER);
        let due = [self.schedule.wake(now), gives_up_at].into_iter().flatten().filter(|at| *at > now.instant).min();
        self.caller.rest(now, self.doing.is_some(), due, wanted);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let (state, schedule) = (self.caller.describe(), self.schedule.describe());
        let doing = self.doing.as_ref().map_or("nothing".to_owned(), |doing| format!("{:?}", doing.what));
        format!("{}: {state}, {schedule}, does {doing}", self.name)
    }
}
