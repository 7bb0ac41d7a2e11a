//! A range of seeds, or a hunt over random ones.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use super::clock::thread_cpu;
use super::options::Options;
use super::source::Source;
use super::{Ended, child, engines, jobs, one, twice};
use crate::engine::Watch;
use crate::hunt::{self, Hunt, Outcome, Seeds};
use crate::trial::{EngineName, Parts, SAME_TWICE, examine};

/// How long a hunt takes where nothing is said.
const HUNT_TIME: Duration = Duration::from_secs(60);

/// Random seeds are below this: nine digits can be read out over a telephone.
const SEED_END: u64 = 1_000_000_000;

pub(crate) fn run(parts: &Parts, options: &Options) -> Result<Ended, String> {
    let engines = engines(parts, options, None)?;
    let seeds = match &options.seeds {
        Some(range) => Seeds::All(range.clone()),
        None => Seeds::During(random_seed(), options.for_time.unwrap_or(HUNT_TIME)),
    };
    announce(&seeds, &engines, jobs(options));
    let planted = (parts.canaries.planted)();
    let planted = planted.as_deref();
    let hunt =
        Hunt { seeds, engines, jobs: jobs(options), stops_at_first: options.first, tells_progress: !options.json };
    let source = |seed| Source::Seed { seed, is_beyond: options.beyond, nodes: options.nodes };
    let carry_out = |seed, engine| {
        let apart = || child::outcome(&source(seed), seed, engine);
        let outcome = match engine {
            EngineName::Core => in_this_thread(parts, &source(seed), seed),
            EngineName::Madsim => apart(),
        };
        if options.twice { twice::compared(outcome, &apart()) } else { outcome }
    };
    let mut replay = None;
    let (tally, elapsed) = hunt::hunt(&hunt, parts.counters, carry_out, |outcome, is_first| {
        if options.json {
            println!("{}", outcome.to_json());
        } else if is_first {
            print!("{}\n\n", told(parts, &source(outcome.seed), outcome, planted));
        }
        if !outcome.failed.is_empty() {
            replay.get_or_insert_with(|| replay_of(&source(outcome.seed), outcome, planted));
        }
    });
    if !options.json {
        print!("{}", tally.summary(elapsed));
        if options.twice {
            println!("every run was carried out twice: where `{SAME_TWICE}` did not fail, with one digest");
        }
        if let Some(replay) = &replay {
            println!("\n{replay}");
        }
    }
    Ok(if replay.is_some() { Ended::Failed } else { Ended::Well })
}

fn announce(seeds: &Seeds, engines: &[EngineName], jobs: usize) {
    let names: Vec<String> = engines.iter().map(ToString::to_string).collect();
    let what = match seeds {
        Seeds::All(range) => format!("seeds {}..{}", range.start, range.end),
        Seeds::During(first, time) => format!("seeds from {first} on for {} s", time.as_secs()),
    };
    eprintln!("{what}, engine {}, {jobs} at once", names.join(" and "));
}

/// Where to begin, unlike the last time: the one place where the simulator takes chance from the machine.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() % SEED_END
}

fn in_this_thread(parts: &Parts, source: &Source, seed: u64) -> Outcome {
    let begun = thread_cpu();
    match source.plan(parts) {
        Ok(plan) => {
            let trial = examine(parts, parts.core, &plan, &Watch::default());
            Outcome::of(&plan, EngineName::Core, &trial, thread_cpu().saturating_sub(begun))
        }
        Err(why) => Outcome::without_a_word(seed, EngineName::Core, why),
    }
}

/// The report of a failure, by a run of its own that keeps the timeline.
fn told(parts: &Parts, source: &Source, outcome: &Outcome, planted: Option<&str>) -> String {
    let is_different = outcome.failed.first().is_some_and(|failed| failed.claim == SAME_TWICE);
    let report = match outcome.engine {
        _ if is_different => {
            source.plan(parts).and_then(|plan| twice::difference(parts, source, &plan, outcome.engine)).map(|differs| {
                let replay = replay_of(source, outcome, planted);
                format!("{}\n\n{differs}\n\n{replay}", failed(outcome))
            })
        }
        EngineName::Core => source.plan(parts).and_then(|plan| {
            let trial = examine(parts, parts.core, &plan, &Watch::default());
            one::failure(parts, source, &plan, EngineName::Core, &trial)
        }),
        EngineName::Madsim => child::report(source, outcome.engine),
    };
    report.map(|report| report.trim_end().to_string()).unwrap_or_else(|why| {
        format!("{}\nwithout a report: {why}\n\n{}", failed(outcome), replay_of(source, outcome, planted))
    })
}

/// What failed, and where.
fn failed(outcome: &Outcome) -> String {
    let failed: Vec<String> = outcome.failed.iter().map(|one| format!("{}: {}", one.claim, one.text)).collect();
    format!("FAILED   {}\nseed     {}, engine {}", failed.join("\nalso     "), outcome.seed, outcome.engine)
}

/// The command that shows a failure again.
fn replay_of(source: &Source, outcome: &Outcome, planted: Option<&str>) -> String {
    let is_different = outcome.failed.first().is_some_and(|failed| failed.claim == SAME_TWICE);
    let twice = if is_different { " --twice" } else { "" };
    format!("{}{twice}", source.replay(outcome.engine, planted))
}
