//! The smallest plan that still fails the same way.
//!
//! Delta debugging (Zeller and Hildebrandt, 2002) over what a plan consists of, the largest pieces first: the time after
//! the failure, whole clients, faults, operations, topics; then each number is made smaller, each option put to what is
//! usual, and all of it again until nothing more goes. It knows of no engine: whoever calls it says whether a plan fails,
//! and fails the same way where the same claim does not hold.
//!
//! It works because what a run draws it draws by key: what is left of a plan behaves as it did in the whole.

mod ddmin;
mod simpler;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::ops::ControlFlow;

use crate::plan::{Operation, Plan};

/// What came of shrinking.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// How many plans were tried.
    pub tried: u64,
    /// Whether nothing smaller was left to try; else the budget was used up.
    pub is_minimal: bool,
}

/// Shrinks a plan that fails by `claim`, as long as `may_go_on` says so before each try.
///
/// `fails` names the claim that a plan fails by first, `None` where all hold. With a budget counted in tries the result
/// is a function of the arguments; with one of time it also depends on the machine.
pub fn shrink(
    plan: &Plan,
    claim: &str,
    fails: impl FnMut(&Plan) -> Option<&'static str>,
    may_go_on: impl FnMut() -> bool,
) -> Shrunk {
    let mut search =
        Search { plan: plan.clone(), claim, fails, may_go_on, seen: BTreeSet::new(), tried: 0, is_stopped: false };
    loop {
        let before = search.plan.clone();
        search.shorten();
        search.silence_clients();
        search.drop_faults();
        search.drop_operations();
        search.drop_clients();
        search.drop_topics();
        search.drop_nodes();
        search.simplify();
        if search.is_stopped || search.plan == before {
            break;
        }
    }
    Shrunk { plan: search.plan, tried: search.tried, is_minimal: !search.is_stopped }
}

/// The smallest plan so far, and what was tried.
struct Search<'a, F, G> {
    plan: Plan,
    claim: &'a str,
    fails: F,
    may_go_on: G,
    /// Fingerprints of plans that do not fail the same way: passes meet the same plan again and again.
    seen: BTreeSet<u64>,
    tried: u64,
    is_stopped: bool,
}

impl<F: FnMut(&Plan) -> Option<&'static str>, G: FnMut() -> bool> Search<'_, F, G> {
    /// Takes a candidate where it fails the same way.
    fn accept(&mut self, candidate: Plan) -> bool {
        if candidate == self.plan {
            return false;
        }
        let fingerprint = fingerprint(&candidate);
        if self.seen.contains(&fingerprint) {
            return false;
        }
        if !(self.may_go_on)() {
            self.is_stopped = true;
            return false;
        }
        self.tried += 1;
        let is_same = (self.fails)(&candidate) == Some(self.claim);
        if is_same {
            self.plan = candidate;
        } else {
            self.seen.insert(fingerprint);
        }
        is_same
    }

    /// Takes the plan as changed by `change`, where that fails the same way.
    fn change(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        if self.is_stopped {
            return false;
        }
        let mut candidate = self.plan.clone();
        change(&mut candidate);
        self.accept(candidate)
    }

    /// The same for a list that is being minimised, which ends with the budget.
    fn try_change(&mut self, change: impl FnOnce(&mut Plan)) -> ControlFlow<(), bool> {
        let is_taken = self.change(change);
        if self.is_stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(is_taken) }
    }

    /// Ends the run sooner, by bisection: what came after the failure is most of a plan, and each later try is as much
    /// cheaper.
    fn shorten(&mut self) {
        let mut too_short = 0;
        while self.plan.duration_ms - too_short > 1 + too_short / 16 {
            let middle = too_short + (self.plan.duration_ms - too_short) / 2;
            let is_shorter = self.change(|plan| {
                plan.duration_ms = middle;
                plan.faults.retain(|fault| fault.at_ms < middle);
                for client in &mut plan.clients {
                    client.operations.retain(|operation| operation.at_ms < middle);
                }
            });
            if !is_shorter {
                too_short = middle;
            }
        }
    }

    /// Leaves clients without anything to do, one after the other.
    fn silence_clients(&mut self) {
        for index in 0..self.plan.clients.len() {
            self.change(|plan| plan.clients[index].operations.clear());
        }
    }

    fn drop_faults(&mut self) {
        let faults = self.plan.faults.clone();
        ddmin::minimise(faults, |faults| self.try_change(|plan| plan.faults = faults.to_vec()));
    }

    /// Drops operations, of one client after the other: those of one are more likely to matter together.
    fn drop_operations(&mut self) {
        let all: Vec<(usize, Operation)> = self
            .plan
            .clients
            .iter()
            .enumerate()
            .flat_map(|(client, plan)| plan.operations.iter().map(move |operation| (client, operation.clone())))
            .collect();
        ddmin::minimise(all, |left| {
            self.try_change(|plan| {
                for (index, client) in plan.clients.iter_mut().enumerate() {
                    let own = left.iter().filter(|(client, _)| *client == index);
                    client.operations = own.map(|(_, operation)| operation.clone()).collect();
                }
            })
        });
    }

    /// Drops clients that do nothing; the others' numbers move up, and with them what is drawn for them, so this may
    /// fail where silence did not.
    fn drop_clients(&mut self) {
        for index in (0..self.plan.clients.len()).rev() {
            if self.plan.clients[index].operations.is_empty() {
                self.change(|plan| simpler::drop_client(plan, index));
            }
        }
    }

    /// Drops brokers, as long as the others show it too: those of a quorum of five, of three, and all but one.
    fn drop_nodes(&mut self) {
        while self.plan.nodes() > 1 {
            let is_alone = self.plan.nodes() <= 3;
            let is_smaller = self.change(|plan| {
                simpler::drop_node(plan);
                simpler::drop_node(plan);
            });
            if !is_smaller || is_alone {
                return;
            }
        }
    }

    /// Drops topics that no operation names.
    fn drop_topics(&mut self) {
        for index in (0..self.plan.topics.len()).rev() {
            if !simpler::names_topic(&self.plan, index) {
                self.change(|plan| simpler::drop_topic(plan, index));
            }
        }
    }

    /// Makes what is left smaller and plainer.
    fn simplify(&mut self) {
        for change in simpler::OPTIONS {
            self.change(change);
        }
        for name in self.plan.node.broker.keys().cloned().collect::<Vec<_>>() {
            self.change(|plan| drop(plan.node.broker.remove(&name)));
        }
        for topic in 0..self.plan.topics.len() {
            for name in self.plan.topics[topic].configs.keys().cloned().collect::<Vec<_>>() {
                self.change(|plan| drop(plan.topics[topic].configs.remove(&name)));
            }
            self.change(|plan| simpler::one_partition(plan, topic));
        }
        for index in 0..self.plan.faults.len() {
            while self.change(|plan| simpler::halve_fault(&mut plan.faults[index].what)) {}
        }
        for client in 0..self.plan.clients.len() {
            for change in simpler::CLIENT {
                while self.change(|plan| change(&mut plan.clients[client].kind)) {}
            }
            for operation in 0..self.plan.clients[client].operations.len() {
                for change in simpler::OPERATION {
                    while self.change(|plan| change(&mut plan.clients[client].operations[operation].what)) {}
                }
            }
        }
        // Silence before the first thing that happens, and between any two, says nothing.
        while self.change(simpler::hurry) {}
    }
}

fn fingerprint(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    let json = serde_json::to_vec(plan).expect("a plan has no keys but strings");
    hasher.write(&json);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, FaultKind};
    use crate::testing;

    /// Fails where a process dies, and is down for at least 20 ms, after a batch of at least three records to topic t1.
    fn needs_a_kill_and_a_batch(plan: &Plan) -> Option<&'static str> {
        let is_kill = |what: &FaultKind| matches!(what, FaultKind::Kill { down_ms: 20.. });
        let last = plan.faults.iter().filter(|fault| is_kill(&fault.what)).map(|fault| fault.at_ms).max()?;
        let is_hit = plan.clients.iter().flat_map(|client| &client.operations).any(|operation| {
            matches!(&operation.what, Action::Produce { topic, records: 3.., .. } if plan.topics[*topic].name == "t1")
                && operation.at_ms <= last
        });
        is_hit.then_some("acked-is-there")
    }

    fn shrunk(fails: fn(&Plan) -> Option<&'static str>, tries: u64) -> Shrunk {
        let mut left = tries;
        shrink(&testing::plan(), "acked-is-there", fails, || {
            left = left.saturating_sub(1);
            left > 0
        })
    }

    #[test]
    fn what_does_not_matter_goes() {
        let Shrunk { plan, is_minimal, tried } = shrunk(needs_a_kill_and_a_batch, 10_000);
        assert!(is_minimal);
        assert_eq!((plan.faults.len(), plan.operations(), plan.clients.len(), plan.topics.len()), (1, 1, 1, 1));
        assert_eq!(plan.faults[0].what, FaultKind::Kill { down_ms: 25 }, "halved while it fails");
        let Action::Produce { topic: 0, records: 4, value_bytes, .. } = plan.clients[0].operations[0].what else {
            panic!("the one batch that matters, of the topic that is left: {plan:?}");
        };
        assert!(value_bytes <= 20);
        assert!(plan.node.broker.is_empty() && plan.topics[0].configs.is_empty());
        assert!(plan.duration_ms < 300, "{} ms", plan.duration_ms);
        assert!(tried < 300, "{tried} tries");
    }

    #[test]
    fn a_plan_that_fails_another_way_is_not_taken() {
        let other = |plan: &Plan| match plan.faults.len() {
            24 => Some("acked-is-there"),
            _ => Some("offsets-rise"),
        };
        assert_eq!(shrunk(other, 10_000).plan.faults.len(), 24);
    }

    #[test]
    fn the_same_plan_shrinks_to_the_same() {
        let [one, two] = [(); 2].map(|()| shrunk(needs_a_kill_and_a_batch, 10_000));
        assert_eq!((one.plan, one.tried), (two.plan, two.tried));
    }

    #[test]
    fn a_budget_that_ends_leaves_a_plan_that_fails() {
        for tries in [1, 2, 10, 40] {
            let Shrunk { plan, is_minimal, .. } = shrunk(needs_a_kill_and_a_batch, tries);
            assert!(!is_minimal);
            assert_eq!(needs_a_kill_and_a_batch(&plan), Some("acked-is-there"));
        }
    }

    #[test]
    fn faults_that_only_matter_together_stay_together() {
        let pair = |plan: &Plan| {
            let has = |at_ms| plan.faults.iter().any(|fault| fault.at_ms == at_ms);
            (has(200) && has(4_000)).then_some("acked-is-there")
        };
        let plan = shrunk(pair, 10_000).plan;
        assert_eq!(plan.faults.iter().map(|fault| fault.at_ms).collect::<Vec<_>>(), [200, 4_000]);
        assert_eq!(plan.operations(), 0);
    }
}
