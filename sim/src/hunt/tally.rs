//! The sum of many runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Outcome;
use crate::report;
use crate::trial::EngineName;

/// The sum of the runs of one engine.
#[derive(Clone, Debug, Default)]
struct Sum {
    runs: u64,
    failed: u64,
    events: u64,
    operations: u64,
    simulated_ns: u64,
    cpu_ns: u64,
    /// How many runs there were of how many brokers.
    by_nodes: BTreeMap<u32, u64>,
}

/// The sum of many runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    sums: BTreeMap<EngineName, Sum>,
    counters: BTreeMap<String, u64>,
    /// The seeds that failed, by claim and engine.
    failed: BTreeMap<(String, EngineName), Vec<u64>>,
}

/// So many seeds of one claim are named.
const SEEDS_NAMED: usize = 8;

impl Tally {
    /// The sum of nothing yet, which shows each of these even if it never happens.
    pub fn counting(counters: &[&str]) -> Tally {
        let counters = counters.iter().map(|name| ((*name).to_string(), 0)).collect();
        Tally { counters, ..Tally::default() }
    }

    /// Adds a run; whether it is the first that fails its claim on its engine.
    pub fn add(&mut self, outcome: &Outcome) -> bool {
        let sum = self.sums.entry(outcome.engine).or_default();
        sum.runs += 1;
        sum.events += outcome.events;
        sum.operations += outcome.operations;
        sum.simulated_ns += outcome.simulated_ns;
        sum.cpu_ns += outcome.cpu_ns;
        *sum.by_nodes.entry(outcome.nodes).or_default() += 1;
        for (name, count) in &outcome.counters {
            *self.counters.entry(name.clone()).or_default() += count;
        }
        let Some(first) = outcome.failed.first() else { return false };
        sum.failed += 1;
        let seeds = self.failed.entry((first.claim.clone(), outcome.engine)).or_default();
        seeds.push(outcome.seed);
        seeds.len() == 1
    }

    /// How many runs there were.
    pub fn runs(&self) -> u64 {
        self.sums.values().map(|sum| sum.runs).sum()
    }

    /// How many of them failed.
    pub fn failures(&self) -> u64 {
        self.sums.values().map(|sum| sum.failed).sum()
    }

    /// One line while it goes on.
    pub fn progress(&self, elapsed: Duration) -> String {
        let simulated: u64 = self.sums.values().map(|sum| sum.simulated_ns).sum();
        let per_engine: Vec<String> =
            self.sums.iter().map(|(engine, sum)| format!("{} {engine}", thousands(sum.runs))).collect();
        format!(
            "{:>5} s  runs: {}  failed: {}  simulated: {}",
            elapsed.as_secs(),
            if per_engine.is_empty() { "0".to_string() } else { per_engine.join(", ") },
            self.failures(),
            span(simulated),
        )
    }

    /// All of it, as text.
    pub fn summary(&self, elapsed: Duration) -> String {
        let mut page = String::new();
        for (engine, sum) in &self.sums {
            let (wall, cpu, simulated) =
                (elapsed.as_secs_f64(), sum.cpu_ns as f64 / 1e9, sum.simulated_ns as f64 / 1e9);
            let rate = |amount: f64, time: f64| {
                if time > 0.0 { thousands((amount / time).round() as u64) } else { "-".into() }
            };
            let _ = writeln!(
                page,
                "engine {engine}: {} runs, {} failed, {} simulated, {} events",
                thousands(sum.runs),
                sum.failed,
                span(sum.simulated_ns),
                thousands(sum.events),
            );
            let _ = writeln!(
                page,
                "  {} seeds per hour, {} per core-hour; {} simulated s per CPU second, {} events per CPU second; {} \
                 client operations per simulated second",
                rate(sum.runs as f64 * 3_600.0, wall),
                rate(sum.runs as f64 * 3_600.0, cpu),
                rate(simulated, cpu),
                rate(sum.events as f64, cpu),
                rate(sum.operations as f64, simulated),
            );
            let _ = writeln!(page, "  {}", brokers(&sum.by_nodes));
        }
        if !self.counters.is_empty() {
            let counters = self.counters.iter().map(|(name, count)| (name.as_str(), *count)).collect();
            let _ = write!(page, "took effect\n{}", report::draw_counters(&counters));
            let never: Vec<&str> =
                self.counters.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.as_str()).collect();
            if !never.is_empty() {
                let _ = writeln!(page, "never: {}", never.join(", "));
            }
        }
        for ((claim, engine), seeds) in &self.failed {
            let mut sorted = seeds.clone();
            sorted.sort_unstable();
            let named: Vec<String> = sorted.iter().take(SEEDS_NAMED).map(u64::to_string).collect();
            let more = if sorted.len() > SEEDS_NAMED { ", ..." } else { "" };
            let _ = writeln!(
                page,
                "{claim} failed on engine {engine} by {} seeds: {}{more}",
                sorted.len(),
                named.join(", ")
            );
        }
        page
    }
}

/// How many runs had how many brokers.
fn brokers(by_nodes: &BTreeMap<u32, u64>) -> String {
    let told = |(nodes, runs): (&u32, &u64)| match nodes {
        // Its process ended without a word.
        0 => format!("{} of nobody knows how many", thousands(*runs)),
        1 => format!("{} of one broker", thousands(*runs)),
        nodes => format!("{} of {nodes} brokers", thousands(*runs)),
    };
    let told: Vec<String> = by_nodes.iter().map(told).collect();
    format!("runs: {}", told.join(", "))
}

/// A number with its thousands set apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span of simulated time.
fn span(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0..600 => format!("{seconds} s"),
        600..36_000 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hunt::Failed;

    fn outcome(seed: u64, claim: Option<&str>) -> Outcome {
        Outcome {
            failed: claim.map(|claim| Failed { claim: claim.to_string(), text: String::new() }).into_iter().collect(),
            counters: [("kill".to_string(), 2), ("pause".to_string(), 1)].into(),
            events: 500_000,
            operations: 6_000,
            simulated_ns: 60_000_000_000,
            cpu_ns: 250_000_000,
            nodes: if seed == 9 { 3 } else { 1 },
            ..Outcome::without_a_word(seed, EngineName::Core, String::new())
        }
    }

    #[test]
    fn a_tally_tells_speed_what_took_effect_and_what_failed() {
        let mut tally = Tally::counting(&["bit_flip", "kill"]);
        assert!(!tally.add(&outcome(1, None)));
        assert!(tally.add(&outcome(9, Some("acked-is-there"))), "the first of its claim");
        assert!(!tally.add(&outcome(4, Some("acked-is-there"))));
        assert!(tally.add(&outcome(5, Some("offsets-rise"))));
        assert_eq!((tally.runs(), tally.failures()), (4, 3));
        let page = tally.summary(Duration::from_secs(2));
        for text in [
            "engine core: 4 runs, 3 failed, 240 s simulated, 2,000,000 events",
            "7,200 seeds per hour, 14,400 per core-hour; 240 simulated s per CPU second",
            "100 client operations per simulated second",
            "runs: 3 of one broker, 1 of 3 brokers",
            "never: bit_flip",
            "acked-is-there failed on engine core by 2 seeds: 4, 9",
        ] {
            assert!(page.contains(text), "{text} in\n{page}");
        }
        assert_eq!(tally.progress(Duration::from_secs(2)), "    2 s  runs: 4 core  failed: 3  simulated: 240 s");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
