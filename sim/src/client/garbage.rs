//! Bytes that no sound client sends.

use std::collections::VecDeque;

use bytes::Bytes;
use chronik_core::batch::{BatchBuilder, HEAD_BYTES};
use chronik_core::time::Timestamp;
use chronik_core::wire::api_versions::ApiVersionsRequest;
use chronik_core::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use chronik_core::wire::metadata::MetadataRequest;
use chronik_core::wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use chronik_core::wire::{ApiKey, Request, RequestHeader, Writer, encode_request};

/// How many kinds of misdeeds a hostile client knows.
pub const MISDEEDS: u8 = 20;

/// What a hostile client does.
#[derive(Debug)]
pub(super) struct Misdeed {
    /// What it is, for people.
    pub(super) name: &'static str,
    /// What it sends on each of its connections.
    pub(super) bytes: Vec<Bytes>,
    pub(super) connections: u32,
    /// It closes as soon as it has sent.
    pub(super) leaves_at_once: bool,
    /// It stays though nothing more is to come.
    pub(super) waits: bool,
    /// The answers that may come, in order.
    pub(super) answers: VecDeque<Answer>,
}

/// An answer that may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) api_key: ApiKey,
    /// The version that it is in.
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    /// It must be an error.
    pub(super) must_fail: bool,
}

/// The misdeed of this number, against a topic.
pub(super) fn misdeed(which: u8, operation: u32, topic: &str, wall: Timestamp) -> Misdeed {
    let plain = |name, bytes: Vec<u8>| Misdeed {
        name,
        bytes: vec![bytes.into()],
        connections: 1,
        leaves_at_once: false,
        waits: false,
        answers: VecDeque::new(),
    };
    let greeted = |name, bytes: Vec<u8>| {
        let greeting = encoded(&ApiVersionsRequest::default().into(), 2, 1);
        Misdeed {
            bytes: vec![greeting, bytes.into()],
            answers: [Answer { api_key: ApiKey::ApiVersions, version: 2, correlation_id: 1, must_fail: false }].into(),
            waits: true,
            ..plain(name, Vec::new())
        }
    };
    let produced = |name, batch: Vec<u8>, acks| {
        let mut misdeed = greeted(name, produce(topic, batch.into(), acks).to_vec());
        let answer = Answer { api_key: ApiKey::Produce, version: 9, correlation_id: 2, must_fail: true };
        misdeed.answers.extend((acks != 0).then_some(answer));
        misdeed.waits = acks == 0;
        misdeed
    };
    let value = operation.to_be_bytes().repeat(16);
    let batch =
        || BatchBuilder::new().record(wall, None, Some(&value)).record(wall, None, Some(&value)).build().to_vec();
    match which % MISDEEDS {
        0 => plain("a negative size", (-1_i32).to_be_bytes().to_vec()),
        1 => plain("a gigantic size", i32::MAX.to_be_bytes().to_vec()),
        2 => plain("HTTP", b"GET /topics HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec()),
        3 => plain("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 512]].concat()),
        4 => plain("a frame of no bytes", 0_i32.to_be_bytes().to_vec()),
        5 => greeted("an unknown API", framed(&[0x7f, 0xff, 0, 0, 0, 0, 0, 2, 0xff, 0xff])),
        6 => {
            greeted("a body of garbage", framed(&[&[0, 3, 0, 12, 0, 0, 0, 2, 0xff, 0xff, 0][..], &[0xee; 64]].concat()))
        }
        7 => greeted(
            "an array longer than the frame",
            framed(&[0, 3, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        ),
        8 => greeted("half a frame, then silence", produce(topic, batch().into(), 1)[..60].to_vec()),
        9 => Misdeed {
            leaves_at_once: true,
            ..greeted("half a frame, then nobody", produce(topic, batch().into(), 1)[..90].to_vec())
        },
        10 => {
            let mut misdeed = greeted("a version that nobody speaks", framed(&[0, 0, 0, 99, 0, 0, 0, 2, 0xff, 0xff]));
            let version = *ApiKey::Produce.versions().end();
            let answer = Answer { api_key: ApiKey::Produce, version, correlation_id: 2, must_fail: true };
            misdeed.answers.push_back(answer);
            misdeed
        }
        11 => {
            let mut misdeed = plain("a greeting of the future", framed(&[0, 18, 0, 77, 0, 0, 0, 1, 0xff, 0xff, 0]));
            let answer = Answer { api_key: ApiKey::ApiVersions, version: 0, correlation_id: 1, must_fail: false };
            misdeed.answers.push_back(answer);
            misdeed
        }
        12 => {
            let mut batch = batch();
            let last = batch.len() - 1;
            batch[last] ^= 1;
            produced("a batch of another checksum", batch, -1)
        }
        13 => produced("a batch that counts wrong", patched(batch(), 57, &9_i32.to_be_bytes()), 1),
        14 => produced("a batch that calls itself gzip", patched(batch(), 21, &1_i16.to_be_bytes()), -1),
        15 => produced("a batch that calls itself zstd", patched(batch(), 21, &4_i16.to_be_bytes()), -1),
        16 => produced("a batch cut short", batch()[..HEAD_BYTES + 10].to_vec(), 1),
        17 => produced("acks of seven", batch(), 7),
        18 => {
            let request = MetadataRequest { allow_auto_topic_creation: false, ..MetadataRequest::default() };
            let many = (2..202).flat_map(|id| encoded(&request.clone().into(), 9, id).to_vec()).collect();
            Misdeed {
                connections: 10,
                leaves_at_once: true,
                ..greeted("many questions whose answers nobody reads", many)
            }
        }
        _ => {
            let request = nonsense_fetch(topic);
            let mut misdeed = greeted("a fetch of nonsense", encoded(&request, 12, 2).to_vec());
            misdeed.answers.push_back(Answer {
                api_key: ApiKey::Fetch,
                version: 12,
                correlation_id: 2,
                must_fail: false,
            });
            misdeed.waits = false;
            misdeed
        }
    }
}

fn encoded(request: &Request, version: i16, correlation_id: i32) -> Bytes {
    let header = RequestHeader {
        api_key: request.api_key().code(),
        api_version: version,
        correlation_id,
        client_id: Some("hostile".into()),
    };
    let mut writer = Writer::new();
    encode_request(&header, request, &mut writer);
    writer.finish().to_bytes()
}

fn framed(body: &[u8]) -> Vec<u8> {
    let size = i32::try_from(body.len()).expect("short");
    [&size.to_be_bytes()[..], body].concat()
}

fn produce(topic: &str, batch: Bytes, acks: i16) -> Bytes {
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(batch) }];
    let topic_data = vec![TopicProduceData { name: topic.into(), partition_data, ..TopicProduceData::default() }];
    encoded(&ProduceRequest { transactional_id: None, acks, timeout_ms: 1_000, topic_data }.into(), 9, 2)
}

/// The batch with other bytes at a place under its checksum, and the checksum that goes with them.
fn patched(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    const CRC_AT: usize = 17;
    const CRC_FROM: usize = 21;
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn nonsense_fetch(topic: &str) -> Request {
    let partition = |partition, fetch_offset| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: i32::MIN,
        ..FetchPartition::default()
    };
    let partitions = vec![partition(-7, 0), partition(0, -5), partition(0, i64::MAX), partition(i32::MAX, 3)];
    let topics = vec![FetchTopic { topic: topic.into(), partitions, ..FetchTopic::default() }];
    FetchRequest { max_wait_ms: -1, min_bytes: i32::MIN, max_bytes: -3, topics, ..FetchRequest::default() }.into()
}
