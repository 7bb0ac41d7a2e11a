//! A whole node against a model of what its clients know: random requests, a disk that takes its time and runs full,
//! crashes at any change of a file, and power cuts that keep any part of what was not synced.
//!
//! Claims: what was acknowledged or read is there, once, in order, in the partition that it was sent to, whatever
//! happens in between; of a compacting topic, the newest value of each key and everything from the last compacted segment on; whatever
//! is asked is answered once the disk works; the node rests when nothing is asked.
//! A failure names its seed. Each step draws from a key of its own, so that leaving a step out does not change others.

mod groups;

use std::collections::BTreeSet;

use super::*;
use crate::boundary::{DirectWrite, Task, write_direct};
use crate::compact::Progress;
use crate::rng::Rng;
use crate::testing::LossyFiles;
use crate::wire::fetch::PartitionData;

const NAMES: [&str; 4] = ["a", "b", "shrinking", "compacting"];
/// How many keys there are.
const KEYS: u64 = 4;
const PARTITIONS: i32 = 2;
const STEPS: u64 = 1_500;
/// What one producer may have in flight, which is what a partition remembers of it.
const IN_FLIGHT_MAX: usize = 5;

/// What the clients know of a partition.
#[derive(Debug, Default)]
struct Known {
    /// What was acknowledged or read, by offset.
    values: BTreeMap<i64, String>,
    sent: BTreeSet<String>,
    /// The log start lies at or above the first, which somebody was told, and at or below the second, which somebody
    /// asked for.
    start: (i64, i64),
    plain_sent: u64,
    producer: Producer,
}

/// An idempotent producer of one partition: sends in order, and sends again what was not acknowledged.
#[derive(Debug, Default)]
struct Producer {
    id: i64,
    next: i32,
    unacked: VecDeque<Unacked>,
}

#[derive(Clone, Debug)]
struct Unacked {
    first: i32,
    values: Vec<String>,
    /// The request that carries it; `None` where that one failed or its connection was lost.
    request: Option<u64>,
}

/// A request that is not answered.
#[derive(Debug)]
enum Asked {
    Plain(TopicPartition, Vec<String>),
    Idempotent(TopicPartition),
    Fetch(Vec<(TopicPartition, i64)>),
    Create(&'static str),
    Delete(&'static str, TopicId),
    DeleteRecords(TopicPartition),
    Commit(&'static str, i64),
    /// A group's offset, and what was known of it before.
    Offset(&'static str, i64),
    Other,
}

impl Asked {
    /// The connection that it is sent by: for what a producer sends always the same one.
    fn conn(&self, sequence: u64) -> ConnId {
        ConnId(match self {
            Asked::Plain(id, _) | Asked::Idempotent(id) => u64::from(id.topic.0[0]) % 3,
            _ => sequence % 3,
        })
    }
}

struct World {
    seed: u64,
    /// Whether appends are acknowledged once the operating system has them.
    is_os: bool,
    draw: Rng,
    files: LossyFiles,
    node: Node,
    now: Now,
    out: Outbox,
    commits: VecDeque<(journal::Commit, Vec<DirectWrite>)>,
    tasks: VecDeque<(TaskId, Task)>,
    reads: Vec<(ReadId, crate::log::ReadPlan)>,
    /// The compaction whose next step the disk has not taken.
    questions: Vec<(crate::boundary::QuestionId, Box<crate::group::Question>)>,
    pass: Option<Box<crate::compact::Pass>>,
    unsynced: BTreeSet<u32>,
    asked: BTreeMap<u64, Asked>,
    /// Requests whose connection was lost.
    lost: BTreeSet<u64>,
    requests: u64,
    starts: u8,
    /// What the last fetch brought, and up to where.
    served: Vec<(i64, String)>,
    reached: i64,
    /// Records that compaction removed before the last crash.
    compacted: u64,
    is_stopped: bool,
    was_full: bool,
    topics: BTreeMap<&'static str, TopicId>,
    known: BTreeMap<TopicPartition, Known>,
    groups: BTreeMap<&'static str, groups::Progress>,
    producers: i64,
}

fn settings(is_os: bool) -> NodeOptions {
    let options = options(&[
        ("log.retention.check.interval.ms", "1000"),
        ("auto.create.topics.enable", "false"),
        ("log.cleaner.backoff.ms", "300"),
        ("offsets.topic.num.partitions", "2"),
    ]);
    // Everything is looked at all the time.
    let limits = Limits { scrub_period: Duration::from_secs(3), scrub_bytes_per_second_max: 1 << 30, ..options.limits };
    NodeOptions { direct_from: if is_os { u64::MAX } else { options.direct_from }, limits, ..options }
}

impl World {
    fn new(seed: u64) -> World {
        let now = Now { instant: Instant(0), wall: Timestamp(1_700_000_000_000) };
        let files = LossyFiles::default();
        let is_os = seed % 4 == 3;
        let (node, _) = Node::recover(settings(is_os), &files, [1; 32], now).expect("an empty folder");
        World {
            seed,
            is_os,
            draw: Rng::from_number(seed),
            files,
            node,
            now,
            out: Outbox::default(),
            commits: VecDeque::new(),
            tasks: VecDeque::new(),
            reads: Vec::new(),
            questions: Vec::new(),
            pass: None,
            unsynced: BTreeSet::new(),
            asked: BTreeMap::new(),
            lost: BTreeSet::new(),
            requests: 0,
            starts: 1,
            served: Vec::new(),
            reached: 0,
            compacted: 0,
            is_stopped: false,
            was_full: false,
            topics: BTreeMap::new(),
            known: BTreeMap::new(),
            groups: BTreeMap::new(),
            producers: 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw.below(end as u64)).expect("small")
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn step(&mut self, input: Input) {
        self.node.step(self.now, input, &mut self.out);
        self.node.invariants();
        self.take_effects();
    }

    fn turn(&mut self) {
        self.node.turn(self.now, &mut self.out);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        for effect in std::mem::take(&mut self.out.0) {
            match effect {
                Effect::Reply { to, response } => {
                    if !self.lost.remove(&to.sequence) {
                        let asked = self.asked.remove(&to.sequence).expect("one answer for each request");
                        self.answered(to.sequence, asked, response);
                    }
                }
                Effect::Disk(DiskOp::Commit(commit, direct)) => self.commits.push_back((commit, direct)),
                Effect::Disk(DiskOp::Task(id, task)) => self.tasks.push_back((id, task)),
                Effect::Disk(DiskOp::Read(id, plan)) => self.reads.push((id, plan)),
                Effect::Disk(DiskOp::Question(id, question)) => self.questions.push((id, question)),
                Effect::Disk(DiskOp::Compact(pass)) => {
                    assert!(self.pass.replace(pass).is_none(), "one compaction is under way at a time");
                }
                Effect::Stopped => self.is_stopped = true,
                Effect::Fatal(why) => panic!("the disk never failed: {why}"),
                Effect::Log(_) | Effect::Close { .. } | Effect::TopicCodecs(_) | Effect::AllowConnections { .. } => {}
            }
        }
        assert!(self.commits.len() <= 1, "one commit is in flight at a time");
    }

    fn ask(&mut self, version: i16, request: Request, asked: Asked) -> u64 {
        let sequence = self.requests;
        self.requests += 1;
        let conn = asked.conn(sequence);
        self.asked.insert(sequence, asked);
        let to = ReplyTo { conn, sequence, version, listener: ListenerId(0) };
        self.step(Input::Request { to, request });
        sequence
    }

    // What clients do.

    fn act(&mut self) {
        match self.below(100) {
            0..=2 => self.create(),
            3 => self.delete(),
            4..=5 => self.delete_records(),
            6..=30 => self.send_plain(),
            31..=55 => self.send_idempotent(),
            56..=65 => self.fetch(),
            66..=67 => self.find_by_time(),
            68..=69 => self.close(),
            70..=74 => self.use_group(),
            75..=90 => self.work(),
            91..=93 => self.pass(200),
            94 => {
                let full = self.one_in(3);
                self.was_full |= full;
                self.files.set_full(full);
            }
            95 if self.one_in(3) => self.stop(),
            96 if self.one_in(2) => self.crash(),
            _ => self.turn(),
        }
    }

    fn is_settling(&self, name: &str) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::Create(of) | Asked::Delete(of, _) if *of == name))
    }

    fn create(&mut self) {
        let name = NAMES[self.below(NAMES.len())];
        if self.is_settling(name) || self.topics.contains_key(name) {
            return;
        }
        let config = |name: &'static str, value: &'static str| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let mut configs = vec![config("file.delete.delay.ms", ["0", "500"][self.below(2)])];
        configs.push(config("internal.segment.bytes", ["9000", "40000", "1000000"][self.below(3)]));
        if name == "shrinking" {
            configs.push(config("retention.bytes", "50000"));
        }
        if name == "compacting" {
            configs.push(config("cleanup.policy", ["compact", "compact,delete"][self.below(2)]));
            configs.push(config("min.cleanable.dirty.ratio", ["0", "0.5"][self.below(2)]));
            configs.push(config("max.compaction.lag.ms", ["1000", "100000"][self.below(2)]));
        }
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: PARTITIONS,
            replication_factor: 1,
            configs,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        self.ask(7, Request::Other(request.into()), Asked::Create(name));
    }

    fn delete(&mut self) {
        let name = NAMES[self.below(NAMES.len())];
        let Some(&id) = self.topics.get(name).filter(|_| !self.is_settling(name)) else { return };
        let topic = DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
        self.ask(6, Request::Other(request.into()), Asked::Delete(name, id));
    }

    fn partition(&mut self) -> Option<TopicPartition> {
        let ids: Vec<TopicId> = self.topics.values().copied().collect();
        let partition = i32::try_from(self.below(PARTITIONS as usize)).expect("few");
        (!ids.is_empty()).then(|| TopicPartition { topic: ids[self.below(ids.len())], partition })
    }

    fn name_of(&self, id: TopicId) -> Option<&'static str> {
        self.topics.iter().find(|&(_, &known)| known == id).map(|(&name, _)| name)
    }

    fn delete_records(&mut self) {
        let Some(id) = self.partition() else { return };
        let name = self.name_of(id.topic).expect("it was just found");
        if self.is_settling(name) {
            return;
        }
        let known = self.known.entry(id).or_default();
        let Some((&end, _)) = known.values.last_key_value() else { return };
        let to = known.start.0
            + i64::try_from(self.draw.below(u64::try_from(end - known.start.0 + 2).unwrap_or(1))).expect("small");
        let known = self.known.entry(id).or_default();
        known.start.1 = known.start.1.max(to);
        let partition = DeleteRecordsPartition { partition_index: id.partition, offset: to };
        let topic = DeleteRecordsTopic { name: name.into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
        self.ask(2, Request::Other(request.into()), Asked::DeleteRecords(id));
    }

    /// New values for a partition, each unlike any other.
    fn values(&mut self, id: TopicPartition, sender: &str, first: u64) -> Vec<String> {
        let count = 1 + self.below(3) as u64;
        let padding = match self.below(20) {
            0 | 1 => 30_000,
            2..=6 => 3_000,
            _ => 40,
        };
        (first..first + count).map(|n| format!("{id}/{sender}/{n}/{}", "v".repeat(padding))).collect()
    }

    fn send_plain(&mut self) {
        let Some(id) = self.partition() else { return };
        let first = self.known.entry(id).or_default().plain_sent;
        let values = self.values(id, "plain", first);
        let known = self.known.entry(id).or_default();
        known.plain_sent += values.len() as u64;
        known.sent.extend(values.iter().cloned());
        let acks = [-1, -1, 1, 0][self.below(4)];
        let batch = self.batch(&values);
        self.produce(id, acks, batch, Asked::Plain(id, values));
    }

    fn batch(&self, values: &[String]) -> BatchBuilder {
        values.iter().fold(BatchBuilder::new(), |batch, value| {
            batch.record(self.now.wall, Some(key_of(value).to_be_bytes().as_slice()), Some(value.as_bytes()))
        })
    }

    fn send_idempotent(&mut self) {
        let Some(id) = self.partition() else { return };
        self.producers += 1;
        let fresh = self.producers;
        let producer = &mut self.known.entry(id).or_default().producer;
        if producer.id == 0 {
            *producer = Producer { id: fresh, ..Producer::default() };
        }
        if producer.unacked.iter().any(|batch| batch.request.is_none()) {
            // Something failed: all of it is sent again in order, once everything has been answered.
            if producer.unacked.iter().any(|batch| batch.request.is_some()) {
                return;
            }
            for index in 0..producer.unacked.len() {
                self.send_unacked(id, index);
            }
            return;
        }
        if producer.unacked.len() == IN_FLIGHT_MAX {
            return;
        }
        let (first, sender) = (producer.next, format!("{}", producer.id));
        let values = self.values(id, &sender, first as u64);
        let known = self.known.entry(id).or_default();
        known.sent.extend(values.iter().cloned());
        known.producer.next += i32::try_from(values.len()).expect("few");
        known.producer.unacked.push_back(Unacked { first, values, request: None });
        self.send_unacked(id, self.known[&id].producer.unacked.len() - 1);
    }

    fn send_unacked(&mut self, id: TopicPartition, index: usize) {
        // An answer that came at once may have taken batches out.
        let Some(producer) = self.known.get(&id).map(|known| &known.producer) else { return };
        let Some(Unacked { first, values, .. }) = producer.unacked.get(index).cloned() else { return };
        let batch = self.batch(&values).producer(ProducerId(producer.id), ProducerEpoch(0), first);
        let producer = &mut self.known.get_mut(&id).expect("it was just there").producer;
        producer.unacked[index].request = Some(self.requests);
        let sent = self.requests;
        assert_eq!(self.produce(id, -1, batch, Asked::Idempotent(id)), sent);
    }

    fn produce(&mut self, id: TopicPartition, acks: i16, batch: BatchBuilder, asked: Asked) -> u64 {
        let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
        let batch = verify(batch.build(), &limits).expect("a sound batch");
        let partitions = [ProducePartition { index: id.partition, batch: Ok(batch) }].into_iter().collect();
        let topic = ProduceTopic { name: "".into(), id: id.topic, partitions };
        let produce = Produce {
            acks,
            timeout_ms: 1000,
            transactional_id: None,
            may_write_internal: false,
            topics: [topic].into_iter().collect(),
        };
        self.ask(13, Request::Produce(produce.into()), asked)
    }

    fn fetch(&mut self) {
        let mut wanted = Vec::new();
        let mut topics = Vec::new();
        for _ in 0..=self.below(3) {
            let Some(id) = self.partition() else { return };
            let known = self.known.entry(id).or_default();
            let from = known.start.0;
            let end = known.values.last_key_value().map_or(from, |(&last, _)| from.max(last + 1));
            let offset =
                from + i64::try_from(self.draw.below(u64::try_from(end - from + 1).unwrap_or(1))).expect("small");
            let partition = FetchPartition {
                partition: id.partition,
                fetch_offset: offset,
                partition_max_bytes: [0, 1, 5_000, 1 << 20][self.below(4)],
                current_leader_epoch: -1,
                ..FetchPartition::default()
            };
            wanted.push((id, offset));
            topics.push(FetchTopic { topic_id: id.topic, partitions: vec![partition], ..FetchTopic::default() });
        }
        let request = FetchRequest {
            max_wait_ms: [0, 50, 500][self.below(3)],
            min_bytes: [0, 1, 5_000, 1 << 20][self.below(4)],
            max_bytes: [1, 5_000, 1 << 20][self.below(3)],
            session_epoch: -1,
            topics,
            ..FetchRequest::default()
        };
        self.ask(13, Request::Other(request.into()), Asked::Fetch(wanted));
    }

    fn find_by_time(&mut self) {
        let Some(id) = self.partition() else { return };
        let Some(name) = self.name_of(id.topic) else { return };
        let timestamp = [-1, -2, -3, self.now.wall.0 - 100, 0][self.below(5)];
        let partition = ListOffsetsPartition { partition_index: id.partition, timestamp, current_leader_epoch: -1 };
        let topic = ListOffsetsTopic { name: name.into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        self.ask(7, Request::Other(request.into()), Asked::Other);
    }

    /// A connection is lost with what it waits for.
    fn close(&mut self) {
        let conn = ConnId(self.draw.below(3));
        self.step(Input::Closed { conn });
        let is_lost = |(sequence, asked): (&u64, &mut Asked)| {
            // What became of topics and log starts must be known here, or nothing could be checked.
            let is_told = matches!(asked, Asked::Create(_) | Asked::Delete(..) | Asked::DeleteRecords(_));
            !is_told && asked.conn(*sequence) == conn
        };
        let lost: BTreeMap<u64, Asked> =
            self.asked.extract_if(.., |sequence, asked| is_lost((sequence, asked))).collect();
        for known in self.known.values_mut() {
            for batch in &mut known.producer.unacked {
                batch.request.take_if(|request| lost.contains_key(request));
            }
        }
        self.lost.extend(lost.into_keys());
    }

    // What clients learn.

    fn answered(&mut self, sequence: u64, asked: Asked, response: Option<Response>) {
        match (asked, response) {
            (Asked::Create(name), Some(Response::CreateTopics(response))) => {
                assert_eq!(response.topics[0].error_code, 0);
                self.topics.insert(name, response.topics[0].topic_id);
            }
            (Asked::Delete(name, id), Some(Response::DeleteTopics(response))) => {
                assert_eq!(response.responses[0].error_code, 0);
                assert_eq!(self.topics.remove(name), Some(id));
                self.known.retain(|partition, _| partition.topic != id);
            }
            (Asked::DeleteRecords(id), Some(Response::DeleteRecords(response))) => {
                let told = &response.topics[0].partitions[0];
                if let Some(known) = self.known.get_mut(&id).filter(|_| told.error_code == 0) {
                    known.start.0 = known.start.0.max(told.low_watermark);
                }
            }
            (Asked::Plain(..), None) | (Asked::Other, Some(_)) => {}
            (Asked::Plain(id, values), Some(Response::Produce(response))) => {
                let told = &response.responses[0].partition_responses[0];
                match told.error_code {
                    0 => self.learn(id, told.base_offset, &values),
                    error => self.check_refusal(id, error),
                }
            }
            (Asked::Idempotent(id), Some(Response::Produce(response))) => {
                let told = response.responses[0].partition_responses[0].clone();
                self.idempotent_answered(sequence, id, &told);
            }
            (Asked::Commit(group, offset), Some(Response::OffsetCommit(response))) => {
                self.committed(group, offset, response.topics[0].partitions[0].error_code);
            }
            (Asked::Offset(group, known), Some(Response::OffsetFetch(response))) => {
                let told = &response.groups[0];
                let told = match told.error_code {
                    0 => Ok(told.topics[0].partitions[0].committed_offset),
                    error => Err(error),
                };
                self.offset_told(group, known, told);
            }
            (Asked::Fetch(wanted), Some(Response::Fetch(response))) => {
                assert_eq!(response.error_code, 0);
                let answers = response
                    .responses
                    .into_iter()
                    .flat_map(|topic| topic.partitions.into_iter().map(move |data| (topic.topic_id, data)));
                for (index, (topic, data)) in answers.enumerate() {
                    let (id, offset) = wanted[index];
                    assert_eq!((id.topic, id.partition), (topic, data.partition_index));
                    self.fetched(id, offset, data);
                }
            }
            (asked, response) => panic!("{asked:?} was answered by {response:?}"),
        }
    }

    fn check_refusal(&self, id: TopicPartition, error: i16) {
        let is_gone = self.name_of(id.topic).is_none_or(|name| self.is_settling(name));
        let is_unknown = is(error, ErrorCode::UnknownTopicId) || is(error, ErrorCode::UnknownTopicOrPartition);
        let is_allowed = (is_unknown && is_gone) || (is(error, ErrorCode::KafkaStorageError) && self.was_full);
        assert!(is_allowed, "{id} answers {error}");
    }

    fn idempotent_answered(&mut self, sequence: u64, id: TopicPartition, told: &PartitionProduceResponse) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let unacked = &mut known.producer.unacked;
        let Some(at) = unacked.iter().position(|batch| batch.request == Some(sequence)) else { return };
        if told.error_code == 0 {
            let batch = unacked.remove(at).expect("it was just found");
            return self.learn(id, told.base_offset, &batch.values);
        }
        unacked[at].request = None;
        let follows_failure = unacked.iter().take(at).any(|earlier| earlier.request.is_none());
        if told.error_code != ErrorCode::OutOfOrderSequenceNumber.code() || !follows_failure {
            self.check_refusal(id, told.error_code);
        }
    }

    /// `values` are acknowledged from an offset on.
    fn learn(&mut self, id: TopicPartition, base: i64, values: &[String]) {
        let Some(known) = self.known.get_mut(&id) else { return };
        for (offset, value) in (base..).zip(values) {
            let before = known.values.insert(offset, value.clone());
            assert!(before.is_none_or(|before| before == *value), "{id} gave offset {offset} twice");
        }
    }

    fn fetched(&mut self, id: TopicPartition, from: i64, data: PartitionData) {
        let name = self.name_of(id.topic);
        let Some(known) = self.known.get_mut(&id) else { return };
        known.start.0 = known.start.0.max(data.log_start_offset);
        if data.error_code != 0 {
            let is_below = from < known.start.1 || self.name_of(id.topic) == Some("shrinking");
            // Its segment may have been removed while the read was on its way.
            let code = data.error_code;
            let is_left_behind = is(code, ErrorCode::OffsetOutOfRange) || is(code, ErrorCode::KafkaStorageError);
            if !(is_left_behind && is_below) {
                self.check_refusal(id, data.error_code);
            }
            return;
        }
        let bytes: Vec<u8> = data.records.expect("records, if none").0.concat();
        let compacts = name == Some("compacting");
        let mut next = None;
        self.served = decoded(&bytes);
        let heads = Scan::heads(&bytes).map(|found| found.expect("whole batches").head.next_offset().0);
        self.reached = heads.max().unwrap_or(from);
        for (offset, value) in self.served.iter().cloned() {
            assert!(compacts || next.is_none_or(|next| next == offset), "{id} leaves out what is before {offset}");
            assert!(compacts || next.is_some() || offset <= from, "{id} begins at {offset}, asked for {from}");
            assert!(next.is_none_or(|next| next <= offset), "{id} serves {offset} out of order");
            next = Some(offset + 1);
            assert!(offset < data.high_watermark, "{id} serves {offset} above its high watermark");
            assert!(known.sent.contains(&value), "{id} serves a value that it was never sent");
            let before = known.values.insert(offset, value.clone());
            assert!(before.is_none_or(|before| before == value), "{id} serves something else at {offset}");
        }
        assert!(bytes.is_empty() || self.reached > from, "{id} serves only what lies below {from}");
    }

    // What the disk and the clock do.

    /// Carries out one thing that the disk was asked for.
    fn work(&mut self) {
        match self.below(4) {
            0 => self.commit(),
            3 => self.compact(),
            _ if !self.questions.is_empty() => {
                let at = self.below(self.questions.len());
                let (id, question) = self.questions.swap_remove(at);
                self.step(Input::Disk(Done::Finding(id, Box::new(question.answer()))));
            }
            1 => {
                if let Some((id, task)) = self.tasks.pop_front() {
                    let result = task.run(&self.files);
                    self.step(Input::Disk(Done::Task(id, result)));
                }
            }
            _ => {
                if !self.reads.is_empty() {
                    let at = self.below(self.reads.len());
                    let (id, plan) = self.reads.swap_remove(at);
                    let result = plan.run(&self.files);
                    self.step(Input::Disk(Done::Read(id, result)));
                }
            }
        }
    }

    fn compact(&mut self) {
        if let Some(mut pass) = self.pass.take() {
            let result = pass.step(&self.files);
            self.step(Input::Disk(Done::Compacted(pass, result)));
        }
    }

    fn commit(&mut self) {
        if let Some((commit, direct)) = self.commits.pop_front() {
            let done = match self.write(&commit, &direct) {
                true => Done::Commit(commit.number, Ok(())),
                false => Done::Written(commit.number),
            };
            self.step(Input::Disk(done));
        }
    }

    /// Writes a commit, and syncs it where that is asked for. Returns whether it was.
    fn write(&mut self, commit: &journal::Commit, direct: &[DirectWrite]) -> bool {
        write_direct(&self.files, direct).expect("memory has room");
        let data = std::slice::from_ref(&commit.data);
        self.files.write_at(FileName::Journal(commit.slot), commit.position, data).expect("memory has room");
        self.unsynced.insert(commit.slot);
        let is_synced = commit.must_sync || !self.is_os;
        if is_synced {
            for slot in std::mem::take(&mut self.unsynced) {
                self.files.sync(FileName::Journal(slot)).expect("the file was written");
            }
        }
        is_synced
    }

    fn pass(&mut self, ms: u64) {
        let ms = 1 + self.draw.below(ms);
        self.now.instant = Instant(self.now.instant.0 + ms * 1_000_000);
        self.now.wall = Timestamp(self.now.wall.0 + i64::try_from(ms).expect("small"));
        if self.node.deadline().is_some_and(|(at, _)| at <= self.now.instant) {
            self.step(Input::Deadline);
        }
    }

    /// Lets everything finish that can, over some seconds. The node then rests.
    fn settle(&mut self) {
        let mut busy = 0;
        for _ in 0..60 {
            loop {
                self.turn();
                let is_due = self.node.deadline().is_some_and(|(at, _)| at <= self.now.instant);
                let is_idle = self.commits.is_empty() && self.tasks.is_empty() && self.reads.is_empty();
                if is_idle && self.questions.is_empty() && self.pass.is_none() && !is_due {
                    break;
                }
                busy += 1;
                assert!(busy < 20_000, "seed {}: the node does not come to rest", self.seed);
                for kind in 0..3 {
                    match kind {
                        0 => self.commit(),
                        _ => self.work(),
                    }
                }
                if is_due {
                    self.step(Input::Deadline);
                }
            }
            if self.is_stopped {
                return;
            }
            self.pass(100);
        }
    }

    fn stop(&mut self) {
        self.step(Input::Stop);
        self.settle();
        assert!(self.is_stopped, "the node stops, with a full disk or without");
        let unanswered: Vec<_> = self.asked.values().filter(|asked| !matches!(asked, Asked::Fetch(_))).collect();
        assert!(unanswered.is_empty() || self.was_full, "in an orderly stop everything is answered: {unanswered:?}");
        self.crash();
    }

    /// The process dies, somewhere in what it is doing, and perhaps the power with it. It starts again.
    fn crash(&mut self) {
        // Work goes on for some changes of files, of which the node never hears.
        let changes = self.draw.below(8);
        self.files.die_after(changes);
        if let Some((commit, direct)) = self.commits.pop_front() {
            self.write(&commit, &direct);
        }
        for (_, task) in std::mem::take(&mut self.tasks) {
            // Of a dead process nobody learns how it went.
            let _ = task.run(&self.files);
        }
        if let Some(mut pass) = self.pass.take() {
            while let Ok(Progress::Ahead) = pass.step(&self.files) {}
        }
        let lost_power = self.fail_power();
        if self.one_in(3) {
            // It dies again while it recovers.
            let changes = self.draw.below(6);
            self.files.die_after(changes);
            self.starts += 1;
            let _ = Node::recover(settings(self.is_os), &self.files, [self.starts; 32], self.now);
            self.fail_power();
        }
        self.starts += 1;
        let (node, report) = match Node::recover(settings(self.is_os), &self.files, [self.starts; 32], self.now) {
            Ok(recovered) => recovered,
            Err(error) => panic!("seed {}: no start after a crash: {error}", self.seed),
        };
        assert!(report.notes.iter().all(|note| !note.contains("does not serve")), "{:?}", report.notes);
        node.invariants();
        self.compacted += self.node.counters().compaction_records_removed;
        self.node = node;
        self.reads.clear();
        self.served.clear();
        self.unsynced.clear();
        (self.is_stopped, self.was_full) = (false, false);
        let asked = std::mem::take(&mut self.asked);
        self.lost.clear();
        for known in self.known.values_mut() {
            known.producer.unacked.iter_mut().for_each(|batch| batch.request = None);
        }
        self.relearn_topics(&asked);
        if lost_power && self.is_os {
            self.forget_progress();
            self.forget_what_the_system_lost();
        }
    }

    fn fail_power(&mut self) -> bool {
        let keeps = self.below(4);
        match keeps {
            0 => self.files.restart(),
            _ => {
                let mut draw = self.draw.keyed(9, u64::from(self.starts));
                self.files.lose_power(|| match keeps {
                    1 => false,
                    2 => draw.below(2) == 0,
                    _ => draw.below(10) != 0,
                });
            }
        }
        keeps != 0
    }

    /// After a crash only the node knows what became of requests to create and delete that were not answered.
    fn relearn_topics(&mut self, asked: &BTreeMap<u64, Asked>) {
        for name in NAMES {
            let now = self.node.controller.image().topic_named(name).map(|topic| topic.id);
            let before = self.topics.get(name).copied();
            let is_open =
                asked.values().any(|asked| matches!(asked, Asked::Create(of) | Asked::Delete(of, _) if *of == name));
            assert!(is_open || now == before, "topic {name} was {before:?} and is {now:?}");
            match now {
                Some(id) => self.topics.insert(name, id),
                None => self.topics.remove(name),
            };
        }
        let live: BTreeSet<TopicId> = self.topics.values().copied().collect();
        self.known.retain(|id, _| live.contains(&id.topic));
    }

    /// Where appends are acknowledged unsynced, a power cut may take the newest of them: those, and no others.
    fn forget_what_the_system_lost(&mut self) {
        for (&id, known) in &mut self.known {
            let slot = self.node.by_id[&id];
            let end = self.node.hosts[slot as usize].as_ref().expect("it is hosted").partition.log().end();
            known.values.retain(|&offset, _| offset < end.0);
            known.start.0 = 0;
            known.producer = Producer::default();
        }
    }

    // The reckoning.

    fn check_all(&mut self) {
        let ids: Vec<TopicPartition> = self.known.keys().copied().collect();
        for id in ids {
            let found = self.consume(id);
            if self.name_of(id.topic) == Some("compacting") {
                self.check_compacted(id, &found);
                continue;
            }
            let known = &self.known[&id];
            let (first, end) = (found.first_key_value().map(|(&offset, _)| offset), found.len());
            if let Some(first) = first {
                let may_shrink = self.name_of(id.topic) == Some("shrinking");
                assert!(may_shrink || first <= known.start.1.max(0), "{id} begins at {first}: {:?}", known.start);
                assert!(found.keys().copied().eq(first..first + i64::try_from(end).expect("small")));
            }
            let begins = first.unwrap_or(i64::MAX);
            let may_be_empty = known.start.1 > known.values.last_key_value().map_or(0, |(&last, _)| last);
            assert!(first.is_some() || known.values.is_empty() || may_be_empty, "{id} lost everything");
            for (offset, value) in known.values.range(begins..) {
                assert_eq!(found.get(offset), Some(value), "seed {}: {id} at {offset}", self.seed);
            }
            let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
            for value in found.values() {
                assert!(known.sent.contains(value), "{id} holds a value that it was never sent");
                let mut parts = value.split('/').skip(1);
                let sender = parts.next().expect("a sender");
                let number: i64 = parts.next().and_then(|number| number.parse().ok()).expect("a number");
                let before = newest.insert(sender, number);
                assert!(before < Some(number), "{id}: {sender} wrote {number} after {before:?}");
            }
        }
    }

    /// Of each key the newest value is there, and all that no compacted segment ever held.
    fn check_compacted(&self, id: TopicPartition, found: &BTreeMap<i64, String>) {
        let slot = self.node.by_id[&id];
        let log = self.node.hosts[slot as usize].as_ref().expect("it is hosted").partition.log();
        let known = &self.known[&id];
        let (start, whole_from) = (log.start().0, log.whole_from().0);
        assert!(start <= known.start.1.max(0), "{id} starts at {start}: {:?}", known.start);
        let mut newest: BTreeMap<u64, i64> = BTreeMap::new();
        for (&offset, value) in found {
            assert!(known.sent.contains(value), "{id} holds a value that it was never sent");
            newest.insert(key_of(value), offset);
        }
        for (offset, value) in known.values.range(start..) {
            let is_there = found.get(offset).is_some_and(|there| there == value);
            let is_superseded = newest.get(&key_of(value)).is_some_and(|newest| newest > offset);
            assert!(is_there || is_superseded, "seed {}: {id} lost the newest of a key at {offset}", self.seed);
            assert!(is_there || *offset < whole_from, "seed {}: {id} lost {offset} of {whole_from}..", self.seed);
        }
    }

    /// All that a partition serves, by offset.
    fn consume(&mut self, id: TopicPartition) -> BTreeMap<i64, String> {
        let log = |world: &World| {
            let slot = world.node.by_id[&id];
            let partition = &world.node.hosts[slot as usize].as_ref().expect("it is hosted").partition;
            (partition.log().start().0, partition.advanced().high_watermark.0)
        };
        let (mut next, end) = log(self);
        let told = self.known[&id].start.0;
        assert!(next >= told, "seed {}: {id} starts at {next} again after it did at {told}", self.seed);
        let mut all = BTreeMap::new();
        while next < end {
            let partition = FetchPartition {
                partition: id.partition,
                fetch_offset: next,
                partition_max_bytes: 1 << 20,
                current_leader_epoch: -1,
                ..FetchPartition::default()
            };
            let topic = FetchTopic { topic_id: id.topic, partitions: vec![partition], ..FetchTopic::default() };
            let request =
                FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics: vec![topic], ..FetchRequest::default() };
            let before = next;
            self.ask(13, Request::Other(request.into()), Asked::Fetch(vec![(id, next)]));
            while let Some((read, plan)) = self.reads.pop() {
                let result = plan.run(&self.files);
                self.step(Input::Disk(Done::Read(read, result)));
            }
            all.extend(std::mem::take(&mut self.served).into_iter().filter(|(offset, _)| *offset >= next));
            next = self.reached;
            assert!(next > before, "seed {}: {id} serves nothing at {before} of {end}", self.seed);
        }
        all
    }
}

/// The key that a value is stored under: its number, which is its third part, by how many keys there are.
fn key_of(value: &str) -> u64 {
    let number = value.split('/').nth(2).and_then(|number| number.parse::<u64>().ok());
    number.expect("a value has a number") % KEYS
}

fn is(code: i16, error: ErrorCode) -> bool {
    code == error.code()
}

/// The records of whole batches, with their offsets.
fn decoded(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    for found in Scan::checked(bytes) {
        let found = found.expect("whole batches");
        let mut records = crate::batch::Records::open(&bytes[found.range], 1 << 24).expect("a batch that was verified");
        while let Some(record) = records.next_record().expect("records that were verified") {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            all.push((record.offset.0, value));
        }
    }
    all
}

/// Returns how many records were compacted away.
fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let root = world.draw.clone();
    for step in 0..STEPS {
        world.draw = root.keyed(1, step);
        world.act();
    }
    world.files.set_full(false);
    world.settle();
    assert!(world.asked.is_empty(), "seed {seed}: these were never answered: {:?}", world.asked);
    world.check_all();
    world.check_groups();
    world.crash();
    world.settle();
    world.check_all();
    world.check_groups();
    world.compacted + world.node.counters().compaction_records_removed
}

/// The seeds to run, `CHRONIK_SEEDS=first..end` where one hunts.
#[expect(clippy::disallowed_methods, reason = "which seeds are run is for whoever hunts to say")]
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("CHRONIK_SEEDS").ok();
    let asked = asked.as_deref().and_then(|seeds| seeds.split_once(".."));
    asked.map_or(0..24, |(first, end)| first.parse().expect("a seed")..end.parse().expect("a seed"))
}

#[test]
fn what_was_acknowledged_is_there_once_and_in_order_whatever_happens() {
    let mut compacted = 0;
    let mut failed: Vec<u64> = Vec::new();
    for seed in seeds() {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(records) => compacted += records,
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "run with CHRONIK_SEEDS=N..M; these seeds failed: {failed:?}");
    assert!(compacted > 10 * (seeds().end - seeds().start), "only {compacted} records were ever compacted away");
}
