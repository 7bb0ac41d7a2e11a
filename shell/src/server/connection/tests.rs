use std::future::poll_fn;
use std::task::Waker;

use bytes::BytesMut;
use chronik_core::wire::{self, Records, RequestHeader, Response, api_versions, fetch, metadata};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

const MIB: usize = 1 << 20;

/// A connection whose other end the test holds, and whose node the test plays.
struct Stage {
    client: DuplexStream,
    shared: Arc<Shared>,
    letterbox: Arc<Letterbox>,
    arrivals: VecDeque<Arrival>,
}

impl Stage {
    /// `pipe` is how many bytes the network takes before somebody reads them.
    async fn new(pipe: usize, limits: Limits) -> Stage {
        let (client, server) = duplex(pipe);
        let shared = Arc::new(Shared::new(limits, None));
        let peer = "127.0.0.1:1".parse().expect("an address");
        tokio::spawn(Client::new(server, peer, ConnId(3), ListenerId(0), shared.clone()));
        let mut arrivals = Vec::new();
        poll_fn(|cx| shared.mailbox.poll_take(cx, &mut arrivals)).await;
        let Some(Arrival::Opened(letterbox)) = arrivals.pop() else { panic!("a connection announces itself") };
        Stage { client, shared, letterbox, arrivals: VecDeque::new() }
    }

    /// The next thing for the node, and how many more came with it.
    async fn arrival(&mut self) -> (Arrival, usize) {
        if self.arrivals.is_empty() {
            let mut taken = Vec::new();
            poll_fn(|cx| self.shared.mailbox.poll_take(cx, &mut taken)).await;
            self.arrivals.extend(taken);
        }
        let next = self.arrivals.pop_front().expect("something was taken");
        (next, self.arrivals.len())
    }

    /// Whether something is there for the node by now.
    async fn has_arrivals(&mut self) -> bool {
        let mut taken = Vec::new();
        let poll = poll_fn(|cx| Poll::Ready(self.shared.mailbox.poll_take(cx, &mut taken))).await;
        self.arrivals.extend(taken);
        poll.is_ready() || !self.arrivals.is_empty()
    }

    /// The next request, and how many more arrivals came with it.
    async fn request(&mut self) -> (ReplyTo, usize) {
        match self.arrival().await {
            (Arrival::Request(to, _), more) => (to, more),
            (other, _) => panic!("{other:?} instead of a request"),
        }
    }

    fn answer(&self, to: ReplyTo) {
        self.letterbox.put(&mut vec![(to, Some(no_versions()))], None);
    }

    /// Answers with a message of about so many bytes.
    fn answer_much(&self, to: ReplyTo, bytes: usize) {
        let api_keys = vec![api_versions::ApiVersion::default(); bytes / 6];
        let response = api_versions::ApiVersionsResponse { api_keys, ..Default::default() };
        self.letterbox.put(&mut vec![(to, Some(response.into()))], None);
    }

    /// Answers a fetch with so many bytes of records.
    fn answer_records(&self, to: ReplyTo, bytes: usize) {
        let records = Some(Records::from(Bytes::from(vec![7; bytes])));
        let partition = fetch::PartitionData { records, ..Default::default() };
        let topic = fetch::FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
        let response = fetch::FetchResponse { responses: vec![topic], ..Default::default() };
        self.letterbox.put(&mut vec![(to, Some(response.into()))], None);
    }

    /// Answers fetches with so many bytes each until none comes any more, and returns how many came.
    async fn answer_fetches(&mut self, bytes: usize) -> usize {
        let mut answered = 0;
        loop {
            settle().await;
            let mut taken = Vec::new();
            if poll_fn(|cx| Poll::Ready(self.shared.mailbox.poll_take(cx, &mut taken))).await.is_pending() {
                return answered;
            }
            for arrival in taken {
                match arrival {
                    Arrival::Request(to, _) => {
                        self.answer_records(to, bytes);
                        answered += 1;
                    }
                    Arrival::Sent(..) => {}
                    other => panic!("{other:?} instead of a request"),
                }
            }
        }
    }

    /// The correlation id of the next answer.
    async fn answered(&mut self) -> i32 {
        let size = self.client.read_i32().await.expect("an answer");
        let mut body = vec![0; size as usize];
        self.client.read_exact(&mut body).await.expect("all of the answer");
        i32::from_be_bytes(*body.first_chunk().expect("a correlation id"))
    }
}

fn no_versions() -> Response {
    api_versions::ApiVersionsResponse::default().into()
}

fn ask(version: i16, correlation_id: i32, request: impl Into<wire::Request>) -> BytesMut {
    let request = request.into();
    let header = RequestHeader {
        api_key: request.api_key().code(),
        api_version: version,
        correlation_id,
        ..RequestHeader::default()
    };
    let mut writer = Writer::new();
    wire::encode_request(&header, &request, &mut writer);
    BytesMut::from(&writer.finish().to_bytes()[..])
}

fn ask_versions(correlation_id: i32) -> BytesMut {
    ask(0, correlation_id, api_versions::ApiVersionsRequest::default())
}

fn ask_records(correlation_id: i32) -> BytesMut {
    ask(11, correlation_id, fetch::FetchRequest::default())
}

/// A request of about `bytes`.
fn ask_much(correlation_id: i32, bytes: usize) -> BytesMut {
    let name = wire::Str::from("t".repeat(30_000));
    let topic = metadata::MetadataRequestTopic { name: Some(name), ..Default::default() };
    let topics = Some(vec![topic; bytes / 30_000]);
    ask(1, correlation_id, metadata::MetadataRequest { topics, ..Default::default() })
}

/// Lets every task that can move do so.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_that_come_together_reach_the_node_together_and_are_answered_in_order() {
    let mut stage = Stage::new(MIB, Limits::default()).await;
    let three = [ask_versions(1), ask_versions(2), ask_versions(3)].concat();
    stage.client.write_all(&three).await.expect("written");
    let (first, more) = stage.request().await;
    assert_eq!(more, 2);
    let (second, _) = stage.request().await;
    let (third, _) = stage.request().await;
    for to in [third, first, second] {
        stage.answer(to);
    }
    for expect in 1..=3 {
        assert_eq!(stage.answered().await, expect);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    let limits = Limits { connection_bytes_in_flight_max: 2_000, ..Limits::default() };
    let mut stage = Stage::new(1_000, limits).await;
    let (mut reader, mut writer) = tokio::io::split(std::mem::replace(&mut stage.client, duplex(1).0));
    let flood = tokio::spawn(async move {
        for correlation_id in 0.. {
            if writer.write_all(&ask_versions(correlation_id)).await.is_err() {
                break;
            }
        }
    });
    let mut answered = 0;
    loop {
        settle().await;
        let mut taken = Vec::new();
        if poll_fn(|cx| Poll::Ready(stage.shared.mailbox.poll_take(cx, &mut taken))).await.is_pending() {
            break;
        }
        for arrival in taken {
            let Arrival::Request(to, _) = arrival else { panic!("{arrival:?} instead of a request") };
            stage.answer(to);
            answered += 1;
        }
        assert!(answered < 10_000, "it is read without end");
    }
    // As soon as it reads, it is read again.
    let mut taken = [0; 1_000];
    reader.read_exact(&mut taken).await.expect("answers");
    for _ in 0..10 {
        reader.read_exact(&mut taken[..100]).await.expect("answers");
        settle().await;
    }
    let (_, _) = stage.request().await;
    flood.abort();
}

#[tokio::test]
async fn fetches_that_nobody_reads_the_answers_of_pile_up_to_the_limit_and_one() {
    let limits = Limits { connection_bytes_in_flight_max: 4 * MIB, ..Limits::default() };
    let mut stage = Stage::new(64 * 1024, limits).await;
    let all: Vec<u8> = (0..50).flat_map(ask_records).collect();
    stage.client.write_all(&all).await.expect("written");
    let answered = stage.answer_fetches(MIB).await;
    assert!((4..=5).contains(&answered), "{answered} answers");
    let used = stage.shared.budget.used();
    assert!((3 * MIB..=5 * MIB).contains(&used), "{used} bytes");

    // It reads at last: the others follow, each when there is room for it.
    let mut left = 50 - answered;
    for correlation_id in 0..50 {
        assert_eq!(stage.answered().await, correlation_id);
        left -= stage.answer_fetches(MIB).await;
        let used = stage.shared.budget.used();
        assert!(used <= 5 * MIB, "{used} bytes after {correlation_id}");
    }
    assert_eq!((left, stage.shared.budget.used()), (0, 0));
}

#[tokio::test]
async fn a_fetch_behind_an_answer_that_had_no_room_goes_on_when_that_is_read() {
    let limits = Limits { bytes_in_flight_max: 8 * MIB, request_bytes_max: MIB, ..Limits::default() };
    let mut stage = Stage::new(64 * 1024, limits).await;
    stage.client.write_all(&ask_records(1)).await.expect("written");
    assert_eq!(stage.answer_fetches(5 * MIB).await, 1);
    // Not held back but unread: two megabytes are for what is small.
    stage.client.write_all(&[ask_records(2), ask_records(3)].concat()).await.expect("written");
    assert_eq!(stage.answer_fetches(MIB).await, 0);
    assert_eq!(stage.answered().await, 1);
    assert_eq!(stage.answer_fetches(5 * MIB).await, 1);
    assert_eq!(stage.answered().await, 2);
    assert_eq!(stage.answer_fetches(MIB).await, 1);
    assert_eq!(stage.answered().await, 3);
    settle().await;
    assert_eq!(stage.shared.budget.used(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_its_fetches_are_held_back_is_told_to_the_node() {
    let mut stage = Stage::new(MIB, Limits::default()).await;
    stage.client.write_all(&[ask_records(1), ask_records(2)].concat()).await.expect("written");
    let (_, more) = stage.request().await;
    assert_eq!(more, 0, "the second is held back");
    stage.client.shutdown().await.expect("closed");
    assert!(matches!(stage.arrival().await.0, Arrival::Closed(ConnId(3))));
}

#[tokio::test]
async fn a_client_whose_answer_had_no_room_in_the_budget_is_read_again_when_it_has_read_that() {
    let limits = Limits { bytes_in_flight_max: 8 * MIB, request_bytes_max: MIB, ..Limits::default() };
    let mut stage = Stage::new(3 * MIB, limits).await;
    stage.client.write_all(&ask_versions(1)).await.expect("written");
    let (to, _) = stage.request().await;
    // Two megabytes are for what is small. The pipe takes nearly all, so that the rest leaves with one write.
    stage.answer_much(to, 5 * MIB);
    settle().await;
    stage.client.write_all(&ask_versions(2)).await.expect("written");
    settle().await;
    assert!(!stage.has_arrivals().await);
    assert_eq!(stage.answered().await, 1);
    settle().await;
    assert!(stage.has_arrivals().await);
    let (to, _) = stage.request().await;
    stage.answer(to);
    assert_eq!(stage.answered().await, 2);
}

#[tokio::test]
async fn a_large_request_waits_for_its_place_in_the_budget_and_a_small_one_does_not() {
    let limits = Limits { bytes_in_flight_max: 16 * MIB, request_bytes_max: 8 * MIB, ..Limits::default() };
    let mut stage = Stage::new(64 * MIB, limits).await;
    let mut other = Account::default();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(other.poll_large(&stage.shared.budget, 11 * MIB, &mut cx).is_ready());

    let two = [ask_versions(1), ask_much(2, 4 * MIB)].concat();
    stage.client.write_all(&two).await.expect("written");
    let (small, more) = stage.request().await;
    assert_eq!((small.sequence, more), (0, 0));
    settle().await;
    // The one megabyte that is left in the large part is set aside for it.
    assert!(stage.shared.budget.used() < 12 * MIB + MIB / 4, "nearly nothing of the large one is held");

    drop(other);
    let (large, _) = stage.request().await;
    assert_eq!(large.sequence, 1);
    assert!(stage.shared.budget.used() > 4 * MIB - 64 * 1024, "now all of it is");
    stage.answer(small);
    stage.answer(large);
    assert_eq!((stage.answered().await, stage.answered().await), (1, 2));
    settle().await;
    assert_eq!(stage.shared.budget.used(), 0);
}

/// A connection that the test polls by hand, so that it can have time pass.
struct ByHand {
    stream: DuplexStream,
    client: Client<DuplexStream>,
}

impl ByHand {
    fn new(limits: Limits) -> ByHand {
        let (stream, server) = duplex(2 * READ_BYTES);
        let peer = "127.0.0.1:1".parse().expect("an address");
        let client = Client::new(server, peer, ConnId(3), ListenerId(0), Arc::new(Shared::new(limits, None)));
        ByHand { stream, client }
    }

    /// Whether the connection has ended after the client sent `bytes`.
    async fn has_ended_after(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.expect("the pipe has room");
        poll_fn(|cx| Poll::Ready(Pin::new(&mut self.client).poll(cx).is_ready())).await
    }

    fn pass(&mut self, time: Duration) {
        self.client.admitted_at -= time;
        self.client.last_read -= time;
        self.client.last_write -= time;
    }
}

#[tokio::test]
async fn a_large_request_that_trickles_gives_its_place_in_the_budget_back() {
    let limits = Limits { bytes_in_flight_max: 16 * MIB, request_bytes_max: 10 * MIB, ..Limits::default() };
    // Also where it has an answer to read, and does that as slowly.
    for has_unread in [false, true] {
        let mut trickling = ByHand::new(limits);
        let large = ask_much(1, 9 * MIB);
        assert!(!trickling.has_ended_after(&ask_versions(0)).await);
        assert!(!trickling.has_ended_after(&large[..READ_BYTES]).await);
        if has_unread {
            let api_keys = vec![api_versions::ApiVersion::default(); READ_BYTES];
            let response = api_versions::ApiVersionsResponse { api_keys, ..Default::default() };
            let to = ReplyTo { conn: ConnId(3), sequence: 0, version: 0, listener: ListenerId(0) };
            trickling.client.letterbox.put(&mut vec![(to, Some(response.into()))], None);
        }
        let shared = trickling.client.shared.clone();
        let budget = &shared.budget;
        assert!(budget.used() >= 9 * MIB - 64 * 1024);
        for (at, seconds) in [0, 20, 10, 4].into_iter().enumerate() {
            trickling.pass(Duration::from_secs(seconds));
            trickling.client.last_write = Instant::now();
            assert!(!trickling.has_ended_after(&large[READ_BYTES + at..][..1]).await, "after {seconds} s more");
        }
        trickling.pass(Duration::from_secs(1));
        assert!(trickling.has_ended_after(&large[READ_BYTES + 4..][..1]).await, "after 35 s");
        drop(trickling);
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test]
async fn what_is_no_request_closes_the_connection_after_what_came_before() {
    let mut stage = Stage::new(MIB, Limits::default()).await;
    stage.client.write_all(&[&ask_versions(1)[..], b"\0\0\0\x08 no sense"].concat()).await.expect("written");
    let (_, more) = stage.request().await;
    assert_eq!(more, 1);
    assert!(matches!(stage.arrival().await.0, Arrival::Closed(ConnId(3))));
    let mut rest = Vec::new();
    stage.client.read_to_end(&mut rest).await.expect("an orderly end");
    assert!(rest.is_empty());
}

#[tokio::test]
async fn the_node_closes_a_connection_after_what_it_answered() {
    let mut stage = Stage::new(MIB, Limits::default()).await;
    stage.client.write_all(&ask_versions(9)).await.expect("written");
    let (to, _) = stage.request().await;
    stage.letterbox.put(&mut vec![(to, Some(no_versions()))], Some(Closing::after_answers("the test says so")));
    assert_eq!(stage.answered().await, 9);
    assert!(matches!(stage.arrival().await.0, Arrival::Closed(ConnId(3))));
    assert_eq!(stage.client.read(&mut [0]).await.expect("an orderly end"), 0);
}

#[tokio::test]
async fn the_node_is_told_when_records_have_left_and_cuts_a_connection_that_does_not_take_them() {
    let mut stage = Stage::new(64 * 1024, Limits::default()).await;
    stage.client.write_all(&ask_records(1)).await.expect("written");
    let (to, _) = stage.request().await;
    stage.answer_records(to, MIB);
    settle().await;
    assert!(!stage.has_arrivals().await, "the pipe has not taken all");
    assert_eq!(stage.answered().await, 1);
    assert!(matches!(stage.arrival().await.0, Arrival::Sent(ConnId(3), 0)));

    stage.client.write_all(&ask_records(2)).await.expect("written");
    let (to, _) = stage.request().await;
    stage.answer_records(to, MIB);
    settle().await;
    stage.letterbox.put(&mut Vec::new(), Some(Closing::after_answers("it may take its answers")));
    settle().await;
    assert!(!stage.has_arrivals().await);
    stage.letterbox.put(&mut Vec::new(), Some(Closing::at_once("it may not")));
    assert!(matches!(stage.arrival().await.0, Arrival::Closed(ConnId(3))));
    settle().await;
    assert_eq!(stage.shared.budget.used(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_is_told_to_the_node_and_holds_nothing() {
    let mut stage = Stage::new(MIB, Limits::default()).await;
    stage.client.write_all(&ask_much(1, MIB / 2)[..MIB / 4]).await.expect("written");
    settle().await;
    assert!(stage.shared.budget.used() > 0);
    stage.client.shutdown().await.expect("closed");
    assert!(matches!(stage.arrival().await.0, Arrival::Closed(ConnId(3))));
    settle().await;
    assert_eq!(stage.shared.budget.used(), 0);
}
