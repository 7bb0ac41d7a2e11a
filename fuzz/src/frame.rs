//! A client's stream: what it asks for does not depend on how the network cuts it.

use bytes::{BufMut, Bytes};
use chronik_core::boundary::{ReplyTo, Request};
use chronik_core::connection::{CloseReason, Connection};
use chronik_core::ids::{ConnId, ListenerId};
use chronik_core::limits::Limits;
use chronik_core::topic_codecs::TopicCodecs;
use chronik_core::wire::{Str, Writer};

use crate::wire_bodies::hostile;

/// Where the client connects from.
const HOST: Str = Str::from_static("/10.0.0.1");

/// Small enough that an input reaches the limits: 16 KiB is where a frame is read into memory of its own.
const LIMITS: fn() -> Limits = || Limits {
    request_bytes_max: 48 << 10,
    request_bytes_max_before_handshake: 40 << 10,
    connection_bytes_in_flight_max: 64 << 10,
    ..Limits::default()
};

/// The first byte is a number of bytes, each of which is the length of a piece, less one; they are used in turn to cut
/// the rest, which is the stream. Lengths from 128 on count for 64 times as many bytes.
pub fn body(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let (lengths, stream) = rest.split_at(usize::from(count).min(rest.len()));
    let whole = delivered([stream]);
    assert_eq!(delivered(pieces(stream, lengths)), whole, "cut as by {lengths:?}");
    if stream.len() <= 512 {
        assert_eq!(delivered(stream.chunks(1)), whole, "byte by byte");
    }
    if let Some(frame) = stream.get(4..) {
        hostile::any_frame(frame);
    }
}

/// The input of a stream that is cut into pieces of these lengths in turn, each 1 to 128.
pub fn input(piece_bytes: &[u8], stream: &[u8]) -> Vec<u8> {
    let count = u8::try_from(piece_bytes.len()).expect("at most 255 lengths");
    let mut data = vec![count];
    data.extend(piece_bytes.iter().map(|bytes| bytes - 1));
    data.extend_from_slice(stream);
    data
}

fn pieces<'a>(mut stream: &'a [u8], lengths: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let length = |byte: u8| if byte < 128 { 1 + usize::from(byte) } else { 64 * (1 + usize::from(byte - 128)) };
    let lengths = if lengths.is_empty() { &[0] } else { lengths };
    let mut lengths = lengths.iter().cycle().map(move |&byte| length(byte));
    std::iter::from_fn(move || {
        let wanted = lengths.next().filter(|_| !stream.is_empty())?;
        let (piece, rest) = stream.split_at(wanted.min(stream.len()));
        stream = rest;
        Some(piece)
    })
}

/// What a connection made of a stream.
#[derive(Debug, PartialEq)]
struct Delivered {
    /// As `{:?}` shows them.
    requests: Vec<String>,
    closed: Option<CloseReason>,
    is_over: Option<CloseReason>,
    /// To what needs no node; the node's own answers are left out.
    answers: Bytes,
    /// What is left of it, where the stream goes on.
    under_way: Option<(usize, usize)>,
    requests_taken: u64,
}

fn delivered<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Delivered {
    let mut connection = Connection::new(ConnId(1), ListenerId(0), HOST, &LIMITS());
    let mut requests = Vec::new();
    let mut writer = Writer::new();
    let mut accepted = Vec::new();
    let mut closed = pieces.into_iter().find_map(|piece| receive(&mut connection, piece, &mut accepted).err());
    loop {
        let bytes_asked: usize = accepted.iter().map(|(_, request)| batch_bytes(request)).sum();
        assert!(bytes_asked <= connection.bytes_in_flight(), "batches are parts of their requests");
        for accepted in accepted.drain(..) {
            connection.respond(accepted.0, None);
            requests.push(format!("{accepted:?}"));
        }
        connection.encode(&mut writer).expect("answers are short");
        if closed.is_some() || !connection.may_go_on(0) {
            break;
        }
        closed = receive(&mut connection, &[], &mut accepted).err();
    }
    assert_eq!((connection.bytes_in_flight(), connection.requests_in_flight()), (0, 0), "all is answered");
    Delivered {
        requests,
        under_way: connection.under_way().filter(|_| closed.is_none() && connection.is_over().is_none()),
        closed,
        is_over: connection.is_over().cloned(),
        answers: writer.finish().to_bytes(),
        requests_taken: connection.requests_taken(),
    }
}

/// Takes a piece as the shell does: the rest of a large frame goes straight into its own memory.
fn receive(
    connection: &mut Connection,
    mut piece: &[u8],
    accepted: &mut Vec<(ReplyTo, Request)>,
) -> Result<(), CloseReason> {
    while let Some(mut room) = connection.large_frame().filter(|_| !piece.is_empty()) {
        let (now, later) = piece.split_at(room.remaining_mut().min(piece.len()));
        assert!(!now.is_empty(), "there is always room for the rest of a frame");
        room.put_slice(now);
        piece = later;
        connection.receive(&[], 0, &TopicCodecs::default(), accepted)?;
    }
    connection.receive(piece, 0, &TopicCodecs::default(), accepted)
}

fn batch_bytes(request: &Request) -> usize {
    let Request::Produce(produce) = request else { return 0 };
    let partitions = produce.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.filter_map(|partition| partition.batch.as_ref().ok()).map(|batch| batch.batch_bytes()).sum()
}
