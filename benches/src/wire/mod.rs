//! The few Kafka messages that a load generator needs, written by hand so that the client costs next to nothing.
//!
//! Requests are encoded at the highest version that both sides speak; responses are read field by field from the
//! frame, and what the run does not need is skipped. Nothing here does I/O.

mod admin;
mod batch;
mod bytes;
mod commit;
mod error_code;
mod fetch;
mod produce;

pub(crate) use admin::{
    CreateTopic, EARLIEST, LATEST, Metadata, Versions, api_versions, create_topic, list_offsets, metadata,
    read_api_versions, read_create_topic, read_list_offsets, read_metadata,
};
pub(crate) use batch::{Batch, BatchView, batches};
pub(crate) use bytes::{Malformed, Reader, Writer};
pub(crate) use commit::{
    CommitTemplate, fetch_offsets, find_coordinator, read_commit, read_fetch_offsets, read_find_coordinator,
};
pub(crate) use error_code::ErrorCode;
pub(crate) use fetch::{FetchLimits, Fetched, fetch, read_fetch};
pub(crate) use produce::{Acknowledged, ProduceTemplate};

use std::fmt;
use std::ops::RangeInclusive;

/// The requests that this client makes, by their API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "ApiVersions is what Kafka calls the request")]
#[repr(i16)]
pub(crate) enum Api {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    ApiVersions = 18,
    CreateTopics = 19,
}

impl Api {
    /// The versions that this client speaks. They reach down to what old and minimal brokers serve, and up to where
    /// Kafka 4 still begins; topic ids (Produce 13, Fetch 13) would cost a lookup and measure nothing new.
    pub(crate) fn spoken(self) -> RangeInclusive<i16> {
        match self {
            Api::Produce => 3..=9,
            Api::Fetch => 4..=12,
            Api::ListOffsets => 1..=1,
            Api::Metadata => 1..=4,
            Api::OffsetCommit => 2..=7,
            Api::OffsetFetch => 1..=5,
            Api::FindCoordinator => 1..=2,
            Api::ApiVersions => 0..=0,
            Api::CreateTopics => 2..=4,
        }
    }

    /// The first version in the flexible encoding of KIP-482 (compact lengths, tagged fields).
    fn flexible_from(self) -> i16 {
        match self {
            Api::Produce => 9,
            Api::Fetch => 12,
            Api::ListOffsets => 6,
            Api::Metadata => 9,
            Api::OffsetCommit => 8,
            Api::OffsetFetch => 6,
            Api::FindCoordinator => 3,
            Api::ApiVersions => 3,
            Api::CreateTopics => 5,
        }
    }

    fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }
}

impl fmt::Display for Api {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    //! The second opinion on every message: an independent codec reads what we write and writes what we read.

    use super::*;
    use ::bytes::{Buf, Bytes, BytesMut};
    use kafka_protocol::messages::{RequestHeader, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

    /// Reads a whole frame of ours, which must leave nothing over.
    pub(super) fn parse_request<M: Decodable + HeaderVersion>(
        api: Api,
        version: i16,
        correlation: i32,
        frame: &[u8],
    ) -> M {
        let mut bytes = Bytes::copy_from_slice(frame);
        assert_eq!(bytes.get_i32() as usize, bytes.len(), "the frame's length");
        let header = RequestHeader::decode(&mut bytes, M::header_version(version)).expect("a header");
        assert_eq!(header.request_api_key, api as i16);
        assert_eq!(header.request_api_version, version);
        assert_eq!(header.correlation_id, correlation);
        let message = M::decode(&mut bytes, version).expect("a body");
        assert!(bytes.is_empty(), "{} bytes left over", bytes.len());
        message
    }

    /// A response as a broker would send it, without the length in front.
    pub(super) fn response_frame<M: Encodable + HeaderVersion>(version: i16, correlation: i32, message: &M) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(correlation)
            .encode(&mut bytes, M::header_version(version))
            .expect("a header");
        message.encode(&mut bytes, version).expect("a body");
        bytes.to_vec()
    }
}
