//! How long the node's sequencer is held up by one request: `Node::step` alone, with files in memory.
//!
//! `cargo bench --package chronik-bench --bench steps` prints, for each kind of request at its largest, the longest of the
//! steps that it takes, how many those are, and their sum, in processor time: medians of several runs. No step is to take more than about
//! 100 µs on a machine of its own, since everybody else waits for it.

mod cluster;
mod files;
mod groups;
mod requests;

use std::time::Duration;

use chronik_core::boundary::{DiskOp, Done, Effect, Files, Input, Outbox, ReplyTo, Request, is_told_when_sent};
use chronik_core::config::BrokerConfig;
use chronik_core::ids::{ConnId, ListenerId, NodeId, Uuid};
use chronik_core::journal::Geometry;
use chronik_core::limits::Limits;
use chronik_core::node::{Node, NodeOptions};
use chronik_core::time::{self, Now, Timestamp};
use chronik_core::wire::{self, Response};

use files::Memory;
use rustix::time::{ClockId, clock_gettime};

/// The one that the broker has: another may tidy up in the middle of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often each request is asked; the median counts.
const RUNS: usize = 9;

/// A node that is driven by hand.
pub(crate) struct Driver {
    node: Node,
    files: Memory,
    now: Now,
    asked: u64,
    /// Those that came since they were looked at last.
    answers: Vec<Response>,
    /// The fetch session that was told last.
    pub(crate) session: i32,
    /// The steps since they were taken last.
    steps: Vec<Duration>,
    seed: u8,
}

impl Driver {
    fn new() -> Driver {
        Driver::on(Memory::default(), 7)
    }

    fn on(files: Memory, seed: u8) -> Driver {
        let now = Now { instant: time::Instant::default(), wall: Timestamp(1_700_000_000_000) };
        let (node, _) = Node::recover(node_options(), &files, [seed; 32], now).expect("sound files, or none");
        let mut driver =
            Driver { node, files, now, asked: 0, answers: Vec::new(), session: 0, steps: Vec::new(), seed };
        driver.run(Outbox::default());
        driver
    }

    /// Asks from a connection, and drives the node until it has nothing more to do at once.
    pub(crate) fn ask(&mut self, conn: u64, version: i16, request: impl Into<wire::Request>) {
        self.input(conn, version, Request::Other(Box::new(request.into())));
    }

    pub(crate) fn input(&mut self, conn: u64, version: i16, request: Request) {
        let to = ReplyTo { conn: ConnId(conn), sequence: self.asked, version, listener: ListenerId(0) };
        self.asked += 1;
        let mut out = Outbox::default();
        self.step(Input::Request { to, request }, &mut out);
        self.run(out);
    }

    pub(crate) fn close(&mut self, conn: u64) {
        let mut out = Outbox::default();
        self.step(Input::Closed { conn: ConnId(conn) }, &mut out);
        self.run(out);
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.instant + time;
        while let Some((at, _)) = self.node.deadline().filter(|&(at, _)| at <= until) {
            self.now.instant = at.max(self.now.instant);
            self.run(Outbox::default());
        }
        self.now.instant = until;
    }

    /// The process ends at once, and another begins on the same files.
    pub(crate) fn restart(&mut self) {
        let files = std::mem::take(&mut self.files);
        // Every start draws what tells its journal from the one before.
        *self = Driver::on(files, self.seed + 1);
    }

    /// A scrape of the metrics.
    pub(crate) fn scrape(&mut self) {
        let begun = cpu_time();
        let text = self.node.metrics();
        self.node.survey_groups(self.now);
        self.steps.push(cpu_time() - begun);
        assert!(!text.is_empty());
        self.pass(Duration::from_millis(1));
    }

    /// Has the node write its last checkpoint.
    pub(crate) fn stop(&mut self) {
        let mut out = Outbox::default();
        self.step(Input::Stop, &mut out);
        self.run(out);
    }

    fn step(&mut self, input: Input, out: &mut Outbox) {
        let begun = cpu_time();
        self.node.step(self.now, input, out);
        self.steps.push(cpu_time() - begun);
    }

    fn run(&mut self, mut out: Outbox) {
        loop {
            self.node.turn(self.now, &mut out);
            let effects = std::mem::take(&mut out.0);
            let is_due = self.node.deadline().is_some_and(|(at, _)| at <= self.now.instant);
            if effects.is_empty() && !is_due {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Disk(op) => {
                        let done = carry_out(&self.files, op);
                        self.step(Input::Disk(done), &mut out);
                    }
                    Effect::Reply { to, response } => {
                        if response.as_ref().is_some_and(is_told_when_sent) {
                            self.step(Input::Sent { conn: to.conn, sequence: to.sequence }, &mut out);
                        }
                        if let Some(Response::Fetch(response)) = &response {
                            self.session = response.session_id;
                        }
                        self.answers.extend(response);
                    }
                    Effect::Fatal(why) => panic!("{why}"),
                    _ => {}
                }
            }
            if is_due {
                self.step(Input::Deadline, &mut out);
            }
        }
    }

    /// Measures what `work` does, each time after what `prepare` does.
    fn measure(&mut self, what: &str, prepare: impl FnMut(&mut Driver, usize), work: impl Fn(&mut Driver, usize)) {
        self.measure_often(RUNS, what, prepare, work);
    }

    fn measure_often(
        &mut self,
        often: usize,
        what: &str,
        mut prepare: impl FnMut(&mut Driver, usize),
        work: impl Fn(&mut Driver, usize),
    ) {
        let mut runs = Vec::new();
        for run in 0..often {
            prepare(self, run);
            self.steps.clear();
            work(self, run);
            let longest = self.steps.iter().max().copied().unwrap_or_default();
            runs.push((longest, self.steps.len(), self.steps.iter().sum::<Duration>()));
        }
        print(what, &mut runs);
    }
}

/// A node that stands alone.
pub(crate) fn node_options() -> NodeOptions {
    NodeOptions {
        node_id: NodeId(1),
        directory_id: Uuid([3; 16]),
        cluster_id: "measured".into(),
        data_dir: "/data".into(),
        listeners: vec![("PLAINTEXT".into(), "localhost".into(), 9092)],
        broker: BrokerConfig::default(),
        limits: Limits::default(),
        journal: Geometry::default(),
        direct_from: u64::MAX,
        cluster: None,
    }
}

/// Does what the node asks of its disk.
pub(crate) fn carry_out(files: &Memory, op: DiskOp) -> Done {
    match op {
        DiskOp::Commit(commit, direct) => {
            chronik_core::boundary::write_direct(files, &direct).expect("memory has room");
            let file = chronik_core::boundary::FileName::Journal(commit.slot);
            files.write_at(file, commit.position, &[commit.data]).expect("memory has room");
            Done::Commit(commit.number, Ok(()))
        }
        DiskOp::Read(id, plan) => Done::Read(id, plan.run(files)),
        DiskOp::Task(id, task) => Done::Task(id, task.run(files)),
        DiskOp::Question(id, question) => Done::Finding(id, Box::new(question.answer())),
        DiskOp::Compact(mut pass) => {
            let result = pass.step(files);
            Done::Compacted(pass, result)
        }
    }
}

/// The median of several runs: the longest step of each, how many they were, and their sum.
pub(crate) fn print(what: &str, runs: &mut [(Duration, usize, Duration)]) {
    runs.sort_unstable();
    let (longest, steps, all) = runs[runs.len() / 2];
    let us = |time: Duration| time.as_nanos() / 1000;
    println!("{what:<72} {:>10} {steps:>8} {:>10}", us(longest), us(all));
}

/// What this thread has used of a processor: what others do on the machine counts for little.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |part: i64| u64::try_from(part).expect("a clock that counts from 0");
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

fn main() {
    // As cargo asks of a test's binary, which this is as well: nothing is to be listed or tested.
    if std::env::args().any(|arg| arg == "--list" || arg == "--test") {
        return;
    }
    println!("{:<72} {:>10} {:>8} {:>10}", "", "longest µs", "steps", "all µs");
    // A part by its name, or all of them.
    let parts: [(&str, fn()); 3] = [
        ("groups", || groups::measure_all(&mut Driver::new())),
        ("requests", || requests::measure_all(&mut Driver::new())),
        ("cluster", cluster::measure_all),
    ];
    let asked: Vec<String> = std::env::args().collect();
    let is_asked = |name: &str| asked.iter().any(|arg| arg == name);
    let all = !parts.iter().any(|(name, _)| is_asked(name));
    parts.iter().filter(|(name, _)| all || is_asked(name)).for_each(|(_, measure)| measure());
}
