//! Damage stops its partition alone; and what is left of it is kept, for whoever comes to mend it.

use super::*;
use crate::journal::{MemorySlots, checkpoint};

/// The node goes through checkpoints and restarts, until nothing that the journal held is left of it.
fn age(mut rig: Rig) -> Rig {
    for round in 0..4 {
        rig.create(["a", "b", "c", "d"][round], 1);
        rig.stop();
        rig = rig.crash();
    }
    rig
}

fn log<'a>(rig: &'a Rig, topic: &str) -> (&'a crate::log::Log, Option<&'a str>) {
    let topic = rig.node.controller.image().topic_named(topic).expect("it was made").id;
    let slot = rig.node.by_id[&TopicPartition { topic, partition: 0 }];
    let partition = &rig.node.hosts[slot as usize].as_ref().expect("it is hosted").partition;
    (partition.log(), partition.damage())
}

fn segments(rig: &Rig) -> Vec<(i64, u64, u64)> {
    log(rig, "t").0.segments().map(|segment| (segment.base.0, segment.bytes, segment.synced.entries)).collect()
}

fn files(rig: &Rig) -> Vec<FileName> {
    let mut names = rig.files.names();
    names.retain(|name| matches!(name, FileName::Segment(_) | FileName::Index(_)));
    names
}

fn fill(rig: &mut Rig) {
    rig.create_with("t", 1, &[("internal.segment.bytes", "60000")]);
    for _ in 0..200 {
        rig.produce("t", &["v".repeat(3_000).as_str()]);
    }
}

#[test]
fn a_journal_that_is_gone_is_missed() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.stop();
    for name in rig.files.names() {
        if matches!(name, FileName::Journal(_)) {
            rig.files.remove(name).expect("memory lets go");
        }
    }
    let Err(error) = Node::recover(options(&[]), &rig.files, [9; 32], rig.now) else { panic!("it must not start") };
    assert!(error.to_string().contains("journal/0000.journal is missing"), "{error}");
}

#[test]
fn a_journal_that_is_gone_with_its_checkpoints_is_missed_where_partitions_have_files() {
    let mut rig = Rig::new();
    fill(&mut rig);
    rig.stop();
    for name in rig.files.names() {
        if matches!(name, FileName::Journal(_) | FileName::Checkpoint(_)) {
            rig.files.remove(name).expect("memory lets go");
        }
    }
    let left = rig.files.names();
    assert!(left.iter().any(|name| matches!(name, FileName::Segment(_))), "{left:?}");
    let refused = |told: &str| {
        let Err(error) = Node::recover(options(&[]), &rig.files, [9; 32], rig.now) else { panic!("it must not start") };
        assert!(error.to_string().contains(told), "{error}");
        assert!(left.iter().all(|&name| rig.files.names().contains(&name)), "{:?}", rig.files.names());
    };
    refused("journal/0000.journal is missing, while partition");
    assert_eq!(rig.files.names(), left, "nothing is made");
    // There, and empty: as a copy leaves it that was not finished.
    let bytes = options(&[]).journal.file_bytes;
    Task::ExtendJournal { slot: 0, bytes }.run(&rig.files).expect("memory has room");
    refused("journal/0000.journal holds nothing, while partition");
    rig.files.truncate(FileName::Journal(0), 0).expect("it is there");
    refused("journal/0000.journal has 0 bytes");
}

#[test]
fn a_journal_that_was_cut_off_is_not_taken_for_a_shorter_one() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    for _ in 0..3 {
        rig.produce("t", &["v"]);
    }
    let whole = rig.files.len(FileName::Journal(0)).expect("memory").expect("it is there");
    // No later commit says that those were durable which are gone.
    for bytes in [0, 4096, whole / 2, whole - 1] {
        let files = rig.files.copy();
        files.truncate(FileName::Journal(0), bytes).expect("memory");
        let Err(error) = Node::recover(options(&[]), &files, [9; 32], rig.now) else { panic!("{bytes} are enough") };
        let told = format!("journal/0000.journal has {bytes} bytes in place of {whole}");
        assert!(error.to_string().contains(&told), "{error}");
        assert_eq!(files.len(FileName::Journal(0)).expect("memory"), Some(bytes), "it is left as it is");
    }
    // Only one file is made at a time: of two that are cut off, one was written to.
    let last = (0..).take_while(|&slot| rig.files.len(FileName::Journal(slot)).expect("memory").is_some()).last();
    let files = rig.files.copy();
    let last = last.filter(|&last| last > 1).expect("there are some in reserve");
    for slot in [last - 1, last] {
        files.truncate(FileName::Journal(slot), 0).expect("memory");
    }
    let Err(error) = Node::recover(options(&[]), &files, [9; 32], rig.now) else { panic!("one was not half-made") };
    assert!(error.to_string().contains("has 0 bytes in place of"), "{error}");
    assert_eq!(files.names(), rig.files.names(), "nothing is removed");
    assert_eq!(rig.crash().consume("t", 0).len(), 3);
}

#[test]
fn the_file_that_the_checkpoint_goes_on_in_must_hold_something() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    // Until one goes on behind what the first file holds.
    let goes_on = loop {
        rig.produce("t", &["v".repeat(15_000).as_str()]);
        rig.stop();
        rig = rig.crash();
        let checkpoints = MemorySlots([0, 1].map(|slot| rig.files.whole(FileName::Checkpoint(slot))).into());
        let survey = checkpoint::survey(&checkpoints, options(&[]).directory_id).expect("they are sound");
        let place = survey.newest.expect("a stop leaves one").header.replay.place();
        if place.slot > 0 {
            break place;
        }
    };
    assert!(goes_on.position > 0, "{goes_on}");
    let file = FileName::Journal(goes_on.slot);
    let is_last = rig.files.len(FileName::Journal(goes_on.slot + 1)).expect("memory").is_none();
    let bytes = options(&[]).journal.file_bytes;
    // What was acknowledged since would be gone without a word.
    for (length, told) in [(bytes, "holds nothing, while there is a checkpoint that goes on in"), (0, "has 0 bytes in")]
    {
        let files = rig.files.copy();
        files.truncate(file, 0).expect("memory");
        files.write_at(file, 0, &[vec![0; usize::try_from(length).expect("small")].into()]).expect("memory");
        let Err(error) = Node::recover(options(&[]), &files, [9; 32], rig.now) else { panic!("it must not start") };
        let told = if is_last { "holds nothing, while there is a checkpoint that goes on in" } else { told };
        assert!(error.to_string().starts_with(&format!("{file} {told}")), "{error}");
        assert_eq!(files.names(), rig.files.names(), "nothing is made or removed");
    }
}

#[test]
fn a_journal_that_lacks_a_file_in_between_is_not_taken_for_a_shorter_one() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    for _ in 0..60 {
        rig.produce("t", &["v".repeat(15_000).as_str()]);
    }
    let made = |rig: &Rig| rig.files.names().iter().filter(|name| matches!(name, FileName::Journal(_))).count();
    let count = u32::try_from(made(&rig)).expect("few");
    assert!(count >= 4, "{count} files");
    for number in 0..count - 1 {
        let files = rig.files.copy();
        files.remove(FileName::Journal(number)).expect("it is there");
        let Err(error) = Node::recover(options(&[]), &files, [9; 32], rig.now) else {
            panic!("it must not start without file {number}")
        };
        let told =
            format!("{} is missing, while {} is there", FileName::Journal(number), FileName::Journal(number + 1));
        assert!(error.to_string().contains(&told), "{error}");
        assert_eq!(files.names().len() + 1, rig.files.names().len(), "nothing is made or removed");
    }
    assert_eq!(rig.crash().consume("t", 0).len(), 60);
}

#[test]
fn a_body_that_is_damaged_stops_its_partition_alone() {
    check_damaged_body(false);
}

#[test]
fn a_body_that_is_damaged_behind_a_checkpoint_stops_its_partition_alone() {
    check_damaged_body(true);
}

fn check_damaged_body(checkpoint: bool) {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.create("other", 1);
    rig.produce("other", &["fine"]);
    rig.produce("t", &["small"]);
    rig.produce("t", &["v".repeat(30_000).as_str()]);
    rig.produce("t", &["w".repeat(30_000).as_str()]);
    assert!(rig.node.direct_bytes > 0);
    if checkpoint {
        rig.stop();
    }
    let names = rig.files.names();
    let segment = names.iter().find(|name| matches!(name, FileName::Segment(_))).expect("a segment");
    rig.files.flip(*segment, 40_000);
    let mut rig = rig.crash();
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request("t", 0, 0, 0).into()));
    let response = rig.fetched(sequence).expect("an answer");
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(rig.consume("other", 0), ["fine"]);
}

#[test]
fn damage_in_a_segment_stops_its_partition_alone() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.create("other", 1);
    rig.produce("other", &["fine"]);
    let value = "v".repeat(3_000);
    for _ in 0..100 {
        rig.produce("t", &[&value]);
    }
    let names = rig.files.names();
    let segment = names.iter().find(|name| matches!(name, FileName::Segment(_))).expect("a segment");
    rig.files.flip(*segment, 200);
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request("t", 0, 0, 0).into()));
    let response = rig.fetched(sequence).expect("an answer");
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::KafkaStorageError.code());
    let sequence = rig.send("t", 0, -1, records(Timestamp(5), &["x"]));
    assert_eq!(rig.produced(sequence).expect("an answer").error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(rig.consume("other", 0), ["fine"]);
}

#[test]
fn its_segments_stay_known_and_on_disk() {
    let mut rig = Rig::new();
    fill(&mut rig);
    let first = files(&rig)[0];
    rig.files.flip(first, 200);
    let sequence = rig.ask(12, Request::Other(Rig::fetch_request("t", 0, 0, 0).into()));
    let response = rig.fetched(sequence).expect("an answer");
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::KafkaStorageError.code());
    let why = log(&rig, "t").1.expect("it is damaged").to_owned();
    rig.stop();
    let (known, on_disk, end) = (segments(&rig), files(&rig), log(&rig, "t").0.end());
    assert!(known.len() > 5);
    let rig = age(rig);
    assert_eq!(log(&rig, "t").1, Some(why.as_str()));
    assert_eq!((segments(&rig), files(&rig), log(&rig, "t").0.end()), (known, on_disk, end));
}

#[test]
fn what_is_in_memory_only_stays_with_it() {
    let mut rig = Rig::new();
    fill(&mut rig);
    rig.produce("t", &["the newest"]);
    let slot = rig.node.by_id.values().copied().next().expect("a partition");
    rig.node.host(slot).partition.mark_damaged("bit rot".into());
    let rig = age(rig);
    let (log, why) = log(&rig, "t");
    assert_eq!(why, Some("bit rot"));
    let in_memory: usize = log.tail_bytes();
    let on_disk: u64 = log.segments().map(|segment| segment.synced.bytes).sum();
    assert_eq!(log.bytes(), on_disk + in_memory as u64, "every batch is in a segment or in the checkpoint");
}

#[test]
fn what_the_journal_brought_before_its_damage_stays_with_it() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["small"]);
    rig.produce("t", &["v".repeat(30_000).as_str()]);
    rig.produce("t", &["w".repeat(30_000).as_str()]);
    assert!(rig.node.direct_bytes > 0);
    let segment = files(&rig)[0];
    rig.files.flip(segment, 40_000);
    let rig = age(rig.crash());
    let (log, why) = log(&rig, "t");
    assert!(why.expect("it is damaged").contains("is damaged at byte"), "{why:?}");
    assert_eq!(log.segments().next().expect("the active one").base.0, 0);
    assert!(log.end().0 >= 1 && log.bytes() > 0);
}

#[test]
fn a_state_that_cannot_be_read_is_passed_on_as_it_is() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let slot = rig.node.by_id.values().copied().next().expect("a partition");
    rig.node.host(slot).partition.mark_damaged("bit rot".into());
    rig.node.host(slot).unread = Some(Bytes::from_static(b"\x01whatever"));
    let rig = age(rig);
    let unread: Vec<_> = rig.node.hosts.iter().flatten().filter_map(|hosted| hosted.unread.as_deref()).collect();
    assert_eq!(unread, [b"\x01whatever"]);
    assert_eq!(log(&rig, "t").1, Some("bit rot"));
}

#[test]
fn a_folder_that_nobody_needs_and_that_cannot_be_listed_keeps_no_broker_from_starting() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["v".repeat(15_000).as_str()]);
    rig.stop();
    let stray = SegmentName::appended(TopicPartition { topic: Uuid([9; 16]), partition: 0 }, crate::ids::Offset(0));
    rig.files.write_at(FileName::Segment(stray), 0, &[Bytes::from_static(b"old")]).expect("memory has room");
    rig.files.unlisted = Some(stray.partition);
    assert_eq!(rig.crash().consume("t", 0).len(), 1);

    let mut rig = Rig::new();
    rig.create("t", 1);
    for _ in 0..20 {
        rig.produce("t", &["v".repeat(15_000).as_str()]);
    }
    rig.stop();
    rig.files.unlisted = rig.node.by_id.keys().next().copied();
    let Err(error) = Node::recover(options(&[]), &rig.files, [9; 32], rig.now) else { panic!("its log may be lost") };
    assert!(error.to_string().contains("cannot be listed"), "{error}");
}
