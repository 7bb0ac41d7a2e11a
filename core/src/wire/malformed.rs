//! Why bytes cannot be read as a message.

use std::error::Error;
use std::fmt;

/// What is wrong with bytes that claim to be a message. Whoever sent them loses the connection: nothing after the
/// fault can be trusted to start where it seems to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end inside a field.
    EndsInsideField,
    /// A variable-length integer does not fit in 32 bits.
    VarintTooLong,
    /// A length is below zero and is not -1, which stands for null.
    NegativeLength,
    /// A length or a number of elements exceeds what the rest of the bytes can hold.
    LengthPastEnd,
    /// A string is longer than 32,767 bytes.
    StringTooLong,
    /// A string is not UTF-8.
    StringNotUtf8,
    /// A field that must be there is null.
    UnexpectedNull,
    /// The arrays of one message hold more than [`MAX_ELEMENTS`](super::MAX_ELEMENTS) elements.
    TooManyElements,
    /// The arrays would take more memory than a message of this length may: see
    /// [`MEMORY_PER_BYTE`](super::MEMORY_PER_BYTE).
    TooMuchMemory,
    /// A section of tagged fields names more than [`MAX_TAGGED_FIELDS`](super::MAX_TAGGED_FIELDS) of them.
    TooManyTaggedFields,
    /// A tagged field that we know is shorter or longer than its announced length.
    TaggedFieldLength,
    /// Bytes are left after the last field.
    TrailingBytes,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::EndsInsideField => "the bytes end inside a field",
            Malformed::VarintTooLong => "a variable-length integer does not fit in 32 bits",
            Malformed::NegativeLength => "a length is negative",
            Malformed::LengthPastEnd => "a length exceeds the bytes that are left",
            Malformed::StringTooLong => "a string is longer than 32,767 bytes",
            Malformed::StringNotUtf8 => "a string is not UTF-8",
            Malformed::UnexpectedNull => "a field that must be there is null",
            Malformed::TooManyElements => "the arrays hold more than 1,000,000 elements",
            Malformed::TooMuchMemory => "the arrays take more than four times the bytes of the message in memory",
            Malformed::TooManyTaggedFields => "a section holds more than 10,000 tagged fields",
            Malformed::TaggedFieldLength => "a tagged field does not fill its announced length",
            Malformed::TrailingBytes => "bytes are left after the last field",
        })
    }
}

impl Error for Malformed {}
