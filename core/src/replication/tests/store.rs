//! A log and a disk as small as they can be: what is in memory, what is on disk, and what lies between.

use std::collections::VecDeque;

use crate::ids::{LeaderEpoch, Offset};
use crate::replication::Ends;

/// A record: the epoch that wrote it, and what nobody else wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) epoch: LeaderEpoch,
    pub(super) id: u64,
}

/// A change of a log, as a journal keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Append(Record),
    Cut(Offset),
    StartAnew(Offset),
    Start(Offset),
}

/// What a log holds, somewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) start: Offset,
    records: VecDeque<Record>,
}

impl Image {
    pub(super) fn end(&self) -> Offset {
        Offset(self.start.0 + self.records.len() as i64)
    }

    pub(super) fn at(&self, offset: Offset) -> Option<Record> {
        usize::try_from(offset.0 - self.start.0).ok().and_then(|index| self.records.get(index).copied())
    }

    pub(super) fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            if epochs.last().is_none_or(|(epoch, _)| *epoch != record.epoch) {
                epochs.push((record.epoch, Offset(self.start.0 + index as i64)));
            }
        }
        epochs
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(record) => self.records.push_back(record),
            Change::Cut(to) => self.records.truncate((to.0 - self.start.0) as usize),
            Change::StartAnew(at) => *self = Image { start: at, records: VecDeque::new() },
            Change::Start(to) if to > self.start => {
                self.records.drain(..(to.0 - self.start.0) as usize);
                self.start = to;
            }
            Change::Start(_) => {}
        }
    }
}

/// A log in memory, its disk, and the changes that are on their way there.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) memory: Image,
    pub(super) disk: Image,
    pending: VecDeque<Change>,
}

impl Store {
    /// Changes memory at once, except that a log starts later only when that is durable.
    pub(super) fn apply(&mut self, change: Change) {
        if !matches!(change, Change::Start(_)) {
            self.memory.apply(change);
        }
        self.pending.push_back(change);
    }

    /// Makes the oldest changes durable.
    pub(super) fn sync(&mut self, changes: usize) {
        for change in self.pending.drain(..changes.min(self.pending.len())) {
            self.disk.apply(change);
            if matches!(change, Change::Start(_)) {
                self.memory.apply(change);
            }
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A crash: what was on its way got there up to some point.
    pub(super) fn crash(&mut self, survives: usize) {
        self.sync(survives);
        self.pending.clear();
        self.memory = self.disk.clone();
    }

    pub(super) fn ends(&self) -> Ends {
        let (mut start, mut durable) = (self.disk.start, self.disk.end());
        let is_cut = |change: &Change| matches!(change, Change::Cut(_) | Change::StartAnew(_));
        let is_cutting = self.pending.iter().any(is_cut);
        for change in &self.pending {
            match *change {
                Change::Cut(to) => durable = durable.min(to),
                Change::StartAnew(at) => (start, durable) = (at, at),
                Change::Append(_) | Change::Start(_) => {}
            }
        }
        Ends { start, durable, end: self.memory.end(), is_cutting }
    }
}
