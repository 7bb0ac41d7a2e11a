//! Snapshots on their way, piece by piece, one piece of each at a time.
//!
//! The leader keeps no image: it asks its owner for each piece ([`SnapshotRead`]) when the one before has arrived. The
//! follower puts the pieces together in memory, which grows with what it was sent and not with what was announced. A
//! piece that is not answered within an election timeout is sent again; after [`MAX_ATTEMPTS`] the leader begins anew,
//! perhaps with a later snapshot.

use bytes::Bytes;
use raft::eraftpb::{self, MessageType};
use raft::{SnapshotStatus, StateRole};

use super::convert;
use super::guard::Refused;
use super::membership::{Member, MemberKey};
use super::message::{Body, Message};
use super::quorum::Quorum;
use super::record::{LogId, SnapshotHead};

/// How often a piece is sent, or asked of the owner, before the transfer is given up.
const MAX_ATTEMPTS: usize = 8;

/// A piece of a snapshot that a member needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRead {
    /// Who needs it.
    pub to: Member,
    /// The last entry that the snapshot covers.
    pub snapshot: LogId,
    /// Where the piece begins in the image, in bytes.
    pub offset: u64,
    /// How long it is at most, in bytes.
    pub max_bytes: usize,
}

/// A snapshot on its way to a member.
pub(super) struct Transfer {
    to: Member,
    head: SnapshotHead,
    /// How much of the image the member has.
    at: u64,
    /// The length of the image, once known.
    total: Option<u64>,
    /// Ticks since the piece was asked for.
    waited: usize,
    attempts: usize,
}

/// A snapshot that is being put together.
pub(super) struct Arrival {
    from: Member,
    term: u64,
    head: SnapshotHead,
    total: u64,
    image: Vec<u8>,
}

impl Quorum {
    /// Answers `read` with bytes of the image, of `total` bytes in all: as many as it asks for, unless the image ends
    /// before. An answer that comes too late is ignored.
    ///
    /// # Panics
    /// If `bytes` are not what was asked for.
    pub fn supply_snapshot(&mut self, read: &SnapshotRead, total: u64, bytes: Bytes) {
        let expected = total.saturating_sub(read.offset).min(read.max_bytes as u64);
        assert_eq!(bytes.len() as u64, expected, "the piece is the one that was asked for");
        let (key, term) = (read.to.key(), self.term());
        let Some(transfer) = self.transfers.get_mut(&key) else { return };
        if (transfer.to, transfer.head.last, transfer.at) != (read.to, read.snapshot, read.offset) {
            return;
        }
        transfer.total = Some(total);
        let body = Body::Piece { head: transfer.head.clone(), offset: read.offset, total, bytes };
        // A transfer only ever runs while this node leads, and a leader that has answers to entries has a durable term.
        self.sends.extend(self.addressed(key, term, body));
    }

    /// The owner has no such image any more: a later snapshot will be asked for, if it is needed.
    pub fn snapshot_unavailable(&mut self, read: &SnapshotRead) {
        let key = read.to.key();
        if self.transfers.get(&key).is_some_and(|transfer| transfer.head.last == read.snapshot) {
            self.end_transfer(key, SnapshotStatus::Failure);
        }
        self.settle();
    }

    pub(super) fn begin_transfer(&mut self, key: MemberKey) {
        let Some(to) = self.names.get(&key).copied() else { return };
        let head = self.raw.store().head().clone();
        self.transfers.insert(key, Transfer { to, head, at: 0, total: None, waited: 0, attempts: 0 });
        self.ask_for_piece(key);
    }

    fn ask_for_piece(&mut self, key: MemberKey) {
        let max_bytes = self.options.limits.snapshot_piece_bytes;
        let Some(transfer) = self.transfers.get_mut(&key) else { return };
        transfer.waited = 0;
        let (to, snapshot, offset) = (transfer.to, transfer.head.last, transfer.at);
        self.snapshot_reads.push(SnapshotRead { to, snapshot, offset, max_bytes });
    }

    fn end_transfer(&mut self, key: MemberKey, status: SnapshotStatus) {
        self.transfers.remove(&key);
        self.raw.report_snapshot(key.0, status);
    }

    pub(super) fn tick_transfers(&mut self) {
        let patience = self.options.election_ticks;
        let mut late = Vec::new();
        for (key, transfer) in &mut self.transfers {
            transfer.waited += 1;
            if transfer.waited >= patience {
                transfer.attempts += 1;
                late.push((*key, transfer.attempts));
            }
        }
        for (key, attempts) in late {
            if attempts < MAX_ATTEMPTS {
                self.ask_for_piece(key);
            } else {
                self.end_transfer(key, SnapshotStatus::Failure);
            }
        }
    }

    /// A member says how much of a snapshot it has.
    pub(super) fn on_received(&mut self, from: Member, index: u64, length: u64) -> Result<(), Refused> {
        let Some(transfer) = self.transfers.get_mut(&from.key()) else { return Ok(()) };
        if transfer.head.last.index != index {
            return Ok(());
        }
        // Before the first piece was read, only an answer to an earlier attempt can arrive.
        let Some(total) = transfer.total else { return Ok(()) };
        if length > total {
            return Err(Refused::NothingSent);
        }
        if length == total {
            self.end_transfer(from.key(), SnapshotStatus::Finish);
        } else if length != transfer.at {
            transfer.at = length;
            transfer.attempts = 0;
            self.ask_for_piece(from.key());
        }
        Ok(())
    }

    /// A piece from the leader that this node follows. What comes from anybody else is too late, and is ignored.
    pub(super) fn on_piece(&mut self, message: Message) -> Result<(), Refused> {
        let Message { from, term, body: Body::Piece { head, offset, total, bytes }, .. } = message else {
            unreachable!("only pieces come here")
        };
        let raft = &self.raw.raft;
        if raft.state != StateRole::Follower || raft.term != term || raft.leader_id != from.key().0 {
            return Ok(());
        }
        if total > self.options.limits.max_snapshot_bytes {
            return Err(Refused::SnapshotTooLarge { bytes: total });
        }
        let index = head.last.index;
        let is_here = raft.raft_log.match_term(index, head.last.term);
        if index == raft.raft_log.committed && !is_here {
            return Err(Refused::OtherHistory { index });
        }
        if index < raft.raft_log.committed || is_here {
            // Nothing of it is needed, which the library says to the leader.
            self.arrival = None;
            self.restore(from, term, &head);
            self.answer(from, Body::Received { index, length: total });
            return Ok(());
        }
        let is_same = |arrival: &Arrival| {
            (arrival.from, arrival.term, arrival.total) == (from, term, total) && arrival.head == head
        };
        let mut arrival = match self.arrival.take().filter(is_same) {
            Some(arrival) => arrival,
            None => Arrival { from, term, head, total, image: Vec::new() },
        };
        if arrival.image.len() as u64 == offset {
            arrival.image.extend_from_slice(&bytes);
        }
        let length = arrival.image.len() as u64;
        if length < total {
            self.arrival = Some(arrival);
        } else {
            let image = Bytes::from(arrival.image);
            self.restore(from, term, &arrival.head);
            let restored = self.raw.raft.snap().map(|snapshot| snapshot.get_metadata().index);
            if restored == Some(index) {
                self.installing = Some((arrival.head, image));
            }
        }
        self.answer(from, Body::Received { index, length });
        Ok(())
    }

    /// Tells the library of a snapshot that is here.
    fn restore(&mut self, from: Member, term: u64, head: &SnapshotHead) {
        let mut message = eraftpb::Message { from: from.key().0, term, ..Default::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        message.set_snapshot(convert::snapshot(head));
        self.raw.step(message).expect("a snapshot is no answer, and so is taken from anybody");
    }

    fn answer(&mut self, to: Member, body: Body) {
        self.sends.extend(self.addressed(to.key(), self.term(), body));
    }
}
