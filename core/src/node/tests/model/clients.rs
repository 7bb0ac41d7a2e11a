//! What clients do: they make topics and delete them, send, read, and lose their connections.

use super::*;

impl World {
    pub(super) fn act(&mut self) {
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

    pub(super) fn is_settling(&self, name: &str) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::Create(of) | Asked::Delete(of, _) if *of == name))
    }

    pub(super) fn create(&mut self) {
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

    pub(super) fn delete(&mut self) {
        let name = NAMES[self.below(NAMES.len())];
        let Some(&id) = self.topics.get(name).filter(|_| !self.is_settling(name)) else { return };
        let topic = DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() };
        self.ask(6, Request::Other(request.into()), Asked::Delete(name, id));
    }

    pub(super) fn partition(&mut self) -> Option<TopicPartition> {
        let ids: Vec<TopicId> = self.topics.values().copied().collect();
        let partition = i32::try_from(self.below(PARTITIONS as usize)).expect("few");
        (!ids.is_empty()).then(|| TopicPartition { topic: ids[self.below(ids.len())], partition })
    }

    pub(super) fn name_of(&self, id: TopicId) -> Option<&'static str> {
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
    pub(super) fn values(&mut self, id: TopicPartition, sender: &str, first: u64) -> Vec<String> {
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

    pub(super) fn batch(&self, values: &[String]) -> BatchBuilder {
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
}
