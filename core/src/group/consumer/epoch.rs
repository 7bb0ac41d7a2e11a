//! When a group's epoch rises, and the assignment that is made for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::group::Context;
use crate::group::record::{ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue, Key, Value};
use crate::ids::TopicId;
use crate::wire::{ErrorCode, Str};

use super::Group;
use super::assign::{Assignor, Subscriber, Topic};
use super::member::{About, Partitions, target_value};
use super::refusal::Refusal;
use super::regex::RECORD_OVERHEAD_BYTES;

/// Up to so many members and partitions together a group is assigned anew whenever that is due.
const WORK_AT_ONCE: u32 = 2_000;

/// How long a larger group waits from one assignment to the next, for each member and partition. One takes about a
/// microsecond, so a group takes a hundredth of the coordinator's time at most: with 10,000 partitions a second passes.
const PAUSE_PER_WORK: Duration = Duration::from_micros(100);

impl Group {
    /// The next epoch begins, of the topics as they are now.
    pub(super) fn bump(&mut self, ctx: &mut Context<'_>) {
        let group = self.name.clone();
        if self.written.topics {
            // Its place is taken by the hash (KIP-1101).
            self.decide(ctx, Key::PartitionMetadata { group: group.clone() }, None);
        }
        // No group comes to the last epoch, or is behind its assignment, unless a record says so that no broker of ours
        // wrote. At the last one it stays, and is not assigned anew until it has been empty and is removed.
        let epoch = self.epoch.max(self.assignment_epoch).saturating_add(1);
        let value = ConsumerGroupMetadataValue { epoch, metadata_hash: self.hash_of_topics(ctx) };
        self.decide(ctx, Key::ConsumerGroup { group }, Some(Value::ConsumerGroup(value)));
    }

    /// The next epoch begins if the topics subscribed to are not what they were.
    pub(super) fn refresh_metadata(&mut self, ctx: &mut Context<'_>) {
        if !self.members.is_empty() && self.hash_of_topics(ctx) != self.metadata_hash {
            self.bump(ctx);
        }
    }

    /// What the topics subscribed to are like: ids, names, numbers of partitions. 0 where there are none.
    pub(super) fn hash_of_topics(&self, ctx: &Context<'_>) -> i64 {
        let mut hash = Hash::new();
        let mut any = false;
        for name in self.subscribed() {
            if let Some((id, partitions)) = ctx.topics.by_name(&name) {
                any = true;
                hash.add(&id.0);
                hash.add(&partitions.to_be_bytes());
                hash.add(name.as_bytes());
                hash.add(&[0]);
            }
        }
        if any { hash.0.cast_signed() } else { 0 }
    }

    /// Whether a member subscribes to a topic, by name or by expression.
    pub(super) fn subscribes(&self, ctx: &Context<'_>, about: &About, topic: TopicId) -> bool {
        let Some((name, _)) = ctx.topics.by_id(topic) else { return false };
        let resolved = about.regex.as_ref().and_then(|regex| self.resolved.get(regex));
        about.topics.binary_search(name).is_ok()
            || resolved.is_some_and(|resolved| resolved.topics.binary_search(name).is_ok())
    }

    /// Makes the assignment for the group's epoch if there is none yet: decides what each member is to own.
    ///
    /// That looks at every member and partition. So that a large group whose members come one after the other does not
    /// keep the coordinator busy, its next assignment waits for the first heartbeat after a while ([`PAUSE_PER_WORK`]).
    ///
    /// # Errors
    /// Where a member would be to own more than a record holds. The assignment before stays in force.
    pub(super) fn assign(&mut self, ctx: &mut Context<'_>) -> Result<(), Refusal> {
        if self.epoch <= self.assignment_epoch || self.next_assignment.is_some_and(|at| ctx.now.instant < at) {
            return Ok(());
        }
        let changed = self.changed_targets(ctx);
        let largest = changed.iter().map(|(_, target)| bytes_of(target)).max().unwrap_or(0);
        if largest > ctx.settings.record_bytes_max {
            let message = format!("Failed to compute a new target assignment for epoch {}", self.epoch);
            return Err(Refusal::new(ErrorCode::UnknownServerError, message));
        }
        let group = self.name.clone();
        let gone: Vec<Str> = self.targets.keys().filter(|id| !self.members.contains_key(*id)).cloned().collect();
        for member in gone {
            self.decide(ctx, Key::TargetAssignmentMember { group: group.clone(), member }, None);
        }
        for (member, target) in changed {
            let key = Key::TargetAssignmentMember { group: group.clone(), member };
            self.decide(ctx, key, Some(Value::TargetAssignmentMember(target_value(&target))));
        }
        let partitions: usize = self.targets.values().flat_map(BTreeMap::values).map(Vec::len).sum();
        let work = u32::try_from(self.members.len() + partitions).unwrap_or(u32::MAX);
        self.next_assignment = (work > WORK_AT_ONCE).then(|| ctx.now.instant + PAUSE_PER_WORK * work);
        let value = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: self.epoch,
            assignment_timestamp: ctx.now.wall.0,
        };
        self.decide(ctx, Key::TargetAssignment { group }, Some(Value::TargetAssignment(value)));
        Ok(())
    }

    fn changed_targets(&self, ctx: &Context<'_>) -> Vec<(Str, Partitions)> {
        let names = self.subscribed();
        let mut topics: Vec<(Topic, &Str)> = Vec::new();
        for name in &names {
            if let Some((id, partitions)) = ctx.topics.by_name(name) {
                topics.push((Topic { id, partitions }, name));
            }
        }
        topics.sort_unstable_by_key(|(topic, _)| topic.id);
        let places: BTreeMap<&Str, usize> = topics.iter().enumerate().map(|(at, (_, name))| (*name, at)).collect();

        let mut members: Vec<Subscriber<'_>> = Vec::with_capacity(self.members.len());
        let mut last: Option<&About> = None;
        for (id, member) in &self.members {
            let about = &member.about;
            // Most groups have one subscription: it is put into places once.
            let same = last.is_some_and(|last| last.topics == about.topics && last.regex == about.regex);
            let topics = match members.last() {
                Some(last) if same => last.topics.clone(),
                _ => self.places_of(about, &places),
            };
            let before = self.targets.get(id);
            members.push(Subscriber { id, instance_id: about.instance_id.as_ref(), topics, before });
            last = Some(about);
        }

        let topics: Vec<Topic> = topics.into_iter().map(|(topic, _)| topic).collect();
        let assignor = self.preferred_assignor().and_then(|name| Assignor::by_name(name));
        let default = || ctx.settings.consumer_assignors.first().and_then(|name| Assignor::by_name(name));
        let targets = assignor.or_else(default).unwrap_or(Assignor::Uniform).assign(&topics, &members);
        let ids = self.members.keys();
        ids.zip(targets)
            .filter(|(id, target)| self.targets.get(*id) != Some(target))
            .map(|(id, target)| (id.clone(), target))
            .collect()
    }

    fn places_of(&self, about: &About, places: &BTreeMap<&Str, usize>) -> Vec<usize> {
        let resolved = about.regex.as_ref().and_then(|regex| self.resolved.get(regex));
        let by_expression = resolved.into_iter().flat_map(|resolved| &resolved.topics);
        let mut topics: Vec<usize> =
            about.topics.iter().chain(by_expression).filter_map(|name| places.get(name).copied()).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// The assignor that most members ask for, the first by name of several; `None` where nobody asks.
    pub(super) fn preferred_assignor(&self) -> Option<&Str> {
        let mut counts: BTreeMap<&Str, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.about.assignor.as_ref()) {
            *counts.entry(assignor).or_default() += 1;
        }
        counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(assignor, _)| assignor)
    }
}

/// What the record of what a member owns may take once it has this target, at most. While it gives up what it had
/// before it holds both, hence twice.
fn bytes_of(target: &Partitions) -> usize {
    // A partition takes four bytes and four for its epoch; a topic takes its id, two lengths and a tag.
    let topics: usize = target.values().map(|partitions| 16 + 16 + 8 * partitions.len()).sum();
    2 * topics + RECORD_OVERHEAD_BYTES
}

/// FNV-1a of 64 bits: the same on every machine, and good enough to see a change.
struct Hash(u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
