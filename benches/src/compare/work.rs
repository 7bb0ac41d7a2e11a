//! The rows of the comparison: which work each is, and how a broker is given it.

use super::broker::Running;
use super::librdkafka;
use super::turn::Turn;
use crate::args::{Acks, CompareArgs, LoadArgs, Mode, Verify};
use crate::failure::Failure;
use crate::report::Report;
use crate::run;
use crate::verify::Verdict;
use std::time::Duration;

/// A row of the comparison: one kind of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) against: Against,
}

/// What the ratios of a row are taken against, which is the first in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// The null broker.
    Floor,
    /// The null broker that reads what it sends from a file.
    Reader,
    /// Chronik itself on one partition; the others in the row are of more.
    OnePartition,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Produce(Shape),
    /// As fast as it goes first, and then, which is what counts, at half of that, at even intervals: what a broker takes
    /// that is not saturated.
    HalfRate(Shape),
    /// Through librdkafka: 1,000 records of 256 bytes outstanding, which it batches, and acks=all.
    Librdkafka,
    /// In responses of 1 MiB, from the topic's start.
    Fetch(Source),
}

/// Where what is fetched lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// So little that a broker may still have it: read again and again.
    Memory,
    /// More than that: the same.
    PageCache,
    /// Nothing of the files is in memory; read once.
    Disk,
}

/// How records are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    connections: u32,
    batches_outstanding: u32,
    batch_records: u32,
    message_size: u32,
}

const MANY_CONNECTIONS: Shape =
    Shape { connections: 128, batches_outstanding: 128, batch_records: 1, message_size: 256 };
const ONE_CONNECTION: Shape = Shape { connections: 1, batches_outstanding: 128, batch_records: 1, message_size: 256 };
const SMALL_BATCHES: Shape = Shape { connections: 1, batches_outstanding: 5, batch_records: 64, message_size: 256 };
/// This also fills the topics that are read.
const LARGE_BATCHES: Shape = Shape { connections: 1, batches_outstanding: 5, batch_records: 1000, message_size: 1024 };

/// The work that a broker meets in practice, from many small requests to few large ones.
pub(super) const ROWS: [Row; 11] = [
    Row {
        name: "128 connections, 1 record outstanding each",
        kind: Kind::Produce(MANY_CONNECTIONS),
        against: Against::Floor,
    },
    Row { name: "1 connection, 128 records outstanding", kind: Kind::Produce(ONE_CONNECTION), against: Against::Floor },
    Row { name: "64-record batches, 5 outstanding", kind: Kind::Produce(SMALL_BATCHES), against: Against::Floor },
    Row { name: "1 MB batches, 5 outstanding", kind: Kind::Produce(LARGE_BATCHES), against: Against::Floor },
    Row {
        name: "half the maximum rate, 128 connections",
        kind: Kind::HalfRate(MANY_CONNECTIONS),
        against: Against::Floor,
    },
    Row { name: "librdkafka, linger 5 ms, acks=all", kind: Kind::Librdkafka, against: Against::Floor },
    Row { name: "fetch from memory", kind: Kind::Fetch(Source::Memory), against: Against::Floor },
    Row { name: "fetch from the page cache", kind: Kind::Fetch(Source::PageCache), against: Against::Reader },
    Row { name: "fetch from the disk", kind: Kind::Fetch(Source::Disk), against: Against::Reader },
    Row {
        name: "partitions: 128 connections, 1 record outstanding each",
        kind: Kind::Produce(MANY_CONNECTIONS),
        against: Against::OnePartition,
    },
    Row {
        name: "partitions: 1 connection, 128 records outstanding",
        kind: Kind::Produce(ONE_CONNECTION),
        against: Against::OnePartition,
    },
];

/// What is read from memory: half of what Chronik keeps of the newest batches.
const MEMORY_BYTES: u64 = 32 << 20;
/// What is read from files: so much that what a broker may have in memory of it is next to nothing.
pub(super) const FILE_BYTES: u64 = 2 << 30;
/// More bytes than any broker takes in a second here: a topic is filled in steps as long as this would need, so that it
/// hardly gets more than it should.
const FILLED_PER_S_MAX: f64 = 2e9;
const FILLED_FOR_MIN: Duration = Duration::from_millis(10);
/// More time than any broker takes to read that much.
const READ_FOR_MAX: Duration = Duration::from_secs(120);

/// What came of a turn.
pub(super) struct Outcome {
    pub(super) turn: Turn,
    /// What was acknowledged and is not there.
    pub(super) lost: Option<String>,
}

/// Gives a broker the work of a row on a topic, which is filled first where it is to be read, unless the broker makes its
/// records up. `base` is what the loads have in common; only what is measured is recorded as it says.
pub(super) fn perform(args: &CompareArgs, kind: Kind, base: &LoadArgs, broker: &Running) -> Result<Outcome, Failure> {
    match kind {
        Kind::Produce(shape) => run::run(&shape.load(base), false),
        Kind::HalfRate(shape) => {
            let load = shape.load(base);
            let most = run::run(&LoadArgs { perf: None, ..load.clone() }, false)?;
            if !most.is_good() {
                return Ok(Outcome::from(&most));
            }
            let rate = Some((most.records_per_second() / 2.0).max(1.0) as u64);
            run::run(&LoadArgs { rate, ..load }, false)
        }
        Kind::Librdkafka => return librdkafka::produce(args, base, broker),
        Kind::Fetch(source) => {
            let mut lost = None;
            if base.verify != Verify::Off {
                let bytes = if source == Source::Memory { MEMORY_BYTES } else { FILE_BYTES };
                lost = fill(base, bytes)?;
                if source != Source::Memory {
                    read_once(&source.load(base))?;
                }
                broker.wait_until_quiet()?;
            }
            if source == Source::Disk {
                broker.forget_cached()?;
            }
            let report = run::run(&source.load(base), false)?;
            return Ok(Outcome { lost, ..Outcome::from(&report) });
        }
    }
    .map(|report| Outcome::from(&report))
}

/// What all loads of one broker have in common.
pub(super) fn base(args: &CompareArgs, topic: &str, partitions: i32, broker: &Running) -> LoadArgs {
    LoadArgs {
        bootstrap_servers: vec![broker.address()],
        topic: topic.to_owned(),
        partitions: Some(partitions),
        duration: args.duration,
        warmup: args.warmup,
        acks: Acks::Leader,
        server_pid: vec![broker.pid()],
        ..LoadArgs::defaults()
    }
}

/// Small records from many connections for so long.
pub(super) fn small(base: &LoadArgs, duration: Duration) -> LoadArgs {
    LoadArgs { duration, warmup: Duration::ZERO, ..MANY_CONNECTIONS.load(base) }
}

/// Writes at least so many bytes of values in large batches. Gives what was acknowledged and is not there.
pub(super) fn fill(base: &LoadArgs, bytes: u64) -> Result<Option<String>, Failure> {
    let mut filled = 0;
    while filled < bytes {
        let rest = Duration::from_secs_f64((bytes - filled) as f64 / FILLED_PER_S_MAX);
        let duration = rest.max(FILLED_FOR_MIN);
        let load = LoadArgs { duration, warmup: Duration::ZERO, perf: None, ..LARGE_BATCHES.load(base) };
        let report = run::run(&load, false)?;
        let verdict = report.verdict.expect("what is filled is verified");
        if !verdict.is_good() {
            return Ok(Some(verdict.to_string()));
        }
        filled += verdict.acked * u64::from(LARGE_BATCHES.message_size);
    }
    Ok(None)
}

/// Reads all once, unmeasured: what a broker writes past the page cache is in it only then, and memory that the machine has
/// never used before is slow the first time on a virtual one.
fn read_once(load: &LoadArgs) -> Result<(), Failure> {
    let once = LoadArgs { repeat: false, duration: READ_FOR_MAX, warmup: Duration::ZERO, perf: None, ..load.clone() };
    run::run(&once, false).map(drop)
}

impl Source {
    fn load(self, base: &LoadArgs) -> LoadArgs {
        LoadArgs {
            mode: Mode::Consume,
            repeat: self != Source::Disk,
            fetch_max_bytes: 1 << 20,
            // Checksums are checked whoever sends, so that the client has the same to do for all.
            verify: Verify::Offsets,
            ..base.clone()
        }
    }
}

impl Shape {
    /// The load that `base` becomes with requests of this shape.
    fn load(self, base: &LoadArgs) -> LoadArgs {
        LoadArgs {
            connections: self.connections,
            concurrency: self.batches_outstanding * self.batch_records,
            batch_records: self.batch_records,
            message_size: self.message_size,
            ..base.clone()
        }
    }
}

impl From<&Report> for Outcome {
    fn from(report: &Report) -> Outcome {
        let bad = report.verdict.as_ref().filter(|verdict| !verdict.is_good());
        Outcome { turn: Turn::from(report), lost: bad.map(Verdict::to_string) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_disk_is_read_once() {
        for (source, repeat) in [(Source::Memory, true), (Source::PageCache, true), (Source::Disk, false)] {
            let load = source.load(&LoadArgs::defaults());
            assert_eq!((load.mode, load.repeat, load.verify), (Mode::Consume, repeat, Verify::Offsets), "{source:?}");
        }
    }

    #[test]
    fn every_shape_is_a_valid_load() {
        for shape in [MANY_CONNECTIONS, ONE_CONNECTION, SMALL_BATCHES, LARGE_BATCHES] {
            shape.load(&LoadArgs::defaults()).check().unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        }
    }
}
