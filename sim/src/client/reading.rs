//! What consumers and the auditor have in common: questions for offsets, and batches taken apart.

use bytes::Bytes;
use chronik_core::batch::{Records, Scan};
use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::fetch::PartitionData;
use chronik_core::wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use chronik_core::wire::{ErrorCode, Request, Str};

use super::Wanted;
use crate::history::{Read, What};
use crate::value;

/// What ListOffsets takes for "the end".
pub(super) const LATEST: i64 = -1;
/// What ListOffsets takes for "the start".
pub(super) const EARLIEST: i64 = -2;
/// What ListOffsets takes for "the record with the largest timestamp" (KIP-734).
pub(super) const MAX_TIMESTAMP: i64 = -3;

/// No batch of these clients is larger when it is decompressed, in bytes.
const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

/// A partition to be looked up, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sought {
    pub(super) name: Str,
    pub(super) partition: TopicPartition,
}

/// Asks for an offset of each of these partitions, which stand together by topic.
pub(super) fn list_offsets<'a>(sought: impl IntoIterator<Item = &'a Sought>, timestamp: i64) -> Request {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for Sought { name, partition } in sought {
        if topics.last().is_none_or(|topic| topic.name != *name) {
            topics.push(ListOffsetsTopic { name: name.clone(), ..ListOffsetsTopic::default() });
        }
        let partition =
            ListOffsetsPartition { partition_index: partition.partition, timestamp, ..ListOffsetsPartition::default() };
        topics.last_mut().expect("one was pushed").partitions.push(partition);
    }
    ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() }.into()
}

/// Records an answer to [`list_offsets`] and returns each partition's error or offset.
///
/// # Errors
/// Where it does not name exactly the partitions that were asked for.
pub(super) fn listed(
    sought: &[Sought],
    asked: i64,
    asked_at: Instant,
    response: &ListOffsetsResponse,
    operation: Option<u32>,
    wanted: &mut Vec<Wanted>,
) -> Result<Vec<Result<Offset, ErrorCode>>, String> {
    let told: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
    if told != sought.len() {
        return Err(format!("offsets of {} partitions were asked for, {told} are told", sought.len()));
    }
    let mut offsets = Vec::with_capacity(sought.len());
    for Sought { name, partition } in sought {
        let topic = response.topics.iter().find(|topic| topic.name == *name);
        let mut partitions = topic.iter().flat_map(|topic| &topic.partitions);
        let answer = partitions.find(|answer| answer.partition_index == partition.partition);
        let answer = answer.ok_or_else(|| format!("no offset of {partition} is told"))?;
        let code = known_code(answer.error_code)?;
        let (offset, timestamp) = (Offset(answer.offset), answer.timestamp);
        let what = What::Listed { partition: *partition, asked, asked_at, code, offset, timestamp };
        wanted.push(Wanted::Record(operation, what));
        offsets.push(if code == ErrorCode::None { Ok(offset) } else { Err(code) });
    }
    Ok(offsets)
}

/// The error of this number.
///
/// # Errors
/// Where Kafka has none of it.
pub(super) fn known_code(code: i16) -> Result<ErrorCode, String> {
    ErrorCode::from_code(code).ok_or_else(|| format!("error {code} does not exist"))
}

/// One partition's part of a fetch request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetching {
    pub(super) partition: TopicPartition,
    pub(super) from: Offset,
    pub(super) asked_at: Instant,
    pub(super) operation: Option<u32>,
}

impl Fetching {
    /// Records what was told of the partition; returns its error, and where to read on.
    ///
    /// # Errors
    /// Where what came are no batches of whole records that some client sent. What came before is recorded all the same.
    pub(super) fn told(&self, data: &PartitionData, wanted: &mut Vec<Wanted>) -> Result<(ErrorCode, Offset), String> {
        let code = known_code(data.error_code)?;
        let mut records = Vec::new();
        let mut next = self.from;
        let result = data.records.iter().flat_map(|records| &records.0).try_for_each(|run| {
            read_run(run, self.from, &mut next, &mut records).map_err(|what| format!("{}: {what}", self.partition))
        });
        let what = What::Fetched {
            partition: self.partition,
            from: self.from,
            asked_at: self.asked_at,
            code,
            high_watermark: Offset(data.high_watermark),
            last_stable: Offset(data.last_stable_offset),
            log_start: Offset(data.log_start_offset),
            records,
            next,
        };
        wanted.push(Wanted::Record(self.operation, what));
        result.map(|()| (code, next))
    }
}

/// Reads a run of batches.
fn read_run(run: &Bytes, from: Offset, next: &mut Offset, records: &mut Vec<Read>) -> Result<(), String> {
    for found in Scan::checked(run) {
        let found = found.map_err(|error| format!("the batches cannot be read {error}"))?;
        let unreadable = |error| format!("the batch at {} cannot be read: {error}", found.head.base_offset);
        let mut batch = Records::open(&run[found.range.clone()], DECOMPRESSED_BYTES_MAX).map_err(unreadable)?;
        while let Some(record) = batch.next_record().map_err(unreadable)? {
            if record.offset < from {
                continue;
            }
            let (attempt, index) =
                value::recognise(&record).map_err(|what| format!("the record at {}: {what}", record.offset))?;
            let (offset, timestamp, leader_epoch) = (record.offset, record.timestamp.0, found.head.leader_epoch.0);
            records.push(Read { offset, timestamp, attempt, index, leader_epoch });
        }
        *next = (*next).max(found.head.next_offset());
    }
    Ok(())
}
