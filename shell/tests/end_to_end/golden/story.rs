//! The life of a broker that leaves a folder with some of everything, half of it in a checkpoint and in segments, half
//! of it in the journal alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;

use chronik_core::batch::{BatchBuilder, Codec};
use chronik_core::ids::{ProducerEpoch, ProducerId};
use chronik_core::time::Timestamp;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, MetadataRequest,
    TopicName,
};

use super::check::read;
use super::contents::{Contents, LastBatch, PartitionClaim, RecordClaim, Repeated, TopicClaim};
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::code;
use crate::support::topic::{Topic, eventually, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;

/// The time of the first record; each further one is a millisecond younger.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// How much of the story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// All that happens, and then the journal once round: what was before is then in checkpoints and segments only.
    Full,
    /// All but that, which writes a hundred megabytes. A start that could not read a checkpoint would find the same in
    /// the journal.
    Short,
}

/// Tells the story up to the crash, unless the tests run against another's broker.
pub(super) fn tell(length: Length) -> Option<(Broker, Contents)> {
    let mut broker = Broker::start_own(&[])?;
    let mut author = Author::new(&broker);
    author.before_the_checkpoints();
    if length == Length::Full {
        author.turn_the_journal(&mut broker);
    }
    // The second one leaves both places of checkpoints in use.
    for _ in 0..2 {
        author.write_everywhere();
        author.stop_and_go_on(&mut broker);
    }
    author.write_everywhere();
    author.after_the_checkpoints();
    broker.kill();
    Some((broker, author.contents))
}

/// Writes to a broker, and down what it wrote.
struct Author {
    client: Client,
    contents: Contents,
    clock: i64,
    next_sequence: i32,
}

impl Author {
    fn new(broker: &Broker) -> Self {
        let mut client = broker.client();
        let metadata = client.call(9, &MetadataRequest::default().with_topics(Some(Vec::new())));
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let producer = client.call(1, &request);
        assert_eq!(producer.error_code, code::NONE);
        let contents = Contents {
            cluster_id: metadata.cluster_id.expect("a cluster has an id").to_string(),
            identity: fs::read_to_string(broker.data_dir().join("meta.toml")).expect("the identity is there"),
            settings: BTreeMap::new(),
            producer: LastBatch {
                topic: "idempotent".into(),
                id: producer.producer_id.0,
                epoch: producer.producer_epoch,
                sequence: -1,
                count: 0,
                offset: -1,
            },
            topics: Vec::new(),
        };
        Self { client, contents, clock: FIRST_TIMESTAMP, next_sequence: 0 }
    }

    fn before_the_checkpoints(&mut self) {
        // However old the folder is when it is opened, nothing in it expires.
        self.set((BROKER, ""), "log.retention.ms", "-1");
        self.set((BROKER, ""), "producer.id.expiration.ms", "2147483647");
        self.create("plain", 3, &[]);
        self.create("configured", 1, &[("retention.ms", "-1"), ("max.message.bytes", "2000000")]);
        self.create("codecs", 1, &[]);
        self.create("zstd", 1, &[("compression.type", "zstd")]);
        self.create("large", 1, &[]);
        self.create("rolled", 1, &[("segment.bytes", "1048576")]);
        self.create("idempotent", 1, &[]);
        self.create("again", 2, &[]);
        self.compact();
        self.write_everywhere();
        self.delete_records("plain", 0, 5);
        self.delete("again");
        self.create("again", 2, &[]);
        self.write("again", 1, Codec::None, &values("new", 3, 1));
    }

    /// Fills a topic with a few keys again and again until it is compacted to its end, and has it stay as it is then.
    fn compact(&mut self) {
        self.set((BROKER, ""), "log.cleaner.backoff.ms", "100");
        let never = "9223372036854775807";
        let soon = [("cleanup.policy", "compact"), ("max.compaction.lag.ms", "300"), ("segment.bytes", "1048576")];
        self.create("compacted", 1, &soon);
        for round in 0..60 {
            for _ in 0..3 {
                self.write("compacted", 0, Codec::Zstd, &values("keyed", 4, 20 + round));
            }
        }
        // Of each key the newest is left.
        let partition = &mut self.contents.topic("compacted").partitions[0];
        let mut newest: BTreeMap<Option<String>, String> = BTreeMap::new();
        for text in std::mem::take(&mut partition.records) {
            newest.insert(RecordClaim::from_text(&text).key, text);
        }
        partition.records = newest.into_values().collect();
        partition.records.sort_by_key(|text| RecordClaim::from_text(text).offset);
        let expected = partition.records.len();
        let topic = self.contents.topic("compacted").topic();
        eventually("the topic is compacted", || read(&mut self.client, &topic, 0, 0).len() == expected);
        self.set((TOPIC, "compacted"), "min.cleanable.dirty.ratio", "1");
        self.set((TOPIC, "compacted"), "max.compaction.lag.ms", never);
    }

    /// An orderly stop, which takes a checkpoint, and a start.
    fn stop_and_go_on(&mut self, broker: &mut Broker) {
        assert_eq!(broker.terminate().code(), Some(0));
        broker.restart();
        self.client = broker.client();
    }

    /// Writes until the journal's first file is used a second time. Checkpoints on the way keep the journal short.
    fn turn_the_journal(&mut self, broker: &mut Broker) {
        let first_file = broker.data_dir().join("journal/0000.journal");
        let beginning = || {
            let mut block = [0; 4096];
            File::open(&first_file).and_then(|mut file| file.read_exact(&mut block)).expect("the journal can be read");
            block
        };
        self.create("filler", 1, &[("file.delete.delay.ms", "0")]);
        let topic = self.contents.topic("filler").topic();
        // About as large as a batch can be that goes through the journal.
        let value = vec![b'f'; 250_000];
        let batch = BatchBuilder::new().record(Timestamp(FIRST_TIMESTAMP), None, Some(&value)).build();
        let before = beginning();
        for _ in 0..100 {
            for _ in 0..30 {
                let answer = topic.produce_in(&mut self.client, 9, batch.clone());
                assert_eq!(answer.error_code, code::NONE, "{:?}", answer.error_message);
            }
            self.stop_and_go_on(broker);
            if beginning() != before {
                return self.delete("filler");
            }
        }
        panic!("the journal does not turn");
    }

    fn after_the_checkpoints(&mut self) {
        self.set((TOPIC, "configured"), "retention.bytes", "1000000000");
        self.delete_records("plain", 1, 7);
        self.delete("again");
        self.create("again", 1, &[("compression.type", "gzip")]);
        self.write("again", 0, Codec::None, &values("newest", 3, 1));
        self.create("late", 2, &[]);
        self.write("late", 1, Codec::None, &values("late", 3, 1));
        // The end is a large batch behind small ones that are in no segment yet.
        self.write("large", 0, Codec::None, &[Repeated { times: 40_000, of: "the-last".into() }]);
    }

    /// A batch or more of each kind.
    fn write_everywhere(&mut self) {
        for partition in 0..3 {
            for _ in 0..2 {
                self.write("plain", partition, Codec::None, &values("plain", 5, 1));
            }
        }
        self.write("configured", 0, Codec::None, &values("configured", 2, 1));
        for codec in Codec::ALL {
            self.write("codecs", 0, codec, &values("compressible", 4, 50));
        }
        self.write("zstd", 0, Codec::None, &values("by-the-broker", 4, 50));
        // The first large batch of a segment goes through the journal, those behind it straight to the segment.
        for times in [1, 40_000, 1, 1, 45_000, 50_000, 1, 40_000, 1] {
            for name in ["large", "rolled"] {
                self.write(name, 0, Codec::None, &[Repeated { times, of: "eight-8;".into() }]);
            }
        }
        for _ in 0..3 {
            self.write_idempotent(4);
        }
        self.write("again", 0, Codec::None, &values("gone", 3, 1));
    }

    fn create(&mut self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = Topic::create_named(&mut self.client, TopicName(text(name)), partitions, settings);
        self.contents.topics.push(TopicClaim {
            name: name.into(),
            id: topic.created.topic_id.to_string(),
            settings: settings.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
            partitions: (0..partitions).map(|_| PartitionClaim::default()).collect(),
        });
    }

    fn delete(&mut self, name: &str) {
        let topic = DeleteTopicState::default().with_name(Some(TopicName(text(name))));
        let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        assert_eq!(self.client.call(6, &request).responses[0].error_code, code::NONE);
        self.contents.topics.retain(|topic| topic.name != name);
    }

    fn set(&mut self, (kind, name): (i8, &str), key: &str, value: &str) {
        let config = AlterableConfig::default().with_name(text(key)).with_config_operation(SET);
        let of = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(vec![config.with_value(Some(text(value)))]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![of]);
        let answer = self.client.call(1, &request).responses.remove(0);
        assert_eq!(answer.error_code, code::NONE, "{key}: {:?}", answer.error_message);
        let settings = match kind {
            TOPIC => &mut self.contents.topic(name).settings,
            _ => &mut self.contents.settings,
        };
        settings.insert(key.into(), value.into());
    }

    /// Deletes the records below `offset`, which may lie inside a batch.
    fn delete_records(&mut self, name: &str, partition: usize, offset: i64) {
        let of = DeleteRecordsPartition::default().with_partition_index(partition as i32).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(TopicName(text(name))).with_partitions(vec![of]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        assert_eq!(self.client.call(2, &request).topics[0].partitions[0].low_watermark, offset);
        let partition = &mut self.contents.topic(name).partitions[partition];
        partition.start = offset;
        partition.records.retain(|record| RecordClaim::from_text(record).offset >= offset);
    }

    fn write(&mut self, name: &str, partition: usize, codec: Codec, values: &[Repeated]) -> i64 {
        self.write_batch(name, partition, BatchBuilder::new().codec(codec), values)
    }

    fn write_idempotent(&mut self, count: i32) {
        let LastBatch { id, epoch, .. } = self.contents.producer;
        let batch = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), self.next_sequence);
        let offset = self.write_batch("idempotent", 0, batch, &values("once", count, 1));
        let last = &mut self.contents.producer;
        (last.sequence, last.count, last.offset) = (self.next_sequence, count, offset);
        self.next_sequence += count;
    }

    fn write_batch(&mut self, name: &str, partition: usize, batch: BatchBuilder, values: &[Repeated]) -> i64 {
        let first_timestamp = self.clock;
        self.clock += values.len() as i64;
        // Every third record has no key, where that is allowed, and where records are compacted few keys come often.
        let compacts = self.contents.topic(name).compacts();
        let key = |timestamp: i64| match compacts {
            true => Some(format!("key-{}", timestamp % 7)),
            false => (timestamp % 3 != 0).then(|| format!("key-{}", timestamp % 1000)),
        };
        let batch = values.iter().zip(first_timestamp..).fold(batch, |batch, (value, timestamp)| {
            let key = key(timestamp);
            batch.record(Timestamp(timestamp), key.as_ref().map(String::as_bytes), Some(&value.bytes()))
        });
        let topic = self.contents.topic(name).topic();
        let request = topic.produce_request(9, partition as i32, -1, batch.build());
        let answer = self.client.call(9, &request).responses.remove(0).partition_responses.remove(0);
        assert_eq!(answer.error_code, code::NONE, "{name}: {:?}", answer.error_message);
        let offsets = answer.base_offset..;
        let claims = values.iter().zip(first_timestamp..).zip(offsets).map(|((value, timestamp), offset)| {
            RecordClaim { offset, timestamp, key: key(timestamp), value: value.clone() }.to_text()
        });
        self.contents.topic(name).partitions[partition].records.extend(claims);
        answer.base_offset
    }
}

/// `count` values that differ.
fn values(of: &str, count: i32, times: usize) -> Vec<Repeated> {
    (0..count).map(|number| Repeated { times, of: format!("{of}-{number}") }).collect()
}
