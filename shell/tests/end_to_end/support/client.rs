//! A blocking client that asks for any version of any API, and judges the shape of every response.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Message, Request, StrBytes};

/// Longer than any answer takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection to a broker.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        Self::try_connect(address).expect("the broker accepts connections")
    }

    pub(crate) fn try_connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Sends `request` in `version` and waits for its response.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.try_call(version, request).expect("the broker answers")
    }

    pub(crate) fn try_call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let correlation_id = self.send(version, request)?;
        self.receive::<R>(version, correlation_id)
    }

    /// Sends `request` without waiting; returns the correlation id that its response will carry.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<i32> {
        self.correlation_id += 1;
        let frame = encode(version, self.correlation_id, request);
        self.send_bytes(&frame)?;
        Ok(self.correlation_id)
    }

    /// The next response, which must be the one to the request of `correlation_id`, whole and with nothing behind it.
    pub(crate) fn receive<R: Request>(&mut self, version: i16, correlation_id: i32) -> io::Result<R::Response> {
        let mut frame = self.receive_frame()?;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, correlation_id, "responses come in the order of their requests");
        let response = R::Response::decode(&mut frame, version)
            .unwrap_or_else(|error| panic!("response to API {} version {version}: {error}", R::KEY));
        assert_eq!(frame.remaining(), 0, "bytes behind the response to API {} version {version}", R::KEY);
        Ok(response)
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame without its length.
    pub(crate) fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a frame's length is not negative");
        let mut frame = BytesMut::zeroed(length);
        self.stream.read_exact(&mut frame)?;
        Ok(frame.freeze())
    }

    /// Whether the broker closes the connection before it sends another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(read) => read == 0,
            // What we had sent and the broker never read turns its close into a reset.
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Tells the broker that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// The versions of an API that the broker advertises and our second codec knows.
    pub(crate) fn versions<R: Request>(&mut self) -> std::ops::RangeInclusive<i16> {
        let advertised = self.call(0, &ApiVersionsRequest::default());
        let api = advertised.api_keys.iter().find(|api| api.api_key == R::KEY);
        let api = api.unwrap_or_else(|| panic!("API {} is not advertised", R::KEY));
        let known = <R as Message>::VERSIONS;
        let range = api.min_version.max(known.min)..=api.max_version.min(known.max);
        assert!(!range.is_empty(), "API {}: {api:?} has nothing in common with {known:?}", R::KEY);
        range
    }
}

/// A whole frame, its length included.
pub(crate) fn encode<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("end-to-end")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).expect("the header can be encoded");
    request
        .encode(&mut body, version)
        .unwrap_or_else(|error| panic!("request to API {} version {version}: {error}", R::KEY));
    framed(&body)
}

/// `body` behind its length.
pub(crate) fn framed(body: &[u8]) -> Bytes {
    let length = i32::try_from(body.len()).expect("frames are below 2 GiB");
    [&length.to_be_bytes(), body].concat().into()
}
