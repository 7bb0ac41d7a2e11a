//! The rig: a node on files in memory, whose effects are carried out at once or held back, and what a client asks of it.

use super::*;
use crate::ids::NodeId;
use crate::peer;

/// Small files, so that rings turn and checkpoints happen in a few batches.
pub(super) const GEOMETRY: Geometry = Geometry { file_bytes: 256 << 10, max_files: 6, reserve_bytes: 64 << 10 };

pub(super) struct Rig {
    pub(super) node: Node,
    pub(super) files: MemoryFiles,
    pub(super) now: Now,
    pub(super) out: Outbox,
    /// Commits that the disk has been given and has not done, while `hold` is set.
    pub(super) held: VecDeque<journal::Commit>,
    pub(super) hold: bool,
    /// What was read, and the node is not told of, while `hold_reads` is set.
    pub(super) held_reads: VecDeque<Done>,
    pub(super) hold_reads: bool,
    /// As with reads: background work that is done, and that the node is not told of.
    pub(super) held_tasks: VecDeque<Done>,
    pub(super) hold_tasks: bool,
    /// Acknowledge by the operating system's word, as `--durability os` does.
    pub(super) trust_os: bool,
    pub(super) replies: BTreeMap<u64, Option<Response>>,
    pub(super) asked: u64,
    pub(super) stopped: bool,
    pub(super) fatal: Option<String>,
    pub(super) codecs: Arc<TopicCodecs>,
    pub(super) settings: Vec<(&'static str, &'static str)>,
    pub(super) starts: u8,
    /// What it said to others of its cluster, if it is in one.
    pub(super) said: Option<VecDeque<(NodeId, peer::Message)>>,
    /// What went in and out, for transcripts.
    pub(super) lines: Vec<String>,
}

pub(super) fn options(settings: &[(&'static str, &'static str)]) -> NodeOptions {
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
        cluster: None,
    }
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with(&[])
    }

    pub(super) fn with(settings: &[(&'static str, &'static str)]) -> Rig {
        Rig::on(MemoryFiles::default(), settings, 1)
    }

    pub(super) fn on(files: MemoryFiles, settings: &[(&'static str, &'static str)], starts: u8) -> Rig {
        Rig::numbered(1, files, settings, starts)
    }

    /// The node of this number.
    pub(super) fn numbered(
        number: i32,
        files: MemoryFiles,
        settings: &[(&'static str, &'static str)],
        starts: u8,
    ) -> Rig {
        let now = Now { instant: Instant(0), wall: Timestamp(1_700_000_000_000) };
        let options = NodeOptions { node_id: NodeId(number), ..options(settings) };
        let (node, _) = Node::recover(options, &files, [starts; 32], now).expect("sound files");
        Rig {
            codecs: Arc::new(node.topic_codecs().clone()),
            node,
            files,
            now,
            out: Outbox::default(),
            held: VecDeque::new(),
            hold: false,
            held_reads: VecDeque::new(),
            hold_reads: false,
            held_tasks: VecDeque::new(),
            hold_tasks: false,
            trust_os: false,
            replies: BTreeMap::new(),
            asked: 0,
            stopped: false,
            fatal: None,
            settings: settings.to_vec(),
            starts,
            said: None,
            lines: Vec::new(),
        }
    }

    /// The process dies here and starts again on what the disk has.
    pub(super) fn crash(self) -> Rig {
        Rig::on(self.files, &self.settings.clone(), self.starts + 1)
    }

    pub(super) fn ask(&mut self, version: i16, request: Request) -> u64 {
        let sequence = self.asked;
        self.asked += 1;
        let to = ReplyTo { conn: ConnId(1), sequence, version, listener: ListenerId(0) };
        self.step(Input::Request { to, request });
        self.run();
        sequence
    }

    /// Asks, and gives the answer that must have come.
    pub(super) fn answer(&mut self, version: i16, request: wire::Request) -> Response {
        let sequence = self.ask(version, Request::Other(request.into()));
        let has_more = |rig: &Rig| rig.node.deadline().is_some_and(|(at, _)| at <= rig.now.instant);
        while !self.replies.contains_key(&sequence) && has_more(self) {
            self.step(Input::Deadline);
            self.run();
        }
        self.reply(sequence).expect("an answer").expect("not an empty one")
    }

    pub(super) fn reply(&mut self, sequence: u64) -> Option<Option<Response>> {
        self.replies.remove(&sequence)
    }

    pub(super) fn step(&mut self, input: Input) {
        self.lines.push(transcripts::input(&input));
        self.node.step(self.now, input, &mut self.out);
        self.node.invariants();
    }

    /// Carries effects out until nothing is left to do, commits excepted while they are held.
    pub(super) fn run(&mut self) {
        loop {
            self.node.turn(self.now, &mut self.out);
            if self.out.0.is_empty() {
                if self.node.deadline() != Some((self.now.instant, Reason::Continue)) {
                    return;
                }
                self.step(Input::Deadline);
            }
            for effect in std::mem::take(&mut self.out.0) {
                self.carry_out(effect);
            }
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        self.lines.push(transcripts::effect(&effect));
        match effect {
            Effect::Reply { to, response } => {
                let is_told = response.as_ref().is_some_and(is_told_when_sent);
                assert!(self.replies.insert(to.sequence, response).is_none(), "one answer for each request");
                if is_told {
                    self.step(Input::Sent { conn: to.conn, sequence: to.sequence });
                }
            }
            Effect::Disk(DiskOp::Commit(commit, direct)) => {
                crate::boundary::write_direct(&self.files, &direct).expect("memory has room");
                if self.hold { self.held.push_back(commit) } else { self.commit(commit) }
            }
            Effect::Disk(DiskOp::Read(id, plan)) => {
                let read = Done::Read(id, plan.run(&self.files));
                if self.hold_reads { self.held_reads.push_back(read) } else { self.step(Input::Disk(read)) }
            }
            Effect::Disk(DiskOp::Task(id, task)) => {
                let done = Done::Task(id, task.run(&self.files));
                if self.hold_tasks { self.held_tasks.push_back(done) } else { self.step(Input::Disk(done)) }
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
            Effect::Neighbours(_) => panic!("a standalone broker has no peers"),
            Effect::Say { to, message } => {
                self.said.as_mut().expect("a standalone broker has no peers").push_back((to, *message));
            }
            Effect::Log(_) | Effect::Close { .. } | Effect::Cut { .. } | Effect::AllowConnections { .. } => {}
        }
    }

    pub(super) fn commit(&mut self, commit: journal::Commit) {
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

    pub(super) fn release(&mut self) {
        self.hold = false;
        while let Some(commit) = self.held.pop_front() {
            self.commit(commit);
        }
        self.run();
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = Instant(self.now.instant.0 + ms * 1_000_000);
        while let Some((at, _)) = self.node.deadline().filter(|&(at, _)| at <= until) {
            self.advance_to(at.max(self.now.instant));
            self.step(Input::Deadline);
            self.run();
        }
        self.advance_to(until);
    }

    pub(super) fn advance_to(&mut self, at: Instant) {
        let ms = (at - self.now.instant).as_millis();
        self.now = Now { instant: at, wall: Timestamp(self.now.wall.0 + i64::try_from(ms).expect("short")) };
    }

    pub(super) fn create(&mut self, name: &'static str, partitions: i32) {
        self.create_with(name, partitions, &[]);
    }

    pub(super) fn create_with(
        &mut self,
        name: &'static str,
        partitions: i32,
        settings: &[(&'static str, &'static str)],
    ) {
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
    pub(super) fn alter(&mut self, resource: (i8, &'static str), name: &'static str, value: &'static str) -> i16 {
        let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
        let (resource_type, resource_name) = (resource.0, resource.1.into());
        let resources = vec![AlterConfigsResource { resource_type, resource_name, configs: vec![config] }];
        let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
        let Response::IncrementalAlterConfigs(response) = self.answer(1, request.into()) else {
            panic!("another answer")
        };
        response.responses[0].error_code
    }

    pub(super) fn delete(&mut self, name: &'static str) {
        let topic = DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
        let Response::DeleteTopics(response) = self.answer(6, request.into()) else { panic!("another answer") };
        assert_eq!(response.responses[0].error_code, 0);
    }

    /// Deletes the records below an offset.
    pub(super) fn delete_records(&mut self, topic: &'static str, offset: i64) {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
        let Response::DeleteRecords(response) = self.answer(2, request.into()) else { panic!("another answer") };
        assert_eq!(response.topics[0].partitions[0].low_watermark, offset);
    }

    pub(super) fn send(&mut self, topic: &'static str, partition: i32, acks: i16, batch: BatchBuilder) -> u64 {
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
    pub(super) fn send_to_all(&mut self, topic: &'static str, values: &[(i32, &str)]) -> u64 {
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

    pub(super) fn produced(&mut self, sequence: u64) -> Option<PartitionProduceResponse> {
        match self.reply(sequence)? {
            Some(Response::Produce(mut response)) => Some(response.responses.remove(0).partition_responses.remove(0)),
            other => panic!("another answer: {other:?}"),
        }
    }

    /// Sends one batch and expects its base offset.
    pub(super) fn produce(&mut self, topic: &'static str, values: &[&str]) -> i64 {
        let batch = records(self.now.wall, values);
        let sequence = self.send(topic, 0, -1, batch);
        let response = self.produced(sequence).expect("an acknowledgement");
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        response.base_offset
    }

    pub(super) fn fetch_request(topic: &'static str, offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
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

    pub(super) fn fetched(&mut self, sequence: u64) -> Option<FetchResponse> {
        match self.reply(sequence)? {
            Some(Response::Fetch(response)) => Some(response),
            other => panic!("another answer: {other:?}"),
        }
    }

    /// All values from an offset on, by as many fetches as it takes.
    pub(super) fn consume(&mut self, topic: &'static str, mut offset: i64) -> Vec<String> {
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

    pub(super) fn list_offset(&mut self, topic: &'static str, timestamp: i64) -> (i64, i64) {
        let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let Response::ListOffsets(response) = self.answer(7, request.into()) else { panic!("another answer") };
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.error_code, 0);
        (found.offset, found.timestamp)
    }

    pub(super) fn stop(&mut self) {
        self.step(Input::Stop);
        self.run();
        self.pass(1);
        assert!(self.stopped, "a node without open work stops at once");
    }
}

pub(super) fn records(time: Timestamp, values: &[&str]) -> BatchBuilder {
    values.iter().fold(BatchBuilder::new(), |batch, value| batch.record(time, None, Some(value.as_bytes())))
}
