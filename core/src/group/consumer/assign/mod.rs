//! The assignors of the coordinator: which member is to own which partitions. Pure functions of who subscribes to what,
//! and of what the assignment before said.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use crate::ids::TopicId;
use crate::wire::Str;

use super::member::Partitions;

/// A topic that somebody subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
}

/// A member, as an assignor sees it.
#[derive(Debug)]
pub(crate) struct Subscriber<'a> {
    pub(crate) id: &'a Str,
    pub(crate) instance_id: Option<&'a Str>,
    /// The topics that it subscribes to, as rising indexes into the topics.
    pub(crate) topics: Vec<usize>,
    /// What it was to own by the assignment before.
    pub(crate) before: Option<&'a Partitions>,
}

/// An assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Members have equally many partitions, and keep what they have.
    Uniform,
    /// Each topic in ranges, so that partitions of one index of several topics meet in one member.
    Range,
}

impl Assignor {
    /// The assignor with this name.
    pub(crate) fn by_name(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    /// What each member is to own. `topics` rise by id, `members` by theirs; the answer is in the order of `members`.
    pub(crate) fn assign(self, topics: &[Topic], members: &[Subscriber<'_>]) -> Vec<Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(topics, members),
            Assignor::Range => range::assign(topics, members),
        }
    }
}
