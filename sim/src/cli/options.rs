//! The flags.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};

use crate::trial::EngineName;

const AFTER_HELP: &str = "\
Without a flag: a hunt of 60 s over random seeds, on both engines.

Exit codes: 0 every claim holds; 1 a claim does not hold (with --twice: or two runs of one plan differ);
2 bad arguments, or the environment is not what they ask for.

A report of a failure ends with the command that replays it.";

/// Whole brokers through crashes, broken networks and failing disks: a failing seed is a number.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim", version, after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("what").args(["seed", "seeds", "for_time", "scenario", "plan", "list", "bench", "canaries"]))]
#[command(group = ArgGroup::new("one").args(["seed", "scenario", "plan"]).multiple(true))]
pub(crate) struct Options {
    /// One seed.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// The seeds from A to below B.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    pub(crate) seeds: Option<Range<u64>>,

    /// A hunt over random seeds that takes so long: `90s`, `10m`, `8h`.
    #[arg(long = "for", id = "for_time", value_name = "TIME", value_parser = parse_time)]
    pub(crate) for_time: Option<Duration>,

    /// A named plan of sim/scenarios.
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<String>,

    /// A plan as a file, as a failure and --shrink write it.
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,

    /// Names scenarios, claims and canaries, and what each engine can do.
    #[arg(long)]
    pub(crate) list: bool,

    /// Measures: events per second, simulated seconds per CPU second, seeds per core-hour.
    #[arg(long)]
    pub(crate) bench: bool,

    /// Which engine; both where it is one plan, a range or a hunt and this binary has both.
    #[arg(long, value_enum)]
    pub(crate) engine: Option<Choice>,

    /// So many runs at once; as many as there are cores where not given.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) jobs: Option<u32>,

    /// Draws plans beyond what one disk promises: a loss must then be told of, never passed over.
    #[arg(long, conflicts_with_all = ["scenario", "plan", "list", "bench", "canaries"])]
    pub(crate) beyond: bool,

    /// Draws plans for so many brokers: several are a cluster. Where not given, each seed draws how many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5))]
    #[arg(conflicts_with_all = ["scenario", "plan", "list", "canaries"])]
    pub(crate) nodes: Option<u32>,

    /// Stops at the first failure.
    #[arg(long, conflicts_with_all = ["one", "list", "bench", "canaries"])]
    pub(crate) first: bool,

    /// The whole timeline, on standard output or in a file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", requires = "one")]
    pub(crate) trace: Option<PathBuf>,

    /// Stops before this event; nothing is judged then.
    #[arg(long, value_name = "EVENT", requires = "trace")]
    pub(crate) until: Option<u64>,

    /// With --print: everybody's state after this event.
    #[arg(long, value_name = "EVENT", requires_all = ["one", "print"], conflicts_with_all = ["trace", "html", "shrink", "twice"])]
    pub(crate) at: Option<u64>,

    /// With --at.
    #[arg(long, requires = "at")]
    pub(crate) print: bool,

    /// The smallest plan that still fails the same way, written to sim/scenarios under this name or one of its own.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "", requires = "one")]
    #[arg(conflicts_with_all = ["trace", "html", "twice"])]
    pub(crate) shrink: Option<String>,

    /// Runs every plan twice and compares: the first event that differs is named.
    #[arg(long, conflicts_with_all = ["trace", "html", "list", "bench", "canaries"])]
    pub(crate) twice: bool,

    /// The run as one self-contained page.
    #[arg(long, value_name = "FILE", requires = "one")]
    pub(crate) html: Option<PathBuf>,

    /// Plants a bug first. Alone: hunts until it is found.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["list", "bench", "canaries"])]
    pub(crate) canary: Option<String>,

    /// Plants every bug in turn, hunts each, and prints the seeds and the CPU seconds that it took.
    #[arg(long)]
    pub(crate) canaries: bool,

    /// One JSON object per run, a line each, instead of text.
    #[arg(long, conflicts_with_all = ["trace", "html", "shrink", "twice", "at", "list", "bench", "canaries"])]
    pub(crate) json: bool,
}

/// Which engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// The event loop around the broker's state machine.
    Core,
    /// The production shell on simulated sockets and time.
    Madsim,
    /// One after the other.
    Both,
}

impl Choice {
    /// The engines that are asked for.
    pub(crate) fn engines(self) -> &'static [EngineName] {
        match self {
            Choice::Core => &[EngineName::Core],
            Choice::Madsim => &[EngineName::Madsim],
            Choice::Both => &[EngineName::Core, EngineName::Madsim],
        }
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    match bounds {
        Some(range) if range.start < range.end => Ok(range),
        Some(_) => Err("the range is empty".to_string()),
        None => Err("a range is two numbers: 1000..2000".to_string()),
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("a time is a number with s, m or h: 90s".to_string()),
    };
    let number: u64 = number.parse().map_err(|_| "a time is a number with s, m or h: 90s".to_string())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "that is too long".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["sim"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_flags_agree_with_each_other() {
        Options::command().debug_assert();
    }

    #[test]
    fn every_form_of_the_command_is_taken() {
        for line in [
            "",
            "--seed 42",
            "--seed 42 --engine core",
            "--seed 42 --trace",
            "--seed 42 --trace out.txt --until 100",
            "--seed 42 --at 100 --print",
            "--seeds 1000..2000 --jobs 2",
            "--seeds 1..2 --first --beyond --json",
            "--seeds 1..9 --nodes 3 --engine core",
            "--for 10m --engine both",
            "--scenario full-disk",
            "--list",
            "--plan p.json --html run.html",
            "--seed 42 --shrink",
            "--seed 42 --shrink=lost-ack",
            "--seed 42 --twice --engine both",
            "--seeds 1..9 --twice --first",
            "--for 10m --twice",
            "--bench",
            "--canary ack-before-sync",
            "--canary ack-before-sync --seed 42 --shrink",
            "--canaries --jobs 2",
        ] {
            assert!(parsed(line).is_ok(), "{line}: {:?}", parsed(line).err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--seed x",
            "--seed 1 --seeds 1..2",
            "--seeds 2..2",
            "--seeds 5",
            "--trace",
            "--seed 1 --until 5",
            "--seed 1 --at 5",
            "--seed 1 --print",
            "--shrink",
            "--bench --twice",
            "--seeds 1..2 --html f",
            "--scenario a --beyond",
            "--list --bench",
            "--jobs 0",
            "--for 5w",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7_200)));
    }
}
