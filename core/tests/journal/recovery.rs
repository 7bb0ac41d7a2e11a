//! What recovery says in the corners that chance seldom reaches.

use chronik_core::ids::{Lsn, Uuid};
use chronik_core::journal::{
    BLOCK_BYTES, Class, Commit, Cut, Damage, Malformed, MemorySlots, Place, Position, ReadError, Record, RecordKind,
    RecoveryError, Slots, Start, Visitor, Writer, recover,
};

use super::world::{GEOMETRY, JOURNAL, Listener, partition, replay};

const BLOCKS: u64 = GEOMETRY.file_bytes / BLOCK_BYTES;

/// A journal without crashes in between.
struct Journal {
    slots: MemorySlots,
    writer: Writer,
}

impl Journal {
    fn new(slots: u32) -> Journal {
        Journal::open(MemorySlots::zeroed(slots, GEOMETRY.file_bytes), 1)
    }

    fn open(slots: MemorySlots, incarnation: u64) -> Journal {
        let (recovered, _) = replay(&slots, &Start::fresh(JOURNAL)).expect("nothing is lost");
        let mut journal = Journal { slots, writer: Writer::resume(recovered, incarnation, GEOMETRY) };
        while !journal.writer.is_settled() {
            journal.commit();
        }
        journal
    }

    fn take(&mut self, blocks: u64) -> Commit {
        let payload = vec![blocks as u8; ((blocks - 1) * BLOCK_BYTES) as usize];
        self.writer.append(RecordKind::Append, partition(1), None, &[&payload]);
        self.writer.take_commit().expect("a record is pending")
    }

    fn commit(&mut self) {
        let commit = self.writer.take_commit().expect("a commit is due");
        self.write(&commit);
        self.writer.committed(commit.number);
    }

    fn append(&mut self, blocks: u64) {
        let commit = self.take(blocks);
        self.write(&commit);
        self.writer.committed(commit.number);
    }

    fn write(&mut self, commit: &Commit) {
        self.slots.write_at(commit.slot, commit.position, &commit.data);
    }

    fn records(&self) -> Vec<Lsn> {
        let (_, listener) = replay(&self.slots, &Start::fresh(JOURNAL)).expect("nothing is lost");
        listener.told.iter().map(|told| told.lsn).collect()
    }
}

#[test]
fn a_cut_commit_stays_cut_when_its_missing_block_turns_up() {
    let mut journal = Journal::new(2);
    journal.append(2);
    let cut = journal.take(4);
    journal.slots.write_at(cut.slot, cut.position, &cut.data[..3 * BLOCK_BYTES as usize]);

    let mut journal = Journal::open(journal.slots, 2);
    assert_eq!(journal.records(), [Lsn(0)]);
    // The block that was missing, and all others behind the new commit, as if the disk had found them again.
    journal.slots.write_at(cut.slot, cut.position + BLOCK_BYTES, &cut.data[BLOCK_BYTES as usize..]);
    assert_eq!(journal.records(), [Lsn(0)]);
    journal.append(1);
    assert_eq!(journal.records().len(), 2);
}

#[test]
fn a_commit_that_was_cut_at_the_start_of_a_file_is_buried_there() {
    let mut journal = Journal::new(3);
    journal.append(BLOCKS - 3);
    let cut = journal.take(8);
    assert_eq!((cut.slot, cut.position), (1, 0), "it does not fit behind the other one");
    journal.slots.write_at(cut.slot, cut.position, &cut.data[..4 * BLOCK_BYTES as usize]);

    let (recovered, _) = replay(&journal.slots, &Start::fresh(JOURNAL)).expect("nothing is lost");
    assert_eq!(recovered.cut.map(|cut| cut.place), Some(Place { slot: 1, position: 0 }));
    let mut journal = Journal::open(journal.slots, 2);
    journal.append(8);
    journal.append(8);
    assert_eq!(journal.records().len(), 3);
    // Were the torn commit's header still there, damage to the one that took its number would be blamed on it.
    let (recovered, _) = replay(&journal.slots, &Start::fresh(JOURNAL)).expect("nothing is lost");
    assert_eq!(recovered.files.iter().map(|file| file.slot).collect::<Vec<_>>(), [0, 1, 2]);
    journal.slots.0[1][50] ^= 1;
    let lost = replay(&journal.slots, &Start::fresh(JOURNAL)).map(|_| ());
    match lost {
        Err(RecoveryError::CommitLost { place, number, .. }) => {
            assert_eq!((place, number), (Place { slot: 1, position: 0 }, cut.number));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_lap_is_never_taken_for_this_one() {
    let mut journal = Journal::new(2);
    for _ in 0..3 * BLOCKS {
        journal.append(1);
        journal.writer.recycle(journal.writer.durable());
    }
    let start = Start { replay: journal.writer.durable_position(), ..Start::fresh(JOURNAL) };
    let (recovered, listener) = replay(&journal.slots, &start).expect("nothing is lost");
    assert_eq!((recovered.position, listener.told), (start.replay, vec![]));
}

#[test]
fn a_record_of_the_last_lap_never_completes_a_torn_commit() {
    let mut journal = Journal::new(2);
    // With the opening commit two blocks: commits of two fill the rest of each file.
    journal.append(1);
    // Two records, each of which ends with its block: in every lap the second block holds one whole record.
    let two_blocks = |journal: &mut Journal, fill: u8| {
        for payload_bytes in [BLOCK_BYTES - 96 - 56, BLOCK_BYTES - 56] {
            let payload = vec![fill; payload_bytes as usize];
            journal.writer.append(RecordKind::Append, partition(1), None, &[&payload]);
        }
        journal.writer.take_commit().expect("two records are pending")
    };
    for lap in 0..2 * BLOCKS {
        let commit = two_blocks(&mut journal, lap as u8);
        journal.write(&commit);
        journal.writer.committed(commit.number);
        journal.writer.recycle(commit.end);
    }
    let start = Start { replay: journal.writer.durable_position(), ..Start::fresh(JOURNAL) };
    let torn = two_blocks(&mut journal, 77);
    journal.slots.write_at(torn.slot, torn.position, &torn.data[..BLOCK_BYTES as usize]);
    let (recovered, listener) = replay(&journal.slots, &start).expect("nothing is lost");
    assert_eq!(recovered.cut.map(|cut| (cut.number, cut.why)), Some((torn.number, Malformed::RecordLsn)));
    assert_eq!(listener.told, []);
}

#[test]
fn commits_behind_a_cut_one_never_continue_the_chain_that_took_its_place() {
    let mut journal = Journal::new(2);
    journal.append(1);
    // Without waiting for syncs: three commits, of which the first does not reach the disk.
    for number in 0..3 {
        journal.writer.append(RecordKind::Append, partition(1), None, &[&[number; 100]]);
        let commit = journal.writer.take_commit().expect("a record is pending");
        if number > 0 {
            journal.write(&commit);
        }
        journal.writer.written(commit.number);
    }
    let (recovered, _) = replay(&journal.slots, &Start::fresh(JOURNAL)).expect("nothing durable is lost");
    assert_eq!(recovered.cut.map(|cut| cut.later), Some(2));
    // Now an empty commit and one of two records: the next has the number, place and first LSN of the old third one.
    let mut journal = Journal::open(journal.slots, 2);
    for number in 0..2 {
        journal.writer.append(RecordKind::Append, partition(1), None, &[&[10 + number; 100]]);
    }
    journal.commit();
    let (recovered, listener) = replay(&journal.slots, &Start::fresh(JOURNAL)).expect("nothing is lost");
    assert_eq!(recovered.position, journal.writer.durable_position());
    assert_eq!(listener.told[1..].iter().map(|told| told.payload[0]).collect::<Vec<_>>(), [10, 11]);
}

/// A torn commit in whose payload, at the start of a block, lies a commit's header with `block`, file `sequence` and
/// journal, of a number far ahead, that says of everything before it that it was durable. Returns what recovery finds.
fn imitated(block: u32, sequence: u64, uuid: Uuid) -> Result<Option<Cut>, RecoveryError> {
    let mut journal = Journal::new(2);
    journal.append(1);
    let mut forged = journal.slots.0[0][..96].to_vec();
    forged[12..16].copy_from_slice(&block.to_le_bytes());
    forged[16..32].copy_from_slice(&uuid.0);
    forged[40..48].copy_from_slice(&100u64.to_le_bytes());
    forged[48..56].copy_from_slice(&sequence.to_le_bytes());
    forged[72..80].copy_from_slice(&99u64.to_le_bytes());
    let crc = crc32(&forged[..92]);
    forged[92..].copy_from_slice(&crc.to_le_bytes());
    let payload = [&vec![0; BLOCK_BYTES as usize - 96 - 56], &forged[..], &[1; 9000]].concat();
    journal.writer.append(RecordKind::Append, partition(1), None, &[&payload]);
    let torn = journal.writer.take_commit().expect("a record is pending");
    assert_eq!((torn.position, &torn.data[BLOCK_BYTES as usize..][..96]), (2 * BLOCK_BYTES, &forged[..]));
    journal.slots.write_at(torn.slot, torn.position, &torn.data[..2 * BLOCK_BYTES as usize]);
    replay(&journal.slots, &Start::fresh(JOURNAL)).map(|(recovered, _)| recovered.cut)
}

#[test]
fn a_payload_that_imitates_a_commit_must_know_where_it_will_lie_and_in_which_journal() {
    let block = 3;
    for (block, sequence, uuid) in [(block + 1, 1, JOURNAL), (block, 2, JOURNAL), (block, 1, Uuid([7; 16]))] {
        let cut = imitated(block, sequence, uuid).expect("nothing is lost");
        assert_eq!(cut.map(|cut| cut.number), Some(3));
    }
    // All of it only somebody who reads the data folder can know: then the node rather stops than cuts.
    assert!(matches!(imitated(block, 1, JOURNAL), Err(RecoveryError::CommitLost { .. })));
}

#[test]
fn a_file_that_ends_where_the_replay_starts_is_kept_for_its_empty_commits() {
    let mut journal = Journal::new(2);
    journal.append(BLOCKS - 3);
    let position = journal.writer.durable_position();
    let mut journal = Journal::open(journal.slots, 2);
    assert_eq!(journal.writer.durable(), position.lsn, "the new incarnation's commit holds no record");
    journal.append(BLOCKS);
    journal.writer.recycle(position.lsn);
    assert!(!journal.writer.has_room(BLOCK_BYTES, Class::Critical));
    let start = Start { replay: position, keep: position.lsn, ..Start::fresh(JOURNAL) };
    let (recovered, listener) = replay(&journal.slots, &start).expect("nothing is lost");
    assert_eq!((recovered.commits, listener.told.len()), (2, 1));
    assert_eq!(recovered.files.iter().map(|file| file.slot).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn files_that_an_older_checkpoint_needs_are_kept() {
    let mut journal = Journal::new(5);
    let mut positions = Vec::new();
    for _ in 0..4 {
        journal.append(BLOCKS - 1);
        positions.push(journal.writer.durable_position());
    }
    let kept = |keep: Lsn| {
        let start = Start { replay: positions[3], keep, ..Start::fresh(JOURNAL) };
        let (recovered, _) = replay(&journal.slots, &start).expect("nothing is lost");
        recovered.files.iter().map(|file| file.slot).collect::<Vec<_>>()
    };
    assert_eq!(kept(Lsn(0)), [0, 1, 2, 3]);
    assert_eq!(kept(positions[0].lsn), [0, 1, 2, 3], "empty commits may follow");
    assert_eq!(kept(Lsn(positions[0].lsn.0 + 1)), [1, 2, 3], "all of file 0 lies below");
    assert_eq!(kept(positions[1].lsn), [1, 2, 3]);
    assert_eq!(kept(positions[3].lsn), [3]);
}

#[test]
fn another_journals_files_are_refused() {
    let journal = Journal::new(1);
    let other = Uuid([9; 16]);
    let found = replay(&journal.slots, &Start::fresh(other)).map(|_| ());
    assert_eq!(found, Err(RecoveryError::Foreign { place: Place { slot: 0, position: 0 }, journal: JOURNAL }));
}

#[test]
fn a_newer_format_is_refused_wherever_it_begins() {
    let mut journal = Journal::new(1);
    journal.append(1);
    journal.append(1);
    for block in 0..3 {
        let mut slots = journal.slots.clone();
        let header = &mut slots.0[0][(block * BLOCK_BYTES) as usize..][..96];
        header[8] = 2;
        let crc = crc32(&header[..92]);
        header[92..].copy_from_slice(&crc.to_le_bytes());
        let found = replay(&slots, &Start::fresh(JOURNAL)).map(|_| ());
        assert!(matches!(found, Err(RecoveryError::Newer { .. })), "{found:?}");
    }
}

/// CRC-32 bit by bit, an opinion of its own on the journal's checksums.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn a_start_outside_the_files_is_refused() {
    let journal = Journal::new(1);
    for (slot, position) in [(1, 0), (0, 100), (0, GEOMETRY.file_bytes + BLOCK_BYTES), (u32::MAX, u64::MAX)] {
        let replay_from = Position { slot, position, ..Position::START };
        let found = replay(&journal.slots, &Start { replay: replay_from, ..Start::fresh(JOURNAL) }).map(|_| ());
        assert_eq!(found, Err(RecoveryError::NoSuchPlace { place: Place { slot, position } }));
    }
}

/// A file with one block that cannot be read.
struct Spoiled<'a> {
    slots: &'a MemorySlots,
    bad: Place,
}

impl Slots for Spoiled<'_> {
    fn slots(&self) -> u32 {
        self.slots.slots()
    }

    fn len(&self, slot: u32) -> u64 {
        self.slots.len(slot)
    }

    fn read_at(&self, slot: u32, position: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let Place { slot: bad_slot, position: bad } = self.bad;
        if slot == bad_slot && position < bad + BLOCK_BYTES && position + into.len() as u64 > bad {
            return Err(ReadError("medium error".into()));
        }
        self.slots.read_at(slot, position, into)
    }
}

#[test]
fn a_block_that_cannot_be_read_is_no_tear() {
    let mut journal = Journal::new(2);
    journal.append(3);
    journal.append(3);
    for block in 0..BLOCKS {
        let bad = Place { slot: 0, position: block * BLOCK_BYTES };
        let spoiled = Spoiled { slots: &journal.slots, bad };
        let found = recover(&spoiled, &Start::fresh(JOURNAL), &mut Listener::default());
        assert_eq!(found, Err(RecoveryError::Unreadable { place: bad, error: ReadError("medium error".into()) }));
    }
}

struct Picky;

impl Visitor for Picky {
    fn record(&mut self, _record: &Record<'_>) -> Result<(), String> {
        Err("this makes no sense".into())
    }

    fn damaged(&mut self, _damage: &Damage) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_visitor_that_declines_ends_it_with_the_place() {
    let mut journal = Journal::new(1);
    journal.append(1);
    let error = recover(&journal.slots, &Start::fresh(JOURNAL), &mut Picky).expect_err("it declines");
    assert_eq!(error.to_string(), "journal/0000.journal at byte 4192: this makes no sense");
}

#[test]
fn a_full_ring_can_still_be_opened() {
    let mut journal = Journal::new(1);
    journal.append(BLOCKS - 1);
    let (recovered, _) = replay(&journal.slots, &Start::fresh(JOURNAL)).expect("nothing is lost");
    let geometry = chronik_core::journal::Geometry { max_files: 1, ..GEOMETRY };
    let mut writer = Writer::resume(recovered, 2, geometry);
    let last = writer.take_commit().expect("the last commit is written again");
    assert_eq!(writer.durable(), Lsn(0), "it may be in the page cache only");
    writer.committed(last.number);
    assert_eq!((writer.durable(), writer.take_commit()), (last.end, None));
    assert!(writer.wants_slot(), "one more than the most that there should be");
    assert!(!writer.is_overrun(), "nothing is appended yet: it waits for that file");
    writer.add_slot();
    assert!(!writer.wants_slot());
    assert_eq!(writer.take_commit().map(|commit| (commit.slot, commit.end)), Some((1, last.end)));
}

#[test]
fn what_a_start_appends_has_room_where_only_the_opening_has() {
    let mut journal = Journal::new(1);
    journal.append(BLOCKS - 2);
    let (recovered, _) = replay(&journal.slots, &Start::fresh(JOURNAL)).expect("nothing is lost");
    let geometry = chronik_core::journal::Geometry { max_files: 1, ..GEOMETRY };
    let mut writer = Writer::resume(recovered, 2, geometry);
    writer.append(RecordKind::Metadata, chronik_core::ids::TopicPartition::NODE, None, &[b"begins"]);
    let last = writer.take_commit().expect("the last commit is written again");
    writer.committed(last.number);
    let opening = writer.take_commit().expect("there is room for one more");
    writer.committed(opening.number);
    assert!(writer.wants_slot() && !writer.is_overrun(), "it waits for a file and not for a checkpoint");
    writer.add_slot();
    let begun = writer.take_commit().expect("there is room now");
    assert_eq!(begun.slot, 1);
    writer.committed(begun.number);
    // From now on whoever appends without asking is overrun.
    while !writer.is_overrun() {
        writer.append(RecordKind::Metadata, chronik_core::ids::TopicPartition::NODE, None, &[&[0; 1_000]]);
    }
    assert!(!writer.wants_slot());
}

#[test]
fn a_position_comes_back_as_it_was_written() {
    let position = Position {
        slot: 1,
        position: 2,
        file_sequence: 3,
        commit_number: 4,
        previous_header_crc: 5,
        lsn: Lsn(6),
        incarnation: 7,
    };
    assert_eq!(Position::decode(&position.encode()), position);
}
