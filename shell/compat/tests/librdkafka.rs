//! librdkafka against the broker: produce with every kind of acknowledgement and codec, consume from assigned
//! partitions, administer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronik_compat::client::{PATIENCE, admin, config, create, options, produce, producer, values};
use chronik_compat::{Broker, fresh_name};
use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

fn consumer(broker: &Broker) -> BaseConsumer {
    // librdkafka demands a group id, which it uses only once it subscribes or commits.
    let settings = [("group.id", "none"), ("enable.auto.commit", "false"), ("enable.partition.eof", "false")];
    let mut config = config(broker);
    for (key, value) in settings {
        config.set(key, value);
    }
    config.create().expect("the settings are librdkafka's")
}

fn assign(consumer: &BaseConsumer, topic: &str, positions: &[(i32, Offset)]) {
    let mut assignment = TopicPartitionList::new();
    for &(partition, offset) in positions {
        assignment.add_partition_offset(topic, partition, offset).expect("the offset is one to start from");
    }
    consumer.assign(&assignment).expect("an assignment needs no broker");
}

fn poll<T>(consumer: &BaseConsumer, count: usize, take: impl Fn(&BorrowedMessage) -> T) -> Vec<T> {
    let mut found = Vec::new();
    while found.len() < count {
        let polled = consumer.poll(PATIENCE);
        let message = polled.unwrap_or_else(|| panic!("only {} of {count} records came", found.len()));
        found.push(take(&message.expect("no error of the consumer")));
    }
    found
}

fn text(message: &BorrowedMessage) -> String {
    String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()
}

fn read(broker: &Broker, topic: &str, partition: i32, count: usize) -> Vec<String> {
    let consumer = consumer(broker);
    assign(&consumer, topic, &[(partition, Offset::Beginning)]);
    poll(&consumer, count, text)
}

#[tokio::test]
async fn acknowledged_records_are_read_back_in_order() {
    let broker = Broker::start();
    let topic = create(&broker, "order", 3, &[]).await;
    let producer = producer(&broker, &[("linger.ms", "0")]);
    for partition in 0..3 {
        let offsets = produce(&producer, &topic, partition, &values(1000)).await;
        assert_eq!(offsets, Vec::from_iter(0..1000));
        assert_eq!(read(&broker, &topic, partition, 1000), values(1000));
    }
}

#[tokio::test]
async fn every_kind_of_acks() {
    let broker = Broker::start();
    let topic = create(&broker, "acks", 3, &[]).await;
    for (partition, acks) in [(0, "0"), (1, "1"), (2, "all")] {
        produce(&producer(&broker, &[("acks", acks)]), &topic, partition, &values(300)).await;
        assert_eq!(read(&broker, &topic, partition, 300), values(300), "acks={acks}");
    }
}

#[tokio::test]
async fn an_idempotent_producer() {
    let broker = Broker::start();
    let topic = create(&broker, "idempotent", 1, &[]).await;
    let producer = producer(&broker, &[("enable.idempotence", "true"), ("batch.num.messages", "50")]);
    for round in 0..4 {
        let offsets = produce(&producer, &topic, 0, &values(500)).await;
        assert_eq!(offsets, Vec::from_iter(500 * round..500 * (round + 1)));
    }
    assert_eq!(read(&broker, &topic, 0, 2000)[1500..], values(500));
}

#[tokio::test]
async fn every_codec() {
    let broker = Broker::start();
    let topic = create(&broker, "codecs", 5, &[]).await;
    for (partition, codec) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let producer = producer(&broker, &[("compression.type", codec), ("linger.ms", "50")]);
        produce(&producer, &topic, partition, &values(1000)).await;
        assert_eq!(read(&broker, &topic, partition, 1000), values(1000), "{codec}");
    }
}

#[tokio::test]
async fn topics_with_a_codec_of_their_own() {
    let broker = Broker::start();
    for codec in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let topic = create(&broker, codec, 1, &[("compression.type", codec)]).await;
        produce(&producer(&broker, &[("linger.ms", "50")]), &topic, 0, &values(1000)).await;
        assert_eq!(read(&broker, &topic, 0, 1000), values(1000), "{codec}");
    }
}

/// As long as transactions are not served: whoever asks for them must be told, and neither wait nor try again.
#[tokio::test]
async fn a_transactional_producer_fails_at_once() {
    let broker = Broker::start();
    let producer = producer(&broker, &[("transactional.id", "some-id")]);
    let begun = Instant::now();
    let error = producer.init_transactions(PATIENCE).expect_err("it is not let in");
    let KafkaError::Transaction(error) = error else { panic!("another error: {error}") };
    assert!(error.is_fatal() && !error.is_retriable(), "{error}");
    assert!(begun.elapsed() < PATIENCE / 4, "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn keys_headers_timestamps_and_no_value() {
    let broker = Broker::start();
    let topic = create(&broker, "parts", 1, &[]).await;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("1") })
        .insert(Header { key: "a", value: Some("2") })
        .insert(Header::<&str> { key: "none", value: None });
    let minute_ago = SystemTime::now() - Duration::from_secs(60);
    let timestamp = minute_ago.duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as i64;
    let record = FutureRecord::<_, str>::to(&topic).partition(0).key("k").headers(headers).timestamp(timestamp);
    let producer = producer(&broker, &[]);
    producer.send_result(record).expect("room").await.expect("the producer lives").expect("the broker takes it");
    let consumer = consumer(&broker);
    assign(&consumer, &topic, &[(0, Offset::Beginning)]);
    poll(&consumer, 1, |message| {
        assert_eq!((message.key(), message.payload()), (Some(&b"k"[..]), None));
        assert_eq!(message.timestamp().to_millis(), Some(timestamp));
        let headers: Vec<_> = message.headers().expect("headers").iter().map(|h| (h.key, h.value)).collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", Some(&b"2"[..])), ("none", None)]);
    });
}

#[tokio::test]
async fn a_consumer_starts_where_it_is_told() {
    let broker = Broker::start();
    let topic = create(&broker, "start", 1, &[]).await;
    produce(&producer(&broker, &[]), &topic, 0, &values(100)).await;
    let check = |from, count, first| {
        let consumer = consumer(&broker);
        assign(&consumer, &topic, &[(0, from)]);
        assert_eq!(poll(&consumer, count, |message| message.offset())[0], first, "{from:?}");
    };
    check(Offset::Beginning, 100, 0);
    check(Offset::Offset(42), 58, 42);
    check(Offset::OffsetTail(7), 7, 93);
}

#[tokio::test]
async fn a_consumer_at_the_end_gets_what_comes() {
    let broker = Broker::start();
    let topic = create(&broker, "tail", 2, &[]).await;
    let consumer = consumer(&broker);
    assign(&consumer, &topic, &[(0, Offset::Beginning), (1, Offset::Beginning)]);
    let producer = producer(&broker, &[("linger.ms", "0")]);
    for round in 0..20 {
        produce(&producer, &topic, round % 2, &values(1)).await;
        assert_eq!(poll(&consumer, 1, |message| message.partition()), [round % 2]);
    }
}

#[tokio::test]
async fn watermarks_and_offsets_for_times() {
    let broker = Broker::start();
    let topic = create(&broker, "times", 1, &[]).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as i64;
    let producer = producer(&broker, &[("linger.ms", "50"), ("compression.type", "lz4")]);
    let begin = now - 60_000;
    let sent: Vec<_> = (0..100)
        .map(|number| {
            let record = FutureRecord::<(), _>::to(&topic).partition(0).payload("x").timestamp(begin + 10 * number);
            producer.send_result(record).expect("room")
        })
        .collect();
    for delivery in sent {
        delivery.await.expect("the producer lives").expect("the broker takes it");
    }
    let consumer = consumer(&broker);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE), Ok((0, 100)));
    let find = |timestamp| {
        let mut ask = TopicPartitionList::new();
        ask.add_partition_offset(&topic, 0, Offset::Offset(timestamp)).expect("a timestamp is not negative");
        let answer = consumer.offsets_for_times(ask, PATIENCE).expect("the broker answers");
        answer.find_partition(&topic, 0).expect("the partition that was asked for").offset()
    };
    assert_eq!(find(begin + 495), Offset::Offset(50));
    assert_eq!(find(begin), Offset::Offset(0));
    assert_eq!(find(now + 1_000_000), Offset::End);
}

#[tokio::test]
async fn large_records() {
    let broker = Broker::start();
    let topic = create(&broker, "large", 1, &[("max.message.bytes", "6000000")]).await;
    let producer = producer(&broker, &[("message.max.bytes", "20000000")]);
    let large = "x".repeat(5_000_000);
    produce(&producer, &topic, 0, std::slice::from_ref(&large)).await;
    assert_eq!(read(&broker, &topic, 0, 1)[0].len(), large.len());
    let too_large = "x".repeat(7_000_000);
    let record = FutureRecord::<(), _>::to(&topic).partition(0).payload(&too_large);
    let (error, _) = producer.send_result(record).expect("room").await.expect("the producer lives").expect_err("7 MB");
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
}

#[tokio::test]
async fn topics_are_created_listed_and_deleted() {
    let broker = Broker::start();
    let topic = create(&broker, "admin", 3, &[]).await;
    let consumer = consumer(&broker);
    let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).expect("the broker answers");
    assert_eq!((metadata.brokers().len(), metadata.topics()[0].partitions().len()), (1, 3));
    let again = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let answer = admin(&broker).create_topics(&[again], &options()).await.expect("the broker answers");
    assert_eq!(answer, [Err((topic.clone(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let deleted = admin(&broker).delete_topics(&[&topic], &options()).await.expect("the broker answers");
    assert_eq!(deleted, [Ok(topic.clone())]);
    let deleted = admin(&broker).delete_topics(&[&topic], &options()).await.expect("the broker answers");
    assert_eq!(deleted, [Err((topic, RDKafkaErrorCode::UnknownTopicOrPartition))]);
}

#[tokio::test]
async fn partitions_are_added() {
    let broker = Broker::start();
    let topic = create(&broker, "grow", 1, &[]).await;
    let grown = admin(&broker).create_partitions(&[NewPartitions::new(&topic, 4)], &options()).await;
    assert_eq!(grown.expect("the broker answers"), [Ok(topic.clone())]);
    produce(&producer(&broker, &[]), &topic, 3, &values(10)).await;
    assert_eq!(read(&broker, &topic, 3, 10), values(10));
}

#[tokio::test]
async fn configs_are_described_and_altered() {
    let broker = Broker::start();
    let topic = create(&broker, "configs", 1, &[("retention.ms", "86400000")]).await;
    let admin = admin(&broker);
    let resource = ResourceSpecifier::Topic(&topic);
    let retention = async || {
        let described = admin.describe_configs([&resource], &options()).await.expect("the broker answers").remove(0);
        described.expect("the topic is known").get("retention.ms").and_then(|entry| entry.value.clone())
    };
    assert_eq!(retention().await.as_deref(), Some("86400000"));
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("retention.ms", "3600000");
    let altered = admin.alter_configs([&change], &options()).await.expect("the broker answers");
    assert!(altered[0].is_ok(), "{altered:?}");
    assert_eq!(retention().await.as_deref(), Some("3600000"));
}

#[tokio::test]
async fn records_are_deleted() {
    let broker = Broker::start();
    let topic = create(&broker, "trim", 1, &[]).await;
    produce(&producer(&broker, &[]), &topic, 0, &values(100)).await;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(60)).expect("an offset");
    admin(&broker).delete_records(&before, &options()).await.expect("the broker answers");
    let consumer = consumer(&broker);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE), Ok((60, 100)));
    assert_eq!(read(&broker, &topic, 0, 40), values(100)[60..]);
}

#[tokio::test]
async fn a_topic_is_created_by_producing_to_it() {
    let broker = Broker::start();
    let topic = fresh_name("auto");
    let record = FutureRecord::<(), _>::to(&topic).payload("first");
    let delivery = producer(&broker, &[]).send_result(record).expect("room").await.expect("the producer lives");
    assert_eq!(delivery.expect("the broker takes it").offset, 0);
}
