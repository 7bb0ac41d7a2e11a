use bytes::{BufMut, Bytes};

use super::*;
use crate::batch::{BatchBuilder, Codec};
use crate::time::Timestamp;
use crate::wire::{
    ApiKey, ErrorCode, Frame, RequestHeader, Str, api_versions, consumer_group_heartbeat, describe_groups, fetch,
    join_group, metadata, produce,
};

const KIB: usize = 1024;

fn connection() -> Connection {
    Connection::new(ConnId(7), ListenerId(1), "/10.0.0.1".into(), &Limits::default())
}

fn frame(version: i16, correlation_id: i32, request: impl Into<wire::Request>) -> Vec<u8> {
    frame_of(Some("a test"), version, correlation_id, request)
}

/// A frame of a client that calls itself `client_id`.
fn frame_of(
    client_id: Option<&'static str>,
    version: i16,
    correlation_id: i32,
    request: impl Into<wire::Request>,
) -> Vec<u8> {
    let request = request.into();
    let api_key = request.api_key().code();
    let client_id = client_id.map(Str::from_static);
    let header = RequestHeader { api_key, api_version: version, correlation_id, client_id };
    let mut writer = Writer::new();
    wire::encode_request(&header, &request, &mut writer);
    writer.finish().to_bytes().to_vec()
}

fn ask_versions(correlation_id: i32) -> Vec<u8> {
    frame(0, correlation_id, api_versions::ApiVersionsRequest::default())
}

/// A frame that begins like a request and goes on with nothing.
fn bare(api_key: i16, version: i16, correlation_id: i32) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 10];
    bytes.extend(api_key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(correlation_id.to_be_bytes());
    bytes.extend([0xff; 2]);
    bytes
}

fn batch(value_bytes: usize) -> Bytes {
    BatchBuilder::new().record(Timestamp(1), None, Some(&vec![b'x'; value_bytes])).build()
}

/// A produce request with `batches` for partitions 0, 1 and so on.
fn produce_of(batches: &[Bytes]) -> Vec<u8> {
    let partition =
        |(index, records): (i32, &Bytes)| produce::PartitionProduceData { index, records: Some(records.clone()) };
    let topic = produce::TopicProduceData {
        name: Str::from_static("orders"),
        partition_data: (0..).zip(batches).map(partition).collect(),
        ..Default::default()
    };
    frame(9, 1, produce::ProduceRequest { acks: -1, timeout_ms: 1, topic_data: vec![topic], ..Default::default() })
}

fn receive(connection: &mut Connection, bytes: &[u8]) -> Vec<(ReplyTo, Request)> {
    let mut accepted = Vec::new();
    connection.receive(bytes, 0, &TopicCodecs::default(), &mut accepted).expect("the bytes are in order");
    accepted
}

/// A connection that has taken a first request, so that large ones are taken, and has answered it.
fn greeted() -> Connection {
    let mut connection = connection();
    let accepted = receive(&mut connection, &ask_versions(0));
    connection.respond(accepted[0].0, versions());
    encoded(&mut connection);
    connection
}

fn refusal(connection: &mut Connection, bytes: &[u8]) -> CloseReason {
    connection.receive(bytes, 0, &TopicCodecs::default(), &mut Vec::new()).expect_err("these bytes end the connection")
}

fn encoded(connection: &mut Connection) -> Frame {
    let mut writer = Writer::new();
    connection.encode(&mut writer).expect("answers are short");
    writer.finish()
}

/// The correlation ids of the responses in `frame`, in their order.
fn correlation_ids(frame: &Frame) -> Vec<i32> {
    let bytes = frame.to_bytes();
    let mut rest = &bytes[..];
    let mut ids = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let (body, next) = after.split_at(i32::from_be_bytes(*size) as usize);
        ids.push(i32::from_be_bytes(*body.first_chunk().expect("a correlation id")));
        rest = next;
    }
    ids
}

fn versions() -> Option<Response> {
    Some(api_versions::ApiVersionsResponse::default().into())
}

#[test]
fn requests_come_out_alike_wherever_the_stream_is_cut() {
    let stream = [ask_versions(1), produce_of(&[batch(300)]), ask_versions(3)].concat();
    for cut in 0..=stream.len() {
        let mut connection = connection();
        let mut accepted = receive(&mut connection, &stream[..cut]);
        let arrived: usize = accepted.len();
        assert_eq!(connection.requests_taken(), arrived as u64);
        accepted.extend(receive(&mut connection, &stream[cut..]));
        let places: Vec<u64> = accepted.iter().map(|(to, _)| to.sequence).collect();
        assert_eq!(places, [0, 1, 2], "cut at {cut}");
        assert!(matches!(&accepted[1].1, Request::Produce(produce) if produce.topics[0].partitions[0].batch.is_ok()));
        assert_eq!(connection.under_way(), None);
    }
}

#[test]
fn requests_come_out_alike_byte_by_byte() {
    let stream = [ask_versions(1), produce_of(&[batch(20)]), ask_versions(3)].concat();
    let mut connection = connection();
    let accepted: Vec<_> = stream.iter().flat_map(|byte| receive(&mut connection, &[*byte])).collect();
    assert_eq!(accepted.len(), 3);
    let memory = connection.bytes_in_flight() - (stream.len() - 3 * 4);
    assert!((100..300).contains(&memory), "{memory} bytes for one topic and one partition that were decoded");
}

#[test]
fn what_is_decoded_counts_and_more_than_its_frame_allows_closes() {
    let ask = |topics: usize, name: &str| {
        let topic = metadata::MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = metadata::MetadataRequest { topics: Some(vec![topic; topics]), ..Default::default() };
        frame(9, 1, request)
    };
    let mut connection = connection();
    let fair = ask(1_000, "some-topic");
    assert_eq!(receive(&mut connection, &fair).len(), 1);
    assert!((50_000..80_000).contains(&connection.bytes_in_flight()), "{}", connection.bytes_in_flight());
    let hostile = ask(100_000, "");
    let refused = self::connection().receive(&hostile, 0, &TopicCodecs::default(), &mut Vec::new());
    let Err(CloseReason::Undecodable(Undecodable::Body { malformed, .. })) = refused else { panic!("{refused:?}") };
    assert_eq!(malformed, wire::Malformed::TooMuchMemory);
}

#[test]
fn answers_leave_in_the_order_of_the_requests_whatever_order_they_come_in() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut connection = connection();
        let accepted = receive(&mut connection, &[ask_versions(10), ask_versions(11), ask_versions(12)].concat());
        let mut seen = Vec::new();
        for at in order {
            let due = connection.has_answers();
            assert!(!due, "all that was due has been encoded");
            connection.respond(accepted[at].0, versions());
            seen.extend(correlation_ids(&encoded(&mut connection)));
        }
        assert_eq!(seen, [10, 11, 12], "answered in the order {order:?}");
        assert_eq!((connection.bytes_in_flight(), connection.requests_in_flight()), (0, 0));
    }
}

#[test]
fn a_request_without_answer_only_gives_up_its_place() {
    let mut connection = connection();
    let accepted = receive(&mut connection, &[ask_versions(1), ask_versions(2)].concat());
    connection.respond(accepted[1].0, versions());
    connection.respond(accepted[0].0, None);
    assert_eq!(correlation_ids(&encoded(&mut connection)), [2]);
}

#[test]
fn a_request_says_where_its_answer_goes() {
    let mut connection = connection();
    let accepted = receive(&mut connection, &frame(12, 5, metadata::MetadataRequest::default()));
    let expect = ReplyTo { conn: ConnId(7), sequence: 0, version: 12, listener: ListenerId(1) };
    assert_eq!(accepted[0].0, expect);
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0_and_the_client_goes_on() {
    let mut connection = connection();
    let accepted = receive(&mut connection, &[bare(18, 99, 4), ask_versions(5)].concat());
    assert_eq!(accepted.len(), 1);
    let mut answer = encoded(&mut connection).to_bytes();
    let (correlation_id, response) =
        wire::decode_response(ApiKey::ApiVersions, 0, answer.split_off(4)).expect("a version 0 response");
    assert_eq!(correlation_id, 4);
    let Response::ApiVersions(response) = response else { panic!("{response:?}") };
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), ApiKey::ALL.len());
    assert_eq!(connection.is_over(), None);
}

#[test]
fn an_unknown_version_is_answered_after_what_came_before_and_ends_the_connection() {
    let mut connection = connection();
    let accepted = receive(&mut connection, &[ask_versions(1), bare(3, 99, 2), ask_versions(3)].concat());
    assert_eq!(accepted.len(), 1, "nothing is taken after it");
    assert!(!connection.wants_read(0));
    assert!(encoded(&mut connection).is_empty());
    assert_eq!(connection.is_over(), None, "the first request is not answered yet");

    connection.respond(accepted[0].0, versions());
    assert_eq!(correlation_ids(&encoded(&mut connection)), [1, 2]);
    let reason = connection.is_over().expect("the refusal has been encoded");
    assert_eq!(reason.to_string(), "version 99 of Metadata is not supported");
    assert!(receive(&mut connection, &ask_versions(4)).is_empty());
}

#[test]
fn what_cannot_be_read_ends_the_connection_and_says_why() {
    fn check(bytes: &[u8], expect: &str) {
        assert_eq!(refusal(&mut connection(), bytes).to_string(), expect);
    }
    let [mut garbled, mut too_long] = [ask_versions(1), ask_versions(1)];
    garbled.truncate(4 + 6);
    garbled[3] = 6;
    too_long[0] = 0x70;
    check(&garbled, "request header: the bytes end inside a field");
    check(&[0, 0, 0, 0], "request header: the bytes end inside a field");
    check(&bare(999, 0, 1), "unknown API key 999 (version 0)");
    check(&bare(19, 2, 1), "CreateTopics request, version 2, byte 10: the bytes end inside a field");
    check(&[0xff; 4], "a request of -1 bytes was announced, at most 104857600 are taken");
    check(&[0, 1, 0, 1, 0, 99, 0, 0], "a request of 65537 bytes was announced, at most 65536 are taken");
    check(b"GET / HTTP/1.1\r\n", "this looks like HTTP, not like the Kafka protocol");
    check(&[22, 3, 1, 2, 0, 1], "this looks like TLS, but the listener is plaintext");
}

#[test]
fn what_came_before_an_unreadable_request_counts() {
    let mut accepted = Vec::new();
    let stream = [ask_versions(1), bare(999, 0, 2)].concat();
    assert!(connection().receive(&stream, 0, &TopicCodecs::default(), &mut accepted).is_err());
    assert_eq!(accepted.len(), 1);
}

#[test]
fn a_first_request_may_be_large_if_it_begins_as_a_request_does() {
    fn check(begins: [u8; 4], expect: Option<(usize, usize)>) {
        let announced = (1_i32 << 20).to_be_bytes();
        let bytes = [announced, begins].concat();
        for cut in 0..=bytes.len() {
            let mut connection = connection();
            receive(&mut connection, &bytes[..cut.min(7)]);
            let taken = connection.receive(&bytes[cut.min(7)..], 0, &TopicCodecs::default(), &mut Vec::new());
            assert_eq!(taken.ok().and_then(|()| connection.under_way()), expect, "{begins:?} cut at {cut}");
        }
    }
    check([0, 0, 0, 9], Some(((1 << 20) + 4, 8)));
    check([0, 0, 0, 2], None);
    check([1, 2, 3, 4], None);
}

#[test]
fn no_request_is_larger_than_the_limit() {
    let max = Limits::default().request_bytes_max;
    let mut connection = connection();
    receive(&mut connection, &ask_versions(1));
    receive(&mut connection, &(max as i32).to_be_bytes());
    assert_eq!(connection.under_way(), Some((max + 4, 4)));

    let mut connection = self::connection();
    receive(&mut connection, &ask_versions(1));
    let reason = refusal(&mut connection, &(max as i32 + 1).to_be_bytes());
    assert_eq!(reason.to_string(), "a request of 104857601 bytes was announced, at most 104857600 are taken");
}

#[test]
fn a_large_request_is_read_into_memory_that_grows_with_what_has_arrived() {
    let mut connection = connection();
    receive(&mut connection, &ask_versions(1));
    let large = produce_of(&[batch(3_000 * KIB)]);
    assert!(receive(&mut connection, &large[..64 * KIB]).is_empty());
    let mut arrived = 64 * KIB;
    let mut accepted = Vec::new();
    let mut reads = 0;
    while let Some(mut room) = connection.large_frame() {
        let bytes = room.remaining_mut();
        assert!(bytes <= 15 * arrived, "{bytes} bytes set aside after {arrived}");
        room.put_slice(&large[arrived..arrived + bytes]);
        arrived += bytes;
        reads += 1;
        connection.receive(&[], 0, &TopicCodecs::default(), &mut accepted).expect("the bytes are in order");
        assert_eq!(connection.under_way().map(|(_, there)| there), (arrived < large.len()).then_some(arrived));
    }
    assert_eq!((accepted.len(), arrived, reads), (1, large.len(), 2));
    let Request::Produce(produce) = &accepted[0].1 else { panic!("a produce request") };
    assert!(produce.topics[0].partitions[0].batch.is_ok());
}

#[test]
fn a_batch_keeps_at_most_twice_its_size_alive() {
    fn check(batches: &[usize], expect_shared: &[bool]) {
        let batches: Vec<Bytes> = batches.iter().map(|&bytes| batch(bytes)).collect();
        let request = Bytes::copy_from_slice(&produce_of(&batches)[4..]);
        let range = request.as_ptr_range();
        let limits = BatchLimits { batch_bytes_max: 1 << 20, decompressed_bytes_max: 1 << 20 };
        let Ok(Outcome::Asked { request: Request::Produce(produce), .. }) =
            request::read(request.clone(), &Str::EMPTY, &TopicCodecs::default(), &limits)
        else {
            panic!("a produce request")
        };
        let shared: Vec<bool> = produce.topics[0]
            .partitions
            .iter()
            .map(|partition| range.contains(&partition.batch.as_ref().expect("a sound batch").body().as_ptr()))
            .collect();
        assert_eq!(shared, expect_shared, "batches of {batches:?}");
    }
    check(&[300], &[true]);
    check(&[60_000], &[true]);
    check(&[60_000, 300], &[true, false]);
    check(&[300, 300, 300], &[false, false, false]);
}

/// What becomes of each batch of the first topic.
fn codes(request: &Request) -> Vec<Result<(), ErrorCode>> {
    let Request::Produce(produce) = request else { panic!("a produce request") };
    let batches = produce.topics[0].partitions.iter().map(|partition| partition.batch.as_ref());
    batches.map(|batch| batch.map(drop).map_err(|refused| refused.code)).collect()
}

#[test]
fn a_damaged_batch_is_refused_alone() {
    let good = batch(100);
    let mut bad = good.to_vec();
    *bad.last_mut().expect("not empty") ^= 1;
    let accepted = receive(&mut connection(), &produce_of(&[bad.into(), good, Bytes::new()]));
    assert_eq!(codes(&accepted[0].1), [Err(ErrorCode::CorruptMessage), Ok(()), Err(ErrorCode::InvalidRecord)]);
}

#[test]
fn a_produce_request_of_too_many_partitions_is_refused_as_a_whole_and_the_client_goes_on() {
    let many = |partitions: usize, acks| {
        let data = |index| produce::PartitionProduceData { index, records: Some(batch(1)) };
        let (first, second) = (0..7, 7..i32::try_from(partitions).expect("a few thousand"));
        let topic = |name: &'static str, partitions: std::ops::Range<i32>| produce::TopicProduceData {
            name: name.into(),
            partition_data: partitions.map(data).collect(),
            ..Default::default()
        };
        let topic_data = vec![topic("orders", first), topic("bills", second)];
        frame(9, 1, produce::ProduceRequest { acks, timeout_ms: 1, topic_data, ..Default::default() })
    };
    assert_eq!(receive(&mut greeted(), &many(10_000, -1)).len(), 1);

    let mut connection = greeted();
    let accepted = receive(&mut connection, &[many(10_001, -1), ask_versions(2)].concat());
    assert_eq!(accepted.len(), 1, "the node hears only of what comes behind");
    let mut answer = encoded(&mut connection).to_bytes();
    let (_, response) = wire::decode_response(ApiKey::Produce, 9, answer.split_off(4)).expect("an answer");
    let Response::Produce(response) = response else { panic!("{response:?}") };
    let topics = response.responses.iter().map(|topic| (topic.name.as_str(), topic.partition_responses.len()));
    assert_eq!(topics.collect::<Vec<_>>(), [("orders", 7), ("bills", 9_994)]);
    for (at, refused) in (0..).zip(response.responses.iter().flat_map(|topic| &topic.partition_responses)) {
        assert_eq!((refused.index, refused.error_code), (at, ErrorCode::PolicyViolation.code()));
        let message = refused.error_message.as_ref().expect("a reason");
        assert!(message.contains(&request::PRODUCED_PARTITIONS_MAX.to_string()), "{message}");
    }
    assert_eq!((connection.is_over(), connection.requests_in_flight()), (None, 1));

    // Nobody reads an answer: the client sees by its connection that something is lost.
    let mut connection = greeted();
    assert!(receive(&mut connection, &[many(10_001, 0), ask_versions(2)].concat()).is_empty());
    assert!(encoded(&mut connection).is_empty());
    let reason = connection.is_over().expect("nothing more is taken").to_string();
    assert_eq!(reason, "a produce request with acks=0 names 10001 partitions, at most 10000 are taken");
}

#[test]
fn what_the_batches_of_a_request_decompress_to_is_bounded_together() {
    fn check(batches: &[&Bytes], expect: &[Result<(), ErrorCode>]) {
        let limits = Limits { request_bytes_max: 10 << 20, ..Limits::default() };
        let mut connection = Connection::new(ConnId(0), ListenerId(0), "/10.0.0.1".into(), &limits);
        let batches: Vec<Bytes> = batches.iter().copied().cloned().collect();
        for request in 0..2 {
            let accepted = receive(&mut connection, &produce_of(&batches));
            assert_eq!(codes(&accepted[0].1), expect, "request {request} of {} batches", batches.len());
        }
    }
    const TOO_LARGE: Result<(), ErrorCode> = Err(ErrorCode::MessageTooLarge);
    let packed = |codec, bytes: usize| {
        BatchBuilder::new().codec(codec).record(Timestamp(1), None, Some(&vec![0; bytes])).build()
    };
    // One that announces a second record.
    let unsound = |batch: &Bytes| {
        let mut batch = batch.to_vec();
        batch[23..27].copy_from_slice(&1_i32.to_be_bytes());
        batch[57..61].copy_from_slice(&2_i32.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(batch)
    };
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let (small, large) = (packed(codec, 1 << 20), packed(codec, 6 << 20));
        check(&[&large, &small, &large, &small], &[Ok(()), Ok(()), TOO_LARGE, TOO_LARGE]);
        // Plain ones are bounded by the request, which has arrived.
        check(&[&large, &large, &batch(2 << 20)], &[Ok(()), TOO_LARGE, Ok(())]);
        // What is refused has been decompressed all the same.
        check(&[&unsound(&large), &large], &[Err(ErrorCode::InvalidRecord), TOO_LARGE]);
    }
}

#[test]
fn too_many_requests_in_flight_stop_the_reading_until_answers_leave() {
    let mut connection = connection();
    let mut accepted = Vec::new();
    while connection.wants_read(0) {
        accepted.extend(receive(&mut connection, &ask_versions(0)));
    }
    assert_eq!(accepted.len(), REQUESTS_IN_FLIGHT_MAX);
    connection.respond(accepted[1].0, versions());
    encoded(&mut connection);
    assert!(!connection.wants_read(0), "the oldest is not answered");
    connection.respond(accepted[0].0, versions());
    encoded(&mut connection);
    assert!(connection.wants_read(0));
}

#[test]
fn too_many_bytes_in_flight_or_unsent_stop_the_reading() {
    let limits = Limits { connection_bytes_in_flight_max: 1000, ..Limits::default() };
    let mut connection = Connection::new(ConnId(0), ListenerId(0), "/10.0.0.1".into(), &limits);
    assert!(connection.wants_read(999) && !connection.wants_read(1000));
    let accepted = receive(&mut connection, &produce_of(&[batch(2000)]));
    assert!(!connection.wants_read(0), "one request alone may exceed what is allowed, then nothing is read");
    connection.respond(accepted[0].0, Some(produce::ProduceResponse::default().into()));
    encoded(&mut connection);
    assert!(connection.wants_read(0));
}

#[test]
fn an_answer_that_no_frame_can_hold_ends_its_connection_and_nothing_of_it_is_sent() {
    let mut connection = connection();
    let ask = frame(5, 1, describe_groups::DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() });
    let accepted = receive(&mut connection, &[ask_versions(0), ask].concat());
    connection.respond(accepted[0].0, versions());
    // Shared bytes: that takes no memory worth mentioning.
    let member_metadata = Bytes::from(vec![0; 1 << 20]);
    let member = describe_groups::DescribedGroupMember { member_metadata, ..Default::default() };
    let group = describe_groups::DescribedGroup { members: vec![member; 2048], ..Default::default() };
    let response = describe_groups::DescribeGroupsResponse { groups: vec![group], ..Default::default() };
    connection.respond(accepted[1].0, Some(response.into()));
    let mut writer = Writer::new();
    let reason = connection.encode(&mut writer).expect_err("there are 2 GiB of metadata alone");
    assert!(reason.to_string().contains("an answer to DescribeGroups would have 21475"), "{reason}");
    assert!(writer.is_empty());
}

fn ask_records(correlation_id: i32) -> Vec<u8> {
    frame(11, correlation_id, fetch::FetchRequest::default())
}

fn no_records() -> Option<Response> {
    Some(fetch::FetchResponse::default().into())
}

/// An answer with so many bytes of records.
fn records(bytes: usize) -> Option<Response> {
    let data = fetch::PartitionData { records: Some(Bytes::from(vec![7; bytes]).into()), ..Default::default() };
    let topic = fetch::FetchableTopicResponse { partitions: vec![data], ..Default::default() };
    Some(fetch::FetchResponse { responses: vec![topic], ..Default::default() }.into())
}

/// Has `connection` go on until it waits for an answer, with all of them sent at once.
fn go_on(connection: &mut Connection) -> Vec<(ReplyTo, Request)> {
    let mut accepted = Vec::new();
    while connection.may_go_on(0) {
        accepted.extend(receive(connection, &[]));
    }
    accepted
}

#[test]
fn answers_that_may_outgrow_their_requests_are_asked_for_one_after_another() {
    let stream = [ask_versions(0), ask_records(1), ask_versions(2), ask_records(3), ask_versions(4), ask_records(5)];
    let stream = stream.concat();
    for cut in 0..=stream.len() {
        let mut connection = connection();
        let mut accepted = receive(&mut connection, &stream[..cut]);
        accepted.extend(receive(&mut connection, &stream[cut..]));
        let mut handed_over = vec![accepted.len()];
        let mut seen = Vec::new();
        while !accepted.is_empty() {
            for (to, request) in accepted.drain(..) {
                let is_fetch =
                    matches!(&request, Request::Other(request) if matches!(**request, wire::Request::Fetch(_)));
                connection.respond(to, if is_fetch { no_records() } else { versions() });
                assert!(!connection.may_go_on(0), "the answer is not encoded yet");
            }
            seen.extend(correlation_ids(&encoded(&mut connection)));
            accepted = go_on(&mut connection);
            handed_over.push(accepted.len());
        }
        assert_eq!(handed_over, [3, 2, 1, 0], "cut at {cut}");
        assert_eq!(seen, [0, 1, 2, 3, 4, 5], "cut at {cut}");
        assert_eq!((connection.bytes_in_flight(), connection.requests_in_flight()), (0, 0));
    }
}

#[test]
fn nothing_that_may_outgrow_is_asked_for_while_too_much_is_unsent() {
    let max = Limits::default().connection_bytes_in_flight_max;
    let mut connection = connection();
    let accepted = receive(&mut connection, &ask_records(1).repeat(2));
    connection.respond(accepted[0].0, no_records());
    encoded(&mut connection);
    assert!(!connection.may_go_on(max) && connection.may_go_on(max - 1));

    let mut taken = Vec::new();
    connection.receive(&ask_records(3), max, &TopicCodecs::default(), &mut taken).expect("the bytes are in order");
    assert!(taken.is_empty() && !connection.wants_read(max));
    assert_eq!(go_on(&mut connection).len(), 1);

    let mut connection = self::connection();
    connection.receive(&ask_records(1), max, &TopicCodecs::default(), &mut taken).expect("the bytes are in order");
    assert!(taken.is_empty(), "nor is a first one");
}

#[test]
fn the_node_is_told_of_an_answer_with_much_when_its_last_byte_has_left() {
    let mut connection = connection();
    let most = boundary::TOLD_FROM_BYTES - boundary::PARTITION_BYTES;
    for (bytes, is_told) in [(most, true), (most - 1, false)] {
        let accepted = receive(&mut connection, &[ask_records(1), ask_versions(2)].concat());
        assert_eq!(connection.next_sent(0), None);
        connection.respond(accepted[0].0, records(bytes));
        encoded(&mut connection);
        connection.respond(accepted[1].0, versions());
        let behind = encoded(&mut connection).len();
        assert_eq!(connection.next_sent(behind + 1), None);
        assert_eq!(connection.next_sent(behind), is_told.then_some(accepted[0].0.sequence));
        assert_eq!(connection.next_sent(0), None, "it is told once");
    }
}

#[test]
fn the_node_is_told_of_the_very_answer_with_much_among_those_that_leave_together() {
    let mut connection = connection();
    for _ in 0..2 {
        let accepted = receive(&mut connection, &[ask_versions(1), ask_records(2), ask_versions(3)].concat());
        connection.respond(accepted[1].0, records(boundary::TOLD_FROM_BYTES));
        connection.respond(accepted[2].0, versions());
        connection.respond(accepted[0].0, versions());
        assert_eq!(correlation_ids(&encoded(&mut connection)), [1, 2, 3]);
        assert_eq!(connection.next_sent(0), Some(accepted[1].0.sequence));
    }
}

#[test]
fn a_client_whose_requests_are_held_back_is_read_on_for_a_little() {
    let mut connection = connection();
    let mut accepted = receive(&mut connection, &ask_records(1).repeat(2));
    let further = ask_records(1);
    let mut sent = 2;
    while connection.wants_read(0) {
        assert!(receive(&mut connection, &further).is_empty());
        sent += 1;
    }
    let behind = (sent - 2) * further.len();
    assert!((64 * KIB..65 * KIB).contains(&behind), "{behind} bytes");
    assert_eq!(connection.bytes_in_flight(), behind + 2 * (further.len() - 4));

    let mut answered = 0;
    while let Some((to, _)) = accepted.pop() {
        connection.respond(to, no_records());
        answered += correlation_ids(&encoded(&mut connection)).len();
        accepted = go_on(&mut connection);
    }
    assert_eq!(answered, sent);
    assert!(connection.wants_read(0));
}

#[test]
fn small_requests_behind_one_that_is_held_back_come_out_sound() {
    let stream = [ask_records(1).repeat(2), produce_of(&[batch(300)]).repeat(100), ask_versions(3)].concat();
    let mut connection = connection();
    let accepted = receive(&mut connection, &stream);
    assert_eq!(accepted.len(), 1);
    connection.respond(accepted[0].0, no_records());
    encoded(&mut connection);
    let accepted = go_on(&mut connection);
    let sound = accepted.iter().filter(
        |(_, request)| matches!(request, Request::Produce(produce) if produce.topics[0].partitions[0].batch.is_ok()),
    );
    assert_eq!((accepted.len(), sound.count()), (102, 100));
}

#[test]
fn what_cannot_be_served_ends_the_connection_only_when_its_turn_has_come() {
    fn check(last: Vec<u8>, expect: &str) {
        let mut connection = connection();
        let accepted = receive(&mut connection, &[ask_records(1), ask_records(2), last].concat());
        connection.respond(accepted[0].0, no_records());
        encoded(&mut connection);
        let mut accepted = Vec::new();
        let failed = connection.receive(&[], 0, &TopicCodecs::default(), &mut accepted).err();
        assert_eq!(accepted.len(), 1, "what came before counts");
        connection.respond(accepted[0].0, no_records());
        encoded(&mut connection);
        // A version that is not spoken is answered; asked of an API whose answers may outgrow, it waits as they do.
        assert!(go_on(&mut connection).is_empty());
        encoded(&mut connection);
        let reason = failed.as_ref().or(connection.is_over()).expect("it is over");
        assert_eq!(reason.to_string(), expect);
        assert_eq!((connection.bytes_in_flight(), connection.may_go_on(0)), (0, false));
    }
    check(bare(999, 0, 3), "unknown API key 999 (version 0)");
    check(bare(2, 99, 3), "version 99 of ListOffsets is not supported");
    check([bare(3, 99, 3), ask_records(4)].concat(), "version 99 of Metadata is not supported");
}

#[test]
#[should_panic(expected = "a request is answered once")]
fn a_second_answer_is_a_mistake_of_ours() {
    let mut connection = connection();
    let accepted = receive(&mut connection, &ask_versions(1));
    connection.respond(accepted[0].0, versions());
    connection.respond(accepted[0].0, versions());
}

#[test]
fn a_member_is_known_by_what_its_client_says_and_where_it_connects_from() {
    let ask = |client_id, request: wire::Request| {
        let mut connection = connection();
        let mut accepted = receive(&mut connection, &frame_of(client_id, 0, 1, request));
        accepted.pop().expect("one request").1
    };
    let join = || join_group::JoinGroupRequest::default().into();
    let Request::Member { client, request } = ask(Some("reader"), join()) else { panic!("a member's request") };
    assert!(matches!(*request, wire::Request::JoinGroup(_)));
    assert_eq!((&*client.id, &*client.host), ("reader", "/10.0.0.1"));
    let Request::Member { client, .. } = ask(None, join()) else { panic!("a member's request") };
    assert_eq!(&*client.id, "");
    let heartbeat = consumer_group_heartbeat::ConsumerGroupHeartbeatRequest::default().into();
    assert!(matches!(ask(Some("reader"), heartbeat), Request::Member { .. }));
}

#[test]
fn only_kafkas_own_tools_may_write_to_the_brokers_topics() {
    let may = |client_id| {
        let mut connection = connection();
        let request = produce::ProduceRequest { acks: -1, ..produce::ProduceRequest::default() };
        match receive(&mut connection, &frame_of(client_id, 3, 1, request)).pop() {
            Some((_, Request::Produce(produce))) => produce.may_write_internal,
            other => panic!("a produce request, not {other:?}"),
        }
    };
    assert!(may(Some("__admin_client")));
    assert!(!may(Some("__admin_client2")) && !may(Some("")) && !may(None));
}
