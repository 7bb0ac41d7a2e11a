//! Groups in the model: whatever happens, the offset of a group is what was acknowledged last, or what was sent since.

use super::*;
use crate::wire::find_coordinator::FindCoordinatorRequest;
use crate::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};

/// Some of them share a coordinator.
const GROUPS: [&str; 4] = ["g", "h", "i", "j"];
/// The topic that they commit offsets of, which nobody deletes.
const KEPT: &str = "kept";

/// What clients know of a group. The offsets that they commit rise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    sent: i64,
    /// Acknowledged, or told to somebody.
    known: i64,
}

impl World {
    /// Commits an offset of a group, or asks for it.
    pub(super) fn use_group(&mut self) {
        // Coordinators get on with being loaded, as they do wherever there is a clock.
        self.pass(1);
        self.work();
        let image = self.node.controller.image();
        if image.topic_named(KEPT).is_none() {
            let topic = CreatableTopic {
                name: KEPT.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..CreatableTopic::default()
            };
            let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
            self.ask(7, Request::Other(request.into()), Asked::Other);
        } else if image.topic_named("__consumer_offsets").is_none() {
            let request = FindCoordinatorRequest { key: GROUPS[0].into(), ..FindCoordinatorRequest::default() };
            self.ask(0, Request::Other(request.into()), Asked::Other);
        } else {
            let group = GROUPS[self.below(GROUPS.len())];
            match self.below(3) {
                0 => self.ask_offset(group),
                _ => self.commit_offset(group),
            }
        }
    }

    fn commit_offset(&mut self, group: &'static str) {
        let progress = self.groups.entry(group).or_default();
        progress.sent += 1;
        let offset = progress.sent;
        // Now and then a commit that fills much of the journal.
        let metadata = "m".repeat([10, 10, 10, 4000][self.below(4)]);
        let partition = OffsetCommitRequestPartition {
            committed_offset: offset,
            committed_metadata: Some(metadata.into()),
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic { name: KEPT.into(), partitions: vec![partition], ..Default::default() };
        let request =
            OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..OffsetCommitRequest::default() };
        self.ask(8, Request::Other(request.into()), Asked::Commit(group, offset));
    }

    fn ask_offset(&mut self, group: &'static str) {
        let known = self.groups.entry(group).or_default().known;
        let topic = OffsetFetchRequestTopics {
            name: KEPT.into(),
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        };
        let asked = OffsetFetchRequestGroup { group_id: group.into(), topics: Some(vec![topic]), ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![asked], ..OffsetFetchRequest::default() };
        self.ask(8, Request::Other(request.into()), Asked::Offset(group, known));
    }

    pub(super) fn committed(&mut self, group: &'static str, offset: i64, error: i16) {
        let progress = self.groups.get_mut(group).expect("something was sent");
        match error {
            0 => progress.known = progress.known.max(offset),
            error => self.check_group_refusal(error),
        }
    }

    /// A group's offset is told to somebody who asked when `known` had been acknowledged.
    pub(super) fn offset_told(&mut self, group: &'static str, known: i64, told: Result<i64, i16>) {
        let told = match told {
            Ok(told) => told.max(0),
            Err(error) => return self.check_group_refusal(error),
        };
        let progress = self.groups.get_mut(group).expect("it was asked about");
        let (seed, sent) = (self.seed, progress.sent);
        assert!((known..=sent).contains(&told), "seed {seed}: {group} is at {told}, not within {known}..={sent}");
        progress.known = progress.known.max(told);
    }

    fn check_group_refusal(&self, error: i16) {
        let is_passing = is(error, ErrorCode::CoordinatorLoadInProgress);
        let is_full = is(error, ErrorCode::CoordinatorNotAvailable) && (self.was_full || self.node.stopping);
        let is_ending = is(error, ErrorCode::NotCoordinator) && self.node.stopping;
        assert!(is_passing || is_full || is_ending, "seed {}: a group is told {error}", self.seed);
    }

    /// Where a power cut may take acknowledged commits, nothing is known after one.
    pub(super) fn forget_progress(&mut self) {
        self.groups.values_mut().for_each(|progress| progress.known = 0);
    }

    /// Every group is where it was left.
    pub(super) fn check_groups(&mut self) {
        for group in self.groups.keys().copied().collect::<Vec<_>>() {
            self.ask_offset(group);
            self.settle();
            assert!(!self.asked.values().any(|asked| matches!(asked, Asked::Offset(..))), "it is answered");
        }
    }
}
