//! Who may join, under which id, and what is agreed.

use super::play;

#[test]
fn a_dynamic_member_is_given_an_id_before_it_waits() {
    play(
        "a asks
         - a: MEMBER_ID_REQUIRED
         a asks
         3s pass
         - a: generation 1 range, leads a",
    );
}

#[test]
fn a_client_older_than_member_ids_in_advance_waits_at_once() {
    play(
        "a asks v3
         3s pass
         - a: generation 1 range, leads a",
    );
}

#[test]
fn an_id_that_is_not_come_back_with_is_forgotten() {
    play(
        "a asks
         - a: MEMBER_ID_REQUIRED
         9.9s pass
         a asks session 6s
         3s pass
         - a: generation 1 range, leads a
         b asks
         - b: MEMBER_ID_REQUIRED
         10s pass
         - record: 2 nobody
         b asks
         - b: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn nobody_joins_under_an_id_that_was_not_given() {
    play(
        "a b are stable
         a leaves
         - a: NONE
         a asks
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_new_id_has_no_name_yet() {
    play(
        "a asks
         - a: MEMBER_ID_REQUIRED
         a asks named x
         - a: UNKNOWN_SERVER_ERROR",
    );
}

#[test]
fn a_session_is_neither_too_short_nor_too_long() {
    play(
        "a asks session 5.999s
         - a: INVALID_SESSION_TIMEOUT
         a asks session 1800.001s
         - a: INVALID_SESSION_TIMEOUT
         a asks session -1ms
         - a: INVALID_SESSION_TIMEOUT
         a asks session 6s
         - a: MEMBER_ID_REQUIRED
         b asks session 30m
         - b: MEMBER_ID_REQUIRED",
    );
}

#[test]
fn a_member_supports_some_protocol_of_some_type() {
    play(
        "a asks with nothing
         - a: INCONSISTENT_GROUP_PROTOCOL
         a are stable
         b asks with nothing
         - b: INCONSISTENT_GROUP_PROTOCOL
         b asks with sticky
         - b: INCONSISTENT_GROUP_PROTOCOL
         b asks type connect
         - b: INCONSISTENT_GROUP_PROTOCOL
         a asks with sticky
         - a: INCONSISTENT_GROUP_PROTOCOL
         b asks with sticky,range
         - b: MEMBER_ID_REQUIRED",
    );
}

#[test]
fn an_empty_group_may_become_one_of_another_type() {
    play(
        "a are stable
         a leaves
         - record: 2 nobody
         - a: NONE
         a joins anew type connect with default
         3s pass
         - a: generation 3 default, leads a'
         describe
         - CompletingRebalance 3  a'=nothing",
    );
}

#[test]
fn the_protocol_that_most_like_best_is_chosen_of_those_that_all_support() {
    play(
        "a joins with zeta,range,other
         b joins with range,zeta
         c joins with range,zeta
         6s pass
         - a: generation 1 range, leads a b c
         - b: generation 1 range, follows a
         - c: generation 1 range, follows a
         c leaves
         - c: NONE
         a joins with other,zeta
         b joins with range,zeta
         - a: generation 2 zeta, leads a b
         - b: generation 2 zeta, follows a",
    );
}

#[test]
fn a_protocol_named_twice_counts_once() {
    play(
        "a joins with range,range
         3s pass
         - a: generation 1 range, leads a",
    );
}

#[test]
fn a_group_has_no_more_members_than_it_may() {
    play(
        "set max 2
         a b are stable
         c asks
         - c: GROUP_MAX_SIZE_REACHED
         a joins
         b joins
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a",
    );
}

#[test]
fn ids_that_are_not_joined_with_take_no_place() {
    play(
        "set max 1
         a asks
         - a: MEMBER_ID_REQUIRED
         b asks
         - b: MEMBER_ID_REQUIRED
         a asks
         b asks
         - b: GROUP_MAX_SIZE_REACHED
         3s pass
         - a: generation 1 range, leads a",
    );
}

#[test]
fn a_group_that_is_too_large_after_a_load_shrinks_to_who_joins_first() {
    play(
        "a b c are stable
         set max 2
         reload
         a beats
         - a: REBALANCE_IN_PROGRESS
         c joins
         b joins
         a asks
         - a: GROUP_MAX_SIZE_REACHED
         - b: generation 2 range, leads b c
         - c: generation 2 range, follows b",
    );
}

#[test]
fn the_newer_of_two_waiting_requests_of_a_member_counts() {
    play(
        "a b are stable
         a joins
         a joins
         - a: REBALANCE_IN_PROGRESS
         b joins
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a",
    );
}
