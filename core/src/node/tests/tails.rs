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
