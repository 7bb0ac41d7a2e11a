//! The shell's disk on the simulated one: what a thread does in production takes its time here.
//!
//! An inline commit is done at once, and then the process stands still for as long as it would have taken. Other work
//! is under way until its time has come, so that a death of the process interrupts it.

use std::sync::Arc;

use chronik_core::boundary::{DiskOp, Done, Volume};
use chronik_core::time::Instant;
use chronik_server::server::{Disk as Port, Reporter};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::world::{Said, World, lock};
use crate::engine::chance::mix;
use crate::engine::work::{self, Work};

/// The disk of one process.
pub(super) struct Disk {
    world: Arc<World>,
    machine: usize,
    report: Reporter,
    /// To the background thread: work by its number, and how long it takes.
    tasks: UnboundedSender<(u64, u64)>,
}

impl Disk {
    pub(super) fn new(world: Arc<World>, machine: usize, report: Reporter) -> Disk {
        let (tasks, waiting) = unbounded_channel();
        tokio::spawn(background(world.clone(), machine, report.clone(), waiting));
        Disk { world, machine, report, tasks }
    }
}

impl Port for Disk {
    fn begin(&mut self, op: DiskOp) -> Option<Done> {
        let machine = self.machine;
        let plan = &self.world.machines[machine].plan;
        let is_inline = matches!(&op, DiskOp::Commit(commit, _) if !plan.is_on_thread(commit.number));
        let is_task = matches!(op, DiskOp::Task(..));
        let (number, nanos) = self.world.begin_work(machine, Work::from(op));
        if is_inline {
            let done = self.world.end_work(machine, number);
            self.world.stand_still(machine, nanos);
            return done;
        }
        if is_task {
            self.tasks.send((number, nanos)).expect("the background task runs as long as the process");
        } else {
            let (world, report) = (self.world.clone(), self.report.clone());
            tokio::spawn(async move {
                world.disk_time(machine, nanos).await;
                world.end_work(machine, number).into_iter().for_each(|done| report(done));
            });
        }
        None
    }

    fn volume(&self) -> Option<Volume> {
        None
    }
}

/// The background thread: one task after another.
async fn background(world: Arc<World>, machine: usize, report: Reporter, mut waiting: UnboundedReceiver<(u64, u64)>) {
    while let Some((number, nanos)) = waiting.recv().await {
        world.disk_time(machine, nanos).await;
        world.end_work(machine, number).into_iter().for_each(|done| report(done));
    }
}

impl World {
    /// Notes that work has begun. Returns its number, and how long it takes in nanoseconds.
    fn begin_work(&self, machine: usize, work: Work) -> (u64, u64) {
        let at = &self.machines[machine];
        let mut works = lock(&at.works);
        works.begun += 1;
        let number = works.begun;
        let nanos = work.nanos(&at.plan, at.chance, number) * lock(&at.troubles).disk_factor;
        self.event(mix(number ^ (machine as u64) << 48), at.disk_lane(), || work.describe());
        works.under_way.insert(number, work);
        (number, nanos)
    }

    /// Carries out what has begun, unless its process died meanwhile.
    fn end_work(&self, machine: usize, number: u64) -> Option<Done> {
        let at = &self.machines[machine];
        let works = &mut *lock(&at.works);
        let work = works.under_way.remove(&number)?;
        self.trace(at.disk_lane(), || format!("is done: {}", work.describe()));
        Some(work.execute(&mut works.committer, &at.disk))
    }

    /// Waits for the disk, which may stall meanwhile.
    async fn disk_time(&self, machine: usize, nanos: u64) {
        let stalled_until = || lock(&self.machines[machine].troubles).disk_stalled_until;
        let from = self.now().max(stalled_until());
        self.until(Some(Instant(from.0 + nanos))).await;
        loop {
            let stalled_until = stalled_until();
            if stalled_until <= self.now() {
                return;
            }
            self.until(Some(stalled_until)).await;
        }
    }

    /// The process waits for its disk, and does nothing else meanwhile.
    fn stand_still(&self, machine: usize, nanos: u64) {
        let mut troubles = lock(&self.machines[machine].troubles);
        let until = Instant(self.now().max(troubles.disk_stalled_until).0 + nanos);
        troubles.paused_until = troubles.paused_until.max(until);
        drop(troubles);
        self.say(Said::StandsStill(machine));
    }

    /// The process dies: each piece of work gets so far as chance has it, in the order in which they were begun.
    pub(super) fn interrupt_works(&self, machine: usize) {
        let at = &self.machines[machine];
        let works = &mut *lock(&at.works);
        for (number, work) in std::mem::take(&mut works.under_way) {
            if matches!(work, Work::Read(..)) {
                continue;
            }
            if matches!(work, Work::Compact(_)) {
                self.count("crash_in_compaction");
            }
            at.disk.die_after(work::changes_before_death(at.chance, number));
            drop(work.execute(&mut works.committer, &at.disk));
            at.disk.revive();
            self.count("crash_in_disk_work");
        }
        // What the next process writes it must sync itself.
        works.committer = chronik_core::boundary::Committer::new(at.plan.trusts_os);
    }
}
