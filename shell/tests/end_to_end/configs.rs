//! Configs of topics and of the broker: described with their source, altered as a whole or one by one.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
    alter_configs_request, incremental_alter_configs_request,
};

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::code;
use crate::support::topic::{Topic, eventually, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const DEFAULT_CONFIG: i8 = 5;
const SET: i8 = 0;
const DELETE: i8 = 1;

fn describe(
    client: &mut Client,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> Vec<DescribeConfigsResourceResult> {
    let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    let of = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys);
    let request = DescribeConfigsRequest::default().with_resources(vec![of]).with_include_synonyms(true);
    let result = client.call(version, &request).results.remove(0);
    assert_eq!(result.error_code, code::NONE, "version {version}: {:?}", result.error_message);
    result.configs
}

fn value(client: &mut Client, topic: &Topic, key: &str) -> (String, i8) {
    let config = describe(client, 4, TOPIC, &topic.name, Some(&[key])).remove(0);
    (config.value.expect("a value").to_string(), config.config_source)
}

#[test]
fn every_version_describes_a_topics_configs() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "described", 1, &[("retention.ms", "86400000")]);
    for version in client.versions::<DescribeConfigsRequest>() {
        let all = describe(&mut client, version, TOPIC, &topic.name, None);
        let find =
            |key: &str| all.iter().find(|config| config.name.as_str() == key).expect("Kafka's own name is known");
        assert_eq!(find("retention.ms").value.as_deref(), Some("86400000"), "version {version}");
        assert_eq!(find("retention.ms").config_source, DYNAMIC_TOPIC_CONFIG, "version {version}");
        assert_eq!(find("cleanup.policy").value.as_deref(), Some("delete"), "version {version}");
        assert_eq!(find("cleanup.policy").config_source, DEFAULT_CONFIG, "version {version}");
        assert!(!find("retention.ms").read_only && !find("retention.ms").is_sensitive, "version {version}");
        assert_eq!(find("retention.ms").synonyms[0].name.as_str(), "retention.ms", "version {version}");
        if version >= 3 {
            let (long, list) = (5, 7);
            assert_eq!((find("retention.ms").config_type, find("cleanup.policy").config_type), (long, list));
        }
        let one = describe(&mut client, version, TOPIC, &topic.name, Some(&["segment.bytes"]));
        assert_eq!((one.len(), one[0].value.as_deref()), (1, Some("1073741824")), "version {version}");
    }
}

#[test]
fn the_brokers_configs_are_described_by_its_id() {
    let broker = Broker::start();
    let mut client = broker.client();
    let node = client.call(1, &MetadataRequest::default()).brokers[0].node_id.0.to_string();
    let all = describe(&mut client, 4, BROKER, &node, None);
    for key in ["num.partitions", "auto.create.topics.enable", "log.retention.ms", "message.max.bytes", "node.id"] {
        assert!(all.iter().any(|config| config.name.as_str() == key), "{key}");
    }
}

#[test]
fn configs_of_a_topic_that_is_not_there() {
    let broker = Broker::start();
    let mut client = broker.client();
    let of = DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text("nowhere"));
    let request = DescribeConfigsRequest::default().with_resources(vec![of.with_configuration_keys(None)]);
    assert_eq!(client.call(4, &request).results[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn every_version_of_alter_configs_replaces_them_all() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in client.versions::<AlterConfigsRequest>() {
        let topic = Topic::create(&mut client, "alter", 1, &[("retention.ms", "86400000")]);
        let mut alter = |key, value| {
            let config =
                alter_configs_request::AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
            let of = alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(topic.name.0.clone())
                .with_configs(vec![config]);
            client.call(version, &AlterConfigsRequest::default().with_resources(vec![of])).responses[0].error_code
        };
        assert_eq!(alter("retention.bytes", "5000"), code::NONE, "version {version}");
        assert_eq!(alter("no.such.config", "1"), code::INVALID_CONFIG, "version {version}");
        eventually("the new value", || value(&mut client, &topic, "retention.bytes").0 == "5000");
        assert_eq!(
            value(&mut client, &topic, "retention.ms"),
            ("604800000".into(), DEFAULT_CONFIG),
            "version {version}"
        );
    }
}

#[test]
fn every_version_of_incremental_alter_configs_changes_one() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in client.versions::<IncrementalAlterConfigsRequest>() {
        let topic = Topic::create(&mut client, "increment", 1, &[("retention.bytes", "7000")]);
        let mut alter = |operation, key, value: Option<&str>, validate_only| {
            let config = incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(operation)
                .with_value(value.map(text));
            let of = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(topic.name.0.clone())
                .with_configs(vec![config]);
            let request =
                IncrementalAlterConfigsRequest::default().with_resources(vec![of]).with_validate_only(validate_only);
            client.call(version, &request).responses[0].error_code
        };
        assert_eq!(alter(SET, "retention.ms", Some("1234"), true), code::NONE, "version {version}: only asked");
        assert_eq!(alter(SET, "retention.ms", Some("3600000"), false), code::NONE, "version {version}");
        assert_eq!(alter(SET, "retention.ms", Some("soon"), false), code::INVALID_CONFIG, "version {version}");
        eventually("the new value", || value(&mut client, &topic, "retention.ms").0 == "3600000");
        let mut alter_again = |operation, key| {
            let config = incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(operation)
                .with_value(None);
            let of = incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(topic.name.0.clone())
                .with_configs(vec![config]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![of]);
            client.call(version, &request).responses[0].error_code
        };
        assert_eq!(alter_again(DELETE, "retention.ms"), code::NONE, "version {version}");
        eventually("the default", || value(&mut client, &topic, "retention.ms").1 == DEFAULT_CONFIG);
        assert_eq!(value(&mut client, &topic, "retention.bytes").0, "7000", "version {version}: untouched");
    }
}

#[test]
fn as_many_connections_are_open_as_clients_set_and_as_many_after_a_restart() {
    let Some(mut broker) = Broker::start_own(&["--set", "max.connections=7"]) else { return };
    let set = |client: &mut Client, value: &str| {
        let config = incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text("max.connections.per.ip"))
            .with_config_operation(SET)
            .with_value(Some(text(value)));
        let of = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text("1"))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![of]);
        assert_eq!(client.call(1, &request).responses[0].error_code, code::NONE);
    };
    // How many of ten clients are answered while all are connected.
    let served = |broker: &Broker| {
        let mut clients: Vec<Client> = (0..10).map(|_| broker.client()).collect();
        clients.iter_mut().filter_map(|client| client.try_call(1, &MetadataRequest::default()).ok()).count()
    };
    let mut client = broker.client();
    eventually("the file's limit, of which we have one", || served(&broker) == 6);
    set(&mut client, "3");
    eventually("a lower limit", || served(&broker) == 2);
    broker.kill();
    broker.restart();
    eventually("the same limit", || served(&broker) == 3);
}
