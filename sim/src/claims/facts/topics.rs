//! Which topics there were, under which names, and when they were deleted.
//!
//! Names are given to one topic at a time, ids once. Requests that name a topic by its name mean whichever topic has it
//! when the broker gets to them, which a client cannot know once somebody may have deleted it. Of several brokers one that
//! is cut off still has the topic that the others have deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::TopicId;
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use crate::history::{ClientId, Event, What};
use crate::plan::Plan;

/// Of several brokers all have heard of what was decided within this from when everything has healed.
const HEARSAY: Duration = Duration::from_secs(15);

/// What clients know of topics.
#[derive(Debug, Default)]
pub(in crate::claims) struct Topics<'a> {
    events: &'a [Event],
    by_id: BTreeMap<TopicId, Known<'a>>,
    deletions: Vec<Deletion<'a>>,
    /// After this no broker serves what another one has deleted; `None` where that never comes.
    heard_of: Option<Instant>,
}

#[derive(Debug)]
struct Known<'a> {
    name: &'a str,
    /// The event that first named it.
    first: usize,
    /// The event by which it was deleted for sure.
    deleted: Option<usize>,
    /// Whether the auditor was served by it: it was never deleted then, since no id comes back.
    is_there_at_end: bool,
}

impl<'a> Known<'a> {
    fn new(name: &'a str, first: usize) -> Known<'a> {
        Known { name, first, deleted: None, is_there_at_end: false }
    }
}

/// A request to delete a topic.
#[derive(Debug)]
struct Deletion<'a> {
    name: &'a str,
    id: TopicId,
    asked: usize,
    /// When it was answered by a connection that never broke meanwhile. Otherwise bytes of it may still be on their
    /// way, and may be carried out at any later time.
    settled: Option<usize>,
}

impl<'a> Topics<'a> {
    pub(super) fn of(plan: &Plan, events: &'a [Event]) -> Topics<'a> {
        let heard_of = match plan.nodes() {
            1 => Some(Instant::default()),
            _ => events.iter().find(|event| event.what == What::Healed).map(|healed| healed.at + HEARSAY),
        };
        let mut topics = Topics { events, heard_of, ..Topics::default() };
        for (index, event) in events.iter().enumerate() {
            match &event.what {
                What::TopicCreated { name, id, .. } => {
                    topics.by_id.entry(*id).or_insert_with(|| Known::new(name, index));
                }
                What::DeleteTopic { name, id } => {
                    let settled = settled(&events[index..], event).map(|after| index + after);
                    topics.deletions.push(Deletion { name, id: *id, asked: index, settled });
                }
                // Whoever the request found under the name: the one that had it when the client looked is gone.
                What::TopicDeleted { name, id } => {
                    let known = topics.by_id.entry(*id).or_insert_with(|| Known::new(name, index));
                    known.deleted.get_or_insert(index);
                }
                What::Fetched { partition, code: ErrorCode::None, .. }
                | What::Listed { partition, code: ErrorCode::None, .. }
                    if event.client == ClientId::AUDITOR =>
                {
                    if let Some(known) = topics.by_id.get_mut(&partition.topic) {
                        known.is_there_at_end = true;
                    }
                }
                _ => {}
            }
        }
        topics
    }

    /// The name that a topic has or had.
    pub(in crate::claims) fn name(&self, id: TopicId) -> Option<&'a str> {
        self.by_id.get(&id).map(|known| known.name)
    }

    /// The ids of all topics that somebody saw.
    pub(in crate::claims) fn ids(&self) -> impl Iterator<Item = TopicId> {
        self.by_id.keys().copied()
    }

    /// The event by which a topic was deleted for sure.
    pub(in crate::claims) fn deleted_at(&self, id: TopicId) -> Option<usize> {
        self.by_id.get(&id)?.deleted
    }

    /// Whether every broker has heard by then of what was decided before. One that is cut off has not; when all has
    /// healed nobody is.
    pub(in crate::claims) fn is_heard_of(&self, at: Instant) -> bool {
        self.heard_of.is_some_and(|heard_of| at > heard_of)
    }

    /// Whether a request by name that was sent in an event may have met a topic: it was not gone by then, or whoever got
    /// the request may not have heard of that.
    pub(in crate::claims) fn may_be_met(&self, id: TopicId, sent: usize) -> bool {
        self.deleted_at(id).is_none_or(|deleted| deleted > sent || !self.is_heard_of(self.events[sent].at))
    }

    /// Whether somebody asked for a deletion that may have been this topic's.
    pub(in crate::claims) fn may_be_deleted(&self, id: TopicId) -> bool {
        let Some(known) = self.by_id.get(&id) else { return true };
        let strikes = |deletion: &Deletion<'_>| {
            deletion.name == known.name
                && (deletion.id == id || deletion.settled.is_none_or(|settled| settled > known.first))
        };
        known.deleted.is_some() || self.deletions.iter().any(strikes)
    }

    /// Whether somebody asked for the deletion of a topic of this name.
    pub(in crate::claims) fn is_ever_deleted(&self, name: &str) -> bool {
        self.deletions.iter().any(|deletion| deletion.name == name)
    }

    /// Whether two ids are, or may be, of topics of one name.
    pub(in crate::claims) fn may_share_name(&self, one: TopicId, other: TopicId) -> bool {
        match (self.name(one), self.name(other)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }

    /// Whether a request that went by name and was over at `event` surely meant the topic that its client believed to
    /// have the name. That the topic is never deleted does not say so while a broker may not have heard that the one
    /// before it is.
    pub(in crate::claims) fn name_is_certain(&self, id: TopicId, event: usize) -> bool {
        let Some(known) = self.by_id.get(&id) else { return false };
        known.is_there_at_end && self.is_heard_of(self.events[event].at)
            || !self.deletions.iter().any(|deletion| deletion.name == known.name && deletion.asked < event)
    }
}

/// How many events after it a deletion is settled.
fn settled(events: &[Event], asked: &Event) -> Option<usize> {
    for (index, event) in events.iter().enumerate().filter(|(_, event)| event.client == asked.client) {
        match &event.what {
            What::Disconnected { unanswered } if *unanswered > 0 => return None,
            What::TopicDeleted { .. } | What::Finished { .. } if event.operation == asked.operation => {
                return Some(index);
            }
            _ => {}
        }
    }
    None
}
