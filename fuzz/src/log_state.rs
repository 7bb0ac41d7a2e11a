//! A log's state as a checkpoint holds it, and what the journal adds to it.

use bytes::Bytes;
use chronik_core::ids::{Lsn, Offset};
use chronik_core::journal::RecordKind;
use chronik_core::log::{Log, Read, Wanted};

use crate::files::MemoryFiles;
use crate::grown::{Grown, PARTITION};
use crate::wire_bodies::entropy::Entropy;

/// The first byte chooses: even, and the rest grows a log whose state must come back as it was, and is then changed;
/// odd, and the rest is a state, behind it records of the journal.
pub fn body(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 { grown(&mut Entropy::new(rest)) } else { made(rest) }
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
    assert_eq!(log.high_watermark(), grown.log.high_watermark());
    grown.files.damage(entropy);
    if let Ok(damaged) = Log::decode(PARTITION, state.clone(), &grown.files) {
        assert!(encoded(&damaged) == state);
    }
    if let Some(unsynced) = log.oldest_unsynced() {
        assert!(unsynced < Lsn(u64::MAX) && log.unwritten_bytes() > 0);
    }
    let mut state = state.to_vec();
    for _ in 0..entropy.below(4) {
        let at = entropy.below(state.len().min(1 << 16));
        state[at] = entropy.byte();
    }
    accepted(state.into(), &grown.files);
}

/// Two bytes of length, so much state, then records: a byte of kind, one of length, the payload.
fn made(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let files = MemoryFiles::default();
    let (state, mut records) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let Some(mut log) = accepted(Bytes::copy_from_slice(state), &files) else { return };
    for lsn in (1 << 40).. {
        let Some((&[kind, length], rest)) = records.split_first_chunk() else { break };
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        records = rest;
        let Ok(kind) = RecordKind::from_number(kind) else { break };
        if log.replay(Lsn(lsn), kind, Bytes::copy_from_slice(payload), &files).is_err() {
            break;
        }
        log.invariants();
    }
    usable(&log);
}

/// What is read as a state is a log, written again is the same state, and may be asked anything.
fn accepted(state: Bytes, files: &MemoryFiles) -> Option<Log> {
    let log = Log::decode(PARTITION, state, files).ok()?;
    log.invariants();
    usable(&log);
    // A state is not written again before the journal has brought what it left to it.
    if log.lacks().is_none() {
        let written = encoded(&log);
        let again = Log::decode(PARTITION, written.clone(), files).expect("what is written is read");
        assert_eq!(encoded(&again), written);
    }
    Some(log)
}

fn usable(log: &Log) {
    let (start, end) = (log.start(), log.end());
    for offset in [start, Offset(start.0 / 2 + end.0 / 2), end] {
        if let Read::Memory(slices, bytes) = log.read(offset, end, 1000) {
            assert_eq!(slices.iter().map(Bytes::len).sum::<usize>(), bytes);
        }
    }
    let _ = (log.bytes(), log.unwritten_bytes(), log.oldest_unsynced(), log.search(Wanted::Largest, end));
}

fn encoded(log: &Log) -> Bytes {
    log.encode(Lsn(u64::MAX)).concat().into()
}

/// The input that is read as this state and nothing behind it, where it is short enough for one.
pub fn input(state: &[u8]) -> Vec<u8> {
    let length = u16::try_from(state.len()).expect("a state of less than 64 KiB");
    [&[1], &length.to_be_bytes()[..], state].concat()
}
