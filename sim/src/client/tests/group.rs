//! Groups against a whole broker: members come to rest, hand over, commit, and come back.

use super::world::{Trouble, World, assert_sound};
use super::{plan, producer};
use crate::claims::judge;
use crate::history::{ClientId, History, InGroup, Stands, What, counted};
use crate::plan::{Action, ClientKind, ClientPlan, GroupProtocol, Operation, Plan};

fn act(at_ms: u64, what: Action) -> Operation {
    Operation { at_ms, what }
}

/// A member that joins at once, reads and commits all the time, and does this besides.
fn member(protocol: GroupProtocol, instance: Option<u32>, age: u8, besides: &[(u64, Action)]) -> ClientPlan {
    let mut operations = vec![act(50, Action::Join)];
    operations.extend((1..36).map(|n| act(n * 100, Action::Poll { topics: Vec::new() })));
    operations.extend((1..12).map(|n| act(n * 300, Action::Commit { is_stale: n == 9 })));
    operations.extend(besides.iter().map(|(at_ms, what)| act(*at_ms, what.clone())));
    operations.sort_by_key(|operation| operation.at_ms);
    let kind = ClientKind::Member {
        group: 0,
        protocol,
        instance,
        session_timeout_ms: 1_500,
        rebalance_timeout_ms: 2_000,
        heartbeat_ms: 200,
        request_timeout_ms: 1_000,
        topics: vec![0, 1],
        uses_regex: false,
        age,
    };
    ClientPlan { kind, operations }
}

fn group(members: Vec<ClientPlan>) -> Plan {
    let mut clients = vec![producer(13, true, -1)];
    clients.extend(members);
    let mut plan = plan(clients);
    for (name, value) in [
        ("group.min.session.timeout.ms", "1000"),
        ("group.initial.rebalance.delay.ms", "100"),
        ("group.consumer.session.timeout.ms", "1500"),
        ("group.consumer.heartbeat.interval.ms", "200"),
        ("offsets.topic.num.partitions", "2"),
    ] {
        plan.node.broker.insert(name.to_owned(), value.to_owned());
    }
    plan
}

/// Carries it out; every claim holds, and the members that are in at the end have come to rest.
fn check(plan: &Plan, troubles: &[(u64, Trouble)], in_at_end: usize) -> History {
    let history = World::run(plan, troubles);
    assert_sound(&history);
    let violations = judge(plan, &history);
    assert!(violations.is_empty(), "{violations:#?}");
    let is_settled =
        |what: &What| matches!(what, What::Group { what: InGroup::Settled { stands: Stands::Settled, .. }, .. });
    let settled = history.events.iter().filter(|event| is_settled(&event.what)).count();
    assert_eq!(settled, in_at_end);
    let counters = counted(&history);
    assert!(counters["group_commit_taken"] > 5, "{counters:?}");
    history
}

const ALL: [GroupProtocol; 4] =
    [GroupProtocol::Range, GroupProtocol::CooperativeSticky, GroupProtocol::NextUniform, GroupProtocol::NextRange];

#[test]
fn two_members_share_and_come_to_rest() {
    for protocol in ALL {
        for age in [0, 1, 2] {
            check(&group(vec![member(protocol, None, age, &[]), member(protocol, None, 0, &[])]), &[], 2);
        }
    }
}

#[test]
fn who_leaves_hands_over_and_who_vanishes_is_waited_for() {
    let leaves = [(1_500, Action::Leave), (2_500, Action::Join), (3_000, Action::Subscribe { topics: vec![0] })];
    let vanishes = [(1_200, Action::Vanish), (1_400, Action::Join), (3_500, Action::Vanish)];
    let stalls = [(1_000, Action::Stall { for_ms: 2_400 })];
    for protocol in ALL {
        for instances in [[None; 3], [Some(0), Some(1), Some(2)]] {
            let members = vec![
                member(protocol, instances[0], 0, &leaves),
                member(protocol, instances[1], 1, &vanishes),
                member(protocol, instances[2], 0, &stalls),
            ];
            check(&group(members), &[], 2);
        }
    }
}

#[test]
fn a_coordinator_that_is_gone_comes_back_with_all_it_knew() {
    let troubles = [(900, Trouble::Kill), (1_700, Trouble::Reset), (2_300, Trouble::Kill), (2_330, Trouble::Kill)];
    for protocol in ALL {
        let members = vec![member(protocol, None, 0, &[]), member(protocol, Some(4), 1, &[])];
        let history = check(&group(members), &troubles, 2);
        let told = history.events.iter().filter(|event| event.client == ClientId::AUDITOR);
        let is_told = |what: &What| matches!(what, What::Group { what: InGroup::Offsets { committed, .. }, .. } if !committed.is_empty());
        assert!(told.into_iter().any(|event| is_told(&event.what)), "{protocol:?}");
    }
}

#[test]
fn a_group_moves_to_the_next_protocol_and_back() {
    let later = |at_ms| vec![(20, Action::Leave), (at_ms, Action::Join), (3_400, Action::Leave)];
    let mut next = member(GroupProtocol::NextUniform, None, 0, &later(1_200));
    next.operations.retain(|operation| operation.at_ms != 50);
    let classic = member(GroupProtocol::Range, None, 0, &[]);
    let history = check(&group(vec![classic.clone(), next, classic]), &[], 2);
    assert!(counted(&history)["group_moved_between_protocols"] >= 2);
}

#[test]
fn who_looks_after_groups_is_answered_and_refused() {
    let mut operations: Vec<Operation> = (0..22)
        .map(|n| act(100 + n * 60, Action::Bother { group: 0, which: u8::try_from(n).expect("small") }))
        .collect();
    operations.extend(
        (0..12).map(|n| act(1_500 + n * 50, Action::AskGroup { group: 0, which: u8::try_from(n).expect("small") })),
    );
    operations.extend((0..6).map(|n| act(2_200 + n * 30, Action::CommitAlone { group: 9, topic: 0, partition: 1 })));
    operations.push(act(2_500, Action::CommitAlone { group: 0, topic: 0, partition: 1 }));
    operations.push(act(2_600, Action::DeleteGroup { group: 0 }));
    operations.push(act(2_700, Action::DeleteOffsets { group: 0, topic: 0 }));
    operations.push(act(2_800, Action::DeleteOffsets { group: 9, topic: 1 }));
    operations.push(act(2_900, Action::DeleteGroup { group: 9 }));
    operations.push(act(3_000, Action::RemoveMember { group: 0, instance: 3 }));
    for protocol in ALL {
        let admin =
            ClientPlan { kind: ClientKind::GroupAdmin { request_timeout_ms: 1_000 }, operations: operations.clone() };
        let history = check(&group(vec![member(protocol, Some(3), 0, &[]), admin]), &[], 1);
        let counters = counted(&history);
        for name in ["group_deleted", "group_described", "group_commit_alone", "group_commit_declined"] {
            assert!(counters.contains_key(name), "{name} of {counters:?}");
        }
    }
}
