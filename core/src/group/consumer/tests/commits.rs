//! Whose offsets are taken, and to whom they are told.

use super::*;
use crate::wire::ErrorCode::{StaleMemberEpoch, UnknownMemberId, UnsupportedVersion};

fn commit(scene: &mut Scene, version: i16, member: &str, epoch: i32) -> Result<(), ErrorCode> {
    scene.group.admit_commit(&mut scene.rig.ctx(), version, &Str::from(member), None, epoch)
}

#[test]
fn anybody_may_commit_for_an_empty_group_without_a_member() {
    let mut scene = Scene::new(&[("orders", 1)]);
    assert_eq!(commit(&mut scene, 9, "", -1), Ok(()));
    scene.accepted(join("a", &["orders"]));
    assert_eq!(commit(&mut scene, 9, "", -1), Err(UnknownMemberId));
}

#[test]
fn a_member_commits_in_its_epoch_and_in_a_version_that_has_epochs() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(join("a", &["orders"]));
    assert_eq!(commit(&mut scene, 9, "a", 1), Ok(()));
    assert_eq!(commit(&mut scene, 8, "a", 1), Err(UnsupportedVersion));
    assert_eq!(commit(&mut scene, 9, "a", 0), Err(StaleMemberEpoch));
    assert_eq!(commit(&mut scene, 9, "a", 2), Err(StaleMemberEpoch));
    assert_eq!(commit(&mut scene, 9, "b", 1), Err(UnknownMemberId));
}

#[test]
fn a_commit_of_an_earlier_epoch_is_good_for_what_was_owned_then() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.rig.topic("orders", 3);
    scene.topics_changed();
    scene.accepted(steady("a", 1));
    assert_eq!(commit(&mut scene, 9, "a", 1), Err(StaleMemberEpoch));
    let earlier = |partition| scene.group.admit_earlier_commit(&Str::from("a"), 1, topic_id("orders"), partition);
    assert_eq!([earlier(0), earlier(1)], [Ok(()), Ok(())]);
    assert_eq!(earlier(2), Err(StaleMemberEpoch), "it was given this one later");
    assert_eq!(earlier(3), Err(StaleMemberEpoch), "it does not have this one");
}

#[test]
fn a_fetch_that_names_a_member_is_answered_in_its_epoch() {
    let mut scene = Scene::new(&[("orders", 1)]);
    scene.accepted(join("a", &["orders"]));
    let (a, b) = (Str::from("a"), Str::from("b"));
    assert_eq!(scene.group.admit_fetch(None, -1), Ok(()));
    assert_eq!(scene.group.admit_fetch(Some(&a), 1), Ok(()));
    assert_eq!(scene.group.admit_fetch(Some(&a), 2), Err(StaleMemberEpoch));
    assert_eq!(scene.group.admit_fetch(Some(&b), 1), Err(UnknownMemberId));
}
