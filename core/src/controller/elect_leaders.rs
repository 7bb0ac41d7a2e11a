//! Elections that are asked for: ElectLeaders 0-2 (KIP-183, KIP-460), and those that put leaderships back where they
//! belong (`auto.leader.rebalance.enable`).

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::elections::{Batch, Elected, PARTITIONS_PER_ENTRY_MAX};
use super::image::{Partitions, Topic};
use super::{Controller, Decision};
use crate::ids::TopicPartition;
use crate::wire::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use crate::wire::{ErrorCode, Str};

/// Who is to be elected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The first replica.
    Preferred,
    /// Anybody who lives, where nobody leads.
    Unclean,
}

/// One request's elections, as they are decided.
struct Electing<'a> {
    controller: &'a Controller,
    wanted: Wanted,
    batch: Batch,
    seen: BTreeSet<TopicPartition>,
}

impl Controller {
    /// Elects leaders for partitions. Each succeeds or fails by itself.
    pub fn elect_leaders(&self, request: &ElectLeadersRequest) -> (Decision<ElectLeadersResponse>, Vec<Elected>) {
        let wanted = match request.election_type {
            0 => Wanted::Preferred,
            1 => Wanted::Unclean,
            _ => {
                let error_code = ErrorCode::InvalidRequest.code();
                let response = ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() };
                return (Decision { records: Vec::new(), response }, Vec::new());
            }
        };
        let mut electing = Electing { controller: self, wanted, batch: Batch::default(), seen: BTreeSet::new() };
        let replica_election_results = match &request.topic_partitions {
            Some(topics) => topics.iter().map(|topic| electing.named(topic)).collect(),
            None => electing.all(),
        };
        let response = ElectLeadersResponse { replica_election_results, ..ElectLeadersResponse::default() };
        (Decision { records: electing.batch.records, response }, electing.batch.elected)
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
            let mut electing = Electing { controller: self, wanted: Wanted::Preferred, batch, seen: BTreeSet::new() };
            let _ = electing.elect(partition);
            batch = electing.batch;
        }
        (looked > 0).then(|| batch.decide())
    }
}

impl Electing<'_> {
    /// The elections of all partitions that need one: those that have the leader they should are not mentioned.
    fn all(&mut self) -> Vec<ReplicaElectionResult> {
        let index = self.controller.image.partition_index();
        let needy: &Partitions = match self.wanted {
            Wanted::Preferred => &index.unpreferred,
            Wanted::Unclean => &index.leaderless,
        };
        let mut results: Vec<ReplicaElectionResult> = Vec::new();
        let mut last = None;
        for &partition in needy {
            if last.replace(partition.topic) != Some(partition.topic) {
                let topic = self.controller.image.topic(partition.topic).expect("the index knows topics that exist");
                results.push(ReplicaElectionResult { topic: topic.name.clone(), partition_result: Vec::new() });
            }
            let elected = self.admit().and_then(|()| self.elect(partition));
            results.last_mut().expect("one was pushed").partition_result.push(result(partition.partition, elected));
        }
        results
    }

    fn named(&mut self, asked: &TopicPartitions) -> ReplicaElectionResult {
        let topic = self.controller.image.topic_named(&asked.topic);
        let results = asked.partitions.iter().map(|&index| {
            let elected = self.admit().and_then(|()| match topic {
                None => Err((ErrorCode::UnknownTopicOrPartition, Some(no_topic(&asked.topic)))),
                Some(topic) => self.elect_one(topic, index),
            });
            result(index, elected)
        });
        ReplicaElectionResult { partition_result: results.collect(), topic: asked.topic.clone() }
    }

    fn admit(&mut self) -> Result<(), (ErrorCode, Option<Str>)> {
        if self.batch.admits_one() { Ok(()) } else { Err((ErrorCode::OperationNotAttempted, None)) }
    }

    fn elect_one(&mut self, topic: &Topic, index: i32) -> Result<(), (ErrorCode, Option<Str>)> {
        let partition = TopicPartition { topic: topic.id, partition: index };
        let Some(state) = self.controller.image.partition(partition) else {
            let message = format!("No such partition as {}-{index}.", topic.name);
            return Err((ErrorCode::UnknownTopicOrPartition, Some(message.into())));
        };
        let is_well = match self.wanted {
            Wanted::Preferred => state.leader == state.replicas.first().copied(),
            Wanted::Unclean => state.leader.is_some(),
        };
        if is_well || self.seen.contains(&partition) {
            return Err((ErrorCode::ElectionNotNeeded, None));
        }
        self.elect(partition)
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
        self.seen.insert(partition);
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
