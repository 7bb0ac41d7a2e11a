//! Who belongs to a cluster, and what those may do who do not.
//!
//! Judged by what the operator was told of brokers that came and went, and by what the engine noted of every broker
//! ([`What::Votes`], [`What::Stands`], [`What::Members`], [`What::CommitsAlone`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chronik_core::ids::TopicPartition;
use chronik_core::time::Instant;

use super::facts::Facts;
use super::{Claim, Found};
use crate::history::{Change, Members, Order, Role, What};
use crate::plan::{FaultKind, HEAL_MS};

pub(super) const METADATA_IS_ON_A_MAJORITY: Claim = Claim {
    name: "metadata-is-on-a-majority",
    meaning: "What the leader of the metadata quorum takes for committed is on the disks of a majority of those who have a \
              vote; while that changes, of those before and of those after.",
};

pub(super) const OUTSIDERS_LEAD_NOTHING: Claim = Claim {
    name: "outsiders-lead-nothing",
    meaning: "Whoever has no vote leads the metadata quorum in no term that begins later, and whoever is forgotten leads no \
              partition in a state that comes later.",
};

pub(super) const MEMBERS_ARE_AS_ACKNOWLEDGED: Claim = Claim {
    name: "members-are-as-acknowledged",
    meaning: "Long after everything has healed those vote, and those are registered, of whom that was acknowledged last, to \
              every broker of the cluster.",
};

/// What is known of something that is changed by requests, which may be carried out late where their answer was lost.
#[derive(Clone, Debug)]
struct Told {
    is_so: bool,
    /// Requests without an answer, by what they make of it.
    open: [bool; 2],
}

impl Told {
    fn new(is_so: bool) -> Told {
        Told { is_so, open: [false; 2] }
    }

    fn asked(&mut self, is_so: bool) {
        self.open[usize::from(is_so)] = true;
    }

    /// The last request was answered. One before it that was not may still be on its way.
    fn answered(&mut self, is_so: bool, others: u32) {
        self.is_so = is_so;
        self.open[usize::from(is_so)] = others > 0;
    }

    fn is_surely(&self, is_so: bool) -> bool {
        self.is_so == is_so && !self.open[usize::from(!is_so)]
    }
}

/// What is known of one broker.
#[derive(Clone, Debug)]
struct Broker {
    votes: Told,
    is_registered: Told,
    /// How many requests of each kind have no answer: to vote, not to vote, to be forgotten.
    open: [u32; 3],
    /// Whether it runs, or will.
    is_on: bool,
    /// The greatest term of all when its vote was surely gone.
    last_term: u64,
    /// The states of partitions of which anybody knew when it was forgotten.
    last_states: BTreeMap<TopicPartition, i32>,
    /// What it knew last.
    knows: Option<(Members, usize)>,
}

impl Broker {
    fn new(is_founder: bool) -> Broker {
        Broker {
            votes: Told::new(is_founder),
            is_registered: Told::new(is_founder),
            open: [0; 3],
            is_on: is_founder,
            last_term: 0,
            last_states: BTreeMap::new(),
            knows: None,
        }
    }

    fn told(&mut self, change: Change) -> (&mut Told, bool, &mut u32) {
        match change {
            Change::Vote => (&mut self.votes, true, &mut self.open[0]),
            Change::NoVote => (&mut self.votes, false, &mut self.open[1]),
            Change::Forget => (&mut self.is_registered, false, &mut self.open[2]),
        }
    }
}

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if !facts.has_several() {
        return;
    }
    let is_founder = |node| Broker::new(node <= facts.plan.founders());
    let mut brokers: BTreeMap<u32, Broker> = (1..=facts.plan.nodes()).map(|node| (node, is_founder(node))).collect();
    let mut term_max = 0;
    let mut states: BTreeMap<TopicPartition, i32> = BTreeMap::new();
    for (event, happened) in facts.events.iter().enumerate() {
        let node = happened.node;
        match &happened.what {
            // The audit begins with one: until then everybody had time.
            What::Fault(_) if is_long_healed(facts, happened.at) => return agree(facts, event, &brokers, found),
            // What a disk forgets that was to be synced, nobody can know.
            What::Fault(
                FaultKind::LyingSync { .. } | FaultKind::BitFlip { .. } | FaultKind::MisdirectedWrite { .. },
            ) => return,
            &What::ChangeMembers { node, change } => {
                let Some(broker) = brokers.get_mut(&node) else { continue };
                let (told, is_so, open) = broker.told(change);
                told.asked(is_so);
                *open += 1;
            }
            &What::MembersChanged { node, change } => {
                let Some(broker) = brokers.get_mut(&node) else { continue };
                let (told, is_so, open) = broker.told(change);
                *open = open.saturating_sub(1);
                told.answered(is_so, *open);
                match change {
                    Change::NoVote => broker.last_term = term_max,
                    Change::Forget => broker.last_states = states.clone(),
                    Change::Vote => {}
                }
            }
            &What::MembersStay { node, change } => {
                let Some(broker) = brokers.get_mut(&node) else { continue };
                let (told, is_so, open) = broker.told(change);
                *open = open.saturating_sub(1);
                told.open[usize::from(is_so)] = *open > 0;
            }
            &What::Ordered(order) => {
                let Some(broker) = brokers.get_mut(&node) else { continue };
                broker.is_on = matches!(order, Order::Start { .. });
                // Whoever runs registers by itself; whoever does not stays what it was.
                if broker.is_on {
                    broker.is_registered.is_so = true;
                    broker.knows = None;
                }
            }
            &What::Votes { term, leads, .. } => {
                term_max = term_max.max(term);
                let Some(broker) = brokers.get(&node) else { continue };
                if leads && broker.votes.is_surely(false) && term > broker.last_term {
                    found.add(OUTSIDERS_LEAD_NOTHING, event, || {
                        format!(
                            "broker {node} has no vote, and leads the quorum in term {term} at {}",
                            facts.when(event)
                        )
                    });
                }
            }
            What::Stands(standing) => {
                let state = states.entry(standing.partition).or_default();
                *state = standing.partition_epoch.max(*state);
                let Some(broker) = brokers.get(&node) else { continue };
                let is_outside = broker.is_registered.is_surely(false) && !broker.is_on;
                let last = broker.last_states.get(&standing.partition).copied().unwrap_or(-1);
                if standing.role == Role::Leads && is_outside && standing.partition_epoch > last {
                    found.add(OUTSIDERS_LEAD_NOTHING, event, || {
                        format!(
                            "{}: broker {node} is forgotten, and leads it in state {} at {}",
                            facts.name(standing.partition),
                            standing.partition_epoch,
                            facts.when(event),
                        )
                    });
                }
            }
            What::Members(members) => {
                if let Some(broker) = brokers.get_mut(&node) {
                    broker.knows = Some((Members::clone(members), event));
                }
            }
            What::CommitsAlone { committed, voters } => found.add(METADATA_IS_ON_A_MAJORITY, event, || {
                format!(
                    "broker {node} takes {committed} entries for committed at {}, where those who vote have {voters:?}",
                    facts.when(event)
                )
            }),
            _ => {}
        }
    }
}

fn is_long_healed(facts: &Facts<'_>, at: Instant) -> bool {
    facts.healed.is_some_and(|healed| at >= healed + Duration::from_millis(HEAL_MS))
}

/// In the end all who belong to the cluster know who does, and it is who was said to.
fn agree(facts: &Facts<'_>, event: usize, brokers: &BTreeMap<u32, Broker>, found: &mut Found) {
    for (&node, broker) in brokers {
        let Some((known, since)) = broker.knows.as_ref().filter(|_| broker.is_on) else { continue };
        let differs = |told: fn(&Broker) -> &Told, is_in: &BTreeSet<u32>| {
            let is_wrong = |(other, about): &(&u32, &Broker)| told(about).is_surely(!is_in.contains(*other));
            brokers.iter().find(is_wrong).map(|(&other, _)| other)
        };
        let voters: BTreeSet<u32> = known.voters.iter().copied().collect();
        let registered: BTreeSet<u32> = known.brokers.iter().copied().collect();
        let wrong = match differs(|broker| &broker.votes, &voters) {
            Some(other) => Some((other, "has a vote")),
            None => differs(|broker| &broker.is_registered, &registered).map(|other| (other, "is registered")),
        };
        if let Some((other, what)) = wrong {
            found.add(MEMBERS_ARE_AS_ACKNOWLEDGED, event, || {
                format!(
                    "long after everything had healed broker {node} knows that {known} (since {}): whether broker {other} \
                     {what} is not what was acknowledged last",
                    facts.when(*since)
                )
            });
        } else if known.is_changing {
            found.add(MEMBERS_ARE_AS_ACKNOWLEDGED, event, || {
                format!("long after everything had healed broker {node} knows of a change under way: {known}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{self, told};
    use crate::history::ClientId;
    use crate::testing;

    /// Three brokers found a cluster, and a fourth comes later.
    fn in_a_cluster() -> told::Told {
        told().under(|plan| {
            plan.cluster = testing::cluster_plan(4).cluster;
            plan.cluster.as_mut().expect("there are four").founders = Some(3);
        })
    }

    fn changed(told: told::Told, node: u32, change: Change) -> told::Told {
        told.engine(What::ChangeMembers { node, change }).engine(What::MembersChanged { node, change })
    }

    fn starts(told: told::Told, node: u32) -> told::Told {
        told.of_node(node, What::Ordered(Order::Start { empties: false }))
    }

    fn leads(told: told::Told, node: u32, term: u64) -> told::Told {
        told.of_node(node, What::Votes { term, leads: true, committed: 5 })
    }

    fn knows(told: told::Told, node: u32, voters: &[u32], brokers: &[u32]) -> told::Told {
        let members = Members { voters: voters.to_vec(), is_changing: false, brokers: brokers.to_vec() };
        told.of_node(node, What::Members(Box::new(members)))
    }

    /// All has healed, and the audit begins.
    fn is_over(told: told::Told) -> told::Told {
        let set_up = told.says(ClientId::SETUP, None, What::Done);
        set_up.heals().wait(HEAL_MS + 1_000).loses_power().audits(&[])
    }

    #[test]
    fn who_has_no_vote_leads_no_later_term() {
        leads(in_a_cluster(), 4, 3).breaks(OUTSIDERS_LEAD_NOTHING, "broker 4 has no vote, and leads");
        leads(changed(in_a_cluster(), 4, Change::Vote), 4, 3).holds();
        let removed = || changed(leads(in_a_cluster(), 2, 3), 2, Change::NoVote);
        leads(removed(), 2, 3).holds();
        leads(removed(), 2, 4).breaks(OUTSIDERS_LEAD_NOTHING, "in term 4");
        // A request without an answer may be carried out.
        let asked = What::ChangeMembers { node: 4, change: Change::Vote };
        leads(in_a_cluster().engine(asked), 4, 3).holds();
    }

    #[test]
    fn what_is_committed_is_on_a_majority() {
        let alone = What::CommitsAlone { committed: 7, voters: vec![(1, 7), (2, 6), (3, 2)] };
        in_a_cluster().of_node(1, alone).breaks(METADATA_IS_ON_A_MAJORITY, "takes 7 entries for committed");
    }

    #[test]
    fn in_the_end_those_belong_to_it_of_whom_that_was_said() {
        let added = || changed(starts(in_a_cluster(), 4), 4, Change::Vote);
        let all = [1, 2, 3, 4];
        is_over(knows(added(), 1, &all, &all)).holds();
        is_over(knows(added(), 1, &[1, 2, 3], &all)).breaks(MEMBERS_ARE_AS_ACKNOWLEDGED, "whether broker 4 has a vote");
        is_over(knows(added(), 1, &all, &[1, 2, 3])).breaks(MEMBERS_ARE_AS_ACKNOWLEDGED, "is registered");
        let removed = || {
            let stopped = added().of_node(2, What::Ordered(Order::Stop));
            changed(changed(stopped, 2, Change::NoVote), 2, Change::Forget)
        };
        is_over(knows(removed(), 1, &[1, 3, 4], &[1, 3, 4])).holds();
        is_over(knows(removed(), 1, &all, &[1, 3, 4])).breaks(MEMBERS_ARE_AS_ACKNOWLEDGED, "whether broker 2");
        // What it knew last who is gone says nothing.
        is_over(knows(knows(removed(), 2, &all, &all), 1, &[1, 3, 4], &[1, 3, 4])).holds();
        let lost = || added().engine(What::ChangeMembers { node: 2, change: Change::NoVote });
        is_over(knows(lost(), 1, &all, &all)).holds();
        is_over(knows(lost(), 1, &[1, 3, 4], &all)).holds();
    }
}
