//! Runs in a process of their own: engine `madsim` needs that, since hash seeds, task numbers and leaks carry over from
//! one of its runs to the next.

use std::env;
use std::process::{Command, Output, Stdio};

use super::source::Source;
use crate::hunt::Outcome;
use crate::trial::EngineName;

/// How much of what a process said last is told when it ended without a word.
const LAST_LINES: usize = 12;

/// The command that runs one plan on one engine by this same binary.
pub(crate) fn command(source: &Source, engine: EngineName) -> Result<Command, String> {
    let binary = env::current_exe().map_err(|error| format!("cannot find this binary: {error}"))?;
    let mut command = Command::new(binary);
    command.args(source.arguments()).args(["--engine", &engine.to_string()]);
    command.stdin(Stdio::null());
    Ok(command)
}

/// What came of one run.
pub(crate) fn outcome(source: &Source, seed: u64, engine: EngineName) -> Outcome {
    let ran = command(source, engine)
        .and_then(|mut command| command.arg("--json").output().map_err(|error| format!("cannot start it: {error}")));
    match ran {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines()
                .rev()
                .find_map(Outcome::from_json)
                .unwrap_or_else(|| Outcome::without_a_word(seed, engine, last_words(&output)))
        }
        Err(why) => Outcome::without_a_word(seed, engine, why),
    }
}

/// The report of one run, as the process prints it.
pub(crate) fn report(source: &Source, engine: EngineName) -> Result<String, String> {
    let output = command(source, engine)?.output().map_err(|error| format!("cannot start this binary: {error}"))?;
    match output.status.code() {
        Some(0 | 1) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => Err(last_words(&output)),
    }
}

fn last_words(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
    format!("the process of the run ended with {} and said last:\n  {last}", output.status)
}
