//! The node's checkpoints: what a restart begins with, so that the journal below may be used again.
//!
//! One in the making goes through these states, a slice at a time, so that no step grows with the number of partitions:
//! `Idle` → `Metadata` (the image is encoded as it is when the run begins) → `Partitions` (some at a time are flushed where
//! they have much, synced where they are dirty, and encoded with what remains) → `Durable` (the journal catches up with
//! what the encoded states contain) → `Closing` (its last part is synced) → `Idle`. No space for its own file sends it
//! from any state back to `Idle`, to begin anew; no space for a segment keeps it where it is until there is room. Each
//! state is as new as its encoding; replay skips the records that a state already contains, by their LSN.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::metadata::encode_state_head;
use super::storage::{FLUSH_AT, Job};
use super::{Node, Reason};
use crate::boundary::{FileName, Outbox, Task, TaskId};
use crate::controller::image::{MetadataImage, Snapshot};
use crate::controller::records::MetadataRecord;
use crate::ids::{Lsn, TopicPartition};
use crate::journal::checkpoint::{self, Encoder};
use crate::journal::{Position, RecordKind};
use crate::raft::SnapshotHead;
use crate::time::Now;

/// A checkpoint begins when the journal has grown by so much: two of them and what comes meanwhile fit into the ring.
const CHECKPOINT_EVERY: u64 = 96 << 20;

/// A checkpoint whose last part is on its way to disk.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    start: Position,
    /// The metadata log up to here is in it.
    head: SnapshotHead,
    is_last: bool,
}

/// A checkpoint in the making.
struct Run {
    encoder: Encoder,
    /// Where replay will start.
    start: Position,
    slot: u32,
    position: u64,
    /// The metadata log up to here is in it.
    head: SnapshotHead,
    /// What is left of the metadata.
    metadata: Option<Snapshot>,
    /// Partitions up to here are encoded.
    after: Option<TopicPartition>,
    /// The partitions that are encoded next.
    group: Option<Group>,
    /// What must end before the run goes on.
    awaits: BTreeSet<Awaited>,
    /// What the encoded states contain.
    contains: Lsn,
    encoded: bool,
    /// Whether small tails are flushed too, since memory is short of what may be let go.
    thorough: bool,
    /// Whether it was begun after the node was asked to stop, and so contains all that came before.
    is_last: bool,
}

impl Run {
    /// Whether it can do nothing before something has ended.
    fn is_waiting(&self) -> bool {
        let asks = self.group.is_some_and(|group| matches!(group.stage, Stage::Flush { .. }));
        !self.awaits.is_empty() && !asks
    }
}

/// Partitions that are made ready together, and then encoded: their files are written side by side, and the file system
/// makes them durable by fewer commits of its own.
#[derive(Clone, Copy)]
struct Group {
    /// Up to here. One that comes while the group is made ready may be among them, and is encoded as it is.
    last: TopicPartition,
    stage: Stage,
}

/// How far a group is.
#[derive(Clone, Copy)]
enum Stage {
    /// Partitions behind `after` are looked at for what is to be flushed. `again`: there was something.
    Flush {
        after: Option<TopicPartition>,
        again: bool,
    },
    /// A flush takes only so much: when these are done, there may be more.
    Again,
    /// Partitions up to `after` are synced.
    Sync {
        after: Option<TopicPartition>,
    },
    Encode,
}

const FLUSH: Stage = Stage::Flush { after: None, again: false };

/// What a run of a checkpoint waits for. Any other task that ends is none of its business: were it to go on while one of
/// its parts is on its way, it could be closed without that part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    /// The partition's flush that is in flight, whoever asked for it.
    Flush(TopicPartition),
    Task(TaskId),
}

/// The checkpoint in the making, and those that are kept.
pub(super) struct Checkpoints {
    run: Option<Run>,
    /// The last part of one is on its way to disk.
    closing: bool,
    wanted: bool,
    sequence: u64,
    /// Where replay starts in the newest two, the older one first.
    kept: VecDeque<Lsn>,
    begun_at: Lsn,
    /// What the node had written directly when the last one began.
    direct_at: u64,
    /// The next one begins when the journal is durable up to here.
    near: Option<Lsn>,
}

impl Checkpoints {
    /// After a start from the one numbered `sequence`.
    pub(super) fn new(sequence: u64, kept: VecDeque<Lsn>) -> Checkpoints {
        let begun_at = kept.back().copied().unwrap_or_default();
        Checkpoints { run: None, closing: false, wanted: false, sequence, kept, begun_at, direct_at: 0, near: None }
    }

    /// Whether one is in the making.
    pub(super) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Where replay starts in the newest two; `None` where there are not two.
    pub(super) fn newest_two(&self) -> Option<[Lsn; 2]> {
        (self.kept.len() == 2).then(|| [self.kept[0], self.kept[1]])
    }

    /// What the one in the making may have waited for is done.
    pub(super) fn go_on(&mut self, done: Awaited) {
        if let Some(run) = &mut self.run {
            run.awaits.remove(&done);
        }
    }

    /// Takes note that a record is about to be replayed into `image`.
    pub(super) fn keep_metadata(&mut self, image: &MetadataImage, record: &MetadataRecord) {
        if let Some(metadata) = self.run.as_mut().and_then(|run| run.metadata.as_mut()) {
            metadata.keep(image, record);
        }
    }

    /// Another image has taken the place of the one that is being encoded: it begins anew.
    pub(super) fn abandon_image(&mut self) {
        if self.run.take().is_some() {
            self.wanted = true;
        }
    }

    /// There was no room for it: it begins anew.
    pub(super) fn abandon(&mut self) {
        (self.run, self.closing, self.wanted) = (None, false, true);
    }
}

/// Metadata records that are encoded in one step, at about 0.25 µs each.
const METADATA_AT_ONCE: usize = 250;

/// How much of a group one step has flushed: as a part of the partitions that a step looks at, and in pieces of memory, at
/// some 0.1 µs each.
pub(super) const FLUSHED_PART: usize = 8;
const PIECES_AT_ONCE: usize = 1_000;

/// How much of a group one task syncs, so that others have the disk's background thread in between: as a part of the
/// partitions that a step looks at.
pub(super) const SYNCED_PART: usize = 4;

/// Set in the kind of a checkpoint's entry where the next entry goes on with it.
pub(super) const GOES_ON: u8 = 0x80;

/// How much of a state one entry of a checkpoint holds, in bytes.
const STATE_PART_BYTES: usize = 8 << 20;
const _: () = assert!(STATE_PART_BYTES as u64 <= checkpoint::ENTRY_BYTES_MAX);

/// Adds a state to a checkpoint, in as many entries as it takes: what a partition has in memory or remembers of
/// producers knows no bound that an entry could have.
fn encode_entry(encoder: &mut Encoder, kind: RecordKind, partition: TopicPartition, state: &[Bytes]) {
    let mut part: Vec<&[u8]> = Vec::with_capacity(state.len());
    let mut room = STATE_PART_BYTES;
    for piece in state {
        let mut piece = &piece[..];
        while piece.len() > room {
            let (now, later) = piece.split_at(room);
            part.push(now);
            encoder.entry(kind as u8 | GOES_ON, partition, &part);
            part.clear();
            (piece, room) = (later, STATE_PART_BYTES);
        }
        room -= piece.len();
        part.push(piece);
    }
    encoder.entry(kind as u8, partition, &part);
}

impl Node {
    /// Wants a checkpoint as soon as one can begin.
    pub(super) fn checkpoint_soon(&mut self) {
        self.checkpoints.wanted = true;
    }

    pub(super) fn advance_checkpoint(&mut self, now: Now, out: &mut Outbox) {
        if self.checkpoints.closing {
            return;
        }
        if self.checkpoints.run.is_none() {
            let journalled = self.durable.0.saturating_sub(self.checkpoints.begun_at.0);
            let grown = journalled + (self.direct_bytes - self.checkpoints.direct_at) >= CHECKPOINT_EVERY;
            // The quorum's log begins behind an image that is not here yet, or the one here is of no moment of the log: there
            // is no state that the two have in common.
            let is_between = self.is_installing() || self.is_half_applied();
            if !(grown || self.checkpoints.wanted || self.is_metadata_log_long()) || is_between {
                return;
            }
            // Replay will start at what is durable: as near as possible.
            let near = self.checkpoints.near.get_or_insert(self.durable);
            if self.trusts_os && self.journal.durable() < *near {
                if !self.journal.is_in_flight() {
                    self.journal.sync_next();
                }
                return;
            }
            self.checkpoints.near = None;
            self.begin_checkpoint();
        }
        let Some(run) = &self.checkpoints.run else { return };
        if run.is_waiting() {
            return;
        }
        if !run.encoded {
            self.encode_next(now, out);
        }
        self.close_checkpoint(out);
    }

    fn begin_checkpoint(&mut self) {
        self.checkpoints.wanted = false;
        let start = self.journal.durable_position();
        self.checkpoints.begun_at = start.lsn;
        self.checkpoints.direct_at = self.direct_bytes;
        let header =
            checkpoint::Header { journal: self.directory_id, sequence: self.checkpoints.sequence + 1, replay: start };
        let mut encoder = Encoder::new(header);
        let head = self.snapshot_head();
        for record in self.quorum_state(&head) {
            encoder.entry(RecordKind::Quorum as u8, TopicPartition::NODE, &[&record]);
        }
        let image = self.controller.image();
        let state_head = encode_state_head(image.index(), self.metadata.newest());
        encoder.entry(RecordKind::NodeState as u8 | GOES_ON, TopicPartition::NODE, &[&state_head]);
        let metadata = Some(Snapshot::begin(image));
        self.storage.removals.condemn();
        let thorough = self.tails.bytes() > self.limits.tail_cache_bytes as u64 / 2;
        self.checkpoints.run = Some(Run {
            encoder,
            start,
            slot: header.slot(),
            position: 0,
            head,
            metadata,
            after: None,
            group: None,
            awaits: BTreeSet::new(),
            contains: self.journal.end(),
            encoded: false,
            thorough,
            is_last: self.stopping,
        });
    }

    /// Goes on for one slice.
    fn encode_next(&mut self, now: Now, out: &mut Outbox) {
        let mut run = self.checkpoints.run.take().expect("a run");
        // What is full goes out first, so that the encoder never holds much more than a chunk and one partition's state.
        let chunks: Vec<Bytes> = std::iter::from_fn(|| run.encoder.take_chunk()).collect();
        if !chunks.is_empty() {
            let bytes: usize = chunks.iter().map(Bytes::len).sum();
            let task = Task::Checkpoint { slot: run.slot, position: run.position, chunks, last: false };
            run.position += bytes as u64;
            run.awaits.insert(Awaited::Task(self.storage.push(Job::Checkpoint, task, out)));
        } else if !self.encode_metadata(&mut run) {
            self.encode_partitions(&mut run, out);
        }
        if !run.is_waiting() && !run.encoded {
            self.deadlines.insert((now.instant, Reason::Continue));
        }
        self.checkpoints.run = Some(run);
    }

    /// Encodes the next metadata, and says whether there is more.
    fn encode_metadata(&self, run: &mut Run) -> bool {
        let Some(metadata) = &mut run.metadata else { return false };
        let (part, goes_on) = metadata.next_part(self.controller.image(), METADATA_AT_ONCE);
        let kind = RecordKind::NodeState as u8 | if goes_on { GOES_ON } else { 0 };
        run.encoder.entry(kind, TopicPartition::NODE, &[&part]);
        if !goes_on {
            run.metadata = None;
        }
        goes_on
    }

    /// Has the next partitions flushed and synced, and then encodes them, as far as it can without waiting.
    fn encode_partitions(&mut self, run: &mut Run, out: &mut Outbox) {
        let next = self.partitions_after(run.after, self.limits.partitions_at_once);
        run.contains = self.journal.end();
        let Some(&(newest, _)) = next.last() else {
            run.encoded = true;
            return;
        };
        let Group { last, mut stage } = run.group.unwrap_or(Group { last: newest, stage: FLUSH });
        // Whose topic is deleted waits to be let go of.
        let stays = |id: TopicPartition| self.controller.image().topic(id.topic).is_some();
        let next: Vec<_> = next.into_iter().filter(|&(id, _)| id <= last && stays(id)).collect();
        loop {
            stage = match stage {
                Stage::Flush { after, again } => {
                    let goes_on = self.flush_some(run, &next, after, again, out);
                    run.group = Some(Group { last, stage: goes_on });
                    if matches!(goes_on, Stage::Flush { .. }) {
                        return;
                    }
                    goes_on
                }
                Stage::Again => FLUSH,
                Stage::Sync { after } => self.sync_some(run, &next, after, out),
                Stage::Encode => {
                    let is_whole = self.encode_group(run, &next, out);
                    if is_whole {
                        // Others may have come between them, so that these are not all up to the last one.
                        run.after = Some(last.min(newest));
                    }
                    run.group = (!is_whole).then_some(Group { last, stage });
                    return;
                }
            };
            if !run.awaits.is_empty() {
                run.group = Some(Group { last, stage });
                return;
            }
        }
    }

    /// Has some of a group's partitions flushed that lie behind `after`. Returns how to go on.
    fn flush_some(
        &mut self,
        run: &mut Run,
        group: &[(TopicPartition, u32)],
        mut after: Option<TopicPartition>,
        mut again: bool,
        out: &mut Outbox,
    ) -> Stage {
        // Only what came before the checkpoint began: under load there is always more, which the journal holds.
        let at_least = if run.thorough { 1 } else { FLUSH_AT };
        let much = usize::try_from(at_least).expect("a few hundred KiB");
        let flushed_max = (self.limits.partitions_at_once / FLUSHED_PART).max(1);
        let (mut flushed, mut pieces) = (0, 0);
        let from = group.partition_point(|&(id, _)| Some(id) <= after);
        for &(id, slot) in &group[from..] {
            if flushed == flushed_max || pieces >= PIECES_AT_ONCE {
                return Stage::Flush { after, again };
            }
            after = Some(id);
            let is_behind = self.host(slot).partition.log().has_unwritten_before(run.start.lsn, much);
            if is_behind && let Some(taken) = self.flush(slot, at_least, out) {
                flushed += 1;
                pieces += taken;
            }
            if self.host(slot).partition.log().is_flushing() {
                again |= is_behind;
                // Its end reaches the run by way of the task's completion.
                run.awaits.insert(Awaited::Flush(id));
            }
        }
        if again { Stage::Again } else { Stage::Sync { after: None } }
    }

    /// Has some of a group's partitions synced that lie behind `after`. Returns how to go on.
    fn sync_some(
        &mut self,
        run: &mut Run,
        group: &[(TopicPartition, u32)],
        after: Option<TopicPartition>,
        out: &mut Outbox,
    ) -> Stage {
        let synced_max = (self.limits.partitions_at_once / SYNCED_PART).max(1);
        let from = group.partition_point(|&(id, _)| Some(id) <= after);
        let is_dirty = |&&(_, slot): &&(TopicPartition, u32)| self.host(slot).partition.log().is_dirty();
        let (ids, slots): (Vec<_>, Vec<_>) = group[from..].iter().filter(is_dirty).copied().unzip();
        let (now, later) = slots.split_at(slots.len().min(synced_max));
        let Some(&last) = ids[..now.len()].last() else { return Stage::Encode };
        // What is written of all of them is begun with the first, so that the disk has it side by side.
        let ahead = if after.is_none() { later } else { &[] };
        run.awaits.insert(Awaited::Task(self.sync(now, ahead, out)));
        Stage::Sync { after: Some(last) }
    }

    /// Encodes the partitions of a group until a chunk is full. Returns whether that was all of them.
    fn encode_group(&mut self, run: &mut Run, group: &[(TopicPartition, u32)], out: &mut Outbox) -> bool {
        for &(id, slot) in group {
            run.after = Some(id);
            if self.host(slot).partition.damage().is_none() {
                while let Some(task) = self.host(slot).partition.log_mut().trim() {
                    self.storage.push(Job::Trim, task, out);
                }
            }
            let hosted = self.host(slot);
            let state = match hosted.partition.damage() {
                None => hosted.partition.log().encode(run.start.lsn),
                // A later start refuses it as this one does, and knows its segments.
                Some(why) => {
                    let unread = hosted.unread.clone().map(|state| vec![state]);
                    // With all that is in memory only: replay brings a damaged partition nothing.
                    let state = unread.unwrap_or_else(|| hosted.partition.log().encode(Lsn(u64::MAX)));
                    crate::log::damaged_state(why, state)
                }
            };
            encode_entry(&mut run.encoder, RecordKind::PartitionState, id, &state);
            if run.encoder.is_full() {
                // A partition may remember thousands of producers.
                return false;
            }
        }
        true
    }

    /// Ends a checkpoint whose states the journal has caught up with.
    fn close_checkpoint(&mut self, out: &mut Outbox) {
        let durable = self.journal.durable();
        let ready = |run: &mut Run| run.encoded && run.awaits.is_empty() && durable >= run.contains;
        let Some(run) = self.checkpoints.run.take_if(ready) else {
            let waits = self.checkpoints.run.as_ref().is_some_and(|run| run.encoded && run.awaits.is_empty());
            if waits && self.trusts_os && !self.journal.is_in_flight() {
                self.journal.sync_next();
            }
            return;
        };
        let task =
            Task::Checkpoint { slot: run.slot, position: run.position, chunks: vec![run.encoder.finish()], last: true };
        self.checkpoints.closing = true;
        let closing = Closing { start: run.start, head: run.head, is_last: run.is_last };
        self.storage.push(Job::Close(closing), task, out);
    }

    /// A checkpoint is complete and durable: the journal below the older one is free, and so are files that neither
    /// names.
    pub(super) fn closed_checkpoint(&mut self, now: Now, closing: Closing, out: &mut Outbox) {
        let Closing { start, head, is_last } = closing;
        self.checkpoints.closing = false;
        self.checkpoints.sequence += 1;
        self.counters.checkpoints += 1;
        self.checkpoints.kept.push_back(start.lsn);
        while self.checkpoints.kept.len() > 2 {
            self.checkpoints.kept.pop_front();
        }
        // With one checkpoint only, the other slot may hold nothing to fall back to but the journal from its start.
        if let Some([older, _]) = self.checkpoints.newest_two() {
            self.journal.recycle(older);
        }
        self.compact_metadata_log(head);
        self.storage.removals.unname();
        self.wake_scrub(now);
        if self.is_exhausted() {
            // Another checkpoint would free no more.
            self.out_of_space(now, FileName::Journal(self.journal.slots()), out);
        }
        self.is_checkpointed |= is_last;
    }
}
