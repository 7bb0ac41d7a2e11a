//! A group as its coordinator sees it: offsets, and members by one protocol or the other.

use std::collections::BTreeSet;

use crate::group::offsets::Offsets;
use crate::group::protocol::PROTOCOL_TYPE;
use crate::group::{Context, classic, consumer};
use crate::time::Timestamp;
use crate::wire::list_groups::ListedGroup;
use crate::wire::{ErrorCode, Str};

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) offsets: Offsets,
    pub(super) members: Members,
}

/// Who is in a group, by its protocol. A group that only has offsets is a classic one.
#[derive(Debug)]
pub(super) enum Members {
    Classic(classic::Group),
    Consumer(consumer::Group),
}

impl Group {
    /// A group without members and offsets.
    pub(super) fn new(name: Str) -> Group {
        Group { offsets: Offsets::default(), members: Members::Classic(classic::Group::new(name)) }
    }

    /// How many members it has.
    pub(super) fn size(&self) -> usize {
        match &self.members {
            Members::Classic(group) => group.size(),
            Members::Consumer(group) => group.size(),
        }
    }

    /// As ListGroups tells of it.
    pub(super) fn listed(&self, name: &Str) -> ListedGroup {
        let (protocol_type, group_type) = match &self.members {
            Members::Classic(group) => (group.protocol_type().cloned().unwrap_or(Str::EMPTY), CLASSIC),
            Members::Consumer(_) => (PROTOCOL_TYPE, CONSUMER),
        };
        ListedGroup {
            group_id: name.clone(),
            protocol_type,
            group_state: Str::from_static(self.members.state()),
            group_type: Str::from_static(group_type),
        }
    }
}

/// The names of the types of groups.
pub(super) const CLASSIC: &str = "classic";
pub(super) const CONSUMER: &str = "consumer";

/// What of a group's offsets may expire.
#[derive(Debug)]
pub(super) struct Expiry<'a> {
    /// When the group became empty.
    pub(super) empty_since: Option<Timestamp>,
    /// What its members read.
    pub(super) subscribed: Subscribed<'a>,
}

/// What is known of the topics that a group's members read.
#[derive(Debug)]
pub(super) enum Subscribed<'a> {
    /// There are no members.
    ToNothing,
    /// These.
    To(&'a BTreeSet<Str>),
    /// Those that this group knows.
    AsIn(&'a consumer::Group),
    /// They are consumers, but what they said cannot be read, or not yet: it may be any.
    Unknown,
}

impl Subscribed<'_> {
    /// Whether members may read a topic.
    pub(super) fn may_be_to(&self, topic: &str) -> bool {
        match self {
            Subscribed::ToNothing => false,
            Subscribed::To(topics) => topics.contains(topic),
            Subscribed::AsIn(group) => group.is_subscribed(topic),
            Subscribed::Unknown => true,
        }
    }
}

impl Members {
    /// What of the group's offsets may expire now, if anything.
    ///
    /// Nothing does while members are on their way into a generation, since what they read is not known for certain
    /// then (KAFKA-13636), nor before it is known what their expressions match.
    pub(super) fn expiry(&self) -> Option<Expiry<'_>> {
        match self {
            Members::Classic(group) => match (group.state(), group.protocol_type()) {
                (classic::State::Empty, _) => {
                    Some(Expiry { empty_since: group.empty_since(), subscribed: Subscribed::ToNothing })
                }
                (classic::State::Stable, Some(kind)) if *kind == PROTOCOL_TYPE => {
                    Some(Expiry { empty_since: None, subscribed: Subscribed::To(group.subscribed()?) })
                }
                _ => None,
            },
            Members::Consumer(group) => (group.knows_its_topics() && matches!(group.state(), "Empty" | "Stable"))
                .then(|| Expiry { empty_since: group.empty_since(), subscribed: Subscribed::AsIn(group) }),
        }
    }

    /// The topics that they read, whose offsets may not be deleted; no answer where nobody can know them: members of
    /// another protocol type.
    pub(super) fn subscribed(&self) -> Result<Subscribed<'_>, ErrorCode> {
        match self {
            Members::Consumer(group) if group.knows_its_topics() => Ok(Subscribed::AsIn(group)),
            Members::Consumer(_) => Ok(Subscribed::Unknown),
            Members::Classic(group) if group.state() == classic::State::Empty => Ok(Subscribed::ToNothing),
            Members::Classic(group) if group.protocol_type() == Some(&PROTOCOL_TYPE) => {
                Ok(group.subscribed().map_or(Subscribed::Unknown, Subscribed::To))
            }
            Members::Classic(_) => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Whether there are none, not even one on its way to join.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Members::Classic(group) => group.state() == classic::State::Empty,
            Members::Consumer(group) => group.size() == 0,
        }
    }

    /// Whether there are none, and none has been given an id to join with either.
    pub(super) fn is_deserted(&self) -> bool {
        match self {
            Members::Classic(group) => self.is_empty() && group.size() == 0,
            Members::Consumer(group) => group.size() == 0,
        }
    }

    /// Whether nothing is lost if they are forgotten: nobody is there, and the log has no record of a group.
    pub(super) fn is_forgettable(&self) -> bool {
        match self {
            Members::Classic(group) => self.is_deserted() && group.is_forgettable(),
            Members::Consumer(group) => self.is_deserted() && group.is_forgettable(),
        }
    }

    /// The state's name.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Members::Classic(group) => match group.state() {
                classic::State::Empty => "Empty",
                classic::State::PreparingRebalance => "PreparingRebalance",
                classic::State::CompletingRebalance => "CompletingRebalance",
                classic::State::Stable => "Stable",
                classic::State::Dead => "Dead",
            },
            Members::Consumer(group) => group.state(),
        }
    }

    /// Takes the group's records out of the log. Only of an empty group.
    pub(super) fn delete(&mut self, ctx: &mut Context<'_>) {
        assert!(self.is_empty(), "a group with members is not deleted");
        match self {
            Members::Classic(group) if !group.is_forgettable() => group.delete(ctx),
            Members::Consumer(group) if !group.is_forgettable() => group.delete(ctx),
            // The log has no record of it.
            _ => {}
        }
    }
}
