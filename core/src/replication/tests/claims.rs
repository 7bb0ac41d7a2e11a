//! What is claimed of every life of a partition. Each claim names the seed that breaks it.

use std::collections::BTreeMap;

use super::store::{Record, Store};
use crate::ids::{LeaderEpoch, Offset};

/// What has been promised, by whom.
pub(super) struct Claims {
    seed: u64,
    /// What lies at each offset for good, since somebody said that it was below a high watermark; and the first leader
    /// epoch in which that was said.
    settled: BTreeMap<Offset, (Record, LeaderEpoch)>,
    /// What was acknowledged to acks=all, and in which leader epoch.
    acked: Vec<(Offset, Record, LeaderEpoch)>,
    /// The log's end at the start of each leader's epoch.
    epoch_starts: BTreeMap<LeaderEpoch, Offset>,
    /// The end and the start that clients were shown by each leader.
    shown: BTreeMap<LeaderEpoch, (Offset, Offset)>,
}

impl Claims {
    pub(super) fn new(seed: u64) -> Claims {
        Claims {
            seed,
            settled: BTreeMap::new(),
            acked: Vec::new(),
            epoch_starts: BTreeMap::new(),
            shown: BTreeMap::new(),
        }
    }

    /// A broker begins to lead, perhaps late, when others after it have promised more: it has all that was promised in
    /// earlier epochs, nobody has led in its epoch before, and it shows nothing that was said to be gone.
    pub(super) fn leads(&mut self, epoch: LeaderEpoch, store: &Store) {
        let seed = self.seed;
        let log = &store.memory;
        let has = |offset: Offset, record: Record| offset < log.start || log.at(offset) == Some(record);
        for (offset, record, _) in self.acked.iter().filter(|(.., promised)| *promised < epoch) {
            assert!(has(*offset, *record), "seed {seed}: {epoch} begins without {offset}, which was acknowledged");
        }
        for (offset, (record, _)) in self.settled.iter().filter(|(_, (_, promised))| *promised < epoch) {
            assert!(has(*offset, *record), "seed {seed}: {epoch} begins without {offset}, which was settled");
        }
        for (end, start) in self.shown.range(..epoch).map(|(_, shown)| *shown) {
            assert!(log.end() >= end, "seed {seed}: {epoch} begins with less than was shown");
            assert!(log.start >= start, "seed {seed}: {epoch} shows again what was gone");
        }
        let known = self.epoch_starts.insert(epoch, log.end());
        assert_eq!(known, None, "seed {seed}: two leaders in {epoch}");
    }

    /// A leader's high watermark has advanced: the in-sync set holds everything below it on disk, and no leader after it
    /// has begun with less.
    pub(super) fn advanced<'a>(
        &self,
        epoch: LeaderEpoch,
        high_watermark: Offset,
        in_sync: impl Iterator<Item = &'a Store>,
    ) {
        let seed = self.seed;
        for store in in_sync {
            let held = store.disk.end();
            assert!(held >= high_watermark, "seed {seed}: one in sync holds {held}, not {high_watermark}");
        }
        for (later, begun) in self.epoch_starts.range(LeaderEpoch(epoch.0 + 1)..) {
            assert!(high_watermark <= *begun, "seed {seed}: {epoch} settles what {later} began without");
        }
    }

    /// Whoever has a high watermark has below it what everybody has there.
    pub(super) fn settled(&mut self, store: &Store, high_watermark: Offset, epoch: LeaderEpoch) {
        // What lies further back was compared when it was settled, and again with every leader that begins.
        let newest = self.settled.last_key_value().map_or(0, |(newest, _)| newest.0);
        for offset in ((newest - 8).max(store.memory.start.0)..high_watermark.0).map(Offset) {
            let record = store.memory.at(offset).expect("a high watermark is in the log");
            let known = self.settled.entry(offset).or_insert((record, epoch));
            known.1 = known.1.min(epoch);
            assert_eq!(known.0, record, "seed {}: logs differ at {offset}, below a high watermark", self.seed);
        }
    }

    /// What a leader shows as end and start, if it knows: neither goes back, and the end not behind an earlier leader's.
    pub(super) fn showed(&mut self, epoch: LeaderEpoch, end: Option<Offset>, start: Option<Offset>) {
        let seed = self.seed;
        let before = self.shown.range(..epoch).map(|(_, (end, _))| *end).max();
        let shown = self.shown.entry(epoch).or_default();
        assert!(end.is_none_or(|end| end >= shown.0 && Some(end) >= before), "seed {seed}: the end goes backwards");
        assert!(start.is_none_or(|start| start >= shown.1), "seed {seed}: the start goes backwards");
        *shown = (end.unwrap_or(shown.0), start.unwrap_or(shown.1));
    }

    /// Records were acknowledged.
    pub(super) fn acked(&mut self, epoch: LeaderEpoch, records: Vec<(Offset, Record)>) {
        self.acked.extend(records.into_iter().map(|(offset, record)| (offset, record, epoch)));
    }

    /// Whoever is in sync has, on disk, all that was ever settled.
    pub(super) fn joined(&self, store: &Store) {
        for (offset, (record, _)) in self.settled.range(store.disk.start..) {
            assert!(store.disk.at(*offset) == Some(*record), "seed {}: one in sync lacks {offset}", self.seed);
        }
    }
}
