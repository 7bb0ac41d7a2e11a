//! A load gives the group that there was, whatever compaction has left.

use super::*;
use crate::group::record::{ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue, Key, Value};

/// A group in the middle of handing a partition on, with a static member away and an expression.
fn scene() -> Scene {
    let mut scene = Scene::new(&[("orders", 4), ("bills", 1)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(static_join("b", "two", &["orders"]));
    scene
        .accepted(ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some(Str::from("bil.*")), ..join("c", &[]) });
    scene.pass(Duration::ZERO);
    scene.accepted(steady("a", 1));
    scene.accepted(owning("a", 1, &[("orders", &[0, 1])]));
    scene.accepted(steady("b", 2));
    scene.accepted(ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from("two")), ..steady("b", -2) });
    scene.accepted(steady("c", 2));
    scene.accepted(join("d", &["orders", "bills"]));
    scene.accepted(steady("a", 3));
    assert_eq!(scene.group.state(), "Reconciling");
    scene
}

/// Only the last record of each key, as after compaction.
fn compacted(log: &[(Record, Timestamp)], keeps_tombstones: bool) -> Vec<(Record, Timestamp)> {
    let mut last = BTreeMap::new();
    for (at, (record, _)) in log.iter().enumerate() {
        last.insert(record.key.clone(), at);
    }
    let kept = log.iter().enumerate().filter(|(at, (record, _))| last[&record.key] == *at);
    kept.map(|(_, entry)| entry.clone()).filter(|(record, _)| keeps_tombstones || record.value.is_some()).collect()
}

#[test]
fn a_compacted_log_tells_of_the_same_group() {
    let mut scene = scene();
    for leaver in ["d", "c", "a"] {
        for keeps_tombstones in [true, false] {
            let loaded = replayed(&compacted(&scene.log, keeps_tombstones));
            assert_eq!(told_by(&loaded), told_by(&scene.group));
        }
        scene.accepted(steady(leaver, -1));
    }
}

#[test]
fn a_log_compacted_while_it_is_read_tells_of_the_same_group() {
    let scene = scene();
    // What was read before is as it was written, what is read after it is compacted: every border between the two.
    for border in 0..scene.log.len() {
        let behind = scene.log[border..]
            .iter()
            .enumerate()
            .filter(|(at, (record, _))| scene.log[border + at + 1..].iter().all(|(later, _)| later.key != record.key));
        let read: Vec<_> = scene.log[..border].iter().chain(behind.map(|(_, entry)| entry)).cloned().collect();
        assert_eq!(told_by(&replayed(&read)), told_by(&scene.group), "border {border}");
    }
}

#[test]
fn tombstones_of_what_is_not_there_change_nothing() {
    let group = || Str::from("g");
    let member = || Str::from("x");
    let mut group_of_none = Group::new(group());
    for key in [
        Key::ConsumerGroup { group: group() },
        Key::PartitionMetadata { group: group() },
        Key::Member { group: group(), member: member() },
        Key::TargetAssignment { group: group() },
        Key::TargetAssignmentMember { group: group(), member: member() },
        Key::CurrentAssignment { group: group(), member: member() },
        Key::Regex { group: group(), regex: member() },
    ] {
        group_of_none.replay(&Record { key, value: None }, Timestamp(1));
    }
    assert!(group_of_none.is_forgettable());
}

#[test]
fn sessions_begin_anew_with_a_load() {
    let mut scene = scene();
    scene.pass(Duration::from_secs(44));
    scene.fail_over();
    assert_eq!(scene.group.size(), 4);
    scene.pass(Duration::from_secs(44));
    assert_eq!(scene.group.size(), 4, "nobody is blamed for the time that the coordinator was away");
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.group.size(), 0);
}

#[test]
fn a_member_that_must_give_up_has_its_time_anew_after_a_load() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    scene.accepted(steady("a", 1));
    scene.fail_over();
    for _ in 0..6 {
        scene.pass(Duration::from_secs(10));
        scene.beat(owning("a", 1, &[("orders", &[0, 1])]));
        scene.accepted(steady("b", 2));
    }
    assert_eq!(scene.group.size(), 1);
}

#[test]
fn topics_that_changed_while_nobody_led_are_seen_after_a_load() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(join("a", &["orders"]));
    scene.rig.topic("orders", 2);
    scene.fail_over();
    assert_eq!(scene.accepted(steady("a", 1)).assignment, told(&[("orders", &[0, 1])]));
}

#[test]
fn the_topics_that_earlier_brokers_kept_are_forgotten_with_the_next_epoch() {
    let mut scene = Scene::new(&[("orders", 1)]);
    let key = Key::PartitionMetadata { group: Str::from("g") };
    let value = Some(Value::PartitionMetadata(Default::default()));
    let record = Record { key: key.clone(), value };
    scene.takes(record);
    scene.accepted(join("a", &["orders"]));
    assert!(scene.log.iter().any(|(record, _)| record.key == key && record.value.is_none()));
}

#[test]
fn a_member_in_a_state_of_a_later_version_begins_anew() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(join("a", &["orders"]));
    let key = Key::CurrentAssignment { group: Str::from("g"), member: Str::from("a") };
    let mut value = scene.group.members[&Str::from("a")].current.to_value();
    value.state = 9;
    let record = Record { key, value: Some(Value::CurrentAssignment(value)) };
    scene.takes(record);
    assert_eq!(scene.refused(steady("a", 1)), ErrorCode::FencedMemberEpoch);
    assert_eq!(scene.accepted(join("a", &["orders"])).assignment, told(&[("orders", &[0])]));
    assert_eq!(scene.group.state(), "Stable");
}

/// A record about the group as a whole that no broker of ours wrote.
fn odd_epoch(epoch: i32) -> Record {
    let value = ConsumerGroupMetadataValue { epoch, metadata_hash: 0 };
    Record { key: Key::ConsumerGroup { group: Str::from("g") }, value: Some(Value::ConsumerGroup(value)) }
}

#[test]
fn an_assignment_of_an_epoch_that_is_not_there_keeps_nobody_waiting() {
    let mut scene = Scene::new(&[("orders", 2)]);
    let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch: 57, assignment_timestamp: 0 };
    let key = Key::TargetAssignment { group: Str::from("g") };
    let ahead = Record { key, value: Some(Value::TargetAssignment(value)) };
    scene.group.replay(&ahead, Timestamp(1));
    scene.other.replay(&ahead, Timestamp(1));
    let joined = scene.accepted(join("a", &["orders"]));
    assert_eq!((joined.member_epoch, joined.assignment), (58, told(&[("orders", &[0, 1])])));
}

#[test]
fn a_group_at_the_last_epoch_lives_on() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.takes(odd_epoch(i32::MAX));
    scene.accepted(join("a", &["orders"]));
    scene.accepted(join("b", &["orders"]));
    scene.accepted(steady("a", -1));
    assert_eq!((scene.group.size(), scene.group.epoch()), (1, i32::MAX));
}

#[test]
fn an_epoch_below_zero_is_none() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.takes(odd_epoch(-7));
    let joined = scene.accepted(join("a", &["orders"]));
    assert_eq!((joined.member_epoch, joined.assignment), (1, told(&[("orders", &[0, 1])])));
}
