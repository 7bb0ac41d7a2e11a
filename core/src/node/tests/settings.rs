//! Scenarios: what a setting says is what a client sees.

use super::*;
use crate::batch::{BatchHead, Codec};
use crate::wire::describe_topic_partitions::DescribeTopicPartitionsRequest;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// The heads of all batches from the topic's start on.
fn heads(rig: &mut Rig, topic: &'static str) -> Vec<BatchHead> {
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request(topic, 0, 0, 0).into()));
    let mut response = rig.fetched(sequence).expect("an answer");
    let data = response.responses.remove(0).partitions.remove(0);
    assert_eq!(data.error_code, 0);
    let bytes = data.records.expect("records, if none").0.concat();
    Scan::checked(&bytes).map(|found| found.expect("whole batches").head).collect()
}

fn codecs(rig: &mut Rig, topic: &'static str) -> Vec<Codec> {
    heads(rig, topic).iter().map(|head| head.attributes.codec().expect("a known codec")).collect()
}

#[test]
fn batches_are_stored_in_the_codec_of_their_topic() {
    for (name, codec) in [
        ("uncompressed", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ] {
        let mut rig = Rig::new();
        rig.create_with("t", 1, &[("compression.type", name)]);
        for sent in Codec::ALL {
            let batch = records(rig.now.wall, &["a", "b"]).codec(sent);
            let sequence = rig.send("t", 0, -1, batch);
            assert_eq!(rig.produced(sequence).expect("an acknowledgement").error_code, 0);
        }
        assert_eq!(codecs(&mut rig, "t"), [codec; 5]);
        assert_eq!(rig.consume("t", 0), ["a", "b"].repeat(5));
    }
}

#[test]
fn a_codec_counts_from_the_answer_to_its_change_on_and_after_a_restart() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.create_with("own", 1, &[("compression.type", "gzip")]);
    rig.produce("t", &["as it was sent"]);
    assert_eq!(rig.alter((TOPIC, "t"), "compression.type", "zstd"), 0);
    rig.produce("t", &["by zstd"]);
    assert_eq!(rig.alter((TOPIC, "t"), "compression.type", "producer"), 0);
    assert_eq!(rig.alter((BROKER, ""), "compression.type", "snappy"), 0);
    rig.produce("t", &["its own setting is stronger"]);
    rig.create("new", 1);
    rig.produce("new", &["by snappy"]);
    assert_eq!(codecs(&mut rig, "t"), [Codec::None, Codec::Zstd, Codec::None]);
    assert_eq!(codecs(&mut rig, "new"), [Codec::Snappy]);
    let mut rig = rig.crash();
    rig.produce("new", &["still by snappy"]);
    rig.produce("own", &["still by gzip"]);
    assert_eq!(codecs(&mut rig, "new"), [Codec::Snappy, Codec::Snappy]);
    assert_eq!(codecs(&mut rig, "own"), [Codec::Gzip]);
}

#[test]
fn a_topic_made_again_under_its_name_has_none_of_the_old_codec() {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("compression.type", "gzip")]);
    rig.delete("t");
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    assert_eq!(codecs(&mut rig, "t"), [Codec::None]);
}

#[test]
fn a_batch_is_measured_as_it_is_stored() {
    let mut rig = Rig::new();
    rig.create_with("small", 1, &[("compression.type", "zstd"), ("max.message.bytes", "500")]);
    rig.create_with("plain", 1, &[("compression.type", "uncompressed"), ("max.message.bytes", "500")]);
    let batch = |rig: &Rig| records(rig.now.wall, &[&"v".repeat(3_000)]);
    let sequence = rig.send("small", 0, -1, batch(&rig));
    assert_eq!(rig.produced(sequence).expect("an answer").error_code, 0, "zstd makes it small");
    let sequence = rig.send("plain", 0, -1, batch(&rig).codec(Codec::Zstd));
    let refused = rig.produced(sequence).expect("an answer");
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge.code(), "it is large without");
}

#[test]
fn a_duplicate_is_recognised_whatever_codec_its_topic_has_by_then() {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("compression.type", "lz4"), ("message.timestamp.type", "LogAppendTime")]);
    let batch = || records(Timestamp(5), &["a", "b"]).producer(ProducerId(4), ProducerEpoch(0), 0);
    let first = rig.send("t", 0, -1, batch());
    assert_eq!(rig.alter((TOPIC, "t"), "compression.type", "gzip"), 0);
    let second = rig.send("t", 0, -1, batch());
    for sequence in [first, second] {
        let response = rig.produced(sequence).expect("an acknowledgement");
        assert_eq!((response.error_code, response.base_offset), (0, 0));
        assert_eq!(response.log_append_time_ms, rig.now.wall.0);
    }
    assert_eq!(rig.consume("t", 0), ["a", "b"]);
}

#[test]
fn a_size_that_the_journal_cannot_hold_is_refused_as_a_setting() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    assert_eq!(rig.alter((TOPIC, "t"), "max.message.bytes", "16776192"), 0);
    for (resource, name) in [((TOPIC, "t"), "max.message.bytes"), ((BROKER, ""), "message.max.bytes")] {
        assert_eq!(rig.alter(resource, name, "16776193"), ErrorCode::InvalidConfig.code());
    }
    let told = BrokerConfig::parse([("message.max.bytes", "16776193")]).expect_err("refused").to_string();
    assert_eq!(told, "Invalid value \"16776193\" for message.max.bytes: allowed is from 0 to 16776192.");
}

/// The segment files of all topics.
fn segments(rig: &Rig) -> usize {
    rig.files.names().iter().filter(|name| matches!(name, FileName::Segment(_))).count()
}

fn fill(rig: &mut Rig, topic: &'static str) {
    let value = "v".repeat(3_000);
    for _ in 0..200 {
        rig.produce(topic, &[&value]);
    }
}

#[test]
fn files_of_a_deleted_topic_stay_for_their_delay() {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("file.delete.delay.ms", "5000")]);
    rig.create("kept", 1);
    fill(&mut rig, "t");
    fill(&mut rig, "kept");
    rig.delete("t");
    // A checkpoint for another reason does not remove them either.
    fill(&mut rig, "kept");
    rig.pass(4_999);
    assert_eq!(segments(&rig), 2);
    rig.pass(1);
    assert_eq!(segments(&rig), 1);
    assert_eq!(rig.consume("kept", 0).len(), 400);
}

#[test]
fn files_of_deleted_records_stay_for_their_delay() {
    let mut rig = Rig::with(&[("log.segment.delete.delay.ms", "5000")]);
    rig.create_with("t", 1, &[("internal.segment.bytes", "100000")]);
    fill(&mut rig, "t");
    let before = segments(&rig);
    assert!(before > 4);
    rig.delete_records("t", 199);
    rig.pass(4_999);
    assert_eq!(segments(&rig), before);
    rig.pass(1);
    assert!(segments(&rig) <= 1, "only the active segment may have a file, which it gets when it is first flushed");
    assert_eq!(rig.consume("t", 199).len(), 1);
}

#[test]
fn what_a_crash_left_to_be_removed_is_removed_by_the_next_start() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    fill(&mut rig, "t");
    rig.delete("t");
    let mut rig = rig.crash();
    assert_eq!(segments(&rig), 1);
    rig.create("new", 1);
    rig.pass(1);
    assert_eq!(segments(&rig), 0);
}

#[test]
fn a_consumer_beyond_the_slots_for_sessions_is_served_without_one() {
    for slots in ["0", "1"] {
        let mut rig = Rig::with(&[("max.incremental.fetch.session.cache.slots", slots)]);
        rig.create("t", 1);
        rig.produce("t", &["a"]);
        let sessions = [(); 3].map(|()| {
            let request = FetchRequest { session_epoch: 0, ..Rig::fetch_request("t", 0, 0, 0) };
            let sequence = rig.ask(12, Request::Other(request.into()));
            let response = rig.fetched(sequence).expect("an answer");
            assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
            response.session_id
        });
        let begun = sessions.iter().filter(|&&id| id != 0).count();
        assert_eq!(begun.to_string(), slots);
    }
}

#[test]
fn a_page_of_topics_is_no_longer_than_the_setting() {
    let mut rig = Rig::with(&[("max.request.partition.size.limit", "2")]);
    rig.create("t", 5);
    let request = DescribeTopicPartitionsRequest::default();
    let Response::DescribeTopicPartitions(page) = rig.answer(0, request.into()) else { panic!("another answer") };
    assert_eq!(page.topics[0].partitions.len(), 2);
    assert_eq!(page.next_cursor.expect("there is more").partition_index, 2);
}

#[test]
fn a_fetch_response_is_no_longer_than_the_setting_but_for_its_first_batch() {
    let mut rig = Rig::with(&[("fetch.max.bytes", "7000")]);
    rig.create("t", 1);
    let value = "v".repeat(3_000);
    for _ in 0..10 {
        rig.produce("t", &[&value]);
    }
    assert_eq!(heads(&mut rig, "t").len(), 2);
    rig.create("large", 1);
    rig.produce("large", &[&value.repeat(3)]);
    assert_eq!(heads(&mut rig, "large").len(), 1);
}

#[test]
fn an_idle_producer_is_forgotten() {
    let mut rig = Rig::with(&[("producer.id.expiration.ms", "60000"), ("log.retention.check.interval.ms", "1000")]);
    rig.create("t", 1);
    let batch = |sequence| records(Timestamp(5), &["a"]).producer(ProducerId(4), ProducerEpoch(0), sequence);
    let first = rig.send("t", 0, -1, batch(0));
    assert_eq!(rig.produced(first).expect("an acknowledgement").error_code, 0);
    rig.pass(59_000);
    let gap = rig.send("t", 0, -1, batch(7));
    assert_eq!(rig.produced(gap).expect("an answer").error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    rig.pass(3_000);
    let anew = rig.send("t", 0, -1, batch(0));
    assert_eq!(rig.produced(anew).expect("an acknowledgement").base_offset, 1, "it is no duplicate any more");
}

#[test]
fn no_more_replicas_are_asked_to_be_in_sync_than_there_are() {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("min.insync.replicas", "2")]);
    for acks in [-1, 1] {
        let batch = records(rig.now.wall, &["a"]);
        let sequence = rig.send("t", 0, acks, batch);
        assert_eq!(rig.produced(sequence).expect("an answer").error_code, 0, "acks={acks}");
    }
}

#[test]
fn a_timestamp_beyond_either_bound_is_refused() {
    let mut rig = Rig::new();
    let bounds = [("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "30000")];
    rig.create_with("t", 1, &bounds);
    const INVALID_TIMESTAMP: i16 = ErrorCode::InvalidTimestamp as i16;
    for (distance, expect) in [(-60_000, 0), (-60_001, INVALID_TIMESTAMP), (30_000, 0), (30_001, INVALID_TIMESTAMP)] {
        let batch = records(Timestamp(rig.now.wall.0 + distance), &["a"]);
        let sequence = rig.send("t", 0, -1, batch);
        assert_eq!(rig.produced(sequence).expect("an answer").error_code, expect, "{distance}");
    }
}

#[test]
fn a_segment_ends_by_size_and_by_age_and_retention_by_size_keeps_the_newest() {
    let mut rig = Rig::with(&[("log.retention.check.interval.ms", "1000")]);
    rig.create_with("aged", 1, &[("segment.ms", "5000"), ("retention.bytes", "100")]);
    for _ in 0..3 {
        rig.produce("aged", &["a"]);
        rig.pass(5_000);
    }
    let (start, _) = rig.list_offset("aged", -2);
    assert_eq!(start, 1, "two segments of 69 bytes are the fewest that hold 100");
    rig.create_with("sized", 1, &[("internal.segment.bytes", "10000"), ("retention.bytes", "20000")]);
    for _ in 0..20 {
        rig.produce("sized", &[&"v".repeat(3_000)]);
    }
    rig.pass(1_000);
    let (start, _) = rig.list_offset("sized", -2);
    assert_eq!(start, 12, "whole segments of three go, as long as 20000 bytes are left");
}
