//! How often rare things of groups and clusters happened in a run, by name: what never happens in a hunt was not tested.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::wire::ErrorCode;

use super::{Change, ClientId, History, InGroup, Stands, Tag, What};

/// What [`counted`] may count.
pub const COUNTED: [&str; 22] = [
    "group_commit_alone",
    "group_commit_declined",
    "group_commit_stale_declined",
    "group_commit_taken",
    "group_crash_in_commit",
    "group_crash_in_rebalance",
    "group_deleted",
    "group_described",
    "group_expired",
    "group_fenced",
    "group_gave_up_partitions",
    "group_joined",
    "group_joined_next",
    "group_loading",
    "group_moved_between_protocols",
    "group_offsets_deleted",
    "group_offsets_told",
    "group_settled",
    "group_static_back",
    "member_forgotten",
    "member_gets_vote",
    "member_loses_vote",
];

/// What is known of one group on the way.
#[derive(Default)]
struct Seen {
    /// Who asks to be let in, or has joined and was not told what it has.
    joining: BTreeSet<ClientId>,
    committing: BTreeSet<Tag>,
    has_commits: bool,
    is_next: Option<bool>,
    instances: BTreeSet<u32>,
}

/// Counts.
pub fn counted(history: &History) -> BTreeMap<&'static str, u64> {
    let mut counters = BTreeMap::new();
    let mut count = |name: &'static str| *counters.entry(name).or_default() += 1;
    let mut groups: BTreeMap<u32, Seen> = BTreeMap::new();
    for event in &history.events {
        let (group, what) = match &event.what {
            What::Group { group, what } => (*group, what),
            What::MembersChanged { change, .. } => {
                count(match change {
                    Change::Vote => "member_gets_vote",
                    Change::NoVote => "member_loses_vote",
                    Change::Forget => "member_forgotten",
                });
                continue;
            }
            What::Ended { .. } => {
                for seen in groups.values_mut() {
                    if !seen.joining.is_empty() {
                        count("group_crash_in_rebalance");
                    }
                    if !std::mem::take(&mut seen.committing).is_empty() {
                        count("group_crash_in_commit");
                    }
                }
                continue;
            }
            _ => continue,
        };
        let seen = groups.entry(group).or_default();
        match what {
            InGroup::Joins { instance } => {
                seen.joining.insert(event.client);
                if instance.is_some_and(|instance| !seen.instances.insert(instance)) {
                    count("group_static_back");
                }
            }
            InGroup::Joined { .. } => count("group_joined"),
            InGroup::Assigned { is_next, is_first, .. } => {
                seen.joining.remove(&event.client);
                if *is_first {
                    count("group_joined_next");
                }
                if seen.is_next.replace(*is_next).is_some_and(|was| was != *is_next) {
                    count("group_moved_between_protocols");
                }
            }
            InGroup::Released { .. } => count("group_gave_up_partitions"),
            InGroup::Fenced { .. } => {
                seen.joining.remove(&event.client);
                count("group_fenced");
            }
            InGroup::TurnedAway { code: ErrorCode::CoordinatorLoadInProgress } => count("group_loading"),
            InGroup::Commit { tag, number, .. } => {
                seen.committing.insert(*tag);
                if *number < 0 {
                    count("group_commit_alone");
                }
            }
            InGroup::Taken { tag, .. } => {
                seen.committing.remove(tag);
                seen.has_commits = true;
                count("group_commit_taken");
            }
            InGroup::Declined { tag, code, .. } => {
                seen.committing.remove(tag);
                let is_stale = matches!(code, ErrorCode::IllegalGeneration | ErrorCode::StaleMemberEpoch);
                count(if is_stale { "group_commit_stale_declined" } else { "group_commit_declined" });
            }
            InGroup::Offsets { committed, is_all, .. } => {
                if committed.iter().any(|told| told.tag.is_some()) {
                    count("group_offsets_told");
                } else if *is_all && std::mem::take(&mut seen.has_commits) {
                    count("group_expired");
                }
            }
            InGroup::Deleted { topic, .. } => {
                seen.has_commits = false;
                count(if topic.is_some() { "group_offsets_deleted" } else { "group_deleted" });
            }
            InGroup::Described { .. } => count("group_described"),
            InGroup::Settled { stands: Stands::Settled, .. } => count("group_settled"),
            InGroup::TurnedAway { .. }
            | InGroup::Alive { .. }
            | InGroup::Leaves { .. }
            | InGroup::Delete { .. }
            | InGroup::Settled { .. } => {}
        }
    }
    counters
}
