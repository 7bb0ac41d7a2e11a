//! What is asked about logs as such: DeleteRecords, DescribeProducers, DescribeLogDirs.

use super::fetch::Topic;
use super::slices::Long;
use super::{Node, Woken};
use crate::boundary::{Effect, Outbox, Refused, ReplyTo};
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::journal::Class;
use crate::time::Now;
use crate::wire::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::wire::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use crate::wire::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use crate::wire::{ErrorCode, Response, Str};

/// The offset that stands for the high watermark in DeleteRecords.
const UP_TO_HIGH_WATERMARK: i64 = -1;

/// The payload of a record that holds an offset, in bytes.
const OFFSET_BYTES: u64 = 8;

/// Partitions whose sizes are told in one step, at about 25 ns each.
const MEASURED_AT_ONCE: usize = 2_000;

/// The size of a volume that is not known (KIP-827).
const UNKNOWN_BYTES: i64 = -1;

impl Node {
    pub(super) fn delete_records(&mut self, to: ReplyTo, request: &DeleteRecordsRequest, out: &mut Outbox) {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let resolved = self.resolve(&topic.name, TopicId::ZERO);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let result = resolved.clone().and_then(|id| {
                    let slot = self.hosted(TopicPartition { topic: id, partition: asked.partition_index })?;
                    self.delete_below(slot, asked.offset)
                });
                let mut answer = DeleteRecordsPartitionResult {
                    partition_index: asked.partition_index,
                    low_watermark: -1,
                    ..DeleteRecordsPartitionResult::default()
                };
                match result {
                    Ok(start) => answer.low_watermark = start.0,
                    Err(refused) => answer.error_code = refused.code.into(),
                }
                partitions.push(answer);
            }
            topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions });
        }
        let response = DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() };
        // The log start moves when it is durable: who is told of it would else see it go back after a crash.
        self.reply_at(self.journal.end(), to, Response::DeleteRecords(response), out);
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
        if !self.has_room_to_advance() {
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

    pub(super) fn describe_producers(&mut self, to: ReplyTo, request: &DescribeProducersRequest, out: &mut Outbox) {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let resolved = self.resolve(&topic.name, TopicId::ZERO);
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for &partition_index in &topic.partition_indexes {
                let mut answer = PartitionResponse { partition_index, ..PartitionResponse::default() };
                let found = resolved
                    .clone()
                    .and_then(|id| self.hosted(TopicPartition { topic: id, partition: partition_index }));
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
                partitions.push(answer);
            }
            topics.push(TopicResponse { name: topic.name.clone(), partitions });
        }
        let response = DescribeProducersResponse { topics, ..DescribeProducersResponse::default() };
        out.push(Effect::Reply { to, response: Some(Response::DescribeProducers(response)) });
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

    /// The answer for the one data folder that there is.
    pub(super) fn log_dirs(&self, topics: Vec<DescribeLogDirsTopic>) -> DescribeLogDirsResponse {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let result = DescribeLogDirsResult {
            log_dir: self.data_dir.clone(),
            topics,
            total_bytes: self.volume.map_or(UNKNOWN_BYTES, |volume| bytes(volume.total_bytes)),
            usable_bytes: self.volume.map_or(UNKNOWN_BYTES, |volume| bytes(volume.usable_bytes)),
            ..DescribeLogDirsResult::default()
        };
        DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
    }
}

/// The name of a partition for people.
pub(super) fn display(name: &Str, partition: TopicPartition) -> String {
    format!("{name}-{}", partition.partition)
}
