//! What peers say is input: whatever it is, nobody panics, and logs hold only what a leader may have written.

use smallvec::smallvec;

use super::*;
use crate::ids::{BrokerEpoch, Offset, Session};
use crate::peer::{Acked, Append, Batches, Cut, Epochs, Greet};
use crate::rng::Rng;

fn number(rng: &mut Rng) -> i64 {
    match rng.below(12) {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => -1,
        _ => rng.below(6) as i64,
    }
}

fn batches(rng: &mut Rng) -> Batches {
    let mut bytes = Vec::new();
    for _ in 0..rng.below(4) {
        let base = if rng.below(3) == 0 { number(rng) } else { rng.below(6) as i64 };
        let batch = records(Timestamp(5), &["x"]).place(Offset(base), LeaderEpoch(number(rng) as i32)).build();
        bytes.extend_from_slice(&batch);
    }
    if rng.below(8) == 0 && !bytes.is_empty() {
        bytes.truncate(rng.below(bytes.len() as u64) as usize);
    }
    if rng.below(8) == 0 && !bytes.is_empty() {
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << rng.below(8);
    }
    Batches::new(smallvec![Bytes::from(bytes)])
}

fn message(rng: &mut Rng, partition: TopicPartition, epoch: i32, broker: i64) -> Message {
    let leader_epoch = LeaderEpoch(if rng.below(4) == 0 { number(rng) as i32 } else { epoch });
    let session = Session(rng.below(6));
    let broker_epoch = BrokerEpoch(if rng.below(4) == 0 { number(rng) } else { broker });
    let mut offset = || Offset(number(rng));
    let (a, b, c) = (offset(), offset(), offset());
    let acked = Acked { partition, leader_epoch, session, broker_epoch, durable_end: a, end: b, start: c };
    match rng.below(8) {
        0 => Message::Greet(vec![Greet { partition, leader_epoch, session, below: a }]),
        1 => {
            let epochs = (0..rng.below(4)).map(|_| (LeaderEpoch(number(rng) as i32), Offset(number(rng)))).collect();
            Message::Epochs(vec![Epochs {
                partition,
                leader_epoch,
                session,
                broker_epoch,
                start: a,
                end: b,
                high_watermark: c,
                epochs,
            }])
        }
        2 => Message::Cut(vec![Cut { partition, leader_epoch, session, to: a, starts_anew: rng.below(4) == 0 }]),
        3 => Message::CutDone(vec![acked]),
        4 => Message::Acked(vec![acked]),
        5 => Message::Mismatch(vec![acked]),
        _ => {
            let batches = batches(rng);
            let (previous_end, high_watermark, start) = (a, b, c);
            Message::Append(vec![Append {
                partition,
                leader_epoch,
                session,
                previous_end,
                high_watermark,
                start,
                batches,
            }])
        }
    }
}

#[test]
fn no_message_of_a_peer_makes_a_node_panic() {
    for seed in 0..60 {
        let mut rng = Rng::from_number(seed);
        let mut cluster = Cluster::new(2);
        cluster.create(TOPIC, &[&[1, 2]], &[]);
        cluster.create("other", &[&[2, 1]], &[]);
        cluster.produce(1, &["a"]);
        for _ in 0..150 {
            let name = if rng.below(4) == 0 { "other" } else { TOPIC };
            let mut id = cluster.partition(name, 0);
            if rng.below(10) == 0 {
                id.partition = number(&mut rng) as i32;
            }
            let message = message(&mut rng, id, 0, 12);
            let to = 1 + rng.below(2) as i32;
            cluster.hear(3 - to, to, message);
            cluster.run();
            if rng.below(20) == 0 {
                cluster.pass(rng.below(500));
            }
            if rng.below(30) == 0 {
                cluster.send(1, 1, &["b"]);
            }
        }
        for node in 1..=2 {
            assert!(cluster.rig(node).fatal.is_none(), "seed {seed}");
        }
    }
}
