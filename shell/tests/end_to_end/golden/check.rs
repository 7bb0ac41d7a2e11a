//! What is asked of a golden folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chronik_core::batch::{BatchBuilder, Records, Scan};
use chronik_core::ids::{ProducerEpoch, ProducerId};
use chronik_core::time::Timestamp;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DescribeConfigsRequest, MetadataRequest};

use super::contents::{Contents, LastBatch, RecordClaim, Repeated, TopicClaim};
use crate::support::broker::{Broker, run_to_end};
use crate::support::client::Client;
use crate::support::code;
use crate::support::topic::{Topic, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where a setting comes from: of the topic, and of all brokers.
const DYNAMIC_TOPIC: i8 = 1;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
/// More than any batch of a folder.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Every file below `data` that is of one of these kinds can be shown, and without a flaw.
pub(super) fn dumps(data: &Path, kinds: &[&str]) {
    let mut shown = 0;
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder can be listed");
        for path in entries.map(|entry| entry.expect("a folder can be listed").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kinds.iter().any(|wanted| kind == *wanted)) {
                dump(&path);
                shown += 1;
            }
        }
    }
    assert!(shown > 0, "there is no {kinds:?}");
}

fn dump(path: &PathBuf) {
    let ended = run_to_end(&["dump", path.to_str().expect("a temporary path in UTF-8")]);
    assert_eq!(ended.status.code(), Some(0), "{}: {}", path.display(), ended.stderr);
    // A segment has no file content before its first batches are flushed.
    let length = fs::metadata(path).expect("the file is there").len();
    assert_eq!(ended.stdout.is_empty(), length == 0, "{}", path.display());
}

/// The broker has opened a folder of these contents: they are there, more can be written, and all of it is there after
/// the broker was killed, and after it was stopped.
pub(super) fn opens(mut broker: Broker, contents: &Contents) {
    let mut client = broker.client();
    identity(&broker, &mut client, contents);
    settings(&mut client, contents);
    records(&mut client, contents, &BTreeMap::new());
    producer(&mut client, &contents.producer);
    let mut written = BTreeMap::from([((contents.producer.topic.clone(), 0), vec![next_batch_value()])]);
    for topic in &contents.topics {
        for partition in 0..topic.partitions.len() {
            for value in [small_value(), large_value()] {
                write(&mut client, topic, partition as i32, &value);
                written.entry((topic.name.clone(), partition)).or_default().push(value);
            }
        }
    }
    records(&mut client, contents, &written);
    broker.kill();
    broker.restart();
    records(&mut broker.client(), contents, &written);
    assert_eq!(broker.terminate().code(), Some(0));
    dumps(&broker.data_dir(), &["log", "journal"]);
    broker.restart();
    let mut client = broker.client();
    identity(&broker, &mut client, contents);
    settings(&mut client, contents);
    records(&mut client, contents, &written);
}

/// The folder is the one that it was, and has the topics that it had.
pub(super) fn identity(broker: &Broker, client: &mut Client, contents: &Contents) {
    let found = fs::read_to_string(broker.data_dir().join("meta.toml")).expect("the identity is there");
    // A version may write down more; what was written stays.
    let said =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<BTreeSet<_>>();
    let lacks: Vec<_> = said(&contents.identity).difference(&said(&found)).cloned().collect();
    assert_eq!(lacks, Vec::<String>::new(), "{found}");
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let metadata = client.call(12, &request);
    assert_eq!(metadata.cluster_id.as_deref(), Some(contents.cluster_id.as_str()));
    let found = metadata.topics.iter().map(|topic| {
        let name = topic.name.as_ref().expect("described by name").to_string();
        (name, topic.topic_id.to_string(), topic.partitions.len())
    });
    let claimed = contents.topics.iter().map(|topic| (topic.name.clone(), topic.id.clone(), topic.partitions.len()));
    let (mut found, mut claimed): (Vec<_>, Vec<_>) = (found.collect(), claimed.collect());
    found.sort();
    claimed.sort();
    assert_eq!(found, claimed);
}

/// All brokers and each topic have the settings of `contents`.
pub(super) fn settings(client: &mut Client, contents: &Contents) {
    assert_eq!(settings_of(client, BROKER, "", DYNAMIC_DEFAULT_BROKER), contents.settings);
    for topic in &contents.topics {
        assert_eq!(settings_of(client, TOPIC, &topic.name, DYNAMIC_TOPIC), topic.settings, "{}", topic.name);
    }
}

/// The settings of one origin.
fn settings_of(client: &mut Client, kind: i8, name: &str, source: i8) -> BTreeMap<String, String> {
    let of = DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
    let request = DescribeConfigsRequest::default().with_resources(vec![of.with_configuration_keys(None)]);
    let described = client.call(4, &request).results.remove(0);
    assert_eq!(described.error_code, code::NONE, "{name}: {:?}", described.error_message);
    let own = described.configs.into_iter().filter(|config| config.config_source == source);
    own.map(|config| (config.name.to_string(), config.value.expect("not a secret").to_string())).collect()
}

/// Every partition holds the records of `contents`, and behind them one record for each value of `written`.
pub(super) fn records(client: &mut Client, contents: &Contents, written: &BTreeMap<(String, usize), Vec<Repeated>>) {
    for claim in &contents.topics {
        let topic = claim.topic();
        for (index, partition) in claim.partitions.iter().enumerate() {
            let place = format!("{}-{index}", claim.name);
            assert_eq!(topic.start_of(client, index as i32), partition.start, "the log start offset of {place}");
            let mut claimed: Vec<_> = partition.records.iter().map(|text| RecordClaim::from_text(text)).collect();
            for value in written.get(&(claim.name.clone(), index)).into_iter().flatten() {
                let offset = claimed.last().map_or(partition.start, |last| last.offset + 1);
                let key = claim.key_of(value).map(|key| String::from_utf8_lossy(key).into_owned());
                claimed.push(RecordClaim { offset, timestamp: TIMESTAMP.0, key, value: value.clone() });
            }
            let found = read(client, &topic, index as i32, partition.start);
            for (claimed, found) in claimed.iter().zip(&found) {
                assert!(found.is(claimed), "{place} has at offset {} not: {}", found.offset, claimed.to_text());
            }
            assert_eq!(found.len(), claimed.len(), "records of {place}");
        }
    }
}

pub(super) struct Found {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl Found {
    fn is(&self, claim: &RecordClaim) -> bool {
        self.offset == claim.offset
            && self.timestamp == claim.timestamp
            && self.key.as_deref() == claim.key.as_ref().map(String::as_bytes)
            && self.value == claim.value.bytes()
    }
}

/// All records from `offset` to the end of the partition, in whatever codec they are stored.
pub(super) fn read(client: &mut Client, topic: &Topic, partition: i32, offset: i64) -> Vec<Found> {
    let mut all = Vec::new();
    let mut next = offset;
    loop {
        let data = topic.fetch_in(client, 12, partition, next);
        assert_eq!(data.error_code, code::NONE, "at offset {next}");
        let bytes = data.records.unwrap_or_default();
        let before = next;
        for batch in Scan::checked(&bytes) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) if error.is_cut() && next > before => break,
                Err(error) => panic!("at offset {next}: {error}"),
            };
            let mut records = Records::open(&bytes[batch.range], BATCH_BYTES_MAX).expect("a sound batch");
            while let Some(record) = records.next_record().expect("a sound record") {
                if record.offset.0 >= offset {
                    all.push(Found {
                        offset: record.offset.0,
                        timestamp: record.timestamp.0,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.unwrap_or_default().to_vec(),
                    });
                }
            }
            next = batch.head.last_offset().0 + 1;
        }
        if next >= data.high_watermark {
            return all;
        }
        assert!(next > before, "offset {next} is below the high watermark {}", data.high_watermark);
    }
}

impl TopicClaim {
    /// The key under which a value is written here.
    fn key_of<'a>(&self, value: &'a Repeated) -> Option<&'a [u8]> {
        self.compacts().then_some(value.of.as_bytes())
    }
}

/// Of what is written here; the golden folders have other ones.
const TIMESTAMP: Timestamp = Timestamp(1_750_000_000_000);

fn small_value() -> Repeated {
    Repeated { times: 1, of: "small".into() }
}

/// Large enough to be written straight to its segment.
fn large_value() -> Repeated {
    Repeated { times: 40_000, of: "large;;;".into() }
}

fn next_batch_value() -> Repeated {
    Repeated { times: 1, of: "next".into() }
}

fn write(client: &mut Client, topic: &TopicClaim, partition: i32, value: &Repeated) {
    let batch = BatchBuilder::new().record(TIMESTAMP, topic.key_of(value), Some(&value.bytes())).build();
    let mut response = client.call(9, &topic.topic().produce_request(9, partition, -1, batch));
    let answer = response.responses.remove(0).partition_responses.remove(0);
    assert_eq!(answer.error_code, code::NONE, "{:?}", answer.error_message);
}

/// The producer's last batch is known, and the one after it is taken.
pub(super) fn producer(client: &mut Client, last: &LastBatch) {
    let topic = text(&last.topic);
    let topic = Topic { name: topic.into(), created: Default::default() };
    let mut send = |sequence, values: &[Vec<u8>]| {
        let batch = BatchBuilder::new().producer(ProducerId(last.id), ProducerEpoch(last.epoch), sequence);
        let batch = values.iter().fold(batch, |batch, value| batch.record(TIMESTAMP, None, Some(value)));
        let answer = topic.produce_in(client, 9, batch.build());
        (answer.error_code, answer.base_offset)
    };
    let again = vec![b"again".to_vec(); last.count as usize];
    assert_eq!(send(last.sequence, &again), (code::NONE, last.offset), "a duplicate is answered as its original was");
    let (next_sequence, next_offset) = (last.sequence + last.count, last.offset + i64::from(last.count));
    assert_eq!(send(next_sequence + 1, &[b"gap".to_vec()]).0, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(next_sequence, &[next_batch_value().bytes()]), (code::NONE, next_offset));
}
