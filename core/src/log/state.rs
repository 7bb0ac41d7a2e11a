//! A log as a checkpoint keeps it, and a log as the journal rebuilds it.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::payload::{self, PayloadError};
use super::producers::{BATCHES_REMEMBERED, Change};
use super::segment::{Mark, Segment};
use super::undo::{Entry, REMEMBERED_MAX, Undo};
use super::{Epochs, Log, Producer, Remembered, TailBatch};
use crate::batch::{BatchHead, HEAD_BYTES};
use crate::boundary::SegmentName;
use crate::ids::{LeaderEpoch, Lsn, Offset, ProducerEpoch, ProducerId, TopicPartition};
use crate::journal::RecordKind;
use crate::limits::BATCH_BYTES_MAX;
use crate::time::Timestamp;

/// Where the bodies of batches are read that the journal does not hold.
pub trait Bodies {
    /// `bytes` bytes of a segment from `position` on.
    ///
    /// # Errors
    /// Why they cannot be had.
    fn read(&self, segment: SegmentName, position: u64, bytes: usize) -> Result<Bytes, String>;
}

/// The version that [`Log::encode`] writes: the first one knew of no compaction, the second of no replicas.
const VERSION: u8 = 3;
const WITHOUT_COMPACTION: u8 = 1;
const WITHOUT_REPLICAS: u8 = 2;

/// The newest record that a state contains, if it contains any, where it is one of [`Log::encode`]'s.
///
/// # Errors
/// As [`Log::decode`], of the state's beginning.
pub fn newest_of(state: &Bytes) -> Result<Option<Lsn>, PayloadError> {
    let mut from = state.clone();
    let version = from.try_get_u8()?;
    if !(WITHOUT_COMPACTION..=VERSION).contains(&version) {
        return Err(PayloadError::Version(version));
    }
    let (_start, _end) = (from.try_get_i64_le()?, from.try_get_i64_le()?);
    Ok(Some(from.try_get_u64_le()?).filter(|&lsn| lsn != NO_LSN).map(Lsn))
}

/// An LSN that there is none of, and an offset.
const NO_LSN: u64 = u64::MAX;
const NO_OFFSET: i64 = -1;

impl Log {
    /// The log's state with every batch from before `journalled` that no segment holds durably, as slices one after
    /// another. The journal from there on holds the others. It contains what the journal's newest record says, and so
    /// counts only once the journal is durable.
    pub fn encode(&self, journalled: Lsn) -> Vec<Bytes> {
        // What lies in the journal before a cut may be what was cut, at the same offsets as what came after it.
        let journalled = journalled.max(self.newest_cut.unwrap_or_default());
        let cut = self.coming_cut();
        let segments = || self.segments.iter().filter(|segment| segment.base >= cut.base);
        let mut epochs = self.epochs.clone();
        epochs.cut_start(cut.start);
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(VERSION);
        out.put_i64_le(cut.start.0);
        out.put_i64_le(self.end.0);
        out.put_u64_le(self.newest.map_or(NO_LSN, |lsn| lsn.0));
        out.put_i64_le(self.clean_to.0);
        out.put_i64_le(self.sealed_to.0);
        out.put_i64_le(self.high_watermark.0);
        out.put_u64_le(self.newest_cut.map_or(NO_LSN, |lsn| lsn.0));
        out.put_u32_le(self.lineage);
        out.put_u32_le(u32::try_from(segments().count()).expect("fewer segments than that"));
        for segment in segments() {
            out.put_i64_le(segment.base.0);
            out.put_u32_le(segment.generation);
            out.put_i64_le(segment.max_timestamp);
            out.put_i64_le(segment.since.0);
            out.put_u64_le(segment.bytes);
            out.put_u64_le(segment.synced.bytes);
            out.put_u64_le(segment.synced.entries);
            out.put_i64_le(segment.synced.to.0);
            out.put_u8(u8::from(segment.is_cut));
        }
        out.put_u32_le(u32::try_from(epochs.entries().len()).expect("fewer epochs than that"));
        for (epoch, start) in epochs.entries() {
            out.put_i32_le(epoch.0);
            out.put_i64_le(start.0);
        }
        out.put_u32_le(u32::try_from(self.producers.count()).expect("fewer producers than that"));
        for (id, producer) in self.producers.iter() {
            out.put_i64_le(id.0);
            put_producer(&mut out, producer);
        }
        put_undo(&mut out, &self.undo);
        let unsynced = || self.tail.from(self.synced().max(cut.base));
        let kept: Vec<&TailBatch> = unsynced().take_while(|batch| batch.lsn < journalled).collect();
        let awaited = unsynced().find(|batch| batch.lsn >= journalled).map(|batch| batch.base);
        // A damaged log may still wait for what the journal never brought.
        out.put_i64_le(awaited.or(self.awaited).map_or(NO_OFFSET, |offset| offset.0));
        out.put_u32_le(u32::try_from(kept.len()).expect("fewer batches than that"));
        let mut slices = Vec::with_capacity(1 + 2 * kept.len());
        for batch in kept {
            out.put_u64_le(batch.lsn.0);
            out.put_u8(u8::from(batch.direct.is_some()));
            if batch.direct.is_some() {
                let head = BatchHead::parse(batch.head()).expect("a batch in memory is sound");
                let payload = payload::direct(Timestamp(0), &head, batch);
                out.put_u32_le(u32::try_from(payload.len()).expect("two fragments are short"));
                out.put_slice(&payload);
                continue;
            }
            out.put_u32_le(u32::try_from(batch.bytes()).expect("a batch is smaller than that"));
            // Large batches stay slices of their own; small ones are cheaper to copy.
            if batch.bytes() < 4096 {
                batch.pieces().iter().for_each(|piece| out.extend_from_slice(piece));
            } else {
                slices.push(out.split().freeze());
                slices.extend(batch.slices());
            }
        }
        slices.push(out.freeze());
        slices
    }

    /// Reads what [`Log::encode`] wrote, and from `bodies` what lies in segments only.
    ///
    /// # Errors
    /// [`PayloadError`] where the bytes are not such a state.
    pub fn decode(partition: TopicPartition, mut from: Bytes, bodies: &dyn Bodies) -> Result<Log, PayloadError> {
        let version = from.try_get_u8()?;
        if !(WITHOUT_COMPACTION..=VERSION).contains(&version) {
            return Err(PayloadError::Version(version));
        }
        let mut log = Log::new(partition);
        log.start = Offset(from.try_get_i64_le()?);
        log.end = Offset(from.try_get_i64_le()?);
        log.durable = log.end;
        log.newest = Some(from.try_get_u64_le()?).filter(|&lsn| lsn != NO_LSN).map(Lsn);
        if version > WITHOUT_COMPACTION {
            log.clean_to = Offset(from.try_get_i64_le()?);
            log.sealed_to = Offset(from.try_get_i64_le()?);
        }
        // Whoever knew of no replicas was the whole in-sync set.
        log.high_watermark = log.end;
        log.undo = Undo::starting(log.end);
        if version > WITHOUT_REPLICAS {
            log.high_watermark = Offset(from.try_get_i64_le()?);
            log.newest_cut = Some(from.try_get_u64_le()?).filter(|&lsn| lsn != NO_LSN).map(Lsn);
            log.lineage = from.try_get_u32_le()?;
        }
        let mut segments = VecDeque::new();
        for _ in 0..from.try_get_u32_le()? {
            let mut segment = Segment::new(Offset(from.try_get_i64_le()?));
            segment.generation = if version > WITHOUT_COMPACTION { from.try_get_u32_le()? } else { 0 };
            segment.max_timestamp = from.try_get_i64_le()?;
            segment.since = Timestamp(from.try_get_i64_le()?);
            segment.bytes = from.try_get_u64_le()?;
            let bytes = from.try_get_u64_le()?;
            let entries = from.try_get_u64_le()?;
            let to = Offset(from.try_get_i64_le()?);
            segment.synced = Mark { bytes, entries, to };
            segment.written = bytes;
            segment.entries = entries;
            segment.written_to = if bytes > 0 { to } else { segment.base };
            segment.is_cut = version > WITHOUT_REPLICAS && from.try_get_u8()? != 0;
            segments.push_back(segment);
        }
        if segments.is_empty() {
            return Err(PayloadError::Contradiction("a log without a segment".into()));
        }
        log.segments = segments;
        let mut epochs = Vec::new();
        for _ in 0..from.try_get_u32_le()? {
            epochs.push((LeaderEpoch(from.try_get_i32_le()?), Offset(from.try_get_i64_le()?)));
        }
        log.epochs = Epochs::from_entries(epochs);
        for _ in 0..from.try_get_u32_le()? {
            let id = ProducerId(from.try_get_i64_le()?);
            log.producers.restore(id, read_producer(&mut from)?);
        }
        if version > WITHOUT_REPLICAS {
            log.undo = read_undo(&mut from)?;
        }
        log.awaited = Some(Offset(from.try_get_i64_le()?)).filter(|awaited| awaited.0 >= 0);
        // Positions follow from the order: the batches kept are those after the synced part of each segment.
        let mut expected = log.synced();
        let mut at: Vec<u64> = log.segments.iter().map(|segment| segment.synced.bytes).collect();
        for _ in 0..from.try_get_u32_le()? {
            let lsn = Lsn(from.try_get_u64_le()?);
            let is_direct = from.try_get_u8()? == 1;
            let bytes = usize::try_from(from.try_get_u32_le()?).expect("u32 fits");
            if from.len() < bytes || bytes < HEAD_BYTES {
                return Err(PayloadError::Short);
            }
            let batch = from.split_to(bytes);
            let mut batch = if is_direct {
                let direct = payload::read_direct(batch)?;
                let segment = log.segment_of(direct.head.base_offset);
                log.direct_batch(expected, direct, segment, bodies)?
            } else {
                let head = BatchHead::parse(&batch).map_err(|error| PayloadError::Contradiction(error.to_string()))?;
                Log::tail_batch(expected, &head, &batch.slice(HEAD_BYTES..))?
            };
            expected = Offset(batch.last.0 + 1);
            batch.lsn = lsn;
            let index = log.segments.partition_point(|segment| segment.base <= batch.base).max(1) - 1;
            if is_direct && batch.position != at[index] {
                return Err(PayloadError::Contradiction("a batch lies elsewhere than its segment says".into()));
            }
            batch.position = at[index];
            at[index] = at[index].saturating_add(batch.bytes() as u64);
            log.tail.push(batch);
        }
        let is_filled = log.segments.iter().zip(&at).all(|(segment, &at)| segment.bytes == at);
        if !is_filled && log.awaited.is_none() {
            return Err(PayloadError::Contradiction("its batches do not fill its segments".into()));
        }
        let end = log.filled();
        let is_whole = log.awaited.map_or(expected == end, |awaited| expected <= awaited && awaited < end);
        if !is_whole {
            return Err(PayloadError::Contradiction(format!("its batches end at {expected} and not at {end}")));
        }
        log.refuse_broken()?;
        Ok(log)
    }

    /// What is read is judged by the same rules as what we made, but as input: no assertion may fail for it.
    pub(super) fn refuse_broken(&self) -> Result<(), PayloadError> {
        self.broken().map_or(Ok(()), |what| Err(PayloadError::Contradiction(format!("not so: {what}"))))
    }

    /// The batch that begins at `from` or above, where these are one.
    fn tail_batch(from: Offset, head: &BatchHead, body: &Bytes) -> Result<TailBatch, PayloadError> {
        let (base, last) = (head.base_offset, head.last_offset());
        let follows = from <= base && base <= last && last < Offset(i64::MAX);
        if !follows || head.batch_bytes() != HEAD_BYTES + body.len() {
            return Err(PayloadError::Contradiction(format!("a batch at offset {base} does not follow its log")));
        }
        Ok(TailBatch::new(head, body))
    }

    fn segment_of(&self, offset: Offset) -> SegmentName {
        let index = self.segments.partition_point(|segment| segment.base <= offset).max(1) - 1;
        self.name_of(&self.segments[index])
    }

    /// Puts a batch together whose blocks lie in its segment, and checks that they are those that were written. Where
    /// they are not, [`Log::lacks`] tells of it: a later record may say that the batch's segment is gone.
    fn direct_batch(
        &mut self,
        expected: Offset,
        direct: payload::Direct,
        segment: SegmentName,
        bodies: &dyn Bodies,
    ) -> Result<TailBatch, PayloadError> {
        let payload::Direct { head, position, blocks, others, .. } = direct;
        let place = position.saturating_add(blocks.start as u64);
        let whole = |body: &[u8]| Bytes::from([&others[..blocks.start], body, &others[blocks.start..]].concat());
        let found = bodies.read(segment, place, blocks.len()).map(|body| whole(&body)).and_then(|found| {
            let file = crate::boundary::FileName::Segment(segment);
            let checked = crate::batch::check(&found);
            checked.map(|_| found).map_err(|error| format!("{file} is damaged at byte {position}: {error}"))
        });
        let found = match found {
            Ok(found) => found,
            Err(why) if blocks.len() > BATCH_BYTES_MAX as usize => return Err(PayloadError::Contradiction(why)),
            Err(why) => {
                self.lost.insert(head.base_offset, why);
                whole(&vec![0; blocks.len()])
            }
        };
        let mut batch = Log::tail_batch(expected, &head, &found.slice(HEAD_BYTES..))?;
        batch.position = position;
        batch.direct = Some(Box::new(blocks));
        Ok(batch)
    }

    /// Takes back into memory a batch that the checkpoint left to the journal.
    fn await_batch(
        &mut self,
        lsn: Lsn,
        kind: RecordKind,
        payload: Bytes,
        bodies: &dyn Bodies,
    ) -> Result<(), PayloadError> {
        let Some(awaited) = self.awaited.filter(|_| self.newest_cut.is_none_or(|cut| cut < lsn)) else {
            return Ok(());
        };
        let segment = self.segment_of(awaited);
        let mut batch = match kind {
            RecordKind::Append => {
                let (_, head, body) = payload::read_append(payload)?;
                if head.base_offset < awaited {
                    return Ok(());
                }
                Log::tail_batch(awaited, &head, &body)?
            }
            RecordKind::AppendDirect => {
                let direct = payload::read_direct(payload)?;
                if direct.head.base_offset < awaited {
                    return Ok(());
                }
                self.direct_batch(awaited, direct, segment, bodies)?
            }
            _ => return Ok(()),
        };
        batch.lsn = lsn;
        batch.position = match self.tail.newest().filter(|newest| newest.base >= segment.base) {
            Some(newest) => newest.position + newest.bytes() as u64,
            None => {
                let of = self.segments.iter().find(|known| known.base == segment.base);
                of.map_or(0, |of| of.synced.bytes)
            }
        };
        let next = Offset(batch.last.0 + 1);
        self.awaited = (next < self.filled()).then_some(next);
        self.tail.push(batch);
        Ok(())
    }

    /// What is missing once all records have been taken, if anything: a batch that the checkpoint left to the journal
    /// and the journal did not bring, or one whose body its segment does not hold, although it still should.
    pub fn lacks(&self) -> Option<String> {
        if let Some(offset) = self.awaited {
            return Some(format!("the journal lacks the batch at offset {offset}, which the checkpoint left to it"));
        }
        self.lost.range(self.segments[0].base..).next().map(|(_, why)| why.clone())
    }

    /// Takes one record of the journal again. Returns the segments whose files it lets go of.
    ///
    /// # Errors
    /// [`PayloadError`] where the record does not follow from what came before it.
    pub fn replay(
        &mut self,
        lsn: Lsn,
        kind: RecordKind,
        payload: Bytes,
        bodies: &dyn Bodies,
    ) -> Result<Vec<SegmentName>, PayloadError> {
        if self.newest.is_some_and(|newest| lsn <= newest) {
            // The checkpoint was taken after this record.
            return self.await_batch(lsn, kind, payload, bodies).map(|()| Vec::new());
        }
        let mut gone = Vec::new();
        match kind {
            RecordKind::Append => {
                let (seen, head, body) = payload::read_append(payload)?;
                self.fits(&head, body.len()).map_err(|misfit| PayloadError::Contradiction(misfit.to_string()))?;
                self.make_way(head.base_offset);
                let mut batch = TailBatch::new(&head, &body);
                batch.lsn = lsn;
                self.take(batch, &head, seen);
                self.durable = self.end;
            }
            RecordKind::AppendDirect => {
                let direct = payload::read_direct(payload)?;
                let (seen, head) = (direct.taken, direct.head);
                let body_bytes = head.batch_bytes() - HEAD_BYTES;
                self.fits(&head, body_bytes).map_err(|misfit| PayloadError::Contradiction(misfit.to_string()))?;
                if direct.position != self.active().bytes {
                    let text = format!("a batch at offset {} lies elsewhere than its segment says", head.base_offset);
                    return Err(PayloadError::Contradiction(text));
                }
                self.make_way(head.base_offset);
                let segment = self.active_name();
                let mut batch = self.direct_batch(head.base_offset, direct, segment, bodies)?;
                batch.lsn = lsn;
                self.take(batch, &head, seen);
                self.durable = self.end;
            }
            RecordKind::EpochStart => {
                let (epoch, start) = payload::read_epoch_start(payload)?;
                self.epochs.begin(epoch, start);
            }
            RecordKind::Roll => {
                let base = payload::read_offset(payload)?;
                if base != self.end || self.active().base == base {
                    let text = format!("a segment begins at {base} where the log ends at {}", self.end);
                    return Err(PayloadError::Contradiction(text));
                }
                self.close_active(base);
            }
            RecordKind::LogStart => {
                let to = payload::read_offset(payload)?;
                if to < self.start {
                    let text = format!("the log start moves back from {} to {to}", self.start);
                    return Err(PayloadError::Contradiction(text));
                }
                gone = self.cut_start(self.cut_at(to.min(self.end)));
            }
            RecordKind::Replace => gone = self.replay_replace(payload)?,
            RecordKind::Cleaned => self.replay_cleaned(payload)?,
            RecordKind::Sealed => self.replay_sealed(payload)?,
            RecordKind::Truncate => gone = self.replay_truncate(lsn, payload)?,
            RecordKind::StartAnew => gone = self.replay_start_anew(lsn, payload)?,
            other => return Err(PayloadError::Contradiction(format!("a record of kind {other:?} for a partition"))),
        }
        self.newest = Some(lsn);
        Ok(gone)
    }
}

fn put_producer(out: &mut BytesMut, producer: &Producer) {
    out.put_i16_le(producer.epoch.0);
    out.put_i64_le(producer.seen.0);
    out.put_u8(u8::try_from(producer.batches.len()).expect("a handful"));
    producer.batches.iter().for_each(|batch| put_remembered(out, batch));
}

fn read_producer(from: &mut Bytes) -> Result<Producer, PayloadError> {
    let epoch = ProducerEpoch(from.try_get_i16_le()?);
    let seen = Timestamp(from.try_get_i64_le()?);
    let count = from.try_get_u8()?;
    if usize::from(count) > BATCHES_REMEMBERED {
        return Err(PayloadError::Contradiction(format!("{count} batches of one producer, more than are remembered")));
    }
    let batches = (0..count).map(|_| read_remembered(from)).collect::<Result<SmallVec<_>, _>>()?;
    Ok(Producer { epoch, batches, seen })
}

fn put_remembered(out: &mut BytesMut, batch: &Remembered) {
    out.put_i32_le(batch.first_sequence);
    out.put_i32_le(batch.last_sequence);
    out.put_i64_le(batch.base.0);
    out.put_i64_le(batch.last.0);
    out.put_i64_le(batch.timestamp.0);
}

fn read_remembered(from: &mut Bytes) -> Result<Remembered, PayloadError> {
    Ok(Remembered {
        first_sequence: from.try_get_i32_le()?,
        last_sequence: from.try_get_i32_le()?,
        base: Offset(from.try_get_i64_le()?),
        last: Offset(from.try_get_i64_le()?),
        timestamp: Timestamp(from.try_get_i64_le()?),
    })
}

/// What a batch changed of its producer, as a number: nothing, [`Change::New`], [`Change::Next`] without or with a batch
/// that it took the place of, [`Change::Epoch`].
const UNCHANGED: u8 = 0;
const NEW: u8 = 1;
const NEXT: u8 = 2;
const NEXT_FOR_ANOTHER: u8 = 3;
const EPOCH: u8 = 4;

fn put_undo(out: &mut BytesMut, undo: &Undo) {
    out.put_i64_le(undo.from().0);
    out.put_u32_le(u32::try_from(undo.entries().len()).expect("they are bounded"));
    for Entry { base, end, before, max_timestamp, change } in undo.entries() {
        out.put_i64_le(base.0);
        out.put_i64_le(end.0);
        out.put_i64_le(before.0);
        out.put_i64_le(*max_timestamp);
        match change {
            None => out.put_u8(UNCHANGED),
            Some(Change::New(id)) => {
                out.put_u8(NEW);
                out.put_i64_le(id.0);
            }
            Some(Change::Next { id, seen, dropped }) => {
                out.put_u8(if dropped.is_some() { NEXT_FOR_ANOTHER } else { NEXT });
                out.put_i64_le(id.0);
                out.put_i64_le(seen.0);
                dropped.iter().for_each(|dropped| put_remembered(out, dropped));
            }
            Some(Change::Epoch(id, before)) => {
                out.put_u8(EPOCH);
                out.put_i64_le(id.0);
                put_producer(out, before);
            }
        }
    }
}

fn read_undo(from: &mut Bytes) -> Result<Undo, PayloadError> {
    let mut undo = Undo::starting(Offset(from.try_get_i64_le()?));
    let count = from.try_get_u32_le()?;
    if count as usize > REMEMBERED_MAX {
        return Err(PayloadError::Contradiction(format!("{count} batches are remembered, more than may be")));
    }
    for _ in 0..count {
        let base = Offset(from.try_get_i64_le()?);
        let end = Offset(from.try_get_i64_le()?);
        let before = Offset(from.try_get_i64_le()?);
        let max_timestamp = from.try_get_i64_le()?;
        let change = match from.try_get_u8()? {
            UNCHANGED => None,
            kind => {
                let id = ProducerId(from.try_get_i64_le()?);
                Some(match kind {
                    NEW => Change::New(id),
                    NEXT | NEXT_FOR_ANOTHER => {
                        let seen = Timestamp(from.try_get_i64_le()?);
                        let dropped = (kind == NEXT_FOR_ANOTHER).then(|| read_remembered(from)).transpose()?;
                        Change::Next { id, seen, dropped }
                    }
                    EPOCH => Change::Epoch(id, Box::new(read_producer(from)?)),
                    other => return Err(PayloadError::Contradiction(format!("a producer's change of kind {other}"))),
                })
            }
        };
        undo.push(Entry { base, end, before, max_timestamp, change });
    }
    Ok(undo)
}
