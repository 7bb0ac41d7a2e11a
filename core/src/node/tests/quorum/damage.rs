//! A replica whose log is damaged makes way for the others, and is made anew from theirs.

use super::*;
use crate::boundary::SegmentName;
use crate::controller::records::PartitionState;
use crate::ids::Offset;

const TOPIC: &str = "t";

impl Cluster {
    /// Creates a topic of one partition with these replicas.
    fn assign(&mut self, replicas: &[i32], configs: &[(&'static str, &'static str)]) -> TopicPartition {
        let assigned = CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas.to_vec() };
        let config = |&(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![assigned],
            configs: configs.iter().map(config).collect(),
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        let Response::CreateTopics(answer) = self.answer(replicas[0], 7, request.into()) else { panic!("another") };
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        TopicPartition { topic: answer.topics[0].topic_id, partition: 0 }
    }

    fn state(&self, node: i32, id: TopicPartition) -> PartitionState {
        self.node(node).controller.image().partition(id).expect("it was made").clone()
    }

    fn leader(&self, node: i32, id: TopicPartition) -> Option<i32> {
        self.state(node, id).leader.map(|leader| leader.0)
    }

    fn in_sync(&self, node: i32, id: TopicPartition) -> BTreeSet<i32> {
        self.state(node, id).isr.iter().map(|member| member.0).collect()
    }

    fn hosted(&self, node: i32, id: TopicPartition) -> &Hosted {
        let node = self.node(node);
        node.hosts[node.by_id[&id] as usize].as_ref().expect("it is hosted")
    }

    fn end(&self, node: i32, id: TopicPartition) -> i64 {
        self.hosted(node, id).partition.log().end().0
    }

    /// A read has met damage in a segment of the partition.
    fn damage(&mut self, node: i32, id: TopicPartition) {
        let broker = self.broker(node);
        let process = broker.node.as_mut().expect("it runs");
        let slot = process.by_id[&id];
        let segment = SegmentName::appended(id, Offset(0));
        let error = DiskError::Corrupt(FileName::Segment(segment), 7, "bit rot".into());
        process.refuse_unreadable(slot, &error, &mut broker.out);
        self.carry_out(node);
        self.settle();
    }
}

/// A cluster of three with a topic on all of them, and four records in it.
fn written() -> (Cluster, TopicPartition) {
    let mut cluster = Cluster::running(3);
    let id = cluster.assign(&[1, 2, 3], &[]);
    for _ in 0..4 {
        cluster.produce(1, TOPIC);
    }
    cluster.pass(50);
    (cluster, id)
}

fn check_all_is_well(cluster: &Cluster, id: TopicPartition, end: i64) {
    for node in 1..=3 {
        assert_eq!(cluster.node(node).damaged, BTreeSet::new(), "{}", cluster.lines);
        assert_eq!(cluster.end(node, id), end, "node {node}: {}", cluster.lines);
    }
    assert_eq!(cluster.in_sync(1, id), BTreeSet::from([1, 2, 3]), "{}", cluster.lines);
}

#[test]
fn a_damaged_leader_makes_way_at_once_and_follows_with_a_log_that_is_made_anew() {
    let (mut cluster, id) = written();
    cluster.damage(1, id);
    cluster.pass(150);
    let next = cluster.leader(2, id).expect("two others are in sync");
    assert_ne!(next, 1, "{}", cluster.lines);
    cluster.produce(next, TOPIC);
    cluster.pass(2_000);
    check_all_is_well(&cluster, id, 5);
    // The journal of the one that was damaged says the same after a start.
    cluster.kill(1);
    cluster.start(1);
    cluster.pass(15_000);
    check_all_is_well(&cluster, id, 5);
}

/// One that follows, the partition as the metadata.
fn follower(cluster: &Cluster) -> i32 {
    (2..=3).find(|node| Some(*node) != cluster.controller()).expect("one of two")
}

#[test]
fn what_a_damaged_follower_had_acknowledged_does_not_bring_it_back() {
    let (mut cluster, id) = written();
    let damaged = follower(&cluster);
    let before = cluster.state(1, id);
    cluster.damage(damaged, id);
    assert_eq!(cluster.state(1, id), before, "nobody has been told");
    assert_eq!(cluster.end(damaged, id), 4, "nothing is thrown away before others know");
    // What it copies takes its time, and its leader has nothing to say that it would have to acknowledge.
    cluster.slow = Some(damaged);
    cluster.pass(500);
    assert!(!cluster.in_sync(1, id).contains(&damaged), "{}", cluster.lines);
    assert_eq!(cluster.leader(1, id), Some(1));
    cluster.catch_up();
    cluster.pass(500);
    check_all_is_well(&cluster, id, 4);
}

#[test]
fn a_broker_that_begins_with_damage_tells_of_it_before_it_can_be_elected() {
    let (mut cluster, id) = written();
    let damaged = follower(&cluster);
    cluster.cut_off(damaged);
    cluster.damage(damaged, id);
    cluster.broker(damaged).node.as_mut().expect("it runs").checkpoint_soon();
    cluster.pass(1_000);
    cluster.kill(damaged);
    cluster.heal();
    cluster.start(damaged);
    assert_eq!(cluster.node(damaged).damaged, BTreeSet::from([id]), "a checkpoint keeps it");
    assert!(cluster.in_sync(1, id).contains(&damaged), "nobody else knows");
    for _ in 0..15_000 {
        cluster.pass(1);
        let may_lead = cluster.node(1).controller.image().is_active(NodeId(damaged));
        let is_whole = cluster.end(damaged, id) == 4 && cluster.node(damaged).damaged.is_empty();
        let is_registered = cluster.node(damaged).broker_epoch().is_some();
        let counts = may_lead && is_registered && cluster.in_sync(1, id).contains(&damaged);
        assert!(!counts || is_whole, "{}", cluster.lines);
    }
    check_all_is_well(&cluster, id, 4);
    // What begins anew in the journal is whole, whatever the checkpoint before it says.
    cluster.kill(damaged);
    cluster.start(damaged);
    assert_eq!(cluster.node(damaged).damaged, BTreeSet::new());
    cluster.pass(15_000);
    check_all_is_well(&cluster, id, 4);
}

#[test]
fn the_only_replica_in_sync_keeps_what_is_left_of_it_unless_the_topic_asks_for_another() {
    let check = |configs: &[(&'static str, &'static str)], is_unclean: bool| {
        let mut cluster = Cluster::running(3);
        let id = cluster.assign(&[1, 2], configs);
        cluster.kill(2);
        cluster.pass(15_000);
        cluster.produce(1, TOPIC);
        cluster.damage(1, id);
        cluster.pass(5_000);
        let state = cluster.state(1, id);
        assert_eq!((state.leader, state.unclean_epoch), (Some(NodeId(1)), None), "{}", cluster.lines);
        cluster.start(2);
        cluster.pass(15_000);
        assert_eq!(cluster.state(1, id).unclean_epoch.is_some(), is_unclean, "{}", cluster.lines);
        assert_eq!(cluster.node(1).damaged.is_empty(), is_unclean, "{}", cluster.lines);
    };
    check(&[], false);
    check(&[("unclean.leader.election.enable", "true")], true);
}
