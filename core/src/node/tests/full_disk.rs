//! A full disk refuses what it cannot hold, loses nothing, and gets by without a restart.

use super::*;
use crate::wire::describe_log_dirs::DescribeLogDirsRequest;

/// The error with which the data folder is told, and of how many topics.
fn folder_told(rig: &mut Rig) -> (i16, usize) {
    let Response::DescribeLogDirs(response) = rig.answer(4, DescribeLogDirsRequest::default().into()) else {
        panic!("another answer")
    };
    (response.results[0].error_code, response.results[0].topics.len())
}

#[test]
fn a_full_disk_refuses_appends_keeps_reads_and_passes() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.files.set_full(true);
    let value = "v".repeat(3_000);
    let mut acknowledged = 0;
    let mut refused = None;
    for _ in 0..600 {
        let sequence = rig.send("t", 0, -1, records(rig.now.wall, &[&value]));
        let response = rig.produced(sequence).expect("an answer");
        if response.error_code != 0 {
            refused = Some(response.error_code);
            break;
        }
        acknowledged += 1;
    }
    assert_eq!(refused, Some(ErrorCode::KafkaStorageError.code()));
    assert_eq!(rig.consume("t", 0).len(), acknowledged, "reads go on");
    rig.pass(60_000);
    assert_eq!(folder_told(&mut rig), (ErrorCode::KafkaStorageError.code(), 1), "and whoever asks hears of it");
    rig.files.set_full(false);
    rig.pass(2_000);
    assert_eq!(rig.produce("t", &[&value]), i64::try_from(acknowledged).expect("few"));
    rig.pass(2_000);
    assert_eq!(folder_told(&mut rig), (ErrorCode::None.code(), 1));
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0).len(), acknowledged + 1, "nothing acknowledged is lost");
    assert_eq!(rig.fatal, None);
}

#[test]
fn a_node_stops_though_the_disk_is_full() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    rig.files.set_full(true);
    rig.stop();
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a"]);
}

#[test]
fn a_topic_deleted_on_a_full_disk_gives_its_space_back() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    for _ in 0..200 {
        rig.produce("t", &["v".repeat(3_000).as_str()]);
    }
    let value = "v".repeat(3_000);
    rig.create("other", 1);
    rig.files.set_full(true);
    while rig.node.no_space.is_none() {
        rig.send("other", 0, -1, records(Timestamp(5), &[&value]));
    }
    rig.delete("t");
    rig.pass(70_000);
    assert!(!rig.files.names().iter().any(|name| matches!(name, FileName::Segment(_))));
    let mut rig = rig.crash();
    assert_eq!(rig.node.by_id.len(), 1);
    rig.produce("other", &["a"]);
}

#[test]
fn what_retention_lets_go_of_on_a_full_disk_is_removed() {
    let mut rig = Rig::with(&[
        ("log.retention.ms", "60000"),
        ("log.retention.check.interval.ms", "1000"),
        ("log.segment.delete.delay.ms", "0"),
    ]);
    rig.create("t", 1);
    let value = "v".repeat(3_000);
    for _ in 0..200 {
        rig.produce("t", &[&value]);
    }
    rig.files.set_full(true);
    for _ in 0..600 {
        rig.send("t", 0, -1, records(rig.now.wall, &[&value]));
    }
    assert!(rig.node.no_space.is_some());
    let segments = |rig: &Rig| rig.files.names().iter().filter(|name| matches!(name, FileName::Segment(_))).count();
    assert_eq!(segments(&rig), 1);
    rig.pass(70_000);
    assert_eq!(segments(&rig), 0);
    let end = rig.list_offset("t", -1);
    let mut rig = rig.crash();
    assert_eq!(rig.list_offset("t", -2), end, "a start does without the files that are gone");
    assert_eq!(rig.produce("t", &["a"]), end.0);
}
