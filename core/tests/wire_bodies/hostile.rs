//! Bytes that nobody well-meaning sends.

use bytes::Bytes;
use chronik_core::wire::{RequestHeader, Writer, decode_request, decode_response, encode_request};

use super::entropy::Entropy;
use super::valid::{self, Strangers};
use super::{Message, Which};

/// Any bytes as a request, and as the response of an API chosen by them: read or refused, and what was read can be
/// written and read again. The body of the fuzz target.
pub fn any_frame(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    if let Ok((header, request)) = decode_request(frame.clone()) {
        let mut writer = Writer::new();
        encode_request(&header, &request, &mut writer);
        let written = writer.finish().to_bytes().slice(4..);
        assert_eq!(decode_request(written), Ok((header, request)));
    }
    let mut entropy = Entropy::new(data);
    let all = Which::all();
    let which = all[entropy.below(all.len())];
    let _ = decode_response(which.api_key, which.version, frame);
}

/// Any bytes as the body of one message.
pub fn any_body(which: Which, data: &[u8]) {
    if let Ok((message, _)) = which.decode(Bytes::copy_from_slice(data)) {
        assert_eq!(which.decode_whole(message.encode(which.version)), message, "{which:?}");
    }
}

/// A well-formed message of values chosen by `entropy`, cut at every byte: always refused, as its end is missing.
pub fn truncated(which: Which, entropy: &mut Entropy<'_>) {
    let body = Bytes::from(valid::body(which, entropy, Strangers::Yes));
    for length in 0..body.len() {
        assert!(which.decode(body.slice(..length)).is_err(), "{which:?} cut to {length} of {} bytes", body.len());
    }
}

/// A well-formed message with single bits turned over.
pub fn damaged(which: Which, entropy: &mut Entropy<'_>) {
    let body = valid::body(which, entropy, Strangers::No);
    for bit in 0..8 * body.len().min(200) {
        let mut damaged = body.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        any_body(which, &damaged);
    }
}

/// A whole request of `which`, if it is one, with its header and without its size prefix.
pub fn request_frame(which: Which, entropy: &mut Entropy<'_>) -> Option<Bytes> {
    let body = Bytes::from(valid::body(which, entropy, Strangers::No));
    let Message::Request(request) = which.decode_whole(body) else { return None };
    let header = RequestHeader {
        api_key: which.api_key.code(),
        api_version: which.version,
        correlation_id: 7,
        client_id: Some("hostile".into()),
    };
    let mut writer = Writer::new();
    encode_request(&header, &request, &mut writer);
    Some(writer.finish().to_bytes().slice(4..))
}
