//! What clients ask about groups, and how their answers are read.

use super::*;
use crate::boundary::Client;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::list_groups::ListGroupsRequest;
use crate::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};

impl Rig {
    /// A node with a topic, and a coordinator for every group.
    pub(super) fn with_groups(settings: &[(&'static str, &'static str)]) -> Rig {
        let mut rig = Rig::with(settings);
        rig.create("t", 4);
        assert_eq!(rig.find("g"), 0);
        rig
    }

    /// Starts again after a crash, and lets all coordinators be loaded.
    pub(super) fn crash_and_load(self) -> Rig {
        let mut rig = self.crash();
        rig.pass(10);
        rig
    }

    /// Asks who coordinates a group; gives the error code.
    pub(super) fn find(&mut self, group: &'static str) -> i16 {
        let request = FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() };
        match self.answer(4, request.into()) {
            Response::FindCoordinator(mut response) => response.coordinators.remove(0).error_code,
            other => panic!("another answer: {other:?}"),
        }
    }

    pub(super) fn commit_request(group: &'static str, offsets: &[(i32, i64)]) -> Box<wire::Request> {
        let partitions = offsets.iter().map(|&(partition_index, committed_offset)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            ..OffsetCommitRequestPartition::default()
        });
        let topic = OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: partitions.collect(),
            ..OffsetCommitRequestTopic::default()
        };
        OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..OffsetCommitRequest::default() }.into()
    }

    pub(super) fn committed(&mut self, sequence: u64) -> Option<i16> {
        match self.reply(sequence)? {
            Some(Response::OffsetCommit(response)) => Some(response.topics[0].partitions[0].error_code),
            other => panic!("another answer: {other:?}"),
        }
    }

    /// Commits an offset of one partition without being a member; gives the error code.
    pub(super) fn commit_offset(&mut self, group: &'static str, partition: i32, offset: i64) -> i16 {
        let sequence = self.ask(8, Request::Other(Rig::commit_request(group, &[(partition, offset)])));
        self.committed(sequence).expect("an answer")
    }

    pub(super) fn fetch_offsets_request(groups: &[&'static str]) -> Box<wire::Request> {
        let groups = groups.iter().map(|&group| OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        });
        OffsetFetchRequest { groups: groups.collect(), ..OffsetFetchRequest::default() }.into()
    }

    pub(super) fn fetched_offsets(&mut self, sequence: u64) -> Option<Vec<OffsetFetchResponseGroup>> {
        match self.reply(sequence)? {
            Some(Response::OffsetFetch(response)) => Some(response.groups),
            other => panic!("another answer: {other:?}"),
        }
    }

    /// The offset committed for partition 0, or the group's error code.
    pub(in crate::node::tests) fn offset_of(&mut self, group: &'static str) -> Result<i64, i16> {
        let sequence = self.ask(FETCH_VERSION, Request::Other(Rig::fetch_offsets_request(&[group])));
        let group = self.fetched_offsets(sequence).expect("an answer").remove(0);
        match group.error_code {
            0 => Ok(group.topics[0].partitions[0].committed_offset),
            code => Err(code),
        }
    }

    pub(super) fn join(&mut self, group: &'static str, member: &str) -> u64 {
        let client = Client { id: "a client".into(), host: "/10.0.0.1".into() };
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"what I read") };
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            member_id: member.into(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        // The last version that lets a member in without an id of its own.
        self.ask(3, Request::Member { client, request: Box::new(request.into()) })
    }

    pub(super) fn joined(&mut self, sequence: u64) -> Option<JoinGroupResponse> {
        match self.reply(sequence)? {
            Some(Response::JoinGroup(response)) => Some(response),
            other => panic!("another answer: {other:?}"),
        }
    }

    pub(super) fn sync(
        &mut self,
        group: &'static str,
        joined: &JoinGroupResponse,
        assignments: &[(&Str, &'static str)],
    ) -> u64 {
        let assignments = assignments.iter().map(|&(member, assignment)| SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: Bytes::from_static(assignment.as_bytes()),
        });
        let request = SyncGroupRequest {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.ask(2, Request::Other(request.into()))
    }

    pub(super) fn synced(&mut self, sequence: u64) -> Option<SyncGroupResponse> {
        match self.reply(sequence)? {
            Some(Response::SyncGroup(response)) => Some(response),
            other => panic!("another answer: {other:?}"),
        }
    }

    pub(super) fn beat(&mut self, group: &'static str, joined: &JoinGroupResponse) -> i16 {
        let request = HeartbeatRequest {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..HeartbeatRequest::default()
        };
        match self.answer(2, request.into()) {
            Response::Heartbeat(response) => response.error_code,
            other => panic!("another answer: {other:?}"),
        }
    }

    /// A group with one member in its first generation.
    pub(super) fn stable(&mut self, group: &'static str) -> JoinGroupResponse {
        let joining = self.join(group, "");
        self.pass(3_000);
        let joined = self.joined(joining).expect("the delay is over");
        assert_eq!(joined.error_code, 0);
        let member = joined.member_id.clone();
        let syncing = self.sync(group, &joined, &[(&member, "all of it")]);
        assert_eq!(&self.synced(syncing).expect("an answer").assignment[..], b"all of it");
        joined
    }

    pub(super) fn list_groups(&mut self) -> Result<Vec<String>, i16> {
        match self.answer(4, ListGroupsRequest::default().into()) {
            Response::ListGroups(response) if response.error_code == 0 => {
                let mut listed: Vec<String> =
                    response.groups.iter().map(|group| format!("{} {}", group.group_id, group.group_state)).collect();
                listed.sort();
                Ok(listed)
            }
            Response::ListGroups(response) => Err(response.error_code),
            other => panic!("another answer: {other:?}"),
        }
    }
}
