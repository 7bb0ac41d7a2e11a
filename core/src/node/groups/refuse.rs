//! Answers of requests about groups that no coordinator is asked about, or that are taken back before anybody heard them.

use super::gather;
use crate::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
use crate::wire::heartbeat::HeartbeatResponse;
use crate::wire::join_group::JoinGroupResponse;
use crate::wire::leave_group::LeaveGroupResponse;
use crate::wire::list_groups::ListGroupsResponse;
use crate::wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::wire::offset_delete::OffsetDeleteResponse;
use crate::wire::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics};
use crate::wire::sync_group::SyncGroupResponse;
use crate::wire::{self, ErrorCode, Response, Str};
use crate::wire::{consumer_group_describe, delete_groups, describe_groups};

/// The answer to a request that is refused as a whole.
pub(super) fn request(request: &wire::Request, version: i16, code: ErrorCode) -> Response {
    use wire::Request as R;
    let error_code = code.into();
    match request {
        R::JoinGroup(_) => {
            // Before version 7 there must be a name.
            let protocol_name = (version < 7).then_some(Str::EMPTY);
            JoinGroupResponse { error_code, protocol_name, ..JoinGroupResponse::default() }.into()
        }
        R::SyncGroup(_) => SyncGroupResponse { error_code, ..SyncGroupResponse::default() }.into(),
        R::Heartbeat(_) => HeartbeatResponse { error_code, ..HeartbeatResponse::default() }.into(),
        R::LeaveGroup(_) => LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }.into(),
        R::ConsumerGroupHeartbeat(_) => {
            ConsumerGroupHeartbeatResponse { error_code, ..ConsumerGroupHeartbeatResponse::default() }.into()
        }
        R::OffsetCommit(request) => commit(request, code).into(),
        R::OffsetDelete(_) => OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() }.into(),
        R::ListGroups(_) => ListGroupsResponse { error_code, ..ListGroupsResponse::default() }.into(),
        R::DescribeGroups(request) => {
            let groups = request.groups.iter().map(|group| describe_groups::DescribedGroup {
                error_code,
                group_id: group.clone(),
                ..describe_groups::DescribedGroup::default()
            });
            let groups = groups.collect();
            describe_groups::DescribeGroupsResponse { groups, ..Default::default() }.into()
        }
        R::ConsumerGroupDescribe(request) => {
            let groups = request.group_ids.iter().map(|group| consumer_group_describe::DescribedGroup {
                error_code,
                group_id: group.clone(),
                ..consumer_group_describe::DescribedGroup::default()
            });
            let groups = groups.collect();
            consumer_group_describe::ConsumerGroupDescribeResponse { groups, ..Default::default() }.into()
        }
        R::DeleteGroups(request) => {
            let results = request
                .groups_names
                .iter()
                .map(|group| delete_groups::DeletableGroupResult { group_id: group.clone(), error_code });
            delete_groups::DeleteGroupsResponse { results: results.collect(), ..Default::default() }.into()
        }
        R::OffsetFetch(request) => {
            let groups = gather::groups_of(version, request.clone());
            let groups = groups.iter().map(|group| gather::refused_fetch(group, version, code));
            gather::fetched(version, groups.collect()).into()
        }
        other => unreachable!("{other:?} is not about groups"),
    }
}

fn commit(request: &OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.into(),
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

/// The topics of an answer of OffsetFetch, each of whose partitions has an error.
pub(super) fn fetch_topics(group: &OffsetFetchRequestGroup, code: ErrorCode) -> Vec<OffsetFetchResponseTopics> {
    let topics = group.topics.iter().flatten().map(|topic| OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partition_indexes
            .iter()
            .map(|&partition_index| refused_partition(partition_index, code))
            .collect(),
    });
    topics.collect()
}

/// Makes what was to be told of offsets an error of each partition.
pub(super) fn fetched(topics: &mut [OffsetFetchResponseTopics], code: ErrorCode) {
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        let partition_index = partition.partition_index;
        *partition = refused_partition(partition_index, code);
    }
}

fn refused_partition(partition_index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::EMPTY),
        error_code: code.into(),
    }
}

/// Makes an answer that was decided, and will not be committed, a refusal.
pub(super) fn response(response: &mut Response, code: ErrorCode) {
    let error_code = code.into();
    match response {
        Response::JoinGroup(response) => {
            let protocol_name = response.protocol_name.is_some().then_some(Str::EMPTY);
            *response = JoinGroupResponse { error_code, protocol_name, ..JoinGroupResponse::default() };
        }
        Response::SyncGroup(response) => *response = SyncGroupResponse { error_code, ..SyncGroupResponse::default() },
        Response::Heartbeat(response) => response.error_code = error_code,
        Response::LeaveGroup(response) => {
            *response = LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
        }
        Response::ConsumerGroupHeartbeat(response) => {
            *response = ConsumerGroupHeartbeatResponse { error_code, ..ConsumerGroupHeartbeatResponse::default() };
        }
        Response::OffsetCommit(response) => {
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.error_code = error_code);
        }
        Response::OffsetDelete(response) => {
            *response = OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
        }
        other => unreachable!("no coordinator answers {other:?}"),
    }
}
