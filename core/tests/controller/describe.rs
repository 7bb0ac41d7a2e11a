//! Metadata and DescribeTopicPartitions.

use super::{Cluster, LISTENER, error};
use chronik_core::ids::Uuid;
use chronik_core::wire::Str;
use chronik_core::wire::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicRequest,
};
use chronik_core::wire::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name.into()), topic_id: Uuid::ZERO }
}

fn identified(topic_id: Uuid) -> MetadataRequestTopic {
    MetadataRequestTopic { name: None, topic_id }
}

fn asking(topics: &[MetadataRequestTopic]) -> MetadataRequest {
    MetadataRequest { topics: Some(topics.to_vec()), ..Default::default() }
}

/// The topics of an answer: name, error, number of partitions.
fn topics(response: &MetadataResponse) -> Vec<(String, &'static str, usize)> {
    let name = |name: &Option<Str>| name.as_deref().unwrap_or("(null)").to_owned();
    response.topics.iter().map(|topic| (name(&topic.name), error(topic.error_code), topic.partitions.len())).collect()
}

#[test]
fn a_topic_is_described_with_its_leader_and_replicas() {
    let mut cluster = Cluster::new();
    let id = cluster.create("orders", 2, &[]);
    cluster.start();
    let response = cluster.controller.metadata(LISTENER, 12, &asking(&[named("orders")])).response;
    assert_eq!(response.cluster_id.as_deref(), Some("cluster"));
    assert_eq!((response.controller_id, response.brokers[0].port), (1, 9092));
    let topic = &response.topics[0];
    assert_eq!((topic.topic_id, topic.is_internal, topic.topic_authorized_operations), (id, false, i32::MIN));
    let partition = &topic.partitions[1];
    assert_eq!((partition.error_code, partition.partition_index, partition.leader_id), (0, 1, 1));
    assert_eq!(partition.leader_epoch, 1, "the second process leads in its own epoch");
    assert_eq!((&partition.replica_nodes[..], &partition.isr_nodes[..]), (&[1][..], &[1][..]));
    assert_eq!(partition.offline_replicas, [0; 0]);
}

#[test]
fn null_asks_for_all_topics_and_so_does_an_empty_list_in_version_0() {
    let mut cluster = Cluster::new();
    cluster.create("b", 1, &[]);
    cluster.create("a", 2, &[]);
    let all = MetadataRequest { topics: None, ..Default::default() };
    let both = [("a".to_owned(), "NONE", 2), ("b".to_owned(), "NONE", 1)];
    assert_eq!(topics(&cluster.controller.metadata(LISTENER, 1, &all).response), both);
    assert_eq!(topics(&cluster.controller.metadata(LISTENER, 0, &asking(&[])).response), both);
    assert_eq!(topics(&cluster.controller.metadata(LISTENER, 1, &asking(&[])).response), []);
}

#[test]
fn topics_are_found_by_id_from_version_12() {
    let mut cluster = Cluster::new();
    let id = cluster.create("a", 1, &[]);
    let by_id = asking(&[identified(id), identified(Uuid([7; 16]))]);
    let described = cluster.controller.metadata(LISTENER, 12, &by_id);
    assert_eq!(
        topics(&described.response),
        [("a".to_owned(), "NONE", 1), ("(null)".to_owned(), "UNKNOWN_TOPIC_ID", 0)]
    );
    assert_eq!(described.missing, [] as [Str; 0], "an id creates nothing");
    let described = cluster.controller.metadata(LISTENER, 11, &by_id);
    assert!(described.response.topics.iter().all(|topic| error(topic.error_code) == "INVALID_REQUEST"));
    assert!(described.response.topics.iter().all(|topic| topic.name.is_some()), "version 11 has no null name");
}

#[test]
fn a_missing_topic_is_named_for_creation_if_the_client_and_the_broker_agree() {
    let asks = |allow| MetadataRequest {
        allow_auto_topic_creation: allow,
        ..asking(&[named("orders"), named("a b"), named("__transaction_state"), named("orders")])
    };
    let mut cluster = Cluster::new();
    let described = cluster.controller.metadata(LISTENER, 9, &asks(true));
    assert_eq!(described.missing, [Str::from("orders")]);
    let unknown = [
        ("orders".to_owned(), "UNKNOWN_TOPIC_OR_PARTITION", 0),
        ("a b".to_owned(), "INVALID_TOPIC_EXCEPTION", 0),
        ("__transaction_state".to_owned(), "UNKNOWN_TOPIC_OR_PARTITION", 0),
    ];
    assert_eq!(topics(&described.response), unknown);
    assert_eq!(cluster.controller.metadata(LISTENER, 9, &asks(false)).missing, [] as [Str; 0]);

    let decision = cluster.controller.auto_create(&mut cluster.rng, &described.missing);
    cluster.commit(decision);
    let described = cluster.controller.metadata(LISTENER, 9, &asks(true));
    assert_eq!(topics(&described.response)[0], ("orders".to_owned(), "NONE", 1));
    assert_eq!(described.missing, [] as [Str; 0]);

    let cluster = Cluster::with(&[("auto.create.topics.enable", "false")]);
    assert_eq!(cluster.controller.metadata(LISTENER, 9, &asks(true)).missing, [] as [Str; 0]);
}

#[test]
fn a_leader_without_the_clients_listener_is_said_to_lack_it() {
    let mut cluster = Cluster::new();
    cluster.create("a", 1, &[]);
    let partition = |listener, version| {
        let response = cluster.controller.metadata(listener, version, &asking(&[named("a")])).response;
        let partition = response.topics[0].partitions[0].clone();
        (error(partition.error_code), partition.leader_id, partition.offline_replicas)
    };
    assert_eq!(partition("NOWHERE", 6), ("LISTENER_NOT_FOUND", -1, vec![1]));
    assert_eq!(partition("NOWHERE", 5), ("LEADER_NOT_AVAILABLE", -1, vec![1]));
    assert_eq!(partition("OUTSIDE", 5), ("NONE", 1, vec![]));
}

#[test]
fn what_a_client_may_do_is_said_when_it_asks() {
    let mut cluster = Cluster::new();
    cluster.create("a", 1, &[]);
    let request = MetadataRequest {
        include_cluster_authorized_operations: true,
        include_topic_authorized_operations: true,
        ..asking(&[named("a")])
    };
    let response = cluster.controller.metadata(LISTENER, 8, &request).response;
    assert_eq!((response.cluster_authorized_operations, response.topics[0].topic_authorized_operations), (8096, 3576));
}

fn pages(cluster: &Cluster, names: &[&str], limit: i32) -> Vec<Vec<(String, Vec<i32>)>> {
    let topics = names.iter().map(|name| TopicRequest { name: (*name).into() }).collect();
    let mut request = DescribeTopicPartitionsRequest { topics, response_partition_limit: limit, cursor: None };
    let mut pages = Vec::new();
    loop {
        let response = cluster.controller.describe_topic_partitions(LISTENER, &request);
        let page = response.topics.iter().map(|topic| {
            assert_eq!(topic.topic_authorized_operations, 3576);
            let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            (topic.name.as_deref().unwrap_or_default().to_owned(), partitions)
        });
        pages.push(page.collect());
        request.cursor = response.next_cursor;
        if request.cursor.is_none() {
            return pages;
        }
    }
}

#[test]
fn topics_are_described_in_pages_of_partitions_by_name() {
    let mut cluster = Cluster::with(&[("max.request.partition.size.limit", "4")]);
    cluster.create("b", 3, &[]);
    cluster.create("a", 3, &[]);
    let page = |parts: &[(&str, &[i32])]| -> Vec<(String, Vec<i32>)> {
        parts.iter().map(|(name, indexes)| ((*name).to_owned(), indexes.to_vec())).collect()
    };
    assert_eq!(pages(&cluster, &[], 4), [page(&[("a", &[0, 1, 2]), ("b", &[0])]), page(&[("b", &[1, 2])])]);
    assert_eq!(pages(&cluster, &[], 3), [page(&[("a", &[0, 1, 2])]), page(&[("b", &[0, 1, 2])])]);
    assert_eq!(pages(&cluster, &[], 2000).len(), 2, "the broker's limit holds too");
    assert_eq!(pages(&cluster, &[], 0).len(), 6, "a page has a partition at least");
    assert_eq!(pages(&cluster, &["b"], 4), [page(&[("b", &[0, 1, 2])])]);
}

fn paged(cluster: &Cluster, names: &[&str], cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsResponse {
    let request = DescribeTopicPartitionsRequest {
        topics: names.iter().map(|name| TopicRequest { name: (*name).into() }).collect(),
        cursor: cursor.map(|(name, partition_index)| Cursor { topic_name: name.into(), partition_index }),
        ..Default::default()
    };
    cluster.controller.describe_topic_partitions(LISTENER, &request)
}

#[test]
fn topics_that_do_not_exist_are_said_so_where_they_were_asked_for() {
    let mut cluster = Cluster::new();
    cluster.create("b", 1, &[]);
    let response = paged(&cluster, &["c", "b", "a b"], None);
    let told: Vec<_> = response.topics.iter().map(|topic| error(topic.error_code)).collect();
    assert_eq!(told, ["INVALID_TOPIC_EXCEPTION", "NONE", "UNKNOWN_TOPIC_OR_PARTITION"], "in the order of names");
    let gone = paged(&cluster, &[], Some(("a", 5)));
    assert_eq!(gone.topics.len(), 1, "a cursor to a deleted topic goes on with the next one");
    assert_eq!(gone.topics[0].partitions.len(), 1);
}

#[test]
fn a_cursor_points_to_a_topic_of_the_list_and_to_a_partition() {
    let mut cluster = Cluster::new();
    cluster.create("a", 1, &[]);
    for cursor in [("b", 0), ("a", -1)] {
        let response = paged(&cluster, &["a"], Some(cursor));
        assert_eq!(error(response.topics[0].error_code), "INVALID_REQUEST");
    }
    assert_eq!(paged(&cluster, &["a"], Some(("a", i32::MAX))).topics[0].partitions, []);
}

#[test]
fn the_topic_of_groups_is_created_by_interest_with_settings_of_its_own() {
    let mut cluster = Cluster::with(&[("num.partitions", "7"), ("offsets.topic.num.partitions", "3")]);
    let request = MetadataRequest { allow_auto_topic_creation: true, ..asking(&[named("__consumer_offsets")]) };
    let described = cluster.controller.metadata(LISTENER, 9, &request);
    let decision = cluster.controller.auto_create(&mut cluster.rng, &described.missing);
    cluster.commit(decision);
    let described = cluster.controller.metadata(LISTENER, 9, &request);
    assert_eq!(topics(&described.response)[0], ("__consumer_offsets".to_owned(), "NONE", 3));
}
