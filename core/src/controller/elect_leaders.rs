//! Elections that are asked for: ElectLeaders 0-2 (KIP-183, KIP-460), and those that put leaderships back where they
//! belong (`auto.leader.rebalance.enable`).

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::elections::{Batch, Elected, PARTITIONS_PER_ENTRY_MAX};
use super::image::{Partitions, Topic};
use super::records::MetadataRecord;
use super::{Controller, Decision};
use crate::ids::TopicPartition;
use crate::wire::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult};
use crate::wire::{ErrorCode, Str};

/// Who is to be elected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The first replica.
    Preferred,
    /// Anybody who lives, where nobody leads.
    Unclean,
}

/// Elections that a client asks for, decided some at a time.
#[derive(Debug)]
pub struct Electing {
    request: ElectLeadersRequest,
    /// The topic of the request that is next, and the partition of it.
    next: (usize, usize),
    /// Where the request names none: partitions up to here are done.
    after: Option<TopicPartition>,
    /// Those that were elected.
    seen: BTreeSet<TopicPartition>,
    response: ElectLeadersResponse,
}

impl Electing {
    /// Begins.
    pub fn begin(request: ElectLeadersRequest) -> Electing {
        let response = ElectLeadersResponse::default();
        Electing { request, next: (0, 0), after: None, seen: BTreeSet::new(), response }
    }

    /// What was asked for.
    pub fn into_request(self) -> ElectLeadersRequest {
        self.request
    }

    /// The answer, once all is decided and has committed.
    pub fn into_response(self) -> ElectLeadersResponse {
        self.response
    }

    /// The next partition that is named, with its topic's name.
    fn next_named(&mut self) -> Option<(Str, i32)> {
        let topics = self.request.topic_partitions.as_ref()?;
        loop {
            let (topic, partition) = &mut self.next;
            let asked = topics.get(*topic)?;
            let results = &mut self.response.replica_election_results;
            if *partition == 0 {
                results.push(ReplicaElectionResult { topic: asked.topic.clone(), partition_result: Vec::new() });
            }
            if let Some(&index) = asked.partitions.get(*partition) {
                *partition += 1;
                return Some((asked.topic.clone(), index));
            }
            (*topic, *partition) = (*topic + 1, 0);
        }
    }
}

/// One part of a request's elections.
struct Part<'a> {
    controller: &'a Controller,
    wanted: Wanted,
    batch: Batch,
}

impl Controller {
    /// Elects leaders for partitions. Each succeeds or fails by itself.
    pub fn elect_leaders(&self, request: &ElectLeadersRequest) -> (Decision<ElectLeadersResponse>, Vec<Elected>) {
        let mut electing = Electing::begin(request.clone());
        let (batch, _) = self.elect_some(&mut electing, usize::MAX);
        (Decision { records: batch.records, response: electing.response }, batch.elected)
    }

    /// Decides the next [`PARTITIONS_PER_ENTRY_MAX`] of them, which are to be replayed before the next. Whether there may be
    /// more.
    pub fn elect_on(&self, electing: &mut Electing) -> (Vec<MetadataRecord>, bool) {
        let (batch, goes_on) = self.elect_some(electing, PARTITIONS_PER_ENTRY_MAX);
        (batch.records, goes_on)
    }

    fn elect_some(&self, electing: &mut Electing, count: usize) -> (Batch, bool) {
        let wanted = match electing.request.election_type {
            0 => Wanted::Preferred,
            1 => Wanted::Unclean,
            _ => {
                electing.response.error_code = ErrorCode::InvalidRequest.code();
                return (Batch::default(), false);
            }
        };
        let mut part = Part { controller: self, wanted, batch: Batch::default() };
        let goes_on = match electing.request.topic_partitions {
            Some(_) => part.named(electing, count),
            None => part.all(electing, count),
        };
        (part.batch, goes_on)
    }

    /// Makes first replicas leaders that can be, of partitions that others lead. Looks at the next
    /// [`PARTITIONS_PER_ENTRY_MAX`] of these after `after`, and moves it; `None` when it has come to the end. To be done every
    /// `leader.imbalance.check.interval.seconds`, where `auto.leader.rebalance.enable` says so.
    pub fn rebalance(&self, after: &mut Option<TopicPartition>) -> Option<Decision<Vec<Elected>>> {
        let mut batch = Batch::default();
        let mut looked = 0;
        for &partition in self.image.partition_index().unpreferred.range((after.map_or(Unbounded, Excluded), Unbounded))
        {
            if batch.is_full() || looked == PARTITIONS_PER_ENTRY_MAX {
                break;
            }
            looked += 1;
            *after = Some(partition);
            let mut part = Part { controller: self, wanted: Wanted::Preferred, batch };
            let _ = part.elect(partition);
            batch = part.batch;
        }
        (looked > 0).then(|| batch.decide())
    }
}

impl Part<'_> {
    /// Of all partitions that need an election: those that have the leader they should are not mentioned. Whether there
    /// may be more.
    fn all(&mut self, electing: &mut Electing, count: usize) -> bool {
        let index = self.controller.image.partition_index();
        let needy: &Partitions = match self.wanted {
            Wanted::Preferred => &index.unpreferred,
            Wanted::Unclean => &index.leaderless,
        };
        let results = &mut electing.response.replica_election_results;
        let mut looked = 0;
        for &partition in needy.range((electing.after.map_or(Unbounded, Excluded), Unbounded)).take(count) {
            looked += 1;
            if electing.after.replace(partition).map(|last| last.topic) != Some(partition.topic) {
                let topic = self.controller.image.topic(partition.topic).expect("the index knows topics that exist");
                results.push(ReplicaElectionResult { topic: topic.name.clone(), partition_result: Vec::new() });
            }
            let elected = self.elect(partition);
            results.last_mut().expect("one was pushed").partition_result.push(result(partition.partition, elected));
        }
        looked == count
    }

    /// Of those that the request names. Whether there may be more.
    fn named(&mut self, electing: &mut Electing, count: usize) -> bool {
        for _ in 0..count {
            let Some((name, index)) = electing.next_named() else { return false };
            let elected = match self.controller.image.topic_named(&name) {
                None => Err((ErrorCode::UnknownTopicOrPartition, Some(no_topic(&name)))),
                Some(topic) => self.elect_one(topic, index, &mut electing.seen),
            };
            let last = electing.response.replica_election_results.last_mut().expect("its topic was pushed");
            last.partition_result.push(result(index, elected));
        }
        true
    }

    fn elect_one(
        &mut self,
        topic: &Topic,
        index: i32,
        seen: &mut BTreeSet<TopicPartition>,
    ) -> Result<(), (ErrorCode, Option<Str>)> {
        let partition = TopicPartition { topic: topic.id, partition: index };
        let Some(state) = self.controller.image.partition(partition) else {
            let message = format!("No such partition as {}-{index}.", topic.name);
            return Err((ErrorCode::UnknownTopicOrPartition, Some(message.into())));
        };
        let is_well = match self.wanted {
            Wanted::Preferred => state.leader == state.replicas.first().copied(),
            Wanted::Unclean => state.leader.is_some(),
        };
        if is_well || seen.contains(&partition) {
            return Err((ErrorCode::ElectionNotNeeded, None));
        }
        self.elect(partition).inspect(|()| _ = seen.insert(partition))
    }

    fn elect(&mut self, partition: TopicPartition) -> Result<(), (ErrorCode, Option<Str>)> {
        let before = self.controller.image.partition(partition).expect("it was looked up");
        let mut election = self.controller.election(partition.topic);
        match self.wanted {
            Wanted::Preferred => election.preferred = true,
            // Who asks for it has it, whatever the topic says.
            Wanted::Unclean => election.rules.unclean = true,
        }
        let settled = election.settle(before, before.clone()).filter(|(_, right)| right.is_some());
        let is_elected = settled.as_ref().is_some_and(|(state, _)| state.leader.is_some());
        if !is_elected {
            let error = match self.wanted {
                Wanted::Preferred => ErrorCode::PreferredLeaderNotAvailable,
                Wanted::Unclean => ErrorCode::EligibleLeadersNotAvailable,
            };
            return Err((error, None));
        }
        self.batch.add(partition, before, settled);
        Ok(())
    }
}

fn no_topic(name: &str) -> Str {
    format!("No such topic as {name}.").into()
}

fn result(partition_id: i32, elected: Result<(), (ErrorCode, Option<Str>)>) -> PartitionResult {
    let (error, error_message) = elected.err().unwrap_or_default();
    PartitionResult { partition_id, error_code: error.code(), error_message }
}
