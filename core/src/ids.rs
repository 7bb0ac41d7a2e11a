//! Names for what can be mixed up: offsets, epochs, identifiers.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// A broker's number in its cluster, 0 or more.
    NodeId(i32)
);
number!(
    /// The position of a record in a partition, counted from 0.
    Offset(i64)
);
number!(
    /// The number of a partition's leadership; rises with every leader and fences the one before (KIP-101).
    LeaderEpoch(i32)
);
number!(
    /// An idempotent or transactional producer.
    ProducerId(i64)
);
number!(
    /// Which incarnation of a producer writes.
    ProducerEpoch(i16)
);
number!(
    /// Log sequence number: a byte position in the endless journal, of which the ring on disk keeps the newest part.
    Lsn(u64)
);
number!(
    /// One client connection, never reused within a process.
    ConnId(u64)
);
number!(
    /// Which of the configured listeners a connection came in by.
    ListenerId(u16)
);

number!(
    /// One process of a broker, counted over all registrations of the cluster, from 1 (KIP-903).
    BrokerEpoch(i64)
);
number!(
    /// The number of a partition's state in the metadata; rises with every change of it (KIP-841).
    PartitionEpoch(i32)
);
number!(
    /// One run of a leader's exchange with one follower of one partition. Counted within a leader epoch, from 1.
    Session(u64)
);

/// A 128-bit identifier, drawn once and never reused: of a topic, a data folder, a journal.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The identifier that stands for "none" on the wire.
    pub const ZERO: Uuid = Uuid([0; 16]);
}

impl fmt::Display for Uuid {
    /// Kafka's form: 22 characters of URL-safe base64 without padding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        // 128 bits are 21 groups of six and one of two, which is padded with four zero bits.
        for group in 0..21 {
            let index = (bits >> (122 - 6 * group)) & 63;
            write!(f, "{}", ALPHABET[index as usize] as char)?;
        }
        write!(f, "{}", ALPHABET[((bits & 3) << 4) as usize] as char)
    }
}

/// A text that no [`Uuid`] is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoUuid;

impl fmt::Display for NoUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no identifier")
    }
}

impl Error for NoUuid {}

impl FromStr for Uuid {
    type Err = NoUuid;

    /// Reads what `Display` writes, and nothing else: 22 characters, of which the last carries two bits.
    fn from_str(text: &str) -> Result<Uuid, NoUuid> {
        let Some((last, first)) = text.as_bytes().split_last().filter(|(_, first)| first.len() == 21) else {
            return Err(NoUuid);
        };
        let mut bits = 0u128;
        for &character in first {
            bits = bits << 6 | u128::from(six_bits(character)?);
        }
        let last = six_bits(*last)?;
        if last & 0b1111 != 0 {
            return Err(NoUuid);
        }
        Ok(Uuid((bits << 2 | u128::from(last >> 4)).to_be_bytes()))
    }
}

fn six_bits(character: u8) -> Result<u8, NoUuid> {
    match character {
        b'A'..=b'Z' => Ok(character - b'A'),
        b'a'..=b'z' => Ok(character - b'a' + 26),
        b'0'..=b'9' => Ok(character - b'0' + 52),
        b'-' => Ok(62),
        b'_' => Ok(63),
        _ => Err(NoUuid),
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A topic's identity: survives nothing but itself, so a topic re-created under one name is another topic (KIP-516).
pub type TopicId = Uuid;

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index in it, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// What stands for the node itself where a partition is named.
    pub const NODE: TopicPartition = TopicPartition { topic: Uuid::ZERO, partition: -1 };
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == TopicPartition::NODE {
            f.write_str("the node")
        } else {
            write!(f, "{}-{}", self.topic, self.partition)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_read_as_it_was_written() {
        for bytes in [[0; 16], [0xff; 16], [0x5a; 16], *b"0123456789abcdef"] {
            assert_eq!(Uuid(bytes).to_string().parse(), Ok(Uuid(bytes)));
        }
        for nonsense in
            ["", "short", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA+A", "AAAAAAAAAAAAAAAAAAAAAAA", "ärger"]
        {
            assert_eq!(nonsense.parse::<Uuid>(), Err(NoUuid), "{nonsense:?} was taken for an identifier");
        }
    }
}
