//! Members of the classic protocol in a group of the next one.

use bytes::Bytes;

use super::*;
use crate::group::protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition};
use crate::wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupResponse};

/// What a consumer of the classic protocol says in JoinGroup.
pub(super) fn subscription(topics: &[&str], owned_partitions: &[(&str, &[i32])]) -> Bytes {
    let owned = |(topic, partitions): &(&str, &[i32])| TopicPartition {
        topic: Str::from(*topic),
        partitions: partitions.to_vec(),
    };
    let said = ConsumerProtocolSubscription {
        topics: topics.iter().map(|name| Str::from(*name)).collect(),
        owned_partitions: owned_partitions.iter().map(owned).collect(),
        ..ConsumerProtocolSubscription::default()
    };
    said.to_bytes(3)
}

pub(super) fn joining(id: &str, owned: &[(&str, &[i32])]) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::from("g"),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: Str::from(id),
        protocol_type: Str::from("consumer"),
        protocols: ["cooperative-sticky", "range"]
            .map(|name| JoinGroupRequestProtocol { name: Str::from(name), metadata: subscription(&["orders"], owned) })
            .into(),
        ..JoinGroupRequest::default()
    }
}

impl Scene {
    #[track_caller]
    pub(super) fn classic_join(&mut self, request: JoinGroupRequest) -> JoinGroupResponse {
        let to = self.rig.ask(9);
        self.group.join_classic(&mut self.rig.ctx(), to, &client("c"), request);
        self.settle();
        self.rig.reply(to)
    }

    /// What a member is given with SyncGroup.
    #[track_caller]
    pub(super) fn classic_sync(&mut self, id: &str, generation: i32) -> Result<Vec<(String, Vec<i32>)>, ErrorCode> {
        let request = SyncGroupRequest {
            group_id: Str::from("g"),
            generation_id: generation,
            member_id: Str::from(id),
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(Str::from("cooperative-sticky")),
            ..SyncGroupRequest::default()
        };
        let to = self.rig.ask(5);
        self.group.sync_classic(&mut self.rig.ctx(), to, request);
        self.settle();
        let response: SyncGroupResponse = self.rig.reply(to);
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {
                let assignment = ConsumerProtocolAssignment::from_bytes(&response.assignment).expect("an assignment");
                let topics = assignment.assigned_partitions.into_iter();
                Ok(topics.map(|topic| (topic.topic.to_string(), topic.partitions)).collect())
            }
            code => Err(code.expect("a known error")),
        }
    }

    #[track_caller]
    pub(super) fn classic_beat(&mut self, id: &str, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: Str::from("g"),
            generation_id: generation,
            member_id: Str::from(id),
            group_instance_id: None,
        };
        let to = self.rig.ask(4);
        self.group.heartbeat_classic(&mut self.rig.ctx(), to, request);
        self.settle();
        let response: HeartbeatResponse = self.rig.reply(to);
        ErrorCode::from_code(response.error_code).expect("a known error")
    }

    #[track_caller]
    pub(super) fn classic_leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let member = |(id, instance): &(&str, Option<&str>)| MemberIdentity {
            member_id: Str::from(*id),
            group_instance_id: instance.map(Str::from),
            reason: None,
        };
        let request = LeaveGroupRequest {
            group_id: Str::from("g"),
            members: members.iter().map(member).collect(),
            ..LeaveGroupRequest::default()
        };
        let to = self.rig.ask(5);
        self.group.leave_classic(&mut self.rig.ctx(), to, request);
        self.settle();
        let response: LeaveGroupResponse = self.rig.reply(to);
        assert_eq!(response.error_code, 0);
        let asked = response.members.iter().map(|member| (&*member.member_id, member.group_instance_id.as_deref()));
        assert!(asked.eq(members.iter().copied()), "an answer names a member as the request did");
        let codes = response.members.iter().map(|member| ErrorCode::from_code(member.error_code));
        codes.map(|code| code.expect("a known error")).collect()
    }
}

pub(super) fn given(of: &[(&str, &[i32])]) -> Result<Vec<(String, Vec<i32>)>, ErrorCode> {
    Ok(of.iter().map(|(topic, partitions)| ((*topic).to_owned(), partitions.to_vec())).collect())
}

fn code(response: &JoinGroupResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code).expect("a known error")
}

#[test]
fn one_without_an_id_is_given_one_and_comes_back_with_it() {
    let mut scene = Scene::new(&[("orders", 2)]);
    let first = scene.classic_join(joining("", &[]));
    assert_eq!(code(&first), ErrorCode::MemberIdRequired);
    assert_eq!(scene.records_written(), 0);
    let id = first.member_id.to_string();
    let joined = scene.classic_join(joining(&id, &[]));
    assert_eq!((code(&joined), joined.generation_id), (ErrorCode::None, 1));
    assert_eq!(joined.protocol_name, Some(Str::from("cooperative-sticky")));
    assert_eq!((joined.leader, joined.members), (Str::EMPTY, vec![]), "the coordinator assigns");
    assert_eq!(scene.classic_sync(&id, 1), given(&[("orders", &[0, 1])]));
    assert_eq!(scene.classic_beat(&id, 1), ErrorCode::None);
}

#[test]
fn it_takes_its_steps_by_joining_again() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.classic_join(joining("a", &[]));
    scene.classic_sync("a", 1).expect("all of it");
    assert_eq!(scene.accepted(join("b", &["orders"])).assignment, told(&[]));

    assert_eq!(scene.classic_beat("a", 1), ErrorCode::RebalanceInProgress, "there is an epoch to come to");
    let again = scene.classic_join(joining("a", &[("orders", &[0, 1])]));
    assert_eq!(again.generation_id, 1, "it has not given up");
    assert_eq!(scene.classic_sync("a", 1), given(&[("orders", &[0])]));
    assert_eq!(scene.classic_beat("a", 1), ErrorCode::RebalanceInProgress, "it is to say that it has given up");
    let again = scene.classic_join(joining("a", &[("orders", &[0])]));
    assert_eq!(again.generation_id, 2);
    assert_eq!(scene.accepted(steady("b", 2)).assignment, told(&[("orders", &[1])]));
    assert_eq!(scene.classic_sync("a", 2), given(&[("orders", &[0])]));
    assert_eq!(scene.classic_beat("a", 2), ErrorCode::None);
}

#[test]
fn it_is_told_to_join_when_what_it_waits_for_is_free() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    assert_eq!(scene.classic_join(joining("b", &[])).generation_id, 2);
    assert_eq!(scene.classic_sync("b", 2), given(&[]));
    assert_eq!(scene.classic_beat("b", 2), ErrorCode::None, "a has not given up");
    scene.accepted(steady("a", 1));
    scene.accepted(owning("a", 1, &[("orders", &[0])]));
    assert_eq!(scene.classic_beat("b", 2), ErrorCode::RebalanceInProgress);
    assert_eq!(scene.classic_join(joining("b", &[])).generation_id, 2);
    assert_eq!(scene.classic_sync("b", 2), given(&[("orders", &[1])]));
}

#[test]
fn one_that_does_not_join_again_in_time_is_gone() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.classic_join(joining("a", &[]));
    scene.classic_sync("a", 1).expect("all of it");
    scene.accepted(join("b", &["orders"]));
    for _ in 0..5 {
        assert_eq!(scene.classic_beat("a", 1), ErrorCode::RebalanceInProgress);
        scene.pass(Duration::from_secs(12));
        scene.beat(steady("b", 2));
    }
    assert_eq!(scene.classic_beat("a", 1), ErrorCode::UnknownMemberId);
}

#[test]
fn one_that_does_not_fetch_its_assignment_in_time_is_gone() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("b", &["orders"]));
    scene.classic_join(joining("a", &[]));
    for _ in 0..6 {
        scene.pass(Duration::from_secs(10));
        scene.classic_beat("a", 2);
        scene.beat(steady("b", 1));
    }
    assert_eq!(scene.classic_sync("a", 2), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn it_has_the_session_that_it_asked_for() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.classic_join(joining("a", &[]));
    scene.classic_sync("a", 1).expect("all of it");
    scene.pass(Duration::from_secs(29));
    assert_eq!(scene.group.size(), 1);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.group.size(), 0);
}

#[test]
fn what_does_not_fit_the_group_is_refused() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.classic_join(joining("a", &[]));
    let odd = |change: fn(&mut JoinGroupRequest)| {
        let mut request = joining("b", &[]);
        change(&mut request);
        request
    };
    let other_type = odd(|request| request.protocol_type = Str::from("connect"));
    let other_protocol = odd(|request| {
        request.protocols.truncate(1);
        request.protocols[0].name = Str::from("sticky");
    });
    let none = odd(|request| request.protocols.clear());
    for request in [other_type, other_protocol, none] {
        assert_eq!(code(&scene.classic_join(request)), ErrorCode::InconsistentGroupProtocol);
    }
    let garbage = odd(|request| request.protocols[0].metadata = Bytes::from_static(&[0, 1, 2]));
    assert_eq!(code(&scene.classic_join(garbage)), ErrorCode::UnknownServerError);
    let no_session = odd(|request| request.session_timeout_ms = 0);
    assert_eq!(code(&scene.classic_join(no_session)), ErrorCode::InvalidSessionTimeout);
    assert_eq!(scene.group.size(), 1);
}

#[test]
fn another_generation_is_illegal_and_another_member_unknown() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.classic_join(joining("a", &[]));
    scene.accepted(join("b", &["orders"]));
    assert_eq!(scene.classic_beat("a", 2), ErrorCode::IllegalGeneration);
    assert_eq!(scene.classic_sync("a", 2), Err(ErrorCode::IllegalGeneration));
    assert_eq!(scene.classic_sync("a", 1), Err(ErrorCode::RebalanceInProgress), "b has come");
    assert_eq!(scene.classic_beat("x", 1), ErrorCode::UnknownMemberId);
    assert_eq!(scene.classic_beat("b", 2), ErrorCode::UnknownMemberId, "b does not use the classic protocol");
    let commit = scene.group.admit_commit(&mut scene.rig.ctx(), 8, &Str::from("a"), None, 0);
    assert_eq!(commit, Err(ErrorCode::IllegalGeneration));
}

#[test]
fn members_leave_by_id_or_by_name() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("c", &["orders"]));
    scene.classic_join(joining("a", &[]));
    let named = JoinGroupRequest { group_instance_id: Some(Str::from("two")), ..joining("", &[]) };
    let b = scene.classic_join(named).member_id.to_string();
    let codes =
        scene.classic_leave(&[("a", None), ("", Some("two")), ("x", None), ("c", Some("two")), ("y", Some("z"))]);
    use ErrorCode::{FencedInstanceId as Fenced, None as Ok, UnknownMemberId as Unknown};
    assert_eq!(codes, [Ok, Ok, Unknown, Fenced, Unknown]);
    assert_eq!((scene.group.size(), scene.group.members.contains_key(b.as_str())), (1, false));
    assert_eq!(scene.classic_leave(&[("a", None)]), [Unknown]);
}

#[test]
fn a_member_that_names_a_thousand_protocols_is_not_listened_to() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("b", &["orders"]));
    let named = |count: usize| {
        let protocol = |at| JoinGroupRequestProtocol {
            name: Str::from(format!("p{at}")),
            metadata: subscription(&["orders"], &[]),
        };
        JoinGroupRequest { protocols: (0..count).map(protocol).collect(), ..joining("a", &[]) }
    };
    assert_eq!(code(&scene.classic_join(named(1_001))), ErrorCode::InvalidRequest);
    assert_eq!(scene.group.size(), 1);
    assert_eq!(code(&scene.classic_join(named(1_000))), ErrorCode::None);
}

#[test]
fn an_operator_removes_members_of_the_next_protocol_too() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("a", &["orders"]));
    scene.accepted(static_join("b", "two", &["orders"]));
    assert_eq!(scene.classic_leave(&[("", Some("two"))]), [ErrorCode::None]);
    assert_eq!(scene.classic_leave(&[("a", None)]), [ErrorCode::None]);
    assert_eq!(scene.group.size(), 0);
}

#[test]
fn a_static_member_changes_its_protocol_and_keeps_what_it_has() {
    let mut scene = Scene::new(&[("orders", 2)]);
    let named = || JoinGroupRequest { group_instance_id: Some(Str::from("one")), ..joining("", &[]) };
    let old = scene.classic_join(named()).member_id.to_string();
    let new = scene.accepted(static_join("n", "one", &["orders"]));
    assert_eq!(new.assignment, told(&[("orders", &[0, 1])]));
    assert_eq!(scene.classic_beat(&old, 1), ErrorCode::UnknownMemberId);
    assert_eq!((scene.group.size(), scene.group.classic_members), (1, 0));

    let back = scene.classic_join(named());
    assert_eq!(code(&back), ErrorCode::None);
    assert_eq!(scene.classic_sync(&back.member_id, back.generation_id), given(&[("orders", &[0, 1])]));
    assert_eq!((scene.group.size(), scene.group.classic_members), (1, 1));
}

#[test]
fn the_last_one_of_the_next_protocol_makes_way_for_the_classic_one() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("b", &["orders"]));
    scene.classic_join(joining("a", &[]));
    assert!(!scene.group.may_downgrade(&scene.rig.ctx()), "b is there");
    scene.accepted(steady("b", -1));
    assert!(scene.group.may_downgrade(&scene.rig.ctx()));
    scene.rig.settings.consumer_migration_policy = crate::group::Migration::Upgrade;
    assert!(!scene.group.may_downgrade(&scene.rig.ctx()), "the policy says no");
    scene.rig.settings.consumer_migration_policy = crate::group::Migration::Downgrade;
    scene.rig.settings.record_bytes_max = 100;
    assert!(!scene.group.may_downgrade(&scene.rig.ctx()), "its record would be too large");
}

#[test]
fn from_version_5_on_a_sync_has_to_say_of_which_protocol_it_is() {
    let mut scene = Scene::new(&[("orders", 2)]);
    scene.accepted(join("b", &["orders"]));
    let joined = scene.classic_join(joining("a", &[]));
    let mut sync = |version, protocol_type: Option<&str>, protocol_name: Option<&str>| {
        let request = SyncGroupRequest {
            group_id: Str::from("g"),
            generation_id: joined.generation_id,
            member_id: Str::from("a"),
            protocol_type: protocol_type.map(Str::from),
            protocol_name: protocol_name.map(Str::from),
            ..SyncGroupRequest::default()
        };
        let to = scene.rig.ask(version);
        scene.group.sync_classic(&mut scene.rig.ctx(), to, request);
        let response: SyncGroupResponse = scene.rig.reply(to);
        ErrorCode::from_code(response.error_code).expect("a known error")
    };
    let both = (Some("consumer"), Some("cooperative-sticky"));
    assert_eq!(sync(5, None, both.1), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(sync(5, both.0, None), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(sync(5, Some("connect"), both.1), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(sync(5, both.0, Some("range")), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(sync(5, both.0, both.1), ErrorCode::None);
    assert_eq!(sync(4, None, None), ErrorCode::None);
}
