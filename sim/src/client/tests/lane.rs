//! One partition's queue of an idempotent producer, told what a broker may and may not say.

use chronik_core::ids::{Offset, TopicPartition, Uuid};
use chronik_core::time::{Instant, Timestamp};
use chronik_core::wire::ErrorCode;

use crate::client::lane::{Batch, Common, Fate, Identity, Lane};
use crate::client::{ClientNow, Wanted};
use crate::history::What;
use crate::value::Keys;

const TO: TopicPartition = TopicPartition { topic: Uuid([1; 16]), partition: 0 };
const TAKEN: Fate = Fate::Taken { base: Offset(0), log_start: Offset(0) };

fn at(ms: u64) -> ClientNow {
    ClientNow { instant: Instant(ms * 1_000_000), wall: Timestamp(1_700_000_000_000) }
}

/// A lane with five batches that begins with this sequence.
fn lane(first_sequence: i32) -> Lane {
    let common = Common {
        client: 0,
        is_idempotent: true,
        acks: -1,
        is_by_id: true,
        may_forget: false,
        has_leaders: true,
        first_sequence,
    };
    let mut lane = Lane::new(0, 0, Keys::None, common);
    lane.identify(Identity { id: 7, epoch: 0 });
    for operation in 0..5 {
        lane.push(Batch::new(operation, at(10_000).instant, 1, 20, 0));
    }
    lane
}

/// The same, and the broker knows its identity.
fn known() -> Lane {
    let mut lane = lane(0);
    assert_eq!(sent(&mut lane, 0), [(0, 0)], "one alone, until it is acknowledged");
    assert_eq!(settle(&mut lane, 0, TAKEN).0, None);
    lane
}

/// Sends all that may be sent, and returns operations with their sequences.
fn sent(lane: &mut Lane, now_ms: u64) -> Vec<(u32, i32)> {
    let mut wanted = Vec::new();
    while let Some(place) = lane.next(at(now_ms)) {
        lane.send(place, at(now_ms), TO, &mut wanted);
    }
    let sequence = |wanted: &Wanted| match wanted {
        Wanted::Record(Some(operation), What::Produce { sequence: Some((_, _, sequence)), .. }) => {
            Some((*operation, *sequence))
        }
        _ => None,
    };
    wanted.iter().filter_map(sequence).collect()
}

fn settle(lane: &mut Lane, operation: u32, fate: Fate) -> (Option<String>, Vec<What>) {
    let mut wanted = Vec::new();
    let broken = lane.settle(operation, fate, at(0), |_| 0, &mut wanted);
    (broken, records(wanted))
}

fn records(wanted: Vec<Wanted>) -> Vec<What> {
    let record = |wanted| match wanted {
        Wanted::Record(_, what) => Some(what),
        _ => None,
    };
    wanted.into_iter().filter_map(record).collect()
}

fn is_out_of_sequence(told: &[What]) -> bool {
    told.iter().any(|what| matches!(what, What::OutOfSequence { .. }))
}

fn renew(lane: &mut Lane) -> Vec<What> {
    let mut wanted = Vec::new();
    lane.renew(&mut wanted);
    records(wanted)
}

#[test]
fn after_a_lost_connection_all_is_sent_again_in_order_under_the_same_sequences() {
    let mut lane = known();
    let first = sent(&mut lane, 0);
    assert_eq!(first, [(1, 1), (2, 2), (3, 3), (4, 4)]);
    for operation in 1..5 {
        assert_eq!(settle(&mut lane, operation, Fate::Lost), (None, vec![]));
    }
    assert_eq!(renew(&mut lane), []);
    assert_eq!(sent(&mut lane, 1), first);
}

#[test]
fn behind_a_batch_of_unknown_fate_no_more_are_sent_than_a_broker_remembers() {
    let mut lane = known();
    (5..12).for_each(|operation| lane.push(Batch::new(operation, at(10_000).instant, 1, 20, 0)));
    assert_eq!(sent(&mut lane, 0).len(), 5);
    // The first is still under way to the old leader when the new one has taken the others.
    (2..6).for_each(|operation| assert!(!is_out_of_sequence(&settle(&mut lane, operation, TAKEN).1)));
    assert_eq!(sent(&mut lane, 0), []);
    assert_eq!(settle(&mut lane, 1, TAKEN).0, None);
    assert_eq!(sent(&mut lane, 0).len(), 5);
}

#[test]
fn sequences_begin_where_they_are_told_to_and_go_round() {
    let mut lane = lane(i32::MAX - 1);
    assert_eq!(sent(&mut lane, 0), [(0, i32::MAX - 1)]);
    assert_eq!(settle(&mut lane, 0, TAKEN).0, None);
    assert_eq!(sent(&mut lane, 0), [(1, i32::MAX), (2, 0), (3, 1), (4, 2)]);
}

#[test]
fn behind_a_batch_that_was_refused_for_now_the_broker_must_refuse_the_others() {
    let mut lane = known();
    sent(&mut lane, 0);
    assert_eq!(settle(&mut lane, 1, Fate::Failed(ErrorCode::KafkaStorageError)).0, None);
    assert_eq!(settle(&mut lane, 2, Fate::Failed(ErrorCode::OutOfOrderSequenceNumber)).0, None);
    assert!(is_out_of_sequence(&settle(&mut lane, 3, TAKEN).1), "a gap was taken");
}

#[test]
fn the_next_batch_in_sequence_may_not_be_refused_for_its_sequence() {
    let mut lane = known();
    sent(&mut lane, 0);
    let refused = Fate::Failed(ErrorCode::OutOfOrderSequenceNumber);
    let is_told = |told: &[What], again| {
        told.iter().any(|what| matches!(what, What::OutOfSequence { is_again, .. } if *is_again == again))
    };
    assert!(is_told(&settle(&mut lane, 1, refused).1, false));
    // It may have been appended when it was sent first.
    let mut lane = known();
    sent(&mut lane, 0);
    (1..5).for_each(|operation| drop(settle(&mut lane, operation, Fate::Lost)));
    renew(&mut lane);
    sent(&mut lane, 1);
    assert!(is_told(&settle(&mut lane, 1, refused).1, true));
}

#[test]
fn behind_a_batch_refused_for_good_the_rest_goes_on_under_another_identity_as_further_attempts() {
    let mut lane = known();
    sent(&mut lane, 0);
    let (broken, told) = settle(&mut lane, 1, Fate::Failed(ErrorCode::MessageTooLarge));
    assert_eq!(broken, None);
    assert!(matches!(told[0], What::ProduceFailed { code: ErrorCode::MessageTooLarge, .. }));
    assert!(matches!(told[1], What::ProduceRefused { code: ErrorCode::MessageTooLarge, .. }));
    for operation in 2..5 {
        assert_eq!(settle(&mut lane, operation, Fate::Failed(ErrorCode::OutOfOrderSequenceNumber)).0, None);
    }
    let refused = renew(&mut lane);
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|what| matches!(what, What::ProduceRefused { .. })));
    assert!(lane.wants_identity());
    lane.identify(Identity { id: 8, epoch: 0 });
    assert_eq!(sent(&mut lane, 5_000), [(2, 0)]);
}

#[test]
fn what_may_have_been_appended_is_not_sent_under_another_identity() {
    let mut lane = known();
    sent(&mut lane, 0);
    for operation in 1..5 {
        assert_eq!(settle(&mut lane, operation, Fate::Failed(ErrorCode::UnknownTopicOrPartition)).0, None);
    }
    let told = renew(&mut lane);
    assert_eq!(told.iter().filter(|what| matches!(what, What::ProduceUnknown { .. })).count(), 4);
    assert!(lane.is_empty());
}
