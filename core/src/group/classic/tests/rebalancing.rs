//! How long a rebalance waits, for whom, and who leads after it.

use super::play;

#[test]
fn the_first_rebalance_waits_on_while_members_come() {
    play(
        "a joins
         2s pass
         b joins
         1s pass
         2.9s pass
         c joins
         0.1s pass
         2.9s pass
         0.1s pass
         - a: generation 1 range, leads a b c
         - b: generation 1 range, follows a
         - c: generation 1 range, follows a",
    );
}

#[test]
fn the_first_rebalance_waits_no_longer_than_members_may_take() {
    play(
        "a joins rebalance 5s
         1s pass
         b joins rebalance 5s
         3s pass
         c joins rebalance 5s
         0.9s pass
         0.1s pass
         - a: generation 1 range, leads a b c
         - b: generation 1 range, follows a
         - c: generation 1 range, follows a",
    );
}

#[test]
fn without_a_delay_the_first_member_has_its_generation_at_once() {
    play(
        "set delay 0s
         a joins
         0s pass
         - a: generation 1 range, leads a",
    );
}

#[test]
fn a_later_rebalance_ends_when_everybody_has_joined() {
    play(
        "a b are stable
         c joins
         a beats
         - a: REBALANCE_IN_PROGRESS
         a commits
         - a: NONE
         a joins
         b joins
         - a: generation 2 range, leads a b c
         - b: generation 2 range, follows a
         - c: generation 2 range, follows a",
    );
}

#[test]
fn who_does_not_join_in_time_is_let_go() {
    play(
        "a joins rebalance 20s session 30s
         b joins rebalance 10s session 30s
         6s pass
         - a: generation 1 range, leads a b
         - b: generation 1 range, follows a
         a syncs a=A b=B
         - record: 1 range led by a a=A b=B
         - a: assigned A
         b syncs
         - b: assigned B
         c joins rebalance 5s
         b joins
         19.9s pass
         0.1s pass
         - b: generation 2 range, leads b c
         - c: generation 2 range, follows b
         a beats
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn version_0_may_take_its_session_to_join() {
    play(
        "a joins v0 session 30s rebalance 1s
         3s pass
         - a: generation 1 range, leads a
         a syncs a=A
         - record: 1 range led by a a=A
         - a: assigned A
         b joins v0 session 7s
         29.9s pass
         a beats
         - a: REBALANCE_IN_PROGRESS
         0.1s pass
         - b: generation 2 range, leads b",
    );
}

#[test]
fn a_member_that_falls_silent_is_let_go_and_the_others_rebalance() {
    play(
        "a b are stable
         9s pass
         b beats
         - b: NONE
         1s pass
         b beats
         - b: REBALANCE_IN_PROGRESS
         b joins
         - b: generation 2 range, leads b
         a beats
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_heartbeat_a_commit_and_an_assignment_are_signs_of_life() {
    play(
        "a joins
         3s pass
         - a: generation 1 range, leads a
         9s pass
         a syncs a=A
         - record: 1 range led by a a=A
         - a: assigned A
         9s pass
         a beats
         - a: NONE
         9s pass
         a commits
         - a: NONE
         9s pass
         a syncs
         - a: assigned A
         9.9s pass
         a beats
         - a: NONE
         10s pass
         - record: 2 nobody
         a beats
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_member_that_waits_for_the_others_is_not_taken_for_dead() {
    play(
        "a joins session 6s rebalance 60s
         b joins session 30s rebalance 60s
         6s pass
         - a: generation 1 range, leads a b
         - b: generation 1 range, follows a
         b syncs
         a syncs a=A b=B
         - record: 1 range led by a a=A b=B
         - a: assigned A
         - b: assigned B
         a joins session 6s
         29s pass
         b joins
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a",
    );
}

/// Known bug 68, KAFKA-9752: an old client that gave up while it waited must not keep a rebalance from ending.
#[test]
fn a_new_member_that_waits_too_long_is_forgotten_and_the_rebalance_ends() {
    play(
        "a joins rebalance 10m session 30m
         3s pass
         - a: generation 1 range, leads a
         a syncs a=A
         - record: 1 range led by a a=A
         - a: assigned A
         b joins v3 rebalance 10m
         299s pass
         1s pass
         - b: UNKNOWN_MEMBER_ID
         a joins
         - a: generation 2 range, leads a",
    );
}

/// Known bug 68, once more: the others are there already, and the one who is forgotten was the last to wait for.
#[test]
fn everybody_goes_on_when_the_last_one_waited_for_is_taken_for_dead() {
    play(
        "a b are stable
         a joins
         9.9s pass
         0.1s pass
         - a: generation 2 range, leads a",
    );
}

/// Known bug 68, as another broker had it: whoever was given an id while a rebalance is on its way takes part in it.
#[test]
fn a_rebalance_waits_for_those_that_were_given_an_id() {
    play(
        "a b are stable
         c asks
         - c: MEMBER_ID_REQUIRED
         a joins
         b joins
         c asks
         - a: generation 2 range, leads a b c
         - b: generation 2 range, follows a
         - c: generation 2 range, follows a",
    );
}

#[test]
fn a_rebalance_does_not_wait_for_an_id_that_is_out_of_time() {
    play(
        "a b are stable
         c asks session 6s
         - c: MEMBER_ID_REQUIRED
         a joins
         b joins
         6s pass
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a",
    );
}

#[test]
fn a_leader_that_does_not_come_is_replaced_by_one_that_did() {
    play(
        "a b c are stable
         b joins to t,u
         c joins
         10s pass
         - b: generation 2 range, leads b c
         - c: generation 2 range, follows b",
    );
}

#[test]
fn the_leader_begins_a_rebalance_by_joining_and_others_by_news() {
    play(
        "a b are stable
         b joins
         - b: generation 1 range, follows a
         b joins to t,u
         a joins
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a
         a syncs a=1
         - record: 2 range led by a a=1 b=nothing
         - a: assigned 1
         b syncs
         - b: assigned nothing
         a joins
         a beats
         - a: REBALANCE_IN_PROGRESS",
    );
}

#[test]
fn a_lost_answer_is_given_again_while_the_leader_assigns() {
    play(
        "a b have joined
         a joins
         - a: generation 1 range, leads a b
         b joins
         - b: generation 1 range, follows a
         b syncs
         a joins to u
         - b: REBALANCE_IN_PROGRESS
         b joins
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a",
    );
}

#[test]
fn a_generation_without_members_is_written() {
    play(
        "a joins
         a leaves
         - a: UNKNOWN_MEMBER_ID
         - a: NONE
         3s pass
         - record: 1 nobody
         describe
         - Empty 1 , subscribed to {}",
    );
}
