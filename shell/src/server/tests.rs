use bytes::BytesMut;
use chronik_core::batch::BatchBuilder;
use chronik_core::boundary::FileName;
use chronik_core::ids::{NodeId, Uuid};
use chronik_core::time::Timestamp;
use chronik_core::wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use chronik_core::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use chronik_core::wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use chronik_core::wire::{self, ApiKey, ErrorCode, RequestHeader, Response, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;
use crate::cli::options::CommitThread;

const MIB: usize = 1 << 20;

/// A server of its own, which serves until it is dropped.
struct Serving {
    address: SocketAddr,
    metrics: Metrics,
    folder: std::path::PathBuf,
    server: JoinHandle<Result<(), Fatal>>,
}

impl Serving {
    async fn start(name: &str, limits: Limits) -> Serving {
        let folder = std::env::temp_dir().join(format!("chronik-server-{}-{name}", std::process::id()));
        let clock = Clock::start();
        let socket = TcpSocket::new_v4().expect("a socket");
        // What the system takes off the server's hands would hide what the server holds.
        socket.set_send_buffer_size(4096).expect("a small buffer");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("there is a free port");
        let listener = socket.listen(1024).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let options = NodeOptions {
            node_id: NodeId(1),
            directory_id: Uuid([1; 16]),
            cluster_id: "test".into(),
            data_dir: "/test".into(),
            listeners: vec![("PLAINTEXT".into(), "127.0.0.1".into(), address.port())],
            broker: BrokerConfig::default(),
            limits,
            journal: Geometry::default(),
            direct_from: u64::MAX,
            cluster: None,
        };
        let (files, node, _) = recover(&folder, Durability::Os, options, [1; 32], clock).expect("an empty folder");
        let parts =
            Parts { node, clock, limits, idle_time_max: None, listeners: vec![listener], cluster: None, on_pass: None };
        let root = folder.clone();
        let disk = |report| Threads::start(files, root, CommitThread::Inline, Durability::Os, report);
        let server = Server::assemble(parts, disk, |stream: TcpStream, _| stream).expect("threads start");
        let metrics = server.metrics();
        let server = tokio::spawn(server.run(std::future::pending::<()>()));
        Serving { address, metrics, folder, server }
    }

    /// A client that takes no more than it must of what it does not read.
    async fn client(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(self.address).await.expect("the server listens")
    }

    async fn metric(&self, name: &str) -> usize {
        let text = self.metrics.scrape().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect("the metric is there").parse().expect("a number")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.abort();
        // What is left of it lies among what is temporary.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

async fn send(client: &mut TcpStream, version: i16, request: wire::Request) {
    let api_key = request.api_key().code();
    let header = RequestHeader { api_key, api_version: version, ..RequestHeader::default() };
    let mut writer = Writer::new();
    wire::encode_request(&header, &request, &mut writer);
    client.write_all(&writer.finish().to_bytes()).await.expect("the connection is open");
}

async fn receive(client: &mut TcpStream, api_key: ApiKey, version: i16) -> Response {
    let bytes = client.read_i32().await.expect("an answer");
    let mut frame = BytesMut::zeroed(usize::try_from(bytes).expect("a size"));
    client.read_exact(&mut frame).await.expect("all of it");
    wire::decode_response(api_key, version, frame.freeze()).expect("an answer").1
}

/// A topic of so many batches of nearly a mebibyte.
async fn fill(client: &mut TcpStream, batches: usize) {
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 1, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..CreateTopicsRequest::default() };
    send(client, 4, request.into()).await;
    receive(client, ApiKey::CreateTopics, 4).await;
    let batch = BatchBuilder::new().record(Timestamp(1), None, Some(&vec![b'x'; MIB - 1000])).build();
    for _ in 0..batches {
        let data = PartitionProduceData { index: 0, records: Some(batch.clone()) };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..TopicProduceData::default() };
        let topic_data = vec![topic];
        let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..ProduceRequest::default() };
        send(client, 7, request.into()).await;
        let Response::Produce(response) = receive(client, ApiKey::Produce, 7).await else { panic!("another answer") };
        assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None.code());
    }
}

/// Asks for all that there is from an offset on.
async fn ask_for_all(client: &mut TcpStream, offset: i64) {
    let partition = FetchPartition {
        fetch_offset: offset,
        partition_max_bytes: i32::MAX,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    };
    let topics = vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() }];
    let request = FetchRequest { max_bytes: i32::MAX, session_epoch: -1, topics, ..FetchRequest::default() };
    send(client, 11, request.into()).await;
}

async fn fetched(client: &mut TcpStream) -> usize {
    let Response::Fetch(response) = receive(client, ApiKey::Fetch, 11).await else { panic!("another answer") };
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::None.code());
    data.records.as_ref().map_or(0, wire::Records::len)
}

#[tokio::test]
async fn those_who_never_read_what_they_fetch_hold_a_bounded_memory_and_keep_nobody_from_reading() {
    const BOUND: usize = 24 * MIB;
    const MANY: usize = 60;
    let limits = Limits {
        fetch_bytes_in_flight_max: BOUND,
        fetch_unsent_time_max: Duration::from_millis(100),
        tail_cache_bytes: 2 * MIB,
        ..Limits::default()
    };
    let serving = Serving::start("unread", limits).await;
    let mut reader = serving.client().await;
    fill(&mut reader, 12).await;

    // The oldest from segments, the newest from memory.
    let mut stalled = Vec::new();
    for number in 0..MANY {
        let mut client = serving.client().await;
        ask_for_all(&mut client, if number % 3 == 0 { 11 } else { 0 }).await;
        stalled.push(client);
    }
    while serving.metric("chronik_fetches_queued").await == 0 {}

    // Each of its fetches waits for its turn behind all of those, and has it.
    for offset in [0, 5, 11] {
        ask_for_all(&mut reader, offset).await;
        let mut answer = std::pin::pin!(fetched(&mut reader));
        loop {
            let [held, unsent] = [
                serving.metric("chronik_fetch_bytes_in_flight").await,
                serving.metric("chronik_bytes_in_flight").await,
            ];
            assert!(held <= BOUND, "{held} bytes are counted");
            assert!(unsent <= BOUND + MANY * 1024, "{unsent} bytes are there");
            tokio::select! { biased;
                bytes = &mut answer => {
                    assert!(bytes >= MIB - 1000);
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
        }
    }
    assert!(serving.metric("chronik_connections_cut_total").await > 0);
    drop(stalled);
    while serving.metric("chronik_fetch_bytes_in_flight").await > 0 {}
    assert_eq!(serving.metric("chronik_fetches_queued").await, 0);
}

#[test]
fn connections_and_open_files_fit_into_the_descriptors_that_there_are() {
    let broker = BrokerConfig::default();
    for (descriptors, is_clustered) in [64, 256, 1024, 2_351, 4_096, 20_000, 1_000_000]
        .into_iter()
        .flat_map(|descriptors| [(descriptors, false), (descriptors, true)])
    {
        let limits = limits(&broker, Some(descriptors), is_clustered);
        let peers = if is_clustered { peers::connections_max(limits.connections_max) } else { 0 };
        // An open file has a second descriptor for what goes past the page cache.
        let needed = limits.connections_max + peers + 2 * limits.open_files + OTHER_DESCRIPTORS;
        assert!(needed as u64 <= descriptors.max(OTHER_DESCRIPTORS as u64 + 33), "{needed} of {descriptors}");
    }
    let plenty = limits(&broker, None, true);
    assert_eq!((plenty.connections_max, plenty.open_files), (20_000, Limits::default().open_files));
    assert_eq!(peers::connections_max(plenty.connections_max), 500);
}

#[test]
fn a_file_that_the_system_refuses_is_told_with_its_folder_and_the_remedy() {
    let refused = DiskError::Io(FileName::Checkpoint(0), "cannot open it: Permission denied".to_owned());
    let why = StartError::Recovery("/var/lib/chronik".into(), node::StartError::Disk(refused)).to_string();
    let expect = "cannot recover the data folder /var/lib/chronik: journal/0.checkpoint: cannot open it: Permission \
                  denied: let the user that runs the broker own the folder";
    assert!(why.starts_with(expect), "{why}");
}

#[test]
fn nobody_is_told_to_replace_a_sound_folder() {
    let told = |error| StartError::Recovery("/data".into(), error).to_string();
    let unfit = told(node::StartError::Unfit("it is of a node of a cluster: start it as such".into()));
    assert_eq!(unfit, "cannot recover the data folder /data: it is of a node of a cluster: start it as such");
    let newer = CheckpointError::NotOurs { slot: 0, flaw: Flaw::Newer(9) };
    assert!(told(node::StartError::Checkpoint(newer)).ends_with(": run the version that wrote it, or a later one"));
    let content = told(node::StartError::Content("a record of an unknown version".into()));
    assert!(content.contains("unknown version: where a later version has written there, run the"), "{content}");
}
