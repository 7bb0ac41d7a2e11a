//! Replicas and leaderships that an administrator moves, in every version.

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ElectLeadersRequest, ListPartitionReassignmentsRequest, TopicName,
};

use crate::support::client::Client;
use crate::support::cluster::{Cluster, NODES, wait_for};
use crate::support::code;
use crate::support::topic::{Topic, fresh_name};

/// Who may be elected: the first of the replicas, or anybody where nobody leads.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// The error codes for the whole and for partition 0 of a topic; the second is none where the partition is not told of.
fn elect(client: &mut Client, version: i16, election_type: i8, topic: Option<&TopicName>) -> (i16, Option<i16>) {
    let topics = topic.map(|name| vec![TopicPartitions::default().with_topic(name.clone()).with_partitions(vec![0])]);
    let mut request = ElectLeadersRequest::default().with_topic_partitions(topics).with_timeout_ms(10_000);
    if version >= 1 {
        request = request.with_election_type(election_type);
    }
    let response = client.call(version, &request);
    let told = response.replica_election_results.iter().find(|told| topic.is_none_or(|name| told.topic == *name));
    (response.error_code, told.map(|told| told.partition_result[0].error_code))
}

#[test]
fn the_preferred_leader_is_elected_in_every_version() {
    let Some(cluster) = Cluster::start() else { return };
    let topic = cluster.create(1, "elect", 1);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let mut client = cluster.client(1);
    for version in client.versions::<ElectLeadersRequest>() {
        for named in [Some(&topic.name), None] {
            let leader = cluster.leader(&topic, 0);
            let mut order = NODES;
            order.sort_by_key(|node| *node == leader);
            let preferred = order[0];
            cluster.assign(&topic, 1, &order);
            assert_eq!(
                elect(&mut client, version, PREFERRED, named),
                (code::NONE, Some(code::NONE)),
                "version {version}"
            );
            wait_for("it leads", || (cluster.try_leader(&topic, 0) == Some(preferred)).then_some(()));
            // Who names no partition is told of those alone that something happens to.
            let again = named.map(|_| code::ELECTION_NOT_NEEDED);
            assert_eq!(elect(&mut client, version, PREFERRED, named), (code::NONE, again), "version {version}");
        }
        let unknown = (code::NONE, Some(code::UNKNOWN_TOPIC_OR_PARTITION));
        assert_eq!(elect(&mut client, version, PREFERRED, Some(&fresh_name("nowhere"))), unknown, "version {version}");
        if version >= 1 {
            let led = (code::NONE, Some(code::ELECTION_NOT_NEEDED));
            assert_eq!(elect(&mut client, version, UNCLEAN, Some(&topic.name)), led, "version {version}");
            assert_eq!(elect(&mut client, version, 9, Some(&topic.name)).0, code::INVALID_REQUEST, "version {version}");
        }
    }
}

/// The error code for moving partition 0 to `nodes`, or for stopping that.
fn reassign(client: &mut Client, version: i16, topic: &Topic, nodes: Option<&[i32]>, may_resize: bool) -> i16 {
    let replicas = nodes.map(|nodes| nodes.iter().map(|node| BrokerId(*node)).collect());
    let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(replicas);
    let of = ReassignableTopic::default().with_name(topic.name.clone()).with_partitions(vec![partition]);
    let mut request = AlterPartitionReassignmentsRequest::default().with_timeout_ms(10_000).with_topics(vec![of]);
    if version >= 1 {
        request = request.with_allow_replication_factor_change(may_resize);
    }
    let mut response = client.call(version, &request);
    assert_eq!(response.error_code, code::NONE, "version {version}: {:?}", response.error_message);
    assert_eq!(response.allow_replication_factor_change, may_resize || version < 1, "version {version}");
    response.responses.remove(0).partitions.remove(0).error_code
}

/// What is under way: of each partition 0 its topic, and its replicas, those that come and those that go.
fn under_way(client: &mut Client, version: i16, topics: Option<&[&TopicName]>) -> Vec<(TopicName, [Vec<i32>; 3])> {
    let of = |name: &&TopicName| {
        ListPartitionReassignmentsTopics::default().with_name((*name).clone()).with_partition_indexes(vec![0])
    };
    let topics = topics.map(|topics| topics.iter().map(of).collect());
    let request = ListPartitionReassignmentsRequest::default().with_topics(topics).with_timeout_ms(10_000);
    let response = client.call(version, &request);
    assert_eq!(response.error_code, code::NONE, "version {version}: {:?}", response.error_message);
    let numbers = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let told = response.topics.into_iter().map(|topic| {
        let [partition] = &topic.partitions[..] else { panic!("version {version}: {topic:?}") };
        let nodes = [&partition.replicas, &partition.adding_replicas, &partition.removing_replicas];
        (topic.name.clone(), nodes.map(|nodes| numbers(nodes)))
    });
    told.collect()
}

#[test]
fn a_move_begins_is_listed_and_stopped_in_every_version() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = cluster.create(1, "move", 1);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let controller = cluster.controller();
    let [away, other] = *NODES.into_iter().filter(|node| *node != controller).collect::<Vec<_>>() else {
        panic!("three nodes")
    };
    // A move there stays under way.
    cluster.kill(away);
    cluster.wait_until_in_sync(&topic, &[controller.min(other), controller.max(other)], &[controller, other]);
    let mut client = cluster.client(other);
    for version in client.versions::<AlterPartitionReassignmentsRequest>() {
        let here = [controller, other];
        assert_eq!(reassign(&mut client, version, &topic, Some(&here), true), code::NONE, "version {version}");
        assert_eq!(
            reassign(&mut client, version, &topic, None, true),
            code::NO_REASSIGNMENT_IN_PROGRESS,
            "version {version}"
        );
        let nowhere = reassign(&mut client, version, &topic, Some(&[controller, 9]), true);
        assert_eq!(nowhere, code::INVALID_REPLICA_ASSIGNMENT, "version {version}");
        let there = [controller, away];
        if version >= 1 {
            let fewer = reassign(&mut client, version, &topic, Some(&there[..1]), false);
            assert_eq!(fewer, code::INVALID_REPLICATION_FACTOR, "version {version}");
        }
        assert_eq!(reassign(&mut client, version, &topic, Some(&there), true), code::NONE, "version {version}");
        let moving = [(topic.name.clone(), [vec![controller, away, other], vec![away], vec![other]])];
        for list in client.versions::<ListPartitionReassignmentsRequest>() {
            let elsewhere = fresh_name("elsewhere");
            assert_eq!(under_way(&mut client, list, None), moving, "version {list}");
            assert_eq!(under_way(&mut client, list, Some(&[&topic.name])), moving, "version {list}");
            assert_eq!(under_way(&mut client, list, Some(&[&elsewhere])), [], "version {list}");
        }
        assert_eq!(reassign(&mut client, version, &topic, None, true), code::NONE, "version {version}");
        assert_eq!(under_way(&mut client, 0, None), [], "version {version}");
    }
}
