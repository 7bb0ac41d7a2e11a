//! Files in memory that never fail.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use chronik_core::boundary::{DiskError, FileName, Files, SegmentName};
use chronik_core::ids::TopicPartition;

#[derive(Default)]
pub(crate) struct Memory(Mutex<BTreeMap<FileName, Vec<u8>>>);

impl Memory {
    fn files(&self) -> MutexGuard<'_, BTreeMap<FileName, Vec<u8>>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

fn place(position: u64) -> usize {
    usize::try_from(position).expect("memory holds it")
}

impl Files for Memory {
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError> {
        Ok(self.files().get(&file).map(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let files = self.files();
        let bytes = files.get(&file).ok_or_else(|| DiskError::Io(file, "no such file".into()))?;
        let from = place(position).min(bytes.len());
        let count = buf.len().min(bytes.len() - from);
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        let mut files = self.files();
        let bytes = files.entry(file).or_default();
        let mut at = place(position);
        for piece in pieces {
            bytes.resize(bytes.len().max(at + piece.len()), 0);
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        Ok(())
    }

    fn allocate(&self, _: FileName, _: u64, _: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        self.files().entry(file).or_default().resize(place(bytes), 0);
        Ok(())
    }

    fn sync(&self, _: FileName) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove(&self, file: FileName) -> Result<(), DiskError> {
        self.files().remove(&file);
        Ok(())
    }

    fn remove_partition(&self, partition: TopicPartition) -> Result<(), DiskError> {
        let is_other = |file: &FileName| !matches!(file, FileName::Segment(name) | FileName::Index(name) if name.partition == partition);
        self.files().retain(|file, _| is_other(file));
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        Ok(Vec::new())
    }

    fn segments(&self, _: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        Ok(Vec::new())
    }
}
