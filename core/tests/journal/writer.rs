//! What the journal's writer promises to those who append.

use chronik_core::ids::Lsn;
use chronik_core::journal::{
    BLOCK_BYTES, Class, Geometry, MemorySlots, RECORD_HEADER_BYTES, RecordKind, Start, Writer,
};
use chronik_core::rng::Rng;

use super::world::{JOURNAL, partition, replay};

const FILE_BYTES: u64 = 16 * BLOCK_BYTES;

fn opened(slots: u32, geometry: Geometry) -> Writer {
    let files = MemorySlots::zeroed(slots, geometry.file_bytes);
    let (recovered, _) = replay(&files, &Start::fresh(JOURNAL)).expect("nothing is there");
    let mut writer = Writer::resume(recovered, 1, geometry);
    assert!(!writer.is_settled());
    let first = writer.take_commit().expect("an incarnation opens with a commit");
    assert!(first.must_sync);
    writer.committed(first.number);
    assert!(writer.is_settled());
    writer
}

fn small(slots: u32) -> Writer {
    opened(slots, Geometry { file_bytes: FILE_BYTES, max_files: slots, reserve_bytes: 2 * BLOCK_BYTES })
}

fn append(writer: &mut Writer, payload_bytes: u64) -> Lsn {
    writer.append(RecordKind::Append, partition(0), None, &[&vec![1; payload_bytes as usize]])
}

#[test]
fn an_lsn_is_known_when_its_record_is_appended() {
    let mut writer = small(2);
    assert_eq!(append(&mut writer, 1), Lsn(0));
    assert_eq!(append(&mut writer, 8), Lsn(RECORD_HEADER_BYTES + 8));
    assert_eq!(append(&mut writer, 0), Lsn(2 * (RECORD_HEADER_BYTES + 8)));
    assert_eq!(writer.end(), Lsn(3 * RECORD_HEADER_BYTES + 16));
    assert_eq!(writer.durable(), Lsn(0));
}

#[test]
fn what_arrives_while_a_commit_is_in_flight_makes_the_next() {
    let mut writer = small(2);
    append(&mut writer, 100);
    let first = writer.take_commit().expect("a record is pending");
    append(&mut writer, 100);
    append(&mut writer, 100);
    assert_eq!(writer.take_commit(), None, "one is in flight");
    assert_eq!(writer.committed(first.number), first.end);
    assert_eq!(writer.durable(), first.end);
    let second = writer.take_commit().expect("two records are pending");
    assert_eq!(second.end, writer.end());
    assert_eq!(second.position, first.position + BLOCK_BYTES);
    assert_eq!(writer.committed(second.number), writer.end());
    assert_eq!(writer.take_commit(), None, "nothing is pending");
}

#[test]
fn commits_are_capped_and_fill_a_file_to_the_last_block() {
    let mut writer = opened(2, Geometry::default());
    let record = 64 * 1024;
    while writer.pending_bytes() < 24 * 1024 * 1024 {
        append(&mut writer, record - RECORD_HEADER_BYTES);
    }
    let mut sizes = Vec::new();
    while let Some(commit) = writer.take_commit() {
        assert!(commit.data.len() <= 4 * 1024 * 1024);
        sizes.push((commit.slot, commit.data.len() as u64));
        writer.committed(commit.number);
    }
    // Sixty-three records and the header take a record's length less than 4 MiB, rounded up to whole blocks.
    let full = 63 * record + BLOCK_BYTES;
    assert_eq!(sizes[..4], [(0, full); 4]);
    assert_eq!(sizes[4], (0, 3 * record + BLOCK_BYTES), "as many as the rest of the file holds");
    assert_eq!(sizes[5], (1, full));
}

#[test]
fn the_longest_record_fills_a_file() {
    let mut writer = small(2);
    append(&mut writer, 10);
    let longest = writer.max_record_bytes();
    append(&mut writer, longest);
    let commit = writer.take_commit().expect("a record is pending");
    assert_eq!(commit.slot, 0);
    writer.committed(commit.number);
    let commit = writer.take_commit().expect("a record is pending");
    assert_eq!((commit.slot, commit.position, commit.data.len() as u64), (1, 0, FILE_BYTES));
}

#[test]
fn memory_is_reused_when_the_driver_lets_go_of_it() {
    let mut writer = small(2);
    append(&mut writer, 100);
    let commit = writer.take_commit().expect("a record is pending");
    let (memory, number) = (commit.data.as_ptr(), commit.number);
    assert_eq!(memory.align_offset(BLOCK_BYTES as usize), 0, "direct I/O wants aligned memory");
    drop(commit);
    writer.committed(number);
    append(&mut writer, 100);
    let commit = writer.take_commit().expect("a record is pending");
    assert_eq!(commit.data.as_ptr(), memory);
}

#[test]
fn an_idle_journal_is_sealed_once() {
    let mut writer = small(2);
    writer.seal();
    assert_eq!(writer.take_commit(), None, "the commit that opened the incarnation holds no records");
    append(&mut writer, 100);
    writer.seal();
    let commit = writer.take_commit().expect("a record is pending");
    assert!(commit.end > Lsn(0), "what is pending goes first");
    writer.committed(commit.number);
    assert_eq!(writer.take_commit(), None);
    writer.seal();
    let seal = writer.take_commit().expect("a seal was asked for");
    assert_eq!((seal.end, seal.data.len() as u64), (commit.end, BLOCK_BYTES));
    writer.committed(seal.number);
    writer.seal();
    assert_eq!(writer.take_commit(), None, "it is sealed");
}

#[test]
fn produce_is_refused_while_the_node_still_has_room_for_itself() {
    let mut writer = small(2);
    let payload = BLOCK_BYTES - 1000;
    let mut admitted = 0;
    while writer.has_room(payload, Class::Ordinary) {
        append(&mut writer, payload);
        let commit = writer.take_commit().expect("what is admitted has room");
        writer.committed(commit.number);
        admitted += 1;
    }
    assert_eq!(admitted, 2 * 16 - 1 - 2, "all blocks but the opening commit's and the reserve's");
    assert!(writer.has_room(payload, Class::Critical));
    assert_eq!(writer.free_bytes(), 2 * BLOCK_BYTES);
    assert_eq!(writer.used_bytes(), 2 * FILE_BYTES - 2 * BLOCK_BYTES);
    writer.recycle(writer.durable());
    assert!(writer.has_room(payload, Class::Ordinary), "the first file is free again");
}

#[test]
fn room_counts_what_is_pending() {
    let mut writer = small(1);
    append(&mut writer, 10 * BLOCK_BYTES);
    assert!(writer.has_room(BLOCK_BYTES, Class::Ordinary));
    assert!(!writer.has_room(3 * BLOCK_BYTES, Class::Ordinary));
    assert!(writer.has_room(3 * BLOCK_BYTES, Class::Critical));
    assert!(!writer.has_room(5 * BLOCK_BYTES, Class::Critical));
    assert!(!writer.has_room(FILE_BYTES, Class::Critical), "no file holds such a record");
}

#[test]
fn a_commit_without_room_waits_for_a_free_file() {
    let mut writer = small(2);
    for _ in 0..3 {
        append(&mut writer, 10 * BLOCK_BYTES);
    }
    for slot in 0..2 {
        let commit = writer.take_commit().expect("there is room");
        assert_eq!(commit.slot, slot);
        writer.committed(commit.number);
    }
    assert_eq!(writer.take_commit(), None);
    assert!(!writer.has_room(0, Class::Critical), "what is pending already has none");
    writer.add_slot();
    assert_eq!(writer.take_commit().map(|commit| commit.slot), Some(2));
}

#[test]
fn more_files_are_wanted_until_there_are_enough_to_spare() {
    let mut writer = opened(1, Geometry { file_bytes: FILE_BYTES, max_files: 8, reserve_bytes: 2 * BLOCK_BYTES });
    while writer.wants_slot() {
        writer.add_slot();
    }
    assert_eq!(writer.slots(), 5);
    let longest = writer.max_record_bytes();
    append(&mut writer, longest);
    assert!(writer.take_commit().is_some());
    assert!(writer.wants_slot());
    writer.add_slot();
    assert!(!writer.wants_slot());
}

#[test]
fn only_some_kinds_must_be_synced_where_appends_need_not() {
    for (kind, must_sync) in [
        (RecordKind::Append, false),
        (RecordKind::AppendDirect, false),
        (RecordKind::PartitionState, false),
        (RecordKind::Truncate, true),
        (RecordKind::Metadata, true),
        (RecordKind::NodeState, true),
    ] {
        let mut writer = small(2);
        append(&mut writer, 10);
        writer.append(kind, partition(1), Some(Lsn(0)), &[b"x"]);
        append(&mut writer, 10);
        assert_eq!(writer.take_commit().map(|commit| commit.must_sync), Some(must_sync), "{kind:?}");
    }
}

#[test]
fn records_that_are_shorter_than_was_asked_about_need_no_more_files() {
    let mut rng = Rng::from_number(7);
    let mut admitted = 0;
    for _ in 0..3000 {
        let mut writer = opened(2, Geometry { file_bytes: FILE_BYTES, max_files: 2, reserve_bytes: 0 });
        append(&mut writer, rng.below(FILE_BYTES / 2));
        let commit = writer.take_commit().expect("a record is pending");
        writer.committed(commit.number);
        append(&mut writer, rng.below(FILE_BYTES / 2));
        let asked: Vec<u64> = (0..3).map(|_| 1000 + rng.below(FILE_BYTES / 2)).collect();
        if writer.has_room_for(asked.iter().copied(), Class::Ordinary) {
            admitted += 1;
            for bytes in &asked {
                append(&mut writer, bytes - rng.below(1000));
            }
            assert!(!writer.is_overrun(), "{asked:?}");
        }
    }
    assert!((100..2900).contains(&admitted), "{admitted} were admitted");
}
