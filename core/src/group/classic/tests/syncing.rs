//! Assignments: who makes them, who gets them, and of which generation.

use super::play;

#[test]
fn everybody_waits_for_the_leader() {
    play(
        "a b have joined
         b syncs
         b beats
         - b: NONE
         b commits
         - b: REBALANCE_IN_PROGRESS
         a syncs a=1 b=2
         - record: 1 range led by a a=1 b=2
         - a: assigned 1
         - b: assigned 2
         b syncs
         - b: assigned 2
         b commits
         - b: NONE",
    );
}

#[test]
fn the_newer_of_two_waiting_requests_for_an_assignment_counts() {
    play(
        "a b have joined
         b syncs
         b syncs
         - b: REBALANCE_IN_PROGRESS
         a syncs b=2 nobody=3
         - record: 1 range led by a a=nothing b=2
         - a: assigned nothing
         - b: assigned 2",
    );
}

#[test]
fn who_does_not_sync_in_time_is_let_go() {
    play(
        "a joins session 30m rebalance 20s
         b joins session 30m rebalance 10s
         6s pass
         - a: generation 1 range, leads a b
         - b: generation 1 range, follows a
         a syncs a=1 b=2
         - record: 1 range led by a a=1 b=2
         - a: assigned 1
         19.9s pass
         a beats
         - a: NONE
         0.1s pass
         a beats
         - a: REBALANCE_IN_PROGRESS
         a joins
         - a: generation 2 range, leads a
         20s pass
         - record: 3 nobody
         a beats
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_leader_that_does_not_assign_is_let_go_and_those_that_wait_join_again() {
    play(
        "a joins session 30m
         b joins session 10s
         6s pass
         - a: generation 1 range, leads a b
         - b: generation 1 range, follows a
         b syncs
         59s pass
         1s pass
         - b: REBALANCE_IN_PROGRESS
         b joins
         - b: generation 2 range, leads b",
    );
}

#[test]
fn only_a_member_of_the_generation_is_told_its_assignment() {
    play(
        "a b are stable
         a syncs generation 0
         - a: ILLEGAL_GENERATION
         a beats generation 2
         - a: ILLEGAL_GENERATION
         a commits generation 2
         - a: ILLEGAL_GENERATION
         c syncs generation 1
         - c: UNKNOWN_MEMBER_ID
         c commits generation -1
         - c: UNKNOWN_MEMBER_ID
         c commits generation 1
         - c: UNKNOWN_MEMBER_ID
         c joins
         a syncs
         - a: REBALANCE_IN_PROGRESS",
    );
}

#[test]
fn whoever_syncs_means_the_protocol_that_was_agreed() {
    play(
        "a are stable
         a syncs type connect
         - a: INCONSISTENT_GROUP_PROTOCOL
         a syncs protocol sticky
         - a: INCONSISTENT_GROUP_PROTOCOL
         a syncs type null
         - a: INCONSISTENT_GROUP_PROTOCOL
         a syncs protocol null
         - a: INCONSISTENT_GROUP_PROTOCOL
         a syncs v4 type null protocol null
         - a: assigned A",
    );
}

/// Known bug 69, KAFKA-7026: two members must not come to own one partition in one generation, whatever a leader says
/// that was asleep, and however often it says it.
#[test]
fn a_generation_is_assigned_once() {
    play(
        "a b have joined
         a syncs a=1 b=2
         - record: 1 range led by a a=1 b=2
         - a: assigned 1
         a syncs a=2 b=1
         - a: assigned 1
         b syncs
         - b: assigned 2
         b syncs a=2 b=1
         - b: assigned 2",
    );
}

/// Known bug 69, once more: what was assigned in a generation is void in the next, also to a leader that comes late.
#[test]
fn a_leader_that_slept_through_a_generation_assigns_nothing() {
    play(
        "a joins rebalance 10s
         b joins rebalance 10s
         6s pass
         - a: generation 1 range, leads a b
         - b: generation 1 range, follows a
         b joins to u
         10s pass
         - b: generation 2 range, leads b
         a syncs a=1 b=2
         - a: UNKNOWN_MEMBER_ID
         a joins anew
         b joins
         - a: generation 3 range, follows b
         - b: generation 3 range, leads a' b
         a syncs generation 1 a=1 b=2
         - a: ILLEGAL_GENERATION
         describe
         - CompletingRebalance 3  a'=nothing b=nothing, subscribed to {\"t\"}",
    );
}

#[test]
fn an_assignment_that_is_too_large_to_be_kept_fails_for_all_and_is_made_again() {
    play(
        "a b have joined
         b syncs
         set record 100
         a syncs a=1 b=2
         - a: UNKNOWN_SERVER_ERROR
         - b: UNKNOWN_SERVER_ERROR
         describe
         - PreparingRebalance 1  a=nothing b=nothing, subscribed to {\"t\"}
         set record 1000
         a joins
         b joins
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a
         a syncs a=1 b=2
         - record: 2 range led by a a=1 b=2
         - a: assigned 1",
    );
}

#[test]
fn nobody_is_let_go_while_the_answer_waits_for_the_groups_record_to_be_committed() {
    play(
        "a b have joined
         b syncs
         the log stands still
         a syncs a=1 b=2
         - record: 1 range led by a a=1 b=2
         - a: assigned 1
         - b: assigned 2
         25s pass
         the log moves on
         9s pass
         a beats
         - a: NONE
         b beats
         - b: NONE
         9s pass
         a beats
         - a: NONE
         2s pass
         a beats
         - a: REBALANCE_IN_PROGRESS",
    );
}
