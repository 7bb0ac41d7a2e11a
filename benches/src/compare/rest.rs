//! A broker by itself: from its start on an empty folder to the first acknowledgement, and what it takes at rest.

use super::broker::{Contender, Running};
use super::median;
use crate::args::{CompareArgs, LoadArgs};
use crate::cluster::{Cluster, LEADERS_WITHIN};
use crate::failure::Failure;
use crate::json::Json;
use crate::usage::ProcessUsage;
use crate::wire::{Acknowledged, Api, Batch, Malformed, ProduceTemplate};
use std::time::{Duration, Instant};

/// What `--rows` calls it.
pub(super) const NAME: &str = "start and rest";

/// A broker started and left alone.
#[derive(Clone, Copy, Debug)]
struct Turn {
    first_ack: Duration,
    idle_processors: f64,
    resident_bytes: u64,
}

/// All turns of one broker.
pub(super) struct Rest {
    broker: String,
    turns: Vec<Turn>,
    /// The size of its binary, where it is one file.
    binary_bytes: Option<u64>,
}

/// Starts and watches a broker, `passed` being told after each turn.
pub(super) fn rest(args: &CompareArgs, contender: &Contender, passed: impl Fn()) -> Result<Rest, Failure> {
    let mut turns = Vec::new();
    for _ in 0..args.rounds {
        turns.push(turn(args, contender)?);
        passed();
    }
    Ok(Rest { broker: contender.name.clone(), turns, binary_bytes: contender.binary_bytes })
}

fn turn(args: &CompareArgs, contender: &Contender) -> Result<Turn, Failure> {
    let began = Instant::now();
    let running = contender.start(&args.work_dir)?;
    acknowledge_one(&running, "first")?;
    let first_ack = began.elapsed();
    running.wait_until_quiet()?;
    let before = ProcessUsage::of(running.pid())?;
    std::thread::sleep(args.idle);
    let after = ProcessUsage::of(running.pid())?;
    Ok(Turn {
        first_ack,
        idle_processors: after.cpu.saturating_sub(before.cpu).as_secs_f64() / args.idle.as_secs_f64(),
        resident_bytes: after.resident_bytes,
    })
}

/// Creates `topic` where it is not there, and waits until a record in it is acknowledged.
pub(super) fn acknowledge_one(running: &Running, topic: &str) -> Result<(), Failure> {
    let load = LoadArgs { bootstrap_servers: vec![running.address()], topic: topic.to_owned(), ..LoadArgs::defaults() };
    let mut cluster = Cluster::open(&load, true)?;
    let (partition, leader) = cluster.leaders.first_key_value().map(|(p, l)| (*p, *l)).expect("a topic has partitions");
    let control = cluster.control(leader);
    let version = control.version(Api::Produce)?;
    let template = ProduceTemplate::new(version, &load.topic, 1, 30_000, &Batch::new(1, 256, 0));
    let began = Instant::now();
    loop {
        let frame = control.exchange(|_, correlation| {
            let mut request = Vec::new();
            template.push_head(&mut request, correlation, partition, None);
            request.extend_from_slice(template.tail());
            request
        })?;
        let answer = Acknowledged::read(version, &frame).map_err(|why: Malformed| control.unreadable(why))?;
        if !answer.code.is_error() {
            return Ok(());
        }
        if !answer.code.is_settling() || began.elapsed() > LEADERS_WITHIN {
            let subject = format!("{}-{partition}", load.topic);
            return Err(Failure::Refused { api: Api::Produce, subject, code: answer.code, message: None });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Rest {
    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    fn first_ack_ms(&self) -> f64 {
        self.median(|turn| turn.first_ack.as_secs_f64() * 1e3)
    }

    fn idle_processors(&self) -> f64 {
        self.median(|turn| turn.idle_processors)
    }

    fn resident_bytes(&self) -> f64 {
        self.median(|turn| turn.resident_bytes as f64)
    }

    /// Above its line of the table.
    pub(super) const HEADER: [&str; 5] = ["broker", "start to first ack", "idle CPU", "idle memory", "binary"];

    pub(super) fn to_line(&self) -> [String; 5] {
        [
            self.broker.clone(),
            format!("{:.1} ms", self.first_ack_ms()),
            format!("{:.2} %", self.idle_processors() * 100.0),
            format!("{:.1} MB", self.resident_bytes() / 1e6),
            self.binary_bytes.map_or("-".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6)),
        ]
    }

    pub(super) fn to_json(&self) -> Json {
        Json::Object(vec![
            ("broker", Json::text(&self.broker)),
            ("first_ack_ms", Json::number(self.first_ack_ms())),
            ("idle_processors", Json::number(self.idle_processors())),
            ("idle_resident_bytes", Json::number(self.resident_bytes())),
            ("binary_bytes", self.binary_bytes.map_or(Json::Null, Json::Whole)),
        ])
    }
}
