//! What can be wrong with the disk beside a power loss.
//!
//! Some faults strike at once, the others are armed and strike when a call comes that they concern. Each counts itself
//! when it strikes, under the name given with it.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::boundary::FileName;
use chronik_core::rng::Rng;

use super::image::{Image, PAGE, pages_of};
use super::{SimDisk, State};
use crate::plan::FileKind;

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    is_full: bool,
    /// In blocks; `None` where there is no limit.
    capacity: Option<u64>,
    pub(super) is_lying: bool,
    syncs: BTreeSet<FileKind>,
    writes: BTreeSet<FileKind>,
    misdirected: BTreeMap<FileKind, Rng>,
}

impl Faults {
    /// How many more blocks there are, `None` for any number.
    pub(super) fn free(&self, used: u64) -> Option<u64> {
        if self.is_full { Some(0) } else { self.capacity.map(|blocks| blocks.saturating_sub(used)) }
    }

    /// What is wrong with whatever disk takes this one's place.
    pub(super) fn of_another_disk(&self) -> Faults {
        Faults { is_full: self.is_full, capacity: self.capacity, ..Faults::default() }
    }

    pub(super) fn write_fails(&mut self, file: FileName) -> bool {
        self.writes.remove(&kind_of(file))
    }

    pub(super) fn sync_fails(&mut self, file: FileName) -> bool {
        self.syncs.remove(&kind_of(file))
    }
}

/// A bit that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flipped {
    /// In which file.
    pub file: FileName,
    /// In which of its bytes.
    pub position: u64,
    /// Which of the byte's bits, from 0 for the lowest.
    pub bit: u32,
}

/// What kind of file it is.
pub fn kind_of(file: FileName) -> FileKind {
    match file {
        FileName::Journal(_) => FileKind::Journal,
        FileName::Checkpoint(_) => FileKind::Checkpoint,
        FileName::Segment(_) => FileKind::Segment,
        FileName::Index(_) => FileKind::Index,
    }
}

impl SimDisk {
    /// The disk is full or no more: nothing that needs a new block succeeds, while written and reserved blocks are
    /// written as ever. Counts `disk_no_space` for each call that fails so.
    pub fn set_full(&self, is_full: bool) {
        self.state().faults.is_full = is_full;
    }

    /// Files take at most so many bytes, rounded down to whole blocks; `None` for any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().faults.capacity = bytes.map(|bytes| bytes / PAGE as u64);
    }

    /// Syncs report success and do nothing, or work again: the first that does covers what those before it did not.
    /// Counts `disk_sync_lied`.
    pub fn lie_about_sync(&self, is_lying: bool) {
        self.state().faults.is_lying = is_lying;
    }

    /// The next sync of a file of this kind that has something to write fails. What it should have written stays in
    /// the cache as if it were clean, so that later syncs succeed without it, until the page that it lies in is
    /// written again. Counts `disk_sync_failed`.
    pub fn fail_next_sync(&self, kind: FileKind) -> bool {
        self.state().faults.syncs.insert(kind)
    }

    /// The next write to a file of this kind fails when half of it is done. Counts `disk_write_failed`.
    pub fn fail_next_write(&self, kind: FileKind) -> bool {
        self.state().faults.writes.insert(kind)
    }

    /// The next write to a file of this kind that has room for it elsewhere goes there, to another block of what the
    /// file holds. Counts `disk_write_misdirected`.
    pub fn misdirect_next_write(&self, kind: FileKind, rng: Rng) -> bool {
        self.state().faults.misdirected.insert(kind, rng).is_none()
    }

    /// Takes back the faults that wait to strike, a full and a lying disk. What is damaged stays so.
    pub fn heal(&self) {
        self.state().faults = Faults::default();
    }

    /// A block of a file of this kind cannot be read until something is written to it; says where it begins. `None`
    /// where no such file holds anything. Counts `disk_sector_lost`, and `disk_read_failed` for each read that fails.
    pub fn fail_reads(&self, kind: FileKind, mut rng: Rng) -> Option<(FileName, u64)> {
        let state = &mut *self.state();
        let (file, page) = state.choose_page(kind, &mut rng)?;
        state.with(file, |found| found.unreadable.insert(page));
        state.count("disk_sector_lost", 1);
        Some((file, page as u64 * PAGE as u64))
    }

    /// Changes a bit of a file of this kind, among bytes that were written. `None` where no such file holds anything.
    /// Counts `disk_bit_flipped`.
    pub fn flip_bit(&self, kind: FileKind, mut rng: Rng) -> Option<Flipped> {
        let state = &mut *self.state();
        let (file, page) = state.choose_page(kind, &mut rng)?;
        let found = state.tree.find(file)?;
        let bytes = found.cache.page(page).as_deref()?;
        let first = bytes.iter().position(|&byte| byte != 0)?;
        let last = bytes.iter().rposition(|&byte| byte != 0)?;
        let position = page as u64 * PAGE as u64 + first as u64 + rng.below((last - first + 1) as u64);
        let bit = u32::try_from(rng.below(8)).expect("below 8");
        state.with(file, |found| found.flip(position, bit));
        state.count("disk_bit_flipped", 1);
        Some(Flipped { file, position, bit })
    }

    /// An index loses its end, on the disk too; says which, and what is left of it in bytes. `None` where no index
    /// holds anything. Counts `disk_index_truncated`.
    pub fn truncate_index(&self, mut rng: Rng) -> Option<(FileName, u64)> {
        let state = &mut *self.state();
        let full = |file: &Image| file.length() > 0;
        let (file, length) = state.choose(FileKind::Index, &mut rng, full, Image::length)?;
        let left = rng.below(length);
        state.changes += 1;
        let number = state.changes;
        state.with(file, |found| {
            found.truncate(number, left);
            found.sync();
        });
        state.count("disk_index_truncated", 1);
        Some((file, left))
    }
}

impl State {
    /// One of the files of a kind that `fits`, and what `of` says of it.
    fn choose<T>(
        &self,
        kind: FileKind,
        rng: &mut Rng,
        fits: impl Fn(&Image) -> bool,
        of: impl FnOnce(&Image) -> T,
    ) -> Option<(FileName, T)> {
        let files = self.tree.files().filter(|&(name, file)| kind_of(name) == kind && fits(&file.cache));
        let files: Vec<_> = files.collect();
        let (name, file) = *pick(&files, rng)?;
        Some((name, of(&file.cache)))
    }

    /// A page with something in it, of a file of a kind.
    fn choose_page(&self, kind: FileKind, rng: &mut Rng) -> Option<(FileName, usize)> {
        let held = |file: &Image| -> Vec<usize> {
            file.pages().filter(|(_, bytes)| *bytes != &[0; PAGE]).map(|(page, _)| page).collect()
        };
        let (name, pages) = self.choose(kind, rng, |file| !held(file).is_empty(), held)?;
        Some((name, *pick(&pages, rng)?))
    }

    /// Where a write goes instead.
    pub(super) fn misdirect(&mut self, file: FileName, position: u64, bytes: u64) -> Option<u64> {
        let rng = self.faults.misdirected.get_mut(&kind_of(file))?;
        let length = self.tree.find(file)?.cache.length();
        let within = position % PAGE as u64;
        // Blocks where it would end within the file, without the one where it belongs.
        let blocks = pages_of((length + 1).saturating_sub(within + bytes)) as u64;
        let own = position / PAGE as u64;
        let others = blocks - u64::from(own < blocks);
        if bytes == 0 || others == 0 {
            return None;
        }
        let drawn = rng.below(others);
        self.faults.misdirected.remove(&kind_of(file));
        self.count("disk_write_misdirected", 1);
        Some((drawn + u64::from(drawn >= own)) * PAGE as u64 + within)
    }
}

fn pick<'a, T>(from: &'a [T], rng: &mut Rng) -> Option<&'a T> {
    if from.is_empty() {
        return None;
    }
    let index = rng.below(from.len() as u64);
    from.get(usize::try_from(index).expect("an index"))
}
