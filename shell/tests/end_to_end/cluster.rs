//! Three processes that are one cluster: what survives when one of them is killed, stopped, or comes back with nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;

use crate::support::batch::Batch;
use crate::support::broker::{Broker, free_port};
use crate::support::cluster::{Cluster, NODES, Producer, wait_for};
use crate::support::code;
use crate::support::topic::Topic;

/// The nodes but one.
fn others(node: i32) -> Vec<i32> {
    NODES.into_iter().filter(|other| *other != node).collect()
}

#[test]
fn every_node_tells_the_same_and_creates_topics() {
    let Some(cluster) = Cluster::start() else { return };
    for node in NODES {
        let topic = cluster.create(node, "anywhere", 3);
        cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    }
    wait_for("all tell the same", || {
        let [one, two, three] = NODES.map(|node| cluster.told_by(node));
        let told = one.filter(|told| Some(told) == two.as_ref() && two == three)?;
        assert_eq!((told.brokers.len(), told.topics.len()), (3, 3));
        assert!(NODES.contains(&told.controller_id.0), "{told:?}");
        for topic in &told.topics {
            // Nobody leads more than others do.
            let mut leaders: Vec<i32> = topic.partitions.iter().map(|partition| partition.leader_id.0).collect();
            leaders.sort_unstable();
            assert_eq!(leaders, NODES, "{topic:?}");
        }
        Some(())
    });
}

#[test]
fn nodes_that_meet_the_only_founder_before_there_is_a_cluster_are_part_of_it() {
    let Some(cluster) = Cluster::start_by_one_founder() else { return };
    let topic = cluster.create(2, "founded", 1);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
}

#[test]
fn what_was_acknowledged_is_there_once_and_in_order_after_kill_9_of_each_leader_in_turn() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = cluster.create(1, "failover", 1);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let mut producer = Producer::new(&cluster, 0);
    let mut killed = Vec::new();
    for _ in 0..2 {
        producer.write(&cluster, &topic, 20);
        let leader = cluster.leader(&topic, 0);
        cluster.kill(leader);
        // The first of these finds its connection gone and the next leader.
        producer.write(&cluster, &topic, 20);
        assert_ne!(cluster.leader(&topic, 0), leader);
        producer.check(&cluster, &topic);
        cluster.restart(leader);
        // The one that comes back holds all that was written without it, so the next leader may be killed.
        cluster.wait_until_in_sync(&topic, &NODES, &NODES);
        killed.push(leader);
    }
    assert_ne!(killed[0], killed[1]);
    producer.write(&cluster, &topic, 1);
    producer.check(&cluster, &topic);
}

#[test]
fn a_leader_that_was_frozen_acknowledges_nothing_once_another_leads() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = cluster.create(1, "frozen", 1);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let mut producer = Producer::new(&cluster, 0);
    producer.write(&cluster, &topic, 5);
    let leader = cluster.leader(&topic, 0);
    let mut stale = cluster.client(leader);
    // What is asked for now is read only when the process goes on.
    cluster.freeze(leader);
    let late = topic.produce_request(9, 0, -1, Batch::of(["late"]).encode());
    let asked = stale.send(9, &late).expect("the connection is open");
    let rest = others(leader);
    cluster.wait_until_in_sync(&topic, &rest, &rest);
    producer.write(&cluster, &topic, 5);
    cluster.thaw(leader);
    let mut answer = stale.receive::<ProduceRequest>(9, asked).expect("an answer, though late");
    let answer = answer.responses.remove(0).partition_responses.remove(0);
    assert!(code::PASSING_FOR_PRODUCERS.contains(&answer.error_code), "{answer:?}");
    // It follows, and gives up what it may have written when it did not know.
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    producer.write(&cluster, &topic, 5);
    producer.check(&cluster, &topic);
}

#[test]
fn a_topic_is_created_after_kill_9_of_the_controller() {
    let Some(mut cluster) = Cluster::start() else { return };
    let controller = cluster.controller();
    let rest = others(controller);
    cluster.kill(controller);
    // By a node that may not have missed it yet: the request waits until there is another.
    let topic = cluster.create(rest[0], "after", 2);
    let successor = wait_for("another controller", || Some(cluster.controller()).filter(|node| *node != controller));
    assert!(rest.contains(&successor));
    // It was made before or after the old one was missed; it is written to in either case.
    cluster.wait_until_in_sync(&topic, &rest, &rest);
    let mut producers = [Producer::new(&cluster, 0), Producer::new(&cluster, 1)];
    for producer in &mut producers {
        producer.write(&cluster, &topic, 2);
        producer.check(&cluster, &topic);
    }
    cluster.restart(controller);
    cluster.wait_until_all_serve();
    let whole = cluster.create(controller, "whole", 1);
    cluster.wait_until_in_sync(&whole, &NODES, &NODES);
}

#[test]
fn a_cluster_whose_nodes_are_all_killed_comes_back_with_everything() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = cluster.create(2, "blackout", 2);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let mut producers = [Producer::new(&cluster, 0), Producer::new(&cluster, 1)];
    for producer in &mut producers {
        producer.write(&cluster, &topic, 20);
    }
    NODES.iter().for_each(|node| cluster.kill(*node));
    NODES.iter().for_each(|node| cluster.restart(*node));
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    for producer in &mut producers {
        producer.check(&cluster, &topic);
        producer.write(&cluster, &topic, 2);
        producer.check(&cluster, &topic);
    }
}

#[test]
fn a_node_that_comes_back_with_nothing_is_refused_by_name() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.kill(3);
    fs::remove_dir_all(cluster.node(3).data_dir()).expect("a folder of the test's own");
    let ended = cluster.node(3).restart_to_end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let faults: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("chronik-server: ")).collect();
    let [fault] = faults.as_slice() else { panic!("not one line of fault:\n{}", ended.stderr) };
    for word in ["node 3", "remove-node", "add-node"] {
        assert!(fault.contains(word), "{word:?} is missing from {fault:?}");
    }
    // The others go on.
    cluster.create(1, "without", 1);
}

#[test]
fn sigterm_moves_what_a_node_leads_and_ends_it_with_exit_code_0() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = cluster.create(1, "orderly", 3);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let leader = cluster.leader(&topic, 0);
    let mut producer = Producer::new(&cluster, 0);
    producer.write(&cluster, &topic, 5);
    let begun = Instant::now();
    let status = cluster.terminate(leader);
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    // It does not wait for the end of the time that an orderly stop may take, 30 s.
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
    // Nobody has to miss it first.
    assert_ne!(cluster.leader(&topic, 0), leader);
    producer.write(&cluster, &topic, 5);
    producer.check(&cluster, &topic);
    cluster.restart(leader);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
}

#[test]
fn a_standalone_folder_is_a_cluster_of_one_with_all_its_data() {
    let Some(mut broker) = Broker::start_own(&[]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "alone", 2, &[]);
    let written = topic.produce(&mut client, 1, &Batch::numbered(10));
    assert_eq!(written, 0);
    let expect = topic.read(&mut client, 1, 0);
    broker.terminate();
    broker.restart_with(&["raft-cluster", "--node-id", "1", "--raft-addr", &format!("127.0.0.1:{}", free_port())]);
    let mut client = broker.client();
    assert_eq!(topic.describe(&mut client).topic_id, topic.created.topic_id);
    assert_eq!(topic.read(&mut client, 1, 0), expect);
    assert_eq!(topic.produce(&mut client, 1, &Batch::numbered(1)), 10);
}
