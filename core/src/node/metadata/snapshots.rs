//! Images that go from the leader of the quorum to a member that lacks too much of the log, or is new.
//!
//! The leader encodes its image when the first piece is asked for, some of it a step, and keeps it as long as pieces are
//! asked for. Who is sent one journals its pieces, then the record that the quorum goes on from there, and takes the image
//! over when both are durable (`takeover`): a journal that is replayed finds the image in its place, whatever checkpoint
//! it begins with.

use bytes::Bytes;

use super::super::Node;
use crate::boundary::{Level, Outbox};
use crate::controller::image::{MetadataImage, Snapshot};
use crate::controller::records::MetadataRecord;
use crate::journal::RecordKind;
use crate::raft::{LogId, SnapshotHead, SnapshotRead};

/// For how many ticks an image is kept that nobody asks for.
const KEPT_TICKS: u32 = 100;

/// Records that one step encodes, at about 0.25 µs each.
const ENCODED_AT_ONCE: usize = 250;

/// An image that is sent to members.
#[derive(Debug)]
pub(super) struct Kept {
    last: LogId,
    image: Bytes,
    /// Ticks since a piece was asked for.
    unused: u32,
}

/// An image that is being encoded.
#[derive(Debug)]
pub(super) struct Making {
    last: LogId,
    snapshot: Snapshot,
    encoded: Vec<u8>,
}

impl Making {
    /// Takes note that a record is about to be replayed into `image`.
    pub(super) fn keep(&mut self, image: &MetadataImage, record: &MetadataRecord) {
        self.snapshot.keep(image, record);
    }
}

impl Node {
    /// Answers what members ask of images, as far as there are any. Whether there is more to do at once.
    pub(super) fn supply_snapshots(&mut self, out: &mut Outbox) -> bool {
        let has_more = self.encode_on(out);
        for read in std::mem::take(&mut self.metadata.snapshot_reads) {
            let is_kept = self.metadata.kept.as_ref().is_some_and(|kept| kept.last == read.snapshot);
            if !is_kept && self.metadata.making.is_none() {
                self.begin_snapshot(read.snapshot);
            }
            if let Some(kept) = self.metadata.kept.as_mut().filter(|_| is_kept) {
                kept.unused = 0;
                let piece = piece(&kept.image, &read);
                self.metadata.quorum.supply_snapshot(&read, kept.image.len() as u64, piece);
            } else if self.metadata.making.as_ref().is_some_and(|making| making.last == read.snapshot) {
                self.metadata.snapshot_reads.push(read);
                continue;
            } else {
                self.metadata.quorum.snapshot_unavailable(&read);
            }
            self.hand_over(out);
        }
        has_more || self.metadata.making.is_some()
    }

    /// A member needs a snapshot that covers the log up to this position.
    pub(super) fn want_snapshot(&mut self, index: u64, out: &mut Outbox) {
        if self.is_installing() {
            return;
        }
        if self.is_half_applied() {
            self.metadata.snapshot_wanted = Some(index);
            return;
        }
        let head = self.snapshot_head();
        if head.last.index >= index {
            self.compact_metadata_log(head);
            self.hand_over(out);
        }
    }

    /// Begins to encode the image, where it stands for a snapshot that the log begins behind. Where that is another than
    /// `wanted`, the member will ask for it.
    fn begin_snapshot(&mut self, wanted: LogId) {
        if self.is_installing() || self.is_half_applied() {
            return;
        }
        let head = self.snapshot_head();
        if head.last.index != self.controller.image().index() {
            return;
        }
        if head.last != wanted {
            self.compact_metadata_log(head.clone());
        }
        if self.metadata.quorum.head().last == head.last {
            let snapshot = Snapshot::begin(self.controller.image());
            self.metadata.making = Some(Making { last: head.last, snapshot, encoded: Vec::new() });
        }
    }

    /// Encodes some more of the image. Whether there is one to be encoded.
    fn encode_on(&mut self, out: &mut Outbox) -> bool {
        let Some(mut making) = self.metadata.making.take() else { return false };
        let (part, goes_on) = making.snapshot.next_part(self.controller.image(), ENCODED_AT_ONCE);
        making.encoded.extend(part);
        if goes_on {
            self.metadata.making = Some(making);
        } else {
            out.log(Level::Debug, format!("an image of {} bytes is made for members", making.encoded.len()));
            self.metadata.kept = Some(Kept { last: making.last, image: making.encoded.into(), unused: 0 });
        }
        true
    }

    /// Lets go of an image that nobody asks for any more.
    pub(super) fn tend_snapshot(&mut self) {
        if let Some(kept) = &mut self.metadata.kept {
            kept.unused += 1;
            self.metadata.kept.take_if(|kept| kept.unused > KEPT_TICKS);
        }
    }

    /// Journals an image that the leader sent, before the record that the log goes on from there. An empty piece says where
    /// it begins: they may lie in several commits, and a crash between them leaves the first ones behind.
    pub(super) fn journal_image(&mut self, number: u64, head: &SnapshotHead, image: Bytes) {
        let most = usize::try_from(self.journal.max_record_bytes() / 2).unwrap_or(usize::MAX);
        self.journal_metadata(RecordKind::Image, &[]);
        for piece in image.chunks(most) {
            self.journal_metadata(RecordKind::Image, piece);
        }
        self.metadata.takeover.begin(number, head.last.index, image);
    }
}

/// What `read` asks for.
fn piece(image: &Bytes, read: &SnapshotRead) -> Bytes {
    let from = usize::try_from(read.offset).unwrap_or(usize::MAX).min(image.len());
    image.slice(from..image.len().min(from.saturating_add(read.max_bytes)))
}
