//! Elections that are asked for, and those that bring leaderships back.

use chronik_core::controller::{Decision, Electing, PARTITIONS_PER_ENTRY_MAX, Right};
use chronik_core::wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};

use super::{Cluster, error};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

impl Cluster {
    /// Asks for elections of partitions of "t", or all; and returns what is told of each.
    fn elect(&mut self, election_type: i8, partitions: Option<&[i32]>) -> Vec<(i32, &'static str)> {
        let topic_partitions =
            partitions.map(|partitions| vec![TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() }]);
        let request = ElectLeadersRequest { election_type, topic_partitions, ..Default::default() };
        let (decision, elected) = self.controller.elect_leaders(&request);
        assert_eq!(decision.records.len(), elected.len());
        let response = self.commit(decision);
        assert_eq!(response.error_code, 0);
        let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        results.map(|result| (result.partition_id, error(result.error_code))).collect()
    }
}

#[test]
fn the_first_replica_leads_again_where_it_can() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2], &[1, 2], &[2, 1]], &[]);
    cluster.fence(1);
    assert_eq!(cluster.elect(PREFERRED, Some(&[0])), [(0, "PREFERRED_LEADER_NOT_AVAILABLE")]);
    cluster.unfence(1);
    assert_eq!(cluster.elect(PREFERRED, Some(&[0])), [(0, "PREFERRED_LEADER_NOT_AVAILABLE")], "it is not in sync");
    cluster.sync(topic, 0, &[1, 2]);
    let told = cluster.elect(PREFERRED, Some(&[0, 0, 1, 2, 7]));
    let expect = [
        (0, "NONE"),
        (0, "ELECTION_NOT_NEEDED"),
        (1, "PREFERRED_LEADER_NOT_AVAILABLE"),
        (2, "ELECTION_NOT_NEEDED"),
        (7, "UNKNOWN_TOPIC_OR_PARTITION"),
    ];
    assert_eq!(told, expect);
    assert_eq!(cluster.told(topic, 0), "1 of 1,2 or ");
    assert_eq!(cluster.told(topic, 1), "2 of 2 or ");
    // Where all are asked for, only those that need it are told of.
    cluster.sync(topic, 1, &[1, 2]);
    assert_eq!(cluster.elect(PREFERRED, None), [(1, "NONE")]);
    assert_eq!(cluster.elect(PREFERRED, None), []);
}

#[test]
fn elections_of_very_many_are_as_many_entries_as_it_takes() {
    let assignments = vec![&[1, 2][..]; 2 * PARTITIONS_PER_ENTRY_MAX + 5];
    let named = (0..assignments.len()).map(|partition| i32::try_from(partition).expect("few")).rev().collect();
    let named = vec![TopicPartitions { topic: "t".into(), partitions: named }];
    for topic_partitions in [None, Some(named)] {
        let mut cluster = Cluster::of(2);
        let topic = cluster.assigned("t", &assignments, &[]);
        cluster.fence(1);
        cluster.unfence(1);
        let partitions = 0..i32::try_from(assignments.len()).expect("few");
        partitions.for_each(|partition| cluster.sync(topic, partition, &[1, 2]));
        let request = ElectLeadersRequest { election_type: PREFERRED, topic_partitions, ..Default::default() };
        let mut electing = Electing::begin(request);
        let mut entries = Vec::new();
        loop {
            let (records, goes_on) = cluster.controller.elect_on(&mut electing);
            entries.push(records.len());
            cluster.commit(Decision { records, response: () });
            if !goes_on {
                break;
            }
        }
        assert_eq!(entries, [PARTITIONS_PER_ENTRY_MAX, PARTITIONS_PER_ENTRY_MAX, 5]);
        let results = electing.into_response().replica_election_results;
        assert_eq!(results.len(), 1, "of one topic");
        let results = &results[0].partition_result;
        assert!(results.len() == assignments.len() && results.iter().all(|result| result.error_code == 0));
    }
}

#[test]
fn an_unclean_election_that_is_asked_for_needs_no_leave_of_the_topic() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2], &[3, 1]], &[]);
    cluster.sync(topic, 0, &[1]);
    cluster.fence(1);
    assert_eq!(cluster.elect(UNCLEAN, None), [(0, "NONE")]);
    assert_eq!(cluster.told(topic, 0), "2 of 2 or ");
    assert_eq!(cluster.state(topic, 0).unclean_epoch, Some(cluster.state(topic, 0).leader_epoch));
    assert_eq!(cluster.elect(UNCLEAN, Some(&[0])), [(0, "ELECTION_NOT_NEEDED")]);
    cluster.fence(2);
    assert_eq!(cluster.elect(UNCLEAN, Some(&[0])), [(0, "ELIGIBLE_LEADERS_NOT_AVAILABLE")]);
}

#[test]
fn an_election_of_an_unknown_type_is_refused_as_a_whole() {
    let cluster = Cluster::of(1);
    let request = ElectLeadersRequest { election_type: 2, ..Default::default() };
    let (decision, _) = cluster.controller.elect_leaders(&request);
    assert_eq!((decision.records.len(), error(decision.response.error_code)), (0, "INVALID_REQUEST"));
}

#[test]
fn an_unknown_topic_is_told_partition_by_partition() {
    let mut cluster = Cluster::of(1);
    let unknown = "UNKNOWN_TOPIC_OR_PARTITION";
    assert_eq!(cluster.elect(PREFERRED, Some(&[0, 1])), [(0, unknown), (1, unknown)]);
}

#[test]
fn leaderships_go_back_to_the_first_replicas_that_can_take_them() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2], &[1, 3]], &[]);
    cluster.fence(1);
    cluster.unfence(1);
    cluster.sync(topic, 0, &[1, 2]);
    assert_eq!(cluster.controller.figures().preferred_leader_imbalance, 2);
    let mut after = None;
    let mut elected = Vec::new();
    while let Some(decision) = cluster.controller.rebalance(&mut after) {
        elected.extend(cluster.commit(decision));
    }
    let told: Vec<_> = elected.iter().map(|elected| (elected.partition.partition, elected.by)).collect();
    assert_eq!(told, [(0, Right::InSync)]);
    assert_eq!(cluster.told(topic, 0), "1 of 1,2 or ");
    assert_eq!(cluster.controller.figures().preferred_leader_imbalance, 1);
}
