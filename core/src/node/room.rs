//! Room in the journal for what changes metadata. Produce and DeleteRecords ask for theirs themselves and are refused
//! without; a change of metadata waits, since it is rare and its clients do not send it again.
//!
//! A record that is appended without room would wait in memory for a checkpoint to make some, and the checkpoint, which
//! is complete when the journal has all that it contains, for the record: nothing would ever move again. Therefore
//! nothing is appended without. What only adds leaves the reserve to what makes room: to deletions.

use super::Node;
use crate::boundary::{Outbox, ReplyTo};
use crate::controller::{ENTRY_BYTES_MAX, GROUP_OFFSETS, PARTITIONS_PER_REQUEST_MAX};
use crate::journal::Class;
use crate::time::Now;
use crate::wire::{Request, Str};

/// What one record of metadata takes at most, in bytes, beside names and values: a partition with one replica.
const RECORD_BYTES: u64 = 64;
/// What an entry of the metadata log takes at most, in bytes, beside its records: the frame that the quorum gives it, a
/// vote that goes along with it, and that it was applied.
const QUORUM_BYTES: u64 = 320;
/// What the state of a partition takes that is held by some brokers.
const PLACED_BYTES: u64 = 256;
/// What a change of a quorum takes with some hundred members.
const MEMBERSHIP_BYTES: u64 = 8 << 10;
/// What the settings that a request does not name and so resets take at most, in bytes: some fifty names.
const RESET_BYTES: u64 = 8 << 10;

impl Node {
    /// Lets a request wait that may need more room than the journal has, or that nobody can decide yet; gives it back where it may go on.
    pub(super) fn wait_for_room(&mut self, to: ReplyTo, request: Request) -> Option<Request> {
        // Of a cluster, it waits for whoever leads: see `metadata::asked`.
        let waits = !self.metadata.is_clustered()
            && self.metadata_bytes(&request).is_some()
            && !(self.delayed.is_empty() && self.may_propose() && self.has_room_for_metadata(&request));
        if !waits {
            return Some(request);
        }
        self.delayed.push_back((to, request));
        None
    }

    /// Takes up the requests that waited.
    pub(super) fn resume_delayed(&mut self, now: Now, out: &mut Outbox) {
        while let Some((_, request)) = self.delayed.front() {
            if !self.has_room_for_metadata(request) {
                if self.no_space.is_none() {
                    self.checkpoint_soon();
                }
                return;
            }
            if !self.may_propose() {
                return;
            }
            let (to, request) = self.delayed.pop_front().expect("one was at the front");
            self.metadata_request(now, to, request, out);
        }
    }

    /// Whether requests wait for room that there is not.
    pub(super) fn waits_for_room(&self) -> bool {
        self.stalled.front().is_some_and(|(_, produce)| !self.has_room(produce))
            || self.delayed.front().is_some_and(|(_, request)| !self.has_room_for_metadata(request))
            || self.groups_wait_for_room()
            || (self.has_incoming() && self.followers_wait_for_room())
    }

    pub(super) fn has_room_for_metadata(&self, request: &Request) -> bool {
        if let Request::Metadata(request) = request {
            let names = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
            return self.has_room_to_create(&names.collect::<Vec<Str>>());
        }
        self.metadata_bytes(request).is_none_or(|(bytes, class)| self.has_room_for_entry(bytes, class))
    }

    fn has_room_for_entry(&self, bytes: u64, class: Class) -> bool {
        // An entry is never longer, whatever is asked for.
        let bytes = QUORUM_BYTES + bytes.min(ENTRY_BYTES_MAX as u64);
        self.journal.has_room(bytes.min(self.journal.max_record_bytes()), class)
    }

    /// Whether topics of these names may be created, with the broker's defaults.
    pub(super) fn has_room_to_create(&self, names: &[Str]) -> bool {
        let config = self.broker_config();
        let bytes = names.iter().map(|name| match **name == *GROUP_OFFSETS {
            true => RESET_BYTES + RECORD_BYTES * partitions(config.groups.offsets_topic_num_partitions),
            false => 2 * RECORD_BYTES + 255 + RECORD_BYTES * partitions(config.num_partitions),
        });
        self.has_room_for_entry(bytes.sum(), Class::Ordinary)
    }

    /// How much the records may come to that a request leads to, in bytes, and whether they may use the reserve; `None`
    /// where it leads to none.
    fn metadata_bytes(&self, request: &Request) -> Option<(u64, Class)> {
        let text = |text: &str| RECORD_BYTES + text.len() as u64;
        let value = |value: &Option<crate::wire::Str>| value.as_ref().map_or(0, |value| value.len() as u64);
        Some(match request {
            Request::CreateTopics(request) => {
                let default = self.broker_config().num_partitions;
                let topics = request.topics.iter().map(|topic| {
                    let count = if topic.num_partitions < 0 { default } else { topic.num_partitions };
                    let assigned = topic.assignments.len() as u64;
                    let configs = topic.configs.iter().map(|config| text(&config.name) + value(&config.value));
                    text(&topic.name) + RECORD_BYTES * partitions(count).max(assigned) + configs.sum::<u64>()
                });
                (topics.sum(), Class::Ordinary)
            }
            Request::CreatePartitions(request) => {
                let topics = request.topics.iter().map(|topic| RECORD_BYTES * partitions(topic.count));
                (topics.sum(), Class::Ordinary)
            }
            Request::AlterConfigs(request) => {
                let resources = request.resources.iter().map(|resource| {
                    let configs = resource.configs.iter().map(|config| text(&config.name) + value(&config.value));
                    RESET_BYTES + configs.sum::<u64>()
                });
                (resources.sum(), Class::Ordinary)
            }
            Request::IncrementalAlterConfigs(request) => {
                let resources = request.resources.iter().map(|resource| {
                    let configs = resource.configs.iter().map(|config| text(&config.name) + value(&config.value));
                    // What is appended to a list stands behind what is there.
                    RESET_BYTES + configs.sum::<u64>()
                });
                (resources.sum(), Class::Ordinary)
            }
            Request::InitProducerId(_) => (RECORD_BYTES, Class::Ordinary),
            Request::AlterPartitionReassignments(request) => {
                // What is named behind these is not looked at.
                let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
                let replicas = partitions
                    .take(PARTITIONS_PER_REQUEST_MAX)
                    .map(|partition| partition.replicas.as_ref().map_or(0, Vec::len) as u64);
                (replicas.map(|replicas| PLACED_BYTES + 12 * replicas).sum(), Class::Ordinary)
            }
            Request::ElectLeaders(request) => {
                let named = request.topic_partitions.as_ref();
                let named = named.map(|topics| topics.iter().map(|topic| topic.partitions.len()).sum());
                let partitions = named.unwrap_or_else(|| self.controller.image().partition_count());
                (PLACED_BYTES * partitions as u64, Class::Critical)
            }
            Request::UnregisterBroker(_) => (RECORD_BYTES, Class::Critical),
            Request::AddRaftVoter(_) | Request::RemoveRaftVoter(_) => (MEMBERSHIP_BYTES, Class::Critical),
            Request::DeleteTopics(request) => {
                let topics = request.topics.len() + request.topic_names.len();
                (RECORD_BYTES * topics as u64, Class::Critical)
            }
            _ => return None,
        })
    }
}

/// The number of partitions that a request names; one below 0 is refused later.
fn partitions(count: i32) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
