//! The requests around a load: what the broker speaks, where the partitions are, how far they reach, and a new topic.
//! They are made a handful of times per run, so they are written for shortness.

use super::{Api, ErrorCode, Malformed, Reader, Writer};
use std::collections::BTreeMap;

/// The timestamp that asks ListOffsets for the log start offset.
pub(crate) const EARLIEST: i64 = -2;
/// The timestamp that asks ListOffsets for the high watermark.
pub(crate) const LATEST: i64 = -1;

/// The version ranges that a broker advertises.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(BTreeMap<i16, (i16, i16)>);

impl Versions {
    /// The range served of `api`, if any.
    pub(crate) fn served(&self, api: Api) -> Option<(i16, i16)> {
        self.0.get(&(api as i16)).copied()
    }

    /// The highest version that both sides speak.
    pub(crate) fn common(&self, api: Api) -> Option<i16> {
        let (low, high) = self.served(api)?;
        let version = high.min(*api.spoken().end());
        (version >= low && version >= *api.spoken().start()).then_some(version)
    }
}

/// ApiVersions 0: it is answered by every broker, and its answer holds all ranges.
pub(crate) fn api_versions(correlation: i32) -> Vec<u8> {
    Writer::request(Api::ApiVersions, 0, correlation).finish(0)
}

pub(crate) fn read_api_versions(mut body: Reader<'_>) -> Result<(ErrorCode, Versions), Malformed> {
    let code = ErrorCode(body.i16()?);
    let mut versions = Versions::default();
    for _ in 0..body.elements()? {
        versions.0.insert(body.i16()?, (body.i16()?, body.i16()?));
    }
    Ok((code, versions))
}

/// Where the partitions of one topic are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Each broker's advertised `host:port`, by its node id.
    pub(crate) brokers: BTreeMap<i32, String>,
    pub(crate) code: ErrorCode,
    /// The leader of each partition, by the partition's index; -1 while there is none.
    pub(crate) leaders: BTreeMap<i32, i32>,
}

/// Metadata 1-4 of one topic. From version 4 on it asks that the topic not be created by the mere question.
pub(crate) fn metadata(version: i16, correlation: i32, topic: &str) -> Vec<u8> {
    let mut out = Writer::request(Api::Metadata, version, correlation);
    out.length(1);
    out.string(topic);
    if version >= 4 {
        out.i8(0);
    }
    out.finish(0)
}

pub(crate) fn read_metadata(version: i16, mut body: Reader<'_>) -> Result<Metadata, Malformed> {
    if version >= 3 {
        body.i32()?; // throttle time
    }
    let mut brokers = BTreeMap::new();
    for _ in 0..body.elements()? {
        let node = body.i32()?;
        let host = body.string()?.unwrap_or_default();
        let port = body.i32()?;
        body.string()?; // rack
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        brokers.insert(node, address);
    }
    if version >= 2 {
        body.string()?; // cluster id
    }
    body.i32()?; // controller
    let mut answer = Metadata { brokers, code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, leaders: BTreeMap::new() };
    for _ in 0..body.elements()? {
        answer.code = ErrorCode(body.i16()?);
        body.string()?; // the name that was asked for
        body.u8()?; // internal
        for _ in 0..body.elements()? {
            // A partition's own error shows in its leader, which is then -1; replicas may be down for all we care.
            body.i16()?;
            let partition = body.i32()?;
            answer.leaders.insert(partition, body.i32()?);
            for _ in 0..2 {
                let nodes = body.elements()?;
                body.take(nodes.saturating_mul(4))?; // replicas, then in-sync replicas
            }
        }
    }
    Ok(answer)
}

/// A topic to create.
pub(crate) struct CreateTopic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i16,
    pub(crate) configs: &'a [(String, String)],
    pub(crate) timeout_ms: i32,
}

/// CreateTopics 2-4, which differ in nothing that is sent here.
pub(crate) fn create_topic(version: i16, correlation: i32, topic: &CreateTopic<'_>) -> Vec<u8> {
    let mut out = Writer::request(Api::CreateTopics, version, correlation);
    out.length(1);
    out.string(topic.name);
    out.i32(topic.partitions);
    out.i16(topic.replication_factor);
    out.length(0); // assignments
    out.length(topic.configs.len());
    for (key, value) in topic.configs {
        out.string(key);
        out.string(value);
    }
    out.i32(topic.timeout_ms);
    out.i8(0); // not only validated
    out.finish(0)
}

pub(crate) fn read_create_topic(mut body: Reader<'_>) -> Result<(ErrorCode, Option<String>), Malformed> {
    body.i32()?; // throttle time
    let mut answer = (ErrorCode::NONE, None);
    for _ in 0..body.elements()? {
        body.string()?;
        answer = (ErrorCode(body.i16()?), body.string()?.map(str::to_owned));
    }
    Ok(answer)
}

/// ListOffsets 1 of `partitions` at `timestamp`, which is `EARLIEST` or `LATEST`.
pub(crate) fn list_offsets(correlation: i32, topic: &str, partitions: &[i32], timestamp: i64) -> Vec<u8> {
    let mut out = Writer::request(Api::ListOffsets, 1, correlation);
    out.i32(-1); // asked by a consumer, not a replica
    out.length(1);
    out.string(topic);
    out.length(partitions.len());
    for partition in partitions {
        out.i32(*partition);
        out.i64(timestamp);
    }
    out.finish(0)
}

/// A partition's offset, or the error that stands in its place.
pub(crate) type PartitionOffset = (i32, Result<i64, ErrorCode>);

pub(crate) fn read_list_offsets(mut body: Reader<'_>) -> Result<Vec<PartitionOffset>, Malformed> {
    let mut offsets = Vec::new();
    for _ in 0..body.elements()? {
        body.string()?;
        for _ in 0..body.elements()? {
            let partition = body.i32()?;
            let code = ErrorCode(body.i16()?);
            body.i64()?; // timestamp
            let offset = body.i64()?;
            offsets.push((partition, if code.is_error() { Err(code) } else { Ok(offset) }));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{parse_request, response_frame};
    use kafka_protocol::messages as oracle;
    use kafka_protocol::protocol::StrBytes;

    fn topic_name(name: &'static str) -> oracle::TopicName {
        oracle::TopicName(StrBytes::from_static_str(name))
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let versions = Versions(BTreeMap::from([(0, (0, 7)), (1, (13, 18)), (3, (0, 13)), (19, (0, 1))]));
        assert_eq!(versions.common(Api::Produce), Some(7));
        assert_eq!(versions.common(Api::Metadata), Some(4));
        assert_eq!(versions.common(Api::Fetch), None, "it begins above what we speak");
        assert_eq!(versions.common(Api::CreateTopics), None, "it ends below what we speak");
        assert_eq!(versions.common(Api::ListOffsets), None, "it is not served");
    }

    #[test]
    fn api_versions_are_read() {
        let answer = oracle::ApiVersionsResponse::default().with_api_keys(vec![
            oracle::api_versions_response::ApiVersion::default()
                .with_api_key(0)
                .with_min_version(3)
                .with_max_version(13),
        ]);
        let frame = response_frame(0, 5, &answer);
        let (correlation, body) = Reader::response(Api::ApiVersions, 0, &frame).expect("a whole header");
        assert_eq!(correlation, 5);
        let (code, versions) = read_api_versions(body).expect("a whole response");
        assert_eq!((code, versions.served(Api::Produce)), (ErrorCode::NONE, Some((3, 13))));
        parse_request::<oracle::ApiVersionsRequest>(Api::ApiVersions, 0, 5, &api_versions(5));
    }

    #[test]
    fn metadata_is_asked_and_read_in_every_version() {
        for version in Api::Metadata.spoken() {
            let asked: oracle::MetadataRequest =
                parse_request(Api::Metadata, version, 9, &metadata(version, 9, "load"));
            let topics = asked.topics.expect("one topic");
            assert_eq!(topics[0].name, Some(topic_name("load")));
            assert_eq!(asked.allow_auto_topic_creation, version < 4);

            let partition = |index, leader| {
                oracle::metadata_response::MetadataResponsePartition::default()
                    .with_partition_index(index)
                    .with_leader_id(oracle::BrokerId(leader))
                    .with_replica_nodes(vec![oracle::BrokerId(1), oracle::BrokerId(2)])
                    .with_isr_nodes(vec![oracle::BrokerId(1)])
            };
            let answer = oracle::MetadataResponse::default()
                .with_brokers(vec![
                    oracle::metadata_response::MetadataResponseBroker::default()
                        .with_node_id(oracle::BrokerId(1))
                        .with_host(StrBytes::from_static_str("::1"))
                        .with_port(9092),
                ])
                .with_topics(vec![
                    oracle::metadata_response::MetadataResponseTopic::default()
                        .with_name(Some(topic_name("load")))
                        .with_partitions(vec![partition(0, 1), partition(1, -1)]),
                ]);
            let frame = response_frame(version, 9, &answer);
            let (_, body) = Reader::response(Api::Metadata, version, &frame).expect("a whole header");
            let read = read_metadata(version, body).expect("a whole response");
            assert_eq!(read.brokers, BTreeMap::from([(1, "[::1]:9092".to_owned())]));
            assert_eq!(read.leaders, BTreeMap::from([(0, 1), (1, -1)]));
            assert_eq!(read.code, ErrorCode::NONE);
        }
    }

    #[test]
    fn a_topic_is_created_in_every_version() {
        for version in Api::CreateTopics.spoken() {
            let topic = CreateTopic {
                name: "load",
                partitions: 12,
                replication_factor: 3,
                configs: &[("min.insync.replicas".to_owned(), "2".to_owned())],
                timeout_ms: 30_000,
            };
            let asked: oracle::CreateTopicsRequest =
                parse_request(Api::CreateTopics, version, 2, &create_topic(version, 2, &topic));
            assert_eq!(asked.topics[0].num_partitions, 12);
            assert_eq!(asked.topics[0].replication_factor, 3);
            assert_eq!(asked.topics[0].configs[0].name.as_str(), "min.insync.replicas");
            assert!(!asked.validate_only);

            let answer = oracle::CreateTopicsResponse::default().with_topics(vec![
                oracle::create_topics_response::CreatableTopicResult::default()
                    .with_name(topic_name("load"))
                    .with_error_code(36)
                    .with_error_message(Some(StrBytes::from_static_str("it is there"))),
            ]);
            let frame = response_frame(version, 2, &answer);
            let (_, body) = Reader::response(Api::CreateTopics, version, &frame).expect("a whole header");
            let read = read_create_topic(body).expect("a whole response");
            assert_eq!(read, (ErrorCode::TOPIC_ALREADY_EXISTS, Some("it is there".to_owned())));
        }
    }

    #[test]
    fn offsets_are_asked_and_read() {
        let asked: oracle::ListOffsetsRequest =
            parse_request(Api::ListOffsets, 1, 3, &list_offsets(3, "load", &[0, 4], LATEST));
        assert_eq!(asked.topics[0].partitions[1].partition_index, 4);
        assert_eq!(asked.topics[0].partitions[1].timestamp, LATEST);

        let partition = |index, code, offset| {
            oracle::list_offsets_response::ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(code)
                .with_offset(offset)
        };
        let answer = oracle::ListOffsetsResponse::default().with_topics(vec![
            oracle::list_offsets_response::ListOffsetsTopicResponse::default()
                .with_name(topic_name("load"))
                .with_partitions(vec![partition(0, 0, 77), partition(4, 6, -1)]),
        ]);
        let frame = response_frame(1, 3, &answer);
        let (_, body) = Reader::response(Api::ListOffsets, 1, &frame).expect("a whole header");
        assert_eq!(read_list_offsets(body), Ok(vec![(0, Ok(77)), (4, Err(ErrorCode(6)))]));
    }
}
