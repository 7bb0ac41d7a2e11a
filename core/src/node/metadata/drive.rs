//! Driving the quorum: what follows from what it was told goes to the journal and to peers.

use super::super::{Node, Reason, Woken};
use crate::boundary::{Effect, Level, Outbox};
use crate::controller::records::Registration;
use crate::ids::{NodeId, TopicPartition};
use crate::journal::{Class, RecordKind};
use crate::peer;
use crate::raft::{Record, Role, SnapshotHead};
use crate::time::Now;

/// The log is long when it takes so much memory, in bytes: then a checkpoint takes its place.
const LOG_BYTES_MAX: usize = 4 << 20;

/// Entries that stay after a snapshot took their place, for members who are only a little behind, as long as the log takes
/// no more than so many bytes.
const KEPT: u64 = 1000;
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What the record of a compaction takes of the journal, in bytes, beside the members that it names.
const COMPACT_BYTES: u64 = 64;
const MEMBER_BYTES: u64 = 40;

impl Node {
    /// The journal has the records of the quorum's portion `number`.
    pub(in crate::node) fn quorum_persisted(&mut self, number: u64) {
        self.metadata.quorum.persisted(number);
        self.metadata.durable = number;
        self.metadata.is_due = true;
    }

    /// Goes on with what is known to be committed, without waiting for anything to happen.
    pub(in crate::node) fn take_up_quorum(&mut self) {
        self.metadata.is_due = true;
    }

    /// Leads a quorum in which there is nobody else.
    pub(in crate::node) fn lead_alone(&mut self) {
        self.metadata.quorum.campaign();
        self.metadata.is_due = true;
    }

    /// Whether what is registered under this broker epoch is this process of this node.
    pub(in crate::node) fn is_this_process(&self, node: NodeId, broker_epoch: i64) -> bool {
        // Alone, a start has applied all that the log says of processes before it.
        let is_mine = |known: &Registration| {
            !self.metadata.is_clustered()
                || (known.broker_epoch == broker_epoch && known.process == self.metadata.process)
        };
        node == self.metadata.quorum.me().node && self.controller.image().broker(node).is_some_and(is_mine)
    }

    /// Hands over what follows from what the quorum was told. To be called after each call that tells it something.
    pub(super) fn hand_over(&mut self, out: &mut Outbox) {
        while let Some(mut ready) = self.metadata.quorum.take_ready() {
            if !ready.records.is_empty() {
                if let (Some(image), Some(Record::Install(head))) = (ready.image.take(), ready.records.first()) {
                    self.journal_image(ready.number, head, image);
                }
                for record in &ready.records {
                    self.journal_quorum(record);
                }
                // Records of one portion may lie in several commits; the last one ends here.
                self.woken.push_back((self.journal.end(), Woken::Quorum(ready.number)));
            }
            for (to, message) in ready.sends.drain(..) {
                let mut bytes = Vec::with_capacity(128);
                message.encode(&mut bytes);
                out.push(Effect::Say { to, message: Box::new(peer::Message::Metadata(bytes.into())) });
            }
            self.metadata.committed.extend(ready.committed.drain(..));
            self.metadata.snapshot_reads.append(&mut ready.snapshot_reads);
            self.metadata.snapshot_wanted = ready.snapshot_wanted.or(self.metadata.snapshot_wanted);
            if let Some(role) = ready.role {
                self.quorum_role(role, out);
            }
            self.metadata.is_due = true;
        }
    }

    /// Appends a record of the quorum to the journal.
    pub(in crate::node) fn journal_quorum(&mut self, record: &Record) {
        let mut payload = Vec::with_capacity(64);
        record.encode(&mut payload);
        self.journal_metadata(RecordKind::Quorum, &payload);
    }

    pub(in crate::node) fn journal_metadata(&mut self, kind: RecordKind, payload: &[u8]) {
        let newest = self.metadata.newest;
        self.metadata.newest = Some(self.journal.append(kind, TopicPartition::NODE, newest, &[payload]));
    }

    fn quorum_role(&mut self, role: Role, out: &mut Outbox) {
        let term = self.metadata.quorum.term();
        match role {
            Role::Leader => out.log(Level::Info, format!("this node leads the metadata log in term {term}")),
            Role::Follower { leader: Some(leader) } => {
                out.log(Level::Info, format!("node {leader} leads the metadata log in term {term}"));
            }
            Role::Follower { leader: None } | Role::Candidate => {
                out.log(Level::Info, format!("nobody is known to lead the metadata log in term {term}"));
            }
        }
        if role != Role::Leader {
            if self.metadata.leading.is_some() {
                out.log(Level::Info, format!("this node is the controller no more: term={term}"));
            }
            self.leave_office();
        }
    }

    /// Ends a step: applies what has committed, as much as one step has time for.
    pub(in crate::node) fn advance_metadata(&mut self, now: Now, out: &mut Outbox) {
        self.metadata.is_due = false;
        self.hand_over(out);
        let mut has_more = self.take_over(now, out) | self.go_on_with_office(out) | self.learn_on();
        has_more |= self.decide_on(now, out) | self.settle_on(out) | self.tend_on(now, out);
        let me = self.metadata.quorum.me().node;
        while let Some(message) = self.metadata.said_here.pop_front() {
            self.hear_here(now, me, message, out);
        }
        let is_out_of_time = self.apply_some(now, out);
        if self.metadata.is_clustered() {
            has_more |= self.tend_peers(now, out);
        }
        has_more |= self.metadata.waiting.has_untended();
        has_more |= self.metadata.office.is_some() || self.metadata.unlearnt.is_some();
        // What waits for room is looked at again in every step until there is some.
        let waits = !self.metadata.takeover.is_over() || !self.metadata.gradual.is_empty();
        self.metadata.is_due |= has_more || waits || !self.metadata.committed.is_empty();
        if has_more || (is_out_of_time && self.metadata.is_due) || !self.metadata.said_here.is_empty() {
            self.deadlines.insert((now.instant, Reason::Metadata));
        }
    }

    /// What concerns others, once what there is is applied. Whether there is more to do at once.
    fn tend_peers(&mut self, now: Now, out: &mut Outbox) -> bool {
        self.answer_settled(now, out);
        if let Some(index) = self.metadata.snapshot_wanted.take() {
            self.want_snapshot(index, out);
        }
        let has_more = self.supply_snapshots(out);
        let leader = self.quorum_leader();
        if self.metadata.led_by != leader {
            self.metadata.led_by = leader;
            self.counters.controller_changes += u64::from(leader.is_some());
            self.follow_controller(leader);
            self.controller.follow(leader.map(|(node, _)| node));
            self.live_soon(now);
            self.tend_asked();
        }
        self.tell_neighbours(now, out);
        self.plan_tick(now);
        has_more
    }

    /// What is to be applied waits: a checkpoint makes room, where there is space for one.
    pub(super) fn wait_for_room_to_apply(&mut self, out: &mut Outbox) {
        if self.no_space.is_none() && !self.checkpoints.is_running() {
            out.log(Level::Debug, "an entry of the metadata log waits for room in the journal");
        }
        self.make_room();
    }

    /// The log up to where a checkpoint of the image as it is now may stand for it.
    pub(in crate::node) fn snapshot_head(&self) -> SnapshotHead {
        let quorum = &self.metadata.quorum;
        let index = self.controller.image().index().min(quorum.applied());
        quorum.snapshot_head(index).expect("what is applied comes after the snapshot, and is in the log")
    }

    /// What a checkpoint holds of the quorum beside the image, encoded.
    pub(in crate::node) fn quorum_state(&self, head: &SnapshotHead) -> Vec<Vec<u8>> {
        let encoded = |record: Record| {
            let mut payload = Vec::new();
            record.encode(&mut payload);
            payload
        };
        self.metadata.quorum.checkpoint_behind(head).into_iter().map(encoded).collect()
    }

    /// Whether the log takes more memory than it should, and a checkpoint would make it shorter.
    pub(in crate::node) fn is_metadata_log_long(&self) -> bool {
        let quorum = &self.metadata.quorum;
        self.metadata_log_bytes() > LOG_BYTES_MAX && quorum.applied() > quorum.head().last.index
    }

    /// What the log takes in memory, in bytes.
    pub(in crate::node) fn metadata_log_bytes(&self) -> usize {
        self.metadata.quorum.log_bytes()
    }

    /// A checkpoint that stands for the log up to `head` is durable: the log begins behind it.
    pub(in crate::node) fn compact_metadata_log(&mut self, head: SnapshotHead) {
        let has_followers = !self.metadata.is_alone();
        let keep = if has_followers && self.metadata.quorum.log_bytes() <= KEPT_BYTES_MAX { KEPT } else { 0 };
        self.compact_metadata_log_but(keep, head);
    }

    /// The same, but for so many entries.
    pub(in crate::node) fn compact_metadata_log_but(&mut self, keep: u64, head: SnapshotHead) {
        // Without room the next checkpoint does it.
        let members = self.metadata.quorum.membership().members().len() as u64;
        if !self.journal.has_room(COMPACT_BYTES + MEMBER_BYTES * members, Class::Critical) {
            return;
        }
        if let Some(record) = self.metadata.quorum.compact(head, keep) {
            self.journal_quorum(&record);
        }
    }
}
