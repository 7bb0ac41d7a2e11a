//! The two checkpoint files: what they take of the disk, and that what an older checkpoint left in them counts for
//! nothing.

use super::*;
use crate::ids::Offset;
use crate::node::checkpoints::{FLUSHED_PART, SYNCED_PART};
use crate::testing::Sync;

const MIB: u64 = 1 << 20;

fn lengths(rig: &Rig) -> [u64; 2] {
    [0, 1].map(|slot| rig.files.len(FileName::Checkpoint(slot)).expect("memory").expect("made at the first start"))
}

fn checkpoint(rig: &mut Rig) {
    let before = rig.node.counters().checkpoints;
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    rig.run();
    rig.pass(1);
    assert_eq!(rig.node.counters().checkpoints, before + 1);
}

fn remember(rig: &mut Rig, producers: usize) {
    let slot = *rig.node.by_id.values().next().expect("a partition");
    rig.node.host(slot).partition.log_mut().remember_producers(producers);
}

#[test]
fn a_checkpoint_that_fits_leaves_its_file_as_long_as_it_is() {
    let mut rig = Rig::new();
    assert_eq!(lengths(&rig), [MIB; 2], "there before anything is taken");
    rig.create("t", 1);
    for value in ["a", "b", "c"] {
        rig.produce("t", &[value]);
        checkpoint(&mut rig);
        assert_eq!(lengths(&rig), [MIB; 2]);
    }
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a", "b", "c"]);
}

#[test]
fn a_full_disk_has_room_for_a_checkpoint_that_fits() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    rig.files.set_full(true);
    checkpoint(&mut rig);
    checkpoint(&mut rig);
    assert!(rig.node.no_space.is_none());
}

#[test]
fn what_a_longer_checkpoint_left_in_the_file_counts_for_nothing() {
    let mut rig = Rig::new();
    rig.create("large", 1);
    // 2.9 MiB of producers.
    remember(&mut rig, 16_000);
    checkpoint(&mut rig);
    checkpoint(&mut rig);
    rig.delete("large");
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    checkpoint(&mut rig);
    checkpoint(&mut rig);
    assert_eq!(lengths(&rig), [3 * MIB; 2]);
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), ["a"]);
    assert_eq!(rig.node.by_id.len(), 1);
}

#[test]
fn a_file_that_is_far_too_long_gives_its_space_back() {
    let mut rig = Rig::new();
    rig.create("large", 1);
    // 18 MiB of producers.
    remember(&mut rig, 100_000);
    checkpoint(&mut rig);
    checkpoint(&mut rig);
    assert!(lengths(&rig).iter().all(|&bytes| bytes > 16 * MIB && bytes.is_multiple_of(MIB)));
    rig.delete("large");
    checkpoint(&mut rig);
    checkpoint(&mut rig);
    assert_eq!(lengths(&rig), [MIB; 2]);
}

#[test]
fn a_start_makes_the_checkpoint_that_it_relies_on_durable_by_writing_it_again() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.produce("t", &["a"]);
    checkpoint(&mut rig);
    checkpoint(&mut rig);
    let rig = rig.crash();
    // A sync that failed leaves it in the page cache, where a sync without a write would leave it for good.
    let newest = [0, 1].map(|slot| rig.files.written_before_sync(FileName::Checkpoint(slot)));
    assert_eq!(newest.iter().filter(|&&bytes| bytes > 0).count(), 1, "the newest one, and no other: {newest:?}");
}

#[test]
fn topics_that_come_go_and_change_while_the_metadata_is_written_are_what_they_are_after_a_crash() {
    let mut rig = Rig::new();
    let names = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
    for name in names {
        rig.create(name, 200);
    }
    for _ in 0..2 {
        rig.node.checkpoint_soon();
        rig.step(Input::Deadline);
        assert!(rig.node.checkpoints.is_running());
        for name in names.into_iter().take(6) {
            rig.delete(name);
        }
        for (partitions, name) in (1..).zip(names.into_iter().take(6).skip(2)) {
            rig.create(name, partitions);
        }
        rig.create("new", 300);
        rig.pass(1);
        rig = rig.crash();
        let image = rig.node.controller.image();
        let mut told: Vec<(&str, usize)> =
            image.topics_from("").map(|topic| (topic.name.as_str(), topic.partitions.len())).collect();
        told.sort_unstable();
        let expect = [("new", 300), ("t2", 1), ("t3", 2), ("t4", 3), ("t5", 4), ("t6", 200), ("t7", 200)];
        assert_eq!(told, expect);
        assert_eq!(rig.node.by_id.len(), 710);
        rig.delete("new");
        for name in names.into_iter().take(2) {
            rig.create(name, 200);
        }
    }
}

#[test]
fn a_step_encodes_no_more_than_a_chunk_and_one_partition() {
    let mut rig = Rig::new();
    rig.create("t", 30);
    // Some 180 kB of each.
    let slots: Vec<u32> = rig.node.by_id.values().copied().collect();
    for slot in slots {
        rig.node.host(slot).partition.log_mut().remember_producers(1_000);
    }
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    let (mut largest, mut total) = (0, 0);
    while rig.node.checkpoints.is_running() {
        rig.node.turn(rig.now, &mut rig.out);
        for effect in std::mem::take(&mut rig.out.0) {
            if let Effect::Disk(DiskOp::Task(_, Task::Checkpoint { chunks, .. })) = &effect {
                let bytes: usize = chunks.iter().map(Bytes::len).sum();
                (largest, total) = (largest.max(bytes), total + bytes);
            }
            rig.carry_out(effect);
        }
        if rig.out.0.is_empty() && rig.node.deadline().is_some_and(|(at, _)| at <= rig.now.instant) {
            rig.step(Input::Deadline);
        }
    }
    assert!(total > 5_000_000, "{total} bytes");
    assert!(largest <= journal::checkpoint::CHUNK_BYTES + 200_000, "{largest} bytes at once");
}

#[test]
fn many_partitions_are_flushed_side_by_side_and_synced_together() {
    let mut rig = Rig::new();
    let at_once = rig.node.limits.partitions_at_once;
    let (flushed_at_once, synced_at_once) = (at_once / FLUSHED_PART, at_once / SYNCED_PART);
    rig.create("t", 20);
    let value = "v".repeat(2_000);
    for partition in 0..20 {
        let batch = records(rig.now.wall, &[&value]);
        rig.send("t", partition, 1, batch);
    }
    // More than half of what memory may hold: small ones are flushed too.
    assert!(rig.node.tails.bytes() > 33_000);
    rig.lines.clear();
    rig.hold_tasks = true;
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    let is_flush = |effect: &&Effect| matches!(effect, Effect::Disk(DiskOp::Task(_, Task::Flush { .. })));
    assert_eq!(rig.out.0.iter().filter(is_flush).count(), flushed_at_once, "a step has only so much time");
    rig.run();
    rig.pass(0);
    assert_eq!(rig.held_tasks.len(), 20, "none waits for another one: {:?}", rig.lines);
    assert!(rig.lines.iter().all(|line| !line.contains("sync")), "{:?}", rig.lines);

    rig.hold_tasks = false;
    rig.files.syncs.lock().expect("nobody panicked").clear();
    for done in std::mem::take(&mut rig.held_tasks) {
        rig.step(Input::Disk(done));
    }
    rig.run();
    rig.pass(0);
    let counts =
        rig.lines.iter().filter_map(|line| line.split_once(": sync ")?.1.strip_suffix(" segments")?.parse().ok());
    let syncs: Vec<usize> = counts.collect();
    assert_eq!(syncs, [synced_at_once, 20 - synced_at_once], "{:?}", rig.lines);
    let syncs = rig.files.syncs.lock().expect("nobody panicked").clone();
    let of_segments = syncs.iter().filter(|(file, _)| matches!(file, FileName::Segment(_) | FileName::Index(_)));
    let parts: Vec<Sync> = of_segments.map(|&(_, part)| part).collect();
    let (first, second) = (2 * synced_at_once, 40 - 2 * synced_at_once);
    let expect = [(Sync::Begun, 40), (Sync::Done, first), (Sync::Begun, second), (Sync::Done, second)];
    let expect: Vec<Sync> = expect.into_iter().flat_map(|(part, count)| vec![part; count]).collect();
    assert_eq!(parts, expect, "all are on their way before the first is waited for");
    assert_eq!(rig.node.counters().checkpoints, 1);
    let log = |rig: &mut Rig, slot: u32| rig.node.host(slot).partition.log().is_dirty();
    assert!(!(0..20).any(|slot| log(&mut rig, slot)));
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0), [value]);
}

#[test]
fn partitions_that_come_amid_others_push_none_out_of_a_checkpoint() {
    let mut rig = Rig::new();
    let count = i32::try_from(rig.node.limits.partitions_at_once).expect("some tens");
    rig.create("t", count);
    for partition in 0..count {
        let batch = records(rig.now.wall, &["v"]);
        rig.send("t", partition, 1, batch);
    }
    // Everything is flushed, and the checkpoint waits for that.
    rig.node.limits.tail_cache_bytes = 1;
    rig.hold_tasks = true;
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    rig.run();
    rig.pass(0);
    let last = *rig.node.by_id.keys().next_back().expect("a partition");
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        rig.create(name, 3);
    }
    let before = rig.node.by_id.keys().filter(|&&id| id.topic < last.topic).count();
    assert!(before > 0 && before < 24, "by chance some come before it and some behind");
    assert_eq!(rig.node.counters().checkpoints, 0);
    rig.hold_tasks = false;
    for done in std::mem::take(&mut rig.held_tasks) {
        rig.step(Input::Disk(done));
    }
    rig.run();
    rig.pass(0);
    assert!(rig.node.counters().checkpoints > 0);
    let mut rig = rig.crash();
    for (id, slot) in rig.node.by_id.clone() {
        let expect = i64::from(id.topic == last.topic);
        assert_eq!(rig.node.host(slot).partition.log().end(), Offset(expect), "{id}");
    }
}
