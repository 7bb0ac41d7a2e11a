//! The boundary between the broker and the world: what may happen to a node, and what it may want done.
//!
//! A driver (the shell, or a simulator) hands in one [`Input`] at a time and carries out the [`Effect`]s pushed into
//! the [`Outbox`], in their order. Effects are values: they can be logged, compared, delayed and replayed. Work per
//! byte happens outside: a connection decodes and verifies before it makes an input, and [`Task::run`] and
//! [`ReadPlan::run`](crate::log::ReadPlan::run) are functions that the driver calls wherever it likes to do such work.

mod committer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::batch::VerifiedBatch;
use crate::compact::{Pass, Progress};
use crate::group::{Finding, Question};
use crate::ids::{ConnId, ListenerId, NodeId, Offset, TopicId, TopicPartition, Uuid};
use crate::journal;
use crate::log::{ReadOutcome, ReadPlan};
use crate::peer;
use crate::topic_codecs::TopicCodecs;
use crate::wire::{self, ErrorCode, Str};

pub use committer::Committer;

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A client asks for something.
    Request {
        /// Where the answer goes. Every request gets exactly one [`Effect::Reply`], unless its connection closes first.
        to: ReplyTo,
        /// What is asked.
        request: Request,
    },
    /// A connection is gone; replies to it are pointless.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// The stream of a connection has taken all of an answer that is [told when sent](is_told_when_sent): nothing of it
    /// is in memory any more. Where the connection closes before, [`Input::Closed`] says as much.
    Sent {
        /// Which connection.
        conn: ConnId,
        /// The place of the request that was answered, as in [`ReplyTo`].
        sequence: u64,
    },
    /// The disk finished something that an effect asked for.
    Disk(Done),
    /// The instant that [`Node::deadline`](crate::node::Node::deadline) named has come.
    Deadline,
    /// Something happened between this broker and another one of its cluster.
    Peer(Box<PeerInput>),
    /// How large the data folder's volume is by now; for those who ask, nothing is decided by it.
    Volume(Volume),
    /// The process is asked to stop: finish what is in flight, checkpoint, then push [`Effect::Stopped`].
    Stop,
}

/// What happened between this broker and another one of its cluster. There is one connection for each pair and
/// direction: who dials, speaks (see [`peer`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerInput {
    /// A connection that this broker dialled stands, and the other side has introduced itself: what is said to the node
    /// from now on goes there.
    Connected(peer::Hello),
    /// The connection to this node is gone: what was said last may have arrived or not. The driver dials again by itself.
    Disconnected(NodeId),
    /// A peer's connection to this broker stands. Nothing more is heard from an older one of the same node.
    Arrived(peer::Hello),
    /// A peer says something on the connection that arrived last.
    Heard {
        /// Who.
        from: NodeId,
        /// Which process of it, as it introduced itself.
        process: u64,
        /// What. Batches in it are verified.
        message: peer::Message,
    },
    /// Who listens at this node's address will not talk, and has said why.
    Refused(NodeId, peer::Refused),
    /// Nobody listens at this node's address, whose machine says so itself, and no connection between the two stands in
    /// either direction. A hint that its process has ended, not a proof: something between the two may say so as well.
    Gone(NodeId),
}

/// Whom a broker keeps connections to, and as whom it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbours {
    /// How it introduces itself, to those who dial it as well.
    pub me: peer::Hello,
    /// The others.
    pub peers: BTreeMap<NodeId, Neighbour>,
}

/// One of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it listens for peers: a host as this broker resolves it.
    pub host: Str,
    /// And the port.
    pub port: u16,
    /// Its data folder, where that is known: whoever has another one is not it.
    pub directory_id: Option<Uuid>,
}

/// The volume that the data folder is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its size, in bytes.
    pub total_bytes: u64,
    /// What of it the broker may still fill, in bytes.
    pub usable_bytes: u64,
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The connection.
    pub conn: ConnId,
    /// The request's place in its connection's order, from 0; responses leave in this order.
    pub sequence: u64,
    /// The version that the client asked in.
    pub version: i16,
    /// The listener that the connection came in by; decides which addresses the client is told.
    pub listener: ListenerId,
}

/// Who a client says it is, and where it connects from; what is told about a member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The `client.id` of the request, empty where it has none.
    pub id: Str,
    /// The address, as Kafka tells it: with a slash before it.
    pub host: Str,
}

/// What a client asks for, with the work per byte already done. Small, since on its way it is moved from one place to
/// another a dozen times.
#[derive(Debug)]
pub enum Request {
    /// Append batches.
    Produce(Box<Produce>),
    /// Take part in a group: the requests by which a client becomes a member.
    Member {
        /// Who asks.
        client: Client,
        /// JoinGroup or ConsumerGroupHeartbeat.
        request: Box<wire::Request>,
    },
    /// Anything else, as decoded.
    Other(Box<wire::Request>),
}

/// A produce request whose batches are verified.
#[derive(Debug)]
pub struct Produce {
    /// 0: no answer; 1: answer when the leader's disk has it; -1: when all in-sync replicas' disks have it.
    pub acks: i16,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: i32,
    /// Set where the producer is transactional.
    pub transactional_id: Option<Str>,
    /// Whether it may write to the broker's own topics.
    pub may_write_internal: bool,
    /// What to append where.
    pub topics: SmallVec<[ProduceTopic; 1]>,
}

/// The part of a produce request that concerns one topic.
#[derive(Debug)]
pub struct ProduceTopic {
    /// The topic's name, empty from version 13 on.
    pub name: Str,
    /// The topic's id, zero before version 13.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: SmallVec<[ProducePartition; 1]>,
}

/// One batch for one partition.
#[derive(Debug)]
pub struct ProducePartition {
    /// The partition's index.
    pub index: i32,
    /// The batch, or why it was refused.
    pub batch: Result<VerifiedBatch, Refused>,
}

/// Why a request, or a part of it, is declined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's error code.
    pub code: ErrorCode,
    /// A sentence for the person who reads the client's log.
    pub message: Option<Str>,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused { code, message: None }
    }
}

/// What must be done.
#[derive(Debug)]
pub enum Effect {
    /// Send a response.
    Reply {
        /// Where to.
        to: ReplyTo,
        /// What; `None` where the request has no answer (acks=0) and only its place in the order is given up.
        response: Option<wire::Response>,
    },
    /// Close a connection after what was replied before has been sent.
    Close {
        /// Which.
        conn: ConnId,
        /// Why, for the log.
        why: &'static str,
    },
    /// Close a connection at once, whatever it is still owed, and report it with [`Input::Closed`].
    Cut {
        /// Which.
        conn: ConnId,
        /// Why, for the log.
        why: &'static str,
    },
    /// Do something on disk, and report it with [`Input::Disk`].
    Disk(DiskOp),
    /// From now on, keep a connection to each of these brokers, and to no other.
    Neighbours(Arc<Neighbours>),
    /// Say something to a broker, where a connection to it stands; else it is lost. What is said leaves in this order.
    Say {
        /// To whom.
        to: NodeId,
        /// What.
        message: Box<peer::Message>,
    },
    /// From now on, connections compress batches as this table says.
    TopicCodecs(Arc<TopicCodecs>),
    /// From now on, accept a further connection only while there are fewer than these.
    AllowConnections {
        /// In all.
        max: u32,
        /// From one address.
        max_per_ip: u32,
    },
    /// Tell the operator.
    Log(LogLine),
    /// Everything is on disk after [`Input::Stop`]; the process may end.
    Stopped,
    /// The node cannot go on without risking data: end the process with this message and a failure code.
    Fatal(String),
}

/// An answer that counts for so many bytes is told of when it has been sent. Smaller ones are no more than what many
/// requests hold.
pub(crate) const TOLD_FROM_BYTES: usize = 16 << 10;

/// A partition in the answer to a fetch counts for so many bytes beside its records: what they come to when they are
/// encoded, rounded up.
pub(crate) const PARTITION_BYTES: usize = 64;

/// Whether a driver says by [`Input::Sent`] when an answer has been sent, since the node keeps account of what it holds.
/// [`Connection::next_sent`](crate::connection::Connection::next_sent) asks this for the driver.
pub fn is_told_when_sent(response: &wire::Response) -> bool {
    match response {
        wire::Response::Fetch(response) => {
            let data = response.responses.iter().flat_map(|topic| &topic.partitions);
            let bytes = data.map(|data| data.records.as_ref().map_or(0, wire::Records::len) + PARTITION_BYTES);
            bytes.sum::<usize>() >= TOLD_FROM_BYTES
        }
        _ => false,
    }
}

/// How much an operator should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A transition, for those who follow closely.
    Debug,
    /// A change of role, a topic made or deleted.
    Info,
    /// Worth a look tomorrow.
    Warn,
    /// Wrong now.
    Error,
}

/// A line for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What happened, with its values.
    pub text: String,
}

/// Where a node pushes its effects.
#[derive(Debug, Default)]
pub struct Outbox(pub Vec<Effect>);

impl Outbox {
    /// Pushes one effect.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Pushes a log line.
    pub fn log(&mut self, level: Level, text: impl Into<String>) {
        self.0.push(Effect::Log(LogLine { level, text: text.into() }));
    }
}

/// Work for the disk.
#[derive(Debug)]
pub enum DiskOp {
    /// Make the bodies durable, and then, only then, the commit of the journal that names them. At most one is in
    /// flight; everything waits for it.
    Commit(journal::Commit, Vec<DirectWrite>),
    /// Read from segments, on any thread, in any order beside all else.
    Read(ReadId, ReadPlan),
    /// Background work: tasks are carried out one after another, in the order of their effects.
    Task(TaskId, Task),
    /// Work out something of some milliseconds, or for a hostile client's question a second, on any thread, beside all
    /// else. It needs no disk.
    Question(QuestionId, Box<Question>),
    /// Take one step of a compaction, beside all else. There is one at a time. It may take its time: up to a second,
    /// where a batch decompresses to very much.
    Compact(Box<Pass>),
}

/// The body of a large batch on its way straight into its segment.
#[derive(Debug)]
pub struct DirectWrite {
    /// The segment.
    pub segment: SegmentName,
    /// Where; a multiple of [`DIRECT_BLOCK`].
    pub position: u64,
    /// What, one piece after another; together a multiple of [`DIRECT_BLOCK`].
    pub pieces: Vec<Bytes>,
}

/// What a direct write is a multiple of, in bytes: what disks and page caches deal in.
pub const DIRECT_BLOCK: u64 = 4096;

/// Makes direct writes durable; what a driver does before it writes the commit.
///
/// # Errors
/// The first [`DiskError`].
pub fn write_direct(files: &dyn Files, writes: &[DirectWrite]) -> Result<(), DiskError> {
    let mut segments = std::collections::BTreeSet::new();
    for write in writes {
        files.write_direct(FileName::Segment(write.segment), write.position, &write.pieces)?;
        segments.insert(write.segment);
    }
    segments.into_iter().try_for_each(|segment| files.sync(FileName::Segment(segment)))
}

/// Names a read until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// Names a background task until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// Names a question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuestionId(pub u64);

/// What the disk finished.
#[derive(Debug)]
pub enum Done {
    /// The commit with this number is durable, or failed: a failed commit is final for the node.
    Commit(u64, Result<(), DiskError>),
    /// The commit with this number is with the operating system, which is all that the operator asks for; it is durable
    /// with the next one that is. Only for commits that need not be synced.
    Written(u64),
    /// A read.
    Read(ReadId, Result<ReadOutcome, DiskError>),
    /// A background task.
    Task(TaskId, Result<(), DiskError>),
    /// The answer to a question.
    Finding(QuestionId, Box<Finding>),
    /// A step of a compaction; the value is the same one, advanced.
    Compacted(Box<Pass>, Result<Progress, DiskError>),
}

/// A file of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A slot of the journal's ring.
    Journal(u32),
    /// One of the two checkpoint slots.
    Checkpoint(u32),
    /// A segment: plain record batches.
    Segment(SegmentName),
    /// The sparse index of a segment.
    Index(SegmentName),
}

/// A segment of a partition, named by its first offset and by how often it was written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Whose.
    pub partition: TopicPartition,
    /// The first offset that it may hold.
    pub base: Offset,
    /// 0 for a segment as it was appended. Compaction writes segments anew, each under a number that no other file of
    /// this partition has: old and new lie side by side until the journal has settled which of them counts. A log whose
    /// end was cut appends to segments whose numbers begin behind [`SegmentName::AFTER_CUT`], others after each cut: so
    /// none of them has the files of one that was cut.
    pub generation: u32,
}

impl SegmentName {
    /// Generations above are of segments that were appended after cuts, those below of compaction.
    pub const AFTER_CUT: u32 = 1 << 31;

    /// A segment as it was appended.
    pub fn appended(partition: TopicPartition, base: Offset) -> SegmentName {
        SegmentName { partition, base, generation: 0 }
    }

    /// Its path inside the data folder, without the extension. That of generation 0 is Kafka's.
    fn stem(&self) -> String {
        let SegmentName { partition, base, generation } = self;
        match generation {
            0 => format!("topics/{partition}/{:020}", base.0),
            generation => format!("topics/{partition}/{:020}.{generation}", base.0),
        }
    }
}

impl fmt::Display for FileName {
    /// The path inside the data folder, with `/` between its parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Journal(slot) => write!(f, "journal/{slot:04}.journal"),
            FileName::Checkpoint(slot) => write!(f, "journal/{slot}.checkpoint"),
            FileName::Segment(name) => write!(f, "{}.log", name.stem()),
            FileName::Index(name) => write!(f, "{}.index", name.stem()),
        }
    }
}

/// Why the disk did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// No space or quota left (ENOSPC, EDQUOT): may pass.
    NoSpace(FileName),
    /// The operating system reports an error; for a write or a sync this is final, since what the disk holds is unknown.
    Io(FileName, String),
    /// The bytes read are not those written.
    Corrupt(FileName, u64, String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::NoSpace(file) => write!(f, "no space left for {file}"),
            DiskError::Io(file, text) => write!(f, "{file}: {text}"),
            DiskError::Corrupt(file, position, text) => write!(f, "{file} is damaged at byte {position}: {text}"),
        }
    }
}

impl std::error::Error for DiskError {}

/// The files of one data folder, as blocking calls. What is written is durable only after [`Files::sync`].
///
/// Implemented by the shell over real files and by a simulator over a disk that lies as real ones do. Any thread may
/// call; nothing here is called from within [`Node::step`](crate::node::Node::step).
pub trait Files: Send + Sync {
    /// The file's length in bytes, `None` where there is no such file.
    fn len(&self, file: FileName) -> Result<Option<u64>, DiskError>;
    /// Fills `buf` from `position` on; fewer bytes are returned only at the end of the file.
    fn read_at(&self, file: FileName, position: u64, buf: &mut [u8]) -> Result<usize, DiskError>;
    /// Reads `bytes` bytes from `position` on; fewer only at the end of the file. For large reads: the memory may be
    /// lent, and is used again once nobody holds what was read.
    fn read(&self, file: FileName, position: u64, bytes: usize) -> Result<Bytes, DiskError> {
        let mut buffer = vec![0; bytes];
        let read = self.read_at(file, position, &mut buffer)?;
        buffer.truncate(read);
        Ok(buffer.into())
    }
    /// Writes all pieces one after another from `position` on, making file and folder where they do not exist.
    fn write_at(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError>;
    /// As [`Files::write_at`] for whole blocks ([`DIRECT_BLOCK`]), past the page cache where there is one: large
    /// amounts that nobody reads back soon. Durable after [`Files::sync`].
    fn write_direct(&self, file: FileName, position: u64, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.write_at(file, position, pieces)
    }
    /// Reserves blocks for a range, so that a later write into it cannot fail for want of space.
    fn allocate(&self, file: FileName, position: u64, bytes: u64) -> Result<(), DiskError>;
    /// Cuts the file to `bytes`.
    fn truncate(&self, file: FileName, bytes: u64) -> Result<(), DiskError>;
    /// Begins what a [`Files::sync`] would have to do, so that many files are written side by side before the first of them
    /// is waited for. Makes nothing durable, and may do nothing at all.
    fn begin_sync(&self, _file: FileName) -> Result<(), DiskError> {
        Ok(())
    }
    /// Makes what was written durable, the file's existence included.
    fn sync(&self, file: FileName) -> Result<(), DiskError>;
    /// Removes a file; one that does not exist is no error.
    fn remove(&self, file: FileName) -> Result<(), DiskError>;
    /// Removes a partition's folder with all that is in it.
    fn remove_partition(&self, partition: TopicPartition) -> Result<(), DiskError>;
    /// The partitions that have a folder, in order.
    fn partitions(&self) -> Result<Vec<TopicPartition>, DiskError>;
    /// The segments of which a partition's folder holds a file, in order.
    fn segments(&self, partition: TopicPartition) -> Result<Vec<SegmentName>, DiskError>;
}

/// Background work: see [`DiskOp::Task`].
#[derive(Debug)]
pub enum Task {
    /// Make a journal slot of `bytes` zeros, durable.
    ExtendJournal {
        /// Which slot.
        slot: u32,
        /// Its size.
        bytes: u64,
    },
    /// Reserve blocks of a segment for bodies to come.
    Allocate {
        /// The segment.
        segment: SegmentName,
        /// From where on in its file.
        position: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// Write behind: batches into a segment and entries into its index.
    Flush {
        /// The segment.
        segment: SegmentName,
        /// Runs of bytes with their places in the segment file; between them lie bodies that are there already.
        runs: Vec<(u64, Vec<Bytes>)>,
        /// Where in the index file.
        index_position: u64,
        /// The entries.
        index: Bytes,
        /// Set where the segment is closed and complete with this: its length. What was reserved beyond is given back.
        trim: Option<u64>,
    },
    /// Give back what was reserved beyond the end of a closed segment.
    Trim {
        /// The segment.
        segment: SegmentName,
        /// Its length.
        bytes: u64,
    },
    /// Make what was flushed durable.
    Sync {
        /// The segments, with their indexes.
        segments: Vec<SegmentName>,
        /// Others that are synced next: their writing is begun too.
        ahead: Vec<SegmentName>,
    },
    /// Write a part of a checkpoint.
    Checkpoint {
        /// Which of the two slots.
        slot: u32,
        /// Where in its file.
        position: u64,
        /// The bytes.
        chunks: Vec<Bytes>,
        /// Set on the last part: make the file durable.
        last: bool,
    },
    /// Remove segments that no checkpoint names any more.
    RemoveSegments(Vec<SegmentName>),
    /// Remove a partition that no checkpoint names any more.
    RemovePartition(TopicPartition),
}

/// How much of zeros is written at once when a journal file is made: nobody waits for it, and a broker at rest keeps the
/// memory that it took.
const ZEROS: usize = 128 << 10;

impl Task {
    /// Carries the task out.
    ///
    /// # Errors
    /// The first [`DiskError`]; [`DiskError::NoSpace`] leaves nothing half-done that a second run would not mend.
    pub fn run(&self, files: &dyn Files) -> Result<(), DiskError> {
        match self {
            Task::ExtendJournal { slot, bytes } => {
                let file = FileName::Journal(*slot);
                // A half-made slot would take the space that something else needs.
                zero_fill(files, file, 0, *bytes).inspect_err(|_| drop(files.remove(file)))
            }
            Task::Allocate { segment, position, bytes } => {
                files.allocate(FileName::Segment(*segment), *position, *bytes)
            }
            Task::Flush { segment, runs, index_position, index, trim } => {
                let file = FileName::Segment(*segment);
                // Delayed allocation would report a full disk only when the pages are written back, after they are
                // out of our hands: blocks are reserved first.
                for (position, pieces) in runs {
                    let total: usize = pieces.iter().map(Bytes::len).sum();
                    files.allocate(file, *position, total as u64)?;
                }
                files.allocate(FileName::Index(*segment), *index_position, index.len() as u64)?;
                for (position, pieces) in runs {
                    files.write_at(file, *position, pieces)?;
                }
                files.write_at(FileName::Index(*segment), *index_position, std::slice::from_ref(index))?;
                trim.map_or(Ok(()), |bytes| files.truncate(file, bytes))
            }
            Task::Trim { segment, bytes } => files.truncate(FileName::Segment(*segment), *bytes),
            Task::Sync { segments, ahead } => {
                if segments.len() + ahead.len() > 1 {
                    for segment in segments.iter().chain(ahead) {
                        files.begin_sync(FileName::Segment(*segment))?;
                        files.begin_sync(FileName::Index(*segment))?;
                    }
                }
                for segment in segments {
                    files.sync(FileName::Segment(*segment))?;
                    files.sync(FileName::Index(*segment))?;
                }
                Ok(())
            }
            Task::Checkpoint { slot, position, chunks, last } => {
                write_checkpoint(files, FileName::Checkpoint(*slot), *position, chunks, *last)
            }
            Task::RemoveSegments(segments) => {
                for segment in segments {
                    files.remove(FileName::Segment(*segment))?;
                    files.remove(FileName::Index(*segment))?;
                }
                Ok(())
            }
            Task::RemovePartition(partition) => files.remove_partition(*partition),
        }
    }
}

/// What the length of a checkpoint's file is a multiple of, in bytes. A checkpoint that fits what is there needs no space
/// and changes no metadata: its sync writes its own blocks and nothing else.
const CHECKPOINT_STEP_BYTES: u64 = 1 << 20;
/// A checkpoint's file gives space back where it is so many times as long as what is in it.
const CHECKPOINT_SLACK: u64 = 4;

/// Makes a checkpoint slot that is large enough for most, durable, where there is none.
///
/// # Errors
/// The first [`DiskError`]; then the slot is not there.
pub fn make_checkpoint_slot(files: &dyn Files, slot: u32) -> Result<(), DiskError> {
    let file = FileName::Checkpoint(slot);
    match files.len(file)? {
        Some(_) => Ok(()),
        None => zero_fill(files, file, 0, CHECKPOINT_STEP_BYTES).inspect_err(|_| drop(files.remove(file))),
    }
}

/// Writes a part of a checkpoint. Its end marker tells where it ends: what an older one left behind it stays.
fn write_checkpoint(
    files: &dyn Files,
    file: FileName,
    position: u64,
    chunks: &[Bytes],
    last: bool,
) -> Result<(), DiskError> {
    let end = position + chunks.iter().map(Bytes::len).sum::<usize>() as u64;
    let before = files.len(file)?.unwrap_or(0);
    if end > before {
        let length = end.next_multiple_of(CHECKPOINT_STEP_BYTES);
        files.allocate(file, position, length - position)?;
    }
    files.write_at(file, position, chunks)?;
    if !last {
        return Ok(());
    }
    let enough = end.next_multiple_of(CHECKPOINT_STEP_BYTES);
    if before < enough {
        return zero_fill(files, file, end, enough);
    }
    if before > CHECKPOINT_SLACK * enough {
        files.truncate(file, enough)?;
    }
    files.sync(file)
}

/// Fills a file with zeros from `at` up to `end`, durable.
fn zero_fill(files: &dyn Files, file: FileName, mut at: u64, end: u64) -> Result<(), DiskError> {
    let zeros = Bytes::from(vec![0; ZEROS]);
    while at < end {
        let step = (end - at).min(ZEROS as u64);
        let step_bytes = usize::try_from(step).expect("at most ZEROS");
        // Past the page cache: a sync of many dirty pages at once would hold up the commits meanwhile.
        files.write_direct(file, at, &[zeros.slice(..step_bytes)])?;
        at += step;
    }
    files.sync(file)
}
