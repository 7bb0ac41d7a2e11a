//! Loading the log, whatever compaction has left of it (KAFKA-4704, KAFKA-17306, KAFKA-19862).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bench::{Bench, NOBODY, Seat, beat, image, load};
use crate::group::Coordinator;
use crate::group::record::{Key, Record};
use crate::group::testing::BEGINNING;
use crate::rng::Rng;
use crate::time::Timestamp;
use crate::wire::{ErrorCode, Str};

type Logged = (Bytes, Option<Bytes>, Timestamp);

/// What compaction may leave of a log at any moment of its work: records that a later one below the dirty point takes
/// the place of, or some of them, are gone; tombstones below it may be, if everything that they took away is.
pub(super) fn compacted(log: &[Logged], rng: &mut Rng) -> Vec<Logged> {
    // Compaction knows the last record of each key below the dirty point, and has rewritten everything below `done`.
    let dirty = rng.below(log.len() as u64 + 1) as usize;
    let done = rng.below(dirty as u64 + 1) as usize;
    let forget_tombstones = rng.below(2) == 0;
    let last: BTreeMap<&Bytes, usize> = log[..dirty].iter().enumerate().map(|(at, (key, ..))| (key, at)).collect();
    let is_left = |at: usize, record: &Logged| {
        let is_last = last.get(&record.0) == Some(&at);
        at >= done || is_last && (record.1.is_some() || !forget_tombstones)
    };
    log.iter().enumerate().filter(|(at, record)| is_left(*at, record)).map(|(_, record)| record.clone()).collect()
}

/// A life of a group in all that it can be: simple, classic, of the next protocol, classic again, deleted, and anew.
fn life() -> Bench {
    let mut bench = Bench::new();
    bench.commit("readers", &NOBODY, ("orders", 0), 1);
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 1), 2);
    bench.stand_up("readers", &seat);
    consume(&mut bench, "readers");
    let seat = bench.sit_down("readers", "consumer", &["bills"]);
    bench.commit("readers", &seat, ("bills", 1), 3);
    bench.stand_up("readers", &seat);
    assert_eq!(bench.delete("readers"), ErrorCode::None);
    consume(&mut bench, "readers");
    bench.commit("readers", &NOBODY, ("orders", 2), 4);
    consume(&mut bench, "writers");
    assert_eq!(bench.delete("writers"), ErrorCode::None);
    bench.sit_down("writers", "consumer", &["orders"]);
    bench
}

/// A member of the next protocol joins a group without members, and leaves it.
fn consume(bench: &mut Bench, group: &str) {
    assert_eq!(bench.beat(beat(group, 0)).error_code, 0);
    assert_eq!(bench.beat(beat(group, -1)).error_code, 0);
}

/// Lives of a few groups, drawn: members of either protocol come and go, offsets are committed, groups deleted.
fn random_lives(rng: &mut Rng) -> Bench {
    let mut bench = Bench::new();
    let mut seats: BTreeMap<&str, Seat> = BTreeMap::new();
    for _ in 0..60 {
        let group = ["audit", "billing", "crm"][rng.below(3) as usize];
        let topic = ["orders", "bills"][rng.below(2) as usize];
        let kind = bench.groups().into_iter().find(|found| found.starts_with(group)).unwrap_or_default();
        match (rng.below(6), kind.split_once(' ').map_or("", |(_, kind)| kind)) {
            (0 | 1, _) => {
                let by = seats.get(group).unwrap_or(&NOBODY).clone();
                bench.commit(group, &by, (topic, rng.below(4) as i32), rng.below(100) as i64);
            }
            (2, "" | "Empty classic" | "Empty consumer") => {
                seats.insert(group, bench.sit_down(group, "consumer", &[topic]));
            }
            (2, "Stable classic") => bench.stand_up(group, &seats.remove(group).expect("somebody sits there")),
            (3, "" | "Empty classic" | "Empty consumer") => assert_eq!(bench.beat(beat(group, 0)).error_code, 0),
            (3, "Stable consumer") => assert_eq!(bench.beat(beat(group, -1)).error_code, 0),
            (4, _) => {
                bench.delete(group);
            }
            _ => bench.expire(),
        }
    }
    bench
}

#[test]
fn whatever_groups_live_through_a_load_knows_the_same_and_so_does_one_of_what_compaction_leaves() {
    for seed in 0..40 {
        let mut rng = Rng::from_number(seed);
        let bench = random_lives(&mut rng);
        let expect = image(&bench.coordinator);
        assert_eq!(image(&bench.reloaded()), expect, "seed {seed}");
        for _ in 0..50 {
            let left = compacted(&bench.log, &mut rng);
            assert_eq!(image(&load(&left)), expect, "seed {seed}, {} records left", left.len());
        }
    }
}

#[test]
fn a_load_knows_what_the_coordinator_knew_that_wrote_the_log() {
    let bench = life();
    assert_eq!(image(&load(&bench.log)), image(&bench.coordinator));
}

#[test]
fn a_load_that_stops_anywhere_in_the_log_and_goes_on_knows_the_same() {
    let bench = life();
    for dirty in 0..=bench.log.len() {
        let mut coordinator = load(&bench.log[..dirty]);
        // Some part of the log may come twice: once before, once after it was compacted.
        for (key, value, at) in &bench.log[dirty.saturating_sub(3)..] {
            coordinator.replay(Record::decode(key, value.as_ref()).expect("it was encoded"), *at);
        }
        assert_eq!(image(&coordinator), image(&bench.coordinator), "stopped at {dirty}");
    }
}

#[test]
fn whatever_compaction_has_taken_away_a_load_knows_the_same() {
    let bench = life();
    let mut rng = Rng::from_number(1);
    for round in 0..2_000 {
        let left = compacted(&bench.log, &mut rng);
        assert_eq!(image(&load(&left)), image(&bench.coordinator), "round {round}, {} records left", left.len());
    }
}

#[test]
fn tombstones_of_what_is_not_there_make_nothing_and_break_nothing() {
    let [group, member, topic] = ["readers", "m", "orders"].map(Str::from);
    let of_groups = [
        Key::Group { group: group.clone() },
        Key::ConsumerGroup { group: group.clone() },
        Key::PartitionMetadata { group: group.clone() },
        Key::Member { group: group.clone(), member: member.clone() },
        Key::TargetAssignment { group: group.clone() },
        Key::TargetAssignmentMember { group: group.clone(), member: member.clone() },
        Key::CurrentAssignment { group: group.clone(), member },
        Key::Regex { group: group.clone(), regex: Str::from(".*") },
    ];
    let mut coordinator = Coordinator::default();
    let offset = Key::OffsetCommit { group, topic, partition: 0 };
    for key in of_groups.iter().chain([&offset, &Key::Unknown(99)]) {
        coordinator.replay(Record { key: key.clone(), value: None }, BEGINNING);
        assert!(coordinator.groups.is_empty(), "{key:?} made a group");
    }
    // Nor do those of a group take anything from its offsets.
    let mut bench = Bench::new();
    bench.commit("readers", &NOBODY, ("orders", 0), 5);
    let before = image(&bench.coordinator);
    for key in of_groups {
        bench.coordinator.replay(Record { key: key.clone(), value: None }, BEGINNING);
        assert_eq!(image(&bench.coordinator), before, "{key:?}");
    }
}
