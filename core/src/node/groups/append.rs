//! From what a coordinator decided to the log of its partition, and from there to whoever waits for it.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::Node;
use crate::batch::{BatchBuilder, HEAD_BYTES, VerifiedBatch};
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::group::Outcome;
use crate::group::record::Record;
use crate::journal::Class;
use crate::node::produce::RECORD_OVERHEAD;
use crate::partition::Origin;
use crate::replication::Leader;
use crate::time::{Now, Timestamp};
use crate::wire::{self, ErrorCode, Response};

/// How much a batch holds, in bytes, unless one record alone has more: so that its checksum takes a fraction of a step,
/// and readers get on in small parts.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What a record takes beside its key and its value, at most, in bytes: lengths, offset, time.
const FRAME_BYTES: usize = 32;

/// What a call is expected to write beside what its request brings, in bytes: what most write at most. A call that
/// writes more than there is room for waits.
const CALL_BYTES: u64 = 16 << 10;

/// What the record of a committed offset takes beside the names and the metadata in it, in bytes.
const OFFSET_BYTES: u64 = 96;

/// All that one call decided and that is not written, or not all of it.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) partition: i32,
    batches: VecDeque<VerifiedBatch>,
    pub(super) waiters: Vec<Waiter>,
}

/// Who waits until something is committed.
#[derive(Debug)]
pub(super) enum Waiter {
    Reply(ReplyTo, Box<Response>),
    /// An answer about several groups.
    Gather(usize),
}

impl Node {
    /// How long a record of a group may be, in bytes. The topic's `max.message.bytes` is for clients: who lowers it must
    /// not keep groups that are there from going on.
    pub(super) fn record_bytes_max(&self) -> usize {
        let fits_journal = usize::try_from(self.journal.max_record_bytes()).unwrap_or(usize::MAX) - RECORD_OVERHEAD;
        fits_journal.min(BATCH_BYTES_MAX).saturating_sub(HEAD_BYTES + FRAME_BYTES)
    }

    /// Whether a request may be taken, or refused, at once; where not, it waits for room in the journal.
    pub(super) fn admits(&self, request: &wire::Request) -> bool {
        if self.groups.is_held_up() {
            return false;
        }
        if self.no_space.is_some() {
            // Whatever may write is refused then.
            return true;
        }
        self.groups.unwritten.is_empty()
            && bytes_of(request).is_none_or(|bytes| self.has_room_for_groups(bytes + CALL_BYTES))
    }

    /// Whether a coordinator may be called that may write.
    pub(super) fn may_write_groups(&mut self) -> bool {
        let may = self.groups.unwritten.is_empty() && self.no_space.is_none() && self.has_room_for_groups(CALL_BYTES);
        if !may && self.no_space.is_none() {
            self.checkpoint_soon();
        }
        may
    }

    /// Whether what a request may write can be written. With fewer replicas in sync than `min.insync.replicas` asks for,
    /// nothing new is begun; what heartbeats and timers decide is written all the same, and told when it is committed.
    pub(super) fn check_writable(&self, partition: i32, request: &wire::Request) -> Result<i32, ErrorCode> {
        if bytes_of(request).is_none() && self.groups.unwritten.is_empty() {
            return Ok(partition);
        }
        self.check_log(partition).map(|()| partition)
    }

    /// Whether something new may be written to a partition's log.
    pub(super) fn check_log(&self, partition: i32) -> Result<(), ErrorCode> {
        let slot = self.groups.seats[&partition].slot;
        let hosted = self.hosts[slot as usize].as_ref().expect("a seat's partition is hosted");
        match self.no_space.is_some() || hosted.partition.is_below_minimum() {
            true => Err(ErrorCode::CoordinatorNotAvailable),
            false => Ok(()),
        }
    }

    /// Whether the journal has room for `bytes` of records of groups. They may use the reserve, since a member that
    /// cannot commit reads everything again; but half of it is for deletions, which make room.
    pub(super) fn has_room_for_groups(&self, bytes: u64) -> bool {
        let longest = self.journal.max_record_bytes();
        let payloads = [bytes.min(longest), (self.geometry.reserve_bytes / 2).min(longest)];
        self.journal.has_room_for(payloads.into_iter(), Class::Critical)
            && self.tails.bytes() < 2 * self.limits.tail_cache_bytes as u64
    }

    /// Whether what is decided, or else the next request, finds no room in the journal as it is now.
    pub(in crate::node) fn groups_wait_for_room(&self) -> bool {
        match self.groups.unwritten.front() {
            Some(Unwritten { batches, .. }) => batches.front().is_some_and(|batch| !self.has_room_for_batch(batch)),
            None if self.groups.is_held_up() => self.long_commit_waits_for_room(),
            None => self.groups.delayed.front().is_some_and(|(_, _, request)| !self.admits(request)),
        }
    }

    fn has_room_for_batch(&self, batch: &VerifiedBatch) -> bool {
        self.has_room_for_groups((batch.batch_bytes() + RECORD_OVERHEAD) as u64)
    }

    /// Sees to what a call decided: its records are written, then its replies leave.
    pub(super) fn conclude(&mut self, now: Now, partition: i32, outcome: Outcome, out: &mut Outbox) {
        let Outcome { records, replies, questions } = outcome;
        self.ask(partition, questions, out);
        if records.is_empty() && self.groups.unwritten.is_empty() {
            for (to, response) in replies {
                self.park(partition, Waiter::Reply(to, Box::new(response)), out);
            }
            return;
        }
        self.count_decided(&records);
        let batches = batches(&records, now.wall, self.groups.settings.record_bytes_max);
        let waiters = replies.into_iter().map(|(to, response)| Waiter::Reply(to, Box::new(response))).collect();
        self.groups.unwritten.push_back(Unwritten { partition, batches, waiters });
        self.write_on(now, out);
    }

    /// Writes what has been decided, as far as there is room.
    pub(super) fn write_on(&mut self, now: Now, out: &mut Outbox) {
        while let Some(Unwritten { partition, batches, .. }) = self.groups.unwritten.front_mut() {
            let partition = *partition;
            if let Some(batch) = batches.pop_front() {
                if !self.has_room_for_batch(&batch) {
                    self.groups.unwritten[0].batches.push_front(batch);
                    if self.no_space.is_none() {
                        self.checkpoint_soon();
                    }
                    return;
                }
                let slot = self.groups.seats[&partition].slot;
                if let Err(refused) = self.append_one(now, slot, &batch, Origin::Coordinator, &mut SmallVec::new()) {
                    let message = refused.message.unwrap_or_default();
                    self.fail_coordinator(now, partition, &format!("{}: {message}", refused.code.name()), out);
                }
                continue;
            }
            let written = self.groups.unwritten.pop_front().expect("one was at the front");
            for waiter in written.waiters {
                self.park(partition, waiter, out);
            }
        }
    }

    /// Lets somebody wait until all that a partition's coordinator has decided is committed.
    pub(super) fn park(&mut self, partition: i32, waiter: Waiter, out: &mut Outbox) {
        let undone = self.groups.unwritten.iter_mut().rev().find(|unwritten| unwritten.partition == partition);
        if let Some(unwritten) = undone {
            return unwritten.waiters.push(waiter);
        }
        // It may have gone away since.
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return self.release(waiter, out) };
        let partition = &self.hosts[seat.slot as usize].as_ref().expect("a seat's partition is hosted").partition;
        let end = partition.log().end();
        if end <= partition.advanced().high_watermark {
            return self.release(waiter, out);
        }
        if partition.leader().is_some_and(Leader::is_below_minimum) {
            let partition = partition.id().partition;
            return self.refuse_waiter(partition, waiter, ErrorCode::CoordinatorNotAvailable, out);
        }
        seat.parked.push_back((end, waiter));
    }

    /// The high watermark of one of the broker's own partitions has moved: lets go those who waited for it.
    pub(in crate::node) fn settle_groups(&mut self, slot: u32, out: &mut Outbox) {
        let hosted = self.hosts[slot as usize].as_ref().expect("it has just moved");
        let partition = hosted.partition.id().partition;
        let Some(seat) = self.groups.seats.get_mut(&partition).filter(|seat| seat.slot == slot) else { return };
        let high_watermark = hosted.partition.advanced().high_watermark;
        let count = seat.parked.partition_point(|&(end, _)| end <= high_watermark);
        let done: Vec<_> = seat.parked.drain(..count).collect();
        for (_, waiter) in done {
            self.release(waiter, out);
        }
    }

    /// The in-sync set of a partition has become too small for its high watermark to move, if it is one of the broker's
    /// own: who waits for that is told, as Kafka tells it, and asks again.
    pub(in crate::node) fn refuse_uncommitted(&mut self, slot: u32, out: &mut Outbox) {
        let partition = self.host(slot).partition.id().partition;
        let Some(seat) = self.groups.seats.get_mut(&partition).filter(|seat| seat.slot == slot) else { return };
        for (_, waiter) in std::mem::take(&mut seat.parked) {
            self.refuse_waiter(partition, waiter, ErrorCode::CoordinatorNotAvailable, out);
        }
    }

    fn release(&mut self, waiter: Waiter, out: &mut Outbox) {
        match waiter {
            Waiter::Reply(to, response) => out.push(Effect::Reply { to, response: Some(*response) }),
            Waiter::Gather(gathered) => self.settle_gathered(gathered, out),
        }
    }
}

/// Records as batches of one time, of about `bytes_max` bytes at most.
fn batches(records: &[Record], at: Timestamp, bytes_max: usize) -> VecDeque<VerifiedBatch> {
    let mut batches = VecDeque::new();
    let mut builder = BatchBuilder::new();
    for record in records {
        let (key, value) = record.encode();
        let bytes = key.len() + value.as_ref().map_or(0, bytes::Bytes::len) + FRAME_BYTES;
        if builder.records_bytes() > 0 && builder.records_bytes() + bytes > bytes_max {
            batches.push_back(std::mem::take(&mut builder).verified());
        }
        builder = builder.record(at, Some(&key), value.as_deref());
    }
    if builder.records_bytes() > 0 {
        batches.push_back(builder.verified());
    }
    batches
}

/// How much the records may come to that a request brings, in bytes; `None` where it writes none, or hardly ever does.
fn bytes_of(request: &wire::Request) -> Option<u64> {
    use wire::Request as R;
    Some(match request {
        R::OffsetCommit(request) => {
            let group = request.group_id.len() as u64;
            let topics = request.topics.iter().map(|topic| {
                let name = group + topic.name.len() as u64 + OFFSET_BYTES;
                let metadata = topic.partitions.iter().filter_map(|partition| partition.committed_metadata.as_ref());
                name * topic.partitions.len() as u64 + metadata.map(|metadata| metadata.len() as u64).sum::<u64>()
            });
            topics.sum()
        }
        R::SyncGroup(request) => request.assignments.iter().map(|assigned| assigned.assignment.len() as u64).sum(),
        R::JoinGroup(request) => request.protocols.iter().map(|protocol| protocol.metadata.len() as u64).sum(),
        R::LeaveGroup(_) | R::OffsetDelete(_) | R::DeleteGroups(_) => 0,
        // A member comes or goes.
        R::ConsumerGroupHeartbeat(request) if request.member_epoch <= 0 => {
            let names = request.subscribed_topic_names.iter().flatten();
            names.map(|name| name.len() as u64).sum()
        }
        // Heartbeats mostly write nothing, and to refuse one ends a session.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::record::Key;

    #[test]
    fn many_records_become_several_batches_and_none_is_lost() {
        let records: Vec<Record> = (0..100)
            .map(|n| Record { key: Key::Group { group: format!("group-{n:03}").into() }, value: None })
            .collect();
        let batches = batches(&records, Timestamp(5), 1000);
        assert!(batches.len() > 2);
        assert_eq!(batches.iter().map(VerifiedBatch::count).sum::<i32>(), 100);
        for batch in &batches {
            assert!(batch.batch_bytes() <= 1000 + HEAD_BYTES);
            let bytes = batch.to_bytes(crate::ids::Offset(0), crate::ids::LeaderEpoch(1));
            crate::batch::check(&bytes).expect("its checksum holds");
        }
    }
}
