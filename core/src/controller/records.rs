//! The records of the metadata log: all that the cluster knows about itself, one change each.
//!
//! A decision is one *entry* of the log, under (term, index), and holds one or more records that take effect together.
//! A record begins with its kind and the version of its layout, so that a later Chronik reads what an earlier one wrote.
//! The rules of change: a kind or version, once released, keeps its meaning and its bytes; a new field is a new version
//! of its kind; a kind or version that this program does not know is an error that names it, never a guess.
//!
//! Layout: integers are big-endian; a text is its length in bytes (u32) and UTF-8; a list is its length (u32) and its
//! elements; what may be missing is preceded by a byte, 1 if it is there. An entry is, for each record, the length of
//! its bytes (u32) and the bytes. Checksums are the log's business.

use std::borrow::Borrow;
use std::fmt;

use crate::ids::{LeaderEpoch, NodeId, ProducerId, TopicId, TopicPartition, Uuid};
use crate::wire::Str;

/// One change to the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// From here on, records up to this level of the format may occur.
    FormatLevel {
        /// The level, from 1.
        level: u16,
    },
    /// A process of a broker begins. If it is a new one for its node, that is, if its epoch is new, then every
    /// partition that the node leads enters a new leader epoch: the process before may have sent what its disk lost.
    RegisterBroker(Registration),
    /// A topic exists, as yet without partitions.
    Topic {
        /// Its identity.
        id: TopicId,
        /// Its name, which no other topic has.
        name: Str,
    },
    /// A partition exists, or its replicas, leader or epochs changed.
    Partition {
        /// Which partition. A new one has the index after its topic's last.
        partition: TopicPartition,
        /// Its state.
        state: PartitionState,
    },
    /// A topic, its partitions and its settings are no more.
    RemoveTopic {
        /// Its identity.
        id: TopicId,
    },
    /// A setting has a value, or none of its own.
    Config {
        /// Whose setting.
        of: Resource,
        /// The setting's name.
        name: Str,
        /// Its value; `None` if it is no longer set.
        value: Option<Str>,
    },
    /// A broker may hand out producer ids up to below `next`, from where the last such record ended.
    ProducerIds {
        /// The broker.
        node_id: NodeId,
        /// The process of it that asked.
        broker_epoch: i64,
        /// The first id that is still free, and from 0 up.
        next: ProducerId,
    },
}

/// A broker as it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its number.
    pub node_id: NodeId,
    /// Its data folder: a broker with another folder is another broker, though it have the same number.
    pub directory_id: Uuid,
    /// The number of this process among all registrations, from 1.
    pub broker_epoch: i64,
    /// Its addresses for clients, at least one.
    pub listeners: Vec<Listener>,
    /// Where it stands.
    pub rack: Option<Str>,
}

/// An address that a broker tells clients who came in by the listener of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, different from the broker's other ones.
    pub name: Str,
    /// The host, as clients resolve it.
    pub host: Str,
    /// The port.
    pub port: u16,
}

/// Who holds and who leads a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The brokers that hold it, the preferred leader first, each once.
    pub replicas: Vec<NodeId>,
    /// Those of them that count for the high watermark, never none.
    pub isr: Vec<NodeId>,
    /// Which of these leads, if one does.
    pub leader: Option<NodeId>,
    /// The number of the leadership; rises with every leader.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of this state (KIP-841).
    pub partition_epoch: i32,
}

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// All brokers.
    Cluster,
    /// One broker.
    Broker(NodeId),
    /// A topic.
    Topic(TopicId),
}

impl MetadataRecord {
    /// The name of the record's kind, for people.
    pub fn kind(&self) -> &'static str {
        KINDS[usize::from(self.header().0) - 1].0
    }

    /// Appends the record's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, version) = self.header();
        out.extend([kind, version]);
        match self {
            MetadataRecord::FormatLevel { level } => out.extend(level.to_be_bytes()),
            MetadataRecord::RegisterBroker(registration) => {
                put_node(out, registration.node_id);
                out.extend(registration.directory_id.0);
                out.extend(registration.broker_epoch.to_be_bytes());
                put_length(out, registration.listeners.len());
                for listener in &registration.listeners {
                    put_text(out, &listener.name);
                    put_text(out, &listener.host);
                    out.extend(listener.port.to_be_bytes());
                }
                put_optional(out, registration.rack.as_ref());
            }
            MetadataRecord::Topic { id, name } => {
                out.extend(id.0);
                put_text(out, name);
            }
            MetadataRecord::Partition { partition, state } => {
                out.extend(partition.topic.0);
                out.extend(partition.partition.to_be_bytes());
                put_nodes(out, &state.replicas);
                put_nodes(out, &state.isr);
                put_node(out, state.leader.unwrap_or(NO_NODE));
                out.extend(state.leader_epoch.0.to_be_bytes());
                out.extend(state.partition_epoch.to_be_bytes());
            }
            MetadataRecord::RemoveTopic { id } => out.extend(id.0),
            MetadataRecord::Config { of, name, value } => {
                match of {
                    Resource::Cluster => out.push(0),
                    Resource::Broker(node_id) => {
                        out.push(1);
                        put_node(out, *node_id);
                    }
                    Resource::Topic(id) => {
                        out.push(2);
                        out.extend(id.0);
                    }
                }
                put_text(out, name);
                put_optional(out, value.as_ref());
            }
            MetadataRecord::ProducerIds { node_id, broker_epoch, next } => {
                put_node(out, *node_id);
                out.extend(broker_epoch.to_be_bytes());
                out.extend(next.0.to_be_bytes());
            }
        }
    }

    /// Reads one record, which takes all of `bytes`.
    ///
    /// # Errors
    /// Where `bytes` are not a record that this version knows. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<MetadataRecord, Malformed> {
        let (&[kind, version], body) = bytes.split_first_chunk().ok_or(Malformed::NoHeader)?;
        let Some(&(name, newest)) = usize::from(kind).checked_sub(1).and_then(|at| KINDS.get(at)) else {
            return Err(Malformed::UnknownKind { kind, version });
        };
        if version > newest {
            return Err(Malformed::NewerVersion { kind: name, version, newest });
        }
        let mut reader = Reader { bytes: body };
        let wrong = |what| Malformed::Body { kind: name, version, what };
        let record = read(kind, &mut reader).map_err(wrong)?;
        match reader.bytes {
            [] => Ok(record),
            _ => Err(wrong(What::MoreThanARecord)),
        }
    }

    /// The number of the record's kind, and the version that it is written in.
    fn header(&self) -> (u8, u8) {
        match self {
            MetadataRecord::FormatLevel { .. } => (1, 0),
            MetadataRecord::RegisterBroker(_) => (2, 0),
            MetadataRecord::Topic { .. } => (3, 0),
            MetadataRecord::Partition { .. } => (4, 0),
            MetadataRecord::RemoveTopic { .. } => (5, 0),
            MetadataRecord::Config { .. } => (6, 0),
            MetadataRecord::ProducerIds { .. } => (7, 0),
        }
    }
}

/// The name and newest version of each kind, from number 1.
const KINDS: [(&str, u8); 7] = [
    ("FormatLevel", 0),
    ("RegisterBroker", 0),
    ("Topic", 0),
    ("Partition", 0),
    ("RemoveTopic", 0),
    ("Config", 0),
    ("ProducerIds", 0),
];

/// Stands for no broker where one might be.
const NO_NODE: NodeId = NodeId(-1);

/// The body of a record of a known kind. All kinds are at their first version.
fn read(kind: u8, reader: &mut Reader<'_>) -> Result<MetadataRecord, What> {
    Ok(match kind {
        1 => MetadataRecord::FormatLevel { level: u16::from_be_bytes(reader.take()?) },
        2 => MetadataRecord::RegisterBroker(Registration {
            node_id: reader.node()?,
            directory_id: reader.uuid()?,
            broker_epoch: i64::from_be_bytes(reader.take()?),
            listeners: reader.list(|reader| {
                let (name, host) = (reader.text()?, reader.text()?);
                Ok(Listener { name, host, port: u16::from_be_bytes(reader.take()?) })
            })?,
            rack: reader.optional()?,
        }),
        3 => MetadataRecord::Topic { id: reader.uuid()?, name: reader.text()? },
        4 => MetadataRecord::Partition {
            partition: TopicPartition { topic: reader.uuid()?, partition: i32::from_be_bytes(reader.take()?) },
            state: PartitionState {
                replicas: reader.list(Reader::node)?,
                isr: reader.list(Reader::node)?,
                leader: Some(reader.node()?).filter(|leader| *leader != NO_NODE),
                leader_epoch: LeaderEpoch(i32::from_be_bytes(reader.take()?)),
                partition_epoch: i32::from_be_bytes(reader.take()?),
            },
        },
        5 => MetadataRecord::RemoveTopic { id: reader.uuid()? },
        6 => MetadataRecord::Config {
            of: match reader.take()? {
                [0] => Resource::Cluster,
                [1] => Resource::Broker(reader.node()?),
                [2] => Resource::Topic(reader.uuid()?),
                _ => return Err(What::UnknownResource),
            },
            name: reader.text()?,
            value: reader.optional()?,
        },
        7 => MetadataRecord::ProducerIds {
            node_id: reader.node()?,
            broker_epoch: i64::from_be_bytes(reader.take()?),
            next: ProducerId(i64::from_be_bytes(reader.take()?)),
        },
        _ => unreachable!("its number was found among the kinds"),
    })
}

/// The bytes of an entry: records that take effect together.
pub fn encode_entry<R: Borrow<MetadataRecord>>(records: impl IntoIterator<Item = R>) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let start = out.len();
        out.extend([0; 4]);
        record.borrow().encode(&mut out);
        let length = u32::try_from(out.len() - start - 4).expect("a record is far smaller than 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
    out
}

/// The records of an entry, in order.
///
/// # Errors
/// Where `bytes` are not an entry that this version knows. Never panics.
pub fn decode_entry(mut bytes: &[u8]) -> Result<Vec<MetadataRecord>, Malformed> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (&length, rest) = bytes.split_first_chunk().ok_or(Malformed::EntryCut)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Malformed::EntryCut)?;
        let (record, rest) = rest.split_at_checked(length).ok_or(Malformed::EntryCut)?;
        records.push(MetadataRecord::decode(record)?);
        bytes = rest;
    }
    Ok(records)
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are fewer than a header.
    NoHeader,
    /// An entry ends within a record.
    EntryCut,
    /// This version knows no such kind: a later one wrote it, or nobody did.
    UnknownKind {
        /// The kind's number.
        kind: u8,
        /// The version.
        version: u8,
    },
    /// This version knows the kind, but no such version of it.
    NewerVersion {
        /// The kind.
        kind: &'static str,
        /// The version found.
        version: u8,
        /// The newest version known.
        newest: u8,
    },
    /// The bytes after the header are not as they should be.
    Body {
        /// The kind.
        kind: &'static str,
        /// The version.
        version: u8,
        /// What is wrong.
        what: What,
    },
}

/// What is wrong with the body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It ends too early.
    Cut,
    /// It goes on after its end.
    MoreThanARecord,
    /// A text is not UTF-8.
    NotText,
    /// A byte that says whether something is there is neither 0 nor 1.
    NeitherThereNorNot,
    /// A setting belongs to something unknown.
    UnknownResource,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoHeader => f.write_str("a metadata record without kind and version"),
            Malformed::EntryCut => f.write_str("an entry of metadata records that ends within one"),
            Malformed::UnknownKind { kind, version } => {
                write!(f, "a metadata record of kind {kind}, version {version}, which this program does not know")
            }
            Malformed::NewerVersion { kind, version, newest } => write!(
                f,
                "a metadata record {kind} of version {version}, where this program knows versions up to {newest}"
            ),
            Malformed::Body { kind, version, what } => {
                let what = match what {
                    What::Cut => "ends too early",
                    What::MoreThanARecord => "goes on after its end",
                    What::NotText => "holds a text that is not UTF-8",
                    What::NeitherThereNorNot => "has a flag that is neither 0 nor 1",
                    What::UnknownResource => "is a setting of something unknown",
                };
                write!(f, "a metadata record {kind} of version {version} that {what}")
            }
        }
    }
}

impl std::error::Error for Malformed {}

fn put_node(out: &mut Vec<u8>, node: NodeId) {
    out.extend(node.0.to_be_bytes());
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[NodeId]) {
    put_length(out, nodes.len());
    nodes.iter().for_each(|node| put_node(out, *node));
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend(u32::try_from(length).expect("requests are far smaller than 4 GiB").to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &Str) {
    put_length(out, text.as_bytes().len());
    out.extend(text.as_bytes());
}

fn put_optional(out: &mut Vec<u8>, text: Option<&Str>) {
    out.push(u8::from(text.is_some()));
    text.into_iter().for_each(|text| put_text(out, text));
}

/// What is left to read of a record.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], What> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(What::Cut)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn node(&mut self) -> Result<NodeId, What> {
        Ok(NodeId(i32::from_be_bytes(self.take()?)))
    }

    fn uuid(&mut self) -> Result<Uuid, What> {
        Ok(Uuid(self.take()?))
    }

    fn length(&mut self) -> Result<usize, What> {
        usize::try_from(u32::from_be_bytes(self.take()?)).map_err(|_| What::Cut)
    }

    fn text(&mut self) -> Result<Str, What> {
        let length = self.length()?;
        let (text, rest) = self.bytes.split_at_checked(length).ok_or(What::Cut)?;
        self.bytes = rest;
        // Copied, so that a topic's name does not keep the journal's buffer in memory.
        std::str::from_utf8(text).map(Str::from).map_err(|_| What::NotText)
    }

    fn optional(&mut self) -> Result<Option<Str>, What> {
        match self.take()? {
            [0] => Ok(None),
            [1] => self.text().map(Some),
            _ => Err(What::NeitherThereNorNot),
        }
    }

    /// A list. Nothing is allocated by its claimed length: every element takes at least a byte of what is there.
    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Result<T, What>) -> Result<Vec<T>, What> {
        (0..self.length()?).map(|_| element(self)).collect()
    }
}
