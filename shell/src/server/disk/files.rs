//! The files of a data folder on a real file system.
//!
//! ```text
//! journal/0000.journal            slots of the journal's ring
//! journal/0.checkpoint            one of two checkpoint slots
//! topics/ID-7/0000...0000.log     a segment of partition 7 of the topic with that id, and its .index
//! topics/ID-7/0000...0000.5.log   one that compaction has written, the fifth on this disk
//! ```
//!
//! A commit of the journal overwrites blocks that are there already, so where the file system takes it the write
//! bypasses the page cache and is durable when it returns (O_DIRECT and O_DSYNC): one system call and half the
//! processor time of a write with fdatasync. Everything else is buffered, and durable after [`Files::sync`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use bytes::Bytes;
use chronik_core::boundary::{DiskError, FileName, Files, SegmentName};
use chronik_core::ids::{Offset, TopicPartition};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::buffers::Buffers;
use super::names;
use super::writeback::{self, BEHIND_BYTES};

/// What O_DIRECT asks of positions, lengths and addresses on every disk in use.
const BLOCK: usize = 4096;

/// How much of a body is written by one call: enough for the disk to run at its full speed.
const BLOCKS_AT_ONCE: usize = 1 << 20;

/// How many pieces the kernel takes in one call (IOV_MAX).
const PIECES_MAX: usize = 1024;

/// Whether a write into the journal is made durable by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JournalWrites {
    /// Past the page cache and durable on return, where the file system can.
    Direct,
    /// Through the page cache, as everything else.
    Buffered,
}

/// The files of one data folder.
#[derive(Debug)]
pub(crate) struct DataFolder {
    root: PathBuf,
    open: Mutex<OpenFiles>,
    /// Which folders' entries are durable: a file exists after a power cut only if its folder was synced.
    folders: Mutex<BTreeMap<Folder, Arc<Progress>>>,
    /// Unset for good when the file system refuses a direct write.
    is_direct: AtomicBool,
    aligned: Mutex<Aligned>,
    buffers: Buffers,
}

/// A folder of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Folder {
    Journal,
    Topics,
    Partition(TopicPartition),
}

impl Folder {
    fn of(file: FileName) -> Folder {
        match file {
            FileName::Journal(_) | FileName::Checkpoint(_) => Folder::Journal,
            FileName::Segment(name) | FileName::Index(name) => Folder::Partition(name.partition),
        }
    }

    fn path(self, root: &Path) -> PathBuf {
        match self {
            Folder::Journal => root.join("journal"),
            Folder::Topics => root.join("topics"),
            Folder::Partition(partition) => root.join("topics").join(partition.to_string()),
        }
    }
}

/// How much of what was changed is known to be durable.
#[derive(Debug)]
struct Progress {
    /// Changes made. Counted after the change, so that a sync that begins later covers it.
    changes: AtomicU64,
    /// The changes that the last sync covered. Held while a sync runs: a second one must wait for it, not pass by.
    durable: Mutex<u64>,
}

impl Progress {
    /// Of something that was there before: an earlier process may have changed it and died before its sync.
    fn unknown() -> Progress {
        Progress { changes: AtomicU64::new(1), durable: Mutex::new(0) }
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether nothing was changed since the last sync, as far as can be told without waiting for one that is under way.
    fn is_settled(&self) -> bool {
        let durable = match self.durable.try_lock() {
            Ok(durable) => *durable,
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        durable == self.changes.load(Ordering::Acquire)
    }

    fn settle(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut durable = lock(&self.durable);
        let changes = self.changes.load(Ordering::Acquire);
        if *durable < changes {
            sync()?;
            *durable = changes;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// A second descriptor for direct writes, of journal slots.
    direct: Option<File>,
    /// A second descriptor for bodies that go straight into a segment, once there is one; `None` where the file system
    /// does not take direct writes.
    blocks: OnceLock<Option<File>>,
    bytes: AtomicU64,
    /// How much was written through the page cache since that was sent to the disk last.
    behind: AtomicU64,
    progress: Progress,
}

/// Memory at an address that direct writes ask for, used again and again; as much as was written at once so far.
#[derive(Debug, Default)]
struct Aligned {
    memory: Vec<u8>,
}

impl Aligned {
    /// As much of `rest` as fits, taken from its front.
    fn fill(&mut self, rest: &mut VecDeque<Bytes>) -> &[u8] {
        let bytes = rest.iter().map(Bytes::len).sum::<usize>().min(BLOCKS_AT_ONCE);
        if self.memory.len() < bytes + BLOCK {
            self.memory = vec![0; bytes + BLOCK];
        }
        let start = self.memory.as_ptr().align_offset(BLOCK);
        let room = &mut self.memory[start..start + bytes];
        let mut filled = 0;
        while let Some(piece) = rest.front_mut().filter(|piece| filled < bytes || piece.is_empty()) {
            let part = piece.split_to(piece.len().min(bytes - filled));
            room[filled..filled + part.len()].copy_from_slice(&part);
            filled += part.len();
            if piece.is_empty() {
                rest.pop_front();
            }
        }
        &room[..filled]
    }
}

/// Descriptors kept open, of which the least recently used are closed.
#[derive(Debug)]
struct OpenFiles {
    files: BTreeMap<FileName, (Arc<OpenFile>, u64)>,
    uses: u64,
    max: usize,
}

impl OpenFiles {
    fn find(&mut self, name: FileName) -> Option<Arc<OpenFile>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&name)?;
        *used = self.uses;
        Some(file.clone())
    }

    fn add(&mut self, name: FileName, file: Arc<OpenFile>) {
        if self.files.len() >= self.max {
            // A quarter at once, so that finding the oldest costs little for each file that is opened. A file in use
            // elsewhere stays open until that use ends.
            let mut uses: Vec<u64> = self.files.values().map(|&(_, used)| used).collect();
            let (_, &mut oldest_kept, _) = uses.select_nth_unstable(self.max / 4);
            self.files.retain(|name, &mut (_, used)| used >= oldest_kept || matches!(name, FileName::Journal(_)));
        }
        self.uses += 1;
        self.files.insert(name, (file, self.uses));
    }
}

impl DataFolder {
    /// Opens the folder at `root`, making what is missing of it. At most about `open_files_max` descriptors are kept.
    pub(crate) fn open(root: &Path, open_files_max: usize, journal: JournalWrites) -> io::Result<DataFolder> {
        for folder in [Folder::Journal, Folder::Topics] {
            std::fs::create_dir_all(folder.path(root))?;
        }
        File::open(root)?.sync_all()?;
        Ok(DataFolder {
            root: root.to_owned(),
            open: Mutex::new(OpenFiles { files: BTreeMap::new(), uses: 0, max: open_files_max.max(4) }),
            folders: Mutex::new(BTreeMap::new()),
            is_direct: AtomicBool::new(journal == JournalWrites::Direct),
            aligned: Mutex::new(Aligned::default()),
            buffers: Buffers::default(),
        })
    }

    /// Whether direct writes are in use, as far as is known.
    pub(crate) fn is_direct(&self) -> bool {
        self.is_direct.load(Ordering::Relaxed)
    }

    fn path(&self, file: FileName) -> PathBuf {
        self.root.join(file.to_string())
    }

    /// The file if it exists.
    fn find(&self, name: FileName) -> io::Result<Option<Arc<OpenFile>>> {
        if let Some(found) = lock(&self.open).find(name) {
            return Ok(Some(found));
        }
        match OpenOptions::new().read(true).write(true).open(self.path(name)) {
            Ok(file) => self.keep(name, file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file, made together with its folder if it does not exist.
    fn find_or_make(&self, name: FileName) -> io::Result<Arc<OpenFile>> {
        if let Some(found) = self.find(name)? {
            return Ok(found);
        }
        let folder = Folder::of(name);
        match std::fs::create_dir(folder.path(&self.root)) {
            Ok(()) => self.entries_of(Folder::Topics).changed(),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name))?;
        self.entries_of(folder).changed();
        self.keep(name, file)
    }

    fn keep(&self, name: FileName, file: File) -> io::Result<Arc<OpenFile>> {
        let bytes = file.metadata()?.len();
        let direct = match name {
            FileName::Journal(_) if self.is_direct() => self.open_direct(name)?,
            _ => None,
        };
        let opened = Arc::new(OpenFile {
            file,
            direct,
            blocks: OnceLock::new(),
            bytes: AtomicU64::new(bytes),
            behind: AtomicU64::new(0),
            progress: Progress::unknown(),
        });
        let mut open = lock(&self.open);
        // Another thread may have opened it meanwhile: its descriptor knows of writes that ours does not.
        if let Some(found) = open.find(name) {
            return Ok(found);
        }
        open.add(name, opened.clone());
        Ok(opened)
    }

    fn open_direct(&self, name: FileName) -> io::Result<Option<File>> {
        let flags = (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
        match OpenOptions::new().write(true).custom_flags(flags).open(self.path(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                self.is_direct.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn entries_of(&self, folder: Folder) -> Arc<Progress> {
        lock(&self.folders).entry(folder).or_insert_with(|| Arc::new(Progress::unknown())).clone()
    }

    fn sync_entries_of(&self, folder: Folder) -> io::Result<()> {
        self.entries_of(folder).settle(|| File::open(folder.path(&self.root))?.sync_all())
    }

    /// Writes past the page cache. `false`, with nothing written, where the file system or the shape of the write does
    /// not allow it.
    fn write_direct(&self, file: &OpenFile, position: u64, pieces: &[Bytes]) -> io::Result<bool> {
        let Some(direct) = file.direct.as_ref().filter(|_| self.is_direct()) else { return Ok(false) };
        let [bytes] = pieces else { return Ok(false) };
        let is_aligned = bytes.as_ptr().align_offset(BLOCK) == 0
            && bytes.len().is_multiple_of(BLOCK)
            && position.is_multiple_of(BLOCK as u64);
        // Growing the file would change its metadata, each time with a sync of its own.
        if !is_aligned || position + bytes.len() as u64 > file.bytes.load(Ordering::Acquire) {
            return Ok(false);
        }
        match direct.write_all_at(bytes, position) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                self.is_direct.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes whole blocks past the page cache by way of aligned memory, or through it where the file system does not
    /// allow that.
    fn write_blocks(&self, name: FileName, mut position: u64, pieces: &[Bytes]) -> io::Result<()> {
        let file = self.find_or_make(name)?;
        let direct = file.blocks.get_or_init(|| {
            let flags = OFlags::DIRECT.bits().cast_signed();
            OpenOptions::new().write(true).custom_flags(flags).open(self.path(name)).ok()
        });
        let Some(direct) = direct else { return self.write(name, position, pieces) };
        let mut aligned = lock(&self.aligned);
        let mut rest: VecDeque<Bytes> = pieces.iter().cloned().collect();
        while !rest.is_empty() {
            let filled = aligned.fill(&mut rest);
            assert!(filled.len().is_multiple_of(BLOCK), "direct writes are whole blocks");
            match direct.write_all_at(filled, position) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    write_buffered(&file.file, position, &[Bytes::copy_from_slice(filled)])?;
                }
                Err(error) => return Err(error),
            }
            position += filled.len() as u64;
        }
        file.progress.changed();
        file.bytes.fetch_max(position, Ordering::AcqRel);
        Ok(())
    }

    fn write(&self, name: FileName, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        let file = self.find_or_make(name)?;
        if self.write_direct(&file, position, pieces)? {
            return Ok(());
        }
        let (mut at, mut rest) = (position, pieces);
        while !rest.is_empty() {
            let (part, later) = rest.split_at(at_once(rest));
            let written = write_buffered(&file.file, at, part);
            file.progress.changed();
            let written = written?;
            (at, rest) = (at + written, later);
            file.bytes.fetch_max(at, Ordering::AcqRel);
            // A commit of the journal is synced at once, and an index is short.
            if let FileName::Segment(_) | FileName::Checkpoint(_) = name
                && file.behind.fetch_add(written, Ordering::Relaxed) + written >= BEHIND_BYTES
            {
                file.behind.store(0, Ordering::Relaxed);
                // Where it is no space, pages that were written before are lost already, and no sync would tell of it again:
                // unlike an allocation it must not be tried again.
                writeback::go_on(&file.file).map_err(|why| io::Error::other(format!("write-back: {why}")))?;
            }
        }
        Ok(())
    }

    /// Has what a sync would have to write sent to the disk.
    fn send_out(&self, name: FileName) -> io::Result<()> {
        let file = self.find(name)?.ok_or(ErrorKind::NotFound)?;
        file.behind.store(0, Ordering::Relaxed);
        if file.progress.is_settled() { Ok(()) } else { writeback::start(&file.file) }
    }

    fn sync_file(&self, name: FileName) -> io::Result<()> {
        let file = self.find(name)?.ok_or(ErrorKind::NotFound)?;
        file.progress.settle(|| Ok(rustix::fs::fdatasync(&file.file)?))?;
        let folder = Folder::of(name);
        self.sync_entries_of(folder)?;
        if let Folder::Partition(_) = folder {
            self.sync_entries_of(Folder::Topics)?;
        }
        Ok(())
    }

    fn forget(&self, is_gone: impl Fn(FileName) -> bool) {
        lock(&self.open).files.retain(|&name, _| !is_gone(name));
    }

    /// The names in a folder, none where the folder does not exist.
    fn names_in(&self, folder: Folder) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(folder.path(&self.root)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}

impl Files for DataFolder {
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError> {
        let found = self.find(file).map_err(|error| failed("open", file, &error))?;
        Ok(found.map(|open| open.bytes.load(Ordering::Acquire)))
    }

    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let mut read = || {
            let open = self.find(file)?.ok_or(ErrorKind::NotFound)?;
            let mut filled = 0;
            while filled < buf.len() {
                match open.file.read_at(&mut buf[filled..], position + filled as u64) {
                    Ok(0) => break,
                    Ok(bytes) => filled += bytes,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(filled)
        };
        read().map_err(|error| failed("read", file, &error))
    }

    fn read(&self, file: FileName, position: u64, bytes: usize) -> Result<Bytes, DiskError> {
        let mut buffer = self.buffers.take(bytes);
        let read = self.read_at(file, position, buffer.as_mut())?;
        Ok(buffer.into_bytes(read))
    }

    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.write(file, position, pieces).map_err(|error| failed("write", file, &error))
    }

    fn write_direct(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.write_blocks(file, position, pieces).map_err(|error| failed("write", file, &error))
    }

    fn allocate(&self, file: FileName, position: u64, bytes: u64) -> Result<(), DiskError> {
        let allocate = || {
            let open = self.find_or_make(file)?;
            if bytes == 0 {
                return Ok(());
            }
            loop {
                match rustix::fs::fallocate(&open.file, FallocateFlags::KEEP_SIZE, position, bytes) {
                    // A file system without reservations, such as some network ones, reports a full disk later.
                    Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        };
        allocate().map_err(|error: io::Error| failed("allocate", file, &error))
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        let truncate = || {
            let open = self.find_or_make(file)?;
            open.file.set_len(bytes)?;
            open.bytes.store(bytes, Ordering::Release);
            open.progress.changed();
            Ok(())
        };
        truncate().map_err(|error: io::Error| failed("truncate", file, &error))
    }

    fn sync(&self, file: FileName) -> Result<(), DiskError> {
        self.sync_file(file).map_err(|error| failed("sync", file, &error))
    }

    fn begin_sync(&self, file: FileName) -> Result<(), DiskError> {
        self.send_out(file).map_err(|error| failed("write", file, &error))
    }

    fn remove(&self, file: FileName) -> Result<(), DiskError> {
        self.forget(|name| name == file);
        match std::fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", file, &error)),
            _ => Ok(()),
        }
    }

    fn remove_partition(&self, partition: TopicPartition) -> Result<(), DiskError> {
        let folder = Folder::Partition(partition);
        self.forget(|name| Folder::of(name) == folder);
        lock(&self.folders).remove(&folder);
        match std::fs::remove_dir_all(folder.path(&self.root)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let first = FileName::Segment(SegmentName::appended(partition, Offset(0)));
                Err(failed("remove the folder of", first, &error))
            }
            _ => Ok(()),
        }
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        let names = self.names_in(Folder::Topics).map_err(|error| {
            // There is no name for a folder: the journal's first file stands for the data folder.
            failed("list topics/ beside", FileName::Journal(0), &error)
        })?;
        let mut partitions: Vec<_> = names.iter().filter_map(|name| names::partition(name)).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    fn segments(&self, partition: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        let names = self.names_in(Folder::Partition(partition)).map_err(|error| {
            let first = FileName::Segment(SegmentName::appended(partition, Offset(0)));
            failed("list the folder of", first, &error)
        })?;
        let found: BTreeSet<_> = names.iter().filter_map(|name| names::segment(partition, name)).collect();
        Ok(found.into_iter().collect())
    }
}

/// How many of the pieces are written by one call: no more than the kernel takes, and [`BEHIND_BYTES`] of them with what is
/// left of the last one.
fn at_once(pieces: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fits = |piece: &&Bytes| {
        let fits = bytes < BEHIND_BYTES;
        bytes += piece.len() as u64;
        fits
    };
    pieces.iter().take(PIECES_MAX).take_while(fits).count()
}

/// Writes pieces through the page cache by one call, if it takes them all; returns how many bytes they were.
fn write_buffered(file: &File, position: u64, pieces: &[Bytes]) -> io::Result<u64> {
    let mut at = position;
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut slices[..];
    // Empty pieces at the front would look like a write that makes no progress.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match rustix::io::pwritev(file, left, at) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(bytes) => {
                at += bytes as u64;
                IoSlice::advance_slices(&mut left, bytes);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(at - position)
}

fn failed(what: &str, file: FileName, error: &io::Error) -> DiskError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::NoSpace(file),
        _ => {
            let mut text = format!("cannot {what} it: ");
            write!(text, "{error}").expect("writing to a string cannot fail");
            DiskError::Io(file, text)
        }
    }
}

/// What a thread that panicked held is counters and descriptors, each valid by itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
