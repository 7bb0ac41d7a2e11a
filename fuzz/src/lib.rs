//! What must hold of any bytes at all: the bodies of the fuzz targets.
//!
//! A body takes bytes, does with them what a client, a disk or a peer could make the broker do, and panics where a
//! promise is broken. Three drivers call them: `cargo test`, with the corpus and with mutations of it that are the same
//! every time; libFuzzer, with bytes that coverage led to (`just fuzz`); and whoever looks at one input.
//!
//! | target | its bytes are | the promise |
//! |---|---|---|
//! | `message` | choices of a message's values, or a message | our codec and `kafka-protocol` agree; bytes are read or refused |
//! | `frame` | a client's stream, and where it is cut | requests do not depend on where the stream is cut |
//! | `batch` | a producer's batch, a run of stored ones | what is taken is true; what is made of it is the same records |
//! | `journal` | a life of crashes, damage to its end, or files | what was durable comes back or is named as lost |
//! | `segment` | a log, and damage to its files; or files | a read is right or an error |
//! | `metadata` | an entry of the metadata log | read and written again it is the same bytes |
//! | `log_state` | a log, or its state in a checkpoint | read and written again it is the same state |
//! | `group_record` | a record of `__consumer_offsets`, or what consumers embed | read and written again it is the same |
//! | `raft_message` | a peer's message, a record of the metadata log, or choices of what peers say | written again it is the same; nothing that is said stops a member |
//! | `peer` | what another broker sends | read and written again it is the same bytes |
//!
//! What a disk does to bytes under a checksum is modelled as what the checksum is sure to notice: at most three bits
//! turned over, or the end missing. Bytes that someone *made*, checksums and all, need only be survived.
//!
//! The corpus holds an input a file, in `corpus/<target>`. `examples/seeds.rs` makes the first ones; an input that
//! broke a promise stays there for good.

pub mod batch;
pub mod frame;
pub mod group_record;
pub mod journal;
pub mod log_state;
pub mod message;
pub mod metadata;
pub mod mutate;
pub mod peer;
pub mod raft_message;
pub mod segment;

mod files;
mod grown;
#[path = "../../core/tests/wire_bodies/mod.rs"]
mod wire_bodies;
#[allow(dead_code, reason = "the journal's own tests use the rest")]
#[path = "../../core/tests/journal/world.rs"]
mod world;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its corpus folder and of its libFuzzer binary.
    pub name: &'static str,
    /// Panics where `bytes` break a promise.
    pub body: fn(&[u8]),
}

/// Everything there is to fuzz.
pub const TARGETS: [Target; 10] = [
    Target { name: "message", body: message::body },
    Target { name: "frame", body: frame::body },
    Target { name: "batch", body: batch::body },
    Target { name: "journal", body: journal::body },
    Target { name: "segment", body: segment::body },
    Target { name: "metadata", body: metadata::body },
    Target { name: "log_state", body: log_state::body },
    Target { name: "group_record", body: group_record::body },
    Target { name: "raft_message", body: raft_message::body },
    Target { name: "peer", body: peer::body },
];
