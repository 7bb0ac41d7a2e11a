//! Any sequence of calls and power losses, against a model that copies whole files.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::tree::partition_of;
use super::*;

/// A file of the model.
#[derive(Clone, Debug, Default)]
struct Node {
    /// What it held at its last sync, and after each change since; never none.
    since_sync: Vec<Vec<u8>>,
    /// Whether it was cut since its last sync.
    was_cut: bool,
    blocks: BTreeSet<u64>,
    durable_blocks: BTreeSet<u64>,
}

impl Node {
    fn now(&self) -> &Vec<u8> {
        self.since_sync.last().expect("there is always what it held")
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.now().clone();
        change(&mut content);
        self.since_sync.push(content);
    }

    fn settle(&mut self) {
        self.since_sync.drain(..self.since_sync.len() - 1);
        self.was_cut = false;
        self.durable_blocks = self.blocks.clone();
    }

    /// Whether the file may be this after a power loss.
    fn may_become(&self, content: &[u8], sector: usize) -> bool {
        let byte = |of: &[u8], at: usize| of.get(at).copied().unwrap_or(0);
        let ranges: Vec<_> = (0..content.len()).step_by(sector).map(|at| at..content.len().min(at + sector)).collect();
        ranges.into_iter().all(|range| match self.was_cut {
            false => self.since_sync.iter().any(|then| range.clone().all(|at| byte(then, at) == content[at])),
            // A cut that persisted and a write that did not mix within a sector, since a cut clears what lies beyond.
            true => range
                .clone()
                .all(|at| content[at] == 0 || self.since_sync.iter().any(|then| byte(then, at) == content[at])),
        })
    }
}

#[derive(Debug, Default)]
struct Model {
    nodes: Vec<Node>,
    names: BTreeMap<FileName, usize>,
    folders: BTreeSet<TopicPartition>,
    durable_names: BTreeMap<FileName, usize>,
    durable_folders: BTreeSet<TopicPartition>,
    /// What names stood for since they were durable.
    candidates: BTreeMap<FileName, Vec<usize>>,
    knows_blocks: bool,
}

impl Model {
    fn node(&mut self, file: FileName) -> &mut Node {
        let index = *self.names.entry(file).or_insert_with(|| {
            self.nodes.push(Node { since_sync: vec![Vec::new()], ..Node::default() });
            self.candidates.entry(file).or_default().push(self.nodes.len() - 1);
            self.nodes.len() - 1
        });
        self.folders.extend(partition_of(file));
        &mut self.nodes[index]
    }

    fn sync(&mut self, file: FileName) {
        let index = self.names[&file];
        self.nodes[index].settle();
        let folder = partition_of(file);
        if self.durable_names.get(&file) != Some(&index) {
            self.settle_names(|name| partition_of(name) == folder);
        }
        if folder.is_some_and(|folder| !self.durable_folders.contains(&folder)) {
            let gone: BTreeSet<_> = self.durable_folders.difference(&self.folders).copied().collect();
            self.settle_names(|name| partition_of(name).is_some_and(|folder| gone.contains(&folder)));
            self.durable_folders = self.folders.clone();
        }
    }

    fn settle_names(&mut self, is_meant: impl Fn(FileName) -> bool) {
        self.durable_names.retain(|&name, _| !is_meant(name));
        self.candidates.retain(|&name, _| !is_meant(name));
        self.durable_names.extend(self.names.iter().filter(|&(&name, _)| is_meant(name)));
    }

    fn lose_all(&mut self) {
        for node in &mut self.nodes {
            node.since_sync.truncate(1);
            node.blocks = node.durable_blocks.clone();
        }
        self.names = self.durable_names.clone();
        self.folders = self.durable_folders.clone();
        self.folders.extend(self.names.keys().filter_map(|&name| partition_of(name)));
        self.keep_all();
    }

    fn keep_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::settle);
        self.durable_names = self.names.clone();
        self.durable_folders = self.folders.clone();
        self.candidates.clear();
    }

    /// Takes over what the disk holds after a power loss, if that may be.
    fn follow(&mut self, disk: &SimDisk, sector: usize) {
        let mut nodes = Vec::new();
        let mut names = BTreeMap::new();
        for name in disk.names() {
            let content = content(disk, name);
            let before = self.durable_names.get(&name);
            let mut may_be = before.into_iter().chain(self.candidates.get(&name).into_iter().flatten());
            assert!(may_be.any(|&node| self.nodes[node].may_become(&content, sector)), "{name} was never this");
            names.insert(name, nodes.len());
            nodes.push(Node { since_sync: vec![content], ..Node::default() });
        }
        for name in self.durable_names.keys().filter(|name| !names.contains_key(name)) {
            let is_still_there = self.names.get(name) == self.durable_names.get(name);
            assert!(!is_still_there, "{name} was durable and nobody removed it");
        }
        (self.nodes, self.names) = (nodes, names);
        self.folders = disk.partitions().expect("listed").into_iter().collect();
        self.knows_blocks = false;
        self.keep_all();
    }

    fn agrees_with(&self, disk: &SimDisk) {
        assert_eq!(disk.names(), self.names.keys().copied().collect::<Vec<_>>());
        for (&name, &node) in &self.names {
            assert_eq!(disk.len(name), Ok(Some(self.nodes[node].now().len() as u64)));
            assert!(content(disk, name) == *self.nodes[node].now(), "{name} holds something else");
        }
        assert_eq!(disk.partitions(), Ok(self.folders.iter().copied().collect()));
        for index in 0..2 {
            let segment = |file: &FileName| match file {
                FileName::Segment(name) | FileName::Index(name) => Some(*name),
                _ => None,
            };
            let names = self.names.keys().filter_map(segment).filter(|name| name.partition == partition(index));
            let segments = disk.segments(partition(index)).expect("listed");
            assert_eq!(segments, names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        }
        if self.knows_blocks {
            let blocks: usize = self.names.values().map(|&node| self.nodes[node].blocks.len()).sum();
            assert_eq!(disk.used_bytes(), 4096 * blocks as u64);
        }
    }
}

#[derive(Clone, Debug)]
enum Call {
    Write(FileName, usize, Vec<usize>),
    Zeros(FileName, usize, usize),
    Allocate(FileName, u64, u64),
    Truncate(FileName, usize),
    Sync(FileName),
    Remove(FileName),
    RemovePartition(i32),
    LosePower { keep: u32, sector: u32, seed: u64 },
}

fn files() -> impl Strategy<Value = FileName> {
    let some = [JOURNAL, FileName::Checkpoint(1), segment(0, 0), segment(0, 9), index(0, 0), segment(1, 0)];
    prop::sample::select(some.to_vec())
}

/// Places and lengths, often those of sectors and blocks.
fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![0..14_000_usize, (0..27_usize).prop_map(|at| at * 512), (0..4_usize).prop_map(|at| at * 4096)]
}

fn calls() -> impl Strategy<Value = Call> {
    let keep = prop::sample::select(vec![0, 300, 900, 1000]);
    let sector = prop::sample::select(vec![512, 4096]);
    prop_oneof![
        8 => (files(), bytes(), prop::collection::vec(bytes(), 0..3)).prop_map(|(of, at, to)| Call::Write(of, at, to)),
        2 => (files(), bytes(), bytes()).prop_map(|(of, at, bytes)| Call::Zeros(of, at, bytes)),
        2 => (files(), 0..30_000_u64, 0..9_000_u64).prop_map(|(of, at, bytes)| Call::Allocate(of, at, bytes)),
        2 => (files(), bytes()).prop_map(|(of, to)| Call::Truncate(of, to)),
        4 => files().prop_map(Call::Sync),
        2 => files().prop_map(Call::Remove),
        1 => (0..2).prop_map(Call::RemovePartition),
        1 => (keep, sector, any::<u64>()).prop_map(|(keep, sector, seed)| Call::LosePower { keep, sector, seed }),
    ]
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        content.resize(content.len().max(at + bytes.len()), 0);
        content[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn blocks(at: u64, bytes: u64) -> std::ops::Range<u64> {
    if bytes == 0 { 0..0 } else { at / 4096..(at + bytes).div_ceil(4096) }
}

fn call(disk: &SimDisk, model: &mut Model, number: usize, call: Call) {
    match call {
        Call::Write(file, at, lengths) => {
            let mut pieces = Vec::new();
            for (piece, bytes) in lengths.into_iter().enumerate() {
                // No two writes of a sequence hold the same bytes.
                let byte = |at: usize| (number * 31 + piece * 7 + at % 13) as u8;
                pieces.push(Bytes::from_iter((0..bytes).map(byte)));
            }
            disk.write_at(file, at as u64, &pieces).expect("written");
            let all = pieces.concat();
            let node = model.node(file);
            node.change(|content| put(content, at, &all));
            node.blocks.extend(blocks(at as u64, all.len() as u64));
        }
        Call::Zeros(file, at, bytes) => {
            disk.write_at(file, at as u64, &[filled(0, bytes)]).expect("written");
            let node = model.node(file);
            node.change(|content| put(content, at, &vec![0; bytes]));
            node.blocks.extend(blocks(at as u64, bytes as u64));
        }
        Call::Allocate(file, at, bytes) => {
            disk.allocate(file, at, bytes).expect("reserved");
            model.node(file).blocks.extend(blocks(at, bytes));
        }
        Call::Truncate(file, to) => {
            disk.truncate(file, to as u64).expect("cut");
            let node = model.node(file);
            node.change(|content| content.resize(to, 0));
            node.blocks.retain(|&block| block < (to as u64).div_ceil(4096));
            node.was_cut = true;
        }
        Call::Sync(file) => {
            assert_eq!(disk.sync(file).is_ok(), model.names.contains_key(&file));
            if model.names.contains_key(&file) {
                model.sync(file);
            }
        }
        Call::Remove(file) => {
            disk.remove(file).expect("removed");
            model.names.remove(&file);
        }
        Call::RemovePartition(index) => {
            disk.remove_partition(partition(index)).expect("removed");
            model.names.retain(|&name, _| partition_of(name) != Some(partition(index)));
            model.folders.remove(&partition(index));
        }
        Call::LosePower { keep, sector, seed } => {
            disk.lose_power(rng(seed), keep, sector);
            match keep {
                0 => model.lose_all(),
                1000 => model.keep_all(),
                _ => model.follow(disk, sector as usize),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_called_the_cache_shows_it_and_a_power_loss_leaves_what_it_may(
        sequence in prop::collection::vec(calls(), 1..60),
    ) {
        let disk = SimDisk::default();
        let mut model = Model { knows_blocks: true, ..Model::default() };
        for (number, next) in sequence.into_iter().enumerate() {
            call(&disk, &mut model, number, next);
            model.agrees_with(&disk);
        }
        let copy = disk.clone();
        lose_all(&copy);
        assert_eq!(copy.digest(), disk.digest(), "what is durable is what the worst power loss leaves");
        model.lose_all();
        model.agrees_with(&copy);
    }
}
