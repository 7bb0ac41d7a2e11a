//! `kill -9` in the middle of load, over and over: every acknowledged record is there, once and in order.
//!
//! `CHRONIK_CRASH_LOOPS` sets how often it is killed.

use std::collections::VecDeque;
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

/// One producer on one partition, and what it knows of it.
struct Producer {
    partition: i32,
    /// Producer id and epoch of an idempotent producer; it repeats what was not acknowledged, the plain one does not.
    identity: Option<(i64, i16)>,
    random: u64,
    /// The number of the next record that was never sent.
    next_record: i32,
    /// What was acknowledged: number of the first record, count, offset of the first.
    acknowledged: Vec<(i32, i32, i64)>,
    /// What was sent and not acknowledged, in order.
    unknown: Vec<(i32, i32)>,
}

impl Producer {
    fn new(partition: i32, identity: Option<(i64, i16)>) -> Self {
        // Any odd number: the sizes must differ between producers, not surprise anyone.
        let random = 0x9e37_79b9_7f4a_7c15 ^ partition as u64;
        Self { partition, identity, random, next_record: 0, acknowledged: Vec::new(), unknown: Vec::new() }
    }

    /// xorshift: sizes that are spread out and the same in every run.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// One to twenty small records, or now and then one of up to 200 kB.
    fn next_batch(&mut self) -> (i32, i32) {
        let count = if self.draw(20) == 0 { 1 } else { 1 + self.draw(20) as i32 };
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
        broker.restart();
        let mut client = broker.client();
        for producer in &producers {
            producer.check(&topic.read(&mut client, producer.partition, 0));
        }
    }
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
