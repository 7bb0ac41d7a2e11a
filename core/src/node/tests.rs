//! Scenarios: a node, its files in memory, and what a client sees.

mod model;

use std::collections::VecDeque;

use super::*;
use crate::batch::{BatchBuilder, BatchLimits, Scan, verify};
use crate::boundary::{DiskError, FileName, Files, LogLine, ProducePartition, ProduceTopic, Task};
use crate::config::BrokerConfig;
use crate::ids::{ListenerId, ProducerEpoch, ProducerId};
use crate::journal::Geometry;
use crate::testing::MemoryFiles;
use crate::time::Timestamp;
use crate::wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use crate::wire::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use crate::wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use crate::wire::incremental_alter_configs::{AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest};
use crate::wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::wire::produce::PartitionProduceResponse;

mod checkpoints;
mod compaction;
mod damage;
mod groups;
mod mending;
mod naming;
mod offsets;
mod room;
mod scrub;
mod sessions;
mod settings;
mod slices;
mod transcripts;
mod turns;
mod volume;

/// Small files, so that rings turn and checkpoints happen in a few batches.
const GEOMETRY: Geometry = Geometry { file_bytes: 256 << 10, max_files: 6, reserve_bytes: 64 << 10 };

struct Rig {
    node: Node,
    files: MemoryFiles,
    now: Now,
    out: Outbox,
    /// Commits that the disk has been given and has not done, while `hold` is set.
    held: VecDeque<journal::Commit>,
    hold: bool,
    /// Acknowledge by the operating system's word, as `--durability os` does.
    trust_os: bool,
    replies: BTreeMap<u64, Option<Response>>,
    asked: u64,
    stopped: bool,
    fatal: Option<String>,
    codecs: Arc<TopicCodecs>,
    settings: Vec<(&'static str, &'static str)>,
    starts: u8,
    /// What went in and out, for transcripts.
    lines: Vec<String>,
}

fn options(settings: &[(&'static str, &'static str)]) -> NodeOptions {
    NodeOptions {
        node_id: crate::ids::NodeId(1),
        directory_id: Uuid([3; 16]),
        cluster_id: "test-cluster".into(),
        data_dir: "/data".into(),
        listeners: vec![("PLAINTEXT".into(), "localhost".into(), 9092)],
        broker: BrokerConfig::parse(settings.iter().copied()).expect("settings that a test may use"),
        limits: Limits { tail_cache_bytes: 64 << 10, ..Limits::default() },
        journal: GEOMETRY,
        direct_from: 20_000,
    }
}

impl Rig {
    fn new() -> Rig {
        Rig::with(&[])
    }

    fn with(settings: &[(&'static str, &'static str)]) -> Rig {
        Rig::on(MemoryFiles::default(), settings, 1)
    }

    fn on(files: MemoryFiles, settings: &[(&'static str, &'static str)], starts: u8) -> Rig {
        let now = Now { instant: Instant(0), wall: Timestamp(1_700_000_000_000) };
        let (node, _) = Node::recover(options(settings), &files, [starts; 32], now).expect("sound files");
        Rig {
            codecs: Arc::new(node.topic_codecs().clone()),
            node,
            files,
            now,
            out: Outbox::default(),
            held: VecDeque::new(),
            hold: false,
            trust_os: false,
            replies: BTreeMap::new(),
            asked: 0,
            stopped: false,
            fatal: None,
            settings: settings.to_vec(),
            starts,
            lines: Vec::new(),
        }
    }

    /// The process dies here and starts again on what the disk has.
    fn crash(self) -> Rig {
        Rig::on(self.files, &self.settings.clone(), self.starts + 1)
    }

    fn ask(&mut self, version: i16, request: Request) -> u64 {
        let sequence = self.asked;
        self.asked += 1;
        let to = ReplyTo { conn: ConnId(1), sequence, version, listener: ListenerId(0) };
        self.step(Input::Request { to, request });
        self.run();
        sequence
    }

    /// Asks, and gives the answer that must have come.
    fn answer(&mut self, version: i16, request: wire::Request) -> Response {
        let sequence = self.ask(version, Request::Other(request.into()));
        let has_more = |rig: &Rig| rig.node.deadline().is_some_and(|(at, _)| at <= rig.now.instant);
        while !self.replies.contains_key(&sequence) && has_more(self) {
            self.step(Input::Deadline);
            self.run();
        }
        self.reply(sequence).expect("an answer").expect("not an empty one")
    }

    fn reply(&mut self, sequence: u64) -> Option<Option<Response>> {
        self.replies.remove(&sequence)
    }

    fn step(&mut self, input: Input) {
        self.lines.push(transcripts::input(&input));
        self.node.step(self.now, input, &mut self.out);
        self.node.invariants();
    }

    /// Carries effects out until nothing is left to do, commits excepted while they are held.
    fn run(&mut self) {
        loop {
            self.node.turn(self.now, &mut self.out);
            if self.out.0.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut self.out.0) {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        self.lines.push(transcripts::effect(&effect));
        match effect {
            Effect::Reply { to, response } => {
                assert!(self.replies.insert(to.sequence, response).is_none(), "one answer for each request");
            }
            Effect::Disk(DiskOp::Commit(commit, direct)) => {
                crate::boundary::write_direct(&self.files, &direct).expect("memory has room");
                if self.hold { self.held.push_back(commit) } else { self.commit(commit) }
            }
            Effect::Disk(DiskOp::Read(id, plan)) => {
                let result = plan.run(&self.files);
                self.step(Input::Disk(Done::Read(id, result)));
            }
            Effect::Disk(DiskOp::Task(id, task)) => {
                let result = task.run(&self.files);
                self.step(Input::Disk(Done::Task(id, result)));
            }
            Effect::Disk(DiskOp::Question(id, question)) => {
                let finding = Box::new(question.answer());
                self.step(Input::Disk(Done::Finding(id, finding)));
            }
            Effect::Disk(DiskOp::Compact(mut pass)) => {
                let result = pass.step(&self.files);
                self.step(Input::Disk(Done::Compacted(pass, result)));
            }
            Effect::TopicCodecs(codecs) => self.codecs = codecs,
            Effect::Stopped => self.stopped = true,
            Effect::Fatal(why) => self.fatal = Some(why),
            Effect::Log(_) | Effect::Close { .. } | Effect::AllowConnections { .. } => {}
        }
    }

    fn commit(&mut self, commit: journal::Commit) {
        let file = FileName::Journal(commit.slot);
        self.files.write_at(file, commit.position, std::slice::from_ref(&commit.data)).expect("memory has room");
        let done = if self.trust_os && !commit.must_sync {
            Done::Written(commit.number)
        } else {
            Done::Commit(commit.number, Ok(()))
        };
        drop(commit.data);
        self.step(Input::Disk(done));
    }

    fn release(&mut self) {
        self.hold = false;
        while let Some(commit) = self.held.pop_front() {
            self.commit(commit);
        }
        self.run();
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, ms: u64) {
        let until = Instant(self.now.instant.0 + ms * 1_000_000);
        while let Some((at, _)) = self.node.deadline().filter(|&(at, _)| at <= until) {
            self.advance_to(at.max(self.now.instant));
            self.step(Input::Deadline);
            self.run();
        }
        self.advance_to(until);
    }

    fn advance_to(&mut self, at: Instant) {
        let ms = (at - self.now.instant).as_millis();
        self.now = Now { instant: at, wall: Timestamp(self.now.wall.0 + i64::try_from(ms).expect("short")) };
    }

    fn create(&mut self, name: &'static str, partitions: i32) {
        self.create_with(name, partitions, &[]);
    }

    fn create_with(&mut self, name: &'static str, partitions: i32, settings: &[(&'static str, &'static str)]) {
        let config = |&(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: settings.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let Response::CreateTopics(response) = self.answer(7, request.into()) else { panic!("another answer") };
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }

    /// Changes one setting of a topic (2), or of all brokers (4, under the empty name), and gives the error code.
    fn alter(&mut self, resource: (i8, &'static str), name: &'static str, value: &'static str) -> i16 {
        let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
        let (resource_type, resource_name) = (resource.0, resource.1.into());
        let resources = vec![AlterConfigsResource { resource_type, resource_name, configs: vec![config] }];
        let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
        let Response::IncrementalAlterConfigs(response) = self.answer(1, request.into()) else {
            panic!("another answer")
        };
        response.responses[0].error_code
    }

    fn delete(&mut self, name: &'static str) {
        let topic = DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
        let Response::DeleteTopics(response) = self.answer(6, request.into()) else { panic!("another answer") };
        assert_eq!(response.responses[0].error_code, 0);
    }

    /// Deletes the records below an offset.
    fn delete_records(&mut self, topic: &'static str, offset: i64) {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
        let Response::DeleteRecords(response) = self.answer(2, request.into()) else { panic!("another answer") };
        assert_eq!(response.topics[0].partitions[0].low_watermark, offset);
    }

    fn send(&mut self, topic: &'static str, partition: i32, acks: i16, batch: BatchBuilder) -> u64 {
        let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
        let batch = verify(batch.build(), &limits).expect("a sound batch");
        // As a connection does.
        let batch = self.codecs.store(&topic.into(), TopicId::ZERO, batch, &limits).map_err(|error| Refused {
            code: ErrorCode::from_code(error.error_code()).expect("one of Kafka's"),
            message: None,
        });
        let partitions = [ProducePartition { index: partition, batch }].into_iter().collect();
        let topic = ProduceTopic { name: topic.into(), id: TopicId::ZERO, partitions };
        let produce = Produce {
            acks,
            timeout_ms: 1000,
            transactional_id: None,
            may_write_internal: false,
            topics: [topic].into_iter().collect(),
        };
        self.ask(9, Request::Produce(produce.into()))
    }

    /// Sends one batch of one value to each of some partitions, in one request.
    fn send_to_all(&mut self, topic: &'static str, values: &[(i32, &str)]) -> u64 {
        let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
        let partitions = values.iter().map(|&(index, value)| {
            let batch = verify(records(self.now.wall, &[value]).build(), &limits).expect("a sound batch");
            ProducePartition { index, batch: Ok(batch) }
        });
        let topic = ProduceTopic { name: topic.into(), id: TopicId::ZERO, partitions: partitions.collect() };
        let topics = [topic].into_iter().collect();
        self.ask(
            9,
            Request::Produce(Box::new(Produce {
                acks: -1,
                timeout_ms: 1000,
                transactional_id: None,
                may_write_internal: false,
                topics,
            })),
        )
    }

    fn produced(&mut self, sequence: u64) -> Option<PartitionProduceResponse> {
        match self.reply(sequence)? {
            Some(Response::Produce(mut response)) => Some(response.responses.remove(0).partition_responses.remove(0)),
            other => panic!("another answer: {other:?}"),
        }
    }

    /// Sends one batch and expects its base offset.
    fn produce(&mut self, topic: &'static str, values: &[&str]) -> i64 {
        let batch = records(self.now.wall, values);
        let sequence = self.send(topic, 0, -1, batch);
        let response = self.produced(sequence).expect("an acknowledgement");
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        response.base_offset
    }

    fn fetch_request(topic: &'static str, offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
        let partition = FetchPartition {
            partition: 0,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            current_leader_epoch: -1,
            ..FetchPartition::default()
        };
        FetchRequest {
            max_wait_ms,
            min_bytes,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic { topic: topic.into(), partitions: vec![partition], ..FetchTopic::default() }],
            ..FetchRequest::default()
        }
    }

    fn fetched(&mut self, sequence: u64) -> Option<FetchResponse> {
        match self.reply(sequence)? {
            Some(Response::Fetch(response)) => Some(response),
            other => panic!("another answer: {other:?}"),
        }
    }

    /// All values from an offset on, by as many fetches as it takes.
    fn consume(&mut self, topic: &'static str, mut offset: i64) -> Vec<String> {
        let mut values = Vec::new();
        loop {
            let request = Rig::fetch_request(topic, offset, 0, 0);
            let sequence = self.ask(12, Request::Other(request.into()));
            let mut response = self.fetched(sequence).expect("an answer");
            let data = response.responses.remove(0).partitions.remove(0);
            assert_eq!(data.error_code, 0);
            let bytes: Vec<u8> = data.records.expect("records, if none").0.concat();
            if bytes.is_empty() {
                assert_eq!(offset, data.high_watermark.max(offset));
                return values;
            }
            for found in Scan::checked(&bytes) {
                let found = found.expect("whole batches");
                let mut records =
                    crate::batch::Records::open(&bytes[found.range], 1 << 24).expect("a batch that was verified");
                while let Some(record) = records.next_record().expect("records that were verified") {
                    if record.offset.0 >= offset {
                        values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
                    }
                }
                offset = found.head.last_offset().0 + 1;
            }
        }
    }

    fn list_offset(&mut self, topic: &'static str, timestamp: i64) -> (i64, i64) {
        let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let Response::ListOffsets(response) = self.answer(7, request.into()) else { panic!("another answer") };
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.error_code, 0);
        (found.offset, found.timestamp)
    }

    fn stop(&mut self) {
        self.step(Input::Stop);
        self.run();
        self.pass(1);
        assert!(self.stopped, "a node without open work stops at once");
    }
}

fn records(time: Timestamp, values: &[&str]) -> BatchBuilder {
    values.iter().fold(BatchBuilder::new(), |batch, value| batch.record(time, None, Some(value.as_bytes())))
}

#[test]
fn what_is_acknowledged_is_read_back_and_again_after_a_crash() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    assert_eq!(rig.produce("t", &["a", "b"]), 0);
    assert_eq!(rig.produce("t", &["c"]), 2);
    assert_eq!(rig.consume("t", 0), ["a", "b", "c"]);
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 1), ["b", "c"]);
    assert_eq!(rig.produce("t", &["d"]), 3);
    rig.stop();
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a", "b", "c", "d"]);
}

#[test]
fn nothing_is_acknowledged_or_read_before_the_disk_has_it() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.hold = true;
    let sequence = rig.send("t", 0, 1, records(Timestamp(5), &["a"]));
    assert!(rig.produced(sequence).is_none(), "acks=1 waits for the disk too");
    assert_eq!(rig.list_offset("t", -1), (0, -1), "the high watermark is the durable end");
    rig.release();
    assert_eq!(rig.produced(sequence).expect("an acknowledgement").base_offset, 0);
    assert_eq!(rig.list_offset("t", -1), (1, -1));
}

#[test]
fn a_crash_before_the_commit_forgets_what_nobody_was_told() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    rig.hold = true;
    rig.send("t", 0, -1, records(Timestamp(5), &["lost"]));
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a"]);
    assert_eq!(rig.produce("t", &["b"]), 1);
}

#[test]
fn a_fetch_waits_for_bytes_and_no_longer_than_it_was_told() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let waiting = rig.ask(12, Request::Other(Rig::fetch_request("t", 0, 1, 500).into()));
    assert!(rig.fetched(waiting).is_none());
    rig.produce("t", &["a"]);
    let response = rig.fetched(waiting).expect("bytes came");
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    let waiting = rig.ask(12, Request::Other(Rig::fetch_request("t", 1, 1, 500).into()));
    rig.pass(499);
    assert!(rig.fetched(waiting).is_none());
    rig.pass(1);
    assert!(rig.fetched(waiting).is_some());
}

#[test]
fn a_duplicate_of_a_batch_in_flight_waits_with_it() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let batch = || records(Timestamp(5), &["a", "b"]).producer(ProducerId(4), ProducerEpoch(0), 0);
    rig.hold = true;
    let first = rig.send("t", 0, -1, batch());
    let second = rig.send("t", 0, -1, batch());
    assert!(rig.produced(second).is_none(), "its original is not durable");
    rig.release();
    assert_eq!(rig.produced(first).expect("an acknowledgement").base_offset, 0);
    assert_eq!(rig.produced(second).expect("an acknowledgement").base_offset, 0);
    assert_eq!(rig.consume("t", 0), ["a", "b"]);
    let mut rig = rig.crash();
    let third = rig.send("t", 0, -1, batch());
    assert_eq!(rig.produced(third).expect("an acknowledgement").base_offset, 0, "producers survive a crash");
    let gap = rig.send("t", 0, -1, records(Timestamp(5), &["x"]).producer(ProducerId(4), ProducerEpoch(0), 7));
    let refused = rig.produced(gap).expect("an answer");
    assert_eq!(refused.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
}

#[test]
fn the_ring_turns_many_times_and_every_start_finds_all() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.create("idle", 1);
    rig.produce("idle", &["still here"]);
    let value = "v".repeat(3_000);
    let mut expected = Vec::new();
    for round in 0..600 {
        let value = format!("{round}:{value}");
        rig.produce("t", &[&value]);
        expected.push(value);
        if round % 97 == 0 {
            rig = rig.crash();
        }
    }
    assert!(rig.node.counters().checkpoints > 0, "the journal is smaller than what was written");
    assert!(rig.consume("t", 0) == expected);
    assert_eq!(rig.consume("idle", 0), ["still here"]);
    let mut rig = rig.crash();
    assert!(rig.consume("t", 0) == expected);
    assert_eq!(rig.consume("idle", 0), ["still here"]);
}

#[test]
fn large_batches_are_written_once_and_found_after_every_crash() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let mut expected = Vec::new();
    for round in 0..60 {
        // Large ones among small ones, at positions that are multiples of nothing.
        let value = format!("{round}:{}", "v".repeat(if round % 3 == 0 { 50 } else { 25_000 + round * 333 }));
        rig.produce("t", &[&value]);
        expected.push(value);
        if round % 7 == 6 {
            rig = rig.crash();
            assert!(rig.consume("t", 0) == expected);
        }
    }
    assert!(rig.node.direct_bytes > 0 && rig.node.counters().commit_bytes < 1 << 20, "most bodies bypass the journal");
    assert!(rig.consume("t", 0) == expected);
}

#[test]
fn a_journal_that_is_gone_is_missed() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.stop();
    for name in rig.files.names() {
        if matches!(name, FileName::Journal(_)) {
            rig.files.remove(name).expect("memory lets go");
        }
    }
    let Err(error) = Node::recover(options(&[]), &rig.files, [9; 32], rig.now) else { panic!("it must not start") };
    assert!(error.to_string().contains("journal/0000.journal is missing"), "{error}");
}

#[test]
fn a_body_that_is_damaged_stops_its_partition_alone() {
    check_damaged_body(false);
}

#[test]
fn a_body_that_is_damaged_behind_a_checkpoint_stops_its_partition_alone() {
    check_damaged_body(true);
}

fn check_damaged_body(checkpoint: bool) {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.create("other", 1);
    rig.produce("other", &["fine"]);
    rig.produce("t", &["small"]);
    rig.produce("t", &["v".repeat(30_000).as_str()]);
    rig.produce("t", &["w".repeat(30_000).as_str()]);
    assert!(rig.node.direct_bytes > 0);
    if checkpoint {
        rig.stop();
    }
    let names = rig.files.names();
    let segment = names.iter().find(|name| matches!(name, FileName::Segment(_))).expect("a segment");
    rig.files.flip(*segment, 40_000);
    let mut rig = rig.crash();
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request("t", 0, 0, 0).into()));
    let response = rig.fetched(sequence).expect("an answer");
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(rig.consume("other", 0), ["fine"]);
}

#[test]
fn where_the_system_is_trusted_the_ring_turns_too() {
    let mut rig = Rig::new();
    rig.trust_os = true;
    rig.create("t", 1);
    let value = "v".repeat(3_000);
    for round in 0..600 {
        assert_eq!(rig.produce("t", &[&value]), round);
    }
    assert!(rig.node.counters().checkpoints > 1);
    rig.stop();
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0).len(), 600);
}

#[test]
fn a_topic_made_again_under_its_name_has_none_of_the_old_data() {
    let mut rig = Rig::new();
    rig.create("t", 2);
    rig.produce("t", &["old"]);
    rig.delete("t");
    rig.create("t", 2);
    assert_eq!(rig.consume("t", 0), Vec::<String>::new());
    assert_eq!(rig.produce("t", &["new"]), 0);
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["new"]);
}

#[test]
fn a_full_disk_refuses_appends_keeps_reads_and_passes() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.files.set_full(true);
    let value = "v".repeat(3_000);
    let mut acknowledged = 0;
    let mut refused = None;
    for _ in 0..600 {
        let sequence = rig.send("t", 0, -1, records(rig.now.wall, &[&value]));
        let response = rig.produced(sequence).expect("an answer");
        if response.error_code != 0 {
            refused = Some(response.error_code);
            break;
        }
        acknowledged += 1;
    }
    assert_eq!(refused, Some(ErrorCode::KafkaStorageError.code()));
    assert_eq!(rig.consume("t", 0).len(), acknowledged, "reads go on");
    rig.files.set_full(false);
    rig.pass(2_000);
    assert_eq!(rig.produce("t", &[&value]), i64::try_from(acknowledged).expect("few"));
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0).len(), acknowledged + 1, "nothing acknowledged is lost");
    assert_eq!(rig.fatal, None);
}

#[test]
fn a_failed_commit_ends_the_node() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.hold = true;
    let sequence = rig.send("t", 0, -1, records(Timestamp(5), &["a"]));
    let commit = rig.held.pop_front().expect("a commit");
    let error = DiskError::Io(FileName::Journal(commit.slot), "Input/output error".into());
    rig.step(Input::Disk(Done::Commit(commit.number, Err(error))));
    rig.run();
    assert!(rig.fatal.as_ref().is_some_and(|why| why.contains("Input/output error")), "{:?}", rig.fatal);
    assert!(rig.produced(sequence).is_none());
}

#[test]
fn offsets_are_found_by_time_in_memory_and_in_segments() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let start = rig.now.wall.0;
    let value = "v".repeat(2_000);
    for index in 0..200 {
        let sequence = rig.send("t", 0, -1, records(Timestamp(start + index), &[&value]));
        rig.produced(sequence).expect("an acknowledgement");
    }
    assert_eq!(rig.list_offset("t", -2), (0, -1));
    assert_eq!(rig.list_offset("t", -1), (200, -1));
    for index in [0, 1, 77, 150, 199] {
        assert_eq!(rig.list_offset("t", start + index), (index, start + index));
    }
    assert_eq!(rig.list_offset("t", start + 1_000), (-1, -1));
    assert_eq!(rig.list_offset("t", -3), (199, start + 199));
}

#[test]
fn deleted_records_stay_deleted() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a", "b"]);
    rig.produce("t", &["c"]);
    rig.delete_records("t", 1);
    let mut rig = rig.crash();
    assert_eq!(rig.list_offset("t", -2), (1, -1));
    assert_eq!(rig.consume("t", 1), ["b", "c"]);
}

#[test]
fn retention_lets_go_of_old_segments_and_keeps_what_is_young() {
    let mut rig = Rig::with(&[("log.retention.ms", "60000"), ("log.retention.check.interval.ms", "1000")]);
    rig.create("t", 1);
    rig.produce("t", &["old"]);
    rig.pass(61_001);
    assert_eq!(rig.list_offset("t", -2), (1, -1), "all of it is old, the active segment too");
    rig.produce("t", &["young"]);
    rig.pass(30_000);
    assert_eq!(rig.consume("t", 1), ["young"]);
    let mut rig = rig.crash();
    assert_eq!(rig.list_offset("t", -2), (1, -1));
}

#[test]
fn asking_for_a_topic_makes_it_and_tells_of_it_when_it_is_durable() {
    let mut rig = Rig::with(&[("num.partitions", "3")]);
    rig.hold = true;
    let topic = MetadataRequestTopic { name: Some("auto".into()), ..MetadataRequestTopic::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..MetadataRequest::default() };
    let sequence = rig.ask(9, Request::Other(request.into()));
    assert!(rig.reply(sequence).is_none());
    rig.release();
    let Some(Some(Response::Metadata(response))) = rig.reply(sequence) else { panic!("no answer") };
    assert_eq!(response.topics[0].error_code, 0);
    assert_eq!(response.topics[0].partitions.len(), 3);
    assert_eq!(rig.produce("auto", &["a"]), 0);
}

#[test]
fn a_session_is_told_only_what_is_new() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let mut request = Rig::fetch_request("t", 0, 0, 0);
    request.session_epoch = 0;
    let sequence = rig.ask(12, Request::Other(request.clone().into()));
    let first = rig.fetched(sequence).expect("an answer");
    assert_ne!(first.session_id, 0);
    assert_eq!(first.responses.len(), 1, "a full answer names every partition");
    request.session_id = first.session_id;
    request.session_epoch = 1;
    request.topics.clear();
    let sequence = rig.ask(12, Request::Other(request.clone().into()));
    assert_eq!(rig.fetched(sequence).expect("an answer").responses.len(), 0, "nothing is new");
    rig.produce("t", &["a"]);
    request.session_epoch = 2;
    let sequence = rig.ask(12, Request::Other(request.clone().into()));
    assert_eq!(rig.fetched(sequence).expect("an answer").responses.len(), 1);
    request.session_epoch = 2;
    let sequence = rig.ask(12, Request::Other(request.into()));
    let wrong = rig.fetched(sequence).expect("an answer");
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}

#[test]
fn a_session_of_before_a_restart_is_nobodys() {
    let mut rig = Rig::new();
    rig.create("mine", 1);
    rig.create("yours", 1);
    let begin = |rig: &mut Rig, topic| {
        let request = FetchRequest { session_epoch: 0, ..Rig::fetch_request(topic, 0, 0, 0) };
        let sequence = rig.ask(12, Request::Other(request.into()));
        rig.fetched(sequence).expect("an answer").session_id
    };
    let mine = begin(&mut rig, "mine");
    let mut rig = rig.crash();
    begin(&mut rig, "yours");
    let request = FetchRequest { session_id: mine, session_epoch: 1, ..FetchRequest::default() };
    let sequence = rig.ask(12, Request::Other(request.into()));
    let answer = rig.fetched(sequence).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[test]
fn names_and_ids_do_not_mix_in_one_session() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let request = FetchRequest { session_epoch: 0, ..Rig::fetch_request("t", 0, 0, 0) };
    let sequence = rig.ask(12, Request::Other(request.into()));
    let session_id = rig.fetched(sequence).expect("an answer").session_id;
    let request = FetchRequest { session_id, session_epoch: 1, ..FetchRequest::default() };
    let sequence = rig.ask(13, Request::Other(request.into()));
    let answer = rig.fetched(sequence).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::FetchSessionTopicIdError.code());
}

#[test]
fn a_quiet_journal_is_sealed_once_and_then_rests() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    let before = rig.node.counters().commits;
    rig.pass(150);
    assert_eq!(rig.node.counters().commits, before + 1, "one empty commit proves the last one durable");
    rig.pass(10_000);
    assert_eq!(rig.node.counters().commits, before + 1);
}

#[test]
fn damage_in_a_segment_stops_its_partition_alone() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.create("other", 1);
    rig.produce("other", &["fine"]);
    let value = "v".repeat(3_000);
    for _ in 0..100 {
        rig.produce("t", &[&value]);
    }
    let names = rig.files.names();
    let segment = names.iter().find(|name| matches!(name, FileName::Segment(_))).expect("a segment");
    rig.files.flip(*segment, 200);
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request("t", 0, 0, 0).into()));
    let response = rig.fetched(sequence).expect("an answer");
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::KafkaStorageError.code());
    let sequence = rig.send("t", 0, -1, records(Timestamp(5), &["x"]));
    assert_eq!(rig.produced(sequence).expect("an answer").error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(rig.consume("other", 0), ["fine"]);
}

#[test]
fn requests_larger_than_a_file_of_the_journal_pass_or_are_refused_and_hold_up_nobody() {
    let mut rig = Rig::new();
    rig.create("t", 8);
    let large = "v".repeat(100 << 10);
    let sequence = rig.send_to_all("t", &(0..4).map(|index| (index, large.as_str())).collect::<Vec<_>>());
    rig.pass(1_000);
    let response = rig.produced(sequence).expect("four batches of 100 KiB where a file holds 256");
    assert_eq!(response.error_code, 0);
    let larger = "v".repeat(300 << 10);
    let sequence = rig.send_to_all("t", &[(0, larger.as_str())]);
    rig.pass(1_000);
    let response = rig.produced(sequence).expect("one batch of 300 KiB");
    assert_eq!(response.error_code, ErrorCode::MessageTooLarge.code());
    let all: Vec<_> = (0..8).map(|index| (index, large.as_str())).collect();
    let sequence = rig.send_to_all("t", &all);
    rig.pass(1_000);
    assert_eq!(rig.produced(sequence).expect("an answer").error_code, ErrorCode::MessageTooLarge.code());
    assert_eq!(rig.produce("t", &["small"]), 1, "nobody waits behind those");
}

#[test]
fn a_partition_may_remember_more_than_one_entry_of_a_checkpoint_holds() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    // 18 MiB of producers: each remembers five batches.
    let producers = 100_000;
    let slot = *rig.node.by_id.values().next().expect("a partition");
    let log = rig.node.host(slot).partition.log_mut();
    log.remember_producers(producers);
    rig.produce("t", &["a"]);
    rig.stop();
    let mut rig = rig.crash();
    let slot = *rig.node.by_id.values().next().expect("a partition");
    assert_eq!(rig.node.host(slot).partition.log().producers().count(), producers);
    assert_eq!(rig.consume("t", 0), ["a"]);
}

#[test]
fn a_fetch_that_names_a_partition_twice_is_answered_once() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let mut request = Rig::fetch_request("t", 0, 1, 500);
    let twice = request.topics[0].partitions[0].clone();
    request.topics[0].partitions.push(twice);
    let sequence = rig.ask(12, Request::Other(request.into()));
    rig.produce("t", &["a"]);
    assert_eq!(rig.fetched(sequence).expect("an answer").responses[0].partitions.len(), 2);
}

#[test]
fn a_node_stops_though_the_disk_is_full() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    rig.files.set_full(true);
    rig.stop();
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a"]);
}

#[test]
fn a_start_with_other_measures_removes_nothing_that_was_written() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    let mut larger = options(&[]);
    larger.journal.file_bytes *= 2;
    let now = rig.now;
    let (node, _) = Node::recover(larger, &rig.files, [9; 32], now).expect("sound files");
    rig.node = node;
    assert_eq!(rig.consume("t", 0), ["a"]);
}

#[test]
fn a_topic_deleted_on_a_full_disk_gives_its_space_back() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    for _ in 0..200 {
        rig.produce("t", &["v".repeat(3_000).as_str()]);
    }
    let value = "v".repeat(3_000);
    rig.create("other", 1);
    rig.files.set_full(true);
    while rig.node.no_space.is_none() {
        rig.send("other", 0, -1, records(Timestamp(5), &[&value]));
    }
    rig.delete("t");
    rig.pass(70_000);
    assert!(!rig.files.names().iter().any(|name| matches!(name, FileName::Segment(_))));
    let mut rig = rig.crash();
    assert_eq!(rig.node.by_id.len(), 1);
    rig.produce("other", &["a"]);
}

#[test]
fn what_retention_lets_go_of_on_a_full_disk_is_removed() {
    let mut rig = Rig::with(&[
        ("log.retention.ms", "60000"),
        ("log.retention.check.interval.ms", "1000"),
        ("log.segment.delete.delay.ms", "0"),
    ]);
    rig.create("t", 1);
    let value = "v".repeat(3_000);
    for _ in 0..200 {
        rig.produce("t", &[&value]);
    }
    rig.files.set_full(true);
    for _ in 0..600 {
        rig.send("t", 0, -1, records(rig.now.wall, &[&value]));
    }
    assert!(rig.node.no_space.is_some());
    let segments = |rig: &Rig| rig.files.names().iter().filter(|name| matches!(name, FileName::Segment(_))).count();
    assert_eq!(segments(&rig), 1);
    rig.pass(70_000);
    assert_eq!(segments(&rig), 0);
    let end = rig.list_offset("t", -1);
    let mut rig = rig.crash();
    assert_eq!(rig.list_offset("t", -2), end, "a start does without the files that are gone");
    assert_eq!(rig.produce("t", &["a"]), end.0);
}
