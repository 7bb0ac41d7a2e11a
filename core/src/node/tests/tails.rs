//! How batches leave memory, and that nobody waits for it.

use super::*;
use crate::boundary::DiskOp;

const VALUE_BYTES: usize = 3_000;

#[test]
fn batches_beyond_the_budget_leave_memory_without_a_checkpoint() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let budget = 300 << 10;
    rig.node.limits.tail_cache_bytes = budget;
    let value = "v".repeat(VALUE_BYTES);
    let most = (0..200).map(|_| {
        rig.produce("t", &[&value]);
        rig.node.tails.bytes()
    });
    assert!(most.max() <= Some((budget + 2 * VALUE_BYTES) as u64), "what is over is let go of with the next commit");
    assert_eq!(rig.node.counters().checkpoints, 0);
    assert_eq!(rig.consume("t", 0).len(), 200);
    let mut rig = rig.crash();
    assert_eq!(rig.consume("t", 0).len(), 200);
}

#[test]
fn very_many_batches_leave_memory_some_at_a_time() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.node.limits.tail_cache_bytes = 256 << 10;
    (0..2_001).for_each(|_| _ = rig.produce("t", &["a record"]));
    let checkpoints = rig.node.counters().checkpoints;
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    rig.run();
    assert_eq!(rig.node.counters().checkpoints, checkpoints + 1, "all of them are safe in their segment");
    let before = rig.node.tails.bytes();
    rig.node.limits.tail_cache_bytes = 0;
    rig.step(Input::Deadline);
    let left = rig.node.tails.bytes();
    assert!(0 < left && left < before, "{left} of {before} bytes are left after one step");
    assert_eq!(rig.node.deadline(), Some((rig.now.instant, Reason::Continue)));
    rig.run();
    assert_eq!(rig.node.tails.bytes(), 0);
}

#[test]
fn answers_leave_before_what_their_commit_leaves_to_do() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    rig.node.limits.tail_cache_bytes = 1 << 20;
    rig.hold = true;
    let value = "v".repeat(VALUE_BYTES);
    let is_flush = |effect: &Effect| matches!(effect, Effect::Disk(DiskOp::Task(_, Task::Flush { .. })));
    loop {
        rig.send("t", 0, 1, records(Timestamp(5), &[&value]));
        let commit = rig.held.pop_front().expect("a commit of one batch");
        rig.commit(commit);
        assert!(matches!(rig.out.0[0], Effect::Reply { .. }), "{:?}", rig.out.0);
        assert!(!rig.out.0.iter().any(is_flush), "{:?}", rig.out.0);
        if rig.node.is_behind() {
            break;
        }
        rig.run();
    }
    assert_eq!(rig.node.deadline(), Some((rig.now.instant, Reason::Continue)));
    rig.step(Input::Deadline);
    assert!(rig.out.0.iter().any(is_flush), "{:?}", rig.out.0);
}

/// Has the log of the only partition take so many batches in one commit.
fn append(rig: &mut Rig, count: usize) {
    let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
    let batch = verify(records(rig.now.wall, &["v"]).build(), &limits).expect("a sound batch");
    let slot = *rig.node.by_id.values().next().expect("one partition");
    let partition = &mut rig.node.hosts[slot as usize].as_mut().expect("it is hosted").partition;
    for _ in 0..count {
        let (epoch, way) = (partition.epoch(), crate::log::Way::Journal);
        let (appended, _) = partition.log_mut().append(&batch, epoch, rig.now.wall, way, &mut rig.node.journal);
        partition.appended(appended.end, rig.now.instant, rig.node.replicas.peers());
    }
    rig.node.account_tail(slot);
    rig.node.woken.push_back((rig.node.journal.end(), Woken::Partition(slot)));
}

#[test]
fn a_log_that_goes_lets_go_of_its_memory_step_by_step() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    // Nothing is written behind, and so nothing leaves memory before.
    rig.hold_tasks = true;
    append(&mut rig, 4_000);
    let slot = *rig.node.by_id.values().next().expect("one partition");
    let id = *rig.node.by_id.keys().next().expect("one partition");
    assert!(rig.node.host(slot).partition.log().tail_bytes() > 4_000 * 60);
    rig.node.drop_partition(rig.now, id, &mut rig.out);
    assert!(rig.node.tails.released() > 3_500, "{}", rig.node.tails.released());
    assert_eq!(rig.node.tails.bytes(), 0);
    let mut left = rig.node.tails.released();
    for steps in 0.. {
        rig.node.let_go(rig.now);
        let now = rig.node.tails.released();
        assert!(left - now <= 1_300, "{} at once", left - now);
        if now == 0 {
            assert!(steps >= 2, "{steps} steps");
            break;
        }
        assert_eq!(rig.node.deadline(), Some((rig.now.instant, Reason::Continue)));
        left = now;
    }
}

#[test]
fn a_start_that_moves_on_lets_go_of_what_lies_below_step_by_step() {
    let mut rig = Rig::new();
    rig.create_with("t", 1, &[("internal.segment.bytes", "700")]);
    rig.hold_tasks = true;
    append(&mut rig, 4_000);
    let slot = *rig.node.by_id.values().next().expect("one partition");
    rig.run();
    let partition = &mut rig.node.hosts[slot as usize].as_mut().expect("it is hosted").partition;
    partition.log_mut().roll(&mut rig.node.journal);
    let end = partition.log().end();
    partition.log_mut().advance_start(end, &mut rig.node.journal);
    rig.node.woken.push_back((rig.node.journal.end(), Woken::Partition(slot)));
    rig.node.turn(rig.now, &mut rig.out);
    for effect in std::mem::take(&mut rig.out.0) {
        let Effect::Disk(DiskOp::Commit(commit, _)) = effect else { continue };
        let file = FileName::Journal(commit.slot);
        rig.files.write_at(file, commit.position, std::slice::from_ref(&commit.data)).expect("memory has room");
        rig.step(Input::Disk(Done::Commit(commit.number, Ok(()))));
    }
    assert_eq!(rig.node.host(slot).partition.log().start(), end);
    let left = rig.node.tails.released();
    assert!((2_000..4_000).contains(&left), "the first of them are gone, and {left} are left");
    rig.run();
    assert_eq!(rig.node.tails.released(), 0);
}

#[test]
fn retention_looks_at_few_partitions_at_once_where_they_remember_many_producers() {
    let mut rig = Rig::new();
    rig.create("t", 10);
    let hosted: Vec<(TopicPartition, u32)> = rig.node.by_id.iter().map(|(&id, &slot)| (id, slot)).collect();
    for &(_, slot) in &hosted {
        rig.node.host(slot).partition.log_mut().remember_producers(1_500);
    }
    for &(id, _) in &hosted[..9] {
        rig.node.retention(rig.now, &mut rig.out);
        assert_eq!(rig.node.retention_after, Some(id));
    }
    rig.node.retention(rig.now, &mut rig.out);
    assert_eq!(rig.node.retention_after, None);
}

#[test]
fn partitions_that_are_written_in_turn_let_go_of_some_batches_each() {
    let mut rig = Rig::new();
    rig.create("t", 4);
    let value = "v".repeat(1_000);
    for at in 0..200 {
        let batch = records(rig.now.wall, &[&value]);
        rig.send("t", at % 4, 1, batch);
    }
    let checkpoints = rig.node.counters().checkpoints;
    rig.node.checkpoint_soon();
    rig.step(Input::Deadline);
    rig.run();
    rig.pass(0);
    assert!(rig.node.counters().checkpoints > checkpoints, "all of them are safe in their segments");
    rig.node.limits.tail_cache_bytes = 20_000;
    rig.step(Input::Deadline);
    rig.run();
    let left = rig.node.tails.bytes();
    assert!((17_000..=20_000).contains(&left), "{left} bytes: as much as must, and no more");
    let slots: Vec<u32> = rig.node.by_id.values().copied().collect();
    let sum: usize = slots.into_iter().map(|slot| rig.node.host(slot).partition.log().tail_bytes()).sum();
    assert_eq!(sum as u64, left);
    assert_eq!(rig.consume("t", 0).len(), 50);
}
