//! Produce: batches in, answered when the journal has them, or the whole in-sync set.
//!
//! Whoever waits for other brokers waits as long as its client lets it; its batches stay, whatever it is told. The disk
//! alone is waited for without a limit: it is done, or the node ends.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::fetch::Topic;
use super::leaders::Endpoint;
use super::{Node, Reason, Woken};
use crate::batch::VerifiedBatch;
use crate::boundary::{Effect, Outbox, Produce, ProducePartition, ProduceTopic, Refused, ReplyTo};
use crate::ids::{LeaderEpoch, NodeId, Offset, TopicPartition, Uuid};
use crate::journal::Class;
use crate::partition::Origin;
use crate::time::{Instant, Now};
use crate::wait::ProduceId;
use crate::wire::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use crate::wire::{ErrorCode, Response, Str};

/// A produce request whose answer waits.
#[derive(Debug)]
pub(super) struct ParkedProduce {
    to: ReplyTo,
    response: ProduceResponse,
    pending: usize,
    /// Where it waits for other brokers.
    patience: Option<Box<Patience>>,
}

/// How long a request waits for the in-sync set.
#[derive(Debug)]
struct Patience {
    until: Instant,
    ends: SmallVec<[Awaited; 2]>,
}

/// What a request waits for.
#[derive(Debug)]
struct Awaited {
    partition: TopicPartition,
    /// Up to where.
    end: Offset,
    place: Place,
}

/// Where a partition stands in an answer: the number of its topic, and its own there.
#[derive(Clone, Copy, Debug)]
struct Place {
    topic: usize,
    partition: usize,
}

/// What journal records of a batch need besides its bytes: headers, an epoch start, a roll.
pub(super) const RECORD_OVERHEAD: usize = 512;

/// How many batches that requests wait for are told of in one step that their time is up, at about 0.5 µs each, but for
/// those of a single request, which go together.
const TIMED_OUT_AT_ONCE: usize = 100;

/// Batches of requests that waited for room which one step takes up, at about 1 µs each: few enough for a step, and many
/// enough to share a commit.
const RESUMED_AT_ONCE: usize = 250;

/// An offset that is not known.
const UNKNOWN: Offset = Offset(-1);

/// Requests wait while so many bytes of bodies wait for the next commit, so that a commit stays short.
const DIRECT_PENDING_MAX: usize = 16 << 20;

impl Node {
    /// Takes a produce request, or lets it wait where the journal has no room until a checkpoint makes some.
    pub(super) fn produce(&mut self, now: Now, to: ReplyTo, produce: Box<Produce>, out: &mut Outbox) {
        if !self.stalled.is_empty() || self.waits(&produce) {
            self.stalled.push_back((to, produce));
            return;
        }
        self.append(now, to, produce, out);
    }

    /// Takes up the requests that waited for room, as many as one step has time for.
    pub(super) fn resume_stalled(&mut self, now: Now, out: &mut Outbox) {
        let mut batches = 0;
        while let Some((_, produce)) = self.stalled.front() {
            if self.waits(produce) {
                if self.direct_pending.is_empty() {
                    self.checkpoint_soon();
                }
                return;
            }
            if batches >= RESUMED_AT_ONCE {
                self.deadlines.insert((now.instant, Reason::Continue));
                return;
            }
            // One that names nothing is a request all the same.
            batches += produce.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>().max(1);
            let (to, produce) = self.stalled.pop_front().expect("one was at the front");
            self.append(now, to, produce, out);
        }
    }

    /// Whether there is room by now for requests that waited for it.
    pub(super) fn has_resumable(&self) -> bool {
        self.stalled.front().is_some_and(|(_, produce)| !self.waits(produce))
    }

    /// Whether a request is to wait for room, and not to be refused for want of it.
    fn waits(&self, produce: &Produce) -> bool {
        !self.has_room(produce) && self.no_space.is_none() && !self.exceeds_journal(produce)
    }

    /// Whether a request is larger than what checkpoints could ever make room for: a third of the journal, since large
    /// records may leave up to half of each file unused, and some files are always in use.
    fn exceeds_journal(&self, produce: &Produce) -> bool {
        let bytes = payloads(produce).filter(|&bytes| bytes <= self.journal.max_record_bytes()).sum::<u64>();
        bytes > self.ring_bytes() / 3
    }

    pub(super) fn has_room(&self, produce: &Produce) -> bool {
        self.has_room_for_bodies()
            && self.journal.has_room_for(payloads(produce), Class::Ordinary)
            && self.tails.bytes() < 2 * self.limits.tail_cache_bytes as u64
    }

    /// Whether the next commit may take further bodies along.
    pub(super) fn has_room_for_bodies(&self) -> bool {
        let direct: usize = self.direct_pending.iter().flat_map(|write| &write.pieces).map(Bytes::len).sum();
        direct < DIRECT_PENDING_MAX
    }

    fn append(&mut self, now: Now, to: ReplyTo, mut produce: Box<Produce>, out: &mut Outbox) {
        let (acks, may_write_internal) = (produce.acks, produce.may_write_internal);
        let refused = self.refuse_produce(&produce);
        let mut responses = Vec::with_capacity(produce.topics.len());
        let mut is_misled = false;
        let mut parked: SmallVec<[(u32, Offset); 2]> = SmallVec::new();
        let mut places: SmallVec<[Place; 2]> = SmallVec::new();
        // Batches stay where they are: each is a good part of what a small request is.
        for ProduceTopic { name, id, partitions } in &mut produce.topics {
            let (name, id) = (std::mem::take(name), *id);
            let resolved = self.resolve_topic(&Topic::named(to.version, &name, id));
            let mut partition_responses = Vec::with_capacity(partitions.len());
            for ProducePartition { index, batch } in partitions.iter() {
                let result = match (&refused, &resolved, batch) {
                    (Some(refused), ..) | (None, Err(refused), _) | (None, Ok(_), Err(refused)) => Err(refused.clone()),
                    (None, Ok(id), Ok(batch)) => self
                        .hosted(TopicPartition { topic: *id, partition: *index })
                        .and_then(|slot| self.check_writer(slot, may_write_internal).map(|()| slot))
                        .and_then(|slot| self.append_one(now, slot, batch, Origin::Client { acks }, &mut parked)),
                };
                if places.len() < parked.len() {
                    places.push(Place { topic: responses.len(), partition: partition_responses.len() });
                }
                let mut response = partition_response(*index, result);
                if response.error_code == ErrorCode::NotLeaderOrFollower.code()
                    && let Ok(topic) = resolved
                {
                    is_misled = true;
                    response.current_leader = self.leader_of(TopicPartition { topic, partition: *index }).into();
                }
                partition_responses.push(response);
            }
            responses.push(TopicProduceResponse { name, topic_id: id, partition_responses });
        }
        let node_endpoints = if is_misled { self.endpoints_told(to, &responses) } else { Vec::new() };
        let response = ProduceResponse { responses, node_endpoints, ..ProduceResponse::default() };
        if acks == 0 {
            // Nobody reads an answer; a refused batch closes the connection, so that the client sees that it lost
            // something, as Kafka does.
            let failed = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            let failed = failed.filter(|partition| partition.error_code != 0).count();
            out.push(Effect::Reply { to, response: None });
            if failed > 0 {
                out.push(Effect::Close { conn: to.conn, why: "a produce request with acks=0 was refused" });
            }
        } else if parked.is_empty() {
            out.push(Effect::Reply { to, response: Some(Response::Produce(response)) });
        } else {
            let pending = parked.len();
            let parking = ParkedProduce { to, response, pending, patience: None };
            let id = ProduceId(self.produces.insert(parking));
            if acks == 1 {
                parked.iter().for_each(|&(slot, end)| self.host(slot).own_acks.park(end, id));
            } else {
                parked.iter().for_each(|&(slot, end)| self.host(slot).acks.park(end, id));
                self.be_patient(now, id, &parked, &places, produce.timeout_ms);
            }
        }
    }

    /// Has a request wait for other brokers no longer than its client lets it.
    fn be_patient(&mut self, now: Now, id: ProduceId, parked: &[(u32, Offset)], places: &[Place], timeout_ms: i32) {
        if !parked.iter().any(|&(slot, _)| self.host(slot).partition.has_followers()) {
            return;
        }
        let until = now.instant + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        let awaited = |(&(slot, end), &place)| Awaited { partition: self.host(slot).partition.id(), end, place };
        let ends = parked.iter().zip(places).map(awaited).collect();
        self.produces[id.0].patience = Some(Box::new(Patience { until, ends }));
        self.deadlines.insert((until, Reason::Produce(id)));
    }

    /// Requests have waited as long as their clients let them: tells as many as one step has time for.
    pub(super) fn produce_late(&mut self, now: Now, first: ProduceId, out: &mut Outbox) {
        let mut told = self.lose_patience(first, out);
        while told < TIMED_OUT_AT_ONCE {
            let Some(&(at, Reason::Produce(id))) = self.deadlines.first() else { return };
            if at > now.instant {
                return;
            }
            self.deadlines.pop_first();
            told += self.lose_patience(id, out);
        }
    }

    /// A request is told that its time is up, and waits nowhere any more: of a client that sends the same again and again
    /// each copy would be kept until the high watermark moves. Returns how many batches it waited for.
    fn lose_patience(&mut self, id: ProduceId, out: &mut Outbox) -> usize {
        let mut parked = self.produces.remove(id.0);
        let patience = parked.patience.take().expect("only who has some is to lose it");
        let awaited = patience.ends.len();
        for Awaited { partition, end, place } in patience.ends {
            let hosted = self.by_id.get(&partition).and_then(|&slot| self.hosts[slot as usize].as_mut());
            // Where it waits no more, it has been told what has become of it.
            if hosted.is_some_and(|hosted| hosted.acks.leave(end, id)) {
                parked.pending -= 1;
                let response = &mut parked.response.responses[place.topic].partition_responses[place.partition];
                response.error_code = ErrorCode::RequestTimedOut.into();
                response.base_offset = -1;
            }
        }
        assert_eq!(parked.pending, 0, "nothing leads to a request that is no more");
        out.push(Effect::Reply { to: parked.to, response: Some(Response::Produce(parked.response)) });
        awaited
    }

    /// Whether a client may write to a partition: to the broker's own topics only tools may.
    fn check_writer(&mut self, slot: u32, may_write_internal: bool) -> Result<(), Refused> {
        let hosted = self.host(slot);
        if hosted.is_internal && !may_write_internal {
            let message = format!("{} is the broker's own: clients cannot write to it", hosted.name);
            return Err(Refused { code: ErrorCode::InvalidTopicException, message: Some(message.into()) });
        }
        Ok(())
    }

    /// What refuses the whole request.
    fn refuse_produce(&self, produce: &Produce) -> Option<Refused> {
        if !matches!(produce.acks, -1..=1) {
            return Some(ErrorCode::InvalidRequiredAcks.into());
        }
        if produce.transactional_id.is_some() {
            let message = "transactions are not served by this broker".to_owned();
            return Some(Refused {
                code: ErrorCode::TransactionalIdAuthorizationFailed,
                message: Some(message.into()),
            });
        }
        if self.exceeds_journal(produce) {
            let message = "the batches of this request do not fit the journal together: send fewer at a time";
            // Where it is the disk that keeps the journal small, that may pass.
            let is_bound = self.ring_bytes() < self.geometry.ring_bytes_max();
            let code = if is_bound { ErrorCode::KafkaStorageError } else { ErrorCode::MessageTooLarge };
            return Some(Refused { code, message: Some(message.to_owned().into()) });
        }
        if let Some(file) = &self.no_space {
            let message = format!("no space left for {file}; reads go on, appends resume when there is room");
            return Some(Refused { code: ErrorCode::KafkaStorageError, message: Some(message.into()) });
        }
        None
    }

    pub(super) fn append_one(
        &mut self,
        now: Now,
        slot: u32,
        batch: &VerifiedBatch,
        origin: Origin,
        parked: &mut SmallVec<[(u32, Offset); 2]>,
    ) -> Result<(Offset, i64, Offset), Refused> {
        let bytes = batch.batch_bytes() as u64;
        if bytes + RECORD_OVERHEAD as u64 > self.journal.max_record_bytes() {
            let message = format!("a batch of {bytes} bytes does not fit a file of the journal");
            return Err(Refused { code: ErrorCode::MessageTooLarge, message: Some(message.into()) });
        }
        let records = batch.count();
        let hosted = self.hosts[slot as usize].as_mut().expect("a slot that was looked up");
        let taken =
            hosted.partition.append(batch, origin, &hosted.config, now.wall, self.direct_from, &mut self.journal)?;
        if let Some(write) = taken.write {
            self.direct_bytes += write.pieces.iter().map(Bytes::len).sum::<usize>() as u64;
            self.direct_pending.push(write);
        }
        if bytes >= self.direct_from && taken.appended.is_some() {
            self.allocate_ahead(slot);
        }
        if let Some(appended) = taken.appended {
            self.counters.batches_in += 1;
            self.counters.records_in += u64::try_from(records).unwrap_or(0);
            self.counters.bytes_in += bytes;
            self.account_tail(slot);
            let hosted = self.hosts[slot as usize].as_mut().expect("a slot that was looked up");
            hosted.partition.appended(appended.end, now.instant, self.replicas.peers());
            if hosted.partition.has_followers() {
                self.replicas.stir(slot);
            }
            match self.woken.back_mut() {
                // What shares a commit is durable at once: one look at the partition is enough for a run of its records.
                Some((lsn, Woken::Partition(last))) if *last == slot && self.journal.is_in_open_commit(*lsn) => {
                    *lsn = appended.lsn;
                }
                _ => self.woken.push_back((appended.lsn, Woken::Partition(slot))),
            }
        } else {
            self.counters.duplicates += 1;
        }
        let advanced = self.host(slot).partition.advanced();
        let reached = match origin {
            Origin::Client { acks: 0 } => Offset(i64::MAX),
            Origin::Client { acks: 1 } => advanced.durable,
            Origin::Client { .. } | Origin::Coordinator => advanced.high_watermark,
        };
        if reached < taken.end {
            parked.push((slot, taken.end));
        }
        Ok((taken.base, taken.append_time, advanced.start.unwrap_or(UNKNOWN)))
    }

    /// One of the ends that a produce request waits for has been reached.
    pub(super) fn acknowledge(&mut self, id: ProduceId, out: &mut Outbox) {
        let parked = &mut self.produces[id.0];
        parked.pending -= 1;
        if parked.pending == 0 {
            let ParkedProduce { to, response, patience, .. } = self.produces.remove(id.0);
            if let Some(patience) = patience {
                self.deadlines.remove(&(patience.until, Reason::Produce(id)));
            }
            out.push(Effect::Reply { to, response: Some(Response::Produce(response)) });
        }
    }

    /// Nobody will acknowledge what is waited for in a partition: it goes away, or is led by another broker.
    pub(super) fn refuse_waiting(&mut self, slot: u32, code: ErrorCode, out: &mut Outbox) {
        let waiting: Vec<ProduceId> = self.host(slot).own_acks.drain().collect();
        self.refuse_each(slot, waiting, code, out);
        self.refuse_acks(slot, code, out);
    }

    /// Nobody will acknowledge what waits for the whole in-sync set.
    pub(super) fn refuse_acks(&mut self, slot: u32, code: ErrorCode, out: &mut Outbox) {
        let waiting: Vec<ProduceId> = self.host(slot).acks.drain().collect();
        self.refuse_each(slot, waiting, code, out);
    }

    fn refuse_each(&mut self, slot: u32, waiting: Vec<ProduceId>, code: ErrorCode, out: &mut Outbox) {
        if waiting.is_empty() {
            return;
        }
        let hosted = self.host(slot);
        let (partition, name) = (hosted.partition.id(), hosted.name.clone());
        let leader = self.leader_of(partition);
        for id in waiting {
            let parked = &mut self.produces[id.0];
            parked.refuse(partition, &name, code);
            if code == ErrorCode::NotLeaderOrFollower {
                parked.hint(partition, &name, leader);
                let to = parked.to;
                let endpoints = self.endpoints_told(to, &self.produces[id.0].response.responses);
                self.produces[id.0].response.node_endpoints = endpoints;
            }
            self.acknowledge(id, out);
        }
    }

    /// Where those lead that an answer names as leaders (KIP-951).
    fn endpoints_told(&self, to: ReplyTo, topics: &[TopicProduceResponse]) -> Vec<NodeEndpoint> {
        let partitions = topics.iter().flat_map(|topic| &topic.partition_responses);
        let told = partitions.map(|partition| partition.current_leader.leader_id).filter(|&leader| leader >= 0);
        let leaders: BTreeSet<i32> = told.collect();
        let endpoints = leaders.into_iter().filter_map(|node_id| self.endpoint(to, NodeId(node_id)));
        endpoints.map(|Endpoint { node_id, host, port, rack }| NodeEndpoint { node_id, host, port, rack }).collect()
    }
}

impl ParkedProduce {
    fn of(&mut self, partition: TopicPartition, name: &Str) -> impl Iterator<Item = &mut PartitionProduceResponse> {
        let is_it = move |topic: &&mut TopicProduceResponse| {
            if topic.topic_id == Uuid::ZERO { topic.name == *name } else { topic.topic_id == partition.topic }
        };
        let topics = self.response.responses.iter_mut().filter(is_it);
        let partitions = topics.flat_map(|topic| &mut topic.partition_responses);
        partitions.filter(move |response| response.index == partition.partition)
    }

    fn refuse(&mut self, partition: TopicPartition, name: &Str, code: ErrorCode) {
        for response in self.of(partition, name) {
            response.error_code = code.into();
            response.base_offset = -1;
        }
    }

    fn hint(&mut self, partition: TopicPartition, name: &Str, leader: Option<(NodeId, LeaderEpoch)>) {
        self.of(partition, name).for_each(|response| response.current_leader = leader.into());
    }
}

impl From<Option<(NodeId, LeaderEpoch)>> for LeaderIdAndEpoch {
    fn from(leader: Option<(NodeId, LeaderEpoch)>) -> LeaderIdAndEpoch {
        match leader {
            Some((leader, epoch)) => LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.0 },
            None => LeaderIdAndEpoch::default(),
        }
    }
}

/// How long the journal's records of a request's batches may become, in bytes.
fn payloads(produce: &Produce) -> impl Iterator<Item = u64> {
    let partitions = produce.topics.iter().flat_map(|topic| &topic.partitions);
    let batches = partitions.filter_map(|partition| partition.batch.as_ref().ok());
    batches.map(|batch| (batch.batch_bytes() + RECORD_OVERHEAD) as u64)
}

fn partition_response(index: i32, result: Result<(Offset, i64, Offset), Refused>) -> PartitionProduceResponse {
    match result {
        Ok((base, log_append_time_ms, start)) => PartitionProduceResponse {
            index,
            base_offset: base.0,
            log_append_time_ms,
            log_start_offset: start.0,
            ..PartitionProduceResponse::default()
        },
        Err(refused) => PartitionProduceResponse {
            index,
            error_code: refused.code.into(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            error_message: refused.message,
            ..PartitionProduceResponse::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Geometry;
    use crate::limits::BATCH_BYTES_MAX;

    #[test]
    fn the_largest_batch_that_a_setting_allows_fits_a_file_of_the_journal() {
        let needed = u64::from(BATCH_BYTES_MAX) + RECORD_OVERHEAD as u64;
        assert!(needed <= Geometry::default().max_record_bytes());
    }
}
