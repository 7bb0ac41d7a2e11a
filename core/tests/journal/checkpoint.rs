//! One of the two checkpoint files always holds a complete checkpoint, whatever happens to the other.

use chronik_core::ids::{Lsn, Uuid};
use chronik_core::journal::checkpoint::{CHUNK_BYTES, CheckpointError, Encoder, Entries, Flaw, Header, Survey, survey};
use chronik_core::journal::{BLOCK_BYTES, MemorySlots, Position};

use super::world::{Dice, JOURNAL, partition};

const FILE_BYTES: u64 = 64 * 1024;

fn header(sequence: u64) -> Header {
    Header { journal: JOURNAL, sequence, replay: Position { lsn: Lsn(sequence * 1000), ..Position::START } }
}

fn entries(sequence: u64) -> Vec<(u8, u64, Vec<u8>)> {
    let mut dice = Dice(sequence);
    (0..20 + sequence)
        .map(|number| (1 + dice.below(255) as u8, number, vec![dice.roll() as u8; dice.below(2000) as usize]))
        .collect()
}

fn encoded(sequence: u64) -> Vec<u8> {
    let mut encoder = Encoder::new(header(sequence));
    for (kind, number, payload) in entries(sequence) {
        let (head, tail) = payload.split_at(payload.len() / 2);
        encoder.entry(kind, partition(number), &[head, tail]);
    }
    encoder.finish().to_vec()
}

fn write(slots: &mut MemorySlots, sequence: u64) {
    slots.write_at(header(sequence).slot(), 0, &encoded(sequence));
}

fn surveyed(slots: &MemorySlots) -> Survey {
    survey(slots, JOURNAL).expect("one is complete")
}

/// Claims that the newest complete checkpoint in `slots` is number `sequence`, or that there is none.
fn check_newest(slots: &MemorySlots, sequence: Option<u64>) {
    let newest = surveyed(slots).newest;
    assert_eq!(newest.map(|newest| newest.header), sequence.map(header));
    let Some(newest) = newest else { return };
    let mut read = Entries::of(slots, &newest);
    for (kind, number, payload) in entries(newest.header.sequence) {
        let entry = read.read().expect("it is complete").expect("there are more");
        assert_eq!((entry.kind, entry.partition, entry.payload), (kind, partition(number), &payload[..]));
    }
    assert_eq!(read.read(), Ok(None));
    assert_eq!(read.read(), Ok(None), "the end stays the end");
}

#[test]
fn the_newest_complete_one_is_found() {
    let mut slots = MemorySlots::zeroed(2, FILE_BYTES);
    check_newest(&slots, None);
    for sequence in 1..6 {
        write(&mut slots, sequence);
        check_newest(&slots, Some(sequence));
        let older = (sequence > 1).then(|| header(sequence - 1));
        assert_eq!((surveyed(&slots).older, surveyed(&slots).passed_over), (older, None));
    }
}

#[test]
fn files_that_do_not_exist_yet_hold_none() {
    assert_eq!(surveyed(&MemorySlots(vec![])).newest, None);
    assert_eq!(surveyed(&MemorySlots(vec![vec![], vec![]])).newest, None);
}

#[test]
fn an_interrupted_one_is_passed_over_whatever_reached_the_disk() {
    let mut dice = Dice(1);
    let mut before = MemorySlots::zeroed(2, FILE_BYTES);
    for sequence in 1..9 {
        let after = {
            let mut after = before.clone();
            write(&mut after, sequence);
            after
        };
        let slot = header(sequence).slot() as usize;
        for _ in 0..40 {
            let mut slots = before.clone();
            for (old, new) in slots.0[slot].chunks_mut(512).zip(after.0[slot].chunks(512)) {
                if dice.below(8) != 0 {
                    old.copy_from_slice(new);
                }
            }
            let is_whole = slots.0[slot][..encoded(sequence).len()] == after.0[slot][..encoded(sequence).len()];
            let expect = if is_whole { sequence } else { sequence - 1 };
            check_newest(&slots, (expect > 0).then_some(expect));
        }
        before = after;
    }
}

#[test]
fn a_flipped_bit_anywhere_makes_it_fall_back() {
    let mut slots = MemorySlots::zeroed(2, FILE_BYTES);
    write(&mut slots, 4);
    write(&mut slots, 5);
    let mut dice = Dice(2);
    let length = surveyed(&slots).newest.expect("both are complete").bytes + 48;
    for byte in (0..200).chain((200..length).step_by(97)).chain(length - 48..length) {
        let bit = 1 << dice.below(8);
        slots.0[1][byte as usize] ^= bit;
        // A flipped number of the journal or of the format is under the header's checksum as well.
        check_newest(&slots, Some(4));
        assert_eq!(surveyed(&slots).passed_over.map(|(slot, _)| slot), Some(1));
        slots.0[1][byte as usize] ^= bit;
    }
    check_newest(&slots, Some(5));
}

#[test]
fn two_damaged_ones_are_an_error_that_names_both() {
    let mut slots = MemorySlots::zeroed(2, FILE_BYTES);
    write(&mut slots, 4);
    write(&mut slots, 5);
    slots.0[0][20] ^= 1;
    slots.0[1][100] ^= 1;
    let error = survey(&slots, JOURNAL).expect_err("neither is complete");
    assert_eq!(error, CheckpointError::BothDamaged { first: Flaw::HeaderDamaged, second: Flaw::EntryDamaged(96) });
    let text = error.to_string();
    assert!(
        text.contains("0.checkpoint: the header is damaged") && text.contains("1.checkpoint: the entry at byte 96"),
        "{text}"
    );
}

#[test]
fn the_first_one_interrupted_leaves_none() {
    let mut slots = MemorySlots::zeroed(2, FILE_BYTES);
    write(&mut slots, 1);
    slots.0[1][100] ^= 1;
    let survey = surveyed(&slots);
    assert_eq!((survey.newest, survey.passed_over), (None, Some((1, Flaw::EntryDamaged(96)))));
}

#[test]
fn another_journals_checkpoint_is_refused() {
    let mut slots = MemorySlots::zeroed(2, FILE_BYTES);
    write(&mut slots, 1);
    let error = survey(&slots, Uuid([1; 16])).expect_err("it is not ours");
    assert_eq!(error, CheckpointError::NotOurs { slot: 1, flaw: Flaw::Foreign(JOURNAL) });
}

#[test]
fn a_large_one_is_written_in_chunks() {
    let mut encoder = Encoder::new(header(2));
    let mut file = Vec::new();
    for number in 0..300u64 {
        encoder.entry(1, partition(number % 8), &[&vec![number as u8; 5000]]);
        while let Some(chunk) = encoder.take_chunk() {
            assert_eq!(chunk.len(), CHUNK_BYTES);
            file.extend_from_slice(&chunk);
        }
    }
    let rest = encoder.finish();
    assert!(rest.len() <= CHUNK_BYTES + BLOCK_BYTES as usize);
    file.extend_from_slice(&rest);
    assert_eq!(file.len() as u64 % BLOCK_BYTES, 0);
    let slots = MemorySlots(vec![file, vec![]]);
    assert_eq!(surveyed(&slots).newest.map(|newest| newest.entries), Some(300));
}
