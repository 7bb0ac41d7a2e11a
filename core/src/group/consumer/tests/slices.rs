//! Large groups: their assignments are made in slices, and members who come meanwhile wait.

use super::*;
use crate::boundary::ReplyTo;

/// More partitions than are assigned in one step.
const MANY: u32 = 600;

impl Scene {
    /// Sends a heartbeat, and does nothing else.
    fn sends(&mut self, request: ConsumerGroupHeartbeatRequest) -> ReplyTo {
        let to = self.rig.ask(1);
        self.group.heartbeat(&mut self.rig.ctx(), to, &client("c"), request);
        self.settle();
        to
    }

    /// A group of so many members, each of which has come to the last assignment.
    fn crowd(count: usize) -> Scene {
        let mut scene = Scene::new(&[("orders", MANY)]);
        for member in 0..count {
            scene.accepted(join(&format!("m{member:02}"), &["orders"]));
            scene.pass(Duration::from_millis(500));
        }
        for _ in 0..2 {
            for member in 0..count {
                let id = format!("m{member:02}");
                let current = &scene.group.members[&Str::from(id.as_str())].current;
                let owned: Vec<i32> = current.assigned.values().flat_map(BTreeMap::keys).copied().collect();
                let request = owning(&id, current.epoch, &[("orders", &owned)]);
                scene.accepted(request);
            }
        }
        assert_eq!(scene.group.state(), "Stable");
        scene
    }
}

fn count(response: &ConsumerGroupHeartbeatResponse) -> usize {
    let topics = response.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
    topics.map(|topic| topic.partitions.len()).sum()
}

#[test]
fn whoever_comes_with_a_large_assignment_waits_for_it_and_is_told_all_of_it() {
    let mut scene = Scene::new(&[("orders", MANY)]);
    let a = scene.sends(join("a", &["orders"]));
    scene.goes_on();
    let b = scene.sends(join("b", &["orders"]));
    assert!(scene.rig.waits(a) && scene.rig.waits(b));
    scene.end_assigning();
    let (a, b): (ConsumerGroupHeartbeatResponse, ConsumerGroupHeartbeatResponse) =
        (scene.rig.reply(a), scene.rig.reply(b));
    assert_eq!((a.member_epoch, count(&a)), (1, MANY as usize), "it was for those who were there when it began");
    assert_eq!((b.member_epoch, count(&b)), (1, 0), "no member is told epoch 0");
    scene.pass(Duration::from_secs(1));
    assert_eq!(count(&scene.accepted(steady("a", 1))), MANY as usize / 2);
}

#[test]
fn targets_are_decided_a_few_at_a_time() {
    let mut scene = Scene::crowd(30);
    scene.pass(Duration::from_secs(5));
    scene.accepted(steady("m00", -1));
    let waiting = scene.sends(steady("m01", scene.group.assignment_epoch));
    let mut most = 0;
    while scene.group.is_assigning() {
        let before = scene.records_written();
        scene.goes_on();
        most = most.max(scene.records_written() - before);
    }
    assert!((2..=14).contains(&most), "{most} records in a step, of about 20 partitions each");
    assert_eq!(scene.rig.reply::<ConsumerGroupHeartbeatResponse>(waiting).error_code, 0);
}

#[test]
fn a_crash_at_any_time_of_an_assignment_leaves_a_group_that_comes_to_the_next_one() {
    for steps in 0..24 {
        let mut scene = Scene::crowd(8);
        scene.pass(Duration::from_secs(5));
        scene.sends(join("new", &["orders"]));
        for _ in 0..steps {
            scene.goes_on();
        }
        scene.rig.out = Default::default();
        scene.fail_over();
        for _ in 0..4 {
            let ids: Vec<Str> = scene.group.members.keys().cloned().collect();
            for id in ids {
                let current = scene.group.members[&id].current.clone();
                let owned: Vec<i32> = current.assigned.values().flat_map(BTreeMap::keys).copied().collect();
                let mut request = owning(&id, current.epoch, &[("orders", &owned)]);
                if current.epoch == 0 {
                    request = join(&id, &["orders"]);
                }
                scene.accepted(request);
            }
        }
        assert_eq!(scene.group.state(), "Stable", "after {steps} steps");
        let owned: usize = scene.group.members.values().map(|member| member.current.held().count()).sum();
        assert_eq!(owned, MANY as usize);
    }
}

#[test]
fn a_member_that_goes_while_it_waits_is_told_so_and_given_nothing() {
    for steps in 0..6 {
        let mut scene = Scene::crowd(2);
        scene.pass(Duration::from_secs(5));
        let waiting = scene.sends(join("new", &["orders"]));
        for _ in 0..steps {
            scene.goes_on();
        }
        if !scene.rig.waits(waiting) {
            break;
        }
        scene.sends(steady("new", -1));
        let told: ConsumerGroupHeartbeatResponse = scene.rig.reply(waiting);
        assert_eq!(ErrorCode::from_code(told.error_code), Some(ErrorCode::UnknownMemberId), "after {steps} steps");
        scene.end_assigning();
        assert!(!scene.group.targets.contains_key(&Str::from("new")));
    }
}

#[test]
fn a_group_that_all_leave_is_not_assigned() {
    let mut scene = Scene::new(&[("orders", MANY)]);
    scene.sends(join("a", &["orders"]));
    scene.sends(steady("a", -1));
    let written = scene.records_written();
    while scene.goes_on() {}
    assert_eq!((scene.group.state(), scene.records_written()), ("Empty", written));
}

#[test]
fn a_late_finding_changes_nothing() {
    let mut scene = Scene::new(&[("orders", MANY)]);
    scene.sends(join("a", &["orders"]));
    let late = loop {
        if let Some(found) = scene.rig.answer_one() {
            break found;
        }
        scene.goes_on();
    };
    assert_eq!(scene.group.resign(ErrorCode::NotCoordinator).len(), 1);
    let written = scene.records_written();
    scene.group.found(&mut scene.rig.ctx(), late.number, late.what);
    assert_eq!(scene.records_written(), written);
    assert!(!scene.group.is_assigning());
}

#[test]
fn a_target_that_no_record_holds_is_refused_to_all_that_wait_for_it() {
    let mut scene = Scene::new(&[("orders", MANY)]);
    scene.rig.settings.record_bytes_max = 10_000;
    for _ in 0..2 {
        let waiting = scene.sends(join("a", &["orders"]));
        scene.end_assigning();
        let refused: ConsumerGroupHeartbeatResponse = scene.rig.reply(waiting);
        assert_eq!(ErrorCode::from_code(refused.error_code), Some(ErrorCode::UnknownServerError));
    }
}

#[test]
fn a_member_of_the_classic_protocol_waits_as_well() {
    let mut scene = Scene::new(&[("orders", MANY)]);
    scene.accepted(join("a", &["orders"]));
    scene.pass(Duration::from_secs(5));
    let to = scene.rig.ask(9);
    let request = classic::joining("b", &[]);
    scene.group.join_classic(&mut scene.rig.ctx(), to, &client("c"), request);
    assert!(scene.rig.waits(to));
    scene.end_assigning();
    let joined: crate::wire::join_group::JoinGroupResponse = scene.rig.reply(to);
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
}

#[test]
fn a_static_member_that_leaves_for_a_while_as_it_waits_may_come_back() {
    let mut scene = Scene::new(&[("orders", MANY)]);
    let waiting = scene.sends(static_join("a", "one", &["orders"]));
    scene.sends(ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from("one")), ..steady("a", -2) });
    let told: ConsumerGroupHeartbeatResponse = scene.rig.reply(waiting);
    assert_eq!(ErrorCode::from_code(told.error_code), Some(ErrorCode::UnknownMemberId));
    scene.end_assigning();
    let back = scene.accepted(static_join("b", "one", &["orders"]));
    assert_eq!(count(&back), MANY as usize);
}
