//! A run as data: what the clients do, what goes wrong, and under which settings.
//!
//! A plan is drawn from a seed ([`Plan::draw`](draw)), or read from a file that a person, a failure or the shrinker
//! wrote. Both engines take the same plan. Whatever is still left to chance while it runs (latencies, which block of a
//! torn write persists) is drawn from [`Plan::seed`] by key, so that taking an operation or a fault out of a plan
//! changes nothing about the others.

mod cluster;
pub mod draw;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::value::{Keys, SharedKeys};

pub use cluster::{CLIENT_PORT, ClusterPlan, MachinePlan};

/// The version of the file format that this crate writes. It reads the older ones as well: what they lack is what there
/// was before.
///
/// | format | has |
/// | --- | --- |
/// | 1 | one broker |
/// | 2 | several: `cluster`, a topic's `replication`, the `node` that a fault strikes, faults between brokers |
pub const FORMAT: u32 = 2;

/// All of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`], or an older one.
    pub format: u32,
    /// Names what the run draws by key while it goes.
    pub seed: u64,
    /// How long clients work under faults, in simulated milliseconds. Then everything heals, and every client must
    /// finish within [`HEAL_MS`].
    pub duration_ms: u64,
    /// Faults may exceed what a broker of one disk can promise: a loss is allowed then, silence about it is not.
    pub is_beyond_promises: bool,
    /// The broker; of a cluster, the first one, and the settings of all.
    pub node: NodePlan,
    /// The other brokers, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterPlan>,
    /// The network between clients and brokers when nothing is wrong with it.
    pub network: NetworkPlan,
    /// Topics that an admin client creates before all else, in this order; operations name them by index.
    pub topics: Vec<TopicPlan>,
    /// Clients; a client's number is its index.
    pub clients: Vec<ClientPlan>,
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
}

/// How long after the last fault every client must have finished, in simulated milliseconds.
pub const HEAL_MS: u64 = 30_000;

/// The broker's settings and measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Acknowledged when the operating system has it, not when it is on disk (`--durability os`).
    pub trusts_os: bool,
    /// Commits run on a thread of their own (`--commit thread`): the node goes on stepping meanwhile.
    pub commits_on_thread: bool,
    /// Only some of them do, as `--commit auto` chooses; without effect where none does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub commits_mixed: bool,
    /// Batches from this size on go straight to their segments, in bytes; without effect where the system is trusted.
    pub direct_from: u64,
    /// The length of a journal file, in bytes.
    pub journal_file_bytes: u64,
    /// How many files the journal grows to.
    pub journal_files: u32,
    /// The tail cache, in bytes.
    pub tail_cache_bytes: u64,
    /// Kafka's broker settings by name.
    pub broker: BTreeMap<String, String>,
    /// How far the broker's wall clock is from true time at first, in milliseconds.
    pub clock_skew_ms: i64,
    /// How much faster its clocks run than true time, in parts per million.
    pub clock_drift_ppm: i64,
    /// A sync of the disk takes from this on ...
    pub sync_us_min: u64,
    /// ... to this, in microseconds, when nothing is wrong.
    pub sync_us_max: u64,
}

impl NodePlan {
    /// What [`commits_on_thread`](Self::commits_on_thread) and [`commits_mixed`](Self::commits_mixed) come to, as `--commit`
    /// has it.
    pub fn commit_form(&self) -> &'static str {
        match (self.commits_on_thread, self.commits_mixed) {
            (false, _) => "inline",
            (true, false) => "thread",
            (true, true) => "auto",
        }
    }

    /// Whether the commit of this number runs on a thread of its own.
    pub fn is_on_thread(&self, commit: u64) -> bool {
        // Runs of several alike, and turns.
        self.commits_on_thread && (!self.commits_mixed || (commit ^ (commit >> 2)) & 1 == 0)
    }
}

/// What the network does when nothing is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlan {
    /// One way takes from this on ...
    pub latency_us_min: u64,
    /// ... to this, in microseconds.
    pub latency_us_max: u64,
    /// Bytes arrive in pieces of at most so many; 0 where they arrive as they were sent.
    pub piece_bytes_max: u32,
    /// So many bytes lie between a sender and a receiver who does not read, each way; then the sender cannot write.
    pub window_bytes: u32,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions it has when it is created.
    pub partitions: i32,
    /// On how many brokers each of them lies.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub replication: u32,
    /// Its settings by Kafka's names.
    pub configs: BTreeMap<String, String>,
    /// What keys its records have in common, where it compacts; otherwise each has one of its own.
    #[serde(default)]
    pub shared_keys: Option<SharedKeys>,
}

impl TopicPlan {
    /// What keys its records have: a topic that compacts takes only such that have one.
    pub fn keys(&self) -> Keys {
        let compacts = self.configs.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
        match self.shared_keys.filter(|_| compacts) {
            Some(shared) => Keys::Shared(shared),
            None if compacts => Keys::Own,
            None => Keys::None,
        }
    }
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientPlan {
    /// What it is.
    pub kind: ClientKind,
    /// What it is to do, in order of time.
    pub operations: Vec<Operation>,
}

/// What a client is, and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientKind {
    /// Writes, as librdkafka and the Java client do: in flight up to a number, sends again what may not have arrived.
    Producer {
        /// Whether it writes under a producer id, so that nothing it sends again appears twice. Then acks is -1.
        is_idempotent: bool,
        /// 0, 1 or -1.
        acks: i16,
        /// Requests without an answer at once; at most 5 for an idempotent one.
        in_flight_max: u32,
        /// When a request without an answer, or a connection that says nothing, is given up, in milliseconds.
        request_timeout_ms: u64,
        /// When an operation is given up, in milliseconds from when it was due.
        delivery_timeout_ms: u64,
        /// The version of Produce, within what the broker serves; those from 13 on name topics by id.
        version: i16,
        /// The sequence that an idempotent producer begins with: a broker takes any from one whom it does not know.
        #[serde(default)]
        first_sequence: i32,
        /// Its batches tell of what happened up to so long before, each differently so, in milliseconds.
        #[serde(default)]
        late_ms_max: u64,
    },
    /// Reads assigned partitions from their start on, and goes back there only where it was told that its offset is
    /// out of range.
    Consumer {
        /// When a request without an answer is given up, in milliseconds.
        request_timeout_ms: u64,
        /// How long the broker may wait for data, in milliseconds.
        max_wait_ms: i32,
        /// How many bytes the broker waits for.
        min_bytes: i32,
        /// The most that a response should hold, in bytes.
        max_bytes: i32,
        /// The most that a partition's part of it should hold, in bytes.
        partition_max_bytes: i32,
        /// Whether it uses incremental fetch sessions (KIP-227).
        uses_session: bool,
        /// Whether it reads committed data only.
        is_read_committed: bool,
        /// The version of Fetch, within what the broker serves; those from 13 on name topics by id.
        version: i16,
    },
    /// Creates, deletes, changes and asks; one operation at a time.
    Admin {
        /// When a request without an answer is given up, in milliseconds.
        request_timeout_ms: u64,
    },
    /// Sends what no sound client sends; one operation at a time, each by a connection of its own.
    Hostile,
    /// A member of a consumer group: joins, reads what it is assigned, commits. Its heartbeats come of themselves.
    Member {
        /// The group's number: it is called after it.
        group: u32,
        /// How it becomes a member and who assigns.
        protocol: GroupProtocol,
        /// Which static member it is (KIP-345), if one; two clients may be the same.
        #[serde(default)]
        instance: Option<u32>,
        /// How long it may be silent, in milliseconds; the next protocol takes the broker's setting instead.
        session_timeout_ms: u64,
        /// How long it may take to join again, or to give up partitions, in milliseconds.
        rebalance_timeout_ms: u64,
        /// How often it heartbeats, in milliseconds; the next protocol does as the broker says.
        heartbeat_ms: u64,
        /// When a request without an answer is given up, in milliseconds; one to join or to sync has the rebalance
        /// timeout more.
        request_timeout_ms: u64,
        /// The topics that it subscribes to at first, by index.
        topics: Vec<usize>,
        /// Whether it subscribes by a regular expression, which only the next protocol can.
        #[serde(default)]
        uses_regex: bool,
        /// How old the client is: 0 uses the newest versions of each request, 1 those before topics went by id, 2 those
        /// before static members.
        #[serde(default)]
        age: u8,
    },
    /// Looks after groups that it is no member of: describes, deletes, commits without membership, and sends what must
    /// be refused; one operation at a time.
    GroupAdmin {
        /// When a request without an answer is given up, in milliseconds.
        request_timeout_ms: u64,
    },
    /// Looks after a cluster: moves partitions, has leaders elected, asks; one operation at a time.
    ClusterAdmin {
        /// When a request without an answer is given up, in milliseconds.
        request_timeout_ms: u64,
    },
}

/// By which protocol a member takes part in its group, and how partitions are assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// The classic one; one of the members assigns ranges, and all stop reading while they join.
    Range,
    /// The classic one; partitions stay where they are, and who keeps its partitions goes on reading (KIP-429).
    CooperativeSticky,
    /// The next one, by the broker's `uniform` (KIP-848).
    NextUniform,
    /// The next one, by the broker's `range`.
    NextRange,
}

impl GroupProtocol {
    /// Whether it is the next protocol.
    pub fn is_next(self) -> bool {
        matches!(self, GroupProtocol::NextUniform | GroupProtocol::NextRange)
    }
}

/// One thing that a client is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Not before this, in simulated milliseconds from the start.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Action,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A producer sends one batch.
    Produce {
        /// The topic's index in the plan.
        topic: usize,
        /// The partition's index.
        partition: i32,
        /// How many records, at least 1.
        records: u32,
        /// How long each record's value is, in bytes; never less than what tells it from the others.
        value_bytes: u32,
        /// Kafka's number of the codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
        codec: u8,
    },
    /// A consumer polls all partitions of these topics once. A poll that finds the one before unanswered is left out.
    Poll {
        /// The topics' indexes.
        topics: Vec<usize>,
    },
    /// A consumer goes back to the start of its partitions.
    Rewind,
    /// Asks for an offset of one partition.
    ListOffsets {
        /// The topic's index.
        topic: usize,
        /// The partition's index.
        partition: i32,
        /// -1 latest, -2 earliest, -3 max timestamp, else milliseconds from the start of the run.
        timestamp: i64,
    },
    /// An admin creates a topic of the plan, again if it was deleted.
    CreateTopic {
        /// Its index.
        topic: usize,
    },
    /// An admin deletes a topic.
    DeleteTopic {
        /// Its index.
        topic: usize,
    },
    /// An admin grows a topic by so many partitions.
    CreatePartitions {
        /// Its index.
        topic: usize,
        /// By how many.
        more: i32,
    },
    /// An admin deletes records up to a place between what it knows as the partition's start and its end.
    DeleteRecords {
        /// The topic's index.
        topic: usize,
        /// The partition's index.
        partition: i32,
        /// Where between them, in thousandths.
        permille: u32,
    },
    /// An admin sets a topic's config.
    AlterConfig {
        /// The topic's index.
        topic: usize,
        /// Kafka's name.
        name: String,
        /// The value; `None` puts the default back.
        value: Option<String>,
    },
    /// A read-only request that must simply be answered well: Metadata of all, DescribeConfigs, DescribeProducers,
    /// DescribeLogDirs, DescribeCluster, OffsetForLeaderEpoch, DescribeTopicPartitions, in turn by number.
    Ask {
        /// Which.
        which: u8,
    },
    /// A hostile client sends bytes that are no request, or part of one: which kind, by number.
    Misbehave {
        /// Which.
        which: u8,
    },
    /// A member joins its group. One that is in it goes on.
    Join,
    /// A member leaves its group in order; a static one of the next protocol for a while only, one of the classic
    /// protocol without a word.
    Leave,
    /// A member dies: it closes its connection and forgets who it was. It comes back by the next [`Action::Join`].
    Vanish,
    /// A member does nothing at all for a while, and then goes on as if nothing had happened.
    Stall {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A member subscribes to other topics.
    Subscribe {
        /// The topics' indexes.
        topics: Vec<usize>,
    },
    /// A member commits where it is.
    Commit {
        /// Under a generation or epoch that is over, so that it must be refused.
        is_stale: bool,
    },
    /// A group admin asks about a group: DescribeGroups, ConsumerGroupDescribe, ListGroups, OffsetFetch of all its
    /// offsets, in turn by number.
    AskGroup {
        /// The group's number.
        group: u32,
        /// Which.
        which: u8,
    },
    /// A group admin deletes a group.
    DeleteGroup {
        /// Its number.
        group: u32,
    },
    /// A group admin deletes the offsets of a topic.
    DeleteOffsets {
        /// The group's number.
        group: u32,
        /// The topic's index.
        topic: usize,
    },
    /// A group admin commits for a group without being a member.
    CommitAlone {
        /// The group's number.
        group: u32,
        /// The topic's index.
        topic: usize,
        /// The partition's index.
        partition: i32,
    },
    /// A group admin removes a static member.
    RemoveMember {
        /// The group's number.
        group: u32,
        /// The static member's.
        instance: u32,
    },
    /// A group admin asks for what must be refused: which, by number.
    Bother {
        /// The group's number.
        group: u32,
        /// Which.
        which: u8,
    },
    /// A cluster admin moves a partition to other brokers, or orders the same ones otherwise; a move that is under way is
    /// replaced by that.
    MoveReplicas {
        /// The topic's index.
        topic: usize,
        /// The partition's index.
        partition: i32,
        /// The brokers that are to hold it, from 1 on, who is to lead first.
        to: Vec<u32>,
    },
    /// A cluster admin stops a move, if one is under way.
    CancelMove {
        /// The topic's index.
        topic: usize,
        /// The partition's index.
        partition: i32,
    },
    /// A cluster admin has the first of its replicas lead a partition.
    ElectLeader {
        /// The topic's index.
        topic: usize,
        /// The partition's index.
        partition: i32,
    },
    /// A cluster admin starts a broker that does not run, with an empty disk where it was removed before, and makes it a
    /// voter.
    AddNode {
        /// The broker, from 1 on.
        node: u32,
        /// One that was removed comes back with the disk that it had.
        #[serde(default)]
        keeps_disk: bool,
    },
    /// A cluster admin has a broker's replicas moved to others, stops it, takes its vote, and has it forgotten.
    RemoveNode {
        /// The broker, from 1 on.
        node: u32,
    },
    /// A cluster admin asks which moves are under way, or for the metadata quorum, in turn by number.
    AskCluster {
        /// Which.
        which: u8,
    },
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, in simulated milliseconds from the start.
    pub at_ms: u64,
    /// Which broker it strikes, from 1 on; without meaning where it strikes a client.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub node: u32,
    /// What.
    #[serde(flatten)]
    pub what: FaultKind,
}

impl Fault {
    /// What goes wrong with the first broker, or with a client.
    pub fn new(at_ms: u64, what: FaultKind) -> Fault {
        Fault { at_ms, node: 1, what }
    }

    /// The same of another broker.
    pub fn of(self, node: u32) -> Fault {
        Fault { node, ..self }
    }
}

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

/// What goes wrong. A fault with a duration heals by itself after it, or at the plan's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The process dies; what the operating system had stays.
    Kill {
        /// Until it is started again.
        down_ms: u64,
    },
    /// The machine dies; of what was not synced, any block, cut, removal and file may or may not persist.
    PowerLoss {
        /// Until it is started again.
        down_ms: u64,
        /// How much of what was not synced persists, in thousandths.
        keep_permille: u32,
        /// What persists or vanishes as one, in bytes: 512 or 4096.
        sector_bytes: u32,
    },
    /// The process is asked to stop (SIGTERM) and started again.
    Restart {
        /// Until it is started again, counted from its end.
        down_ms: u64,
    },
    /// The next recovery dies after so many changes of files; the process is started again at once.
    KillInRecovery {
        /// After how many.
        changes: u32,
        /// Whether the machine dies with it.
        loses_power: bool,
    },
    /// The process stands still (SIGSTOP), or the machine does.
    Pause {
        /// For how long.
        for_ms: u64,
    },
    /// The broker's wall clock jumps.
    ClockStep {
        /// By how much, in milliseconds, forth or back.
        by_ms: i64,
    },
    /// The disk is full: nothing that needs a new block succeeds.
    DiskFull {
        /// For how long.
        for_ms: u64,
    },
    /// Syncs and reads take longer.
    DiskSlow {
        /// For how long.
        for_ms: u64,
        /// By what factor.
        factor: u32,
    },
    /// The disk answers nothing.
    DiskStall {
        /// For how long.
        for_ms: u64,
    },
    /// The next sync of this kind of file fails (EIO) and the pages that were not written are dropped.
    SyncFails {
        /// Of which file.
        of: FileKind,
    },
    /// The next write to this kind of file fails (EIO).
    WriteFails {
        /// To which file.
        of: FileKind,
    },
    /// Reads of a sector of this kind of file fail (EIO) until it is written again.
    ReadFails {
        /// Of which file.
        of: FileKind,
    },
    /// A bit of what is on disk changes.
    BitFlip {
        /// In which file.
        of: FileKind,
    },
    /// The next write to this kind of file goes elsewhere in it.
    MisdirectedWrite {
        /// Which.
        of: FileKind,
    },
    /// Syncs report success and do nothing.
    LyingSync {
        /// For how long.
        for_ms: u64,
    },
    /// An index file loses its end, while the broker is down next.
    TruncatedIndex,
    /// A client's connections break, both ways at once, wherever in a frame they are.
    Reset {
        /// Which client.
        client: usize,
    },
    /// A client's connections deliver nothing to the broker.
    MuteToServer {
        /// Which client.
        client: usize,
        /// For how long.
        for_ms: u64,
    },
    /// A client's connections deliver nothing to the client.
    MuteToClient {
        /// Which client.
        client: usize,
        /// For how long.
        for_ms: u64,
    },
    /// The client's side of its connections is gone without the broker being told, as when its machine dies.
    HalfOpen {
        /// Which client.
        client: usize,
    },
    /// Bytes take longer, and each piece differently so.
    Delay {
        /// Which client's.
        client: usize,
        /// For how long.
        for_ms: u64,
        /// One way takes up to so much longer, in milliseconds.
        up_to_ms: u64,
    },
    /// Bytes arrive one, two or three at a time.
    Fragment {
        /// Which client's.
        client: usize,
        /// For how long.
        for_ms: u64,
    },
    /// The client reads nothing of what it is sent.
    SlowReader {
        /// Which client.
        client: usize,
        /// For how long.
        for_ms: u64,
    },
    /// New connections are refused.
    Refuse {
        /// For how long.
        for_ms: u64,
    },
    /// New connections are not answered at all.
    Blackhole {
        /// For how long.
        for_ms: u64,
    },
    /// Nothing of what the broker says arrives at another one: one way of the link between the two.
    LinkMuted {
        /// Which other one.
        to: u32,
        /// For how long.
        for_ms: u64,
    },
    /// What the broker says to another one takes longer, and each piece differently so.
    LinkSlow {
        /// Which other one.
        to: u32,
        /// For how long.
        for_ms: u64,
        /// One way takes up to so much longer, in milliseconds.
        up_to_ms: u64,
    },
    /// The connections between the broker and another one break, both ways, wherever in a frame they are.
    LinkReset {
        /// Which other one.
        with: u32,
    },
    /// The connections between the broker and another one break, and new ones are refused in the name of whoever is
    /// dialled, both ways, though both live: as by a firewall that rejects. Each is told that the other is gone.
    LinkRefused {
        /// Which other one.
        with: u32,
        /// For how long.
        for_ms: u64,
    },
    /// The broker is parted from all others; clients reach it all the same.
    Isolated {
        /// For how long.
        for_ms: u64,
        /// Which way nothing arrives.
        way: Way,
    },
}

/// Which way nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Neither.
    Both,
    /// It hears nothing.
    In,
    /// It is not heard.
    Out,
}

/// A kind of file that a disk fault chooses one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A slot of the journal.
    Journal,
    /// A checkpoint.
    Checkpoint,
    /// A segment.
    Segment,
    /// An index.
    Index,
}

impl Plan {
    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn from_json(text: &str) -> Result<Plan, String> {
        let plan: Plan = serde_json::from_str(text).map_err(|error| format!("this is no plan: {error}"))?;
        if !(1..=FORMAT).contains(&plan.format) {
            return Err(format!("the plan has format {}, this simulator reads 1 to {FORMAT}", plan.format));
        }
        Ok(plan)
    }

    /// The plan as JSON for people.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan has no keys but strings")
    }

    /// The numbers of all groups that somebody is a member of, or commits for.
    pub fn groups(&self) -> BTreeSet<u32> {
        let of_member = |client: &ClientPlan| match client.kind {
            ClientKind::Member { group, .. } => Some(group),
            _ => None,
        };
        let of_operation = |operation: &Operation| match operation.what {
            Action::CommitAlone { group, .. } => Some(group),
            _ => None,
        };
        let operations = self.clients.iter().flat_map(|client| &client.operations);
        self.clients.iter().filter_map(of_member).chain(operations.filter_map(of_operation)).collect()
    }

    /// To which brokers partitions of a topic, by its index, are to be moved.
    pub fn moves(&self, of: usize) -> impl Iterator<Item = &[u32]> {
        let operations = self.clients.iter().flat_map(|client| &client.operations);
        operations.filter_map(move |operation| match &operation.what {
            Action::MoveReplicas { topic, to, .. } if *topic == of => Some(to.as_slice()),
            _ => None,
        })
    }

    /// Whether brokers are removed, and what they hold is moved to others.
    pub fn removes_nodes(&self) -> bool {
        let mut operations = self.clients.iter().flat_map(|client| &client.operations);
        operations.any(|operation| matches!(operation.what, Action::RemoveNode { .. }))
    }

    /// How many operations its clients have.
    pub fn operations(&self) -> usize {
        self.clients.iter().map(|client| client.operations.len()).sum()
    }
}
