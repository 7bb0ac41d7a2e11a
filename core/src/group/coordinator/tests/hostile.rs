//! Requests in any order, of members that are and that are not, while groups go from one protocol to the other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bench::{Bench, NOBODY, Seat, beat, commit, image, join, load};
use crate::group::testing::client;
use crate::rng::Rng;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::leave_group::LeaveGroupRequest;
use crate::wire::sync_group::SyncGroupRequest;
use crate::wire::{ErrorCode, Response, Str};

#[test]
fn every_request_has_one_answer_whatever_is_asked_in_whatever_order() {
    for seed in 0..60 {
        let mut rng = Rng::from_number(seed);
        let mut bench = Bench::new();
        // Ids that were given out, of the classic protocol; `m` is that of the next one.
        let mut ids = vec![Str::EMPTY, Str::from("m")];
        let mut unanswered = BTreeSet::new();
        for _ in 0..300 {
            let group = ["audit", "billing", ""][rng.below(3) as usize];
            let seat =
                Seat { member: ids[rng.below(ids.len() as u64) as usize].clone(), generation: rng.below(7) as i32 - 2 };
            let to = bench.rig.ask([2, 4][rng.below(2) as usize]);
            unanswered.insert(to.sequence);
            let kind = rng.below(9);
            bench.call(|coordinator, with| match kind {
                0 | 1 => {
                    let mut request = join(group, "consumer", &["orders"]);
                    request.member_id = seat.member;
                    coordinator.join(with, to, &client("one"), request);
                }
                2 => {
                    let request = SyncGroupRequest {
                        group_id: Str::from(group),
                        generation_id: seat.generation,
                        member_id: seat.member,
                        ..SyncGroupRequest::default()
                    };
                    coordinator.sync(with, to, request);
                }
                3 => {
                    let request = HeartbeatRequest {
                        group_id: Str::from(group),
                        generation_id: seat.generation,
                        member_id: seat.member,
                        group_instance_id: None,
                    };
                    coordinator.heartbeat(with, to, request);
                }
                4 => {
                    let request = LeaveGroupRequest {
                        group_id: Str::from(group),
                        member_id: seat.member,
                        ..LeaveGroupRequest::default()
                    };
                    coordinator.leave(with, to, request);
                }
                5 | 6 => {
                    let request = beat(group, seat.generation.min(2));
                    coordinator.consumer_heartbeat(with, to, &client("two"), request);
                }
                7 => coordinator.commit(with, to, &commit(group, &seat, ("orders", 0), 5)),
                _ => coordinator.commit(with, to, &commit(group, &NOBODY, ("orders", 1), 5)),
            });
            match rng.below(20) {
                0 => {
                    bench.delete(group);
                }
                1 => bench.expire(),
                2 => bench.call(|coordinator, with| coordinator.topics_changed(with)),
                3..6 => bench.pass(Duration::from_millis(rng.below(8_000))),
                _ => {}
            }
            take_answers(&mut bench, &mut unanswered, &mut ids);
        }
        // Nobody says any more that it is alive.
        for _ in 0..20 {
            bench.pass(Duration::from_secs(30));
        }
        take_answers(&mut bench, &mut unanswered, &mut ids);
        assert_eq!(unanswered, BTreeSet::new(), "seed {seed}: somebody still waits");
        let members = bench.groups().into_iter().filter(|group| !group.contains(" Empty "));
        assert_eq!(members.collect::<Vec<_>>(), [""; 0], "seed {seed}: somebody is still there");
        assert_eq!(image(&load(&bench.log)), image(&bench.coordinator), "seed {seed}");
    }
}

#[test]
fn ids_that_nobody_comes_back_with_take_a_bounded_memory() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, group: &str, member: Str| {
        let to = bench.rig.ask(4);
        let request = JoinGroupRequest { member_id: member, ..join(group, "consumer", &["orders"]) };
        bench.call(|coordinator, with| coordinator.join(with, to, &client("one"), request));
        to
    };
    let mut last = Str::EMPTY;
    for at in 0..10_000 {
        let to = ask(&mut bench, &format!("group-{}", at % 100), Str::EMPTY);
        let given: JoinGroupResponse = bench.rig.reply(to);
        assert_eq!(given.error_code, ErrorCode::MemberIdRequired as i16);
        last = given.member_id;
    }
    let to = ask(&mut bench, "audit", Str::EMPTY);
    let refused: JoinGroupResponse = bench.rig.reply(to);
    assert_eq!((refused.error_code, refused.member_id), (ErrorCode::CoordinatorLoadInProgress as i16, Str::EMPTY));
    let to = ask(&mut bench, "group-99", last);
    let joined: JoinGroupResponse = bench.rig.reply(to);
    assert_eq!(joined.error_code, 0, "who was given an id joins with it");
    let to = ask(&mut bench, "audit", Str::EMPTY);
    let given: JoinGroupResponse = bench.rig.reply(to);
    assert_eq!(given.error_code, ErrorCode::MemberIdRequired as i16);
}

fn take_answers(bench: &mut Bench, unanswered: &mut BTreeSet<u64>, ids: &mut Vec<Str>) {
    for (to, response) in std::mem::take(&mut bench.rig.out.replies) {
        assert!(unanswered.remove(&to.sequence), "a request is answered once: {response:?}");
        if let Response::JoinGroup(joined) = response
            && !joined.member_id.is_empty()
            && !ids.contains(&joined.member_id)
        {
            ids.push(joined.member_id);
        }
    }
}
