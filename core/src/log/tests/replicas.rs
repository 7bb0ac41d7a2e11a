//! What a replica's log does, one thing at a time.

use super::*;
use crate::batch::{HEAD_BYTES, emptied};
use crate::boundary::FileName;
use crate::log::Misfit;

/// A batch of so many records as a leader has placed it.
fn placed(base: i64, records: usize, epoch: i32, producer: Option<(i64, i32)>) -> (BatchHead, Bytes) {
    let mut batch = BatchBuilder::new().place(Offset(base), LeaderEpoch(epoch));
    if let Some((id, sequence)) = producer {
        batch = batch.producer(ProducerId(id), ProducerEpoch(0), sequence);
    }
    for _ in 0..records {
        batch = batch.record(Timestamp(base), None, Some(&[7; 100]));
    }
    let bytes = batch.build();
    (BatchHead::parse(&bytes).expect("a sound batch"), bytes.slice(HEAD_BYTES..))
}

impl Rig {
    fn empty() -> Rig {
        let mut rig = Rig::new();
        rig.log = Log::new(ID);
        rig
    }

    /// Appends what a leader has placed.
    fn take(&mut self, base: i64, records: usize, epoch: i32, producer: Option<(i64, i32)>) -> Result<Offset, Misfit> {
        let (head, body) = placed(base, records, epoch, producer);
        let appended = self.log.append_placed(&head, &body, Timestamp(1), Way::Journal, &mut self.journal);
        appended.map(|(appended, _)| appended.end)
    }

    fn bases(&self) -> Vec<(i64, u32)> {
        let number = |generation: u32| generation.saturating_sub(SegmentName::AFTER_CUT);
        self.log.segments().map(|segment| (segment.base.0, number(segment.generation))).collect()
    }

    /// Everything is on disk, and nothing in memory.
    fn settle(&mut self) {
        self.commit();
        while self.log.unwritten_bytes() > 0 {
            self.flush(1);
        }
        self.sync();
        while self.log.evict_one().is_some() {}
    }

    fn bases_read(&self, from: i64) -> Vec<i64> {
        let mut bases = Vec::new();
        let mut next = from;
        loop {
            let bytes = match self.log.read(Offset(next), self.log.end(), 1) {
                Read::Nothing => return bases,
                Read::Memory(slices, _) => slices.concat().into(),
                Read::Disk(plan, _) => match plan.run(&self.files).expect("sound files") {
                    ReadOutcome::Batches(bytes) => bytes,
                    other => panic!("from {next}: {other:?}"),
                },
            };
            let head = BatchHead::parse(&bytes).expect("a batch");
            bases.push(head.base_offset.0);
            next = head.next_offset().0;
        }
    }
}

#[test]
fn a_batch_that_is_no_continuation_is_refused_and_changes_nothing() {
    let mut rig = Rig::empty();
    assert_eq!(rig.take(5, 2, 3, None), Ok(Offset(7)), "compaction leaves gaps");
    let before: Vec<u8> = rig.log.encode(Lsn(u64::MAX)).concat();
    assert_eq!(rig.take(6, 5, 3, None), Err(Misfit::Overlaps { base: Offset(6), end: Offset(7) }));
    assert_eq!(rig.take(0, 1, 3, None), Err(Misfit::Overlaps { base: Offset(0), end: Offset(7) }));
    let older = Misfit::EpochGoesBack { epoch: LeaderEpoch(2), before: LeaderEpoch(3) };
    assert_eq!(rig.take(7, 1, 2, None), Err(older));
    assert_eq!(rig.take(-3, 1, 3, None), Err(Misfit::Nonsense(Offset(-3))));
    assert_eq!(rig.take(i64::MAX, 1, 3, None), Err(Misfit::Nonsense(Offset(i64::MAX))));
    assert_eq!(rig.take(7, 1, -1, None), Err(Misfit::Nonsense(Offset(7))));
    let (head, body) = placed(7, 1, 3, None);
    let cut = body.slice(1..);
    let refused = rig.log.append_placed(&head, &cut, Timestamp(1), Way::Journal, &mut rig.journal);
    assert_eq!(refused.map(|_| ()), Err(Misfit::Nonsense(Offset(7))));
    assert_eq!(rig.log.encode(Lsn(u64::MAX)).concat(), before);
}

/// What a leader has compacted comes with batches that are empty, and keep the timestamps of what they held.
#[test]
fn a_search_passes_over_emptied_batches_in_memory_and_on_disk() {
    let mut rig = Rig::empty();
    for (base, is_emptied) in [(5, false), (10, true), (15, false), (20, true)] {
        let (head, body) = placed(base, 2, 3, None);
        let (head, body) = match is_emptied {
            true => (BatchHead::parse(&emptied(&head)).expect("a sound batch"), Bytes::new()),
            false => (head, body),
        };
        let appended = rig.log.append_placed(&head, &body, Timestamp(1), Way::Journal, &mut rig.journal);
        appended.expect("a batch that follows");
    }
    rig.commit();
    for _ in 0..2 {
        assert_eq!(rig.search(Wanted::AtOrAfter(Timestamp(6))).0, Some((15, 15)));
        assert_eq!(rig.search(Wanted::AtOrAfter(Timestamp(16))).0, None);
        assert_eq!(rig.search(Wanted::Largest).0, Some((15, 15)));
        rig.settle();
    }
}

/// KAFKA-6975: the leader's log starts in the middle of a batch, which it can only send whole.
#[test]
fn the_batch_that_holds_the_start_of_a_new_log_may_begin_below_it() {
    let mut rig = Rig::empty();
    rig.log.start_anew(Offset(15), &mut rig.journal);
    assert_eq!(rig.take(10, 5, 3, None), Err(Misfit::Overlaps { base: Offset(10), end: Offset(15) }));
    assert_eq!(rig.take(10, 10, 3, None), Ok(Offset(20)));
    assert_eq!((rig.log.start(), rig.bases()), (Offset(15), vec![(10, 1)]));
    rig.settle();
    assert_eq!(rig.bases_read(15), [10]);
    // A cut to the start takes the batch that holds it, and it comes again.
    rig.log.cut(Offset(15), &mut rig.journal);
    assert_eq!((rig.log.start(), rig.log.end(), rig.bases()), (Offset(15), Offset(15), vec![(10, 2)]));
    assert_eq!(rig.take(10, 10, 4, None), Ok(Offset(20)));
    rig.log.invariants();
}

#[test]
fn a_cut_closes_the_segment_that_holds_it_and_goes_on_in_new_files() {
    let mut rig = Rig::empty();
    (0..4).for_each(|at| _ = rig.take(at * 10, 10, 3, None));
    rig.log.roll(&mut rig.journal);
    (4..6).for_each(|at| _ = rig.take(at * 10, 10, 3, None));
    rig.settle();
    let bytes = rig.log.bytes();
    rig.log.cut(Offset(20), &mut rig.journal).expect("there is more");
    assert!(rig.log.is_cutting());
    assert_eq!((rig.log.end(), rig.bases()), (Offset(20), vec![(0, 0), (20, 1)]));
    assert!(rig.log.bytes() < bytes && rig.log.segments().next().is_some_and(|first| first.is_cut));
    assert_eq!(rig.log.trim().map(|_| ()), None, "a crash may bring back what was cut");
    let second = SegmentName::appended(ID, Offset(40));
    rig.journal.sync_next();
    while let Some(commit) = rig.journal.take_commit() {
        rig.journal.committed(commit.number);
    }
    assert_eq!(rig.log.confirm(rig.journal.durable()), [second], "its files are not needed once that is durable");
    assert!(!rig.log.is_cutting());
    assert_eq!(rig.take(20, 5, 4, None), Ok(Offset(25)));
    rig.settle();
    assert_eq!(rig.bases_read(0), [0, 10, 20]);
    rig.log.roll(&mut rig.journal);
    assert_eq!(rig.bases(), [(0, 0), (20, 1), (25, 1)], "none has the name of a file that was cut");
    rig.log.cut(Offset(10), &mut rig.journal).expect("there is more");
    assert_eq!(rig.bases(), [(0, 0), (10, 2)]);
}

#[test]
fn a_cut_inside_a_batch_is_one_before_it() {
    let mut rig = Rig::empty();
    (0..3).for_each(|at| _ = rig.take(at * 10, 10, 3, None));
    rig.log.cut(Offset(25), &mut rig.journal);
    assert_eq!(rig.log.end(), Offset(20));
    assert_eq!(rig.log.cut(Offset(20), &mut rig.journal), None, "it ends there");
}

#[test]
fn producers_are_what_they_were_before_what_was_cut() {
    let mut rig = Rig::empty();
    (0..7).for_each(|at| _ = rig.take(at, 1, 3, Some((9, at as i32))));
    let before = rig.log.producers().clone();
    (7..30).for_each(|at| _ = rig.take(at, 1, 3, Some((at % 4 + 8, at as i32))));
    rig.log.cut(Offset(7), &mut rig.journal);
    assert_eq!(*rig.log.producers(), before);
    // Below the high watermark nothing is remembered of what was replaced: each is left with what it wrote below.
    rig.commit();
    rig.log.advance_high_watermark(Offset(7));
    rig.log.cut(Offset(3), &mut rig.journal);
    let left = rig.log.producers().iter().map(|(id, producer)| (id.0, producer.batches.len())).collect::<Vec<_>>();
    assert_eq!((left, rig.log.high_watermark()), (vec![(9, 1)], Offset(3)));
}

#[test]
fn what_batches_replaced_is_bounded_though_the_high_watermark_stands_still() {
    let mut rig = Rig::empty();
    let count = i64::try_from(undo::REMEMBERED_MAX).expect("thousands") + 100;
    (0..count).for_each(|at| _ = rig.take(at, 1, 3, None));
    assert_eq!(rig.log.undo.entries().len(), undo::REMEMBERED_MAX);
    assert_eq!(rig.log.undo.from(), Offset(100));
    rig.settle();
    rig.log.cut(Offset(50), &mut rig.journal);
    assert_eq!((rig.log.end(), rig.log.undo.from()), (Offset(50), Offset(50)));
    rig.log.invariants();
}

#[test]
fn a_read_in_a_gap_between_disk_and_memory_goes_on_in_memory() {
    let mut rig = Rig::empty();
    rig.take(0, 1, 3, None).expect("the first");
    rig.settle();
    rig.take(3, 1, 3, None).expect("behind a gap");
    assert_eq!(rig.bases_read(0), [0, 3]);
    assert_eq!(rig.bases_read(2), [3]);
    assert_eq!(rig.log.run_from(Offset(2), 1, 1).map(|run| run.end), Some(Offset(4)), "nor does a follower wait");
}

#[test]
fn the_index_of_a_segment_that_was_cut_is_made_again_with_what_lies_behind() {
    let mut rig = Rig::empty();
    (0..400).for_each(|at| _ = rig.take(at, 3, 3, None).or_else(|_| rig.take(rig.log.end().0, 3, 3, None)));
    rig.settle();
    let middle = rig.log.end().0 / 2;
    rig.log.cut(Offset(middle), &mut rig.journal);
    rig.settle();
    let expected = rig.bases_read(0);
    let first = SegmentName::appended(ID, Offset(0));
    crate::boundary::Files::remove(&rig.files, FileName::Index(first)).expect("memory");
    let mut plan = rig.log.plan_to_mend(first);
    while let Some(step) = plan {
        let ReadOutcome::Mended(mended) = step.run(&rig.files).expect("its segment is sound") else {
            panic!("it is made again")
        };
        crate::boundary::Files::write_at(&rig.files, FileName::Index(first), mended.position, &[mended.entries])
            .expect("memory");
        plan = mended.next.map(|next| ReadPlan { sought: Sought::Index(next), ..step });
    }
    assert_eq!(rig.bases_read(0), expected);
}

/// A state that was written before there were replicas, byte for byte.
#[test]
fn a_state_of_the_second_version_reads_as_a_log_that_the_whole_set_holds() {
    let mut old = Vec::new();
    old.push(2);
    old.extend_from_slice(&3_i64.to_le_bytes()); // start
    old.extend_from_slice(&7_i64.to_le_bytes()); // end
    old.extend_from_slice(&99_u64.to_le_bytes()); // newest record
    old.extend_from_slice(&[0; 16]); // clean and sealed to
    old.extend_from_slice(&1_u32.to_le_bytes()); // segments
    old.extend_from_slice(&0_i64.to_le_bytes());
    old.extend_from_slice(&0_u32.to_le_bytes());
    old.extend_from_slice(&5_i64.to_le_bytes());
    old.extend_from_slice(&5_i64.to_le_bytes());
    for number in [200_u64, 200, 1, 7] {
        old.extend_from_slice(&number.to_le_bytes()); // bytes, of them synced, entries, up to where
    }
    old.extend_from_slice(&[0; 8]); // no epochs, no producers
    old.extend_from_slice(&(-1_i64).to_le_bytes()); // nothing is awaited
    old.extend_from_slice(&[0; 4]); // nothing is in memory only
    let log = Log::decode(ID, old.into(), &InFiles(&MemoryFiles::default())).expect("an old state");
    assert_eq!((log.start(), log.end(), log.high_watermark()), (Offset(3), Offset(7), Offset(7)));
    assert_eq!(log.undo.from(), Offset(7));
}
