//! Which leader epoch began at which offset (KIP-101).

use crate::ids::{LeaderEpoch, Offset};

/// The epochs of a log, oldest first. Both epoch and start offset rise strictly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// Rebuilds from entries as [`Epochs::entries`] gives them; entries that do not rise are dropped.
    pub fn from_entries(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, start) in entries {
            epochs.begin(epoch, start);
        }
        epochs
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.starts
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|&(epoch, _)| epoch)
    }

    /// Records that `epoch` begins at `start`. An epoch that wrote nothing before `start` is replaced, so that each
    /// offset belongs to the newest epoch that may have written it (KAFKA-7415, KAFKA-10706).
    pub fn begin(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        while self.starts.last().is_some_and(|&(_, last)| last >= start) {
            self.starts.pop();
        }
        self.starts.push((epoch, start));
    }

    /// Records that a batch of `epoch` lies at `base`, the end of what lies below. Epochs that begin there or above wrote
    /// nothing, even where they are newer: a leader that never wrote may follow one with batches of an older epoch.
    pub fn wrote(&mut self, epoch: LeaderEpoch, base: Offset) {
        if self.latest() != Some(epoch) {
            self.truncate(base);
            self.begin(epoch, base);
        }
    }

    /// Forgets what begins at `end` or above: the log ends there.
    pub fn truncate(&mut self, end: Offset) {
        while self.starts.last().is_some_and(|&(_, start)| start >= end) {
            self.starts.pop();
        }
    }

    /// The largest epoch not above `epoch`, and the offset at which it ended in a log that ends at `end`; `None` where
    /// the log knows no such epoch (KIP-279).
    pub fn end_of(&self, epoch: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.starts.partition_point(|&(known, _)| known <= epoch);
        let &(found, _) = self.starts[..after].last()?;
        Some((found, self.starts.get(after).map_or(end, |&(_, start)| start)))
    }

    /// The epoch that wrote `offset`.
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.starts.partition_point(|&(_, start)| start <= offset);
        self.starts[..after].last().map(|&(epoch, _)| epoch)
    }

    /// Forgets what lies wholly below `start`; the epoch that wrote `start` now begins there.
    pub fn cut_start(&mut self, start: Offset) {
        let below = self.starts.partition_point(|&(_, begun)| begun <= start);
        if below > 0 {
            self.starts.drain(..below - 1);
            self.starts[0].1 = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        Epochs::from_entries(entries.iter().map(|&(epoch, start)| (LeaderEpoch(epoch), Offset(start))))
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next_known_one() {
        let epochs = epochs(&[(0, 0), (2, 10), (5, 30)]);
        let end_of = |epoch| epochs.end_of(LeaderEpoch(epoch), Offset(40)).map(|(e, o)| (e.0, o.0));
        assert_eq!(end_of(0), Some((0, 10)));
        assert_eq!(end_of(1), Some((0, 10)), "an epoch never seen answers with the one before it");
        assert_eq!(end_of(2), Some((2, 30)));
        assert_eq!(end_of(5), Some((5, 40)));
        assert_eq!(end_of(9), Some((5, 40)));
        assert_eq!(end_of(-1), None);
    }

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let mut epochs = epochs(&[(0, 0), (1, 10)]);
        epochs.begin(LeaderEpoch(2), Offset(10));
        assert_eq!(epochs.entries(), [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(2), Offset(10))]);
        epochs.begin(LeaderEpoch(1), Offset(50));
        assert_eq!(epochs.latest(), Some(LeaderEpoch(2)), "an older epoch never begins again");
    }

    #[test]
    fn a_batch_of_an_older_epoch_says_that_a_newer_one_wrote_nothing() {
        let mut epochs = epochs(&[(5, 0), (7, 10)]);
        epochs.wrote(LeaderEpoch(6), Offset(12));
        assert_eq!(epochs.latest(), Some(LeaderEpoch(7)), "it wrote below, and the older one cannot come after it");
        epochs.wrote(LeaderEpoch(6), Offset(10));
        assert_eq!(epochs.entries(), [(LeaderEpoch(5), Offset(0)), (LeaderEpoch(6), Offset(10))]);
    }

    #[test]
    fn cutting_the_end_forgets_epochs_that_began_there() {
        let mut epochs = epochs(&[(0, 0), (2, 10), (5, 30)]);
        epochs.truncate(Offset(31));
        assert_eq!(epochs.latest(), Some(LeaderEpoch(5)));
        epochs.truncate(Offset(30));
        assert_eq!(epochs.latest(), Some(LeaderEpoch(2)));
        epochs.truncate(Offset(0));
        assert_eq!(epochs.entries(), []);
    }

    #[test]
    fn cutting_the_start_keeps_the_epoch_that_wrote_it() {
        let mut epochs = epochs(&[(0, 0), (2, 10), (5, 30)]);
        epochs.cut_start(Offset(12));
        assert_eq!(epochs.entries(), [(LeaderEpoch(2), Offset(12)), (LeaderEpoch(5), Offset(30))]);
        assert_eq!(epochs.at(Offset(29)), Some(LeaderEpoch(2)));
    }
}
