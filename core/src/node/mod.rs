//! The node: where requests, facts and decisions meet. It routes; the controller, partitions and logs decide.
//!
//! One call of [`Node::step`] takes one input; [`Node::turn`] ends a run of them and pushes the group commit, so that
//! everything that arrived together shares one sync. Whatever waits for the journal stands in one queue in the order of
//! its LSN and is woken by `Node::settle` when the journal's durable end passes it.

mod checkpoints;
mod compaction;
mod fetch;
mod groups;
mod hosting;
mod leaders;
mod logs;
mod mending;
mod metadata;
mod metrics;
mod offsets;
mod options;
mod produce;
mod removal;
mod replicas;
mod retention;
mod room;
mod scrub;
mod session;
mod slices;
mod standings;
mod start;
mod storage;
mod tails;
#[cfg(test)]
mod tests;
mod told;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use crate::boundary::{
    Client, DirectWrite, DiskError, DiskOp, Done, Effect, FileName, Input, Level, Outbox, Produce, ReadId, Refused,
    ReplyTo, Request, SegmentName, TaskId, Volume,
};
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::{Controller, ProducerIdBlock};
use crate::ids::{ConnId, Lsn, TopicId, TopicPartition, Uuid};
use crate::journal;
use crate::limits::Limits;
use crate::log::{Log, Place, ReadOutcome, ReadPlan, Sought};
use crate::partition::{Advanced, Partition};
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::topic_codecs::TopicCodecs;
use crate::wait::{Acks, FetchId, Fetchers, ProduceId};
use crate::wire::{self, ErrorCode, Response, Str};

pub use metrics::Counters;
pub use options::ClusterOptions;
pub use standings::{Members, Standing, Votes};
pub use start::{DIRECT_FROM, NodeOptions, Report, StartError};
pub use told::{Told, told};

/// A journal that has been quiet for so long is sealed with an empty commit, which proves that the last one was
/// durable.
const SEAL_AFTER: Duration = Duration::from_millis(100);

/// Why a node wants to be stepped at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A fetch has waited as long as its client lets it.
    Fetch(FetchId),
    /// The journal is quiet.
    Seal,
    /// Retention, producer expiry and rolling by time.
    Retention,
    /// Files have stayed for as long as their topic's settings ask.
    Removal,
    /// Background work goes on: a checkpoint with its next partitions, write-behind, batches that leave memory.
    Continue,
    /// A task that found no space is tried again.
    Space,
    /// The next chunks of closed segments are checked.
    Scrub,
    /// A timer of the groups of a partition of `__consumer_offsets`.
    Group(i32),
    /// Coordinators are loaded.
    Load,
    /// The coordinator of a partition that failed is loaded again.
    Reload(i32),
    /// All groups are told of something.
    Sweep,
    /// A commit of very many offsets goes on.
    Commit,
    /// The next groups are counted for metrics.
    Survey,
    /// Offsets of groups expire.
    Expire,
    /// The next groups of a request about many.
    Gather,
    /// What is too long for one step goes on.
    Slice,
    /// What is said between leaders and followers goes on, or a leader's time has come.
    Replicas,
    /// A produce request has waited for the in-sync set as long as its client lets it.
    Produce(ProduceId),
    /// A DeleteRecords request has waited for the in-sync set as long as its client lets it.
    Delete(usize),
    /// Fetches have their turn, or have waited for it too long.
    Turns,
    /// Entries of the metadata log are applied.
    Metadata,
    /// Time passes for the metadata quorum, and for the brokers of a cluster.
    Tick,
    /// Partitions are looked through for dirty ones, or the compaction of one goes on.
    Compaction,
}

/// What waits for the journal.
#[derive(Debug)]
enum Woken {
    /// A partition's durable end or its log start moves.
    Partition(u32),
    /// A reply to something that is on its way into the journal.
    Reply(ReplyTo, Box<Response>),
    /// The metadata quorum is told that its records of this number are durable.
    Quorum(u64),
}

/// Who waits for a read.
#[derive(Debug)]
enum Reader {
    /// A fetch, for which of its partitions, and what is sought.
    Fetch(FetchId, usize, Sought),
    /// A ListOffsets request, and which of its partitions.
    Offsets(usize, usize),
    Scrub,
    /// An index that is made again.
    Mending,
    /// The coordinator of a partition of `__consumer_offsets`, and the number of its load.
    Load(i32, u64),
    /// A follower, of batches that are not in memory.
    CatchUp(replicas::CatchUp),
}

/// What became of a read; an error is `None` where the segment has been let go of meanwhile.
type ReadResult = Result<ReadOutcome, Option<DiskError>>;

/// The segment that a read is of, `None` where it is of memory.
fn segment_of(plan: &ReadPlan) -> Option<SegmentName> {
    match plan.place {
        Place::Segment { segment, .. } => Some(segment),
        Place::Memory(_) => None,
    }
}

/// A partition with those who wait for it.
#[derive(Debug)]
struct Hosted {
    name: Str,
    partition: Partition,
    config: Arc<TopicConfig>,
    /// Who waits for the high watermark.
    acks: Acks,
    /// Who waits for this broker's disk alone.
    own_acks: Acks,
    /// When its leader wants to be woken, as far as is planned.
    wakes_at: Option<Instant>,
    fetchers: Fetchers,
    watchers: session::Watchers,
    accounted: tails::Accounted,
    /// Whether its topic is one of the broker's own.
    is_internal: bool,
    /// The state of a damaged partition that a start could not make a log of: passed on as it is.
    unread: Option<Bytes>,
    /// The number of its stay here: one that has left may come back while the disk is at work for it still.
    stay: u64,
}

/// One broker.
pub struct Node {
    directory_id: Uuid,
    limits: Limits,
    rng: Rng,
    /// The metadata as far as it has committed and was applied: what requests are answered from, and partitions follow.
    controller: Controller,
    metadata: metadata::Metadata,
    producer_ids: ProducerIdBlock,
    codecs: TopicCodecs,
    /// Whether connections have not been told of the codecs yet.
    codecs_changed: bool,
    /// New settings of the broker, while not all partitions have them.
    obeying: Option<topics::Obeying>,
    /// Topics with new settings, while not all of their partitions have them, and from which on they do not.
    obeying_topics: BTreeMap<TopicId, i32>,
    /// Partitions of topics that were made or deleted, while not all are where they belong.
    moves: hosting::Moves,
    listeners: Vec<Str>,
    data_dir: Str,
    journal: journal::Writer,
    geometry: journal::Geometry,
    hosts: Vec<Option<Hosted>>,
    free_hosts: Vec<u32>,
    by_id: BTreeMap<TopicPartition, u32>,
    woken: VecDeque<(Lsn, Woken)>,
    /// What may be acknowledged: the journal's durable end, or what the operating system has where that is enough.
    durable: Lsn,
    /// The end of the commit in flight.
    in_flight_end: Lsn,
    /// Commits are acknowledged when the operating system has them, and synced only now and then.
    trusts_os: bool,
    produces: Slab<produce::ParkedProduce>,
    stalled: VecDeque<(ReplyTo, Box<Produce>)>,
    /// Changes of metadata that wait for room in the journal.
    delayed: VecDeque<(ReplyTo, wire::Request)>,
    fetches: Slab<fetch::ParkedFetch>,
    fetches_by_conn: BTreeMap<ConnId, SmallVec<[FetchId; 1]>>,
    turns: fetch::Turns,
    fetch_bytes_max: usize,
    retention_interval: Duration,
    producer_expiration_ms: u64,
    sessions: session::Sessions,
    offset_queries: Slab<offsets::OffsetQuery>,
    slices: slices::Slices,
    /// Who waits for which read, and what it is of.
    reads: BTreeMap<ReadId, (Reader, Option<SegmentName>)>,
    next_read: u64,
    deadlines: BTreeSet<(Instant, Reason)>,
    /// When to seal the journal if nothing more comes.
    seal_at: Option<Instant>,
    storage: storage::Storage,
    checkpoints: checkpoints::Checkpoints,
    tails: tails::Tails,
    /// Partitions up to here have been looked at by the round of retention that is under way.
    retention_after: Option<TopicPartition>,
    scrub: scrub::Scrub,
    mending: mending::Mending,
    groups: groups::Groups,
    replicas: replicas::Replicas,
    racks: leaders::Racks,
    /// Requests to delete records that wait for the in-sync set.
    deletions: logs::Deletions,
    compaction: compaction::Compaction,
    /// Batches of so many bytes go straight to their segments.
    direct_from: u64,
    /// Bodies that the next commit takes along.
    direct_pending: Vec<DirectWrite>,
    /// Bytes of bodies since the start.
    direct_bytes: u64,
    no_space: Option<FileName>,
    /// `None` until the driver has told.
    volume: Option<Volume>,
    stopping: bool,
    /// The last checkpoint is done.
    is_checkpointed: bool,
    /// The end of the journal after that: the process ends when it is durable.
    stops_at: Option<Lsn>,
    counters: Counters,
    /// Partitions that do not serve since their data is damaged.
    damaged: BTreeSet<TopicPartition>,
}

impl Node {
    /// Takes one thing that happened and pushes what must be done about it. Never blocks, never fails.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Outbox) {
        let is_commit = matches!(input, Input::Disk(Done::Commit(..) | Done::Written(_)));
        match input {
            Input::Request { to, request } => {
                self.counters.requests += 1;
                match request {
                    Request::Produce(produce) => {
                        self.produce(now, to, produce, out);
                        // There are many of these in a run. What an append leaves to do has time until its commit is
                        // done, unless requests wait for room.
                        if self.stalled.is_empty() {
                            return;
                        }
                    }
                    Request::Member { client, request } => self.group_request(now, to, client, *request, out),
                    Request::Other(request) => self.request(now, to, *request, out),
                }
            }
            Input::Closed { conn } => {
                self.close_fetches(conn, out);
                // What was not begun and nobody waits for any more would only hold memory that no budget counts.
                self.stalled.retain(|(to, _)| to.conn != conn);
                self.delayed.retain(|(to, _)| to.conn != conn);
                self.forget_asked(conn);
                self.groups.forget(conn);
                self.close_long(conn, out);
            }
            Input::Sent { conn, sequence } => {
                self.turns.sent(conn, sequence);
                self.next_turns(out);
            }
            Input::Disk(done) => self.disk_done(now, done, out),
            Input::Deadline => self.deadline_reached(now, out),
            Input::Peer(input) => self.peer_input(now, *input, out),
            Input::Volume(volume) => self.volume = Some(volume),
            Input::Stop if self.stops_later(now) => {
                out.log(Level::Info, "stopping: others are to lead what this node leads");
            }
            Input::Stop => self.stop_now(now, out),
        }
        if self.metadata.is_due() {
            self.advance_metadata(now, out);
        }
        self.resume_stalled(now, out);
        self.resume_delayed(now, out);
        self.resume_groups(now, out);
        if self.has_incoming() {
            self.append_on(now, out);
        }
        if is_commit && self.is_behind() {
            // Whoever waited for the commit goes first: while clients read their answers there is time for the rest.
            self.deadlines.insert((now.instant, Reason::Continue));
        } else {
            self.advance_storage(now, out);
        }
        self.plan_slice(now);
        self.plan_turns(now);
        self.stop_if_done(out);
    }

    /// Begins to end the process.
    fn stop_now(&mut self, now: Now, out: &mut Outbox) {
        out.log(Level::Info, "stopping: the last checkpoint is written");
        self.stopping = true;
        self.stop_groups(now, out);
        self.checkpoint_soon();
    }

    /// Ends the process after the last checkpoint, once all that was asked until then is answered: what waited for room
    /// has found it by now.
    fn stop_if_done(&mut self, out: &mut Outbox) {
        if self.is_checkpointed && !self.waits_for_itself() && !self.has_resumable() {
            let end = *self.stops_at.get_or_insert(self.journal.end());
            if self.durable >= end && self.slices.is_empty() {
                out.push(Effect::Stopped);
            }
        }
    }

    /// Whether nobody waits for answers to what is asked now: the process ends first.
    fn is_ending(&self) -> bool {
        self.stops_at.is_some()
    }

    /// Ends a run of steps: what they appended to the journal goes out as one commit, unless one is in flight already.
    pub fn turn(&mut self, now: Now, out: &mut Outbox) {
        if std::mem::take(&mut self.codecs_changed) {
            out.push(Effect::TopicCodecs(Arc::new(self.codecs.clone())));
        }
        // What is appended goes to followers before it goes to this broker's own disk.
        self.speak(now, out);
        if let Some(commit) = self.journal.take_commit() {
            self.counters.commits += 1;
            self.counters.commit_bytes += commit.data.len() as u64;
            self.seal_at = None;
            self.in_flight_end = commit.end;
            let direct = std::mem::take(&mut self.direct_pending);
            out.push(Effect::Disk(DiskOp::Commit(commit, direct)));
        }
        if self.seal_at.is_none() && !self.journal.is_sealed() {
            self.seal_at = Some(now.instant + SEAL_AFTER);
        }
    }

    /// How connections are to compress batches until [`Effect::TopicCodecs`] says otherwise.
    pub fn topic_codecs(&self) -> &TopicCodecs {
        &self.codecs
    }

    /// The broker's settings in force: the file's under what clients have set.
    pub fn broker_config(&self) -> &BrokerConfig {
        self.controller.config()
    }

    /// When to step with [`Input::Deadline`] if nothing else happens first, and why.
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        let first = self.deadlines.first().copied();
        let seal = self.seal_at.map(|at| (at, Reason::Seal));
        match (first, seal) {
            (Some(first), Some(seal)) => Some(first.min(seal)),
            (first, seal) => first.or(seal),
        }
    }

    fn deadline_reached(&mut self, now: Now, out: &mut Outbox) {
        if self.seal_at.is_some_and(|at| at <= now.instant) {
            self.seal_at = None;
            self.journal.seal();
        }
        while let Some(&(at, reason)) = self.deadlines.first() {
            if at > now.instant {
                break;
            }
            self.deadlines.pop_first();
            match reason {
                Reason::Fetch(id) => {
                    self.serve_late(now, id, out);
                    break;
                }
                Reason::Seal | Reason::Continue | Reason::Metadata => {}
                Reason::Retention => self.retention(now, out),
                Reason::Removal if self.storage.removals.wants_checkpoint(now.instant) => self.checkpoint_soon(),
                Reason::Removal => {}
                Reason::Space => self.retry_space(),
                Reason::Scrub => self.scrub(now, out),
                Reason::Group(partition) => self.reach_group(now, partition, out),
                Reason::Load => self.load(now, out),
                Reason::Reload(partition) => self.reload(now, partition),
                Reason::Sweep => self.sweep_on(now, out),
                Reason::Commit => self.commit_on(now, out),
                Reason::Survey => self.survey_on(now),
                Reason::Expire => self.expire_groups(now),
                Reason::Gather => self.gather_on(now, out),
                Reason::Slice => self.next_slice(now, out),
                Reason::Turns => self.reach_turns(now, out),
                Reason::Replicas => self.replicate(now, out),
                Reason::Produce(id) => {
                    self.produce_late(now, id, out);
                    break;
                }
                Reason::Delete(id) => self.delete_late(id, out),
                Reason::Compaction => self.compaction(now, out),
                Reason::Tick => self.tick(now, out),
            }
        }
    }

    fn request(&mut self, now: Now, to: ReplyTo, request: wire::Request, out: &mut Outbox) {
        use wire::Request as R;
        let Some(request) = self.wait_for_room(to, request) else { return };
        match request {
            R::Produce(_) => unreachable!("the connection verifies batches and makes a produce input of them"),
            R::Fetch(request) => self.fetch(now, to, request, out),
            R::ListOffsets(request) => self.list_offsets(now, to, request, out),
            R::OffsetForLeaderEpoch(request) => {
                self.begin_long(now, to, slices::Long::EpochEnds(request, Vec::new()), out);
            }
            R::DeleteRecords(request) => self.delete_records(now, to, &request, out),
            R::DescribeProducers(request) => {
                self.begin_long(now, to, slices::Long::Producers(request, Vec::new(), 0), out);
            }
            R::DescribeLogDirs(request) => self.describe_log_dirs(now, to, &request, out),
            R::FindCoordinator(request) => self.find_coordinator(now, to, request, out),
            request @ (R::JoinGroup(_)
            | R::SyncGroup(_)
            | R::Heartbeat(_)
            | R::LeaveGroup(_)
            | R::ConsumerGroupHeartbeat(_)
            | R::OffsetCommit(_)
            | R::OffsetFetch(_)
            | R::OffsetDelete(_)
            | R::ListGroups(_)
            | R::DescribeGroups(_)
            | R::ConsumerGroupDescribe(_)
            | R::DeleteGroups(_)) => self.group_request(now, to, Client::default(), request, out),
            other => self.metadata_request(now, to, other, out),
        }
    }

    /// Answers when the journal is durable up to `lsn`.
    fn reply_at(&mut self, lsn: Lsn, to: ReplyTo, response: Response, out: &mut Outbox) {
        if lsn <= self.durable {
            out.push(Effect::Reply { to, response: Some(response) });
        } else {
            let at = self.woken.partition_point(|&(parked, _)| parked <= lsn);
            self.woken.insert(at, (lsn, Woken::Reply(to, Box::new(response))));
        }
    }

    fn disk_done(&mut self, now: Now, done: Done, out: &mut Outbox) {
        match done {
            Done::Commit(number, Ok(())) => {
                self.durable = self.durable.max(self.journal.committed(number));
                self.settle(now, out);
            }
            Done::Written(number) => {
                self.journal.written(number);
                self.trusts_os = true;
                self.durable = self.in_flight_end;
                self.settle(now, out);
            }
            Done::Commit(_, Err(error)) => {
                // What the disk holds after a failed write or sync is unknown, and a second try may report success for
                // pages that the system has dropped: only a restart that reads what is there can tell.
                out.push(Effect::Fatal(format!("the journal cannot be written: {error}")));
            }
            Done::Read(id, result) => {
                let Some((reader, segment)) = self.reads.remove(&id) else { return };
                // A file may go while it is read; then nothing is wrong with the disk, whatever it says.
                if let (Reader::Fetch(fetch, index, sought), Some(name)) = (&reader, segment)
                    && let Some(elsewhere) = self.sought_elsewhere(name, *sought, &result)
                {
                    return self.fetch_again(*fetch, *index, elsewhere, name.partition, out);
                }
                let result = match result {
                    Err(_) if segment.is_some_and(|name| !self.is_live(name)) => Err(None),
                    result => result.map_err(Some),
                };
                match reader {
                    Reader::Fetch(fetch, index, _) => self.fetch_read(fetch, index, result, out),
                    Reader::Offsets(query, index) => self.offset_read(query, index, result, out),
                    Reader::Scrub => self.scrubbed(now, result, out),
                    Reader::Mending => self.mended(result, out),
                    Reader::Load(partition, load) => self.loaded(now, partition, load, result, out),
                    Reader::CatchUp(read) => self.caught_up(now, read, result, out),
                }
            }
            Done::Task(id, result) => self.task_done(now, id, result, out),
            Done::Finding(id, finding) => self.found(now, id, *finding),
            Done::Compacted(pass, result) => self.compacted(now, pass, result, out),
        }
    }

    /// The journal's durable end has moved: wakes whoever waited for it.
    fn settle(&mut self, now: Now, out: &mut Outbox) {
        while self.woken.front().is_some_and(|&(lsn, _)| lsn <= self.durable) {
            let (_, woken) = self.woken.pop_front().expect("one was at the front");
            match woken {
                Woken::Reply(to, response) => out.push(Effect::Reply { to, response: Some(*response) }),
                Woken::Partition(slot) => self.advance(now, slot, out),
                Woken::Quorum(number) => self.quorum_persisted(number),
            }
        }
    }

    /// A partition's durable end or log start may have moved: acknowledges, credits those who wait for its bytes, and has
    /// the files removed that it lets go of.
    fn advance(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let durable = self.durable;
        let Some(hosted) = &mut self.hosts[slot as usize] else { return };
        let before = hosted.partition.advanced();
        let confirmed = hosted.partition.confirm(durable, now.instant, self.replicas.peers());
        if !confirmed.gone.is_empty() {
            self.storage.removals.drop_segments(confirmed.gone, hosted.config.file_delete_delay_ms);
            self.account_tail(slot);
        }
        if self.host(slot).partition.has_followers() {
            self.replicas.heed(slot, confirmed.proposes);
        }
        if let Some(said) = confirmed.said {
            self.tell_its_leader(now, slot, said);
        }
        self.rouse(slot, before, out);
    }

    /// A partition was as far as `before`: wakes whoever waited for it to be where it is now.
    fn rouse(&mut self, slot: u32, before: Advanced, out: &mut Outbox) {
        let partition = &mut self.host(slot).partition;
        let advanced = partition.advanced();
        if advanced == before {
            return;
        }
        partition.settle_high_watermark();
        if advanced.start != before.start {
            self.touch(slot);
            self.settle_deletions(slot, out);
        }
        while let Some(id) = self.host(slot).own_acks.pop(advanced.durable) {
            self.acknowledge(id, out);
        }
        self.flush_if_due(slot);
        if advanced.high_watermark == before.high_watermark {
            return;
        }
        while let Some(id) = self.host(slot).acks.pop(advanced.high_watermark) {
            self.acknowledge(id, out);
        }
        if self.host(slot).is_internal {
            self.settle_groups(slot, out);
        }
        if !self.host(slot).fetchers.is_empty() || !self.host(slot).watchers.is_empty() {
            let (from, to) = (before.high_watermark, advanced.high_watermark);
            let bytes = self.host(slot).partition.log().bytes_between(from, to);
            // What is no more in memory counts as little as it can.
            let records = usize::try_from(to.0.saturating_sub(from.0)).unwrap_or(0);
            self.credit(slot, bytes.max(records), out);
        }
    }

    fn host(&mut self, slot: u32) -> &mut Hosted {
        self.hosts[slot as usize].as_mut().expect("slots of live partitions are hosted")
    }

    /// The id of a topic that a request names by id or by name.
    fn resolve(&self, name: &Str, id: TopicId) -> Result<TopicId, Refused> {
        if id != TopicId::ZERO {
            return match self.controller.image().topic(id) {
                Some(_) => Ok(id),
                None => Err(ErrorCode::UnknownTopicId.into()),
            };
        }
        let topic = self.controller.image().topic_named::<Str>(name);
        topic.map(|topic| topic.id).ok_or_else(|| ErrorCode::UnknownTopicOrPartition.into())
    }

    fn hosted(&self, id: TopicPartition) -> Result<u32, Refused> {
        self.by_id.get(&id).copied().ok_or_else(|| match self.controller.image().partition(id) {
            // Other brokers hold it. One of this broker's that is on its way here is not known yet.
            Some(_) if !self.is_replica(id) => ErrorCode::NotLeaderOrFollower.into(),
            _ => ErrorCode::UnknownTopicOrPartition.into(),
        })
    }

    /// The id of a topic that a produce or fetch request names.
    fn resolve_topic(&self, topic: &fetch::Topic) -> Result<TopicId, Refused> {
        match topic {
            fetch::Topic::Name(name) => self.resolve(name, TopicId::ZERO),
            // Kept from `resolve`, which takes zero for a topic named by name.
            fetch::Topic::Id(TopicId::ZERO) => Err(ErrorCode::UnknownTopicId.into()),
            fetch::Topic::Id(id) => self.resolve(&Str::default(), *id),
        }
    }

    fn find(&self, topic: &fetch::Topic, partition: i32) -> Option<u32> {
        let topic = self.resolve_topic(topic).ok()?;
        self.hosted(TopicPartition { topic, partition }).ok()
    }

    /// The partitions that follow `after` in the order of their ids, at most `count`.
    fn partitions_after(&self, after: Option<TopicPartition>, count: usize) -> Vec<(TopicPartition, u32)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).take(count).map(|(&id, &slot)| (id, slot)).collect()
    }

    fn next_read(&mut self) -> ReadId {
        self.next_read += 1;
        ReadId(self.next_read)
    }

    /// Asserts what always holds; for tests and simulation, since it looks at everything.
    pub fn invariants(&self) {
        self.invariants_where(|_, _| true);
    }

    /// The same, but of the partitions that have nothing in memory it looks at a few only, at others in the next `round`:
    /// there are many of them, and it may be asked after every step.
    pub fn invariants_in_turn(&self, round: usize) {
        self.invariants_where(|slot, log| log.tail_bytes() > 0 || slot % RESTING_IN_TURN == round % RESTING_IN_TURN);
    }

    fn invariants_where(&self, is_looked_at: impl Fn(usize, &Log) -> bool) {
        for (slot, hosted) in self.hosts.iter().enumerate() {
            let Some(Hosted { partition, .. }) = hosted else { continue };
            if is_looked_at(slot, partition.log()) {
                partition.invariants();
            }
        }
        assert!(self.durable <= self.journal.end());
        assert!(!self.journal.is_overrun(), "nothing is appended that the journal has no room for");
        let tail: usize = self.hosts.iter().flatten().map(|hosted| hosted.partition.log().tail_bytes()).sum();
        assert_eq!(self.tails.bytes(), tail as u64, "the tail cache is accounted for");
        self.sessions.invariants(|slot, watch| {
            self.hosts[slot as usize].as_ref().is_some_and(|hosted| hosted.watchers.iter().any(|known| known == watch))
        });
        self.metadata.invariants();
        self.fetch_invariants();
        self.group_invariants();
    }
}

/// In how many rounds all partitions are looked at that are at rest.
const RESTING_IN_TURN: usize = 16;

/// Used by [`storage`] to number its tasks.
fn task_id(next: &mut u64) -> TaskId {
    *next += 1;
    TaskId(*next)
}
