//! Acks that do not wait for the disk: several commits may be lost together, and none of them may come back.

use chronik_core::ids::Lsn;
use chronik_core::journal::{Commit, MemorySlots, RecordKind, Start, Writer};

use super::world::{Dice, GEOMETRY, JOURNAL, partition, replay};

struct Unsynced {
    medium: MemorySlots,
    cache: MemorySlots,
    writer: Writer,
    /// Ends of the commits since the last sync, in order.
    written: Vec<Commit>,
    /// The LSNs of all records that count.
    records: Vec<Lsn>,
    incarnation: u64,
}

impl Unsynced {
    fn write(&mut self) {
        if let Some(commit) = self.writer.take_commit() {
            self.cache.write_at(commit.slot, commit.position, &commit.data);
            self.writer.written(commit.number);
            let must_sync = commit.must_sync;
            self.written.push(commit);
            if must_sync {
                self.sync();
            }
        }
    }

    fn sync(&mut self) {
        self.medium = self.cache.clone();
        if let Some(last) = self.written.drain(..).next_back() {
            assert_eq!(self.writer.committed(last.number), last.end);
        }
    }

    /// Every sector that was not synced survives or not: the commits up to the first incomplete one come back.
    fn lose_power(&mut self, dice: &mut Dice) {
        let bias = dice.below(8);
        for (medium, cache) in self.medium.0.iter_mut().zip(&self.cache.0) {
            for (old, new) in medium.chunks_mut(512).zip(cache.chunks(512)) {
                if old != new && dice.below(8) <= bias {
                    old.copy_from_slice(new);
                }
            }
        }
        self.cache = self.medium.clone();
        let is_whole = |commit: &&Commit| {
            let from = commit.position as usize;
            self.medium.0[commit.slot as usize][from..from + commit.data.len()] == commit.data[..]
        };
        let end = self.written.iter().take_while(is_whole).last().map_or(self.writer.durable(), |commit| commit.end);
        self.records.retain(|lsn| *lsn < end);
        let (recovered, listener) = replay(&self.medium, &Start::fresh(JOURNAL)).expect("what was synced is there");
        assert_eq!(listener.damages, []);
        assert_eq!(listener.told.iter().map(|told| told.lsn).collect::<Vec<_>>(), self.records);
        self.written.clear();
        self.incarnation += 1;
        self.writer = Writer::resume(recovered, self.incarnation, GEOMETRY);
        while !self.writer.is_settled() {
            self.write();
        }
    }
}

#[test]
fn commits_that_were_not_synced_are_lost_from_the_first_torn_one_on() {
    let mut dice = Dice(21);
    let mut lost = 0;
    for _ in 0..40 {
        let cache = MemorySlots::zeroed(24, GEOMETRY.file_bytes);
        let (recovered, _) = replay(&cache, &Start::fresh(JOURNAL)).expect("nothing is there");
        let writer = Writer::resume(recovered, 1, GEOMETRY);
        let medium = cache.clone();
        let mut node = Unsynced { medium, cache, writer, written: Vec::new(), records: Vec::new(), incarnation: 1 };
        for _ in 0..60 {
            match dice.below(16) {
                0 => {
                    let before = node.records.len();
                    node.lose_power(&mut dice);
                    lost += before - node.records.len();
                }
                1 => node.sync(),
                _ => {
                    let payload = vec![dice.roll() as u8; [100, 3000, 9000][dice.below(3) as usize]];
                    let kind = if dice.below(8) == 0 { RecordKind::Truncate } else { RecordKind::Append };
                    node.records.push(node.writer.append(kind, partition(1), None, &[&payload]));
                    node.write();
                }
            }
        }
        node.lose_power(&mut dice);
    }
    assert!(lost > 50, "{lost}");
}
