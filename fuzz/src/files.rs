//! Files in memory, and damage to them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use chronik_core::boundary::{DiskError, FileName, Files, SegmentName};
use chronik_core::ids::TopicPartition;
use chronik_core::log::Bodies;

use crate::wire_bodies::entropy::Entropy;

/// Files that never fail; reading one that does not exist does.
#[derive(Debug, Default)]
pub(crate) struct MemoryFiles(Mutex<BTreeMap<FileName, Vec<u8>>>);

impl MemoryFiles {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<FileName, Vec<u8>>) -> T) -> T {
        look(&mut self.0.lock().expect("nobody panics while holding it"))
    }

    /// A file with these bytes.
    pub(crate) fn put(&self, file: FileName, bytes: Vec<u8>) {
        self.with(|files| files.insert(file, bytes));
    }

    /// Turns over up to three bits, or cuts a file.
    pub(crate) fn damage(&self, entropy: &mut Entropy<'_>) {
        self.with(|files| {
            let mut files: Vec<_> = files.values_mut().filter(|file| !file.is_empty()).collect();
            if files.is_empty() {
                return;
            }
            if entropy.one_in(8) {
                let file = entropy.below(files.len());
                let length = entropy.below(files[file].len());
                files[file].truncate(length);
                return;
            }
            for _ in 0..1 + entropy.below(3) {
                let file = entropy.below(files.len());
                turn_bit(files[file], entropy);
            }
        });
    }
}

/// Turns over one bit of `bytes`, which are not empty.
pub(crate) fn turn_bit(bytes: &mut [u8], entropy: &mut Entropy<'_>) {
    let far = entropy.below(bytes.len().div_ceil(1 << 16)) << 16;
    let at = (far + entropy.below(1 << 16)) % bytes.len();
    bytes[at] ^= 1 << entropy.below(8);
}

impl Files for MemoryFiles {
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError> {
        Ok(self.with(|files| files.get(&file).map(|bytes| bytes.len() as u64)))
    }

    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.with(|files| {
            let bytes = files.get(&file).ok_or_else(|| DiskError::Io(file, "no such file".into()))?;
            let from = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
            let count = buf.len().min(bytes.len() - from);
            buf[..count].copy_from_slice(&bytes[from..from + count]);
            Ok(count)
        })
    }

    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.with(|files| {
            let bytes = files.entry(file).or_default();
            let mut at = usize::try_from(position).expect("only small files are written");
            for piece in pieces {
                bytes.resize(bytes.len().max(at + piece.len()), 0);
                bytes[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
            }
        });
        Ok(())
    }

    fn allocate(&self, _file: FileName, _position: u64, _bytes: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        self.with(|files| files.entry(file).or_default().truncate(usize::try_from(bytes).unwrap_or(usize::MAX)));
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
        self.with(|files| files.retain(|file, _| belongs_to(file) != Some(partition)));
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        let mut all: Vec<_> = self.with(|files| files.keys().filter_map(belongs_to).collect());
        all.dedup();
        Ok(all)
    }

    fn segments(&self, partition: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        let name = |file: &FileName| match file {
            FileName::Segment(name) if name.partition == partition => Some(*name),
            _ => None,
        };
        Ok(self.with(|files| files.keys().filter_map(name).collect()))
    }
}

impl Bodies for MemoryFiles {
    fn read(&self, segment: SegmentName, position: u64, bytes: usize) -> Result<Bytes, String> {
        let mut body = vec![0; bytes];
        match self.read_at(FileName::Segment(segment), position, &mut body) {
            Ok(read) if read == bytes => Ok(body.into()),
            Ok(_) => Err("the file ends too early".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn belongs_to(file: &FileName) -> Option<TopicPartition> {
    match file {
        FileName::Segment(name) | FileName::Index(name) => Some(name.partition),
        FileName::Journal(_) | FileName::Checkpoint(_) => None,
    }
}
