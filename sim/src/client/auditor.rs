//! Who reads every partition from its start to its high watermark when all has healed: what is found is the final truth.
//!
//! It begins with [`Happened::Healed`], and asks each partition's leader; what followers have it reads
//! when that is done, to hold it against the other. All topics are asked for by Metadata, their starts and ends by ListOffsets, and
//! what lies between is fetched by topic id until it has all. A partition that answers errors is asked several times
//! and then left; the history shows them. Then it asks a few questions whose answers follow from what it read: where
//! leader epochs end, which offsets timestamps have, whether topics have the settings that the plan gave them, and what
//! groups have committed.

mod copies;
mod questions;

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::{Offset, TopicId, TopicPartition};
use chronik_core::rng::Rng;
use chronik_core::time::Instant;
use chronik_core::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use chronik_core::wire::metadata::{MetadataRequest, MetadataResponse};
use chronik_core::wire::{ErrorCode, Response, Str};

use copies::Copy;
use questions::{COMMITTED_VERSION, Question, configs};

use super::caller::{Caller, Outcome};
use super::group::offsets;
use super::group::{found, group_name};
use super::reading::{EARLIEST, Fetching, LATEST, Sought, known_code, list_offsets, listed};
use super::topics::{Leaders, METADATA_VERSION, Topics};
use super::wires::Node;
use super::{Client, ClientNow, Happened, Wanted};
use crate::history::{ClientId, InGroup, What};
use crate::plan::Plan;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const FETCH_VERSION: i16 = 17;
const OFFSETS_VERSION: i16 = 9;
/// As much as one answer should hold, in bytes.
const MAX_BYTES: i32 = 16 << 20;
/// As much as one partition's part of it should hold, in bytes.
const PARTITION_MAX_BYTES: i32 = 4 << 20;
/// Several brokers that were started together have leaders after this.
const ELECTIONS: Duration = Duration::from_secs(15);
/// So many errors in a row of one partition, or broken answers, and it is left.
const FAILURES_MAX: u32 = 8;

/// The auditor.
pub(super) struct Auditor {
    caller: Caller,
    parts: Vec<Part>,
    /// What of other replicas has been read.
    copies: Vec<Copy>,
    begins_at: Option<Instant>,
    /// On which brokers each partition lies.
    replicas: BTreeMap<TopicPartition, Vec<Node>>,
    /// Who leads the partitions of each topic.
    leaders: BTreeMap<TopicId, Leaders>,
    /// Leaders are asked for again.
    is_stale: bool,
    /// Who coordinates which group, as it was told last.
    coordinator: Option<(u32, Node)>,
    state: State,
    asked: Option<Asked>,
    failures: u32,
    jitter: Rng,
    /// The plan's topics by name, for what groups have committed.
    topics: Topics,
    groups: Vec<u32>,
    /// The names of the configs that the plan sets, by topic.
    configs: Vec<(Str, Vec<Str>)>,
    /// What is still to be asked.
    questions: Vec<Question>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For [`Happened::Healed`].
    Waits,
    /// For the topics.
    Learns,
    Reads,
    Copies,
    Questions,
    Done,
}

/// A partition.
#[derive(Debug)]
struct Part {
    sought: Sought,
    start: Option<Offset>,
    position: Option<Offset>,
    end: Option<Offset>,
    failures: u32,
    /// The leader epochs that were read.
    epochs: Vec<i32>,
    /// The greatest timestamp so far, at some of the records.
    timestamps: Vec<i64>,
    records: u64,
}

#[derive(Debug)]
enum Asked {
    Metadata,
    /// Which end, of the partitions at these places.
    Offsets(i64, Vec<usize>),
    Fetch(Vec<usize>),
    /// By its place.
    Copy(usize),
    Question(Question),
}

/// Of so many records one is remembered to be asked for by its timestamp.
const TIME_EVERY: u64 = 61;

impl Part {
    fn read(&mut self, what: &What) {
        let What::Fetched { records, .. } = what else { return };
        for read in records {
            if self.epochs.last() != Some(&read.leader_epoch) {
                self.epochs.push(read.leader_epoch);
            }
            let greatest = self.timestamps.last().map_or(read.timestamp, |&known| known.max(read.timestamp));
            match self.timestamps.last_mut() {
                Some(last) if !self.records.is_multiple_of(TIME_EVERY) => *last = greatest,
                _ => self.timestamps.push(greatest),
            }
            self.records += 1;
        }
    }

    fn is_over(&self) -> bool {
        let is_read = matches!((self.position, self.end), (Some(position), Some(end)) if position >= end);
        is_read || self.failures >= FAILURES_MAX
    }

    fn failed(&mut self, code: ErrorCode) {
        self.failures += 1;
        match code {
            ErrorCode::OffsetOutOfRange => (self.position, self.end) = (None, None),
            ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition => self.failures = FAILURES_MAX,
            _ => {}
        }
    }
}

impl Auditor {
    pub(super) fn new(plan: &Plan) -> Auditor {
        let jitter = Rng::from_number(plan.seed);
        Auditor {
            caller: Caller::new(plan, "auditor", REQUEST_TIMEOUT, super::stream(ClientId::AUDITOR.0)),
            copies: Vec::new(),
            begins_at: None,
            replicas: BTreeMap::new(),
            leaders: BTreeMap::new(),
            is_stale: false,
            coordinator: None,
            parts: Vec::new(),
            state: State::Waits,
            asked: None,
            failures: 0,
            jitter,
            topics: Topics::new(plan),
            groups: plan.groups().into_iter().collect(),
            configs: plan.topics.iter().map(configs).collect(),
            questions: Vec::new(),
        }
    }

    /// What lies on brokers that do not lead it.
    fn copies_to_read(&self) -> Vec<Copy> {
        let mut copies = Vec::new();
        for place in self.places_read() {
            let Part { sought: Sought { partition, .. }, start: Some(start), end: Some(end), .. } = &self.parts[place]
            else {
                continue;
            };
            let replicas = self.replicas.get(partition).into_iter().flatten();
            let others = replicas.filter(|&&node| self.caller.has_many() && Some(node) != self.leader(place));
            copies.extend(others.map(|&node| Copy::new(*partition, node, *start, *end)));
        }
        copies
    }

    /// The partitions that were read to their end.
    fn places_read(&self) -> impl Iterator<Item = usize> {
        (0..self.parts.len()).filter(|&place| self.parts[place].failures < FAILURES_MAX)
    }

    /// Who leads the partition at a place. A single broker is asked in any case.
    fn leader(&self, place: usize) -> Option<Node> {
        let TopicPartition { topic, partition } = self.parts[place].sought.partition;
        if self.caller.has_many() { self.leaders.get(&topic)?.of(partition)?.by } else { Some(1) }
    }

    /// Of these places those that the first one's leader leads; all where the first one has none.
    fn led_together(&self, places: Vec<usize>) -> (Option<Node>, Vec<usize>) {
        let leader = places.iter().find_map(|&place| self.leader(place));
        let together = places.into_iter().filter(|&place| leader.is_none() || self.leader(place) == leader);
        (leader, together.collect())
    }

    fn places(&self, is_wanted: impl Fn(&Part) -> bool) -> Vec<usize> {
        let is_wanted = |place: &usize| !self.parts[*place].is_over() && is_wanted(&self.parts[*place]);
        (0..self.parts.len()).filter(is_wanted).collect()
    }

    fn is_at_work(&self) -> bool {
        matches!(self.state, State::Learns | State::Reads | State::Copies | State::Questions)
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        if self.state == State::Reads && self.parts.iter().all(Part::is_over) {
            self.state = State::Copies;
            self.copies = self.copies_to_read();
        }
        if self.state == State::Copies && self.copies.iter().all(Copy::is_over) {
            self.state = State::Questions;
            self.questions = self.questions();
        }
        let is_over = self.state == State::Questions && self.questions.is_empty() && self.asked.is_none();
        if (is_over || self.failures >= FAILURES_MAX) && self.state != State::Done {
            self.state = State::Done;
            self.caller.close(wanted);
            wanted.push(Wanted::Record(None, What::Done));
        }
        if !self.is_at_work() || self.asked.is_some() {
            return;
        }
        self.is_stale |= self.caller.has_lost() && self.state != State::Learns;
        let (to, todo) = self.next();
        if !self.caller.is_free(now, to, wanted) {
            return;
        }
        self.put(now, todo, wanted);
    }

    /// What is to be asked next, and whom.
    fn next(&self) -> (Option<Node>, Asked) {
        if self.state == State::Learns || self.is_stale {
            return (None, Asked::Metadata);
        }
        if let Some(place) = self.copies.iter().position(|copy| !copy.is_over()) {
            return (Some(self.copies[place].node), Asked::Copy(place));
        }
        if let Some(question) = self.questions.last() {
            let to = match *question {
                Question::Time(place, _) => self.leader(place),
                Question::Epochs(node) => Some(node),
                Question::Group(group, _) if self.caller.has_many() => match self.coordinator {
                    Some((known, node)) if known == group => Some(node),
                    _ => return (None, Asked::Question(Question::Coordinator(group))),
                },
                _ => None,
            };
            return (to, Asked::Question(question.clone()));
        }
        for (end, places) in
            [(EARLIEST, self.places(|part| part.position.is_none())), (LATEST, self.places(|part| part.end.is_none()))]
        {
            if !places.is_empty() {
                let (to, places) = self.led_together(places);
                return (to, Asked::Offsets(end, places));
            }
        }
        // One answer holds so much: whoever got nothing last time is asked for first.
        let mut places = self.places(|_| true);
        places.sort_by_key(|&place| std::cmp::Reverse(self.parts[place].failures));
        let (to, places) = self.led_together(places);
        (to, Asked::Fetch(places))
    }

    fn put(&mut self, now: ClientNow, todo: Asked, wanted: &mut Vec<Wanted>) {
        let (request, version) = match &todo {
            Asked::Metadata => {
                let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
                (request.into(), METADATA_VERSION)
            }
            Asked::Question(question) => self.request(question),
            Asked::Offsets(end, places) => {
                (list_offsets(places.iter().map(|&place| &self.parts[place].sought), *end), OFFSETS_VERSION)
            }
            Asked::Fetch(places) => (self.fetch(places).into(), FETCH_VERSION),
            Asked::Copy(place) => (self.copies[*place].request().into(), FETCH_VERSION),
        };
        if let Asked::Question(question) = &todo
            && !matches!(question, Question::Coordinator(_))
        {
            self.questions.pop();
        }
        self.caller.ask(now, &request, version, wanted);
        self.asked = Some(todo);
    }

    fn fetch(&self, places: &[usize]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for &place in places {
            let part = &self.parts[place];
            let TopicPartition { topic: topic_id, partition } = part.sought.partition;
            if topics.last().is_none_or(|topic| topic.topic_id != topic_id) {
                topics.push(FetchTopic { topic_id, ..FetchTopic::default() });
            }
            let position = part.position.expect("positions are asked for first");
            let (fetch_offset, partition_max_bytes) = (position.0, PARTITION_MAX_BYTES);
            let partition =
                FetchPartition { partition, fetch_offset, partition_max_bytes, ..FetchPartition::default() };
            topics.last_mut().expect("one was pushed").partitions.push(partition);
        }
        FetchRequest { max_wait_ms: 100, min_bytes: 1, max_bytes: MAX_BYTES, topics, ..FetchRequest::default() }
    }

    fn take(&mut self, now: ClientNow, outcome: Outcome, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let Outcome::Answered(at, response) = outcome else {
            match asked {
                Asked::Question(Question::Coordinator(_)) => {}
                Asked::Question(question) => self.questions.push(question),
                Asked::Copy(place) => self.copies[place].fail(ErrorCode::NetworkException, wanted),
                _ => {}
            }
            self.coordinator = None;
            return Ok(());
        };
        match (asked, response) {
            (Asked::Question(Question::Coordinator(group)), Response::FindCoordinator(response)) => {
                self.coordinator = found(&group_name(group), &response)?.ok().map(|node| (group, node));
                if self.coordinator.is_none() {
                    self.left(now, group);
                }
                Ok(())
            }
            (Asked::Question(Question::Group(group, tries)), Response::OffsetFetch(response)) => {
                match offsets::fetched(COMMITTED_VERSION, &group_name(group), None, &response, &self.topics)? {
                    Ok(committed) => {
                        let what = InGroup::Offsets { asked_at: at, committed, is_all: true };
                        wanted.push(Wanted::Record(None, What::Group { group, what }));
                        self.caller.go_on();
                    }
                    // A coordinator is loaded, or there never was a group.
                    Err(_) => {
                        self.coordinator = None;
                        self.questions.push(Question::Group(group, tries));
                        self.left(now, group);
                    }
                }
                Ok(())
            }
            (Asked::Question(question), response) => self.answered(&question, at, &response, wanted),
            (Asked::Metadata, Response::Metadata(response)) => self.learn(&response, wanted),
            (Asked::Offsets(asked, places), Response::ListOffsets(response)) => {
                let sought: Vec<Sought> = places.iter().map(|&place| self.parts[place].sought.clone()).collect();
                let offsets = listed(&sought, asked, at, &response, None, wanted)?;
                for (place, offset) in places.into_iter().zip(offsets) {
                    let part = &mut self.parts[place];
                    match offset {
                        Ok(offset) if asked == EARLIEST => (part.position, part.start) = (Some(offset), Some(offset)),
                        Ok(offset) => part.end = Some(offset),
                        Err(code) => {
                            part.failed(code);
                            self.is_stale |= self.caller.has_many();
                            self.caller.back_off(now);
                        }
                    }
                }
                Ok(())
            }
            (Asked::Copy(place), Response::Fetch(response)) => {
                if !self.copies[place].take(at, &response, wanted)? {
                    self.caller.back_off(now);
                }
                Ok(())
            }
            (Asked::Fetch(places), Response::Fetch(response)) => {
                if response.error_code != ErrorCode::None.code() {
                    return Err(format!("a fetch is answered with error {}", response.error_code));
                }
                for topic in &response.responses {
                    for data in &topic.partitions {
                        let id = TopicPartition { topic: topic.topic_id, partition: data.partition_index };
                        let place = places.iter().find(|&&place| self.parts[place].sought.partition == id);
                        let &place = place.ok_or_else(|| format!("{id} is told, but nobody asked for it"))?;
                        let part = &mut self.parts[place];
                        let from = part.position.expect("it was fetched from there");
                        let fetching = Fetching { partition: id, from, asked_at: at, operation: None };
                        let told = fetching.told(data, wanted);
                        if let Some(Wanted::Record(_, what)) = wanted.last() {
                            part.read(what);
                        }
                        if told.is_err() {
                            part.failures += 1;
                        }
                        let (code, next) = told?;
                        match code {
                            ErrorCode::None if next > from => (part.position, part.failures) = (Some(next), 0),
                            code => {
                                part.failed(code);
                                self.is_stale |= self.caller.has_many();
                                self.caller.back_off(now);
                            }
                        }
                    }
                }
                Ok(())
            }
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    /// Takes who leads what; the first time also what there is.
    fn learn(&mut self, response: &MetadataResponse, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        self.is_stale = false;
        for topic in &response.topics {
            self.leaders.entry(topic.topic_id).or_default().learn(&topic.partitions);
        }
        if self.state != State::Learns {
            return Ok(());
        }
        // What the broker keeps for itself holds no records of clients.
        for topic in response.topics.iter().filter(|topic| !topic.is_internal) {
            let code = known_code(topic.error_code)?;
            let name: Str = topic.name.clone().unwrap_or_default();
            if code != ErrorCode::None {
                return Err(format!("Metadata of all topics answers {code} for {name}"));
            }
            let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            let what = What::TopicCreated { name: name.to_string(), id: topic.topic_id, partitions };
            wanted.push(Wanted::Record(None, what));
            for partition in &topic.partitions {
                let id = TopicPartition { topic: topic.topic_id, partition: partition.partition_index };
                let sought = Sought { name: name.clone(), partition: id };
                let nodes = partition.replica_nodes.iter().filter_map(|&node| Node::try_from(node).ok());
                self.replicas.insert(id, nodes.collect());
                let (epochs, timestamps) = (Vec::new(), Vec::new());
                self.parts.push(Part {
                    sought,
                    start: None,
                    position: None,
                    end: None,
                    failures: 0,
                    epochs,
                    timestamps,
                    records: 0,
                });
            }
        }
        self.state = State::Reads;
        Ok(())
    }
}

impl Client for Auditor {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        if happened == Happened::Healed && self.state == State::Waits {
            let wait = if self.caller.has_many() { ELECTIONS } else { Duration::ZERO };
            self.begins_at = Some(now.instant + wait);
        }
        if let Some(outcome) = self.caller.take(now, happened, wanted)
            && let Err(what) = self.take(now, outcome, wanted)
        {
            self.failures += 1;
            self.caller.broken(now, None, what, wanted);
        }
        if self.begins_at.take_if(|at| *at <= now.instant).is_some() {
            self.state = State::Learns;
        }
        self.advance(now, wanted);
        let is_at_work = self.is_at_work();
        self.caller.rest(now, is_at_work, self.begins_at, wanted);
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn describe(&self) -> String {
        let over = self.parts.iter().filter(|part| part.is_over()).count();
        let (state, all) = (self.caller.describe(), self.parts.len());
        format!("auditor: {state}, {over} of {all} partitions read, {:?}", self.state)
    }
}
