//! Names and folders: which files there are, and which there would be if the power failed now.
//!
//! A file exists for certain after the sync of its folder, which is made when a file that is new to it is synced; that
//! settles all the folder's names. A removal that no such sync followed may or may not have happened.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::boundary::{FileName, SegmentName};
use chronik_core::ids::{Offset, TopicPartition};

use super::file::File;
use super::power::{Coins, Tally};

/// The files of a data folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    names: BTreeMap<FileName, Name>,
    folders: BTreeMap<TopicPartition, Folder>,
}

/// What a name stood for: first what is durable of it, then what it was made and removed to since; never just nothing.
#[derive(Clone, Debug)]
struct Name {
    versions: Vec<Version>,
    /// How many versions came before these.
    settled: u64,
}

#[derive(Clone, Debug, Default)]
struct Version {
    /// The change of the disk that made it.
    number: u64,
    file: Option<Box<File>>,
}

impl Name {
    fn file(&self) -> Option<&File> {
        self.versions.last().and_then(|version| version.file.as_deref())
    }

    fn turn_to(&mut self, version: Version) {
        self.versions.push(version);
    }

    /// Makes one of the versions the durable one.
    fn settle(&mut self, index: usize) {
        self.settled += self.versions.len() as u64 - 1;
        self.versions.truncate(index + 1);
        self.versions.drain(..index);
    }
}

#[derive(Clone, Copy, Debug)]
struct Folder {
    exists: bool,
    is_durable: bool,
    /// The change that made or removed it last.
    number: u64,
    changes: u64,
}

/// The partition whose folder a file is in; the journal's files have one that is always there.
pub(super) fn partition_of(file: FileName) -> Option<TopicPartition> {
    match file {
        FileName::Segment(name) | FileName::Index(name) => Some(name.partition),
        FileName::Journal(_) | FileName::Checkpoint(_) => None,
    }
}

impl Tree {
    pub(super) fn find(&self, file: FileName) -> Option<&File> {
        self.names.get(&file)?.file()
    }

    pub(super) fn find_mut(&mut self, file: FileName) -> Option<&mut File> {
        self.names.get_mut(&file)?.versions.last_mut()?.file.as_deref_mut()
    }

    /// The files that there are, in the order of their names.
    pub(super) fn files(&self) -> impl Iterator<Item = (FileName, &File)> {
        self.names.iter().filter_map(|(&name, versions)| Some((name, versions.file()?)))
    }

    /// What is certain to be there after a power loss, in the order of names.
    pub(super) fn durable(&self) -> impl Iterator<Item = (FileName, &File)> {
        self.names.iter().filter_map(|(&name, versions)| Some((name, versions.versions[0].file.as_deref()?)))
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.folders.iter().filter(|(_, folder)| folder.exists).map(|(&partition, _)| partition).collect()
    }

    pub(super) fn segments(&self, partition: TopicPartition) -> Vec<SegmentName> {
        let names = self.names_of(partition).into_iter().filter_map(|file| match file {
            FileName::Segment(name) | FileName::Index(name) => Some(name),
            FileName::Journal(_) | FileName::Checkpoint(_) => None,
        });
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The files in a partition's folder.
    pub(super) fn names_of(&self, partition: TopicPartition) -> Vec<FileName> {
        self.files().map(|(name, _)| name).filter(|&name| partition_of(name) == Some(partition)).collect()
    }

    pub(super) fn has_folder(&self, partition: TopicPartition) -> bool {
        self.folders.get(&partition).is_some_and(|folder| folder.exists)
    }

    /// Makes an empty file, and the folder that it is in.
    pub(super) fn make(&mut self, number: u64, file: FileName) {
        if let Some(partition) = partition_of(file) {
            self.set_folder(number, partition, true);
        }
        let made = Version { number, file: Some(Box::default()) };
        let name = self.names.entry(file).or_insert_with(|| Name { versions: vec![Version::default()], settled: 0 });
        assert!(name.file().is_none(), "{file} is there already");
        name.turn_to(made);
    }

    /// Removes a file that exists.
    pub(super) fn remove(&mut self, number: u64, file: FileName) {
        let name = self.names.get_mut(&file).expect("the caller found it");
        name.turn_to(Version { number, file: None });
    }

    pub(super) fn set_folder(&mut self, number: u64, partition: TopicPartition, exists: bool) {
        let new = Folder { exists: false, is_durable: false, number, changes: 0 };
        let folder = self.folders.entry(partition).or_insert(new);
        if folder.exists != exists {
            *folder = Folder { exists, number, changes: folder.changes + 1, ..*folder };
        }
    }

    /// Makes a file's existence durable, and what lies on the way to it.
    pub(super) fn sync_entries_for(&mut self, file: FileName) {
        let partition = partition_of(file);
        let is_new = self.names.get(&file).is_some_and(|name| name.versions.len() > 1);
        let is_in_new = partition.and_then(|of| self.folders.get(&of)).is_some_and(|folder| !folder.is_durable);
        if is_new {
            for (_, name) in self.names.iter_mut().filter(|(name, _)| partition_of(**name) == partition) {
                name.settle(name.versions.len() - 1);
            }
        }
        if is_in_new {
            for (&partition, folder) in &mut self.folders {
                folder.is_durable = folder.exists;
                if !folder.exists {
                    let inside = self.names.iter_mut().filter(|(name, _)| partition_of(**name) == Some(partition));
                    inside.for_each(|(_, name)| name.settle(name.versions.len() - 1));
                }
            }
        }
        if is_new || is_in_new {
            self.forget_what_is_gone();
        }
    }

    fn forget_what_is_gone(&mut self) {
        self.names.retain(|_, name| name.versions.len() > 1 || name.file().is_some());
        self.folders.retain(|_, folder| folder.exists || folder.is_durable);
    }

    /// The power fails: whatever was made or removed since the last sync of its folder may be there or not.
    pub(super) fn lose_power(&mut self, coins: &Coins, tally: &mut Tally) {
        for (&file, name) in &mut self.names {
            let coins = coins.of_file(file);
            let mut survives = 0;
            for (index, version) in name.versions.iter().enumerate().skip(1) {
                if coins.of_entry(name.settled + index as u64).keeps() {
                    survives = index;
                    tally.kept(version.number);
                } else {
                    tally.lost(version.number);
                    tally.lost.creates += u64::from(version.file.is_some());
                    tally.lost.removes += u64::from(version.file.is_none());
                }
            }
            name.settle(survives);
            if let Some(file) = &mut name.versions[0].file {
                file.lose_power(&coins, tally);
            }
            tally.end_of_file();
        }
        for (&partition, folder) in &mut self.folders {
            let first = FileName::Segment(SegmentName::appended(partition, Offset(i64::MIN)));
            let toss = &mut coins.of_file(first).of_entry(folder.changes);
            if folder.exists != folder.is_durable && !toss.keeps() {
                folder.exists = folder.is_durable;
                tally.lost(folder.number);
                tally.end_of_file();
            }
        }
        self.forget_what_is_gone();
        // No file is without its folder, whatever became of the folder itself.
        let used: Vec<TopicPartition> = self.names.keys().filter_map(|&name| partition_of(name)).collect();
        for partition in used {
            self.set_folder(0, partition, true);
        }
        for folder in self.folders.values_mut() {
            folder.is_durable = folder.exists;
        }
        self.forget_what_is_gone();
    }
}
