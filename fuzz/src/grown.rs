//! A log as production code grows it, and a model of what it holds.

use bytes::Bytes;
use chronik_core::batch::{BatchBuilder, BatchHead, BatchLimits, Codec, HEAD_BYTES, verify};
use chronik_core::boundary::write_direct;
use chronik_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid};
use chronik_core::journal::{BLOCK_BYTES, Damage, Geometry, MemorySlots, Record, Start, Visitor, Writer, recover};
use chronik_core::log::{Log, Way};
use chronik_core::time::Timestamp;

use crate::files::MemoryFiles;
use crate::wire_bodies::entropy::Entropy;

pub(crate) const PARTITION: TopicPartition = TopicPartition { topic: Uuid([9; 16]), partition: 2 };

/// A batch as it was appended.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) timestamps: Vec<i64>,
    pub(crate) bytes: Bytes,
}

/// A log, its files, and the batches that are in it.
pub(crate) struct Grown {
    pub(crate) log: Log,
    pub(crate) files: MemoryFiles,
    pub(crate) batches: Vec<Stored>,
    journal: Writer,
    epoch: LeaderEpoch,
    sequence: i32,
}

impl Grown {
    /// A log of at most 24 batches, grown by `entropy`.
    pub(crate) fn new(entropy: &mut Entropy<'_>) -> Grown {
        let mut grown = Grown {
            log: Log::new(PARTITION),
            files: MemoryFiles::default(),
            batches: Vec::new(),
            journal: empty_journal(),
            epoch: LeaderEpoch(0),
            sequence: 0,
        };
        for _ in 0..entropy.below(25) {
            grown.append(entropy);
            match entropy.below(8) {
                0 => grown.log.roll(&mut grown.journal),
                1 => grown.flush(),
                2 => {
                    grown.flush();
                    grown.sync();
                }
                3 => {
                    grown.epoch.0 += 1;
                    grown.log.begin_epoch(grown.epoch, &mut grown.journal);
                }
                4 if entropy.one_in(4) => {
                    let to = Offset(entropy.below(1 + grown.log.end().0 as usize) as i64);
                    grown.log.advance_start(to, &mut grown.journal);
                }
                5 => grown.cut(entropy),
                6 => grown.follow(entropy),
                7 => grown.log.advance_high_watermark(grown.log.durable_end()),
                _ => {}
            }
            grown.log.confirm(grown.journal.end());
            grown.log.invariants();
        }
        grown
    }

    fn append(&mut self, entropy: &mut Entropy<'_>) {
        let codec = if entropy.one_in(4) { Codec::ALL[entropy.below(5)] } else { Codec::None };
        let mut batch = BatchBuilder::new().codec(codec);
        let count = 1 + entropy.below(3);
        if entropy.one_in(2) {
            batch = batch.producer(ProducerId(entropy.below(3) as i64), ProducerEpoch(0), self.sequence);
            self.sequence += count as i32;
        }
        let mut timestamps = Vec::new();
        for _ in 0..count {
            // Some are large enough to fill a chunk of the index, or to be kept as slices.
            let value_bytes = [0, 3, 40, 300, 5_000, 17_000, 70_000][entropy.below(7)];
            let timestamp = entropy.below(50) as i64 - 1;
            batch = batch.record(Timestamp(timestamp), None, Some(&vec![entropy.byte(); value_bytes]));
            timestamps.push(timestamp);
        }
        let limits = BatchLimits { batch_bytes_max: 1 << 20, decompressed_bytes_max: 1 << 20 };
        let batch = verify(batch.build(), &limits).expect("a batch that we made is one that we take");
        let way = if entropy.one_in(4) { Way::Direct } else { Way::Journal };
        let taken = Timestamp(entropy.below(100) as i64);
        let (appended, write) = self.log.append(&batch, self.epoch, taken, way, &mut self.journal);
        write_direct(&self.files, write.as_slice()).expect("files in memory never fail");
        let bytes = batch.to_bytes(appended.base, self.epoch);
        self.batches.push(Stored { base: appended.base, last: Offset(appended.end.0 - 1), timestamps, bytes });
    }

    /// Has the end cut, or now and then all of it, and nothing but whole batches stays.
    fn cut(&mut self, entropy: &mut Entropy<'_>) {
        let (known, end) = (self.log.high_watermark().0, self.log.end().0);
        let to = Offset(known + entropy.below(1 + (end - known) as usize) as i64);
        if entropy.one_in(8) {
            self.log.start_anew(to, &mut self.journal);
            self.batches.clear();
        } else if self.log.cut(to, &mut self.journal).is_some() {
            self.batches.retain(|batch| batch.last < to);
        }
    }

    /// Appends a batch that another leader has placed, behind a gap or not, in the epoch that it leads in.
    fn follow(&mut self, entropy: &mut Entropy<'_>) {
        let base = Offset(self.log.end().0 + entropy.below(3) as i64);
        self.epoch.0 += 1;
        let value = vec![entropy.byte(); [3, 300, 70_000][entropy.below(3)]];
        let timestamp = entropy.below(50) as i64;
        let batch = BatchBuilder::new().place(base, self.epoch).record(Timestamp(timestamp), None, Some(&value));
        let bytes = batch.build();
        let head = BatchHead::parse(&bytes).expect("a batch that we made");
        let body = bytes.slice(HEAD_BYTES..);
        let appended = self.log.append_placed(&head, &body, Timestamp(1), Way::Journal, &mut self.journal);
        appended.expect("it follows the log");
        self.batches.push(Stored { base, last: base, timestamps: vec![timestamp], bytes });
    }

    /// Writes behind whatever memory holds.
    pub(crate) fn flush(&mut self) {
        self.log.confirm(self.journal.end());
        while let Some(task) = self.log.flush(1) {
            task.run(&self.files).expect("files in memory never fail");
            self.log.flushed(true);
        }
    }

    /// Makes what was written behind durable.
    pub(crate) fn sync(&mut self) {
        for (segment, mark) in self.log.unsynced_segments() {
            self.log.synced_to(segment, mark);
        }
    }
}

fn empty_journal() -> Writer {
    let geometry = Geometry { file_bytes: 64 * BLOCK_BYTES, max_files: 1, reserve_bytes: 0 };
    let slots = MemorySlots::zeroed(1, BLOCK_BYTES);
    let found = recover(&slots, &Start::fresh(Uuid([1; 16])), &mut Nothing).expect("zeros are an empty journal");
    Writer::resume(found, 1, geometry)
}

struct Nothing;

impl Visitor for Nothing {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        panic!("an empty journal holds {record:?}")
    }

    fn damaged(&mut self, damage: &Damage) -> Result<(), String> {
        panic!("an empty journal is sound: {damage}")
    }
}
