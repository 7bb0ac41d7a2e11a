//! The scrub: what it finds, how fast it goes, and when it sleeps.

use super::*;
use crate::boundary::SegmentName;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A broker that keeps everything, with a topic of small segments.
fn rig() -> Rig {
    let mut rig = Rig::with(&[("log.retention.ms", "-1"), ("log.retention.bytes", "-1")]);
    rig.create_with("t", 1, &[("internal.segment.bytes", "60000")]);
    rig
}

/// Fills segments, and has them closed and synced.
fn fill(rig: &mut Rig, topic: &'static str, batches: usize) {
    for _ in 0..batches {
        rig.produce(topic, &["v".repeat(3_000).as_str()]);
    }
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    rig.run();
}

fn closed(rig: &Rig) -> Vec<(SegmentName, u64)> {
    let hosts = rig.node.hosts.iter().flatten();
    let of = |hosted: &Hosted| {
        let segments = hosted.partition.log().closed_segments(crate::ids::Offset(0));
        segments.map(|segment| (hosted.partition.log().name_of(segment), segment.bytes)).collect::<Vec<_>>()
    };
    hosts.flat_map(of).collect()
}

fn closed_bytes(rig: &Rig) -> u64 {
    closed(rig).iter().map(|(_, bytes)| bytes).sum()
}

fn is_awake(rig: &Rig) -> bool {
    rig.node.deadlines.iter().any(|&(_, reason)| reason == Reason::Scrub)
}

fn error_of_fetch(rig: &mut Rig, topic: &'static str) -> i16 {
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request(topic, 0, 0, 0).into()));
    rig.fetched(sequence).expect("an answer").responses[0].partitions[0].error_code
}

#[test]
fn damage_that_nobody_reads_is_found_within_a_period_and_stops_its_partition_alone() {
    let mut rig = rig();
    rig.create_with("other", 1, &[("internal.segment.bytes", "60000")]);
    fill(&mut rig, "t", 200);
    fill(&mut rig, "other", 200);
    let id = rig.node.controller.image().topic_named("t").expect("it was made").id;
    let (segment, _) = *closed(&rig).iter().rfind(|(name, _)| name.partition.topic == id).expect("closed segments");
    rig.files.flip(FileName::Segment(segment), 30_000);
    rig.pass(8 * DAY_MS);
    assert_eq!(rig.node.counters().scrub_errors, 1);
    assert_eq!(rig.node.counters().read_errors, 1, "it counts as any read that failed");
    assert_eq!(error_of_fetch(&mut rig, "t"), ErrorCode::KafkaStorageError.code());
    assert_eq!(rig.consume("other", 0).len(), 200);
    rig.pass(14 * DAY_MS);
    assert_eq!(rig.node.counters().scrub_errors, 1, "what is known to be damaged is not read again");
}

#[test]
fn a_damaged_index_is_found_and_made_again() {
    let mut rig = rig();
    fill(&mut rig, "t", 200);
    let (segment, _) = closed(&rig)[1];
    rig.files.flip(FileName::Index(segment), 3);
    rig.pass(8 * DAY_MS);
    assert_eq!(rig.node.counters().scrub_errors, 1);
    assert_eq!(rig.node.counters().indexes_mended, 1);
    rig.pass(8 * DAY_MS);
    assert_eq!(rig.node.counters().scrub_errors, 1, "it is whole again");
}

#[test]
fn a_round_takes_its_period_and_reads_everything_once() {
    let mut rig = rig();
    fill(&mut rig, "t", 400);
    let all = closed_bytes(&rig);
    // The first round begins somewhere in the middle.
    rig.pass(7 * DAY_MS);
    let begun = rig.node.counters().scrubbed_bytes;
    rig.pass(14 * DAY_MS);
    let rounds = (rig.node.counters().scrubbed_bytes - begun) as f64 / all as f64;
    assert!((1.8..=2.2).contains(&rounds), "{rounds} rounds in two periods");
}

#[test]
fn a_round_is_never_faster_than_its_rate() {
    let mut rig = rig();
    rig.node.limits.scrub_period = Duration::from_millis(700);
    rig.node.limits.scrub_bytes_per_second_max = 60_000;
    fill(&mut rig, "t", 200);
    let before = rig.node.counters().scrubbed_bytes;
    rig.pass(100_000);
    let bytes = rig.node.counters().scrubbed_bytes - before;
    assert!((5_000_000..=6_100_000).contains(&bytes), "{bytes} bytes in 100 s");
}

#[test]
fn a_broker_without_closed_segments_is_not_woken() {
    let mut rig = Rig::new();
    assert!(!is_awake(&rig), "it is empty");
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    rig.stop();
    let mut rig = rig.crash();
    assert!(is_awake(&rig), "a start looks once");
    rig.pass(10);
    assert!(!is_awake(&rig), "there is only an active segment");
}

#[test]
fn growth_is_noticed_within_a_day() {
    let mut rig = rig();
    fill(&mut rig, "t", 40);
    rig.pass(1_000);
    assert!(is_awake(&rig));
    rig.create_with("large", 1, &[("internal.segment.bytes", "60000")]);
    fill(&mut rig, "large", 400);
    rig.pass(9 * DAY_MS);
    assert!(rig.node.counters().scrubbed_bytes >= closed_bytes(&rig), "a period and a day have passed");
}

#[test]
fn what_is_deleted_while_it_is_read_is_no_damage() {
    let mut rig = rig();
    rig.node.limits.scrub_period = Duration::from_secs(7);
    fill(&mut rig, "t", 200);
    let read = loop {
        let (at, _) = rig.node.deadline().expect("the scrub is awake");
        rig.advance_to(at.max(rig.now.instant));
        rig.step(Input::Deadline);
        let read = rig.out.0.iter().position(|effect| matches!(effect, Effect::Disk(DiskOp::Read(..))));
        if let Some(read) = read {
            break rig.out.0.remove(read);
        }
        rig.run();
    };
    rig.delete("t");
    let Effect::Disk(DiskOp::Read(id, _)) = read else { unreachable!("it was just found") };
    let error = DiskError::Io(FileName::Journal(0), "no such file".into());
    rig.step(Input::Disk(Done::Read(id, Err(error))));
    assert_eq!(rig.node.counters().scrub_errors, 0);
    rig.pass(60_000);
    assert!(!is_awake(&rig), "nothing is left to check");
}

#[test]
fn restarts_do_not_keep_any_segment_from_being_checked() {
    let mut rig = rig();
    fill(&mut rig, "t", 200);
    rig.stop();
    let (segment, _) = *closed(&rig).last().expect("closed segments");
    rig.files.flip(FileName::Segment(segment), 30_000);
    for _ in 0..60 {
        rig = rig.crash();
        rig.pass(DAY_MS);
        if rig.node.counters().scrub_errors > 0 {
            return;
        }
    }
    panic!("a broker that is restarted every day never came to its last segment");
}
