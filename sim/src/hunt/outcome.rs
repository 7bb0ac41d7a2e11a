//! What came of one run, small enough to keep for each of a million, and readable by another process.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{ClientId, What};
use crate::plan::Plan;
use crate::trial::{EngineName, Trial};

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The plan's seed.
    pub seed: u64,
    /// How many brokers there were; 0 of a run whose process ended without a word.
    pub nodes: u32,
    /// What carried it out.
    pub engine: EngineName,
    /// Two runs of one plan share it; in hexadecimal, since not every reader of JSON takes 64 bits for a number.
    pub digest: String,
    /// What does not hold, in the order of the events that show it.
    pub failed: Vec<Failed>,
    /// How many events the engine went through.
    pub events: u64,
    /// How many operations of the plan's clients ended, well or not.
    pub operations: u64,
    /// How many faults the plan has.
    pub faults: u64,
    /// How much time passed in the simulation, in nanoseconds.
    pub simulated_ns: u64,
    /// What it cost, in nanoseconds of CPU time.
    pub cpu_ns: u64,
    /// How often each kind of fault took effect, and other rare things happened.
    pub counters: BTreeMap<String, u64>,
}

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// Its name.
    pub claim: String,
    /// What was claimed and what is.
    pub text: String,
}

impl Outcome {
    /// What came of a trial.
    pub fn of(plan: &Plan, engine: EngineName, trial: &Trial, cpu: Duration) -> Outcome {
        let is_operation =
            |client: ClientId, what: &What| client < ClientId::SETUP && matches!(what, What::Finished { .. });
        let events = trial.run.history.events.iter();
        Outcome {
            seed: plan.seed,
            nodes: plan.nodes(),
            engine,
            digest: format!("{:016x}", trial.run.digest),
            failed: trial
                .violations
                .iter()
                .map(|violation| Failed { claim: violation.claim.to_string(), text: violation.text.clone() })
                .collect(),
            events: trial.run.events,
            operations: events.filter(|event| is_operation(event.client, &event.what)).count() as u64,
            faults: plan.faults.len() as u64,
            simulated_ns: trial.run.simulated.0,
            cpu_ns: u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX),
            counters: trial.run.counters.iter().map(|(name, count)| ((*name).to_string(), *count)).collect(),
        }
    }

    /// Of a run whose process ended without a word: only that it failed is known.
    pub fn without_a_word(seed: u64, engine: EngineName, how: String) -> Outcome {
        Outcome {
            seed,
            nodes: 0,
            engine,
            digest: String::new(),
            failed: vec![Failed { claim: crate::trial::NO_PANIC.to_string(), text: how }],
            events: 0,
            operations: 0,
            faults: 0,
            simulated_ns: 0,
            cpu_ns: 0,
            counters: BTreeMap::new(),
        }
    }

    /// One line of JSON, as [`from_json`](Outcome::from_json) reads it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an outcome has no keys but strings")
    }

    /// Reads one line.
    pub fn from_json(line: &str) -> Option<Outcome> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Watch;
    use crate::testing;
    use crate::trial::examine;

    #[test]
    fn an_outcome_counts_and_is_read_back_from_its_line() {
        let (parts, plan) = (testing::parts(), testing::plan());
        let trial = examine(&parts, parts.core, &plan, &Watch::default());
        let outcome = Outcome::of(&plan, EngineName::Core, &trial, Duration::from_millis(3));
        assert_eq!((outcome.events, outcome.operations, outcome.faults), (100, 100, 24));
        assert_eq!(outcome.failed[0].claim, "acked-is-there");
        assert_eq!(outcome.counters["kill"], 1);
        let line = outcome.to_json();
        assert!(!line.contains('\n'));
        assert_eq!(Outcome::from_json(&line), Some(outcome));
    }
}
