//! The state of one member, and what its owner may ask of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bytes::Bytes;
use raft::eraftpb::{self, MessageType};
use raft::{Config, RawNode, StateRole};

use super::convert;
use super::log::Log;
use super::membership::{Change, Member, MemberKey, Membership};
use super::message::Message;
use super::ready::InFlight;
use super::record::{Inconsistent, LogId, Record, Restored, SnapshotHead, Vote};
use super::snapshot::{Arrival, SnapshotRead, Transfer};
use super::status::Heard;
use crate::ids::{NodeId, Uuid};

/// Who a member is, and how it behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster; messages of another one are refused.
    pub cluster: Uuid,
    /// This node and its data folder.
    pub me: Member,
    /// From which the election timeouts follow, together with member, term and `restart`.
    pub seed: u64,
    /// Which start of this node it is.
    pub restart: u64,
    /// After how many ticks without a leader an election begins: from this to before twice as many. More than
    /// `heartbeat_ticks`.
    pub election_ticks: usize,
    /// How many ticks lie between two heartbeats of a leader, at least 1.
    pub heartbeat_ticks: usize,
    /// How much may be under way.
    pub limits: Limits,
}

/// How much may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages with entries to one member that are not yet answered, at least 1.
    pub max_inflight: usize,
    /// Bytes of entries in one message, where these are more than one.
    pub max_append_bytes: u64,
    /// Bytes of one proposal.
    pub max_payload_bytes: usize,
    /// Bytes of proposals that are not committed yet, at least `max_append_bytes`. One is always taken.
    pub max_uncommitted_bytes: u64,
    /// Bytes of committed entries in one [`Ready`](super::Ready), where these are more than one.
    pub max_committed_bytes: u64,
    /// Bytes of entries in one record for the journal, where these are more than one.
    pub max_record_bytes: usize,
    /// Bytes of a snapshot's image in one message, at least 1.
    pub snapshot_piece_bytes: usize,
    /// Bytes of an image that a leader may send.
    pub max_snapshot_bytes: u64,
    /// Readys that the disk has not confirmed, beyond which no entries are taken from a leader, at least 1.
    pub max_unconfirmed: usize,
}

impl Default for Limits {
    /// Messages and records of about 1 MiB, so that a heartbeat behind one waits for milliseconds.
    fn default() -> Limits {
        Limits {
            max_inflight: 256,
            max_append_bytes: 1 << 20,
            max_payload_bytes: 4 << 20,
            max_uncommitted_bytes: 32 << 20,
            max_committed_bytes: 1 << 20,
            max_record_bytes: 1 << 20,
            snapshot_piece_bytes: 256 << 10,
            max_snapshot_bytes: 1 << 30,
            max_unconfirmed: 1024,
        }
    }
}

/// What a member is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows whom it knows to lead.
    Follower {
        /// The leader, if it knows one.
        leader: Option<NodeId>,
    },
    /// It stands for election, or asks whether it should.
    Candidate,
    /// It leads: it alone may propose.
    Leader,
}

/// Why the owner's wish is not granted. Nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// Somebody else leads.
    NotLeader {
        /// Who, if known.
        leader: Option<NodeId>,
    },
    /// It leads, but does not know yet what the leaders before committed: soon.
    NotYetKnown,
    /// A change of membership is under way.
    ChangeUnderWay,
    /// The membership would stay as it is, or would be none: without a voter, with somebody twice, or too large.
    NoChange,
    /// Too much is uncommitted, or leadership is being handed over.
    Busy,
    /// The payload is larger than may be.
    TooLarge {
        /// Its length, in bytes.
        length: usize,
    },
    /// The node is no voter.
    NotVoter,
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Declined::NotLeader { leader: Some(leader) } => write!(f, "node {leader} leads the metadata log"),
            Declined::NotLeader { leader: None } => f.write_str("nobody is known to lead the metadata log"),
            Declined::NotYetKnown => f.write_str("what was committed before this leadership is not known yet"),
            Declined::ChangeUnderWay => f.write_str("another change of the quorum is under way"),
            Declined::NoChange => f.write_str("the quorum would not change, or would be none"),
            Declined::Busy => f.write_str("too much of the metadata log is uncommitted, or its leader is changing"),
            Declined::TooLarge { length } => write!(f, "an entry of {length} bytes is too large for the metadata log"),
            Declined::NotVoter => f.write_str("the node is no voter of the metadata log"),
        }
    }
}

impl std::error::Error for Declined {}

/// One question for the position up to which a read must have been applied to be linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// One node's part in the quorum. See the module.
pub struct Quorum {
    pub(super) raw: RawNode<Log>,
    pub(super) options: Options,
    /// As of the last entry handed out, and those since the snapshot, oldest first, each from its `since` on.
    pub(super) memberships: Vec<Membership>,
    /// The members of the last of these by their keys.
    pub(super) names: BTreeMap<MemberKey, Member>,
    /// The last committed entry handed out, or that of the snapshot.
    pub(super) applied: u64,
    pub(super) role: Role,
    /// The vote that was last handed out for the journal.
    pub(super) written: Vote,
    /// The term that the disk has.
    pub(super) durable_term: u64,
    /// The number of the last Ready.
    pub(super) handed_out: u64,
    pub(super) in_flight: VecDeque<InFlight>,
    /// Messages that may leave.
    pub(super) sends: Vec<(NodeId, Message)>,
    /// Who was heard without being known as a member, and may await an answer.
    pub(super) strangers: BTreeMap<MemberKey, Member>,
    pub(super) transfers: BTreeMap<MemberKey, Transfer>,
    pub(super) snapshot_reads: Vec<SnapshotRead>,
    pub(super) arrival: Option<Arrival>,
    pub(super) installing: Option<(SnapshotHead, Bytes)>,
    pub(super) heard: BTreeMap<MemberKey, Heard>,
    pub(super) ticks: u64,
    next_read: u64,
}

impl Quorum {
    /// Takes up the part that the disk remembers, as a follower.
    ///
    /// # Errors
    /// Where what the disk gave back is not one log.
    ///
    /// # Panics
    /// Where `options` are out of their ranges.
    pub fn new(options: Options, restored: Restored) -> Result<Quorum, Inconsistent> {
        let restored = restored.checked()?;
        let (head, vote) = (restored.head.clone(), restored.vote);
        let config = Config {
            id: options.me.key().0,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            applied: head.last.index,
            max_size_per_msg: options.limits.max_append_bytes,
            max_inflight_msgs: options.limits.max_inflight,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: options.limits.max_uncommitted_bytes,
            max_committed_size_per_ready: options.limits.max_committed_bytes,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, Log::new(restored), &silent).expect("the options are within their ranges");
        let mut quorum = Quorum {
            raw,
            options,
            applied: head.last.index,
            names: head.membership.names(),
            memberships: vec![head.membership],
            role: Role::Follower { leader: None },
            written: vote,
            durable_term: vote.term,
            handed_out: 0,
            in_flight: VecDeque::new(),
            sends: Vec::new(),
            strangers: BTreeMap::new(),
            transfers: BTreeMap::new(),
            snapshot_reads: Vec::new(),
            arrival: None,
            installing: None,
            heard: BTreeMap::new(),
            ticks: 0,
            next_read: 0,
        };
        quorum.settle();
        Ok(quorum)
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.ticks += 1;
        let raft = &mut self.raw.raft;
        let due = raft.state != StateRole::Leader && raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        if due && !self.may_stand() {
            // The lease of a silent leader runs out all the same, so that others get this node's vote.
            self.raw.raft.election_elapsed += 1;
        } else {
            self.raw.tick();
        }
        self.tick_transfers();
        self.leave_if_due();
        self.settle();
    }

    /// Stands for election at once, if it may; a sole voter that has taken all its Readys leads when its disk has
    /// what follows.
    pub fn campaign(&mut self) {
        if self.raw.raft.state != StateRole::Leader && self.raw.raft.promotable() && self.may_stand() {
            self.raw.campaign().expect("a request of our own is well formed");
        }
        self.settle();
    }

    /// Appends `payload` to the log. It is committed when an entry of this name is handed out; if one of this index and
    /// another term is, it never will be.
    ///
    /// # Errors
    /// Where this node does not lead, or too much is under way.
    ///
    /// # Panics
    /// If `payload` is empty.
    pub fn propose(&mut self, payload: Bytes) -> Result<LogId, Declined> {
        assert!(!payload.is_empty(), "an entry without payload is a leader's own");
        self.check_leader()?;
        if payload.len() > self.options.limits.max_payload_bytes {
            return Err(Declined::TooLarge { length: payload.len() });
        }
        self.append(eraftpb::Entry { data: payload, ..Default::default() })
    }

    /// Changes who belongs to the quorum, by joint consensus: to `voters`, at least one, and `learners`, none of them a
    /// voter. It is done when [`Change::Leave`] is handed out; the leader sees to that by itself.
    ///
    /// # Errors
    /// Where this node does not lead, another change is under way, or there is nothing to change.
    pub fn propose_membership(
        &mut self,
        voters: BTreeSet<Member>,
        learners: BTreeSet<Member>,
    ) -> Result<LogId, Declined> {
        self.check_leader()?;
        if self.raw.raft.has_pending_conf() || self.membership().is_joint() {
            return Err(Declined::ChangeUnderWay);
        }
        // Before that, an entry of a leader before might still commit, and with it another membership.
        if !self.raw.raft.commit_to_current_term() {
            return Err(Declined::NotYetKnown);
        }
        let change = Change::Enter { voters, learners };
        if self.membership().after(self.last().index + 1, &change).is_none() {
            return Err(Declined::NoChange);
        }
        self.append_change(&change)
    }

    /// Hands leadership to `to`, a voter, when it has the whole log. Until then, and at most for an election timeout,
    /// proposals are declined.
    ///
    /// # Errors
    /// Where this node does not lead, or `to` is no voter.
    pub fn transfer_leadership(&mut self, to: NodeId) -> Result<(), Declined> {
        self.check_leader()?;
        let to = self.membership().voters.iter().find(|voter| voter.node == to).copied().ok_or(Declined::NotVoter)?;
        self.raw.transfer_leader(to.key().0);
        self.settle();
        Ok(())
    }

    /// Asks for the position up to which a read must be applied in order to see all that was committed before. The
    /// answer comes with a [`Ready`](super::Ready), unless this node loses its leadership before.
    ///
    /// # Errors
    /// Where this node does not lead, or does not yet know what is committed.
    pub fn read_index(&mut self) -> Result<ReadId, Declined> {
        self.check_leader()?;
        if !self.raw.raft.commit_to_current_term() {
            return Err(Declined::NotYetKnown);
        }
        let read = ReadId(self.next_read);
        self.next_read += 1;
        self.raw.read_index(convert::read_context(read.0).to_vec());
        self.settle();
        Ok(read)
    }

    /// Nothing reaches `node` at present: a leader sends it one message at a time until it answers.
    pub fn report_unreachable(&mut self, node: NodeId) {
        for member in self.membership().members().iter().filter(|member| member.node == node) {
            self.raw.report_unreachable(member.key().0);
        }
        self.settle();
    }

    /// The snapshot that stands for what the log no longer holds.
    pub fn head(&self) -> &SnapshotHead {
        self.raw.store().head()
    }

    /// What a snapshot of the owner's state stands for, made when all up to `index` was applied and nothing beyond.
    /// `None` where the log no longer or not yet knows that.
    pub fn snapshot_head(&self, index: u64) -> Option<SnapshotHead> {
        let head = self.raw.store().head();
        if index < head.last.index || index > self.applied {
            return None;
        }
        let membership = self.memberships.iter().rev().find(|membership| membership.since <= index)?;
        let last = LogId { index, term: self.raw.store().term_at(index)? };
        Some(SnapshotHead { last, membership: membership.clone() })
    }

    /// The owner's snapshot at `head` is durable: forgets the entries that it covers, but for the last `keep`, which
    /// spare members who are a little behind the whole snapshot. Returns the record for the journal; `None` if there is
    /// a later snapshot already.
    ///
    /// # Panics
    /// If `head` is not one that [`Quorum::snapshot_head`] gave.
    pub fn compact(&mut self, head: SnapshotHead, keep: u64) -> Option<Record> {
        if head.last.index <= self.raw.store().head().last.index {
            return None;
        }
        assert_eq!(self.snapshot_head(head.last.index).as_ref(), Some(&head), "a snapshot is of this log");
        self.memberships.retain(|membership| membership.since >= head.membership.since);
        self.raw.mut_store().compact(head.clone(), keep);
        Some(Record::Compact(head))
    }

    /// All that a checkpoint of the journal must hold of this log, as records to replay: what was handed out for the
    /// journal so far, be it durable yet or not. The image of its snapshot must be durable before the checkpoint is.
    pub fn checkpoint(&self) -> Vec<Record> {
        self.checkpoint_behind(self.raw.store().head())
    }

    /// The same for a checkpoint that holds the owner's snapshot at `head`, one that [`Quorum::snapshot_head`] gave:
    /// without the entries that this covers.
    pub fn checkpoint_behind(&self, head: &SnapshotHead) -> Vec<Record> {
        let log = self.raw.store();
        let mut records = Vec::new();
        if head.last.index > 0 {
            records.push(Record::Install(head.clone()));
        }
        let entries = log.range(head.last.index + 1, u64::MAX).map(convert::from_library).collect();
        records.extend(super::ready::runs(entries, self.options.limits.max_record_bytes).map(Record::Append));
        records.push(Record::Vote(self.written));
        records
    }

    /// What it is to the others at present.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Follower => Role::Follower {
                leader: Some(MemberKey(self.raw.raft.leader_id)).filter(|key| key.0 != 0).map(MemberKey::node),
            },
            // A sole voter elects itself before its disk knows. After a crash it would be elected for that term again.
            StateRole::Leader if self.durable_term >= self.term() => Role::Leader,
            StateRole::PreCandidate | StateRole::Candidate | StateRole::Leader => Role::Candidate,
        }
    }

    /// Its term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// How far it knows the log to be committed.
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The last committed entry that was handed out, or the last one of the snapshot.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The last entry of its log.
    pub fn last(&self) -> LogId {
        LogId { index: self.raw.raft.raft_log.last_index(), term: self.raw.raft.raft_log.last_term() }
    }

    /// The last entry of its log that is on its disk, 0 if none. What is under way may change the log below the end that
    /// the library counts as durable (see `is_log_durable`).
    pub fn durable(&self) -> u64 {
        let changed = self.in_flight.iter().filter_map(|ready| ready.changes_from).min();
        self.raw.raft.raft_log.persisted.min(changed.map_or(u64::MAX, |from| from - 1))
    }

    /// Who belongs to the quorum, as of the last entry handed out.
    pub fn membership(&self) -> &Membership {
        self.memberships.last().expect("there always is one")
    }

    /// Whether this node decides everything and nobody else belongs to the quorum, and that was so since the snapshot that
    /// the log begins behind.
    pub fn is_alone_since_snapshot(&self) -> bool {
        self.memberships.len() == 1 && self.membership().is_alone(self.options.me)
    }

    /// Who this node is.
    pub fn me(&self) -> Member {
        self.options.me
    }

    /// Memory that the log takes, in bytes: when to make a snapshot.
    pub fn log_bytes(&self) -> usize {
        self.raw.store().bytes()
    }

    /// Asserts what must hold between two calls.
    ///
    /// # Panics
    /// Where it does not.
    pub fn invariants(&self) {
        let log = &self.raw.raft.raft_log;
        assert!(self.applied <= log.committed && log.committed <= log.last_index());
        assert!(self.durable_term <= self.written.term && self.written.term <= self.raw.raft.term);
        assert_eq!(log.applied.max(self.applied), self.applied);
        assert!(self.memberships.is_sorted_by(|one, next| one.since < next.since));
        assert!(self.raw.raft.state != StateRole::Leader || self.membership().is_voter(self.options.me));
        assert!(self.transfers.is_empty() || self.raw.raft.state == StateRole::Leader);
        assert_eq!(self.raw.raft.randomized_election_timeout(), self.election_timeout());
    }

    fn check_leader(&self) -> Result<(), Declined> {
        match self.role() {
            Role::Leader => Ok(()),
            Role::Candidate => Err(Declined::NotLeader { leader: None }),
            Role::Follower { leader } => Err(Declined::NotLeader { leader }),
        }
    }

    fn append(&mut self, entry: eraftpb::Entry) -> Result<LogId, Declined> {
        if self.last().index == super::MAX_INDEX {
            return Err(Declined::Busy);
        }
        let mut message = eraftpb::Message { from: self.raw.raft.id, ..Default::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![entry].into());
        let appended = self.raw.step(message);
        self.settle();
        appended.map(|()| self.last()).map_err(|_| Declined::Busy)
    }

    fn append_change(&mut self, change: &Change) -> Result<LogId, Declined> {
        let instructions = convert::conf_change(self.membership(), change);
        let appended = self.raw.propose_conf_change(convert::context(change).to_vec(), instructions);
        self.settle();
        appended.map(|()| self.last()).map_err(|_| Declined::Busy)
    }

    /// Leaves a joint membership as soon as that is possible, whoever entered it. Where it is not, a later tick will.
    pub(super) fn leave_if_due(&mut self) {
        if self.raw.raft.state == StateRole::Leader
            && self.membership().is_joint()
            && !self.raw.raft.has_pending_conf()
            && self.raw.raft.commit_to_current_term()
        {
            let _ = self.append_change(&Change::Leave);
        }
    }

    /// Whether an election may begin: the disk has all that this node was given to keep, a snapshot included. Who
    /// cannot write its log cannot write a vote either, and the library panics where a sole voter tries.
    pub(super) fn may_stand(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        self.is_log_durable() && log.applied + 1 >= log.first_index() && self.term() < super::MAX_TERM
    }

    /// Whether the disk has the whole log. The library's own count is not enough: an entry that was cut and then came
    /// again, of the same index and term, counts for it as durable with the first of the two records.
    pub(super) fn is_log_durable(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.persisted == log.last_index() && self.in_flight.iter().all(|ready| ready.changes_from.is_none())
    }

    /// What must be done after every call into the library.
    pub(super) fn settle(&mut self) {
        let timeout = self.election_timeout();
        self.raw.raft.set_randomized_election_timeout(timeout);
        if self.raw.raft.state != StateRole::Leader {
            self.transfers.clear();
            self.snapshot_reads.clear();
            self.heard.clear();
        }
    }

    fn election_timeout(&self) -> usize {
        let Options { me, seed, restart, election_ticks, .. } = &self.options;
        let chance = [*seed, me.key().0, self.term(), *restart].into_iter().fold(0, mixed);
        election_ticks + (chance % *election_ticks as u64) as usize
    }
}

/// One round of SplitMix64: every bit of `number` bears on every bit of the result.
fn mixed(state: u64, number: u64) -> u64 {
    let mut bits = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
