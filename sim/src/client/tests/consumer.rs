//! A consumer of a cluster, told by whom its partitions are led.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use chronik_core::ids::Uuid;
use chronik_core::time::{Instant, Timestamp};
use chronik_core::wire::api_versions::ApiVersionsResponse;
use chronik_core::wire::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use chronik_core::wire::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse};
use chronik_core::wire::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use chronik_core::wire::{ApiKey, Response, Writer, encode_response};

use super::{consumer, plan};
use crate::client::{Client, ClientNow, Happened, Link, Wanted, machine};
use crate::history::ClientId;
use crate::plan::{Action, Operation};
use crate::testing::cluster_plan;

const TOPIC: &str = "orders";

/// A consumer that polls a topic of two partitions, and brokers that have nothing for it.
struct Talk {
    consumer: Box<dyn Client>,
    now_ms: u64,
    links: BTreeMap<Link, u32>,
    /// Who leads the second partition. The first is led by broker 1.
    leader: Option<i32>,
    read_from: BTreeSet<u32>,
}

impl Talk {
    fn new() -> Talk {
        let mut client = consumer(12, false);
        let poll = |n: u64| Operation { at_ms: 30 * n, what: Action::Poll { topics: vec![0] } };
        client.operations = (0..100).map(poll).collect();
        let mut plan = plan(vec![client]);
        plan.cluster = cluster_plan(3).cluster;
        let consumer = machine(&plan, ClientId(0));
        let (links, read_from) = (BTreeMap::new(), BTreeSet::new());
        let mut talk = Talk { consumer, now_ms: 0, links, leader: None, read_from };
        talk.step(Happened::Started);
        talk
    }

    /// From which brokers it reads meanwhile.
    fn reads_from(&mut self, ms: u64) -> Vec<u32> {
        self.read_from.clear();
        for _ in 0..ms {
            self.now_ms += 1;
            self.step(Happened::Timer);
        }
        self.read_from.iter().copied().collect()
    }

    fn step(&mut self, happened: Happened) {
        let instant = Instant(self.now_ms * 1_000_000);
        let now = ClientNow { instant, wall: Timestamp(1_700_000_000_000) };
        let mut coming = VecDeque::from([happened]);
        while let Some(happened) = coming.pop_front() {
            let mut wanted = Vec::new();
            self.consumer.step(now, happened, &mut wanted);
            for wanted in wanted {
                match wanted {
                    Wanted::Connect(link, node) => {
                        self.links.insert(link, node);
                        coming.push_back(Happened::Connected(link));
                    }
                    Wanted::Send(link, bytes) => coming.push_back(Happened::Received(link, self.answer(link, &bytes))),
                    _ => {}
                }
            }
        }
    }

    fn answer(&mut self, link: Link, bytes: &Bytes) -> Bytes {
        let short = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (key, version) = (short(4), short(6));
        let correlation_id = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let node = self.links[&link];
        // Broker 1 leads the first partition, and the other one the second.
        let partition_index = i32::from(node != 1);
        let response: Response = match ApiKey::from_code(key) {
            Some(ApiKey::ApiVersions) => {
                ApiVersionsResponse { api_keys: ApiKey::advertised_apis(), ..Default::default() }.into()
            }
            Some(ApiKey::Metadata) => self.metadata().into(),
            Some(ApiKey::ListOffsets) => {
                let partitions = vec![ListOffsetsPartitionResponse { partition_index, ..Default::default() }];
                let topics = vec![ListOffsetsTopicResponse { name: TOPIC.into(), partitions }];
                ListOffsetsResponse { topics, ..Default::default() }.into()
            }
            Some(ApiKey::Fetch) => {
                self.read_from.insert(node);
                let partitions = vec![PartitionData { partition_index, ..Default::default() }];
                let topic = FetchableTopicResponse { topic: TOPIC.into(), partitions, ..Default::default() };
                FetchResponse { responses: vec![topic], ..Default::default() }.into()
            }
            _ => panic!("it asks for no more, and for {key}"),
        };
        let mut writer = Writer::new();
        encode_response(&response, version, correlation_id, &mut writer).expect("it is short");
        writer.finish().to_bytes()
    }

    fn metadata(&self) -> MetadataResponse {
        let led = |partition_index, leader: Option<i32>| MetadataResponsePartition {
            partition_index,
            leader_id: leader.unwrap_or(-1),
            leader_epoch: i32::from(leader.is_some()),
            ..Default::default()
        };
        let topic = MetadataResponseTopic {
            name: Some(TOPIC.into()),
            topic_id: Uuid([1; 16]),
            partitions: vec![led(0, Some(1)), led(1, self.leader)],
            ..Default::default()
        };
        MetadataResponse { topics: vec![topic], ..Default::default() }
    }
}

#[test]
fn a_partition_that_nobody_led_is_read_when_somebody_does() {
    let mut talk = Talk::new();
    assert_eq!(talk.reads_from(500), [1]);
    talk.leader = Some(2);
    assert_eq!(talk.reads_from(500), [1, 2]);
}
