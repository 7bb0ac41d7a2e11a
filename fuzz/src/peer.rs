//! What a peer sends: frames as they come, messages behind a frame that fits them, and whole connections.

use std::collections::BTreeMap;

use bytes::Bytes;
use chronik_core::boundary::{Neighbours, PeerInput};
use chronik_core::ids::{NodeId, Uuid};
use chronik_core::peer::{self, Acceptor, Begun, Dialler, Ended, FRAME_BYTES_MAX, HEADER_BYTES, Hello, Message};
use chronik_core::wire::Writer;

/// The first byte of what is said on one connection.
const CONNECTION: u8 = 0xff;

/// How much one step of a node takes.
const STEP_PARTITIONS_MAX: usize = 250;
const STEP_BATCHES_MAX: usize = 50;

/// The first byte chooses: 0, and the rest is a stream of frames; 255, and it is what is said on one connection; else it
/// is a message's kind, of which the rest is the body. What is read is written, and is the same bytes. What is heard does
/// not depend on where the stream is cut.
pub fn body(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    match kind {
        0 => frames(rest),
        CONNECTION => connection(rest),
        kind => message(kind, rest),
    }
}

fn message(kind: u8, rest: &[u8]) {
    // A checksum is not guessed: it is given, so that the fields themselves are tried.
    let head = head(kind, rest);
    let header = peer::header(head, FRAME_BYTES_MAX).expect("inputs are short");
    if let Ok(message) = peer::decode(&header, Bytes::copy_from_slice(rest)) {
        assert_eq!(written(&message), [&head[..], rest].concat());
    }
}

fn frames(mut stream: &[u8]) {
    while let Some((head, rest)) = stream.split_first_chunk::<HEADER_BYTES>() {
        let Ok(header) = peer::header(*head, FRAME_BYTES_MAX) else { return };
        let Some((body, rest)) = rest.split_at_checked(header.body_bytes) else { return };
        let Ok(message) = peer::decode(&header, Bytes::copy_from_slice(body)) else { return };
        assert_eq!(written(&message), [&head[..], body].concat());
        stream = rest;
    }
}

fn written(message: &Message) -> Vec<u8> {
    peer::encode(message, &mut Writer::new()).concat()
}

/// The header of a body, in version 0.
fn head(kind: u8, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    head[8] = kind;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[8..]), body);
    head[..4].copy_from_slice(&u32::try_from(body.len()).expect("inputs are short").to_be_bytes());
    head[4..8].copy_from_slice(&checksum.to_be_bytes());
    head
}

/// A byte that says how the stream is cut, then messages: kind, length of the body in two bytes, body. Checksums are
/// given, and a greeting that is welcome and whose answer was heard.
fn connection(data: &[u8]) {
    let Some((&stride, mut rest)) = data.split_first() else { return };
    let mut said = Vec::new();
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (body, after) = after.split_at(length);
        said.extend(head(kind, body));
        said.extend(body);
        rest = after;
    }
    // What is left is the beginning of a frame, or nonsense.
    said.extend(rest);

    let stream = [written(&Message::Hello(hello(1))), written(&Message::Begun(Begun)), said.clone()].concat();
    let whole = heard(&stream, stream.len());
    assert_eq!(whole, heard(&stream, usize::from(stride) + 1), "cut anywhere, a stream says the same");
    whole.0.iter().for_each(check_step);

    let mut dialler = Dialler::new(hello(1), NodeId(2), Some(Uuid([2; 16])));
    let answered = dialler.receive(&said);
    let mut cut = Dialler::new(hello(1), NodeId(2), Some(Uuid([2; 16])));
    let mut last = Ok(None);
    for piece in said.chunks(usize::from(stride) + 1) {
        last = cut.receive(piece);
        if last != Ok(None) {
            break;
        }
    }
    match (answered, last) {
        // Whatever follows the answer ends the connection, with the same read or a later one.
        (Err(Ended::OutOfTurn), Ok(Some(_)) | Err(Ended::OutOfTurn)) => {}
        (answered, last) => assert_eq!(answered, last),
    }
}

fn hello(node: u8) -> Hello {
    Hello {
        cluster_id: "cluster".into(),
        node_id: NodeId(node.into()),
        directory_id: Uuid([node; 16]),
        process: 1,
        format_first: peer::FORMAT_FIRST,
        format_last: peer::FORMAT_LAST,
    }
}

/// What a node is told of a stream that is read so many bytes at a time, and how it ends.
fn heard(stream: &[u8], step: usize) -> (Vec<PeerInput>, Option<Ended>) {
    let neighbours = Neighbours { me: hello(2), peers: BTreeMap::new() };
    let mut acceptor = Acceptor::new();
    let mut heard = Vec::new();
    for piece in stream.chunks(step) {
        if let Err(ended) = acceptor.receive(piece, &neighbours, &mut heard) {
            return (heard, Some(ended));
        }
    }
    (heard, None)
}

/// What one step of a node takes is bounded, and its batches are whole.
fn check_step(input: &PeerInput) {
    let PeerInput::Heard { message: Message::Append(parts), .. } = input else { return };
    assert!(parts.len() <= STEP_PARTITIONS_MAX);
    let batches = parts.iter().flat_map(|part| part.batches.placed());
    assert!(batches.clone().count() <= STEP_BATCHES_MAX);
    batches.for_each(|batch| assert!(chronik_core::batch::check(batch.bytes()).is_ok()));
}

/// The input in which these are said on one connection, read so many bytes at a time.
pub fn connection_input(messages: &[Message], step: u8) -> Vec<u8> {
    let mut input = vec![CONNECTION, step - 1];
    for message in messages {
        let frame = written(message);
        let body = &frame[HEADER_BYTES..];
        input.push(frame[8]);
        input.extend(u16::try_from(body.len()).expect("a short message").to_be_bytes());
        input.extend(body);
    }
    input
}

/// The input that is read as this message.
pub fn input(message: &Message) -> Vec<u8> {
    let frame = written(message);
    [&frame[8..9], &frame[HEADER_BYTES..]].concat()
}
