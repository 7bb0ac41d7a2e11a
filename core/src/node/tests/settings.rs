//! Scenarios: what a setting says is what a client sees.

use super::*;
use crate::batch::{BatchHead, Codec};

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
