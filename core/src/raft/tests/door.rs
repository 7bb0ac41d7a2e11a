//! Nothing that a peer says stops a node: it is refused at the door, or it is harmless.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::world::{CLUSTER, member, members, options};
use crate::ids::{NodeId, Uuid};
use crate::raft::message::Body;
use crate::raft::{
    Change, Content, Declined, Entry, LogId, MAX_INDEX, MAX_TERM, Member, Membership, Message, Quorum, Record, Refused,
    Restored, Role, SnapshotHead,
};
use crate::rng::Rng;

/// Node 1 of three, with a log of ten entries of term 2, of which five are known to be committed, at term 3.
fn restored() -> Restored {
    let mut restored = Restored::bootstrap(Membership::of(members([1, 2, 3])).unwrap());
    let entries = (2..=10).map(|index| entry(index, 2)).collect();
    restored.replay(Record::Append(entries)).unwrap();
    restored.replay(super::world::vote(3, 5)).unwrap();
    restored
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { id: LogId { index, term }, content: Content::Payload(Bytes::from_static(b"entry")) }
}

fn node() -> Quorum {
    let mut node = Quorum::new(options(member(1, 1), 0, 0), restored()).unwrap();
    drain(&mut node);
    node
}

/// Takes all there is; the disk is quick.
fn drain(node: &mut Quorum) -> Vec<Message> {
    let mut sends = Vec::new();
    while let Some(ready) = node.take_ready() {
        sends.extend(ready.sends.into_iter().map(|(_, message)| message));
        if !ready.records.is_empty() {
            node.persisted(ready.number);
        }
        node.invariants();
    }
    sends
}

fn from(sender: Member, term: u64, body: Body) -> Message {
    Message { cluster: CLUSTER, from: sender, to: member(1, 1), since: 1, term, body }
}

fn tell(node: &mut Quorum, message: Message) -> Result<(), Refused> {
    let told = node.step(message.from.node, message);
    drain(node);
    told
}

fn leading() -> Quorum {
    let mut node = node();
    node.campaign();
    drain(&mut node);
    let committed = LogId::default();
    tell(&mut node, from(member(2, 1), 4, Body::Voted { pre: true, granted: true, committed })).unwrap();
    tell(&mut node, from(member(2, 1), 4, Body::Voted { pre: false, granted: true, committed })).unwrap();
    assert_eq!((node.role(), node.term()), (Role::Leader, 4));
    node
}

#[test]
fn a_new_leader_does_not_know_what_is_committed() {
    let mut node = leading();
    assert_eq!(node.read_index(), Err(Declined::NotYetKnown));
    assert_eq!(node.propose_membership(members([1]), BTreeSet::new()), Err(Declined::ChangeUnderWay));
}

const HEARTBEAT: Body = Body::Heartbeat { committed: 5, read: None };

#[test]
fn a_message_for_somebody_else_is_refused() {
    let message = from(member(2, 1), 3, HEARTBEAT);
    let other = Message { cluster: Uuid([9; 16]), ..message.clone() };
    assert_eq!(tell(&mut node(), other), Err(Refused::OtherCluster { cluster: Uuid([9; 16]) }));
    // The same node before its disk was wiped, and another one.
    for to in [member(1, 2), member(3, 1)] {
        assert_eq!(tell(&mut node(), Message { to, ..message.clone() }), Err(Refused::NotForMe { to }));
    }
    assert_eq!(node().step(NodeId(3), message.clone()), Err(Refused::Impostor { from: member(2, 1) }));
    let mirrored = from(member(1, 1), 3, HEARTBEAT);
    assert_eq!(tell(&mut node(), mirrored), Err(Refused::Impostor { from: member(1, 1) }));
    assert_eq!(tell(&mut node(), message), Ok(()));
}

#[test]
fn a_node_with_a_wiped_disk_has_no_vote() {
    let wiped = member(2, 2);
    let refused = Err(Refused::NotMember { from: wiped, is_known_otherwise: true });
    let mut candidate = node();
    candidate.campaign();
    drain(&mut candidate);
    let granted = Body::Voted { pre: true, granted: true, committed: LogId::default() };
    assert_eq!(tell(&mut candidate, Message { since: 0, ..from(wiped, 4, granted) }), refused);
    let stand =
        Body::Stand { pre: false, forced: false, last: LogId { index: 99, term: 3 }, committed: LogId::default() };
    assert_eq!(tell(&mut node(), Message { since: 0, ..from(wiped, 9, stand) }), refused);
    assert_eq!(candidate.term(), 3);
}

#[test]
fn a_leader_of_a_later_membership_is_heard_and_answered() {
    let unknown = member(7, 1);
    let refused = Err(Refused::NotMember { from: unknown, is_known_otherwise: false });
    assert_eq!(tell(&mut node(), from(unknown, 4, HEARTBEAT)), refused);
    let mut node = node();
    node.step(NodeId(7), Message { since: 2, ..from(unknown, 4, HEARTBEAT) }).unwrap();
    let answers = drain(&mut node);
    assert_eq!(node.role(), Role::Follower { leader: Some(NodeId(7)) });
    assert!(answers.iter().any(|answer| answer.to == unknown && answer.kind() == "alive"));
}

#[test]
fn a_leader_that_was_just_removed_is_answered_as_long_as_it_is_followed() {
    let mut node = node();
    let leader = member(2, 1);
    let changes = [Change::Enter { voters: members([1, 3]), learners: BTreeSet::new() }, Change::Leave];
    let entry = |(index, change)| Entry { id: LogId { index, term: 3 }, content: Content::Membership(change) };
    let entries = (11..).zip(changes).map(entry).collect();
    let previous = LogId { index: 10, term: 2 };
    tell(&mut node, from(leader, 3, Body::Append { previous, committed: 12, entries })).unwrap();
    assert!(!node.membership().contains(leader));
    node.step(leader.node, from(leader, 3, HEARTBEAT)).unwrap();
    assert!(drain(&mut node).iter().any(|answer| answer.to == leader));
}

#[test]
fn a_refusal_of_an_earlier_term_tells_what_is_committed() {
    let mut node = node();
    node.campaign();
    drain(&mut node);
    let refused = |index, term| Body::Voted { pre: true, granted: false, committed: LogId { index, term } };
    tell(&mut node, from(member(2, 1), 2, refused(8, 1))).unwrap();
    assert_eq!((node.role(), node.committed()), (Role::Candidate, 5));
    tell(&mut node, from(member(2, 1), 2, refused(8, 2))).unwrap();
    assert_eq!((node.role(), node.committed()), (Role::Follower { leader: None }, 8));
}

#[test]
fn a_commit_beyond_the_log_is_refused() {
    let beyond = Body::Heartbeat { committed: 11, read: None };
    for term in [3, 4] {
        let refused = Err(Refused::BeyondLog { index: 11, end: 10 });
        assert_eq!(tell(&mut node(), from(member(2, 1), term, beyond.clone())), refused);
    }
    // One of a term that is over is answered, as any.
    assert_eq!(tell(&mut node(), from(member(2, 1), 2, beyond)), Ok(()));
}

#[test]
fn an_answer_beyond_the_log_is_refused() {
    let mut node = leading();
    let end = node.last().index;
    let refused = Err(Refused::BeyondLog { index: end + 1, end });
    let hint = LogId { index: end + 1, term: 1 };
    for body in [Body::Appended { index: end + 1, committed: 0 }, Body::Diverged { index: end + 1, committed: 0, hint }]
    {
        assert_eq!(tell(&mut node, from(member(2, 1), 4, body)), refused);
    }
}

#[test]
fn a_second_leader_of_a_term_is_refused() {
    let mut node = node();
    tell(&mut node, from(member(2, 1), 3, HEARTBEAT)).unwrap();
    let second = from(member(3, 1), 3, HEARTBEAT);
    assert_eq!(tell(&mut node, second), Err(Refused::SecondLeader { from: member(3, 1), term: 3 }));
    let second = from(member(3, 1), 4, HEARTBEAT);
    assert_eq!(tell(&mut leading(), second), Err(Refused::SecondLeader { from: member(3, 1), term: 4 }));
}

#[test]
fn a_vote_that_was_not_asked_for_makes_no_leader() {
    let mut node = node();
    node.campaign();
    let granted = |pre| from(member(2, 1), 4, Body::Voted { pre, granted: true, committed: LogId::default() });
    node.step(NodeId(2), granted(true)).unwrap();
    // It stands now, but its disk does not know yet.
    assert_eq!(node.step(NodeId(2), granted(false)), Err(Refused::Unasked));
    drain(&mut node);
    assert_eq!(node.role(), Role::Candidate);
    assert_eq!(tell(&mut node, granted(false)), Ok(()));
    assert_eq!(node.role(), Role::Leader);
}

#[test]
fn an_entry_that_was_cut_and_came_again_is_not_durable_by_its_first_record() {
    let mut node = node();
    let previous = LogId { index: 10, term: 2 };
    let mut readies = Vec::new();
    // Entry 11 of term 3, that of term 4 in its place, and the former again; the disk has none of them.
    for (leader, term, of) in [(2, 3, 3), (3, 4, 4), (2, 5, 3)] {
        let append = Body::Append { previous, committed: 5, entries: vec![entry(11, of)] };
        node.step(NodeId(leader), from(member(leader, 1), term, append)).unwrap();
        readies.extend(std::iter::from_fn(|| node.take_ready()).filter(|ready| !ready.records.is_empty()));
    }
    let numbers: Vec<_> = readies.iter().map(|ready| ready.number).collect();
    assert_eq!(numbers.len(), 3);
    node.persisted(numbers[0]);
    node.campaign();
    assert_eq!(node.role(), Role::Follower { leader: Some(NodeId(2)) }, "it has not all of its log yet");
    assert_eq!(node.durable(), 10);
    node.persisted(numbers[2]);
    node.campaign();
    drain(&mut node);
    let committed = LogId::default();
    tell(&mut node, from(member(2, 1), 6, Body::Voted { pre: true, granted: true, committed })).unwrap();
    tell(&mut node, from(member(2, 1), 6, Body::Voted { pre: false, granted: true, committed })).unwrap();
    assert_eq!((node.role(), node.term()), (Role::Leader, 6));
}

#[test]
fn a_snapshot_that_is_too_large_is_refused_before_it_is_kept() {
    let mut node = node();
    tell(&mut node, from(member(2, 1), 3, HEARTBEAT)).unwrap();
    let membership = Membership::of(members([1, 2, 3])).unwrap();
    let head = SnapshotHead { last: LogId { index: 50, term: 3 }, membership };
    let piece = Body::Piece { head, offset: 0, total: 1001, bytes: Bytes::new() };
    assert_eq!(tell(&mut node, from(member(2, 1), 3, piece)), Err(Refused::SnapshotTooLarge { bytes: 1001 }));
}

#[test]
fn a_snapshot_of_another_history_is_refused() {
    let mut node = node();
    tell(&mut node, from(member(2, 1), 3, HEARTBEAT)).unwrap();
    let membership = Membership::of(members([1, 2, 3])).unwrap();
    let mut piece = |index, term| {
        let head = SnapshotHead { last: LogId { index, term }, membership: membership.clone() };
        let body = Body::Piece { head, offset: 0, total: 4, bytes: Bytes::from_static(b"four") };
        tell(&mut node, from(member(2, 1), 3, body))
    };
    assert_eq!(piece(5, 1), Err(Refused::OtherHistory { index: 5 }));
    assert_eq!(piece(5, 2), Ok(()));
}

#[test]
fn a_change_that_does_not_apply_changes_nothing() {
    let mut node = node();
    let learners = members([4]);
    let changes = [
        Change::Leave,
        Change::Enter { voters: members([1, 2, 3]), learners: BTreeSet::new() },
        Change::Enter { voters: members([1, 2]), learners: learners.clone() },
        Change::Enter { voters: members([2]), learners: BTreeSet::new() },
        Change::Leave,
        Change::Leave,
    ];
    let entries: Vec<Entry> = (11..)
        .zip(changes)
        .map(|(index, change)| Entry { id: LogId { index, term: 3 }, content: Content::Membership(change) })
        .collect();
    let committed = entries.last().unwrap().id.index;
    let previous = LogId { index: 10, term: 2 };
    tell(&mut node, from(member(2, 1), 3, Body::Append { previous, committed, entries })).unwrap();
    assert_eq!(node.applied(), committed);
    assert_eq!((node.membership().since(), node.membership().is_joint()), (15, false));
    assert_eq!((node.membership().voters(), node.membership().learners()), (&members([1, 2]), &learners));
}

/// A number about where the node stands, or far from it.
fn about(rng: &mut Rng, here: &[u64], max: u64) -> u64 {
    match rng.below(12) {
        0 => 0,
        1 => max,
        _ => {
            let base = here[rng.below(here.len() as u64) as usize];
            (base + rng.below(5)).saturating_sub(2).min(max)
        }
    }
}

/// What a peer might say that knows the format, but neither shame nor reason.
fn anything(rng: &mut Rng, node: &Quorum, is_extreme: bool) -> Message {
    let (max_term, max_index) = if is_extreme { (MAX_TERM, MAX_INDEX) } else { (node.term(), node.last().index) };
    let indexes = [node.committed(), node.last().index, node.applied(), node.raw.store().head().last.index];
    let terms = [node.term(), node.last().term];
    // A later term ends a leadership, and with it what there is to see of one.
    let later = if node.role() == Role::Leader { 2 } else { 40 };
    let term = match rng.below(200) {
        0 => about(rng, &terms, max_term + 2).clamp(1, MAX_TERM),
        drawn if drawn < later => node.term() + 1,
        _ => node.term(),
    };
    let index = |rng: &mut Rng| about(rng, &indexes, max_index + 1);
    let position = |rng: &mut Rng| LogId { index: index(rng), term: about(rng, &terms, MAX_TERM).min(term) };
    let flag = |rng: &mut Rng| rng.below(2) == 0;
    let content = |rng: &mut Rng| match rng.below(6) {
        0 => Content::Blank,
        1 => Content::Membership(Change::Leave),
        2 => Content::Membership(Change::Enter { voters: some_members(rng, &[1, 2]), learners: members([9]) }),
        _ => Content::Payload(Bytes::from_static(b"nonsense")),
    };
    let body = match rng.below(10) {
        0 => {
            let previous = position(rng);
            let mut last = previous.term;
            let entries = (1..=rng.below(4))
                .map(|at| {
                    last += rng.below(2);
                    Entry { id: LogId { index: previous.index + at, term: last }, content: content(rng) }
                })
                .collect();
            Body::Append { previous, committed: index(rng), entries }
        }
        1 => Body::Appended { index: index(rng), committed: index(rng) },
        2 => Body::Diverged { index: index(rng), committed: index(rng), hint: position(rng) },
        3 => {
            let (pre, forced) = (flag(rng), flag(rng));
            Body::Stand { pre, forced, last: position(rng), committed: position(rng) }
        }
        4 => Body::Voted { pre: flag(rng), granted: rng.below(4) > 0, committed: position(rng) },
        5 => Body::Heartbeat { committed: index(rng), read: Some(rng.below(3)) },
        6 => Body::Alive { committed: index(rng), read: Some(rng.below(3)) },
        7 => Body::TakeOver,
        8 => {
            let membership = Membership { since: 1, ..Membership::of(some_members(rng, &[1])).unwrap() };
            let head = SnapshotHead { last: position(rng), membership };
            let (offset, bytes) = (rng.below(3) * 4, Bytes::from_static(b"four"));
            Body::Piece { head, offset, total: offset + 4 * rng.below(3), bytes }
        }
        _ => Body::Received { index: index(rng), length: rng.below(20) },
    };
    let sender = [member(2, 1), member(3, 1), member(4, 1), member(2, 2)][rng.below(4) as usize];
    Message { since: rng.below(4) * 10, ..from(sender, term, body) }
}

fn some_members(rng: &mut Rng, always: &[i32]) -> BTreeSet<Member> {
    members(always.iter().copied().chain((2..5).filter(|_| rng.below(2) == 0)))
}

#[test]
fn nothing_that_can_be_said_stops_a_node() {
    let mut taken = BTreeMap::new();
    for seed in 0..150 {
        let mut rng = Rng::from_number(seed);
        let mut node = if seed % 2 == 0 { node() } else { leading() };
        let mut unwritten = Vec::new();
        for _ in 0..400 {
            match rng.below(8) {
                0 => node.tick(),
                1 if rng.below(2) == 0 => node.campaign(),
                1 => _ = node.read_index(),
                2 => _ = node.propose(Bytes::from_static(b"sense")),
                3 if !unwritten.is_empty() => {
                    let upto = rng.below(unwritten.len() as u64) as usize;
                    node.persisted(unwritten[upto]);
                    unwritten.drain(..=upto);
                }
                _ => {
                    // What a peer cannot even encode so that it is read never gets here.
                    let mut bytes = Vec::new();
                    let message = anything(&mut rng, &node, seed % 4 == 0);
                    message.encode(&mut bytes);
                    let Ok(message) = Message::decode(bytes.into()) else { continue };
                    let (role, kind) = (format!("{:?}", node.role()), message.kind());
                    if node.step(message.from.node, message).is_ok() {
                        *taken.entry((role[..4].to_owned(), kind)).or_insert(0) += 1;
                    }
                }
            }
            while let Some(ready) = node.take_ready() {
                if !ready.records.is_empty() {
                    unwritten.push(ready.number);
                }
                for read in &ready.snapshot_reads {
                    node.supply_snapshot(read, 5, Bytes::from_static(b"image").slice(read.offset.min(5) as usize..));
                }
                if rng.below(8) == 0 {
                    let head = node.snapshot_head(node.applied().saturating_sub(rng.below(3)));
                    head.map(|head| node.compact(head, rng.below(3)));
                }
                node.invariants();
            }
        }
    }
    // In each role it took in enough of all that may be said to one in it.
    for (role, kinds) in [
        ("Lead", ["appended", "diverged", "stand", "alive", "voted"]),
        ("Cand", ["append", "heartbeat", "stand", "voted", "appended"]),
        ("Foll", ["append", "heartbeat", "stand", "snapshot piece", "take over"]),
    ] {
        for kind in kinds {
            let times = taken.get(&(role.to_owned(), kind)).copied().unwrap_or(0);
            assert!(times > 50, "{kind} was taken in {times} times by a {role}.: {taken:?}");
        }
    }
}
