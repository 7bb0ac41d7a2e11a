//! Partitions that move to other brokers.

use chronik_core::controller::{Listing, PARTITIONS_PER_REQUEST_MAX};
use chronik_core::ids::{LeaderEpoch, NodeId, Uuid};
use chronik_core::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_core::wire::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};

use super::{Cluster, error};

impl Cluster {
    /// Asks for a partition of "t" to move, or with `None`, to stay; and returns what became of that.
    fn reassign(&mut self, partition_index: i32, replicas: Option<&[i32]>) -> &'static str {
        self.reassign_all(&[(partition_index, replicas)], true).remove(0)
    }

    fn reassign_all(&mut self, asked: &[(i32, Option<&[i32]>)], may_resize: bool) -> Vec<&'static str> {
        let partitions = asked
            .iter()
            .map(|(partition_index, replicas)| ReassignablePartition {
                partition_index: *partition_index,
                replicas: replicas.map(<[i32]>::to_vec),
            })
            .collect();
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic { name: "t".into(), partitions }],
            allow_replication_factor_change: may_resize,
            ..Default::default()
        };
        let decision = self.controller.alter_partition_reassignments(&request);
        let response = self.commit(decision);
        response.responses[0].partitions.iter().map(|partition| error(partition.error_code)).collect()
    }

    /// Replicas, adding and removing ones of a partition, for short.
    fn moving(&self, topic: Uuid, partition: i32) -> String {
        let state = self.state(topic, partition);
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.to_string()).collect::<Vec<_>>().join(",");
        format!("{} +{} -{}", numbers(&state.replicas), numbers(&state.adding), numbers(&state.removing))
    }

    fn listed(&self, request: &ListPartitionReassignmentsRequest) -> Vec<(String, Vec<i32>)> {
        let response = self.controller.list_partition_reassignments(request);
        let topics = response.topics.iter().map(|topic| {
            (topic.name.to_string(), topic.partitions.iter().map(|partition| partition.partition_index).collect())
        });
        topics.collect()
    }
}

#[test]
fn a_partition_has_moved_when_all_its_new_replicas_are_in_sync() {
    let mut cluster = Cluster::of(5);
    let topic = cluster.assigned("t", &[&[1, 2, 3], &[1, 2, 3]], &[]);
    assert_eq!(cluster.reassign(0, Some(&[4, 5, 3])), "NONE");
    assert_eq!(cluster.moving(topic, 0), "4,5,3,1,2 +4,5 -1,2");
    assert_eq!(cluster.state(topic, 0).leader_epoch, LeaderEpoch(0), "whoever leads goes on");
    assert_eq!(cluster.controller.figures().reassigning, 1);
    cluster.sync(topic, 0, &[1, 2, 3, 4]);
    assert_eq!(cluster.moving(topic, 0), "4,5,3,1,2 +4,5 -1,2");
    cluster.sync(topic, 0, &[1, 2, 3, 4, 5]);
    assert_eq!(cluster.moving(topic, 0), "4,5,3 + -");
    assert_eq!(cluster.told(topic, 0), "4 of 4,5,3 or ");
    assert_eq!(cluster.state(topic, 0).leader_epoch, LeaderEpoch(1));
    assert_eq!(cluster.controller.figures().reassigning, 0);
}

#[test]
fn replicas_that_are_in_sync_need_not_be_waited_for() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2, 3], &[1, 2, 3]], &[]);
    assert_eq!(cluster.reassign(0, Some(&[3, 2, 1])), "NONE");
    assert_eq!(cluster.moving(topic, 0), "3,2,1 + -");
    assert_eq!(cluster.told(topic, 0), "1 of 1,2,3 or ", "the order is all that changes");
    assert_eq!(cluster.reassign(1, Some(&[2])), "NONE");
    assert_eq!(cluster.moving(topic, 1), "2 + -");
    assert_eq!(cluster.told(topic, 1), "2 of 2 or ");
    assert_eq!(cluster.reassign(1, Some(&[2])), "NONE", "it is there already");
}

#[test]
fn a_move_is_stopped_or_replaced() {
    let mut cluster = Cluster::of(5);
    let topic = cluster.assigned("t", &[&[1, 2]], &[]);
    assert_eq!(cluster.reassign(0, None), "NO_REASSIGNMENT_IN_PROGRESS");
    cluster.reassign(0, Some(&[3, 4]));
    cluster.sync(topic, 0, &[1, 2, 3]);
    assert_eq!(cluster.reassign(0, None), "NONE");
    assert_eq!(cluster.moving(topic, 0), "1,2 + -");
    assert_eq!(cluster.told(topic, 0), "1 of 1,2 or ");
    cluster.reassign(0, Some(&[3, 4]));
    assert_eq!(cluster.reassign(0, Some(&[4, 5])), "NONE");
    assert_eq!(cluster.moving(topic, 0), "4,5,1,2 +4,5 -1,2", "broker 3 was nobody's to keep");
    cluster.reassign(0, None);
    assert_eq!(cluster.moving(topic, 0), "1,2 + -");
}

#[test]
fn a_move_that_is_all_that_is_left_in_sync_is_not_stopped() {
    let mut cluster = Cluster::of(4);
    let topic = cluster.assigned("t", &[&[1, 2]], &[]);
    cluster.reassign(0, Some(&[3, 4]));
    cluster.sync(topic, 0, &[1, 2, 3]);
    cluster.fence(1);
    cluster.fence(2);
    assert_eq!(cluster.told(topic, 0), "3 of 3 or ");
    assert_eq!(cluster.reassign(0, None), "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(cluster.reassign(0, Some(&[4])), "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(cluster.reassign(0, Some(&[3])), "NONE");
    assert_eq!(cluster.told(topic, 0), "3 of 3 or ");
}

#[test]
fn nonsense_is_refused_partition_by_partition() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2], &[1, 2]], &[]);
    assert_eq!(cluster.reassign(0, Some(&[])), "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(cluster.reassign(0, Some(&[1, 1])), "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(cluster.reassign(0, Some(&[1, 9])), "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(cluster.reassign(0, Some(&[-1])), "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(cluster.reassign(2, Some(&[1])), "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(cluster.reassign(-1, None), "UNKNOWN_TOPIC_OR_PARTITION");
    let told = cluster.reassign_all(&[(0, Some(&[3])), (0, Some(&[2])), (1, Some(&[3, 1]))], true);
    assert_eq!(told, ["NONE", "INVALID_REQUEST", "NONE"]);
    assert_eq!(cluster.moving(topic, 0), "3,1,2 +3 -1,2");
}

#[test]
fn the_number_of_replicas_may_be_held_fast() {
    let mut cluster = Cluster::of(4);
    let topic = cluster.assigned("t", &[&[1, 2]], &[]);
    assert_eq!(cluster.reassign_all(&[(0, Some(&[1, 2, 3]))], false), ["INVALID_REPLICATION_FACTOR"]);
    assert_eq!(cluster.reassign_all(&[(0, Some(&[3, 4]))], false), ["NONE"]);
    assert_eq!(cluster.reassign_all(&[(0, Some(&[1, 4]))], false), ["NONE"], "those that come are not counted");
    assert_eq!(cluster.moving(topic, 0), "1,4,2 +4 -2");
}

#[test]
fn a_topic_that_grows_from_one_replica_to_three_takes_records_meanwhile() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1]], &[]);
    cluster.reassign(0, Some(&[1, 2, 3]));
    assert_eq!(cluster.controller.topic_config(topic).map(|config| config.min_insync_replicas), Some(1));
    assert_eq!(cluster.controller.figures().under_min_isr, 0);
    cluster.sync(topic, 0, &[1, 2, 3]);
    // What a setting is where nobody says does not change under those who produce.
    assert_eq!(cluster.controller.topic_config(topic).map(|config| config.min_insync_replicas), Some(1));
}

#[test]
fn what_is_on_its_way_is_listed() {
    let mut cluster = Cluster::of(3);
    cluster.assigned("u", &[&[1]], &[]);
    cluster.assigned("t", &[&[1], &[1], &[1]], &[]);
    cluster.reassign_all(&[(0, Some(&[2])), (2, Some(&[3]))], true);
    let all = ListPartitionReassignmentsRequest::default();
    assert_eq!(cluster.listed(&all), [("t".to_owned(), vec![0, 2])]);
    let named = |name: &str, partition_indexes: Vec<i32>| ListPartitionReassignmentsRequest {
        topics: Some(vec![ListPartitionReassignmentsTopics { name: name.into(), partition_indexes }]),
        ..Default::default()
    };
    assert_eq!(cluster.listed(&named("t", vec![1, 2, 9, -1])), [("t".to_owned(), vec![2])]);
    assert_eq!(cluster.listed(&named("u", vec![0])), []);
    assert_eq!(cluster.listed(&named("v", vec![0])), []);
    let response = cluster.controller.list_partition_reassignments(&all);
    let first = &response.topics[0].partitions[0];
    assert_eq!(
        (&first.replicas[..], &first.adding_replicas[..], &first.removing_replicas[..]),
        (&[2, 1][..], &[2][..], &[1][..])
    );
}

#[test]
fn what_is_on_its_way_is_listed_in_parts_as_at_once() {
    let mut cluster = Cluster::of(3);
    cluster.assigned("t", &[&[1], &[1], &[1], &[1], &[1]], &[]);
    cluster.reassign_all(&[(0, Some(&[2])), (2, Some(&[3])), (3, Some(&[3])), (4, Some(&[2]))], true);
    let topics = ["u", "t", "t"]
        .map(|name| ListPartitionReassignmentsTopics { name: name.into(), partition_indexes: vec![4, 1, 0, 9, 2, 0] });
    for topics in [None, Some(topics.to_vec()), Some(Vec::new())] {
        let request = ListPartitionReassignmentsRequest { topics, ..Default::default() };
        let at_once = cluster.controller.list_partition_reassignments(&request);
        for count in 1..10 {
            let mut listing = Listing::begin(request.clone());
            let parts =
                std::iter::repeat_with(|| cluster.controller.list_on(&mut listing, count)).position(|more| !more);
            assert!(parts.is_some_and(|parts| parts < 50));
            assert_eq!(listing.into_response(), at_once, "{count} at a time");
        }
    }
}

#[test]
fn what_one_request_names_beyond_measure_is_not_attempted() {
    let mut cluster = Cluster::of(2);
    cluster.assigned("t", &[&[1], &[1]], &[]);
    let mut asked: Vec<(i32, Option<&[i32]>)> = vec![(7, None); PARTITIONS_PER_REQUEST_MAX - 1];
    asked.extend([(0, Some(&[2][..])), (1, Some(&[2][..]))]);
    let told = cluster.reassign_all(&asked, true);
    assert_eq!(told[PARTITIONS_PER_REQUEST_MAX - 1..], ["NONE", "OPERATION_NOT_ATTEMPTED"]);
}
