//! Single stories, each with what could go wrong in it.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::world::{ELECTION_TICKS, Faults, World, member, members, options};
use crate::ids::NodeId;
use crate::raft::{Change, Content, Declined, Membership, Quorum, Record, Restored, Role};

fn none() -> BTreeSet<crate::raft::Member> {
    BTreeSet::new()
}

/// A quiet world of `voters`, with a leader.
fn quiet(voters: i32, others: i32) -> World {
    let mut world = World::new(1, voters, others, Faults::default());
    world.run_until(60, "a leader", |world| world.leader().is_some());
    world.run_until(60, "agreement", World::agrees);
    world
}

fn drain(quorum: &mut Quorum) -> Vec<crate::raft::Ready> {
    std::iter::from_fn(|| quorum.take_ready()).collect()
}

fn alone() -> Quorum {
    let restored = Restored::bootstrap(Membership::of(members([1])).unwrap());
    Quorum::new(options(member(1, 1), 0, 0), restored).unwrap()
}

/// One that leads alone, with all that follows from that on its disk.
fn leading_alone() -> Quorum {
    let mut quorum = alone();
    quorum.campaign();
    while let Some(ready) = quorum.take_ready() {
        quorum.persisted(ready.number);
    }
    assert_eq!(quorum.role(), Role::Leader);
    quorum
}

#[test]
fn a_sole_voter_leads_and_commits_with_its_disk() {
    let mut quorum = alone();
    quorum.campaign();
    let readies = drain(&mut quorum);
    assert_eq!(quorum.role(), Role::Candidate);
    assert!(readies.iter().all(|ready| ready.committed.is_empty()));
    quorum.persisted(readies.last().unwrap().number);
    let after = drain(&mut quorum);
    assert_eq!(after[0].role, Some(Role::Leader));
    assert_eq!(after[0].committed[0].content, Content::Blank);
    let id = quorum.propose(Bytes::from_static(b"one")).unwrap();
    let readies = drain(&mut quorum);
    assert!(readies.iter().all(|ready| ready.committed.is_empty()));
    quorum.persisted(readies.last().unwrap().number);
    assert_eq!(drain(&mut quorum)[0].committed[0].id, id);
}

#[test]
fn several_readys_may_be_under_way() {
    let mut quorum = leading_alone();
    let mut numbers = Vec::new();
    for payload in [&b"one"[..], b"two", b"three"] {
        quorum.propose(Bytes::from_static(payload)).unwrap();
        numbers.extend(drain(&mut quorum).iter().map(|ready| ready.number));
    }
    assert_eq!(numbers.len(), 3);
    quorum.persisted(numbers[1]);
    let committed = |quorum: &mut Quorum| drain(quorum).into_iter().map(|ready| ready.committed.len()).sum::<usize>();
    assert_eq!(committed(&mut quorum), 2);
    quorum.persisted(numbers[2]);
    assert_eq!(committed(&mut quorum), 1);
}

/// KAFKA-10527: a leader that restarts before its term is durable leads that term again, with other entries.
#[test]
fn a_sole_voter_says_nothing_before_its_term_is_durable() {
    let mut restored = Restored::bootstrap(Membership::of(members([1])).unwrap());
    let changes = [Change::Enter { voters: members([1]), learners: members([2]) }, Change::Leave];
    let entry = |(index, change)| crate::raft::Entry {
        id: crate::raft::LogId { index, term: 1 },
        content: Content::Membership(change),
    };
    restored.replay(Record::Append((2..).zip(changes).map(entry).collect())).unwrap();
    restored.replay(super::world::vote(1, 3)).unwrap();
    let mut quorum = Quorum::new(options(member(1, 1), 0, 0), restored).unwrap();
    drain(&mut quorum);
    assert_eq!(quorum.membership().learners(), &members([2]));
    quorum.campaign();
    let readies = drain(&mut quorum);
    assert!(readies.iter().all(|ready| ready.sends.is_empty()), "{readies:?}");
    assert_eq!(quorum.role(), Role::Candidate);
    let number = readies.iter().rev().find(|ready| !ready.records.is_empty()).unwrap().number;
    quorum.persisted(number);
    assert!(drain(&mut quorum).iter().any(|ready| !ready.sends.is_empty()));
}

/// How far the log is committed reaches the disk only along with other things. A crash may take it back, but not the
/// membership: the others may have gone on without this node.
#[test]
fn a_voter_that_forgot_what_is_committed_does_not_fall_back_to_leading_alone() {
    let mut restored = Restored::bootstrap(Membership::of(members([1])).unwrap());
    let changes = [Change::Enter { voters: members([1, 2, 3]), learners: none() }, Change::Leave];
    let entry = |(index, change)| crate::raft::Entry {
        id: crate::raft::LogId { index, term: 1 },
        content: Content::Membership(change),
    };
    restored.replay(Record::Append((2..).zip(changes).map(entry).collect())).unwrap();
    restored.replay(super::world::vote(1, 1)).unwrap();
    let mut quorum = Quorum::new(options(member(1, 1), 0, 0), restored).unwrap();
    for _ in 0..5 * ELECTION_TICKS {
        while let Some(ready) = quorum.take_ready() {
            quorum.persisted(ready.number);
        }
        quorum.tick();
        assert_ne!(quorum.role(), Role::Leader);
    }
    assert!(quorum.membership().is_joint());
}

#[test]
fn a_node_whose_disk_stalls_does_not_stand_for_election() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    let slow = if leader == 1 { 2 } else { 1 };
    world.node_mut(slow).stalled = true;
    world.propose(leader).unwrap();
    world.run(5);
    world.crash(NodeId(leader));
    for _ in 0..10 * ELECTION_TICKS {
        world.tick();
        assert!(matches!(world.quorum(slow).role(), Role::Follower { .. }));
    }
    world.node_mut(slow).stalled = false;
    world.run_until(100, "a leader", |world| world.leader().is_some());
}

#[test]
fn a_leader_that_hears_nobody_steps_down() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    world.apart = [NodeId(leader)].into();
    world
        .run_until(6 * ELECTION_TICKS as u64, "another leads", |world| world.leader().is_some_and(|now| now != leader));
    world.run(2 * ELECTION_TICKS as u64);
    assert_ne!(world.quorum(leader).role(), Role::Leader);
    // Pre-votes left its term as it was: it comes back without disturbing anybody.
    let (term, now) = (world.quorum(leader).term(), world.leader());
    let others = world.quorum(now.unwrap()).term();
    assert!(term < others);
    world.apart.clear();
    world.run_until(60, "agreement", World::agrees);
    assert_eq!((world.leader(), world.quorum(leader).term()), (now, others));
}

#[test]
fn leadership_is_handed_over_without_a_gap() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    let to = leader % 3 + 1;
    world.quorum(leader).transfer_leadership(NodeId(to)).unwrap();
    assert_eq!(world.propose(leader), Err(Declined::Busy));
    world.run_until(ELECTION_TICKS as u64, "the other leads", |world| world.leader() == Some(to));
    assert_eq!(world.quorum(to).transfer_leadership(NodeId(9)), Err(Declined::NotVoter));
    assert_eq!(world.propose(leader), Err(Declined::NotLeader { leader: None }));
}

#[test]
fn a_new_member_gets_a_snapshot_that_knows_it() {
    let mut world = quiet(3, 1);
    let leader = world.leader().unwrap();
    (0..20).for_each(|_| _ = world.propose(leader));
    world.run(10);
    world.change(leader, members([1, 2, 3]), members([4]));
    world.run_until(100, "agreement", World::agrees);
    assert_eq!(world.seen["snapshot wanted"], world.seen["snapshot installed"]);
    assert_eq!(world.quorum(4).role(), Role::Follower { leader: Some(NodeId(leader)) });
    // It stays a learner until it is made a voter, and then it counts.
    let is_voter = |world: &mut World| world.quorum(4).membership().is_voter(member(4, 1));
    assert!(!is_voter(&mut world));
    world.change(leader, members(1..=4), none());
    world.run_until(100, "agreement", World::agrees);
    assert!(is_voter(&mut world));
}

#[test]
fn a_leader_that_is_voted_out_names_a_successor() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    let stay = members((1..=3).filter(|node| *node != leader));
    world.change(leader, stay.clone(), none());
    world
        .run_until(2 * ELECTION_TICKS as u64, "another leads", |world| world.leader().is_some_and(|now| now != leader));
    world.run_until(60, "agreement", World::agrees);
    let now = world.leader().unwrap();
    assert_eq!(world.quorum(now).membership().voters(), &stay);
    // Whoever is out stands for nothing: nobody listens.
    let term = world.quorum(now).term();
    world.run(10 * ELECTION_TICKS as u64);
    assert_eq!((world.leader(), world.quorum(now).term()), (Some(now), term));
}

#[test]
fn a_wiped_disk_comes_back_as_somebody_else() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    let lost = leader % 3 + 1;
    world.crash(NodeId(lost));
    world.nodes.remove(&NodeId(lost));
    world.add(member(lost, 2), Restored::default());
    world.propose(leader).unwrap();
    world.run(10 * ELECTION_TICKS as u64);
    assert_eq!(world.quorum(lost).last().index, 0, "nobody talks to it");
    // Out with the old, in with the new as a learner, then as a voter.
    let others = members((1..=3).filter(|node| *node != lost));
    world.change(leader, others.clone(), none());
    world.run(20);
    world.change(leader, others.clone(), [member(lost, 2)].into());
    world.run_until(100, "agreement", World::agrees);
    let voters: BTreeSet<_> = others.into_iter().chain([member(lost, 2)]).collect();
    world.change(leader, voters.clone(), none());
    world.run_until(100, "agreement", World::agrees);
    assert_eq!(world.quorum(lost).membership().voters(), &voters);
}

#[test]
fn a_change_is_declined_while_another_is_under_way() {
    let mut world = quiet(3, 1);
    let leader = world.leader().unwrap();
    let quorum = world.quorum(leader);
    assert_eq!(quorum.propose_membership(members([1, 2, 3]), none()), Err(Declined::NoChange));
    assert_eq!(quorum.propose_membership(none(), none()), Err(Declined::NoChange));
    assert_eq!(quorum.propose_membership(members([1, 2]), members([2])), Err(Declined::NoChange));
    quorum.propose_membership(members([1, 2, 3]), members([4])).unwrap();
    assert_eq!(quorum.propose_membership(members([1]), none()), Err(Declined::ChangeUnderWay));
}

#[test]
fn proposals_that_do_not_fit_are_declined() {
    let mut quorum = alone();
    let payload = Bytes::from(vec![0; 1000]);
    assert_eq!(quorum.propose(payload.clone()), Err(Declined::NotLeader { leader: None }));
    assert_eq!(quorum.read_index(), Err(Declined::NotLeader { leader: None }));
    let mut quorum = leading_alone();
    assert_eq!(quorum.propose(vec![0; 1001].into()), Err(Declined::TooLarge { length: 1001 }));
    (0..4).for_each(|_| _ = quorum.propose(payload.clone()).unwrap());
    assert_eq!(quorum.propose(payload), Err(Declined::Busy));
}

#[test]
fn a_checkpoint_holds_all_of_the_log() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    (0..30).for_each(|_| {
        _ = world.propose(leader);
        world.tick();
    });
    let quorum = world.quorum(leader);
    let head = quorum.snapshot_head(quorum.applied() - 5).unwrap();
    quorum.compact(head.clone(), 3).unwrap();
    let mut restored = Restored::default();
    for record in quorum.checkpoint() {
        restored.replay(record).unwrap();
    }
    assert_eq!((restored.head(), restored.last()), (&head, quorum.last()));
    let again = Quorum::new(options(member(leader, 1), 1, 9), restored).unwrap();
    assert_eq!((again.term(), again.last()), (quorum.term(), quorum.last()));
}

#[test]
fn a_snapshot_holds_the_membership_of_its_position() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    let before = world.quorum(leader).applied();
    let learner = members([leader % 3 + 1]);
    world.change(leader, members(1..=3).difference(&learner).copied().collect(), learner.clone());
    world.run_until(100, "agreement", World::agrees);
    let quorum = world.quorum(leader);
    let learners = |index| quorum.snapshot_head(index).map(|head| head.membership.learners().clone());
    assert_eq!(learners(before), Some(none()));
    assert_eq!(learners(quorum.applied()), Some(learner));
    assert_eq!(learners(quorum.applied() + 1), None);
}

#[test]
fn memory_is_given_back_by_snapshots() {
    let mut world = quiet(1, 0);
    let empty = world.quorum(1).log_bytes();
    (0..50).for_each(|_| {
        _ = world.propose(1);
        world.tick();
    });
    assert!(world.quorum(1).log_bytes() > empty + 50 * 10);
    world.compact(1, 0);
    assert!(world.quorum(1).log_bytes() <= empty);
}

#[test]
fn the_status_tells_who_follows_and_how_far() {
    let mut world = quiet(3, 0);
    let leader = world.leader().unwrap();
    let cut = leader % 3 + 1;
    world.apart = [NodeId(cut)].into();
    world.run(4);
    let since = world.quorum(leader).status().ticks;
    world.propose(leader).unwrap();
    world.run(8);
    let status = world.quorum(leader).status();
    assert_eq!((status.role, status.members.len()), (Role::Leader, 3));
    for peer in status.members {
        let is_late = peer.member.node == NodeId(cut);
        assert_eq!(peer.last_index == status.committed, !is_late, "{peer:?}");
        assert_eq!(peer.last_caught_up_tick.unwrap() > since, !is_late, "{peer:?}");
        assert_eq!(peer.last_fetch_tick.unwrap() > since, !is_late, "{peer:?}");
    }
    let follower = world.quorum(cut).status();
    assert_eq!(follower.members.len(), 1);
}
