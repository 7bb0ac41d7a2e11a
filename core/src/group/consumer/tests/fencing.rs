//! Who is refused, and who is taken for dead.

use super::*;

#[test]
fn a_member_that_says_another_epoch_is_fenced() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    assert_eq!(scene.refused(steady("a", 2)), ErrorCode::FencedMemberEpoch);
    scene.accepted(join("b", &["orders"]));
    scene.accepted(steady("a", 1));
    scene.accepted(owning("a", 1, &[("orders", &[0])]));
    assert_eq!(scene.refused(steady("a", 1)), ErrorCode::FencedMemberEpoch, "it does not say what it owns");
    assert_eq!(scene.refused(owning("b", 1, &[])), ErrorCode::FencedMemberEpoch, "b was never in epoch 1");
}

#[test]
fn the_epoch_before_is_good_while_nothing_else_is_owned() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    scene.accepted(steady("a", 1));
    scene.accepted(owning("a", 1, &[("orders", &[0])]));
    // The answer was lost, so that a knows nothing of epoch 2.
    let again = scene.accepted(owning("a", 1, &[("orders", &[0])]));
    assert_eq!(again.member_epoch, 2);
    assert_eq!(scene.refused(owning("a", 1, &[("orders", &[0, 1])])), ErrorCode::FencedMemberEpoch);
}

#[test]
fn a_fenced_member_joins_again_without_partitions_and_is_told_all_of_them() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    assert_eq!(scene.refused(steady("a", 7)), ErrorCode::FencedMemberEpoch);
    let again = scene.accepted(join("a", &["orders"]));
    assert_eq!((again.member_epoch, again.assignment), (1, told(&[("orders", &[0, 1])])));
}

#[test]
fn a_stranger_is_unknown() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    for epoch in [1, -1] {
        assert_eq!(scene.refused(steady("b", epoch)), ErrorCode::UnknownMemberId);
    }
}

#[test]
fn a_silent_member_is_gone_when_its_session_ends() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    scene.pass(Duration::from_secs(30));
    scene.accepted(steady("a", 1));
    scene.pass(Duration::from_secs(14));
    assert_eq!(scene.group.size(), 2);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.group.size(), 1, "b has been silent for 45 seconds, a for 15");
    assert_eq!(scene.refused(steady("b", 2)), ErrorCode::UnknownMemberId);
    scene.pass(Duration::from_secs(30));
    assert_eq!(scene.group.size(), 0);
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_gone() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    scene.accepted(steady("a", 1));
    for _ in 0..5 {
        scene.pass(Duration::from_secs(10));
        scene.accepted(owning("a", 1, &[("orders", &[0, 1])]));
        scene.accepted(steady("b", 2));
    }
    scene.pass(Duration::from_secs(10));
    assert_eq!(scene.refused(owning("a", 1, &[("orders", &[0, 1])])), ErrorCode::UnknownMemberId);
    assert_eq!(scene.accepted(steady("b", 2)).assignment, told(&[("orders", &[0, 1])]));
}

#[test]
fn a_static_member_that_left_for_a_while_owes_nothing_until_it_is_back() {
    let mut scene = Scene::new(&[("orders", 2)]);
    let named = |request| ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from("one")), ..request };
    scene.accepted(ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: 10_000, ..named(join("a", &["orders"])) });
    scene.accepted(join("b", &["orders"]));
    scene.accepted(named(steady("a", 1)));
    scene.accepted(named(steady("a", -2)));
    scene.pass(Duration::from_secs(20));
    assert_eq!(scene.group.size(), 2, "its session has 25 seconds left");
    scene.fail_over();
    scene.pass(Duration::from_secs(20));
    assert_eq!(scene.group.size(), 2, "nor does a load ask it for anything");
    scene.accepted(named(join("again", &["orders"])));
    scene.accepted(steady("b", 2));
    scene.pass(Duration::from_secs(40));
    assert_eq!(scene.group.size(), 2);
}

#[test]
fn giving_up_in_time_is_all_that_is_asked() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    scene.accepted(steady("a", 1));
    scene.pass(Duration::from_secs(30));
    scene.accepted(owning("a", 1, &[("orders", &[0])]));
    scene.accepted(steady("b", 2));
    scene.pass(Duration::from_secs(31));
    assert_eq!(scene.group.size(), 2);
}

#[test]
fn a_request_that_no_member_may_send_is_refused() {
    let mut scene = Scene::new(&[("orders", 1)]);
    let some = |text: &str| Some(Str::from(text));
    let good = || join("a", &["orders"]);
    type Request = ConsumerGroupHeartbeatRequest;
    let cases = [
        ("no group", Request { group_id: Str::EMPTY, ..good() }),
        ("no member", Request { member_id: Str::EMPTY, ..good() }),
        ("an empty instance", Request { instance_id: some(""), ..good() }),
        ("an empty rack", Request { rack_id: some(""), ..good() }),
        ("no rebalance timeout", Request { rebalance_timeout_ms: -1, ..good() }),
        ("owned partitions unsaid", Request { topic_partitions: None, ..good() }),
        ("owned partitions", Request { topic_partitions: Some(partitions(&[("orders", &[0])])), ..good() }),
        ("no subscription", Request { subscribed_topic_names: None, ..good() }),
        ("an epoch below -2", steady("a", -3)),
        ("a static leave without a name", steady("a", -2)),
    ];
    for (what, request) in cases {
        assert_eq!(scene.refused(request), ErrorCode::InvalidRequest, "{what}");
    }
    let odd = Request { server_assignor: some("sticky"), ..good() };
    assert_eq!(scene.refused(odd), ErrorCode::UnsupportedAssignor);
    for epoch in [1, -1] {
        let response = scene.beat_in(0, steady("", epoch));
        assert_eq!(response.error_code, ErrorCode::InvalidRequest as i16, "epoch {epoch} without an id");
    }
    assert_eq!(scene.records_written(), 0, "nothing that was refused has left a trace");
}

#[test]
fn a_subscription_larger_than_a_record_is_refused() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.rig.settings.record_bytes_max = 4096;
    let names: Vec<String> = (0..400).map(|at| format!("topic-{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(scene.refused(join("a", &names)), ErrorCode::UnknownServerError);
    assert_eq!(scene.records_written(), 0);
}
