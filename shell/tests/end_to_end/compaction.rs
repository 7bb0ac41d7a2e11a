//! Compacting topics over real sockets, on real files.

use std::collections::BTreeMap;
use std::fs;

use crate::support::batch::{Batch, records};
use crate::support::broker::{Broker, run_to_end};
use crate::support::client::Client;
use crate::support::code;
use crate::support::topic::{Topic, eventually};

const KEYS: usize = 20;
const ROUNDS: usize = 300;

/// Settings by which anything is compacted as soon as there is something to gain.
const CONFIGS: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("max.compaction.lag.ms", "500"),
    ("file.delete.delay.ms", "0"),
];

fn write(client: &mut Client, topic: &Topic, rounds: std::ops::Range<usize>) {
    for round in rounds {
        let values = (0..KEYS).map(|key| format!("{key}={round}/{}", "v".repeat(500)));
        topic.produce(client, 0, &Batch::of(values).with_keys());
    }
}

/// The newest value of each key, how many records there are for that, and the offset after the last batch.
fn read(client: &mut Client, topic: &Topic) -> (BTreeMap<String, String>, usize) {
    let (mut table, mut count) = (BTreeMap::new(), 0);
    let (mut next, end) = (0, topic.end_of(client, 0).offset);
    while next < end {
        let data = topic.fetch_in(client, 11, 0, next);
        assert_eq!(data.error_code, code::NONE, "at offset {next}");
        let bytes = data.records.unwrap_or_default();
        let after = end_of_batches(&bytes);
        for record in records(bytes) {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let value = text(record.value.as_deref());
            let value = value.split('/').next().expect("one part").to_owned();
            table.insert(text(record.key.as_deref()), value);
            count += 1;
        }
        assert!(after > next, "there is something to read at {next}, below the end {end}");
        next = after;
    }
    (table, count)
}

/// The offset after the last whole batch: of some only an empty shell may be left.
fn end_of_batches(bytes: &[u8]) -> i64 {
    let whole = chronik_core::batch::Scan::checked(bytes).map_while(Result::ok);
    whole.last().map_or(-1, |found| found.head.next_offset().0)
}

fn newest(round: usize) -> BTreeMap<String, String> {
    (0..KEYS).map(|key| (key.to_string(), format!("{key}={round}"))).collect()
}

#[test]
fn of_each_key_the_newest_record_stays_over_kill_and_stop() {
    let Some(mut broker) = Broker::start_own(&["--set", "log.cleaner.backoff.ms=100"]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "compacted", 1, &CONFIGS);
    write(&mut client, &topic, 0..ROUNDS);
    let end = topic.end_of(&mut client, 0).offset;
    eventually("most of the topic is compacted", || read(&mut client, &topic).1 < KEYS * ROUNDS / 10);
    assert_eq!(read(&mut client, &topic).0, newest(ROUNDS - 1));
    broker.kill();
    broker.restart();
    let mut client = broker.client();
    assert_eq!(topic.end_of(&mut client, 0).offset, end, "offsets never change");
    assert_eq!(read(&mut client, &topic).0, newest(ROUNDS - 1));
    write(&mut client, &topic, ROUNDS..2 * ROUNDS);
    broker.kill();
    broker.restart();
    let mut client = broker.client();
    eventually("only the newest of each key is left", || read(&mut client, &topic).1 == KEYS);
    assert_eq!(read(&mut client, &topic).0, newest(2 * ROUNDS - 1));
    assert_eq!(broker.terminate().code(), Some(0));
    let folders = fs::read_dir(broker.data_dir().join("topics")).expect("it has topics");
    for folder in folders {
        for file in fs::read_dir(folder.expect("listed").path()).expect("it has files") {
            let path = file.expect("listed").path();
            if path.extension().is_some_and(|kind| kind == "log") {
                let ended = run_to_end(&["dump", path.to_str().expect("a temporary path in UTF-8")]);
                assert_eq!(ended.status.code(), Some(0), "{}: {}", path.display(), ended.stderr);
            }
        }
    }
    broker.restart();
    assert_eq!(read(&mut broker.client(), &topic).0, newest(2 * ROUNDS - 1));
}

#[test]
fn a_compacted_topic_refuses_records_without_a_key() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "keyed", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(topic.refusal(&mut client, Batch::of(["no key"]).encode()), code::INVALID_RECORD);
    assert_eq!(topic.refusal(&mut client, Batch::of(["0=a"]).with_keys().encode()), code::NONE);
}
