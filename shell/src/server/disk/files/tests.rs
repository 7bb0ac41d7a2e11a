use std::sync::atomic::AtomicU32;

use chronik_core::boundary::SegmentName;
use chronik_core::ids::Uuid;

use super::*;

/// A folder that goes away with the test. It lies beside the build, on a real disk: folders for temporary files are
/// often in memory, where nothing is ever full or synced.
struct TestFolder(PathBuf);

impl TestFolder {
    fn new() -> TestFolder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let beside = std::env::current_exe().expect("the test runs from a file");
        TestFolder(beside.with_file_name(name))
    }

    fn open(&self) -> DataFolder {
        DataFolder::open(&self.0, 64, JournalWrites::Direct).expect("the folder can be made")
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder can be removed");
    }
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: Uuid([0xfb; 16]), partition: index }
}

fn segment(index: i32, base: i64) -> FileName {
    FileName::Segment(SegmentName::appended(partition(index), Offset(base)))
}

fn pieces(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

fn read(files: &DataFolder, file: FileName, position: u64, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; bytes];
    let filled = files.read_at(file, position, &mut buffer).expect("the file can be read");
    buffer.truncate(filled);
    buffer
}

/// Whole blocks in memory that is aligned to them, as the journal makes its commits.
fn aligned(fill: u8, blocks: usize) -> Bytes {
    let bytes = Bytes::from(vec![fill; (blocks + 1) * BLOCK]);
    let start = bytes.as_ptr().align_offset(BLOCK);
    bytes.slice(start..start + blocks * BLOCK)
}

#[test]
fn what_is_written_in_pieces_is_read_as_one() {
    let folder = TestFolder::new();
    let files = folder.open();
    let file = segment(0, 42);
    assert_eq!(files.len(file), Ok(None));
    files.write_at(file, 0, &pieces(&["one", "", "two", "three"])).expect("written");
    files.write_at(file, 3, &pieces(&["TWO"])).expect("written");
    assert_eq!(files.len(file), Ok(Some(11)));
    assert_eq!(read(&files, file, 0, 100), b"oneTWOthree", "fewer bytes only at the end of the file");
    assert_eq!(read(&files, file, 3, 3), b"TWO");
    assert_eq!(read(&files, file, 11, 3), b"");
    files.sync(file).expect("synced");
    assert_eq!(read(&folder.open(), file, 0, 100), b"oneTWOthree");
}

#[test]
fn more_pieces_than_the_kernel_takes_at_once_are_written() {
    let folder = TestFolder::new();
    let files = folder.open();
    let many: Vec<Bytes> = (0..2 * PIECES_MAX + 7).map(|at| Bytes::from(vec![at as u8; at % 3])).collect();
    files.write_at(segment(0, 0), 5, &many).expect("written");
    assert_eq!(read(&files, segment(0, 0), 5, 10_000), many.concat());
}

#[test]
fn what_becomes_much_of_a_segment_is_sent_to_the_disk_and_is_still_to_be_synced() {
    let folder = TestFolder::new();
    let files = folder.open();
    let file = segment(0, 0);
    let behind = || {
        let open = files.find(file).expect("found").expect("exists");
        (open.behind.load(Ordering::Relaxed), open.progress.is_settled())
    };
    let piece = Bytes::from(vec![7; 300 << 10]);
    files.write_at(file, 0, std::slice::from_ref(&piece)).expect("written");
    assert_eq!(behind(), (300 << 10, false));
    // Four pieces by one call, which are more than is left behind, four more, and one.
    files.write_at(file, 300 << 10, &vec![piece.clone(); 9]).expect("written");
    assert_eq!(behind(), (300 << 10, false));
    assert_eq!(files.len(file), Ok(Some(3000 << 10)));
    assert!(read(&files, file, 0, 4 << 20) == piece.repeat(10), "in one piece");

    files.begin_sync(file).expect("sent");
    assert_eq!(behind(), (0, false), "what is on its way is not there yet");
    files.sync(file).expect("synced");
    assert_eq!(behind(), (0, true));
    files.begin_sync(file).expect("nothing to send");
    let missing = files.begin_sync(segment(0, 1)).expect_err("there is none").to_string();
    assert!(missing.contains("00000000000000000001.log"), "{missing}");
}

#[test]
fn a_commit_is_written_past_the_page_cache_into_blocks_that_are_there() {
    let folder = TestFolder::new();
    let files = folder.open();
    let slot = FileName::Journal(0);
    files.write_at(slot, 0, &[aligned(0, 4)]).expect("written");
    files.sync(slot).expect("synced");

    let open = files.find(slot).expect("found").expect("exists");
    let changes = || open.progress.changes.load(Ordering::Relaxed);
    let before = changes();
    files.write_at(slot, BLOCK as u64, &[aligned(7, 2)]).expect("written");
    // Some file systems know no direct writes; then they are buffered, and counted as not yet durable.
    assert_eq!(changes() == before, files.is_direct());
    files.write_at(slot, 3 * BLOCK as u64, &pieces(&["unaligned"])).expect("written");
    assert!(changes() > before);
    files.write_at(slot, 4 * BLOCK as u64, &[aligned(9, 1)]).expect("written");
    assert_eq!(files.len(slot), Ok(Some(5 * BLOCK as u64)));

    let expect = [&[0; BLOCK][..], &[7; 2 * BLOCK], b"unaligned", &[0; BLOCK - 9], &[9; BLOCK]].concat();
    assert!(read(&files, slot, 0, 6 * BLOCK) == expect, "both ways of writing see each other's bytes");
}

#[test]
fn the_first_sync_of_a_file_is_never_skipped() {
    let folder = TestFolder::new();
    let file = segment(0, 0);
    folder.open().write_at(file, 0, &pieces(&["left behind by a process that died"])).expect("written");

    let files = folder.open();
    let open = files.find(file).expect("found").expect("exists");
    let durable = || *lock(&open.progress.durable);
    assert!(durable() < open.progress.changes.load(Ordering::Relaxed));
    files.sync(file).expect("synced");
    assert_eq!(durable(), open.progress.changes.load(Ordering::Relaxed));
}

#[test]
fn a_sync_covers_the_folders_that_lead_to_the_file() {
    let folder = TestFolder::new();
    let files = folder.open();
    let is_durable = |folder| {
        let entries = files.entries_of(folder);
        *lock(&entries.durable) == entries.changes.load(Ordering::Relaxed)
    };
    files.write_at(segment(0, 0), 0, &pieces(&["x"])).expect("written");
    files.sync(segment(0, 0)).expect("synced");
    assert!(is_durable(Folder::Partition(partition(0))) && is_durable(Folder::Topics));
    files.write_at(segment(0, 1), 0, &pieces(&["x"])).expect("written");
    assert!(!is_durable(Folder::Partition(partition(0))), "the second file is new to it");
    files.write_at(segment(1, 0), 0, &pieces(&["x"])).expect("written");
    assert!(!is_durable(Folder::Topics), "the second folder is new to it");
}

#[test]
fn partitions_and_segments_are_listed_in_order() {
    let folder = TestFolder::new();
    let files = folder.open();
    assert_eq!(files.partitions(), Ok(vec![]));
    assert_eq!(files.segments(partition(0)), Ok(vec![]));
    for (index, base) in [(10, 0), (2, 1000), (2, 99), (2, 0)] {
        files.write_at(segment(index, base), 0, &pieces(&["x"])).expect("written");
    }
    let appended = |base| SegmentName::appended(partition(2), Offset(base));
    let compacted = SegmentName { generation: 12, ..appended(99) };
    for name in [appended(5), appended(99), compacted] {
        files.write_at(FileName::Index(name), 0, &pieces(&["x"])).expect("written");
    }
    std::fs::create_dir(folder.0.join("topics").join("lost+found")).expect("made");
    assert_eq!(files.partitions(), Ok(vec![partition(2), partition(10)]));
    assert_eq!(
        files.segments(partition(2)),
        Ok(vec![appended(0), appended(5), appended(99), compacted, appended(1000)])
    );
}

#[test]
fn what_is_removed_is_gone_and_may_be_removed_again() {
    let folder = TestFolder::new();
    let files = folder.open();
    for base in [0, 1] {
        files.write_at(segment(0, base), 0, &pieces(&["x"])).expect("written");
    }
    for _ in 0..2 {
        files.remove(segment(0, 0)).expect("removed");
        assert_eq!(files.len(segment(0, 0)), Ok(None));
    }
    for _ in 0..2 {
        files.remove_partition(partition(0)).expect("removed");
        assert_eq!((files.partitions(), files.len(segment(0, 1))), (Ok(vec![]), Ok(None)));
    }
    files.write_at(segment(0, 0), 0, &pieces(&["new"])).expect("written");
    assert_eq!(read(&files, segment(0, 0), 0, 10), b"new");
}

#[test]
fn a_file_is_cut_and_reserved_without_changing_what_it_holds() {
    let folder = TestFolder::new();
    let files = folder.open();
    let file = FileName::Checkpoint(1);
    files.allocate(file, 0, 10_000).expect("reserved");
    assert_eq!(files.len(file), Ok(Some(0)), "what is reserved is not part of the file yet");
    files.write_at(file, 0, &pieces(&["checkpoint"])).expect("written");
    files.truncate(file, 5).expect("cut");
    assert_eq!((files.len(file), &read(&files, file, 0, 10)[..]), (Ok(Some(5)), &b"check"[..]));
}

#[test]
fn descriptors_are_closed_beyond_the_limit_and_files_work_on() {
    let folder = TestFolder::new();
    let files = DataFolder::open(&folder.0, 8, JournalWrites::Buffered).expect("opened");
    for round in 0..3 {
        for base in 0..50 {
            files.write_at(segment(0, base), round, &[Bytes::from(vec![base as u8])]).expect("written");
            assert!(lock(&files.open).files.len() <= 8);
        }
    }
    for base in 0..50 {
        files.sync(segment(0, base)).expect("synced");
        assert_eq!(read(&files, segment(0, base), 0, 10), [base as u8; 3]);
    }
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_name() {
    let folder = TestFolder::new();
    let files = folder.open();
    let error = files.read_at(FileName::Journal(3), 0, &mut [0; 1]).expect_err("there is no such file");
    assert_eq!(error.to_string(), "journal/0003.journal: cannot read it: entity not found");
    assert!(files.sync(FileName::Journal(3)).is_err());
}

#[test]
fn no_space_and_no_quota_are_told_from_failures() {
    let file = FileName::Journal(0);
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        assert_eq!(failed("write", file, &errno.into()), DiskError::NoSpace(file));
    }
    assert!(matches!(failed("write", file, &Errno::IO.into()), DiskError::Io(..)));
}
