//! A node's journal on a disk that can lose what was not synced, and a model of what it must give back.

use chronik_core::ids::{Lsn, TopicPartition, Uuid};
use chronik_core::journal::{
    BLOCK_BYTES, Commit, Damage, Geometry, MemorySlots, Position, Record, RecordKind, Recovered, RecoveryError, Start,
    Visitor, Writer, recover,
};

pub(crate) const JOURNAL: Uuid = Uuid([0xc4; 16]);
pub(crate) const GEOMETRY: Geometry = Geometry { file_bytes: 64 * 1024, max_files: 5, reserve_bytes: 8192 };

/// A generator that needs no state but a number (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

pub(crate) fn partition(number: u64) -> TopicPartition {
    TopicPartition { topic: Uuid([1 + (number / 4) as u8; 16]), partition: (number % 4) as i32 }
}

/// A record with its payload, as appended and as found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) lsn: Lsn,
    pub(crate) kind: RecordKind,
    pub(crate) partition: TopicPartition,
    pub(crate) previous: Option<Lsn>,
    pub(crate) payload: Vec<u8>,
}

/// Remembers everything.
#[derive(Default)]
pub(crate) struct Listener {
    pub(crate) told: Vec<Told>,
    pub(crate) damages: Vec<Damage>,
}

impl Visitor for Listener {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let Record { kind, partition, lsn, previous, payload, .. } = *record;
        self.told.push(Told { lsn, kind, partition, previous, payload: payload.to_vec() });
        Ok(())
    }

    fn damaged(&mut self, damage: &Damage) -> Result<(), String> {
        self.damages.push(*damage);
        Ok(())
    }
}

pub(crate) fn replay(slots: &MemorySlots, start: &Start) -> Result<(Recovered, Listener), RecoveryError> {
    let mut listener = Listener::default();
    let recovered = recover(slots, start, &mut listener)?;
    Ok((recovered, listener))
}

/// What the operating system shows, and what would be left without power.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) cache: MemorySlots,
    medium: MemorySlots,
}

impl Disk {
    pub(crate) fn new(slots: u32) -> Disk {
        let cache = MemorySlots::zeroed(slots, GEOMETRY.file_bytes);
        Disk { medium: cache.clone(), cache }
    }

    pub(crate) fn add_slot(&mut self) {
        self.cache.0.push(vec![0; GEOMETRY.file_bytes as usize]);
        self.medium.0.push(vec![0; GEOMETRY.file_bytes as usize]);
    }

    fn sync(&mut self, commit: &Commit) {
        self.medium.write_at(commit.slot, commit.position, &commit.data);
        self.cache.write_at(commit.slot, commit.position, &commit.data);
    }

    /// Each sector of `commit` reaches the cache or not.
    fn half_write(&mut self, commit: &Commit, sector: usize, dice: &mut Dice) {
        for (index, piece) in commit.data.chunks(sector).enumerate() {
            if dice.below(2) == 0 {
                self.cache.write_at(commit.slot, commit.position + (index * sector) as u64, piece);
            }
        }
    }

    /// Each sector that was not synced reaches the medium or not.
    fn lose_power(&mut self, sector: usize, dice: &mut Dice) {
        // Now and then all or nothing, which fair coins would hardly ever give.
        let bias = [0, 1, 4, 7, 8][dice.below(5) as usize];
        for (medium, cache) in self.medium.0.iter_mut().zip(&self.cache.0) {
            for (old, new) in medium.chunks_mut(sector).zip(cache.chunks(sector)) {
                if old != new && dice.below(8) < bias {
                    old.copy_from_slice(new);
                }
            }
        }
        self.cache = self.medium.clone();
    }

    fn holds(&self, commit: &Commit) -> bool {
        let from = commit.position as usize;
        self.cache.0[commit.slot as usize][from..from + commit.data.len()] == commit.data[..]
    }
}

/// A commit that was handed out and not synced, with its records.
struct Unsynced {
    commit: Commit,
    records: Vec<Told>,
}

/// The journal, its disk, and the model.
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) writer: Writer,
    /// In order; all durable.
    durable: Vec<Told>,
    durable_number: u64,
    /// All commits that were ever handed out under the number after `durable_number`.
    unsynced: Vec<Unsynced>,
    in_flight: Option<Commit>,
    /// Appended and in no commit yet.
    pending: Vec<Told>,
    older: Position,
    newest: Position,
    incarnation: u64,
    pub(crate) commits_cut: u64,
    pub(crate) commits_kept: u64,
}

impl World {
    pub(crate) fn new(slots: u32) -> World {
        let disk = Disk::new(slots);
        let (recovered, _) = replay(&disk.cache, &Start::fresh(JOURNAL)).expect("nothing is there");
        World {
            disk,
            writer: Writer::resume(recovered, 1, GEOMETRY),
            durable: Vec::new(),
            durable_number: 0,
            unsynced: Vec::new(),
            in_flight: None,
            pending: Vec::new(),
            older: Position::START,
            newest: Position::START,
            incarnation: 1,
            commits_cut: 0,
            commits_kept: 0,
        }
    }

    pub(crate) fn append(&mut self, kind: RecordKind, partition: TopicPartition, payload: Vec<u8>) {
        let previous = self.pending.last().or(self.durable.last()).map(|told| told.lsn);
        let (head, tail) = payload.split_at(payload.len() / 3);
        let lsn = self.writer.append(kind, partition, previous, &[head, tail]);
        self.pending.push(Told { lsn, kind, partition, previous, payload });
    }

    /// Hands the next commit to the operating system. Returns whether there was one.
    pub(crate) fn take(&mut self) -> bool {
        let Some(commit) = self.writer.take_commit() else {
            let is_idle = self.in_flight.is_some() || self.pending.is_empty();
            assert!(is_idle || !self.writer.is_settled(), "what was admitted has room");
            return false;
        };
        assert!(self.in_flight.is_none(), "one commit is in flight at a time");
        assert_eq!(commit.position % BLOCK_BYTES, 0);
        assert_eq!(commit.data.len() as u64 % BLOCK_BYTES, 0);
        assert_eq!(commit.data.as_ptr().align_offset(BLOCK_BYTES as usize), 0);
        let taken = self.pending.partition_point(|told| told.lsn < commit.end);
        let records = self.pending.drain(..taken).collect();
        assert_eq!(commit.number, self.durable_number + 1, "numbers have no gaps");
        if self.unsynced.iter().all(|unsynced| unsynced.commit.data != commit.data) {
            self.unsynced.push(Unsynced { commit: commit.clone(), records });
        }
        self.disk.cache.write_at(commit.slot, commit.position, &commit.data);
        self.in_flight = Some(commit);
        true
    }

    pub(crate) fn sync(&mut self) {
        let Some(commit) = self.in_flight.take() else { return };
        self.disk.sync(&commit);
        let number = commit.number;
        let unsynced = std::mem::take(&mut self.unsynced);
        let done = unsynced.into_iter().find(|unsynced| unsynced.commit.data == commit.data);
        self.durable.extend(done.expect("it was handed out").records);
        self.durable_number = number;
        drop(commit);
        let durable = self.writer.committed(number);
        assert_eq!(durable, self.durable_end());
    }

    pub(crate) fn commit(&mut self) {
        while self.in_flight.is_some() || self.take() {
            self.sync();
        }
    }

    fn durable_end(&self) -> Lsn {
        self.writer.durable_position().lsn
    }

    pub(crate) fn checkpoint(&mut self) {
        if !self.writer.is_settled() {
            return;
        }
        self.older = std::mem::replace(&mut self.newest, self.writer.durable_position());
        self.writer.recycle(self.older.lsn);
    }

    pub(crate) fn add_slot_if_wanted(&mut self) {
        if self.writer.wants_slot() {
            self.writer.add_slot();
            self.disk.add_slot();
        }
    }

    pub(crate) fn start(&self) -> Start {
        Start { journal: JOURNAL, replay: self.newest, keep: self.older.lsn }
    }

    /// The process ends in the middle of a write; the page cache stays.
    pub(crate) fn kill(&mut self, sector: usize, seed: u64) {
        let mut dice = Dice(seed);
        if self.in_flight.is_none()
            && let Some(commit) = self.writer.take_commit()
        {
            let taken = self.pending.partition_point(|told| told.lsn < commit.end);
            let records = self.pending.drain(..taken).collect();
            self.disk.half_write(&commit, sector, &mut dice);
            if self.unsynced.iter().all(|unsynced| unsynced.commit.data != commit.data) {
                self.unsynced.push(Unsynced { commit, records });
            }
        }
        self.restart();
    }

    /// The machine loses power; of what was not synced each sector survives or not.
    pub(crate) fn lose_power(&mut self, sector: usize, seed: u64) {
        self.disk.lose_power(sector, &mut Dice(seed));
        self.restart();
    }

    /// Recovers, and checks that exactly the durable records come back, and those of an unsynced commit if the disk
    /// holds all of it.
    pub(crate) fn restart(&mut self) {
        (self.in_flight, self.pending) = (None, Vec::new());
        let (recovered, listener) = replay(&self.disk.cache, &self.start()).expect("no durable byte was touched");
        assert_eq!(listener.damages, []);
        let older = Start { replay: self.older, ..self.start() };
        let (from_older, older_listener) = replay(&self.disk.cache, &older).expect("the older checkpoint still serves");
        assert_eq!(from_older.position, recovered.position);
        assert!(older_listener.told.ends_with(&listener.told));
        assert!(older_listener.told.first().is_none_or(|told| told.lsn == self.older.lsn));
        let whole: Vec<_> = self.unsynced.iter().filter(|unsynced| self.disk.holds(&unsynced.commit)).collect();
        assert!(whole.len() <= 1, "commits of one number overwrite each other");
        let kept = whole.first();
        let mut expect: Vec<_> = self.durable.iter().filter(|told| told.lsn >= self.newest.lsn).cloned().collect();
        expect.extend(kept.iter().flat_map(|unsynced| unsynced.records.iter().cloned()));
        assert_eq!(listener.told, expect);
        let number = self.durable_number + u64::from(kept.is_some());
        assert_eq!(recovered.position.commit_number, number + 1);
        assert_eq!(recovered.records, expect.len() as u64);
        self.commits_kept += u64::from(kept.is_some());
        self.commits_cut += u64::from(recovered.cut.is_some());

        let last_end = expect.last().map_or(self.newest.lsn, |_| recovered.position.lsn);
        assert!(recovered.position.lsn >= last_end);
        // What had been synced needs no second write, but recovery cannot know that it was.
        let is_rewritten = recovered.last.is_some();
        self.incarnation += 1;
        self.writer = Writer::resume(recovered, self.incarnation, GEOMETRY);
        if is_rewritten && kept.is_none() {
            self.rewrite_durable();
        }
    }

    /// Recovery writes the last commit again though it is durable: nothing changes but that it takes a sync.
    fn rewrite_durable(&mut self) {
        let commit = self.writer.take_commit().expect("the last commit comes first");
        assert_eq!(commit.number, self.durable_number);
        assert!(self.disk.holds(&commit), "it is written as it was");
        self.writer.committed(commit.number);
    }

    pub(crate) fn durable(&self) -> &[Told] {
        &self.durable
    }
}
