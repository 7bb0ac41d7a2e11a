//! The library's types and ours. Nothing outside of this module's siblings sees the library's.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::eraftpb::{
    self, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, EntryType, MessageType,
    Snapshot,
};

use super::codec::Reader;
use super::membership::{Change, Member, Membership};
use super::message::Body;
use super::record::{Content, Entry, LogId, SnapshotHead};

/// By which the library knows that a leader wants the election.
const FORCED: &[u8] = b"CampaignTransfer";

/// An entry as the library keeps it. A change of membership stands in its context, in our encoding: the library itself
/// looks at no more than the type once the entry is in the log.
pub(super) fn to_library(entry: Entry) -> eraftpb::Entry {
    let LogId { index, term } = entry.id;
    let mut out = eraftpb::Entry { index, term, ..Default::default() };
    match entry.content {
        Content::Blank => {}
        Content::Payload(payload) => out.data = payload,
        Content::Membership(change) => {
            out.set_entry_type(EntryType::EntryConfChangeV2);
            out.context = context(&change);
        }
    }
    out
}

pub(super) fn context(change: &Change) -> Bytes {
    let mut bytes = Vec::new();
    change.encode(&mut bytes);
    bytes.into()
}

pub(super) fn from_library(entry: &eraftpb::Entry) -> Entry {
    let id = LogId { index: entry.index, term: entry.term };
    let content = if entry.get_entry_type() != EntryType::EntryNormal {
        let change = Change::read(&mut Reader::new(entry.context.clone()));
        Content::Membership(change.expect("what is in the log was encoded by us or decoded before"))
    } else if entry.data.is_empty() {
        Content::Blank
    } else {
        Content::Payload(entry.data.clone())
    };
    Entry { id, content }
}

/// What the library is to do for `change` of `membership`, to which it applies.
pub(super) fn conf_change(membership: &Membership, change: &Change) -> ConfChangeV2 {
    let mut out = ConfChangeV2::default();
    let Change::Enter { voters, learners } = change else { return out };
    // The owner of this value proposes the leaving, in whichever leadership it becomes due.
    out.set_transition(ConfChangeTransition::Explicit);
    let gone = membership.members().into_iter().filter(|member| !voters.contains(member) && !learners.contains(member));
    let changes: Vec<ConfChangeSingle> = (voters.difference(&membership.voters).map(|m| (*m, ConfChangeType::AddNode)))
        .chain(learners.difference(&membership.learners).map(|m| (*m, ConfChangeType::AddLearnerNode)))
        .chain(gone.map(|m| (m, ConfChangeType::RemoveNode)))
        .map(|(member, kind)| {
            let mut single = ConfChangeSingle { node_id: member.key().0, ..Default::default() };
            single.set_change_type(kind);
            single
        })
        .collect();
    out.set_changes(changes.into());
    out
}

pub(super) fn conf_state(membership: &Membership) -> ConfState {
    let keys = |members: &BTreeSet<Member>| members.iter().map(|member| member.key().0).collect::<Vec<u64>>();
    // A voter that becomes a learner stays a voter until the joint membership is left.
    let (next, learners): (BTreeSet<Member>, BTreeSet<Member>) =
        membership.learners.iter().partition(|member| membership.outgoing.contains(member));
    let mut out = ConfState::default();
    out.set_voters(keys(&membership.voters));
    out.set_learners(keys(&learners));
    out.set_voters_outgoing(keys(&membership.outgoing));
    out.set_learners_next(keys(&next));
    out
}

pub(super) fn snapshot(head: &SnapshotHead) -> Snapshot {
    let mut out = Snapshot::default();
    out.mut_metadata().index = head.last.index;
    out.mut_metadata().term = head.last.term;
    out.mut_metadata().set_conf_state(conf_state(&head.membership));
    out
}

/// What the library wants to say, but for snapshots, which go piece by piece, and requests, which we never forward.
pub(super) fn body(message: &eraftpb::Message) -> Option<Body> {
    let position = |index, term| LogId { index, term };
    let read = || message.context.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let pre = matches!(message.get_msg_type(), MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse);
    Some(match message.get_msg_type() {
        MessageType::MsgAppend => Body::Append {
            previous: position(message.index, message.log_term),
            committed: message.commit,
            entries: message.entries.iter().map(from_library).collect(),
        },
        MessageType::MsgAppendResponse if message.reject => Body::Diverged {
            index: message.index,
            committed: message.commit,
            hint: position(message.reject_hint, message.log_term),
        },
        MessageType::MsgAppendResponse => Body::Appended { index: message.index, committed: message.commit },
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Body::Stand {
            pre,
            forced: message.context == FORCED,
            last: position(message.index, message.log_term),
            committed: position(message.commit, message.commit_term),
        },
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            Body::Voted { pre, granted: !message.reject, committed: position(message.commit, message.commit_term) }
        }
        MessageType::MsgHeartbeat => Body::Heartbeat { committed: message.commit, read: read() },
        MessageType::MsgHeartbeatResponse => Body::Alive { committed: message.commit, read: read() },
        MessageType::MsgTimeoutNow => Body::TakeOver,
        _ => return None,
    })
}

/// A peer's word in the library's terms; `None` for pieces of snapshots, which it does not know.
pub(super) fn message(from: Member, term: u64, body: Body) -> Option<eraftpb::Message> {
    let mut out = eraftpb::Message { from: from.key().0, term, ..Default::default() };
    let kind = match body {
        Body::Append { previous, committed, entries } => {
            out.index = previous.index;
            out.log_term = previous.term;
            out.commit = committed;
            out.set_entries(entries.into_iter().map(to_library).collect::<Vec<_>>().into());
            MessageType::MsgAppend
        }
        Body::Appended { index, committed } => {
            out.index = index;
            out.commit = committed;
            MessageType::MsgAppendResponse
        }
        Body::Diverged { index, committed, hint } => {
            out.reject = true;
            out.index = index;
            out.commit = committed;
            out.reject_hint = hint.index;
            out.log_term = hint.term;
            MessageType::MsgAppendResponse
        }
        Body::Stand { pre, forced, last, committed } => {
            out.index = last.index;
            out.log_term = last.term;
            out.commit = committed.index;
            out.commit_term = committed.term;
            if forced {
                out.context = Bytes::from_static(FORCED);
            }
            if pre { MessageType::MsgRequestPreVote } else { MessageType::MsgRequestVote }
        }
        Body::Voted { pre, granted, committed } => {
            out.reject = !granted;
            out.commit = committed.index;
            out.commit_term = committed.term;
            if pre { MessageType::MsgRequestPreVoteResponse } else { MessageType::MsgRequestVoteResponse }
        }
        Body::Heartbeat { committed, read } => {
            out.commit = committed;
            out.context = read.map(read_context).unwrap_or_default();
            MessageType::MsgHeartbeat
        }
        Body::Alive { committed, read } => {
            out.commit = committed;
            out.context = read.map(read_context).unwrap_or_default();
            MessageType::MsgHeartbeatResponse
        }
        Body::TakeOver => MessageType::MsgTimeoutNow,
        Body::Piece { .. } | Body::Received { .. } => return None,
    };
    out.set_msg_type(kind);
    Some(out)
}

pub(super) fn read_context(read: u64) -> Bytes {
    Bytes::copy_from_slice(&read.to_be_bytes())
}
