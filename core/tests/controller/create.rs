//! Creating topics and partitions.

use super::{Cluster, error, topic};
use chronik_core::controller::image::Change;
use chronik_core::controller::{PARTITIONS_MAX, PARTITIONS_PER_REQUEST_MAX};
use chronik_core::ids::{NodeId, TopicPartition, Uuid};
use chronik_core::wire::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use chronik_core::wire::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreateTopicsRequest,
};

fn create(cluster: &mut Cluster, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let decision = cluster.controller.create_topics(&mut cluster.rng, &request);
    cluster.commit(decision).topics
}

/// What creating `topic` in a cluster with the topic `existing` is answered.
#[track_caller]
fn check(topic: CreatableTopic, expect: &str, says: &str) {
    let mut cluster = Cluster::new();
    cluster.create("existing.topic", 1, &[]);
    let result = create(&mut cluster, vec![topic]).remove(0);
    let message = result.error_message.as_deref().unwrap_or_default();
    assert_eq!(error(result.error_code), expect, "{message}");
    assert!(message.contains(says), "{message}");
    let is_created = cluster.controller.image().topic_count() == 2;
    assert_eq!(is_created, expect == "NONE", "it is created or refused");
}

fn assigned(name: &str, partitions: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = partitions.iter().map(|(partition_index, brokers)| CreatableReplicaAssignment {
        partition_index: *partition_index,
        broker_ids: brokers.to_vec(),
    });
    CreatableTopic { assignments: assignments.collect(), ..topic(name, -1, &[]) }
}

#[test]
fn a_topic_is_created_with_its_partitions_and_settings() {
    let mut cluster = Cluster::new();
    let request =
        CreateTopicsRequest { topics: vec![topic("orders", 2, &[("retention.ms", "1000")])], ..Default::default() };
    let decision = cluster.controller.create_topics(&mut cluster.rng, &request);
    assert!(cluster.controller.image().topic_named("orders").is_none(), "deciding changes nothing");
    let changes = cluster.changes(&decision);
    let result = &decision.response.topics[0];
    let id = result.topic_id;
    let partition = |partition| Change::PartitionCreated(TopicPartition { topic: id, partition });
    assert_eq!(changes, [Change::TopicCreated(id), Change::TopicSettings(id), partition(0), partition(1)]);
    assert_eq!((result.error_code, result.num_partitions, result.replication_factor), (0, 2, 1));
    let image = cluster.controller.image();
    let state = image.partition(TopicPartition { topic: id, partition: 1 }).expect("it was created");
    assert_eq!((state.leader, state.isr.as_slice()), (Some(NodeId(1)), &[NodeId(1)][..]));
    assert_eq!(cluster.controller.topic_config(id).and_then(|config| config.retention_ms), Some(1000));
}

#[test]
fn its_creator_is_told_every_setting_and_its_source() {
    let mut cluster = Cluster::with(&[("log.retention.hours", "1")]);
    let result = create(&mut cluster, vec![topic("orders", 1, &[("segment.ms", "5")])]).remove(0);
    let configs = result.configs.expect("they may be shown");
    let told = |name: &str| {
        let config = configs.iter().find(|config| config.name == *name).expect("a topic setting");
        (config.value.as_deref().map(str::to_owned).unwrap_or_default(), config.config_source)
    };
    assert_eq!(told("segment.ms"), ("5".to_owned(), 1));
    assert_eq!(told("retention.ms"), ("3600000".to_owned(), 4));
    assert_eq!(told("cleanup.policy"), ("delete".to_owned(), 5));
    assert!(configs.iter().all(|config| config.name != *"internal.segment.bytes"));
}

#[test]
fn minus_one_stands_for_the_brokers_defaults() {
    let mut cluster = Cluster::with(&[("num.partitions", "3")]);
    let result = create(&mut cluster, vec![topic("orders", -1, &[])]).remove(0);
    assert_eq!((result.num_partitions, result.replication_factor), (3, 1));
}

#[test]
fn names_are_checked() {
    check(topic("existing.topic", 1, &[]), "TOPIC_ALREADY_EXISTS", "'existing.topic' already exists");
    check(topic("existing_topic", 1, &[]), "INVALID_TOPIC_EXCEPTION", "collides with existing topic 'existing.topic'");
    check(topic("", 1, &[]), "INVALID_TOPIC_EXCEPTION", "must not be empty");
    check(topic("..", 1, &[]), "INVALID_TOPIC_EXCEPTION", "must not be \".\" or \"..\"");
    check(topic("a b", 1, &[]), "INVALID_TOPIC_EXCEPTION", "ASCII letters");
    check(topic(&"x".repeat(250), 1, &[]), "INVALID_TOPIC_EXCEPTION", "249 characters");
    check(topic(&"x".repeat(249), 1, &[]), "NONE", "");
    check(topic("__cluster_metadata", 1, &[]), "INVALID_REQUEST", "prohibited");
}

#[test]
fn numbers_are_checked() {
    let replicated = |factor| CreatableTopic { replication_factor: factor, ..topic("t", 1, &[]) };
    check(topic("t", 0, &[]), "INVALID_PARTITIONS", "larger than 0");
    check(topic("t", -2, &[]), "INVALID_PARTITIONS", "larger than 0");
    check(replicated(0), "INVALID_REPLICATION_FACTOR", "larger than 0");
    check(replicated(-2), "INVALID_REPLICATION_FACTOR", "larger than 0");
    check(replicated(3), "INVALID_REPLICATION_FACTOR", "only 1 broker(s) are registered");
    check(replicated(1), "NONE", "");
}

#[test]
fn settings_are_checked() {
    let null = CreatableTopicConfig { name: "retention.ms".into(), value: None };
    check(topic("t", 1, &[("no.such", "1")]), "INVALID_CONFIG", "Unknown topic config name: no.such.");
    check(topic("t", 1, &[("retention.sm", "1")]), "INVALID_CONFIG", "Did you mean retention.ms?");
    check(topic("t", 1, &[("retention.ms", "soon")]), "INVALID_CONFIG", "\"soon\" for retention.ms");
    check(topic("t", 1, &[("segment.bytes", "1048575")]), "INVALID_CONFIG", "at least 1048576");
    check(topic("t", 1, &[("cleanup.policy", "compress")]), "INVALID_CONFIG", "a list of compact, delete");
    check(CreatableTopic { configs: vec![null], ..topic("t", 1, &[]) }, "INVALID_CONFIG", "Null value");
    check(
        topic("t", 1, &[("follower.replication.throttled.replicas", &"0:1,".repeat(9000))]),
        "INVALID_CONFIG",
        "32768",
    );
    check(topic("t", 1, &[("cleanup.policy", "")]), "NONE", "");
    check(topic("t", 1, &[("flush.ms", "5")]), "NONE", "");
}

#[test]
fn assignments_are_checked() {
    let with_count = CreatableTopic { num_partitions: 1, ..assigned("t", &[(0, &[1])]) };
    let with_factor = CreatableTopic { replication_factor: 1, ..assigned("t", &[(0, &[1])]) };
    check(with_count, "INVALID_REQUEST", "number of partitions must be -1");
    check(with_factor, "INVALID_REQUEST", "replication factor must be -1");
    check(assigned("t", &[(0, &[])]), "INVALID_REPLICA_ASSIGNMENT", "names no broker");
    check(assigned("t", &[(0, &[2])]), "INVALID_REPLICA_ASSIGNMENT", "broker 2, which is not registered");
    check(assigned("t", &[(0, &[1, 1])]), "INVALID_REPLICA_ASSIGNMENT", "more than once");
    check(assigned("t", &[(0, &[1]), (0, &[1])]), "INVALID_REPLICA_ASSIGNMENT", "more than once");
    check(assigned("t", &[(0, &[1]), (2, &[1])]), "INVALID_REPLICA_ASSIGNMENT", "without a gap");
    check(assigned("t", &[(-1, &[1])]), "INVALID_REPLICA_ASSIGNMENT", "without a gap");
    check(assigned("t", &[(1, &[1]), (0, &[1])]), "NONE", "");
}

#[test]
fn a_name_that_a_request_uses_twice_is_refused_and_answered_once() {
    let mut cluster = Cluster::new();
    let results = create(&mut cluster, vec![topic("a", 1, &[]), topic("b", 1, &[]), topic("a", 2, &[])]);
    let told: Vec<_> = results.iter().map(|result| (result.name.to_string(), error(result.error_code))).collect();
    assert_eq!(told, [("a".to_owned(), "INVALID_REQUEST"), ("b".to_owned(), "NONE")]);
}

#[test]
fn two_names_of_a_request_that_collide_are_not_both_created() {
    let mut cluster = Cluster::new();
    let results = create(&mut cluster, vec![topic("a.b", 1, &[]), topic("a_b", 1, &[])]);
    assert_eq!(error(results[0].error_code), "NONE");
    assert_eq!(error(results[1].error_code), "INVALID_TOPIC_EXCEPTION");
}

#[test]
fn one_topics_failure_does_not_stop_the_others() {
    let mut cluster = Cluster::new();
    let results = create(&mut cluster, vec![topic("a", 0, &[]), topic("b", 1, &[])]);
    assert_eq!(
        results.iter().map(|result| error(result.error_code)).collect::<Vec<_>>(),
        ["INVALID_PARTITIONS", "NONE"]
    );
    assert!(cluster.controller.image().topic_named("b").is_some());
}

#[test]
fn what_is_only_validated_is_answered_and_not_done() {
    let mut cluster = Cluster::new();
    let request = CreateTopicsRequest { topics: vec![topic("a", 2, &[])], validate_only: true, ..Default::default() };
    let decision = cluster.controller.create_topics(&mut cluster.rng, &request);
    assert_eq!(decision.records, []);
    let result = &decision.response.topics[0];
    assert_eq!((result.error_code, result.num_partitions, result.topic_id), (0, 2, Uuid::ZERO));
}

#[test]
fn a_request_for_too_many_partitions_is_refused_before_they_are_made() {
    let most = i32::try_from(PARTITIONS_PER_REQUEST_MAX).expect("small");
    check(topic("t", i32::MAX, &[]), "POLICY_VIOLATION", "One request may create 10000 partitions at most");
    let mut cluster = Cluster::new();
    let results = create(&mut cluster, vec![topic("a", most, &[]), topic("b", 1, &[])]);
    assert_eq!(results.iter().map(|result| error(result.error_code)).collect::<Vec<_>>(), ["NONE", "POLICY_VIOLATION"]);
    for more in 1..PARTITIONS_MAX / PARTITIONS_PER_REQUEST_MAX {
        cluster.create(&format!("more{more}"), most, &[]);
    }
    let result = create(&mut cluster, vec![topic("b", 1, &[])]).remove(0);
    assert_eq!(error(result.error_code), "POLICY_VIOLATION");
    assert!(result.error_message.is_some_and(|message| message.contains("100000 exist")));
}

#[test]
fn a_request_for_too_many_bytes_of_records_is_refused() {
    let long = "0:1,".repeat(8000);
    let mut cluster = Cluster::new();
    let topics = (0..100).map(|at| topic(&format!("t{at}"), 1, &[("leader.replication.throttled.replicas", &long)]));
    let results = create(&mut cluster, topics.collect());
    assert_eq!(error(results[0].error_code), "NONE");
    assert_eq!(error(results[99].error_code), "POLICY_VIOLATION");
}

#[test]
fn a_client_that_asks_for_a_topic_gets_one_with_the_defaults() {
    let mut cluster = Cluster::with(&[("num.partitions", "4")]);
    let decision = cluster.controller.auto_create(&mut cluster.rng, &["orders".into(), "..".into()]);
    let refused = cluster.commit(decision);
    assert_eq!(cluster.controller.image().topic_named("orders").map(|topic| topic.partitions.len()), Some(4));
    assert_eq!(refused.len(), 1);
    assert!(refused[0].1.to_string().starts_with("INVALID_TOPIC_EXCEPTION: "), "{}", refused[0].1);
}

fn grow(cluster: &mut Cluster, count: i32, assignments: Option<&[&[i32]]>) -> (&'static str, String) {
    let assignments = assignments.map(|partitions| {
        partitions.iter().map(|brokers| CreatePartitionsAssignment { broker_ids: brokers.to_vec() }).collect()
    });
    let topic = CreatePartitionsTopic { name: "orders".into(), count, assignments };
    let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    let decision = cluster.controller.create_partitions(&request);
    let result = cluster.commit(decision).results.remove(0);
    (error(result.error_code), result.error_message.map(|message| message.to_string()).unwrap_or_default())
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut cluster = Cluster::new();
    assert_eq!(grow(&mut cluster, 2, None).0, "UNKNOWN_TOPIC_OR_PARTITION");
    cluster.create("orders", 2, &[]);
    assert_eq!(grow(&mut cluster, 5, None).0, "NONE");
    let partitions = |cluster: &Cluster| cluster.controller.image().topic_named("orders").map(|t| t.partitions.len());
    assert_eq!(partitions(&cluster), Some(5));
    assert_eq!(grow(&mut cluster, 5, None), ("INVALID_PARTITIONS", "Topic already has 5 partition(s).".to_owned()));
    assert_eq!(grow(&mut cluster, 4, None).0, "INVALID_PARTITIONS");
    assert_eq!(grow(&mut cluster, -1, None).0, "INVALID_PARTITIONS");
    assert_eq!(grow(&mut cluster, i32::MAX, None).0, "POLICY_VIOLATION");
    assert_eq!(grow(&mut cluster, 7, Some(&[&[1]])).0, "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(grow(&mut cluster, 6, Some(&[&[9]])).0, "INVALID_REPLICA_ASSIGNMENT");
    assert_eq!(grow(&mut cluster, 6, Some(&[&[1]])).0, "NONE");
    assert_eq!(partitions(&cluster), Some(6));
}

#[test]
fn growing_can_be_only_validated_and_names_a_topic_once() {
    let mut cluster = Cluster::new();
    cluster.create("orders", 1, &[]);
    let topic = CreatePartitionsTopic { name: "orders".into(), count: 2, assignments: None };
    let mut request =
        CreatePartitionsRequest { topics: vec![topic.clone()], validate_only: true, ..Default::default() };
    let decision = cluster.controller.create_partitions(&request);
    assert_eq!((decision.records.len(), decision.response.results[0].error_code), (0, 0));
    request = CreatePartitionsRequest { topics: vec![topic.clone(), topic], ..Default::default() };
    let decision = cluster.controller.create_partitions(&request);
    let codes: Vec<_> = decision.response.results.iter().map(|result| error(result.error_code)).collect();
    assert_eq!((decision.records.len(), codes), (0, vec!["INVALID_REQUEST"]));
}
