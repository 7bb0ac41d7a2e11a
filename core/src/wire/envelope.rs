//! Whole requests and responses: header and body.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

use super::produce::ProduceRequest;
use super::{ApiKey, Field, Malformed, Nullable, Reader, Request, Response, Shape, Str, TooLong, Writer};

/// What precedes every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's number.
    pub api_key: i16,
    /// The version of the API that the body is in, and that the response shall be in.
    pub api_version: i16,
    /// Comes back with the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// Why a frame is no request that can be served, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// Not even the header can be read: close the connection.
    Header(Malformed),
    /// An API that we do not serve: close the connection, as the shape of an answer is unknown.
    UnknownKey {
        /// Its number.
        api_key: i16,
        /// The version asked for.
        api_version: i16,
        /// What an answer would carry.
        correlation_id: i32,
    },
    /// A version that we do not speak: answer with [`unsupported_version`](super::unsupported_version). Nothing after
    /// the first eight bytes has been read, since their shape is unknown.
    UnsupportedVersion {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        api_version: i16,
        /// What the answer is to carry.
        correlation_id: i32,
    },
    /// A body that is not what its version says: close the connection.
    Body {
        /// The API.
        api_key: ApiKey,
        /// The header, which is well formed.
        header: RequestHeader,
        /// What is wrong with the body.
        malformed: Malformed,
        /// How many bytes of the frame had been read when it showed.
        position: usize,
    },
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undecodable::Header(malformed) => write!(f, "request header: {malformed}"),
            Undecodable::UnknownKey { api_key, api_version, .. } => {
                write!(f, "unknown API key {api_key} (version {api_version})")
            }
            Undecodable::UnsupportedVersion { api_key, api_version, .. } => {
                write!(f, "unsupported version {api_version} of {api_key}")
            }
            Undecodable::Body { api_key, header, malformed, position } => {
                write!(f, "{api_key} request, version {}, byte {position}: {malformed}", header.api_version)
            }
        }
    }
}

impl Error for Undecodable {}

/// Reads a request from `frame`, which does not have its size prefix any more. Records and strings stay in the frame's
/// buffer.
///
/// Bytes after the last field are ignored, as Kafka ignores them: what a request means does not depend on them, and the
/// size prefix says where the next one starts.
///
/// # Errors
/// See [`Undecodable`].
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), Undecodable> {
    decode_request_counted(frame).map(|(header, request, _)| (header, request))
}

/// The same, and how many bytes of memory the request takes beside its frame.
///
/// # Errors
/// As [`decode_request`].
pub fn decode_request_counted(frame: Bytes) -> Result<(RequestHeader, Request, usize), Undecodable> {
    let (api_key, header, mut reader) = decode_header(frame)?;
    match Request::decode(api_key, header.api_version, &mut reader) {
        Ok(request) => Ok((header, request, reader.memory())),
        Err(malformed) => Err(Undecodable::Body { api_key, header, malformed, position: reader.position() }),
    }
}

/// What a broker is asked most often apart from all else, since it is moved about less that way: see [`decode_request`].
#[derive(Debug)]
pub(crate) enum Decoded {
    Produce(ProduceRequest),
    Other(Box<Request>),
}

/// As [`decode_request_counted`].
///
/// # Errors
/// See [`Undecodable`].
pub(crate) fn decode(frame: Bytes) -> Result<(RequestHeader, Decoded, usize), Undecodable> {
    let (api_key, header, mut reader) = decode_header(frame)?;
    let version = header.api_version;
    let decoded = match api_key {
        ApiKey::Produce => Field::decode(&mut reader, api_key.shape(version)).map(Decoded::Produce),
        _ => Request::decode(api_key, version, &mut reader).map(|request| Decoded::Other(Box::new(request))),
    };
    match decoded {
        Ok(request) => Ok((header, request, reader.memory())),
        Err(malformed) => Err(Undecodable::Body { api_key, header, malformed, position: reader.position() }),
    }
}

/// The header of a request in a version that we speak, and the rest of its frame.
fn decode_header(frame: Bytes) -> Result<(ApiKey, RequestHeader, Reader), Undecodable> {
    let mut reader = Reader::new(frame);
    let mut fixed = || Ok((reader.i16()?, reader.i16()?, reader.i32()?));
    let (key, api_version, correlation_id) = fixed().map_err(Undecodable::Header)?;
    let Some(api_key) = ApiKey::from_code(key) else {
        return Err(Undecodable::UnknownKey { api_key: key, api_version, correlation_id });
    };
    if !api_key.speaks(api_version) {
        return Err(Undecodable::UnsupportedVersion { api_key, api_version, correlation_id });
    }
    let client_id = decode_client_id(api_key, api_version, &mut reader).map_err(Undecodable::Header)?;
    Ok((api_key, RequestHeader { api_key: key, api_version, correlation_id, client_id }, reader))
}

/// The rest of a request's header. Its string has 16 bits of length even where the header has tagged fields.
fn decode_client_id(api_key: ApiKey, version: i16, reader: &mut Reader) -> Result<Option<Str>, Malformed> {
    let client_id = Str::decode_nullable(reader, CLIENT_ID)?;
    if api_key.request_header_version(version) >= 2 {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(client_id)
}

const CLIENT_ID: Shape = Shape { nullable: true, ..Shape::message(1, false) };

/// Appends a request with its size prefix to `writer`, in the version that `header` names.
///
/// # Panics
/// Where `header` names another API than `request` is of, or a version that we do not speak, or `request` has 2 GiB.
pub fn encode_request(header: &RequestHeader, request: &Request, writer: &mut Writer) {
    let api_key = request.api_key();
    assert_eq!(header.api_key, api_key.code(), "the header names the request's API");
    assert!(api_key.speaks(header.api_version), "{api_key} has no version {}", header.api_version);
    let size = writer.begin_sized();
    writer.i16(header.api_key);
    writer.i16(header.api_version);
    writer.i32(header.correlation_id);
    header.client_id.encode(writer, CLIENT_ID);
    if api_key.request_header_version(header.api_version) >= 2 {
        writer.unsigned_varint(0);
    }
    request.encode(header.api_version, writer);
    writer.end_sized(size).expect("nobody asks for so much at once");
}

/// Appends a response with its size prefix to `writer`.
///
/// # Errors
/// Where it has 2 GiB or more: `writer` holds what must not be sent.
///
/// # Panics
/// Where we do not speak `version`.
pub fn encode_response(
    response: &Response,
    version: i16,
    correlation_id: i32,
    writer: &mut Writer,
) -> Result<(), TooLong> {
    let api_key = response.api_key();
    assert!(api_key.speaks(version), "{api_key} has no version {version}");
    let size = writer.begin_sized();
    writer.i32(correlation_id);
    if api_key.response_header_version(version) >= 1 {
        writer.unsigned_varint(0);
    }
    response.encode(version, writer);
    writer.end_sized(size)
}

/// Reads a response from `frame`, which does not have its size prefix any more: its correlation id and itself. The
/// version must be one that we speak.
///
/// # Errors
/// Where the bytes are not such a response. Bytes after the last field are refused: no broker sends any, so they show
/// that the two sides differ about the version.
pub fn decode_response(api_key: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Response), Malformed> {
    let mut reader = Reader::of_answer(frame);
    let correlation_id = reader.i32()?;
    if api_key.response_header_version(version) >= 1 {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    let response = Response::decode(api_key, version, &mut reader)?;
    if reader.remaining() > 0 {
        return Err(Malformed::TrailingBytes);
    }
    Ok((correlation_id, response))
}

#[cfg(test)]
mod tests {
    use super::super::{ApiKey, ErrorCode, api_versions, fetch, metadata, produce, unsupported_version};
    use super::*;
    use crate::ids::Uuid;

    fn encoded(response: impl Into<Response>, version: i16) -> Bytes {
        let mut writer = Writer::new();
        encode_response(&response.into(), version, 7, &mut writer).expect("it is short");
        writer.finish().to_bytes()
    }

    #[test]
    fn a_produce_request_keeps_its_records_in_the_frame() {
        let frame = Bytes::from_static(
            b"\0\0\0\x09\0\0\0\x2a\0\x02me\0\0\xff\xff\0\0\x05\xdc\x02\x07orders\x02\0\0\0\x03\x04abc\0\0\0",
        );
        let (header, request) = decode_request(frame.clone()).unwrap();
        assert_eq!(
            header,
            RequestHeader { api_key: 0, api_version: 9, correlation_id: 42, client_id: Some(Str::from("me")) }
        );
        let records = frame.slice(frame.len() - 6..frame.len() - 3);
        let partition = produce::PartitionProduceData { index: 3, records: Some(records.clone()) };
        let topic =
            produce::TopicProduceData { name: "orders".into(), topic_id: Uuid::ZERO, partition_data: vec![partition] };
        let expect =
            produce::ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 1500, topic_data: vec![topic] };
        assert_eq!(request, Request::Produce(expect));
        let Request::Produce(request) = request else { unreachable!() };
        let read = request.topic_data[0].partition_data[0].records.as_ref().unwrap();
        assert_eq!(read.as_ptr(), records.as_ptr());

        let mut writer = Writer::new();
        encode_request(&header, &request.into(), &mut writer);
        assert_eq!(writer.finish().to_bytes()[4..], frame);
    }

    #[test]
    fn an_answer_to_api_versions_has_a_plain_header_in_every_version() {
        fn check(version: i16, expect: &[u8]) {
            let api_keys = vec![api_versions::ApiVersion { api_key: 18, min_version: 0, max_version: 4 }];
            let response = api_versions::ApiVersionsResponse { error_code: 35, api_keys, ..Default::default() };
            assert_eq!(encoded(response, version)[..], *expect, "version {version}");
        }
        check(0, b"\0\0\0\x10\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04");
        check(3, b"\0\0\0\x13\0\0\0\x07\0\x23\x02\0\x12\0\0\0\x04\0\0\0\0\0\0");
    }

    #[test]
    fn a_flexible_answer_has_a_flexible_header() {
        let response = || produce::ProduceResponse::default();
        assert_eq!(&encoded(response(), 8)[..], b"\0\0\0\x0c\0\0\0\x07\0\0\0\0\0\0\0\0");
        assert_eq!(&encoded(response(), 9)[..], b"\0\0\0\x0b\0\0\0\x07\0\x01\0\0\0\0\0");
    }

    #[test]
    fn an_unknown_key_or_version_is_told_by_the_first_eight_bytes_alone() {
        fn check(frame: &'static [u8], expect: Undecodable) {
            assert_eq!(decode_request(Bytes::from_static(frame)), Err(expect));
        }
        check(
            b"\x03\xe8\0\x05\0\0\0\x09",
            Undecodable::UnknownKey { api_key: 1000, api_version: 5, correlation_id: 9 },
        );
        check(
            b"\0\x12\0\x7f\0\0\0\x09\xde\xad",
            Undecodable::UnsupportedVersion { api_key: ApiKey::ApiVersions, api_version: 127, correlation_id: 9 },
        );
        check(
            b"\0\0\0\x02\0\0\0\x09",
            Undecodable::UnsupportedVersion { api_key: ApiKey::Produce, api_version: 2, correlation_id: 9 },
        );
        check(b"\0\0\0", Undecodable::Header(Malformed::EndsInsideField));
        check(b"\0\x12\0\0\0\0\0\x09\0\x05me", Undecodable::Header(Malformed::LengthPastEnd));
    }

    #[test]
    fn bytes_after_a_request_are_ignored_and_after_a_response_refused() {
        assert!(decode_request(Bytes::from_static(b"\0\x12\0\0\0\0\0\x09\xff\xffmore")).is_ok());
        let mut response = encoded(api_versions::ApiVersionsResponse::default(), 0)[4..].to_vec();
        assert!(decode_response(ApiKey::ApiVersions, 0, response.clone().into()).is_ok());
        response.push(0);
        assert_eq!(decode_response(ApiKey::ApiVersions, 0, response.into()), Err(Malformed::TrailingBytes));
    }

    #[test]
    fn a_null_where_none_may_be_is_refused() {
        // Metadata 0 knows no null list of topics; version 1 reads it as all.
        let frame = |version| Bytes::from(vec![0, 3, 0, version, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let Err(Undecodable::Body { malformed, position, .. }) = decode_request(frame(0)) else { panic!("refused") };
        assert_eq!((malformed, position), (Malformed::UnexpectedNull, 14));
        let Ok((_, Request::Metadata(request))) = decode_request(frame(1)) else { panic!("read") };
        assert_eq!((request.topics, request.allow_auto_topic_creation), (None, true));
    }

    #[test]
    fn none_is_written_as_empty_where_the_version_knows_no_null() {
        let topics = vec![metadata::MetadataResponseTopic { name: None, ..Default::default() }];
        let response = metadata::MetadataResponse { topics, ..Default::default() };
        let read = |version| {
            let frame = encoded(response.clone(), version).slice(4..);
            let Ok((7, Response::Metadata(read))) = decode_response(ApiKey::Metadata, version, frame) else {
                panic!("read")
            };
            read.topics[0].name.clone()
        };
        assert_eq!(read(11), Some(Str::EMPTY));
        assert_eq!(read(12), None);
    }

    #[test]
    fn fetched_records_leave_as_they_came() {
        let pieces = [Bytes::from(vec![1; 61]), Bytes::from(vec![2; 5000]), Bytes::from(vec![3; 2000])];
        let records = Some(pieces.iter().cloned().collect());
        let partitions = vec![fetch::PartitionData { records, ..Default::default() }];
        let responses = vec![fetch::FetchableTopicResponse { partitions, ..Default::default() }];
        let response = Response::from(fetch::FetchResponse { responses, ..Default::default() });
        for version in ApiKey::Fetch.versions() {
            let mut writer = Writer::new();
            encode_response(&response, version, 7, &mut writer).expect("it is short");
            encode_response(&response, version, 7, &mut writer).expect("it is short");
            let frame = writer.finish();
            for piece in &pieces[1..] {
                assert_eq!(frame.chunks().iter().filter(|chunk| chunk.as_ptr() == piece.as_ptr()).count(), 2);
            }
            let bytes = frame.to_bytes();
            let (first, second) = bytes.split_at(bytes.len() / 2);
            assert_eq!(first, second);
            assert_eq!(first[..4], (first.len() as i32 - 4).to_be_bytes());
            assert_eq!(decode_response(ApiKey::Fetch, version, bytes.slice(4..first.len())), Ok((7, response.clone())));
        }
    }

    #[test]
    fn every_api_can_say_that_a_version_is_unsupported() {
        for &api_key in ApiKey::ALL {
            let response = unsupported_version(api_key);
            assert_eq!(response.api_key(), api_key);
            let version = *api_key.versions().end();
            let frame = encoded(response.clone(), version).slice(4..);
            assert_eq!(decode_response(api_key, version, frame), Ok((7, response.clone())));
            let code = format!("error_code: {}", ErrorCode::UnsupportedVersion.code());
            assert_eq!(format!("{response:?}").matches(&code).count(), 1, "{response:?}");
        }
    }
}
