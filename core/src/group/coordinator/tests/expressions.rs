//! Heartbeats with regular expressions, which are looked at beside the sequencer.

use super::bench::{Bench, code};
use crate::boundary::ReplyTo;
use crate::group::testing::client;
use crate::wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::{ErrorCode, Str};

fn matching(member: &str, expression: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from("g"),
        member_id: Str::from(member),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_regex: Some(Str::from(expression)),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn leaving(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from("g"),
        member_id: Str::from(member),
        member_epoch: -1,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

impl Bench {
    /// Sends a heartbeat, and answers no question.
    fn sends(&mut self, request: ConsumerGroupHeartbeatRequest) -> ReplyTo {
        let to = self.rig.ask(1);
        self.call_only(|coordinator, with| coordinator.consumer_heartbeat(with, to, &client("one"), request));
        to
    }

    /// What it is answered with, once all is worked out.
    fn answer(&mut self, to: ReplyTo) -> (ErrorCode, i32) {
        self.call(|_, _| ());
        let response: ConsumerGroupHeartbeatResponse = self.rig.reply(to);
        (code(response.error_code), response.member_epoch)
    }
}

#[test]
fn what_is_no_expression_is_refused_before_anything_is_decided() {
    let mut bench = Bench::new();
    let to = bench.sends(matching("a", "orders["));
    assert!(bench.rig.waits(to), "it is not compiled in the step that it came with");
    assert_eq!(bench.answer(to), (ErrorCode::InvalidRegularExpression, 0));
    assert!(bench.log.is_empty() && bench.coordinator.groups.is_empty());
}

#[test]
fn an_expression_that_a_member_of_the_group_has_is_known() {
    let mut bench = Bench::new();
    let to = bench.sends(matching("a", "ord.*"));
    assert_eq!(bench.answer(to), (ErrorCode::None, 1));
    let to = bench.sends(matching("b", "ord.*"));
    assert!(!bench.rig.waits(to));
}

#[test]
fn what_a_member_sends_behind_its_expression_does_not_pass_it_by() {
    let mut bench = Bench::new();
    let joining = bench.sends(matching("a", "ord.*"));
    let left = bench.sends(leaving("a"));
    let other = bench.sends(leaving("b"));
    assert!(bench.rig.waits(left));
    assert_eq!(bench.answer(other).0, ErrorCode::GroupIdNotFound, "nobody else waits");
    assert_eq!(bench.answer(joining), (ErrorCode::None, 1));
    assert_eq!(bench.answer(left), (ErrorCode::None, -1));
    assert_eq!(bench.coordinator.groups[&Str::from("g")].size(), 0);
}

#[test]
fn a_coordinator_that_ends_refuses_what_it_holds() {
    let mut bench = Bench::new();
    let to = bench.sends(matching("a", "ord.*"));
    let refused = std::mem::take(&mut bench.coordinator).resign(ErrorCode::NotCoordinator);
    assert_eq!(refused.iter().map(|(at, _)| at.sequence).collect::<Vec<_>>(), [to.sequence]);
    // The next one is told of no question of the one before.
    let found = bench.rig.answer_one().expect("it was asked");
    bench.coordinator.found(found);
    bench.call(|_, _| ());
    assert!(bench.coordinator.groups.is_empty());
}
