//! What happened, as far as clients and operators can tell: the only thing that claims are judged by.
//!
//! Clients record what they ask and what they are told; engines record what they do to the broker and what it says to
//! its operator. Nothing here knows of an engine, so one set of claims judges them all.

mod counted;
mod group;
mod members;

use std::fmt;

use chronik_core::boundary::Level;
use chronik_core::ids::{Offset, TopicId, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use crate::plan::FaultKind;
use crate::value::Attempt;

pub use counted::{COUNTED, counted};
pub use group::{Committed, InGroup, Place, Places, Stands, Tag};
pub use members::{Change, Members, Order};

/// Who reports an event: a client of the plan by its index, or one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

impl ClientId {
    /// Who creates the plan's topics before all else.
    pub const SETUP: ClientId = ClientId(u32::MAX - 2);
    /// Who reads every partition from start to end when all has healed: what it finds is the final truth.
    pub const AUDITOR: ClientId = ClientId(u32::MAX - 1);
    /// The engine: what is done to the broker, and what it tells its operator.
    pub const ENGINE: ClientId = ClientId(u32::MAX);
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, in true simulated time.
    pub at: Instant,
    /// Whose.
    pub client: ClientId,
    /// Which broker it is about, where the engine reports it; 1 elsewhere.
    pub node: u32,
    /// The index of the client's operation that it belongs to, if to one.
    pub operation: Option<u32>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A batch is about to be written to a connection, for the first time or again. One that an idempotent producer
    /// sends again is the same attempt; a plain producer's is the next one.
    Produce {
        /// Where to. By name the id is the one that the client believes the name to have.
        to: TopicPartition,
        /// What.
        attempt: Attempt,
        /// How many records.
        records: u32,
        /// The length of each value, in bytes.
        value_bytes: u32,
        /// 0, 1 or -1.
        acks: i16,
        /// Producer id, epoch and first sequence of an idempotent one.
        sequence: Option<(i64, i16, i32)>,
        /// The greatest timestamp of its records, in milliseconds since 1970.
        timestamp: i64,
        /// Whether the topic was named by id, so that it cannot have gone to another of that name.
        is_by_id: bool,
    },
    /// The broker took it.
    Produced {
        /// Where to.
        to: TopicPartition,
        /// What.
        attempt: Attempt,
        /// The first record's offset; below 0 where the broker only knows it for a duplicate, or acks is 0.
        base: Offset,
        /// The partition's log start offset, below 0 where not told.
        log_start: Offset,
        /// How many records.
        records: u32,
        /// 1 or -1.
        acks: i16,
    },
    /// A sending was answered with an error; what becomes of the attempt is told by the event that ends it.
    ProduceFailed {
        /// Where to.
        to: TopicPartition,
        /// Why.
        code: ErrorCode,
    },
    /// The broker declined it, by an error after which it has not been appended and will not be.
    ProduceRefused {
        /// Where to.
        to: TopicPartition,
        /// What.
        attempt: Attempt,
        /// Why.
        code: ErrorCode,
    },
    /// Whether the broker took it is not known: no answer, or an error that leaves it open.
    ProduceUnknown {
        /// Where to.
        to: TopicPartition,
        /// What.
        attempt: Attempt,
    },
    /// A consumer was told this of one partition.
    Fetched {
        /// Which.
        partition: TopicPartition,
        /// From which offset it asked.
        from: Offset,
        /// When it asked.
        asked_at: Instant,
        /// Kafka's error code.
        code: ErrorCode,
        /// High watermark; below 0 where not told, as the following two.
        high_watermark: Offset,
        /// Last stable offset.
        last_stable: Offset,
        /// Log start offset.
        log_start: Offset,
        /// The records from `from` on, in the order in which they came; a batch's records below `from` are left out.
        records: Vec<Read>,
        /// Where it reads on: after the last batch, of which records may be gone where the topic compacts.
        next: Offset,
    },
    /// An answer to ListOffsets.
    Listed {
        /// Which.
        partition: TopicPartition,
        /// What was asked for: -1 latest, -2 earliest, -3 max timestamp, else milliseconds since 1970.
        asked: i64,
        /// When it was asked.
        asked_at: Instant,
        /// Kafka's error code.
        code: ErrorCode,
        /// The offset, -1 for none.
        offset: Offset,
        /// Its timestamp, -1 for none.
        timestamp: i64,
    },
    /// An answer to OffsetForLeaderEpoch.
    EpochEnds {
        /// Of which partition.
        partition: TopicPartition,
        /// Which epoch was asked for.
        asked: i32,
        /// The largest epoch known that is not beyond it, -1 for none.
        leader_epoch: i32,
        /// The offset after the last of that epoch, -1 for none.
        end: Offset,
    },
    /// An answer to DescribeConfigs: one config of a topic.
    Described {
        /// The topic's name.
        topic: String,
        /// Kafka's name of the config.
        name: String,
        /// The value in force.
        value: Option<String>,
    },
    /// A topic is about to be created.
    CreateTopic {
        /// Its name.
        name: String,
    },
    /// A topic was created, or the client found a new id under the name.
    TopicCreated {
        /// Its name.
        name: String,
        /// Its id.
        id: TopicId,
        /// How many partitions.
        partitions: i32,
    },
    /// A topic is about to be deleted.
    DeleteTopic {
        /// Its name.
        name: String,
        /// The id that the client believes it to have.
        id: TopicId,
    },
    /// A topic was deleted.
    TopicDeleted {
        /// Its name.
        name: String,
        /// The id that the client believes it to have had.
        id: TopicId,
    },
    /// Records are about to be deleted.
    DeleteRecords {
        /// Of which partition.
        partition: TopicPartition,
        /// Those below this offset.
        before: Offset,
    },
    /// Records were deleted.
    RecordsDeleted {
        /// Of which partition.
        partition: TopicPartition,
        /// The partition's log start offset since.
        low_watermark: Offset,
    },
    /// A topic's config is about to be changed.
    AlterConfig {
        /// Its name.
        topic: String,
        /// Kafka's name of the config.
        name: String,
        /// The value; `None` puts the default back.
        value: Option<String>,
    },
    /// A partition is about to be moved to other brokers.
    MoveReplicas {
        /// Its topic's name.
        topic: String,
        /// Its index.
        partition: i32,
        /// The brokers that are to hold it; `None` where a move is to be stopped.
        to: Option<Vec<u32>>,
    },
    /// Who belongs to the cluster is about to be changed.
    ChangeMembers {
        /// Which broker's part in it.
        node: u32,
        /// How.
        change: Change,
    },
    /// That was done.
    MembersChanged {
        /// Which broker's part in it.
        node: u32,
        /// How.
        change: Change,
    },
    /// That was declined: it has not been done and will not be.
    MembersStay {
        /// Which broker's part in it.
        node: u32,
        /// How it was to change.
        change: Change,
    },
    /// Whoever runs the broker's machine has this done to it.
    Ordered(Order),
    /// The first of its replicas is about to be made a partition's leader.
    ElectLeader {
        /// Its topic's name.
        topic: String,
        /// Its index.
        partition: i32,
    },
    /// Something between the client and a group.
    Group {
        /// The group's number in the plan.
        group: u32,
        /// What.
        what: InGroup,
    },
    /// An operation is over: answered well, refused, or given up.
    Finished {
        /// Whether it was answered well.
        is_ok: bool,
        /// The last error, where there was one.
        code: Option<ErrorCode>,
    },
    /// A client has nothing more to do.
    Done,
    /// A client saw the broker break the protocol: an answer that cannot be read, that nobody asked for, out of order;
    /// a connection closed that was in order; bytes that are not those sent.
    Broken {
        /// A sentence.
        what: String,
    },
    /// An answer to an idempotent producer does not fit its sequences, if the topic is the one that it takes it for: one
    /// that has been created anew does not know the producer, and takes whatever comes first (KIP-360).
    OutOfSequence {
        /// Where it wrote to, as it believes.
        to: TopicPartition,
        /// Whether the topic was named by id, so that it cannot be another of that name.
        is_by_id: bool,
        /// Whether it refuses a batch that was sent before, and may have been appended then.
        is_again: bool,
        /// A sentence.
        what: String,
    },
    /// A connection was made.
    Connected,
    /// A client has waited for an answer as long as it does: it gives the connection up.
    GaveUp {
        /// When the oldest request without an answer was sent.
        since: Instant,
    },
    /// A connection ended, and whether requests were without an answer.
    Disconnected {
        /// How many.
        unanswered: u32,
    },
    /// The engine did this.
    Fault(FaultKind),
    /// The broker's process serves, with what its recovery told, a line each.
    Started {
        /// Notes of the recovery.
        notes: Vec<String>,
    },
    /// The broker's process could not start.
    StartFailed {
        /// Why.
        why: String,
    },
    /// The broker's process ended: killed, stopped in order, or by itself for this reason.
    Ended {
        /// Its last words; `None` where it was killed.
        why: Option<String>,
    },
    /// A line of the broker's log.
    Logged {
        /// How much it matters.
        level: Level,
        /// What it says.
        text: String,
    },
    /// Everything has healed: from here on clients must make progress.
    Healed,
    /// What a broker believes of a partition that it holds, where that has changed or was looked at: the only thing here
    /// that no client is told.
    Stands(Box<Standing>),
    /// A broker holds no replica of a partition any more: what it may get next begins anew.
    Left {
        /// Which.
        partition: TopicPartition,
    },
    /// What a broker believes of the metadata quorum, where that has changed or was looked at.
    Votes {
        /// The term.
        term: u64,
        /// Whether it leads in it.
        leads: bool,
        /// How much of the metadata log has committed, as it knows.
        committed: u64,
    },
    /// Who belongs to the cluster as a broker knows it, where that has changed or was looked at.
    Members(Box<Members>),
    /// The leader of the metadata quorum takes something for committed that a majority does not have on its disks, as the
    /// engine sees at once and nobody is told.
    CommitsAlone {
        /// How much has committed, as it believes.
        committed: u64,
        /// Whom it counts, with how much of the log each has on its disk.
        voters: Vec<(u32, u64)>,
    },
    /// The disk of a broker that counts for a partition's high watermark lacks something below it, as the engine sees at
    /// once and nobody is told.
    Lacks {
        /// Which partition.
        partition: TopicPartition,
        /// Which broker, of those that the newest state of the partition has in sync.
        member: u32,
        /// Everything below is on its disk.
        durable: Offset,
        /// The greatest high watermark that anybody who led has had.
        high_watermark: Offset,
    },
    /// The auditor read this of one replica of a partition, from its follower.
    Copied {
        /// Which partition.
        partition: TopicPartition,
        /// On which broker.
        node: u32,
        /// From which offset it asked.
        from: Offset,
        /// Kafka's error code.
        code: ErrorCode,
        /// The records from `from` on.
        records: Vec<Read>,
        /// Where it reads on.
        next: Offset,
        /// Where the leader's high watermark was when it was read.
        until: Offset,
    },
    /// The broker's memory that it accounts for was above its bound.
    MemoryAbove {
        /// What, in bytes.
        used: u64,
        /// The bound.
        bound: u64,
    },
}

/// What a broker believes of a partition that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub partition: TopicPartition,
    /// What part it plays.
    pub role: Role,
    /// The newest leader epoch that it knows of.
    pub leader_epoch: i32,
    /// The number of the partition's state in the metadata.
    pub partition_epoch: i32,
    /// On how many brokers it lies by the metadata, those that it is to leave among them.
    pub replicas: usize,
    /// Whether it is on its way to other brokers.
    pub is_moving: bool,
    /// Whom the metadata count for the high watermark.
    pub in_sync: Vec<u32>,
    /// How many of those there must be (`min.insync.replicas`).
    pub in_sync_min: usize,
    /// Everything below is on the whole in-sync set, as far as it knows.
    pub high_watermark: Offset,
    /// Where its log starts ...
    pub start: Offset,
    /// ... and ends.
    pub end: Offset,
}

/// What part a replica plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leads,
    /// It follows.
    Follows,
    /// Neither.
    Rests,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { partition, role, leader_epoch, partition_epoch, in_sync, high_watermark, start, end, .. } = self;
        write!(
            f,
            "{role:?} {partition} in epoch {leader_epoch}, state {partition_epoch} with {in_sync:?} in sync, {} to {}, high \
             watermark {}",
            start.0, end.0, high_watermark.0
        )
    }
}

/// One record as a consumer got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp: i64,
    /// Whose it is: the attempt and its place in it.
    pub attempt: Attempt,
    /// Its place in its batch.
    pub index: u32,
    /// The leader epoch of its batch.
    pub leader_epoch: i32,
}

/// All events in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The events.
    pub events: Vec<Event>,
}

impl History {
    /// How many answers to fetches passed over records that are gone from the middle of their log: what compaction
    /// removed, as readers see it.
    pub fn passed_over(&self) -> u64 {
        let passes = |event: &&Event| match &event.what {
            What::Fetched { from, next, records, .. } => {
                let from = records.first().map_or(*from, |first| first.offset);
                next.0 - from.0 > i64::try_from(records.len()).expect("few")
            }
            _ => false,
        };
        self.events.iter().filter(passes).count() as u64
    }
}

impl fmt::Display for What {
    /// One line, for timelines and reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Produce { to, attempt, records, acks, sequence, .. } => {
                write!(f, "produce {records} records ({attempt}) to {to}, acks {acks}")?;
                sequence
                    .map_or(Ok(()), |(id, epoch, first)| write!(f, ", producer {id} epoch {epoch} sequence {first}"))
            }
            What::Produced { to, attempt, base, .. } => {
                write!(f, "{attempt} is acknowledged at {to} offset {}", base.0)
            }
            What::ProduceFailed { to, code } => write!(f, "a batch for {to} is answered with {code:?}"),
            What::ProduceRefused { to, attempt, code } => write!(f, "{attempt} to {to} is refused: {code:?}"),
            What::ProduceUnknown { to, attempt } => write!(f, "what became of {attempt} to {to} is not known"),
            What::Fetched { partition, from, code, high_watermark, log_start, records, .. } => {
                write!(f, "fetched {partition} from {}: ", from.0)?;
                match (records.first(), records.last()) {
                    (Some(first), Some(last)) => write!(f, "offsets {}..={}", first.offset.0, last.offset.0)?,
                    _ => f.write_str("nothing")?,
                }
                write!(f, ", high watermark {}, log start {}, {code:?}", high_watermark.0, log_start.0)
            }
            What::Listed { partition, asked, code, offset, timestamp, .. } => {
                write!(f, "offset of {partition} for {asked}: {} at {timestamp}, {code:?}", offset.0)
            }
            What::EpochEnds { partition, asked, leader_epoch, end } => {
                write!(f, "leader epoch {asked} of {partition}: {leader_epoch} ends at {}", end.0)
            }
            What::Described { topic, name, value } => write!(f, "{name} of {topic} is {value:?}"),
            What::CreateTopic { name } => write!(f, "create topic {name}"),
            What::TopicCreated { name, id, partitions } => write!(f, "topic {name} is {id}, {partitions} partitions"),
            What::DeleteTopic { name, id } => write!(f, "delete topic {name} ({id})"),
            What::TopicDeleted { name, id } => write!(f, "topic {name} ({id}) is deleted"),
            What::DeleteRecords { partition, before } => write!(f, "delete records of {partition} below {}", before.0),
            What::RecordsDeleted { partition, low_watermark } => {
                write!(f, "records of {partition} below {} are deleted", low_watermark.0)
            }
            What::AlterConfig { topic, name, value } => write!(f, "set {name} of {topic} to {value:?}"),
            What::MoveReplicas { topic, partition, to: Some(to) } => write!(f, "move {topic}-{partition} to {to:?}"),
            What::MoveReplicas { topic, partition, to: None } => write!(f, "stop moving {topic}-{partition}"),
            What::ChangeMembers { node, change } => write!(f, "{change} broker {node}"),
            What::MembersChanged { node, change } => write!(f, "{change} broker {node}: done"),
            What::MembersStay { node, change } => write!(f, "{change} broker {node}: declined"),
            What::Ordered(order) => order.fmt(f),
            What::Members(members) => members.fmt(f),
            What::CommitsAlone { committed, voters } => {
                write!(f, "{committed} entries are taken for committed, where voters have {voters:?}")
            }
            What::ElectLeader { topic, partition } => write!(f, "have the first replica lead {topic}-{partition}"),
            What::Group { group, what } => write!(f, "group {group}: {what}"),
            What::Finished { is_ok: true, .. } => f.write_str("finished"),
            What::Finished { is_ok: false, code } => write!(f, "given up: {code:?}"),
            What::Done => f.write_str("nothing more to do"),
            What::Broken { what } => write!(f, "PROTOCOL BROKEN: {what}"),
            What::OutOfSequence { to, what, .. } => write!(f, "out of sequence in {to}: {what}"),
            What::Connected => f.write_str("connected"),
            What::GaveUp { since } => write!(f, "gives up waiting since {:.6} s", since.0 as f64 / 1e9),
            What::Disconnected { unanswered } => write!(f, "disconnected, {unanswered} requests unanswered"),
            What::Fault(fault) => write!(f, "fault {fault:?}"),
            What::Started { notes } if notes.is_empty() => f.write_str("the broker serves"),
            What::Started { notes } => write!(f, "the broker serves: {}", notes.join("; ")),
            What::StartFailed { why } => write!(f, "the broker cannot start: {why}"),
            What::Ended { why: None } => f.write_str("the broker is gone"),
            What::Ended { why: Some(why) } => write!(f, "the broker ends: {why}"),
            What::Logged { level, text } => write!(f, "{level:?}: {text}"),
            What::Healed => f.write_str("everything has healed"),
            What::Stands(standing) => standing.fmt(f),
            What::Left { partition } => write!(f, "holds {partition} no longer"),
            What::Votes { term, leads, committed } => {
                let part = if *leads { "leads" } else { "follows" };
                write!(f, "{part} in term {term}, {committed} entries have committed")
            }
            What::Lacks { partition, member, durable, high_watermark } => write!(
                f,
                "broker {member} is in sync in {partition} and has it durably up to {}, where the high watermark is {}",
                durable.0, high_watermark.0
            ),
            What::Copied { partition, node, from, code, records, .. } => {
                write!(f, "read {} records of {partition} from {} on broker {node}, {code:?}", records.len(), from.0)
            }
            What::MemoryAbove { used, bound } => write!(f, "{used} bytes held, {bound} allowed"),
        }
    }
}
