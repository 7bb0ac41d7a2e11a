//! Writes the first inputs of the corpus anew: real encodings, from our own writers and from captured bytes.
//!
//! `cargo run --package chronik-fuzz --example seeds`. Inputs of other names are left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use chronik_core::batch::{BatchBuilder, Codec};
use chronik_core::boundary::SegmentName;
use chronik_core::controller::records::{
    Listener, MetadataRecord, PartitionState, PeerAddress, Registration, Resource, Standing, encode_entry,
};
use chronik_core::group::record::{Record as GroupRecord, Value};
use chronik_core::ids::{
    BrokerEpoch, LeaderEpoch, Lsn, NodeId, Offset, PartitionEpoch, ProducerEpoch, ProducerId, Session, TopicPartition,
    Uuid,
};
use chronik_core::journal::{
    BLOCK_BYTES, Damage, Geometry, MemorySlots, Record, RecordKind, Start, Visitor, Writer, recover,
};
use chronik_core::log::{Log, Way};
use chronik_core::peer::{
    self, Acked, AlterInSync, AlterInSyncAnswer, Answer, Append, Batches, Cut, Damaged, Epochs, Forward, Forwarded,
    Greet, Heartbeat, Hello, Message, Proposal, ProposalOutcome, Register, Replica,
};
use chronik_core::raft::{self, Limits, Member, Membership, Options, Quorum, Restored};
use chronik_core::rng::Rng;
use chronik_core::time::Timestamp;
use chronik_core::wire::ApiKey;
use chronik_fuzz::{frame, group_record, log_state, message, segment};

fn main() {
    messages();
    frames();
    batches();
    choices("journal", &[0, 1], 600);
    journals();
    choices("segment", &[0], 400);
    segments();
    metadata();
    choices("log_state", &[0], 300);
    log_states();
    group_records();
    choices("raft_message", &[2], 600);
    raft_messages();
    peers();
}

fn write(target: &str, name: &str, input: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the corpus is writable");
    fs::write(folder.join(name), input).expect("the corpus is writable");
}

/// Inputs whose first byte is one of `modes` and whose others are choices.
fn choices(target: &str, modes: &[u8], length: usize) {
    for &mode in modes {
        for number in 0..4 {
            let mut random = Rng::from_number(number);
            let bytes: Vec<u8> = (0..length << number >> 2).map(|_| random.u64() as u8).collect();
            write(target, &format!("choices-{mode}-{number}"), &[&[mode], &bytes[..]].concat());
        }
    }
}

/// The captured frames of every client and of Kafka, each with its size in front: who sent them, the API, its version.
fn golden() -> Vec<(String, ApiKey, i16, Vec<Bytes>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/golden");
    let mut all = Vec::new();
    for speaker in fs::read_dir(folder).expect("the golden folders are part of the repository") {
        let speaker = speaker.expect("a readable folder");
        for file in fs::read_dir(speaker.path()).expect("a readable folder") {
            let path = file.expect("a readable folder").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("names are ASCII");
            let (name, version) = stem.split_once("-v").expect("a file is called <Api>-v<version>.bin");
            let api_key = *ApiKey::ALL.iter().find(|api| api.name() == name).expect("an API that is served");
            let mut rest = Bytes::from(fs::read(&path).expect("a readable file"));
            let mut frames = Vec::new();
            while let Some(size) = rest.first_chunk::<4>() {
                frames.push(rest.split_to(4 + i32::from_be_bytes(*size) as usize));
            }
            let speaker = speaker.file_name().into_string().expect("names are ASCII");
            all.push((speaker, api_key, version.parse().expect("a version is a number"), frames));
        }
    }
    all.sort();
    all
}

/// Whose frames are responses; everyone else's are requests.
const BROKER: &str = "apache-kafka-4.3";

/// Longer captures would make the corpus large and the fuzzer slow.
const INPUT_BYTES_MAX: usize = 2048;

fn messages() {
    choices("message", &[0, 2], 2000);
    let all = message::messages();
    for (speaker, api_key, version, frames) in golden() {
        let is_request = speaker != BROKER;
        let Some(at) = all.iter().position(|which| *which == (api_key.code(), version, is_request)) else { continue };
        let frame = frames[0].slice(4..);
        // What is behind the header is found where the header's own length leads to.
        let header = match is_request {
            true => {
                let client_id = i16::from_be_bytes([frame[8], frame[9]]).max(0) as usize;
                10 + client_id + usize::from(version >= api_key.flexible_from())
            }
            false => 4 + usize::from(version >= api_key.flexible_from() && api_key != ApiKey::ApiVersions),
        };
        if frame.len() <= INPUT_BYTES_MAX {
            write("message", &format!("{speaker}-{}-{version}", api_key.name()), &message::input(at, &frame[header..]));
        }
    }
}

fn frames() {
    // Short ones, so that the sizes in front of frames are cut at each of their bytes.
    let lengths = [1, 4, 2, 7, 3, 17];
    let mut streams: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (speaker, api_key, version, frames) in golden() {
        if speaker == BROKER || frames[0].len() > INPUT_BYTES_MAX {
            continue;
        }
        write("frame", &format!("{speaker}-{}-{version}", api_key.name()), &frame::input(&lengths, &frames[0]));
        streams.entry(speaker).or_default().extend_from_slice(&frames[0]);
    }
    for (speaker, stream) in streams {
        write("frame", &format!("{speaker}-all"), &frame::input(&lengths, &stream));
    }
    // A frame that is announced as large, after a request that lets the connection take it.
    let greeting = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let large = [&greeting[..], &20_000i32.to_be_bytes(), &greeting[4..], &[0; 1000]].concat();
    write("frame", "large-and-unfinished", &frame::input(&[30], &large));
}

fn batch(codec: Codec, base: i64) -> Bytes {
    BatchBuilder::new()
        .codec(codec)
        .place(Offset(base), LeaderEpoch(0))
        .producer(ProducerId(7), ProducerEpoch(0), base as i32)
        .record(Timestamp(1000), Some(b"key"), Some(b"value value value value"))
        .record_with_headers(Timestamp(999), None, Some(b"another"), &[(b"name", Some(b"x")), (b"null", None)])
        .record(Timestamp(-1), Some(b""), None)
        .build()
}

fn batches() {
    for codec in Codec::ALL {
        write("batch", &format!("three-records-{codec}"), &batch(codec, 0));
        if codec != Codec::None {
            let packed = chronik_core::batch::compress(codec, b"value value value value value value");
            write("batch", &format!("compressed-{codec}"), &[&[codec as u8], &packed[..]].concat());
        }
    }
    write("batch", "run-of-three", &run());
}

/// Three batches of three records.
fn run() -> Bytes {
    [0, 3, 6].map(|base| batch(Codec::None, base)).concat().into()
}

fn segments() {
    let run = run();
    let each = run.len() / 3;
    let entry = |at: usize| {
        let mut entry = [0; 32];
        entry[0..8].copy_from_slice(&(3 * at as u64).to_le_bytes());
        entry[8..16].copy_from_slice(&1000i64.to_le_bytes());
        entry[16..24].copy_from_slice(&((at * each) as u64).to_le_bytes());
        entry[24..28].copy_from_slice(&(each as u32).to_le_bytes());
        entry
    };
    write("segment", "files-of-three-batches", &segment::input(&[0, 1, 2].map(entry), &run));
}

fn metadata() {
    let id = Uuid([5; 16]);
    let listener = Listener { name: "PLAIN".into(), host: "localhost".into(), port: 9092 };
    let nodes = vec![NodeId(1), NodeId(2)];
    let state = PartitionState { leader_epoch: LeaderEpoch(3), partition_epoch: 4, ..PartitionState::new(nodes) };
    let moving = PartitionState {
        adding: vec![NodeId(2)],
        removing: vec![NodeId(1)],
        isr: vec![NodeId(1)],
        eligible: vec![NodeId(2)],
        unclean_epoch: Some(LeaderEpoch(3)),
        partition_epoch: 5,
        ..state.clone()
    };
    let registration = Registration {
        node_id: NodeId(1),
        directory_id: id,
        broker_epoch: 2,
        listeners: vec![listener],
        rack: Some("rack".into()),
        process: 0,
        peer_address: None,
        standing: Standing::Active,
    };
    let peer = Registration {
        node_id: NodeId(2),
        broker_epoch: 3,
        process: 7,
        peer_address: Some(PeerAddress { host: "k".into(), port: 9093 }),
        standing: Standing::Fenced,
        ..registration.clone()
    };
    let partition = TopicPartition { topic: id, partition: 0 };
    let (node_id, broker_epoch) = (NodeId(2), 3);
    let records = [
        MetadataRecord::FormatLevel { level: 1 },
        MetadataRecord::RegisterBroker(registration),
        MetadataRecord::Topic { id, name: "orders".into() },
        MetadataRecord::Partition { partition, state },
        MetadataRecord::Config { of: Resource::Topic(id), name: "retention.ms".into(), value: Some("1".into()) },
        MetadataRecord::Config { of: Resource::Broker(NodeId(1)), name: "retention.ms".into(), value: None },
        MetadataRecord::ProducerIds { node_id: NodeId(1), broker_epoch: 2, next: ProducerId(1000) },
        MetadataRecord::RegisterBroker(peer),
        MetadataRecord::Partition { partition, state: moving },
        MetadataRecord::ClusterId { id: "cluster".into() },
        MetadataRecord::UnfenceBroker { node_id, broker_epoch },
        MetadataRecord::BeginShutdown { node_id, broker_epoch },
        MetadataRecord::FenceBroker { node_id, broker_epoch },
        MetadataRecord::RemoveBroker { node_id },
        MetadataRecord::BrokerEpochs { last: 4 },
        MetadataRecord::CreatedWith { topic: id, replication_factor: 3 },
        MetadataRecord::ForgetEligible { topic: Some(id) },
        MetadataRecord::RemoveTopic { id },
    ];
    for (number, record) in records.iter().enumerate() {
        write("metadata", &format!("{number}-{}", record.kind()), &encode_entry([record]));
    }
    write("metadata", "all-in-one-entry", &encode_entry(&records));
}

/// Keeps nothing.
struct Deaf;

impl Visitor for Deaf {
    fn record(&mut self, _: &Record<'_>) -> Result<(), String> {
        Ok(())
    }

    fn damaged(&mut self, _: &Damage) -> Result<(), String> {
        Ok(())
    }
}

fn writer(journal: Uuid) -> Writer {
    let geometry = Geometry { file_bytes: 4 * BLOCK_BYTES, max_files: 4, reserve_bytes: 0 };
    let slots = MemorySlots::zeroed(1, geometry.file_bytes);
    let found = recover(&slots, &Start::fresh(journal), &mut Deaf).expect("zeros are an empty journal");
    Writer::resume(found, 1, geometry)
}

/// The one file of a journal of a few commits, as the target's files are: of four blocks.
fn journals() {
    for (name, kind, payload_bytes) in [("records", RecordKind::Append, 300), ("long", RecordKind::Metadata, 5000)] {
        let mut writer = writer(Uuid(*b"hostile journal "));
        let mut file = vec![0; 4 * BLOCK_BYTES as usize];
        for _ in 0..3 {
            let Some(commit) = writer.take_commit() else { break };
            let at = commit.position as usize;
            file[at..at + commit.data.len()].copy_from_slice(&commit.data);
            writer.committed(commit.number);
            let partition = TopicPartition { topic: Uuid([3; 16]), partition: 1 };
            writer.append(kind, partition, None, &[&vec![7; payload_bytes]]);
        }
        write("journal", &format!("files-{name}"), &[&[2], &file[..]].concat());
    }
}

fn log_states() {
    let partition = TopicPartition { topic: Uuid([9; 16]), partition: 2 };
    let empty = Log::new(partition);
    write("log_state", "empty", &log_state::input(&empty.encode(Lsn(u64::MAX)).concat()));
    let mut log = Log::new(partition);
    let mut journal = writer(Uuid([1; 16]));
    log.begin_epoch(LeaderEpoch(1), &mut journal);
    for sequence in 0..3 {
        let limits = chronik_core::batch::BatchLimits { batch_bytes_max: 1 << 20, decompressed_bytes_max: 1 << 20 };
        let bytes = BatchBuilder::new()
            .producer(ProducerId(7), ProducerEpoch(0), sequence)
            .record(Timestamp(1000), None, Some(b"value"))
            .build();
        let batch = chronik_core::batch::verify(bytes, &limits).expect("a sound batch");
        log.append(&batch, LeaderEpoch(1), Timestamp(2000), Way::Journal, &mut journal);
        log.roll(&mut journal);
    }
    write("log_state", "three-segments", &log_state::input(&log.encode(Lsn(u64::MAX)).concat()));
    let whole = log_state::input(&log.encode(Lsn(u64::MAX)).concat());
    let record = |kind: RecordKind, payload: &[u8]| -> Vec<u8> {
        [&[kind as u8, u8::try_from(payload.len()).expect("short")], payload].concat()
    };
    let cut = |to: i64, generation: u32| {
        let place = [to.to_le_bytes(), to.to_le_bytes()].concat();
        record(RecordKind::Truncate, &[&place[..], &generation.to_le_bytes(), &0_i64.to_le_bytes()].concat())
    };
    let anew = [&9_i64.to_le_bytes()[..], &(SegmentName::AFTER_CUT + 7).to_le_bytes()].concat();
    let anew = record(RecordKind::StartAnew, &anew);
    let cuts = [cut(2, SegmentName::AFTER_CUT + 1), cut(1, SegmentName::AFTER_CUT + 2)].concat();
    write("log_state", "three-segments-that-are-cut", &[&whole[..], &cuts, &anew].concat());
    log.cut(Offset(1), &mut journal);
    write("log_state", "a-log-that-was-cut", &log_state::input(&log.encode(Lsn(u64::MAX)).concat()));
}

/// Apache Kafka's records of one group of each kind, and what the members of the classic one say in them.
fn group_records() {
    let lines = include_str!("../../core/tests/group_records/apache-kafka-4.3.txt").lines().enumerate();
    let hex = |text: &str| -> Bytes {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits");
        (0..text.len()).step_by(2).map(byte).collect()
    };
    for (number, line) in lines {
        let (key, value) = line.split_once(' ').expect("a key and a value");
        if value == "-" {
            continue;
        }
        let (key, value) = (hex(key), hex(value));
        write("group_record", &format!("kafka-{:02}-{number:02}", key[1]), &group_record::input(&key, &value));
        let record = GroupRecord::decode(&key, Some(&value)).expect("Kafka's records are read");
        let Some(Value::Group(group)) = record.value else { continue };
        for (member, said) in group.members.iter().enumerate() {
            for (kind, bytes) in [("subscription", &said.subscription), ("assignment", &said.assignment)] {
                write("group_record", &format!("{kind}-{number:02}-{member}"), &group_record::input(&[], bytes));
            }
        }
    }
}

/// What two members say to each other and write down until one of them has committed something, the first of each kind.
fn raft_messages() {
    let member = |node: i32| Member { node: NodeId(node), directory: Uuid([node as u8; 16]) };
    let membership = Membership::of([member(1), member(2)]).expect("there are voters");
    let mut members = BTreeMap::from([1, 2].map(|node| {
        let (cluster, limits) = (Uuid([7; 16]), Limits::default());
        let me = member(node);
        let options = Options { cluster, me, seed: 1, restart: 1, election_ticks: 5, heartbeat_ticks: 1, limits };
        let quorum = Quorum::new(options, Restored::bootstrap(membership.clone())).expect("nothing is lost yet");
        (NodeId(node), quorum)
    }));
    let mut said = Vec::new();
    for round in 0..20 {
        let first = members.get_mut(&NodeId(1)).expect("it is there");
        match round {
            0 => first.campaign(),
            10 => _ = first.propose(Bytes::from_static(b"payload")).expect("it leads"),
            12 => _ = first.propose_membership([member(1), member(2)].into(), [member(3)].into()).expect("it leads"),
            _ => first.tick(),
        }
        let mut heard: Vec<(NodeId, NodeId, raft::Message)> = Vec::new();
        for (id, quorum) in &mut members {
            while let Some(ready) = quorum.take_ready() {
                for record in &ready.records {
                    let mut bytes = vec![1];
                    record.encode(&mut bytes);
                    write("raft_message", &format!("record-{}", bytes[2]), &bytes);
                }
                if !ready.records.is_empty() {
                    quorum.persisted(ready.number);
                }
                heard.extend(ready.sends.into_iter().map(|(to, message)| (*id, to, message)));
            }
        }
        for (from, to, message) in heard {
            let mut bytes = vec![0];
            message.encode(&mut bytes);
            if !said.contains(&message.kind()) {
                said.push(message.kind());
                write("raft_message", &format!("message-{}", message.kind().replace(' ', "-")), &bytes);
            }
            let Some(quorum) = members.get_mut(&to) else { continue };
            quorum.step(from, message).expect("honest members understand each other");
        }
    }
}

/// What brokers of one cluster say to each other.
fn peers() {
    let partition = TopicPartition { topic: Uuid([4; 16]), partition: 1 };
    let (leader_epoch, session, broker_epoch) = (LeaderEpoch(5), Session(6), BrokerEpoch(7));
    let replica = Replica { node: NodeId(2), broker_epoch };
    let acked = Acked {
        partition,
        leader_epoch,
        session,
        broker_epoch,
        durable_end: Offset(10),
        end: Offset(12),
        start: Offset(3),
    };
    let batch =
        BatchBuilder::new().place(Offset(12), leader_epoch).record(Timestamp(1000), None, Some(b"value")).build();
    let append = Append {
        partition,
        leader_epoch,
        session,
        previous_end: Offset(12),
        high_watermark: Offset(10),
        start: Offset(3),
        batches: Batches::new([batch].into_iter().collect()),
    };
    let hello = Hello {
        cluster_id: "cluster".into(),
        node_id: NodeId(1),
        directory_id: Uuid([1; 16]),
        process: 2,
        format_first: 0,
        format_last: 0,
    };
    let messages = [
        Message::Hello(hello.clone()),
        Message::Metadata(Bytes::from_static(b"raft")),
        Message::Register(Register {
            node_id: NodeId(1),
            directory_id: Uuid([1; 16]),
            process: 2,
            broker_epoch,
            listeners: vec![peer::Address { name: "PLAINTEXT".into(), host: "localhost".into(), port: 9092 }],
            rack: Some("rack".into()),
            peer_host: "b2".into(),
            peer_port: 9093,
        }),
        Message::Heartbeat(Heartbeat {
            broker_epoch,
            applied: 9,
            wants_fence: false,
            wants_stop: true,
            damaged: vec![Damaged { partition, leader_epoch }],
        }),
        Message::Forward(Forward {
            id: 3,
            listener: "PLAINTEXT".into(),
            timeout_ms: 1000,
            api_key: 19,
            api_version: 7,
            request: Bytes::from_static(b"request"),
        }),
        Message::Forwarded(Forwarded { id: 3, index: 11, response: Some(Bytes::from_static(b"response")) }),
        Message::AlterInSync(AlterInSync {
            term: 4,
            broker_epoch,
            partitions: vec![Proposal {
                partition,
                leader_epoch,
                partition_epoch: PartitionEpoch(8),
                attempt: 1,
                members: vec![replica],
            }],
        }),
        Message::AlterInSyncAnswer(AlterInSyncAnswer {
            term: 4,
            partitions: vec![Answer {
                partition,
                leader_epoch,
                partition_epoch: PartitionEpoch(8),
                attempt: 1,
                outcome: ProposalOutcome::Stale,
            }],
        }),
        Message::Greet(vec![Greet { partition, leader_epoch, session, below: Offset(i64::MAX) }; 2]),
        Message::Epochs(vec![Epochs {
            partition,
            leader_epoch,
            session,
            broker_epoch,
            start: Offset(3),
            end: Offset(12),
            high_watermark: Offset(8),
            epochs: vec![(LeaderEpoch(1), Offset(3)), (LeaderEpoch(4), Offset(9))],
        }]),
        Message::Cut(vec![Cut { partition, leader_epoch, session, to: Offset(12), starts_anew: false }]),
        Message::Append(vec![append.clone(), append.clone()]),
        Message::Acked(vec![acked.clone(), acked]),
    ];
    write("peer", "connection-1", &chronik_fuzz::peer::connection_input(&messages[1..], 1));
    write("peer", "connection-50", &chronik_fuzz::peer::connection_input(&messages[4..], 50));
    let welcome = Message::Welcome(Hello { node_id: NodeId(2), directory_id: Uuid([2; 16]), ..hello });
    write("peer", "connection-welcome", &chronik_fuzz::peer::connection_input(&[welcome], 7));
    let mut stream = vec![0];
    for (number, message) in messages.iter().enumerate() {
        write("peer", &format!("message-{number:02}"), &chronik_fuzz::peer::input(message));
        stream.extend(peer::encode(message, &mut chronik_core::wire::Writer::new()).concat());
    }
    write("peer", "stream", &stream);
}
