//! Both ends of a connection, stepped by hand.

use std::collections::BTreeMap;

use bytes::BufMut;
use smallvec::SmallVec;

use super::*;
use crate::batch::BatchBuilder;
use crate::boundary::{Neighbour, Neighbours, PeerInput};
use crate::limits::BATCH_BYTES_MAX;
use crate::time::Timestamp;

const DIALS: NodeId = NodeId(1);
const LISTENS: NodeId = NodeId(2);

fn hello(node_id: NodeId, cluster_id: &str) -> Hello {
    Hello {
        cluster_id: cluster_id.into(),
        node_id,
        directory_id: Uuid([node_id.0 as u8; 16]),
        process: 77,
        format_first: FORMAT_FIRST,
        format_last: FORMAT_LAST,
    }
}

/// The listening broker, which knows the other's data folder.
fn neighbours(cluster_id: &str) -> Neighbours {
    let dials = Neighbour { host: "localhost".into(), port: 9192, directory_id: Some(Uuid([1; 16])) };
    Neighbours { me: hello(LISTENS, cluster_id), peers: BTreeMap::from([(DIALS, dials)]) }
}

fn dialler(me: Hello) -> Dialler {
    Dialler::new(me, LISTENS, Some(Uuid([2; 16])))
}

fn bytes(slices: impl IntoIterator<Item = Bytes>) -> Vec<u8> {
    slices.into_iter().flatten().collect()
}

fn said(dialler: &Dialler, message: Message) -> Vec<u8> {
    let mut slices = Vec::new();
    dialler.say(message, &mut Writer::new(), &mut slices);
    bytes(slices)
}

/// What comes of two that meet: what the listener's node is told, and what the dialler's is or why it ended.
fn meet(me: Hello, neighbours: &Neighbours) -> (Vec<PeerInput>, Result<Option<PeerInput>, Ended>) {
    let mut dialler = dialler(me);
    let mut acceptor = Acceptor::new();
    let mut heard = Vec::new();
    let ended = acceptor.receive(&bytes(dialler.hello(&mut Writer::new())), neighbours, &mut heard).err();
    let answer = acceptor.answer(&mut Writer::new()).map_or(Vec::new(), bytes);
    assert_eq!(heard, [], "nobody has arrived who cannot be answered yet");
    let connected = dialler.receive(&answer);
    assert_eq!(ended.is_some(), connected.is_err());
    if connected.is_ok() {
        acceptor.receive(&bytes(dialler.begun(&mut Writer::new())), neighbours, &mut heard).expect("its turn");
    }
    (heard, connected)
}

/// Two that have met.
fn met() -> (Dialler, Acceptor, Neighbours) {
    let (mut dialler, mut acceptor, neighbours) = (dialler(hello(DIALS, "c")), Acceptor::new(), neighbours("c"));
    acceptor.receive(&bytes(dialler.hello(&mut Writer::new())), &neighbours, &mut Vec::new()).expect("they may talk");
    let answer = bytes(acceptor.answer(&mut Writer::new()).expect("a welcome"));
    assert!(dialler.receive(&answer).expect("it is whom it meant").is_some());
    acceptor.receive(&bytes(dialler.begun(&mut Writer::new())), &neighbours, &mut Vec::new()).expect("its turn");
    (dialler, acceptor, neighbours)
}

fn listen(acceptor: &mut Acceptor, neighbours: &Neighbours, stream: &[u8]) -> Result<Vec<Message>, Ended> {
    let mut heard = Vec::new();
    acceptor.receive(stream, neighbours, &mut heard)?;
    Ok(heard
        .into_iter()
        .map(|input| match input {
            PeerInput::Heard { from: DIALS, process: 77, message } => message,
            other => panic!("{other:?} where something was said"),
        })
        .collect())
}

fn append(base: i64, batches: &[Vec<u8>]) -> Append {
    Append {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(5),
        session: Session(9),
        previous_end: Offset(base),
        high_watermark: Offset(0),
        start: Offset(0),
        batches: Batches::new(batches.iter().map(|batch| Bytes::from(batch.clone())).collect()),
    }
}

fn batch(base: i64, value: &[u8]) -> Vec<u8> {
    let batch = BatchBuilder::new().place(Offset(base), LeaderEpoch(5)).record(Timestamp(1), None, Some(value));
    batch.build().to_vec()
}

#[test]
fn brokers_of_one_cluster_introduce_themselves() {
    for (ours, theirs) in [("c", "c"), ("", "c"), ("c", ""), ("", "")] {
        let (heard, connected) = meet(hello(DIALS, ours), &neighbours(theirs));
        assert_eq!(heard, [PeerInput::Arrived(hello(DIALS, ours))]);
        assert_eq!(connected, Ok(Some(PeerInput::Connected(hello(LISTENS, theirs)))));
    }
}

#[test]
fn whoever_is_not_meant_is_refused_and_told_why() {
    let check = |me: Hello, neighbours: &Neighbours, reason, words: &str| {
        let (heard, ended) = meet(me, neighbours);
        assert_eq!(heard, [], "{words}");
        let Err(Ended::RefusedThere(refused)) = ended else { panic!("{ended:?} where {words:?} was to be said") };
        assert_eq!(refused.reason, reason);
        assert!(refused.message.contains(words), "{}", &*refused.message);
    };
    let ours = neighbours("ours");
    check(hello(DIALS, "theirs"), &ours, RefusedBecause::AnotherCluster, "node 2 is of cluster ours");
    check(hello(LISTENS, "ours"), &ours, RefusedBecause::AnotherNode, "node 2 is no other node");
    check(hello(NodeId(-1), "ours"), &ours, RefusedBecause::AnotherNode, "node -1");
    let wiped = Hello { directory_id: Uuid([9; 16]), ..hello(DIALS, "ours") };
    check(wiped, &ours, RefusedBecause::AnotherFolder, "remove-node");
    let later = Hello { format_first: FORMAT_LAST + 1, format_last: FORMAT_LAST + 2, ..hello(DIALS, "ours") };
    check(later, &ours, RefusedBecause::NoCommonFormat, "formats 0 to 0");
}

#[test]
fn a_node_that_is_not_known_yet_may_talk() {
    let (heard, connected) = meet(hello(NodeId(7), "c"), &neighbours("c"));
    assert_eq!(heard.len(), 1);
    assert!(connected.is_ok());
}

#[test]
fn whoever_answers_in_the_place_of_another_is_left() {
    let check = |answer: Message, expect: &str| {
        let mut dialler = dialler(hello(DIALS, "c"));
        let ended = dialler.receive(&framed(&answer)).expect_err("it is not whom it meant");
        assert!(ended.to_string().contains(expect), "{ended}");
        assert!(!dialler.is_speaking());
    };
    check(Message::Welcome(hello(NodeId(3), "c")), "node 3 answers where node 2 was to be");
    check(Message::Welcome(hello(LISTENS, "other")), "of cluster c, and node 2 of other");
    let wiped = Hello { directory_id: Uuid([9; 16]), ..hello(LISTENS, "c") };
    check(Message::Welcome(wiped), "known with the data folder");
    check(Message::Hello(hello(LISTENS, "c")), "no greeting");
    let refused = Refused { reason: RefusedBecause::AnotherCluster, message: "go\naway".into() };
    check(Message::Refused(refused), "refused by the other side: go\\naway");
}

#[test]
fn nothing_comes_back_but_the_answer() {
    let (mut dialler, ..) = met();
    assert_eq!(dialler.receive(&[]), Ok(None));
    assert_eq!(dialler.receive(&[0]), Err(Ended::OutOfTurn));
    let mut dialler = self::dialler(hello(DIALS, "c"));
    let twice = [framed(&Message::Welcome(hello(LISTENS, "c"))), Bytes::from_static(&[0])].concat();
    assert_eq!(dialler.receive(&twice), Err(Ended::OutOfTurn));
}

#[test]
fn what_is_said_is_heard_wherever_the_stream_is_cut() {
    let sound = append(100, &[batch(100, b"one"), batch(101, b"two")]);
    let all: Vec<Message> = messages()
        .into_iter()
        .skip(3)
        .map(
            |message| {
                if matches!(message, Message::Append(_)) { Message::Append(vec![sound.clone()]) } else { message }
            },
        )
        .collect();
    let (dialler, ..) = met();
    let stream: Vec<u8> = all.iter().flat_map(|message| said(&dialler, message.clone())).collect();
    for cut in 0..=stream.len() {
        let (_, mut acceptor, neighbours) = met();
        let mut heard = listen(&mut acceptor, &neighbours, &stream[..cut]).expect("sound frames");
        heard.extend(listen(&mut acceptor, &neighbours, &stream[cut..]).expect("sound frames"));
        assert_eq!(heard, all, "cut at {cut}");
        assert!(!acceptor.is_mid_frame());
    }
}

#[test]
fn a_large_frame_is_read_into_memory_of_its_own() {
    let (dialler, mut acceptor, neighbours) = met();
    let message = Message::Append(vec![append(0, &[batch(0, &vec![7; 3 << 20])])]);
    let stream = said(&dialler, message.clone());
    assert_eq!(listen(&mut acceptor, &neighbours, &stream[..64 << 10]), Ok(vec![]));
    let mut sent = 64 << 10;
    while let Some(mut room) = acceptor.large_frame() {
        let count = room.remaining_mut();
        room.put_slice(&stream[sent..sent + count]);
        sent += count;
        if sent == stream.len() {
            break;
        }
    }
    assert_eq!(listen(&mut acceptor, &neighbours, &[]), Ok(vec![message]));
}

#[test]
fn before_the_greeting_nothing_large_and_nothing_else_is_taken() {
    let large = framed(&Message::Metadata(Bytes::from(vec![0; HELLO_BYTES_MAX])));
    let told = framed(&Message::Acked(vec![]));
    for (stream, expect) in [
        (large, Ended::Malformed(Malformed::FrameTooLarge { bytes: HELLO_BYTES_MAX + 4, limit: HELLO_BYTES_MAX })),
        (told, Ended::NotGreeted),
    ] {
        let mut acceptor = Acceptor::new();
        let mut heard = Vec::new();
        assert_eq!(acceptor.receive(&stream, &neighbours("c"), &mut heard), Err(expect));
        assert_eq!((heard, acceptor.answer(&mut Writer::new())), (vec![], None));
    }
}

#[test]
fn whoever_speaks_before_it_has_heard_the_answer_is_not_listened_to() {
    let (mut acceptor, neighbours, mut heard) = (Acceptor::new(), neighbours("c"), Vec::new());
    let early = [framed(&Message::Hello(hello(DIALS, "c"))), framed(&Message::Acked(vec![]))].concat();
    assert_eq!(acceptor.receive(&early, &neighbours, &mut heard), Err(Ended::OutOfTurn));
    assert_eq!(heard, []);
}

#[test]
fn a_second_greeting_ends_the_connection() {
    let (_, mut acceptor, neighbours) = met();
    let again = framed(&Message::Hello(hello(DIALS, "c")));
    assert_eq!(listen(&mut acceptor, &neighbours, &again), Err(Ended::OutOfTurn));
}

#[test]
fn who_turns_out_to_be_of_another_cluster_is_not_listened_to_any_more() {
    let (_, mut acceptor, _) = met();
    let told = framed(&Message::Acked(vec![]));
    let ended = listen(&mut acceptor, &neighbours("other"), &told).expect_err("they are of two clusters");
    assert_eq!(ended.refused().map(|refused| refused.reason), Some(RefusedBecause::AnotherCluster));
}

#[test]
fn batches_that_are_not_whole_end_the_connection() {
    let check = |part: Append| {
        let (dialler, mut acceptor, neighbours) = met();
        let ended = listen(&mut acceptor, &neighbours, &said(&dialler, Message::Append(vec![part])));
        assert!(matches!(ended, Err(Ended::Batches { partition: PARTITION, .. })), "{ended:?}");
    };
    let mut damaged = batch(0, b"value");
    *damaged.last_mut().expect("not empty") ^= 1;
    check(append(0, &[batch(0, b"value"), damaged]));
    check(append(0, &[batch(0, b"value")[..60].to_vec()]));
    check(append(0, &[batch(5, b"later"), batch(4, b"earlier")]));
    check(append(0, &[batch(0, &vec![0; BATCH_BYTES_MAX as usize])]));
    let newer = BatchBuilder::new().place(Offset(0), LeaderEpoch(6)).record(Timestamp(1), None, None).build();
    check(append(0, &[newer.to_vec()]));
}

#[test]
fn what_is_handed_over_is_verified_one_by_one() {
    let (dialler, mut acceptor, neighbours) = met();
    let stream = said(&dialler, Message::Append(vec![append(3, &[batch(3, b"a"), batch(4, b"b")]), append(5, &[])]));
    let heard = listen(&mut acceptor, &neighbours, &stream).expect("sound batches");
    let [Message::Append(parts)] = &heard[..] else { panic!("one message") };
    let bases: Vec<Vec<i64>> = parts
        .iter()
        .map(|part| part.batches.placed().iter().map(|batch| batch.head().base_offset.0).collect())
        .collect();
    assert_eq!(bases, [vec![3, 4], vec![]]);
}

#[test]
#[should_panic(expected = "batches are verified")]
fn batches_that_nobody_verified_are_not_given_out() {
    append(0, &[batch(0, b"value")]).batches.placed();
}

#[test]
fn a_message_is_cut_into_what_a_step_takes() {
    let (dialler, mut acceptor, neighbours) = met();
    let many: Vec<Vec<u8>> = (0..120).map(|base| batch(base, b"x")).collect();
    let mut parts = vec![append(0, &many)];
    parts.extend((0..600).map(|_| append(9, &[])));
    let stream = said(&dialler, Message::Append(parts));
    let heard = listen(&mut acceptor, &neighbours, &stream).expect("sound batches");
    let mut seen = Vec::new();
    let mut pieces = Vec::new();
    let mut next = 0;
    for message in heard {
        let Message::Append(parts) = message else { panic!("only appends were said") };
        pieces.push((parts.len(), parts.iter().map(|part| part.batches.placed().len()).sum::<usize>()));
        for part in parts.iter().filter(|part| !part.batches.is_empty()) {
            assert_eq!(part.previous_end, Offset(next), "each piece follows the one before");
            next = part.batches.placed().last().expect("not empty").head().next_offset().0;
            seen.extend(part.batches.to_bytes());
        }
    }
    assert_eq!(pieces, [(1, 50), (1, 50), (250, 20), (250, 0), (101, 0)]);
    assert_eq!(seen, many.concat());

    let acked = messages().into_iter().find_map(|message| match message {
        Message::Acked(acked) => acked.first().cloned(),
        _ => None,
    });
    let acked = acked.expect("there is one");
    let heard = listen(&mut acceptor, &neighbours, &said(&dialler, Message::Acked(vec![acked; 501])));
    let counts: Vec<usize> = heard
        .expect("a sound message")
        .iter()
        .map(|message| if let Message::Acked(parts) = message { parts.len() } else { 0 })
        .collect();
    assert_eq!(counts, [250, 250, 1]);
}

#[test]
fn much_data_leaves_as_several_frames() {
    let (dialler, mut acceptor, neighbours) = met();
    let parts: Vec<Append> = (0..70).map(|_| append(0, &[batch(0, &vec![1; 700 << 10])])).collect();
    let total: usize = parts.iter().map(|part| part.batches.bytes()).sum();
    assert!(total > FRAME_BYTES_MAX);
    let mut slices: SmallVec<[Bytes; 4]> = SmallVec::new();
    dialler.say(Message::Append(parts), &mut Writer::new(), &mut slices);
    let heard = listen(&mut acceptor, &neighbours, &bytes(slices)).expect("sound batches");
    assert_eq!(heard.len(), 35);
}

/// All that a turn of a node has for a peer is one message, however many partitions it is about.
#[test]
fn a_message_about_thousands_of_partitions_goes_in_frames_that_are_taken() {
    fn check(message: Message, frames_min: usize) {
        let empty = Message::Acked(vec![]).payload_bytes();
        let payload = message.payload_bytes() - empty;
        let (mut frames, mut said) = (0, 0);
        message.into_frames(&mut |message| {
            let bytes: usize = encode(&message, &mut Writer::new()).iter().map(Bytes::len).sum();
            assert!(bytes < FRAME_BYTES_MAX / 8, "{bytes} bytes");
            frames += 1;
            said += message.payload_bytes() - empty;
        });
        assert_eq!(said, payload, "all of it is said");
        assert!(frames >= frames_min, "{frames} frames");
    }
    let (partition, leader_epoch, session, broker_epoch) = (PARTITION, LeaderEpoch(5), Session(9), BrokerEpoch(1));
    let (start, end) = (Offset(0), Offset(9));
    let epochs = vec![(LeaderEpoch(0), Offset(0)); EPOCHS_MAX];
    let told = Epochs { partition, leader_epoch, session, broker_epoch, start, end, high_watermark: end, epochs };
    check(Message::Epochs(vec![told; 5_000]), 4);
    let acked = Acked { partition, leader_epoch, session, broker_epoch, durable_end: end, end, start };
    check(Message::Acked(vec![acked; 100_000]), 6);
    let members = vec![Replica { node: NodeId(1), broker_epoch }; MEMBERS_MAX];
    let proposal = Proposal { partition, leader_epoch, partition_epoch: PartitionEpoch(1), attempt: 1, members };
    let alter = AlterInSync { term: 1, broker_epoch, partitions: vec![proposal; 500] };
    check(Message::AlterInSync(alter), 5);
}

#[test]
fn lists_that_no_broker_sends_end_the_connection() {
    let (dialler, mut acceptor, neighbours) = met();
    let epochs = |count| {
        let epochs = vec![(LeaderEpoch(0), Offset(0)); count];
        let (partition, leader_epoch, session) = (PARTITION, LeaderEpoch(5), Session(9));
        let (broker_epoch, start, end) = (BrokerEpoch(1), Offset(0), Offset(0));
        Message::Epochs(vec![Epochs {
            partition,
            leader_epoch,
            session,
            broker_epoch,
            start,
            end,
            high_watermark: end,
            epochs,
        }])
    };
    assert!(listen(&mut acceptor, &neighbours, &said(&dialler, epochs(EPOCHS_MAX))).is_ok());
    let ended = listen(&mut acceptor, &neighbours, &said(&dialler, epochs(EPOCHS_MAX + 1)));
    assert_eq!(ended, Err(Ended::ListTooLong));
}
