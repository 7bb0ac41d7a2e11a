//! Peers that say anything at all: it is survived, counts for nothing that is not so, and leaves nothing behind.

use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;

use super::*;
use crate::ids::Session;
use crate::peer::{Acked, Answer, Append, Batches, Cut, EPOCHS_MAX, Epochs, Greet, ProposalOutcome};
use crate::rng::Rng;
use crate::time::Instant;

/// An offset that some check might stumble over.
fn offset(rng: &mut Rng) -> Offset {
    const BORDERS: [i64; 6] = [0, -1, i64::MIN, i64::MAX, 100, 101];
    Offset(match rng.below(3) {
        0 => BORDERS[rng.below(6) as usize],
        _ => rng.below(130) as i64,
    })
}

fn epoch(rng: &mut Rng) -> LeaderEpoch {
    LeaderEpoch(if rng.below(8) == 0 { rng.u64() as i32 } else { 5 })
}

fn session(rng: &mut Rng) -> Session {
    Session(if rng.below(8) == 0 { rng.u64() } else { rng.below(12) })
}

fn epochs(rng: &mut Rng) -> Vec<(LeaderEpoch, Offset)> {
    let count = if rng.below(20) == 0 { 2 * EPOCHS_MAX as u64 } else { rng.below(4) };
    let mut epochs: Vec<_> = (0..count).map(|_| (LeaderEpoch(rng.below(7) as i32 - 1), offset(rng))).collect();
    if rng.below(4) > 0 {
        epochs.sort();
    }
    epochs
}

fn acked(rng: &mut Rng) -> Acked {
    let (one, other) = (offset(rng), offset(rng));
    Acked {
        partition: PARTITION,
        leader_epoch: epoch(rng),
        session: session(rng),
        broker_epoch: BrokerEpoch(10 + rng.below(3) as i64),
        durable_end: one.min(other),
        end: if rng.below(4) == 0 { one } else { one.max(other) },
        start: if rng.below(4) == 0 { offset(rng) } else { Offset(0) },
    }
}

#[test]
fn a_leader_survives_whatever_its_followers_say() {
    for seed in 0..200 {
        let mut rng = Rng::from_number(seed);
        let mut now = Instant(1_000_000_000_000);
        let mut peers = Peers::new(300, 300);
        peers.connected(NodeId(1));
        let view = View {
            leader_epoch: LeaderEpoch(5),
            partition_epoch: PartitionEpoch(1),
            replicas: (0..3).map(|node| member(node, 10 + i64::from(node))).collect(),
            in_sync: vec![NodeId(0), NodeId(1)],
        };
        let mut log = Ends { start: Offset(0), durable: Offset(100), end: Offset(100), is_cutting: false };
        let ours = [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(3), Offset(50))];
        let settings = Settings::default();
        let node = member(0, 10).replica;
        let mut leader = Leader::new(PARTITION, node, &view, 1, log, Offset(90), settings, now, &mut peers);
        for _ in 0..300 {
            let from = NodeId(rng.below(4) as i32);
            let before = leader.high_watermark();
            let said = acked(&mut rng);
            match rng.below(9) {
                0 => {
                    let Acked { partition, leader_epoch, session, broker_epoch, durable_end, end, start } = said;
                    let high_watermark = durable_end;
                    let epochs = epochs(&mut rng);
                    let told =
                        Epochs { partition, leader_epoch, session, broker_epoch, start, end, high_watermark, epochs };
                    leader.on_epochs(from, &told, &ours, now, &mut peers);
                }
                1 => {
                    let _ = leader.on_cut_done(from, &said, now, &mut peers);
                }
                2 => {
                    let _ = leader.on_acked(from, &said, now, &mut peers);
                }
                3 => leader.on_mismatch(from, &said, now, &mut peers),
                4 => {
                    let answer = Answer {
                        partition: PARTITION,
                        leader_epoch: epoch(&mut rng),
                        partition_epoch: PartitionEpoch(rng.below(3) as i32),
                        attempt: rng.below(4),
                        outcome: ProposalOutcome::Ineligible,
                    };
                    let _ = leader.on_answer(&answer, now, &mut peers);
                }
                5 => {
                    log.end.0 += 1;
                    leader.appended(log.end, now, &mut peers);
                }
                6 => {
                    now = now + Duration::from_millis(rng.below(3_000));
                    let _ = leader.on_deadline(now, &mut peers);
                    leader.propose(now);
                }
                _ => {
                    let Some((lane, _)) = peers.next(NodeId(1), now) else { continue };
                    if let Next::Batches { from, .. } = leader.next(NodeId(1), lane, now, &mut peers) {
                        let batches = Batches::new(smallvec![Bytes::from_static(&[0; 40])]);
                        leader.send(NodeId(1), batches, Offset(from.0 + 1), now, &mut peers);
                    }
                }
            }
            leader.invariants();
            assert!(leader.high_watermark() >= before && leader.high_watermark() <= log.durable, "seed {seed}");
        }
        leader.resign(now, &mut peers);
        assert_eq!(peers.in_flight(NodeId(1), Lane::Tail), 0, "seed {seed}");
    }
}

#[test]
fn a_follower_survives_whatever_its_leader_says() {
    for seed in 0..200 {
        let mut rng = Rng::from_number(seed);
        let mut log = Ends { start: Offset(10), durable: Offset(80), end: Offset(100), is_cutting: false };
        let leadership = Leadership { leader: Some(NodeId(1)), leader_epoch: LeaderEpoch(5), unclean_epoch: None };
        let (mut follower, _) = Follower::new(PARTITION, BrokerEpoch(7), leadership, log, Offset(60), LeaderEpoch(4));
        for _ in 0..300 {
            let from = NodeId(1 + (rng.below(10) == 0) as i32);
            let (leader_epoch, session) = (epoch(&mut rng), session(&mut rng));
            let before = follower.high_watermark().0;
            match rng.below(4) {
                0 => {
                    let greet = Greet { partition: PARTITION, leader_epoch, session, below: offset(&mut rng) };
                    let told = follower.on_greet(from, &greet, &epochs(&mut rng), log);
                    assert!(told.is_none_or(|told| told.epochs.len() <= EPOCHS_MAX));
                }
                1 => {
                    let starts_anew = rng.below(3) == 0;
                    let cut = Cut { partition: PARTITION, leader_epoch, session, to: offset(&mut rng), starts_anew };
                    match follower.on_cut(from, &cut, log) {
                        CutDecision::Cut(to) => {
                            assert!(before <= to && log.start <= to && to < log.end, "seed {seed}: {to} of {log:?}");
                            log = Ends { durable: log.durable.min(to), end: to, is_cutting: true, ..log };
                        }
                        CutDecision::StartAnew(at) => {
                            assert!(before <= at, "seed {seed}: {at} of {log:?}");
                            log = Ends { start: at, durable: at, end: at, is_cutting: true };
                        }
                        _ => {}
                    }
                }
                2 => {
                    let append = Append {
                        partition: PARTITION,
                        leader_epoch,
                        session,
                        previous_end: if rng.below(2) == 0 { log.end } else { offset(&mut rng) },
                        high_watermark: offset(&mut rng),
                        start: offset(&mut rng),
                        batches: Batches::default(),
                    };
                    // Whose offsets rise within a batch and from one to the next, as the connection has seen.
                    let base = offset(&mut rng).max(Offset(0)).min(Offset(1 << 40));
                    let batches = (rng.below(2) == 0).then_some((base, Offset(base.0 + 1 + rng.below(5) as i64)));
                    if let Taken::Append { high_watermark, start } = follower.on_append(from, &append, batches, log) {
                        let end = batches.map_or(log.end, |(_, end)| end);
                        assert!(log.end <= end && high_watermark <= end && start <= high_watermark, "seed {seed}");
                        log = Ends { start: start.max(log.start), end, ..log };
                        log.durable = log.durable.max(log.start);
                    }
                }
                _ => {
                    log = Ends { durable: log.end, is_cutting: false, ..log };
                    follower.confirmed(log);
                }
            }
            assert!(follower.high_watermark().0 >= before, "seed {seed}: a high watermark goes back");
            assert!(follower.high_watermark().0 <= log.end, "seed {seed}: a high watermark is in the log");
        }
    }
}
