//! The disk's work on threads.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use chronik_core::boundary::{DiskOp, Done, Files, QuestionId, ReadId, Task, TaskId, Volume};
use chronik_core::compact::Pass;
use chronik_core::group::Question;
use chronik_core::log::ReadPlan;
use rustix::fs::statvfs;

use super::commits::Commits;
use super::{Disk, Reporter};
use crate::cli::options::{CommitThread, Durability};

/// How many reads are carried out at once: enough to keep a disk's queue filled, and for a slow read not to hold up
/// the others.
const READERS: usize = 4;

/// Carries out work on the threads that it starts. They end when it is dropped and what they had begun is done.
pub struct Threads {
    root: PathBuf,
    commits: Commits,
    tasks: Sender<(TaskId, Task)>,
    compactions: Sender<Box<Pass>>,
    questions: Sender<(QuestionId, Box<Question>)>,
    reads: Arc<Reads>,
}

/// Reads that wait for a thread.
#[derive(Debug, Default)]
struct Reads {
    queue: Mutex<ReadQueue>,
    added: Condvar,
}

#[derive(Debug, Default)]
struct ReadQueue {
    waiting: VecDeque<(ReadId, ReadPlan)>,
    is_closed: bool,
}

impl Threads {
    /// Starts the threads. `report` is called on them. `files` lie below `root`.
    pub(crate) fn start(
        files: Arc<dyn Files>,
        root: PathBuf,
        commit: CommitThread,
        durability: Durability,
        report: Reporter,
    ) -> io::Result<Threads> {
        let commits = Commits::start(commit, durability, files.clone(), report.clone())?;
        let (tasks, waiting): (Sender<(TaskId, Task)>, Receiver<_>) = channel();
        start_thread("background", {
            let (files, report) = (files.clone(), report.clone());
            move || waiting.iter().for_each(|(id, task)| report(Done::Task(id, task.run(&*files))))
        })?;
        // Its own thread, so that no client's regular expression holds up what needs the disk.
        let (questions, waiting): (Sender<(QuestionId, Box<Question>)>, Receiver<_>) = channel();
        start_thread("questions", {
            let report = report.clone();
            move || waiting.iter().for_each(|(id, question)| report(Done::Finding(id, Box::new(question.answer()))))
        })?;
        let (compactions, waiting): (Sender<Box<Pass>>, Receiver<_>) = channel();
        start_thread("compact", {
            let (files, report) = (files.clone(), report.clone());
            move || {
                waiting.iter().for_each(|mut pass| {
                    let result = pass.step(&*files);
                    report(Done::Compacted(pass, result));
                });
            }
        })?;
        let reads = Arc::new(Reads::default());
        for _ in 0..READERS {
            let (reads, files, report) = (reads.clone(), files.clone(), report.clone());
            start_thread("read", move || {
                while let Some((id, plan)) = reads.next() {
                    report(Done::Read(id, plan.run(&*files)));
                }
            })?;
        }
        Ok(Threads { root, commits, tasks, compactions, questions, reads })
    }
}

impl Disk for Threads {
    fn begin(&mut self, op: DiskOp) -> Option<Done> {
        match op {
            DiskOp::Commit(commit, direct) => return self.commits.begin(commit, direct),
            DiskOp::Task(id, task) => {
                self.tasks.send((id, task)).expect("the background thread runs as long as this value");
            }
            DiskOp::Read(id, plan) => self.reads.add(id, plan),
            DiskOp::Question(id, question) => {
                self.questions.send((id, question)).expect("the questions' thread runs as long as this value");
            }
            DiskOp::Compact(pass) => {
                self.compactions.send(pass).expect("the compaction thread runs as long as this value");
            }
        }
        None
    }

    fn volume(&self) -> Option<Volume> {
        let found = statvfs(&self.root).ok()?;
        Some(Volume {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            // Not `f_bfree`: a part of that may be kept for the superuser.
            usable_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.reads.queue.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.reads.added.notify_all();
    }
}

impl Reads {
    fn add(&self, id: ReadId, plan: ReadPlan) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.push_back((id, plan));
        self.added.notify_one();
    }

    /// The next read, as soon as there is one; `None` when there will be no more.
    fn next(&self) -> Option<(ReadId, ReadPlan)> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queue = self
            .added
            .wait_while(queue, |queue| queue.waiting.is_empty() && !queue.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.waiting.pop_front()
    }
}

pub(super) fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
