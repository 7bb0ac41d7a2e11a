//! How a coordinator is loaded from its log: what is told meanwhile, and what a log may look like.

use super::*;

#[test]
fn before_its_coordinator_is_loaded_a_group_is_told_to_wait() {
    let mut rig = Rig::with_groups(&[]);
    assert_eq!(rig.commit_offset("g", 0, 5), 0);
    let mut rig = rig.crash();
    let loading = code(ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(rig.offset_of("g"), Err(loading));
    assert_eq!(rig.commit_offset("g", 0, 6), loading);
    assert_eq!(rig.list_groups(), Err(loading));
    assert_eq!(rig.find("g"), 0, "it is here all the same");
    let (_, other) = of_two_partitions(50);
    assert_eq!(rig.offset_of(other), Ok(-1), "a partition without records has nothing to load");
    rig.pass(10);
    assert_eq!(rig.offset_of("g"), Ok(5));
    assert_eq!(rig.list_groups(), Ok(vec!["g Empty".to_owned()]));
}

#[test]
fn a_long_log_is_loaded_from_disk_and_from_memory_in_small_steps() {
    let mut rig = Rig::with_groups(&[("offsets.topic.num.partitions", "1")]);
    let mut sent = 0;
    // Some megabytes, so that most of it is in segments and not in memory.
    for round in 0..40 {
        let offsets: Vec<(i32, i64)> = (0..500).map(|n| (n % 4, i64::from(round * 1000 + n))).collect();
        let sequence = rig.ask(8, Request::Other(Rig::commit_request("g", &offsets)));
        rig.pass(1);
        assert_eq!(rig.committed(sequence), Some(0));
        sent += offsets.len() as u64;
    }
    assert_eq!(rig.commit_offset("g", 0, 7), 0);
    rig.node.checkpoint_soon();
    rig.pass(1000);
    let mut rig = rig.crash();
    rig.files.largest_read();
    let mut steps = 0;
    while rig.offset_of("g").is_err() {
        rig.pass(1);
        steps += 1;
    }
    assert!(steps > 0);
    assert_eq!(rig.offset_of("g"), Ok(7));
    assert_eq!(rig.node.counters().coordinator_records_loaded, sent + 1);
}

#[test]
fn a_log_that_was_compacted_is_loaded_past_its_gaps() {
    let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "100")]);
    rig.create("t", 4);
    let settings =
        [("cleanup.policy", "compact"), ("internal.segment.bytes", "20000"), ("min.cleanable.dirty.ratio", "0.01")];
    rig.create_with(OFFSETS, 1, &settings);
    for round in 0..60 {
        let offsets: Vec<(i32, i64)> = (0..100).map(|n| (n % 4, i64::from(round * 100 + n))).collect();
        let sequence = rig.ask(8, Request::Other(Rig::commit_request("g", &offsets)));
        rig.pass(1);
        assert_eq!(rig.committed(sequence), Some(0));
        assert_eq!(rig.commit_offset("h", 0, i64::from(round)), 0);
    }
    rig.pass(60_000);
    let removed = rig.node.counters().compaction_records_removed;
    assert!(removed > 5000, "most commits are of the same few partitions: {removed}");
    let mut rig = rig.crash_and_load();
    assert_eq!((rig.offset_of("g"), rig.offset_of("h")), (Ok(5996), Ok(59)));
    assert!(rig.node.counters().coordinator_records_loaded < 1500);
    assert_eq!(rig.commit_offset("g", 0, 7), 0);
    assert_eq!(rig.crash_and_load().offset_of("g"), Ok(7));
}

#[test]
fn a_segment_that_cannot_be_read_ends_the_load_and_it_is_tried_again() {
    let mut rig = Rig::with_groups(&[("offsets.topic.num.partitions", "1")]);
    for round in 0..20 {
        let offsets: Vec<(i32, i64)> = (0..500).map(|n| (n % 4, i64::from(round))).collect();
        rig.ask(8, Request::Other(Rig::commit_request("g", &offsets)));
    }
    rig.node.checkpoint_soon();
    rig.pass(1000);
    let segment = rig.files.names().into_iter().find(|name| matches!(name, FileName::Segment(_)));
    rig.files.flip(segment.expect("something was written behind"), 100);
    let mut rig = rig.crash_and_load();
    assert_eq!(rig.offset_of("g"), Err(code(ErrorCode::NotCoordinator)), "its partition is damaged");
    assert_eq!(rig.find("g"), code(ErrorCode::CoordinatorNotAvailable));
    rig.pass(5_000);
    assert_eq!(rig.offset_of("g"), Err(code(ErrorCode::NotCoordinator)));
}
