//! How far a run is, for whoever watches: a bar where standard error is a terminal, and elsewhere, as in the log of a CI
//! job, a plain line from time to time.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How often a bar moves.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// How often a line is written: a log that somebody reads later should not be full of them.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Who is told, and how.
pub(crate) enum Progress {
    /// A person at a terminal.
    Bar(ProgressBar),
    /// Whoever reads standard error.
    Lines,
    /// Nobody: the run is part of a greater one, which tells how far that is.
    Silent,
}

impl Progress {
    /// Of so many steps. The bar's `template` is indicatif's.
    pub(crate) fn new(is_watched: bool, length: u64, template: &str) -> Progress {
        Progress::to(is_watched, std::io::stderr().is_terminal(), length, template)
    }

    fn to(is_watched: bool, is_terminal: bool, length: u64, template: &str) -> Progress {
        match (is_watched, is_terminal) {
            (false, _) => Progress::Silent,
            (true, false) => Progress::Lines,
            (true, true) => {
                let style = ProgressStyle::with_template(template).expect("the template is valid");
                Progress::Bar(ProgressBar::new(length).with_style(style))
            }
        }
    }

    /// How far apart what is told should be.
    pub(crate) fn every(&self) -> Duration {
        match self {
            Progress::Bar(_) => BAR_EVERY,
            Progress::Lines | Progress::Silent => LINE_EVERY,
        }
    }

    /// Tells that `position` is reached, in the bar's steps and as the `place` that a line names.
    pub(crate) fn tell(&self, position: u64, place: &str, doing: &str) {
        match self {
            Progress::Bar(bar) => {
                bar.set_position(position);
                bar.set_message(doing.to_owned());
            }
            Progress::Lines => eprintln!("chronik-bench: {place}: {doing}"),
            Progress::Silent => {}
        }
    }

    /// Nothing more will be told.
    pub(crate) fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// The progress of a run that consists of turns.
pub(crate) struct Turns {
    progress: Progress,
    count: u64,
    passed: Cell<u64>,
    told: Cell<Option<Instant>>,
}

impl Turns {
    /// Of so many turns.
    pub(crate) fn new(count: u64) -> Turns {
        let progress = Progress::new(true, count, "{bar:30} {pos}/{len} {msg}");
        Turns { progress, count, passed: Cell::new(0), told: Cell::new(None) }
    }

    /// The next turn begins.
    pub(crate) fn begin(&self, what: &str) {
        let is_due = self.told.get().is_none_or(|told| told.elapsed() >= LINE_EVERY);
        if is_due || matches!(self.progress, Progress::Bar(_)) {
            self.told.set(Some(Instant::now()));
            let place = format!("turn {} of {}", self.passed.get() + 1, self.count);
            self.progress.tell(self.passed.get(), &place, what);
        }
    }

    /// A turn is over.
    pub(crate) fn passed(&self) {
        self.passed.set(self.passed.get() + 1);
        if let Progress::Bar(bar) = &self.progress {
            bar.set_position(self.passed.get());
        }
    }

    /// All are.
    pub(crate) fn finish(&self) {
        self.progress.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_terminal_gets_a_line_every_few_seconds_and_a_part_of_a_run_nothing() {
        assert!(matches!(Progress::to(true, false, 1, "{msg}"), Progress::Lines));
        assert!(matches!(Progress::to(true, true, 1, "{msg}"), Progress::Bar(_)));
        assert!(matches!(Progress::to(false, false, 1, "{msg}"), Progress::Silent));
        assert!(Progress::Lines.every() >= Duration::from_secs(1));
    }
}
