use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chronik_core::boundary::{DirectWrite, DiskError, FileName, Files, ReadId, SegmentName, Task, TaskId};
use chronik_core::ids::{Lsn, Offset, TopicPartition, Uuid};
use chronik_core::journal::Commit;
use chronik_core::log::{Place, ReadPlan, Sought, Wanted};

use super::*;
use crate::cli::options::{CommitThread, Durability};

const NOWHERE: TopicPartition = TopicPartition { topic: Uuid([1; 16]), partition: 0 };

/// Files that do nothing and write down what they were asked.
#[derive(Debug, Default)]
struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn note(&self, line: String) {
        self.0.lock().expect("no test panics while it holds this").push(line);
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics while it holds this"))
    }
}

impl Files for Diary {
    fn len(&self, _: FileName) -> Result<Option<u64>, DiskError> {
        Ok(None)
    }
    fn read_at(&self, _: FileName, _: u64, _: &mut [u8]) -> Result<usize, DiskError> {
        Ok(0)
    }
    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.note(format!("write {file} {position} {}", pieces.iter().map(Bytes::len).sum::<usize>()));
        Ok(())
    }
    fn allocate(&self, _: FileName, _: u64, _: u64) -> Result<(), DiskError> {
        Ok(())
    }
    fn truncate(&self, _: FileName, _: u64) -> Result<(), DiskError> {
        Ok(())
    }
    fn sync(&self, file: FileName) -> Result<(), DiskError> {
        self.note(format!("sync {file}"));
        Ok(())
    }
    fn remove(&self, file: FileName) -> Result<(), DiskError> {
        self.note(format!("remove {file}"));
        Ok(())
    }
    fn remove_partition(&self, partition: TopicPartition) -> Result<(), DiskError> {
        self.note(format!("remove {partition}"));
        Ok(())
    }
    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError> {
        Ok(Vec::new())
    }
    fn segments(&self, _: TopicPartition) -> Result<Vec<SegmentName>, DiskError> {
        Ok(Vec::new())
    }
}

fn commit(number: u64) -> Commit {
    Commit { slot: 0, position: 4096 * number, data: Bytes::from(vec![0; 4096]), number, end: Lsn(0), must_sync: false }
}

#[test]
fn work_is_done_in_order_on_threads_and_commits_where_they_were_asked_for() {
    for form in [CommitThread::Auto, CommitThread::Inline, CommitThread::Thread] {
        let diary = Arc::new(Diary::default());
        let (report, reports) = channel();
        let report = Arc::new(move |done| report.send(done).expect("the test listens"));
        let mut threads =
            Threads::start(diary.clone(), "/".into(), form, Durability::Sync, report).expect("threads start");

        let at_once = threads.begin(DiskOp::Commit(commit(9), Vec::new()));
        assert_eq!(at_once.is_some(), form != CommitThread::Thread);
        let done = at_once.unwrap_or_else(|| reports.recv().expect("it is reported"));
        assert!(matches!(done, Done::Commit(9, Ok(()))));

        diary.lines();
        for id in 0..20 {
            let segment = SegmentName::appended(NOWHERE, Offset(id as i64));
            assert!(threads.begin(DiskOp::Task(TaskId(id), Task::RemoveSegments(vec![segment]))).is_none());
        }
        for id in 0..20 {
            assert!(matches!(reports.recv(), Ok(Done::Task(task, Ok(()))) if task == TaskId(id)));
        }
        let lines = diary.lines();
        assert!(lines.iter().filter(|line| line.ends_with(".log")).is_sorted(), "{lines:?}");

        for id in 0..20 {
            let sought = Sought::Record { wanted: Wanted::Largest, from: Offset(0), below: Offset(9) };
            let plan = ReadPlan { place: Place::Memory(Bytes::new()), sought };
            assert!(threads.begin(DiskOp::Read(ReadId(id), plan)).is_none());
        }
        let mut read: Vec<u64> = (0..20)
            .map(|_| match reports.recv() {
                Ok(Done::Read(id, Ok(_))) => id.0,
                other => panic!("{other:?}"),
            })
            .collect();
        read.sort_unstable();
        assert!(read.into_iter().eq(0..20));
        drop(threads);
        assert!(reports.recv().is_err(), "the threads end");
    }
}

#[test]
fn a_large_commit_has_a_thread_and_a_small_one_of_an_idle_node_has_not() {
    let diary = Arc::new(Diary::default());
    let (report, reports) = channel();
    let report = Arc::new(move |done| report.send(done).expect("the test listens"));
    for durability in [Durability::Sync, Durability::Os] {
        let files = diary.clone();
        let mut threads =
            Threads::start(files, "/".into(), CommitThread::Auto, durability, report.clone()).expect("threads start");
        let large = Commit { data: Bytes::from(vec![0; 256 << 10]), must_sync: true, ..commit(1) };
        assert!(threads.begin(DiskOp::Commit(large, Vec::new())).is_none());
        assert!(matches!(reports.recv(), Ok(Done::Commit(1, Ok(())))));
        let piece = Bytes::from(vec![0; 128 << 10]);
        let segment = SegmentName::appended(NOWHERE, Offset(0));
        let body = DirectWrite { segment, position: 0, pieces: vec![piece.clone(), piece] };
        assert!(threads.begin(DiskOp::Commit(Commit { must_sync: true, ..commit(2) }, vec![body])).is_none());
        assert!(matches!(reports.recv(), Ok(Done::Commit(2, Ok(())))));
        let at_once = threads.begin(DiskOp::Commit(commit(3), Vec::new()));
        assert!(matches!(at_once, Some(Done::Commit(3, Ok(())) | Done::Written(3))), "{at_once:?}");
        // Where commits are synced it is as small as the others; else it brings them to the disk.
        let synced = Commit { must_sync: true, ..commit(4) };
        let at_once = threads.begin(DiskOp::Commit(synced, Vec::new()));
        assert_eq!(at_once.is_some(), durability == Durability::Sync);
        let done = at_once.unwrap_or_else(|| reports.recv().expect("it is reported"));
        assert!(matches!(done, Done::Commit(4, Ok(()))));
    }
}
