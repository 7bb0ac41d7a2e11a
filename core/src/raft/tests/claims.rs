//! What holds in every world: under faults of all kinds nothing that was committed is lost or changes, and when they
//! end, the quorum goes on.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Faults, World, member};
use crate::ids::NodeId;
use crate::raft::{Member, Role};
use crate::rng::Rng;

/// A world of `voters` and two more nodes through `ticks` of what `seed` makes go wrong, and its healing.
fn life(seed: u64, voters: i32, ticks: u64) -> World {
    let mut rng = Rng::from_number(seed).keyed(7, 0);
    let mut some = |chance: u64| if rng.below(3) == 0 { 0 } else { rng.below(chance + 1) };
    let faults = Faults {
        lost: some(200),
        repeated: some(200),
        delay: some(6),
        disk: some(12),
        crash: some(15),
        restart: 60,
        partition: some(20),
        skipped_tick: some(200),
    };
    let mut world = World::new(seed, voters, 2, faults);
    for _ in 0..ticks {
        world.tick();
        act(&mut world);
    }
    world.heal();
    let leads = |world: &World| world.leader().is_some();
    world.run_until(40 * 10, "a leader", leads);
    world.run_until(400, "agreement", World::agrees);
    // What is proposed now is committed everywhere. A handover that was asked for before may still come between: then
    // whoever leads afterwards is asked, and a third time is not needed.
    let commits = |world: &mut World| {
        let mut proposed = None;
        for _ in 0..30 {
            proposed = world.leader().and_then(|leader| world.propose(leader).ok());
            if proposed.is_some() {
                break;
            }
            world.tick();
        }
        let proposed = proposed.expect("a leader takes proposals");
        world.run_until(60, "a commit", |world| world.committed.contains_key(&proposed.index) && world.agrees());
        world.committed[&proposed.index].0 == proposed
    };
    assert!(commits(&mut world) || commits(&mut world), "what a leader takes after the healing is committed");
    world
}

/// What owners do, now and then, at whichever node thinks that it leads.
fn act(world: &mut World) {
    let leading = |world: &World, id: &NodeId| {
        world.nodes[id].process.as_ref().is_some_and(|process| process.role() == Role::Leader)
    };
    for id in world.ids().into_iter().filter(|id| leading(world, id)).collect::<Vec<_>>() {
        if world.chance(300) {
            let _ = world.propose(id.0);
        }
        if world.chance(50) {
            world.read(id.0);
        }
        if world.chance(15) {
            let (voters, learners) = any_membership(world);
            if leading(world, &id) {
                world.change(id.0, voters, learners);
            }
        }
        if world.chance(10) && leading(world, &id) {
            let to = 1 + world.below(world.nodes.len() as u64) as i32;
            if world.quorum(id.0).transfer_leadership(NodeId(to)).is_ok() {
                world.see("transfer of leadership");
            }
            world.drain(id);
        }
    }
    for id in world.ids() {
        if world.chance(20) && world.nodes[&id].process.is_some() {
            let keep = world.below(4);
            world.compact(id.0, keep);
        }
    }
}

fn any_membership(world: &mut World) -> (BTreeSet<Member>, BTreeSet<Member>) {
    let all: Vec<Member> = world.nodes.values().map(|node| node.me).collect();
    let mut voters = BTreeSet::new();
    let mut learners = BTreeSet::new();
    for member in all {
        match world.below(4) {
            0 | 1 => _ = voters.insert(member),
            2 => _ = learners.insert(member),
            _ => {}
        }
    }
    if voters.is_empty() {
        voters.insert(member(1, 1));
        learners.remove(&member(1, 1));
    }
    (voters, learners)
}

fn sweep(seeds: std::ops::Range<u64>, voters: i32, ticks: u64) -> BTreeMap<&'static str, u64> {
    let mut seen = BTreeMap::new();
    for seed in seeds {
        for (what, times) in life(seed, voters, ticks).seen {
            *seen.entry(what).or_default() += times;
        }
    }
    seen
}

#[test]
fn one_voter_loses_nothing() {
    sweep(0..100, 1, 150);
}

#[test]
fn three_voters_lose_nothing() {
    let seen = sweep(1000..1100, 3, 200);
    for what in [
        "append",
        "appended",
        "diverged",
        "stand",
        "voted",
        "heartbeat",
        "alive",
        "take over",
        "snapshot piece",
        "snapshot received",
        "snapshot installed",
        "joint membership entered",
        "joint membership left",
        "transfer of leadership",
        "compacted",
        "crash",
        "partition",
        "leader",
        "read",
        "refused: no member",
    ] {
        assert!(seen.contains_key(what), "{what} never happened: {seen:?}");
    }
}

#[test]
fn five_voters_lose_nothing() {
    sweep(2000..2030, 5, 200);
}

/// Worlds in which nobody was elected any more, or somebody never heard.
#[test]
fn what_seeds_have_found_stays_away() {
    for (seed, voters) in [(10_144, 3), (20_016, 5), (30_122, 1)] {
        life(seed, voters, 300);
    }
}

#[test]
fn equal_seeds_give_equal_histories() {
    for seed in [1, 2, 3] {
        let (one, other) = (life(seed, 3, 200), life(seed, 3, 200));
        assert_eq!((one.history, one.seen), (other.history, other.seen));
    }
    assert_ne!(life(1, 3, 200).history, life(2, 3, 200).history);
}
