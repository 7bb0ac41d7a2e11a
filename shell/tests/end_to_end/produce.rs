//! Produce: every version, every kind of acknowledgement, and the batches that are refused.

use chronik_core::batch::{Records, Scan};
use kafka_protocol::messages::{MetadataRequest, ProduceRequest};
use kafka_protocol::records::TimestampType;

use crate::support::batch::{Batch, records};
use crate::support::broker::Broker;
use crate::support::code;
use crate::support::topic::{PRODUCE_BY_ID, Topic, eventually, fresh_name};

/// Now, in milliseconds since 1970.
fn wall_clock() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(now.as_millis()).expect("the clock is below the year 292 million")
}

#[test]
fn every_version_appends_and_says_where() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "produce", 1, &[]);
    let mut end = 0;
    for version in client.versions::<ProduceRequest>() {
        let answer = topic.produce_in(&mut client, version, Batch::numbered(3).encode());
        assert_eq!((answer.error_code, answer.base_offset), (code::NONE, end), "version {version}");
        assert_eq!(answer.log_append_time_ms, -1, "version {version}: the timestamps are the producer's");
        if version >= 5 {
            assert_eq!(answer.log_start_offset, 0, "version {version}");
        }
        end += 3;
    }
    assert_eq!(topic.read(&mut client, 0, 0).len() as i64, end);
}

#[test]
fn acks_0_is_not_answered_and_still_written() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "acks-0", 1, &[]);
    for _ in 0..10 {
        let request = topic.produce_request(9, 0, 0, Batch::numbered(1).encode());
        client.send(9, &request).expect("the connection is open");
    }
    // The next answer on this connection belongs to the next request that asks for one.
    eventually("ten records arrive", || topic.list_offset(&mut client, 5, -1).offset == 10);
}

#[test]
fn acks_1_and_all_are_answered_when_it_is_written() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "acks", 1, &[]);
    for (acks, end) in [(1, 5), (-1, 10)] {
        let request = topic.produce_request(9, 0, acks, Batch::numbered(5).encode());
        let response = client.call(9, &request);
        assert_eq!(response.responses[0].partition_responses[0].error_code, code::NONE);
        assert_eq!(topic.read(&mut client, 0, 0).len(), end, "acks={acks}");
    }
}

#[test]
fn other_acks_are_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "acks-2", 1, &[]);
    let response = client.call(9, &topic.produce_request(9, 0, 2, Batch::numbered(1).encode()));
    assert_eq!(response.responses[0].partition_responses[0].error_code, code::INVALID_REQUIRED_ACKS);
    assert_eq!(topic.list_offset(&mut client, 5, -1).offset, 0);
}

#[test]
fn an_unknown_topic_is_refused_by_name_and_by_id() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut topic = Topic::create(&mut client, "known", 1, &[]);
    topic.name = fresh_name("unknown");
    assert_eq!(topic.refusal(&mut client, Batch::numbered(1).encode()), code::UNKNOWN_TOPIC_OR_PARTITION);
    let mut request = topic.produce_request(PRODUCE_BY_ID, 0, -1, Batch::numbered(1).encode());
    request.topic_data[0].topic_id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().expect("an id");
    let response = client.call(PRODUCE_BY_ID, &request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, code::UNKNOWN_TOPIC_ID);
}

#[test]
fn an_unknown_partition_is_refused_and_the_others_are_written() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "partitions", 2, &[]);
    let mut request = topic.produce_request(9, 7, -1, Batch::numbered(1).encode());
    let known = topic.produce_request(9, 1, -1, Batch::numbered(1).encode());
    request.topic_data[0].partition_data.extend(known.topic_data[0].partition_data.clone());
    let mut answers = client.call(9, &request).responses.remove(0).partition_responses;
    answers.sort_by_key(|answer| answer.index);
    let codes: Vec<_> = answers.iter().map(|answer| (answer.index, answer.error_code)).collect();
    assert_eq!(codes, [(1, code::NONE), (7, code::UNKNOWN_TOPIC_OR_PARTITION)]);
}

#[test]
fn a_batch_that_its_crc_does_not_prove_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "crc", 1, &[]);
    let mut batch = Batch::numbered(3).encode().to_vec();
    *batch.last_mut().expect("a batch has bytes") ^= 1;
    assert_eq!(topic.refusal(&mut client, batch.into()), code::CORRUPT_MESSAGE);
    assert_eq!(topic.list_offset(&mut client, 5, -1).offset, 0);
}

#[test]
fn a_second_batch_for_one_partition_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "two", 1, &[]);
    let two = [Batch::numbered(1).encode(), Batch::numbered(1).encode()].concat();
    assert_eq!(topic.refusal(&mut client, two.into()), code::INVALID_RECORD);
}

#[test]
fn a_batch_above_max_message_bytes_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "large", 1, &[("max.message.bytes", "2000")]);
    assert_eq!(topic.refusal(&mut client, Batch::of(["x".repeat(3000)]).encode()), code::MESSAGE_TOO_LARGE);
    assert_eq!(topic.produce(&mut client, 0, &Batch::of(["x".repeat(1500)])), 0);
}

#[test]
fn a_batch_is_stored_in_the_codec_of_its_topic() {
    let broker = Broker::start();
    let mut client = broker.client();
    for (name, code) in [("uncompressed", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        let topic = Topic::create(&mut client, name, 1, &[("compression.type", name)]);
        for version in [9, PRODUCE_BY_ID] {
            let answer = topic.produce_in(&mut client, version, Batch::of(["a", "b", "c"]).encode());
            assert_eq!(answer.error_code, code::NONE, "{name}: {:?}", answer.error_message);
        }
        let fetched = topic.fetch_in(&mut client, 11, 0, 0).records.expect("records");
        let mut values = Vec::new();
        for batch in Scan::checked(&fetched) {
            let batch = batch.expect("whole batches");
            assert_eq!(fetched[batch.range.start + 22] & 0b111, code, "{name}: the codec is in the attributes");
            let mut records = Records::open(&fetched[batch.range], 1 << 20).expect("a sound batch");
            while let Some(record) = records.next_record().expect("sound records") {
                values.push(record.value.expect("a value").to_vec());
            }
        }
        assert_eq!(values, [b"a", b"b", b"c"].repeat(2), "{name}");
    }
}

#[test]
fn the_largest_batch_that_a_topic_may_take_is_written_and_read_back() {
    let broker = Broker::start();
    let mut client = broker.client();
    let most = 16 * 1024 * 1024 - 1024;
    let topic = Topic::create(&mut client, "largest", 1, &[("max.message.bytes", &most.to_string())]);
    let overhead = Batch::of([""]).encode().len() + 6;
    let batch = Batch::of([vec![7; most - overhead]]).encode();
    assert_eq!(batch.len(), most);
    assert_eq!(topic.produce_in(&mut client, 9, batch.clone()).error_code, code::NONE);
    let fetched = topic.fetch_in(&mut client, 11, 0, 0).records.expect("records");
    assert!(fetched[61..] == batch[61..]);
}

#[test]
fn a_timestamp_from_far_ahead_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "ahead", 1, &[]);
    // message.timestamp.after.max.ms is an hour (KIP-1030).
    let two_hours = 2 * 3_600_000;
    let batch = Batch::numbered(1).at(wall_clock() + two_hours);
    assert_eq!(topic.refusal(&mut client, batch.encode()), code::INVALID_TIMESTAMP);
    assert_eq!(topic.produce(&mut client, 0, &Batch::numbered(1).at(wall_clock())), 0);
}

#[test]
fn log_append_time_overwrites_the_producers_timestamps() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "append-time", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = wall_clock();
    let answer = topic.produce_in(&mut client, 9, Batch::numbered(3).encode());
    assert!((before..=wall_clock()).contains(&answer.log_append_time_ms), "{}", answer.log_append_time_ms);
    let batch = topic.fetch_in(&mut client, 11, 0, 0).records.expect("records");
    assert_eq!(records(batch.clone())[0].timestamp_type, TimestampType::LogAppend);
    // The second codec keeps each record's own delta; what counts for a reader is the batch's maximum.
    let max_timestamp = batch[35..43].try_into().expect("eight bytes");
    assert_eq!(i64::from_be_bytes(max_timestamp), answer.log_append_time_ms);
}

#[test]
fn a_topic_is_created_by_asking_for_it_where_that_is_allowed() {
    let broker = Broker::start();
    let mut client = broker.client();
    let name = fresh_name("auto");
    let topic = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default().with_name(Some(name));
    let ask = |allowed| {
        MetadataRequest::default().with_topics(Some(vec![topic.clone()])).with_allow_auto_topic_creation(allowed)
    };
    let refused = client.call(12, &ask(false)).topics.remove(0);
    assert_eq!(refused.error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    client.call(12, &ask(true));
    eventually("the topic is there", || client.call(12, &ask(false)).topics[0].error_code == code::NONE);
}
