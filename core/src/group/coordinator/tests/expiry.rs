//! KIP-211 and what was found about it later: KAFKA-4682, KAFKA-8069, KAFKA-13636.

use std::time::Duration;

use super::bench::{Bench, NOBODY, Seat, beat, join, load};
use crate::group::coordinator::upkeep::{GROUPS_PER_CALL, OFFSETS_PER_CALL};
use crate::group::testing::client;
use crate::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::{ErrorCode, Str};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A bench where offsets are kept for seven days.
fn week() -> Bench {
    let bench = Bench::new();
    assert_eq!(bench.rig.settings.offsets_retention, 7 * DAY);
    bench
}

#[test]
fn an_offset_without_a_group_of_members_expires_by_its_own_age() {
    let mut bench = week();
    bench.commit("readers", &NOBODY, ("orders", 0), 5);
    bench.pass(3 * DAY);
    bench.commit("readers", &NOBODY, ("orders", 1), 6);
    bench.pass(4 * DAY - Duration::from_millis(1));
    bench.expire();
    assert_eq!(bench.all_offsets("readers").len(), 2);
    bench.pass(Duration::from_millis(1));
    bench.expire();
    assert_eq!(bench.all_offsets("readers"), [("orders".to_owned(), 1, 6)]);
    bench.pass(3 * DAY);
    bench.expire();
    assert_eq!(bench.groups(), [""; 0]);
}

#[test]
fn offsets_of_a_group_that_lives_do_not_expire_however_old_they_are() {
    let mut bench = week();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 0), 5);
    bench.commit("readers", &seat, ("bills", 0), 5);
    keep_alive(&mut bench, "readers", &seat, 8 * DAY);
    bench.expire();
    // But those in a topic that it does not read do.
    assert_eq!(bench.all_offsets("readers"), [("orders".to_owned(), 0, 5)]);
}

#[test]
fn nothing_expires_before_it_is_known_what_an_expression_matches() {
    let mut bench = week();
    let join = |bench: &mut Bench, expression: &str| {
        let request = ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: None,
            subscribed_topic_regex: Some(Str::from(expression)),
            ..beat("readers", 0)
        };
        assert_eq!(bench.beat(request).error_code, 0);
    };
    join(&mut bench, "ord.*");
    let member_epoch = bench.beat(beat("readers", 1)).member_epoch;
    let seat = Seat { member: Str::from("m"), generation: member_epoch };
    assert_eq!(bench.commit("readers", &seat, ("orders", 0), 5), ErrorCode::None);
    bench.beat(beat("readers", -1));
    bench.pass(8 * DAY);
    join(&mut bench, "bil.*");
    bench.beat(beat("readers", -1));
    // The group has just had a lookup, so that the next one waits.
    join(&mut bench, "ord.*");
    assert_eq!(bench.groups(), ["readers Stable consumer"]);
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
    assert_eq!(bench.delete_offset("readers", ("orders", 0)).1, ErrorCode::GroupSubscribedToTopic);
    bench.pass(Duration::from_secs(10));
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
}

#[test]
fn time_begins_when_the_group_becomes_empty() {
    let mut bench = week();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 0), 5);
    keep_alive(&mut bench, "readers", &seat, 8 * DAY);
    bench.stand_up("readers", &seat);
    bench.pass(7 * DAY - Duration::from_millis(1));
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
    bench.pass(Duration::from_millis(1));
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), -1);
    // The group goes with its last offset, and the log knows.
    assert_eq!(bench.groups(), [""; 0]);
    assert!(load(&bench.log).groups.is_empty());
}

#[test]
fn a_reload_does_not_begin_the_time_anew_nor_end_it_early() {
    let mut bench = week();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 0), 5);
    keep_alive(&mut bench, "readers", &seat, 8 * DAY);
    bench.stand_up("readers", &seat);
    bench.pass(6 * DAY);
    bench.coordinator = bench.reloaded();
    bench.begin();
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
    bench.pass(DAY);
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), -1);
}

#[test]
fn an_offset_reset_by_hand_in_a_group_long_empty_has_its_whole_time() {
    let mut bench = week();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 0), 5);
    bench.stand_up("readers", &seat);
    bench.pass(6 * DAY);
    assert_eq!(bench.commit("readers", &NOBODY, ("orders", 0), 2), ErrorCode::None);
    bench.pass(2 * DAY);
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 2);
}

#[test]
fn nothing_expires_while_members_come_together() {
    let mut bench = week();
    bench.commit("readers", &NOBODY, ("orders", 0), 5);
    bench.pass(8 * DAY);
    // A long first rebalance: the member has joined, and waits for more.
    bench.rig.settings.group_initial_rebalance_delay = Duration::from_secs(3);
    let to = bench.rig.ask(3);
    let request = join("readers", "consumer", &["bills"]);
    bench.call(|coordinator, with| coordinator.join(with, to, &client("one"), request));
    assert!(bench.rig.waits(to));
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
}

#[test]
fn an_empty_group_that_never_committed_is_deleted() {
    let mut bench = week();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.stand_up("readers", &seat);
    assert_eq!(bench.groups(), ["readers Empty classic"]);
    bench.expire();
    assert_eq!(bench.groups(), [""; 0]);
    assert!(load(&bench.log).groups.is_empty());
}

#[test]
fn a_clock_that_was_set_back_expires_nothing() {
    let mut bench = week();
    bench.commit("readers", &NOBODY, ("orders", 0), 5);
    bench.rig.now.wall.0 -= i64::try_from((30 * DAY).as_millis()).expect("a month");
    bench.expire();
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
}

#[test]
fn one_call_looks_at_a_bounded_number_of_groups() {
    let mut bench = week();
    for group in 0..150 {
        bench.commit(&format!("group-{group:03}"), &NOBODY, ("orders", 0), 5);
    }
    bench.pass(8 * DAY);
    let first = bench.call(|coordinator, with| coordinator.expire(with, None));
    assert_eq!(bench.groups().len(), 150 - GROUPS_PER_CALL);
    assert_eq!(first.as_deref(), Some("group-063"));
    bench.expire();
    assert_eq!(bench.groups(), [""; 0]);
}

#[test]
fn one_call_looks_at_a_bounded_number_of_offsets_and_the_next_goes_on_there() {
    let mut bench = week();
    for topic in ["wide", "wider"] {
        bench.rig.topic(topic, 600);
        for partition in 0..600 {
            bench.commit("readers", &NOBODY, (topic, partition), 5);
        }
    }
    bench.pass(DAY);
    // Every third is newer, so some of each call's stay.
    for partition in (0..600).step_by(3) {
        bench.commit("readers", &NOBODY, ("wide", partition), 6);
    }
    bench.commit("writers", &NOBODY, ("orders", 0), 5);
    bench.pass(6 * DAY);
    let mut after = None;
    let mut calls = 0;
    loop {
        let before = bench.log.len();
        after = bench.call(|coordinator, with| coordinator.expire(with, after));
        assert!(bench.log.len() - before <= OFFSETS_PER_CALL);
        calls += 1;
        if after.is_none() {
            break;
        }
    }
    assert!(calls > 1_200 / OFFSETS_PER_CALL, "{calls} calls looked at 1,200 offsets");
    let left = bench.all_offsets("readers");
    assert_eq!(left.len(), 200);
    assert!(left.iter().all(|(topic, partition, offset)| topic == "wide" && partition % 3 == 0 && *offset == 6));
    assert_eq!(bench.fetch("writers", ("orders", 0)), 5);
}

/// Time passes, and a member says before the end of each of its sessions, which last ten seconds, that it is alive.
fn keep_alive(bench: &mut Bench, group: &str, seat: &Seat, time: Duration) {
    let mut left = time;
    while left > Duration::ZERO {
        let pass = Duration::from_secs(9).min(left);
        bench.pass(pass);
        left -= pass;
        let request = HeartbeatRequest {
            group_id: Str::from(group),
            generation_id: seat.generation,
            member_id: seat.member.clone(),
            group_instance_id: None,
        };
        let beat: HeartbeatResponse = bench.ask(3, |coordinator, with, to| coordinator.heartbeat(with, to, request));
        assert_eq!(beat.error_code, 0);
    }
}
