//! Frames come back as they were sent, or are refused.

mod talking;

use bytes::Bytes;
use smallvec::smallvec;

use super::*;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, Session, TopicPartition, Uuid};
use crate::wire::{self, Writer};

const PARTITION: TopicPartition = TopicPartition { topic: Uuid([7; 16]), partition: 3 };

/// A message of each kind.
fn messages() -> Vec<Message> {
    let hello = Hello {
        cluster_id: "the-cluster".into(),
        node_id: NodeId(2),
        directory_id: Uuid([1; 16]),
        process: u64::MAX,
        format_first: 0,
        format_last: 1,
    };
    let address = Address { name: "PLAINTEXT".into(), host: "localhost".into(), port: 9092 };
    let acked = Acked {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(9),
        broker_epoch: BrokerEpoch(11),
        durable_end: Offset(100),
        end: Offset(120),
        start: Offset(10),
    };
    let append = Append {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(9),
        previous_end: Offset(100),
        high_watermark: Offset(90),
        start: Offset(10),
        batches: Batches::new(smallvec![Bytes::from_static(b"one batch, "), Bytes::from_static(b"and another")]),
    };
    let proposal = Proposal {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        partition_epoch: PartitionEpoch(6),
        attempt: 2,
        members: vec![Replica { node: NodeId(1), broker_epoch: BrokerEpoch(11) }],
    };
    let answer = |outcome| Answer {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        partition_epoch: PartitionEpoch(6),
        attempt: 2,
        outcome,
    };
    let greet =
        Greet { partition: PARTITION, leader_epoch: LeaderEpoch(5), session: Session(9), below: Offset(i64::MAX) };
    let epochs = Epochs {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(9),
        broker_epoch: BrokerEpoch(11),
        start: Offset(0),
        end: Offset(7),
        high_watermark: Offset(6),
        epochs: vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(5))],
    };
    let cut = Cut {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(9),
        to: Offset(5),
        starts_anew: false,
    };
    vec![
        Message::Hello(hello.clone()),
        Message::Welcome(hello),
        Message::Refused(Refused { reason: RefusedBecause::AnotherCluster, message: "not ours".into() }),
        Message::Metadata(Bytes::from_static(b"raft")),
        Message::Register(Register {
            node_id: NodeId(2),
            directory_id: Uuid([1; 16]),
            process: 1,
            broker_epoch: BrokerEpoch(9),
            listeners: vec![address.clone(), address],
            rack: Some("r".into()),
            peer_host: "b2".into(),
            peer_port: 9093,
        }),
        Message::Registered(Registered {
            process: 1,
            error_code: 0,
            message: None,
            broker_epoch: BrokerEpoch(11),
            index: 12,
        }),
        Message::Referral(Referral { node_id: NodeId(1), peer_host: "b1".into(), peer_port: 9093 }),
        Message::Heartbeat(Heartbeat {
            broker_epoch: BrokerEpoch(11),
            applied: 12,
            wants_fence: false,
            wants_stop: true,
            damaged: vec![Damaged { partition: PARTITION, leader_epoch: LeaderEpoch(5) }],
        }),
        Message::HeartbeatAnswer(HeartbeatAnswer {
            broker_epoch: BrokerEpoch(11),
            error_code: 41,
            is_fenced: true,
            may_stop: false,
        }),
        Message::Forward(Forward {
            id: 1,
            listener: "PLAINTEXT".into(),
            timeout_ms: 30_000,
            api_key: 19,
            api_version: 7,
            request: Bytes::from_static(b"request"),
        }),
        Message::Forwarded(Forwarded { id: 1, index: 13, response: Some(Bytes::from_static(b"response")) }),
        Message::Forwarded(Forwarded { id: 2, index: 0, response: None }),
        Message::AlterInSync(AlterInSync { term: 3, broker_epoch: BrokerEpoch(11), partitions: vec![proposal] }),
        Message::AlterInSyncAnswer(AlterInSyncAnswer {
            term: 3,
            partitions: vec![
                answer(ProposalOutcome::Committed),
                answer(ProposalOutcome::Stale),
                answer(ProposalOutcome::Ineligible),
            ],
        }),
        Message::Greet(vec![greet.clone(), greet]),
        Message::Epochs(vec![epochs]),
        Message::Cut(vec![cut]),
        Message::CutDone(vec![acked.clone()]),
        Message::Append(vec![append.clone(), Append { batches: Batches::default(), ..append }]),
        Message::Acked(vec![acked.clone(), acked.clone()]),
        Message::Mismatch(vec![acked]),
        Message::Acked(vec![]),
    ]
}

fn framed(message: &Message) -> Bytes {
    encode(message, &mut Writer::new()).concat().into()
}

/// Reads a frame that is there as a whole.
fn read(frame: &Bytes) -> Result<Message, Malformed> {
    let head = *frame.first_chunk().expect("a header");
    decode(&header(head, FRAME_BYTES_MAX)?, frame.slice(HEADER_BYTES..))
}

#[test]
fn a_message_comes_back_as_it_was_sent() {
    for message in messages() {
        assert_eq!(read(&framed(&message)), Ok(message));
    }
}

#[test]
fn no_bit_of_a_frame_changes_unseen() {
    for message in messages() {
        let frame = framed(&message);
        for bit in 0..frame.len() * 8 {
            let mut bytes = frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes.into()).is_err(), "{message:?}, bit {bit}");
        }
    }
}

#[test]
fn a_frame_that_ends_early_is_refused_wherever_it_ends() {
    for message in messages() {
        let frame = framed(&message);
        for body_bytes in 0..frame.len() - HEADER_BYTES {
            // With a checksum that fits, so that the fields themselves must notice.
            let cut = resealed(&frame, body_bytes);
            assert!(read(&cut).is_err(), "{message:?}, {body_bytes} bytes");
        }
    }
}

/// The first `body_bytes` of a frame's body, under a header that fits them.
fn resealed(frame: &Bytes, body_bytes: usize) -> Bytes {
    let body = &frame[HEADER_BYTES..HEADER_BYTES + body_bytes];
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[8..12]), body);
    [&(body_bytes as u32).to_be_bytes()[..], &checksum.to_be_bytes(), &frame[8..12], body].concat().into()
}

#[test]
fn a_length_is_believed_only_as_far_as_there_are_bytes() {
    // A list of four billion greetings in four bytes.
    let frame = framed(&Message::Greet(vec![]));
    let mut bytes = frame.to_vec();
    bytes[HEADER_BYTES..].fill(0xff);
    let frame = resealed(&bytes.into(), 4);
    assert_eq!(read(&frame), Err(Malformed::Field(wire::Malformed::LengthPastEnd)));
}

#[test]
fn a_frame_larger_than_allowed_is_refused_by_its_header() {
    let frame = framed(&Message::Metadata(Bytes::from(vec![0; HELLO_BYTES_MAX])));
    let head = *frame.first_chunk().unwrap();
    let refused = Err(Malformed::FrameTooLarge { bytes: HELLO_BYTES_MAX + 4, limit: HELLO_BYTES_MAX });
    assert_eq!(header(head, HELLO_BYTES_MAX), refused);
    assert!(header(head, FRAME_BYTES_MAX).is_ok());
}

#[test]
fn kinds_and_versions_that_are_not_known_are_named() {
    let frame = framed(&Message::Metadata(Bytes::new()));
    let changed = |at: usize, byte| {
        let mut bytes = frame.to_vec();
        bytes[at] = byte;
        resealed(&bytes.into(), 4)
    };
    assert_eq!(read(&changed(8, 99)), Err(Malformed::UnknownKind(99)));
    assert_eq!(read(&changed(9, 1)), Err(Malformed::UnknownVersion { kind: 10, version: 1 }));
    assert_eq!(read(&changed(11, 1)), Err(Malformed::Reserved));
}

#[test]
fn batches_are_copied_neither_into_a_frame_nor_out_of_it() {
    let batch = Bytes::from(vec![1; 4096]);
    let append = Append {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(9),
        previous_end: Offset(0),
        high_watermark: Offset(0),
        start: Offset(0),
        batches: Batches::new(smallvec![batch.clone()]),
    };
    let slices = encode(&Message::Append(vec![append]), &mut Writer::new());
    assert!(slices.iter().any(|slice| slice.as_ptr() == batch.as_ptr()));

    let frame: Bytes = slices.concat().into();
    let Ok(Message::Append(parts)) = read(&frame) else { panic!("what was written is read") };
    assert!(frame.as_ptr_range().contains(&parts[0].batches.to_bytes().as_ptr()));
}
