//! A log's state as a checkpoint holds it.

use bytes::Bytes;
use chronik_core::ids::{Lsn, Offset};
use chronik_core::log::{Log, Read};

use crate::grown::{Grown, PARTITION};
use crate::wire_bodies::entropy::Entropy;

/// The first byte chooses: even, and the rest grows a log whose state must come back as it was.
///
/// Odd is for states of another's making. `Log::decode` takes them at their word as yet: numbers that contradict each
/// other break the log's invariants, and large ones overflow.
pub fn body(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 {
        grown(&mut Entropy::new(rest));
    }
}

fn grown(entropy: &mut Entropy<'_>) {
    let grown = Grown::new(entropy);
    let state = encoded(&grown.log);
    let log = Log::decode(PARTITION, state.clone(), &grown.files).expect("what is written is read");
    log.invariants();
    assert_eq!(encoded(&log), state);
    assert_eq!((log.start(), log.end(), log.durable_end()), (grown.log.start(), grown.log.end(), grown.log.end()));
    assert_eq!(log.oldest_unsynced(), grown.log.oldest_unsynced());
    assert_eq!(log.epochs(), grown.log.epochs());
    assert!(log.producers().iter().eq(grown.log.producers().iter()));
    grown.files.damage(entropy);
    if let Ok(damaged) = Log::decode(PARTITION, state.clone(), &grown.files) {
        assert!(encoded(&damaged) == state);
    }
    if let Some(unsynced) = log.oldest_unsynced() {
        assert!(unsynced < Lsn(u64::MAX) && log.unwritten_bytes() > 0);
    }
    usable(&log);
}

fn usable(log: &Log) {
    let (start, end) = (log.start(), log.end());
    for offset in [start, Offset(start.0 / 2 + end.0 / 2), end] {
        if let Read::Memory(slices, bytes) = log.read(offset, end, 1000) {
            assert_eq!(slices.iter().map(Bytes::len).sum::<usize>(), bytes);
        }
    }
    let _ = (log.bytes(), log.unwritten_bytes(), log.oldest_unsynced(), log.plans_for_max_timestamp());
}

fn encoded(log: &Log) -> Bytes {
    log.encode(Lsn(u64::MAX)).concat().into()
}

/// The input that is read as this state and nothing behind it, where it is short enough for one.
pub fn input(state: &[u8]) -> Vec<u8> {
    let length = u16::try_from(state.len()).expect("a state of less than 64 KiB");
    [&[1], &length.to_be_bytes()[..], state].concat()
}
