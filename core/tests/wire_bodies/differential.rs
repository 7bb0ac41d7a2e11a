//! Our codec against the crate `kafka-protocol`. That crate aborts on hostile lengths, so it is only fed well-formed
//! bytes.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use chronik_core::wire::{ApiKey, Kind, Schema};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};

use super::entropy::Entropy;
use super::tree::Tree;
use super::valid::{self, Strangers};
use super::{Message, Which};

/// Chooses a message and its values by `data` and compares. The body of the fuzz target.
pub fn any_message(data: &[u8]) {
    let all = Which::all();
    let mut entropy = Entropy::new(data);
    let which = all[entropy.below(all.len())];
    message(which, &mut entropy);
}

/// A message of values chosen by `entropy`: both codecs read the same values from it and write the same bytes; and we
/// read them the same where fields that nobody knows are among them.
pub fn message(which: Which, entropy: &mut Entropy<'_>) {
    let mut choices = [0; 4096];
    choices.iter_mut().for_each(|choice| *choice = entropy.byte());
    let made = |strangers| Bytes::from(valid::body(which, &mut Entropy::new(&choices), strangers));

    let body = made(Strangers::No);
    let ours = which.decode_whole(body.clone());
    assert_eq!(which.decode_whole(made(Strangers::Yes)), ours, "{which:?}: unknown tagged fields change nothing");

    let written = ours.encode(which.version);
    assert_eq!(which.decode_whole(written.clone()), ours, "{which:?}: what we write, we read");
    if which.version <= their_last(which) {
        let (theirs, their_bytes) = reencode(which, body);
        assert_eq!(written, their_bytes, "{which:?}: {ours:?}");
        let ours = match &ours {
            Message::Request(request) => Tree::parse(&format!("{request:?}")),
            Message::Response(response) => Tree::parse(&format!("{response:?}")),
        };
        same_struct(which, which.schema(), ours.inner(), theirs.inner());
    }
}

/// The last version that `kafka-protocol` reads and writes: it follows Kafka with a delay.
fn their_last(which: Which) -> i16 {
    // Their valid versions are those of the response, which is ahead of the request.
    match which.api_key {
        ApiKey::InitProducerId => 5,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch if which.is_request => 9,
        _ => their_newest_field(which),
    }
}

/// The last version of which they have all fields.
fn their_newest_field(which: Which) -> i16 {
    let key = TheirKey::try_from(which.api_key.code()).expect("they know all our keys");
    match which.api_key {
        ApiKey::InitProducerId => 5,
        _ => key.valid_versions().max,
    }
}

/// What they read from `body`, and what they write for it.
fn reencode(which: Which, mut body: Bytes) -> (Tree, Bytes) {
    let key = TheirKey::try_from(which.api_key.code()).expect("they know all our keys");
    let mut written = BytesMut::new();
    let tree = if which.is_request {
        let message = RequestKind::decode(key, &mut body, which.version).expect("well-formed bytes are read");
        message.encode(&mut written, which.version).expect("what was read can be written");
        printed(&message)
    } else {
        let message = ResponseKind::decode(key, &mut body, which.version).expect("well-formed bytes are read");
        message.encode(&mut written, which.version).expect("what was read can be written");
        printed(&message)
    };
    assert!(body.is_empty(), "{which:?}: they leave {} bytes", body.len());
    (tree, written.freeze())
}

fn printed(message: &impl Debug) -> Tree {
    Tree::parse(&format!("{message:?}"))
}

fn same_struct(which: Which, schema: &Schema, ours: &Tree, theirs: &Tree) {
    let (Tree::Struct(ours), Tree::Struct(theirs)) = (ours, theirs) else {
        panic!("{which:?}: {} is no struct: {ours:?}, {theirs:?}", schema.name);
    };
    let known = schema.fields.iter().filter(|field| field.versions.from <= their_newest_field(which));
    let mut expected: Vec<&str> = theirs.iter().map(|(name, _)| name.as_str()).collect();
    expected.retain(|name| *name != "unknown_tagged_fields" && !OURS_LACK.contains(name));
    expected.sort_unstable();
    let mut names: Vec<&str> = known.clone().map(|field| field.name).collect();
    names.sort_unstable();
    assert_eq!(names, expected, "{which:?}: fields of {}", schema.name);
    for field in known {
        let find = |fields: &[(String, Tree)]| fields.iter().find(|(name, _)| name == field.name).cloned();
        let (Some((_, ours)), Some((_, theirs))) = (find(ours), find(theirs)) else {
            panic!("{which:?}: {}.{} is missing", schema.name, field.name);
        };
        // In a version that lacks the field ours is null where theirs may be empty.
        if field.versions.holds(which.version) || field.nullable.to < 0 {
            same_value(which, field.name, field.kind, &ours, &theirs);
        }
    }
}

/// Fields of versions that we do not speak: InitProducerId 6, which Kafka still hides.
const OURS_LACK: [&str; 4] =
    ["enable_2_pc", "keep_prepared_txn", "ongoing_txn_producer_id", "ongoing_txn_producer_epoch"];

fn same_value(which: Which, name: &str, kind: Kind, ours: &Tree, theirs: &Tree) {
    assert_eq!(ours.is_none(), theirs.is_none(), "{which:?}: {name} is null in both or in neither");
    if ours.is_none() {
        return;
    }
    let (ours, theirs) = (ours.inner(), theirs.inner());
    match (kind, ours, theirs) {
        (Kind::Struct(schema), ..) => same_struct(which, schema, ours, theirs),
        (Kind::Array(element), Tree::List(ours), Tree::List(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{which:?}: {name}");
            for (ours, theirs) in ours.iter().zip(theirs) {
                same_value(which, name, *element, ours, theirs);
            }
        }
        (Kind::Uuid, Tree::Leaf(ours), Tree::Leaf(theirs)) => {
            assert_eq!(uuid_bits(ours), uuid_bits_hex(theirs), "{which:?}: {name}");
        }
        // Records are a list of pieces on our side: none for an empty byte string.
        (Kind::Bytes, Tree::List(pieces), theirs) => {
            let empty = Tree::Leaf("b\"\"".into());
            assert_eq!(pieces.first().unwrap_or(&empty), theirs, "{which:?}: {name}");
        }
        _ => assert_eq!(ours, theirs, "{which:?}: {name}"),
    }
}

/// A uuid as Kafka prints it, in 22 characters of base64.
fn uuid_bits(text: &str) -> u128 {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let (last, first) = text.as_bytes().split_last().expect("22 characters");
    first.iter().fold(0, |bits: u128, &letter| bits << 6 | u128::from(value(letter))) << 2
        | u128::from(value(*last) >> 4)
}

/// A uuid in hexadecimal with hyphens.
fn uuid_bits_hex(text: &str) -> u128 {
    u128::from_str_radix(&text.replace('-', ""), 16).expect("a uuid in hexadecimal")
}
