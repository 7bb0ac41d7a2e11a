//! How a message is declared: once, as a table of its fields, from which struct, defaults, decoder, encoder and schema
//! follow.
//!
//! ```text
//! messages! {
//!     /// What the message is for.
//!     pub struct Example {
//!         /// What the field says.
//!         name: Str, 0..=12;                               the type, and the versions that have the field
//!         rack: Option<Str>, 0.., null 3..;                the versions in which it may be null
//!         leader_epoch: i32 = -1, 5..;                     its default, where that is not zero, empty or null
//!         current_leader: LeaderIdAndEpoch, 10.., tag 0;   a tagged field: written where it is not the default
//!     }
//! }
//! ```
//!
//! Fields stand in the order of the wire, tagged ones in the order of their tags. Names and types are those of Kafka's
//! schema, names in snake case. A field that a version lacks is not written in it, whatever its value, and read from it
//! as the default.

use super::{Field, Kind, Versions};

/// A message or a struct in it, as data.
#[derive(Debug, PartialEq)]
pub struct Schema {
    /// The struct's name.
    pub name: &'static str,
    /// Its fields, in the order of the wire.
    pub fields: &'static [FieldSchema],
}

impl Schema {
    /// The least number of bytes that the struct takes in any version.
    pub const fn min_bytes(&self) -> usize {
        let mut bytes = 0;
        let mut index = 0;
        while index < self.fields.len() {
            let field = &self.fields[index];
            if field.tag.is_none() && field.versions.from == 0 && field.versions.to == i16::MAX {
                bytes += field.min_bytes;
            }
            index += 1;
        }
        bytes
    }
}

/// A field, as data.
#[derive(Debug, PartialEq)]
pub struct FieldSchema {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it may be null.
    pub nullable: Versions,
    /// Its tag, where it is a tagged field.
    pub tag: Option<u32>,
    /// The least number of bytes that it takes in a version that has it.
    pub min_bytes: usize,
}

/// A message or a struct in it.
pub trait Message: Field + Default {
    /// The struct as data.
    const SCHEMA: &'static Schema;
}

/// `or!(default;)` is the default, `or!(default; value)` the value.
macro_rules! or {
    ($default:expr;) => {
        $default
    };
    ($default:expr; $value:expr) => {
        $value
    };
}

macro_rules! messages {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_doc:meta])*
                $field:ident : $type:ty $(= $default:expr)?,
                $from:literal $(..= $to:literal)? $(..)?
                $(, null $null_from:literal ..)?
                $(, tag $tag:literal)?;
            )*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                pub $field: $type,
            )*
        }

        /// What the table says of each field, under the field's name.
        #[allow(non_upper_case_globals)]
        impl $name {
            $(
                const $field: FieldSchema = FieldSchema {
                    name: stringify!($field),
                    kind: <$type as Field>::KIND,
                    versions: Versions { from: $from, to: or!(i16::MAX; $($to)?) },
                    nullable: or!(Versions::NONE; $(Versions { from: $null_from, to: i16::MAX })?),
                    tag: or!(None; $(Some($tag))?),
                    min_bytes: <$type as Field>::MIN_BYTES,
                };
            )*
        }

        impl Message for $name {
            const SCHEMA: &'static Schema = &Schema { name: stringify!($name), fields: &[$($name::$field),*] };
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: or!(<$type>::default(); $($default)?)),* }
            }
        }

        impl Field for $name {
            const KIND: Kind = Kind::Struct(<$name as Message>::SCHEMA);
            const MIN_BYTES: usize = <$name as Message>::SCHEMA.min_bytes();

            #[allow(unused_mut, unused_variables)]
            fn decode(reader: &mut Reader, shape: Shape) -> Result<$name, Malformed> {
                $(
                    let mut $field = if const { $name::$field.tag.is_none() }
                        && const { $name::$field.versions }.holds(shape.version)
                    {
                        let nullable = const { $name::$field.nullable }.holds(shape.version);
                        <$type as Field>::decode(reader, shape.with_nullable(nullable))?
                    } else {
                        or!(<$type>::default(); $($default)?)
                    };
                )*
                if shape.flexible {
                    reader.tagged_fields(|tag, reader| {
                        $(
                            if const { $name::$field.tag.is_some() }
                                && const { $name::$field.tag } == Some(tag)
                                && const { $name::$field.versions }.holds(shape.version)
                            {
                                let nullable = const { $name::$field.nullable }.holds(shape.version);
                                $field = <$type as Field>::decode(reader, shape.with_tagged(nullable))?;
                                return Ok(true);
                            }
                        )*
                        Ok(false)
                    })?;
                }
                Ok($name { $($field),* })
            }

            #[allow(unused_mut)]
            fn encode(&self, writer: &mut Writer, shape: Shape) {
                let mut tagged = 0;
                $(
                    if const { $name::$field.versions }.holds(shape.version) {
                        if const { $name::$field.tag.is_none() } {
                            let nullable = const { $name::$field.nullable }.holds(shape.version);
                            self.$field.encode(writer, shape.with_nullable(nullable));
                        } else if self.$field != or!(<$type>::default(); $($default)?) {
                            tagged += 1;
                        }
                    }
                )*
                if shape.flexible {
                    writer.unsigned_varint(tagged);
                    if tagged == 0 {
                        return;
                    }
                    $(
                        if let Some(tag) = const { $name::$field.tag }
                            && const { $name::$field.versions }.holds(shape.version)
                            && self.$field != or!(<$type>::default(); $($default)?)
                        {
                            writer.unsigned_varint(tag);
                            let length = writer.begin_tagged();
                            let nullable = const { $name::$field.nullable }.holds(shape.version);
                            self.$field.encode(writer, shape.with_tagged(nullable));
                            writer.end_tagged(length);
                        }
                    )*
                }
            }
        }

        impl Nullable for $name {
            fn decode_nullable(reader: &mut Reader, shape: Shape) -> Result<Option<$name>, Malformed> {
                let is_present = if shape.tagged {
                    reader.unsigned_varint()? != 0
                } else {
                    match reader.i8()? {
                        0.. => true,
                        -1 => false,
                        _ => return Err(Malformed::NegativeLength),
                    }
                };
                if is_present { <$name as Field>::decode(reader, shape).map(Some) } else { Ok(None) }
            }

            fn encode_null(writer: &mut Writer, shape: Shape) {
                writer.i8(if shape.tagged { 0 } else { -1 });
            }

            fn encode_present(&self, writer: &mut Writer, shape: Shape) {
                writer.i8(1);
                self.encode(writer, shape);
            }
        }
    )*};
}

/// All that a table of messages needs in scope.
pub(crate) mod prelude {
    pub(crate) use super::{FieldSchema, Message, Schema, messages, or};
    pub(crate) use crate::ids::Uuid;
    pub(crate) use crate::wire::{Field, Kind, Malformed, Nullable, Reader, Records, Shape, Str, Versions, Writer};
    pub(crate) use bytes::Bytes;
}

pub(crate) use {messages, or};

#[cfg(test)]
mod tests {
    use super::super::ApiKey;
    use super::*;

    fn check(schema: &Schema) {
        let tags: Vec<u32> = schema.fields.iter().filter_map(|field| field.tag).collect();
        assert!(tags.is_sorted_by(|a, b| a < b), "{}: tags are written in rising order", schema.name);
        for field in schema.fields {
            let (versions, nullable) = (field.versions, field.nullable);
            assert!(versions.from <= versions.to, "{}.{} has a version", schema.name, field.name);
            assert!(nullable == Versions::NONE || nullable.to == i16::MAX, "{}.{}", schema.name, field.name);
            let mut kind = field.kind;
            while let Kind::Array(element) = kind {
                kind = *element;
            }
            if let Kind::Struct(inner) = kind {
                check(inner);
            }
        }
    }

    #[test]
    fn every_table_is_in_order() {
        for api_key in ApiKey::ALL {
            check(api_key.request_schema());
            check(api_key.response_schema());
        }
    }

    #[test]
    fn the_least_size_counts_what_every_version_has() {
        use super::super::{fetch, metadata};
        assert_eq!(metadata::MetadataResponseBroker::MIN_BYTES, 4 + 1 + 4);
        // Partition, offset and limit; epochs, the log's start and all tagged fields came later.
        assert_eq!(fetch::FetchPartition::MIN_BYTES, 4 + 8 + 4);
    }
}
