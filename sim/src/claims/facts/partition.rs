//! What clients know of one partition.

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::wire::ErrorCode;

use super::{Keyed, Origin};
use crate::history::Read;
use crate::value::Attempt;

/// What clients know of one partition.
#[derive(Debug)]
pub(in crate::claims) struct Partition {
    pub id: TopicPartition,
    /// What was acknowledged, in the order in which clients learned of it.
    pub acks: Vec<Ack>,
    /// What was read, by offset from 0; the auditor has the last word.
    pub log: Vec<Seen>,
    /// Records that were read where another one was read before: the event, the new one, the one before.
    pub contradictions: Vec<(usize, Read, Seen)>,
    /// The first record at an offset that nothing sent can reach.
    pub beyond: Option<(usize, Read)>,
    pub audit: Audit,
    /// What may be gone of it, where records have keys in common.
    pub keyed: Option<Keyed>,
    /// How far up records were asked to be deleted, by the event of each request that went further.
    starts: Vec<(usize, Offset)>,
}

/// An acknowledged batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::claims) struct Ack {
    pub event: usize,
    /// Which of all that was sent.
    pub sent: u32,
    /// Below 0 where the broker knew it for a duplicate and no more.
    pub base: Offset,
    pub records: u32,
    pub era: u32,
}

/// What was read at an offset.
#[derive(Clone, Copy, Debug)]
pub(in crate::claims) struct Seen {
    pub attempt: Attempt,
    pub index: u32,
    pub timestamp: i64,
    pub leader_epoch: i32,
    pub origin: Origin,
    /// The event that showed it first, [`NEVER`] for nothing.
    pub event: u32,
    pub era: u32,
    /// Whether the auditor saw it.
    pub is_audited: bool,
}

/// No event.
const NEVER: u32 = u32::MAX;

/// What the auditor found.
#[derive(Debug)]
pub(in crate::claims) struct Audit {
    /// The last event in which the partition was served.
    pub served: Option<usize>,
    /// The last event in which it was not, if it was not served since, and by which error.
    pub refused: Option<usize>,
    pub code: ErrorCode,
    /// The log start offset.
    pub start: Offset,
    /// After the last batch that was read.
    pub end: Offset,
    pub high_watermark: Offset,
}

/// How many contradictions of a partition are kept.
const CONTRADICTIONS_MAX: usize = 8;

impl Partition {
    pub(super) fn new(id: TopicPartition) -> Partition {
        let audit = Audit {
            served: None,
            refused: None,
            code: ErrorCode::None,
            start: Offset(i64::MAX),
            end: Offset(0),
            high_watermark: Offset(-1),
        };
        Partition {
            id,
            acks: Vec::new(),
            log: Vec::new(),
            contradictions: Vec::new(),
            beyond: None,
            audit,
            keyed: None,
            starts: Vec::new(),
        }
    }

    /// What was read at an offset, if anything.
    pub(in crate::claims) fn at(&self, offset: Offset) -> Option<&Seen> {
        self.log.get(usize::try_from(offset.0).ok()?).filter(|seen| seen.is_here())
    }

    /// The place of an offset that something sent can reach.
    pub(super) fn at_mut(&mut self, offset: Offset) -> &mut Seen {
        let index = usize::try_from(offset.0).expect("an offset below 0 is beyond");
        if self.log.len() <= index {
            self.log.resize(index + 1, Seen::NOTHING);
        }
        &mut self.log[index]
    }

    pub(super) fn contradict(&mut self, event: usize, read: Read, was: Seen) {
        if self.contradictions.len() < CONTRADICTIONS_MAX {
            self.contradictions.push((event, read, was));
        }
    }

    pub(super) fn ask_start(&mut self, event: usize, before: Offset) {
        if self.starts.last().is_none_or(|&(_, known)| known < before) {
            self.starts.push((event, before));
        }
    }

    /// The highest log start that requests up to an event may have brought about.
    pub(in crate::claims) fn start_asked(&self, event: usize) -> Offset {
        let until = self.starts.partition_point(|&(asked, _)| asked < event);
        self.starts[..until].last().map_or(Offset(0), |&(_, before)| before)
    }

    /// The records of the run's last era, as read by anybody, by rising offset.
    pub(in crate::claims) fn records(&self, era: u32) -> impl Iterator<Item = (Offset, &Seen)> {
        let here = move |&(_, seen): &(i64, &Seen)| seen.is_here() && seen.era == era;
        (0..).zip(&self.log).filter(here).map(|(offset, seen)| (Offset(offset), seen))
    }

    /// The batches among [`Partition::records`]: each run of records of one attempt whose offsets and places in it rise
    /// by one.
    pub(in crate::claims) fn runs(&self, era: u32) -> impl Iterator<Item = BatchRun<'_>> {
        let mut records = self.records(era).peekable();
        std::iter::from_fn(move || {
            let (base, first) = records.next()?;
            let mut run = BatchRun { base, first, records: 1, timestamp: first.timestamp, event: first.event as usize };
            while let Some((_, next)) = records.next_if(|(offset, next)| {
                offset.0 == base.0 + i64::from(run.records)
                    && next.attempt == first.attempt
                    && next.index == first.index.wrapping_add(run.records)
            }) {
                run.records += 1;
                run.timestamp = run.timestamp.max(next.timestamp);
                run.event = run.event.max(next.event as usize);
            }
            Some(run)
        })
    }
}

/// Records of one attempt in a row.
#[derive(Clone, Copy, Debug)]
pub(in crate::claims) struct BatchRun<'p> {
    pub base: Offset,
    pub first: &'p Seen,
    pub records: u32,
    /// The greatest of its records.
    pub timestamp: i64,
    /// The event by which all of it was known.
    pub event: usize,
}

impl BatchRun<'_> {
    /// The offset after it.
    pub(in crate::claims) fn end(&self) -> Offset {
        Offset(self.base.0 + i64::from(self.records))
    }
}

impl Seen {
    const NOTHING: Seen = Seen {
        attempt: Attempt { client: 0, operation: 0, number: 0 },
        index: 0,
        timestamp: 0,
        leader_epoch: 0,
        origin: Origin::Nobody,
        event: NEVER,
        era: 0,
        is_audited: false,
    };

    pub(super) fn of(read: &Read, origin: Origin, event: usize, era: u32, is_audited: bool) -> Seen {
        let event = u32::try_from(event).expect("a history of fewer events than that");
        let Read { attempt, index, timestamp, leader_epoch, .. } = *read;
        Seen { attempt, index, timestamp, leader_epoch, origin, event, era, is_audited }
    }

    /// Whether anything was read there.
    pub(in crate::claims) fn is_here(&self) -> bool {
        self.event != NEVER
    }

    pub(super) fn is_of(&self, read: &Read) -> bool {
        (self.attempt, self.index, self.timestamp, self.leader_epoch)
            == (read.attempt, read.index, read.timestamp, read.leader_epoch)
    }

    /// It, as it was read.
    pub(in crate::claims) fn read(&self, offset: Offset) -> Read {
        let Seen { attempt, index, timestamp, leader_epoch, .. } = *self;
        Read { offset, timestamp, attempt, index, leader_epoch }
    }
}

impl Audit {
    /// What a fetch is told.
    pub(super) fn fetched(
        &mut self,
        event: usize,
        code: ErrorCode,
        from: Offset,
        (log_start, high_watermark): (Offset, Offset),
        next: Offset,
    ) {
        if self.hears(event, code) {
            self.start = if log_start.0 >= 0 { log_start } else { self.start.min(from) };
            self.end = self.end.max(next);
            self.high_watermark = self.high_watermark.max(high_watermark);
        }
    }

    /// Where the log begins: of an empty one the auditor asks no more than that and where it ends.
    pub(super) fn begins(&mut self, event: usize, code: ErrorCode, offset: Offset) {
        if self.hears(event, code) {
            (self.start, self.end) = (offset, self.end.max(offset));
        }
    }

    /// Where the log ends.
    pub(super) fn ends(&mut self, event: usize, code: ErrorCode, offset: Offset) {
        if self.hears(event, code) {
            self.high_watermark = self.high_watermark.max(offset);
        }
    }

    fn hears(&mut self, event: usize, code: ErrorCode) -> bool {
        let is_served = code == ErrorCode::None;
        match is_served {
            true => (self.served, self.refused) = (Some(event), None),
            false => (self.refused, self.code) = (Some(event), code),
        }
        is_served
    }
}
