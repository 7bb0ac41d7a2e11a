//! Questions that change nothing and must simply be answered well, each in turn in every version that is served.

use chronik_core::wire::describe_cluster::DescribeClusterRequest;
use chronik_core::wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use chronik_core::wire::describe_log_dirs::DescribeLogDirsRequest;
use chronik_core::wire::describe_producers::{self, DescribeProducersRequest};
use chronik_core::wire::describe_topic_partitions::{self, DescribeTopicPartitionsRequest};
use chronik_core::wire::metadata::MetadataRequest;
use chronik_core::wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use chronik_core::wire::{ApiKey, ErrorCode, Request, Response};

use super::reading::known_code;
use super::topics::Topics;

/// The question for all topics.
pub(super) const METADATA: u8 = 0;
/// How many questions there are.
const QUESTIONS: u8 = 7;
/// The number that Kafka's config requests give to topics.
const TOPIC_RESOURCE: i8 = 2;

/// A question, and the version to ask it in: another with every operation.
pub(super) fn question(which: u8, operation: u32, topics: &Topics, count: usize) -> (Request, i16) {
    let names = (0..count).map(|topic| topics.get(topic)).filter(|topic| topic.id.is_some());
    let request: Request = match which % QUESTIONS {
        METADATA => {
            // Without topics all are asked for; none is created by that.
            MetadataRequest { topics: None, allow_auto_topic_creation: false, ..MetadataRequest::default() }.into()
        }
        1 => {
            let resource = |topic: &super::topics::Topic| DescribeConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: topic.name.clone(),
                configuration_keys: None,
            };
            let resources = names.map(resource).collect();
            DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: false }.into()
        }
        2 => {
            let topic = |topic: &super::topics::Topic| describe_producers::TopicRequest {
                name: topic.name.clone(),
                partition_indexes: (0..topic.partitions).collect(),
            };
            DescribeProducersRequest { topics: names.map(topic).collect() }.into()
        }
        3 => DescribeLogDirsRequest { topics: None }.into(),
        4 => DescribeClusterRequest::default().into(),
        5 => {
            let partition = |partition| OffsetForLeaderPartition { partition, ..Default::default() };
            let topic = |topic: &super::topics::Topic| OffsetForLeaderTopic {
                topic: topic.name.clone(),
                partitions: (0..topic.partitions).map(partition).collect(),
            };
            OffsetForLeaderEpochRequest { topics: names.map(topic).collect(), ..Default::default() }.into()
        }
        _ => {
            let topic =
                |topic: &super::topics::Topic| describe_topic_partitions::TopicRequest { name: topic.name.clone() };
            DescribeTopicPartitionsRequest { topics: names.map(topic).collect(), ..Default::default() }.into()
        }
    };
    let versions = request.api_key().versions();
    // Metadata 0 has no null that would stand for all topics.
    let first = if request.api_key() == ApiKey::Metadata { 1 } else { *versions.start() };
    let versions = u32::try_from(versions.end() - first + 1).expect("an API has a version");
    (request, first + i16::try_from(operation % versions).expect("an API has few versions"))
}

/// The first error of an answer that is not that a topic is gone.
///
/// # Errors
/// Where there is an error that does not exist.
pub(super) fn verdict(response: &Response) -> Result<ErrorCode, String> {
    let codes: Vec<i16> = match response {
        Response::Metadata(response) => {
            let topics = response.topics.iter().map(|topic| topic.error_code);
            [response.error_code].into_iter().chain(topics).collect()
        }
        Response::DescribeConfigs(response) => response.results.iter().map(|result| result.error_code).collect(),
        Response::DescribeProducers(response) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code).collect()
        }
        Response::DescribeLogDirs(response) => {
            let results = response.results.iter().map(|result| result.error_code);
            [response.error_code].into_iter().chain(results).collect()
        }
        Response::DescribeCluster(response) => vec![response.error_code],
        Response::OffsetForLeaderEpoch(response) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code).collect()
        }
        Response::DescribeTopicPartitions(response) => response.topics.iter().map(|topic| topic.error_code).collect(),
        _ => Vec::new(),
    };
    for code in codes {
        match known_code(code)? {
            ErrorCode::None | ErrorCode::UnknownTopicOrPartition => {}
            code => return Ok(code),
        }
    }
    Ok(ErrorCode::None)
}
