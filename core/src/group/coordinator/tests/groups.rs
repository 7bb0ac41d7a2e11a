//! Which group a request finds, and what a group of one protocol says to requests of the other.

use std::time::Duration;

use super::bench::{Bench, NOBODY, Seat, beat, code, commit, fetch, join, listed};
use crate::group::settings::Migration;
use crate::group::testing::client;
use crate::group::{Reached, Timer, TimerKind};
use crate::wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::join_group::JoinGroupResponse;
use crate::wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use crate::wire::list_groups::ListGroupsRequest;
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::{ErrorCode, Str};

fn try_to_join(bench: &mut Bench, group: &str, member: &str, session_ms: i32) -> JoinGroupResponse {
    let mut request = join(group, "consumer", &["orders"]);
    request.member_id = Str::from(member);
    request.session_timeout_ms = session_ms;
    bench.ask(3, |coordinator, with, to| coordinator.join(with, to, &client("one"), request))
}

#[test]
fn a_group_without_a_name_is_refused_by_all_that_concerns_members() {
    let mut bench = Bench::new();
    assert_eq!(code(try_to_join(&mut bench, "", "", 10_000).error_code), ErrorCode::InvalidGroupId);
    let synced: SyncGroupResponse = bench.ask(3, |coordinator, with, to| {
        coordinator.sync(with, to, SyncGroupRequest::default());
    });
    let alive: HeartbeatResponse = bench.ask(3, |coordinator, with, to| {
        coordinator.heartbeat(with, to, HeartbeatRequest::default());
    });
    let left: LeaveGroupResponse = bench.ask(3, |coordinator, with, to| {
        coordinator.leave(with, to, LeaveGroupRequest::default());
    });
    for error_code in [synced.error_code, alive.error_code, left.error_code] {
        assert_eq!(code(error_code), ErrorCode::InvalidGroupId);
    }
    assert_eq!(code(bench.beat(beat("", 0)).error_code), ErrorCode::InvalidRequest);
    let described = bench.call_only(|coordinator, with| coordinator.describe_consumer(with, &Str::EMPTY));
    assert_eq!(code(described.error_code), ErrorCode::InvalidGroupId);
    assert_eq!(bench.groups(), [""; 0]);
}

#[test]
fn a_group_that_is_not_there_has_no_members() {
    let mut bench = Bench::new();
    let group = Str::from("readers");
    assert_eq!(code(try_to_join(&mut bench, "readers", "m", 10_000).error_code), ErrorCode::UnknownMemberId);
    let request = SyncGroupRequest { group_id: group.clone(), ..SyncGroupRequest::default() };
    let synced: SyncGroupResponse = bench.ask(3, |coordinator, with, to| coordinator.sync(with, to, request));
    let request = HeartbeatRequest { group_id: group.clone(), ..HeartbeatRequest::default() };
    let alive: HeartbeatResponse = bench.ask(3, |coordinator, with, to| coordinator.heartbeat(with, to, request));
    for error_code in [synced.error_code, alive.error_code] {
        assert_eq!(code(error_code), ErrorCode::UnknownMemberId);
    }
    for epoch in [1, -1, -2] {
        assert_eq!(code(bench.beat(beat("readers", epoch)).error_code), ErrorCode::GroupIdNotFound);
    }
    assert_eq!(bench.delete("readers"), ErrorCode::GroupIdNotFound);
    assert_eq!(bench.groups(), [""; 0]);
}

#[test]
fn leaving_a_group_that_is_not_there_is_each_members_error_from_version_3_on() {
    let mut bench = Bench::new();
    let group_id = Str::from("readers");
    let one = LeaveGroupRequest { group_id, member_id: Str::from("m"), ..LeaveGroupRequest::default() };
    let mut many = one.clone();
    many.members = vec![MemberIdentity { member_id: Str::from("m"), ..MemberIdentity::default() }];
    let left: LeaveGroupResponse = bench.ask(2, |coordinator, with, to| coordinator.leave(with, to, one));
    assert_eq!(code(left.error_code), ErrorCode::UnknownMemberId);
    let left: LeaveGroupResponse = bench.ask(3, |coordinator, with, to| coordinator.leave(with, to, many));
    assert_eq!(
        (code(left.error_code), code(left.members[0].error_code)),
        (ErrorCode::None, ErrorCode::UnknownMemberId)
    );
}

#[test]
fn a_session_outside_the_limits_is_refused_before_a_group_is_made() {
    let mut bench = Bench::new();
    for session_ms in [-1, 0, 5_999, 30 * 60_000 + 1] {
        let refused = try_to_join(&mut bench, "readers", "", session_ms);
        assert_eq!(code(refused.error_code), ErrorCode::InvalidSessionTimeout, "{session_ms} ms");
    }
    assert_eq!(bench.groups(), [""; 0]);
    assert_eq!(try_to_join(&mut bench, "readers", "", 6_000).error_code, 0);
}

#[test]
fn a_group_that_nobody_could_join_is_not_made() {
    let mut bench = Bench::new();
    let mut request = join("readers", "consumer", &["orders"]);
    request.protocols.clear();
    let refused: JoinGroupResponse =
        bench.ask(3, |coordinator, with, to| coordinator.join(with, to, &client("one"), request));
    assert_eq!(code(refused.error_code), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(bench.groups(), [""; 0]);
    assert_eq!(bench.coordinator.deadline(), None);
}

#[test]
fn an_empty_group_becomes_one_of_whichever_protocol_joins_and_keeps_its_offsets() {
    let mut bench = Bench::new();
    bench.commit("readers", &NOBODY, ("orders", 0), 5);
    assert_eq!(bench.groups(), ["readers Empty classic"]);
    assert_eq!(bench.beat(beat("readers", 0)).error_code, 0);
    assert_eq!(bench.groups(), ["readers Stable consumer"]);
    assert_eq!(bench.beat(beat("readers", -1)).error_code, 0);
    assert_eq!(bench.groups(), ["readers Empty consumer"]);
    // Of an empty group of the next protocol nobody is a member.
    assert_eq!(code(try_to_join(&mut bench, "readers", "m", 10_000).error_code), ErrorCode::UnknownMemberId);
    assert_eq!(bench.groups(), ["readers Empty consumer"]);
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    assert_eq!(bench.groups(), ["readers Stable classic"]);
    bench.stand_up("readers", &seat);
    assert_eq!(bench.beat(beat("readers", 0)).error_code, 0);
    assert_eq!(bench.groups(), ["readers Stable consumer"]);
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
}

#[test]
fn a_heartbeat_of_the_next_protocol_that_is_refused_leaves_an_empty_group_as_it_was() {
    let mut bench = Bench::new();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.stand_up("readers", &seat);
    let written = bench.log.len();
    let mut request = beat("readers", 0);
    request.server_assignor = Some(Str::from("nonsense"));
    assert_eq!(code(bench.beat(request).error_code), ErrorCode::UnsupportedAssignor);
    assert_eq!(bench.groups(), ["readers Empty classic"]);
    assert_eq!(bench.log.len(), written);
}

#[test]
fn members_of_another_protocol_type_are_not_upgraded() {
    let mut bench = Bench::new();
    bench.sit_down("workers", "connect", &[]);
    assert_eq!(code(bench.beat(beat("workers", 0)).error_code), ErrorCode::GroupIdNotFound);
    assert_eq!(bench.groups(), ["workers Stable classic"]);
}

#[test]
fn a_group_of_consumers_is_upgraded_by_the_first_member_of_the_next_protocol_and_downgraded_after_the_last() {
    let mut bench = Bench::new();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 0), 5);
    assert_eq!(bench.beat(beat("readers", 0)).error_code, 0);
    assert!(bench.groups()[0].ends_with(" consumer"));
    assert_eq!(bench.beat(beat("readers", -1)).error_code, 0);
    // What the one had that is gone is for the others to share.
    assert_eq!(bench.groups(), ["readers PreparingRebalance classic"]);
    assert_eq!(bench.fetch("readers", ("orders", 0)), 5);
    // A crash before they have come together changes nothing about that.
    bench.coordinator = bench.reloaded();
    bench.begin();
    assert_eq!(bench.groups(), ["readers PreparingRebalance classic"]);
    // Its member has a session, and the log a record that goes with the group.
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.groups(), ["readers Empty classic"]);
    assert_eq!(bench.delete("readers"), ErrorCode::None);
    assert!(bench.reloaded().groups.is_empty());
}

#[test]
fn a_classic_member_that_waits_for_its_assignment_when_its_group_becomes_classic_joins_that() {
    let mut bench = Bench::new();
    // More than is assigned in one step.
    bench.rig.topic("mail", 100);
    let seat = bench.sit_down("readers", "consumer", &["mail"]);
    assert_eq!(bench.beat(beat("readers", 0)).error_code, 0);
    let to = bench.rig.ask(3);
    let mut request = join("readers", "consumer", &["mail", "bills"]);
    request.member_id = seat.member;
    bench.call_only(|coordinator, with| coordinator.join(with, to, &client("one"), request));
    assert!(bench.rig.waits(to));
    let leaving = bench.rig.ask(1);
    bench.call_only(|coordinator, with| {
        coordinator.consumer_heartbeat(with, leaving, &client("two"), beat("readers", -1));
    });
    assert_eq!(bench.groups(), ["readers PreparingRebalance classic"]);
    let refused: JoinGroupResponse = bench.rig.reply(to);
    assert_eq!(code(refused.error_code), ErrorCode::RebalanceInProgress);
}

#[test]
fn whoever_would_not_be_let_in_upgrades_nothing() {
    let mut bench = Bench::new();
    bench.sit_down("readers", "consumer", &["orders"]);
    let before = (bench.groups(), bench.log.len());
    let mut request = beat("readers", 0);
    request.server_assignor = Some(Str::from("nonsense"));
    assert_eq!(code(bench.beat(request).error_code), ErrorCode::UnsupportedAssignor);
    bench.rig.settings.consumer_max_size = 1;
    assert_eq!(code(bench.beat(beat("readers", 0)).error_code), ErrorCode::GroupMaxSizeReached);
    bench.rig.settings.consumer_migration_policy = Migration::Downgrade;
    assert_eq!(code(bench.beat(beat("readers", 0)).error_code), ErrorCode::GroupIdNotFound);
    assert_eq!((bench.groups(), bench.log.len()), before);
}

#[test]
fn a_group_with_members_is_not_deleted_and_an_empty_one_is_with_its_offsets() {
    let mut bench = Bench::new();
    let seat = bench.sit_down("readers", "consumer", &["orders"]);
    bench.commit("readers", &seat, ("orders", 0), 5);
    assert_eq!(bench.delete("readers"), ErrorCode::NonEmptyGroup);
    bench.stand_up("readers", &seat);
    assert_eq!(bench.delete("readers"), ErrorCode::None);
    assert_eq!(bench.groups(), [""; 0]);
    assert_eq!(bench.all_offsets("readers"), []);
    assert!(bench.reloaded().groups.is_empty());
    assert_eq!(bench.coordinator.deadline(), None);
    assert_eq!(bench.delete("readers"), ErrorCode::GroupIdNotFound);
}

#[test]
fn groups_are_listed_by_state_and_type_whatever_the_case() {
    let mut bench = Bench::new();
    bench.commit("archive", &NOBODY, ("orders", 0), 5);
    bench.sit_down("readers", "consumer", &["orders"]);
    bench.sit_down("workers", "connect", &[]);
    bench.beat(beat("tailers", 0));
    let list = |states: &[&str], types: &[&str]| {
        let strs = |names: &[&str]| names.iter().map(|name| Str::from(*name)).collect();
        let request = ListGroupsRequest { states_filter: strs(states), types_filter: strs(types) };
        let groups = listed(&bench.coordinator, &request).into_iter();
        groups.map(|group| format!("{} {}", group.group_id, group.protocol_type)).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], &[]), ["archive ", "readers consumer", "tailers consumer", "workers connect"]);
    assert_eq!(list(&[" eMPTY"], &[]), ["archive "]);
    assert_eq!(list(&["stable", "Empty"], &["CLASSIC"]), ["archive ", "readers consumer", "workers connect"]);
    assert_eq!(list(&[], &["Consumer"]), ["tailers consumer"]);
    assert_eq!(list(&["nonsense"], &[]), [""; 0]);
    assert_eq!(list(&[], &["nonsense"]), [""; 0]);
}

#[test]
fn describing_a_group_that_is_not_there_is_an_error_from_version_6_on() {
    let bench = Bench::new();
    for (version, expect) in [(5, ErrorCode::None), (6, ErrorCode::GroupIdNotFound)] {
        let described = bench.coordinator.describe(version, &Str::from("readers"));
        assert_eq!((code(described.error_code), &*described.group_state), (expect, "Dead"));
        assert_eq!(described.error_message.is_some(), version >= 6);
    }
}

#[test]
fn each_protocols_description_is_of_its_own_groups() {
    let mut bench = Bench::new();
    bench.commit("archive", &NOBODY, ("orders", 0), 5);
    bench.beat(beat("tailers", 0));
    let [archive, tailers, nothing] = ["archive", "tailers", "nothing"].map(Str::from);
    bench.call_only(|coordinator, with| {
        assert_eq!(coordinator.describe(6, &archive).group_state, "Empty");
        assert_eq!(code(coordinator.describe(6, &tailers).error_code), ErrorCode::GroupIdNotFound);
        assert_eq!(coordinator.describe_consumer(with, &tailers).group_state, "Stable");
        let refused = coordinator.describe_consumer(with, &archive);
        let message = refused.error_message.as_deref().map(str::to_owned);
        assert_eq!(message.as_deref(), Some("Group archive is not a consumer group."));
        assert_eq!(code(coordinator.describe_consumer(with, &nothing).error_code), ErrorCode::GroupIdNotFound);
    });
}

#[test]
fn a_member_of_the_next_protocol_fetches_and_commits_in_its_epoch() {
    let mut bench = Bench::new();
    let epoch = bench.beat(beat("tailers", 0)).member_epoch;
    let seat = Seat { member: Str::from("m"), generation: epoch };
    assert_eq!(bench.commit("tailers", &seat, ("orders", 0), 5), ErrorCode::None);
    let old = bench.commit_in(8, commit("tailers", &seat, ("orders", 0), 6));
    assert_eq!(old, ErrorCode::UnsupportedVersion);
    let stranger = Seat { member: Str::from("x"), ..seat };
    assert_eq!(bench.commit("tailers", &stranger, ("orders", 0), 6), ErrorCode::UnknownMemberId);
    for (member, member_epoch, expect) in [
        (None, -1, ErrorCode::None),
        (Some("m"), epoch, ErrorCode::None),
        (Some("m"), epoch + 1, ErrorCode::StaleMemberEpoch),
        (Some("x"), epoch, ErrorCode::UnknownMemberId),
    ] {
        let mut request = fetch("tailers", None);
        request.member_id = member.map(Str::from);
        request.member_epoch = member_epoch;
        let response = bench.fetch_in(9, request);
        assert_eq!(code(response.error_code), expect, "{member:?} in {member_epoch}");
        assert_eq!(response.topics.is_empty(), expect != ErrorCode::None);
    }
}

#[test]
fn whoever_waits_when_the_coordinator_resigns_is_told_so() {
    let mut bench = Bench::new();
    bench.rig.settings.group_initial_rebalance_delay = Duration::from_secs(3);
    let to = bench.rig.ask(3);
    let request = join("readers", "consumer", &["orders"]);
    bench.call(|coordinator, with| coordinator.join(with, to, &client("one"), request));
    assert!(bench.rig.waits(to));
    let refused = std::mem::take(&mut bench.coordinator).resign(ErrorCode::NotCoordinator);
    assert_eq!(refused.len(), 1);
    bench.rig.out.replies.extend(refused);
    let joined: JoinGroupResponse = bench.rig.reply(to);
    assert_eq!(code(joined.error_code), ErrorCode::NotCoordinator);
}

#[test]
fn many_groups_are_told_of_topics_that_have_changed_in_bounded_parts() {
    let mut bench = Bench::new();
    for group in 0..150 {
        bench.commit(&format!("group-{group:03}"), &NOBODY, ("orders", 0), 5);
    }
    bench.call_only(|coordinator, with| coordinator.topics_changed(with));
    let mut calls = 1;
    while bench.coordinator.deadline().is_some() {
        assert_ne!(bench.call_only(|coordinator, with| coordinator.reach(with)), Reached::Nothing);
        calls += 1;
    }
    assert_eq!(calls, 3);
}

#[test]
fn groups_are_told_to_the_last_even_if_topics_change_all_the_time() {
    let mut bench = Bench::new();
    for group in 0..150 {
        bench.commit(&format!("group-{group:03}"), &NOBODY, ("orders", 0), 5);
    }
    bench.rig.topic("mail", 1);
    bench.beat(beat("tailers", 0));
    bench.call_only(|coordinator, with| coordinator.topics_changed(with));
    for _ in 0..2 {
        bench.call_only(|coordinator, with| {
            coordinator.topics_changed(with);
            assert_ne!(coordinator.reach(with), Reached::Nothing);
        });
    }
    // The last group has been told: it asks for a look at its topics.
    let timer = Timer { group: Str::from("tailers"), kind: TimerKind::Assignment };
    assert!(bench.coordinator.timers.is_set(&timer).is_some());
    // And what changed meanwhile is told once more.
    let mut calls = 0;
    while bench.coordinator.telling.is_some() {
        assert_ne!(bench.call_only(|coordinator, with| coordinator.reach(with)), Reached::Nothing);
        calls += 1;
    }
    assert_eq!(calls, 3);
}
