//! A follower's part: whom it believes, what it takes, what it says.

use smallvec::smallvec;

use super::*;
use crate::ids::Session;
use crate::peer::{Acked, Append, Batches, Cut, Greet};

const LEADER: NodeId = NodeId(1);

fn leadership(epoch: i32) -> Leadership {
    Leadership { leader: Some(LEADER), leader_epoch: LeaderEpoch(epoch), unclean_epoch: None }
}

fn ends(start: i64, durable: i64, end: i64) -> Ends {
    Ends { start: Offset(start), durable: Offset(durable), end: Offset(end), is_cutting: false }
}

fn follower(log: Ends, high_watermark: i64) -> Follower {
    let heard_in = LeaderEpoch(4);
    let (follower, asks) =
        Follower::new(PARTITION, BrokerEpoch(7), leadership(5), log, Offset(high_watermark), heard_in);
    assert_eq!((asks.session, asks.leader_epoch), (Session(0), LeaderEpoch(5)));
    follower
}

fn greet(session: u64) -> Greet {
    Greet { partition: PARTITION, leader_epoch: LeaderEpoch(5), session: Session(session), below: Offset(i64::MAX) }
}

fn cut(session: u64, to: i64) -> Cut {
    let session = Session(session);
    Cut { partition: PARTITION, leader_epoch: LeaderEpoch(5), session, to: Offset(to), starts_anew: false }
}

fn append(session: u64, previous_end: i64, high_watermark: i64) -> Append {
    Append {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(session),
        previous_end: Offset(previous_end),
        high_watermark: Offset(high_watermark),
        start: Offset(0),
        batches: Batches::new(smallvec![]),
    }
}

fn batches(base: i64, end: i64) -> Option<(Offset, Offset)> {
    Some((Offset(base), Offset(end)))
}

/// A follower in session 1, whose log ends at 10 as its leader's does.
fn following() -> Follower {
    let log = ends(0, 10, 10);
    let mut follower = follower(log, 5);
    assert!(follower.on_greet(LEADER, &greet(1), &[], log).is_some());
    assert!(matches!(follower.on_cut(LEADER, &cut(1, 10), log), CutDecision::Done(_)));
    follower
}

fn taken(high_watermark: i64) -> Taken {
    Taken::Append { high_watermark: Offset(high_watermark), start: Offset(0) }
}

#[test]
fn only_the_leader_that_the_metadata_name_is_believed() {
    let log = ends(0, 10, 10);
    let mut follower = follower(log, 5);
    let older = Greet { leader_epoch: LeaderEpoch(4), ..greet(1) };
    let newer = Greet { leader_epoch: LeaderEpoch(6), ..greet(1) };
    assert_eq!(follower.on_greet(NodeId(2), &greet(1), &[], log), None);
    assert_eq!(follower.on_greet(LEADER, &older, &[], log), None);
    assert_eq!(follower.on_greet(LEADER, &newer, &[], log), None);
    assert!(follower.on_greet(LEADER, &greet(1), &[], log).is_some());

    // The leader of the epoch before still sends.
    let mut follower = following();
    follower.follow(leadership(6), log).expect("a newer leadership is followed");
    assert_eq!(follower.on_append(LEADER, &append(1, 10, 8), batches(10, 12), log), Taken::Ignored);
}

/// KAFKA-9338: a session belongs to one leader epoch, and what belongs to an older session is not taken.
#[test]
fn only_the_newest_session_is_heard() {
    let log = ends(0, 10, 10);
    let mut follower = following();
    assert!(follower.on_greet(LEADER, &greet(2), &[], log).is_some());
    assert_eq!(follower.on_append(LEADER, &append(1, 10, 8), batches(10, 12), log), Taken::Ignored);
    assert_eq!(follower.on_greet(LEADER, &greet(1), &[], log), None);
    assert_eq!(follower.on_cut(LEADER, &cut(1, 10), log), CutDecision::Ignore);
    assert!(matches!(follower.on_cut(LEADER, &cut(2, 10), log), CutDecision::Done(_)));
    assert_eq!(follower.on_append(LEADER, &append(1, 10, 8), batches(10, 12), log), Taken::Ignored);
    assert_eq!(follower.on_append(LEADER, &append(2, 10, 8), batches(10, 12), log), taken(8));
}

/// KAFKA-14704: the high watermark of a leader says nothing of records that are to be cut.
#[test]
fn a_high_watermark_is_heard_only_once_both_logs_agree() {
    let log = ends(0, 14, 14);
    let mut follower = follower(log, 5);
    follower.on_greet(LEADER, &greet(1), &[], log);
    assert_eq!(follower.on_append(LEADER, &append(1, 14, 14), None, log), Taken::Ignored);
    assert_eq!(follower.on_cut(LEADER, &cut(1, 8), log), CutDecision::Cut(Offset(8)));
    assert_eq!(follower.on_append(LEADER, &append(1, 14, 14), None, log), Taken::Ignored);
    assert_eq!(follower.high_watermark().0, Offset(5));
    // And then only as far as its log goes.
    let log = ends(0, 8, 8);
    assert!(matches!(follower.confirmed(log), Some(Said::CutDone(_))));
    assert_eq!(follower.on_append(LEADER, &append(1, 8, 14), batches(8, 10), log), taken(10));
}

/// Nobody hears of a cut before it is durable, not even in a session that began meanwhile and found nothing to cut.
#[test]
fn a_cut_is_done_when_it_is_durable() {
    let log = ends(0, 14, 14);
    let mut follower = follower(log, 5);
    follower.on_greet(LEADER, &greet(1), &[], log);
    assert_eq!(follower.on_cut(LEADER, &cut(1, 8), log), CutDecision::Cut(Offset(8)));
    let log = Ends { is_cutting: true, ..ends(0, 8, 8) };
    assert!(follower.on_greet(LEADER, &greet(2), &[], log).is_some());
    assert_eq!(follower.on_cut(LEADER, &cut(2, 8), log), CutDecision::Ignore);
    assert_eq!(follower.confirmed(log), None);
    let Some(Said::CutDone(done)) = follower.confirmed(ends(0, 8, 8)) else { panic!("it is durable") };
    assert_eq!((done.session, done.end, done.durable_end), (Session(2), Offset(8), Offset(8)));
}

/// KIP-101, KIP-704, rule 6: what the in-sync set is known to hold is never cut, unless it was said that it may be lost.
#[test]
fn nothing_below_the_high_watermark_is_cut_unless_an_unclean_election_was_declared() {
    let log = ends(0, 14, 14);
    let check = |unclean: Option<i32>, expect: CutDecision, high_watermark: i64| {
        let mut follower = follower(log, 9);
        let leadership = Leadership { unclean_epoch: unclean.map(LeaderEpoch), ..leadership(6) };
        follower.follow(leadership, log);
        let epoch = LeaderEpoch(6);
        follower.on_greet(LEADER, &Greet { leader_epoch: epoch, ..greet(1) }, &[], log);
        assert_eq!(follower.on_cut(LEADER, &Cut { leader_epoch: epoch, ..cut(1, 8) }, log), expect, "{unclean:?}");
        assert_eq!(follower.high_watermark().0, Offset(high_watermark));
    };
    let refused = CutDecision::BelowHighWatermark { to: Offset(8), high_watermark: Offset(9) };
    check(None, refused.clone(), 9);
    // It was heard of in epoch 4: an election before says nothing about it, one that followed does, though another clean
    // one came after.
    check(Some(4), refused, 9);
    check(Some(5), CutDecision::Cut(Offset(8)), 8);
    check(Some(6), CutDecision::Cut(Offset(8)), 8);
}

/// KAFKA-9491: a log that starts anew has a high watermark where it starts, or whoever leads with it would serve nothing.
#[test]
fn a_log_that_starts_anew_takes_its_high_watermark_along() {
    let log = ends(0, 10, 10);
    let mut follower = follower(log, 5);
    follower.on_greet(LEADER, &greet(1), &[], log);
    let anew = Cut { starts_anew: true, ..cut(1, 50) };
    assert_eq!(follower.on_cut(LEADER, &anew, log), CutDecision::StartAnew(Offset(50)));
    assert_eq!(follower.high_watermark().0, Offset(50));
}

/// KAFKA-6975: the leader's log may start inside a batch, which is sent whole.
#[test]
fn the_first_batch_of_a_log_may_begin_below_its_start() {
    let log = ends(50, 50, 50);
    let mut follower = follower(log, 50);
    follower.on_greet(LEADER, &greet(1), &[], log);
    assert!(matches!(follower.on_cut(LEADER, &cut(1, 50), log), CutDecision::Done(_)));
    assert!(matches!(follower.on_append(LEADER, &append(1, 50, 0), batches(45, 55), log), Taken::Append { .. }));
    // No other one may.
    let log = ends(50, 50, 55);
    assert!(matches!(follower.on_append(LEADER, &append(1, 55, 0), batches(54, 60), log), Taken::Mismatch(_)));
}

/// KIP-320, KAFKA-6880: nobody goes on from where its log does not end, as after a cut that the other side has not seen.
#[test]
fn what_does_not_follow_is_said_once_and_not_taken() {
    let log = ends(0, 10, 10);
    let mut follower = following();
    let Taken::Mismatch(said) = follower.on_append(LEADER, &append(1, 12, 8), batches(12, 14), log) else {
        panic!("it does not follow")
    };
    assert_eq!((said.session, said.end), (Session(1), Offset(10)));
    assert_eq!(follower.on_append(LEADER, &append(1, 14, 8), batches(14, 16), log), Taken::Ignored);
    assert_eq!(follower.confirmed(ends(0, 9, 10)), None);
}

#[test]
fn what_is_durable_is_acknowledged_and_nothing_twice() {
    let mut follower = following();
    assert_eq!(follower.on_append(LEADER, &append(1, 10, 8), batches(10, 12), ends(0, 10, 10)), taken(8));
    assert_eq!(follower.confirmed(ends(0, 10, 12)), None, "nothing new is durable");
    let said = follower.confirmed(ends(0, 12, 12)).expect("it is durable");
    let expect = Acked {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(1),
        broker_epoch: BrokerEpoch(7),
        durable_end: Offset(12),
        end: Offset(12),
        start: Offset(0),
    };
    assert_eq!(said, Said::Acked(expect));
    assert_eq!(follower.confirmed(ends(0, 12, 12)), None);
    assert!(follower.confirmed(ends(3, 12, 12)).is_some(), "a start that moved is news too");
}

/// KAFKA-5634: a log never starts above what is known to be held.
#[test]
fn the_start_follows_the_leaders_up_to_the_high_watermark() {
    let mut follower = following();
    let log = ends(0, 10, 10);
    let sent = Append { start: Offset(9), ..append(1, 10, 7) };
    let expect = Taken::Append { high_watermark: Offset(7), start: Offset(7) };
    assert_eq!(follower.on_append(LEADER, &sent, None, log), expect);
}

#[test]
fn a_full_disk_is_silent_until_there_is_room() {
    let mut follower = following();
    let log = ends(0, 10, 10);
    follower.interrupt();
    assert_eq!(follower.on_append(LEADER, &append(1, 10, 8), batches(10, 12), log), Taken::Ignored);
    assert_eq!(follower.resume(log).session, Session(0));
    assert_eq!(follower.on_append(LEADER, &append(1, 10, 8), batches(10, 12), log), Taken::Ignored);
    assert!(follower.on_greet(LEADER, &greet(2), &[], log).is_some());
}

#[test]
fn an_older_leadership_changes_nothing() {
    let mut follower = following();
    let log = ends(0, 10, 10);
    assert_eq!(follower.follow(leadership(5), log), None);
    assert_eq!(follower.follow(leadership(4), log), None);
    assert_eq!(follower.on_append(LEADER, &append(1, 10, 8), batches(10, 12), log), taken(8));
}
