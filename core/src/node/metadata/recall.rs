//! What a start finds of the metadata: the image as far as it was applied, and the part in the quorum.
//!
//! What the journal says of the quorum is taken in its order, so that each record of a partition meets the image that it
//! was written under. An entry counts for the image when the journal says that it was applied, or that it is covered
//! by a snapshot; until then it is the quorum's alone, and may still be replaced. Where nobody else belongs to
//! the quorum, and the log since its snapshot does not change that, what is in the journal is committed, and counts at
//! once.
//!
//! Before the log was replicated each of its entries was a record, applied at once: what they add up to is the snapshot
//! that the log of a quorum of one begins after.

use bytes::{Buf, Bytes, BytesMut};

use crate::controller::image::{Change, MetadataImage};
use crate::controller::records::{MetadataRecord, decode_entry};
use crate::ids::{Lsn, TopicId};
use crate::journal::RecordKind;
use crate::raft::{Content, Entry, LogId, Member, Membership, Record, Restored, SnapshotHead, Vote};

/// What stands before the image in a checkpoint: the index of its last entry, and the newest record of metadata in the
/// journal that the checkpoint contains.
pub(in crate::node) fn encode_state_head(index: u64, newest: Option<Lsn>) -> Vec<u8> {
    let mut head = Vec::with_capacity(16);
    head.extend_from_slice(&index.to_le_bytes());
    head.extend_from_slice(&newest.map_or(u64::MAX, |lsn| lsn.0).to_le_bytes());
    head
}

/// Reads a record of a journal from before the log was replicated: index and term, then the entry.
pub(super) fn decode_before(mut payload: &[u8]) -> Result<(u64, Vec<MetadataRecord>), String> {
    let index = payload.try_get_u64_le().map_err(|_| "a metadata record is cut short")?;
    let _standalone_term = payload.try_get_u64_le().map_err(|_| "a metadata record is cut short")?;
    let records = decode_entry(payload).map_err(|error| format!("metadata entry {index}: {error}"))?;
    Ok((index, records))
}

/// What a checkpoint and the journal after it say of the metadata.
#[derive(Debug)]
pub(in crate::node) struct Recalled {
    me: Member,
    /// Whether the quorum is of this node alone, as far as the log tells.
    is_alone: bool,
    pub(in crate::node) image: MetadataImage,
    pub(in crate::node) quorum: Restored,
    /// The newest record of metadata in the journal.
    pub(in crate::node) newest: Option<Lsn>,
    /// The pieces of an image whose snapshot is to come.
    pieces: Option<BytesMut>,
}

impl Recalled {
    /// Nothing, of this member's.
    pub(in crate::node) fn new(me: Member) -> Recalled {
        Recalled {
            me,
            is_alone: false,
            image: MetadataImage::default(),
            quorum: Restored::default(),
            newest: None,
            pieces: None,
        }
    }

    /// Takes the image that a checkpoint holds.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub(in crate::node) fn state(&mut self, state: &Bytes) -> Result<(), String> {
        let mut numbers = &state[..];
        let index = numbers.try_get_u64_le().map_err(|_| "the node's state is cut short")?;
        let newest = numbers.try_get_u64_le().map_err(|_| "the node's state is cut short")?;
        self.newest = (newest != u64::MAX).then_some(Lsn(newest));
        self.image = MetadataImage::decode_snapshot(index, &state[16..]).map_err(|error| error.to_string())?;
        self.apply_if_alone().map(drop)
    }

    /// Takes a record of the quorum that a checkpoint holds; its image comes after it in the same checkpoint.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub(in crate::node) fn quorum_state(&mut self, payload: Bytes) -> Result<(), String> {
        let record = Record::decode(payload).map_err(|error| format!("the metadata quorum: {error}"))?;
        self.replay_quorum(record)
    }

    /// Takes the journal's next record of metadata. Returns the topics that are gone with it.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub(in crate::node) fn record(
        &mut self,
        kind: RecordKind,
        lsn: Lsn,
        payload: &[u8],
    ) -> Result<Vec<TopicId>, String> {
        if self.newest.is_some_and(|newest| lsn <= newest) {
            return Ok(Vec::new());
        }
        self.newest = Some(lsn);
        match kind {
            RecordKind::Metadata => {
                let (index, records) = decode_before(payload)?;
                Ok(self.replay(index, &records))
            }
            RecordKind::Applied => {
                let mut payload = payload;
                let index = payload.try_get_u64_le().map_err(|_| "a record of what was applied is cut short")?;
                self.apply_up_to(index)
            }
            // What there is of an earlier one was cut off by a crash: the record that goes on from there is missing.
            RecordKind::Image if payload.is_empty() => {
                self.pieces = Some(BytesMut::new());
                Ok(Vec::new())
            }
            RecordKind::Image => {
                self.pieces.get_or_insert_default().extend_from_slice(payload);
                Ok(Vec::new())
            }
            RecordKind::Quorum => {
                let payload = Bytes::copy_from_slice(payload);
                let record = Record::decode(payload).map_err(|error| format!("the metadata quorum: {error}"))?;
                let mut gone = match &record {
                    // What a snapshot covers is committed; the image of this one is in no file.
                    Record::Compact(head) => self.apply_up_to(head.last.index)?,
                    Record::Install(head) => self.install(head.last.index)?,
                    Record::Append(_) | Record::Vote(_) => Vec::new(),
                };
                self.replay_quorum(record)?;
                gone.extend(self.apply_if_alone()?);
                Ok(gone)
            }
            kind => Err(format!("a record of kind {kind:?}")),
        }
    }

    /// Begins the log of a quorum of one behind what there is, where there is no such log yet. Returns what the journal
    /// must have before all else.
    pub(in crate::node) fn found(&mut self, membership: Membership) -> Vec<Record> {
        if self.quorum.last().index > 0 {
            return Vec::new();
        }
        let last = LogId { index: self.image.index().max(membership.since()), term: 1 };
        let vote = Vote { term: last.term, voted_for: None, committed: last.index };
        let records = vec![Record::Install(SnapshotHead { last, membership }), Record::Vote(vote)];
        for record in records.clone() {
            self.replay_quorum(record).expect("a log can begin with a snapshot");
        }
        self.image.pass(last.index);
        records
    }

    fn replay_quorum(&mut self, record: Record) -> Result<(), String> {
        let begins_anew = matches!(record, Record::Install(_) | Record::Compact(_));
        let is_change = |entry: &Entry| matches!(entry.content, Content::Membership(_));
        if let Record::Append(entries) = &record {
            self.is_alone &= !entries.iter().any(is_change);
        }
        self.quorum.replay(record).map_err(|error| error.to_string())?;
        if begins_anew {
            let is_alone = self.quorum.head().membership.is_alone(self.me);
            self.is_alone = is_alone && !self.quorum.entries().iter().any(is_change);
        }
        Ok(())
    }

    /// A snapshot takes the place of the image, unless it stands for what the image is.
    fn install(&mut self, index: u64) -> Result<Vec<TopicId>, String> {
        let Some(pieces) = self.pieces.take() else {
            self.image.pass(index.max(self.image.index()));
            return Ok(Vec::new());
        };
        let image = MetadataImage::decode_snapshot(index, &pieces).map_err(|error| error.to_string())?;
        let before = std::mem::replace(&mut self.image, image);
        Ok(before.topics_from("").map(|topic| topic.id).filter(|&id| self.image.topic(id).is_none()).collect())
    }

    fn apply_if_alone(&mut self) -> Result<Vec<TopicId>, String> {
        if self.is_alone { self.apply_up_to(self.quorum.last().index) } else { Ok(Vec::new()) }
    }

    fn apply_up_to(&mut self, index: u64) -> Result<Vec<TopicId>, String> {
        let mut gone = Vec::new();
        // Entries follow each other without a gap, so that the first one tells where the others are.
        let first = self.quorum.head().last.index + 1;
        let skip = usize::try_from((self.image.index() + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let due: Vec<_> =
            self.quorum.entries().iter().skip(skip).take_while(|entry| entry.id.index <= index).cloned().collect();
        for entry in due {
            match &entry.content {
                Content::Payload(payload) => {
                    let at = entry.id.index;
                    let records = decode_entry(payload).map_err(|error| format!("metadata entry {at}: {error}"))?;
                    gone.extend(self.replay(at, &records));
                }
                Content::Blank | Content::Membership(_) => {}
            }
            self.image.pass(entry.id.index);
        }
        if self.image.index() < index {
            return Err(format!("entries of the metadata log up to {index} were applied, and it ends before that"));
        }
        Ok(gone)
    }

    fn replay(&mut self, index: u64, records: &[MetadataRecord]) -> Vec<TopicId> {
        let changes = records.iter().flat_map(|record| self.image.replay(index, record));
        let gone = changes.filter_map(|change| match change {
            Change::TopicRemoved { id, .. } => Some(id),
            _ => None,
        });
        gone.collect()
    }
}
