//! A disk that lies as real ones do.
//!
//! [`SimDisk`] is one data folder. What is written is in the page cache; a sync makes it durable, and until then each
//! part of it may or may not survive a power loss, in any order:
//!
//! | change | persists or not |
//! |---|---|
//! | write | by sector, each as the cache had it after one of the writes to it; the file is as long as what persisted |
//! | cut, reservation | as a whole |
//! | file or folder made or removed | as a whole, until its folder is synced, which the sync of a new file does |
//!
//! A crash of the process loses nothing of that: it only stops. Beyond both there are faults that strike when their time
//! comes: a full disk, syncs, writes and reads that fail, flipped bits, misdirected writes, lying syncs.
//!
//! Time is not its matter: it counts what it is asked to do ([`Cost`]), and whoever drives it says how long that takes.
//! A write costs two copies of its bytes, a sync none at all; nothing costs by the length of a file but the summing up
//! at the end ([`SimDisk::digest`]) and a power loss.

mod faults;
mod file;
mod image;
mod power;
mod tree;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chronik_core::boundary::{DIRECT_BLOCK, DiskError, FileName, Files, SegmentName};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::rng::Rng;

use self::faults::Faults;
pub use self::faults::{Flipped, kind_of};
use self::file::File;
use self::image::{PAGE, pages_in};
pub use self::power::PowerLoss;
use self::power::{Coins, Tally};
use self::tree::Tree;

/// One data folder on a simulated disk. Clones are disks of their own.
#[derive(Debug, Default)]
pub struct SimDisk {
    state: Mutex<State>,
}

/// What a disk was asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Syncs of a file.
    pub syncs: u64,
    /// Calls that write.
    pub writes: u64,
    /// What they wrote, in bytes.
    pub bytes_written: u64,
    /// Calls that read.
    pub reads: u64,
    /// What they read, in bytes.
    pub bytes_read: u64,
    /// Reservations, cuts, and files and folders made or removed.
    pub others: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    tree: Tree,
    faults: Faults,
    /// How many changes were made.
    changes: u64,
    /// So many further changes are made; those after them are not, since the process is dead. `None` while it lives.
    left: Option<u64>,
    /// What the files take, in blocks.
    used: u64,
    counters: BTreeMap<&'static str, u64>,
    cost: Cost,
}

impl Clone for SimDisk {
    fn clone(&self) -> SimDisk {
        SimDisk { state: Mutex::new(self.state().clone()) }
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        // A broker that panics in the middle of a call leaves the files as a call that ended there would.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process dies now: its caches stay, and nothing that it still wants done is done.
    pub fn crash(&self) {
        self.die_after(0);
    }

    /// The process dies after so many further changes of files: of what it is doing, the rest is not done and fails.
    pub fn die_after(&self, changes: u64) {
        self.state().left = Some(changes);
    }

    /// Whether the process died.
    pub fn is_dead(&self) -> bool {
        self.state().left == Some(0)
    }

    /// An empty disk takes its place, as full or not as it was.
    pub fn replace(&self) {
        let state = &mut *self.state();
        *state = State {
            faults: state.faults.of_another_disk(),
            counters: std::mem::take(&mut state.counters),
            cost: state.cost,
            ..State::default()
        };
    }

    /// The process is started again. What is in the page cache is still there.
    pub fn revive(&self) {
        self.state().left = None;
    }

    /// The power fails. Of what was not synced, each part persists with a chance of `keep_permille` thousandths, by a
    /// key made of its file and its number among the file's changes. What persists or vanishes as one part of a write
    /// is `sector_bytes` long. The process is as dead or alive as before.
    ///
    /// Counts `disk_power_losses` and what is lost: `disk_tail_lost`, `disk_torn_512` (sectors smaller than a block),
    /// `disk_torn_4096`, `disk_reordered`, `disk_reordered_across_files`, `disk_create_lost`, `disk_remove_lost` and
    /// `disk_truncate_lost`.
    ///
    /// # Panics
    /// If a block of 4096 bytes is not made of whole sectors.
    pub fn lose_power(&self, rng: Rng, keep_permille: u32, sector_bytes: u32) -> PowerLoss {
        let state = &mut *self.state();
        let mut tally = Tally::default();
        state.tree.lose_power(&Coins::new(rng, keep_permille, sector_bytes), &mut tally);
        state.used = state.tree.files().map(|(_, file)| file.cache.blocks.count()).sum();
        let lost = tally.finish();
        let torn = if (sector_bytes as usize) < PAGE { "disk_torn_512" } else { "disk_torn_4096" };
        for (name, times) in [
            ("disk_power_losses", 1),
            ("disk_tail_lost", lost.tails),
            (torn, lost.torn),
            ("disk_reordered", lost.reordered),
            ("disk_reordered_across_files", lost.is_reordered_across_files.into()),
            ("disk_create_lost", lost.creates),
            ("disk_remove_lost", lost.removes),
            ("disk_truncate_lost", lost.truncates),
        ] {
            state.count(name, times);
        }
        lost
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<FileName> {
        self.state().tree.files().map(|(name, _)| name).collect()
    }

    /// What a file holds in the page cache, `None` where there is no such file.
    pub fn content(&self, file: FileName) -> Option<Bytes> {
        let state = self.state();
        let cache = &state.tree.find(file)?.cache;
        let mut bytes = vec![0; usize::try_from(cache.length()).expect("a simulated file fits in memory")];
        cache.read(0, &mut bytes);
        Some(bytes.into())
    }

    /// What the files take with what is reserved for them, in bytes: whole blocks.
    pub fn used_bytes(&self) -> u64 {
        self.state().used * PAGE as u64
    }

    /// A number that stands for all that is durable. It reads everything.
    pub fn digest(&self) -> u64 {
        let state = self.state();
        let mut sum: u64 = 0;
        let mut mix = |number: u64| sum = (sum.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (name, file) in state.tree.durable() {
            mix(u64::from(crc32c::crc32c(name.to_string().as_bytes())));
            mix(file.durable.length());
            for (page, bytes) in file.durable.pages() {
                let crc = crc32c::crc32c(bytes);
                // A page of zeros is the same whether it takes memory or not.
                if crc != zeros_crc() || bytes != &[0; PAGE] {
                    mix(page as u64);
                    mix(u64::from(crc));
                }
            }
        }
        sum
    }

    /// What the disk was asked since this was asked last.
    pub fn take_cost(&self) -> Cost {
        std::mem::take(&mut self.state().cost)
    }

    /// How often each thing went wrong, by name.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.state().counters.clone()
    }
}

fn zeros_crc() -> u32 {
    static CRC: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *CRC.get_or_init(|| crc32c::crc32c(&[0; PAGE]))
}

impl State {
    fn count(&mut self, name: &'static str, times: u64) {
        if times > 0 {
            *self.counters.entry(name).or_default() += times;
        }
    }

    /// The number of a change that is about to be made.
    fn change(&mut self, file: FileName) -> Result<u64, DiskError> {
        match &mut self.left {
            Some(0) => return Err(dead(file)),
            Some(left) => *left -= 1,
            None => {}
        }
        self.changes += 1;
        Ok(self.changes)
    }

    fn find_or_make(&mut self, file: FileName) -> Result<(), DiskError> {
        if self.tree.find(file).is_none() {
            let number = self.change(file)?;
            self.cost.others += 1;
            self.tree.make(number, file);
        }
        Ok(())
    }

    /// Changes a file that exists, and counts the blocks that it takes or gives.
    fn with<T>(&mut self, file: FileName, change: impl FnOnce(&mut File) -> T) -> T {
        let found = self.tree.find_mut(file).expect("the caller found or made it");
        let before = found.cache.blocks.count();
        let result = change(found);
        self.used = self.used + found.cache.blocks.count() - before;
        result
    }

    /// How many of these bytes can be written before the disk is full.
    fn room(&self, file: FileName, position: u64, bytes: u64) -> u64 {
        let Some(free) = self.faults.free(self.used) else { return bytes };
        let found = self.tree.find(file).expect("the caller found or made it");
        let mut missing = found.cache.blocks.missing(position, bytes);
        let first_without = missing.nth(usize::try_from(free).unwrap_or(usize::MAX));
        first_without.map_or(bytes, |block| (block as u64 * PAGE as u64).saturating_sub(position))
    }

    fn write(&mut self, file: FileName, mut position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.find_or_make(file)?;
        let number = self.change(file)?;
        self.cost.writes += 1;
        if let Some(elsewhere) = self.misdirect(file, position, bytes) {
            position = elsewhere;
        }
        let room = self.room(file, position, bytes);
        let fails = bytes > 0 && self.faults.write_fails(file);
        // The calls below one stop where the first of them cannot go on.
        let done = if fails { room.min(bytes / 2) } else { room };
        self.cost.bytes_written += done;
        self.with(file, |found| found.write(number, position, pieces, done));
        if fails {
            self.count("disk_write_failed", 1);
            return Err(io(file, "write"));
        }
        if done < bytes {
            return Err(self.no_space(file));
        }
        Ok(())
    }

    fn no_space(&mut self, file: FileName) -> DiskError {
        self.count("disk_no_space", 1);
        DiskError::NoSpace(file)
    }

    fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        if self.left == Some(0) {
            return Err(dead(file));
        }
        let found = self.tree.find_mut(file).ok_or_else(|| missing(file, "sync"))?;
        self.cost.syncs += 1;
        if self.faults.is_lying {
            self.count("disk_sync_lied", 1);
            return Ok(());
        }
        if found.has_unsynced_writes() && self.faults.sync_fails(file) {
            found.drop_unsynced();
            self.count("disk_sync_failed", 1);
            return Err(io(file, "sync"));
        }
        found.sync();
        self.tree.sync_entries_for(file);
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        if let Some(found) = self.tree.find(file) {
            let blocks = found.cache.blocks.count();
            let number = self.change(file)?;
            self.cost.others += 1;
            self.used -= blocks;
            self.tree.remove(number, file);
        }
        Ok(())
    }
}

impl Files for SimDisk {
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError> {
        Ok(self.state().tree.find(file).map(|file| file.cache.length()))
    }

    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let state = &mut *self.state();
        let found = state.tree.find(file).ok_or_else(|| missing(file, "read"))?;
        let bytes = found.cache.read(position, buf);
        state.cost.reads += 1;
        state.cost.bytes_read += bytes as u64;
        if !found.unreadable.is_empty() && found.unreadable.range(pages_in(position, bytes as u64)).next().is_some() {
            state.count("disk_read_failed", 1);
            return Err(io(file, "read"));
        }
        Ok(bytes)
    }

    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.state().write(file, position, pieces)
    }

    fn write_direct(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        assert!((position | bytes).is_multiple_of(DIRECT_BLOCK), "direct writes are whole blocks");
        self.state().write(file, position, pieces)
    }

    fn allocate(&self, file: FileName, position: u64, bytes: u64) -> Result<(), DiskError> {
        let state = &mut *self.state();
        state.find_or_make(file)?;
        if bytes == 0 {
            return Ok(());
        }
        if state.room(file, position, bytes) < bytes {
            return Err(state.no_space(file));
        }
        let number = state.change(file)?;
        state.cost.others += 1;
        state.with(file, |found| found.reserve(number, position, bytes));
        Ok(())
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        let state = &mut *self.state();
        state.find_or_make(file)?;
        let number = state.change(file)?;
        state.cost.others += 1;
        state.with(file, |found| found.truncate(number, bytes));
        Ok(())
    }

    fn sync(&self, file: FileName) -> Result<(), DiskError> {
        self.state().sync(file)
    }

    fn remove(&self, file: FileName) -> Result<(), DiskError> {
        self.state().remove(file)
    }

    fn remove_partition(&self, partition: TopicPartition) -> Result<(), DiskError> {
        let state = &mut *self.state();
        for name in state.tree.names_of(partition) {
            state.remove(name)?;
        }
        if state.tree.has_folder(partition) {
            let name = SegmentName::appended(partition, Offset(0));
            let number = state.change(FileName::Segment(name))?;
            state.cost.others += 1;
            state.tree.set_folder(number, partition, false);
        }
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        Ok(self.state().tree.partitions())
    }

    fn segments(&self, partition: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        Ok(self.state().tree.segments(partition))
    }
}

fn missing(file: FileName, what: &str) -> DiskError {
    DiskError::Io(file, format!("cannot {what} it: entity not found"))
}

fn io(file: FileName, what: &str) -> DiskError {
    DiskError::Io(file, format!("cannot {what} it: input/output error"))
}

fn dead(file: FileName) -> DiskError {
    DiskError::Io(file, "the process that asks is dead".to_owned())
}

#[cfg(test)]
mod tests;
