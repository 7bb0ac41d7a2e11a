//! Files in memory, for the core's own tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::boundary::{DiskError, FileName, Files, SegmentName};
use crate::ids::TopicPartition;

/// Files in memory that never fail unless told to.
#[derive(Debug, Default)]
pub(crate) struct MemoryFiles {
    files: Mutex<RefCell<BTreeMap<FileName, Vec<u8>>>>,
    /// Set while the disk is to be full.
    pub(crate) full: Mutex<RefCell<bool>>,
    largest_read: AtomicUsize,
    /// Files that cannot be read, and whether they can once they are written to; others cannot be written either.
    unreadable: Mutex<BTreeMap<FileName, bool>>,
    /// A partition whose folder cannot be listed.
    pub(crate) unlisted: Option<TopicPartition>,
    /// For each file, how far from its start it was written in one go, a sync ending that.
    rewritten: Mutex<BTreeMap<FileName, u64>>,
    /// How far each file had been written from its start when it was synced last.
    synced_anew: Mutex<BTreeMap<FileName, u64>>,
    /// Syncs in their order, and what was begun of them.
    pub(crate) syncs: Mutex<Vec<(FileName, Sync)>>,
}

/// A part of making a file durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Begun,
    Done,
}

impl MemoryFiles {
    /// How many bytes from its start on were written, in order, right before the last sync of a file.
    pub(crate) fn written_before_sync(&self, file: FileName) -> u64 {
        self.synced_anew.lock().expect("no test panics while it holds this").get(&file).copied().unwrap_or(0)
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<FileName, Vec<u8>>) -> T) -> T {
        let files = self.files.lock().expect("no test panics while it holds this");
        let mut files = files.borrow_mut();
        change(&mut files)
    }

    /// A copy of all files, as a crash that loses nothing leaves them.
    pub(crate) fn copy(&self) -> MemoryFiles {
        let files = self.with(|files| files.clone());
        MemoryFiles { files: Mutex::new(RefCell::new(files)), ..MemoryFiles::default() }
    }

    /// The length of the largest buffer that was ever to be filled, in bytes.
    pub(crate) fn largest_read(&self) -> usize {
        self.largest_read.load(Ordering::Relaxed)
    }

    /// All that a file holds; nothing where it does not exist.
    pub(crate) fn whole(&self, file: FileName) -> Vec<u8> {
        self.with(|files| files.get(&file).cloned().unwrap_or_default())
    }

    /// Flips one bit.
    pub(crate) fn flip(&self, file: FileName, byte: usize) {
        self.with(|files| files.get_mut(&file).expect("the file exists")[byte] ^= 1);
    }

    /// Has the disk fail to read a file until it `heals` by being written to, or to read and to write it for good.
    pub(crate) fn make_unreadable(&self, file: FileName, heals: bool) {
        self.unreadable.lock().expect("no test panics while it holds this").insert(file, heals);
    }

    /// Makes every allocation fail for want of space, or no more.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.lock().expect("no test panics while it holds this").replace(full);
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Vec<FileName> {
        self.with(|files| files.keys().copied().collect())
    }
}

impl Files for MemoryFiles {
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError> {
        Ok(self.with(|files| files.get(&file).map(|bytes| bytes.len() as u64)))
    }

    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.largest_read.fetch_max(buf.len(), Ordering::Relaxed);
        if self.unreadable.lock().expect("no test panics while it holds this").contains_key(&file) {
            return Err(DiskError::Io(file, "input/output error".into()));
        }
        self.with(|files| {
            let bytes = files.get(&file).ok_or_else(|| DiskError::Io(file, "no such file".into()))?;
            let from = usize::try_from(position).expect("small").min(bytes.len());
            let count = buf.len().min(bytes.len() - from);
            buf[..count].copy_from_slice(&bytes[from..from + count]);
            Ok(count)
        })
    }

    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        let end = position + pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let mut unreadable = self.unreadable.lock().expect("no test panics while it holds this");
        if unreadable.get(&file).is_some_and(|heals| !heals) {
            return Err(DiskError::Io(file, "input/output error".into()));
        }
        unreadable.remove(&file);
        drop(unreadable);
        let mut rewritten = self.rewritten.lock().expect("no test panics while it holds this");
        if rewritten.get(&file).copied().unwrap_or(0) == position {
            rewritten.insert(file, end);
        }
        drop(rewritten);
        if *self.full.lock().expect("no test panics while it holds this").borrow()
            && matches!(file, FileName::Journal(_))
            && self.len(file)?.is_none_or(|bytes| bytes < end)
        {
            return Err(DiskError::NoSpace(file));
        }
        self.with(|files| {
            let bytes = files.entry(file).or_default();
            let mut at = usize::try_from(position).expect("small");
            for piece in pieces {
                if bytes.len() < at + piece.len() {
                    bytes.resize(at + piece.len(), 0);
                }
                bytes[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
            }
        });
        Ok(())
    }

    fn allocate(&self, file: FileName, position: u64, bytes: u64) -> Result<(), DiskError> {
        let full = *self.full.lock().expect("no test panics while it holds this").borrow();
        if full && self.len(file)?.is_none_or(|length| length < position + bytes) {
            Err(DiskError::NoSpace(file))
        } else {
            Ok(())
        }
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        self.with(|files| files.entry(file).or_default().resize(usize::try_from(bytes).expect("small"), 0));
        Ok(())
    }

    fn begin_sync(&self, file: FileName) -> Result<(), DiskError> {
        self.syncs.lock().expect("no test panics while it holds this").push((file, Sync::Begun));
        Ok(())
    }

    fn sync(&self, file: FileName) -> Result<(), DiskError> {
        self.syncs.lock().expect("no test panics while it holds this").push((file, Sync::Done));
        let rewritten = self.rewritten.lock().expect("no test panics while it holds this").remove(&file);
        let mut synced = self.synced_anew.lock().expect("no test panics while it holds this");
        synced.insert(file, rewritten.unwrap_or(0));
        Ok(())
    }

    fn remove(&self, file: FileName) -> Result<(), DiskError> {
        self.with(|files| files.remove(&file));
        Ok(())
    }

    fn remove_partition(&self, partition: TopicPartition) -> Result<(), DiskError> {
        self.with(|files| {
            files.retain(|name, _| match name {
                FileName::Segment(name) | FileName::Index(name) => name.partition != partition,
                _ => true,
            });
        });
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        let mut all: Vec<_> = self.with(|files| {
            let names = files.keys().filter_map(|name| match name {
                FileName::Segment(name) | FileName::Index(name) => Some(name.partition),
                _ => None,
            });
            names.collect()
        });
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn segments(&self, partition: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        if self.unlisted == Some(partition) {
            let first = FileName::Segment(SegmentName::appended(partition, crate::ids::Offset(0)));
            return Err(DiskError::Io(first, "its folder cannot be listed".into()));
        }
        Ok(self.with(|files| segments_of(partition, files.keys())))
    }
}

/// The segments of a partition that one of these files belongs to, in order.
fn segments_of<'a>(partition: TopicPartition, files: impl Iterator<Item = &'a FileName>) -> Vec<SegmentName> {
    let names = files.filter_map(|file| match file {
        FileName::Segment(name) | FileName::Index(name) => Some(*name),
        FileName::Journal(_) | FileName::Checkpoint(_) => None,
    });
    let names: std::collections::BTreeSet<SegmentName> = names.filter(|name| name.partition == partition).collect();
    names.into_iter().collect()
}

/// A block of the simulated disk: what persists or vanishes as one.
const BLOCK: usize = 4096;

/// Files in memory whose unsynced changes may vanish, as they do where the power fails: any block of any write, any
/// cut, any removal, and a whole file that was never synced.
#[derive(Debug, Default)]
pub(crate) struct LossyFiles {
    disk: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<FileName, Vec<u8>>,
    /// For each file with unsynced changes: what is durable of it, and the changes since.
    unsynced: BTreeMap<FileName, (Option<Vec<u8>>, Vec<Unsynced>)>,
    full: bool,
    /// So many changes are still made; those after them are not, since the process is dead. `None` while it lives.
    left: Option<u64>,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Remove,
}

impl Disk {
    /// Makes a change, in the cache only, unless the process is dead.
    fn change(&mut self, file: FileName, change: Unsynced) {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return;
            }
            *left -= 1;
        }
        let now = self.files.get(&file);
        self.unsynced.entry(file).or_insert_with(|| (now.cloned(), Vec::new())).1.push(change.clone());
        change.apply(&mut self.files, file);
    }
}

impl Unsynced {
    fn apply(self, files: &mut BTreeMap<FileName, Vec<u8>>, file: FileName) {
        match self {
            Unsynced::Write(at, bytes) => {
                let content = files.entry(file).or_default();
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Unsynced::Truncate(bytes) => files.entry(file).or_default().resize(bytes, 0),
            Unsynced::Remove => drop(files.remove(&file)),
        }
    }
}

impl LossyFiles {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().expect("no test panics while it holds this")
    }

    /// Makes everything fail for want of space that would make a file longer, or no more.
    pub(crate) fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    fn make_room(&self, file: FileName, end: u64) -> Result<(), DiskError> {
        let disk = self.disk();
        let has_room = !disk.full || disk.files.get(&file).is_some_and(|bytes| bytes.len() as u64 >= end);
        if has_room { Ok(()) } else { Err(DiskError::NoSpace(file)) }
    }

    /// The process dies after so many further changes.
    pub(crate) fn die_after(&self, changes: u64) {
        self.disk().left = Some(changes);
    }

    /// The process is started again: what is in the page cache is still there.
    pub(crate) fn restart(&self) {
        let mut disk = self.disk();
        (disk.left, disk.full) = (None, false);
    }

    /// The power fails: of what was not synced, `keeps` says for each block, cut and removal whether it persists.
    pub(crate) fn lose_power(&self, mut keeps: impl FnMut() -> bool) {
        let mut disk = self.disk();
        for (file, (durable, changes)) in std::mem::take(&mut disk.unsynced) {
            let was_durable = durable.is_some();
            match durable {
                Some(content) => disk.files.insert(file, content),
                None => disk.files.remove(&file),
            };
            if !was_durable && !keeps() {
                continue;
            }
            for change in changes {
                let Unsynced::Write(at, bytes) = change else {
                    if keeps() {
                        change.apply(&mut disk.files, file);
                    }
                    continue;
                };
                let mut done = 0;
                while done < bytes.len() {
                    let end = bytes.len().min(done + BLOCK - (at + done) % BLOCK);
                    if keeps() {
                        Unsynced::Write(at + done, bytes[done..end].to_vec()).apply(&mut disk.files, file);
                    }
                    done = end;
                }
            }
        }
        (disk.left, disk.full) = (None, false);
    }
}

impl Files for LossyFiles {
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError> {
        Ok(self.disk().files.get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let disk = self.disk();
        let bytes = disk.files.get(&file).ok_or_else(|| DiskError::Io(file, "no such file".into()))?;
        let from = usize::try_from(position).expect("small").min(bytes.len());
        let count = buf.len().min(bytes.len() - from);
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        if matches!(file, FileName::Journal(_)) {
            self.make_room(file, position + bytes.len() as u64)?;
        }
        self.disk().change(file, Unsynced::Write(usize::try_from(position).expect("small"), bytes));
        Ok(())
    }

    fn allocate(&self, file: FileName, position: u64, bytes: u64) -> Result<(), DiskError> {
        self.make_room(file, position + bytes)
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        self.disk().change(file, Unsynced::Truncate(usize::try_from(bytes).expect("small")));
        Ok(())
    }

    fn sync(&self, file: FileName) -> Result<(), DiskError> {
        let mut disk = self.disk();
        if !disk.files.contains_key(&file) && disk.left.is_none() {
            return Err(DiskError::Io(file, "no such file".into()));
        }
        if disk.left != Some(0) {
            disk.unsynced.remove(&file);
        }
        Ok(())
    }

    fn remove(&self, file: FileName) -> Result<(), DiskError> {
        let mut disk = self.disk();
        if disk.files.contains_key(&file) {
            disk.change(file, Unsynced::Remove);
        }
        Ok(())
    }

    fn remove_partition(&self, partition: TopicPartition) -> Result<(), DiskError> {
        let mut disk = self.disk();
        let of = |name: &FileName| match name {
            FileName::Segment(name) | FileName::Index(name) => name.partition == partition,
            _ => false,
        };
        let names: Vec<FileName> = disk.files.keys().copied().filter(of).collect();
        for name in names {
            disk.change(name, Unsynced::Remove);
        }
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        let disk = self.disk();
        let mut all: Vec<_> = disk
            .files
            .keys()
            .filter_map(|name| match name {
                FileName::Segment(name) | FileName::Index(name) => Some(name.partition),
                _ => None,
            })
            .collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn segments(&self, partition: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        Ok(segments_of(partition, self.disk().files.keys()))
    }
}
