//! The brokers of a run and its topic: connecting, agreeing on versions, creating the topic, asking for offsets.
//!
//! All of this happens before and after the load, one request at a time, with plain blocking sockets.

use crate::args::LoadArgs;
use crate::failure::Failure;
use crate::wire::{self, Api, CreateTopic, ErrorCode, Malformed, Metadata, Reader, Versions};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::iter::successors;
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

/// How long one address may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a broker may leave a request unanswered before the run is given up.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a new topic may take until all its partitions have a leader.
pub(crate) const LEADERS_WITHIN: Duration = Duration::from_secs(60);
/// How long to wait before asking again for what is on its way: a new topic is there within milliseconds, or not soon.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_LONGEST: Duration = Duration::from_millis(500);
/// Frames beyond this are taken for a peer that does not speak Kafka.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 30;

/// The pauses between one question and the next, each twice as long as the one before.
fn pauses() -> impl Iterator<Item = Duration> {
    successors(Some(PAUSE_FIRST), |pause| Some((*pause * 2).min(PAUSE_LONGEST)))
}

/// Connects to `address`; `advertised` tells whether a broker or the user named it.
pub(crate) fn connect(address: &str, advertised: bool) -> Result<TcpStream, Failure> {
    let unreachable = |why| Failure::Unreachable { address: address.to_owned(), advertised, why };
    // Without a port, Kafka's is meant. A bare IPv6 address must be in brackets.
    let has_port = address.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let full = if has_port { address.to_owned() } else { format!("{address}:9092") };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for resolved in full.to_socket_addrs().map_err(unreachable)? {
        match TcpStream::connect_timeout(&resolved, CONNECT_WITHIN) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(unreachable)?;
                return Ok(stream);
            }
            Err(why) => last = why,
        }
    }
    Err(unreachable(last))
}

/// A connection for one request at a time.
pub(crate) struct Control {
    stream: TcpStream,
    pub(crate) address: String,
    pub(crate) versions: Versions,
    correlation: i32,
}

impl Control {
    /// Connects and learns what the broker speaks.
    pub(crate) fn open(address: &str, advertised: bool) -> Result<Control, Failure> {
        let stream = connect(address, advertised)?;
        stream
            .set_read_timeout(Some(ANSWER_WITHIN))
            .map_err(|why| Failure::Local { what: format!("cannot use the socket to {address}"), why })?;
        let mut control =
            Control { stream, address: address.to_owned(), versions: Versions::default(), correlation: 0 };
        let frame = control.exchange(|_, correlation| wire::api_versions(correlation))?;
        let (code, versions) = control.read(Api::ApiVersions, 0, &frame, wire::read_api_versions)?;
        if code.is_error() {
            return Err(Failure::Refused { api: Api::ApiVersions, subject: control.address, code, message: None });
        }
        control.versions = versions;
        Ok(control)
    }

    /// The version of `api` to use with this broker.
    pub(crate) fn version(&self, api: Api) -> Result<i16, Failure> {
        self.versions.common(api).ok_or_else(|| Failure::Unserved {
            address: self.address.clone(),
            api,
            served: self.versions.served(api),
        })
    }

    /// Sends the request that `encode` makes of this connection's version and correlation id; reads the response.
    pub(crate) fn call<T>(
        &mut self,
        api: Api,
        encode: impl FnOnce(i16, i32) -> Vec<u8>,
        read: impl FnOnce(i16, Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Failure> {
        let version = self.version(api)?;
        let frame = self.exchange(|_, correlation| encode(version, correlation))?;
        self.read(api, version, &frame, |body| read(version, body))
    }

    /// As `call`, but gives the whole frame: for responses whose parts are borrowed from it.
    pub(crate) fn exchange(&mut self, encode: impl FnOnce(&Versions, i32) -> Vec<u8>) -> Result<Vec<u8>, Failure> {
        self.correlation += 1;
        let request = encode(&self.versions, self.correlation);
        self.stream.write_all(&request).map_err(|why| self.lost(why))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|why| self.lost(why))?;
        let length = i32::from_be_bytes(length);
        let size = usize::try_from(length)
            .ok()
            .filter(|size| *size <= FRAME_BYTES_MAX)
            .ok_or(Malformed::FrameLengthOutOfRange(length))
            .map_err(|why| self.unreadable(why))?;
        let mut frame = vec![0; size];
        self.stream.read_exact(&mut frame).map_err(|why| self.lost(why))?;
        Ok(frame)
    }

    fn read<T>(
        &self,
        api: Api,
        version: i16,
        frame: &[u8],
        read: impl FnOnce(Reader<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Failure> {
        let answer = || {
            let (found, body) = Reader::response(api, version, frame)?;
            if found != self.correlation {
                return Err(Malformed::OutOfOrder { expected: self.correlation, found });
            }
            read(body)
        };
        answer().map_err(|why| self.unreadable(why))
    }

    pub(crate) fn unreadable(&self, why: Malformed) -> Failure {
        Failure::Unreadable { address: self.address.clone(), why }
    }

    fn lost(&self, why: io::Error) -> Failure {
        let address = self.address.clone();
        match why.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Failure::Silent { address, unanswered: 1, waited: ANSWER_WITHIN }
            }
            io::ErrorKind::UnexpectedEof => Failure::Closed { address, unanswered: 1, why: None },
            _ => Failure::Closed { address, unanswered: 1, why: Some(why) },
        }
    }
}

/// The brokers that lead the topic's partitions.
pub(crate) struct Cluster {
    pub(crate) topic: String,
    /// The leader of each partition.
    pub(crate) leaders: BTreeMap<i32, i32>,
    controls: BTreeMap<i32, Control>,
}

impl Cluster {
    /// Connects to the first bootstrap server that answers, makes sure of the topic, and connects to its leaders.
    /// `creating` tells whether a missing topic is to be made.
    pub(crate) fn open(load: &LoadArgs, creating: bool) -> Result<Cluster, Failure> {
        let mut first = bootstrap(&load.bootstrap_servers)?;
        let metadata = topic_metadata(&mut first, load, creating)?;
        let mut controls = BTreeMap::new();
        for leader in metadata.leaders.values() {
            if controls.contains_key(leader) {
                continue;
            }
            let address = metadata.brokers.get(leader).ok_or_else(|| Failure::Refused {
                api: Api::Metadata,
                subject: format!("topic {}", load.topic),
                code: ErrorCode::LEADER_NOT_AVAILABLE,
                message: Some(format!("node {leader} leads a partition and has no address")),
            })?;
            controls.insert(*leader, Control::open(address, true)?);
        }
        Ok(Cluster { topic: load.topic.clone(), leaders: metadata.leaders, controls })
    }

    /// The connection to `leader`, for single requests.
    pub(crate) fn control(&mut self, leader: i32) -> &mut Control {
        self.controls.get_mut(&leader).expect("every leader was connected to when the cluster was opened")
    }

    /// The offset at `timestamp` (`wire::EARLIEST` or `wire::LATEST`) of every partition. Asked of a new topic it
    /// waits until its leaders know of it.
    pub(crate) fn offsets(&mut self, timestamp: i64) -> Result<BTreeMap<i32, i64>, Failure> {
        let began = Instant::now();
        let mut pauses = pauses();
        let mut offsets = BTreeMap::new();
        for (leader, control) in &mut self.controls {
            let mut open: Vec<i32> =
                self.leaders.iter().filter(|(_, other)| *other == leader).map(|(partition, _)| *partition).collect();
            while !open.is_empty() {
                let answer = control.call(
                    Api::ListOffsets,
                    |_, correlation| wire::list_offsets(correlation, &self.topic, &open, timestamp),
                    |_, body| wire::read_list_offsets(body),
                )?;
                open.clear();
                for (partition, offset) in answer {
                    match offset {
                        Ok(offset) => drop(offsets.insert(partition, offset)),
                        Err(code) if code.is_settling() && began.elapsed() < LEADERS_WITHIN => open.push(partition),
                        Err(code) => {
                            let subject = format!("{}-{partition}", self.topic);
                            return Err(Failure::Refused { api: Api::ListOffsets, subject, code, message: None });
                        }
                    }
                }
                if !open.is_empty() {
                    thread::sleep(pauses.next().expect("there is no end of them"));
                }
            }
        }
        Ok(offsets)
    }
}

/// The first broker of the list that can be connected to; what the last one said if none can.
fn bootstrap(servers: &[String]) -> Result<Control, Failure> {
    let mut last = Failure::Usage("--bootstrap-servers is empty".to_owned());
    for address in servers {
        match Control::open(address.trim(), false) {
            Ok(control) => return Ok(control),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// The topic's partitions with their leaders, once there are as many as were asked for and all have one.
fn topic_metadata(control: &mut Control, load: &LoadArgs, creating: bool) -> Result<Metadata, Failure> {
    let mut created = false;
    let began = Instant::now();
    let mut pauses = pauses();
    loop {
        let metadata = control.call(
            Api::Metadata,
            |version, correlation| wire::metadata(version, correlation, &load.topic),
            wire::read_metadata,
        )?;
        if metadata.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION && !created {
            if !creating {
                return Err(Failure::TopicMissing { topic: load.topic.clone() });
            }
            create(control, load)?;
            created = true;
            continue;
        }
        let has_leaders = !metadata.leaders.is_empty() && metadata.leaders.values().all(|leader| *leader >= 0);
        if metadata.code == ErrorCode::NONE && has_leaders {
            return match load.partitions {
                Some(asked) if asked as usize != metadata.leaders.len() => Err(Failure::Usage(format!(
                    "topic {} has {} partitions, not {asked}; leave --partitions out or name another --topic",
                    load.topic,
                    metadata.leaders.len()
                ))),
                _ => Ok(metadata),
            };
        }
        let is_on_its_way = metadata.code == ErrorCode::NONE || metadata.code.is_settling();
        if !is_on_its_way || began.elapsed() > LEADERS_WITHIN {
            let code = if metadata.code.is_error() { metadata.code } else { ErrorCode::LEADER_NOT_AVAILABLE };
            let subject = format!("topic {}", load.topic);
            return Err(Failure::Refused { api: Api::Metadata, subject, code, message: None });
        }
        thread::sleep(pauses.next().expect("there is no end of them"));
    }
}

fn create(control: &mut Control, load: &LoadArgs) -> Result<(), Failure> {
    let topic = CreateTopic {
        name: &load.topic,
        partitions: load.partitions.unwrap_or(1),
        replication_factor: load.replication_factor,
        configs: &load.topic_config,
        timeout_ms: 30_000,
    };
    let (code, message) = control.call(
        Api::CreateTopics,
        |version, correlation| wire::create_topic(version, correlation, &topic),
        |_, body| wire::read_create_topic(body),
    )?;
    // Someone else may have been quicker, which serves as well.
    if code.is_error() && code != ErrorCode::TOPIC_ALREADY_EXISTS {
        let subject = format!("topic {}", load.topic);
        return Err(Failure::Refused { api: Api::CreateTopics, subject, code, message });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_asked_soon_again_and_not_all_the_time() {
        assert_eq!(pauses().next(), Some(Duration::from_millis(5)));
        let mut waited = Duration::ZERO;
        let questions = pauses().take_while(|pause| {
            waited += *pause;
            waited < LEADERS_WITHIN
        });
        let questions = questions.count();
        assert!((100..150).contains(&questions), "{questions} in {LEADERS_WITHIN:?}");
    }
}
