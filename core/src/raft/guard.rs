//! The door: what peers say is input, and nothing that they say may stop this node.
//!
//! The library panics (`fatal!`) where it meets what cannot be. This table lists all 36 sites of version 0.7.0, and some
//! plain assertions; *door* is a check below, *decoder* one of [`Message::decode`](super::Message::decode).
//!
//! | site | what it meets | why that does not happen |
//! |---|---|---|
//! | read_only:118 | a read in the queue, but not in the map | both change together; contexts are numbers of our own, each used once |
//! | raft:377 | memberships differ at the start | [`Membership`](super::Membership) is checked when it is read or made |
//! | raft:640, 648 | a message with or without term | only the library's own calls lead there; requests are not forwarded |
//! | raft:698 | no snapshot for another reason | our storage knows only the one that is let through |
//! | raft:702 | a snapshot of position 0 | our storage gives only one that its reader is a member of, so that it has members |
//! | raft:1543 | unapplied entries are gone | `may_stand` and the door on `TakeOver`: a snapshot is durable and applied before an election begins; `compact` stays behind what is applied |
//! | raft:2024 | a proposal of no entry | we propose one at a time, and take no proposal from peers |
//! | raft:2203 | committed entries are gone | they come after what is applied, and `compact` takes nothing from there |
//! | raft:2497 | no term below the log's end | our storage has the term of each entry and of the one before the first |
//! | raft:2632, 2643 | a snapshot's membership is none | decoder |
//! | raft:2786 | committed past the log's end | [`Restored`](super::Restored) is checked |
//! | log_unstable:100, 113, 126, 135 | what is handed out is not what was noted | records are handed to `advance_append_async` as they came |
//! | log_unstable:197, 201 | entries beyond the log | decoder: no `previous` of term 0, which the library takes for a match anywhere; entries are numbered by us |
//! | lib:501 | (the macro itself) | |
//! | raft_log:101 | no term at the log's end | as raft:2497 |
//! | raft_log:135 | another error for a term | our storage knows only the two that are let through |
//! | raft_log:260, 370 | a conflict with what is committed | the library answers a `previous` below that by itself, and entries follow `previous` by our numbering |
//! | raft_log:292 | committed past the log's end | by a heartbeat: door; by entries: decoder, no entry of term 0, which the library takes for present |
//! | raft_log:314 | applied past what is durable | we apply what was handed out as committed and durable, a snapshot once it is durable |
//! | raft_log:406 | `all_entries` fails | never called |
//! | raft_log:434, 476, 485, 599, 605 | a slice out of the log | bounds come from the log itself; positions from answers: door |
//! | raft_log:549, 558 | a durable snapshot beyond the log | positions are those of Readys, in order |
//! | raft_log:653 | no term where committed | as raft:2497 |
//! | raw_node:674 | `advance_append` | never called |
//! | `become_leader`, `RawNode::ready`: assertions | elected with a log not yet durable | door: a vote that was not asked for yet; `may_stand` |
//! | `maybe_commit`, `on_persist_entries`: `unwrap` | a leader that is no member | it steps down when it applies that |
//! | `tracker::inflights`, `update_state` | a full window, or entries while a snapshot is sent | the library asks `is_paused` first; batching of appends is off |
//! | `term + 1`, `index + 1` | an overflow | decoder: [`MAX_TERM`](super::MAX_TERM), [`MAX_INDEX`](super::MAX_INDEX); `may_stand` |
//!
//! A voter that lies within these bounds can still say that it holds what it does not: raft trusts its voters, and so
//! does this. The door is there for the confused, the wiped, the removed and the misdirected.

use std::fmt;

use raft::StateRole;

use super::convert;
use super::membership::Member;
use super::message::{Body, Message};
use super::quorum::Quorum;
use super::record::LogId;
use crate::ids::{NodeId, Uuid};

/// How many senders that are not known as members may await an answer.
const MAX_STRANGERS: usize = 32;

/// Why a message is not taken in. Nothing has happened, as if it had been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It belongs to another cluster.
    OtherCluster {
        /// To which.
        cluster: Uuid,
    },
    /// It is for another node, or for this one with another data folder: one that was wiped since, or moved.
    NotForMe {
        /// For whom.
        to: Member,
    },
    /// It names another sender than the connection that it came by, or this node itself.
    Impostor {
        /// Whom it names.
        from: Member,
    },
    /// Its sender is no member: it was removed, or its data folder is not the one that was admitted. It must be added.
    NotMember {
        /// The sender.
        from: Member,
        /// Whether the node is a member with another data folder.
        is_known_otherwise: bool,
    },
    /// Two claim to lead one term.
    SecondLeader {
        /// The later one.
        from: Member,
        /// The term.
        term: u64,
    },
    /// It speaks of entries past the end of this log as if this node had them.
    BeyondLog {
        /// The position.
        index: u64,
        /// The end of the log.
        end: u64,
    },
    /// It grants a vote that was not asked for yet.
    Unasked,
    /// It confirms more of a snapshot than there is.
    NothingSent,
    /// The snapshot is larger than may be.
    SnapshotTooLarge {
        /// The length of its image.
        bytes: u64,
    },
    /// It has another entry where this node knows one to be committed.
    OtherHistory {
        /// The position.
        index: u64,
    },
    /// Too much waits for the disk already.
    Overloaded,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::OtherCluster { cluster } => write!(f, "the sender belongs to cluster {cluster}"),
            Refused::NotForMe { to } => write!(f, "the message is for {to}"),
            Refused::Impostor { from } => write!(f, "the message does not come from {from}, as it says"),
            Refused::NotMember { from, is_known_otherwise: true } => {
                write!(
                    f,
                    "node {} has lost its data folder: {from} is no member; remove the node, then add it",
                    from.node
                )
            }
            Refused::NotMember { from, .. } => write!(f, "{from} is no member of the quorum"),
            Refused::SecondLeader { from, term } => write!(f, "{from} claims to lead term {term}, which another leads"),
            Refused::BeyondLog { index, end } => write!(f, "entry {index} is spoken of, but the log ends at {end}"),
            Refused::Unasked => f.write_str("a vote is granted that was not asked for"),
            Refused::NothingSent => f.write_str("more of a snapshot is confirmed than there is"),
            Refused::SnapshotTooLarge { bytes } => write!(f, "a snapshot of {bytes} bytes is too large"),
            Refused::OtherHistory { index } => write!(f, "entry {index} is committed, and not the one spoken of"),
            Refused::Overloaded => f.write_str("too much waits for the disk"),
        }
    }
}

impl std::error::Error for Refused {}

impl Quorum {
    /// Takes in what a peer said; `from` is the node that the connection is known to belong to.
    ///
    /// # Errors
    /// Where it cannot be for this node as it stands. What merely comes too late is no error.
    pub fn step(&mut self, from: NodeId, message: Message) -> Result<(), Refused> {
        self.check_address(from, &message)?;
        self.check_sender(&message)?;
        self.check_content(&message)?;
        let Message { from, term, .. } = message;
        let is_answer = message.body.is_answer();
        if let Body::Voted { granted: false, committed, .. } = message.body {
            self.learn_of_commit(term, committed);
        }
        match message.body {
            Body::Piece { .. } => self.on_piece(message)?,
            Body::Received { index, length } if self.term() == term => self.on_received(from, index, length)?,
            Body::Received { .. } => {}
            // An order to take over that comes late, or before this node can, would only disturb.
            Body::TakeOver if !(self.follows(from, term) && self.may_stand()) => {}
            body => {
                let message = convert::message(from, term, body).expect("pieces are told apart above");
                // An answer from one who was a member when it was asked comes too late.
                let _ = self.raw.step(message);
            }
        }
        if is_answer && self.raw.raft.state == StateRole::Leader && self.raw.raft.term == term {
            self.hear(from);
        }
        self.settle();
        Ok(())
    }

    /// Whoever refuses a vote says what it knows to be committed. The library hears that from its own term on; but a
    /// pre-vote is refused in the term of who refuses, which may be an earlier one. What is committed stays so, and it
    /// may be all that this node lacks: a leader that was voted out, and knows alone that it was, keeps its vote from
    /// everybody who has less of its log, and can lead no more itself.
    fn learn_of_commit(&mut self, term: u64, committed: LogId) {
        let raft = &mut self.raw.raft;
        let is_overheard = term < raft.term && raft.state != StateRole::Leader && committed.term > 0;
        let is_news = is_overheard && raft.raft_log.maybe_commit(committed.index, committed.term);
        if is_news && raft.state != StateRole::Follower {
            // The membership may change by it, and with it who is asked for a vote.
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
        }
    }

    fn check_address(&self, from: NodeId, message: &Message) -> Result<(), Refused> {
        if message.cluster != self.options.cluster {
            return Err(Refused::OtherCluster { cluster: message.cluster });
        }
        if message.to != self.options.me {
            return Err(Refused::NotForMe { to: message.to });
        }
        if message.from.node != from || message.from.key() == self.options.me.key() {
            return Err(Refused::Impostor { from: message.from });
        }
        Ok(())
    }

    /// Answers count only from members. But a leader or a candidate whom this node does not know may act under a
    /// membership that this node has yet to hear of, and must be heard, or one that slept through a change would never
    /// come back (Ongaro's thesis, 4.1). Whoever acts under the same membership or an older one is no member.
    fn check_sender(&mut self, message: &Message) -> Result<(), Refused> {
        let from = message.from;
        let membership = self.membership();
        if membership.contains(from) {
            return Ok(());
        }
        let is_heard = !message.body.is_answer() && message.since > membership.since;
        if !is_heard && !self.follows(from, message.term) {
            let is_known_otherwise = membership.members().iter().any(|member| member.node == from.node);
            return Err(Refused::NotMember { from, is_known_otherwise });
        }
        if self.strangers.len() >= MAX_STRANGERS {
            self.strangers.pop_first();
        }
        self.strangers.insert(from.key(), from);
        Ok(())
    }

    fn follows(&self, member: Member, term: u64) -> bool {
        self.raw.raft.term == term && self.raw.raft.leader_id == member.key().0
    }

    fn check_content(&self, message: &Message) -> Result<(), Refused> {
        let raft = &self.raw.raft;
        let (is_this_term, end) = (message.term == raft.term, raft.raft_log.last_index());
        if message.body.is_leaders() && is_this_term {
            let somebody_else = raft.leader_id != raft::INVALID_ID && raft.leader_id != message.from.key().0;
            if somebody_else {
                return Err(Refused::SecondLeader { from: message.from, term: message.term });
            }
        }
        match &message.body {
            Body::Append { .. } if self.in_flight.len() >= self.options.limits.max_unconfirmed => {
                Err(Refused::Overloaded)
            }
            Body::Heartbeat { committed, .. } if message.term >= raft.term && *committed > end => {
                Err(Refused::BeyondLog { index: *committed, end })
            }
            Body::Appended { index, .. } | Body::Diverged { index, .. }
                if is_this_term && raft.state == StateRole::Leader && *index > end =>
            {
                Err(Refused::BeyondLog { index: *index, end })
            }
            Body::Voted { pre: false, granted: true, .. } if is_this_term && raft.state == StateRole::Candidate => {
                let is_asked_for = self.durable_term >= raft.term && self.is_log_durable();
                if is_asked_for { Ok(()) } else { Err(Refused::Unasked) }
            }
            Body::Voted { pre: true, granted: true, .. } if message.term > raft.term + 1 => Err(Refused::Unasked),
            _ => Ok(()),
        }
    }
}

impl Body {
    /// Whether it answers what its addressee said.
    fn is_answer(&self) -> bool {
        matches!(
            self,
            Body::Appended { .. }
                | Body::Diverged { .. }
                | Body::Voted { .. }
                | Body::Alive { .. }
                | Body::Received { .. }
        )
    }

    /// Whether only the leader of its term says it.
    fn is_leaders(&self) -> bool {
        matches!(self, Body::Append { .. } | Body::Heartbeat { .. } | Body::TakeOver | Body::Piece { .. })
    }
}
