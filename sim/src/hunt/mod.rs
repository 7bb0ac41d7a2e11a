//! Many seeds, several at once.
//!
//! A run is a function of its plan, so the runs of engine `core` share the process as threads. Those of engine `madsim`
//! need a process each, since things outside of the simulation carry over from one run to the next; whoever hunts says
//! how one run is done.

mod feed;
mod outcome;
mod tally;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use feed::Seeds;
pub use outcome::{Failed, Outcome};
pub use tally::{Tally, thousands};

use crate::trial::EngineName;
use feed::Feed;

/// What is hunted, and how.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Which seeds.
    pub seeds: Seeds,
    /// On which engines.
    pub engines: Vec<EngineName>,
    /// How many runs at once.
    pub jobs: usize,
    /// Whether the first failure ends it.
    pub stops_at_first: bool,
    /// Whether progress is told on standard error.
    pub tells_progress: bool,
}

/// Runs all of a hunt: `carry_out` does one run, on any thread; `on_outcome` is told of each, on this one, and whether
/// it is the first to fail its claim on its engine. The sum counts all of `counters`, also what never happened.
pub fn hunt(
    hunt: &Hunt,
    counters: &[&str],
    carry_out: impl Fn(u64, EngineName) -> Outcome + Sync,
    mut on_outcome: impl FnMut(&Outcome, bool),
) -> (Tally, Duration) {
    let started = Instant::now();
    let feed = Mutex::new(Feed::new(hunt.seeds.clone(), &hunt.engines, started));
    // What a worker holds the lock for cannot leave the feed half changed.
    let locked = || feed.lock().unwrap_or_else(PoisonError::into_inner);
    let mut tally = Tally::counting(counters);
    let mut progress = Progress::new(hunt.tells_progress, started);
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..hunt.jobs {
            let (sender, carry_out) = (sender.clone(), &carry_out);
            scope.spawn(move || {
                loop {
                    let Some((seed, engine)) = locked().next(Instant::now()) else { break };
                    let begun = Instant::now();
                    let outcome = carry_out(seed, engine);
                    let mut feed = locked();
                    feed.done(engine, begun.elapsed());
                    if hunt.stops_at_first && !outcome.failed.is_empty() {
                        feed.stop();
                    }
                    drop(feed);
                    if sender.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        // The workers hold the other ends: when the last of them is done, the channel says so.
        drop(sender);
        loop {
            match outcomes.recv_timeout(Progress::EVERY) {
                Ok(outcome) => {
                    let is_first = tally.add(&outcome);
                    if is_first {
                        progress.clear();
                    }
                    on_outcome(&outcome, is_first);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            progress.tell(&tally);
        }
    });
    progress.clear();
    (tally, started.elapsed())
}

/// A line on standard error that is written over, or one now and then where it is no terminal.
struct Progress {
    is_told: bool,
    is_terminal: bool,
    started: Instant,
    next: Instant,
    width: usize,
}

impl Progress {
    const EVERY: Duration = Duration::from_millis(250);
    const EVERY_IN_A_LOG: Duration = Duration::from_secs(10);

    fn new(is_told: bool, started: Instant) -> Progress {
        let is_terminal = io::stderr().is_terminal();
        let next = started + if is_terminal { Self::EVERY } else { Self::EVERY_IN_A_LOG };
        Progress { is_told, is_terminal, started, next, width: 0 }
    }

    fn tell(&mut self, tally: &Tally) {
        let now = Instant::now();
        if !self.is_told || now < self.next {
            return;
        }
        let line = tally.progress(now.saturating_duration_since(self.started));
        // Progress that cannot be written is no reason to end a hunt.
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r{line:<width$}", width = self.width).and_then(|()| io::stderr().flush());
            self.width = line.chars().count();
            self.next = now + Self::EVERY;
        } else {
            let _ = writeln!(io::stderr(), "{line}");
            self.next = now + Self::EVERY_IN_A_LOG;
        }
    }

    /// Makes room for other text.
    fn clear(&mut self) {
        if self.width > 0 {
            let _ = write!(io::stderr(), "\r{:width$}\r", "", width = self.width);
            self.width = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seed: u64, engine: EngineName) -> Outcome {
        let outcome = Outcome::without_a_word(seed, engine, "it fell silent".to_string());
        if seed % 10 == 3 { outcome } else { Outcome { failed: Vec::new(), ..outcome } }
    }

    fn range(seeds: std::ops::Range<u64>, stops_at_first: bool) -> Hunt {
        let engines = vec![EngineName::Core];
        Hunt { seeds: Seeds::All(seeds), engines, jobs: 3, stops_at_first, tells_progress: false }
    }

    #[test]
    fn every_seed_is_run_once_and_the_first_failure_of_a_claim_is_told_as_such() {
        let mut seen = Vec::new();
        let mut firsts = 0;
        let (tally, _) = hunt(&range(0..100, false), &[], outcome, |outcome, is_first| {
            seen.push(outcome.seed);
            firsts += u32::from(is_first);
        });
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert_eq!((tally.runs(), tally.failures(), firsts), (100, 10, 1));
    }

    #[test]
    fn the_first_failure_can_end_it() {
        let (tally, _) = hunt(&range(0..1_000_000, true), &[], outcome, |_, _| {});
        assert!(tally.failures() >= 1 && tally.runs() < 1_000, "{} runs", tally.runs());
    }
}
