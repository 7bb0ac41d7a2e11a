//! How members join, are told what to own, and hand partitions on.

use super::*;

#[test]
fn the_first_member_owns_everything_at_once() {
    let mut scene = Scene::new(&[("orders", 3)]);
    let joined = scene.accepted(join("a", &["orders"]));
    assert_eq!(joined.member_id, Some(Str::from("a")));
    assert_eq!((joined.member_epoch, joined.heartbeat_interval_ms), (1, 5_000));
    assert_eq!(joined.assignment, told(&[("orders", &[0, 1, 2])]));
    assert_eq!(scene.group.state(), "Stable");
}

#[test]
fn before_version_1_the_coordinator_makes_the_member_id() {
    let mut scene = Scene::new(&[("orders", 1)]);
    let joined = scene.beat_in(0, join("", &["orders"]));
    let id = joined.member_id.expect("an id");
    assert_eq!(id.len(), 22, "an id as Kafka writes one: {id}");
    assert_eq!(scene.beat_in(0, steady(&id, 1)).error_code, 0);
}

#[test]
fn a_partition_is_handed_on_only_when_its_owner_has_given_it_up() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    let b = scene.accepted(join("b", &["orders"]));
    assert_eq!((b.member_epoch, b.assignment), (2, told(&[])), "all is still a's");
    assert_eq!(scene.group.state(), "Reconciling");

    let a = scene.accepted(steady("a", 1));
    assert_eq!((a.member_epoch, a.assignment), (1, told(&[("orders", &[0])])), "a stays in its epoch");
    let b = scene.accepted(steady("b", 2));
    assert_eq!((b.member_epoch, b.assignment), (2, None));
    let a = scene.accepted(owning("a", 1, &[("orders", &[0, 1])]));
    assert_eq!((a.member_epoch, a.assignment), (1, None), "a has not given up");

    let a = scene.accepted(owning("a", 1, &[("orders", &[0])]));
    assert_eq!((a.member_epoch, a.assignment), (2, None));
    let b = scene.accepted(steady("b", 2));
    assert_eq!((b.member_epoch, b.assignment), (2, told(&[("orders", &[1])])));
    assert_eq!(scene.group.state(), "Stable");
}

#[test]
fn a_steady_heartbeat_writes_nothing_and_tells_nothing() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    let written = scene.records_written();
    let response = scene.accepted(steady("a", 1));
    assert_eq!((response.member_epoch, response.assignment), (1, None));
    assert_eq!(scene.records_written(), written);
}

#[test]
fn a_full_heartbeat_is_told_everything_again() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    let full = ConsumerGroupHeartbeatRequest { member_epoch: 1, ..join("a", &["orders"]) };
    assert_eq!(scene.accepted(full).assignment, told(&[("orders", &[0, 1])]));
}

#[test]
fn a_member_that_leaves_frees_its_partitions_at_once() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    let left = scene.accepted(steady("a", -1));
    assert_eq!((left.member_id, left.member_epoch), (Some(Str::from("a")), -1));
    let b = scene.accepted(steady("b", 2));
    assert_eq!((b.member_epoch, b.assignment), (3, told(&[("orders", &[0, 1])])));
}

#[test]
fn the_last_one_out_leaves_an_empty_group_that_can_be_deleted() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.pass(Duration::from_secs(1));
    scene.accepted(steady("a", -1));
    assert_eq!((scene.group.state(), scene.group.size()), ("Empty", 0));
    assert_eq!(scene.group.empty_since(), Some(scene.rig.now.wall));
    assert!(!scene.group.is_forgettable(), "the log has records of it");
    scene.group.delete(&mut scene.rig.ctx());
    scene.settle();
    assert!(scene.group.is_forgettable());
    let mut left = BTreeMap::new();
    for (record, _) in &scene.log {
        left.insert(record.key.clone(), record.value.is_some());
    }
    assert!(left.values().all(|value| !value), "every record has its tombstone: {left:?}");
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(static_join("a", "one", &["orders"]));
    scene.accepted(static_join("b", "two", &["orders"]));
    scene.accepted(steady("a", 1));
    scene.accepted(owning("a", 1, &[("orders", &[0])]));
    scene.accepted(steady("b", 2));
    let epoch = scene.group.epoch();

    let bye = ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from("two")), ..steady("b", -2) };
    assert_eq!(scene.accepted(bye).member_epoch, -2);
    assert_eq!(scene.accepted(steady("a", 2)).assignment, None, "nobody takes over");
    let back = scene.accepted(static_join("b2", "two", &["orders"]));
    assert_eq!((back.member_epoch, back.assignment), (2, told(&[("orders", &[1])])));
    assert_eq!((scene.group.epoch(), scene.group.size()), (epoch, 2), "no rebalance");
    assert_eq!(scene.refused(steady("b", 2)), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_does_not_come_back_is_gone_with_its_session() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(static_join("a", "one", &["orders"]));
    scene.accepted(ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from("one")), ..steady("a", -2) });
    scene.pass(Duration::from_secs(44));
    assert_eq!(scene.group.size(), 1);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.group.state(), "Empty");
}

#[test]
fn a_static_name_in_use_is_not_taken_over() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(static_join("a", "one", &["orders"]));
    assert_eq!(scene.refused(static_join("b", "one", &["orders"])), ErrorCode::UnreleasedInstanceId);
    let as_b = |epoch| ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from("one")), ..steady("b", epoch) };
    for epoch in [1, -1, -2] {
        assert_eq!(scene.refused(as_b(epoch)), ErrorCode::FencedInstanceId);
    }
    let nobody = ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from("two")), ..steady("a", 1) };
    assert_eq!(scene.refused(nobody), ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_has_room_for_so_many() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.rig.settings.consumer_max_size = 1;
    scene.accepted(join("a", &["orders"]));
    assert_eq!(scene.refused(join("b", &["orders"])), ErrorCode::GroupMaxSizeReached);
    scene.accepted(join("a", &["orders"]));
}

#[test]
fn most_members_choose_the_assignor() {
    let mut scene = Scene::new(&[("orders", 2), ("bills", 2)]);
    let by_range = |id| ConsumerGroupHeartbeatRequest {
        server_assignor: Some(Str::from("range")),
        ..join(id, &["orders", "bills"])
    };
    scene.accepted(by_range("a"));
    scene.accepted(by_range("b"));
    assert_eq!(scene.group.describe(&scene.rig.settings, &scene.rig.topics).assignor_name, "range");
    let target: Vec<_> = scene.group.targets[&Str::from("a")].values().cloned().collect();
    assert_eq!(target, [vec![0], vec![0]], "partitions of one index meet");
}

#[test]
fn describing_a_group_tells_all_of_it() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(static_join("b", "two", &["orders"]));
    scene.accepted(steady("a", 1));
    let described = scene.group.describe(&scene.rig.settings, &scene.rig.topics);
    assert_eq!(described.group_state, "Reconciling");
    assert_eq!((described.group_epoch, described.assignment_epoch), (2, 2));
    assert_eq!(described.assignor_name, "uniform");
    scene.rig.settings.consumer_assignors = vec!["range", "uniform"];
    assert_eq!(scene.group.describe(&scene.rig.settings, &scene.rig.topics).assignor_name, "range");
    let [a, b] = described.members.as_slice() else { panic!("two members") };
    let of = |assignment: &crate::wire::consumer_group_describe::Assignment| {
        let topics = &assignment.topic_partitions;
        topics.iter().map(|topic| (topic.topic_name.to_string(), topic.partitions.clone())).collect::<Vec<_>>()
    };
    assert_eq!(of(&a.assignment), [("orders".to_owned(), vec![0])]);
    assert_eq!(of(&a.target_assignment), [("orders".to_owned(), vec![0])]);
    assert_eq!((a.member_epoch, a.member_type, a.instance_id.clone()), (1, 1, None));
    assert_eq!((of(&b.assignment), of(&b.target_assignment)), (vec![], vec![("orders".to_owned(), vec![1])]));
    assert_eq!((b.member_epoch, b.instance_id.clone()), (2, Some(Str::from("two"))));
    assert_eq!((b.client_id.to_string(), b.client_host.to_string()), ("c".to_owned(), "/127.0.0.1".to_owned()));
}

#[test]
fn tools_for_classic_groups_do_not_see_it() {
    let scene = Scene::new(&[]);
    let old = scene.group.describe_classic(5);
    assert_eq!((old.error_code, old.group_state), (0, Str::from("Dead")));
    let new = scene.group.describe_classic(6);
    assert_eq!((new.error_code, new.group_state), (ErrorCode::GroupIdNotFound as i16, Str::from("Dead")));
}

#[test]
fn a_large_group_is_not_assigned_anew_for_each_member_that_comes() {
    let mut scene = Scene::new(&[("orders", 3_000)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    let c = scene.accepted(join("c", &["orders"]));
    assert_eq!((c.member_epoch, c.assignment), (1, told(&[])));
    assert_eq!((scene.group.epoch(), scene.group.state()), (3, "Assigning"));
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.accepted(steady("c", 1)).member_epoch, 3, "one assignment for both");
    assert_eq!(scene.group.state(), "Reconciling");
}
