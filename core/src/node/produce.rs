//! Produce: batches in, answered when the journal (and later the in-sync set) has them.

use bytes::Bytes;
use smallvec::SmallVec;

use super::fetch::Topic;
use super::{Node, Woken};
use crate::batch::VerifiedBatch;
use crate::boundary::{Effect, Outbox, Produce, ProducePartition, ProduceTopic, Refused, ReplyTo};
use crate::ids::{Offset, TopicPartition};
use crate::journal::Class;
use crate::partition::Origin;
use crate::time::Now;
use crate::wait::ProduceId;
use crate::wire::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use crate::wire::{ErrorCode, Response, Str};

/// A produce request whose answer waits.
#[derive(Debug)]
pub(super) struct ParkedProduce {
    to: ReplyTo,
    response: ProduceResponse,
    pending: usize,
}

/// What journal records of a batch need besides its bytes: headers, an epoch start, a roll.
pub(super) const RECORD_OVERHEAD: usize = 512;

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

    /// Takes up the requests that waited for room.
    pub(super) fn resume_stalled(&mut self, now: Now, out: &mut Outbox) {
        while let Some((_, produce)) = self.stalled.front() {
            if self.waits(produce) {
                if self.direct_pending.is_empty() {
                    self.checkpoint_soon();
                }
                return;
            }
            let (to, produce) = self.stalled.pop_front().expect("one was at the front");
            self.append(now, to, produce, out);
        }
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
        let direct: usize = self.direct_pending.iter().flat_map(|write| &write.pieces).map(Bytes::len).sum();
        direct < DIRECT_PENDING_MAX
            && self.journal.has_room_for(payloads(produce), Class::Ordinary)
            && self.tails.bytes() < 2 * self.limits.tail_cache_bytes as u64
    }

    fn append(&mut self, now: Now, to: ReplyTo, mut produce: Box<Produce>, out: &mut Outbox) {
        let (acks, may_write_internal) = (produce.acks, produce.may_write_internal);
        let refused = self.refuse_produce(&produce);
        let mut responses = Vec::with_capacity(produce.topics.len());
        let mut parked: SmallVec<[(u32, Offset); 2]> = SmallVec::new();
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
                partition_responses.push(partition_response(*index, result));
            }
            responses.push(TopicProduceResponse { name, topic_id: id, partition_responses });
        }
        let response = ProduceResponse { responses, ..ProduceResponse::default() };
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
            let id = ProduceId(self.produces.insert(ParkedProduce { to, response, pending: parked.len() }));
            for (slot, end) in parked {
                self.host(slot).acks.park(end, id);
            }
        }
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
        if origin != (Origin::Client { acks: 0 }) && advanced.high_watermark < taken.end {
            parked.push((slot, taken.end));
        }
        Ok((taken.base, taken.append_time, self.host(slot).partition.log().start()))
    }

    /// One of the ends that a produce request waits for has been reached.
    pub(super) fn acknowledge(&mut self, id: ProduceId, out: &mut Outbox) {
        let parked = &mut self.produces[id.0];
        parked.pending -= 1;
        if parked.pending == 0 {
            let ParkedProduce { to, response, .. } = self.produces.remove(id.0);
            out.push(Effect::Reply { to, response: Some(Response::Produce(response)) });
        }
    }

    /// A partition goes away under a request that waits for it.
    pub(super) fn fail_produce(&mut self, id: ProduceId, partition: TopicPartition, name: &Str, out: &mut Outbox) {
        let parked = &mut self.produces[id.0];
        for topic in &mut parked.response.responses {
            if topic.name == *name || topic.topic_id == partition.topic {
                for response in &mut topic.partition_responses {
                    if response.index == partition.partition {
                        response.error_code = ErrorCode::UnknownTopicOrPartition.into();
                        response.base_offset = -1;
                    }
                }
            }
        }
        self.acknowledge(id, out);
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
