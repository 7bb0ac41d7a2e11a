//! Why bytes are not a batch that can be taken, and the error code a producer is told.

use super::compress::Codec;
use std::fmt;

/// Why bytes are not a batch that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// There are no bytes at all.
    NoBatch,
    /// The bytes end before a batch's head does.
    BytesEndInsideHead {
        /// How many there are.
        bytes: usize,
    },
    /// The bytes end before the batch that its head announces.
    BytesEndInsideBatch {
        /// How many there are.
        bytes: usize,
        /// How many the head announces.
        batch_bytes: usize,
    },
    /// The length field is too small for the head that it is part of.
    LengthBelowHead {
        /// The field's value.
        length: i32,
    },
    /// Something follows where one batch was to be all.
    BytesFollowBatch {
        /// How many bytes follow.
        bytes: usize,
    },
    /// A format other than magic 2.
    MagicNotTwo {
        /// The magic found.
        magic: i8,
    },
    /// The batch is larger than anything that is taken.
    BatchTooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// The checksum does not fit the bytes.
    CrcDiffers {
        /// The checksum in the head.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The batch's offsets are negative, descend, or pass the largest offset there is.
    OffsetRangeImpossible {
        /// The first offset.
        base_offset: i64,
        /// How many offsets the last one lies above it.
        last_offset_delta: i32,
    },
    /// A producer gave its batch an offset, which is ours to give.
    BaseOffsetNotZero {
        /// The offset given.
        base_offset: i64,
    },
    /// The batch announces no records, or fewer than none.
    CountBelowOne {
        /// The count announced.
        count: i32,
    },
    /// The number of records and the offsets they would take differ.
    CountDiffersFromOffsets {
        /// The records announced.
        count: i32,
        /// How many offsets the last one lies above the first.
        last_offset_delta: i32,
    },
    /// The attributes name a codec that does not exist.
    CodecUnknown {
        /// The number found, 5 to 7.
        code: i16,
    },
    /// Control batches are written by brokers only.
    ControlBatchFromClient,
    /// A delete horizon is set by compaction only (KIP-534).
    DeleteHorizonFromClient,
    /// Whether append time is used is the topic's choice, not the producer's.
    LogAppendTimeFromClient,
    /// Of producer id, epoch and sequence some are set and some are not.
    ProducerFieldsDisagree {
        /// The producer id; -1 for none.
        producer_id: i64,
        /// The producer epoch; -1 for none.
        producer_epoch: i16,
        /// The first record's sequence; -1 for none.
        base_sequence: i32,
    },
    /// A transactional batch without a producer id.
    TransactionWithoutProducer,
    /// The compressed bytes are not what their codec writes.
    CompressedBytesUnreadable {
        /// The codec that the attributes name.
        codec: Codec,
    },
    /// The records are larger than anything that is decompressed.
    DecompressedTooLarge {
        /// The most that is decompressed, in bytes.
        limit: usize,
    },
    /// The records of a request are together larger than anything that is decompressed.
    RequestDecompressedTooLarge {
        /// The most that is decompressed for one request, in bytes.
        limit: usize,
    },
    /// The bytes end although more records are announced.
    RecordsEndEarly {
        /// The index of the record that is missing or cut, from 0.
        record: i32,
    },
    /// A part of a record does not fit into it, or is no number.
    RecordUnreadable {
        /// The record's index, from 0.
        record: i32,
        /// The part at fault.
        part: RecordPart,
    },
    /// A record's offset is not the next one, or lies outside its batch.
    RecordOffsetOutOfOrder {
        /// The record's index, from 0.
        record: i32,
        /// Its offset above the batch's first.
        offset_delta: i32,
    },
    /// A record's timestamp passes what a timestamp can hold.
    RecordTimestampOverflows {
        /// The record's index, from 0.
        record: i32,
    },
    /// Something follows the last record that is announced.
    BytesFollowRecords,
    /// A stored batch starts below the end of the one before.
    OffsetsDescend {
        /// The last offset before it.
        previous: i64,
        /// Its own first offset.
        base_offset: i64,
    },
    /// A batch that a leader sends is of an older epoch than the one before it, or of a newer one than its leader's.
    LeaderEpochImpossible {
        /// Its leader epoch.
        leader_epoch: i32,
        /// The oldest that it may have.
        oldest: i32,
        /// The newest.
        newest: i32,
    },
}

/// The parts of a record, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPart {
    /// The varint that holds the length of the rest.
    Length,
    /// The byte of attributes, unused so far.
    Attributes,
    /// The time above the batch's base timestamp.
    TimestampDelta,
    /// The offset above the batch's base offset.
    OffsetDelta,
    /// The key, with its length.
    Key,
    /// The value, with its length.
    Value,
    /// The number of headers.
    HeaderCount,
    /// A header's key, with its length.
    HeaderKey,
    /// A header's value, with its length.
    HeaderValue,
    /// The end, where more bytes follow than the parts use.
    End,
}

/// Kafka's codes for what is wrong with a produced batch.
mod code {
    /// Retried by producers: the bytes were damaged on their way.
    pub(super) const CORRUPT_MESSAGE: i16 = 2;
    /// Answered by producers with splitting a batch of several records.
    pub(super) const MESSAGE_TOO_LARGE: i16 = 10;
    pub(super) const INVALID_TIMESTAMP: i16 = 32;
    pub(super) const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub(super) const INVALID_RECORD: i16 = 87;
}

impl BatchError {
    /// The Kafka error code that a producer is answered with. Follows Kafka's `ProduceRequest.validateRecords`,
    /// `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`; where those leave an unexpected exception
    /// (UNKNOWN_SERVER_ERROR, which says nothing), the nearest code that is not retried.
    pub fn error_code(&self) -> i16 {
        match self {
            BatchError::LengthBelowHead { .. }
            | BatchError::CrcDiffers { .. }
            | BatchError::OffsetRangeImpossible { .. }
            | BatchError::OffsetsDescend { .. }
            | BatchError::LeaderEpochImpossible { .. } => code::CORRUPT_MESSAGE,
            // The two older formats are readable and refused; any other magic is damage.
            BatchError::MagicNotTwo { magic: 0 | 1 } => code::INVALID_RECORD,
            BatchError::MagicNotTwo { .. } => code::CORRUPT_MESSAGE,
            BatchError::BatchTooLarge { .. }
            | BatchError::DecompressedTooLarge { .. }
            | BatchError::RequestDecompressedTooLarge { .. } => code::MESSAGE_TOO_LARGE,
            BatchError::LogAppendTimeFromClient => code::INVALID_TIMESTAMP,
            BatchError::CodecUnknown { .. } => code::UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::NoBatch
            | BatchError::BytesEndInsideHead { .. }
            | BatchError::BytesEndInsideBatch { .. }
            | BatchError::BytesFollowBatch { .. }
            | BatchError::BaseOffsetNotZero { .. }
            | BatchError::CountBelowOne { .. }
            | BatchError::CountDiffersFromOffsets { .. }
            | BatchError::ControlBatchFromClient
            | BatchError::DeleteHorizonFromClient
            | BatchError::ProducerFieldsDisagree { .. }
            | BatchError::TransactionWithoutProducer
            | BatchError::CompressedBytesUnreadable { .. }
            | BatchError::RecordsEndEarly { .. }
            | BatchError::RecordUnreadable { .. }
            | BatchError::RecordOffsetOutOfOrder { .. }
            | BatchError::RecordTimestampOverflows { .. }
            | BatchError::BytesFollowRecords => code::INVALID_RECORD,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            BatchError::NoBatch => write!(f, "there is no record batch"),
            BatchError::BytesEndInsideHead { bytes } => {
                write!(f, "{bytes} bytes are too few for the head of a record batch")
            }
            BatchError::BytesEndInsideBatch { bytes, batch_bytes } => {
                write!(f, "the record batch announces {batch_bytes} bytes, of which {bytes} are there")
            }
            BatchError::LengthBelowHead { length } => {
                write!(f, "the record batch's length of {length} is below that of its own head")
            }
            BatchError::BytesFollowBatch { bytes } => write!(f, "{bytes} bytes follow the one record batch allowed"),
            BatchError::MagicNotTwo { magic } => write!(f, "the record batch has magic {magic}, only 2 is supported"),
            BatchError::BatchTooLarge { bytes, limit } => {
                write!(f, "the record batch has {bytes} bytes, at most {limit} are taken")
            }
            BatchError::CrcDiffers { stored, computed } => {
                write!(f, "the record batch's checksum is {stored:#010x}, its bytes give {computed:#010x}")
            }
            BatchError::OffsetRangeImpossible { base_offset, last_offset_delta } => {
                write!(f, "a record batch cannot reach from offset {base_offset} to {last_offset_delta} above it")
            }
            BatchError::BaseOffsetNotZero { base_offset } => {
                write!(f, "a produced record batch starts at offset 0, not {base_offset}")
            }
            BatchError::CountBelowOne { count } => write!(f, "the record batch announces {count} records"),
            BatchError::CountDiffersFromOffsets { count, last_offset_delta } => {
                write!(
                    f,
                    "the record batch announces {count} records, but its last offset delta is {last_offset_delta}"
                )
            }
            BatchError::CodecUnknown { code } => write!(f, "compression type {code} does not exist"),
            BatchError::ControlBatchFromClient => write!(f, "clients may not write control records"),
            BatchError::DeleteHorizonFromClient => write!(f, "clients may not set a delete horizon"),
            BatchError::LogAppendTimeFromClient => write!(f, "producers may not set the timestamp type to append time"),
            BatchError::ProducerFieldsDisagree { producer_id, producer_epoch, base_sequence } => write!(
                f,
                "producer id {producer_id}, epoch {producer_epoch} and sequence {base_sequence} do not go together"
            ),
            BatchError::TransactionWithoutProducer => write!(f, "a transactional record batch needs a producer id"),
            BatchError::CompressedBytesUnreadable { codec } => write!(f, "the records are not readable as {codec}"),
            BatchError::DecompressedTooLarge { limit } => {
                write!(f, "the records decompress to more than {limit} bytes")
            }
            BatchError::RequestDecompressedTooLarge { limit } => {
                write!(f, "the records of the request decompress to more than {limit} bytes together")
            }
            BatchError::RecordsEndEarly { record } => {
                write!(f, "the record batch ends before or inside record {record}")
            }
            BatchError::RecordUnreadable { record, part } => write!(f, "record {record}: its {part} does not fit"),
            BatchError::RecordOffsetOutOfOrder { record, offset_delta } => {
                write!(f, "record {record} has offset delta {offset_delta}")
            }
            BatchError::RecordTimestampOverflows { record } => write!(f, "record {record}: its timestamp overflows"),
            BatchError::BytesFollowRecords => write!(f, "bytes follow the last record announced"),
            BatchError::OffsetsDescend { previous, base_offset } => {
                write!(f, "a record batch starts at offset {base_offset} behind one that ends at {previous}")
            }
            BatchError::LeaderEpochImpossible { leader_epoch, oldest, newest } => {
                write!(f, "a record batch of leader epoch {leader_epoch} where there can only be {oldest} to {newest}")
            }
        }
    }
}

impl std::error::Error for BatchError {}

impl fmt::Display for RecordPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecordPart::Length => "length",
            RecordPart::Attributes => "attributes byte",
            RecordPart::TimestampDelta => "timestamp delta",
            RecordPart::OffsetDelta => "offset delta",
            RecordPart::Key => "key",
            RecordPart::Value => "value",
            RecordPart::HeaderCount => "header count",
            RecordPart::HeaderKey => "header key",
            RecordPart::HeaderValue => "header value",
            RecordPart::End => "end",
        })
    }
}
