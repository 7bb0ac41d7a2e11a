//! `--bench`: how fast each engine is, on the same seeds every time. What counts is the profile `sim`, which the alias
//! `cargo sim` builds.

use std::time::Duration;

use super::options::Options;
use super::source::Source;
use super::{Ended, child, clock::thread_cpu, engines};
use crate::engine::Watch;
use crate::hunt::{Outcome, thousands};
use crate::trial::{EngineName, Parts, examine};

/// How much CPU time each engine gets.
const CPU_TIME: Duration = Duration::from_secs(10);

pub(crate) fn run(parts: &Parts, options: &Options) -> Result<Ended, String> {
    println!(
        "{:<8} {:>8} {:>14} {:>18} {:>20} {:>22} {:>12}",
        "engine",
        "seeds",
        "events/CPU s",
        "simulated s/CPU s",
        "seeds/core-hour",
        "operations/simulated s",
        "faults/seed"
    );
    for engine in engines(parts, options, None)? {
        let (mut seeds, mut sum) = (0, Sum::default());
        while sum.cpu_ns < CPU_TIME.as_nanos() as u64 {
            sum.add(&measured(parts, engine, seeds, options.nodes.unwrap_or(1))?);
            seeds += 1;
        }
        println!("{}", sum.row(engine, seeds));
    }
    Ok(Ended::Well)
}

fn measured(parts: &Parts, engine: EngineName, seed: u64, nodes: u32) -> Result<Outcome, String> {
    let source = Source::Seed { seed, is_beyond: false, nodes: Some(nodes) };
    Ok(match engine {
        // One thread: the figures are per CPU second whatever else runs.
        EngineName::Core => {
            let begun = thread_cpu();
            let plan = source.plan(parts)?;
            let trial = examine(parts, parts.core, &plan, &Watch::default());
            Outcome::of(&plan, engine, &trial, thread_cpu().saturating_sub(begun))
        }
        EngineName::Madsim => child::outcome(&source, seed, engine),
    })
}

#[derive(Default)]
struct Sum {
    events: u64,
    operations: u64,
    faults: u64,
    simulated_ns: u64,
    cpu_ns: u64,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.events += outcome.events;
        self.operations += outcome.operations;
        self.faults += outcome.faults;
        self.simulated_ns += outcome.simulated_ns;
        // A run that says nothing of what it cost must not keep the benchmark going for ever.
        self.cpu_ns += outcome.cpu_ns.max(1_000_000);
    }

    fn row(&self, engine: EngineName, seeds: u64) -> String {
        let (cpu, simulated) = (self.cpu_ns as f64 / 1e9, self.simulated_ns as f64 / 1e9);
        let whole = |number: f64| thousands(number.round() as u64);
        format!(
            "{:<8} {:>8} {:>14} {:>18} {:>20} {:>22} {:>12.1}",
            engine.to_string(),
            thousands(seeds),
            whole(self.events as f64 / cpu),
            whole(simulated / cpu),
            whole(seeds as f64 * 3_600.0 / cpu),
            whole(self.operations as f64 / simulated.max(1e-9)),
            self.faults as f64 / seeds as f64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_row_tells_rates_per_cpu_second() {
        let parts = testing::parts();
        let outcome = measured(&parts, EngineName::Core, 2, 1).expect("a seed has a plan");
        assert_eq!(outcome.events, testing::EVENTS);
        let mut sum = Sum::default();
        sum.add(&Outcome { cpu_ns: 500_000_000, simulated_ns: 60_000_000_000, operations: 6_000, ..outcome });
        let row = sum.row(EngineName::Core, 1);
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["core", "1", "200", "120", "7,200", "100", "24.0"]);
    }
}
