//! Requests that nobody decides: each of their parts is told why.

use super::super::Node;
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::controller::PARTITIONS_PER_REQUEST_MAX;
use crate::ids::Uuid;
use crate::wire::add_raft_voter::AddRaftVoterResponse;
use crate::wire::alter_configs::{AlterConfigsResourceResponse, AlterConfigsResponse};
use crate::wire::alter_partition_reassignments::AlterPartitionReassignmentsResponse;
use crate::wire::create_partitions::{CreatePartitionsResponse, CreatePartitionsTopicResult};
use crate::wire::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use crate::wire::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use crate::wire::describe_quorum::DescribeQuorumResponse;
use crate::wire::elect_leaders::ElectLeadersResponse;
use crate::wire::incremental_alter_configs as incremental;
use crate::wire::init_producer_id::InitProducerIdResponse;
use crate::wire::remove_raft_voter::RemoveRaftVoterResponse;
use crate::wire::unregister_broker::UnregisterBrokerResponse;
use crate::wire::{ErrorCode, Request, Response, Str};

/// From this version on a topic to delete may go by its id, and its name be missing.
const ID_FROM: i16 = 6;

impl Node {
    /// Answers a change of metadata with `error` for all that it names.
    pub(super) fn refuse_change(to: ReplyTo, request: &Request, error: ErrorCode, out: &mut Outbox) {
        out.push(Effect::Reply { to, response: Some(refused(to.version, request, error)) });
    }
}

/// Whether a request names more than one step may look at.
pub(super) fn names_too_much(request: &Request) -> bool {
    let named = match request {
        Request::CreateTopics(request) => request.topics.len(),
        Request::DeleteTopics(request) => request.topics.len() + request.topic_names.len(),
        Request::CreatePartitions(request) => request.topics.len(),
        Request::AlterConfigs(request) => request.resources.iter().map(|one| 1 + one.configs.len()).sum(),
        Request::IncrementalAlterConfigs(request) => request.resources.iter().map(|one| 1 + one.configs.len()).sum(),
        Request::ElectLeaders(request) => {
            request.topic_partitions.iter().flatten().map(|topic| 1 + topic.partitions.len()).sum()
        }
        _ => 0,
    };
    named > PARTITIONS_PER_REQUEST_MAX
}

/// The answer to a change of metadata of which nothing is done.
fn refused(version: i16, request: &Request, error: ErrorCode) -> Response {
    let error_code = error.code();
    match request {
        Request::CreateTopics(request) => {
            let topics = request.topics.iter().map(|topic| CreatableTopicResult {
                name: topic.name.clone(),
                error_code,
                configs: Some(Vec::new()),
                ..CreatableTopicResult::default()
            });
            Response::CreateTopics(CreateTopicsResponse { topics: topics.collect(), ..Default::default() })
        }
        Request::DeleteTopics(request) => {
            let named = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::ZERO));
            let asked = named.chain(request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id)));
            let responses = asked.map(|(name, topic_id)| DeletableTopicResult {
                name: name.or_else(|| (version < ID_FROM).then_some(Str::EMPTY)),
                topic_id,
                error_code,
                ..DeletableTopicResult::default()
            });
            Response::DeleteTopics(DeleteTopicsResponse { responses: responses.collect(), ..Default::default() })
        }
        Request::CreatePartitions(request) => {
            let results = request.topics.iter().map(|topic| CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code,
                ..CreatePartitionsTopicResult::default()
            });
            Response::CreatePartitions(CreatePartitionsResponse { results: results.collect(), ..Default::default() })
        }
        Request::AlterConfigs(request) => {
            let responses = request.resources.iter().map(|resource| AlterConfigsResourceResponse {
                error_code,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..AlterConfigsResourceResponse::default()
            });
            Response::AlterConfigs(AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
        }
        Request::IncrementalAlterConfigs(request) => {
            let responses = request.resources.iter().map(|resource| incremental::AlterConfigsResourceResponse {
                error_code,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..incremental::AlterConfigsResourceResponse::default()
            });
            let responses = responses.collect();
            Response::IncrementalAlterConfigs(incremental::IncrementalAlterConfigsResponse {
                responses,
                ..Default::default()
            })
        }
        Request::InitProducerId(_) => Response::InitProducerId(InitProducerIdResponse {
            error_code,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        }),
        Request::AlterPartitionReassignments(_) => {
            Response::AlterPartitionReassignments(AlterPartitionReassignmentsResponse {
                error_code,
                ..AlterPartitionReassignmentsResponse::default()
            })
        }
        Request::ElectLeaders(_) => {
            Response::ElectLeaders(ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() })
        }
        Request::UnregisterBroker(_) => {
            Response::UnregisterBroker(UnregisterBrokerResponse { error_code, ..UnregisterBrokerResponse::default() })
        }
        Request::DescribeQuorum(_) => {
            Response::DescribeQuorum(DescribeQuorumResponse { error_code, ..DescribeQuorumResponse::default() })
        }
        Request::AddRaftVoter(_) => {
            Response::AddRaftVoter(AddRaftVoterResponse { error_code, ..AddRaftVoterResponse::default() })
        }
        Request::RemoveRaftVoter(_) => {
            Response::RemoveRaftVoter(RemoveRaftVoterResponse { error_code, ..RemoveRaftVoterResponse::default() })
        }
        other => unreachable!("{other:?} changes no metadata"),
    }
}
