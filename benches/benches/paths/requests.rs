//! What clients ask on the paths that are measured, and what they are told.

use std::time::Duration;

use chronik_core::batch::BatchBuilder;
use chronik_core::time::Timestamp;
use chronik_core::wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use chronik_core::wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use chronik_core::wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use chronik_core::wire::find_coordinator::FindCoordinatorRequest;
use chronik_core::wire::heartbeat::HeartbeatRequest;
use chronik_core::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use chronik_core::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use chronik_core::wire::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use chronik_core::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use chronik_core::wire::{self, Records, RequestHeader, Response, Str, Writer};

use super::broker::Broker;

/// What librdkafka asks in.
pub(crate) const PRODUCE_VERSION: i16 = 9;
pub(crate) const FETCH_VERSION: i16 = 12;

/// So little that a few large batches leave memory.
pub(crate) const TAIL_CACHE_BYTES: usize = 1 << 20;

const TOPIC: &str = "measured";
const GROUP: &str = "readers";
const MEMBER: &str = "reader";

fn framed(api_version: i16, request: impl Into<wire::Request>) -> Vec<u8> {
    let request = request.into();
    let mut writer = Writer::new();
    let client_id = Some("bench".into());
    let header = RequestHeader { api_key: request.api_key().code(), api_version, correlation_id: 7, client_id };
    wire::encode_request(&header, &request, &mut writer);
    writer.finish().to_bytes().to_vec()
}

/// The topic of all others.
pub(crate) fn create() -> Vec<u8> {
    let topics = vec![CreatableTopic {
        name: TOPIC.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    }];
    framed(5, CreateTopicsRequest { topics, timeout_ms: 1000, ..CreateTopicsRequest::default() })
}

/// One batch of `records`, each with a value of so many bytes.
pub(crate) fn produce(records: usize, bytes: usize) -> Vec<u8> {
    let value = vec![b'v'; bytes];
    let batch = (0..records)
        .fold(BatchBuilder::new(), |batch, _| batch.record(Timestamp(1_700_000_000_000), None, Some(&value)));
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(batch.build()) }];
    let topic = TopicProduceData { name: TOPIC.into(), partition_data, ..TopicProduceData::default() };
    let topic_data = vec![topic];
    framed(PRODUCE_VERSION, ProduceRequest { acks: 1, timeout_ms: 1000, topic_data, ..ProduceRequest::default() })
}

/// What a produce request is told.
pub(crate) fn produced() -> Response {
    let partition_responses = vec![PartitionProduceResponse { base_offset: 7, ..PartitionProduceResponse::default() }];
    let topic = TopicProduceResponse { name: TOPIC.into(), partition_responses, ..TopicProduceResponse::default() };
    ProduceResponse { responses: vec![topic], ..ProduceResponse::default() }.into()
}

/// A mebibyte from an offset on, without a session.
pub(crate) fn fetch(fetch_offset: i64) -> Vec<u8> {
    let partition = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topics = vec![FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..FetchTopic::default() }];
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics,
        ..FetchRequest::default()
    };
    framed(FETCH_VERSION, request)
}

/// What a fetch is told.
pub(crate) fn fetched() -> Response {
    let batch = BatchBuilder::new().record(Timestamp(1_700_000_000_000), None, Some(&[b'v'; 256])).build();
    let records = Some(Records([batch].into_iter().collect()));
    let partitions = vec![PartitionData { high_watermark: 8, records, ..PartitionData::default() }];
    let topic = FetchableTopicResponse { topic: TOPIC.into(), partitions, ..FetchableTopicResponse::default() };
    FetchResponse { responses: vec![topic], ..FetchResponse::default() }.into()
}

/// A fetch of the newest records, which memory has.
pub(crate) fn fetch_from_the_tail(broker: &mut Broker) -> Vec<u8> {
    broker.ask(&produce(64, 256));
    let fetch = fetch(0);
    broker.ask(&fetch);
    assert_eq!(broker.reads, 0, "memory has the newest records");
    fetch
}

/// A fetch of a mebibyte that left memory long ago.
pub(crate) fn fetch_from_a_segment(broker: &mut Broker) -> Vec<u8> {
    let large = produce(1_000, 1_024);
    for _ in 0..8 {
        broker.ask(&large);
        broker.pass(Duration::from_secs(1));
    }
    let fetch = fetch(0);
    broker.ask(&fetch);
    assert!(broker.reads > 0, "the oldest records have left memory");
    fetch
}

/// A heartbeat of the one member of a classic group.
pub(crate) fn heartbeat(broker: &mut Broker) -> Vec<u8> {
    find_coordinator(broker);
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0; 64].into() };
    let join = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    let Response::JoinGroup(joined) = broker.ask(&framed(3, join)) else { panic!("another answer") };
    let generation_id = joined.generation_id;
    let member_id: Str = joined.member_id;
    let assignment = SyncGroupRequestAssignment { member_id: member_id.clone(), assignment: vec![0; 64].into() };
    let sync = SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id,
        member_id: member_id.clone(),
        assignments: vec![assignment],
        ..SyncGroupRequest::default()
    };
    broker.ask(&framed(2, sync));
    let request = HeartbeatRequest { group_id: GROUP.into(), generation_id, member_id, ..HeartbeatRequest::default() };
    framed(2, request)
}

/// A heartbeat of the one member of a group of the next protocol (KIP-848), to whom nothing has happened.
pub(crate) fn consumer_group_heartbeat(broker: &mut Broker) -> Vec<u8> {
    find_coordinator(broker);
    let join = ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: MEMBER.into(),
        member_epoch: 0,
        rebalance_timeout_ms: 300_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let told = |response| match response {
        Response::ConsumerGroupHeartbeat(told) => told,
        other => panic!("another answer: {other:?}"),
    };
    let joined = told(broker.ask(&framed(1, join)));
    let assigned = joined.assignment.map(|assignment| assignment.topic_partitions).unwrap_or_default();
    let has =
        assigned.into_iter().map(|topic| TopicPartitions { topic_id: topic.topic_id, partitions: topic.partitions });
    let request = |topic_partitions| ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: MEMBER.into(),
        member_epoch: joined.member_epoch,
        rebalance_timeout_ms: -1,
        topic_partitions,
        ..ConsumerGroupHeartbeatRequest::default()
    };
    broker.ask(&framed(1, request(Some(has.collect()))));
    framed(1, request(None))
}

/// One offset of a group without members.
pub(crate) fn offset_commit(broker: &mut Broker) -> Vec<u8> {
    find_coordinator(broker);
    commit()
}

/// The same, without a broker.
pub(crate) fn commit() -> Vec<u8> {
    let partition = OffsetCommitRequestPartition { committed_offset: 7, ..OffsetCommitRequestPartition::default() };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    framed(8, OffsetCommitRequest { group_id: GROUP.into(), topics: vec![topic], ..OffsetCommitRequest::default() })
}

/// Asking for the coordinator makes the topic of offsets.
fn find_coordinator(broker: &mut Broker) {
    let coordinator_keys = vec![GROUP.into()];
    broker.ask(&framed(4, FindCoordinatorRequest { coordinator_keys, ..FindCoordinatorRequest::default() }));
    broker.pass(Duration::from_secs(1));
}
