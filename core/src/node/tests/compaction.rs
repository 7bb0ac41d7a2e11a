//! Compacting topics: what a client finds there, and which files there are.

use super::*;
use crate::compact::Pass;
use crate::ids::Offset;

/// Segments of a few batches, compacted as soon as there is anything to gain.
const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("internal.segment.bytes", "700"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("file.delete.delay.ms", "0"),
];

/// How long it takes at most until a dirty partition is compacted, in milliseconds.
const ENOUGH: u64 = 20_000;

fn compacting() -> Rig {
    let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "1000")]);
    rig.create_with("t", 1, &SETTINGS);
    rig
}

pub(super) fn pairs(time: Timestamp, pairs: &[(&str, Option<&str>)]) -> BatchBuilder {
    pairs.iter().fold(BatchBuilder::new(), |batch, (key, value)| {
        batch.record(time, Some(key.as_bytes()), value.map(str::as_bytes))
    })
}

fn put(rig: &mut Rig, key: &str, value: &str) -> i64 {
    let sequence = rig.send("t", 0, -1, pairs(rig.now.wall, &[(key, Some(value))]));
    let response = rig.produced(sequence).expect("an acknowledgement");
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    response.base_offset
}

/// Writes each of a few keys again and again: `rounds` of them, of which only the newest counts.
fn fill(rig: &mut Rig, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for key in ["a", "b", "c"] {
            put(rig, key, &format!("{key}{round}/{}", "v".repeat(100)));
        }
    }
}

/// The newest value of each key, as a consumer from the start makes it out, and how many records it saw for that.
fn table(rig: &mut Rig) -> (BTreeMap<String, String>, usize) {
    let start = log(rig).start().0;
    let values = rig.consume("t", start);
    let newest = values.iter().map(|value| (value[..1].to_owned(), value.split('/').next().expect("one").to_owned()));
    (newest.collect(), values.len())
}

fn expect_newest(rig: &mut Rig, round: usize) {
    let (table, _) = table(rig);
    let expected = ["a", "b", "c"].map(|key| (key.to_owned(), format!("{key}{round}")));
    assert_eq!(table, expected.into_iter().collect());
}

fn log(rig: &Rig) -> &crate::log::Log {
    let slot = *rig.node.by_id.values().next().expect("one partition");
    rig.node.hosts[slot as usize].as_ref().expect("it is hosted").partition.log()
}

fn damage(rig: &Rig) -> Option<&str> {
    let slot = *rig.node.by_id.values().next().expect("one partition");
    rig.node.hosts[slot as usize].as_ref().expect("it is hosted").partition.damage()
}

fn segment_files(rig: &Rig) -> Vec<FileName> {
    let mut names = rig.files.names();
    names.retain(|name| matches!(name, FileName::Segment(_)));
    names
}

fn live_files(rig: &Rig) -> Vec<FileName> {
    let written = log(rig).segments().filter(|segment| segment.written > 0);
    written.map(|segment| FileName::Segment(log(rig).name_of(segment))).collect()
}

/// Goes on until a pass is about to take a step with the disk, and holds it there.
fn hold_a_pass(rig: &mut Rig, steps: usize) -> Box<Pass> {
    let mut steps = steps;
    for _ in 0..10_000 {
        rig.node.turn(rig.now, &mut rig.out);
        for effect in std::mem::take(&mut rig.out.0) {
            match effect {
                Effect::Disk(DiskOp::Compact(pass)) if steps == 0 => {
                    rig.run();
                    return pass;
                }
                Effect::Disk(DiskOp::Compact(_)) => {
                    steps -= 1;
                    rig.carry_out(effect);
                }
                effect => rig.carry_out(effect),
            }
        }
        let Some((at, _)) = rig.node.deadline() else { continue };
        if rig.out.0.is_empty() {
            rig.advance_to(at.max(rig.now.instant));
            rig.step(Input::Deadline);
        }
    }
    panic!("no partition is compacted")
}

/// The disk does what a pass that was held wants.
fn release(rig: &mut Rig, mut pass: Box<Pass>) {
    let result = pass.step(&rig.files);
    rig.step(Input::Disk(Done::Compacted(pass, result)));
    rig.run();
}

#[test]
fn of_each_key_the_newest_record_stays_and_so_it_does_over_a_crash() {
    let mut rig = compacting();
    fill(&mut rig, 0..20);
    rig.pass(ENOUGH);
    assert!(rig.node.counters().compaction_records_removed > 40, "{:?}", rig.node.counters());
    let end = log(&rig).end();
    expect_newest(&mut rig, 19);
    let (_, seen) = table(&mut rig);
    assert!(seen < 12, "{seen} records are left of 60");
    let mut rig = rig.crash();
    assert_eq!(damage(&rig), None);
    expect_newest(&mut rig, 19);
    assert_eq!(log(&rig).end(), end);
    fill(&mut rig, 20..30);
    rig.pass(ENOUGH);
    expect_newest(&mut rig, 29);
    rig.stop();
    let mut rig = rig.crash();
    expect_newest(&mut rig, 29);
    assert_eq!(rig.files.names().len(), rig.crash().files.names().len());
}

#[test]
fn old_files_go_and_none_is_left_over() {
    let mut rig = compacting();
    fill(&mut rig, 0..40);
    rig.pass(ENOUGH);
    for _ in 0..3 {
        rig.pass(ENOUGH);
    }
    assert_eq!(segment_files(&rig), live_files(&rig));
    assert!(log(&rig).segments().any(|segment| segment.generation > 0));
}

#[test]
fn a_partition_that_grows_quiet_is_compacted_to_its_end() {
    let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "1000")]);
    rig.create_with("t", 1, &[("cleanup.policy", "compact"), ("max.compaction.lag.ms", "5000")]);
    fill(&mut rig, 0..5);
    rig.pass(4_000);
    assert_eq!(table(&mut rig).1, 15, "nothing has waited for so long");
    rig.pass(4_000);
    assert_eq!(log(&rig).clean_to(), log(&rig).end());
    assert_eq!(table(&mut rig).1, 3);
}

#[test]
fn a_record_stays_uncompacted_for_as_long_as_is_asked() {
    let mut rig = compacting();
    assert_eq!(rig.alter((2, "t"), "min.compaction.lag.ms", "60000"), 0);
    fill(&mut rig, 0..20);
    rig.pass(50_000);
    assert_eq!(rig.node.counters().compactions, 0);
    rig.pass(30_000);
    assert!(rig.node.counters().compactions > 0);
    expect_newest(&mut rig, 19);
}

#[test]
fn a_deleted_key_goes_and_its_mark_with_it_when_its_time_has_come() {
    let mut rig = compacting();
    assert_eq!(rig.alter((2, "t"), "delete.retention.ms", "100000"), 0);
    fill(&mut rig, 0..3);
    let sequence = rig.send("t", 0, -1, pairs(rig.now.wall, &[("a", None)]));
    let mark = rig.produced(sequence).expect("an acknowledgement").base_offset;
    fill(&mut rig, 3..4);
    let sequence = rig.send("t", 0, -1, pairs(rig.now.wall, &[("a", None), ("b", None)]));
    let last = rig.produced(sequence).expect("an acknowledgement").base_offset;
    assert!(last > mark);
    for round in 0..8 {
        put(&mut rig, "d", &format!("d{round}/{}", "v".repeat(100)));
    }
    rig.pass(ENOUGH);
    rig.pass(ENOUGH);
    assert!(log(&rig).clean_to().0 > last + 1);
    let rig = &mut rig.crash();
    let marks = |rig: &mut Rig| rig.consume("t", 0).iter().filter(|value| value.is_empty()).count();
    assert_eq!(marks(rig), 2, "the marks of both keys, once each");
    rig.pass(150_000);
    // A pass takes them away, and none comes before there is something new to compact.
    for round in 8..16 {
        put(rig, "d", &format!("d{round}/{}", "v".repeat(100)));
    }
    rig.pass(ENOUGH);
    assert_eq!(marks(rig), 0);
    let (table, _) = table(rig);
    assert_eq!(table.keys().map(String::as_str).collect::<Vec<_>>(), ["c", "d"]);
}

#[test]
fn records_are_deleted_only_where_the_policy_deletes() {
    let mut rig = compacting();
    fill(&mut rig, 0..2);
    let partition = DeleteRecordsPartition { partition_index: 0, offset: 1 };
    let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
    let Response::DeleteRecords(response) = rig.answer(2, request.into()) else { panic!("another answer") };
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::PolicyViolation.code());
    assert_eq!(rig.alter((2, "t"), "cleanup.policy", "compact,delete"), 0);
    rig.delete_records("t", 1);
    assert_eq!(rig.alter((2, "t"), "cleanup.policy", ""), 0);
    rig.delete_records("t", 2);
}

#[test]
fn a_record_without_a_key_is_refused() {
    let mut rig = compacting();
    let batch = pairs(rig.now.wall, &[("a", Some("1"))]).record(rig.now.wall, None, Some(b"2"));
    let sequence = rig.send("t", 0, -1, batch);
    let response = rig.produced(sequence).expect("an answer");
    assert_eq!(response.error_code, ErrorCode::InvalidRecord.code());
    assert!(response.error_message.expect("a reason").contains("without a key"));
    assert_eq!(log(&rig).end().0, 0);
}

#[test]
fn a_producer_that_sends_again_is_recognised_though_its_batch_was_emptied() {
    let mut rig = compacting();
    let batch = |time, sequence| {
        pairs(time, &[("a", Some(&"v".repeat(400)))]).producer(ProducerId(77), ProducerEpoch(0), sequence)
    };
    let time = rig.now.wall;
    let sequence = rig.send("t", 0, -1, batch(time, 0));
    let first = rig.produced(sequence).expect("an acknowledgement").base_offset;
    fill(&mut rig, 0..10);
    rig.pass(ENOUGH);
    let mut rig = rig.crash();
    expect_newest(&mut rig, 9);
    let sequence = rig.send("t", 0, -1, batch(time, 0));
    assert_eq!(rig.produced(sequence).expect("an acknowledgement").base_offset, first);
    let sequence = rig.send("t", 0, -1, batch(time, 1));
    assert_eq!(rig.produced(sequence).expect("an acknowledgement").error_code, 0);
}

#[test]
fn a_producer_is_known_though_all_that_it_wrote_was_deleted() {
    let mut rig = compacting();
    assert_eq!(rig.alter((2, "t"), "cleanup.policy", "compact,delete"), 0);
    let time = rig.now.wall;
    let batch = |sequence| pairs(time, &[("a", Some("1"))]).producer(ProducerId(77), ProducerEpoch(0), sequence);
    for sequence in 0..2 {
        let sent = rig.send("t", 0, -1, batch(sequence));
        assert_eq!(rig.produced(sent).expect("an acknowledgement").error_code, 0);
    }
    rig.delete_records("t", 2);
    let mut rig = rig.crash();
    let mut answered = |sequence| {
        let sent = rig.send("t", 0, -1, batch(sequence));
        let answer = rig.produced(sent).expect("an answer");
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(answered(1), (0, 1), "sent again");
    assert_eq!(answered(3).0, ErrorCode::OutOfOrderSequenceNumber.code(), "a gap");
    assert_eq!(answered(2), (0, 2));
}

#[test]
fn deleting_records_under_a_pass_takes_its_result_away() {
    for steps in 0..6 {
        let mut rig = compacting();
        assert_eq!(rig.alter((2, "t"), "cleanup.policy", "compact,delete"), 0);
        fill(&mut rig, 0..20);
        let pass = hold_a_pass(&mut rig, steps);
        rig.delete_records("t", 40);
        release(&mut rig, pass);
        rig.pass(ENOUGH);
        assert_eq!(damage(&rig), None);
        expect_newest(&mut rig, 19);
        let mut rig = rig.crash();
        assert_eq!((damage(&rig), log(&rig).start().0), (None, 40), "after {steps} steps");
        assert!(log(&rig).first_base().0 <= 40);
        expect_newest(&mut rig, 19);
    }
}

#[test]
fn a_pass_goes_on_behind_what_was_deleted() {
    let half_compacted = || {
        let mut rig = compacting();
        assert_eq!(rig.alter((2, "t"), "cleanup.policy", "compact,delete"), 0);
        fill(&mut rig, 0..10);
        rig.pass(ENOUGH);
        fill(&mut rig, 10..20);
        rig.lines.clear();
        rig
    };
    let mut rig = half_compacted();
    rig.pass(ENOUGH);
    let steps = rig.lines.iter().filter(|line| line.ends_with("a step of compaction")).count();
    assert!(steps > 10, "a pass takes {steps} steps");
    for steps in 0..steps {
        let mut rig = half_compacted();
        let pass = hold_a_pass(&mut rig, steps);
        // What is compacted already is deleted while the rest is.
        let (before, clean_to) = (log(&rig).segments().count(), log(&rig).clean_to());
        rig.delete_records("t", clean_to.0);
        assert!(log(&rig).segments().count() < before || steps > 10);
        release(&mut rig, pass);
        rig.pass(ENOUGH);
        assert_eq!(rig.node.counters().compactions_given_up, 0, "after {steps} steps");
        expect_newest(&mut rig, 19);
        let mut rig = rig.crash();
        assert_eq!(damage(&rig), None, "after {steps} steps");
        expect_newest(&mut rig, 19);
        for _ in 0..3 {
            rig.pass(ENOUGH);
        }
        assert_eq!(segment_files(&rig), live_files(&rig), "after {steps} steps");
    }
}

#[test]
fn a_cut_on_its_way_to_disk_counts_as_made() {
    for steps in 0..5 {
        let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "1000")]);
        rig.create_with("t", 1, &[("cleanup.policy", "compact,delete"), ("max.compaction.lag.ms", "1000")]);
        fill(&mut rig, 0..2);
        rig.pass(5_000);
        fill(&mut rig, 2..4);
        // What is compacted and what is new become one segment, and the cut goes between them.
        let pass = hold_a_pass(&mut rig, steps);
        assert_eq!(log(&rig).segments().map(|segment| segment.base.0).collect::<Vec<_>>(), [0, 6, 12]);
        rig.hold = true;
        let partition = DeleteRecordsPartition { partition_index: 0, offset: 7 };
        let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 };
        rig.ask(2, Request::Other(request.into()));
        release(&mut rig, pass);
        rig.pass(200);
        rig.release();
        rig.pass(ENOUGH);
        assert_eq!((damage(&rig), log(&rig).start().0), (None, 7), "after {steps} steps");
        expect_newest(&mut rig, 3);
        let mut rig = rig.crash();
        assert_eq!((damage(&rig), log(&rig).start().0), (None, 7), "after {steps} steps");
        expect_newest(&mut rig, 3);
    }
}

#[test]
fn deleting_the_topic_under_a_pass_leaves_no_file_behind() {
    for steps in 0..6 {
        let mut rig = compacting();
        fill(&mut rig, 0..20);
        let pass = hold_a_pass(&mut rig, steps);
        rig.delete("t");
        // Its folder goes first, and what the pass writes makes it anew.
        rig.pass(1_000);
        release(&mut rig, pass);
        rig.pass(ENOUGH);
        assert_eq!(segment_files(&rig), [], "after {steps} steps");
        rig.stop();
    }
}

#[test]
fn changing_the_policy_under_a_pass_ends_it() {
    let mut rig = compacting();
    fill(&mut rig, 0..20);
    let pass = hold_a_pass(&mut rig, 1);
    assert_eq!(rig.alter((2, "t"), "cleanup.policy", "delete"), 0);
    release(&mut rig, pass);
    rig.pass(ENOUGH);
    assert_eq!((rig.node.counters().compactions, rig.node.counters().compactions_given_up), (0, 1));
    assert_eq!(table(&mut rig).1, 60);
    assert_eq!(rig.alter((2, "t"), "cleanup.policy", "compact"), 0);
    rig.pass(ENOUGH);
    assert!(rig.node.counters().compactions > 0, "the topic asks for it again");
}

#[test]
fn damage_that_a_pass_finds_is_told_and_nothing_is_replaced() {
    let mut rig = compacting();
    fill(&mut rig, 0..20);
    let pass = hold_a_pass(&mut rig, 0);
    let first = FileName::Segment(log(&rig).name_of(log(&rig).segments().next().expect("one")));
    rig.files.flip(first, 100);
    release(&mut rig, pass);
    rig.pass(ENOUGH);
    assert!(damage(&rig).expect("it is damaged").contains("is damaged at byte"));
    assert!(log(&rig).segments().all(|segment| segment.generation == 0));
    assert!(rig.node.counters().read_errors > 0);
}

#[test]
fn a_full_disk_puts_compaction_off() {
    let mut rig = compacting();
    fill(&mut rig, 0..20);
    let pass = hold_a_pass(&mut rig, 0);
    rig.files.set_full(true);
    release(&mut rig, pass);
    rig.pass(5_000);
    assert_eq!(rig.fatal, None);
    assert_eq!(rig.node.counters().compaction_records_removed, 0);
    rig.files.set_full(false);
    rig.pass(90_000);
    assert!(rig.node.counters().compaction_records_removed > 0);
    expect_newest(&mut rig, 19);
    for _ in 0..3 {
        rig.pass(ENOUGH);
    }
    assert_eq!(segment_files(&rig), live_files(&rig));
}

#[test]
fn stopping_under_a_pass_leaves_nothing_that_the_next_start_does_not_remove() {
    for steps in 0..8 {
        let mut rig = compacting();
        fill(&mut rig, 0..20);
        let pass = hold_a_pass(&mut rig, steps);
        rig.step(Input::Stop);
        release(&mut rig, pass);
        assert!(rig.stopped);
        let mut rig = rig.crash();
        expect_newest(&mut rig, 19);
        rig.pass(ENOUGH);
        rig.stop();
        let rig = rig.crash();
        let mut rig = rig;
        rig.pass(ENOUGH);
        assert_eq!(segment_files(&rig), live_files(&rig), "after {steps} steps");
    }
}

#[test]
fn a_start_from_the_older_checkpoint_knows_what_was_replaced_since() {
    let mut rig = compacting();
    fill(&mut rig, 0..20);
    // One after the other, with what goes straight to segments between them.
    for round in 20..24 {
        let value = format!("a{round}/{}", "v".repeat(30_000));
        put(&mut rig, "a", &value);
        put(&mut rig, "b", &format!("b{round}/"));
        put(&mut rig, "c", &format!("c{round}/"));
        rig.pass(ENOUGH);
        rig.node.checkpoint_soon();
        rig.pass(ENOUGH);
        let mut broken = Rig::on(rig.files.copy(), &rig.settings.clone(), 40);
        expect_newest(&mut broken, round);
        // The newest checkpoint is lost: the older one, and the journal from there on, say the same.
        let newest = (0..2).max_by_key(|&slot| checkpoint_number(&rig, slot)).expect("two slots");
        let files = rig.files.copy();
        files.flip(FileName::Checkpoint(newest), 20);
        let mut older = Rig::on(files, &rig.settings.clone(), 41);
        assert_eq!(damage(&older), None);
        expect_newest(&mut older, round);
    }
    assert!(rig.node.counters().compaction_records_removed > 20);
}

/// The number of the checkpoint in a slot, which its header holds.
fn checkpoint_number(rig: &Rig, slot: u32) -> u64 {
    let mut header = [0; 40];
    rig.files.read_at(FileName::Checkpoint(slot), 0, &mut header).expect("memory");
    u64::from_le_bytes(header[32..40].try_into().expect("eight bytes"))
}

#[test]
fn a_fetch_whose_segment_goes_while_it_is_read_gets_what_compaction_left() {
    let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "1000")]);
    let settings = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "60000"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("file.delete.delay.ms", "0"),
    ];
    rig.create_with("t", 1, &settings);
    for number in 0..200 {
        put(&mut rig, ["a", "b", "c"][number % 3], &"v".repeat(3_000));
    }
    rig.stop();
    // Memory has nothing then, and no pass has begun.
    let mut rig = rig.crash();
    let request = Rig::fetch_request("t", 0, 0, 0);
    let to = ReplyTo { conn: ConnId(7), sequence: 1, version: 12, listener: ListenerId(0) };
    rig.step(Input::Request { to, request: Request::Other(request.into()) });
    let is_read = |effect: &Effect| matches!(effect, Effect::Disk(DiskOp::Read(..)));
    let at = rig.out.0.iter().position(is_read).expect("the beginning is on disk");
    let Effect::Disk(DiskOp::Read(id, plan)) = rig.out.0.remove(at) else { unreachable!("it was just found") };
    rig.pass(ENOUGH);
    let outcome = plan.run(&rig.files);
    assert!(outcome.is_err(), "its file is still there");
    rig.step(Input::Disk(Done::Read(id, outcome)));
    rig.run();
    let response = rig.fetched(1).expect("an answer");
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    let bytes = data.records.as_ref().map_or(0, crate::wire::Records::len);
    assert!(bytes > 0, "it is answered without data");
}

#[test]
fn a_search_by_time_finds_what_compaction_left() {
    let mut rig = compacting();
    let begin = rig.now.wall.0;
    for round in 0..20 {
        fill(&mut rig, round..round + 1);
        rig.pass(10);
    }
    rig.pass(ENOUGH);
    let mut rig = rig.crash();
    let (offset, time) = rig.list_offset("t", begin);
    assert!(offset > 0 && time > begin, "the first record that is left: {offset} at {time}");
    assert_eq!(rig.list_offset("t", -3).0, 57, "the first of the newest three");
    assert_eq!(rig.list_offset("t", -2).0, 0, "the log starts where it did");
}

#[test]
fn a_topic_that_deletes_as_well_lets_old_segments_go() {
    let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "1000"), ("log.retention.check.interval.ms", "1000")]);
    rig.create_with("t", 1, &SETTINGS);
    assert_eq!(rig.alter((2, "t"), "cleanup.policy", "compact,delete"), 0);
    assert_eq!(rig.alter((2, "t"), "retention.ms", "60000"), 0);
    fill(&mut rig, 0..20);
    rig.pass(ENOUGH);
    expect_newest(&mut rig, 19);
    rig.pass(90_000);
    assert_eq!(log(&rig).start(), log(&rig).end());
}

#[test]
fn a_topic_that_only_compacts_keeps_what_is_old() {
    let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "1000"), ("log.retention.check.interval.ms", "1000")]);
    rig.create_with("t", 1, &SETTINGS);
    assert_eq!(rig.alter((2, "t"), "retention.ms", "1000"), 0);
    fill(&mut rig, 0..20);
    rig.pass(90_000);
    expect_newest(&mut rig, 19);
}

#[test]
fn a_broker_without_compacting_topics_is_not_woken_for_them() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    rig.pass(1_000);
    assert!(rig.node.deadlines.iter().all(|(_, reason)| *reason != Reason::Compaction));
}

#[test]
fn compaction_can_be_switched_off() {
    let mut rig = Rig::with(&[("log.cleaner.enable", "false")]);
    rig.create_with("t", 1, &SETTINGS);
    fill(&mut rig, 0..20);
    rig.pass(ENOUGH);
    assert_eq!(table(&mut rig).1, 60);
}

/// A compacting topic with something to gain, and so many partitions after its own that they are not looked at in one
/// step.
fn among_others() -> Rig {
    let mut rig = compacting();
    rig.create("others", 150);
    fill(&mut rig, 0..20);
    let last = rig.node.by_id.keys().next_back().expect("some partitions");
    assert!(last.partition > 0, "ids are drawn: another topic's must come last");
    rig
}

/// Goes on to the next deadline.
fn wake(rig: &mut Rig) {
    let (at, _) = rig.node.deadline().expect("a look at all partitions");
    rig.advance_to(at.max(rig.now.instant));
    rig.step(Input::Deadline);
    rig.run();
}

#[test]
fn a_topic_deleted_while_partitions_are_looked_at_is_not_compacted() {
    let mut rig = among_others();
    let mut steps = 0;
    while rig.node.counters().compaction_bytes_read == 0 {
        wake(&mut rig);
        steps += 1;
    }
    for steps in steps - 4..steps {
        let mut rig = among_others();
        (0..steps).for_each(|_| wake(&mut rig));
        rig.delete("t");
        rig.pass(ENOUGH);
        assert_eq!(rig.node.counters().compactions, 0);
    }
}

#[test]
fn a_topic_that_asks_for_compaction_while_partitions_are_looked_at_gets_it() {
    for steps in 0..8 {
        let mut rig = among_others();
        assert_eq!(rig.alter((2, "t"), "cleanup.policy", "delete"), 0);
        (0..steps).for_each(|_| wake(&mut rig));
        assert_eq!(rig.alter((2, "t"), "cleanup.policy", "compact"), 0);
        rig.pass(ENOUGH);
        assert!(rig.node.counters().compactions > 0, "after {steps} steps");
    }
}

#[test]
fn a_partition_that_is_filled_up_all_the_time_does_not_keep_another_from_being_compacted() {
    let mut rig = compacting();
    rig.create_with("u", 1, &SETTINGS);
    let write = |rig: &mut Rig, topic: &'static str, batches: usize| {
        for _ in 0..batches {
            let batch = pairs(rig.now.wall, &[("a", Some(&"v".repeat(3_000)))]);
            let sequence = rig.send(topic, 0, -1, batch);
            assert_eq!(rig.produced(sequence).expect("an acknowledgement").error_code, 0);
        }
    };
    write(&mut rig, "u", 10);
    rig.pass(ENOUGH);
    let before = rig.node.counters().compactions;
    // The dirtier of the two begins, and is the dirtier one again when that pass ends. Each time memory is short of room,
    // and a checkpoint brings all of it to disk.
    write(&mut rig, "u", 8);
    write(&mut rig, "t", 10);
    rig.node.checkpoint_soon();
    rig.pass(10);
    let pass = hold_a_pass(&mut rig, 0);
    let first = pass.partition();
    let topic = rig.node.controller.image().topic(first.topic).expect("it is there");
    assert_eq!(&*topic.name, "t");
    write(&mut rig, "t", 50);
    rig.node.checkpoint_soon();
    rig.pass(10);
    release(&mut rig, pass);
    loop {
        let pass = hold_a_pass(&mut rig, 0);
        if pass.partition() != first {
            break;
        }
        release(&mut rig, pass);
    }
    assert_eq!(rig.node.counters().compactions, before + 1, "the other one is next");
}

fn lines_with(rig: &Rig, text: &str) -> usize {
    rig.lines.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn segments_that_never_needed_compaction_are_sealed_some_at_a_time_and_a_crash_finds_all() {
    let mut rig = compacting();
    // No key comes twice, so that passes replace nothing and the journal hears of no segment.
    for key in 0..60 {
        put(&mut rig, &format!("only{key}"), &"v".repeat(200));
    }
    rig.pass(ENOUGH);
    let generation_of = |rig: &Rig| log(rig).segments().map(|segment| segment.generation).max();
    assert!(log(&rig).segments().len() > 15);
    assert_eq!(generation_of(&rig), Some(0));
    put(&mut rig, "only55", "again/");
    fill(&mut rig, 0..5);
    rig.pass(ENOUGH);
    assert!(generation_of(&rig) > Some(0), "the last ones have been compacted");
    let expected = rig.consume("t", 0);
    // Without a checkpoint since: the journal alone says it.
    let mut rig = rig.crash();
    assert_eq!(damage(&rig), None);
    assert_eq!(rig.consume("t", 0), expected);
}

#[test]
fn a_rate_of_next_to_nothing_keeps_no_keys_in_memory() {
    let mut rig = compacting();
    assert_eq!(rig.alter((4, ""), "log.cleaner.io.max.bytes.per.second", "1"), 0);
    // Four pauses of six hours and more do not fit into a day.
    for round in 0..60 {
        put(&mut rig, "a", &format!("{round}/{}", "v".repeat(2_000)));
    }
    rig.pass(3 * 24 * 60 * 60 * 1000);
    assert!(lines_with(&rig, "it is given up, and begins again later") > 0);
    assert_eq!(rig.node.counters().compactions, 0);
    let bytes = rig.node.counters().compaction_bytes_read;
    assert!(bytes < 700_000, "{bytes} bytes read in three days");
    assert_eq!(rig.alter((4, ""), "log.cleaner.io.max.bytes.per.second", "1000000"), 0);
    rig.pass(3 * 24 * 60 * 60 * 1000);
    assert!(rig.node.counters().compactions > 0);
}

#[test]
fn where_the_numbers_of_files_have_run_out_nothing_is_compacted_and_nothing_breaks() {
    let mut rig = compacting();
    rig.node.compaction.saw(crate::boundary::SegmentName {
        partition: TopicPartition { topic: Uuid([9; 16]), partition: 0 },
        base: crate::ids::Offset(0),
        generation: crate::boundary::SegmentName::AFTER_CUT - 1,
    });
    fill(&mut rig, 0..20);
    rig.pass(ENOUGH);
    assert!(lines_with(&rig, "there are no more numbers for new segments") > 0);
    expect_newest(&mut rig, 19);
    assert!(log(&rig).segments().all(|segment| segment.generation == 0));
}

#[test]
fn thousands_of_producers_are_looked_at_some_at_a_time() {
    let mut rig = compacting();
    fill(&mut rig, 0..20);
    let slot = *rig.node.by_id.values().next().expect("one partition");
    rig.node.host(slot).partition.log_mut().remember_producers(5_500);
    let mut gathered = 0;
    for _ in 0..5_000 {
        let Some((at, _)) = rig.node.deadline() else { break };
        rig.advance_to(at.max(rig.now.instant));
        rig.step(Input::Deadline);
        gathered += usize::from(rig.node.compaction.is_gathering());
        rig.run();
        if rig.node.counters().compactions > 0 {
            break;
        }
    }
    assert!(gathered >= 5, "{gathered} steps");
    assert_eq!(rig.node.counters().compactions, 1);
    expect_newest(&mut rig, 19);
}

/// Appends a batch that no client may send yet, of a producer's transaction.
fn append_of_transaction(rig: &mut Rig, batch: BatchBuilder) {
    let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
    let batch = verify(batch.build(), &limits).expect("a sound batch");
    let slot = *rig.node.by_id.values().next().expect("one partition");
    let now = rig.now.wall;
    let partition = &mut rig.node.hosts[slot as usize].as_mut().expect("it is hosted").partition;
    let epoch = partition.epoch();
    let way = crate::log::Way::Journal;
    let (appended, _) = partition.log_mut().append(&batch, epoch, now, way, &mut rig.node.journal);
    partition.appended(appended.end, rig.now.instant, rig.node.replicas.peers());
    rig.node.account_tail(slot);
    rig.node.woken.push_back((rig.node.journal.end(), Woken::Partition(slot)));
    rig.run();
}

#[test]
fn a_transaction_whose_marker_is_not_closed_yet_has_the_log_read_once_and_no_more() {
    let mut rig = compacting();
    let begun = BatchBuilder::new().producer(ProducerId(7), ProducerEpoch(0), 0).transactional();
    let begun = begun.record(rig.now.wall, Some(b"a"), Some(b"first/"));
    append_of_transaction(&mut rig, begun);
    fill(&mut rig, 0..20);
    rig.pass(ENOUGH);
    let read = rig.node.counters().compaction_bytes_read;
    assert!(read > 0);
    rig.pass(10 * 60 * 1000);
    assert_eq!(rig.node.counters().compaction_bytes_read, read, "nothing could be gained");
    // More is closed, in which the marker might be.
    fill(&mut rig, 20..25);
    rig.pass(ENOUGH);
    let again = rig.node.counters().compaction_bytes_read;
    assert!(again > read);
    rig.pass(10 * 60 * 1000);
    assert_eq!(rig.node.counters().compaction_bytes_read, again);
}

#[test]
fn a_log_that_was_cut_in_a_gap_is_read_on_behind_it_and_compacted() {
    let mut rig = Rig::with(&[("log.cleaner.backoff.ms", "1000")]);
    let settings = [SETTINGS[0], ("internal.segment.bytes", "3000"), SETTINGS[2], SETTINGS[3]];
    rig.create_with("t", 1, &settings);
    put(&mut rig, "a", "first");
    (0..8).for_each(|_| _ = put(&mut rig, "x", &"v".repeat(100)));
    put(&mut rig, "b", "second");
    // Each of these is for a segment of its own.
    for key in ["x", "y", "z"] {
        put(&mut rig, key, &"v".repeat(2_900));
    }
    rig.pass(ENOUGH);
    rig.stop();
    // What batches replaced is forgotten by now, and memory has none: the cut falls into the gap where x was.
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0)[..2], ["first", "second"]);
    let slot = *rig.node.by_id.values().next().expect("one partition");
    let hosted = rig.node.hosts[slot as usize].as_mut().expect("it is hosted");
    hosted.partition.log_mut().cut(Offset(5), &mut rig.node.journal);
    while let Some(commit) = rig.node.journal.take_commit() {
        let file = FileName::Journal(commit.slot);
        rig.files.write_at(file, commit.position, std::slice::from_ref(&commit.data)).expect("memory has room");
        rig.node.journal.committed(commit.number);
    }
    let mut rig = rig.crash();
    assert_eq!((log(&rig).end(), damage(&rig)), (Offset(5), None));
    put(&mut rig, "c", "third");
    assert_eq!(rig.consume("t", 1), ["third"], "from inside the gap");
    for key in ["a", "y", "z"] {
        put(&mut rig, key, &"v".repeat(2_900));
    }
    rig.stop();
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 1)[0], "third", "where it is on disk as well");
    rig.pass(ENOUGH);
    assert!(rig.node.counters().compaction_records_removed > 0);
    let mut rig = rig.crash();
    assert_eq!(damage(&rig), None);
    assert_eq!(rig.consume("t", 0)[0], "third");
}
