//! A whole node against a model of what its clients know: random requests, a disk that takes its time and runs full,
//! crashes at any change of a file, and power cuts that keep any part of what was not synced.
//!
//! Claims: what was acknowledged or read is there, once, in order, in the partition that it was sent to, whatever
//! happens in between; of a compacting topic, the newest value of each key and everything from the last compacted segment
//! on; whatever is asked is answered once the disk works; the node rests when nothing is asked.
//! A failure names its seed. Each step draws from a key of its own, so that leaving a step out does not change others.

mod answers;
mod clients;
mod crashes;
mod disk;
mod groups;
mod reckoning;

use std::collections::BTreeSet;

use super::*;
use crate::boundary::{DirectWrite, Task, is_told_when_sent};
use crate::rng::Rng;
use crate::testing::LossyFiles;

const NAMES: [&str; 4] = ["a", "b", "shrinking", "compacting"];
/// How many keys there are.
const KEYS: u64 = 4;
const PARTITIONS: i32 = 2;
const STEPS: u64 = 1_500;
/// What one producer may have in flight, which is what a partition remembers of it.
const IN_FLIGHT_MAX: usize = 5;

/// What the clients know of a partition.
#[derive(Debug, Default)]
struct Known {
    /// What was acknowledged or read, by offset.
    values: BTreeMap<i64, String>,
    sent: BTreeSet<String>,
    /// The log start lies at or above the first, which somebody was told, and at or below the second, which somebody
    /// asked for.
    start: (i64, i64),
    plain_sent: u64,
    producer: Producer,
}

/// An idempotent producer of one partition: sends in order, and sends again what was not acknowledged.
#[derive(Debug, Default)]
struct Producer {
    id: i64,
    next: i32,
    unacked: VecDeque<Unacked>,
}

#[derive(Clone, Debug)]
struct Unacked {
    first: i32,
    values: Vec<String>,
    /// The request that carries it; `None` where that one failed or its connection was lost.
    request: Option<u64>,
}

/// A request that is not answered.
#[derive(Debug)]
enum Asked {
    Plain(TopicPartition, Vec<String>),
    Idempotent(TopicPartition),
    Fetch(Vec<(TopicPartition, i64)>),
    Create(&'static str),
    Delete(&'static str, TopicId),
    DeleteRecords(TopicPartition),
    Commit(&'static str, i64),
    /// A group's offset, and what was known of it before.
    Offset(&'static str, i64),
    Other,
}

impl Asked {
    /// The connection that it is sent by: for what a producer sends always the same one.
    fn conn(&self, sequence: u64) -> ConnId {
        ConnId(match self {
            Asked::Plain(id, _) | Asked::Idempotent(id) => u64::from(id.topic.0[0]) % 3,
            _ => sequence % 3,
        })
    }
}

struct World {
    seed: u64,
    /// Whether appends are acknowledged once the operating system has them.
    is_os: bool,
    draw: Rng,
    files: LossyFiles,
    node: Node,
    now: Now,
    out: Outbox,
    commits: VecDeque<(journal::Commit, Vec<DirectWrite>)>,
    tasks: VecDeque<(TaskId, Task)>,
    reads: Vec<(ReadId, crate::log::ReadPlan)>,
    questions: Vec<(crate::boundary::QuestionId, Box<crate::group::Question>)>,
    /// The compaction whose next step the disk has not taken.
    pass: Option<Box<crate::compact::Pass>>,
    unsynced: BTreeSet<u32>,
    asked: BTreeMap<u64, Asked>,
    /// Requests whose connection was lost.
    lost: BTreeSet<u64>,
    requests: u64,
    starts: u8,
    /// Answers that their connections have not sent.
    unsent: Vec<(ConnId, u64)>,
    /// What the last fetch brought, and up to where.
    served: Vec<(i64, String)>,
    reached: i64,
    /// Records that compaction removed before the last crash.
    compacted: u64,
    is_stopped: bool,
    was_full: bool,
    topics: BTreeMap<&'static str, TopicId>,
    known: BTreeMap<TopicPartition, Known>,
    groups: BTreeMap<&'static str, groups::Progress>,
    producers: i64,
}

fn settings(is_os: bool) -> NodeOptions {
    let options = options(&[
        ("log.retention.check.interval.ms", "1000"),
        ("auto.create.topics.enable", "false"),
        ("log.cleaner.backoff.ms", "300"),
        ("offsets.topic.num.partitions", "2"),
    ]);
    // Everything is looked at all the time.
    let limits = Limits { scrub_period: Duration::from_secs(3), scrub_bytes_per_second_max: 1 << 30, ..options.limits };
    NodeOptions { direct_from: if is_os { u64::MAX } else { options.direct_from }, limits, ..options }
}

impl World {
    fn new(seed: u64) -> World {
        let now = Now { instant: Instant(0), wall: Timestamp(1_700_000_000_000) };
        let files = LossyFiles::default();
        let is_os = seed % 4 == 3;
        let (node, _) = Node::recover(settings(is_os), &files, [1; 32], now).expect("an empty folder");
        World {
            seed,
            is_os,
            draw: Rng::from_number(seed),
            files,
            node,
            now,
            out: Outbox::default(),
            commits: VecDeque::new(),
            tasks: VecDeque::new(),
            reads: Vec::new(),
            questions: Vec::new(),
            pass: None,
            unsynced: BTreeSet::new(),
            asked: BTreeMap::new(),
            lost: BTreeSet::new(),
            requests: 0,
            starts: 1,
            served: Vec::new(),
            reached: 0,
            unsent: Vec::new(),
            compacted: 0,
            is_stopped: false,
            was_full: false,
            topics: BTreeMap::new(),
            known: BTreeMap::new(),
            groups: BTreeMap::new(),
            producers: 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw.below(end as u64)).expect("small")
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn step(&mut self, input: Input) {
        self.node.step(self.now, input, &mut self.out);
        self.node.invariants();
        self.take_effects();
    }

    /// The clients take what was answered.
    fn send(&mut self) {
        for (conn, sequence) in std::mem::take(&mut self.unsent) {
            self.step(Input::Sent { conn, sequence });
        }
    }

    fn turn(&mut self) {
        self.send();
        self.node.turn(self.now, &mut self.out);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        for effect in std::mem::take(&mut self.out.0) {
            match effect {
                Effect::Reply { to, response } => {
                    if response.as_ref().is_some_and(is_told_when_sent) {
                        self.unsent.push((to.conn, to.sequence));
                    }
                    if !self.lost.remove(&to.sequence) {
                        let asked = self.asked.remove(&to.sequence).expect("one answer for each request");
                        self.answered(to.sequence, asked, response);
                    }
                }
                Effect::Disk(DiskOp::Commit(commit, direct)) => self.commits.push_back((commit, direct)),
                Effect::Disk(DiskOp::Task(id, task)) => self.tasks.push_back((id, task)),
                Effect::Disk(DiskOp::Read(id, plan)) => self.reads.push((id, plan)),
                Effect::Disk(DiskOp::Question(id, question)) => self.questions.push((id, question)),
                Effect::Disk(DiskOp::Compact(pass)) => {
                    assert!(self.pass.replace(pass).is_none(), "one compaction is under way at a time");
                }
                Effect::Stopped => self.is_stopped = true,
                Effect::Fatal(why) => panic!("the disk never failed: {why}"),
                Effect::Cut { .. } => panic!("nobody leaves answers unread"),
                Effect::Neighbours(_) | Effect::Say { .. } => panic!("a standalone broker has no peers"),
                Effect::Log(_) | Effect::Close { .. } | Effect::TopicCodecs(_) | Effect::AllowConnections { .. } => {}
            }
        }
        assert!(self.commits.len() <= 1, "one commit is in flight at a time");
    }

    fn ask(&mut self, version: i16, request: Request, asked: Asked) -> u64 {
        let sequence = self.requests;
        self.requests += 1;
        let conn = asked.conn(sequence);
        self.asked.insert(sequence, asked);
        let to = ReplyTo { conn, sequence, version, listener: ListenerId(0) };
        self.step(Input::Request { to, request });
        sequence
    }
}

/// The key that a value is stored under: its number, which is its third part, by how many keys there are.
fn key_of(value: &str) -> u64 {
    let number = value.split('/').nth(2).and_then(|number| number.parse::<u64>().ok());
    number.expect("a value has a number") % KEYS
}

fn is(code: i16, error: ErrorCode) -> bool {
    code == error.code()
}

/// Returns how many records were compacted away.
fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let root = world.draw.clone();
    for step in 0..STEPS {
        world.draw = root.keyed(1, step);
        world.act();
    }
    world.files.set_full(false);
    world.settle();
    assert!(world.asked.is_empty(), "seed {seed}: these were never answered: {:?}", world.asked);
    world.check_all();
    world.check_groups();
    world.crash();
    world.settle();
    world.check_all();
    world.check_groups();
    world.compacted + world.node.counters().compaction_records_removed
}

/// The seeds to run, `CHRONIK_SEEDS=first..end` where one hunts.
#[expect(clippy::disallowed_methods, reason = "which seeds are run is for whoever hunts to say")]
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("CHRONIK_SEEDS").ok();
    let asked = asked.as_deref().and_then(|seeds| seeds.split_once(".."));
    asked.map_or(0..24, |(first, end)| first.parse().expect("a seed")..end.parse().expect("a seed"))
}

#[test]
fn what_was_acknowledged_is_there_once_and_in_order_whatever_happens() {
    let mut compacted = 0;
    let mut failed: Vec<u64> = Vec::new();
    for seed in seeds() {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(records) => compacted += records,
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "run with CHRONIK_SEEDS=N..M; these seeds failed: {failed:?}");
    assert!(compacted > 10 * (seeds().end - seeds().start), "only {compacted} records were ever compacted away");
}
