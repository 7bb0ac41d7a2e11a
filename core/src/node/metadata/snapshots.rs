//! Images that go from the leader of the quorum to a member that lacks too much of the log, or is new.
//!
//! The leader encodes its image when the first piece is asked for, and keeps it as long as pieces are. Who is sent one
//! journals its pieces, then the record that the quorum goes on from there, and takes the image over when both are
//! durable: a journal that is replayed finds the image in its place, whatever checkpoint it begins with.

use bytes::Bytes;

use super::super::Node;
use crate::boundary::{Effect, Level, Outbox};
use crate::controller::image::{Change, MetadataImage};
use crate::ids::TopicPartition;
use crate::journal::RecordKind;
use crate::raft::{LogId, SnapshotHead, SnapshotRead};
use crate::time::Now;

/// For how many ticks an image is kept that nobody asks for.
const KEPT_TICKS: u32 = 100;

/// An image that is sent to members.
#[derive(Debug)]
pub(super) struct Kept {
    last: LogId,
    image: Bytes,
    /// Ticks since a piece was asked for.
    unused: u32,
}

/// An image from the leader, whose records the journal does not have yet.
#[derive(Debug)]
pub(super) struct Installing {
    /// The portion that it came with.
    pub(super) number: u64,
    pub(super) index: u64,
    pub(super) image: Bytes,
}

impl Node {
    /// Answers what members ask of images.
    pub(super) fn supply_snapshots(&mut self, out: &mut Outbox) {
        for read in std::mem::take(&mut self.metadata.snapshot_reads) {
            if self.metadata.kept.as_ref().is_none_or(|kept| kept.last != read.snapshot) {
                self.make_snapshot(read.snapshot, out);
            }
            match self.metadata.kept.as_mut().filter(|kept| kept.last == read.snapshot) {
                Some(kept) => {
                    kept.unused = 0;
                    let piece = piece(&kept.image, &read);
                    self.metadata.quorum.supply_snapshot(&read, kept.image.len() as u64, piece);
                }
                None => self.metadata.quorum.snapshot_unavailable(&read),
            }
            self.hand_over(out);
        }
    }

    /// A member needs a snapshot that covers the log up to this position.
    pub(super) fn want_snapshot(&mut self, index: u64, out: &mut Outbox) {
        let head = self.snapshot_head();
        if head.last.index >= index {
            self.compact_metadata_log(head);
            self.hand_over(out);
        }
    }

    /// Encodes the image, where it stands for a snapshot that the log begins behind. Where that is another than `wanted`,
    /// the member will ask for it.
    fn make_snapshot(&mut self, wanted: LogId, out: &mut Outbox) {
        let head = self.snapshot_head();
        if head.last.index != self.controller.image().index() {
            return;
        }
        if head.last != wanted {
            self.compact_metadata_log(head.clone());
        }
        if self.metadata.quorum.head().last == head.last {
            let image = Bytes::from(self.controller.image().encode_snapshot());
            out.log(Level::Debug, format!("an image of {} bytes is made for members", image.len()));
            self.metadata.kept = Some(Kept { last: head.last, image, unused: 0 });
        }
    }

    /// Lets go of an image that nobody asks for any more.
    pub(super) fn tend_snapshot(&mut self) {
        if let Some(kept) = &mut self.metadata.kept {
            kept.unused += 1;
            self.metadata.kept.take_if(|kept| kept.unused > KEPT_TICKS);
        }
    }

    /// Journals an image that the leader sent, before the record that the log goes on from there.
    pub(super) fn journal_image(&mut self, number: u64, head: &SnapshotHead, image: Bytes) {
        let most = usize::try_from(self.journal.max_record_bytes() / 2).unwrap_or(usize::MAX);
        if image.is_empty() {
            self.journal_metadata(RecordKind::Image, &[]);
        }
        for piece in image.chunks(most) {
            self.journal_metadata(RecordKind::Image, piece);
        }
        self.metadata.installing = Some(Installing { number, index: head.last.index, image });
    }

    /// Whether an image has come that the journal does not have yet: the quorum's log begins behind it already, and the
    /// image here is older.
    pub(in crate::node) fn is_installing(&self) -> bool {
        self.metadata.installing.is_some()
    }

    /// The journal has an image: it takes the place of what there was, and partitions follow.
    pub(super) fn load_image(&mut self, now: Now, out: &mut Outbox) {
        let durable = self.metadata.durable;
        let Some(Installing { index, image, .. }) = self.metadata.installing.take_if(|image| image.number <= durable)
        else {
            return;
        };
        let image = match MetadataImage::decode_snapshot(index, &image) {
            Ok(image) => image,
            Err(error) => return out.push(Effect::Fatal(format!("the image of the metadata that was sent: {error}"))),
        };
        out.log(Level::Info, format!("the metadata is taken over as of entry {index}"));
        // What has committed before is in the image, or never was.
        self.metadata.committed.retain(|entry| entry.id.index > index);
        self.checkpoints.abandon_image();
        let changes = differences(self.controller.image(), &image);
        self.controller.load(image);
        changes.into_iter().for_each(|change| self.changed(now, change, out));
        self.move_some(now, out);
    }
}

/// What `read` asks for.
fn piece(image: &Bytes, read: &SnapshotRead) -> Bytes {
    let from = usize::try_from(read.offset).unwrap_or(usize::MAX).min(image.len());
    image.slice(from..image.len().min(from.saturating_add(read.max_bytes)))
}

/// What has changed from one image to another, in the order in which it could have.
fn differences(before: &MetadataImage, after: &MetadataImage) -> Vec<Change> {
    let mut changes = Vec::new();
    for topic in before.topics_from("").filter(|topic| after.topic(topic.id).is_none()) {
        let partitions = i32::try_from(topic.partitions.len()).expect("partitions are numbered by an i32");
        changes.push(Change::TopicRemoved { id: topic.id, name: topic.name.clone(), partitions });
    }
    changes.push(Change::BrokerSettings);
    for broker in after.brokers() {
        let (node_id, broker_epoch) = (broker.node_id, broker.broker_epoch);
        match before.broker(node_id) {
            Some(known) if known.broker_epoch == broker_epoch && known.standing == broker.standing => {}
            Some(known) if known.broker_epoch == broker_epoch => {
                changes.push(Change::BrokerStanding { node_id, standing: Some(broker.standing) });
            }
            _ => changes.push(Change::BrokerRegistered { node_id, broker_epoch }),
        }
    }
    for topic in after.topics_from("") {
        let known = before.topic(topic.id);
        if known.is_none() {
            changes.push(Change::TopicCreated(topic.id));
        }
        changes.push(Change::TopicSettings(topic.id));
        for (index, state) in (0..).zip(topic.partitions.iter()) {
            let partition = TopicPartition { topic: topic.id, partition: index };
            match before.partition(partition) {
                None => changes.push(Change::PartitionCreated(partition)),
                Some(known) if known != state => changes.push(Change::PartitionChanged(partition)),
                Some(_) => {}
            }
        }
    }
    changes
}
