//! Groups whose members come by another protocol, as far as `group.consumer.migration.policy` lets them.

use super::*;
use crate::group::protocol::ConsumerProtocolSubscription;
use crate::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use crate::wire::list_groups::ListGroupsRequest;

impl Rig {
    /// A classic member that subscribes to the topic asks to join.
    fn join_reading(&mut self, group: &'static str) -> u64 {
        let subscription =
            ConsumerProtocolSubscription { topics: vec!["t".into()], ..ConsumerProtocolSubscription::default() };
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: subscription.to_bytes(0) };
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        let client = Client { id: "a client".into(), host: "/10.0.0.1".into() };
        self.ask(3, Request::Member { client, request: Box::new(request.into()) })
    }

    /// A member of the next protocol joins, or leaves; gives the error code.
    fn next(&mut self, group: &'static str, epoch: i32) -> i16 {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: "next".into(),
            member_epoch: epoch,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec!["t".into()]),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        match self.answer(1, request.into()) {
            Response::ConsumerGroupHeartbeat(response) => response.error_code,
            other => panic!("another answer: {other:?}"),
        }
    }

    fn type_of(&mut self, group: &str) -> String {
        match self.answer(5, ListGroupsRequest::default().into()) {
            Response::ListGroups(response) => {
                let listed = response.groups.into_iter().find(|listed| &*listed.group_id == group);
                listed.expect("the group is there").group_type.to_string()
            }
            other => panic!("another answer: {other:?}"),
        }
    }
}

/// Whether a group with members goes from the classic protocol to the next, and back.
fn ways(rig: &mut Rig) -> (bool, bool) {
    let joining = rig.join_reading("up");
    rig.pass(3_000);
    assert_eq!(rig.joined(joining).expect("the delay is over").error_code, 0);
    let upgraded = rig.next("up", 0);
    assert!([0, code(ErrorCode::GroupIdNotFound)].contains(&upgraded));

    assert_eq!(rig.next("down", 0), 0);
    let joining = rig.join_reading("down");
    assert_eq!(rig.joined(joining).expect("an answer at once").error_code, 0, "a mixed group is no matter of policy");
    assert_eq!(rig.next("down", -1), 0);
    (upgraded == 0, rig.type_of("down") == "classic")
}

#[test]
fn groups_with_members_move_between_the_protocols_as_the_policy_says() {
    let cases = [
        ("bidirectional", (true, true)),
        ("Upgrade", (true, false)),
        ("DOWNGRADE", (false, true)),
        ("disabled", (false, false)),
    ];
    for (policy, expect) in cases {
        let mut rig = Rig::with_groups(&[("group.consumer.migration.policy", policy)]);
        assert_eq!(ways(&mut rig), expect, "{policy}");
    }
    assert_eq!(ways(&mut Rig::with_groups(&[])), (true, true), "by default");
}

#[test]
fn an_empty_group_changes_its_protocol_whatever_the_policy() {
    let mut rig = Rig::with_groups(&[("group.consumer.migration.policy", "disabled")]);
    assert_eq!((rig.next("g", 0), rig.next("g", -1)), (0, 0));
    let joining = rig.join_reading("g");
    rig.pass(3_000);
    assert_eq!(rig.joined(joining).expect("the delay is over").error_code, 0);
    assert_eq!(rig.type_of("g"), "classic");
}

#[test]
fn what_is_no_policy_is_refused() {
    let setting = [("group.consumer.migration.policy", "sideways")];
    let refused = crate::config::BrokerConfig::parse(setting).expect_err("there is no such policy");
    assert!(
        refused.to_string().contains("one of bidirectional, upgrade, downgrade, disabled, in any case"),
        "{refused}"
    );
}
