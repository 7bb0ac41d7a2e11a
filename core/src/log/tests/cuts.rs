//! A replica's log against a model of it, on a disk that loses what was not synced: batches as a leader placed them, cuts
//! of its end, new beginnings, and crashes between any two writes.
//!
//! The model is what the log was after each of its journal records. After a crash the log must be what it was after the
//! newest record that is left; and what is acknowledged must be left.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::batch::{HEAD_BYTES, Scan};
use crate::boundary::{DirectWrite, FileName, Files, write_direct};
use crate::compact::{Pass, Progress, Scope};
use crate::journal::{BLOCK_BYTES, Position, ReadError, Slots};
use crate::testing::LossyFiles;

const GEOMETRY: Geometry = Geometry { file_bytes: 64 * BLOCK_BYTES, max_files: 4, reserve_bytes: 0 };

/// A batch as the model keeps it.
#[derive(Clone, Debug)]
struct Known {
    base: i64,
    last: i64,
    epoch: i32,
    timestamp: i64,
    bytes: Bytes,
    /// The producers after it.
    producers: Producers,
}

/// What a log is after one of its journal records.
#[derive(Clone, Debug, Default)]
struct Model {
    batches: Vec<Rc<Known>>,
    start: i64,
    end: i64,
    /// The producers before all batches.
    producers: Producers,
}

impl Model {
    fn producers(&self) -> &Producers {
        self.batches.last().map_or(&self.producers, |batch| &batch.producers)
    }

    fn newest_epoch(&self) -> i32 {
        self.batches.last().map_or(0, |batch| batch.epoch)
    }

    /// Has it end at `to`, or before the batch that holds it; what batches replaced is known from `undo_from` on.
    fn cut(&mut self, to: i64, undo_from: i64) {
        let holder = self.batches.iter().find(|batch| batch.base < to && to <= batch.last);
        self.end = holder.map_or(to, |batch| batch.base.max(self.start));
        let is_known = self.batches.iter().all(|batch| batch.last < to || batch.last >= undo_from);
        self.batches.retain(|batch| batch.last < undo_from.max(to));
        let mut left = self.producers().clone();
        self.batches.retain(|batch| batch.last < to);
        if !is_known {
            left.forget_beyond(Offset(to));
            match self.batches.last_mut() {
                Some(newest) => Rc::make_mut(newest).producers = left,
                None => self.producers = left,
            }
        }
    }
}

/// What the disk has not been asked to do yet, or not done.
enum Job {
    Flush(Task),
    Sync(Vec<(SegmentName, Mark)>),
    Other(Task),
}

/// The state of a log in a checkpoint.
#[derive(Clone)]
struct Checkpoint {
    state: Bytes,
    replay: Position,
    contains: Lsn,
    /// Files that it does not name.
    unnamed: Vec<SegmentName>,
}

struct Replica {
    log: Log,
    journal: Writer,
    files: LossyFiles,
    model: Model,
    /// What the log was when the journal ended at each LSN.
    history: BTreeMap<Lsn, Model>,
    direct: Vec<DirectWrite>,
    jobs: VecDeque<Job>,
    checkpoints: Vec<Checkpoint>,
    /// A checkpoint that is not durable yet.
    coming: Option<Checkpoint>,
    dropped: Vec<SegmentName>,
    starts: u64,
    written: u64,
    /// Its leader appends, not another one's follower.
    epoch_begun: i32,
}

struct JournalFiles<'a>(&'a LossyFiles, Vec<u64>);

impl<'a> JournalFiles<'a> {
    fn of(files: &'a LossyFiles) -> JournalFiles<'a> {
        let lengths = (0..).map_while(|slot| files.len(FileName::Journal(slot)).expect("memory is read"));
        JournalFiles(files, lengths.collect())
    }
}

impl Slots for JournalFiles<'_> {
    fn slots(&self) -> u32 {
        u32::try_from(self.1.len()).expect("few")
    }

    fn len(&self, slot: u32) -> u64 {
        self.1[slot as usize]
    }

    fn read_at(&self, slot: u32, position: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let read = self.0.read_at(FileName::Journal(slot), position, into).expect("memory is read");
        if read == into.len() { Ok(()) } else { Err(ReadError("the file ends".into())) }
    }
}

impl Bodies for LossyFiles {
    fn read(&self, segment: SegmentName, position: u64, bytes: usize) -> Result<Bytes, String> {
        let mut buffer = vec![0; bytes];
        match self.read_at(FileName::Segment(segment), position, &mut buffer) {
            Ok(read) if read == bytes => Ok(buffer.into()),
            Ok(_) => Err("too short".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What replays into a log.
struct Rebuilding<'a> {
    log: Log,
    files: &'a LossyFiles,
    gone: Vec<SegmentName>,
}

impl journal::Visitor for Rebuilding<'_> {
    fn record(&mut self, record: &journal::Record<'_>) -> Result<(), String> {
        assert!(!self.log.is_missing(record.lsn, record.previous), "no record is missing before LSN {}", record.lsn);
        let payload = Bytes::copy_from_slice(record.payload);
        let gone = self.log.replay(record.lsn, record.kind, payload, self.files);
        self.gone.extend(gone.map_err(|error| format!("{:?} at LSN {}: {error}", record.kind, record.lsn))?);
        Ok(())
    }

    fn damaged(&mut self, damage: &journal::Damage) -> Result<(), String> {
        Err(damage.to_string())
    }
}

impl Replica {
    fn new() -> Replica {
        let files = LossyFiles::default();
        let bytes = GEOMETRY.file_bytes;
        Task::ExtendJournal { slot: 0, bytes }.run(&files).expect("memory has room");
        let found = recover(&JournalFiles::of(&files), &Start::fresh(Uuid([1; 16])), &mut NoRecords).expect("zeros");
        let replay = found.position;
        let mut log = Log::new(ID);
        log.invariants();
        let state: Bytes = log.encode(Lsn(0)).concat().into();
        log = Log::decode(ID, state.clone(), &files).expect("an empty log");
        let first = Checkpoint { state, replay, contains: Lsn(0), unnamed: Vec::new() };
        let mut replica = Replica {
            log,
            journal: Writer::resume(found, 1, GEOMETRY),
            files,
            model: Model::default(),
            history: BTreeMap::from([(Lsn(0), Model::default())]),
            direct: Vec::new(),
            jobs: VecDeque::new(),
            checkpoints: vec![first],
            coming: None,
            dropped: Vec::new(),
            starts: 1,
            written: 0,
            epoch_begun: 0,
        };
        replica.commit();
        replica
    }

    fn remember(&mut self) {
        assert_eq!(self.log.end().0, self.model.end);
        assert_eq!(self.log.coming_start().0, self.model.start);
        self.history.insert(self.journal.end(), self.model.clone());
        assert_eq!(self.log.producers(), self.model.producers(), "producers are what the batches left them");
    }

    /// Appends as a leader would, or as a follower what another leader placed `gap` above the end.
    fn append(&mut self, append: &Append) {
        self.written += 1;
        let is_first = self.log.has_no_batch() && self.log.coming_start() == self.log.end();
        let base = match append.leads {
            true => self.model.end,
            false if is_first => (self.model.end - append.gap).max(0),
            false => self.model.end + append.gap,
        };
        let records = append.records + if is_first { self.model.end - base } else { 0 };
        let epoch = if append.leads {
            let newest = self.log.epochs().latest().map_or(0, |latest| latest.0);
            self.epoch_begun = newest.max(self.model.newest_epoch()) + i32::from(append.new_epoch);
            self.log.begin_epoch(LeaderEpoch(self.epoch_begun), &mut self.journal);
            self.remember();
            self.epoch_begun
        } else {
            self.model.newest_epoch() + i32::from(append.new_epoch)
        };
        let mut batch = BatchBuilder::new().place(Offset(base), LeaderEpoch(epoch));
        if let Some((id, producer_epoch, sequence)) = append.producer {
            batch = batch.producer(ProducerId(id), ProducerEpoch(producer_epoch), sequence);
        }
        let timestamp = 1_000 + i64::try_from(self.written).expect("few") * 10 + append.off;
        for at in 0..records {
            let mut value = vec![u8::try_from(at % 7).expect("small"); append.bytes];
            value.extend_from_slice(&self.written.to_le_bytes());
            // Of keys that come once compaction keeps all records.
            let key = [self.written.to_le_bytes(), at.to_le_bytes()].concat();
            batch = batch.record(Timestamp(timestamp), Some(&key), Some(&value));
        }
        let bytes = batch.build();
        let head = BatchHead::parse(&bytes).expect("a sound batch");
        let way = if append.is_direct { Way::Direct } else { Way::Journal };
        let now = Timestamp(i64::try_from(self.written).expect("few"));
        let mut producers = self.model.producers().clone();
        producers.appended(&head, Offset(base), now);
        let body = bytes.slice(HEAD_BYTES..);
        let appended = self.log.append_placed(&head, &body, now, way, &mut self.journal);
        let (appended, write) = appended.expect("it is what comes next");
        assert_eq!((appended.base, appended.end), (head.base_offset, head.next_offset()));
        self.direct.extend(write);
        let known = Known { base, last: base + records - 1, epoch, timestamp, bytes, producers };
        self.model.end = known.last + 1;
        self.model.batches.push(Rc::new(known));
        self.remember();
    }

    fn cut(&mut self, to: i64) {
        if to < self.model.start {
            return self.start_anew(to);
        }
        if to < self.model.end {
            self.model.cut(to, self.log.undo.from().0);
        }
        let lsn = self.log.cut(Offset(to), &mut self.journal);
        assert!(lsn.is_none() || self.log.is_cutting());
        assert!(self.log.epochs().entries().iter().all(|&(_, start)| lsn.is_none() || start < self.log.end()));
        self.remember();
    }

    fn start_anew(&mut self, at: i64) {
        self.log.start_anew(Offset(at), &mut self.journal);
        self.model = Model { start: at, end: at, ..Model::default() };
        assert_eq!(self.log.high_watermark(), Offset(at));
        self.remember();
    }

    fn advance_start(&mut self, to: i64) {
        self.log.advance_start(Offset(to), &mut self.journal);
        self.model.start = self.model.start.max(to.min(self.model.end));
        self.remember();
    }

    /// The disk makes durable what the journal has pending, bodies first.
    fn commit(&mut self) {
        loop {
            if let Some(commit) = self.journal.take_commit() {
                write_direct(&self.files, &std::mem::take(&mut self.direct)).expect("memory has room");
                let file = FileName::Journal(commit.slot);
                self.files
                    .write_at(file, commit.position, std::slice::from_ref(&commit.data))
                    .expect("memory has room");
                self.files.sync(file).expect("it is there");
                self.journal.committed(commit.number);
            } else if self.journal.pending_bytes() > 0 || !self.journal.is_settled() {
                let bytes = GEOMETRY.file_bytes;
                Task::ExtendJournal { slot: self.journal.slots(), bytes }.run(&self.files).expect("memory has room");
                self.journal.add_slot();
            } else {
                break;
            }
        }
        self.confirm();
    }

    fn confirm(&mut self) {
        self.dropped.extend(self.log.confirm(self.journal.durable()));
        assert!(!self.log.is_cutting());
        assert_eq!(self.log.start().0, self.model.start);
        assert_eq!(self.log.durable_end().0, self.model.end);
        if let Some(checkpoint) = self.coming.take_if(|coming| coming.contains <= self.journal.durable()) {
            let unnamed = checkpoint.unnamed.iter().filter(|&&name| !self.log.has_segment(name));
            self.jobs.push_back(Job::Other(Task::RemoveSegments(unnamed.copied().collect())));
            self.checkpoints.push(checkpoint);
            let kept = self.checkpoints.len().saturating_sub(2);
            self.checkpoints.drain(..kept);
        }
    }

    fn flush(&mut self) {
        if let Some(task) = self.log.flush(1) {
            self.jobs.push_back(Job::Flush(task));
        }
    }

    fn sync(&mut self) {
        let dirty = self.log.unsynced_segments();
        if !dirty.is_empty() {
            self.jobs.push_back(Job::Sync(dirty));
        }
    }

    fn trim(&mut self) {
        while let Some(task) = self.log.trim() {
            self.jobs.push_back(Job::Other(task));
        }
    }

    /// The disk carries out what it was asked first.
    fn run_job(&mut self) {
        match self.jobs.pop_front() {
            Some(Job::Flush(task)) => {
                task.run(&self.files).expect("memory has room");
                self.log.flushed(true);
            }
            Some(Job::Sync(marks)) => {
                let segments = marks.iter().map(|(segment, _)| *segment).collect();
                Task::Sync { segments, ahead: Vec::new() }.run(&self.files).expect("the files are there");
                marks.into_iter().for_each(|(name, mark)| self.log.synced_to(name, mark));
            }
            Some(Job::Other(task)) => task.run(&self.files).expect("memory has room"),
            None => {}
        }
    }

    /// Has the segments compacted that end at or below `end`, into ones of at most `segment_bytes` bytes.
    fn compact(&mut self, end: i64, segment_bytes: u64) {
        let sources = self.log.sources(Offset(end));
        if sources.is_empty() {
            return;
        }
        let there = self.files.segments(ID).expect("memory is read").into_iter();
        let named = there.map(|name| name.generation).filter(|&generation| generation < SegmentName::AFTER_CUT);
        let mut pass = Pass::new(Scope {
            partition: ID,
            sources,
            start: Offset(0),
            dirty_from: self.log.clean_to(),
            now: Timestamp(0),
            delete_retention_ms: 0,
            is_everywhere: true,
            segment_bytes,
            map_bytes_max: 1 << 20,
            secret: 5,
            generation: named.max().unwrap_or(0) + 1,
            producers: Vec::new(),
        });
        loop {
            match pass.step(&self.files).expect("sound files") {
                Progress::Ahead => {}
                Progress::Replaced(replacement, replaced) => {
                    while self.log.sealing_bytes(replacement.base, 2).is_some() {
                        self.log.seal(replacement.base, 2, &mut self.journal);
                        self.remember();
                    }
                    assert!(self.log.replace(&replaced, replacement, &mut self.journal), "nothing came in between");
                    self.remember();
                    self.log.forget_below(replacement.end, usize::MAX);
                    self.dropped.extend(replaced);
                }
                Progress::Done(end) => {
                    self.log.cleaned(end, &mut self.journal);
                    return self.remember();
                }
                Progress::Stuck(why) => panic!("{why}"),
            }
        }
    }

    fn checkpoint(&mut self) {
        let replay = self.journal.durable_position();
        let state: Bytes = self.log.encode(replay.lsn).concat().into();
        let unnamed = std::mem::take(&mut self.dropped);
        self.coming = Some(Checkpoint { state, replay, contains: self.journal.end(), unnamed });
    }

    /// The process dies, and with it what the disk was to do; where the power fails too, `keeps` says what persists of
    /// what was not synced. Then it starts again, from the older checkpoint where that is said.
    fn crash(&mut self, power: Option<u64>, from_older: bool) {
        let acknowledged = self.journal.durable();
        match power {
            None => self.files.restart(),
            Some(mut seed) => self.files.lose_power(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed >> 63 == 1
            }),
        }
        self.jobs.clear();
        self.direct.clear();
        self.coming = None;
        let at = if from_older { 0 } else { self.checkpoints.len() - 1 };
        self.checkpoints.truncate(at + 1);
        let Checkpoint { state, replay, .. } = self.checkpoints[at].clone();
        let log = Log::decode(ID, state, &self.files).expect("a state that was written");
        let mut rebuilding = Rebuilding { log, files: &self.files, gone: Vec::new() };
        let slots = JournalFiles::of(&self.files);
        (0..slots.slots()).for_each(|slot| self.files.sync(FileName::Journal(slot)).expect("it is there"));
        let start = Start { journal: Uuid([1; 16]), replay, keep: self.checkpoints[0].replay.lsn };
        let found = recover(&slots, &start, &mut rebuilding).expect("what was synced is there");
        let Rebuilding { log, .. } = rebuilding;
        self.log = log;
        assert_eq!(self.log.lacks(), None);
        self.log.invariants();
        let left = found.position.lsn;
        assert!(acknowledged <= left, "what was acknowledged is there");
        let (_, model) = self.history.range(..=left).next_back().expect("the beginning is known");
        self.model = model.clone();
        self.history.retain(|&lsn, _| lsn <= left);
        self.starts += 1;
        self.journal = Writer::resume(found, self.starts, GEOMETRY);
        self.commit();
        self.remember();
        let there = self.files.segments(ID).expect("memory is read");
        self.dropped = there.into_iter().filter(|&name| !self.log.has_segment(name)).collect();
        self.check();
    }

    fn read(&self, offset: i64, max_bytes: usize) -> Bytes {
        match self.log.read(Offset(offset), self.log.end(), max_bytes) {
            Read::Nothing => Bytes::new(),
            Read::Memory(slices, _) => slices.concat().into(),
            Read::Disk(plan, _) => match plan.run(&self.files).expect("sound files") {
                ReadOutcome::Batches(bytes) => bytes,
                ReadOutcome::Nothing => Bytes::new(),
                other => panic!("a read of batches found {other:?}"),
            },
        }
    }

    /// Everything that the model has is read, as a follower or a consumer would, and nothing else.
    fn check(&self) {
        self.log.invariants();
        let (start, end) = (self.model.start, self.model.end);
        for max_bytes in [1, 60_000] {
            let mut expected = self.model.batches.iter().filter(|batch| batch.last >= start);
            let mut next = start;
            loop {
                let bytes = self.read(next, max_bytes);
                for found in Scan::checked(&bytes) {
                    let found = found.expect("whole batches");
                    let known = expected.next().expect("nothing is read that is not there");
                    assert_eq!(found.head.base_offset.0, known.base);
                    assert!(bytes[found.range] == known.bytes, "what is read is what was written");
                    next = known.last + 1;
                }
                if bytes.is_empty() {
                    break;
                }
            }
            assert_eq!(
                expected.next().map(|batch| batch.base),
                None,
                "all that is there is read; the log ends at {end}"
            );
        }
        for batch in self.model.batches.iter().filter(|batch| batch.last >= start) {
            let at = self.log.epochs().at(Offset(batch.base.max(start)));
            assert_eq!(at, Some(LeaderEpoch(batch.epoch)), "the epoch of the batch at {} is known", batch.base);
        }
        // A start that is to move on does not count before it is durable.
        let start = self.log.start().0;
        let readable = self.model.batches.iter().filter(|batch| batch.last >= start);
        let largest = readable.map(|batch| (batch.timestamp, -batch.base.max(start))).max();
        let found = self.search(Wanted::Largest).map(|(offset, timestamp)| (timestamp, -offset));
        assert_eq!(found, largest, "what was cut is not found by its time");
        for target in [largest.map_or(0, |(timestamp, _)| timestamp - 20), 1_000 + self.written as i64 * 5] {
            let mut readable = self.model.batches.iter().filter(|batch| batch.last >= start);
            let first = readable.find(|batch| batch.timestamp >= target);
            let first = first.map(|batch| (batch.base.max(start), batch.timestamp));
            assert_eq!(
                self.search(Wanted::AtOrAfter(Timestamp(target))),
                first,
                "nor is it the first of time {target}"
            );
        }
    }

    fn search(&self, wanted: Wanted) -> Option<(i64, i64)> {
        let mut search = self.log.search(wanted, self.log.end());
        while let Some(plan) = search.next_plan() {
            search.take(&plan.run(&self.files).expect("sound files"));
        }
        search.found().map(|(offset, timestamp)| (offset.0, timestamp.0))
    }
}

#[derive(Clone, Debug)]
struct Append {
    leads: bool,
    gap: i64,
    records: i64,
    new_epoch: bool,
    producer: Option<(i64, i16, i32)>,
    bytes: usize,
    off: i64,
    is_direct: bool,
}

#[derive(Clone, Debug)]
enum Do {
    Append(Append),
    /// At a place between the high watermark and the end.
    Cut(u8),
    /// At the edge of a batch below the high watermark: an unclean election was declared.
    CutBelow(u8),
    StartAnew(u8),
    HighWatermark(u8),
    AdvanceStart(u8),
    Commit,
    Flush,
    Sync,
    Trim,
    RunJob,
    Evict,
    Roll,
    Checkpoint,
    /// What lies below the high watermark, into small segments or large ones.
    Compact(u64),
    /// After so many changes on disk during a commit or a task, losing some of what was not synced or nothing.
    Crash {
        after: u64,
        in_commit: bool,
        power: Option<u64>,
        from_older: bool,
    },
}

fn append() -> impl Strategy<Value = Append> {
    let producer = prop::option::of((0..3_i64, 0..3_i16, 0..20_i32));
    let bytes = prop_oneof![4 => 1..300_usize, 2 => 3_000..12_000_usize];
    (any::<bool>(), 0..4_i64, 1..4_i64, prop::bool::weighted(0.2), producer, bytes, -25..25_i64, any::<bool>())
        .prop_map(|(leads, gap, records, new_epoch, producer, bytes, off, is_direct)| {
            let gap = if gap == 1 { 0 } else { gap };
            Append { leads, gap, records, new_epoch, producer, bytes, off, is_direct }
        })
}

fn action() -> impl Strategy<Value = Do> {
    let crash = (0..12_u64, any::<bool>(), prop::option::of(any::<u64>()), any::<bool>())
        .prop_map(|(after, in_commit, power, from_older)| Do::Crash { after, in_commit, power, from_older });
    prop_oneof![
        10 => append().prop_map(Do::Append),
        3 => any::<u8>().prop_map(Do::Cut),
        1 => any::<u8>().prop_map(Do::CutBelow),
        1 => any::<u8>().prop_map(Do::StartAnew),
        2 => any::<u8>().prop_map(Do::HighWatermark),
        1 => any::<u8>().prop_map(Do::AdvanceStart),
        4 => Just(Do::Commit),
        4 => Just(Do::Flush),
        2 => Just(Do::Sync),
        1 => Just(Do::Trim),
        5 => Just(Do::RunJob),
        2 => Just(Do::Evict),
        1 => Just(Do::Roll),
        1 => Just(Do::Checkpoint),
        1 => prop_oneof![Just(0), 2_000..60_000_u64].prop_map(Do::Compact),
        2 => crash,
    ]
}

/// A place between two offsets.
fn between(from: i64, to: i64, part: u8) -> i64 {
    from + (to - from) * i64::from(part) / 255
}

fn perform(replica: &mut Replica, action: &Do) {
    let (start, end) = (replica.model.start, replica.model.end);
    let high_watermark = replica.log.high_watermark().0;
    match *action {
        Do::Append(ref append) => replica.append(append),
        Do::Cut(part) => replica.cut(between(high_watermark, end, part)),
        Do::CutBelow(part) => {
            let edges: Vec<i64> = replica.model.batches.iter().map(|batch| batch.last + 1).collect();
            if let Some(&to) = edges.get(edges.len() * usize::from(part) / 256) {
                replica.cut(to);
            }
        }
        Do::StartAnew(part) => replica.start_anew(between(0, end + 20, part)),
        Do::HighWatermark(part) => {
            // Of what is durable, and of whole batches.
            let to = between(high_watermark, replica.log.durable_end().0.max(high_watermark), part);
            let whole = replica.model.batches.iter().map(|batch| batch.last + 1).filter(|&edge| edge <= to).max();
            replica.log.advance_high_watermark(Offset(whole.unwrap_or(high_watermark)));
        }
        Do::AdvanceStart(part) => replica.advance_start(between(start, high_watermark, part)),
        Do::Commit => replica.commit(),
        Do::Flush => replica.flush(),
        Do::Sync => replica.sync(),
        Do::Trim => replica.trim(),
        Do::RunJob => replica.run_job(),
        Do::Evict => while replica.log.evict_one().is_some() {},
        Do::Roll => {
            replica.log.roll(&mut replica.journal);
            replica.remember();
        }
        Do::Checkpoint => replica.checkpoint(),
        Do::Compact(segment_bytes) => replica.compact(high_watermark, segment_bytes),
        Do::Crash { after, in_commit, power, from_older } => {
            let durable = replica.journal.durable();
            replica.files.die_after(after);
            if in_commit {
                // Nobody hears of what it has done.
                let mut dead = std::mem::replace(&mut replica.journal, writer());
                if let Some(commit) = dead.take_commit() {
                    write_direct(&replica.files, &std::mem::take(&mut replica.direct)).expect("memory has room");
                    let file = FileName::Journal(commit.slot);
                    replica
                        .files
                        .write_at(file, commit.position, std::slice::from_ref(&commit.data))
                        .expect("memory has room");
                    replica.files.sync(file).expect("it is there");
                }
                replica.journal = dead;
            } else {
                replica.run_job();
            }
            assert_eq!(replica.journal.durable(), durable);
            replica.crash(power, from_older);
        }
    }
    replica.log.invariants();
    replica.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_what_its_records_say_whatever_is_cut_and_wherever_it_crashes(
        actions in prop::collection::vec(action(), 1..60)
    ) {
        let mut replica = Replica::new();
        for action in &actions {
            perform(&mut replica, action);
        }
        replica.crash(Some(3), false);
    }
}

/// One record, appended as a leader does.
fn plain(bytes: usize) -> Append {
    Append { leads: true, gap: 0, records: 1, new_epoch: false, producer: None, bytes, off: 0, is_direct: false }
}

/// Brings all that was appended to its segments, durably.
fn secure(replica: &mut Replica) {
    replica.commit();
    while replica.log.has_unwritten_before(Lsn(u64::MAX), 1) {
        replica.flush();
        replica.run_job();
    }
    replica.sync();
    replica.run_job();
}

#[test]
fn no_segment_is_replaced_by_an_empty_one() {
    let mut replica = Replica::new();
    replica.append(&plain(1_000));
    replica.log.roll(&mut replica.journal);
    replica.remember();
    secure(&mut replica);
    let source = replica.log.sources(Offset(1))[0];
    let replacement = Replacement {
        base: Offset(0),
        end: source.end,
        generation: 1,
        bytes: 0,
        entries: 0,
        max_timestamp: -1,
        since: source.since,
    };
    let before = replica.journal.end();
    assert!(!replica.log.replace(&[source.name], replacement, &mut replica.journal));
    assert_eq!(replica.journal.end(), before, "a start would take that for damage");
}

#[test]
fn a_cut_segment_ends_where_it_was_cut_however_little_of_it_a_checkpoint_knew_before_one_behind_it_was_replaced() {
    let mut replica = Replica::new();
    replica.append(&plain(1_000));
    secure(&mut replica);
    replica.checkpoint();
    replica.commit();
    // One entry of the index for two batches, of which one is cut off.
    replica.append(&plain(1_000));
    replica.append(&plain(1_000));
    secure(&mut replica);
    replica.cut(2);
    for _ in 0..3 {
        replica.append(&plain(1_000));
        replica.log.roll(&mut replica.journal);
        replica.remember();
    }
    secure(&mut replica);
    // The cut segment and the next one do not fit into one together, the others do.
    let whole: Vec<u64> = replica.log.segments().map(|segment| segment.bytes).collect();
    replica.compact(5, whole[1] + whole[2]);
    replica.commit();
    let is_it =
        |log: &Log| log.segments().map(|segment| (segment.base, segment.bytes, segment.is_cut)).collect::<Vec<_>>();
    let live = is_it(&replica.log);
    assert_eq!(live.iter().map(|segment| segment.0.0).collect::<Vec<_>>(), [0, 2, 4, 5]);
    replica.crash(None, false);
    assert_eq!(is_it(&replica.log), live);
    replica.trim();
    while !replica.jobs.is_empty() {
        replica.run_job();
    }
    replica.check();
}
