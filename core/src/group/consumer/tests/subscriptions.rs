//! What members subscribe to, and what becomes of topics.

use super::*;

fn matching(id: &str, regex: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(Str::from(regex)),
        ..join(id, &[])
    }
}

#[test]
fn a_topic_that_grows_is_assigned_anew_with_the_next_heartbeat() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(join("a", &["orders"]));
    scene.rig.topic("orders", 3);
    scene.topics_changed();
    assert_eq!((scene.group.epoch(), scene.group.state()), (2, "Assigning"));
    let a = scene.accepted(steady("a", 1));
    assert_eq!((a.member_epoch, a.assignment), (2, told(&[("orders", &[0, 1, 2])])));
}

#[test]
fn a_topic_that_appears_is_assigned_to_whoever_waits_for_it() {
    let mut scene = Scene::new(&[]);
    let a = scene.accepted(join("a", &["orders"]));
    assert_eq!((a.member_epoch, a.assignment), (1, told(&[])));
    scene.rig.topic("orders", 1);
    scene.topics_changed();
    assert_eq!(scene.accepted(steady("a", 1)).assignment, told(&[("orders", &[0])]));
}

#[test]
fn topics_of_others_change_nothing() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(join("a", &["orders"]));
    let written = scene.records_written();
    scene.rig.topic("bills", 1);
    scene.topics_changed();
    assert_eq!(scene.records_written(), written);
}

#[test]
fn a_topic_that_goes_is_taken_from_its_owner() {
    let mut scene = Scene::new(&[("orders", 1), ("bills", 1)]);
    scene.accepted(join("a", &["orders", "bills"]));
    scene.rig.topics.remove("orders");
    scene.topics_changed();
    assert_eq!(scene.accepted(steady("a", 1)).assignment, told(&[("bills", &[0])]));
    assert_eq!(scene.accepted(owning("a", 1, &[("bills", &[0])])).member_epoch, 2);
}

#[test]
fn a_topic_made_anew_under_its_name_is_another_topic() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(join("a", &["orders"]));
    scene.rig.topics.set("orders", topic_id("orders-2"), 1);
    scene.topics_changed();
    scene.accepted(steady("a", 1));
    let a = scene.accepted(owning("a", 1, &[]));
    assert_eq!((a.member_epoch, a.assignment), (2, told(&[("orders-2", &[0])])));
}

#[test]
fn what_is_no_longer_subscribed_to_is_given_up() {
    let mut scene = Scene::new(&[("orders", 1), ("bills", 1)]);
    scene.accepted(join("a", &["orders", "bills"]));
    let change = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(vec![Str::from("bills")]),
        ..owning("a", 1, &[("orders", &[0]), ("bills", &[0])])
    };
    let a = scene.accepted(change);
    assert_eq!((a.member_epoch, a.assignment), (1, told(&[("bills", &[0])])));
    assert_eq!(scene.group.subscribed().collect::<Vec<_>>(), ["bills"]);
    assert_eq!(scene.accepted(owning("a", 1, &[("bills", &[0])])).member_epoch, 2);
}

#[test]
fn each_topic_is_looked_up_once_for_an_epoch_that_topics_begin() {
    let names: Vec<String> = (0..20).map(|at| format!("t{at:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut scene = Scene::new(&names.iter().map(|name| (*name, 1)).collect::<Vec<_>>());
    scene.accepted(join("a", &names));
    scene.rig.topic("t00", 2);
    let before = scene.rig.topics.looked_up.get();
    scene.topics_changed();
    assert_eq!((scene.group.epoch(), scene.rig.topics.looked_up.get() - before), (2, 20));
}

#[test]
fn an_expression_that_some_keep_matches_on_when_others_leave_or_change_theirs() {
    let mut scene = Scene::new(&[("orders", 1), ("bills", 1)]);
    scene.accepted(matching("a", "ord.*"));
    scene.accepted(matching("b", "ord.*"));
    scene.accepted(join("c", &["orders"]));
    scene.pass(Duration::ZERO);
    scene.accepted(ConsumerGroupHeartbeatRequest { member_epoch: -1, ..steady("a", -1) });
    scene.accepted(ConsumerGroupHeartbeatRequest { member_epoch: -1, ..steady("c", -1) });
    assert_eq!(scene.group.subscribed().collect::<Vec<_>>(), ["orders"]);
    let epoch = scene.accepted(steady("b", 1)).member_epoch;
    let change = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some(Str::from("bil.*")),
        ..owning("b", epoch, &[("orders", &[0])])
    };
    scene.accepted(change);
    assert_eq!(scene.group.subscribed().count(), 0, "the new one is not looked up yet");
    scene.pass(Duration::from_secs(10));
    assert_eq!(scene.group.subscribed().collect::<Vec<_>>(), ["bills"]);
}

#[test]
fn a_member_may_subscribe_to_nothing() {
    let mut scene = Scene::new(&[("orders", 1)]);
    let a = scene.accepted(join("a", &[]));
    assert_eq!((a.member_epoch, a.assignment), (1, told(&[])));
    assert_eq!(scene.group.state(), "Stable");
}

#[test]
fn an_expression_is_looked_up_and_its_topics_are_assigned() {
    let mut scene = Scene::new(&[("orders", 1), ("orders-old", 1), ("bills", 1)]);
    let a = scene.accepted(matching("a", "orders.*"));
    assert_eq!((a.member_epoch, a.assignment), (1, told(&[])), "it is not known yet what it means");
    scene.pass(Duration::ZERO);
    let a = scene.accepted(steady("a", 1));
    assert_eq!((a.member_epoch, a.assignment), (2, told(&[("orders", &[0]), ("orders-old", &[0])])));
    assert_eq!(scene.group.subscribed().count(), 2);
}

#[test]
fn many_topics_are_looked_at_a_few_at_a_time() {
    let names: Vec<String> = (0..1000).map(|at| format!("t{at:04}")).collect();
    let topics: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut rig = Rig::new();
    for (name, partitions) in topics {
        rig.topic(name, partitions);
    }
    let mut group = Group::new(Str::from("g"));
    let to = rig.ask(1);
    group.heartbeat(&mut rig.ctx(), to, &client("c"), matching("a", "t...[05]"));
    let mut steps = 0;
    while let Some(timer) = rig.due() {
        group.timer(&mut rig.ctx(), timer.kind);
        while let Some(found) = rig.answer_one() {
            steps += 1;
            group.found(&mut rig.ctx(), found.number, found.what);
        }
    }
    assert_eq!(steps, 8, "1000 topics, 128 in each question");
    assert_eq!(group.subscribed().count(), 200);
}

#[test]
fn an_expression_is_looked_up_again_when_topics_change_but_not_all_the_time() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(matching("a", "orders.*"));
    scene.pass(Duration::ZERO);
    scene.accepted(steady("a", 1));
    scene.rig.topic("orders-new", 1);
    scene.topics_changed();
    scene.pass(Duration::from_secs(9));
    assert_eq!(scene.group.epoch(), 2, "the last lookup was nine seconds ago");
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.group.epoch(), 3);
    assert_eq!(scene.accepted(steady("a", 2)).assignment, told(&[("orders", &[0]), ("orders-new", &[0])]));
}

#[test]
fn an_expression_that_somebody_else_has_needs_no_lookup() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(matching("a", "orders.*"));
    scene.pass(Duration::ZERO);
    scene.accepted(steady("a", 1));
    let b = scene.accepted(matching("b", "orders.*"));
    assert_eq!(b.member_epoch, 3);
    assert_eq!(scene.group.targets[&Str::from("b")].len(), 1);
}

#[test]
fn an_expression_that_nobody_has_is_forgotten() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(matching("a", "orders.*"));
    scene.pass(Duration::ZERO);
    assert_eq!(scene.group.resolved.len(), 1);
    let change = ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some(Str::from("")), ..steady("a", 1) };
    scene.accepted(change);
    assert_eq!(scene.group.resolved.len(), 0);
    assert_eq!(scene.group.subscribed().count(), 0);
}

#[test]
fn a_member_may_subscribe_by_name_and_by_expression() {
    let mut scene = Scene::new(&[("orders", 1), ("bills", 1)]);
    let both = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some(Str::from("ord.*")),
        ..join("a", &["bills", "orders"])
    };
    scene.accepted(both);
    scene.pass(Duration::ZERO);
    assert_eq!(scene.group.subscribed().count(), 2);
    let names = ConsumerGroupHeartbeatRequest { subscribed_topic_names: Some(Vec::new()), ..steady("a", 1) };
    scene.accepted(names);
    assert_eq!(scene.group.subscribed().collect::<Vec<_>>(), ["orders"]);
}

#[test]
fn whoever_subscribes_to_more_topics_than_a_record_holds_is_told_so() {
    let mut scene = Scene::new(&[]);
    scene.rig.settings.record_bytes_max = 2_000;
    let names: Vec<String> = (0..100).map(|n| format!("topic-{n:02}")).collect();
    for name in &names {
        scene.rig.topic(name, 1);
    }
    assert_eq!(scene.accepted(matching("a", "topic.*")).assignment, told(&[]));
    scene.pass(Duration::ZERO);
    assert_eq!(scene.refused(steady("a", 1)), ErrorCode::UnknownServerError);
    assert_eq!(scene.accepted(matching("b", "topic-0[12]")).member_epoch, 1);
    scene.pass(Duration::from_secs(10));
    assert_eq!(scene.refused(steady("a", 1)), ErrorCode::UnknownServerError);
    // Others of its group go on, and it does once there are fewer.
    let b = scene.accepted(steady("b", 1));
    assert_eq!(b.assignment, told(&[("topic-01", &[0]), ("topic-02", &[0])]));
    for name in &names[10..] {
        scene.rig.topics.remove(name);
    }
    scene.topics_changed();
    scene.pass(Duration::from_secs(20));
    assert_eq!(scene.accepted(steady("a", 1)).error_code, 0);
}
