//! One monotonic clock for all threads of a run, and the part of its time that counts.

use std::time::{Duration, Instant};

/// Nanoseconds since the run began; the same on every thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("a run is shorter than 500 years")
    }

    pub(crate) fn sleep_until(self, instant: u64) {
        std::thread::sleep(Duration::from_nanos(instant.saturating_sub(self.now())));
    }
}

/// From `from` to `until`, in nanoseconds of the clock, is measured; before is warm-up, after is draining.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Window {
    pub(crate) fn contains(self, instant: u64) -> bool {
        instant >= self.from && instant < self.until
    }
}

/// When the next request is due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Whenever an earlier one has been answered.
    Closed,
    /// Request `n` is due `n` intervals after the start, whatever became of the others. A latency taken from there
    /// counts the time that a request waits for its turn behind a stall (no coordinated omission).
    Open { start: u64, interval_ns: f64 },
}

impl Pace {
    /// The moment request `n` is, or was, due; a closed loop is due at once.
    pub(crate) fn due(self, n: u64, now: u64) -> u64 {
        match self {
            Pace::Closed => now,
            Pace::Open { start, interval_ns } => start + (n as f64 * interval_ns) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_schedule_does_not_wait_for_anyone() {
        let pace = Pace::Open { start: 1_000, interval_ns: 2.5 };
        assert_eq!([0, 1, 2, 4].map(|n| pace.due(n, 999_999)), [1_000, 1_002, 1_005, 1_010]);
        assert_eq!(Pace::Closed.due(7, 42), 42);
    }

    #[test]
    fn the_window_is_half_open() {
        let window = Window { from: 10, until: 20 };
        assert_eq!([9, 10, 19, 20].map(|instant| window.contains(instant)), [false, true, true, false]);
    }
}
