//! Scenarios: a node, its files in memory, and what a client sees.

mod checkpoints;
mod cluster;
mod compaction;
mod damage;
mod full_disk;
mod groups;
mod long_fetches;
mod mending;
mod metadata;
mod model;
mod naming;
mod offsets;
mod quorum;
mod rig;
mod room;
mod scrub;
mod sessions;
mod settings;
mod slices;
mod tails;
mod transcripts;
mod turns;
mod volume;

use std::collections::VecDeque;

use rig::{Rig, options, records};

use super::*;
use crate::batch::{BatchBuilder, BatchLimits, Scan, verify};
use crate::boundary::{DiskError, FileName, Files, LogLine, ProducePartition, ProduceTopic, Task, is_told_when_sent};
use crate::config::BrokerConfig;
use crate::ids::{BrokerEpoch, ListenerId, ProducerEpoch, ProducerId};
use crate::journal::Geometry;
use crate::testing::MemoryFiles;
use crate::time::Timestamp;
use crate::wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use crate::wire::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use crate::wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use crate::wire::incremental_alter_configs::{AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest};
use crate::wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::wire::produce::PartitionProduceResponse;

/// What a node hears of a message that comes by a connection: nothing of one that ends the connection.
fn by_connection(from: i32, process: u64, message: crate::peer::Message) -> Vec<crate::boundary::PeerInput> {
    let (mut heard, bytes) = (Vec::new(), message.payload_bytes());
    let ended = crate::peer::listen((crate::ids::NodeId(from), process), message, bytes, &mut heard);
    if ended.is_ok() { heard } else { Vec::new() }
}

#[test]
fn what_is_acknowledged_is_read_back_and_again_after_a_crash() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    assert_eq!(rig.produce("t", &["a", "b"]), 0);
    assert_eq!(rig.produce("t", &["c"]), 2);
    assert_eq!(rig.consume("t", 0), ["a", "b", "c"]);
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 1), ["b", "c"]);
    assert_eq!(rig.produce("t", &["d"]), 3);
    rig.stop();
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a", "b", "c", "d"]);
}

#[test]
fn nothing_is_acknowledged_or_read_before_the_disk_has_it() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.hold = true;
    let sequence = rig.send("t", 0, 1, records(Timestamp(5), &["a"]));
    assert!(rig.produced(sequence).is_none(), "acks=1 waits for the disk too");
    assert_eq!(rig.list_offset("t", -1), (0, -1), "the high watermark is the durable end");
    rig.release();
    assert_eq!(rig.produced(sequence).expect("an acknowledgement").base_offset, 0);
    assert_eq!(rig.list_offset("t", -1), (1, -1));
}

#[test]
fn a_crash_before_the_commit_forgets_what_nobody_was_told() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    rig.hold = true;
    rig.send("t", 0, -1, records(Timestamp(5), &["lost"]));
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a"]);
    assert_eq!(rig.produce("t", &["b"]), 1);
}

#[test]
fn a_fetch_waits_for_bytes_and_no_longer_than_it_was_told() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let waiting = rig.ask(12, Request::Other(Rig::fetch_request("t", 0, 1, 500).into()));
    assert!(rig.fetched(waiting).is_none());
    rig.produce("t", &["a"]);
    let response = rig.fetched(waiting).expect("bytes came");
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    let waiting = rig.ask(12, Request::Other(Rig::fetch_request("t", 1, 1, 500).into()));
    rig.pass(499);
    assert!(rig.fetched(waiting).is_none());
    rig.pass(1);
    assert!(rig.fetched(waiting).is_some());
}

#[test]
fn a_fetch_waits_for_no_more_bytes_than_it_takes() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let fetch = |max_bytes| FetchRequest { max_bytes, ..Rig::fetch_request("t", 0, 10_000, 500) };
    let asked = [1_000, 9_000].map(|max_bytes| rig.ask(12, Request::Other(fetch(max_bytes).into())));
    rig.produce("t", &[&"v".repeat(500)]);
    assert_eq!(asked.map(|sequence| rig.fetched(sequence).is_some()), [false, false]);
    rig.produce("t", &[&"v".repeat(500)]);
    assert_eq!(asked.map(|sequence| rig.fetched(sequence).is_some()), [true, false]);
}

#[test]
fn a_duplicate_of_a_batch_in_flight_waits_with_it() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let batch = || records(Timestamp(5), &["a", "b"]).producer(ProducerId(4), ProducerEpoch(0), 0);
    rig.hold = true;
    let first = rig.send("t", 0, -1, batch());
    let second = rig.send("t", 0, -1, batch());
    assert!(rig.produced(second).is_none(), "its original is not durable");
    rig.release();
    assert_eq!(rig.produced(first).expect("an acknowledgement").base_offset, 0);
    assert_eq!(rig.produced(second).expect("an acknowledgement").base_offset, 0);
    assert_eq!(rig.consume("t", 0), ["a", "b"]);
    let mut rig = rig.crash();
    let third = rig.send("t", 0, -1, batch());
    assert_eq!(rig.produced(third).expect("an acknowledgement").base_offset, 0, "producers survive a crash");
    let gap = rig.send("t", 0, -1, records(Timestamp(5), &["x"]).producer(ProducerId(4), ProducerEpoch(0), 7));
    let refused = rig.produced(gap).expect("an answer");
    assert_eq!(refused.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
}

#[test]
fn the_ring_turns_many_times_and_every_start_finds_all() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.create("idle", 1);
    rig.produce("idle", &["still here"]);
    let value = "v".repeat(3_000);
    let mut expected = Vec::new();
    for round in 0..600 {
        let value = format!("{round}:{value}");
        rig.produce("t", &[&value]);
        expected.push(value);
        if round % 97 == 0 {
            rig = rig.crash();
        }
    }
    assert!(rig.node.counters().checkpoints > 0, "the journal is smaller than what was written");
    assert!(rig.consume("t", 0) == expected);
    assert_eq!(rig.consume("idle", 0), ["still here"]);
    let mut rig = rig.crash();
    assert!(rig.consume("t", 0) == expected);
    assert_eq!(rig.consume("idle", 0), ["still here"]);
}

#[test]
fn large_batches_are_written_once_and_found_after_every_crash() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let mut expected = Vec::new();
    for round in 0..60 {
        // Large ones among small ones, at positions that are multiples of nothing.
        let value = format!("{round}:{}", "v".repeat(if round % 3 == 0 { 50 } else { 25_000 + round * 333 }));
        rig.produce("t", &[&value]);
        expected.push(value);
        if round % 7 == 6 {
            rig = rig.crash();
            assert!(rig.consume("t", 0) == expected);
        }
    }
    assert!(rig.node.direct_bytes > 0 && rig.node.counters().commit_bytes < 1 << 20, "most bodies bypass the journal");
    assert!(rig.consume("t", 0) == expected);
}

#[test]
fn where_the_system_is_trusted_the_ring_turns_too() {
    let mut rig = Rig::new();
    rig.trust_os = true;
    rig.create("t", 1);
    let value = "v".repeat(3_000);
    for round in 0..600 {
        assert_eq!(rig.produce("t", &[&value]), round);
    }
    assert!(rig.node.counters().checkpoints > 1);
    rig.stop();
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0).len(), 600);
}

#[test]
fn a_topic_made_again_under_its_name_has_none_of_the_old_data() {
    let mut rig = Rig::new();
    rig.create("t", 2);
    rig.produce("t", &["old"]);
    rig.delete("t");
    rig.create("t", 2);
    assert_eq!(rig.consume("t", 0), Vec::<String>::new());
    assert_eq!(rig.produce("t", &["new"]), 0);
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["new"]);
}

#[test]
fn a_failed_commit_ends_the_node() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.hold = true;
    let sequence = rig.send("t", 0, -1, records(Timestamp(5), &["a"]));
    let commit = rig.held.pop_front().expect("a commit");
    let error = DiskError::Io(FileName::Journal(commit.slot), "Input/output error".into());
    rig.step(Input::Disk(Done::Commit(commit.number, Err(error))));
    rig.run();
    assert!(rig.fatal.as_ref().is_some_and(|why| why.contains("Input/output error")), "{:?}", rig.fatal);
    assert!(rig.produced(sequence).is_none());
}

#[test]
fn offsets_are_found_by_time_in_memory_and_in_segments() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let start = rig.now.wall.0;
    let value = "v".repeat(2_000);
    for index in 0..200 {
        let sequence = rig.send("t", 0, -1, records(Timestamp(start + index), &[&value]));
        rig.produced(sequence).expect("an acknowledgement");
    }
    assert_eq!(rig.list_offset("t", -2), (0, -1));
    assert_eq!(rig.list_offset("t", -1), (200, -1));
    for index in [0, 1, 77, 150, 199] {
        assert_eq!(rig.list_offset("t", start + index), (index, start + index));
    }
    assert_eq!(rig.list_offset("t", start + 1_000), (-1, -1));
    assert_eq!(rig.list_offset("t", -3), (199, start + 199));
}

#[test]
fn deleted_records_stay_deleted() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a", "b"]);
    rig.produce("t", &["c"]);
    rig.delete_records("t", 1);
    let mut rig = rig.crash();
    assert_eq!(rig.list_offset("t", -2), (1, -1));
    assert_eq!(rig.consume("t", 1), ["b", "c"]);
}

#[test]
fn retention_lets_go_of_old_segments_and_keeps_what_is_young() {
    let mut rig = Rig::with(&[("log.retention.ms", "60000"), ("log.retention.check.interval.ms", "1000")]);
    rig.create("t", 1);
    rig.produce("t", &["old"]);
    rig.pass(61_001);
    assert_eq!(rig.list_offset("t", -2), (1, -1), "all of it is old, the active segment too");
    rig.produce("t", &["young"]);
    rig.pass(30_000);
    assert_eq!(rig.consume("t", 1), ["young"]);
    let mut rig = rig.crash();
    assert_eq!(rig.list_offset("t", -2), (1, -1));
}

#[test]
fn asking_for_a_topic_makes_it_and_tells_of_it_when_it_is_durable() {
    let mut rig = Rig::with(&[("num.partitions", "3")]);
    rig.hold = true;
    let topic = MetadataRequestTopic { name: Some("auto".into()), ..MetadataRequestTopic::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..MetadataRequest::default() };
    let sequence = rig.ask(9, Request::Other(request.into()));
    assert!(rig.reply(sequence).is_none());
    rig.release();
    let Some(Some(Response::Metadata(response))) = rig.reply(sequence) else { panic!("no answer") };
    assert_eq!(response.topics[0].error_code, 0);
    assert_eq!(response.topics[0].partitions.len(), 3);
    assert_eq!(rig.produce("auto", &["a"]), 0);
}

#[test]
fn a_quiet_journal_is_sealed_once_and_then_rests() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    let before = rig.node.counters().commits;
    rig.pass(150);
    assert_eq!(rig.node.counters().commits, before + 1, "one empty commit proves the last one durable");
    rig.pass(10_000);
    assert_eq!(rig.node.counters().commits, before + 1);
}

#[test]
fn requests_larger_than_a_file_of_the_journal_pass_or_are_refused_and_hold_up_nobody() {
    let mut rig = Rig::new();
    rig.create("t", 8);
    let large = "v".repeat(100 << 10);
    let sequence = rig.send_to_all("t", &(0..4).map(|index| (index, large.as_str())).collect::<Vec<_>>());
    rig.pass(1_000);
    let response = rig.produced(sequence).expect("four batches of 100 KiB where a file holds 256");
    assert_eq!(response.error_code, 0);
    let larger = "v".repeat(300 << 10);
    let sequence = rig.send_to_all("t", &[(0, larger.as_str())]);
    rig.pass(1_000);
    let response = rig.produced(sequence).expect("one batch of 300 KiB");
    assert_eq!(response.error_code, ErrorCode::MessageTooLarge.code());
    let all: Vec<_> = (0..8).map(|index| (index, large.as_str())).collect();
    let sequence = rig.send_to_all("t", &all);
    rig.pass(1_000);
    assert_eq!(rig.produced(sequence).expect("an answer").error_code, ErrorCode::MessageTooLarge.code());
    assert_eq!(rig.produce("t", &["small"]), 1, "nobody waits behind those");
}

#[test]
fn a_partition_may_remember_more_than_one_entry_of_a_checkpoint_holds() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    // 18 MiB of producers: each remembers five batches.
    let producers = 100_000;
    let slot = *rig.node.by_id.values().next().expect("a partition");
    let log = rig.node.host(slot).partition.log_mut();
    log.remember_producers(producers);
    rig.produce("t", &["a"]);
    rig.stop();
    let mut rig = rig.crash();
    let slot = *rig.node.by_id.values().next().expect("a partition");
    assert_eq!(rig.node.host(slot).partition.log().producers().count(), producers);
    assert_eq!(rig.consume("t", 0), ["a"]);
}

#[test]
fn a_fetch_that_names_a_partition_twice_is_answered_once() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let mut request = Rig::fetch_request("t", 0, 1, 500);
    let twice = request.topics[0].partitions[0].clone();
    request.topics[0].partitions.push(twice);
    let sequence = rig.ask(12, Request::Other(request.into()));
    rig.produce("t", &["a"]);
    assert_eq!(rig.fetched(sequence).expect("an answer").responses[0].partitions.len(), 2);
}

#[test]
fn a_start_with_other_measures_is_refused_and_removes_nothing() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    let mut larger = options(&[]);
    larger.journal.file_bytes *= 2;
    let Err(error) = Node::recover(larger, &rig.files, [9; 32], rig.now) else { panic!("the files are too short") };
    assert!(error.to_string().contains("in place of"), "{error}");
    assert_eq!(rig.crash().consume("t", 0), ["a"]);
}
