//! What has committed is applied, in the order of the log, as much of it a step as there is time for.
//!
//! | an entry | what is done | until |
//! |---|---|---|
//! | is read | some of its records a step are decoded | all are, and the journal has room for what they leave there |
//! | is applied | all at once; where it only makes and deletes clients' topics and partitions, which may be thousands, some of its records a step | all are in the image |
//!
//! While one is half applied the image is of no moment of the log, though each topic in it is whole or about to be: its
//! index is that of the entry before, no snapshot of it begins, none takes its place, and who asks what there is waits.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::super::Node;
use super::Metadata;
use crate::boundary::{Effect, Outbox};
use crate::controller::GROUP_OFFSETS;
use crate::controller::image::MetadataImage;
use crate::controller::records::{Malformed, MetadataRecord, decode_some};
use crate::ids::{NodeId, TopicPartition};
use crate::journal::{Class, RecordKind};
use crate::log::CUT_BYTES;
use crate::raft::{Content, Entry, LogId};
use crate::time::Now;

/// What one step does, in units of about 0.3 µs: as much as it takes to read a record.
const WORK_AT_ONCE: usize = 300;
/// What it takes to make a partition known, to change one, and to delete one.
const MADE: usize = 4;
const CHANGED: usize = 8;
const DELETED: usize = 2;

/// What the record of what was applied takes of the journal, in bytes.
const APPLIED_BYTES: u64 = 8;

/// The entry that is read or applied.
#[derive(Debug)]
pub(super) struct Applying {
    id: LogId,
    /// How many bytes its records take.
    bytes: usize,
    /// What is not read of them.
    rest: Bytes,
    /// What is not applied of those that were read.
    records: VecDeque<MetadataRecord>,
    /// Whether they do nothing but make and delete.
    is_coming_and_going: bool,
    has_begun: bool,
}

impl Applying {
    fn new(entry: &Entry) -> Applying {
        // The quorum's own have none.
        let rest = match &entry.content {
            Content::Payload(payload) => payload.clone(),
            Content::Blank | Content::Membership(_) => Bytes::new(),
        };
        Applying {
            id: entry.id,
            bytes: rest.len(),
            rest,
            records: VecDeque::new(),
            is_coming_and_going: true,
            has_begun: false,
        }
    }

    /// Reads on, as long as there is work `left` to be done. Nothing of it is in `image` yet.
    fn read_on(&mut self, image: &MetadataImage, left: &mut usize) -> Result<(), Malformed> {
        let mut rest = &self.rest[..];
        let records = decode_some(&mut rest, *left)?;
        let taken = self.rest.len() - rest.len();
        self.rest.advance(taken);
        *left -= records.len();
        self.is_coming_and_going &= records.iter().all(|record| comes_or_goes(image, record));
        self.records.extend(records);
        Ok(())
    }

    /// Whether the journal is to say before the first record that all of them are applied, and not behind the last: a
    /// partition may write already that is made in the middle. Where partitions that there are change, what they leave
    /// in the journal comes first.
    fn is_told_first(&self) -> bool {
        self.is_coming_and_going
    }
}

/// Whether a record only makes a topic or partition, or deletes one. Not the one that keeps what groups must not lose: they
/// are found by the number of its partitions.
fn comes_or_goes(image: &MetadataImage, record: &MetadataRecord) -> bool {
    match record {
        MetadataRecord::Topic { name, .. } => **name != *GROUP_OFFSETS,
        MetadataRecord::CreatedWith { .. } | MetadataRecord::Config { .. } | MetadataRecord::RemoveTopic { .. } => true,
        MetadataRecord::Partition { partition, .. } => image.partition(*partition).is_none(),
        _ => false,
    }
}

/// What it takes to apply a record that is not in `image` yet.
fn work(image: &MetadataImage, record: &MetadataRecord) -> usize {
    match record {
        MetadataRecord::Partition { partition, .. } if image.partition(*partition).is_none() => MADE,
        MetadataRecord::RemoveTopic { id } => DELETED * image.topic(*id).map_or(0, |topic| topic.partitions.len()),
        _ => CHANGED,
    }
}

impl Node {
    /// Whether the image is of no moment of the log.
    pub(in crate::node) fn is_half_applied(&self) -> bool {
        self.metadata.applying.as_ref().is_some_and(|applying| applying.has_begun)
    }

    /// Applies what has committed, as much as one step has time for. Whether it has done that.
    pub(super) fn apply_some(&mut self, now: Now, out: &mut Outbox) -> bool {
        let mut left = WORK_AT_ONCE;
        while left > 0
            && (self.is_half_applied() || self.metadata.takeover.is_over())
            && self.metadata.office.is_none()
            && self.apply_on(now, &mut left, out)
        {}
        left == 0
    }

    /// Goes on with the first entry. Whether that was possible.
    fn apply_on(&mut self, now: Now, left: &mut usize, out: &mut Outbox) -> bool {
        let image = self.controller.image();
        if self.metadata.applying.is_none() {
            let Some(entry) = self.metadata.committed.front() else { return false };
            // Applied by the process before this one, which came further than it told the quorum.
            if entry.id.index <= image.index() {
                self.metadata.committed.pop_front();
                return true;
            }
        }
        let Metadata { applying, committed, .. } = &mut self.metadata;
        let Some(entry) = committed.front() else { return false };
        let applying = applying.get_or_insert_with(|| Applying::new(entry));
        // One without records takes a little time too.
        *left -= usize::from(applying.rest.is_empty());
        if let Err(error) = applying.read_on(image, left) {
            let index = applying.id.index;
            out.push(Effect::Fatal(format!("entry {index} of the metadata log: {error}")));
            return false;
        }
        if !applying.rest.is_empty() {
            return true;
        }
        if !applying.has_begun {
            if !self.has_room_to_begin_applying() {
                self.wait_for_room_to_apply(out);
                return false;
            }
            self.begin_to_apply();
        }
        self.apply_records(now, left, out);
        true
    }

    fn begin_to_apply(&mut self) {
        let Some(applying) = &mut self.metadata.applying else { return };
        applying.has_begun = true;
        let (id, bytes, has_records) = (applying.id, applying.bytes, !applying.records.is_empty());
        let is_told_now = applying.is_told_first() && has_records;
        if bytes > 0 {
            self.proposal_applied(id, bytes);
        }
        if is_told_now {
            self.tell_applied(id.index);
        }
    }

    /// Applies the next records.
    fn apply_records(&mut self, now: Now, left: &mut usize, out: &mut Outbox) {
        // Until all of it is, the log up to the entry before is what counts as applied.
        let before = self.controller.image().index();
        let mut is_told = true;
        while let Some(applying) = &mut self.metadata.applying {
            let Some(record) = applying.records.pop_front() else { break };
            is_told = applying.is_told_first();
            // A topic is whole behind a partition, or gone.
            let may_pause = is_told
                && matches!(record, MetadataRecord::Partition { .. } | MetadataRecord::RemoveTopic { .. })
                && !applying.records.is_empty();
            *left = left.saturating_sub(work(self.controller.image(), &record));
            self.apply_record(now, before, &record, out);
            if may_pause && *left == 0 {
                return;
            }
        }
        let Some(Applying { id, .. }) = self.metadata.applying.take() else { return };
        let Some(entry) = self.metadata.committed.pop_front() else { return };
        self.controller.pass(id.index);
        if !is_told {
            self.tell_applied(id.index);
        }
        self.move_some(now, out);
        self.take_office(&entry, out);
        self.settle_parked(now, id, out);
    }

    fn apply_record(&mut self, now: Now, index: u64, record: &MetadataRecord, out: &mut Outbox) {
        self.checkpoints.keep_metadata(self.controller.image(), record);
        if let Some(making) = &mut self.metadata.making {
            making.keep(self.controller.image(), record);
        }
        self.note_news(record, out);
        for change in self.controller.replay(index, record) {
            self.changed(now, change, out);
        }
    }

    /// Says in the journal that the log is applied up to `index`.
    fn tell_applied(&mut self, index: u64) {
        // Alone, what is in the journal is committed: it says so itself. Else it is said of each entry, since a partition
        // may write already what rests on the next one: replayed before its topic is there, it would be passed over.
        if !self.metadata.quorum.is_alone_since_snapshot() {
            self.journal_metadata(RecordKind::Applied, &index.to_le_bytes());
        }
    }

    /// Whether the journal has no room for what applying the next entry leaves there.
    pub(in crate::node) fn applying_waits_for_room(&self) -> bool {
        let is_read = |applying: &Applying| applying.rest.is_empty() && !applying.has_begun;
        self.metadata.applying.as_ref().is_some_and(is_read) && !self.has_room_to_begin_applying()
    }

    /// Whether there is room to say that the entry that was read is applied, and to begin the logs of those partitions anew
    /// that come to this broker from others: they may have been here before.
    fn has_room_to_begin_applying(&self) -> bool {
        let Some(Applying { records, is_coming_and_going, .. }) = &self.metadata.applying else { return true };
        if records.is_empty() {
            return true;
        }
        let me = self.node_id();
        let changed = records.iter().filter(|_| !is_coming_and_going);
        let comes = changed.filter_map(|record| coming(self.controller.image(), me, record));
        self.has_room_to_begin(comes, Some(APPLIED_BYTES))
    }

    /// Whether there is room for a record of so many bytes, and to begin the logs of those of these partitions anew that
    /// are not here.
    pub(super) fn has_room_to_begin(
        &self,
        partitions: impl Iterator<Item = TopicPartition>,
        beside: Option<u64>,
    ) -> bool {
        let begun = partitions.filter(|partition| !self.by_id.contains_key(partition)).map(|_| CUT_BYTES);
        self.journal.has_room_for(begun.chain(beside), Class::Critical)
    }
}

/// The partition that may come to the broker `me` from others by a record.
fn coming(image: &MetadataImage, me: NodeId, record: &MetadataRecord) -> Option<TopicPartition> {
    match record {
        MetadataRecord::Partition { partition, state } => {
            let is_new = image.partition(*partition).is_none();
            (state.replicas.contains(&me) && !is_new).then_some(*partition)
        }
        _ => None,
    }
}
