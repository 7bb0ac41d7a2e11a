//! One connection to a broker: a request, its answer, the next request.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use chronik_core::wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use chronik_core::wire::{
    ApiKey, ErrorCode, Request, RequestHeader, Response, Writer, decode_response, encode_request,
};

use super::Fault;
use crate::cli::options::Address;

/// A larger answer is none: that about the most partitions that there may be is some ten times smaller, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A connection to a broker that has said which requests it takes.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    server: String,
    timeout: Duration,
    /// Of each API the oldest and the newest version.
    versions: BTreeMap<i16, (i16, i16)>,
    asked: i32,
}

impl Link {
    /// Connects to the first of these that answers.
    pub(super) fn connect(servers: &[Address], timeout: Duration) -> Result<Link, Fault> {
        let mut faults = Vec::new();
        for server in servers {
            match Link::connect_to(server, timeout) {
                Ok(link) => return Ok(link),
                Err(Fault::Unreachable(why)) => faults.push(why),
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::Unreachable(faults.join("; ")))
    }

    fn connect_to(server: &Address, timeout: Duration) -> Result<Link, Fault> {
        let unreachable = |why: io::Error| Fault::Unreachable(format!("cannot reach a broker at {server}: {why}"));
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (server.host.as_str(), server.port).to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    let link = || -> io::Result<TcpStream> {
                        stream.set_nodelay(true)?;
                        stream.set_read_timeout(Some(timeout))?;
                        stream.set_write_timeout(Some(timeout))?;
                        Ok(stream)
                    };
                    let stream = link().map_err(unreachable)?;
                    let (server, versions) = (server.to_string(), BTreeMap::new());
                    let mut link = Link { stream, server, timeout, versions, asked: 0 };
                    link.greet()?;
                    return Ok(link);
                }
                Err(why) => last = why,
            }
        }
        Err(unreachable(last))
    }

    /// Asks which versions the broker takes.
    fn greet(&mut self) -> Result<(), Fault> {
        let (key, version) = (ApiKey::ApiVersions, *ApiKey::ApiVersions.versions().start());
        let response = self.exchange(key, version, ApiVersionsRequest::default().into())?;
        let Response::ApiVersions(ApiVersionsResponse { error_code: 0, api_keys, .. }) = response else {
            return Err(Fault::Unreachable(format!("{} does not say what it can be asked", self.server)));
        };
        self.versions = api_keys.into_iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    /// How long an answer may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The newest version that both sides speak, if there is one.
    fn version(&self, key: ApiKey) -> Option<i16> {
        let &(oldest, newest) = self.versions.get(&key.code())?;
        let ours = key.versions();
        let version = newest.min(*ours.end());
        (version >= oldest.max(*ours.start())).then_some(version)
    }

    /// Whether the broker can be asked this.
    pub(super) fn knows(&self, key: ApiKey) -> bool {
        self.version(key).is_some()
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, request: impl Into<Request>) -> Result<Response, Fault> {
        let request = request.into();
        let key = request.api_key();
        let Some(version) = self.version(key) else {
            return Err(Fault::Refused(format!("the broker at {} does not know {key}", self.server)));
        };
        self.exchange(key, version, request)
    }

    fn exchange(&mut self, key: ApiKey, version: i16, request: Request) -> Result<Response, Fault> {
        self.asked += 1;
        let header = RequestHeader {
            api_key: key.code(),
            api_version: version,
            correlation_id: self.asked,
            client_id: Some("chronik-cluster".into()),
        };
        let mut writer = Writer::new();
        encode_request(&header, &request, &mut writer);
        let frame = self.carry(&writer.finish().to_bytes()).map_err(|why| self.lost(key, &why))?;
        match decode_response(key, version, frame) {
            Ok((correlation_id, response)) if correlation_id == self.asked => Ok(response),
            Ok(_) => Err(Fault::Unreachable(format!("{} answered something else than it was asked", self.server))),
            Err(why) => {
                Err(Fault::Unreachable(format!("the answer of {} to {key} cannot be read: {why}", self.server)))
            }
        }
    }

    fn carry(&mut self, request: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(request)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).ok().filter(|&size| size <= ANSWER_BYTES_MAX);
        let Some(size) = size else { return Err(io::Error::other("it does not speak the Kafka protocol")) };
        let mut frame = Vec::new();
        // Not set aside at once: a size is no more than what somebody says.
        (&self.stream).take(size as u64).read_to_end(&mut frame)?;
        if frame.len() < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(frame.into())
    }

    fn lost(&self, key: ApiKey, why: &io::Error) -> Fault {
        let why = match why.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no answer for {} s", self.timeout.as_secs())
            }
            // As brokers do where other nodes are to connect, and programs that speak something else.
            io::ErrorKind::UnexpectedEof => {
                "it closed the connection; is that where it listens for clients, and does it run?".to_owned()
            }
            _ => why.to_string(),
        };
        Fault::Unreachable(format!("the broker at {} was asked for {key}: {why}", self.server))
    }
}

/// A code that a broker answered, with its words where it had any.
pub(super) fn told(code: i16, message: Option<&str>) -> String {
    let name = ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |code| code.to_string());
    match message {
        Some(message) if !message.is_empty() => format!("{name}: {}", message.escape_debug()),
        _ => name,
    }
}

/// Refuses where a broker answered an error.
pub(super) fn check(what: &str, code: i16, message: Option<&str>) -> Result<(), Fault> {
    match code {
        0 => Ok(()),
        code => Err(Fault::Refused(format!("{what}: {}", told(code, message)))),
    }
}
