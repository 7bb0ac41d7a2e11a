//! The disk work of a broker: how long it takes, and how far it gets when its process dies.

use chronik_core::boundary::{Committer, DirectWrite, DiskOp, Done, QuestionId, ReadId, Task, TaskId};
use chronik_core::compact::Pass;
use chronik_core::group::Question;
use chronik_core::journal::Commit;
use chronik_core::log::ReadPlan;

use super::chance::{CRASH, Chance, DISK};
use crate::disk::SimDisk;
use crate::plan::NodePlan;

/// A disk writes or reads a byte in a nanosecond or so.
const BYTES_PER_NANO: u64 = 1;

/// A commit that is not synced takes so long, in nanoseconds.
const WRITE_NANOS: u64 = 10_000;

/// Disk work that has begun.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Commit, Vec<DirectWrite>),
    Task(TaskId, Task),
    Read(ReadId, ReadPlan),
    Question(QuestionId, Box<Question>),
    Compact(Box<Pass>),
}

impl Work {
    /// How long it takes where nothing is wrong, in nanoseconds; `number` says which work of the run it is.
    pub(super) fn nanos(&self, node: &NodePlan, chance: Chance, number: u64) -> u64 {
        let chance = chance.keyed(DISK).keyed(number);
        let sync = |key| chance.keyed(key).between(node.sync_us_min * 1000, node.sync_us_max * 1000);
        match self {
            Work::Commit(commit, direct) => {
                let bytes =
                    commit.data.len() + direct.iter().flat_map(|write| &write.pieces).map(|p| p.len()).sum::<usize>();
                let is_synced = commit.must_sync || !node.trusts_os;
                let syncs = if is_synced { sync(0) + if direct.is_empty() { 0 } else { sync(1) } } else { WRITE_NANOS };
                syncs + bytes as u64 / BYTES_PER_NANO
            }
            Work::Read(_, _) => sync(2),
            Work::Question(..) => chance.keyed(6).between(WRITE_NANOS, 2_000 * WRITE_NANOS),
            // A step may read, write and sync.
            Work::Compact(_) => sync(4) + sync(5),
            Work::Task(_, Task::ExtendJournal { bytes, .. }) => sync(3) + bytes / BYTES_PER_NANO,
            Work::Task(_, Task::Sync { segments, .. }) => {
                (1..=segments.len() as u64 * 2).map(|key| sync(key + 3)).sum()
            }
            Work::Task(_, Task::Checkpoint { last: true, .. }) => sync(3),
            Work::Task(..) => WRITE_NANOS,
        }
    }

    /// Carries it out.
    pub(super) fn execute(self, committer: &mut Committer, disk: &SimDisk) -> Done {
        match self {
            Work::Commit(commit, direct) => committer.carry_out(disk, commit, &direct),
            Work::Task(id, task) => Done::Task(id, task.run(disk)),
            Work::Read(id, plan) => Done::Read(id, plan.run(disk)),
            Work::Question(id, question) => Done::Finding(id, Box::new(question.answer())),
            Work::Compact(mut pass) => {
                let result = pass.step(disk);
                Done::Compacted(pass, result)
            }
        }
    }

    /// One line about it.
    pub(super) fn describe(&self) -> String {
        match self {
            Work::Commit(commit, direct) => format!(
                "commit {} at {} of journal {}: {} bytes, {} bodies",
                commit.number,
                commit.position,
                commit.slot,
                commit.data.len(),
                direct.len()
            ),
            Work::Read(id, _) => format!("read {}", id.0),
            Work::Question(id, _) => format!("question {}", id.0),
            Work::Compact(pass) => format!("a step of the compaction of {}", pass.partition()),
            Work::Task(id, task) => {
                let what = match task {
                    Task::ExtendJournal { slot, bytes } => format!("journal {slot} of {bytes} bytes"),
                    Task::Allocate { segment, position, bytes } => {
                        format!("allocate {bytes} at {position} of {}", segment.base.0)
                    }
                    Task::Flush { segment, runs, .. } => {
                        format!("flush {} runs to segment {}", runs.len(), segment.base.0)
                    }
                    Task::Sync { segments, .. } => format!("sync {} segments", segments.len()),
                    Task::Checkpoint { slot, position, last, .. } => {
                        format!("checkpoint {slot} at {position}{}", if *last { ", its last part" } else { "" })
                    }
                    Task::RemoveSegments(segments) => format!("remove {} segments", segments.len()),
                    Task::RemovePartition(partition) => format!("remove {partition}"),
                    Task::Trim { segment, bytes } => format!("trim segment {} to {bytes} bytes", segment.base.0),
                };
                format!("task {}: {what}", id.0)
            }
        }
    }
}

impl From<DiskOp> for Work {
    fn from(op: DiskOp) -> Work {
        match op {
            DiskOp::Commit(commit, direct) => Work::Commit(commit, direct),
            DiskOp::Task(id, task) => Work::Task(id, task),
            DiskOp::Read(id, plan) => Work::Read(id, plan),
            DiskOp::Question(id, question) => Work::Question(id, question),
            DiskOp::Compact(pass) => Work::Compact(pass),
        }
    }
}

/// How many changes of files the work of this number still makes when its process dies in its middle.
pub(super) fn changes_before_death(chance: Chance, number: u64) -> u64 {
    let chance = chance.keyed(CRASH).keyed(number);
    // Half of them are nearly done, or have nearly begun: where the interesting moments are.
    if chance.below(2) == 0 { chance.keyed(1).below(4) } else { chance.keyed(2).below(24) }
}
