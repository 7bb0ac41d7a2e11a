//! What the codec must do with bytes, as functions from entropy to a claim: the tests beside call them with seeded
//! bytes, the fuzz targets with bytes that coverage led to. Any failure is a panic.

// Several crates include this file, and each uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod differential;
pub mod entropy;
pub mod hostile;
mod tree;
pub mod valid;

use chronik_core::wire::{
    ApiKey, MEMORY_ALWAYS, MEMORY_PER_BYTE, Malformed, Reader, Request, Response, Schema, Shape, Writer,
};

use bytes::Bytes;

/// A message of either direction, without its header.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// What a client sends.
    Request(Request),
    /// What it gets.
    Response(Response),
}

/// Which message, in which version.
#[derive(Clone, Copy, Debug)]
pub struct Which {
    /// The API.
    pub api_key: ApiKey,
    /// Whether it is the request; else the response.
    pub is_request: bool,
    /// The version.
    pub version: i16,
}

impl Which {
    /// Every message in every version that we speak.
    pub fn all() -> Vec<Which> {
        let mut all = Vec::new();
        for &api_key in ApiKey::ALL {
            for version in api_key.versions() {
                for is_request in [true, false] {
                    all.push(Which { api_key, is_request, version });
                }
            }
        }
        all
    }

    /// What the message is made of.
    pub fn schema(self) -> &'static Schema {
        if self.is_request { self.api_key.request_schema() } else { self.api_key.response_schema() }
    }

    /// The form of its fields.
    pub fn shape(self) -> Shape {
        Shape::message(self.version, self.version >= self.api_key.flexible_from())
    }

    /// Reads it, and says how many bytes are left.
    pub fn decode(self, body: Bytes) -> Result<(Message, usize), Malformed> {
        let bytes = body.len();
        let mut reader = if self.is_request { Reader::new(body) } else { Reader::of_answer(body) };
        let message = if self.is_request {
            Message::Request(Request::decode(self.api_key, self.version, &mut reader)?)
        } else {
            Message::Response(Response::decode(self.api_key, self.version, &mut reader)?)
        };
        let memory_max = MEMORY_PER_BYTE * bytes + MEMORY_ALWAYS;
        assert!(!self.is_request || reader.memory() <= memory_max, "{self:?}: {} of {bytes} bytes", reader.memory());
        Ok((message, reader.remaining()))
    }

    /// Reads it, which must take all of `body`.
    pub fn decode_whole(self, body: Bytes) -> Message {
        let length = body.len();
        match self.decode(body) {
            Ok((message, 0)) => message,
            Ok((_, left)) => panic!("{self:?}: {left} of {length} bytes left"),
            Err(malformed) => panic!("{self:?}: {malformed}"),
        }
    }
}

impl Message {
    /// Its bytes.
    pub fn encode(&self, version: i16) -> Bytes {
        let mut writer = Writer::new();
        match self {
            Message::Request(request) => request.encode(version, &mut writer),
            Message::Response(response) => response.encode(version, &mut writer),
        }
        writer.finish().to_bytes()
    }
}
