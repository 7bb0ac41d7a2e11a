//! Random lives of a partition: see `world` for what happens in them, and `claims` for what must hold. Once nothing fails
//! any more, all replicas are in sync and the same within five seconds.

use std::time::Duration;

use super::world::World;
use crate::ids::NodeId;

#[test]
fn what_is_promised_is_kept_whatever_happens() {
    for seed in 0..SEEDS {
        run(seed);
    }
}

const SEEDS: u64 = 250;
const STEPS: usize = 1_500;

fn run(seed: u64) {
    let mut world = World::new(seed);
    // Each life has its own mixture of troubles, some of them none, and often one broker that is slow.
    let mut rate = || [0, 1, 3, 10][world.rng.below(4) as usize];
    let (crashes, resets, fences, moves, deletes, losses) = (rate(), rate(), rate(), rate(), rate(), rate());
    let slow = NodeId(world.rng.below(2 * world.nodes() as u64) as i32);
    for _ in 0..STEPS {
        let (node, other) = (any(&mut world), any(&mut world));
        if node == slow && world.rng.below(4) > 0 {
            continue;
        }
        match world.rng.below(1000) {
            0..300 => world.deliver_any(),
            300..500 => world.turn_any(),
            500..620 => {
                let changes = 1 + world.rng.below(6) as usize;
                world.sync(node, changes);
            }
            620..690 => world.apply_metadata(node),
            690..730 => world.decide(node),
            730..770 => world.hear_answer(node),
            770..850 => {
                let all = world.rng.below(4) > 0;
                world.produce(node, all);
            }
            850..870 => {
                let time = Duration::from_millis(world.rng.below(30));
                world.pass(time);
            }
            870..890 => world.finish_read(node),
            890..910 => world.connect(node, other),
            910..920 => world.restart(node),
            920..930 => world.unfence(node),
            trouble => {
                let odds = world.rng.below(20);
                match trouble - 930 {
                    0..12 if odds < crashes => world.crash(node),
                    12..24 if odds < resets => world.reset(node, other),
                    24..36 if odds < fences => world.authority.fence(node),
                    36..44 if odds < moves => world.authority.move_leader(node),
                    44..52 if odds < deletes => world.delete_records(node),
                    52..58 if odds < losses => world.lose_requests(node),
                    58..62 if odds < losses => world.authority.term += 1,
                    62..66 if odds < losses => world.set_full(node, true),
                    66..70 => world.set_full(node, false),
                    _ => {}
                }
            }
        }
    }
    heal(&mut world);
}

fn any(world: &mut World) -> NodeId {
    let nodes = world.nodes() as u64;
    NodeId(world.rng.below(nodes) as i32)
}

/// Everything works from now on, and everybody gets on.
fn heal(world: &mut World) {
    let nodes = || (0..5).map(NodeId);
    let mut state = Err(String::new());
    for _ in 0..500 {
        let count = world.nodes();
        for node in nodes().take(count) {
            world.restart(node);
            world.set_full(node, false);
            world.apply_metadata(node);
            world.unfence(node);
            world.decide(node);
            world.hear_answer(node);
            world.sync(node, 100);
            world.finish_read(node);
            for other in nodes().take(count) {
                world.connect(node, other);
                world.turn(node, other, 100);
                while world.deliver(node, other) {}
            }
        }
        world.pass(Duration::from_millis(10));
        state = world.is_healed();
        if state.is_ok() {
            break;
        }
    }
    assert_eq!(state, Ok(()), "seed {}", world.seed);
}
