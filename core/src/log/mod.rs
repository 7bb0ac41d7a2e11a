//! One partition's log on one replica: what is appended, what is on disk, what may be read from where.
//!
//! Every change is a record in the journal; [`Log::replay`] takes the same records again after a restart. Segments are
//! written behind, in the order of offsets: `flushing ≥ written ≥ synced`, each an offset at a batch's edge. A batch
//! stays in memory until it is synced in its segment, since until then the journal is its only other home.
//! What is not here: who may append (the partition) and when to flush, sync or drop (the node).

mod compaction;
mod cut;
mod damage;
mod epochs;
mod flush;
mod follow;
mod index;
mod invariants;
mod mend;
mod payload;
mod producers;
mod read;
mod search;
mod segment;
mod state;
mod stream;
mod tail;
#[cfg(test)]
mod tests;
mod told;
mod undo;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::batch::{BatchHead, VerifiedBatch};
use crate::boundary::{DirectWrite, SegmentName, Task};
use crate::ids::{LeaderEpoch, Lsn, Offset, TopicPartition};
use crate::journal::{self, RecordKind};
use crate::time::Timestamp;

pub use compaction::{Dirt, Replacement, Seal, Source};
pub use cut::CUT_BYTES;
pub use damage::{damage_of, damaged_state};
pub use epochs::Epochs;
pub use follow::Misfit;
pub(crate) use index::Indexer;
pub use mend::{Mend, Mended};
pub use payload::PayloadError;
pub use producers::{Producer, Producers, Remembered, Sequence};
pub(crate) use read::{DECOMPRESSED_BYTES_MAX, read_chunks};
pub use read::{Edge, Opened, Place, ReadOutcome, ReadPlan, Sought};
pub use search::{Search, Wanted};
pub use segment::{Mark, Segment};
pub use state::{Bodies, newest_of};
pub use stream::Run;
pub use tail::{Released, TailBatch};
pub use told::{Told, told};

/// Bytes of a segment, which an index entry counts in 32 bits.
const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;

/// The log of one partition.
#[derive(Debug)]
pub struct Log {
    partition: TopicPartition,
    start: Offset,
    /// Where it is to start once the journal is durable up to the LSN of each, in order.
    cuts: VecDeque<(Lsn, Cut)>,
    end: Offset,
    durable: Offset,
    /// Ends that are durable once the journal is durable up to their LSN, in order.
    ends: VecDeque<(Lsn, Offset)>,
    /// The LSN of this partition's newest journal record.
    newest: Option<Lsn>,
    /// Oldest first; the last one is active. Never empty.
    segments: VecDeque<Segment>,
    tail: tail::Tail,
    epochs: Epochs,
    producers: Producers,
    /// Everything below is compacted: of each key only the newest record is there, as far as it lies below.
    clean_to: Offset,
    /// The journal knows that the segments below are all on disk.
    sealed_to: Offset,
    /// Everything below is held by the whole in-sync set, as far as is known.
    high_watermark: Offset,
    /// What the batches above it replaced.
    undo: undo::Undo,
    /// Cuts of the end that the journal has not made durable: the LSN up to which it must be, and the segments that are
    /// gone then.
    cutting: VecDeque<(Lsn, Vec<SegmentName>)>,
    /// The LSN of the newest cut of the end.
    newest_cut: Option<Lsn>,
    /// The number of the files of segments to come: 0, or another one since each cut of the end.
    lineage: u32,
    /// The flush that the disk has not finished.
    flushing: Option<flush::Flushing>,
    /// After a start from a checkpoint: batches from this offset on are still to come from the journal, whose effect
    /// on everything but memory the checkpoint contains.
    awaited: Option<Offset>,
    /// The batches that a start found without their bodies, and why.
    lost: BTreeMap<Offset, String>,
}

/// What becomes of the beginning of a log.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// The first offset that is kept.
    start: Offset,
    /// The base of the first segment that is kept. It is settled with the start: a segment that begins before the cut is
    /// made must not change what replay finds.
    base: Offset,
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base: Offset,
    /// The offset after its last record.
    pub end: Offset,
    /// It is durable once the journal is durable up to here.
    pub lsn: Lsn,
}

/// How a batch comes to disk before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Whole, in the journal.
    Journal,
    /// Its blocks straight in its segment, where they stay; the rest of it in the journal.
    Direct,
}

/// Where the batches from an offset on are.
#[derive(Debug)]
pub enum Read {
    /// At the end: nothing to read yet.
    Nothing,
    /// In memory, as slices one after another, and how many bytes they are.
    Memory(SmallVec<[Bytes; 2]>, usize),
    /// On disk, and how many bytes the read brings at most.
    Disk(ReadPlan, usize),
}

impl Log {
    /// An empty log.
    pub fn new(partition: TopicPartition) -> Log {
        Log {
            partition,
            start: Offset(0),
            cuts: VecDeque::new(),
            end: Offset(0),
            durable: Offset(0),
            ends: VecDeque::new(),
            newest: None,
            segments: VecDeque::from([Segment::new(Offset(0))]),
            tail: tail::Tail::default(),
            epochs: Epochs::default(),
            producers: Producers::default(),
            clean_to: Offset(0),
            sealed_to: Offset(0),
            high_watermark: Offset(0),
            undo: undo::Undo::default(),
            cutting: VecDeque::new(),
            newest_cut: None,
            lineage: 0,
            flushing: None,
            awaited: None,
            lost: BTreeMap::new(),
        }
    }

    /// An empty log of a partition that had another one here before, whose newest files had the number `lineage`.
    pub fn after(partition: TopicPartition, lineage: u32) -> Log {
        Log { lineage, ..Log::new(partition) }
    }

    /// The number of the files of segments to come: 0, or another one since each cut of the end.
    pub fn lineage(&self) -> u32 {
        self.lineage
    }

    /// The first offset still kept, as far as the disk has confirmed it: it never goes back, unless the log begins anew.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The first offset kept once the journal is durable.
    pub fn coming_start(&self) -> Offset {
        self.coming_cut().start
    }

    /// The offset that the next record will get.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The end as far as the disk has confirmed it.
    pub fn durable_end(&self) -> Offset {
        self.durable
    }

    /// Its leader epochs.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Its producers.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Bytes of batches held in memory.
    pub fn tail_bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// Whether it has let go of batches since [`Log::take_released`].
    pub fn has_released(&self) -> bool {
        self.tail.has_released()
    }

    /// The batches in memory that it has let go of since this was asked last.
    pub fn take_released(&mut self) -> Released {
        self.tail.take_released()
    }

    /// Lets go of all batches in memory: it is of no use any more.
    pub fn release(mut self) -> Released {
        self.tail.release_all();
        self.tail.take_released()
    }

    /// The segments, oldest first; the last one is active.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> + ExactSizeIterator {
        self.segments.iter()
    }

    /// Bytes of the log from its oldest segment on.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The LSN of the oldest batch that is in memory only, which the journal must keep.
    pub fn oldest_unsynced(&self) -> Option<Lsn> {
        let synced = self.synced();
        self.tail.from(synced).next().map(|batch| batch.lsn)
    }

    /// The newest record of the journal that it contains, if it contains any.
    pub fn newest(&self) -> Option<Lsn> {
        self.newest
    }

    /// The name of a segment's files.
    pub fn name_of(&self, segment: &Segment) -> SegmentName {
        SegmentName { partition: self.partition, base: segment.base, generation: segment.generation }
    }

    fn active_name(&self) -> SegmentName {
        self.name_of(self.segments.back().expect("a log always has a segment"))
    }

    /// Where its oldest segment begins.
    pub fn first_base(&self) -> Offset {
        self.segments[0].base
    }

    /// Whether it has a segment with these files.
    pub fn has_segment(&self, name: SegmentName) -> bool {
        let found = self.segments.binary_search_by_key(&name.base, |segment| segment.base);
        found.is_ok_and(|at| self.name_of(&self.segments[at]) == name)
    }

    fn active(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("a log always has a segment")
    }

    /// Judges a batch's producer id, epoch and sequence: see [`Producers::judge`].
    ///
    /// # Errors
    /// As [`Producers::judge`].
    pub fn judge(&self, head: &BatchHead) -> Result<Sequence, crate::wire::ErrorCode> {
        self.producers.judge(head)
    }

    /// Begins a leader epoch at the end of the log, before its first append (KIP-101).
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch, journal: &mut journal::Writer) {
        if self.epochs.latest().is_none_or(|latest| latest < epoch) {
            let payload = payload::epoch_start(epoch, self.end);
            self.record(journal, RecordKind::EpochStart, &[&payload]);
            self.epochs.begin(epoch, self.end);
        }
    }

    /// Appends a batch at the end.
    pub fn append(
        &mut self,
        batch: &VerifiedBatch,
        epoch: LeaderEpoch,
        now: Timestamp,
        way: Way,
        journal: &mut journal::Writer,
    ) -> (Appended, Option<DirectWrite>) {
        self.put(&batch.head().assigned(self.end, epoch), batch.body(), now, way, journal)
    }

    /// Appends a batch that has its place.
    fn put(
        &mut self,
        head: &BatchHead,
        body: &Bytes,
        now: Timestamp,
        way: Way,
        journal: &mut journal::Writer,
    ) -> (Appended, Option<DirectWrite>) {
        self.make_way(head.base_offset);
        let head_bytes = head.to_bytes();
        let mut tail = self.tail.batch(head, &head_bytes, body);
        tail.position = self.active().bytes;
        let mut write = None;
        tail.lsn = match tail.blocks().filter(|_| way == Way::Direct) {
            Some(blocks) => {
                let position = tail.position + blocks.start as u64;
                write = Some(DirectWrite {
                    segment: self.active_name(),
                    position,
                    pieces: tail.range(blocks.clone()).collect(),
                });
                tail.direct = Some(Box::new(blocks));
                let payload = payload::direct(now, head, &tail);
                self.record(journal, RecordKind::AppendDirect, &[&payload])
            }
            None => self.record(journal, RecordKind::Append, &[&payload::taken(now), &head_bytes, body]),
        };
        self.take(tail, head, now);
        let end = journal.end();
        match self.ends.back_mut() {
            Some(last) if journal.is_in_open_commit(last.0) => *last = (end, self.end),
            _ => self.ends.push_back((end, self.end)),
        }
        (Appended { base: head.base_offset, end: self.end, lsn: end }, write)
    }

    /// Whether blocks are reserved for a batch of `bytes` at the end of the active segment.
    pub fn is_allocated(&self, bytes: u64) -> bool {
        self.segments.back().is_some_and(|active| active.bytes + bytes <= active.allocated)
    }

    /// Has blocks reserved ahead of the end of the active segment, `ahead` bytes.
    pub fn allocate(&self, ahead: u64) -> Task {
        let active = self.segments.back().expect("a log always has a segment");
        Task::Allocate { segment: self.name_of(active), position: active.bytes, bytes: ahead }
    }

    /// Blocks are reserved up to `position` of a segment.
    pub fn allocated(&mut self, name: SegmentName, position: u64) {
        let is_it = |segment: &&mut Segment| (segment.base, segment.generation) == (name.base, name.generation);
        if let Some(segment) = self.segments.iter_mut().rev().find(is_it) {
            segment.allocated = segment.allocated.max(position);
        }
    }

    /// Puts a batch at the end of memory, segment, epochs and producers.
    fn take(&mut self, mut batch: TailBatch, head: &BatchHead, seen: Timestamp) {
        let before = self.filled();
        self.epochs.wrote(head.leader_epoch, batch.base.max(self.coming_start()));
        let change = self.producers.appended(head, batch.base, seen);
        self.end = Offset(batch.last.0 + 1);
        let (base, end) = (batch.base, self.end);
        let max_timestamp = self.active().max_timestamp;
        self.undo.push(undo::Entry { base, end, before, max_timestamp, change });
        let active = self.active();
        batch.position = active.bytes;
        active.take(&batch, seen);
        self.tail.push(batch);
    }

    fn record(&mut self, journal: &mut journal::Writer, kind: RecordKind, payload: &[&[u8]]) -> Lsn {
        let lsn = journal.append(kind, self.partition, self.newest, payload);
        self.newest = Some(lsn);
        lsn
    }

    /// Begins a new segment at the end; does nothing where the active one is empty.
    pub fn roll(&mut self, journal: &mut journal::Writer) {
        if self.active().bytes > 0 {
            let payload = payload::offset(self.end);
            self.record(journal, RecordKind::Roll, &[&payload]);
            self.close_active(self.end);
        }
    }

    fn close_active(&mut self, next: Offset) {
        self.active().holds_reserve = true;
        let generation = self.lineage;
        self.segments.push_back(Segment { generation, ..Segment::new(next) });
    }

    /// Gives back what is reserved beyond the end of a closed segment, where no flush will: the last one came before the
    /// segment was closed.
    pub fn trim(&mut self) -> Option<Task> {
        if self.is_cutting() {
            // Bodies that lie behind the cut count again if it is undone by a crash.
            return None;
        }
        let is_whole = |segment: &&mut Segment| segment.holds_reserve && segment.written == segment.bytes;
        let segment = self.segments.iter_mut().find(is_whole)?;
        segment.holds_reserve = false;
        let (base, generation, bytes) = (segment.base, segment.generation, segment.file_bytes());
        Some(Task::Trim { segment: SegmentName { partition: self.partition, base, generation }, bytes })
    }

    /// Moves the log start up to `to`, at most to the end. It moves when the journal is durable up to the LSN returned,
    /// and until then everything is read as before; `None` where it is as far already, or will be.
    pub fn advance_start(&mut self, to: Offset, journal: &mut journal::Writer) -> Option<Lsn> {
        let to = to.min(self.end);
        if to <= self.coming_start() {
            return None;
        }
        let payload = payload::offset(to);
        self.record(journal, RecordKind::LogStart, &[&payload]);
        let lsn = journal.end();
        self.cuts.push_back((lsn, self.cut_at(to)));
        Some(lsn)
    }

    /// Whether segments go when the log start moves up to `to`.
    pub fn frees_segments(&self, to: Offset) -> bool {
        self.cut_at(to.min(self.end)).base > self.coming_cut().base
    }

    fn cut_at(&self, start: Offset) -> Cut {
        let first = self.segments.partition_point(|segment| segment.base <= start).max(1) - 1;
        Cut { start, base: self.segments[first].base }
    }

    /// The cut that stands once the journal is durable.
    fn coming_cut(&self) -> Cut {
        let made = Cut { start: self.start, base: self.segments[0].base };
        self.cuts.back().map_or(made, |&(_, cut)| cut)
    }

    /// Makes a cut of the beginning. Returns the segments that are gone.
    fn cut_start(&mut self, cut: Cut) -> Vec<SegmentName> {
        self.start = cut.start;
        self.epochs.cut_start(cut.start);
        let kept = self.segments.partition_point(|segment| segment.base < cut.base);
        let gone = self.segments.range(..kept).map(|segment| self.name_of(segment)).collect();
        self.segments.drain(..kept);
        self.tail.release_below(cut.base);
        gone
    }

    /// Whether the journal lacks a record of this partition before the one at `lsn`, which names `previous`.
    pub fn is_missing(&self, lsn: Lsn, previous: Option<Lsn>) -> bool {
        self.newest.is_none_or(|newest| newest < lsn) && previous > self.newest
    }

    /// Takes note that the journal is durable up to `lsn`. Returns the segments that lie wholly below the log start, or
    /// behind a cut of the end, by that; their files may be removed once no checkpoint names them.
    pub fn confirm(&mut self, lsn: Lsn) -> Vec<SegmentName> {
        while let Some(&(needed, end)) = self.ends.front() {
            if needed > lsn {
                break;
            }
            self.durable = end;
            self.ends.pop_front();
        }
        let mut gone = Vec::new();
        while self.cutting.front().is_some_and(|(needed, _)| *needed <= lsn) {
            gone.extend(self.cutting.pop_front().into_iter().flat_map(|(_, cut_off)| cut_off));
        }
        while let Some(&(needed, cut)) = self.cuts.front() {
            if needed > lsn {
                break;
            }
            self.cuts.pop_front();
            gone.extend(self.cut_start(cut));
        }
        gone
    }

    /// Bytes of the batches in memory between two offsets.
    pub fn bytes_between(&self, from: Offset, to: Offset) -> usize {
        self.tail.from(from).take_while(|batch| batch.last < to).map(TailBatch::bytes).sum()
    }

    /// The place of the segment that `offset` belongs to.
    fn index_of(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).max(1) - 1
    }

    /// Whether the batch that holds `offset`, or the next one, is in memory. Between what is on disk and what is in memory
    /// there may be a gap.
    fn is_next_in_memory(&self, offset: Offset) -> bool {
        let is_written = || offset < self.segments[self.index_of(offset)].written_to;
        self.tail.start().is_some_and(|start| start <= offset || !is_written())
    }

    /// Finds the batches from `offset` on that lie below `limit`: at most `max_bytes`, but always one whole batch.
    pub fn read(&self, offset: Offset, limit: Offset, max_bytes: usize) -> Read {
        if offset >= limit {
            return Read::Nothing;
        }
        let index = self.index_of(offset);
        let segment = &self.segments[index];
        if self.is_next_in_memory(offset) {
            let mut slices = SmallVec::new();
            let mut total = 0;
            for batch in self.tail.from(offset) {
                if batch.last >= limit || (total > 0 && total + batch.bytes() > max_bytes) {
                    break;
                }
                total += batch.bytes();
                slices.extend(batch.slices());
            }
            return if total == 0 { Read::Nothing } else { Read::Memory(slices, total) };
        }
        // Behind its end may lie what was cut.
        let limit = self.segments.get(index + 1).map_or(limit, |next| next.base.min(limit));
        // Not only up to where memory begins: what memory holds there, compaction may have taken out of the segment, with
        // all that lies before it.
        // What is read for it elsewhere, where the segment has gone meanwhile, is no more than this either.
        let max_bytes = max_bytes.min(usize::try_from(segment.bytes).unwrap_or(usize::MAX));
        let plan = ReadPlan {
            place: self.place(segment),
            sought: Sought::Batches { from: offset, below: limit, max_bytes, at_least_one: true },
        };
        Read::Disk(plan, max_bytes)
    }

    /// How to read the records from `from` on that lie below `below`, `max_bytes` bytes of batches at a time; `None` where
    /// there are none. Where the outcome is nothing, the log goes on behind a gap: see [`Log::after_gap`].
    pub fn plan_for_records(&self, from: Offset, below: Offset, max_bytes: usize) -> Option<ReadPlan> {
        let (place, below) = match self.read(from, below, max_bytes) {
            Read::Nothing => return None,
            Read::Memory(slices, _) => (Place::Memory(slices.concat().into()), below),
            Read::Disk(ReadPlan { place, sought: Sought::Batches { below, .. } }, _) => (place, below),
            Read::Disk(..) => unreachable!("a read is for batches"),
        };
        Some(ReadPlan { place, sought: Sought::Records { from, below, max_bytes } })
    }

    /// Where batches may begin that come after `offset`, where the place that should hold it has none: at the next
    /// segment, or with what is in memory, or at the end.
    pub fn after_gap(&self, offset: Offset) -> Offset {
        let bases = self.segments.iter().map(|segment| segment.base);
        let places = bases.chain(self.tail.start()).filter(|&base| base > offset);
        places.min().unwrap_or(self.end)
    }

    fn place(&self, segment: &Segment) -> Place {
        Place::Segment { segment: self.name_of(segment), entries: segment.entries }
    }

    /// The closed segments that begin at or after `from` and are all on disk.
    pub fn closed_segments(&self, from: Offset) -> impl Iterator<Item = &Segment> {
        let first = self.segments.partition_point(|segment| segment.base < from);
        let closed = self.segments.range(first.min(self.segments.len() - 1)..self.segments.len() - 1);
        closed.filter(|segment| segment.bytes > 0 && segment.is_synced())
    }

    /// How to look for damage in one of its segments from a place on.
    pub fn plan_for_damage(&self, segment: &Segment, from: Edge) -> ReadPlan {
        ReadPlan { place: self.place(segment), sought: Sought::Damage(from) }
    }

    /// How to begin with making damaged entries of a segment's index again; `None` where it has no such segment.
    pub fn plan_to_mend(&self, name: SegmentName) -> Option<ReadPlan> {
        let at = self.segments.binary_search_by_key(&name.base, |segment| segment.base).ok()?;
        let segment = Some(&self.segments[at]).filter(|&segment| self.name_of(segment) == name)?;
        let whole = match segment.is_cut {
            // What lies behind its end is indexed too.
            true => Mark { to: Offset(i64::MAX), ..segment.mark() },
            false => segment.mark(),
        };
        Some(ReadPlan { place: self.place(segment), sought: Sought::Index(Mend::new(segment.base, whole)) })
    }

    /// The offset up to which the segments on disk are synced.
    fn synced(&self) -> Offset {
        self.segments.iter().rev().find_map(Segment::synced).unwrap_or(self.segments[0].base).max(self.segments[0].base)
    }

    /// Forgets producers that wrote nothing since `before`.
    pub fn expire_producers(&mut self, before: Timestamp) {
        self.producers.expire(before);
    }

    /// Makes it remember so many producers, each with as many batches as it may.
    #[cfg(test)]
    pub(crate) fn remember_producers(&mut self, count: usize) {
        let zero = Remembered {
            first_sequence: 0,
            last_sequence: 0,
            base: Offset(0),
            last: Offset(0),
            timestamp: Timestamp(0),
        };
        for id in 0..i64::try_from(count).expect("few") {
            let batches = SmallVec::from_elem(zero, producers::BATCHES_REMEMBERED);
            let producer = Producer { epoch: crate::ids::ProducerEpoch(0), batches, seen: Timestamp(i64::MAX) };
            self.producers.restore(crate::ids::ProducerId(id), producer);
        }
    }
}
