//! How a group changes: by its records, those of a load and those just decided alike.
//!
//! A load may meet any rest that compaction leaves, also one that is compacted while it is read: tombstones of what is
//! not there, a partition that two members seem to have since the record in which one gave it up is gone. The last
//! record of each key decides, and the last owner of a partition; nothing here fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::group::Context;
use crate::group::record::{Key, Record, Value};
use crate::ids::TopicId;
use crate::time::Timestamp;
use crate::wire::Str;

use super::Group;
use super::member::{About, Current, Member, target_of};
use super::regex::Resolved;

impl Group {
    /// Takes a record of this group: of a load, or one that was just decided.
    pub fn replay(&mut self, record: &Record, written: Timestamp) {
        match (&record.key, &record.value) {
            (Key::ConsumerGroup { .. }, Some(Value::ConsumerGroup(value))) => {
                self.epoch = value.epoch.max(0);
                self.metadata_hash = value.metadata_hash;
                self.written.group = true;
            }
            (Key::ConsumerGroup { .. }, _) => {
                self.epoch = 0;
                self.metadata_hash = 0;
                self.written.group = false;
            }
            (Key::PartitionMetadata { .. }, value) => self.written.topics = value.is_some(),
            (Key::Member { member, .. }, Some(Value::Member(value))) => {
                self.set_about(member, About::from_value(value));
            }
            (Key::Member { member, .. }, _) => self.remove_member(member),
            (Key::TargetAssignment { .. }, Some(Value::TargetAssignment(value))) => {
                self.assignment_epoch = value.assignment_epoch;
                self.written.assignment = true;
            }
            (Key::TargetAssignment { .. }, _) => {
                self.assignment_epoch = 0;
                self.written.assignment = false;
            }
            (Key::TargetAssignmentMember { member, .. }, Some(Value::TargetAssignmentMember(value))) => {
                let member = self.own_name_of(member);
                self.targets.insert(member, Arc::new(target_of(value)));
            }
            (Key::TargetAssignmentMember { member, .. }, _) => {
                self.targets.remove(member);
            }
            (Key::CurrentAssignment { member, .. }, Some(Value::CurrentAssignment(value))) => {
                self.set_current(member, Current::from_value(value));
            }
            (Key::CurrentAssignment { member, .. }, _) => {
                if self.members.contains_key(member) {
                    self.set_current(member, Current::default());
                }
            }
            (Key::Regex { regex, .. }, Some(Value::Regex(value))) => {
                self.set_resolved(regex, Some(Resolved::from_value(value)));
            }
            (Key::Regex { regex, .. }, _) => {
                self.set_resolved(regex, None);
            }
            (Key::OffsetCommit { .. } | Key::Group { .. } | Key::Unknown(_), _) => {}
        }
        if self.members.is_empty() {
            self.empty_since = Some(written);
        }
    }

    /// Writes the tombstones of all records that the group has, and is as new.
    pub(super) fn bury(&mut self, ctx: &mut Context<'_>) {
        let group = self.name.clone();
        let members: Vec<Str> = self.members.keys().cloned().collect();
        for member in members.iter().cloned() {
            self.decide(ctx, Key::CurrentAssignment { group: group.clone(), member }, None);
        }
        let targets: Vec<Str> = self.targets.keys().cloned().collect();
        for member in targets {
            self.decide(ctx, Key::TargetAssignmentMember { group: group.clone(), member }, None);
        }
        if self.written.assignment {
            self.decide(ctx, Key::TargetAssignment { group: group.clone() }, None);
        }
        for member in members {
            self.decide(ctx, Key::Member { group: group.clone(), member: member.clone() }, None);
            self.forget_timers(ctx, &member);
        }
        let expressions: Vec<Str> = self.resolved.keys().cloned().collect();
        for regex in expressions {
            self.decide(ctx, Key::Regex { group: group.clone(), regex }, None);
        }
        if self.written.topics {
            self.decide(ctx, Key::PartitionMetadata { group: group.clone() }, None);
        }
        if self.written.group {
            self.decide(ctx, Key::ConsumerGroup { group }, None);
        }
    }

    /// The member's id as the group keeps it, so that not every map holds a copy of its own.
    fn own_name_of(&self, member: &Str) -> Str {
        self.members.get_key_value(member).map_or_else(|| member.detached(), |(own, _)| own.clone())
    }

    fn set_about(&mut self, member: &Str, about: About) {
        let id = self.own_name_of(member);
        let (before, after) = (self.expression_of(&id), about.regex.clone());
        self.count_about(&id, false);
        self.members.entry(id.clone()).or_default().about = about;
        self.count_about(&id, true);
        if before != after {
            self.count_expression(before.as_ref(), false);
            self.count_expression(after.as_ref(), true);
        }
    }

    fn expression_of(&self, member: &Str) -> Option<Str> {
        self.members.get(member).and_then(|member| member.about.regex.clone())
    }

    /// One more or one less subscribes to an expression, and so to what that matches.
    fn count_expression(&mut self, expression: Option<&Str>, present: bool) {
        let Some(expression) = expression else { return };
        let was_there = self.expressions.contains_key(expression);
        count(&mut self.expressions, expression, present);
        if was_there != self.expressions.contains_key(expression)
            && let Some(resolved) = self.resolved.get(expression)
        {
            resolved.topics.iter().for_each(|topic| count(&mut self.topics, topic, present));
        }
    }

    /// What an expression means is so from now on, or not known any more.
    fn set_resolved(&mut self, expression: &Str, resolved: Option<Resolved>) {
        let before = match resolved {
            Some(resolved) => self.resolved.insert(expression.detached(), resolved),
            None => self.resolved.remove(expression),
        };
        if self.expressions.contains_key(expression) {
            let before = before.map_or(Vec::new(), |before| before.topics);
            let after = self.resolved.get(expression).map_or(&[][..], |after| &after.topics);
            // Both are in order. Only what differs is counted, which mostly is little.
            let mut before = before.iter().peekable();
            for topic in after {
                while let Some(gone) = before.next_if(|before| *before < topic) {
                    count(&mut self.topics, gone, false);
                }
                if before.next_if_eq(&topic).is_none() {
                    count(&mut self.topics, topic, true);
                }
            }
            before.for_each(|gone| count(&mut self.topics, gone, false));
        }
    }

    fn remove_member(&mut self, member: &Str) {
        if self.members.contains_key(member) {
            self.set_current(member, Current::default());
            self.count_about(member, false);
            self.count_expression(self.expression_of(member).as_ref(), false);
            self.members.remove(member);
        }
    }

    /// Keeps the counts that follow from what members say about themselves, but those that follow from expressions.
    fn count_about(&mut self, id: &Str, present: bool) {
        let Some(Member { about, .. }) = self.members.get(id) else { return };
        for topic in &about.topics {
            count(&mut self.topics, topic, present);
        }
        if let Some(classic) = &about.classic {
            if present {
                self.classic_members += 1
            } else {
                self.classic_members -= 1
            }
            let names: BTreeSet<&Str> = classic.protocols.iter().map(|(name, _)| name).collect();
            for name in names {
                count(&mut self.supported, name, present);
            }
        }
        if let Some(instance) = &about.instance_id {
            if present {
                self.instances.insert(instance.clone(), id.clone());
            } else if self.instances.get(instance) == Some(id) {
                self.instances.remove(instance);
            }
        }
    }

    fn set_current(&mut self, member: &Str, current: Current) {
        let id = self.own_name_of(member);
        let of_member = self.members.entry(id.clone()).or_default();
        let before = std::mem::replace(&mut of_member.current, current);
        for (topic, partition) in before.held() {
            self.release(topic, partition, &id);
        }
        for (topic, partition) in self.members[&id].current.held() {
            self.owners.entry(topic).or_default().insert(partition, id.clone());
        }
    }

    fn release(&mut self, topic: TopicId, partition: i32, member: &Str) {
        let Some(of_topic) = self.owners.get_mut(&topic) else { return };
        if of_topic.get(&partition) == Some(member) {
            of_topic.remove(&partition);
        }
        if of_topic.is_empty() {
            self.owners.remove(&topic);
        }
    }

    /// Whether another member has not given a partition up.
    pub(super) fn is_taken(&self, topic: TopicId, partition: i32, from: &Str) -> bool {
        self.owners.get(&topic).and_then(|of_topic| of_topic.get(&partition)).is_some_and(|owner| owner != from)
    }
}

/// One more or one less that subscribes to something.
fn count(counts: &mut BTreeMap<Str, usize>, of: &Str, present: bool) {
    if present {
        *counts.entry(of.clone()).or_default() += 1;
    } else if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}
