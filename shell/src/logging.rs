//! Where the broker's log goes: standard error, as lines for people or as JSON for collectors.
//!
//! Also what is said when the broker meets a mistake of its own.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::process;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::cli::options::{LogFormat, LogOptions};

/// Sends all that is logged from here on to standard error. To be called once, before anything is logged.
pub fn start(options: &LogOptions) {
    let level = options.level.as_str();
    let wanted: Targets = level.parse().expect("the command line takes only well-formed levels");
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry();
    match options.format {
        LogFormat::Text => {
            let lines = lines.with_target(false).with_ansi(io::stderr().is_terminal());
            registry.with(lines.with_filter(wanted)).init();
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_filter(wanted)).init(),
    }
}

/// Makes every panic end the process, with one line that says where and what to do.
///
/// After a broken assertion nothing in memory can be trusted, and what is on the disk can: the next start recovers
/// from it as from a crash.
pub fn abort_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let what = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without words");
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        // The message may span lines (assert_eq! does), and whoever collects standard error wants one.
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut stderr = io::stderr().lock();
        // There is nobody left to tell where standard error is closed.
        writeln!(
            stderr,
            "chronik-server: stopped by a mistake of its own at {place}: {what}; acknowledged records are safe and \
             the next start recovers them; please report this line"
        )
        .ok();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            writeln!(stderr, "{backtrace}").ok();
        }
        process::abort();
    }));
}
