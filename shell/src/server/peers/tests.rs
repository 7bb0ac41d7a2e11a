//! Brokers that meet on real sockets, with hands in the place of their nodes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use chronik_core::ids::Uuid;
use chronik_core::limits::Limits;
use chronik_core::peer::{Acceptor, Dialler, RefusedBecause};
use chronik_core::wire::Writer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

/// One broker without a node: what its node would be told is handed out, what that would say is said by hand.
struct Side {
    me: Hello,
    port: u16,
    shared: Arc<Shared>,
    peers: Peers,
    accepting: JoinHandle<()>,
    told: VecDeque<PeerInput>,
    learned: Arc<Mutex<Vec<String>>>,
}

fn hello(node: u8, cluster_id: &str) -> Hello {
    Hello {
        cluster_id: cluster_id.into(),
        node_id: NodeId(node.into()),
        directory_id: Uuid([node; 16]),
        process: node.into(),
        format_first: peer::FORMAT_FIRST,
        format_last: peer::FORMAT_LAST,
    }
}

impl Side {
    async fn new(node: u8) -> Side {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared::new(Limits::default(), None));
        let learned: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = learned.clone();
        let on_cluster_known = Box::new(move |id: &str| match id {
            "another" => Err("the folder is of another cluster".to_owned()),
            id => {
                told.lock().expect("nobody panics with it").push(id.to_owned());
                Ok(())
            }
        });
        let cluster = Clustered { listener, jitter: 1, prepare: notice_silence, on_cluster_known };
        let (peers, door) = Peers::new(cluster, Arc::new(|stream: TcpStream, _| stream), &shared);
        let accepting = tokio::spawn(door.accept());
        Side { me: hello(node, "c"), port, shared, peers, accepting, told: VecDeque::new(), learned }
    }

    /// From now on these are the others: their numbers and ports.
    fn know(&mut self, others: &[(u8, u16)]) {
        let neighbour = |port| Neighbour { host: "127.0.0.1".into(), port, directory_id: None };
        let peers = others.iter().map(|&(node, port)| (NodeId(node.into()), neighbour(port))).collect();
        let neighbours = Neighbours { me: self.me.clone(), peers };
        self.peers.use_neighbours(Arc::new(neighbours)).expect("the cluster's id is taken");
    }

    /// What the node would be told next.
    async fn next(&mut self) -> PeerInput {
        loop {
            if let Some(input) = self.told.pop_front() {
                return input;
            }
            let mut arrivals = Vec::new();
            poll_fn(|cx| self.shared.mailbox.poll_take(cx, &mut arrivals)).await;
            for arrival in arrivals {
                let Arrival::Peer(arrival) = arrival else { panic!("only peers are here") };
                self.peers.take(*arrival, |input| self.told.push_back(input));
            }
        }
    }

    /// Both directions stand, in any order.
    async fn meet(&mut self, other: u8) {
        for _ in 0..2 {
            match self.next().await {
                PeerInput::Connected(peer) | PeerInput::Arrived(peer) => {
                    assert_eq!(peer.node_id, NodeId(other.into()));
                }
                input => panic!("{input:?} before they have met"),
            }
        }
    }

    async fn hear(&mut self) -> Message {
        match self.next().await {
            PeerInput::Heard { message, .. } => message,
            input => panic!("{input:?} where something was to be heard"),
        }
    }

    fn say(&mut self, to: u8, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.peers.say(NodeId(to.into()), message);
        }
        self.peers.hand_over(false);
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn metadata(text: &'static str) -> Message {
    Message::Metadata(Bytes::from_static(text.as_bytes()))
}

/// Somebody who has connected and introduced itself, and reads and writes only what the test wants.
struct Stranger {
    stream: TcpStream,
    dialler: Dialler,
}

impl Stranger {
    async fn connect(side: &Side, me: Hello) -> Stranger {
        let stream = TcpStream::connect(("127.0.0.1", side.port)).await.expect("it listens");
        Stranger { stream, dialler: Dialler::new(me, side.me.node_id, None) }
    }

    async fn greet(&mut self) -> Result<PeerInput, peer::Ended> {
        let told = self.answer().await?;
        self.begin().await;
        Ok(told)
    }

    /// Introduces itself, and gives the answer.
    async fn answer(&mut self) -> Result<PeerInput, peer::Ended> {
        for piece in self.dialler.hello(&mut Writer::new()) {
            self.stream.write_all(&piece).await.expect("the connection is open");
        }
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).await.expect("an answer");
        self.dialler.receive(&buffer[..count]).map(|told| told.expect("the whole answer"))
    }

    /// Says that the answer was heard.
    async fn begin(&mut self) {
        for piece in self.dialler.begun(&mut Writer::new()) {
            // The other side may have closed it, which it is the test's to find out.
            self.stream.write_all(&piece).await.ok();
        }
    }

    async fn say(&mut self, message: Message) {
        let mut pieces = Vec::new();
        self.dialler.say(message, &mut Writer::new(), &mut pieces);
        for piece in pieces {
            // The other side may have closed it, which it is the test's to find out.
            self.stream.write_all(&piece).await.ok();
        }
    }
}

#[tokio::test]
async fn brokers_meet_and_hear_what_the_other_says_in_its_order() {
    let (mut one, mut two) = (Side::new(1).await, Side::new(2).await);
    one.know(&[(2, two.port)]);
    two.know(&[(1, one.port)]);
    one.meet(2).await;
    two.meet(1).await;

    let large = Message::Metadata(Bytes::from(vec![7; 20 << 20]));
    let said = [metadata("first"), large, metadata("last")];
    one.say(2, said.clone());
    two.say(1, [metadata("from the other")]);
    for message in said {
        assert_eq!(two.hear().await, message);
    }
    assert_eq!(one.hear().await, metadata("from the other"));
    let mut lines = String::new();
    one.peers.count(|_, name, _, value| lines += &format!("{name} {value} "));
    let expect = "chronik_peers 1 chronik_peers_connected 1 chronik_peers_heard 1 chronik_peer_connections_total 1 ";
    assert_eq!(lines, expect);
}

#[tokio::test]
async fn a_peer_that_comes_back_is_connected_to_again() {
    let (mut one, mut two) = (Side::new(1).await, Side::new(2).await);
    one.know(&[(2, two.port)]);
    two.know(&[]);
    assert!(matches!(one.next().await, PeerInput::Connected(_)));
    assert!(matches!(two.next().await, PeerInput::Arrived(_)));
    // As a process that ends: nobody listens, and its connections close.
    let Some(incoming) = two.peers.incoming.values().next().cloned() else { panic!("one has arrived") };
    incoming.replace();
    assert_eq!(one.next().await, PeerInput::Disconnected(NodeId(2)));
    one.say(2, [metadata("lost")]);
    assert!(matches!(one.next().await, PeerInput::Connected(_)));
    one.say(2, [metadata("heard")]);
    assert!(matches!(two.next().await, PeerInput::Arrived(_)));
    assert_eq!(two.hear().await, metadata("heard"));
}

#[tokio::test]
async fn nothing_is_heard_of_a_connection_that_its_peer_has_replaced() {
    let mut side = Side::new(2).await;
    side.know(&[]);
    let me = hello(1, "c");
    let mut older = Stranger::connect(&side, me.clone()).await;
    older.greet().await.expect("it may talk");
    older.say(metadata("older")).await;
    assert_eq!(side.next().await, PeerInput::Arrived(me.clone()));
    assert_eq!(side.hear().await, metadata("older"));

    let mut newer = Stranger::connect(&side, me.clone()).await;
    newer.greet().await.expect("it may talk");
    // Read by the older one's task before the node has been told of the newer one, or after.
    older.say(metadata("too late")).await;
    newer.say(metadata("newer")).await;
    let mut seen = vec![side.next().await];
    if let [PeerInput::Heard { .. }] = seen[..] {
        seen = vec![side.next().await];
    }
    assert_eq!(seen, [PeerInput::Arrived(me)]);
    older.say(metadata("much too late")).await;
    assert_eq!(side.hear().await, metadata("newer"));
    let mut end = Vec::new();
    // It may be reset, since it has not read what the older one said last.
    older.stream.read_to_end(&mut end).await.ok();
    assert!(end.is_empty());
}

#[tokio::test]
async fn the_connection_that_was_made_last_counts_whichever_introduces_itself_first() {
    let mut side = Side::new(2).await;
    side.know(&[]);
    let mut former = Stranger::connect(&side, hello(1, "c")).await;
    let process = Hello { process: 99, ..hello(1, "c") };
    let mut current = Stranger::connect(&side, process.clone()).await;
    current.greet().await.expect("it may talk");
    assert_eq!(side.next().await, PeerInput::Arrived(process));
    former.greet().await.expect("it is answered before it is found to be the former one");
    former.say(metadata("from a former process")).await;
    current.say(metadata("from the current one")).await;
    assert_eq!(side.hear().await, metadata("from the current one"));
}

#[tokio::test]
async fn a_connection_to_a_process_that_is_no_more_is_left_when_the_next_one_shows_up() {
    let (mut one, mut two) = (Side::new(1).await, Side::new(2).await);
    two.know(&[]);
    one.know(&[(2, two.port)]);
    assert!(matches!(one.next().await, PeerInput::Connected(_)));
    let mut same = Stranger::connect(&one, hello(2, "c")).await;
    same.greet().await.expect("it may talk");
    same.say(metadata("nothing has happened")).await;
    assert_eq!(one.next().await, PeerInput::Arrived(hello(2, "c")));
    assert_eq!(one.hear().await, metadata("nothing has happened"));
    let process = Hello { process: 99, ..hello(2, "c") };
    let mut next = Stranger::connect(&one, process.clone()).await;
    next.greet().await.expect("it may talk");
    assert_eq!(one.next().await, PeerInput::Arrived(process));
    assert_eq!(one.next().await, PeerInput::Disconnected(NodeId(2)));
    assert!(matches!(one.next().await, PeerInput::Connected(_)));
}

#[tokio::test]
async fn whoever_is_of_another_cluster_is_refused_and_the_node_that_dialled_is_told() {
    let (mut one, mut two) = (Side::new(1).await, Side::new(2).await);
    two.me.cluster_id = "other".into();
    two.know(&[]);
    one.know(&[(2, two.port)]);
    let PeerInput::Refused(NodeId(2), refused) = one.next().await else { panic!("it is refused") };
    assert_eq!(refused.reason, RefusedBecause::AnotherCluster);
    assert!(refused.message.starts_with("node 2 is of cluster other, and node 1 of c: correct --peers"));
}

#[tokio::test]
async fn a_peer_whose_address_changes_is_dialled_there() {
    let (mut one, mut two, mut moved) = (Side::new(1).await, Side::new(2).await, Side::new(2).await);
    two.know(&[]);
    moved.know(&[]);
    one.know(&[(2, two.port)]);
    assert!(matches!(one.next().await, PeerInput::Connected(_)));
    one.know(&[(2, moved.port)]);
    assert_eq!(one.next().await, PeerInput::Disconnected(NodeId(2)));
    assert!(matches!(one.next().await, PeerInput::Connected(_)));
    assert_eq!(moved.next().await, PeerInput::Arrived(hello(1, "c")));
    one.know(&[]);
    assert_eq!(one.next().await, PeerInput::Disconnected(NodeId(2)));
}

/// Node 1, connected to somebody who calls itself node 2 and is this stream; where that listens.
async fn welcomed() -> (Side, TcpStream, TcpListener) {
    let mut side = Side::new(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    side.know(&[(2, listener.local_addr().expect("it is bound").port())]);
    let (mut stream, _) = listener.accept().await.expect("it dials");
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).await.expect("a greeting");
    let mut acceptor = Acceptor::new();
    let neighbours = Neighbours { me: hello(2, "c"), peers: BTreeMap::new() };
    acceptor.receive(&buffer[..count], &neighbours, &mut Vec::new()).expect("a greeting");
    for piece in acceptor.answer(&mut Writer::new()).expect("a welcome") {
        stream.write_all(&piece).await.expect("the connection is open");
    }
    assert!(matches!(side.next().await, PeerInput::Connected(_)));
    (side, stream, listener)
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_left_when_too_much_waits_for_it() {
    let (mut side, _stream, _listener) = welcomed().await;
    let much = Message::Metadata(Bytes::from(vec![7; 30 << 20]));
    for _ in 0..6 {
        side.say(2, [much.clone()]);
        tokio::task::yield_now().await;
    }
    assert_eq!(side.next().await, PeerInput::Disconnected(NodeId(2)));
}

#[tokio::test]
async fn where_nobody_listens_any_more_the_peer_is_gone() {
    let (mut side, stream, listener) = welcomed().await;
    drop(listener);
    drop(stream);
    assert_eq!(side.next().await, PeerInput::Disconnected(NodeId(2)));
    assert_eq!(side.next().await, PeerInput::Gone(NodeId(2)));
}

#[tokio::test]
async fn a_peer_that_is_connected_is_there_whoever_says_that_nobody_listens() {
    let (mut side, stream, listener) = welcomed().await;
    let mut peer = Stranger::connect(&side, hello(2, "c")).await;
    peer.greet().await.expect("it may");
    assert!(matches!(side.next().await, PeerInput::Arrived(_)));
    drop(listener);
    drop(stream);
    assert_eq!(side.next().await, PeerInput::Disconnected(NodeId(2)));
    side.peers.take(PeerArrival::Absent(NodeId(2)), |input| panic!("{input:?} of one that is here"));
    drop(peer);
    assert_eq!(side.next().await, PeerInput::Gone(NodeId(2)));
}

/// Counts the warnings of its thread.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_peer_that_is_looked_for_at_two_addresses_in_turn_is_warned_of_once() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(warnings.clone()));
    let mut side = Side::new(1).await;
    let ports = [Side::new(2).await.port, Side::new(2).await.port];
    for port in ports.repeat(3) {
        side.know(&[(2, port)]);
        assert_eq!(side.next().await, PeerInput::Gone(NodeId(2)));
    }
    assert_eq!(warnings.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_clusters_id_is_kept_once_before_anybody_is_told() {
    let mut side = Side::new(1).await;
    side.me.cluster_id = "".into();
    side.know(&[]);
    assert!(side.learned.lock().expect("nobody panics with it").is_empty());
    side.me.cluster_id = "known".into();
    side.know(&[]);
    side.know(&[]);
    assert_eq!(*side.learned.lock().expect("nobody panics with it"), ["known"]);
    let other = Neighbours { me: hello(1, "another"), peers: BTreeMap::new() };
    let why = side.peers.use_neighbours(Arc::new(other)).expect_err("it is of another cluster");
    assert_eq!(why, "the folder is of another cluster");
}

#[tokio::test]
async fn who_has_met_a_founder_before_there_was_a_cluster_hears_of_it() {
    let (mut founder, mut other) = (Side::new(1).await, Side::new(2).await);
    founder.me.cluster_id = "".into();
    other.me.cluster_id = "".into();
    founder.know(&[(2, other.port)]);
    other.know(&[(1, founder.port)]);
    founder.meet(2).await;
    other.meet(1).await;
    founder.me.cluster_id = "c".into();
    founder.know(&[(2, other.port)]);
    let (mut connected, mut arrived) = (false, false);
    while !connected || !arrived {
        match other.next().await {
            PeerInput::Connected(peer) => connected |= peer == founder.me,
            PeerInput::Arrived(peer) => arrived |= peer == founder.me,
            PeerInput::Disconnected(NodeId(1)) => {}
            input => panic!("{input:?} where the cluster was to be heard of"),
        }
    }
}

#[tokio::test]
async fn who_was_answered_just_before_there_was_a_cluster_is_not_left_with_that() {
    let mut side = Side::new(2).await;
    side.me.cluster_id = "".into();
    side.know(&[]);
    let mut early = Stranger::connect(&side, hello(1, "")).await;
    // The answer is on its way, and nothing has come back.
    let told = early.answer().await.expect("it may talk");
    assert_eq!(told, PeerInput::Connected(side.me.clone()));
    side.me.cluster_id = "c".into();
    side.know(&[]);
    early.begin().await;
    let mut later = Stranger::connect(&side, hello(3, "")).await;
    assert_eq!(later.greet().await.expect("it may talk"), PeerInput::Connected(side.me.clone()));
    assert_eq!(side.next().await, PeerInput::Arrived(hello(3, "")));
    let mut end = Vec::new();
    early.stream.read_to_end(&mut end).await.ok();
    assert!(end.is_empty());
}

#[tokio::test]
async fn what_is_no_peer_is_closed() {
    let mut side = Side::new(2).await;
    side.know(&[]);
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let mut stream = TcpStream::connect(("127.0.0.1", side.port)).await.expect("it listens");
        stream.write_all(nonsense).await.expect("it is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        assert_eq!(answer, b"", "to {nonsense:?}");
    }
}

#[tokio::test]
async fn what_is_said_last_before_an_orderly_stop_arrives() {
    let (mut one, mut two) = (Side::new(1).await, Side::new(2).await);
    two.know(&[]);
    one.know(&[(2, two.port)]);
    assert!(matches!(one.next().await, PeerInput::Connected(_)));
    assert!(matches!(two.next().await, PeerInput::Arrived(_)));
    one.peers.say(NodeId(2), metadata("goodbye"));
    one.peers.hand_over(true);
    drop(one);
    assert_eq!(two.hear().await, metadata("goodbye"));
}
