//! Static members (KIP-345): who has a name keeps its place when it comes back under another id.

use super::play;

#[test]
fn the_return_of_a_static_member_disturbs_nobody() {
    play(
        "a b@x are stable
         b asks anew
         - record: 1 range led by a a=A b'=B
         - b: generation 1 range, follows a
         b syncs
         - b: assigned B
         a beats
         - a: NONE",
    );
}

#[test]
fn a_leader_that_returns_has_nothing_to_assign() {
    play(
        "a@x b are stable
         a asks anew
         - record: 1 range led by a' b=B a'=A
         - a: generation 1 range, leads b a', assigns nothing",
    );
}

/// An older client cannot be told to assign nothing, so it is told that its former self leads.
#[test]
fn a_leader_that_returns_with_an_old_client_does_not_know_that_it_leads() {
    play(
        "a@x b are stable
         a asks anew v8
         - record: 1 range led by a' b=B a'=A
         - a: generation 1 range, follows a
         a syncs
         - a: assigned A
         a joins
         b joins
         - b: generation 2 range, follows a'
         - a: generation 2 range, leads b a'",
    );
}

#[test]
fn the_former_self_is_fenced() {
    play(
        "a b@x are stable
         c asks named x
         - record: 1 range led by a a=A c=B
         - c: generation 1 range, follows a
         b beats
         - b: FENCED_INSTANCE_ID
         b commits
         - b: FENCED_INSTANCE_ID
         b syncs
         - b: FENCED_INSTANCE_ID
         b joins
         - b: FENCED_INSTANCE_ID
         b leaves
         - b: x FENCED_INSTANCE_ID",
    );
}

#[test]
fn the_former_self_is_fenced_while_it_waits() {
    play(
        "a joins named x
         b asks named x
         - a: FENCED_INSTANCE_ID
         3s pass
         - b: generation 1 range, leads b
         c asks named x
         - c: generation 2 range, leads c
         b syncs
         - b: FENCED_INSTANCE_ID",
    );
}

#[test]
fn a_waiting_assignment_of_the_former_self_is_fenced_and_the_generation_made_anew() {
    play(
        "a b@x have joined
         b syncs
         c asks named x
         - b: FENCED_INSTANCE_ID
         a syncs a=1 b=2
         - a: REBALANCE_IN_PROGRESS
         a joins
         - a: generation 2 range, leads a c
         - c: generation 2 range, follows a",
    );
}

#[test]
fn a_return_that_changes_the_protocol_rebalances() {
    play(
        "a joins with p,q
         b joins with p,q named x
         6s pass
         - a: generation 1 p, leads a b
         - b: generation 1 p, follows a
         a syncs a=1 b=2
         - record: 1 p led by a a=1 b=2
         - a: assigned 1
         b syncs
         - b: assigned 2
         b asks anew with q
         a joins with p,q
         - a: generation 2 q, leads a b'
         - b: generation 2 q, follows a",
    );
}

#[test]
fn a_static_member_keeps_its_place_through_a_rebalance_it_misses() {
    play(
        "a joins
         b joins named x session 30m
         6s pass
         - a: generation 1 range, leads a b
         - b: generation 1 range, follows a
         a syncs a=1 b=2
         - record: 1 range led by a a=1 b=2
         - a: assigned 1
         b syncs
         - b: assigned 2
         a joins
         60s pass
         - a: generation 2 range, leads a b",
    );
}

#[test]
fn static_members_that_are_gone_end_with_their_sessions() {
    play(
        "a@x b@y are stable
         remove x
         - operator: x NONE
         9.9s pass
         b beats
         - b: REBALANCE_IN_PROGRESS
         60s pass
         - record: 2 nobody",
    );
}

#[test]
fn a_return_that_cannot_be_kept_fails_and_the_old_id_stays() {
    play(
        "a b@x are stable
         set record 50
         b asks anew
         - b: UNKNOWN_SERVER_ERROR
         describe
         - Stable 1 range a=A b=B, subscribed to {\"t\"}
         9s pass
         a beats
         - a: NONE
         10s pass
         - record: 2 nobody
         a beats
         - a: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_static_member_that_has_not_synced_owes_it_under_its_new_id() {
    play(
        "a joins session 30m
         b joins named x session 30m
         6s pass
         - a: generation 1 range, leads a b
         - b: generation 1 range, follows a
         a syncs a=1 b=2
         - record: 1 range led by a a=1 b=2
         - a: assigned 1
         b asks anew session 30m
         - record: 1 range led by a a=1 b'=2
         - b: generation 1 range, follows a
         b syncs
         - b: assigned 2
         60s pass
         a beats
         - a: NONE",
    );
}
