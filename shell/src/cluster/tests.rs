//! The commands against brokers that keep a small cluster in memory.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chronik_core::ids::{NodeId, Uuid};
use chronik_core::wire::add_raft_voter::AddRaftVoterResponse;
use chronik_core::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use chronik_core::wire::api_versions::{ApiVersion, ApiVersionsResponse};
use chronik_core::wire::describe_cluster::{DescribeClusterBroker, DescribeClusterResponse};
use chronik_core::wire::describe_log_dirs::{DescribeLogDirsResponse, DescribeLogDirsResult};
use chronik_core::wire::describe_quorum::{
    DescribeQuorumResponse, DescribedQuorumPartition, DescribedQuorumTopic, ReplicaState,
};
use chronik_core::wire::elect_leaders::ElectLeadersResponse;
use chronik_core::wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopic, ListOffsetsTopicResponse,
};
use chronik_core::wire::list_partition_reassignments::{
    ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use chronik_core::wire::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use chronik_core::wire::remove_raft_voter::RemoveRaftVoterResponse;
use chronik_core::wire::unregister_broker::UnregisterBrokerResponse;
use chronik_core::wire::{
    ApiKey, ErrorCode, Malformed, Reader, Request, RequestHeader, Response, Writer, encode_response,
};

use super::*;

/// A cluster as one broker tells it.
#[derive(Default)]
struct Cluster {
    /// By number, whether it is fenced.
    nodes: BTreeMap<i32, bool>,
    voters: Vec<i32>,
    /// Partitions of `t`: leader, replicas, in sync.
    partitions: Vec<(i32, Vec<i32>, Vec<i32>)>,
    /// Those that are on their way, and how often that is told before they have arrived.
    moving: BTreeMap<usize, (Vec<i32>, u32)>,
    /// What happens right after the partitions were told for the first time.
    meanwhile: Option<fn(&mut Cluster)>,
    /// Partitions that are made while others move.
    made: Vec<(i32, Vec<i32>, Vec<i32>)>,
    /// By number, where its brokers listen.
    ports: BTreeMap<i32, u16>,
    /// Brokers that do not run, whatever the others say.
    silent: Vec<i32>,
    /// Brokers whose disk is full.
    full: Vec<i32>,
    /// Where a broker's log of a partition ends, if not at 10.
    ends: BTreeMap<(i32, i32), i64>,
    /// What a broker answers of a partition instead.
    errors: BTreeMap<(i32, i32), ErrorCode>,
    /// How often it is asked in vain to take a vote away, since its members change already.
    busy: u32,
    /// What it was asked to change.
    asked: Vec<String>,
}

fn folder(node: i32) -> Uuid {
    Uuid([node as u8; 16])
}

impl Cluster {
    /// What the broker `node` answers.
    fn answer(&mut self, node: i32, request: Request) -> Response {
        match request {
            Request::ApiVersions(_) => {
                let version = |api: &ApiKey| ApiVersion {
                    api_key: api.code(),
                    min_version: *api.versions().start(),
                    max_version: *api.versions().end(),
                };
                let api_keys = ApiKey::ALL.iter().map(version).collect();
                ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }.into()
            }
            Request::DescribeCluster(_) => {
                let broker = |(id, is_fenced): (&i32, &bool)| DescribeClusterBroker {
                    broker_id: *id,
                    host: "127.0.0.1".into(),
                    port: self.ports[id].into(),
                    rack: None,
                    is_fenced: *is_fenced,
                };
                DescribeClusterResponse {
                    cluster_id: "c".into(),
                    controller_id: self.voters.first().copied().unwrap_or(-1),
                    brokers: self.nodes.iter().map(broker).collect(),
                    ..DescribeClusterResponse::default()
                }
                .into()
            }
            Request::Metadata(_) => {
                let told = self.metadata().into();
                if let Some(meanwhile) = self.meanwhile.take() {
                    meanwhile(self);
                }
                told
            }
            Request::DescribeLogDirs(_) => {
                let is_full = self.full.contains(&node);
                let error_code = if is_full { ErrorCode::KafkaStorageError.code() } else { 0 };
                let folder = DescribeLogDirsResult { error_code, ..DescribeLogDirsResult::default() };
                DescribeLogDirsResponse { results: vec![folder], ..DescribeLogDirsResponse::default() }.into()
            }
            Request::ListOffsets(request) => {
                assert_eq!(request.replica_id, -2, "followers are asked, too");
                let end = |asked: &ListOffsetsPartition| {
                    let offset = self.ends.get(&(node, asked.partition_index)).copied().unwrap_or(10);
                    let partition_index = asked.partition_index;
                    let error_code = self.errors.get(&(node, partition_index)).map_or(0, |error| error.code());
                    ListOffsetsPartitionResponse {
                        partition_index,
                        error_code,
                        offset,
                        ..ListOffsetsPartitionResponse::default()
                    }
                };
                let topic = |topic: &ListOffsetsTopic| ListOffsetsTopicResponse {
                    name: topic.name.clone(),
                    partitions: topic.partitions.iter().map(end).collect(),
                };
                let topics = request.topics.iter().map(topic).collect();
                ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }.into()
            }
            Request::DescribeQuorum(_) => {
                let state = |id: &i32| ReplicaState {
                    replica_id: *id,
                    replica_directory_id: folder(*id),
                    log_end_offset: 100 - i64::from(*id - 1),
                    ..ReplicaState::default()
                };
                let partition = DescribedQuorumPartition {
                    leader_id: self.voters[0],
                    leader_epoch: 7,
                    high_watermark: 99,
                    current_voters: self.voters.iter().map(state).collect(),
                    observers: self.nodes.keys().filter(|id| !self.voters.contains(id)).map(state).collect(),
                    ..DescribedQuorumPartition::default()
                };
                let topic = DescribedQuorumTopic { topic_name: "".into(), partitions: vec![partition] };
                DescribeQuorumResponse { topics: vec![topic], ..DescribeQuorumResponse::default() }.into()
            }
            Request::ListPartitionReassignments(_) => self.under_way().into(),
            Request::AlterPartitionReassignments(request) => {
                self.partitions.append(&mut self.made);
                let mut partitions = Vec::new();
                for asked in request.topics.into_iter().flat_map(|topic| topic.partitions) {
                    let replicas = asked.replicas.expect("nobody stops a move here");
                    let partition_index = asked.partition_index;
                    let of_old = self.partitions[partition_index as usize].1.len();
                    let mut error_code = 0;
                    if request.allow_replication_factor_change || replicas.len() == of_old {
                        let verb = if request.allow_replication_factor_change { "resize" } else { "move" };
                        self.asked.push(format!("{verb} {partition_index} to {}", table::list(&replicas)));
                        self.moving.insert(partition_index as usize, (replicas, 2));
                    } else {
                        error_code = ErrorCode::InvalidReplicationFactor.code();
                    }
                    partitions.push(ReassignablePartitionResponse {
                        partition_index,
                        error_code,
                        ..ReassignablePartitionResponse::default()
                    });
                }
                let responses = vec![ReassignableTopicResponse { name: "t".into(), partitions }];
                AlterPartitionReassignmentsResponse { responses, ..AlterPartitionReassignmentsResponse::default() }
                    .into()
            }
            Request::ElectLeaders(request) => {
                self.asked.push(format!("elect in {}", if request.topic_partitions.is_some() { "one" } else { "all" }));
                ElectLeadersResponse::default().into()
            }
            Request::AddRaftVoter(request) => {
                let listener = &request.listeners[0];
                self.asked.push(format!(
                    "add {} at {}:{} with {}",
                    request.voter_id, listener.host, listener.port, request.voter_directory_id
                ));
                AddRaftVoterResponse::default().into()
            }
            Request::RemoveRaftVoter(request) => {
                self.asked.push(format!("remove {} with {}", request.voter_id, request.voter_directory_id));
                let is_busy = self.busy > 0;
                self.busy = self.busy.saturating_sub(1);
                let error_code = if is_busy { ErrorCode::RequestTimedOut.code() } else { 0 };
                let error_message = is_busy.then(|| "another change is under way".into());
                RemoveRaftVoterResponse { error_code, error_message, ..RemoveRaftVoterResponse::default() }.into()
            }
            Request::UnregisterBroker(request) => {
                self.asked.push(format!("forget {}", request.broker_id));
                let error_code = if request.broker_id == 1 { ErrorCode::InvalidRequest.code() } else { 0 };
                let error_message = Some("not this one".into());
                UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() }.into()
            }
            other => panic!("{:?} was asked", other.api_key()),
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let partition =
            |(index, (leader, replicas, in_sync)): (i32, &(i32, Vec<i32>, Vec<i32>))| MetadataResponsePartition {
                partition_index: index,
                leader_id: *leader,
                leader_epoch: 3,
                replica_nodes: replicas.clone(),
                isr_nodes: in_sync.clone(),
                ..MetadataResponsePartition::default()
            };
        let partitions = (0..).zip(&self.partitions).map(partition).collect();
        let topic = MetadataResponseTopic { name: Some("t".into()), partitions, ..MetadataResponseTopic::default() };
        let brokers = vec![MetadataResponseBroker::default()];
        MetadataResponse { brokers, topics: vec![topic], ..MetadataResponse::default() }
    }

    /// Each look brings what is under way a step nearer.
    fn under_way(&mut self) -> ListPartitionReassignmentsResponse {
        let mut partitions = Vec::new();
        for (index, (target, looks)) in &mut self.moving {
            *looks -= 1;
            let (_, replicas, in_sync) = &mut self.partitions[*index];
            if *looks == 0 {
                (*replicas, *in_sync) = (target.clone(), target.clone());
                continue;
            }
            partitions.push(OngoingPartitionReassignment {
                partition_index: *index as i32,
                replicas: replicas.clone(),
                adding_replicas: target.iter().copied().filter(|id| !replicas.contains(id)).collect(),
                removing_replicas: replicas.iter().copied().filter(|id| !target.contains(id)).collect(),
            });
        }
        self.moving.retain(|_, (_, looks)| *looks > 0);
        let topics = vec![OngoingTopicReassignment { name: "t".into(), partitions }];
        ListPartitionReassignmentsResponse { topics, ..ListPartitionReassignmentsResponse::default() }
    }
}

/// Has all brokers of a cluster listen where it says, and gives an address besides: of the only one there, or else of one
/// that it does not name.
fn serve(mut cluster: Cluster) -> (Address, Arc<Mutex<Cluster>>) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port_of = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
    let first = bind();
    let port = port_of(&first);
    let only = cluster.nodes.keys().next().filter(|_| cluster.nodes.len() == 1);
    let mut listeners = vec![(only.copied().unwrap_or_default(), first)];
    for node in cluster.nodes.keys() {
        let listener = bind();
        cluster.ports.insert(*node, port_of(&listener));
        if !cluster.silent.contains(node) {
            listeners.push((*node, listener));
        }
    }
    let cluster = Arc::new(Mutex::new(cluster));
    for (node, listener) in listeners {
        let served = cluster.clone();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            while let Some((header, request)) = next(&mut stream) {
                let response = served.lock().expect("nobody panics with it").answer(node, request);
                let mut writer = Writer::new();
                encode_response(&response, header.api_version, header.correlation_id, &mut writer)
                    .expect("it is short");
                stream.write_all(&writer.finish().to_bytes()).expect("it is read");
            }
        });
    }
    (Address { host: "127.0.0.1".to_owned(), port }, cluster)
}

/// The next request, of any API that there are messages for.
fn next(stream: &mut TcpStream) -> Option<(RequestHeader, Request)> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut frame = vec![0; i32::from_be_bytes(size) as usize];
    stream.read_exact(&mut frame).ok()?;
    let mut reader = Reader::new(frame.into());
    let mut read = || -> Result<_, Malformed> {
        let (api_key, api_version, correlation_id) = (reader.i16()?, reader.i16()?, reader.i32()?);
        let length = reader.i16()?;
        reader.slice(length as usize)?;
        let key = *ApiKey::ALL.iter().find(|key| key.code() == api_key).expect("an API");
        if api_version >= key.flexible_from() {
            assert_eq!(reader.unsigned_varint()?, 0, "no tagged fields");
        }
        let request = Request::decode(key, api_version, &mut reader)?;
        Ok((RequestHeader { api_key, api_version, correlation_id, client_id: None }, request))
    };
    Some(read().expect("a request"))
}

/// What a command prints and comes to, and what the cluster was asked to change.
fn run_on(cluster: Cluster, command: Command) -> (String, Result<bool, String>, Vec<String>) {
    run_within(Duration::from_secs(10), cluster, command)
}

/// The same with a command's own `timeout`.
fn run_within(timeout: Duration, cluster: Cluster, command: Command) -> (String, Result<bool, String>, Vec<String>) {
    let (server, cluster) = serve(cluster);
    let nobody = Address { host: "127.0.0.1".to_owned(), port: 1 };
    let errand = Errand { servers: vec![nobody, server], timeout, command };
    let mut out = Vec::new();
    let outcome = run(&errand, &mut out);
    let outcome = outcome.map(|outcome| matches!(outcome, Outcome::Well)).map_err(|fault| fault.to_string());
    let mut cluster = cluster.lock().expect("nobody panics with it");
    let mut told = String::from_utf8(out).expect("text");
    for (node, port) in &cluster.ports {
        // As wide as a port that the system chooses.
        told = told.replace(&format!("127.0.0.1:{port:<5}"), &format!("127.0.0.1:9909{node}"));
    }
    (told, outcome, std::mem::take(&mut cluster.asked))
}

fn three_nodes() -> Cluster {
    Cluster {
        nodes: BTreeMap::from([(1, false), (2, false), (3, false)]),
        voters: vec![1, 2, 3],
        partitions: vec![(1, vec![1, 2], vec![1, 2]), (2, vec![2, 3], vec![2, 3]), (3, vec![3, 1], vec![3, 1])],
        ..Cluster::default()
    }
}

#[test]
fn a_cluster_that_is_well_is_told_so() {
    let (told, outcome, _) = run_on(three_nodes(), Command::Status);
    let expect = "\
cluster c, controller node 1
metadata: term 7, committed up to 99

NODE  ADDRESS          RACK  STATE  QUORUM  BEHIND  LEADS  REPLICAS  LAG
   1  127.0.0.1:99091  -     up     leader       0      1         2    0
   2  127.0.0.1:99092  -     up     voter        1      1         2    0
   3  127.0.0.1:99093  -     up     voter        2      1         2    0

partitions 3, without a leader 0, under-replicated 0, being moved 0

healthy
";
    assert_eq!((told.as_str(), outcome), (expect, Ok(true)));
}

#[test]
fn what_is_not_well_is_told_and_listed() {
    let cluster = Cluster {
        nodes: BTreeMap::from([(1, false), (2, false), (3, true), (5, false)]),
        voters: vec![1, 2, 3, 4],
        partitions: vec![(1, vec![1, 2], vec![1, 2]), (2, vec![2, 3], vec![2]), (-1, vec![3], vec![3])],
        ..Cluster::default()
    };
    let (told, outcome, _) = run_on(cluster, Command::Status);
    let expect = "\
cluster c, controller node 1
metadata: term 7, committed up to 99

NODE  ADDRESS          RACK  STATE         QUORUM    BEHIND  LEADS  REPLICAS  LAG
   1  127.0.0.1:99091  -     up            leader         0      1         1    0
   2  127.0.0.1:99092  -     up            voter          1      1         2    0
   3  127.0.0.1:99093  -     fenced        voter          2      0         2    -
   4  -                -     unregistered  voter          3      0         0    -
   5  127.0.0.1:99095  -     up            observer       4      0         0    0

partitions 3, without a leader 1, under-replicated 1, being moved 0
TOPIC  PARTITION  LEADER  EPOCH  REPLICAS  IN SYNC  MOVING  LAG
t              1       2      3  2,3       2        -       3:?
t              2    none      3  3         3        -       -

UNHEALTHY: fenced, not serving: node 3
UNHEALTHY: voters that have never registered: node 4
UNHEALTHY: 1 of 3 partitions without a leader
UNHEALTHY: 1 of 3 partitions under-replicated
";
    assert_eq!((told.as_str(), outcome), (expect, Ok(false)));
}

#[test]
fn who_follows_is_behind_by_what_its_leader_had_before() {
    let cluster = Cluster {
        partitions: vec![(1, vec![1, 2, 3], vec![1, 3]), (1, vec![1, 2], vec![1, 2]), (2, vec![2, 3], vec![2, 3])],
        // Who has been written to since the leader was asked lacks nothing of what that had.
        ends: BTreeMap::from([((1, 0), 1_000), ((2, 0), 400), ((3, 0), 1_001), ((1, 1), 15)]),
        ..three_nodes()
    };
    let (told, outcome, _) = run_on(cluster, Command::Status);
    let lags: Vec<_> = told.lines().skip(4).take(3).map(|line| line.split_whitespace().last()).collect();
    assert_eq!(lags, [Some("0"), Some("605"), Some("0")], "{told}");
    assert!(told.contains("t              0       1      3  1,2,3     1,3      -       2:600\n"), "{told}");
    assert_eq!(outcome, Ok(false));
}

#[test]
fn a_broker_that_does_not_answer_is_told_whatever_the_others_say_of_it() {
    let (told, outcome, _) = run_on(Cluster { silent: vec![2], ..three_nodes() }, Command::Status);
    assert!(told.contains("\n   2  127.0.0.1:99092  -     up     voter        1      1         2    -\n"), "{told}");
    let why = "UNHEALTHY: node 2 is said to serve, but cannot reach a broker at 127.0.0.1:99092: ";
    assert!(told.lines().last().is_some_and(|line| line.starts_with(why)), "{told}");
    assert_eq!(outcome, Ok(false));
}

#[test]
fn a_broker_whose_disk_is_full_is_told() {
    let (told, outcome, _) = run_on(Cluster { full: vec![3], ..three_nodes() }, Command::Status);
    assert!(
        told.contains("UNHEALTHY: node 3 takes no records (KAFKA_STORAGE_ERROR), as when its disk is full"),
        "{told}"
    );
    assert_eq!(outcome, Ok(false));
}

#[test]
fn a_single_broker_is_asked_as_the_nodes_of_a_cluster_are() {
    let one = || Cluster {
        nodes: BTreeMap::from([(1, false)]),
        voters: vec![1],
        partitions: vec![(1, vec![1], vec![1])],
        ..Cluster::default()
    };
    let (told, outcome, _) = run_on(Cluster { full: vec![1], ..one() }, Command::Status);
    let why = "UNHEALTHY: node 1 takes no records (KAFKA_STORAGE_ERROR), as when its disk is full\n";
    assert!(told.ends_with(why), "{told}");
    assert_eq!(outcome, Ok(false));
    let errors = BTreeMap::from([((1, 0), ErrorCode::KafkaStorageError)]);
    let (told, outcome, _) = run_on(Cluster { errors, ..one() }, Command::Status);
    let why = "UNHEALTHY: 1 of 1 partitions whose leader does not serve them (KAFKA_STORAGE_ERROR)\n";
    assert!(told.ends_with(why), "{told}");
    assert_eq!(outcome, Ok(false));
    // Whether it can be reached from here where it sends clients does not matter.
    for silent in [vec![], vec![1]] {
        let (told, outcome, _) = run_on(Cluster { silent, ..one() }, Command::Status);
        assert_eq!(outcome, Ok(true), "{told}");
        assert!(told.contains("  127.0.0.1:99091  -     up     leader       0      1         1    0\n"), "{told}");
    }
    // One that answers in the name of another says nothing about it.
    let (told, outcome, _) = run_on(Cluster { silent: vec![1], voters: vec![1, 2], ..one() }, Command::Status);
    assert!(
        told.contains("UNHEALTHY: node 1 is said to serve, but cannot reach a broker at 127.0.0.1:99091"),
        "{told}"
    );
    assert_eq!(outcome, Ok(false));
}

#[test]
fn a_partition_that_its_leader_does_not_serve_is_told_and_listed() {
    let errors = BTreeMap::from([
        ((2, 1), ErrorCode::KafkaStorageError),
        // As a leader does whose office has passed on, and a follower that is to be made anew.
        ((1, 0), ErrorCode::NotLeaderOrFollower),
        ((3, 2), ErrorCode::UnknownTopicOrPartition),
        ((2, 0), ErrorCode::KafkaStorageError),
    ]);
    let (told, outcome, _) = run_on(Cluster { errors, ..three_nodes() }, Command::Status);
    assert!(told.contains("\nt              1       2      3  2,3       2,3      -       3:?\n\n"), "{told}");
    let why = "\n\nUNHEALTHY: 1 of 3 partitions whose leader does not serve them (KAFKA_STORAGE_ERROR)\n";
    assert!(told.ends_with(why), "{told}");
    assert_eq!(outcome, Ok(false));
}

#[test]
fn a_cluster_that_has_only_begun_is_not_well() {
    let (told, outcome, _) = run_on(Cluster { voters: vec![1, 2, 3], ..Cluster::default() }, Command::Status);
    let expect = "UNHEALTHY: no node has registered yet\nUNHEALTHY: voters that have never registered: node 1,2,3\n";
    assert!(told.ends_with(expect), "{told}");
    assert_eq!(outcome, Ok(false));
}

#[test]
fn a_cluster_without_a_controller_is_told_as_far_as_it_is_known() {
    let (told, outcome, _) = run_on(Cluster { voters: Vec::new(), ..three_nodes() }, Command::Status);
    assert!(told.starts_with("cluster c, controller none\n\nNODE"), "{told}");
    assert!(told.ends_with("UNHEALTHY: there is no controller\n"), "{told}");
    assert_eq!(outcome, Ok(false));
}

#[test]
fn a_drained_node_holds_nothing_when_the_command_returns() {
    let cluster = Cluster { nodes: BTreeMap::from([(1, false), (2, false), (3, false), (4, false)]), ..three_nodes() };
    let (told, outcome, asked) = run_on(cluster, Command::Drain { node: NodeId(1) });
    assert_eq!(asked, ["move 0 to 4,2", "move 2 to 3,4"]);
    assert_eq!((told.as_str(), outcome), ("moved 2 of 2 partitions\nnode 1 holds no replica\n", Ok(true)));
    let (_, outcome, asked) = run_on(three_nodes(), Command::Drain { node: NodeId(9) });
    assert_eq!((outcome, asked), (Err("the cluster knows no node 9".to_owned()), vec![]));
}

#[test]
fn what_is_on_its_way_off_a_drained_node_is_waited_for() {
    // One that arrives while the cluster is looked at is not sent on.
    for looks in [2, 3, 6] {
        let cluster = Cluster {
            nodes: BTreeMap::from([(1, false), (2, false), (3, false), (4, false)]),
            partitions: vec![(1, vec![1, 2], vec![1, 2]), (2, vec![2, 3], vec![2, 3])],
            moving: BTreeMap::from([(0, (vec![4, 2], looks))]),
            ..three_nodes()
        };
        let (server, cluster) = serve(cluster);
        let command = Command::Drain { node: NodeId(1) };
        let errand = Errand { servers: vec![server], timeout: Duration::from_secs(10), command };
        let mut out = Vec::new();
        assert!(matches!(run(&errand, &mut out), Ok(Outcome::Well)));
        let cluster = cluster.lock().expect("nobody panics with it");
        assert_eq!(cluster.partitions[0].1, [4, 2], "{looks} looks");
        assert_eq!(cluster.asked, [""; 0], "{looks} looks");
        assert!(String::from_utf8(out).expect("text").ends_with("node 1 holds no replica\n"));
    }
}

#[test]
fn what_begins_or_is_cancelled_while_it_is_looked_keeps_its_number_of_replicas() {
    let check = |moving: &[(usize, &[i32])], meanwhile: fn(&mut Cluster), expect: &[&str]| {
        let cluster = Cluster {
            nodes: BTreeMap::from([(1, false), (2, false), (3, false), (4, false)]),
            partitions: vec![(1, vec![1, 2], vec![1, 2])],
            moving: moving.iter().map(|(index, to)| (*index, (to.to_vec(), 9))).collect(),
            meanwhile: Some(meanwhile),
            ..three_nodes()
        };
        let (_, outcome, asked) = run_on(cluster, Command::Drain { node: NodeId(2) });
        assert_eq!((outcome, asked), (Ok(true), expect.iter().map(ToString::to_string).collect()));
    };
    let begin = |cluster: &mut Cluster| drop(cluster.moving.insert(0, (vec![4, 2], 9)));
    check(&[], begin, &["move 0 to 1,4"]);
    check(&[(0, &[4, 2])], |cluster| cluster.moving.clear(), &["move 0 to 1,3"]);
    // One by which it gets a replica more is replaced by one that gives it as many, and a cancelled one by none of these.
    check(&[(0, &[1, 2, 4])], |_| (), &["resize 0 to 1,3,4"]);
    check(&[(0, &[1, 2, 4])], |cluster| cluster.moving.clear(), &["move 0 to 1,3"]);
}

#[test]
fn no_partition_that_changes_after_it_was_looked_at_is_given_fewer_replicas() {
    let cluster = Cluster {
        nodes: BTreeMap::from([(1, false), (2, false), (3, false), (4, false)]),
        // As somebody does who gives it a replica more, which is at once there.
        meanwhile: Some(|cluster| cluster.partitions[0].1.push(3)),
        ..three_nodes()
    };
    let (_, outcome, asked) = run_on(cluster, Command::Drain { node: NodeId(1) });
    let why = "partition 0 of `t` cannot be moved: INVALID_REPLICATION_FACTOR";
    assert_eq!((outcome, asked), (Err(why.to_owned()), vec!["move 2 to 3,4".to_owned()]));
}

#[test]
fn a_partition_settles_with_what_comes_and_without_what_goes() {
    let check = |replicas: &[i32], expect: &[i32]| {
        let replicas = replicas.to_vec();
        let partition = view::Partition { replicas, adding: vec![4], removing: vec![1], ..view::Partition::default() };
        assert_eq!(partition.settled(), expect);
    };
    // Told before the move began, while it was under way, and when it had ended.
    check(&[1, 2], &[2, 4]);
    check(&[4, 2, 1], &[4, 2]);
    check(&[4, 2], &[4, 2]);
}

#[test]
fn what_a_drained_node_is_given_meanwhile_is_taken_off_again() {
    let cluster = Cluster {
        nodes: BTreeMap::from([(1, false), (2, false), (3, false), (4, false)]),
        made: vec![(1, vec![1], vec![1])],
        ..three_nodes()
    };
    let (told, outcome, asked) = run_on(cluster, Command::Drain { node: NodeId(1) });
    assert_eq!(asked, ["move 0 to 4,2", "move 2 to 3,4", "move 3 to 2"]);
    assert!(told.ends_with("moved 1 of 1 partitions\nnode 1 holds no replica\n"), "{told}");
    assert_eq!(outcome, Ok(true));
}

#[test]
fn no_move_is_begun_that_a_node_that_is_down_would_hold_up() {
    let four = |partitions: &[&[i32]]| Cluster {
        nodes: BTreeMap::from([(1, false), (2, false), (3, true), (4, false)]),
        partitions: partitions.iter().map(|replicas| (1, replicas.to_vec(), vec![1])).collect(),
        ..three_nodes()
    };
    let held = "node 3 is down and holds 1 of them: bring it back, or `chronik-server cluster drain 3` first";
    // The others are moved nevertheless, since each is safer then.
    let (told, outcome, asked) = run_on(four(&[&[1, 3], &[1, 2]]), Command::Drain { node: NodeId(1) });
    assert_eq!(asked, ["move 1 to 4,2"]);
    assert_eq!(
        (told.as_str(), outcome),
        ("moved 1 of 1 partitions\n", Err(format!("1 partitions stay on node 1: {held}")))
    );
    // The node itself can be drained, and leaders can be spread.
    let (_, outcome, asked) = run_on(four(&[&[1, 3], &[1, 2]]), Command::Drain { node: NodeId(3) });
    assert_eq!((outcome, asked), (Ok(true), vec!["move 0 to 1,4".to_owned()]));
    let led_by_one: [&[i32]; 3] = [&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]];
    let cluster = Cluster { nodes: BTreeMap::from([(1, false), (2, false), (3, true)]), ..four(&led_by_one) };
    let (_, outcome, asked) = run_on(cluster, Command::Rebalance);
    assert_eq!((outcome, asked), (Ok(true), vec!["move 0 to 2,1,3".to_owned(), "elect in all".to_owned()]));
    let (_, outcome, asked) = run_on(four(&[&[1, 3], &[1], &[1]]), Command::Rebalance);
    let why = format!("not all partitions that are to be moved would arrive: {held}");
    assert_eq!((outcome, asked), (Err(why), vec![]));
}

#[test]
fn two_nodes_that_are_down_are_drained_one_after_the_other() {
    // What there is after the first is what the second is drained of.
    let check = |nodes: &[(i32, bool)], before: &[(&[i32], &[i32])], expect: &[&str]| {
        let mut partitions: Vec<_> =
            before.iter().map(|(replicas, in_sync)| (in_sync[0], replicas.to_vec(), in_sync.to_vec())).collect();
        let mut asked = Vec::new();
        for node in [1, 2] {
            let nodes = nodes.iter().copied().collect();
            let (server, cluster) = serve(Cluster { nodes, voters: vec![3, 4, 5], partitions, ..Cluster::default() });
            let command = Command::Drain { node: NodeId(node) };
            let errand = Errand { servers: vec![server], timeout: Duration::from_secs(10), command };
            let mut out = Vec::new();
            let outcome = run(&errand, &mut out);
            assert!(matches!(outcome, Ok(Outcome::Well)), "{outcome:?}");
            let told = String::from_utf8(out).expect("text");
            let also = told.contains("their replicas on node 2, down as well, are replaced with them\n");
            assert_eq!(also, node == 1, "{told}");
            let mut cluster = cluster.lock().expect("nobody panics with it");
            asked.append(&mut cluster.asked);
            partitions = std::mem::take(&mut cluster.partitions);
        }
        assert_eq!(asked, expect);
    };
    let fenced = [(1, true), (2, true), (3, false), (4, false), (5, false)];
    check(&fenced, &[(&[1, 2, 3], &[3])], &["move 0 to 4,5,3"]);
    // Also where the cluster has forgotten them, and each has partitions that the other one has not.
    let partitions: [(&[i32], &[i32]); 3] = [(&[3, 2, 1], &[3]), (&[2, 3], &[3]), (&[4, 1], &[4])];
    check(&fenced[2..], &partitions, &["move 0 to 3,4,5", "move 2 to 4,5", "move 1 to 4,3"]);
}

#[test]
fn what_holds_up_the_drain_of_a_node_that_is_down_is_told_with_what_helps() {
    let check = |in_sync: &[i32], expect: &str| {
        let cluster = Cluster {
            nodes: BTreeMap::from([(1, true), (2, true), (3, false), (4, false)]),
            voters: vec![3, 4],
            partitions: vec![(-1, vec![1, 2, 3], in_sync.to_vec())],
            ..Cluster::default()
        };
        let (_, outcome, asked) = run_on(cluster, Command::Drain { node: NodeId(1) });
        assert_eq!((outcome, asked), (Err(format!("1 partitions stay on node 1: {expect}")), vec![]));
    };
    let too_few = "node 2 is down as well and holds 1 of them, and no other node that is up could take them: bring it back, \
                   or add a node first";
    check(&[3], too_few);
    // Nothing to copy from: who may have all that was acknowledged keeps its place.
    check(&[2], "1 of them have no replica in sync that is up: bring node 2 back");
}

#[test]
fn who_is_waited_for_in_vain_is_told_which_node_is_down() {
    let node =
        |is_fenced| view::Node { address: Address { host: "host".to_owned(), port: 9092 }, rack: None, is_fenced };
    let moving = |replicas: &[i32], adding| view::Partition {
        replicas: replicas.to_vec(),
        adding: vec![adding],
        removing: vec![1],
        ..view::Partition::default()
    };
    let names = [("t".to_owned(), 0), ("t".to_owned(), 1)];
    let partitions = names.iter().cloned().zip([moving(&[4, 3, 1], 4), moving(&[4, 2, 1], 4)]).collect();
    let mut view = View {
        nodes: BTreeMap::from([(1, node(false)), (2, node(false)), (3, node(true)), (4, node(false))]),
        partitions,
        ..View::default()
    };
    let names: Vec<_> = names.iter().collect();
    let held = "node 3 is down and holds 1 of them: bring it back, or `chronik-server cluster drain 3` first";
    let still = "they are still on their way (`cluster status` says which)";
    let told = moves::stalled(&view, &names, 2);
    assert_eq!(told, format!("2 partitions have not arrived and none has for 15 minutes ({held}); {still}"));
    view.nodes.insert(3, node(false));
    let told = moves::stalled(&view, &names, 2);
    assert_eq!(told, format!("2 partitions have not arrived and none has for 15 minutes; {still}"));
}

#[test]
fn replicas_are_spread_and_then_leaders_elected() {
    let partitions = vec![(1, vec![1], vec![1]), (1, vec![1], vec![1]), (1, vec![1], vec![1])];
    let (told, outcome, asked) = run_on(Cluster { partitions, ..three_nodes() }, Command::Rebalance);
    assert_eq!(asked, ["move 0 to 2", "move 1 to 3", "elect in all"]);
    assert_eq!((told.lines().count(), outcome), (2, Ok(true)));
    let (_, outcome, asked) = run_on(three_nodes(), Command::Rebalance);
    assert_eq!((outcome, asked), (Ok(true), vec!["elect in all".to_owned()]));
}

#[test]
fn a_leader_is_moved_to_a_replica_that_is_in_sync() {
    let check_led_by = |leader, node, expect: Result<&[&str], &str>| {
        let mut cluster = three_nodes();
        cluster.partitions[0] = (leader, vec![1, 2, 3], vec![1, 2]);
        let command = Command::MoveLeader { topic: "t".to_owned(), partition: 0, node: NodeId(node) };
        let (_, outcome, asked) = run_on(cluster, command);
        match expect {
            Ok(steps) => assert_eq!((outcome, asked), (Ok(true), steps.iter().map(ToString::to_string).collect())),
            Err(why) => assert_eq!((outcome, asked), (Err(why.to_owned()), vec![])),
        }
    };
    // Who leads for a while is to be preferred from now on.
    check_led_by(2, 2, Ok(&["move 0 to 2,1,3"]));
    let check = |node, expect| check_led_by(1, node, expect);
    check(2, Ok(&["move 0 to 2,1,3", "elect in one"]));
    check(1, Ok(&[]));
    check(3, Err("node 3 cannot lead partition 0 of `t`: in sync are 1,2"));
    check(4, Err("node 4 cannot lead partition 0 of `t`: its replicas are on 1,2,3"));
}

#[test]
fn a_node_is_added_with_the_folder_that_the_cluster_knows() {
    let raft_addr = Address { host: "four".to_owned(), port: 9192 };
    let add = |node, directory_id| Command::AddNode { node: NodeId(node), raft_addr: raft_addr.clone(), directory_id };
    let cluster = || Cluster { nodes: BTreeMap::from([(1, false), (4, false)]), ..three_nodes() };
    let (_, outcome, asked) = run_on(cluster(), add(4, None));
    assert_eq!((outcome, asked), (Ok(true), vec![format!("add 4 at four:9192 with {}", folder(4))]));
    let (_, outcome, asked) = run_within(Duration::from_secs(2), cluster(), add(5, None));
    let why = "the cluster has not heard of node 5: it must run, with nodes of the cluster as its `--peers`";
    assert_eq!((outcome, asked), (Err(why.to_owned()), vec![]));
    let (_, _, asked) = run_on(cluster(), add(5, Some(folder(9))));
    assert_eq!(asked, [format!("add 5 at four:9192 with {}", folder(9))]);
    let (told, outcome, asked) = run_on(cluster(), add(1, None));
    assert_eq!((told.as_str(), outcome, asked.len()), ("node 1 is a voter already\n", Ok(true), 0));
    // One that lost its folder and was started with an empty one is not taken for what the cluster knows.
    let (_, outcome, asked) = run_on(cluster(), add(2, None));
    let why = outcome.expect_err("node 2 has never registered");
    assert!(why.contains(&folder(2).to_string()) && why.contains("remove-node 2"), "{why}");
    assert_eq!(asked, [""; 0]);
}

#[test]
fn one_of_two_voters_gives_up_its_vote_before_it_is_stopped() {
    let two = |is_fenced| Cluster {
        nodes: BTreeMap::from([(1, false), (2, is_fenced)]),
        voters: vec![1, 2],
        ..Cluster::default()
    };
    let remove = Command::RemoveNode { node: NodeId(2) };
    let (told, outcome, asked) = run_within(Duration::from_secs(1), two(false), remove.clone());
    assert_eq!(asked, [format!("remove 2 with {}", folder(2))]);
    assert_eq!(told, "node 2 votes no more\nstop it now: it is forgotten as soon as it serves no more\n");
    assert_eq!(outcome, Err("node 2 still serves, as the cluster knows it: stop it, and run this again".to_owned()));
    let (_, outcome, asked) = run_on(two(true), remove);
    assert_eq!(asked, [format!("remove 2 with {}", folder(2)), "forget 2".to_owned()]);
    assert_eq!(outcome, Ok(true));
}

#[test]
fn nothing_is_changed_while_nobody_decides() {
    for command in [
        Command::Drain { node: NodeId(1) },
        Command::Rebalance,
        Command::MoveLeader { topic: "t".to_owned(), partition: 0, node: NodeId(2) },
        Command::RemoveNode { node: NodeId(3) },
        Command::AddNode {
            node: NodeId(4),
            raft_addr: Address { host: "four".to_owned(), port: 9192 },
            directory_id: None,
        },
    ] {
        let cluster = Cluster { voters: Vec::new(), ..three_nodes() };
        let (_, outcome, asked) = run_within(Duration::from_secs(1), cluster, command);
        let why = outcome.expect_err("there is no controller");
        assert!(why.contains("there is no controller") && why.contains("a majority of the voters must run"), "{why}");
        assert_eq!(asked, [""; 0]);
    }
}

#[test]
fn a_node_is_removed_when_it_serves_no_more() {
    let remove = |node| Command::RemoveNode { node: NodeId(node) };
    let (_, outcome, asked) = run_on(three_nodes(), remove(3));
    let why = "node 3 holds 2 replicas: run `chronik-server cluster drain 3` first, or stop it where it is to \
               come back with an empty data folder";
    assert_eq!((outcome, asked), (Err(why.to_owned()), vec![]));
    let gone = Cluster { nodes: BTreeMap::from([(1, false), (2, false), (3, true)]), ..three_nodes() };
    let (told, outcome, asked) = run_on(gone, remove(3));
    assert_eq!(asked, [format!("remove 3 with {}", folder(3)), "forget 3".to_owned()]);
    assert!(told.contains("2 replicas of it are still counted on"), "{told}");
    assert!(outcome.is_ok());
    let serving = Cluster { partitions: vec![], ..three_nodes() };
    let (_, outcome, asked) = run_on(serving, remove(3));
    assert_eq!(
        (outcome, asked),
        (Err("node 3 holds nothing any more, and still serves: stop it first".to_owned()), vec![])
    );
    // One that has ended a moment ago is waited for until the cluster has missed it.
    let dying = Cluster { silent: vec![3], ..three_nodes() };
    let (_, outcome, asked) = run_within(Duration::from_secs(1), dying, remove(3));
    let why = "node 3 still serves, as the cluster knows it: stop it, and run this again";
    assert_eq!((outcome, asked), (Err(why.to_owned()), vec![]));
    let stopped = |node| Cluster { nodes: BTreeMap::from([(node, true)]), partitions: vec![], ..three_nodes() };
    let (told, outcome, asked) = run_on(stopped(3), remove(3));
    assert_eq!(asked, [format!("remove 3 with {}", folder(3)), "forget 3".to_owned()]);
    assert_eq!((told.lines().count(), outcome), (2, Ok(true)));
    // The members change for a moment after another one was forgotten.
    let remove_3 = format!("remove 3 with {}", folder(3));
    let (told, outcome, asked) = run_on(Cluster { busy: 2, ..stopped(3) }, remove(3));
    assert_eq!(asked, [&remove_3, &remove_3, &remove_3, "forget 3"]);
    assert_eq!((told.lines().count(), outcome), (2, Ok(true)));
    let busy = Cluster { busy: u32::MAX, ..stopped(3) };
    let (_, outcome, _) = run_within(Duration::from_secs(1), busy, remove(3));
    let why = "node 3 cannot be taken out of the quorum: REQUEST_TIMED_OUT: another change is under way";
    assert_eq!(outcome, Err(why.to_owned()));
    let (_, outcome, _) = run_on(stopped(3), remove(9));
    assert_eq!(outcome, Err("the cluster knows no node 9".to_owned()));
    let (_, outcome, _) = run_on(stopped(1), remove(1));
    assert_eq!(outcome, Err("node 1 cannot be forgotten: INVALID_REQUEST: not this one".to_owned()));
}

#[test]
fn whoever_does_not_answer_as_a_broker_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("it is read");
        // Kept open until the other side has read it.
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let servers = vec![Address { host: "127.0.0.1".to_owned(), port }];
    let errand = Errand { servers, timeout: Duration::from_secs(10), command: Command::Status };
    let fault = run(&errand, &mut Vec::new()).expect_err("it is no broker");
    assert!(matches!(fault, Fault::Unreachable(_)), "{fault}");
    assert!(fault.to_string().ends_with("it does not speak the Kafka protocol"), "{fault}");
}
