//! What brokers of a cluster believe of their partitions, step by step: who leads, who counts, how far each has come.
//!
//! Judged by what the engine noted of every broker ([`What::Stands`], [`What::Votes`]), and by what the auditor read of
//! every replica. Where nothing of it is noted, as with a single broker, nothing is judged.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::wire::ErrorCode;

use super::facts::{Facts, record};
use super::{Claim, Found};
use crate::history::{Role, Standing, What};
use crate::plan::{FaultKind, HEAL_MS};

pub(super) const ONE_LEADER_PER_EPOCH: Claim = Claim {
    name: "one-leader-per-epoch",
    meaning: "In one leader epoch of a partition one broker leads, and one process of it.",
};

pub(super) const ONE_CONTROLLER_PER_TERM: Claim = Claim {
    name: "one-controller-per-term",
    meaning: "In one term of the metadata quorum one broker leads it; to a process neither terms go back nor what it knows \
              to have committed.",
};

pub(super) const EPOCHS_NEVER_GO_BACK: Claim = Claim {
    name: "epochs-never-go-back",
    meaning: "What a process knows of a partition never becomes older: its leader epoch, the number of its state, its high \
              watermark and its log start.",
};

pub(super) const IN_SYNC_SETS_ARE_SOUND: Claim = Claim {
    name: "in-sync-sets-are-sound",
    meaning: "An in-sync set is never empty, has no broker twice, and one state of a partition has one set.",
};

pub(super) const WATERMARK_WAITS_FOR_ENOUGH: Claim = Claim {
    name: "watermark-waits-for-enough",
    meaning: "The high watermark of a leader stands still while fewer replicas are in sync than min.insync.replicas.",
};

pub(super) const REPLICAS_AGREE: Claim = Claim {
    name: "replicas-agree",
    meaning: "Below the high watermark every replica has the same records at the same offsets.",
};

pub(super) const SETS_ARE_FULL_AFTER_HEALING: Claim = Claim {
    name: "sets-are-full-after-healing",
    meaning: "Within 30 s of when everything has healed every partition has a leader, all of its replicas are in sync, and none \
              is moved any more.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    let mut partitions: BTreeMap<TopicPartition, Believed> = BTreeMap::new();
    let mut quorum = Quorum::default();
    // How often each broker was started.
    let mut starts: BTreeMap<u32, u32> = BTreeMap::new();
    let mut is_judged = false;
    for (event, happened) in facts.events.iter().enumerate() {
        let node = happened.node;
        match &happened.what {
            // The audit begins with one: until then everybody had time.
            What::Fault(_) if !is_judged && is_long_healed(facts, event) => {
                is_judged = true;
                healed(facts, &partitions, found);
            }
            What::Started { .. } => *starts.entry(node).or_default() += 1,
            // What a disk forgets that was to be synced, nobody can know.
            What::Fault(
                FaultKind::LyingSync { .. } | FaultKind::BitFlip { .. } | FaultKind::MisdirectedWrite { .. },
            ) => {
                return;
            }
            What::Stands(standing) => {
                let process = starts.get(&node).copied().unwrap_or_default();
                let seen = Seen { event, node, process, standing };
                partitions.entry(standing.partition).or_default().judge(facts, &seen, found);
            }
            &What::Votes { term, leads, committed } => {
                let process = starts.get(&node).copied().unwrap_or_default();
                quorum.judge(facts, event, (node, process, term), leads, committed, found);
            }
            What::Left { partition } => {
                if let Some(believed) = partitions.get_mut(partition) {
                    believed.known.remove(&node);
                }
            }
            What::Copied { .. } => copied(facts, &partitions, event, found),
            _ => {}
        }
    }
}

fn is_long_healed(facts: &Facts<'_>, event: usize) -> bool {
    facts.healed.is_some_and(|healed| facts.events[event].at >= healed + Duration::from_millis(HEAL_MS))
}

/// Something that a broker believes.
struct Seen<'a> {
    event: usize,
    node: u32,
    process: u32,
    standing: &'a Standing,
}

/// What brokers have believed of a partition so far.
#[derive(Default)]
struct Believed<'a> {
    /// Who led in each epoch: broker and process.
    leaders: BTreeMap<i32, (u32, u32, usize)>,
    /// The set of each state.
    sets: BTreeMap<i32, (&'a [u32], usize)>,
    /// What each broker knew last.
    known: BTreeMap<u32, (&'a Standing, u32, usize)>,
}

impl<'a> Believed<'a> {
    fn judge(&mut self, facts: &Facts<'_>, seen: &Seen<'a>, found: &mut Found) {
        self.leads(facts, seen, found);
        self.counts(facts, seen, found);
        self.rises(facts, seen, found);
        self.known.insert(seen.node, (seen.standing, seen.process, seen.event));
    }

    fn leads(&mut self, facts: &Facts<'_>, seen: &Seen<'a>, found: &mut Found) {
        if seen.standing.role != Role::Leads {
            return;
        }
        let epoch = seen.standing.leader_epoch;
        let &mut (node, process, event) = self.leaders.entry(epoch).or_insert((seen.node, seen.process, seen.event));
        if (node, process) != (seen.node, seen.process) {
            found.add(ONE_LEADER_PER_EPOCH, seen.event, || {
                format!(
                    "{}: broker {} leads in epoch {epoch} at {}, in which broker {node} leads {}since {}",
                    facts.name(seen.standing.partition),
                    seen.node,
                    facts.when(seen.event),
                    if node == seen.node { "as another process " } else { "" },
                    facts.when(event),
                )
            });
        }
    }

    fn counts(&mut self, facts: &Facts<'_>, seen: &Seen<'a>, found: &mut Found) {
        let Standing { partition, partition_epoch, in_sync, .. } = seen.standing;
        let mut members = in_sync.clone();
        members.sort_unstable();
        members.dedup();
        let &mut (set, event) = self.sets.entry(*partition_epoch).or_insert((in_sync, seen.event));
        let tell = |what: &str| {
            let (name, when) = (facts.name(*partition), facts.when(seen.event));
            format!(
                "{name}: to broker {} {in_sync:?} are in sync in state {partition_epoch} at {when}: {what}",
                seen.node
            )
        };
        if members.is_empty() {
            found.add(IN_SYNC_SETS_ARE_SOUND, seen.event, || tell("there is nobody"));
        } else if members.len() < in_sync.len() {
            found.add(IN_SYNC_SETS_ARE_SOUND, seen.event, || tell("somebody is there twice"));
        } else if set != in_sync.as_slice() {
            let other = || tell(&format!("it was {set:?} at {}", facts.when(event)));
            found.add(IN_SYNC_SETS_ARE_SOUND, seen.event, other);
        }
    }

    fn rises(&mut self, facts: &Facts<'_>, seen: &Seen<'a>, found: &mut Found) {
        let Some(&(before, process, event)) = self.known.get(&seen.node) else { return };
        let now = seen.standing;
        // A start begins with what the disk has, and learns again what came after that.
        let is_same = process == seen.process;
        let values = [
            ("leader epoch", i64::from(before.leader_epoch), i64::from(now.leader_epoch)),
            ("state", i64::from(before.partition_epoch), i64::from(now.partition_epoch)),
            ("high watermark", before.high_watermark.0, now.high_watermark.0),
            ("log start", before.start.0, now.start.0),
        ];
        for (name, was, is) in values.into_iter().filter(|&(_, was, is)| is_same && is < was) {
            found.add(EPOCHS_NEVER_GO_BACK, seen.event, || {
                format!(
                    "{}: broker {} knows of {name} {is} at {}, and knew of {was} at {}",
                    facts.name(now.partition),
                    seen.node,
                    facts.when(seen.event),
                    facts.when(event),
                )
            });
        }
        let is_short =
            |standing: &Standing| standing.role == Role::Leads && standing.in_sync.len() < standing.in_sync_min;
        let is_one =
            is_same && before.partition_epoch == now.partition_epoch && before.leader_epoch == now.leader_epoch;
        if is_one && is_short(before) && is_short(now) && before.high_watermark < now.high_watermark {
            found.add(WATERMARK_WAITS_FOR_ENOUGH, seen.event, || {
                format!(
                    "{}: the high watermark of broker {} goes from {} to {} by {}, with {:?} in sync of which there must be {}",
                    facts.name(now.partition),
                    seen.node,
                    before.high_watermark,
                    now.high_watermark,
                    facts.when(seen.event),
                    now.in_sync,
                    now.in_sync_min,
                )
            });
        }
    }
}

/// What brokers have believed of the metadata quorum so far.
#[derive(Default)]
struct Quorum {
    leaders: BTreeMap<u64, (u32, usize)>,
    /// Of each broker the process, the term and what has committed.
    known: BTreeMap<u32, (u32, u64, u64)>,
}

impl Quorum {
    fn judge(
        &mut self,
        facts: &Facts<'_>,
        event: usize,
        (node, process, term): (u32, u32, u64),
        leads: bool,
        committed: u64,
        found: &mut Found,
    ) {
        if leads {
            let &mut (other, since) = self.leaders.entry(term).or_insert((node, event));
            if other != node {
                found.add(ONE_CONTROLLER_PER_TERM, event, || {
                    format!(
                        "brokers {other} (at {}) and {node} (at {}) lead in term {term}",
                        facts.when(since),
                        facts.when(event)
                    )
                });
            }
        }
        let before = self.known.insert(node, (process, term, committed)).unwrap_or_default();
        let (was_process, was_term, was_committed) = before;
        // A start learns again how much has committed; a term in which nothing was said yet its disk need not have.
        if process == was_process && (term < was_term || committed < was_committed) {
            found.add(ONE_CONTROLLER_PER_TERM, event, || {
                format!(
                    "broker {node} is in term {term} with {committed} entries committed at {}, and was in term {was_term} \
                     with {was_committed}",
                    facts.when(event)
                )
            });
        }
    }
}

/// What a follower has is what the auditor read from the leader, as far as that has it.
fn copied(facts: &Facts<'_>, partitions: &BTreeMap<TopicPartition, Believed<'_>>, event: usize, found: &mut Found) {
    let What::Copied { partition: id, node, from, code, ref records, next, until } = facts.events[event].what else {
        return;
    };
    let Ok(place) = facts.partitions.binary_search_by_key(&id, |partition| partition.id) else { return };
    let partition = &facts.partitions[place];
    let known = partitions.get(&id).and_then(|believed| believed.known.get(&node));
    // It may have let go of more when it led: clients see the least start of the set, and leaders go on from their own.
    let is_behind_start = known.is_some_and(|(standing, ..)| from < standing.start);
    if code == ErrorCode::OffsetOutOfRange && is_behind_start {
        return;
    }
    if code != ErrorCode::None {
        return found.add(REPLICAS_AGREE, event, || {
            format!("{}: broker {node} does not serve its replica from {from} on: {}", facts.name(id), code.name())
        });
    }
    let is_same = |offset: Offset| {
        let there = partition.at(offset).filter(|seen| seen.is_audited).map(|seen| seen.read(offset));
        let here = records.iter().find(|read| read.offset == offset).copied();
        // What is superseded one of them may have removed before the other.
        (there == here || partition.keyed.is_some() && (there.is_none() || here.is_none()))
            .then_some(())
            .ok_or((there, here))
    };
    for offset in from.0..next.0.min(until.0) {
        let Err((there, here)) = is_same(Offset(offset)) else { continue };
        return found.add(REPLICAS_AGREE, event, || {
            let tell = |read: Option<_>| read.map_or("nothing".to_owned(), |read| record(&read));
            format!(
                "{}: at offset {offset} broker {node} has {}, and the leader {}",
                facts.name(id),
                tell(here),
                tell(there),
            )
        });
    }
}

/// In the end everybody leads and follows as they should.
fn healed(facts: &Facts<'_>, partitions: &BTreeMap<TopicPartition, Believed<'_>>, found: &mut Found) {
    for (&id, believed) in partitions {
        // A deletion whose answer was lost may have been carried out.
        let Some(topic) = facts.topics.name(id.topic).filter(|_| !facts.topics.may_be_deleted(id.topic)) else {
            continue;
        };
        // Of a partition that was to be moved it is not known which of its moves was carried out last.
        let asked_for =
            facts.plan.topics.iter().enumerate().find(|(_, plan)| plan.name == topic).map(|(index, plan)| {
                facts.plan.moves(index).map(<[u32]>::len).fold(plan.replication as usize, usize::min)
            });
        let newest = believed.known.values().max_by_key(|(standing, ..)| standing.partition_epoch);
        let Some((&(newest, _, event), asked_for)) = newest.zip(asked_for) else { continue };
        let leads = |(standing, ..): &&(&Standing, u32, usize)| {
            standing.role == Role::Leads && standing.leader_epoch == newest.leader_epoch
        };
        let is_settled = !newest.is_moving && newest.replicas >= asked_for && newest.in_sync.len() >= newest.replicas;
        if !is_settled || believed.known.values().filter(leads).count() != 1 {
            found.add(SETS_ARE_FULL_AFTER_HEALING, event, || {
                format!(
                    "{}: long after everything had healed {:?} of {} replicas are in sync{}, and in epoch {} {} lead",
                    facts.name(id),
                    newest.in_sync,
                    newest.replicas,
                    if newest.is_moving { " while it is moved" } else { "" },
                    newest.leader_epoch,
                    believed.known.values().filter(leads).count(),
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{Told, told};
    use crate::history::ClientId;
    use crate::plan::{Action, ClientKind, ClientPlan, Operation, TopicPlan};

    /// How a broker stands: its part, leader epoch and state, who is in sync of two, and its high watermark.
    fn standing(on: TopicPartition, role: Role, (epoch, state): (i32, i32), in_sync: &[u32], end: i64) -> Standing {
        Standing {
            partition: on,
            role,
            leader_epoch: epoch,
            partition_epoch: state,
            replicas: 2,
            is_moving: false,
            in_sync: in_sync.to_vec(),
            in_sync_min: 2,
            high_watermark: Offset(end),
            start: Offset(0),
            end: Offset(end),
        }
    }

    /// A broker says so of itself.
    fn stands(told: Told, node: u32, role: Role, epochs: (i32, i32), in_sync: &[u32], end: i64) -> Told {
        let standing = standing(told.on, role, epochs, in_sync, end);
        told.of_node(node, What::Stands(Box::new(standing)))
    }

    /// Broker 2 follows, and has what it has from an offset on.
    fn follows_from(told: Told, start: i64) -> Told {
        let on = told.on;
        let standing = Standing { start: Offset(start), ..standing(on, Role::Follows, (0, 0), &[1, 2], 2) };
        told.of_node(2, What::Stands(Box::new(standing)))
    }

    fn leads(told: Told, node: u32, epochs: (i32, i32), in_sync: &[u32], end: i64) -> Told {
        stands(told, node, Role::Leads, epochs, in_sync, end)
    }

    #[test]
    fn one_broker_leads_in_an_epoch_and_one_process_of_it() {
        leads(leads(told(), 1, (3, 7), &[1, 2], 0), 2, (4, 8), &[1, 2], 0).holds();
        leads(leads(told(), 1, (3, 7), &[1, 2], 0), 2, (3, 7), &[1, 2], 0)
            .breaks(ONE_LEADER_PER_EPOCH, "broker 1 leads");
        let again = leads(told(), 1, (3, 7), &[1, 2], 0).loses_power();
        leads(again, 1, (3, 7), &[1, 2], 0).breaks(ONE_LEADER_PER_EPOCH, "as another process");
        let followed = stands(leads(told(), 1, (3, 7), &[1, 2], 0), 2, Role::Follows, (3, 7), &[1, 2], 0);
        followed.holds();
    }

    #[test]
    fn one_broker_leads_the_quorum_in_a_term_and_commits_stay() {
        let votes =
            |told: Told, node, term, leads, committed| told.of_node(node, What::Votes { term, leads, committed });
        votes(votes(told(), 1, 2, true, 5), 2, 3, true, 5).holds();
        votes(votes(told(), 1, 2, true, 5), 2, 2, true, 5).breaks(ONE_CONTROLLER_PER_TERM, "lead in term 2");
        votes(votes(told(), 1, 2, false, 5), 1, 2, false, 4).breaks(ONE_CONTROLLER_PER_TERM, "was in term 2 with 5");
        votes(votes(told(), 1, 2, false, 5), 1, 1, false, 5).breaks(ONE_CONTROLLER_PER_TERM, "is in term 1");
        let again = || votes(told(), 1, 2, false, 5).loses_power();
        votes(again(), 1, 1, false, 4).holds();
    }

    #[test]
    fn what_a_broker_knows_never_becomes_older() {
        let first = || leads(told(), 1, (3, 7), &[1, 2], 9);
        leads(first(), 1, (3, 8), &[1], 9).holds();
        leads(first(), 1, (2, 8), &[1, 2], 9).breaks(EPOCHS_NEVER_GO_BACK, "leader epoch 2");
        leads(first(), 1, (3, 6), &[1, 2], 9).breaks(EPOCHS_NEVER_GO_BACK, "state 6");
        leads(first(), 1, (3, 7), &[1, 2], 8).breaks(EPOCHS_NEVER_GO_BACK, "high watermark 8");
        // A new process has yet to learn what the one before it knew.
        leads(first().loses_power(), 1, (2, 6), &[1, 2], 8).holds();
    }

    #[test]
    fn a_replica_that_was_moved_away_begins_anew_when_it_is_moved_back() {
        let first = || stands(told(), 2, Role::Follows, (3, 7), &[1, 2], 9);
        let left = |told: Told| {
            let partition = told.on;
            told.of_node(2, What::Left { partition })
        };
        stands(left(first()), 2, Role::Follows, (4, 9), &[1, 3], 0).holds();
        stands(first(), 2, Role::Follows, (4, 9), &[1, 3], 0).breaks(EPOCHS_NEVER_GO_BACK, "high watermark 0");
    }

    #[test]
    fn a_set_has_members_each_once_and_a_state_one_set() {
        leads(told(), 1, (0, 0), &[], 0).breaks(IN_SYNC_SETS_ARE_SOUND, "there is nobody");
        leads(told(), 1, (0, 0), &[1, 1], 0).breaks(IN_SYNC_SETS_ARE_SOUND, "twice");
        let other = stands(leads(told(), 1, (0, 0), &[1, 2], 0), 2, Role::Follows, (0, 0), &[1], 0);
        other.breaks(IN_SYNC_SETS_ARE_SOUND, "it was [1, 2]");
    }

    #[test]
    fn with_too_few_in_sync_the_watermark_stands_still() {
        let alone = |from, to| leads(leads(told(), 1, (0, 1), &[1], from), 1, (0, 1), &[1], to);
        alone(4, 4).holds();
        alone(4, 5).breaks(WATERMARK_WAITS_FOR_ENOUGH, "goes from 4 to 5");
        leads(leads(told(), 1, (0, 1), &[1, 2], 4), 1, (0, 1), &[1, 2], 5).holds();
    }

    /// A topic on two brokers.
    fn orders() -> TopicPlan {
        TopicPlan { name: "orders".into(), partitions: 1, replication: 2, configs: BTreeMap::new(), shared_keys: None }
    }

    #[test]
    fn all_replicas_are_in_sync_long_after_everything_has_healed() {
        let two = || told().under(|plan| plan.topics = vec![orders()]);
        let audit = |told: Told| told.wait(HEAL_MS).loses_power().wait(1);
        let ends = |told: Told| judge_of(&audit(told.engine(What::Healed)));
        assert_eq!(ends(leads(two(), 1, (0, 0), &[1, 2], 0)), 0);
        assert_eq!(ends(leads(two(), 1, (0, 0), &[1], 0)), 1);
        assert_eq!(ends(stands(two(), 1, Role::Follows, (0, 0), &[1, 2], 0)), 1);
    }

    #[test]
    fn a_partition_that_was_to_be_moved_to_fewer_brokers_may_lie_on_those() {
        let to_one = Action::MoveReplicas { topic: 0, partition: 0, to: vec![1] };
        let kind = ClientKind::ClusterAdmin { request_timeout_ms: 1_000 };
        let admin = ClientPlan { kind, operations: vec![Operation { at_ms: 1, what: to_one }] };
        let moved = || {
            told().under(|plan| {
                plan.topics = vec![orders()];
                plan.clients.push(admin.clone());
            })
        };
        let ends = |told: Told, moving: Standing| {
            let told = told.engine(What::Healed).of_node(1, What::Stands(Box::new(moving)));
            judge_of(&told.wait(HEAL_MS).loses_power().wait(1))
        };
        let alone = |told: &Told| Standing { replicas: 1, ..standing(told.on, Role::Leads, (0, 0), &[1], 0) };
        let (one, other) = (moved(), moved());
        let (settled, moving) = (alone(&one), Standing { is_moving: true, ..alone(&other) });
        assert_eq!((ends(one, settled), ends(other, moving)), (0, 1));
    }

    /// How often it is said that sets are not full.
    fn judge_of(told: &Told) -> usize {
        let violations = crate::claims::judge(&told.plan, &told.history);
        violations.iter().filter(|violation| violation.claim == SETS_ARE_FULL_AFTER_HEALING.name).count()
    }

    #[test]
    fn replicas_have_the_same_records_below_the_high_watermark() {
        let read = || told().appends(0, 0, 1, 0).appends(1, 0, 1, 1).audits(&[(0, 0, 1), (1, 0, 1)]);
        let copied = |told: Told, batches: &[(u32, u32, u32)], code| {
            let records = crate::claims::told::records(0, batches);
            let (partition, next) = (told.on, Offset(2));
            let what = What::Copied { partition, node: 2, from: Offset(0), code, records, next, until: Offset(2) };
            told.says(ClientId::AUDITOR, None, what)
        };
        copied(read(), &[(0, 0, 1), (1, 0, 1)], ErrorCode::None).holds();
        copied(read(), &[(1, 0, 1), (0, 0, 1)], ErrorCode::None).breaks(REPLICAS_AGREE, "at offset 0 broker 2 has");
        copied(read(), &[(0, 0, 1)], ErrorCode::None).breaks(REPLICAS_AGREE, "at offset 1 broker 2 has nothing");
        copied(read(), &[], ErrorCode::KafkaStorageError).breaks(REPLICAS_AGREE, "does not serve");
        copied(read(), &[], ErrorCode::OffsetOutOfRange).breaks(REPLICAS_AGREE, "does not serve");
        // It led, and let go of more than all of the set have let go of.
        copied(follows_from(read(), 1), &[], ErrorCode::OffsetOutOfRange).holds();
    }
}
