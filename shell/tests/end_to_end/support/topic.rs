//! A topic that a test made for itself, and the short way to write to it and read from it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::batch::{Batch, records, values};
use super::client::Client;
use super::code;

/// From here on produce and fetch name a topic by its id.
pub(crate) const PRODUCE_BY_ID: i16 = 13;
pub(crate) const FETCH_BY_ID: i16 = 13;

/// A topic of one test.
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    /// What the broker answered when it was created; its id among it.
    pub(crate) created: CreatableTopicResult,
}

/// A name that no other test, and no earlier run against the same broker, uses.
pub(crate) fn fresh_name(purpose: &str) -> TopicName {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970").as_millis();
    TopicName(StrBytes::from_string(format!("{purpose}-{}-{number}-{now}", std::process::id())))
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Topic {
    /// A new topic, ready to be written to.
    pub(crate) fn create(client: &mut Client, purpose: &str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        Self::create_named(client, fresh_name(purpose), partitions, configs)
    }

    /// A new topic of this very name.
    pub(crate) fn create_named(
        client: &mut Client,
        name: TopicName,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Self {
        let configs = configs
            .iter()
            .map(|&(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(name.clone())
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let created = client.call(7, &request).topics.remove(0);
        assert_eq!(created.error_code, code::NONE, "{:?}", created.error_message);
        let topic = Self { name, created };
        // Apache Kafka answers before its own brokers have heard of the topic and lead its partitions.
        eventually("the topic has leaders", || {
            let described = topic.describe(client);
            described.partitions.len() == partitions as usize
                && (0..partitions).all(|partition| topic.end_of(client, partition).error_code == code::NONE)
        });
        topic
    }

    pub(crate) fn describe(&self, client: &mut Client) -> MetadataResponseTopic {
        let topic = MetadataRequestTopic::default().with_name(Some(self.name.clone()));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        client.call(12, &request).topics.remove(0)
    }

    /// A produce request of one batch to one partition.
    pub(crate) fn produce_request(&self, version: i16, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_partition_data(vec![data]);
        let topic = if version < PRODUCE_BY_ID {
            topic.with_name(self.name.clone())
        } else {
            topic.with_topic_id(self.created.topic_id)
        };
        ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
    }

    /// The answer to one batch, asked for in `version` with acks=all.
    pub(crate) fn produce_in(&self, client: &mut Client, version: i16, records: Bytes) -> PartitionProduceResponse {
        let mut response = client.call(version, &self.produce_request(version, 0, -1, records));
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Writes `batch` to `partition` and returns the offset of its first record.
    pub(crate) fn produce(&self, client: &mut Client, partition: i32, batch: &Batch) -> i64 {
        let mut response = client.call(9, &self.produce_request(9, partition, -1, batch.encode()));
        let answer = response.responses.remove(0).partition_responses.remove(0);
        assert_eq!(answer.error_code, code::NONE, "{:?}", answer.error_message);
        answer.base_offset
    }

    /// The error code with which `batch` is answered.
    pub(crate) fn refusal(&self, client: &mut Client, batch: Bytes) -> i16 {
        self.produce_in(client, 9, batch).error_code
    }

    /// A fetch of these partitions and offsets outside of any session: 1 MiB each, waiting up to 500 ms for a byte.
    pub(crate) fn fetch_request(&self, version: i16, positions: &[(i32, i64)]) -> FetchRequest {
        let partitions = positions.iter().map(|&(partition, offset)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset)
                .with_partition_max_bytes(1 << 20)
                .with_current_leader_epoch(-1)
        });
        let topic = FetchTopic::default().with_partitions(partitions.collect());
        let topic = if version < FETCH_BY_ID {
            topic.with_topic(self.name.clone())
        } else {
            topic.with_topic_id(self.created.topic_id)
        };
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_topics(vec![topic]);
        if version < 7 { request } else { request.with_session_id(0).with_session_epoch(-1) }
    }

    /// One partition fetched once from `offset`.
    pub(crate) fn fetch_in(&self, client: &mut Client, version: i16, partition: i32, offset: i64) -> PartitionData {
        let mut response = client.call(version, &self.fetch_request(version, &[(partition, offset)]));
        assert_eq!(response.error_code, code::NONE, "of the whole fetch");
        response.responses.remove(0).partitions.remove(0)
    }

    /// The values of all records from `offset` to the end of the partition.
    pub(crate) fn read(&self, client: &mut Client, partition: i32, offset: i64) -> Vec<String> {
        let mut found = Vec::new();
        let mut next = offset;
        loop {
            let data = self.fetch_in(client, 11, partition, next);
            assert_eq!(data.error_code, code::NONE, "at offset {next}");
            let mut fetched = records(data.records.unwrap_or_default());
            fetched.retain(|record| record.offset >= next);
            for record in &fetched {
                assert_eq!(record.offset, next, "offsets have no gaps");
                next += 1;
            }
            found.extend(values(&fetched));
            if next >= data.high_watermark {
                return found;
            }
            assert!(!fetched.is_empty(), "offset {next} is below the high watermark {}", data.high_watermark);
        }
    }

    /// The answer to a ListOffsets of partition 0.
    pub(crate) fn list_offset(
        &self,
        client: &mut Client,
        version: i16,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        self.offset_at(client, version, 0, timestamp)
    }

    /// Where `partition` ends.
    pub(crate) fn end_of(&self, client: &mut Client, partition: i32) -> ListOffsetsPartitionResponse {
        self.offset_at(client, 5, partition, -1)
    }

    /// The first offset that `partition` still keeps.
    pub(crate) fn start_of(&self, client: &mut Client, partition: i32) -> i64 {
        let start = self.offset_at(client, 5, partition, -2);
        assert_eq!(start.error_code, code::NONE);
        start.offset
    }

    /// The answer to a ListOffsets of one partition: -1 asks for its end, -2 for its start.
    pub(crate) fn offset_at(
        &self,
        client: &mut Client,
        version: i16,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp)
            .with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default().with_name(self.name.clone()).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        client.call(version, &request).topics.remove(0).partitions.remove(0)
    }
}

/// Asks until `holds` says yes; the broker may need a moment for what it has answered already.
pub(crate) fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 60 s: {claim}");
        thread::sleep(Duration::from_millis(10));
    }
}
