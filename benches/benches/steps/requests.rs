//! What is asked of the node, at its largest.

use chronik_core::batch::{BatchBuilder, BatchLimits, verify};
use chronik_core::boundary::{Produce, ProducePartition, ProduceTopic, Request};
use chronik_core::ids::TopicId;
use chronik_core::time::Timestamp;
use chronik_core::wire::Str;
use chronik_core::wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use chronik_core::wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use chronik_core::wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use chronik_core::wire::describe_log_dirs::DescribeLogDirsRequest;
use chronik_core::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use chronik_core::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_core::wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use chronik_core::wire::metadata::{MetadataRequest, MetadataRequestTopic};

use super::Driver;

/// The partitions of the one large topic, and of all small ones together.
const PARTITIONS: i32 = 10_000;
const SMALL_TOPICS: usize = 1_000;
const LARGE: &str = "large";

pub(crate) fn measure_all(driver: &mut Driver) {
    let nothing = |_: &mut Driver, _: usize| {};
    driver.ask(1, 7, create(&[(LARGE.to_owned(), PARTITIONS)]));
    driver.ask(1, 7, create(&small().map(|name| (name, PARTITIONS / SMALL_TOPICS as i32)).collect::<Vec<_>>()));

    driver.measure("Metadata, 1,001 topics with 20,000 partitions", nothing, |driver, _| {
        driver.ask(1, 12, MetadataRequest { topics: None, ..MetadataRequest::default() });
    });
    driver.measure("Metadata, a topic with 10,000 partitions", nothing, |driver, _| {
        driver.ask(1, 12, MetadataRequest { topics: Some(vec![named(LARGE)]), ..MetadataRequest::default() });
    });
    driver.measure("Metadata, a topic with 10 partitions", nothing, |driver, _| {
        driver.ask(1, 12, MetadataRequest { topics: Some(vec![named("small-7")]), ..MetadataRequest::default() });
    });
    driver.measure("Metadata, 1,000 topics by name", nothing, |driver, _| {
        let topics = small().map(|name| named(&name)).collect();
        driver.ask(1, 12, MetadataRequest { topics: Some(topics), ..MetadataRequest::default() });
    });
    driver.measure("ListOffsets, 10,000 partitions of 1,000 topics", nothing, |driver, _| driver.ask(1, 7, list()));
    driver.measure("DescribeConfigs, 1,000 topics", nothing, |driver, _| {
        let resources = small().map(|name| resource(2, &name)).collect();
        driver.ask(1, 4, DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() });
    });
    driver.measure("DescribeConfigs, a broker", nothing, |driver, _| {
        let resources = vec![resource(4, "1")];
        driver.ask(1, 4, DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() });
    });
    driver.measure("DescribeLogDirs, all", nothing, |driver, _| {
        driver.ask(1, 4, DescribeLogDirsRequest::default());
    });

    driver.measure("Fetch, 1 partition, 1,000 times", nothing, |driver, _| {
        for _ in 0..1_000 {
            driver.ask(1, 12, few(1, -1));
        }
    });
    driver.measure("Fetch, 250 partitions, no session", nothing, |driver, _| driver.ask(1, 12, few(250, -1)));
    driver.measure(
        "Fetch, 250 partitions, a new session",
        |driver, _| driver.close(2),
        |driver, _| driver.ask(2, 12, few(250, 0)),
    );
    driver.measure("Fetch, 10,000 partitions, no session", nothing, |driver, _| driver.ask(1, 12, fetch(-1, 0, 0)));
    driver.measure(
        "Fetch, 10,000 partitions, a new session",
        |driver, _| driver.close(2),
        |driver, _| driver.ask(2, 12, fetch(0, 0, 0)),
    );
    driver.measure(
        "Fetch, 10,000 partitions, a new session that waits",
        |driver, _| driver.close(3),
        |driver, _| driver.ask(3, 12, fetch(0, 1, 500)),
    );
    driver.ask(4, 12, fetch(0, 0, 0));
    let session = driver.session;
    let epoch = std::cell::Cell::new(0);
    let next = || {
        epoch.set(epoch.get() + 1);
        epoch.get()
    };
    let incremental = |session_epoch, max_wait_ms| FetchRequest {
        session_id: session,
        topics: Vec::new(),
        ..fetch(session_epoch, 1, max_wait_ms)
    };
    driver.ask(4, 12, incremental(next(), 0));
    driver.measure("Fetch, a session of 10,000 partitions, idle", nothing, |driver, _| {
        driver.ask(4, 12, incremental(next(), 0));
    });
    driver.measure("Fetch, a session of 10,000 partitions that waits, and an answer", nothing, |driver, _| {
        driver.ask(4, 12, incremental(next(), 500));
        driver.ask(4, 12, incremental(next(), 0));
    });
    driver.measure(
        "Fetch, a session of 10,000 partitions, one of them dirty",
        |driver, _| driver.input(1, 9, produce("small-7", -1)),
        |driver, _| driver.ask(4, 12, incremental(next(), 500)),
    );
    driver.measure(
        "Fetch, a session of 10,000 partitions, all of them dirty",
        |driver, _| driver.input(1, 9, produce("small-7", -1)),
        |driver, _| driver.ask(4, 12, FetchRequest { session_id: session, ..fetch(next(), 1, 0) }),
    );
    driver.measure(
        "Closing the connection of a session that waits",
        |driver, _| driver.ask(3, 12, fetch(0, 1, 500)),
        |driver, _| driver.close(3),
    );
    driver.measure(
        "Fetch, 10,000 partitions of one topic, no session, waits",
        |driver, _| driver.close(4),
        |driver, _| driver.ask(4, 12, FetchRequest { max_wait_ms: 500, min_bytes: 1, ..few(PARTITIONS, -1) }),
    );
    driver.measure(
        "Closing that connection",
        |driver, _| driver.ask(4, 12, FetchRequest { max_wait_ms: 500, min_bytes: 1, ..few(PARTITIONS, -1) }),
        |driver, _| driver.close(4),
    );

    driver.measure(
        "Produce, 10,000 fetches wait for other bytes",
        |driver, run| wait(driver, run, i32::MAX),
        |driver, _| driver.input(1, 9, produce(LARGE, -1)),
    );
    driver.measure(
        "Produce, 10,000 fetches wait for it",
        |driver, run| wait(driver, run, 1),
        |driver, _| driver.input(1, 9, produce(LARGE, -1)),
    );

    driver.measure("A setting of all brokers changes", nothing, |driver, run| {
        driver.ask(1, 1, alter("log.retention.ms", &(run + 1_000_000).to_string()));
    });

    let name = |run: usize| format!("made-{run}");
    driver.measure("CreateTopics, 1,000 partitions", nothing, |driver, run| {
        driver.ask(1, 7, create(&[(name(run), 1_000)]));
    });
    driver.measure("DeleteTopics, 1,000 partitions", nothing, |driver, run| driver.ask(1, 6, delete(&[name(run)])));
    driver.measure("CreateTopics, 10,000 partitions", nothing, |driver, run| {
        driver.ask(1, 7, create(&[(name(run + 100), PARTITIONS)]));
        driver.ask(1, 6, delete(&[name(run + 100)]));
    });
    driver.measure(
        "DeleteTopics, 10,000 partitions",
        |driver, run| driver.ask(1, 7, create(&[(name(run), PARTITIONS)])),
        |driver, run| driver.ask(1, 6, delete(&[name(run)])),
    );
    driver.measure(
        "DeleteTopics, 1,000 topics with 10,000 partitions",
        |driver, run| {
            let topics = (0..SMALL_TOPICS).map(|topic| (format!("gone-{run}-{topic}"), 10));
            driver.ask(1, 7, create(&topics.collect::<Vec<_>>()));
        },
        |driver, run| {
            driver.ask(1, 6, delete(&(0..SMALL_TOPICS).map(|topic| format!("gone-{run}-{topic}")).collect::<Vec<_>>()))
        },
    );
    driver.measure_often(1, "A checkpoint of 20,000 partitions", nothing, |driver, _| driver.stop());
}

fn small() -> impl Iterator<Item = String> {
    (0..SMALL_TOPICS).map(|topic| format!("small-{topic}"))
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() }
}

fn resource(resource_type: i8, name: &str) -> DescribeConfigsResource {
    DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys: None }
}

pub(crate) fn create(topics: &[(String, i32)]) -> CreateTopicsRequest {
    let topic = |(name, partitions): &(String, i32)| CreatableTopic {
        name: name.as_str().into(),
        num_partitions: *partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    CreateTopicsRequest { topics: topics.iter().map(topic).collect(), ..CreateTopicsRequest::default() }
}

pub(crate) fn delete(names: &[String]) -> DeleteTopicsRequest {
    let topic = |name: &String| DeleteTopicState { name: Some(name.as_str().into()), ..DeleteTopicState::default() };
    DeleteTopicsRequest { topics: names.iter().map(topic).collect(), ..DeleteTopicsRequest::default() }
}

/// Sets what topics inherit that have no setting of their own.
pub(crate) fn alter(name: &str, value: &str) -> IncrementalAlterConfigsRequest {
    let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
    let resource = AlterConfigsResource { resource_type: 4, resource_name: "".into(), configs: vec![config] };
    IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false }
}

fn list() -> ListOffsetsRequest {
    let partition =
        |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..ListOffsetsPartition::default() };
    let topic =
        |name: String| ListOffsetsTopic { name: name.as_str().into(), partitions: (0..10).map(partition).collect() };
    ListOffsetsRequest { topics: small().map(topic).collect(), ..ListOffsetsRequest::default() }
}

fn wanted(partition: i32) -> FetchPartition {
    FetchPartition {
        partition,
        fetch_offset: 0,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    }
}

fn fetch(session_epoch: i32, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    let topic = |name: String| FetchTopic {
        topic: name.as_str().into(),
        partitions: (0..10).map(wanted).collect(),
        ..FetchTopic::default()
    };
    let topics = small().map(topic).collect();
    FetchRequest { max_wait_ms, min_bytes, session_epoch, topics, ..FetchRequest::default() }
}

/// The first partitions of the large topic.
fn few(partitions: i32, session_epoch: i32) -> FetchRequest {
    let partitions = (0..partitions).map(wanted).collect();
    let topics = vec![FetchTopic { topic: LARGE.into(), partitions, ..FetchTopic::default() }];
    FetchRequest { session_epoch, topics, ..FetchRequest::default() }
}

/// Ten thousand connections wait for bytes of one partition.
fn wait(driver: &mut Driver, run: usize, min_bytes: i32) {
    for conn in 1_000..11_000 {
        driver.close(conn);
        let partition = FetchPartition { fetch_offset: -1, ..wanted(0) };
        let offset = i64::try_from(run).expect("few runs") + if min_bytes == 1 { super::RUNS as i64 } else { 0 };
        let topic = FetchTopic {
            topic: LARGE.into(),
            partitions: vec![FetchPartition { fetch_offset: offset, ..partition }],
            ..FetchTopic::default()
        };
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes,
            session_epoch: -1,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        driver.ask(conn, 12, request);
    }
}

/// One record for the first partition of a topic.
pub(crate) fn produce(topic: &'static str, acks: i16) -> Request {
    let limits = BatchLimits { batch_bytes_max: 1 << 20, decompressed_bytes_max: 1 << 20 };
    let batch = BatchBuilder::new().record(Timestamp(1_700_000_000_000), None, Some(b"value")).build();
    let batch = verify(batch, &limits).expect("a sound batch");
    let partition = ProducePartition { index: 0, batch: Ok(batch) };
    let topic = ProduceTopic {
        name: Str::from_static(topic),
        id: TopicId::ZERO,
        partitions: [partition].into_iter().collect(),
    };
    let topics = [topic].into_iter().collect();
    let produce = Produce { acks, timeout_ms: 1000, transactional_id: None, may_write_internal: false, topics };
    Request::Produce(produce.into())
}
