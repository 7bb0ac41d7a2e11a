//! When a group's epoch rises.

use std::collections::BTreeMap;

use crate::group::Context;
use crate::group::record::{ConsumerGroupMetadataValue, Key, Value};
use crate::ids::TopicId;
use crate::wire::Str;

use super::Group;
use super::member::About;

impl Group {
    /// The next epoch begins, of the topics as they are now.
    pub(super) fn bump(&mut self, ctx: &mut Context<'_>) {
        let metadata_hash = self.hash_of_topics(ctx);
        self.bump_to(ctx, metadata_hash);
    }

    fn bump_to(&mut self, ctx: &mut Context<'_>, metadata_hash: i64) {
        let group = self.name.clone();
        if self.written.topics {
            // Its place is taken by the hash (KIP-1101).
            self.decide(ctx, Key::PartitionMetadata { group: group.clone() }, None);
        }
        // No group comes to the last epoch, or is behind its assignment, unless a record says so that no broker of ours
        // wrote. At the last one it stays, and is not assigned anew until it has been empty and is removed.
        let epoch = self.epoch.max(self.assignment_epoch).saturating_add(1);
        let value = ConsumerGroupMetadataValue { epoch, metadata_hash };
        self.decide(ctx, Key::ConsumerGroup { group }, Some(Value::ConsumerGroup(value)));
    }

    /// The next epoch begins if the topics subscribed to are not what they were.
    pub(super) fn refresh_metadata(&mut self, ctx: &mut Context<'_>) {
        if self.members.is_empty() {
            return;
        }
        let metadata_hash = self.hash_of_topics(ctx);
        if metadata_hash != self.metadata_hash {
            self.bump_to(ctx, metadata_hash);
        }
    }

    /// What the topics subscribed to are like: ids, names, numbers of partitions. 0 where there are none.
    pub(super) fn hash_of_topics(&self, ctx: &Context<'_>) -> i64 {
        let mut hash = Hash::new();
        let mut any = false;
        for name in self.subscribed() {
            if let Some((id, partitions)) = ctx.topics.by_name(name) {
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

    /// The assignor that most members ask for, the first by name of several; `None` where nobody asks.
    pub(super) fn preferred_assignor(&self) -> Option<&Str> {
        let mut counts: BTreeMap<&Str, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.about.assignor.as_ref()) {
            *counts.entry(assignor).or_default() += 1;
        }
        counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(assignor, _)| assignor)
    }
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
