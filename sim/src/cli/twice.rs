//! `--twice`: a run is a function of its plan, or the first event that differs is named.

use std::fs;

use super::source::Source;
use super::{Ended, child, output_folder};
use crate::engine::Watch;
use crate::hunt::{Failed, Outcome};
use crate::plan::Plan;
use crate::report;
use crate::trial::{EngineName, Parts, SAME_TWICE, examine};

/// How often two traced runs are compared before a difference is given up on: a race shows now and then only.
const TRIES: usize = 5;

pub(crate) fn run(parts: &Parts, source: &Source, plan: &Plan, engines: &[EngineName]) -> Result<Ended, String> {
    let planted = (parts.canaries.planted)();
    let mut ended = Ended::Well;
    for engine in engines {
        let apart = || child::outcome(source, plan.seed, *engine).digest;
        let digests: Vec<(&str, String)> = match engine {
            EngineName::Core => {
                let here = || format!("{:016x}", examine(parts, parts.core, plan, &Watch::default()).run.digest);
                vec![("in this process", here()), ("again in it", here()), ("in another", apart())]
            }
            EngineName::Madsim => vec![("in one process", apart()), ("in another", apart())],
        };
        let is_same = digests.iter().all(|(_, digest)| !digest.is_empty() && *digest == digests[0].1);
        let told: Vec<String> = digests.iter().map(|(place, digest)| format!("{digest} {place}")).collect();
        let verdict = if is_same { "the same" } else { "DIFFERENT" };
        println!("seed {}, engine {engine}: {verdict}: {}", plan.seed, told.join(", "));
        if !is_same {
            ended = Ended::Failed;
            println!("{}", difference(parts, source, plan, *engine)?);
            println!("\n{} --twice", source.replay(*engine, planted.as_deref()));
        }
    }
    Ok(ended)
}

/// What came of a run, judged by a second one of the same plan too. Where they differ, that is the first thing to say:
/// nothing else that was found can be counted on to show again.
pub(crate) fn compared(mut one: Outcome, other: &Outcome) -> Outcome {
    if one.digest != other.digest {
        let told = |outcome: &Outcome| match outcome.failed.first() {
            Some(failed) if outcome.digest.is_empty() => failed.text.clone(),
            _ => format!("digest {} after {} events", outcome.digest, outcome.events),
        };
        let text = format!("two runs of a plan are the same, but one has {} and one {}", told(&one), told(other));
        one.failed.insert(0, Failed { claim: SAME_TWICE.to_string(), text });
    }
    one
}

/// The first event that differs between two runs.
pub(crate) fn difference(parts: &Parts, source: &Source, plan: &Plan, engine: EngineName) -> Result<String, String> {
    for _ in 0..TRIES {
        let here =
            || report::draw_timeline(&(parts.core)(plan, &Watch { trace: true, ..Watch::default() }).trace, usize::MAX);
        let pairs = match engine {
            EngineName::Core => vec![(here(), here()), (here(), apart(source, engine)?)],
            EngineName::Madsim => vec![(apart(source, engine)?, apart(source, engine)?)],
        };
        if let Some(difference) = pairs.iter().find_map(|(one, other)| first_difference(one, other)) {
            return Ok(difference);
        }
    }
    Ok(format!("{TRIES} pairs of runs with a timeline do not differ in it"))
}

/// The timeline of a run in a process of its own.
fn apart(source: &Source, engine: EngineName) -> Result<String, String> {
    let file = output_folder().join(format!("twice-{}.txt", std::process::id()));
    let status = child::command(source, engine)?
        .arg("--trace")
        .arg(&file)
        .output()
        .map_err(|error| format!("cannot start this binary: {error}"))?
        .status;
    let text = fs::read_to_string(&file)
        .map_err(|error| format!("{} of a run that ended with {status}: {error}", file.display()))?;
    // Left behind it would only take room.
    let _ = fs::remove_file(&file);
    Ok(text)
}

/// The first line in which two timelines differ, with the lines before it, which they share.
fn first_difference(one: &str, other: &str) -> Option<String> {
    const SHARED: usize = 5;
    let (one, other): (Vec<&str>, Vec<&str>) = (one.lines().collect(), other.lines().collect());
    let at = (0..one.len().max(other.len())).find(|at| one.get(*at) != other.get(*at))?;
    let shared: String = one[at.saturating_sub(SHARED)..at].iter().map(|line| format!("    {line}\n")).collect();
    let line = |lines: &[&str]| lines.get(at).map_or("(the run is over)", |line| *line).to_string();
    Some(format!("the first event that differs:\n{shared}  1 {}\n  2 {}", line(&one), line(&other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\nc", "a\nb\nc"), None);
        let told = first_difference("a\nb\nc", "a\nx\nc").expect("they differ");
        assert!(told.ends_with("    a\n  1 b\n  2 x"), "{told}");
        let told = first_difference("a", "a\nb").expect("they differ");
        assert!(told.ends_with("  1 (the run is over)\n  2 b"), "{told}");
    }

    #[test]
    fn a_run_that_differs_from_its_second_one_fails_by_that_before_all_else() {
        let silent = Outcome::without_a_word(7, EngineName::Core, "it fell silent".to_string());
        let run = |digest: &str| Outcome { digest: digest.to_string(), ..silent.clone() };
        let check = |one: &Outcome, other: &Outcome, expect: &[&str]| {
            let compared = compared(one.clone(), other);
            let claims: Vec<&str> = compared.failed.iter().map(|failed| failed.claim.as_str()).collect();
            assert_eq!(claims, expect);
            compared.failed[0].text.clone()
        };
        check(&run("a"), &run("a"), &["no-panic"]);
        let told = check(&run("a"), &run("b"), &["same-twice", "no-panic"]);
        assert!(told.contains("digest a after 0 events") && told.contains("digest b"), "{told}");
        let told = check(&run("a"), &silent, &["same-twice", "no-panic"]);
        assert!(told.ends_with("and one it fell silent"), "{told}");
    }
}
