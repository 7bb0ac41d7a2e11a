//! What the disk does, and when; how time passes until all has come to rest.

use super::*;
use crate::boundary::write_direct;

impl World {
    /// Carries out one thing that the disk was asked for.
    pub(super) fn work(&mut self) {
        match self.below(4) {
            0 => self.commit(),
            3 => self.compact(),
            _ if !self.questions.is_empty() => {
                let at = self.below(self.questions.len());
                let (id, question) = self.questions.swap_remove(at);
                self.step(Input::Disk(Done::Finding(id, Box::new(question.answer()))));
            }
            1 => {
                if let Some((id, task)) = self.tasks.pop_front() {
                    let result = task.run(&self.files);
                    self.step(Input::Disk(Done::Task(id, result)));
                }
            }
            _ => {
                if !self.reads.is_empty() {
                    let at = self.below(self.reads.len());
                    let (id, plan) = self.reads.swap_remove(at);
                    let result = plan.run(&self.files);
                    self.step(Input::Disk(Done::Read(id, result)));
                }
            }
        }
    }

    pub(super) fn compact(&mut self) {
        if let Some(mut pass) = self.pass.take() {
            let result = pass.step(&self.files);
            self.step(Input::Disk(Done::Compacted(pass, result)));
        }
    }

    pub(super) fn commit(&mut self) {
        if let Some((commit, direct)) = self.commits.pop_front() {
            let done = match self.write(&commit, &direct) {
                true => Done::Commit(commit.number, Ok(())),
                false => Done::Written(commit.number),
            };
            self.step(Input::Disk(done));
        }
    }

    /// Writes a commit, and syncs it where that is asked for. Returns whether it was.
    pub(super) fn write(&mut self, commit: &journal::Commit, direct: &[DirectWrite]) -> bool {
        write_direct(&self.files, direct).expect("memory has room");
        let data = std::slice::from_ref(&commit.data);
        self.files.write_at(FileName::Journal(commit.slot), commit.position, data).expect("memory has room");
        self.unsynced.insert(commit.slot);
        let is_synced = commit.must_sync || !self.is_os;
        if is_synced {
            for slot in std::mem::take(&mut self.unsynced) {
                self.files.sync(FileName::Journal(slot)).expect("the file was written");
            }
        }
        is_synced
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let ms = 1 + self.draw.below(ms);
        self.now.instant = Instant(self.now.instant.0 + ms * 1_000_000);
        self.now.wall = Timestamp(self.now.wall.0 + i64::try_from(ms).expect("small"));
        if self.node.deadline().is_some_and(|(at, _)| at <= self.now.instant) {
            self.step(Input::Deadline);
        }
    }

    /// Lets everything finish that can, over some seconds. The node then rests.
    pub(super) fn settle(&mut self) {
        let mut busy = 0;
        for _ in 0..60 {
            loop {
                self.turn();
                let is_due = self.node.deadline().is_some_and(|(at, _)| at <= self.now.instant);
                let is_idle = self.commits.is_empty() && self.tasks.is_empty() && self.reads.is_empty();
                if is_idle && self.questions.is_empty() && self.pass.is_none() && !is_due {
                    break;
                }
                busy += 1;
                assert!(busy < 20_000, "seed {}: the node does not come to rest", self.seed);
                for kind in 0..3 {
                    match kind {
                        0 => self.commit(),
                        _ => self.work(),
                    }
                }
                if is_due {
                    self.step(Input::Deadline);
                }
            }
            if self.is_stopped {
                return;
            }
            self.pass(100);
        }
    }
}
