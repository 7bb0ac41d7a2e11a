//! What follows from what happened, handed out in portions, and what waits for the disk.

use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{self, MessageType};

use super::convert;
use super::log::is_change;
use super::membership::{Change, MemberKey};
use super::message::{Body, Message};
use super::quorum::{Quorum, ReadId, Role};
use super::record::{Content, Entry, Record, Vote};
use super::snapshot::SnapshotRead;
use crate::ids::NodeId;

/// What the owner is to do, in this order; nothing of it waits for anything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Its number, for [`Quorum::persisted`].
    pub number: u64,
    /// Records for the journal. Where there are any, the owner says when they are durable.
    pub records: Vec<Record>,
    /// The image of the snapshot that `records` begin with: durable before they are, and to be loaded, in place of all
    /// that was applied, when they are.
    pub image: Option<Bytes>,
    /// Messages, each for a node. They may be lost, repeated and overtaken.
    pub sends: Vec<(NodeId, Message)>,
    /// Entries that are committed, and durable here unless a record that is under way brings them again, in order and
    /// without a gap.
    pub committed: Vec<Entry>,
    /// What the node is from now on, if that changed.
    pub role: Option<Role>,
    /// Up to where what was asked must be applied.
    pub reads: Vec<(ReadId, u64)>,
    /// Pieces of snapshots that members need, to be answered with [`Quorum::supply_snapshot`].
    pub snapshot_reads: Vec<SnapshotRead>,
    /// A member needs a snapshot that covers this position or a later one: the owner makes one and calls
    /// [`Quorum::compact`]. It is said again as long as that is so.
    pub snapshot_wanted: Option<u64>,
}

/// A Ready that the disk has not confirmed.
pub(super) struct InFlight {
    number: u64,
    has_records: bool,
    /// The first entry that those change, if they are of the log at all; for a snapshot none that is there.
    pub(super) changes_from: Option<u64>,
    /// The term that is durable with it.
    term: u64,
    /// The end of the snapshot in it.
    snapshot: Option<u64>,
    /// What must not be said before.
    held: Vec<(NodeId, Message)>,
}

impl Quorum {
    /// The next portion of what is to be done, if there is any.
    pub fn take_ready(&mut self) -> Option<Ready> {
        let mut ready = Ready { sends: std::mem::take(&mut self.sends), ..Ready::default() };
        ready.snapshot_reads = std::mem::take(&mut self.snapshot_reads);
        if self.raw.has_ready() {
            self.take_from_library(&mut ready);
        }
        ready.snapshot_reads.append(&mut self.snapshot_reads);
        ready.snapshot_wanted = self.raw.store().take_need().then(|| self.membership().since);
        // The order in which the library goes through its members is an accident of its hash map.
        ready.sends.sort_by_key(|(to, _)| *to);
        let role = self.role();
        ready.role = (role != self.role).then_some(role);
        self.role = role;
        let anything = ready.role.is_some()
            || !(ready.records.is_empty() && ready.sends.is_empty() && ready.committed.is_empty())
            || !(ready.reads.is_empty() && ready.snapshot_reads.is_empty())
            || ready.snapshot_wanted.is_some();
        anything.then_some(ready)
    }

    /// All records up to those of Ready `number` are durable. What is said twice, or after a later number, is nothing
    /// new.
    ///
    /// # Panics
    /// If there was no such Ready.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.handed_out, "only what was handed out is durable");
        let mut confirmed = None;
        // What has no record of its own is durable with what came before it.
        while let Some(next) = self.in_flight.front().filter(|next| next.number <= number || !next.has_records) {
            confirmed = Some(next.number);
            let next = self.in_flight.pop_front().expect("there is a first one");
            self.durable_term = self.durable_term.max(next.term);
            self.sends.extend(next.held);
            if let Some(end) = next.snapshot {
                self.raw.on_persist_ready(next.number);
                if end > self.raw.raft.raft_log.applied {
                    self.raw.advance_apply_to(end);
                }
            }
        }
        if let Some(confirmed) = confirmed {
            self.raw.on_persist_ready(confirmed);
        }
        self.leave_if_due();
        self.settle();
    }

    fn take_from_library(&mut self, ready: &mut Ready) {
        let mut library = self.raw.ready();
        ready.number = library.number();
        self.handed_out = ready.number;
        let leads = self.raw.raft.state == StateRole::Leader;

        let snapshot = Some(library.snapshot().get_metadata().index).filter(|end| *end > 0);
        if let Some(end) = snapshot {
            let (head, image) = self.installing.take().expect("the library restores what was put together here");
            assert_eq!(head.last.index, end, "the last snapshot that was put together is the one restored");
            self.raw.mut_store().install(head.clone());
            self.names = head.membership.names();
            self.memberships = vec![head.membership.clone()];
            self.applied = end;
            ready.records.push(Record::Install(head));
            ready.image = Some(image);
        }
        let entries = library.take_entries();
        if !entries.is_empty() {
            let ours = entries.iter().map(convert::from_library).collect();
            ready.records.extend(runs(ours, self.options.limits.max_record_bytes).map(Record::Append));
            self.raw.mut_store().append(entries);
        }
        let vote = self.vote();
        let must_remember = (vote.term, vote.voted_for) != (self.written.term, self.written.voted_for);
        // How far the log is committed is written along, since any leader will tell it again.
        if must_remember || (!ready.records.is_empty() && vote != self.written) {
            ready.records.push(Record::Vote(vote));
            self.written = vote;
        }
        let mut messages = library.take_messages();
        messages.extend(library.take_persisted_messages());
        let committed = library.take_committed_entries();
        ready.reads = library.take_read_states().into_iter().filter_map(read_answer).collect();
        self.raw.advance_append_async(library);

        self.hold(ready, messages, leads, snapshot);
        self.apply(ready, &committed);
        self.leave_if_due();
        self.settle();
    }

    /// What it must remember beside its log.
    pub fn vote(&self) -> Vote {
        let raft = &self.raw.raft;
        let voted_for = Some(MemberKey(raft.vote)).filter(|key| key.0 != 0);
        Vote { term: raft.term, voted_for, committed: raft.raft_log.committed }
    }

    /// Parts what may be said at once from what the disk must hold first. A leader's word needs its term to be durable:
    /// the entries that it sends are not counted as its own before they are (Ongaro's thesis, 10.2.1). Anybody's sign of
    /// life promises no more than that either. All else may rest on records that are under way.
    fn hold(&mut self, ready: &mut Ready, messages: Vec<eraftpb::Message>, leads: bool, snapshot: Option<u64>) {
        let term = self.term();
        let is_term_durable = self.durable_term >= term;
        let is_all_durable = self.in_flight.is_empty() && ready.records.is_empty();
        let mut held = Vec::new();
        for message in messages {
            let alive = message.get_msg_type() == MessageType::MsgHeartbeatResponse;
            let Some(send) = self.outgoing(message) else { continue };
            if is_all_durable || (is_term_durable && (leads || alive)) {
                ready.sends.push(send);
            } else {
                held.push(send);
            }
        }
        if is_all_durable {
            self.raw.on_persist_ready(ready.number);
        } else {
            let has_records = !ready.records.is_empty();
            let changes_from = ready.records.iter().find_map(|record| match record {
                Record::Append(entries) => entries.first().map(|entry| entry.id.index),
                Record::Install(_) => Some(u64::MAX),
                Record::Vote(_) | Record::Compact(_) => None,
            });
            let number = ready.number;
            self.in_flight.push_back(InFlight { number, has_records, changes_from, term, snapshot, held });
        }
    }

    /// What the library says to one of its members, in our words. A snapshot goes piece by piece.
    fn outgoing(&mut self, message: eraftpb::Message) -> Option<(NodeId, Message)> {
        let key = MemberKey(message.to);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            self.begin_transfer(key);
            return None;
        }
        let body = convert::body(&message)?;
        self.addressed(key, message.term, body)
    }

    /// `body` on its way to the member of this key, if there is one.
    pub(super) fn addressed(&self, key: MemberKey, term: u64, body: Body) -> Option<(NodeId, Message)> {
        let to = *self.names.get(&key).or_else(|| self.strangers.get(&key))?;
        let (cluster, from, since) = (self.options.cluster, self.options.me, self.membership().since);
        Some((to.node, Message { cluster, from, to, since, term, body }))
    }

    fn apply(&mut self, ready: &mut Ready, committed: &[eraftpb::Entry]) {
        for entry in committed {
            if is_change(entry) {
                self.apply_change(entry);
            }
            self.applied = entry.index;
            ready.committed.push(convert::from_library(entry));
        }
        if !committed.is_empty() {
            self.raw.advance_apply_to(self.applied);
        }
    }

    fn apply_change(&mut self, entry: &eraftpb::Entry) {
        let Content::Membership(change) = convert::from_library(entry).content else {
            unreachable!("the type of the entry says so")
        };
        // Where it does not apply, it applies nowhere.
        let Some(next) = self.membership().after(entry.index, &change) else { return };
        let instructions = convert::conf_change(self.membership(), &change);
        self.raw.apply_conf_change(&instructions).expect("a membership that is one follows from one that is");
        self.names = next.names();
        self.memberships.push(next);
        let Quorum { names, transfers, heard, .. } = self;
        transfers.retain(|key, _| names.contains_key(key));
        heard.retain(|key, _| names.contains_key(key));
        if change == Change::Leave && !self.membership().is_voter(self.options.me) {
            self.step_down();
        }
    }

    /// Leaves office after having been voted out, and asks the voter who has most of the log to follow.
    fn step_down(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let voters = self.memberships.last().expect("there always is one").voters.iter().map(|voter| voter.key().0);
        let successor = voters.filter_map(|key| raft.prs().get(key).map(|progress| (progress.matched, key))).max();
        if let Some((_, key)) = successor {
            raft.send_timeout_now(key);
        }
        let term = raft.term;
        raft.become_follower(term, raft::INVALID_ID);
    }
}

fn read_answer(state: raft::ReadState) -> Option<(ReadId, u64)> {
    let read = state.request_ctx.first_chunk().map(|bytes| ReadId(u64::from_be_bytes(*bytes)))?;
    Some((read, state.index))
}

/// `entries` in runs of about so many bytes.
pub(super) fn runs(entries: Vec<Entry>, max_bytes: usize) -> impl Iterator<Item = Vec<Entry>> {
    let mut entries = entries.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut run = vec![entries.next()?];
        let mut bytes = payload_bytes(&run[0]);
        while let Some(next) = entries.next_if(|next| bytes + payload_bytes(next) <= max_bytes) {
            bytes += payload_bytes(&next);
            run.push(next);
        }
        Some(run)
    })
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.content {
        Content::Payload(payload) => payload.len() + Entry::MIN_BYTES,
        Content::Blank | Content::Membership(_) => Entry::MIN_BYTES,
    }
}
