//! What a thread of a run measured, and how several become one.

use crate::clock::Window;
use crate::wire::ErrorCode;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// The longest latency told apart: two minutes, beyond which every run has been given up.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// Counts and latencies of the measured part of a run.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    window: Window,
    /// Answers, and the records and bytes in them, that came within the window.
    pub(crate) requests: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// In nanoseconds, of what was due within the window, whenever its answer came.
    pub(crate) latency: Histogram<u64>,
    /// Requests declined for a passing reason, in the whole run.
    pub(crate) errors: BTreeMap<ErrorCode, u64>,
}

impl Measured {
    pub(crate) fn new(window: Window) -> Measured {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are valid");
        Measured { window, requests: 0, records: 0, bytes: 0, latency, errors: BTreeMap::new() }
    }

    /// One answer at `now` to what was due at `due`.
    pub(crate) fn answered(&mut self, due: u64, now: u64, records: u64, bytes: u64) {
        if self.window.contains(now) {
            self.requests += 1;
            self.records += records;
            self.bytes += bytes;
        }
        if self.window.contains(due) {
            self.latency.saturating_record(now.saturating_sub(due).max(1));
        }
    }

    pub(crate) fn declined(&mut self, code: ErrorCode) {
        *self.errors.entry(code).or_default() += 1;
    }

    /// Adds what another thread of the same run measured.
    pub(crate) fn merge(&mut self, other: Measured) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.latency.add(other.latency).expect("all histograms have the same bounds");
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
    }
}

/// What the broker acknowledged of one partition, in the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) records: u64,
    /// The lowest offset acknowledged, and the one after the highest.
    pub(crate) first: i64,
    pub(crate) end: i64,
}

impl Acked {
    pub(crate) const NOTHING: Acked = Acked { records: 0, first: i64::MAX, end: i64::MIN };

    pub(crate) fn add(&mut self, base_offset: i64, records: u32) {
        self.merge(Acked { records: u64::from(records), first: base_offset, end: base_offset + i64::from(records) });
    }

    pub(crate) fn merge(&mut self, other: Acked) {
        self.records += other.records;
        self.first = self.first.min(other.first);
        self.end = self.end.max(other.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_counts_answers_and_latency_counts_what_was_due() {
        let mut measured = Measured::new(Window { from: 100, until: 200 });
        measured.answered(90, 110, 1, 10); // due while warming up
        measured.answered(110, 120, 1, 10);
        measured.answered(190, 5_190, 1, 10); // answered after the end
        assert_eq!((measured.requests, measured.records, measured.bytes), (2, 2, 20));
        assert_eq!(measured.latency.len(), 2);
        assert!((4_990..=5_010).contains(&measured.latency.max()), "a stall at the end is not lost");
    }

    #[test]
    fn acknowledgements_span_from_the_first_to_the_last() {
        let mut acked = Acked::NOTHING;
        acked.merge(Acked::NOTHING);
        assert_eq!(acked, Acked::NOTHING);
        acked.add(10, 5);
        acked.add(3, 2);
        assert_eq!(acked, Acked { records: 7, first: 3, end: 15 });
    }
}
