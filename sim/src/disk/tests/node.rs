//! A broker's state machine on the disk, through every place where its first start can die.

use chronik_core::boundary::{Committer, DiskOp, Done, Effect, Input, Outbox};
use chronik_core::config::BrokerConfig;
use chronik_core::ids::NodeId;
use chronik_core::journal::Geometry;
use chronik_core::limits::Limits;
use chronik_core::node::{Node, NodeOptions};
use chronik_core::time::{Instant, Now, Timestamp};

use super::*;

fn options() -> NodeOptions {
    NodeOptions {
        node_id: NodeId(1),
        directory_id: Uuid([3; 16]),
        cluster_id: "simulated".into(),
        data_dir: "/data".into(),
        listeners: vec![("PLAINTEXT".into(), "localhost".into(), 9092)],
        broker: BrokerConfig::default(),
        limits: Limits::default(),
        journal: Geometry { file_bytes: 256 << 10, max_files: 6, reserve_bytes: 64 << 10 },
        direct_from: 20_000,
        cluster: None,
    }
}

fn now(ms: u64) -> Now {
    Now { instant: Instant(ms * 1_000_000), wall: Timestamp(1_700_000_000_000) }
}

/// Hands the node an input and lets it work for a while, in milliseconds; says whether it stopped.
fn work(node: &mut Node, disk: &SimDisk, input: Input, ms: std::ops::Range<u64>) -> bool {
    let mut committer = Committer::new(false);
    let mut out = Outbox::default();
    node.step(now(ms.start), input, &mut out);
    for ms in ms {
        if node.deadline().is_some_and(|(at, _)| at <= now(ms).instant) {
            node.step(now(ms), Input::Deadline, &mut out);
        }
        node.turn(now(ms), &mut out);
        while !out.0.is_empty() {
            for effect in std::mem::take(&mut out.0) {
                let done = match effect {
                    Effect::Disk(DiskOp::Commit(commit, direct)) => committer.carry_out(disk, commit, &direct),
                    Effect::Disk(DiskOp::Task(id, task)) => Done::Task(id, task.run(disk)),
                    Effect::Stopped => return true,
                    Effect::Fatal(why) => panic!("nothing is wrong with the disk: {why}"),
                    _ => continue,
                };
                node.step(now(ms), Input::Disk(done), &mut out);
            }
            node.turn(now(ms), &mut out);
        }
        node.invariants();
    }
    false
}

#[test]
fn a_node_starts_works_stops_and_starts_again_on_it() {
    let disk = SimDisk::default();
    let (mut node, _) = Node::recover(options(), &disk, [1; 32], now(0)).expect("an empty folder");
    assert!(!work(&mut node, &disk, Input::Deadline, 1..200));
    assert!(disk.used_bytes() > 256 << 10, "the journal grows while there is nothing to do");
    assert!(work(&mut node, &disk, Input::Stop, 200..400));
    lose_all(&disk);
    Node::recover(options(), &disk, [2; 32], now(400)).expect("what it was told is durable is there");
}

#[test]
fn a_node_starts_wherever_its_first_start_died() {
    let mut deaths = 0;
    for changes in 0.. {
        let disk = SimDisk::default();
        disk.die_after(changes);
        let first = Node::recover(options(), &disk, [1; 32], now(0));
        let survived = !disk.is_dead();
        assert_eq!(first.is_ok(), survived, "a node whose disk is gone does not start");
        disk.lose_power(rng(changes), 500, 512);
        disk.revive();
        Node::recover(options(), &disk, [2; 32], now(0)).expect("nothing was promised that is not there");
        if survived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 3, "a start changes files");
}
