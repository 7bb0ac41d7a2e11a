//! chronik-bench: a load generator for Kafka brokers that is not itself the limit.
//!
//! `args` is the command line, `run` one load from beginning to end; `produce` and `consume` are its hot loops over
//! `wire` (the few messages needed) and `socket` (many sockets on one thread); `verify` looks whether what was
//! acknowledged is there; `report` prints; `perf` records where brokers spend their time; `compare` runs brokers side by
//! side. Linux only: it waits with epoll and reads `/proc`.
//!
//! Deliberately absent: an async runtime, TLS, authentication, retries, compression. A benchmark with them is one of
//! a client library; this one is to measure the broker.

mod args;
mod board;
mod clock;
mod cluster;
mod compare;
mod consume;
mod failure;
mod json;
mod measured;
mod perf;
mod produce;
mod progress;
mod report;
mod run;
mod socket;
mod spread;
mod usage;
mod verify;
mod wire;

use args::{Cli, Command, LoadArgs};
use failure::Failure;
use std::path::Path;
use std::process::ExitCode;

/// The exit code where an acknowledged record is missing or damaged.
const LOST: u8 = 1;

fn main() -> ExitCode {
    let outcome = Cli::read().and_then(|cli| match &cli.command {
        None => load(&cli.load),
        Some(Command::Compare(args)) => compare::compare(args).map(exit_code),
    });
    outcome.unwrap_or_else(|failure| {
        eprintln!("chronik-bench: {failure}");
        failure.exit_code()
    })
}

fn load(load: &LoadArgs) -> Result<ExitCode, Failure> {
    let report = run::run(load, true)?;
    match load.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{}", report.to_json()),
        Some(path) => {
            println!("{}", report.to_table());
            run::write_json(path, &report.to_json())?;
        }
        None => println!("{}", report.to_table()),
    }
    Ok(exit_code(report.is_good()))
}

fn exit_code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(LOST) }
}
