//! What the core does for one request on each of the paths that are taken most, from the request's bytes to those of its
//! answer: `Connection` and `Node`, with files in memory. No socket, no thread, no disk.
//!
//! `cargo bench --package chronik-bench --bench paths` prints the processor time for each request, the median of several
//! runs. Given a path's name and a number of rounds it runs that path alone: under `valgrind --tool=callgrind` two runs
//! of different length tell the instructions for each request, which no other work on the machine changes
//! (`benches/instructions.py`).

mod broker;
#[path = "../steps/files.rs"]
mod files;
mod requests;
mod sink;

use std::time::Duration;

use broker::{Broker, Medium};
use chronik_core::wire::{self, Response, Writer};
use rustix::time::{ClockId, clock_gettime};

/// How often each path is measured; the median counts.
const RUNS: usize = 9;
/// What one run takes about.
const RUN_TIME: Duration = Duration::from_millis(50);

/// What is done again and again.
struct Path {
    name: &'static str,
    work: Work,
}

enum Work {
    /// Everybody sends so many requests and is answered.
    Asked {
        medium: Medium,
        connections: usize,
        requests: usize,
        /// What one of the requests is, on a broker that it may prepare.
        request: fn(&mut Broker) -> Vec<u8>,
    },
    /// A frame is decoded.
    Decoded(fn() -> Vec<u8>),
    /// An answer is encoded, in a version.
    Encoded(fn() -> Response, i16),
}

const fn asked(medium: Medium, connections: usize, requests: usize, request: fn(&mut Broker) -> Vec<u8>) -> Work {
    Work::Asked { medium, connections, requests, request }
}

const PATHS: [Path; 14] = [
    Path { name: "produce-1", work: asked(Medium::Sink, 1, 128, |_| requests::produce(1, 256)) },
    Path { name: "produce-1-of-128", work: asked(Medium::Sink, 128, 1, |_| requests::produce(1, 256)) },
    Path { name: "produce-64", work: asked(Medium::Sink, 1, 5, |_| requests::produce(64, 256)) },
    Path { name: "produce-1mb", work: asked(Medium::Sink, 1, 5, |_| requests::produce(1_000, 1_024)) },
    Path { name: "fetch-tail", work: asked(Medium::Memory, 1, 1, requests::fetch_from_the_tail) },
    Path { name: "fetch-segment", work: asked(Medium::Memory, 1, 1, requests::fetch_from_a_segment) },
    Path { name: "heartbeat", work: asked(Medium::Memory, 1, 16, requests::heartbeat) },
    Path { name: "consumer-group-heartbeat", work: asked(Medium::Memory, 1, 1, requests::consumer_group_heartbeat) },
    Path { name: "offset-commit", work: asked(Medium::Sink, 16, 1, requests::offset_commit) },
    Path { name: "produce-decode", work: Work::Decoded(|| requests::produce(1, 256)) },
    Path { name: "fetch-decode", work: Work::Decoded(|| requests::fetch(0)) },
    Path { name: "offset-commit-decode", work: Work::Decoded(requests::commit) },
    Path { name: "produce-encode", work: Work::Encoded(requests::produced, requests::PRODUCE_VERSION) },
    Path { name: "fetch-encode", work: Work::Encoded(requests::fetched, requests::FETCH_VERSION) },
];

/// A path that is ready to be taken.
struct Prepared {
    round: Box<dyn FnMut()>,
    /// How many requests one round is.
    requests: usize,
}

impl Path {
    fn prepare(&self) -> Prepared {
        match self.work {
            Work::Asked { medium, connections, requests, request } => {
                let mut broker = Broker::new(connections, medium);
                let sent = request(&mut broker).repeat(requests);
                let answers = connections * requests;
                Prepared { round: Box::new(move || broker.round(&sent, answers)), requests: answers }
            }
            Work::Decoded(frame) => {
                // A connection strips the length.
                let frame = bytes::Bytes::from(frame()).slice(4..);
                let decode = move || drop(wire::decode_request(frame.clone()).expect("a sound request"));
                Prepared { round: Box::new(decode), requests: 1 }
            }
            Work::Encoded(response, version) => {
                let response = response();
                let mut writer = Writer::new();
                let encode = move || {
                    wire::encode_response(&response, version, 7, &mut writer).expect("it is short");
                    drop(writer.finish());
                };
                Prepared { round: Box::new(encode), requests: 1 }
            }
        }
    }

    fn measure(&self) {
        let mut path = self.prepare();
        let mut time = |rounds: u32| {
            let begun = cpu_time();
            (0..rounds).for_each(|_| (path.round)());
            cpu_time() - begun
        };
        let first = time(3) / 3;
        let rounds =
            u32::try_from(RUN_TIME.as_nanos() / first.as_nanos().max(1)).unwrap_or(u32::MAX).clamp(3, 1_000_000);
        let mut times: Vec<Duration> = (0..RUNS).map(|_| time(rounds)).collect();
        times.sort_unstable();
        let requests = u128::from(rounds) * path.requests as u128;
        println!("{:<32} {:>10}", self.name, times[RUNS / 2].as_nanos() / requests);
    }
}

/// What this thread has used of a processor: what others do on the machine counts for little.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |part: i64| u64::try_from(part).expect("a clock that counts from 0");
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // As cargo asks of a test's binary, which this is as well: nothing is to be listed or tested.
    if args.iter().any(|arg| arg == "--list" || arg == "--test") {
        return;
    }
    match &args[..] {
        [name, rounds] => {
            let path = PATHS.iter().find(|path| path.name == name).expect("a path of this bench");
            let mut path = path.prepare();
            for _ in 0..rounds.parse().expect("a number of rounds") {
                (path.round)();
            }
            // Whoever counts instructions divides by it.
            println!("{}", path.requests);
        }
        [names] if names == "--names" => PATHS.iter().for_each(|path| println!("{}", path.name)),
        _ => {
            println!("{:<32} {:>10}", "", "ns/request");
            PATHS.iter().for_each(Path::measure);
        }
    }
}
