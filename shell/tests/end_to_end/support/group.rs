//! A group that a test made for itself, and the short way to its coordinator's APIs.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::client::Client;
use super::code;
use super::topic::{Topic, eventually, fresh_name, text};

/// From here on OffsetFetch and LeaveGroup name several things at once.
const FETCH_SEVERAL: i16 = 8;
const LEAVE_SEVERAL: i16 = 3;
/// What a member that is known to nobody is to be called.
pub(crate) const NOBODY: StrBytes = StrBytes::from_static_str("");

/// A group of one test.
pub(crate) struct Group(GroupId);

impl Group {
    /// A group that nobody else uses, whose coordinator serves.
    pub(crate) fn new(client: &mut Client, purpose: &str) -> Self {
        let group = Self::named_after(purpose);
        group.wait_for_coordinator(client);
        group
    }

    /// A group that nobody else uses.
    pub(crate) fn named_after(purpose: &str) -> Self {
        Self(GroupId(fresh_name(purpose).0))
    }

    pub(crate) fn id(&self) -> &GroupId {
        &self.0
    }

    /// Waits until the node behind `client` is its coordinator and serves.
    pub(crate) fn wait_for_coordinator(&self, client: &mut Client) {
        eventually("the group has a coordinator", || {
            let request = FindCoordinatorRequest::default().with_key(self.0.0.clone()).with_key_type(0);
            client.call(3, &request).error_code == code::NONE
        });
        eventually("its coordinator serves", || {
            let request = HeartbeatRequest::default().with_group_id(self.0.clone()).with_member_id(text("nobody"));
            client.call(0, &request).error_code == code::UNKNOWN_MEMBER_ID
        });
    }

    /// A commit by nobody: outside of any generation.
    pub(crate) fn commit_request(
        &self,
        topic: &Topic,
        version: i16,
        partition: i32,
        offset: i64,
    ) -> OffsetCommitRequest {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("where I am")));
        let partition = if version >= 6 { partition.with_committed_leader_epoch(0) } else { partition };
        let topic = OffsetCommitRequestTopic::default().with_name(topic.name.clone()).with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(self.0.clone())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    }

    /// Commits without being a member; gives the error code.
    pub(crate) fn commit(&self, client: &mut Client, topic: &Topic, version: i16, offset: i64) -> i16 {
        let response = client.call(version, &self.commit_request(topic, version, 0, offset));
        response.topics[0].partitions[0].error_code
    }

    /// The offset committed for partition 0 and the metadata beside it.
    pub(crate) fn committed(&self, client: &mut Client, topic: &Topic, version: i16) -> (i64, String) {
        if version < FETCH_SEVERAL {
            let asked =
                OffsetFetchRequestTopic::default().with_name(topic.name.clone()).with_partition_indexes(vec![0]);
            let request = OffsetFetchRequest::default().with_group_id(self.0.clone()).with_topics(Some(vec![asked]));
            let response = client.call(version, &request);
            let answer = &response.topics[0].partitions[0];
            assert_eq!((response.error_code, answer.error_code), (code::NONE, code::NONE), "version {version}");
            return (answer.committed_offset, answer.metadata.as_ref().expect("metadata").to_string());
        }
        let asked = OffsetFetchRequestTopics::default().with_name(topic.name.clone()).with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default().with_group_id(self.0.clone()).with_topics(Some(vec![asked]));
        let response = client.call(version, &OffsetFetchRequest::default().with_groups(vec![group]));
        let group = &response.groups[0];
        let answer = &group.topics[0].partitions[0];
        assert_eq!((group.error_code, answer.error_code), (code::NONE, code::NONE), "version {version}");
        (answer.committed_offset, answer.metadata.as_ref().expect("metadata").to_string())
    }

    /// What the member of this id says to join.
    pub(crate) fn join_request(&self, version: i16, member: &StrBytes) -> JoinGroupRequest {
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text("mine")).with_metadata(Bytes::from_static(b"topics"));
        let request = JoinGroupRequest::default()
            .with_group_id(self.0.clone())
            .with_session_timeout_ms(20_000)
            .with_member_id(member.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        if version >= 1 { request.with_rebalance_timeout_ms(20_000) } else { request }
    }

    /// Joins an empty group, by way of an id where one is required.
    pub(crate) fn join(&self, client: &mut Client, version: i16) -> JoinGroupResponse {
        let joined = client.call(version, &self.join_request(version, &NOBODY));
        if version < 4 {
            return joined;
        }
        assert_eq!(joined.error_code, code::MEMBER_ID_REQUIRED, "version {version}");
        client.call(version, &self.join_request(version, &joined.member_id))
    }

    /// The assignment that the leader of a generation gives to itself.
    pub(crate) fn sync(&self, client: &mut Client, version: i16, joined: &JoinGroupResponse) -> Bytes {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(Bytes::from_static(b"all"));
        let request = SyncGroupRequest::default()
            .with_group_id(self.0.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        let request = match version {
            5.. => request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("mine"))),
            _ => request,
        };
        let response = client.call(version, &request);
        assert_eq!(response.error_code, code::NONE, "version {version}");
        response.assignment
    }

    /// The answer to a heartbeat of the generation that the member has joined.
    pub(crate) fn beat(&self, client: &mut Client, version: i16, joined: &JoinGroupResponse) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(self.0.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone());
        client.call(version, &request).error_code
    }

    /// The answer to a member that leaves.
    pub(crate) fn leave(&self, client: &mut Client, version: i16, joined: &JoinGroupResponse) -> i16 {
        let request = LeaveGroupRequest::default().with_group_id(self.0.clone());
        if version < LEAVE_SEVERAL {
            return client.call(version, &request.with_member_id(joined.member_id.clone())).error_code;
        }
        let member = MemberIdentity::default().with_member_id(joined.member_id.clone());
        let response = client.call(version, &request.with_members(vec![member]));
        assert_eq!(response.error_code, code::NONE, "version {version}");
        response.members[0].error_code
    }
}
