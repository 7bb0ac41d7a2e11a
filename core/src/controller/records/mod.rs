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
//!
//! A record is written in the oldest version that can say it, so that each thing is written in one way, and a log that
//! uses nothing new is read by the programs before.

mod malformed;
mod shown;

use std::borrow::Borrow;

use crate::ids::{LeaderEpoch, NodeId, ProducerId, TopicId, TopicPartition, Uuid};
use crate::wire::Str;

pub use malformed::{Malformed, What};

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
    /// In a cluster a process registers only when its node leads nothing any more.
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
    /// The cluster has this identity, from its first entry on.
    ClusterId {
        /// The identity.
        id: Str,
    },
    /// A broker must not be elected, nor join an in-sync set.
    FenceBroker {
        /// The broker.
        node_id: NodeId,
        /// The process of it that is meant, and is the last one registered.
        broker_epoch: i64,
    },
    /// A broker may be elected and join in-sync sets, until it is fenced or stops.
    UnfenceBroker {
        /// The broker.
        node_id: NodeId,
        /// The process of it that is meant, and is the last one registered.
        broker_epoch: i64,
    },
    /// A broker is about to stop in order: it must not be elected, nor join an in-sync set.
    BeginShutdown {
        /// The broker.
        node_id: NodeId,
        /// The process of it that is meant, and is the last one registered.
        broker_epoch: i64,
    },
    /// A broker does not come back. Partitions that name it keep it among their replicas, as one that is dead.
    RemoveBroker {
        /// The broker.
        node_id: NodeId,
    },
    /// Registrations up to this broker epoch have been: the last of them may be of a broker that was removed.
    BrokerEpochs {
        /// The epoch.
        last: i64,
    },
    /// `min.insync.replicas` has another value: who was eligible by the value before is so no longer.
    ForgetEligible {
        /// The topic whose partitions are meant; `None` for all.
        topic: Option<TopicId>,
    },
    /// A topic was created with this many replicas, which its first partition does not have any more: what its settings
    /// are by default goes by that. It follows its topic, before any partition.
    CreatedWith {
        /// The topic.
        topic: TopicId,
        /// How many replicas its partitions had.
        replication_factor: u32,
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
    /// The process itself: a random number drawn at its start, by which a registration that was asked for twice is
    /// known. 0 for a broker without peers.
    pub process: u64,
    /// Where other brokers reach it; `None` for a broker without peers.
    pub peer_address: Option<PeerAddress>,
    /// What it may do.
    pub standing: Standing,
}

/// What a broker may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Lead, and be in in-sync sets.
    #[default]
    Active,
    /// Neither: it has just begun, or has not been heard of.
    Fenced,
    /// Neither: it stops.
    ShuttingDown,
}

/// Where other brokers reach one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The host, as the other brokers resolve it.
    pub host: Str,
    /// The port.
    pub port: u16,
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
    /// Those of `replicas` that a reassignment has added, and that are not all in sync yet (KIP-455).
    pub adding: Vec<NodeId>,
    /// Those of `replicas` that it removes once these are.
    pub removing: Vec<NodeId>,
    /// Replicas outside the in-sync set that hold all that was acknowledged: they left it when it fell below
    /// `min.insync.replicas`, since when the high watermark has not moved (KIP-966).
    pub eligible: Vec<NodeId>,
    /// The last leadership that began outside both, where there was one: what was acknowledged before it may be lost.
    pub unclean_epoch: Option<LeaderEpoch>,
}

impl PartitionState {
    /// A partition that nothing was written to: all of `replicas` are in sync, the first of them leads.
    pub fn new(replicas: Vec<NodeId>) -> PartitionState {
        PartitionState {
            leader: replicas.first().copied(),
            isr: replicas.clone(),
            replicas,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            adding: Vec::new(),
            removing: Vec::new(),
            eligible: Vec::new(),
            unclean_epoch: None,
        }
    }

    /// Whether it is on its way to other brokers.
    pub fn is_reassigning(&self) -> bool {
        !(self.adding.is_empty() && self.removing.is_empty())
    }

    /// How many replicas it has, but for those that a reassignment has added to them.
    pub fn replication_factor(&self) -> usize {
        self.replicas.len() - self.adding.len()
    }

    /// Whether fewer of its replicas are in sync than it is to have.
    pub fn is_under_replicated(&self) -> bool {
        self.isr.len() < self.replication_factor()
    }

    /// Whether it says what a partition of the first version cannot.
    fn is_extended(&self) -> bool {
        self.is_reassigning() || !self.eligible.is_empty() || self.unclean_epoch.is_some()
    }
}

impl Registration {
    /// Whether it says what a registration of the first version cannot.
    fn is_extended(&self) -> bool {
        self.process != 0 || self.peer_address.is_some() || self.standing != Standing::Active
    }
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
                if registration.is_extended() {
                    out.extend(registration.process.to_be_bytes());
                    out.push(u8::from(registration.peer_address.is_some()));
                    if let Some(PeerAddress { host, port }) = &registration.peer_address {
                        put_text(out, host);
                        out.extend(port.to_be_bytes());
                    }
                    out.push(match registration.standing {
                        Standing::Active => 0,
                        Standing::Fenced => 1,
                        Standing::ShuttingDown => 2,
                    });
                }
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
                if state.is_extended() {
                    put_nodes(out, &state.adding);
                    put_nodes(out, &state.removing);
                    put_nodes(out, &state.eligible);
                    out.push(u8::from(state.unclean_epoch.is_some()));
                    state.unclean_epoch.iter().for_each(|epoch| out.extend(epoch.0.to_be_bytes()));
                }
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
            MetadataRecord::ClusterId { id } => put_text(out, id),
            MetadataRecord::FenceBroker { node_id, broker_epoch }
            | MetadataRecord::UnfenceBroker { node_id, broker_epoch }
            | MetadataRecord::BeginShutdown { node_id, broker_epoch } => {
                put_node(out, *node_id);
                out.extend(broker_epoch.to_be_bytes());
            }
            MetadataRecord::RemoveBroker { node_id } => put_node(out, *node_id),
            MetadataRecord::BrokerEpochs { last } => out.extend(last.to_be_bytes()),
            MetadataRecord::ForgetEligible { topic } => {
                out.push(u8::from(topic.is_some()));
                topic.iter().for_each(|topic| out.extend(topic.0));
            }
            MetadataRecord::CreatedWith { topic, replication_factor } => {
                out.extend(topic.0);
                out.extend(replication_factor.to_be_bytes());
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
        let record = read(kind, version, &mut reader).map_err(wrong)?;
        match reader.bytes {
            [] if record.header() != (kind, version) => Err(wrong(What::NothingNew)),
            [] => Ok(record),
            _ => Err(wrong(What::MoreThanARecord)),
        }
    }

    /// The number of the record's kind, and the version that it is written in.
    fn header(&self) -> (u8, u8) {
        match self {
            MetadataRecord::FormatLevel { .. } => (1, 0),
            MetadataRecord::RegisterBroker(registration) => (2, u8::from(registration.is_extended())),
            MetadataRecord::Topic { .. } => (3, 0),
            MetadataRecord::Partition { state, .. } => (4, u8::from(state.is_extended())),
            MetadataRecord::RemoveTopic { .. } => (5, 0),
            MetadataRecord::Config { .. } => (6, 0),
            MetadataRecord::ProducerIds { .. } => (7, 0),
            MetadataRecord::ClusterId { .. } => (8, 0),
            MetadataRecord::FenceBroker { .. } => (9, 0),
            MetadataRecord::UnfenceBroker { .. } => (10, 0),
            MetadataRecord::BeginShutdown { .. } => (11, 0),
            MetadataRecord::RemoveBroker { .. } => (12, 0),
            MetadataRecord::BrokerEpochs { .. } => (13, 0),
            MetadataRecord::ForgetEligible { .. } => (14, 0),
            MetadataRecord::CreatedWith { .. } => (15, 0),
        }
    }
}

/// The name and newest version of each kind, from number 1.
const KINDS: [(&str, u8); 15] = [
    ("FormatLevel", 0),
    ("RegisterBroker", 1),
    ("Topic", 0),
    ("Partition", 1),
    ("RemoveTopic", 0),
    ("Config", 0),
    ("ProducerIds", 0),
    ("ClusterId", 0),
    ("FenceBroker", 0),
    ("UnfenceBroker", 0),
    ("BeginShutdown", 0),
    ("RemoveBroker", 0),
    ("BrokerEpochs", 0),
    ("ForgetEligible", 0),
    ("CreatedWith", 0),
];

/// Stands for no broker where one might be.
const NO_NODE: NodeId = NodeId(-1);

/// The body of a record of a known kind and version.
fn read(kind: u8, version: u8, reader: &mut Reader<'_>) -> Result<MetadataRecord, What> {
    Ok(match kind {
        1 => MetadataRecord::FormatLevel { level: u16::from_be_bytes(reader.take()?) },
        2 => MetadataRecord::RegisterBroker(registration(version, reader)?),
        3 => MetadataRecord::Topic { id: reader.uuid()?, name: reader.text()? },
        4 => MetadataRecord::Partition {
            partition: TopicPartition { topic: reader.uuid()?, partition: i32::from_be_bytes(reader.take()?) },
            state: state(version, reader)?,
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
            broker_epoch: reader.epoch()?,
            next: ProducerId(i64::from_be_bytes(reader.take()?)),
        },
        8 => MetadataRecord::ClusterId { id: reader.text()? },
        9 => MetadataRecord::FenceBroker { node_id: reader.node()?, broker_epoch: reader.epoch()? },
        10 => MetadataRecord::UnfenceBroker { node_id: reader.node()?, broker_epoch: reader.epoch()? },
        11 => MetadataRecord::BeginShutdown { node_id: reader.node()?, broker_epoch: reader.epoch()? },
        12 => MetadataRecord::RemoveBroker { node_id: reader.node()? },
        13 => MetadataRecord::BrokerEpochs { last: reader.epoch()? },
        14 => MetadataRecord::ForgetEligible { topic: if reader.flag()? { Some(reader.uuid()?) } else { None } },
        15 => MetadataRecord::CreatedWith {
            topic: reader.uuid()?,
            replication_factor: u32::from_be_bytes(reader.take()?),
        },
        _ => unreachable!("its number was found among the kinds"),
    })
}

fn registration(version: u8, reader: &mut Reader<'_>) -> Result<Registration, What> {
    let mut registration = Registration {
        node_id: reader.node()?,
        directory_id: reader.uuid()?,
        broker_epoch: reader.epoch()?,
        listeners: reader.list(|reader| {
            Ok(Listener { name: reader.text()?, host: reader.text()?, port: u16::from_be_bytes(reader.take()?) })
        })?,
        rack: reader.optional()?,
        process: 0,
        peer_address: None,
        standing: Standing::Active,
    };
    if version >= 1 {
        registration.process = u64::from_be_bytes(reader.take()?);
        if reader.flag()? {
            let (host, port) = (reader.text()?, u16::from_be_bytes(reader.take()?));
            registration.peer_address = Some(PeerAddress { host, port });
        }
        registration.standing = match reader.take()? {
            [0] => Standing::Active,
            [1] => Standing::Fenced,
            [2] => Standing::ShuttingDown,
            _ => return Err(What::UnknownStanding),
        };
    }
    Ok(registration)
}

fn state(version: u8, reader: &mut Reader<'_>) -> Result<PartitionState, What> {
    let mut state = PartitionState {
        replicas: reader.list(Reader::node)?,
        isr: reader.list(Reader::node)?,
        leader: Some(reader.node()?).filter(|leader| *leader != NO_NODE),
        leader_epoch: reader.leader_epoch()?,
        partition_epoch: i32::from_be_bytes(reader.take()?),
        adding: Vec::new(),
        removing: Vec::new(),
        eligible: Vec::new(),
        unclean_epoch: None,
    };
    if version >= 1 {
        state.adding = reader.list(Reader::node)?;
        state.removing = reader.list(Reader::node)?;
        state.eligible = reader.list(Reader::node)?;
        state.unclean_epoch = if reader.flag()? { Some(reader.leader_epoch()?) } else { None };
    }
    Ok(state)
}

/// The bytes of an entry: records that take effect together.
pub fn encode_entry<R: Borrow<MetadataRecord>>(records: impl IntoIterator<Item = R>) -> Vec<u8> {
    let mut out = Vec::new();
    records.into_iter().for_each(|record| encode_one(record.borrow(), &mut out));
    out
}

/// Adds one more record to the bytes of an entry.
pub fn encode_one(record: &MetadataRecord, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; 4]);
    record.encode(out);
    let length = u32::try_from(out.len() - start - 4).expect("a record is far smaller than 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The records of an entry, in order.
///
/// # Errors
/// Where `bytes` are not an entry that this version knows. Never panics.
pub fn decode_entry(mut bytes: &[u8]) -> Result<Vec<MetadataRecord>, Malformed> {
    decode_some(&mut bytes, usize::MAX)
}

/// The next records of an entry, `count` of them where there are so many. `bytes` are what is left behind them.
///
/// # Errors
/// Where `bytes` are not an entry that this version knows. Never panics.
pub fn decode_some(bytes: &mut &[u8], count: usize) -> Result<Vec<MetadataRecord>, Malformed> {
    let mut records = Vec::new();
    while !bytes.is_empty() && records.len() < count {
        let (&length, rest) = bytes.split_first_chunk().ok_or(Malformed::EntryCut)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Malformed::EntryCut)?;
        let (record, rest) = rest.split_at_checked(length).ok_or(Malformed::EntryCut)?;
        records.push(MetadataRecord::decode(record)?);
        *bytes = rest;
    }
    Ok(records)
}

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

    fn epoch(&mut self) -> Result<i64, What> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    fn leader_epoch(&mut self) -> Result<LeaderEpoch, What> {
        Ok(LeaderEpoch(i32::from_be_bytes(self.take()?)))
    }

    fn flag(&mut self) -> Result<bool, What> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(What::NeitherThereNorNot),
        }
    }

    fn optional(&mut self) -> Result<Option<Str>, What> {
        if self.flag()? { self.text().map(Some) } else { Ok(None) }
    }

    /// A list. Nothing is allocated by its claimed length: every element takes at least a byte of what is there.
    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Result<T, What>) -> Result<Vec<T>, What> {
        (0..self.length()?).map(|_| element(self)).collect()
    }
}
