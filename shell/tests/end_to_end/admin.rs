//! Topics, partitions, records and the cluster as administrators see them, in every version.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeLogDirsRequest, DescribeTopicPartitionsRequest, MetadataRequest, TopicName, UpdateFeaturesRequest,
};

use crate::support::batch::Batch;
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::code;
use crate::support::topic::{Topic, eventually, fresh_name, text};

fn create(client: &mut Client, version: i16, topic: CreatableTopic) -> i16 {
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    client.call(version, &request).topics[0].error_code
}

fn one_partition(name: TopicName) -> CreatableTopic {
    CreatableTopic::default().with_name(name).with_num_partitions(1).with_replication_factor(1)
}

#[test]
fn metadata_in_every_version_names_the_broker_and_the_topic() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "metadata", 3, &[]);
    for version in client.versions::<MetadataRequest>() {
        let of = MetadataRequestTopic::default().with_name(Some(topic.name.clone()));
        let response = client.call(version, &MetadataRequest::default().with_topics(Some(vec![of])));
        assert_eq!(response.brokers.len(), 1, "version {version}");
        let address = format!("{}:{}", response.brokers[0].host.as_str(), response.brokers[0].port);
        if broker.is_own() {
            assert_eq!(address.replace("localhost", "127.0.0.1"), broker.address(), "version {version}");
        }
        let described = &response.topics[0];
        assert_eq!((described.error_code, described.partitions.len()), (code::NONE, 3), "version {version}");
        assert_eq!(described.name.as_ref(), Some(&topic.name), "version {version}");
        let node = response.brokers[0].node_id;
        for partition in &described.partitions {
            assert_eq!(partition.leader_id, node, "version {version}");
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![node], &vec![node]));
        }
        if version >= 1 {
            assert_eq!(response.controller_id, node, "version {version}");
        }
        if version >= 2 {
            assert!(response.cluster_id.is_some_and(|id| !id.is_empty()), "version {version}");
        }
        if version >= 7 {
            assert!(described.partitions[0].leader_epoch >= 0, "version {version}");
        }
        if version >= 10 {
            assert_eq!(described.topic_id, topic.created.topic_id, "version {version}");
        }
    }
}

#[test]
fn metadata_lists_all_topics_or_none() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "listed", 1, &[]);
    for version in client.versions::<MetadataRequest>() {
        let has = |topics: &[kafka_protocol::messages::metadata_response::MetadataResponseTopic]| {
            topics.iter().any(|listed| listed.name.as_ref() == Some(&topic.name))
        };
        // In version 0 an empty list means all; from 1 on, null does.
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let response = client.call(version, &MetadataRequest::default().with_topics(all));
        assert!(has(&response.topics), "version {version}");
        if version >= 1 {
            let none = client.call(version, &MetadataRequest::default().with_topics(Some(Vec::new())));
            assert!(none.topics.is_empty(), "version {version}");
        }
    }
}

#[test]
fn metadata_finds_a_topic_by_its_id() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "by-id", 1, &[]);
    for version in client.versions::<MetadataRequest>().filter(|&version| version >= 12) {
        let of = MetadataRequestTopic::default().with_name(None).with_topic_id(topic.created.topic_id);
        let found = client.call(version, &MetadataRequest::default().with_topics(Some(vec![of]))).topics.remove(0);
        assert_eq!((found.error_code, found.name), (code::NONE, Some(topic.name.clone())), "version {version}");
    }
}

#[test]
fn create_topics_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in client.versions::<CreateTopicsRequest>() {
        let name = fresh_name("create");
        let topic = one_partition(name.clone()).with_num_partitions(4);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let created = client.call(version, &request).topics.remove(0);
        assert_eq!((created.error_code, &created.name), (code::NONE, &name), "version {version}");
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (4, 1), "version {version}");
            let configs = created.configs.expect("configs are told");
            assert!(configs.iter().any(|config| config.name.as_str() == "retention.ms"), "version {version}");
        }
        assert_eq!(create(&mut client, version, one_partition(name)), code::TOPIC_ALREADY_EXISTS, "version {version}");
    }
}

#[test]
fn create_topics_refuses_what_makes_no_sense() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut check = |topic: CreatableTopic, expected| assert_eq!(create(&mut client, 7, topic), expected);
    for name in ["", ".", "..", "with space", "with/slash", "ä", &"x".repeat(250)] {
        check(one_partition(TopicName(text(name))), code::INVALID_TOPIC);
    }
    check(one_partition(fresh_name("none")).with_num_partitions(0), code::INVALID_PARTITIONS);
    check(one_partition(fresh_name("three")).with_replication_factor(3), code::INVALID_REPLICATION_FACTOR);
    let config = kafka_protocol::messages::create_topics_request::CreatableTopicConfig::default();
    let unknown = config.clone().with_name(text("no.such.config")).with_value(Some(text("1")));
    check(one_partition(fresh_name("unknown")).with_configs(vec![unknown]), code::INVALID_CONFIG);
    let bad = config.with_name(text("retention.ms")).with_value(Some(text("soon")));
    check(one_partition(fresh_name("bad")).with_configs(vec![bad]), code::INVALID_CONFIG);
}

#[test]
fn create_topics_validates_without_creating() {
    let broker = Broker::start();
    let mut client = broker.client();
    let name = fresh_name("validate");
    let request = CreateTopicsRequest::default()
        .with_topics(vec![one_partition(name.clone())])
        .with_timeout_ms(10_000)
        .with_validate_only(true);
    assert_eq!(client.call(7, &request).topics[0].error_code, code::NONE);
    assert_eq!(create(&mut client, 7, one_partition(name)), code::NONE);
}

#[test]
fn create_topics_takes_an_assignment() {
    let broker = Broker::start();
    let mut client = broker.client();
    let node = client.call(1, &MetadataRequest::default()).brokers[0].node_id;
    let assignments = (0..2).map(|partition| {
        CreatableReplicaAssignment::default().with_partition_index(partition).with_broker_ids(vec![node])
    });
    let topic = one_partition(fresh_name("assigned"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(assignments.collect());
    assert_eq!(create(&mut client, 7, topic), code::NONE);
}

#[test]
fn delete_topics_in_every_version_by_name_and_by_id() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in client.versions::<DeleteTopicsRequest>() {
        let topic = Topic::create(&mut client, "delete", 1, &[]);
        let by_name = |name: &TopicName| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
            if version < 6 {
                request.with_topic_names(vec![name.clone()])
            } else {
                request.with_topics(vec![DeleteTopicState::default().with_name(Some(name.clone()))])
            }
        };
        assert_eq!(
            client.call(version, &by_name(&topic.name)).responses[0].error_code,
            code::NONE,
            "version {version}"
        );
        let gone = code::UNKNOWN_TOPIC_OR_PARTITION;
        eventually("the topic is gone", || topic.describe(&mut client).error_code == gone);
        assert_eq!(client.call(version, &by_name(&topic.name)).responses[0].error_code, gone, "version {version}");
    }
    let topic = Topic::create(&mut client, "delete-by-id", 1, &[]);
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(topic.created.topic_id);
    let request = DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![by_id]);
    assert_eq!(client.call(6, &request).responses[0].error_code, code::NONE);
    assert_eq!(client.call(6, &request).responses[0].error_code, code::UNKNOWN_TOPIC_ID);
}

#[test]
fn a_topic_created_again_has_a_new_id_and_none_of_the_old_records() {
    let broker = Broker::start();
    let mut client = broker.client();
    let first = Topic::create(&mut client, "again", 1, &[]);
    first.produce(&mut client, 0, &Batch::numbered(10));
    let request = DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topic_names(vec![first.name.clone()]);
    client.call(5, &request);
    eventually("the topic is gone", || first.describe(&mut client).error_code == code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(create(&mut client, 7, one_partition(first.name.clone())), code::NONE);
    eventually("the topic is back", || first.describe(&mut client).error_code == code::NONE);
    assert_ne!(first.describe(&mut client).topic_id, first.created.topic_id);
    assert_eq!(first.produce(&mut client, 0, &Batch::of(["new"])), 0);
    assert_eq!(first.read(&mut client, 0, 0), ["new"]);
    // Whoever still holds the old id must learn that it is gone.
    let stale = first.produce_in(&mut client, 13, Batch::of(["stale"]).encode());
    assert_eq!(stale.error_code, code::UNKNOWN_TOPIC_ID);
}

#[test]
fn create_partitions_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in client.versions::<CreatePartitionsRequest>() {
        let topic = Topic::create(&mut client, "grow", 2, &[]);
        let mut grow = |count| {
            let of =
                CreatePartitionsTopic::default().with_name(topic.name.clone()).with_count(count).with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![of]).with_timeout_ms(10_000);
            client.call(version, &request).results[0].error_code
        };
        assert_eq!(grow(5), code::NONE, "version {version}");
        assert_eq!(grow(5), code::INVALID_PARTITIONS, "version {version}: as many as there are");
        assert_eq!(grow(3), code::INVALID_PARTITIONS, "version {version}: fewer than there are");
        eventually("five partitions", || topic.describe(&mut client).partitions.len() == 5);
        eventually("the last one is led", || topic.end_of(&mut client, 4).error_code == code::NONE);
        assert_eq!(topic.produce(&mut client, 4, &Batch::numbered(1)), 0);
    }
}

#[test]
fn delete_records_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in client.versions::<DeleteRecordsRequest>() {
        let topic = Topic::create(&mut client, "trim", 1, &[]);
        topic.produce(&mut client, 0, &Batch::numbered(10));
        topic.produce(&mut client, 0, &Batch::numbered(10));
        let mut trim = |offset| {
            let partition = DeleteRecordsPartition::default().with_offset(offset);
            let of = DeleteRecordsTopic::default().with_name(topic.name.clone()).with_partitions(vec![partition]);
            let request = DeleteRecordsRequest::default().with_topics(vec![of]).with_timeout_ms(10_000);
            let answer = client.call(version, &request).topics.remove(0).partitions.remove(0);
            (answer.error_code, answer.low_watermark)
        };
        assert_eq!(trim(15), (code::NONE, 15), "version {version}");
        assert_eq!(trim(12), (code::NONE, 15), "version {version}: it never moves back");
        assert_eq!(trim(21).0, code::OFFSET_OUT_OF_RANGE, "version {version}: above the high watermark");
        assert_eq!(topic.list_offset(&mut client, 5, -2).offset, 15, "version {version}");
        assert_eq!(topic.fetch_in(&mut client, 11, 0, 14).error_code, code::OFFSET_OUT_OF_RANGE, "version {version}");
        assert_eq!(topic.read(&mut client, 0, 15).len(), 5, "version {version}");
    }
}

#[test]
fn delete_records_up_to_the_high_watermark() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "trim-all", 1, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(10));
    let partition = DeleteRecordsPartition::default().with_offset(-1);
    let of = DeleteRecordsTopic::default().with_name(topic.name.clone()).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![of]).with_timeout_ms(10_000);
    assert_eq!(client.call(2, &request).topics[0].partitions[0].low_watermark, 10);
    assert_eq!(topic.produce(&mut client, 0, &Batch::numbered(1)), 10, "offsets go on where they were");
}

#[test]
fn describe_cluster_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let metadata = client.call(9, &MetadataRequest::default().with_topics(Some(Vec::new())));
    for version in client.versions::<DescribeClusterRequest>() {
        let response = client.call(version, &DescribeClusterRequest::default());
        assert_eq!(response.error_code, code::NONE, "version {version}");
        assert_eq!(Some(response.cluster_id), metadata.cluster_id, "version {version}");
        assert_eq!(response.controller_id, metadata.controller_id, "version {version}");
        assert_eq!(response.brokers.len(), 1, "version {version}");
        assert_eq!(response.brokers[0].host, metadata.brokers[0].host, "version {version}");
        assert_eq!(response.brokers[0].port, metadata.brokers[0].port, "version {version}");
    }
}

#[test]
fn update_features_in_every_version_changes_all_or_none() {
    let broker = Broker::start();
    let mut client = broker.client();
    for version in client.versions::<UpdateFeaturesRequest>() {
        let mut update = |updates: &[(&str, i16)]| {
            let updates = updates.iter().map(|&(feature, level)| {
                let update = FeatureUpdateKey::default().with_feature(text(feature)).with_max_version_level(level);
                if version >= 1 { update.with_upgrade_type(1) } else { update }
            });
            let request = UpdateFeaturesRequest::default().with_timeout_ms(10_000);
            let response = client.call(version, &request.with_feature_updates(updates.collect()));
            (response.error_code, response.results.iter().map(|result| result.error_code).collect::<Vec<_>>())
        };
        let as_it_is = ("group.version", 1);
        let rows = if version < 2 { vec![code::NONE] } else { vec![] };
        assert_eq!(update(&[as_it_is]), (code::NONE, rows), "version {version}");
        for refused in [("group.version", 9), ("no.such.version", 1)] {
            let none = (code::INVALID_UPDATE_VERSION, vec![]);
            assert_eq!(update(&[refused]), none, "version {version}: {refused:?}");
        }
        let none = (code::INVALID_UPDATE_VERSION, vec![]);
        assert_eq!(update(&[as_it_is, ("no.such.version", 1)]), none, "version {version}");
    }
}

#[test]
fn describe_log_dirs_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "dirs", 2, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(100));
    for version in client.versions::<DescribeLogDirsRequest>() {
        let of = DescribableLogDirTopic::default().with_topic(topic.name.clone()).with_partitions(vec![0, 1]);
        for topics in [Some(vec![of]), None] {
            let response = client.call(version, &DescribeLogDirsRequest::default().with_topics(topics));
            assert_eq!(response.results.len(), 1, "version {version}: one directory");
            let directory = &response.results[0];
            assert_eq!(directory.error_code, code::NONE, "version {version}");
            if version >= 4 {
                let (total, usable) = (directory.total_bytes, directory.usable_bytes);
                assert!(total > 0 && (0..=total).contains(&usable), "version {version}: {usable} of {total} bytes");
            }
            let of = directory.topics.iter().find(|found| found.name == topic.name).expect("the topic is there");
            let mut sizes: Vec<_> = of.partitions.iter().map(|p| (p.partition_index, p.partition_size > 0)).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [(0, true), (1, false)], "version {version}");
        }
    }
}

#[test]
fn describe_topic_partitions_page_by_page() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "pages", 5, &[]);
    let of = TopicRequest::default().with_name(topic.name.clone());
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![of])
        .with_response_partition_limit(3)
        .with_cursor(None);
    for version in client.versions::<DescribeTopicPartitionsRequest>() {
        let first = client.call(version, &request);
        assert_eq!(first.topics[0].partitions.len(), 3, "version {version}");
        assert_eq!(first.topics[0].topic_id, topic.created.topic_id, "version {version}");
        let cursor = first.next_cursor.expect("there is more");
        assert_eq!((&cursor.topic_name, cursor.partition_index), (&topic.name, 3), "version {version}");
        let next = kafka_protocol::messages::describe_topic_partitions_request::Cursor::default()
            .with_topic_name(cursor.topic_name)
            .with_partition_index(cursor.partition_index);
        let second = client.call(version, &request.clone().with_cursor(Some(next)));
        let indexes: Vec<_> = second.topics[0].partitions.iter().map(|p| p.partition_index).collect();
        assert_eq!((indexes, second.next_cursor.is_none()), (vec![3, 4], true), "version {version}");
    }
}

#[test]
fn describe_topic_partitions_of_an_unknown_topic() {
    let broker = Broker::start();
    let mut client = broker.client();
    let of = TopicRequest::default().with_name(fresh_name("nowhere"));
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![of])
        .with_response_partition_limit(2000)
        .with_cursor(None);
    assert_eq!(client.call(0, &request).topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}
