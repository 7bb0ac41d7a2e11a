//! A run as one self-contained page: a lane per node, disk and client, messages as arrows, faults as bars, the claims
//! that do not hold as marks. It asks for nothing beyond itself, so it can be attached to an issue.

use serde::Serialize;

use crate::claims::Violation;
use crate::engine::{Lane, Run};
use crate::plan::{Fault, FaultKind, Plan};
use crate::report;
use crate::trial::EngineName;

/// More rows make a page that browsers load slowly; those before the violation are kept, or the last ones.
const ROWS_MAX: usize = 200_000;

/// What follows a violation is kept to this share of the rows: it shows how the run went on, not why it failed.
const ROWS_AFTER: usize = ROWS_MAX / 10;

/// The page with its script; the data stands in for one mark.
const PAGE: &str = include_str!("page.html");

/// What stands in the page for the data.
const DATA: &str = "@DATA@";

/// What the page's script reads.
#[derive(Serialize)]
struct Data<'a> {
    title: String,
    note: String,
    lanes: Vec<LaneData>,
    /// Event, time, lane, lane that it came from or -1, when that was sent, text. Arrays, since there are many.
    rows: Vec<(u64, u64, usize, i64, u64, &'a str)>,
    bars: Vec<Bar>,
    violations: Vec<Mark<'a>>,
    end: u64,
}

#[derive(Serialize)]
struct LaneData {
    name: String,
    kind: &'static str,
}

/// A fault of the plan, from when it begins to when it heals, in nanoseconds.
#[derive(Serialize)]
struct Bar {
    name: String,
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct Mark<'a> {
    at: u64,
    claim: &'a str,
    text: &'a str,
}

/// The page of a run that kept its timeline.
pub fn page(plan: &Plan, engine: EngineName, run: &Run, violations: &[Violation]) -> String {
    let marks: Vec<Mark<'_>> = violations
        .iter()
        .map(|violation| Mark {
            at: report::shown_at(run, violation).map_or(run.simulated.0, |at| at.0),
            claim: violation.claim,
            text: &violation.text,
        })
        .collect();
    let shown = window(run, marks.first().map(|mark| mark.at));
    let left_out = run.trace.len() - shown.len();
    let rows = &run.trace[shown];
    let lanes = report::lanes(rows);
    let index = |lane: Lane| lanes.iter().position(|known| *known == lane).expect("every lane has a row");
    let data = Data {
        title: format!("seed {}, engine {engine}", plan.seed),
        note: match left_out {
            0 => String::new(),
            _ => format!("{left_out} events further away from the violation are left out; --trace has them"),
        },
        rows: rows
            .iter()
            .map(|row| {
                let from = row.from.filter(|from| *from != row.lane).map_or(-1, |lane| index(lane) as i64);
                let sent_at = row.sent_at.unwrap_or(row.at);
                (row.event, row.at.0, index(row.lane), from, sent_at.0, row.text.as_str())
            })
            .collect(),
        bars: plan.faults.iter().map(bar).collect(),
        end: run.simulated.0,
        violations: marks,
        lanes: lanes.iter().map(|lane| LaneData { name: report::lane_name(*lane), kind: kind(*lane) }).collect(),
    };
    let json = serde_json::to_string(&data).expect("the page's data has no keys but strings");
    // Inside a script element only `<` could end it; JSON takes it escaped as well.
    PAGE.replacen(DATA, &json.replace('<', "\\u003c"), 1)
}

/// Which rows are shown.
fn window(run: &Run, violated_at: Option<u64>) -> std::ops::Range<usize> {
    let until = violated_at.map_or(run.trace.len(), |at| run.trace.partition_point(|row| row.at.0 <= at));
    let end = run.trace.len().min(until + ROWS_AFTER);
    end.saturating_sub(ROWS_MAX)..end
}

fn kind(lane: Lane) -> &'static str {
    match lane {
        Lane::Node(_) => "node",
        Lane::Disk(_) => "disk",
        Lane::Client(_) => "client",
        Lane::Fault => "fault",
    }
}

fn bar(fault: &Fault) -> Bar {
    let (name, details) = report::fault_parts(fault);
    let lasts_ms = match fault.what {
        FaultKind::Kill { down_ms } | FaultKind::PowerLoss { down_ms, .. } | FaultKind::Restart { down_ms } => down_ms,
        FaultKind::Pause { for_ms }
        | FaultKind::DiskFull { for_ms }
        | FaultKind::DiskSlow { for_ms, .. }
        | FaultKind::DiskStall { for_ms }
        | FaultKind::LyingSync { for_ms }
        | FaultKind::MuteToServer { for_ms, .. }
        | FaultKind::MuteToClient { for_ms, .. }
        | FaultKind::Delay { for_ms, .. }
        | FaultKind::Fragment { for_ms, .. }
        | FaultKind::SlowReader { for_ms, .. }
        | FaultKind::Refuse { for_ms }
        | FaultKind::Blackhole { for_ms }
        | FaultKind::LinkMuted { for_ms, .. }
        | FaultKind::LinkSlow { for_ms, .. }
        | FaultKind::LinkRefused { for_ms, .. }
        | FaultKind::Isolated { for_ms, .. } => for_ms,
        FaultKind::KillInRecovery { .. }
        | FaultKind::ClockStep { .. }
        | FaultKind::SyncFails { .. }
        | FaultKind::WriteFails { .. }
        | FaultKind::ReadFails { .. }
        | FaultKind::BitFlip { .. }
        | FaultKind::MisdirectedWrite { .. }
        | FaultKind::TruncatedIndex
        | FaultKind::Reset { .. }
        | FaultKind::HalfOpen { .. }
        | FaultKind::LinkReset { .. } => 0,
    };
    let from = fault.at_ms * NS_PER_MS;
    Bar { name: name + &details, from, to: from + lasts_ms * NS_PER_MS }
}

const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Watch;
    use crate::testing;
    use crate::trial::examine;

    fn drawn(seed: u64) -> String {
        let parts = testing::parts();
        let plan = (parts.draw)(seed, None);
        let trial = examine(&parts, parts.core, &plan, &Watch { trace: true, ..Watch::default() });
        page(&plan, EngineName::Core, &trial.run, &trial.violations)
    }

    #[test]
    fn a_page_needs_nothing_but_itself() {
        let page = drawn(1);
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_page_holds_the_run_its_faults_and_the_claim_that_does_not_hold() {
        let page = drawn(1);
        assert!(
            page.contains(r#"[2,2000000,0,1,1500000,"Produce \u003ct0>"]"#),
            "a row, its text unable to end the script"
        );
        assert!(page.contains(r#"{"name":"disk_slow, factor 10, for_ms 64","from":200000000,"to":264000000}"#));
        assert!(page.contains(r#""at":50000000,"claim":"acked-is-there""#));
        assert!(drawn(2).contains(r#""violations":[]"#));
    }
}
