//! What a group is after a load.

use std::time::Duration;

use bytes::Bytes;

use super::play;
use crate::group::classic::{Group, Member, State};
use crate::group::record::{GroupMetadataValue, MemberMetadata, Value};
use crate::group::testing::{BEGINNING, Rig, client};
use crate::time::Timestamp;
use crate::wire::{ErrorCode, Str};

#[test]
fn a_generation_goes_on_after_a_load() {
    play(
        "a b@x are stable
         reload
         describe
         - Stable 1 range a=A b=B, subscribed to {\"t\"}
         a beats
         - a: NONE
         b syncs
         - b: assigned B
         9.9s pass
         a commits
         - a: NONE
         0.1s pass
         a beats
         - a: REBALANCE_IN_PROGRESS",
    );
}

#[test]
fn who_was_on_the_way_into_a_generation_starts_again() {
    play(
        "a b are stable
         c joins
         a joins
         reload
         - a: NOT_COORDINATOR
         - c: NOT_COORDINATOR
         a joins
         c asks
         - c: UNKNOWN_MEMBER_ID
         c joins anew
         b joins
         - a: generation 2 range, leads a b c'
         - b: generation 2 range, follows a
         - c: generation 2 range, follows a
         b syncs
         reload
         - b: NOT_COORDINATOR
         b syncs
         - b: ILLEGAL_GENERATION",
    );
}

#[test]
fn generations_go_on_where_they_stopped() {
    play(
        "a are stable
         a leaves
         - record: 2 nobody
         - a: NONE
         reload
         describe
         - Empty 2 , subscribed to {}
         a joins anew
         3s pass
         - a: generation 3 range, leads a'",
    );
}

fn value(members: Vec<MemberMetadata>, timestamp: i64) -> GroupMetadataValue {
    GroupMetadataValue {
        protocol_type: Str::from("consumer"),
        generation: 7,
        protocol: (!members.is_empty()).then(|| Str::from("range")),
        leader: members.first().map(|member| member.member_id.clone()),
        current_state_timestamp: timestamp,
        members,
    }
}

fn member(id: &str, instance: Option<&str>) -> MemberMetadata {
    MemberMetadata {
        member_id: Str::from(id),
        group_instance_id: instance.map(Str::from),
        session_timeout: 10_000,
        ..MemberMetadata::default()
    }
}

fn loaded(value: GroupMetadataValue, written: Timestamp) -> Group {
    let mut group = Group::new(Str::from("g"));
    group.replay(Some(&Value::Group(value)), written);
    group
}

/// Known bug 63, KAFKA-8069: a record of an old broker does not say since when the group is empty. Had it been empty
/// since the beginning of time, its offsets would expire at once.
#[test]
fn a_group_whose_record_has_no_time_is_empty_since_the_record() {
    assert_eq!(loaded(value(vec![], -1), Timestamp(5_000)).empty_since(), Some(Timestamp(5_000)));
    assert_eq!(loaded(value(vec![], 4_000), Timestamp(5_000)).empty_since(), Some(Timestamp(4_000)));
}

/// Known bug 63, KAFKA-4682 and KAFKA-13636: offsets do not expire by the time that a group is empty while it has
/// members, whatever they are at.
#[test]
fn a_group_with_members_is_not_empty() {
    let mut rig = Rig::new();
    let mut group = loaded(value(vec![member("a", None)], 4_000), Timestamp(5_000));
    assert_eq!((group.state(), group.empty_since()), (State::Stable, None));
    group.begin(&mut rig.ctx());
    group.rebalance(&mut rig.ctx());
    assert_eq!((group.state(), group.empty_since()), (State::PreparingRebalance, None));
    rig.pass(Duration::from_secs(10));
    while let Some(timer) = rig.due() {
        group.timer(&mut rig.ctx(), timer.kind);
    }
    assert_eq!((group.state(), group.empty_since()), (State::Empty, Some(Timestamp(BEGINNING.0 + 10_000))));
}

#[test]
fn a_group_that_never_had_members_is_not_empty_since_then() {
    assert_eq!(Group::new(Str::from("g")).empty_since(), None);
    let without_type = GroupMetadataValue { protocol_type: Str::EMPTY, ..value(vec![], 4_000) };
    assert_eq!(loaded(without_type, Timestamp(5_000)).empty_since(), None);
}

/// Known bug 64, KAFKA-4704 and its kin: a log that is compacted while it is loaded shows tombstones of groups that are
/// not there, and any of a group's records without those before it.
#[test]
fn a_load_takes_records_and_tombstones_in_any_order() {
    let mut group = Group::new(Str::from("g"));
    group.replay(None, Timestamp(1));
    assert!(group.is_forgettable());
    group.replay(Some(&Value::Group(value(vec![member("a", Some("x"))], 1))), Timestamp(1));
    group.replay(Some(&Value::Group(value(vec![member("b", Some("x"))], 1))), Timestamp(1));
    assert_eq!(group.members().map(|member| member.id).collect::<Vec<_>>(), ["b"]);
    group.replay(None, Timestamp(1));
    assert!(group.is_forgettable());
    assert_eq!((group.generation(), group.protocol_type(), group.leader()), (0, None, None));
    group.replay(Some(&Value::Group(value(vec![member("a", None)], 1))), Timestamp(1));
    assert_eq!((group.generation(), group.state()), (7, State::Stable));
}

#[test]
fn a_record_that_no_broker_wrote_is_loaded_as_far_as_it_makes_sense() {
    let mut rig = Rig::new();
    let twice = vec![member("a", Some("x")), member("a", None), member("b", Some("x")), member("c", None)];
    let odd = GroupMetadataValue {
        leader: Some(Str::from("nobody")),
        protocol: None,
        protocol_type: Str::EMPTY,
        generation: i32::MAX,
        ..value(twice, -5)
    };
    let mut group = loaded(odd, Timestamp(1));
    group.begin(&mut rig.ctx());
    group.invariants(&rig.timers);
    assert_eq!(group.members().map(|member| member.id).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(group.leader().map(Str::as_str), Some("a"));
    group.rebalance(&mut rig.ctx());
    rig.pass(Duration::from_secs(3600));
    while let Some(timer) = rig.due() {
        group.timer(&mut rig.ctx(), timer.kind);
        group.invariants(&rig.timers);
    }
    assert_eq!((group.state(), group.generation()), (State::Empty, 1));
}

/// The one timer that comes back while nobody joins must not come at once, or it would never be another one's turn.
#[test]
fn a_group_that_has_no_time_to_join_is_not_asked_again_at_once() {
    let mut rig = Rig::new();
    let hasty = MemberMetadata { rebalance_timeout: 0, ..member("a", Some("x")) };
    let mut group = loaded(value(vec![hasty], 1), Timestamp(1));
    group.begin(&mut rig.ctx());
    group.rebalance(&mut rig.ctx());
    for _ in 0..12 {
        while let Some(timer) = rig.due() {
            group.timer(&mut rig.ctx(), timer.kind);
            group.invariants(&rig.timers);
        }
        rig.pass(Duration::from_millis(1_001));
    }
    assert_eq!(group.state(), State::Empty);
}

#[test]
fn a_group_is_deleted_by_a_tombstone_where_the_log_knows_of_it() {
    let mut rig = Rig::new();
    let mut group = Group::new(Str::from("g"));
    group.delete(&mut rig.ctx());
    assert!(rig.records().is_empty());
    let mut group = loaded(value(vec![], 1), Timestamp(1));
    assert!(!group.is_forgettable());
    group.delete(&mut rig.ctx());
    assert_eq!(rig.records().iter().map(|record| record.value.is_none()).collect::<Vec<_>>(), [true]);
    assert!(group.is_forgettable());
}

#[test]
fn a_group_made_of_one_of_the_next_protocol_goes_on_with_its_members() {
    let mut rig = Rig::new();
    let member = |id: &str, protocols: &[&str]| Member {
        id: Str::from(id),
        instance_id: None,
        client: client(id),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocols: protocols.iter().map(|name| (Str::from(*name), Bytes::new())).collect(),
        assignment: Bytes::from_static(b"1"),
    };
    let members = vec![member("a", &["range"]), member("b", &["sticky", "range"])];
    let (consumer, range) = (Str::from("consumer"), Str::from("range"));
    let mut group = Group::restore(Str::from("g"), 4, consumer, range, Some(Str::from("b")), members.clone());
    assert!(group.write(&mut rig.ctx()));
    group.begin(&mut rig.ctx());
    group.invariants(&rig.timers);
    assert_eq!((group.state(), group.generation(), group.leader()), (State::Stable, 4, Some(&Str::from("b"))));
    assert_eq!(group.members().collect::<Vec<_>>(), members);
    assert_eq!(group.admit_commit(&mut rig.ctx(), &Str::from("a"), None, 4), Ok(()));
    assert_eq!(group.admit_commit(&mut rig.ctx(), &Str::from("a"), None, 3), Err(ErrorCode::IllegalGeneration));
    let [record] = &rig.records()[..] else { panic!("one record") };
    let mut again = Group::new(Str::from("g"));
    again.replay(record.value.as_ref(), BEGINNING);
    assert_eq!(again.describe(6), group.describe(6));
}

#[test]
fn the_size_of_a_record_is_counted_as_it_is_written() {
    let mut rig = Rig::new();
    for members in [vec![], vec![member("a", Some("x")), member("bb", None)]] {
        let mut group = loaded(value(members, 1), Timestamp(1));
        assert!(group.write(&mut rig.ctx()));
        let (key, value) = rig.records()[0].encode();
        rig.settings.record_bytes_max = key.len() + value.map_or(0, |value| value.len());
        assert!(group.write(&mut rig.ctx()));
        rig.records();
        rig.settings.record_bytes_max -= 1;
        assert!(!group.write(&mut rig.ctx()));
        assert!(rig.records().is_empty());
        rig.settings.record_bytes_max = usize::MAX;
    }
}

#[test]
fn the_topics_of_a_group_are_those_of_all_its_members() {
    play(
        "a joins to t,u
         b joins to t,u
         c joins to v
         6s pass
         - a: generation 1 range, leads a b c
         - b: generation 1 range, follows a
         - c: generation 1 range, follows a
         describe
         - CompletingRebalance 1  a=nothing b=nothing c=nothing, subscribed to {\"t\", \"u\", \"v\"}
         c leaves
         - c: NONE
         a joins to t
         b joins to t
         - a: generation 2 range, leads a b
         - b: generation 2 range, follows a
         describe
         - CompletingRebalance 2  a=nothing b=nothing, subscribed to {\"t\"}",
    );
}
