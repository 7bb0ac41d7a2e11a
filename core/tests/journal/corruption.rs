//! Damage to what was durable is always told, and names its victim.

use chronik_core::ids::TopicPartition;
use chronik_core::journal::{
    BLOCK_BYTES, Geometry, Malformed, MemorySlots, Place, RecordKind, RecoveryError, Seen, Start, Writer, inspect,
    recover_bytes,
};

use super::world::{Dice, JOURNAL, Listener, World, partition, replay};

const COMMIT_HEADER: u64 = 96;
const RECORD_HEADER: u64 = 56;

/// What a byte of the journal belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    CommitHeader,
    RecordHeader,
    Payload(TopicPartition, RecordKind),
    Padding,
}

/// A journal of several commits over two files, idle and therefore sealed.
fn sealed_journal() -> World {
    let mut world = World::new(2);
    let mut dice = Dice(11);
    for commit in 0..9 {
        for record in 0..3 {
            let kind = [RecordKind::Append, RecordKind::PartitionState, RecordKind::Metadata][record as usize];
            let length = if commit % 4 == 3 { 6000 } else { dice.below(300) };
            let payload = (0..length).map(|_| dice.roll() as u8).collect();
            world.append(kind, partition(commit % 3 + record), payload);
        }
        world.commit();
    }
    world.writer.seal();
    world.commit();
    world
}

/// A commit's place, and its parts: where each starts and ends in the file.
type Parts = (Place, Vec<(u64, u64, Part)>);

fn parts(slots: &MemorySlots) -> Vec<Parts> {
    let mut commits: Vec<Parts> = Vec::new();
    for slot in 0..2 {
        for seen in inspect(slots, slot) {
            match seen {
                Seen::Commit { place, header, .. } => {
                    let end = place.position + COMMIT_HEADER;
                    let records_end = end + u64::from(header.length);
                    commits.push((
                        place,
                        vec![
                            (place.position, end, Part::CommitHeader),
                            (records_end, place.position + header.size(), Part::Padding),
                        ],
                    ));
                }
                Seen::Record { place, header, .. } => {
                    let kind = RecordKind::from_number(header.kind).expect("only known kinds were written");
                    let (_, parts) = commits.last_mut().expect("records follow their commit");
                    let payload = place.position + RECORD_HEADER;
                    parts.push((place.position, payload, Part::RecordHeader));
                    parts.push((payload, place.position + header.size(), Part::Payload(header.partition, kind)));
                }
                Seen::NoCommits { is_zero, .. } => assert!(is_zero),
                other => panic!("nothing is damaged: {other}"),
            }
        }
    }
    commits
}

fn check_is_told(slots: &MemorySlots, (commit, part): (Place, Part), bit: &str, expect: &Listener) {
    let found = replay(slots, &Start::fresh(JOURNAL));
    match part {
        Part::CommitHeader => match found.map(|(recovered, _)| recovered) {
            Err(RecoveryError::CommitLost { place, .. }) => assert_eq!(place, commit, "{bit}"),
            other => panic!("{bit}: {other:?}"),
        },
        Part::RecordHeader | Part::Payload(_, RecordKind::Metadata) => match found.map(|(recovered, _)| recovered) {
            Err(RecoveryError::RecordLost { place, .. }) => {
                assert_eq!(place.slot, commit.slot, "{bit}");
                assert!(place.position > commit.position, "{bit}");
            }
            other => panic!("{bit}: {other:?}"),
        },
        Part::Payload(partition, kind) => {
            let (_, listener) = found.unwrap_or_else(|error| panic!("{bit}: {error}"));
            assert_eq!(listener.damages.len(), 1, "{bit}");
            let (damaged, damaged_kind, lsn) = listener.damages[0].record.expect("a record is damaged");
            assert_eq!((damaged, damaged_kind), (partition, kind), "{bit}");
            let rest: Vec<_> = expect.told.iter().filter(|told| told.lsn != lsn).cloned().collect();
            assert_eq!(listener.told, rest, "{bit}: all other records are told");
        }
        Part::Padding => {
            let (_, listener) = found.unwrap_or_else(|error| panic!("{bit}: {error}"));
            assert_eq!(listener.damages.len(), 1, "{bit}");
            assert_eq!((listener.damages[0].what, listener.damages[0].record), (Malformed::CommitPadding, None));
            assert_eq!(listener.told, expect.told);
        }
    }
}

#[test]
fn a_flipped_bit_in_any_durable_commit_is_told_and_names_its_partition() {
    let world = sealed_journal();
    let (recovered, whole) = replay(&world.disk.cache, &Start::fresh(JOURNAL)).expect("nothing is damaged");
    assert_eq!(recovered.cut, None);
    assert_eq!(whole.told, world.durable());
    let mut slots = world.disk.cache.clone();
    let mut commits = parts(&slots);
    let seal = commits.pop().expect("there are commits");
    assert_eq!(seal.1.len(), 2, "the last commit holds no records");
    let mut dice = Dice(5);
    let mut flips = 0;
    for (commit, parts) in commits {
        for (start, end, part) in parts {
            // Every byte of the headers, and a sample of what is longer.
            let stride = ((end - start) / 64).max(1);
            for byte in (start..end).step_by(stride as usize) {
                let (byte, bit) = ((byte + dice.below(stride)).min(end - 1), dice.below(8));
                slots.0[commit.slot as usize][byte as usize] ^= 1 << bit;
                let what = format!("{part:?} of the commit in {commit}: byte {byte}, bit {bit}");
                check_is_told(&slots, (commit, part), &what, &whole);
                slots.0[commit.slot as usize][byte as usize] ^= 1 << bit;
                flips += 1;
            }
        }
    }
    assert!(flips > 1000);
}

#[test]
fn a_lost_block_of_any_durable_commit_is_told() {
    let world = sealed_journal();
    let mut commits = parts(&world.disk.cache);
    let (seal, _) = commits.pop().expect("there are commits");
    for slot in 0..2 {
        for position in (0..world.disk.cache.0[slot as usize].len() as u64).step_by(BLOCK_BYTES as usize) {
            let mut slots = world.disk.cache.clone();
            let block = vec![0; BLOCK_BYTES as usize];
            slots.write_at(slot, position, &block);
            if slots == world.disk.cache || (Place { slot, position }) == seal {
                continue;
            }
            match replay(&slots, &Start::fresh(JOURNAL)) {
                Ok((_, listener)) => assert!(!listener.damages.is_empty(), "file {slot} at {position}"),
                Err(RecoveryError::CommitLost { place, .. } | RecoveryError::RecordLost { place, .. }) => {
                    assert!(place.slot == slot && place.position <= position + BLOCK_BYTES, "{place} {position}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_file_cut_short_is_told() {
    let world = sealed_journal();
    let (place, _) = parts(&world.disk.cache)[3];
    for length in [place.position, place.position + 1, place.position + BLOCK_BYTES] {
        let mut slots = world.disk.cache.clone();
        slots.0[place.slot as usize].truncate(length as usize);
        let found = replay(&slots, &Start::fresh(JOURNAL)).map(|(recovered, _)| recovered);
        assert!(matches!(found, Err(RecoveryError::CommitLost { .. })), "{length}: {found:?}");
    }
}

#[test]
fn a_damaged_file_can_still_be_shown() {
    let world = sealed_journal();
    let mut slots = world.disk.cache.clone();
    let commits = parts(&slots);
    let payload = commits[2].1.iter().find(|(.., part)| matches!(part, Part::Payload(..))).expect("it has records").0;
    slots.0[0][payload as usize] ^= 1;
    slots.0[0][commits[4].0.position as usize + 20] ^= 1;
    let seen: Vec<_> = inspect(&slots, 0).collect();
    let damaged = seen.iter().filter(|seen| matches!(seen, Seen::Record { payload: Err(_), .. })).count();
    assert_eq!(damaged, 1);
    let broken = Seen::Damaged { place: commits[4].0, what: Malformed::CommitHeaderChecksum };
    assert!(seen.contains(&broken));
    let lines: Vec<_> = seen.iter().map(Seen::to_string).collect();
    assert!(lines.iter().any(|line| line.contains("DAMAGED: a payload's checksum is wrong")), "{lines:#?}");
    assert!(seen.windows(2).all(|pair| pair[0].place() <= pair[1].place()), "{lines:#?}");
}

/// A few files of a sound journal, small enough for the fuzzer's body.
fn small_journal(dice: &mut Dice) -> Vec<u8> {
    let geometry = Geometry { file_bytes: 4 * BLOCK_BYTES, max_files: 4, reserve_bytes: 0 };
    let mut slots = MemorySlots::zeroed(4, geometry.file_bytes);
    let (recovered, _) = replay(&slots, &Start::fresh(JOURNAL)).expect("nothing is there");
    let mut writer = Writer::resume(recovered, 9, geometry);
    for _ in 0..12 {
        for _ in 0..dice.below(3) {
            let payload = vec![dice.roll() as u8; dice.below(5000) as usize];
            writer.append(RecordKind::Append, partition(dice.below(4)), None, &[&payload]);
        }
        if let Some(commit) = writer.take_commit() {
            slots.write_at(commit.slot, commit.position, &commit.data);
            writer.committed(commit.number);
        }
        if dice.below(4) == 0 {
            writer.recycle(writer.durable());
        }
    }
    slots.0.concat()
}

#[test]
fn hostile_bytes_neither_panic_nor_change_what_was_accepted() {
    let mut dice = Dice(99);
    recover_bytes(&[]);
    for _ in 0..60 {
        let noise: Vec<u8> = (0..dice.below(20_000)).map(|_| dice.roll() as u8).collect();
        recover_bytes(&noise);
        let mut bytes = small_journal(&mut dice);
        recover_bytes(&bytes);
        for _ in 0..6 {
            // Where fields are, so that lengths, numbers and sequences take strange values behind mended checksums.
            let block = dice.below(bytes.len() as u64 / BLOCK_BYTES) * BLOCK_BYTES;
            let at = (block + dice.below(200)) as usize;
            bytes[at] = if dice.below(2) == 0 { dice.roll() as u8 } else { [0, 1, 255, 128][dice.below(4) as usize] };
            recover_bytes(&bytes);
        }
        bytes.truncate(dice.below(bytes.len() as u64) as usize);
        recover_bytes(&bytes);
    }
}
