//! Where new partitions go in a cluster of several brokers.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::controller::records::PartitionState;
use chronik_core::ids::NodeId;
use chronik_core::wire::create_topics::CreateTopicsRequest;
use chronik_core::wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};

use super::cluster::candidate;
use super::{Cluster, error, topic};

impl Cluster {
    /// Creates a topic of so many partitions and replicas, and returns its partitions; or the error.
    fn placed(&mut self, name: &str, partitions: i32, replicas: i16) -> Result<Vec<PartitionState>, &'static str> {
        let mut asked = topic(name, partitions, &[]);
        asked.replication_factor = replicas;
        let request = CreateTopicsRequest { topics: vec![asked], ..Default::default() };
        let decision = self.controller.create_topics(&mut self.rng, &request);
        let response = self.commit(decision);
        match response.topics[0].error_code {
            0 => {
                let topic = self.controller.image().topic(response.topics[0].topic_id).expect("it was created");
                assert_eq!(response.topics[0].replication_factor, topic.partitions[0].replicas.len() as i16);
                Ok(topic.partitions.to_vec())
            }
            code => Err(error(code)),
        }
    }
}

fn counted<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}

#[test]
fn leaders_and_replicas_are_spread_over_brokers() {
    let mut cluster = Cluster::of(5);
    let placed = cluster.placed("t", 100, 3).expect("there are brokers enough");
    let leaders = counted(placed.iter().map(|state| state.leader));
    let replicas = counted(placed.iter().flat_map(|state| state.replicas.clone()));
    assert!(leaders.values().all(|count| *count == 20), "{leaders:?}");
    assert!(replicas.values().all(|count| *count == 60), "{replicas:?}");
    // Whoever fails, its partitions are led by all others.
    for failed in 1..=5 {
        let led = placed.iter().filter(|state| state.leader == Some(NodeId(failed)));
        let next = counted(led.map(|state| state.replicas[1]));
        assert_eq!(next.len(), 4, "{next:?}");
    }
}

#[test]
fn topics_of_one_partition_are_spread_too() {
    let mut cluster = Cluster::of(3);
    let names: Vec<String> = (0..9).map(|number| format!("t{number}")).collect();
    let placed: Vec<PartitionState> =
        names.iter().map(|name| cluster.placed(name, 1, 2).expect("there are brokers enough").remove(0)).collect();
    let leaders = counted(placed.iter().map(|state| state.leader));
    assert!(leaders.values().all(|count| *count == 3), "{leaders:?}");
    // Also where one request creates them all.
    let mut cluster = Cluster::of(3);
    let topics = names.iter().map(|name| topic(name, 1, &[])).collect();
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let decision = cluster.controller.create_topics(&mut cluster.rng, &request);
    cluster.commit(decision);
    let image = cluster.controller.image();
    let leaders = counted(image.topics_from("").map(|topic| topic.partitions[0].leader));
    assert!(leaders.values().all(|count| *count == 3), "{leaders:?}");
}

#[test]
fn replicas_of_a_partition_stand_in_different_racks() {
    let mut cluster = Cluster::of(1);
    let racks: BTreeMap<i32, &str> = [(2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "c"), (7, "c")].into();
    for (node_id, rack) in &racks {
        let mut candidate = candidate(*node_id, 1);
        candidate.rack = Some((*rack).into());
        cluster.join(candidate);
    }
    cluster.fence(1);
    for state in cluster.placed("t", 30, 3).expect("there are brokers enough") {
        let racks: BTreeSet<&str> = state.replicas.iter().map(|node_id| racks[&node_id.0]).collect();
        assert_eq!(racks.len(), 3, "{:?}", state.replicas);
    }
}

#[test]
fn a_fenced_broker_gets_a_replica_only_where_it_must_and_leads_nothing() {
    let mut cluster = Cluster::of(4);
    cluster.fence(2);
    for state in cluster.placed("few", 10, 3).expect("there are brokers enough") {
        assert!(!state.replicas.contains(&NodeId(2)), "{state:?}");
    }
    for state in cluster.placed("all", 10, 4).expect("there are brokers enough") {
        assert_eq!(state.replicas.len(), 4);
        assert!(!state.isr.contains(&NodeId(2)) && state.leader != Some(NodeId(2)), "{state:?}");
    }
    assert_eq!(cluster.placed("more", 1, 5), Err("INVALID_REPLICATION_FACTOR"));
    for node_id in [1, 3, 4] {
        cluster.fence(node_id);
    }
    assert_eq!(cluster.placed("none", 1, 1), Err("INVALID_REPLICATION_FACTOR"));
}

#[test]
fn three_replicas_of_which_two_must_be_in_sync_are_the_default() {
    let check = |brokers: i32, file: &[(&str, &str)], replicas: usize, least: &str| {
        let mut cluster = Cluster::of_with(brokers, file);
        let placed = cluster.placed("t", 1, -1).expect("there are brokers enough");
        assert_eq!(placed[0].replicas.len(), replicas);
        let topic = cluster.controller.image().topic_named("t").expect("it was created").id;
        let used = cluster.controller.topic_config(topic).expect("it exists").min_insync_replicas;
        assert_eq!(used.to_string(), least);
        let told = |resource_type, resource_name: &str, key: &str| {
            let resource = DescribeConfigsResource {
                resource_type,
                resource_name: resource_name.into(),
                configuration_keys: Some(vec![key.into()]),
            };
            let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
            let response = cluster.controller.describe_configs(&request);
            response.results[0].configs[0].value.clone().map(|value| value.to_string())
        };
        assert_eq!(told(2, "t", "min.insync.replicas").as_deref(), Some(least));
        let factor = told(4, "1", "default.replication.factor");
        assert_eq!(factor, Some(replicas.to_string()));
    };
    check(1, &[], 1, "1");
    check(2, &[], 2, "1");
    check(3, &[], 3, "2");
    check(5, &[], 3, "2");
    check(5, &[("default.replication.factor", "4")], 4, "2");
    check(5, &[("default.replication.factor", "1")], 1, "1");
    check(3, &[("min.insync.replicas", "1")], 3, "1");
    check(3, &[("min.insync.replicas", "3")], 3, "3");
}
