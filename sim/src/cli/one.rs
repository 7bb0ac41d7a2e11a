//! One plan on one engine, or on one after the other.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::clock::process_cpu;
use super::options::Options;
use super::source::Source;
use super::{Ended, child, output_folder, write_file};
use crate::engine::{Run, Watch};
use crate::html;
use crate::hunt::{Outcome, thousands};
use crate::plan::Plan;
use crate::report::{self, Report};
use crate::trial::{EngineName, NO_PANIC, Parts, Trial, examine};

pub(crate) fn run(
    parts: &Parts,
    options: &Options,
    source: &Source,
    plan: &Plan,
    engines: &[EngineName],
) -> Result<Ended, String> {
    let mut failed = None;
    for engine in engines {
        let ended = match engine {
            // Beside another engine's run it has a process of its own.
            EngineName::Madsim if engines.len() > 1 => apart(options, source, plan.seed, *engine)?,
            _ => here(parts, options, source, plan, *engine)?,
        };
        if ended == Ended::Failed {
            failed.get_or_insert(*engine);
        }
        if engines.len() > 1 && !options.json {
            println!();
        }
    }
    let Some(engine) = failed else { return Ok(Ended::Well) };
    if engines.len() > 1 && !options.json {
        println!("{}", source.replay(engine, (parts.canaries.planted)().as_deref()));
    }
    Ok(Ended::Failed)
}

/// In a process of its own, which says all that there is to say.
fn apart(options: &Options, source: &Source, seed: u64, engine: EngineName) -> Result<Ended, String> {
    if options.json {
        let outcome = child::outcome(source, seed, engine);
        println!("{}", outcome.to_json());
        return Ok(if outcome.failed.is_empty() { Ended::Well } else { Ended::Failed });
    }
    flush()?;
    match child::command(source, engine)?.status() {
        Ok(status) if status.success() => Ok(Ended::Well),
        Ok(status) if status.code() == Some(1) => Ok(Ended::Failed),
        Ok(status) => {
            println!("FAILED   {NO_PANIC}\nseed     {seed}, engine {engine}\nwhat     its process ended with {status}");
            Ok(Ended::Failed)
        }
        Err(error) => Err(format!("cannot start this binary: {error}")),
    }
}

/// In this process.
fn here(parts: &Parts, options: &Options, source: &Source, plan: &Plan, engine: EngineName) -> Result<Ended, String> {
    let carry_out = parts.engine(engine).ok_or("this binary lacks the engine")?;
    if let Some(event) = options.at {
        return print_state(
            &carry_out(plan, &Watch { trace: true, until: Some(event + 1), print_at: Some(event) }),
            event,
        );
    }
    if options.until.is_some() {
        // What is stopped has not healed, so nothing that must hold in the end can be judged.
        let run = carry_out(plan, &Watch { trace: true, until: options.until, print_at: None });
        return write_trace(&run, options).map(|()| Ended::Well);
    }
    // A second run of engine madsim in one process would not be the same run: its timeline is kept at once, where
    // somebody may read it.
    let is_kept = options.trace.is_some() || options.html.is_some() || (engine == EngineName::Madsim && !options.json);
    let cpu = process_cpu();
    let trial = examine(parts, carry_out, plan, &Watch { trace: is_kept, ..Watch::default() });
    let outcome = Outcome::of(plan, engine, &trial, process_cpu().saturating_sub(cpu));
    let ended = if trial.violations.is_empty() { Ended::Well } else { Ended::Failed };
    if options.json {
        println!("{}", outcome.to_json());
        return Ok(ended);
    }
    write_trace(&trial.run, options)?;
    if let Some(file) = &options.html {
        let before =
            (trial.has_panicked() && engine == EngineName::Core).then(|| report::trace_before(carry_out, plan, &trial));
        let page = html::page(plan, engine, before.as_ref().unwrap_or(&trial.run), &trial.violations);
        let file = write_file(file, &page)?;
        println!("page     {}", file.display());
    }
    match ended {
        Ended::Well => println!("{}", well(plan, &outcome, &trial)),
        Ended::Failed => print!("{}", failure(parts, source, plan, engine, &trial)?),
    }
    Ok(ended)
}

/// What is said where every claim holds.
fn well(plan: &Plan, outcome: &Outcome, trial: &Trial) -> String {
    format!(
        "every claim holds: seed {}, engine {}, digest {}\n{} events, {} client operations, {} faults in {} simulated s, {:.3} \
         CPU s\n\ndrawn\n{}\ntook effect\n{}",
        plan.seed,
        outcome.engine,
        outcome.digest,
        thousands(outcome.events),
        thousands(outcome.operations),
        outcome.faults,
        report::seconds(trial.run.simulated),
        outcome.cpu_ns as f64 / 1e9,
        report::draw_plan(plan),
        report::draw_counters(&trial.run.counters),
    )
}

/// The report of a trial that failed, and its plan as a file.
pub(crate) fn failure(
    parts: &Parts,
    source: &Source,
    plan: &Plan,
    engine: EngineName,
    trial: &Trial,
) -> Result<String, String> {
    let file = write_plan(plan, engine)?;
    let before = before(parts, plan, engine, trial);
    let replay =
        format!("plan     {}\n\n{}", file.display(), source.replay(engine, (parts.canaries.planted)().as_deref()));
    Ok(report::write(&Report { plan, engine, trial, before: &before, replay: &replay }))
}

fn before(parts: &Parts, plan: &Plan, engine: EngineName, trial: &Trial) -> Run {
    match engine {
        EngineName::Core => report::trace_before(parts.core, plan, trial),
        EngineName::Madsim => report::cut_before(trial.run.clone(), trial),
    }
}

/// Leaves the plan of a failure where it can be changed by hand and run again.
fn write_plan(plan: &Plan, engine: EngineName) -> Result<PathBuf, String> {
    let file = output_folder().join(format!("seed-{}-{engine}.json", plan.seed));
    write_file(&file, &(plan.to_json() + "\n"))
}

fn write_trace(run: &Run, options: &Options) -> Result<(), String> {
    let Some(file) = &options.trace else { return Ok(()) };
    let page = report::draw_timeline(&run.trace, usize::MAX);
    if file == Path::new("-") {
        println!("{page}");
        return flush();
    }
    let file = write_file(file, &page)?;
    println!("trace    {}, {} events", file.display(), run.trace.len());
    Ok(())
}

fn print_state(run: &Run, event: u64) -> Result<Ended, String> {
    if run.events <= event {
        return Err(format!("there is no event {event}: the run has {} events, counted from 0", run.events));
    }
    let rows: Vec<_> = run.trace.iter().filter(|row| row.event == event).cloned().collect();
    println!("{}", report::draw_timeline(&rows, usize::MAX));
    for (lane, state) in &run.state {
        println!("{}", report::lane_name(*lane));
        state.lines().for_each(|line| println!("  {line}"));
    }
    Ok(Ended::Well)
}

fn flush() -> Result<(), String> {
    io::stdout().flush().map_err(|error| format!("standard output: {error}"))
}
