//! Changing and describing settings.

use super::{Cluster, error};
use chronik_core::controller::image::Change;
use chronik_core::controller::records::{MetadataRecord, Resource};
use chronik_core::ids::NodeId;
use chronik_core::wire::alter_configs::{self, AlterConfigsRequest};
use chronik_core::wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use chronik_core::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn change(name: &str, config_operation: i8, value: Option<&str>) -> AlterableConfig {
    AlterableConfig { name: name.into(), config_operation, value: value.map(Into::into) }
}

fn changes(resource_type: i8, resource_name: &str, configs: &[AlterableConfig]) -> AlterConfigsResource {
    AlterConfigsResource { resource_type, resource_name: resource_name.into(), configs: configs.to_vec() }
}

fn alter(cluster: &mut Cluster, resources: &[AlterConfigsResource]) -> Vec<(&'static str, String)> {
    let request = IncrementalAlterConfigsRequest { resources: resources.to_vec(), validate_only: false };
    let decision = cluster.controller.incremental_alter_configs(&request);
    let responses = cluster.commit(decision).responses;
    let message = |message: Option<chronik_core::wire::Str>| message.as_deref().unwrap_or_default().to_owned();
    responses.into_iter().map(|response| (error(response.error_code), message(response.error_message))).collect()
}

/// What one change is answered, in a cluster with the topic `orders`.
#[track_caller]
fn check(resource: (i8, &str), config: AlterableConfig, expect: &str, says: &str) {
    let mut cluster = Cluster::new();
    cluster.create("orders", 1, &[]);
    let (told, message) = alter(&mut cluster, &[changes(resource.0, resource.1, &[config])]).remove(0);
    assert_eq!(told, expect, "{message}");
    assert!(message.contains(says), "{message}");
}

fn replace(cluster: &mut Cluster, resource: (i8, &str), pairs: &[(&str, Option<&str>)]) -> (&'static str, String) {
    let configs = pairs
        .iter()
        .map(|(name, value)| alter_configs::AlterableConfig { name: (*name).into(), value: value.map(Into::into) });
    let resource = alter_configs::AlterConfigsResource {
        resource_type: resource.0,
        resource_name: resource.1.into(),
        configs: configs.collect(),
    };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    let decision = cluster.controller.alter_configs(&request);
    let response = cluster.commit(decision).responses.remove(0);
    (error(response.error_code), response.error_message.as_deref().unwrap_or_default().to_owned())
}

fn describe(cluster: &Cluster, resource: (i8, &str), keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: resource.0,
        resource_name: resource.1.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: true };
    cluster.controller.describe_configs(&request).results.remove(0)
}

/// A setting as it is described: value and source.
fn setting(cluster: &Cluster, resource: (i8, &str), name: &str) -> (Option<String>, i8) {
    let described = describe(cluster, resource, Some(&[name])).configs.remove(0);
    (described.value.as_deref().map(str::to_owned), described.config_source)
}

fn some(value: &str, source: i8) -> (Option<String>, i8) {
    (Some(value.to_owned()), source)
}

#[test]
fn a_topics_setting_is_set_and_deleted() {
    let mut cluster = Cluster::new();
    let id = cluster.create("orders", 1, &[]);
    let orders = (TOPIC, "orders");
    assert_eq!(
        alter(&mut cluster, &[changes(TOPIC, "orders", &[change("retention.ms", SET, Some(" 5 "))])])[0].0,
        "NONE"
    );
    assert_eq!(setting(&cluster, orders, "retention.ms"), some("5", 1));
    assert_eq!(cluster.controller.topic_config(id).and_then(|config| config.retention_ms), Some(5));
    assert_eq!(alter(&mut cluster, &[changes(TOPIC, "orders", &[change("retention.ms", DELETE, None)])])[0].0, "NONE");
    assert_eq!(setting(&cluster, orders, "retention.ms"), some("604800000", 5));
}

#[test]
fn a_change_is_a_fact_and_no_change_is_none() {
    let mut cluster = Cluster::new();
    let id = cluster.create("orders", 1, &[("retention.ms", "5")]);
    let request = |value: &str| IncrementalAlterConfigsRequest {
        resources: vec![changes(TOPIC, "orders", &[change("retention.ms", SET, Some(value))])],
        validate_only: false,
    };
    assert_eq!(cluster.controller.incremental_alter_configs(&request("5")).records, []);
    let decision = cluster.controller.incremental_alter_configs(&request("6"));
    assert_eq!(cluster.changes(&decision), [Change::TopicSettings(id)]);
    let validate = IncrementalAlterConfigsRequest { validate_only: true, ..request("7") };
    let decision = cluster.controller.incremental_alter_configs(&validate);
    assert_eq!((decision.records.len(), decision.response.responses[0].error_code), (0, 0));
}

#[test]
fn lists_are_appended_to_and_subtracted_from() {
    let mut cluster = Cluster::new();
    cluster.create("orders", 1, &[]);
    let name = "leader.replication.throttled.replicas";
    let orders = (TOPIC, "orders");
    let mut apply = |operation, value| {
        alter(&mut cluster, &[changes(TOPIC, "orders", &[change(name, operation, Some(value))])]).remove(0)
    };
    assert_eq!(apply(APPEND, "0:1,0:2").0, "NONE");
    assert_eq!(apply(APPEND, "0:2,0:3").0, "NONE");
    assert_eq!(apply(SUBTRACT, "0:1,9:9").0, "NONE");
    assert_eq!(setting(&cluster, orders, name), some("0:2,0:3", 1));
    check(orders, change("cleanup.policy", SUBTRACT, Some("delete")), "NONE", "");
    check(orders, change("cleanup.policy", APPEND, Some("compress")), "INVALID_CONFIG", "a list of compact, delete");
    check(orders, change("retention.ms", APPEND, Some("5")), "INVALID_CONFIG", "Can't APPEND to key retention.ms");
}

#[test]
fn bad_changes_are_refused() {
    let orders = (TOPIC, "orders");
    check(orders, change("retention.sm", SET, Some("5")), "INVALID_CONFIG", "Did you mean retention.ms?");
    check(orders, change("no.such", APPEND, Some("5")), "INVALID_CONFIG", "Unknown topic config name: no.such.");
    check(orders, change("retention.ms", SET, Some("-2")), "INVALID_CONFIG", "at least -1");
    check(orders, change("retention.ms", SET, None), "INVALID_REQUEST", "Null value not supported for retention.ms");
    check(orders, change("retention.ms", 9, Some("1")), "INVALID_REQUEST", "Unknown operation type 9");
    check((TOPIC, "unknown"), change("retention.ms", SET, Some("1")), "UNKNOWN_TOPIC_OR_PARTITION", "does not exist");
    check((TOPIC, ""), change("retention.ms", SET, Some("1")), "INVALID_REQUEST", "Default topic resources");
    check((TOPIC, "a b"), change("retention.ms", SET, Some("1")), "INVALID_TOPIC_EXCEPTION", "ASCII");
    check((BROKER_LOGGER, "1"), change("root", SET, Some("INFO")), "INVALID_REQUEST", "--log-level");
    check((3, "x"), change("root", SET, Some("INFO")), "INVALID_REQUEST", "Unknown resource type 3");
    let group = (32, "g");
    check(
        group,
        change("consumer.session.timeout.ms", SET, Some("1")),
        "INVALID_REQUEST",
        "Groups have no configs yet",
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused_together() {
    let mut cluster = Cluster::new();
    cluster.create("orders", 1, &[("min.compaction.lag.ms", "10")]);
    let resource = changes(TOPIC, "orders", &[change("max.compaction.lag.ms", SET, Some("9"))]);
    let (told, message) = alter(&mut cluster, &[resource]).remove(0);
    assert_eq!((told, message.contains("must not exceed")), ("INVALID_CONFIG", true));
}

#[test]
fn what_a_request_names_twice_is_refused_both_times() {
    let mut cluster = Cluster::new();
    cluster.create("orders", 1, &[]);
    let resource = changes(TOPIC, "orders", &[change("retention.ms", SET, Some("5"))]);
    let told = alter(&mut cluster, &[resource.clone(), resource]);
    assert!(told.iter().all(|(told, message)| *told == "INVALID_REQUEST" && message.contains("at most once")));
    let twice =
        changes(TOPIC, "orders", &[change("retention.ms", SET, Some("5")), change("retention.ms", DELETE, None)]);
    let (told, message) = alter(&mut cluster, &[twice]).remove(0);
    assert_eq!((told, message.contains("given twice")), ("INVALID_REQUEST", true));
}

#[test]
fn the_older_way_replaces_all_settings() {
    let mut cluster = Cluster::new();
    cluster.create("orders", 1, &[("retention.ms", "5"), ("segment.ms", "6")]);
    let orders = (TOPIC, "orders");
    assert_eq!(replace(&mut cluster, orders, &[("segment.ms", Some("7"))]).0, "NONE");
    assert_eq!(setting(&cluster, orders, "segment.ms"), some("7", 1));
    assert_eq!(setting(&cluster, orders, "retention.ms").1, 5, "what was not named is not set any more");
    assert_eq!(replace(&mut cluster, orders, &[("segment.ms", None)]).0, "INVALID_REQUEST");
    assert_eq!(replace(&mut cluster, (BROKER_LOGGER, "1"), &[]).0, "INVALID_REQUEST");
    assert_eq!(replace(&mut cluster, orders, &[]).0, "NONE");
    assert_eq!(setting(&cluster, orders, "segment.ms").1, 5);
}

#[test]
fn a_dynamic_broker_setting_reaches_topics_that_have_none_of_their_own() {
    let mut cluster = Cluster::with(&[("log.retention.hours", "1")]);
    let id = cluster.create("orders", 1, &[]);
    let retention = |cluster: &Cluster| cluster.controller.topic_config(id).and_then(|config| config.retention_ms);
    assert_eq!(retention(&cluster), Some(3_600_000));
    let mut set = |name: &str, value: &str| {
        let resource = changes(BROKER, name, &[change("log.retention.ms", SET, Some(value))]);
        assert_eq!(alter(&mut cluster, &[resource])[0], ("NONE", String::new()));
        retention(&cluster)
    };
    assert_eq!(set("", "7"), Some(7));
    assert_eq!(set("1", "8"), Some(8));
    assert_eq!(setting(&cluster, (BROKER, "1"), "log.retention.ms"), some("8", 2));
    assert_eq!(setting(&cluster, (BROKER, ""), "log.retention.ms"), some("7", 3));
    let synonyms: Vec<_> = describe(&cluster, (TOPIC, "orders"), Some(&["retention.ms"]))
        .configs
        .remove(0)
        .synonyms
        .iter()
        .map(|synonym| {
            (synonym.name.to_string(), synonym.value.as_deref().unwrap_or_default().to_owned(), synonym.source)
        })
        .collect();
    let expect = [("log.retention.ms", "8", 2), ("log.retention.ms", "7", 3), ("log.retention.hours", "1", 4)];
    let expect = expect.map(|(name, value, source)| (name.to_owned(), value.to_owned(), source));
    assert_eq!(synonyms[..3], expect);
}

#[test]
fn broker_settings_are_changed_only_if_they_are_dynamic() {
    let this = (BROKER, "1");
    check(
        this,
        change("num.partitions", SET, Some("3")),
        "INVALID_REQUEST",
        "Cannot update num.partitions dynamically",
    );
    check(this, change("max.connections", SET, Some("3")), "NONE", "");
    check(this, change("max.connections", SET, Some("-3")), "INVALID_CONFIG", "at least 0");
    check(this, change("max.connection", SET, Some("3")), "INVALID_CONFIG", "Did you mean max.connections?");
    check((BROKER, "2"), change("max.connections", SET, Some("3")), "INVALID_REQUEST", "expected 1, but received 2");
    check((BROKER, "me"), change("max.connections", SET, Some("3")), "INVALID_REQUEST", "must be an integer");
    check((BROKER, ""), change("ssl.keystore.type", SET, Some("PEM")), "INVALID_REQUEST", "name a broker");
    check(this, change("ssl.keystore.type", SET, Some("PEM")), "NONE", "");
}

#[test]
fn a_value_that_an_earlier_version_took_does_not_keep_others_from_being_set() {
    let mut cluster = Cluster::new();
    let of = Resource::Broker(NodeId(1));
    let record = MetadataRecord::Config { of, name: "ssl.keystore.location".into(), value: Some("/k".into()) };
    cluster.index += 1;
    cluster.controller.replay(cluster.index, &record);
    let mut set = |name, operation, value| {
        alter(&mut cluster, &[changes(BROKER, "1", &[change(name, operation, value)])]).remove(0).0
    };
    assert_eq!(set("max.connections", SET, Some("3")), "NONE");
    assert_eq!(set("ssl.keystore.location", SET, Some("/other")), "INVALID_CONFIG");
    assert_eq!(set("ssl.keystore.location", DELETE, None), "NONE");
}

fn find<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|config| config.name == *name).expect("it is described")
}

#[test]
fn all_settings_of_a_topic_are_described() {
    let mut cluster = Cluster::new();
    cluster.create("orders", 1, &[]);
    let all = describe(&cluster, (TOPIC, "orders"), None);
    assert_eq!(all.configs.len(), describe(&cluster, (TOPIC, "orders"), Some(&[])).configs.len());
    let retention = find(&all, "retention.ms");
    assert_eq!((retention.config_type, retention.read_only, retention.is_sensitive), (5, false, false));
    assert!(retention.documentation.as_deref().is_some_and(|text| text.contains("How long records are kept")));
    let flush = find(&all, "flush.ms");
    assert!(flush.documentation.as_deref().is_some_and(|text| text.contains("Without effect")), "it says so");
    assert!(all.configs.iter().all(|config| config.name != *"internal.segment.bytes"));
}

#[test]
fn all_settings_of_a_broker_are_described_and_secrets_are_not_shown() {
    let cluster = Cluster::with(&[("num.partitions", "3"), ("ssl.key.password", "hunter2")]);
    let all = describe(&cluster, (BROKER, "1"), None);
    let partitions = find(&all, "num.partitions");
    assert_eq!((partitions.value.as_deref(), partitions.config_source, partitions.read_only), (Some("3"), 4, true));
    let secret = find(&all, "ssl.key.password");
    assert_eq!((secret.value.clone(), secret.is_sensitive, secret.config_type), (None, true, 9));
    assert!(secret.synonyms.iter().all(|synonym| synonym.value.is_none()));
    assert_eq!(describe(&cluster, (BROKER, ""), None).configs, [], "nobody has set a default for all");
}

#[test]
fn synonyms_and_documentation_are_given_on_request() {
    let cluster = Cluster::new();
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: BROKER,
            resource_name: "1".into(),
            configuration_keys: Some(vec!["num.partitions".into()]),
        }],
        ..Default::default()
    };
    let described = cluster.controller.describe_configs(&request).results.remove(0).configs.remove(0);
    assert_eq!((described.synonyms.len(), described.documentation), (0, None));
}

#[test]
fn what_does_not_exist_is_not_described() {
    let cluster = Cluster::new();
    let told = |resource| error(describe(&cluster, resource, None).error_code);
    assert_eq!(told((TOPIC, "orders")), "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(told((TOPIC, "a b")), "INVALID_TOPIC_EXCEPTION");
    assert_eq!(told((BROKER, "2")), "INVALID_REQUEST");
    assert_eq!(told((BROKER_LOGGER, "1")), "INVALID_REQUEST");
}
