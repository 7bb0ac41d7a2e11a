//! Files in memory, for the core's own tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;

use crate::boundary::{DiskError, FileName, Files};
use crate::ids::{Offset, TopicPartition};

/// Files in memory that never fail unless told to.
#[derive(Debug, Default)]
pub(crate) struct MemoryFiles {
    files: Mutex<RefCell<BTreeMap<FileName, Vec<u8>>>>,
    /// Set while the disk is to be full.
    pub(crate) full: Mutex<RefCell<bool>>,
}

impl MemoryFiles {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<FileName, Vec<u8>>) -> T) -> T {
        let files = self.files.lock().expect("no test panics while it holds this");
        let mut files = files.borrow_mut();
        change(&mut files)
    }

    /// A copy of all files, as a crash that loses nothing leaves them.
    pub(crate) fn copy(&self) -> MemoryFiles {
        let files = self.with(|files| files.clone());
        MemoryFiles { files: Mutex::new(RefCell::new(files)), full: Mutex::default() }
    }

    /// Flips one bit.
    pub(crate) fn flip(&self, file: FileName, byte: usize) {
        self.with(|files| files.get_mut(&file).expect("the file exists")[byte] ^= 1);
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

    fn allocate(&self, file: FileName, _position: u64, _bytes: u64) -> Result<(), DiskError> {
        let full = *self.full.lock().expect("no test panics while it holds this").borrow();
        if full { Err(DiskError::NoSpace(file)) } else { Ok(()) }
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        self.with(|files| files.entry(file).or_default().resize(usize::try_from(bytes).expect("small"), 0));
        Ok(())
    }

    fn sync(&self, _file: FileName) -> Result<(), DiskError> {
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

    fn segments(&self, partition: TopicPartition) -> Result<Vec<Offset>, DiskError> {
        Ok(self.with(|files| {
            let names = files.keys().filter_map(|name| match name {
                FileName::Segment(name) if name.partition == partition => Some(name.base),
                _ => None,
            });
            names.collect()
        }))
    }
}
