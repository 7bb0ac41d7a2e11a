//! A bound on bytes a second, as a value: for replicas that are made anew and must leave room for the work at hand.
//!
//! What is spent is paid by time alone. Whoever finds the bound open may spend what it has at hand, and the next one waits
//! until that is paid: so the rate holds over any time that is long beside one piece, and a piece that comes to nothing
//! costs time and nothing else.

use std::time::Duration;

use crate::time::Instant;

/// What was not used in so much time is lost: who is woken a little late does not fall short of the rate.
const KEPT: Duration = Duration::from_millis(100);

/// A bound on bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    /// In bytes a second; `u64::MAX` and `i64::MAX`, which is Kafka's default, are no bound.
    rate: u64,
    /// When everything that was spent is paid.
    paid_at: Instant,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle { rate: u64::MAX, paid_at: Instant(0) }
    }
}

impl Throttle {
    /// Obeys another rate from now on. With 0 nothing passes at all.
    pub fn obey(&mut self, rate: u64) {
        if rate != self.rate {
            *self = Throttle { rate, paid_at: Instant(0) };
        }
    }

    /// Whether there is a bound.
    pub fn is_bound(&self) -> bool {
        self.rate < i64::MAX as u64
    }

    /// Whether something may be spent now.
    pub fn is_open(&self, now: Instant) -> bool {
        self.opens_at().is_some_and(|at| at <= now)
    }

    /// When something may be spent again; `None` for never.
    pub fn opens_at(&self) -> Option<Instant> {
        (self.rate > 0).then_some(self.paid_at)
    }

    /// Spends so many bytes, however many there are.
    pub fn spend(&mut self, bytes: usize, now: Instant) {
        if self.is_bound() {
            let earliest = Instant(now.0.saturating_sub(KEPT.as_nanos() as u64));
            self.paid_at = self.paid_at.max(earliest) + self.price(bytes);
        }
    }

    /// So many bytes were spent in advance, and came to nothing.
    pub fn refund(&mut self, bytes: usize) {
        if self.is_bound() {
            let price = u64::try_from(self.price(bytes).as_nanos()).unwrap_or(u64::MAX);
            self.paid_at = Instant(self.paid_at.0.saturating_sub(price));
        }
    }

    fn price(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_passes_in_a_while_is_what_the_rate_allows() {
        let mut throttle = Throttle::default();
        throttle.obey(1000);
        let (mut passed, end) = (0, 60 * SECOND);
        let mut now = SECOND;
        while now < end {
            while throttle.is_open(Instant(now)) {
                throttle.spend(300, Instant(now));
                passed += 300;
            }
            // Somewhat late, as wakings are.
            now = throttle.opens_at().expect("a rate above 0").0.max(now) + SECOND / 100;
        }
        assert!((58_000..=60_000).contains(&passed), "{passed}");
    }

    #[test]
    fn what_was_spent_for_nothing_is_given_back() {
        let mut throttle = Throttle::default();
        throttle.obey(1000);
        let now = Instant(10 * SECOND);
        throttle.spend(5000, now);
        throttle.refund(4900);
        assert!(throttle.is_open(now), "100 bytes are what the last moments brought");
        throttle.spend(1000, now);
        assert_eq!(throttle.opens_at(), Some(Instant(11 * SECOND)));
    }

    #[test]
    fn with_no_rate_all_passes_and_with_none_at_all_nothing() {
        let mut throttle = Throttle::default();
        throttle.obey(i64::MAX as u64);
        throttle.spend(usize::MAX, Instant(1));
        assert!(throttle.is_open(Instant(1)));
        throttle.obey(0);
        assert!(!throttle.is_open(Instant(u64::MAX)));
        throttle.obey(5);
        assert!(throttle.is_open(Instant(1)), "another rate begins anew");
    }
}
