//! Fetch in every version, its limits and waits, its sessions (KIP-227), and the ways to ask for offsets.

use std::time::{Duration, Instant};

use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};

use crate::support::batch::{Batch, records, values};
use crate::support::broker::Broker;
use crate::support::code;
use crate::support::topic::Topic;

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;

#[test]
fn every_version_returns_what_was_written() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "fetch", 1, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(10));
    for version in client.versions::<FetchRequest>() {
        let data = topic.fetch_in(&mut client, version, 0, 0);
        assert_eq!((data.error_code, data.high_watermark), (code::NONE, 10), "version {version}");
        assert_eq!(data.last_stable_offset, 10, "version {version}");
        if version >= 5 {
            assert_eq!(data.log_start_offset, 0, "version {version}");
        }
        let records = records(data.records.expect("records"));
        assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), Vec::from_iter(0..10));
        assert_eq!(values(&records)[9], "record 9", "version {version}");
        assert_eq!(records[0].timestamp, 1000, "version {version}");
    }
}

#[test]
fn an_offset_inside_a_batch_returns_the_whole_batch() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "middle", 1, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(10));
    topic.produce(&mut client, 0, &Batch::numbered(10));
    let data = topic.fetch_in(&mut client, 11, 0, 15);
    assert_eq!(records(data.records.expect("records"))[0].offset, 10);
}

#[test]
fn an_offset_that_is_not_there_is_refused_and_the_end_is_not() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "range", 1, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(10));
    for (offset, expected) in [(10, code::NONE), (11, code::OFFSET_OUT_OF_RANGE)] {
        assert_eq!(topic.fetch_in(&mut client, 11, 0, offset).error_code, expected, "offset {offset}");
    }
}

#[test]
fn the_first_batch_is_returned_even_above_every_limit() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "limits", 2, &[]);
    for partition in 0..2 {
        topic.produce(&mut client, partition, &Batch::of(["x".repeat(10_000)]));
        topic.produce(&mut client, partition, &Batch::of(["y".repeat(10_000)]));
    }
    let mut request = topic.fetch_request(11, &[(0, 0), (1, 0)]).with_max_bytes(100);
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = 50;
    }
    let response = client.call(11, &request);
    // Progress needs one batch (KIP-74); the second partition waits for its turn.
    let sizes: Vec<_> = response.responses[0]
        .partitions
        .iter()
        .map(|data| records(data.records.clone().unwrap_or_default()).len())
        .collect();
    assert_eq!(sizes, [1, 0]);
}

#[test]
fn a_fetch_at_the_end_waits_for_a_record_or_for_its_time() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "wait", 1, &[]);
    let begun = Instant::now();
    let request = topic.fetch_request(11, &[(0, 0)]).with_max_wait_ms(300);
    let empty = client.call(11, &request);
    assert!(begun.elapsed() >= Duration::from_millis(290), "answered after {:?}", begun.elapsed());
    assert!(empty.responses.iter().all(|topic| topic.partitions[0].records.as_ref().is_none_or(|r| r.is_empty())));

    let patient = topic.fetch_request(11, &[(0, 0)]).with_max_wait_ms(15_000);
    let correlation_id = client.send(11, &patient).expect("the connection is open");
    let begun = Instant::now();
    topic.produce(&mut broker.client(), 0, &Batch::numbered(1));
    let response = client.receive::<FetchRequest>(11, correlation_id).expect("an answer");
    assert!(begun.elapsed() < Duration::from_secs(10), "woken after {:?}", begun.elapsed());
    assert_eq!(records(response.responses[0].partitions[0].records.clone().expect("records")).len(), 1);
}

#[test]
fn a_fetch_waits_until_min_bytes_are_there() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "min-bytes", 1, &[]);
    let request = topic.fetch_request(11, &[(0, 0)]).with_max_wait_ms(15_000).with_min_bytes(5_000);
    let correlation_id = client.send(11, &request).expect("the connection is open");
    let mut producer = broker.client();
    for _ in 0..6 {
        topic.produce(&mut producer, 0, &Batch::of(["x".repeat(1000)]));
    }
    let response = client.receive::<FetchRequest>(11, correlation_id).expect("an answer");
    let found = records(response.responses[0].partitions[0].records.clone().expect("records")).len();
    assert!((5..=6).contains(&found), "{found} records of 1000 bytes for 5000 bytes");
}

#[test]
fn a_session_answers_only_what_changed() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "session", 3, &[]);
    for version in client.versions::<FetchRequest>().filter(|&version| version >= 7) {
        let begin = topic.fetch_request(version, &[(0, 0), (1, 0), (2, 0)]).with_max_wait_ms(1).with_session_epoch(0);
        let full = client.call(version, &begin);
        assert_eq!((full.error_code, full.responses[0].partitions.len()), (code::NONE, 3), "version {version}");
        assert_ne!(full.session_id, 0, "version {version}: a session is opened");

        let nothing_new = |epoch| {
            FetchRequest::default()
                .with_max_wait_ms(1)
                .with_min_bytes(1)
                .with_max_bytes(1 << 20)
                .with_session_id(full.session_id)
                .with_session_epoch(epoch)
        };
        let caught_up: Vec<_> = (0..3)
            .map(|partition| (partition, full.responses[0].partitions[partition as usize].high_watermark))
            .collect();
        let moved = topic.fetch_request(version, &caught_up).with_max_wait_ms(1);
        let moved = moved.with_session_id(full.session_id).with_session_epoch(1);
        client.call(version, &moved);
        let quiet = client.call(version, &nothing_new(2));
        assert_eq!((quiet.error_code, quiet.responses.len()), (code::NONE, 0), "version {version}");

        topic.produce(&mut client, 1, &Batch::numbered(1));
        let changed = client.call(version, &nothing_new(3));
        let partitions = &changed.responses[0].partitions;
        assert_eq!((partitions.len(), partitions[0].partition_index), (1, 1), "version {version}");
        assert_eq!(changed.session_id, full.session_id, "version {version}");
    }
}

#[test]
fn a_session_that_is_unknown_or_out_of_step_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "session-errors", 1, &[]);
    let open = client.call(12, &topic.fetch_request(12, &[(0, 0)]).with_max_wait_ms(1).with_session_epoch(0));
    for (id, epoch, expected) in [
        (open.session_id, 5, code::INVALID_FETCH_SESSION_EPOCH),
        (open.session_id.wrapping_add(12345), 1, code::FETCH_SESSION_ID_NOT_FOUND),
    ] {
        let request = FetchRequest::default().with_session_id(id).with_session_epoch(epoch).with_max_wait_ms(1);
        assert_eq!(client.call(12, &request).error_code, expected);
    }
}

#[test]
fn a_leader_epoch_from_the_future_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "epoch", 1, &[]);
    let mut request = topic.fetch_request(12, &[(0, 0)]);
    request.topics[0].partitions[0].current_leader_epoch = 99;
    let response = client.call(12, &request);
    assert_eq!(response.responses[0].partitions[0].error_code, code::UNKNOWN_LEADER_EPOCH);
}

#[test]
fn every_version_of_list_offsets_finds_the_ends_and_a_time() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "offsets", 1, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(10).at(5000));
    topic.produce(&mut client, 0, &Batch::numbered(10).at(6000));
    topic.produce(&mut client, 0, &Batch::numbered(10).at(5500));
    for version in client.versions::<ListOffsetsRequest>() {
        let mut check = |timestamp, offset, found_timestamp| {
            let answer = topic.list_offset(&mut client, version, timestamp);
            assert_eq!(
                (answer.error_code, answer.offset, answer.timestamp),
                (code::NONE, offset, found_timestamp),
                "version {version}, timestamp {timestamp}"
            );
        };
        check(EARLIEST, 0, -1);
        check(LATEST, 30, -1);
        check(0, 0, 5000);
        check(5004, 4, 5004);
        check(5010, 10, 6000);
        check(6005, 15, 6005);
        check(7000, -1, -1);
        if version >= 7 {
            check(MAX_TIMESTAMP, 19, 6009);
        }
        if version >= 4 {
            let answer = topic.list_offset(&mut client, version, LATEST);
            assert!(answer.leader_epoch >= 0, "version {version}: the leader epoch is known");
        }
    }
}

#[test]
fn every_version_of_offset_for_leader_epoch_finds_the_end_of_an_epoch() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "epochs", 1, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(10));
    let current = topic.describe(&mut client).partitions[0].leader_epoch;
    for version in client.versions::<OffsetForLeaderEpochRequest>() {
        let mut ask = |leader_epoch| {
            let partition =
                OffsetForLeaderPartition::default().with_leader_epoch(leader_epoch).with_current_leader_epoch(-1);
            let of = OffsetForLeaderTopic::default().with_topic(topic.name.clone()).with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![of]);
            let request = if version >= 3 { request.with_replica_id((-1).into()) } else { request };
            let answer = client.call(version, &request).topics.remove(0).partitions.remove(0);
            (answer.error_code, answer.leader_epoch, answer.end_offset)
        };
        assert_eq!(ask(current), (code::NONE, current, 10), "version {version}");
        assert_eq!(ask(current + 5), (code::NONE, -1, -1), "version {version}: an epoch that never was");
    }
}
