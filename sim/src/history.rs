//! What happened, as far as clients and operators can tell: the only thing that claims are judged by.
//!
//! Clients record what they ask and what they are told; engines record what they do to the broker and what it says to
//! its operator. Nothing here knows of an engine, so one set of claims judges them all.

use chronik_core::boundary::Level;
use chronik_core::ids::{Offset, TopicId, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use crate::plan::FaultKind;
use crate::value::Attempt;

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
    /// A connection was made.
    Connected,
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
    /// The broker's memory that it accounts for was above its bound.
    MemoryAbove {
        /// What, in bytes.
        used: u64,
        /// The bound.
        bound: u64,
    },
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
}

/// All events in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The events.
    pub events: Vec<Event>,
}
