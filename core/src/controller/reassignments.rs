//! Partitions that move to other brokers: AlterPartitionReassignments 0-1 (KIP-455, KIP-860), ListPartitionReassignments
//! 0.
//!
//! | from | what happens | to |
//! |---|---|---|
//! | settled, moving | other replicas are asked for, of which some are not in sync | moving: the replicas are those asked for, then those that go |
//! | settled, moving | other replicas are asked for, all of which are in sync | settled, on these |
//! | moving | all replicas that are to stay have joined the in-sync set | settled, on these |
//! | moving | it is to be stopped | settled, on those that it had before |
//!
//! The second last is not decided here but where in-sync sets change, in [`elections`](super::elections).

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::elections::{Batch, PARTITIONS_PER_ENTRY_MAX};
use super::image::{Partitions, Topic};
use super::records::{MetadataRecord, PartitionState};
use super::{Controller, Decision, PARTITIONS_PER_REQUEST_MAX, Refused};
use crate::ids::{NodeId, TopicId, TopicPartition};
use crate::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::wire::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};
use crate::wire::{ErrorCode, Str};

/// What is told of partitions that a request names behind the last one that is looked at.
const TOO_MANY: &str = "The request names too much at once; send the rest by itself.";

impl Controller {
    /// Moves partitions to other brokers, or stops that. Each succeeds or fails by itself.
    pub fn alter_partition_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Decision<AlterPartitionReassignmentsResponse> {
        let mut reassigning = Reassigning::begin();
        let (records, _) = self.reassign_some(request, &mut reassigning, usize::MAX);
        Decision { records, response: reassigning.into_response(request) }
    }

    /// Decides the next [`PARTITIONS_PER_ENTRY_MAX`] of them, which are to be replayed before the next. Whether there may be
    /// more. The request is the same each time.
    pub fn reassign_on(
        &self,
        request: &AlterPartitionReassignmentsRequest,
        reassigning: &mut Reassigning,
    ) -> (Vec<MetadataRecord>, bool) {
        self.reassign_some(request, reassigning, PARTITIONS_PER_ENTRY_MAX)
    }

    fn reassign_some(
        &self,
        request: &AlterPartitionReassignmentsRequest,
        reassigning: &mut Reassigning,
        count: usize,
    ) -> (Vec<MetadataRecord>, bool) {
        let mut batch = Batch::default();
        for _ in 0..count {
            let Reassigning { next, left, seen, responses } = reassigning;
            let Some(topic) = request.topics.get(next.0) else { return (batch.records, false) };
            if next.1 == 0 {
                responses.push(ReassignableTopicResponse { name: topic.name.clone(), partitions: Vec::new() });
            }
            let Some(asked) = topic.partitions.get(next.1) else {
                *next = (next.0 + 1, 0);
                continue;
            };
            next.1 += 1;
            let (error_code, error_message) = match left.checked_sub(1) {
                None => (ErrorCode::OperationNotAttempted.code(), Some(Str::from_static(TOO_MANY))),
                Some(fewer) => {
                    *left = fewer;
                    let may_resize = request.allow_replication_factor_change;
                    Refused::fields(self.alter_reassignment(&topic.name, asked, may_resize, seen, &mut batch))
                }
            };
            responses.last_mut().expect("its topic was pushed").partitions.push(ReassignablePartitionResponse {
                partition_index: asked.partition_index,
                error_code,
                error_message,
            });
        }
        (batch.records, true)
    }

    fn alter_reassignment(
        &self,
        name: &str,
        asked: &ReassignablePartition,
        may_resize: bool,
        seen: &mut BTreeSet<TopicPartition>,
        batch: &mut Batch,
    ) -> Result<(), Refused> {
        let unknown = |message| Err(Refused::new(ErrorCode::UnknownTopicOrPartition, message));
        let Some(topic) = self.image.topic_named(name) else {
            return unknown(format!("Unable to find a topic named {name}."));
        };
        let index = asked.partition_index;
        let partition = TopicPartition { topic: topic.id, partition: index };
        let Some(before) = self.image.partition(partition) else {
            return unknown(format!("Unable to find partition {name}:{index}."));
        };
        let next = match &asked.replicas {
            None => self.cancelled(topic, index, before)?,
            Some(replicas) => self.reassigned(name, index, before, replicas, may_resize)?,
        };
        if !seen.insert(partition) {
            let message = format!("Partition {name}:{index} is named more than once.");
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
        let mut settled = self.election(topic.id).settle(before, next.state);
        if next.is_unclean
            && let Some((state, _)) = &mut settled
        {
            state.unclean_epoch = Some(state.leader_epoch);
        }
        batch.add(partition, before, settled);
        Ok(())
    }

    /// The state in which a partition moves to `replicas`. A move that is under way is replaced by that (KIP-455).
    fn reassigned(
        &self,
        name: &str,
        index: i32,
        before: &PartitionState,
        replicas: &[i32],
        may_resize: bool,
    ) -> Result<Next, Refused> {
        let to = self.check_replicas(replicas)?;
        if !may_resize && to.len() != before.replication_factor() {
            let message = format!(
                "Partition {name}:{index} has {} replica(s), and {} are asked for, while the number was not to change.",
                before.replication_factor(),
                to.len()
            );
            return Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let gone = before.replicas.iter().copied().filter(|node_id| !to.contains(node_id)).collect::<Vec<_>>();
        let adding = to.iter().copied().filter(|node_id| !original(before).any(|before| before == *node_id)).collect();
        let state = PartitionState {
            // What an earlier move has added leaves at once where it is not asked for again.
            removing: gone.iter().copied().filter(|node_id| !before.adding.contains(node_id)).collect(),
            replicas: to.iter().copied().chain(gone.iter().copied().filter(|id| !before.adding.contains(id))).collect(),
            adding,
            ..before.clone()
        };
        self.without_strangers(name, index, before, state)
    }

    /// The state in which a partition moves no longer.
    fn cancelled(&self, topic: &Topic, index: i32, before: &PartitionState) -> Result<Next, Refused> {
        if !before.is_reassigning() {
            let message = "No partition reassignment is in progress.";
            return Err(Refused::new(ErrorCode::NoReassignmentInProgress, message));
        }
        let state = PartitionState {
            replicas: original(before).collect(),
            adding: Vec::new(),
            removing: Vec::new(),
            ..before.clone()
        };
        self.without_strangers(&topic.name, index, before, state)
    }

    /// `state`, in whose in-sync set are none but its replicas. Where none of these is in sync, one that is eligible
    /// takes the place; where none is that either, any, if the topic allows it: it may lack what was acknowledged.
    fn without_strangers(
        &self,
        name: &str,
        index: i32,
        before: &PartitionState,
        mut state: PartitionState,
    ) -> Result<Next, Refused> {
        let stays = |node_id: &NodeId| state.replicas.contains(node_id);
        state.isr = before.isr.iter().copied().filter(stays).collect();
        state.eligible = before.eligible.iter().copied().filter(stays).collect();
        if !state.isr.is_empty() {
            return Ok(Next { state, is_unclean: false });
        }
        if let Some(eligible) = state.replicas.iter().copied().find(|node_id| state.eligible.contains(node_id)) {
            state.isr.push(eligible);
            return Ok(Next { state, is_unclean: false });
        }
        let topic = self.image.topic_named(name).expect("it was looked up");
        let first = state.replicas.iter().copied().find(|node_id| self.image.is_active(*node_id));
        match first.filter(|_| self.election_rules(topic.id).unclean) {
            Some(first) => {
                state.isr.push(first);
                Ok(Next { state, is_unclean: true })
            }
            None => {
                let message = format!(
                    "The move of {name}:{index} cannot be changed in this way: none of the replicas that would stay is \
                     in sync, so that it would need an unclean leader election."
                );
                Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message))
            }
        }
    }

    /// The partitions that are on their way.
    pub fn list_partition_reassignments(
        &self,
        request: &ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        let mut listing = Listing::begin(request.clone());
        while self.list_on(&mut listing, usize::MAX) {}
        listing.into_response()
    }

    /// Goes on with an answer for about `count` partitions. Whether it is not complete yet.
    pub fn list_on(&self, listing: &mut Listing, count: usize) -> bool {
        let reassigning = &self.image.partition_index().reassigning;
        let mut left = count;
        if let Some(topics) = &listing.request.topics {
            while left > 0
                && let Some(asked) = topics.get(listing.next.0)
            {
                let topic = self.image.topic_named(&asked.name);
                let indexes = asked.partition_indexes.get(listing.next.1..).filter(|_| topic.is_some());
                let indexes = indexes.unwrap_or_default();
                let looked = indexes.len().min(left);
                let partitions = topic.into_iter().flat_map(|topic| {
                    indexes[..looked].iter().map(|&partition| TopicPartition { topic: topic.id, partition })
                });
                // Not the other way round: a name that comes again and again would have all looked at each time.
                listing.named.extend(partitions.filter(|partition| reassigning.contains(partition)));
                left -= looked.max(1);
                match looked < indexes.len() {
                    true => listing.next.1 += looked,
                    false => listing.next = (listing.next.0 + 1, 0),
                }
            }
        }
        let listed = if listing.request.topics.is_some() { &listing.named } else { reassigning };
        for &partition in listed.range((listing.after.map_or(Unbounded, Excluded), Unbounded)).take(left) {
            left -= 1;
            listing.after = Some(partition);
            // It may have come to its end since it was found.
            let (Some(topic), Some(state)) = (self.image.topic(partition.topic), self.image.partition(partition))
            else {
                continue;
            };
            if listing.last.replace(partition.topic) != Some(partition.topic) {
                listing.topics.push(OngoingTopicReassignment { name: topic.name.clone(), partitions: Vec::new() });
            }
            let numbers = |nodes: &[NodeId]| nodes.iter().map(|node_id| node_id.0).collect();
            listing.topics.last_mut().expect("one was pushed").partitions.push(OngoingPartitionReassignment {
                partition_index: partition.partition,
                replicas: numbers(&state.replicas),
                adding_replicas: numbers(&state.adding),
                removing_replicas: numbers(&state.removing),
            });
        }
        left == 0
    }
}

/// How far moves that a client asks for are decided.
#[derive(Debug)]
pub struct Reassigning {
    /// The topic of the request that is next, and the partition of it.
    next: (usize, usize),
    /// How many more partitions are looked at.
    left: usize,
    /// Those that were decided about.
    seen: BTreeSet<TopicPartition>,
    responses: Vec<ReassignableTopicResponse>,
}

impl Reassigning {
    /// Begins.
    pub fn begin() -> Reassigning {
        let left = PARTITIONS_PER_REQUEST_MAX;
        Reassigning { next: (0, 0), left, seen: BTreeSet::new(), responses: Vec::new() }
    }

    /// The answer to `request`, once all is decided and has committed.
    pub fn into_response(self, request: &AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse {
        AlterPartitionReassignmentsResponse {
            responses: self.responses,
            allow_replication_factor_change: request.allow_replication_factor_change,
            ..AlterPartitionReassignmentsResponse::default()
        }
    }
}

/// An answer to ListPartitionReassignments, put together some partitions at a time.
#[derive(Debug)]
pub struct Listing {
    request: ListPartitionReassignmentsRequest,
    /// The topic of the request that is looked for next, and the partition of it.
    next: (usize, usize),
    /// Those that are named and on their way.
    named: Partitions,
    /// Partitions up to here are listed.
    after: Option<TopicPartition>,
    /// The topic that was listed last.
    last: Option<TopicId>,
    topics: Vec<OngoingTopicReassignment>,
}

impl Listing {
    /// Begins.
    pub fn begin(request: ListPartitionReassignmentsRequest) -> Listing {
        Listing { request, next: (0, 0), named: Partitions::new(), after: None, last: None, topics: Vec::new() }
    }

    /// The same with nothing of it done.
    #[must_use]
    pub fn anew(self) -> Listing {
        Listing::begin(self.request)
    }

    /// The answer, once it is complete.
    pub fn into_response(self) -> ListPartitionReassignmentsResponse {
        ListPartitionReassignmentsResponse { topics: self.topics, ..ListPartitionReassignmentsResponse::default() }
    }
}

/// What a partition is to become, and whether what was acknowledged may be lost by it.
struct Next {
    state: PartitionState,
    is_unclean: bool,
}

/// The replicas that a partition had before it began to move.
fn original(state: &PartitionState) -> impl Iterator<Item = NodeId> {
    state.replicas.iter().copied().filter(|node_id| !state.adding.contains(node_id))
}
