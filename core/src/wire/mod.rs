//! The Kafka wire format: every message declared once, decoding that is total, encoding without copies.
//!
//! - A message is a table of fields and of the versions that have them, one file per API in `messages/`. `table.rs`
//!   makes struct, decoder, encoder and [`Schema`] of it. The APIs, their versions, and [`Request`] and [`Response`],
//!   which hold any of their messages, follow from one more table, in `api.rs`.
//! - Decoding never panics, never allocates by a length that it has not checked, and takes memory in proportion to what
//!   was sent ([`Reader`]). Strings ([`Str`]),
//!   byte strings and records are slices of the frame's buffer.
//! - Encoding appends to a [`Writer`]: any number of responses one after another, long byte strings spliced in.
//! - Nothing here knows what a message means, or does I/O. Record batches are `Bytes` here; see [`crate::batch`].
//!
//! To add an API: its two tables in a file under `messages/`, and its row in `api.rs`.

mod api;
mod envelope;
mod error_code;
mod field;
mod malformed;
mod messages;
mod reader;
mod str;
mod table;
mod unsupported;
mod writer;

pub use self::str::Str;
pub use api::{ApiKey, Request, Response};
pub(crate) use envelope::{Decoded, decode};
pub use envelope::{
    RequestHeader, Undecodable, decode_request, decode_request_counted, decode_response, encode_request,
    encode_response,
};
pub use error_code::ErrorCode;
pub use field::{Field, Kind, Nullable, Records, Shape, Versions};
pub use malformed::Malformed;
pub use messages::*;
pub use reader::{MAX_ELEMENTS, MAX_TAGGED_FIELDS, MEMORY_ALWAYS, MEMORY_PER_BYTE, Reader};
pub(crate) use table::prelude;
pub use table::{FieldSchema, Message, Schema};
pub use unsupported::unsupported_version;
pub use writer::{Frame, OpenFrame, OpenTag, TooLong, Writer};
