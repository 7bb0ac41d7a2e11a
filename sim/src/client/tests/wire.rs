//! A connection told things that no sound broker says.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chronik_core::rng::Rng;
use chronik_core::time::{Instant, Timestamp};
use chronik_core::wire::api_versions::ApiVersionsResponse;
use chronik_core::wire::metadata::{MetadataRequest, MetadataResponse};
use chronik_core::wire::{ApiKey, Response, Writer, encode_response};

use crate::client::wire::{Alarm, Got, Wire};
use crate::client::{ClientNow, Happened, Link, Wanted};
use crate::history::What;

const NOW: ClientNow = ClientNow { instant: Instant(0), wall: Timestamp(0) };

fn answer(response: impl Into<Response>, version: i16, correlation_id: i32) -> Bytes {
    let mut writer = Writer::new();
    encode_response(&response.into(), version, correlation_id, &mut writer).expect("it is short");
    writer.finish().to_bytes()
}

fn step(wire: &mut Wire<u32>, now: ClientNow, happened: Happened) -> (Vec<Wanted>, Vec<Got<u32>>) {
    let (mut wanted, mut got) = (Vec::new(), Vec::new());
    wire.take(now, happened, &mut wanted, &mut got);
    (wanted, got)
}

/// An open connection on which two questions were asked, with the correlation ids 1 and 2.
fn asked() -> Wire<u32> {
    let mut wire = Wire::new("test".into(), Duration::from_secs(1), Rng::from_number(1), 0);
    let mut wanted = Vec::new();
    assert!(!wire.open(NOW, &mut wanted));
    assert_eq!(wanted, [Wanted::Connect(Link(0), 1)]);
    step(&mut wire, NOW, Happened::Connected(Link(0)));
    let versions = ApiVersionsResponse { api_keys: ApiKey::advertised_apis(), ..ApiVersionsResponse::default() };
    let (_, got) = step(&mut wire, NOW, Happened::Received(Link(0), answer(versions, 0, 0)));
    assert_eq!(got, [Got::Opened]);
    for asked in [10, 20] {
        wire.send(NOW, &MetadataRequest::default().into(), 12, Some(asked), &mut wanted);
    }
    wire
}

fn metadata(correlation_id: i32) -> Bytes {
    answer(MetadataResponse::default(), 12, correlation_id)
}

/// What came breaks the protocol, and leaves these without an answer.
fn check_broken(bytes: impl Into<BytesMut>, unanswered: &[u32]) {
    let mut wire = asked();
    let (wanted, got) = step(&mut wire, NOW, Happened::Received(Link(0), bytes.into().freeze()));
    let broken = wanted.iter().filter(|wanted| matches!(wanted, Wanted::Record(None, What::Broken { .. }))).count();
    assert_eq!(broken, 1, "{wanted:?}");
    assert!(wanted.contains(&Wanted::Close(Link(0))));
    assert_eq!(got.last(), Some(&Got::Lost(unanswered.to_vec())));
}

#[test]
fn an_answer_that_breaks_the_protocol_is_seen() {
    let both = [metadata(1), metadata(2)].concat();
    check_broken(metadata(2), &[10, 20]);
    check_broken(metadata(7), &[10, 20]);
    check_broken(&[metadata(1), metadata(1)].concat()[..], &[20]);
    check_broken(&[&both[..], &metadata(3)].concat()[..], &[]);
    check_broken(&(-1_i32).to_be_bytes()[..], &[10, 20]);
    check_broken(&i32::MAX.to_be_bytes()[..], &[10, 20]);
    let mut longer = metadata(1).to_vec();
    longer[3] += 1;
    longer.push(0);
    check_broken(&longer[..], &[10, 20]);
    let mut shorter = metadata(1).to_vec();
    shorter[3] -= 1;
    check_broken(&shorter[..], &[10, 20]);
}

#[test]
fn answers_may_come_in_any_pieces() {
    let both = [metadata(1), metadata(2)].concat();
    for piece in 1..=both.len() {
        let mut wire = asked();
        let mut answered = Vec::new();
        for bytes in both.chunks(piece) {
            let (wanted, got) = step(&mut wire, NOW, Happened::Received(Link(0), Bytes::copy_from_slice(bytes)));
            assert_eq!(wanted, []);
            answered.extend(got.into_iter().map(|got| match got {
                Got::Answer { asked, .. } => asked,
                other => panic!("{other:?}"),
            }));
        }
        assert_eq!(answered, [10, 20], "pieces of {piece}");
    }
}

#[test]
fn a_connection_that_says_nothing_is_given_up() {
    let mut wire = asked();
    let later = ClientNow { instant: Instant(1_000_000_000), ..NOW };
    let (wanted, got) = step(&mut wire, later, Happened::Timer);
    assert_eq!(got, [Got::Lost(vec![10, 20])]);
    assert!(wanted.contains(&Wanted::Close(Link(0))));
    assert!(!wire.open(later, &mut Vec::new()), "and dialled again after a while only");
    assert!(wire.wake(true).is_some_and(|at| at > later.instant));
    let (wanted, got) = step(&mut wire, later, Happened::Received(Link(0), metadata(1)));
    assert!(wanted.is_empty() && got.is_empty(), "what comes late belongs to nobody");
}

#[test]
#[should_panic(expected = "again and again")]
fn a_client_that_is_stepped_for_ever_at_one_moment_is_named() {
    let mut alarm = Alarm::default();
    loop {
        alarm.pass(NOW);
        alarm.set(NOW, Some(NOW.instant), &mut Vec::new());
    }
}
