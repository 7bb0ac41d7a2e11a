//! The copies of partitions on brokers that do not lead them, as far as they have been read (KIP-392).

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;
use chronik_core::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};

use super::{FAILURES_MAX, MAX_BYTES};
use crate::client::Wanted;
use crate::client::reading::Fetching;
use crate::client::wires::Node;
use crate::history::What;

/// A copy, to be read from where the leader's log starts to where it ended.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) partition: TopicPartition,
    pub(super) node: Node,
    position: Offset,
    until: Offset,
    failures: u32,
}

impl Copy {
    pub(super) fn new(partition: TopicPartition, node: Node, from: Offset, until: Offset) -> Copy {
        Copy { partition, node, position: from, until, failures: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.position >= self.until || self.failures >= FAILURES_MAX
    }

    pub(super) fn request(&self) -> FetchRequest {
        let TopicPartition { topic: topic_id, partition } = self.partition;
        let (fetch_offset, partition_max_bytes) = (self.position.0, MAX_BYTES);
        let partition = FetchPartition { partition, fetch_offset, partition_max_bytes, ..FetchPartition::default() };
        let topic = FetchTopic { topic_id, partitions: vec![partition], ..FetchTopic::default() };
        FetchRequest { max_wait_ms: 100, max_bytes: MAX_BYTES, topics: vec![topic], ..FetchRequest::default() }
    }

    /// Takes an answer. Whether it was of any use: what a follower does not have yet, it may have soon.
    ///
    /// # Errors
    /// Where what came is not what was asked for, or cannot be read.
    pub(super) fn take(
        &mut self,
        asked_at: Instant,
        response: &FetchResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<bool, String> {
        let parts = response.responses.iter().flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
        let [(topic, data)] = parts.collect::<Vec<_>>()[..] else {
            return Err(format!("a copy of {} was asked for, and not only it is told", self.partition));
        };
        if (topic.topic_id, data.partition_index) != (self.partition.topic, self.partition.partition) {
            return Err(format!("a copy of {} was asked for, and not it is told", self.partition));
        }
        let fetching = Fetching { partition: self.partition, from: self.position, asked_at, operation: None };
        let mut told = Vec::new();
        let (code, next) = fetching.told(data, &mut told)?;
        if code == ErrorCode::None && next > self.position {
            if let Some(Wanted::Record(_, What::Fetched { records, .. })) = told.pop() {
                wanted.push(self.read(code, records, next));
            }
            (self.position, self.failures) = (next, 0);
            return Ok(true);
        }
        self.fail(code, wanted);
        Ok(false)
    }

    /// Nothing came of a request.
    pub(super) fn fail(&mut self, code: ErrorCode, wanted: &mut Vec<Wanted>) {
        self.failures += 1;
        if self.failures == FAILURES_MAX {
            wanted.push(self.read(code, Vec::new(), self.until));
        }
    }

    fn read(&self, code: ErrorCode, records: Vec<crate::history::Read>, next: Offset) -> Wanted {
        let Copy { partition, node, position: from, until, .. } = *self;
        Wanted::Record(None, What::Copied { partition, node, from, code, records, next, until })
    }
}
