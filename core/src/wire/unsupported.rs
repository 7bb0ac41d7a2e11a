//! The answer to a version that we do not speak.

use super::messages::*;
use super::{ApiKey, ErrorCode, Response};

/// The response to a request in an unsupported version of `api_key`, to be encoded in our highest version, after which
/// the connection closes. (For ApiVersions it carries the ranges, and is encoded in version 0, which every client can
/// read; the client then asks again on the same connection.)
///
/// The request's body has not been read, so nothing it asked about can be named. The error stands at the top of the
/// response where there is a place for it, else in one unnamed result: an empty response would say that nothing failed.
pub fn unsupported_version(api_key: ApiKey) -> Response {
    let error_code = ErrorCode::UnsupportedVersion.code();
    match api_key {
        ApiKey::Produce => {
            let partition =
                produce::PartitionProduceResponse { index: -1, error_code, base_offset: -1, ..Default::default() };
            let topic = produce::TopicProduceResponse { partition_responses: vec![partition], ..Default::default() };
            produce::ProduceResponse { responses: vec![topic], ..Default::default() }.into()
        }
        ApiKey::Fetch => fetch::FetchResponse { error_code, ..Default::default() }.into(),
        ApiKey::ListOffsets => {
            let partition =
                list_offsets::ListOffsetsPartitionResponse { partition_index: -1, error_code, ..Default::default() };
            let topic = list_offsets::ListOffsetsTopicResponse { partitions: vec![partition], ..Default::default() };
            list_offsets::ListOffsetsResponse { topics: vec![topic], ..Default::default() }.into()
        }
        ApiKey::Metadata => metadata::MetadataResponse { error_code, ..Default::default() }.into(),
        ApiKey::OffsetCommit => {
            let partition = offset_commit::OffsetCommitResponsePartition { partition_index: -1, error_code };
            let topic = offset_commit::OffsetCommitResponseTopic { partitions: vec![partition], ..Default::default() };
            offset_commit::OffsetCommitResponse { topics: vec![topic], ..Default::default() }.into()
        }
        ApiKey::OffsetFetch => {
            let group = offset_fetch::OffsetFetchResponseGroup { error_code, ..Default::default() };
            offset_fetch::OffsetFetchResponse { groups: vec![group], ..Default::default() }.into()
        }
        ApiKey::FindCoordinator => {
            let coordinator = find_coordinator::Coordinator { node_id: -1, port: -1, error_code, ..Default::default() };
            find_coordinator::FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() }.into()
        }
        ApiKey::JoinGroup => join_group::JoinGroupResponse { error_code, ..Default::default() }.into(),
        ApiKey::Heartbeat => heartbeat::HeartbeatResponse { error_code, ..Default::default() }.into(),
        ApiKey::LeaveGroup => leave_group::LeaveGroupResponse { error_code, ..Default::default() }.into(),
        ApiKey::SyncGroup => sync_group::SyncGroupResponse { error_code, ..Default::default() }.into(),
        ApiKey::DescribeGroups => {
            let group = describe_groups::DescribedGroup { error_code, ..Default::default() };
            describe_groups::DescribeGroupsResponse { groups: vec![group], ..Default::default() }.into()
        }
        ApiKey::ListGroups => list_groups::ListGroupsResponse { error_code, ..Default::default() }.into(),
        ApiKey::ApiVersions => {
            let api_keys = ApiKey::advertised_apis();
            api_versions::ApiVersionsResponse { error_code, api_keys, ..Default::default() }.into()
        }
        ApiKey::CreateTopics => {
            let topic = create_topics::CreatableTopicResult { error_code, ..Default::default() };
            create_topics::CreateTopicsResponse { topics: vec![topic], ..Default::default() }.into()
        }
        ApiKey::DeleteTopics => {
            let topic = delete_topics::DeletableTopicResult { error_code, ..Default::default() };
            delete_topics::DeleteTopicsResponse { responses: vec![topic], ..Default::default() }.into()
        }
        ApiKey::DeleteRecords => {
            let partition =
                delete_records::DeleteRecordsPartitionResult { partition_index: -1, low_watermark: -1, error_code };
            let topic = delete_records::DeleteRecordsTopicResult { partitions: vec![partition], ..Default::default() };
            delete_records::DeleteRecordsResponse { topics: vec![topic], ..Default::default() }.into()
        }
        ApiKey::InitProducerId => {
            init_producer_id::InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() }.into()
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = offset_for_leader_epoch::EpochEndOffset { partition: -1, error_code, ..Default::default() };
            let topic = offset_for_leader_epoch::OffsetForLeaderTopicResult {
                partitions: vec![partition],
                ..Default::default()
            };
            offset_for_leader_epoch::OffsetForLeaderEpochResponse { topics: vec![topic], ..Default::default() }.into()
        }
        ApiKey::DescribeConfigs => {
            let result = describe_configs::DescribeConfigsResult { error_code, ..Default::default() };
            describe_configs::DescribeConfigsResponse { results: vec![result], ..Default::default() }.into()
        }
        ApiKey::AlterConfigs => {
            let response = alter_configs::AlterConfigsResourceResponse { error_code, ..Default::default() };
            alter_configs::AlterConfigsResponse { responses: vec![response], ..Default::default() }.into()
        }
        ApiKey::DescribeLogDirs => {
            describe_log_dirs::DescribeLogDirsResponse { error_code, ..Default::default() }.into()
        }
        ApiKey::CreatePartitions => {
            let result = create_partitions::CreatePartitionsTopicResult { error_code, ..Default::default() };
            create_partitions::CreatePartitionsResponse { results: vec![result], ..Default::default() }.into()
        }
        ApiKey::DeleteGroups => {
            let result = delete_groups::DeletableGroupResult { error_code, ..Default::default() };
            delete_groups::DeleteGroupsResponse { results: vec![result], ..Default::default() }.into()
        }
        ApiKey::ElectLeaders => elect_leaders::ElectLeadersResponse { error_code, ..Default::default() }.into(),
        ApiKey::AlterPartitionReassignments => {
            alter_partition_reassignments::AlterPartitionReassignmentsResponse { error_code, ..Default::default() }
                .into()
        }
        ApiKey::ListPartitionReassignments => {
            list_partition_reassignments::ListPartitionReassignmentsResponse { error_code, ..Default::default() }.into()
        }
        ApiKey::DescribeQuorum => describe_quorum::DescribeQuorumResponse { error_code, ..Default::default() }.into(),
        ApiKey::UpdateFeatures => update_features::UpdateFeaturesResponse { error_code, ..Default::default() }.into(),
        ApiKey::UnregisterBroker => {
            unregister_broker::UnregisterBrokerResponse { error_code, ..Default::default() }.into()
        }
        ApiKey::AddRaftVoter => add_raft_voter::AddRaftVoterResponse { error_code, ..Default::default() }.into(),
        ApiKey::RemoveRaftVoter => {
            remove_raft_voter::RemoveRaftVoterResponse { error_code, ..Default::default() }.into()
        }
        ApiKey::IncrementalAlterConfigs => {
            let response = incremental_alter_configs::AlterConfigsResourceResponse { error_code, ..Default::default() };
            incremental_alter_configs::IncrementalAlterConfigsResponse {
                responses: vec![response],
                ..Default::default()
            }
            .into()
        }
        ApiKey::OffsetDelete => offset_delete::OffsetDeleteResponse { error_code, ..Default::default() }.into(),
        ApiKey::DescribeCluster => {
            describe_cluster::DescribeClusterResponse { error_code, ..Default::default() }.into()
        }
        ApiKey::DescribeProducers => {
            let partition =
                describe_producers::PartitionResponse { partition_index: -1, error_code, ..Default::default() };
            let topic = describe_producers::TopicResponse { partitions: vec![partition], ..Default::default() };
            describe_producers::DescribeProducersResponse { topics: vec![topic], ..Default::default() }.into()
        }
        ApiKey::ConsumerGroupHeartbeat => {
            consumer_group_heartbeat::ConsumerGroupHeartbeatResponse { error_code, ..Default::default() }.into()
        }
        ApiKey::ConsumerGroupDescribe => {
            let group = consumer_group_describe::DescribedGroup { error_code, ..Default::default() };
            consumer_group_describe::ConsumerGroupDescribeResponse { groups: vec![group], ..Default::default() }.into()
        }
        ApiKey::DescribeTopicPartitions => {
            let topic =
                describe_topic_partitions::DescribeTopicPartitionsResponseTopic { error_code, ..Default::default() };
            describe_topic_partitions::DescribeTopicPartitionsResponse { topics: vec![topic], ..Default::default() }
                .into()
        }
    }
}
