//! A producer as librdkafka and the Java client are: several requests in flight, each with at most one batch of a
//! partition; what is not answered in time, or with an error that may pass, is sent again until it is delivered or its
//! delivery timeout has passed. What that means for one partition is in [`lane`](super::lane).

use std::time::Duration;

use bytes::Bytes;
use chronik_core::ids::{Offset, TopicId, TopicPartition, Uuid};
use chronik_core::rng::Rng;
use chronik_core::time::Instant;
use chronik_core::wire::init_producer_id::InitProducerIdRequest;
use chronik_core::wire::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use chronik_core::wire::{ErrorCode, Response, Str};
use smallvec::SmallVec;

use super::lane::{Batch, Common, Fate, Identity, Lane, is_about_topic};
use super::schedule::Schedule;
use super::topics::{METADATA_VERSION, Topics};
use super::wire::{Alarm, Got, at_ms};
use super::wires::{Node, Wires};
use super::{Client, ClientNow, Happened, Wanted};
use crate::history::What;
use crate::plan::{Action, Operation, Plan, TopicPlan};
use crate::value::Keys;

/// From this version on topics go by their id.
const IDS_FROM: i16 = 13;
/// A request is full from here on, in bytes.
const REQUEST_BYTES: usize = 1 << 20;
/// Metadata, or a producer id, is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How late batches are is drawn apart from all that clients draw otherwise.
const LATE: u64 = 1 << 41;
/// The version of InitProducerId that clients ask in: it can name the identity that was (KIP-360).
const INIT_VERSION: i16 = 4;

/// How a producer behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) is_idempotent: bool,
    pub(super) acks: i16,
    pub(super) in_flight_max: u32,
    pub(super) request_timeout: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) version: i16,
    pub(super) first_sequence: i32,
    pub(super) late_ms_max: u64,
}

/// A producer.
pub(super) struct Producer {
    index: u32,
    settings: Settings,
    wires: Wires<Asked>,
    alarm: Alarm,
    got: Vec<(Node, Got<Asked>)>,
    jitter: Rng,
    topics: Topics,
    topics_used: Vec<usize>,
    schedule: Schedule,
    lanes: Vec<Lane>,
    /// Which lane each operation goes to; `None` where it is none of a producer's.
    lane_of: Vec<Option<usize>>,
    /// The lane that has its turn first in the next request.
    turn: usize,
    /// The identity that lanes begin with; each that has to renew gets one of its own.
    first_identity: Option<Identity>,
    is_stale: bool,
    asks_metadata: bool,
    metadata_at: Instant,
    asks_identity: bool,
    identity_at: Instant,
    is_done: bool,
}

/// What a producer remembers of a request.
#[derive(Debug)]
pub(super) enum Asked {
    Metadata,
    /// For which lane; `None` for all.
    Identity(Option<usize>),
    Produce(SmallVec<[Sent; 2]>),
}

/// One batch of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    lane: usize,
    operation: u32,
    to: TopicPartition,
}

impl Producer {
    pub(super) fn new(plan: &Plan, index: u32, settings: Settings, operations: &[Operation]) -> Producer {
        let common = Common {
            client: index,
            is_idempotent: settings.is_idempotent,
            acks: settings.acks,
            is_by_id: settings.version >= IDS_FROM,
            may_forget: plan.is_beyond_promises,
            has_leaders: plan.nodes() > 1,
            first_sequence: settings.first_sequence,
        };
        let mut places: Vec<(usize, i32)> = operations.iter().filter_map(place_of).collect();
        places.sort_unstable();
        places.dedup();
        let keys = |topic: usize| plan.topics.get(topic).map_or(Keys::None, TopicPlan::keys);
        let lane = |&(topic, partition): &(usize, i32)| Lane::new(topic, partition, keys(topic), common);
        let lanes = places.iter().map(lane).collect();
        let lane = |operation| places.binary_search(&place_of(operation)?).ok();
        let lane_of = operations.iter().map(lane).collect();
        let mut topics_used: Vec<usize> = places.iter().map(|&(topic, _)| topic).collect();
        topics_used.dedup();
        let jitter = Rng::from_number(plan.seed);
        let client_id = format!("producer-{index}");
        Producer {
            index,
            settings,
            wires: Wires::new(plan, &client_id, settings.request_timeout, super::stream(index)),
            alarm: Alarm::default(),
            got: Vec::new(),
            jitter,
            topics: Topics::new(plan),
            topics_used,
            schedule: Schedule::new(operations),
            lanes,
            lane_of,
            turn: 0,
            first_identity: None,
            is_stale: true,
            asks_metadata: false,
            metadata_at: Instant(0),
            asks_identity: false,
            identity_at: Instant(0),
            is_done: false,
        }
    }

    fn has_work(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.is_empty())
    }

    fn handle(&mut self, now: ClientNow, node: Node, got: Got<Asked>, wanted: &mut Vec<Wanted>) {
        match got {
            Got::Opened => self.is_stale = true,
            Got::Lost(unanswered) => {
                for asked in unanswered {
                    self.lost(now, asked, wanted);
                }
            }
            Got::Answer { asked, response, .. } => {
                if let Err((operation, what)) = self.answered(now, asked, response, wanted) {
                    for got in self.wires.broken(now, node, operation, what, wanted) {
                        self.handle(now, node, got, wanted);
                    }
                }
            }
        }
    }

    fn lost(&mut self, now: ClientNow, asked: Asked, wanted: &mut Vec<Wanted>) {
        match asked {
            Asked::Metadata => self.asks_metadata = false,
            Asked::Identity(_) => self.asks_identity = false,
            Asked::Produce(sent) => {
                for sent in sent {
                    self.settle(now, sent, Fate::Lost, wanted);
                }
            }
        }
    }

    fn settle(&mut self, now: ClientNow, sent: Sent, fate: Fate, wanted: &mut Vec<Wanted>) -> Option<String> {
        let (jitter, stream) = (&self.jitter, super::stream(self.index) + 1);
        let draw = |below| jitter.keyed(stream, now.instant.0 ^ u64::from(sent.operation)).below(below);
        self.lanes[sent.lane].settle(sent.operation, fate, now, draw, wanted)
    }

    fn answered(
        &mut self,
        now: ClientNow,
        asked: Asked,
        response: Response,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), (Option<u32>, String)> {
        match (asked, response) {
            (Asked::Metadata, Response::Metadata(response)) => {
                self.asks_metadata = false;
                self.is_stale = false;
                let changed = self.topics.learn(&response, wanted).map_err(|what| (None, what))?;
                for lane in self.lanes.iter_mut().filter(|lane| changed.contains(&lane.topic)) {
                    lane.topic_changed();
                }
                self.is_stale |= self.topics_used.iter().any(|&topic| self.topics.get(topic).id.is_none());
                let has_leader = |lane: &Lane| self.topics.leader(lane.topic, lane.partition).is_some();
                self.is_stale |= !self.lanes.iter().all(has_leader);
                Ok(())
            }
            (Asked::Identity(lane), Response::InitProducerId(response)) => {
                self.asks_identity = false;
                match ErrorCode::from_code(response.error_code) {
                    Some(ErrorCode::None) => {
                        let identity = Identity { id: response.producer_id, epoch: response.producer_epoch };
                        match lane {
                            Some(lane) => self.lanes[lane].identify(identity),
                            None => self.first_identity = Some(identity),
                        }
                        Ok(())
                    }
                    Some(ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable) => Ok(()),
                    _ => Err((None, format!("InitProducerId is answered with error {}", response.error_code))),
                }
            }
            (Asked::Produce(sent), Response::Produce(response)) => self.produced(now, &sent, &response, wanted),
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    fn produced(
        &mut self,
        now: ClientNow,
        sent: &[Sent],
        response: &ProduceResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), (Option<u32>, String)> {
        let mut broken = None;
        let told: usize = response.responses.iter().map(|topic| topic.partition_responses.len()).sum();
        if told != sent.len() {
            broken = Some((None, format!("{} batches were sent, {told} are answered", sent.len())));
        }
        for &sent in sent {
            let topic = response.responses.iter().find(|topic| {
                if self.settings.version >= IDS_FROM {
                    topic.topic_id == sent.to.topic
                } else {
                    topic.name == self.topics.get(self.lanes[sent.lane].topic).name
                }
            });
            let mut partitions = topic.iter().flat_map(|topic| &topic.partition_responses);
            let answer = partitions.find(|answer| answer.index == sent.to.partition);
            let Some(answer) = answer else {
                broken = Some((Some(sent.operation), format!("partition {} is not answered", sent.to)));
                self.settle(now, sent, Fate::Lost, wanted);
                continue;
            };
            let fate = match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    Fate::Taken { base: Offset(answer.base_offset), log_start: Offset(answer.log_start_offset) }
                }
                Some(ErrorCode::DuplicateSequenceNumber) => {
                    Fate::Taken { base: Offset(-1), log_start: Offset(answer.log_start_offset) }
                }
                Some(code) => {
                    self.is_stale |= is_about_topic(code);
                    Fate::Failed(code)
                }
                None => Fate::Failed(ErrorCode::UnknownServerError),
            };
            if let Some(what) = self.settle(now, sent, fate, wanted) {
                // What the broker thinks is recorded; the connection itself is sound.
                wanted.push(Wanted::Record(Some(sent.operation), What::Broken { what }));
            }
        }
        broken.map_or(Ok(()), Err)
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        self.take_due(now, wanted);
        for lane in &mut self.lanes {
            lane.expire(now, wanted);
            lane.renew(wanted);
        }
        self.is_stale |= self.wires.has_lost();
        let home = self.wires.home();
        if self.has_work() && self.wires.open(now, home, wanted) {
            self.ask_metadata(now, home, wanted);
            self.ask_identity(now, home, wanted);
        }
        for node in self.wires.nodes() {
            if self.leads(node) && self.wires.open(now, node, wanted) {
                let in_flight_max = self.settings.in_flight_max as usize;
                while self.wires.in_flight_to(node) < in_flight_max && self.send(now, node, wanted) {}
            }
        }
        if !self.is_done && self.schedule.is_over() && !self.has_work() {
            self.is_done = true;
            self.wires.close(wanted);
            wanted.push(Wanted::Record(None, What::Done));
        }
    }

    /// Whether something is to go to a broker.
    fn leads(&self, node: Node) -> bool {
        let is_led = |lane: &&Lane| self.topics.leader(lane.topic, lane.partition) == Some(node);
        self.lanes.iter().filter(|lane| !lane.is_empty()).any(|lane| is_led(&lane))
    }

    fn take_due(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        while let Some((number, operation)) = self.schedule.due(now) {
            match (&operation.what, self.lane_of[number as usize]) {
                (&Action::Produce { records, value_bytes, codec, .. }, Some(lane)) => {
                    let deadline = at_ms(operation.at_ms) + self.settings.delivery_timeout;
                    let codec = if codec == ZSTD && self.settings.version < ZSTD_FROM { LZ4 } else { codec };
                    let late_ms = match self.settings.late_ms_max {
                        0 => 0,
                        most => self.jitter.keyed(super::stream(self.index) + LATE, u64::from(number)).below(most + 1),
                    };
                    self.lanes[lane].push(Batch::new(number, deadline, records, value_bytes, codec).late_by(late_ms));
                }
                _ => wanted.push(Wanted::Record(Some(number), What::Finished { is_ok: false, code: None })),
            }
            self.schedule.go_on();
        }
    }

    fn ask_metadata(&mut self, now: ClientNow, home: Node, wanted: &mut Vec<Wanted>) {
        if self.is_stale && !self.asks_metadata && self.metadata_at <= now.instant {
            let request = self.topics.request(self.topics_used.iter().copied());
            self.wires.send(now, home, &request, METADATA_VERSION, Some(Asked::Metadata), wanted);
            self.asks_metadata = true;
            self.metadata_at = now.instant + ASK_AGAIN;
        }
    }

    fn ask_identity(&mut self, now: ClientNow, home: Node, wanted: &mut Vec<Wanted>) {
        let Some(lane) = self.lanes.iter().position(Lane::wants_identity) else { return };
        if let Some(identity) = self.first_identity.take() {
            for lane in self.lanes.iter_mut().filter(|lane| lane.identity().is_none()) {
                lane.identify(identity);
            }
            return;
        }
        if self.asks_identity || self.identity_at > now.instant {
            return;
        }
        let is_first = self.lanes.iter().all(|lane| lane.identity().is_none());
        let request = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..InitProducerIdRequest::default() };
        let asked = Asked::Identity((!is_first).then_some(lane));
        self.wires.send(now, home, &request.into(), INIT_VERSION, Some(asked), wanted);
        self.asks_identity = true;
        self.identity_at = now.instant;
    }

    /// Sends a broker one request, with a batch of each lane that it leads and that has one, as far as it holds them.
    fn send(&mut self, now: ClientNow, node: Node, wanted: &mut Vec<Wanted>) -> bool {
        let Settings { acks, version, .. } = self.settings;
        let is_by_id = version >= IDS_FROM;
        let mut picked: SmallVec<[(Sent, Bytes); 2]> = SmallVec::new();
        let mut bytes = 0;
        for step in 0..self.lanes.len() {
            let index = (self.turn + step) % self.lanes.len();
            let lane = &mut self.lanes[index];
            if self.topics.leader(lane.topic, lane.partition) != Some(node) {
                continue;
            }
            let Some(to) = self.topics.partition(lane.topic, lane.partition) else { continue };
            let Some(place) = lane.next(now) else { continue };
            let (operation, batch) = lane.send(place, now, to, wanted);
            bytes += batch.len();
            picked.push((Sent { lane: index, operation, to }, batch));
            if bytes >= REQUEST_BYTES {
                break;
            }
        }
        let Some((last, _)) = picked.last() else { return false };
        self.turn = (last.lane + 1) % self.lanes.len();
        // Lanes are in the order of their topics.
        picked.sort_by_key(|(sent, _)| sent.lane);
        let mut topic_data: Vec<TopicProduceData> = Vec::with_capacity(1);
        let mut current = None;
        for (sent, batch) in &picked {
            let topic = self.lanes[sent.lane].topic;
            if current != Some(topic) {
                let (name, topic_id): (Str, TopicId) = match is_by_id {
                    true => (Str::EMPTY, sent.to.topic),
                    false => (self.topics.get(topic).name.clone(), Uuid::ZERO),
                };
                topic_data.push(TopicProduceData { name, topic_id, partition_data: Vec::with_capacity(1) });
                current = Some(topic);
            }
            let data = PartitionProduceData { index: sent.to.partition, records: Some(batch.clone()) };
            topic_data.last_mut().expect("one was pushed").partition_data.push(data);
        }
        // The broker has less time than its answer is waited for, as librdkafka has it: else nobody ever heard what it says
        // of those that took too long.
        let timeout_ms = i32::try_from(self.settings.request_timeout.as_millis() * 2 / 3).unwrap_or(i32::MAX);
        let request = ProduceRequest { transactional_id: None, acks, timeout_ms, topic_data };
        let asked = (acks != 0).then(|| Asked::Produce(picked.iter().map(|(sent, _)| *sent).collect()));
        self.wires.send(now, node, &request.into(), version, asked, wanted);
        true
    }

    fn wake(&self, now: ClientNow) -> Option<Instant> {
        let has_work = self.has_work();
        let due = self.schedule.wake(now);
        let home = self.wires.home();
        let asks_again = has_work && self.is_stale && !self.asks_metadata && self.wires.is_open(home);
        let metadata = asks_again.then_some(self.metadata_at);
        let lanes = self.lanes.iter().filter_map(|lane| lane.wake(now)).min();
        let wires = self.wires.wake(|node| has_work && (node == home || self.leads(node)));
        [due, metadata, lanes, wires].into_iter().flatten().min()
    }
}

const LZ4: u8 = 3;
const ZSTD: u8 = 4;
/// Kafka takes zstd from this version on (KIP-110).
const ZSTD_FROM: i16 = 7;

/// The partition that an operation writes to.
fn place_of(operation: &Operation) -> Option<(usize, i32)> {
    match operation.what {
        Action::Produce { topic, partition, .. } => Some((topic, partition)),
        _ => None,
    }
}

impl Client for Producer {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        self.alarm.pass(now);
        self.schedule.take(&happened);
        let mut got = std::mem::take(&mut self.got);
        self.wires.take(now, &happened, wanted, &mut got);
        for (node, got) in got.drain(..) {
            self.handle(now, node, got, wanted);
        }
        self.got = got;
        self.advance(now, wanted);
        let wake = self.wake(now);
        self.alarm.set(now, wake, wanted);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let queued: usize = self.lanes.iter().map(Lane::len).sum();
        let (schedule, in_flight) = (self.schedule.describe(), self.wires.in_flight());
        let link = self.wires.describe();
        let queue = format!("{queued} batches without an answer, {in_flight} requests in flight");
        format!("producer {}: {link}, {schedule}, {queue}", self.index)
    }
}
