//! The log against a model of it: a list of batches, each with its bytes.

mod cuts;
mod replicas;

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, BatchLimits, verify};
use crate::ids::{ProducerEpoch, ProducerId, Uuid};
use crate::journal::{Class, Geometry, MemorySlots, Start, Writer, recover};
use crate::testing::MemoryFiles;

const ID: TopicPartition = TopicPartition { topic: Uuid([7; 16]), partition: 3 };
const EPOCH: LeaderEpoch = LeaderEpoch(5);

struct InFiles<'a>(&'a MemoryFiles);

impl Bodies for InFiles<'_> {
    fn read(&self, segment: SegmentName, position: u64, bytes: usize) -> Result<Bytes, String> {
        let mut buffer = vec![0; bytes];
        let file = crate::boundary::FileName::Segment(segment);
        let read = crate::boundary::Files::read_at(self.0, file, position, &mut buffer);
        match read.map_err(|error| error.to_string())? {
            read if read == bytes => Ok(buffer.into()),
            _ => Err("too short".into()),
        }
    }
}

struct NoRecords;

impl journal::Visitor for NoRecords {
    fn record(&mut self, _: &journal::Record<'_>) -> Result<(), String> {
        Err("an empty journal has no records".into())
    }

    fn damaged(&mut self, _: &journal::Damage) -> Result<(), String> {
        Err("an empty journal is sound".into())
    }
}

fn writer() -> Writer {
    let geometry = Geometry::default();
    let slots = MemorySlots::zeroed(1, geometry.file_bytes);
    let found = recover(&slots, &Start::fresh(Uuid([1; 16])), &mut NoRecords).expect("zeros are an empty journal");
    Writer::resume(found, 1, geometry)
}

/// By how much the timestamps of consecutive records are off the clock: some repeat, and not the newest is the largest.
const OFF_THE_CLOCK: [i64; 7] = [0, 5, -3, 9, -40, 2, 9];

/// A batch as the model keeps it: its offsets, its records' timestamps, its stored bytes.
#[derive(Clone, Debug)]
struct Stored {
    base: i64,
    last: i64,
    timestamps: Vec<i64>,
    bytes: Bytes,
}

struct Rig {
    log: Log,
    journal: Writer,
    files: MemoryFiles,
    model: VecDeque<Stored>,
    /// The journal's records of batches.
    records: Vec<(Lsn, RecordKind, Bytes)>,
    sequence: i32,
    clock: i64,
}

impl Rig {
    fn new() -> Rig {
        let mut rig = Rig {
            log: Log::new(ID),
            journal: writer(),
            files: MemoryFiles::default(),
            model: VecDeque::new(),
            records: Vec::new(),
            sequence: 0,
            clock: 1_000,
        };
        rig.log.begin_epoch(EPOCH, &mut rig.journal);
        rig
    }

    fn append(&mut self, records: i32, bytes: usize) {
        let way = if bytes > 20_000 { Way::Direct } else { Way::Journal };
        self.clock += 1;
        let value = vec![b'x'; bytes];
        let mut batch = BatchBuilder::new().producer(ProducerId(9), ProducerEpoch(0), self.sequence);
        let off = OFF_THE_CLOCK.iter().cycle().skip(self.records.len() * 3);
        let timestamps: Vec<i64> = off.take(records as usize).map(|off| self.clock + off).collect();
        for &timestamp in &timestamps {
            batch = batch.record(Timestamp(timestamp), None, Some(&value));
        }
        self.sequence += records;
        let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
        let batch = verify(batch.build(), &limits).expect("a sound batch");
        assert_eq!(self.log.judge(batch.head()), Ok(Sequence::Next));
        let (appended, write) = self.log.append(&batch, EPOCH, Timestamp(self.clock), way, &mut self.journal);
        crate::boundary::write_direct(&self.files, write.as_slice()).expect("memory has room");
        let newest = self.log.tail.newest().expect("a batch was appended");
        let (kind, payload) = if newest.direct.is_some() {
            let head = BatchHead::parse(newest.head()).expect("a sound batch");
            (RecordKind::AppendDirect, payload::direct(Timestamp(self.clock), &head, newest))
        } else {
            (RecordKind::Append, [&payload::taken(Timestamp(self.clock))[..], &newest.whole()].concat())
        };
        self.records.push((newest.lsn, kind, payload.into()));
        self.model.push_back(Stored {
            base: appended.base.0,
            last: appended.end.0 - 1,
            timestamps,
            bytes: batch.to_bytes(appended.base, EPOCH),
        });
    }

    /// The disk does all that the journal has pending.
    fn commit(&mut self) {
        while !self.journal.is_settled() || self.journal.pending_bytes() > 0 {
            if let Some(commit) = self.journal.take_commit() {
                self.journal.committed(commit.number);
            } else {
                self.journal.add_slot();
            }
        }
        assert!(self.journal.has_room(0, Class::Ordinary) || self.journal.slots() > 0);
        self.log.confirm(self.journal.durable());
        self.forget_deleted();
    }

    fn flush(&mut self, at_least: u64) {
        if let Some(task) = self.log.flush(at_least) {
            task.run(&self.files).expect("the disk has room");
            self.log.flushed(true);
        }
    }

    fn sync(&mut self) {
        for (segment, mark) in self.log.unsynced_segments() {
            self.log.synced_to(segment, mark);
        }
    }

    fn advance_start(&mut self, to: i64) {
        self.log.advance_start(Offset(to), &mut self.journal);
        self.forget_deleted();
    }

    fn forget_deleted(&mut self) {
        while self.model.front().is_some_and(|batch| batch.last < self.log.start().0) {
            self.model.pop_front();
        }
    }

    /// As a checkpoint and a start from it do, where the journal from some record on is replayed.
    fn restart(&mut self, part: u8) {
        if self.log.is_flushing() {
            self.log.flushed(false);
        }
        let first = self.records.len() * usize::from(part) / 255;
        let journalled = self.records.get(first).map_or(Lsn(u64::MAX), |(lsn, _, _)| *lsn);
        let state: Vec<u8> = self.log.encode(journalled).concat();
        // It counts once the journal is durable.
        self.commit();
        let mut again = Log::decode(ID, state.into(), &InFiles(&self.files)).expect("a state that was just written");
        for (lsn, kind, payload) in &self.records[first..] {
            again.replay(*lsn, *kind, payload.clone(), &InFiles(&self.files)).expect("records that were written");
        }
        assert_eq!(again.lacks(), None, "the journal brought what the state left to it");
        assert_eq!(again.producers(), self.log.producers());
        assert_eq!(again.epochs(), self.log.epochs());
        assert_eq!((again.start(), again.end()), (self.log.start(), self.log.end()));
        self.log = again;
    }

    /// What a fetch at `offset` gets, wherever it is.
    fn read(&self, offset: i64, max_bytes: usize) -> Bytes {
        match self.log.read(Offset(offset), self.log.durable_end(), max_bytes) {
            Read::Nothing => Bytes::new(),
            Read::Memory(slices, _) => slices.concat().into(),
            Read::Disk(plan, _) => match plan.run(&self.files).expect("sound files") {
                ReadOutcome::Batches(bytes) => bytes,
                other => panic!("a read of batches found {other:?}"),
            },
        }
    }

    /// Reads from `offset` to the durable end and compares with the model.
    fn check_from(&self, offset: i64, max_bytes: usize) {
        let durable = self.log.durable_end().0;
        let expected: Vec<u8> = self
            .model
            .iter()
            .filter(|batch| batch.last >= offset && batch.last < durable)
            .flat_map(|batch| batch.bytes.clone())
            .collect();
        let mut found = Vec::new();
        let mut next = offset;
        while next < durable {
            let bytes = self.read(next, max_bytes);
            assert!(!bytes.is_empty(), "a read below the durable end finds something");
            for batch in crate::batch::Scan::checked(&bytes) {
                next = batch.expect("whole batches").head.last_offset().0 + 1;
            }
            found.extend_from_slice(&bytes);
        }
        assert_eq!(found.len(), expected.len());
        assert!(found == expected, "what is read is what was written");
    }

    fn check(&self) {
        self.log.invariants();
        let start = self.log.start().0;
        self.check_from(start, 1);
        self.check_from(start, 100_000);
        if let Some(middle) = self.model.get(self.model.len() / 2)
            && middle.base >= start
        {
            self.check_from(middle.last, 3_000);
        }
    }

    /// What a search finds, and in how many places it looked.
    fn search(&self, wanted: Wanted) -> (Option<(i64, i64)>, usize) {
        let mut search = self.log.search(wanted, self.log.durable_end());
        let mut looks = 0;
        while let Some(plan) = search.next_plan() {
            search.take(&plan.run(&self.files).expect("sound files"));
            looks += 1;
        }
        (search.found().map(|(offset, timestamp)| (offset.0, timestamp.0)), looks)
    }

    /// Searches by time and compares with the model.
    fn check_searches(&self) {
        let all = self.model.iter().flat_map(|batch| (batch.base..).zip(batch.timestamps.iter().copied()));
        let within = self.log.start().0..self.log.durable_end().0;
        let readable: Vec<(i64, i64)> = all.filter(|(offset, _)| within.contains(offset)).collect();
        let largest = readable.iter().copied().max_by_key(|&(offset, timestamp)| (timestamp, -offset));
        assert_eq!(self.search(Wanted::Largest).0, largest, "the first with the largest timestamp within {within:?}");
        let middle = readable.get(readable.len() / 2).map_or(0, |&(_, timestamp)| timestamp);
        for target in [0, middle, self.clock, self.clock + 9, self.clock + 10] {
            let first = readable.iter().copied().find(|&(_, timestamp)| timestamp >= target);
            let found = self.search(Wanted::AtOrAfter(Timestamp(target))).0;
            assert_eq!(found, first, "the first of time {target} within {within:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(i32, usize),
    Commit,
    Flush(u64),
    Sync,
    Evict,
    Roll,
    AdvanceStart(u8),
    Restart(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..5i32, prop_oneof![4 => 1..300usize, 1 => 10_000..40_000usize]).prop_map(|(n, b)| Step::Append(n, b)),
        4 => Just(Step::Commit),
        3 => prop_oneof![Just(1u64), Just(50_000)].prop_map(Step::Flush),
        2 => Just(Step::Sync),
        2 => Just(Step::Evict),
        1 => Just(Step::Roll),
        1 => any::<u8>().prop_map(Step::AdvanceStart),
        1 => any::<u8>().prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_read_finds_what_was_appended_whatever_was_flushed_synced_evicted_and_restarted(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut rig = Rig::new();
        for step in steps {
            match step {
                Step::Append(records, bytes) => rig.append(records, bytes),
                Step::Commit => rig.commit(),
                Step::Flush(at_least) => rig.flush(at_least),
                Step::Sync => rig.sync(),
                Step::Evict => while rig.log.evict_one().is_some() {},
                Step::Roll => rig.log.roll(&mut rig.journal),
                Step::AdvanceStart(part) => {
                    let (start, end) = (rig.log.start().0, rig.log.durable_end().0);
                    rig.advance_start(start + (end - start) * i64::from(part) / 256);
                }
                Step::Restart(part) => rig.restart(part),
            }
            rig.log.invariants();
            rig.check_searches();
        }
        rig.commit();
        rig.check();
    }
}

#[test]
fn a_flipped_bit_on_disk_is_seen_by_the_first_cold_read() {
    let mut rig = Rig::new();
    for _ in 0..20 {
        rig.append(2, 100);
    }
    rig.commit();
    rig.flush(1);
    rig.sync();
    while rig.log.evict_one().is_some() {}
    rig.check();
    let segment = SegmentName::appended(ID, Offset(0));
    let bytes = rig.log.bytes() as usize;
    for byte in [0, 5, 13, 16, 20, 60, 61, 100, bytes / 2, bytes - 1] {
        let files = rig.files.copy();
        files.flip(crate::boundary::FileName::Segment(segment), byte);
        let Read::Disk(plan, _) = rig.log.read(Offset(0), rig.log.durable_end(), 1 << 20) else {
            panic!("everything is evicted");
        };
        let found = plan.run(&files);
        assert!(
            matches!(found, Err(crate::boundary::DiskError::Corrupt(..))),
            "a flip in byte {byte} must be seen, not {found:?}"
        );
    }
}

#[test]
fn records_replayed_from_the_journal_give_the_same_log() {
    let mut rig = Rig::new();
    rig.append(3, 50);
    rig.append(1, 50);
    let state: Vec<u8> = rig.log.encode(Lsn(u64::MAX)).concat();
    let mut again = Log::decode(ID, state.into(), &InFiles(&rig.files)).expect("a state that was just written");
    let known = again.newest.expect("records were written");
    // A record that the state contains changes nothing; one that comes after it is taken.
    let payload: Vec<u8> = [&payload::taken(Timestamp(5))[..], &rig.model[1].bytes].concat();
    again.replay(known, RecordKind::Append, payload.clone().into(), &InFiles(&rig.files)).expect("a known record");
    assert_eq!(again.end(), Offset(4));
    let wrong = again.replay(Lsn(known.0 + 1), RecordKind::Append, payload.into(), &InFiles(&rig.files));
    assert!(matches!(wrong, Err(PayloadError::Contradiction(_))), "a batch that does not follow is refused");
    let start = |to| (RecordKind::LogStart, payload::offset(Offset(to)).to_vec().into());
    let (kind, forth) = start(2);
    again.replay(Lsn(known.0 + 2), kind, forth, &InFiles(&rig.files)).expect("it moves on");
    for to in [1, -5] {
        let (kind, back) = start(to);
        let wrong = again.replay(Lsn(known.0 + 3), kind, back, &InFiles(&rig.files));
        assert!(matches!(wrong, Err(PayloadError::Contradiction(_))), "a log start that moves back is refused");
    }
    assert!(again.is_missing(Lsn(known.0 + 9), Some(Lsn(known.0 + 5))), "a gap is noticed");
}

#[test]
fn what_is_reserved_behind_a_closed_segment_is_given_back_once() {
    let mut rig = Rig::new();
    let trimmed = |rig: &mut Rig| match rig.log.trim() {
        Some(Task::Trim { segment, bytes }) => Some((segment.base, bytes)),
        Some(other) => panic!("{other:?} gives nothing back"),
        None => None,
    };
    // The last flush comes before the segment is closed.
    rig.append(1, 100);
    rig.commit();
    rig.flush(1);
    let bytes = rig.log.bytes();
    assert_eq!(trimmed(&mut rig), None, "it is still active");
    rig.log.roll(&mut rig.journal);
    assert_eq!(trimmed(&mut rig), Some((Offset(0), bytes)));
    assert_eq!(trimmed(&mut rig), None);
    // It comes after, and does so itself.
    rig.append(1, 100);
    rig.log.roll(&mut rig.journal);
    rig.commit();
    assert_eq!(trimmed(&mut rig), None, "not all of it is written");
    let task = rig.log.flush(1).expect("a closed segment is written behind");
    assert!(matches!(task, Task::Flush { trim: Some(_), .. }));
    task.run(&rig.files).expect("the disk has room");
    rig.log.flushed(true);
    assert_eq!(trimmed(&mut rig), None);
    // It is on its way meanwhile.
    rig.append(1, 100);
    rig.commit();
    let task = rig.log.flush(1).expect("there is something to write");
    rig.log.roll(&mut rig.journal);
    task.run(&rig.files).expect("the disk has room");
    rig.log.flushed(true);
    assert_eq!(trimmed(&mut rig).map(|(base, _)| base), Some(Offset(2)));
}

/// Has all that was appended on disk, and in memory no more.
fn evicted(rig: &mut Rig) {
    rig.commit();
    while rig.log.unwritten_bytes() > 0 {
        rig.flush(1);
    }
    rig.sync();
    while rig.log.evict_one().is_some() {}
}

#[test]
fn a_search_for_the_largest_timestamp_looks_no_further_than_it_must() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        for _ in 0..8 {
            rig.append(4, 10_000);
        }
        rig.log.roll(&mut rig.journal);
    }
    evicted(&mut rig);
    rig.check_searches();
    assert_eq!(rig.search(Wanted::Largest).1, 1, "a segment whose largest timestamp counts ends it");
    // What has the largest timestamps is not durable, or deleted.
    rig.append(4, 10);
    rig.check_searches();
    let last = rig.model[23].last;
    rig.advance_start(last);
    rig.check_searches();
    rig.commit();
    rig.check_searches();
}

#[test]
fn a_cold_read_reads_no_long_batch_that_it_cannot_give() {
    const LENGTH: usize = 300_000;
    let mut rig = Rig::new();
    for _ in 0..4 {
        rig.append(1, LENGTH);
    }
    evicted(&mut rig);
    let batch = rig.model[0].bytes.len();
    let largest = |from: i64, max_bytes: usize| {
        let Read::Disk(plan, _) = rig.log.read(Offset(from), rig.log.end(), max_bytes) else {
            panic!("memory has nothing")
        };
        let files = rig.files.copy();
        let ReadOutcome::Batches(batches) = plan.run(&files).expect("sound") else { panic!("there are batches") };
        (batches.len() / batch, files.largest_read())
    };
    for from in 0..3 {
        assert_eq!(largest(from, batch + LENGTH / 2), (1, batch));
        assert_eq!(largest(from, 10), (1, batch));
    }
    assert_eq!(largest(0, 2 * batch), (2, 2 * batch));
    assert_eq!(largest(1, 3 * batch), (3, 3 * batch));
}
