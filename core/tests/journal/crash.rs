//! Random runs over a small ring with crashes anywhere, many laps long.

use chronik_core::ids::Lsn;
use chronik_core::journal::{BLOCK_BYTES, Class, RecordKind, Slots};
use proptest::prelude::*;

use super::world::{Dice, World, partition};

#[derive(Clone, Debug)]
enum Step {
    Append { length: u64, partition: u64 },
    Imitate,
    Take,
    Sync,
    Checkpoint,
    AddSlot,
    Seal,
    Kill { sector: usize, seed: u64 },
    LosePower { sector: usize, seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![6 => 0..600u64, 2 => 3000..9000u64, 1 => 20_000..65_000u64];
    let sector = || prop_oneof![Just(512usize), Just(4096usize)];
    prop_oneof![
        12 => (length, 0..8u64).prop_map(|(length, partition)| Step::Append { length, partition }),
        1 => Just(Step::Imitate),
        8 => Just(Step::Take),
        8 => Just(Step::Sync),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::AddSlot),
        1 => Just(Step::Seal),
        1 => (sector(), any::<u64>()).prop_map(|(sector, seed)| Step::Kill { sector, seed }),
        2 => (sector(), any::<u64>()).prop_map(|(sector, seed)| Step::LosePower { sector, seed }),
    ]
}

fn take(world: &mut World, step: &Step, dice: &mut Dice) {
    match *step {
        Step::Append { length, partition: number } => {
            let kind = if number == 0 { RecordKind::NodeState } else { RecordKind::Append };
            let class = if number == 0 { Class::Critical } else { Class::Ordinary };
            if world.writer.has_room(length, class) {
                let payload = (0..length).map(|_| dice.roll() as u8).collect();
                world.append(kind, partition(number), payload);
            }
        }
        Step::Imitate => {
            // The payload is a part of the journal's own bytes, such that its blocks lie where blocks do if it is its
            // commit's first record.
            let payload = [&[0; 4096 - 96 - 56][..], &world.disk.cache.0[0][..3 * 4096]].concat();
            if world.writer.has_room(payload.len() as u64, Class::Ordinary) {
                world.append(RecordKind::Append, partition(1), payload);
            }
        }
        Step::Take => {
            world.take();
        }
        Step::Sync => world.sync(),
        Step::Checkpoint => world.checkpoint(),
        Step::AddSlot => world.add_slot_if_wanted(),
        Step::Seal => world.writer.seal(),
        Step::Kill { sector, seed } => world.kill(sector, seed),
        Step::LosePower { sector, seed } => world.lose_power(sector, seed),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_leaves_the_durable_records_and_an_unsynced_commit_only_whole(
        steps in proptest::collection::vec(step(), 1..120),
        seed: u64,
    ) {
        let (mut world, mut dice) = (World::new(2), Dice(seed));
        for step in &steps {
            take(&mut world, step, &mut dice);
        }
        world.lose_power(512, seed);
    }
}

#[test]
fn many_laps_with_crashes_lose_nothing() {
    let (mut world, mut dice) = (World::new(1), Dice(7));
    for _ in 0..700 {
        world.add_slot_if_wanted();
        for _ in 0..dice.below(4) {
            let length = [300, 5000, 30_000][dice.below(3) as usize];
            take(&mut world, &Step::Append { length, partition: dice.below(8) }, &mut dice);
        }
        world.take();
        match dice.below(12) {
            0 => world.lose_power(512, dice.roll()),
            1 => world.kill(4096, dice.roll()),
            2 => world.checkpoint(),
            _ => {}
        }
        world.sync();
    }
    let ring = u64::from(world.disk.cache.slots()) * world.disk.cache.len(0);
    assert!(world.writer.durable() > Lsn(6 * ring), "{} laps", world.writer.durable().0 / ring);
    assert!(world.commits_cut > 5 && world.commits_kept > 5, "{} {}", world.commits_cut, world.commits_kept);
}

/// Every subset of the blocks of an unsynced commit, over the old content of the lap before.
#[test]
fn every_subset_of_blocks_of_the_last_commit_is_cut_unless_it_is_all() {
    const BLOCKS: u64 = 6;
    let mut world = World::new(3);
    let mut dice = Dice(3);
    for _ in 0..40 {
        take(&mut world, &Step::Append { length: 7000, partition: 1 }, &mut dice);
        world.commit();
        world.checkpoint();
    }
    let old = world.disk.cache.clone();
    let start = world.start();
    let durable = world.writer.durable();
    take(&mut world, &Step::Append { length: (BLOCKS - 1) * BLOCK_BYTES, partition: 2 }, &mut dice);
    let commit = world.writer.take_commit().expect("a record is pending");
    assert_eq!(commit.data.len() as u64, BLOCKS * BLOCK_BYTES);
    for subset in 0..1u64 << BLOCKS {
        let mut slots = old.clone();
        for (block, bytes) in commit.data.chunks(BLOCK_BYTES as usize).enumerate() {
            if subset & (1 << block) != 0 {
                slots.write_at(commit.slot, commit.position + block as u64 * BLOCK_BYTES, bytes);
            }
        }
        let (recovered, listener) = super::world::replay(&slots, &start).expect("nothing durable is lost");
        let is_whole = subset == (1 << BLOCKS) - 1;
        assert_eq!(recovered.position.lsn, if is_whole { commit.end } else { durable }, "blocks {subset:b}");
        assert_eq!(listener.damages, []);
        let is_header_there = subset & 1 != 0;
        assert_eq!(recovered.cut.is_some(), is_header_there && !is_whole, "blocks {subset:b}");
    }
}
