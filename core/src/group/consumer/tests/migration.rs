//! The ways between the protocols while members live.

use super::classic::subscription;
use super::*;
use crate::group::Migration;
use crate::group::classic;
use crate::group::protocol::{ConsumerProtocolAssignment, TopicPartition};
use crate::group::record::Key;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use bytes::Bytes;

fn assignment(of: &[(&str, &[i32])]) -> Bytes {
    let topic = |(topic, partitions): &(&str, &[i32])| TopicPartition {
        topic: Str::from(*topic),
        partitions: partitions.to_vec(),
    };
    let assigned_partitions = of.iter().map(topic).collect();
    ConsumerProtocolAssignment { assigned_partitions, user_data: None }.to_bytes(3)
}

fn member(id: &str, owned: &[(&str, &[i32])]) -> classic::Member {
    classic::Member {
        id: Str::from(id),
        instance_id: None,
        client: client("c"),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 30_000,
        protocols: vec![(Str::from("range"), subscription(&["orders"], &[]))],
        assignment: assignment(owned),
    }
}

fn classic_group(members: Vec<classic::Member>) -> classic::Group {
    let leader = members.first().map(|member| member.id.clone());
    classic::Group::restore(Str::from("g"), 7, Str::from("consumer"), Str::from("range"), leader, members)
}

fn two() -> Vec<classic::Member> {
    vec![member("a", &[("orders", &[0, 1])]), member("b", &[("orders", &[2])])]
}

impl Scene {
    fn upgraded(members: Vec<classic::Member>) -> Scene {
        let mut scene = Scene::new(&[("orders", 3)]);
        let mut group = classic_group(members);
        assert!(Group::may_upgrade(&scene.rig.ctx(), &mut group));
        scene.group = Group::upgrade(&mut scene.rig.ctx(), &group, Str::from("g"));
        scene.settle();
        scene
    }
}

#[test]
fn a_classic_group_goes_on_as_it_was() {
    let mut scene = Scene::upgraded(two());
    let buried = Record { key: Key::Group { group: Str::from("g") }, value: None };
    assert_eq!(scene.log.first().map(|(record, _)| record), Some(&buried));
    assert_eq!((scene.group.epoch(), scene.group.state(), scene.group.size()), (7, "Stable", 2));
    assert_eq!(scene.classic_beat("a", 7), ErrorCode::None);
    assert_eq!(scene.classic_beat("b", 6), ErrorCode::IllegalGeneration);
    let types: Vec<i8> = scene
        .group
        .describe(&scene.rig.settings, &scene.rig.topics)
        .members
        .iter()
        .map(|member| member.member_type)
        .collect();
    assert_eq!(types, [0, 0]);
    scene.pass(Duration::from_secs(30));
    assert_eq!(scene.group.size(), 0, "sessions go on too");
}

#[test]
fn members_move_over_one_by_one_without_owning_anything_twice() {
    let mut scene = Scene::upgraded(two());
    let new = scene.accepted(join("n", &["orders"]));
    assert_eq!((new.member_epoch, new.assignment), (8, told(&[])));
    assert_eq!(scene.classic_beat("a", 7), ErrorCode::RebalanceInProgress);
    scene.classic_join(super::classic::joining("a", &[("orders", &[0, 1])]));
    assert_eq!(scene.classic_sync("a", 7), super::classic::given(&[("orders", &[0])]));
    scene.classic_join(super::classic::joining("a", &[("orders", &[0])]));
    assert_eq!(scene.accepted(steady("n", 8)).assignment, told(&[("orders", &[1])]));
}

#[test]
fn what_members_keep_while_they_rebalance_is_nobody_elses_after_an_upgrade() {
    let mut scene = Scene::new(&[("orders", 3)]);
    let mut group = classic_group(two());
    group.begin(&mut scene.rig.ctx());
    let mut joins = |id: &str, owned: &[(&str, &[i32])]| {
        let request = JoinGroupRequest {
            protocols: vec![JoinGroupRequestProtocol {
                name: Str::from("range"),
                metadata: subscription(&["orders"], owned),
            }],
            ..super::classic::joining(id, &[])
        };
        let to = scene.rig.ask(3);
        group.join(&mut scene.rig.ctx(), to, &client("c"), request);
    };
    // A cooperative member goes on reading what it has until it is told otherwise. Before anybody is, one more joins.
    joins("", &[]);
    joins("a", &[("orders", &[0, 1])]);
    joins("b", &[("orders", &[2])]);
    joins("", &[]);
    assert_eq!(group.state(), classic::State::PreparingRebalance);

    scene.group = Group::upgrade(&mut scene.rig.ctx(), &group, Str::from("g"));
    scene.settle();
    let owned = |id: &str| scene.group.members[&Str::from(id)].current.held().count();
    assert_eq!((owned("a"), owned("b")), (2, 1));
    assert_eq!(scene.accepted(join("n", &["orders"])).assignment, told(&[]));
}

#[test]
fn what_a_cooperative_member_is_giving_up_is_nobody_elses_before_it_has() {
    let mut giving = member("a", &[("orders", &[0])]);
    giving.protocols[0].1 = subscription(&["orders"], &[("orders", &[0, 1, 2])]);
    // It says that it owns 2, which the assignment says is b's: then it is.
    let mut scene = Scene::upgraded(vec![giving, member("b", &[("orders", &[2])])]);
    assert_eq!(scene.group.state(), "Reconciling");
    assert_eq!(scene.accepted(join("n", &["orders"])).assignment, told(&[]));
    assert_eq!(scene.classic_beat("a", 7), ErrorCode::RebalanceInProgress);
    let joined = scene.classic_join(super::classic::joining("a", &[("orders", &[0])]));
    assert_eq!(joined.generation_id, 8);
    assert_eq!(scene.accepted(steady("n", 8)).assignment, told(&[("orders", &[1])]));
}

#[test]
fn partitions_that_are_not_there_are_nobodys_after_an_upgrade() {
    let many: Vec<i32> = (-3..100_000).collect();
    let scene = Scene::upgraded(vec![member("a", &[("orders", &many)])]);
    assert_eq!(scene.group.members[&Str::from("a")].current.held().count(), 3);
    let mut scene = Scene::new(&[("orders", 100_000)]);
    scene.rig.settings.record_bytes_max = 500_000;
    let mut group = classic_group(vec![member("a", &[("orders", &many)])]);
    assert!(!Group::may_upgrade(&scene.rig.ctx(), &mut group), "no record holds what it owns");
}

#[test]
fn what_cannot_be_upgraded_stays() {
    let scene_with = |policy| {
        let mut scene = Scene::new(&[("orders", 3)]);
        scene.rig.settings.consumer_migration_policy = policy;
        scene
    };
    let mut scene = scene_with(Migration::Bidirectional);
    let odd = |change: fn(&mut classic::Member)| {
        let mut members = two();
        change(&mut members[1]);
        classic_group(members)
    };
    let no_subscription = odd(|member| member.protocols[0].1 = Bytes::from_static(&[0, 1, 2]));
    let no_assignment = odd(|member| member.assignment = Bytes::from_static(&[0, 1, 2]));
    let user_data = odd(|member| {
        let assignment =
            ConsumerProtocolAssignment { assigned_partitions: vec![], user_data: Some(Bytes::from_static(b"x")) };
        member.assignment = assignment.to_bytes(3);
    });
    for mut group in [no_subscription, no_assignment, user_data] {
        assert!(!Group::may_upgrade(&scene.rig.ctx(), &mut group));
    }
    let mut connect = classic::Group::restore(Str::from("g"), 7, Str::from("connect"), Str::from("range"), None, two());
    assert!(!Group::may_upgrade(&scene.rig.ctx(), &mut connect));
    scene.rig.settings.consumer_max_size = 1;
    assert!(!Group::may_upgrade(&scene.rig.ctx(), &mut classic_group(two())));
    for (policy, may) in [(Migration::Disabled, false), (Migration::Downgrade, false), (Migration::Upgrade, true)] {
        assert_eq!(Group::may_upgrade(&scene_with(policy).rig.ctx(), &mut classic_group(two())), may);
    }
}

#[test]
fn whoever_is_in_the_way_of_an_upgrade_is_looked_at_first_when_somebody_asks_again() {
    let mut scene = Scene::new(&[("orders", 3)]);
    let mut members = two();
    members[1].assignment = Bytes::from_static(&[0, 1, 2]);
    let mut group = classic_group(members);
    for _ in 0..2 {
        assert!(!Group::may_upgrade(&scene.rig.ctx(), &mut group));
        assert_eq!(group.obstacle(), Some(&Str::from("b")));
    }
    // One that is not in the way any more does not keep the group from it.
    group.note_obstacle(Str::from("a"));
    assert!(!Group::may_upgrade(&scene.rig.ctx(), &mut group));
    let mut group = classic_group(two());
    group.note_obstacle(Str::from("b"));
    assert!(Group::may_upgrade(&scene.rig.ctx(), &mut group));
}

#[test]
fn a_partition_that_an_assignor_gave_twice_is_owned_once() {
    let scene = Scene::upgraded(vec![member("a", &[("orders", &[0, 1])]), member("b", &[("orders", &[1, 2])])]);
    let owned = |id: &str| scene.group.members[&Str::from(id)].current.held().count();
    assert_eq!((owned("a"), owned("b")), (2, 1));
}

#[test]
fn the_way_back_leaves_a_classic_group_that_says_the_same() {
    let mut scene = Scene::upgraded(two());
    scene.accepted(join("n", &["orders"]));
    scene.accepted(steady("n", -1));
    assert!(scene.group.may_downgrade(&scene.rig.ctx()));
    let restored = scene.group.downgrade(&mut scene.rig.ctx());
    assert!(scene.group.is_forgettable(), "no record of it is left");
    assert_eq!((restored.generation(), restored.state()), (9, classic::State::Stable));
    let members: Vec<(Str, Bytes)> = restored.members().map(|member| (member.id, member.assignment)).collect();
    assert_eq!(members.len(), 2);
    assert_eq!(members[0], (Str::from("a"), assignment(&[("orders", &[0, 1])])));
    assert_eq!(members[1], (Str::from("b"), assignment(&[("orders", &[2])])));

    let records = scene.rig.records();
    let last = records.last().expect("records");
    assert_eq!(last.key, Key::Group { group: Str::from("g") });
    let mut loaded = classic::Group::new(Str::from("g"));
    loaded.replay(last.value.as_ref(), Timestamp(1));
    assert_eq!(loaded.members().collect::<Vec<_>>().len(), 2);
    assert_eq!((loaded.generation(), loaded.protocol()), (9, Some(&Str::from("range"))));
}

#[test]
fn what_a_member_has_not_heard_that_it_is_to_give_up_is_nobody_elses_after_the_way_back_and_another_upgrade() {
    let mut scene = Scene::upgraded(two());
    // One comes and goes, and the next comes, before a's next heartbeat. Its last JoinGroup says nothing of what it owns,
    // as that of an eager member.
    scene.accepted(join("n", &["orders"]));
    scene.accepted(steady("n", -1));
    let group = scene.group.downgrade(&mut scene.rig.ctx());
    scene.group = Group::upgrade(&mut scene.rig.ctx(), &group, Str::from("g"));
    scene.settle();
    let joined = scene.accepted(join("m", &["orders"]));
    assert_eq!(joined.assignment, told(&[]));

    assert_eq!(scene.classic_beat("a", 9), ErrorCode::RebalanceInProgress);
    scene.classic_join(super::classic::joining("a", &[]));
    assert_eq!(scene.accepted(steady("m", joined.member_epoch)).assignment, told(&[("orders", &[1])]));
}

#[test]
fn what_a_member_is_giving_up_is_its_own_after_the_way_back() {
    let mut scene = Scene::upgraded(two());
    scene.accepted(join("n", &["orders"]));
    scene.classic_join(super::classic::joining("a", &[("orders", &[0, 1])]));
    assert_eq!(scene.group.members[&Str::from("a")].current.revoking.len(), 1);
    scene.accepted(steady("n", -1));
    let group = scene.group.downgrade(&mut scene.rig.ctx());
    let has = group.member(&Str::from("a")).map(|member| member.assignment.clone());
    assert_eq!(has, Some(assignment(&[("orders", &[0, 1])])));
}
