//! Passes over a log that grows, against a model that remembers all that was ever written to it.

use bytes::Bytes;
use proptest::prelude::*;

use std::collections::BTreeMap;

use super::*;
use crate::batch::{BatchBuilder, Codec, check};
use crate::boundary::FileName;
use crate::ids::{LeaderEpoch, Uuid};
use crate::log::{Place, ReadOutcome, ReadPlan, Sought};
use crate::testing::MemoryFiles;

const ID: TopicPartition = TopicPartition { topic: Uuid([7; 16]), partition: 3 };
const EPOCH: LeaderEpoch = LeaderEpoch(2);
const RETENTION_MS: u64 = 1_000;

/// What is written to a log, one batch at a time.
#[derive(Clone, Debug)]
enum Written {
    /// Records of these keys, none for no key; values or tombstones; by an idempotent producer or by nobody.
    Plain(Vec<(Option<u8>, bool)>, Option<i64>, Codec),
    /// The same in the transaction of a producer.
    InTransaction(i64, Vec<(Option<u8>, bool)>),
    /// A producer's transaction is committed, or aborted.
    Marker(i64, bool),
    /// The segment is closed.
    Roll,
    /// Records of these keys are written and cut again, by which the segment is closed.
    Cut(Vec<(Option<u8>, bool)>),
    /// What was closed until here is compacted, so many milliseconds after the last time.
    Compact(u64),
}

#[derive(Clone, Debug)]
struct Known {
    key: Option<u8>,
    value: Option<Vec<u8>>,
    /// The producer in whose transaction it is.
    transaction: Option<i64>,
    /// `None` while that is open, or where it is in none.
    is_committed: Option<bool>,
    /// The last offset of its batch.
    last: i64,
    /// When a pass first found all of its batch below its end.
    found_at: Option<i64>,
}

impl Known {
    fn counts(&self) -> bool {
        self.transaction.is_none() || self.is_committed == Some(true)
    }
}

struct World {
    files: MemoryFiles,
    sources: Vec<Source>,
    open: Vec<Bytes>,
    next: i64,
    known: BTreeMap<i64, Known>,
    /// The newest batch of each producer: its last offset.
    producers: BTreeMap<i64, (Offset, i64)>,
    sequences: BTreeMap<i64, i32>,
    clean_to: Offset,
    start: Offset,
    now: i64,
    generation: u32,
    map_bytes_max: usize,
    segment_bytes: u64,
    is_everywhere: bool,
}

impl World {
    fn new(map_bytes_max: usize, segment_bytes: u64) -> World {
        World {
            files: MemoryFiles::default(),
            sources: Vec::new(),
            open: Vec::new(),
            next: 0,
            known: BTreeMap::new(),
            producers: BTreeMap::new(),
            sequences: BTreeMap::new(),
            clean_to: Offset(0),
            start: Offset(0),
            now: 10_000,
            generation: 0,
            map_bytes_max,
            segment_bytes,
            is_everywhere: true,
        }
    }

    fn write(&mut self, written: &Written) {
        match written {
            Written::Plain(records, producer, codec) => self.records(records, *producer, None, *codec),
            Written::InTransaction(producer, records) => {
                self.records(records, Some(*producer), Some(*producer), Codec::None);
            }
            Written::Marker(producer, commits) => self.marker(*producer, *commits),
            Written::Roll => self.roll(),
            Written::Cut(keys) => {
                let end = self.next;
                let (known, producers) = (self.known.clone(), self.producers.clone());
                if !self.open.is_empty() {
                    self.records(keys, None, None, Codec::None);
                    self.roll();
                    let source = self.sources.last_mut().expect("it was closed");
                    (source.end, source.is_cut) = (Offset(end), true);
                    (self.next, self.known, self.producers) = (end, known, producers);
                }
            }
            Written::Compact(ms) => {
                self.roll();
                self.now += i64::try_from(*ms).expect("short");
                self.compact();
            }
        }
    }

    fn records(
        &mut self,
        records: &[(Option<u8>, bool)],
        producer: Option<i64>,
        transaction: Option<i64>,
        codec: Codec,
    ) {
        let mut batch = BatchBuilder::new().codec(codec).place(Offset(self.next), EPOCH);
        if let Some(id) = producer {
            let sequence = self.sequences.entry(id).or_default();
            batch = batch.producer(ProducerId(id), ProducerEpoch(0), *sequence);
            *sequence += i32::try_from(records.len()).expect("few");
        }
        if transaction.is_some() {
            batch = batch.transactional();
        }
        let last = self.next + records.len() as i64 - 1;
        for &(key, has_value) in records {
            let value = has_value.then(|| self.next.to_string().into_bytes());
            let bytes = key.map(|key| [key]);
            batch = batch.record(Timestamp(self.next), bytes.as_ref().map(|key| &key[..]), value.as_deref());
            let known = Known { key, value, transaction, is_committed: None, last, found_at: None };
            self.known.insert(self.next, known);
            self.next += 1;
        }
        if let Some(id) = producer {
            self.producers.insert(id, (Offset(self.next - 1), i64::from(self.sequences[&id] - 1)));
        }
        self.open.push(batch.build());
    }

    fn marker(&mut self, producer: i64, commits: bool) {
        for known in self.known.values_mut().filter(|known| known.transaction == Some(producer)) {
            known.is_committed.get_or_insert(commits);
        }
        let key = [0, 0, 0, u8::from(commits)];
        let batch = BatchBuilder::new()
            .place(Offset(self.next), EPOCH)
            .producer(ProducerId(producer), ProducerEpoch(0), -1)
            .transactional()
            .control()
            .record(Timestamp(self.next), Some(&key), Some(&[0; 6]));
        self.next += 1;
        self.open.push(batch.build());
    }

    fn roll(&mut self) {
        let Some(first) = self.open.first() else { return };
        let base = BatchHead::parse(first).expect("a sound batch").base_offset;
        let name = SegmentName::appended(ID, base);
        let mut output = Output::new(name);
        std::mem::take(&mut self.open).into_iter().for_each(|batch| output.push(batch));
        let (bytes, entries) = output.finish(&self.files).expect("memory has room");
        let end = Offset(self.next);
        self.sources.push(Source { name, bytes, entries, end, is_cut: false, since: Timestamp(0) });
    }

    fn scope(&self) -> Scope {
        let end = self.sources.last().expect("there is one").end;
        let producers = self.producers.iter().filter(|(_, (last, _))| *last < end);
        Scope {
            partition: ID,
            sources: self.sources.clone(),
            start: self.start,
            dirty_from: self.clean_to,
            now: Timestamp(self.now),
            delete_retention_ms: RETENTION_MS,
            is_everywhere: self.is_everywhere,
            segment_bytes: self.segment_bytes,
            map_bytes_max: self.map_bytes_max,
            secret: 5,
            generation: self.generation + 1,
            producers: producers.map(|(&id, &(last, _))| (ProducerId(id), (Some(last), ProducerEpoch(0)))).collect(),
        }
    }

    fn replace(&mut self, replacement: Replacement, replaced: &[SegmentName]) {
        let Replacement { base, end, generation, bytes, entries, since, .. } = replacement;
        let first = self.sources.iter().position(|source| source.name == replaced[0]).expect("it was a source");
        let gone: Vec<_> = self.sources.drain(first..first + replaced.len()).collect();
        assert!(gone.iter().map(|source| source.name).eq(replaced.iter().copied()));
        assert_eq!(gone.last().expect("at least one").end, end);
        for source in gone {
            self.files.remove(FileName::Segment(source.name)).expect("memory");
        }
        let name = SegmentName { partition: ID, base, generation };
        self.sources.insert(first, Source { name, bytes, entries, end, is_cut: false, since });
        self.generation = self.generation.max(generation);
    }

    fn compact(&mut self) {
        if self.sources.is_empty() {
            return;
        }
        let mut pass = Pass::new(self.scope());
        let mut steps = 0;
        let end = loop {
            steps += 1;
            assert!(steps < 10_000, "a pass ends");
            match pass.step(&self.files).expect("the disk is sound") {
                Progress::Ahead => {}
                Progress::Replaced(replacement, replaced) => self.replace(replacement, &replaced),
                Progress::Done(end) => break end,
                Progress::Stuck(why) => panic!("stuck: {why}"),
            }
        };
        assert!(self.sources.first().is_none_or(|first| first.name.base <= self.start));
        self.clean_to = self.clean_to.max(end);
        for known in self.known.values_mut().filter(|known| known.last < end.0) {
            known.found_at.get_or_insert(self.now);
        }
        self.check(end);
    }

    /// All batches, in order, read as a consumer reads them.
    fn batches(&self) -> Vec<Bytes> {
        let mut all = Vec::new();
        for source in &self.sources {
            let (mut edge, mut last) = (Edge::default(), None);
            while edge.entries < source.entries {
                let (bytes, next) =
                    read_chunks(&self.files, source.name, source.entries, edge).expect("a sound segment");
                for found in Scan::checked(&bytes) {
                    let found = found.expect("sound batches");
                    if source.is_cut && found.head.base_offset >= source.end {
                        continue;
                    }
                    last = Some(found.head.next_offset());
                    all.push(bytes.slice(found.range));
                }
                edge = next;
            }
            assert_eq!(edge.position, source.bytes, "its index covers a segment");
            assert_eq!(last, Some(source.end), "a segment's last batch ends where the next segment begins");
            self.check_reads(source);
        }
        all
    }

    /// The batches that hold something.
    fn full_batches(&self) -> Vec<Bytes> {
        let mut batches = self.batches();
        batches.retain(|batch| BatchHead::parse(batch).expect("a sound batch").count > 0);
        batches
    }

    /// From every offset of a segment on there is something to read in it.
    fn check_reads(&self, source: &Source) {
        for offset in source.name.base.0..source.end.0 {
            let sought = Sought::Batches { from: Offset(offset), below: source.end, max_bytes: 1, at_least_one: true };
            let place = Place::Segment { segment: source.name, entries: source.entries };
            let found = ReadPlan { place, sought }.run(&self.files).expect("a sound segment");
            let ReadOutcome::Batches(bytes) = found else { panic!("nothing at {offset} of {:?}", source.name) };
            assert!(BatchHead::parse(&bytes).expect("a batch").last_offset() >= Offset(offset));
        }
    }

    /// What a pass that ended at `end` owes.
    fn check(&self, end: Offset) {
        let mut survivors: BTreeMap<i64, Option<Vec<u8>>> = BTreeMap::new();
        let mut shells: BTreeMap<ProducerId, (Offset, i32)> = BTreeMap::new();
        let mut markers: Vec<(i64, i64)> = Vec::new();
        let mut in_transaction: Vec<(i64, i64)> = Vec::new();
        for batch in self.batches() {
            let head = check(&batch).expect("a sound batch");
            if head.attributes.is_control() {
                if head.count > 0 {
                    markers.push((head.producer_id.0, head.base_offset.0));
                }
                continue;
            }
            if head.has_producer_id() {
                shells.insert(head.producer_id, (head.last_offset(), head.last_sequence()));
            }
            if head.attributes.is_transactional() {
                in_transaction.push((head.producer_id.0, head.base_offset.0));
            }
            let mut records = Records::open(&batch, 1 << 20).expect("a sound batch");
            while let Some(record) = records.next_record().expect("sound records") {
                let known = &self.known[&record.offset.0];
                let key = record.key.map(|key| key[0]);
                let value = record.value.map(<[u8]>::to_vec);
                assert_eq!((key, &value), (known.key, &known.value), "a record stays what it was");
                assert_eq!(record.timestamp, Timestamp(record.offset.0), "a record keeps its time");
                survivors.insert(record.offset.0, value);
            }
        }
        let mut newest: BTreeMap<u8, i64> = BTreeMap::new();
        for (&offset, known) in self.known.range(..end.0) {
            if let Some(key) = known.key.filter(|_| known.counts()) {
                newest.insert(key, offset);
            }
        }
        for (&offset, known) in self.known.range(..self.sources.last().expect("there is one").end.0) {
            let is_there = survivors.contains_key(&offset);
            if offset >= end.0 {
                assert!(is_there, "{offset} lies above the end {end} of the pass, and is gone");
            } else if offset < self.start.0 || !known.counts() || known.key.is_none() {
                assert!(!is_there, "{offset} below the start, aborted or without a key is still there");
            } else {
                let key = known.key.expect("it has one");
                let is_newest = newest[&key] == offset;
                let superseded_later = self.known.range(end.0..).any(|(_, later)| later.key == Some(key));
                let expiry = known.found_at.map(|at| at + i64::try_from(RETENTION_MS).expect("short"));
                let is_expired = known.value.is_none() && expiry.is_some_and(|at| at <= self.now);
                match (is_newest, is_expired) {
                    (false, _) => assert!(!is_there, "{offset} is superseded and still there"),
                    (true, false) => assert!(is_there || superseded_later, "{offset} is the newest of its key"),
                    (true, true) => assert!(!is_there, "the tombstone at {offset} is past its time"),
                }
            }
        }
        for (producer, offset) in in_transaction {
            let is_closed = markers.iter().any(|&(of, at)| of == producer && at > offset);
            let is_open = self.known.range(offset..).next().is_some_and(|(_, known)| known.is_committed.is_none());
            assert!(is_closed || is_open, "the batch at {offset} has lost its marker");
        }
        for (&id, &(last, sequence)) in &self.producers {
            if last < self.sources.last().expect("there is one").end && last >= self.start {
                let found = shells.get(&ProducerId(id)).map(|&(last, sequence)| (last, i64::from(sequence)));
                assert_eq!(found, Some((last, sequence)), "producer {id} has lost its newest batch");
            }
        }
    }
}

fn keys() -> impl Strategy<Value = Vec<(Option<u8>, bool)>> {
    let key = prop_oneof![19 => (0..7u8).prop_map(Some), 1 => Just(None)];
    proptest::collection::vec((key, prop::bool::weighted(0.8)), 1..5)
}

fn written(transactions: bool) -> impl Strategy<Value = Written> {
    let codec = prop::sample::select(Codec::ALL.to_vec());
    let weight = u32::from(transactions);
    prop_oneof![
        12 => (keys(), prop::option::of(10..12i64), codec).prop_map(|(keys, id, codec)| Written::Plain(keys, id, codec)),
        6 * weight => (0..3i64, keys()).prop_map(|(id, keys)| Written::InTransaction(id, keys)),
        4 * weight => (0..3i64, any::<bool>()).prop_map(|(id, commits)| Written::Marker(id, commits)),
        3 => Just(Written::Roll),
        1 => keys().prop_map(Written::Cut),
        2 => (0..2_000u64).prop_map(Written::Compact),
    ]
}

fn run(story: &[Written], map_bytes_max: usize, segment_bytes: u64) -> World {
    let mut world = World::new(map_bytes_max, segment_bytes);
    for written in story {
        world.write(written);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_of_each_key_stays_and_all_above_the_end(
        story in proptest::collection::vec(written(false), 1..80),
        segment_bytes in prop::sample::select(vec![0u64, 600, 100_000]),
    ) {
        let mut world = run(&story, 1 << 20, segment_bytes);
        world.write(&Written::Compact(0));
        let before = world.full_batches();
        // At the same time once more, runs that have become small may still be joined.
        world.write(&Written::Compact(0));
        prop_assert_eq!(world.full_batches(), before);
    }

    #[test]
    fn transactions_stay_whole(story in proptest::collection::vec(written(true), 1..120)) {
        run(&story, 1 << 20, 600);
    }

    #[test]
    fn a_map_that_is_too_small_takes_several_passes(story in proptest::collection::vec(written(false), 1..80)) {
        let mut world = run(&story, 72, 600);
        world.write(&Written::Roll);
        let Some(end) = world.sources.last().map(|last| last.end) else { return Ok(()) };
        let mut passes = 0;
        while world.clean_to < end {
            world.compact();
            passes += 1;
            prop_assert!(passes <= end.0, "every pass gets on");
        }
    }

    #[test]
    fn a_pass_that_is_dropped_at_any_step_changes_nothing(
        story in proptest::collection::vec(written(true), 1..60),
        steps in 0..20usize,
    ) {
        let mut world = run(&story, 1 << 20, 600);
        world.write(&Written::Roll);
        if world.sources.is_empty() {
            return Ok(());
        }
        let before = world.batches();
        let mut pass = Pass::new(world.scope());
        for _ in 0..steps {
            if let Progress::Done(_) = pass.step(&world.files).expect("the disk is sound") {
                break;
            }
        }
        prop_assert_eq!(world.batches(), before);
        // What it left behind under the numbers that the next one uses does no harm.
        world.write(&Written::Compact(1));
    }
}

#[test]
fn a_marker_goes_when_its_data_is_gone_and_its_time_has_come() {
    let mut world = World::new(1 << 20, 100_000);
    let markers = |world: &World| {
        let heads = world.batches().into_iter().map(|batch| BatchHead::parse(&batch).expect("sound"));
        heads.filter(|head| head.attributes.is_control() && head.count > 0).count()
    };
    let mut all = vec![
        Written::InTransaction(1, vec![(Some(1), true)]),
        Written::InTransaction(2, vec![(Some(2), true)]),
        Written::Marker(1, true),
        Written::Marker(2, false),
        Written::Plain(vec![(Some(1), true), (Some(2), true)], None, Codec::None),
    ];
    // Their producers are active again: what is left of the old transactions is nobody's newest batch.
    all.extend([Written::Plain(vec![(Some(3), true)], Some(1), Codec::None)]);
    all.extend([Written::Plain(vec![(Some(3), true)], Some(2), Codec::None), Written::Compact(0)]);
    all.iter().for_each(|written| world.write(written));
    assert_eq!(markers(&world), 2, "the data was found, though it went");
    world.write(&Written::Compact(5_000));
    assert_eq!(markers(&world), 2, "without data each gets a delete horizon");
    world.write(&Written::Compact(999));
    assert_eq!(markers(&world), 2, "which has not come");
    world.is_everywhere = false;
    world.write(&Written::Compact(1));
    assert_eq!(markers(&world), 2, "a replica that is behind may have the data");
    world.is_everywhere = true;
    world.write(&Written::Compact(0));
    assert_eq!(markers(&world), 0);
}

#[test]
fn a_key_that_looks_like_a_marker_takes_no_marker_away() {
    // The key of a commit marker (KAFKA-14055).
    let mut world = World::new(1 << 20, 100_000);
    world.write(&Written::InTransaction(1, vec![(Some(1), true)]));
    world.write(&Written::Marker(1, true));
    let batch = BatchBuilder::new().place(Offset(world.next), EPOCH);
    world.open.push(batch.record(Timestamp(world.next), Some(&[0, 0, 0, 1]), Some(b"v")).build());
    world.next += 1;
    world.roll();
    let mut pass = Pass::new(world.scope());
    loop {
        match pass.step(&world.files).expect("the disk is sound") {
            Progress::Ahead => {}
            Progress::Done(_) => break,
            other => panic!("nothing goes, so nothing is replaced: {other:?}"),
        }
    }
}

#[test]
fn what_lies_below_the_log_start_goes() {
    let mut world = World::new(1 << 20, 100_000);
    let plain = |key: u8| Written::Plain(vec![(Some(key), true); 2], None, Codec::None);
    (0..4).for_each(|key| world.write(&plain(key)));
    world.start = Offset(4);
    world.write(&Written::Compact(0));
    let first = BatchHead::parse(&world.batches()[0]).expect("a sound batch");
    assert_eq!(first.base_offset, Offset(4));
}

#[test]
fn damage_ends_a_pass_and_replaces_nothing() {
    let mut world = World::new(1 << 20, 100_000);
    for key in 0..4 {
        world.write(&Written::Plain(vec![(Some(key), true); 2], None, Codec::None));
    }
    world.write(&Written::Roll);
    world.files.flip(FileName::Segment(world.sources[0].name), 90);
    let result = Pass::new(world.scope()).step(&world.files);
    assert!(matches!(result, Err(DiskError::Corrupt(..))), "{result:?}");
}

#[test]
fn a_transaction_whose_keys_do_not_fit_is_told() {
    let mut world = World::new(72, 100_000);
    for key in 0..4 {
        world.write(&Written::InTransaction(1, vec![(Some(key), true)]));
    }
    world.write(&Written::Marker(1, true));
    world.write(&Written::Roll);
    let result = Pass::new(world.scope()).step(&world.files).expect("the disk is sound");
    assert!(matches!(&result, Progress::Stuck(why) if why.contains("do not fit")), "{result:?}");
}

/// Goes through a pass over segments of which the log was cut in a gap, and returns which took their place.
fn replace_gaps(world: &World) -> Vec<(Replacement, Vec<BatchHead>)> {
    let mut pass = Pass::new(world.scope());
    let mut replaced = Vec::new();
    loop {
        match pass.step(&world.files).expect("the disk is sound") {
            Progress::Ahead => {}
            Progress::Replaced(new, _) => {
                let name = SegmentName { partition: ID, base: new.base, generation: new.generation };
                let (bytes, _) = read_chunks(&world.files, name, new.entries, Edge::default()).expect("it is complete");
                replaced.push((new, Scan::checked(&bytes).map(|found| found.expect("a sound batch").head).collect()));
            }
            Progress::Done(_) => return replaced,
            Progress::Stuck(why) => panic!("{why}"),
        }
    }
}

#[test]
fn the_last_batch_of_a_segment_that_ends_in_a_gap_stays() {
    let mut world = World::new(1 << 20, 0);
    let plain = |key: u8| Written::Plain(vec![(Some(key), true); 2], None, Codec::None);
    world.write(&plain(1));
    world.write(&Written::Roll);
    // The log was cut at 4, where its last batch ends at 2.
    world.sources[0].end = Offset(4);
    world.next = 4;
    world.write(&plain(1));
    world.write(&Written::Roll);
    let replaced = replace_gaps(&world);
    assert_eq!((replaced[0].0.base, replaced[0].0.end), (Offset(0), Offset(4)));
    assert!(replaced[0].0.bytes > 0, "a log refuses an empty segment");
    let heads: Vec<_> = replaced[0].1.iter().map(|head| (head.base_offset, head.last_offset(), head.count)).collect();
    assert_eq!(heads, [(Offset(0), Offset(1), 0)]);
}

#[test]
fn a_segment_that_was_cut_in_a_gap_at_its_beginning_is_joined_with_the_next() {
    let plain = |key: u8| Written::Plain(vec![(Some(key), true); 2], None, Codec::None);
    // It begins at 0 and its first batch at 2, and the log was cut at 1.
    let mut world = World::new(1 << 20, 0);
    world.next = 2;
    world.write(&plain(1));
    let name = SegmentName::appended(ID, Offset(0));
    let mut output = Output::new(name);
    std::mem::take(&mut world.open).into_iter().for_each(|batch| output.push(batch));
    let (bytes, entries) = output.finish(&world.files).expect("memory has room");
    world.sources.push(Source { name, bytes, entries, end: Offset(1), is_cut: true, since: Timestamp(0) });
    assert_eq!(replace_gaps(&world), [], "there is nothing behind that needs it replaced");
    world.next = 1;
    world.write(&plain(2));
    world.write(&Written::Roll);
    let replaced = replace_gaps(&world);
    assert_eq!((replaced[0].0.base, replaced[0].0.end), (Offset(0), Offset(3)));
    assert_eq!(replaced[0].1.iter().map(|head| head.base_offset).collect::<Vec<_>>(), [Offset(1)]);
}
