//! What peers in the metadata quorum say, and what the journal keeps of its log.

use bytes::Bytes;
use chronik_core::ids::{NodeId, Uuid};
use chronik_core::raft::{Limits, Member, Membership, Message, Options, Quorum, Record, Restored};

use crate::wire_bodies::entropy::Entropy;

/// The first byte chooses: 0, and the rest is a message; 1, and it is a record; otherwise it makes up the life of a
/// member among peers who say anything.
pub fn body(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice {
        0 => message(rest),
        1 => record(rest),
        _ => life(&mut Entropy::new(rest), rest.len().min(MAX_STEPS)),
    }
}

/// There is one way to say each thing.
fn message(data: &[u8]) {
    let Ok(message) = Message::decode(Bytes::copy_from_slice(data)) else { return };
    let mut written = Vec::new();
    message.encode(&mut written);
    assert_eq!(written, data, "{message:?}");
}

fn record(data: &[u8]) {
    let Ok(record) = Record::decode(Bytes::copy_from_slice(data)) else { return };
    let mut written = Vec::new();
    record.encode(&mut written);
    assert_eq!(written, data, "{record:?}");
}

const CLUSTER: Uuid = Uuid([7; 16]);
const ME: Member = member(1);

const fn member(node: i32) -> Member {
    Member { node: NodeId(node), directory: Uuid([node as u8; 16]) }
}

/// What stands for the owner's state in snapshots.
const IMAGE: &[u8] = b"image!";

/// No more steps than this, so that an input is quick.
const MAX_STEPS: usize = 200;

/// A voter among three, or alone, with a slow disk. Nothing that is said to it makes it panic.
fn life(entropy: &mut Entropy<'_>, steps: usize) {
    let voters = if entropy.one_in(4) { 1 } else { 3 };
    let membership = Membership::of((1..=voters).map(member)).expect("there are voters");
    let limits = Limits { snapshot_piece_bytes: 4, max_snapshot_bytes: 64, max_unconfirmed: 16, ..Limits::default() };
    let options =
        Options { cluster: CLUSTER, me: ME, seed: 1, restart: 1, election_ticks: 5, heartbeat_ticks: 1, limits };
    let mut quorum =
        Quorum::new(options.clone(), Restored::bootstrap(membership.clone())).expect("nothing is lost yet");
    let mut restored = Restored::bootstrap(membership);
    let mut unwritten = Vec::new();
    for _ in 0..steps {
        match entropy.byte() % 16 {
            0 | 1 => quorum.tick(),
            2 => quorum.campaign(),
            3 => _ = quorum.propose(Bytes::from_static(b"payload")),
            4 => _ = quorum.read_index(),
            5 => _ = quorum.transfer_leadership(NodeId(entropy.below(4) as i32)),
            6 => {
                let voters = (1..=1 + entropy.below(3) as i32).map(member).collect();
                _ = quorum.propose_membership(voters, [member(9)].into());
            }
            7 | 8 if !unwritten.is_empty() => quorum.persisted(unwritten.remove(0)),
            9 => {
                let head = quorum.snapshot_head(quorum.applied());
                head.map(|head| quorum.compact(head, entropy.below(3) as u64));
            }
            _ => {
                let said = said(entropy, quorum.term());
                if let Ok(message) = Message::decode(said.into()) {
                    let _ = quorum.step(message.from().node, message);
                }
            }
        }
        while let Some(ready) = quorum.take_ready() {
            if !ready.records.is_empty() {
                unwritten.push(ready.number);
            }
            for record in ready.records {
                restored.replay(record).expect("what is handed out is one log");
            }
            for read in &ready.snapshot_reads {
                let from = read.offset.min(IMAGE.len() as u64) as usize;
                let to = IMAGE.len().min(from + read.max_bytes);
                quorum.supply_snapshot(read, IMAGE.len() as u64, Bytes::from_static(&IMAGE[from..to]));
            }
            for (_, message) in ready.sends {
                let mut written = Vec::new();
                message.encode(&mut written);
                assert_eq!(Message::decode(written.into()), Ok(message), "what a member says is understood");
            }
            quorum.invariants();
        }
    }
    Quorum::new(options, restored).expect("what was handed out is a log").invariants();
}

/// The bytes of a message whose numbers lie about where the log is, addressed to the member.
fn said(entropy: &mut Entropy<'_>, term: u64) -> Vec<u8> {
    let mut out = vec![0, entropy.byte() % 11];
    let put = |out: &mut Vec<u8>, member: Member| {
        out.extend(member.node.0.to_be_bytes());
        out.extend(member.directory.0);
    };
    out.extend(CLUSTER.0);
    put(&mut out, member(2 + entropy.below(3) as i32));
    put(&mut out, ME);
    number(&mut out, entropy);
    let later = [0, 0, 0, 0, 0, 0, 1, 2][entropy.below(8)];
    out.extend((term + later).to_be_bytes());
    match out[1] {
        1 => {
            numbers(&mut out, entropy, 3);
            let entries = entropy.below(4) as u32;
            out.extend(entries.to_be_bytes());
            for _ in 0..entries {
                number(&mut out, entropy);
                content(&mut out, entropy);
            }
        }
        2 | 10 => numbers(&mut out, entropy, 2),
        3 => numbers(&mut out, entropy, 4),
        kind @ (4 | 5) => {
            out.extend([entropy.byte() % 2, entropy.byte() % 2]);
            numbers(&mut out, entropy, if kind == 4 { 4 } else { 2 });
        }
        6 | 7 => {
            number(&mut out, entropy);
            out.push(0);
        }
        9 => {
            numbers(&mut out, entropy, 2);
            membership(&mut out, entropy);
            let offset = 4 * entropy.below(3) as u64;
            out.extend(offset.to_be_bytes());
            out.extend((offset + 4 * entropy.below(3) as u64).to_be_bytes());
            out.extend([0, 0, 0, 4, 1, 2, 3, 4]);
        }
        _ => {}
    }
    out
}

fn numbers(out: &mut Vec<u8>, entropy: &mut Entropy<'_>, count: usize) {
    (0..count).for_each(|_| number(out, entropy));
}

/// A small number, or one at the end of a range.
fn number(out: &mut Vec<u8>, entropy: &mut Entropy<'_>) {
    let number = match entropy.byte() {
        255 => u64::MAX,
        254 => i64::MAX as u64 / 2,
        253 => i32::MAX as u64,
        byte => u64::from(byte % 32),
    };
    out.extend(number.to_be_bytes());
}

fn content(out: &mut Vec<u8>, entropy: &mut Entropy<'_>) {
    let mut change = Vec::new();
    match entropy.below(6) {
        0 => out.push(0),
        1 => {
            out.push(2);
            change.push(2);
        }
        2 => {
            out.push(2);
            change.push(1);
            members(&mut change, 1..=1 + entropy.below(3) as i32);
            members(&mut change, 8..=7 + entropy.below(2) as i32);
        }
        _ => {
            out.push(1);
            change.extend(b"said");
        }
    }
    out.extend((change.len() as u32).to_be_bytes());
    out.extend(change);
}

fn membership(out: &mut Vec<u8>, entropy: &mut Entropy<'_>) {
    number(out, entropy);
    members(out, 1..=1 + entropy.below(3) as i32);
    members(out, 8..=7 + entropy.below(2) as i32);
    members(out, 1..=entropy.below(3) as i32);
}

fn members(out: &mut Vec<u8>, nodes: std::ops::RangeInclusive<i32>) {
    let nodes: Vec<i32> = nodes.collect();
    out.extend((nodes.len() as u32).to_be_bytes());
    for node in nodes {
        out.extend(node.to_be_bytes());
        out.extend(member(node).directory.0);
    }
}
