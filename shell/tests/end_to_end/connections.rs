//! One connection's faults stay its own: order, broken frames, half frames, silence.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};

use crate::support::batch::{Batch, records, values};
use crate::support::broker::{Broker, free_port};
use crate::support::client::{encode, framed};
use crate::support::code;
use crate::support::topic::{Topic, eventually};

#[test]
fn responses_leave_in_the_order_of_their_requests() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "order", 1, &[]);
    // The fetch waits for its time, the metadata could be answered at once: it must not overtake.
    let waiting = topic.fetch_request(11, &[(0, 0)]).with_max_wait_ms(300);
    let begun = Instant::now();
    let first = client.send(11, &waiting).expect("the connection is open");
    let second = client.send(9, &MetadataRequest::default()).expect("the connection is open");
    client.receive::<FetchRequest>(11, first).expect("the fetch is answered first");
    assert!(begun.elapsed() >= Duration::from_millis(290));
    client.receive::<MetadataRequest>(9, second).expect("then the metadata");
}

#[test]
fn a_hundred_produce_requests_in_flight_are_written_and_answered_in_order() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "pipeline", 1, &[]);
    let sent: Vec<_> = (0..100)
        .map(|number| {
            let batch = Batch::of([format!("record {number}")]);
            client.send(9, &topic.produce_request(9, 0, -1, batch.encode())).expect("the connection is open")
        })
        .collect();
    for (correlation_id, offset) in sent.into_iter().zip(0..) {
        let response = client.receive::<ProduceRequest>(9, correlation_id).expect("an answer");
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (code::NONE, offset));
    }
    let expected: Vec<_> = (0..100).map(|number| format!("record {number}")).collect();
    assert_eq!(topic.read(&mut client, 0, 0), expected);
}

#[test]
fn a_frame_may_arrive_byte_by_byte() {
    let broker = Broker::start();
    let mut client = broker.client();
    let frame = encode(1, 7, &MetadataRequest::default());
    for byte in &frame {
        client.send_bytes(&[*byte]).expect("the connection is open");
    }
    client.receive::<MetadataRequest>(1, 7).expect("an answer");
}

#[test]
fn a_malformed_frame_closes_only_its_own_connection() {
    let broker = Broker::start();
    let mut bystander = broker.client();
    bystander.call(0, &ApiVersionsRequest::default());
    let metadata = |body: &[u8]| framed(&[&[0, 3, 0, 1, 0, 0, 0, 7, 0, 1, b'x'], body].concat());
    let frames = [
        ("a negative length", (-1i32).to_be_bytes().to_vec().into()),
        ("a length of 2 GiB", i32::MAX.to_be_bytes().to_vec().into()),
        ("an empty frame", framed(&[])),
        ("a header cut short", framed(&[0, 3, 0])),
        ("an array of two billion topics", metadata(&i32::MAX.to_be_bytes())),
        ("a topic name longer than its frame", metadata(&[0, 0, 0, 1, 0x7f, 0xff, b'a'])),
        ("a body cut short", metadata(&[0, 0])),
    ];
    for (what, frame) in frames {
        let mut client = broker.client();
        client.send_bytes(&frame).expect("the connection is open");
        assert!(client.is_closed(), "{what}");
        assert_eq!(bystander.call(0, &ApiVersionsRequest::default()).error_code, code::NONE, "after {what}");
    }
}

#[test]
fn half_a_frame_harms_nobody() {
    let broker = Broker::start();
    let frame = encode(1, 7, &MetadataRequest::default());
    let mut half: Vec<_> = (0..20).map(|_| broker.client()).collect();
    for client in &mut half {
        client.send_bytes(&frame[..frame.len() / 2]).expect("the connection is open");
    }
    broker.client().call(1, &MetadataRequest::default());
    half[0].finish();
    assert!(half[0].is_closed(), "a client that went away in the middle of a frame is let go");
    half[1].send_bytes(&frame[frame.len() / 2..]).expect("the connection is open");
    half[1].receive::<MetadataRequest>(1, 7).expect("the other half makes a request");
}

#[test]
fn a_client_that_never_reads_harms_nobody() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "stalled", 1, &[]);
    for _ in 0..8 {
        topic.produce(&mut client, 0, &Batch::of(["x".repeat(500_000)]));
    }
    let mut stalled = broker.client();
    for _ in 0..30 {
        let request = topic.fetch_request(11, &[(0, 0)]);
        stalled.send(11, &request).expect("requests are small enough for the socket's buffers");
    }
    for _ in 0..20 {
        topic.produce(&mut client, 0, &Batch::numbered(1));
    }
    assert_eq!(topic.list_offset(&mut client, 5, -1).offset, 28);
}

#[test]
fn of_one_connection_one_large_answer_lies_unread_and_all_arrive_when_they_are_read() {
    const FETCHES: i64 = 50;
    const MIB: u64 = 1 << 20;
    let metrics = format!("127.0.0.1:{}", free_port());
    let Some(broker) = Broker::start_own(&["--metrics-addr", &metrics]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "piled", 2, &[]);
    let value = |number: i64| format!("{number:02}").repeat(500_000);
    for number in 0..FETCHES {
        assert_eq!(topic.produce(&mut client, 0, &Batch::of([value(number)])), number);
    }

    // Each answer has one batch of nearly a megabyte. The sockets' buffers take some, the broker holds one.
    let mut slow = broker.client();
    let requests = (0..FETCHES).map(|offset| encode(11, offset as i32, &topic.fetch_request(11, &[(0, offset)])));
    slow.send_bytes(&requests.collect::<Vec<Bytes>>().concat()).expect("the connection is open");
    eventually("an answer lies unread", || metric(&metrics, "chronik_fetch_bytes_in_flight") > 0);
    for _ in 0..20 {
        topic.produce(&mut client, 1, &Batch::numbered(1));
        let held = metric(&metrics, "chronik_bytes_in_flight");
        assert!(held < 2 * MIB, "{held} bytes are held");
    }

    for offset in 0..FETCHES {
        let answer = slow.receive::<FetchRequest>(11, offset as i32).expect("an answer");
        let data = &answer.responses[0].partitions[0];
        let found = records(data.records.clone().unwrap_or_default());
        assert_eq!((data.error_code, found[0].offset, found.len()), (code::NONE, offset, 1));
        assert!(values(&found)[0] == value(offset), "the record of offset {offset}");
    }
    eventually("nothing is held any more", || {
        metric(&metrics, "chronik_bytes_in_flight") + metric(&metrics, "chronik_fetch_bytes_in_flight") == 0
    });
}

/// What the broker says of itself.
fn metric(metrics: &str, name: &str) -> u64 {
    let mut stream = TcpStream::connect(metrics).expect("the metrics' port is open");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("it is taken");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("the metric is there").trim().parse().expect("a number")
}

#[test]
fn a_large_request_is_taken_whole() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "large", 1, &[("max.message.bytes", "16000000")]);
    // A client introduces itself first; before that a broker need not take more than small frames.
    client.call(0, &ApiVersionsRequest::default());
    let large = "x".repeat(10_000_000);
    assert_eq!(topic.produce(&mut client, 0, &Batch::of([&large])), 0);
    assert_eq!(topic.read(&mut client, 0, 0), [large]);
}
