//! Files that keep their lengths and read as zeros: no run of the bench reads what it wrote.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use chronik_core::boundary::{DiskError, FileName, Files, SegmentName};
use chronik_core::ids::TopicPartition;

#[derive(Default)]
pub(crate) struct Sink(Mutex<BTreeMap<FileName, u64>>);

impl Sink {
    fn lengths(&self) -> MutexGuard<'_, BTreeMap<FileName, u64>> {
        self.0.lock().expect("nobody panics while holding it")
    }

    fn grow(&self, file: FileName, to: u64) -> Result<(), DiskError> {
        let mut lengths = self.lengths();
        let length = lengths.entry(file).or_default();
        *length = to.max(*length);
        Ok(())
    }
}

impl Files for Sink {
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError> {
        Ok(self.lengths().get(&file).copied())
    }

    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let left = self.lengths().get(&file).map_or(0, |length| length.saturating_sub(position));
        let count = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        buf[..count].fill(0);
        Ok(count)
    }

    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.grow(file, position + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>())
    }

    fn allocate(&self, _: FileName, _: u64, _: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        self.lengths().insert(file, bytes);
        Ok(())
    }

    fn sync(&self, _: FileName) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove(&self, file: FileName) -> Result<(), DiskError> {
        self.lengths().remove(&file);
        Ok(())
    }

    fn remove_partition(&self, _: TopicPartition) -> Result<(), DiskError> {
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        Ok(Vec::new())
    }

    fn segments(&self, _: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        Ok(Vec::new())
    }
}
