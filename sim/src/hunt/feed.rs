//! What is to be run next.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::trial::EngineName;

/// Which seeds.
#[derive(Clone, Debug)]
pub enum Seeds {
    /// Each of them, on every engine.
    All(Range<u64>),
    /// From this one on until the time is over, every engine for the same part of it.
    During(u64, Duration),
}

/// Hands out seeds and engines.
#[derive(Debug)]
pub(super) struct Feed {
    seeds: Seeds,
    engines: Vec<Lot>,
    started: Instant,
    is_stopped: bool,
}

/// What an engine had.
#[derive(Debug)]
struct Lot {
    engine: EngineName,
    next: u64,
    spent: Duration,
    running: u32,
}

impl Feed {
    pub(super) fn new(seeds: Seeds, engines: &[EngineName], started: Instant) -> Feed {
        let (Seeds::All(Range { start: first, .. }) | Seeds::During(first, _)) = &seeds;
        let lot = |engine: &EngineName| Lot { engine: *engine, next: *first, spent: Duration::ZERO, running: 0 };
        Feed { engines: engines.iter().map(lot).collect(), seeds, started, is_stopped: false }
    }

    /// The next run, `None` when all is done.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, EngineName)> {
        if self.is_stopped {
            return None;
        }
        let lot = match &self.seeds {
            // A seed's runs lie together, so that a range that is cut short has judged the same seeds on every engine.
            Seeds::All(range) => {
                self.engines.iter_mut().min_by_key(|lot| lot.next).filter(|lot| lot.next < range.end)?
            }
            Seeds::During(_, time) if now.saturating_duration_since(self.started) >= *time => return None,
            Seeds::During(..) => self.engines.iter_mut().min_by_key(|lot| (lot.running, lot.spent))?,
        };
        lot.running += 1;
        lot.next += 1;
        Some((lot.next - 1, lot.engine))
    }

    /// A run is over.
    pub(super) fn done(&mut self, engine: EngineName, took: Duration) {
        if let Some(lot) = self.engines.iter_mut().find(|lot| lot.engine == engine) {
            lot.running -= 1;
            lot.spent += took;
        }
    }

    /// Nothing more.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EngineName::{Core, Madsim};

    #[test]
    fn a_range_is_run_whole_on_every_engine() {
        let now = Instant::now();
        let mut feed = Feed::new(Seeds::All(7..9), &[Core, Madsim], now);
        let all: Vec<_> = std::iter::from_fn(|| feed.next(now)).collect();
        assert_eq!(all, [(7, Core), (7, Madsim), (8, Core), (8, Madsim)]);
    }

    #[test]
    fn a_hunt_gives_every_engine_the_same_time() {
        let now = Instant::now();
        let mut feed = Feed::new(Seeds::During(0, Duration::from_secs(60)), &[Core, Madsim], now);
        let mut runs = [0, 0];
        for _ in 0..40 {
            let (_, engine) = feed.next(now).expect("the time is not over");
            runs[engine as usize] += 1;
            feed.done(engine, Duration::from_millis(if engine == Core { 10 } else { 30 }));
        }
        assert_eq!(runs, [30, 10]);
        assert_eq!(feed.next(now + Duration::from_secs(60)), None);
    }

    #[test]
    fn nothing_comes_after_a_stop() {
        let now = Instant::now();
        let mut feed = Feed::new(Seeds::All(0..9), &[Core], now);
        feed.stop();
        assert_eq!(feed.next(now), None);
    }
}
