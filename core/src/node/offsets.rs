//! Questions about offsets: ListOffsets, OffsetForLeaderEpoch.

use std::collections::VecDeque;

use super::{Node, Reader};
use crate::boundary::{DiskOp, Effect, Outbox, Refused, ReplyTo};
use crate::ids::{LeaderEpoch, Offset, TopicId, TopicPartition};
use crate::log::{ReadOutcome, ReadPlan};
use crate::time::Timestamp;
use crate::wire::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use crate::wire::{ErrorCode, Response};

/// Timestamps that stand for a place, not a time.
mod special {
    /// The high watermark (or last stable offset).
    pub(super) const LATEST: i64 = -1;
    /// The log start offset.
    pub(super) const EARLIEST: i64 = -2;
    /// The record with the largest timestamp (KIP-734).
    pub(super) const MAX_TIMESTAMP: i64 = -3;
    /// The first offset kept on local disks (KIP-405): everything is local here.
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    /// The last offset that went to remote storage (KIP-1005): there is none.
    pub(super) const LATEST_TIERED: i64 = -5;
    /// The first offset that waits for an upload to remote storage (KIP-1023): there is none.
    pub(super) const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

/// A ListOffsets request, some of whose partitions are still looked up.
#[derive(Debug)]
pub(super) struct OffsetQuery {
    to: ReplyTo,
    response: ListOffsetsResponse,
    searches: Vec<Search>,
    left: usize,
}

/// One partition's lookup: the places that are left to look at, one after another.
#[derive(Debug)]
struct Search {
    topic: usize,
    partition: usize,
    slot: u32,
    id: TopicPartition,
    plans: VecDeque<ReadPlan>,
}

impl Node {
    pub(super) fn list_offsets(&mut self, to: ReplyTo, request: ListOffsetsRequest, out: &mut Outbox) {
        let mut searches = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let resolved = self.resolve(&topic.name, TopicId::ZERO);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in topic.partitions {
                let index = asked.partition_index;
                let mut answer = ListOffsetsPartitionResponse {
                    partition_index: index,
                    timestamp: -1,
                    offset: -1,
                    leader_epoch: -1,
                    ..ListOffsetsPartitionResponse::default()
                };
                let found = resolved.clone().and_then(|id| {
                    let id = TopicPartition { topic: id, partition: index };
                    let slot = self.hosted(id)?;
                    self.host(slot).partition.check_epoch(asked.current_leader_epoch)?;
                    self.answer_offset(slot, asked.timestamp, to.version, &mut answer).map(|plans| (slot, id, plans))
                });
                match found {
                    Ok((_, _, plans)) if plans.is_empty() => {}
                    Ok((slot, id, plans)) => {
                        searches.push(Search { topic: topics.len(), partition: partitions.len(), slot, id, plans });
                    }
                    Err(refused) => answer.error_code = refused.code.into(),
                }
                partitions.push(answer);
            }
            topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
        }
        let response = ListOffsetsResponse { topics, ..ListOffsetsResponse::default() };
        if searches.is_empty() {
            return out.push(Effect::Reply { to, response: Some(Response::ListOffsets(response)) });
        }
        let left = searches.len();
        let id = self.offset_queries.insert(OffsetQuery { to, response, searches, left });
        for index in 0..left {
            self.search_on(id, index, out);
        }
    }

    /// Answers from what is known at once, or says where to look.
    fn answer_offset(
        &mut self,
        slot: u32,
        timestamp: i64,
        version: i16,
        answer: &mut ListOffsetsPartitionResponse,
    ) -> Result<VecDeque<ReadPlan>, Refused> {
        let partition = &self.host(slot).partition;
        let log = partition.log();
        let advanced = partition.advanced();
        let epoch_at = |offset: Offset| log.epochs().at(offset).map_or(-1, |epoch| epoch.0);
        match timestamp {
            special::LATEST => {
                answer.offset = advanced.high_watermark.0;
                answer.leader_epoch = partition.epoch().0;
            }
            special::EARLIEST => {
                answer.offset = log.start().0;
                answer.leader_epoch = epoch_at(log.start());
            }
            special::EARLIEST_LOCAL if version >= 8 => {
                answer.offset = log.start().0;
                answer.leader_epoch = epoch_at(log.start());
            }
            special::MAX_TIMESTAMP if version >= 7 => return Ok(log.plans_for_max_timestamp()),
            special::LATEST_TIERED if version >= 9 => {}
            special::EARLIEST_PENDING_UPLOAD if version >= 11 => {}
            negative if negative < 0 => return Err(ErrorCode::UnsupportedVersion.into()),
            time => return Ok(log.plans_for_timestamp(Timestamp(time))),
        }
        Ok(VecDeque::new())
    }

    /// Looks at the next place, or ends this partition's lookup.
    fn search_on(&mut self, query: usize, index: usize, out: &mut Outbox) {
        let parked = &mut self.offset_queries[query];
        if let Some(plan) = parked.searches[index].plans.pop_front() {
            let read = self.next_read();
            self.reads.insert(read, (Reader::Offsets(query, index), super::segment_of(&plan)));
            return out.push(Effect::Disk(DiskOp::Read(read, plan)));
        }
        parked.left -= 1;
        if parked.left == 0 {
            let OffsetQuery { to, response, .. } = self.offset_queries.remove(query);
            out.push(Effect::Reply { to, response: Some(Response::ListOffsets(response)) });
        }
    }

    pub(super) fn offset_read(&mut self, query: usize, index: usize, result: super::ReadResult, out: &mut Outbox) {
        let parked = &mut self.offset_queries[query];
        let search = &mut parked.searches[index];
        let (slot, id) = (search.slot, search.id);
        let answer = &mut parked.response.topics[search.topic].partitions[search.partition];
        // The topic may have gone while its segments were read.
        let hosted = self.hosts[slot as usize].as_ref().filter(|hosted| hosted.partition.id() == id);
        match (result, hosted) {
            (Ok(ReadOutcome::Record(offset, timestamp)), Some(hosted)) => {
                search.plans.clear();
                if offset < hosted.partition.advanced().high_watermark {
                    answer.offset = offset.0;
                    answer.timestamp = timestamp.0;
                    answer.leader_epoch = hosted.partition.log().epochs().at(offset).map_or(-1, |epoch| epoch.0);
                }
            }
            // What is gone holds no record any more; the search goes on behind it.
            (Ok(_) | Err(None), Some(_)) => {}
            (_, None) => {
                search.plans.clear();
                answer.error_code = ErrorCode::UnknownTopicOrPartition.into();
            }
            (Err(Some(error)), Some(_)) => {
                search.plans.clear();
                answer.error_code = ErrorCode::KafkaStorageError.into();
                self.read_failed(slot, &error, out);
            }
        }
        self.search_on(query, index, out);
    }

    pub(super) fn offset_for_leader_epoch(
        &mut self,
        to: ReplyTo,
        request: &OffsetForLeaderEpochRequest,
        out: &mut Outbox,
    ) {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let resolved = self.resolve(&topic.topic, TopicId::ZERO);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let mut answer = EpochEndOffset {
                    partition: asked.partition,
                    leader_epoch: -1,
                    end_offset: -1,
                    ..EpochEndOffset::default()
                };
                let found = resolved.clone().and_then(|id| {
                    let slot = self.hosted(TopicPartition { topic: id, partition: asked.partition })?;
                    let partition = &self.host(slot).partition;
                    partition.check_epoch(asked.current_leader_epoch)?;
                    // An epoch above the leader's own is unknown to it; its own one ends at the end of the log, even
                    // before it wrote anything (KAFKA-7415).
                    let log = partition.log();
                    Ok(if asked.leader_epoch == partition.epoch().0 {
                        Some((partition.epoch(), log.end()))
                    } else if asked.leader_epoch > partition.epoch().0 {
                        None
                    } else {
                        log.epochs().end_of(LeaderEpoch(asked.leader_epoch), log.end())
                    })
                });
                match found {
                    Ok(Some((epoch, end))) => {
                        answer.leader_epoch = epoch.0;
                        answer.end_offset = end.0;
                    }
                    Ok(None) => {}
                    Err(refused) => answer.error_code = refused.code.into(),
                }
                partitions.push(answer);
            }
            topics.push(OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions });
        }
        let response = OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() };
        out.push(Effect::Reply { to, response: Some(Response::OffsetForLeaderEpoch(response)) });
    }
}
