//! Which brokers hold a new partition: spread over racks first and over brokers then, those that lead and hold least
//! before the others, and none that is fenced where it can be helped (KIP-36, KIP-631).
//!
//! The active brokers stand in a row in which the racks take turns, and within each rack those with the fewest
//! leaderships and replicas come first. Each partition begins with the next of the row, who leads it, and goes on from
//! there: to a broker of a rack that the partition is not in yet, as long as there is one. Whenever the row has been gone
//! through, the followers stand one further from their leader, so that what a broker led is led by many when it fails.

use std::collections::BTreeMap;

use super::records::{PartitionState, Registration};
use super::{Controller, Refused};
use crate::ids::NodeId;
use crate::wire::{ErrorCode, Str};

/// How many replicas a topic gets where nobody says and there are brokers enough: one may fail, and what is
/// acknowledged is still on two.
const REPLICAS_BY_DEFAULT: usize = 3;

impl Controller {
    /// How many replicas a topic gets where its creator does not say. Where nobody has set
    /// `default.replication.factor`, that is the smaller of 3 and the number of brokers, those of the quorum's members among
    /// them that are yet to be registered: Kafka's default is 1.
    pub fn default_replication_factor(&self) -> i16 {
        match self.config.is_set("default.replication.factor") {
            true => self.config.default_replication_factor,
            false => {
                let brokers = self.brokers_to_be().clamp(1, REPLICAS_BY_DEFAULT);
                i16::try_from(brokers).expect("three at most")
            }
        }
    }

    /// Where `count` new partitions go, each on `replication_factor` brokers. `earlier` is how many partitions the same
    /// request places before these.
    pub(super) fn place(
        &self,
        count: usize,
        replication_factor: usize,
        earlier: usize,
    ) -> Result<Vec<PartitionState>, Refused> {
        let refuse = |why: String| {
            let message = format!("Unable to replicate the partition {replication_factor} time(s): {why}");
            Err(Refused::new(ErrorCode::InvalidReplicationFactor, message))
        };
        let brokers = self.image.brokers().len();
        if replication_factor > brokers {
            return refuse(format!("only {brokers} broker(s) are registered."));
        }
        let (active, inactive): (Vec<_>, Vec<_>) =
            self.image.brokers().partition(|broker| self.image.is_active(broker.node_id));
        if active.is_empty() {
            return refuse("All brokers are currently fenced or in controlled shutdown.".to_owned());
        }
        let (active, inactive) = (self.row(active), self.row(inactive));
        let replicas = |index| replicas(&active, &inactive, replication_factor, earlier + index);
        Ok((0..count).filter_map(|index| self.new_partition(replicas(index))).collect())
    }

    /// The brokers in a row in which the racks take turns, those with the least to do first.
    fn row<'a>(&self, brokers: Vec<&'a Registration>) -> Vec<Place<'a>> {
        let mut racks: BTreeMap<Option<&Str>, Vec<&Registration>> = BTreeMap::new();
        for broker in brokers {
            racks.entry(broker.rack.as_ref()).or_default().push(broker);
        }
        let load = |broker: &&Registration| {
            let duties = self.image.partition_index().duties(broker.node_id);
            (duties.leads.len(), duties.holds.len(), broker.node_id)
        };
        let mut turns: Vec<_> = racks
            .into_iter()
            .map(|(rack, mut brokers)| {
                brokers.sort_by_key(load);
                (brokers.first().map(load), rack, brokers)
            })
            .collect();
        turns.sort_by_key(|(least, ..)| *least);
        let rounds = turns.iter().map(|(.., brokers)| brokers.len()).max().unwrap_or(0);
        let turns = &turns;
        (0..rounds)
            .flat_map(|round| {
                turns.iter().filter_map(move |(_, rack, brokers)| {
                    Some(Place { node_id: brokers.get(round)?.node_id, rack: *rack })
                })
            })
            .collect()
    }

    /// The partition that a client wants on these brokers.
    pub(super) fn assign(
        &self,
        broker_ids: &[i32],
        replication_factor: Option<usize>,
    ) -> Result<PartitionState, Refused> {
        let replicas = self.check_replicas(broker_ids)?;
        if let Some(before) = replication_factor.filter(|before| *before != broker_ids.len()) {
            return Err(invalid(format!(
                "The assignment of a partition has {} replica(s), where the topic's other partitions have {before}.",
                broker_ids.len()
            )));
        }
        self.new_partition(replicas).ok_or_else(|| {
            invalid("All brokers of a partition's assignment are fenced or in controlled shutdown.".to_owned())
        })
    }

    /// The brokers that a client wants a partition on, each registered, and named once.
    pub(super) fn check_replicas(&self, broker_ids: &[i32]) -> Result<Vec<NodeId>, Refused> {
        if broker_ids.is_empty() {
            return Err(invalid("The assignment of a partition names no broker.".to_owned()));
        }
        // Brokers are looked for among those that exist, so a list of any length costs little.
        let mut replicas = Vec::new();
        for id in broker_ids {
            let node_id = NodeId(*id);
            if self.image.broker(node_id).is_none() {
                let message = format!("The assignment of a partition names broker {id}, which is not registered.");
                return Err(invalid(message));
            }
            if replicas.contains(&node_id) {
                let message = format!("The assignment of a partition names broker {id} more than once.");
                return Err(invalid(message));
            }
            replicas.push(node_id);
        }
        Ok(replicas)
    }

    /// A partition that nothing was written to: all of its active replicas are in sync, the first of them leads. `None`
    /// where none is active.
    fn new_partition(&self, replicas: Vec<NodeId>) -> Option<PartitionState> {
        let mut state = PartitionState::new(replicas);
        state.isr.retain(|node_id| self.image.is_active(*node_id));
        state.leader = state.isr.first().copied();
        state.leader.is_some().then_some(state)
    }
}

fn invalid(message: String) -> Refused {
    Refused::new(ErrorCode::InvalidReplicaAssignment, message)
}

/// A broker in the row.
#[derive(Clone, Copy)]
struct Place<'a> {
    node_id: NodeId,
    rack: Option<&'a Str>,
}

/// The replicas of the partition `index`, counted within a request.
fn replicas(active: &[Place<'_>], inactive: &[Place<'_>], replication_factor: usize, index: usize) -> Vec<NodeId> {
    let (round, first) = (index / active.len(), index % active.len());
    let mut chosen = vec![active[first]];
    // The others, beginning a little further with each round.
    let others = active.len() - 1;
    let other = |at: usize| active[(first + 1 + (at + round) % others) % active.len()];
    take(&mut chosen, (0..others).map(other).collect(), replication_factor);
    take(&mut chosen, inactive.to_vec(), replication_factor);
    chosen.into_iter().map(|place| place.node_id).collect()
}

/// Moves candidates to those that are `chosen`, until these are as many as they shall be or there are no more.
fn take<'a>(chosen: &mut Vec<Place<'a>>, mut candidates: Vec<Place<'a>>, replication_factor: usize) {
    // A rack with fewer replicas than this is to be found, while there is one.
    let mut most = 1;
    while chosen.len() < replication_factor && !candidates.is_empty() {
        let in_rack = |place: &Place<'_>| chosen.iter().filter(|other| other.rack == place.rack).count();
        match candidates.iter().position(|place| in_rack(place) < most) {
            Some(at) => chosen.push(candidates.remove(at)),
            None => most += 1,
        }
    }
}
