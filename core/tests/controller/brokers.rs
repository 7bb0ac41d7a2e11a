//! Registration, DescribeCluster and ApiVersions.

use super::{Cluster, LISTENER, addresses, error};
use chronik_core::controller::api_versions;
use chronik_core::controller::image::Change;
use chronik_core::ids::{LeaderEpoch, NodeId, TopicPartition, Uuid};
use chronik_core::wire::ApiKey;
use chronik_core::wire::api_versions::ApiVersionsRequest;
use chronik_core::wire::describe_cluster::DescribeClusterRequest;

#[test]
fn every_start_has_a_new_broker_epoch_and_new_leader_epochs() {
    let mut cluster = Cluster::new();
    let topic = cluster.create("a", 2, &[]);
    let decision = cluster.controller.register(Uuid([1; 16]), addresses()).expect("it is the broker's own folder");
    assert_eq!(decision.records.len(), 1, "one record raises the epoch of every partition");
    let changes = cluster.changes(&decision);
    assert_eq!(decision.response, 2);
    let changed = |partition| Change::PartitionChanged(TopicPartition { topic, partition });
    let registered = Change::BrokerRegistered { node_id: NodeId(1), broker_epoch: 2 };
    assert_eq!(changes, [registered, changed(0), changed(1)]);
    let image = cluster.controller.image();
    assert_eq!(
        image.partition(TopicPartition { topic, partition: 1 }).map(|state| state.leader_epoch),
        Some(LeaderEpoch(1))
    );
}

#[test]
fn a_node_with_another_data_folder_is_refused_with_the_way_out() {
    let cluster = Cluster::new();
    let refused = cluster.controller.register(Uuid([2; 16]), addresses()).expect_err("it is another folder");
    assert!(refused.message.contains("give this node another id, or its own folder"), "{refused}");
}

#[test]
fn a_client_is_told_the_address_of_its_own_listener() {
    let cluster = Cluster::with(&[("broker.rack", "a")]);
    let described = |listener| cluster.controller.describe_cluster(listener, &DescribeClusterRequest::default());
    let inside = described(LISTENER);
    assert_eq!((inside.error_code, inside.controller_id, &*inside.cluster_id), (0, 1, "cluster"));
    assert_eq!((&*inside.brokers[0].host, inside.brokers[0].port), ("localhost", 9092));
    assert_eq!(inside.brokers[0].rack.as_deref(), Some("a"));
    assert_eq!(inside.cluster_authorized_operations, i32::MIN);
    let outside = described("OUTSIDE");
    assert_eq!((&*outside.brokers[0].host, outside.brokers[0].port), ("kafka.example.org", 19092));
    assert_eq!(described("NOWHERE").brokers, []);
}

#[test]
fn without_access_control_everybody_may_do_everything() {
    let cluster = Cluster::new();
    let request = DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() };
    assert_eq!(cluster.controller.describe_cluster(LISTENER, &request).cluster_authorized_operations, 8096);
}

#[test]
fn a_client_that_looks_for_controllers_is_told_that_this_is_a_broker() {
    let cluster = Cluster::new();
    let asked = |endpoint_type| {
        let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
        error(cluster.controller.describe_cluster(LISTENER, &request).error_code)
    };
    assert_eq!(asked(2), "MISMATCHED_ENDPOINT_TYPE");
    assert_eq!(asked(9), "UNSUPPORTED_ENDPOINT_TYPE");
}

#[test]
fn versions_are_those_that_the_codec_speaks_but_for_produce() {
    let response = api_versions(0, &ApiVersionsRequest::default());
    assert_eq!(response.api_keys.len(), ApiKey::ALL.len());
    for announced in &response.api_keys {
        let api_key = ApiKey::from_code(announced.api_key).expect("a known key");
        let versions = api_key.versions();
        let from = if api_key == ApiKey::Produce { 0 } else { *versions.start() };
        assert_eq!((announced.min_version, announced.max_version), (from, *versions.end()), "{}", api_key.name());
    }
}

#[test]
fn consumer_groups_are_a_feature_in_force() {
    let features = |version: i16| {
        let request = ApiVersionsRequest { client_software_name: "java".into(), client_software_version: "1.0".into() };
        let response = api_versions(version, &request);
        assert_eq!(response.finalized_features_epoch, 0);
        let finalized = response.finalized_features.into_iter();
        let finalized: Vec<_> = finalized
            .map(|feature| (feature.name.to_string(), feature.min_version_level, feature.max_version_level))
            .collect();
        assert_eq!(finalized, [("group.version".to_owned(), 1, 1)]);
        let supported = response.supported_features.into_iter();
        supported
            .map(|feature| (feature.name.to_string(), feature.min_version, feature.max_version))
            .collect::<Vec<_>>()
    };
    // Clients of version 3 may choke on a range that begins with 0.
    assert_eq!(features(3), []);
    assert_eq!(features(4), [("group.version".to_owned(), 0, 1)]);
}

#[test]
fn software_says_its_name_from_version_3() {
    let named = |version: i16, name: &str| {
        let request = ApiVersionsRequest { client_software_name: name.into(), client_software_version: "1.0".into() };
        error(api_versions(version, &request).error_code)
    };
    assert_eq!(named(2, ""), "NONE");
    assert_eq!(named(3, ""), "INVALID_REQUEST");
    assert_eq!(named(3, "apache-kafka-java"), "NONE");
    assert_eq!(named(4, "-java"), "INVALID_REQUEST");
    assert_eq!(named(4, "a b"), "INVALID_REQUEST");
}
