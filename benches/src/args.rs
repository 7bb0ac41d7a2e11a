//! The command line: every flag with its default, and the checks that need more than one of them.

use crate::failure::Failure;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const AFTER_HELP: &str = "\
Latency is measured from the moment a record was due: with --rate that is its place in the schedule, so that a broker
that stalls cannot hide it by slowing the load down; without --rate it is the moment of sending. With --acks 0 it ends
when the socket has taken the record.

Exit codes: 0 all is well; 1 an acknowledged record is missing, damaged or stored under another's offset; 2 bad
arguments; 3 the broker cannot be reached, closed the connection or fell silent; 4 the broker refused a request;
5 this machine refused something.

Examples:
  chronik-bench --bootstrap-servers localhost:9092 --duration 30s --concurrency 128 --message-size 256
  chronik-bench --connections 128 --concurrency 128 --server-pid $(pidof chronik-server)
  chronik-bench --batch-records 1000 --message-size 1024 --concurrency 5000 --verify read
  chronik-bench --mode end-to-end --rate 1000
  chronik-bench --mode commit --connections 128 --concurrency 128
  chronik-bench compare --server-bin target/release/chronik-server --floor target/floor/nullbroker";

/// A load generator for Kafka brokers: throughput, latency, CPU of both sides, and whether what was acknowledged is there.
#[derive(Debug, Parser)]
#[command(name = "chronik-bench", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts brokers on loopback, loads them in turn with the same work, and prints the ratios of the medians.
    Compare(CompareArgs),
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Send records; latency is from due to acknowledged.
    Produce,
    /// Read the topic from its start; latency is of each fetch.
    Consume,
    /// Send records and read them; latency is from due to received.
    EndToEnd,
    /// Commit offsets of a group for each connection, one partition a request; latency is from due to acknowledged.
    Commit,
    /// Fetch at the topic's end, where nothing comes, as idle consumers do; latency is of each fetch.
    Wait,
}

/// When a broker may acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Acks {
    /// It does not answer at all.
    #[value(name = "0")]
    None,
    /// The leader has the record.
    #[value(name = "1")]
    Leader,
    /// The whole in-sync set has the record.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// The number in the Produce request.
    pub(crate) fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How what was acknowledged is looked for after the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    /// The end offsets rose by at least what was acknowledged, and no two acknowledgements share an offset.
    Offsets,
    /// As offsets; then every record is read back and the checksums of the batches are checked.
    Read,
    /// Not at all: for brokers that store nothing.
    Off,
}

/// One load.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// Brokers to ask first, in order, until one answers.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', default_value = "localhost:9092")]
    pub(crate) bootstrap_servers: Vec<String>,

    /// What to measure.
    #[arg(long, value_enum, default_value_t = Mode::Produce)]
    pub(crate) mode: Mode,

    /// Topic to write to or read from; created where it does not exist, except to consume.
    #[arg(long, default_value = "chronik-bench")]
    pub(crate) topic: String,

    /// Partitions of the topic where it is created [default: 1]; a topic that exists must have as many.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,

    /// Replicas of the topic where it is created.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i16).range(1..))]
    pub(crate) replication_factor: i16,

    /// A config of the topic where it is created; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) topic_config: Vec<(String, String)>,

    /// How long to measure, as 30s, 500ms or 2m.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,

    /// How long to load before measuring.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,

    /// Records outstanding in all.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) concurrency: u32,

    /// Connections that share the load; each works on partitions of one leader.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) connections: u32,

    /// Threads that share the connections [default: half the processors, and no more than connections].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,

    /// Bytes of a record's value; there are no keys. End-to-end needs 8 or more.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    pub(crate) message_size: u32,

    /// Records in a batch; a request holds one batch.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch_records: u32,

    /// When the broker may acknowledge.
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub(crate) acks: Acks,

    /// Records a second, at even intervals whatever the broker does [default: as fast as answers come].
    #[arg(long, value_name = "RECORDS_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) rate: Option<u64>,

    /// Most bytes that a fetch may bring.
    #[arg(long, default_value_t = 1_048_576, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) fetch_max_bytes: i32,

    /// How long the broker may hold a fetch that finds nothing.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub(crate) fetch_max_wait: Duration,

    /// Consume: begin again at the start of the topic until the time is up, instead of reading it once.
    #[arg(long)]
    pub(crate) repeat: bool,

    /// How to look, after the load, whether what was acknowledged is there.
    #[arg(long, value_enum, default_value_t = Verify::Offsets)]
    pub(crate) verify: Verify,

    /// Process ids of the brokers, on this machine: reports their CPU and memory, in all.
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub(crate) server_pid: Vec<u32>,

    /// Record the brokers of --server-pid with perf into this file while they are measured; it costs them some speed.
    #[arg(long, value_name = "FILE", requires = "server_pid")]
    pub(crate) perf: Option<PathBuf>,

    /// Print JSON in place of the table; with =FILE write it there, beside the table.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
}

/// Brokers measured side by side.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArgs {
    /// The chronik-server binary to measure.
    #[arg(long, value_name = "PATH")]
    pub(crate) server_bin: Option<PathBuf>,

    /// Arguments for it, in place of: standalone --kafka-port {port} --bind 127.0.0.1 --data-dir {dir} --durability
    /// sync --log-level warn. {port} and {dir} are filled in.
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub(crate) server_args: Option<String>,

    /// The null broker, built by `just floor`: what every ratio is taken against.
    #[arg(long, value_name = "PATH")]
    pub(crate) floor: PathBuf,

    /// What the null broker does with records: null, write, fsync, fsyncpre or dsync.
    #[arg(long, default_value = "fsyncpre")]
    pub(crate) floor_mode: String,

    /// Another broker, as NAME=COMMAND with {port} and {dir} to be filled in; it must run in the foreground.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = key_value)]
    pub(crate) beside: Vec<(String, String)>,

    /// How often each broker takes its turn at each row; the medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// How long each turn is measured.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(crate) duration: Duration,

    /// How long each turn loads before measuring.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,

    /// Only the rows whose name contains one of these.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) rows: Vec<String>,

    /// Only the first of the rows that are chosen, with Chronik recorded by perf into this file while it is measured.
    #[arg(long, value_name = "FILE")]
    pub(crate) perf: Option<PathBuf>,

    /// Partitions of the topic (the null broker serves up to 1024).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1024))]
    pub(crate) partitions: i32,

    /// How long each broker is watched at rest, for its idle CPU and memory.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) idle: Duration,

    /// Gigabytes that a broker has when it is killed to see how it recovers.
    #[arg(long, default_value_t = 10, value_name = "GB", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) recovery_gigabytes: u32,

    /// Where brokers keep their data while they run; should be on the disk that is meant.
    #[arg(long, default_value = "target/bench")]
    pub(crate) work_dir: PathBuf,

    /// Print JSON in place of the tables; with =FILE write it there, beside the tables.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
}

impl Cli {
    /// What this process was started with. Prints what it asks to have printed, and ends there.
    ///
    /// # Errors
    /// With clap's explanation on one line, without the usage that follows.
    pub(crate) fn read() -> Result<Cli, Failure> {
        Cli::try_parse().map_err(|told| {
            if !told.use_stderr() {
                told.exit();
            }
            Failure::Usage(format!("{} (see `chronik-bench --help`)", first_words(&told.to_string())))
        })
    }
}

/// clap's explanation without its paragraphs: the fault, its hints, and not the usage that follows.
fn first_words(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let words = kept.join("; ");
    words.strip_prefix("error: ").unwrap_or(&words).to_owned()
}

impl LoadArgs {
    /// The defaults of the command line, for a caller that changes a few of them.
    pub(crate) fn defaults() -> LoadArgs {
        Cli::parse_from(["chronik-bench"]).load
    }

    /// Requests outstanding in all: as many as `concurrency` records fill.
    pub(crate) fn requests_outstanding(&self) -> u32 {
        self.concurrency / self.batch_records
    }

    /// Checks what no single flag can tell.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let needed = u64::from(self.connections) * u64::from(self.batch_records);
        let is_writing = !matches!(self.mode, Mode::Consume | Mode::Wait);
        if is_writing && u64::from(self.concurrency) < needed {
            return Err(Failure::Usage(format!(
                "--concurrency {} leaves some of {} connections without a batch of {} to send; \
                 give at least --concurrency {needed}",
                self.concurrency, self.connections, self.batch_records
            )));
        }
        if self.mode == Mode::Commit && (self.batch_records > 1 || self.acks != Acks::All) {
            return Err(Failure::Usage(
                "a commit is of one offset, and answered when the in-sync set has it: leave --batch-records and --acks out"
                    .to_owned(),
            ));
        }
        if self.mode == Mode::EndToEnd && self.message_size < 8 {
            return Err(Failure::Usage(
                "end-to-end puts the send time into the record; give at least --message-size 8".to_owned(),
            ));
        }
        if self.mode == Mode::EndToEnd && self.acks == Acks::None {
            return Err(Failure::Usage("end-to-end waits for what was acknowledged; give --acks 1 or all".to_owned()));
        }
        if u64::from(self.batch_records) * (u64::from(self.message_size) + 32) > 1 << 29 {
            return Err(Failure::Usage(
                "a batch would pass 512 MiB; lower --batch-records or --message-size".to_owned(),
            ));
        }
        if self.topic.is_empty() || self.topic.len() > 249 {
            return Err(Failure::Usage("--topic must have 1 to 249 characters".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
impl CompareArgs {
    /// The defaults of the command line, with a floor that is not there.
    pub(crate) fn for_tests() -> CompareArgs {
        match Cli::parse_from(["chronik-bench", "compare", "--floor", "nullbroker"]).command {
            Some(Command::Compare(args)) => args,
            None => unreachable!("the line has a command"),
        }
    }
}

/// Reads `30s`, `500ms`, `2m`, or a plain number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} does not begin with a number"))?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1e3,
        "us" => number / 1e6,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; use us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("chronik-bench").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_example_is_read() {
        let load = parse("--bootstrap-servers localhost:9092 --duration 30s --concurrency 128 --message-size 256")
            .expect("as in the documentation")
            .load;
        assert_eq!(load.bootstrap_servers, ["localhost:9092"]);
        assert_eq!(load.duration, Duration::from_secs(30));
        assert_eq!((load.concurrency, load.connections, load.message_size), (128, 1, 256));
        assert_eq!((load.verify, load.acks, load.mode), (Verify::Offsets, Acks::All, Mode::Produce));
        assert!(load.check().is_ok());
    }

    #[test]
    fn readers_need_no_records_outstanding() {
        for mode in ["consume", "wait"] {
            let load = parse(&format!("--mode {mode} --connections 1000")).expect("valid").load;
            assert!(load.check().is_ok(), "{mode}");
        }
    }

    #[test]
    fn lists_pairs_and_choices_are_read() {
        let load = parse("--bootstrap-servers a:1,b:2 --acks 0 --mode end-to-end --topic-config a.b=c=d --json")
            .expect("all are valid")
            .load;
        assert_eq!(load.bootstrap_servers, ["a:1", "b:2"]);
        assert_eq!(load.topic_config, [("a.b".to_owned(), "c=d".to_owned())]);
        assert_eq!(load.json, Some(PathBuf::from("-")));
        assert_eq!(parse("--json=out.json").expect("valid").load.json, Some(PathBuf::from("out.json")));
        assert_eq!(parse("--acks=-1").expect("Kafka's number for all").load.acks, Acks::All);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--duration soon",
            "--duration 3d",
            "--acks 2",
            "--connections 0",
            "--topic-config nothing",
            "compare",
            "--connections 4 compare --floor x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, milliseconds) in
            [("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("1.5", 1_500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
    }

    #[test]
    fn contradictions_are_named() {
        fn check(line: &str, hint: &str) {
            let failure = parse(line).expect("each flag alone is valid").load.check().expect_err(line);
            assert!(failure.to_string().contains(hint), "{failure}");
        }
        check("--connections 4 --concurrency 3", "--concurrency 4");
        check("--batch-records 64 --concurrency 63", "--concurrency 64");
        check("--mode end-to-end --message-size 7", "--message-size 8");
        check("--mode end-to-end --acks 0", "--acks 1");
        check("--mode commit --acks 1", "--acks out");
        check("--mode commit --batch-records 2", "--batch-records");
        check("--batch-records 1000000 --message-size 100000000 --concurrency 1000000", "512 MiB");
    }
}
