//! The command line: what is asked for, handed to whoever does it.

mod bench;
mod child;
mod clock;
mod list;
mod many;
mod one;
mod options;
mod shrunk;
mod source;
mod twice;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::Parser;

use crate::trial::{EngineName, Parts};
use options::{Choice, Options};
use source::Source;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    /// Every claim holds.
    Well,
    /// A claim does not hold, or two runs of one plan differ.
    Failed,
}

/// Does what the arguments, the program's name first, ask for.
pub fn run(parts: &Parts, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let options = match Options::try_parse_from(&arguments) {
        Ok(options) => options,
        Err(error) => {
            // Its text goes to standard output for --help and --version, else to standard error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match obey(parts, &options, &arguments) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Failed) => ExitCode::from(EXIT_FAILED),
        Err(why) => {
            eprintln!("cargo sim: {why}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// A claim does not hold.
const EXIT_FAILED: u8 = 1;

/// The arguments or the environment cannot be obeyed.
const EXIT_USAGE: u8 = 2;

fn obey(parts: &Parts, options: &Options, arguments: &[OsString]) -> Result<Ended, String> {
    if let Some(name) = &options.canary {
        return planted(parts, name, arguments);
    }
    if options.list {
        return list::print(parts);
    }
    if options.canaries {
        return (parts.canaries.score)().map(|()| Ended::Well);
    }
    if options.bench {
        return bench::run(parts, options);
    }
    match Source::of(options) {
        Some(source) => single(parts, options, &source),
        None => many::run(parts, options),
    }
}

/// What is done with one plan.
fn single(parts: &Parts, options: &Options, source: &Source) -> Result<Ended, String> {
    // A plan that cannot be had is the caller's mistake, on whichever engine.
    let plan = source.plan(parts)?;
    if let Some(name) = &options.shrink {
        return shrunk::run(parts, options, &plan, name);
    }
    let engines = engines(parts, options, Some(source))?;
    if options.twice {
        return twice::run(parts, source, &plan, &engines);
    }
    one::run(parts, options, source, &plan, &engines)
}

/// Hands over to the simulator with a bug in it.
fn planted(parts: &Parts, name: &str, arguments: &[OsString]) -> Result<Ended, String> {
    let mut rest = without_canary(&arguments[1..]);
    if rest.is_empty() {
        // Silence must end: a canary that lives through this hunt is a survivor.
        rest = ["--for", "60s", "--first", "--engine", "core"].map(OsString::from).to_vec();
    }
    eprintln!("planting {name} ...");
    Err((parts.canaries.become_planted)(name, &rest))
}

/// The arguments without `--canary NAME` in either of its forms.
fn without_canary(arguments: &[OsString]) -> Vec<OsString> {
    let mut rest = Vec::new();
    let mut is_name = false;
    for argument in arguments {
        let is_flag = argument == "--canary";
        if !is_name && !is_flag && !argument.to_string_lossy().starts_with("--canary=") {
            rest.push(argument.clone());
        }
        is_name = is_flag && !is_name;
    }
    rest
}

/// The engines that are asked for, or all that there are.
///
/// # Errors
/// Where this binary lacks one that was asked for: how to get it.
fn engines(parts: &Parts, options: &Options, source: Option<&Source>) -> Result<Vec<EngineName>, String> {
    let mut asked = match options.engine {
        Some(choice) => choice.engines().to_vec(),
        // What shows one run shows it on one engine.
        None if options.trace.is_some() || options.html.is_some() || options.at.is_some() => vec![EngineName::Core],
        None => Choice::Both.engines().iter().copied().filter(|engine| parts.engine(*engine).is_some()).collect(),
    };
    if let (None, Some(Source::Scenario(name))) = (options.engine, source) {
        asked = crate::scenario::read(&crate::scenario::folder(), name)?.engines;
    }
    if asked.iter().any(|engine| parts.engine(*engine).is_none()) {
        return Err(WITHOUT_MADSIM.to_string());
    }
    if asked.len() > 1 && (options.trace.is_some() || options.html.is_some() || options.at.is_some()) {
        return Err("--trace, --html and --at show one run: choose --engine core or --engine madsim".to_string());
    }
    Ok(asked)
}

const WITHOUT_MADSIM: &str = "\
this binary has engine core only, because it was built without `--cfg madsim`.
Run it as `cargo sim`: that alias sets the flag (.cargo/config.toml). An exported RUSTFLAGS beats the alias: unset it, \
or add `--cfg madsim` to it.";

/// How many runs at once.
fn jobs(options: &Options) -> usize {
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    options.jobs.map_or_else(cores, |jobs| jobs as usize)
}

/// Where failures leave their plans, and whatever else is written without being asked where to.
fn output_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/findings")
}

/// Writes a file and the folders that it lies in, and returns the shortest name that leads there from here.
fn write_file(path: &Path, text: &str) -> Result<PathBuf, String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let here = env::current_dir().unwrap_or_default();
    Ok(whole.strip_prefix(here).map(Path::to_path_buf).unwrap_or(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// The exit code of a command line.
    fn check(line: &str, expect: u8) {
        let arguments = ["sim"].into_iter().chain(line.split_whitespace()).map(OsString::from);
        let code = run(&testing::parts(), arguments);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(expect)), "{line}");
    }

    #[test]
    fn the_exit_code_is_0_where_every_claim_holds_1_where_one_does_not_and_2_where_it_cannot_be_done() {
        check("--seed 2", 0);
        check("--seed 1", 1);
        check("--seed 2 --at 5 --print", 0);
        check("--seed 2 --trace --until 5", 0);
        check("--seed 1 --trace", 1);
        check("--seeds 1..2 --jobs 1", 1);
        check("--seeds 1..9 --jobs 2 --json --first", 1);
        check("--list", 0);
        check("--help", 0);
        check("--seed 2 --engine madsim", 2);
        check("--seed 2 --engine both", 2);
        check("--scenario no-such-scenario", 2);
        check("--plan no-such-file.json", 2);
        check("--canary ack-before-sync", 2);
        check("--canaries", 2);
        check("--no-such-flag", 2);
    }

    #[test]
    fn the_rest_of_the_arguments_goes_to_the_binary_with_the_bug() {
        let check = |line: &str, expect: &str| {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(without_canary(&arguments).join(" ".as_ref()), expect, "{line}");
        };
        check("--canary a", "");
        check("--canary=a --seed 4", "--seed 4");
        check("--seed 4 --canary a --shrink", "--seed 4 --shrink");
        check("--canary --canary --seed 4", "--seed 4");
    }
}
