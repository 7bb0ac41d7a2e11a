//! `kill -9` in the middle of load, over and over: every acknowledged record is there, once and in order.
//!
//! After each kill the starts that follow are killed too, at random moments, before one is left to serve.
//! `CHRONIK_CRASH_LOOPS` sets how often the load is killed.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiVersionsRequest, InitProducerIdRequest, ProduceRequest};

use crate::support::batch::Batch;
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::code;
use crate::support::topic::Topic;

const PARTITIONS: usize = 4;
/// Batches that each producer has in flight, as many as a broker must remember of an idempotent one.
const IN_FLIGHT: usize = 5;
/// Acknowledged batches after which the broker is killed, in turn: enough that every kind of work is under way, or none,
/// so that it dies right after a recovery.
const BATCHES_BEFORE_CRASH: [usize; 4] = [200, 0, 20, 400];
/// Starts that are killed after each kill under load.
const KILLED_STARTS: usize = 5;

/// xorshift: numbers that are spread out and the same in every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Any number that no small seed makes zero.
        Self(0x9e37_79b9_7f4a_7c15 ^ seed)
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// One producer on one partition, and what it knows of it.
struct Producer {
    partition: i32,
    /// Producer id and epoch of an idempotent producer; it repeats what was not acknowledged, the plain one does not.
    identity: Option<(i64, i16)>,
    random: Random,
    /// The number of the next record that was never sent.
    next_record: i32,
    /// What was acknowledged: number of the first record, count, offset of the first.
    acknowledged: Vec<(i32, i32, i64)>,
    /// What was sent and not acknowledged, in order.
    unknown: Vec<(i32, i32)>,
}

impl Producer {
    fn new(partition: i32, identity: Option<(i64, i16)>) -> Self {
        // The sizes must differ between producers, not surprise anyone.
        let random = Random::new(partition as u64);
        Self { partition, identity, random, next_record: 0, acknowledged: Vec::new(), unknown: Vec::new() }
    }

    /// One to twenty small records, or now and then one of up to 200 kB.
    fn next_batch(&mut self) -> (i32, i32) {
        let count = if self.random.draw(20) == 0 { 1 } else { 1 + self.random.draw(20) as i32 };
        let batch = (self.next_record, count);
        self.next_record += count;
        batch
    }

    fn encode(&self, (first, count): (i32, i32)) -> Batch {
        let batch = Batch::of((first..first + count).map(|number| value(self.partition, number, count)));
        match self.identity {
            Some((id, epoch)) => batch.by(id, epoch, first),
            None => batch,
        }
    }

    /// Produces until the broker is gone, counting acknowledged batches in `total`.
    fn run(&mut self, address: &str, topic: &Topic, total: &AtomicUsize) {
        let Ok(mut client) = Client::try_connect(address) else { return };
        // Frames may be large only once a client has introduced itself.
        if client.try_call(0, &ApiVersionsRequest::default()).is_err() {
            return;
        }
        // A plain producer does not know what became of these, and must not write them again.
        let mut to_send = if self.identity.is_some() { std::mem::take(&mut self.unknown) } else { Vec::new() };
        to_send.reverse();
        let mut in_flight = VecDeque::new();
        loop {
            while in_flight.len() < IN_FLIGHT {
                let batch = to_send.pop().unwrap_or_else(|| self.next_batch());
                let request = topic.produce_request(9, self.partition, -1, self.encode(batch).encode());
                match client.send(9, &request) {
                    Ok(correlation_id) => in_flight.push_back((correlation_id, batch)),
                    Err(error) => {
                        in_flight.push_back((0, batch));
                        return self.lose(in_flight, to_send, &error);
                    }
                }
            }
            let (correlation_id, batch) = *in_flight.front().expect("the pipeline is full");
            match client.receive::<ProduceRequest>(9, correlation_id) {
                Ok(mut response) => {
                    let answer = response.responses.remove(0).partition_responses.remove(0);
                    assert_eq!(answer.error_code, code::NONE, "batch {batch:?} of partition {}", self.partition);
                    self.acknowledged.push((batch.0, batch.1, answer.base_offset));
                    in_flight.pop_front();
                    total.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return self.lose(in_flight, to_send, &error),
            }
        }
    }

    /// The connection broke: what was in flight, and what waited behind it, may or may not be in the log.
    fn lose(
        &mut self,
        in_flight: impl IntoIterator<Item = (i32, (i32, i32))>,
        waiting: Vec<(i32, i32)>,
        error: &io::Error,
    ) {
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "the broker hangs");
        self.unknown.extend(in_flight.into_iter().map(|(_, batch)| batch));
        self.unknown.extend(waiting.into_iter().rev());
    }

    /// The partition holds every acknowledged record at the offset that was named, none twice, none out of order.
    fn check(&self, values: &[String]) {
        let mut last = -1;
        for value in values {
            let number = number(self.partition, value);
            assert!(number > last, "partition {}: record {number} after {last}", self.partition);
            // Only a plain producer gives up on what it does not know, so only it may leave gaps.
            let gap = self.identity.is_some() && number != last + 1;
            assert!(!gap, "partition {}: record {number} after {last}", self.partition);
            last = number;
        }
        for &(first, count, offset) in &self.acknowledged {
            for index in 0..count {
                let found = values.get(offset as usize + index as usize);
                assert_eq!(
                    found.map(|value| number(self.partition, value)),
                    Some(first + index),
                    "partition {}: acknowledged at offset {}",
                    self.partition,
                    offset + i64::from(index)
                );
            }
        }
    }
}

/// A value that says which record it is, between 100 B and 200 kB long.
fn value(partition: i32, number: i32, count: i32) -> String {
    let length =
        if count == 1 { 2_000 + (number as usize * 7919) % 198_000 } else { 100 + (number as usize * 31) % 900 };
    format!("{partition}:{number}:{}", "x".repeat(length))
}

fn number(partition: i32, value: &str) -> i32 {
    let mut parts = value.split(':');
    assert_eq!(parts.next(), Some(partition.to_string().as_str()), "a record of another partition");
    parts.next().and_then(|number| number.parse().ok()).expect("a record of this test")
}

fn crash(loops: usize, idempotent: bool) {
    let Some(mut broker) = Broker::start_own(&[]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "crash", PARTITIONS as i32, &[]);
    let mut producers: Vec<_> = (0..PARTITIONS as i32)
        .map(|partition| Producer::new(partition, idempotent.then(|| identity(&mut client))))
        .collect();
    let mut starts = Random::new(u64::from(idempotent));
    for round in 0..loops {
        let total = AtomicUsize::new(0);
        let address = broker.address().to_owned();
        thread::scope(|scope| {
            for producer in &mut producers {
                scope.spawn(|| producer.run(&address, &topic, &total));
            }
            let enough = BATCHES_BEFORE_CRASH[round % BATCHES_BEFORE_CRASH.len()];
            let deadline = Instant::now() + Duration::from_secs(60);
            while total.load(Ordering::Relaxed) < enough {
                assert!(Instant::now() < deadline, "the load does not get on");
                thread::yield_now();
            }
            broker.kill();
        });
        let start = time_start(&mut broker);
        for _ in 0..KILLED_STARTS {
            kill_while_starting(&mut broker, start, &mut starts);
        }
        broker.restart();
        let mut client = broker.client();
        for producer in &producers {
            producer.check(&topic.read(&mut client, producer.partition, 0));
        }
    }
}

/// How long the broker, which does not run, takes from its first instruction to its first answer. Kills it then.
fn time_start(broker: &mut Broker) -> Duration {
    let begun = Instant::now();
    broker.restart();
    // Its port opens before it has recovered.
    broker.client().call(0, &ApiVersionsRequest::default());
    let start = begun.elapsed();
    broker.kill();
    start
}

/// Starts the broker, which does not run, and kills it at a moment of that start, which takes about so long.
fn kill_while_starting(broker: &mut Broker, start: Duration, random: &mut Random) {
    broker.start_and_kill(Duration::from_nanos(random.draw(start.as_nanos() as u64)));
}

fn identity(client: &mut Client) -> (i64, i16) {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let response = client.call(1, &request);
    assert_eq!(response.error_code, code::NONE);
    (response.producer_id.0, response.producer_epoch)
}

fn loops() -> usize {
    let loops = std::env::var("CHRONIK_CRASH_LOOPS").ok();
    loops.map_or(2, |loops| loops.parse().expect("CHRONIK_CRASH_LOOPS is a number"))
}

#[test]
fn acknowledged_records_of_idempotent_producers_survive_kill_9() {
    crash(loops(), true);
}

#[test]
fn acknowledged_records_of_plain_producers_survive_kill_9() {
    crash(loops(), false);
}

#[test]
fn a_first_start_that_is_killed_leaves_a_folder_that_starts() {
    let Some(mut broker) = Broker::start_own(&[]) else { return };
    broker.kill();
    let mut random = Random::new(2);
    let start = time_start(&mut broker);
    for _ in 0..KILLED_STARTS {
        // A start that was killed early may not even have made it.
        let _ = fs::remove_dir_all(broker.data_dir());
        kill_while_starting(&mut broker, start, &mut random);
        kill_while_starting(&mut broker, start, &mut random);
        broker.restart();
        let mut client = broker.client();
        let topic = Topic::create(&mut client, "first", 1, &[]);
        assert_eq!(topic.produce(&mut client, 0, &Batch::numbered(1)), 0);
        broker.kill();
    }
}
