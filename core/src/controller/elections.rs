//! Who leads a partition, and who is in its in-sync set, by what its brokers may do.
//!
//! [`settle`](Election::settle) is the one place where a partition's next state comes from, whatever made it change:
//!
//! 1. A reassignment ends when all replicas that are to stay are in sync: the others go.
//! 2. Who leaves an in-sync set that is smaller than `min.insync.replicas` afterwards is eligible: the high watermark
//!    stands still from then on, and the log start that clients see, so this replica goes on holding all that was
//!    acknowledged and nothing that was said to be gone. A set that is large enough again makes the list void (KIP-966).
//!    Unlike Kafka's, the set is never empty: the last of it stays in, whoever it is.
//! 3. The leader stays if it can. Else the first of the replicas, in their order, that is in sync and active; else the
//!    first that is eligible and active, whose in-sync set is itself; else, where the topic allows it, the first that is
//!    active, at the price of records; else nobody.
//! 4. A new leader, none included, begins a leader epoch, and so does the end of a replica. Any change begins a
//!    partition epoch.
//!
//! Which partitions there are to settle is known without looking for them. [`due`](Controller::due) takes them in parts,
//! so that the failover of ten thousand is many short entries of the log, and whoever becomes the controller in the
//! middle goes on with the rest.

use super::image::Topic;
use super::records::{MetadataRecord, PartitionState};
use super::{Controller, Decision};
use crate::config::{ElectionRules, Layer};
use crate::ids::{LeaderEpoch, NodeId, TopicId, TopicPartition};

/// How many partitions that there are one entry of the log changes at most, at about 2.5 µs each where it is applied: it is
/// one step's.
pub const PARTITIONS_PER_ENTRY_MAX: usize = 50;

/// That a partition has another leader, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elected {
    /// The partition.
    pub partition: TopicPartition,
    /// Who led before.
    pub before: Option<NodeId>,
    /// Who leads now.
    pub leader: Option<NodeId>,
    /// By which right.
    pub by: Right,
}

/// By which right a replica leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It is in sync.
    InSync,
    /// It holds all that was acknowledged (KIP-966).
    Eligible,
    /// It was the only one there, and unclean elections are allowed: what was acknowledged may be lost. Worth a loud
    /// line each time.
    Unclean,
    /// Nobody leads.
    Nobody,
}

/// One election: what it goes by.
#[derive(Clone, Copy)]
pub(super) struct Election<'a> {
    pub(super) controller: &'a Controller,
    pub(super) rules: ElectionRules,
    /// The first replica leads if it can, though another one does.
    pub(super) preferred: bool,
    /// A broker that may not lead, though it be active: its process has ended.
    pub(super) gone: Option<NodeId>,
    /// It may not be eligible either: it may have lost what it held.
    pub(super) has_lost: bool,
}

impl Election<'_> {
    fn is_active(&self, node_id: NodeId) -> bool {
        self.gone != Some(node_id) && self.controller.image.is_active(node_id)
    }

    /// What becomes of a partition in the state `before`, whose in-sync set or replicas are to be those of `next`.
    /// `None` if nothing does.
    pub(super) fn settle(
        &self,
        before: &PartitionState,
        mut next: PartitionState,
    ) -> Option<(PartitionState, Option<Right>)> {
        complete_reassignment(&mut next);
        self.note_eligible(before, &mut next);
        let right = self.elect(before, &mut next);
        let has_new_leader = next.leader != before.leader;
        let loses_replica = before.replicas.iter().any(|replica| !next.replicas.contains(replica));
        if has_new_leader || loses_replica {
            next.leader_epoch = LeaderEpoch(before.leader_epoch.0 + 1);
        }
        if right == Right::Unclean {
            next.unclean_epoch = Some(next.leader_epoch);
        }
        if next == *before {
            return None;
        }
        next.partition_epoch = before.partition_epoch + 1;
        Some((next, has_new_leader.then_some(right)))
    }

    fn note_eligible(&self, before: &PartitionState, next: &mut PartitionState) {
        next.eligible.clear();
        if next.isr.len() >= self.rules.min_in_sync(next.replication_factor()) {
            return;
        }
        let lost = self.gone.filter(|_| self.has_lost);
        let held = |node_id: &NodeId| before.isr.contains(node_id) || before.eligible.contains(node_id);
        let mut eligible: Vec<NodeId> = next.replicas.iter().copied().filter(held).collect();
        eligible.retain(|node_id| !next.isr.contains(node_id) && Some(*node_id) != lost);
        next.eligible = eligible;
    }

    /// Sets the leader of `next`, and its in-sync set where the leader is not in it. By which right it leads.
    fn elect(&self, before: &PartitionState, next: &mut PartitionState) -> Right {
        let is_fit = |node_id: &NodeId| next.isr.contains(node_id) && self.is_active(*node_id);
        let first = next.replicas.first().copied().filter(|first| self.preferred && is_fit(first));
        let stays = before.leader.filter(is_fit);
        if let Some(leader) = first.or(stays).or_else(|| next.replicas.iter().copied().find(is_fit)) {
            next.leader = Some(leader);
            return Right::InSync;
        }
        let is_eligible = |node_id: &NodeId| next.eligible.contains(node_id) && self.is_active(*node_id);
        if let Some(leader) = next.replicas.iter().copied().find(is_eligible) {
            next.leader = Some(leader);
            next.isr = vec![leader];
            self.note_eligible(&PartitionState { eligible: next.eligible.clone(), ..before.clone() }, next);
            return Right::Eligible;
        }
        let is_unclean = |node_id: &NodeId| self.rules.unclean && self.is_active(*node_id);
        if let Some(leader) = next.replicas.iter().copied().find(is_unclean) {
            next.leader = Some(leader);
            next.isr = vec![leader];
            next.eligible.clear();
            return Right::Unclean;
        }
        next.leader = None;
        Right::Nobody
    }

    /// What becomes of a partition of which some broker is no longer there: who is not active leaves the in-sync set,
    /// all but one, who leads if it can.
    pub(super) fn leave(&self, before: &PartitionState) -> Option<(PartitionState, Option<Right>)> {
        let mut next = before.clone();
        next.isr.retain(|node_id| self.is_active(*node_id));
        if next.isr.is_empty() {
            let lost = self.gone.filter(|_| self.has_lost);
            let others = || before.replicas.iter().filter(|node_id| Some(**node_id) != lost);
            // The leader has the most. One that may have lost it stays only where nobody else has it.
            let led = before.leader.iter().filter(|leader| Some(**leader) != lost);
            let last = led
                .chain(others().filter(|node_id| before.isr.contains(node_id)))
                .chain(others().filter(|node_id| before.eligible.contains(node_id)))
                .chain(&before.isr);
            next.isr.extend(last.copied().next());
        }
        self.settle(before, next)
    }
}

/// Ends the reassignment if all replicas that are to stay are in sync (KIP-455).
fn complete_reassignment(next: &mut PartitionState) {
    let PartitionState { replicas, removing, isr, .. } = &*next;
    let mut stay = replicas.iter().filter(|node_id| !removing.contains(node_id));
    if !next.is_reassigning() || !stay.all(|node_id| isr.contains(node_id)) {
        return;
    }
    let removing = std::mem::take(&mut next.removing);
    next.adding.clear();
    next.replicas.retain(|node_id| !removing.contains(node_id));
    next.isr.retain(|node_id| !removing.contains(node_id));
}

/// The changes of one entry, as they are decided.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) records: Vec<MetadataRecord>,
    pub(super) elected: Vec<Elected>,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= PARTITIONS_PER_ENTRY_MAX
    }

    pub(super) fn add(
        &mut self,
        partition: TopicPartition,
        before: &PartitionState,
        settled: Option<(PartitionState, Option<Right>)>,
    ) {
        let Some((state, right)) = settled else { return };
        let (before, leader) = (before.leader, state.leader);
        self.elected.extend(right.map(|by| Elected { partition, before, leader, by }));
        self.records.push(MetadataRecord::Partition { partition, state });
    }

    pub(super) fn decide(self) -> Decision<Vec<Elected>> {
        Decision { records: self.records, response: self.elected }
    }
}

impl Controller {
    /// What elections of a topic's partitions go by; for a topic that does not exist, what they go by unless it says
    /// otherwise.
    pub fn election_rules(&self, topic: TopicId) -> ElectionRules {
        let Some(topic) = self.image.topic(topic) else { return self.config.election_rules(&Layer::new()) };
        let rules = self.config.election_rules(&topic.settings);
        ElectionRules { min_insync_replicas: Some(rules.least(topic.replication_factor)), ..rules }
    }

    /// How many replicas of a topic's partitions must be in sync for acks=all.
    pub(super) fn min_insync_replicas(&self, topic: &Topic) -> u32 {
        self.config.election_rules(&topic.settings).least(topic.replication_factor)
    }

    pub(super) fn election(&self, topic: TopicId) -> Election<'_> {
        let rules = self.election_rules(topic);
        Election { controller: self, rules, preferred: false, gone: None, has_lost: false }
    }

    /// The next changes of partitions that the standing of brokers calls for, at most [`PARTITIONS_PER_ENTRY_MAX`] of
    /// them: what a broker leads or shares that is fenced, stops or was removed, and what nobody leads though an active
    /// broker could. `None` if there are none: to be asked again until then, once the answer has been replayed. What the
    /// brokers' standing is and what the log says is all that it depends on, so that a new controller goes on where the
    /// last one was.
    pub fn due(&self) -> Option<Decision<Vec<Elected>>> {
        let mut batch = Batch::default();
        let mut seen = std::collections::BTreeSet::new();
        // Leaderships first: they are what clients wait for.
        let index = self.image.partition_index();
        let inactive = || index.brokers().filter(|(node_id, _)| !self.image.is_active(*node_id));
        let active = index.brokers().filter(|(node_id, _)| self.image.is_active(*node_id));
        let led = inactive().flat_map(|(_, duties)| &duties.leads);
        let awaited = active.flat_map(|(_, duties)| &duties.awaits);
        let shared = inactive().flat_map(|(_, duties)| &duties.shares);
        for &partition in led.chain(awaited).chain(shared) {
            if batch.is_full() {
                break;
            }
            if seen.insert(partition) {
                let before = self.image.partition(partition).expect("the index knows partitions that exist");
                batch.add(partition, before, self.election(partition.topic).leave(before));
            }
        }
        assert!(
            !batch.records.is_empty() || seen.is_empty(),
            "what is due changes something, or it would be due for ever"
        );
        (!batch.records.is_empty()).then(|| batch.decide())
    }

    /// Elects leaders outside the in-sync sets for partitions that nobody leads, where their topics allow it. Looks at the
    /// next [`PARTITIONS_PER_ENTRY_MAX`] of these after `after`, and moves it; `None` when it has come to the end. What a
    /// broker's end leaves without a leader is elected at once; this is for those that a broker's return or a changed
    /// setting makes possible, so to be done then and every few minutes.
    pub fn elect_unclean(&self, after: &mut Option<TopicPartition>) -> Option<Decision<Vec<Elected>>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut batch = Batch::default();
        let leaderless = &self.image.partition_index().leaderless;
        let mut looked = 0;
        for &partition in leaderless.range((after.map_or(Unbounded, Excluded), Unbounded)) {
            if batch.is_full() || looked == PARTITIONS_PER_ENTRY_MAX {
                break;
            }
            looked += 1;
            *after = Some(partition);
            let election = self.election(partition.topic);
            if election.rules.unclean {
                let before = self.image.partition(partition).expect("the index knows partitions that exist");
                batch.add(partition, before, election.leave(before));
            }
        }
        (looked > 0).then(|| batch.decide())
    }
}
