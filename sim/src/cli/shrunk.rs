//! `--shrink`: the smallest plan that still fails the same way, as a plan and as a scenario.

use std::time::{Duration, Instant};

use super::options::{Choice, Options};
use super::source::Source;
use super::{Ended, one, output_folder, write_file};
use crate::engine::Watch;
use crate::plan::Plan;
use crate::scenario::{self, Scenario};
use crate::shrink::shrink;
use crate::trial::{EngineName, Parts, examine};

/// How long it may take.
const BUDGET: Duration = Duration::from_secs(60);

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn run(parts: &Parts, options: &Options, plan: &Plan, name: &str) -> Result<Ended, String> {
    if !matches!(options.engine, None | Some(Choice::Core)) {
        return Err("--shrink needs thousands of runs: it works on engine core only".to_string());
    }
    let fails = |plan: &Plan| {
        let trial = examine(parts, parts.core, plan, &Watch::default());
        trial.violations.first().map(|violation| violation.claim)
    };
    let Some(claim) = fails(plan) else {
        println!("every claim holds on engine core: there is nothing to shrink");
        return Ok(Ended::Well);
    };
    eprintln!("{claim} does not hold; looking for less that shows it, for at most {} s ...", BUDGET.as_secs());
    let begun = Instant::now();
    let mut told = begun;
    let tried = |plan: &Plan| {
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let (faults, operations) = (plan.faults.len(), plan.operations());
            eprintln!("  {:>3} s  {faults} faults, {operations} operations", begun.elapsed().as_secs());
        }
        fails(plan)
    };
    let shrunk = shrink(plan, claim, tried, || begun.elapsed() < BUDGET);
    let small = shrunk.plan;

    let name = if name.is_empty() { format!("{claim}-{}", plan.seed) } else { name.to_string() };
    let file = write_file(&output_folder().join(format!("{name}.json")), &(small.to_json() + "\n"))?;
    let trial = examine(parts, parts.core, &small, &Watch::default());
    let about = trial.violations.first().map_or("", |violation| violation.text.as_str());
    let scenario = Scenario {
        about: about.lines().next().unwrap_or_default().to_string(),
        found_by: Some(claim.to_string()),
        engines: vec![EngineName::Core],
        plan: small.clone(),
    };
    let in_sources = scenario::write(&scenario::folder(), &name, &scenario)?;
    println!(
        "{} faults and {} operations of {} and {}, {} ms of {}; {} plans tried in {:.1} s{}",
        small.faults.len(),
        small.operations(),
        plan.faults.len(),
        plan.operations(),
        small.duration_ms,
        plan.duration_ms,
        shrunk.tried,
        begun.elapsed().as_secs_f64(),
        if shrunk.is_minimal { "" } else { " (the time was over: it may go on from here by --plan and --shrink)" },
    );
    println!("plan     {}\nscenario {}: say in `about` what it shows\n", file.display(), in_sources.display());
    let again = match (parts.canaries.planted)() {
        // A planted bug's scenario holds on the sources as they are.
        Some(_) => Source::File(file),
        None => Source::Scenario(name),
    };
    print!("{}", one::failure(parts, &again, &small, EngineName::Core, &trial)?);
    Ok(Ended::Failed)
}
