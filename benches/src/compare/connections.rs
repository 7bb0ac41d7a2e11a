//! Very many connections that lie idle: the memory that a broker has for each, what it computes while nobody asks for
//! anything, and whether a producer beside them waits any longer.
//!
//! Every other one is in the middle of a frame, as those are whose clients died while they were sending: for these the
//! broker has the beginning of a request to keep.

use super::broker::Contender;
use super::turn::{Turn as Load, median};
use super::work::Outcome;
use crate::args::{CompareArgs, LoadArgs};
use crate::cluster::connect;
use crate::failure::Failure;
use crate::json::Json;
use crate::report::time;
use crate::run;
use crate::usage::ProcessUsage;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// What `--rows` calls it.
pub(super) const NAME: &str = "idle connections";

const CONNECTIONS: usize = 10_000;
/// Of either process: the broker opens files besides, and keeps a part of its limit for them.
const DESCRIPTORS: u64 = 15_000;
/// A frame of 1024 bytes, and the first of them: of Metadata 1.
const BEGUN: [u8; 10] = [0, 0, 4, 0, 0, 3, 0, 1, 0, 0];
/// Longer than this nobody stays silent in the middle of a frame here: Chronik closes such a connection after 30 s.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// So little that the broker is not the limit, from as many connections as an ordinary service has.
const RECORDS_PER_S: u64 = 1_000;
const PRODUCERS: u32 = 16;

struct Turn {
    resident_bytes_before: f64,
    resident_bytes_each: f64,
    processors: f64,
    /// What the producer saw without the connections, before them and after, and beside them.
    alone: [Load; 2],
    beside: Load,
}

/// All turns.
pub(super) struct Connections {
    broker: String,
    turns: Vec<Turn>,
    /// What was acknowledged and is not there.
    pub(super) lost: Vec<String>,
}

/// Why this cannot be taken here, if it cannot.
pub(super) fn obstacle() -> Option<String> {
    lacking(getrlimit(Resource::Nofile).maximum)
}

fn lacking(maximum: Option<u64>) -> Option<String> {
    let maximum = maximum.filter(|maximum| *maximum < DESCRIPTORS)?;
    Some(format!(
        "{NAME}: not measured, for a process may have {maximum} files open here (RLIMIT_NOFILE) and {DESCRIPTORS} are \
         needed; raise the hard limit, as with `ulimit -n {DESCRIPTORS}` as root"
    ))
}

/// This process and those that it starts may open more files, until this goes out of scope.
struct Raised(Rlimit);

impl Raised {
    fn new() -> Result<Raised, Failure> {
        let before = getrlimit(Resource::Nofile);
        let current = before.current.map(|current| current.max(DESCRIPTORS));
        let failed = |why: rustix::io::Errno| Failure::Local {
            what: format!("cannot raise the limit of open files (RLIMIT_NOFILE) to {DESCRIPTORS}"),
            why: why.into(),
        };
        setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }).map_err(failed)?;
        Ok(Raised(before))
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // What was allowed before cannot be declined.
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

/// Starts the broker for each turn, and loads it without the connections and beside them; `passed` is told after each.
pub(super) fn connections(
    args: &CompareArgs,
    contender: &Contender,
    passed: impl Fn(),
) -> Result<Connections, Failure> {
    let _raised = Raised::new()?;
    let mut all = Connections { broker: contender.name.clone(), turns: Vec::new(), lost: Vec::new() };
    for round in 1..=args.rounds {
        let turn = all.turn(args, contender, round)?;
        all.turns.push(turn);
        passed();
    }
    Ok(all)
}

impl Connections {
    fn turn(&mut self, args: &CompareArgs, contender: &Contender, round: u32) -> Result<Turn, Failure> {
        let running = contender.start(&args.work_dir)?;
        let load = load(args, running.address(), running.pid());
        let mut produce = || -> Result<Load, Failure> {
            let outcome = Outcome::from(&run::run(&load, false)?);
            self.lost.extend(outcome.lost.map(|lost| format!("{}, {NAME}, round {round}: {lost}", contender.name)));
            Ok(outcome.turn)
        };
        // What the broker has once it has worked is not counted for the connections.
        let first = produce()?;
        running.wait_until_quiet()?;
        let before = ProcessUsage::of(running.pid())?;
        let mut streams = open(&running.address())?;
        running.wait_until_quiet()?;
        let with = ProcessUsage::of(running.pid())?;
        let rest = args.idle.min(SILENT_MAX);
        thread::sleep(rest);
        let rested = ProcessUsage::of(running.pid())?;
        go_on(&mut streams, &running.address())?;
        let beside = produce()?;
        streams.iter_mut().try_for_each(|stream| check_open(stream, &running.address()))?;
        drop(streams);
        running.wait_until_quiet()?;
        // Once more: a machine that grows slower or faster meanwhile does so for both.
        let alone = [first, produce()?];
        let more = with.resident_bytes.saturating_sub(before.resident_bytes);
        Ok(Turn {
            resident_bytes_before: before.resident_bytes as f64,
            resident_bytes_each: more as f64 / CONNECTIONS as f64,
            processors: rested.cpu.saturating_sub(with.cpu).as_secs_f64() / rest.as_secs_f64(),
            alone,
            beside,
        })
    }

    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    /// The medians of a figure of the producer, alone and beside.
    fn latency_us(&self, of: impl Fn(&Load) -> f64) -> [f64; 2] {
        let alone = self.turns.iter().flat_map(|turn| &turn.alone).map(&of).collect();
        [median(alone), median(self.turns.iter().map(|turn| of(&turn.beside)).collect())]
    }

    /// Above its line of the table.
    pub(super) const HEADER: [&str; 6] =
        ["10,000 idle connections", "memory before", "for each", "broker CPU", "p50 / p99 alone", "p50 / p99 beside"];

    pub(super) fn to_line(&self) -> [String; 6] {
        let (p50, p99) = (self.latency_us(|load| load.latency_p50_us), self.latency_us(|load| load.latency_p99_us));
        let [alone, beside] = [0, 1].map(|at| format!("{} / {}", time(p50[at]), time(p99[at])));
        [
            self.broker.clone(),
            format!("{:.1} MB", self.median(|turn| turn.resident_bytes_before) / 1e6),
            format!("{:.2} kB", self.median(|turn| turn.resident_bytes_each) / 1e3),
            format!("{:.2} %", self.median(|turn| turn.processors) * 100.0),
            alone,
            beside,
        ]
    }

    pub(super) fn to_json(&self) -> Json {
        let (p50, p99) = (self.latency_us(|load| load.latency_p50_us), self.latency_us(|load| load.latency_p99_us));
        Json::Object(vec![
            ("broker", Json::text(&self.broker)),
            ("connections", Json::Whole(CONNECTIONS as u64)),
            ("resident_bytes_before", Json::number(self.median(|turn| turn.resident_bytes_before))),
            ("resident_bytes_each", Json::number(self.median(|turn| turn.resident_bytes_each))),
            ("processors", Json::number(self.median(|turn| turn.processors))),
            ("latency_p50_us_alone", Json::number(p50[0])),
            ("latency_p99_us_alone", Json::number(p99[0])),
            ("latency_p50_us_beside", Json::number(p50[1])),
            ("latency_p99_us_beside", Json::number(p99[1])),
        ])
    }
}

fn load(args: &CompareArgs, address: String, pid: u32) -> LoadArgs {
    LoadArgs {
        bootstrap_servers: vec![address],
        topic: "beside".to_owned(),
        connections: PRODUCERS,
        rate: Some(RECORDS_PER_S),
        warmup: args.warmup.min(SILENT_MAX),
        duration: args.duration.min(SILENT_MAX),
        server_pid: vec![pid],
        ..LoadArgs::defaults()
    }
}

/// The connections, every other one in the middle of a frame.
fn open(address: &str) -> Result<Vec<TcpStream>, Failure> {
    let mut streams = (0..CONNECTIONS).map(|_| connect(address, true)).collect::<Result<Vec<_>, Failure>>()?;
    send(&mut streams, &BEGUN, address)?;
    Ok(streams)
}

/// One more byte of each frame that has begun.
fn go_on(streams: &mut [TcpStream], address: &str) -> Result<(), Failure> {
    send(streams, &[0], address)
}

fn send(streams: &mut [TcpStream], bytes: &[u8], address: &str) -> Result<(), Failure> {
    let mut begun = streams.iter_mut().skip(1).step_by(2);
    begun.try_for_each(|stream| stream.write_all(bytes)).map_err(|why| closed(address, Some(why)))
}

/// # Errors
/// Where the broker has closed it: then the figures are of fewer.
fn check_open(stream: &mut TcpStream, address: &str) -> Result<(), Failure> {
    match stream.set_nonblocking(true).and_then(|()| stream.read(&mut [0])) {
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(why) => Err(closed(address, Some(why))),
        Ok(_) => Err(closed(address, None)),
    }
}

fn closed(address: &str, why: Option<io::Error>) -> Failure {
    Failure::Closed { address: address.to_owned(), unanswered: 0, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn too_few_descriptors_are_told_with_the_remedy() {
        assert_eq!([None, Some(DESCRIPTORS)].map(lacking), [None, None]);
        let told = lacking(Some(1024)).expect("it is too few");
        assert!(["1024", "15000", "RLIMIT_NOFILE", "ulimit"].iter().all(|word| told.contains(word)), "{told}");
    }

    #[test]
    fn the_producer_beside_is_a_valid_load() {
        load(&CompareArgs::for_tests(), "127.0.0.1:9".to_owned(), 1).check().expect("valid");
    }

    #[test]
    fn a_connection_that_the_broker_has_closed_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let mut stream = connect(&address, true).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client");
        check_open(&mut stream, &address).expect("it is open");
        drop(accepted);
        // The end has arrived once somebody who waits for it sees it.
        stream.set_nonblocking(false).expect("a socket");
        assert_eq!(stream.peek(&mut [0]).expect("it is closed in order"), 0);
        assert!(matches!(check_open(&mut stream, &address), Err(Failure::Closed { .. })));
    }
}
