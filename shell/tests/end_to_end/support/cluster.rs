//! Three broker processes that are one cluster, and a producer that follows a partition's leader.

use std::ops::Deref;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, FindCoordinatorRequest, HeartbeatRequest,
    InitProducerIdRequest, MetadataRequest, MetadataResponse, ProduceRequest,
};

use super::batch::Batch;
use super::broker::{Broker, Ended, Folder, free_port, run_to_end};
use super::client::Client;
use super::code;
use super::group::Group;
use super::topic::{Topic, fresh_name, text};

/// How long three nodes may take to agree on something, in a debug build on a busy machine: some elections.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions about what is not so yet: nodes that are asked all the time have less left to get there.
const PAUSE: Duration = Duration::from_millis(20);
/// So that a node that was killed is missed soon, and one that gets no processor for a moment is not.
const SETTINGS: [&str; 6] = [
    "--set",
    "broker.session.timeout.ms=1500",
    "--set",
    "broker.heartbeat.interval.ms=200",
    "--set",
    "group.initial.rebalance.delay.ms=0",
];

/// The nodes' numbers.
pub(crate) const NODES: [i32; 3] = [1, 2, 3];

/// Three nodes, started together. Whatever is asked of them as a client asks is asked of its [`Addresses`].
pub(crate) struct Cluster {
    /// In the order of [`NODES`].
    nodes: Vec<Broker>,
    /// In the same order: where they listen for each other.
    raft_ports: [u16; NODES.len()],
    addresses: Addresses,
}

/// Where the nodes listen: what clients on other threads need while nodes come and go.
#[derive(Clone)]
pub(crate) struct Addresses {
    /// In the order of [`NODES`].
    nodes: Vec<String>,
    /// The one that takes connections and says nothing, so that nobody asks it.
    frozen: Option<i32>,
}

impl Deref for Cluster {
    type Target = Addresses;

    fn deref(&self) -> &Addresses {
        &self.addresses
    }
}

/// Asks until `answer` has one.
pub(crate) fn wait_for<T>(claim: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {claim}");
        thread::sleep(PAUSE);
    }
}

impl Cluster {
    /// A new cluster that has formed, or none if the tests run against another's broker.
    pub(crate) fn start() -> Option<Self> {
        let mut cluster = Self::of_none()?;
        for node in NODES {
            cluster.launch(node, Folder::new(), &["--bootstrap", "--peers", &cluster.peers_of(node)]);
        }
        cluster.wait_until_all_serve();
        Some(cluster)
    }

    /// The same, founded by node 1 alone when it has met the last of the others, which met each other long before.
    pub(crate) fn start_by_one_founder() -> Option<Self> {
        let mut cluster = Self::of_none()?;
        for node in NODES {
            let founds = (node == 1).then_some("--bootstrap");
            let peers = cluster.peers_of(node);
            let flags: Vec<&str> = ["--peers", &peers].into_iter().chain(founds).collect();
            cluster.launch(node, Folder::new(), &flags);
        }
        cluster.wait_until_all_serve();
        Some(cluster)
    }

    /// Node 1 alone as a cluster, on the data folder that `prepare` makes at a path; none if the tests run against
    /// another's broker.
    pub(crate) fn start_alone_on(prepare: impl FnOnce(&Path)) -> Option<Self> {
        let mut cluster = Self::of_none()?;
        let folder = Folder::new();
        prepare(&folder.path().join("data"));
        cluster.launch(1, folder, &[]);
        Some(cluster)
    }

    fn of_none() -> Option<Self> {
        std::env::var_os("CHRONIK_TEST_BOOTSTRAP").is_none().then(|| Self {
            nodes: Vec::new(),
            raft_ports: NODES.map(|_| free_port()),
            addresses: Addresses { nodes: Vec::new(), frozen: None },
        })
    }

    /// The next node begins.
    fn launch(&mut self, node: i32, folder: Folder, flags: &[&str]) {
        let (number, raft_addr) = (node.to_string(), self.raft_addr(node));
        let mut all = vec!["raft-cluster", "--node-id", &number, "--raft-addr", &raft_addr];
        all.extend(flags);
        all.extend(SETTINGS);
        let broker = Broker::launch_in(folder, &all);
        self.addresses.nodes.push(broker.address().to_owned());
        self.nodes.push(broker);
    }

    /// Where a node listens for the others.
    pub(crate) fn raft_addr(&self, node: i32) -> String {
        format!("127.0.0.1:{}", self.raft_ports[index(node)])
    }

    fn peers_of(&self, node: i32) -> String {
        let others = NODES.into_iter().filter(|other| *other != node);
        others.map(|other| format!("{other}@{}", self.raft_addr(other))).collect::<Vec<_>>().join(",")
    }

    /// The nodes that have not been there yet are started with empty folders, and added.
    pub(crate) fn grow(&mut self) {
        for node in &NODES[self.nodes.len()..] {
            let peer = format!("1@{}", self.raft_addr(1));
            self.launch(*node, Folder::new(), &["--peers", &peer]);
            let added = format!("{node}@{}", self.raft_addr(*node));
            let ended = run_to_end(&["cluster", "add-node", &added, "--bootstrap-servers", self.node(1).address()]);
            assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
        }
        self.wait_until_all_serve();
    }

    /// How a node with an empty folder ends that takes nodes for its peers, each where another one of the cluster is.
    pub(crate) fn stranger(&self, node: i32, peers: &[(i32, i32)]) -> Ended {
        let peers = peers.iter().map(|(peer, at)| format!("{peer}@{}", self.raft_addr(*at)));
        let (folder, peers) = (Folder::new(), peers.collect::<Vec<_>>().join(","));
        let data_dir = folder.path().join("data");
        let data_dir = data_dir.to_str().expect("cargo's folders have names in UTF-8");
        let (kafka_port, raft_addr) = (free_port().to_string(), format!("127.0.0.1:{}", free_port()));
        let mut all = vec!["raft-cluster", "--bind", "127.0.0.1", "--kafka-port", &kafka_port, "--data-dir", data_dir];
        let node = node.to_string();
        all.extend(["--node-id", &node, "--raft-addr", &raft_addr, "--peers", &peers]);
        run_to_end(&all)
    }

    /// Where its nodes listen.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub(crate) fn node(&mut self, node: i32) -> &mut Broker {
        &mut self.nodes[index(node)]
    }

    pub(crate) fn kill(&mut self, node: i32) {
        self.node(node).kill();
    }

    /// Has it do nothing until it is thawed.
    pub(crate) fn freeze(&mut self, node: i32) {
        self.node(node).freeze();
        self.addresses.frozen = Some(node);
    }

    pub(crate) fn thaw(&mut self, node: i32) {
        self.node(node).thaw();
        self.addresses.frozen = None;
    }

    pub(crate) fn restart(&mut self, node: i32) {
        self.node(node).restart();
    }

    pub(crate) fn terminate(&mut self, node: i32) -> ExitStatus {
        self.node(node).terminate()
    }
}

impl Addresses {
    /// A connection to this node.
    pub(crate) fn client(&self, node: i32) -> Client {
        Client::connect(&self.nodes[index(node)])
    }

    /// A connection to this node, unless it is frozen or does not run.
    pub(crate) fn try_client(&self, node: i32) -> Option<Client> {
        let address = self.nodes.get(index(node)).filter(|_| self.frozen != Some(node))?;
        Client::try_connect(address).ok()
    }

    /// What a node says about the cluster and all of its topics, in an order that does not depend on the node.
    pub(crate) fn told_by(&self, node: i32) -> Option<MetadataResponse> {
        let mut client = self.try_client(node)?;
        let request = MetadataRequest::default().with_topics(None);
        let mut told = client.try_call(12, &request).ok()?;
        told.brokers.sort_by_key(|broker| broker.node_id);
        told.topics.sort_by(|one, other| one.name.cmp(&other.name));
        for topic in &mut told.topics {
            topic.partitions.sort_by_key(|partition| partition.partition_index);
        }
        Some(told)
    }

    /// The node that leads the metadata log, as soon as one of those that run knows it to run as well.
    pub(crate) fn controller(&self) -> i32 {
        wait_for("there is a controller", || {
            let told = NODES.into_iter().find_map(|node| self.told_by(node))?;
            told.brokers.iter().find(|broker| broker.node_id == told.controller_id).map(|broker| broker.node_id.0)
        })
    }

    /// Waits until every node says that all of them serve.
    pub(crate) fn wait_until_all_serve(&self) {
        for node in NODES {
            wait_for(&format!("node {node} knows that all serve"), || {
                self.told_by(node).filter(|told| told.brokers.len() == NODES.len())
            });
        }
    }

    /// A new topic with a replica on every node that serves, made by asking `node`; ready to be written to.
    pub(crate) fn create(&self, node: i32, purpose: &str, partitions: i32) -> Topic {
        let name = fresh_name(purpose);
        let creatable = CreatableTopic::default()
            .with_name(name.clone())
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![creatable]).with_timeout_ms(20_000);
        let created = self.client(node).call(7, &request).topics.remove(0);
        assert_eq!(created.error_code, code::NONE, "{:?}", created.error_message);
        Topic { name, created }
    }

    /// What a node says about one topic.
    fn topic_by(&self, node: i32, topic: &Topic) -> Option<MetadataResponseTopic> {
        let asked = MetadataRequestTopic::default().with_name(Some(topic.name.clone()));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        Some(self.try_client(node)?.try_call(12, &request).ok()?.topics.remove(0))
    }

    /// The leader of a partition, once a node that runs names one that runs.
    pub(crate) fn leader(&self, topic: &Topic, partition: i32) -> i32 {
        wait_for(&format!("partition {partition} has a leader"), || self.try_leader(topic, partition))
    }

    /// The leader of a partition, if a node that runs names one that runs.
    pub(crate) fn try_leader(&self, topic: &Topic, partition: i32) -> Option<i32> {
        let mut leaders = NODES.into_iter().filter_map(|node| {
            let told = self.topic_by(node, topic)?;
            let told = told.partitions.into_iter().find(|told| told.partition_index == partition)?;
            Some((told.leader_epoch, told.leader_id.0))
        });
        // Who knows of the newest epoch is right.
        let (_, leader) = leaders.by_ref().max()?;
        (NODES.contains(&leader) && self.try_client(leader).is_some()).then_some(leader)
    }

    /// Has these nodes, of which the first is preferred as leader, hold every partition of the topic.
    pub(crate) fn assign(&self, topic: &Topic, partitions: usize, nodes: &[i32]) {
        let replicas: Vec<BrokerId> = nodes.iter().map(|node| BrokerId(*node)).collect();
        let partitions = (0..partitions as i32).map(|partition| {
            ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(replicas.clone()))
        });
        let assigned = ReassignableTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect());
        let request = AlterPartitionReassignmentsRequest::default().with_timeout_ms(20_000).with_topics(vec![assigned]);
        let answer = self.client(1).call(0, &request);
        let refused =
            answer.responses.iter().flat_map(|topic| &topic.partitions).find(|one| one.error_code != code::NONE);
        assert!(answer.error_code == code::NONE && refused.is_none(), "{answer:?}");
    }

    /// Waits until every one of `by` says that all partitions of the topic have a leader and exactly these in-sync
    /// replicas.
    pub(crate) fn wait_until_in_sync(&self, topic: &Topic, in_sync: &[i32], by: &[i32]) {
        let is_so = |told: &MetadataResponsePartition| {
            let mut nodes: Vec<i32> = told.isr_nodes.iter().map(|node| node.0).collect();
            nodes.sort_unstable();
            nodes == in_sync && in_sync.contains(&told.leader_id.0)
        };
        for &node in by {
            wait_for(&format!("node {node} knows that {in_sync:?} are in sync"), || {
                let told = self.topic_by(node, topic)?;
                (!told.partitions.is_empty() && told.partitions.iter().all(is_so)).then_some(())
            });
        }
    }

    /// The values that a partition holds, as its leader tells once it knows where the partition ends.
    pub(crate) fn read(&self, topic: &Topic, partition: i32) -> Vec<String> {
        let leader = wait_for("a leader tells where the partition ends", || {
            let leader = self.try_leader(topic, partition)?;
            let end = topic.end_of(&mut self.try_client(leader)?, partition);
            (end.error_code == code::NONE).then_some(leader)
        });
        topic.read(&mut self.client(leader), partition, 0)
    }

    /// The node that leads a group, once it serves, and a connection to it.
    pub(crate) fn coordinator(&self, group: &Group) -> (i32, Client) {
        wait_for("the group has a coordinator that serves", || self.try_coordinator(group))
    }

    /// The node that one of those that run calls the group's coordinator, if it says so itself.
    pub(crate) fn try_coordinator(&self, group: &Group) -> Option<(i32, Client)> {
        NODES.into_iter().find_map(|node| {
            let request = FindCoordinatorRequest::default().with_key(group.id().0.clone()).with_key_type(0);
            let found = self.try_client(node)?.try_call(3, &request).ok()?;
            let coordinator = Some(found.node_id.0).filter(|_| found.error_code == code::NONE)?;
            let mut client = self.try_client(coordinator)?;
            let request = HeartbeatRequest::default().with_group_id(group.id().clone()).with_member_id(text("nobody"));
            let beat = client.try_call(0, &request).ok()?;
            (beat.error_code == code::UNKNOWN_MEMBER_ID).then_some((coordinator, client))
        })
    }
}

fn index(node: i32) -> usize {
    NODES.iter().position(|known| *known == node).expect("a node of the cluster")
}

/// Writes numbered records to one partition, one batch after another, each again until it is acknowledged.
pub(crate) struct Producer {
    id: i64,
    epoch: i16,
    partition: i32,
    /// Of the next record; its sequence number as well.
    next: i32,
    leader: Option<(i32, Client)>,
}

impl Producer {
    /// An idempotent producer.
    pub(crate) fn new(cluster: &Addresses, partition: i32) -> Self {
        let (id, epoch) = wait_for("a producer gets its id", || {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let told = NODES.into_iter().find_map(|node| cluster.try_client(node)?.try_call(1, &request).ok())?;
            (told.error_code == code::NONE).then_some((told.producer_id.0, told.producer_epoch))
        });
        Self { id, epoch, partition, next: 0, leader: None }
    }

    /// Writes `batches` of ten records with acks=all; returns when all are acknowledged.
    pub(crate) fn write(&mut self, cluster: &Addresses, topic: &Topic, batches: usize) {
        for _ in 0..batches {
            self.write_batch(cluster, topic);
        }
    }

    fn write_batch(&mut self, cluster: &Addresses, topic: &Topic) {
        let numbers = self.next..self.next + 10;
        let batch = Batch::of(numbers.clone().map(|number| format!("record {number}")));
        let batch = batch.by(self.id, self.epoch, self.next).encode();
        let request = topic.produce_request(9, self.partition, -1, batch);
        wait_for("a batch is acknowledged", || {
            self.leader.take_if(|(leader, _)| cluster.frozen == Some(*leader));
            if self.leader.is_none() {
                let leader = cluster.try_leader(topic, self.partition)?;
                self.leader = Some((leader, cluster.try_client(leader)?));
            }
            let (leader, client) = self.leader.as_mut().expect("it was just found");
            match client.try_call::<ProduceRequest>(9, &request) {
                Ok(mut response) => {
                    let answer = response.responses.remove(0).partition_responses.remove(0);
                    if answer.error_code == code::NONE {
                        return Some(());
                    }
                    let is_passing = code::PASSING_FOR_PRODUCERS.contains(&answer.error_code);
                    assert!(is_passing, "node {leader} answers {}: {:?}", answer.error_code, answer.error_message);
                    self.leader = None;
                }
                // It was killed, or stopped: what it did with the batch is not known.
                Err(_) => self.leader = None,
            }
            None
        });
        self.next = numbers.end;
    }

    /// The partition holds all that was acknowledged, in order and once.
    pub(crate) fn check(&self, cluster: &Addresses, topic: &Topic) {
        let expect: Vec<String> = (0..self.next).map(|number| format!("record {number}")).collect();
        assert_eq!(cluster.read(topic, self.partition), expect, "partition {}", self.partition);
    }
}
