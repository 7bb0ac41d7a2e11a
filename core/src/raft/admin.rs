//! What administrators ask of the quorum, in Kafka's terms: DescribeQuorum 0-2 (KIP-595, KIP-836, KIP-853), AddRaftVoter
//! 0-1 and RemoveRaftVoter 0 (KIP-853).
//!
//! Kafka's log of the metadata is a topic of one partition, whose offsets count from 0; ours is none, and its positions
//! stand in for them. A node counts for majorities only after it has followed: who is to be added must be a learner that
//! has had all that the leader had, not long ago. Who is removed goes on following.

use std::collections::BTreeSet;

use super::{Declined, Member, Membership, PeerStatus, Status};
use crate::ids::{NodeId, Uuid};
use crate::wire::add_raft_voter::AddRaftVoterRequest;
use crate::wire::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, DescribedQuorumPartition, DescribedQuorumTopic, Listener, Node,
    ReplicaState,
};
use crate::wire::remove_raft_voter::RemoveRaftVoterRequest;
use crate::wire::{ErrorCode, Str};

/// The name of the metadata log in Kafka.
const METADATA_TOPIC: Str = Str::from_static("__cluster_metadata");

/// The name of the listener that members reach each other by.
const LISTENER: Str = Str::from_static("RAFT");

/// How the ticks of a process become times.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
    /// How long a tick is, in milliseconds.
    pub tick_ms: u32,
}

/// Why a change of the quorum is not made: the code that a client acts on, and a sentence for the person behind it.
pub type Refusal = (ErrorCode, String);

/// The quorum that `leader`, who answers, knows to be as `status` says. `address_of` tells where a member is reached:
/// a node that runs alone is reached by nobody, and is told of without an address, as is one that has not come so far.
pub fn describe_quorum(
    request: &DescribeQuorumRequest,
    leader: NodeId,
    status: &Status,
    clock: Clock,
    address_of: impl Fn(NodeId) -> Option<(Str, u16)>,
) -> DescribeQuorumResponse {
    let is_asked = matches!(&request.topics[..], [topic] if topic.topic_name == METADATA_TOPIC
        && matches!(&topic.partitions[..], [partition] if partition.partition_index == 0));
    if !is_asked {
        return unknown(request);
    }
    let at = |tick: u64| {
        let ago = status.ticks.saturating_sub(tick).saturating_mul(u64::from(clock.tick_ms));
        clock.now_ms.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    };
    let replica = |peer: &PeerStatus| ReplicaState {
        replica_id: peer.member.node.0,
        replica_directory_id: peer.member.directory,
        log_end_offset: offset(peer.last_index),
        last_fetch_timestamp: peer.last_fetch_tick.map_or(-1, at),
        last_caught_up_timestamp: peer.last_caught_up_tick.map_or(-1, at),
    };
    let of = |is_voter| status.members.iter().filter(move |peer| peer.is_voter == is_voter).map(replica).collect();
    let partition = DescribedQuorumPartition {
        leader_id: leader.0,
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: offset(status.committed),
        current_voters: of(true),
        observers: of(false),
        ..DescribedQuorumPartition::default()
    };
    let node = |peer: &PeerStatus| {
        let listener = address_of(peer.member.node).map(|(host, port)| Listener { name: LISTENER, host, port });
        Node { node_id: peer.member.node.0, listeners: listener.into_iter().collect() }
    };
    DescribeQuorumResponse {
        topics: vec![DescribedQuorumTopic { topic_name: METADATA_TOPIC, partitions: vec![partition] }],
        nodes: status.members.iter().filter(|peer| peer.is_voter).map(node).collect(),
        ..DescribeQuorumResponse::default()
    }
}

/// The offset behind the entry `index`.
fn offset(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1)
}

/// The answer about anything but the metadata log.
fn unknown(request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| DescribedQuorumTopic {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| DescribedQuorumPartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                ..DescribedQuorumPartition::default()
            })
            .collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), ..DescribeQuorumResponse::default() }
}

/// The voters and learners that a request to add a voter asks for. `recent` is how many ticks ago the new one must have
/// had all that the leader had.
///
/// # Errors
/// Where the request is meant for another cluster or makes no sense, the node counts already, or is not ready for it.
pub fn with_voter(
    request: &AddRaftVoterRequest,
    cluster_id: &str,
    membership: &Membership,
    status: &Status,
    recent: u64,
) -> Result<(BTreeSet<Member>, BTreeSet<Member>), Refusal> {
    check_cluster(request.cluster_id.as_ref(), cluster_id)?;
    let member = member(request.voter_id, request.voter_directory_id)?;
    if membership.voters().iter().any(|voter| voter.node == member.node) {
        return Err((ErrorCode::DuplicateVoter, format!("Node {} is a voter already.", member.node)));
    }
    let peer = status.members.iter().find(|peer| peer.member == member);
    let caught_up = peer.and_then(|peer| peer.last_caught_up_tick);
    if caught_up.is_none_or(|tick| status.ticks.saturating_sub(tick) > recent) {
        let message = format!("{member} does not follow the metadata log closely enough to become a voter.");
        return Err((ErrorCode::RequestTimedOut, message));
    }
    let voters = membership.voters().iter().copied().chain([member]).collect();
    let learners = membership.learners().iter().copied().filter(|learner| *learner != member).collect();
    Ok((voters, learners))
}

/// The voters and learners that a request to remove a voter asks for.
///
/// # Errors
/// Where the request is meant for another cluster or makes no sense, or nobody would be left.
pub fn without_voter(
    request: &RemoveRaftVoterRequest,
    cluster_id: &str,
    membership: &Membership,
) -> Result<(BTreeSet<Member>, BTreeSet<Member>), Refusal> {
    check_cluster(request.cluster_id.as_ref(), cluster_id)?;
    let member = member(request.voter_id, request.voter_directory_id)?;
    if !membership.voters().contains(&member) {
        return Err((ErrorCode::VoterNotFound, format!("{member} is no voter.")));
    }
    let voters: BTreeSet<Member> = membership.voters().iter().copied().filter(|voter| *voter != member).collect();
    if voters.is_empty() {
        return Err((ErrorCode::InvalidRequest, format!("{member} is the only voter.")));
    }
    let learners = membership.learners().iter().copied().chain([member]).collect();
    Ok((voters, learners))
}

/// What a client is told where the quorum declines a change.
pub fn refusal(declined: Declined) -> Refusal {
    let error = match declined {
        Declined::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        // As Kafka says it: in a while it may be otherwise.
        Declined::NotYetKnown | Declined::ChangeUnderWay | Declined::Busy => ErrorCode::RequestTimedOut,
        Declined::NoChange | Declined::NotVoter | Declined::TooLarge { .. } => ErrorCode::InvalidRequest,
    };
    (error, format!("{declined}."))
}

fn check_cluster(asked: Option<&Str>, cluster_id: &str) -> Result<(), Refusal> {
    match asked.filter(|asked| ***asked != *cluster_id) {
        None => Ok(()),
        Some(asked) => {
            let message = format!("The given id \"{asked}\" doesn't match the cluster id \"{cluster_id}\".");
            Err((ErrorCode::InconsistentClusterId, message))
        }
    }
}

fn member(node: i32, directory: Uuid) -> Result<Member, Refusal> {
    if node < 0 || directory == Uuid::ZERO {
        let message = "The request names no node by its id and its data folder's.";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    Ok(Member { node: NodeId(node), directory })
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;
    use crate::wire::describe_quorum::{DescribeQuorumPartition, DescribeQuorumTopic};

    fn one(node: i32) -> Member {
        Member { node: NodeId(node), directory: Uuid([u8::try_from(node).expect("a small number"); 16]) }
    }

    /// Node 1 leads, 2 votes, 3 follows closely and 4 does not.
    fn status() -> Status {
        let peer = |node, is_voter, last_index, last_fetch_tick, last_caught_up_tick| PeerStatus {
            member: one(node),
            is_voter,
            last_index,
            last_fetch_tick,
            last_caught_up_tick,
        };
        let members = vec![
            peer(1, true, 9, Some(100), Some(100)),
            peer(2, true, 8, Some(98), Some(90)),
            peer(3, false, 9, Some(99), Some(99)),
            peer(4, false, 0, None, None),
        ];
        Status { role: Role::Leader, term: 7, committed: 8, members, ticks: 100 }
    }

    fn membership() -> Membership {
        let membership = Membership::of([one(1), one(2)]).expect("two voters");
        Membership { learners: [one(3), one(4)].into(), ..membership }
    }

    fn described(topic: &str, partition_index: i32) -> DescribeQuorumResponse {
        let partitions = vec![DescribeQuorumPartition { partition_index }];
        let topics = vec![DescribeQuorumTopic { topic_name: topic.into(), partitions }];
        let clock = Clock { now_ms: 1_000_000, tick_ms: 10 };
        let address_of = |node: NodeId| (node.0 != 2).then(|| ("k".into(), 9093));
        describe_quorum(&DescribeQuorumRequest { topics }, NodeId(1), &status(), clock, address_of)
    }

    #[test]
    fn the_leader_tells_how_far_everybody_is() {
        let response = described("__cluster_metadata", 0);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.leader_id, partition.leader_epoch, partition.high_watermark), (1, 7, 9));
        let told = |replicas: &[ReplicaState]| -> Vec<_> {
            let told = |replica: &ReplicaState| {
                let times = (replica.last_fetch_timestamp, replica.last_caught_up_timestamp);
                (replica.replica_id, replica.log_end_offset, times)
            };
            replicas.iter().map(told).collect()
        };
        assert_eq!(told(&partition.current_voters), [(1, 10, (1_000_000, 1_000_000)), (2, 9, (999_980, 999_900))]);
        assert_eq!(told(&partition.observers), [(3, 10, (999_990, 999_990)), (4, 1, (-1, -1))]);
        let ways: Vec<_> = response.nodes.iter().map(|node| (node.node_id, node.listeners.len())).collect();
        assert_eq!(ways, [(1, 1), (2, 0)], "a voter without an address is a voter");
    }

    #[test]
    fn there_is_no_quorum_but_that_of_the_metadata() {
        for (topic, partition) in [("orders", 0), ("__cluster_metadata", 1)] {
            let response = described(topic, partition);
            let error = response.topics[0].partitions[0].error_code;
            assert_eq!(error, ErrorCode::UnknownTopicOrPartition.code(), "{topic}-{partition}");
        }
    }

    #[test]
    fn a_learner_that_follows_closely_becomes_a_voter() {
        let check = |cluster_id: Option<&str>, node: i32, directory: Uuid, expect: Result<&[i32], ErrorCode>| {
            let request = AddRaftVoterRequest {
                cluster_id: cluster_id.map(Into::into),
                voter_id: node,
                voter_directory_id: directory,
                ..AddRaftVoterRequest::default()
            };
            let changed = with_voter(&request, "c", &membership(), &status(), 5);
            let voters = changed.map(|(voters, learners)| {
                assert!(voters.is_disjoint(&learners));
                voters.iter().map(|voter| voter.node.0).collect::<Vec<_>>()
            });
            assert_eq!(voters.map_err(|(error, _)| error), expect.map(<[i32]>::to_vec));
        };
        check(None, 3, one(3).directory, Ok(&[1, 2, 3]));
        check(Some("c"), 3, one(3).directory, Ok(&[1, 2, 3]));
        check(Some("d"), 3, one(3).directory, Err(ErrorCode::InconsistentClusterId));
        check(None, 2, one(9).directory, Err(ErrorCode::DuplicateVoter));
        check(None, 4, one(4).directory, Err(ErrorCode::RequestTimedOut));
        check(None, 3, one(9).directory, Err(ErrorCode::RequestTimedOut));
        check(None, -1, one(3).directory, Err(ErrorCode::InvalidRequest));
        check(None, 3, Uuid::ZERO, Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn a_voter_that_is_removed_goes_on_following() {
        let request = |node: i32| RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: node,
            voter_directory_id: one(node).directory,
        };
        let (voters, learners) = without_voter(&request(2), "c", &membership()).expect("it is a voter");
        assert_eq!((voters, learners), ([one(1)].into(), [one(2), one(3), one(4)].into()));
        let error = |changed: Result<_, Refusal>| changed.map(|_| ()).map_err(|(error, _)| error);
        assert_eq!(error(without_voter(&request(3), "c", &membership())), Err(ErrorCode::VoterNotFound));
        let alone = Membership::of([one(1)]).expect("a voter");
        assert_eq!(error(without_voter(&request(1), "c", &alone)), Err(ErrorCode::InvalidRequest));
    }
}
