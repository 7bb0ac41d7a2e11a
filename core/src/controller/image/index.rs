//! Which partitions are in which state, so that nobody has to look at all of them: kept with every change of a
//! partition.
//!
//! It says nothing of what brokers may do. A broker that is fenced costs what it leads and shares, not what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::super::records::PartitionState;
use crate::ids::{NodeId, TopicId, TopicPartition};

/// A set of partitions, by topic and number.
pub type Partitions = BTreeSet<TopicPartition>;

/// What the image knows of a broker's part in partitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duties {
    /// Those that it is a replica of.
    pub holds: Partitions,
    /// Those that it leads.
    pub leads: Partitions,
    /// Those whose in-sync set it is in together with others.
    pub shares: Partitions,
    /// Those that it is eligible to lead, outside their in-sync set.
    pub eligible: Partitions,
    /// Those in whose in-sync set it is alone, while others are eligible.
    pub backed: Partitions,
    /// Those that nobody leads, and that it could.
    pub awaits: Partitions,
    /// How many there are in whose in-sync set it is alone, and for which nobody else is eligible.
    pub sole: usize,
}

static NONE: Duties = Duties {
    holds: Partitions::new(),
    leads: Partitions::new(),
    shares: Partitions::new(),
    eligible: Partitions::new(),
    backed: Partitions::new(),
    awaits: Partitions::new(),
    sole: 0,
};

/// The index over all partitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    duties: BTreeMap<NodeId, Duties>,
    /// Those that nobody leads.
    pub leaderless: Partitions,
    /// Those with fewer in-sync replicas than they are to have replicas.
    pub under_replicated: Partitions,
    /// Those on their way to other brokers.
    pub reassigning: Partitions,
    /// Those that their first replica does not lead.
    pub unpreferred: Partitions,
    /// Those with eligible replicas outside the in-sync set.
    pub with_eligible: Partitions,
}

impl Index {
    /// The part that a broker has.
    pub fn duties(&self, node_id: NodeId) -> &Duties {
        self.duties.get(&node_id).unwrap_or(&NONE)
    }

    /// The brokers that have a part in any partition, by number.
    pub fn brokers(&self) -> impl Iterator<Item = (NodeId, &Duties)> {
        self.duties.iter().map(|(node_id, duties)| (*node_id, duties))
    }

    /// The partitions of a topic in `set`.
    pub fn of_topic(set: &Partitions, topic: TopicId) -> impl Iterator<Item = TopicPartition> {
        set.range(all_of(topic)).copied()
    }

    /// Takes note that a partition has become `after` from `before`, where there is such.
    pub(super) fn note(
        &mut self,
        partition: TopicPartition,
        before: Option<&PartitionState>,
        after: Option<&PartitionState>,
    ) {
        let mark = |set: &mut Partitions, is: fn(&PartitionState) -> bool| {
            mark(set, partition, before.is_some_and(is), after.is_some_and(is));
        };
        mark(&mut self.leaderless, |state| state.leader.is_none());
        mark(&mut self.under_replicated, PartitionState::is_under_replicated);
        mark(&mut self.reassigning, PartitionState::is_reassigning);
        mark(&mut self.unpreferred, |state| state.leader != state.replicas.first().copied());
        mark(&mut self.with_eligible, |state| !state.eligible.is_empty());
        for node_id in before.map_or(&[][..], |before| &before.replicas) {
            self.note_of(*node_id, partition, before, after);
        }
        let was_there = |node_id: &NodeId| before.is_some_and(|before| before.replicas.contains(node_id));
        for node_id in after.map_or(&[][..], |after| &after.replicas).iter().filter(|node_id| !was_there(node_id)) {
            self.note_of(*node_id, partition, before, after);
        }
    }

    /// Takes note that a topic is gone, which had these partitions: thousands go at less cost together than one by one.
    pub(super) fn forget(&mut self, topic: TopicId, partitions: &[PartitionState]) {
        let forget = |set: &mut Partitions| {
            let gone: Vec<TopicPartition> = Index::of_topic(set, topic).collect();
            gone.iter().for_each(|partition| _ = set.remove(partition));
        };
        let Index { duties, leaderless, under_replicated, reassigning, unpreferred, with_eligible } = self;
        [leaderless, under_replicated, reassigning, unpreferred, with_eligible].into_iter().for_each(forget);
        for state in partitions {
            let sole = state.isr.first().filter(|_| state.isr.len() == 1 && state.eligible.is_empty());
            if let Some(duties) = sole.and_then(|node_id| duties.get_mut(node_id)) {
                duties.sole -= 1;
            }
        }
        duties.retain(|_, duties| {
            let Duties { holds, leads, shares, eligible, backed, awaits, sole: _ } = duties;
            [&mut *holds, leads, shares, eligible, backed, awaits].into_iter().for_each(forget);
            !holds.is_empty()
        });
    }

    fn note_of(
        &mut self,
        node_id: NodeId,
        partition: TopicPartition,
        before: Option<&PartitionState>,
        after: Option<&PartitionState>,
    ) {
        let part = |state: Option<&PartitionState>| state.map(|state| Part::of(node_id, state)).unwrap_or_default();
        let (was, is) = (part(before), part(after));
        if was == is {
            return;
        }
        let duties = self.duties.entry(node_id).or_default();
        mark(&mut duties.holds, partition, was.holds, is.holds);
        mark(&mut duties.leads, partition, was.leads, is.leads);
        mark(&mut duties.shares, partition, was.shares, is.shares);
        mark(&mut duties.eligible, partition, was.eligible, is.eligible);
        mark(&mut duties.backed, partition, was.backed, is.backed);
        mark(&mut duties.awaits, partition, was.awaits, is.awaits);
        duties.sole = duties.sole + usize::from(is.sole) - usize::from(was.sole);
        if duties.holds.is_empty() {
            self.duties.remove(&node_id);
        }
    }
}

/// The part that one broker has in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    holds: bool,
    leads: bool,
    shares: bool,
    eligible: bool,
    backed: bool,
    awaits: bool,
    sole: bool,
}

impl Part {
    fn of(node_id: NodeId, state: &PartitionState) -> Part {
        let in_sync = state.isr.contains(&node_id);
        let eligible = state.eligible.contains(&node_id);
        let alone = in_sync && state.isr.len() == 1;
        Part {
            holds: state.replicas.contains(&node_id),
            leads: state.leader == Some(node_id),
            shares: in_sync && !alone,
            eligible,
            backed: alone && !state.eligible.is_empty(),
            awaits: state.leader.is_none() && (in_sync || eligible),
            sole: alone && state.eligible.is_empty(),
        }
    }
}

/// All partitions that a topic could have.
fn all_of(topic: TopicId) -> RangeInclusive<TopicPartition> {
    TopicPartition { topic, partition: 0 }..=TopicPartition { topic, partition: i32::MAX }
}

fn mark(set: &mut Partitions, partition: TopicPartition, was: bool, is: bool) {
    match (was, is) {
        (false, true) => _ = set.insert(partition),
        (true, false) => _ = set.remove(&partition),
        _ => {}
    }
}
