//! A failure as text: what was claimed and what is, what was drawn, what happened before, and how to see it again.
//!
//! Nothing after the event that shows the violation is told: it can only mislead. The last line is the command that
//! replays it, whatever was printed before, so that it can be found without reading.

mod drawn;
mod timeline;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use chronik_core::time::Instant;

pub use drawn::{draw as draw_plan, fault_parts};
pub use timeline::{draw as draw_timeline, lane_name, lanes, seconds};

use crate::claims::Violation;
use crate::engine::{Run, Watch};
use crate::history::ClientId;
use crate::plan::Plan;
use crate::trial::{Engine, EngineName, Trial, until_panic};

/// So many events before a violation are shown.
const EVENTS_SHOWN: usize = 30;

/// A text of the timeline is cut at so many characters; `--trace` has all of it.
const TEXT_MAX: usize = 160;

/// So many other violations are told, a line each; one defect often shows in a hundred places.
const OTHERS_SHOWN: usize = 5;

/// What a report tells.
pub struct Report<'a> {
    /// What was carried out.
    pub plan: &'a Plan,
    /// By what.
    pub engine: EngineName,
    /// What came of it, of which the first violation is told.
    pub trial: &'a Trial,
    /// What happened up to that violation, as [`trace_before`] finds it.
    pub before: &'a Run,
    /// The command that runs it again.
    pub replay: &'a str,
}

/// The run once more, with its timeline up to what shows the first violation, and nothing after it.
pub fn trace_before(engine: Engine, plan: &Plan, trial: &Trial) -> Run {
    let run = if trial.has_panicked() && trial.run.events == 0 {
        until_panic(engine, plan)
    } else {
        engine(plan, &Watch { trace: true, ..Watch::default() })
    };
    cut_before(run, trial)
}

/// A run without the part of its timeline that lies after what shows the first violation.
pub fn cut_before(mut run: Run, trial: &Trial) -> Run {
    if let Some(at) = trial.violations.first().and_then(|violation| shown_at(&trial.run, violation)) {
        run.trace.retain(|row| row.at <= at);
    }
    run
}

/// When a violation showed.
pub fn shown_at(run: &Run, violation: &Violation) -> Option<Instant> {
    run.history.events.get(violation.event).or(run.history.events.last()).map(|event| event.at)
}

/// Writes a report of a trial that failed.
pub fn write(report: &Report<'_>) -> String {
    let Report { plan, engine, trial, before, replay } = *report;
    let mut page = String::new();
    let Some((first, others)) = trial.violations.split_first() else {
        return format!("every claim holds\n\n{replay}\n");
    };
    let _ = writeln!(page, "FAILED   {}", first.claim);
    let _ = writeln!(page, "seed     {}, engine {engine}, commit {}", plan.seed, commit());
    let _ = writeln!(page, "what     {}", first.text);
    if let Some(event) = trial.run.history.events.get(first.event) {
        let operation = event.operation.map(|number| format!(", operation {number}")).unwrap_or_default();
        let _ = writeln!(page, "when     {} s, {}{operation}", seconds(event.at), client_name(event.client.0));
    }
    for other in others.iter().take(OTHERS_SHOWN) {
        let _ = writeln!(page, "also     {}: {}", other.claim, other.text);
    }
    if others.len() > OTHERS_SHOWN {
        let _ = writeln!(page, "also     {} more", others.len() - OTHERS_SHOWN);
    }
    let _ = write!(page, "\ndrawn\n{}", draw_plan(plan));
    let trace = &before.trace;
    if !trace.is_empty() {
        let shown = &trace[trace.len().saturating_sub(EVENTS_SHOWN)..];
        let _ = write!(page, "\nthe last {} of {} events before it\n", shown.len(), trace.len());
        page.push_str(&draw_timeline(shown, TEXT_MAX));
    }
    let ran = if trial.run.events == 0 { before } else { &trial.run };
    let _ = write!(page, "\ntook effect\n{}", draw_counters(&ran.counters));
    let _ = write!(page, "\n{replay}\n");
    page
}

/// Counters in columns.
pub fn draw_counters(counters: &BTreeMap<&str, u64>) -> String {
    const ACROSS: usize = 4;
    let width = counters.keys().map(|name| name.len()).max().unwrap_or(0);
    let cells: Vec<String> = counters.iter().map(|(name, count)| format!("{name:<width$} {count:>8}")).collect();
    cells.chunks(ACROSS).map(|row| format!("  {}\n", row.join("   "))).collect()
}

fn client_name(number: u32) -> String {
    match ClientId(number) {
        ClientId::SETUP => "the set-up".to_string(),
        ClientId::AUDITOR => "the audit at the end".to_string(),
        ClientId::ENGINE => "the engine".to_string(),
        ClientId(index) => format!("client {index}"),
    }
}

/// The sources that this is a run of, as git names them.
fn commit() -> String {
    let told = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    told.map_or_else(|| "unknown".to_string(), |name| name.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::trial::examine;

    fn reported(engine: Engine, seed: u64) -> String {
        let parts = crate::trial::Parts { core: engine, ..testing::parts() };
        let plan = (parts.draw)(seed, None);
        let trial = examine(&parts, parts.core, &plan, &Watch::default());
        let before = trace_before(parts.core, &plan, &trial);
        let replay = "cargo sim --seed 1 --engine core";
        write(&Report { plan: &plan, engine: EngineName::Core, trial: &trial, before: &before, replay })
    }

    #[test]
    fn a_report_names_claim_seed_and_engine_and_ends_with_the_command_that_replays_it() {
        let page = reported(testing::parts().core, 1);
        assert!(page.starts_with("FAILED   acked-is-there\nseed     1, engine core, commit "), "{page}");
        assert!(page.contains("offset 7 of t0-0 was acknowledged and is not there"), "{page}");
        assert!(page.contains("when     0.050000 s, client 0, operation 0"), "{page}");
        assert!(page.contains("took effect\n  kill        1\n"), "{page}");
        assert_eq!(page.lines().last(), Some("cargo sim --seed 1 --engine core"));
    }

    #[test]
    fn a_report_tells_nothing_after_the_event_that_shows_the_violation() {
        let page = reported(testing::parts().core, 1);
        assert!(page.contains("the last 30 of 51 events before it"), "{page}");
        assert!(page.contains("\n       50     0.050000"), "{page}");
        assert!(!page.contains("\n       51 "), "{page}");
    }

    #[test]
    fn a_panic_is_reported_with_what_came_before_it() {
        let page = reported(testing::PANICS, 37);
        assert!(page.starts_with("FAILED   no-panic\n"), "{page}");
        assert!(page.contains("an event too many"), "{page}");
        assert!(page.contains("the last 30 of 37 events before it"), "{page}");
    }
}
