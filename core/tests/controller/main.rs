//! The controller's claims, an API a file. Every decision is replayed as the log would replay it: through its bytes,
//! with the image's invariants checked after each entry.

mod alter;
mod answers;
mod brokers;
mod cluster;
mod cluster_model;
mod create;
mod delete;
mod describe;
mod documentation;
mod elect;
mod image;
mod model;
mod placement;
mod producer_ids;
mod reassign;
mod records;

use chronik_core::config::BrokerConfig;
use chronik_core::controller::image::{Change, MetadataImage, Snapshot};
use chronik_core::controller::records::{Listener, decode_entry, encode_entry};
use chronik_core::controller::{Controller, Decision};
use chronik_core::ids::{NodeId, Uuid};
use chronik_core::rng::Rng;
use chronik_core::wire::ErrorCode;
use chronik_core::wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};

/// The listener that clients of these tests come in by.
const LISTENER: &str = "PLAINTEXT";

/// A controller and the log that it writes.
struct Cluster {
    controller: Controller,
    rng: Rng,
    index: u64,
    /// One that is taken meanwhile.
    snapshot: Option<Snapshot>,
}

impl Cluster {
    /// A cluster of one broker, number 1, with these settings in its file.
    fn with(pairs: &[(&str, &str)]) -> Cluster {
        let file = BrokerConfig::parse(pairs.iter().copied()).expect("the file is sound");
        let controller = Controller::new(NodeId(1), "cluster".into(), file, MetadataImage::default());
        let mut cluster = Cluster { controller, rng: Rng::from_number(1), index: 0, snapshot: None };
        cluster.start();
        cluster
    }

    fn new() -> Cluster {
        Cluster::with(&[])
    }

    /// Registers a new process of the broker, and returns its epoch.
    fn start(&mut self) -> i64 {
        let decision = self.controller.register(Uuid([1; 16]), addresses()).expect("it is the broker's own folder");
        self.commit(decision)
    }

    /// Commits a decision, and returns its response.
    fn commit<Response>(&mut self, decision: Decision<Response>) -> Response {
        self.changes(&decision);
        decision.response
    }

    /// Commits a decision, and returns what it changed.
    fn changes<Response>(&mut self, decision: &Decision<Response>) -> Vec<Change> {
        if decision.records.is_empty() {
            return Vec::new();
        }
        self.index += 1;
        let records = decode_entry(&encode_entry(&decision.records)).expect("it was just encoded");
        assert_eq!(records, decision.records);
        let mut changes = Vec::new();
        for record in &records {
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.keep(self.controller.image(), record);
            }
            changes.extend(self.controller.replay(self.index, record));
        }
        // They walk all partitions: not again and again where a test makes very many.
        if self.controller.image().partition_count() <= 10_000 {
            self.controller.image().invariants();
        }
        changes
    }

    /// Creates a topic of these settings, whose creation succeeds.
    fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let request = CreateTopicsRequest { topics: vec![topic(name, partitions, configs)], ..Default::default() };
        let decision = self.controller.create_topics(&mut self.rng, &request);
        let response = self.commit(decision);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        response.topics[0].topic_id
    }
}

fn addresses() -> Vec<Listener> {
    let listener = |name: &str, host: &str, port| Listener { name: name.into(), host: host.into(), port };
    vec![listener(LISTENER, "localhost", 9092), listener("OUTSIDE", "kafka.example.org", 19092)]
}

fn topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs =
        configs.iter().map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        configs: configs.collect(),
        ..Default::default()
    }
}

/// The name of an error's code.
fn error(code: i16) -> &'static str {
    ErrorCode::from_code(code).expect("a known code").name()
}
