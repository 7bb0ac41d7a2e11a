//! Nodes that are stopped in order and started again, one after the other, while clients write, read and commit.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{FetchRequest, OffsetCommitRequest};

use crate::support::batch::{records, values};
use crate::support::client::Client;
use crate::support::cluster::{Addresses, Cluster, NODES, Producer, wait_for};
use crate::support::code;
use crate::support::group::Group;
use crate::support::topic::Topic;

const PARTITIONS: i32 = 3;
/// Between two things that one client does: it shares two processors with three nodes.
const PACE: Duration = Duration::from_millis(5);
/// What each client gets done between one node and the next.
const STEPS: i64 = 20;

/// Says that it is over when the test is, however that ends: clients on other threads would go on for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a client has got done, for the test to wait for.
#[derive(Default)]
struct Progress(AtomicI64);

impl Progress {
    fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PACE);
    }

    fn made(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads one partition from its start as it grows, from whoever leads it; every record once, in order.
fn read(addresses: &Addresses, topic: &Topic, partition: i32, ends: &AtomicBool, progress: &Progress) {
    let mut leader: Option<(i32, Client)> = None;
    let mut next = 0;
    while !ends.load(Ordering::Relaxed) {
        if leader.is_none() {
            leader =
                addresses.try_leader(topic, partition).and_then(|leader| Some((leader, addresses.try_client(leader)?)));
        }
        let Some((node, client)) = &mut leader else { continue };
        let Ok(mut response) = client.try_call::<FetchRequest>(11, &topic.fetch_request(11, &[(partition, next)]))
        else {
            leader = None;
            continue;
        };
        assert_eq!(response.error_code, code::NONE, "node {node}, the whole fetch");
        let data = response.responses.remove(0).partitions.remove(0);
        if data.error_code != code::NONE {
            let code = data.error_code;
            assert!(code::PASSING_FOR_CONSUMERS.contains(&code), "node {node} answers a fetch with {code}");
            leader = None;
            continue;
        }
        let mut fetched = records(data.records.unwrap_or_default());
        fetched.retain(|record| record.offset >= next);
        for (record, value) in fetched.iter().zip(values(&fetched)) {
            assert_eq!((record.offset, value), (next, format!("record {next}")), "partition {partition}");
            next += 1;
        }
        if !fetched.is_empty() {
            progress.step();
        }
    }
}

/// Commits higher and higher offsets, each until it is acknowledged; the last one is what it returns.
fn commit(addresses: &Addresses, group: &Group, topic: &Topic, ends: &AtomicBool, progress: &Progress) -> i64 {
    let mut offset = 0;
    let mut coordinator: Option<(i32, Client)> = None;
    while !ends.load(Ordering::Relaxed) {
        offset += 1;
        wait_for("a commit is acknowledged", || {
            if coordinator.is_none() {
                coordinator = addresses.try_coordinator(group);
            }
            let (node, client) = coordinator.as_mut()?;
            let answer = client.try_call::<OffsetCommitRequest>(8, &group.commit_request(topic, 8, 0, offset));
            let Ok(response) = answer else {
                coordinator = None;
                return None;
            };
            let answer = response.topics[0].partitions[0].error_code;
            if answer == code::NONE {
                return Some(());
            }
            assert!(code::PASSING_FOR_MEMBERS.contains(&answer), "node {node} answers a commit with {answer}");
            coordinator = None;
            None
        });
        progress.step();
    }
    offset
}

#[test]
fn a_rolling_restart_fails_no_request_that_clients_do_not_repeat_by_themselves() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = &cluster.create(1, "rolling", PARTITIONS);
    cluster.wait_until_in_sync(topic, &NODES, &NODES);
    let group = &Group::named_after("rolling");
    let (addresses, ends) = (&cluster.addresses().clone(), &AtomicBool::new(false));
    let progress: Vec<Progress> = (0..2 * PARTITIONS + 1).map(|_| Progress::default()).collect();
    let all_progress = || {
        let before: Vec<_> = progress.iter().map(Progress::made).collect();
        for (index, (progress, before)) in progress.iter().zip(before).enumerate() {
            wait_for(&format!("client {index} gets on"), || (progress.made() >= before + STEPS).then_some(()));
        }
    };
    let (mut producers, committed) = thread::scope(|scope| {
        let until_the_end = Ends(ends);
        let mut writing = Vec::new();
        for partition in 0..PARTITIONS {
            let [writes, reads] = [&progress[partition as usize], &progress[(PARTITIONS + partition) as usize]];
            writing.push(scope.spawn(move || {
                let mut producer = Producer::new(addresses, partition);
                while !ends.load(Ordering::Relaxed) {
                    // It takes no answer but an acknowledgement, and those that clients repeat.
                    producer.write(addresses, topic, 1);
                    writes.step();
                }
                producer
            }));
            scope.spawn(move || read(addresses, topic, partition, ends, reads));
        }
        let commits = progress.last().expect("one of the commits");
        let committing = scope.spawn(move || commit(addresses, group, topic, ends, commits));
        for node in NODES {
            all_progress();
            let begun = Instant::now();
            let status = cluster.terminate(node);
            assert_eq!(status.code(), Some(0), "node {node} stops in order");
            // Clients go on while it is away, and it is not missed: it has handed over what it led.
            all_progress();
            cluster.restart(node);
            cluster.wait_until_in_sync(topic, &NODES, &NODES);
            println!("node {node} was stopped and is back in sync after {:.1?}", begun.elapsed());
        }
        all_progress();
        drop(until_the_end);
        let producers: Vec<_> =
            writing.into_iter().map(|one| one.join().expect("a writer hears nothing else")).collect();
        (producers, committing.join().expect("a committer hears nothing else"))
    });
    for producer in &mut producers {
        producer.check(&cluster, topic);
    }
    let (_, mut client) = cluster.coordinator(group);
    assert_eq!(group.committed(&mut client, topic, 8).0, committed);
}
