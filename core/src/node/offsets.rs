//! Questions about offsets: ListOffsets, OffsetForLeaderEpoch.

use std::collections::BTreeMap;

use slab::Slab;
use smallvec::SmallVec;

use super::slices::Long;
use super::{Node, Reader};
use crate::boundary::{DiskOp, Effect, Outbox, Refused, ReplyTo};
use crate::ids::{ConnId, LeaderEpoch, Offset, TopicId, TopicPartition};
use crate::log::{Search, Wanted};
use crate::time::{Now, Timestamp};
use crate::wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    ListOffsetsTopicResponse,
};
use crate::wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
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

/// The `replica_id` of who asks about the very replicas of this broker, led here or not: what its log has, whether
/// consumers may read it or not.
const DEBUGGING: i32 = -2;

/// Partitions of one request that are looked at in one step, at about 0.1 µs each; some 0.5 µs where a record must be
/// searched for.
const LOOKED_UP_AT_ONCE: usize = 200;

/// Partitions of one request in which a record is searched for at the same time. Each search keeps the places where it
/// may look, up to one for each segment.
const SEARCHED_AT_ONCE: usize = 256;

/// Partitions of OffsetForLeaderEpoch that are looked at in one step, at about 0.2 µs each.
const EPOCH_ENDS_AT_ONCE: usize = 500;

/// From this version on there is an error for an offset that a new leader does not know yet (KIP-207).
const NOT_AVAILABLE_FROM: i16 = 5;

/// What is asked for is not known yet; the client asks again.
fn not_available(version: i16) -> Refused {
    let is_known = version >= NOT_AVAILABLE_FROM;
    if is_known { ErrorCode::OffsetNotAvailable } else { ErrorCode::LeaderNotAvailable }.into()
}

/// The answer for a partition of which nothing is known.
fn unanswered() -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..ListOffsetsPartitionResponse::default()
    }
}

/// A ListOffsets request, some of whose partitions are still looked up.
#[derive(Debug)]
pub(super) struct OffsetQuery {
    to: ReplyTo,
    /// Whether it asks about this broker's own replicas.
    is_debugging: bool,
    asked: Vec<ListOffsetsTopic>,
    /// The topic and the partition that is looked at next.
    next: (usize, usize),
    response: ListOffsetsResponse,
    /// Where in the response each partition stands that was found. As in Kafka, one that is named twice is answered as
    /// a mistake wherever it is named.
    named: BTreeMap<TopicPartition, (usize, usize)>,
    /// The searches that are under way.
    lookups: Slab<Lookup>,
    /// Whether partitions are left to look at, and no slice will unless a search ends.
    is_paused: bool,
    /// The searches that are under way, and one for the partitions that are left to look at.
    left: usize,
}

/// One partition of a request in which a record is searched for.
#[derive(Debug)]
struct Lookup {
    topic: usize,
    partition: usize,
    slot: u32,
    id: TopicPartition,
    /// The leader epoch in which it was asked.
    epoch: LeaderEpoch,
    wanted: Wanted,
    search: Search,
}

impl Node {
    pub(super) fn list_offsets(&mut self, now: Now, to: ReplyTo, request: ListOffsetsRequest, out: &mut Outbox) {
        // What is still to be looked at counts as one lookup.
        let query = OffsetQuery {
            to,
            is_debugging: request.replica_id == DEBUGGING,
            asked: request.topics,
            next: (0, 0),
            response: ListOffsetsResponse::default(),
            named: BTreeMap::new(),
            lookups: Slab::new(),
            is_paused: false,
            left: 1,
        };
        let query = self.offset_queries.insert(query);
        self.begin_long(now, to, Long::Offsets(query), out);
    }

    /// Looks at the next partitions of a request; whether there are more to look at in the next slice. There are not
    /// while too many searches are under way.
    pub(super) fn look_up(&mut self, query: usize, out: &mut Outbox) -> bool {
        let mut room = LOOKED_UP_AT_ONCE;
        loop {
            let OffsetQuery { asked, next: (topic, first), .. } = &self.offset_queries[query];
            let (topic, first) = (*topic, *first);
            let Some(asked) = asked.get(topic) else { break };
            let searches_left = SEARCHED_AT_ONCE.saturating_sub(self.offset_queries[query].lookups.len());
            if searches_left == 0 {
                self.offset_queries[query].is_paused = true;
                return false;
            }
            if room == 0 {
                return true;
            }
            let name = asked.name.clone();
            let resolved = self.resolve(&name, TopicId::ZERO);
            let next: SmallVec<[ListOffsetsPartition; 16]> =
                asked.partitions.iter().skip(first).take(room.min(searches_left)).cloned().collect();
            let end = first + next.len();
            let is_done = end == asked.partitions.len();
            // A topic costs as much as a partition even where it has none.
            room = room.saturating_sub(next.len().max(1));
            let OffsetQuery { response, next: place, .. } = &mut self.offset_queries[query];
            *place = if is_done { (topic + 1, 0) } else { (topic, end) };
            if first == 0 {
                response.topics.push(ListOffsetsTopicResponse { name, partitions: Vec::new() });
            }
            for partition in next {
                self.look_up_partition(query, topic, &resolved, &partition, out);
            }
        }
        self.end_lookup(query, out);
        false
    }

    fn look_up_partition(
        &mut self,
        query: usize,
        topic: usize,
        resolved: &Result<TopicId, Refused>,
        asked: &ListOffsetsPartition,
        out: &mut Outbox,
    ) {
        let index = asked.partition_index;
        let mut answer = ListOffsetsPartitionResponse { partition_index: index, ..unanswered() };
        let OffsetQuery { to: ReplyTo { version, .. }, is_debugging, .. } = self.offset_queries[query];
        let found = resolved.clone().and_then(|id| {
            let id = TopicPartition { topic: id, partition: index };
            let slot = self.hosted(id)?;
            let OffsetQuery { response, named, .. } = &mut self.offset_queries[query];
            let place = (topic, response.topics[topic].partitions.len());
            if let Some(&(topic, partition)) = named.get(&id) {
                // What may still be searched for it changes nothing any more.
                let before = &mut response.topics[topic].partitions[partition];
                *before = ListOffsetsPartitionResponse { partition_index: index, ..unanswered() };
                before.error_code = ErrorCode::InvalidRequest.into();
                return Err(ErrorCode::InvalidRequest.into());
            }
            named.insert(id, place);
            if is_debugging && self.answer_of_replica(slot, asked, &mut answer)? {
                return Ok(None);
            }
            self.host(slot).partition.check_epoch(asked.current_leader_epoch)?;
            let wanted = self.answer_offset(slot, asked.timestamp, version, &mut answer)?;
            Ok(wanted.map(|wanted| (slot, id, wanted)))
        });
        let found = found.unwrap_or_else(|refused| {
            answer.error_code = refused.code.into();
            None
        });
        let search = found.map(|(slot, _, wanted)| self.begin_search(slot, wanted));
        let OffsetQuery { response, lookups, left, .. } = &mut self.offset_queries[query];
        let partitions = &mut response.topics[topic].partitions;
        partitions.push(answer);
        if let (Some((slot, id, wanted)), Some(search)) = (found, search) {
            let partition = partitions.len() - 1;
            let epoch = self.hosts[slot as usize].as_ref().expect("it was just looked up").partition.epoch();
            let index = lookups.insert(Lookup { topic, partition, slot, id, epoch, wanted, search });
            *left += 1;
            self.search_on(query, index, out);
        }
    }

    /// Answers where this replica's log begins or ends, if that is what is asked.
    fn answer_of_replica(
        &mut self,
        slot: u32,
        asked: &ListOffsetsPartition,
        answer: &mut ListOffsetsPartitionResponse,
    ) -> Result<bool, Refused> {
        let partition = &self.host(slot).partition;
        let log = partition.log();
        let offset = match asked.timestamp {
            special::LATEST => log.end(),
            special::EARLIEST => log.start(),
            _ => return Ok(false),
        };
        partition.check_replica(asked.current_leader_epoch)?;
        answer.offset = offset.0;
        answer.leader_epoch = partition.epoch().0;
        Ok(true)
    }

    /// Answers from what is known at once, or says which record must be searched for.
    fn answer_offset(
        &mut self,
        slot: u32,
        timestamp: i64,
        version: i16,
        answer: &mut ListOffsetsPartitionResponse,
    ) -> Result<Option<Wanted>, Refused> {
        let partition = &self.host(slot).partition;
        let log = partition.log();
        let advanced = partition.advanced();
        let epoch_at = |offset: Offset| log.epochs().at(offset).map_or(-1, |epoch| epoch.0);
        let start = advanced.start.ok_or_else(|| not_available(version));
        match timestamp {
            special::LATEST => {
                if !partition.has_reached_epoch() {
                    return Err(not_available(version));
                }
                answer.offset = advanced.high_watermark.0;
                answer.leader_epoch = partition.epoch().0;
            }
            special::EARLIEST => {
                let start = start?;
                answer.offset = start.0;
                answer.leader_epoch = epoch_at(start);
            }
            special::EARLIEST_LOCAL if version >= 8 => {
                let start = start?;
                answer.offset = start.0;
                answer.leader_epoch = epoch_at(start);
            }
            // A newer one may lie between the high watermark that is known and the one that an older leader has shown.
            special::MAX_TIMESTAMP if version >= 7 && !partition.has_reached_epoch() => {
                return Err(not_available(version));
            }
            special::MAX_TIMESTAMP if version >= 7 => return Ok(Some(Wanted::Largest)),
            special::LATEST_TIERED if version >= 9 => {}
            special::EARLIEST_PENDING_UPLOAD if version >= 11 => {}
            negative if negative < 0 => return Err(ErrorCode::UnsupportedVersion.into()),
            time => return Ok(Some(Wanted::AtOrAfter(Timestamp(time)))),
        }
        Ok(None)
    }

    /// Begins to search what consumers may read of a partition.
    fn begin_search(&mut self, slot: u32, wanted: Wanted) -> Search {
        let partition = &self.host(slot).partition;
        partition.log().search(wanted, partition.advanced().high_watermark)
    }

    /// Looks at the next place, or ends this partition's lookup with what was found.
    fn search_on(&mut self, query: usize, index: usize, out: &mut Outbox) {
        let OffsetQuery { to, response, lookups, .. } = &mut self.offset_queries[query];
        let lookup = &mut lookups[index];
        if let Some(plan) = lookup.search.next_plan() {
            let read = self.next_read();
            self.reads.insert(read, (Reader::Offsets(query, index), super::segment_of(&plan)));
            return out.push(Effect::Disk(DiskOp::Read(read, plan)));
        }
        let answer = &mut response.topics[lookup.topic].partitions[lookup.partition];
        let hosted = self.hosts[lookup.slot as usize].as_ref().expect("it was just looked at");
        if answer.error_code == ErrorCode::InvalidRequest.code() {
            // It was named once more.
        } else if let Err(refused) = hosted.partition.check_epoch(lookup.epoch.0) {
            // Another broker leads by now, and what was found may be none of its log.
            answer.error_code = match refused.code {
                ErrorCode::FencedLeaderEpoch => ErrorCode::NotLeaderOrFollower.into(),
                code => code.into(),
            };
        } else if let Some((offset, timestamp)) = lookup.search.found() {
            answer.offset = offset.0;
            answer.timestamp = timestamp.0;
            answer.leader_epoch = hosted.partition.log().epochs().at(offset).map_or(-1, |epoch| epoch.0);
        } else if !hosted.partition.has_reached_epoch() {
            // It may lie between the high watermark that is known and the one that an older leader has shown.
            answer.error_code = not_available(to.version).code.into();
        }
        self.end_search(query, index, out);
    }

    /// One search less is under way, so that there is room to look at further partitions.
    fn end_search(&mut self, query: usize, index: usize, out: &mut Outbox) {
        let OffsetQuery { to, lookups, is_paused, .. } = &mut self.offset_queries[query];
        lookups.remove(index);
        if std::mem::take(is_paused) {
            self.slices.go_on_later(*to, Long::Offsets(query));
        }
        self.end_lookup(query, out);
    }

    /// Looks at no more partitions of the requests of a connection that is gone where they wait for searches.
    pub(super) fn close_paused(&mut self, conn: ConnId, out: &mut Outbox) {
        let is_gone = |query: &OffsetQuery| query.is_paused && query.to.conn == conn;
        let gone: Vec<usize> =
            self.offset_queries.iter().filter(|(_, query)| is_gone(query)).map(|(at, _)| at).collect();
        for query in gone {
            self.offset_queries[query].is_paused = false;
            self.end_lookup(query, out);
        }
    }

    /// A search has ended, or there are no partitions left to look at, or nobody waits for those.
    pub(super) fn end_lookup(&mut self, query: usize, out: &mut Outbox) {
        self.offset_queries[query].left -= 1;
        if self.offset_queries[query].left == 0 {
            let OffsetQuery { to, response, .. } = self.offset_queries.remove(query);
            out.push(Effect::Reply { to, response: Some(Response::ListOffsets(response)) });
        }
    }

    pub(super) fn offset_read(&mut self, query: usize, index: usize, result: super::ReadResult, out: &mut Outbox) {
        let &Lookup { slot, id, wanted, .. } = &self.offset_queries[query].lookups[index];
        let failed = match result {
            // The topic has gone while its segments were read.
            _ if !self.is_hosted(slot, id) => ErrorCode::UnknownTopicOrPartition,
            Ok(outcome) => {
                self.offset_queries[query].lookups[index].search.take(&outcome);
                return self.search_on(query, index, out);
            }
            // The segment is gone, and what was found so far may be gone too: only a log start that moves sends a search
            // back, and no search moves it.
            Err(None) => {
                self.offset_queries[query].lookups[index].search = self.begin_search(slot, wanted);
                return self.search_on(query, index, out);
            }
            Err(Some(error)) => {
                self.read_failed(slot, &error, out);
                ErrorCode::KafkaStorageError
            }
        };
        let OffsetQuery { response, lookups, .. } = &mut self.offset_queries[query];
        let lookup = &lookups[index];
        let answer = &mut response.topics[lookup.topic].partitions[lookup.partition];
        if answer.error_code != ErrorCode::InvalidRequest.code() {
            answer.error_code = failed.into();
        }
        self.end_search(query, index, out);
    }

    /// Finds where the epochs end of the next partitions of a request, and says whether there are more.
    pub(super) fn find_epoch_ends(
        &self,
        request: &OffsetForLeaderEpochRequest,
        topics: &mut Vec<OffsetForLeaderTopicResult>,
    ) -> bool {
        let mut room = EPOCH_ENDS_AT_ONCE;
        loop {
            let at = match topics.len().checked_sub(1) {
                Some(last) if topics[last].partitions.len() < request.topics[last].partitions.len() => last,
                _ => topics.len(),
            };
            let Some(asked) = request.topics.get(at) else { return false };
            if room == 0 {
                return true;
            }
            if at == topics.len() {
                let partitions = Vec::with_capacity(asked.partitions.len());
                topics.push(OffsetForLeaderTopicResult { topic: asked.topic.clone(), partitions });
            }
            let resolved = self.resolve(&asked.topic, TopicId::ZERO);
            let found = &mut topics[at].partitions;
            let next = asked.partitions.iter().skip(found.len()).take(room);
            // A topic costs as much as a partition even where it has none.
            room = room.saturating_sub(next.len().max(1));
            found.extend(next.map(|asked| self.epoch_end(&resolved, asked)));
        }
    }

    fn epoch_end(&self, topic: &Result<TopicId, Refused>, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
        let mut answer = EpochEndOffset {
            partition: asked.partition,
            leader_epoch: -1,
            end_offset: -1,
            ..EpochEndOffset::default()
        };
        let found = topic.clone().and_then(|id| {
            let slot = self.hosted(TopicPartition { topic: id, partition: asked.partition })?;
            let partition = &self.hosts[slot as usize].as_ref().expect("it was just looked up").partition;
            partition.check_epoch(asked.current_leader_epoch)?;
            // An epoch above the leader's own is unknown to it; its own one ends at the end of the log, even before it
            // wrote anything (KAFKA-7415).
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
        answer
    }
}
