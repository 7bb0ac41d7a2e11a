//! Log compaction: of each key only the newest record stays (cleanup.policy=compact).
//!
//! A [`Pass`] compacts one partition. It is a value that is moved by steps: the node makes it, whoever drives the disk
//! calls [`Pass::step`] with it on any thread, one step after another, and the node hears what each brought. A step reads
//! about a mebibyte of segments, checks it, and writes about as much. Between two steps nothing of it runs, and at any
//! point it may be dropped: what it wrote counts only when the node says so, in the journal.
//!
//! `Mapping` (reads the part that is dirty, and remembers where each key is newest) → `Looking` (reads a run of adjacent
//! segments that fit into one, to see whether anything goes) → `Writing` (copies what stays into a new segment) →
//! `Looking` at the next run … → `Done`. A run of several goes straight to `Writing`, as does one of a segment that was cut,
//! and one where nothing goes straight to the next.
//!
//! What stays, by the rules of Kafka, so that replicas and clients of both find the same:
//! - Below the log start nothing does; from the pass's end on everything does, as it is.
//! - A record stays where no later one of its key is in the map; one without a key goes.
//! - A tombstone, a record without a value, stays `delete.retention.ms` longer than the pass that first found it there:
//!   that pass writes the end of this time, the delete horizon, into the batch's base timestamp (KIP-534). While not all
//!   replicas are in sync it stays longer.
//! - Records of aborted transactions go. A transaction's marker stays as long as a batch of it was found, and is then
//!   given a delete horizon as tombstones are (KAFKA-8522, KAFKA-14055). What is not decided yet ends the pass.
//! - A batch without records stays as an empty shell if it is its producer's newest, whose sequence a follower needs, and
//!   if it ends its run: then some batch ends where the next segment begins, and no reader ends in a gap (KAFKA-9065).
//!   Where the log was cut in a gap, its run's last batch ends before: it stays all the same, so that no segment is empty.
//!
//! Memory: the map, which is as large as `log.cleaner.dedupe.buffer.size` at most and no larger than the dirty offsets
//! need; one chunk of a segment; one batch, decompressed. Where the map is full the pass ends early, and the next one
//! goes on from there.
//!
//! What is deliberately absent: which partition is compacted when, and what becomes of files ([`crate::node`]); and what a
//! log makes of a new segment ([`crate::log`]).

mod judge;
mod offsets;
mod output;
#[cfg(test)]
mod tests;
mod transactions;

use std::ops::Range;

use bytes::Bytes;

use self::judge::{Fate, Judge};
use self::offsets::{Fingerprints, OffsetMap};
use self::output::Output;
use self::transactions::{Marker, Outcomes};
use crate::batch::{BatchHead, Records, Scan, emptied};
use crate::boundary::{DiskError, Files, SegmentName};
use crate::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::log::{DECOMPRESSED_BYTES_MAX, Edge, Replacement, Source, read_chunks};
use crate::time::Timestamp;

/// Why a pass is stuck.
const TOO_LARGE: &str = "a segment would become larger than 4 GiB";

/// What a pass is told.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The partition.
    pub partition: TopicPartition,
    /// Its segments up to where it is to be compacted, oldest first, each ending where the next begins.
    pub sources: Vec<Source>,
    /// The first offset that is kept.
    pub start: Offset,
    /// Everything below was compacted by earlier passes.
    pub dirty_from: Offset,
    /// What time it is, for delete horizons.
    pub now: Timestamp,
    /// How long tombstones and markers stay, in milliseconds.
    pub delete_retention_ms: u64,
    /// Whether every replica has what is compacted. Else tombstones and markers stay though their time is over: a replica
    /// that is behind may have what they delete or close, and nobody could tell it any more.
    pub is_everywhere: bool,
    /// How large segments may become that are made of several, in bytes.
    pub segment_bytes: u64,
    /// What the map of keys may take, in bytes.
    pub map_bytes_max: usize,
    /// A random number, so that nobody can make up keys that are taken for one another.
    pub secret: u64,
    /// The number that the first new segment gets; each further one gets the next.
    pub generation: u32,
    /// The newest batch of each producer that is remembered, by its id: the last offset, or none where it was a marker,
    /// and the epoch. One block of memory, which is let go of in no time however many they are.
    pub producers: Vec<(ProducerId, (Option<Offset>, ProducerEpoch))>,
}

/// What a step brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do.
    Ahead,
    /// A segment is complete, durable, and stands for those that are named.
    Replaced(Replacement, Vec<SegmentName>),
    /// Everything below is compacted, if what was replaced counts by now.
    Done(Offset),
    /// The pass cannot go on, for this reason, and nor could another.
    Stuck(String),
}

/// What a pass has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of segments read.
    pub bytes_read: u64,
    /// Bytes of segments written.
    pub bytes_written: u64,
    /// Records that went.
    pub records_removed: u64,
    /// Those of them that had no key.
    pub records_without_key: u64,
}

/// A compaction of one partition.
#[derive(Debug)]
pub struct Pass {
    scope: Scope,
    fingerprints: Fingerprints,
    map: OffsetMap,
    outcomes: Outcomes,
    /// So many sources, the oldest, are not the log's any more.
    gone: usize,
    /// Where the pass ends: at the end of its sources, or before.
    end: Offset,
    stage: Stage,
    /// The transactions that batches were found of since their last marker, up to where the stage is.
    judge: Judge,
    next_generation: u32,
    work: Work,
}

/// A place in the sources.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    source: usize,
    edge: Edge,
}

#[derive(Debug)]
enum Stage {
    Mapping(Cursor),
    Looking(Run, Judge),
    Writing(Run, Box<Output>),
    Done,
}

/// Adjacent sources that become one segment.
#[derive(Clone, Debug)]
struct Run {
    sources: Range<usize>,
    at: Cursor,
}

impl Pass {
    /// A pass that has done nothing yet. Without sources there is nothing to make one of.
    pub fn new(scope: Scope) -> Pass {
        let last = scope.sources.last().expect("a pass has sources");
        let end = last.end;
        let dirty_from = scope.dirty_from.max(scope.start);
        // No offset has more than one record.
        let records_max = usize::try_from(end.0.saturating_sub(dirty_from.0)).unwrap_or(0);
        let first = scope.sources.partition_point(|source| source.end <= dirty_from);
        Pass {
            fingerprints: Fingerprints::new(scope.secret),
            map: OffsetMap::new(scope.map_bytes_max, records_max),
            outcomes: Outcomes::default(),
            gone: 0,
            end,
            stage: Stage::Mapping(Cursor { source: first, edge: Edge::default() }),
            judge: Judge::default(),
            next_generation: scope.generation,
            work: Work::default(),
            scope,
        }
    }

    /// The partition that it compacts.
    pub fn partition(&self) -> TopicPartition {
        self.scope.partition
    }

    /// Where what it was given to read ends.
    pub fn sources_end(&self) -> Offset {
        self.scope.sources_end()
    }

    /// What it has done so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// The segment that it goes on with. It cannot without.
    pub fn current_source(&self) -> Option<SegmentName> {
        let source = match &self.stage {
            Stage::Mapping(at) => at.source,
            Stage::Looking(run, _) | Stage::Writing(run, _) => run.sources.start,
            Stage::Done => return None,
        };
        self.scope.sources.get(source).map(|source| source.name)
    }

    /// The log lets go of its segments below `base`, where one begins: the pass copies what lies behind, and nothing of
    /// them. Returns what it has written of them, which is of no use.
    ///
    /// What it knows of transactions may come from batches that are gone. Their markers then stay for one pass more.
    pub fn let_go(&mut self, base: Offset) -> Option<SegmentName> {
        self.gone = self.scope.sources.partition_point(|source| source.name.base < base);
        match &self.stage {
            Stage::Looking(run, _) | Stage::Writing(run, _) if run.sources.start < self.gone => {
                let unfinished = self.unfinished();
                self.next_run(self.gone);
                unfinished
            }
            _ => None,
        }
    }

    /// The log did not take the last new segment, because it lets go of its segments below `base`: what of that one lies
    /// behind is copied again.
    pub fn begin_again(&mut self, base: Offset) {
        self.gone = self.scope.sources.partition_point(|source| source.name.base < base);
        self.next_run(self.gone);
    }

    /// The segment that it is writing, which is of no use if the pass ends here.
    pub fn unfinished(&self) -> Option<SegmentName> {
        match &self.stage {
            Stage::Writing(_, output) => Some(output.name()),
            _ => None,
        }
    }

    /// Goes on by one step.
    ///
    /// # Errors
    /// The first [`DiskError`]; the pass is then good for nothing more.
    pub fn step(&mut self, files: &dyn Files) -> Result<Progress, DiskError> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Mapping(at) => self.map(at, files),
            Stage::Looking(run, before) => self.look(run, before, files),
            Stage::Writing(run, output) => self.write(run, output, files),
            Stage::Done => Ok(Progress::Done(self.end)),
        }
    }

    /// Reads the next chunks of the sources below `end`; `None` at the end of them.
    fn read(&mut self, at: &mut Cursor, end: usize, files: &dyn Files) -> Result<Option<Bytes>, DiskError> {
        while at.source < end {
            let source = &self.scope.sources[at.source];
            if at.edge.entries < source.entries {
                let (bytes, next) = read_chunks(files, source.name, source.entries, at.edge)?;
                self.work.bytes_read += bytes.len() as u64;
                at.edge = next;
                return Ok(Some(if source.is_cut { below(source.end, bytes) } else { bytes }));
            }
            *at = Cursor { source: at.source + 1, edge: Edge::default() };
        }
        Ok(None)
    }

    // Mapping.

    fn map(&mut self, mut at: Cursor, files: &dyn Files) -> Result<Progress, DiskError> {
        let Some(bytes) = self.read(&mut at, self.scope.sources.len(), files)? else {
            return Ok(self.end_mapping(self.end));
        };
        for found in Scan::heads(&bytes).map_while(Result::ok) {
            if let Some(full_at) = self.map_batch(&bytes[found.range], &found.head) {
                return Ok(self.end_mapping(full_at));
            }
        }
        self.stage = Stage::Mapping(at);
        Ok(Progress::Ahead)
    }

    /// Remembers the keys of a batch. Returns where the map was full, if it was.
    fn map_batch(&mut self, batch: &[u8], head: &BatchHead) -> Option<Offset> {
        let from = self.scope.dirty_from.max(self.scope.start);
        if head.last_offset() < from {
            return None;
        }
        if head.attributes.is_control() {
            if let Some(marker) = Marker::of(batch, head) {
                let committed = self.outcomes.decided(head.producer_id, head.base_offset, marker);
                committed.into_iter().for_each(|(key, offset)| self.map.put(key, offset));
            }
            return None;
        }
        let is_transactional = head.attributes.is_transactional();
        if is_transactional {
            self.outcomes.begun(head.producer_id, head.base_offset);
        }
        let mut records = Records::open(batch, DECOMPRESSED_BYTES_MAX).ok()?;
        // A batch that cannot be read on, although it once was, stays as it is: its keys take no other record away.
        while let Ok(Some(record)) = records.next_record() {
            let Some(key) = record.key.filter(|_| record.offset >= from) else { continue };
            if self.map.room() <= self.outcomes.pending() {
                return Some(if is_transactional { head.base_offset } else { record.offset });
            }
            let key = self.fingerprints.of(key);
            if is_transactional {
                self.outcomes.wrote(head.producer_id, key, record.offset);
            } else {
                self.map.put(key, record.offset);
            }
        }
        None
    }

    fn end_mapping(&mut self, read_to: Offset) -> Progress {
        self.end = self.outcomes.undecided().map_or(read_to, |first| first.min(read_to));
        if self.end <= self.scope.dirty_from.max(self.scope.start) && read_to < self.scope.sources_end() {
            let bytes = self.scope.map_bytes_max;
            return Progress::Stuck(format!("the keys of one transaction do not fit into {bytes} bytes"));
        }
        self.next_run(self.gone)
    }

    // Rewriting.

    /// Goes on with the sources from `first` on.
    fn next_run(&mut self, first: usize) -> Progress {
        let sources = &self.scope.sources;
        if sources.get(first).is_none_or(|source| source.name.base >= self.end) {
            self.stage = Stage::Done;
            return Progress::Done(self.end);
        }
        let mut bytes = 0;
        let fitting = sources[first..].iter().take_while(|source| {
            bytes += source.bytes;
            bytes <= self.scope.segment_bytes && source.name.base < self.end
        });
        let count = fitting.count().max(1);
        let run = Run { sources: first..first + count, at: Cursor { source: first, edge: Edge::default() } };
        // Of a segment that was cut, a replay may begin where less of it was on disk than when it was cut, and must not be
        // told how many entries its index has: its own replacement says where it ends before another one seals it.
        if count > 1 || sources[first].is_cut {
            return self.begin_writing(run);
        }
        self.stage = Stage::Looking(run, self.judge.clone());
        Progress::Ahead
    }

    /// Begins a new segment, if there is a number left for its files.
    fn begin_writing(&mut self, run: Run) -> Progress {
        let Some(next) = self.next_generation.checked_add(1).filter(|&next| next <= SegmentName::AFTER_CUT) else {
            return Progress::Stuck("there are no more numbers for new segments".into());
        };
        let base = self.scope.sources[run.sources.start].name.base;
        let name = SegmentName { partition: self.scope.partition, base, generation: self.next_generation };
        self.next_generation = next;
        self.stage = Stage::Writing(run, Box::new(Output::new(name)));
        Progress::Ahead
    }

    fn run_end(&self, run: &Run) -> Offset {
        self.scope.sources[run.sources.end - 1].end
    }

    /// Looks whether anything of a run of one goes; `before` is what was known where it begins.
    fn look(&mut self, mut run: Run, before: Judge, files: &dyn Files) -> Result<Progress, DiskError> {
        let Some(bytes) = self.read(&mut run.at, run.sources.end, files)? else {
            return Ok(self.next_run(run.sources.end));
        };
        let end = self.run_end(&run);
        for found in Scan::heads(&bytes).map_while(Result::ok) {
            if self.judge(&bytes[found.range], &found.head, end).fate != Fate::Stays {
                run.at = Cursor { source: run.sources.start, edge: Edge::default() };
                self.judge = before;
                return Ok(self.begin_writing(run));
            }
        }
        self.stage = Stage::Looking(run, before);
        Ok(Progress::Ahead)
    }

    /// A run has no batch, since the log was cut in a gap where its segment begins: it goes on with the next segment. The
    /// last one is left as it is, since nothing is sealed behind it.
    fn join_next(&self, run: &mut Run) -> Progress {
        match self.scope.sources.get(run.sources.end).is_some_and(|next| next.name.base < self.end) {
            true => {
                run.sources.end += 1;
                Progress::Ahead
            }
            false => Progress::Done(self.end),
        }
    }

    fn write(&mut self, mut run: Run, mut output: Box<Output>, files: &dyn Files) -> Result<Progress, DiskError> {
        let result = self.write_on(&mut run, &mut output, files);
        if !matches!(result, Ok(Progress::Replaced(..) | Progress::Done(_))) {
            // Where it failed, for whoever clears up.
            self.stage = Stage::Writing(run, output);
        }
        result
    }

    fn write_on(&mut self, run: &mut Run, output: &mut Output, files: &dyn Files) -> Result<Progress, DiskError> {
        let Some(bytes) = self.read(&mut run.at, run.sources.end, files)? else {
            if let Some(last) = output.take_passed() {
                let shell = emptied(&last);
                if !output.has_room(shell.len()) {
                    return Ok(Progress::Stuck(TOO_LARGE.into()));
                }
                output.push(shell);
            }
            if output.is_empty() {
                return Ok(self.join_next(run));
            }
            self.work.bytes_written += output.unwritten_bytes();
            let (bytes, entries) = output.finish(files)?;
            let last = &self.scope.sources[run.sources.end - 1];
            let replacement = Replacement {
                base: output.name().base,
                end: last.end,
                generation: output.name().generation,
                bytes,
                entries,
                max_timestamp: output.max_timestamp(),
                since: last.since,
            };
            let replaced = self.scope.sources[run.sources.clone()].iter().map(|source| source.name).collect();
            // Whether there is another run, the next step says.
            self.next_run(run.sources.end);
            return Ok(Progress::Replaced(replacement, replaced));
        };
        let end = self.run_end(run);
        for found in Scan::heads(&bytes).map_while(Result::ok) {
            let batch = bytes.slice(found.range);
            let verdict = self.judge(&batch, &found.head, end);
            self.work.records_removed += verdict.removed;
            self.work.records_without_key += verdict.without_key;
            if let Some(batch) = verdict.batch_of(&batch, &found.head, self) {
                if !output.has_room(batch.len()) {
                    return Ok(Progress::Stuck(TOO_LARGE.into()));
                }
                output.push(batch);
            } else {
                output.pass_over(found.head);
            }
        }
        self.work.bytes_written += output.write(files)?;
        Ok(Progress::Ahead)
    }
}

/// The first of these batches, those that lie below `end`.
fn below(end: Offset, batches: Bytes) -> Bytes {
    let mut heads = Scan::heads(&batches).map_while(Result::ok);
    let first_behind = heads.find(|found| found.head.base_offset >= end);
    let bytes = first_behind.map_or(batches.len(), |found| found.range.start);
    batches.slice(..bytes)
}

impl Scope {
    fn sources_end(&self) -> Offset {
        self.sources.last().expect("a pass has sources").end
    }
}
