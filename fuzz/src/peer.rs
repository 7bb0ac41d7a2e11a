//! What a peer sends: frames as they come, and messages behind a frame that fits them.

use bytes::Bytes;
use chronik_core::peer::{self, FRAME_BYTES_MAX, HEADER_BYTES, Message};
use chronik_core::wire::Writer;

/// The first byte chooses: 0, and the rest is a stream of frames; more, and it is a message's kind, of which the rest is
/// the body. What is read is written, and is the same bytes.
pub fn body(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    if kind == 0 {
        frames(rest);
        return;
    }
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

/// The input that is read as this message.
pub fn input(message: &Message) -> Vec<u8> {
    let frame = written(message);
    [&frame[8..9], &frame[HEADER_BYTES..]].concat()
}
