//! Groups: every API in every version, and what `kill -9` in the middle may not take.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_response::Assignment;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::code;
use crate::support::group::{Group, NOBODY};
use crate::support::topic::{Topic, eventually, text};

/// From here on FindCoordinator names several groups at once.
const FIND_SEVERAL: i16 = 4;

#[test]
fn a_coordinator_is_found_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let group = Group::new(&mut client, "found");
    for version in client.versions::<FindCoordinatorRequest>() {
        let (error, host, port) = if version < FIND_SEVERAL {
            let response = client.call(version, &FindCoordinatorRequest::default().with_key(group.id().0.clone()));
            (response.error_code, response.host, response.port)
        } else {
            let keys = vec![group.id().0.clone(), text("another")];
            let mut response = client.call(version, &FindCoordinatorRequest::default().with_coordinator_keys(keys));
            assert_eq!(response.coordinators.len(), 2);
            let found = response.coordinators.remove(0);
            assert_eq!(found.key, group.id().0);
            (found.error_code, found.host, found.port)
        };
        assert_eq!(error, code::NONE, "version {version}");
        let mut there = Client::connect(&format!("{host}:{port}"));
        assert_eq!(there.call(0, &ListGroupsRequest::default()).error_code, code::NONE);
    }
}

#[test]
fn a_member_joins_syncs_beats_and_leaves_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let syncs = client.versions::<SyncGroupRequest>();
    let beats = client.versions::<HeartbeatRequest>();
    let leaves = client.versions::<LeaveGroupRequest>();
    // The first rebalance of a group takes seconds: all versions wait for theirs together.
    thread::scope(|scope| {
        for version in client.versions::<JoinGroupRequest>() {
            let mut client = broker.client();
            let [sync, beat, leave] =
                [&syncs, &beats, &leaves].map(|range| version.clamp(*range.start(), *range.end()));
            scope.spawn(move || {
                let group = Group::new(&mut client, "joined");
                let joined = group.join(&mut client, version);
                assert_eq!((joined.error_code, joined.generation_id), (code::NONE, 1), "version {version}");
                assert_eq!(joined.leader, joined.member_id);
                assert_eq!(joined.protocol_name.as_deref(), Some("mine"));
                assert_eq!(joined.members[0].metadata, Bytes::from_static(b"topics"));
                assert_eq!(group.sync(&mut client, sync, &joined), Bytes::from_static(b"all"));
                assert_eq!(group.beat(&mut client, beat, &joined), code::NONE);
                assert_eq!(group.leave(&mut client, leave, &joined), code::NONE);
                assert_eq!(group.beat(&mut client, beat, &joined), code::UNKNOWN_MEMBER_ID);
            });
        }
    });
}

#[test]
fn a_member_is_described_with_its_client_and_its_address() {
    let broker = Broker::start();
    let mut client = broker.client();
    let group = Group::new(&mut client, "described");
    let joined = group.join(&mut client, 5);
    group.sync(&mut client, 3, &joined);
    for version in client.versions::<DescribeGroupsRequest>() {
        let response = client.call(version, &DescribeGroupsRequest::default().with_groups(vec![group.id().clone()]));
        let described = &response.groups[0];
        assert_eq!((described.error_code, described.group_state.as_str()), (code::NONE, "Stable"), "version {version}");
        assert_eq!((described.protocol_type.as_str(), described.protocol_data.as_str()), ("consumer", "mine"));
        let member = &described.members[0];
        assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("end-to-end", "/127.0.0.1"));
        assert_eq!(member.member_assignment, Bytes::from_static(b"all"));
    }
}

#[test]
fn a_commit_of_every_version_is_fetched_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "committed", 1, &[]);
    let group = Group::new(&mut client, "committed");
    for (offset, version) in (10..).zip(client.versions::<OffsetCommitRequest>()) {
        assert_eq!(group.commit(&mut client, &topic, version, offset), code::NONE, "version {version}");
        for version in client.versions::<OffsetFetchRequest>() {
            assert_eq!(group.committed(&mut client, &topic, version), (offset, "where I am".to_owned()));
        }
    }
}

#[test]
fn groups_are_listed_and_deleted_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "listed", 1, &[]);
    for version in client.versions::<DeleteGroupsRequest>() {
        let group = Group::new(&mut client, "listed");
        assert_eq!(group.commit(&mut client, &topic, 5, 1), code::NONE);
        for version in client.versions::<ListGroupsRequest>() {
            let response = client.call(version, &ListGroupsRequest::default());
            assert_eq!(response.error_code, code::NONE, "version {version}");
            let listed = response.groups.iter().find(|listed| listed.group_id == *group.id()).expect("it is listed");
            if version >= 4 {
                assert_eq!(listed.group_state.as_str(), "Empty");
            }
        }
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group.id().clone()]);
        assert_eq!(client.call(version, &request).results[0].error_code, code::NONE, "version {version}");
        assert_eq!(client.call(version, &request).results[0].error_code, code::GROUP_ID_NOT_FOUND);
        assert_eq!(group.committed(&mut client, &topic, 5).0, -1);
    }
}

#[test]
fn an_offset_is_deleted() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "forgotten", 1, &[]);
    let group = Group::new(&mut client, "forgotten");
    assert_eq!(group.commit(&mut client, &topic, 5, 1), code::NONE);
    for version in client.versions::<OffsetDeleteRequest>() {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let asked = OffsetDeleteRequestTopic::default().with_name(topic.name.clone()).with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default().with_group_id(group.id().clone()).with_topics(vec![asked]);
        let response = client.call(version, &request);
        assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (code::NONE, code::NONE));
    }
    assert_eq!(group.committed(&mut client, &topic, 5).0, -1);
}

#[test]
fn a_member_of_the_next_protocol_is_assigned_by_the_broker_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "assigned", 3, &[]);
    for version in client.versions::<ConsumerGroupHeartbeatRequest>() {
        let group = Group::new(&mut client, "assigned");
        let own = text("a-member-of-its-own-name");
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group.id().clone())
            .with_member_id(if version == 0 { NOBODY } else { own })
            .with_member_epoch(0)
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(vec![topic.name.clone()]))
            .with_topic_partitions(Some(Vec::new()));
        let joined = client.call(version, &request);
        assert_eq!(joined.error_code, code::NONE, "version {version}: {:?}", joined.error_message);
        let member = joined.member_id.clone().expect("it is named");
        let partitions = |assignment: &Assignment| -> BTreeSet<i32> {
            assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.iter().copied()).collect()
        };
        let mut owned = joined.assignment.as_ref().map(partitions).unwrap_or_default();
        let mut epoch = joined.member_epoch;
        eventually("the member has all partitions", || {
            let request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(group.id().clone())
                .with_member_id(member.clone())
                .with_member_epoch(epoch);
            let response = client.call(version, &request);
            assert_eq!(response.error_code, code::NONE, "version {version}");
            epoch = response.member_epoch;
            if let Some(assignment) = &response.assignment {
                owned = partitions(assignment);
            }
            owned.len() == 3
        });
        for version in client.versions::<ConsumerGroupDescribeRequest>() {
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group.id().clone()]);
            let response = client.call(version, &request);
            let described = &response.groups[0];
            assert_eq!(described.error_code, code::NONE, "version {version}");
            assert_eq!(described.members[0].member_id, member);
            assert_eq!(described.members[0].client_host.as_str(), "/127.0.0.1");
        }
    }
}

#[test]
fn what_a_killed_broker_acknowledged_is_what_its_next_run_tells() {
    // So many are acknowledged before each death.
    const COMMITS: i64 = 100;
    let Some(mut broker) = Broker::start_own(&["--set", "group.initial.rebalance.delay.ms=0"]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "killed", 4, &[]);
    let group = Group::new(&mut client, "killed");
    let member = Group::new(&mut client, "member");
    let joined = member.join(&mut client, 5);
    assert_eq!(joined.error_code, code::NONE);
    member.sync(&mut client, 3, &joined);
    let mut offset = 0;
    for _ in 0..5 {
        let address = broker.address().to_owned();
        let (tell, enough) = mpsc::channel();
        let (acknowledged, sent) = thread::scope(|scope| {
            let committing = scope.spawn(|| {
                let mut client = Client::connect(&address);
                let (mut acknowledged, mut sent) = (offset, offset);
                loop {
                    sent += 1;
                    let request = group.commit_request(&topic, 8, 0, sent);
                    let Ok(response) = client.try_call(8, &request) else { return (acknowledged, sent) };
                    assert_eq!(response.topics[0].partitions[0].error_code, code::NONE);
                    acknowledged = sent;
                    if acknowledged - offset == COMMITS {
                        tell.send(()).expect("the test waits for this");
                    }
                }
            });
            let told = enough.recv_timeout(Duration::from_secs(20));
            // By now another one is in flight.
            broker.kill();
            let ended = committing.join().expect("the commits are sound");
            told.expect("that many commits are acknowledged in time");
            ended
        });
        broker.restart();
        let mut client = broker.client();
        group.wait_for_coordinator(&mut client);
        offset = group.committed(&mut client, &topic, 8).0;
        assert!((acknowledged..=sent).contains(&offset), "{offset} is not within {acknowledged}..={sent}");
        member.wait_for_coordinator(&mut client);
        assert_eq!(member.beat(&mut client, 3, &joined), code::NONE, "its generation goes on");
    }
}

#[test]
fn a_broker_that_stops_sends_away_whoever_waits_in_a_group() {
    let Some(mut broker) = Broker::start_own(&["--set", "group.initial.rebalance.delay.ms=60000"]) else { return };
    let mut client = broker.client();
    let group = Group::new(&mut client, "waiting");
    let sent = client.send(3, &group.join_request(3, &NOBODY)).expect("the connection is open");
    eventually("the member waits", || {
        let request = DescribeGroupsRequest::default().with_groups(vec![group.id().clone()]);
        broker.client().call(0, &request).groups[0].group_state.as_str() == "PreparingRebalance"
    });
    let began = Instant::now();
    assert!(broker.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(20));
    let response = client.receive::<JoinGroupRequest>(3, sent).expect("an answer before the end");
    assert_eq!(response.error_code, code::NOT_COORDINATOR);
}
