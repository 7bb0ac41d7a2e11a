//! What is asked about logs as such: DeleteRecords, DescribeProducers, DescribeLogDirs.

use std::collections::BTreeMap;
use std::time::Duration;

use slab::Slab;

use super::fetch::Topic;
use super::slices::Long;
use super::{Node, Reason, Woken};
use crate::boundary::{Effect, Outbox, Refused, ReplyTo};
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::journal::Class;
use crate::time::{Instant, Now};
use crate::wire::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::wire::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use crate::wire::describe_producers::{PartitionResponse, ProducerState};
use crate::wire::{ErrorCode, Response, Str};

/// The offset that stands for the high watermark in DeleteRecords.
const UP_TO_HIGH_WATERMARK: i64 = -1;

/// The payload of a record that holds an offset, in bytes.
const OFFSET_BYTES: u64 = 8;

/// Partitions whose sizes are told in one step, at about 25 ns each.
const MEASURED_AT_ONCE: usize = 2_000;

/// The size of a volume that is not known (KIP-827).
const UNKNOWN_BYTES: i64 = -1;

/// Partitions of one request to delete records that are looked at, at about 1 µs each; what is named behind them is
/// refused. A topic without partitions counts as one.
const DELETED_AT_ONCE: usize = 10_000;

/// Requests to delete records that wait until no replica in sync shows them any more.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    parked: Slab<Deletion>,
    /// Who waits for a partition's log start, and for which.
    waiting: BTreeMap<u32, Vec<(Offset, Place)>>,
}

#[derive(Debug)]
struct Deletion {
    to: ReplyTo,
    response: DeleteRecordsResponse,
    until: Instant,
    /// The answers that are waited for: partitions, each by its place in the response.
    left: BTreeMap<(usize, usize), u32>,
}

/// Where the answer for a partition stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    deletion: usize,
    topic: usize,
    partition: usize,
}

impl Node {
    pub(super) fn delete_records(&mut self, now: Now, to: ReplyTo, request: &DeleteRecordsRequest, out: &mut Outbox) {
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut waiting = Vec::new();
        let mut room = DELETED_AT_ONCE;
        for topic in &request.topics {
            let resolved = if room > 0 { self.resolve(&topic.name, TopicId::ZERO) } else { Err(too_many_deletions()) };
            if topic.partitions.is_empty() {
                room = room.saturating_sub(1);
            }
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let has_room = room > 0;
                room = room.saturating_sub(1);
                let resolved = if has_room { resolved.clone() } else { Err(too_many_deletions()) };
                let result = resolved.and_then(|id| {
                    let slot = self.hosted(TopicPartition { topic: id, partition: asked.partition_index })?;
                    self.delete_below(slot, asked.offset).map(|start| (slot, start))
                });
                let mut answer = DeleteRecordsPartitionResult {
                    partition_index: asked.partition_index,
                    low_watermark: -1,
                    ..DeleteRecordsPartitionResult::default()
                };
                match result {
                    Ok((slot, start)) => {
                        answer.low_watermark = start.0;
                        if self.host(slot).partition.has_followers() {
                            waiting.push((slot, start, topics.len(), partitions.len()));
                        }
                    }
                    Err(refused) => answer.error_code = refused.code.into(),
                }
                partitions.push(answer);
            }
            topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions });
        }
        let response = DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() };
        waiting.retain(|&(slot, start, ..)| self.host(slot).partition.advanced().start < Some(start));
        if waiting.is_empty() {
            // The log start moves when it is durable: who is told of it would else see it go back after a crash.
            return self.reply_at(self.journal.end(), to, Response::DeleteRecords(response), out);
        }
        let until = now.instant + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let left = waiting.iter().map(|&(slot, _, topic, partition)| ((topic, partition), slot)).collect();
        let deletion = self.deletions.parked.insert(Deletion { to, response, until, left });
        for (slot, start, topic, partition) in waiting {
            let place = Place { deletion, topic, partition };
            self.deletions.waiting.entry(slot).or_default().push((start, place));
        }
        self.deadlines.insert((until, Reason::Delete(deletion)));
    }

    /// The log start that clients are told of a partition has moved: answers those that waited for it.
    pub(super) fn settle_deletions(&mut self, slot: u32, out: &mut Outbox) {
        if self.deletions.waiting.is_empty() {
            return;
        }
        let start = self.host(slot).partition.advanced().start;
        let Some(waiting) = self.deletions.waiting.remove(&slot) else { return };
        let (done, left): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|&(wanted, _)| start >= Some(wanted));
        if !left.is_empty() {
            self.deletions.waiting.insert(slot, left);
        }
        for (_, place) in done {
            self.settle_deletion(place, start.map_or(-1, |start| start.0), ErrorCode::None, out);
        }
    }

    /// Nobody will delete what is waited for in a partition.
    pub(super) fn refuse_deletions(&mut self, slot: u32, code: ErrorCode, out: &mut Outbox) {
        for (_, place) in self.deletions.waiting.remove(&slot).unwrap_or_default() {
            self.settle_deletion(place, -1, code, out);
        }
    }

    /// A request has waited as long as its client lets it; what it asked for is done all the same.
    pub(super) fn delete_late(&mut self, id: usize, out: &mut Outbox) {
        let left: Vec<_> = self.deletions.parked[id].left.iter().map(|(&place, &slot)| (place, slot)).collect();
        for ((topic, partition), slot) in left {
            if let Some(waiting) = self.deletions.waiting.get_mut(&slot) {
                waiting.retain(|(_, place)| place.deletion != id);
                if waiting.is_empty() {
                    self.deletions.waiting.remove(&slot);
                }
            }
            self.settle_deletion(Place { deletion: id, topic, partition }, -1, ErrorCode::RequestTimedOut, out);
        }
    }

    fn settle_deletion(&mut self, place: Place, low_watermark: i64, code: ErrorCode, out: &mut Outbox) {
        let deletion = &mut self.deletions.parked[place.deletion];
        let answer = &mut deletion.response.topics[place.topic].partitions[place.partition];
        (answer.low_watermark, answer.error_code) = (low_watermark, code.into());
        deletion.left.remove(&(place.topic, place.partition));
        if deletion.left.is_empty() {
            let Deletion { to, response, until, .. } = self.deletions.parked.remove(place.deletion);
            self.deadlines.remove(&(until, Reason::Delete(place.deletion)));
            self.reply_at(self.journal.end(), to, Response::DeleteRecords(response), out);
        }
    }

    fn delete_below(&mut self, slot: u32, offset: i64) -> Result<Offset, Refused> {
        let hosted = self.hosts[slot as usize].as_mut().expect("a slot that was looked up");
        hosted.partition.check_epoch(-1)?;
        if hosted.is_internal {
            return Err(ErrorCode::InvalidTopicException.into());
        }
        let policy = hosted.config.cleanup_policy;
        if policy.compacts && !policy.deletes {
            let message = "records of a topic whose cleanup.policy is compact alone are not deleted";
            return Err(Refused { code: ErrorCode::PolicyViolation, message: Some(message.to_owned().into()) });
        }
        let high_watermark = hosted.partition.advanced().high_watermark;
        let to = if offset == UP_TO_HIGH_WATERMARK { high_watermark } else { Offset(offset) };
        if to.0 < 0 || to > high_watermark {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        let log = hosted.partition.log();
        // Only what frees space may take what is kept for that: who deletes record by record would else use it up.
        let class = if log.frees_segments(to) { Class::Critical } else { Class::Ordinary };
        let moves = to > log.coming_start();
        if moves && !self.journal.has_room_for([OFFSET_BYTES; 2].into_iter(), class) {
            self.checkpoint_soon();
            let message = "the journal has no room for it; it has when a checkpoint is done or the disk has space";
            return Err(Refused { code: ErrorCode::KafkaStorageError, message: Some(message.to_owned().into()) });
        }
        self.advance_start(slot, to);
        Ok(self.host(slot).partition.log().coming_start())
    }

    /// Whether the journal has room for what moving a log start takes: the closing of a segment, and the new start.
    pub(super) fn has_room_to_advance(&self) -> bool {
        self.journal.has_room_for([OFFSET_BYTES; 2].into_iter(), Class::Critical)
    }

    /// Has a partition's log start move when that is durable.
    pub(super) fn advance_start(&mut self, slot: u32, to: Offset) {
        let hosted = self.hosts[slot as usize].as_mut().expect("a slot that was looked up");
        if let Some(lsn) = hosted.partition.log_mut().advance_start(to, &mut self.journal) {
            self.woken.push_back((lsn, Woken::Partition(slot)));
        }
    }

    /// The producers that a partition remembers, for DescribeProducers.
    pub(super) fn describe_producers(&mut self, topic: &Str, partition_index: i32) -> PartitionResponse {
        let mut answer = PartitionResponse { partition_index, ..PartitionResponse::default() };
        let found = self
            .resolve(topic, TopicId::ZERO)
            .and_then(|id| self.hosted(TopicPartition { topic: id, partition: partition_index }))
            .and_then(|slot| self.host(slot).partition.check_epoch(-1).map(|()| slot));
        match found {
            Ok(slot) => {
                let producers = self.host(slot).partition.log().producers();
                answer.active_producers = producers
                    .iter()
                    .map(|(id, producer)| ProducerState {
                        producer_id: id.0,
                        producer_epoch: i32::from(producer.epoch.0),
                        last_sequence: producer.batches.last().map_or(-1, |batch| batch.last_sequence),
                        last_timestamp: producer.batches.last().map_or(-1, |batch| batch.timestamp.0),
                        coordinator_epoch: -1,
                        current_txn_start_offset: -1,
                    })
                    .collect();
            }
            Err(refused) => answer.error_code = refused.code.into(),
        }
        answer
    }

    pub(super) fn describe_log_dirs(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: &DescribeLogDirsRequest,
        out: &mut Outbox,
    ) {
        let Some(asked) = &request.topics else {
            return self.begin_long(now, to, Long::LogDirs(None, Vec::new()), out);
        };
        let topics = asked.iter().filter_map(|topic| {
            let named = Topic::Name(topic.topic.clone());
            let slots = topic.partitions.iter().filter_map(|&partition| self.find(&named, partition));
            let partitions: Vec<_> = slots.map(|slot| self.measured(slot)).collect();
            (!partitions.is_empty()).then(|| DescribeLogDirsTopic { name: topic.topic.clone(), partitions })
        });
        let response = self.log_dirs(topics.collect());
        out.push(Effect::Reply { to, response: Some(Response::DescribeLogDirs(response)) });
    }

    /// Adds the sizes of the partitions after one to `topics`, as many as a step has time for; the last of them, unless
    /// there are no more.
    pub(super) fn measure_partitions(
        &self,
        after: Option<TopicPartition>,
        topics: &mut Vec<DescribeLogDirsTopic>,
    ) -> Option<TopicPartition> {
        let next = self.partitions_after(after, MEASURED_AT_ONCE);
        let mut before = after.map(|id| id.topic);
        for &(id, slot) in &next {
            if before.replace(id.topic) != Some(id.topic) {
                let name = self.hosts[slot as usize].as_ref().expect("a hosted partition").name.clone();
                topics.push(DescribeLogDirsTopic { name, partitions: Vec::new() });
            }
            topics.last_mut().expect("one was pushed").partitions.push(self.measured(slot));
        }
        next.last().filter(|_| next.len() == MEASURED_AT_ONCE).map(|&(id, _)| id)
    }

    fn measured(&self, slot: u32) -> DescribeLogDirsPartition {
        let hosted = self.hosts[slot as usize].as_ref().expect("a hosted partition");
        DescribeLogDirsPartition {
            partition_index: hosted.partition.id().partition,
            partition_size: i64::try_from(hosted.partition.log().bytes()).unwrap_or(i64::MAX),
            ..DescribeLogDirsPartition::default()
        }
    }

    /// The answer for the one data folder that there is. One that is full is told with an error beside all it holds, since it
    /// takes no records.
    pub(super) fn log_dirs(&self, topics: Vec<DescribeLogDirsTopic>) -> DescribeLogDirsResponse {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        // Until something has found room again, so that it is told in the pauses between two attempts, too.
        let is_full = self.storage.told_no_space;
        let error_code = if is_full { ErrorCode::KafkaStorageError } else { ErrorCode::None }.into();
        let result = DescribeLogDirsResult {
            error_code,
            log_dir: self.data_dir.clone(),
            topics,
            total_bytes: self.volume.map_or(UNKNOWN_BYTES, |volume| bytes(volume.total_bytes)),
            usable_bytes: self.volume.map_or(UNKNOWN_BYTES, |volume| bytes(volume.usable_bytes)),
            ..DescribeLogDirsResult::default()
        };
        DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
    }
}

/// A partition that is named behind as many as one request may name.
fn too_many_deletions() -> Refused {
    ErrorCode::PolicyViolation.into()
}

/// The name of a partition for people.
pub(super) fn display(name: &Str, partition: TopicPartition) -> String {
    format!("{name}-{}", partition.partition)
}
