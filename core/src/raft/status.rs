//! What a member knows of the quorum, as DescribeQuorum tells it (KIP-595, KIP-836).

use raft::StateRole;

use super::membership::Member;
use super::quorum::{Quorum, Role};

/// What the leader has heard of a member, in ticks of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// When it last answered.
    answered: u64,
    /// The last time at which it was known to have all that the leader had.
    caught_up: Option<u64>,
    /// The end of the leader's log when it last answered.
    end_then: u64,
}

/// What a member knows of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What this node is itself, and whom it follows.
    pub role: Role,
    /// The term; the quorum's leader epoch.
    pub term: u64,
    /// How far the log is known to be committed; the quorum's high watermark.
    pub committed: u64,
    /// Everybody as the leader sees them, or as anybody else does, itself alone.
    pub members: Vec<PeerStatus>,
    /// The present tick, which those of the members are to be held against.
    pub ticks: u64,
}

/// What is known of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub member: Member,
    /// Whether it counts for majorities.
    pub is_voter: bool,
    /// The last entry that it is known to have on disk, 0 if none.
    pub last_index: u64,
    /// When it last answered the leader. For this node itself, now.
    pub last_fetch_tick: Option<u64>,
    /// The last time at which it was known to have all that the leader had. For a leader itself, now.
    pub last_caught_up_tick: Option<u64>,
}

impl Quorum {
    /// What this node knows of the quorum.
    pub fn status(&self) -> Status {
        let membership = self.membership();
        let leads = self.raw.raft.state == StateRole::Leader;
        let members = membership.members().into_iter().filter(|member| leads || *member == self.options.me);
        let members = members.map(|member| {
            let is_voter = membership.is_voter(member);
            if member == self.options.me {
                let last_index = self.raw.raft.raft_log.persisted;
                let now = Some(self.ticks);
                let caught_up = now.filter(|_| leads);
                PeerStatus { member, is_voter, last_index, last_fetch_tick: now, last_caught_up_tick: caught_up }
            } else {
                let key = member.key();
                let heard = self.heard.get(&key);
                PeerStatus {
                    member,
                    is_voter,
                    last_index: self.raw.raft.prs().get(key.0).map_or(0, |progress| progress.matched),
                    last_fetch_tick: heard.map(|heard| heard.answered),
                    last_caught_up_tick: heard.and_then(|heard| heard.caught_up),
                }
            }
        });
        let members = members.collect();
        Status { role: self.role(), term: self.term(), committed: self.committed(), members, ticks: self.ticks }
    }

    /// `member` has answered the leader. It was caught up then if it has the leader's end, and if it has at least the
    /// end of the time before, it was caught up at that time (KIP-836).
    pub(super) fn hear(&mut self, member: Member) {
        let Some(matched) = self.raw.raft.prs().get(member.key().0).map(|progress| progress.matched) else { return };
        let (now, end) = (self.ticks, self.last().index);
        let heard = self.heard.entry(member.key()).or_default();
        if matched >= end {
            heard.caught_up = Some(now);
        } else if heard.end_then > 0 && matched >= heard.end_then {
            heard.caught_up = heard.caught_up.max(Some(heard.answered));
        }
        heard.answered = now;
        heard.end_then = end;
    }
}
