//! From what a fetch found to its answer: its [turn](super::turns), what is read for it, and what is told.

use std::collections::BTreeSet;
use std::mem;

use super::look::{Answer, Look};
use super::part::FetchPart;
use super::turns::Need;
use super::{Node, ParkedFetch, SERVED_WEIGHT, State, Wanted};
use crate::boundary::{
    DiskError, DiskOp, Effect, Level, Outbox, PARTITION_BYTES, ReplyTo, SegmentName, TOLD_FROM_BYTES,
};
use crate::ids::{NodeId, TopicPartition};
use crate::log::{Read, ReadOutcome, ReadPlan, Sought};
use crate::node::leaders::Endpoint;
use crate::node::{ReadResult, Reader, segment_of};
use crate::wait::FetchId;
use crate::wire::fetch::{FetchResponse, FetchableTopicResponse, NodeEndpoint, PartitionData};
use crate::wire::{ErrorCode, Records, Response};

/// What an answer tells, or tells so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) topics: Vec<FetchableTopicResponse>,
    record_bytes: usize,
    partitions: usize,
    /// The leaders that it names.
    leaders: BTreeSet<i32>,
}

impl Node {
    /// Answers a fetch that is looked at in one step, or has it wait for its turn.
    pub(super) fn answer(&mut self, to: ReplyTo, wanted: Wanted, max_bytes: usize, look: Look, out: &mut Outbox) {
        let limit = self.limits.fetch_bytes_in_flight_max;
        let share = self.turns.share(limit);
        // What is waited for is not cut to the share: a fetch would never have what it wants at least.
        let look = if look.bytes > share { self.look_at_once(&wanted, max_bytes.min(share)) } else { look };
        let need = look.need();
        if look.reads.is_empty() && need.answer < TOLD_FROM_BYTES {
            self.reply_fetch(to, &wanted, look.answers, out);
            return;
        }
        let id = self.park_fetch(ParkedFetch::new(to, wanted, max_bytes, State::Queued { need, share }));
        if self.turns.is_free(to.conn, need, limit) {
            self.turns.begin(to.conn, need);
            self.read_for(id, look, out);
        } else {
            self.turns.enqueue(to.conn, id);
        }
    }

    /// A look that is known to end in one step.
    fn look_at_once(&mut self, wanted: &Wanted, max_bytes: usize) -> Look {
        let mut look = Look::default();
        self.look_on(wanted, max_bytes, self.limits.fetch_partitions_at_once, &mut look);
        look
    }

    /// Has a fetch that has its turn read, or answers it where there is nothing to read.
    pub(super) fn read_for(&mut self, id: FetchId, look: Look, out: &mut Outbox) {
        let left = look.reads.len();
        self.fetches[id.0].state = State::Reading { answers: look.answers, left, is_closed: false };
        if left == 0 {
            return self.answer_read(id, out);
        }
        for (index, plan) in look.reads {
            self.read_part(id, index, plan, out);
        }
    }

    fn read_part(&mut self, id: FetchId, index: usize, plan: ReadPlan, out: &mut Outbox) {
        let read = self.next_read();
        self.reads.insert(read, (Reader::Fetch(id, index, plan.sought), segment_of(&plan)));
        out.push(Effect::Disk(DiskOp::Read(read, plan)));
    }

    /// What to seek elsewhere, where the segment that was read for a fetch has gone or has nothing of it.
    pub(in crate::node) fn sought_elsewhere(
        &self,
        segment: SegmentName,
        sought: Sought,
        result: &Result<ReadOutcome, DiskError>,
    ) -> Option<Sought> {
        match result {
            Err(_) => self.is_replaced(segment).then_some(sought),
            Ok(ReadOutcome::Nothing) => self.behind_gap(segment.partition, sought),
            Ok(_) => None,
        }
    }

    /// What to seek where a segment has nothing of what was sought, though it lies below the high watermark: a log that was
    /// cut in a gap that compaction had left begins its next segment behind the gap. Each time that lies further on.
    fn behind_gap(&self, partition: TopicPartition, sought: Sought) -> Option<Sought> {
        // Without that, nothing means that the first batch is too long.
        let Sought::Batches { from, below, max_bytes, at_least_one: true } = sought else { return None };
        let hosted = self.hosts[*self.by_id.get(&partition)? as usize].as_ref()?;
        let from = hosted.partition.log().after_gap(from);
        let is_below = from < hosted.partition.advanced().high_watermark;
        is_below.then_some(Sought::Batches { from, below, max_bytes, at_least_one: true })
    }

    /// A segment went while it was read for a fetch, and what compaction left of it lies elsewhere; or it had nothing, and
    /// the log goes on elsewhere. Reads that, and no more than before, since the fetch's turn is for so much.
    pub(in crate::node) fn fetch_again(
        &mut self,
        id: FetchId,
        index: usize,
        before: Sought,
        partition: TopicPartition,
        out: &mut Outbox,
    ) {
        let Sought::Batches { from, max_bytes, at_least_one, .. } = before else {
            unreachable!("fetches seek batches")
        };
        let is_closed = |fetch: &ParkedFetch| matches!(fetch.state, State::Reading { is_closed: true, .. });
        if self.fetches.get(id.0).is_none_or(is_closed) {
            return self.fetch_read(id, index, Ok(ReadOutcome::Nothing), out);
        }
        let slot = self.by_id[&partition];
        let partition = &self.host(slot).partition;
        let result = match partition.read(from, max_bytes) {
            Ok(Read::Disk(mut plan, _)) => {
                if let Sought::Batches { at_least_one: is_given, .. } = &mut plan.sought {
                    *is_given = at_least_one;
                }
                return self.read_part(id, index, plan, out);
            }
            Ok(Read::Memory(slices, bytes)) if bytes <= max_bytes || at_least_one => {
                Ok(ReadOutcome::Batches(slices.concat().into()))
            }
            Err(_) if from < partition.log().start() => Err(None),
            // The next fetch is told what has changed.
            _ => Ok(ReadOutcome::Nothing),
        };
        self.fetch_read(id, index, result, out);
    }

    /// Answers a fetch that has all that it reads.
    fn answer_read(&mut self, id: FetchId, out: &mut Outbox) {
        let fetch = &mut self.fetches[id.0];
        let ReplyTo { conn, sequence, .. } = fetch.to;
        let State::Reading { answers, is_closed, .. } = &mut fetch.state else { unreachable!("it was reading") };
        let (answers, is_closed) = (mem::take(answers), *is_closed);
        if fetch.is_long {
            return if is_closed { self.drop_read(id, answers) } else { self.tell_long(id, answers) };
        }
        let fetch = self.unpark_fetch(id).expect("it has its turn");
        let bytes = if is_closed { 0 } else { self.reply_fetch(fetch.to, &fetch.wanted, answers, out) };
        self.turns.answered(conn, sequence, bytes);
    }

    /// Whether the fetch that has waited longest for its turn may have it, or is worth another look.
    pub(super) fn has_next_turn(&self) -> bool {
        let limit = self.limits.fetch_bytes_in_flight_max;
        self.next_need().is_some_and(|(need, share)| {
            // With a smaller share it needs less, unless it is for one batch.
            self.turns.has_room(need, limit) || self.turns.share(limit) < share
        })
    }

    /// What the fetch needed that has waited longest for its turn, and its share then.
    pub(super) fn next_need(&self) -> Option<(Need, usize)> {
        let id = self.turns.first()?;
        let State::Queued { need, share } = self.fetches[id.0].state else { unreachable!("it is in the queue") };
        Some((need, share))
    }

    /// Lets those have their turn for whom there is room, as many as one step has time for.
    pub(in crate::node) fn next_turns(&mut self, out: &mut Outbox) {
        let limit = self.limits.fetch_bytes_in_flight_max;
        let mut weight = 0;
        while weight < SERVED_WEIGHT {
            let Some(id) = self.turns.first().filter(|_| self.has_next_turn()) else { return };
            weight += self.weight(id);
            let share = self.turns.share(limit);
            let (need, look) = match self.fetches[id.0].is_long {
                true => (self.need_of_long(id, share), None),
                false => match self.look_anew(id, share) {
                    Some(look) => (look.need(), Some(look)),
                    // It has become long.
                    None => (self.need_of_long(id, share), None),
                },
            };
            if !self.turns.has_room(need, limit) {
                self.fetches[id.0].state = State::Queued { need, share };
                return;
            }
            self.turns.begin(self.fetches[id.0].to.conn, need);
            match look {
                Some(look) => self.read_for(id, look, out),
                None => self.gather_later(id, share),
            }
        }
    }

    /// Looks again for a fetch in the queue: what it found may have moved meanwhile. `None` where that takes more than a
    /// step by now.
    fn look_anew(&mut self, id: FetchId, share: usize) -> Option<Look> {
        let fetch = &mut self.fetches[id.0];
        let max_bytes = fetch.max_bytes.min(share);
        let wanted = mem::take(&mut fetch.wanted);
        let mut look = Look::default();
        let is_done = self.look_on(&wanted, max_bytes, self.limits.fetch_partitions_at_once, &mut look);
        let fetch = &mut self.fetches[id.0];
        fetch.wanted = wanted;
        fetch.is_long = !is_done;
        is_done.then_some(look)
    }

    /// Answers, and returns how many bytes that counts for.
    fn reply_fetch(&mut self, to: ReplyTo, wanted: &Wanted, answers: Vec<Answer>, out: &mut Outbox) -> usize {
        let mut told = Told::default();
        self.tell(wanted, answers, &mut told);
        self.reply_told(to, wanted, told, out)
    }

    /// Puts what was found into an answer, but for what a session's consumer knows.
    pub(super) fn tell(&mut self, wanted: &Wanted, answers: impl IntoIterator<Item = Answer>, told: &mut Told) {
        for answer in answers {
            if let Wanted::Session { of, is_full } = wanted
                && !self.sessions.tell(*of, &answer)
                && !is_full
            {
                continue;
            }
            let Answer { part, data, .. } = answer;
            told.record_bytes += data.records.as_ref().map_or(0, Records::len);
            told.partitions += 1;
            if data.current_leader.leader_id >= 0 {
                told.leaders.insert(data.current_leader.leader_id);
            }
            let (topic, topic_id) = part.topic.into_answer();
            match told.topics.last_mut().filter(|last| last.topic == topic && last.topic_id == topic_id) {
                Some(last) => last.partitions.push(data),
                None => told.topics.push(FetchableTopicResponse { topic, topic_id, partitions: vec![data] }),
            }
        }
    }

    /// Answers with what is told, and returns how many bytes that counts for.
    pub(super) fn reply_told(&mut self, to: ReplyTo, wanted: &Wanted, told: Told, out: &mut Outbox) -> usize {
        self.counters.bytes_out += told.record_bytes as u64;
        let session_id = wanted.session().map_or(0, |of| of.id);
        let endpoints = told.leaders.into_iter().filter_map(|node_id| self.endpoint(to, NodeId(node_id)));
        let node_endpoints = endpoints
            .map(|Endpoint { node_id, host, port, rack }| NodeEndpoint { node_id, host, port, rack })
            .collect();
        let response = FetchResponse { session_id, responses: told.topics, node_endpoints, ..FetchResponse::default() };
        out.push(Effect::Reply { to, response: Some(Response::Fetch(response)) });
        told.record_bytes + told.partitions * PARTITION_BYTES
    }

    /// A read for a fetch is done.
    pub(in crate::node) fn fetch_read(&mut self, id: FetchId, index: usize, result: ReadResult, out: &mut Outbox) {
        let Some(fetch) = self.fetches.get_mut(id.0) else { return };
        let State::Reading { answers, left, .. } = &mut fetch.state else { return };
        *left -= 1;
        let is_done = *left == 0;
        let Answer { part, data, .. } = &mut answers[index];
        match result {
            Ok(ReadOutcome::Batches(bytes)) => data.records = Some(Records::from(bytes)),
            Ok(_) => {}
            Err(error) => {
                let part = part.clone();
                let data = self.not_read(&part, error, out);
                let State::Reading { answers, .. } = &mut self.fetches[id.0].state else { unreachable!("it reads") };
                answers[index].data = data;
            }
        }
        if is_done {
            self.answer_read(id, out);
            self.next_turns(out);
        }
    }

    /// What to tell of a partition that could not be read, as it is by now: without its segment, the offset lies before
    /// the log or the topic is gone.
    fn not_read(&mut self, part: &FetchPart, error: Option<DiskError>, out: &mut Outbox) -> PartitionData {
        let mut data = PartitionData {
            partition_index: part.index,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            records: Some(Records::default()),
            ..PartitionData::default()
        };
        let slot = self.find(&part.topic, part.index);
        data.error_code = match (error, slot) {
            (Some(error), Some(slot)) => {
                self.read_failed(slot, &error, out);
                ErrorCode::KafkaStorageError.into()
            }
            (None, Some(slot)) if part.offset < self.host(slot).partition.log().start() => {
                let advanced = self.host(slot).partition.advanced();
                data.high_watermark = advanced.high_watermark.0;
                data.log_start_offset = advanced.start.map_or(-1, |start| start.0);
                data.last_stable_offset = data.high_watermark;
                ErrorCode::OffsetOutOfRange.into()
            }
            // Another topic has its name.
            (_, Some(_)) => ErrorCode::UnknownTopicOrPartition.into(),
            (_, None) => self
                .resolve_topic(&part.topic)
                .err()
                .map_or(ErrorCode::UnknownTopicOrPartition, |refused| refused.code)
                .into(),
        };
        data
    }

    /// A segment could not be read: its index is made again, damage of itself stops the partition, an error of the system
    /// is told and may pass.
    pub(in crate::node) fn read_failed(&mut self, slot: u32, error: &DiskError, out: &mut Outbox) {
        self.counters.read_errors += 1;
        if !self.mend(slot, error, out) {
            self.refuse_unreadable(slot, error, out);
        }
    }

    /// A segment cannot be read, and nothing can be done about it.
    pub(in crate::node) fn refuse_unreadable(&mut self, slot: u32, error: &DiskError, out: &mut Outbox) {
        let hosted = self.host(slot);
        let name = format!("{}-{}", hosted.name, hosted.partition.id().partition);
        if let DiskError::Corrupt(..) = error {
            hosted.partition.mark_damaged(error.to_string());
            let id = hosted.partition.id();
            self.damaged.insert(id);
            self.touch(slot);
            self.resign_damaged(slot, out);
            self.found_damaged(slot);
        }
        out.log(Level::Error, format!("partition {name} cannot be read: {error}"));
    }
}
