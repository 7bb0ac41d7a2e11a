//! From a frame to a request for the node, or to the answer that needs no node.

use bytes::Bytes;
use smallvec::SmallVec;

use super::CloseReason;
use crate::batch::{self, BatchError, BatchLimits, VerifiedBatch};
use crate::boundary::{Client, Produce, ProducePartition, ProduceTopic, Refused, Request};
use crate::topic_codecs::TopicCodecs;
use crate::wire::{self, ApiKey, Decoded, ErrorCode, Response, Str, Undecodable, produce};

/// The partitions that one produce request may name. The node appends to all of them in one step, at some 0.3 µs each, and
/// a batch of nearly no bytes takes several hundred of them in memory. As many small records fill Java's `max.request.size`
/// by default, if each goes to a partition of its own.
pub(super) const PRODUCED_PARTITIONS_MAX: usize = 10_000;

/// What a frame comes to.
pub(super) enum Outcome {
    /// A request for the node.
    Asked {
        correlation_id: i32,
        version: i16,
        request: Request,
        /// What it takes beside its frame, in bytes.
        memory: usize,
    },
    /// Something that no node is needed to answer, and, if so, why the connection ends with that answer.
    Answered {
        correlation_id: i32,
        version: i16,
        /// `None` where the client wants none.
        response: Option<Box<Response>>,
        close: Option<CloseReason>,
    },
}

/// What a client calls itself that may write to the broker's own topics, as in Kafka.
const ADMIN_CLIENT: &str = "__admin_client";

/// Reads a frame, without its size, of a client that connects from `host`, and verifies the batches in it; they come out
/// as their topics store them.
pub(super) fn read(
    frame: Bytes,
    host: &Str,
    codecs: &TopicCodecs,
    limits: &BatchLimits,
) -> Result<Outcome, CloseReason> {
    let frame_bytes = frame.len();
    match wire::decode(frame) {
        Ok((header, Decoded::Produce(request), _)) if partitions(&request) > PRODUCED_PARTITIONS_MAX => {
            let (response, close) = refuse_long(request);
            Ok(Outcome::Answered {
                correlation_id: header.correlation_id,
                version: header.api_version,
                response,
                close,
            })
        }
        Ok((header, request, memory)) => Ok(Outcome::Asked {
            memory,
            correlation_id: header.correlation_id,
            version: header.api_version,
            request: match request {
                Decoded::Produce(request) => {
                    let may_write_internal = header.client_id.is_some_and(|id| id == ADMIN_CLIENT);
                    Request::Produce(verify(request, may_write_internal, frame_bytes, codecs, limits))
                }
                Decoded::Other(request) => match *request {
                    wire::Request::JoinGroup(_) | wire::Request::ConsumerGroupHeartbeat(_) => {
                        // A member outlives its request, and must not keep the request's memory.
                        let id = header.client_id.map_or(Str::EMPTY, |id| id.detached());
                        Request::Member { client: Client { id, host: host.clone() }, request }
                    }
                    _ => Request::Other(request),
                },
            },
        }),
        // Version 0 of this one answer is what every client can read, so that it may ask again in a version that we
        // share (KIP-511).
        Err(Undecodable::UnsupportedVersion { api_key: ApiKey::ApiVersions, correlation_id, .. }) => {
            Ok(Outcome::Answered {
                correlation_id,
                version: 0,
                response: Some(Box::new(wire::unsupported_version(ApiKey::ApiVersions))),
                close: None,
            })
        }
        Err(Undecodable::UnsupportedVersion { api_key, api_version, correlation_id }) => Ok(Outcome::Answered {
            correlation_id,
            version: *api_key.versions().end(),
            response: Some(Box::new(wire::unsupported_version(api_key))),
            close: Some(CloseReason::UnsupportedVersion { api_key, api_version }),
        }),
        Err(why) => Err(CloseReason::Undecodable(why)),
    }
}

/// How many partitions a produce request names.
fn partitions(request: &produce::ProduceRequest) -> usize {
    request.topic_data.iter().map(|topic| topic.partition_data.len()).sum()
}

/// What a produce request is answered that names too many partitions. One that wants no answer ends its connection, so
/// that the client sees that it lost something.
fn refuse_long(request: produce::ProduceRequest) -> (Option<Box<Response>>, Option<CloseReason>) {
    if request.acks == 0 {
        return (None, Some(CloseReason::PartitionsOfProduce { partitions: partitions(&request) }));
    }
    let refused = |data: produce::PartitionProduceData| produce::PartitionProduceResponse {
        index: data.index,
        error_code: ErrorCode::PolicyViolation.into(),
        base_offset: -1,
        error_message: Some(Str::from_static("The request names more than 10000 partitions; send fewer at a time.")),
        ..produce::PartitionProduceResponse::default()
    };
    let topic = |topic: produce::TopicProduceData| produce::TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.into_iter().map(refused).collect(),
    };
    let responses = request.topic_data.into_iter().map(topic).collect();
    let response = produce::ProduceResponse { responses, ..produce::ProduceResponse::default() };
    (Some(Box::new(response.into())), None)
}

/// Whether a frame's answer may be many times as large as the frame: with records, or with something about everything
/// there is, or for each name a list, or with what others have said.
pub(super) fn may_be_outgrown(frame: &[u8]) -> bool {
    let Some(&code) = frame.first_chunk() else { return false };
    match ApiKey::from_code(i16::from_be_bytes(code)) {
        Some(
            ApiKey::Fetch
            | ApiKey::Metadata
            | ApiKey::OffsetFetch
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::CreateTopics
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeLogDirs
            | ApiKey::DescribeProducers
            | ApiKey::ConsumerGroupHeartbeat
            | ApiKey::ConsumerGroupDescribe
            | ApiKey::DescribeTopicPartitions
            | ApiKey::ElectLeaders
            | ApiKey::ListPartitionReassignments
            | ApiKey::DescribeQuorum,
        ) => true,
        // For each thing that is named they answer a few numbers, or at most why not.
        Some(
            ApiKey::Produce
            | ApiKey::ListOffsets
            | ApiKey::OffsetCommit
            | ApiKey::FindCoordinator
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::ApiVersions
            | ApiKey::DeleteTopics
            | ApiKey::DeleteRecords
            | ApiKey::InitProducerId
            | ApiKey::OffsetForLeaderEpoch
            | ApiKey::AlterConfigs
            | ApiKey::CreatePartitions
            | ApiKey::DeleteGroups
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::OffsetDelete
            | ApiKey::DescribeCluster
            | ApiKey::AlterPartitionReassignments
            | ApiKey::UpdateFeatures
            | ApiKey::UnregisterBroker
            | ApiKey::AddRaftVoter
            | ApiKey::RemoveRaftVoter,
        )
        | None => false,
    }
}

/// Verifies the batches of a request. They are put where they stay until they are appended: they are the largest part of
/// what is handed over.
///
/// What they decompress to is bounded for all of them together: a request is read in one go, beside others that share
/// its thread, and a few kilobytes make a batch as large as `limits` allow. To store them under another codec
/// decompresses what has been let through once more, and nothing else.
fn verify(
    request: produce::ProduceRequest,
    may_write_internal: bool,
    frame_bytes: usize,
    codecs: &TopicCodecs,
    limits: &BatchLimits,
) -> Box<Produce> {
    let produce::ProduceRequest { transactional_id, acks, timeout_ms, topic_data } = request;
    let mut left = *limits;
    let topics = SmallVec::with_capacity(topic_data.len());
    let mut produce = Box::new(Produce { acks, timeout_ms, transactional_id, may_write_internal, topics });
    for produce::TopicProduceData { name, topic_id: id, partition_data } in topic_data {
        let partitions = SmallVec::with_capacity(partition_data.len());
        produce.topics.push(ProduceTopic { name, id, partitions });
        let topic = produce.topics.last_mut().expect("it was just pushed");
        for produce::PartitionProduceData { index, records } in partition_data {
            let batch = verify_batch(records.unwrap_or_default(), frame_bytes, limits, &mut left);
            let batch = batch.and_then(|batch| codecs.store(&topic.name, id, batch, limits));
            topic.partitions.push(ProducePartition { index, batch: batch.map_err(|error| refused(&error)) });
        }
    }
    produce
}

/// Verifies one batch of a request for which `left` is left of its `limits`.
fn verify_batch(
    records: Bytes,
    frame_bytes: usize,
    limits: &BatchLimits,
    left: &mut BatchLimits,
) -> Result<VerifiedBatch, BatchError> {
    // The batch may stay in memory long after the request. It must not keep a frame alive that is much larger than
    // itself.
    let records = if records.len() < frame_bytes / 2 { Bytes::copy_from_slice(&records) } else { records };
    batch::verify_next(records, left).map_err(|error| match error {
        BatchError::DecompressedTooLarge { .. } => {
            BatchError::RequestDecompressedTooLarge { limit: limits.decompressed_bytes_max }
        }
        error => error,
    })
}

fn refused(error: &BatchError) -> Refused {
    let code = ErrorCode::from_code(error.error_code()).unwrap_or(ErrorCode::InvalidRecord);
    Refused { code, message: Some(Str::from(error.to_string())) }
}
