//! The codec against bytes that nobody well-meaning sends: it never panics, and never takes a length at its word.

mod wire_bodies;

use bytes::Bytes;
use chronik_core::wire::{
    ApiKey, MEMORY_ALWAYS, MEMORY_PER_BYTE, Malformed, Request, RequestHeader, Undecodable, Writer, decode_request,
    decode_request_counted, describe_producers, encode_request,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wire_bodies::entropy::Entropy;
use wire_bodies::{Which, hostile};

fn bytes(random: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn random_frames_are_read_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for round in 0..20_000 {
        let mut frame = bytes(&mut random, round % 200);
        // Half of them get past the header.
        if round % 2 == 0 && frame.len() > 8 {
            let api_key = ApiKey::ALL[usize::from(frame[0]) % ApiKey::ALL.len()];
            frame[..2].copy_from_slice(&api_key.code().to_be_bytes());
            frame[2..4].copy_from_slice(&api_key.versions().end().to_be_bytes());
            frame[8..10].copy_from_slice(&[0xff, 0xff]);
        }
        hostile::any_frame(&frame);
    }
}

#[test]
fn random_bodies_are_read_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for which in Which::all() {
        for length in 0..100 {
            hostile::any_body(which, &bytes(&mut random, length));
        }
    }
}

#[test]
fn a_message_cut_short_is_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for which in Which::all() {
        for _ in 0..2 {
            hostile::truncated(which, &mut Entropy::new(&bytes(&mut random, 150)));
        }
    }
}

#[test]
fn a_message_with_a_bit_turned_over_is_read_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for which in Which::all() {
        hostile::damaged(which, &mut Entropy::new(&bytes(&mut random, 150)));
    }
}

#[test]
fn a_request_cut_short_names_what_is_known_of_it() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for which in Which::all() {
        let choices = bytes(&mut random, 100);
        let Some(frame) = hostile::request_frame(which, &mut Entropy::new(&choices)) else { continue };
        for length in 0..frame.len() {
            let refused = decode_request(frame.slice(..length)).expect_err("the end is missing");
            match refused {
                Undecodable::Header(_) => assert!(length < 8 + 2 + 7 + 1, "{which:?} cut to {length}"),
                Undecodable::Body { api_key, header, position, .. } => {
                    assert_eq!((api_key, header.correlation_id), (which.api_key, 7));
                    assert!(position <= length);
                }
                other => panic!("{which:?} cut to {length}: {other}"),
            }
        }
    }
}

/// A request as it comes, without its size.
fn frame(version: i16, request: impl Into<Request>) -> Bytes {
    let request = request.into();
    let header = RequestHeader { api_key: request.api_key().code(), api_version: version, ..Default::default() };
    let mut writer = Writer::new();
    encode_request(&header, &request, &mut writer);
    writer.finish().to_bytes().slice(4..)
}

/// Reads a request, which must keep to what its length lets it take.
fn read(version: i16, request: impl Into<Request>) -> Result<usize, Malformed> {
    let frame = frame(version, request);
    let bytes = frame.len();
    match decode_request_counted(frame) {
        Ok((_, _, memory)) => {
            assert!(memory <= MEMORY_PER_BYTE * bytes + MEMORY_ALWAYS, "{memory} bytes for {bytes}");
            Ok(memory)
        }
        Err(Undecodable::Body { malformed, .. }) => Err(malformed),
        Err(other) => panic!("{other}"),
    }
}

const HOSTILE: usize = 900_000;

#[test]
fn elements_of_nearly_no_bytes_are_refused_before_they_take_memory() {
    use chronik_core::wire::*;
    fn check(version: i16, request: impl Into<Request>) {
        assert_eq!(read(version, request), Err(Malformed::TooMuchMemory));
    }
    let topics = vec![metadata::MetadataRequestTopic { name: Some(Str::EMPTY), ..Default::default() }; HOSTILE];
    check(9, metadata::MetadataRequest { topics: Some(topics), ..Default::default() });
    check(4, fetch::FetchRequest { topics: vec![Default::default(); HOSTILE], ..Default::default() });
    check(7, create_topics::CreateTopicsRequest { topics: vec![Default::default(); HOSTILE], ..Default::default() });
    check(9, offset_commit::OffsetCommitRequest { topics: vec![Default::default(); HOSTILE], ..Default::default() });
    check(5, delete_topics::DeleteTopicsRequest { topic_names: vec![Str::EMPTY; HOSTILE], ..Default::default() });
    check(5, describe_groups::DescribeGroupsRequest { groups: vec![Str::EMPTY; HOSTILE], ..Default::default() });
    check(
        4,
        find_coordinator::FindCoordinatorRequest { coordinator_keys: vec![Str::EMPTY; HOSTILE], ..Default::default() },
    );
    check(9, produce::ProduceRequest { topic_data: vec![Default::default(); HOSTILE], ..Default::default() });
    check(
        2,
        describe_configs::DescribeConfigsRequest { resources: vec![Default::default(); HOSTILE], ..Default::default() },
    );
    // However the many are spread over arrays in arrays.
    let assignment = create_topics::CreatableReplicaAssignment { broker_ids: vec![1], ..Default::default() };
    let assigned = create_topics::CreatableTopic { assignments: vec![assignment; 1_000], ..Default::default() };
    check(7, create_topics::CreateTopicsRequest { topics: vec![assigned; 400], ..Default::default() });
    let key = describe_configs::DescribeConfigsResource {
        configuration_keys: Some(vec![Str::EMPTY; 1_000]),
        ..Default::default()
    };
    check(4, describe_configs::DescribeConfigsRequest { resources: vec![key; 400], ..Default::default() });
}

#[test]
fn the_largest_requests_that_make_sense_are_read() {
    use chronik_core::wire::*;
    const PARTITIONS: usize = 100_000;
    let name = || Str::from("a-topic-of-many-partitions");
    let fetched =
        fetch::FetchTopic { topic: name(), partitions: vec![Default::default(); PARTITIONS], ..Default::default() };
    for version in [4, 12] {
        assert!(read(version, fetch::FetchRequest { topics: vec![fetched.clone()], ..Default::default() }).is_ok());
    }
    let partition =
        offset_commit::OffsetCommitRequestPartition { committed_metadata: Some(Str::EMPTY), ..Default::default() };
    let committed = offset_commit::OffsetCommitRequestTopic {
        name: name(),
        partitions: vec![partition; PARTITIONS],
        ..Default::default()
    };
    let commit = offset_commit::OffsetCommitRequest { topics: vec![committed], ..Default::default() };
    assert!(read(8, commit).is_ok());
    let listed = list_offsets::ListOffsetsTopic { name: name(), partitions: vec![Default::default(); PARTITIONS] };
    assert!(read(7, list_offsets::ListOffsetsRequest { topics: vec![listed], ..Default::default() }).is_ok());
    let named = (0..PARTITIONS).map(|number| metadata::MetadataRequestTopic {
        name: Some(format!("topic-{number:06}").as_str().into()),
        ..Default::default()
    });
    assert!(read(9, metadata::MetadataRequest { topics: Some(named.collect()), ..Default::default() }).is_ok());
    let assignment = create_topics::CreatableReplicaAssignment { broker_ids: vec![1], ..Default::default() };
    let created =
        create_topics::CreatableTopic { name: name(), assignments: vec![assignment; 20_000], ..Default::default() };
    assert!(read(7, create_topics::CreateTopicsRequest { topics: vec![created], ..Default::default() }).is_ok());
    // Names of two letters, by the ten thousand.
    let short = delete_topics::DeleteTopicsRequest { topic_names: vec![Str::from("ab"); 30_000], ..Default::default() };
    assert!(read(5, short).is_ok());
}

#[test]
fn arrays_stop_at_a_million_elements() {
    // DescribeProducers: partitions as plain numbers take no more memory than bytes.
    let asked = |count| {
        let topic = describe_producers::TopicRequest { partition_indexes: vec![0; count], ..Default::default() };
        describe_producers::DescribeProducersRequest { topics: vec![topic] }
    };
    assert!(read(0, asked(999_999)).is_ok());
    assert_eq!(read(0, asked(1_000_000)), Err(Malformed::TooManyElements));
}
