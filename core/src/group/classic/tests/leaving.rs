//! Members that go.

use super::play;

#[test]
fn who_leaves_is_not_waited_for() {
    play(
        "a b c are stable
         c leaves
         - c: NONE
         a joins
         b leaves
         - a: generation 2 range, leads a
         - b: NONE",
    );
}

#[test]
fn an_old_client_leaves_alone() {
    play(
        "a are stable
         a leaves v2
         - record: 2 nobody
         - a: NONE
         a leaves v0
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn whoever_waits_and_leaves_is_answered() {
    play(
        "a b have joined
         b syncs
         b leaves
         - b: UNKNOWN_MEMBER_ID
         - b: NONE
         c joins
         c leaves
         - c: UNKNOWN_MEMBER_ID
         - c: NONE
         a joins
         - a: generation 2 range, leads a",
    );
}

#[test]
fn an_id_that_was_given_out_is_given_back() {
    play(
        "a are stable
         b asks
         - b: MEMBER_ID_REQUIRED
         a joins
         b leaves
         - a: generation 2 range, leads a
         - b: NONE
         b asks
         - b: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn an_operator_removes_static_members_by_name() {
    play(
        "a@x b@y c are stable
         remove x z y x
         - operator: x NONE, z UNKNOWN_MEMBER_ID, y NONE, x UNKNOWN_MEMBER_ID
         c joins
         - c: generation 2 range, leads c
         a beats
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_static_member_leaves_under_its_own_id_only() {
    play(
        "a@x are stable
         b asks named x
         - record: 1 range led by b b=A
         - b: generation 1 range, leads b, assigns nothing
         a leaves
         - a: x FENCED_INSTANCE_ID
         b leaves
         - record: 2 nobody
         - b: x NONE",
    );
}

#[test]
fn a_leader_that_leaves_is_replaced() {
    play(
        "a b are stable
         a leaves
         - a: NONE
         b joins
         - b: generation 2 range, leads b",
    );
}
