//! Start-up: from the files of a data folder to a node that serves. Plain functions, one after another; nothing leaves
//! the node before what it recovered is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::metadata::{Metadata, Recalled};
use super::tails::{Accounted, Tails};
use super::{
    ClusterOptions, Counters, Hosted, Node, Reason, checkpoints, compaction, groups, hosting, leaders, logs, mending,
    replicas, scrub, session, slices, storage,
};
use crate::boundary::{DiskError, Effect, FileName, Files, Outbox, SegmentName, Task, make_checkpoint_slot};
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::controller::records::Listener;
use crate::controller::{GROUP_OFFSETS, ProducerIdBlock, is_internal};
use crate::ids::{Lsn, NodeId, TopicPartition, Uuid};
use crate::journal::checkpoint::{self, CheckpointError};
use crate::journal::{self, Damage, Geometry, Place, Record, RecordKind, Recovered, RecoveryError, Visitor};
use crate::limits::Limits;
use crate::log::{self, Bodies, Log, PayloadError};
use crate::partition::Partition;
use crate::raft::{self, Member, Membership};
use crate::rng::Rng;
use crate::time::Now;
use crate::topic_codecs::TopicCodecs;
use crate::wait::{Acks, Fetchers};
use crate::wire::Str;

/// Nobody reads yet what a start finds to be removed.
const NO_DELAY: u64 = 0;

/// The stream of chance that ids of fetch sessions are drawn from.
const SESSIONS: u64 = 1;

/// What a node is told at its birth.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its number in the cluster.
    pub node_id: NodeId,
    /// The identity of its data folder.
    pub directory_id: Uuid,
    /// The cluster's identity; empty where it is not known yet.
    pub cluster_id: Str,
    /// The data folder's absolute path, for DescribeLogDirs.
    pub data_dir: Str,
    /// Its listeners in the order of their [`ListenerId`](crate::ids::ListenerId)s: name, advertised host, advertised
    /// port.
    pub listeners: Vec<(Str, Str, u16)>,
    /// Kafka's broker settings.
    pub broker: BrokerConfig,
    /// What bounds it.
    pub limits: Limits,
    /// The journal's measures.
    pub journal: Geometry,
    /// Batches of at least so many bytes are written once, straight to their segments. The order that this relies on,
    /// body before record, holds only where commits are synced: `u64::MAX` where they are not.
    pub direct_from: u64,
    /// As what it is part of a cluster; none where it stands alone.
    pub cluster: Option<ClusterOptions>,
}

/// What [`NodeOptions::direct_from`] is unless there is a reason: below it a sync of one more file costs more than
/// writing twice (docs/decisions/0002).
pub const DIRECT_FROM: u64 = 256 << 10;

/// What recovery found, for the line that start-up prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Journal records taken again.
    pub records: u64,
    /// What an operator should know, a line each: a torn commit that was cut, damage by partition.
    pub notes: Vec<String>,
}

/// Why a node cannot start on these files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The disk failed.
    Disk(DiskError),
    /// The journal cannot be used as it is.
    Journal(RecoveryError),
    /// Neither checkpoint can be used.
    Checkpoint(CheckpointError),
    /// A record or checkpoint entry makes no sense.
    Content(String),
    /// A file of the journal is missing, cut off or empty that held something.
    Lost(String),
    /// The files are sound, and are not for a node that is started like this one.
    Unfit(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Disk(error) => error.fmt(f),
            StartError::Journal(error) => error.fmt(f),
            StartError::Checkpoint(error) => error.fmt(f),
            StartError::Content(text) | StartError::Lost(text) | StartError::Unfit(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DiskError> for StartError {
    fn from(error: DiskError) -> StartError {
        StartError::Disk(error)
    }
}

/// Numbered files as recovery reads them.
struct Numbered<'a> {
    files: &'a dyn Files,
    name: fn(u32) -> FileName,
    lengths: Vec<u64>,
}

impl<'a> Numbered<'a> {
    /// The files from number 0 up, at most `max` of them. Below a `max` of a few, one that does not exist is empty;
    /// of many, the first that does not exist ends the row.
    fn open(files: &'a dyn Files, name: fn(u32) -> FileName, max: u32) -> Result<Numbered<'a>, DiskError> {
        let mut lengths = Vec::new();
        for number in 0..max {
            match files.len(name(number))? {
                Some(bytes) => lengths.push(bytes),
                None if max == u32::MAX => break,
                None => lengths.push(0),
            }
        }
        Ok(Numbered { files, name, lengths })
    }

    /// A file that lies behind the row's end, up to `ahead` numbers further.
    fn beyond(&self, ahead: u32) -> Result<Option<FileName>, DiskError> {
        let end = u32::try_from(self.lengths.len()).expect("few files");
        for file in (end + 1..=end.saturating_add(ahead)).map(self.name) {
            if self.files.len(file)?.is_some() {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

impl journal::Slots for Numbered<'_> {
    fn slots(&self) -> u32 {
        u32::try_from(self.lengths.len()).expect("few slots")
    }

    fn len(&self, slot: u32) -> u64 {
        self.lengths[slot as usize]
    }

    fn read_at(&self, slot: u32, position: u64, into: &mut [u8]) -> Result<(), journal::ReadError> {
        let read = self.files.read_at((self.name)(slot), position, into);
        match read {
            Ok(count) if count == into.len() => Ok(()),
            Ok(_) => Err(journal::ReadError("the file is shorter than it was".into())),
            Err(error) => Err(journal::ReadError(error.to_string())),
        }
    }
}

/// How much of a file is written again at once, in bytes.
const WRITE_AGAIN_BYTES: u64 = 1 << 20;

/// Writes the first `bytes` of a file again as they are read, and makes them durable.
///
/// What a sync failed to write stays readable from the page cache, marked as written, and a further sync that reports
/// success has nothing to do (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). The process that
/// saw the failure has ended because of it; the next one must not rely on what may be in the cache only. A tear in
/// what is written here leaves the file as a tear in the first attempt did: incomplete, and passed over.
fn write_again(files: &dyn Files, file: FileName, bytes: u64) -> Result<(), DiskError> {
    let mut at = 0;
    while at < bytes {
        let step = (bytes - at).min(WRITE_AGAIN_BYTES);
        let mut buffer = vec![0; usize::try_from(step).expect("at most WRITE_AGAIN_BYTES")];
        if files.read_at(file, at, &mut buffer)? != buffer.len() {
            return Err(DiskError::Io(file, "it is shorter than it was".into()));
        }
        files.write_at(file, at, &[Bytes::from(buffer)])?;
        at += step;
    }
    files.sync(file)
}

/// Segment files as replay reads them.
struct Segments<'a>(&'a dyn Files);

/// What replay builds.
struct Rebuilt<'a> {
    files: &'a dyn Files,
    /// The parts of a state of which the last one is to come.
    parts: BytesMut,
    metadata: Recalled,
    logs: BTreeMap<TopicPartition, Log>,
    damaged: BTreeMap<TopicPartition, String>,
    /// States of damaged partitions that no log could be made of.
    unread: BTreeMap<TopicPartition, Bytes>,
    dropped: Vec<SegmentName>,
}

impl Rebuilt<'_> {
    fn entry(&mut self, kind: u8, partition: TopicPartition, payload: &[u8]) -> Result<(), String> {
        self.parts.extend_from_slice(payload);
        if kind & checkpoints::GOES_ON != 0 {
            return Ok(());
        }
        let payload = self.parts.split().freeze();
        match RecordKind::from_number(kind).map_err(|error| error.to_string())? {
            RecordKind::NodeState => self.metadata.state(&payload)?,
            RecordKind::Quorum => self.metadata.quorum_state(payload)?,
            // Of a topic that is deleted by what came after the image.
            RecordKind::PartitionState if self.metadata.image.partition(partition).is_none() => {}
            RecordKind::PartitionState => {
                let damage = log::damage_of(&payload).map_err(|error| format!("partition {partition}: {error}"))?;
                let is_damaged = damage.is_some();
                let (why, state) = damage.map_or((None, payload), |(why, state)| (Some(why), state));
                self.damaged.extend(why.map(|why| (partition, why)));
                if is_damaged && state.is_empty() {
                    return Ok(());
                }
                match Log::decode(partition, state.clone(), &Segments(self.files)) {
                    Ok(log) => drop(self.logs.insert(partition, log)),
                    Err(error @ PayloadError::Version(_)) if !is_damaged => {
                        return Err(format!("the state of partition {partition}: {error}"));
                    }
                    // The state itself is sound, its checksum says so: a body that it names is not.
                    Err(error) => {
                        self.damaged.entry(partition).or_insert_with(|| error.to_string());
                        self.unread.insert(partition, state);
                    }
                }
            }
            other => return Err(format!("a checkpoint entry of kind {other:?}")),
        }
        Ok(())
    }

    fn metadata(&mut self, record: &Record<'_>) -> Result<(), String> {
        for id in self.metadata.record(record.kind, record.lsn, record.payload)? {
            self.logs.retain(|partition, _| partition.topic != id);
            self.damaged.retain(|partition, _| partition.topic != id);
            self.unread.retain(|partition, _| partition.topic != id);
        }
        Ok(())
    }
}

impl Rebuilt<'_> {
    /// A partition's log begins anew with this record: what was damaged before it is none of its own.
    fn begin_anew(&mut self, id: TopicPartition, lsn: Lsn) {
        let newest = match (self.unread.get(&id), self.logs.get(&id)) {
            // Of a state that this program cannot read nobody knows what it contains: the record may be older.
            (Some(state), _) => log::newest_of(state).unwrap_or(Some(Lsn(u64::MAX))),
            (None, log) => log.and_then(Log::newest),
        };
        if newest.is_none_or(|newest| newest < lsn) {
            self.damaged.remove(&id);
            self.unread.remove(&id);
        }
    }
}

impl Bodies for Segments<'_> {
    fn read(&self, segment: SegmentName, position: u64, bytes: usize) -> Result<Bytes, String> {
        let file = FileName::Segment(segment);
        let end = position.saturating_add(bytes as u64);
        if self.0.len(file).map_err(|error| error.to_string())?.is_none_or(|length| length < end) {
            return Err(format!("{file} ends before byte {end}"));
        }
        let mut buffer = vec![0; bytes];
        match self.0.read_at(file, position, &mut buffer) {
            Ok(read) if read == bytes => Ok(buffer.into()),
            Ok(_) => Err(format!("{file} ends before byte {end}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Visitor for Rebuilt<'_> {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        match record.kind {
            kind if kind.is_node_wide() => self.metadata(record),
            kind => {
                let id = record.partition;
                if kind == RecordKind::StartAnew {
                    self.begin_anew(id, record.lsn);
                }
                if self.damaged.contains_key(&id) || self.metadata.image.partition(id).is_none() {
                    // Of a topic that is deleted: nobody asks for it any more.
                    return Ok(());
                }
                let log = self.logs.entry(id).or_insert_with(|| Log::new(id));
                // What a log that begins anew lacks of the one before is of no use any more.
                if kind != RecordKind::StartAnew && log.is_missing(record.lsn, record.previous) {
                    let why = format!("the journal lacks a record of this partition before LSN {}", record.lsn);
                    self.damaged.insert(id, why);
                    return Ok(());
                }
                let bodies = Segments(self.files);
                match log.replay(record.lsn, kind, Bytes::copy_from_slice(record.payload), &bodies) {
                    Ok(gone) => self.dropped.extend(gone),
                    Err(error) => {
                        self.damaged.insert(id, format!("{}: {error}", record.place.in_journal()));
                    }
                }
                Ok(())
            }
        }
    }

    fn damaged(&mut self, damage: &Damage) -> Result<(), String> {
        if let Some((partition, _, _)) = damage.record {
            self.damaged.insert(partition, damage.to_string());
        }
        Ok(())
    }
}

fn journal_file(slot: usize) -> FileName {
    FileName::Journal(u32::try_from(slot).expect("few slots"))
}

/// Removes the journal's last file where a crash left it half-made, and returns how many there are then. `replay` is
/// where the newest checkpoint goes on, if there is one.
///
/// # Errors
/// [`StartError::Lost`], and no file is removed then.
fn clear_half_made(files: &dyn Files, options: &NodeOptions, replay: Option<Place>) -> Result<usize, StartError> {
    let slots = Numbered::open(files, FileName::Journal, u32::MAX)?;
    let made = &slots.lengths;
    let refused = |text: String| Err(StartError::Lost(text));
    // Each file is durable before the next one is begun, so no crash leaves a gap: what was in the missing one, and is
    // in those behind it, was acknowledged.
    if let Some(behind) = slots.beyond(options.journal.max_files)? {
        return refused(format!("{} is missing, while {behind} is there", journal_file(made.len())));
    }
    // What a node has only after its first commit, which opened the first file.
    let witness = match (replay, files.partitions()?.first()) {
        (Some(replay), _) => Some(format!("there is a checkpoint that goes on in {}", replay.in_journal())),
        (None, Some(id)) => Some(format!("partition {id} has files")),
        (None, None) => None,
    };
    let is_blank = |slot: usize| -> Result<bool, DiskError> {
        let mut first = [0; journal::BLOCK_BYTES as usize];
        files.read_at(journal_file(slot), 0, &mut first)?;
        Ok(first.iter().all(|&byte| byte == 0))
    };
    // The last file alone may be half-made, and was never written to then: what is written to is whole and durable
    // before, and has a commit in its first block.
    let mut half_made = None;
    for (slot, &bytes) in made.iter().enumerate().filter(|(_, bytes)| **bytes < options.journal.file_bytes) {
        if slot + 1 < made.len() || (slot == 0 && witness.is_some()) || !is_blank(slot)? {
            let (file, whole) = (journal_file(slot), options.journal.file_bytes);
            return refused(format!("{file} has {bytes} bytes in place of {whole}: it was cut off"));
        }
        half_made = Some(slot);
    }
    if let Some(witness) = witness {
        // What a checkpoint goes on in the midst of began with a commit as well.
        let goes_on = replay.filter(|replay| replay.position > 0).map(|replay| replay.slot as usize);
        for slot in [Some(0), goes_on].into_iter().flatten() {
            if slot >= made.len() || is_blank(slot)? {
                // What there is would be an older state, or none, without what was acknowledged since.
                let what = if slot >= made.len() { "is missing" } else { "holds nothing" };
                return refused(format!("{} {what}, while {witness}", journal_file(slot)));
            }
        }
    }
    if let Some(slot) = half_made {
        files.remove(journal_file(slot))?;
    }
    Ok(half_made.unwrap_or(made.len()))
}

impl Node {
    /// Recovers what the files hold and makes a node of it, or a new one where there is nothing. On return everything
    /// recovered is durable, the start of a new incarnation and broker epoch included.
    ///
    /// # Errors
    /// [`StartError`] where going on would lose or invent data; it names the file and the place.
    pub fn recover(
        options: NodeOptions,
        files: &dyn Files,
        entropy: [u8; 32],
        now: Now,
    ) -> Result<(Node, Report), StartError> {
        let mut rng = Rng::from_seed(entropy);
        let me = Member { node: options.node_id, directory: options.directory_id };
        let mut report = Report::default();
        let mut rebuilt = Rebuilt {
            files,
            parts: BytesMut::new(),
            metadata: Recalled::new(me),
            logs: BTreeMap::new(),
            damaged: BTreeMap::new(),
            unread: BTreeMap::new(),
            dropped: Vec::new(),
        };
        let (journal, sequence, kept) = Node::replay(&options, files, &mut rng, &mut rebuilt, &mut report)?;
        for (id, log) in &rebuilt.logs {
            if let Some(why) = log.lacks() {
                rebuilt.damaged.entry(*id).or_insert(why);
            }
        }
        for (partition, why) in &rebuilt.damaged {
            report.notes.push(format!("partition {partition} does not serve: {why}"));
        }
        // A folder that has served alone goes on as the first node of its cluster.
        let cluster = options.cluster.as_ref();
        let is_first = cluster.is_none_or(|cluster| cluster.bootstrap && cluster.peers.is_empty());
        let founding = match is_first || rebuilt.metadata.image.index() > 0 {
            true => rebuilt.metadata.found(Membership::of([me]).expect("one voter is a membership")),
            false => Vec::new(),
        };
        let mut node = Node::assemble(options.clone(), rng, journal, rebuilt, sequence, kept)?;
        founding.iter().for_each(|record| node.journal_quorum(record));
        // What is known to be committed says who the members are.
        node.take_up_quorum();
        node.settle_journal(files, now)?;
        if options.cluster.is_none() && !node.metadata.is_alone() {
            let text = "this data folder is of a node of a cluster, whose other nodes it needs: start it as such";
            return Err(StartError::Unfit(text.into()));
        }
        if node.metadata.is_alone() {
            node.lead_alone();
            node.settle_journal(files, now)?;
            node.register_alone(&options)?;
            node.settle_journal(files, now)?;
        }
        node.end_walks(now, &mut Outbox::default());
        node.begin_peers(now);
        node.remove_strays(files)?;
        report.topics = node.controller.image().topic_count();
        report.partitions = node.by_id.len();
        node.deadlines.insert((now.instant + node.retention_interval, Reason::Retention));
        node.wake_scrub(now);
        node.expire_groups(now);
        node.wake_compaction(now);
        Ok((node, report))
    }

    /// Reads the newest checkpoint and the journal after it.
    fn replay(
        options: &NodeOptions,
        files: &dyn Files,
        rng: &mut Rng,
        rebuilt: &mut Rebuilt<'_>,
        report: &mut Report,
    ) -> Result<(journal::Writer, u64, VecDeque<Lsn>), StartError> {
        // A process that was killed may have left a checkpoint in the page cache only.
        for slot in 0..2 {
            if files.len(FileName::Checkpoint(slot))?.is_some() {
                files.sync(FileName::Checkpoint(slot))?;
            }
        }
        let journal = options.directory_id;
        let checkpoints = Numbered::open(files, FileName::Checkpoint, 2)?;
        let survey = checkpoint::survey(&checkpoints, journal).map_err(StartError::Checkpoint)?;
        if let Some((slot, flaw)) = &survey.passed_over
            && *flaw != checkpoint::Flaw::NeverWritten
        {
            report.notes.push(format!("{} is passed over: {flaw}", FileName::Checkpoint(*slot)));
        }
        let mut start = journal::Start::fresh(journal);
        let mut sequence = 0;
        let mut kept = VecDeque::new();
        if let Some(newest) = &survey.newest {
            let mut entries = checkpoint::Entries::of(&checkpoints, newest);
            while let Some(entry) = entries.read().map_err(StartError::Checkpoint)? {
                rebuilt.entry(entry.kind, entry.partition, entry.payload).map_err(StartError::Content)?;
            }
            write_again(files, FileName::Checkpoint(newest.header.slot()), newest.file_bytes())?;
            sequence = newest.header.sequence;
            kept.extend(survey.older.map(|older| older.replay.lsn));
            kept.push_back(newest.header.replay.lsn);
            start = journal::Start { journal, replay: newest.header.replay, keep: kept[0] };
        }
        let goes_on = survey.newest.as_ref().map(|newest| newest.header.replay.place());
        if clear_half_made(files, options, goes_on)? == 0 {
            Task::ExtendJournal { slot: 0, bytes: options.journal.file_bytes }.run(files)?;
        }
        for slot in 0..2 {
            match make_checkpoint_slot(files, slot) {
                // A full disk must not keep what is there from being read.
                Ok(()) | Err(DiskError::NoSpace(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let slots = Numbered::open(files, FileName::Journal, u32::MAX)?;
        for slot in 0..slots.lengths.len() {
            files.sync(journal_file(slot))?;
        }
        let recovered: Recovered = journal::recover(&slots, &start, rebuilt).map_err(StartError::Journal)?;
        report.records = recovered.records;
        report.notes.extend(recovered.cut.as_ref().map(ToString::to_string));
        let incarnation = rng.u64();
        Ok((journal::Writer::resume(recovered, incarnation, options.journal), sequence, kept))
    }

    fn assemble(
        options: NodeOptions,
        rng: Rng,
        journal: journal::Writer,
        rebuilt: Rebuilt<'_>,
        sequence: u64,
        kept: VecDeque<Lsn>,
    ) -> Result<Node, StartError> {
        let Rebuilt { metadata, mut logs, mut damaged, mut unread, dropped, .. } = rebuilt;
        let Recalled { image, quorum, newest, .. } = metadata;
        let metadata = Metadata::new(&options, &rng, &image, quorum, newest)?;
        let durable = journal.durable();
        let ids: Vec<(TopicPartition, Str)> = image
            .topics_from("")
            .flat_map(|topic| {
                let indexes = 0..i32::try_from(topic.partitions.len()).expect("a topic's partitions are counted so");
                let held =
                    indexes.filter(|&index| topic.partitions[index as usize].replicas.contains(&options.node_id));
                held.map(|partition| (TopicPartition { topic: topic.id, partition }, topic.name.clone()))
            })
            .collect();
        let controller = Controller::new(options.node_id, metadata.cluster_id().clone(), options.broker, image);
        let sessions = session::Sessions::new(0, rng.keyed(SESSIONS, 0));
        let groups = groups::Groups::new(&rng);
        let mut node = Node {
            directory_id: options.directory_id,
            limits: options.limits,
            rng,
            listeners: options.listeners.iter().map(|(name, _, _)| name.clone()).collect(),
            data_dir: options.data_dir,
            journal,
            geometry: options.journal,
            hosts: Vec::new(),
            free_hosts: Vec::new(),
            by_id: BTreeMap::new(),
            woken: VecDeque::new(),
            durable,
            in_flight_end: durable,
            trusts_os: false,
            produces: Slab::new(),
            stalled: VecDeque::new(),
            delayed: VecDeque::new(),
            fetches: Slab::new(),
            fetches_by_conn: BTreeMap::new(),
            turns: super::fetch::Turns::default(),
            fetch_bytes_max: 0,
            retention_interval: Duration::ZERO,
            producer_expiration_ms: 0,
            sessions,
            offset_queries: Slab::new(),
            slices: slices::Slices::default(),
            reads: BTreeMap::new(),
            next_read: 0,
            deadlines: BTreeSet::new(),
            seal_at: None,
            storage: storage::Storage::default(),
            checkpoints: checkpoints::Checkpoints::new(sequence, kept),
            tails: Tails::default(),
            retention_after: None,
            scrub: scrub::Scrub::default(),
            mending: mending::Mending::default(),
            groups,
            replicas: replicas::Replicas::new(options.node_id),
            deletions: logs::Deletions::default(),
            racks: leaders::Racks::default(),
            compaction: compaction::Compaction::default(),
            direct_from: options.direct_from,
            direct_pending: Vec::new(),
            direct_bytes: 0,
            no_space: None,
            volume: None,
            stopping: false,
            is_checkpointed: false,
            stops_at: None,
            counters: Counters::default(),
            damaged: BTreeSet::new(),
            controller,
            metadata,
            producer_ids: ProducerIdBlock::default(),
            codecs: TopicCodecs::default(),
            codecs_changed: false,
            obeying: None,
            obeying_topics: BTreeMap::new(),
            moves: hosting::Moves::default(),
        };
        node.storage.removals.drop_segments(dropped, NO_DELAY);
        let brokers: Vec<NodeId> = node.controller.image().brokers().map(|broker| broker.node_id).collect();
        brokers.into_iter().for_each(|broker| node.broker_stands(broker));
        let group_offsets = node.controller.image().topic_named(GROUP_OFFSETS).map(|topic| topic.id);
        group_offsets.into_iter().for_each(|topic| node.groups_live_in(topic));
        for (id, name) in ids {
            let log = logs.remove(&id).unwrap_or_else(|| Log::new(id));
            let slot = node.host_partition(id, name, log);
            if let Some(why) = damaged.remove(&id) {
                node.host(slot).partition.begin_damaged(why);
                node.damaged.insert(id);
                node.host(slot).unread = unread.remove(&id);
            }
            node.flush_if_due(slot);
        }
        // Replicas that have left since the checkpoint that the start went on from.
        for (id, log) in logs.iter().filter(|(id, _)| node.controller.image().partition(**id).is_some()) {
            node.moves.left(*id, log.lineage());
        }
        node.apply_broker_config();
        while node.obeying.is_some() {
            node.obey_on();
        }
        Ok(node)
    }

    /// Takes a partition in. The part that it plays follows from the image.
    pub(super) fn host_partition(&mut self, id: TopicPartition, name: Str, log: Log) -> u32 {
        // Partitions of one topic have its settings together: what is said of one of them is said of all.
        let before = id.partition.checked_sub(1).and_then(|partition| {
            let slot = self.by_id.get(&TopicPartition { partition, ..id })?;
            Some(self.host(*slot).config.clone())
        });
        let hosted = Hosted {
            is_internal: is_internal(&name),
            config: before.unwrap_or_else(|| {
                Arc::new(self.controller.topic_config(id.topic).expect("a partition's topic is in the image"))
            }),
            name,
            partition: Partition::new(id, log),
            acks: Acks::default(),
            own_acks: Acks::default(),
            wakes_at: None,
            fetchers: Fetchers::default(),
            watchers: session::Watchers::default(),
            accounted: Accounted::default(),
            unread: None,
            stay: self.moves.begin_stay(),
        };
        self.compaction.obey(&hosted.config);
        let slot = match self.free_hosts.pop() {
            Some(slot) => {
                self.hosts[slot as usize] = Some(hosted);
                slot
            }
            None => {
                self.hosts.push(Some(hosted));
                u32::try_from(self.hosts.len() - 1).expect("fewer partitions than that")
            }
        };
        self.by_id.insert(id, slot);
        self.account_tail(slot);
        slot
    }

    /// Writes what the journal has pending, and what follows from its being durable, right here: nothing else happens
    /// during a start.
    fn settle_journal(&mut self, files: &dyn Files, now: Now) -> Result<(), StartError> {
        // Nobody is there yet to be told anything, and who comes asks the node.
        let out = &mut Outbox::default();
        // Nothing becomes free during a start: what waits for room finds it in another file.
        let mut waits = false;
        loop {
            if let Some(commit) = self.journal.take_commit() {
                let file = FileName::Journal(commit.slot);
                files.write_at(file, commit.position, std::slice::from_ref(&commit.data))?;
                files.sync(file)?;
                let number = commit.number;
                drop(commit);
                self.durable = self.journal.committed(number);
                if self.journal.is_settled() {
                    self.settle(now, out);
                }
            } else if self.metadata.is_due() && !waits {
                self.advance_metadata(now, out);
                self.check(out)?;
                waits = self.applying_waits_for_room();
            } else if waits || self.journal.pending_bytes() > 0 || !self.journal.is_settled() {
                let bytes = self.geometry.file_bytes;
                Task::ExtendJournal { slot: self.journal.slots(), bytes }.run(files)?;
                self.journal.add_slot();
                waits = false;
            } else {
                self.settle(now, out);
                return Ok(());
            }
        }
    }

    /// Finds out whether a start came upon something that a node ends for.
    fn check(&self, out: &Outbox) -> Result<(), StartError> {
        let fatal = out.0.iter().find_map(|effect| match effect {
            Effect::Fatal(why) => Some(why),
            _ => None,
        });
        fatal.map_or(Ok(()), |why| Err(StartError::Content(why.clone())))
    }

    /// Begins a new broker epoch, and with it a new leader epoch of every partition that the node leads: it may have
    /// streamed, in the epoch before, what its own disk then lost.
    fn register_alone(&mut self, options: &NodeOptions) -> Result<(), StartError> {
        let listeners = options.listeners.iter();
        let listeners = listeners
            .map(|(name, host, port)| Listener { name: name.clone(), host: host.clone(), port: *port })
            .collect();
        let leading = self.leading().expect("the only voter leads");
        let peers = self.peers_address();
        let named = if peers.is_some() { leading.name_cluster().records } else { Vec::new() };
        let decision = leading.register_sole(options.directory_id, listeners, peers);
        let decision = decision.map_err(|refused| StartError::Unfit(refused.message.to_string()))?;
        let out = &mut Outbox::default();
        let declined = |declined: raft::Declined| StartError::Content(declined.to_string());
        self.propose(&named, out).map_err(declined)?;
        self.propose(&decision.records, out).map_err(declined)
    }

    /// Removes folders and segments that no metadata names: of topics deleted, of segments dropped, before a crash.
    fn remove_strays(&mut self, files: &dyn Files) -> Result<(), StartError> {
        for id in files.partitions()? {
            let is_known = self.by_id.contains_key(&id) || self.controller.image().partition(id).is_some();
            let found = match files.segments(id) {
                // Nobody needs it, and its removal tells what is wrong with it.
                Err(_) if !is_known => Vec::new(),
                found => found?,
            };
            found.iter().for_each(|&name| self.compaction.saw(name));
            let newest = found.iter().map(|name| name.generation).max().unwrap_or(0);
            let Some(&slot) = self.by_id.get(&id) else {
                if self.controller.image().partition(id).is_some() {
                    // A replica that has left: where it comes back before its files are gone, it must have others.
                    self.moves.left(id, newest);
                }
                self.storage.removals.drop_partition(id, NO_DELAY);
                continue;
            };
            let partition = &self.host(slot).partition;
            if partition.damage().is_some() {
                // Records that were passed over may have named files that its log knows nothing of: where it is made
                // anew, it must have others.
                self.moves.left(id, newest);
                continue;
            }
            let stray = found.into_iter().filter(|&name| !partition.log().has_segment(name)).collect();
            self.storage.removals.drop_segments(stray, NO_DELAY);
        }
        Ok(())
    }
}
