//! Well-formed messages from entropy, written by the schema and by nothing else of the codec under test.

use chronik_core::wire::{FieldSchema, Kind, Schema};

use super::Which;
use super::entropy::Entropy;

/// Whether to put tagged fields into every section that no version knows.
#[derive(Clone, Copy, PartialEq)]
pub enum Strangers {
    /// Only known ones.
    No,
    /// One more in each section, of a tag far from all known ones.
    Yes,
}

/// A body of `which`, of values chosen by `entropy`.
pub fn body(which: Which, entropy: &mut Entropy<'_>, strangers: Strangers) -> Vec<u8> {
    let shape = which.shape();
    let mut maker = Maker { version: shape.version, flexible: shape.flexible, strangers, entropy, bytes: Vec::new() };
    maker.fields(which.schema());
    maker.bytes
}

struct Maker<'a, 'b> {
    version: i16,
    flexible: bool,
    strangers: Strangers,
    entropy: &'a mut Entropy<'b>,
    bytes: Vec<u8>,
}

impl Maker<'_, '_> {
    fn fields(&mut self, schema: &Schema) {
        let present = || schema.fields.iter().filter(|field| field.versions.holds(self.version));
        let (tagged, plain): (Vec<&FieldSchema>, Vec<_>) = present().partition(|field| field.tag.is_some());
        for field in plain {
            self.field(field);
        }
        if self.flexible {
            let tagged: Vec<_> = tagged.into_iter().filter(|_| self.entropy.one_in(2)).collect();
            let strangers = usize::from(self.strangers == Strangers::Yes);
            self.varint(tagged.len() + strangers);
            for field in tagged {
                self.varint(field.tag.expect("only tagged fields are here") as usize);
                let before = std::mem::take(&mut self.bytes);
                self.field(field);
                let value = std::mem::replace(&mut self.bytes, before);
                self.varint(value.len());
                self.bytes.extend(value);
            }
            if strangers > 0 {
                self.varint(70_000);
                self.varint(3);
                self.bytes.extend(b"new");
            }
        }
    }

    fn field(&mut self, field: &FieldSchema) {
        let nullable = field.nullable.holds(self.version);
        let null = nullable && self.entropy.one_in(4);
        match field.kind {
            Kind::Struct(schema) => {
                if nullable {
                    self.bytes.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.fields(schema);
                }
            }
            Kind::String | Kind::Bytes | Kind::Array(_) if null => self.length(field.kind, None),
            kind => self.value(kind),
        }
    }

    fn value(&mut self, kind: Kind) {
        match kind {
            Kind::Bool => {
                let truth = self.entropy.one_in(2);
                self.bytes.push(truth.into());
            }
            Kind::Int8 => self.integer(1),
            Kind::Int16 | Kind::Uint16 => self.integer(2),
            Kind::Int32 => self.integer(4),
            Kind::Int64 => self.integer(8),
            Kind::Uuid => self.integer(16),
            Kind::String => {
                // Lengths at which compact ones grow by a byte, and one that is spliced if it is not in a tagged field.
                let length = [0, 1, 5, 30, 126, 127, 200, 1500][self.entropy.below(8)];
                let text: String =
                    (0..length).map(|_| ['a', 'Z', '.', '-', '_', 'ß', '"', '\\'][self.entropy.below(8)]).collect();
                self.length(kind, Some(text.len()));
                self.bytes.extend(text.into_bytes());
            }
            Kind::Bytes => {
                let length = [0, 1, 60, 127, 128, 1023, 1024, 3000][self.entropy.below(8)];
                self.length(kind, Some(length));
                let filling = self.entropy.byte();
                self.bytes.extend(std::iter::repeat_n(filling, length));
            }
            Kind::Array(element) => {
                let count = [0, 1, 1, 2, 3][self.entropy.below(5)];
                self.length(kind, Some(count));
                for _ in 0..count {
                    self.value(*element);
                }
            }
            Kind::Struct(schema) => self.fields(schema),
        }
    }

    fn integer(&mut self, length: usize) {
        let bytes = self.entropy.integer(length);
        self.bytes.extend(bytes);
    }

    fn length(&mut self, kind: Kind, length: Option<usize>) {
        if self.flexible {
            self.varint(length.map_or(0, |length| length + 1));
        } else if kind == Kind::String {
            self.bytes.extend(length.map_or(-1, |length| length as i16).to_be_bytes());
        } else {
            self.bytes.extend(length.map_or(-1, |length| length as i32).to_be_bytes());
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}
