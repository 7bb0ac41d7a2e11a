//! Bytes that others made: requests of real clients, and the answers of Apache Kafka.
//!
//! A decoder and an encoder that agree with each other may both be wrong. Here every captured frame is decoded and
//! encoded again, and must come out as it was. `shell/compat/golden` says how the frames are captured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use chronik_core::wire::{
    ApiKey, Undecodable, Writer, decode_request, decode_response, encode_request, encode_response,
};

/// Whose frames are responses; everyone else's are requests.
const BROKER: &str = "apache-kafka-4.3";

const GO: &str = "franz-go-1.22";
const JAVA: &str = "java-4.3";
const PYTHON: &str = "kafka-python-3.0";
const NODE: &str = "kafkajs-2.2";
const KCAT: &str = "kcat-1.7";
const RDKAFKA: &str = "librdkafka-2.12";

/// Which clients send it under their suites in `shell/compat`. A new API is asked for here by the compiler.
fn senders(api_key: ApiKey) -> &'static [&'static str] {
    match api_key {
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::FindCoordinator
        | ApiKey::JoinGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::ApiVersions
        | ApiKey::InitProducerId => &[GO, JAVA, PYTHON, NODE, KCAT, RDKAFKA],
        // kcat is no administrator.
        ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::DeleteRecords
        | ApiKey::DescribeConfigs
        | ApiKey::CreatePartitions
        | ApiKey::DeleteGroups => &[GO, JAVA, PYTHON, NODE, RDKAFKA],
        // Java's client is without it since 4.0.
        ApiKey::AlterConfigs => &[GO, PYTHON, NODE, RDKAFKA],
        ApiKey::OffsetForLeaderEpoch => &[GO, JAVA, PYTHON, RDKAFKA],
        ApiKey::DescribeLogDirs | ApiKey::IncrementalAlterConfigs | ApiKey::OffsetDelete => &[GO, JAVA, PYTHON],
        ApiKey::ConsumerGroupHeartbeat => &[GO, JAVA, RDKAFKA],
        ApiKey::ConsumerGroupDescribe => &[GO, JAVA],
        ApiKey::DescribeCluster | ApiKey::DescribeProducers | ApiKey::DescribeTopicPartitions => &[JAVA, PYTHON],
        // What Kafka's own tools ask of a cluster as a whole.
        ApiKey::ElectLeaders
        | ApiKey::AlterPartitionReassignments
        | ApiKey::ListPartitionReassignments
        | ApiKey::DescribeQuorum
        | ApiKey::UpdateFeatures
        | ApiKey::UnregisterBroker
        | ApiKey::AddRaftVoter
        | ApiKey::RemoveRaftVoter => &[JAVA],
    }
}

/// A file of captured frames, all of one API and version.
struct Capture {
    path: PathBuf,
    api_key: ApiKey,
    version: i16,
    /// Each with its length in front, as on the wire.
    frames: Vec<Bytes>,
}

/// What `speaker` said.
fn captures(speaker: &Path) -> Vec<Capture> {
    let files = fs::read_dir(speaker).expect("the golden folders are part of the repository");
    let mut paths: Vec<_> = files.map(|file| file.expect("a readable folder").path()).collect();
    paths.sort();
    paths.into_iter().map(capture).collect()
}

fn capture(path: PathBuf) -> Capture {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("names are ASCII");
    let (name, version) = stem.split_once("-v").expect("a file is called <Api>-v<version>.bin");
    let api_key = *ApiKey::ALL.iter().find(|api| api.name() == name).expect("only APIs that are served are captured");
    let version = version.parse().expect("a version is a number");
    let mut rest = Bytes::from(fs::read(&path).expect("a readable file"));
    let mut frames = Vec::new();
    while rest.has_remaining() {
        let length = (&rest[..4]).get_i32();
        frames.push(rest.split_to(4 + usize::try_from(length).expect("lengths are not negative")));
    }
    assert!(!frames.is_empty(), "{}: no frames", path.display());
    Capture { path, api_key, version, frames }
}

/// The folders of all clients, and that of the broker.
fn speakers() -> BTreeMap<String, PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = fs::read_dir(golden).expect("the golden folders are part of the repository");
    let named =
        |folder: fs::DirEntry| (folder.file_name().to_str().expect("names are ASCII").to_owned(), folder.path());
    folders.map(|folder| named(folder.expect("a readable folder"))).collect()
}

#[test]
fn requests_of_real_clients_are_encoded_as_they_were_decoded() {
    let mut speakers = speakers();
    speakers.remove(BROKER).expect("the broker's folder is there");
    assert!(speakers.len() >= 5, "clients: {:?}", speakers.keys());
    for capture in speakers.values().flat_map(|folder| captures(folder)) {
        for frame in &capture.frames {
            let name = capture.path.display();
            let (header, request) = match decode_request(frame.slice(4..)) {
                Ok(decoded) => decoded,
                // franz-go asks for the newest ApiVersions first and takes the answer's word for what there is.
                Err(Undecodable::UnsupportedVersion { api_key: ApiKey::ApiVersions, api_version, .. }) => {
                    assert_eq!((ApiKey::ApiVersions, api_version), (capture.api_key, capture.version), "{name}");
                    continue;
                }
                Err(undecodable) => panic!("{name}: {undecodable}"),
            };
            assert_eq!((request.api_key(), header.api_version), (capture.api_key, capture.version), "{name}");
            let mut writer = Writer::new();
            encode_request(&header, &request, &mut writer);
            assert_eq!(writer.finish().to_bytes(), frame, "{name}: {request:?}");
        }
    }
}

#[test]
fn answers_of_apache_kafka_are_encoded_as_they_were_decoded() {
    let broker = speakers().remove(BROKER).expect("the broker's folder is there");
    for capture in captures(&broker) {
        for frame in &capture.frames {
            let name = capture.path.display();
            let (correlation_id, response) = decode_response(capture.api_key, capture.version, frame.slice(4..))
                .unwrap_or_else(|malformed| panic!("{name}: {malformed}"));
            let mut writer = Writer::new();
            encode_response(&response, capture.version, correlation_id, &mut writer).expect("it is short");
            assert_eq!(writer.finish().to_bytes(), frame, "{name}: {response:?}");
        }
    }
}

#[test]
fn every_client_is_captured_in_each_api_that_it_sends() {
    let mut speakers = speakers();
    speakers.remove(BROKER).expect("the broker's folder is there");
    let mut captured: BTreeMap<ApiKey, BTreeSet<&str>> = BTreeMap::new();
    for (client, folder) in &speakers {
        for capture in captures(folder) {
            captured.entry(capture.api_key).or_default().insert(client);
        }
    }
    for &api_key in ApiKey::ALL {
        let senders: BTreeSet<_> = senders(api_key).iter().copied().collect();
        assert_eq!(captured.remove(&api_key).unwrap_or_default(), senders, "{api_key}: captured from, sent by");
    }
}

#[test]
fn apache_kafka_answers_in_every_version_that_a_client_asks_in() {
    let mut speakers = speakers();
    let broker = speakers.remove(BROKER).expect("the broker's folder is there");
    let answered: BTreeSet<_> = captures(&broker).iter().map(|answer| (answer.api_key, answer.version)).collect();
    for capture in speakers.values().flat_map(|folder| captures(folder)) {
        // A version of ApiVersions that nobody knows is answered in version 0.
        let version = if capture.api_key.versions().contains(&capture.version) { capture.version } else { 0 };
        assert!(answered.contains(&(capture.api_key, version)), "{}: no answer", capture.path.display());
    }
}

#[test]
fn every_api_is_captured_from_some_client_in_its_highest_version() {
    let mut speakers = speakers();
    speakers.remove(BROKER).expect("the broker's folder is there");
    let captured: Vec<_> = speakers.values().flat_map(|folder| captures(folder)).collect();
    for &api_key in ApiKey::ALL {
        let highest = *api_key.versions().end();
        let found = captured.iter().any(|capture| capture.api_key == api_key && capture.version == highest);
        assert!(found, "{api_key} version {highest}");
    }
}
