//! What clients are told of several brokers, some of which are fenced.

use chronik_core::controller::{Figures, update_features};
use chronik_core::ids::NodeId;
use chronik_core::wire::describe_cluster::DescribeClusterRequest;
use chronik_core::wire::describe_topic_partitions::DescribeTopicPartitionsRequest;
use chronik_core::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_core::wire::metadata::MetadataRequest;
use chronik_core::wire::unregister_broker::UnregisterBrokerRequest;
use chronik_core::wire::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};

use super::cluster::candidate;
use super::{Cluster, LISTENER, error};

#[test]
fn a_fenced_broker_is_left_out_and_its_replicas_are_offline() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2, 3]], &[]);
    let alone = cluster.assigned("alone", &[&[2]], &[]);
    cluster.fence(2);
    cluster.fence(3);
    let described = cluster.controller.metadata(LISTENER, 12, &MetadataRequest { topics: None, ..Default::default() });
    let response = described.response;
    assert_eq!(response.brokers.iter().map(|broker| broker.node_id).collect::<Vec<_>>(), [1]);
    let of = |id| {
        let topic = response.topics.iter().find(|topic| topic.topic_id == id).expect("it is described");
        topic.partitions[0].clone()
    };
    assert_eq!(of(topic).leader_id, 1);
    assert_eq!((&of(topic).isr_nodes[..], &of(topic).offline_replicas[..]), (&[1][..], &[2, 3][..]));
    assert_eq!((of(alone).leader_id, error(of(alone).error_code)), (-1, "LEADER_NOT_AVAILABLE"));
    assert_eq!((&of(alone).isr_nodes[..], &of(alone).offline_replicas[..]), (&[2][..], &[2][..]));
    let pages = cluster.controller.describe_topic_partitions(
        LISTENER,
        &DescribeTopicPartitionsRequest { response_partition_limit: 10, ..Default::default() },
    );
    let page = pages.topics.iter().find(|page| page.topic_id == topic).expect("it is described");
    assert_eq!(page.partitions[0].eligible_leader_replicas.as_deref(), Some(&[3][..]));
    assert_eq!(page.partitions[0].offline_replicas, [2, 3]);
}

#[test]
fn describe_cluster_lists_fenced_brokers_where_it_is_asked_to() {
    let mut cluster = Cluster::of(3);
    cluster.fence(2);
    let told = |cluster: &Cluster, include_fenced_brokers| {
        let request = DescribeClusterRequest { include_fenced_brokers, ..Default::default() };
        let response = cluster.controller.describe_cluster(LISTENER, &request);
        response.brokers.iter().map(|broker| (broker.broker_id, broker.is_fenced)).collect::<Vec<_>>()
    };
    assert_eq!(told(&cluster, false), [(1, false), (3, false)]);
    assert_eq!(told(&cluster, true), [(1, false), (2, true), (3, false)]);
}

#[test]
fn the_controller_is_the_one_that_the_node_knows() {
    let mut cluster = Cluster::of(2);
    let told = |cluster: &Cluster| {
        let all = MetadataRequest { topics: None, ..Default::default() };
        let metadata = cluster.controller.metadata(LISTENER, 12, &all).response.controller_id;
        let described = cluster.controller.describe_cluster(LISTENER, &DescribeClusterRequest::default());
        assert_eq!(metadata, described.controller_id);
        metadata
    };
    assert_eq!(told(&cluster), 1);
    cluster.controller.follow(Some(NodeId(2)));
    assert_eq!(told(&cluster), 2);
    cluster.controller.follow(None);
    assert_eq!(told(&cluster), -1);
}

#[test]
fn a_broker_that_does_not_come_back_is_unregistered() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[2, 1], &[1, 2]], &[]);
    let alone = cluster.assigned("alone", &[&[2]], &[]);
    let unregister = |cluster: &mut Cluster, broker_id| {
        let decision = cluster.controller.unregister_broker(&UnregisterBrokerRequest { broker_id });
        let response = cluster.commit(decision);
        cluster.settle();
        error(response.error_code)
    };
    assert_eq!(unregister(&mut cluster, 9), "BROKER_ID_NOT_REGISTERED");
    assert_eq!(unregister(&mut cluster, 2), "INVALID_REQUEST", "it lives");
    cluster.fence(2);
    assert_eq!(unregister(&mut cluster, 2), "NONE");
    assert_eq!(unregister(&mut cluster, 2), "BROKER_ID_NOT_REGISTERED");
    assert_eq!(cluster.told(topic, 0), "1 of 1 or ");
    assert_eq!(cluster.told(alone, 0), "none of 2 or ");
    // Another folder under its number would be taken for what it is not.
    let refused = cluster.controller.register_broker(&candidate(2, 9)).expect_err("it lacks what only the other had");
    assert_eq!(error(refused.error.code()), "INVALID_REGISTRATION");
}

#[test]
fn a_changed_minimum_forgets_who_was_eligible() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2, 3]], &[]);
    let other = cluster.assigned("u", &[&[1, 2, 3]], &[]);
    cluster.fence(2);
    cluster.fence(3);
    assert_eq!(cluster.told(topic, 0), "1 of 1 or 3");
    assert_eq!(cluster.controller.figures().under_min_isr, 2);
    let alter = |cluster: &mut Cluster, resource_type, resource_name: &str, value: &str| {
        let config =
            AlterableConfig { name: "min.insync.replicas".into(), config_operation: 0, value: Some(value.into()) };
        let resource =
            AlterConfigsResource { resource_type, resource_name: resource_name.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let decision = cluster.controller.incremental_alter_configs(&request);
        assert_eq!(cluster.commit(decision).responses[0].error_code, 0);
    };
    alter(&mut cluster, 2, "t", "1");
    assert_eq!(cluster.told(topic, 0), "1 of 1 or ", "the high watermark may move on without it");
    assert_eq!(cluster.told(other, 0), "1 of 1 or 3");
    assert_eq!(cluster.controller.figures().under_min_isr, 1);
    alter(&mut cluster, 4, "", "1");
    assert_eq!(cluster.told(other, 0), "1 of 1 or ");
    assert_eq!(cluster.controller.figures().under_min_isr, 0);
}

#[test]
fn settings_of_another_broker_are_changed_but_not_described() {
    let mut cluster = Cluster::of(2);
    let config = AlterableConfig { name: "log.retention.ms".into(), config_operation: 0, value: Some("1".into()) };
    let alter = |cluster: &mut Cluster, id: &str| {
        let resource =
            AlterConfigsResource { resource_type: 4, resource_name: id.into(), configs: vec![config.clone()] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let decision = cluster.controller.incremental_alter_configs(&request);
        error(cluster.commit(decision).responses[0].error_code)
    };
    assert_eq!(alter(&mut cluster, "2"), "NONE");
    assert_eq!(cluster.controller.image().broker_settings(NodeId(2)).len(), 1);
    assert_eq!(alter(&mut cluster, "3"), "INVALID_REQUEST");
}

#[test]
fn figures_say_how_the_partitions_are() {
    let mut cluster = Cluster::of(3);
    cluster.assigned("t", &[&[1, 2, 3], &[2, 3, 1]], &[]);
    cluster.assigned("alone", &[&[2]], &[]);
    let healthy = Figures { topics: 2, partitions: 3, active_brokers: 3, ..Figures::default() };
    assert_eq!(cluster.controller.figures(), healthy);
    cluster.fence(2);
    let expect = Figures {
        offline: 1,
        under_replicated: 2,
        at_min_isr: 2,
        preferred_leader_imbalance: 2,
        active_brokers: 2,
        fenced_brokers: 1,
        ..healthy
    };
    assert_eq!(cluster.controller.figures(), expect);
    cluster.fence(3);
    let expect = Figures { under_min_isr: 2, at_min_isr: 0, active_brokers: 1, fenced_brokers: 2, ..expect };
    assert_eq!(cluster.controller.figures(), expect);
}

#[test]
fn features_stay_as_they_are() {
    let update = |version, updates: &[(&str, i16, i8)]| {
        let updates = updates.iter().map(|&(feature, max_version_level, upgrade_type)| FeatureUpdateKey {
            feature: feature.into(),
            max_version_level,
            upgrade_type,
            ..Default::default()
        });
        let request = UpdateFeaturesRequest { feature_updates: updates.collect(), ..Default::default() };
        let response = update_features(version, &request);
        assert!(response.results.iter().all(|result| result.error_code == 0), "{response:?}");
        (error(response.error_code), response.results.len())
    };
    let as_it_is = ("group.version", 1, 1);
    for version in 0..=2 {
        assert_eq!(update(version, &[as_it_is]), ("NONE", usize::from(version < 2)), "version {version}");
        assert_eq!(update(version, &[]), ("NONE", 0), "version {version}");
        // One that is refused is all of them, and no row says otherwise.
        for refused in [("group.version", 0, 2), ("metadata.version", 20, 1), ("group.version", 1, 0)] {
            let answer = update(version, &[as_it_is, refused]);
            assert_eq!(answer, ("INVALID_UPDATE_VERSION", 0), "version {version}: {refused:?}");
        }
    }
}
