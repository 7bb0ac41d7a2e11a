//! Who agrees on the metadata, and who belongs to the cluster, in every version.

use std::collections::BTreeMap;

use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::{PartitionData as Described, ReplicaState};
use kafka_protocol::messages::{
    AddRaftVoterRequest, BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, MetadataRequest,
    RemoveRaftVoterRequest, TopicName, UnregisterBrokerRequest,
};

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::cluster::{Cluster, NODES, wait_for};
use crate::support::code;
use crate::support::topic::text;

/// What Kafka calls the metadata log.
const METADATA: &str = "__cluster_metadata";

fn ask(client: &mut Client, version: i16, topic: &str, partition: i32) -> DescribeQuorumResponse {
    let partition = PartitionData::default().with_partition_index(partition);
    let topic = TopicData::default().with_topic_name(TopicName(text(topic))).with_partitions(vec![partition]);
    let response = client.call(version, &DescribeQuorumRequest::default().with_topics(vec![topic]));
    assert_eq!(response.error_code, code::NONE, "version {version}: {:?}", response.error_message);
    response
}

fn described(client: &mut Client, version: i16) -> Described {
    let described = ask(client, version, METADATA, 0).topics.remove(0).partitions.remove(0);
    assert_eq!(described.error_code, code::NONE, "version {version}: {:?}", described.error_message);
    described
}

fn nodes(replicas: &[ReplicaState]) -> Vec<i32> {
    let mut nodes: Vec<i32> = replicas.iter().map(|replica| replica.replica_id.0).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_broker_that_stands_alone_is_a_quorum_of_one_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let node = client.call(1, &MetadataRequest::default()).brokers[0].node_id;
    for version in client.versions::<DescribeQuorumRequest>() {
        let quorum = described(&mut client, version);
        assert_eq!((quorum.leader_id, nodes(&quorum.current_voters)), (node, vec![node.0]), "version {version}");
        assert!(quorum.observers.is_empty() && quorum.leader_epoch > 0, "version {version}: {quorum:?}");
        let voter = &quorum.current_voters[0];
        assert!((1..=voter.log_end_offset).contains(&quorum.high_watermark), "version {version}: {quorum:?}");
        if version >= 1 {
            assert!(voter.last_caught_up_timestamp > 0, "version {version}: {voter:?}");
        }
        if version >= 2 {
            assert!(!voter.replica_directory_id.is_nil(), "version {version}: {voter:?}");
        }
        for (topic, partition) in [("orders", 0), (METADATA, 1)] {
            let unknown = ask(&mut client, version, topic, partition).topics.remove(0).partitions.remove(0);
            assert_eq!(unknown.error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "version {version}: {topic}-{partition}");
        }
    }
}

#[test]
fn every_node_tells_of_the_quorum_in_every_version() {
    let Some(cluster) = Cluster::start() else { return };
    let controller = cluster.controller();
    for node in NODES {
        let mut client = cluster.client(node);
        for version in client.versions::<DescribeQuorumRequest>() {
            let mut response = ask(&mut client, version, METADATA, 0);
            if version >= 2 {
                let ports: BTreeMap<i32, u16> =
                    response.nodes.iter().map(|node| (node.node_id.0, node.listeners[0].port)).collect();
                let told = NODES.map(|node| format!("127.0.0.1:{}", ports[&node]));
                assert_eq!(told, NODES.map(|node| cluster.raft_addr(node)), "version {version}");
            }
            let quorum = response.topics.remove(0).partitions.remove(0);
            assert_eq!(quorum.leader_id.0, controller, "version {version}");
            assert_eq!((&nodes(&quorum.current_voters)[..], quorum.observers.len()), (&NODES[..], 0));
        }
    }
}

#[test]
fn a_voter_is_removed_and_added_in_every_version_and_a_broker_unregistered() {
    let Some(mut cluster) = Cluster::start() else { return };
    let controller = cluster.controller();
    let [victim, other] = *NODES.into_iter().filter(|node| *node != controller).collect::<Vec<_>>() else {
        panic!("three nodes")
    };
    // Not of the one who decides: it hands requests on.
    let mut client = cluster.client(other);
    let voters = described(&mut client, 2).current_voters;
    let [voter, another] =
        [victim, other].map(|node| voters.iter().find(|voter| voter.replica_id.0 == node).expect("it votes").clone());
    let stranger = voter.clone().with_replica_directory_id(another.replica_directory_id);
    let raft_addr = cluster.raft_addr(victim);
    let (_, port) = raft_addr.rsplit_once(':').expect("a host and a port");
    let listener = Listener::default()
        .with_name(text("RAFT"))
        .with_host(text("127.0.0.1"))
        .with_port(port.parse().expect("a port"));

    for version in client.versions::<RemoveRaftVoterRequest>() {
        for add_version in client.versions::<AddRaftVoterRequest>() {
            assert_eq!(remove(&mut client, version, &stranger), code::VOTER_NOT_FOUND, "version {version}");
            assert_eq!(remove(&mut client, version, &voter), code::NONE, "version {version}");
            let quorum = described(&mut client, 2);
            assert!(!nodes(&quorum.current_voters).contains(&victim), "{quorum:?}");
            assert_eq!(nodes(&quorum.observers), [victim], "it goes on following");
            assert_eq!(remove(&mut client, version, &voter), code::VOTER_NOT_FOUND, "version {version}");

            let mut add = |cluster_id| {
                let request = AddRaftVoterRequest::default()
                    .with_cluster_id(cluster_id)
                    .with_timeout_ms(10_000)
                    .with_voter_id(victim)
                    .with_voter_directory_id(voter.replica_directory_id)
                    .with_listeners(vec![listener.clone()]);
                settled("a voter is added", || client.call(add_version, &request).error_code)
            };
            assert_eq!(add(Some(text("another"))), code::INCONSISTENT_CLUSTER_ID, "version {add_version}");
            assert_eq!(add(None), code::NONE, "version {add_version}");
            assert_eq!(add(None), code::DUPLICATE_VOTER, "version {add_version}");
            assert_eq!(nodes(&described(&mut client, 2).current_voters), NODES);
        }
    }

    assert_eq!(remove(&mut client, 0, &voter), code::NONE);
    for version in client.versions::<UnregisterBrokerRequest>() {
        let mut unregister =
            |node| client.call(version, &UnregisterBrokerRequest::default().with_broker_id(BrokerId(node))).error_code;
        assert_eq!(unregister(9), code::BROKER_ID_NOT_REGISTERED, "version {version}");
        // Kafka forgets it at once, though it would go on serving what it no longer leads.
        assert_eq!(unregister(victim), code::INVALID_REQUEST, "version {version}: it serves");
        cluster.kill(victim);
        let forgotten = wait_for("it is missed, and may be forgotten", || {
            Some(unregister(victim)).filter(|code| *code != code::INVALID_REQUEST)
        });
        assert_eq!(forgotten, code::NONE, "version {version}");
        assert_eq!(unregister(victim), code::BROKER_ID_NOT_REGISTERED, "version {version}");
        // It comes back as one that is new, for the next version to ask about.
        cluster.restart(victim);
        cluster.wait_until_all_serve();
    }
}

/// The error code for removing a voter.
fn remove(client: &mut Client, version: i16, voter: &ReplicaState) -> i16 {
    let request = RemoveRaftVoterRequest::default()
        .with_cluster_id(None)
        .with_voter_id(voter.replica_id.0)
        .with_voter_directory_id(voter.replica_directory_id);
    settled("a voter is removed", || client.call(version, &request).error_code)
}

/// The code of an answer other than that it is too early: another change is under way, or the node is not close enough.
fn settled(claim: &str, mut ask: impl FnMut() -> i16) -> i16 {
    wait_for(claim, || Some(ask()).filter(|code| *code != code::REQUEST_TIMED_OUT))
}
